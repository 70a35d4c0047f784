//! How good a leg sounds, as far as counting tells: the E-model (ITU-T G.107), by what was concealed and by delay.
//!
//! It is an estimate. Nobody listened: no echo, no noise, no clipping is in it.

use std::time::Duration;

use crate::TICK;
use crate::leg::LegStats;

/// The rating of a connection with nothing wrong: R₀ and what is lost on the way to digital speech (G.107 §7, defaults).
const BEST_RATING: f64 = 93.2;
/// How well speech bears what a decoder conceals: Bpl of G.711 with concealment (G.113 appendix I).
const ROBUSTNESS: f64 = 25.1;
/// How much of itself what was counted a second ago still counts.
const MEMORY: f64 = 0.9;
/// Frames without which nothing is said of loss: what one second brings.
const ENOUGH: f64 = 50.0;

/// A leg's loss of late, and what its counters were when it was last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recent {
    seen: LegStats,
    came: f64,
    lost: f64,
    concealed: f64,
}

/// How a leg sounds to the room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Packets that the network lost of late, 0.0 to 1.0.
    pub loss: f64,
    /// Frames that were made up of late, 0.0 to 1.0: what FEC did not repair.
    pub concealed: f64,
    /// From their microphone's packet to the mix: half of the round trip, the jitter buffer, one frame.
    pub delay: Duration,
    /// The mean opinion score that the E-model expects, 1.0 to 4.5.
    pub mos: f64,
}

impl Recent {
    /// Takes the counters as they are; to be called once a second.
    pub fn observe(&mut self, stats: &LegStats) {
        let since = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let seen = std::mem::replace(&mut self.seen, *stats);
        for (sum, new) in [
            (&mut self.came, since(stats.jitter.received, seen.jitter.received)),
            (&mut self.lost, since(stats.lost, seen.lost)),
            (&mut self.concealed, since(stats.jitter.concealed, seen.jitter.concealed)),
        ] {
            *sum = *sum * MEMORY + new;
        }
    }

    /// What that comes to; `None` while too little came to tell.
    #[must_use]
    pub fn quality(&self) -> Option<Quality> {
        let sent = self.came + self.lost;
        if sent < ENOUGH {
            return None;
        }
        let [loss, concealed] = [self.lost, self.concealed].map(|part| (part / sent).min(1.0));
        let wait = self.seen.jitter.delay_s.clamp(0.0, 10.0);
        let way = self.seen.rtt.unwrap_or_default() / 2;
        let delay = TICK + way + Duration::from_secs_f64(wait);
        Some(Quality { loss, concealed, delay, mos: mos(concealed, delay) })
    }
}

/// The mean opinion score (G.107 annex B) of speech of which the share `concealed`, 0.0 to 1.0, is made up, and which takes
/// `delay` one way.
#[must_use]
pub fn mos(concealed: f64, delay: Duration) -> f64 {
    let ms = delay.as_secs_f64() * 1_000.0;
    // Delay: two straight lines for G.107 §7.4 (Cole and Rosenbluth, 2001).
    let late = 0.024 * ms + 0.11 * (ms - 177.3).max(0.0);
    // Loss: G.107 §7.5 with losses that come at random, of a codec that has no fault of its own.
    let percent = concealed.clamp(0.0, 1.0) * 100.0;
    let lossy = 95.0 * percent / (percent + ROBUSTNESS);
    let rating = (BEST_RATING - late - lossy).clamp(0.0, 100.0);
    (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_falls_with_loss_and_with_delay() {
        let check = |percent: f64, ms: u64, expected: f64| {
            let score = mos(percent / 100.0, Duration::from_millis(ms));
            assert!((score - expected).abs() < 0.05, "{percent} %, {ms} ms: {score}");
        };
        // G.107 annex B: R = 93.2 is 4.41.
        check(0.0, 0, 4.41);
        check(0.0, 100, 4.37);
        check(1.0, 60, 4.29);
        check(5.0, 60, 3.90);
        check(20.0, 60, 2.56);
        check(0.0, 400, 3.05);
        check(100.0, 3_000, 1.0);
        let scores: Vec<f64> =
            (0..=100).map(|it| mos(f64::from(it) / 100.0, Duration::from_millis(80))).collect();
        assert!(scores.windows(2).all(|two| two[0] >= two[1]), "{scores:?}");
    }

    #[test]
    fn what_was_long_ago_is_forgotten_and_silence_is_not_judged() {
        let mut recent = Recent::default();
        let mut stats = LegStats::default();
        recent.observe(&stats);
        assert_eq!(recent.quality(), None, "nothing came");
        for _ in 0..30 {
            stats.jitter.received += 45;
            stats.lost += 5;
            stats.jitter.concealed += 2;
            recent.observe(&stats);
        }
        let bad = recent.quality().unwrap();
        assert!((bad.loss - 0.10).abs() < 0.005 && (bad.concealed - 0.04).abs() < 0.005, "{bad:?}");
        for _ in 0..60 {
            stats.jitter.received += 50;
            recent.observe(&stats);
        }
        let good = recent.quality().unwrap();
        assert!(good.loss < 0.001 && good.mos > bad.mos, "{good:?} after {bad:?}");
        stats.rtt = Some(Duration::from_millis(200));
        stats.jitter.delay_s = 0.04;
        recent.observe(&stats);
        assert_eq!(recent.quality().unwrap().delay, Duration::from_millis(160));
        for _ in 0..60 {
            recent.observe(&stats);
        }
        assert_eq!(recent.quality(), None, "they say nothing any more");
    }
}
