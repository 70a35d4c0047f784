//! The same rooms behind ejabberd.

use std::time::Duration;

use serde_json::json;

use crate::{
    baresip::TONE_DBFS,
    site::{Plan, ROOMS, Server, Site, room},
    wait::{monotonic, pause},
};

#[test]
fn one_room_behind_ejabberd() {
    let plan = Plan { server: Server::Ejabberd, ..Plan::default() };
    let Some(mut site) = Site::start_as("one_room_behind_ejabberd", plan) else { return };
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    alice.create("lounge", json!({}));
    bob.join("lounge");
    let mark = alice.mark();
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    let nick = alice.sees_callers(mark, 1).remove(0);
    dave.call("lounge", 1000.0);
    let mark = bob.mark();
    alice.say("lounge", "hello from the other server");
    assert_eq!(bob.reads(mark, "hello from the other server"), "alice");
    pause(Duration::from_secs(2));
    let now = monotonic();
    assert!(dave.heard().level(600.0, now - 1.0, now - 0.2) > TONE_DBFS - 3.0);
    let info = alice.tell("disco", json!({ "jid": room("lounge") }));
    assert_eq!(info["form"]["audio-video-uri"], json!(["sip:lounge@conf.test"]));
    assert_eq!(
        alice.tell("items", json!({ "jid": ROOMS }))["items"].as_array().map(Vec::len),
        Some(1)
    );
    let mark = carol.mark();
    alice.role("lounge", &nick, "none");
    carol.ended(mark, Duration::from_secs(5));
    // What is too deep for the link is refused, and the link stays.
    let nested = "<a>".repeat(100) + &"</a>".repeat(100);
    let stanza = format!("<message to='{}' type='groupchat'>{nested}</message>", room("lounge"));
    bob.tell("raw", json!({ "xml": stanza }));
    bob.tell("disco", json!({ "jid": room("lounge") }));
    assert!(site.cusaxd.alive());
}
