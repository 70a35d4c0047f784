//! Whom the conferences may call, who that is, and the question where a call goes first: one answer for
//! every face that is asked to.
//!
//! A call costs money, and one that comes back costs all there is, so only users of the directory can
//! be called unless the configuration says otherwise, and never a conference of our own.

use std::net::SocketAddr;

use cusax::identity::Aor;
use cusax_sip::flow::Transport;
use cusax_sip::uri::{SipUri, Uri};

use crate::config::{Callable, Config};
use crate::directory::Directory;
use crate::display::{digits, harmless};
use crate::id::LegId;
use crate::room::dial::Callee;
use crate::room::person::{Caller, Proof, Who};

/// The rules of `[sip]` for calls that go out.
#[derive(Clone, Debug)]
pub struct DialPlan {
    allow: Vec<Callable>,
    proxy: Option<SipUri>,
    domain: String,
    listen: Vec<SocketAddr>,
}

/// A question to the shell: at which addresses is the server of a URI (RFC 3263 §4)?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Comes back with the answer.
    pub leg: LegId,
    /// The URI of the next hop.
    pub uri: SipUri,
}

/// Somewhere to send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// By which transport.
    pub transport: Transport,
    /// Where.
    pub remote: SocketAddr,
}

/// Why nobody is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDialled {
    /// The text is no address that a phone could have.
    #[error(
        "expected a SIP or tel URI of somebody, such as sip:bob@example.org or tel:+4930123456"
    )]
    NoAddress,
    /// It is one, and `sip.dial_allow` does not name it, or it leads back to us.
    #[error("that address may not be called")]
    NotAllowed,
}

impl DialPlan {
    /// What the configuration says.
    pub fn new(config: &Config) -> Self {
        let listen = config.sip.listen.iter().map(|listen| listen.0.address);
        Self {
            allow: config.sip.dial_allow.iter().map(|callable| callable.0.clone()).collect(),
            proxy: config.sip.outbound_proxy.as_ref().map(|proxy| proxy.0.clone()),
            domain: config.sip.domain.to_ascii_lowercase(),
            listen: listen.collect(),
        }
    }

    /// Whom an address means: a user of the directory, who can always be called, or anyone whom
    /// `sip.dial_allow` names. Of a URI only what says where to call is kept (RFC 3261 §19.1.5).
    pub fn callee(&self, address: &str, directory: &Directory) -> Result<Callee, NotDialled> {
        if address.len() > MAX_ADDRESS {
            return Err(NotDialled::NoAddress);
        }
        let (uri, aor, number) = match address.parse().map_err(|_| NotDialled::NoAddress)? {
            Uri::Sip(uri) => {
                let aor = uri.user().and_then(|user| Aor::new(&user, &uri.host.to_string()).ok());
                (plain(&uri), aor.ok_or(NotDialled::NoAddress)?, None)
            }
            Uri::Tel(tel) => {
                let number = digits(tel.number());
                let aor = Aor::new(&number, &self.domain).map_err(|_| NotDialled::NoAddress)?;
                if !aor.is_number() {
                    return Err(NotDialled::NoAddress);
                }
                // Somebody else has to know where numbers are (RFC 3261 §19.1.6).
                let proxy = self.proxy.as_ref().ok_or(NotDialled::NotAllowed)?;
                let uri = SipUri::new(Some(&number), proxy.host.clone(), proxy.port);
                (uri.with_param("user", Some("phone")), aor, Some(number))
            }
            Uri::Other(_) => return Err(NotDialled::NoAddress),
        };
        let user = directory.by_aor(&aor);
        let allowed = user.is_some() || self.allows(&uri, number.as_deref());
        // Without a registrar in between, what is at our own domain is our own rooms.
        let ours =
            number.is_none() && self.is_ours(&uri) && (user.is_none() || self.proxy.is_none());
        if !allowed || ours || uri.secure {
            return Err(NotDialled::NotAllowed);
        }
        let name = user.and_then(|user| user.name.as_deref()).and_then(harmless);
        let who = user.map_or_else(|| Who::Aor(aor.clone()), |user| Who::Jid(user.jid.clone()));
        let name = name.or_else(|| harmless(aor.user()));
        let person = Caller { who, aor: Some(aor), name, proof: Proof::Dialled, private: false };
        Ok(Callee::new(uri.to_string(), person))
    }

    fn allows(&self, uri: &SipUri, number: Option<&str>) -> bool {
        self.allow.iter().any(|callable| match (callable, number) {
            (Callable::Anyone, _) => true,
            (Callable::Numbers(prefix), Some(number)) => number.starts_with(prefix),
            (Callable::Host(host), None) => uri.host.to_string().eq_ignore_ascii_case(host),
            (Callable::Numbers(_), None) | (Callable::Host(_), Some(_)) => false,
        })
    }

    fn is_ours(&self, uri: &SipUri) -> bool {
        let port = uri.port.unwrap_or(DEFAULT_PORT);
        let listens = |ip| {
            self.listen.iter().any(|listen| {
                listen.port() == port && (listen.ip() == ip || listen.ip().is_unspecified())
            })
        };
        uri.host.to_string().eq_ignore_ascii_case(&self.domain)
            || uri.host.ip().is_some_and(listens)
    }
}

/// A URI with nothing in it that could make of the call something else: no headers, no `maddr`.
fn plain(uri: &SipUri) -> SipUri {
    let mut plain = SipUri::new(uri.user().as_deref(), uri.host.clone(), uri.port);
    plain.secure = uri.secure;
    for name in ["transport", "user", "gr"] {
        if let Some(value) = uri.param(name) {
            let value = Some(&*value).filter(|value| !value.is_empty());
            plain.set_param(name, value);
        }
    }
    plain
}

/// The longest address that is read, in bytes.
const MAX_ADDRESS: usize = 256;
/// RFC 3261 §19.1.2.
const DEFAULT_PORT: u16 = 5060;

#[cfg(test)]
mod tests {
    use jid::BareJid;
    use serde_json::json;

    use super::*;
    use crate::directory::User;

    fn plan(allow: &[&str], proxy: Option<&str>) -> DialPlan {
        let config: Config = serde_json::from_value(json!({
            "xmpp": { "domain": "rooms.example.org", "secret": "x" },
            "sip": {
                "domain": "conf.example.org",
                "listen": ["udp:192.0.2.1:5070"],
                "dial_allow": allow,
                "outbound_proxy": proxy,
            },
        }))
        .unwrap();
        assert_eq!(config.check(), []);
        DialPlan::new(&config)
    }

    #[test]
    fn only_whom_the_configuration_names_is_called() {
        let mut directory = Directory::default();
        for (jid, aor, name) in [
            ("alice@chat", "sip:alice@example.org", Some("Alice\u{202e}")),
            ("bob@chat", "sip:bob@conf.example.org", None),
        ] {
            let name = name.map(str::to_owned);
            let jid = BareJid::new(jid).unwrap();
            directory.put(User { jid, aor: aor.parse().unwrap(), name, secret: None }).unwrap();
        }
        let check = |allow: &[&str], proxy: Option<&str>, address: &str, expected: &str| {
            let got = match plan(allow, proxy).callee(address, &directory) {
                Ok(Callee { uri, person: Caller { who, name, proof, .. }, .. }) => {
                    assert_eq!(proof, Proof::Dialled);
                    let who = match who {
                        Who::Jid(jid) => jid.to_string(),
                        Who::Aor(aor) => aor.to_string(),
                        Who::Unknown(leg) => leg.to_string(),
                    };
                    format!("{uri} {who} {}", name.unwrap_or_default())
                }
                Err(NotDialled::NoAddress) => "no address".to_owned(),
                Err(NotDialled::NotAllowed) => "not allowed".to_owned(),
            };
            assert_eq!(got, expected, "{allow:?} {proxy:?} {address}");
        };
        let proxy = Some("sip:192.0.2.9:5066");
        // The directory, always.
        check(&[], None, "sip:alice@example.org", "sip:alice@example.org alice@chat Alice");
        check(&[], None, "sip:ALICE@example.org", "not allowed");
        check(&[], None, "sip:carol@example.org", "not allowed");
        check(&[], None, "tel:+4930123456", "not allowed");
        // A host, and nothing that is like it.
        let host: &[&str] = &["Example.org"];
        check(host, None, "sip:x@EXAMPLE.org", "sip:x@EXAMPLE.org sip:x@example.org x");
        check(host, None, "sip:x@a.example.org", "not allowed");
        check(host, None, "sip:x@example.org.evil", "not allowed");
        check(host, proxy, "tel:+4930123456", "not allowed");
        // Numbers, where somebody knows the way to them.
        let number = "sip:+4930123456@192.0.2.9:5066;user=phone \
            sip:+4930123456@conf.example.org +49301•••56";
        check(&["+49"], proxy, "tel:+49-30-(123)-456", number);
        check(&["+49"], proxy, "tel:+44123456", "not allowed");
        check(&["+49"], None, "tel:+4930123456", "not allowed");
        check(&["+49"], proxy, "sip:+4930123456@192.0.2.9:5066", "not allowed");
        // Anyone, but nobody who is us.
        let anyone: &[&str] = &["*"];
        check(anyone, None, "sip:x@h:5070", "sip:x@h:5070 sip:x@h x");
        check(anyone, None, "sip:tea@conf.example.org", "not allowed");
        check(anyone, None, "sip:tea@CONF.example.org:9", "not allowed");
        check(anyone, None, "sip:tea@192.0.2.1:5070", "not allowed");
        check(anyone, None, "sip:x@192.0.2.1:5062", "sip:x@192.0.2.1:5062 sip:x@192.0.2.1 x");
        check(anyone, None, "sip:bob@conf.example.org", "not allowed");
        let bob = "sip:bob@conf.example.org bob@chat bob";
        check(anyone, proxy, "sip:bob@conf.example.org", bob);
        check(anyone, proxy, "sip:tea@conf.example.org", "not allowed");
        // What is hidden in a URI stays behind.
        check(
            anyone,
            None,
            "sip:x:pw@h;maddr=evil;transport=tcp;method=BYE;lr?Replaces=1",
            "sip:x@h;transport=tcp sip:x@h x",
        );
        // What is no address.
        let long = format!("sip:{}@h", "x".repeat(MAX_ADDRESS));
        for text in ["", "bob", "sip:h", "mailto:x@h", "tel:1", "sip:x y@h", "sip:@h", &long] {
            check(anyone, proxy, text, "no address");
        }
        check(anyone, None, "sips:x@h", "not allowed");
    }
}
