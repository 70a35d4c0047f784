//! Going down in good order: no new calls, those that are up may end by themselves, and all are told.

use std::time::Duration;

use crate::clock::Now;

/// A server that is to stop when its calls are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When it stops at the latest.
    pub until: Now,
    /// Whether the process was told to stop: nothing takes that back.
    pub is_final: bool,
}

impl Drain {
    /// The drain after another request to stop: the earlier end holds, and who has to stop will.
    pub fn merge(self, other: Self) -> Self {
        let first = if self.until.instant <= other.until.instant { self } else { other };
        Self { until: first.until, is_final: self.is_final || other.is_final }
    }
}

/// What people in chats are told when it begins, unless somebody says it better.
pub fn announcement(delay: Duration) -> String {
    let length = match delay.as_secs() {
        seconds @ 0..=90 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    };
    format!(
        "This service is about to stop and takes no new calls. Calls can go on for {length} at most."
    )
}

/// What they are told when it is taken back.
pub const STAYS: &str = "This service stays after all, and takes calls again.";
/// The longest that calls may be left to themselves: a day.
pub const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_end_holds() {
        let now = Now::read();
        let drain =
            |seconds, is_final| Drain { until: now + Duration::from_secs(seconds), is_final };
        assert_eq!(drain(60, false).merge(drain(20, true)), drain(20, true));
        assert_eq!(drain(10, false).merge(drain(20, true)), drain(10, true));
        assert_eq!(drain(20, true).merge(drain(300, false)), drain(20, true));
    }

    #[test]
    fn people_read_how_long() {
        for (seconds, words) in
            [(0, "0 seconds"), (20, "20 seconds"), (91, "2 minutes"), (300, "5 minutes")]
        {
            let told = announcement(Duration::from_secs(seconds));
            assert!(told.ends_with(&format!(" can go on for {words} at most.")), "{told}");
        }
    }
}
