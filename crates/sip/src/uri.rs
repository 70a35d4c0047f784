//! Who and where: SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966).
//!
//! Text that came from a peer is kept as it came, escapes included, so a URI that is only passed on
//! or used as a remote target leaves as it arrived. Accessors decode, setters encode.

use std::{
    borrow::Cow,
    fmt::{self, Display, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use crate::scan::{self, number};

/// A URI in any place where SIP allows one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Uri {
    /// `sip:` or `sips:`.
    Sip(SipUri),
    /// `tel:` (RFC 3966).
    Tel(TelUri),
    /// Any other scheme, kept as it came: as Request-URI it is answered with 416.
    Other(OtherUri),
}

/// A `sip:` or `sips:` URI (RFC 3261 §19.1.1).
///
/// `==` compares what is written; [`SipUri::equivalent`] compares by the rules of §19.1.4.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SipUri {
    /// Whether the scheme is `sips`.
    pub secure: bool,
    user: Option<String>,
    password: Option<String>,
    /// The host, or the address that stands in its place.
    pub host: Host,
    /// The port, if one is written: none is not the same as 5060 (§19.1.4).
    pub port: Option<u16>,
    params: Vec<(String, Option<String>)>,
    headers: Vec<(String, String)>,
}

/// A `tel:` URI (RFC 3966).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TelUri {
    number: String,
    params: Vec<(String, Option<String>)>,
}

/// A URI of a scheme that this crate does not look into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OtherUri {
    text: String,
    colon: usize,
}

/// A host name or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A domain name, in the case in which it was written.
    Name(String),
    /// An address; IPv6 prints in brackets.
    Ip(IpAddr),
}

/// How a message travels (RFC 3261 §19.1.1, RFC 7118).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// One this crate does not carry, such as SCTP.
    Other(String),
}

/// Why a text is not a URI. As Request-URI it is answered with 400 (RFC 3261 §21.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed URI: {0}")]
pub struct UriError(&'static str);

impl Uri {
    /// The scheme, as it was written.
    pub fn scheme(&self) -> &str {
        match self {
            Self::Sip(SipUri { secure: false, .. }) => "sip",
            Self::Sip(_) => "sips",
            Self::Tel(_) => "tel",
            Self::Other(other) => other.scheme(),
        }
    }

    /// The SIP or SIPS URI, if it is one.
    pub fn as_sip(&self) -> Option<&SipUri> {
        match self {
            Self::Sip(uri) => Some(uri),
            Self::Tel(_) | Self::Other(_) => None,
        }
    }

    /// Whether both name the same resource (RFC 3261 §19.1.4, RFC 3966 §4).
    pub fn equivalent(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sip(a), Self::Sip(b)) => a.equivalent(b),
            (Self::Tel(a), Self::Tel(b)) => a.equivalent(b),
            (a, b) => a == b,
        }
    }
}

impl SipUri {
    /// A `sip:` URI of this user, if any, at this host.
    pub fn new(user: Option<&str>, host: Host, port: Option<u16>) -> Self {
        let user = user.map(|user| escape(user, is_user_byte));
        let (params, headers) = (vec![], vec![]);
        Self { secure: false, user, password: None, host, port, params, headers }
    }

    /// A `sip:` URI that names an address alone, as in Contact or Record-Route.
    pub fn at(address: SocketAddr) -> Self {
        Self::new(None, Host::Ip(address.ip()), Some(address.port()))
    }

    /// The same URI, reached by this transport (RFC 3261 §19.1.1, RFC 7118 §5.2).
    #[must_use]
    pub fn over(self, transport: crate::flow::Transport) -> Self {
        match transport.uri_param() {
            None => self,
            Some(value) => self.with_param("transport", Some(value)),
        }
    }

    /// The user part, decoded; bytes that are not UTF-8 become U+FFFD.
    pub fn user(&self) -> Option<Cow<'_, str>> {
        self.user.as_deref().map(unescape)
    }

    /// Replaces the user part, encoding what may not stand there.
    pub fn set_user(&mut self, user: Option<&str>) {
        self.user = user.map(|user| escape(user, is_user_byte));
    }

    /// The password, decoded. Deprecated by RFC 3261 §19.1.1; never log it.
    pub fn password(&self) -> Option<Cow<'_, str>> {
        self.password.as_deref().map(unescape)
    }

    /// A URI parameter by its name, decoded; one without value is `""`.
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        param(&self.params, name).map(|value| unescape(value.unwrap_or_default()))
    }

    /// Sets or replaces a URI parameter, encoding what may not stand there.
    pub fn set_param(&mut self, name: &str, value: Option<&str>) {
        self.remove_param(name);
        let name = escape(name, is_param_byte);
        self.params.push((name, value.map(|value| escape(value, is_param_byte))));
    }

    /// The same URI with one more parameter.
    #[must_use]
    pub fn with_param(mut self, name: &str, value: Option<&str>) -> Self {
        self.set_param(name, value);
        self
    }

    /// Removes a URI parameter.
    pub fn remove_param(&mut self, name: &str) {
        self.params.retain(|(had, _)| !normal(had).eq_ignore_ascii_case(name));
    }

    /// The headers after `?`, names and values decoded (RFC 3261 §19.1.5).
    pub fn headers(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.headers.iter().map(|(name, value)| (unescape(name), unescape(value)))
    }

    /// Whether there are headers after `?`: a Request-URI may have none (RFC 3261 §19.1.1, table 1).
    pub fn has_headers(&self) -> bool {
        !self.headers.is_empty()
    }

    /// Adds a header after `?`, as in a Refer-To that carries Replaces (RFC 3891 §4).
    pub fn push_header(&mut self, name: &str, value: &str) {
        self.headers.push((escape(name, is_header_byte), escape(value, is_header_byte)));
    }

    /// Removes all headers: what a Request-URI or a Contact of ours must not have.
    pub fn clear_headers(&mut self) {
        self.headers.clear();
    }

    /// The `transport` parameter.
    pub fn transport(&self) -> Option<Transport> {
        self.param("transport").map(|value| Transport::from_token(&value))
    }

    /// Whether this is a loose router (`lr`, RFC 3261 §16.12).
    pub fn is_loose_router(&self) -> bool {
        self.param("lr").is_some()
    }

    /// Whether both name the same resource (RFC 3261 §19.1.4).
    pub fn equivalent(&self, other: &Self) -> bool {
        // These never match when only one side has them, even at their default.
        const DECISIVE: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
        let folded = |value: Option<&str>| normal(value.unwrap_or_default()).to_ascii_lowercase();
        let params_match = |a: &Self, b: &Self| {
            a.params.iter().all(|(name, _)| {
                let name = normal(name);
                // The first counts where a name stands twice, which it may not.
                match (param(&a.params, &name), param(&b.params, &name)) {
                    (Some(ours), Some(theirs)) => folded(ours) == folded(theirs),
                    _ => !DECISIVE.contains(&&*name.to_ascii_lowercase()),
                }
            })
        };
        let headers = |uri: &Self| {
            let folded = |(n, v): &(String, String)| (normal(n).to_ascii_lowercase(), normal(v));
            let mut all: Vec<_> = uri.headers.iter().map(folded).collect();
            all.sort();
            all
        };
        self.secure == other.secure
            && self.user.as_deref().map(normal) == other.user.as_deref().map(normal)
            && self.password.as_deref().map(normal) == other.password.as_deref().map(normal)
            && self.host.equivalent(&other.host)
            && self.port == other.port
            && params_match(self, other)
            && params_match(other, self)
            && headers(self) == headers(other)
    }
}

impl TelUri {
    /// The number, with its visual separators as written.
    pub fn number(&self) -> &str {
        &self.number
    }

    /// A parameter by its name, such as `phone-context` or `ext`; one without value is `""`.
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        param(&self.params, name).map(|value| unescape(value.unwrap_or_default()))
    }

    /// Whether both are the same number: separators and the order of parameters do not count
    /// (RFC 3966 §4).
    pub fn equivalent(&self, other: &Self) -> bool {
        let digits = |uri: &Self| uri.number.replace(['-', '.', '(', ')'], "").to_ascii_lowercase();
        let params = |uri: &Self| {
            let folded = |(n, v): &(String, Option<String>)| {
                (n.to_ascii_lowercase(), v.as_deref().map(|v| normal(v).to_ascii_lowercase()))
            };
            let mut all: Vec<_> = uri.params.iter().map(folded).collect();
            all.sort();
            all
        };
        digits(self) == digits(other) && params(self) == params(other)
    }
}

impl OtherUri {
    /// The scheme, as it was written.
    pub fn scheme(&self) -> &str {
        &self.text[..self.colon]
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Host {
    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Ip(ip) => Some(*ip),
        }
    }

    /// Whether both are the same host: names fold case, addresses compare as addresses.
    pub fn equivalent(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) => a.eq_ignore_ascii_case(b),
            (a, b) => a == b,
        }
    }

    /// Reads `host [":" port]`, as in URIs and in Via's sent-by.
    pub(crate) fn with_port(text: &str) -> Result<(Self, Option<u16>), UriError> {
        let after = match text.strip_prefix('[') {
            Some(v6) => v6.find(']').ok_or(UriError("open bracket in host"))? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let host = scan::trim(&text[..after]).parse()?;
        let rest = scan::trim(&text[after..]);
        let port = match rest.strip_prefix(':').map(scan::trim) {
            Some(port) => match number::<u16>(port) {
                Some(port) if port != 0 => Some(port),
                _ => return Err(UriError("bad port")),
            },
            None if rest.is_empty() => None,
            None => return Err(UriError("text after host")),
        };
        Ok((host, port))
    }
}

impl Transport {
    /// Reads the token of a Via or of a `transport` parameter, in any case.
    pub fn from_token(text: &str) -> Self {
        match text.to_ascii_uppercase() {
            upper if upper == "UDP" => Self::Udp,
            upper if upper == "TCP" => Self::Tcp,
            upper if upper == "TLS" => Self::Tls,
            upper if upper == "WS" => Self::Ws,
            upper if upper == "WSS" => Self::Wss,
            upper => Self::Other(upper),
        }
    }

    /// Whether the transport itself resends and keeps order, so that transactions need not.
    pub fn is_reliable(&self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp | Self::Tls | Self::Ws | Self::Wss => true,
            Self::Other(name) => name != "DTLS",
        }
    }

    /// The port when none is given (RFC 3261 §19.1.2, RFC 7118 §5).
    pub fn default_port(&self) -> u16 {
        match self {
            Self::Udp | Self::Tcp | Self::Other(_) => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

impl From<SipUri> for Uri {
    fn from(uri: SipUri) -> Self {
        Self::Sip(uri)
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip)
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let odd = |c: char| c.is_ascii_control() || c.is_whitespace() || "<>\"".contains(c);
        if text.contains(odd) {
            return Err(UriError("forbidden character"));
        }
        let (scheme, rest) = text.split_once(':').ok_or(UriError("no scheme"))?;
        let letters = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(letters) {
            return Err(UriError("bad scheme"));
        }
        if rest.is_empty() {
            return Err(UriError("nothing after the scheme"));
        }
        match scheme.to_ascii_lowercase().as_str() {
            "sip" => parse_sip(false, rest).map(Self::Sip),
            "sips" => parse_sip(true, rest).map(Self::Sip),
            "tel" => parse_tel(rest).map(Self::Tel),
            _ => Ok(Self::Other(OtherUri { text: text.to_owned(), colon: scheme.len() })),
        }
    }
}

impl FromStr for SipUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        match text.parse()? {
            Uri::Sip(uri) => Ok(uri),
            Uri::Tel(_) | Uri::Other(_) => Err(UriError("not a SIP URI")),
        }
    }
}

impl FromStr for Host {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if let Some(v6) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            // The ABNF of RFC 3261 led some to write a third colon (RFC 5118 §4.10).
            let ip = v6.replacen(":::", "::", 1).parse::<Ipv6Addr>();
            let ip = ip.map_err(|_| UriError("bad IPv6 address"))?;
            return Ok(Self::Ip(ip.into()));
        }
        let letters = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if text.is_empty() || text.len() > MAX_HOST || !text.bytes().all(letters) {
            return Err(UriError("bad host"));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        let mut labels = text.strip_suffix('.').unwrap_or(text).split('.');
        if labels.clone().any(str::is_empty) {
            return Err(UriError("empty label in host"));
        }
        // A name's last label starts with a letter, so what is all digits was meant as an address.
        let top = labels.next_back().unwrap_or_default();
        if top.bytes().all(|b| b.is_ascii_digit()) && text.contains('.') {
            return Err(UriError("bad IPv4 address"));
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sip(uri) => uri.fmt(f),
            Self::Tel(uri) => uri.fmt(f),
            Self::Other(uri) => f.write_str(&uri.text),
        }
    }
}

impl Display for SipUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if let Some(password) = &self.password {
                write!(f, ":{password}")?;
            }
            f.write_char('@')?;
        }
        write!(f, "{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write_params(f, &self.params)?;
        for (i, (name, value)) in self.headers.iter().enumerate() {
            write!(f, "{}{name}={value}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl Display for TelUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tel:{}", self.number)?;
        write_params(f, &self.params)
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Ws => "WS",
            Self::Wss => "WSS",
            Self::Other(name) => name,
        })
    }
}

/// The most parameters, and the most headers, of one URI.
pub const MAX_PARAMS: usize = 64;

/// The longest host name (RFC 1035 §2.3.4).
const MAX_HOST: usize = 255;

fn parse_sip(secure: bool, text: &str) -> Result<SipUri, UriError> {
    let (userinfo, rest) = match text.split_once('@') {
        Some((userinfo, rest)) => (Some(userinfo), rest),
        None => (None, text),
    };
    // No other part may hold a bare `@`, so a second one means that an escape is missing.
    if rest.contains('@') {
        return Err(UriError("more than one @"));
    }
    let (user, password) = match userinfo {
        Some(userinfo) => match userinfo.split_once(':') {
            Some((user, password)) => (Some(escaped(user)?), Some(escaped(password)?)),
            None => (Some(escaped(userinfo)?), None),
        },
        None => (None, None),
    };
    if user.as_deref() == Some("") {
        return Err(UriError("empty user"));
    }
    let (rest, headers) = match rest.split_once('?') {
        Some((rest, headers)) => (rest, parse_headers(headers)?),
        None => (rest, vec![]),
    };
    let (hostport, params) = match rest.split_once(';') {
        Some((hostport, params)) => (hostport, parse_params(params)?),
        None => (rest, vec![]),
    };
    let (host, port) = Host::with_port(hostport)?;
    Ok(SipUri { secure, user, password, host, port, params, headers })
}

fn parse_tel(text: &str) -> Result<TelUri, UriError> {
    let (number, params) = match text.split_once(';') {
        Some((number, params)) => (number, parse_params(params)?),
        None => (text, vec![]),
    };
    let global = number.strip_prefix('+');
    let local = |b: u8| b.is_ascii_hexdigit() || b"*#-.()".contains(&b);
    let digits = global.unwrap_or(number);
    if !digits.bytes().any(|b| b.is_ascii_hexdigit() || b"*#".contains(&b))
        || !digits.bytes().all(local)
    {
        return Err(UriError("bad telephone number"));
    }
    Ok(TelUri { number: number.to_owned(), params })
}

fn parse_params(text: &str) -> Result<Vec<(String, Option<String>)>, UriError> {
    if text.split(';').count() > MAX_PARAMS {
        return Err(UriError("too many parameters"));
    }
    text.split(';')
        .map(|param| match param.split_once('=') {
            Some(("", _)) => Err(UriError("parameter without name")),
            Some((name, value)) => Ok((escaped(name)?, Some(escaped(value)?))),
            None if param.is_empty() => Err(UriError("empty parameter")),
            None => Ok((escaped(param)?, None)),
        })
        .collect()
}

fn parse_headers(text: &str) -> Result<Vec<(String, String)>, UriError> {
    if text.split('&').count() > MAX_PARAMS {
        return Err(UriError("too many headers"));
    }
    text.split('&')
        .map(|header| match header.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((escaped(name)?, escaped(value)?)),
            _ => Err(UriError("bad header in URI")),
        })
        .collect()
}

/// Takes a part as it is, if each `%` in it starts an escape.
fn escaped(text: &str) -> Result<String, UriError> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let hex = rest.as_bytes().get(at + 1..at + 3).ok_or(UriError("cut escape"))?;
        if !hex.iter().all(u8::is_ascii_hexdigit) {
            return Err(UriError("bad escape"));
        }
        rest = &rest[at + 3..];
    }
    Ok(text.to_owned())
}

fn escape(text: &str, allowed: fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_unreserved(byte) || allowed(byte) {
            out.push(char::from(byte));
        } else {
            write_escape(&mut out, byte);
        }
    }
    out
}

fn write_escape(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(String::from_utf8_lossy(&decode(text, |_| true)).into_owned())
}

/// The form to compare: escapes of characters outside `reserved` are decoded, others in upper case
/// (RFC 3261 §19.1.4).
fn normal(text: &str) -> String {
    let decoded = decode(text, is_unreserved);
    let mut out = String::with_capacity(decoded.len());
    // Bytes beyond ASCII may stand as they are or escaped: both end escaped here.
    for byte in decoded {
        if byte.is_ascii() { out.push(char::from(byte)) } else { write_escape(&mut out, byte) }
    }
    out
}

/// Decodes those escapes whose byte is `wanted`, and prints the others in upper case.
fn decode(text: &str, wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).unwrap_or(0);
        let value = (digit() * 16 + digit()) as u8;
        if wanted(value) {
            out.push(value);
        } else {
            let mut upper = String::new();
            write_escape(&mut upper, value);
            out.extend_from_slice(upper.as_bytes());
        }
    }
    out
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte)
}

fn is_user_byte(byte: u8) -> bool {
    b"&=+$,;?/".contains(&byte)
}

fn is_param_byte(byte: u8) -> bool {
    b"[]/:&+$".contains(&byte)
}

fn is_header_byte(byte: u8) -> bool {
    b"[]/?:+$".contains(&byte)
}

fn param<'a>(params: &'a [(String, Option<String>)], name: &str) -> Option<Option<&'a str>> {
    let named =
        |had: &str| had.eq_ignore_ascii_case(name) || normal(had).eq_ignore_ascii_case(name);
    params.iter().find(|(had, _)| named(had)).map(|(_, value)| value.as_deref())
}

fn write_params(f: &mut fmt::Formatter<'_>, params: &[(String, Option<String>)]) -> fmt::Result {
    for (name, value) in params {
        write!(f, ";{name}")?;
        if let Some(value) = value {
            write!(f, "={value}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn parts() {
        let check = |text: &str, user: Option<&str>, host: &str, port: Option<u16>| {
            let parsed = uri(text);
            let sip = parsed.as_sip().unwrap();
            assert_eq!(sip.user().as_deref(), user, "{text}");
            assert_eq!(sip.host.to_string(), host, "{text}");
            assert_eq!(sip.port, port, "{text}");
            assert_eq!(parsed.to_string(), text);
        };
        check("sip:example.com", None, "example.com", None);
        check("sips:alice@example.com:5061", Some("alice"), "example.com", Some(5061));
        check("sip:alice:secret@192.0.2.1", Some("alice"), "192.0.2.1", None);
        check("sip:[2001:db8::1]:5060;transport=tcp;lr", None, "[2001:db8::1]", Some(5060));
        check("sip:+1-212-555-1212:1234@gw;user=phone", Some("+1-212-555-1212"), "gw", None);
        check("sip:a%40b@h?Replaces=x%3Bto-tag%3Dy&b=", Some("a@b"), "h", None);
        check("sip:*98#@pbx_1.local", Some("*98#"), "pbx_1.local", None);
        check("sip:ä@h", Some("ä"), "h", None);
        check("sip:%FF@h", Some("\u{fffd}"), "h", None);
    }

    #[test]
    fn what_is_no_uri() {
        for text in [
            "",
            "sip",
            ":",
            "sip:",
            "1sip:a",
            "sip:@h",
            "sip:a@",
            "sip:a@b@c",
            "sip:a@h:",
            "sip:a@h:0",
            "sip:a@h:65536",
            "sip:a@h:+1",
            "sip:a@[::1",
            "sip:a@::1",
            "sip:a@[g::]",
            "sip:a@[fe80::1%25eth0]",
            "sip:a@1.2.3.256",
            "sip:a@1.2.3.04",
            "sip:a@h..x",
            "sip:a@h;",
            "sip:a@h;;lr",
            "sip:a@h;=x",
            "sip:a@h?",
            "sip:a@h?x",
            "sip:a%4@h",
            "sip:a%zz@h",
            "sip:a b@h",
            "sip:<a>@h",
            "sip:a@h\r\nX: y",
            "sip:a\0@h",
            "tel:",
            "tel:+",
            "tel:12x",
            "tel:+1;",
        ] {
            assert!(text.parse::<Uri>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn equivalence_of_rfc_3261() {
        let check = |a: &str, b: &str, expected| {
            assert_eq!(uri(a).equivalent(&uri(b)), expected, "{a} {b}");
            assert_eq!(uri(b).equivalent(&uri(a)), expected, "{b} {a}");
        };
        // The examples of §19.1.4.
        check("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp", true);
        check("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5", true);
        check("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5", true);
        check(
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            true,
        );
        check(
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            true,
        );
        check("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP", false);
        check("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060", false);
        check("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp", false);
        check("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp", false);
        check("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting", false);
        check("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4", false);
        check("sip:carol@chicago.com;security=off", "sip:carol@chicago.com;security=on", false);
        // And others.
        check("sip:a@h", "sips:a@h", false);
        check("sip:a:x@h", "sip:a:y@h", false);
        check("sip:a%3bb@h", "sip:a%3Bb@h", true);
        check("sip:a%3Bb@h", "sip:a;b@h", false);
        check("sip:a@h;maddr=1.1.1.1", "sip:a@h", false);
        check("sip:a@h;%6Dethod=X", "sip:a@h", false);
        check("sip:%C3%A4@h", "sip:ä@h", true);
        check("sip:a@[2001:DB8:0::1]", "sip:a@[2001:db8::1]", true);
        check("tel:+1-201-555-0123", "tel:+1(201)5550123", true);
        check("tel:7042;phone-context=Example.com", "tel:7042;phone-context=example.COM", true);
        check("tel:7042;phone-context=example.com", "tel:7042", false);
        check("tel:+1", "sip:+1@h;user=phone", false);
        check("xmpp:a@b", "xmpp:a@b", true);
        check("xmpp:a@b", "xmpp:a@c", false);
    }

    #[test]
    fn setters_encode() {
        let mut uri = SipUri::new(Some("a@b;c=\r\n☎"), "h".parse().unwrap(), None);
        uri.set_param("gr", Some("urn:uuid:1;x\" >"));
        uri.set_param("lr", None);
        uri.push_header("Replaces", "1@h;to-tag=\r\n");
        assert_eq!(
            uri.to_string(),
            "sip:a%40b;c=%0D%0A%E2%98%8E@h;gr=urn:uuid:1%3Bx%22%20%3E;lr?Replaces=1%40h%3Bto-tag%3D%0D%0A"
        );
        let again: SipUri = uri.to_string().parse().unwrap();
        assert_eq!(again, uri);
        assert_eq!(again.user().as_deref(), Some("a@b;c=\r\n☎"));
        assert_eq!(again.param("GR").as_deref(), Some("urn:uuid:1;x\" >"));
        assert!(again.is_loose_router());
    }
}
