//! Key presses as named telephone events (RFC 4733).
//!
//! A press is reported with its first packet, so losing its end costs nothing. All packets of a press carry the
//! same timestamp; the end comes three times. A press too long for the 16-bit duration goes on as a new segment
//! (§2.5.1.3), which is no new press.

use std::time::{Duration, Instant};

/// A press whose end was lost is over when it has been silent for this long; senders repeat it every 20 to 50 ms.
pub const LOST_END: Duration = Duration::from_millis(300);

/// What a packet of events meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// A new press of `0`–`9`, `*`, `#`, `A`–`D`.
    Pressed(char),
    /// More of a press already reported, a straggler of an older one, or an event that is no key.
    Nothing,
    /// Shorter than an event.
    Malformed,
}

#[derive(Clone, Copy, Debug)]
struct Press {
    event: u8,
    timestamp: u32,
    duration: u16,
    ended: bool,
    heard: Instant,
}

/// The receiver of one stream's key presses. A new SSRC needs a new one.
#[derive(Clone, Debug, Default)]
pub struct Keypad {
    last: Option<Press>,
}

impl Keypad {
    /// Takes the payload of one event packet.
    pub fn packet(&mut self, now: Instant, timestamp: u32, payload: &[u8]) -> KeyEvent {
        let [event, flags, high, low, ..] = *payload else {
            return KeyEvent::Malformed;
        };
        let Some(key) = key(event) else {
            return KeyEvent::Nothing;
        };
        let press = Press {
            event,
            timestamp,
            duration: u16::from_be_bytes([high, low]),
            ended: flags & 0x80 != 0,
            heard: now,
        };
        if let Some(last) = &mut self.last {
            let ahead = timestamp.wrapping_sub(last.timestamp) as i32;
            if ahead == 0 {
                last.duration = last.duration.max(press.duration);
                last.ended |= press.ended;
                last.heard = now;
                return KeyEvent::Nothing;
            }
            if ahead < 0 && now.saturating_duration_since(last.heard) < LOST_END {
                return KeyEvent::Nothing;
            }
            if continues(last, &press, ahead) {
                *last = press;
                return KeyEvent::Nothing;
            }
        }
        self.last = Some(press);
        KeyEvent::Pressed(key)
    }

    /// The key held down now.
    #[must_use]
    pub fn held(&self, now: Instant) -> Option<char> {
        self.last
            .filter(|p| !p.ended && now.saturating_duration_since(p.heard) < LOST_END)
            .and_then(|p| key(p.event))
    }
}

/// Whether `next` is the following segment of a long press: the same key, never released, and its timestamp where
/// a full duration ends (the last update before that may have been lost).
fn continues(last: &Press, next: &Press, ahead: i32) -> bool {
    next.event == last.event
        && !last.ended
        && next.heard.saturating_duration_since(last.heard) < LOST_END
        && last.duration >= 0xC000
        && (i32::from(last.duration)..=0x1_0000).contains(&ahead)
}

fn key(event: u8) -> Option<char> {
    b"0123456789*#ABCD".get(usize::from(event)).map(|key| char::from(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "virtual time needs one real instant to count from"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    /// Packets as (ms, timestamp, event, end, duration) → the digits reported.
    fn check(packets: &[(u64, u32, u8, bool, u16)], expected: &str) {
        let start = start();
        let mut keypad = Keypad::default();
        let mut digits = String::new();
        for &(ms, timestamp, event, end, duration) in packets {
            let [high, low] = duration.to_be_bytes();
            let payload = [event, u8::from(end) << 7 | 10, high, low];
            let now = start + Duration::from_millis(ms);
            if let KeyEvent::Pressed(key) = keypad.packet(now, timestamp, &payload) {
                digits.push(key);
            }
        }
        assert_eq!(digits, expected, "{packets:?}");
    }

    #[test]
    fn reports_each_press_once() {
        // The end comes three times.
        check(
            &[
                (0, 8, 5, false, 160),
                (20, 8, 5, false, 320),
                (40, 8, 5, true, 480),
                (41, 8, 5, true, 480),
                (42, 8, 5, true, 480),
            ],
            "5",
        );
        // Only an end arrives.
        check(&[(0, 8, 1, true, 800)], "1");
        // The end is lost, the same key follows.
        check(
            &[(0, 8, 1, false, 160), (100, 2_000, 1, false, 160), (120, 2_000, 1, true, 320)],
            "11",
        );
        // Two presses of one key, ends overtaken by the second.
        check(
            &[
                (0, 0, 2, false, 160),
                (60, 900, 2, false, 160),
                (61, 0, 2, true, 400),
                (80, 900, 2, true, 320),
            ],
            "22",
        );
        // All sixteen keys, then flash and others that are no keys.
        let all: Vec<_> =
            (0..20).map(|n| (u64::from(n) * 500, u32::from(n) * 4_000, n, true, 800)).collect();
        check(&all, "0123456789*#ABCD");
        // Timestamps wrap.
        check(&[(0, u32::MAX - 10, 3, true, 800), (200, 1_600, 4, true, 800)], "34");
        // A long press at 48 kHz: three segments, one press; then the same key again.
        check(
            &[
                (0, 0, 7, false, 960),
                (1_340, 0, 7, false, 64_320),
                (1_365, 0, 7, false, 65_535),
                (1_385, 65_535, 7, false, 960),
                (2_700, 65_535, 7, false, 64_000),
                (2_760, 131_070, 7, false, 960),
                (2_780, 131_070, 7, true, 1_920),
                (3_000, 150_000, 7, true, 960),
            ],
            "77",
        );
        // Timestamps begin anew after a while.
        check(&[(0, 3_000_000, 3, true, 800), (5_000, 10, 3, true, 800)], "33");
    }

    #[test]
    fn a_lost_end_does_not_hold_the_key_for_ever() {
        let start = start();
        let mut keypad = Keypad::default();
        assert_eq!(keypad.packet(start, 1, &[11, 10, 0, 160]), KeyEvent::Pressed('#'));
        assert_eq!(keypad.held(start), Some('#'));
        assert_eq!(keypad.held(start + LOST_END), None);
        assert_eq!(keypad.packet(start + LOST_END, 1, &[11, 0x8A, 0, 200]), KeyEvent::Nothing);
        assert_eq!(keypad.held(start + LOST_END), None);
    }

    #[test]
    fn short_payloads_are_malformed() {
        for len in 0..4 {
            assert_eq!(
                Keypad::default().packet(start(), 1, &[1, 2, 3, 4][..len]),
                KeyEvent::Malformed
            );
        }
    }
}
