//! A room's configuration (XEP-0045 §16.5.3), as a value that is replaced as a whole.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::standing::Role;

/// What an owner configures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The room's natural name; empty: its address.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Newcomers have no voice.
    pub moderated: bool,
    /// Only members may enter.
    pub members_only: bool,
    /// What one must know to enter; `None`: nothing.
    pub password: Option<String>,
    /// How many people may be in; `None`: as many as the server allows.
    pub max_users: Option<u32>,
    /// The room outlives its last occupant, and a restart.
    pub persistent: bool,
    /// Listed in disco#items.
    pub public: bool,
    /// Who sees real JIDs and addresses.
    pub whois: Whois,
    /// Participants may change the subject, not moderators alone.
    pub change_subject: bool,
    /// How many messages newcomers are told at most.
    pub history: u32,
    /// What is said is archived (XEP-0045 §7.2.12), as long as the room is persistent.
    pub archive: bool,
    /// Who may send private messages.
    pub allow_pm: Whisperers,
    /// In a members-only room, members may invite, and not admins alone (XEP-0045 §7.8.2).
    pub allow_invites: bool,
    /// Who becomes a member by registering.
    pub registration: Registration,
    /// Roles whose presence the others are shown.
    pub presence_broadcast: BTreeSet<Role>,
    /// Roles that may read the lists of members, admins and owners, where they may see addresses.
    pub member_list: BTreeSet<Role>,
    /// The language of what is said, as a tag of RFC 5646; empty: not told.
    pub lang: String,
    /// Seconds between two messages of one who is no admin (XEP-0500); 0: any pace.
    pub slow_mode_s: u32,
}

/// Who may send private messages (XEP-0045 §7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whisperers {
    /// Everyone.
    Anyone,
    /// Who has voice.
    Participants,
    /// Moderators.
    Moderators,
    /// Nobody.
    None,
}

/// Who becomes a member by registering a nick (XEP-0045 §7.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Everyone, whatever keeps strangers out of the room.
    Open,
    /// Everyone, while nothing does: in a room that is members-only, moderated or has a password, it is
    /// for admins to make members.
    Unguarded,
    /// Whom an admin approves (XEP-0045 §9.9).
    Approval,
    /// Nobody.
    Closed,
}

/// Who sees real JIDs and SIP addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whois {
    /// Moderators: a semi-anonymous room.
    Moderators,
    /// Everyone: a non-anonymous room.
    Anyone,
}

impl Settings {
    /// What a room has that an operator makes: it is kept.
    pub fn of_operators() -> Self {
        Self { persistent: true, ..Self::default() }
    }

    /// Whether what is said is archived: a room that leaves nothing behind has no archive.
    pub fn archived(&self) -> bool {
        self.persistent && self.archive
    }

    /// The settings made whole, or refused where they contradict themselves or break a limit.
    pub(super) fn checked(mut self) -> Result<Self, Refusal> {
        self.password = self.password.filter(|password| !password.is_empty());
        let secret = self.password.as_ref().map_or(0, String::len);
        let fits = self.name.len() <= MAX_TEXT && self.description.len() <= MAX_TEXT * 8;
        let pace = self.history <= MAX_HISTORY && self.slow_mode_s <= MAX_SLOW_MODE_S;
        if self.max_users == Some(0) || !fits || secret > MAX_TEXT || !pace || !tag(&self.lang) {
            return Err(Refusal::BadSettings);
        }
        Ok(self)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            moderated: false,
            members_only: false,
            password: None,
            max_users: None,
            persistent: false,
            public: true,
            whois: Whois::Moderators,
            change_subject: false,
            history: 20,
            allow_pm: Whisperers::Anyone,
            allow_invites: false,
            registration: Registration::Unguarded,
            presence_broadcast: Role::ALL.into(),
            member_list: Role::ALL.into(),
            lang: String::new(),
            slow_mode_s: 0,
            archive: true,
        }
    }
}

/// Whether a text has the form of a language tag, or is empty (RFC 5646 §2.1).
pub fn tag(text: &str) -> bool {
    text.is_empty()
        || text.len() <= MAX_LANG
            && text.split('-').all(|part| {
                (1..=8).contains(&part.len())
                    && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
            })
}

/// The longest name or password, in bytes; a description may be eight times as long.
const MAX_TEXT: usize = 1_024;
/// The most messages that a room tells newcomers.
pub const MAX_HISTORY: u32 = 500;
/// The slowest pace of a room: one message a day.
pub const MAX_SLOW_MODE_S: u32 = 86_400;
/// The longest language tag, in bytes (RFC 5646 §4.4.1).
const MAX_LANG: usize = 35;
