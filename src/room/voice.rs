//! Who may be heard: mutes by three origins, hold, raised hands.

use super::standing::{Affiliation, Role};
use super::{By, Fact, Refusal, Room};
use crate::clock::Now;
use crate::id::PersonId;

impl Room {
    pub(super) fn mute_self(&mut self, now: Now, by: &By, on: bool) -> Result<Vec<Fact>, Refusal> {
        let asker = self.asker(by);
        let id = asker.person.ok_or(Refusal::NotHere)?;
        let person = self.people.get_mut(&id).expect("asker found it");
        if person.mutes.own.is_some() == on {
            return Ok(vec![]);
        }
        let old = person.mutes.clone();
        person.mutes.own = on.then(|| asker.mark(now));
        Ok(vec![Fact::MuteChanged { person: id, old }])
    }

    /// Unmuting someone without voice gives it back: voice is one thing on both sides.
    pub(super) fn mute(
        &mut self,
        now: Now,
        by: &By,
        id: PersonId,
        on: bool,
    ) -> Result<Vec<Fact>, Refusal> {
        let asker = self.asker(by);
        asker.may_moderate()?;
        let person = self.people.get(&id).ok_or(Refusal::NoSuchPerson)?;
        if self.affiliation(&person.who) > asker.affiliation {
            return Err(Refusal::NotAllowed);
        }
        let (role, affiliation) = (person.role, self.affiliation(&person.who));
        let person = self.people.get_mut(&id).expect("found above");
        let old = person.mutes.clone();
        let mut facts = vec![];
        if on {
            person.mutes.moderator.get_or_insert_with(|| asker.mark(now));
        } else {
            person.mutes.moderator = None;
            person.mutes.room = None;
            person.role = role.max(Role::Participant);
            person.hand = None;
        }
        if person.role != role {
            let by = asker.actor;
            facts.push(Fact::StandingChanged { person: id, role, affiliation, by, reason: None });
        }
        if person.mutes != old {
            facts.push(Fact::MuteChanged { person: id, old });
        }
        Ok(facts)
    }

    pub(super) fn change_leg(
        &mut self,
        by: &By,
        hold: bool,
        sends: bool,
    ) -> Result<Vec<Fact>, Refusal> {
        let By::Leg(leg) = *by else { return Err(Refusal::NotHere) };
        let id = self.asking_person(by)?;
        let person = self.people.get_mut(&id).expect("asking_person found it");
        let at = person.legs.get_mut(&leg).expect("the person was found by this leg");
        if (at.hold, at.sends) == (hold, sends) {
            return Ok(vec![]);
        }
        let was = at.clone();
        (at.hold, at.sends) = (hold, sends);
        Ok(vec![Fact::LegChanged { person: id, leg, was }])
    }

    pub(super) fn raise_hand(&mut self, now: Now, by: &By, up: bool) -> Result<Vec<Fact>, Refusal> {
        let id = self.asking_person(by)?;
        let person = self.people.get_mut(&id).expect("asking_person found it");
        if person.hand.is_some() == up {
            return Ok(vec![]);
        }
        person.hand = up.then_some(now.utc);
        Ok(vec![Fact::HandChanged { person: id }])
    }

    /// Takes or gives voice with a role: no voice is a mute by the moderator who took it.
    pub(super) fn voice_follows_role(
        &mut self,
        now: Now,
        id: PersonId,
        by: &super::Asker,
    ) -> Option<Fact> {
        let affiliation = self.affiliation(&self.people.get(&id)?.who);
        let person = self.people.get_mut(&id)?;
        let old = person.mutes.clone();
        if person.role == Role::Visitor {
            person.mutes.moderator.get_or_insert_with(|| by.mark(now));
        } else {
            person.mutes.moderator = None;
            person.mutes.room = None;
            person.hand = None;
        }
        debug_assert!(affiliation < Affiliation::Admin || person.role == Role::Moderator);
        (person.mutes != old).then_some(Fact::MuteChanged { person: id, old })
    }
}
