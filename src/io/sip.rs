//! SIP's sockets: datagrams and streams in, datagrams and streams out (RFC 3261 §18).
//!
//! A stream is known by its remote address. Bytes of one connection become messages here, because
//! only here is a connection closed when they cannot (§18.3); all else is the phone face's business.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cusax_sip::flow::{Flow, Transmit, Transport};
use cusax_sip::frame::{Frame, FrameError, Framer, PONG};
use cusax_sip::parse::parse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::bridge::Input;
use crate::config::Listen;

/// The open sockets.
#[derive(Debug)]
pub struct SipSockets {
    udp: Vec<(SocketAddr, Arc<UdpSocket>)>,
    streams: Streams,
    inputs: mpsc::Sender<Input>,
}

/// The open connections, by remote address; each is the way to its writer.
#[derive(Clone, Debug, Default)]
struct Streams(Arc<Mutex<HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>>>);

impl SipSockets {
    /// Binds every listener and starts to read.
    pub async fn bind(listen: &[Listen], inputs: mpsc::Sender<Input>) -> Result<Self> {
        let mut sockets = Self { udp: vec![], streams: Streams::default(), inputs };
        for listener in listen {
            match *listener {
                Listen::Udp(address) => {
                    let socket = UdpSocket::bind(address)
                        .await
                        .with_context(|| format!("sip.listen: cannot bind {listener}"))?;
                    let local = socket.local_addr()?;
                    let socket = Arc::new(socket);
                    sockets.udp.push((local, Arc::clone(&socket)));
                    tokio::spawn(read_datagrams(socket, local, sockets.inputs.clone()));
                }
                Listen::Tcp(address) => {
                    let socket = TcpListener::bind(address)
                        .await
                        .with_context(|| format!("sip.listen: cannot bind {listener}"))?;
                    let (streams, inputs) = (sockets.streams.clone(), sockets.inputs.clone());
                    tokio::spawn(accept(socket, streams, inputs));
                }
            }
        }
        Ok(sockets)
    }

    /// Sends a message. What cannot be sent comes back as [`Input::SipFailed`].
    pub async fn send(&self, transmit: Transmit) {
        let Transmit { flow, bytes } = transmit;
        match flow.transport {
            Transport::Udp => {
                let socket = self.udp.iter().find(|(local, _)| *local == flow.local);
                let fits = |local: &SocketAddr| local.is_ipv4() == flow.remote.is_ipv4();
                let socket = socket.or_else(|| self.udp.iter().find(|(local, _)| fits(local)));
                let sent = match socket {
                    Some((_, socket)) => socket.send_to(&bytes, flow.remote).await.is_ok(),
                    None => false,
                };
                if !sent {
                    self.failed(flow);
                }
            }
            Transport::Tcp => {
                let writer = match self.streams.writer(flow.remote) {
                    Some(writer) => writer,
                    None => self.streams.connect(flow, self.inputs.clone()),
                };
                if writer.try_send(bytes).is_err() {
                    self.failed(flow);
                }
            }
        }
    }

    /// The loop itself waits on its inputs, so word of a failure must not wait for room in them.
    fn failed(&self, flow: Flow) {
        let inputs = self.inputs.clone();
        tokio::spawn(async move { inputs.send(Input::SipFailed { flow }).await });
    }
}

impl Streams {
    fn writer(&self, remote: SocketAddr) -> Option<mpsc::Sender<Vec<u8>>> {
        self.lock().get(&remote).filter(|writer| !writer.is_closed()).cloned()
    }

    /// Opens a connection; what is sent before it is up waits for it.
    fn connect(&self, flow: Flow, inputs: mpsc::Sender<Input>) -> mpsc::Sender<Vec<u8>> {
        let (writer, queue) = mpsc::channel(MAX_QUEUED);
        self.lock().insert(flow.remote, writer.clone());
        let streams = self.clone();
        tokio::spawn(async move {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(flow.remote)).await {
                Ok(Ok(stream)) => serve(stream, flow, queue, &streams, &inputs).await,
                Ok(Err(_)) | Err(_) => {
                    streams.forget(flow.remote);
                    drop(inputs.send(Input::SipFailed { flow }).await);
                }
            }
        });
        writer
    }

    /// Takes an accepted connection in, if there is room for one more from there.
    fn admit(&self, remote: SocketAddr) -> Option<mpsc::Receiver<Vec<u8>>> {
        let mut streams = self.lock();
        if streams.len() >= MAX_STREAMS {
            return None;
        }
        let from_there = streams.keys().filter(|other| same_host(other.ip(), remote.ip())).count();
        if from_there >= MAX_STREAMS_OF_ONE {
            return None;
        }
        let (writer, queue) = mpsc::channel(MAX_QUEUED);
        streams.insert(remote, writer);
        Some(queue)
    }

    fn forget(&self, remote: SocketAddr) {
        self.lock().remove(&remote);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>> {
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
            Err(why) => debug!(%local, %why, "receiving a datagram failed"),
        }
    }
}

async fn accept(listener: TcpListener, streams: Streams, inputs: mpsc::Sender<Input>) {
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(why) => {
                warn!(%why, "cannot accept a SIP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let Some(queue) = streams.admit(remote) else { continue };
        let flow = Flow { transport: Transport::Tcp, local, remote };
        let (streams, inputs) = (streams.clone(), inputs.clone());
        tokio::spawn(async move { serve(stream, flow, queue, &streams, &inputs).await });
    }
}

/// Serves one connection until either side ends it.
async fn serve(
    stream: TcpStream,
    flow: Flow,
    mut queue: mpsc::Receiver<Vec<u8>>,
    streams: &Streams,
    inputs: &mpsc::Sender<Input>,
) {
    drop(stream.set_nodelay(true));
    let (mut reader, mut writer) = stream.into_split();
    let pongs = streams.writer(flow.remote);
    let write = async {
        while let Some(bytes) = queue.recv().await {
            timeout(WRITE_TIMEOUT, writer.write_all(&bytes))
                .await
                .context("the peer is stuck")??;
        }
        Ok(())
    };
    let read = async {
        let mut framer = Framer::new();
        let mut buffer = vec![0; 8 * 1024];
        let mut proven = false;
        loop {
            // A message that has begun must end soon; only who has sent one may rest.
            let rests = proven && framer.is_idle();
            let patience = if rests { IDLE_TIMEOUT } else { MESSAGE_TIMEOUT };
            let length = timeout(patience, reader.read(&mut buffer)).await.context("silent")??;
            if length == 0 {
                return Ok(());
            }
            framer.push(&buffer[..length]);
            loop {
                let message = match framer.next() {
                    Ok(None) => break,
                    Ok(Some(Frame::Message(message))) => Ok(*message),
                    Ok(Some(Frame::Malformed(why))) => Err(why),
                    Ok(Some(Frame::EmptyLine)) => continue,
                    Ok(Some(Frame::Ping)) => {
                        let pong = pongs.as_ref().map(|pongs| pongs.try_send(PONG.to_vec()));
                        if !matches!(pong, Some(Ok(()))) {
                            bail!("pings faster than it reads");
                        }
                        continue;
                    }
                    Err(FrameError::Unframed(why)) => {
                        inputs.send(Input::Sip { flow, message: Err(why) }).await?;
                        // Long enough for the answer to leave.
                        tokio::time::sleep(FAREWELL).await;
                        bail!("lost the end of a message");
                    }
                    Err(why @ FrameError::Failed) => return Err(why.into()),
                };
                proven = true;
                inputs.send(Input::Sip { flow, message }).await?;
            }
        }
    };
    let ended: Result<()> = tokio::select! { ended = read => ended, ended = write => ended };
    if let Err(why) = ended {
        debug!(remote = %flow.remote, %why, "a SIP connection ended");
    }
    streams.forget(flow.remote);
    drop(inputs.send(Input::SipFailed { flow }).await);
}

/// Whether two addresses count as one source: an IPv6 host has a /64 to itself.
fn same_host(a: IpAddr, b: IpAddr) -> bool {
    match (a.to_canonical(), b.to_canonical()) {
        (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..4] == b.segments()[..4],
        (a, b) => a == b,
    }
}

const MAX_DATAGRAM: usize = 65_535;
/// Messages that wait for one connection's writer.
const MAX_QUEUED: usize = 256;
/// Connections in all, and of one source.
const MAX_STREAMS: usize = 2_000;
const MAX_STREAMS_OF_ONE: usize = 100;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls live on connections that are silent for long: what ends a dead one is the call's end.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
const FAREWELL: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
