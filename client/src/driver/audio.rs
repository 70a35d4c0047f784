//! The audio of a call: RTP on a socket, a frame every 20 ms both ways, and a [`Device`] at the other end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cusax_media::codec::{Codec, Encoder, EncoderSettings, MAX_PAYLOAD, OpusSettings};
use cusax_media::leg::{Format, Leg, LegConfig};
use cusax_media::level::{SILENCE_DBOV, measure_dbov};
use cusax_media::srtp::{Keys, Suite};
use cusax_media::{FRAME_SAMPLES, MAX_PACKET, TICK};
use cusax_sip::sdp::offer::{Audio, Capabilities, Offered, Srtp};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::clock::now;

/// Samples of 20 ms, mono, 48 kHz, ±1.0.
pub type Frame = [f32; FRAME_SAMPLES];

/// A microphone and a loudspeaker. Both are asked every 20 ms and must not wait.
pub trait Device: Send + 'static {
    /// Fills in what is said; false if that is nothing.
    fn capture(&mut self, frame: &mut Frame) -> bool;
    /// Plays what is heard, silence too.
    fn play(&mut self, frame: &Frame);
}

/// Neither says nor plays anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence;

impl Device for Silence {
    fn capture(&mut self, _: &mut Frame) -> bool {
        false
    }

    fn play(&mut self, _: &Frame) {}
}

/// How a call sounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Meter {
    /// How loud the others are, in dBov: 0 the loudest, [`SILENCE_DBOV`] silence.
    pub heard_dbov: f32,
    /// How loud oneself is; silence while muted.
    pub said_dbov: f32,
    /// Packets that came so far, and that the network lost.
    pub received: u64,
    /// See `received`.
    pub lost: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { heard_dbov: SILENCE_DBOV, said_dbov: SILENCE_DBOV, received: 0, lost: 0 }
    }
}

/// What the audio of a call is told.
#[derive(Debug)]
pub(super) enum Order {
    /// What a re-INVITE changed.
    Agreed(Box<Audio>),
    Mute(bool),
}

/// What we can do, best first.
pub(super) fn capabilities() -> Capabilities {
    let codec = |(codec, name, rate, channels, payload_type, fmtp): (Codec, _, _, _, _, &str)| {
        let codec = codec.available().then(|| cusax_sip::sdp::Codec::new(name, rate, channels));
        codec.map(|codec| Offered { codec, payload_type, fmtp: fmtp.to_owned() })
    };
    let all = [
        (Codec::Opus, "opus", 48_000, 2, 96, "stereo=0;useinbandfec=1"),
        (Codec::Pcmu, "PCMU", 8_000, 1, 0, ""),
        (Codec::Pcma, "PCMA", 8_000, 1, 8, ""),
    ];
    Capabilities {
        codecs: all.into_iter().filter_map(codec).collect(),
        telephone_events: vec![(48_000, 102), (8_000, 101)],
        rtcp_mux: true,
        suites: Suite::ALL.map(|suite| (suite.name().to_owned(), suite.master_len())).to_vec(),
        ptime_ms: Some(20),
        ..Capabilities::default()
    }
}

/// Starts the audio of a call; it ends when `orders` is dropped. `signalling` is where the peer's SIP
/// comes from, `seed` random.
pub(super) fn start(
    socket: UdpSocket,
    audio: &Audio,
    device: Box<dyn Device>,
    meter: watch::Sender<Meter>,
    signalling: IpAddr,
    seed: u64,
) -> io::Result<mpsc::Sender<Order>> {
    let (config, settings) = agreed(audio, signalling)?;
    let leg = Leg::new(now(), config, &format!("{seed:016x}"), seed);
    let encoder = Encoder::new(settings).map_err(io::Error::other)?;
    let (orders, receiver) = mpsc::channel(ORDERS);
    let sends = audio.direction.sends();
    let call = Call {
        socket,
        leg,
        encoder,
        device,
        signalling,
        sends,
        muted: false,
        silent: 0,
        received: 0,
    };
    tokio::spawn(call.run(receiver, meter));
    Ok(orders)
}

struct Call {
    socket: UdpSocket,
    leg: Leg,
    encoder: Encoder,
    device: Box<dyn Device>,
    signalling: IpAddr,
    /// What was agreed on lets us send.
    sends: bool,
    muted: bool,
    /// For how many frames nothing has been said.
    silent: u32,
    received: u64,
}

impl Call {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, meters: watch::Sender<Meter>) {
        let mut ticks = interval(TICK);
        // After a short pause what is due is done at once, since the peer's clock went on; after a long
        // one, as when the machine slept, it is not.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut packet = [0; MAX_PACKET];
        let mut count = 0_u32;
        loop {
            tokio::select! {
                due = ticks.tick() => {
                    if due.elapsed() > MAX_LAG {
                        ticks.reset();
                    }
                    let meter = self.tick().await;
                    count = count.wrapping_add(1);
                    if count.is_multiple_of(METER_TICKS) {
                        meters.send_replace(meter);
                    }
                }
                came = self.socket.recv_from(&mut packet) => {
                    // An error is an answer to a packet that nobody took.
                    if let Ok((length, from)) = came {
                        self.received += 1;
                        self.leg.receive(now(), from, &packet[..length]);
                    }
                }
                order = orders.recv() => match order {
                    None => break,
                    Some(Order::Mute(muted)) => self.muted = muted,
                    Some(Order::Agreed(audio)) => self.change(&audio),
                },
            }
        }
        let length = self.leg.bye(now(), &mut packet);
        send(&self.socket, self.leg.remote_rtcp(now()), &packet[..length]).await;
    }

    async fn tick(&mut self) -> Meter {
        let mut frame = [0.0; FRAME_SAMPLES];
        let heard = self.leg.tick(now(), &mut frame);
        self.device.play(&frame);
        let mut frame = [0.0; FRAME_SAMPLES];
        let quiet = !self.device.capture(&mut frame) || self.muted || !self.sends;
        if quiet {
            frame.fill(0.0);
        }
        // Opus's own DTX takes a steady sound for none; here silence is what was not captured. It is told
        // to the end of a sound, and then now and then, so that the way stays open.
        self.silent = if quiet { self.silent.saturating_add(1) } else { 0 };
        let due = self.silent <= TAIL_FRAMES || self.silent.is_multiple_of(SILENCE_FRAMES);
        let mut payload = [0; MAX_PAYLOAD];
        let length = match self.sends && due {
            true => self.encoder.encode(&frame, &mut payload).unwrap_or(0),
            false => 0,
        };
        let samples = FRAME_SAMPLES as u32;
        let mut packet = [0; MAX_PACKET];
        if length == 0 {
            self.leg.pause(samples);
        } else {
            let length = self.leg.packetize(now(), &payload[..length], samples, &mut packet);
            send(&self.socket, self.leg.remote(now()), &packet[..length]).await;
        }
        if self.leg.poll_timeout() <= now() {
            let length = self.leg.handle_timeout(now(), &mut packet);
            send(&self.socket, self.leg.remote_rtcp(now()), &packet[..length]).await;
        }
        Meter {
            heard_dbov: if heard.sound { heard.level_dbov } else { SILENCE_DBOV },
            said_dbov: measure_dbov(&frame),
            received: self.received,
            lost: self.leg.stats().lost,
        }
    }

    fn change(&mut self, audio: &Audio) {
        let Ok((config, settings)) = agreed(audio, self.signalling) else { return };
        self.sends = audio.direction.sends();
        if settings != self.encoder.settings()
            && let Ok(encoder) = Encoder::new(settings)
        {
            self.encoder = encoder;
        }
        self.leg.reconfigure(now(), config);
    }
}

/// Sends a packet; one that does not go out is lost like any other.
async fn send(socket: &UdpSocket, to: Option<SocketAddr>, packet: &[u8]) {
    if let Some(to) = to
        && !packet.is_empty()
    {
        drop(socket.send_to(packet, to).await);
    }
}

/// What was agreed on, for a leg and its encoder.
fn agreed(audio: &Audio, signalling: IpAddr) -> io::Result<(LegConfig, EncoderSettings)> {
    let codec = |codec: &cusax_sip::sdp::Codec| match (
        codec.name.to_ascii_lowercase().as_str(),
        codec.clock_rate,
    ) {
        ("opus", 48_000) => Some(Codec::Opus),
        ("pcmu", 8_000) => Some(Codec::Pcmu),
        ("pcma", 8_000) => Some(Codec::Pcma),
        _ => None,
    };
    let receive: Vec<_> = audio
        .codecs
        .iter()
        .filter_map(|one| Some(Format { payload_type: one.receive, codec: codec(&one.codec)? }))
        .collect();
    let first = audio.codec();
    let kind = codec(&first.codec).ok_or(io::ErrorKind::Unsupported)?;
    let settings = match kind {
        Codec::Opus => EncoderSettings::Opus(OpusSettings::default()),
        Codec::Pcmu => EncoderSettings::Pcmu,
        Codec::Pcma => EncoderSettings::Pcma,
    };
    let srtp = match &audio.srtp {
        None => None,
        Some(Srtp { ours, theirs }) => {
            let suite = Suite::ALL.into_iter().find(|suite| suite.name() == ours.suite);
            let suite = suite.ok_or(io::ErrorKind::Unsupported)?;
            Some(Keys { suite, ours: ours.key.clone(), theirs: theirs.key.clone() })
        }
    };
    let config = LegConfig {
        receive,
        events: audio.telephone_events.iter().map(|event| event.receive).collect(),
        send: Format { payload_type: first.send, codec: kind },
        level_extension: None,
        rtcp_mux: audio.rtcp_mux,
        remote: audio.remote_rtp,
        remote_rtcp: audio.remote_rtcp,
        signalling: Some(signalling),
        srtp,
    };
    Ok((config, settings))
}

/// What is so late is not done any more.
const MAX_LAG: Duration = Duration::from_millis(500);
/// How much silence is sent after a sound, in frames.
const TAIL_FRAMES: u32 = 10;
/// Every how many frames of silence one is sent.
const SILENCE_FRAMES: u32 = 20;
/// Orders that wait.
const ORDERS: usize = 16;
/// Every how many ticks the meter moves: ten times a second.
const METER_TICKS: u32 = 5;
