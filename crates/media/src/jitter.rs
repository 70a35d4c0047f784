//! The jitter buffer: packets in as they come, a steady stream out.
//!
//! # How it decides
//! Every packet's *relative delay* is its arrival minus its timestamp, above the least of the last two seconds.
//! The buffer aims to play a sample [`JitterStats::target_s`] after the earliest moment it could have come: the
//! delay that all but 3 % of packets keep within, and a margin. It grows at once, by making up a tick of sound;
//! it shrinks by at most a tick a second and, unless far too long, only where it is quiet. In pauses it moves freely.
//!
//! What is not there when due is one of three things, told apart by the sequence numbers: *lost* (a number is
//! missing: repaired from the following packet's copy, or concealed), *late* (nothing has come yet: concealed, and
//! time stands still until it comes or a later one proves it lost) or a *pause* (the numbers go on over a gap in the
//! timestamps: the sender had nothing to send, so nothing is made up).
//!
//! Times within are microseconds since the buffer was made, and samples of the stream's clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::TICK;
use crate::rtp::unwrap_timestamp;

/// The least delay aimed at.
pub const MIN_TARGET: Duration = Duration::from_millis(10);
/// The delay aimed at before anything is known.
pub const START_TARGET: Duration = Duration::from_millis(40);
/// The largest delay aimed at.
pub const MAX_TARGET: Duration = Duration::from_millis(400);
/// A change of delay beyond this is no jitter: the buffer starts anew.
pub const RESET: Duration = Duration::from_secs(1);
/// Packets held at most: more than [`RESET`] in packets of 10 ms.
pub const MAX_PACKETS: usize = 128;
/// Sound is made up for at most this long in a row; then there is silence.
pub const MAX_CONCEAL: Duration = Duration::from_millis(100);
/// At most one tick is taken out in this time.
pub const SHRINK_PACE: Duration = Duration::from_secs(1);

/// Added to the measured quantile.
const MARGIN_US: i64 = 10_000;
/// What is due within this is due.
const DUE_US: i64 = 2_500;
/// So much may be wanting before it grows.
const GROW_US: i64 = 5_000;
/// Excess over the target from which a quiet moment is used to shrink …
const SHRINK_QUIET_US: i64 = 20_000;
/// … and on a network that loses nothing, and wants no more than this.
const STEADY_US: i64 = 30_000;
const SHRINK_STEADY_US: i64 = 8_000;
/// So much of it is left when speech is cut: a target that wavers shall not have it made up again.
const SPARED: Duration = Duration::from_millis(3);
/// Excess from which it shrinks whatever is being said.
const SHRINK_ANYWAY_US: i64 = 60_000;
/// After a loss or disorder, a frame more is held for this long, so that the copy in the next packet comes in time.
const LOSS_MEMORY_US: i64 = 10_000_000;
const TICK_US: i64 = TICK.as_micros() as i64;

/// One packet on its way into the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a, Tag> {
    /// RTP sequence number, free of wrapping.
    pub sequence: i64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Length in the stream's clock.
    pub samples: u32,
    /// First of a talk-spurt.
    pub marker: bool,
    /// The sender announces a pause: nothing need be made up after it.
    pub silent: bool,
    /// Holds a copy of the frame before it.
    pub fec: bool,
    /// Whatever the caller wants back with it.
    pub tag: Tag,
    /// The payload.
    pub payload: &'a [u8],
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It will be played.
    Buffered,
    /// It came before.
    Duplicate,
    /// Its moment has passed.
    Late,
}

/// What to play next. Lengths are in the stream's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Played<'a, Tag> {
    /// Decode this.
    Packet {
        /// The payload.
        payload: &'a [u8],
        /// The caller's.
        tag: Tag,
    },
    /// Decode the copy of a lost frame in this payload, which is played next.
    Fec {
        /// The following packet's payload.
        next: &'a [u8],
        /// The following packet's.
        tag: Tag,
        /// Length of the lost frame.
        samples: u32,
    },
    /// Make up this much.
    Conceal {
        /// How much.
        samples: u32,
    },
    /// The sender is silent.
    Silence {
        /// For how long.
        samples: u32,
    },
}

/// What the jitter buffer has counted since it was made, in packets unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JitterStats {
    /// Taken into the buffer.
    pub received: u64,
    /// Came after their moment.
    pub late: u64,
    /// Came twice.
    pub duplicate: u64,
    /// Frames of 20 ms made up because nothing was there to play.
    pub concealed: u64,
    /// Frames repaired from the copy in the following packet.
    pub fec: u64,
    /// Ticks made up to let the delay grow.
    pub grown: u64,
    /// Ticks taken out to let it shrink.
    pub shrunk: u64,
    /// Times that the buffer started anew.
    pub resets: u64,
    /// The delay that the buffer adds now, in seconds.
    pub delay_s: f64,
    /// The delay that it aims at, in seconds.
    pub target_s: f64,
}

#[derive(Clone, Debug)]
struct Entry<Tag> {
    sequence: i64,
    timestamp: i64,
    samples: i64,
    silent: bool,
    fec: bool,
    tag: Tag,
    payload: Vec<u8>,
}

/// The buffer of one stream.
#[derive(Clone, Debug)]
pub struct JitterBuffer<Tag> {
    /// The stream's clock, in Hz.
    rate: i64,
    origin: Instant,
    /// By sequence number. An entry without samples keeps the place of a packet that is not audio.
    entries: VecDeque<Entry<Tag>>,
    /// Payload buffers to be used again: nothing is allocated in steady state.
    free: Vec<Vec<u8>>,
    current: Vec<u8>,
    delays: Delays,
    target_us: i64,
    /// The newest timestamp, free of wrapping, that others are unwrapped by.
    newest: Option<i64>,
    /// What comes after that which was played last; `None` before anything was.
    next: Option<Position>,
    /// Sound is running: what follows must join on.
    playing: bool,
    /// The last packet announced a pause.
    silent: bool,
    /// Length of the last packet, in samples.
    frame: i64,
    /// Playing time minus media time of what was played last.
    offset_us: i64,
    /// The stream has just begun, perhaps with a burst of packets that were held up somewhere.
    settling: bool,
    /// Samples made up since the buffer ran dry.
    starved: i64,
    /// Samples made up in place of lost ones.
    concealed: i64,
    /// When something was last missing, or out of order.
    lost_at_us: Option<i64>,
    /// How much of a tick the caller had already when it last asked for more.
    left_over_us: i64,
    shrunk_at_us: Option<i64>,
    stats: JitterStats,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    sequence: i64,
    timestamp: i64,
    /// Which of the 64 sequence numbers before this one came, nearest first.
    came: u64,
    /// Numbers since then that were no audio.
    skipped: i64,
    /// Samples made up since then in place of lost ones.
    made_up: i64,
}

impl<Tag: Copy> JitterBuffer<Tag> {
    /// An empty buffer for a stream whose RTP clock is `rate` Hz.
    #[must_use]
    pub fn new(now: Instant, rate: u32) -> Self {
        Self {
            rate: rate.max(1).into(),
            origin: now,
            entries: VecDeque::with_capacity(16),
            free: Vec::new(),
            current: Vec::new(),
            delays: Delays::default(),
            target_us: START_TARGET.as_micros() as i64,
            newest: None,
            next: None,
            playing: false,
            silent: false,
            frame: i64::from(rate) / 50,
            offset_us: 0,
            settling: true,
            starved: 0,
            concealed: 0,
            lost_at_us: None,
            left_over_us: 0,
            shrunk_at_us: None,
            stats: JitterStats::default(),
        }
    }

    /// The stream's clock in Hz.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.rate as u32
    }

    /// Forgets the stream, keeps the counters: another stream begins, with a clock of `rate` Hz.
    pub fn restart(&mut self, rate: u32) {
        self.stats.resets += u64::from(self.newest.is_some());
        while self.drop_front() {}
        let before = std::mem::replace(&mut self.rate, rate.max(1).into());
        self.concealed = self.concealed * self.rate / before;
        self.frame = self.rate / 50;
        self.delays.clear();
        self.newest = None;
        self.next = None;
        self.playing = false;
        self.silent = false;
        self.starved = 0;
        self.settling = true;
    }

    /// Takes a packet.
    pub fn insert(&mut self, now: Instant, arrival: &Arrival<'_, Tag>) -> Inserted {
        let at = self.place(arrival.sequence);
        let Ok(at) = at else {
            self.stats.duplicate += 1;
            return Inserted::Duplicate;
        };
        if self.came_before(arrival.sequence) {
            self.stats.duplicate += 1;
            return Inserted::Duplicate;
        }
        let timestamp = self
            .newest
            .map_or(i64::from(arrival.timestamp), |n| unwrap_timestamp(n, arrival.timestamp));
        let delay = self.micros(now) - self.media_us(timestamp);
        let end = timestamp + i64::from(arrival.samples);
        let late = self
            .next
            .is_some_and(|n| arrival.sequence < n.sequence || n.made_up > 0 && end <= n.timestamp);
        let apart = self.delays.relative(delay).abs();
        if apart > RESET.as_micros() as i64 {
            if late {
                self.stats.late += 1;
                return Inserted::Late;
            }
            self.restart(self.rate as u32);
            return self.insert(now, arrival);
        }
        // After a pause, a marked packet that does not fit may belong to a sender whose clock stood still meanwhile.
        if arrival.marker
            && !self.playing
            && self.entries.is_empty()
            && apart > MAX_CONCEAL.as_micros() as i64
        {
            self.delays.clear();
        }
        if self.settling && self.newest.is_some() {
            // Each comes faster than the one before: they were held up together, and tell nothing of what follows.
            self.settling = self.delays.relative(delay) < 0;
            if self.settling {
                self.delays.clear();
            }
        }
        if self.newest.is_some_and(|newest| timestamp < newest) {
            self.lost_at_us = Some(self.micros(now));
        }
        self.newest = Some(self.newest.map_or(timestamp, |newest| newest.max(timestamp)));
        self.measure(now, delay, arrival.samples.into());
        if late {
            self.stats.late += 1;
            return Inserted::Late;
        }
        let mut at = at;
        if self.entries.len() >= MAX_PACKETS {
            self.drop_front();
            self.stats.late += 1;
            at = at.saturating_sub(1);
        }
        let mut payload = self.free.pop().unwrap_or_default();
        payload.clear();
        payload.extend_from_slice(arrival.payload);
        self.entries.insert(
            at,
            Entry {
                sequence: arrival.sequence,
                timestamp,
                samples: arrival.samples.max(1).into(),
                silent: arrival.silent,
                fec: arrival.fec,
                tag: arrival.tag,
                payload,
            },
        );
        self.stats.received += 1;
        Inserted::Buffered
    }

    /// Keeps the place of a packet that shares the stream's numbers and is no audio (RFC 4733), so that it is not
    /// taken for lost.
    pub fn skip(&mut self, sequence: i64, tag: Tag) {
        let passed = self.next.is_some_and(|next| sequence < next.sequence);
        if let (Ok(at), false) = (self.place(sequence), passed || self.entries.len() >= MAX_PACKETS)
        {
            let payload = self.free.pop().unwrap_or_default();
            self.entries.insert(
                at,
                Entry {
                    sequence,
                    timestamp: 0,
                    samples: 0,
                    silent: true,
                    fec: false,
                    tag,
                    payload,
                },
            );
        }
    }

    /// What to play at `at`, the moment at which its first sample will be heard. Silence, and what is made up while
    /// waiting, is as long as `wanted` (in the stream's clock); packets and what stands for them are as long as they are.
    pub fn pop(&mut self, at: Instant, wanted: u32) -> Played<'_, Tag> {
        let at_us = self.micros(at);
        let wanted = i64::from(wanted.max(1));
        self.left_over_us = (TICK_US - wanted * 1_000_000 / self.rate).max(0);
        loop {
            self.pass_skipped();
            let Some(front) = self.entries.front() else {
                return self.starve(wanted);
            };
            let offset = at_us - self.media_us(front.timestamp);
            let (gap, missing, made_up) = match self.next {
                Some(next) => (
                    front.timestamp - next.timestamp,
                    front.sequence - next.sequence - next.skipped,
                    next.made_up,
                ),
                None => (0, 0, 0),
            };
            // What was waited for is lost; the waiting has filled its place already.
            if self.starved > 0 && gap > 0 && missing > 0 {
                self.lost_at_us = Some(at_us);
                let filled = self.starved.min(gap).min(missing * self.frame);
                if let Some(next) = &mut self.next {
                    next.timestamp += filled;
                    next.made_up += filled;
                }
                self.concealed += filled;
                self.starved = 0;
                continue;
            }
            // Beyond what the missing numbers can have held, the sender had nothing to say.
            let pause = gap > 0 && made_up >= (missing * self.frame).min(self.conceal_limit());
            if pause {
                self.playing = false;
            }
            let target = self.target_us + self.delays.least;
            // What was waited for is played with as little extra delay as the target allows; the first words
            // after a pause are not thrown away for that.
            let limit = if pause || self.playing && self.starved == 0 {
                (MAX_TARGET.as_micros() as i64 + self.delays.least).max(target)
            } else if self.starved > 0 {
                target.max(self.offset_us)
            } else {
                target
            };
            if offset > limit + TICK_US && self.entries.len() > 1 {
                let (sequence, end) = (front.sequence + 1, front.timestamp + front.samples);
                self.drop_front();
                self.advance(sequence, end, true);
                self.stats.late += 1;
                continue;
            }
            if !self.playing {
                if offset < target && self.entries.len() < MAX_PACKETS {
                    return Played::Silence { samples: wanted as u32 };
                }
            } else if gap > 0 && offset + DUE_US < self.offset_us {
                // The front is not due: what lies before it is lost.
                self.lost_at_us = Some(at_us);
                if gap == self.frame && front.fec {
                    let (sequence, timestamp) = (front.sequence, front.timestamp);
                    self.advance(sequence, timestamp, false);
                    self.stats.fec += 1;
                    let front = &self.entries[0];
                    return Played::Fec {
                        next: &front.payload,
                        tag: front.tag,
                        samples: gap as u32,
                    };
                }
                // Up to where the last missing frame begins, which a copy may hold.
                let step = if gap > self.frame { gap - self.frame } else { gap }.min(self.frame);
                if let Some(next) = &mut self.next {
                    next.timestamp += step;
                    next.made_up += step;
                }
                self.concealed += step;
                return Played::Conceal { samples: step as u32 };
            } else if gap <= 0 && offset + GROW_US < target && self.delays.known() {
                self.offset_us += TICK_US;
                self.stats.grown += 1;
                return Played::Conceal { samples: wanted as u32 };
            }
            return self.play(offset, pause);
        }
    }

    /// The tag of what will be played next, if it is there.
    #[must_use]
    pub fn peek(&self) -> Option<Tag> {
        self.entries.iter().find(|entry| entry.samples > 0).map(|entry| entry.tag)
    }

    /// Sound is running: even when nothing is there, something will be made up.
    #[must_use]
    pub fn playing(&self) -> bool {
        self.playing
    }

    /// How much should be taken out now, at most, if anything; `quiet` tells that nobody would notice.
    #[must_use]
    pub fn excess(&self, now: Instant, quiet: bool) -> Option<Duration> {
        let excess = self.delay_us() - self.target_us;
        let limit = match quiet {
            true if self.is_steady(self.micros(now)) => SHRINK_STEADY_US,
            true => SHRINK_QUIET_US,
            false => SHRINK_ANYWAY_US,
        };
        let paced = self
            .shrunk_at_us
            .is_none_or(|at| self.micros(now) - at >= SHRINK_PACE.as_micros() as i64);
        (self.playing && paced && excess >= limit)
            .then(|| Duration::from_micros(excess.unsigned_abs()))
    }

    /// As [`Self::excess`] where it is not quiet, if the network is so steady that less delay is worth being cut out
    /// of speech, unnoticed.
    #[must_use]
    pub fn steady_excess(&self, now: Instant) -> Option<Duration> {
        let excess = self.excess(now, true).filter(|_| self.is_steady(self.micros(now)))?;
        Some(excess.saturating_sub(SPARED))
    }

    /// What comes next is here.
    #[must_use]
    pub fn follows(&self) -> bool {
        match (self.next, self.entries.front()) {
            (Some(next), Some(front)) => front.timestamp == next.timestamp,
            _ => false,
        }
    }

    /// Notes that the caller took out what lasted for `span`.
    pub fn shrunk(&mut self, now: Instant, span: Duration) {
        self.shrunk_at_us = Some(self.micros(now));
        self.offset_us -= span.as_micros() as i64;
        self.stats.shrunk += 1;
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> JitterStats {
        JitterStats {
            concealed: (self.concealed * 50 / self.rate) as u64,
            delay_s: if self.playing { self.delay_us().max(0) as f64 / 1e6 } else { 0.0 },
            target_s: self.target_us as f64 / 1e6,
            ..self.stats
        }
    }

    /// Nothing is there.
    fn starve(&mut self, wanted: i64) -> Played<'_, Tag> {
        if !self.playing || self.silent || self.starved >= self.conceal_limit() {
            self.playing = false;
            return Played::Silence { samples: wanted as u32 };
        }
        self.starved += wanted;
        Played::Conceal { samples: wanted as u32 }
    }

    fn play(&mut self, offset: i64, pause: bool) -> Played<'_, Tag> {
        if self.starved > 0 && !pause {
            self.concealed += self.starved;
        }
        self.starved = 0;
        self.playing = true;
        self.offset_us = offset;
        let entry = self.entries.pop_front().expect("the caller has looked at the front");
        self.silent = entry.silent;
        self.frame = entry.samples;
        self.advance(entry.sequence + 1, entry.timestamp + entry.samples, true);
        self.free.push(std::mem::replace(&mut self.current, entry.payload));
        Played::Packet { payload: &self.current, tag: entry.tag }
    }

    /// Moves on to `sequence` and `timestamp`; `came` tells whether the number before is here.
    fn advance(&mut self, sequence: i64, timestamp: i64, came: bool) {
        let (steps, before) =
            self.next.map_or((64, 0), |next| (sequence - next.sequence, next.came));
        let shifted = u32::try_from(steps).ok().and_then(|n| before.checked_shl(n)).unwrap_or(0);
        let came = shifted | u64::from(came && steps > 0);
        self.next = Some(Position { sequence, timestamp, came, skipped: 0, made_up: 0 });
    }

    /// Passes by packets that are no audio and are next.
    fn pass_skipped(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.samples == 0) {
            self.silent = true;
            self.drop_front();
            if let Some(next) = &mut self.next {
                next.skipped += 1;
            }
        }
    }

    fn drop_front(&mut self) -> bool {
        let entry = self.entries.pop_front();
        let dropped = entry.is_some();
        self.free.extend(entry.map(|entry| entry.payload));
        dropped
    }

    /// Where a sequence number goes, or that it is there.
    fn place(&self, sequence: i64) -> Result<usize, usize> {
        // Nearly always at the end.
        match self.entries.back() {
            Some(last) if last.sequence >= sequence => {
                match self.entries.binary_search_by_key(&sequence, |entry| entry.sequence) {
                    Ok(at) => Err(at),
                    Err(at) => Ok(at),
                }
            }
            _ => Ok(self.entries.len()),
        }
    }

    fn came_before(&self, sequence: i64) -> bool {
        self.next.is_some_and(|next| {
            let back = next.sequence - 1 - sequence;
            (0..64).contains(&back) && next.came >> back & 1 == 1
        })
    }

    fn lost_lately(&self, now_us: i64) -> bool {
        self.lost_at_us.is_some_and(|at| now_us - at < LOSS_MEMORY_US)
    }

    fn is_steady(&self, now_us: i64) -> bool {
        self.target_us <= STEADY_US && !self.lost_lately(now_us)
    }

    fn measure(&mut self, now: Instant, delay: i64, samples: i64) {
        let now_us = self.micros(now);
        let Some(quantile) = self.delays.push(now_us, delay) else {
            return;
        };
        let frame_us = samples * 1_000_000 / self.rate;
        let mut raw = quantile + MARGIN_US;
        // Of frames shorter than a tick, the last is needed when the first is played.
        raw += (TICK_US - frame_us).max(0);
        if self.lost_lately(now_us) {
            // A packet is wanted as much earlier as something is left over from the one before.
            raw += frame_us + self.left_over_us;
        }
        let raw = raw.clamp(MIN_TARGET.as_micros() as i64, MAX_TARGET.as_micros() as i64);
        if raw > self.target_us {
            self.target_us = raw;
        } else if self.delays.known() {
            self.target_us -= (self.target_us - raw) / 16;
        }
    }

    /// The delay of what was played last, over the least possible.
    fn delay_us(&self) -> i64 {
        self.offset_us - self.delays.least
    }

    /// [`MAX_CONCEAL`] in samples.
    fn conceal_limit(&self) -> i64 {
        MAX_CONCEAL.as_micros() as i64 * self.rate / 1_000_000
    }

    fn micros(&self, at: Instant) -> i64 {
        at.saturating_duration_since(self.origin).as_micros() as i64
    }

    fn media_us(&self, timestamp: i64) -> i64 {
        // Whole seconds apart, lest hours of a fast clock overflow.
        timestamp / self.rate * 1_000_000 + timestamp % self.rate * 1_000_000 / self.rate
    }
}

/// The delays of the packets of the last two seconds.
#[derive(Clone, Debug, Default)]
struct Delays {
    /// Arrival and delay, in µs.
    window: VecDeque<(i64, i64)>,
    scratch: Vec<i64>,
    /// The least delay, the base of all.
    least: i64,
    since_quantile: u32,
    quantile: i64,
}

impl Delays {
    const SPAN_US: i64 = 2_000_000;
    /// So many are kept even when they are older, up to [`Self::OLD_US`].
    const FEW: usize = 20;
    const OLD_US: i64 = 10_000_000;
    const MOST: usize = 128;
    /// Part of the packets that come within the quantile.
    const PART: f64 = 0.97;
    /// The quantile is taken anew after so many packets, or when one exceeds it.
    const EVERY: u32 = 8;

    fn clear(&mut self) {
        self.window.clear();
        self.since_quantile = 0;
        self.quantile = 0;
    }

    fn relative(&self, delay: i64) -> i64 {
        if self.window.is_empty() { 0 } else { delay - self.least }
    }

    /// Enough is known to trust the quantile downwards.
    fn known(&self) -> bool {
        self.window.len() >= Self::FEW / 2
    }

    /// Takes a delay; the quantile when it was taken anew.
    fn push(&mut self, at: i64, delay: i64) -> Option<i64> {
        // The least is looked for again only when it may have left.
        let mut least = if self.window.is_empty() { delay } else { self.least.min(delay) };
        let mut left = false;
        while let Some((oldest, past)) = self.window.front() {
            let age = at - oldest;
            let stale = age > Self::SPAN_US && self.window.len() >= Self::FEW;
            if !(stale || age > Self::OLD_US || self.window.len() >= Self::MOST) {
                break;
            }
            left |= *past <= least;
            self.window.pop_front();
        }
        self.window.push_back((at, delay));
        self.since_quantile += 1;
        if left {
            least = self.window.iter().map(|(_, delay)| *delay).min().unwrap_or(delay);
        }
        self.least = least;
        if self.since_quantile < Self::EVERY && delay - least <= self.quantile {
            return None;
        }
        self.since_quantile = 0;
        self.scratch.clear();
        self.scratch.extend(self.window.iter().map(|(_, delay)| delay - least));
        let rank = ((self.scratch.len() - 1) as f64 * Self::PART) as usize;
        self.quantile = *self.scratch.select_nth_unstable(rank).1;
        Some(self.quantile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "virtual time needs one real instant to count from"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    /// A packet of 20 ms at 8 kHz: when it comes in ms, its number, and its place in the stream in frames.
    #[derive(Clone, Copy)]
    struct Came(u64, i64, i64);

    /// One packet a tick in time, `count` of them from number `first`.
    fn steady(first: i64, count: i64) -> Vec<Came> {
        (first..first + count).map(|n| Came(n as u64 * 20, n, n)).collect()
    }

    /// Plays a tick of 20 ms at a time, 5 ms after the packets: a letter for the packet's number (modulo 10), `f` for a
    /// repaired frame, `c` for a made-up one, `.` for silence.
    fn play(packets: &[Came], ticks: u64, wrap: bool) -> (String, JitterStats) {
        let start = start();
        let mut buffer = JitterBuffer::new(start, 8_000);
        let mut played = String::new();
        for tick in 0..ticks {
            let due = tick * 20 + 5;
            for Came(at, sequence, place) in packets.iter().filter(|p| p.0 + 20 > due && p.0 <= due)
            {
                let base = if wrap { u32::MAX - 1_000 } else { 0 };
                let arrival = Arrival {
                    sequence: *sequence,
                    timestamp: base.wrapping_add(*place as u32 * 160),
                    samples: 160,
                    marker: false,
                    silent: false,
                    fec: sequence % 2 == 0,
                    tag: *sequence,
                    payload: &[*sequence as u8],
                };
                buffer.insert(start + Duration::from_millis(*at), &arrival);
            }
            played.push(match buffer.pop(start + Duration::from_millis(due), 160) {
                Played::Packet { tag, payload } => {
                    assert_eq!(payload, [tag as u8]);
                    char::from(b'0' + (tag % 10) as u8)
                }
                Played::Fec { samples, tag, next } => {
                    assert_eq!((samples, next), (160, &[tag as u8][..]));
                    'f'
                }
                Played::Conceal { samples } => {
                    assert_eq!(samples, 160);
                    'c'
                }
                Played::Silence { samples } => {
                    assert_eq!(samples, 160);
                    '.'
                }
            });
        }
        (played, buffer.stats())
    }

    fn check(name: &str, packets: &[Came], expected: &str) {
        for wrap in [false, true] {
            let (played, _) = play(packets, expected.len() as u64, wrap);
            assert_eq!(played, expected, "{name}, wrapping {wrap}");
        }
    }

    fn without(mut packets: Vec<Came>, lost: &[i64]) -> Vec<Came> {
        packets.retain(|packet| !lost.contains(&packet.1));
        packets
    }

    #[test]
    fn table() {
        check("in time, 40 ms later", &steady(0, 8), "..01234567");
        check("nothing at all", &[], "........");
        check(
            "lost before an even number: its copy",
            &without(steady(0, 10), &[5]),
            "..01234f6789",
        );
        check("lost before an odd one: made up", &without(steady(0, 10), &[4]), "..0123c56789");
        check("two lost, the second repaired", &without(steady(0, 12), &[4, 5]), "..0123cf678901");
        check(
            "the talker ends, and what follows is made up for a while",
            &steady(0, 4),
            "..0123ccccc.....",
        );
        check(
            "a pause is no loss",
            &[steady(0, 4), vec![Came(240, 4, 12), Came(260, 5, 13), Came(280, 6, 14)]].concat(),
            "..0123ccccc...456",
        );
        let mut swapped = steady(0, 10);
        swapped[4] = Came(105, 4, 4);
        check("overtaken by one", &swapped, "..0123456789");
        let twice = [steady(0, 10), vec![Came(70, 3, 3), Came(150, 3, 3)]].concat();
        check("twice", &twice, "..0123456789");
        let mut held = steady(0, 20);
        for packet in &mut held[6..9] {
            packet.0 = 180;
        }
        check(
            "held up until 20 ms too late: waited for, then played",
            &held,
            "..012345c6789012345678",
        );
        let mut late = steady(0, 10);
        late[5].0 = 150;
        check("too late to be of use", &late, "..01234f6789");
    }

    #[test]
    fn counts_what_it_did() {
        let (_, stats) = play(&without(steady(0, 50), &[5, 14, 20, 21]), 52, false);
        assert_eq!((stats.received, stats.fec, stats.concealed), (46, 2, 2));
        let (_, stats) =
            play(&[steady(0, 10), vec![Came(70, 3, 3), Came(190, 1, 1)]].concat(), 12, false);
        assert_eq!((stats.received, stats.duplicate, stats.late), (10, 2, 0));
        let mut late = steady(0, 10);
        late[5].0 = 190;
        let (_, stats) = play(&late, 12, false);
        assert_eq!((stats.received, stats.late, stats.fec), (9, 1, 1));
    }

    #[test]
    fn holds_no_more_than_its_limit() {
        let start = start();
        let mut buffer = JitterBuffer::new(start, 8_000);
        for n in 0..1_000 {
            let arrival = Arrival {
                sequence: n,
                timestamp: 0,
                samples: 160,
                marker: false,
                silent: false,
                fec: false,
                tag: (),
                payload: &[0; 160],
            };
            buffer.insert(start, &arrival);
            buffer.skip(2_000 + n, ());
        }
        assert!(buffer.entries.len() <= MAX_PACKETS);
        assert!(buffer.free.len() <= MAX_PACKETS);
    }
}
