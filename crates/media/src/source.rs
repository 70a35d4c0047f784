//! Whose packets count: the lock that keeps strangers out of a leg's port, and our audio away from them.
//!
//! A stranger who sprays the port range must neither be heard nor be sent anything (the "RTP bleed" attack). So
//! the address in the peer's SDP is believed as soon as packets come from it. A peer behind NAT cannot be known
//! in advance; its address is learnt from [`LEARN_PACKETS`] packets in a row. After that, only the locked address
//! counts; it may move when the old one has gone silent and the same stream goes on from a neighbouring address.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Packets in a row that a source needs before it is believed.
pub const LEARN_PACKETS: u32 = 4;
/// For this long after the first lock, a source nearer to what signalling said replaces one merely learnt.
pub const LEARN_WINDOW: Duration = Duration::from_secs(3);
/// The locked source must have been silent for this long before the stream may move.
pub const MOVE_SILENCE: Duration = Duration::from_millis(500);
/// A stream that moved goes on within this many sequence numbers.
pub const MOVE_SEQUENCES: i64 = 3_000;
/// A better candidate keeps others out for this long after its last packet.
pub const CANDIDATE_LIFE: Duration = Duration::from_secs(1);
/// For this long we send to an address that has not shown that anybody is there.
pub const UNVERIFIED_SEND: Duration = Duration::from_secs(5);

/// What signalling tells of where packets will come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The address in the peer's SDP; `None` when it gave none that can be used.
    pub media: Option<SocketAddr>,
    /// Where the peer's signalling comes from.
    pub signalling: Option<IpAddr>,
}

/// What became of a packet's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The locked source.
    Known,
    /// The source is locked with this packet; we send there from now on.
    Locked,
    /// Not believed, or not yet: drop the packet.
    Stranger,
}

/// How well a source fits what signalling said; later is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// Cannot be the peer.
    None,
    /// Could be a peer behind NAT.
    Learnt,
    /// The address that signalling or media should come from, on another port.
    Near,
    /// The address in the SDP.
    Exact,
}

#[derive(Clone, Copy, Debug)]
struct Locked {
    source: SocketAddr,
    trust: Trust,
    since: Instant,
    heard: Instant,
    ssrc: u32,
    sequence: u16,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    source: SocketAddr,
    trust: Trust,
    heard: Instant,
    ssrc: u32,
    sequence: u16,
    packets: u32,
}

/// The lock of one port.
#[derive(Clone, Debug)]
pub struct SourceLock {
    expected: Expected,
    /// Since when we may send to the unverified address.
    since: Instant,
    locked: Option<Locked>,
    candidate: Option<Candidate>,
}

impl SourceLock {
    /// An open lock.
    #[must_use]
    pub fn new(now: Instant, expected: Expected) -> Self {
        Self { expected, since: now, locked: None, candidate: None }
    }

    /// Takes over what a re-INVITE says. When the peer's SDP has told the truth so far, we turn to the new address
    /// at once; a source that had to be learnt (NAT) stays until a better one shows itself.
    pub fn expect(&mut self, now: Instant, expected: Expected) {
        if expected == self.expected {
            return;
        }
        let told = self.locked.map(|locked| locked.trust);
        self.expected = expected;
        self.since = now;
        self.candidate = None;
        self.locked = self
            .locked
            .map(|locked| Locked { trust: self.trust(locked.source), since: now, ..locked })
            .filter(|new| new.trust == Trust::Exact || told != Some(Trust::Exact));
    }

    /// Judges one well-formed packet. `sequence` is its RTP sequence number; RTCP has none and gives `None`.
    pub fn packet(
        &mut self,
        now: Instant,
        source: SocketAddr,
        ssrc: u32,
        sequence: Option<u16>,
    ) -> Verdict {
        if let Some(locked) = self.locked.as_mut().filter(|locked| locked.source == source) {
            locked.heard = now;
            if let Some(sequence) = sequence {
                (locked.ssrc, locked.sequence) = (ssrc, sequence);
            }
            return Verdict::Known;
        }
        let trust = self.trust(source);
        let allowed = match &self.locked {
            None => trust > Trust::None,
            Some(locked) => {
                let open = trust == Trust::Exact
                    || now.saturating_duration_since(locked.since) < LEARN_WINDOW;
                open && trust > locked.trust || self.moved(now, locked, source, ssrc, sequence)
            }
        };
        if !allowed {
            return Verdict::Stranger;
        }
        let packets = self.in_a_row(now, source, trust, ssrc, sequence);
        if trust < Trust::Exact && packets < LEARN_PACKETS {
            return Verdict::Stranger;
        }
        let since = self.locked.map_or(now, |locked| locked.since);
        let sequence = sequence.unwrap_or(0);
        self.locked = Some(Locked { source, trust, since, heard: now, ssrc, sequence });
        self.candidate = None;
        Verdict::Locked
    }

    /// Where to send: the locked source, or for a short while the address that the SDP gave.
    #[must_use]
    pub fn destination(&self, now: Instant) -> Option<SocketAddr> {
        match self.locked {
            Some(locked) => Some(locked.source),
            None => self
                .expected
                .media
                .filter(|_| now.saturating_duration_since(self.since) < UNVERIFIED_SEND),
        }
    }

    /// The locked source.
    #[must_use]
    pub fn locked(&self) -> Option<SocketAddr> {
        self.locked.map(|locked| locked.source)
    }

    /// When the locked source was last heard.
    #[must_use]
    pub fn heard(&self) -> Option<Instant> {
        self.locked.map(|locked| locked.heard)
    }

    /// Prolongs [`UNVERIFIED_SEND`]: something else (RTCP) proved that the peer is there.
    pub fn verify(&mut self, now: Instant) {
        self.since = now;
    }

    fn trust(&self, source: SocketAddr) -> Trust {
        let Expected { media, signalling } = self.expected;
        let ip = source.ip();
        match media.map(|media| media.ip()) {
            _ if media == Some(source) => Trust::Exact,
            Some(media) if media == ip => Trust::Near,
            _ if signalling == Some(ip) => Trust::Near,
            // Signalling and media from one address: no NAT between us, so nobody else can be the peer.
            Some(media) if signalling == Some(media) => Trust::None,
            _ => Trust::Learnt,
        }
    }

    /// The same stream goes on from a neighbour of an address that has gone silent.
    fn moved(
        &self,
        now: Instant,
        locked: &Locked,
        source: SocketAddr,
        ssrc: u32,
        sequence: Option<u16>,
    ) -> bool {
        let follows = sequence.is_none_or(|sequence| {
            (1..=MOVE_SEQUENCES).contains(&i64::from(sequence.wrapping_sub(locked.sequence) as i16))
        });
        now.saturating_duration_since(locked.heard) >= MOVE_SILENCE
            && ssrc == locked.ssrc
            && follows
            && (self.expected.signalling == Some(source.ip())
                || same_network(locked.source.ip(), source.ip()))
    }

    /// How many packets in a row the candidate has now sent. Somebody else's packet in between starts anew, unless
    /// that somebody is less trusted.
    fn in_a_row(
        &mut self,
        now: Instant,
        source: SocketAddr,
        trust: Trust,
        ssrc: u32,
        sequence: Option<u16>,
    ) -> u32 {
        let mut next = Candidate {
            source,
            trust,
            heard: now,
            ssrc,
            sequence: sequence.unwrap_or(0),
            packets: 1,
        };
        if let Some(last) = self.candidate {
            if last.source == source && last.ssrc == ssrc {
                if sequence.is_none_or(|sequence| sequence == last.sequence.wrapping_add(1)) {
                    next.packets = last.packets + 1;
                }
                next.sequence = sequence.unwrap_or(last.sequence);
            } else if last.trust > trust
                && now.saturating_duration_since(last.heard) < CANDIDATE_LIFE
            {
                return 0;
            }
        }
        self.candidate = Some(next);
        next.packets
    }
}

/// IPv4 /24 or IPv6 /64.
fn same_network(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        _ => false,
    }
}
