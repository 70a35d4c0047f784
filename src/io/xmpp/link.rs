//! One stream's life: connect, shake hands (XEP-0114 §3), read and write, end. Then the next one.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use minidom::Element;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep, timeout};

use super::frame::{Broken, Limits};
use super::parse::{Decoder, Item};
use super::refusal::attribute;
use super::{
    CLIENT_NS, COMPONENT_NS, Config, Direction, Dropped, Head, Kind, LinkEvent, Outgoing,
    STREAM_ERROR_NS, STREAM_NS, Shared,
};

/// Time to connect, and again to shake hands.
const CONNECTING: Duration = Duration::from_secs(10);
/// Silence after which the server is pinged.
const PING_EVERY: Duration = Duration::from_secs(15);
/// Pings without any sign of life before the link counts as dead.
const PINGS_MISSED: u32 = 2;
/// How long the kernel keeps sending what nobody acknowledges (RFC 5482).
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);
/// How long one write may take: the server is there but does not read.
const WRITING: Duration = Duration::from_secs(30);
/// Time for the server to close its side after us.
pub(super) const CLOSING: Duration = Duration::from_secs(2);
/// Stanzas that go out in one write.
const BATCH: usize = 256;

/// The first pause before connecting again is drawn from this range.
const FIRST_PAUSE: std::ops::Range<f64> = 0.2..0.5;
/// Each further pause is so much longer, up to the longest.
const PAUSE_GROWTH: f64 = 1.7;
const LONGEST_PAUSE: f64 = 10.0;
/// Part of a pause by which it varies, so that many components do not come back at the same moment.
const PAUSE_JITTER: f64 = 0.25;
/// The least pause when another connection holds our name: the server may still believe in our last one, or a
/// second instance runs, and the two must not throw each other out in turns.
const CONFLICT_PAUSE: f64 = 2.0;
/// A link that lasted so long was a good one: the pauses start over.
const GOOD_LINK: Duration = Duration::from_secs(10);

/// Why a stream ended, or could not begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// No connection.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The server did not connect or shake hands in time.
    #[error("no hand-shake in time")]
    Slow,
    /// The secret is wrong.
    #[error("not-authorized")]
    NotAuthorized,
    /// The server knows no such component.
    #[error("host-unknown")]
    HostUnknown,
    /// Another connection holds our name.
    #[error("conflict")]
    Conflict,
    /// The other side is not a component port.
    #[error("this is not a port for components")]
    NotComponents,
    /// Another stream error of RFC 6120 §4.9.3: its condition and text.
    #[error("stream error {condition}: {text}")]
    StreamError {
        /// The condition's element name.
        condition: String,
        /// What the server says of it.
        text: String,
    },
    /// The server sent what a stream cannot go on after.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The server closed the stream.
    #[error("closed by the server")]
    Closed,
    /// The connection failed.
    #[error("connection lost: {0}")]
    Lost(String),
    /// No sign of life for three pings' time.
    #[error("the server is silent")]
    Silent,
    /// The server does not read.
    #[error("the server does not read")]
    Stalled,
    /// We closed it.
    #[error("closed by us")]
    Shutdown,
}

impl End {
    /// Every name that [`End::name`] gives.
    pub const NAMES: [&'static str; 13] = [
        "unreachable",
        "slow",
        "not-authorized",
        "host-unknown",
        "conflict",
        "not-components",
        "stream-error",
        "broken",
        "closed",
        "lost",
        "silent",
        "stalled",
        "shutdown",
    ];

    /// The reason without details: a label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Slow => "slow",
            Self::NotAuthorized => "not-authorized",
            Self::HostUnknown => "host-unknown",
            Self::Conflict => "conflict",
            Self::NotComponents => "not-components",
            Self::StreamError { .. } => "stream-error",
            Self::Broken(_) => "broken",
            Self::Closed => "closed",
            Self::Lost(_) => "lost",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Shutdown => "shutdown",
        }
    }

    /// What an operator should look at.
    fn advice(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::Slow => {
                "is the XMPP server running, and is xmpp.server its component port?"
            }
            Self::NotAuthorized => {
                "xmpp.secret differs from the server's secret for this component"
            }
            Self::HostUnknown => "the server has no component named as xmpp.domain",
            Self::Conflict => {
                "another connection uses this component's name: stop it, or let the server drop the old one \
                 (Prosody: component_conflict_resolve = \"kick_old\")"
            }
            Self::NotComponents => "xmpp.server must be the port for components, not for clients",
            Self::StreamError { .. } | Self::Broken(_) => "the server's log may tell more",
            Self::Closed | Self::Lost(_) | Self::Silent => "connecting again",
            Self::Stalled => "the server is overloaded",
            Self::Shutdown => "",
        }
    }

    fn from_stream_error(error: &Element) -> Self {
        let defined = |child: &&Element| child.has_ns(STREAM_ERROR_NS);
        let condition = error.children().filter(defined).find(|child| child.name() != "text");
        let text = error.get_child("text", STREAM_ERROR_NS).map(Element::text);
        match condition.map_or("undefined-condition", Element::name) {
            "not-authorized" => Self::NotAuthorized,
            "host-unknown" | "host-gone" => Self::HostUnknown,
            "conflict" => Self::Conflict,
            "invalid-namespace" => Self::NotComponents,
            condition => Self::StreamError {
                condition: condition.to_owned(),
                text: text.unwrap_or_default().chars().take(200).collect(),
            },
        }
    }
}

/// Pauses between attempts, in seconds.
#[derive(Debug)]
struct Pauses {
    rng: SmallRng,
    next: Option<f64>,
}

impl Pauses {
    fn after(&mut self, end: &End, lasted: Duration) -> Duration {
        if lasted >= GOOD_LINK {
            self.next = None;
        }
        let mut pause = match self.next {
            None => self.rng.random_range(FIRST_PAUSE),
            Some(pause) => pause,
        };
        self.next = Some((pause * PAUSE_GROWTH).min(LONGEST_PAUSE));
        match end {
            // Nothing but an operator changes these.
            End::NotAuthorized | End::HostUnknown | End::NotComponents => pause = LONGEST_PAUSE,
            End::Conflict => pause = pause.max(CONFLICT_PAUSE / (1.0 - PAUSE_JITTER)),
            End::Unreachable(_)
            | End::Slow
            | End::StreamError { .. }
            | End::Broken(_)
            | End::Closed
            | End::Lost(_)
            | End::Silent
            | End::Stalled
            | End::Shutdown => {}
        }
        let factor = self.rng.random_range(1.0 - PAUSE_JITTER..=1.0 + PAUSE_JITTER);
        Duration::from_secs_f64((pause * factor).min(LONGEST_PAUSE))
    }
}

/// Connects to `host:port`.
pub(super) async fn dial(server: String) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(stream)
}

/// The task that keeps the link up.
pub(super) struct Link {
    config: Config,
    events: mpsc::Sender<LinkEvent>,
    /// For what the link itself sends. Weak, because the queue's end is the order to stop.
    queue: mpsc::WeakSender<Outgoing>,
    outgoing: mpsc::Receiver<Outgoing>,
    shared: Arc<Shared>,
    pauses: Pauses,
}

impl Link {
    pub(super) fn new(
        config: Config,
        events: mpsc::Sender<LinkEvent>,
        queue: mpsc::WeakSender<Outgoing>,
        outgoing: mpsc::Receiver<Outgoing>,
        shared: Arc<Shared>,
    ) -> Self {
        let pauses = Pauses { rng: SmallRng::seed_from_u64(config.seed), next: None };
        Self { config, events, queue, outgoing, shared, pauses }
    }

    /// Connects, serves, pauses, and so on until there is nobody to serve.
    pub(super) async fn run<S, D, F>(mut self, mut dial: D)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
        D: FnMut() -> F + Send,
        F: Future<Output = std::io::Result<S>> + Send,
    {
        let mut last: Option<End> = None;
        for stream in 1.. {
            let connected = tokio::select! {
                connected = connect(&mut dial, &self.config) => connected,
                () = discard(&mut self.outgoing, &self.shared) => return,
            };
            let begun = Instant::now();
            let was_up = connected.is_ok();
            let end = match connected {
                Ok((reader, writer)) => {
                    tracing::info!(domain = %self.config.domain, "the XMPP link is up");
                    self.shared.stream.store(stream, Relaxed);
                    self.shared.counters.set_up(true);
                    let end = self.serve(reader, writer).await;
                    self.shared.counters.set_up(false);
                    self.shared.stream.store(0, Relaxed);
                    end
                }
                Err(end) => end,
            };
            self.shared.counters.end(&end);
            if end == End::Shutdown {
                tracing::info!("the XMPP link is closed");
                return;
            }
            // The next attempt may fail in the same way for hours: once is enough.
            let news = was_up || last.as_ref() != Some(&end);
            if news {
                tracing::warn!(why = %end, advice = end.advice(), "the XMPP link is down");
                // Waits if the loop is behind, since it must not be lost; there is no socket to read meanwhile.
                if !self.tell(LinkEvent::Down { why: end.clone() }).await {
                    return;
                }
            }
            let lasted = if was_up { begun.elapsed() } else { Duration::ZERO };
            let pause = self.pauses.after(&end, lasted);
            tracing::debug!(why = %end, ?pause, "pausing before the next attempt");
            last = Some(end);
            tokio::select! {
                () = sleep(pause) => {}
                () = discard(&mut self.outgoing, &self.shared) => return,
            }
        }
    }

    /// Hands up an event that must not be lost; false if there is nobody to tell.
    async fn tell(&mut self, event: LinkEvent) -> bool {
        tokio::select! {
            sent = self.events.send(event) => sent.is_ok(),
            // A loop that closes us may not read any more.
            () = discard(&mut self.outgoing, &self.shared) => false,
        }
    }

    /// Reads and writes until one of them ends.
    async fn serve<S>(&mut self, mut reader: Reader<S>, mut writer: WriteHalf<S>) -> End
    where
        S: AsyncRead + AsyncWrite,
    {
        // The first event of a stream; like `Down`, it must not be lost.
        if !self.tell(LinkEvent::Up).await {
            return End::Shutdown;
        }
        let mut inbox = Inbox {
            domain: &self.config.domain,
            events: &self.events,
            queue: &self.queue,
            shared: &self.shared,
            ping_id: format!("ping-{:016x}", self.pauses.rng.random::<u64>()),
            pings: 0,
            congested: false,
        };
        let end = tokio::select! {
            end = inbox.read(&mut reader) => end,
            end = write(&mut writer, &mut self.outgoing, &self.shared) => end,
        };
        match &end {
            End::Shutdown => {
                let closing = async {
                    writer.write_all(b"</stream:stream>").await.ok();
                    writer.shutdown().await.ok();
                    while !matches!(reader.next().await, Ok(Some(Item::Close) | None) | Err(_)) {}
                };
                timeout(CLOSING, closing).await.ok();
            }
            End::Broken(broken) => {
                let error = format!(
                    "<stream:error><{} xmlns='{STREAM_ERROR_NS}'/></stream:error></stream:stream>",
                    broken.condition()
                );
                timeout(CLOSING, writer.write_all(error.as_bytes())).await.ok();
            }
            // Nobody listens any more, or nobody needs to be told.
            End::Unreachable(_)
            | End::Slow
            | End::NotAuthorized
            | End::HostUnknown
            | End::Conflict
            | End::NotComponents
            | End::StreamError { .. }
            | End::Closed
            | End::Lost(_)
            | End::Silent
            | End::Stalled => {}
        }
        end
    }
}

/// Opens a stream and shakes hands.
async fn connect<S, D, F>(dial: &mut D, config: &Config) -> Result<(Reader<S>, WriteHalf<S>), End>
where
    S: AsyncRead + AsyncWrite,
    D: FnMut() -> F,
    F: Future<Output = std::io::Result<S>>,
{
    let stream = timeout(CONNECTING, dial()).await.map_err(|_| End::Slow)?;
    let stream = stream.map_err(|error| End::Unreachable(error.to_string()))?;
    timeout(CONNECTING, shake_hands(stream, config)).await.map_err(|_| End::Slow)?
}

async fn shake_hands<S>(stream: S, config: &Config) -> Result<(Reader<S>, WriteHalf<S>), End>
where
    S: AsyncRead + AsyncWrite,
{
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = Reader::new(read, config.limits);
    let open = format!(
        "<?xml version='1.0'?><stream:stream xmlns='{COMPONENT_NS}' xmlns:stream='{STREAM_NS}' to='{}'>",
        super::write::escaped(&config.domain)
    );
    write.write_all(open.as_bytes()).await.map_err(lost)?;
    loop {
        match reader.next().await? {
            Some(Item::Open(header)) => {
                if !header.is_component {
                    return Err(End::NotComponents);
                }
                let id = header.id.unwrap_or_default();
                let digest = Sha1::digest(format!("{id}{}", config.secret));
                let handshake = format!("<handshake>{digest:x}</handshake>");
                write.write_all(handshake.as_bytes()).await.map_err(lost)?;
            }
            Some(Item::Element(element)) if element.is("handshake", CLIENT_NS) => {
                return Ok((reader, write));
            }
            Some(Item::Element(element)) if element.is("error", STREAM_NS) => {
                return Err(End::from_stream_error(&element));
            }
            // Stanzas cannot come before the hand-shake; whatever else does is none of ours.
            Some(Item::Element(_) | Item::Refused(_)) => {}
            Some(Item::Close) | None => return Err(End::Closed),
        }
    }
}

fn lost(error: std::io::Error) -> End {
    End::Lost(error.to_string())
}

/// Drops what is queued, until the queue is closed.
async fn discard(outgoing: &mut mpsc::Receiver<Outgoing>, shared: &Shared) {
    while let Some(stanza) = outgoing.recv().await {
        shared.queued_bytes.fetch_sub(stanza.bytes.len(), Relaxed);
        shared.counters.drop_one(Dropped::Down);
    }
}

/// Writes what is queued, many stanzas at a time, until the queue is closed.
async fn write<S: AsyncRead + AsyncWrite>(
    writer: &mut WriteHalf<S>,
    outgoing: &mut mpsc::Receiver<Outgoing>,
    shared: &Shared,
) -> End {
    let stream = shared.stream.load(Relaxed);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if outgoing.recv_many(&mut batch, BATCH).await == 0 {
            return End::Shutdown;
        }
        let mut bytes = String::new();
        for stanza in batch.drain(..) {
            shared.queued_bytes.fetch_sub(stanza.bytes.len(), Relaxed);
            if stanza.stream == stream {
                bytes.push_str(&stanza.bytes);
            } else {
                shared.counters.drop_one(Dropped::Down);
            }
        }
        match timeout(WRITING, writer.write_all(bytes.as_bytes())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return lost(error),
            Err(_) => return End::Stalled,
        }
    }
}

/// The reading half of a stream. Waiting for the next item can be given up and taken up again.
struct Reader<S> {
    half: ReadHalf<S>,
    decoder: Decoder,
    buffer: Box<[u8]>,
    unread: std::ops::Range<usize>,
    /// Whether anything came since this was last cleared: even white space is a sign of life.
    heard: bool,
}

impl<S: AsyncRead> Reader<S> {
    const BUFFER: usize = 32 << 10;

    fn new(half: ReadHalf<S>, limits: Limits) -> Self {
        Self {
            half,
            decoder: Decoder::new(limits),
            buffer: vec![0; Self::BUFFER].into_boxed_slice(),
            unread: 0..0,
            heard: false,
        }
    }

    /// The next item, or none when the server has closed the connection.
    async fn next(&mut self) -> Result<Option<Item>, End> {
        loop {
            while !self.unread.is_empty() {
                let mut input = &self.buffer[self.unread.clone()];
                let item = self.decoder.next(&mut input)?;
                self.unread.start = self.unread.end - input.len();
                if item.is_some() {
                    return Ok(item);
                }
            }
            match self.half.read(&mut self.buffer).await.map_err(lost)? {
                0 => return Ok(None),
                length => self.unread = 0..length,
            }
            self.heard = true;
        }
    }
}

/// Hands stanzas up, and keeps an eye on the server's life.
struct Inbox<'a> {
    domain: &'a str,
    events: &'a mpsc::Sender<LinkEvent>,
    queue: &'a mpsc::WeakSender<Outgoing>,
    shared: &'a Shared,
    /// The id of this stream's pings, which nobody can guess.
    ping_id: String,
    /// Pings since the last sign of life.
    pings: u32,
    /// Whether the loop is behind: so that it is logged once.
    congested: bool,
}

impl Inbox<'_> {
    /// Reads until the stream ends. It waits for the socket and for nothing else (XEP-0114 has no flow control: a
    /// component that does not read makes the server's memory grow).
    async fn read<S: AsyncRead>(&mut self, reader: &mut Reader<S>) -> End {
        loop {
            match timeout(PING_EVERY, reader.next()).await {
                Ok(Ok(Some(item))) => {
                    self.pings = 0;
                    if let Some(end) = self.take(item) {
                        return end;
                    }
                }
                Ok(Ok(None)) => return End::Closed,
                Ok(Err(end)) => return end,
                Err(_) => {
                    if std::mem::take(&mut reader.heard) {
                        self.pings = 0;
                    }
                    if self.pings == PINGS_MISSED {
                        return End::Silent;
                    }
                    self.pings += 1;
                    self.send(&self.ping());
                }
            }
        }
    }

    /// Takes one item; returns the stream's end if it was that.
    fn take(&mut self, item: Item) -> Option<End> {
        let element = match item {
            Item::Element(element) => element,
            Item::Refused(refused) => {
                tracing::debug!(why = ?refused.why, name = refused.head.name, "refused a stanza");
                self.shared.counters.drop_one(Dropped::Refused);
                return self.hand_up(LinkEvent::Refused(refused));
            }
            Item::Close => return Some(End::Closed),
            // The framer gives only one, and the hand-shake took it.
            Item::Open(_) => return None,
        };
        if element.is("error", STREAM_NS) {
            return Some(End::from_stream_error(&element));
        }
        if self.is_pong(&element) {
            return None;
        }
        match Kind::of(element.name()) {
            Some(kind) if element.has_ns(CLIENT_NS) => {
                self.shared.counters.pass(Direction::In, kind);
                self.hand_up(LinkEvent::Stanza(element))
            }
            _ => {
                tracing::debug!(
                    name = element.name(),
                    "the server sent something that is not a stanza"
                );
                self.shared.counters.drop_one(Dropped::Unknown);
                None
            }
        }
    }

    fn hand_up(&mut self, event: LinkEvent) -> Option<End> {
        match self.events.try_send(event) {
            Ok(()) => {
                self.congested = false;
                None
            }
            Err(TrySendError::Closed(_)) => Some(End::Shutdown),
            Err(TrySendError::Full(event)) => {
                self.shared.counters.drop_one(Dropped::Congested);
                if !std::mem::replace(&mut self.congested, true) {
                    tracing::warn!("stanzas come faster than they are handled: refusing them");
                }
                let head = match event {
                    LinkEvent::Stanza(stanza) => Head::of(&stanza),
                    LinkEvent::Refused(refused) => refused.head,
                    LinkEvent::Up | LinkEvent::Down { .. } => return None,
                };
                if let Some(answer) = head.error("wait", "resource-constraint") {
                    self.send(&answer);
                }
                None
            }
        }
    }

    fn send(&self, stanza: &Element) {
        if let Some(queue) = self.queue.upgrade() {
            self.shared.enqueue(&queue, self.domain, stanza);
        }
    }

    /// A ping (XEP-0199) from our domain to our domain. A component does not know its server's own domain, but every
    /// server routes this one back to us: when it returns, the server has read, routed and written, and still takes
    /// us for the component of that name.
    fn ping(&self) -> Element {
        let mut ping = Element::bare("iq", CLIENT_NS);
        attribute(&mut ping, "type", "get");
        attribute(&mut ping, "from", self.domain);
        attribute(&mut ping, "to", self.domain);
        attribute(&mut ping, "id", &self.ping_id);
        ping.append_child(Element::bare("ping", "urn:xmpp:ping"));
        ping
    }

    /// Whether this is our ping, or what became of it.
    fn is_pong(&self, element: &Element) -> bool {
        element.is("iq", CLIENT_NS)
            && element.attr("id") == Some(&self.ping_id)
            && element.attr("from") == Some(self.domain)
    }
}
