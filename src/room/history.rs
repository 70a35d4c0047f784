//! What was said, and what newcomers are told of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use jid::BareJid;
use minidom::Element;

use crate::id::Nick;

/// What a chat client said: its message, which the room passes on and never reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// The message.
    pub stanza: Arc<Element>,
    /// Whether newcomers are to be told of it, and the archive keeps it.
    pub lasting: bool,
    /// Whether it is text for people, and no sign between clients.
    pub text: bool,
    /// Under which id the room and its archive know it (XEP-0359 §3); what is said to one has none.
    pub stanza_id: Option<String>,
}

/// Who said something, as they were then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Their bare JID, if they have one.
    pub jid: Option<BareJid>,
    /// Under which nick.
    pub nick: Nick,
}

/// Something that was said to all.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// By whom; `None`: by the room itself.
    pub author: Option<Author>,
    /// The stanza's id.
    pub id: Option<String>,
    /// When.
    pub at: SystemTime,
    /// What it is.
    pub kind: Kind,
    /// What.
    pub payload: Payload,
}

/// What something that was said is to the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message like any other.
    Message,
    /// It changed the subject.
    Subject,
    /// What is left of a message that a moderator took back (XEP-0424 §5).
    Tombstone,
}

/// What was said, oldest first, up to the room's limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    said: VecDeque<Said>,
}

impl Said {
    /// Whether a moderator may take it back: somebody's message, that nobody has taken back.
    pub fn can_be_retracted(&self) -> bool {
        self.kind == Kind::Message && self.author.is_some()
    }
}

impl History {
    /// What was said, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Said> {
        self.said.iter()
    }

    /// What was said under the id that the room gave it.
    pub fn by_stanza_id(&self, id: &str) -> Option<&Said> {
        self.said.iter().find(|said| said.payload.stanza_id.as_deref() == Some(id))
    }

    /// Keeps what lasts, as much of it as the limit allows.
    pub(super) fn push(&mut self, said: Said, limit: u32) {
        if !said.payload.lasting {
            return;
        }
        self.said.push_back(said);
        self.keep(limit);
    }

    /// Puts a tombstone in the place of what was said.
    pub(super) fn bury(&mut self, id: &str, tombstone: &Arc<Element>) {
        let found = |said: &&mut Said| said.payload.stanza_id.as_deref() == Some(id);
        if let Some(said) = self.said.iter_mut().find(found) {
            said.kind = Kind::Tombstone;
            said.payload.stanza = Arc::clone(tombstone);
        }
    }

    /// Forgets the oldest, beyond the limit.
    pub(super) fn keep(&mut self, limit: u32) {
        let excess = self.said.len().saturating_sub(limit as usize);
        self.said.drain(..excess);
    }
}
