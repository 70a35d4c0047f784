//! Finds a marker in what somebody hears.

/// The part in which a pitch is looked for: 5 ms.
const PART: usize = 240;
/// So many parts in a row make a marker: 40 ms, …
const RUN: usize = 8;
/// … if so much of their power is in the pitch, …
const PURITY: f32 = 0.8;
/// … and they are so loud, as an amplitude in ±1.0: 24 dB below what was played.
const LOUD: f32 = 0.016;
/// From where on a millisecond belongs to the marker, as a part of its height.
const BEGINS: f32 = 0.1;
const MILLISECOND: usize = 48;

/// Where in `heard` (48 kHz) a tone of `hz` begins, in samples.
pub(crate) fn find(heard: &[f32], hz: f32) -> Option<usize> {
    let parts: Vec<_> = heard.chunks_exact(PART).map(|part| listen(part, hz)).collect();
    let marked = |part: &(f32, f32)| part.0 >= LOUD && part.1 >= PURITY;
    let run = parts.windows(RUN).position(|run| run.iter().all(marked))?;
    let height = parts[run + RUN - 1].0;
    // The part before is the marker's too, in part.
    let from = run.saturating_sub(1) * PART;
    let begun = heard[from..].chunks_exact(MILLISECOND).position(|ms| {
        ms.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs())) > height * BEGINS
    })?;
    Some(from + begun * MILLISECOND)
}

/// The amplitude of a pitch in some samples, and its share of their power.
fn listen(part: &[f32], hz: f32) -> (f32, f32) {
    let step = std::f32::consts::TAU * hz / 48_000.0;
    let (mut cos, mut sin, mut power) = (0.0, 0.0, 0.0);
    for (i, sample) in part.iter().enumerate() {
        let phase = step * i as f32;
        cos += sample * phase.cos();
        sin += sample * phase.sin();
        power += sample * sample;
    }
    let half = part.len() as f32 / 2.0;
    let in_pitch = (cos * cos + sin * sin) / half;
    let share = if power > 0.0 { in_pitch / power } else { 0.0 };
    ((cos * cos + sin * sin).sqrt() / half, share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, amplitude: f32, from: usize, len: usize) -> Vec<f32> {
        let mut heard = vec![0.0; 9_600];
        for (i, sample) in heard[from..from + len].iter_mut().enumerate() {
            *sample = amplitude * (std::f32::consts::TAU * hz * i as f32 / 48_000.0).sin();
        }
        heard
    }

    #[test]
    fn finds_the_beginning_to_a_millisecond() {
        for from in [0, 480, 1_000, 1_111, 3_000] {
            let found = find(&tone(800.0, 0.2, from, 4_800), 800.0).unwrap();
            assert!(found <= from && from - found < 2 * MILLISECOND, "{from}: {found}");
        }
    }

    #[test]
    fn other_pitches_short_and_faint_tones_are_not_it() {
        assert_eq!(find(&tone(1_000.0, 0.2, 960, 4_800), 800.0), None);
        assert_eq!(find(&tone(800.0, 0.2, 960, 1_700), 800.0), None);
        assert_eq!(find(&tone(800.0, 0.01, 960, 4_800), 800.0), None);
        let both: Vec<f32> = tone(800.0, 0.1, 960, 4_800)
            .iter()
            .zip(tone(1_000.0, 0.1, 960, 4_800))
            .map(|(a, b)| a + b)
            .collect();
        assert_eq!(find(&both, 800.0), None, "two at once are neither");
    }
}
