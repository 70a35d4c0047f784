//! SIP's sockets: datagrams and streams in, datagrams and streams out (RFC 3261 §18).
//!
//! A connection is known by its transport and its remote address, and what is sent there goes over it as
//! long as it lives, whoever opened it. That is all of RFC 5923 that is sound without asking: an alias,
//! by which a peer claims connections to another address for itself, is believed of nobody.
//!
//! | read | to learn |
//! | --- | --- |
//! | `stream` | one connection over TCP or TLS |
//! | `websocket` | one connection over WebSocket (RFC 7118) |
//! | [`tls`] | certificates: ours, and whom those of peers name |

mod stream;
pub mod tls;
mod websocket;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use cusax_sip::flow::{Flow, Transmit, Transport};
use cusax_sip::parse::parse;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::bridge::Input;
use crate::config::Listen;
use crate::rate::Source;
use stream::Connection;
use tls::Tls;

/// The open sockets.
#[derive(Debug)]
pub struct SipSockets {
    udp: Vec<(SocketAddr, Arc<UdpSocket>)>,
    streams: Streams,
    inputs: mpsc::Sender<Input>,
    tls: Option<Arc<Tls>>,
}

/// The open connections, by transport and remote address; each is the way to its writer.
#[derive(Clone, Debug, Default)]
struct Streams(Arc<Mutex<BTreeMap<Peer, mpsc::Sender<Vec<u8>>>>>);

/// The other end of a connection.
type Peer = (Transport, SocketAddr);

impl SipSockets {
    /// Binds every listener and starts to read. `tls` is there if one of them needs it.
    pub async fn bind(
        listen: &[Listen],
        tls: Option<Arc<Tls>>,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Self> {
        let mut sockets = Self { udp: vec![], streams: Streams::default(), inputs, tls };
        for listener in listen {
            let Listen { transport, address } = *listener;
            let cannot = || format!("sip.listen: cannot bind {listener}");
            match transport {
                Transport::Udp => {
                    let socket = UdpSocket::bind(address).await.with_context(cannot)?;
                    let local = socket.local_addr()?;
                    let socket = Arc::new(socket);
                    sockets.udp.push((local, Arc::clone(&socket)));
                    tokio::spawn(read_datagrams(socket, local, sockets.inputs.clone()));
                }
                Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                    let socket = TcpListener::bind(address).await.with_context(cannot)?;
                    tokio::spawn(accept(socket, transport, sockets.new_connections()));
                }
            }
        }
        if let Some(tls) = &sockets.tls {
            tokio::spawn(watch(Arc::clone(tls)));
        }
        Ok(sockets)
    }

    /// Reads certificate, key and authorities again, if they have changed. Connections that are up stay
    /// as they are.
    pub fn reload(&self) {
        if let Some(tls) = &self.tls {
            reload(tls);
        }
    }

    fn new_connections(&self) -> NewConnections {
        NewConnections {
            streams: self.streams.clone(),
            inputs: self.inputs.clone(),
            tls: self.tls.clone(),
        }
    }

    /// Sends a message. What cannot be sent comes back as [`Input::SipFailed`].
    pub fn send(&self, transmit: Transmit) {
        let Transmit { flow, bytes } = transmit;
        match flow.transport {
            Transport::Udp => {
                let socket = self.udp.iter().find(|(local, _)| *local == flow.local);
                let fits = |local: &SocketAddr| local.is_ipv4() == flow.remote.is_ipv4();
                let socket = socket.or_else(|| self.udp.iter().find(|(local, _)| fits(local)));
                match socket.map(|(_, socket)| socket.try_send_to(&bytes, flow.remote)) {
                    Some(Ok(_)) => {}
                    // A full buffer loses a datagram as any router may; the loop does not wait.
                    Some(Err(why)) if why.kind() == ErrorKind::WouldBlock => {
                        debug!(remote = %flow.remote, "no room to send a datagram");
                    }
                    Some(Err(_)) | None => self.failed(flow),
                }
            }
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                let writer = self.streams.writer((flow.transport, flow.remote));
                let writer = writer.or_else(|| self.new_connections().connect(flow));
                if writer.is_none_or(|writer| writer.try_send(bytes).is_err()) {
                    self.failed(flow);
                }
            }
        }
    }

    /// Waits until the writers of all connections have taken what they were given.
    pub async fn flush(&self, patience: Duration) {
        let flushed = async {
            while self.streams.are_behind() {
                sleep(FLUSH_PAUSE).await;
            }
        };
        if timeout(patience, flushed).await.is_err() {
            debug!("some SIP connections did not take all of what was to be said");
        }
    }

    /// The loop itself waits on its inputs, so word of a failure must not wait for room in them.
    fn failed(&self, flow: Flow) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move { inputs.send(Input::SipFailed { flow }).await });
    }
}

/// What every connection is made with.
#[derive(Clone, Debug)]
struct NewConnections {
    streams: Streams,
    inputs: mpsc::Sender<Input>,
    tls: Option<Arc<Tls>>,
}

impl NewConnections {
    /// Opens a connection, if there is room for one more and a way to do so; what is sent before it is up
    /// waits for it.
    fn connect(self, flow: Flow) -> Option<mpsc::Sender<Vec<u8>>> {
        let connector = match flow.transport {
            Transport::Tcp => None,
            Transport::Tls => Some(self.tls.as_ref()?.connector()?),
            Transport::Udp | Transport::Ws | Transport::Wss => return None,
        };
        let (writer, queue) = mpsc::channel(MAX_QUEUED);
        if !self.streams.insert(flow, &writer) {
            return None;
        }
        let connection = self.connection(flow, &writer, true);
        tokio::spawn(async move {
            connection.call(connector, queue).await;
            connection.end().await;
        });
        Some(writer)
    }

    fn connection(self, flow: Flow, writer: &mpsc::Sender<Vec<u8>>, ours: bool) -> Connection {
        let Self { streams, inputs, tls } = self;
        Connection { flow, writer: writer.clone(), streams, inputs, tls, ours }
    }
}

impl Streams {
    fn writer(&self, peer: Peer) -> Option<mpsc::Sender<Vec<u8>>> {
        self.lock().get(&peer).filter(|writer| !writer.is_closed()).cloned()
    }

    fn are_behind(&self) -> bool {
        self.lock().values().any(|writer| writer.capacity() < MAX_QUEUED && !writer.is_closed())
    }

    /// Takes a connection in, if there is room for one more.
    fn insert(&self, flow: Flow, writer: &mpsc::Sender<Vec<u8>>) -> bool {
        let mut streams = self.lock();
        let room = streams.len() < MAX_STREAMS;
        if room {
            streams.insert((flow.transport, flow.remote), writer.clone());
        }
        room
    }

    /// Takes an accepted connection in, if there is room for one more from there.
    fn admit(&self, flow: Flow, writer: &mpsc::Sender<Vec<u8>>) -> bool {
        let source = Source::of(flow.remote.ip());
        let from_there = |(_, other): &&Peer| Source::of(other.ip()) == source;
        let from_there = self.lock().keys().filter(from_there).count();
        from_there < MAX_STREAMS_OF_ONE && self.insert(flow, writer)
    }

    /// Forgets a connection, unless another one took its place.
    fn forget(&self, flow: Flow, writer: &mpsc::Sender<Vec<u8>>) {
        let mut streams = self.lock();
        let peer = (flow.transport, flow.remote);
        if streams.get(&peer).is_some_and(|now| now.same_channel(writer)) {
            streams.remove(&peer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Peer, mpsc::Sender<Vec<u8>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_datagrams(socket: Arc<UdpSocket>, local: SocketAddr, inputs: mpsc::Sender<Input>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, remote)) => {
                let message = parse(&buffer[..length]);
                let flow = Flow { transport: Transport::Udp, local, remote };
                // Datagrams may be lost: a full queue loses this one, and the peer sends it again.
                match inputs.try_send(Input::Sip { flow, message }) {
                    Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                    Err(mpsc::error::TrySendError::Closed(_)) => return,
                }
            }
            // An ICMP error of an earlier datagram (the peer is gone) is no fault of this socket.
            Err(why) => {
                debug!(%local, %why, "receiving a datagram failed");
                sleep(RECEIVE_PAUSE).await;
            }
        }
    }
}

async fn accept(listener: TcpListener, transport: Transport, new: NewConnections) {
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(why) => {
                warn!(%why, "cannot accept a SIP connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let (writer, queue) = mpsc::channel(MAX_QUEUED);
        let flow = Flow { transport, local, remote };
        if !new.streams.admit(flow, &writer) {
            continue;
        }
        let connection = new.clone().connection(flow, &writer, false);
        tokio::spawn(async move {
            connection.answer(stream, queue).await;
            connection.end().await;
        });
    }
}

/// Looks at the files of TLS now and then: who renews a certificate need not tell us.
async fn watch(tls: Arc<Tls>) {
    loop {
        sleep(WATCH_PAUSE).await;
        reload(&tls);
    }
}

fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(false) => {}
        Ok(true) => info!("certificate, key and authorities of SIP were read again"),
        Err(problem) => warn!(%problem, "SIP goes on with the certificate that it has"),
    }
}

const MAX_DATAGRAM: usize = 65_535;
/// Messages that wait for one connection's writer.
const MAX_QUEUED: usize = 256;
/// Connections in all, and of one source.
const MAX_STREAMS: usize = 2_000;
const MAX_STREAMS_OF_ONE: usize = 100;
const RECEIVE_PAUSE: Duration = Duration::from_millis(5);
const FLUSH_PAUSE: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How soon a new certificate is seen.
const WATCH_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_of_connections() {
        let streams = Streams::default();
        let local = SocketAddr::from(([127, 0, 0, 1], 5060));
        let from = |host: u8, port: u16| Flow {
            transport: if port.is_multiple_of(2) { Transport::Tcp } else { Transport::Tls },
            local,
            remote: SocketAddr::from(([127, 0, 0, host], port)),
        };
        let known = |flow: Flow| streams.lock().contains_key(&(flow.transport, flow.remote));
        let (writer, _queue) = mpsc::channel(1);
        for port in 0..MAX_STREAMS_OF_ONE as u16 {
            assert!(streams.admit(from(9, port), &writer));
        }
        assert!(!streams.admit(from(9, 9_999), &writer));
        assert!(streams.admit(from(1, 9_999), &writer));
        // Another connection in the place of an old one is not forgotten with it.
        let (newer, _queue) = mpsc::channel(1);
        assert!(streams.admit(from(1, 9_999), &newer));
        streams.forget(from(1, 9_999), &writer);
        assert!(known(from(1, 9_999)));
        streams.forget(from(1, 9_999), &newer);
        assert!(!known(from(1, 9_999)));
    }
}
