//! A talker, a network that loses, delays, reorders and duplicates, and a leg that listens: all from one seed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cusax_media::codec::{Codec, Encoder, EncoderSettings, OpusSettings};
use cusax_media::leg::{Format, Heard, Leg, LegConfig, LegStats};
use cusax_media::rtp::Header;
use cusax_media::{FRAME_SAMPLES, TICK};

pub(crate) use crate::network_model::{Network, Sent, carry};

pub(crate) const OPUS: u8 = 111;
pub(crate) const EVENTS: u8 = 101;

#[expect(clippy::disallowed_methods, reason = "virtual time needs one real instant to count from")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn peer() -> SocketAddr {
    "192.0.2.7:4000".parse().unwrap()
}

pub(crate) fn config(codec: Codec) -> LegConfig {
    let format = |payload_type, codec| Format { payload_type, codec };
    let receive = vec![format(OPUS, Codec::Opus), format(0, Codec::Pcmu), format(8, Codec::Pcma)];
    let send = *receive.iter().find(|format| format.codec == codec).unwrap();
    LegConfig {
        receive,
        events: vec![EVENTS],
        send,
        level_extension: Some(1),
        rtcp_mux: false,
        remote: Some(peer()),
        remote_rtcp: Some("192.0.2.7:4001".parse().unwrap()),
        signalling: Some(peer().ip()),
        srtp: None,
    }
}

/// One frame of a talker's microphone.
pub(crate) type Source = fn(usize) -> [f32; FRAME_SAMPLES];

/// A steady tone of 1 kHz at half scale.
pub(crate) fn tone(n: usize) -> [f32; FRAME_SAMPLES] {
    std::array::from_fn(|i| {
        let t = ((n * FRAME_SAMPLES + i) % 48_000) as f64 / 48_000.0;
        (0.5 * (std::f64::consts::TAU * 1_000.0 * t).sin()) as f32
    })
}

/// Something like a vowel, four syllables a second.
pub(crate) fn babble(n: usize) -> [f32; FRAME_SAMPLES] {
    std::array::from_fn(|i| {
        let t = (n * FRAME_SAMPLES + i) as f64 / 48_000.0;
        let pitch = 120.0 * t + 2.0 * (std::f64::consts::TAU * 0.7 * t).sin();
        let voice: f64 = (1..20)
            .map(|k| (std::f64::consts::TAU * f64::from(k) * pitch).sin() / f64::from(k))
            .sum();
        let syllable = 0.5 - 0.5 * (std::f64::consts::TAU * 4.0 * t).cos();
        (0.2 * voice * syllable) as f32
    })
}

/// One second of babble, one of silence.
pub(crate) fn phrases(n: usize) -> [f32; FRAME_SAMPLES] {
    if n % 100 < 50 { babble(n) } else { [0.0; FRAME_SAMPLES] }
}

/// Encodes `frames` of 20 ms; every packet carries `per_packet` of them when the codec is G.711.
pub(crate) fn talk(settings: EncoderSettings, source: Source, frames: usize) -> Vec<Sent> {
    let mut encoder = Encoder::new(settings).unwrap();
    let codec = settings.codec();
    let payload_type = config(codec).send.payload_type;
    let units = codec.clock_rate() / 50;
    // Both are about to wrap.
    let (mut sequence, mut timestamp) = (65_500u16, u32::MAX - 50 * units);
    let mut marker = true;
    let mut sent = Vec::new();
    for n in 0..frames {
        let mut payload = [0; 1_500];
        let len = encoder.encode(&source(n), &mut payload).unwrap();
        if len == 0 {
            marker = true;
        } else {
            let header = Header { marker, payload_type, sequence, timestamp, ssrc: 77 };
            sent.push((n as u64 * 20_000, [&header.to_bytes()[..], &payload[..len]].concat()));
            sequence = sequence.wrapping_add(1);
            marker = false;
        }
        timestamp = timestamp.wrapping_add(units);
    }
    sent
}

pub(crate) fn opus() -> EncoderSettings {
    EncoderSettings::Opus(OpusSettings { loss_percent: 10, ..OpusSettings::default() })
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ticks: usize,
    pub(crate) pcm: Vec<f32>,
    pub(crate) heard: Vec<Heard>,
    pub(crate) stats: LegStats,
    /// The buffer's delay at each tick, in ms.
    pub(crate) delays_ms: Vec<f64>,
    pub(crate) lost_packets: usize,
}

impl Outcome {
    pub(crate) fn concealed_percent(&self) -> f64 {
        100.0 * self.stats.jitter.concealed as f64 / self.ticks as f64
    }

    /// Mean delay over the second half.
    pub(crate) fn delay_ms(&self) -> f64 {
        let half = &self.delays_ms[self.delays_ms.len() / 2..];
        half.iter().sum::<f64>() / half.len() as f64
    }

    /// The largest step between two samples after the first second.
    pub(crate) fn largest_step(&self) -> f32 {
        self.pcm[48_000..].windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max)
    }
}

/// Plays what arrives through a leg that ticks every 20 ms, 7 ms out of phase with the talker.
pub(crate) fn listen(codec: Codec, arrivals: &[Sent], ticks: usize) -> Outcome {
    let start = start();
    let mut leg = Leg::new(start, config(codec), "test", 5);
    let mut outcome = Outcome {
        ticks,
        pcm: Vec::new(),
        heard: Vec::new(),
        stats: LegStats::default(),
        delays_ms: Vec::new(),
        lost_packets: 0,
    };
    let mut arrivals = arrivals.iter().peekable();
    let mut frame = [0.0; FRAME_SAMPLES];
    for n in 0..ticks {
        let due = n as u64 * TICK.as_micros() as u64 + 7_000;
        while let Some((at, packet)) = arrivals.next_if(|(at, _)| *at <= due) {
            leg.receive(start + Duration::from_micros(*at), peer(), packet);
        }
        outcome.heard.push(leg.tick(start + Duration::from_micros(due), &mut frame));
        outcome.pcm.extend_from_slice(&frame);
        outcome.delays_ms.push(leg.stats().jitter.delay_s * 1_000.0);
    }
    outcome.stats = leg.stats();
    outcome
}

pub(crate) fn run(
    settings: EncoderSettings,
    source: Source,
    seconds: usize,
    network: &Network,
    seed: u64,
) -> Outcome {
    let sent = talk(settings, source, seconds * 50);
    let (arrivals, lost) = carry(&sent, network, seed);
    Outcome { lost_packets: lost, ..listen(settings.codec(), &arrivals, seconds * 50) }
}
