//! REFER (RFC 3515, RFC 4579 §5.5, §5.11): a moderator on the phone has the room call somebody, or throws
//! somebody out. Both are the room's commands, so chat sees them as it sees those of its own.
//!
//! Whoever refers is told how it goes by NOTIFY, unless they want none (RFC 4488).

use std::collections::BTreeMap;

use cusax_sip::endpoint::{DialogId, RequestId, SubscriptionId};
use cusax_sip::flow::Flow;
use cusax_sip::header::{Headers, Name, NameAddr, Replaces, SubscriptionState};
use cusax_sip::message::{Method, Request, Response, Status};
use cusax_sip::uri::{SipUri, Uri};

use super::address::address_of;
use super::leg::Leg;
use super::status::refused;
use super::{Ask, Focus, Reply, Wires};
use crate::clock::Now;
use crate::dialplan::NotDialled;
use crate::directory::Directory;
use crate::id::{DialId, LegId, RoomName};
use crate::room::dial::{Callee, DialEnd};
use crate::room::person::Proof;
use crate::room::{By, Change, Command, Refusal, Room, Rooms};

/// Those who wait to hear what became of a call that they wanted.
pub(super) type Referrals = BTreeMap<SubscriptionId, Referral>;

/// A REFER that was done, and a call that came of it.
#[derive(Debug)]
pub(super) struct Referral {
    room: RoomName,
    dial: DialId,
    /// What our NOTIFYs name as Contact.
    contact: NameAddr,
}

/// How the answer to a REFER reaches its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Referrer {
    /// An answer, then reports.
    Subscribed(SubscriptionId),
    /// An answer and no more.
    Silent(RequestId),
}

/// A REFER that came, and by what it is judged.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Whom to answer.
    pub(super) to: Referrer,
    /// The dialog that it is in, if it is in one.
    pub(super) dialog: Option<DialogId>,
    /// How it came.
    pub(super) flow: Flow,
    /// The REFER.
    pub(super) request: &'a Request,
    /// All rooms.
    pub(super) rooms: &'a Rooms,
    /// Who is who.
    pub(super) directory: &'a Directory,
}

/// A REFER that the room has to decide about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referring {
    /// Whom to answer.
    pub(super) to: Referrer,
    /// In which room.
    pub(super) room: RoomName,
    /// What our messages name as Contact.
    pub(super) contact: NameAddr,
    /// Whether a call comes of it.
    pub(super) calls: bool,
}

impl Focus {
    /// A REFER: who asks must be on the call, in this dialog, by naming it, or by an address that is
    /// proven.
    pub(super) fn refer(
        &mut self,
        now: Now,
        asked: &Asked<'_>,
        out: &mut Wires<'_>,
    ) -> Option<Ask> {
        match self.read_refer(now, asked) {
            Ok(ask) => Some(ask),
            Err(refusal) => {
                self.respond_to_refer(now, asked.to, *refusal, out);
                None
            }
        }
    }

    fn read_refer(&mut self, now: Now, asked: &Asked<'_>) -> Result<Ask, Box<Response>> {
        let Asked { to, dialog, request, rooms, directory, .. } = *asked;
        let refuse = |status, reason: &str| Box::new(Response::new(status).with_reason(reason));
        let within = self.leg_in(dialog).or_else(|| self.leg_named(request)).map(|leg| leg.id);
        let leg = match within {
            Some(leg) => leg,
            None => self.leg_of_sender(now, asked)?,
        };
        let Some(leg) = self.legs.get(&leg) else {
            return Err(refuse(Status::FORBIDDEN, "Not In This Conference"));
        };
        let (by, name, contact) = (By::Leg(leg.id), leg.room.clone(), leg.contact.clone());
        // None, several, or one that cannot be read (RFC 3515 §2.4.2).
        let Ok(Some(target)) = request.headers.refer_to() else {
            return Err(refuse(Status::BAD_REQUEST, "One Refer-To Needed"));
        };
        let method = target.uri.as_sip().and_then(|uri| uri.param("method"));
        let method = Method::from_token(method.as_deref().unwrap_or("INVITE"));
        let replaces = replaces_in(&target.uri);
        if replaces.is_err() || method != Method::Invite && replaces != Ok(None) {
            return Err(refuse(Status::DECLINE, "No Headers In Refer-To But Replaces"));
        }
        let command = if method == Method::Invite {
            match self.config.dialplan.callee(&target.uri.to_string(), directory) {
                Ok(callee) => {
                    let replaces = replaces.ok().flatten();
                    let referred_by = referrer(request, leg);
                    Command::Dial(Box::new(Callee { replaces, referred_by, ..callee }))
                }
                Err(NotDialled::NoAddress) => {
                    return Err(refuse(Status::BAD_REQUEST, "No Address In Refer-To"));
                }
                Err(NotDialled::NotAllowed) => {
                    let (status, reason) = refused(Refusal::MayNotBeCalled);
                    return Err(refuse(status, reason));
                }
            }
        } else if method == Method::Bye {
            let room = rooms.get(&name);
            let command = room.and_then(|room| self.removal(room, &target.uri));
            command.ok_or_else(|| refuse(Status::NOT_FOUND, "Nobody There"))?
        } else {
            return Err(refuse(Status::DECLINE, "Only INVITE And BYE"));
        };
        let calls = method == Method::Invite;
        let reply = Reply::Refer(Box::new(Referring { to, room: name.clone(), contact, calls }));
        Ok(Ask { room: name, by, command, reply })
    }

    /// The leg of whoever sent a request from outside of their call: their address has to be proven.
    fn leg_of_sender(&mut self, now: Now, asked: &Asked<'_>) -> Result<LegId, Box<Response>> {
        let Asked { flow, request, directory, .. } = *asked;
        let nobody = self.new_leg();
        let sender = self.callers.identify(now.instant, flow, request, directory, nobody)?;
        let room = self.room_of(&request.uri, flow)?;
        let proven = sender.proof > Proof::Claimed;
        let own = self.legs.values().find(|leg| leg.room == room && leg.caller.who == sender.who);
        let own = own.filter(|_| proven).map(|leg| leg.id);
        let refusal = || Response::new(Status::FORBIDDEN).with_reason("Not In This Conference");
        own.ok_or_else(|| Box::new(refusal()))
    }

    /// The leg that a request names which is sent outside of it (RFC 4538 §4). Its tags are as good as they
    /// would be within.
    pub(super) fn leg_named(&self, request: &Request) -> Option<&Leg> {
        let named = request.headers.target_dialog()?;
        self.leg_in(self.endpoint.find(&named).map(|(dialog, _)| dialog))
    }

    /// What throws out whom a URI names, as documents do: by address, or by the name in its place.
    fn removal(&self, room: &Room, uri: &Uri) -> Option<Command> {
        let address = address_of(uri);
        let named = |aor: Option<&cusax::identity::Aor>| {
            aor.is_some_and(|aor| address_of_aor(aor) == address)
        };
        let person = room.people.values().find(|person| {
            person.legs.values().any(|leg| !leg.caller.private && named(leg.caller.aor.as_ref()))
                || self.scribe.nobody(room, person.id) == address
        });
        if let Some(person) = person {
            let nick = person.nick.clone();
            return Some(Command::Moderate(vec![Change::Role { nick, role: None, reason: None }]));
        }
        let dial = room.dials.values().find(|dial| {
            named(dial.callee.person.aor.as_ref()) || self.scribe.nobody(room, dial.id) == address
        })?;
        Some(Command::EndDial { dial: dial.id, end: DialEnd::Cancelled })
    }

    /// Answers a REFER that the room decided about; reports follow.
    pub(super) fn answer_refer(
        &mut self,
        now: Now,
        referring: Referring,
        result: Result<(), Refusal>,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) {
        let Referring { to, room, contact, calls } = referring;
        if let Err(refusal) = result {
            let (status, reason) = refused(refusal);
            let response = Response::new(status).with_reason(reason);
            return self.respond_to_refer(now, to, response, out);
        }
        // Not 202 (RFC 7647 §5).
        let ok = Response::new(Status::OK).with_contact(&contact);
        let Referrer::Subscribed(subscription) = to else {
            let ok = ok.with(Name::REFER_SUB, "false");
            return self.respond_to_refer(now, to, ok, out);
        };
        self.respond_to_refer(now, to, ok.with(Name::EXPIRES, EXPIRES), out);
        // The call that came of it is the room's latest.
        let dial = rooms.get(&room).and_then(|room| room.dials.keys().next_back()).copied();
        match dial.filter(|_| calls) {
            Some(dial) => {
                let (headers, body) = fragment(&contact, "100 Trying");
                let sent = self.endpoint.notify(now.instant, subscription, headers, body, out.sip);
                tracing::debug!(?sent, "a REFER is under way");
                self.referrals.insert(subscription, Referral { room, dial, contact });
            }
            None => self.conclude(now, subscription, &contact, "200 OK", out),
        }
    }

    /// A refresh, or the end, of the reports about a call that somebody wanted (RFC 6665 §4.2.1.2): where it
    /// stands is said again.
    pub(super) fn refresh_referral(
        &mut self,
        now: Now,
        id: SubscriptionId,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) {
        let Some(Referral { room, dial, contact, .. }) = self.referrals.get(&id) else {
            let gone = Response::new(Status::CALL_DOES_NOT_EXIST);
            return self.endpoint.answer_subscribe(now.instant, id, gone, out.sip);
        };
        let calling = rooms.get(room).is_some_and(|room| room.dials.contains_key(dial));
        let rings = calling && self.dials.values().any(|it| it.rings(room, *dial));
        let (headers, body) = fragment(contact, if rings { "180 Ringing" } else { "100 Trying" });
        let ok = Response::new(Status::OK).with(Name::EXPIRES, EXPIRES).with_contact(contact);
        self.endpoint.answer_subscribe(now.instant, id, ok, out.sip);
        // One that is under way says no less.
        let sent = self.endpoint.notify(now.instant, id, headers, body, out.sip);
        tracing::debug!(?sent, "a REFER's reports are refreshed");
    }

    /// Tells those who wanted a call that it rings.
    pub(super) fn report_ringing(
        &mut self,
        now: Now,
        room: &RoomName,
        dial: DialId,
        out: &mut Wires<'_>,
    ) {
        for (id, referral) in &self.referrals {
            if referral.room == *room && referral.dial == dial && self.endpoint.may_notify(*id) {
                let (headers, body) = fragment(&referral.contact, "180 Ringing");
                let sent = self.endpoint.notify(now.instant, *id, headers, body, out.sip);
                debug_assert!(sent.is_ok(), "it may be sent");
            }
        }
    }

    /// Tells those who wanted a call how it ended.
    pub(super) fn report_end(
        &mut self,
        now: Now,
        room: &RoomName,
        dial: DialId,
        end: &DialEnd,
        out: &mut Wires<'_>,
    ) {
        let words = match end {
            DialEnd::Answered => "200 OK".to_owned(),
            DialEnd::Cancelled => "487 Request Terminated".to_owned(),
            DialEnd::Failed { status, text } => {
                let text: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
                format!("{status} {text}")
            }
            DialEnd::KeptOut(refusal) => {
                let (status, text) = refused(*refusal);
                format!("{} {text}", status.code())
            }
        };
        self.conclude_all(now, &words, out, |referral| {
            referral.room == *room && referral.dial == dial
        });
    }

    /// Ends the reports to those who wanted calls of a room that is no more.
    pub(super) fn end_referrals(&mut self, now: Now, room: &RoomName, out: &mut Wires<'_>) {
        self.conclude_all(now, "410 Gone", out, |referral| referral.room == *room);
    }

    fn conclude_all(
        &mut self,
        now: Now,
        words: &str,
        out: &mut Wires<'_>,
        which: impl Fn(&Referral) -> bool,
    ) {
        let ids: Vec<_> =
            self.referrals.iter().filter(|(_, it)| which(it)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(referral) = self.referrals.remove(&id) {
                self.conclude(now, id, &referral.contact, words, out);
            }
        }
    }

    /// The last report (RFC 3515 §2.4.7).
    fn conclude(
        &mut self,
        now: Now,
        id: SubscriptionId,
        contact: &NameAddr,
        words: &str,
        out: &mut Wires<'_>,
    ) {
        let (headers, body) = fragment(contact, words);
        let state = SubscriptionState::terminated("noresource");
        self.endpoint.terminate(now.instant, id, state, headers, body, out.sip);
    }

    fn respond_to_refer(
        &mut self,
        now: Now,
        to: Referrer,
        response: Response,
        out: &mut Wires<'_>,
    ) {
        match to {
            Referrer::Subscribed(id) => {
                self.endpoint.answer_subscribe(now.instant, id, response, out.sip);
            }
            Referrer::Silent(id) => self.endpoint.respond(now.instant, id, response, out.sip),
        }
    }
}

/// The call that a URI wants replaced: Replaces is the only header that it may hold (RFC 3891 §4).
fn replaces_in(uri: &Uri) -> Result<Option<String>, ()> {
    let mut headers = uri.as_sip().into_iter().flat_map(SipUri::headers);
    match (headers.next(), headers.next()) {
        (None, _) => Ok(None),
        (Some((name, value)), None) if name.eq_ignore_ascii_case("Replaces") => {
            let replaces: Replaces = value.parse().map_err(|_| ())?;
            Ok(Some(replaces.to_string()))
        }
        (Some(_), _) => Err(()),
    }
}

/// Who wants a call: as they say (RFC 3892), else by their address; nobody who asks for privacy.
fn referrer(request: &Request, leg: &Leg) -> Option<String> {
    let said = request.headers.referred_by().ok().flatten().map(|said| address_of(&said.uri));
    let own = || leg.caller.aor.as_ref().map(address_of_aor);
    said.or_else(own).filter(|_| !leg.caller.private)
}

/// The address of a person as a URI without parameters writes it.
fn address_of_aor(aor: &cusax::identity::Aor) -> String {
    match aor.to_string().parse::<Uri>() {
        Ok(uri) => address_of(&uri),
        Err(_) => aor.to_string(),
    }
}

/// Headers and body of a report: a status line (RFC 3515 §2.4.5, RFC 3420).
fn fragment(contact: &NameAddr, words: &str) -> (Headers, Vec<u8>) {
    let mut headers = Headers::new();
    headers.push(Name::CONTACT, contact);
    headers.push(Name::CONTENT_TYPE, "message/sipfrag;version=2.0");
    (headers, format!("SIP/2.0 {words}\r\n").into_bytes())
}

/// How long reports may go on, in seconds: longer than a call may ring.
const EXPIRES: u32 = 180;
