//! What breaks, and what does not break with it.

use std::time::Duration;

use serde_json::json;

use crate::{
    baresip::{Caller, TONE_DBFS},
    recording::SILENT_DBFS,
    site::{CHAT, Plan, Site, behind_each_server, room},
    steady::Stretch,
    wait::{PATIENCE, monotonic, pause, until},
};

behind_each_server!(Plan::default() => a_restart_of_the_server_and_the_call_goes_on, killed_and_started_again_rooms_members_and_bans_are_there);

fn a_restart_of_the_server_and_the_call_goes_on(mut site: Site) {
    let (alice, bob) = (site.chat("alice"), site.chat("bob"));
    alice.create("lounge", json!({ "muc#roomconfig_persistentroom": true }));
    bob.join("lounge");
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    pause(Duration::from_secs(1));
    let stretch = Stretch::begin(&site);

    let (first, second) = (alice.mark(), bob.mark());
    site.server.stop();
    alice.wait(first, "the loss of the connection", |event| event["ev"] == "disconnected");
    bob.wait(second, "the loss of the connection", |event| event["ev"] == "disconnected");
    until("cusaxd to say that chat is down", PATIENCE, || {
        (site.cusaxd.get("/health/ready").status == 503).then_some(())
    });
    pause(Duration::from_secs(2));
    site.server.start_again();
    let back = monotonic();
    site.cusaxd.ready();
    println!("the component was back {:.1} s after the server listened", monotonic() - back);

    // Alice comes back to the room that is still hers, and finds both callers; bob stays away.
    alice.go_online();
    let joined = alice.join("lounge");
    assert_eq!(joined["own"]["affiliation"], "owner");
    let occupants = joined["occupants"].as_array().expect("a list").clone();
    let callers = occupants.iter().filter(|one| one["nick"] != "alice" && one["nick"] != "bob");
    assert_eq!(callers.count(), 2, "{occupants:?}");

    // Bob's session died with the server: both sides must come to see that.
    until("bob to be found gone", Duration::from_secs(60), || {
        let people = site.cusaxd.room("lounge");
        (people["people"].as_array()?.len() == 3).then_some(())
    });
    let to = monotonic() - 0.2;
    stretch.was_heard(&site, &carol, &dave, 1000.0, to);
    stretch.was_heard(&site, &dave, &carol, 600.0, to);
    // Chat moderates the same call as before.
    let nick = occupants.iter().find(|one| one["nick"] != "alice" && one["nick"] != "bob");
    let nick = nick.and_then(|one| one["nick"].as_str()).expect("a caller");
    alice.role("lounge", nick, "visitor");
    pause(Duration::from_secs(1));
    let now = monotonic();
    let silent =
        |phone: &Caller, hz: f64| phone.heard().first_heard(hz, now - 0.5, now - 0.1).is_none();
    assert!(silent(&dave, 600.0) ^ silent(&carol, 1000.0), "one of the two is muted");
}

fn killed_and_started_again_rooms_members_and_bans_are_there(mut site: Site) {
    let alice = site.chat("alice");
    let fields = json!({
        "muc#roomconfig_persistentroom": true,
        "muc#roomconfig_roomname": "The Lounge",
        "muc#roomconfig_membersonly": true,
    });
    alice.create("lounge", fields);
    alice.affiliation("lounge", &format!("bob@{CHAT}"), "member");
    alice.affiliation("lounge", &format!("carol@{CHAT}"), "outcast");
    site.cusaxd.kill();
    site.cusaxd.start_again();
    let joined = alice.join("lounge");
    assert_eq!(joined["own"]["affiliation"], "owner", "{joined}");
    assert!(!joined["own"]["codes"].as_array().expect("a list").contains(&json!(201)));
    let list = |affiliation: &str| {
        let fields = json!({ "room": room("lounge"), "affiliation": affiliation });
        alice.tell("affiliations", fields)["jids"].clone()
    };
    assert_eq!(list("member"), json!([format!("bob@{CHAT}")]));
    assert_eq!(list("outcast"), json!([format!("carol@{CHAT}")]));
    let config = alice.tell("config", json!({ "room": room("lounge") }));
    assert_eq!(config["fields"]["muc#roomconfig_roomname"], "The Lounge", "{config}");
    assert_eq!(site.chat("bob").join("lounge")["own"]["affiliation"], "member");
    assert_eq!(site.chat("carol").try_join("lounge", None).unwrap_err(), "forbidden");
    assert_eq!(site.chat("dave").try_join("lounge", None).unwrap_err(), "registration-required");
}

#[test]
fn killed_under_a_call_it_takes_the_next_and_ends_the_old() {
    let Some(mut site) = Site::start("killed_under_a_call_it_takes_the_next_and_ends_the_old")
    else {
        return;
    };
    let alice = site.chat("alice");
    alice.create("lounge", json!({ "muc#roomconfig_persistentroom": true }));
    let (carol, dave, erin) = (site.caller("carol"), site.caller("dave"), site.caller("erin"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    pause(Duration::from_secs(1));
    site.cusaxd.kill();
    site.cusaxd.start_again();
    // Chat learns that it is no longer inside (XEP-0410), and comes back to an empty room.
    let refused = alice.attempt("ping", json!({ "jid": format!("{}/alice", room("lounge")) }));
    assert_eq!(refused.unwrap_err(), "not-acceptable");
    let joined = alice.join("lounge");
    assert_eq!(joined["own"]["affiliation"], "owner", "{joined}");
    assert_eq!(joined["occupants"].as_array().map(Vec::len), Some(1), "{joined}");
    // Carol hangs up what is no more, and calls again; dave's phone still sends to a dead call.
    let mark = carol.mark();
    carol.hangup();
    until("the answer to a BYE of another life", PATIENCE, || {
        let answers = carol.messages(mark, "RX");
        answers.iter().any(|answer| answer.starts_with("SIP/2.0 481")).then_some(())
    });
    carol.call("lounge", 600.0);
    erin.call("lounge", 1400.0);
    pause(Duration::from_secs(3));
    let now = monotonic();
    let heard = erin.heard();
    assert!(heard.level(600.0, now - 1.5, now - 0.2) > TONE_DBFS - 3.0);
    assert!(heard.level(1000.0, now - 1.5, now - 0.2) < SILENT_DBFS, "a dead call is heard");
    dave.hangup();
    dave.call("lounge", 1000.0);
    pause(Duration::from_secs(2));
    let now = monotonic();
    assert!(erin.heard().level(1000.0, now - 0.8, now - 0.2) > TONE_DBFS - 3.0);
}

#[test]
fn asked_to_stop_it_says_goodbye_and_ends_well() {
    let Some(mut site) = Site::start("asked_to_stop_it_says_goodbye_and_ends_well") else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let carol = site.caller("carol");
    carol.call("lounge", 600.0);
    let mark = carol.mark();
    let status = site.cusaxd.terminate();
    assert_eq!(status.code(), Some(0), "{}", site.cusaxd.log());
    carol.ended(mark, Duration::from_secs(5));
}
