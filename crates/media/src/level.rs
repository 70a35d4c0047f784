//! Loudness: what a sender says of its own (RFC 6464) and what we measure.

/// Level of silence, in dBov.
pub const SILENCE_DBOV: f32 = -127.0;

/// The client-to-mixer audio level of one packet (RFC 6464 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// The sender takes the packet for speech. Senders that cannot tell set it always or never.
    pub voice: bool,
    /// Loudness in dBov: 0 is the loudest, −127 is silence.
    pub dbov: i8,
}

impl AudioLevel {
    /// Reads the data of the header extension element; `None` when it is empty. Bytes after the first are padding
    /// (RFC 6464 §3, two-byte form).
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let byte = *data.first()?;
        Some(Self { voice: byte & 0x80 != 0, dbov: -((byte & 0x7F) as i8) })
    }
}

/// The level of samples in ±1.0 in dBov: the mean square, 0 being a square wave at full scale and so −3 the loudest sine
/// (RFC 6465 appendix A); at least [`SILENCE_DBOV`].
#[must_use]
pub fn measure_dbov(samples: &[f32]) -> f32 {
    // Eight sums at once, so that the compiler can keep them in vector registers.
    let mut sums = [0.0f32; 8];
    let chunks = samples.chunks_exact(8);
    let mut energy: f32 = chunks.remainder().iter().map(|s| s * s).sum();
    for chunk in chunks {
        for (sum, sample) in sums.iter_mut().zip(chunk) {
            *sum += sample * sample;
        }
    }
    energy += sums.iter().sum::<f32>();
    let mean = energy / (samples.len().max(1) as f32);
    if mean <= 0.0 { SILENCE_DBOV } else { (10.0 * mean.log10()).clamp(SILENCE_DBOV, 0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_senders_word() {
        assert_eq!(AudioLevel::parse(&[]), None);
        assert_eq!(AudioLevel::parse(&[0]), Some(AudioLevel { voice: false, dbov: 0 }));
        assert_eq!(AudioLevel::parse(&[0x80]), Some(AudioLevel { voice: true, dbov: 0 }));
        assert_eq!(AudioLevel::parse(&[0x7F]), Some(AudioLevel { voice: false, dbov: -127 }));
        assert_eq!(AudioLevel::parse(&[0x9E, 0]), Some(AudioLevel { voice: true, dbov: -30 }));
    }

    #[test]
    fn measures_known_levels() {
        fn check(amplitude: f32, expected: f32) {
            let square: Vec<f32> =
                (0..963).map(|i| if i % 2 == 0 { amplitude } else { -amplitude }).collect();
            let level = measure_dbov(&square);
            assert!((level - expected).abs() < 0.01, "{amplitude}: {level}");
        }
        check(1.0, 0.0);
        check(0.1, -20.0);
        check(0.0, SILENCE_DBOV);
        check(1e-9, SILENCE_DBOV);
        assert_eq!(measure_dbov(&[]), SILENCE_DBOV);
        let sine: Vec<f32> =
            (0..960).map(|i| (i as f32 * std::f32::consts::TAU / 48.0).sin()).collect();
        assert!((measure_dbov(&sine) + 3.01).abs() < 0.01);
    }
}
