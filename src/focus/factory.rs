//! The factory (RFC 4579 §5.4): one address that makes a conference for each call. It answers the call as that
//! conference, or says where it is (302).
//!
//! Of a conference that was only told of, nothing exists until its caller comes to it: it is promised to them
//! for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cusax_sip::flow::Flow;
use cusax_sip::message::{Request, Response, Status};
use cusax_sip::uri::SipUri;
use rand::Rng;

use super::Focus;
use super::door::overloaded;
use crate::clock::Now;
use crate::config::FactoryAnswer;
use crate::id::RoomName;
use crate::room::Rooms;
use crate::room::person::Who;

/// What the factory is told: `sip.factory` and `sip.factory_answer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factory {
    /// The user part of its address.
    pub user: String,
    /// What it does about a call.
    pub answer: FactoryAnswer,
}

/// Conferences that callers were told of and have not come to: to whom each is promised, and until when.
pub(super) type Promises = BTreeMap<RoomName, (Who, Instant)>;

impl Focus {
    /// The conference that a call is to make: a new one if it is to the factory, the one that its caller was
    /// promised, or none.
    pub(super) fn convenes(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Request,
        who: &Who,
        rooms: &Rooms,
    ) -> Result<Option<RoomName>, Box<Response>> {
        self.promises.retain(|_, (_, until)| *until > now.instant);
        if let Ok(name) = self.room_of(&request.uri, flow)
            && rooms.get(&name).is_none()
            && self.promises.get(&name).is_some_and(|(to, _)| to == who)
        {
            self.promises.remove(&name);
            return Ok(Some(name));
        }
        let Some(factory) = &self.config.factory else { return Ok(None) };
        let user = request.uri.as_sip().and_then(SipUri::user);
        let named = user.is_some_and(|user| user.eq_ignore_ascii_case(&factory.user));
        if !named || !self.is_ours(&request.uri, flow) {
            return Ok(None);
        }
        let answer = factory.answer;
        let name = self.new_name(rooms).ok_or_else(|| overloaded("No Conference Free"))?;
        match answer {
            FactoryAnswer::Accept => Ok(Some(name)),
            FactoryAnswer::Redirect if self.promises.len() >= MAX_PROMISES => {
                Err(overloaded("Too Many Conferences"))
            }
            FactoryAnswer::Redirect => {
                let contact = self.contact(&name, flow, request);
                self.promises.insert(name, (who.clone(), now.instant + PROMISED));
                let moved = Response::new(Status::MOVED_TEMPORARILY);
                Err(Box::new(moved.with_contact(&contact)))
            }
        }
    }

    /// The name of a conference that there is not: a number, which keypads can dial and nobody guesses.
    fn new_name(&mut self, rooms: &Rooms) -> Option<RoomName> {
        let names = (0..TRIES).map(|_| self.rng.random_range(LOWEST..LOWEST * 10).to_string());
        let names: Vec<_> = names.filter_map(|name| RoomName::new(&name).ok()).collect();
        let free = |name: &RoomName| rooms.get(name).is_none() && !self.promises.contains_key(name);
        names.into_iter().find(free)
    }
}

/// The lowest number of a conference: ten digits.
const LOWEST: u64 = 1_000_000_000;
/// Names that are tried.
const TRIES: usize = 8;
/// Conferences that are promised at a time.
const MAX_PROMISES: usize = 1_000;
/// How long a caller has to come to the conference that they were told of.
const PROMISED: Duration = Duration::from_secs(32);
