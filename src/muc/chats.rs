//! Chat sessions as this face knows them: what presence each shows, and whether it was told of the
//! room yet.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use jid::{BareJid, FullJid};
use minidom::Element;

use crate::id::RoomName;
use crate::rate::Meter;
use crate::room::Room;
use crate::room::person::Person;

/// Every session in every room.
#[derive(Debug, Default)]
pub(super) struct Chats {
    rooms: BTreeMap<RoomName, Sessions>,
    /// Counts shown presences: the latest of someone's sessions stands for them.
    clock: u64,
}

/// The sessions of one room.
#[derive(Debug, Default)]
struct Sessions {
    sessions: BTreeMap<FullJid, Session>,
    joins: Meter,
}

/// One chat session in one room.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// What its last presence carried: `show`, `status`, extensions.
    pub(super) shown: Vec<Element>,
    /// Whether that differs from what it had shown before.
    pub(super) shows_anew: bool,
    /// When it showed that, counted.
    shown_at: u64,
    /// What it asked for when it entered; taken once it was told.
    pub(super) entry: Option<Entry>,
    /// It was told who is here, and not yet that it is out: before and after it hears of nothing
    /// (XEP-0045 §7.1: order of events).
    pub(super) told: bool,
    /// How much it said lately.
    pub(super) messages: Meter,
    /// How much it asked other occupants lately.
    pub(super) iqs: Meter,
    /// How often it changed its presence lately.
    pub(super) presences: Meter,
}

/// What someone asked for when they entered or took another nick.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The wanted nick as it was written.
    pub(super) nick: String,
    /// The stanza's id.
    pub(super) id: Option<String>,
    /// How much history they want; `None` for another nick.
    pub(super) history: Option<Wanted>,
}

/// The smallest set that meets all of these (XEP-0045 §7.2.13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// At most so many characters.
    pub(super) max_chars: Option<usize>,
    /// At most so many messages.
    pub(super) max_stanzas: Option<usize>,
    /// Not older than this.
    pub(super) seconds: Option<Duration>,
    /// Not before this.
    pub(super) since: Option<SystemTime>,
}

impl Chats {
    /// What a session showed and asked for; remembered when the room agreed.
    pub(super) fn show(
        &mut self,
        room: &RoomName,
        chat: &FullJid,
        shown: Vec<Element>,
        entry: Option<Entry>,
    ) {
        self.clock += 1;
        let sessions = self.rooms.entry(room.clone()).or_default();
        let session = sessions.sessions.entry(chat.clone()).or_default();
        session.shows_anew = session.shown != shown;
        (session.shown, session.shown_at, session.entry) = (shown, self.clock, entry);
    }

    /// A session, if it is in the room.
    pub(super) fn get(&self, room: &RoomName, chat: &FullJid) -> Option<&Session> {
        self.rooms.get(room)?.sessions.get(chat)
    }

    /// A session, to change.
    pub(super) fn get_mut(&mut self, room: &RoomName, chat: &FullJid) -> Option<&mut Session> {
        self.rooms.get_mut(room)?.sessions.get_mut(chat)
    }

    /// The meter of entries into a room, if anyone is in.
    pub(super) fn joins(&mut self, room: &RoomName) -> Option<&mut Meter> {
        self.rooms.get_mut(room).map(|sessions| &mut sessions.joins)
    }

    /// Forgets a session that ended; gives back what it last showed.
    pub(super) fn forget(&mut self, room: &RoomName, chat: &FullJid) -> Option<Session> {
        let sessions = self.rooms.get_mut(room)?;
        let session = sessions.sessions.remove(chat);
        if sessions.sessions.is_empty() {
            self.rooms.remove(room);
        }
        session
    }

    /// Forgets all sessions of a room that ended.
    pub(super) fn forget_room(&mut self, room: &RoomName) {
        self.rooms.remove(room);
    }

    /// Everyone in a room who was told of it, each with each of their sessions.
    pub(super) fn told<'a>(
        &'a self,
        room: &'a Room,
    ) -> impl Iterator<Item = (&'a Person, &'a FullJid)> {
        let sessions = self.rooms.get(&room.name).map(|sessions| &sessions.sessions);
        let told = move |chat: &FullJid| {
            sessions.and_then(|sessions| sessions.get(chat)).is_some_and(|session| session.told)
        };
        room.people
            .values()
            .flat_map(|person| person.chats.keys().map(move |chat| (person, chat)))
            .filter(move |(_, chat)| told(chat))
    }

    /// The session whose presence stands for a person: the one that showed something last.
    pub(super) fn face<'a>(
        &'a self,
        room: &RoomName,
        person: &'a Person,
    ) -> Option<(&'a FullJid, &'a Session)> {
        let sessions = &self.rooms.get(room)?.sessions;
        person
            .chats
            .keys()
            .filter_map(|chat| Some((chat, sessions.get(chat)?)))
            .max_by_key(|(_, session)| session.shown_at)
    }

    /// Whether any session of a user is, or was until a moment ago, in the room.
    pub(super) fn knows(&self, room: &RoomName, jid: &BareJid) -> bool {
        self.rooms
            .get(room)
            .is_some_and(|sessions| sessions.sessions.keys().any(|chat| chat.to_bare() == *jid))
    }

    /// All sessions that were told, room by room.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&RoomName, &FullJid)> {
        self.rooms.iter().flat_map(|(room, sessions)| {
            let told = sessions.sessions.iter().filter(|(_, session)| session.told);
            told.map(move |(chat, _)| (room, chat))
        })
    }

    /// How many sessions there are in all.
    pub(super) fn len(&self) -> usize {
        self.rooms.values().map(|sessions| sessions.sessions.len()).sum()
    }
}

impl Wanted {
    /// Whether a message of this age, with `told` messages and `chars` characters already chosen,
    /// still belongs to the set.
    pub(super) fn admits(
        &self,
        now: SystemTime,
        at: SystemTime,
        told: usize,
        chars: usize,
    ) -> bool {
        let age = now.duration_since(at).unwrap_or_default();
        self.max_stanzas.is_none_or(|most| told <= most)
            && self.max_chars.is_none_or(|most| chars <= most)
            && self.seconds.is_none_or(|most| age <= most)
            && self.since.is_none_or(|since| at >= since)
    }
}
