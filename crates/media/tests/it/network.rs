//! What bad networks do to a call: loss, jitter, spikes, disorder, drift, pauses.

use crate::simulation::{Network, Sent, babble, carry, listen, opus, phrases, run, talk, tone};
use cusax_media::codec::{Codec, EncoderSettings, OpusSettings};
use cusax_media::level::measure_dbov;

/// A step of 1 kHz at half scale at 48 kHz, and what coding may add.
const TONE_STEP: f32 = 0.5 * std::f32::consts::TAU / 48.0 * 1.3;

#[test]
fn loss_and_jitter_table() {
    let sent = talk(opus(), babble, 60 * 50);
    println!("loss %  jitter ms | concealed %  fec  late  grown shrunk delay ms target ms");
    for loss in [0.0, 0.01, 0.03, 0.05, 0.10, 0.20] {
        for jitter_ms in [0.0, 10.0, 30.0, 60.0] {
            let network = Network { loss, jitter_ms, ..Network::default() };
            let (arrivals, lost) = carry(&sent, &network, 11);
            let outcome = listen(Codec::Opus, &arrivals, 60 * 50);
            let jitter = outcome.stats.jitter;
            println!(
                "{:5.0}   {jitter_ms:8.0}  | {:10.2} {:5} {:5} {:6} {:5} {:8.1} {:8.1}",
                loss * 100.0,
                outcome.concealed_percent(),
                jitter.fec,
                jitter.late,
                jitter.grown,
                jitter.shrunk,
                outcome.delay_ms(),
                jitter.target_s * 1_000.0,
            );
            let lost_percent = lost as f64 / 30.0;
            assert!(
                outcome.concealed_percent() <= 0.05 + lost_percent * (0.2 + 1.1 * loss),
                "loss {loss} jitter {jitter_ms}"
            );
            assert!(jitter.late as f64 <= 0.005 * 3_000.0, "late at jitter {jitter_ms}");
            let frame = if loss > 0.0 { 20.0 } else { 0.0 };
            assert!(
                outcome.delay_ms() <= 40.0 + jitter_ms + frame,
                "delay at jitter {jitter_ms} loss {loss}"
            );
            if loss >= 0.05 {
                assert!(jitter.fec as f64 > 0.6 * lost as f64, "copies used at {loss}");
            }
            assert_eq!(outcome.stats.undecodable, 0);
        }
    }
}

#[test]
fn a_steady_tone_stays_steady_for_minutes() {
    for settings in [opus(), EncoderSettings::Pcmu, EncoderSettings::Pcma] {
        for jitter_ms in [0.0, 15.0] {
            let network = Network { jitter_ms, ..Network::default() };
            let outcome = run(settings, tone, 120, &network, 3);
            let jitter = outcome.stats.jitter;
            assert_eq!(jitter.concealed, 0, "{settings:?}");
            assert!(outcome.largest_step() < TONE_STEP, "{settings:?}: {}", outcome.largest_step());
            for (n, frame) in outcome.pcm.chunks(960).enumerate().skip(50) {
                let level = measure_dbov(frame);
                assert!(
                    (level + 9.03).abs() < 0.7,
                    "{settings:?} jitter {jitter_ms} frame {n}: {level} dBov"
                );
            }
        }
    }
}

#[test]
fn copies_repair_what_is_lost() {
    for loss in [0.05, 0.10] {
        let with = run(opus(), babble, 60, &Network { loss, ..Network::default() }, 4);
        let repaired = with.stats.jitter.fec as f64 / with.lost_packets as f64;
        println!("loss {loss}: {} lost, {repaired:.2} repaired", with.lost_packets);
        assert!(repaired > 0.75 - loss);
        // Of the very last nobody can know.
        assert!((with.stats.lost as usize).abs_diff(with.lost_packets) <= 1);
        let settings =
            EncoderSettings::Opus(OpusSettings { fec: false, ..OpusSettings::default() });
        let without = run(settings, babble, 60, &Network { loss, ..Network::default() }, 4);
        assert_eq!(without.stats.jitter.fec, 0);
        assert!(without.stats.jitter.concealed as f64 > 0.9 * without.lost_packets as f64);
    }
}

#[test]
fn bursts_fade_and_come_back() {
    let outcome =
        run(opus(), tone, 60, &Network { loss: 0.05, burst: 4.0, ..Network::default() }, 9);
    let lost_percent = outcome.lost_packets as f64 / 30.0;
    assert!(
        outcome.concealed_percent() < 1.1 * lost_percent,
        "{} of {lost_percent}",
        outcome.concealed_percent()
    );
    assert!(measure_dbov(&outcome.pcm[48_000..]) > -10.5);
}

#[test]
fn pauses_are_not_loss_and_onsets_are_whole() {
    let settings = EncoderSettings::Opus(OpusSettings { dtx: true, ..OpusSettings::default() });
    for jitter_ms in [0.0, 20.0, 60.0] {
        let sent = talk(settings, phrases, 60 * 50);
        assert!(sent.len() < 60 * 50 * 8 / 10, "the talker pauses: {}", sent.len());
        let clean = run(opus(), phrases, 60, &Network::default(), 1);
        let (arrivals, _) = carry(&sent, &Network { jitter_ms, ..Network::default() }, 6);
        let outcome = listen(Codec::Opus, &arrivals, 60 * 50);
        assert!(outcome.stats.jitter.concealed <= 15, "{:?}", outcome.stats.jitter);
        // The first 80 ms of each phrase, wherever the buffer put it.
        let onsets = |pcm: &[f32]| -> Vec<f32> {
            let loud = |at: usize| measure_dbov(&pcm[at..at + 240]) > -45.0;
            let mut found = Vec::new();
            let mut at = 0;
            while at + 8_640 < pcm.len() {
                if loud(at) && (at < 14_400 || (1..60).all(|back| !loud(at - back * 240))) {
                    found.push(measure_dbov(&pcm[at..at + 3_840]));
                    at += 48_000;
                }
                at += 240;
            }
            found
        };
        let (clean, heard) = (onsets(&clean.pcm), onsets(&outcome.pcm));
        assert!(
            clean.len() >= 28 && heard.len().abs_diff(clean.len()) <= 1,
            "{} {}",
            clean.len(),
            heard.len()
        );
        for (n, (clean, heard)) in clean.iter().zip(&heard).enumerate().skip(2) {
            assert!(
                (clean - heard).abs() < 3.0,
                "jitter {jitter_ms} phrase {n}: {heard} instead of {clean} dBov"
            );
        }
    }
}

#[test]
fn a_fast_or_slow_clock_changes_neither_delay_nor_tone() {
    for drift_ppm in [-500.0, 500.0] {
        let network = Network { drift_ppm, jitter_ms: 5.0, ..Network::default() };
        let outcome = run(EncoderSettings::Pcma, tone, 600, &network, 8);
        let jitter = outcome.stats.jitter;
        let most = outcome.delays_ms[500..].iter().copied().fold(0.0, f64::max);
        println!(
            "{drift_ppm} ppm: {} grown, {} shrunk, most {most:.1} ms, step {}",
            jitter.grown,
            jitter.shrunk,
            outcome.largest_step()
        );
        assert!(most < 130.0, "{drift_ppm}: {most} ms");
        assert!(outcome.concealed_percent() < 0.2, "{drift_ppm}: {}", outcome.concealed_percent());
        assert!((1..150).contains(&(jitter.grown + jitter.shrunk)));
        assert!(
            outcome.largest_step() < 2.0 * TONE_STEP,
            "{drift_ppm}: {}",
            outcome.largest_step()
        );
    }
}

#[test]
fn a_spike_passes_and_leaves_no_delay() {
    let outcome = run(opus(), phrases, 180, &Network { spike_ms: 200, ..Network::default() }, 2);
    let jitter = outcome.stats.jitter;
    println!("{jitter:?}");
    assert!(jitter.concealed <= 3 * 11, "{jitter:?}");
    assert!(outcome.delays_ms[outcome.delays_ms.len() - 500..].iter().all(|delay| *delay < 60.0));
}

#[test]
fn an_outage_is_survived() {
    let mut sent = talk(opus(), tone, 20 * 50);
    for (at, _) in &mut sent {
        if (8_000_000..9_500_000).contains(at) {
            *at = 9_500_000;
        }
    }
    let outcome = listen(Codec::Opus, &sent, 20 * 50);
    assert!(outcome.delays_ms[600..].iter().all(|delay| *delay < 420.0));
    assert!(outcome.delays_ms[950] < 100.0, "{} ms", outcome.delays_ms[950]);
    assert!(outcome.heard[520..].iter().all(|heard| heard.level_dbov > -12.0));
}

#[test]
fn disorder_and_duplicates_cost_nothing() {
    let network = Network { reorder: 0.02, duplicate: 0.02, jitter_ms: 3.0, ..Network::default() };
    let outcome = run(opus(), babble, 60, &network, 12);
    let jitter = outcome.stats.jitter;
    assert!(jitter.duplicate > 20, "{jitter:?}");
    assert!(jitter.concealed + jitter.fec <= 2, "{jitter:?}");
}

#[test]
fn delay_comes_back_when_the_network_does() {
    let sent = talk(opus(), babble, 60 * 50);
    let (mut arrivals, _) =
        carry(&sent[..1_500], &Network { jitter_ms: 60.0, ..Network::default() }, 7);
    arrivals.extend(carry(&sent[1_500..], &Network::default(), 7).0);
    let outcome = listen(Codec::Opus, &arrivals, 60 * 50);
    assert!(outcome.delays_ms[1_400] > 60.0);
    assert!(outcome.delays_ms[2_200] < 50.0, "{} ms after 14 s", outcome.delays_ms[2_200]);
    // And when it gets worse, only the first moments suffer.
    let (mut arrivals, _) = carry(&sent[..1_500], &Network::default(), 7);
    arrivals.extend(carry(&sent[1_500..], &Network { jitter_ms: 60.0, ..Network::default() }, 7).0);
    let outcome = listen(Codec::Opus, &arrivals, 60 * 50);
    let jitter = outcome.stats.jitter;
    assert!(jitter.concealed + jitter.late + jitter.grown <= 15, "{jitter:?}");
}

#[test]
fn after_a_pause_sound_is_back_at_once() {
    for pause_ms in [300, 900, 10_000, 300_000] {
        for clock_stops in [false, true] {
            for marked in [false, true] {
                let mut sent = talk(EncoderSettings::Pcmu, tone, 250);
                for (at, packet) in &mut sent[100..] {
                    *at += pause_ms * 1_000;
                    if !clock_stops {
                        let timestamp =
                            u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
                        packet[4..8].copy_from_slice(
                            &timestamp.wrapping_add(pause_ms as u32 * 8).to_be_bytes(),
                        );
                    }
                }
                if marked {
                    sent[100].1[1] |= 0x80;
                }
                let name = format!("{pause_ms} ms, clock stops {clock_stops}, marked {marked}");
                let resumed = (2_000 + pause_ms as usize) / 20;
                let outcome = listen(Codec::Pcmu, &sent, resumed + 140);
                let back =
                    outcome.heard[resumed..].iter().position(|heard| heard.level_dbov > -12.0);
                assert!(back.is_some_and(|ticks| ticks <= 5), "{name}: after {back:?} ticks");
                // Where the clock stopped unannounced, it may look like a late network for a moment.
                let steady = if clock_stops { 120 } else { 8 };
                assert!(
                    outcome.heard[resumed + steady..].iter().all(|heard| heard.level_dbov > -12.0),
                    "{name}"
                );
                if !clock_stops {
                    assert_eq!(outcome.stats.jitter.concealed, 0, "{name}");
                }
            }
        }
    }
}

/// Repacks G.711 into packets of other lengths.
fn repack(sent: &[Sent], ms: usize) -> Vec<Sent> {
    let bytes: Vec<u8> = sent.iter().flat_map(|(_, packet)| packet[12..].to_vec()).collect();
    bytes
        .chunks_exact(ms * 8)
        .enumerate()
        .map(|(n, payload)| {
            let header = cusax_media::rtp::Header {
                marker: n == 0,
                payload_type: 8,
                sequence: 65_000u16.wrapping_add(n as u16),
                timestamp: (u32::MAX - 8_000).wrapping_add((n * ms * 8) as u32),
                ssrc: 5,
            };
            // A packet leaves when its last sample is there.
            (((n + 1) * ms * 1_000) as u64, [&header.to_bytes()[..], payload].concat())
        })
        .collect()
}

#[test]
fn packets_of_every_length_make_frames() {
    let sent = talk(EncoderSettings::Pcma, tone, 60 * 50);
    for ms in [5, 10, 20, 30, 40, 60, 120] {
        let outcome = listen(Codec::Pcma, &repack(&sent, ms), 60 * 50);
        let jitter = outcome.stats.jitter;
        println!("{ms} ms: {jitter:?}");
        assert_eq!(jitter.concealed, 0, "{ms} ms");
        assert!(outcome.largest_step() < TONE_STEP, "{ms} ms: {}", outcome.largest_step());
        assert!(jitter.delay_s < 0.07, "{ms} ms: {jitter:?}");
    }
}
