//! A moderator with an ordinary web client.

use std::time::Duration;

use serde_json::json;

use crate::{
    baresip::{Options, TONE_DBFS},
    cusaxd::PROMPT,
    recording::SILENT_DBFS,
    site::{Plan, Site, behind_each_server, room},
    wait::{monotonic, pause},
};

behind_each_server!(Plan::with_directory() => a_moderator_mutes_a_phone_from_the_list_of_occupants);

fn a_moderator_mutes_a_phone_from_the_list_of_occupants(site: Site) {
    let Some(alice) = site.browser("alice") else { return };
    // The browser makes the room, as its user would by entering it.
    alice.join("lounge");
    alice.lists("alice", &["Owner", "Moderator"]);
    let (bob, carol) = (site.chat("bob"), site.chat("carol"));
    let joined = bob.join("lounge");
    let alice_there = joined["occupants"].as_array().expect("a list");
    assert!(alice_there.iter().any(|one| one["nick"] == "alice" && one["role"] == "moderator"));
    carol.join("lounge");
    let (mark, hers) = (bob.mark(), site.caller_as("carol", Options::known("carol")));
    hers.call("lounge", 1000.0);
    let dave = site.caller_as("dave", Options::known("dave"));
    dave.call("lounge", 600.0);
    let nick = bob.sees_callers(mark, 1).remove(0);

    alice.say("Good morning! Shall we begin?");
    assert_eq!(bob.reads(mark, "Good morning! Shall we begin?"), "alice");
    bob.say("lounge", "Somebody types very near to a microphone …");
    alice.shows("Somebody types very near to a microphone …");
    // Who is in the chat and on the phone is one entry of the list; who has a phone alone is one too.
    alice.open("carol");
    alice.badges(&["Participant", "On the call"]);
    alice.back();
    alice.lists(&nick, &[]);
    alice.open(&nick);
    alice.badges(&["Participant", "On the call", "By phone"]);

    pause(Duration::from_secs(1));
    alice.choose_role("visitor", "noise");
    alice.screenshot("converse-role", &site.dir);
    let muted = alice.change_role("visitor");
    // The pane of an occupant does not follow what happens to them; the list does.
    alice.back();
    alice.lists(&nick, &["Visitor"]);
    alice.open(&nick);
    alice.badges(&["Visitor", "On the call", "Muted", "By phone"]);
    carol.say("lounge", "Thank you, much better.");
    alice.shows("Thank you, much better.");
    alice.screenshot("converse-muted", &site.dir);
    pause(Duration::from_secs(1));
    let (now, heard) = (monotonic(), hers.heard());
    assert!(heard.level(600.0, muted - 1.5, muted - 0.5) > TONE_DBFS - 3.0, "heard before");
    let silent = muted + PROMPT.as_secs_f64();
    assert!(heard.level(600.0, silent, now - 0.1) < SILENT_DBFS, "heard after the mute");

    alice.choose_role("participant", "");
    let granted = alice.change_role("participant");
    alice.back();
    alice.lists(&nick, &[]);
    pause(Duration::from_secs(1));
    let back = hers.heard().first_heard(600.0, granted - 0.5, monotonic());
    assert!(back.is_some_and(|back| back < granted + PROMPT.as_secs_f64()), "{back:?}");
    let mark = bob.mark();
    dave.hangup();
    bob.sees_gone(mark, &nick, Duration::from_secs(5));
    bob.tell("leave", json!({ "room": room("lounge"), "nick": "bob" }));
}
