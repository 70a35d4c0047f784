//! A room at a terminal.

use std::time::Duration;

use serde_json::json;

use crate::site::{Plan, ROOMS, Site, behind_each_server, room};

behind_each_server!(Plan::default() => profanity_joins_chats_and_kicks);

fn profanity_joins_chats_and_kicks(site: Site) {
    let Some(alice) = site.terminal("alice") else { return };
    let bob = site.chat("bob");
    alice.types(&format!("/join lounge@{ROOMS}"));
    alice.shows("Room locked, requires configuration");
    alice.types("/room accept");
    alice.shows("Room unlocked");
    let mark = bob.mark();
    let joined = bob.join("lounge");
    assert_eq!(joined["occupants"][0]["nick"], "alice", "{joined}");
    alice.shows("bob has joined the room");

    alice.types("Is anybody here?");
    assert_eq!(bob.reads(mark, "Is anybody here?"), "alice");
    bob.say("lounge", "I am.");
    alice.shows("bob: I am.");
    alice.types("/subject set \"Tea at five\"");
    bob.wait(mark, "the subject", |event| event["subject"] == "Tea at five");
    alice.shows("alice has set the room subject: Tea at five");

    // A caller stands in the list of occupants like anybody else.
    let carol = site.caller("carol");
    carol.call("lounge", 600.0);
    let nick = bob.sees_callers(mark, 1).remove(0);
    alice.shows(&format!("{nick} has joined the room"));

    let phone = carol.mark();
    alice.types(&format!("/kick \"{nick}\" enough"));
    carol.ended(phone, Duration::from_secs(5));
    alice.shows(&format!("{nick} has been kicked from the room"));
    alice.types("/kick bob time to go");
    let gone = bob.sees_gone(mark, "bob", Duration::from_secs(5));
    assert!(gone["codes"].as_array().expect("a list").contains(&json!(307)), "{gone}");
    assert_eq!(gone["reason"], "time to go");
    alice.shows("bob has been kicked from the room");
    let left = site.cusaxd.room("lounge");
    assert_eq!(left["people"].as_array().map(Vec::len), Some(1), "{left}");
    let refused = bob.attempt("ping", json!({ "jid": format!("{}/bob", room("lounge")) }));
    assert_eq!(refused.unwrap_err(), "not-acceptable");
}
