//! What a service tells a client to set up (RFC 7081 §2): an XMPP account, a SIP account, that they
//! belong together, and what is switched off in each.
//!
//! Three forms say it: our own JSON ([`Account::to_json`]; `docs/provision.schema.json` is its schema),
//! the properties of Jitsi desktop ([`jitsi`]), and the XML of Linphone ([`linphone`]), which knows SIP
//! alone. Nothing here fetches anything.

pub mod jitsi;
pub mod linphone;

use std::fmt;

use jid::BareJid;
use serde::{Deserialize, Serialize};

use crate::identity::Aor;

/// What one person's client sets up. A part that a form does not know is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The version of the JSON; [`VERSION`].
    pub version: u32,
    /// Their name, for people, in both accounts.
    #[serde(default)]
    pub name: Option<String>,
    /// For chat and presence.
    #[serde(default)]
    pub xmpp: Option<Xmpp>,
    /// For voice.
    #[serde(default)]
    pub sip: Option<Sip>,
    /// Whether the two are of one person and one service: a call to the one may be shown as a call to
    /// the other, and features are switched off in favour of the other.
    #[serde(default)]
    pub related: bool,
    /// Where the rooms of the service are.
    #[serde(default)]
    pub conference: Option<Conference>,
    /// What each account is used for besides.
    #[serde(default)]
    pub features: Features,
    /// After how many seconds to ask again.
    pub refresh_s: u64,
}

/// The account for chat and presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xmpp {
    /// Whose.
    #[serde(with = "text")]
    pub jid: BareJid,
    /// `HOST` or `HOST:PORT`; without it, what DNS says of the domain (RFC 6120 §3.2.1).
    #[serde(default)]
    pub server: Option<String>,
    /// Which password it takes.
    pub password: Password,
}

/// The account for voice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sip {
    /// Whose.
    #[serde(with = "text")]
    pub aor: Aor,
    /// The realm in which the user part of the address is the user name (RFC 7616).
    pub realm: String,
    /// The outbound proxy, `HOST` or `HOST:PORT`; without it, what DNS says of the domain (RFC 3263).
    #[serde(default)]
    pub proxy: Option<String>,
    /// Whether it registers.
    pub register: bool,
    /// What it is reached over, the preferred first.
    pub transports: Vec<Transport>,
    /// Which password it takes.
    pub password: Password,
}

/// Which password an account takes. The JSON never holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Password {
    /// The one that was given for the document.
    Given,
    /// Another one: the person is asked for it.
    Own,
}

/// A transport of SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
    /// Encrypted streams.
    Tls,
}

/// Where rooms are: `ROOM@xmpp_domain` in chat is `sip:ROOM@sip_domain` for calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conference {
    /// The domain of the chat rooms.
    pub xmpp_domain: String,
    /// The domain of their calls.
    pub sip_domain: String,
}

/// What an account is used for although the other one is there for that (RFC 7081 §2). All of it is
/// off, unless the service says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    /// Calls over XMPP.
    pub xmpp_calls: bool,
    /// Messages over SIP.
    pub sip_chat: bool,
    /// Presence over SIP.
    pub sip_presence: bool,
}

/// Secrets that came in a form that carries them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The password of the XMPP account.
    pub xmpp: Option<String>,
    /// The password of the SIP account.
    pub sip: Option<String>,
    /// `H(A1)` for MD5 in the SIP account's realm (RFC 7616 §3.4.2): as good as the password there.
    pub sip_ha1: Option<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// A document that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAccount {
    /// It is longer than [`MAX_DOCUMENT`].
    #[error("longer than {MAX_DOCUMENT} bytes")]
    TooLong,
    /// It cannot be read as what it is said to be.
    #[error("not readable: {0}")]
    Unreadable(String),
    /// It is for clients that know more.
    #[error("version {0} is not known")]
    Version(u32),
    /// It names no account.
    #[error("names no account")]
    Empty,
}

impl Account {
    /// The JSON document.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain values with text as keys")
    }

    /// Reads the JSON document. What it says beside what is known here is passed over.
    pub fn from_json(text: &str) -> Result<Self, BadAccount> {
        fits(text)?;
        let account: Self =
            serde_json::from_str(text).map_err(|why| BadAccount::Unreadable(why.to_string()))?;
        if account.version != VERSION {
            return Err(BadAccount::Version(account.version));
        }
        account.checked()
    }

    fn checked(self) -> Result<Self, BadAccount> {
        if self.xmpp.is_none() && self.sip.is_none() {
            return Err(BadAccount::Empty);
        }
        // One account has nothing to be related to.
        let related = self.related && self.xmpp.is_some() && self.sip.is_some();
        Ok(Self { related, ..self })
    }
}

impl Transport {
    /// The word of SIP URIs (RFC 3261 §19.1.1) and of the JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// Reads [`Self::as_str`] back, in any case of letters.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls]
            .into_iter()
            .find(|transport| transport.as_str().eq_ignore_ascii_case(word))
    }
}

fn fits(text: &str) -> Result<(), BadAccount> {
    if text.len() > MAX_DOCUMENT { Err(BadAccount::TooLong) } else { Ok(()) }
}

/// `HOST`, `HOST:PORT` or `[V6]:PORT` as its two parts.
fn host_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

/// Values that are written as text.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(it: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(it)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// The version of the JSON that is written and read here.
pub const VERSION: u32 = 1;
/// The largest document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 64 * 1024;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Account {
        Account {
            version: VERSION,
            name: Some("Älice \"A\" <1>: x=y\\z".to_owned()),
            xmpp: Some(Xmpp {
                jid: "alice@example.org".parse().unwrap(),
                server: Some("xmpp.example.org:5222".to_owned()),
                password: Password::Own,
            }),
            sip: Some(Sip {
                aor: "sip:alice@sip.example.org".parse().unwrap(),
                realm: "sip.example.org".to_owned(),
                proxy: Some("proxy.example.org:5061".to_owned()),
                register: true,
                transports: vec![Transport::Tls, Transport::Tcp],
                password: Password::Given,
            }),
            related: true,
            conference: Some(Conference {
                xmpp_domain: "rooms.example.org".to_owned(),
                sip_domain: "conf.example.org".to_owned(),
            }),
            features: Features::default(),
            refresh_s: 86_400,
        }
    }

    #[test]
    fn the_document_is_read_as_it_was_written() {
        let account = sample();
        assert_eq!(Account::from_json(&account.to_json()), Ok(account.clone()));
        // What later versions add is passed over, and what is not there is off.
        let more = account.to_json().replacen('{', "{\"extra\": [1],", 1);
        assert_eq!(Account::from_json(&more), Ok(account));
        let least = r#"{"version":1,"refresh_s":60,"related":true,
            "xmpp":{"jid":"a@b","password":"given"}}"#;
        let least = Account::from_json(least).unwrap();
        assert_eq!((least.related, least.features), (false, Features::default()));
    }

    #[test]
    fn what_is_no_document_has_its_reason() {
        let check = |text: &str, expected: &str| {
            let why = Account::from_json(text).unwrap_err().to_string();
            assert!(why.contains(expected), "{text}: {why}");
        };
        check("", "not readable");
        check("[]", "not readable");
        check(r#"{"version":2,"refresh_s":1}"#, "version 2");
        check(r#"{"version":1,"refresh_s":1}"#, "no account");
        check(r#"{"version":1,"refresh_s":1,"xmpp":{"jid":"@","password":"own"}}"#, "not readable");
        check(r#"{"version":1,"refresh_s":1,"xmpp":{"jid":"a@b","password":"x"}}"#, "not readable");
        check(r#"{"version":1,"refresh_s":-1,"xmpp":{"jid":"a@b","password":"own"}}"#, "readable");
        check(&" ".repeat(MAX_DOCUMENT + 1), "longer");
    }

    #[test]
    fn hosts_and_ports_come_apart() {
        assert_eq!(host_port("a.example"), ("a.example", None));
        assert_eq!(host_port("a.example:5"), ("a.example", Some("5")));
        assert_eq!(host_port("[::1]:5"), ("[::1]", Some("5")));
        assert_eq!(host_port("::1"), ("::1", None));
    }
}
