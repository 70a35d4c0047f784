//! Phones that the room calls.

use std::time::Duration;

use serde_json::json;

use crate::{
    baresip::{Caller, Options, TONE_DBFS, header},
    linphone::Linphone,
    recording::SILENT_DBFS,
    site::{CHAT, PHONES, Plan, Site, password},
    wait::{PATIENCE, monotonic, pause, until},
};

/// A phone that Kamailio knows how to reach.
fn registered(site: &Site, user: &str) -> Caller {
    let options = Options {
        proxy: Some(site.ports.proxy),
        domain: Some(PHONES),
        password: Some(password(user)),
        register: true,
        ..Options::default()
    };
    site.caller_as(user, options)
}

#[test]
fn whom_an_operator_calls_hears_the_room_and_is_one_with_their_chat() {
    let test = "whom_an_operator_calls_hears_the_room_and_is_one_with_their_chat";
    let plan = Plan { proxy: true, ..Plan::default() };
    let Some(site) = Site::start_as(test, plan) else { return };
    site.cusaxd.enroll("carol", &format!("sip:carol@{PHONES}"), &password("carol"));
    let (alice, chat) = (site.chat("alice"), site.chat("carol"));
    alice.create("lounge", json!({}));
    chat.join("lounge");
    let dave = site.caller("dave");
    dave.call("lounge", 1000.0);
    let carol = registered(&site, "carol");
    let mark = carol.mark();
    let (code, said) =
        site.cusaxd.operate(&["room", "dial", "lounge", &format!("sip:carol@{PHONES}")]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("CALLING") && said.contains(&format!("carol@{CHAT}")), "{said}");
    carol.rings(mark);
    carol.answer_call(600.0);
    // Modern baresip sends a re-INVITE right after it answered: the focus stays one.
    let invite = until("the INVITE", PATIENCE, || {
        carol.messages(mark, "RX").into_iter().find(|text| text.starts_with("INVITE "))
    });
    assert!(header(&invite, "Contact").is_some_and(|it| it.ends_with(";isfocus")), "{invite}");
    let carol_in = until("carol to be in by both", PATIENCE, || {
        let room = site.cusaxd.room("lounge");
        let people = room["people"].as_array()?.clone();
        people.into_iter().find(|person| person["level"] == "both")
    });
    assert_eq!(carol_in["jid"], format!("{}@{CHAT}", "carol"));
    assert_eq!(carol_in["binding"], json!({ "bound": true, "strength": "dialled" }));
    assert_eq!(site.cusaxd.room("lounge")["calling"], json!([]));
    pause(Duration::from_secs(1));
    let from = monotonic();
    pause(Duration::from_secs(3));
    let to = monotonic();
    for (listener, own, other) in [(&carol, 600.0, 1000.0), (&dave, 1000.0, 600.0)] {
        let heard = listener.heard();
        let level = heard.level(other, from, to);
        assert!((level - TONE_DBFS).abs() < 3.0, "{other} Hz at {level:.1} dBFS");
        let echo = heard.level(own, from, to);
        assert!(echo < SILENT_DBFS, "{own} Hz comes back at {echo:.1} dBFS");
    }
    // A kick in the chat ends the call that the focus made.
    let mark = carol.mark();
    alice.role("lounge", "carol", "none");
    let bye = carol.ended(mark, PATIENCE);
    assert!(header(&bye, "Reason").is_some_and(|it| it.contains("cause=603")), "{bye}");
}

#[test]
fn a_call_that_is_given_up_stops_ringing_and_one_that_is_refused_is_told() {
    let test = "a_call_that_is_given_up_stops_ringing_and_one_that_is_refused_is_told";
    let plan = Plan { proxy: true, ..Plan::default() };
    let Some(site) = Site::start_as(test, plan) else { return };
    let alice = site.chat("alice");
    alice.create("lounge", json!({}));
    let carol = registered(&site, "carol");
    let mark = carol.mark();
    let uri = format!("sip:carol@{PHONES}");
    let (code, said) = site.cusaxd.operate(&["room", "dial", "lounge", &uri]);
    assert_eq!(code, Some(0), "{said}");
    carol.rings(mark);
    let (code, said) = site.cusaxd.operate(&["room", "dial", "lounge", &uri]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("called already"), "{said}");
    let (code, said) = site.cusaxd.operate(&["room", "hang-up", "lounge", "d1"]);
    assert_eq!(code, Some(0), "{said}");
    carol.wait(mark, "the end of the ringing", |event| event["ev"] == "closed");
    assert_eq!(site.cusaxd.room("lounge")["calling"], json!([]));
    // Nobody of that name is registered.
    let nobody = format!("sip:nobody@{PHONES}");
    let (code, said) = site.cusaxd.operate(&["room", "dial", "lounge", &nobody]);
    assert_eq!(code, Some(0), "{said}");
    until("the refusal", PATIENCE, || {
        (site.cusaxd.room("lounge")["calling"] == json!([])).then_some(())
    });
    // Not whom the configuration does not name, and not ourselves.
    for uri in ["sip:x@example.org", "tel:+4930123456", "sip:lounge@conf.test"] {
        let (code, said) = site.cusaxd.operate(&["room", "dial", "lounge", uri]);
        assert_eq!(code, Some(1), "{uri}: {said}");
        assert!(said.contains("may not be called"), "{uri}: {said}");
    }
    let (code, said) = site.cusaxd.operate(&["room", "dial", "lounge", "carol"]);
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn linphone_is_called_and_lists_everybody() {
    let test = "linphone_is_called_and_lists_everybody";
    let plan = Plan { proxy: true, ..Plan::default() };
    let Some(site) = Site::start_as(test, plan) else { return };
    let alice = site.chat("alice");
    alice.create("conflounge", json!({}));
    let Some(mut linphone) = Linphone::start("dave", &site) else { return };
    let mark = linphone.mark();
    let uri = format!("sip:dave@{PHONES}");
    let (code, said) = site.cusaxd.operate(&["room", "dial", "conflounge", &uri]);
    assert_eq!(code, Some(0), "{said}");
    linphone.wait(mark, "a call", |event| event["state"] == "LinphoneCallIncomingReceived");
    linphone.tell("answer", json!({}));
    linphone.shows(mark, "alice in the list", |list| {
        list["people"].as_array().is_some_and(|people| !people.is_empty())
    });
    linphone.tell("hangup", json!({}));
    linphone.wait(mark, "the call to end", |event| event["state"] == "LinphoneCallReleased");
    assert!(linphone.alive(), "Linphone crashed");
}

#[test]
fn a_moderator_on_the_phone_brings_somebody_in_by_refer() {
    let test = "a_moderator_on_the_phone_brings_somebody_in_by_refer";
    let plan = Plan { proxy: true, ..Plan::default() };
    let Some(site) = Site::start_as(test, plan) else { return };
    for user in ["alice", "carol"] {
        site.cusaxd.enroll(user, &format!("sip:{user}@{PHONES}"), &password(user));
    }
    let chat = site.chat("alice");
    chat.create("conflounge", json!({}));
    let (alice, carol, dave) =
        (registered(&site, "alice"), registered(&site, "carol"), registered(&site, "dave"));
    // No moderator, no REFER.
    dave.call("conflounge", 1000.0);
    let mark = dave.mark();
    let target = json!({ "uri": format!("sip:carol@{PHONES}") });
    dave.tell("transfer", target.clone());
    let refused = until("the answer to REFER", PATIENCE, || {
        let answers = dave.messages(mark, "RX").into_iter();
        answers.into_iter().find(|it| header(it, "CSeq").is_some_and(|it| it.ends_with("REFER")))
    });
    assert!(refused.starts_with("SIP/2.0 403 "), "{refused}");
    // Alice's phone is one with her chat, which owns the room.
    alice.call("conflounge", 600.0);
    let (mark, rung) = (alice.mark(), carol.mark());
    alice.tell("transfer", target);
    carol.rings(rung);
    carol.answer_call(800.0);
    until("the last report", PATIENCE, || {
        let told = alice.messages(mark, "RX");
        told.into_iter().find(|it| {
            let state = header(it, "Subscription-State");
            it.contains("SIP/2.0 200 OK") && state.is_some_and(|it| it.contains("noresource"))
        })
    });
    let room = site.cusaxd.room("conflounge");
    let called = room["people"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|person| person["jid"] == format!("carol@{CHAT}") && person["level"] == "audio");
    assert!(called.is_some(), "{room}");
}
