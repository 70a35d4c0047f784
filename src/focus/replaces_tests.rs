//! Replaces and Join, in virtual time.

use super::dial::BOB;
use super::*;
use crate::room::standing::Role;

/// The call of a phone, as the focus sees it: what a header names.
fn named(phone: &Phone) -> String {
    let Phone { call_id, to_tag, .. } = phone;
    format!("{call_id};to-tag={};from-tag=from-{call_id}", to_tag.as_ref().unwrap())
}

/// Another phone of somebody, which means that call.
fn meaning(user: &str, id: u32, header: &str, call: &str) -> Phone {
    let mut phone = Phone::new(user, id);
    phone.with_header(header, call);
    phone
}

fn code(scene: &mut Scene, phone: &Phone) -> u16 {
    only_response(&scene.send(&phone.invite(OFFER))).status.code()
}

#[test]
fn who_moves_to_another_device_stays_who_and_where_they_are() {
    let mut scene = Scene::open();
    let first = scene.call("alice", 1);
    let before = scene.person("alice").unwrap().clone();
    scene.media.clear();
    let desk = meaning("alice", 2, "Replaces", &named(&first));
    let sent = scene.send(&desk.invite(OFFER));
    let ok = sent.iter().find_map(|(_, message)| response(message)).unwrap();
    assert_eq!(ok.status.code(), 200);
    assert_eq!(ok.headers.get(&Name::CONTACT), Some("<sip:tea@192.0.2.10:5060>;isfocus"));
    let bye = only_request(&sent, "BYE");
    assert_eq!(bye.headers.call_id(), Ok("call-1"));
    let reason = bye.headers.get(&Name::REASON);
    assert_eq!(reason, Some("SIP;cause=200;text=\"Moved To Another Device\""));
    let after = scene.person("alice").unwrap();
    assert_eq!((after.id, &after.nick, after.since), (before.id, &before.nick, before.since));
    assert_eq!(after.legs.len(), 1);
    assert_ne!(after.legs.keys().next(), before.legs.keys().next());
    assert!(matches!(scene.media[..], [Order::Open(_), Order::Close(_)]), "{:?}", scene.media);
}

/// RFC 3891 §3, line by line.
#[test]
fn what_cannot_be_replaced() {
    let mut scene = Scene::open();
    let first = scene.call("alice", 1);
    let call = named(&first);
    // No such call, and one that is named from its own side.
    for wrong in ["x;to-tag=1;from-tag=2", &call.replace("to-tag", "x-tag")] {
        let expected = if wrong.starts_with('x') { 481 } else { 400 };
        let phone = meaning("alice", 10 + u32::from(expected), "Replaces", wrong);
        assert_eq!(code(&mut scene, &phone), expected, "{wrong}");
    }
    let early = format!("{call};early-only");
    assert_eq!(code(&mut scene, &meaning("alice", 3, "Replaces", &early)), 486);
    // Somebody else's.
    assert_eq!(code(&mut scene, &meaning("mallory", 4, "Replaces", &call)), 403);
    let mut twice = meaning("alice", 5, "Replaces", &call);
    twice.with_header("Replaces", &call);
    assert_eq!(code(&mut scene, &twice), 400);
    let mut both = meaning("alice", 6, "Replaces", &call);
    both.with_header("Join", &call);
    assert_eq!(code(&mut scene, &both), 400);
    let options = meaning("alice", 7, "Replaces", &call).request("OPTIONS", "", "");
    assert_eq!(only_response(&scene.send(&options)).status.code(), 400);
    // What cannot be heard leaves the old call as it was.
    let silent = meaning("alice", 8, "Replaces", &call);
    assert_eq!(only_response(&scene.send(&silent.invite(VIDEO))).status.code(), 488);
    assert_eq!(scene.person("alice").unwrap().legs.len(), 1);
    assert_eq!(scene.focus.legs.len(), 1);
    // One whose BYE is under way.
    let nick = scene.person("alice").unwrap().nick.clone();
    scene.owner(Command::Moderate(vec![Change::Role { nick, role: None, reason: None }]));
    scene.sip.clear();
    assert_eq!(code(&mut scene, &meaning("alice", 9, "Replaces", &call)), 603);
}

#[test]
fn a_moderator_takes_a_call_over() {
    let mut scene = Scene::open();
    let bob = scene.call("bob", 1);
    scene.call("alice", 2);
    let call = named(&bob);
    assert_eq!(code(&mut scene, &meaning("alice", 3, "Replaces", &call)), 403);
    let nick = scene.person("alice").unwrap().nick.clone();
    let role = Some(Role::Moderator);
    scene.owner(Command::Moderate(vec![Change::Role { nick, role, reason: None }]));
    scene.sip.clear();
    let sent = scene.send(&meaning("alice", 4, "Replaces", &call).invite(OFFER));
    assert_eq!(only_request(&sent, "BYE").headers.call_id(), Ok("call-1"));
    assert!(scene.person("bob").is_none());
    assert_eq!(scene.person("alice").unwrap().legs.len(), 2);
    // But not that of somebody above them.
    let carol = scene.call("carol", 5);
    scene.affiliate("carol", Affiliation::Owner);
    scene.sip.clear();
    assert_eq!(code(&mut scene, &meaning("alice", 6, "Replaces", &named(&carol))), 403);
    assert!(scene.person("carol").is_some());
}

#[test]
fn what_rings_on_one_device_is_answered_on_another() {
    let mut scene = Scene::open();
    let invite = scene.calls_bob();
    scene.bob_says(&invite, "180 Ringing", "", "");
    let tag = invite.headers.from_tag().unwrap().unwrap();
    let ringing = format!("{};to-tag={tag};from-tag=bob", invite.headers.call_id().unwrap());
    assert_eq!(code(&mut scene, &meaning("mallory", 1, "Replaces", &ringing)), 403);
    assert_eq!(scene.dialling(), 1);
    let tablet = meaning("bob", 2, "Replaces", &format!("{ringing};early-only"));
    let sent = scene.send(&tablet.invite(OFFER));
    let ok = sent.iter().find_map(|(_, message)| response(message)).unwrap();
    assert_eq!(ok.status.code(), 200);
    let cancel = only_request(&sent, "CANCEL");
    assert_eq!(cancel.headers.call_id(), invite.headers.call_id());
    assert_eq!(scene.dialling(), 0);
    assert_eq!(scene.person("bob").unwrap().legs.len(), 1);
    assert_eq!(scene.opened().codec.kind, CodecKind::Opus);
}

#[test]
fn what_joins_a_call_joins_its_conference() {
    let mut scene = Scene::open();
    let alice = scene.call("alice", 1);
    let mut bob = meaning("bob", 2, "Join", &named(&alice));
    bob.uri = "sip:192.0.2.10".to_owned();
    assert_eq!(code(&mut scene, &bob), 200);
    assert!(scene.person("alice").is_some() && scene.person("bob").is_some());
    // The checks are those of any call.
    scene.configure(|room| room.members_only = true);
    scene.sip.clear();
    assert_eq!(code(&mut scene, &meaning("carol", 3, "Join", &named(&alice))), 403);
    scene.configure(|room| room.members_only = false);
    // Without such a call, the URI says which conference (RFC 3911 §4), if it does.
    let nothing = "x;to-tag=1;from-tag=2";
    assert_eq!(code(&mut scene, &meaning("dora", 4, "Join", nothing)), 200);
    let mut elsewhere = meaning("erin", 5, "Join", nothing);
    elsewhere.uri = "sip:elsewhere.example".to_owned();
    assert_eq!(code(&mut scene, &elsewhere), 481);
    let update = meaning("alice", 6, "Join", nothing).request("OPTIONS", "", "");
    assert_eq!(only_response(&scene.send(&update)).status.code(), 400);
}

#[test]
fn a_call_of_two_is_pulled_in() {
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    let nick = scene.person("alice").unwrap().nick.clone();
    let role = Some(Role::Moderator);
    scene.owner(Command::Moderate(vec![Change::Role { nick, role, reason: None }]));
    let to = "<sip:bob@example.org?Replaces=77%40h%3Bto-tag%3Db%3Bfrom-tag%3Da>";
    let headers = format!("Refer-To: {to}\r\nReferred-By: <sip:alice@desk.example>\r\n");
    scene.send(&alice.next().request("REFER", &headers, ""));
    let leg = scene.lookups[0].leg;
    let invite = only_request(&scene.found(leg, &[BOB]), "INVITE");
    assert_eq!(invite.uri.to_string(), "sip:bob@example.org");
    for (name, expected) in [
        (Name::REPLACES, "77@h;to-tag=b;from-tag=a"),
        (Name::REQUIRE, "replaces"),
        (Name::REFERRED_BY, "<sip:alice@desk.example>"),
    ] {
        assert_eq!(invite.headers.get(&name), Some(expected), "{name}");
    }
    only_request(&scene.bob_says(&invite, "200 OK", "", PCMU_ANSWER), "ACK");
    // Those who see addresses see by whom they came.
    let mut watcher = Phone::new("alice", 9);
    let sent = scene.send(&watcher.subscribe(""));
    let told = document(&only_request(&sent, "NOTIFY"));
    assert_eq!(texts(&told, "users/user/endpoint/referred/by"), ["sip:alice@desk.example"]);
    watcher.answer_notify(&mut scene, &sent);
    let mut other = Phone::new("carol", 10);
    let sent = scene.send(&other.subscribe(""));
    let told = document(&only_request(&sent, "NOTIFY"));
    assert_eq!(texts(&told, "users/user/endpoint/referred"), [""; 0]);
    other.answer_notify(&mut scene, &sent);
}
