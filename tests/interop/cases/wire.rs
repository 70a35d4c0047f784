//! SIP by the letter, as SIPp writes it.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::json;

use crate::{
    peer,
    recording::SILENT_DBFS,
    sipp::Scenario,
    site::{Site, installed},
    wait::{monotonic, pause},
};

/// A tone of `hz` in G.711 μ-law, three seconds of it.
fn mu_law(hz: f64) -> Vec<u8> {
    (0..24_000)
        .map(|at| compress((std::f64::consts::TAU * hz * f64::from(at) / 8e3).sin() * 0.25))
        .collect()
}

/// One sample in G.711 μ-law (ITU-T G.711), from the definition of its segments.
fn compress(sample: f64) -> u8 {
    let sign = if sample < 0.0 { 0x80 } else { 0 };
    let magnitude = ((sample.abs() * 32_635.0) as u32).min(32_635) + 132;
    let segment = 31 - magnitude.leading_zeros() - 7;
    let step = (magnitude >> (segment + 3)) & 0x0F;
    !(sign | (segment as u8) << 4 | step as u8)
}

/// Writes what the scenarios play into the folder in which they run.
fn speech(dir: &Path) {
    fs::create_dir_all(dir).expect("the site's folder is ours");
    fs::write(dir.join("speech.ulaw"), mu_law(600.0)).expect("a file of ours");
}

#[test]
fn single_requests_get_the_answers_of_the_rfc() {
    let Some(site) = Site::start("single_requests_get_the_answers_of_the_rfc") else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let keys = [("who", "sipp")];
    for tcp in [false, true] {
        for name in ["options", "bad_event", "bad_extension", "no_codec", "cancel"] {
            let Some(scenario) = Scenario::start(&site, name, "lounge", tcp, &keys) else { return };
            scenario.passes(Duration::from_secs(20));
        }
        // RFC 3261 §21.4.6, §21.5.2: a method that exists and is not for rooms, and one that nobody
        // knows.
        for (method, status) in [("MESSAGE", "405"), ("JUGGLE", "501")] {
            let keys = [("who", "sipp"), ("method", method)];
            let Some(scenario) = Scenario::start(&site, "method", "lounge", tcp, &keys) else {
                return;
            };
            let answers = scenario.passes(Duration::from_secs(20)).log;
            assert!(answers.contains(&format!("got {status}")), "{method}: {answers}");
        }
        let Some(scenario) = Scenario::start(&site, "no_room", "nowhere", tcp, &keys) else {
            return;
        };
        scenario.passes(Duration::from_secs(20));
    }
    // None of them is left in the room.
    assert_eq!(site.cusaxd.room("lounge")["people"].as_array().map(Vec::len), Some(1));
}

#[test]
fn calls_of_all_shapes_are_heard() {
    let Some(site) = Site::start("calls_of_all_shapes_are_heard") else { return };
    if installed(&["sipp", "sox", "opusenc"]).is_none() {
        return;
    }
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let listener = site.caller("carol");
    listener.call("lounge", 1000.0);
    for (name, tcp) in [
        ("pcmu", false),
        ("pcmu", true),
        ("opus", false),
        ("delayed_offer", false),
        ("in_dialog", false),
        ("in_dialog", true),
        ("hold", false),
        ("session", false),
    ] {
        let dir = site.dir.join(format!("sipp-{name}-lounge{}", if tcp { "-tcp" } else { "" }));
        speech(&dir);
        if name == "opus" {
            opus(&dir);
        }
        let from = monotonic();
        let Some(scenario) = Scenario::start(&site, name, "lounge", tcp, &[("who", name)]) else {
            return;
        };
        scenario.passes(Duration::from_secs(30));
        let to = monotonic();
        if name != "hold" {
            let heard = listener.heard();
            let first = heard.first_heard(600.0, from, to);
            let last = heard.last_heard(600.0, from, to);
            let (Some(first), Some(last)) = (first, last) else { panic!("{name} was not heard") };
            assert!(last - first > 1.5, "{name} was heard for {:.2} s only", last - first);
        }
        pause(Duration::from_millis(700));
        let now = monotonic();
        let left = listener.heard().level(600.0, now - 0.3, now - 0.1);
        assert!(left < SILENT_DBFS, "{name} is heard after its end");
    }
    assert_eq!(site.cusaxd.room("lounge")["people"].as_array().map(Vec::len), Some(2));
}

/// Makes `speech.pcap`, three seconds of a tone in Opus.
fn opus(dir: &Path) {
    let run = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).current_dir(dir).output();
        let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    };
    run(
        "sox",
        &[
            "-n", "-r", "48000", "-c", "1", "-b", "16", "tone.wav", "synth", "3", "sine", "600",
            "gain", "-12",
        ],
    );
    run("opusenc", &["--quiet", "--bitrate", "32", "--framesize", "20", "tone.wav", "tone.opus"]);
    let python = peer::python();
    let script = peer::program("opuscap.py");
    run(
        python.to_str().expect("a plain path"),
        &[script.to_str().expect("a plain path"), "tone.opus", "speech.pcap", "96"],
    );
}

#[test]
fn without_an_ack_the_answer_is_repeated_and_the_call_given_up() {
    let Some(site) = Site::start("without_an_ack_the_answer_is_repeated_and_the_call_given_up")
    else {
        return;
    };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let keys = [("who", "sipp")];
    let Some(scenario) = Scenario::start(&site, "lost_ack", "lounge", false, &keys) else { return };
    let transcript = scenario.passes(Duration::from_secs(60));
    // RFC 3261 §13.3.1.4: after 0.5, 1, 2 and then 4 s each, until 64·T1 have passed.
    let answers = transcript.times("SIP/2.0 200 OK");
    let ends = transcript.times("BYE ");
    let [end] = ends[..] else { panic!("{} BYE", ends.len()) };
    let pauses: Vec<f64> = answers.windows(2).map(|pair| since(pair[0], pair[1])).collect();
    let expected = [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0];
    assert_eq!(pauses.len(), expected.len(), "{pauses:?}");
    for (pause, expected) in pauses.iter().zip(expected) {
        assert!((pause - expected).abs() < 0.25, "{pauses:?}");
    }
    let given_up = since(answers[0], end);
    assert!((given_up - 32.0).abs() < 0.25, "given up after {given_up:.1} s");
    assert_eq!(site.cusaxd.room("lounge")["people"].as_array().map(Vec::len), Some(1));
}

/// The time between two seconds of the day, midnight or not.
fn since(earlier: f64, later: f64) -> f64 {
    (later - earlier).rem_euclid(86_400.0)
}

#[test]
fn the_segments_of_mu_law_are_right() {
    // The ends of G.711's table: silence, the loudest, and one of either sign.
    for (sample, byte) in [(0.0, 0xFF), (1.0, 0x80), (-1.0, 0x00), (0.25, 0x9F), (-0.25, 0x1F)] {
        assert_eq!(compress(sample), byte, "{sample}");
    }
}
