//! Session descriptions (RFC 8866) as far as an audio call needs them.
//!
//! `sdp-types` reads and writes the lines; [`Description`] holds them within limits, and [`Stream`]
//! reads one m-line with its attributes. What two sides agree on is worked out in [`offer`]
//! (RFC 3264). This module knows no codec: it compares names, rates and channels.

pub mod crypto;
pub mod offer;
#[cfg(test)]
mod tests;

use std::{
    fmt::{self, Display},
    net::{IpAddr, SocketAddr},
};

use sdp_types::{Attribute, Connection, Media, Session};

use self::crypto::Crypto;
use crate::{header::Warning, message::Status, scan::number};

/// A session description within the limits of this module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description(Session);

/// One m-line with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The medium, such as `audio`, in lower case.
    pub kind: String,
    /// The port; 0 for a stream that is refused or over (RFC 3264 §6, §8.2).
    pub port: u16,
    /// The transport, such as `RTP/AVP`.
    pub proto: String,
    /// The payload formats in order of preference.
    pub formats: Vec<Format>,
    /// Which way media flows, as this description's side sees it.
    pub direction: Direction,
    /// Where it wants its media.
    pub destination: Destination,
    /// Where it wants its RTCP, if it says so (RFC 3605).
    pub rtcp: Option<SocketAddr>,
    /// Whether it takes RTP and RTCP on one port (RFC 5761).
    pub rtcp_mux: bool,
    /// How long its packets should be, in milliseconds.
    pub ptime_ms: Option<u16>,
    /// How long its packets may be at most, in milliseconds.
    pub max_ptime_ms: Option<u16>,
    /// What the stream is called outside SDP, as in RFC 4575 documents (RFC 4574).
    pub label: Option<String>,
    /// What it is called within SDP (RFC 5888).
    pub mid: Option<String>,
    /// RTP header extensions (RFC 8285).
    pub extensions: Vec<Extension>,
    /// Keys of SRTP that it would send with, best first.
    pub crypto: Vec<Crypto>,
}

/// One payload format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Its payload type, 0 to 127.
    pub payload_type: u8,
    /// The codec as both sides call it.
    pub codec: Codec,
    /// Its parameters, names in lower case.
    pub fmtp: Vec<(String, String)>,
}

/// What `a=rtpmap` says. Names compare without case.
#[derive(Clone, Debug)]
pub struct Codec {
    /// The encoding name, such as `opus`.
    pub name: String,
    /// The RTP clock rate, in hertz.
    pub clock_rate: u32,
    /// The number of channels.
    pub channels: u8,
}

/// An RTP header extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its id in packets, 1 to 14: one-byte headers only.
    pub id: u8,
    /// What it is.
    pub uri: String,
}

/// Which way media flows, seen from one side (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// Only from this side.
    SendOnly,
    /// Only to this side.
    RecvOnly,
    /// Neither way.
    Inactive,
}

/// Where a stream's media is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// There.
    To(SocketAddr),
    /// Nowhere: `0.0.0.0`, the hold of RFC 2543 (RFC 3264 §8.4).
    Nowhere,
    /// An address that this side will not send to: see [`usable`], or not an address at all.
    Unusable,
}

/// Why an offer or an answer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Larger than [`MAX_BYTES`].
    #[error("Session Description Too Large")]
    TooLarge,
    /// Not a session description, or beyond one of this module's limits.
    #[error("Malformed Session Description: {0}")]
    Malformed(&'static str),
    /// No audio stream.
    #[error("No Audio Stream")]
    NoAudio,
    /// Audio, but no codec in common.
    #[error("No Codec In Common")]
    NoCodec,
    /// Audio, but over a transport profile other than RTP/AVP, RTP/SAVP and the two with feedback.
    #[error("Transport Not Supported")]
    Transport,
    /// An address that cannot be sent to.
    #[error("Media Address Not Usable")]
    Address,
    /// SRTP, with its keys where others can read them (RFC 4568 §7.3).
    #[error("SRTP Keys Only Over TLS")]
    KeysInTheClear,
    /// SRTP, but no suite in common whose keys can be used.
    #[error("No Crypto Suite In Common")]
    NoSuite,
}

impl Refusal {
    /// The status to refuse a request with.
    pub fn status(self) -> Status {
        match self {
            Self::TooLarge => Status::REQUEST_ENTITY_TOO_LARGE,
            Self::Malformed(_) => Status::BAD_REQUEST,
            Self::NoAudio
            | Self::NoCodec
            | Self::Transport
            | Self::Address
            | Self::KeysInTheClear
            | Self::NoSuite => Status::NOT_ACCEPTABLE_HERE,
        }
    }

    /// The Warning that goes with it (RFC 3261 §20.43); `agent` is our host.
    pub fn warning(self, agent: &str) -> Warning {
        let code = match self {
            Self::TooLarge | Self::Malformed(_) | Self::KeysInTheClear | Self::NoSuite => 399,
            Self::NoAudio => 304,
            Self::NoCodec => 305,
            Self::Transport => 302,
            Self::Address => 301,
        };
        Warning { code, agent: agent.to_owned(), text: self.to_string() }
    }
}

/// The longest description, in bytes.
pub const MAX_BYTES: usize = 16 * 1024;
/// The most m-lines.
pub const MAX_STREAMS: usize = 16;
/// The most formats of one stream.
pub const MAX_FORMATS: usize = 64;
/// The most attributes over all its parts.
pub const MAX_ATTRIBUTES: usize = 256;

impl Description {
    /// Reads a description.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_BYTES {
            return Err(Refusal::TooLarge);
        }
        let odd = |byte: &u8| byte.is_ascii_control() && !b"\r\n\t".contains(byte);
        let cr_in_line = bytes.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n');
        if bytes.iter().any(odd) || cr_in_line {
            return Err(Refusal::Malformed("control character"));
        }
        let session = Session::parse(bytes).map_err(|_| Refusal::Malformed("syntax"))?;
        let attributes = session.medias.iter().map(|media| media.attributes.len()).sum::<usize>();
        if session.medias.len() > MAX_STREAMS {
            return Err(Refusal::Malformed("too many streams"));
        }
        if attributes + session.attributes.len() > MAX_ATTRIBUTES {
            return Err(Refusal::Malformed("too many attributes"));
        }
        Ok(Self(session))
    }

    /// The body of type `application/sdp`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![];
        self.0.write(&mut out).expect("a Vec takes every write");
        out
    }

    /// The lines as they stand.
    pub fn session(&self) -> &Session {
        &self.0
    }

    /// Its streams in order: an answer has one for each.
    pub fn streams(&self) -> Result<Vec<Stream>, Refusal> {
        self.0.medias.iter().map(|media| Stream::read(&self.0, media)).collect()
    }
}

impl Stream {
    fn read(session: &Session, media: &Media) -> Result<Self, Refusal> {
        let rtp = is_rtp(&media.proto);
        let value = |name: &str| {
            attributes(&media.attributes, name)
                .chain(attributes(&session.attributes, name))
                .find_map(|value| value)
        };
        let own_value = |name| attributes(&media.attributes, name).find_map(|value| value);
        let flag = |name| attributes(&media.attributes, name).next().is_some();
        let connection = media.connections.first().or(session.connection.as_ref());
        let ip = connection.and_then(address);
        let milliseconds = |text: &str| text.split('.').next().and_then(number::<u16>);
        let extensions = attributes(&media.attributes, "extmap")
            .chain(attributes(&session.attributes, "extmap"))
            .filter_map(|value| Extension::read(value?))
            .collect();
        Ok(Self {
            kind: media.media.to_ascii_lowercase(),
            port: media.port,
            proto: media.proto.clone(),
            formats: if rtp { formats(media)? } else { vec![] },
            direction: Direction::read(&media.attributes)
                .or_else(|| Direction::read(&session.attributes))
                .unwrap_or(Direction::SendRecv),
            destination: match ip {
                Some(ip) if ip.is_unspecified() => Destination::Nowhere,
                Some(ip) if usable(ip) => Destination::To(SocketAddr::new(ip, media.port)),
                _ => Destination::Unusable,
            },
            rtcp: own_value("rtcp").and_then(|value| rtcp(value, ip)),
            rtcp_mux: flag("rtcp-mux"),
            ptime_ms: value("ptime").and_then(milliseconds).filter(|ms| *ms > 0),
            max_ptime_ms: value("maxptime").and_then(milliseconds).filter(|ms| *ms > 0),
            label: own_value("label").map(str::to_owned),
            mid: own_value("mid").map(str::to_owned),
            extensions,
            crypto: attributes(&media.attributes, "crypto")
                .filter_map(|value| Crypto::read(value?))
                .collect(),
        })
    }

    /// Whether its packets must be protected (RFC 3711 §12, RFC 5124), rather than may be.
    fn demands_srtp(&self) -> bool {
        ["RTP/SAVP", "RTP/SAVPF"].iter().any(|proto| self.proto.eq_ignore_ascii_case(proto))
    }

    /// Where RTCP goes: what the description says, or the RTP port itself with `mux`, or the port
    /// above it (RFC 3550 §11). `None` if there is nowhere to send.
    pub fn rtcp_destination(&self, mux: bool) -> Option<SocketAddr> {
        let Destination::To(rtp) = self.destination else { return None };
        if mux {
            return Some(rtp);
        }
        self.rtcp.or_else(|| Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?)))
    }
}

impl Codec {
    /// A codec by its name, clock rate in hertz and channels.
    pub fn new(name: &str, clock_rate: u32, channels: u8) -> Self {
        Self { name: name.to_owned(), clock_rate, channels }
    }

    /// Whether this is the telephone-event format (RFC 4733).
    pub fn is_telephone_event(&self) -> bool {
        self.name.eq_ignore_ascii_case(TELEPHONE_EVENT)
    }

    /// Reads `opus/48000/2`.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('/');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let clock_rate = parts.next().and_then(number).filter(|rate| *rate > 0)?;
        let channels = match parts.next() {
            Some(channels) => number(channels).filter(|channels| *channels > 0)?,
            None => 1,
        };
        Some(Self::new(name, clock_rate, channels))
    }
}

impl PartialEq for Codec {
    fn eq(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
            && self.clock_rate == other.clock_rate
            && self.channels == other.channels
    }
}

impl Eq for Codec {}

impl Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.clock_rate)?;
        if self.channels == 1 { Ok(()) } else { write!(f, "/{}", self.channels) }
    }
}

impl Extension {
    /// Reads `1 urn:…`; a direction and attributes may stand beside the id and the URI.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split_ascii_whitespace();
        let id = parts.next()?.split('/').next().and_then(number::<u8>)?;
        let uri = parts.next()?.to_owned();
        (1..=14).contains(&id).then_some(Self { id, uri })
    }
}

impl Direction {
    /// Whether this side may send.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether this side takes media.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same flow seen from the other side.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self::of(self.receives(), self.sends())
    }

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::of(self.sends() && other.sends(), self.receives() && other.receives())
    }

    fn of(sends: bool, receives: bool) -> Self {
        match (sends, receives) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    fn read(attributes: &[Attribute]) -> Option<Self> {
        attributes.iter().find_map(|attribute| {
            let all = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];
            all.into_iter().find(|d| attribute.attribute.eq_ignore_ascii_case(d.as_str()))
        })
    }

    /// As in SDP and in RFC 4575's `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }
}

impl Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether media may be sent to this address at all. Group addresses would make this server an
/// amplifier, and the others reach nobody whom SIP could name.
pub fn usable(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let this_network = ip.octets()[0] == 0;
            !(this_network || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local())
        }
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()),
    }
}

/// The address of a c-line. A multicast TTL is left out, a name is none: this core asks no DNS.
fn address(connection: &Connection) -> Option<IpAddr> {
    connection.connection_address.split('/').next()?.parse().ok()
}

/// Reads `5001` or `5001 IN IP4 192.0.2.1` (RFC 3605 §2.1).
fn rtcp(text: &str, ip: Option<IpAddr>) -> Option<SocketAddr> {
    let mut parts = text.split_ascii_whitespace();
    let port = parts.next().and_then(number::<u16>).filter(|port| *port > 0)?;
    let ip = match parts.nth(2) {
        Some(ip) => ip.parse().ok()?,
        None => ip?,
    };
    usable(ip).then_some(SocketAddr::new(ip, port))
}

fn is_rtp(proto: &str) -> bool {
    proto.split('/').any(|part| part.eq_ignore_ascii_case("RTP"))
}

/// The formats of an m-line: those with a map and those that need none. Unknown ones are left out.
fn formats(media: &Media) -> Result<Vec<Format>, Refusal> {
    let mut found: Vec<Format> = vec![];
    if media.fmt.split_ascii_whitespace().count() > MAX_FORMATS {
        return Err(Refusal::Malformed("too many formats"));
    }
    for text in media.fmt.split_ascii_whitespace() {
        let payload_type = number::<u8>(text).filter(|payload_type| *payload_type < 128);
        let payload_type = payload_type.ok_or(Refusal::Malformed("payload type"))?;
        let of = |name: &'static str| {
            attributes(&media.attributes, name).flatten().find_map(move |value| {
                let (key, rest) = value.trim_start().split_once([' ', '\t'])?;
                (number::<u8>(key) == Some(payload_type)).then_some(rest)
            })
        };
        let codec = match of("rtpmap") {
            Some(map) => Codec::read(map),
            None => static_codec(payload_type),
        };
        let twice = found.iter().any(|had| had.payload_type == payload_type);
        if let Some(codec) = codec.filter(|_| !twice) {
            let fmtp = of("fmtp").map(fmtp).unwrap_or_default();
            found.push(Format { payload_type, codec, fmtp });
        }
    }
    Ok(found)
}

/// Reads `name=value;name=value`; a part without `=` is a value without a name, as the event list of
/// telephone-event.
fn fmtp(text: &str) -> Vec<(String, String)> {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| match part.split_once('=') {
        Some((name, value)) => (name.trim().to_ascii_lowercase(), value.trim().to_owned()),
        None => (String::new(), part.to_owned()),
    };
    parts.map(pair).collect()
}

/// The audio formats whose payload types need no map (RFC 3551 §6), as far as anyone offers them so.
fn static_codec(payload_type: u8) -> Option<Codec> {
    Some(match payload_type {
        0 => Codec::new("PCMU", 8000, 1),
        3 => Codec::new("GSM", 8000, 1),
        4 => Codec::new("G723", 8000, 1),
        8 => Codec::new("PCMA", 8000, 1),
        9 => Codec::new("G722", 8000, 1),
        13 => Codec::new("CN", 8000, 1),
        15 => Codec::new("G728", 8000, 1),
        18 => Codec::new("G729", 8000, 1),
        _ => return None,
    })
}

fn attributes<'a>(
    attributes: &'a [Attribute],
    name: &str,
) -> impl Iterator<Item = Option<&'a str>> {
    let named = move |a: &&Attribute| a.attribute.eq_ignore_ascii_case(name);
    attributes.iter().filter(named).map(|a| a.value.as_deref())
}

const TELEPHONE_EVENT: &str = "telephone-event";
