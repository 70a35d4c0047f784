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
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::frame::{Broken, Limits};
use super::parse::{Decoder, Item};
use super::refusal::attribute;
use super::{
    CLIENT_NS, COMPONENT_NS, Config, Direction, Dropped, EVENT_BYTES, Head, Kind, LinkEvent,
    Outgoing, PAGE_BYTES, Received, STREAM_ERROR_NS, STREAM_NS, Shared, What,
};
use crate::metrics::LOSSES;
use crate::stanzas::Stanzas;

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
/// Entries of the queue that the writer takes at once.
const BATCH: usize = 64;

/// The first pause before connecting again is drawn from this range.
const FIRST_PAUSE: std::ops::Range<f64> = 0.2..0.5;
/// Each further pause is so much longer, up to the longest, which is 10 s with its jitter.
const PAUSE_GROWTH: f64 = 1.7;
const LONGEST_PAUSE: f64 = 8.0;
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
    pub const NAMES: [&'static str; 13] = LOSSES;

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
                "xmpp.secret differs from the server's for this component (or, with ejabberd, it knows no xmpp.domain)"
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
        Duration::from_secs_f64(pause * factor)
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
    /// What is left of [`EVENT_BYTES`].
    room: Arc<Semaphore>,
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
        let room = Arc::new(Semaphore::new(EVENT_BYTES));
        Self { config, events, queue, outgoing, shared, room, pauses }
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
            room: &self.room,
            ping_id: format!("ping-{:016x}", self.pauses.rng.random::<u64>()),
            pings: 0,
            congested: false,
        };
        let end = tokio::select! {
            end = inbox.read(&mut reader) => end,
            end = write(&mut writer, &mut self.outgoing, &self.shared) => {
                if matches!(end, End::Lost(_)) {
                    // Why the server hung up may be there to read.
                    timeout(CLOSING, inbox.read(&mut reader)).await.unwrap_or(end)
                } else {
                    end
                }
            }
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
    // A server that refuses closes at once: what it says tells more than that writing failed.
    write.write_all(open.as_bytes()).await.ok();
    loop {
        match reader.next().await? {
            Some(Item::Open(header)) => {
                if !header.is_component {
                    return Err(End::NotComponents);
                }
                let id = header.id.unwrap_or_default();
                let digest = Sha1::digest(format!("{id}{}", config.secret));
                let handshake = format!("<handshake>{digest:x}</handshake>");
                write.write_all(handshake.as_bytes()).await.ok();
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
    while let Some(page) = outgoing.recv().await {
        shared.queued_bytes.fetch_sub(page.what.bytes(), Relaxed);
        shared.counters.lose(Dropped::Down, page.what.stanzas().iter().sum());
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
    let mut bytes = String::with_capacity(2 * PAGE_BYTES);
    loop {
        if outgoing.recv_many(&mut batch, BATCH).await == 0 {
            return End::Shutdown;
        }
        // Given back when all of it is written, or this is given up.
        let _held = Held { shared, bytes: batch.iter().map(|next| next.what.bytes()).sum() };
        for next in batch.drain(..) {
            if next.stream != stream {
                shared.counters.lose(Dropped::Down, next.what.stanzas().iter().sum());
                continue;
            }
            match next.what {
                What::Page(text, _) => {
                    bytes.push_str(&text);
                    if let Err(end) = write_page(writer, &mut bytes, PAGE_BYTES).await {
                        return end;
                    }
                }
                What::Many(stanza, to) => {
                    for to in &to {
                        if let Err(why) = stanza.write(&mut bytes, to.as_str()) {
                            shared.unsendable(stanza.name(), why, 1);
                        }
                        if let Err(end) = write_page(writer, &mut bytes, PAGE_BYTES).await {
                            return end;
                        }
                    }
                }
            }
        }
        if let Err(end) = write_page(writer, &mut bytes, 1).await {
            return end;
        }
    }
}

/// Writes what there is, if it is `enough`.
async fn write_page<S: AsyncRead + AsyncWrite>(
    writer: &mut WriteHalf<S>,
    bytes: &mut String,
    enough: usize,
) -> Result<(), End> {
    if bytes.len() < enough {
        return Ok(());
    }
    let written = timeout(WRITING, writer.write_all(bytes.as_bytes())).await;
    bytes.clear();
    written.map_err(|_| End::Stalled)?.map_err(lost)
}

/// What the writer took out of the queue and holds.
struct Held<'a> {
    shared: &'a Shared,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.shared.queued_bytes.fetch_sub(self.bytes, Relaxed);
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
    /// Bytes of the item that is being read.
    reading: usize,
    /// Bytes of the last item.
    length: usize,
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
            reading: 0,
            length: 0,
        }
    }

    /// The next item, or none when the server has closed the connection.
    async fn next(&mut self) -> Result<Option<Item>, End> {
        loop {
            while !self.unread.is_empty() {
                let mut input = &self.buffer[self.unread.clone()];
                let before = input.len();
                let item = self.decoder.next(&mut input)?;
                self.reading += before - input.len();
                self.unread.start = self.unread.end - input.len();
                if item.is_some() {
                    self.length = std::mem::take(&mut self.reading);
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
    /// What is left of [`EVENT_BYTES`].
    room: &'a Arc<Semaphore>,
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
                    if let Some(end) = self.take(item, reader.length) {
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
                    self.send(self.ping());
                }
            }
        }
    }

    /// Takes one item of so many bytes; returns the stream's end if it was that.
    fn take(&mut self, item: Item, bytes: usize) -> Option<End> {
        let element = match item {
            Item::Element(element) => element,
            Item::Refused(refused) => {
                tracing::debug!(why = ?refused.why, name = refused.head.name, "refused a stanza");
                self.shared.counters.lose(Dropped::Refused, 1);
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
                self.shared.counters.pass(Direction::In, kind, 1);
                self.hand_up_stanza(element, bytes)
            }
            _ => {
                tracing::debug!(
                    name = element.name(),
                    "the server sent something that is not a stanza"
                );
                self.shared.counters.lose(Dropped::Unknown, 1);
                None
            }
        }
    }

    /// Hands up a stanza if the loop takes more, and if the server reads what that would cause.
    fn hand_up_stanza(&mut self, stanza: Element, bytes: usize) -> Option<End> {
        let head = || Head::of(&stanza);
        if self.shared.is_behind() && head().is_answerable() {
            return self.refuse(&head());
        }
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        match Arc::clone(self.room).try_acquire_many_owned(permits) {
            Ok(part) => self.hand_up(LinkEvent::Stanza(Received { stanza, _part: part })),
            Err(_) => self.refuse(&head()),
        }
    }

    fn hand_up(&mut self, event: LinkEvent) -> Option<End> {
        match self.events.try_send(event) {
            Ok(()) => {
                // Not at the first free place, or an overload would be told again and again.
                self.congested &= self.events.capacity() < self.events.max_capacity() / 2
                    || self.room.available_permits() < EVENT_BYTES / 2
                    || self.shared.is_behind();
                None
            }
            Err(TrySendError::Closed(_)) => Some(End::Shutdown),
            Err(TrySendError::Full(event)) => match event {
                LinkEvent::Stanza(received) => self.refuse(&Head::of(&received.stanza)),
                LinkEvent::Refused(refused) => self.refuse(&refused.head),
                LinkEvent::Up | LinkEvent::Down { .. } => None,
            },
        }
    }

    /// Tells the sender of a stanza to try later (RFC 6120 §8.3.3.18).
    fn refuse(&mut self, head: &Head) -> Option<End> {
        self.shared.counters.lose(Dropped::Congested, 1);
        if !std::mem::replace(&mut self.congested, true) {
            tracing::warn!("stanzas come faster than they are handled: refusing them");
        }
        if let Some(answer) = head.error("wait", "resource-constraint") {
            self.send(answer);
        }
        None
    }

    fn send(&self, stanza: Element) {
        if let Some(queue) = self.queue.upgrade() {
            let mut stanzas = Stanzas::default();
            stanzas.push(stanza);
            self.shared.enqueue(&queue, self.domain, stanzas);
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

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::super::{LinkHandle, OUT_ENTRIES, Refusal, spawn_over};
    use super::*;

    const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
        xmlns:stream='http://etherx.jabber.org/streams' from='c.test' id='3&amp;&lt;'>";
    /// SHA-1 of `3&<` and `secret`.
    const HANDSHAKE: &str = "<handshake>c3c72031d55d1b1334b88b579547ee9970eba2ef</handshake>";

    /// The other end of one connection.
    struct Server {
        stream: DuplexStream,
        /// What was read and not yet asked for.
        seen: String,
    }

    impl Server {
        async fn write(&mut self, bytes: &str) {
            self.stream.write_all(bytes.as_bytes()).await.unwrap();
        }

        /// Reads up to and with `end`.
        async fn read_to(&mut self, end: &str) -> String {
            let mut buffer = [0; 4096];
            loop {
                if let Some(at) = self.seen.find(end) {
                    let rest = self.seen.split_off(at + end.len());
                    return std::mem::replace(&mut self.seen, rest);
                }
                let length = self.stream.read(&mut buffer).await.unwrap();
                assert_ne!(length, 0, "closed before {end}, after {}", self.seen);
                self.seen += std::str::from_utf8(&buffer[..length]).unwrap();
            }
        }

        /// Reads what is left until the component closes.
        async fn read_rest(mut self) -> String {
            let mut rest = Vec::new();
            self.stream.read_to_end(&mut rest).await.unwrap();
            self.seen + std::str::from_utf8(&rest).unwrap()
        }
    }

    /// A link with a server in the same task.
    struct Bench {
        link: LinkHandle,
        events: mpsc::Receiver<LinkEvent>,
        connections: mpsc::Receiver<DuplexStream>,
    }

    impl Bench {
        fn new(queue: usize) -> Self {
            let config = Config {
                domain: "c.test".into(),
                server: String::new(),
                secret: "secret".into(),
                limits: Limits::default(),
                seed: 7,
            };
            let (event, events) = mpsc::channel(queue);
            let (connect, connections) = mpsc::channel(1);
            let link = spawn_over(config, event, move || {
                let connect = connect.clone();
                async move {
                    let (ours, theirs) = tokio::io::duplex(64 << 10);
                    connect
                        .send(theirs)
                        .await
                        .map_err(|_| std::io::ErrorKind::ConnectionRefused)?;
                    Ok(ours)
                }
            });
            Self { link, events, connections }
        }

        /// Takes the next connection, up to the stream header.
        async fn accept(&mut self) -> Server {
            let stream = self.connections.recv().await.unwrap();
            let mut server = Server { stream, seen: String::new() };
            let header = server.read_to(" to='c.test'>").await;
            assert!(header.contains("xmlns='jabber:component:accept'"), "{header}");
            server
        }

        /// Takes the next connection and its hand-shake.
        async fn up(&mut self) -> Server {
            let mut server = self.accept().await;
            server.write(HEADER).await;
            assert_eq!(server.read_to("</handshake>").await, HANDSHAKE);
            server.write("<handshake/>").await;
            assert!(matches!(self.event().await, LinkEvent::Up));
            server
        }

        async fn event(&mut self) -> LinkEvent {
            self.events.recv().await.unwrap()
        }

        async fn stanza(&mut self) -> Element {
            let LinkEvent::Stanza(stanza) = self.event().await else { panic!("no stanza") };
            stanza.take()
        }

        fn send(&self, stanzas: Vec<Element>) {
            let mut all = Stanzas::default();
            all.extend(stanzas);
            self.link.send(all);
        }

        async fn down(&mut self) -> End {
            let LinkEvent::Down { why } = self.event().await else { panic!("not down") };
            why
        }
    }

    fn message(from: &str, body: &str) -> Element {
        let mut message = Element::bare("message", CLIENT_NS);
        attribute(&mut message, "from", from);
        attribute(&mut message, "to", "a@b");
        let mut content = Element::bare("body", CLIENT_NS);
        content.append_text_node(body);
        message.append_child(content);
        message
    }

    fn stream_error(condition: &str) -> String {
        format!(
            "<stream:error><{condition} xmlns='{STREAM_ERROR_NS}'/><text xmlns='{STREAM_ERROR_NS}'>so</text></stream:error></stream:stream>"
        )
    }

    #[tokio::test(start_paused = true)]
    async fn stanzas_pass_both_ways() {
        let mut bench = Bench::new(10);
        let mut server = bench.up().await;
        assert!(bench.link.counters().is_up());
        server.write("<message from='a@b' to='c.test'><body>hi</body></message> <weird/>").await;
        let stanza = bench.stanza().await;
        assert!(stanza.is("message", CLIENT_NS));
        assert_eq!(stanza.get_child("body", CLIENT_NS).unwrap().text(), "hi");
        let foreign = message("evil.test", "x");
        bench.send(vec![message("r@c.test", "1"), foreign, message("r@c.test", "2\u{1}<")]);
        let sent = server.read_to("2&lt;</body></message>").await;
        assert_eq!(
            sent,
            "<message from='r@c.test' to='a@b'><body>1</body></message>\
             <message from='r@c.test' to='a@b'><body>2&lt;</body></message>"
        );
        server.write("<iq id='9' type='get' from='a@b' to='c.test'><p:q/></iq>").await;
        let LinkEvent::Refused(refused) = bench.event().await else { panic!("not refused") };
        assert_eq!(refused.why, Refusal::Namespaces);
        assert_eq!(refused.head.id.as_deref(), Some("9"));
        let counters = bench.link.counters();
        assert_eq!(counters.stanzas(Direction::In, Kind::Message), 1);
        assert_eq!(counters.stanzas(Direction::Out, Kind::Message), 2);
        assert_eq!(counters.dropped(Dropped::Unsendable), 1);
        assert_eq!(counters.dropped(Dropped::Unknown), 1);
        assert_eq!(counters.dropped(Dropped::Refused), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn close_writes_what_is_queued_and_waits_for_the_server() {
        let mut bench = Bench::new(10);
        let mut server = bench.up().await;
        bench.send(vec![message("c.test", "bye")]);
        let (link, began) = (bench.link, Instant::now());
        let closing = tokio::spawn(link.close());
        let last = server.read_to("</stream:stream>").await;
        assert!(last.contains("bye"), "{last}");
        server.write("</stream:stream>").await;
        closing.await.unwrap();
        assert!(began.elapsed() < CLOSING);
        assert!(bench.events.recv().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn close_does_not_wait_for_ever() {
        // A server that does not answer, a loop that does not read, and no server at all.
        let mut bench = Bench::new(1);
        let _server = bench.up().await;
        bench.link.close().await;

        let mut bench = Bench::new(1);
        let mut server = bench.accept().await;
        server.write(&format!("{HEADER}{}", stream_error("conflict"))).await;
        let mut server = bench.accept().await;
        server.write(&format!("{HEADER}{}", stream_error("not-authorized"))).await;
        bench.link.close().await;

        let bench = Bench::new(1);
        bench.link.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_says_why() {
        for (answer, expected) in [
            (stream_error("not-authorized"), End::NotAuthorized),
            (stream_error("host-unknown"), End::HostUnknown),
            (stream_error("conflict"), End::Conflict),
            (stream_error("invalid-namespace"), End::NotComponents),
            (
                stream_error("internal-server-error"),
                End::StreamError { condition: "internal-server-error".into(), text: "so".into() },
            ),
            (
                "<stream:error/>".into(),
                End::StreamError { condition: "undefined-condition".into(), text: String::new() },
            ),
            ("</stream:stream>".into(), End::Closed),
            ("<iq".into(), End::Closed),
            ("text".into(), End::Broken(Broken::BadFormat("text between stanzas"))),
        ] {
            let mut bench = Bench::new(10);
            let mut server = bench.accept().await;
            server.write(&format!("{HEADER}{answer}")).await;
            drop(server);
            assert_eq!(bench.down().await, expected);
            let ends: Vec<_> = bench.link.counters().ends().filter(|(_, n)| *n > 0).collect();
            assert_eq!(ends, [(expected.name(), 1)]);
            // And it comes back.
            let _server = bench.up().await;
        }
        let mut bench = Bench::new(10);
        let mut server = bench.accept().await;
        server.write(&HEADER.replace("component:accept", "client")).await;
        assert_eq!(bench.down().await, End::NotComponents);
        let _silent = bench.accept().await;
        assert_eq!(bench.down().await, End::Slow);
    }

    #[test]
    fn every_end_has_its_name() {
        let ends = [
            End::Unreachable(String::new()),
            End::Slow,
            End::NotAuthorized,
            End::HostUnknown,
            End::Conflict,
            End::NotComponents,
            End::StreamError { condition: String::new(), text: String::new() },
            End::Broken(Broken::Endless),
            End::Closed,
            End::Lost(String::new()),
            End::Silent,
            End::Stalled,
            End::Shutdown,
        ];
        assert_eq!(ends.map(|end| end.name()), End::NAMES);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_failure_is_told_once() {
        let mut bench = Bench::new(10);
        for _ in 0..5 {
            drop(bench.accept().await);
        }
        assert_eq!(bench.down().await, End::Closed);
        assert!(bench.events.try_recv().is_err());
        let server = bench.up().await;
        drop(server);
        assert_eq!(bench.down().await, End::Closed);
    }

    #[test]
    fn pauses_grow_and_vary() {
        let pause = |pauses: &mut Pauses, end: End, lasted| {
            pauses.after(&end, Duration::from_secs(lasted)).as_secs_f64()
        };
        for seed in 0..100 {
            let mut pauses = Pauses { rng: SmallRng::seed_from_u64(seed), next: None };
            let mut all: Vec<_> = (0..12).map(|_| pause(&mut pauses, End::Closed, 0)).collect();
            assert!((0.15..0.625).contains(&all[0]), "{all:?}");
            assert!(all[..3].iter().sum::<f64>() < 5.0, "{all:?}");
            assert!(all.iter().all(|pause| *pause <= 10.0), "{all:?}");
            assert!(all.split_off(10).iter().all(|pause| *pause >= 6.0), "{all:?}");
            // A good link starts them over, a short one does not.
            assert!(pause(&mut pauses, End::Closed, 9) >= 6.0);
            assert!(pause(&mut pauses, End::Closed, 10) < 0.625);
            assert!(pause(&mut pauses, End::Conflict, 60) >= CONFLICT_PAUSE);
            assert!(pause(&mut pauses, End::NotAuthorized, 0) >= 6.0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_pinged_and_given_up() {
        let mut bench = Bench::new(10);
        let mut server = bench.up().await;
        let began = Instant::now();
        let ping = server.read_to("</iq>").await;
        assert_eq!(began.elapsed(), PING_EVERY);
        assert!(ping.contains("from='c.test'") && ping.contains("to='c.test'"), "{ping}");
        // The server routes it back: not a stanza for the loop.
        server.write(&ping).await;
        assert_eq!(server.read_to("</iq>").await, ping);
        // White space is a sign of life as well.
        for _ in 0..10 {
            server.write(" ").await;
            sleep(PING_EVERY).await;
        }
        assert!(bench.events.try_recv().is_err());
        assert!(bench.link.counters().is_up());
        let began = Instant::now();
        assert_eq!(bench.down().await, End::Silent);
        assert!(began.elapsed() <= PING_EVERY * 3);
        assert!(!bench.link.counters().is_up());
        bench.up().await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_else_answers_our_ping() {
        let mut bench = Bench::new(10);
        let mut server = bench.up().await;
        let ping = server.read_to("</iq>").await;
        server.write(&ping.replace("from='c.test'", "from='a@b'")).await;
        server.write("<iq type='get' id='ping-0' from='c.test' to='c.test'/>").await;
        bench.stanza().await;
        bench.stanza().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_never_stops_the_reading() {
        let mut bench = Bench::new(2);
        let mut server = bench.up().await;
        for id in 0..1000 {
            let kind = ["get", "result", "error"][id % 3];
            server.write(&format!("<iq id='{id}' type='{kind}' from='a@b' to='c.test'/>")).await;
        }
        // Numbers 0 and 1 wait in the queue, the others with `get` are answered.
        let answers = server.read_to("id='999'").await + &server.read_to("</iq>").await;
        assert_eq!(answers.matches("resource-constraint").count(), 333);
        assert!(
            answers
                .starts_with("<iq from='c.test' id='3' to='a@b' type='error'><error type='wait'>")
        );
        assert_eq!(bench.link.counters().dropped(Dropped::Congested), 998);
        for id in ["0", "1"] {
            assert_eq!(bench.stanza().await.attr("id"), Some(id));
        }
        server.write("<iq id='x' type='get' from='a@b' to='c.test'/>").await;
        bench.stanza().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_read_costs_bounded_memory_and_then_the_link() {
        let mut bench = Bench::new(10);
        let mut server = bench.up().await;
        let large = message("c.test", &"x".repeat(200 << 10));
        bench.send(vec![large; 200]);
        let counters = bench.link.counters();
        let (sent, lost) =
            (counters.stanzas(Direction::Out, Kind::Message), counters.dropped(Dropped::Overflow));
        assert_eq!(sent + lost, 200);
        assert!((70..=82).contains(&sent), "{sent} of 200 KiB in 16 MiB");
        // We go on reading all the same: what would cause more is refused, who leaves has left.
        assert_eq!(counters.dropped(Dropped::Congested), 0);
        server.write("<message from='a@b/c' to='r@c.test' type='groupchat'/>").await;
        server.write("<presence from='a@b/c' to='r@c.test/n' type='unavailable'/>").await;
        assert_eq!(bench.stanza().await.attr("type"), Some("unavailable"));
        assert_eq!(counters.dropped(Dropped::Congested), 1);
        assert_eq!(bench.down().await, End::Stalled);
        assert_eq!(bench.link.shared.queued_bytes.load(Relaxed), 0);

        let _server = bench.up().await;
        for _ in 0..OUT_ENTRIES + 10 {
            bench.send(vec![message("c.test", "")]);
        }
        assert_eq!(bench.link.counters().dropped(Dropped::Overflow) - lost, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_many_get_takes_the_memory_of_one_and_keeps_its_place() {
        let mut bench = Bench::new(10);
        let mut server = bench.up().await;
        let mut shared = message("c.test", &"x".repeat(16 << 10));
        shared.attrs_mut().remove(&rxml::Namespace::NONE, "to");
        let to: Vec<_> = (0..200).map(|n| format!("u{n}@b/c").parse().unwrap()).collect();
        let mut all = Stanzas::default();
        all.push(message("c.test", "first"));
        all.push_to(shared, to);
        all.push(message("c.test", "last"));
        bench.link.send(all);
        assert!(bench.link.queued_bytes() < 24 << 10, "{}", bench.link.queued_bytes());
        let counters = bench.link.counters();
        assert_eq!(counters.stanzas(Direction::Out, Kind::Message), 202);
        assert_eq!(counters.dropped(Dropped::Overflow), 0);
        let seen = server.read_to("last</body></message>").await;
        assert!(
            seen.contains("first</body></message><message to='u0@b/c' from='c.test'><body>xxx")
        );
        let to = seen.matches("<message to='u").count();
        assert_eq!((to, bench.link.queued_bytes()), (200, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_loop_is_handed_so_many_bytes_and_no_more() {
        let mut bench = Bench::new(100);
        let mut server = bench.up().await;
        let message = |n: usize| {
            let body = "x".repeat(250 << 10);
            format!("<message from='a@b' to='c.test' id='{n}'><body>{body}</body></message>")
        };
        for n in 0..18 {
            server.write(&message(n)).await;
        }
        let answers = server.read_to("id='17'").await + &server.read_to("</message>").await;
        assert_eq!(answers.matches("resource-constraint").count(), 2, "16 are 4 MB");
        for n in 0..16 {
            assert_eq!(bench.stanza().await.attr("id"), Some(&*n.to_string()));
        }
        server.write(&message(18)).await;
        assert_eq!(bench.stanza().await.attr("id"), Some("18"));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_that_was_meant_for_an_earlier_stream() {
        let mut bench = Bench::new(10);
        bench.send(vec![message("c.test", "too early")]);
        let server = bench.up().await;
        drop(server);
        bench.send(vec![message("c.test", "into the void")]);
        bench.down().await;
        bench.send(vec![message("c.test", "too late")]);
        let mut server = bench.up().await;
        bench.send(vec![message("c.test", "now")]);
        assert!(server.read_to("</message>").await.contains("now"));
        assert!(bench.link.counters().dropped(Dropped::Down) >= 2);
        assert_eq!(bench.link.shared.queued_bytes.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_stream_is_told_and_made_anew() {
        let mut bench = Bench::new(10);
        let mut server = bench.up().await;
        server.write("<message>&nbsp;</message>").await;
        assert_eq!(
            server.read_rest().await,
            format!(
                "<stream:error><not-well-formed xmlns='{STREAM_ERROR_NS}'/></stream:error></stream:stream>"
            )
        );
        assert!(matches!(bench.down().await, End::Broken(Broken::NotWellFormed(_))));
        let mut server = bench.up().await;
        server.write(&stream_error("conflict")).await;
        assert_eq!(bench.down().await, End::Conflict);
        let began = Instant::now();
        bench.up().await;
        assert!(began.elapsed().as_secs_f64() >= CONFLICT_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_link_ends_with_the_loop() {
        let mut bench = Bench::new(10);
        let mut server = bench.up().await;
        drop(bench.events);
        server.write("<iq type='get' from='a@b' to='c.test'/>").await;
        assert!(server.read_rest().await.ends_with("</stream:stream>"));
        bench.link.close().await;
    }

    #[tokio::test]
    async fn dials_a_real_socket() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = dial(listener.local_addr().unwrap().to_string()).await.unwrap();
        assert!(stream.nodelay().unwrap());
        let socket = socket2::SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        assert!(dial("no port".into()).await.is_err());
    }
}
