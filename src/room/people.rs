//! Everyone in a room, and who of them has this session, leg, nick or identity, in no more time in a
//! room of thousands.

use std::collections::BTreeMap;
use std::ops::Index;
use std::time::SystemTime;

use jid::FullJid;

use super::person::{Leg, Person, Who};
use crate::id::{LegId, Nick, PersonId};

/// People in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct People {
    all: BTreeMap<PersonId, Person>,
    chats: BTreeMap<FullJid, PersonId>,
    legs: BTreeMap<LegId, PersonId>,
    /// By what nicks are compared by.
    nicks: BTreeMap<String, PersonId>,
    /// Under each nick that they have here.
    whos: BTreeMap<Who, Vec<PersonId>>,
}

impl People {
    /// Everyone.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &Person> {
        self.all.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether anyone is on the call.
    pub fn on_call(&self) -> bool {
        !self.legs.is_empty()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Someone by number.
    pub fn get(&self, id: PersonId) -> Option<&Person> {
        self.all.get(&id)
    }

    /// Whose chat session this is.
    pub fn by_chat(&self, chat: &FullJid) -> Option<&Person> {
        self.chats.get(chat).map(|id| &self.all[id])
    }

    /// Whose call leg this is.
    pub fn by_leg(&self, leg: LegId) -> Option<&Person> {
        self.legs.get(&leg).map(|id| &self.all[id])
    }

    /// Who has this nick, or one that looks the same.
    pub fn by_nick(&self, nick: &Nick) -> Option<&Person> {
        self.nicks.get(nick.key()).map(|id| &self.all[id])
    }

    /// Everyone who is one and the same: someone may be here under several nicks.
    pub fn all_of(&self, who: &Who) -> impl Iterator<Item = &Person> {
        self.whos.get(who).into_iter().flatten().map(|id| &self.all[id])
    }

    /// Someone, to change what they may do, or a leg that they have; who they are, nicks, sessions and
    /// legs change by the functions below alone.
    pub(super) fn get_mut(&mut self, id: PersonId) -> Option<&mut Person> {
        self.all.get_mut(&id)
    }

    /// Takes in somebody new, whose nick nobody has.
    pub(super) fn insert(&mut self, person: Person) {
        let id = person.id;
        self.nicks.insert(person.nick.key().to_owned(), id);
        self.whos.entry(person.who.clone()).or_default().push(id);
        self.chats.extend(person.chats.keys().map(|chat| (chat.clone(), id)));
        self.legs.extend(person.legs.keys().map(|leg| (*leg, id)));
        self.all.insert(id, person);
    }

    /// Lets someone go.
    pub(super) fn remove(&mut self, id: PersonId) -> Option<Person> {
        let person = self.all.remove(&id)?;
        self.nicks.remove(person.nick.key());
        for chat in person.chats.keys() {
            self.chats.remove(chat);
        }
        for leg in person.legs.keys() {
            self.legs.remove(leg);
        }
        if let Some(ids) = self.whos.get_mut(&person.who) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.whos.remove(&person.who);
            }
        }
        Some(person)
    }

    /// Lets everyone go.
    pub(super) fn take(&mut self) -> Vec<Person> {
        std::mem::take(self).all.into_values().collect()
    }

    /// Gives someone a nick that nobody else has; answers the old one.
    pub(super) fn rename(&mut self, id: PersonId, nick: Nick) -> Option<Nick> {
        let person = self.all.get_mut(&id)?;
        self.nicks.remove(person.nick.key());
        self.nicks.insert(nick.key().to_owned(), id);
        Some(std::mem::replace(&mut person.nick, nick))
    }

    /// Gives someone a chat session that nobody has.
    pub(super) fn add_chat(&mut self, id: PersonId, chat: FullJid, since: SystemTime) {
        if let Some(person) = self.all.get_mut(&id) {
            person.chats.insert(chat.clone(), since);
            self.chats.insert(chat, id);
        }
    }

    /// Ends a chat session.
    pub(super) fn remove_chat(&mut self, chat: &FullJid) {
        if let Some(person) = self.chats.remove(chat).and_then(|id| self.all.get_mut(&id)) {
            person.chats.remove(chat);
        }
    }

    /// Gives someone a call leg that nobody has.
    pub(super) fn add_leg(&mut self, id: PersonId, leg: LegId, at: Leg) {
        if let Some(person) = self.all.get_mut(&id) {
            person.legs.insert(leg, at);
            self.legs.insert(leg, id);
        }
    }

    /// Ends a call leg; answers how it was.
    pub(super) fn remove_leg(&mut self, leg: LegId) -> Option<Leg> {
        let person = self.legs.remove(&leg).and_then(|id| self.all.get_mut(&id))?;
        person.legs.remove(&leg)
    }

    /// Whether everyone is found by all that they have, and by nothing else.
    pub(super) fn is_indexed(&self) -> bool {
        let mut anew = Self::default();
        self.all.values().cloned().for_each(|person| anew.insert(person));
        anew == *self
    }
}

impl Index<&PersonId> for People {
    type Output = Person;

    fn index(&self, id: &PersonId) -> &Person {
        &self.all[id]
    }
}
