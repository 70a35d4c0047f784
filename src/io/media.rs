//! The media plane: threads that own whole rooms, the sockets of their legs, and the 20 ms tick.
//!
//! [`Media`] belongs to the control loop and hands each [`Order`] to the worker that has the room; a
//! worker never shares a room, so the packet path takes no lock. A worker sleeps until the next slice
//! of [`SLICE`], an order, or the next tick, whichever is first; packets that came meanwhile are read
//! together, so that their number does not decide how often the thread wakes up. Orders are obeyed
//! before packets are read and before each tick: who is muted is in no frame that is mixed after the
//! order was seen, and that is at most one tick after it was given.
//!
//! A closed leg's ports stay bound for [`DRAIN`], deaf, so that what its peer still sends reaches
//! neither the next call on these ports nor anyone else.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc as orders;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use cusax_media::{MAX_PACKET, TICK};
use dashmap::DashMap;
use dashmap::try_result::TryResult;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use prometheus::{Gauge, Histogram, IntCounter};
use rand::Rng;
use rand::rngs::StdRng;
use socket2::SockRef;
use std::os::fd::AsFd;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tracing::{debug, error, warn};

use crate::clock::Now;
use crate::id::{LegId, RoomName};
use crate::metrics::Metrics;
use crate::mixer::effort::Pace;
use crate::mixer::mix::{LegHealth, Mix, Out, Packet, Patience, Port, Tally, VOICES};
use crate::mixer::plan::{LegPlan, Order, Report};
use crate::mixer::prompts;

/// How long a closed leg's ports stay bound.
pub const DRAIN: Duration = Duration::from_secs(30);
/// The longest that a packet waits to be read; four of these are a tick.
pub const SLICE: Duration = Duration::from_millis(5);
/// Ticks that are made up for at once when a thread was held up; more are given up.
pub const MAX_CATCH_UP: u32 = 5;
/// Packets that are read from one socket in one slice; a peer that sends more loses the rest.
pub const MAX_BURST: usize = 8;
/// Orders on their way to a worker; more wait in the control plane.
pub const ORDERS_WAITING: usize = 16_384;
/// Orders that wait in the control plane; a worker that has not taken so many is given up.
pub const MAX_BACKLOG: usize = 65_536;
/// Legs of one worker.
pub const MAX_LEGS: usize = 4_096;
/// DSCP EF in the place of the TOS byte (RFC 4594 §4.1).
const EXPEDITED: u32 = 0xB8;
/// Readiness events taken from the kernel at once.
const EVENTS: usize = 256;
/// Ticks between two looks at each room's legs.
const SURVEY_TICKS: u64 = 50;
/// Ticks between two looks at how loud they are, while somebody watches: five looks a second.
const LOOK_TICKS: u64 = 10;

/// How the media plane is run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Threads; 0: one a core.
    pub workers: usize,
    /// How many voices a room mixes at once.
    pub voices: usize,
    /// When a leg is taken for dead.
    pub patience: Patience,
}

impl Default for Settings {
    fn default() -> Self {
        Self { workers: 0, voices: VOICES, patience: Patience::default() }
    }
}

/// How each leg does, for whoever reads it from another thread; renewed once a second, and how loud it is
/// every `LOOK_TICKS` while somebody watches.
///
/// Only the newest is kept, so who reads slowly costs nothing. A worker never waits for a reader: a leg
/// whose entry is being read is renewed the next time.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    legs: DashMap<LegId, LegHealth>,
    watched: AtomicU32,
}

/// Somebody watches how loud legs are, as long as this lives.
#[derive(Debug)]
pub struct Watch(Health);

impl Health {
    /// One leg's.
    pub fn get(&self, leg: LegId) -> Option<LegHealth> {
        self.0.legs.get(&leg).map(|health| *health)
    }

    /// Has workers show how loud legs are.
    #[must_use = "nobody watches any more once it is dropped"]
    pub fn watch(&self) -> Watch {
        self.0.watched.fetch_add(1, Ordering::Relaxed);
        Watch(self.clone())
    }

    fn is_watched(&self) -> bool {
        self.0.watched.load(Ordering::Relaxed) > 0
    }

    fn renew(&self, leg: LegId, renew: impl FnOnce(&mut LegHealth)) {
        if let TryResult::Present(mut entry) = self.0.legs.try_get_mut(&leg) {
            renew(&mut entry);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.0.watched.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The control plane's end of the workers.
#[derive(Debug)]
pub struct Media {
    workers: Vec<Handle>,
    rooms: BTreeMap<RoomName, Seat>,
    legs: BTreeMap<LegId, RoomName>,
    health: Health,
    pulses: Arc<[Pulse]>,
    random: StdRng,
}

/// Which worker has a room, and for how many legs.
#[derive(Debug)]
struct Seat {
    worker: usize,
    legs: usize,
}

#[derive(Debug)]
struct Handle {
    /// `None` once the worker is given up.
    jobs: Option<orders::SyncSender<Job>>,
    wake: Arc<EventFd>,
    backlog: VecDeque<Job>,
    legs: usize,
    /// What [`Media::moves`] saw last: ticks, if there were any legs to tick for.
    seen: Option<u64>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker shows of itself.
#[derive(Debug, Default)]
struct Pulse {
    /// How much of its time it uses, in thousandths.
    load: AtomicU32,
    /// Ticks since it began.
    ticks: AtomicU64,
}

/// An order, with the randomness that obeying it may take.
#[derive(Debug)]
struct Job {
    order: Order,
    seed: u64,
}

impl Media {
    /// Starts the workers. `random` decides what must be unguessable in RTP.
    pub fn start(
        settings: Settings,
        metrics: &Metrics,
        reports: &mpsc::Sender<Report>,
        random: StdRng,
    ) -> io::Result<Self> {
        let count = match settings.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        prompts::prepare();
        let health = Health::default();
        let pulses: Arc<[Pulse]> = (0..count).map(|_| Pulse::default()).collect();
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let (jobs, taken) = orders::sync_channel(ORDERS_WAITING);
            let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
            let wake = Arc::new(wake);
            let worker = Worker {
                number,
                jobs: taken,
                wake: Arc::clone(&wake),
                sockets: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
                rooms: BTreeMap::new(),
                ports: BTreeMap::new(),
                draining: vec![],
                reports: reports.clone(),
                waiting: VecDeque::new(),
                new_reports: vec![],
                meters: Meters::new(metrics),
                health: health.clone(),
                voices: settings.voices,
                patience: settings.patience,
                pulses: Arc::clone(&pulses),
                load: 0.0,
                pace: Pace::new(clock()),
                ticks: 0,
            };
            let thread =
                thread::Builder::new().name(format!("mix-{number}")).spawn(|| worker.run())?;
            workers.push(Handle {
                jobs: Some(jobs),
                wake,
                backlog: VecDeque::new(),
                legs: 0,
                seen: None,
                thread: Some(thread),
            });
        }
        Ok(Self { workers, rooms: BTreeMap::new(), legs: BTreeMap::new(), health, pulses, random })
    }

    /// How each leg does.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Hands orders to the workers, in order, without waiting; returns what is to report of it at
    /// once: legs that cannot be opened, legs whose worker is no more.
    ///
    /// To be called after every input, be there orders or not: what a busy worker could not take
    /// before is offered again. A leg whose opening failed is to be closed like any other.
    #[must_use = "what the control plane must know"]
    pub fn obey(&mut self, orders: impl IntoIterator<Item = Order>) -> Vec<Report> {
        let mut reports = vec![];
        for order in orders {
            let leg = match &order {
                Order::Open(plan) => {
                    if let Err(why) = self.seat(plan) {
                        reports.push(Report::OpenFailed { leg: plan.leg, why: why.to_owned() });
                        continue;
                    }
                    plan.leg
                }
                Order::Change(plan) => plan.leg,
                Order::Voice { leg, .. }
                | Order::Volume { leg, .. }
                | Order::Play { leg, .. }
                | Order::Close(leg) => *leg,
                Order::Chime { room, .. } => {
                    // Nobody is there to hear it, if the room has no worker.
                    if let Some(seat) = self.rooms.get(room) {
                        let job = Job { order, seed: 0 };
                        self.workers[seat.worker].backlog.push_back(job);
                    }
                    continue;
                }
            };
            let Some(worker) = self.worker_of(leg) else {
                debug!(%leg, "order for a leg that is not open");
                continue;
            };
            if let Order::Close(leg) = order {
                self.unseat(leg);
            }
            let seed = self.random.random();
            self.workers[worker].backlog.push_back(Job { order, seed });
        }
        for worker in 0..self.workers.len() {
            if self.workers[worker].flush().is_err() {
                self.give_up(worker, &mut reports);
            }
        }
        reports
    }

    /// Whether every worker that has legs has ticked since this was last asked: to be asked once a
    /// second.
    pub fn moves(&mut self) -> bool {
        let mut all = true;
        for (worker, pulse) in self.workers.iter_mut().zip(self.pulses.iter()) {
            let ticks = pulse.ticks.load(Ordering::Relaxed);
            all &= worker.jobs.is_some() && worker.seen != Some(ticks);
            worker.seen = (worker.legs > 0).then_some(ticks);
        }
        all
    }

    /// Ends all calls' media, with RTCP BYE, and the threads.
    pub fn stop(mut self) {
        for worker in &mut self.workers {
            let _ = worker.flush();
            worker.jobs = None;
            let _ = worker.wake.write(1);
        }
        for worker in &mut self.workers {
            if worker.thread.take().is_some_and(|thread| thread.join().is_err()) {
                error!("a media worker had panicked");
            }
        }
    }

    /// Finds a worker for a leg: the one that has its room, else the one with the fewest legs.
    fn seat(&mut self, plan: &LegPlan) -> Result<(), &'static str> {
        if self.legs.contains_key(&plan.leg) {
            return Err("leg is open already");
        }
        let worker = match self.rooms.get(&plan.room) {
            Some(seat) => seat.worker,
            None => (0..self.workers.len())
                .filter(|worker| self.workers[*worker].jobs.is_some())
                .min_by_key(|worker| self.workers[*worker].legs)
                .ok_or("no media worker is left")?,
        };
        let handle = &mut self.workers[worker];
        if handle.jobs.is_none() {
            return Err("the room's media worker is no more");
        }
        if handle.legs >= MAX_LEGS {
            return Err("the room's media worker is full");
        }
        handle.legs += 1;
        self.rooms.entry(plan.room.clone()).or_insert(Seat { worker, legs: 0 }).legs += 1;
        self.legs.insert(plan.leg, plan.room.clone());
        self.health.0.legs.insert(plan.leg, LegHealth::default());
        Ok(())
    }

    fn unseat(&mut self, leg: LegId) {
        self.health.0.legs.remove(&leg);
        let Some(room) = self.legs.remove(&leg) else { return };
        let Some(seat) = self.rooms.get_mut(&room) else { return };
        self.workers[seat.worker].legs -= 1;
        seat.legs -= 1;
        if seat.legs == 0 {
            self.rooms.remove(&room);
        }
    }

    fn worker_of(&self, leg: LegId) -> Option<usize> {
        Some(self.rooms.get(self.legs.get(&leg)?)?.worker)
    }

    /// A worker takes no more orders: its calls are lost, the others go on.
    fn give_up(&mut self, worker: usize, reports: &mut Vec<Report>) {
        if self.workers[worker].jobs.take().is_none() {
            return;
        }
        error!(worker, "a media worker takes no more orders; its calls are lost");
        self.workers[worker].backlog.clear();
        let lost = self.legs.keys().filter(|leg| self.worker_of(**leg) == Some(worker));
        reports.extend(lost.map(|leg| Report::Dead { leg: *leg }));
    }
}

impl Handle {
    /// Offers the worker what waits for it.
    fn flush(&mut self) -> Result<(), Gone> {
        let Some(jobs) = &self.jobs else {
            self.backlog.clear();
            return Ok(());
        };
        if self.backlog.is_empty() {
            return Ok(());
        }
        while let Some(job) = self.backlog.pop_front() {
            match jobs.try_send(job) {
                Ok(()) => {}
                Err(orders::TrySendError::Full(job)) => {
                    self.backlog.push_front(job);
                    break;
                }
                Err(orders::TrySendError::Disconnected(_)) => return Err(Gone),
            }
        }
        // Fails only if the counter is full, and then the worker is awake.
        let _ = self.wake.write(1);
        if self.backlog.len() > MAX_BACKLOG { Err(Gone) } else { Ok(()) }
    }
}

/// The worker has ended, or is stuck.
#[derive(Debug)]
struct Gone;

/// One thread, its rooms and their sockets.
#[derive(Debug)]
struct Worker {
    number: usize,
    jobs: orders::Receiver<Job>,
    wake: Arc<EventFd>,
    sockets: Epoll,
    rooms: BTreeMap<RoomName, Room>,
    ports: BTreeMap<LegId, Ports>,
    draining: Vec<Draining>,
    reports: mpsc::Sender<Report>,
    /// Reports that must not be lost, while the control plane is busy; bounded by the orders that
    /// it gave.
    waiting: VecDeque<Report>,
    new_reports: Vec<Report>,
    meters: Meters,
    health: Health,
    voices: usize,
    patience: Patience,
    /// Every worker's; this one's is at `number`.
    pulses: Arc<[Pulse]>,
    load: f64,
    pace: Pace,
    ticks: u64,
}

#[derive(Debug)]
struct Room {
    mix: Mix,
    /// When in the second its legs are looked at, in ticks: not all rooms at once.
    phase: u64,
}

/// A leg's sockets.
#[derive(Debug)]
struct Ports {
    room: RoomName,
    address: (IpAddr, u16),
    rtp: UdpSocket,
    rtcp: Option<UdpSocket>,
}

/// The sockets of a leg that was closed.
#[derive(Debug)]
struct Draining {
    ports: Ports,
    until: Instant,
}

impl Worker {
    fn run(mut self) {
        let mut due: Option<Instant> = None;
        loop {
            let asleep = clock();
            self.sleep(due.map(|due| due.min(asleep + SLICE).saturating_duration_since(asleep)));
            let now = clock();
            if !self.obey(now) {
                break;
            }
            self.receive(now);
            due = match due {
                _ if self.is_idle() => None,
                None => Some(now + TICK),
                Some(due) if due <= now => {
                    let next = self.catch_up(due);
                    self.measure(clock().saturating_duration_since(now));
                    Some(next)
                }
                Some(due) => Some(due),
            };
            self.deliver();
        }
        self.close_all(clock());
    }

    fn is_idle(&self) -> bool {
        self.ports.is_empty() && self.draining.is_empty() && self.waiting.is_empty()
    }

    /// Sleeps for a while, or until there are orders.
    fn sleep(&self, time: Option<Duration>) {
        let mut wake = [PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        // Interrupted or not: what is due is seen by the clock.
        let _ = ppoll(&mut wake, time.map(TimeSpec::from_duration), None);
    }

    /// Does all orders that are there; `false` when there will be no more.
    fn obey(&mut self, now: Instant) -> bool {
        // Empty if another order woke us: then there is nothing to read, and no harm.
        let _ = self.wake.read();
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.do_job(now, job),
                Err(orders::TryRecvError::Empty) => return true,
                Err(orders::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn do_job(&mut self, now: Instant, job: Job) {
        match job.order {
            Order::Open(plan) => {
                let leg = plan.leg;
                if let Err(why) = self.open(now, plan, job.seed) {
                    warn!(%leg, %why, "a leg could not be opened");
                    self.new_reports.push(Report::OpenFailed { leg, why });
                }
            }
            Order::Change(plan) => {
                let leg = plan.leg;
                self.with_room_of(leg, |mix, _, _| {
                    if let Err(why) = mix.change(now, plan) {
                        warn!(%leg, %why, "a leg's media could not be changed");
                    }
                });
            }
            Order::Voice { leg, heard, asked } => {
                self.with_room_of(leg, |mix, _, _| mix.voice(leg, heard, asked));
            }
            Order::Volume { leg, hears, speaks } => self.with_room_of(leg, |mix, _, _| {
                if let Err(why) = mix.volume(leg, hears, speaks) {
                    warn!(%leg, %why, "a leg's volume could not be changed");
                }
            }),
            Order::Play { leg, prompts, interrupt } => {
                self.with_room_of(leg, |mix, _, _| mix.play(leg, &prompts, interrupt));
            }
            Order::Chime { room, tone } => {
                if let Some(room) = self.rooms.get_mut(&room) {
                    room.mix.chime(tone);
                }
            }
            Order::Close(leg) => self.close(now, leg),
        }
    }

    /// Does something in a leg's room, within the border that a panic does not cross.
    fn with_room_of(
        &mut self,
        leg: LegId,
        what: impl FnOnce(&mut Mix, &BTreeMap<LegId, Ports>, &mut Vec<Report>),
    ) {
        let Some(ports) = self.ports.get(&leg) else { return };
        let Some(room) = self.rooms.get_mut(&ports.room) else { return };
        let reports = &mut self.new_reports;
        let done = catch_unwind(AssertUnwindSafe(|| what(&mut room.mix, &self.ports, reports)));
        if done.is_err() {
            let room = ports.room.clone();
            self.lose_room(&room);
        }
    }

    fn open(&mut self, now: Instant, plan: Box<LegPlan>, seed: u64) -> Result<(), String> {
        let (leg, address) = (plan.leg, (plan.local, plan.port));
        // The control plane wants the ports again; whatever was sent to the last call goes with it.
        self.draining.retain(|draining| draining.ports.address != address);
        let bind = |port| bind(plan.local, port).map_err(|why| format!("port {port}: {why}"));
        let rtp = bind(plan.port)?;
        let rtcp = match plan.mux {
            true => None,
            false => Some(bind(plan.port.checked_add(1).ok_or("no port for RTCP")?)?),
        };
        let room = plan.room.clone();
        let phase = self.rooms.len() as u64;
        let seat = self.rooms.entry(room.clone()).or_insert_with(|| {
            let mut mix = Mix::new(self.voices);
            mix.limit(self.pace.effort());
            Room { mix, phase }
        });
        if let Err(why) = seat.mix.open(now, plan, seed) {
            self.sweep(&room);
            return Err(why.to_string());
        }
        let watch = |socket: &UdpSocket, port| {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, token(leg, port));
            self.sockets.add(socket, event)
        };
        let watched = watch(&rtp, Port::Rtp)
            .and_then(|()| rtcp.as_ref().map_or(Ok(()), |rtcp| watch(rtcp, Port::Rtcp)));
        self.ports.insert(leg, Ports { room, address, rtp, rtcp });
        if let Err(why) = watched {
            self.close(now, leg);
            return Err(why.to_string());
        }
        Ok(())
    }

    fn close(&mut self, now: Instant, leg: LegId) {
        self.with_room_of(leg, |mix, ports, reports| {
            let mut send = |packet: Packet<'_>| send(ports, packet);
            mix.close(now, leg, &mut Out { send: &mut send, reports });
        });
        let Some(ports) = self.ports.remove(&leg) else { return };
        self.sweep(&ports.room);
        for socket in std::iter::once(&ports.rtp).chain(&ports.rtcp) {
            // Bound, but deaf: what still comes is dropped by the kernel, in as little memory as
            // it allows.
            let _ = self.sockets.delete(socket);
            let _ = SockRef::from(socket).set_recv_buffer_size(0);
        }
        self.draining.push(Draining { ports, until: now + DRAIN });
    }

    /// Forgets a room that nobody is in.
    fn sweep(&mut self, name: &RoomName) {
        if let Some(room) = self.rooms.get_mut(name).filter(|room| room.mix.is_empty()) {
            self.meters.count(&room.mix.take_tally());
            self.rooms.remove(name);
        }
    }

    /// A fault of ours in a room ends that room's calls, and no other's.
    fn lose_room(&mut self, name: &RoomName) {
        error!(room = %name, "a fault in a room's audio; its calls are lost");
        self.meters.panics.inc();
        if let Some(room) = self.rooms.remove(name) {
            // What is broken may break again while it is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(room)));
        }
        let lost = self.ports.iter().filter(|(_, ports)| ports.room == *name);
        self.new_reports.extend(lost.map(|(leg, _)| Report::Dead { leg: *leg }));
    }

    /// Reads what has come, at most [`MAX_BURST`] packets of each socket.
    fn receive(&mut self, now: Instant) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut packet = [0; MAX_PACKET + 1];
        let rounds = MAX_BURST * self.ports.len().div_ceil(EVENTS);
        for _ in 0..rounds {
            let ready = self.sockets.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            for event in &events[..ready] {
                let (leg, port) = leg_of(event.data());
                let Some(ports) = self.ports.get(&leg) else { continue };
                let Ok((len, from)) = ports.socket(port).recv_from(&mut packet) else { continue };
                self.with_room_of(leg, |mix, _, reports| {
                    mix.receive(now, leg, port, from, &packet[..len], reports);
                });
            }
            if ready == 0 {
                break;
            }
        }
    }

    /// Ticks once, and once more for each tick that was missed; returns when the next is due.
    fn catch_up(&mut self, mut due: Instant) -> Instant {
        for _ in 0..MAX_CATCH_UP {
            let now = clock();
            if due > now {
                return due;
            }
            self.obey(now);
            self.tick(now);
            due += TICK;
            if clock() > due {
                self.meters.late_ticks.inc();
            }
        }
        let behind = clock().saturating_duration_since(due);
        let missed = behind.as_nanos().div_ceil(TICK.as_nanos());
        if missed > 0 {
            warn!(worker = self.number, missed, "the mixer was held up and leaves ticks out");
            self.meters.late_ticks.inc_by(missed as u64);
            due = clock() + TICK;
        }
        due
    }

    fn tick(&mut self, now: Instant) {
        self.ticks += 1;
        let mut faulty = vec![];
        let ports = &self.ports;
        let mut send = |packet: Packet<'_>| send(ports, packet);
        let watched = self.health.is_watched();
        for (name, room) in &mut self.rooms {
            let began = clock();
            let ticks = self.ticks + room.phase;
            let survey = ticks.is_multiple_of(SURVEY_TICKS);
            let look = watched && ticks.is_multiple_of(LOOK_TICKS);
            let done = catch_unwind(AssertUnwindSafe(|| {
                let mut out = Out { send: &mut send, reports: &mut self.new_reports };
                room.mix.tick(now, &mut out);
                if survey {
                    room.mix.survey(now, &self.patience, out.reports, |leg, health| {
                        self.meters.jitter_buffer.observe(health.stats.jitter.delay_s);
                        self.health.renew(leg, |it| *it = health);
                    });
                    self.meters.count(&room.mix.take_tally());
                } else if look {
                    room.mix.voicings(|leg, voicing| {
                        self.health.renew(leg, |it| it.voicing = voicing);
                    });
                }
            }));
            if done.is_err() {
                faulty.push(name.clone());
            }
            self.meters.mix_tick.observe(clock().saturating_duration_since(began).as_secs_f64());
        }
        for room in faulty {
            self.lose_room(&room);
        }
        if self.ticks.is_multiple_of(SURVEY_TICKS) {
            self.draining.retain(|draining| draining.until > now);
        }
    }

    /// Keeps a smoothed account of how much of a tick's time is used.
    fn measure(&mut self, busy: Duration) {
        self.load += 0.05 * ((busy.as_secs_f64() / TICK.as_secs_f64()).min(1.0) - self.load);
        if let Some(step) = self.pace.follow(clock(), self.load) {
            debug!(
                worker = self.number,
                step = self.pace.step(),
                "encodes cost another amount now"
            );
            if step.down { &self.meters.steps_down } else { &self.meters.steps_up }.inc();
            self.rooms.values_mut().for_each(|room| room.mix.limit(step.effort));
        }
        let pulse = &self.pulses[self.number];
        pulse.load.store((self.load * 1_000.0) as u32, Ordering::Relaxed);
        pulse.ticks.store(self.ticks, Ordering::Relaxed);
        if self.ticks.is_multiple_of(SURVEY_TICKS) {
            let busiest = self.pulses.iter().map(|pulse| pulse.load.load(Ordering::Relaxed)).max();
            self.meters.stress.set(f64::from(busiest.unwrap_or(0)) / 1_000.0);
        }
    }

    /// Hands reports to the control plane as far as it takes them. What cannot wait is dropped; what
    /// must not be lost waits.
    fn deliver(&mut self) {
        self.waiting.extend(self.new_reports.drain(..));
        while let Some(report) = self.waiting.pop_front() {
            match self.reports.try_send(report) {
                Ok(()) => {}
                Err(TrySendError::Full(report)) => {
                    self.waiting.push_front(report);
                    let before = self.waiting.len();
                    self.waiting.retain(must_arrive);
                    let dropped = before - self.waiting.len();
                    if dropped > 0 {
                        warn!(dropped, "the control plane is busy: reports dropped");
                    }
                    return;
                }
                Err(TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
    }

    fn close_all(&mut self, now: Instant) {
        while let Some(leg) = self.ports.keys().next().copied() {
            self.close(now, leg);
        }
    }
}

/// Whether a report is worth keeping while the control plane is busy. Who speaks and which keys were
/// pressed is stale by then.
fn must_arrive(report: &Report) -> bool {
    match report {
        Report::OpenFailed { .. }
        | Report::Source { .. }
        | Report::VoiceApplied { .. }
        | Report::Dead { .. } => true,
        Report::Speaking { .. } | Report::Digit { .. } => false,
    }
}

impl Ports {
    fn socket(&self, port: Port) -> &UdpSocket {
        match port {
            Port::Rtp => &self.rtp,
            Port::Rtcp => self.rtcp.as_ref().unwrap_or(&self.rtp),
        }
    }
}

/// Sends a packet, or loses it, as networks do.
fn send(ports: &BTreeMap<LegId, Ports>, packet: Packet<'_>) {
    if let Some(ports) = ports.get(&packet.leg) {
        let _ = ports.socket(packet.port).send_to(packet.bytes, packet.to);
    }
}

/// Binds a UDP port for audio.
fn bind(address: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, port))?;
    socket.set_nonblocking(true)?;
    // A wish: networks that do not know it ignore it.
    let _ = match address {
        IpAddr::V4(_) => SockRef::from(&socket).set_tos_v4(EXPEDITED),
        IpAddr::V6(_) => SockRef::from(&socket).set_tclass_v6(EXPEDITED),
    };
    Ok(socket)
}

/// What epoll knows a socket by.
fn token(leg: LegId, port: Port) -> u64 {
    leg.0 << 1 | u64::from(port == Port::Rtcp)
}

fn leg_of(token: u64) -> (LegId, Port) {
    (LegId(token >> 1), if token & 1 == 1 { Port::Rtcp } else { Port::Rtp })
}

fn clock() -> Instant {
    Now::read().instant
}

/// The metrics that workers touch, looked up once.
#[derive(Debug)]
struct Meters {
    mix_tick: Histogram,
    late_ticks: IntCounter,
    encodes_shared: IntCounter,
    encodes_own: IntCounter,
    packets_in: IntCounter,
    packets_out: IntCounter,
    lost: IntCounter,
    concealed: IntCounter,
    fec: IntCounter,
    rejected_source: IntCounter,
    rejected_other: IntCounter,
    jitter_buffer: Histogram,
    stress: Gauge,
    steps_down: IntCounter,
    steps_up: IntCounter,
    panics: IntCounter,
}

impl Meters {
    fn new(metrics: &Metrics) -> Self {
        Self {
            mix_tick: metrics.mix_tick.clone(),
            late_ticks: metrics.mix_late_ticks.clone(),
            encodes_shared: metrics.encodes.with_label_values(&["shared"]),
            encodes_own: metrics.encodes.with_label_values(&["own"]),
            packets_in: metrics.rtp_packets.with_label_values(&["in"]),
            packets_out: metrics.rtp_packets.with_label_values(&["out"]),
            lost: metrics.rtp_lost.clone(),
            concealed: metrics.concealed_frames.clone(),
            fec: metrics.fec_frames.clone(),
            rejected_source: metrics.rtp_rejected.with_label_values(&["source"]),
            rejected_other: metrics.rtp_rejected.with_label_values(&["other"]),
            jitter_buffer: metrics.jitter_buffer.clone(),
            stress: metrics.stress.clone(),
            steps_down: metrics.effort_steps.with_label_values(&["down"]),
            steps_up: metrics.effort_steps.with_label_values(&["up"]),
            panics: metrics.panics.with_label_values(&["mix"]),
        }
    }

    fn count(&self, tally: &Tally) {
        self.encodes_shared.inc_by(tally.encodes_shared);
        self.encodes_own.inc_by(tally.encodes_own);
        self.packets_in.inc_by(tally.packets_in);
        self.packets_out.inc_by(tally.packets_out);
        self.lost.inc_by(tally.lost);
        self.concealed.inc_by(tally.concealed);
        self.fec.inc_by(tally.fec);
        self.rejected_source.inc_by(tally.rejected_source);
        self.rejected_other.inc_by(tally.rejected_other);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use cusax_media::FRAME_SAMPLES;
    use cusax_media::codec::{Codec, Encoder, EncoderSettings, OpusSettings};
    use cusax_media::leg::{Format, Leg, LegConfig};
    use rand::SeedableRng;

    use super::*;
    use crate::mixer::mix::Voicing;
    use crate::mixer::plan::{CodecKind, CodecPlan};

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// A caller on a real socket.
    struct Phone {
        socket: UdpSocket,
        leg: Leg,
        encoder: Encoder,
        hz: Option<f32>,
        played: usize,
        heard: Vec<f32>,
    }

    /// An even port that is free with the next one.
    fn free_port() -> u16 {
        (0..100)
            .find_map(|_| {
                let rtp = UdpSocket::bind((LOCALHOST, 0)).ok()?;
                let port = rtp.local_addr().ok()?.port();
                (port % 2 == 0).then_some(())?;
                UdpSocket::bind((LOCALHOST, port + 1)).ok().map(|_| port)
            })
            .unwrap()
    }

    fn plan(leg: u64, room: &str, remote: SocketAddr) -> LegPlan {
        LegPlan {
            leg: LegId(leg),
            room: RoomName::new(room).unwrap(),
            local: LOCALHOST,
            port: free_port(),
            remote: Some(remote),
            remote_rtcp: None,
            signalled_from: LOCALHOST,
            mux: false,
            codec: CodecPlan {
                kind: CodecKind::Opus,
                send_pt: 96,
                receive_pt: 96,
                max_bitrate: None,
                fec: true,
                dtx: false,
            },
            dtmf: vec![],
            level_ext: None,
            ssrc: leg as u32,
            cname: "mixer".to_owned(),
            srtp: None,
            hears: true,
            heard: true,
        }
    }

    impl Phone {
        fn dial(media: &mut Media, leg: u64, room: &str, hz: Option<f32>) -> Self {
            let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            let plan = plan(leg, room, socket.local_addr().unwrap());
            let format = Format { payload_type: 96, codec: Codec::Opus };
            let config = LegConfig {
                receive: vec![format],
                events: vec![],
                send: format,
                level_extension: None,
                rtcp_mux: false,
                remote: Some(SocketAddr::new(plan.local, plan.port)),
                remote_rtcp: None,
                signalling: None,
                srtp: None,
            };
            let settings = EncoderSettings::Opus(OpusSettings::default());
            let phone = Self {
                socket,
                leg: Leg::new(clock(), config, "phone", leg),
                encoder: Encoder::new(settings).unwrap(),
                hz,
                played: 0,
                heard: vec![],
            };
            assert_eq!(media.obey([Order::Open(Box::new(plan))]), vec![]);
            phone
        }

        /// Speaks and listens for 20 ms.
        fn tick(&mut self, now: Instant) {
            let (mut payload, mut packet) = ([0; 1_500], [0; 1_500]);
            if let Some(hz) = self.hz {
                let step = std::f32::consts::TAU * hz / 48_000.0;
                let frame = std::array::from_fn(|i| 0.2 * (step * (self.played + i) as f32).sin());
                self.played += FRAME_SAMPLES;
                let len = self.encoder.encode(&frame, &mut payload).unwrap();
                let samples = FRAME_SAMPLES as u32;
                let len = self.leg.packetize(now, &payload[..len], samples, &mut packet);
                let to = self.leg.remote(now).unwrap();
                self.socket.send_to(&packet[..len], to).unwrap();
            }
            while let Ok((len, from)) = self.socket.recv_from(&mut packet) {
                self.leg.receive(now, from, &packet[..len]);
            }
            let mut frame = [0.0; FRAME_SAMPLES];
            self.leg.tick(now, &mut frame);
            self.heard.extend_from_slice(&frame);
        }

        /// How loud a tone is in the last 200 ms heard.
        fn hears(&self, hz: f32) -> f32 {
            let last = &self.heard[self.heard.len() - 9_600..];
            let step = std::f32::consts::TAU * hz / 48_000.0;
            let (mut re, mut im) = (0.0, 0.0);
            for (i, sample) in last.iter().enumerate() {
                re += sample * (step * i as f32).cos();
                im += sample * (step * i as f32).sin();
            }
            2.0 * re.hypot(im) / last.len() as f32
        }
    }

    /// Waits by a socket that nothing comes to: what is tested here runs in real time.
    fn wait_until(moment: Instant) {
        let socket = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        loop {
            let left = moment.saturating_duration_since(clock());
            if left.is_zero() {
                return;
            }
            socket.set_read_timeout(Some(left)).unwrap();
            let _ = socket.recv(&mut [0]);
        }
    }

    fn run(phones: &mut [Phone], time: Duration) {
        let began = clock();
        let mut due = began;
        while due < began + time {
            wait_until(due);
            for phone in &mut *phones {
                phone.tick(due);
            }
            due += TICK;
        }
    }

    fn start(workers: usize) -> (Media, Metrics, mpsc::Receiver<Report>) {
        let (reports, told) = mpsc::channel(1_000);
        let metrics = Metrics::new();
        let settings = Settings { workers, ..Settings::default() };
        let media = Media::start(settings, &metrics, &reports, StdRng::seed_from_u64(1)).unwrap();
        (media, metrics, told)
    }

    fn all(told: &mut mpsc::Receiver<Report>) -> Vec<Report> {
        std::iter::from_fn(|| told.try_recv().ok()).collect()
    }

    #[test]
    fn callers_hear_each_other_until_one_is_muted_and_one_hangs_up() {
        let (mut media, metrics, mut told) = start(2);
        let mut phones = vec![
            Phone::dial(&mut media, 1, "one", Some(440.0)),
            Phone::dial(&mut media, 2, "one", Some(1_000.0)),
            Phone::dial(&mut media, 3, "one", None),
            Phone::dial(&mut media, 4, "two", None),
        ];
        run(&mut phones, Duration::from_millis(1_500));
        assert!(phones[0].hears(1_000.0) > 0.1 && phones[0].hears(440.0) < 0.02);
        assert!(phones[1].hears(440.0) > 0.1 && phones[1].hears(1_000.0) < 0.02);
        assert!(phones[2].hears(440.0) > 0.1 && phones[2].hears(1_000.0) > 0.1);
        assert!(phones[3].hears(440.0) < 0.001, "another room");
        let reports = all(&mut told);
        for report in [
            Report::Speaking { leg: LegId(1), on: true },
            Report::Speaking { leg: LegId(2), on: true },
        ] {
            assert!(reports.contains(&report), "{report:?} is not in {reports:?}");
        }
        assert!(media.health().get(LegId(1)).unwrap().stats.jitter.received > 20);
        assert!(media.moves());

        let asked = clock();
        let voice = Order::Voice { leg: LegId(1), heard: false, asked };
        assert_eq!(media.obey([voice, Order::Close(LegId(2))]), vec![]);
        run(&mut phones, Duration::from_millis(500));
        assert!(phones[2].hears(440.0) < 0.001 && phones[2].hears(1_000.0) < 0.001);
        let applied = all(&mut told).into_iter().find_map(|report| match report {
            Report::VoiceApplied { leg: LegId(1), heard: false, asked: from, at } => {
                assert_eq!(from, asked);
                Some(at.saturating_duration_since(asked))
            }
            Report::OpenFailed { .. }
            | Report::Source { .. }
            | Report::Speaking { .. }
            | Report::Digit { .. }
            | Report::VoiceApplied { .. }
            | Report::Dead { .. } => None,
        });
        assert!(applied.is_some());
        assert!(media.moves());
        assert!(!media.moves(), "nothing moved in no time");
        assert_eq!(media.health().get(LegId(2)), None);
        media.stop();
        assert!(metrics.rtp_packets.with_label_values(&["out"]).get() > 100);
        assert!(metrics.encodes.with_label_values(&["own"]).get() > 40);
        assert!(metrics.encodes.with_label_values(&["shared"]).get() > 20);
        assert_eq!(metrics.panics.with_label_values(&["mix"]).get(), 0);
    }

    #[test]
    fn a_port_that_is_taken_fails_one_leg() {
        let (mut media, _, mut told) = start(1);
        let taken = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        let mut plan = plan(1, "one", taken.local_addr().unwrap());
        plan.port = taken.local_addr().unwrap().port();
        assert_eq!(media.obey([Order::Open(Box::new(plan))]), vec![]);
        match told.blocking_recv() {
            Some(Report::OpenFailed { leg: LegId(1), why }) => assert!(why.contains("port")),
            other => panic!("{other:?}"),
        }
        assert_eq!(media.obey([Order::Close(LegId(1))]), vec![]);
        let phone = Phone::dial(&mut media, 2, "one", None);
        run(&mut [phone], Duration::from_millis(100));
        assert_eq!(all(&mut told), vec![]);
        media.stop();
    }

    /// A worker that is moved by hand.
    fn worker(waiting: usize) -> (Worker, orders::SyncSender<Job>, mpsc::Receiver<Report>) {
        let (jobs, taken) = orders::sync_channel(10);
        let (reports, told) = mpsc::channel(waiting);
        let worker = Worker {
            number: 0,
            jobs: taken,
            wake: Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap()),
            sockets: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap(),
            rooms: BTreeMap::new(),
            ports: BTreeMap::new(),
            draining: vec![],
            reports,
            waiting: VecDeque::new(),
            new_reports: vec![],
            meters: Meters::new(&Metrics::new()),
            health: Health::default(),
            voices: VOICES,
            patience: Patience::default(),
            pulses: [Pulse::default()].into_iter().collect(),
            load: 0.0,
            pace: Pace::new(clock()),
            ticks: 0,
        };
        (worker, jobs, told)
    }

    fn open(worker: &mut Worker, leg: u64, room: &str) -> u16 {
        let plan = plan(leg, room, SocketAddr::new(LOCALHOST, 9));
        let port = plan.port;
        worker.do_job(clock(), Job { order: Order::Open(Box::new(plan)), seed: leg });
        assert_eq!(worker.new_reports, []);
        port
    }

    #[test]
    fn a_fault_in_one_room_ends_its_calls_alone() {
        let (mut worker, _jobs, mut told) = worker(10);
        for (leg, room) in [(1, "good"), (2, "bad"), (3, "bad")] {
            open(&mut worker, leg, room);
        }
        worker.rooms.get_mut("bad").unwrap().mix.faulty = true;
        worker.tick(clock());
        worker.tick(clock());
        worker.deliver();
        assert_eq!(
            all(&mut told),
            [Report::Dead { leg: LegId(2) }, Report::Dead { leg: LegId(3) }]
        );
        assert_eq!(worker.meters.panics.get(), 1);
        assert_eq!(worker.rooms.len(), 1);
        for leg in [2, 3] {
            worker.do_job(clock(), Job { order: Order::Close(LegId(leg)), seed: 0 });
        }
        open(&mut worker, 4, "bad");
        worker.tick(clock());
        assert_eq!(worker.new_reports, []);
        assert_eq!((worker.rooms.len(), worker.ports.len(), worker.draining.len()), (2, 2, 2));
    }

    #[test]
    fn a_closed_port_stays_bound_and_deaf_until_it_is_wanted_or_thirty_seconds_passed() {
        let (mut worker, _jobs, _told) = worker(10);
        let now = clock();
        let port = open(&mut worker, 1, "one");
        worker.do_job(now, Job { order: Order::Close(LegId(1)), seed: 0 });
        assert!(worker.rooms.is_empty() && worker.ports.is_empty());
        assert!(UdpSocket::bind((LOCALHOST, port)).is_err(), "bound");
        let stale = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        stale.send_to(&[0x80; 172], (LOCALHOST, port)).unwrap();
        worker.receive(now);
        assert_eq!(worker.new_reports, []);

        // The next call on this port finds nothing in it.
        let mut next = plan(2, "one", SocketAddr::new(LOCALHOST, 9));
        next.port = port;
        worker.do_job(now, Job { order: Order::Open(Box::new(next)), seed: 0 });
        worker.receive(now);
        assert_eq!((worker.new_reports.len(), worker.draining.len()), (0, 0));
        let tally = worker.rooms.get_mut("one").unwrap().mix.take_tally();
        assert_eq!((tally.packets_in, tally.rejected_source, tally.rejected_other), (0, 0, 0));

        worker.do_job(now, Job { order: Order::Close(LegId(2)), seed: 0 });
        for second in 0..=DRAIN.as_secs() {
            worker.ticks = SURVEY_TICKS - 1;
            worker.tick(now + Duration::from_secs(second));
            let bound = UdpSocket::bind((LOCALHOST, port)).is_err();
            assert_eq!(bound, second < DRAIN.as_secs(), "after {second} s");
        }
    }

    #[test]
    fn how_loud_legs_are_is_shown_while_somebody_watches() {
        let (mut worker, _jobs, _told) = worker(10);
        open(&mut worker, 1, "one");
        let health = worker.health.clone();
        health.0.legs.insert(LegId(1), LegHealth::default());
        let loud = Voicing { level_dbov: -20.0, speaking: true };
        let after_a_look = |worker: &mut Worker| {
            health.renew(LegId(1), |it| it.voicing = loud);
            (0..LOOK_TICKS).for_each(|_| worker.tick(clock()));
            health.get(LegId(1)).unwrap().voicing
        };
        assert_eq!(after_a_look(&mut worker), loud, "nobody looks");
        let watches = [worker.health.watch(), worker.health.watch()];
        assert_eq!(after_a_look(&mut worker), Voicing::default());
        let [one, other] = watches;
        drop(one);
        assert_eq!(after_a_look(&mut worker), Voicing::default(), "one is left");
        drop(other);
        assert_eq!(after_a_look(&mut worker), loud);
    }

    #[test]
    fn what_must_be_told_waits_for_a_busy_control_plane() {
        let (mut worker, _jobs, mut told) = worker(2);
        let dead = |leg| Report::Dead { leg: LegId(leg) };
        let speaking = |leg| Report::Speaking { leg: LegId(leg), on: true };
        worker.new_reports.extend([speaking(1), speaking(2), dead(3), speaking(4), dead(5)]);
        worker.deliver();
        assert_eq!(all(&mut told), [speaking(1), speaking(2)]);
        worker.deliver();
        assert_eq!(all(&mut told), [dead(3), dead(5)]);
        assert!(worker.is_idle());
    }

    #[test]
    fn rooms_stay_whole_and_spread_over_workers() {
        let (mut media, _, _told) = start(2);
        let remote = SocketAddr::new(LOCALHOST, 9);
        for (leg, room) in [(1, "one"), (2, "two"), (3, "one"), (4, "three"), (5, "one")] {
            assert_eq!(media.obey([Order::Open(Box::new(plan(leg, room, remote)))]), vec![]);
        }
        let worker = |leg| media.worker_of(LegId(leg)).unwrap();
        assert_eq!([1, 2, 3, 4, 5].map(worker), [0, 1, 0, 1, 0]);
        let again = media.obey([Order::Open(Box::new(plan(1, "two", remote)))]);
        assert!(matches!(again[..], [Report::OpenFailed { leg: LegId(1), .. }]));
        assert_eq!(media.obey((1..=5).map(|leg| Order::Close(LegId(leg)))), vec![]);
        assert!(media.rooms.is_empty() && media.legs.is_empty());
        assert!(media.workers.iter().all(|worker| worker.legs == 0));
        media.stop();
    }

    #[test]
    fn a_worker_that_ended_takes_its_calls_with_it_and_no_more() {
        let (mut media, _, _told) = start(2);
        let remote = SocketAddr::new(LOCALHOST, 9);
        let open = |leg, room| [Order::Open(Box::new(plan(leg, room, remote)))];
        assert_eq!(media.obey(open(1, "one")), vec![]);
        assert_eq!(media.obey(open(2, "two")), vec![]);
        // Its end of the channel is dropped, as when a thread ends.
        let (jobs, ended) = orders::sync_channel(1);
        drop(ended);
        media.workers[0].jobs = Some(jobs);
        let voice = |leg| Order::Voice { leg: LegId(leg), heard: false, asked: clock() };
        assert_eq!(media.obey([voice(1), voice(2)]), vec![Report::Dead { leg: LegId(1) }]);
        assert!(!media.moves());
        assert!(matches!(media.obey(open(3, "one"))[..], [Report::OpenFailed { .. }]));
        assert_eq!(media.obey([Order::Close(LegId(1))]), vec![]);
        assert_eq!(media.obey(open(4, "one")), vec![], "the room begins anew, elsewhere");
        assert_eq!(media.worker_of(LegId(4)), Some(1));
        media.stop();
    }
}
