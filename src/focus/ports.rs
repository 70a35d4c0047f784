//! The pool of RTP ports, and nothing of sockets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use crate::config::PortRange;

/// Even ports of a range, each with its odd neighbour for RTCP (RFC 3550 §11).
///
/// Which one a leg gets is random, so that nobody can spray the next call before it starts; a port
/// that was used rests for [`REST`], so that nobody hears the packets of the call before.
#[derive(Debug)]
pub(super) struct PortPool {
    free: Vec<u16>,
    /// Ports that rest, oldest first.
    resting: VecDeque<(Instant, u16)>,
}

impl PortPool {
    /// The pairs that lie wholly within a range.
    pub(super) fn new(range: PortRange) -> Self {
        let free = (range.first..range.last).filter(|port| port % 2 == 0).collect();
        Self { free, resting: VecDeque::new() }
    }

    /// Takes a port at random; `None` when all are in use or at rest.
    pub(super) fn take(&mut self, now: Instant, rng: &mut StdRng) -> Option<u16> {
        while let Some((since, port)) = self.resting.front() {
            if now.saturating_duration_since(*since) < REST {
                break;
            }
            self.free.push(*port);
            self.resting.pop_front();
        }
        if self.free.is_empty() {
            return None;
        }
        let chosen = rng.random_range(0..self.free.len());
        Some(self.free.swap_remove(chosen))
    }

    /// Takes a port back that nobody was told of.
    pub(super) fn put_back(&mut self, port: u16) {
        self.free.push(port);
    }

    /// Takes a port back that was in use until now.
    pub(super) fn give_back(&mut self, now: Instant, port: u16) {
        self.resting.push_back((now, port));
    }
}

/// How long a port rests. The media worker keeps it bound for as long, and drains it.
const REST: Duration = Duration::from_secs(32);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;
    use crate::clock::Now;

    #[test]
    fn takes_each_even_port_that_has_a_neighbour_once() {
        for (first, last, expected) in [
            (40_000, 40_007, vec![40_000, 40_002, 40_004, 40_006]),
            (40_001, 40_006, vec![40_002, 40_004]),
            (40_000, 40_000, vec![]),
            (65_534, 65_535, vec![65_534]),
        ] {
            let mut pool = PortPool::new(PortRange { first, last });
            let mut rng = StdRng::seed_from_u64(1);
            let now = Now::read().instant;
            let taken: BTreeSet<_> = std::iter::from_fn(|| pool.take(now, &mut rng)).collect();
            assert_eq!(taken.into_iter().collect::<Vec<_>>(), expected, "{first}-{last}");
        }
    }

    #[test]
    fn starts_anywhere() {
        let now = Now::read().instant;
        let first = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            PortPool::new(PortRange { first: 40_000, last: 44_999 }).take(now, &mut rng)
        };
        assert!((2..20).any(|seed| first(seed) != first(1)));
    }

    #[test]
    fn a_port_rests_before_it_is_used_again() {
        let mut pool = PortPool::new(PortRange { first: 40_000, last: 40_001 });
        let mut rng = StdRng::seed_from_u64(1);
        let now = Now::read().instant;
        assert_eq!(pool.take(now, &mut rng), Some(40_000));
        assert_eq!(pool.take(now, &mut rng), None);
        pool.put_back(40_000);
        assert_eq!(pool.take(now, &mut rng), Some(40_000));
        pool.give_back(now, 40_000);
        assert_eq!(pool.take(now, &mut rng), None);
        assert_eq!(pool.take(now + REST - Duration::from_millis(1), &mut rng), None);
        assert_eq!(pool.take(now + REST, &mut rng), Some(40_000));
    }
}
