//! A byte stream into messages (RFC 3261 §18.3, §7.5; RFC 5626 §4.4.1).
//!
//! The same bytes give the same messages however they are cut into chunks. After an error the stream
//! cannot be trusted any more: the caller sends what answer there is and closes it. How long a
//! header may take to arrive is the caller's business too; [`Framer::is_idle`] tells whether one has
//! begun.

use crate::{
    message::Message,
    parse::{Fault, Head, MAX_MESSAGE, ParseError, head_end},
};

/// Cuts one connection's bytes into messages.
///
/// The caller [pushes](Self::push) what it read, and then asks for the [next](Self::next) frame until
/// there is none. Between two reads no more than [`MAX_MESSAGE`] bytes are held.
#[derive(Debug, Default)]
pub struct Framer {
    bytes: Vec<u8>,
    /// How much of `bytes` was handed out already.
    start: usize,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Between messages.
    #[default]
    Idle,
    /// After one empty line: another one makes it a ping.
    EmptyLine,
    /// Within a header section, of which this many bytes hold no end of it.
    Head(usize),
    /// Within a body of this many bytes.
    Body(Box<Head>, usize),
    /// Out of step for good.
    Failed,
}

/// What a stream gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message(Box<Message>),
    /// A message that does not parse, though its end is known: the stream goes on.
    Malformed(ParseError),
    /// A second empty line after a first: a keep-alive ping, to be answered with [`PONG`].
    Ping,
    /// An empty line: a pong if a ping is out, else nothing or the first half of a ping.
    EmptyLine,
}

/// Why a stream must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The end of a message cannot be known. If it is a request that can be answered, the error
    /// inside holds the answer: send it, then close.
    #[error("lost the end of a message: {0}")]
    Unframed(ParseError),
    /// It failed before.
    #[error("the stream has failed before")]
    Failed,
}

/// The answer to [`Frame::Ping`] (RFC 5626 §4.4.1).
pub const PONG: &[u8] = b"\r\n";

impl Framer {
    /// A framer for a new connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes that arrived. After a failure they are forgotten.
    pub fn push(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Failed) {
            return;
        }
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether no message has begun: the deadline for a whole header section runs when one has.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle | State::EmptyLine) && self.start == self.bytes.len()
    }

    /// The next frame, or `None` until more bytes come.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end at the first None")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let result = self.step();
        if result.is_err() {
            *self = Self { state: State::Failed, ..Self::default() };
        }
        result
    }

    fn step(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let bytes = &self.bytes[self.start..];
            match std::mem::take(&mut self.state) {
                State::Failed => return Err(FrameError::Failed),
                idle @ (State::Idle | State::EmptyLine) => match bytes {
                    [] | [b'\r'] => {
                        self.state = idle;
                        return Ok(None);
                    }
                    [b'\r', b'\n', ..] | [b'\n', ..] => {
                        self.start += if bytes[0] == b'\n' { 1 } else { 2 };
                        if matches!(idle, State::EmptyLine) {
                            return Ok(Some(Frame::Ping));
                        }
                        self.state = State::EmptyLine;
                        return Ok(Some(Frame::EmptyLine));
                    }
                    _ => self.state = State::Head(0),
                },
                State::Head(searched) => {
                    let within = head_end(bytes, searched).filter(|end| *end <= MAX_MESSAGE);
                    let Some(end) = within else {
                        if let Some(most) = bytes.get(..MAX_MESSAGE) {
                            return Err(unframed(Head::read(most), Fault::too_large()));
                        }
                        self.state = State::Head(bytes.len());
                        return Ok(None);
                    };
                    let mut head = Head::read(&bytes[..end]).map_err(FrameError::Unframed)?;
                    let length = match head.lines_ok().and_then(|()| head.body_length()) {
                        Ok(Some(length)) if length <= MAX_MESSAGE.saturating_sub(end) => length,
                        Ok(Some(_)) => return Err(unframed(Ok(head), Fault::too_large())),
                        Ok(None) => return Err(unframed(Ok(head), Fault::no_length())),
                        Err(fault) => return Err(unframed(Ok(head), fault)),
                    };
                    self.start += end;
                    self.state = State::Body(Box::new(head), length);
                }
                State::Body(head, length) => {
                    let Some(body) = bytes.get(..length) else {
                        self.state = State::Body(head, length);
                        return Ok(None);
                    };
                    let frame = match head.finish(body.to_vec()) {
                        Ok(message) => Frame::Message(Box::new(message)),
                        Err(error) => Frame::Malformed(error),
                    };
                    self.start += length;
                    return Ok(Some(frame));
                }
            }
        }
    }
}

fn unframed(head: Result<Head, ParseError>, fault: Fault) -> FrameError {
    FrameError::Unframed(head.map_or_else(|error| error, |head| head.reject(fault)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Status;

    const HEAD: &str = "OPTIONS sip:h SIP/2.0\r\nv: SIP/2.0/TCP h\r\nf: <sip:b@h>;tag=1\r\n\
                        t: <sip:a@h>\r\ni: c\r\nCSeq: 1 OPTIONS\r\n";

    /// What a stream of these bytes gives, in chunks of `size`.
    fn frames(bytes: &[u8], size: usize) -> Vec<String> {
        let mut framer = Framer::new();
        let mut out = vec![];
        for chunk in bytes.chunks(size) {
            framer.push(chunk);
            loop {
                match framer.next() {
                    Ok(None) => break,
                    Ok(Some(Frame::Message(message))) => {
                        let Message::Request(request) = *message else { panic!() };
                        out.push(String::from_utf8(request.body).unwrap());
                    }
                    Ok(Some(Frame::Malformed(error))) => out.push(format!("malformed {error}")),
                    Ok(Some(Frame::Ping)) => out.push("ping".to_owned()),
                    Ok(Some(Frame::EmptyLine)) => out.push("-".to_owned()),
                    Err(error) => {
                        out.push(error.to_string());
                        framer.push(b"more");
                        assert_eq!(framer.next(), Err(FrameError::Failed));
                        assert!(framer.bytes.is_empty());
                        return out;
                    }
                }
            }
        }
        out
    }

    fn check(bytes: &str, expected: &[&str]) {
        for size in [1, 2, 3, 7, 64, 1000, usize::MAX] {
            assert_eq!(frames(bytes.as_bytes(), size), expected, "{bytes:?} by {size}");
        }
    }

    #[test]
    fn messages_and_keep_alives() {
        let message = |body: &str| format!("{HEAD}l: {}\r\n\r\n{body}", body.len());
        check(&message("abc"), &["abc"]);
        check(&format!("{}{}", message("a\r\n\r\n"), message("")), &["a\r\n\r\n", ""]);
        check("\r\n", &["-"]);
        check("\r\n\r\n", &["-", "ping"]);
        check("\r\n\r\n\r\n", &["-", "ping", "-"]);
        check(&format!("\r\n\r\n{}\r\n", message("x")), &["-", "ping", "x", "-"]);
        check(&format!("\n{}", message("x").replace("\r\n", "\n")), &["-", "x"]);
        check(&HEAD[..50], &[]);
        // One whose end is known does not end the stream.
        let odd = HEAD.replace("sip:h", "h");
        let rejected = "malformed rejected with 400: Malformed Request-URI";
        check(&format!("{odd}l: 1\r\n\r\nx{}", message("y")), &[rejected, "y"]);
    }

    #[test]
    fn what_ends_a_stream() {
        let lost = |bytes: &str, why: &str| {
            check(bytes, &[format!("lost the end of a message: {why}").as_str()]);
        };
        lost(&format!("{HEAD}\r\n"), "rejected with 400: Missing Content-Length header");
        let repeated = "rejected with 400: Repeated Content-Length header";
        lost(&format!("{HEAD}l: 1\r\nl: 2\r\n\r\nab"), repeated);
        let malformed = "rejected with 400: Malformed Content-Length header";
        lost(&format!("{HEAD}l: 4294967296\r\n\r\n"), malformed);
        lost(&format!("{HEAD}l: -1\r\n\r\n"), malformed);
        let large = "rejected with 513: Message Too Large";
        lost(&format!("{HEAD}l: 4294967295\r\n\r\n"), large);
        lost(&format!("{HEAD}l: {MAX_MESSAGE}\r\n\r\n"), large);
        lost(&format!("{HEAD}{}", "X: y\r\n".repeat(MAX_MESSAGE / 6)), large);
        lost(&format!("{HEAD}X: {}", "y".repeat(MAX_MESSAGE)), large);
        let control = "rejected with 400: Control Character in Header";
        lost(&format!("{HEAD}X: \0\r\nl: 0\r\n\r\n"), control);
        lost(&format!("{HEAD}X: \ry\r\nl: 0\r\n\r\n"), control);
        lost(&format!("{HEAD}X\r\nl: 0\r\n\r\n"), "rejected with 400: Malformed Header Line");
        lost("GET / HTTP/1.1\r\n\r\n", "dropped: not SIP");
        lost("\0\0\0\n\n", "dropped: not SIP");
        // A length of the greatest message that there may be.
        let length = MAX_MESSAGE - HEAD.len() - "l: 65000\r\n\r\n".len();
        let whole = format!("{HEAD}l: {length}\r\n\r\n{}", "x".repeat(length));
        assert_eq!(whole.len(), MAX_MESSAGE);
        check(&whole, &["x".repeat(length).as_str()]);
    }

    #[test]
    fn a_failed_stream_has_its_answer() {
        let mut framer = Framer::new();
        assert!(framer.is_idle());
        framer.push(b"\r\n");
        assert_eq!(framer.next(), Ok(Some(Frame::EmptyLine)));
        assert!(framer.is_idle());
        framer.push(HEAD.as_bytes());
        assert_eq!(framer.next(), Ok(None));
        assert!(!framer.is_idle());
        framer.push(b"\r\n");
        let Err(FrameError::Unframed(ParseError::Rejected(rejected))) = framer.next() else {
            panic!()
        };
        assert_eq!(rejected.response.status, Status::BAD_REQUEST);
        assert_eq!(rejected.response.headers.len(), 5);
    }
}
