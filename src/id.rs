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
pub struct Nick {
    text: ResourcePart,
    key: String,
}

impl Nick {
    /// Reads a wanted nick: not blank, at most [`MAX_NICK`] characters, without line breaks.
    ///
    /// All of that holds of the normalised text: a character that vanishes in it, or becomes many,
    /// is no way around.
    pub fn new(text: &str) -> Result<Self, BadName> {
        let text = ResourcePart::new(text.trim()).map_err(|_| BadName)?.into_owned();
        let nick = Self { key: key(&text), text };
        let fits = nick.as_str().chars().count() <= MAX_NICK
            && nick.as_str().trim() == nick.as_str()
            && !nick.as_str().chars().any(char::is_control);
        if fits && !nick.key.is_empty() { Ok(nick) } else { Err(BadName) }
    }

    /// What two nicks are compared by.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The text as others see it.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }
}

fn key(text: &str) -> String {
    let mut key = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !key.is_empty() {
            key.push(' ');
        }
        key.extend(word.chars().flat_map(char::to_lowercase));
    }
    key
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

/// One call that a room makes, until somebody answers it or it fails; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

impl fmt::Display for DialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d{}", self.0)
    }
}

/// The longest nick, in characters.
pub const MAX_NICK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicks_are_held_to_their_rules_in_normal_form() {
        for (text, expected) in [
            ("Juliet", Some("Juliet")),
            ("  Juliet\u{3000}", Some("Juliet")),
            ("The  Nurse", Some("The  Nurse")),
            ("שלום", Some("שלום")),
            ("\u{200b}\u{200b}a", Some("a")),
            ("（x）", Some("(x)")),
            ("", None),
            (" \t", None),
            ("\u{200b} \u{200b}", None),
            ("\u{200b} a", None),
            ("a\nb", None),
            ("a\0b", None),
            ("\u{202e}a", None),
            // RFC 3454 §6: what runs right to left does so to its end.
            ("שלום 2", None),
        ] {
            let nick = Nick::new(text);
            assert_eq!(nick.as_ref().ok().map(Nick::as_str), expected, "{text:?}");
        }
        assert!(Nick::new(&"x".repeat(MAX_NICK)).is_ok());
        assert!(Nick::new(&"x".repeat(MAX_NICK + 1)).is_err());
        // One character that becomes eighteen.
        assert!(Nick::new(&"\u{fdfa}".repeat(3)).is_ok());
        assert!(Nick::new(&"\u{fdfa}".repeat(4)).is_err());
    }

    #[test]
    fn nicks_that_look_the_same_are_the_same() {
        let key = |text: &str| Nick::new(text).unwrap().key().to_owned();
        for other in ["the nurse", "THE NURSE", "The  Nurse", "The\u{a0}Nurse", " the nurse "] {
            assert_eq!(key(other), key("The Nurse"), "{other:?}");
        }
        assert_ne!(key("TheNurse"), key("The Nurse"));
    }

    #[test]
    fn room_names_are_nodes() {
        for same in ["Café", "CAFÉ", "cafe\u{301}"] {
            assert_eq!(RoomName::new(same).unwrap().as_str(), "café", "{same:?}");
        }
        let long = "x".repeat(1_024);
        for bad in ["", " ", "a b", "a@b", "a/b", "a'b", "a\"b", "a<b", "a&b", &long] {
            assert_eq!(RoomName::new(bad), Err(BadName), "{bad:?}");
        }
    }
}
