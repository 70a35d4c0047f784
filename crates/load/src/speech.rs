//! What people say, encoded before the run, so that the generator does no more than send.
//!
//! Time goes in cycles of three seconds. In each, all talkers of a room talk, then are silent for
//! 640 ms, in which one of them, in turn, plays a marker: a tone of 160 ms whose pitch says who it is.

use std::path::Path;

use anyhow::{Context, ensure};
use cusax_media::FRAME_SAMPLES;
use cusax_media::level::measure_dbov;
use cusax_media::resample::Upsampler;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::ear;

/// Frames of 20 ms in a cycle, of which so many are speech, …
pub(crate) const CYCLE: usize = 150;
const SPEECH: usize = 118;
/// … and the marker begins here and is so long.
pub(crate) const MARKER: usize = 134;
const MARKER_FRAMES: usize = 8;
/// How loud people talk while they do, and the noise of their rooms, in dBov.
const TALK_DBOV: f32 = -23.0;
const NOISE_DBOV: f32 = -66.0;
/// Half the marker's height, in ±1.0: −15 dBov.
const MARKER_AMPLITUDE: f32 = 0.25;
/// Different noises.
const NOISES: usize = 8;
/// Frames of each, played round and round.
const NOISE_FRAMES: usize = 150;

/// One encoded frame, and how loud it was.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) payload: Vec<u8>,
    /// In −dBov, as RFC 6464 has it, with the voice flag as the top bit.
    pub(crate) level: u8,
}

/// What one talker says.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) frames: Vec<Frame>,
    /// The pitch of the talker's marker.
    pub(crate) hz: f32,
    /// For each cycle in which the talker has the marker: how long after the start of frame [`MARKER`]
    /// the marker begins when the packets are decoded with nothing in between, in ms.
    pub(crate) onsets_ms: Vec<Option<f64>>,
}

/// How people encode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coding {
    pub(crate) bitrate: u32,
    pub(crate) celt: bool,
}

impl Coding {
    pub(crate) fn encoder(self) -> anyhow::Result<opus::Encoder> {
        use opus::{Application, Bitrate, Channels};
        let application = if self.celt { Application::LowDelay } else { Application::Voip };
        let mut encoder = opus::Encoder::new(48_000, Channels::Mono, application)?;
        encoder.set_bitrate(Bitrate::Bits(i32::try_from(self.bitrate)?))?;
        encoder.set_complexity(5)?;
        Ok(encoder)
    }
}

/// Speech at 48 kHz and a common loudness, from all WAV files of a folder, one after the other.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Vec<f32>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<_> =
        entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|suffix| suffix == "wav"));
    files.sort();
    ensure!(!files.is_empty(), "no WAV files in {}", folder.display());
    let mut speech = vec![];
    for file in files {
        let samples = wav(&std::fs::read(&file)?).with_context(|| file.display().to_string())?;
        Upsampler::new(3).process(&samples, &mut speech);
    }
    let sounding: Vec<f32> = speech
        .as_chunks::<FRAME_SAMPLES>()
        .0
        .iter()
        .map(|frame| measure_dbov(frame))
        .filter(|level| *level > -45.0)
        .collect();
    ensure!(!sounding.is_empty(), "the speech is silent");
    let level = sounding.iter().sum::<f32>() / sounding.len() as f32;
    let gain = 10f32.powf((TALK_DBOV - level) / 20.0);
    for sample in &mut speech {
        *sample = (*sample * gain).clamp(-0.99, 0.99);
    }
    Ok(speech)
}

/// What talker `number` of `talkers` says in `frames` frames; `speech` is where they read from.
pub(crate) fn track(
    speech: &[f32],
    coding: Coding,
    (number, talkers): (usize, usize),
    frames: usize,
) -> anyhow::Result<Track> {
    let hz = pitch(number);
    let mut random = SmallRng::seed_from_u64(number as u64);
    let mut encoder = coding.encoder()?;
    let mut payload = [0; 1_500];
    // Everybody begins elsewhere in the same text.
    let mut at = speech.len() / talkers.max(1) * number;
    let mut encoded = Vec::with_capacity(frames);
    for n in 0..frames {
        let (cycle, place) = (n / CYCLE, n % CYCLE);
        let mut frame: [f32; FRAME_SAMPLES] = std::array::from_fn(|_| noise(&mut random));
        let marks = (MARKER..MARKER + MARKER_FRAMES).contains(&place) && cycle % talkers == number;
        if place < SPEECH {
            for sample in &mut frame {
                *sample += speech[at % speech.len()];
                at += 1;
            }
        } else if marks {
            let from = (place - MARKER) * FRAME_SAMPLES;
            for (i, sample) in frame.iter_mut().enumerate() {
                let t = (from + i) as f32 / 48_000.0;
                *sample += MARKER_AMPLITUDE * (std::f32::consts::TAU * hz * t).sin();
            }
        }
        let len = encoder.encode_float(&frame, &mut payload)?;
        encoded.push(framed(&payload[..len], &frame, place < SPEECH || marks));
    }
    let onsets_ms = onsets(&encoded, hz, (number, talkers))?;
    Ok(Track { frames: encoded, hz, onsets_ms })
}

/// What listeners send.
pub(crate) fn noises(coding: Coding) -> anyhow::Result<Vec<Vec<Frame>>> {
    let mut payload = [0; 1_500];
    (0..NOISES as u64)
        .map(|number| {
            let mut random = SmallRng::seed_from_u64(1_000 + number);
            let mut encoder = coding.encoder()?;
            (0..NOISE_FRAMES)
                .map(|_| {
                    let frame: [f32; FRAME_SAMPLES] = std::array::from_fn(|_| noise(&mut random));
                    let len = encoder.encode_float(&frame, &mut payload)?;
                    Ok(framed(&payload[..len], &frame, false))
                })
                .collect()
        })
        .collect()
}

/// The pitch of a talker's marker: whole periods in 5 ms, so that no two sound alike to an ear.
fn pitch(number: usize) -> f32 {
    600.0 + 200.0 * (number % 12) as f32
}

fn noise(random: &mut SmallRng) -> f32 {
    // Evenly spread within ±a, noise has a level of a/√3.
    let peak = 10f32.powf(NOISE_DBOV / 20.0) * 3f32.sqrt();
    random.random_range(-peak..peak)
}

fn framed(payload: &[u8], frame: &[f32; FRAME_SAMPLES], voice: bool) -> Frame {
    let level = (-measure_dbov(frame)).clamp(0.0, 127.0) as u8;
    Frame { payload: payload.to_vec(), level: level | u8::from(voice) << 7 }
}

fn onsets(
    frames: &[Frame],
    hz: f32,
    (number, talkers): (usize, usize),
) -> anyhow::Result<Vec<Option<f64>>> {
    let mut decoder = opus::Decoder::new(48_000, opus::Channels::Mono)?;
    let mut heard = vec![0.0; frames.len() * FRAME_SAMPLES];
    for (frame, out) in frames.iter().zip(heard.chunks_exact_mut(FRAME_SAMPLES)) {
        decoder.decode_float(&frame.payload, out, false)?;
    }
    Ok(heard
        .chunks_exact(CYCLE * FRAME_SAMPLES)
        .enumerate()
        .map(|(cycle, heard)| {
            let heard = &heard[(MARKER - 1) * FRAME_SAMPLES..];
            let onset = ear::find(heard, hz).filter(|_| cycle % talkers == number)?;
            Some(onset as f64 / 48.0 - 20.0)
        })
        .collect())
}

/// The samples of a WAV file, 16 kHz, mono, 16 bits.
fn wav(bytes: &[u8]) -> anyhow::Result<Vec<f32>> {
    let riff = bytes.get(..12).filter(|head| &head[..4] == b"RIFF" && &head[8..] == b"WAVE");
    riff.context("not a WAV file")?;
    let mut rest = &bytes[12..];
    let mut format = None;
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let [name @ .., a, b, c, d] = *head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let chunk = tail.get(..len.min(tail.len())).unwrap_or_default();
        match &name {
            b"fmt " => format = chunk.get(..16).map(<[u8]>::to_vec),
            b"data" => {
                let format = format.context("no format before the data")?;
                // PCM, mono, 16000 Hz, …, 16 bits.
                ensure!(
                    format[..8] == [1, 0, 1, 0, 0x80, 0x3E, 0, 0] && format[14..16] == [16, 0],
                    "not 16 kHz, mono, 16 bits"
                );
                let samples = chunk.as_chunks::<2>().0;
                return Ok(samples
                    .iter()
                    .map(|sample| f32::from(i16::from_le_bytes(*sample)) / 32_768.0)
                    .collect());
            }
            _ => {}
        }
        rest = tail.get(len.next_multiple_of(2)..).unwrap_or_default();
    }
    anyhow::bail!("no samples")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute of something that swells like speech.
    fn babble() -> Vec<f32> {
        (0..48_000 * 10)
            .map(|i| {
                let t = i as f32 / 48_000.0;
                0.2 * (t * 19.0).sin().max(0.0) * (t * 900.0).sin()
            })
            .collect()
    }

    #[test]
    fn each_talker_has_the_marker_in_turn() {
        let coding = Coding { bitrate: 32_000, celt: false };
        for number in 0..3 {
            let track = track(&babble(), coding, (number, 3), 6 * CYCLE).unwrap();
            assert_eq!(track.frames.len(), 6 * CYCLE);
            for (cycle, onset) in track.onsets_ms.iter().enumerate() {
                assert_eq!(onset.is_some(), cycle % 3 == number, "{number} in {cycle}");
                // What an encoder looks ahead, at least, and no frame more.
                assert!(onset.is_none_or(|ms| (2.0..15.0).contains(&ms)), "{onset:?}");
            }
        }
    }

    #[test]
    fn levels_are_told_in_the_words_of_rfc_6464() {
        let noises = noises(Coding { bitrate: 32_000, celt: true }).unwrap();
        for frame in noises.iter().flatten() {
            assert!((65..=67).contains(&frame.level), "{}", frame.level);
            // CELT alone: configurations 16 to 31 (RFC 6716 §3.1).
            assert!(frame.payload[0] >> 3 >= 16);
        }
        let coding = Coding { bitrate: 32_000, celt: false };
        let track = track(&babble(), coding, (0, 1), CYCLE).unwrap();
        assert_eq!(track.frames[SPEECH + 2].level >> 7, 0);
        assert!((0x80 + 14..0x80 + 18).contains(&track.frames[MARKER + 1].level));
    }

    #[test]
    fn what_is_no_wave_is_refused() {
        for bytes in
            [&b""[..], b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEdata\xFF\xFF\xFF\xFF"]
        {
            assert!(wav(bytes).is_err());
        }
        let mut good = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
        good.extend([1, 0, 1, 0, 0x80, 0x3E, 0, 0, 0, 0x7D, 0, 0, 2, 0, 16, 0]);
        good.extend(b"data\x04\0\0\0\x00\x40\x00\xC0");
        assert_eq!(wav(&good).unwrap(), [0.5, -0.5]);
    }
}
