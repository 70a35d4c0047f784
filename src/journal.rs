//! What survives a restart: facts become [`Row`]s to write, and a [`Snapshot`] is read at start-up.

use std::time::SystemTime;

use jid::BareJid;

use crate::directory::User;
use crate::id::RoomName;
use crate::room::person::Who;
use crate::room::settings::Settings;
use crate::room::standing::Affiliation;

/// One change of what is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A persistent room as it is: inserted or replaced, with its affiliations left alone.
    Room(StoredRoom),
    /// A room that is not to come back, with its affiliations.
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
    /// A user of the directory, inserted or replaced by JID.
    User(User),
    /// A user who is not to come back.
    NoUser(BareJid),
}

/// A room as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRoom {
    /// Its name.
    pub name: RoomName,
    /// Its configuration.
    pub settings: Settings,
    /// Whether a moderator let nobody new in.
    pub locked: bool,
    /// Text, nick and moment of its subject.
    pub subject: Option<(String, String, SystemTime)>,
}

/// Everything that was stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Rooms, with their affiliations.
    pub rooms: Vec<(StoredRoom, Vec<(Who, Affiliation)>)>,
    /// The directory.
    pub users: Vec<User>,
}
