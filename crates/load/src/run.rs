//! A run: everybody sends 50 packets a second and keeps account of what comes.
//!
//! One thread does it, in steps of 1 ms, so that people's packets are spread over the 20 ms as those of
//! real phones are; after each step it reads whatever has come.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;
use cusax_media::rtp::Packet;
use cusax_media::{FRAME_SAMPLES, MAX_PACKET};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::Serialize;

use crate::janus::Session;
use crate::sip::{Calls, LEVEL_ID, Seat, Wish};
use crate::speech::{CYCLE, Coding, Frame, MARKER, Track};
use crate::{Microphone, Plan, clock, ear, speech, usage};

const STEP: Duration = Duration::from_millis(1);
/// Steps in a frame.
const STEPS: usize = 20;
/// Rooms do not all pause at once: each is so many frames ahead of the one before.
const ROOM_SHIFT: usize = 37;
/// How much of what they hear people keep, to look for the marker in: 800 ms of 20 ms frames.
const EARFUL: usize = 40;
/// Frames between two packets of a listener that does DTX.
const DTX_PACE: usize = 20;

/// What a run has found. Times are ms, sizes bytes; what is `None` could not be measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    rooms: u32,
    people: u32,
    talkers: u32,
    seconds: u32,
    /// The server's CPU time, in ms for each second of each person.
    cpu_ms_per_person_second: Option<f64>,
    /// The server's CPU time, as a share of one core.
    cpu_share: Option<f64>,
    /// The server's private memory before anybody called, and while they did.
    memory_before: Option<u64>,
    memory: Option<u64>,
    /// Of the packets that people should have got, the part that did not come.
    shortfall: f64,
    /// How much later than the fastest packets came, to the same person.
    delay_variation_p99_ms: Option<f64>,
    /// Markers that should have been heard by the people who decode, and were.
    markers: u64,
    markers_heard: u64,
    /// Times that somebody heard their own marker.
    own_heard: u64,
    /// From a mouth to an ear, less what encoder and decoder take by themselves.
    latency_p50_ms: Option<f64>,
    latency_p99_ms: Option<f64>,
    latencies: usize,
    /// How late the generator itself was.
    lateness_p99_ms: f64,
    /// Packets that it could not send.
    unsent: u64,
    /// Payloads that are no Opus.
    undecodable: u64,
}

/// Someone with a phone.
#[derive(Debug)]
struct Person {
    socket: UdpSocket,
    seat: Seat,
    /// Which room, and how many frames its cycle is ahead.
    room: usize,
    ahead: usize,
    says: Says,
    ssrc: u32,
    sequence: u16,
    ear: Option<Box<Ear>>,
    /// The timestamp of the first packet within the measured time, and of all: their arrival less their
    /// timestamp, in ms.
    first: Option<u32>,
    delays_ms: Vec<f32>,
}

#[derive(Clone, Copy, Debug)]
enum Says {
    /// This talker's track.
    Track(usize),
    /// This noise, from this frame on.
    Noise(usize, usize),
}

/// Someone who decodes what they hear.
#[derive(Debug)]
struct Ear {
    decoder: opus::Decoder,
    /// When each of the frames in `heard` came.
    times: Vec<Instant>,
    heard: Vec<f32>,
    /// The marker that is listened for.
    listening: Option<Awaited>,
}

/// A marker that has been played.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    talker: usize,
    sent: Instant,
    /// Where it begins in what was sent, in ms.
    onset_ms: f64,
    own: bool,
}

#[derive(Debug, Default)]
struct Tally {
    markers: u64,
    heard: u64,
    own: u64,
    unsent: u64,
    undecodable: u64,
    latencies_ms: Vec<f64>,
    lateness_ms: Vec<f64>,
}

#[derive(Debug)]
enum Line {
    Sip(Calls),
    Janus(Session),
}

/// Does what the plan says.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Report> {
    let coding = Coding { bitrate: plan.bitrate, celt: plan.celt };
    let talkers = plan.talkers as usize;
    let (warm_up, measured) = (frames(plan.warm_up), frames(plan.seconds));
    let text = speech::read(&plan.speech)?;
    let length = warm_up + measured + CYCLE + 2 * EARFUL;
    let tracks = (0..talkers)
        .map(|number| speech::track(&text, coding, (number, talkers), length))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let noises = speech::noises(coding)?;
    let memory = || plan.pid.map(usage::memory_bytes).transpose();
    let memory_before = memory()?;
    let (mut people, line) = gather(plan)?;
    let sockets = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (number, person) in people.iter().enumerate() {
        sockets.add(&person.socket, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
    }
    let mut tally = Tally::default();
    let mut stage = Stage { plan, tracks: &tracks, noises: &noises, sockets, measured: None };
    let begun = clock();
    let mut cpu = (None, None);
    let mut seen = (None, begun, begun);
    for step in 0..(warm_up + measured) * STEPS {
        let due = begun + STEP * u32::try_from(step)?;
        stage.receive(&mut people, &mut tally, Some(due));
        let now = clock();
        if step == warm_up * STEPS {
            cpu.0 = plan.pid.map(usage::cpu_ns).transpose()?;
            seen.1 = now;
            stage.measured = Some(now);
        }
        if stage.measured.is_some() {
            let late = now.saturating_duration_since(due);
            tally.lateness_ms.push(late.as_secs_f64() * 1_000.0);
        }
        let frame = step / STEPS;
        for person in people.iter_mut().skip(step % STEPS).step_by(STEPS) {
            stage.say(person, frame, &mut tally)?;
        }
        for (number, person) in people.iter_mut().enumerate().skip(step % STEPS).step_by(STEPS) {
            stage.listen(number, person, frame, &mut tally);
        }
    }
    cpu.1 = plan.pid.map(usage::cpu_ns).transpose()?;
    seen.2 = clock();
    seen.0 = memory()?;
    stage.measured = None;
    match line {
        Line::Sip(calls) => calls.hang_up()?,
        Line::Janus(session) => session.leave()?,
    }
    let lasted = seen.2.saturating_duration_since(seen.1).as_secs_f64();
    let used = cpu.0.zip(cpu.1).map(|(from, to)| (to - from) as f64 / 1e9 / lasted);
    let expected = (lasted * 50.0).floor() * people.len() as f64;
    let came: usize = people.iter().map(|person| person.delays_ms.len()).sum();
    let mut delays: Vec<f64> = people.iter().flat_map(Person::variation_ms).collect();
    let latencies = tally.latencies_ms.len();
    Ok(Report {
        rooms: plan.rooms,
        people: plan.people,
        talkers: plan.talkers,
        seconds: plan.seconds,
        cpu_ms_per_person_second: used.map(|used| used * 1_000.0 / people.len() as f64),
        cpu_share: used,
        memory_before,
        memory: seen.0,
        shortfall: (1.0 - came as f64 / expected).max(0.0),
        delay_variation_p99_ms: part(&mut delays, 0.99),
        markers: tally.markers,
        markers_heard: tally.heard,
        own_heard: tally.own,
        latency_p50_ms: part(&mut tally.latencies_ms, 0.5),
        latency_p99_ms: part(&mut tally.latencies_ms, 0.99),
        latencies,
        lateness_p99_ms: part(&mut tally.lateness_ms, 0.99).unwrap_or(f64::INFINITY),
        unsent: tally.unsent,
        undecodable: tally.undecodable,
    })
}

/// Gives everybody a socket and a seat in their room.
fn gather(plan: &Plan) -> anyhow::Result<(Vec<Person>, Line)> {
    let (mut sockets, mut wishes) = (vec![], vec![]);
    for room in 0..plan.rooms {
        for number in 0..plan.people {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            let port = socket.local_addr()?.port();
            sockets.push(socket);
            wishes.push(Wish {
                room: format!("bench-{room}"),
                name: format!("p{room}-{number}"),
                port,
            });
        }
    }
    let (line, seats) = match (&plan.janus, plan.sip) {
        (Some(path), _) => {
            let (session, seats) = Session::join(path, &wishes, plan.bitrate, plan.janus_quality)?;
            (Line::Janus(session), seats)
        }
        (None, Some(server)) => {
            let (calls, seats) =
                Calls::dial(server, &plan.domain, wishes, plan.levels, plan.bitrate)?;
            (Line::Sip(calls), seats)
        }
        (None, None) => anyhow::bail!("neither --sip nor --janus"),
    };
    // Talkers' ears first, then whoever else there is, evenly.
    let all = sockets.len();
    let (size, talkers) = (plan.people as usize, plan.talkers as usize);
    let speaking = talkers * plan.rooms as usize;
    let others = all - speaking;
    let others_heard = plan.ears.saturating_sub(speaking).min(others);
    let (mut spoken, mut silent) = (0, 0);
    let people = sockets.into_iter().zip(seats).enumerate().map(|(number, (socket, seat))| {
        let (room, place) = (number / size, number % size);
        let listens = if place < talkers {
            spoken += 1;
            spoken <= plan.ears
        } else {
            silent += 1;
            silent * others_heard / others > (silent - 1) * others_heard / others
        };
        socket.connect(seat.media)?;
        let says = match place < talkers {
            true => Says::Track(place),
            false => Says::Noise(number, number * 7),
        };
        Ok(Person {
            socket,
            seat,
            room,
            ahead: room * ROOM_SHIFT % CYCLE,
            says,
            ssrc: 0x1000_0000 + u32::try_from(number)?,
            sequence: 0,
            ear: listens.then(Ear::new).transpose()?.map(Box::new),
            first: None,
            delays_ms: Vec::with_capacity(frames(plan.seconds) + 50),
        })
    });
    Ok((people.collect::<anyhow::Result<_>>()?, line))
}

/// Everything that does not change while people talk.
#[derive(Debug)]
struct Stage<'a> {
    plan: &'a Plan,
    tracks: &'a [Track],
    noises: &'a [Vec<Frame>],
    sockets: Epoll,
    /// Since when what comes is counted.
    measured: Option<Instant>,
}

impl Stage<'_> {
    /// Sends a person's packet of a frame, if they send one.
    fn say(&self, person: &mut Person, n: usize, tally: &mut Tally) -> anyhow::Result<()> {
        let microphone = self.plan.listeners;
        let frame = match person.says {
            Says::Track(track) => self.tracks[track].frames.get(n + person.ahead),
            Says::Noise(noise, from) => {
                let silent = match microphone {
                    Microphone::Noise => false,
                    Microphone::Dtx => !(n + from).is_multiple_of(DTX_PACE),
                    Microphone::None => n > 0,
                };
                let noise = &self.noises[noise % self.noises.len()];
                (!silent).then(|| &noise[(n + from) % noise.len()])
            }
        };
        let Some(frame) = frame else { return Ok(()) };
        let mut packet = Vec::with_capacity(MAX_PACKET);
        let extended = self.plan.levels && person.seat.levels;
        packet.extend([0x80 | u8::from(extended) << 4, person.seat.payload_type]);
        packet.extend(person.sequence.to_be_bytes());
        packet.extend(u32::try_from(n * FRAME_SAMPLES)?.to_be_bytes());
        packet.extend(person.ssrc.to_be_bytes());
        if extended {
            // One-byte header extensions, one word (RFC 8285 §4.2).
            packet.extend([0xBE, 0xDE, 0, 1, LEVEL_ID << 4, frame.level, 0, 0]);
        }
        packet.extend(&frame.payload);
        person.sequence = person.sequence.wrapping_add(1);
        tally.unsent += u64::from(person.socket.send(&packet).is_err());
        Ok(())
    }

    /// Begins to listen for the marker when it is played, and looks for it some time later.
    fn listen(&self, number: usize, person: &mut Person, n: usize, tally: &mut Tally) {
        let Some(ear) = &mut person.ear else { return };
        let place = (n + person.ahead) % CYCLE;
        let cycle = (n + person.ahead) / CYCLE;
        let talkers = self.tracks.len();
        let talker = cycle % talkers;
        if place == MARKER && self.measured.is_some() {
            // Everybody's packets of a frame go out in their own step.
            let speaker = person.room * self.plan.people as usize + talker;
            let steps = (speaker % STEPS) as i64 - (number % STEPS) as i64;
            let apart = STEP * steps.unsigned_abs() as u32;
            let now = clock();
            let sent = if steps < 0 { now.checked_sub(apart).unwrap_or(now) } else { now + apart };
            let own = matches!(person.says, Says::Track(track) if track == talker);
            if let Some(onset_ms) = self.tracks[talker].onsets_ms.get(cycle).copied().flatten() {
                ear.listening = Some(Awaited { talker, sent, onset_ms, own });
                ear.times.clear();
                ear.heard.clear();
            }
        } else if place == (MARKER + EARFUL) % CYCLE
            && let Some(awaited) = ear.listening.take()
        {
            let found = ear::find(&ear.heard, self.tracks[awaited.talker].hz);
            if awaited.own {
                tally.own += u64::from(found.is_some());
                return;
            }
            tally.markers += 1;
            let Some(found) = found else { return };
            tally.heard += 1;
            if let Some(came) = ear.times.get(found / FRAME_SAMPLES) {
                let offset_ms = (found % FRAME_SAMPLES) as f64 / 48.0;
                let way = signed_ms(awaited.sent, *came);
                tally.latencies_ms.push(way + offset_ms - awaited.onset_ms);
            }
        }
    }

    /// Reads what comes until a moment; at least what is there.
    fn receive(&self, people: &mut [Person], tally: &mut Tally, until: Option<Instant>) {
        let mut events = [EpollEvent::empty(); 512];
        let mut packet = [0; MAX_PACKET];
        loop {
            let ready = self.sockets.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
            let now = clock();
            for event in &events[..ready] {
                let Some(person) = people.get_mut(event.data() as usize) else { continue };
                while let Ok(len) = person.socket.recv(&mut packet) {
                    person.hear(now, &packet[..len], self.measured, tally);
                }
            }
            let left = until.map(|until| until.saturating_duration_since(clock()));
            match left {
                Some(left) if !left.is_zero() => pause(left.min(STEP / 2)),
                Some(_) | None if ready < events.len() => return,
                Some(_) | None => {}
            }
        }
    }
}

impl Person {
    fn hear(&mut self, now: Instant, packet: &[u8], measured: Option<Instant>, tally: &mut Tally) {
        let Ok(packet) = Packet::parse(packet) else { return };
        if packet.payload_type() != self.seat.payload_type {
            return;
        }
        if let Some(since) = measured {
            let at = now.saturating_duration_since(since).as_secs_f64() * 1_000.0;
            let first = *self.first.get_or_insert(packet.timestamp());
            let media = packet.timestamp().wrapping_sub(first) as i32;
            self.delays_ms.push((at - f64::from(media) / 48.0) as f32);
        }
        let Some(ear) = &mut self.ear else { return };
        let mut frame = [0.0; FRAME_SAMPLES];
        let decoded = ear.decoder.decode_float(packet.payload(), &mut frame, false);
        if decoded.is_err() {
            tally.undecodable += 1;
        } else if ear.listening.is_some() && ear.times.len() < EARFUL {
            ear.times.push(now);
            ear.heard.extend(frame);
        }
    }

    /// How much later than the fastest each packet came.
    fn variation_ms(&self) -> impl Iterator<Item = f64> {
        let least = self.delays_ms.iter().copied().reduce(f32::min).unwrap_or(0.0);
        self.delays_ms.iter().map(move |delay| f64::from(delay - least))
    }
}

impl Ear {
    fn new() -> anyhow::Result<Self> {
        let decoder = opus::Decoder::new(48_000, opus::Channels::Mono).context("a decoder")?;
        Ok(Self { decoder, times: vec![], heard: vec![], listening: None })
    }
}

fn frames(seconds: u32) -> usize {
    seconds as usize * 50
}

fn signed_ms(from: Instant, to: Instant) -> f64 {
    let ahead = to.saturating_duration_since(from).as_secs_f64();
    let behind = from.saturating_duration_since(to).as_secs_f64();
    (ahead - behind) * 1_000.0
}

/// A part of some figures, from 0.0 (the least) to 1.0.
fn part(figures: &mut [f64], part: f64) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().checked_sub(1)?;
    figures.get((last as f64 * part).round() as usize).copied()
}

#[expect(clippy::disallowed_methods, reason = "this is the event loop of a generator in real time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
