//! How operators see rooms: requests in, JSON out.

use jid::BareJid;
use serde_json::Value;

use crate::id::{PersonId, RoomName};

/// What an operator asks.
#[derive(Clone, Debug)]
pub struct Request {
    /// Comes back in the answer.
    pub ticket: u64,
    /// Who asks, for audit.
    pub operator: String,
    /// What.
    pub ask: Ask,
}

/// The questions and commands of operators.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// All rooms.
    Rooms,
    /// One room with its people.
    Room(RoomName),
    /// Create a room, or change what the JSON names of its settings.
    PutRoom(RoomName, Value),
    /// Destroy a room.
    DeleteRoom(RoomName),
    /// Let nobody new in, or let them in again.
    Lock(RoomName, bool),
    /// Mute or unmute someone's audio.
    Mute(RoomName, PersonId, bool),
    /// Throw someone out.
    Kick(RoomName, PersonId, Option<String>),
    /// Ban someone.
    Ban(RoomName, PersonId, Option<String>),
    /// All users of the directory.
    Users,
    /// Add or replace a user of the directory.
    PutUser(BareJid, Value),
    /// Remove a user of the directory.
    DeleteUser(BareJid),
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// From the request.
    pub ticket: u64,
    /// An HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

/// Something that became true, for those who watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What kind.
    pub name: &'static str,
    /// The particulars.
    pub data: Value,
}
