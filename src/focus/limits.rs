//! What one source may ask of the focus: new requests, and wrong passwords. Who is in a call already
//! does not meet these limits with what belongs to it.
//!
//! Every table here holds a bounded number of sources and accounts; the one that was idle for the
//! longest makes place. A trusted proxy stands for many callers, and is no source.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use cusax_sip::digest::Denied;

use crate::rate::{Meter, Rate, Source};

/// The limits that an operator sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// New requests of one source: those that belong to no transaction and no dialog.
    pub requests: Rate,
    /// After how many wrong passwords within a minute one source is locked out.
    pub wrong_passwords: u32,
    /// Above which stress of the mixer, 0 to 1, no new call is taken.
    pub max_stress: f64,
}

/// How much was turned away so far, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limited {
    /// New requests of sources that sent too many.
    pub rate: u64,
    /// Credentials of those who were locked out.
    pub guesses: u64,
    /// Calls that the mixer had no time for.
    pub stress: u64,
}

/// Counts the new requests of each source, before they cost anything.
#[derive(Debug)]
pub(super) struct Throttle {
    rate: Rate,
    sources: Recent<Source, Meters>,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Take it.
    Admit,
    /// Refuse it with 503, without state.
    Refuse,
    /// Say nothing: what comes again may find room, and a forged address gets no answers.
    Ignore,
}

/// What one source has used up.
#[derive(Debug, Default)]
struct Meters {
    requests: Meter,
    refusals: Meter,
}

impl Throttle {
    /// A throttle with this rate for each source.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, sources: Recent::new(MAX_SOURCES) }
    }

    /// Another rate, for what comes from now on.
    pub(super) fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    /// Counts a new request.
    pub(super) fn admit(&mut self, now: Instant, source: Source) -> Verdict {
        let rate = self.rate;
        let meters = self.sources.entry(source);
        if meters.requests.admits(now, rate, 1) {
            Verdict::Admit
        } else if meters.refusals.admits(now, REFUSALS, 1) {
            Verdict::Refuse
        } else {
            Verdict::Ignore
        }
    }
}

/// Counts wrong passwords, of users and of rooms, by source and by account. Whether there is such an
/// account makes no difference.
///
/// Each lock of the same source or account is twice as long as the one before. An account is locked
/// against many sources that guess together; whoever proved lately to know its password, from the
/// same source, is not locked out with them.
#[derive(Debug)]
pub(super) struct Guesses {
    /// Hides which accounts would be taken for one.
    secret: [u64; 2],
    most: u32,
    sources: Recent<Source, Strikes>,
    accounts: Recent<u64, Strikes>,
    /// When who proved what.
    proven: Recent<Try, Option<Instant>>,
    /// How many tries were not looked at.
    refused: u64,
    /// How many were looked at and wrong.
    wrong: u64,
}

/// An account, and from where its password is tried; a trusted proxy is from nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Try {
    source: Option<Source>,
    account: u64,
}

/// How often someone was wrong.
#[derive(Debug, Default)]
struct Strikes {
    /// How often since the minute began.
    count: u32,
    /// When the minute began, or the last lock ends.
    since: Option<Instant>,
    /// How many locks there were in a row.
    locks: u32,
    locked_until: Option<Instant>,
}

impl Guesses {
    /// `most` wrong passwords within a minute lock a source out. The secret is random.
    pub(super) fn new(most: u32, secret: [u64; 2]) -> Self {
        Self {
            secret,
            most,
            sources: Recent::new(MAX_SOURCES),
            accounts: Recent::new(MAX_SOURCES),
            proven: Recent::new(MAX_SOURCES),
            refused: 0,
            wrong: 0,
        }
    }

    /// Another number of wrong passwords, for those that come from now on.
    pub(super) fn set_most(&mut self, most: u32) {
        self.most = most;
    }

    /// How many tries were not looked at so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// How many passwords were looked at and wrong so far.
    pub(super) fn wrong(&self) -> u64 {
        self.wrong
    }

    /// A try to be a user of a realm.
    pub(super) fn of(&self, source: Option<Source>, realm: &str, user: &str) -> Try {
        let mut hasher = DefaultHasher::new();
        (self.secret, realm, user).hash(&mut hasher);
        Try { source, account: hasher.finish() }
    }

    /// Whether the password may be looked at.
    pub(super) fn may(&mut self, now: Instant, attempt: Try) -> bool {
        let locked = self.is_locked(now, attempt);
        self.refused += u64::from(locked);
        !locked
    }

    fn is_locked(&self, now: Instant, attempt: Try) -> bool {
        let proven = self.proven.get(&attempt).copied().flatten();
        if proven.is_some_and(|at| now < at + PROOF_LIFETIME) {
            return false;
        }
        let source = attempt.source.and_then(|source| self.sources.get(&source));
        let account = self.accounts.get(&attempt.account);
        [source, account].into_iter().flatten().any(|strikes| strikes.is_locked(now))
    }

    /// Takes note of what came of it. Who is right is not forgiven what they got wrong before: one
    /// account of one's own would make guesses at others free.
    pub(super) fn note(&mut self, now: Instant, attempt: Try, outcome: Result<(), Denied>) {
        match outcome {
            Ok(()) => *self.proven.entry(attempt) = Some(now),
            // Right, but late.
            Err(Denied::Stale | Denied::Missing) => {}
            Err(Denied::Wrong) => {
                self.wrong += 1;
                self.proven.remove(&attempt);
                let (most, together) = (self.most, self.most.saturating_mul(TOGETHER));
                if let Some(source) = attempt.source
                    && self.sources.entry(source).strike(now, most)
                {
                    tracing::warn!(%source, "locked out after wrong passwords");
                }
                if self.accounts.entry(attempt.account).strike(now, together) {
                    tracing::warn!("an account or a room is locked after wrong passwords");
                }
            }
        }
    }
}

impl Strikes {
    fn is_locked(&self, now: Instant) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    /// Counts one more; whether it is one too many.
    fn strike(&mut self, now: Instant, most: u32) -> bool {
        let since = *self.since.get_or_insert(now);
        if now >= since + FORGIVEN_AFTER {
            self.locks = 0;
        }
        if now >= since + WINDOW {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        let locked = self.count >= most;
        if locked {
            let lock = FIRST_LOCK.saturating_mul(1 << self.locks.min(16)).min(LONGEST_LOCK);
            self.locks += 1;
            self.locked_until = Some(now + lock);
            (self.since, self.count) = (self.locked_until, 0);
        }
        locked
    }
}

/// A map of bounded size that forgets what was not used for the longest time.
#[derive(Debug)]
struct Recent<K, V> {
    most: usize,
    uses: u64,
    entries: BTreeMap<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
}

impl<K: Copy + Ord, V: Default> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self { most, uses: 0, entries: BTreeMap::new(), by_use: BTreeMap::new() }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The value of a key, which is new if there was none.
    fn entry(&mut self, key: K) -> &mut V {
        self.uses += 1;
        let known = self.entries.get(&key).map(|(used, _)| *used);
        if let Some(used) = known {
            self.by_use.remove(&used);
        } else if self.entries.len() >= self.most
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.by_use.insert(self.uses, key);
        let (used, value) = self.entries.entry(key).or_default();
        *used = self.uses;
        value
    }

    fn remove(&mut self, key: &K) {
        if let Some((used, _)) = self.entries.remove(key) {
            self.by_use.remove(&used);
        }
    }
}

/// Sources, accounts and proofs that are remembered, each.
const MAX_SOURCES: usize = 10_000;
/// How many 503s a source gets that sends too fast.
const REFUSALS: Rate = Rate { interval: Duration::from_secs(1), burst: 5 };
/// The time within which wrong passwords add up.
const WINDOW: Duration = Duration::from_secs(60);
/// An account takes the wrong passwords of so many sources.
const TOGETHER: u32 = 6;
const FIRST_LOCK: Duration = Duration::from_secs(60);
const LONGEST_LOCK: Duration = Duration::from_secs(3600);
/// After how long a quiet source starts from the shortest lock again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(6 * 3600);
/// For how long a proven password keeps its caller out of the locks of others.
const PROOF_LIFETIME: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;

    fn source(n: u8) -> Source {
        Source::of([203, 0, 113, n].into())
    }

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_burst_then_a_few_refusals_then_silence() {
        let start = Now::read().instant;
        let rate = Rate { interval: Duration::from_millis(50), burst: 60 };
        let mut throttle = Throttle::new(rate);
        let mut count = |at: Instant, n: u8, requests: usize| {
            let mut verdicts = [0; 3];
            for _ in 0..requests {
                verdicts[throttle.admit(at, source(n)) as usize] += 1;
            }
            verdicts
        };
        assert_eq!(count(start, 1, 1_000), [60, 5, 935]);
        assert_eq!(count(start, 2, 60), [60, 0, 0], "another source is another matter");
        assert_eq!(count(start + seconds(1), 1, 1_000), [20, 1, 979]);
        assert_eq!(count(start + seconds(60), 1, 1_000), [60, 5, 935]);
    }

    #[test]
    fn many_sources_take_bounded_memory_and_the_idle_ones_go() {
        let mut recent = Recent::<u32, u32>::new(3);
        for key in [1, 2, 3, 1, 4] {
            *recent.entry(key) += 1;
        }
        let left = |recent: &Recent<u32, u32>| recent.entries.keys().copied().collect::<Vec<_>>();
        assert_eq!(left(&recent), [1, 3, 4]);
        assert_eq!(recent.get(&1), Some(&2));
        recent.remove(&3);
        recent.remove(&9);
        for key in 10..100_000 {
            recent.entry(key);
        }
        assert_eq!((recent.entries.len(), recent.by_use.len()), (3, 3));
    }

    /// Tries with passwords that are wrong; how many were looked at.
    fn wrong(guesses: &mut Guesses, now: Instant, attempt: Try, tries: usize) -> usize {
        let mut seen = 0;
        for _ in 0..tries {
            if guesses.may(now, attempt) {
                guesses.note(now, attempt, Err(Denied::Wrong));
                seen += 1;
            }
        }
        seen
    }

    #[test]
    fn a_source_that_guesses_is_locked_out_for_longer_and_longer() {
        let mut now = Now::read().instant;
        let mut guesses = Guesses::new(5, [1, 2]);
        let attempt = guesses.of(Some(source(1)), "conf", "alice");
        for lock in [60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            assert_eq!(wrong(&mut guesses, now, attempt, 100), 5);
            let other_name = guesses.of(Some(source(1)), "conf", "bob");
            assert!(!guesses.may(now + seconds(lock - 1), other_name), "{lock}");
            now += seconds(lock);
            assert!(guesses.may(now, other_name), "{lock}");
        }
        // Others are not.
        assert!({
            let it = guesses.of(Some(source(2)), "conf", "bob");
            guesses.may(now, it)
        });
        // After a long rest it is as at first.
        now += seconds(24 * 3600);
        assert_eq!(wrong(&mut guesses, now, attempt, 100), 5);
        assert!(guesses.may(now + seconds(60), attempt));
    }

    #[test]
    fn now_and_then_a_slip_locks_nobody_out() {
        let mut now = Now::read().instant;
        let mut guesses = Guesses::new(5, [1, 2]);
        let attempt = guesses.of(Some(source(1)), "conf", "alice");
        for _ in 0..50 {
            assert_eq!(wrong(&mut guesses, now, attempt, 4), 4);
            for _ in 0..100 {
                guesses.note(now, attempt, Err(Denied::Stale));
            }
            assert!(guesses.may(now, attempt));
            now += WINDOW;
        }
    }

    #[test]
    fn an_account_is_locked_against_many_but_not_against_who_knows_its_password() {
        let now = Now::read().instant;
        let mut guesses = Guesses::new(5, [1, 2]);
        let alice = |guesses: &Guesses, n| guesses.of(Some(source(n)), "conf", "alice");
        let home = alice(&guesses, 1);
        guesses.note(now, home, Ok(()));
        let mut seen = 0;
        for n in 100..200 {
            let attempt = alice(&guesses, n);
            seen += wrong(&mut guesses, now, attempt, 3);
        }
        assert_eq!(seen, 30);
        assert!(!guesses.may(now, alice(&guesses, 2)));
        assert!(guesses.may(now, home));
        assert!({
            let it = guesses.of(Some(source(2)), "conf", "bob");
            guesses.may(now, it)
        });
        assert!({
            let it = guesses.of(Some(source(2)), "room@conf", "alice");
            guesses.may(now, it)
        });
        assert!(!{
            let it = guesses.of(None, "conf", "alice");
            guesses.may(now, it)
        });
        // A proof is spent by the first mistake, and by time.
        assert_eq!(wrong(&mut guesses, now, home, 10), 1);
        guesses.note(now, home, Ok(()));
        let later = now + PROOF_LIFETIME;
        for n in 100..200 {
            let attempt = alice(&guesses, n);
            wrong(&mut guesses, later, attempt, 3);
        }
        assert!(!guesses.may(later, home));
    }

    #[test]
    fn to_be_right_once_does_not_make_guesses_free() {
        let now = Now::read().instant;
        let mut guesses = Guesses::new(5, [1, 2]);
        let own = guesses.of(Some(source(1)), "conf", "mallory");
        let other = guesses.of(Some(source(1)), "conf", "alice");
        let mut seen = 0;
        for _ in 0..20 {
            guesses.note(now, own, Ok(()));
            seen += wrong(&mut guesses, now, other, 1);
        }
        assert_eq!(seen, 5);
        assert!(guesses.may(now, own), "and they lock out nobody who shares the address");
    }

    #[test]
    fn behind_a_trusted_proxy_only_accounts_are_locked() {
        let now = Now::read().instant;
        let mut guesses = Guesses::new(5, [1, 2]);
        let alice = guesses.of(None, "conf", "alice");
        assert_eq!(wrong(&mut guesses, now, alice, 100), 30);
        assert!({
            let it = guesses.of(None, "conf", "bob");
            guesses.may(now, it)
        });
    }
}
