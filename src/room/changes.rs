//! Whose affiliations changed since when, for clients that know what was before (XEP-0463).

use std::collections::{BTreeSet, VecDeque};

use super::person::Who;

/// The latest changes of affiliations, each of which made a version of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// What the latest change made.
    version: u64,
    /// Whose affiliation changed, the latest last.
    whose: VecDeque<Who>,
}

impl Changes {
    /// None yet. No other room of the same name had the version that this begins with, or a later one,
    /// if `version` is a time.
    pub(super) fn new(version: u64) -> Self {
        Self { version, whose: VecDeque::new() }
    }

    /// The version that holds.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whose affiliation may be another than in a version; `None`: nobody remembers.
    pub fn since(&self, version: u64) -> Option<BTreeSet<&Who>> {
        let count = usize::try_from(self.version.checked_sub(version)?).ok()?;
        let first = self.whose.len().checked_sub(count)?;
        Some(self.whose.range(first..).collect())
    }

    /// Takes note of a change; answers the version that it makes.
    pub(super) fn note(&mut self, who: Who) -> u64 {
        self.restore(self.version + 1, who);
        self.version
    }

    /// Brings back a change that was stored; what was before a gap is forgotten.
    pub(super) fn restore(&mut self, version: u64, who: Who) {
        if version != self.version + 1 {
            self.whose.clear();
        }
        if self.whose.len() >= MAX_CHANGES {
            self.whose.pop_front();
        }
        self.whose.push_back(who);
        self.version = version;
    }
}

/// Changes that a room and its store remember.
pub const MAX_CHANGES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str) -> Who {
        Who::Jid(name.parse().unwrap())
    }

    fn since(changes: &Changes, version: u64) -> Option<Vec<String>> {
        let name = |who: &&Who| match who {
            Who::Jid(jid) => jid.to_string(),
            Who::Aor(_) | Who::Unknown(_) => unreachable!("all have JIDs"),
        };
        changes.since(version).map(|all| all.iter().map(name).collect())
    }

    #[test]
    fn tells_whose_changed_since_and_forgets_the_oldest() {
        let mut changes = Changes::new(1_000);
        let (a, b) = (|| "a@x".to_owned(), || "b@x".to_owned());
        assert_eq!(since(&changes, 1_000), Some(vec![]));
        assert_eq!(changes.note(who("a@x")), 1_001);
        assert_eq!(changes.note(who("b@x")), 1_002);
        assert_eq!(changes.note(who("b@x")), 1_003);
        for (version, expected) in [
            (0, None),
            (999, None),
            (1_000, Some(vec![a(), b()])),
            (1_001, Some(vec![b()])),
            (1_003, Some(vec![])),
            (1_004, None),
        ] {
            assert_eq!(since(&changes, version), expected, "{version}");
        }
        for _ in 0..MAX_CHANGES {
            changes.note(who("c@x"));
        }
        assert_eq!(since(&changes, 1_002), None);
        assert_eq!(since(&changes, 1_003), Some(vec!["c@x".to_owned()]));
    }

    #[test]
    fn what_was_before_a_gap_is_not_told() {
        let mut changes = Changes::new(5_000);
        changes.restore(7, who("a@x"));
        changes.restore(8, who("b@x"));
        assert_eq!(changes.version(), 8);
        assert_eq!(since(&changes, 6), Some(vec!["a@x".to_owned(), "b@x".to_owned()]));
        changes.restore(10, who("c@x"));
        assert_eq!(since(&changes, 8), None);
        assert_eq!(since(&changes, 9), Some(vec!["c@x".to_owned()]));
    }
}
