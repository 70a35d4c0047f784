//! Where SIP servers are: host names to addresses, by the system's resolver (RFC 3263 §4.2 with a port or
//! an address, and its last resort, A and AAAA, without).

use std::net::SocketAddr;
use std::time::Duration;

use cusax_sip::flow::Transport;
use cusax_sip::uri::{self, Host, SipUri};
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::debug;

use crate::bridge::Input;
use crate::dialplan::{Hop, Lookup};

/// Finds out in the background; the answer comes as [`Input::Located`]. There are no more at a time than
/// calls that rooms may make.
pub fn find(lookup: Lookup, inputs: mpsc::Sender<Input>) {
    tokio::spawn(async move {
        let Lookup { leg, uri } = lookup;
        let hops = hops(&uri).await;
        drop(inputs.send(Input::Located { leg, hops }).await);
    });
}

/// Where a request to a URI may go, best first: by UDP unless the URI says otherwise (RFC 3263 §4.1).
async fn hops(uri: &SipUri) -> Vec<Hop> {
    let transports: &[Transport] = match uri.transport() {
        None => &[Transport::Udp, Transport::Tcp],
        Some(uri::Transport::Udp) => &[Transport::Udp],
        Some(uri::Transport::Tcp) => &[Transport::Tcp],
        Some(
            uri::Transport::Tls
            | uri::Transport::Ws
            | uri::Transport::Wss
            | uri::Transport::Other(_),
        ) => &[],
    };
    let port = uri.port.unwrap_or(DEFAULT_PORT);
    let addresses: Vec<SocketAddr> = match &uri.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, port)],
        Host::Name(name) => match timeout(PATIENCE, lookup_host((name.as_str(), port))).await {
            Ok(Ok(found)) => found.take(MAX_ADDRESSES).collect(),
            Ok(Err(why)) => {
                debug!(name, %why, "a SIP server has no address");
                vec![]
            }
            Err(_) => {
                debug!(name, "the resolver does not answer");
                vec![]
            }
        },
    };
    transports
        .iter()
        .flat_map(|transport| {
            let transport = *transport;
            addresses.iter().map(move |remote| Hop { transport, remote: *remote })
        })
        .collect()
}

/// RFC 3261 §19.1.2.
const DEFAULT_PORT: u16 = 5060;
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_ADDRESSES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_uris_lead() {
        for (uri, expected) in [
            ("sip:a@192.0.2.1", "UDP 192.0.2.1:5060, TCP 192.0.2.1:5060"),
            ("sip:a@192.0.2.1:5070;transport=tcp", "TCP 192.0.2.1:5070"),
            ("sip:a@[2001:db8::1]:9;transport=UDP", "UDP [2001:db8::1]:9"),
            ("sip:a@192.0.2.1;transport=sctp", ""),
            ("sip:a@nowhere.invalid", ""),
        ] {
            let found = hops(&uri.parse().unwrap()).await;
            let found: Vec<_> =
                found.iter().map(|hop| format!("{} {}", hop.transport, hop.remote)).collect();
            assert_eq!(found.join(", "), expected, "{uri}");
        }
        let local = hops(&"sip:a@localhost:5999;transport=udp".parse().unwrap()).await;
        assert!(local.iter().any(|hop| hop.remote.ip().is_loopback() && hop.remote.port() == 5999));
    }
}
