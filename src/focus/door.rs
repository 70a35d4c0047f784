//! What keeps callers out: refusals as answers, passwords of rooms.

use cusax_sip::digest::{Denied, Ha1, Verifier};
use cusax_sip::flow::Flow;
use cusax_sip::header::{Name, RetryAfter};
use cusax_sip::message::{Request, Response, Status};
use rand::Rng;

use super::{Focus, caller, status};
use crate::clock::Now;
use crate::id::RoomName;
use crate::room::{Refusal, Room};

impl Focus {
    /// A room's refusal as an answer; for the password with a challenge whose realm is the room.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        room: &RoomName,
        refusal: Refusal,
        denied: Denied,
    ) -> Box<Response> {
        let (status, reason) = status::refused(refusal);
        if refusal == Refusal::WrongPassword {
            let challenges = self.door(now, room).challenge(now.instant, denied);
            return Box::new(caller::unauthorized(challenges).with_reason(reason));
        }
        if matches!(refusal, Refusal::Draining | Refusal::NotKept) {
            return overloaded(reason);
        }
        Box::new(Response::new(status).with_reason(reason))
    }

    /// Whether a request proves that its sender knows the room's password, whatever user they say
    /// to be; or the refusal of somebody who has guessed too often.
    pub(super) fn knows_password(
        &mut self,
        now: Now,
        flow: Flow,
        room: &Room,
        request: &Request,
    ) -> Result<Result<(), Denied>, Box<Response>> {
        let Some(password) = &room.settings.password else { return Ok(Ok(())) };
        let door = self.door(now, &room.name);
        if door.claimed_user(request).is_none() {
            return Ok(Err(Denied::Missing));
        }
        let realm = door.realm().to_owned();
        let attempt = self.callers.attempt(now.instant, flow, &realm, "")?;
        let ha1 = |user: &str, algorithm| Some(Ha1::new(algorithm, user, &realm, password));
        let verified = self.door(now, &room.name).verify(now.instant, request, ha1).map(|_| ());
        self.callers.guesses.note(now.instant, attempt, verified);
        Ok(verified)
    }

    pub(super) fn door(&mut self, now: Now, room: &RoomName) -> &mut Verifier {
        self.doors.entry(room.clone()).or_insert_with(|| {
            let realm = format!("{room}@{}", self.config.domain);
            Verifier::new(now.instant, &realm, caller::ALGORITHMS, self.rng.random())
        })
    }
}

/// 503: of all that is here, nothing can be had at the moment.
pub(super) fn overloaded(reason: &str) -> Box<Response> {
    let wait = RetryAfter::new(RETRY_AFTER);
    let response = Response::new(Status::SERVICE_UNAVAILABLE).with(Name::RETRY_AFTER, wait);
    Box::new(response.with_reason(reason))
}

/// After how many seconds to try again when the server cannot take a call.
const RETRY_AFTER: u32 = 30;
