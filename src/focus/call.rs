//! Calls: INVITE, re-INVITE, ACK, and their ends (RFC 3261 §13 to §15).

use std::net::SocketAddr;

use cusax_sip::digest::Denied;
use cusax_sip::endpoint::{self, DialogId, RequestId};
use cusax_sip::flow::Flow;
use cusax_sip::header::{Headers, MediaType, Name, Reason};
use cusax_sip::message::{Request, Response, Status};
use cusax_sip::sdp;

use super::door::overloaded;
use super::leg::{Incoming, Leg};
use super::options::{describe, marks, written_elsewhere};
use super::replaces::Meant;
use super::status::Farewell;
use super::{Ask, Focus, FocusConfig, Reply, Wires};
use crate::clock::Now;
use crate::directory::Directory;
use crate::id::{LegId, RoomName};
use crate::mixer::plan::Order;
use crate::room::{By, Command, Ending, Intake, Refusal, Rooms};

impl Focus {
    /// The checks of an INVITE that come before the room's, in order: is there time for anyone, who
    /// calls, whom do they call, which password do they know, can their media be answered. The
    /// first that fails is the answer.
    pub(super) fn invite(
        &mut self,
        now: Now,
        dialog: DialogId,
        flow: Flow,
        request: &Request,
        rooms: &Rooms,
        directory: &Directory,
    ) -> Result<Vec<Ask>, Box<Response>> {
        if rooms.policy().intake > Intake::Open {
            return Err(overloaded("Shutting Down"));
        }
        if self.is_strained() {
            self.limited.stress += 1;
            return Err(overloaded("Too Busy"));
        }
        if request.headers.call_id().is_ok_and(|id| self.dials.values().any(|it| it.call_id == id))
        {
            // A call of ours that found its way back (RFC 3261 §8.2.2.2).
            return Err(Box::new(Response::new(Status::LOOP_DETECTED)));
        }
        let id = self.new_leg();
        let caller = self.callers.identify(now.instant, flow, request, directory, id)?;
        let meant = self.meant(request, &caller.who)?;
        let convened = match meant {
            Some(_) => None,
            None => self.convenes(now, flow, request, &caller.who, rooms)?,
        };
        let name = match (&meant, &convened) {
            (Some(Meant::Room(room) | Meant::Leg(room, _) | Meant::Dial(room, _)), _)
            | (None, Some(room)) => room.clone(),
            (None, None)
                if request.headers.contains(&Name::JOIN) && !self.is_ours(&request.uri, flow) =>
            {
                return Err(Box::new(Response::new(Status::CALL_DOES_NOT_EXIST)));
            }
            (None, None) => self.room_of(&request.uri, flow)?,
        };
        let room = rooms.get(&name).filter(|room| !room.has_ended());
        let (password, denied) = match room {
            Some(room) => match self.knows_password(now, flow, room, request)? {
                Ok(()) => (room.settings.password.clone(), Denied::Missing),
                Err(denied) => (None, denied),
            },
            None if convened.is_some() => (None, Denied::Missing),
            None => return Err(self.refuse(now, &name, Refusal::NoSuchRoom, Denied::Missing)),
        };
        if !request.body.is_empty() && !is_sdp(request) {
            return Err(Box::new(
                Response::new(Status::UNSUPPORTED_MEDIA_TYPE).with(Name::ACCEPT, SDP),
            ));
        }
        let Some(port) = self.ports.take(now.instant, &mut self.rng) else {
            return Err(overloaded("No Media Ports Left"));
        };
        let contact = self.contact(&name, flow, request);
        let source = flow.remote.ip();
        let secure = flow.transport.is_secure();
        let incoming = Incoming { id, dialog, room: name, caller, contact, source, secure };
        let address = SocketAddr::new(self.config.media_address, port);
        let mut leg = Leg::new(incoming, address, &mut self.rng);
        leg.denied = denied;
        if !request.body.is_empty() {
            match leg.take_offer(&request.body, &mut self.rng) {
                Ok(()) => {}
                Err(refusal) => leg.refusal = Some(refusal),
            }
        }
        leg.waits = true;
        let (caller, media_agreed) = (leg.caller.clone(), leg.refusal.is_none());
        let asked = match meant {
            Some(Meant::Dial(_, dial)) if media_agreed => {
                leg.dialled = Some(dial);
                let command = Command::Connect { dial, leg: id };
                Ask { by: By::Server, ..ask(&leg, command, Reply::Call(id)) }
            }
            Some(Meant::Leg(_, old)) => {
                let command = Command::Replace { leg: id, old, caller, password, media_agreed };
                ask(&leg, command, Reply::Call(id))
            }
            None if convened.is_some() => {
                let command = Command::Convene { leg: id, caller, media_agreed };
                ask(&leg, command, Reply::Call(id))
            }
            Some(Meant::Room(_) | Meant::Dial(..)) | None => {
                let command = Command::Call { leg: id, caller, password, media_agreed };
                ask(&leg, command, Reply::Call(id))
            }
        };
        let mut asks = vec![asked];
        asks.extend(leg.direction().map(|change| ask(&leg, change, Reply::Nobody)));
        self.dialogs.insert(dialog, id);
        self.legs.insert(id, leg);
        Ok(asks)
    }

    /// A change of the session: answered here, since a room has no say in it (RFC 3261 §14.2).
    pub(super) fn reinvite(
        &mut self,
        now: Now,
        dialog: DialogId,
        request: &Request,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) -> Option<Ask> {
        let leg = self.dialogs.get(&dialog).and_then(|id| self.legs.get_mut(id));
        let (response, asked) = match leg {
            Some(leg) if request.body.is_empty() && !leg.negotiation.is_offering() => {
                leg.offer(&mut self.rng);
                (accepted(&self.config, leg), None)
            }
            Some(_) | None => self.take_offer(dialog, request, rooms, out),
        };
        self.endpoint.answer(now.instant, dialog, response, out.sip);
        asked
    }

    /// The same by UPDATE (RFC 3311 §5.2), or in a PRACK. One without an offer is about the session's
    /// time, and where the peer is.
    pub(super) fn update(
        &mut self,
        now: Now,
        id: RequestId,
        dialog: DialogId,
        request: &Request,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) -> Option<Ask> {
        let (response, asked) = if request.body.is_empty() {
            let ok = Response::new(Status::OK);
            let leg = self.dialogs.get(&dialog).and_then(|id| self.legs.get(id));
            let ok = match leg {
                Some(leg) => describe(&self.config, ok, &leg.contact, &leg.room),
                None => ok,
            };
            (ok, None)
        } else {
            self.take_offer(dialog, request, rooms, out)
        };
        self.endpoint.respond(now.instant, id, response, out.sip);
        asked
    }

    /// Takes an offer within a call: its answer, and what the room is to know.
    fn take_offer(
        &mut self,
        dialog: DialogId,
        request: &Request,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) -> (Response, Option<Ask>) {
        let Some(leg) = self.dialogs.get(&dialog).and_then(|id| self.legs.get_mut(id)) else {
            return (Response::new(Status::CALL_DOES_NOT_EXIST), None);
        };
        if leg.negotiation.is_offering() {
            return (Response::new(Status::REQUEST_PENDING), None);
        }
        if !is_sdp(request) {
            let refusal = Response::new(Status::UNSUPPORTED_MEDIA_TYPE);
            return (refusal.with(Name::ACCEPT, SDP), None);
        }
        match leg.take_offer(&request.body, &mut self.rng) {
            Ok(()) => {
                leg.tell_mixer(has_voice(rooms, leg), out.media);
                let asked = leg.direction().map(|change| ask(leg, change, Reply::Nobody));
                (accepted(&self.config, leg), asked)
            }
            Err(refusal) => (unacceptable(&self.config, &leg.room, refusal), None),
        }
    }

    /// Offers the session as it is once more, to a peer that takes no UPDATE (RFC 4028 §7.4).
    pub(super) fn refresh_session(&mut self, now: Now, dialog: DialogId, out: &mut Wires<'_>) {
        let leg = self.dialogs.get(&dialog).and_then(|id| self.legs.get_mut(id));
        let Some(leg) = leg.filter(|leg| !leg.negotiation.is_offering()) else { return };
        let Some(offer) = leg.negotiation.repeat() else { return };
        let mut headers = Headers::new();
        for (name, value) in marks(&self.config, &leg.contact, &leg.room) {
            // The dialog has the Contact.
            if name != Name::CONTACT {
                headers.push(name, value);
            }
        }
        headers.push(Name::CONTENT_TYPE, SDP);
        let sent = self.endpoint.reinvite(now.instant, dialog, headers, offer, out.sip);
        if sent.is_err() {
            leg.negotiation.withdraw();
        }
    }

    /// An ACK: if our 2xx held the offer, it holds the answer (RFC 3261 §13.2.2.4).
    pub(super) fn acknowledged(
        &mut self,
        now: Now,
        dialog: DialogId,
        answer: &[u8],
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) -> Option<Ask> {
        let leg = self.dialogs.get(&dialog).and_then(|id| self.legs.get_mut(id))?;
        if !leg.negotiation.is_offering() {
            return None;
        }
        match leg.negotiation.accept(answer) {
            Ok(audio) => {
                leg.audio = Some(audio);
                leg.tell_mixer(has_voice(rooms, leg), out.media);
                leg.direction().map(|change| ask(leg, change, Reply::Nobody))
            }
            // An established session goes on as it was.
            Err(_) if leg.audio.is_some() => None,
            Err(refusal) => {
                let (id, status) = (leg.id, Status::NOT_ACCEPTABLE_HERE);
                self.give_up(now, id, status, &refusal.to_string(), out).pop()
            }
        }
    }

    /// Ends a leg that is still up, from our side.
    pub(super) fn part(
        &mut self,
        now: Now,
        id: LegId,
        farewell: Option<&Farewell>,
        out: &mut Wires<'_>,
    ) {
        let Some(leg) = self.forget(now, id, out) else { return };
        let mut headers = Headers::new();
        for reason in farewell.into_iter().flat_map(|farewell| &farewell.reasons) {
            headers.push(Name::REASON, reason);
        }
        self.endpoint.bye(now.instant, leg.dialog, headers, out.sip);
    }

    /// Ends a leg that failed, and has the room take note.
    pub(super) fn give_up(
        &mut self,
        now: Now,
        id: LegId,
        status: Status,
        text: &str,
        out: &mut Wires<'_>,
    ) -> Vec<Ask> {
        let Some(leg) = self.forget(now, id, out) else { return vec![] };
        let mut headers = Headers::new();
        headers.push(Name::REASON, Reason::sip(status.code(), text));
        self.endpoint.bye(now.instant, leg.dialog, headers, out.sip);
        let ending = Ending::Failed { status: status.code(), text: text.to_owned() };
        vec![hang_up(leg, ending)]
    }

    /// Takes a leg off the books: its audio ends, and its port goes back.
    pub(super) fn forget(&mut self, now: Now, id: LegId, out: &mut Wires<'_>) -> Option<Leg> {
        let leg = self.legs.remove(&id)?;
        self.dialogs.remove(&leg.dialog);
        if leg.is_open() {
            out.media.push(Order::Close(id));
            self.ports.give_back(now.instant, leg.address.port());
        } else {
            self.ports.put_back(leg.address.port());
        }
        Some(leg)
    }

    pub(super) fn leg_of(&mut self, dialog: DialogId) -> Option<&mut Leg> {
        self.legs.get_mut(self.dialogs.get(&dialog)?)
    }
}

pub(super) fn ask(leg: &Leg, command: Command, reply: Reply) -> Ask {
    Ask { room: leg.room.clone(), by: By::Leg(leg.id), command, reply }
}

pub(super) fn hang_up(leg: Leg, ending: Ending) -> Ask {
    Ask {
        by: By::Leg(leg.id),
        command: Command::HangUp { ending },
        room: leg.room,
        reply: Reply::Nobody,
    }
}

/// How a call ended that we did not end.
pub(super) fn ending(why: &endpoint::End) -> Ending {
    let failed = |status: Status, text: &str| Ending::Failed {
        status: status.code(),
        text: text.to_owned(),
    };
    match why {
        endpoint::End::Bye(_) | endpoint::End::Cancelled(_) => Ending::Departed,
        endpoint::End::NoAck => failed(Status::REQUEST_TIMEOUT, "No ACK"),
        endpoint::End::NoPrack => failed(Status::SERVER_TIMEOUT, "No PRACK"),
        endpoint::End::Expired => failed(Status::REQUEST_TIMEOUT, "Session expired"),
        endpoint::End::NotAnswered => failed(Status::TEMPORARILY_UNAVAILABLE, "Not answered"),
        endpoint::End::Refused(response) | endpoint::End::Gone(response) => {
            failed(response.status, response.status.reason())
        }
    }
}

/// Whether the room lets the leg's person be heard, its direction aside.
pub(super) fn has_voice(rooms: &Rooms, leg: &Leg) -> bool {
    let person = rooms.get(&leg.room).and_then(|room| room.by_leg(leg.id));
    person.is_some_and(|person| !person.mutes.any())
}

/// A 200 with what was described last, and all that makes a focus of us.
pub(super) fn accepted(config: &FocusConfig, leg: &Leg) -> Response {
    let sdp = MediaType::new("application", "sdp");
    let ok = Response::new(Status::OK).with_body(&sdp, leg.description.clone());
    describe(config, ok, &leg.contact, &leg.room)
}

/// An offer or answer that we cannot take, and why (RFC 3261 §21.4.26). Who offers no audio may have wanted
/// to write.
pub(super) fn unacceptable(
    config: &FocusConfig,
    room: &RoomName,
    refusal: sdp::Refusal,
) -> Response {
    let response = Response::new(refusal.status());
    let response = response.with(Name::WARNING, refusal.warning(&config.domain));
    if refusal == sdp::Refusal::NoAudio {
        written_elsewhere(config, room, response)
    } else {
        response
    }
}

pub(super) fn is_sdp(request: &Request) -> bool {
    matches!(request.headers.content_type(), Ok(Some(kind)) if kind.is("application", "sdp"))
}

const SDP: &str = "application/sdp";
