//! One connection over WebSocket (RFC 7118): a frame is a message.
//!
//! Who has opened one is known to speak SIP, by the subprotocol, and may rest: browsers connect long before
//! they call. That somebody is still there is asked by pings.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use cusax_sip::frame::PONG;
use cusax_sip::parse::{MAX_MESSAGE, parse};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::stream::{Connection, HANDSHAKE_TIMEOUT, Queue, WRITE_TIMEOUT};

impl Connection {
    /// Shakes hands, and serves until either side ends it.
    pub(super) async fn serve_websocket(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        mut queue: Queue,
    ) -> Result<()> {
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let opened = tokio_tungstenite::accept_hdr_async_with_config(stream, choose, Some(limits));
        let opened = timeout(HANDSHAKE_TIMEOUT, opened).await;
        let mut socket = opened.context("the WebSocket handshake takes too long")??;
        let (mut heard, mut ping) = (Instant::now(), Instant::now() + PING_PAUSE);
        loop {
            tokio::select! {
                frame = socket.next() => {
                    let Some(frame) = frame else { return Ok(()) };
                    heard = Instant::now();
                    match frame? {
                        Frame::Text(text) => self.take(&mut socket, text.as_bytes()).await?,
                        Frame::Binary(bytes) => self.take(&mut socket, &bytes).await?,
                        // Pings are answered by the socket itself.
                        Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => {}
                        Frame::Close(_) => return Ok(()),
                    }
                }
                bytes = queue.recv() => {
                    let Some(bytes) = bytes else { return Ok(()) };
                    send(&mut socket, frame(bytes)).await?;
                }
                () = sleep_until(ping) => {
                    if heard + SILENCE <= Instant::now() {
                        bail!("silent");
                    }
                    ping = Instant::now() + PING_PAUSE;
                    send(&mut socket, Frame::Ping(Default::default())).await?;
                }
            }
        }
    }

    /// Takes one message, or an empty one: a keep-alive as of RFC 5626 §4.4.1 (RFC 7118 §6).
    async fn take<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut WebSocketStream<S>,
        bytes: &[u8],
    ) -> Result<()> {
        match bytes {
            b"" | b"\r\n" => Ok(()),
            b"\r\n\r\n" => send(socket, frame(PONG.to_vec())).await,
            bytes => self.hand_in(parse(bytes)).await,
        }
    }
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    frame: Frame,
) -> Result<()> {
    Ok(timeout(WRITE_TIMEOUT, socket.send(frame)).await.context("the peer is stuck")??)
}

/// Text, since some clients read nothing else; bytes that are none as they are (RFC 7118 §4.2).
fn frame(bytes: Vec<u8>) -> Frame {
    match String::from_utf8(bytes) {
        Ok(text) => Frame::text(text),
        Err(bytes) => Frame::binary(bytes.into_bytes()),
    }
}

/// Agrees on the subprotocol, or refuses (RFC 7118 §4.1).
#[expect(clippy::result_large_err, reason = "the library's own type")]
fn choose(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    const NAME: &str = "Sec-WebSocket-Protocol";
    let offered = request.headers().get_all(NAME).iter().filter_map(|line| line.to_str().ok());
    let mut offered = offered.flat_map(|line| line.split(',')).map(str::trim);
    if offered.any(|protocol| protocol.eq_ignore_ascii_case("sip")) {
        response.headers_mut().insert(NAME, HeaderValue::from_static("sip"));
        return Ok(response);
    }
    let mut refusal = ErrorResponse::new(Some("this is SIP (RFC 7118)\n".to_owned()));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    Err(refusal)
}

/// How often we ask whether somebody is there.
const PING_PAUSE: Duration = Duration::from_secs(30);
/// After how long without an answer nobody is.
const SILENCE: Duration = Duration::from_secs(90);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use cusax_sip::flow::{Flow, Transport};
    use tokio::io::duplex;
    use tokio::sync::mpsc;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    use super::super::Streams;
    use super::*;
    use crate::bridge::Input;

    const OPTIONS: &str = "OPTIONS sip:x@example.org SIP/2.0\r\n\
        Via: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
        From: <sip:a@example.org>;tag=1\r\nTo: <sip:x@example.org>\r\n\
        Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n\r\n";

    type Client = WebSocketStream<tokio::io::DuplexStream>;

    /// A client with this offer of subprotocols, the way to send to it, and what comes of it.
    async fn connect(
        protocols: &'static str,
    ) -> (Result<Client, u16>, mpsc::Sender<Vec<u8>>, mpsc::Receiver<Input>) {
        let (ours, theirs) = duplex(256 * 1024);
        let (inputs, incoming) = mpsc::channel(100);
        let (writer, queue) = mpsc::channel(10);
        let remote = SocketAddr::from(([127, 0, 0, 1], 5060));
        let connection = Connection {
            flow: Flow { transport: Transport::Ws, local: remote, remote },
            writer: writer.clone(),
            streams: Streams::default(),
            inputs,
            tls: None,
            ours: false,
        };
        tokio::spawn(async move {
            let _ = connection.serve_websocket(ours, queue).await;
            connection.end().await;
        });
        let mut request = "ws://example.org/".into_client_request().unwrap();
        if !protocols.is_empty() {
            let protocols = HeaderValue::from_static(protocols);
            request.headers_mut().insert("Sec-WebSocket-Protocol", protocols);
        }
        let client = match tokio_tungstenite::client_async(request, theirs).await {
            Ok((client, response)) => {
                assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "sip");
                Ok(client)
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(refusal)) => {
                Err(refusal.status().as_u16())
            }
            Err(other) => panic!("{other}"),
        };
        (client, writer, incoming)
    }

    #[tokio::test]
    async fn only_who_speaks_sip_is_let_in() {
        for (protocols, welcome) in
            [("sip", true), ("msrp, sip", true), ("xmpp", false), ("sipx", false)]
        {
            let (client, _writer, _incoming) = connect(protocols).await;
            assert_eq!(client.is_ok(), welcome, "{protocols}");
            assert!(client.is_ok() || client.err() == Some(400));
        }
        assert_eq!(connect("").await.0.err(), Some(400));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_is_a_message() {
        let (client, writer, mut incoming) = connect("sip").await;
        let mut client = client.unwrap();
        for frame in [Frame::text(OPTIONS), Frame::binary(OPTIONS.as_bytes().to_vec())] {
            client.send(frame).await.unwrap();
            let came = incoming.recv().await.unwrap();
            assert!(matches!(came, Input::Sip { message: Ok(_), .. }), "{came:?}");
        }
        client.send(Frame::text("junk")).await.unwrap();
        let came = incoming.recv().await.unwrap();
        assert!(matches!(came, Input::Sip { message: Err(_), .. }), "{came:?}");
        client.send(Frame::text("\r\n\r\n")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Frame::text("\r\n"));
        writer.send(b"SIP/2.0 200 OK".to_vec()).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Frame::text("SIP/2.0 200 OK"));
        writer.send(vec![0xFF]).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Frame::binary(vec![0xFF]));
        // Longer than a message may be: the end of the connection.
        let _ = client.send(Frame::text("x".repeat(MAX_MESSAGE + 1))).await;
        let came = incoming.recv().await.unwrap();
        assert!(matches!(came, Input::SipFailed { .. }), "{came:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_pings_may_rest_and_who_does_not_is_gone() {
        let (client, writer, mut incoming) = connect("sip").await;
        let mut client = client.unwrap();
        // Reading is what answers.
        let answering = async {
            while let Some(Ok(frame)) = client.next().await {
                assert!(matches!(frame, Frame::Ping(_)), "{frame:?}");
            }
        };
        let hour = Duration::from_secs(3600);
        assert!(timeout(hour, answering).await.is_err(), "it was cut off");
        assert!(!writer.is_closed());
        let began = Instant::now();
        let came = incoming.recv().await.unwrap();
        assert!(matches!(came, Input::SipFailed { .. }), "{came:?}");
        assert!(began.elapsed() <= SILENCE + PING_PAUSE, "{:?}", began.elapsed());
    }
}
