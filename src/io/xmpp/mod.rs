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

use jid::FullJid;
use minidom::Element;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use crate::stanzas::{Stanza, Stanzas};

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
/// Bytes of stanzas, as they came, that wait for the loop; the senders of more are told the same.
pub const EVENT_BYTES: usize = 4 << 20;
/// Entries of the writer's queue, each of at least one stanza; more are dropped.
pub const OUT_ENTRIES: usize = 20_000;
/// Bytes that wait to be written; more are dropped. From half of that on, what would cause more is refused.
pub const OUT_BYTES: usize = 16 << 20;
/// How much is written at once: stanzas are put together until there is so much, in bytes.
const PAGE_BYTES: usize = 16 << 10;

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
    Stanza(Received),
    /// A stanza that was skipped; [`Refused::answer`] is what its sender ought to get.
    Refused(Refused),
}

/// A stanza that came in.
#[derive(Debug)]
pub struct Received {
    stanza: Element,
    /// Its part of [`EVENT_BYTES`], until somebody takes it.
    _part: OwnedSemaphorePermit,
}

impl Received {
    /// Takes the stanza out of the queue.
    pub fn take(self) -> Element {
        self.stanza
    }
}

/// What waits to be written.
#[derive(Debug)]
struct Outgoing {
    /// The stream it was meant for.
    stream: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Stanzas as they are, so many of each [`Kind`].
    Page(String, [usize; 3]),
    /// One stanza for many, who are written in when it leaves: it takes the memory of one.
    Many(write::Shared, Vec<FullJid>),
}

impl What {
    /// The bytes that it holds.
    fn bytes(&self) -> usize {
        match self {
            Self::Page(text, _) => text.len(),
            Self::Many(shared, to) => {
                shared.bytes() + to.iter().map(|to| to.as_str().len()).sum::<usize>()
            }
        }
    }

    /// How many stanzas of each [`Kind`] it is.
    fn stanzas(&self) -> [usize; 3] {
        match self {
            Self::Page(_, stanzas) => *stanzas,
            Self::Many(shared, to) => {
                Kind::ALL.map(|kind| if kind.name() == shared.name() { to.len() } else { 0 })
            }
        }
    }
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
    /// Puts stanzas into the writer's queue, or counts why not.
    fn enqueue(&self, queue: &mpsc::Sender<Outgoing>, domain: &str, stanzas: Stanzas) {
        let stream = self.stream.load(Relaxed);
        let (mut text, mut kinds) = (String::new(), [0; 3]);
        let flush = |text: &mut String, kinds: &mut [usize; 3]| {
            if !text.is_empty() {
                let what = What::Page(std::mem::take(text), std::mem::take(kinds));
                self.enqueue_one(queue, Outgoing { stream, what });
            }
        };
        for stanza in stanzas {
            let copies = stanza.copies();
            if stream == 0 {
                self.counters.lose(Dropped::Down, copies);
                continue;
            }
            match stanza {
                Stanza::One(stanza) => match write::stanza(&mut text, &stanza, domain) {
                    Ok(kind) => {
                        kinds[kind as usize] += 1;
                        if text.len() >= PAGE_BYTES {
                            flush(&mut text, &mut kinds);
                        }
                    }
                    Err(why) => self.unsendable(stanza.name(), why, copies),
                },
                Stanza::Many(stanza, to) => match write::Shared::new(&stanza, domain) {
                    Ok(shared) => {
                        flush(&mut text, &mut kinds);
                        let what = What::Many(shared, to);
                        self.enqueue_one(queue, Outgoing { stream, what });
                    }
                    Err(why) => self.unsendable(stanza.name(), why, copies),
                },
            }
        }
        flush(&mut text, &mut kinds);
    }

    fn unsendable(&self, stanza: &str, why: Unsendable, copies: usize) {
        tracing::error!(stanza, %why, "dropped a stanza that must not be sent");
        self.counters.lose(Dropped::Unsendable, copies);
    }

    fn enqueue_one(&self, queue: &mpsc::Sender<Outgoing>, outgoing: Outgoing) {
        let (bytes, stanzas) = (outgoing.what.bytes(), outgoing.what.stanzas());
        let fits = self.queued_bytes.fetch_add(bytes, Relaxed) + bytes <= OUT_BYTES;
        if fits && queue.try_send(outgoing).is_ok() {
            if queue.capacity() > OUT_ENTRIES / 2 && !self.is_behind() {
                self.overflowing.store(false, Relaxed);
            }
            for (kind, count) in Kind::ALL.into_iter().zip(stanzas) {
                self.counters.pass(Direction::Out, kind, count);
            }
            return;
        }
        self.queued_bytes.fetch_sub(bytes, Relaxed);
        self.counters.lose(Dropped::Overflow, stanzas.iter().sum());
        if !self.overflowing.swap(true, Relaxed) {
            tracing::warn!("the XMPP server reads too slowly: dropping stanzas to it");
        }
    }

    /// Whether so much waits to be written that nothing more is to be caused.
    fn is_behind(&self) -> bool {
        self.queued_bytes.load(Relaxed) > OUT_BYTES / 2
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
    pub fn send(&self, stanzas: Stanzas) {
        self.shared.enqueue(&self.queue, &self.domain, stanzas);
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
    let (queue, outgoing) = mpsc::channel(OUT_ENTRIES);
    let shared = Arc::new(Shared::default());
    let domain = config.domain.clone();
    let link = link::Link::new(config, events, queue.downgrade(), outgoing, shared.clone());
    LinkHandle { domain, queue, shared, task: tokio::spawn(link.run(dial)) }
}
