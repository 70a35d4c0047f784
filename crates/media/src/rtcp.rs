//! RTCP: compound packets read and written, reception statistics, the pace of reports (RFC 3550 §6, appendix A).

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::rtp::{ParseError, be32};

const SR: u8 = 200;
const RR: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;
const CNAME: u8 = 1;

/// The longest CNAME that is written, in bytes; the field has 8 bits of length (RFC 3550 §6.5).
pub const MAX_CNAME: usize = 255;

/// A view of a compound packet whose every length has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    bytes: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Checks the whole datagram as RFC 3550 A.2 says: version, first packet SR or RR, padding in the last alone,
    /// lengths that add up, and in SR, RR, SDES and BYE room for what their counts announce.
    ///
    /// # Errors
    /// [`ParseError`]; nothing of such a datagram may be used.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut rest = bytes;
        let mut first = true;
        while !rest.is_empty() {
            let (head, body, tail) = split(rest).ok_or(ParseError::Truncated)?;
            if head[0] >> 6 != 2 {
                return Err(ParseError::Version);
            }
            if first && !matches!(head[1], SR | RR) {
                return Err(ParseError::Compound);
            }
            let padded = head[0] & 0x20 != 0;
            if padded && !tail.is_empty() {
                return Err(ParseError::Compound);
            }
            check_body(head, strip(padded, body)?)?;
            first = false;
            rest = tail;
        }
        if first { Err(ParseError::Truncated) } else { Ok(Self { bytes }) }
    }

    /// The packets in order. Kinds other than SR, RR, SDES and BYE are skipped.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'a>> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (head, body, tail) = split(rest)?;
            rest = tail;
            Some((head, strip(head[0] & 0x20 != 0, body).ok()?))
        })
        .filter_map(|(head, body)| {
            let count = usize::from(head[0] & 0x1F);
            match head[1] {
                SR => Some(Packet::SenderReport {
                    ssrc: be32(body, 0),
                    sender: SenderInfo {
                        ntp: u64::from(be32(body, 4)) << 32 | u64::from(be32(body, 8)),
                        rtp_timestamp: be32(body, 12),
                        packets: be32(body, 16),
                        octets: be32(body, 20),
                    },
                    reports: Reports(&body[24..24 + count * 24]),
                }),
                RR => Some(Packet::ReceiverReport {
                    ssrc: be32(body, 0),
                    reports: Reports(&body[4..4 + count * 24]),
                }),
                SDES => Some(Packet::Description(Chunks { rest: body, left: count })),
                BYE => Some(Packet::Bye(Sources(&body[..count * 4]))),
                _ => None,
            }
        })
    }
}

/// One RTCP packet.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// SR (RFC 3550 §6.4.1).
    SenderReport {
        /// The reporter.
        ssrc: u32,
        /// What it has sent.
        sender: SenderInfo,
        /// What it has received.
        reports: Reports<'a>,
    },
    /// RR (RFC 3550 §6.4.2).
    ReceiverReport {
        /// The reporter.
        ssrc: u32,
        /// What it has received.
        reports: Reports<'a>,
    },
    /// SDES (RFC 3550 §6.5).
    Description(Chunks<'a>),
    /// BYE (RFC 3550 §6.6).
    Bye(Sources<'a>),
}

/// What a sender says of its own stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// When the report was written, in units of 2⁻³² s, on the sender's clock.
    pub ntp: u64,
    /// The same moment on the stream's clock.
    pub rtp_timestamp: u32,
    /// Packets sent; wraps.
    pub packets: u32,
    /// Payload bytes sent; wraps.
    pub octets: u32,
}

/// What a receiver says of one stream (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning, 24 bits; negative when duplicates outweigh losses.
    pub cumulative_lost: i32,
    /// Highest sequence number, its wraps in the upper 16 bits.
    pub highest_sequence: u32,
    /// Interarrival jitter in the stream's clock.
    pub jitter: u32,
    /// The middle 32 bits of the last SR's NTP time; 0 before any.
    pub last_sr: u32,
    /// Since that SR, in units of 2⁻¹⁶ s.
    pub delay_since_last_sr: u32,
}

/// Report blocks.
#[derive(Clone, Copy, Debug)]
pub struct Reports<'a>(&'a [u8]);

impl Iterator for Reports<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.0.split_at_checked(24)?;
        self.0 = rest;
        let lost = be32(block, 4);
        Some(ReportBlock {
            ssrc: be32(block, 0),
            fraction_lost: block[4],
            // Sign-extends the 24 bits.
            cumulative_lost: (lost << 8) as i32 >> 8,
            highest_sequence: be32(block, 8),
            jitter: be32(block, 12),
            last_sr: be32(block, 16),
            delay_since_last_sr: be32(block, 20),
        })
    }
}

/// The chunks of an SDES packet, as SSRC and CNAME; chunks without CNAME are skipped.
#[derive(Clone, Copy, Debug)]
pub struct Chunks<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            self.left -= 1;
            let (ssrc, cname) = chunk(&mut self.rest)?;
            if let Some(cname) = cname {
                return Some((ssrc, cname));
            }
        }
        None
    }
}

/// SSRCs that leave.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a>(&'a [u8]);

impl Iterator for Sources<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (ssrc, rest) = self.0.split_at_checked(4)?;
        self.0 = rest;
        Some(be32(ssrc, 0))
    }
}

/// The first packet's header, its body and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(4)?;
    let len = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
    let (body, tail) = rest.split_at_checked(len)?;
    Some((head, body, tail))
}

/// The body without padding, which counts itself and comes in words (RFC 3550 §6.4.1).
fn strip(padded: bool, body: &[u8]) -> Result<&[u8], ParseError> {
    if !padded {
        return Ok(body);
    }
    let padding = usize::from(*body.last().ok_or(ParseError::Padding)?);
    if padding == 0 || padding % 4 != 0 {
        return Err(ParseError::Padding);
    }
    body.len().checked_sub(padding).map(|len| &body[..len]).ok_or(ParseError::Padding)
}

/// Whether the body has room for what the header counts.
fn check_body(head: &[u8], body: &[u8]) -> Result<(), ParseError> {
    let count = usize::from(head[0] & 0x1F);
    let needed = match head[1] {
        SR => 24 + count * 24,
        RR => 4 + count * 24,
        BYE => count * 4,
        SDES => {
            let mut rest = body;
            for _ in 0..count {
                chunk(&mut rest).ok_or(ParseError::Truncated)?;
            }
            0
        }
        _ => 0,
    };
    if body.len() < needed {
        return Err(ParseError::Truncated);
    }
    if head[1] == BYE && body.len() > needed && usize::from(body[needed]) >= body.len() - needed {
        return Err(ParseError::Truncated);
    }
    Ok(())
}

/// Takes one SDES chunk off `bytes`: SSRC, and CNAME if any.
fn chunk<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let ssrc = be32(bytes.get(..4)?, 0);
    let mut at = 4;
    let mut cname = None;
    loop {
        match *bytes.get(at..)? {
            // The null item ends the list; the next chunk starts at the next word.
            [0, ..] => {
                *bytes = bytes.get((at / 4 + 1) * 4..)?;
                return Some((ssrc, cname));
            }
            [kind, len, ref rest @ ..] => {
                let text = rest.get(..usize::from(len))?;
                if kind == CNAME {
                    cname = Some(text);
                }
                at += 2 + text.len();
            }
            _ => return None,
        }
    }
}

/// Writes SR (if `sender` is given) or RR, then SDES with the CNAME, then BYE if `leaving`, and returns the length;
/// 0 when `out` is too short. A CNAME longer than [`MAX_CNAME`] is cut.
#[must_use]
pub fn write(
    out: &mut [u8],
    ssrc: u32,
    sender: Option<SenderInfo>,
    report: Option<ReportBlock>,
    cname: &str,
    leaving: bool,
) -> usize {
    let mut writer = Writer { out, len: 0, fits: true };
    let start = writer.begin(if sender.is_some() { SR } else { RR }, report.is_some().into());
    writer.word(ssrc);
    if let Some(info) = sender {
        writer.word((info.ntp >> 32) as u32);
        writer.word(info.ntp as u32);
        writer.word(info.rtp_timestamp);
        writer.word(info.packets);
        writer.word(info.octets);
    }
    if let Some(block) = report {
        let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF) as u32 & 0xFF_FFFF;
        writer.word(block.ssrc);
        writer.word(u32::from(block.fraction_lost) << 24 | lost);
        writer.word(block.highest_sequence);
        writer.word(block.jitter);
        writer.word(block.last_sr);
        writer.word(block.delay_since_last_sr);
    }
    writer.end(start);

    let cname = &cname.as_bytes()[..cname.len().min(MAX_CNAME)];
    let start = writer.begin(SDES, 1);
    writer.word(ssrc);
    writer.bytes(&[CNAME, cname.len() as u8]);
    writer.bytes(cname);
    writer.bytes(&[0, 0, 0, 0][..4 - (2 + cname.len()) % 4]);
    writer.end(start);

    if leaving {
        let start = writer.begin(BYE, 1);
        writer.word(ssrc);
        writer.end(start);
    }
    if writer.fits { writer.len } else { 0 }
}

struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    fits: bool,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        match self.out.get_mut(self.len..self.len + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.fits = false,
        }
    }

    fn word(&mut self, word: u32) {
        self.bytes(&word.to_be_bytes());
    }

    fn begin(&mut self, kind: u8, count: u8) -> usize {
        let start = self.len;
        self.bytes(&[0x80 | count, kind, 0, 0]);
        start
    }

    fn end(&mut self, start: usize) {
        let words = (self.len - start) / 4;
        if self.fits {
            self.out[start + 2..start + 4].copy_from_slice(&(words as u16 - 1).to_be_bytes());
        }
    }
}

/// What [`Reception::sequence`] made of a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// In order or slightly out of it: the number, free of wrapping.
    Valid(i64),
    /// Far from what was expected; kept only if the next one follows it.
    Suspect,
    /// The sender started anew: statistics begin again with this number.
    Restarted(i64),
}

/// Reception statistics of one stream (RFC 3550 A.1, A.3, A.8).
#[derive(Clone, Debug)]
pub struct Reception {
    base: i64,
    highest: i64,
    suspect: Option<u16>,
    received: u64,
    lost_before: u64,
    expected_prior: i64,
    received_prior: u64,
    transit: Option<i64>,
    /// Jitter in 1/16 of the stream's clock.
    jitter_16: i64,
    last_sr: Option<(u32, Instant)>,
}

impl Reception {
    /// A forward jump beyond this is no loss but a restart (RFC 3550 A.1).
    const MAX_DROPOUT: i64 = 3_000;
    /// A packet this much behind is no reordering but a restart (RFC 3550 A.1).
    const MAX_MISORDER: i64 = 100;

    /// Starts with the first packet's sequence number, which is not counted yet.
    #[must_use]
    pub fn new(first: u16) -> Self {
        Self {
            base: first.into(),
            highest: i64::from(first) - 1,
            suspect: None,
            received: 0,
            lost_before: 0,
            expected_prior: 0,
            received_prior: 0,
            transit: None,
            jitter_16: 0,
            last_sr: None,
        }
    }

    /// Counts a packet's sequence number.
    pub fn sequence(&mut self, sequence: u16) -> Sequence {
        let number = crate::rtp::unwrap_sequence(self.highest, sequence);
        let ahead = number - self.highest;
        if ahead < Self::MAX_DROPOUT && ahead > -Self::MAX_MISORDER {
            self.highest = self.highest.max(number);
            // A straggler from before the first packet we saw widens what was expected.
            self.base = self.base.min(number);
            self.received += 1;
            self.suspect = None;
            return Sequence::Valid(number);
        }
        if self.suspect == Some(sequence) {
            let lost_before = self.lost();
            *self = Self {
                lost_before,
                transit: self.transit,
                jitter_16: self.jitter_16,
                last_sr: self.last_sr,
                ..Self::new(sequence)
            };
            self.highest = sequence.into();
            self.received = 1;
            return Sequence::Restarted(sequence.into());
        }
        self.suspect = Some(sequence.wrapping_add(1));
        Sequence::Suspect
    }

    /// Follows the interarrival jitter: `arrival` and `timestamp` both in the stream's clock (RFC 3550 A.8).
    pub fn arrival(&mut self, arrival: i64, timestamp: i64) {
        let transit = arrival - timestamp;
        if let Some(before) = self.transit.replace(transit) {
            // A jump of the sender's timestamps is no jitter.
            let difference = (transit - before).abs().min(1 << 20);
            self.jitter_16 += difference - ((self.jitter_16 + 8) >> 4);
        }
    }

    /// Notes a sender report, for the round-trip time of the other side.
    pub fn sender_report(&mut self, now: Instant, sender: SenderInfo) {
        self.last_sr = Some(((sender.ntp >> 16) as u32, now));
    }

    /// Packets lost since the beginning; duplicates make up for losses, as A.3 counts.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost_before + (self.expected() - self.received as i64).max(0) as u64
    }

    /// Interarrival jitter in the stream's clock.
    #[must_use]
    pub fn jitter(&self) -> u32 {
        (self.jitter_16 >> 4) as u32
    }

    /// The report block about this stream; the fraction counts from the previous call.
    pub fn report(&mut self, now: Instant, ssrc: u32) -> ReportBlock {
        let expected = self.expected();
        let expected_interval = expected - self.expected_prior;
        let received_interval = self.received.saturating_sub(self.received_prior) as i64;
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost_interval = (expected_interval - received_interval).max(0);
        let fraction =
            if expected_interval > 0 { (lost_interval << 8) / expected_interval } else { 0 };
        let since = self.last_sr.map(|(_, at)| now.saturating_duration_since(at));
        ReportBlock {
            ssrc,
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: (expected - self.received as i64).clamp(-0x80_0000, 0x7F_FFFF) as i32,
            highest_sequence: self.highest as u32,
            jitter: self.jitter(),
            last_sr: self.last_sr.map_or(0, |(middle, _)| middle),
            delay_since_last_sr: since.map_or(0, |since| (ntp(since) >> 16) as u32),
        }
    }

    fn expected(&self) -> i64 {
        self.highest - self.base + 1
    }
}

/// A span as NTP writes it, in units of 2⁻³² s.
#[must_use]
pub fn ntp(span: Duration) -> u64 {
    (span.as_secs() << 32) + (u64::from(span.subsec_nanos()) << 32) / 1_000_000_000
}

/// The round-trip time that a report block about our stream tells, `now` being our NTP clock; `None` before they
/// had a report of ours, or when their figures cannot be (RFC 3550 §6.4.1).
#[must_use]
pub fn round_trip(now: u64, block: &ReportBlock) -> Option<Duration> {
    if block.last_sr == 0 {
        return None;
    }
    let middle = (now >> 16) as u32;
    let spent = middle.wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr) as i32;
    // 2⁻¹⁶ s of rounding may make a short trip negative.
    (spent >= -64).then(|| Duration::from_secs_f64(f64::from(spent.max(0)) / 65_536.0))
}

/// When to report (RFC 3550 §6.2 and §6.3), for the two members of a call.
#[derive(Clone, Debug)]
pub struct Pace {
    random: SmallRng,
    average_size: f64,
    next: Instant,
}

impl Pace {
    /// The least mean interval, in seconds (RFC 3550 §6.2).
    const MINIMUM_S: f64 = 5.0;
    /// What RTCP may use, in bytes a second: 5 % of a 64 kbit/s session.
    const BANDWIDTH: f64 = 400.0;
    /// Undoes the bias of reconsideration: e − 3/2 (RFC 3550 §6.3.1).
    const COMPENSATION: f64 = std::f64::consts::E - 1.5;

    /// Starts the clock; the first report comes after half an interval.
    #[must_use]
    pub fn new(now: Instant, seed: u64) -> Self {
        let mut pace =
            Self { random: SmallRng::seed_from_u64(seed), average_size: 100.0, next: now };
        pace.next = now + pace.interval(Self::MINIMUM_S / 2.0);
        pace
    }

    /// When the next report is due.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Schedules the report after one of `size` bytes.
    pub fn sent(&mut self, now: Instant, size: usize) {
        self.seen(size);
        self.next = now + self.interval(Self::MINIMUM_S);
    }

    /// Notes the size of a packet received, in bytes.
    pub fn seen(&mut self, size: usize) {
        // 28 bytes of IP and UDP count too (§6.2).
        self.average_size += (size as f64 + 28.0 - self.average_size) / 16.0;
    }

    fn interval(&mut self, minimum_s: f64) -> Duration {
        let mean = (2.0 * self.average_size / Self::BANDWIDTH).max(minimum_s);
        Duration::from_secs_f64(mean * self.random.random_range(0.5..1.5) / Self::COMPENSATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use webrtc_util::marshal::{Marshal, Unmarshal};

    #[expect(
        clippy::disallowed_methods,
        reason = "virtual time needs one real instant to count from"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    const SENDER: SenderInfo =
        SenderInfo { ntp: 0x0102_0304_0506_0708, rtp_timestamp: 9, packets: 10, octets: 11 };
    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 0xAABB_CCDD,
        fraction_lost: 5,
        cumulative_lost: -2,
        highest_sequence: 0x0001_0002,
        jitter: 3,
        last_sr: 4,
        delay_since_last_sr: 5,
    };

    #[test]
    fn reads_what_it_writes() {
        for cname in ["", "a", "ab", "abc", "abcd", "user@host.example"] {
            for leaving in [false, true] {
                let mut out = [0; 200];
                let len = write(&mut out, 7, Some(SENDER), Some(BLOCK), cname, leaving);
                let compound = Compound::parse(&out[..len]).unwrap();
                let packets: Vec<_> = compound.packets().collect();
                let Packet::SenderReport { ssrc: 7, sender: SENDER, mut reports } = packets[0]
                else {
                    panic!("{packets:?}")
                };
                assert_eq!((reports.next(), reports.next()), (Some(BLOCK), None));
                let Packet::Description(mut chunks) = packets[1] else { panic!("{packets:?}") };
                assert_eq!((chunks.next(), chunks.next()), (Some((7, cname.as_bytes())), None));
                match packets.get(2) {
                    Some(Packet::Bye(sources)) => assert!(leaving && sources.into_iter().eq([7])),
                    other => assert!(!leaving && other.is_none()),
                }
                // Never half a packet.
                for short in 0..len {
                    assert_eq!(
                        write(&mut out[..short], 7, Some(SENDER), Some(BLOCK), cname, leaving),
                        0
                    );
                }
            }
        }
        let long = "x".repeat(400);
        let mut out = [0; 400];
        let len = write(&mut out, 7, None, None, &long, false);
        let compound = Compound::parse(&out[..len]).unwrap();
        let Some(Packet::Description(mut chunks)) = compound.packets().nth(1) else { panic!() };
        assert_eq!(chunks.next().unwrap().1.len(), MAX_CNAME);
    }

    #[test]
    fn an_independent_reader_agrees() {
        use ::rtcp::{
            goodbye::Goodbye, receiver_report::ReceiverReport,
            source_description::SourceDescription,
        };
        let mut out = [0; 200];
        let block = ReportBlock { cumulative_lost: 1_000, ..BLOCK };
        let len = write(&mut out, 7, None, Some(block), "user@host", true);
        let packets = ::rtcp::packet::unmarshal(&mut &out[..len]).unwrap();
        let rr = packets[0].as_any().downcast_ref::<ReceiverReport>().unwrap();
        assert_eq!(rr.ssrc, 7);
        let theirs = &rr.reports[0];
        assert_eq!(
            (
                theirs.ssrc,
                theirs.fraction_lost,
                theirs.total_lost,
                theirs.last_sequence_number,
                theirs.jitter
            ),
            (0xAABB_CCDD, 5, 1_000, 0x0001_0002, 3)
        );
        assert_eq!((theirs.last_sender_report, theirs.delay), (4, 5));
        let sdes = packets[1].as_any().downcast_ref::<SourceDescription>().unwrap();
        assert_eq!(&sdes.chunks[0].items[0].text[..], b"user@host");
        let bye = packets[2].as_any().downcast_ref::<Goodbye>().unwrap();
        assert_eq!(bye.sources, [7]);
    }

    #[test]
    fn reads_what_an_independent_writer_writes() {
        use ::rtcp::{goodbye::Goodbye, receiver_report::ReceiverReport};
        let rr = ReceiverReport { ssrc: 5, ..ReceiverReport::default() };
        let bye = Goodbye { sources: vec![5, 6], reason: "so long".into() };
        let bytes = [rr.marshal().unwrap(), bye.marshal().unwrap()].concat();
        let compound = Compound::parse(&bytes).unwrap();
        let packets: Vec<_> = compound.packets().collect();
        assert!(matches!(packets[0], Packet::ReceiverReport { ssrc: 5, .. }));
        let Packet::Bye(sources) = packets[1] else { panic!("{packets:?}") };
        assert!(sources.eq([5, 6]));
        assert!(Goodbye::unmarshal(&mut &bytes[8..]).is_ok());
    }

    #[test]
    fn unknown_kinds_and_padding_are_skipped() {
        let mut bytes = vec![0x80, RR, 0, 1, 0, 0, 0, 5];
        bytes.extend([0x80, 207, 0, 1, 1, 2, 3, 4]); // XR
        bytes.extend([0xA0 | 1, BYE, 0, 2, 0, 0, 0, 5, 0, 0, 0, 4]); // padded
        let compound = Compound::parse(&bytes).unwrap();
        assert_eq!(compound.packets().count(), 2);
    }

    /// Sequence numbers in the order of arrival → lost in all, and the fraction of 256.
    fn check(sequences: &[u16], lost: u64, fraction: u8) {
        let now = start();
        let mut reception = Reception::new(sequences[0]);
        for sequence in sequences {
            reception.sequence(*sequence);
        }
        assert_eq!(reception.lost(), lost, "{sequences:?}");
        assert_eq!(reception.report(now, 1).fraction_lost, fraction, "{sequences:?}");
        assert_eq!(reception.report(now, 1).fraction_lost, 0, "nothing since");
    }

    #[test]
    fn counts_losses() {
        check(&[1, 2, 3, 4], 0, 0);
        check(&[1, 2, 4], 1, 64);
        check(&[1, 4, 2, 3], 0, 0);
        check(&[5, 4, 6], 0, 0);
        check(&[1, 1, 2, 4], 0, 0); // a duplicate makes up for a loss, as A.3 has it
        check(&[65_534, 65_535, 0, 2], 1, 51);
        check(&[10, 5_000, 11, 12], 0, 0); // one wild number
        check(&[10, 11, 13, 30_000, 30_001, 30_003], 2, 85); // the sender began anew
    }

    #[test]
    fn follows_the_sequence() {
        let mut reception = Reception::new(65_535);
        assert_eq!(reception.sequence(65_535), Sequence::Valid(65_535));
        assert_eq!(reception.sequence(0), Sequence::Valid(65_536));
        assert_eq!(reception.sequence(2_999), Sequence::Valid(68_535));
        assert_eq!(reception.sequence(2_950), Sequence::Valid(68_486));
        assert_eq!(reception.sequence(2_800), Sequence::Suspect);
        assert_eq!(reception.sequence(40_000), Sequence::Suspect);
        assert_eq!(reception.sequence(40_001), Sequence::Restarted(40_001));
        assert_eq!(reception.report(start(), 1).highest_sequence, 40_001);
    }

    #[test]
    fn measures_jitter_as_appendix_a8() {
        let mut reception = Reception::new(0);
        for n in 0..2_000 {
            // Every second packet is 80 units late: the estimate settles at 80.
            reception.arrival(n * 160 + n % 2 * 80, n * 160);
        }
        assert!((76..=84).contains(&reception.jitter()), "{}", reception.jitter());
        for n in 2_000..4_000 {
            reception.arrival(n * 160, n * 160);
        }
        assert!(reception.jitter() <= 1);
    }

    #[test]
    fn measures_the_round_trip() {
        let second = 1 << 32;
        let block = |last_sr, delay| ReportBlock { last_sr, delay_since_last_sr: delay, ..BLOCK };
        for (now, last_sr, delay, expected) in [
            (10 * second, 0, 0, None),
            (10 * second, 9 << 16, 1 << 15, Some(500)),
            (10 * second, 9 << 16, 1 << 16, Some(0)),
            (10 * second, 9 << 16, 2 << 16, None), // they held it longer than it has been out
            (70_000 * second, 69_999u32 << 16, 0, Some(1_000)), // the middle bits wrap
        ] {
            let trip = round_trip(now, &block(last_sr, delay)).map(|trip| trip.as_millis());
            assert_eq!(trip, expected, "{now} {last_sr} {delay}");
        }
    }

    #[test]
    fn keeps_its_pace() {
        let start = start();
        let mut pace = Pace::new(start, 3);
        let mut last = start;
        let mut total = 0.0;
        for n in 0..200 {
            let span = (pace.next() - last).as_secs_f64();
            let minimum = if n == 0 { 2.5 } else { 5.0 };
            assert!(
                (minimum * 0.5 / 1.2184..=minimum * 1.5 / 1.2182).contains(&span),
                "{n}: {span}"
            );
            total += span;
            last = pace.next();
            pace.seen(90);
            pace.sent(last, 80);
        }
        assert!((3.7..4.5).contains(&(total / 200.0)), "mean {}", total / 200.0);
    }

    proptest! {
        #[test]
        fn never_panics(
            packets in proptest::collection::vec(
                (0u8..4, any::<u8>(), prop_oneof![198u8..208, any::<u8>()], 0u16..12, proptest::collection::vec(any::<u8>(), 0..40)),
                0..5),
        ) {
            let mut bytes = Vec::new();
            for (version, first, kind, words, body) in packets {
                let version = if version == 0 { first } else { 0x80 | first & 0x3F };
                bytes.extend([version, kind]);
                bytes.extend(words.to_be_bytes());
                bytes.extend(body);
            }
            if let Ok(compound) = Compound::parse(&bytes) {
                for packet in compound.packets() {
                    let items = match packet {
                        Packet::SenderReport { reports, .. } | Packet::ReceiverReport { reports, .. } => reports.count(),
                        Packet::Description(chunks) => chunks.count(),
                        Packet::Bye(sources) => sources.count(),
                    };
                    prop_assert!(items <= 31);
                }
            }
        }
    }
}
