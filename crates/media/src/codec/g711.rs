//! G.711, both laws (ITU-T G.711; RFC 3551 §4.5.14), with concealment of lost packets.

/// One of the two companding laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// µ-law, PCMU.
    Mu,
    /// A-law, PCMA.
    A,
}

impl Law {
    /// One byte to a 16-bit sample.
    #[must_use]
    pub fn decode(self, byte: u8) -> i16 {
        let table = match self {
            Self::Mu => &MU,
            Self::A => &A,
        };
        table[usize::from(byte)]
    }

    /// One 16-bit sample to a byte.
    #[must_use]
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Self::Mu => {
                let magnitude = u32::from(sample.unsigned_abs()).min(MU_CLIP) + MU_BIAS;
                let segment = magnitude.ilog2() - 7;
                let step = magnitude >> (segment + 3) & 0x0F;
                !(u8::from(sample < 0) << 7 | (segment << 4 | step) as u8)
            }
            Self::A => {
                // One's complement makes −1 the mirror of 0, as the law has it.
                let magnitude = u32::from(if sample < 0 { !sample } else { sample } as u16);
                let segment = magnitude.max(128).ilog2() - 7;
                let step = magnitude >> (segment.max(1) + 3) & 0x0F;
                (u8::from(sample >= 0) << 7 | (segment << 4 | step) as u8) ^ 0x55
            }
        }
    }
}

const MU_BIAS: u32 = 132;
const MU_CLIP: u32 = 32_635;

const MU: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = !byte & 0xFF;
        let magnitude = ((((code & 0x0F) << 3) + 132) << (code >> 4 & 7)) - 132;
        table[byte] = if code & 0x80 != 0 { -(magnitude as i16) } else { magnitude as i16 };
        byte += 1;
    }
    table
};

const A: [i16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = byte ^ 0x55;
        let step = (code & 0x0F) << 4;
        let segment = code >> 4 & 7;
        let magnitude = if segment == 0 { step + 8 } else { (step + 0x108) << (segment - 1) };
        table[byte] = if code & 0x80 != 0 { magnitude as i16 } else { -(magnitude as i16) };
        byte += 1;
    }
    table
};

/// Shortest pitch period that concealment repeats, in samples at 8 kHz (200 Hz).
const LAG_MIN: usize = 40;
/// Longest (66 Hz).
const LAG_MAX: usize = 120;
/// Samples that two pitch periods are compared over.
const MATCH: usize = 80;
const HISTORY: usize = LAG_MAX + MATCH;
/// Concealment sounds in full for this many samples (10 ms) …
const HOLD: usize = 80;
/// … and has faded away after this many (60 ms).
const FADED: usize = 480;
/// Samples over which real speech takes over again (4 ms).
const BLEND: usize = 32;

/// Decodes to samples in ±1.0 at 8 kHz and, when a packet is lost, repeats the last pitch period with a fade, after
/// the idea of G.711 Appendix I.
#[derive(Clone, Debug)]
pub(super) struct Speech {
    law: Law,
    history: [f32; HISTORY],
    /// Samples concealed since the last real one, and the period they repeat.
    lost: usize,
    lag: usize,
}

impl Speech {
    pub(super) fn new(law: Law) -> Self {
        Self { law, history: [0.0; HISTORY], lost: 0, lag: LAG_MIN }
    }

    pub(super) fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) {
        let start = out.len();
        out.extend(payload.iter().map(|byte| f32::from(self.law.decode(*byte)) / 32_768.0));
        if self.lost > 0 {
            for i in 0..BLEND.min(payload.len()) {
                let part = i as f32 / BLEND as f32;
                out[start + i] = out[start + i] * part + self.made_up() * (1.0 - part);
                self.lost += 1;
            }
            self.lost = 0;
        }
        self.remember(&out[start..]);
    }

    pub(super) fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) {
        if self.lost == 0 {
            self.lag = self.pitch();
        }
        for _ in 0..samples {
            out.push(self.made_up());
            self.lost += 1;
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.law);
    }

    fn made_up(&self) -> f32 {
        let sample = self.history[HISTORY - self.lag + self.lost % self.lag];
        let gone = self.lost.saturating_sub(HOLD) as f32 / (FADED - HOLD) as f32;
        sample * (1.0 - gone).max(0.0)
    }

    fn remember(&mut self, samples: &[f32]) {
        let taken = &samples[samples.len().saturating_sub(HISTORY)..];
        self.history.copy_within(taken.len().., 0);
        self.history[HISTORY - taken.len()..].copy_from_slice(taken);
    }

    /// The lag at which the past resembles itself most.
    fn pitch(&self) -> usize {
        let recent = &self.history[HISTORY - MATCH..];
        let likeness = |lag: usize| {
            let older = &self.history[HISTORY - MATCH - lag..HISTORY - lag];
            let product: f32 = recent.iter().zip(older).map(|(a, b)| a * b).sum();
            let energy: f32 = older.iter().map(|s| s * s).sum();
            product / (energy + 1e-6).sqrt()
        };
        (LAG_MIN..=LAG_MAX).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b))).unwrap_or(LAG_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_laws_corner_values() {
        // From the value tables of G.711, scaled to 16 bits.
        for (law, byte, sample) in [
            (Law::Mu, 0xFF, 0),
            (Law::Mu, 0x7F, 0),
            (Law::Mu, 0x80, 32_124),
            (Law::Mu, 0x00, -32_124),
            (Law::Mu, 0xFE, 8),
            (Law::Mu, 0xEF, 132),
            (Law::A, 0xD5, 8),
            (Law::A, 0x55, -8),
            (Law::A, 0xAA, 32_256),
            (Law::A, 0x2A, -32_256),
            (Law::A, 0xC5, 264),
        ] {
            assert_eq!(law.decode(byte), sample, "{law:?} {byte:02x}");
        }
    }

    #[test]
    fn every_code_survives_and_every_sample_comes_near() {
        for law in [Law::Mu, Law::A] {
            for byte in 0..=255u8 {
                let again = law.encode(law.decode(byte));
                // µ-law has two zeros.
                assert!(
                    again == byte || (byte == 0x7F && again == 0xFF),
                    "{law:?} {byte:02x} {again:02x}"
                );
            }
            for sample in i16::MIN..=i16::MAX {
                let back = i32::from(law.decode(law.encode(sample)));
                let error = (back - i32::from(sample)).abs();
                let clip = (i32::from(sample).abs() - 32_124).max(0);
                assert!(
                    error <= i32::from(sample).abs() / 16 + 16 + clip,
                    "{law:?} {sample} → {back}"
                );
            }
        }
    }

    #[test]
    fn conceals_a_tone_and_fades_without_a_step() {
        let tone: Vec<u8> = (0..800)
            .map(|i| {
                Law::Mu
                    .encode(((f64::from(i) * std::f64::consts::TAU / 80.0).sin() * 16_000.0) as i16)
            })
            .collect();
        let mut speech = Speech::new(Law::Mu);
        let mut out = Vec::new();
        speech.decode(&tone, &mut out);
        speech.conceal(160, &mut out);
        speech.decode(&tone, &mut out);
        let step = out.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
        assert!(step < 0.06, "a 100 Hz tone moves by 0.04 a sample: {step}");
        assert!(crate::level::measure_dbov(&out[800..880]) > -10.0, "still loud for 10 ms");

        out.clear();
        speech.conceal(800, &mut out);
        assert!(out[FADED..].iter().all(|s| *s == 0.0), "silent after 60 ms");
    }
}
