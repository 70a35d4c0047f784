//! What may be asked of the archive of rooms (XEP-0313), and what it answers.
//!
//! The archive is in the store, and nothing waits for that: a face asks by a [`Query`] and goes on;
//! the [`Answer`] comes back as another input, with the number of the query. Writing is the journal's.

use std::time::SystemTime;

use jid::BareJid;

use crate::id::RoomName;
use crate::room::history::Said;

/// The number of a query; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// Something that is asked of a room's archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Its number.
    pub id: QueryId,
    /// Whose archive.
    pub room: RoomName,
    /// What.
    pub what: What,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A page of what a filter admits.
    Page(Filter, Page),
    /// The first and the last message (XEP-0313 §5).
    Ends,
    /// One message, by its id.
    Message(String),
}

/// Which messages are wanted: those that meet all of these (XEP-0313 §4.1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// By whom.
    pub with: Option<With>,
    /// Not before this.
    pub start: Option<SystemTime>,
    /// Not after this.
    pub end: Option<SystemTime>,
    /// After the message with this id.
    pub after_id: Option<String>,
    /// Before the message with this id.
    pub before_id: Option<String>,
    /// None but these; empty: any.
    pub ids: Vec<String>,
}

/// By whom a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum With {
    /// Whoever had this nick then.
    Nick(String),
    /// Who has this address.
    Jid(BareJid),
}

/// Which part of the filtered messages is wanted (XEP-0059 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many messages.
    pub most: usize,
    /// From where.
    pub from: From,
}

/// From where a page goes, and in which direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// Forwards from the first.
    First,
    /// Forwards from the one after this.
    After(String),
    /// Backwards from the last.
    Last,
    /// Backwards from the one before this.
    Before(String),
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// To which.
    pub id: QueryId,
    /// What was found.
    pub answer: Answer,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A page.
    Page(Found),
    /// The first and the last message; `None`: there is none.
    Ends(Option<(End, End)>),
    /// One message.
    Message(Box<Said>),
    /// A message that the query names is not in the archive.
    NoSuchMessage,
    /// The store cannot be read.
    Failed,
}

/// A page of messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The messages, oldest first.
    pub messages: Vec<Said>,
    /// In the direction of the page there are no more.
    pub complete: bool,
    /// How many messages the filter admits in all, up to [`MAX_COUNT`]; `None`: more than that.
    pub count: Option<usize>,
}

/// The first or the last message of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its id.
    pub id: String,
    /// When it was said.
    pub at: SystemTime,
}

/// The most messages of one page; also the most ids of one query.
pub const MAX_PAGE: usize = 100;
/// About how many bytes of messages one page has; the message that reaches it is the last of the page.
pub const MAX_PAGE_BYTES: usize = 256 << 10;
/// The most messages that are counted for one query.
pub const MAX_COUNT: usize = 10_000;
