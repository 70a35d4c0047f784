//! Taking a little time out of sound without a click: one pitch period is folded into the next.

/// The least and the most that is taken out, in samples at 48 kHz (2.5 and 20 ms).
const LEAST: usize = 120;
const MOST: usize = 960;
/// Samples that fade from the one to the other (5 ms).
const FADE: usize = 240;
/// The search looks at every so many samples first.
const COARSE: usize = 8;

/// How alike two pitch periods must be, as a correlation, to be folded where everybody listens.
const ALIKE: f32 = 0.9;

/// As [`shorten`], but only if what is folded is so much alike that nobody will notice in the middle of a word.
pub fn shorten_unnoticed(samples: &mut Vec<f32>, most: usize) -> usize {
    fold(samples, most, ALIKE)
}

/// Shortens `samples` where its beginning resembles what follows most, by at most `most`, and returns by how many; 0
/// when there are too few samples to choose from. What is left begins and ends as before.
pub fn shorten(samples: &mut Vec<f32>, most: usize) -> usize {
    fold(samples, most, -1.0)
}

fn fold(samples: &mut Vec<f32>, most: usize, alike: f32) -> usize {
    let most = most.min(MOST).min(samples.len().saturating_sub(FADE));
    if most < LEAST {
        return 0;
    }
    let difference = |lag: usize, step: usize| -> f32 {
        let pairs = samples[..FADE].iter().step_by(step).zip(samples[lag..].iter().step_by(step));
        pairs.map(|(a, b)| (a - b) * (a - b)).sum()
    };
    // The longest of equals: silence and steady tones give up a whole tick.
    let best = |lags: &mut dyn Iterator<Item = usize>, step: usize| {
        lags.map(|lag| (lag, difference(lag, step)))
            .reduce(|best, next| if next.1 <= best.1 + 1e-9 { next } else { best })
            .map_or(most, |(lag, _)| lag)
    };
    let coarse = best(&mut (LEAST..=most).step_by(COARSE), COARSE);
    let fine = coarse.saturating_sub(COARSE).max(LEAST)..=(coarse + COARSE).min(most);
    let lag = best(&mut fine.into_iter(), 1);
    let (first, second) = (&samples[..FADE], &samples[lag..lag + FADE]);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    if dot(first, second) < alike * (dot(first, first) * dot(second, second)).sqrt() {
        return 0;
    }
    for i in 0..FADE {
        let part = (i as f32 + 0.5) / FADE as f32;
        samples[i + lag] = samples[i] * (1.0 - part) + samples[i + lag] * part;
    }
    samples.drain(..lag);
    lag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, len: usize) -> Vec<f32> {
        (0..len).map(|i| 0.5 * (std::f32::consts::TAU * hz * i as f32 / 48_000.0).sin()).collect()
    }

    #[test]
    fn a_tone_keeps_its_shape() {
        for hz in [100.0, 137.0, 220.0, 400.0, 1_000.0, 3_100.0] {
            let mut samples = tone(hz, 1_920);
            let (first, last) = (samples[0], samples[1_919]);
            let removed = shorten(&mut samples, MOST);
            assert!((LEAST..=MOST).contains(&removed), "{hz}");
            assert_eq!(samples.len(), 1_920 - removed);
            assert_eq!(samples[samples.len() - 1], last);
            assert!((samples[0] - first).abs() < 0.05, "{hz} starts at {}", samples[0]);
            let step = samples.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max);
            let own = 0.5 * std::f32::consts::TAU * hz / 48_000.0;
            assert!(step < own * 1.2 + 0.002, "{hz}: a step of {step}, its own are {own}");
        }
    }

    #[test]
    fn silence_gives_up_a_whole_tick() {
        assert_eq!(shorten(&mut vec![0.0; 1_920], MOST), MOST);
        assert_eq!(shorten(&mut vec![0.0; 1_920], 500), 500, "or what it may");
        assert_eq!(shorten(&mut vec![0.0; 1_920], LEAST - 1), 0);
    }

    #[test]
    fn only_what_repeats_itself_is_folded_unnoticed() {
        assert!(shorten_unnoticed(&mut tone(137.0, 1_920), MOST) > 0);
        let mut x = 1u32;
        let mut noise: Vec<f32> = (0..1_920)
            .map(|_| {
                x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (x >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect();
        assert_eq!(shorten_unnoticed(&mut noise, MOST), 0);
        assert_eq!(noise.len(), 1_920);
        assert!(shorten(&mut noise, MOST) > 0);
    }

    #[test]
    fn too_little_is_left_alone() {
        assert_eq!(shorten(&mut vec![0.0; LEAST + FADE - 1], MOST), 0);
        assert_eq!(shorten(&mut vec![0.0; LEAST + FADE], MOST), LEAST, "or what there is");
        assert_eq!(shorten(&mut Vec::new(), MOST), 0);
    }
}
