//! Iqs from one occupant to another (XEP-0045 §17.4): each sees the other's occupant address alone.
//!
//! A question goes on with an id of ours, under which its answer comes back. So what is kept of it
//! is bounded, and given up after [`PATIENCE`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jid::Jid;
use minidom::Element;
use rand::RngCore;

use super::Muc;
use super::error::Fault;
use super::limits::{MAX_ID, MAX_MESSAGE};
use super::stanza::Head;
use super::xml::{self, Xml, ns};
use crate::clock::Now;
use crate::room::person::Person;
use crate::room::{Refusal, Room};
use crate::stanzas::Stanzas;

/// Questions on their way, by serial number and so by deadline.
#[derive(Debug, Default)]
pub(super) struct Relay {
    waiting: BTreeMap<u64, Question>,
    /// How many of them are whose.
    asked: BTreeMap<Jid, usize>,
    serial: u64,
}

/// A question that was passed on.
#[derive(Debug)]
struct Question {
    /// The id that it went on with; nobody else can know it.
    id: String,
    /// As it came.
    head: Head,
    /// Who is to answer.
    to: Jid,
    deadline: Instant,
}

impl Relay {
    fn ask(&mut self, now: Instant, head: &Head, to: Jid, secret: u64) -> Result<String, Fault> {
        let asked = self.asked.get(&head.from).copied().unwrap_or_default();
        if asked >= MAX_ASKED || self.waiting.len() >= MAX_WAITING {
            return Err(Refusal::TooMany.into());
        }
        self.serial += 1;
        let id = format!("{RELAY_ID}{}-{secret:016x}", self.serial);
        let question =
            Question { id: id.clone(), head: head.clone(), to, deadline: now + PATIENCE };
        *self.asked.entry(head.from.clone()).or_default() += 1;
        self.waiting.insert(self.serial, question);
        Ok(id)
    }

    /// The head of the question that `by` answers under this id.
    fn answered(&mut self, id: &str, by: &Jid) -> Option<Head> {
        let serial = id.strip_prefix(RELAY_ID)?.split('-').next()?.parse().ok()?;
        self.waiting.get(&serial).filter(|question| question.id == id && question.to == *by)?;
        self.settle(serial)
    }

    /// A question that nobody answered in time, if there is one.
    fn expired(&mut self, now: Instant) -> Option<Head> {
        let (serial, question) = self.waiting.first_key_value()?;
        let serial = *serial;
        if now < question.deadline { None } else { self.settle(serial) }
    }

    fn settle(&mut self, serial: u64) -> Option<Head> {
        let question = self.waiting.remove(&serial)?;
        if let Some(asked) = self.asked.get_mut(&question.head.from) {
            *asked -= 1;
            if *asked == 0 {
                self.asked.remove(&question.head.from);
            }
        }
        Some(question.head)
    }

    /// When the oldest question is given up.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.values().next().map(|question| question.deadline)
    }
}

impl Muc {
    /// Passes a question on to the session that stands for an occupant; a vCard is asked of the
    /// account, which keeps it (XEP-0054 §3.2).
    pub(super) fn pass_on(
        &mut self,
        now: Now,
        head: &Head,
        query: &Element,
        room: &Room,
        (asker, asked): (&Person, &Person),
        out: &mut Stanzas,
    ) -> Result<(), Fault> {
        let (chat, _) = self.chats.face(&room.name, asked).ok_or(Fault::unavailable())?;
        let of_account = query.is("vCard", ns::VCARD) && head.kind() == "get";
        let to: Jid = if of_account { chat.to_bare().into() } else { chat.clone().into() };
        let too_long = head.id.as_ref().is_some_and(|id| id.len() > MAX_ID);
        if too_long || xml::size(query) > MAX_MESSAGE {
            return Err(Fault::too_big("This iq is too large."));
        }
        let rate = self.config.rates.iqs;
        if let Some(session) = head.chat().and_then(|chat| self.chats.get_mut(&room.name, chat))
            && !session.iqs.admits(now.instant, rate, 1)
        {
            return Err(Fault::too_fast("Too many iqs at once: wait a moment."));
        }
        let id = self.relay.ask(now.instant, head, to.clone(), self.rng.next_u64())?;
        let passed = Xml::new("iq", ns::CLIENT)
            .attr("from", self.occupant(&room.name, &asker.nick))
            .attr("to", to.as_str())
            .attr("type", head.kind())
            .attr("id", id)
            .child(query.clone());
        out.push(passed.into());
        Ok(())
    }

    /// Passes an answer back, if it is one to a question of ours.
    pub(super) fn pass_back(&mut self, head: &Head, stanza: &Element, out: &mut Stanzas) -> bool {
        let Some(id) = head.id.as_deref() else { return false };
        let Some(question) = self.relay.answered(id, &head.from) else { return false };
        if xml::size(stanza) > MAX_ANSWER {
            let by = question.room_jid();
            out.push(Fault::too_big("The answer is too large.").bounce("iq", &question, None, by));
            return true;
        }
        let answer = Xml::new("iq", ns::CLIENT)
            .attr("from", question.to.as_str())
            .attr("to", question.from.as_str())
            .attr("type", head.kind())
            .maybe("id", question.id.as_ref())
            .children(stanza.children().map(|child| match child.name() {
                "error" if head.kind() == "error" => without_addresses(child),
                _ => child.clone(),
            }));
        out.push(answer.into());
        true
    }

    /// Tells those who asked what nobody answered.
    pub(super) fn give_up_iqs(&mut self, now: Now, out: &mut Stanzas) {
        while let Some(question) = self.relay.expired(now.instant) {
            let by = question.room_jid();
            out.push(Fault::no_answer().bounce("iq", &question, None, by));
        }
    }
}

/// An error without the addresses that its writer may have put in (RFC 6120 §8.3.1, §8.3.3.5,
/// §8.3.3.14).
fn without_addresses(error: &Element) -> Element {
    Xml::new("error", ns::CLIENT)
        .maybe("type", error.attr("type"))
        .children(error.children().map(|child| match child.name() {
            "gone" | "redirect" => Element::bare(child.name(), child.ns()),
            _ => child.clone(),
        }))
        .into()
}

/// What the id of a question begins with.
const RELAY_ID: &str = "relay-";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Questions of one session without an answer.
const MAX_ASKED: usize = 200;
/// Questions of all without an answer.
const MAX_WAITING: usize = 20_000;
/// The largest answer that is passed back, in bytes: a vCard with its picture.
const MAX_ANSWER: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn head(from: &str) -> Head {
        let (from, to) = (Jid::new(from).unwrap(), Jid::new("r@m.x/Nick").unwrap());
        Head { from, to, id: Some("i".to_owned()), kind: Some("get".to_owned()) }
    }

    #[test]
    fn holds_no_more_than_it_may_and_forgets_what_is_settled() {
        let now = Now::read().instant;
        let mut relay = Relay::default();
        let to = || Jid::new("b@x/y").unwrap();
        let ids: Vec<_> =
            (0..MAX_ASKED).map(|_| relay.ask(now, &head("a@x/y"), to(), 1).unwrap()).collect();
        assert!(relay.ask(now, &head("a@x/y"), to(), 1).is_err());
        assert!(relay.ask(now, &head("c@x/y"), to(), 1).is_ok());

        for (id, by, answered) in [
            ("", "b@x/y", false),
            ("relay-", "b@x/y", false),
            ("relay-1", "b@x/y", false),
            ("relay-1-0000000000000002", "b@x/y", false),
            (&ids[0], "b@x/other", false),
            (&ids[0], "b@x", false),
            (&ids[0], "b@x/y", true),
            (&ids[0], "b@x/y", false),
        ] {
            assert_eq!(relay.answered(id, &Jid::new(by).unwrap()).is_some(), answered, "{id} {by}");
        }
        assert!(relay.ask(now, &head("a@x/y"), to(), 1).is_ok());

        assert_eq!(relay.poll_timeout(), Some(now + PATIENCE));
        assert!(relay.expired(now).is_none());
        let mut given_up = 0;
        while relay.expired(now + PATIENCE).is_some() {
            given_up += 1;
        }
        assert_eq!(given_up, MAX_ASKED + 1);
        assert!(relay.asked.is_empty() && relay.poll_timeout().is_none());
    }
}
