//! A room full of simulated phones, in virtual time: real encoders, real decoders, no network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use cusax_media::codec::{Codec, Encoder, EncoderSettings, OpusSettings};
use cusax_media::leg::{Format, Leg, LegConfig};
use cusax_media::srtp::Keys;
use cusax_media::{FRAME_SAMPLES, MAX_PACKET, SAMPLE_RATE, TICK};
use cusaxd::clock::Now;
use cusaxd::id::{LegId, RoomName};
use cusaxd::mixer::mix::{MAX_VOICES, Mix, Out, Port, Tally};
use cusaxd::mixer::plan::{CodecKind, CodecPlan, LegPlan, Report};

/// What a phone's microphone picks up.
#[derive(Clone, Debug)]
pub enum Sound {
    /// Nothing; nothing is sent.
    Nothing,
    /// A sine, with its amplitude (1.0: full scale).
    Tone(f32, f32),
    /// White noise of this amplitude.
    Noise(f32),
}

/// A phone at the other end of a leg.
#[derive(Debug)]
pub struct Phone {
    leg: Leg,
    encoder: Encoder,
    address: SocketAddr,
    pub sound: Sound,
    played: usize,
    /// What its ear heard, at 48 kHz.
    pub heard: Vec<f32>,
    /// When packets came, in ticks, and how long their payloads were.
    pub packets: Vec<(usize, usize)>,
    noise: u32,
}

/// The room, its phones and the time.
#[derive(Debug)]
pub struct Hall {
    pub mix: Mix,
    pub now: Instant,
    pub phones: BTreeMap<LegId, Phone>,
    pub reports: Vec<Report>,
    pub ticks: usize,
}

/// The mixer's end of every leg.
const MIXER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

pub fn plan(leg: u64, kind: CodecKind) -> LegPlan {
    let payload_type = match kind {
        CodecKind::Opus => 96,
        CodecKind::Pcmu => 0,
        CodecKind::Pcma => 8,
    };
    let remote = phone_address(leg);
    LegPlan {
        leg: LegId(leg),
        room: RoomName::new("hall").unwrap(),
        local: IpAddr::V4(MIXER),
        port: 40_000,
        remote: Some(remote),
        remote_rtcp: Some(SocketAddr::new(remote.ip(), remote.port() + 1)),
        signalled_from: remote.ip(),
        mux: false,
        codec: CodecPlan {
            kind,
            send_pt: payload_type,
            receive_pt: payload_type,
            max_bitrate: None,
            fec: true,
            dtx: false,
        },
        dtmf: vec![(101, 8_000)],
        level_ext: None,
        ssrc: 0x5EED_0000 + leg as u32,
        cname: "mixer".to_owned(),
        srtp: None,
        hears: true,
        heard: true,
    }
}

fn phone_address(leg: u64) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], 10_000 + 2 * leg as u16))
}

impl Hall {
    pub fn new() -> Self {
        Self::of(MAX_VOICES)
    }

    /// A room that mixes so many voices at once.
    pub fn of(voices: usize) -> Self {
        Self {
            mix: Mix::new(voices),
            now: Now::read().instant,
            phones: BTreeMap::new(),
            reports: vec![],
            ticks: 0,
        }
    }

    /// Opens a leg, and puts a phone at its other end.
    pub fn dial(&mut self, leg: u64, kind: CodecKind, sound: Sound) {
        self.dial_as(plan(leg, kind), sound);
    }

    pub fn dial_as(&mut self, plan: LegPlan, sound: Sound) {
        let (codec, settings) = match plan.codec.kind {
            CodecKind::Opus => (Codec::Opus, EncoderSettings::Opus(OpusSettings::default())),
            CodecKind::Pcmu => (Codec::Pcmu, EncoderSettings::Pcmu),
            CodecKind::Pcma => (Codec::Pcma, EncoderSettings::Pcma),
        };
        let format = Format { payload_type: plan.codec.send_pt, codec };
        let mixer = SocketAddr::new(plan.local, plan.port);
        let config = LegConfig {
            receive: vec![format],
            events: vec![],
            send: format,
            level_extension: None,
            rtcp_mux: plan.mux,
            remote: Some(mixer),
            remote_rtcp: None,
            signalling: None,
            srtp: plan.srtp.clone().map(|Keys { suite, ours, theirs }| Keys {
                suite,
                ours: theirs,
                theirs: ours,
            }),
        };
        let leg = plan.leg;
        let phone = Phone {
            leg: Leg::new(self.now, config, "phone", leg.0),
            encoder: Encoder::new(settings).unwrap(),
            address: phone_address(leg.0),
            sound,
            played: 0,
            heard: vec![],
            packets: vec![],
            noise: 1 + leg.0 as u32,
        };
        self.phones.insert(leg, phone);
        self.mix.open(self.now, Box::new(plan), leg.0).unwrap();
    }

    pub fn phone(&mut self, leg: u64) -> &mut Phone {
        self.phones.get_mut(&LegId(leg)).unwrap()
    }

    /// Lets 20 ms pass: phones send, half a tick later the room mixes, phones play.
    pub fn tick(&mut self) {
        let mixer = SocketAddr::new(IpAddr::V4(MIXER), 40_000);
        let mut packet = [0; MAX_PACKET];
        for (leg, phone) in &mut self.phones {
            let len = phone.speak(self.now, &mut packet);
            if len > 0 {
                let bytes = &packet[..len];
                let (from, reports) = (phone.address, &mut self.reports);
                self.mix.receive(self.now, *leg, Port::Rtp, from, bytes, reports);
            }
            let len = phone.leg.handle_timeout(self.now, &mut packet);
            if len > 0 {
                let from = SocketAddr::new(phone.address.ip(), phone.address.port() + 1);
                let (bytes, reports) = (&packet[..len], &mut self.reports);
                self.mix.receive(self.now, *leg, Port::Rtcp, from, bytes, reports);
            }
        }
        self.now += TICK / 2;
        let (phones, now, ticks) = (&mut self.phones, self.now, self.ticks);
        let mut send = |packet: cusaxd::mixer::mix::Packet<'_>| {
            let Some(phone) = phones.get_mut(&packet.leg) else { return };
            if packet.port == Port::Rtp {
                assert_eq!(packet.to, phone.address);
                phone.packets.push((ticks, packet.bytes.len() - 12));
                phone.leg.receive(now, mixer, packet.bytes);
            }
        };
        self.mix.tick(now, &mut Out { send: &mut send, reports: &mut self.reports });
        self.now += TICK / 2;
        for phone in self.phones.values_mut() {
            let mut frame = [0.0; FRAME_SAMPLES];
            phone.leg.tick(self.now, &mut frame);
            phone.heard.extend_from_slice(&frame);
        }
        self.ticks += 1;
    }

    pub fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / TICK.as_millis() {
            self.tick();
        }
    }

    /// Lets 20 ms pass in which the phones hear nothing; returns how often the mixer allocated.
    pub fn count_allocations(&mut self) -> u64 {
        let mut spoken = vec![];
        for (leg, phone) in &mut self.phones {
            let mut packet = vec![0; MAX_PACKET];
            let len = phone.speak(self.now, &mut packet);
            packet.truncate(len);
            spoken.push((*leg, phone.address, packet));
        }
        self.reports.reserve(2 * self.phones.len());
        let (from, to) = (self.now, self.now + TICK / 2);
        let counted = allocation_counter::measure(|| {
            for (leg, address, packet) in spoken.iter().filter(|(.., packet)| !packet.is_empty()) {
                self.mix.receive(from, *leg, Port::Rtp, *address, packet, &mut self.reports);
            }
            self.mix.tick(to, &mut Out { send: &mut |_| {}, reports: &mut self.reports });
        });
        self.now += TICK;
        self.ticks += 1;
        counted.count_total
    }

    /// What the mix did since this was last called.
    pub fn tally(&mut self) -> Tally {
        self.mix.take_tally()
    }
}

impl Phone {
    /// Writes what the microphone picks up in 20 ms as a packet.
    fn speak(&mut self, now: Instant, packet: &mut [u8]) -> usize {
        let (sound, played, noise) = (&self.sound, self.played, &mut self.noise);
        let frame: [f32; FRAME_SAMPLES] = std::array::from_fn(|i| match sound {
            Sound::Nothing => 0.0,
            Sound::Tone(hz, amplitude) => {
                let t = (played + i) as f64 / f64::from(SAMPLE_RATE);
                amplitude * (std::f64::consts::TAU * f64::from(*hz) * t).sin() as f32
            }
            Sound::Noise(amplitude) => {
                *noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                amplitude * ((*noise >> 8) as f32 / (1 << 23) as f32 - 1.0)
            }
        });
        self.played += FRAME_SAMPLES;
        if matches!(self.sound, Sound::Nothing) {
            self.leg.pause(FRAME_SAMPLES as u32);
            return 0;
        }
        let mut payload = [0; 1_275];
        let len = self.encoder.encode(&frame, &mut payload).unwrap();
        self.leg.packetize(now, &payload[..len], FRAME_SAMPLES as u32, packet)
    }

    /// What was heard between two moments since the phone dialled.
    pub fn between(&self, from: Duration, to: Duration) -> &[f32] {
        let at = |time: Duration| (time.as_secs_f64() * f64::from(SAMPLE_RATE)) as usize;
        &self.heard[at(from)..at(to)]
    }

    /// The last `time` of what was heard.
    pub fn last(&self, time: Duration) -> &[f32] {
        let samples = (time.as_secs_f64() * f64::from(SAMPLE_RATE)) as usize;
        &self.heard[self.heard.len() - samples..]
    }
}

/// The amplitude of a sine of `hz` in `samples` (Goertzel, Hann window).
pub fn amplitude(samples: &[f32], hz: f32) -> f32 {
    let step = std::f64::consts::TAU * f64::from(hz) / f64::from(SAMPLE_RATE);
    let (mut re, mut im, mut weight) = (0.0, 0.0, 0.0);
    for (i, sample) in samples.iter().enumerate() {
        let window =
            0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / (samples.len() - 1) as f64).cos();
        let (sin, cos) = (step * i as f64).sin_cos();
        re += window * f64::from(*sample) * cos;
        im -= window * f64::from(*sample) * sin;
        weight += window;
    }
    (2.0 * (re * re + im * im).sqrt() / weight) as f32
}

/// A ratio of amplitudes in decibel.
pub fn db(ratio: f32) -> f32 {
    20.0 * ratio.max(1e-9).log10()
}

/// The root of the mean square.
pub fn rms(samples: &[f32]) -> f32 {
    let sum: f64 = samples.iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
    (sum / samples.len() as f64).sqrt() as f32
}
