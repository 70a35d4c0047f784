//! One caller's audio.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::FRAME_SAMPLES;
use crate::codec::Codec;
use crate::jitter::JitterStats;

/// What signalling agreed on for one leg. A re-INVITE brings a new one ([`Leg::reconfigure`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegConfig {
    /// Payload types that the peer may send us, and what they mean.
    pub receive: Vec<Format>,
    /// Payload types of `telephone-event` that the peer may send, at whatever clock rate (RFC 4733).
    pub events: Vec<u8>,
    /// The format that we send.
    pub send: Format,
    /// Id of the `ssrc-audio-level` header extension, 1 to 255 (RFC 6464), if negotiated.
    pub level_extension: Option<u8>,
    /// RTCP shares the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// Where the peer's SDP says that it receives RTP. `None` on `c=0.0.0.0`.
    pub remote: Option<SocketAddr>,
    /// Where the peer receives RTCP; used when not multiplexed.
    pub remote_rtcp: Option<SocketAddr>,
    /// The address that the peer's signalling comes from: a hint for peers behind NAT.
    pub signalling: Option<IpAddr>,
}

/// A payload type and its codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// What it means.
    pub codec: Codec,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Audio, taken into the buffer.
    Audio,
    /// The first packet of a key press: report it (RFC 4733). Each press is reported once.
    Digit(char),
    /// Part of a key press that has been reported.
    DigitContinues,
    /// RTCP, digested.
    Rtcp,
    /// Refused; counted in [`LegStats::dropped`].
    Dropped(DropReason),
}

/// Why a packet changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Longer than [`crate::MAX_PACKET`].
    TooLong,
    /// Breaks RTP's or RTCP's format, or the codec's.
    Malformed,
    /// From an address that is not the leg's peer.
    Source,
    /// A payload type that was not negotiated.
    PayloadType,
    /// A new SSRC that has not shown itself long enough.
    Ssrc,
    /// Duplicate, or later than its moment.
    Stale,
}

/// What the next frame holds, known without decoding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing to play, or the sender says that it is silent.
    Silent,
    /// The sender says how loud it is, in dBov (0 loudest, −127 silent), and whether it is voice (RFC 6464),
    /// or Opus's own voice flag says that it is.
    Voice {
        /// Level in dBov if the sender tells it.
        level_dbov: Option<i8>,
    },
    /// Only decoding will tell.
    Unknown,
}

/// What a tick brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heard {
    /// The frame holds sound. When false, it is all zeros and need not be summed.
    pub sound: bool,
    /// Loudness of the frame in dBov, −127.0 for silence. After [`Leg::tick_skip`] the sender's own word.
    pub level_dbov: f32,
    /// The frame is taken for speech.
    pub voice: bool,
}

/// Counters and gauges of one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LegStats {
    /// The jitter buffer's.
    pub jitter: JitterStats,
    /// Packets that the network lost (RFC 3550 A.3).
    pub lost: u64,
    /// Interarrival jitter, in seconds (RFC 3550 A.8).
    pub interarrival_jitter_s: f64,
    /// Packets sent.
    pub sent: u64,
    /// Fraction of our packets that the peer reports lost, 0.0 to 1.0.
    pub remote_loss: f64,
    /// Round-trip time by RTCP, if known.
    pub rtt: Option<Duration>,
}

/// One caller's audio between socket and mix.
#[derive(Debug)]
pub struct Leg {
    config: LegConfig,
}

impl Leg {
    /// Opens a leg. `seed` decides SSRC, first sequence number and timestamp, and the pace of RTCP; it must be
    /// unguessable to others (RFC 3550 §5.1). `cname` is ours (RFC 7022).
    #[must_use]
    pub fn new(now: Instant, config: LegConfig, cname: &str, seed: u64) -> Self {
        let _ = (now, cname, seed);
        Self { config }
    }

    /// Takes over what a re-INVITE changed; our SSRC, sequence and timestamps go on.
    pub fn reconfigure(&mut self, now: Instant, config: LegConfig) {
        let _ = now;
        self.config = config;
    }

    /// Takes one datagram from the RTP port.
    pub fn receive(&mut self, now: Instant, source: SocketAddr, packet: &[u8]) -> Received {
        let _ = (now, source, packet);
        Received::Dropped(DropReason::Malformed)
    }

    /// Takes one datagram from the RTCP port, when the two are not multiplexed.
    pub fn receive_rtcp(&mut self, now: Instant, source: SocketAddr, packet: &[u8]) -> Received {
        let _ = (now, source, packet);
        Received::Dropped(DropReason::Malformed)
    }

    /// What the next [`Leg::tick`] would play. Lets the mixer choose whom to decode.
    #[must_use]
    pub fn upcoming(&self, now: Instant) -> Activity {
        let _ = now;
        Activity::Silent
    }

    /// Plays 20 ms into `frame` (samples in ±1.0 at 48 kHz).
    pub fn tick(&mut self, now: Instant, frame: &mut [f32; FRAME_SAMPLES]) -> Heard {
        let _ = now;
        frame.fill(0.0);
        Heard { sound: false, level_dbov: -127.0, voice: false }
    }

    /// Lets 20 ms pass without decoding: for legs that nobody may hear.
    pub fn tick_skip(&mut self, now: Instant) -> Heard {
        let _ = now;
        Heard { sound: false, level_dbov: -127.0, voice: false }
    }

    /// Writes header and `payload` of a frame of `samples` (at 48 kHz) into `out` and returns the packet's length,
    /// or 0 when it does not fit or there is nobody to send to.
    pub fn packetize(
        &mut self,
        now: Instant,
        payload: &[u8],
        samples: u32,
        out: &mut [u8],
    ) -> usize {
        let _ = (now, payload, samples, out);
        0
    }

    /// Lets `samples` (at 48 kHz) pass unsent; the next packet starts a talk-spurt (marker bit).
    pub fn pause(&mut self, samples: u32) {
        let _ = samples;
    }

    /// Where RTP goes to, if anywhere yet.
    #[must_use]
    pub fn remote(&self, now: Instant) -> Option<SocketAddr> {
        let _ = now;
        self.config.remote
    }

    /// Where RTCP goes to, if anywhere yet. Equal to [`Leg::remote`] when multiplexed.
    #[must_use]
    pub fn remote_rtcp(&self, now: Instant) -> Option<SocketAddr> {
        let _ = now;
        self.config.remote_rtcp
    }

    /// When [`Leg::handle_timeout`] has a report to write.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Writes the RTCP report that is due into `out` and returns its length; 0 when none is.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut [u8]) -> usize {
        let _ = (now, out);
        0
    }

    /// Writes the RTCP BYE that ends our stream and returns its length.
    pub fn bye(&mut self, now: Instant, out: &mut [u8]) -> usize {
        let _ = (now, out);
        0
    }

    /// When the peer was last heard by RTP or RTCP.
    #[must_use]
    pub fn last_heard(&self) -> Option<Instant> {
        None
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> LegStats {
        LegStats::default()
    }
}
