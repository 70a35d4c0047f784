//! Coming: the ordered checks, nicks, and who is one with whom.

use std::collections::BTreeSet;

use super::person::{Caller, Leg, Mutes, Person, Who};
use super::standing::{Affiliation, Role};
use super::{Arrival, By, Fact, Intake, Mark, Policy, Refusal, Room};
use crate::clock::Now;
use crate::id::{LegId, MAX_NICK, Nick, PersonId};

impl Room {
    pub(super) fn enter_chat(
        &mut self,
        now: Now,
        policy: &Policy,
        by: &By,
        nick: Nick,
        password: Option<&str>,
    ) -> Result<Vec<Fact>, Refusal> {
        let By::Chat(chat) = by else { return Err(Refusal::Forbidden) };
        if let Some(person) = self.by_chat(chat) {
            if person.nick != nick {
                return self.rename(by, nick);
            }
            let (person, chat, arrival) = (person.id, chat.clone(), Arrival::Again);
            return Ok(vec![Fact::ChatEntered { person, chat, arrival }]);
        }
        let who = Who::Jid(chat.to_bare());
        let affiliation = self.may_enter(policy, &who)?;
        self.knows_password(&who, password)?;

        let named = self.by_nick(&nick);
        let own = named.filter(|person| person.who == who);
        let by_phone = || self.people.all_of(&who).find(|person| person.chats.is_empty());
        let here = own.or_else(by_phone).map(|person| person.id);
        if here.is_none() {
            self.has_place(policy, &who, affiliation)?;
        }
        let reserved = self.nicks.keep_out(&who, &nick);
        if reserved || is_phone_nick(&nick) || (named.is_some() && own.is_none()) {
            return Err(Refusal::NickTaken); // §7.2.8
        }
        let (id, arrival) = match here {
            Some(id) => (id, Arrival::Joined),
            None => (self.new_person(now, who, nick.clone()), Arrival::New),
        };
        let person = &self.people[&id];
        if person.chats.len() >= MAX_CHATS {
            return Err(Refusal::TooMany);
        }
        let mut facts = vec![];
        // A call that came before the chat named them as it could.
        if person.nick != nick && person.chats.is_empty() {
            let old = self.people.rename(id, nick);
            facts.extend(old.map(|old| Fact::Renamed { person: id, old }));
        }
        self.people.add_chat(id, chat.clone(), now.utc);
        facts.push(Fact::ChatEntered { person: id, chat: chat.clone(), arrival });
        Ok(facts)
    }

    pub(super) fn call(
        &mut self,
        now: Now,
        policy: &Policy,
        leg: LegId,
        caller: Caller,
        password: Option<&str>,
        media_agreed: bool,
    ) -> Result<Vec<Fact>, Refusal> {
        if policy.intake > Intake::Open {
            return Err(Refusal::Draining);
        }
        let who = caller.who.clone();
        let affiliation = self.may_enter(policy, &who)?;
        if affiliation < Affiliation::Admin
            && let Some(aor) = &caller.aor
            && self.affiliation(&Who::Aor(aor.clone())) == Affiliation::Outcast
        {
            return Err(Refusal::Banned); // A JID bound to a banned address is no way around.
        }
        // Nobody types a password into a phone whom the room knows already.
        if affiliation < Affiliation::Member {
            self.knows_password(&who, password)?;
        }
        if !self.is_here(&who) {
            self.has_place(policy, &who, affiliation)?;
        }
        if !media_agreed {
            return Err(Refusal::NoCommonMedia);
        }
        if self.by_leg(leg).is_some() {
            return Err(Refusal::NotAllowed);
        }
        self.seat(now, leg, caller).map(|fact| vec![fact])
    }

    /// Brings a leg in that passed all checks: to its person, if they are here in another way.
    pub(super) fn seat(&mut self, now: Now, leg: LegId, caller: Caller) -> Result<Fact, Refusal> {
        let who = caller.who.clone();
        let here = self.people.all_of(&who);
        let (id, arrival) = match here.max_by_key(|person| !person.chats.is_empty()) {
            Some(person) if person.legs.len() >= MAX_LEGS => return Err(Refusal::TooMany),
            Some(person) => (person.id, Arrival::Joined),
            None => {
                let nick = self.nick_for(&caller);
                (self.new_person(now, who, nick), Arrival::New)
            }
        };
        let at = Leg { caller, since: now.utc, hold: false, sends: true };
        self.people.add_leg(id, leg, at);
        Ok(Fact::CallEntered { person: id, leg, arrival })
    }

    pub(super) fn rename(&mut self, by: &By, nick: Nick) -> Result<Vec<Fact>, Refusal> {
        let id = self.asking_person(by)?;
        match self.by_nick(&nick) {
            Some(other) if other.id != id => return Err(Refusal::NickTaken),
            None if is_phone_nick(&nick) => return Err(Refusal::NickTaken),
            Some(_) | None => {}
        }
        if self.nicks.keep_out(&self.people[&id].who, &nick) {
            return Err(Refusal::NickTaken); // §7.6
        }
        if self.people[&id].nick == nick {
            return Ok(vec![]);
        }
        let old = self.people.rename(id, nick);
        Ok(old.map(|old| Fact::Renamed { person: id, old }).into_iter().collect())
    }

    /// The checks that no password helps against, in the order of XEP-0045 §7.2 (and of
    /// "Order of INVITE checks": exists, banned, members). Answers the affiliation.
    fn may_enter(&self, policy: &Policy, who: &Who) -> Result<Affiliation, Refusal> {
        let affiliation = self.affiliation(who);
        if policy.intake == Intake::Closed {
            return Err(Refusal::Draining);
        }
        if !self.configured && affiliation < Affiliation::Owner {
            return Err(Refusal::NotConfigured); // §7.2.10
        }
        if affiliation == Affiliation::Outcast {
            return Err(Refusal::Banned); // §7.2.7
        }
        if self.settings.members_only && affiliation < Affiliation::Member {
            return Err(Refusal::MembersOnly); // §7.2.6
        }
        Ok(affiliation)
    }

    /// Who is here in one way may come in the other without the password (§7.2.5).
    fn knows_password(&self, who: &Who, password: Option<&str>) -> Result<(), Refusal> {
        match &self.settings.password {
            Some(secret) if !self.is_here(who) && password != Some(secret) => {
                Err(Refusal::WrongPassword)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Lock and capacity, for one more person: admins and owners get in over both, up to
    /// [`RESERVED`] (§7.2.9); who is here may take another nick in a locked room.
    pub(super) fn has_place(
        &self,
        policy: &Policy,
        who: &Who,
        affiliation: Affiliation,
    ) -> Result<(), Refusal> {
        let reserved = if affiliation >= Affiliation::Admin { RESERVED } else { 0 };
        let nicks = self.people.all_of(who).count();
        if self.locked && reserved == 0 && nicks == 0 {
            return Err(Refusal::Locked);
        }
        let places = self.settings.max_users.unwrap_or(policy.max_people).min(policy.max_people);
        if self.people.len() >= places as usize + reserved {
            return Err(Refusal::Full);
        }
        if nicks >= MAX_NICKS {
            return Err(Refusal::TooMany);
        }
        Ok(())
    }

    /// Whether someone is here, in whichever way.
    pub fn is_here(&self, who: &Who) -> bool {
        self.people.all_of(who).next().is_some()
    }

    fn new_person(&mut self, now: Now, who: Who, nick: Nick) -> PersonId {
        let affiliation = self.affiliation(&who);
        let default = self.default_role(affiliation);
        let here = self.people.all_of(&who).next();
        let (role, mutes) = match (here, self.kept.remove(&who)) {
            (Some(here), _) => (here.role, here.mutes.clone()),
            (None, Some(mut kept)) => {
                kept.mutes.room = None;
                let role = match kept.role {
                    Some(role) if default < Role::Moderator => role.min(Role::Participant),
                    Some(Role::Visitor) => {
                        // They became an admin since.
                        kept.mutes.moderator = None;
                        default
                    }
                    Some(Role::Participant | Role::Moderator) | None => default,
                };
                (role, kept.mutes)
            }
            (None, None) => (default, Mutes::default()),
        };
        let mut mutes = mutes;
        if role == Role::Visitor && !mutes.any_but_own() {
            mutes.room = Some(Mark { since: now.utc, by: None });
        }
        let id = PersonId(self.next_person);
        self.next_person += 1;
        self.people.insert(Person {
            id,
            who,
            nick,
            role,
            chats: Default::default(),
            legs: Default::default(),
            mutes,
            hand: None,
            since: now.utc,
        });
        id
    }

    /// XEP-0045 §5.1.2.
    pub(super) fn default_role(&self, affiliation: Affiliation) -> Role {
        match affiliation {
            Affiliation::Owner | Affiliation::Admin => Role::Moderator,
            Affiliation::Member => Role::Participant,
            Affiliation::None | Affiliation::Outcast if self.settings.moderated => Role::Visitor,
            Affiliation::None | Affiliation::Outcast => Role::Participant,
        }
    }

    /// A free nick for a caller without chat: the name they are known by, marked unless the
    /// directory vouches for them, so that no caller can pass for someone in the chat.
    fn nick_for(&self, caller: &Caller) -> Nick {
        let (name, mark) = match &caller.who {
            // RFC 3323: asked not to be named, so not even by the directory.
            Who::Jid(_) | Who::Aor(_) | Who::Unknown(_) if caller.private => (None, PHONE),
            Who::Jid(jid) if self.registered_nick(jid).is_some() => {
                (self.registered_nick(jid).map(ToString::to_string), "")
            }
            Who::Jid(jid) => {
                let node = jid.node().map(|node| node.as_str().to_owned());
                (caller.name.clone().or(node), "")
            }
            Who::Aor(_) | Who::Unknown(_) => (caller.name.clone(), PHONE),
        };
        let fallback = if caller.private { "Anonymous" } else { "Caller" };
        let taken: BTreeSet<&str> = self.people.values().map(|person| person.nick.key()).collect();
        // Not every name can be followed by a number or a mark: what runs right to left cannot
        // (RFC 3454 §6).
        [name.as_deref().and_then(short), Some(fallback.to_owned())]
            .iter()
            .flatten()
            .find_map(|name| {
                (1..=taken.len() + self.nicks.len() + 1)
                    .map_while(|n| {
                        let number = if n == 1 { String::new() } else { format!(" {n}") };
                        Nick::new(&format!("{name}{number}{mark}")).ok()
                    })
                    .find(|nick| {
                        !taken.contains(nick.key()) && !self.nicks.keep_out(&caller.who, nick)
                    })
            })
            .expect("there are more numbers than people, and the fallback takes any of them")
    }
}

/// A name in normal form, cut so that a number and [`PHONE`] fit behind it.
fn short(name: &str) -> Option<String> {
    let cut = |name: &str| -> String { name.chars().take(MAX_NICK - PHONE.len() - 12).collect() };
    let nick = Nick::new(&cut(name.trim())).ok()?;
    Some(cut(nick.as_str()).trim().to_owned())
}

pub(super) fn is_phone_nick(nick: &Nick) -> bool {
    nick.key().ends_with(PHONE)
}

/// What marks the nick of a caller whom nobody vouches for; no chat user may have such a nick.
const PHONE: &str = " (phone)";
/// Chat sessions of one person in one room.
const MAX_CHATS: usize = 32;
/// Call legs of one person in one room.
const MAX_LEGS: usize = 8;
/// Nicks of one person in one room.
const MAX_NICKS: usize = 8;
/// Places for admins and owners in a full room.
const RESERVED: usize = 10;
