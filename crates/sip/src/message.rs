//! Requests and responses: building them, printing them (RFC 3261 §7).

use std::fmt::{self, Display};

use crate::{
    header::{Headers, MediaType, Name, NameAddr},
    scan,
    uri::Uri,
};

/// A SIP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

/// A request (RFC 3261 §7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Of whom: the Request-URI.
    pub uri: Uri,
    /// Its headers. Content-Length is written by [`Request::to_bytes`] whatever stands here.
    pub headers: Headers,
    /// Its body, empty for none.
    pub body: Vec<u8>,
}

/// A response (RFC 3261 §7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// How the request fared.
    pub status: Status,
    /// The reason phrase, for people.
    pub reason: String,
    /// Its headers. Content-Length is written by [`Response::to_bytes`] whatever stands here.
    pub headers: Headers,
    /// Its body, empty for none.
    pub body: Vec<u8>,
}

/// A method. Case counts (RFC 3261 §7.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Set up a session (RFC 3261 §13).
    Invite,
    /// Confirm the final answer to an INVITE.
    Ack,
    /// End a session (§15).
    Bye,
    /// Give up a pending INVITE (§9).
    Cancel,
    /// Ask for capabilities (§11).
    Options,
    /// Bind an address (§10).
    Register,
    /// Subscribe to events (RFC 6665).
    Subscribe,
    /// Report an event (RFC 6665).
    Notify,
    /// Ask the peer to send a request (RFC 3515).
    Refer,
    /// An instant message (RFC 3428).
    Message,
    /// Something within a session (RFC 6086).
    Info,
    /// Change a session (RFC 3311).
    Update,
    /// Acknowledge a provisional response (RFC 3262).
    Prack,
    /// Publish event state (RFC 3903).
    Publish,
    /// One that this crate does not know: answered with 501 or 405.
    Other(String),
}

/// A status code, 100 to 699.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(u16);

impl Message {
    /// The headers, whichever it is.
    pub fn headers(&self) -> &Headers {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    /// The headers to change.
    pub fn headers_mut(&mut self) -> &mut Headers {
        match self {
            Self::Request(request) => &mut request.headers,
            Self::Response(response) => &mut response.headers,
        }
    }

    /// What goes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Request(request) => request.to_bytes(),
            Self::Response(response) => response.to_bytes(),
        }
    }
}

impl Request {
    /// A request without headers.
    pub fn new(method: Method, uri: impl Into<Uri>) -> Self {
        Self { method, uri: uri.into(), headers: Headers::new(), body: vec![] }
    }

    /// The same request with one more header.
    #[must_use]
    pub fn with(mut self, name: Name, value: impl ToString) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The same request with this body.
    #[must_use]
    pub fn with_body(mut self, content_type: &MediaType, body: impl Into<Vec<u8>>) -> Self {
        self.headers.set(Name::CONTENT_TYPE, content_type);
        self.body = body.into();
        self
    }

    /// Starts a response with the headers that every response copies: all Via, From, To, Call-ID
    /// and CSeq, and Record-Route where it may form a dialog (RFC 3261 §8.2.6.2, §12.1.1). The
    /// caller adds a To tag, Contact and whatever else the answer says.
    pub fn response(&self, status: Status) -> Response {
        let mut response = Response::new(status);
        for name in [Name::VIA, Name::FROM, Name::TO, Name::CALL_ID, Name::CSEQ] {
            response.headers.copy(&self.headers, &name);
        }
        if status == Status::TRYING {
            response.headers.copy(&self.headers, &Name::TIMESTAMP);
        } else if status.is_provisional() || status.is_success() {
            response.headers.copy(&self.headers, &Name::RECORD_ROUTE);
        }
        response
    }

    /// What goes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        print(&format!("{} {} SIP/2.0", self.method, self.uri), &self.headers, &self.body)
    }
}

impl Response {
    /// A response with the usual reason phrase and no headers; see [`Request::response`].
    pub fn new(status: Status) -> Self {
        let reason = status.reason().to_owned();
        Self { status, reason, headers: Headers::new(), body: vec![] }
    }

    /// The same response with one more header.
    #[must_use]
    pub fn with(mut self, name: Name, value: impl ToString) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The same response with another reason phrase.
    #[must_use]
    pub fn with_reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    /// The same response with this tag on To.
    #[must_use]
    pub fn with_to_tag(mut self, tag: &str) -> Self {
        self.headers.set_to_tag(tag);
        self
    }

    /// The same response with a Contact.
    #[must_use]
    pub fn with_contact(self, contact: &NameAddr) -> Self {
        self.with(Name::CONTACT, contact)
    }

    /// The same response with this body.
    #[must_use]
    pub fn with_body(mut self, content_type: &MediaType, body: impl Into<Vec<u8>>) -> Self {
        self.headers.set(Name::CONTENT_TYPE, content_type);
        self.body = body.into();
        self
    }

    /// What goes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        print(&format!("SIP/2.0 {} {}", self.status.code(), self.reason), &self.headers, &self.body)
    }
}

/// The one place where a message becomes bytes: no line can break out of its line here.
fn print(start: &str, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + body.len());
    let mut line = |parts: &[&str]| {
        for part in parts {
            out.extend_from_slice(scan::one_line(part).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    };
    line(&[start]);
    for (name, value) in headers.iter().filter(|(name, _)| **name != Name::CONTENT_LENGTH) {
        line(&[name.as_str(), ": ", value]);
    }
    line(&["Content-Length: ", &body.len().to_string()]);
    line(&[]);
    out.extend_from_slice(body);
    out
}

impl Method {
    /// Reads a method: any token is one.
    pub fn from_token(text: &str) -> Self {
        let known = KNOWN.iter().find(|method| method.as_str() == text);
        known.cloned().unwrap_or_else(|| Self::Other(text.to_owned()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Refer => "REFER",
            Self::Message => "MESSAGE",
            Self::Info => "INFO",
            Self::Update => "UPDATE",
            Self::Prack => "PRACK",
            Self::Publish => "PUBLISH",
            Self::Other(name) => name,
        }
    }
}

impl Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

const KNOWN: [Method; 14] = [
    Method::Invite,
    Method::Ack,
    Method::Bye,
    Method::Cancel,
    Method::Options,
    Method::Register,
    Method::Subscribe,
    Method::Notify,
    Method::Refer,
    Method::Message,
    Method::Info,
    Method::Update,
    Method::Prack,
    Method::Publish,
];

impl Status {
    /// A status by its code, if it is one.
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 100 && code < 700 { Some(Self(code)) } else { None }
    }

    /// The number.
    pub const fn code(self) -> u16 {
        self.0
    }

    /// 100 to 199: more will come.
    pub const fn is_provisional(self) -> bool {
        self.0 < 200
    }

    /// 200 to 299.
    pub const fn is_success(self) -> bool {
        self.0 >= 200 && self.0 < 300
    }

    /// 200 and up: the last answer.
    pub const fn is_final(self) -> bool {
        self.0 >= 200
    }

    /// The usual reason phrase, or that of its class.
    pub fn reason(self) -> &'static str {
        match STATUSES.iter().find(|(status, _)| *status == self) {
            Some((_, reason)) => reason,
            None => match self.0 / 100 {
                1 => "Session Progress",
                2 => "OK",
                3 => "Multiple Choices",
                4 => "Bad Request",
                5 => "Server Internal Error",
                _ => "Busy Everywhere",
            },
        }
    }
}

impl Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! statuses {
    ($($constant:ident $code:literal $reason:literal)*) => {
        #[allow(missing_docs)]
        impl Status {
            $(pub const $constant: Self = Self($code);)*
        }
        const STATUSES: &[(Status, &str)] = &[$((Status::$constant, $reason)),*];
    };
}

statuses! {
    TRYING 100 "Trying"
    RINGING 180 "Ringing"
    CALL_IS_BEING_FORWARDED 181 "Call Is Being Forwarded"
    QUEUED 182 "Queued"
    SESSION_PROGRESS 183 "Session Progress"
    OK 200 "OK"
    ACCEPTED 202 "Accepted"
    NO_NOTIFICATION 204 "No Notification"
    MULTIPLE_CHOICES 300 "Multiple Choices"
    MOVED_PERMANENTLY 301 "Moved Permanently"
    MOVED_TEMPORARILY 302 "Moved Temporarily"
    USE_PROXY 305 "Use Proxy"
    BAD_REQUEST 400 "Bad Request"
    UNAUTHORIZED 401 "Unauthorized"
    FORBIDDEN 403 "Forbidden"
    NOT_FOUND 404 "Not Found"
    METHOD_NOT_ALLOWED 405 "Method Not Allowed"
    NOT_ACCEPTABLE 406 "Not Acceptable"
    PROXY_AUTHENTICATION_REQUIRED 407 "Proxy Authentication Required"
    REQUEST_TIMEOUT 408 "Request Timeout"
    GONE 410 "Gone"
    CONDITIONAL_REQUEST_FAILED 412 "Conditional Request Failed"
    REQUEST_ENTITY_TOO_LARGE 413 "Request Entity Too Large"
    REQUEST_URI_TOO_LONG 414 "Request-URI Too Long"
    UNSUPPORTED_MEDIA_TYPE 415 "Unsupported Media Type"
    UNSUPPORTED_URI_SCHEME 416 "Unsupported URI Scheme"
    BAD_EXTENSION 420 "Bad Extension"
    EXTENSION_REQUIRED 421 "Extension Required"
    SESSION_INTERVAL_TOO_SMALL 422 "Session Interval Too Small"
    INTERVAL_TOO_BRIEF 423 "Interval Too Brief"
    PROVIDE_REFERRER_IDENTITY 429 "Provide Referrer Identity"
    FLOW_FAILED 430 "Flow Failed"
    ANONYMITY_DISALLOWED 433 "Anonymity Disallowed"
    BAD_INFO_PACKAGE 469 "Bad Info Package"
    TEMPORARILY_UNAVAILABLE 480 "Temporarily Unavailable"
    CALL_DOES_NOT_EXIST 481 "Call/Transaction Does Not Exist"
    LOOP_DETECTED 482 "Loop Detected"
    TOO_MANY_HOPS 483 "Too Many Hops"
    ADDRESS_INCOMPLETE 484 "Address Incomplete"
    AMBIGUOUS 485 "Ambiguous"
    BUSY_HERE 486 "Busy Here"
    REQUEST_TERMINATED 487 "Request Terminated"
    NOT_ACCEPTABLE_HERE 488 "Not Acceptable Here"
    BAD_EVENT 489 "Bad Event"
    REQUEST_PENDING 491 "Request Pending"
    UNDECIPHERABLE 493 "Undecipherable"
    SERVER_INTERNAL_ERROR 500 "Server Internal Error"
    NOT_IMPLEMENTED 501 "Not Implemented"
    BAD_GATEWAY 502 "Bad Gateway"
    SERVICE_UNAVAILABLE 503 "Service Unavailable"
    SERVER_TIMEOUT 504 "Server Time-out"
    VERSION_NOT_SUPPORTED 505 "Version Not Supported"
    MESSAGE_TOO_LARGE 513 "Message Too Large"
    BUSY_EVERYWHERE 600 "Busy Everywhere"
    DECLINE 603 "Decline"
    DOES_NOT_EXIST_ANYWHERE 604 "Does Not Exist Anywhere"
    NOT_ACCEPTABLE_ANYWHERE 606 "Not Acceptable"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request::new(Method::Invite, "sip:a@h".parse::<Uri>().unwrap())
            .with(Name::VIA, "SIP/2.0/UDP a;branch=z9hG4bK1")
            .with(Name::VIA, "SIP/2.0/UDP b")
            .with(Name::RECORD_ROUTE, "<sip:p;lr>")
            .with(Name::TIMESTAMP, 54)
            .with(Name::FROM, "<sip:b@h>;tag=1")
            .with(Name::TO, "\"x\" <sip:a@h>")
            .with(Name::CALL_ID, "c")
            .with(Name::CSEQ, "1 INVITE")
    }

    fn names(response: &Response) -> Vec<&str> {
        response.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn a_response_copies_what_it_must() {
        let ok = request().response(Status::OK).with_to_tag("t");
        assert_eq!(names(&ok), ["Via", "Via", "From", "To", "Call-ID", "CSeq", "Record-Route"]);
        assert_eq!(ok.headers.get(&Name::TO), Some("\"x\" <sip:a@h>;tag=t"));
        let busy = request().response(Status::BUSY_HERE);
        assert_eq!(names(&busy), ["Via", "Via", "From", "To", "Call-ID", "CSeq"]);
        let trying = request().response(Status::TRYING);
        assert_eq!(names(&trying).last(), Some(&"Timestamp"));
    }

    #[test]
    fn prints_with_its_own_length() {
        let request = Request::new(Method::Options, "sip:h".parse::<Uri>().unwrap())
            .with(Name::CONTENT_LENGTH, 99)
            .with_body(&MediaType::new("Text", "plain"), "hi");
        let expected =
            "OPTIONS sip:h SIP/2.0\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(String::from_utf8(request.to_bytes()).unwrap(), expected);
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        let mut response = Response::new(Status::OK)
            .with_reason("a\r\nInjected: 1")
            .with(Name::SUBJECT, "b\nInjected: 2\r\r\n\r\n\0");
        response.headers.push(
            Name::TO,
            NameAddr::new("sip:h".parse::<Uri>().unwrap())
                .with_display("c\r\nInjected: 3")
                .with_param("tag", Some("d\r\nInjected: 4"))
                .with_param("e\r\nInjected: 5", None),
        );
        let mut odd =
            Request::new(Method::Other("X\r\nInjected: 6".into()), "sip:h".parse::<Uri>().unwrap());
        odd.headers = response.headers.clone();
        for bytes in [response.to_bytes(), odd.to_bytes()] {
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.contains("\nInjected"), "{text}");
            assert!(!text.contains('\0'));
            assert_eq!(text.matches("\r\n\r\n").count(), 1, "{text}");
        }
    }

    #[test]
    fn statuses_have_reasons() {
        let check = |code, reason| assert_eq!(Status::new(code).unwrap().reason(), reason);
        check(200, "OK");
        check(299, "OK");
        check(486, "Busy Here");
        check(499, "Bad Request");
        check(699, "Busy Everywhere");
        assert_eq!(Status::new(99), None);
        assert_eq!(Status::new(700), None);
    }

    #[test]
    fn methods_keep_their_case() {
        for method in KNOWN {
            assert_eq!(Method::from_token(method.as_str()), method);
        }
        assert_eq!(Method::from_token("invite"), Method::Other("invite".to_owned()));
    }
}
