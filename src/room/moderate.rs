//! Keeping order: roles, affiliations, the lock, the configuration, the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use jid::BareJid;
use minidom::Element;

use super::history::{Kind, Payload, Said};
use super::person::{Person, Who};
use super::settings::Settings;
use super::standing::{Affiliation, Role};
use super::{Actor, Asker, By, Change, Departure, Fact, Invited, Mark, Refusal, Room, RoomEnd};
use crate::clock::Now;
use crate::id::PersonId;

impl Room {
    /// All changes or none (XEP-0045 §9.2).
    pub(super) fn moderate(
        &mut self,
        now: Now,
        by: &By,
        changes: &[Change],
    ) -> Result<Vec<Fact>, Refusal> {
        let asker = self.asker(by);
        if let [change] = changes {
            self.check(&asker, change)?;
            self.keeps_an_owner(changes)?;
            return Ok(self.make(now, &asker, change));
        }
        // Each change is checked against what those before it made, so on a copy.
        let mut next = self.clone();
        let mut facts = vec![];
        for change in changes {
            // Who is out already by an earlier change need not be thrown out.
            if let Change::Role { nick, role: None, .. } = change
                && self.by_nick(nick).is_some()
                && next.by_nick(nick).is_none()
            {
                continue;
            }
            next.check(&asker, change)?;
            facts.extend(next.make(now, &asker, change));
        }
        self.keeps_an_owner(changes)?;
        *self = next;
        Ok(facts)
    }

    fn check(&self, asker: &Asker, change: &Change) -> Result<(), Refusal> {
        match change {
            Change::Role { nick, role, .. } => {
                asker.may_moderate()?;
                let target = self.by_nick(nick).ok_or(Refusal::NoSuchPerson)?;
                self.may_change_role(asker, target, *role)
            }
            Change::Affiliation { who, affiliation, .. } => {
                self.may_change_affiliation(asker, who, *affiliation)
            }
            Change::Nick { jid, nick } => self.may_keep_nick(asker, jid, nick.as_ref()),
        }
    }

    fn make(&mut self, now: Now, asker: &Asker, change: &Change) -> Vec<Fact> {
        match change {
            Change::Role { nick, role, reason } => {
                let target = self.by_nick(nick).expect("checked");
                let (id, who) = (target.id, target.who.clone());
                match role {
                    None => {
                        let by = asker.actor.clone();
                        self.remove(id, Departure::Kicked, by, reason.clone()).into_iter().collect()
                    }
                    Some(role) => self.give_role(now, asker, &who, *role, reason.clone()),
                }
            }
            Change::Affiliation { who, affiliation, reason } => {
                self.set_affiliation(now, asker, who, *affiliation, reason.as_ref())
            }
            Change::Nick { jid, nick } => self.keep_nick(jid, nick.clone()),
        }
    }

    /// In a members-only room an invitation by an admin makes a member, and by members too if the
    /// owner wants that (XEP-0045 §7.8.2).
    pub(super) fn invite(
        &mut self,
        now: Now,
        by: &By,
        people: &[Invited],
    ) -> Result<Vec<Fact>, Refusal> {
        let asker = self.asker(by);
        asker.person.ok_or(Refusal::NotHere)?;
        let members_may = self.settings.allow_invites;
        asker.at_least(if members_may { Affiliation::Member } else { Affiliation::Admin })?;
        for Invited { jid, .. } in people {
            let who = Who::Jid(jid.clone());
            if jid.node().is_none() || self.affiliation(&who) == Affiliation::Outcast {
                return Err(Refusal::NotAllowed);
            }
        }
        if self.affiliations.len() + people.len() > MAX_AFFILIATIONS {
            return Err(Refusal::TooMany);
        }
        let mut facts = vec![];
        for Invited { jid, reason } in people {
            let who = Who::Jid(jid.clone());
            if self.affiliation(&who) == Affiliation::None {
                let member = Affiliation::Member;
                facts.extend(self.set_affiliation(now, &asker, &who, member, reason.as_ref()));
            }
        }
        Ok(facts)
    }

    /// XEP-0045 §8.2 to §8.5, §9.6, §9.7.
    fn may_change_role(
        &self,
        asker: &Asker,
        target: &Person,
        role: Option<Role>,
    ) -> Result<(), Refusal> {
        let affiliation = self.affiliation(&target.who);
        // Who ranks higher may be raised, and not thrown out or lowered.
        if affiliation > asker.affiliation && role < Some(target.role) {
            return Err(Refusal::NotAllowed);
        }
        match role {
            None if asker.person == Some(target.id) => Err(Refusal::NotToYourself),
            // A kick by a moderator without affiliation does not reach another moderator.
            None if target.role == Role::Moderator && asker.affiliation < Affiliation::Admin => {
                Err(Refusal::NotAllowed)
            }
            None => Ok(()),
            // Admins and owners are moderators; nothing below their affiliation changes that.
            Some(role) if affiliation >= Affiliation::Admin && role < Role::Moderator => {
                Err(Refusal::NotAllowed)
            }
            Some(role) if role == Role::Moderator || target.role == Role::Moderator => {
                asker.at_least(Affiliation::Admin)
            }
            Some(_) => Ok(()),
        }
    }

    /// XEP-0045 §5.2.2, §9.1, §10.4.
    fn may_change_affiliation(
        &self,
        asker: &Asker,
        who: &Who,
        affiliation: Affiliation,
    ) -> Result<(), Refusal> {
        asker.at_least(Affiliation::Admin)?;
        if asker.who.as_ref() == Some(who) && affiliation == Affiliation::Outcast {
            return Err(Refusal::NotToYourself);
        }
        match who {
            Who::Jid(jid) if self.admins.contains(jid) && affiliation != Affiliation::Owner => {
                return Err(Refusal::NotAllowed);
            }
            // Power is of people, not of a whole domain.
            Who::Jid(jid) if jid.node().is_none() && affiliation >= Affiliation::Admin => {
                return Err(Refusal::NotAllowed);
            }
            // Nothing can be kept of who is nobody: they can only be thrown out.
            Who::Unknown(_) if affiliation != Affiliation::Outcast => {
                return Err(Refusal::NotAllowed);
            }
            Who::Jid(_) | Who::Aor(_) | Who::Unknown(_) => {}
        }
        let power = self.affiliation(who).max(affiliation);
        if power >= Affiliation::Admin && asker.affiliation < Affiliation::Owner {
            let ban = affiliation == Affiliation::Outcast;
            return Err(if ban { Refusal::NotAllowed } else { Refusal::Forbidden });
        }
        if affiliation == Affiliation::None { Ok(()) } else { self.has_room_for_affiliation(who) }
    }

    pub(super) fn has_room_for_affiliation(&self, who: &Who) -> Result<(), Refusal> {
        let grows = !self.affiliations.contains_key(who);
        if grows && self.affiliations.len() >= MAX_AFFILIATIONS {
            return Err(Refusal::TooMany);
        }
        Ok(())
    }

    fn keeps_an_owner(&self, changes: &[Change]) -> Result<(), Refusal> {
        let mut owners: BTreeSet<&Who> = self
            .affiliations
            .iter()
            .filter(|(_, affiliation)| **affiliation == Affiliation::Owner)
            .map(|(who, _)| who)
            .collect();
        let had_one = !owners.is_empty();
        for change in changes {
            if let Change::Affiliation { who, affiliation, .. } = change {
                if *affiliation == Affiliation::Owner {
                    owners.insert(who);
                } else {
                    owners.remove(who);
                }
            }
        }
        if had_one && owners.is_empty() { Err(Refusal::LastOwner) } else { Ok(()) }
    }

    /// Gives an affiliation, and to everyone here whom it concerns the role that goes with it, or
    /// the door.
    pub(super) fn set_affiliation(
        &mut self,
        now: Now,
        asker: &Asker,
        who: &Who,
        new: Affiliation,
        reason: Option<&String>,
    ) -> Vec<Fact> {
        let (by, reason) = (asker.actor.clone(), reason.cloned());
        let mut facts = vec![];
        if matches!(who, Who::Unknown(_)) {
            let ids: Vec<_> = self.people.all_of(who).map(|person| person.id).collect();
            for id in ids {
                facts.extend(self.remove(id, Departure::Banned, by.clone(), reason.clone()));
            }
            return facts;
        }
        // A domain's affiliation is that of everyone there who has none of their own.
        let before = self.affiliations_of_people();
        let old = self.affiliations.get(who).copied().unwrap_or_default();
        if new == Affiliation::None {
            self.affiliations.remove(who);
        } else {
            self.affiliations.insert(who.clone(), new);
        }
        if old != new {
            let (who, by, reason) = (who.clone(), by.clone(), reason.clone());
            facts.push(Fact::AffiliationChanged { who, old, new, reason, by });
        }
        if let Who::Jid(jid) = who {
            facts.extend(self.end_request(jid));
            if new < Affiliation::Member {
                facts.extend(self.release_nick(jid));
            }
        }
        facts.extend(self.settle(now, before, by.as_ref(), reason.as_ref()));
        facts
    }

    /// Puts other service admins over the room.
    pub(super) fn set_admins(&mut self, now: Now, admins: Arc<BTreeSet<BareJid>>) -> Vec<Fact> {
        let before = self.affiliations_of_people();
        self.admins = admins;
        self.settle(now, before, None, None)
    }

    fn affiliations_of_people(&self) -> Vec<(PersonId, Affiliation)> {
        self.people.values().map(|person| (person.id, self.affiliation(&person.who))).collect()
    }

    /// Gives everyone here whose affiliation is another than before what goes with it.
    fn settle(
        &mut self,
        now: Now,
        before: Vec<(PersonId, Affiliation)>,
        by: Option<&Actor>,
        reason: Option<&String>,
    ) -> Vec<Fact> {
        let mut facts = vec![];
        for (id, old) in before {
            let Some(person) = self.people.get(id) else { continue };
            let new = self.affiliation(&person.who);
            if new == old {
                continue;
            }
            let departure = match new {
                Affiliation::Outcast => Some(Departure::Banned),
                Affiliation::None if self.settings.members_only => Some(Departure::MembershipLost),
                Affiliation::None
                | Affiliation::Member
                | Affiliation::Admin
                | Affiliation::Owner => None,
            };
            match departure {
                Some(departure) => {
                    facts.extend(self.remove(id, departure, by.cloned(), reason.cloned()));
                }
                None => {
                    facts.extend(self.follow_affiliation(
                        now,
                        id,
                        old,
                        by.cloned(),
                        reason.cloned(),
                    ));
                }
            }
        }
        facts
    }

    /// The role that someone has with a new affiliation (XEP-0045 §5.1.3), and their voice.
    fn follow_affiliation(
        &mut self,
        now: Now,
        id: PersonId,
        old: Affiliation,
        by: Option<Actor>,
        reason: Option<String>,
    ) -> Vec<Fact> {
        let Some(person) = self.people.get(id) else { return vec![] };
        let new = self.affiliation(&person.who);
        let default = self.default_role(new);
        let person = self.people.get_mut(id).expect("found above");
        let (role, mutes) = (person.role, person.mutes.clone());
        person.role = if new >= Affiliation::Admin || old >= Affiliation::Admin {
            default
        } else if new == Affiliation::Member && person.mutes.moderator.is_none() {
            role.max(Role::Participant)
        } else {
            role
        };
        match person.role {
            Role::Visitor if !person.mutes.any_but_own() => {
                person.mutes.room = Some(Mark { since: now.utc, by: None });
            }
            Role::Visitor => {}
            Role::Participant => person.mutes.room = None,
            Role::Moderator => (person.mutes.room, person.mutes.moderator) = (None, None),
        }
        let mut facts =
            vec![Fact::StandingChanged { person: id, role, affiliation: old, by, reason }];
        if person.mutes != mutes {
            facts.push(Fact::MuteChanged { person: id, old: mutes });
        }
        facts
    }

    /// XEP-0425 §4. That there is such a message is for the asker to know: the archive goes farther
    /// back than the room remembers.
    pub(super) fn retract(
        &mut self,
        now: Now,
        by: &By,
        id: String,
        tombstone: Arc<Element>,
        announcement: Payload,
    ) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).may_moderate()?;
        self.history.bury(&id, &tombstone);
        let said = Said {
            author: None,
            id: announcement.stanza_id.clone(),
            at: now.utc,
            kind: Kind::Message,
            payload: announcement,
        };
        self.history.push(said.clone(), self.settings.history);
        Ok(vec![Fact::Retracted { id, tombstone, said }])
    }

    pub(super) fn lock(&mut self, by: &By, locked: bool) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).may_moderate()?;
        if self.locked == locked {
            return Ok(vec![]);
        }
        self.locked = locked;
        Ok(vec![Fact::LockChanged])
    }

    pub(super) fn configure(
        &mut self,
        now: Now,
        by: &By,
        settings: Settings,
        affiliations: &[Change],
    ) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).at_least(Affiliation::Owner)?;
        let settings = settings.checked()?;
        // Who becomes an admin by this is not thrown out by it.
        let mut facts = self.moderate(now, by, affiliations)?;
        let first = !self.configured;
        if !first && settings == self.settings {
            return Ok(facts);
        }
        let old = std::mem::replace(&mut self.settings, settings);
        self.configured = true;
        self.history.keep(self.settings.history);
        if self.settings.members_only && !old.members_only {
            let strangers: Vec<_> = self
                .people
                .values()
                .filter(|person| self.affiliation(&person.who) < Affiliation::Member)
                .map(|person| person.id)
                .collect();
            for id in strangers {
                facts.extend(self.remove(id, Departure::MembersOnly, None, None));
            }
        }
        if old.moderated && !self.settings.moderated {
            facts.extend(self.give_everyone_voice());
        }
        facts.insert(0, Fact::Configured { old: Box::new(old), first });
        Ok(facts)
    }

    /// A room that is no longer moderated mutes nobody; what its moderators did stays.
    fn give_everyone_voice(&mut self) -> Vec<Fact> {
        let muted = self.people.values().filter(|person| person.mutes.room.is_some());
        let muted: BTreeSet<Who> = muted.map(|person| person.who.clone()).collect();
        let mut facts = vec![];
        for who in muted {
            facts.extend(self.change_voice(&who, None, None, |person| {
                if person.mutes.moderator.is_some() {
                    person.mutes.room = None;
                } else {
                    person.role = person.role.max(Role::Participant);
                    person.have_voice();
                }
            }));
        }
        facts
    }

    pub(super) fn cancel_configuration(&mut self, by: &By) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).at_least(Affiliation::Owner)?;
        if self.configured {
            return Ok(vec![]);
        }
        Ok(vec![self.end(RoomEnd::NeverConfigured)])
    }

    pub(super) fn destroy(
        &mut self,
        by: &By,
        reason: Option<String>,
        alternate: Option<BareJid>,
    ) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).at_least(Affiliation::Owner)?;
        Ok(vec![self.end(RoomEnd::Destroyed { reason, alternate })])
    }
}

/// Affiliations that one room may keep.
const MAX_AFFILIATIONS: usize = 20_000;
