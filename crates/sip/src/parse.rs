//! One datagram, or one framed message, into a [`Message`] (RFC 3261 §7, §18.3).
//!
//! Whatever parses here has a readable topmost Via, From, To, Call-ID and CSeq, so that layers above
//! never meet a message that they cannot match or answer. What does not parse is either a request
//! whose sender can be told what is wrong with it, or it is dropped.

use std::borrow::Cow;

use crate::{
    header::{HeaderError, Headers, Name},
    message::{Message, Method, Request, Response, Status},
    scan,
    uri::Uri,
};

/// The longest message: what a UDP datagram can hold.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The most header lines in a message.
pub const MAX_HEADERS: usize = 128;
/// The longest header line, unfolded, and the longest start line.
pub const MAX_LINE: usize = 8 * 1024;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nobody can be told, or nobody should be: a response, an ACK, noise. Count it, forget it.
    #[error("dropped: {0}")]
    Dropped(&'static str),
    /// A request that is wrong, from someone who can be told so.
    #[error("rejected with {}: {}", .0.response.status, .0.response.reason)]
    Rejected(Box<Rejected>),
}

/// A request that did not parse, and the answer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The method, for counting.
    pub method: Method,
    /// The answer, complete but for a To tag and for `received` and `rport` in its topmost Via. It
    /// holds those of Via, From, To, Call-ID and CSeq that could be found, as they were written.
    pub response: Response,
}

/// Reads one message that `bytes` hold from start to end: a datagram (RFC 3261 §18.3).
///
/// Empty lines before the message are skipped (§7.5), lines may end in LF alone, header lines may be
/// folded (§7.3.1). Without Content-Length the body is all the rest; with a shorter one, what
/// follows is cut off; a longer one is answered with 400.
pub fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
    let bytes = skip_empty_lines(bytes);
    let (head, body) = split_head(bytes);
    let mut lines = Lines(head);
    let start = lines.next().map(text).unwrap_or_default();
    let start = read_start(&start)?;
    let (headers, fault) = read_headers(lines);
    let fault = if bytes.len() > MAX_MESSAGE {
        Some(Fault::new(Status::MESSAGE_TOO_LARGE, "Message Too Large"))
    } else if body.is_none() {
        fault.or(Some(bad("Header Section Cut Short")))
    } else {
        fault
    };
    let body = body.unwrap_or_default();
    match start {
        Start::Request { method, uri, fault: version } => {
            let faults = version.or(fault).map_or(Ok(()), Err);
            match faults.and_then(|()| finish_request(&method, &uri, &headers, body)) {
                Ok((uri, body)) => Ok(Message::Request(Request { method, uri, headers, body })),
                Err(fault) => Err(reject(method, &headers, fault)),
            }
        }
        Start::Response { status, reason } => {
            let faults = fault.map_or(Ok(()), Err);
            match faults.and_then(|()| finish_response(&headers, body)) {
                Ok(body) => Ok(Message::Response(Response { status, reason, headers, body })),
                Err(_) => Err(ParseError::Dropped("malformed response")),
            }
        }
    }
}

/// What is wrong, as the sender will read it.
struct Fault(Status, Cow<'static, str>);

impl Fault {
    fn new(status: Status, reason: &'static str) -> Self {
        Self(status, Cow::Borrowed(reason))
    }
}

fn bad(reason: &'static str) -> Fault {
    Fault::new(Status::BAD_REQUEST, reason)
}

impl From<HeaderError> for Fault {
    fn from(error: HeaderError) -> Self {
        Self(Status::BAD_REQUEST, Cow::Owned(error.to_string()))
    }
}

enum Start {
    Request { method: Method, uri: String, fault: Option<Fault> },
    Response { status: Status, reason: String },
}

/// Reads the first line: Request-Line or Status-Line (RFC 3261 §7.1, §7.2).
fn read_start(line: &str) -> Result<Start, ParseError> {
    if line.len() > MAX_LINE {
        return Err(ParseError::Dropped("start line too long"));
    }
    if let Some(rest) = strip_version(line).and_then(|rest| rest.strip_prefix(' ')) {
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let three = scan::number(code).filter(|_| code.len() == 3);
        let status = three.and_then(Status::new).ok_or(ParseError::Dropped("bad status"))?;
        return Ok(Start::Response { status, reason: reason.to_owned() });
    }
    let (method, rest) = line.split_once(' ').ok_or(ParseError::Dropped("not SIP"))?;
    let (uri, version) = rest.rsplit_once(' ').ok_or(ParseError::Dropped("not SIP"))?;
    let is_sip = version.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("SIP/"));
    // Trailing blanks leave the version empty: still a request to answer, if its URI has one.
    let trailing = version.is_empty() && rest.contains(" SIP/2.0");
    if !scan::is_token(method) || !(is_sip || trailing) {
        return Err(ParseError::Dropped("not SIP"));
    }
    let fault = if trailing {
        Some(bad("Malformed Request-Line"))
    } else if strip_version(version) != Some("") {
        Some(Fault::new(Status::VERSION_NOT_SUPPORTED, "Version Not Supported"))
    } else {
        None
    };
    Ok(Start::Request { method: Method::from_token(method), uri: uri.to_owned(), fault })
}

fn strip_version(text: &str) -> Option<&str> {
    let (version, rest) = text.split_at_checked(7)?;
    version.eq_ignore_ascii_case("SIP/2.0").then_some(rest)
}

/// Reads header lines as far as they go, so that a request with one bad line can be answered.
fn read_headers(lines: Lines<'_>) -> (Headers, Option<Fault>) {
    let mut headers = Headers::new();
    let mut fault = None;
    let mut note = |found: Fault| fault = fault.take().or(Some(found));
    for line in unfold(lines) {
        if line.len() > MAX_LINE {
            note(Fault::new(Status::REQUEST_ENTITY_TOO_LARGE, "Header Line Too Long"));
            continue;
        }
        if headers.len() == MAX_HEADERS {
            note(Fault::new(Status::REQUEST_ENTITY_TOO_LARGE, "Too Many Header Lines"));
            break;
        }
        if has_bare_nul(&line) {
            note(bad("NUL in Header"));
            continue;
        }
        let line = text(&line);
        let named = line.split_once(':');
        match named.and_then(|(name, value)| Some((Name::new(scan::trim(name))?, value))) {
            Some((name, value)) => headers.push(name, scan::trim(value)),
            None => note(bad("Malformed Header Line")),
        }
    }
    (headers, fault)
}

/// What both kinds of message must have. Names each header that is wrong.
fn check_common(headers: &Headers) -> Result<Method, HeaderError> {
    headers.via()?;
    headers.from()?;
    headers.to()?;
    headers.call_id()?;
    headers.content_length()?;
    Ok(headers.cseq()?.method)
}

fn finish_request(
    method: &Method,
    uri: &str,
    headers: &Headers,
    body: &[u8],
) -> Result<(Uri, Vec<u8>), Fault> {
    if check_common(headers)? != *method {
        return Err(bad("CSeq Method Mismatch"));
    }
    headers.max_forwards()?;
    headers.contacts()?;
    headers.routes()?;
    headers.record_routes()?;
    let uri = uri.parse().map_err(|_| bad("Malformed Request-URI"))?;
    Ok((uri, cut_body(headers, body)?))
}

fn finish_response(headers: &Headers, body: &[u8]) -> Result<Vec<u8>, Fault> {
    check_common(headers)?;
    cut_body(headers, body)
}

/// The body that Content-Length tells, or all of the rest.
fn cut_body(headers: &Headers, body: &[u8]) -> Result<Vec<u8>, Fault> {
    match headers.content_length()? {
        Some(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let body = body.get(..length).ok_or_else(|| bad("Body Shorter Than Content-Length"))?;
            Ok(body.to_vec())
        }
        None => Ok(body.to_vec()),
    }
}

fn reject(method: Method, headers: &Headers, Fault(status, reason): Fault) -> ParseError {
    if method == Method::Ack {
        return ParseError::Dropped("malformed ACK");
    }
    // Without a Via there is no way back, and what has none was not sent by a SIP client.
    if headers.via().is_err() {
        return ParseError::Dropped("no usable Via");
    }
    let mut response = Response::new(status).with_reason(&reason);
    for name in [Name::VIA, Name::FROM, Name::TO, Name::CALL_ID, Name::CSEQ] {
        response.headers.copy(headers, &name);
    }
    ParseError::Rejected(Box::new(Rejected { method, response }))
}

fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Splits after the first empty line; no body at all if there is none.
fn split_head(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match head_end(bytes, 0) {
        Some(end) => (&bytes[..end], Some(&bytes[end..])),
        None => (bytes, None),
    }
}

/// Where the header section ends that starts at 0: just after its empty line. Looks from `from` on,
/// so that a stream need not be searched twice.
pub(crate) fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let start = from.saturating_sub(3);
    let newlines = bytes[start..].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    for (at, _) in newlines {
        let at = start + at;
        match bytes[at + 1..] {
            [b'\n', ..] => return Some(at + 2),
            [b'\r', b'\n', ..] => return Some(at + 3),
            _ => {}
        }
    }
    None
}

/// Lines without their ends: CR LF or LF alone.
#[derive(Clone)]
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().position(|byte| *byte == b'\n').unwrap_or(self.0.len());
        let line = &self.0[..end];
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Joins each line with those after it that start with a blank (RFC 3261 §7.3.1).
fn unfold(lines: Lines<'_>) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut lines = lines.filter(|line| !line.is_empty()).peekable();
    std::iter::from_fn(move || {
        let mut whole = Cow::Borrowed(lines.next()?);
        while let Some(more) =
            lines.next_if(|line| line.starts_with(b" ") || line.starts_with(b"\t"))
        {
            let whole = whole.to_mut();
            whole.push(b' ');
            whole.extend_from_slice(more.trim_ascii());
        }
        Some(whole)
    })
}

/// Whether a NUL stands anywhere but after a backslash, where a quoted string may hold one.
fn has_bare_nul(line: &[u8]) -> bool {
    line.iter().enumerate().any(|(at, byte)| *byte == 0 && (at == 0 || line[at - 1] != b'\\'))
}

/// Reads text: UTF-8, or else Latin-1 as old phones write it.
fn text(bytes: &(impl AsRef<[u8]> + ?Sized)) -> String {
    let bytes = bytes.as_ref();
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}
