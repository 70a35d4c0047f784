//! Everything that touches the outside world: one loop that owns the [`Bridge`], and the tasks and
//! threads that feed it.
//!
//! | read | to learn |
//! | --- | --- |
//! | [`xmpp`] | the component link (XEP-0114) |
//! | [`sip`], [`locate`] | SIP's sockets, and where servers are that calls go to |
//! | [`media`] | RTP's sockets and the threads that mix |
//! | [`store`], `save`, `archive` | what survives a restart, who waits for it, who reads of it later |
//! | [`http`] | metrics, health, the admin API |
//! | [`audit`], `lines` | what operators changed; files of JSON lines |
//! | [`client`] | asking the admin API of a running server |
//! | [`probe`] | trying a configuration before it is used |
//! | `process`, `systemd` | what the operating system counts; what the service manager is told |
//! | [`settings`] | reading the configuration |

mod archive;
pub mod audit;
pub mod client;
pub mod http;
mod lines;
pub mod locate;
pub mod media;
pub mod probe;
mod process;
mod save;
pub mod settings;
pub mod sip;
pub mod store;
mod systemd;
pub mod xmpp;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rand::rngs::{OsRng, StdRng};
use rand::{SeedableRng, TryRngCore};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use crate::bridge::{Bridge, Input, Outbox};
use crate::clock::Now;
use crate::config::{Level, Problem};
use crate::journal::Row;
use crate::metrics::Metrics;
use crate::mixer::plan::Report;
use crate::reload::{Change, Takes};
use archive::Archive;
use audit::Audit;
use http::{Access, Health, Http};
use lines::Lines;
use media::Media;
use save::{Saved, Saver};
use settings::{BadConfig, Settings};
use sip::SipSockets;
use store::Store;
use systemd::Systemd;
use xmpp::{LinkEvent, LinkHandle};

/// Runs the server until it is told to stop. `set_level` is told when another log level is in force.
pub async fn run(mut settings: Settings, set_level: impl Fn(Level)) -> Result<()> {
    let Settings { config, secret, tls, .. } = settings.clone();
    // First of all: a signal that comes while we start is not to end us in disorder.
    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut seed = [0; 32];
    OsRng.try_fill_bytes(&mut seed).context("the system gives no random numbers")?;
    let metrics = Metrics::new();
    metrics.started(Now::read().utc);
    let health = Arc::new(Health::default());

    let lost = metrics.records_lost.with_label_values(&["audit"]);
    let audit = Lines::open("log.audit_file", config.log.audit_file.as_deref(), lost)
        .context("log.audit_file")
        .map(Audit)?;

    let mut store = Store::open(&config.store.url).await?;
    let snapshot = store.load().await.context("cannot read the store")?;
    info!(rooms = snapshot.rooms.len(), users = snapshot.users.len(), "loaded");
    health.store.store(true, Relaxed);

    let (inputs, mut incoming) = mpsc::channel(MAX_INPUTS);
    let (reports, mut reported) = mpsc::channel(MAX_INPUTS);
    let (events, mut link_events) = mpsc::channel(xmpp::EVENTS);
    let archive = Archive::open(&config.store.url, inputs.clone()).await?;
    let listen: Vec<_> = config.sip.listen.iter().map(|listen| listen.0).collect();
    let sip = SipSockets::bind(&listen, tls, inputs.clone()).await?;
    health.sip.store(true, Relaxed);
    let workers = media::Settings {
        workers: config.media.workers,
        voices: config.media.voices,
        ..Default::default()
    };
    let random = StdRng::try_from_rng(&mut OsRng).context("the system gives no random numbers")?;
    let media =
        Media::start(workers, &metrics, &reports, random).context("cannot start the mixer")?;
    health.media.store(true, Relaxed);
    let (http, bound) = Http::serve(
        config.http.listen,
        Access::new(&settings),
        inputs.clone(),
        metrics.clone(),
        Arc::clone(&health),
        audit.clone(),
        media.health().clone(),
    )
    .await?;
    let bridge = Bridge::new(Now::read(), &config, &secret, seed, snapshot, metrics.clone());
    let link = xmpp::spawn(
        xmpp::Config {
            domain: config.xmpp.domain.0.to_string(),
            server: config.xmpp.server.clone(),
            secret,
            limits: xmpp::Limits::default(),
            seed: OsRng.try_next_u64().context("the system gives no random numbers")?,
        },
        events,
    );
    warn_of(&settings);
    let systemd = Systemd::from_environment();
    systemd.ready();
    info!(domain = %config.xmpp.domain.0, sip = %config.sip.domain, http = %bound, "started");

    let saver = Saver::new(store);
    let mut shell = Shell {
        bridge,
        media,
        saver,
        archive,
        link,
        sip,
        inputs,
        http,
        audit,
        metrics,
        health,
        systemd,
    };
    let mut batch = Vec::with_capacity(MAX_BATCH);
    let mut batch_of_events = Vec::with_capacity(MAX_BATCH);
    let mut batch_of_reports: Vec<Report> = Vec::with_capacity(MAX_BATCH);
    let mut out = Outbox::default();
    let mut measured = Instant::now();
    // Once asked to stop: until when goodbyes may be answered.
    let mut leaving = None;
    let mut asked_to_stop = false;
    let ended = loop {
        let due = shell.bridge.poll_timeout().map(Instant::from_std);
        let due = [due, leaving].into_iter().flatten().fold(measured + SECOND, Instant::min);
        let received = tokio::select! {
            biased;
            // Once in good order, then at once; Ctrl-C at once.
            _ = stop.recv() => {
                match leaving {
                    Some(_) => break Ok(()),
                    None if asked_to_stop => leaving = Some(shell.say_goodbye(&mut out)),
                    None => {
                        let calls = Duration::from_secs(settings.config.run.drain_seconds.into());
                        shell.systemd.stopping(calls + GOODBYE + 2 * STOP_TIMEOUT);
                        shell.bridge.handle(Now::read(), Input::Terminate, &mut out);
                    }
                }
                asked_to_stop = true;
                None
            }
            _ = interrupt.recv() => {
                if leaving.is_some() {
                    break Ok(());
                }
                leaving = Some(shell.say_goodbye(&mut out));
                None
            }
            _ = hang_up.recv() => {
                shell.reload(&mut settings, &set_level, &mut out);
                None
            }
            count = reported.recv_many(&mut batch_of_reports, MAX_BATCH) => Some(count),
            count = link_events.recv_many(&mut batch_of_events, MAX_BATCH) => Some(count),
            count = incoming.recv_many(&mut batch, MAX_BATCH) => Some(count),
            () = sleep_until(due) => None,
        };
        if received == Some(0) {
            break Err(anyhow!("a part of the server is gone"));
        }
        // Whichever came first, each has its turn: none of them starves the rest.
        take(&mut reported, &mut batch_of_reports);
        take(&mut link_events, &mut batch_of_events);
        take(&mut incoming, &mut batch);
        let now = Now::read();
        for report in batch_of_reports.drain(..) {
            shell.bridge.handle(now, Input::Media(report), &mut out);
        }
        for event in batch_of_events.drain(..) {
            shell.link_says(now, event, &mut out);
        }
        for input in batch.drain(..) {
            shell.bridge.handle(now, input, &mut out);
        }
        shell.bridge.handle_timeout(now, &mut out);
        if leaving.is_none() && shell.bridge.has_drained(now) {
            leaving = Some(shell.say_goodbye(&mut out));
        }
        shell.note_drain();
        if let Err(why) = shell.send(&mut out).await {
            break Err(why);
        }
        if measured.elapsed() >= SECOND {
            measured = Instant::now();
            shell.measure();
        }
        if leaving.is_some_and(|until| shell.bridge.has_parted() || until <= Instant::now()) {
            break Ok(());
        }
    };
    shell.stop(&mut out).await;
    ended
}

/// The loop's hands.
struct Shell {
    bridge: Bridge,
    media: Media,
    saver: Saver,
    archive: Archive,
    link: LinkHandle,
    sip: SipSockets,
    inputs: mpsc::Sender<Input>,
    http: Http,
    audit: Audit,
    metrics: Metrics,
    health: Arc<Health>,
    systemd: Systemd,
}

impl Shell {
    fn link_says(&mut self, now: Now, event: LinkEvent, out: &mut Outbox) {
        match event {
            LinkEvent::Up => {
                self.health.xmpp.store(true, Relaxed);
                self.bridge.handle(now, Input::Link(true), out);
            }
            LinkEvent::Down { .. } => {
                self.health.xmpp.store(false, Relaxed);
                self.bridge.handle(now, Input::Link(false), out);
            }
            LinkEvent::Stanza(stanza) => self.bridge.handle(now, Input::Stanza(stanza.take()), out),
            LinkEvent::Refused(refused) => out.stanzas.extend(refused.answer()),
        }
    }

    /// Empties the outbox, in the order that [`Outbox`] promises. After an error this server knows
    /// another truth than the store, and has to stop.
    async fn send(&mut self, out: &mut Outbox) -> Result<()> {
        self.direct(out);
        if let Err(why) = self.save(&mut out.store).await {
            // Nobody is told what is not true.
            *out = Outbox::default();
            return Err(why);
        }
        self.deliver(out);
        Ok(())
    }

    /// Gives the mixer its orders.
    fn direct(&mut self, out: &mut Outbox) {
        loop {
            let failed = self.media.obey(out.media.drain(..));
            if failed.is_empty() {
                break;
            }
            // These legs hang up, which gives orders to close, and those cannot fail.
            for report in failed {
                self.bridge.handle(Now::read(), Input::Media(report), out);
            }
        }
    }

    /// Tells everyone.
    fn deliver(&mut self, out: &mut Outbox) {
        for query in std::mem::take(&mut out.queries) {
            if let Some(refused) = self.archive.ask(query) {
                // A refusal is a stanza and nothing else.
                self.bridge.handle(Now::read(), Input::Loaded(refused), out);
            }
        }
        if !out.stanzas.is_empty() {
            self.link.send(std::mem::take(&mut out.stanzas));
        }
        for lookup in out.lookups.drain(..) {
            locate::find(lookup, self.inputs.clone());
        }
        for transmit in out.sip.drain(..) {
            self.metrics.count_sent(&transmit.bytes);
            self.sip.send(transmit);
        }
        for entry in out.audit.drain(..) {
            self.audit.record(&entry);
        }
        for response in out.admin.drain(..) {
            self.http.answer(response);
        }
        for event in out.events.drain(..) {
            self.http.publish(event);
        }
    }

    /// Writes what changed. What a failing store does not take is kept and tried again, up to a limit.
    async fn save(&mut self, rows: &mut Vec<Row>) -> Result<()> {
        let saved = self.saver.save(rows).await;
        let full = self.saver.is_full();
        if full != self.bridge.note_store_full(full) {
            match full {
                true => error!("too many changes wait for the store; others are refused"),
                false => info!("changes are taken again"),
            }
        }
        match saved {
            Saved::All => {
                if !self.health.store.swap(true, Relaxed) {
                    info!("the store has all changes");
                }
            }
            Saved::Waiting => {}
            Saved::Failed(why) => {
                self.metrics.store_errors.inc();
                if self.health.store.swap(false, Relaxed) {
                    let why = format!("{why:#}");
                    error!(why, "the store takes no changes; they are kept in memory");
                }
            }
            Saved::Taken => bail!("another cusaxd took over the store"),
        }
        Ok(())
    }

    fn measure(&mut self) {
        self.bridge.measure();
        self.link.counters().measure(&self.metrics);
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.component_queue.set(gauge(self.link.queued_bytes()));
        self.metrics.store_unsaved.set(gauge(self.saver.waiting()));
        let moves = self.media.moves();
        self.health.media.store(moves, Relaxed);
        if moves {
            self.systemd.alive();
        }
    }

    /// Reads the configuration once more, and lets the service manager know.
    fn reload(&mut self, settings: &mut Settings, set_level: &impl Fn(Level), out: &mut Outbox) {
        self.systemd.reloading();
        self.read_again(settings, set_level, out);
        self.systemd.ready();
    }

    /// Reads the configuration once more. A bad one is refused whole, and the old one stays.
    fn read_again(
        &mut self,
        settings: &mut Settings,
        set_level: &impl Fn(Level),
        out: &mut Outbox,
    ) {
        let new = match settings::load(&settings.file) {
            Ok(new) => new,
            Err(BadConfig { file, reasons }) => {
                for reason in reasons {
                    error!(file = %file.display(), %reason, "the configuration is refused");
                }
                self.metrics.config_refused.set(1);
                return;
            }
        };
        self.metrics.config_refused.set(0);
        let changes = settings.adopt(new);
        for Change { key, old, new, takes } in &changes {
            match takes {
                Takes::Live => info!(key, %old, %new, "changed"),
                Takes::Restart => warn!(key, %old, %new, "changed, and needs a restart"),
            }
        }
        let live = changes.iter().filter(|change| change.takes == Takes::Live).count();
        info!(file = %settings.file.display(), live, restart = changes.len() - live, "read again");
        warn_of(settings);
        set_level(settings.config.log.level);
        self.http.set_access(Access::new(settings));
        self.sip.reload();
        self.audit.0.reopen(settings.config.log.audit_file.as_deref());
        let config = Box::new(settings.config.clone());
        self.bridge.handle(Now::read(), Input::Configured(config), out);
    }

    /// Tells everyone; until when goodbyes may be answered.
    fn say_goodbye(&mut self, out: &mut Outbox) -> Instant {
        info!("stopping");
        self.bridge.handle(Now::read(), Input::ShutDown, out);
        Instant::now() + GOODBYE
    }

    /// Lets health say whether the server is to stop.
    fn note_drain(&self) {
        let draining = self.bridge.is_draining();
        if self.health.draining.swap(draining, Relaxed) != draining {
            let calls = self.bridge.calls();
            match draining {
                true => info!(calls, "draining: no new calls"),
                false => info!("calls are taken again"),
            }
            self.systemd.drains(draining.then_some(calls));
        }
    }

    /// Leaves in good order.
    async fn stop(mut self, out: &mut Outbox) {
        // Nobody is told twice: whoever was told is not here any more.
        self.bridge.handle(Now::read(), Input::ShutDown, out);
        self.direct(out);
        let saved = self.save(&mut out.store).await;
        self.deliver(out);
        if timeout(STOP_TIMEOUT, self.link.close()).await.is_err() {
            warn!("the XMPP server did not close the link");
        }
        self.sip.flush(STOP_TIMEOUT).await;
        self.media.stop();
        self.audit.0.flush(STOP_TIMEOUT).await;
        if let Err(why) = saved.and(self.saver.close().await) {
            error!(why = format!("{why:#}"), "the last changes are not in the store");
        }
    }
}

/// What works, and is better otherwise.
fn warn_of(settings: &Settings) {
    for Problem { key, reason } in settings.warnings() {
        warn!(key, reason, "the configuration can be better");
    }
}

/// Takes what is there, up to a batch.
fn take<T>(from: &mut mpsc::Receiver<T>, into: &mut Vec<T>) {
    while into.len() < MAX_BATCH
        && let Ok(next) = from.try_recv()
    {
        into.push(next);
    }
}

/// Inputs that wait for the loop, of each kind.
const MAX_INPUTS: usize = 4_096;
/// Inputs of a kind that are taken in one turn of the loop.
const MAX_BATCH: usize = 64;
const SECOND: Duration = Duration::from_secs(1);
/// How long phones have to answer a BYE: time for an ACK that is still on its way, before which there
/// is no BYE (RFC 3261 §15), and for what is lost to be sent again.
const GOODBYE: Duration = Duration::from_secs(2);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
