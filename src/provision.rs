//! What a user of the directory is told to set up (RFC 7081 §2): their two accounts, in the form that
//! their client reads. Nothing here is stored: links end with the process.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use cusax::account::{self, Account, Conference, Features, Password, Sip, Xmpp};
use cusax_sip::digest::{Algorithm, Ha1};
use jid::BareJid;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::directory::User;

/// How a client wants it told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Our JSON, which holds no secret.
    Json,
    /// Properties of Jitsi desktop.
    Jitsi,
    /// Linphone's XML.
    Linphone,
}

/// Somebody asks what to set up.
#[derive(Clone, Debug)]
pub struct Request {
    /// Comes back in the answer.
    pub ticket: u64,
    /// From where.
    pub from: IpAddr,
    /// What is to prove who they are.
    pub proof: Proof,
    /// How they want it.
    pub form: Form,
}

/// What proves who somebody is.
#[derive(Clone)]
pub enum Proof {
    /// A name (the user part of a SIP address of ours, an address, or a JID) and its password.
    Password(String, String),
    /// The token of a link.
    Token(String),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(..) => "Password(…)",
            Self::Token(_) => "Token(…)",
        })
    }
}

/// Links that were handed out, for clients that cannot give a password: each opens one document, once.
#[derive(Debug)]
pub struct Links {
    rng: StdRng,
    /// By the hash of the token: how long something takes tells nothing about tokens.
    open: BTreeMap<[u8; 32], (BareJid, Instant)>,
}

impl Links {
    /// No links. The seed makes their tokens, and must be known to nobody.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { rng: StdRng::from_seed(seed), open: BTreeMap::new() }
    }

    /// A token for a user's document. Where there are [`MAX_LINKS`], the one that ends first makes place.
    pub fn make(&mut self, now: Instant, user: BareJid) -> String {
        self.open.retain(|_, (_, until)| now < *until);
        if self.open.len() >= MAX_LINKS {
            let oldest = self.open.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(oldest) = oldest.map(|(hash, _)| *hash) {
                self.open.remove(&oldest);
            }
        }
        let token = URL_SAFE_NO_PAD.encode(self.rng.random::<[u8; 24]>());
        self.open.insert(Sha256::digest(&token).into(), (user, now + LINK_LIFETIME));
        token
    }

    /// Whose document a token opens; it opens nothing after that.
    pub fn open(&mut self, now: Instant, token: &str) -> Option<BareJid> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let (user, until) = self.open.remove(&hash)?;
        (now < until).then_some(user)
    }
}

/// What holds for every user: the parts of the configuration that clients are told.
#[derive(Clone, Debug)]
pub struct Terms {
    provision: crate::config::Provision,
    conference: Conference,
}

impl Form {
    /// The form by its name in `?format=`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "jitsi" => Some(Self::Jitsi),
            "linphone" => Some(Self::Linphone),
            _ => None,
        }
    }

    /// The form that a client asks for by Accept (RFC 9110 §12.5.1), or is known to read by its
    /// User-Agent; else JSON.
    pub fn wanted(accept: &str, user_agent: &str) -> Self {
        let types = accept.split(',').map(|one| one.split(';').next().unwrap_or(one).trim());
        for media_type in types {
            match media_type {
                "application/json" => return Self::Json,
                "application/xml" | "text/xml" | "application/x-linphone-provisioning" => {
                    return Self::Linphone;
                }
                "text/x-java-properties" => return Self::Jitsi,
                _ => {}
            }
        }
        let agent = user_agent.to_ascii_lowercase();
        if agent.contains("linphone") {
            Self::Linphone
        } else if agent.contains("jitsi") {
            Self::Jitsi
        } else {
            Self::Json
        }
    }

    /// The media type of an answer.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jitsi => "text/plain; charset=us-ascii",
            Self::Linphone => "application/xml",
        }
    }
}

impl Terms {
    /// What the configuration says.
    pub fn new(config: &Config) -> Self {
        let conference = Conference {
            xmpp_domain: config.xmpp.domain.0.to_string(),
            sip_domain: config.sip.domain.to_ascii_lowercase(),
        };
        Self { provision: config.provision.clone(), conference }
    }

    /// Whether anybody is told.
    pub fn are_told(&self) -> bool {
        self.provision.enabled
    }

    /// A user's document. `password` is what they proved to know, if that was asked.
    pub fn tell(&self, user: &User, password: Option<&str>, form: Form) -> String {
        match form {
            Form::Json => self.account(user, password.is_some()).to_json(),
            Form::Jitsi => self.account(user, password.is_some()).to_jitsi(password),
            Form::Linphone => {
                // For the realm of whoever asks for it there, which may be a registrar.
                let (name, realm) = (user.aor.user(), user.aor.host());
                let ours = realm == self.conference.sip_domain;
                let ha1 = match (password, &user.secret) {
                    (Some(password), _) => {
                        Some(Ha1::new(Algorithm::Md5, name, realm, password).as_hex().to_owned())
                    }
                    (None, Some(secret)) if ours => Some(secret.md5.clone()),
                    (None, _) => None,
                };
                self.account(user, ha1.is_some()).to_linphone(ha1.as_deref())
            }
        }
    }

    fn account(&self, user: &User, given: bool) -> Account {
        let terms = &self.provision;
        let whose = |given| if given { Password::Given } else { Password::Own };
        let place = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Account {
            version: account::VERSION,
            name: user.name.clone(),
            xmpp: Some(Xmpp {
                jid: user.jid.clone(),
                server: place(&terms.xmpp_server),
                password: whose(given && terms.one_password),
            }),
            sip: Some(Sip {
                aor: user.aor.clone(),
                realm: user.aor.host().to_owned(),
                proxy: place(&terms.sip_proxy),
                // Nobody registers at the focus itself.
                register: user.aor.host() != self.conference.sip_domain,
                transports: terms.sip_transports.clone(),
                password: whose(given),
            }),
            related: true,
            conference: Some(self.conference.clone()),
            features: Features {
                xmpp_calls: terms.xmpp_calls,
                sip_chat: terms.sip_chat,
                sip_presence: terms.sip_presence,
            },
            refresh_s: u64::from(terms.refresh_hours) * 3_600,
        }
    }
}

/// How long a link may wait to be opened.
pub const LINK_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Links that wait.
pub const MAX_LINKS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_the_client_reads() {
        let check = |accept: &str, agent: &str, expected| {
            assert_eq!(Form::wanted(accept, agent), expected, "{accept} {agent}");
        };
        check("", "", Form::Json);
        check("*/*", "curl/8", Form::Json);
        check("application/xml", "", Form::Linphone);
        check("text/html, text/xml;q=0.9", "", Form::Linphone);
        check("application/json", "Linphone/5.1", Form::Json);
        check("text/x-java-properties", "", Form::Jitsi);
        check("", "Linphone Desktop/4.4.10 (x)", Form::Linphone);
        check("*/*", "Jitsi/2.10", Form::Jitsi);
        assert_eq!(Form::named("jitsi"), Some(Form::Jitsi));
        assert_eq!(Form::named("vcard"), None);
    }

    #[test]
    fn a_link_opens_once_and_for_a_while() {
        let now = crate::clock::Now::read().instant;
        let jid = |n: usize| BareJid::new(&format!("u{n}@x")).unwrap();
        let mut links = Links::new([7; 32]);
        let (a, b) = (links.make(now, jid(1)), links.make(now, jid(1)));
        assert!(a.len() == 32 && a != b);
        assert_eq!(links.open(now, &a), Some(jid(1)));
        assert_eq!(links.open(now, &a), None, "it was opened");
        assert_eq!(links.open(now + LINK_LIFETIME, &b), None, "it ended");
        assert_eq!(links.open(now, "guessed"), None);
        let second = Duration::from_secs(1);
        let first = links.make(now, jid(0));
        let kept: Vec<_> = (1..=MAX_LINKS).map(|n| links.make(now + second, jid(n))).collect();
        assert_eq!(links.open.len(), MAX_LINKS);
        assert_eq!(links.open(now, &first), None, "it made place");
        assert_eq!(links.open(now, &kept[0]), Some(jid(1)));
    }
}
