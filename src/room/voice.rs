//! Who may be heard: mutes by three origins, hold, raised hands.

use super::person::{Person, Who};
use super::standing::{Affiliation, Role};
use super::{Actor, Asker, By, Fact, Refusal, Room};
use crate::clock::Now;
use crate::id::PersonId;

impl Room {
    pub(super) fn mute_self(&mut self, now: Now, by: &By, on: bool) -> Result<Vec<Fact>, Refusal> {
        let asker = self.asker(by);
        let person = &self.people[&asker.person.ok_or(Refusal::NotHere)?];
        if person.mutes.own.is_some() == on {
            return Ok(vec![]);
        }
        let mark = on.then(|| asker.mark(now));
        let who = person.who.clone();
        Ok(self.change_voice(&who, None, None, |person| person.mutes.own = mark.clone()))
    }

    /// Mutes someone's audio and leaves their role alone; unmuting who has no voice gives it back,
    /// for voice is one thing on both sides.
    pub(super) fn mute(
        &mut self,
        now: Now,
        by: &By,
        id: PersonId,
        on: bool,
    ) -> Result<Vec<Fact>, Refusal> {
        let asker = self.asker(by);
        asker.may_moderate()?;
        let person = self.people.get(id).ok_or(Refusal::NoSuchPerson)?;
        let protected = person.role == Role::Moderator && asker.affiliation < Affiliation::Admin;
        if self.affiliation(&person.who) > asker.affiliation || protected {
            return Err(Refusal::NotAllowed);
        }
        let who = person.who.clone();
        let mark = asker.mark(now);
        Ok(self.change_voice(&who, asker.actor, None, |person| {
            if on {
                person.mutes.moderator.get_or_insert_with(|| mark.clone());
            } else {
                person.role = person.role.max(Role::Participant);
                person.have_voice();
            }
        }))
    }

    /// Gives a role to someone, under each of their nicks. No voice is a mute by the moderator who
    /// took it; voice is freedom from every mute but their own (XEP-0045 §8.3, §8.4).
    pub(super) fn give_role(
        &mut self,
        now: Now,
        asker: &Asker,
        who: &Who,
        role: Role,
        reason: Option<String>,
    ) -> Vec<Fact> {
        let mark = asker.mark(now);
        self.change_voice(who, asker.actor.clone(), reason, |person| {
            person.role = role;
            if role == Role::Visitor {
                person.mutes.moderator.get_or_insert_with(|| mark.clone());
            } else {
                person.have_voice();
            }
        })
    }

    /// Changes role and mutes of someone, under each of their nicks, and tells what of it is new.
    pub(super) fn change_voice(
        &mut self,
        who: &Who,
        by: Option<Actor>,
        reason: Option<String>,
        change: impl Fn(&mut Person),
    ) -> Vec<Fact> {
        let affiliation = self.affiliation(who);
        let mut facts = vec![];
        let ids: Vec<_> = self.people.all_of(who).map(|person| person.id).collect();
        for id in ids {
            let Some(person) = self.people.get_mut(id) else { continue };
            let (role, old, hand) = (person.role, person.mutes.clone(), person.hand);
            change(person);
            if person.role != role {
                let (by, reason) = (by.clone(), reason.clone());
                facts.push(Fact::StandingChanged { person: id, role, affiliation, by, reason });
            }
            if person.mutes != old {
                facts.push(Fact::MuteChanged { person: id, old });
            }
            if person.hand != hand {
                facts.push(Fact::HandChanged { person: id });
            }
        }
        facts
    }

    pub(super) fn change_leg(
        &mut self,
        by: &By,
        hold: bool,
        sends: bool,
    ) -> Result<Vec<Fact>, Refusal> {
        let By::Leg(leg) = *by else { return Err(Refusal::NotHere) };
        let id = self.asking_person(by)?;
        let person = self.people.get_mut(id).expect("asking_person found it");
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
        let person = self.people.get_mut(id).expect("asking_person found it");
        if person.hand.is_some() == up {
            return Ok(vec![]);
        }
        person.hand = up.then_some(now.utc);
        Ok(vec![Fact::HandChanged { person: id }])
    }
}
