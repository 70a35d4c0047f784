//! A microphone and a loudspeaker that are files: WAV with 48 kHz, 16 bits, one channel.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use anyhow::{Context, ensure};
use cusax_client::driver::audio::{Device, Frame};
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

/// What is played into a call, and where its sound is kept.
pub(crate) struct Files {
    said: Vec<f32>,
    at: usize,
    heard: Option<WavWriter<BufWriter<File>>>,
    frames: u32,
}

impl Files {
    /// Opens what there is. The sound to say is said once; a file that is to be written is replaced.
    pub(crate) fn open(play: Option<&Path>, record: Option<&Path>) -> anyhow::Result<Self> {
        let said = play
            .map(|path| read(path).with_context(|| format!("{} cannot be played", path.display())));
        let heard = record.map(|path| {
            let file = WavWriter::create(path, SPEC);
            file.with_context(|| format!("{} cannot be written", path.display()))
        });
        let said = said.transpose()?.unwrap_or_default();
        Ok(Self { said, at: 0, heard: heard.transpose()?, frames: 0 })
    }
}

impl Device for Files {
    fn capture(&mut self, frame: &mut Frame) -> bool {
        let left = &self.said[self.at.min(self.said.len())..];
        let length = left.len().min(frame.len());
        frame[..length].copy_from_slice(&left[..length]);
        frame[length..].fill(0.0);
        self.at += length;
        length > 0
    }

    fn play(&mut self, frame: &Frame) {
        let Some(heard) = &mut self.heard else { return };
        self.frames = self.frames.wrapping_add(1);
        // The cast saturates.
        let mut samples = frame.iter().map(|sample| (sample * 32_768.0) as i16);
        let written = samples.try_for_each(|sample| heard.write_sample(sample));
        // Once a second what was heard is on the disk, whatever becomes of the program.
        let whole = written.and_then(|()| {
            if self.frames.is_multiple_of(FLUSH_FRAMES) { heard.flush() } else { Ok(()) }
        });
        if whole.is_err() {
            // A full disk ends the recording, not the call.
            self.heard = None;
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<f32>> {
    let mut reader: WavReader<BufReader<File>> = WavReader::open(path)?;
    let spec = reader.spec();
    let fits = spec.sample_rate == SPEC.sample_rate
        && spec.channels == SPEC.channels
        && spec.bits_per_sample == SPEC.bits_per_sample
        && spec.sample_format == SPEC.sample_format;
    ensure!(
        fits,
        "it has {} Hz, {} channels and {} bits, and not 48000, 1 and 16; \
         `sox IN -r 48000 -c 1 -b 16 OUT.wav` changes that",
        spec.sample_rate,
        spec.channels,
        spec.bits_per_sample
    );
    ensure!(reader.duration() <= MAX_SAMPLES, "it is longer than an hour");
    let samples = reader.samples::<i16>();
    Ok(samples.map(|sample| Ok(f32::from(sample?) / 32_768.0)).collect::<hound::Result<_>>()?)
}

const SPEC: WavSpec = WavSpec {
    channels: 1,
    sample_rate: 48_000,
    bits_per_sample: 16,
    sample_format: SampleFormat::Int,
};
/// How many frames make a second.
const FLUSH_FRAMES: u32 = 50;
/// An hour.
const MAX_SAMPLES: u32 = 48_000 * 3_600;

#[cfg(test)]
mod tests {
    use cusax_media::FRAME_SAMPLES;

    use super::*;

    #[test]
    fn what_is_recorded_can_be_played() {
        let path = std::env::temp_dir().join(format!("cusax-wav-{}.wav", std::process::id()));
        let mut tape = Files::open(None, Some(&path)).unwrap();
        let tone: Vec<f32> = (0..FRAME_SAMPLES).map(|n| (n as f32 / 20.0).sin() * 0.5).collect();
        let frame: Frame = tone.clone().try_into().unwrap();
        tape.play(&frame);
        tape.play(&frame);
        drop(tape);
        let mut player = Files::open(Some(&path), None).unwrap();
        for _ in 0..2 {
            let mut got = [0.0; FRAME_SAMPLES];
            assert!(player.capture(&mut got));
            assert!(got.iter().zip(&tone).all(|(got, said)| (got - said).abs() < 0.001));
        }
        assert!(!player.capture(&mut [1.0; FRAME_SAMPLES]));
        std::fs::remove_file(&path).unwrap();
        let missing = Files::open(Some(&path), None).err().unwrap();
        assert!(missing.to_string().contains("cannot be played"));
    }
}
