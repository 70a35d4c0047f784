//! One connection: bytes into messages and back, over TCP or TLS.
//!
//! Bytes of one connection become messages here, because only here is a connection closed when they cannot
//! (RFC 3261 §18.3); all else is the phone face's business.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cusax_sip::flow::{Flow, Transport};
use cusax_sip::frame::{Frame, FrameError, Framer, PONG};
use cusax_sip::message::Message;
use cusax_sip::parse::ParseError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::Streams;
use super::tls::{self, Tls};
use crate::bridge::Input;

/// What is to be sent.
pub(super) type Queue = mpsc::Receiver<Vec<u8>>;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) flow: Flow,
    pub(super) writer: mpsc::Sender<Vec<u8>>,
    pub(super) streams: Streams,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) tls: Option<Arc<Tls>>,
    /// We opened it.
    pub(super) ours: bool,
}

impl Connection {
    /// Serves a connection that a peer opened, until either side ends it.
    pub(super) async fn answer(&self, stream: TcpStream, queue: Queue) {
        drop(stream.set_nodelay(true));
        let transport = self.flow.transport;
        let ended = match (transport, &self.tls) {
            (Transport::Udp, _) | (Transport::Tls | Transport::Wss, None) => Ok(()),
            (Transport::Tcp, _) => self.serve(stream, queue).await,
            (Transport::Ws, _) => self.serve_websocket(stream, queue).await,
            (Transport::Tls | Transport::Wss, Some(tls)) => {
                match self.handshake(tls.acceptor().accept(stream)).await {
                    Err(why) => Err(why),
                    Ok(stream) => {
                        let names = tls::names(stream.get_ref().1.peer_certificates());
                        self.tell(Input::SipOpened { flow: self.flow, names }).await;
                        match transport {
                            Transport::Wss => self.serve_websocket(stream, queue).await,
                            Transport::Udp | Transport::Tcp | Transport::Tls | Transport::Ws => {
                                self.serve(stream, queue).await
                            }
                        }
                    }
                }
            }
        };
        self.note(ended);
    }

    /// Opens a connection, over TLS if there is a connector, and serves it.
    pub(super) async fn call(&self, connector: Option<TlsConnector>, queue: Queue) {
        let remote = self.flow.remote;
        let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(remote)).await else {
            return;
        };
        drop(stream.set_nodelay(true));
        let ended = match connector {
            None => self.serve(stream, queue).await,
            Some(connector) => {
                let connected = connector.connect(remote.ip().into(), stream);
                match self.handshake(connected).await {
                    Err(why) => Err(why),
                    Ok(stream) => {
                        let names = tls::names(stream.get_ref().1.peer_certificates());
                        self.tell(Input::SipOpened { flow: self.flow, names }).await;
                        self.serve(stream, queue).await
                    }
                }
            }
        };
        self.note(ended);
    }

    async fn handshake<S>(&self, shaken: impl Future<Output = io::Result<S>>) -> Result<S> {
        let shaken = timeout(HANDSHAKE_TIMEOUT, shaken).await;
        shaken.context("the TLS handshake takes too long")?.context("no TLS")
    }

    fn note(&self, ended: Result<()>) {
        if let Err(why) = ended {
            debug!(remote = %self.flow.remote, why = format!("{why:#}"), "a SIP connection ended");
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite, mut queue: Queue) -> Result<()> {
        let (reader, mut writer) = tokio::io::split(stream);
        let write = async {
            while let Some(bytes) = queue.recv().await {
                let written = async {
                    writer.write_all(&bytes).await?;
                    // TLS keeps what is not flushed.
                    writer.flush().await
                };
                timeout(WRITE_TIMEOUT, written).await.context("the peer is stuck")??;
            }
            Ok(())
        };
        tokio::select! { ended = self.read(reader) => ended, ended = write => ended }
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

    pub(super) async fn hand_in(&self, message: Result<Message, ParseError>) -> Result<()> {
        Ok(self.inputs.send(Input::Sip { flow: self.flow, message }).await?)
    }

    /// The loop may be gone already.
    async fn tell(&self, input: Input) {
        drop(self.inputs.send(input).await);
    }

    /// What was still to be sent on it will not arrive.
    pub(super) async fn end(&self) {
        self.streams.forget(self.flow, &self.writer);
        self.tell(Input::SipFailed { flow: self.flow }).await;
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls live on connections that are silent for long: what ends a dead one is the call's end.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

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
        let streams = Streams::default();
        (Connection { flow, writer, streams, inputs, tls: None, ours }, incoming)
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
}
