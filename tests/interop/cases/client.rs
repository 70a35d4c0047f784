//! Our client: two people with `cusax` and one with a plain phone, in one list.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use serde_json::json;

use crate::{
    baresip::{Caller, Options, TONE_DBFS},
    cusax::{Cusax, cusax, login, run, screen},
    recording::SILENT_DBFS,
    site::{CHAT, Plan, Site, installed, password},
    wait::pause,
};

fn site(test: &str) -> Option<Site> {
    let site = Site::start_as(test, Plan { auth: "trusted", proxy: true, ..Plan::default() })?;
    for user in ["alice", "bob"] {
        site.cusaxd.enroll(user, &format!("sip:{user}@sip.test"), &password(user));
    }
    Some(site)
}

/// Dave's phone, behind Kamailio.
fn phone(site: &Site) -> Caller {
    let behind = Options {
        proxy: Some(site.ports.proxy),
        domain: Some("sip.test"),
        password: Some(password("dave")),
        ..Options::default()
    };
    site.caller_as("dave", behind)
}

fn audible(level: f64) -> bool {
    (level - TONE_DBFS).abs() < 3.0
}

fn silent(level: f64) -> bool {
    level < SILENT_DBFS
}

#[test]
fn two_with_cusax_and_a_phone_are_one_list_and_hear_each_other() {
    let test = "two_with_cusax_and_a_phone_are_one_list_and_hear_each_other";
    let Some(mut site) = site(test) else { return };
    let erin = site.chat("erin");
    erin.create("lounge", json!({}));
    erin.affiliation("lounge", &format!("alice@{CHAT}"), "admin");
    let alice = Cusax::join(&site, "alice", "Alice", 600.0, &[]);
    let bob = Cusax::join(&site, "bob", "Bob", 1000.0, &[]);
    let dave = phone(&site);
    dave.call("lounge", 1400.0);

    // One list, the same for both: who reads, who hears, who does both.
    let open = Some("open");
    let everybody = [
        ("Alice", "both", open),
        ("Bob", "both", open),
        ("dave (phone)", "audio", open),
        ("erin", "text", None),
    ];
    for one in [&alice, &bob] {
        let list = one.lists(&everybody);
        let own = list.as_array().expect("a list").iter().filter(|one| one["own"] == true);
        assert_eq!(own.count(), 1, "{list}");
    }

    // All hear all others and nobody themselves.
    for (one, hears, own) in [(&alice, [1000.0, 1400.0], 600.0), (&bob, [600.0, 1400.0], 1000.0)] {
        for hz in hears {
            let level = one.waits_to_hear(hz, audible);
            println!("{own} Hz hears {hz} Hz at {level:.1} dBFS");
        }
        let echo = one.hears(own);
        assert!(silent(echo), "{own} Hz hears itself at {echo:.1} dBFS");
    }

    // What is typed is read.
    alice.write("can everybody read?");
    bob.wait(0, "what Alice says", |event| {
        event["event"] == "message"
            && event["from"] == "Alice"
            && event["text"] == "can everybody read?"
    });

    // A moderator mutes from the list: the sound is gone, and who is muted knows why.
    let mark = bob.mark();
    alice.write("/silence Bob");
    bob.wait(mark, "to be told of the mute", |event| {
        event["event"] == "muted" && event["by"] == json!(["no voice in the room"])
    });
    alice.waits_to_hear(1000.0, silent);
    assert!(audible(alice.hears(1400.0)), "the phone is heard on");
    let mark = alice.mark();
    bob.write("/hand");
    erin.wait(0, "the hand", |event| event["ev"] == "presence" || event["ev"] == "message");
    alice.write("/voice Bob");
    alice.wait(mark, "Bob to be open again", |event| {
        let list = event["people"].as_array();
        list.is_some_and(|list| {
            list.iter().any(|one| one["name"] == "Bob" && one["voice"] == "open")
        })
    });
    alice.waits_to_hear(1000.0, audible);
    // By oneself.
    bob.write("/mute");
    alice.waits_to_hear(1000.0, silent);
    bob.write("/mute");
    alice.waits_to_hear(1000.0, audible);

    // Chat is lost and the call goes on; it comes back by itself.
    let mark = alice.mark();
    site.server.stop();
    alice.wait(mark, "chat to be lost", |event| {
        event["event"] == "connection" && event["side"] == "Chat" && event["up"] == false
    });
    pause(Duration::from_secs(2));
    assert!(audible(alice.hears(1400.0)), "the call goes on without chat");
    site.server.start_again();
    site.cusaxd.ready();
    alice.wait(mark, "chat to be back", |event| {
        event["event"] == "connection" && event["side"] == "Chat" && event["up"] == true
    });
    alice.wait(mark, "the list to be whole again", |event| {
        let list = event["people"].as_array();
        list.is_some_and(|list| {
            list.iter().any(|one| one["name"] == "Alice" && one["level"] == "both")
        })
    });
    assert_eq!(alice.quit(), Some(0));
    assert_eq!(bob.quit(), Some(0));
}

/// The list in a terminal, with keys. `UPDATE_EXPECT=1` makes the picture in the README of it.
#[test]
fn a_room_and_its_call_are_one_screen() {
    let Some(site) = site("a_room_and_its_call_are_one_screen") else { return };
    if installed(&["tmux"]).is_none() {
        return;
    }
    let erin = site.chat("erin");
    erin.create("lounge", json!({}));
    erin.affiliation("lounge", &format!("alice@{CHAT}"), "admin");
    let dave = phone(&site);
    dave.call("lounge", 1400.0);
    let bob = Cusax::join(&site, "bob", "Bob", 1000.0, &[]);
    let alice = screen(&site, "alice", "Alice", 600.0);
    let line = |screen: &str, who: &str| {
        screen.lines().find(|line| line.contains(who)).unwrap_or_default().to_owned()
    };
    alice.shows_like("everybody, with what they get", |screen| {
        let has = |who, what: &str| line(screen, who).contains(what);
        has("Alice (you)", "both")
            && has("Bob", "both")
            && has("dave (phone)", "audio")
            && has("erin", "text")
    });
    erin.say("lounge", "Tea at five?");
    alice.shows("erin: Tea at five?");
    alice.types("Good idea. Bob, your kettle is loud.");
    bob.wait(0, "what Alice types", |event| {
        event["text"] == "Good idea. Bob, your kettle is loud."
    });
    // Down to Bob, and his voice is gone.
    alice.presses("Down");
    alice.shows_like("Bob to be chosen", |screen| line(screen, "Bob").starts_with('>'));
    alice.presses("C-s");
    alice.shows_like("Bob to be muted", |screen| line(screen, "Bob").contains("muted"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let title = "cusax join: a room and its call as one list, in a terminal";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images/cusax-join.svg");
        std::fs::write(path, alice.picture(100, title)).expect("the picture is ours");
    }
    alice.presses("C-t");
    alice.shows("not heard: by yourself");
    alice.presses("C-q");
    let own = |event: &serde_json::Value| {
        let list = event["people"].as_array().expect("a list of people");
        !list.iter().any(|one| one["name"] == "Alice")
    };
    let mark = bob.mark();
    bob.wait(mark.saturating_sub(1), "Alice to be gone", |event| {
        event["people"].is_array() && own(event)
    });
}

#[test]
fn what_is_wrong_is_said_and_told_by_the_exit_code() {
    let Some(mut site) = site("what_is_wrong_is_said_and_told_by_the_exit_code") else { return };
    let (code, said) = login(&site, "alice", "Alice", "wrong");
    assert_eq!(code, Some(0), "{said}");
    let file = site.dir.join("alice.json");
    let mode = file.metadata().expect("login wrote it").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let join =
        |site: &Site, room: &str| run(cusax(site, "alice").args(["join", room, "--json"]), "");
    let (code, said) = join(&site, "lounge");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("wrong name or password"), "{said}");
    login(&site, "alice", "Alice", &password("alice"));
    let (code, said) = join(&site, "nowhere");
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("there is no room"), "{said}");
    let call = run(cusax(&site, "alice").args(["call", "sip:nobody@sip.test", "--json"]), "");
    assert_eq!(call.0, Some(4), "{}", call.1);
    assert!(call.1.contains("nobody there"), "{}", call.1);
    // Who is not there is no contact, and a number may cost.
    let call = run(cusax(&site, "alice").args(["call", "bob@chat.test", "--json"]), "");
    assert_eq!(call.0, Some(4), "{}", call.1);
    let (code, said) = run(cusax(&site, "alice").args(["contacts"]), "");
    assert_eq!(code, Some(0), "{said}");
    // The servers are gone.
    site.kamailio = None;
    let call = run(cusax(&site, "alice").args(["call", "sip:x@sip.test", "--json"]), "");
    assert_eq!(call.0, Some(5), "{}", call.1);
    assert!(call.1.contains("cannot be reached"), "{}", call.1);
    site.server.stop();
    let join = join(&site, "lounge");
    assert_eq!(join.0, Some(5), "{}", join.1);
    // Who has not logged in is told how to.
    let nobody = run(cusax(&site, "bob").args(["contacts"]), "");
    assert_eq!(nobody.0, Some(1), "{}", nobody.1);
    assert!(nobody.1.contains("cusax login"), "{}", nobody.1);
}
