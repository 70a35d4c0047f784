//! The one file of these tests that reads a clock and sleeps: real peers run in real time.

use std::time::{Duration, Instant};

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// What any single step of a peer may take on a busy machine with two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A point in time after which one gives up.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The time `within` from now.
    #[expect(clippy::disallowed_methods, reason = "real peers run in real time")]
    pub(crate) fn after(within: Duration) -> Self {
        Self(Instant::now() + within)
    }

    /// What is left, or `None` once it has passed.
    #[expect(clippy::disallowed_methods, reason = "real peers run in real time")]
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

/// Lets the peers go on for a while: audio takes as long as it lasts.
#[expect(clippy::disallowed_methods, reason = "real peers run in real time")]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// Looks again and again until `probe` finds something; panics with `what` after `within`.
pub(crate) fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::after(within);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(deadline.left().is_some(), "not within {within:?}: {what}");
        pause(POLL);
    }
}

/// Seconds of `CLOCK_MONOTONIC`, the clock of the peers' time stamps.
pub(crate) fn monotonic() -> f64 {
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    let time = nix::time::clock_gettime(clock).expect("Linux has this clock");
    Duration::from(time).as_secs_f64()
}
