//! Tries what a configuration promises, before a server is started with it: its addresses, its ports,
//! its store, its link. Leaves nothing behind, but the file of a new store.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use cusax_sip::flow::Transport;
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::settings::Settings;
use super::store;
use super::xmpp::{self, End, LinkEvent};
use crate::config::{Listen, Problem};

/// What does not work here and at this moment, each by its key. The link is tried only if everything
/// can be bound: else a server runs already, and a second link under its name would end the first.
pub async fn probe(settings: &Settings) -> Vec<Problem> {
    let mut problems = addresses(settings);
    problems.extend(store(settings).await);
    if !problems.is_empty() {
        return problems;
    }
    link(settings).await.into_iter().collect()
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
