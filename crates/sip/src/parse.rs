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
    uri::{SipUri, Uri},
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
    /// holds those of Via, From, To, Call-ID and CSeq that could be found, as they were written: even
    /// the topmost Via may be unreadable, and then the answer goes to where the request came from.
    pub response: Response,
}

/// Reads one message that `bytes` hold from start to end: a datagram (RFC 3261 §18.3).
///
/// Empty lines before the message are skipped (§7.5), lines may end in LF alone, header lines may be
/// folded (§7.3.1). Without Content-Length the body is all the rest; with a shorter one, what
/// follows is cut off; a longer one is answered with 400.
pub fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
    let bytes = skip_empty_lines(bytes);
    let end = head_end(bytes, 0);
    let (head, body) = bytes.split_at(end.unwrap_or(bytes.len()));
    let mut head = Head::read(head)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(head.reject(Fault::too_large()));
    }
    if end.is_none() {
        head.fault.get_or_insert(bad("Header Section Cut Short"));
    }
    match head.body_length() {
        Ok(None) => head.finish(body.to_vec()),
        Ok(Some(length)) if length <= body.len() => head.finish(body[..length].to_vec()),
        Ok(Some(_)) => Err(head.reject(bad("Body Shorter Than Content-Length"))),
        Err(fault) => Err(head.reject(fault)),
    }
}

/// A message up to its empty line.
#[derive(Debug)]
pub(crate) struct Head {
    start: Start,
    headers: Headers,
    /// The first line that is not a header line, if one is not.
    fault: Option<Fault>,
}

impl Head {
    /// Reads the start line and the header lines. Fails if the first line is not SIP.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut lines = Lines(bytes);
        let start = read_start(&lines.next().map(text).unwrap_or_default())?;
        let (headers, fault) = read_headers(lines);
        Ok(Self { start, headers, fault })
    }

    /// Whether each line was a header line: else one cannot be sure to have seen every header.
    pub(crate) fn lines_ok(&mut self) -> Result<(), Fault> {
        self.fault.take().map_or(Ok(()), Err)
    }

    /// What Content-Length says, in bytes.
    pub(crate) fn body_length(&self) -> Result<Option<usize>, Fault> {
        let length = self.headers.content_length()?;
        Ok(length.map(|length| usize::try_from(length).unwrap_or(usize::MAX)))
    }

    /// Adds the body, after checking what every message must have.
    pub(crate) fn finish(mut self, body: Vec<u8>) -> Result<Message, ParseError> {
        if let Err(fault) = self.lines_ok() {
            return Err(self.reject(fault));
        }
        let headers = self.headers;
        match self.start {
            Start::Response { status, reason } => match check_common(&headers) {
                Ok(_) => Ok(Message::Response(Response { status, reason, headers, body })),
                Err(_) => Err(ParseError::Dropped("malformed response")),
            },
            Start::Request { method, uri } => {
                let checked = uri.and_then(|uri| {
                    check_request(&method, &headers)?;
                    Ok(uri)
                });
                match checked {
                    Ok(uri) => Ok(Message::Request(Request { method, uri, headers, body })),
                    Err(fault) => Err(reject(method, &headers, fault)),
                }
            }
        }
    }

    /// The error for a message with this fault, holding the answer if it can have one.
    pub(crate) fn reject(self, fault: Fault) -> ParseError {
        match self.start {
            Start::Request { method, .. } => reject(method, &self.headers, fault),
            Start::Response { .. } => ParseError::Dropped("malformed response"),
        }
    }
}

fn reject(method: Method, headers: &Headers, Fault(status, reason): Fault) -> ParseError {
    if method == Method::Ack {
        return ParseError::Dropped("malformed ACK");
    }
    // What has no Via was not sent by a SIP client.
    if !headers.contains(&Name::VIA) {
        return ParseError::Dropped("no Via");
    }
    let mut response = Response::new(status).with_reason(&reason);
    for name in [Name::VIA, Name::FROM, Name::TO, Name::CALL_ID, Name::CSEQ] {
        response.headers.copy(headers, &name);
    }
    ParseError::Rejected(Box::new(Rejected { method, response }))
}

/// What is wrong, as the sender will read it.
#[derive(Debug)]
pub(crate) struct Fault(Status, Cow<'static, str>);

impl Fault {
    /// More than [`MAX_MESSAGE`].
    pub(crate) fn too_large() -> Self {
        Self::new(Status::MESSAGE_TOO_LARGE, "Message Too Large")
    }

    /// On a stream, where nothing else tells the end of a message (RFC 3261 §18.3).
    pub(crate) fn no_length() -> Self {
        bad("Missing Content-Length header")
    }

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

#[derive(Debug)]
enum Start {
    Request { method: Method, uri: Result<Uri, Fault> },
    Response { status: Status, reason: String },
}

/// Reads the first line: Request-Line or Status-Line (RFC 3261 §7.1, §7.2).
fn read_start(line: &str) -> Result<Start, ParseError> {
    if let Some(rest) = strip_version(line).and_then(|rest| rest.strip_prefix(' ')) {
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let three = scan::number(code).filter(|_| code.len() == 3 && line.len() <= MAX_LINE);
        let status = three.and_then(Status::new).ok_or(ParseError::Dropped("bad status line"))?;
        return Ok(Start::Response { status, reason: reason.to_owned() });
    }
    const NOT_SIP: ParseError = ParseError::Dropped("not SIP");
    let trimmed = line.trim_ascii_end();
    let (method, rest) = trimmed.split_once(' ').ok_or(NOT_SIP)?;
    let (uri, version) = rest.rsplit_once(' ').ok_or(NOT_SIP)?;
    let is_sip = version.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("SIP/"));
    if !scan::is_token(method) || !is_sip {
        return Err(NOT_SIP);
    }
    let uri = if line.len() > MAX_LINE {
        Err(Fault::new(Status::REQUEST_URI_TOO_LONG, "Request-URI Too Long"))
    } else if strip_version(version) != Some("") {
        Err(Fault::new(Status::VERSION_NOT_SUPPORTED, "Version Not Supported"))
    } else if trimmed != line {
        Err(bad("Malformed Request-Line"))
    } else {
        // Blanks and brackets around or within the URI end here too.
        let uri = uri.parse::<Uri>().ok();
        let uri = uri.filter(|uri| !uri.as_sip().is_some_and(SipUri::has_headers));
        uri.ok_or_else(|| bad("Malformed Request-URI"))
    };
    Ok(Start::Request { method: Method::from_token(method), uri })
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
        if has_control(&line) {
            note(bad("Control Character in Header"));
            continue;
        }
        let line = text(&line);
        let named = line.split_once(':');
        // A blank before the colon is legal (§25.1, HCOLON), one before the name is not.
        match named.and_then(|(name, value)| Some((Name::new(name.trim_ascii_end())?, value))) {
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

fn check_request(method: &Method, headers: &Headers) -> Result<(), Fault> {
    if check_common(headers)? != *method {
        // A method from the future may have a CSeq of its own kind (RFC 4475 §3.1.2.18).
        return Err(if matches!(method, Method::Other(_)) {
            Fault::new(Status::NOT_IMPLEMENTED, "Not Implemented")
        } else {
            bad("CSeq Method Mismatch")
        });
    }
    headers.max_forwards()?;
    headers.contacts()?;
    headers.routes()?;
    headers.record_routes()?;
    Ok(())
}

fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
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

/// Whether a CR stands alone, or a NUL where no quoted string may hold it: readers down the path
/// could end the line or the text there.
fn has_control(line: &[u8]) -> bool {
    let before = |at: usize| at.checked_sub(1).map(|at| line[at]);
    line.iter().enumerate().any(|(at, byte)| match byte {
        b'\r' => true,
        0 => before(at) != Some(b'\\'),
        _ => false,
    })
}

/// Reads text: UTF-8, or else Latin-1 as old phones write it.
fn text(bytes: &(impl AsRef<[u8]> + ?Sized)) -> String {
    let bytes = bytes.as_ref();
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: &str = "v: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:b@h>;tag=1\r\nt: <sip:a@h>\r\n\
                           i: c@h\r\nCSeq: 1 OPTIONS\r\n";

    /// What becomes of `start`, the usual headers, and `rest`: `ok` with the body, or a status, or
    /// why it is dropped.
    fn outcome(start: &str, rest: &str) -> String {
        outcome_of(format!("{start}\r\n{HEADERS}{rest}").as_bytes())
    }

    fn outcome_of(bytes: &[u8]) -> String {
        match parse(bytes) {
            Ok(Message::Request(request)) => {
                format!("ok {}", String::from_utf8_lossy(&request.body))
            }
            Ok(Message::Response(response)) => format!("{} {}", response.status, response.reason),
            Err(ParseError::Rejected(rejected)) => {
                format!("{} {}", rejected.response.status, rejected.response.reason)
            }
            Err(ParseError::Dropped(why)) => format!("dropped: {why}"),
        }
    }

    #[test]
    fn start_lines() {
        let check = |start: &str, expected: &str| {
            assert_eq!(outcome(start, "\r\n"), expected, "{start}");
        };
        check("OPTIONS sip:h SIP/2.0", "ok ");
        check("OPTIONS sip:h sip/2.0", "ok ");
        check("\r\n\r\n\nOPTIONS sip:h SIP/2.0", "ok ");
        check("OPTIONS urn:service:sos SIP/2.0", "ok ");
        check("OPTIONS tel:+1 SIP/2.0", "ok ");
        check("options sip:h SIP/2.0", "501 Not Implemented");
        check("INVITE sip:h SIP/2.0", "400 CSeq Method Mismatch");
        check("OPTIONS sip:h SIP/2.1", "505 Version Not Supported");
        check("OPTIONS sip:h SIP/2.00", "505 Version Not Supported");
        check("OPTIONS sip:h HTTP/1.1", "dropped: not SIP");
        check("OPTIONS sip:h", "dropped: not SIP");
        check("OPTIONS", "dropped: not SIP");
        check("", "dropped: not SIP");
        check("\u{0}", "dropped: not SIP");
        check("GET / HTTP/1.1", "dropped: not SIP");
        check("OPTIONS h SIP/2.0", "400 Malformed Request-URI");
        check("OPTIONS  SIP/2.0", "400 Malformed Request-URI");
        check("OPTIONS sip:a b@h SIP/2.0", "400 Malformed Request-URI");
        check("SIP/2.0 200 OK", "200 OK");
        check("SIP/2.0 200", "200 ");
        check("SIP/2.0 200 ", "200 ");
        check("SIP/2.0 099 x", "dropped: bad status line");
        check("SIP/2.0 0200 x", "dropped: bad status line");
        check("SIP/2.0 2x0 x", "dropped: bad status line");
        check("SIP/2.0  200 x", "dropped: bad status line");
        let long = format!("OPTIONS sip:{}@h SIP/2.0", "a".repeat(MAX_LINE));
        check(&long, "414 Request-URI Too Long");
    }

    #[test]
    fn header_lines() {
        let check = |rest: &str, expected: &str| {
            assert_eq!(outcome("OPTIONS sip:h SIP/2.0", rest), expected, "{rest:?}");
        };
        check("X: y\r\n\r\n", "ok ");
        check("X:\r\n\r\n", "ok ");
        check("X\t : y\n\r\n", "ok ");
        check("X: y\r\n z\r\n\tu\r\n\r\n", "ok ");
        check("X: y\r\n \r\n\r\n", "ok ");
        check("no colon\r\n\r\n", "400 Malformed Header Line");
        check(": y\r\n\r\n", "400 Malformed Header Line");
        check("X Y: y\r\n\r\n", "400 Malformed Header Line");
        check("X: a\rb\r\n\r\n", "400 Control Character in Header");
        check("X: a\0b\r\n\r\n", "400 Control Character in Header");
        check("\0: y\r\n\r\n", "400 Control Character in Header");
        check("X: y", "400 Header Section Cut Short");
        check("", "400 Header Section Cut Short");
        check("Max-Forwards: 256\r\n\r\n", "400 Malformed Max-Forwards header");
        check("m: <sip:\r\n\r\n", "400 Malformed Contact header");
        check("Route: <sip:a@h>,\r\n\r\n", "400 Malformed Route header");
        check("f: <sip:c@h>\r\n\r\n", "400 Repeated From header");
        check("l: 9\r\nl: 8\r\n\r\n", "400 Repeated Content-Length header");
        let long = format!("X: {}\r\n\r\n", "a".repeat(MAX_LINE));
        check(&long, "413 Header Line Too Long");
        let folded = format!("X: a\r\n{}\r\n", " aaaaaaaaaaaaaaa\r\n".repeat(MAX_LINE / 16));
        check(&folded, "413 Header Line Too Long");
        check(&"X: y\r\n".repeat(MAX_HEADERS), "413 Too Many Header Lines");
        let vias = "v: SIP/2.0/UDP h\r\n".repeat(crate::header::MAX_VALUES);
        check(&format!("{vias}\r\n"), "400 Too many values in Via");
    }

    #[test]
    fn bodies_of_datagrams() {
        let check = |rest: &str, expected: &str| {
            assert_eq!(outcome("OPTIONS sip:h SIP/2.0", rest), expected, "{rest:?}");
        };
        check("\r\nrest", "ok rest");
        check("\nrest", "ok rest");
        check("l: 2\r\n\r\nrest", "ok re");
        check("l: 4\r\n\r\nrest", "ok rest");
        check("l: 0004\r\nl: 4\r\n\r\nrest", "ok rest");
        check("l: 5\r\n\r\nrest", "400 Body Shorter Than Content-Length");
        check("l: 4294967295\r\n\r\nrest", "400 Body Shorter Than Content-Length");
        check("l: 4294967296\r\n\r\nrest", "400 Malformed Content-Length header");
        check("l: -1\r\n\r\nrest", "400 Malformed Content-Length header");
        check("l: 1 2\r\n\r\nrest", "400 Malformed Content-Length header");
        check("l:\r\n\r\nrest", "400 Malformed Content-Length header");
        let long = format!("\r\n{}", "a".repeat(MAX_MESSAGE));
        check(&long, "513 Message Too Large");
    }

    #[test]
    fn what_must_be_there() {
        for line in HEADERS.split_inclusive("\r\n") {
            let without = format!("OPTIONS sip:h SIP/2.0\r\n{}\r\n", HEADERS.replace(line, ""));
            let expected = match line.split_once(':').unwrap().0 {
                "v" => "dropped: no Via",
                "f" => "400 Missing From header",
                "t" => "400 Missing To header",
                "i" => "400 Missing Call-ID header",
                _ => "400 Missing CSeq header",
            };
            assert_eq!(outcome_of(without.as_bytes()), expected);
            let response = without.replace("OPTIONS sip:h SIP/2.0", "SIP/2.0 200 OK");
            assert_eq!(outcome_of(response.as_bytes()), "dropped: malformed response");
        }
        let ack = format!("ACK sip:h SIP/2.0\r\n{HEADERS}\r\n");
        assert_eq!(outcome_of(ack.as_bytes()), "dropped: malformed ACK");
    }

    #[test]
    fn latin_1_is_read_and_not_lost() {
        let bytes =
            b"OPTIONS sip:h SIP/2.0\r\nSubject: gr\xfc\xdfe\r\nOrganization: gr\xc3\xbc\r\n";
        let bytes = [bytes, HEADERS.as_bytes(), b"\r\n"].concat();
        let message = parse(&bytes).unwrap();
        assert_eq!(message.headers().get(&Name::SUBJECT), Some("grüße"));
        assert_eq!(message.headers().get(&Name::ORGANIZATION), Some("grü"));
    }

    #[test]
    fn a_rejection_can_be_sent() {
        let bytes = format!("OPTIONS sip: SIP/2.0\r\n{HEADERS}X: y\r\n\r\n");
        let Err(ParseError::Rejected(rejected)) = parse(bytes.as_bytes()) else { panic!() };
        let text = String::from_utf8(rejected.response.with_to_tag("t").to_bytes()).unwrap();
        let expected = "SIP/2.0 400 Malformed Request-URI\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
                        From: <sip:b@h>;tag=1\r\nTo: <sip:a@h>;tag=t\r\nCall-ID: c@h\r\n\
                        CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(text, expected);
    }
}
