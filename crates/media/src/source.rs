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

    /// Judges one packet that proves by its SRTP key to be the peer's, and that did not come before: from wherever it
    /// comes, the peer is there now. Only a packet older than the last one does not move the stream back. RTCP has no
    /// sequence number and gives `None`.
    pub fn authentic(
        &mut self,
        now: Instant,
        source: SocketAddr,
        ssrc: u32,
        sequence: Option<u16>,
    ) -> Verdict {
        self.candidate = None;
        match &mut self.locked {
            Some(locked) if locked.source == source => {
                locked.heard = now;
                if let Some(sequence) = sequence {
                    (locked.ssrc, locked.sequence) = (ssrc, sequence);
                }
                Verdict::Known
            }
            Some(locked)
                if locked.ssrc == ssrc
                    && sequence.is_none_or(|it| it.wrapping_sub(locked.sequence) as i16 <= 0) =>
            {
                locked.heard = now;
                Verdict::Known
            }
            locked => {
                let since = locked.map_or(now, |locked| locked.since);
                let (trust, heard, sequence) = (Trust::Exact, now, sequence.unwrap_or(0));
                *locked = Some(Locked { source, trust, since, heard, ssrc, sequence });
                Verdict::Locked
            }
        }
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

    const SDP: &str = "192.0.2.7:4000";
    /// The SDP's address, another port.
    const NEAR: &str = "192.0.2.7:9999";
    const PRIVATE: &str = "10.0.0.9:4000";
    const STRANGER: &str = "198.51.100.66:4000";
    const NEIGHBOUR: &str = "192.0.2.200:5000";

    /// A packet: when in ms, from where, its sequence number; and whether it is to be heard.
    type Packet = (u64, &'static str, u16, bool);

    /// Plays packets of one SSRC and checks each, and where we send in the end.
    fn check(
        name: &str,
        (media, signalling): (Option<&str>, Option<&str>),
        packets: &[Packet],
        destination: Option<&str>,
    ) {
        let start = start();
        let expected = Expected {
            media: media.map(|media| media.parse().unwrap()),
            signalling: signalling.map(|ip| ip.parse().unwrap()),
        };
        let mut lock = SourceLock::new(start, expected);
        let mut now = start;
        for (n, &(ms, source, sequence, heard)) in packets.iter().enumerate() {
            now = start + Duration::from_millis(ms);
            let verdict = lock.packet(now, source.parse().unwrap(), 7, Some(sequence));
            assert_eq!(verdict != Verdict::Stranger, heard, "{name}: packet {n} {verdict:?}");
        }
        assert_eq!(lock.destination(now), destination.map(|to| to.parse().unwrap()), "{name}");
    }

    #[test]
    fn who_has_the_key_is_followed_at_once_and_late_packets_do_not_pull_back() {
        let now = start();
        let media = Some(SDP.parse().unwrap());
        let mut lock = SourceLock::new(now, Expected { media, signalling: None });
        let mut check = |source: &str, sequence, verdict, destination: &str| {
            assert_eq!(lock.authentic(now, source.parse().unwrap(), 7, sequence), verdict);
            assert_eq!(lock.destination(now), Some(destination.parse().unwrap()));
        };
        check(STRANGER, Some(65_535), Verdict::Locked, STRANGER);
        check(PRIVATE, Some(1), Verdict::Locked, PRIVATE);
        check(STRANGER, Some(0), Verdict::Known, PRIVATE);
        check(PRIVATE, Some(2), Verdict::Known, PRIVATE);
        check(NEIGHBOUR, None, Verdict::Known, PRIVATE);
        check(SDP, Some(3), Verdict::Locked, SDP);
    }

    #[test]
    fn table() {
        let plain = (Some(SDP), Some("192.0.2.7"));
        // Signalling comes through a proxy or NAT: anybody may be the peer.
        let nat = (Some(PRIVATE), Some("203.0.113.1"));
        check(
            "the SDP's address at once",
            plain,
            &[(0, SDP, 1, true), (20, SDP, 2, true)],
            Some(SDP),
        );
        check("nobody yet", plain, &[], Some(SDP));
        check(
            "no NAT, so no stranger ever",
            plain,
            &[
                (0, STRANGER, 1, false),
                (20, STRANGER, 2, false),
                (40, STRANGER, 3, false),
                (60, STRANGER, 4, false),
                (4_000, STRANGER, 5, false),
            ],
            Some(SDP),
        );
        check(
            "another port of the peer needs four in a row",
            plain,
            &[
                (0, NEAR, 1, false),
                (20, NEAR, 2, false),
                (40, NEAR, 3, false),
                (60, NEAR, 4, true),
                (80, NEAR, 5, true),
            ],
            Some(NEAR),
        );
        check(
            "not in a row",
            plain,
            &[
                (0, NEAR, 1, false),
                (20, NEAR, 3, false),
                (40, NEAR, 4, false),
                (60, NEAR, 5, false),
                (80, NEAR, 5, false),
            ],
            Some(SDP),
        );
        check(
            "the row may wrap",
            plain,
            &[
                (0, NEAR, 65_534, false),
                (20, NEAR, 65_535, false),
                (40, NEAR, 0, false),
                (60, NEAR, 1, true),
            ],
            Some(NEAR),
        );
        check(
            "behind NAT it is learnt from four",
            nat,
            &[
                (0, STRANGER, 1, false),
                (20, STRANGER, 2, false),
                (40, STRANGER, 3, false),
                (60, STRANGER, 4, true),
            ],
            Some(STRANGER),
        );
        check(
            "nor is anything sent there before",
            nat,
            &[(0, STRANGER, 1, false), (20, STRANGER, 2, false), (40, STRANGER, 3, false)],
            Some(PRIVATE),
        );
        check(
            "two at once are both kept out",
            nat,
            &[
                (0, STRANGER, 1, false),
                (1, NEIGHBOUR, 1, false),
                (20, STRANGER, 2, false),
                (21, NEIGHBOUR, 2, false),
                (40, STRANGER, 3, false),
                (41, NEIGHBOUR, 3, false),
                (60, STRANGER, 4, false),
            ],
            Some(PRIVATE),
        );
        check(
            "unless one is where signalling is",
            nat,
            &[
                (0, "203.0.113.1:7", 1, false),
                (1, STRANGER, 1, false),
                (20, "203.0.113.1:7", 2, false),
                (21, STRANGER, 2, false),
                (40, "203.0.113.1:7", 3, false),
                (41, STRANGER, 3, false),
                (60, "203.0.113.1:7", 4, true),
            ],
            Some("203.0.113.1:7"),
        );
        let learnt = [
            (0, STRANGER, 1, false),
            (20, STRANGER, 2, false),
            (40, STRANGER, 3, false),
            (60, STRANGER, 4, true),
        ];
        let then = |more: &[Packet]| [&learnt[..], more].concat();
        check(
            "the signalling address wins within three seconds",
            nat,
            &then(&[
                (500, "203.0.113.1:7", 9, false),
                (520, "203.0.113.1:7", 10, false),
                (540, "203.0.113.1:7", 11, false),
                (560, "203.0.113.1:7", 12, true),
                (580, STRANGER, 5, false),
            ]),
            Some("203.0.113.1:7"),
        );
        check(
            "and no longer afterwards",
            nat,
            &then(&[
                (3_100, STRANGER, 150, true),
                (3_200, "203.0.113.1:7", 9, false),
                (3_220, "203.0.113.1:7", 10, false),
                (3_240, "203.0.113.1:7", 11, false),
                (3_260, "203.0.113.1:7", 12, false),
            ]),
            Some(STRANGER),
        );
        check(
            "the SDP's address wins whenever it comes",
            nat,
            &then(&[(9_000, STRANGER, 450, true), (9_001, PRIVATE, 1, true)]),
            Some(PRIVATE),
        );
        check(
            "once locked, strict",
            plain,
            &[
                (0, SDP, 1, true),
                (20, NEAR, 2, false),
                (40, NEAR, 3, false),
                (60, NEAR, 4, false),
                (80, NEAR, 5, false),
                (90, NEAR, 6, false),
                (100, SDP, 7, true),
            ],
            Some(SDP),
        );
        check(
            "moves when the old address is silent and a neighbour goes on",
            plain,
            &[
                (0, SDP, 1, true),
                (500, NEIGHBOUR, 26, false),
                (520, NEIGHBOUR, 27, false),
                (540, NEIGHBOUR, 28, false),
                (560, NEIGHBOUR, 29, true),
            ],
            Some(NEIGHBOUR),
        );
        check(
            "not while the old one speaks",
            plain,
            &[
                (0, SDP, 1, true),
                (480, SDP, 25, true),
                (500, NEIGHBOUR, 26, false),
                (520, NEIGHBOUR, 27, false),
                (540, NEIGHBOUR, 28, false),
                (560, NEIGHBOUR, 29, false),
            ],
            Some(SDP),
        );
        check(
            "not to another network",
            plain,
            &[
                (0, SDP, 1, true),
                (900, STRANGER, 26, false),
                (920, STRANGER, 27, false),
                (940, STRANGER, 28, false),
                (960, STRANGER, 29, false),
            ],
            Some(SDP),
        );
        check(
            "not with a sequence from nowhere",
            plain,
            &[
                (0, SDP, 1, true),
                (900, NEIGHBOUR, 4_000, false),
                (920, NEIGHBOUR, 4_001, false),
                (940, NEIGHBOUR, 4_002, false),
                (960, NEIGHBOUR, 4_003, false),
            ],
            Some(SDP),
        );
        check("no address, and nobody", (None, None), &[], None);
    }

    #[test]
    fn an_address_where_nobody_answers_is_sent_to_for_five_seconds() {
        let start = start();
        let expected = Expected { media: Some(SDP.parse().unwrap()), signalling: None };
        let mut lock = SourceLock::new(start, expected);
        assert!(lock.destination(start + UNVERIFIED_SEND - Duration::from_millis(1)).is_some());
        assert_eq!(lock.destination(start + UNVERIFIED_SEND), None);
        let now = start + Duration::from_secs(20);
        lock.verify(now);
        assert!(lock.destination(now).is_some());
        lock.packet(now, SDP.parse().unwrap(), 7, Some(1));
        assert!(lock.destination(now + Duration::from_secs(3_600)).is_some());
        assert_eq!((lock.heard(), lock.locked()), (Some(now), Some(SDP.parse().unwrap())));
    }

    #[test]
    fn a_re_invite_turns_us_to_the_new_address() {
        let start = start();
        let plain = Expected { media: Some(SDP.parse().unwrap()), signalling: None };
        let moved = Expected { media: Some("192.0.2.7:6000".parse().unwrap()), signalling: None };
        let mut lock = SourceLock::new(start, plain);
        lock.packet(start, SDP.parse().unwrap(), 7, Some(1));
        lock.expect(start, plain);
        assert_eq!(lock.locked(), Some(SDP.parse().unwrap()), "nothing changed");
        lock.expect(start, moved);
        assert_eq!(lock.destination(start), moved.media);
        assert_eq!(lock.packet(start, moved.media.unwrap(), 7, Some(2)), Verdict::Locked);

        // A source that was learnt stays until the new address speaks.
        let mut lock = SourceLock::new(
            start,
            Expected { media: Some(PRIVATE.parse().unwrap()), signalling: None },
        );
        for sequence in 0..4 {
            lock.packet(start, STRANGER.parse().unwrap(), 7, Some(sequence));
        }
        lock.expect(start, moved);
        assert_eq!(lock.destination(start), Some(STRANGER.parse().unwrap()));
        let late = start + Duration::from_secs(60);
        assert_eq!(lock.packet(late, moved.media.unwrap(), 8, Some(9)), Verdict::Locked);
    }

    #[test]
    fn networks_are_compared_by_24_and_64_bits() {
        for (a, b, same) in [
            ("192.0.2.1", "192.0.2.255", true),
            ("192.0.2.1", "192.0.3.1", false),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", false),
        ] {
            assert_eq!(same_network(a.parse().unwrap(), b.parse().unwrap()), same, "{a} {b}");
        }
    }
}
