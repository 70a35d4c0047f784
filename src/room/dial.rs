//! Calls that a room makes: whom a moderator wants in, until they answer or the call fails
//! (RFC 4579 §5.2, §5.5).

use std::time::SystemTime;

use super::person::{Caller, Who};
use super::standing::Affiliation;
use super::{Actor, By, Departure, Fact, Intake, Policy, Refusal, Room};
use crate::clock::Now;
use crate::id::{DialId, LegId};

/// Whom to call, and who that will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callee {
    /// Where they are called: a SIP URI, which the phone face reads.
    pub uri: String,
    /// Who answers there, as far as is known.
    pub person: Caller,
    /// They were invited to the chat already.
    pub invited: bool,
    /// The call of theirs that ours is to take the place of, as Replaces names it (RFC 4579 §5.10).
    pub replaces: Option<String>,
    /// The URI of who asked for it by phone (RFC 3892), unless they want to be nobody.
    pub referred_by: Option<String>,
}

impl Callee {
    /// Somebody who is called.
    pub fn new(uri: String, person: Caller) -> Self {
        Self { uri, person, invited: false, replaces: None, referred_by: None }
    }
}

/// A call that the room makes and nobody has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Its number in this room.
    pub id: DialId,
    /// Who is called.
    pub callee: Callee,
    /// Who wanted it; `None` for an operator.
    pub by: Option<Actor>,
    /// Since when.
    pub since: SystemTime,
}

/// How a call of the room ended: each ends once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialEnd {
    /// It was answered: the callee is in.
    Answered,
    /// It was given up: by a moderator, or because the callee was thrown out meanwhile.
    Cancelled,
    /// It was refused, or never got through.
    Failed {
        /// A SIP status that says how.
        status: u16,
        /// For people.
        text: String,
    },
    /// It was answered, and by then the room had reasons to keep the callee out.
    KeptOut(Refusal),
}

impl Room {
    /// The checks of someone who comes, in their order, for someone who is called; a moderator's wish
    /// is as good as the password.
    pub(super) fn dial(
        &mut self,
        now: Now,
        policy: &Policy,
        by: &By,
        callee: Callee,
    ) -> Result<Vec<Fact>, Refusal> {
        let asker = self.asker(by);
        asker.may_moderate()?;
        if policy.intake > Intake::Open {
            return Err(Refusal::Draining);
        }
        self.may_be_let_in(policy, &callee.person)?;
        if self.dials.values().any(|dial| dial.callee.uri == callee.uri) {
            return Err(Refusal::AlreadyCalled);
        }
        if self.dials.len() >= MAX_DIALS {
            return Err(Refusal::TooMany);
        }
        let id = DialId(self.next_dial);
        self.next_dial += 1;
        let dial = Dial { id, callee, by: asker.actor, since: now.utc };
        self.dials.insert(id, dial);
        Ok(vec![Fact::Dialled { dial: id }])
    }

    pub(super) fn end_dial(
        &mut self,
        by: &By,
        dial: DialId,
        end: DialEnd,
    ) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).may_moderate()?;
        let was = Box::new(self.dials.remove(&dial).ok_or(Refusal::NoSuchCall)?);
        Ok(vec![Fact::DialEnded { was, end }])
    }

    /// Much may have changed while it rang, so what was checked then is checked again.
    pub(super) fn connect(
        &mut self,
        now: Now,
        policy: &Policy,
        dial: DialId,
        leg: LegId,
    ) -> Result<Vec<Fact>, Refusal> {
        let was = self.dials.remove(&dial).ok_or(Refusal::NoSuchCall)?;
        let callee = was.callee.person.clone();
        let entered =
            self.may_be_let_in(policy, &callee).and_then(|()| self.seat(now, policy, leg, callee));
        let end = match &entered {
            Ok(_) => DialEnd::Answered,
            Err(refusal) => DialEnd::KeptOut(*refusal),
        };
        let ended = Fact::DialEnded { was: Box::new(was), end };
        Ok(std::iter::once(ended).chain(entered).collect())
    }

    fn may_be_let_in(&self, policy: &Policy, callee: &Caller) -> Result<(), Refusal> {
        if policy.intake == Intake::Closed {
            return Err(Refusal::Draining);
        }
        if !self.configured {
            return Err(Refusal::NotConfigured);
        }
        let affiliation = self.affiliation(&callee.who);
        if self.is_banned(callee) {
            return Err(Refusal::Banned);
        }
        if self.settings.members_only && affiliation < Affiliation::Member {
            return Err(Refusal::MembersOnly);
        }
        if !self.settings.calls {
            return Err(Refusal::NoCalls);
        }
        if self.is_here(&callee.who) {
            return Ok(());
        }
        self.has_place(policy, &callee.who, affiliation)
    }

    /// Whoever was thrown out or banned is not called any more.
    pub(super) fn end_dials_after(&mut self, facts: &[Fact]) -> Vec<Fact> {
        if self.dials.is_empty() {
            return vec![];
        }
        let mut out = vec![];
        for fact in facts {
            if let Fact::Gone { was, departure, .. } = fact {
                match departure {
                    Departure::Left | Departure::Lost => {}
                    Departure::Kicked
                    | Departure::Banned
                    | Departure::MembershipLost
                    | Departure::MembersOnly
                    | Departure::Shutdown => out.push(was.who.clone()),
                }
            }
        }
        // A ban may be of a whole domain.
        let ended: Vec<_> = self
            .dials
            .values()
            .filter(|dial| {
                let Caller { who, aor, .. } = &dial.callee.person;
                let address = aor.clone().map(Who::Aor);
                let gone = |it: &Who| it == who || Some(it) == address.as_ref();
                out.iter().any(gone) || self.is_banned(&dial.callee.person)
            })
            .map(|dial| dial.id)
            .collect();
        self.end_dials(|dial| ended.contains(&dial.id))
    }

    fn is_banned(&self, callee: &Caller) -> bool {
        let affiliation = self.affiliation(&callee.who);
        let address = callee.aor.clone().map(|aor| self.affiliation(&Who::Aor(aor)));
        affiliation < Affiliation::Admin
            && (affiliation == Affiliation::Outcast || address == Some(Affiliation::Outcast))
    }

    /// Gives up the calls that `which` names.
    pub(super) fn end_dials(&mut self, which: impl Fn(&Dial) -> bool) -> Vec<Fact> {
        let ended: Vec<_> = self.dials.values().filter(|dial| which(dial)).map(|d| d.id).collect();
        let ended = ended.into_iter().filter_map(|id| self.dials.remove(&id));
        ended.map(|was| Fact::DialEnded { was: Box::new(was), end: DialEnd::Cancelled }).collect()
    }
}

/// Calls that one room makes at a time.
const MAX_DIALS: usize = 16;
