//! A room's configuration (XEP-0045 §16.5.3), as a value that is replaced as a whole.

use serde::{Deserialize, Serialize};

use super::Refusal;

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
    /// Whether what is said is archived: a room that leaves nothing behind has no archive.
    pub fn archived(&self) -> bool {
        self.persistent && self.archive
    }

    /// The settings made whole, or refused where they contradict themselves or break a limit.
    pub(super) fn checked(mut self) -> Result<Self, Refusal> {
        self.password = self.password.filter(|password| !password.is_empty());
        let secret = self.password.as_ref().map_or(0, String::len);
        let fits = self.name.len() <= MAX_TEXT && self.description.len() <= MAX_TEXT * 8;
        if self.max_users == Some(0) || !fits || secret > MAX_TEXT || self.history > MAX_HISTORY {
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
            archive: true,
        }
    }
}

/// The longest name or password, in bytes; a description may be eight times as long.
const MAX_TEXT: usize = 1_024;
/// The most messages that a room tells newcomers.
pub const MAX_HISTORY: u32 = 500;
