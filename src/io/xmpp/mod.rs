//! The link to the XMPP server: an external component of XEP-0114.
//!
//! [`spawn`] keeps one stream up, for ever: it connects, shakes hands, reads, writes, notices death, and comes back.
//! The control loop sees [`LinkEvent`]s and hands stanzas to a [`LinkHandle`]; it never waits for either. Nothing that
//! a user sends through the server ends the stream, and nothing that we send makes the server end it.
//!
//! | read | to learn |
//! | --- | --- |
//! | `frame` | how a stream is cut into stanzas, with limits and without recursion |
//! | `parse` | how one becomes an [`Element`] |
//! | `refusal` | what the sender of a stanza is told that was not taken |
//! | `write` | the only way out: sanitising, addressing, size |
//! | `link` | one stream's life, and the next one's |
//! | `counters` | what metrics and readiness read |
//!
//! This part knows nothing of rooms. On the wire stanzas are in `jabber:component:accept`; everywhere else in the
//! program they are in `jabber:client`.

mod counters;
mod frame;
mod link;
mod parse;
mod refusal;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use minidom::Element;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use counters::{Counters, Direction, Dropped, Kind};
pub use frame::{Broken, Limits};
pub use link::End;
pub use refusal::{Head, Refusal, Refused};
pub use write::{OUT_DEPTH, OUT_STANZA_BYTES, Unsendable};

const COMPONENT_NS: &str = "jabber:component:accept";
const CLIENT_NS: &str = "jabber:client";
const STREAM_NS: &str = "http://etherx.jabber.org/streams";
const STREAM_ERROR_NS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
const STANZA_ERROR_NS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";

/// A good capacity for the channel given to [`spawn`]: what a server sends while the loop is busy for 100 ms. When it
/// is full, senders are told `resource-constraint`.
pub const EVENTS: usize = 2048;
/// Stanzas that wait to be written; more are dropped.
pub const OUT_STANZAS: usize = 20_000;
/// Bytes that wait to be written; more are dropped.
pub const OUT_BYTES: usize = 16 << 20;

/// What a link needs to know.
#[derive(Clone)]
pub struct Config {
    /// The component's domain, as the server spells it.
    pub domain: String,
    /// `host:port` where the server listens for components.
    pub server: String,
    /// The secret shared with the server (XEP-0114 §3).
    pub secret: String,
    /// What is accepted from the server.
    pub limits: Limits,
    /// Seed of the jitter between attempts and of the ids of pings.
    pub seed: u64,
}

/// What the link tells the control loop.
#[derive(Debug)]
pub enum LinkEvent {
    /// The server accepted us. It knows nothing of what an earlier stream did: there is no resumption in XEP-0114.
    Up,
    /// The link ended, or could not be made; attempts go on. Sent again only if the reason changes.
    Down {
        /// What ended it.
        why: End,
    },
    /// A message, presence or iq, in `jabber:client`.
    Stanza(Element),
    /// A stanza that was skipped; [`Refused::answer`] is what its sender ought to get.
    Refused(Refused),
}

/// A stanza on its way out.
#[derive(Debug)]
struct Outgoing {
    /// The stream it was meant for.
    stream: u64,
    bytes: String,
}

/// What handle and task share.
#[derive(Debug, Default)]
struct Shared {
    counters: Arc<Counters>,
    /// The number of the stream that is up; 0 when none is.
    stream: AtomicU64,
    /// Bytes in the writer's queue.
    queued_bytes: AtomicUsize,
    /// Whether stanzas are being dropped because the queue is full: so that it is logged once.
    overflowing: AtomicBool,
}

impl Shared {
    /// Writes a stanza into the writer's queue, or counts why not.
    fn enqueue(&self, queue: &mpsc::Sender<Outgoing>, domain: &str, stanza: &Element) {
        let stream = self.stream.load(Relaxed);
        if stream == 0 {
            return self.counters.drop_one(Dropped::Down);
        }
        let mut bytes = String::new();
        if let Err(why) = write::stanza(&mut bytes, stanza, domain) {
            tracing::error!(stanza = stanza.name(), %why, "dropped a stanza that must not be sent");
            return self.counters.drop_one(Dropped::Unsendable);
        }
        let length = bytes.len();
        let fits = self.queued_bytes.fetch_add(length, Relaxed) + length <= OUT_BYTES;
        if fits && queue.try_send(Outgoing { stream, bytes }).is_ok() {
            if queue.capacity() > OUT_STANZAS / 2 && self.queued_bytes.load(Relaxed) < OUT_BYTES / 2
            {
                self.overflowing.store(false, Relaxed);
            }
            if let Some(kind) = Kind::of(stanza.name()) {
                self.counters.pass(Direction::Out, kind);
            }
            return;
        }
        self.queued_bytes.fetch_sub(length, Relaxed);
        self.counters.drop_one(Dropped::Overflow);
        if !self.overflowing.swap(true, Relaxed) {
            tracing::warn!("the XMPP server reads too slowly: dropping stanzas to it");
        }
    }
}

/// The control loop's end of a link.
#[derive(Debug)]
pub struct LinkHandle {
    domain: String,
    queue: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl LinkHandle {
    /// Queues stanzas in this order; never waits. What cannot be sent is counted and dropped.
    pub fn send(&self, stanzas: Vec<Element>) {
        for stanza in &stanzas {
            self.shared.enqueue(&self.queue, &self.domain, stanza);
        }
    }

    /// The link's numbers, for whoever shows them.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    /// How many bytes wait for the server to read them.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes.load(Relaxed)
    }

    /// Writes what is queued, closes the stream and waits for the server to do the same, two seconds at most.
    pub async fn close(self) {
        drop(self.queue);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the XMPP link did not end well");
        }
    }
}

/// Starts the link. It lives until [`LinkHandle::close`], or until nobody receives its events.
pub fn spawn(config: Config, events: mpsc::Sender<LinkEvent>) -> LinkHandle {
    let server = config.server.clone();
    spawn_over(config, events, move || link::dial(server.clone()))
}

/// Starts the link over streams that `dial` makes.
fn spawn_over<S, D, F>(config: Config, events: mpsc::Sender<LinkEvent>, dial: D) -> LinkHandle
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
    D: FnMut() -> F + Send + 'static,
    F: Future<Output = std::io::Result<S>> + Send + 'static,
{
    let (queue, outgoing) = mpsc::channel(OUT_STANZAS);
    let shared = Arc::new(Shared::default());
    let domain = config.domain.clone();
    let link = link::Link::new(config, events, queue.downgrade(), outgoing, shared.clone());
    LinkHandle { domain, queue, shared, task: tokio::spawn(link.run(dial)) }
}
