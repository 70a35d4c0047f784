//! What a phone heard: who was audible when, how loud, with what gaps.
//!
//! Tones are told apart in windows of 5 ms, in which any two multiples of 200 Hz are orthogonal:
//! callers are given such frequencies. Times are `CLOCK_MONOTONIC` seconds, as in all peers' events.
//! A phone records what it decodes when it decodes it: where nothing comes, no silence is recorded.

use std::{f64::consts::TAU, fs, path::Path};

/// Length of the windows in seconds.
const WINDOW: f64 = 0.005;

/// A tone is there when a window holds at least this much of it.
pub(crate) const AUDIBLE_DBFS: f64 = -30.0;

/// Speech codecs leave noise: a tone below this is not there.
pub(crate) const SILENT_DBFS: f64 = -50.0;

/// The longest silence in a steady tone that is no gap, in seconds: the tail of a frame that was
/// concealed.
pub(crate) const NO_GAP: f64 = 0.02;

/// How much sound a phone's loudspeaker has in store when a frame has come, in seconds: the frame,
/// and what polling the recording and a busy machine take. The phone's jitter buffer (100 ms) is before it.
const STORE: f64 = 0.08;

/// A recording as far as it has been written.
pub(crate) struct Recording {
    rate: u32,
    samples: Vec<i16>,
    /// How many samples there were at which time.
    marks: Vec<(usize, f64)>,
}

/// The level of one tone in one window.
#[derive(Clone, Copy)]
struct Window {
    at: f64,
    /// Seconds of sound that were recorded before its end.
    played: f64,
    dbfs: f64,
}

impl Recording {
    /// Reads `PREFIX.pcm` and `PREFIX.marks` (see `peers/caller.py`), which may still be growing.
    pub(crate) fn read(prefix: &Path) -> Self {
        let path = |end| prefix.with_file_name(format!("{}.{end}", name(prefix)));
        let marks = fs::read_to_string(path("marks")).expect("a recording has marks");
        let mut lines = marks.lines();
        let rate = lines.next().and_then(|line| line.parse().ok()).expect("first the rate");
        let marks: Vec<(usize, f64)> = lines
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(count, at)| Some((count.parse().ok()?, at.parse().ok()?)))
            .collect();
        let bytes = fs::read(path("pcm")).expect("a recording has samples");
        let samples =
            bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        Self { rate, samples, marks }
    }

    /// The time at which the last sample so far arrived.
    pub(crate) fn end(&self) -> f64 {
        self.marks.last().map_or(0.0, |mark| mark.1)
    }

    /// The windows between two times with the level of the tone of `hz` in each.
    fn windows(&self, hz: f64, from: f64, to: f64) -> Vec<Window> {
        let length = (f64::from(self.rate) * WINDOW) as usize;
        let mut windows = Vec::new();
        let mut before = 0;
        for &(count, at) in &self.marks {
            // The samples of one read lie before its time, one after the other.
            let mut start = before;
            while start + length <= count.min(self.samples.len()) {
                let end = start + length;
                let time = at - (count - end) as f64 / f64::from(self.rate);
                if time > from && time <= to {
                    let dbfs = level(&self.samples[start..end], hz, self.rate);
                    let played = end as f64 / f64::from(self.rate);
                    windows.push(Window { at: time, played, dbfs });
                }
                start = end;
            }
            before = start;
        }
        windows
    }

    /// The median level of a tone in dBFS.
    pub(crate) fn level(&self, hz: f64, from: f64, to: f64) -> f64 {
        let mut levels: Vec<f64> = self.windows(hz, from, to).iter().map(|w| w.dbfs).collect();
        assert!(!levels.is_empty(), "nothing was recorded between {from} and {to}");
        levels.sort_by(f64::total_cmp);
        levels[levels.len() / 2]
    }

    /// How loud everything together was, in dBFS: a full-scale sine has −3.
    pub(crate) fn loudness(&self, from: f64, to: f64) -> f64 {
        let mut before = 0;
        let (mut sum, mut count) = (0.0, 0.0);
        for &(end, at) in &self.marks {
            let end = end.min(self.samples.len());
            if at > from && at <= to {
                let samples = self.samples[before..end].iter().map(|it| f64::from(*it) / 32_768.0);
                sum += samples.map(|sample| sample * sample).sum::<f64>();
                count += (end - before) as f64;
            }
            before = end;
        }
        assert!(count > 0.0, "nothing was recorded between {from} and {to}");
        10.0 * (sum / count).max(1e-12).log10()
    }

    /// The longest time in seconds for which somebody at this phone would not have heard a steady
    /// tone: because there was silence, or because sound came too late to be played.
    pub(crate) fn longest_gap(&self, hz: f64, from: f64, to: f64) -> f64 {
        self.longest_silence(hz, from, to).max(self.longest_wait(from, to))
    }

    /// The longest silence within what was recorded, in seconds.
    pub(crate) fn longest_silence(&self, hz: f64, from: f64, to: f64) -> f64 {
        let windows = self.windows(hz, from, to);
        let (Some(first), Some(last)) = (windows.first(), windows.last()) else {
            panic!("nothing was recorded between {from} and {to}");
        };
        let mut longest: f64 = 0.0;
        let mut before = first.played - WINDOW;
        for window in windows.iter().filter(|window| window.dbfs >= AUDIBLE_DBFS) {
            longest = longest.max(window.played - WINDOW - before);
            before = window.played;
        }
        longest.max(last.played - before)
    }

    /// The longest time in seconds for which a loudspeaker that begins `STORE` late waits for more
    /// to play.
    pub(crate) fn longest_wait(&self, from: f64, to: f64) -> f64 {
        let within = |mark: &&(usize, f64)| mark.1 > from && mark.1 <= to;
        let mut marks = self.marks.iter().filter(within);
        let &(mut played, first) = marks.next().expect("something was recorded");
        // When the loudspeaker is through with what has arrived.
        let mut empty = first + STORE;
        let mut longest: f64 = 0.0;
        for &(count, at) in marks {
            longest = longest.max(at - empty);
            empty = empty.max(at) + (count - played) as f64 / f64::from(self.rate);
            played = count;
        }
        longest.max(to.min(self.end()) - empty)
    }

    /// When a tone was last heard between two times.
    pub(crate) fn last_heard(&self, hz: f64, from: f64, to: f64) -> Option<f64> {
        self.windows(hz, from, to).iter().rev().find(|w| w.dbfs >= AUDIBLE_DBFS).map(|w| w.at)
    }

    /// When a tone was first heard between two times.
    pub(crate) fn first_heard(&self, hz: f64, from: f64, to: f64) -> Option<f64> {
        self.windows(hz, from, to).iter().find(|w| w.dbfs >= AUDIBLE_DBFS).map(|w| w.at)
    }
}

fn name(prefix: &Path) -> &str {
    prefix.file_name().and_then(|name| name.to_str()).expect("a plain name")
}

/// The level of one frequency in these samples: a full-scale sine of it has 0 dBFS.
pub(crate) fn level(samples: &[i16], hz: f64, rate: u32) -> f64 {
    let step = TAU * hz / f64::from(rate);
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (at, &sample) in samples.iter().enumerate() {
        let (sin, cos) = (step * at as f64).sin_cos();
        real += f64::from(sample) * cos;
        imaginary += f64::from(sample) * sin;
    }
    let amplitude = 2.0 * real.hypot(imaginary) / samples.len() as f64 / 32768.0;
    20.0 * amplitude.max(1e-6).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second of two tones; the first pauses for `gap` seconds in the middle.
    fn two_tones(rate: u32, gap: f64) -> Recording {
        let sine = |hz: f64, at: usize| (TAU * hz * at as f64 / f64::from(rate)).sin() * 8192.0;
        let samples = (0..rate as usize)
            .map(|at| {
                let time = at as f64 / f64::from(rate);
                let paused = (time - 0.5).abs() < gap / 2.0;
                (if paused { 0.0 } else { sine(600.0, at) } + sine(1000.0, at)) as i16
            })
            .collect();
        let marks = (1..=50).map(|n| (n * rate as usize / 50, 100.0 + n as f64 / 50.0)).collect();
        Recording { rate, samples, marks }
    }

    #[test]
    fn tones_are_told_apart() {
        for rate in [8_000, 48_000] {
            let recording = two_tones(rate, 0.0);
            assert!((recording.level(600.0, 100.0, 101.0) + 12.04).abs() < 0.1);
            assert!((recording.level(1000.0, 100.0, 101.0) + 12.04).abs() < 0.1);
            assert!(recording.level(800.0, 100.0, 101.0) < -60.0);
        }
    }

    #[test]
    fn a_gap_is_measured() {
        for gap in [0.0, 0.02, 0.06, 0.3] {
            let recording = two_tones(48_000, gap);
            let found = recording.longest_gap(600.0, 100.0, 101.0);
            assert!((found - gap).abs() <= 0.011, "{found} instead of {gap}");
            assert!(recording.longest_gap(1000.0, 100.0, 101.0) < 0.001);
        }
    }

    #[test]
    fn what_comes_late_is_a_gap() {
        for (late, gap) in [(0.0, 0.0), (0.05, 0.0), (0.1, 0.04), (0.4, 0.34)] {
            let mut recording = two_tones(48_000, 0.0);
            for mark in recording.marks.iter_mut().skip(25) {
                mark.1 += late;
            }
            let found = recording.longest_gap(600.0, 100.0, 102.0);
            assert!((found - gap).abs() <= 0.001, "{found} instead of {gap}");
        }
    }

    #[test]
    fn the_end_and_the_return_of_a_tone_are_found() {
        let recording = two_tones(48_000, 0.2);
        let ended = recording.last_heard(600.0, 100.0, 100.5).expect("it was there");
        let back = recording.first_heard(600.0, 100.5, 101.0).expect("it came back");
        assert!((ended - 100.4).abs() < 0.01 && (back - 100.6).abs() < 0.01, "{ended} {back}");
        assert_eq!(recording.first_heard(2000.0, 100.0, 101.0), None);
    }
}
