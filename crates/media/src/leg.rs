//! One caller's audio: packets in, a frame a tick out; payloads in, packets out.
//!
//! Receiving, a packet passes in this order, and each step may drop it: SRTP if it was agreed on, format, payload type, source, stream (SSRC),
//! sequence, key presses, payload, jitter buffer. Dropping changes nothing but a counter.
//!
//! Encoding is not here: the mixer encodes a mix once and gives the payload to every leg that shall hear it
//! ([`Leg::packetize`]).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::codec::{Codec, Decoder};
use crate::dtmf::{KeyEvent, Keypad};
use crate::jitter::{Arrival, Inserted, JitterBuffer, JitterStats, Played};
use crate::level::{AudioLevel, SILENCE_DBOV, measure_dbov};
use crate::rtcp::{self, Compound, Pace, Reception, SenderInfo, Sequence};
use crate::rtp::{self, Header};
use crate::source::{Expected, SourceLock, Verdict};
use crate::srtp::{Incoming, Keys, Outgoing};
use crate::stretch;
use crate::{FRAME_SAMPLES, MAX_PACKET, SAMPLE_RATE, TICK, srtp};

/// Packets in a row that a new SSRC needs before it replaces the old one.
pub const NEW_SSRC_PACKETS: u32 = 4;
/// Formats and event types that one leg can receive.
pub const MAX_FORMATS: usize = 16;
/// Frames quieter than this may be taken out to shorten the delay, in dBov …
pub const QUIET_DBOV: f32 = -50.0;
/// … and frames so much quieter than the leg's voice, in dB: its room is not silent.
pub const QUIET_BELOW_DB: f32 = 25.0;
/// How fast the voice is forgotten, in dB a tick.
const VOICE_FALLS_DB: f32 = 0.05;
/// Frames louder than this are taken for speech when the sender tells nothing, in dBov.
pub const SPEECH_DBOV: f32 = -45.0;

/// What signalling agreed on for one leg. A re-INVITE brings a new one ([`Leg::reconfigure`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegConfig {
    /// Payload types that the peer may send us, and what they mean; more than [`MAX_FORMATS`] are ignored.
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
    /// Where the peer receives RTCP, used when not multiplexed: its `a=rtcp`, or the port above RTP's.
    pub remote_rtcp: Option<SocketAddr>,
    /// The address that the peer's signalling comes from: a hint for peers behind NAT.
    pub signalling: Option<IpAddr>,
    /// With what packets are protected both ways; `None`: plain RTP.
    pub srtp: Option<Keys>,
}

impl LegConfig {
    fn rtp_source(&self) -> Expected {
        Expected { media: self.remote, signalling: self.signalling }
    }

    fn rtcp_source(&self) -> Expected {
        Expected { media: self.remote_rtcp, signalling: self.signalling }
    }
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
    /// Part of a key press that has been reported, or an event that is no key.
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
    /// A new SSRC that has not shown itself long enough, or our own.
    Ssrc,
    /// Came twice.
    Duplicate,
    /// Came after its moment, or far out of sequence.
    Late,
    /// Not protected with the key that was agreed on, or played again.
    NotAuthentic,
}

impl DropReason {
    /// All reasons, in the order in which [`LegStats::dropped`] counts them.
    pub const ALL: [Self; 8] = [
        Self::TooLong,
        Self::Malformed,
        Self::Source,
        Self::PayloadType,
        Self::Ssrc,
        Self::Duplicate,
        Self::Late,
        Self::NotAuthentic,
    ];
}

/// What the next frame holds, known without decoding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing to play, or the sender says that it is silent.
    Silent,
    /// The sender tells whether it speaks: by audio level (RFC 6464) or by Opus's own voice flag.
    Told {
        /// It takes it for speech.
        voice: bool,
        /// How loud, in dBov (0 loudest, −127 silence), if it tells that.
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

impl Heard {
    const NOTHING: Self = Self { sound: false, level_dbov: SILENCE_DBOV, voice: false };
}

/// Counters and gauges of one leg.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LegStats {
    /// The jitter buffer's.
    pub jitter: JitterStats,
    /// Packets that the network lost (RFC 3550 A.3).
    pub lost: u64,
    /// Packets dropped, by [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Payloads that the decoder refused.
    pub undecodable: u64,
    /// Interarrival jitter, in seconds (RFC 3550 A.8).
    pub interarrival_jitter_s: f64,
    /// Packets sent.
    pub sent: u64,
    /// Payload bytes sent.
    pub sent_bytes: u64,
    /// Fraction of our packets that the peer reports lost, 0.0 to 1.0.
    pub remote_loss: f64,
    /// Round-trip time by RTCP, if known.
    pub rtt: Option<Duration>,
}

/// What the jitter buffer keeps beside each payload.
#[derive(Clone, Copy, Debug)]
struct Tag {
    codec: Codec,
    activity: Activity,
    /// Its length, in the codec's clock.
    samples: u32,
}

/// The peer's stream.
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    reception: Reception,
    timestamp: i64,
}

/// A new SSRC on trial.
#[derive(Clone, Copy, Debug)]
struct Newcomer {
    ssrc: u32,
    sequence: u16,
    packets: u32,
}

/// Our stream.
#[derive(Debug)]
struct Sending {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// The next packet starts a talk-spurt.
    spurt: bool,
    packets: u64,
    octets: u64,
    /// When a packet last went out, and its timestamp.
    last: Option<(Instant, u32)>,
    /// What had been sent at the last report.
    reported: u64,
}

/// Both directions of SRTP.
#[derive(Debug)]
struct Srtp {
    outgoing: Outgoing,
    incoming: Incoming,
}

/// One caller's audio between socket and mix.
#[derive(Debug)]
pub struct Leg {
    config: LegConfig,
    srtp: Option<Box<Srtp>>,
    cname: String,
    opened: Instant,
    rtp_lock: SourceLock,
    rtcp_lock: SourceLock,
    stream: Option<Stream>,
    newcomer: Option<Newcomer>,
    keypad: Keypad,
    jitter: JitterBuffer<Tag>,
    decoder: Option<Decoder>,
    /// The decoder has missed packets that were not to be heard.
    stale: bool,
    /// What the decoder decoded last was quiet.
    left_quiet: bool,
    /// Decoded samples that have not been played.
    pcm: Vec<f32>,
    /// What the samples in `pcm` are.
    activity: Activity,
    /// The last samples put into `pcm` were sound.
    sounding: bool,
    quiet: bool,
    /// How loud the voice has been of late.
    voice_dbov: f32,
    sending: Sending,
    pace: Pace,
    dropped: [u64; DropReason::ALL.len()],
    undecodable: u64,
    /// Lost of streams that have ended.
    lost_before: u64,
    remote_loss: f64,
    rtt: Option<Duration>,
}

impl Leg {
    /// Opens a leg. `seed` decides SSRC, first sequence number and timestamp, and the pace of RTCP; it must be
    /// unguessable to others (RFC 3550 §5.1). `cname` is ours (RFC 7022).
    #[must_use]
    pub fn new(now: Instant, config: LegConfig, cname: &str, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let sending = Sending {
            ssrc: random.random(),
            // Below half of its range: whoever loses the first packets still knows that it has not wrapped
            // (RFC 3711 §3.3.1).
            sequence: random.random::<u16>() >> 1,
            timestamp: random.random(),
            spurt: true,
            packets: 0,
            octets: 0,
            last: None,
            reported: 0,
        };
        let rate = config.receive.first().map_or(SAMPLE_RATE, |format| format.codec.clock_rate());
        Self {
            rtp_lock: SourceLock::new(now, config.rtp_source()),
            rtcp_lock: SourceLock::new(now, config.rtcp_source()),
            srtp: config.srtp.as_ref().map(|keys| Box::new(Srtp::new(keys))),
            config,
            cname: cname.to_owned(),
            opened: now,
            stream: None,
            newcomer: None,
            keypad: Keypad::default(),
            jitter: JitterBuffer::new(now, rate),
            decoder: None,
            stale: false,
            left_quiet: true,
            pcm: Vec::new(),
            activity: Activity::Silent,
            sounding: false,
            quiet: true,
            voice_dbov: SILENCE_DBOV,
            sending,
            pace: Pace::new(now, random.random()),
            dropped: [0; DropReason::ALL.len()],
            undecodable: 0,
            lost_before: 0,
            remote_loss: 0.0,
            rtt: None,
        }
    }

    /// Takes over what a re-INVITE changed; our SSRC, sequence and timestamps go on. A key that stays goes on as well,
    /// with its rollover counter (RFC 4568 §7.1.4).
    pub fn reconfigure(&mut self, now: Instant, config: LegConfig) {
        self.rtp_lock.expect(now, config.rtp_source());
        self.rtcp_lock.expect(now, config.rtcp_source());
        if config.send != self.config.send {
            self.sending.spurt = true;
        }
        match (&mut self.srtp, &self.config.srtp, &config.srtp) {
            (Some(srtp), Some(old), Some(new)) => srtp.change(old, new),
            (srtp, _, new) => *srtp = new.as_ref().map(|keys| Box::new(Srtp::new(keys))),
        }
        self.config = config;
    }

    /// Takes one datagram from the RTP port.
    pub fn receive(&mut self, now: Instant, source: SocketAddr, packet: &[u8]) -> Received {
        let received = if packet.len() > MAX_PACKET {
            Err(DropReason::TooLong)
        } else if self.config.rtcp_mux && rtp::is_rtcp(packet) {
            self.open_rtcp(now, source, packet)
        } else if let Some(srtp) = &mut self.srtp {
            let mut plain = [0; MAX_PACKET];
            match srtp.incoming.unprotect(packet, &mut plain) {
                Ok(len) => self.rtp(now, source, &plain[..len]),
                Err(_) => Err(DropReason::NotAuthentic),
            }
        } else {
            self.rtp(now, source, packet)
        };
        self.count(received)
    }

    /// Takes one datagram from the RTCP port, when the two are not multiplexed.
    pub fn receive_rtcp(&mut self, now: Instant, source: SocketAddr, packet: &[u8]) -> Received {
        let received = if packet.len() > MAX_PACKET {
            Err(DropReason::TooLong)
        } else {
            self.open_rtcp(now, source, packet)
        };
        self.count(received)
    }

    /// What the next [`Leg::tick`] would play. Lets the mixer choose whom to decode.
    #[must_use]
    pub fn upcoming(&self) -> Activity {
        if self.pcm.len() >= FRAME_SAMPLES {
            self.activity
        } else if let Some(tag) = self.jitter.peek() {
            tag.activity
        } else if self.jitter.playing() || !self.pcm.is_empty() {
            self.activity
        } else {
            Activity::Silent
        }
    }

    /// Plays 20 ms into `frame` (samples in ±1.0 at 48 kHz).
    pub fn tick(&mut self, now: Instant, frame: &mut [f32; FRAME_SAMPLES]) -> Heard {
        let silent_before = !self.sounding && self.pcm.is_empty();
        self.fill(now, FRAME_SAMPLES);
        if silent_before && !self.sounding {
            self.pcm.clear();
            frame.fill(0.0);
            return Heard::NOTHING;
        }
        let anyway = self.jitter.excess(now, self.quiet);
        if let Some(excess) = anyway.or_else(|| self.jitter.steady_excess(now)) {
            if self.jitter.follows() {
                self.fill(now, 2 * FRAME_SAMPLES);
            }
            let most = duration_to_samples(excess).min(self.pcm.len() - FRAME_SAMPLES);
            let shorten =
                if anyway.is_some() { stretch::shorten } else { stretch::shorten_unnoticed };
            let removed = shorten(&mut self.pcm, most);
            if removed > 0 {
                self.jitter.shrunk(now, samples_to_duration(removed));
            }
        }
        frame.copy_from_slice(&self.pcm[..FRAME_SAMPLES]);
        self.pcm.drain(..FRAME_SAMPLES);
        let level_dbov = measure_dbov(frame);
        self.voice_dbov = level_dbov.max(self.voice_dbov - VOICE_FALLS_DB);
        self.quiet = level_dbov < QUIET_DBOV.max(self.voice_dbov - QUIET_BELOW_DB);
        self.left_quiet = self.quiet;
        let voice = match self.activity {
            Activity::Told { voice, .. } => voice && level_dbov > SILENCE_DBOV,
            Activity::Silent => false,
            Activity::Unknown => level_dbov > SPEECH_DBOV,
        };
        Heard { sound: level_dbov > SILENCE_DBOV, level_dbov, voice }
    }

    /// The codec of which the next [`Leg::tick`] will make a decoder, unless it is lent one.
    #[must_use]
    pub fn lacks_decoder(&self) -> Option<Codec> {
        self.decoder.is_none().then(|| self.jitter.peek().map(|tag| tag.codec)).flatten()
    }

    /// Decodes with what [`Leg::spare_decoder`] of some leg gave: a decoder is 18 KiB, and of many legs few are
    /// listened to.
    pub fn lend_decoder(&mut self, decoder: Decoder) {
        self.decoder = Some(decoder);
    }

    /// Gives the decoder away, for as long as this leg is not listened to. It needs no reset if what it decoded last was
    /// quiet: of that nothing will be heard, and to start afresh costs twice a decode.
    pub fn spare_decoder(&mut self) -> Option<Decoder> {
        let mut decoder = self.decoder.take()?;
        if !self.left_quiet {
            decoder.reset();
        }
        (self.stale, self.left_quiet, self.sounding) = (true, true, false);
        if self.pcm.is_empty() {
            self.pcm = Vec::new();
        }
        Some(decoder)
    }

    /// Lets 20 ms pass without decoding: for legs that nobody may hear.
    pub fn tick_skip(&mut self, now: Instant) -> Heard {
        // What nobody hears may be left out without a seam.
        let follows = self.jitter.follows();
        let excess = self.jitter.excess(now, true).filter(|_| follows).unwrap_or_default();
        let wanted = FRAME_SAMPLES + duration_to_samples(excess).min(FRAME_SAMPLES);
        let mut passed = self.pcm.len().min(wanted);
        self.pcm.drain(..passed);
        while passed < wanted {
            let most = (wanted - passed).min(FRAME_SAMPLES);
            passed += self.pass_by(now + samples_to_duration(passed), most);
            (self.stale, self.sounding) = (true, false);
        }
        self.pcm.resize(self.pcm.len() + passed - wanted, 0.0);
        if wanted > FRAME_SAMPLES {
            self.jitter.shrunk(now, samples_to_duration(wanted - FRAME_SAMPLES));
        }
        self.quiet = true;
        match self.activity {
            Activity::Told { voice, level_dbov } => Heard {
                sound: false,
                level_dbov: level_dbov.map_or(SILENCE_DBOV, f32::from),
                voice,
            },
            Activity::Silent | Activity::Unknown => Heard::NOTHING,
        }
    }

    /// Writes header and `payload` of a frame of `samples` (at 48 kHz) into `out` and returns the packet's length, or
    /// 0 when it does not fit.
    pub fn packetize(
        &mut self,
        now: Instant,
        payload: &[u8],
        samples: u32,
        out: &mut [u8],
    ) -> usize {
        let len = rtp::HEADER_LEN + payload.len();
        let overhead = if self.srtp.is_some() { srtp::MAX_OVERHEAD } else { 0 };
        if len + overhead > MAX_PACKET.min(out.len()) {
            self.pause(samples);
            return 0;
        }
        out[..rtp::HEADER_LEN].copy_from_slice(&self.header(now, payload.len(), samples));
        out[rtp::HEADER_LEN..len].copy_from_slice(payload);
        match &mut self.srtp {
            // There is room for it.
            Some(srtp) => srtp.outgoing.protect(out, len).unwrap_or(0),
            None => len,
        }
    }

    /// The header of a frame of `samples` (at 48 kHz) with a payload of `payload_len` bytes.
    fn header(&mut self, now: Instant, payload_len: usize, samples: u32) -> [u8; rtp::HEADER_LEN] {
        let sending = &mut self.sending;
        let header = Header {
            marker: std::mem::take(&mut sending.spurt),
            payload_type: self.config.send.payload_type,
            sequence: sending.sequence,
            timestamp: sending.timestamp,
            ssrc: sending.ssrc,
        };
        sending.sequence = sending.sequence.wrapping_add(1);
        sending.packets += 1;
        sending.octets += payload_len as u64;
        sending.last = Some((now, sending.timestamp));
        self.pass(samples);
        header.to_bytes()
    }

    /// Lets `samples` (at 48 kHz) pass unsent; the next packet starts a talk-spurt (marker bit).
    pub fn pause(&mut self, samples: u32) {
        self.sending.spurt = true;
        self.pass(samples);
    }

    /// Where RTP goes to, if anywhere yet.
    #[must_use]
    pub fn remote(&self, now: Instant) -> Option<SocketAddr> {
        self.rtp_lock.destination(now)
    }

    /// Where RTCP goes to, if anywhere yet. Equal to [`Leg::remote`] when multiplexed.
    #[must_use]
    pub fn remote_rtcp(&self, now: Instant) -> Option<SocketAddr> {
        if self.config.rtcp_mux { self.remote(now) } else { self.rtcp_lock.destination(now) }
    }

    /// When [`Leg::handle_timeout`] has a report to write.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.pace.next()
    }

    /// Writes the RTCP report that is due into `out` and returns its length; 0 when none is, or it does not fit.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut [u8]) -> usize {
        if now < self.pace.next() {
            return 0;
        }
        let len = self.report(now, out, false);
        self.pace.sent(now, len);
        len
    }

    /// Writes the RTCP BYE that ends our stream and returns its length; 0 when it does not fit.
    pub fn bye(&mut self, now: Instant, out: &mut [u8]) -> usize {
        self.report(now, out, true)
    }

    /// When the peer was last heard by RTP or RTCP.
    #[must_use]
    pub fn last_heard(&self) -> Option<Instant> {
        self.rtp_lock.heard().max(self.rtcp_lock.heard())
    }

    /// The key that the caller holds down now.
    #[must_use]
    pub fn key_held(&self, now: Instant) -> Option<char> {
        self.keypad.held(now)
    }

    /// Our SSRC.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.sending.ssrc
    }

    /// Sends with an SSRC that signalling has told the peer already; before the first packet.
    pub fn set_ssrc(&mut self, ssrc: u32) {
        self.sending.ssrc = ssrc;
    }

    /// The SSRC that the peer sends with, once it does.
    #[must_use]
    pub fn peer_ssrc(&self) -> Option<u32> {
        self.stream.as_ref().map(|stream| stream.ssrc)
    }

    /// The format that we send now.
    #[must_use]
    pub fn send_format(&self) -> Format {
        self.config.send
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> LegStats {
        let reception = self.stream.as_ref().map(|stream| &stream.reception);
        LegStats {
            jitter: self.jitter.stats(),
            lost: self.lost_before + reception.map_or(0, Reception::lost),
            dropped: self.dropped,
            undecodable: self.undecodable,
            interarrival_jitter_s: reception
                .map_or(0.0, |r| f64::from(r.jitter()) / f64::from(self.jitter.rate())),
            sent: self.sending.packets,
            sent_bytes: self.sending.octets,
            remote_loss: self.remote_loss,
            rtt: self.rtt,
        }
    }

    fn count(&mut self, received: Result<Received, DropReason>) -> Received {
        received.unwrap_or_else(|reason| {
            self.dropped[reason as usize] += 1;
            Received::Dropped(reason)
        })
    }

    fn rtp(
        &mut self,
        now: Instant,
        source: SocketAddr,
        packet: &[u8],
    ) -> Result<Received, DropReason> {
        let packet = rtp::Packet::parse(packet).map_err(|_| DropReason::Malformed)?;
        let payload_type = packet.payload_type();
        let codec = self
            .config
            .receive
            .iter()
            .take(MAX_FORMATS)
            .find(|format| format.payload_type == payload_type)
            .map(|format| format.codec);
        let event = codec.is_none()
            && self.config.events.iter().take(MAX_FORMATS).any(|event| *event == payload_type);
        if codec.is_none() && !event {
            return Err(DropReason::PayloadType);
        }
        // Looked at before the source may be locked by it: nonsense teaches nothing.
        let told = match codec {
            Some(codec) => {
                Some((codec, codec.inspect(packet.payload()).map_err(|_| DropReason::Malformed)?))
            }
            None if packet.payload().len() < 4 => return Err(DropReason::Malformed),
            None => None,
        };
        let ssrc = packet.ssrc();
        if ssrc == self.sending.ssrc {
            // A loop of our own packets, or a collision, which is as likely as one in four thousand million.
            return Err(DropReason::Ssrc);
        }
        let verdict = if self.srtp.is_some() {
            self.rtp_lock.authentic(now, source, ssrc, Some(packet.sequence()))
        } else {
            self.rtp_lock.packet(now, source, ssrc, Some(packet.sequence()))
        };
        match verdict {
            Verdict::Stranger => return Err(DropReason::Source),
            Verdict::Locked => self.turn_rtcp(now, source),
            Verdict::Known => {}
        }
        self.admit(ssrc, packet.sequence())?;
        let stream = self.stream.as_mut().ok_or(DropReason::Ssrc)?;
        let sequence = match stream.reception.sequence(packet.sequence()) {
            Sequence::Valid(sequence) => sequence,
            Sequence::Restarted(sequence) => {
                self.jitter.restart(self.jitter.rate());
                sequence
            }
            Sequence::Suspect => return Err(DropReason::Late),
        };
        let Some((codec, told)) = told else {
            self.jitter
                .skip(sequence, Tag { codec: Codec::Pcmu, activity: Activity::Silent, samples: 0 });
            return match self.keypad.packet(now, packet.timestamp(), packet.payload()) {
                KeyEvent::Pressed(key) => Ok(Received::Digit(key)),
                KeyEvent::Nothing => Ok(Received::DigitContinues),
                KeyEvent::Malformed => Err(DropReason::Malformed),
            };
        };
        let rate = codec.clock_rate();
        if rate != self.jitter.rate() {
            self.jitter.restart(rate);
        }
        stream.timestamp = rtp::unwrap_timestamp(stream.timestamp, packet.timestamp());
        let arrival = now.saturating_duration_since(self.opened).as_micros() as i64;
        stream.reception.arrival(arrival * i64::from(rate) / 1_000_000, stream.timestamp);
        let level = self
            .config
            .level_extension
            .and_then(|id| packet.extensions().find(|(found, _)| *found == id))
            .and_then(|(_, data)| AudioLevel::parse(data));
        let activity = match (level, told.voice) {
            _ if told.silent => Activity::Silent,
            (Some(AudioLevel { dbov: -127, .. }), _) => Activity::Silent,
            (Some(level), voice) => Activity::Told {
                // Many set the flag never or always; Opus's own then knows better.
                voice: voice.unwrap_or(level.voice || f32::from(level.dbov) > SPEECH_DBOV),
                level_dbov: Some(level.dbov),
            },
            (None, Some(voice)) => Activity::Told { voice, level_dbov: None },
            (None, None) => Activity::Unknown,
        };
        let inserted = self.jitter.insert(
            now,
            &Arrival {
                sequence,
                timestamp: packet.timestamp(),
                samples: told.samples,
                marker: packet.marker(),
                silent: told.silent,
                fec: told.fec,
                tag: Tag { codec, activity, samples: told.samples },
                payload: packet.payload(),
            },
        );
        match inserted {
            Inserted::Buffered => Ok(Received::Audio),
            Inserted::Duplicate => Err(DropReason::Duplicate),
            Inserted::Late => Err(DropReason::Late),
        }
    }

    /// Lets the leg's stream pass; another SSRC becomes the leg's stream when it has come often enough in a row.
    fn admit(&mut self, ssrc: u32, sequence: u16) -> Result<(), DropReason> {
        if self.stream.as_ref().is_some_and(|stream| stream.ssrc == ssrc) {
            self.newcomer = None;
            return Ok(());
        }
        if self.stream.is_some() {
            let packets = match self.newcomer {
                Some(n) if n.ssrc == ssrc && sequence == n.sequence.wrapping_add(1) => {
                    n.packets + 1
                }
                _ => 1,
            };
            self.newcomer = Some(Newcomer { ssrc, sequence, packets });
            if packets < NEW_SSRC_PACKETS {
                return Err(DropReason::Ssrc);
            }
        }
        self.jitter.restart(self.jitter.rate());
        self.end_stream();
        self.newcomer = None;
        self.keypad = Keypad::default();
        self.stream = Some(Stream { ssrc, reception: Reception::new(sequence), timestamp: 0 });
        Ok(())
    }

    fn end_stream(&mut self) {
        self.lost_before += self.stream.take().map_or(0, |stream| stream.reception.lost());
    }

    /// A peer found elsewhere than its SDP says sends RTCP from the port above (RFC 3550 §11).
    fn turn_rtcp(&mut self, now: Instant, source: SocketAddr) {
        if Some(source) != self.config.remote {
            let above = source.port().checked_add(1).map(|port| SocketAddr::new(source.ip(), port));
            self.rtcp_lock
                .expect(now, Expected { media: above, signalling: self.config.signalling });
        }
    }

    /// Takes RTCP, out of its protection if there is one.
    fn open_rtcp(
        &mut self,
        now: Instant,
        source: SocketAddr,
        packet: &[u8],
    ) -> Result<Received, DropReason> {
        let Some(srtp) = &mut self.srtp else { return self.rtcp(now, source, packet) };
        let mut plain = [0; MAX_PACKET];
        match srtp.incoming.unprotect_rtcp(packet, &mut plain) {
            Ok(len) => self.rtcp(now, source, &plain[..len]),
            Err(_) => Err(DropReason::NotAuthentic),
        }
    }

    fn rtcp(
        &mut self,
        now: Instant,
        source: SocketAddr,
        packet: &[u8],
    ) -> Result<Received, DropReason> {
        let compound = Compound::parse(packet).map_err(|_| DropReason::Malformed)?;
        let reporter = compound
            .packets()
            .find_map(|packet| match packet {
                rtcp::Packet::SenderReport { ssrc, .. }
                | rtcp::Packet::ReceiverReport { ssrc, .. } => Some(ssrc),
                rtcp::Packet::Description(_) | rtcp::Packet::Bye(_) => None,
            })
            .ok_or(DropReason::Malformed)?;
        if reporter == self.sending.ssrc {
            return Err(DropReason::Ssrc);
        }
        let lock = if self.config.rtcp_mux { &mut self.rtp_lock } else { &mut self.rtcp_lock };
        let verdict = if self.srtp.is_some() {
            lock.authentic(now, source, reporter, None)
        } else {
            lock.packet(now, source, reporter, None)
        };
        if verdict == Verdict::Stranger {
            return Err(DropReason::Source);
        }
        if Some(source) == self.config.remote_rtcp {
            self.rtp_lock.verify(now);
        }
        self.pace.seen(packet.len());
        for packet in compound.packets() {
            match packet {
                rtcp::Packet::SenderReport { ssrc, sender, reports } => {
                    if let Some(stream) = self.stream.as_mut().filter(|s| s.ssrc == ssrc) {
                        stream.reception.sender_report(now, sender);
                    }
                    self.reports(now, reports);
                }
                rtcp::Packet::ReceiverReport { reports, .. } => self.reports(now, reports),
                rtcp::Packet::Description(_) => {}
                // The stream has ended, the call has not: whoever comes next needs no trial.
                rtcp::Packet::Bye(mut sources) => {
                    if let Some(ssrc) = self.stream.as_ref().map(|stream| stream.ssrc)
                        && sources.any(|leaving| leaving == ssrc)
                    {
                        self.end_stream();
                    }
                }
            }
        }
        Ok(Received::Rtcp)
    }

    fn reports(&mut self, now: Instant, reports: rtcp::Reports<'_>) {
        for block in reports.filter(|block| block.ssrc == self.sending.ssrc) {
            self.remote_loss = f64::from(block.fraction_lost) / 256.0;
            self.rtt = rtcp::round_trip(self.ntp(now), &block).or(self.rtt);
        }
    }

    fn report(&mut self, now: Instant, out: &mut [u8], leaving: bool) -> usize {
        let rate = self.config.send.codec.clock_rate();
        // Who has sent since the last report but one sends an SR (RFC 3550 §6.4); we look at the last alone.
        let sender =
            self.sending.last.filter(|_| self.sending.packets > self.sending.reported).map(
                |(at, timestamp)| {
                    let since = now.saturating_duration_since(at).as_micros() * u128::from(rate);
                    SenderInfo {
                        ntp: self.ntp(now),
                        rtp_timestamp: timestamp.wrapping_add((since / 1_000_000) as u32),
                        packets: self.sending.packets as u32,
                        octets: self.sending.octets as u32,
                    }
                },
            );
        self.sending.reported = self.sending.packets;
        let block = self.stream.as_mut().map(|stream| stream.reception.report(now, stream.ssrc));
        let len = rtcp::write(out, self.sending.ssrc, sender, block, &self.cname, leaving);
        match &mut self.srtp {
            Some(srtp) if len > 0 => srtp.outgoing.protect_rtcp(out, len).unwrap_or(0),
            Some(_) | None => len,
        }
    }

    /// Our NTP clock: time since the leg was opened, as RFC 3550 §6.4.1 allows, so that no jump of the wall clock is
    /// seen by the peer. It starts at one second, since zero means "unknown".
    fn ntp(&self, now: Instant) -> u64 {
        rtcp::ntp(now.saturating_duration_since(self.opened) + Duration::from_secs(1))
    }

    fn pass(&mut self, samples: u32) {
        let rate = self.config.send.codec.clock_rate();
        let units = u64::from(samples) * u64::from(rate) / u64::from(SAMPLE_RATE);
        self.sending.timestamp = self.sending.timestamp.wrapping_add(units as u32);
    }

    /// Brings `pcm` to at least `len` samples. Without `audible`, packets become as many zeros.
    /// Plays from the jitter buffer until `pcm` holds `len` samples.
    fn fill(&mut self, now: Instant, len: usize) {
        while self.pcm.len() < len {
            let factor = (SAMPLE_RATE / self.jitter.rate()) as usize;
            let at = now + samples_to_duration(self.pcm.len());
            let start = self.pcm.len();
            let wanted = ((len - start).div_ceil(factor)).min(FRAME_SAMPLES / factor);
            let pcm = &mut self.pcm;
            let (samples, sound) = match self.jitter.pop(at, wanted as u32) {
                Played::Packet { payload, tag } => {
                    self.activity = tag.activity;
                    let decoded =
                        decoder(&mut self.decoder, tag.codec, &mut self.stale, !self.left_quiet)
                            .is_some_and(|decoder| decoder.decode(payload, pcm).is_ok());
                    self.undecodable += u64::from(!decoded);
                    (tag.samples, true)
                }
                Played::Fec { next, tag, samples } => {
                    let length = samples as usize * factor;
                    let recovered = decoder(&mut self.decoder, tag.codec, &mut self.stale, true)
                        .is_some_and(|decoder| decoder.recover(next, length, pcm).is_ok());
                    self.undecodable += u64::from(!recovered);
                    (samples, true)
                }
                Played::Conceal { samples } => {
                    if let Some(decoder) = &mut self.decoder
                        && !self.stale
                    {
                        // What fails to be made up is silence.
                        let _ = decoder.conceal(samples as usize * factor, pcm);
                    }
                    (samples, !self.stale)
                }
                Played::Silence { samples } => {
                    if self.sounding && !self.stale {
                        // Sound does not break off; it fades.
                        if let Some(decoder) = &mut self.decoder {
                            let _ = decoder.conceal(samples as usize * factor, pcm);
                        }
                        let len = pcm.len() - start;
                        for (i, sample) in pcm[start..].iter_mut().enumerate() {
                            *sample *= 1.0 - i as f32 / len as f32;
                        }
                    }
                    self.activity = Activity::Silent;
                    (samples, false)
                }
            };
            pcm.resize(start + samples as usize * factor, 0.0);
            self.sounding = sound;
        }
    }

    /// Lets what comes next in the jitter buffer pass unheard, at most `most` samples of silence; returns how many
    /// samples it was.
    fn pass_by(&mut self, at: Instant, most: usize) -> usize {
        let factor = (SAMPLE_RATE / self.jitter.rate()) as usize;
        let samples = match self.jitter.pop(at, most.div_ceil(factor) as u32) {
            Played::Packet { tag, .. } => {
                self.activity = tag.activity;
                tag.samples
            }
            Played::Fec { samples, .. } | Played::Conceal { samples } => samples,
            Played::Silence { samples } => {
                self.activity = Activity::Silent;
                samples
            }
        };
        samples as usize * factor
    }
}

impl Srtp {
    fn new(keys: &Keys) -> Self {
        Self {
            outgoing: Outgoing::new(keys.suite, &keys.ours),
            incoming: Incoming::new(keys.suite, &keys.theirs),
        }
    }

    /// Begins anew with what is new. To begin anew with an old key would use its keystream twice.
    fn change(&mut self, old: &Keys, new: &Keys) {
        let suite = new.suite;
        if (old.suite, &old.ours) != (suite, &new.ours) {
            self.outgoing = Outgoing::new(suite, &new.ours);
        }
        if (old.suite, &old.theirs) != (suite, &new.theirs) {
            self.incoming = Incoming::new(suite, &new.theirs);
        }
    }
}

/// The decoder for `codec`. One that missed packets is to `forget` its past, which belongs to another moment, unless
/// that was quiet: then nothing of it will be heard, and starting afresh costs twice a decode.
fn decoder<'a>(
    decoder: &'a mut Option<Decoder>,
    codec: Codec,
    stale: &mut bool,
    forget: bool,
) -> Option<&'a mut Decoder> {
    if decoder.as_ref().is_none_or(|decoder| decoder.codec() != codec) {
        *decoder = Decoder::new(codec).ok();
    } else if *stale
        && forget
        && let Some(decoder) = decoder
    {
        decoder.reset();
    }
    *stale = false;
    decoder.as_mut()
}

/// At 48 kHz, rounded down.
fn duration_to_samples(span: Duration) -> usize {
    (span.as_micros() as usize) * (SAMPLE_RATE as usize / 1_000) / 1_000
}

fn samples_to_duration(samples: usize) -> Duration {
    TICK * samples as u32 / FRAME_SAMPLES as u32
}
