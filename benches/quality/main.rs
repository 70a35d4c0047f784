//! What people sound like through the mixer when networks are bad: real speech, coded, sent over a
//! network that loses, delays, reorders and duplicates, heard by the jitter buffer, mixed, coded again
//! and sent over another network; all in virtual time, so a seed gives the same sound on any machine.
//!
//! `make bench-quality` has `score.py` beside this compare what came out with what was said (PESQ, ITU-T
//! P.862.2) and prints the table of docs/performance.md. Words after `--` choose rows.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cusax_media::codec::{Codec, Encoder, EncoderSettings, OpusSettings};
use cusax_media::jitter::JitterStats;
use cusax_media::leg::{Format, Leg, LegConfig};
use cusax_media::resample::{Downsampler, Upsampler};
use cusax_media::rtp::Header;
use cusax_media::{FRAME_SAMPLES, MAX_PACKET};
use cusaxd::clock::Now;
use cusaxd::id::{LegId, RoomName};
use cusaxd::mixer::mix::{Mix, Out, Packet, Patience, Port};
use cusaxd::mixer::plan::{CodecKind, CodecPlan, LegPlan};
use serde_json::json;

#[path = "../../crates/media/tests/it/network_model.rs"]
mod network_model;

use network_model::{Network, Sent, carry};

/// Where Debian's `pocketsphinx-testdata` has a reader.
const SPEECH: &str = "/usr/share/pocketsphinx/test/data/librivox";
const SEEDS: u64 = 3;
/// From the rate of the recordings to the mixer's.
const FACTOR: usize = 3;
/// So many frames of silence come before the first word, and after the last.
const MARGIN: usize = 50;
/// The ticks of the mixer and of the listener fall so long after the talker's frames, in µs.
const MIX_PHASE_US: u64 = 7_000;
const EAR_PHASE_US: u64 = 13_000;
const OPUS: u8 = 111;
/// Two passes through Opus at 32 kbit/s leave a steady tone steps of at most this much more than its own.
const TONE_STEP: f32 = 0.5 * std::f32::consts::TAU / 48.0 * 1.3;

/// Who talks when, besides the first talker.
#[derive(Clone, Copy)]
enum Other {
    Nobody,
    /// They take turns of 1.2 s, and overlap for 0.2 s.
    Turns,
    /// The other says a word of 0.3 s every 2 s.
    Interjects,
}

/// One line of the table.
struct Row {
    name: &'static str,
    /// Between talker and mixer.
    first: Network,
    /// Between mixer and listener.
    second: Network,
    other: Other,
    /// What PESQ-WB is to be, at least.
    goal: Option<f64>,
}

fn rows() -> Vec<Row> {
    let clean = Network::default;
    let loss = |loss| Network { loss, ..clean() };
    let row = |name, first, goal| Row {
        name,
        first,
        second: clean(),
        other: Other::Nobody,
        goal: Some(goal),
    };
    vec![
        row("clean", clean(), 3.95),
        row("1 % lost", loss(0.01), 3.90),
        row("3 % lost", loss(0.03), 3.80),
        row("5 % lost", loss(0.05), 3.70),
        row("10 % lost", loss(0.10), 3.50),
        row("20 % lost", loss(0.20), 2.85),
        Row { second: loss(0.05), ..row("5 % lost on both ways", loss(0.05), 3.55) },
        row("5 % lost, two in a row", Network { burst: 2.0, ..loss(0.05) }, 3.15),
        row("jitter of 30 ms", Network { jitter_ms: 30.0, ..clean() }, 3.85),
        row("200 ms of nothing once", Network { spike_ms: 200, ..clean() }, 3.60),
        row(
            "2 % out of order, 2 % twice",
            Network { reorder: 0.02, duplicate: 0.02, ..clean() },
            3.90,
        ),
        row("clock 500 ppm fast", Network { drift_ppm: 500.0, ..clean() }, 3.85),
        row("clock 500 ppm slow", Network { drift_ppm: -500.0, ..clean() }, 3.85),
        Row { other: Other::Turns, goal: None, ..row("two take turns", clean(), 0.0) },
        Row { other: Other::Interjects, goal: None, ..row("one is interrupted", clean(), 0.0) },
    ]
}

/// What came of one run.
struct Heard {
    pcm: Vec<f32>,
    concealed_percent: f64,
    repaired: u64,
    late: u64,
    grown: u64,
    shrunk: u64,
    delay_ms: f64,
    encodes: u64,
}

fn main() {
    let wanted: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let out = PathBuf::from("target/bench/quality");
    fs::create_dir_all(&out).expect("the folder for what was heard");
    let speech = read_all(Path::new(SPEECH));
    let mut report = vec![];
    println!("| | lost frames made up, % | repaired | late | grown | shrunk | jitter buffer, ms |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let rows = rows();
    let rows = rows.iter().enumerate().filter(|(_, row)| {
        wanted.is_empty() || wanted.iter().any(|word| row.name.contains(&**word))
    });
    for (number, row) in rows {
        let voices = voices(&speech, row.other);
        let said = format!("{number}.said.wav");
        let sum: Vec<f32> =
            (0..voices[0].len()).map(|i| voices.iter().map(|voice| voice[i]).sum()).collect();
        write(&out.join(&said), &sum);
        let runs: Vec<_> = (1..=SEEDS).map(|seed| run(row, &voices, seed)).collect();
        let mean = |what: fn(&Heard) -> f64| runs.iter().map(what).sum::<f64>() / SEEDS as f64;
        println!(
            "| {} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
            row.name,
            mean(|run| run.concealed_percent),
            mean(|run| run.repaired as f64),
            mean(|run| run.late as f64),
            mean(|run| run.grown as f64),
            mean(|run| run.shrunk as f64),
            mean(|run| run.delay_ms)
        );
        let heard = (1..).zip(&runs).map(|(seed, run)| {
            let name = format!("{number}.heard.{seed}.wav");
            let mut low = vec![0.0; run.pcm.len() / FACTOR];
            Downsampler::new(FACTOR).process(&run.pcm[..low.len() * FACTOR], &mut low);
            write(&out.join(&name), &low);
            name
        });
        report.push(json!({
            "name": row.name, "goal": row.goal, "said": said, "heard": heard.collect::<Vec<_>>(),
            "concealed_percent": mean(|run| run.concealed_percent), "delay_ms": mean(|run| run.delay_ms),
        }));
        // What must hold anywhere.
        for run in &runs {
            assert!(run.encodes > 0 && run.pcm.iter().any(|sample| sample.abs() > 0.1));
        }
    }
    let report = serde_json::to_string_pretty(&report).expect("numbers and names");
    fs::write(out.join("runs.json"), report).expect("the list of runs");
    if !wanted.is_empty() {
        return;
    }
    let (seconds, steps) = tone();
    println!("\na tone of 1 kHz for {seconds} s: {steps} discontinuities");
    assert_eq!(steps, 0, "the tone is broken");
}

/// A steady tone through mixer and both jitter buffers for an hour: how often it breaks.
fn tone() -> (usize, usize) {
    let seconds = 3_600;
    let mut room = Room::new(1);
    let mut encoder = Encoder::new(coding(0.0)).expect("Opus");
    let mut steps = 0;
    let mut last = 0.0f32;
    for n in 0..seconds * 50 {
        let frame = std::array::from_fn(|i| {
            let t = ((n * FRAME_SAMPLES + i) % 48_000) as f64 / 48_000.0;
            (0.5 * (std::f64::consts::TAU * 1_000.0 * t).sin()) as f32
        });
        let packet = packet(&mut encoder, n, &frame, 1);
        room.receive(n as u64 * 20_000, 1, &packet);
        let (_, frame) = room.tick(n as u64 * 20_000, None);
        for sample in frame {
            // The first second is for the buffers to find their delay.
            steps += usize::from(n > 50 && (sample - last).abs() > TONE_STEP);
            last = sample;
        }
    }
    (seconds, steps)
}

/// The talkers' voices, at 16 kHz and of one length.
fn voices(speech: &[f32], other: Other) -> Vec<Vec<f32>> {
    let silence = vec![0.0; MARGIN * FRAME_SAMPLES / FACTOR];
    let mut first = [&silence[..], speech, &silence].concat();
    first.truncate(first.len() / (FRAME_SAMPLES / FACTOR) * (FRAME_SAMPLES / FACTOR));
    // The other reads the same text from its middle.
    let mut second = first.clone();
    second.rotate_left(first.len() / 2);
    let gate = |voice: &mut [f32], talks: &dyn Fn(f64) -> bool| {
        let mut gain = 0.0f32;
        for (i, sample) in voice.iter_mut().enumerate() {
            // Mouths do not open at once: 10 ms.
            let step = if talks(i as f64 / 16_000.0) { 1.0 } else { -1.0 } / 160.0;
            gain = (gain + step).clamp(0.0, 1.0);
            *sample *= gain;
        }
    };
    match other {
        Other::Nobody => vec![first],
        Other::Turns => {
            gate(&mut first, &|t| t % 2.0 < 1.2);
            gate(&mut second, &|t| (t + 1.0) % 2.0 < 1.2);
            vec![first, second]
        }
        Other::Interjects => {
            gate(&mut second, &|t| t % 2.0 < 0.3);
            vec![first, second]
        }
    }
}

fn run(row: &Row, voices: &[Vec<f32>], seed: u64) -> Heard {
    let talks: Vec<Vec<Sent>> = (1..)
        .zip(voices)
        .map(|(leg, voice)| {
            let mut high = vec![];
            Upsampler::new(FACTOR).process(voice, &mut high);
            let mut encoder = Encoder::new(coding(row.first.loss)).expect("Opus");
            let frames = high.as_chunks::<FRAME_SAMPLES>().0.iter().enumerate();
            let sent: Vec<_> = frames
                .map(|(n, frame)| (n as u64 * 20_000, packet(&mut encoder, n, frame, leg)))
                .collect();
            carry(&sent, &row.first, seed).0
        })
        .collect();
    let mut arrivals: Vec<(u64, u64, &[u8])> = (1..)
        .zip(&talks)
        .flat_map(|(leg, sent)| sent.iter().map(move |(at, packet)| (*at, leg, &packet[..])))
        .collect();
    arrivals.sort_unstable();
    let mut arrivals = arrivals.into_iter().peekable();
    let mut room = Room::new(voices.len() as u64);
    let (mut pcm, mut delays) = (vec![], vec![]);
    for n in 0..voices[0].len() * FACTOR / FRAME_SAMPLES {
        let at = n as u64 * 20_000;
        while let Some((came, leg, packet)) = arrivals.next_if(|next| next.0 <= at + MIX_PHASE_US) {
            room.receive(came, leg, packet);
        }
        let (delay, frame) = room.tick(at, Some((&row.second, seed)));
        pcm.extend(frame);
        delays.push(delay * 1_000.0);
    }
    let tally = room.mix.take_tally();
    let jitter = room.ear.stats().jitter;
    let (concealed, repaired) = (tally.concealed + jitter.concealed, tally.fec + jitter.fec);
    let mixer = room.mixer;
    let half = &delays[delays.len() / 2..];
    Heard {
        concealed_percent: 100.0 * concealed as f64 / delays.len() as f64,
        repaired,
        late: mixer.late + jitter.late,
        grown: mixer.grown + jitter.grown,
        shrunk: mixer.shrunk + jitter.shrunk,
        delay_ms: half.iter().sum::<f64>() / half.len() as f64,
        encodes: tally.encodes_shared,
        pcm,
    }
}

/// The mixer, and one who listens.
struct Room {
    start: Instant,
    mix: Mix,
    ear: Leg,
    listener: LegId,
    /// What is on its way to the listener, by arrival.
    coming: Vec<(u64, Vec<u8>)>,
    sent: usize,
    /// What the mixer says of the first talker's stream.
    mixer: JitterStats,
}

impl Room {
    fn new(talkers: u64) -> Self {
        let start = Now::read().instant;
        let mut mix = Mix::default();
        for leg in 1..=talkers + 1 {
            mix.open(start, Box::new(plan(leg, leg <= talkers)), leg).expect("Opus");
        }
        let format = Format { payload_type: OPUS, codec: Codec::Opus };
        let mixer = Some(address(0));
        let config = LegConfig {
            receive: vec![format],
            events: vec![],
            send: format,
            level_extension: None,
            rtcp_mux: true,
            remote: mixer,
            remote_rtcp: mixer,
            signalling: None,
            srtp: None,
        };
        let mut ear = Leg::new(start, config, "ear", 9);
        ear.set_ssrc(0xEA2);
        let listener = LegId(talkers + 1);
        Self { start, mix, ear, listener, coming: vec![], sent: 0, mixer: JitterStats::default() }
    }

    fn at(&self, us: u64) -> Instant {
        self.start + Duration::from_micros(us)
    }

    fn receive(&mut self, us: u64, leg: u64, packet: &[u8]) {
        let now = self.at(us);
        self.mix.receive(now, LegId(leg), Port::Rtp, address(leg), packet, &mut vec![]);
    }

    /// 20 ms of mixer and listener: the first talker's delay in s, and what the listener heard.
    fn tick(&mut self, us: u64, network: Option<(&Network, u64)>) -> (f64, [f32; FRAME_SAMPLES]) {
        let now = self.at(us + MIX_PHASE_US);
        let mut said = vec![];
        let listener = self.listener;
        let mut send = |packet: Packet<'_>| {
            if packet.leg == listener {
                said.push((us + MIX_PHASE_US, packet.bytes.to_vec()));
            }
        };
        let mut reports = vec![];
        self.mix.tick(now, &mut Out { send: &mut send, reports: &mut reports });
        if us.is_multiple_of(1_000_000) {
            let mixer = &mut self.mixer;
            self.mix.survey(now, &Patience::default(), &mut reports, |leg, health| {
                if leg == LegId(1) {
                    *mixer = health.stats.jitter;
                }
            });
        }
        // Each packet has its own luck, whatever was sent before it.
        for (n, packet) in said.into_iter().enumerate() {
            let luck = |seed: u64| (seed << 32) + (self.sent + n) as u64;
            match network {
                Some((network, seed)) => {
                    self.coming.extend(carry(&[packet], network, luck(seed)).0);
                }
                None => self.coming.push(packet),
            }
            self.sent += 1;
        }
        let heard_at = us + EAR_PHASE_US;
        let later = self.coming.split_off(
            self.coming.iter().position(|(at, _)| *at > heard_at).unwrap_or(self.coming.len()),
        );
        for (at, packet) in std::mem::replace(&mut self.coming, later) {
            let now = self.at(at);
            self.ear.receive(now, address(0), &packet);
        }
        let mut frame = [0.0; FRAME_SAMPLES];
        let now = self.at(heard_at);
        self.ear.tick(now, &mut frame);
        // The mixer hears from the listener how much is lost.
        let mut report = [0; MAX_PACKET];
        let len = self.ear.handle_timeout(now, &mut report);
        if len > 0 {
            self.receive(us + EAR_PHASE_US, listener.0, &report[..len]);
        }
        (self.mixer.delay_s, frame)
    }
}

fn coding(loss: f64) -> EncoderSettings {
    let loss_percent = (loss * 100.0).round() as u8;
    // What clients take where nobody pays for each of them.
    let complexity = 10;
    EncoderSettings::Opus(OpusSettings { loss_percent, complexity, ..OpusSettings::default() })
}

fn packet(encoder: &mut Encoder, n: usize, frame: &[f32; FRAME_SAMPLES], leg: u64) -> Vec<u8> {
    let mut payload = [0; cusax_media::codec::MAX_PAYLOAD];
    let len = encoder.encode(frame, &mut payload).expect("a frame");
    let header = Header {
        marker: n == 0,
        payload_type: OPUS,
        sequence: n as u16,
        timestamp: (n * FRAME_SAMPLES) as u32,
        ssrc: leg as u32,
    };
    [&header.to_bytes()[..], &payload[..len]].concat()
}

fn address(leg: u64) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 10_000 + leg as u16))
}

fn plan(leg: u64, heard: bool) -> LegPlan {
    LegPlan {
        leg: LegId(leg),
        room: RoomName::new("any").expect("a name"),
        local: address(0).ip(),
        port: 40_000,
        remote: Some(address(leg)),
        remote_rtcp: None,
        signalled_from: address(leg).ip(),
        mux: true,
        codec: CodecPlan {
            kind: CodecKind::Opus,
            send_pt: OPUS,
            receive_pt: OPUS,
            max_bitrate: Some(32_000),
            fec: true,
            dtx: false,
        },
        dtmf: vec![],
        level_ext: None,
        ssrc: 1_000 + leg as u32,
        cname: "mixer".to_owned(),
        srtp: None,
        hears: true,
        heard,
    }
}

/// All WAV files of a folder, one after the other, at 16 kHz.
fn read_all(folder: &Path) -> Vec<f32> {
    let entries = fs::read_dir(folder).expect("speech: install pocketsphinx-testdata");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|suffix| suffix == "wav"));
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let bytes = fs::read(file).expect("a readable file");
            let data = bytes.windows(4).position(|four| four == b"data").expect("a WAV file");
            let samples = bytes[data + 8..].as_chunks::<2>().0.iter();
            samples.map(|two| f32::from(i16::from_le_bytes(*two)) / 32_768.0).collect::<Vec<_>>()
        })
        .collect()
}

/// Writes samples at 16 kHz.
fn write(path: &Path, samples: &[f32]) {
    let data: Vec<u8> = samples
        .iter()
        .flat_map(|sample| ((sample * 32_767.0).clamp(-32_768.0, 32_767.0) as i16).to_le_bytes())
        .collect();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend([1, 0, 1, 0]);
    bytes.extend(16_000u32.to_le_bytes());
    bytes.extend(32_000u32.to_le_bytes());
    bytes.extend([2, 0, 16, 0]);
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    fs::write(path, bytes).expect("a file that can be written");
}
