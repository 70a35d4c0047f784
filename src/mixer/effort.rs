//! How much an encode may cost: less while the machine is busy, before ticks are late.
//!
//! Complexity goes first, since hardly anyone hears it; then bits. A step down is taken at once and
//! looked at for a moment before the next; a step up only after some quiet time, so that nobody's sound
//! goes to and fro. What is left when nothing more can be saved is to take no new calls
//! (`media.max_stress`).

use std::time::{Duration, Instant};

/// Above this part of a tick's time, encodes are made cheaper.
pub const BUSY: f64 = 0.7;
/// Below this part, they may cost more again.
pub const IDLE: f64 = 0.4;
/// How long a step down is looked at before the next.
pub const SETTLED: Duration = Duration::from_secs(2);
/// How long it must have been idle before a step up.
pub const RESTED: Duration = Duration::from_secs(10);
/// From all that is asked for down to the least.
pub const STEPS: [Effort; 4] = [
    Effort { complexity: 10, bitrate: u32::MAX },
    Effort { complexity: 3, bitrate: u32::MAX },
    Effort { complexity: 0, bitrate: u32::MAX },
    Effort { complexity: 0, bitrate: 24_000 },
];

/// What an encoder may spend at most, whatever it is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Opus's complexity, 0 to 10.
    pub complexity: u8,
    /// Bits a second.
    pub bitrate: u32,
}

/// Which step encoders are on.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    step: usize,
    /// When the load last was what it must not be for the next step.
    since: Instant,
}

/// A step was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What encoders may spend from now on.
    pub effort: Effort,
    /// Whether it is less than before.
    pub down: bool,
}

impl Pace {
    /// All that is asked for.
    pub fn new(now: Instant) -> Self {
        Self { step: 0, since: now }
    }

    /// What encoders may spend.
    pub fn effort(&self) -> Effort {
        STEPS[self.step]
    }

    /// The step, 0 for all that is asked for.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Takes the smoothed load, 0 to 1; tells if a step follows.
    pub fn follow(&mut self, now: Instant, load: f64) -> Option<Step> {
        let passed = now.saturating_duration_since(self.since);
        let down = load > BUSY;
        let (may, waits) = match down {
            true => (self.step + 1 < STEPS.len(), SETTLED),
            false if load < IDLE => (self.step > 0, RESTED),
            false => {
                self.since = now;
                return None;
            }
        };
        // The first step down waits for nothing.
        if !may || passed < waits && !(down && self.step == 0) {
            return None;
        }
        self.step = if down { self.step + 1 } else { self.step - 1 };
        self.since = now;
        Some(Step { effort: self.effort(), down })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;

    #[test]
    fn steps_down_at_once_and_up_at_leisure() {
        let start = Now::read().instant;
        let mut pace = Pace::new(start);
        // Load from a second on, for so long; the steps in each second.
        let script = [(0.3, 5), (0.8, 9), (0.5, 30), (0.2, 25), (0.75, 1), (0.2, 40)];
        let mut steps = vec![];
        let mut second = 0;
        for (load, seconds) in script {
            for _ in 0..seconds {
                second += 1;
                // As often as a tick.
                for tick in 0..50 {
                    let now = start + Duration::from_millis(second * 1_000 + tick * 20);
                    if let Some(step) = pace.follow(now, load) {
                        assert_eq!(step.effort, pace.effort());
                        steps.push((second, pace.step(), step.down));
                    }
                }
            }
        }
        assert_eq!(
            steps,
            [
                (6, 1, true),
                (8, 2, true),
                (10, 3, true),
                (54, 2, false),
                (64, 1, false),
                (70, 2, true),
                (80, 1, false),
                (90, 0, false),
            ]
        );
    }
}
