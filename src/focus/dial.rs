//! Calls that a room makes (RFC 4579 §5.2): where to, INVITE, provisional answers, credentials, the next
//! server if one does not answer, CANCEL. Once answered they are calls like any other.
//!
//! A call lives from [`Fact::Dialled`] to the [`Command::Connect`] or [`Command::EndDial`] that tells the
//! room how it went. Redirects are not followed: where they lead is not what a moderator asked for.
//!
//! [`Fact::Dialled`]: crate::room::Fact::Dialled

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cusax_sip::digest::Account;
use cusax_sip::endpoint::{DialogId, End};
use cusax_sip::flow::Flow;
use cusax_sip::header::{CSeq, Headers, MediaType, Name, NameAddr};
use cusax_sip::message::{Method, Request, Response, Status};
use cusax_sip::sdp::Direction;
use cusax_sip::sdp::offer::Negotiation;
use cusax_sip::uri::{SipUri, Uri};
use rand::Rng;

use super::call::ask;
use super::leg::{Incoming, Leg};
use super::offer::capabilities;
use super::options::marks;
use super::status::{Farewell, refused};
use super::{Ask, Focus, Reply, Wires};
use crate::clock::Now;
use crate::dialplan::{Hop, Lookup};
use crate::id::{DialId, LegId, RoomName};
use crate::room::dial::{Callee, Dial, DialEnd};
use crate::room::person::Who;
use crate::room::{By, Command, Room};

/// All calls that rooms make.
pub(super) type Dials = BTreeMap<LegId, Dialling>;

/// The proxy through which calls go out, and how it knows us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Where it is.
    pub proxy: SipUri,
    /// User name and password, if it asks for them.
    pub credentials: Option<(String, String)>,
    /// The only realm that they are proven to (RFC 8760 §2.2).
    pub realm: String,
}

/// A call that nobody has answered.
#[derive(Debug)]
pub(super) struct Dialling {
    pub(super) room: RoomName,
    pub(super) dial: DialId,
    callee: Callee,
    target: Uri,
    /// From of our INVITEs, with its tag.
    from: NameAddr,
    /// Call-ID and CSeq: those of all INVITEs of a call, so that a loop is known by them.
    pub(super) call_id: String,
    cseq: u32,
    /// Where it has not been tried.
    hops: VecDeque<Hop>,
    /// Our end of the media, once there is somewhere to call, and what we offer there.
    media: Option<(SocketAddr, Negotiation, Vec<u8>)>,
    /// The INVITE that waits for its answer.
    call: Option<(Flow, DialogId)>,
    account: Option<Account>,
    /// In which header the password is asked for.
    proves: Name,
    /// How long somebody on the way wants the session to last at least, in seconds.
    min_se: u32,
    /// What one of them said of their media before they answered, with their tag: a 2xx need not say it
    /// again (RFC 3262 §5).
    early: Option<(String, Vec<u8>)>,
    /// They have answered in some way, so they are there.
    reached: bool,
    ringing: bool,
    pub(super) give_up_at: Instant,
}

/// How far a call has got, as documents say it (RFC 4575 §5.7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is not known where they are.
    Pending,
    /// They are being called.
    Dialling,
    /// It rings.
    Alerting,
}

impl Dialling {
    /// Whether somebody is who is called.
    pub(super) fn is_for(&self, who: &Who) -> bool {
        self.callee.person.who == *who
    }

    /// Whether this is that call of the room, and rings.
    pub(super) fn rings(&self, room: &RoomName, dial: DialId) -> bool {
        self.ringing && self.dial == dial && self.room == *room
    }

    pub(super) fn progress(&self) -> Progress {
        match &self.call {
            None => Progress::Pending,
            Some(_) if self.ringing => Progress::Alerting,
            Some(_) => Progress::Dialling,
        }
    }
}

impl Focus {
    /// Begins a call of a room: asks where its next hop is.
    pub(super) fn dial(&mut self, now: Now, room: &Room, dial: &Dial, out: &mut Wires<'_>) {
        let Ok(target) = dial.callee.uri.parse::<Uri>() else {
            return tracing::error!(room = %room.name, "a dial plan gave what is no URI");
        };
        let outbound = self.config.outbound.as_ref();
        let next = outbound.map(|outbound| &outbound.proxy).or(target.as_sip()).cloned();
        let account = outbound.and_then(|Outbound { credentials, realm, .. }| {
            let (user, password) = credentials.as_ref()?;
            Some(Account::new(user, password, Some(realm)))
        });
        let name =
            if room.settings.name.is_empty() { room.name.as_str() } else { &room.settings.name };
        let tag = format!("{:016x}", self.rng.random::<u64>());
        let from = NameAddr::new(self.config.room_uri(&room.name))
            .with_display(name)
            .with_param("tag", Some(&tag));
        let leg = self.new_leg();
        let dialling = Dialling {
            room: room.name.clone(),
            dial: dial.id,
            callee: dial.callee.clone(),
            target,
            from,
            call_id: format!("{:032x}", self.rng.random::<u128>()),
            cseq: 0,
            hops: VecDeque::new(),
            media: None,
            call: None,
            account,
            proves: Name::PROXY_AUTHORIZATION,
            min_se: 0,
            early: None,
            reached: false,
            ringing: false,
            give_up_at: now.instant + PATIENCE,
        };
        self.dials.insert(leg, dialling);
        out.lookups.extend(next.map(|uri| Lookup { leg, uri }));
    }

    /// Takes the answer to a [`Lookup`], best first; none if there is no such server.
    pub fn located(&mut self, now: Now, leg: LegId, hops: &[Hop], out: &mut Wires<'_>) -> Vec<Ask> {
        let ours = |hop: &Hop| {
            let same = |listen: &SocketAddr| {
                listen.port() == hop.remote.port()
                    && (listen.ip() == hop.remote.ip()
                        || (listen.ip().is_unspecified()
                            && hop.remote.ip() == self.config.media_address))
            };
            self.config.listen.iter().any(|(_, listen)| same(listen))
        };
        let back = hops.iter().any(ours);
        let usable = hops.iter().filter(|hop| !ours(hop) && self.flow_to(**hop).is_some());
        let usable: VecDeque<_> = usable.copied().take(MAX_HOPS).collect();
        let Some(dialling) = self.dials.get_mut(&leg) else { return vec![] };
        dialling.hops = usable;
        let asked = if back && dialling.hops.is_empty() {
            self.fail(now, leg, Status::LOOP_DETECTED, "That address is ours")
        } else if self.is_strained() {
            self.limited.stress += 1;
            self.fail(now, leg, Status::SERVICE_UNAVAILABLE, "Too busy")
        } else {
            self.try_next(now, leg, out)
        };
        asked.into_iter().collect()
    }

    /// Calls at the next place, or takes note that there is none left.
    fn try_next(&mut self, now: Now, id: LegId, out: &mut Wires<'_>) -> Option<Ask> {
        let hop = self.dials.get_mut(&id)?.hops.pop_front();
        let Some(flow) = hop.and_then(|hop| self.flow_to(hop)) else {
            return self.fail(
                now,
                id,
                Status::BAD_GATEWAY,
                "Nobody can be reached at that address",
            );
        };
        if self.dials.get(&id)?.media.is_none() {
            let Some(port) = self.ports.take(now.instant, &mut self.rng) else {
                return self.fail(now, id, Status::SERVICE_UNAVAILABLE, "No media ports left");
            };
            let address = SocketAddr::new(self.config.media_address, port);
            let session = u64::from(self.rng.random::<u32>());
            let mut negotiation = Negotiation::new(capabilities(), address, session);
            // No keys: the next of the places to try may be reached where others read along.
            let offer = negotiation.offer(Direction::SendRecv, None);
            self.dials.get_mut(&id)?.media = Some((address, negotiation, offer));
        }
        self.call_at(now, id, flow, out)
    }

    /// Sends an INVITE over a flow, with credentials if some were asked for.
    fn call_at(&mut self, now: Now, id: LegId, flow: Flow, out: &mut Wires<'_>) -> Option<Ask> {
        let cnonce = format!("{:016x}", self.rng.random::<u64>());
        let contact = self.contact_by(&self.dials.get(&id)?.room, flow, false);
        let dialling = self.dials.get_mut(&id)?;
        if let Some((_, old)) = dialling.call.take() {
            self.dialogs.remove(&old);
        }
        dialling.cseq += 1;
        let (_, _, offer) = dialling.media.as_ref()?;
        let mut invite = Request::new(Method::Invite, dialling.target.clone())
            .with(Name::FROM, &dialling.from)
            .with(Name::CALL_ID, &dialling.call_id)
            .with(Name::CSEQ, CSeq::new(dialling.cseq, Method::Invite))
            .with_body(&MediaType::new("application", "sdp"), offer.clone());
        for (name, value) in marks(&self.config, &contact, &dialling.room) {
            invite = invite.with(name, value);
        }
        if let Some(replaces) = &dialling.callee.replaces {
            invite = invite.with(Name::REQUIRE, "replaces").with(Name::REPLACES, replaces);
        }
        if let Some(by) = &dialling.callee.referred_by {
            invite = invite.with(Name::REFERRED_BY, format!("<{by}>"));
        }
        if dialling.min_se > 0 {
            invite = invite.with(Name::MIN_SE, dialling.min_se);
        }
        if let Some(account) = &mut dialling.account {
            let uri = dialling.target.to_string();
            if let Some(credentials) = account.credentials(&Method::Invite, &uri, &cnonce) {
                invite = invite.with(dialling.proves.clone(), credentials);
            }
        }
        match self.endpoint.invite(now.instant, flow, invite, out.sip) {
            Ok(dialog) => {
                self.dialogs.insert(dialog, id);
                dialling.call = Some((flow, dialog));
                self.watchers.changed(now.instant, &dialling.room);
                None
            }
            Err(why) => self.fail(now, id, Status::SERVICE_UNAVAILABLE, &why.to_string()),
        }
    }

    /// A provisional answer: they are there, and perhaps it rings.
    pub(super) fn progressed(
        &mut self,
        now: Now,
        dialog: DialogId,
        response: &Response,
        out: &mut Wires<'_>,
    ) {
        let id = self.dialogs.get(&dialog);
        let Some(dialling) = id.and_then(|id| self.dials.get_mut(id)) else { return };
        dialling.reached = true;
        if response.headers.requires("100rel")
            && !response.body.is_empty()
            && let Ok(Some(tag)) = response.headers.to_tag()
        {
            dialling.early = Some((tag, response.body.clone()));
        }
        let rings = response.status == Status::RINGING;
        if rings && !std::mem::replace(&mut dialling.ringing, true) {
            let (room, dial) = (dialling.room.clone(), dialling.dial);
            self.watchers.changed(now.instant, &room);
            self.report_ringing(now, &room, dial, out);
        }
    }

    /// Somebody answered: from here on it is a call like any other, if the room takes them.
    pub(super) fn picked_up(
        &mut self,
        now: Now,
        dialog: DialogId,
        response: &Response,
        out: &mut Wires<'_>,
    ) -> Vec<Ask> {
        self.endpoint.ack(dialog, Headers::new(), vec![], out.sip);
        let Some(id) = self.dialogs.get(&dialog).copied() else { return vec![] };
        let Some(dialling) = self.dials.remove(&id) else { return vec![] };
        let Dialling { room, dial, callee, media, call, early, .. } = dialling;
        let (Some((address, negotiation, description)), Some((flow, _))) = (media, call) else {
            return vec![];
        };
        let contact = self.contact_by(&room, flow, false);
        let (caller, referred_by) = (callee.person, callee.referred_by);
        let (source, secure) = (flow.remote.ip(), flow.transport.is_secure());
        let incoming = Incoming { id, dialog, room, caller, contact, source, secure };
        let mut leg = Leg::new(incoming, address, &mut self.rng);
        (leg.negotiation, leg.description, leg.dialled) = (negotiation, description, Some(dial));
        leg.referred_by = referred_by;
        let tag = response.headers.to_tag().ok().flatten();
        let early = early.filter(|(of, _)| Some(of) == tag.as_ref());
        let answer = match early {
            Some((_, early)) if response.body.is_empty() => early,
            Some(_) | None => response.body.clone(),
        };
        let (asked, failed) = match leg.negotiation.accept(&answer) {
            Ok(audio) => {
                leg.audio = Some(audio);
                (Command::Connect { dial, leg: id }, None)
            }
            Err(refusal) => {
                let (status, text) = (Status::NOT_ACCEPTABLE_HERE.code(), refusal.to_string());
                let farewell = Farewell::because(status, &text);
                let end = DialEnd::Failed { status, text };
                (Command::EndDial { dial, end }, Some(farewell))
            }
        };
        let direction = leg.direction().map(|change| ask(&leg, change, Reply::Nobody));
        let room = leg.room.clone();
        self.legs.insert(id, leg);
        if let Some(farewell) = &failed {
            self.part(now, id, Some(farewell), out);
        }
        let asked = Ask { room, by: By::Server, command: asked, reply: Reply::Call(id) };
        std::iter::once(asked).chain(direction).collect()
    }

    /// A call ended before it was answered. Asked for a password, we give it; where nobody is, the
    /// next server is tried (RFC 3263 §4.3).
    pub(super) fn turned_down(
        &mut self,
        now: Now,
        id: LegId,
        why: &End,
        out: &mut Wires<'_>,
    ) -> Option<Ask> {
        let response = match why {
            End::Refused(response) | End::Gone(response) => response,
            End::Bye(_)
            | End::Cancelled(_)
            | End::NoAck
            | End::NotAnswered
            | End::NoPrack
            | End::Expired => {
                return self.fail(now, id, Status::TEMPORARILY_UNAVAILABLE, "Not answered");
            }
        };
        let dialling = self.dials.get_mut(&id)?;
        if (dialling.takes_challenge(response) || dialling.takes_longer(response))
            && let Some((flow, _)) = dialling.call
        {
            return self.call_at(now, id, flow, out);
        }
        let unreachable = [Status::SERVICE_UNAVAILABLE, Status::REQUEST_TIMEOUT];
        if unreachable.contains(&response.status) && !dialling.reached && !dialling.hops.is_empty()
        {
            return self.try_next(now, id, out);
        }
        let text = match response.reason.as_str() {
            "" => response.status.reason(),
            reason => reason,
        };
        self.fail(now, id, response.status, text)
    }

    /// Hangs up on whoever a room calls no more: CANCEL while it rings, BYE if they answered.
    pub(super) fn end_dial(
        &mut self,
        now: Now,
        room: &RoomName,
        dial: DialId,
        end: &DialEnd,
        out: &mut Wires<'_>,
    ) {
        let farewell = match end {
            // Perhaps elsewhere than where it rings (RFC 3891 §3).
            DialEnd::Answered => {
                return self.drop_dials(now, out, |it| it.room == *room && it.dial == dial);
            }
            DialEnd::Cancelled | DialEnd::Failed { .. } => None,
            DialEnd::KeptOut(refusal) => {
                let (status, text) = refused(*refusal);
                Some(Farewell::because(status.code(), text))
            }
        };
        let up = self.legs.values().find(|leg| leg.room == *room && leg.dialled == Some(dial));
        if let Some(id) = up.map(|leg| leg.id) {
            self.part(now, id, farewell.as_ref(), out);
        }
        self.drop_dials(now, out, |dialling| dialling.room == *room && dialling.dial == dial);
    }

    /// Gives up the calls that `which` names.
    pub(super) fn drop_dials(
        &mut self,
        now: Now,
        out: &mut Wires<'_>,
        which: impl Fn(&Dialling) -> bool,
    ) {
        let ids: Vec<_> =
            self.dials.iter().filter(|(_, it)| which(it)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(dialog) = self.forget_dial(id) {
                self.endpoint.bye(now.instant, dialog, Headers::new(), out.sip);
            }
        }
    }

    /// Gives up the calls that nobody answered in time.
    pub(super) fn give_up_dials(&mut self, now: Now, out: &mut Wires<'_>) -> Vec<Ask> {
        let late = self.dials.iter().filter(|(_, dialling)| dialling.give_up_at <= now.instant);
        let late: Vec<_> = late.map(|(id, _)| *id).collect();
        let mut asks = vec![];
        for id in late {
            if let Some((_, dialog)) = self.dials.get(&id).and_then(|dialling| dialling.call) {
                self.endpoint.bye(now.instant, dialog, Headers::new(), out.sip);
            }
            asks.extend(self.fail(now, id, Status::REQUEST_TIMEOUT, "Nobody answered"));
        }
        asks
    }

    /// Takes a call off the books and tells its room that it failed.
    fn fail(&mut self, now: Now, id: LegId, status: Status, text: &str) -> Option<Ask> {
        let Dialling { room, dial, .. } = self.dials.get(&id)?;
        let (room, dial) = (room.clone(), *dial);
        self.forget_dial(id);
        self.watchers.changed(now.instant, &room);
        let end = DialEnd::Failed { status: status.code(), text: text.to_owned() };
        let command = Command::EndDial { dial, end };
        Some(Ask { room, by: By::Server, command, reply: Reply::Nobody })
    }

    /// Takes a call off the books; gives its dialog, if it has one.
    fn forget_dial(&mut self, id: LegId) -> Option<DialogId> {
        let Dialling { media, call, .. } = self.dials.remove(&id)?;
        if let Some((address, ..)) = media {
            self.ports.put_back(address.port());
        }
        let (_, dialog) = call?;
        self.dialogs.remove(&dialog);
        Some(dialog)
    }

    /// The way to a hop, from where peers can reach us; `None` where we do not listen alike.
    fn flow_to(&self, hop: Hop) -> Option<Flow> {
        let alike = self.config.listen.iter().find(|(transport, local)| {
            *transport == hop.transport && local.is_ipv4() == hop.remote.is_ipv4()
        });
        let (_, local) = *alike?;
        let shown = self.config.media_address;
        let ip = if local.ip().is_unspecified() && shown.is_ipv4() == local.is_ipv4() {
            shown
        } else {
            local.ip()
        };
        let local = SocketAddr::new(ip, local.port());
        Some(Flow { transport: hop.transport, local, remote: hop.remote })
    }
}

impl Dialling {
    /// Whether an answer asks for a longer session than was wanted yet (RFC 4028 §7.3).
    fn takes_longer(&mut self, response: &Response) -> bool {
        let min = response.headers.min_se().ok().flatten().unwrap_or_default();
        let brief = response.status == Status::SESSION_INTERVAL_TOO_SMALL;
        let longer = brief && min > self.min_se && self.cseq < MAX_INVITES;
        if longer {
            self.min_se = min;
        }
        longer
    }

    /// Whether an answer asks for a password that we have not given yet.
    fn takes_challenge(&mut self, response: &Response) -> bool {
        let (asks, proves) = if response.status == Status::UNAUTHORIZED {
            (Name::WWW_AUTHENTICATE, Name::AUTHORIZATION)
        } else if response.status == Status::PROXY_AUTHENTICATION_REQUIRED {
            (Name::PROXY_AUTHENTICATE, Name::PROXY_AUTHORIZATION)
        } else {
            return false;
        };
        self.proves = proves;
        self.account.as_mut().is_some_and(|it| it.challenged(&response.headers, &asks))
    }
}

/// How long it may ring, from the wish to the answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// INVITEs of one call, whatever is asked for.
const MAX_INVITES: u32 = 12;
/// Servers of one address that are tried.
const MAX_HOPS: usize = 4;
