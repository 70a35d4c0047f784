//! How often something may happen, and what the source of traffic is that is counted as one.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How often something may happen: `burst` times at once, and once each `interval` in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The steady distance between two.
    pub interval: Duration,
    /// How many may come at once.
    pub burst: u32,
}

/// How far one sender has used up a [`Rate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// When nothing is used up any more.
    clear: Option<Instant>,
}

impl Meter {
    /// Whether nothing is used up.
    pub fn is_clear(&self, now: Instant) -> bool {
        self.clear.is_none_or(|clear| clear <= now)
    }

    /// Counts one more, unless that is too many; `share` divides its weight.
    pub fn admits(&mut self, now: Instant, rate: Rate, share: u32) -> bool {
        let clear = self.clear.map_or(now, |clear| clear.max(now));
        if clear.saturating_duration_since(now) + rate.interval > rate.interval * rate.burst {
            return false;
        }
        self.clear = Some(clear + rate.interval / share);
        true
    }
}

/// Where traffic comes from, as far as limits go: an IPv4 address, or the /64 of an IPv6 address, all
/// of which one host has to itself (RFC 4291 §2.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source that an address belongs to. IPv4 addresses written as IPv6 count as IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;

    #[test]
    fn lets_a_burst_through_and_then_a_steady_stream() {
        let rate = Rate { interval: Duration::from_millis(200), burst: 3 };
        let start = Now::read().instant;
        let mut meter = Meter::default();
        let sent = [0, 0, 0, 0, 100, 200, 300, 400, 2_000, 2_000, 2_000, 2_000];
        let admitted = sent.map(|ms| meter.admits(start + Duration::from_millis(ms), rate, 1));
        let expected = [true, true, true, false, false, true, false, true, true, true, true, false];
        assert_eq!(admitted, expected);
    }

    #[test]
    fn a_host_is_one_source() {
        let check = |a: &str, b: &str, same: bool| {
            let [a, b] = [a, b].map(|text| Source::of(text.parse().unwrap()));
            assert_eq!(a == b, same, "{a:?} {b:?}");
        };
        check("10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1", "10.0.0.2", false);
        check("2001:db8::1", "2001:db8::ffff:2", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        check("::ffff:10.0.0.1", "10.0.0.1", true);
        check("::10.0.0.1", "10.0.0.1", false);
        let text = |address: &str| Source::of(address.parse().unwrap()).to_string();
        assert_eq!(text("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
        assert_eq!(text("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
