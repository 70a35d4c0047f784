//! Which URI means which room, and under which we show ours (RFC 4353 §3.1, RFC 4579 §4.2).

use std::net::IpAddr;
use std::time::Duration;

use cusax::identity::xmpp_uri;
use cusax_sip::endpoint::SessionTimer;
use cusax_sip::flow::{Flow, Transport};
use cusax_sip::header::{Name, NameAddr, Warning};
use cusax_sip::message::{Request, Response, Status};
use cusax_sip::uri::{Host, SipUri, Uri};
use jid::Jid;

use super::factory::Factory;
use super::{Focus, FocusConfig, Limits, Outbound};
use crate::config::{Config, Parsed, Prompts};
use crate::dialplan::DialPlan;
use crate::id::RoomName;
use crate::rate::Rate;

impl Focus {
    /// The room that a Request-URI names (RFC 4353 §3.1): its user part, at a host of ours.
    pub(super) fn room_of(&self, uri: &Uri, flow: Flow) -> Result<RoomName, Box<Response>> {
        let Some(sip) = uri.as_sip() else {
            return Err(Box::new(Response::new(Status::UNSUPPORTED_URI_SCHEME)));
        };
        // Somebody on the way has broken the promise of SIPS (RFC 3261 §26.2.2, RFC 5630 §5.3).
        if sip.secure && !flow.transport.is_secure() {
            let (code, agent) = (380, self.config.domain.clone());
            let warning = Warning { code, agent, text: "SIPS Not Allowed".to_owned() };
            let refusal = Response::new(Status::TEMPORARILY_UNAVAILABLE);
            return Err(Box::new(refusal.with(Name::WARNING, warning)));
        }
        let name = sip.user().and_then(|user| RoomName::from_sip_user(&user).ok());
        match name {
            Some(name) if self.is_ours(uri, flow) => Ok(name),
            Some(_) | None => Err(Box::new(Response::new(Status::NOT_FOUND))),
        }
    }

    pub(super) fn is_ours(&self, uri: &Uri, flow: Flow) -> bool {
        let Some(sip) = uri.as_sip() else { return false };
        let listens = |ip: IpAddr| {
            ip == flow.local.ip()
                || ip == self.config.media_address
                || self.config.listen.iter().any(|(_, listen)| listen.ip() == ip)
        };
        let domain = &self.config.domain;
        sip.host.to_string().eq_ignore_ascii_case(domain) || sip.host.ip().is_some_and(listens)
    }

    /// The conference's address on a flow, which peers can reach without knowing our domain, marked
    /// as a focus (RFC 4579 §4.2). What begins with SIPS stays SIPS (RFC 3261 §12.1.1).
    pub(super) fn contact(&self, room: &RoomName, flow: Flow, request: &Request) -> NameAddr {
        self.contact_by(room, flow, flow.transport.is_secure() && begins_with_sips(request))
    }

    /// The same where we begin.
    pub(super) fn contact_by(&self, room: &RoomName, flow: Flow, sips: bool) -> NameAddr {
        let ip = match flow.local.ip() {
            ip if ip.is_unspecified() => self.config.media_address,
            ip => ip,
        };
        let uri = SipUri::new(Some(room.as_str()), Host::Ip(ip), Some(flow.local.port()));
        let mut uri = uri.over(flow.transport);
        uri.secure = sips;
        // By SIPS it is TLS anyhow (RFC 5630 §3.1.4).
        if uri.secure && flow.transport == Transport::Tls {
            uri.remove_param("transport");
        }
        NameAddr::new(uri).with_param("isfocus", None)
    }
}

impl FocusConfig {
    /// What the configuration says of phones.
    pub fn new(config: &Config) -> Self {
        let sip = &config.sip;
        let listen = sip.listen.iter().map(|listen| (listen.0.transport, listen.0.address));
        let outbound = sip.outbound_proxy.as_ref().map(|Parsed(proxy)| Outbound {
            proxy: proxy.clone(),
            credentials: sip.outbound_user.clone().zip(sip.outbound_password.clone()),
            realm: sip.outbound_realm.clone().unwrap_or_else(|| proxy.host.to_string()),
        });
        Self {
            domain: sip.domain.to_ascii_lowercase(),
            xmpp_domain: config.xmpp.domain.0.clone(),
            listen: listen.collect(),
            trusted_proxies: sip.trusted_proxies.iter().map(|proxy| proxy.0).collect(),
            trusted_domains: sip.trusted_domains.clone(),
            auth: sip.auth,
            dialplan: DialPlan::new(config),
            outbound,
            media_address: config.media.address,
            ports: config.media.ports.0,
            session: SessionTimer { interval: sip.session_expires, min: MIN_SESSION },
            factory: sip.factory.clone().map(|user| Factory { user, answer: sip.factory_answer }),
            limits: Limits {
                requests: Rate {
                    interval: Duration::from_secs(1) / sip.max_requests_of_one.max(1),
                    burst: sip.max_burst_of_one,
                },
                wrong_passwords: sip.max_wrong_passwords,
                max_stress: config.media.max_stress,
            },
            keypad: config.keypad.clone(),
            prompts: config.media.prompts != Prompts::None,
            tones_up_to: config.media.tones_up_to,
        }
    }

    /// A room's conference URI.
    pub fn room_uri(&self, room: &RoomName) -> SipUri {
        let host = self.domain.parse().unwrap_or_else(|_| Host::Name(self.domain.clone()));
        SipUri::new(Some(room.as_str()), host, None)
    }

    /// A room's `xmpp:` URI.
    pub fn chat_uri(&self, room: &RoomName) -> String {
        xmpp_uri(&Jid::from(room.jid(&self.xmpp_domain)))
    }
}

/// Whether what a request begins is under SIPS: by its URI, or where it wants to be reached.
fn begins_with_sips(request: &Request) -> bool {
    let secure = |uri: &Uri| uri.as_sip().is_some_and(|uri| uri.secure);
    let routes = request.headers.record_routes().unwrap_or_default();
    let reached = match routes.first() {
        Some(route) => secure(&route.uri),
        None => request.headers.contact().is_ok_and(|it| it.is_some_and(|it| secure(&it.uri))),
    };
    secure(&request.uri) || reached
}

/// A SIP URI without anything but user, host and port.
pub(super) fn address_of(uri: &Uri) -> String {
    match uri.as_sip() {
        Some(sip) => {
            let mut plain = SipUri::new(sip.user().as_deref(), sip.host.clone(), sip.port);
            plain.secure = sip.secure;
            plain.to_string()
        }
        None => uri.to_string(),
    }
}

/// The shortest session that is granted, in seconds (RFC 4028 §4).
pub(super) const MIN_SESSION: u32 = 90;
