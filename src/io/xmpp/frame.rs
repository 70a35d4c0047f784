//! Bytes of an XML stream, cut into its first-level children (RFC 6120 §4.2).
//!
//! Cutting needs no parser: tags, quotes and CDATA sections suffice. So a stanza that is too large or too deep is
//! passed over in constant memory, and whatever is odd *inside* a stanza cannot touch its neighbours.

/// How much of a peer's XML is accepted before a stanza is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels of elements in a stanza, itself included. Bounds every recursion over a parsed tree, its drop too.
    pub depth: usize,
    /// Bytes of a stanza as they come over the wire.
    pub stanza_bytes: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// Bytes after which a stanza that does not end ends the stream instead.
    pub skipped_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 64, stanza_bytes: 256 << 10, attributes: 128, skipped_bytes: 16 << 20 }
    }
}

/// Why a stanza was passed over; the stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// More levels than [`Limits::depth`].
    Depth,
    /// More bytes than [`Limits::stanza_bytes`].
    Size,
}

/// XML after which a stream cannot go on (RFC 6120 §4.9.3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Not well-formed XML.
    #[error("not well-formed: {0}")]
    NotWellFormed(String),
    /// A DTD, a comment or a processing instruction (RFC 6120 §11.1).
    #[error("restricted XML: {0}")]
    Restricted(&'static str),
    /// Text between stanzas, or no stream header.
    #[error("bad format: {0}")]
    BadFormat(&'static str),
    /// A stanza without end: more than [`Limits::skipped_bytes`].
    #[error("a stanza without end")]
    Endless,
}

impl Broken {
    /// The stream error condition that tells the peer (RFC 6120 §4.9.3).
    pub fn condition(&self) -> &'static str {
        match self {
            Self::NotWellFormed(_) => "not-well-formed",
            Self::Restricted(_) => "restricted-xml",
            Self::BadFormat(_) => "bad-format",
            Self::Endless => "policy-violation",
        }
    }
}

/// One piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The stream's start tag, with the XML declaration if there was one.
    Header(Vec<u8>),
    /// A whole first-level child.
    Whole(Vec<u8>),
    /// The beginning of a child that exceeded a limit, passed over to its end.
    Excess(Vec<u8>, Excess),
    /// The stream's end tag.
    Close,
}

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Debug)]
enum State {
    Text,
    /// After `<`.
    Markup,
    Tag {
        /// The open quote, if inside a value.
        quote: Option<u8>,
        /// Whether the last byte was a `/` outside quotes.
        slash: bool,
    },
    EndTag,
    /// After `<!`: so many bytes of `[CDATA[` were seen.
    Bang(usize),
    /// In a CDATA section, after so many `]`.
    Cdata(usize),
    Declaration {
        /// Whether the last byte was a `?`.
        question: bool,
    },
}

/// What ends with a tag.
#[derive(Clone, Copy, Debug)]
enum End {
    Header,
    Child,
    Stream,
}

const CDATA: &[u8] = b"[CDATA[";

/// Cuts a stream into frames, in whatever portions it arrives.
#[derive(Debug)]
pub(super) struct Framer {
    limits: Limits,
    state: State,
    /// Whether the XML declaration has been, which may be once.
    declared: bool,
    /// Open elements, the stream itself included.
    depth: usize,
    /// Bytes of the current frame that are kept, and all that were seen.
    kept: Vec<u8>,
    seen: usize,
    excess: Option<Excess>,
}

impl Framer {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Text,
            declared: false,
            depth: 0,
            kept: Vec::new(),
            seen: 0,
            excess: None,
        }
    }

    /// Takes bytes from `input` up to the end of the next frame, or all of them.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Broken> {
        let bytes = *input;
        // Everything before this index is kept, or need not be.
        let mut from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let end = match self.state {
                State::Text => {
                    if byte == b'<' {
                        self.state = State::Markup;
                    } else if self.depth <= 1 {
                        // RFC 6120 §4.6.1: white space keeps a stream alive.
                        if !byte.is_ascii_whitespace() {
                            return Err(Broken::BadFormat("text between stanzas"));
                        }
                        from = at + 1;
                    }
                    None
                }
                State::Markup => {
                    self.state = self.markup(byte)?;
                    None
                }
                State::Tag { .. } | State::EndTag if byte == b'<' => {
                    return Err(Broken::NotWellFormed("'<' in a tag".into()));
                }
                State::Tag { quote: None, slash } if byte == b'>' => {
                    self.state = State::Text;
                    self.keep(&bytes[from..=at])?;
                    from = at + 1;
                    self.start_tag_ends(slash)?
                }
                State::Tag { quote: None, .. } => {
                    let quote = matches!(byte, b'"' | b'\'').then_some(byte);
                    self.state = State::Tag { quote, slash: byte == b'/' };
                    None
                }
                State::Tag { quote: Some(open), .. } => {
                    let quote = (byte != open).then_some(open);
                    self.state = State::Tag { quote, slash: false };
                    None
                }
                State::EndTag if byte == b'>' => {
                    self.state = State::Text;
                    self.keep(&bytes[from..=at])?;
                    from = at + 1;
                    self.depth -= 1;
                    match self.depth {
                        0 => Some(End::Stream),
                        1 => Some(End::Child),
                        _ => None,
                    }
                }
                State::EndTag => None,
                State::Bang(matched) if byte == CDATA[matched] => {
                    let matched = matched + 1;
                    self.state =
                        if matched == CDATA.len() { State::Cdata(0) } else { State::Bang(matched) };
                    None
                }
                State::Bang(_) => return Err(Broken::Restricted("a DTD or a comment")),
                State::Cdata(brackets) => {
                    self.state = match byte {
                        b']' => State::Cdata((brackets + 1).min(2)),
                        b'>' if brackets == 2 => State::Text,
                        _ => State::Cdata(0),
                    };
                    None
                }
                State::Declaration { question: true } if byte == b'>' => {
                    self.state = State::Text;
                    self.keep(&bytes[from..=at])?;
                    from = at + 1;
                    None
                }
                State::Declaration { .. } => {
                    self.state = State::Declaration { question: byte == b'?' };
                    None
                }
            };
            if let Some(end) = end {
                *input = &bytes[at + 1..];
                return Ok(Some(self.frame(end)));
            }
        }
        self.keep(&bytes[from..])?;
        *input = &[];
        Ok(None)
    }

    /// The state after `<` and this byte.
    fn markup(&mut self, byte: u8) -> Result<State, Broken> {
        Ok(match byte {
            b'/' if self.depth > 0 => State::EndTag,
            b'!' if self.depth > 1 => State::Bang(0),
            b'!' => return Err(Broken::Restricted("a DTD or a comment")),
            b'?' if self.depth == 0 && !std::mem::replace(&mut self.declared, true) => {
                State::Declaration { question: false }
            }
            b'?' => return Err(Broken::Restricted("a processing instruction")),
            b'/' | b'<' | b'>' | b'=' | b'"' | b'\'' | b' ' | b'\t' | b'\r' | b'\n' => {
                return Err(Broken::NotWellFormed("a tag without a name".into()));
            }
            _ => State::Tag { quote: None, slash: false },
        })
    }

    /// Accounts for a start tag, which may be the end of a frame.
    fn start_tag_ends(&mut self, empty: bool) -> Result<Option<End>, Broken> {
        if self.depth == 0 {
            if empty || self.excess.is_some() {
                return Err(Broken::BadFormat("no usable stream header"));
            }
            self.depth = 1;
            return Ok(Some(End::Header));
        }
        // The stream counts among the open elements, the one that starts here does not yet: a stanza is level one.
        if self.depth > self.limits.depth {
            self.excess.get_or_insert(Excess::Depth);
        }
        if empty {
            return Ok((self.depth == 1).then_some(End::Child));
        }
        self.depth += 1;
        Ok(None)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.seen += bytes.len();
        if self.seen > self.limits.skipped_bytes {
            return Err(Broken::Endless);
        }
        if self.excess.is_none() {
            let room = self.limits.stanza_bytes - self.kept.len();
            if bytes.len() > room {
                self.excess = Some(Excess::Size);
            }
            self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Ok(())
    }

    fn frame(&mut self, end: End) -> Frame {
        let kept = std::mem::take(&mut self.kept);
        self.seen = 0;
        match (end, self.excess.take()) {
            (End::Header, _) => Frame::Header(kept),
            (End::Stream, _) => Frame::Close,
            (End::Child, None) => Frame::Whole(kept),
            (End::Child, Some(excess)) => Frame::Excess(kept, excess),
        }
    }
}
