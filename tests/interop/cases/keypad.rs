//! What callers do by keys, and what they are told.

use std::time::Duration;

use serde_json::json;

use crate::{
    baresip::TONE_DBFS,
    cusaxd::PROMPT,
    linphone::Linphone,
    recording::SILENT_DBFS,
    sipp::Scenario,
    site::{Plan, Site},
    slixmpp::hats,
    wait::{monotonic, pause},
};

/// A moderator in the chat mutes a caller; the caller raises a hand by keypad, which asks the moderator
/// for voice; the moderator grants it. What is heard and what both rosters say follows.
#[test]
fn a_hand_raised_by_keypad_is_granted_in_the_chat() {
    let test = "a_hand_raised_by_keypad_is_granted_in_the_chat";
    let plan = Plan { prompts: true, ..Plan::default() };
    let Some(site) = Site::start_as(test, plan) else { return };
    let alice = site.chat("alice");
    alice.create("conflounge", json!({}));
    let erin = site.caller("erin");
    erin.call("conflounge", 1000.0);
    let mark = alice.mark();
    let Some(mut dave) = Linphone::playing("dave", 600.0, &site) else { return };
    dave.call(&format!("sip:conflounge@127.0.0.1:{}", site.ports.sip));
    let nick = "dave (phone)";
    alice.sees(mark, nick, "on the call", |event| hats(event).contains(&"On the call".to_owned()));
    let Some(watcher) =
        Scenario::start(&site, "subscribe", "conflounge", true, &[("who", "watcher")])
    else {
        return;
    };
    pause(Duration::from_secs(3));

    let mark = alice.mark();
    let muted = alice.role("conflounge", nick, "visitor");
    alice.sees(mark, nick, "muted", |event| hats(event).contains(&"Muted".to_owned()));
    pause(Duration::from_secs(2));
    let mark = alice.mark();
    dave.tell("dtmf", json!({ "digits": "*9" }));
    alice.sees(mark, nick, "with a hand up", |event| {
        event["role"] == "visitor" && hats(event).contains(&"Hand raised".to_owned())
    });
    let request = alice
        .wait(mark, "a voice request", |event| event["ev"] == "message" && event["voice"] == nick);
    assert_eq!(request["type"], json!(null), "{request}");
    pause(Duration::from_secs(2));
    let mark = alice.mark();
    let granted = alice.grant_voice("conflounge", nick);
    alice.sees(mark, nick, "free to speak", |event| {
        let hats = hats(event);
        event["role"] == "participant" && hats == ["On the call", "By phone"]
    });
    pause(Duration::from_secs(3));

    let heard = erin.heard();
    let before = heard.level(600.0, muted - 1.0, muted - 0.1);
    assert!(before > TONE_DBFS - 6.0, "{before}");
    let silent = heard.level(600.0, muted + PROMPT.as_secs_f64(), granted);
    assert!(silent < SILENT_DBFS, "{silent}");
    let after = heard.level(600.0, granted + 1.0, granted + 2.5);
    assert!(after > TONE_DBFS - 6.0, "{after}");

    let documents = watcher.passes(Duration::from_secs(60)).documents();
    let status = |document: &str| {
        let (_, user) = document.split_once("dave (phone)").expect("dave is in it");
        let user = user.split("</user>").next().unwrap_or_default();
        let (_, status) = user.split_once("<status>").expect("an endpoint has a status");
        status.split('<').next().unwrap_or_default().to_owned()
    };
    let mut told: Vec<_> = documents.iter().map(|document| status(document)).collect();
    told.dedup();
    assert_eq!(told, ["connected", "muted-via-focus", "connected"]);
    dave.tell("hangup", json!({}));
    assert!(dave.alive(), "Linphone crashed");
}

/// What a caller is told is for their ears; others go on hearing each other.
#[test]
fn callers_are_told_what_they_did() {
    let plan = Plan { prompts: true, ..Plan::default() };
    let Some(site) = Site::start_as("callers_are_told_what_they_did", plan) else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let (carol, dave) = (site.caller("carol"), site.caller("dave"));
    carol.call("lounge", 600.0);
    dave.call("lounge", 1000.0);
    pause(Duration::from_secs(8));
    let pressed = monotonic();
    carol.tell("dtmf", json!({ "digits": "*8" }));
    pause(Duration::from_secs(3));
    let (told, other) = (carol.heard(), dave.heard());
    // "There are two people on this call": far more than the tone of the other.
    let (before, said) =
        (told.loudness(pressed - 2.0, pressed - 0.1), told.loudness(pressed + 0.5, pressed + 2.0));
    let rest = told.level(1000.0, pressed + 0.8, pressed + 1.6);
    println!("before {before:.1}, told {said:.1} dBFS, of which the other {rest:.1}");
    assert!(rest < TONE_DBFS - 8.0, "the other is still at {rest:.1} dBFS");
    assert!(said - rest > 3.0, "nothing is said: {said:.1} dBFS");
    // The other caller hears the first, and not a word.
    let level = other.level(600.0, pressed + 0.5, pressed + 2.0);
    assert!((level - TONE_DBFS).abs() < 3.0, "{level:.1} dBFS");
    let (all, tone) = (other.loudness(pressed + 0.5, pressed + 2.0), level - 3.01);
    assert!((all - tone).abs() < 1.0, "{all:.1} dBFS of which the tone {tone:.1}");

    let muted = monotonic();
    carol.tell("dtmf", json!({ "digits": "*6" }));
    pause(Duration::from_secs(3));
    let level = dave.heard().level(600.0, muted + 1.5, muted + 2.5);
    assert!(level < SILENT_DBFS, "still at {level:.1} dBFS");
    let people = site.cusaxd.room("lounge")["people"].clone();
    let carol =
        people.as_array().and_then(|all| all.iter().find(|it| it["nick"] == "carol (phone)"));
    assert_eq!(carol.map(|carol| &carol["mute"][0]["origin"]), Some(&json!("self")), "{people}");
}
