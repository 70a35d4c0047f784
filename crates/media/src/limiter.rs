//! The limiter at the end of a mix: any number of voices, never beyond ±1.0.
//!
//! A gain that looks ahead within the frame keeps peaks at [`THRESHOLD`]; a soft knee catches what the first
//! 2.5 ms of a sudden frame leave over. Below the threshold the samples pass untouched, to the bit.

use crate::FRAME_SAMPLES;

/// Peaks up to here pass untouched (−0.9 dBFS).
pub const THRESHOLD: f32 = 0.9;

/// The gain moves in straight lines of this many samples (2.5 ms).
const STEP: usize = 120;
const STEPS: usize = FRAME_SAMPLES / STEP;
/// Part of the way back to unity that each step makes: a time constant of 200 ms.
const RELEASE: f32 = 0.0125;

/// The limiter of one mix.
#[derive(Clone, Debug)]
pub struct Limiter {
    gain: f32,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { gain: 1.0 }
    }
}

impl Limiter {
    /// Limits one frame in place. What is not a number becomes silence.
    pub fn process(&mut self, frame: &mut [f32; FRAME_SAMPLES]) {
        let mut allowed = [1.0f32; STEPS + 1];
        for (allowed, step) in allowed.iter_mut().zip(frame.chunks_exact(STEP)) {
            let peak = step.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
            if peak > THRESHOLD {
                *allowed = THRESHOLD / peak;
            }
        }
        for (step, allowed) in frame.chunks_exact_mut(STEP).zip(allowed.windows(2)) {
            let released = self.gain + (1.0 - self.gain) * RELEASE;
            let released = if released > 0.999 { 1.0 } else { released };
            let end = released.min(allowed[0]).min(allowed[1]);
            if self.gain == 1.0 && end == 1.0 {
                continue;
            }
            let slope = (end - self.gain) / STEP as f32;
            for (i, sample) in step.iter_mut().enumerate() {
                *sample = knee(*sample * (self.gain + slope * (i + 1) as f32));
            }
            self.gain = end;
        }
    }
}

/// Bends what lies beyond the threshold into what is left below 1.0.
fn knee(sample: f32) -> f32 {
    let over = sample.abs() - THRESHOLD;
    if over <= 0.0 {
        sample
    } else if sample.is_nan() {
        0.0
    } else {
        let room = 1.0 - THRESHOLD;
        (THRESHOLD + room * (over / room).tanh()).min(1.0).copysign(sample)
    }
}

/// The nearest 16-bit sample; beyond ±1.0 it saturates, never wraps.
#[must_use]
pub fn to_i16(sample: f32) -> i16 {
    (sample * 32_767.0).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(voices: usize, amplitude: f32, count: usize) -> Vec<[f32; FRAME_SAMPLES]> {
        (0..count)
            .map(|n| {
                std::array::from_fn(|i| {
                    let t = (n * FRAME_SAMPLES + i) as f32 / 48_000.0;
                    (0..voices)
                        .map(|v| {
                            amplitude
                                * (std::f32::consts::TAU * (200.0 + 37.0 * v as f32) * t).sin()
                        })
                        .sum()
                })
            })
            .collect()
    }

    #[test]
    fn never_exceeds_and_never_wraps() {
        for voices in [1, 2, 3, 5, 10, 20, 100] {
            for amplitude in [0.5, 0.9, 1.0, 4.0] {
                let mut limiter = Limiter::default();
                for mut frame in frames(voices, amplitude, 25) {
                    let signs: Vec<bool> = frame.iter().map(|s| *s < 0.0).collect();
                    limiter.process(&mut frame);
                    for (sample, negative) in frame.iter().zip(signs) {
                        assert!(sample.abs() <= 1.0, "{voices} × {amplitude}: {sample}");
                        let word = to_i16(*sample);
                        assert!(
                            word == 0 || (word < 0) == negative,
                            "{voices} × {amplitude}: wrapped"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn is_transparent_below_the_threshold() {
        let mut limiter = Limiter::default();
        for frame in frames(3, 0.299, 50) {
            let mut out = frame;
            limiter.process(&mut out);
            assert_eq!(out, frame);
        }
    }

    #[test]
    fn holds_a_loud_mix_near_the_threshold_and_lets_go() {
        let mut limiter = Limiter::default();
        let mut peak = 0.0f32;
        for mut frame in frames(20, 0.8, 100).into_iter() {
            limiter.process(&mut frame);
            peak = frame.iter().fold(0.0, |peak: f32, s| peak.max(s.abs()));
            assert!(peak <= 1.0);
        }
        assert!(peak > 0.3, "twenty voices are still loud: {peak}");
        let mut last = [0.0; FRAME_SAMPLES];
        for frame in frames(1, 0.1, 150) {
            last = frame;
            limiter.process(&mut last);
        }
        assert_eq!(last, frames(1, 0.1, 150)[149], "released within 3 s");
    }

    #[test]
    fn nonsense_becomes_silence_or_full_scale() {
        for (input, expected) in [
            (f32::NAN, 0.0),
            (f32::INFINITY, 0.0), // gain zero times infinity
            (f32::MAX, THRESHOLD),
        ] {
            let mut frame = [0.0; FRAME_SAMPLES];
            frame[500] = input;
            frame[501] = 2.0;
            Limiter::default().process(&mut frame);
            assert!(frame.iter().all(|s| s.abs() <= 1.0), "{input}");
            assert!((frame[500] - expected).abs() < 1e-3, "{input}: {}", frame[500]);
        }
        for (sample, word) in
            [(1.0, 32_767), (-1.0, -32_767), (9.0, 32_767), (-9.0, -32_768), (f32::NAN, 0)]
        {
            assert_eq!(to_i16(sample), word);
        }
    }
}
