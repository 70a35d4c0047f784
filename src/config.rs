//! Every option once: its type, its default, and what it means. `conf/cusaxd.toml` shows them all.
//!
//! A [`Config`] is read from TOML and the environment by the shell; [`Config::check`] finds what
//! cannot work before anything starts.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use cusax::account;
use cusax_sip::flow::Transport;
use cusax_sip::uri::{Host, SipUri};
use jid::{BareJid, DomainPart, NodePart};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The whole configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The link to the XMPP server, and what the chat side allows.
    pub xmpp: Xmpp,
    /// The phone side.
    pub sip: Sip,
    /// Audio.
    #[serde(default)]
    pub media: Media,
    /// What callers do by the keys of their phones.
    #[serde(default)]
    pub keypad: Keypad,
    /// What survives a restart.
    #[serde(default)]
    pub store: Store,
    /// Metrics, health and the admin API.
    #[serde(default)]
    pub http: Http,
    /// What clients are told to set up.
    #[serde(default)]
    pub provision: Provision,
    /// How it runs, and stops.
    #[serde(default)]
    pub run: Run,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

/// `[xmpp]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Xmpp {
    /// The component's own domain: rooms are `ROOM@domain`.
    pub domain: Parsed<DomainPart>,
    /// Where Prosody or ejabberd listens for components (XEP-0114), `host:port`.
    #[serde(default = "default_server")]
    pub server: String,
    /// The component's secret, as the XMPP server has it.
    #[serde(default)]
    pub secret: Option<String>,
    /// A file that holds the secret, instead of `secret`.
    #[serde(default)]
    pub secret_file: Option<String>,
    /// Service admins, by bare JID: owners of every room.
    #[serde(default)]
    pub admins: Vec<Parsed<BareJid>>,
    /// Who may create rooms: `anyone` or `admins`.
    #[serde(default)]
    pub create_rooms: CreateRooms,
    /// How many rooms there may be.
    #[serde(default = "default_max_rooms")]
    pub max_rooms: usize,
    /// How many rooms one user may own and still create another; service admins may create all.
    #[serde(default = "default_max_rooms_of_one")]
    pub max_rooms_of_one: usize,
    /// How many people one room may hold at most.
    #[serde(default = "default_max_people")]
    pub max_people: u32,
    /// From how many people on a room is a crowd: visitors who come then are shown to moderators alone,
    /// until they are given voice. 0: none is.
    #[serde(default = "default_crowd")]
    pub crowd: u32,
    /// How many messages a second one session may send in the long run; moderators four times as many.
    #[serde(default = "default_max_messages_of_one")]
    pub max_messages_of_one: u32,
    /// How many of them may come at once.
    #[serde(default = "default_max_message_burst_of_one")]
    pub max_message_burst_of_one: u32,
    /// How many presence updates and changes of nick a second one session may send in the long run.
    #[serde(default = "default_max_presences_of_one")]
    pub max_presences_of_one: u32,
    /// How many of them may come at once.
    #[serde(default = "default_max_presence_burst_of_one")]
    pub max_presence_burst_of_one: u32,
    /// How many sessions a second may enter one room in the long run.
    #[serde(default = "default_max_joins")]
    pub max_joins: u32,
    /// How many of them may come at once.
    #[serde(default = "default_max_join_burst")]
    pub max_join_burst: u32,
    /// How many days archives keep a message; 0: for ever.
    #[serde(default = "default_archive_days")]
    pub archive_days: u32,
    /// Under which names `muc#roominfo` carries the conference URI (RFC 7081 §4).
    #[serde(default = "default_uri_fields")]
    pub uri_fields: Vec<String>,
    /// Whether presence in rooms carries the conference as Jitsi Desktop reads it, which does not look
    /// for it in `muc#roominfo`.
    #[serde(default)]
    pub jitsi_conference: bool,
}

/// `[sip]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sip {
    /// Conference URIs are `sip:ROOM@domain`.
    pub domain: String,
    /// Where to listen: `udp:ADDRESS:PORT`, and so `tcp:`, `tls:`, `ws:` and `wss:`.
    #[serde(default = "default_sip_listen")]
    pub listen: Vec<Parsed<Listen>>,
    /// A PEM file with the certificate that `tls:` and `wss:` show, and those up to its authority.
    #[serde(default)]
    pub tls_certificate: Option<String>,
    /// A PEM file with its key, which only we may read.
    #[serde(default)]
    pub tls_key: Option<String>,
    /// A PEM file with the authorities of peers: who shows a certificate must have it from one of them,
    /// and only to whom they vouch for do we open TLS ourselves. Without it nobody is asked for one.
    #[serde(default)]
    pub tls_client_ca: Option<String>,
    /// Networks whose P-Asserted-Identity counts (RFC 3325).
    #[serde(default)]
    pub trusted_proxies: Vec<Parsed<Network>>,
    /// SIP domains that count as trusted proxies, wherever they come from, when they prove by a
    /// certificate who they are (RFC 5922 §7).
    #[serde(default)]
    pub trusted_domains: Vec<String>,
    /// Who may call: `digest` (a user of the directory, or through a trusted proxy), `trusted`
    /// (through a trusted proxy) or `open` (anyone, under any name: for demonstrations).
    #[serde(default)]
    pub auth: Auth,
    /// How well a caller's address has to be proven for what its user may do in rooms: `claimed` (not at
    /// all), `dialled` (somebody answered there), `asserted` (by a trusted proxy) or `digest` (by a password). Below it a call is
    /// still its user's, and has no part in their membership, nor moderates or calls anybody.
    #[serde(default)]
    pub identity_floor: IdentityFloor,
    /// How many requests a second one address may send that belong to nothing there is (an IPv6
    /// address counts with its /64). Trusted proxies, and all that belongs to a call, have no limit.
    #[serde(default = "default_max_requests_of_one")]
    pub max_requests_of_one: u32,
    /// How many of them may come at once.
    #[serde(default = "default_max_burst_of_one")]
    pub max_burst_of_one: u32,
    /// After how many wrong passwords within a minute one address is locked out: for a minute, and each
    /// time for twice as long. Trusted proxies are not. An account, or a room, is locked after six times
    /// as many from all addresses.
    #[serde(default = "default_max_wrong_passwords")]
    pub max_wrong_passwords: u32,
    /// After how many seconds without a refresh a call is over (RFC 4028); it is refreshed at half of them.
    #[serde(default = "default_session_expires")]
    pub session_expires: u32,
    /// The user part of the address that makes a conference for each call (RFC 4579 §5.4), such as `meet`; no
    /// room of that name can be called then. None: there is no such address.
    pub factory: Option<String>,
    /// What that does about a call: answers it as the new conference, or says where it is.
    #[serde(default)]
    pub factory_answer: FactoryAnswer,
    /// Whom rooms may call besides the users of the directory: a host name or address (anyone there, so
    /// not that of a gateway), the first digits of numbers (`+4930`, reached through the outbound
    /// proxy), or `*`.
    #[serde(default)]
    pub dial_allow: Vec<Parsed<Callable>>,
    /// How many calls all rooms may be making at a time.
    #[serde(default = "default_max_dials")]
    pub max_dials: usize,
    /// Through which proxy all calls go out, such as `sip:192.0.2.9;transport=tcp`; without one they go
    /// where their address says.
    #[serde(default)]
    pub outbound_proxy: Option<Parsed<SipUri>>,
    /// By which user name the proxy knows us, if it asks.
    #[serde(default)]
    pub outbound_user: Option<String>,
    /// The password that goes with it.
    #[serde(default)]
    pub outbound_password: Option<String>,
    /// A file that holds the password, instead of `outbound_password`.
    #[serde(default)]
    pub outbound_password_file: Option<String>,
    /// The only realm to which the password is proven; the proxy's host unless given.
    #[serde(default)]
    pub outbound_realm: Option<String>,
}

/// `[media]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// The address that SDP shows and RTP is bound to.
    pub address: IpAddr,
    /// The UDP ports of audio, `FIRST-LAST`; a call takes two.
    pub ports: Parsed<PortRange>,
    /// Threads that mix; 0: one a core.
    pub workers: usize,
    /// How many of those who make a sound are heard at once in a room, the loudest, 1 to 32.
    pub voices: usize,
    /// How busy the mixer may be, 0 to 1, and still take a new call; 1: take it whatever happens to
    /// those that are up.
    pub max_stress: f64,
    /// In which language callers are told what becomes of them; `none`: they are not.
    pub prompts: Prompts,
    /// In rooms with more calls than these, no tone tells who comes and goes; 0: in none.
    pub tones_up_to: usize,
}

/// `[keypad]`: which keys do what on a call (RFC 4733, SIP INFO); empty: none do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keypad {
    /// Mute oneself, or unmute.
    pub mute: Parsed<Keys>,
    /// Raise one's hand, or lower it. Who has no voice asks the moderators for it.
    pub hand: Parsed<Keys>,
    /// Hear how many people are on the call.
    pub count: Parsed<Keys>,
    /// Hear the others louder.
    pub louder: Parsed<Keys>,
    /// Hear the others softer.
    pub softer: Parsed<Keys>,
    /// Be heard louder.
    pub speak_louder: Parsed<Keys>,
    /// Be heard softer.
    pub speak_softer: Parsed<Keys>,
    /// Let nobody new in, or let them in again; for moderators.
    pub lock: Parsed<Keys>,
    /// Mute everyone who is no moderator, or unmute them; for moderators.
    pub mute_all: Parsed<Keys>,
}

/// `[store]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Where rooms, affiliations, archives and the directory are kept: `sqlite:FILE` or
    /// `postgres://USER@HOST/DATABASE`.
    pub url: String,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where metrics, health and the admin API are served.
    pub listen: SocketAddr,
    /// The bearer token of the admin API. Without one, the API answers on loopback alone.
    pub token: Option<String>,
    /// A file that holds the token, instead of `token`.
    pub token_file: Option<String>,
    /// A second bearer token, for those who may see everything there and change nothing.
    pub read_token: Option<String>,
    /// A file that holds the second token, instead of `read_token`.
    pub read_token_file: Option<String>,
}

/// `[provision]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Provision {
    /// Whether `GET /provision` tells users of the directory what their clients need (RFC 7081 §2).
    pub enabled: bool,
    /// TLS proxies in front of it: who comes through one, by its `X-Forwarded-For`, comes over TLS. Others
    /// are answered on loopback alone.
    pub proxies: Vec<Parsed<Network>>,
    /// Where chat clients connect, `HOST` or `HOST:PORT`; empty: what DNS says of their domain.
    pub xmpp_server: String,
    /// Where phones register and send calls, `HOST` or `HOST:PORT`; empty: what DNS says of their domain.
    pub sip_proxy: String,
    /// What phones use, the preferred first: `udp`, `tcp`, `tls`.
    pub sip_transports: Vec<account::Transport>,
    /// Whether the password of the directory is also that of the XMPP account.
    pub one_password: bool,
    /// Whether clients may call over XMPP although they have SIP.
    pub xmpp_calls: bool,
    /// Whether clients may send messages over SIP although they have XMPP.
    pub sip_chat: bool,
    /// Whether clients show presence over SIP although they have XMPP.
    pub sip_presence: bool,
    /// After how many hours clients ask again.
    pub refresh_hours: u32,
}

/// `[run]`
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// How many seconds calls may go on after SIGTERM, or once an operator has the server drained and says
    /// no other time. No new ones are taken meanwhile; without calls it stops at once.
    pub drain_seconds: u32,
}

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: Level,
    /// `text` or `json`.
    pub format: Format,
    /// A file to which what operators change is appended, a line of JSON each; SIGHUP opens it again.
    pub audit_file: Option<String>,
}

/// Who may create rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CreateRooms {
    /// Anyone who can reach the service.
    #[default]
    Anyone,
    /// Service admins.
    Admins,
}

/// What the factory does about a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FactoryAnswer {
    /// Answers it as the new conference: every phone understands that.
    #[default]
    Accept,
    /// Says where the new conference is (302): proxies on the way see the conference called.
    Redirect,
}

/// Who may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Users of the directory by digest (RFC 8760), and whom a trusted proxy vouches for.
    #[default]
    Digest,
    /// Whom a trusted proxy vouches for.
    Trusted,
    /// Anyone.
    Open,
}

/// How well a caller's address has to be proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityFloor {
    /// Not at all.
    #[default]
    Claimed,
    /// Somebody answered there.
    Dialled,
    /// By a trusted proxy.
    Asserted,
    /// By a password.
    Digest,
}

/// Languages of what callers are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompts {
    /// They are told nothing.
    None,
    /// English.
    #[default]
    En,
}

/// Log levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// We stop.
    Error,
    /// An operator should look.
    Warn,
    /// A room or a link changed state.
    #[default]
    Info,
    /// A peer erred.
    Debug,
    /// Each message.
    Trace,
}

/// Log formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line for people.
    #[default]
    Text,
    /// A line of JSON.
    Json,
}

/// A SIP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What is spoken there.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

/// Somebody whom rooms may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callable {
    /// Anyone.
    Anyone,
    /// Anyone at this host.
    Host(String),
    /// Whoever has a telephone number that begins so.
    Numbers(String),
}

/// Keys of a phone that are pressed one after the other: at most [`Keys::MOST`] of `0`–`9`, `*`, `#`
/// and `A`–`D`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(String);

/// A network in CIDR notation; a single address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// An option that cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its key, as in `sip.listen`.
    pub key: &'static str,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl Config {
    /// Finds what cannot work, all of it at once.
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = vec![];
        let mut wrong =
            |key, reason: &str| problems.push(Problem { key, reason: reason.to_owned() });
        if !self.xmpp.server.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        }) {
            wrong("xmpp.server", "must be host:port");
        }
        match (&self.xmpp.secret, &self.xmpp.secret_file) {
            (None, None) => wrong("xmpp.secret", "is missing (or give xmpp.secret_file)"),
            (Some(_), Some(_)) => wrong("xmpp.secret_file", "is given besides xmpp.secret"),
            (Some(secret), None) if secret.is_empty() => wrong("xmpp.secret", "is empty"),
            (Some(_), None) | (None, Some(_)) => {}
        }
        if self.xmpp.max_rooms == 0 {
            wrong("xmpp.max_rooms", "must be at least 1");
        }
        if self.xmpp.max_rooms_of_one == 0 {
            wrong(
                "xmpp.max_rooms_of_one",
                "must be at least 1; use xmpp.create_rooms = \"admins\"",
            );
        }
        if self.xmpp.max_people == 0 {
            wrong("xmpp.max_people", "must be at least 1");
        }
        let domain = &self.sip.domain;
        if domain.is_empty() || domain.contains([' ', '@', '/', ';', '<', '>', '"']) {
            wrong("sip.domain", "must be a host name or an address");
        }
        if self.sip.listen.is_empty() {
            wrong("sip.listen", "names no listener");
        }
        let listeners: BTreeSet<_> =
            self.sip.listen.iter().map(|listen| listen.0.to_string()).collect();
        if listeners.len() < self.sip.listen.len() {
            wrong("sip.listen", "names one listener twice");
        }
        self.check_ports(&mut wrong);
        self.sip.check_tls(&mut wrong);
        let unfit = |name: &String| NodePart::new(name).is_err();
        if self.sip.factory.as_ref().is_some_and(unfit) {
            wrong("sip.factory", "cannot be the user part of an address");
        }
        if !(90..=86_400).contains(&self.sip.session_expires) {
            wrong("sip.session_expires", "must be between 90 and 86400");
        }
        let nobody = self.sip.trusted_proxies.is_empty() && self.sip.trusted_domains.is_empty();
        if self.sip.auth == Auth::Trusted && nobody {
            wrong(
                "sip.trusted_proxies",
                "is empty, so with sip.auth = \"trusted\" nobody can call",
            );
        }
        for (key, limit) in [
            ("xmpp.max_messages_of_one", self.xmpp.max_messages_of_one),
            ("xmpp.max_message_burst_of_one", self.xmpp.max_message_burst_of_one),
            ("xmpp.max_presences_of_one", self.xmpp.max_presences_of_one),
            ("xmpp.max_presence_burst_of_one", self.xmpp.max_presence_burst_of_one),
            ("xmpp.max_joins", self.xmpp.max_joins),
            ("xmpp.max_join_burst", self.xmpp.max_join_burst),
            ("sip.max_requests_of_one", self.sip.max_requests_of_one),
            ("sip.max_burst_of_one", self.sip.max_burst_of_one),
            ("sip.max_wrong_passwords", self.sip.max_wrong_passwords),
        ] {
            if limit == 0 {
                wrong(key, "must be at least 1");
            }
        }
        let Sip { outbound_proxy: proxy, outbound_user: user, .. } = &self.sip;
        if proxy.as_ref().is_some_and(|proxy| proxy.0.secure || proxy.0.user().is_some()) {
            wrong("sip.outbound_proxy", "must be sip:HOST, with a port and transport if need be");
        }
        if user.is_some() && proxy.is_none() {
            wrong("sip.outbound_user", "is given without sip.outbound_proxy");
        }
        match (&self.sip.outbound_password, &self.sip.outbound_password_file) {
            (Some(_), Some(_)) => {
                wrong("sip.outbound_password_file", "is given besides sip.outbound_password");
            }
            (None, None) if user.is_some() => wrong("sip.outbound_password", "is missing"),
            (Some(_), None) | (None, Some(_)) if user.is_none() => {
                wrong("sip.outbound_user", "is missing");
            }
            (Some(_), None) | (None, Some(_) | None) => {}
        }
        self.keypad.check(&mut wrong);
        if !(1..=32).contains(&self.media.voices) {
            wrong("media.voices", "must be from 1 to 32");
        }
        if !(0.0..=1.0).contains(&self.media.max_stress) {
            wrong("media.max_stress", "must be from 0 to 1");
        }
        if self.media.address.is_unspecified() || self.media.address.is_multicast() {
            wrong("media.address", "must be an address that callers can send to");
        }
        if self.media.ports.0.calls() == 0 {
            wrong("media.ports", "has no room for one call (an even port and the next)");
        }
        self.http.check_tokens(&mut wrong);
        for (key, place) in [
            ("provision.xmpp_server", &self.provision.xmpp_server),
            ("provision.sip_proxy", &self.provision.sip_proxy),
        ] {
            if !is_place(place) {
                wrong(key, "must be HOST or HOST:PORT");
            }
        }
        if self.provision.sip_transports.is_empty() {
            wrong("provision.sip_transports", "names no transport");
        }
        if self.run.drain_seconds > MAX_DRAIN_SECONDS {
            wrong("run.drain_seconds", "must be a day at most, 86400");
        }
        if self.provision.refresh_hours == 0 {
            wrong("provision.refresh_hours", "must be at least 1");
        }
        problems
    }
}

impl Config {
    /// A listener of SIP that takes one of the ports of audio: a call less has room.
    pub fn listens_in_media_ports(&self) -> Option<Listen> {
        let Media { address, ports, .. } = &self.media;
        let ports = ports.0.first..=ports.0.last;
        let takes = |listen: &Listen| {
            let at = listen.address;
            listen.transport == Transport::Udp
                && ports.contains(&at.port())
                && (at.ip() == *address || at.ip().is_unspecified())
        };
        self.sip.listen.iter().map(|listen| listen.0).find(takes)
    }

    /// Ports that cannot be had, whoever else runs here.
    fn check_ports(&self, wrong: &mut impl FnMut(&'static str, &str)) {
        let same = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
        let http = self.http.listen;
        for Parsed(listen) in &self.sip.listen {
            let Listen { transport, address } = *listen;
            if address.port() == 0 {
                wrong("sip.listen", &format!("{listen}: nobody can call port 0"));
            }
            if address.ip().is_multicast() {
                wrong("sip.listen", &format!("{listen}: is an address of many"));
            }
            if transport != Transport::Udp
                && address.port() == http.port()
                && same(address.ip(), http.ip())
            {
                wrong("http.listen", &format!("is where sip.listen has {listen}"));
            }
        }
    }
}

/// Whether a text is empty, `HOST` or `HOST:PORT`.
fn is_place(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    };
    let plain = |c: char| c.is_alphanumeric() || "-._[]:".contains(c);
    host.chars().all(plain)
        && host.is_empty() == text.is_empty()
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl Sip {
    /// Whether a listener of ours needs a certificate.
    pub fn has_tls(&self) -> bool {
        self.listen.iter().any(|listen| listen.0.transport.is_secure())
    }

    fn check_tls(&self, wrong: &mut impl FnMut(&'static str, &str)) {
        let needs = "is missing, and sip.listen has tls: or wss:";
        match (&self.tls_certificate, &self.tls_key) {
            (None, None) if self.has_tls() => wrong("sip.tls_certificate", needs),
            (Some(_), None) => wrong("sip.tls_key", "is missing besides sip.tls_certificate"),
            (None, Some(_)) => wrong("sip.tls_certificate", "is missing besides sip.tls_key"),
            (None, None) | (Some(_), Some(_)) => {}
        }
        if self.tls_client_ca.is_some() && self.tls_certificate.is_none() {
            wrong("sip.tls_client_ca", "is of no use without sip.tls_certificate");
        }
        if !self.trusted_domains.is_empty() && self.tls_client_ca.is_none() {
            wrong("sip.trusted_domains", "cannot prove anything without sip.tls_client_ca");
        }
        let unfit = |name: &String| name.is_empty() || name.contains(['*', '@', ':', '/', ' ']);
        if self.trusted_domains.iter().any(unfit) {
            wrong("sip.trusted_domains", "must be domain names, without wildcards");
        }
    }
}

impl Http {
    fn check_tokens(&self, wrong: &mut impl FnMut(&'static str, &str)) {
        match (&self.token, &self.token_file) {
            (Some(_), Some(_)) => wrong("http.token_file", "is given besides http.token"),
            (Some(token), None) if token.is_empty() => wrong("http.token", "is empty"),
            (Some(_), None) | (None, _) => {}
        }
        match (&self.read_token, &self.read_token_file) {
            (Some(_), Some(_)) => wrong("http.read_token_file", "is given besides http.read_token"),
            (Some(token), None) if token.is_empty() => wrong("http.read_token", "is empty"),
            (Some(_), None) | (None, _) => {}
        }
        let reads = self.read_token.is_some() || self.read_token_file.is_some();
        if reads && self.token.is_none() && self.token_file.is_none() {
            wrong(
                "http.read_token",
                "is given without http.token: then nobody could change anything",
            );
        }
    }
}

impl Keypad {
    /// All that keys do, with the name of the option.
    pub fn all(&self) -> [(&'static str, &Keys); 9] {
        [
            ("keypad.mute", &self.mute.0),
            ("keypad.hand", &self.hand.0),
            ("keypad.count", &self.count.0),
            ("keypad.louder", &self.louder.0),
            ("keypad.softer", &self.softer.0),
            ("keypad.speak_louder", &self.speak_louder.0),
            ("keypad.speak_softer", &self.speak_softer.0),
            ("keypad.lock", &self.lock.0),
            ("keypad.mute_all", &self.mute_all.0),
        ]
    }

    /// Of two that begin alike, the longer could never be pressed.
    fn check(&self, wrong: &mut impl FnMut(&'static str, &str)) {
        let all = self.all();
        for (at, (key, keys)) in all.iter().enumerate() {
            let clash = all[..at].iter().find(|(_, other)| {
                let (a, b) = (keys.as_str(), other.as_str());
                !a.is_empty() && !b.is_empty() && (a.starts_with(b) || b.starts_with(a))
            });
            if let Some((other, _)) = clash {
                wrong(key, &format!("begins with the keys of {other}, or the other way round"));
            }
        }
    }
}

impl Keys {
    /// The longest.
    pub const MOST: usize = 4;

    /// As they are written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Keys {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let keys = |c: char| c.is_ascii_digit() || "*#ABCD".contains(c);
        if text.len() <= Self::MOST && text.chars().all(keys) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected up to four keys such as *6: 0 to 9, *, #, A to D; or nothing")
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PortRange {
    /// How many calls have ports at once.
    pub fn calls(self) -> usize {
        let first = usize::from(self.first).next_multiple_of(2);
        (usize::from(self.last) + 1).saturating_sub(first) / 2
    }
}

impl Network {
    /// Whether an address is in the network. IPv4 addresses written as IPv6 count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let ((mine, size), (theirs, other)) = (bits(self.address), bits(address));
        let mask = if self.prefix == 0 { 0 } else { u128::MAX << (128 - u32::from(self.prefix)) };
        size == other && mine & mask == theirs & mask
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a network such as 192.0.2.0/24 or 2001:db8::/32";
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| EXPECTED)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| EXPECTED)?;
        if prefix > longest { Err(EXPECTED) } else { Ok(Self { address, prefix }) }
    }
}

impl FromStr for Callable {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a host, the first digits of numbers such as +4930, or *";
        let digits = text.strip_prefix('+').unwrap_or(text);
        if text == "*" {
            Ok(Self::Anyone)
        } else if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self::Numbers(text.to_owned()))
        } else if text.parse::<Host>().is_ok() {
            Ok(Self::Host(text.to_owned()))
        } else {
            Err(EXPECTED)
        }
    }
}

impl fmt::Display for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("*"),
            Self::Host(text) | Self::Numbers(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected two ports such as 40000-44999";
        let (first, last) = text.split_once('-').ok_or(EXPECTED)?;
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port >= 1024);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first < last => Ok(Self { first, last }),
            _ => Err(EXPECTED),
        }
    }
}

impl FromStr for Listen {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "expected a listener such as udp:127.0.0.1:5060, tcp:[::1]:5060 or tls:127.0.0.1:5061";
        let (transport, address) = text.split_once(':').ok_or(EXPECTED)?;
        let address = address.parse().map_err(|_| EXPECTED)?;
        let all = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss];
        let named = |it: &Transport| it.to_string().to_ascii_lowercase() == transport;
        let transport = all.into_iter().find(named).ok_or(EXPECTED)?;
        Ok(Self { transport, address })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport.to_string().to_ascii_lowercase(), self.address)
    }
}

/// A value that is written as a string, and read by its own rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed<T>(pub T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|why| de::Error::custom(format_args!("`{text}`: {why}")))
    }
}

impl<T: fmt::Display> Serialize for Parsed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Default for Media {
    fn default() -> Self {
        Self {
            address: IpAddr::from([127, 0, 0, 1]),
            ports: Parsed(PortRange { first: 40_000, last: 44_999 }),
            workers: 0,
            voices: 5,
            max_stress: 0.9,
            prompts: Prompts::En,
            tones_up_to: 10,
        }
    }
}

impl Default for Keypad {
    fn default() -> Self {
        let keys = |text: &str| Parsed(Keys(text.to_owned()));
        Self {
            mute: keys("*6"),
            hand: keys("*9"),
            count: keys("*8"),
            louder: keys("*3"),
            softer: keys("*1"),
            speak_louder: keys("*5"),
            speak_softer: keys("*4"),
            lock: keys("*7"),
            mute_all: keys("*0"),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { url: "sqlite:cusaxd.db".to_owned() }
    }
}

impl Default for Http {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8088));
        Self { listen, token: None, token_file: None, read_token: None, read_token_file: None }
    }
}

impl Default for Provision {
    fn default() -> Self {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let network = |address: IpAddr| {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            Parsed(Network { address, prefix })
        };
        Self {
            enabled: true,
            proxies: loopback.map(network).to_vec(),
            xmpp_server: String::new(),
            sip_proxy: String::new(),
            sip_transports: vec![account::Transport::Tcp, account::Transport::Udp],
            one_password: false,
            xmpp_calls: false,
            sip_chat: false,
            sip_presence: false,
            refresh_hours: 24,
        }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self { drain_seconds: 20 }
    }
}

/// The longest that calls may be left to themselves when the server stops: a day.
const MAX_DRAIN_SECONDS: u32 = 24 * 60 * 60;

fn default_server() -> String {
    "127.0.0.1:5347".to_owned()
}

fn default_sip_listen() -> Vec<Parsed<Listen>> {
    let address = SocketAddr::from(([127, 0, 0, 1], 5060));
    [Transport::Udp, Transport::Tcp].map(|it| Parsed(Listen { transport: it, address })).to_vec()
}

fn default_max_requests_of_one() -> u32 {
    20
}

fn default_max_burst_of_one() -> u32 {
    60
}

fn default_session_expires() -> u32 {
    1_800
}

fn default_max_wrong_passwords() -> u32 {
    5
}

fn default_max_dials() -> usize {
    100
}

fn default_max_rooms() -> usize {
    10_000
}

fn default_max_rooms_of_one() -> usize {
    100
}

fn default_crowd() -> u32 {
    1_000
}

fn default_max_people() -> u32 {
    5_000
}

fn default_max_messages_of_one() -> u32 {
    5
}

fn default_max_message_burst_of_one() -> u32 {
    20
}

fn default_max_presences_of_one() -> u32 {
    1
}

fn default_max_presence_burst_of_one() -> u32 {
    10
}

fn default_max_joins() -> u32 {
    50
}

fn default_max_join_burst() -> u32 {
    200
}

fn default_archive_days() -> u32 {
    365
}

fn default_uri_fields() -> Vec<String> {
    ["audio-video-uri", "muc#roominfo_audio-video-uri"].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_is_in_them() {
        let check = |network: &str, address: &str, expected: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                expected,
                "{network:?} {address}"
            );
        };
        check("127.0.0.1/32", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "::1", false);
        check("2001:db8::/32", "2001:db8:1::5", true);
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
        for bad in ["", "10.0.0.0/33", "::/129", "host", "10.0.0.0/x", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn port_ranges_hold_pairs() {
        let calls = |text: &str| text.parse::<PortRange>().map(PortRange::calls);
        assert_eq!(calls("40000-40001"), Ok(1));
        assert_eq!(calls("40001-40002"), Ok(0));
        assert_eq!(calls("40001-40004"), Ok(1));
        assert_eq!(calls("40000-44999"), Ok(2500));
        for bad in ["", "40000", "5-4", "80-90", "40000-70000", "40000-40000"] {
            assert!(calls(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whom_rooms_may_call() {
        for (text, expected) in [
            ("*", Some(Callable::Anyone)),
            ("example.org", Some(Callable::Host("example.org".to_owned()))),
            ("192.0.2.1", Some(Callable::Host("192.0.2.1".to_owned()))),
            ("+4930", Some(Callable::Numbers("+4930".to_owned()))),
            ("0", Some(Callable::Numbers("0".to_owned()))),
            ("+", None),
            ("", None),
            ("sip:x@h", None),
            ("*.example.org", None),
        ] {
            assert_eq!(text.parse::<Callable>().ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn keys_are_few_and_none_hides_another() {
        for (text, good) in [
            ("*6", true),
            ("", true),
            ("A#0D", true),
            ("12345", false),
            ("E", false),
            ("6 ", false),
        ] {
            assert_eq!(text.parse::<Keys>().is_ok(), good, "{text:?}");
        }
        let check = |mute: &str, hand: &str| {
            let [mute, hand] = [mute, hand].map(|text| Parsed(text.parse().unwrap()));
            let keypad = Keypad { mute, hand, ..Keypad::default() };
            let mut problems = vec![];
            keypad.check(&mut |key, _: &str| problems.push(key));
            problems
        };
        assert!(Keypad::default().all().iter().all(|(_, keys)| !keys.as_str().is_empty()));
        assert_eq!(check("*6", "*9"), [""; 0]);
        assert_eq!(check("", ""), [""; 0]);
        assert_eq!(check("1", "1"), ["keypad.hand"]);
        assert_eq!(check("11", "1"), ["keypad.hand"]);
        assert_eq!(check("1", "*80"), ["keypad.count"]);
    }

    #[test]
    fn listeners_name_a_transport() {
        for good in [
            "udp:127.0.0.1:5060",
            "tcp:[::1]:5060",
            "tls:127.0.0.1:5061",
            "ws:127.0.0.1:80",
            "wss:127.0.0.1:443",
        ] {
            assert_eq!(good.parse::<Listen>().unwrap().to_string(), good);
        }
        for bad in [
            "127.0.0.1:5060",
            "sctp:127.0.0.1:5060",
            "TLS:1.2.3.4:5",
            "udp:localhost",
            "udp:1.2.3.4",
            "",
        ] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }
}
