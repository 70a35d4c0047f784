//! What the media plane costs and adds, through real sockets on loopback, one worker:
//! CPU time of a listener and of a talker, delay, and how long a muted voice is still heard.
//!
//! `cargo bench --bench mix` prints a table; it takes about two minutes and asserts what must hold
//! anywhere: that the audio arrives, and that listeners do not cost encodes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use cusax_media::codec::{Codec, Decoder, Encoder, EncoderSettings, OpusSettings};
use cusax_media::leg::{Format, Leg, LegConfig};
use cusax_media::{FRAME_SAMPLES, TICK};
use cusaxd::clock::Now;
use cusaxd::id::{LegId, RoomName};
use cusaxd::io::media::{Media, Settings};
use cusaxd::metrics::Metrics;
use cusaxd::mixer::plan::{CodecKind, CodecPlan, LegPlan, Order, Report};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What counts as heard, of a tone of amplitude 0.2 (−14 dBFS): −34 dB below it.
const AUDIBLE: f32 = 0.004;

fn main() {
    if cfg!(debug_assertions) {
        println!("This is not an optimised build: the figures are of no use.\n");
    }
    println!("CPU time of the worker thread, kernel included, Opus 32 kbit/s complexity 5:\n");
    println!("| talkers | listeners | encodes a tick | µs a tick | ms a participant-second |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    let mut cost = vec![];
    for (talkers, listeners) in [(1, 1), (1, 50), (1, 200), (3, 1), (3, 50), (3, 200), (8, 1)] {
        let (us, encodes) = cpu(talkers, listeners);
        let each = us * 50.0 / 1_000.0 / (talkers + listeners) as f64;
        println!("| {talkers} | {listeners} | {encodes:.1} | {us:.0} | {each:.2} |");
        assert!(encodes < talkers as f64 + 1.2, "listeners cost encodes");
        cost.push(((talkers, listeners), us));
    }
    let of = |what| cost.iter().find(|(case, _)| *case == what).map_or(0.0, |(_, us)| *us);
    println!("\na listener more: {:.1} µs a tick", (of((3, 200)) - of((3, 50))) / 150.0);
    println!("a talker more: {:.0} µs a tick\n", (of((8, 1)) - of((3, 1))) / 5.0);

    let delays = delays(60);
    println!("delay that the bridge adds: {}", spread(&delays));
    let (applied, heard) = mutes(30);
    println!("from the order to mute until it is in force: {}", spread(&applied));
    println!("from the order to mute until the last audible packet: {}", spread(&heard));
}

/// One phone on a real socket; it never stops to send.
struct Phone {
    socket: UdpSocket,
    mixer: SocketAddr,
    leg: Leg,
    encoder: Encoder,
    decoder: Decoder,
    played: usize,
}

struct Site {
    media: Media,
    metrics: Metrics,
    told: mpsc::Receiver<Report>,
    phones: Vec<Phone>,
    due: Instant,
}

impl Site {
    fn new(phones: usize) -> Self {
        let (reports, told) = mpsc::channel(10_000);
        let metrics = Metrics::new();
        let settings = Settings { workers: 1, ..Settings::default() };
        let random = StdRng::seed_from_u64(1);
        let media = Media::start(settings, &metrics, &reports, random).expect("threads");
        let mut site = Self { media, metrics, told, phones: vec![], due: clock() };
        for leg in 1..=phones as u64 {
            site.dial(leg);
        }
        site
    }

    fn dial(&mut self, leg: u64) {
        let socket = UdpSocket::bind((LOCALHOST, 0)).expect("a free port");
        socket.set_nonblocking(true).expect("a socket");
        let free = UdpSocket::bind((LOCALHOST, 0)).and_then(|free| free.local_addr());
        let port = free.expect("a free port").port();
        let plan = LegPlan {
            leg: LegId(leg),
            room: RoomName::new("bench").expect("a name"),
            local: LOCALHOST,
            port,
            remote: Some(socket.local_addr().expect("bound")),
            remote_rtcp: None,
            signalled_from: LOCALHOST,
            mux: true,
            codec: CodecPlan {
                kind: CodecKind::Opus,
                send_pt: 96,
                receive_pt: 96,
                max_bitrate: None,
                fec: true,
                dtx: false,
            },
            dtmf: vec![],
            level_ext: None,
            ssrc: leg as u32,
            cname: "mixer".to_owned(),
            srtp: None,
            hears: true,
            heard: true,
        };
        let format = Format { payload_type: 96, codec: Codec::Opus };
        let config = LegConfig {
            receive: vec![format],
            events: vec![],
            send: format,
            level_extension: None,
            rtcp_mux: true,
            remote: Some(SocketAddr::new(LOCALHOST, port)),
            remote_rtcp: None,
            signalling: None,
            srtp: None,
        };
        assert_eq!(self.media.obey([Order::Open(Box::new(plan))]), vec![]);
        self.phones.push(Phone {
            socket,
            mixer: SocketAddr::new(LOCALHOST, port),
            leg: Leg::new(clock(), config, "phone", leg),
            encoder: Encoder::new(EncoderSettings::Opus(OpusSettings::default())).expect("Opus"),
            decoder: Decoder::new(Codec::Opus).expect("Opus"),
            played: 0,
        });
    }

    /// Waits for the next 20 ms; everything that comes meanwhile is given to `hear` with its moment.
    fn wait(&mut self, mut hear: impl FnMut(usize, Instant, &[u8])) {
        let mut packet = [0; 1_500];
        self.due += TICK;
        while clock() < self.due {
            for (number, phone) in self.phones.iter().enumerate() {
                while let Ok(len) = phone.socket.recv(&mut packet) {
                    hear(number, clock(), &packet[..len]);
                }
            }
            pause(Duration::from_micros(500).min(self.due.saturating_duration_since(clock())));
        }
    }
}

impl Phone {
    /// Sends 20 ms of a tone, or of what a microphone makes of silence.
    fn speak(&mut self, amplitude: f32, hz: f32) -> ([u8; 1_500], usize) {
        let step = std::f64::consts::TAU * f64::from(hz) / 48_000.0;
        let played = self.played;
        let frame: [f32; FRAME_SAMPLES] =
            std::array::from_fn(|i| amplitude * (step * (played + i) as f64).sin() as f32);
        self.played += FRAME_SAMPLES;
        let (mut payload, mut packet) = ([0; 1_500], [0; 1_500]);
        let len = self.encoder.encode(&frame, &mut payload).expect("a frame");
        self.say(&payload[..len], &mut packet);
        (payload, len)
    }

    fn say(&mut self, payload: &[u8], packet: &mut [u8]) {
        let now = clock();
        let len = self.leg.packetize(now, payload, FRAME_SAMPLES as u32, packet);
        // A full buffer loses a packet, as a network would.
        let _ = self.socket.send_to(&packet[..len], self.mixer);
    }

    /// How loud a packet from the mixer is, in steps of 1 ms.
    fn levels(&mut self, packet: &[u8]) -> Vec<f32> {
        let mut samples = vec![];
        // RTCP shares the port.
        if packet.len() > 12 && packet[1] & 0x7F == 96 {
            self.decoder.decode(&packet[12..], &mut samples).expect("Opus");
        }
        let peak = |ms: &[f32]| ms.iter().fold(0.0, |peak: f32, sample| peak.max(sample.abs()));
        samples.chunks_exact(48).map(peak).collect()
    }
}

/// CPU time of a tick, in µs, and encodes of a tick.
fn cpu(talkers: usize, listeners: usize) -> (f64, f64) {
    let mut site = Site::new(talkers + listeners);
    // A second of each voice, and a listener's quiet room; what phones cost is none of our business.
    let loops: Vec<Vec<Vec<u8>>> = (0..=talkers)
        .map(|voice| {
            let settings = EncoderSettings::Opus(OpusSettings::default());
            let mut encoder = Encoder::new(settings).expect("Opus");
            let pitch = 110.0 + 17.0 * voice as f64;
            (0..50)
                .map(|n| {
                    let quiet = if voice == talkers { 0.0005 } else { 1.0 };
                    let frame: [f32; FRAME_SAMPLES] = std::array::from_fn(|i| {
                        let t = (n * FRAME_SAMPLES + i) as f64 / 48_000.0;
                        let vowel: f64 = (1..24)
                            .map(|h| (std::f64::consts::TAU * pitch * f64::from(h) * t).sin())
                            .sum();
                        (quiet * 0.02 * vowel) as f32
                    });
                    let mut payload = vec![0; 1_500];
                    let len = encoder.encode(&frame, &mut payload).expect("a frame");
                    payload.truncate(len);
                    payload
                })
                .collect()
        })
        .collect();
    let mut packet = [0; 1_500];
    let mut received = 0;
    let mut from = (0, 0.0);
    const WARM: usize = 100;
    const MEASURED: usize = 200;
    for n in 0..WARM + MEASURED {
        if n == WARM {
            received = 0;
            from = (thread_time_ns("mix-0"), encodes(&site.metrics));
        }
        for (number, phone) in site.phones.iter_mut().enumerate() {
            phone.say(&loops[number.min(talkers)][n % 50], &mut packet);
        }
        site.wait(|_, _, _| received += 1);
    }
    let used = thread_time_ns("mix-0") - from.0;
    // Counted once a second: two seconds and a half of 50 ticks are within the four measured.
    let encodes = (encodes(&site.metrics) - from.1) / MEASURED as f64;
    let expected = (talkers + listeners) * MEASURED;
    assert!(received * 100 >= expected * 95, "{received} of {expected} packets");
    site.media.stop();
    (used as f64 / 1_000.0 / MEASURED as f64, encodes)
}

fn encodes(metrics: &Metrics) -> f64 {
    let count = |kind| metrics.encodes.with_label_values(&[kind]).get();
    (count("shared") + count("own")) as f64
}

/// From a word's first packet being sent until its first millisecond can be played elsewhere, less
/// what the same packet takes without a bridge; in ms.
fn delays(words: usize) -> Vec<f64> {
    let mut site = Site::new(2);
    let mut reference = Decoder::new(Codec::Opus).expect("Opus");
    let mut found = vec![];
    let mut said: Option<(Instant, f64)> = None;
    for n in 0..50 + words * 40 {
        // A word of 300 ms, a pause of 500; phones and mixer do not share a beat, so it drifts.
        let amplitude = if n >= 50 && n % 40 < 15 { 0.2 } else { 0.0 };
        let sent = clock();
        let (payload, len) = site.phones[0].speak(amplitude, 1_000.0);
        site.phones[1].speak(0.0, 1_000.0);
        let mut samples = vec![];
        reference.decode(&payload[..len], &mut samples).expect("Opus");
        if n >= 50 && n % 40 == 0 {
            let onset = samples.iter().position(|s| s.abs() > AUDIBLE);
            said = onset.map(|at| (sent, at as f64 / 48.0));
            // Shift our beat against the mixer's, to see all of its phases.
            site.due += Duration::from_micros(700);
        }
        let mut heard = vec![];
        site.wait(|phone, at, packet| {
            if phone == 1 {
                heard.push((at, packet.to_vec()));
            }
        });
        for (at, packet) in heard {
            let levels = site.phones[1].levels(&packet);
            if let Some(onset) = levels.iter().position(|level| *level > AUDIBLE)
                && let Some((sent, direct)) = said.take()
            {
                let ms = at.saturating_duration_since(sent).as_secs_f64() * 1_000.0;
                found.push(ms + onset as f64 - direct);
            }
        }
    }
    site.media.stop();
    assert!(found.len() * 10 >= words * 9, "{} of {words} words arrived", found.len());
    found
}

/// From an order to mute until it is in force, and until the last packet in which the voice can be
/// heard; in ms.
fn mutes(times: usize) -> (Vec<f64>, Vec<f64>) {
    let mut site = Site::new(2);
    let (mut applied, mut last_heard) = (vec![], vec![]);
    let mut asked = clock();
    let mut last = None;
    for n in 0..50 + times * 50 {
        let heard = n < 50 || n % 50 >= 25;
        if n >= 50 && n % 25 == 0 {
            site.due += Duration::from_micros(700);
            asked = clock();
            let order = Order::Voice { leg: LegId(1), heard, asked };
            assert_eq!(site.media.obey([order]), vec![]);
            last = None;
        }
        site.phones[0].speak(0.2, 1_000.0);
        site.phones[1].speak(0.0, 1_000.0);
        let mut packets = vec![];
        site.wait(|phone, at, packet| {
            if phone == 1 {
                packets.push((at, packet.to_vec()));
            }
        });
        for (at, packet) in packets {
            if site.phones[1].levels(&packet).iter().any(|level| *level > AUDIBLE) {
                last = Some(at);
            }
        }
        if n >= 50 && n % 50 == 20 {
            let last = last.map_or(Duration::ZERO, |at| at.saturating_duration_since(asked));
            last_heard.push(last.as_secs_f64() * 1_000.0);
        }
        while let Ok(report) = site.told.try_recv() {
            if let Report::VoiceApplied { heard: false, asked, at, .. } = report {
                applied.push(at.saturating_duration_since(asked).as_secs_f64() * 1_000.0);
            }
        }
    }
    site.media.stop();
    assert_eq!((applied.len(), last_heard.len()), (times, times));
    (applied, last_heard)
}

/// The middle and the end of what was measured.
fn spread(ms: &[f64]) -> String {
    let mut sorted = ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part).round() as usize];
    format!("p50 {:.1} ms, p99 {:.1} ms ({} times)", at(0.5), at(0.99), sorted.len())
}

/// CPU time that a thread of this process has had, by its name.
fn thread_time_ns(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let named = std::fs::read_to_string(path.join("comm")).ok()?.trim() == name;
            let times = std::fs::read_to_string(path.join("schedstat")).ok()?;
            if named { times.split(' ').next()?.parse::<u64>().ok() } else { None }
        })
        .sum()
}

fn clock() -> Instant {
    Now::read().instant
}

#[expect(clippy::disallowed_methods, reason = "a bench runs in real time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
