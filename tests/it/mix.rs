//! Who hears whom, how loud, and how cleanly.

use std::time::Duration;

use cusax_media::srtp::{Incoming, Keys, Outgoing, Suite};
use cusax_media::{FRAME_SAMPLES, TICK};
use cusaxd::id::LegId;
use cusaxd::mixer::effort::STEPS;
use cusaxd::mixer::mix::Patience;
use cusaxd::mixer::plan::{CodecKind, Report};
use cusaxd::mixer::stream::COMFORT_PACE;

use crate::hall::{Hall, Sound, amplitude, db, plan, rms};

const SECOND: Duration = Duration::from_secs(1);

/// Tones that two passes through Opus at 32 kbit/s leave at their levels, which is not so for any: it
/// gives up to 1.5 dB of one tone of four for bits.
fn tone(leg: u64) -> f32 {
    300.0 + 230.0 * leg as f32
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
fn twenty_loud_talkers_never_wrap() {
    let mut hall = Hall::new();
    for leg in 1..=20 {
        let kind = if leg % 2 == 0 { CodecKind::Pcmu } else { CodecKind::Opus };
        hall.dial(leg, kind, Sound::Tone(200.0 + 97.0 * leg as f32, 0.9));
    }
    hall.dial(21, CodecKind::Pcma, Sound::Nothing);
    hall.run(2 * SECOND);
    let heard = hall.phone(21).last(SECOND);
    // A sample that wraps jumps by nearly twice full scale; twenty tones below 2.2 kHz, limited, do not.
    let jump = heard.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
    assert!(jump < 0.6, "a jump of {jump}");
    assert!(rms(heard) > 0.2, "still loud: {}", rms(heard));
    for leg in 1..=20 {
        let level = amplitude(heard, 200.0 + 97.0 * leg as f32);
        assert!(level > 0.01, "{leg} is drowned: {level}");
    }
}

#[test]
fn the_loudest_are_mixed_and_places_change_without_a_click() {
    let mut hall = Hall::of(2);
    for (leg, loud) in [(1, 0.1), (2, 0.08), (3, 0.03)] {
        hall.dial(leg, CodecKind::Opus, Sound::Tone(tone(leg), loud));
    }
    hall.dial(4, CodecKind::Opus, Sound::Nothing);
    let heard =
        |hall: &mut Hall, leg: u64| db(amplitude(hall.phone(4).last(SECOND / 2), tone(leg)));
    hall.run(2 * SECOND);
    assert!(
        (heard(&mut hall, 1) - db(0.1)).abs() < 1.0 && (heard(&mut hall, 2) - db(0.08)).abs() < 1.0
    );
    assert!(heard(&mut hall, 3) < -70.0, "the third is left out: {}", heard(&mut hall, 3));
    // Not much louder than the second: places are kept. Much louder: it takes the place.
    hall.phone(3).sound = Sound::Tone(tone(3), 0.12);
    hall.run(2 * SECOND);
    assert!(heard(&mut hall, 3) < -70.0, "within the margin: {}", heard(&mut hall, 3));
    hall.phone(3).sound = Sound::Tone(tone(3), 0.3);
    let from = hall.phone(4).heard.len();
    hall.run(2 * SECOND);
    assert!((heard(&mut hall, 3) - db(0.3)).abs() < 1.0, "{}", heard(&mut hall, 3));
    assert!(heard(&mut hall, 2) < -50.0, "the quietest made room: {}", heard(&mut hall, 2));
    // What a sample may step by while all three sound, and no more.
    let most =
        [(1, 0.1), (2, 0.08), (3, 0.3)].map(|(leg, loud)| tone(leg) * loud).iter().sum::<f32>();
    let step = std::f32::consts::TAU * most / 48_000.0 * 1.3;
    let largest = hall.phone(4).heard[from..].windows(2).map(|w| (w[1] - w[0]).abs());
    let largest = largest.fold(0.0, f32::max);
    assert!(largest < step, "a click: {largest}, not {step}");
}

#[test]
fn a_busy_mixer_says_less_to_everyone_and_to_who_comes_later() {
    let mut hall = Hall::new();
    hall.dial(1, CodecKind::Opus, Sound::Noise(0.1));
    hall.dial(2, CodecKind::Opus, Sound::Noise(0.1));
    hall.dial(3, CodecKind::Opus, Sound::Nothing);
    let bytes = |hall: &mut Hall, leg: u64| {
        let packets = &hall.phone(leg).packets;
        packets[packets.len() - 40..].iter().map(|(_, len)| len).sum::<usize>() / 40
    };
    hall.run(SECOND);
    assert!((80..115).contains(&bytes(&mut hall, 3)), "40 kbit/s: {}", bytes(&mut hall, 3));
    hall.mix.limit(STEPS[STEPS.len() - 1]);
    hall.dial(4, CodecKind::Opus, Sound::Noise(0.1));
    hall.run(SECOND);
    for leg in 1..=4 {
        assert!((50..70).contains(&bytes(&mut hall, leg)), "24 kbit/s: {}", bytes(&mut hall, leg));
    }
    hall.mix.limit(STEPS[0]);
    hall.run(SECOND);
    assert!((80..115).contains(&bytes(&mut hall, 4)), "40 kbit/s: {}", bytes(&mut hall, 4));
}

#[test]
fn a_mute_is_in_force_with_the_next_frame() {
    for kind in [CodecKind::Opus, CodecKind::Pcmu] {
        let mut hall = Hall::new();
        hall.dial(1, kind, Sound::Tone(440.0, 0.2));
        hall.dial(2, kind, Sound::Tone(1_000.0, 0.2));
        hall.dial(3, kind, Sound::Nothing);
        hall.run(2 * SECOND);
        hall.mix.voice(LegId(1), false, hall.now);
        let (asked, from) = (hall.now, hall.phone(3).heard.len());
        hall.run(SECOND);
        assert!(hall.reports.iter().any(|report| matches!(report, Report::VoiceApplied {
            leg: LegId(1), heard: false, asked: told, at,
        } if *told == asked && *at <= asked + TICK)));
        // The frame of the mute fades out; it reaches the ear a jitter buffer later.
        let delay = Duration::from_millis(60).as_millis() as usize * 48;
        let heard = hall.phone(3).heard[from + FRAME_SAMPLES + delay..].to_vec();
        for (n, window) in heard.chunks_exact(2 * FRAME_SAMPLES).enumerate() {
            let level = db(amplitude(window, 440.0) / 0.2);
            assert!(level < -40.0, "{kind:?}: {level:.1} dB in window {n} after the mute");
        }
        let other = db(amplitude(&heard, 1_000.0) / 0.2);
        assert!(other.abs() < 1.0, "{kind:?}: the other is at {other:.1} dB");
        hall.mix.voice(LegId(1), true, hall.now);
        hall.run(SECOND);
        let back = db(amplitude(hall.phone(3).last(SECOND / 2), 440.0) / 0.2);
        assert!(back.abs() < 1.0, "{kind:?}: back at {back:.1} dB");
    }
}

#[test]
fn what_is_muted_is_not_mixed_whatever_else_happens() {
    let mut hall = Hall::new();
    let mut muted = plan(1, CodecKind::Opus);
    muted.heard = false;
    hall.dial_as(muted.clone(), Sound::Tone(440.0, 0.5));
    hall.dial(2, CodecKind::Opus, Sound::Nothing);
    hall.run(SECOND);
    muted.codec.max_bitrate = Some(16_000);
    hall.mix.change(hall.now, Box::new(muted)).unwrap();
    hall.run(SECOND);
    assert_eq!(hall.phone(2).packets.iter().map(|(_, len)| *len).max(), Some(3), "only silence");
    let tally = hall.tally();
    assert_eq!((tally.decoded, tally.encodes_shared, tally.encodes_own), (0, 0, 0), "{tally:?}");
    assert!(!hall.reports.iter().any(|report| matches!(report, Report::Speaking { .. })));
}

#[test]
fn listeners_share_one_encode_and_talkers_have_their_own() {
    for (talkers, listeners) in [(1, 1), (1, 40), (2, 0), (2, 1), (2, 40), (3, 20)] {
        let mut hall = Hall::new();
        for leg in 1..=talkers {
            hall.dial(leg, CodecKind::Opus, Sound::Tone(tone(leg), 0.1));
        }
        for leg in talkers + 1..=talkers + listeners {
            hall.dial(leg, CodecKind::Opus, Sound::Nothing);
        }
        hall.run(SECOND);
        hall.tally();
        hall.run(SECOND);
        let tally = hall.tally();
        // Who talks alone hears nothing, which is not encoded.
        let own = if talkers == 1 { 0 } else { 50 * talkers };
        let shared = if listeners == 0 { 0 } else { 50 };
        assert_eq!(
            (tally.encodes_own, tally.encodes_shared),
            (own, shared),
            "{talkers} talkers, {listeners} listeners"
        );
        assert_eq!(tally.decoded, 50 * talkers);
        assert_eq!(tally.packets_out, 50 * (talkers + listeners));
    }
}

#[test]
fn each_codec_of_the_listeners_costs_one_encode() {
    let mut hall = Hall::new();
    hall.dial(1, CodecKind::Opus, Sound::Tone(440.0, 0.1));
    for leg in 2..20 {
        let kind = [CodecKind::Opus, CodecKind::Pcmu, CodecKind::Pcma][leg as usize % 3];
        hall.dial(leg, kind, Sound::Nothing);
    }
    hall.run(SECOND);
    hall.tally();
    hall.run(SECOND);
    let tally = hall.tally();
    assert_eq!((tally.encodes_own, tally.encodes_shared), (0, 150));
}

#[test]
fn a_room_of_quiet_microphones_costs_nothing() {
    let mut hall = Hall::new();
    for leg in 1..=10 {
        hall.dial(leg, CodecKind::Opus, Sound::Noise(0.0005));
    }
    hall.run(SECOND);
    hall.tally();
    hall.run(5 * SECOND);
    let tally = hall.tally();
    assert_eq!((tally.encodes_own, tally.encodes_shared), (0, 0), "{tally:?}");
    assert!(tally.decoded < tally.skipped / 5, "voice flags spare decoding: {tally:?}");
}

#[test]
fn a_steady_tone_has_no_gap() {
    for kind in [CodecKind::Opus, CodecKind::Pcmu, CodecKind::Pcma] {
        let mut hall = Hall::new();
        hall.dial(1, kind, Sound::Tone(1_000.0, 0.2));
        hall.dial(2, kind, Sound::Nothing);
        hall.run(20 * SECOND);
        let heard = hall.phone(2).between(SECOND, 20 * SECOND);
        for (n, window) in heard.chunks_exact(FRAME_SAMPLES / 2).enumerate() {
            let level = db(rms(window) * std::f32::consts::SQRT_2 / 0.2);
            assert!(level.abs() < 1.5, "{kind:?}: {level:.1} dB, {} ms in", 1_000 + 10 * n);
        }
    }
}

#[test]
fn silence_is_said_at_the_pace_that_the_peer_wants() {
    let mut hall = Hall::new();
    let mut wants_dtx = plan(1, CodecKind::Opus);
    wants_dtx.codec.dtx = true;
    hall.dial_as(wants_dtx, Sound::Nothing);
    hall.dial(2, CodecKind::Opus, Sound::Nothing);
    hall.dial(3, CodecKind::Pcmu, Sound::Nothing);
    hall.dial(4, CodecKind::Opus, Sound::Tone(440.0, 0.2));
    hall.run(SECOND);
    hall.phone(4).sound = Sound::Nothing;
    // The talker's last word is held for half a second, then comes the tail.
    hall.run(SECOND);
    let quiet = hall.ticks;
    hall.tally();
    hall.run(4 * SECOND);
    let tally = hall.tally();
    assert_eq!((tally.encodes_shared, tally.encodes_own), (0, 0));
    let since = |leg: u64, hall: &mut Hall| {
        let packets = hall.phone(leg).packets.iter().filter(|(tick, _)| *tick >= quiet);
        packets.copied().collect::<Vec<_>>()
    };
    let paced = since(1, &mut hall);
    assert_eq!(paced.len(), (4 * SECOND).as_millis() as usize / COMFORT_PACE.as_millis() as usize);
    let opus = since(2, &mut hall);
    assert_eq!(opus.len(), 200);
    assert!(paced.iter().chain(&opus).all(|(_, len)| *len == 3), "the silence flag");
    let g711 = since(3, &mut hall);
    assert!(g711.len() == 200 && g711.iter().all(|(_, len)| *len == 160));
    for leg in 1..=3 {
        let heard = rms(hall.phone(leg).last(SECOND));
        assert!(heard < 0.0005, "{leg} hears {heard}");
    }
}

#[test]
fn the_first_word_after_silence_is_whole() {
    for kind in [CodecKind::Opus, CodecKind::Pcmu] {
        let mut hall = Hall::new();
        hall.dial(1, kind, Sound::Tone(440.0, 0.2));
        hall.dial(2, kind, Sound::Nothing);
        hall.run(SECOND);
        hall.phone(1).sound = Sound::Noise(0.0);
        hall.run(3 * SECOND);
        hall.phone(1).sound = Sound::Tone(600.0, 0.2);
        let from = hall.phone(2).heard.len();
        hall.run(SECOND);
        let heard = hall.phone(2).heard[from..].to_vec();
        let began = heard.iter().position(|s| s.abs() > 0.02).unwrap();
        assert!(began < 110 * 48, "{kind:?}: heard after {} ms", began / 48);
        println!(
            "{kind:?} {:?}",
            heard[began..]
                .chunks_exact(240)
                .take(40)
                .map(|w| (db(rms(w) * 1.414 / 0.2) * 10.0).round() / 10.0)
                .collect::<Vec<_>>()
        );
        for (n, window) in heard[began..].chunks_exact(FRAME_SAMPLES).take(20).enumerate() {
            let level = db(rms(window) * std::f32::consts::SQRT_2 / 0.2);
            assert!(level > -3.0 && level < 3.0, "{kind:?}: {level:.1} dB in frame {n}");
        }
    }
}

/// The loudest of what is not the tone, in dB of the whole, over windows of 20 ms: what a click is.
fn worst_residue(heard: &[f32], hz: f32) -> f32 {
    heard
        .windows(FRAME_SAMPLES)
        .step_by(FRAME_SAMPLES / 4)
        .map(|window| {
            // Least squares of the tone, over whole periods.
            let step = std::f32::consts::TAU * hz / 48_000.0;
            let (mut re, mut im) = (0.0, 0.0);
            for (i, s) in window.iter().enumerate() {
                re += s * (step * i as f32).cos();
                im += s * (step * i as f32).sin();
            }
            let (re, im) = (2.0 * re / window.len() as f32, 2.0 * im / window.len() as f32);
            let rest: Vec<f32> = window
                .iter()
                .enumerate()
                .map(|(i, s)| s - re * (step * i as f32).cos() - im * (step * i as f32).sin())
                .collect();
            db(rms(&rest) / rms(window))
        })
        .fold(f32::MIN, f32::max)
}

#[test]
fn changing_streams_does_not_click() {
    for kind in [CodecKind::Opus, CodecKind::Pcmu] {
        for others in [0, 1] {
            let mut hall = Hall::new();
            hall.dial(1, kind, Sound::Tone(500.0, 0.2));
            hall.dial(2, kind, Sound::Nothing);
            for leg in 0..others {
                hall.dial(3 + leg, kind, Sound::Nothing);
            }
            hall.run(2 * SECOND);
            let steady = worst_residue(hall.phone(2).last(SECOND), 500.0);
            let steady_step = largest_step(hall.phone(2).last(SECOND));
            let from = hall.phone(2).heard.len();
            for _ in 0..5 {
                hall.phone(2).sound = Sound::Tone(900.0, 0.1);
                hall.run(SECOND);
                hall.phone(2).sound = Sound::Noise(0.0);
                hall.run(2 * SECOND);
            }
            let changing = worst_residue(&hall.phone(2).heard[from..], 500.0);
            // One frame with a little more of the codec's own noise, far from the −8 dB of a click.
            assert!(changing < -18.0, "{kind:?}, {others} others: {changing:.1} of {steady:.1} dB");
            let step = largest_step(&hall.phone(2).heard[from..]);
            assert!(step < 1.5 * steady_step, "{kind:?}: a step of {step}, usually {steady_step}");
        }
    }
}

fn largest_step(heard: &[f32]) -> f32 {
    heard.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
}

#[test]
fn a_room_that_has_warmed_up_allocates_nothing() {
    let mut hall = Hall::new();
    for leg in 1..=8 {
        let kind = [CodecKind::Opus, CodecKind::Pcmu, CodecKind::Pcma][leg as usize % 3];
        let mut plan = plan(leg, kind);
        // Every suite is among them.
        plan.srtp = Suite::ALL.get(leg as usize - 1).map(|suite| Keys {
            suite: *suite,
            ours: vec![1; suite.master_len()],
            theirs: vec![2; suite.master_len()],
        });
        hall.dial_as(plan, Sound::Noise(0.0));
    }
    // Who speaks changes every second; the first round warms up.
    let mut warming = 0;
    for round in 0..2 {
        for second in 0..8 {
            for leg in 1..=8 {
                let speaks = (leg + second) % 4 == 0 || leg == 1;
                let sound = if speaks { Sound::Tone(tone(leg), 0.1) } else { Sound::Noise(0.0) };
                hall.phone(leg).sound = sound;
            }
            for _ in 0..50 {
                let now = hall.count_allocations();
                warming += now;
                assert!(round == 0 || now == 0, "{now} allocations in tick {}", hall.ticks);
            }
        }
    }
    assert!(warming > 0, "the counter counts");
}

#[test]
fn a_protected_packet_allocates_nothing() {
    for suite in Suite::ALL {
        let master = vec![7; suite.master_len()];
        let mut outgoing = Outgoing::new(suite, &master);
        let mut incoming = Incoming::new(suite, &master);
        let counted = allocation_counter::measure(|| {
            let (mut packet, mut plain) = ([0; 100], [0; 100]);
            packet[0] = 0x80;
            let len = outgoing.protect(&mut packet, 72).unwrap();
            assert_eq!(incoming.unprotect(&packet[..len], &mut plain), Ok(72));
            let len = outgoing.protect_rtcp(&mut plain, 28).unwrap();
            assert_eq!(incoming.unprotect_rtcp(&plain[..len], &mut packet), Ok(28));
        });
        assert_eq!(counted.count_total, 0, "{suite:?}");
    }
}

#[test]
fn who_sends_nothing_is_reported_dead_once() {
    let mut hall = Hall::new();
    hall.dial(1, CodecKind::Pcmu, Sound::Nothing);
    let mut held = plan(2, CodecKind::Pcmu);
    held.hears = false;
    hall.dial_as(held, Sound::Nothing);
    let patience = Patience::default();
    for second in 1..=31 * 60 {
        hall.now += SECOND;
        hall.mix.survey(hall.now, &patience, &mut hall.reports, |_, _| {});
        let dead: Vec<_> = hall.reports.drain(..).collect();
        match second {
            60 => assert_eq!(dead, [Report::Dead { leg: LegId(1) }]),
            1_800 => assert_eq!(dead, [Report::Dead { leg: LegId(2) }]),
            _ => assert_eq!(dead, [], "{second} s"),
        }
    }
}

#[test]
fn who_sends_is_named_by_ssrc_and_speech_is_told() {
    let mut hall = Hall::new();
    hall.dial(1, CodecKind::Opus, Sound::Tone(440.0, 0.2));
    hall.dial(2, CodecKind::Opus, Sound::Nothing);
    hall.run(SECOND);
    let patience = Patience::default();
    hall.mix.survey(hall.now, &patience, &mut hall.reports, |_, _| {});
    hall.mix.survey(hall.now, &patience, &mut hall.reports, |_, _| {});
    hall.phone(1).sound = Sound::Nothing;
    hall.run(3 * SECOND);
    let sources = hall.reports.iter().filter(|report| matches!(report, Report::Source { .. }));
    assert_eq!(sources.count(), 1);
    let speaking: Vec<_> = hall
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::Speaking { leg, on } => Some((leg.0, *on)),
            Report::OpenFailed { .. }
            | Report::Source { .. }
            | Report::Digit { .. }
            | Report::VoiceApplied { .. }
            | Report::Dead { .. } => None,
        })
        .collect();
    assert_eq!(speaking, [(1, true), (1, false)]);
}
