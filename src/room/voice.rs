//! Who may be heard: mutes by three origins, hold, raised hands.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::person::{Person, Who};
use super::standing::{Affiliation, Role};
use super::{Actor, Asker, By, Fact, Refusal, Room};
use crate::clock::Now;
use crate::id::{Nick, PersonId};

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

    /// Mutes everyone on the call but moderators, the asker, and who ranks above the asker; or lifts
    /// what moderators muted, without giving voice to who has none.
    pub(super) fn mute_all(&mut self, now: Now, by: &By, on: bool) -> Result<Vec<Fact>, Refusal> {
        let asker = self.asker(by);
        asker.may_moderate()?;
        let reached = |person: &&Person| {
            !person.legs.is_empty()
                && (Role::Participant..Role::Moderator).contains(&person.role)
                && asker.who.as_ref() != Some(&person.who)
                && self.affiliation(&person.who) <= asker.affiliation
        };
        let whos: BTreeSet<Who> =
            self.people.values().filter(reached).map(|person| person.who.clone()).collect();
        let mark = asker.mark(now);
        let mut facts = vec![];
        for who in whos {
            facts.extend(self.change_voice(&who, asker.actor.clone(), None, |person| {
                if on {
                    person.mutes.moderator.get_or_insert_with(|| mark.clone());
                } else {
                    person.have_voice();
                }
            }));
        }
        Ok(facts)
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

    /// A hand that asks for voice is a voice request to the moderators as well (XEP-0045 §7.13).
    pub(super) fn raise_hand(&mut self, now: Now, by: &By, up: bool) -> Result<Vec<Fact>, Refusal> {
        let id = self.asking_person(by)?;
        let mut facts = self.turn_hand(id, up.then_some(now.utc));
        if up && !facts.is_empty() && !self.people[&id].has_voice() {
            facts.push(Fact::VoiceRequested { person: id });
        }
        Ok(facts)
    }

    /// XEP-0045 §7.13; asked once more, it is a reminder.
    pub(super) fn request_voice(&mut self, now: Now, by: &By) -> Result<Vec<Fact>, Refusal> {
        let id = self.asking_person(by)?;
        if self.people[&id].has_voice() {
            return Err(Refusal::NotAllowed);
        }
        let mut facts = self.turn_hand(id, Some(now.utc));
        facts.push(Fact::VoiceRequested { person: id });
        Ok(facts)
    }

    /// A moderator's no to who asked for voice (XEP-0045 §8.6).
    pub(super) fn lower_hand(&mut self, by: &By, nick: &Nick) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).may_moderate()?;
        let id = self.by_nick(nick).ok_or(Refusal::NoSuchPerson)?.id;
        Ok(self.turn_hand(id, None))
    }

    /// Raises a hand at a moment, unless it is up, or lowers it.
    fn turn_hand(&mut self, id: PersonId, up: Option<SystemTime>) -> Vec<Fact> {
        let Some(person) = self.people.get_mut(id) else { return vec![] };
        if person.hand.is_some() == up.is_some() {
            return vec![];
        }
        person.hand = up;
        vec![Fact::HandChanged { person: id }]
    }
}
