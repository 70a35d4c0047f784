//! The one place that reads a clock.

use std::ops::Add;
use std::time::{Duration, Instant, SystemTime};

/// A moment, told by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For timers: never jumps.
    pub instant: Instant,
    /// For people: history stamps, joining times.
    pub utc: SystemTime,
}

impl Now {
    /// Reads both clocks.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn read() -> Self {
        Self { instant: Instant::now(), utc: SystemTime::now() }
    }
}

impl Add<Duration> for Now {
    type Output = Self;

    fn add(self, step: Duration) -> Self {
        Self { instant: self.instant + step, utc: self.utc + step }
    }
}

/// Writes a moment as XEP-0082 and RFC 3339 want it: UTC, whole seconds, `Z`.
pub fn stamp(utc: SystemTime) -> String {
    chrono::DateTime::<chrono::Utc>::from(utc).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}
