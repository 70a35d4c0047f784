//! Who hears whom.

use std::{net::UdpSocket, time::Duration};

use serde_json::json;

use crate::{
    baresip::{Caller, Options, TONE_DBFS},
    recording::{NO_GAP, SILENT_DBFS},
    site::{Loopback, Plan, Site, behind_each_server, room},
    steady::Stretch,
    wait::{monotonic, pause},
};

behind_each_server!(Plan::default() => three_callers_and_two_chats_are_one_room);

/// How long everybody listens.
const LISTEN: Duration = Duration::from_secs(6);

/// How long the mixer is kept from running: longer than any phone bridges.
const STOP: Duration = Duration::from_millis(500);

/// How far a tone may be from the level at which it was sent.
const LEVEL_DB: f64 = 3.0;

/// Everybody hears the others at their level, without a gap, and nobody hears themselves.
fn hear_each_other(site: &Site, callers: &[(&Caller, f64)], stretch: &Stretch, to: f64) {
    for (listener, own) in callers {
        let heard = listener.heard();
        let echo = heard.level(*own, stretch.from(), to);
        assert!(echo < SILENT_DBFS, "the caller at {own} Hz hears itself at {echo:.1} dBFS");
        for (talker, hz) in callers.iter().filter(|(_, hz)| hz != own) {
            let level = heard.level(*hz, stretch.from(), to);
            println!("{own} Hz hears {hz} Hz at {level:.1} dBFS");
            assert!(
                (level - TONE_DBFS).abs() < LEVEL_DB,
                "the caller at {own} Hz hears {hz} Hz at {level:.1} instead of {TONE_DBFS} dBFS"
            );
            stretch.was_heard(site, listener, talker, *hz, to);
        }
    }
}

fn three_callers_and_two_chats_are_one_room(site: Site) {
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    alice.create("lounge", json!({}));
    bob.join("lounge");
    let mark = alice.mark();
    let carol = site.caller("carol");
    let dave = site.caller_as("dave", Options { tcp: true, ..Options::default() });
    let erin = site.caller_as("erin", Options { codecs: Some("pcmu"), ..Options::default() });
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    erin.call("lounge", 1400.0);

    // Chat sees each caller come, as an occupant of its own.
    let nicks = alice.sees_callers(mark, 3);
    assert_eq!(nicks.len(), 3, "{nicks:?}");

    // Chat works meanwhile.
    let mark = bob.mark();
    alice.say("lounge", "can everybody hear?");
    assert_eq!(bob.reads(mark, "can everybody hear?"), "alice");

    pause(Duration::from_secs(1));
    let stretch = Stretch::begin(&site);
    pause(LISTEN);
    let to = monotonic() - 0.2;
    let callers = [(&carol, 600.0), (&dave, 1000.0), (&erin, 1400.0)];
    hear_each_other(&site, &callers, &stretch, to);
    let value = |name: &str| site.cusaxd.metric(name, "");
    println!(
        "concealed frames {}, mended from FEC {}",
        value("cusax_concealed_frames_total"),
        value("cusax_fec_frames_total"),
    );

    // Somebody who joins the chat later finds the callers there.
    let late = site.chat("dave").join("lounge");
    let occupants = late["occupants"].as_array().expect("a list");
    for nick in &nicks {
        assert!(occupants.iter().any(|one| one["nick"] == nick.as_str()), "{nick} is missing");
    }

    // Hanging up takes the occupant away, and the sound.
    let mark = alice.mark();
    dave.hangup();
    let gone = alice.wait(mark, "the caller to leave", |event| {
        event["ev"] == "presence" && event["type"] == "unavailable"
    });
    assert!(nicks.contains(&gone["nick"].as_str().expect("a nick").to_owned()));
    pause(Duration::from_secs(1));
    let now = monotonic();
    assert!(carol.heard().level(1000.0, now - 0.6, now - 0.1) < SILENT_DBFS);
}

/// Shows that the recordings do tell a gap, and that the mixer does not play it catching up.
#[test]
fn a_mixer_that_stands_still_is_a_gap_and_goes_on() {
    let Some(site) = Site::start("a_mixer_that_stands_still_is_a_gap_and_goes_on") else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    pause(Duration::from_secs(2));
    let from = monotonic();
    site.cusaxd.freeze(STOP);
    let again = monotonic();
    pause(Duration::from_secs(4));
    let to = monotonic() - 0.2;
    let heard = dave.heard();
    let gap = heard.longest_gap(600.0, from, again + 1.0);
    println!("{} ms of standing still are {:.0} ms of silence", STOP.as_millis(), gap * 1e3);
    // The phone had 100 ms of it in its buffer.
    assert!((0.2..0.6).contains(&gap), "a gap of {gap:.3} s");
    assert!(site.cusaxd.metric("cusax_mix_late_ticks_total", "") >= 1.0, "it says nothing of it");
    assert!(heard.longest_gap(600.0, again + 1.0, to) <= NO_GAP, "it does not recover");
    assert!((heard.level(600.0, again + 1.0, to) - TONE_DBFS).abs() < LEVEL_DB);
}

#[test]
fn phones_on_ipv6_are_heard() {
    if UdpSocket::bind((Loopback::V6.address(), 0)).is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let plan = Plan { phones: Loopback::V6, ..Plan::default() };
    let Some(site) = Site::start_as("phones_on_ipv6_are_heard", plan) else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let carol = site.caller("carol");
    let dave = site.caller_as("dave", Options { tcp: true, ..Options::default() });
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    let answer = carol.answer();
    assert!(answer.contains("c=IN IP6 ::1"), "{answer}");
    pause(Duration::from_secs(1));
    let stretch = Stretch::begin(&site);
    pause(Duration::from_secs(3));
    let to = monotonic() - 0.2;
    hear_each_other(&site, &[(&carol, 600.0), (&dave, 1000.0)], &stretch, to);
    let mark = carol.mark();
    alice.tell("destroy", json!({ "room": room("lounge"), "reason": "enough" }));
    carol.ended(mark, Duration::from_secs(5));
}

#[test]
fn a_held_call_is_silent_both_ways_and_comes_back() {
    let Some(site) = Site::start("a_held_call_is_silent_both_ways_and_comes_back") else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    pause(Duration::from_secs(2));
    let held = carol.tell("hold", json!({}))["t"].as_f64().expect("a time");
    pause(Duration::from_secs(2));
    let back = carol.tell("resume", json!({}))["t"].as_f64().expect("a time");
    pause(Duration::from_secs(3));
    let heard = dave.heard();
    assert!(heard.level(600.0, held - 1.0, held - 0.2) > TONE_DBFS - LEVEL_DB);
    assert!(heard.level(600.0, held + 0.5, back) < SILENT_DBFS);
    assert!(heard.level(600.0, back + 1.0, back + 2.5) > TONE_DBFS - LEVEL_DB);
    // The room stays one: chat sees the same occupants as before.
    let people = site.cusaxd.room("lounge");
    assert_eq!(people["people"].as_array().map(Vec::len), Some(3), "{people}");
}

#[test]
fn keys_are_not_heard_and_do_not_end_the_call() {
    let Some(site) = Site::start("keys_are_not_heard_and_do_not_end_the_call") else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    pause(Duration::from_secs(1));
    let from = monotonic();
    carol.tell("dtmf", json!({ "digits": "159#" }));
    pause(Duration::from_secs(2));
    let heard = dave.heard();
    // The row of the 1 and the column of the 1 in a keypad, to the next 200 Hz.
    for hz in [800.0, 1200.0] {
        assert!(heard.level(hz, from, monotonic() - 0.1) < SILENT_DBFS, "{hz} Hz is heard");
    }
    assert_eq!(site.cusaxd.room("lounge")["people"].as_array().map(Vec::len), Some(3));
    assert_eq!(alice.tell("items", json!({ "jid": room("lounge") }))["ok"], true);
}
