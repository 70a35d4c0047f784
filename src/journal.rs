//! What survives a restart: facts become [`Row`]s to write, and a [`Snapshot`] is read at start-up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use jid::BareJid;
use minidom::Element;

use crate::directory::User;
use crate::id::{Nick, RoomName};
use crate::room::avatar::Avatar;
use crate::room::hats::Hats;
use crate::room::history::Said;
use crate::room::person::Who;
use crate::room::standing::Affiliation;
use crate::room::{Fact, Room, StoredRoom};

/// One change of what is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A persistent room as it is: inserted or replaced, with its affiliations left alone.
    Room(StoredRoom),
    /// A room that is not to come back, with its affiliations and its archive.
    NoRoom(RoomName),
    /// An affiliation; [`Affiliation::None`] removes it.
    Affiliation {
        /// In which room.
        room: RoomName,
        /// Whose.
        who: Who,
        /// The new one.
        affiliation: Affiliation,
        /// The reason given.
        reason: Option<String>,
    },
    /// A nick that is kept for someone; `None` removes it.
    Nick {
        /// In which room.
        room: RoomName,
        /// For whom.
        jid: BareJid,
        /// Which.
        nick: Option<Nick>,
    },
    /// Who asks to become a member, and under which nick; `None` removes it.
    Request {
        /// Of which room.
        room: RoomName,
        /// Who.
        jid: BareJid,
        /// Which.
        nick: Option<Nick>,
    },
    /// A room's picture; `None` removes it.
    Avatar {
        /// Of which room.
        room: RoomName,
        /// Which.
        avatar: Option<Arc<Avatar>>,
    },
    /// The hats of a room, and who wears them.
    Hats {
        /// Of which room.
        room: RoomName,
        /// All of them.
        hats: Hats,
    },
    /// A user of the directory, inserted or replaced by JID.
    User(User),
    /// A user who is not to come back.
    NoUser(BareJid),
    /// A message for the archive of a room.
    Archived {
        /// Of which room.
        room: RoomName,
        /// The message; one without a `stanza_id` is not archived.
        said: Said,
    },
    /// A message that was taken back: what is left of it replaces it.
    Buried {
        /// In the archive of which room.
        room: RoomName,
        /// Which message.
        id: String,
        /// What is left.
        tombstone: Arc<Element>,
    },
    /// What archives need not keep any more goes, some of it at a time: archives of rooms that are no
    /// more, and messages from before a moment.
    Sweep {
        /// The moment; `None`: messages are kept whatever their age.
        before: Option<SystemTime>,
    },
}

/// Everything that was stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Rooms, with their affiliations.
    pub rooms: Vec<(StoredRoom, Vec<(Who, Affiliation)>)>,
    /// Registered nicks of these rooms.
    pub nicks: Vec<(RoomName, BareJid, Nick)>,
    /// Who asks to become a member of these rooms.
    pub requests: Vec<(RoomName, BareJid, Nick)>,
    /// Pictures of these rooms.
    pub avatars: Vec<(RoomName, Arc<Avatar>)>,
    /// Hats of these rooms.
    pub hats: Vec<(RoomName, Hats)>,
    /// The directory.
    pub users: Vec<User>,
    /// What newcomers to a room are told, oldest first: the end of its archive.
    pub history: BTreeMap<RoomName, Vec<Said>>,
}

/// Writes down what a fact changed in what is stored. Rooms that are not persistent leave nothing.
pub fn write(room: &Room, fact: &Fact, rows: &mut Vec<Row>) {
    match fact {
        Fact::Configured { old, .. } => match (room.settings.persistent, old.persistent) {
            // What was decided before the room was to be kept is kept with it.
            (true, false) => write_whole(room, rows),
            (true, true) => rows.push(Row::Room(room.stored())),
            (false, true) => rows.push(Row::NoRoom(room.name.clone())),
            (false, false) => {}
        },
        Fact::AffiliationChanged { who, new, reason, .. } if room.settings.persistent => {
            rows.push(Row::Affiliation {
                room: room.name.clone(),
                who: who.clone(),
                affiliation: *new,
                reason: reason.clone(),
            });
        }
        Fact::NickRegistered { jid, nick } if room.settings.persistent => {
            rows.push(Row::Nick { room: room.name.clone(), jid: jid.clone(), nick: nick.clone() });
        }
        Fact::RegistrationRequested { jid, nick } if room.settings.persistent => {
            let (room, jid) = (room.name.clone(), jid.clone());
            rows.push(Row::Request { room, jid, nick: Some(nick.clone()) });
        }
        Fact::RequestEnded { jid, .. } if room.settings.persistent => {
            rows.push(Row::Request { room: room.name.clone(), jid: jid.clone(), nick: None });
        }
        Fact::AvatarChanged if room.settings.persistent => {
            rows.push(Row::Avatar { room: room.name.clone(), avatar: room.avatar.clone() });
        }
        Fact::HatsChanged { .. } if room.settings.persistent => {
            rows.push(Row::Hats { room: room.name.clone(), hats: room.hats().clone() });
        }
        Fact::LockChanged if room.settings.persistent => rows.push(Row::Room(room.stored())),
        Fact::SubjectChanged(said) if room.settings.persistent => {
            rows.push(Row::Room(room.stored()));
            archive(room, said, rows);
        }
        Fact::Spoken(said) => archive(room, said, rows),
        Fact::Retracted { id, tombstone, said } if room.settings.persistent => {
            let (name, id) = (room.name.clone(), id.clone());
            rows.push(Row::Buried { room: name, id, tombstone: Arc::clone(tombstone) });
            archive(room, said, rows);
        }
        Fact::Destroyed { .. } if room.settings.persistent => {
            rows.push(Row::NoRoom(room.name.clone()));
        }
        Fact::AffiliationChanged { .. }
        | Fact::AvatarChanged
        | Fact::Dialled { .. }
        | Fact::DialEnded { .. }
        | Fact::CallEntered { .. }
        | Fact::CallLeft { .. }
        | Fact::ChatEntered { .. }
        | Fact::ChatLeft { .. }
        | Fact::Created { .. }
        | Fact::Destroyed { .. }
        | Fact::Gone { .. }
        | Fact::HandChanged { .. }
        | Fact::HatsChanged { .. }
        | Fact::LegChanged { .. }
        | Fact::LockChanged
        | Fact::MuteChanged { .. }
        | Fact::NickRegistered { .. }
        | Fact::PresenceShown { .. }
        | Fact::RegistrationRequested { .. }
        | Fact::Renamed { .. }
        | Fact::RequestEnded { .. }
        | Fact::Retracted { .. }
        | Fact::StandingChanged { .. }
        | Fact::SubjectChanged(_)
        | Fact::VoiceRequested { .. }
        | Fact::Whispered { .. } => {}
    }
}

fn archive(room: &Room, said: &Said, rows: &mut Vec<Row>) {
    if room.settings.archived() && said.payload.lasting {
        rows.push(Row::Archived { room: room.name.clone(), said: said.clone() });
    }
}

fn write_whole(room: &Room, rows: &mut Vec<Row>) {
    rows.push(Row::Room(room.stored()));
    rows.extend(room.affiliations().map(|(who, affiliation)| Row::Affiliation {
        room: room.name.clone(),
        who: who.clone(),
        affiliation,
        reason: None,
    }));
    rows.extend(room.registered_nicks().map(|(jid, nick)| Row::Nick {
        room: room.name.clone(),
        jid: jid.clone(),
        nick: Some(nick.clone()),
    }));
    rows.extend(room.requests().map(|(jid, nick)| Row::Request {
        room: room.name.clone(),
        jid: jid.clone(),
        nick: Some(nick.clone()),
    }));
    if !room.hats().is_empty() {
        rows.push(Row::Hats { room: room.name.clone(), hats: room.hats().clone() });
    }
    if room.avatar.is_some() {
        rows.push(Row::Avatar { room: room.name.clone(), avatar: room.avatar.clone() });
    }
}
