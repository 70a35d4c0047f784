//! One person: chats under a nick, and call legs.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cusax::identity::Aor;
use jid::{BareJid, FullJid};

use super::Mark;
use super::standing::Role;
use crate::id::{LegId, Nick, PersonId};

/// Who someone is, on whichever network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A bare JID: a chat user, or a caller whom the directory binds to one.
    Jid(BareJid),
    /// A SIP address that is bound to no JID.
    Aor(Aor),
    /// A caller who does not say who they are: nobody else, and nobody again.
    Unknown(LegId),
}

/// How well a caller's identity is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Their own word: the From of an `open` server.
    Claimed,
    /// The address was called, and somebody answered there.
    Dialled,
    /// The word of a trusted proxy (RFC 3325).
    Asserted,
    /// A password (RFC 8760).
    Digest,
}

/// A caller, as the phone face knows them before the room does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who that is to the room: the JID that the directory binds to the proven address, else the
    /// address. A claimed address never becomes a JID.
    pub who: Who,
    /// The address they call from, if they say.
    pub aor: Option<Aor>,
    /// The name they give, made harmless; the directory's name comes before it.
    pub name: Option<String>,
    /// How well `who` is proven.
    pub proof: Proof,
    /// They asked not to be named (RFC 3323).
    pub private: bool,
}

impl Caller {
    /// The JID that they are bound to, if they are.
    pub fn jid(&self) -> Option<&BareJid> {
        match &self.who {
            Who::Jid(jid) => Some(jid),
            Who::Aor(_) | Who::Unknown(_) => None,
        }
    }
}

/// Someone who is in the room, however they came.
///
/// Who is here under two nicks is two of these; role and mutes are the same in both, so that a second
/// nick is no way around a moderator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their number in this room.
    pub id: PersonId,
    /// Who they are.
    pub who: Who,
    /// The name that others see.
    pub nick: Nick,
    /// What they may do.
    pub role: Role,
    /// Their chat sessions, by real address, with the moment each came.
    pub chats: BTreeMap<FullJid, SystemTime>,
    /// Their call legs.
    pub legs: BTreeMap<LegId, Leg>,
    /// Why they may not be heard.
    pub mutes: Mutes,
    /// Since when their hand is up.
    pub hand: Option<SystemTime>,
    /// When they came.
    pub since: SystemTime,
    /// They came to a crowd: while they are a visitor, moderators alone are shown that they are here.
    pub aside: bool,
}

/// One call leg of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Who called, and how well that is known.
    pub caller: Caller,
    /// When it was answered.
    pub since: SystemTime,
    /// On hold: neither hears nor is mixed (RFC 4575 §5.7.3).
    pub hold: bool,
    /// Its side sends audio; `false` is a self mute by media direction.
    pub sends: bool,
}

/// How someone is present (RFC 7081 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// By chat alone.
    Chat,
    /// By phone alone.
    Audio,
    /// By both.
    Both,
}

/// Why someone may not be heard: three reasons that do not know of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutes {
    /// They muted themselves.
    pub own: Option<Mark>,
    /// A moderator muted them, or took their voice.
    pub moderator: Option<Mark>,
    /// The room gives newcomers no voice (moderated rooms).
    pub room: Option<Mark>,
}

impl Mutes {
    /// Whether any reason holds.
    pub fn any(&self) -> bool {
        self.own.is_some() || self.any_but_own()
    }

    /// Whether a reason holds that is not theirs.
    pub fn any_but_own(&self) -> bool {
        self.moderator.is_some() || self.room.is_some()
    }
}

impl Person {
    /// How they are present.
    pub fn level(&self) -> Level {
        match (self.chats.is_empty(), self.legs.is_empty()) {
            (false, false) => Level::Both,
            (true, false) => Level::Audio,
            (_, true) => Level::Chat,
        }
    }

    /// Whether what `leg` sends belongs in the mix.
    pub fn may_be_heard(&self, leg: LegId) -> bool {
        !self.mutes.any() && self.legs.get(&leg).is_some_and(|leg| !leg.hold && leg.sends)
    }

    /// Whether nobody but they themselves keeps them from speaking and writing.
    pub fn has_voice(&self) -> bool {
        self.role > Role::Visitor && self.mutes.moderator.is_none()
    }

    /// Nobody but they themselves keeps them from speaking; a hand that asked for that goes down.
    pub(super) fn have_voice(&mut self) {
        self.mutes.moderator = None;
        self.mutes.room = None;
        self.hand = None;
    }

    /// Their bare JID, if they have one.
    pub fn jid(&self) -> Option<&BareJid> {
        match &self.who {
            Who::Jid(jid) => Some(jid),
            Who::Aor(_) | Who::Unknown(_) => None,
        }
    }
}
