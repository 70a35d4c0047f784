//! Names and numbers that mean one thing each, checked at the edge (parse, don't validate).

use std::borrow::Borrow;
use std::fmt;

use jid::{BareJid, DomainRef, NodePart, ResourcePart};

/// The name of a room: the node of its JID and the user part of its conference URI, in the
/// normalised form of a JID node (so `Café`, `café` and `caf%C3%A9` are one room).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomName(NodePart);

impl RoomName {
    /// Reads the node of a room's JID, or refuses what can never be one.
    pub fn new(node: &str) -> Result<Self, BadName> {
        NodePart::new(node).map(|node| Self(node.into_owned())).map_err(|_| BadName)
    }

    /// Reads the user part of a SIP URI, percent-decoded already (RFC 7247 §6.4).
    pub fn from_sip_user(user: &str) -> Result<Self, BadName> {
        Self::new(user)
    }

    /// The room's JID on the component's domain.
    pub fn jid(&self, domain: &DomainRef) -> BareJid {
        BareJid::from_parts(Some(&self.0), domain)
    }

    /// The normalised text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// A text that cannot be a name: empty, too long, or with characters that JIDs forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid name")]
pub struct BadName;

/// The name under which someone is seen in a room: the resource of their occupant JID.
///
/// Two nicks that differ only in case or blanks are the same nick ([`Nick::key`], RFC 8266 §2.4),
/// so that nobody can pass for another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nick(ResourcePart);

impl Nick {
    /// Reads a wanted nick: not blank, at most [`MAX_NICK`] characters, without line breaks.
    pub fn new(text: &str) -> Result<Self, BadName> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > MAX_NICK || text.chars().any(char::is_control)
        {
            return Err(BadName);
        }
        ResourcePart::new(text).map(|nick| Self(nick.into_owned())).map_err(|_| BadName)
    }

    /// What two nicks are compared by.
    pub fn key(&self) -> String {
        let mut key = String::with_capacity(self.as_str().len());
        for word in self.as_str().split_whitespace() {
            if !key.is_empty() {
                key.push(' ');
            }
            key.extend(word.chars().flat_map(char::to_lowercase));
        }
        key
    }

    /// The text as others see it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Nick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One person in one room; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonId(pub u64);

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// One call leg, over all rooms; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u64);

impl fmt::Display for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "l{}", self.0)
    }
}

/// The longest nick, in characters.
pub const MAX_NICK: usize = 64;
