//! Who hears whom, how loud, and how cleanly.

use std::time::Duration;

use cusax_media::{FRAME_SAMPLES, TICK};
use cusaxd::id::LegId;
use cusaxd::mixer::plan::{CodecKind, Report};

use crate::hall::{Hall, Sound, amplitude, db, plan, rms};

const SECOND: Duration = Duration::from_secs(1);

/// Tones far enough apart that neither codec blurs one into another.
fn tone(leg: u64) -> f32 {
    300.0 + 170.0 * leg as f32
}

/// Everyone hears everyone else at the level they send, and nobody hears themselves.
fn check_who_hears_whom(kinds: &[CodecKind]) {
    let mut hall = Hall::new();
    for (leg, kind) in (1..).zip(kinds) {
        hall.dial(leg, *kind, Sound::Tone(tone(leg), 0.1));
    }
    hall.run(3 * SECOND);
    let legs = 1..=kinds.len() as u64;
    for ear in legs.clone() {
        let heard = hall.phone(ear).last(SECOND).to_vec();
        for mouth in legs.clone() {
            let level = db(amplitude(&heard, tone(mouth)) / 0.1);
            if ear == mouth {
                assert!(level < -40.0, "{ear} hears itself at {level:.1} dB: {kinds:?}");
            } else {
                assert!(level.abs() < 1.0, "{ear} hears {mouth} at {level:.1} dB: {kinds:?}");
            }
        }
    }
}

#[test]
fn each_hears_all_others_and_never_itself() {
    use CodecKind::{Opus, Pcma, Pcmu};
    check_who_hears_whom(&[Opus, Opus]);
    check_who_hears_whom(&[Opus, Opus, Opus, Opus]);
    check_who_hears_whom(&[Pcmu, Pcma, Pcmu]);
    check_who_hears_whom(&[Opus, Pcmu, Opus, Pcma]);
}

#[test]
fn dbg() {
    let mut hall = Hall::new();
    for leg in 1..3 {
        hall.dial(leg, CodecKind::Opus, Sound::Tone(tone(leg), 0.1));
    }
    for _ in 0..100 {
        hall.tick();
    }
    println!("{:?}", hall.tally());
    println!("{:?}", hall.phone(1).packets);
    println!("{:?}", hall.reports);
}
