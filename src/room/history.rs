//! What was said, and what newcomers are told of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use minidom::Element;

use crate::id::{Nick, PersonId};

/// What a chat client said: its message, which the room passes on and never reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// The message.
    pub stanza: Arc<Element>,
    /// Whether newcomers are to be told of it.
    pub lasting: bool,
    /// Whether it is text for people, and no sign between clients.
    pub text: bool,
}

/// Something that was said to all.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// By whom.
    pub from: PersonId,
    /// Under which nick.
    pub nick: Nick,
    /// The stanza's id.
    pub id: Option<String>,
    /// When.
    pub at: SystemTime,
    /// What.
    pub payload: Payload,
}

/// What was said, oldest first, up to the room's limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    said: VecDeque<Said>,
}

impl History {
    /// What was said, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Said> {
        self.said.iter()
    }

    /// Keeps what lasts, as much of it as the limit allows.
    pub(super) fn push(&mut self, said: Said, limit: u32) {
        if !said.payload.lasting {
            return;
        }
        self.said.push_back(said);
        self.keep(limit);
    }

    /// Forgets the oldest, beyond the limit.
    pub(super) fn keep(&mut self, limit: u32) {
        let excess = self.said.len().saturating_sub(limit as usize);
        self.said.drain(..excess);
    }
}
