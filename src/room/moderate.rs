//! Keeping order: roles, affiliations, the lock, the configuration, the end.

use jid::BareJid;

use super::person::{Person, Who};
use super::settings::Settings;
use super::standing::{Affiliation, Role};
use super::{Asker, By, Change, Departure, Fact, Refusal, Room, RoomEnd};
use crate::clock::Now;

impl Room {
    /// All changes or none (XEP-0045 §9.2): each is checked before the first is made.
    pub(super) fn moderate(
        &mut self,
        now: Now,
        by: &By,
        changes: &[Change],
    ) -> Result<Vec<Fact>, Refusal> {
        let asker = self.asker(by);
        for change in changes {
            match change {
                Change::Role { nick, role, .. } => {
                    asker.may_moderate()?;
                    let target = self.by_nick(nick).ok_or(Refusal::NoSuchPerson)?;
                    self.may_change_role(&asker, target, *role)?;
                }
                Change::Affiliation { who, affiliation, .. } => {
                    self.may_change_affiliation(&asker, who, *affiliation)?;
                }
            }
        }
        self.keeps_an_owner(changes)?;
        let grown = self.affiliations.len() + changes.len();
        if grown > MAX_AFFILIATIONS {
            return Err(Refusal::TooMany);
        }

        let mut facts = vec![];
        for change in changes {
            match change {
                Change::Role { nick, role, reason } => {
                    let Some(id) = self.by_nick(nick).map(|person| person.id) else { continue };
                    let by = asker.actor.clone();
                    match role {
                        None => {
                            facts.extend(self.remove(id, Departure::Kicked, by, reason.clone()))
                        }
                        Some(role) => {
                            let affiliation = self.affiliation(&self.people[&id].who);
                            let person = self.people.get_mut(&id).expect("found by nick");
                            let old = std::mem::replace(&mut person.role, *role);
                            if old != *role {
                                facts.push(Fact::StandingChanged {
                                    person: id,
                                    role: old,
                                    affiliation,
                                    by,
                                    reason: reason.clone(),
                                });
                            }
                            facts.extend(self.voice_follows_role(now, id, &asker));
                        }
                    }
                }
                Change::Affiliation { who, affiliation, reason } => {
                    facts.extend(self.set_affiliation(&asker, who, *affiliation, reason.as_ref()));
                }
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
        if affiliation > asker.affiliation {
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
        let old = self.affiliation(who);
        let to_yourself = match who {
            Who::Jid(jid) => asker.jid.as_ref() == Some(jid),
            Who::Aor(_) | Who::Unknown(_) => false,
        };
        if to_yourself && affiliation == Affiliation::Outcast {
            return Err(Refusal::NotToYourself);
        }
        if matches!(who, Who::Jid(jid) if self.admins.contains(jid)) {
            return if affiliation == Affiliation::Owner {
                Ok(())
            } else {
                Err(Refusal::NotAllowed)
            };
        }
        if old.max(affiliation) >= Affiliation::Admin && asker.affiliation < Affiliation::Owner {
            let ban = affiliation == Affiliation::Outcast;
            return Err(if ban { Refusal::NotAllowed } else { Refusal::Forbidden });
        }
        Ok(())
    }

    fn keeps_an_owner(&self, changes: &[Change]) -> Result<(), Refusal> {
        let mut owners: std::collections::BTreeSet<&Who> = self
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

    fn set_affiliation(
        &mut self,
        asker: &Asker,
        who: &Who,
        new: Affiliation,
        reason: Option<&String>,
    ) -> Vec<Fact> {
        let old = self.affiliation(who);
        let (by, reason) = (asker.actor.clone(), reason.cloned());
        let here: Vec<_> =
            self.people.values().filter(|person| person.who == *who).map(|p| p.id).collect();
        let mut facts = vec![];
        let lasting = !matches!(who, Who::Unknown(_));
        if old != new && lasting {
            if new == Affiliation::None {
                self.affiliations.remove(who);
            } else {
                self.affiliations.insert(who.clone(), new);
            }
            let (who, by, reason) = (who.clone(), by.clone(), reason.clone());
            facts.push(Fact::AffiliationChanged { who, old, new, reason, by });
        }
        for id in here {
            if new == Affiliation::Outcast {
                facts.extend(self.remove(id, Departure::Banned, by.clone(), reason.clone()));
                continue;
            }
            if self.settings.members_only && new < Affiliation::Member {
                let departure = Departure::MembershipLost;
                facts.extend(self.remove(id, departure, by.clone(), reason.clone()));
                continue;
            }
            let default = self.default_role(new);
            let person = self.people.get_mut(&id).expect("listed above");
            let (role, mutes) = (person.role, person.mutes.clone());
            person.role = if new >= Affiliation::Admin {
                Role::Moderator
            } else if old >= Affiliation::Admin {
                default
            } else if new == Affiliation::Member && person.mutes.moderator.is_none() {
                role.max(Role::Participant)
            } else {
                role
            };
            if person.role > Role::Visitor {
                person.mutes.room = None;
            }
            if person.role == Role::Moderator {
                person.mutes.moderator = None;
            }
            let changed = person.mutes != mutes;
            if person.role != role || old != new {
                let (by, reason) = (by.clone(), reason.clone());
                facts.push(Fact::StandingChanged {
                    person: id,
                    role,
                    affiliation: old,
                    by,
                    reason,
                });
            }
            if changed {
                facts.push(Fact::MuteChanged { person: id, old: mutes });
            }
        }
        facts
    }

    pub(super) fn lock(&mut self, by: &By, locked: bool) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).may_moderate()?;
        if self.locked == locked {
            return Ok(vec![]);
        }
        self.locked = locked;
        Ok(vec![Fact::LockChanged])
    }

    pub(super) fn configure(&mut self, by: &By, settings: Settings) -> Result<Vec<Fact>, Refusal> {
        self.asker(by).at_least(Affiliation::Owner)?;
        let settings = settings.checked()?;
        let first = !self.configured;
        if !first && settings == self.settings {
            return Ok(vec![]);
        }
        let old = std::mem::replace(&mut self.settings, settings);
        self.configured = true;
        let mut facts = vec![];
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
        let admins = self.people.values().map(|p| (p.id, self.affiliation(&p.who)));
        let affiliations: Vec<_> = admins.collect();
        let mut facts = vec![];
        for (id, affiliation) in affiliations {
            let person = self.people.get_mut(&id).expect("listed above");
            if person.mutes.room.is_none() {
                continue;
            }
            let (old, role) = (person.mutes.clone(), person.role);
            person.mutes.room = None;
            if person.mutes.moderator.is_none() {
                person.role = role.max(Role::Participant);
            }
            if person.role != role {
                let (by, reason) = (None, None);
                facts.push(Fact::StandingChanged { person: id, role, affiliation, by, reason });
            }
            facts.push(Fact::MuteChanged { person: id, old });
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
