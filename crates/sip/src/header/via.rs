//! Via: the way a request came, and a response goes (RFC 3261 §20.42).

use std::{
    fmt::{self, Display},
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use super::{Params, ValueError};
use crate::{
    scan,
    uri::{Host, Transport},
};

/// One Via value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The transport over which the request was sent.
    pub transport: Transport,
    /// The host of sent-by.
    pub host: Host,
    /// The port of sent-by, if one is written.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport` and others.
    pub params: Params,
}

impl Via {
    /// A Via of our own, asking the next hop for the port it sees (RFC 3581 §3).
    pub fn new(transport: Transport, sent_by: SocketAddr, branch: &str) -> Self {
        let params = Params::default().with("branch", Some(branch)).with("rport", None);
        let (host, port) = (Host::Ip(sent_by.ip()), Some(sent_by.port()));
        Self { transport, host, port, params }
    }

    /// The transaction's branch; `None` if absent or empty.
    pub fn branch(&self) -> Option<&str> {
        self.params.get("branch").filter(|branch| !branch.is_empty())
    }

    /// The branch if it starts with the cookie of RFC 3261 §8.1.1.7 and goes on after it, so that
    /// it alone names the transaction; else the older rules of §17.2.3 apply.
    pub fn rfc3261_branch(&self) -> Option<&str> {
        let cookie = self.branch()?.get(..MAGIC_COOKIE.len())?;
        let good = cookie.eq_ignore_ascii_case(MAGIC_COOKIE);
        self.branch().filter(|branch| good && branch.len() > MAGIC_COOKIE.len())
    }

    /// The address that the next hop saw; IPv6 with or without brackets (RFC 5118 §4.5).
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.params.get("received")?;
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        inner.unwrap_or(text).parse().ok()
    }

    /// The port that the next hop saw: `Some(None)` asks for it (RFC 3581 §3).
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.get("rport").map(scan::number)
    }

    /// Notes where the request really came from: `received` if sent-by names another host, and both
    /// if `rport` asks (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn set_source(&mut self, source: SocketAddr) {
        let asked = self.params.has("rport");
        // A socket for both families shows IPv4 peers as mapped addresses.
        let ip = source.ip().to_canonical();
        if asked || self.host != Host::Ip(ip) {
            self.params.set("received", Some(&ip.to_string()));
        }
        if asked {
            self.params.set("rport", Some(&source.port().to_string()));
        }
    }
}

impl FromStr for Via {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (head, params) = scan::split_once(text, b';').ok_or(ValueError)?;
        let params = Params::parse(params)?;
        let mut parts = head.splitn(3, '/').map(scan::trim);
        let (Some(name), Some(version), Some(rest)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(ValueError);
        };
        let (transport, sent_by) = rest.split_once([' ', '\t']).ok_or(ValueError)?;
        let sip = name.eq_ignore_ascii_case("SIP") && version == "2.0";
        if !sip || !scan::is_token(transport) {
            return Err(ValueError);
        }
        let (host, port) = Host::with_port(scan::trim(sent_by)).map_err(|_| ValueError)?;
        Ok(Self { transport: Transport::from_token(transport), host, port, params })
    }
}

impl Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}

/// What a branch of RFC 3261 starts with (§8.1.1.7).
pub const MAGIC_COOKIE: &str = "z9hG4bK";
