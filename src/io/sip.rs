//! SIP's sockets: datagrams and streams in, datagrams and streams out (RFC 3261 §18).
//!
//! A stream is known by its remote address. Bytes of one connection become messages here, because
//! only here is a connection closed when they cannot (§18.3); all else is the phone face's business.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cusax_sip::flow::{Flow, Transmit, Transport};
use cusax_sip::frame::{Frame, FrameError, Framer, PONG};
use cusax_sip::message::Message;
use cusax_sip::parse::{ParseError, parse};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use crate::bridge::Input;
use crate::config::Listen;
use crate::rate::Source;

/// The open sockets.
#[derive(Debug)]
pub struct SipSockets {
    udp: Vec<(SocketAddr, Arc<UdpSocket>)>,
    streams: Streams,
    inputs: mpsc::Sender<Input>,
}

/// The open connections, by remote address; each is the way to its writer.
#[derive(Clone, Debug, Default)]
struct Streams(Arc<Mutex<BTreeMap<SocketAddr, mpsc::Sender<Vec<u8>>>>>);

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
            Transport::Tcp => {
                let writer = self.streams.writer(flow.remote);
                let writer = writer.or_else(|| self.streams.connect(flow, self.inputs.clone()));
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

impl Streams {
    fn writer(&self, remote: SocketAddr) -> Option<mpsc::Sender<Vec<u8>>> {
        self.lock().get(&remote).filter(|writer| !writer.is_closed()).cloned()
    }

    fn are_behind(&self) -> bool {
        self.lock().iter().any(|(_, writer)| writer.capacity() < MAX_QUEUED && !writer.is_closed())
    }

    /// Opens a connection, if there is room for one more; what is sent before it is up waits for it.
    fn connect(&self, flow: Flow, inputs: mpsc::Sender<Input>) -> Option<mpsc::Sender<Vec<u8>>> {
        let (writer, queue) = mpsc::channel(MAX_QUEUED);
        {
            let mut streams = self.lock();
            if streams.len() >= MAX_STREAMS {
                return None;
            }
            streams.insert(flow.remote, writer.clone());
        }
        let connection =
            Connection { flow, writer: writer.clone(), streams: self.clone(), inputs, ours: true };
        tokio::spawn(async move {
            if let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(flow.remote)).await
            {
                connection.serve(stream, queue).await;
            }
            connection.end().await;
        });
        Some(writer)
    }

    /// Takes an accepted connection in, if there is room for one more from there.
    fn admit(&self, remote: SocketAddr, writer: &mpsc::Sender<Vec<u8>>) -> bool {
        let mut streams = self.lock();
        let source = Source::of(remote.ip());
        let from_there = streams.keys().filter(|other| Source::of(other.ip()) == source).count();
        let admitted = streams.len() < MAX_STREAMS && from_there < MAX_STREAMS_OF_ONE;
        if admitted {
            streams.insert(remote, writer.clone());
        }
        admitted
    }

    /// Forgets a connection, unless another one took its place.
    fn forget(&self, remote: SocketAddr, writer: &mpsc::Sender<Vec<u8>>) {
        let mut streams = self.lock();
        if streams.get(&remote).is_some_and(|now| now.same_channel(writer)) {
            streams.remove(&remote);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, mpsc::Sender<Vec<u8>>>> {
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

async fn accept(listener: TcpListener, streams: Streams, inputs: mpsc::Sender<Input>) {
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
        if !streams.admit(remote, &writer) {
            continue;
        }
        let flow = Flow { transport: Transport::Tcp, local, remote };
        let (streams, inputs) = (streams.clone(), inputs.clone());
        let connection = Connection { flow, writer, streams, inputs, ours: false };
        tokio::spawn(async move {
            connection.serve(stream, queue).await;
            connection.end().await;
        });
    }
}

/// One connection.
#[derive(Debug)]
struct Connection {
    flow: Flow,
    writer: mpsc::Sender<Vec<u8>>,
    streams: Streams,
    inputs: mpsc::Sender<Input>,
    /// We opened it.
    ours: bool,
}

impl Connection {
    /// Serves until either side ends it.
    async fn serve(&self, stream: TcpStream, mut queue: mpsc::Receiver<Vec<u8>>) {
        drop(stream.set_nodelay(true));
        let (reader, mut writer) = stream.into_split();
        let write = async {
            while let Some(bytes) = queue.recv().await {
                timeout(WRITE_TIMEOUT, writer.write_all(&bytes))
                    .await
                    .context("the peer is stuck")??;
            }
            Ok(())
        };
        let ended = tokio::select! { ended = self.read(reader) => ended, ended = write => ended };
        if let Err(why) = ended {
            debug!(remote = %self.flow.remote, %why, "a SIP connection ended");
        }
    }

    async fn read(&self, mut reader: impl AsyncRead + Unpin) -> Result<()> {
        let mut framer = Framer::new();
        let mut buffer = vec![0; 8 * 1024];
        // A message that has begun must end by the deadline, however slowly it comes; and only who
        // has sent one, or was called by us, may rest.
        let mut proven = self.ours;
        let mut deadline = Instant::now() + MESSAGE_TIMEOUT;
        loop {
            let length =
                timeout_at(deadline, reader.read(&mut buffer)).await.context("silent")??;
            if length == 0 {
                return Ok(());
            }
            let rested = framer.is_idle();
            framer.push(&buffer[..length]);
            let mut ended = false;
            loop {
                let message = match framer.next() {
                    Ok(None) => break,
                    Ok(Some(Frame::Message(message))) => Ok(*message),
                    Ok(Some(Frame::Malformed(why))) => Err(why),
                    Ok(Some(Frame::EmptyLine)) => continue,
                    Ok(Some(Frame::Ping)) => {
                        if self.writer.try_send(PONG.to_vec()).is_err() {
                            bail!("pings faster than it reads");
                        }
                        continue;
                    }
                    Err(FrameError::Unframed(why)) => {
                        self.hand_in(Err(why)).await?;
                        // Long enough for the answer to leave.
                        sleep(FAREWELL).await;
                        bail!("lost the end of a message");
                    }
                    Err(why @ FrameError::Failed) => return Err(why.into()),
                };
                (proven, ended) = (true, true);
                self.hand_in(message).await?;
            }
            if proven && framer.is_idle() {
                deadline = Instant::now() + IDLE_TIMEOUT;
            } else if ended || (proven && rested) {
                deadline = Instant::now() + MESSAGE_TIMEOUT;
            }
        }
    }

    async fn hand_in(&self, message: Result<Message, ParseError>) -> Result<()> {
        Ok(self.inputs.send(Input::Sip { flow: self.flow, message }).await?)
    }

    /// What was still to be sent on it will not arrive.
    async fn end(&self) {
        self.streams.forget(self.flow.remote, &self.writer);
        drop(self.inputs.send(Input::SipFailed { flow: self.flow }).await);
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
const RECEIVE_PAUSE: Duration = Duration::from_millis(5);
const FLUSH_PAUSE: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const OPTIONS: &[u8] = b"OPTIONS sip:x@example.org SIP/2.0\r\n\
        Via: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
        From: <sip:a@example.org>;tag=1\r\nTo: <sip:x@example.org>\r\n\
        Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

    fn connection(ours: bool) -> (Connection, mpsc::Receiver<Input>) {
        let address = SocketAddr::from(([127, 0, 0, 1], 5060));
        let flow = Flow { transport: Transport::Tcp, local: address, remote: address };
        let (inputs, incoming) = mpsc::channel(100);
        let (writer, _) = mpsc::channel(1);
        (Connection { flow, writer, streams: Streams::default(), inputs, ours }, incoming)
    }

    /// What is written, each after a pause; how long the connection lives; how many messages came.
    async fn lives(ours: bool, writes: &[(u64, &[u8])]) -> (Duration, usize) {
        let (connection, mut incoming) = connection(ours);
        let (mut peer, reader) = duplex(64 * 1024);
        let write = async {
            for (pause, bytes) in writes {
                sleep(Duration::from_secs(*pause)).await;
                if peer.write_all(bytes).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let began = Instant::now();
        tokio::select! {
            ended = connection.read(reader) => assert!(ended.is_err()),
            () = write => {}
        }
        let mut count = 0;
        while let Ok(Input::Sip { message: Ok(_), .. }) = incoming.try_recv() {
            count += 1;
        }
        (began.elapsed(), count)
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_does_not_finish_is_cut_off() {
        let check = async |what: &str, ours, writes: &[(u64, &[u8])], seconds, messages| {
            let (lived, came) = lives(ours, writes).await;
            assert_eq!((lived.as_secs(), came), (seconds, messages), "{what}");
        };
        let (half, rest) = OPTIONS.split_at(40);
        let drip: Vec<_> = half.chunks(1).map(|byte| (3, byte)).collect();
        let both = [OPTIONS, half].concat();
        let (message, idle) = (MESSAGE_TIMEOUT.as_secs(), IDLE_TIMEOUT.as_secs());
        check("silence", false, &[], message, 0).await;
        check("silence after we called", true, &[], message, 0).await;
        check("half a message", false, &[(0, half)], message, 0).await;
        check("byte by byte", false, &drip, message, 0).await;
        check("pings alone", false, &[(6, b"\r\n"), (6, b"\r\n")], message, 0).await;
        check("a message, then rest", false, &[(5, OPTIONS)], 5 + idle, 1).await;
        check("one and a half", false, &[(5, &both)], 5 + message, 1).await;
        let later = [(0, OPTIONS), (100, half), (9, b"x")];
        check("one, and later a half", false, &later, 100 + message, 1).await;
        let in_time = [(9, half), (0, rest), (500, half), (9, rest)];
        check("halves in time", false, &in_time, 518 + idle, 2).await;
    }

    #[test]
    fn a_source_has_its_share_of_connections() {
        let streams = Streams::default();
        let from = |host: u8, port: u16| SocketAddr::from(([127, 0, 0, host], port));
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
        assert!(streams.lock().contains_key(&from(1, 9_999)));
        streams.forget(from(1, 9_999), &newer);
        assert!(!streams.lock().contains_key(&from(1, 9_999)));
    }
}
