//! What moderators do in chat happens to the call.

use std::time::Duration;

use serde_json::json;

use crate::{
    baresip::{Options, TONE_DBFS, header},
    cusaxd::PROMPT,
    recording::{AUDIBLE_DBFS, SILENT_DBFS},
    rtp::Sink,
    sipp::Scenario,
    site::{CHAT, Plan, Site, behind_each_server, room},
    steady::Stretch,
    wait::{PATIENCE, monotonic, pause, until},
};

behind_each_server!(Plan::default() => a_muted_caller_is_not_heard_until_voice_is_granted, a_kick_from_chat_ends_the_call_with_a_reason, a_destroyed_room_hangs_up_on_everybody);
behind_each_server!(Plan::with_directory() => a_mute_survives_hanging_up_and_dialling_again, a_ban_from_chat_ends_the_call_and_refuses_the_next, one_person_in_chat_and_on_the_phone_is_one_occupant_with_a_hat);

fn a_muted_caller_is_not_heard_until_voice_is_granted(site: Site) {
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let mark = alice.mark();
    let carol = site.caller("carol");
    carol.call("lounge", 600.0);
    let nick = alice.sees_callers(mark, 1).remove(0);
    let (dave, erin) = (site.caller("dave"), site.caller("erin"));
    dave.call("lounge", 1000.0);
    erin.call("lounge", 1400.0);
    pause(Duration::from_secs(2));

    let stretch = Stretch::begin(&site);
    let mark = alice.mark();
    let muted = alice.role("lounge", &nick, "visitor");
    alice.sees(mark, &nick, "as visitor", |event| event["role"] == "visitor");
    pause(Duration::from_secs(2));
    let granted = alice.role("lounge", &nick, "participant");
    pause(Duration::from_secs(2));
    for listener in [&dave, &erin] {
        let heard = listener.heard();
        assert!(heard.level(600.0, muted - 1.0, muted - 0.1) > TONE_DBFS - 3.0);
        let last = heard.last_heard(600.0, muted - 1.0, granted).expect("it was heard before");
        let back = heard.first_heard(600.0, granted, granted + 2.0).expect("it is heard again");
        println!(
            "last heard {:.0} ms after the mute, back {:.0} ms after the grant",
            (last - muted) * 1e3,
            (back - granted) * 1e3
        );
        assert!(last - muted < PROMPT.as_secs_f64(), "heard {:.3} s on", last - muted);
        assert!(back - granted < PROMPT.as_secs_f64(), "back only after {:.3} s", back - granted);
        assert!(heard.level(600.0, last + 0.05, granted) < SILENT_DBFS);
    }
    // The muted caller heard the others all along.
    stretch.was_heard(&site, &carol, &dave, 1000.0, granted + 1.0);
}

#[test]
fn after_a_mute_no_packet_holds_the_voice() {
    let Some(site) = Site::start("after_a_mute_no_packet_holds_the_voice") else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let mark = alice.mark();
    let carol = site.caller("carol");
    carol.call("lounge", 600.0);
    let nick = alice.sees_callers(mark, 1).remove(0);
    let sink = Sink::bind(true);
    let port = sink.port.to_string();
    let keys = [("who", "listener"), ("sink", port.as_str()), ("milliseconds", "14000")];
    let Some(call) = Scenario::start(&site, "listener", "lounge", false, &keys) else { return };
    until("the voice on the wire", PATIENCE, || {
        sink.last_heard(600.0, AUDIBLE_DBFS, 0.0, f64::MAX)
    });
    let mut delays = Vec::new();
    for _ in 0..5 {
        pause(Duration::from_millis(700));
        let asked = monotonic();
        let confirmed = alice.role("lounge", &nick, "visitor");
        pause(Duration::from_secs(1));
        let now = monotonic();
        let last = sink.last_heard(600.0, AUDIBLE_DBFS, asked - 0.5, now).expect("it was heard");
        // Not even quietly, and the stream goes on.
        let quiet = sink.last_heard(600.0, SILENT_DBFS, asked - 0.5, now).expect("it was heard");
        assert!(quiet - last <= 0.041, "it faded for {:.3} s", quiet - last);
        assert!(sink.count(last + 0.1, now) >= 20, "nothing is sent any more");
        delays.push(((last - asked) * 1e3, (last - confirmed) * 1e3));
        alice.role("lounge", &nick, "participant");
    }
    let (count, sum) = (
        site.cusaxd.metric("cusax_mirror_seconds_count", ""),
        site.cusaxd.metric("cusax_mirror_seconds_sum", ""),
    );
    println!("from the command to the mixer: {:.2} ms in the mean of {count}", sum / count * 1e3);
    for (asked, confirmed) in &delays {
        println!(
            "last audible packet {asked:.0} ms after the wish, {confirmed:.0} after the answer"
        );
    }
    // One frame may be under way when the room answers; the rest is this machine's load.
    assert!(delays.iter().all(|(_, confirmed)| *confirmed < 100.0), "{delays:?}");
    call.passes(Duration::from_secs(30));
}

fn a_mute_survives_hanging_up_and_dialling_again(site: Site) {
    let (alice, carol) = (site.chat("alice"), site.chat("carol"));
    alice.create("lounge", json!({}));
    carol.join("lounge");
    let phone = site.caller_as("carol", Options::known("carol"));
    let dave = site.caller_as("dave", Options::known("dave"));
    dave.call("lounge", 1000.0);
    phone.call("lounge", 600.0);
    pause(Duration::from_secs(1));
    alice.role("lounge", "carol", "visitor");
    phone.hangup();
    let again = phone.call("lounge", 600.0);
    pause(Duration::from_secs(3));
    // What the listener's phone still had in its buffer was said before the first call ended.
    let heard = dave.heard();
    assert_eq!(heard.first_heard(600.0, again + PROMPT.as_secs_f64(), again + 2.5), None);
    let granted = alice.role("lounge", "carol", "participant");
    pause(Duration::from_secs(2));
    assert!(dave.heard().first_heard(600.0, granted, granted + 2.0).is_some());
}

fn a_kick_from_chat_ends_the_call_with_a_reason(site: Site) {
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let mark = alice.mark();
    let carol = site.caller("carol");
    carol.call("lounge", 600.0);
    let nick = alice.sees_callers(mark, 1).remove(0);
    let (mark, phone) = (alice.mark(), carol.mark());
    alice.role("lounge", &nick, "none");
    let bye = carol.ended(phone, Duration::from_secs(5));
    let reason = header(&bye, "Reason").expect("a kick has a reason");
    assert!(reason.starts_with("SIP") && reason.contains("cause=603"), "{reason}");
    assert!(reason.contains("as asked"), "the moderator's own words: {reason}");
    let gone = alice.sees_gone(mark, &nick, Duration::from_secs(5));
    assert!(gone["codes"].as_array().expect("a list").contains(&json!(307)), "{gone}");
    // A kick is for now: dialling again is allowed.
    carol.call("lounge", 600.0);
}

fn a_ban_from_chat_ends_the_call_and_refuses_the_next(site: Site) {
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let carol = site.caller_as("carol", Options::known("carol"));
    carol.call("lounge", 600.0);
    let phone = carol.mark();
    alice.affiliation("lounge", &format!("carol@{CHAT}"), "outcast");
    let bye = carol.ended(phone, Duration::from_secs(5));
    let reason = header(&bye, "Reason").expect("a ban has a reason");
    assert!(reason.contains("cause=403"), "{reason}");
    assert_eq!(carol.refused("lounge"), 403);
    assert_eq!(site.chat("carol").try_join("lounge", None).unwrap_err(), "forbidden");
    let banned =
        alice.tell("affiliations", json!({ "room": room("lounge"), "affiliation": "outcast" }));
    assert_eq!(banned["jids"], json!([format!("carol@{CHAT}")]));
    alice.affiliation("lounge", &format!("carol@{CHAT}"), "none");
    carol.call("lounge", 600.0);
}

fn one_person_in_chat_and_on_the_phone_is_one_occupant_with_a_hat(site: Site) {
    let (alice, carol) = (site.chat("alice"), site.chat("carol"));
    alice.create("lounge", json!({}));
    carol.join("lounge");
    let mark = alice.mark();
    let phone = site.caller_as("carol", Options::known("carol"));
    phone.call("lounge", 600.0);
    alice.sees(mark, "carol", "on the call", |event| {
        event["hats"].as_array().is_some_and(|hats| hats.contains(&json!("On the call")))
    });
    let shown = site.cusaxd.room("lounge");
    let people = shown["people"].as_array().expect("a list");
    assert_eq!(people.len(), 2, "{shown}");
    assert!(people.iter().any(|person| person["level"] == "both"), "{shown}");
    assert!(people.iter().any(|person| person["level"] == "chat"), "{shown}");
    // Muted in chat, and everybody sees it.
    let mark = alice.mark();
    alice.role("lounge", "carol", "visitor");
    alice.sees(mark, "carol", "muted", |event| {
        event["hats"].as_array().is_some_and(|hats| hats.contains(&json!("Muted")))
    });
    // Leaving chat does not end the call; hanging up does not end the chat.
    carol.tell("leave", json!({ "room": room("lounge"), "nick": "carol" }));
    until("carol to be there by phone alone", PATIENCE, || {
        let people = site.cusaxd.room("lounge")["people"].as_array().cloned()?;
        people.iter().any(|person| person["level"] == "audio").then_some(())
    });
    carol.join("lounge");
    let mark = alice.mark();
    phone.hangup();
    alice.sees(mark, "carol", "off the call", |event| {
        event["type"].is_null()
            && event["hats"].as_array().is_some_and(|hats| !hats.contains(&json!("On the call")))
    });
}

fn a_destroyed_room_hangs_up_on_everybody(site: Site) {
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    let marks = (carol.mark(), dave.mark());
    alice.tell("destroy", json!({ "room": room("lounge"), "reason": "moved next door" }));
    for (phone, mark) in [(&carol, marks.0), (&dave, marks.1)] {
        let bye = phone.ended(mark, Duration::from_secs(5));
        assert!(header(&bye, "Reason").is_some_and(|reason| reason.contains("cause=410")), "{bye}");
    }
    assert_eq!(carol.refused("lounge"), 404);
}
