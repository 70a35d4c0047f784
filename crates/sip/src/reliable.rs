//! Provisional answers that must arrive (RFC 3262): PRACK, both ways.
//!
//! [`Reliable`] is the callee's side: one answer is under way at a time, and is sent again until PRACK
//! confirms it; what the user says meanwhile waits, the last word of it. [`Heard`] is the caller's.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rand::Rng;

use crate::{
    endpoint::{DialogId, Endpoint},
    flow::{Flow, Transmit},
    header::{Name, RAck, RetryAfter},
    message::{Method, Request, Response, Status},
    table::Purpose,
    transaction::{GIVE_UP, T1},
};

/// Our reliable answers to one INVITE.
#[derive(Debug)]
pub(crate) struct Reliable {
    cseq: u32,
    /// The number of the last one.
    rseq: u32,
    unconfirmed: Option<Unconfirmed>,
    /// What is to be said once it is confirmed.
    next: Option<Response>,
}

#[derive(Debug)]
struct Unconfirmed {
    /// It holds a session description: no 2xx may overtake it (§3).
    described: bool,
    /// Whether it is sent again; nothing is after the final answer.
    resent: bool,
    interval: Duration,
    resend_at: Instant,
    give_up_at: Instant,
}

/// What is due in [`Reliable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Send it again.
    Resend,
    /// Nobody confirms it: refuse the INVITE (§3).
    GiveUp,
}

impl Reliable {
    /// For the INVITE of that number. RSeq begins with `first`, below 2³¹.
    pub(crate) fn new(cseq: u32, first: u32) -> Self {
        Self { cseq, rseq: first, unconfirmed: None, next: None }
    }

    /// Takes what the user answers; gives what is to be sent at once, marked as need be.
    pub(crate) fn admit(&mut self, now: Instant, mut response: Response) -> Option<Response> {
        let status = response.status;
        let under_way = self.unconfirmed.as_ref().filter(|it| it.resent);
        let waits = under_way.is_some_and(|it| it.described || status.is_provisional());
        if status == Status::TRYING {
            return Some(response);
        }
        if waits && (status.is_provisional() || status.is_success()) {
            self.next = Some(response);
            return None;
        }
        if status.is_provisional() {
            self.rseq += 1;
            response.headers.push(Name::REQUIRE, "100rel");
            response.headers.set(Name::RSEQ, self.rseq);
            self.unconfirmed = Some(Unconfirmed {
                described: !response.body.is_empty(),
                resent: true,
                interval: T1,
                resend_at: now + T1,
                give_up_at: now + GIVE_UP,
            });
        } else {
            self.next = None;
            if let Some(unconfirmed) = &mut self.unconfirmed {
                unconfirmed.resent = false;
            }
        }
        Some(response)
    }

    /// Takes a PRACK: whether it confirms what is under way, or just was (§3).
    pub(crate) fn confirm(&mut self, rack: &RAck) -> bool {
        let ours = RAck { rseq: self.rseq, cseq: self.cseq, method: Method::Invite };
        *rack == ours && self.unconfirmed.take().is_some()
    }

    /// What was to be said after what is confirmed now.
    pub(crate) fn take_next(&mut self) -> Option<Response> {
        self.next.take()
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Overdue> {
        let unconfirmed = self.unconfirmed.as_mut().filter(|it| it.resent)?;
        if unconfirmed.give_up_at <= now {
            return Some(Overdue::GiveUp);
        }
        if unconfirmed.resend_at > now {
            return None;
        }
        // Without T2 as its limit (§3).
        unconfirmed.interval *= 2;
        unconfirmed.resend_at = (unconfirmed.resend_at + unconfirmed.interval).max(now);
        Some(Overdue::Resend)
    }

    /// When [`Self::handle_timeout`] is next due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let unconfirmed = self.unconfirmed.as_ref().filter(|it| it.resent)?;
        Some(unconfirmed.resend_at.min(unconfirmed.give_up_at))
    }
}

/// The reliable answers to our INVITE: the last RSeq of each callee that it was forked to.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    cseq: u32,
    last: BTreeMap<String, u32>,
}

impl Heard {
    /// Takes a provisional answer: whether it is to be reported. Of the reliable ones only the next is
    /// (§4): copies are not, nor is what overtook another.
    pub(crate) fn is_next(&mut self, response: &Response) -> bool {
        let headers = &response.headers;
        let (Some(rseq), Ok(Some(tag)), Ok(cseq)) =
            (rseq(response), headers.to_tag(), headers.cseq())
        else {
            return true;
        };
        self.take(cseq.number, &tag, rseq)
    }

    fn take(&mut self, cseq: u32, tag: &str, rseq: u32) -> bool {
        if self.cseq != cseq {
            (self.cseq, self.last) = (cseq, BTreeMap::new());
        }
        let next = self.last.get(tag).is_none_or(|last| last.checked_add(1) == Some(rseq));
        let room = self.last.contains_key(tag) || self.last.len() < MAX_FORKS;
        if next && room {
            self.last.insert(tag.to_owned(), rseq);
        }
        next && room
    }
}

/// The number of an answer that is to be confirmed.
fn rseq(response: &Response) -> Option<u32> {
    let reliable = response.status != Status::TRYING && response.headers.requires("100rel");
    response.headers.rseq().ok().flatten().filter(|_| reliable)
}

impl Endpoint {
    /// How to answer an INVITE provisionally that demands to be told for sure. The first RSeq is random
    /// (§3).
    pub(crate) fn reliable(&mut self, invite: &Request) -> Option<Reliable> {
        let cseq = invite.headers.cseq().ok()?.number;
        let first = self.rng.random_range(1..1 << 30);
        invite.headers.requires("100rel").then(|| Reliable::new(cseq, first))
    }

    /// Confirms a provisional answer to our INVITE, if it is a reliable one (§4).
    pub(crate) fn acknowledge(
        &mut self,
        now: Instant,
        id: DialogId,
        response: &Response,
        out: &mut Vec<Transmit>,
    ) {
        let (Some(rseq), Ok(cseq)) = (rseq(response), response.headers.cseq()) else { return };
        let rack = RAck { rseq, cseq: cseq.number, method: cseq.method };
        let Some((held, _)) = self.call(id).filter(|(held, _)| held.is_formed()) else { return };
        let prack = held.request(Method::Prack).with(Name::RACK, rack);
        self.send_in(now, id, prack, Purpose::Nobody, out);
    }

    /// Takes a PRACK (§3). An offer in it is the user's to answer (§5).
    pub(crate) fn handle_prack(
        &mut self,
        now: Instant,
        flow: Flow,
        id: DialogId,
        request: Request,
        out: &mut Vec<Transmit>,
    ) {
        let Ok(Some(rack)) = request.headers.rack() else {
            let response = Response::new(Status::BAD_REQUEST).with_reason("RAck Header Needed");
            return self.conclude(now, flow, &request, response, out);
        };
        let call = self.call(id).map(|(_, call)| call);
        let updating = call.as_ref().is_some_and(|call| call.update.is_some());
        let reliable = call.and_then(|call| call.reliable.as_mut());
        let confirmed = reliable.and_then(|it| it.confirm(&rack).then(|| it.take_next()));
        let Some(next) = confirmed else {
            let response = Response::new(Status::CALL_DOES_NOT_EXIST);
            return self.conclude(now, flow, &request, response, out);
        };
        self.wake_call(id);
        if request.body.is_empty() {
            self.conclude(now, flow, &request, Response::new(Status::OK), out);
        } else if updating {
            let response = Response::new(Status::SERVER_INTERNAL_ERROR);
            let response = response.with(Name::RETRY_AFTER, RetryAfter::new(5));
            self.conclude(now, flow, &request, response, out);
        } else {
            self.open_update(now, flow, id, request, out);
        }
        if let Some(next) = next {
            self.answer(now, id, next, out);
        }
    }
}

/// Callees of one INVITE whose answers are confirmed.
const MAX_FORKS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_in_order_from_each_callee() {
        let mut heard = Heard::default();
        for (cseq, tag, rseq, expected) in [
            (1, "a", 7, true),
            (1, "a", 7, false),
            (1, "a", 9, false),
            (1, "a", 8, true),
            (1, "b", 1, true),
            (1, "a", 9, true),
            (2, "a", 1, true),
            (2, "a", u32::MAX, false),
        ] {
            assert_eq!(heard.take(cseq, tag, rseq), expected, "{cseq} {tag} {rseq}");
        }
        for n in 0..100 {
            heard.take(2, &n.to_string(), 1);
        }
        assert_eq!(heard.last.len(), MAX_FORKS);
    }
}
