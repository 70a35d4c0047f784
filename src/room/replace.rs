//! A call that takes the place of another (RFC 3891, RFC 4579 §5.9): somebody moves to another device and
//! stays who and where they are, or a moderator takes a call over.

use super::person::{Caller, Leg, Who};
use super::standing::{Affiliation, Role};
use super::{Arrival, By, Ending, Fact, Policy, Refusal, Room};
use crate::clock::Now;
use crate::id::LegId;

impl Room {
    /// Brings in `leg` in the place of `old`. Whose call that is already needs no leave to enter; a moderator
    /// comes by the checks of any call, and may not rank below whom they relieve.
    #[expect(clippy::too_many_arguments, reason = "a call, and the one whose place it takes")]
    pub(super) fn replace(
        &mut self,
        now: Now,
        policy: &Policy,
        leg: LegId,
        old: LegId,
        caller: Caller,
        password: Option<&str>,
        media_agreed: bool,
    ) -> Result<Vec<Fact>, Refusal> {
        let person = self.by_leg(old).ok_or(Refusal::NoSuchCall)?;
        // Whose address is not proven well enough takes no place, not even what looks like their own.
        if caller.proof < policy.identity_floor {
            return Err(Refusal::Forbidden);
        }
        if person.who != caller.who {
            let rank = self.affiliation(&caller.who);
            if !self.moderates(&caller.who) || rank < self.affiliation(&person.who) {
                return Err(Refusal::Forbidden);
            }
            let mut facts = self.call(now, policy, leg, caller, password, media_agreed)?;
            facts.extend(self.hang_up(&By::Leg(old), Ending::Replaced)?);
            return Ok(facts);
        }
        if !media_agreed {
            return Err(Refusal::NoCommonMedia);
        }
        if self.by_leg(leg).is_some() {
            return Err(Refusal::NotAllowed);
        }
        let id = person.id;
        let at = Leg { caller, since: now.utc, hold: false, sends: true };
        self.people.add_leg(id, leg, at);
        let was = self.people.remove_leg(old).expect("by_leg found it");
        let entered = Fact::CallEntered { person: id, leg, arrival: Arrival::Joined };
        Ok(vec![entered, Fact::CallLeft { person: id, leg: old, was, ending: Ending::Replaced }])
    }

    fn moderates(&self, who: &Who) -> bool {
        self.affiliation(who) >= Affiliation::Admin
            || self.people.all_of(who).any(|person| person.role == Role::Moderator)
    }
}
