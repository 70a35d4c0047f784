//! Tries what a configuration promises, before a server is started with it: its addresses and ports, its
//! certificate, names, store and link. Leaves nothing behind, but the file of a new store.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, SystemTime};

use cusax_sip::flow::Transport;
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::settings::Settings;
use super::sip::tls::Validity;
use super::store;
use super::xmpp::{self, End, LinkEvent};
use crate::clock::{Now, stamp};
use crate::config::{Listen, Problem};

/// What came of trying.
#[derive(Debug, Default)]
pub struct Probed {
    /// What does not work here and at this moment, each by its key.
    pub problems: Vec<Problem>,
    /// What will not for long, or not for everybody.
    pub warnings: Vec<Problem>,
}

/// Tries everything. The link is tried only if everything can be bound: else a server runs already, and a
/// second link under its name would end the first.
pub async fn probe(settings: &Settings) -> Probed {
    let mut probed = Probed { problems: addresses(settings), warnings: vec![] };
    certificate(settings, Now::read().utc, &mut probed);
    names(settings, &mut probed).await;
    probed.problems.extend(store(settings).await);
    if probed.problems.is_empty() {
        probed.problems.extend(link(settings).await);
    }
    probed
}

/// From when to when the certificate of SIP is good.
fn certificate(settings: &Settings, now: SystemTime, probed: &mut Probed) {
    let Some((tls, file)) = settings.tls.as_ref().zip(settings.config.sip.tls_certificate.as_ref())
    else {
        return;
    };
    let Some(Validity { from, until }) = tls.validity() else { return };
    let problem = |reason| Problem { key: "sip.tls_certificate", reason };
    if now < from {
        probed.problems.push(problem(format!("{file}: is not good before {}", stamp(from))));
    } else if until <= now {
        probed.problems.push(problem(format!("{file}: was good until {}", stamp(until))));
    } else if until < now + SOON {
        probed.warnings.push(problem(format!("{file}: is good until {} only", stamp(until))));
    }
}

/// Whether names are known to DNS: those that we call, and those that others are told.
async fn names(settings: &Settings, probed: &mut Probed) {
    let config = &settings.config;
    let is_known = async |host: &str| {
        let found = timeout(DNS_PATIENCE, lookup_host((host.trim_matches(['[', ']']), 0))).await;
        found.is_ok_and(|found| found.is_ok_and(|mut found| found.next().is_some()))
    };
    if let Some(proxy) = &config.sip.outbound_proxy {
        let host = proxy.0.host.to_string();
        if !is_known(&host).await {
            let reason = format!("{host}: DNS knows no address");
            probed.problems.push(Problem { key: "sip.outbound_proxy", reason });
        }
    }
    for (key, place, what) in [
        ("sip.domain", &config.sip.domain, "phones get there by SRV records or a proxy alone"),
        ("provision.xmpp_server", &config.provision.xmpp_server, "clients are sent there"),
        ("provision.sip_proxy", &config.provision.sip_proxy, "phones are sent there"),
    ] {
        let host = match place.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            Some(_) | None => place,
        };
        if !host.is_empty() && !is_known(host).await {
            let reason = format!("{host}: DNS knows no address here, and {what}");
            probed.warnings.push(Problem { key, reason });
        }
    }
}

fn addresses(settings: &Settings) -> Vec<Problem> {
    let config = &settings.config;
    let mut problems = vec![];
    let mut wrong = |key, reason| problems.push(Problem { key, reason });
    for listen in &config.sip.listen {
        let Listen { transport, address } = listen.0;
        let bound = match transport {
            Transport::Udp => UdpSocket::bind(address).map(drop),
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                TcpListener::bind(address).map(drop)
            }
        };
        if let Err(why) = bound {
            wrong("sip.listen", format!("cannot bind {}: {why}", listen.0));
        }
    }
    if let Err(why) = TcpListener::bind(config.http.listen) {
        wrong("http.listen", format!("cannot bind {}: {why}", config.http.listen));
    }
    let (address, ports) = (config.media.address, config.media.ports.0);
    if let Err(why) = UdpSocket::bind((address, 0)) {
        wrong("media.address", format!("cannot bind {address}: {why}"));
        return problems;
    }
    let taken = |port: &u16| UdpSocket::bind(SocketAddr::new(address, *port)).is_err();
    let taken: Vec<u16> = (ports.first..=ports.last).filter(taken).collect();
    if let [first, ..] = taken[..] {
        let reason = format!("others use {} of these ports, {first} first", taken.len());
        wrong("media.ports", reason);
    }
    problems
}

async fn store(settings: &Settings) -> Option<Problem> {
    let why = store::probe(&settings.config.store.url).await.err()?;
    Some(Problem { key: "store.url", reason: format!("{why:#}") })
}

async fn link(settings: &Settings) -> Option<Problem> {
    let (events, mut said) = mpsc::channel(xmpp::EVENTS);
    let Settings { config, secret, .. } = settings;
    let link = xmpp::spawn(
        xmpp::Config {
            domain: config.xmpp.domain.0.to_string(),
            server: config.xmpp.server.clone(),
            secret: secret.clone(),
            limits: xmpp::Limits::default(),
            // It varies when to try again, and that is not waited for.
            seed: OsRng.try_next_u64().unwrap_or_default(),
        },
        events,
    );
    let said = timeout(PATIENCE, said.recv()).await;
    link.close().await;
    let why = match said {
        Ok(Some(LinkEvent::Down { why })) => why,
        Ok(Some(LinkEvent::Up | LinkEvent::Stanza(_) | LinkEvent::Refused(_))) => return None,
        Ok(None) | Err(_) => End::Slow,
    };
    let key = match why {
        End::NotAuthorized => "xmpp.secret",
        End::HostUnknown | End::Conflict => "xmpp.domain",
        End::Unreachable(_)
        | End::Slow
        | End::NotComponents
        | End::StreamError { .. }
        | End::Broken(_)
        | End::Closed
        | End::Lost(_)
        | End::Silent
        | End::Stalled
        | End::Shutdown => "xmpp.server",
    };
    Some(Problem { key, reason: format!("{}: {why}", config.xmpp.server) })
}

/// How long a server may take to let us in.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long DNS may take for one name.
const DNS_PATIENCE: Duration = Duration::from_secs(5);
/// A certificate that is good for less than that wants to be renewed.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
