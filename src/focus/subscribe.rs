//! Subscriptions: SUBSCRIBE and NOTIFY (RFC 6665); what they tell is `notify`'s business.

use cusax::conference;
use cusax_sip::digest::Denied;
use cusax_sip::endpoint::{DialogId, SendError, SubscriptionId};
use cusax_sip::flow::Flow;
use cusax_sip::header::{Headers, MediaType, Name, SubscriptionState};
use cusax_sip::message::{Request, Response, Status};
use cusax_sip::uri::{SipUri, Uri};

use super::address::address_of;
use super::door::overloaded;
use super::notify::{BATCH, Calls, MAX_PER_PERSON, MAX_WATCHERS, PACE, Told, Watcher, may_watch};
use super::status::Farewell;
use super::{Focus, Wires};
use crate::clock::Now;
use crate::directory::Directory;
use crate::id::RoomName;
use crate::room::{Intake, Refusal, Rooms};

impl Focus {
    #[expect(clippy::too_many_arguments, reason = "an event, and what it is judged by")]
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        id: SubscriptionId,
        dialog: DialogId,
        flow: Flow,
        request: &Request,
        rooms: &Rooms,
        directory: &Directory,
        out: &mut Wires<'_>,
    ) {
        match self.may_subscribe(now, dialog, flow, request, rooms, directory) {
            Ok(watcher) => {
                self.watchers.add(id, watcher);
                self.confirm(now, id, request, rooms, out);
            }
            Err(refusal) => {
                self.endpoint.answer_subscribe(now.instant, id, *refusal, out.sip);
            }
        }
    }

    /// The checks of an INVITE, less capacity and media. Within the dialog of a call, or by naming it
    /// (RFC 4538), its caller is known already.
    pub(super) fn may_subscribe(
        &mut self,
        now: Now,
        dialog: DialogId,
        flow: Flow,
        request: &Request,
        rooms: &Rooms,
        directory: &Directory,
    ) -> Result<Watcher, Box<Response>> {
        if rooms.policy().intake == Intake::Closed || self.watchers.len() >= MAX_WATCHERS {
            return Err(overloaded("No More Subscriptions"));
        }
        let leg = self.leg_in(Some(dialog)).or_else(|| self.leg_named(request));
        let (who, name, entity) = match leg {
            Some(leg) => (leg.caller.who.clone(), leg.room.clone(), address_of(&leg.contact.uri)),
            None => {
                let nobody = self.new_leg();
                let caller =
                    self.callers.identify(now.instant, flow, request, directory, nobody)?;
                let name = self.room_of(&request.uri, flow)?;
                let entity = self.entity(request, &name);
                (caller.who, name, entity)
            }
        };
        let Some(room) = rooms.get(&name).filter(|room| !room.has_ended()) else {
            return Err(self.refuse(now, &name, Refusal::NoSuchRoom, Denied::Missing));
        };
        let knows = self.knows_password(now, flow, room, request)?;
        if let Err(refusal) = may_watch(room, &who, knows.is_ok()) {
            let denied = knows.err().unwrap_or(Denied::Missing);
            return Err(self.refuse(now, &name, refusal, denied));
        }
        acceptable(request)?;
        if self.watchers.of(&name, |other| *other == who).len() >= MAX_PER_PERSON {
            let refusal = Response::new(Status::FORBIDDEN).with_reason("Too Many Subscriptions");
            return Err(Box::new(refusal));
        }
        let contact = self.contact(&name, flow, request);
        Ok(Watcher::new(now.instant, name, who, entity, contact, knows.is_ok()))
    }

    /// A refresh or the end of a subscription, checked like a new one: much may have changed.
    pub(super) fn refresh(
        &mut self,
        now: Now,
        id: SubscriptionId,
        request: &Request,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) {
        let Some(watcher) = self.watchers.get(id) else {
            return self.refresh_referral(now, id, rooms, out);
        };
        let ends = request.headers.expires() == Ok(Some(0));
        let allowed = match rooms.get(&watcher.room) {
            Some(_) if ends => Ok(()),
            Some(room) => may_watch(room, &watcher.who, watcher.knows_password)
                .map_err(|_| Box::new(Response::new(Status::FORBIDDEN)))
                .and_then(|()| acceptable(request)),
            None => Err(Box::new(Response::new(Status::NOT_FOUND))),
        };
        match allowed {
            Ok(()) => self.confirm(now, id, request, rooms, out),
            // The refusal leaves the subscription as it was (RFC 6665 §4.2.1.1): it runs out.
            Err(refusal) => {
                self.endpoint.answer_subscribe(now.instant, id, *refusal, out.sip);
            }
        }
    }

    /// Accepts a SUBSCRIBE and reports at once (RFC 6665 §4.2.1.2); after one that ends the
    /// subscription, or that wanted a single report, for the last time.
    pub(super) fn confirm(
        &mut self,
        now: Now,
        id: SubscriptionId,
        request: &Request,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) {
        let Some(watcher) = self.watchers.get(id) else { return };
        let ok = Response::new(Status::OK)
            .with(Name::EXPIRES, EXPIRES)
            .with(Name::ALLOW_EVENTS, conference::PACKAGE)
            .with_contact(&watcher.contact);
        self.endpoint.answer_subscribe(now.instant, id, ok, out.sip);
        self.watchers.not_due(id);
        self.tell(now, id, true, rooms, out);
        if request.headers.expires() == Ok(Some(0)) {
            self.watchers.remove(id);
        }
    }

    /// Sends what is due, [`BATCH`] documents at most: the rest stays due, and whoever mutes
    /// somebody meanwhile does not wait for it.
    pub(super) fn notify(&mut self, now: Now, rooms: &Rooms, out: &mut Wires<'_>) {
        for _ in 0..BATCH {
            let Some(id) = self.watchers.pop_due(now.instant) else { return };
            self.tell(now, id, false, rooms, out);
        }
    }

    /// Tells a watcher what is new of what they may know, if anything is; `afresh` if they are to forget what
    /// they were told before.
    fn tell(
        &mut self,
        now: Now,
        id: SubscriptionId,
        afresh: bool,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) {
        let Some(watcher) = self.watchers.get(id) else { return };
        let Some(room) = rooms.get(&watcher.room) else { return };
        if may_watch(room, &watcher.who, watcher.knows_password).is_err() {
            let farewell =
                Farewell { reasons: vec![], subscription: "rejected", retry_after: None };
            return self.end_watching(now, vec![id], &farewell, out);
        }
        let policy = rooms.policy();
        let calls = Calls { legs: &self.legs, dials: &self.dials };
        let full = self.scribe.document(&self.config, policy, room, calls, watcher);
        let told = Told::of(&full);
        let news = if afresh { Some(full) } else { watcher.news(full) };
        let Some(document) = news else { return };
        let body = document.to_xml(watcher.version() + 1).into_bytes();
        let headers = watcher.headers();
        match self.endpoint.notify(now.instant, id, headers, body, out.sip) {
            Ok(()) => self.watchers.sent(now.instant, id, told),
            Err(SendError::Pending) => self.watchers.wait(id),
            Err(SendError::Full) => self.watchers.schedule(id, now.instant + PACE),
            Err(SendError::Unknown | SendError::Malformed) => {
                self.watchers.remove(id);
            }
        }
    }

    pub(super) fn end_watching(
        &mut self,
        now: Now,
        ids: Vec<SubscriptionId>,
        farewell: &Farewell,
        out: &mut Wires<'_>,
    ) {
        for id in ids {
            let Some(watcher) = self.watchers.remove(id) else { continue };
            let mut headers = Headers::new();
            headers.push(Name::CONTACT, &watcher.contact);
            let mut state = SubscriptionState::terminated(farewell.subscription);
            if let Some(seconds) = farewell.retry_after {
                state = state.with_param("retry-after", &seconds.to_string());
            }
            self.endpoint.terminate(now.instant, id, state, headers, vec![], out.sip);
        }
    }

    /// The name by which a subscriber knows the conference: what they subscribed to, before a proxy
    /// rewrote it. Linphone and Jitsi drop documents with any other.
    pub(super) fn entity(&self, request: &Request, room: &RoomName) -> String {
        let to = request.headers.to().ok().map(|to| to.uri);
        let names_room = |uri: &Uri| {
            let user = uri.as_sip().and_then(SipUri::user);
            user.and_then(|user| RoomName::from_sip_user(&user).ok()).as_ref() == Some(room)
        };
        address_of(&to.filter(names_room).unwrap_or_else(|| request.uri.clone()))
    }
}

/// Whether we have what a SUBSCRIBE wants: the package, its format, a time that makes sense
/// (RFC 6665 §4.2.1.1).
pub(super) fn acceptable(request: &Request) -> Result<(), Box<Response>> {
    let refuse =
        |status, name, value: String| Err(Box::new(Response::new(status).with(name, value)));
    let event = request.headers.event().ok().flatten();
    if !event.is_some_and(|event| event.package.eq_ignore_ascii_case(conference::PACKAGE)) {
        let package = conference::PACKAGE.to_owned();
        return refuse(Status::BAD_EVENT, Name::ALLOW_EVENTS, package);
    }
    let accepts = request.headers.accept().unwrap_or_default();
    let ours = |range: &MediaType| range.accepts("application", "conference-info+xml");
    if accepts.is_some_and(|ranges| !ranges.iter().any(ours)) {
        return refuse(Status::NOT_ACCEPTABLE, Name::ACCEPT, conference::MEDIA_TYPE.to_owned());
    }
    match request.headers.expires() {
        Ok(Some(seconds)) if (1..MIN_EXPIRES).contains(&seconds) => {
            refuse(Status::INTERVAL_TOO_BRIEF, Name::MIN_EXPIRES, MIN_EXPIRES.to_string())
        }
        Ok(_) => Ok(()),
        Err(_) => Err(Box::new(Response::new(Status::BAD_REQUEST))),
    }
}

/// The longest and the default life of a subscription, in seconds (RFC 4575 §3.3).
const EXPIRES: u32 = 3_600;

/// The shortest, in seconds.
const MIN_EXPIRES: u32 = 60;
