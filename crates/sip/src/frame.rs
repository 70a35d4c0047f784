//! A byte stream into messages (RFC 3261 §18.3, §7.5; RFC 5626 §4.4.1).
//!
//! The same bytes give the same messages however they are cut into chunks. After an error the stream
//! cannot be trusted any more: the caller sends what answer there is and closes it. How long a
//! header may take to arrive is the caller's business too; [`Framer::is_idle`] tells whether one has
//! begun.

use crate::{
    header::{Headers, Name},
    message::Message,
    parse::{self, MAX_MESSAGE, ParseError},
    scan,
};

/// Cuts one connection's bytes into messages.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    /// How far [`Self::bytes`] was searched for the end of the header section.
    searched: usize,
    /// The length of the whole message at the front of `bytes`, once its headers are in.
    length: Option<usize>,
    failed: bool,
}

/// What a stream gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message(Box<Message>),
    /// A message that does not parse; the stream goes on after it.
    Malformed(ParseError),
    /// A keep-alive ping, to be answered with [`PONG`].
    Ping,
    /// A keep-alive pong, or an empty line that means nothing.
    Pong,
}

/// Why a stream must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The end of a message cannot be known. If the message is a request that can be answered, the
    /// error inside holds the answer; send it before closing.
    #[error("cannot find the end of a message: {0}")]
    Unframed(ParseError),
    /// The stream failed before.
    #[error("the stream has failed")]
    Failed,
}

/// The answer to [`Frame::Ping`] (RFC 5626 §4.4.1).
pub const PONG: &[u8] = b"\r\n";
