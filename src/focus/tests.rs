//! Scenes in virtual time: SIP as phones write it goes in, SIP and orders to the mixer come out.

use std::net::SocketAddr;
use std::time::Duration;

use cusax::conference::{self, Conference};
use cusax_sip::digest::{Account, Algorithm, Ha1};
use cusax_sip::flow::Transport;
use cusax_sip::header::{Headers, Name};
use cusax_sip::message::{Method, Request, Response};
use cusax_sip::parse::parse;
use jid::{BareJid, FullJid};
use minidom::Element;
use proptest::prelude::*;

#[path = "advisories_tests.rs"]
mod advisories;
#[path = "dial_tests.rs"]
mod dial;
#[path = "factory_tests.rs"]
mod factory;
#[path = "keypad_tests.rs"]
mod keypad;
#[path = "partial_tests.rs"]
mod partial;
#[path = "refer_tests.rs"]
mod refer;
#[path = "replaces_tests.rs"]
mod replaces;
#[path = "session_tests.rs"]
mod session;

use super::*;
use crate::directory::{Secret, User};
use crate::id::Nick;
use crate::mixer::plan::{CodecKind, LegPlan};
use crate::rate::Rate;
use crate::room::dial::DialEnd;
use crate::room::person::{Person, Who};
use crate::room::settings::Settings;
use crate::room::standing::Affiliation;
use crate::room::{Change, Intake, Policy};

#[test]
fn a_call_is_answered_by_a_focus() {
    let mut scene = Scene::open();
    let mut alice = Phone::new("alice", 1);
    let answers = scene.send(&alice.invite(OFFER));
    let ok = only_response(&answers);
    assert_eq!(ok.status.code(), 200);
    for (name, expected) in [
        (Name::CONTACT, "<sip:tea@192.0.2.10:5060>;isfocus"),
        (Name::ALLOW, "INVITE, ACK, CANCEL, OPTIONS, BYE, PRACK, UPDATE, SUBSCRIBE, REFER, INFO"),
        (Name::ALLOW_EVENTS, "conference, refer"),
        (Name::CALL_INFO, "<xmpp:tea@rooms.example.org>;purpose=impp"),
        (Name::CONTENT_TYPE, "application/sdp"),
    ] {
        assert_eq!(ok.headers.get(&name), Some(expected), "{name}");
    }
    let sdp = String::from_utf8(ok.body.clone()).unwrap();
    for line in [
        "c=IN IP4 192.0.2.10",
        "a=rtpmap:96 opus/48000/2",
        "a=fmtp:96 maxaveragebitrate=40000;stereo=0;useinbandfec=1",
        "a=rtpmap:101 telephone-event/8000",
        "a=rtpmap:102 telephone-event/48000",
        "a=ptime:20",
        "a=rtcp-mux",
        "a=label:1",
        "a=sendrecv",
    ] {
        assert!(sdp.contains(&format!("{line}\r\n")), "{line} is not in {sdp}");
    }
    let plan = scene.opened();
    assert_eq!(plan.codec.kind, CodecKind::Opus);
    assert_eq!((plan.codec.send_pt, plan.codec.max_bitrate), (96, Some(24_000)));
    assert!(plan.codec.fec && plan.codec.dtx && plan.mux && plan.hears && plan.heard);
    assert_eq!(plan.remote, Some("192.0.2.1:7000".parse().unwrap()));
    assert_eq!(plan.dtmf, [(102, 48_000), (101, 8_000)]);
    assert_eq!(plan.level_ext, Some(3));
    assert_eq!(plan.port % 2, 0);
    assert!(sdp.contains(&format!("m=audio {} RTP/AVP 96", plan.port)), "{sdp}");

    alice.learn(&ok);
    assert_eq!(scene.send(&alice.ack("")), []);
    assert_eq!(scene.person("alice").map(|person| person.legs.len()), Some(1));
    let bye = scene.send(&alice.next().request("BYE", "", ""));
    assert_eq!(only_response(&bye).status.code(), 200);
    assert!(matches!(scene.media[..], [Order::Close(_)]));
    assert!(scene.person("alice").is_none());
}

#[test]
fn each_refusal_has_its_status() {
    let member = |scene: &mut Scene| scene.affiliate("bob", Affiliation::Member);
    let outcast = |scene: &mut Scene| scene.affiliate("alice", Affiliation::Outcast);
    let locked = |scene: &mut Scene| scene.owner(Command::Lock(true));
    let full = |scene: &mut Scene| scene.configure(|room| room.max_users = Some(1));
    let members_only = |scene: &mut Scene| scene.configure(|room| room.members_only = true);
    let secret = |scene: &mut Scene| {
        scene.configure(|room| room.password = Some("sesame".to_owned()));
    };
    let draining = |scene: &mut Scene| scene.rooms.set_intake(Intake::Draining);
    let nothing = |_: &mut Scene| {};
    let check = |setup: &[&dyn Fn(&mut Scene)], uri: &str, sdp: &str, expected: &str| {
        let mut scene = Scene::open();
        setup.iter().for_each(|step| step(&mut scene));
        let mut alice = Phone::new("alice", 1);
        alice.uri = uri.to_owned();
        let answers = scene.send(&alice.invite(sdp));
        let response = only_response(&answers);
        let status = format!("{} {}", response.status, response.reason);
        assert_eq!(status, expected, "{uri} {sdp}");
        assert_eq!(scene.focus.legs.len(), usize::from(expected.starts_with('2')));
        assert_eq!(scene.media.len(), usize::from(expected.starts_with('2')));
        response
    };
    let tea = "sip:tea@conf.example.org";
    check(&[&nothing], tea, OFFER, "200 OK");
    check(&[&nothing], "sip:TEA@CONF.example.org;transport=udp", OFFER, "200 OK");
    check(&[&nothing], "sip:t%65a@192.0.2.10", OFFER, "200 OK");
    check(&[&nothing], "sip:none@conf.example.org", OFFER, "404 No Such Conference");
    check(&[&nothing], "sip:tea@elsewhere.example.org", OFFER, "404 Not Found");
    check(&[&nothing], "sip:conf.example.org", OFFER, "404 Not Found");
    check(&[&nothing], "tel:+4930123", OFFER, "416 Unsupported URI Scheme");
    check(&[&outcast], tea, OFFER, "403 Banned");
    check(&[&members_only], tea, OFFER, "403 Members Only");
    check(&[&locked], tea, OFFER, "480 Conference Locked");
    check(&[&full], tea, OFFER, "486 Conference Full");
    check(&[&nothing], tea, VIDEO, "488 Not Acceptable Here");
    check(&[&nothing], tea, SAVP, "488 Not Acceptable Here");
    check(&[&nothing], tea, "no=sdp", "400 Bad Request");
    // The first check that fails is the answer.
    check(&[&draining, &outcast], tea, OFFER, "503 Shutting Down");
    check(&[&members_only, &outcast, &full], tea, VIDEO, "403 Banned");
    check(&[&members_only, &secret, &locked], tea, VIDEO, "403 Members Only");
    check(&[&secret, &locked, &full], tea, VIDEO, "401 Conference Password Required");
    check(&[&locked, &full, &member], tea, VIDEO, "480 Conference Locked");
    check(&[&full], tea, VIDEO, "486 Conference Full");

    let busy = check(&[&draining], tea, OFFER, "503 Shutting Down");
    assert_eq!(busy.headers.get(&Name::RETRY_AFTER), Some("30"));
    let codec = check(&[&nothing], tea, G729, "488 Not Acceptable Here");
    let warning = codec.headers.get(&Name::WARNING).unwrap();
    assert!(warning.starts_with("305 conf.example.org "), "{warning}");
}

#[test]
fn what_is_no_session_description_is_refused() {
    let mut scene = Scene::open();
    let alice = Phone::new("alice", 1);
    let invite = alice.invite(OFFER).replace("application/sdp", "text/plain");
    let response = only_response(&scene.send(&invite));
    assert_eq!(response.status.code(), 415);
    assert_eq!(response.headers.get(&Name::ACCEPT), Some("application/sdp"));
}

/// RFC 5366: nobody is to believe that those on it were called.
#[test]
fn lists_of_whom_to_invite_are_refused() {
    let mut scene = Scene::open();
    let mut alice = Phone::new("alice", 1);
    alice.with_header("Require", "recipient-list-invite");
    let refusal = only_response(&scene.send(&alice.invite(OFFER)));
    assert_eq!(refusal.status.code(), 420);
    assert_eq!(refusal.headers.get(&Name::UNSUPPORTED), Some("recipient-list-invite"));
    let bob = Phone::new("bob", 2);
    let invite = bob.invite(OFFER).replace("application/sdp", "multipart/mixed;boundary=b");
    let refusal = only_response(&scene.send(&invite));
    assert_eq!(refusal.status.code(), 415);
    assert_eq!(refusal.headers.get(&Name::ACCEPT), Some("application/sdp"));
    assert!(scene.focus.legs.is_empty());
}

/// RFC 5627 §4.5: what leads to this one device and no other.
#[test]
fn the_contact_of_a_peer_is_kept_whole() {
    let mut scene = Scene::open();
    let mut alice = Phone::new("alice", 1);
    let contact = "<sip:alice@192.0.2.1:5062;gr=urn:uuid:f81d4fae;ob>;+sip.instance=\"<urn:x>\"";
    let invite = alice.invite(OFFER).replace("<sip:alice@192.0.2.1:5062>", contact);
    alice.learn(&only_response(&scene.send(&invite)));
    scene.send(&alice.ack(""));
    scene.sip.clear();
    scene.owner(Command::Destroy { reason: None, alternate: None });
    let bye = only_request(&scene.sent(), "BYE");
    assert_eq!(bye.uri.to_string(), "sip:alice@192.0.2.1:5062;gr=urn:uuid:f81d4fae;ob");
}

/// RFC 7081 §1: text is XMPP's, and whoever writes here is told where.
#[test]
fn what_is_written_is_sent_to_the_chat_room() {
    let named = |response: &Response| {
        let text = response.headers.all(&Name::WARNING).collect::<Vec<_>>().join(" ");
        assert!(text.contains("Text is written in xmpp:tea@rooms.example.org"), "{text}");
        let info = response.headers.get(&Name::CALL_INFO);
        assert_eq!(info, Some("<xmpp:tea@rooms.example.org>;purpose=impp"));
    };
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    for text in
        [alice.next().request("MESSAGE", "", ""), Phone::new("bob", 2).request("MESSAGE", "", "")]
    {
        let refusal = only_response(&scene.send(&text));
        assert_eq!(refusal.status.code(), 405);
        assert!(!refusal.headers.get(&Name::ALLOW).unwrap().contains("MESSAGE"));
        named(&refusal);
    }
    let elsewhere = Phone { uri: "sip:192.0.2.10".to_owned(), ..Phone::new("bob", 3) };
    let refusal = only_response(&scene.send(&elsewhere.request("MESSAGE", "", "")));
    assert_eq!((refusal.status.code(), refusal.headers.get(&Name::CALL_INFO)), (405, None));
    // MSRP (RFC 4975) alone, and beside audio.
    let msrp = "m=message 7004 TCP/MSRP *\r\na=accept-types:text/plain\r\n\
                a=path:msrp://192.0.2.1:7004/x;tcp\r\n";
    let alone = format!("{}{msrp}", OFFER.split("m=audio").next().unwrap());
    let refusal = only_response(&scene.send(&Phone::new("carol", 4).invite(&alone)));
    assert_eq!(refusal.status.code(), 488);
    named(&refusal);
    let ok = only_response(&scene.send(&Phone::new("dora", 5).invite(&format!("{OFFER}{msrp}"))));
    assert_eq!(ok.status.code(), 200);
    let sdp = String::from_utf8(ok.body.clone()).unwrap();
    assert!(sdp.contains("m=message 0 TCP/MSRP *\r\n"), "{sdp}");
    let info = ok.headers.get(&Name::CALL_INFO);
    assert_eq!(info, Some("<xmpp:tea@rooms.example.org>;purpose=impp"));
}

#[test]
fn an_unready_room_does_not_exist() {
    let mut scene = Scene::open();
    let owner = By::Chat(FullJid::new("olga@example.org/desk").unwrap());
    let enter = Command::EnterChat { nick: Nick::new("Olga").unwrap(), password: None };
    scene.apply_to("raw", &owner, enter);
    let mut alice = Phone::new("alice", 1);
    alice.uri = "sip:raw@conf.example.org".to_owned();
    let response = only_response(&scene.send(&alice.invite(OFFER)));
    assert_eq!(response.status.code(), 404);
}

#[test]
fn ports_run_out_with_503_and_come_back_after_a_rest() {
    let mut scene = Scene::open();
    scene.focus.ports = PortPool::new(PortRange { first: 40_000, last: 40_001 });
    let mut alice = scene.call("alice", 1);
    let bob = Phone::new("bob", 2);
    let full = only_response(&scene.send(&bob.invite(OFFER)));
    assert_eq!((full.status.code(), full.reason.as_str()), (503, "No Media Ports Left"));
    scene.send(&alice.next().request("BYE", "", ""));
    let mut bob = Phone::new("bob", 3);
    assert_eq!(only_response(&scene.send(&bob.invite(OFFER))).status.code(), 503);
    scene.wait(Duration::from_secs(40));
    bob = Phone::new("bob", 4);
    assert_eq!(only_response(&scene.send(&bob.invite(OFFER))).status.code(), 200);
    alice = Phone::new("alice", 5);
    assert_eq!(only_response(&scene.send(&alice.invite(OFFER))).status.code(), 503);
}

#[test]
fn digest_admits_users_of_the_directory_as_their_chat_selves() {
    let mut scene = Scene::new(Auth::Digest);
    let mut alice = Phone::new("alice", 1);
    let challenge = only_response(&scene.send(&alice.invite(OFFER)));
    assert_eq!(challenge.status.code(), 401);
    assert_eq!(scene.focus.legs.len(), 0);
    scene.send(&alice.ack_refusal(&challenge));
    let credentials = credentials(&challenge, "alice", "secret", "conf.example.org");
    let again = alice.next().with_header("Authorization", &credentials).invite(OFFER);
    assert_eq!(only_response(&scene.send(&again)).status.code(), 200);
    let room = scene.rooms.get(&tea()).unwrap();
    let person = room.people.values().find(|person| !person.legs.is_empty()).unwrap();
    assert_eq!(person.who, Who::Jid(BareJid::new("alice@example.org").unwrap()));

    let mut mallory = Phone::new("alice", 9);
    mallory.headers = format!("Authorization: {}\r\n", credentials.replace("alice", "mallory"));
    assert_eq!(scene.focus.wrong_passwords(), 0);
    assert_eq!(only_response(&scene.send(&mallory.invite(OFFER))).status.code(), 401);
    assert_eq!(scene.focus.wrong_passwords(), 1);
}

#[test]
fn a_room_password_is_asked_for_in_a_realm_of_its_own() {
    let mut scene = Scene::open();
    scene.configure(|room| room.password = Some("sesame".to_owned()));
    let check = |scene: &mut Scene, id: u32, password: &str, expected: u16| {
        let mut bob = Phone::new("bob", id);
        let challenge = only_response(&scene.send(&bob.invite(OFFER)));
        assert_eq!(challenge.status.code(), 401);
        scene.send(&bob.ack_refusal(&challenge));
        let offered = challenge.headers.challenges(&Name::WWW_AUTHENTICATE);
        assert_eq!(offered.len(), 2);
        assert_eq!(offered[0].get("realm"), Some("tea@conf.example.org"));
        let credentials = credentials(&challenge, "whoever", password, "tea@conf.example.org");
        let again = bob.next().with_header("Authorization", &credentials).invite(OFFER);
        assert_eq!(only_response(&scene.send(&again)).status.code(), expected);
    };
    check(&mut scene, 1, "open", 401);
    check(&mut scene, 2, "sesame", 200);
    assert_eq!(scene.focus.wrong_passwords(), 1, "who is asked has not been wrong");
    // Members need none.
    scene.affiliate("carol", Affiliation::Member);
    let carol = Phone::new("carol", 3);
    assert_eq!(only_response(&scene.send(&carol.invite(OFFER))).status.code(), 200);
}

#[test]
fn an_invite_without_offer_gets_ours_and_opens_with_the_answer() {
    let mut scene = Scene::open();
    let mut alice = Phone::new("alice", 1);
    let ok = only_response(&scene.send(&alice.invite("")));
    assert_eq!(ok.status.code(), 200);
    let offer = String::from_utf8(ok.body.clone()).unwrap();
    for codec in ["96 opus/48000/2", "0 PCMU/8000", "8 PCMA/8000", "101 telephone-event/8000"] {
        assert!(offer.contains(&format!("a=rtpmap:{codec}\r\n")), "{offer}");
    }
    assert_eq!(scene.media, []);
    alice.learn(&ok);
    scene.send(&alice.ack(PCMU_ANSWER));
    let plan = scene.opened();
    assert_eq!((plan.codec.kind, plan.codec.send_pt), (CodecKind::Pcmu, 0));
    assert_eq!(plan.remote_rtcp, Some("192.0.2.1:7003".parse().unwrap()));
    assert!(plan.heard && !plan.mux);
}

#[test]
fn an_offer_of_ours_that_is_not_answered_ends_the_call() {
    let mut scene = Scene::open();
    let mut alice = Phone::new("alice", 1);
    let ok = only_response(&scene.send(&alice.invite("")));
    alice.learn(&ok);
    let bye = only_request(&scene.send(&alice.ack("")), "BYE");
    assert!(bye.headers.get(&Name::REASON).unwrap().starts_with("SIP;cause=488;"));
    assert!(scene.person("alice").is_none());
    assert_eq!(scene.media, []);
}

#[test]
fn hold_and_self_mute_follow_the_direction() {
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    // Their direction; our answer; on hold, sends; the mixer's view: hears, heard.
    for (theirs, ours, hold, sends, hears, heard) in [
        ("sendonly", "recvonly", true, true, false, false),
        ("sendrecv", "sendrecv", false, true, true, true),
        ("inactive", "inactive", true, false, false, false),
        ("recvonly", "sendonly", false, false, true, false),
        ("sendrecv", "sendrecv", false, true, true, true),
    ] {
        let sdp = OFFER.replace("a=sendrecv", &format!("a={theirs}"));
        let ok = only_response(&scene.send(&alice.next().invite(&sdp)));
        assert_eq!(ok.status.code(), 200, "{theirs}");
        assert!(ok.headers.get(&Name::CONTACT).unwrap().ends_with(";isfocus"));
        let answer = String::from_utf8(ok.body.clone()).unwrap();
        assert!(answer.contains(&format!("a={ours}\r\n")), "{theirs} got {answer}");
        scene.send(&alice.ack(""));
        let leg = scene.person("alice").unwrap().legs.values().next().unwrap().clone();
        assert_eq!((leg.hold, leg.sends), (hold, sends), "{theirs}");
        let told = scene.focus.legs.values().next().unwrap().told().unwrap();
        assert_eq!((told.hears, told.heard), (hears, heard), "{theirs}");
    }
    // The old hold, by an address that is none.
    let sdp = OFFER.replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0");
    assert_eq!(only_response(&scene.send(&alice.next().invite(&sdp))).status.code(), 200);
    scene.send(&alice.ack(""));
    assert!(scene.person("alice").unwrap().legs.values().next().unwrap().hold);
}

#[test]
fn who_only_listens_from_the_start_is_not_heard() {
    let mut scene = Scene::open();
    let alice = Phone::new("alice", 1);
    let sdp = OFFER.replace("a=sendrecv", "a=recvonly");
    scene.send(&alice.invite(&sdp));
    let plan = scene.opened();
    assert!(plan.hears && !plan.heard);
    let leg = scene.person("alice").unwrap().legs.values().next().unwrap();
    assert!(!leg.sends && !leg.hold);
}

#[test]
fn a_visitor_hears_and_is_not_heard() {
    let mut scene = Scene::open();
    scene.configure(|room| room.moderated = true);
    let alice = Phone::new("alice", 1);
    let ok = only_response(&scene.send(&alice.invite(OFFER)));
    assert!(String::from_utf8(ok.body).unwrap().contains("a=sendrecv\r\n"));
    let plan = scene.opened();
    assert!(plan.hears && !plan.heard);
}

#[test]
fn a_change_that_cannot_be_had_leaves_the_session_as_it_was() {
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    scene.media.clear();
    let refused = only_response(&scene.send(&alice.next().invite(VIDEO)));
    assert_eq!(refused.status.code(), 488);
    scene.send(&alice.ack_refusal(&refused));
    assert_eq!(scene.media, []);
    // A session refresh is no news to the mixer.
    let ok = only_response(&scene.send(&alice.next().invite(OFFER)));
    assert_eq!(ok.status.code(), 200);
    scene.send(&alice.ack(""));
    assert_eq!(scene.media, []);
    // An offerless re-INVITE gets our offer, and its answer is one.
    let ok = only_response(&scene.send(&alice.next().invite("")));
    assert!(String::from_utf8(ok.body).unwrap().contains("opus/48000/2"));
    scene.send(&alice.ack(PCMU_ANSWER));
    assert!(
        matches!(&scene.media[..], [Order::Change(plan)] if plan.codec.kind == CodecKind::Pcmu)
    );
}

#[test]
fn who_is_thrown_out_is_told_why() {
    let kick = |scene: &mut Scene| {
        let nick = scene.person("alice").unwrap().nick.clone();
        let reason = Some("noise".to_owned());
        scene.owner(Command::Moderate(vec![Change::Role { nick, role: None, reason }]));
    };
    let ban = |scene: &mut Scene| scene.affiliate("alice", Affiliation::Outcast);
    let members_only = |scene: &mut Scene| scene.configure(|room| room.members_only = true);
    let destroy = |scene: &mut Scene| {
        scene.owner(Command::Destroy { reason: Some("Over".to_owned()), alternate: None });
    };
    let shut_down = |scene: &mut Scene| {
        for (name, facts) in scene.rooms.shut_down() {
            scene.publish(&name, &facts);
        }
    };
    for (how, reason, substate, again) in [
        (
            &kick as &dyn Fn(&mut Scene),
            "SIP;cause=603;text=\"Kicked: noise\" Q.850;cause=16",
            "terminated;reason=probation;retry-after=30",
            200,
        ),
        (&ban, "SIP;cause=403;text=\"Banned\" Q.850;cause=21", "terminated;reason=rejected", 403),
        (
            &members_only,
            "SIP;cause=403;text=\"Members only\" Q.850;cause=21",
            "terminated;reason=rejected",
            403,
        ),
        (
            &destroy,
            "SIP;cause=410;text=\"Over\" Q.850;cause=16",
            "terminated;reason=noresource",
            404,
        ),
        (
            &shut_down,
            "SIP;cause=503;text=\"Shutting down\" Q.850;cause=41",
            "terminated;reason=deactivated",
            503,
        ),
    ] {
        let mut scene = Scene::open();
        let alice = scene.call("alice", 1);
        let mut watcher = Phone::new("alice", 2);
        let sent = scene.send(&watcher.subscribe(""));
        watcher.answer_notify(&mut scene, &sent);
        scene.media.clear();
        scene.sip.clear();
        how(&mut scene);
        let sent = scene.sent();
        let bye = only_request(&sent, "BYE");
        let reasons: Vec<_> = bye.headers.all(&Name::REASON).collect();
        assert_eq!(reasons.join(" "), reason);
        assert_eq!(bye.headers.call_id(), Ok("call-1"));
        let notify = only_request(&sent, "NOTIFY");
        assert_eq!(notify.headers.get(&Name::SUBSCRIPTION_STATE), Some(substate));
        assert!(matches!(scene.media[..], [Order::Close(_)]), "{:?}", scene.media);
        assert_eq!(scene.focus.legs.len() + scene.focus.subscriptions(), 0);
        scene.send(&response_to(&bye, "200 OK"));
        let mut back = Phone::new("alice", 3);
        back.uri = alice.uri.clone();
        let answer = only_response(&scene.send(&back.invite(OFFER)));
        assert_eq!(answer.status.code(), again, "{reason}");
    }
}

#[test]
fn a_call_that_is_never_confirmed_ends() {
    let mut scene = Scene::open();
    let alice = Phone::new("alice", 1);
    scene.send(&alice.invite(OFFER));
    assert!(scene.person("alice").is_some());
    scene.sip.clear();
    scene.wait(Duration::from_secs(40));
    assert!(scene.person("alice").is_none());
    assert!(scene.sent().iter().any(|(_, message)| is_request(message, "BYE")));
}

#[test]
fn dead_media_ends_the_call() {
    for (report, cause) in [
        (Report::Dead { leg: LegId(1) }, "SIP;cause=408;text=\"No media\""),
        (
            Report::OpenFailed { leg: LegId(1), why: "in use".to_owned() },
            "SIP;cause=503;text=\"No media port\"",
        ),
    ] {
        let mut scene = Scene::open();
        scene.call("alice", 1);
        scene.sip.clear();
        scene.report(&report);
        let bye = only_request(&scene.sent(), "BYE");
        assert_eq!(bye.headers.get(&Name::REASON), Some(cause));
        assert!(scene.person("alice").is_none());
        // Once more changes nothing.
        scene.report(&report);
        assert_eq!(scene.sent(), []);
    }
}

/// Keys come to the mixer from where nobody reads them, stay over a hold, and go with the peer's.
#[test]
fn keys_are_taken_by_tls_alone_and_changed_with_the_peers() {
    let key = |byte: &str| byte.repeat(40);
    let offer = |byte: &str, more: &str| {
        let sdp = SAVP.replace("m=audio 7004 RTP/SAVP 0\r\n", "m=audio 7004 RTP/SAVP 0 8\r\n");
        format!("{sdp}a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:{}\r\n{more}", key(byte))
    };
    let mut scene = Scene::new(Auth::Trusted);
    let tls = Flow { transport: Transport::Tls, ..flow() };
    let phone = Phone::new("alice", 1);
    let refused = only_response(&scene.send(&phone.invite(&offer("A", ""))));
    assert_eq!(refused.status.code(), 488);
    let warning = refused.headers.get(&Name::WARNING).unwrap();
    assert!(warning.contains("SRTP Keys Only Over TLS"), "{warning}");

    let agreed = |scene: &mut Scene, phone: &mut Phone, sdp: &str| {
        scene.receive(tls, phone.invite(sdp).as_bytes());
        let sent = scene.sip.drain(..).map(|sent| parse(&sent.bytes).unwrap());
        let answers: Vec<_> = sent
            .filter_map(|message| match message {
                Message::Response(answer) if answer.status.is_final() => Some(answer),
                Message::Response(_) | Message::Request(_) => None,
            })
            .collect();
        let ok = answers.into_iter().next().unwrap();
        assert_eq!(ok.status.code(), 200);
        phone.learn(&ok);
        scene.receive(tls, phone.ack("").as_bytes());
        let sdp = String::from_utf8(ok.body).unwrap();
        assert!(sdp.contains("RTP/SAVP") && sdp.contains("a=crypto:4 AES_CM"), "{sdp}");
        let leg = scene.focus.legs.values().next().unwrap();
        leg.told().unwrap().srtp.clone().unwrap()
    };
    let mut phone = Phone::new("alice", 2);
    let first = agreed(&mut scene, &mut phone, &offer("A", ""));
    assert_eq!((first.suite.master_len(), first.theirs.len(), first.ours.len()), (30, 30, 30));
    let held = agreed(&mut scene, phone.next(), &offer("A", "a=sendonly\r\n"));
    assert_eq!(held, first);
    let changed = agreed(&mut scene, phone.next(), &offer("B", ""));
    assert!(changed.theirs != first.theirs && changed.ours != first.ours);
}

/// Which Contact answers whom: the transport that was used, and SIPS for what begins with it.
#[test]
fn contacts_follow_the_transport_and_sips_stays_sips() {
    let mut scene = Scene::new(Auth::Digest);
    let mut asked = 0;
    let mut check = |transport, uri: &str, contact: &str, expected: &str| {
        asked += 1;
        let flow = Flow { transport, ..flow() };
        let text = format!(
            "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} 192.0.2.1:5062;branch=z9hG4bK{asked}\r\n\
             From: <sip:x@example.org>;tag=1\r\nTo: <{uri}>\r\nCall-ID: {asked}\r\nCSeq: 1 OPTIONS\r\n\
             {contact}Content-Length: 0\r\n\r\n"
        );
        scene.receive(flow, text.as_bytes());
        let sent = scene.sip.pop().unwrap();
        assert_eq!(sent.flow, flow);
        let Ok(Message::Response(answer)) = parse(&sent.bytes) else { panic!() };
        let contact = answer.headers.get(&Name::CONTACT).unwrap_or_default();
        let warning = answer.headers.get(&Name::WARNING).unwrap_or_default();
        assert_eq!(format!("{} {contact}{warning}", answer.status.code()), expected);
    };
    let (sip, sips) = ("sip:tea@conf.example.org", "sips:tea@conf.example.org");
    let plain = "Contact: <sip:x@192.0.2.1>\r\n";
    let secure = "Contact: <sips:x@192.0.2.1>\r\n";
    check(Transport::Tls, sip, plain, "200 <sip:tea@192.0.2.10:5060;transport=tls>;isfocus");
    check(Transport::Tls, sip, secure, "200 <sips:tea@192.0.2.10:5060>;isfocus");
    check(Transport::Tls, sips, "", "200 <sips:tea@192.0.2.10:5060>;isfocus");
    check(Transport::Ws, sip, plain, "200 <sip:tea@192.0.2.10:5060;transport=ws>;isfocus");
    check(Transport::Wss, sips, plain, "200 <sips:tea@192.0.2.10:5060;transport=ws>;isfocus");
    check(Transport::Tcp, sip, secure, "200 <sip:tea@192.0.2.10:5060;transport=tcp>;isfocus");
    // Where somebody may read along, SIPS has been broken (RFC 5630 §5.3).
    for transport in [Transport::Tcp, Transport::Ws] {
        check(transport, sips, plain, "480 380 conf.example.org \"SIPS Not Allowed\"");
    }
}

#[test]
fn options_are_told_to_all_and_other_methods_refused() {
    let mut scene = Scene::new(Auth::Digest);
    let phone = Phone::new("alice", 1);
    let ok = only_response(&scene.send(&phone.request("OPTIONS", "", "")));
    assert_eq!(ok.status.code(), 200);
    assert_eq!(ok.headers.get(&Name::CONTACT), Some("<sip:tea@192.0.2.10:5060>;isfocus"));
    assert_eq!(ok.headers.get(&Name::ALLOW_EVENTS), Some("conference, refer"));
    assert_eq!(
        ok.headers.get(&Name::ACCEPT),
        Some("application/sdp, application/conference-info+xml")
    );
    for (method, expected) in [
        ("MESSAGE", 405),
        ("REGISTER", 405),
        ("PUBLISH", 405),
        ("UPDATE", 405),
        ("INFO", 481),
        ("NOTIFY", 481),
        ("DANCE", 501),
    ] {
        let phone = Phone::new("alice", 2);
        let refusal = only_response(&scene.send(&phone.request(method, "", "")));
        assert_eq!(refusal.status.code(), expected, "{method}");
        if expected != 481 {
            assert!(refusal.headers.get(&Name::ALLOW).unwrap().contains("INVITE"), "{method}");
        }
    }
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 3);
    let ok = only_response(&scene.send(&alice.next().request("OPTIONS", "", "")));
    assert_eq!(ok.headers.get(&Name::CONTACT), Some("<sip:tea@192.0.2.10:5060>;isfocus"));
}

#[test]
fn a_subscriber_is_told_everything_at_once_and_then_at_a_pace() {
    let mut scene = Scene::open();
    scene.call("alice", 1);
    let mut watcher = Phone::new("alice", 2);
    let sent = scene.send(&watcher.subscribe("Expires: 600\r\n"));
    let ok = sent.iter().find_map(|(_, message)| response(message)).unwrap();
    assert_eq!(ok.status.code(), 200);
    assert_eq!(ok.headers.get(&Name::EXPIRES), Some("600"));
    let notify = only_request(&sent, "NOTIFY");
    assert_eq!(notify.headers.get(&Name::EVENT), Some("conference"));
    assert_eq!(notify.headers.get(&Name::CONTACT), Some("<sip:tea@192.0.2.10:5060>;isfocus"));
    assert!(notify.headers.get(&Name::SUBSCRIPTION_STATE).unwrap().starts_with("active;expires="));
    let document = document(&notify);
    assert_eq!(document.attr("entity"), Some("sip:tea@conf.example.org"));
    assert_eq!(document.attr("version"), Some("1"));
    assert_eq!(texts(&document, "conference-description/display-text"), ["Tea Time"]);
    assert_eq!(
        texts(&document, "conference-description/service-uris/entry/uri"),
        ["xmpp:tea@rooms.example.org"]
    );
    assert_eq!(
        texts(&document, "conference-description/service-uris/entry/purpose"),
        ["grouptextchat"]
    );
    assert_eq!(texts(&document, "conference-state/user-count"), ["1"]);
    assert_eq!(texts(&document, "conference-state/active"), ["true"]);
    assert_eq!(texts(&document, "conference-state/locked"), ["false"]);
    assert_eq!(texts(&document, "users/user/display-text"), ["Olga", "alice (phone)"]);
    assert_eq!(texts(&document, "users/user/roles/entry"), ["moderator", "owner", "participant"]);
    assert_eq!(texts(&document, "users/user/endpoint/media/type"), ["message", "audio"]);
    assert_eq!(texts(&document, "users/user/endpoint/media/status"), ["sendrecv", "sendrecv"]);
    assert_eq!(texts(&document, "users/user/endpoint/joining-method"), ["dialed-in"]);
    assert_eq!(texts(&document, "users/user/endpoint/joining-info/when").len(), 2);
    watcher.answer_notify(&mut scene, &sent);

    // Three changes within the pace are one document, and it leaves on time.
    scene.sip.clear();
    let mut bob = scene.call("bob", 3);
    scene.wait(Duration::from_secs(1));
    scene.owner(Command::Lock(true));
    let person = scene.person("alice").unwrap().id;
    scene.owner(Command::Mute { person, on: true });
    assert!(!scene.sent().iter().any(|(_, message)| is_request(message, "NOTIFY")));
    scene.wait(Duration::from_millis(3_900));
    assert!(!scene.sent().iter().any(|(_, message)| is_request(message, "NOTIFY")));
    scene.wait(Duration::from_millis(200));
    let sent = scene.sent();
    let document = self::document(&only_request(&sent, "NOTIFY"));
    assert_eq!(document.attr("version"), Some("2"));
    assert_eq!(texts(&document, "conference-state/user-count"), ["2"]);
    assert_eq!(texts(&document, "conference-state/locked"), ["true"]);
    assert_eq!(texts(&document, "conference-state/active"), ["false"]);
    assert_eq!(
        texts(&document, "users/user/endpoint/status"),
        ["muted-via-focus", "connected"],
        "of Olga there is nothing new"
    );
    assert_eq!(texts(&document, "users/user/endpoint/media/status"), ["recvonly", "sendrecv"]);

    // While a NOTIFY is unanswered the next one waits for it, and then leaves at once.
    scene.report(&Report::Source { leg: LegId(1), ssrc: 583_398 });
    scene.send(&bob.next().request("BYE", "", ""));
    scene.wait(Duration::from_secs(6));
    let versions = |sent: &[Sent]| {
        let notifies = sent.iter().filter_map(|(_, message)| request(message));
        let notifies = notifies.filter(|request| request.method == Method::Notify);
        notifies.map(|r| self::document(r).attr("version").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(versions(&scene.sent()).iter().all(|version| version == "2"));
    let sent = watcher.answer_notify(&mut scene, &sent);
    assert_eq!(versions(&sent), ["3"]);
    let document = self::document(&only_request(&sent, "NOTIFY"));
    assert_eq!(texts(&document, "users/user/endpoint/media/src-id"), ["583398"]);
    assert_eq!(texts(&document, "conference-state/user-count"), ["1"]);
}

/// Linphone 5.1 learns from a full document who is there, and only from a partial one who is not.
#[test]
fn who_left_is_named_as_gone() {
    let mut scene = Scene::open();
    let mut bob = scene.call("bob", 1);
    scene.call("alice", 2);
    let mut watcher = Phone::new("alice", 3);
    let sent = scene.send(&watcher.subscribe(""));
    let states = |sent: &[Sent]| {
        let document = document(&only_request(sent, "NOTIFY"));
        let users = document.get_child("users", conference::NAMESPACE).unwrap();
        let state = |element: &Element| element.attr("state").unwrap().to_owned();
        let of_users = users.children().map(state).collect::<Vec<_>>().join(" ");
        format!("{} {}: {of_users}", state(&document), state(users))
    };
    assert_eq!(states(&sent), "full full: full full full");
    watcher.answer_notify(&mut scene, &sent);
    scene.send(&bob.next().request("BYE", "", ""));
    scene.wait(Duration::from_millis(5_100));
    let sent = scene.sent();
    assert_eq!(states(&sent), "partial partial: deleted");
    assert_eq!(document(&only_request(&sent, "NOTIFY")).attr("version"), Some("2"));
    watcher.answer_notify(&mut scene, &sent);
    scene.owner(Command::Lock(true));
    scene.wait(Duration::from_millis(5_100));
    assert_eq!(states(&scene.sent()), "partial partial: ", "the conference itself changed");
}

#[test]
fn hold_is_shown() {
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    let sdp = OFFER.replace("a=sendrecv", "a=sendonly");
    scene.send(&alice.next().invite(&sdp));
    scene.send(&alice.ack(""));
    let watcher = Phone::new("alice", 2);
    let sent = scene.send(&watcher.subscribe(""));
    let document = document(&only_request(&sent, "NOTIFY"));
    assert_eq!(texts(&document, "users/user/endpoint/status"), ["connected", "on-hold"]);
    assert_eq!(texts(&document, "users/user/endpoint/media/status"), ["sendrecv", "sendonly"]);
}

#[test]
fn a_subscription_within_the_call_names_its_contact() {
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    alice.next().uri = "sip:tea@192.0.2.10:5060".to_owned();
    let sent = scene.send(&alice.subscribe("Expires: 3600\r\n"));
    let notify = only_request(&sent, "NOTIFY");
    assert_eq!(notify.headers.call_id(), Ok("call-1"));
    assert_eq!(document(&notify).attr("entity"), Some("sip:tea@192.0.2.10:5060"));
    // Linphone cuts the port off, and subscribes from outside.
    let mut linphone = Phone::new("alice", 2);
    linphone.uri = "sip:tea@192.0.2.10".to_owned();
    let subscribe = linphone.subscribe("Last-Notify-Version: 0\r\n").replace("Accept: ", "X-No: ");
    let sent = scene.send(&subscribe);
    let notify = only_request(&sent, "NOTIFY");
    assert_eq!(document(&notify).attr("entity"), Some("sip:tea@192.0.2.10"));
}

#[test]
fn a_subscription_is_refused_refreshed_and_ended_as_rfc_6665_says() {
    let check = |headers: &str, status: u16, name: Name, value: &str| {
        let mut scene = Scene::open();
        let watcher = Phone::new("alice", 1);
        let text = watcher.subscribe(headers);
        let text = match headers.split_once(':') {
            Some(("Event", _)) => text.replacen("Event: conference\r\n", "", 1),
            Some(("Accept", _)) => {
                text.replacen("Accept: application/conference-info+xml\r\n", "", 1)
            }
            _ => text,
        };
        let sent = scene.send(&text);
        let answer = only_response(&sent);
        assert_eq!(answer.status.code(), status, "{headers}");
        assert_eq!(answer.headers.get(&name), Some(value), "{headers}");
        assert_eq!(scene.focus.subscriptions(), 0);
    };
    check("Event: presence\r\n", 489, Name::ALLOW_EVENTS, "conference");
    check("Accept: text/plain\r\n", 406, Name::ACCEPT, "application/conference-info+xml");
    check("Expires: 30\r\n", 423, Name::MIN_EXPIRES, "60");

    let mut scene = Scene::open();
    let mut watcher = Phone::new("alice", 1);
    let sent = scene.send(&watcher.subscribe("Expires: 7200\r\n"));
    let ok = sent.iter().find_map(|(_, message)| response(message)).unwrap();
    assert_eq!(ok.headers.get(&Name::EXPIRES), Some("3600"));
    watcher.learn(ok);
    watcher.answer_notify(&mut scene, &sent);
    // A refresh is told everything at once, whatever the pace.
    let sent = scene.send(&watcher.next().subscribe("Expires: 600\r\n"));
    assert_eq!(document(&only_request(&sent, "NOTIFY")).attr("version"), Some("2"));
    watcher.answer_notify(&mut scene, &sent);
    let sent = scene.send(&watcher.next().subscribe("Expires: 0\r\n"));
    let last = only_request(&sent, "NOTIFY");
    assert_eq!(last.headers.get(&Name::SUBSCRIPTION_STATE), Some("terminated;reason=timeout"));
    assert_eq!(document(&last).attr("version"), Some("3"));
    assert_eq!(scene.focus.subscriptions(), 0);

    // A fetch: one document, no subscription.
    let fetch = Phone::new("alice", 2);
    let sent = scene.send(&fetch.subscribe("Expires: 0\r\n"));
    let only = only_request(&sent, "NOTIFY");
    assert!(only.headers.get(&Name::SUBSCRIPTION_STATE).unwrap().starts_with("terminated"));
    assert_eq!(document(&only).attr("version"), Some("1"));
    assert_eq!(scene.focus.subscriptions(), 0);

    // Without a refresh it runs out.
    let mut watcher = Phone::new("alice", 3);
    let sent = scene.send(&watcher.subscribe("Expires: 60\r\n"));
    watcher.answer_notify(&mut scene, &sent);
    assert_eq!(scene.focus.subscriptions(), 1);
    scene.wait(Duration::from_secs(120));
    assert_eq!(scene.focus.subscriptions(), 0);
}

#[test]
fn only_those_may_watch_who_may_be_there() {
    let mut scene = Scene::new(Auth::Digest);
    let stranger = Phone::new("nobody", 1);
    let sent = scene.send(&stranger.subscribe(""));
    assert_eq!(only_response(&sent).status.code(), 401);

    let check = |setup: &dyn Fn(&mut Scene), who: &str, expected: u16| {
        let mut scene = Scene::open();
        scene.call("alice", 1);
        setup(&mut scene);
        let watcher = Phone::new(who, 2);
        let sent = scene.send(&watcher.subscribe(""));
        let answer = sent.iter().find_map(|(_, message)| response(message)).unwrap();
        assert_eq!(answer.status.code(), expected, "{who}");
        let told = sent.iter().any(|(_, message)| is_request(message, "NOTIFY"));
        assert_eq!(told, expected == 200);
    };
    let members_only = |scene: &mut Scene| scene.configure(|room| room.members_only = true);
    let secret =
        |scene: &mut Scene| scene.configure(|room| room.password = Some("sesame".to_owned()));
    let member = |scene: &mut Scene| {
        scene.affiliate("bob", Affiliation::Member);
        scene.configure(|room| room.members_only = true);
    };
    check(&|_| {}, "bob", 200);
    check(&members_only, "bob", 403);
    check(&member, "bob", 200);
    check(&secret, "bob", 401);
    check(&secret, "alice", 200);
    check(&|scene| scene.affiliate("bob", Affiliation::Outcast), "bob", 403);

    // Who may no longer be told is told no more.
    let mut scene = Scene::open();
    let mut bob = Phone::new("bob", 1);
    let sent = scene.send(&bob.subscribe(""));
    bob.answer_notify(&mut scene, &sent);
    scene.affiliate("bob", Affiliation::Outcast);
    scene.wait(Duration::from_millis(5_100));
    let last = only_request(&scene.sent(), "NOTIFY");
    assert_eq!(last.headers.get(&Name::SUBSCRIPTION_STATE), Some("terminated;reason=rejected"));
    assert_eq!(last.body, b"");
}

#[test]
fn addresses_are_for_moderators() {
    let mut scene = Scene::new(Auth::Trusted);
    let mut alice = Phone::new("alice", 1);
    alice.headers = "P-Asserted-Identity: <sip:alice@example.org>\r\n".to_owned();
    let mut carol = Phone::new("carol", 2);
    carol.headers = "P-Asserted-Identity: <sip:carol@example.org>\r\n".to_owned();
    let mut shy = Phone::new("shy", 3);
    shy.headers = "P-Asserted-Identity: <sip:shy@example.org>\r\nPrivacy: id\r\n".to_owned();
    for phone in [&mut alice, &mut carol, &mut shy] {
        let ok = only_response(&scene.send(&phone.invite(OFFER)));
        assert_eq!(ok.status.code(), 200);
    }
    let see = |scene: &mut Scene, id: u32, who: &str| {
        let mut watcher = Phone::new(who, id);
        watcher.headers = format!("P-Asserted-Identity: <sip:{who}@example.org>\r\n");
        let sent = scene.send(&watcher.subscribe(""));
        let notify = only_request(&sent, "NOTIFY");
        let document = document(&notify);
        let users = document.get_child("users", conference::NAMESPACE).unwrap().clone();
        let entities: Vec<_> =
            users.children().map(|user| user.attr("entity").unwrap().to_owned()).collect();
        (entities, String::from_utf8(notify.body).unwrap())
    };
    // Carol sees herself, and of the others neither name nor number.
    let (entities, text) = see(&mut scene, 4, "carol");
    assert_eq!(entities[2], "sip:carol@example.org");
    for hidden in [&entities[0], &entities[1], &entities[3]] {
        assert!(hidden.ends_with("@anonymous.invalid"), "{hidden}");
    }
    let different: std::collections::BTreeSet<_> = entities.iter().collect();
    assert_eq!(different.len(), 4);
    assert!(!text.contains("alice@") && !text.contains("olga@") && !text.contains("shy"));

    // A moderator sees who says who they are.
    scene.affiliate_jid("alice@example.org", Affiliation::Admin);
    let (entities, text) = see(&mut scene, 5, "alice");
    assert_eq!(entities[1], "sip:alice@example.org");
    assert_eq!(entities[2], "sip:carol@example.org");
    assert!(entities[3].ends_with("@anonymous.invalid"), "{}", entities[3]);
    assert!(text.contains("<uri>xmpp:alice@example.org</uri>"));
    assert!(text.contains("<uri>xmpp:olga@example.org</uri>"));
    assert!(!text.contains("shy"));
}

#[test]
fn a_document_too_large_for_a_datagram_goes_over_tcp() {
    let mut scene = Scene::open();
    scene.call("alice", 1);
    let watcher = Phone::new("alice", 2);
    let sent = scene.send(&watcher.subscribe(""));
    let (flow, notify) = sent.iter().find(|(_, message)| is_request(message, "NOTIFY")).unwrap();
    assert!(request(notify).unwrap().to_bytes().len() > 1_300);
    assert_eq!(flow.transport, Transport::Tcp);
}

#[test]
fn documents_are_valid_against_the_schema_of_rfc_4575() {
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    scene.call("bob", 2);
    scene.report(&Report::Source { leg: LegId(1), ssrc: u32::MAX });
    let sdp = OFFER.replace("a=sendrecv", "a=inactive");
    scene.send(&alice.next().invite(&sdp));
    let watcher = Phone::new("alice", 3);
    let sent = scene.send(&watcher.subscribe(""));
    let body = only_request(&sent, "NOTIFY").body;
    if std::process::Command::new("xmllint").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "xmllint is missing");
        return;
    }
    let file = std::env::temp_dir().join(format!("cusaxd-{}.xml", std::process::id()));
    std::fs::write(&file, body).unwrap();
    let schema =
        concat!(env!("CARGO_MANIFEST_DIR"), "/crates/cusax/tests/schema/conference-info.xsd");
    let lint = std::process::Command::new("xmllint")
        .args(["--nonet", "--noout", "--schema", schema])
        .arg(&file)
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stderr));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever reads every document of a subscription, full and partial, knows what a new subscriber
    /// is told in full.
    #[test]
    fn a_subscriber_knows_what_a_new_one_is_told(
        steps in proptest::collection::vec((0..4_u32, proptest::bool::ANY), 1..20),
    ) {
        let mut scene = Scene::open();
        let mut watcher = Phone::new("watcher", 99);
        let mut known = conference::Subscriber::default();
        let mut sent = scene.send(&watcher.subscribe(""));
        let mut calls = BTreeMap::new();
        let mut chats = std::collections::BTreeSet::new();
        for (i, (user, by_phone)) in (100..).zip(steps) {
            while sent.iter().any(|(_, message)| is_request(message, "NOTIFY")) {
                prop_assert_eq!(known.handle_document(read(&sent)), conference::Outcome::Applied);
                sent = watcher.answer_notify(&mut scene, &sent);
            }
            let name = format!("user{user}");
            let by = By::Chat(FullJid::new(&format!("{name}@example.org/desk")).unwrap());
            if by_phone {
                match calls.remove(&user) {
                    Some(phone) => {
                        let mut phone: Phone = phone;
                        scene.send(&phone.next().request("BYE", "", ""));
                    }
                    None => {
                        calls.insert(user, scene.call(&name, i));
                    }
                }
            } else if chats.remove(&user) {
                scene.apply_to("tea", &by, Command::LeaveChat);
            } else {
                chats.insert(user);
                let nick = Nick::new(&format!("chat {name}")).unwrap();
                scene.apply_to("tea", &by, Command::EnterChat { nick, password: None });
            }
            scene.sent();
            scene.wait(Duration::from_secs(6));
            sent = scene.sent();
        }
        prop_assert_eq!(known.handle_document(read(&sent)), conference::Outcome::Applied);
        let newcomer = Phone::new("watcher", 98);
        let told: Conference = read(&scene.send(&newcomer.subscribe(""))).into();
        let by_entity = |mut conference: Conference| {
            conference.users.list.sort_by(|a, b| a.entity.cmp(&b.entity));
            conference
        };
        prop_assert_eq!(by_entity(known.conference().unwrap().clone()), by_entity(told));
    }
}

/// The document of the first NOTIFY among these; others are the same, sent again.
fn read(sent: &[Sent]) -> conference::Document {
    let mut notifies = sent.iter().filter(|(_, message)| is_request(message, "NOTIFY"));
    let body = &request(&notifies.next().unwrap().1).unwrap().body;
    conference::Document::from_xml(std::str::from_utf8(body).unwrap()).unwrap()
}

/// The messages of RFC 4475 and RFC 5118, sound and unsound, in the middle of a call.
#[test]
fn torture_changes_nothing() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/sip/tests/torture");
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    let mut tortures = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        scene.receive(flow(), &bytes);
        tortures += 1;
    }
    assert!(tortures >= 60, "{tortures}");
    scene.wait(Duration::from_secs(300));
    assert_eq!(scene.focus.legs.len(), 1);
    assert_eq!(scene.focus.subscriptions(), 0);
    scene.sip.clear();
    let bye = scene.send(&alice.next().request("BYE", "", ""));
    assert_eq!(only_response(&bye).status.code(), 200);
}

#[test]
fn many_watchers_are_told_in_turns() {
    let mut scene = Scene::open();
    let watchers = 3 * notify::BATCH;
    for id in 0..u32::try_from(watchers).unwrap() {
        let mut watcher = Phone::new(&format!("user{id}"), id);
        let sent = scene.send(&watcher.subscribe(""));
        watcher.answer_notify(&mut scene, &sent);
    }
    assert_eq!(scene.focus.subscriptions(), watchers);
    scene.wait(Duration::from_secs(10));
    scene.sent();
    scene.owner(Command::Lock(true));
    for _ in 0..3 {
        assert_eq!(scene.focus.poll_timeout(), Some(scene.now.instant));
        let mut out =
            Wires { sip: &mut scene.sip, media: &mut scene.media, lookups: &mut scene.lookups };
        scene.focus.handle_timeout(scene.now, &scene.rooms, &mut out);
        assert_eq!(scene.sent().len(), notify::BATCH);
    }
    assert_ne!(scene.focus.poll_timeout(), Some(scene.now.instant));
}

#[test]
fn a_private_caller_is_not_named_though_the_directory_knows_them() {
    let mut scene = Scene::new(Auth::Trusted);
    let mut alice = Phone::new("alice", 1);
    alice.headers = "P-Asserted-Identity: <sip:alice@example.org>\r\nPrivacy: id\r\n".to_owned();
    assert_eq!(only_response(&scene.send(&alice.invite(OFFER))).status.code(), 200);
    let person = scene.person("alice").unwrap();
    assert_eq!(person.nick.as_str(), "Anonymous (phone)");
    assert_eq!(person.who, Who::Jid(BareJid::new("alice@example.org").unwrap()));
}

#[test]
fn a_flood_of_one_source_is_cut_off_and_no_call_feels_it() {
    for method in ["OPTIONS", "INVITE", "SUBSCRIBE", "REGISTER", "BYE"] {
        let mut scene = Scene::open();
        // A call from the very address that the flood then comes from.
        let mut carol = Phone::new("carol", 1);
        let invite = carol.invite(OFFER);
        let ok = only_response(&scene.send_from(STRANGER, &invite));
        assert_eq!(ok.status.code(), 200);
        carol.learn(&ok);
        let before = scene.focus.endpoint.load();
        assert_eq!(scene.flood(STRANGER, method, 1_000), (59, 5, 936), "{method}");
        let after = scene.focus.endpoint.load();
        assert!(after.server_transactions <= before.server_transactions + 59, "{after:?}");
        assert!(after.dialogs <= before.dialogs + 59, "{after:?}");
        // Another port of the host is no other source; another host is.
        assert_eq!(scene.flood("203.0.113.9:6000", method, 10), (0, 0, 10), "{method}");
        assert_eq!(scene.flood("203.0.113.8:5062", method, 60), (60, 0, 0), "{method}");
        // What belongs to the call passes: a copy, the ACK, a re-INVITE, OPTIONS, the BYE.
        assert_eq!(scene.send_from(STRANGER, &invite), [], "its answer is repeated by timer");
        assert_eq!(scene.send_from(STRANGER, &carol.ack("")), []);
        let reinvite = carol.next().invite(OFFER);
        assert_eq!(only_response(&scene.send_from(STRANGER, &reinvite)).status.code(), 200);
        assert_eq!(scene.send_from(STRANGER, &carol.ack("")), []);
        for request in ["OPTIONS", "BYE"] {
            let text = carol.next().request(request, "", "");
            let answer = only_response(&scene.send_from(STRANGER, &text));
            assert_eq!(answer.status.code(), 200, "{method} {request}");
        }
        // They may come back, at the pace that is left to them.
        scene.wait(Duration::from_secs(1));
        assert_eq!(scene.flood(STRANGER, method, 100), (20, 1, 79), "{method}");
        assert_eq!(scene.focus.limited(), Limited { rate: 941 + 10 + 80, ..Limited::default() });
    }
}

#[test]
fn who_is_turned_away_is_told_when_to_come_back() {
    let mut scene = Scene::open();
    scene.flood(STRANGER, "OPTIONS", 60);
    let phone = Phone::new("carol", 1);
    let refusal = only_response(&scene.send_from(STRANGER, &phone.invite(OFFER)));
    assert_eq!(refusal.status.code(), 503);
    let wait: u32 = refusal.headers.get(&Name::RETRY_AFTER).unwrap().parse().unwrap();
    assert!((5..=15).contains(&wait), "{wait}");
    assert_eq!(refusal.headers.via().unwrap().rport(), Some(Some(5060)));
    assert_eq!(scene.focus.legs.len(), 0);
    // The ACK to it belongs to nothing, and gets no answer.
    assert_eq!(scene.send_from(STRANGER, &phone.ack_refusal(&refusal)), []);
    // Sent again, as UDP has it, the same request finds room.
    scene.wait(Duration::from_millis(500));
    assert_eq!(only_response(&scene.send_from(STRANGER, &phone.invite(OFFER))).status.code(), 200);
}

#[test]
fn malformed_requests_count_and_what_nobody_answers_does_not() {
    let mut scene = Scene::open();
    let phone = Phone::new("carol", 1);
    let malformed = phone.request("OPTIONS", "", "").replace("1 OPTIONS", "1 BYE");
    let mut answered = 0;
    for _ in 0..200 {
        scene.send_from(STRANGER, "SIP/2.0 nonsense\r\n\r\n");
        scene.send_from(STRANGER, &phone.ack(""));
        answered += scene.send_from(STRANGER, &malformed).len();
    }
    assert_eq!(answered, 60);
    assert_eq!(scene.focus.limited().rate, 140);
}

#[test]
fn a_cancel_passes_with_the_call_that_it_is_about() {
    let mut scene = Scene::open();
    let mut carol = Phone::new("carol", 1);
    carol.headers = "Supported: x\r\n".to_owned();
    let invite = carol.invite(OFFER);
    let mut out =
        Wires { sip: &mut scene.sip, media: &mut scene.media, lookups: &mut scene.lookups };
    let from = stranger_flow(STRANGER);
    // The room has not answered yet.
    let Ok(message) = parse(invite.as_bytes()) else { panic!() };
    let asks =
        scene.focus.receive(scene.now, from, Ok(message), &scene.rooms, &scene.directory, &mut out);
    assert!(!asks.is_empty());
    scene.flood(STRANGER, "OPTIONS", 100);
    let cancel = carol.request("CANCEL", "", "").replace("-CANCEL", "-INVITE");
    let sent = scene.send_from(STRANGER, &cancel);
    let statuses: Vec<_> =
        sent.iter().filter_map(|(_, sent)| Some(response(sent)?.status.code())).collect();
    assert_eq!(statuses, [200, 487]);
    assert_eq!(scene.focus.legs.len(), 0);
}

#[test]
fn a_trusted_proxy_has_no_limit_of_its_own() {
    let mut scene = Scene::open();
    assert_eq!(scene.flood("192.0.2.1:5062", "OPTIONS", 1_000), (1_000, 0, 0));
    assert_eq!(scene.focus.limited(), Limited::default());
}

/// Guesses at a password, as fast as the challenges come: the statuses that they get.
fn guess(scene: &mut Scene, from: &str, user: &str, realm: &str, passwords: &[&str]) -> Vec<u16> {
    let mut statuses = vec![];
    for password in passwords {
        scene.floods += 1;
        let mut phone = Phone::new(user, 500_000 + scene.floods);
        let challenge = only_response(&scene.send_from(from, &phone.invite(OFFER)));
        assert_eq!(challenge.status.code(), 401, "who tries nothing is not refused");
        scene.send_from(from, &phone.ack_refusal(&challenge));
        let credentials = credentials(&challenge, user, password, realm);
        let again = phone.next().with_header("Authorization", &credentials).invite(OFFER);
        let answer = only_response(&scene.send_from(from, &again));
        if answer.status.code() == 403 {
            assert_eq!(answer.reason, "Too Many Wrong Passwords");
            assert_eq!(answer.headers.get(&Name::WWW_AUTHENTICATE), None);
        }
        statuses.push(answer.status.code());
    }
    statuses
}

#[test]
fn who_guesses_passwords_is_locked_out_whether_there_is_such_a_user_or_not() {
    let realm = "conf.example.org";
    for user in ["alice", "nobody"] {
        let mut scene = Scene::new(Auth::Digest);
        let try_as = |scene: &mut Scene, from: &str, passwords: &[&str]| {
            guess(scene, from, user, realm, passwords)
        };
        let wrong = ["a", "b", "c", "d", "e", "f"];
        assert_eq!(try_as(&mut scene, STRANGER, &wrong), [401, 401, 401, 401, 401, 403], "{user}");
        // The right one does not help, nor does another name.
        assert_eq!(try_as(&mut scene, STRANGER, &["secret"]), [403], "{user}");
        assert_eq!(guess(&mut scene, STRANGER, "zoe", realm, &["x"]), [403]);
        let right = if user == "alice" { 200 } else { 401 };
        assert_eq!(try_as(&mut scene, "203.0.113.8:5062", &["secret"]), [right], "{user}");
        assert_eq!(scene.focus.limited().guesses, 3, "{user}");
        scene.wait(Duration::from_secs(60));
        assert_eq!(try_as(&mut scene, STRANGER, &["secret"]), [right], "{user}");
    }
}

#[test]
fn one_who_shares_an_address_with_a_guesser_and_was_right_before_gets_in() {
    let realm = "conf.example.org";
    let mut scene = Scene::new(Auth::Digest);
    assert_eq!(guess(&mut scene, STRANGER, "alice", realm, &["secret"]), [200]);
    let wrong = ["a", "b", "c", "d", "e", "f"];
    guess(&mut scene, STRANGER, "nobody", realm, &wrong);
    assert_eq!(guess(&mut scene, STRANGER, "alice", realm, &["secret"]), [200]);
    // Which helps nobody to guess at that one.
    assert_eq!(guess(&mut scene, STRANGER, "alice", realm, &["x", "y"]), [401, 403]);
}

#[test]
fn the_password_of_a_room_is_guessed_no_faster() {
    let realm = "tea@conf.example.org";
    let mut scene = Scene::open();
    scene.configure(|room| room.password = Some("sesame".to_owned()));
    let wrong = ["0000", "0001", "0002", "0003", "0004", "0005"];
    let statuses = guess(&mut scene, STRANGER, "carol", realm, &wrong);
    assert_eq!(statuses, [401, 401, 401, 401, 401, 403]);
    assert_eq!(guess(&mut scene, STRANGER, "dave", realm, &["sesame"]), [403]);
    assert_eq!(guess(&mut scene, "203.0.113.8:5062", "dave", realm, &["sesame"]), [200]);
    // Many who guess together lock the room, for those alone who have to say its password.
    let mut looked_at = 5;
    for host in 100..200 {
        let from = format!("203.0.113.{host}:5062");
        let statuses = guess(&mut scene, &from, "carol", realm, &["1", "2"]);
        looked_at += statuses.iter().filter(|status| **status == 401).count();
    }
    assert_eq!(looked_at, 30);
    assert_eq!(guess(&mut scene, "203.0.113.8:5062", "frank", realm, &["sesame"]), [200]);
    assert_eq!(guess(&mut scene, "203.0.113.7:5062", "erin", realm, &["sesame"]), [403]);
    scene.affiliate("erin", Affiliation::Member);
    let erin = Phone::new("erin", 3);
    let ok = only_response(&scene.send_from("203.0.113.7:5062", &erin.invite(OFFER)));
    assert_eq!(ok.status.code(), 200);
}

#[test]
fn subscriptions_are_no_way_to_guess_either() {
    let mut scene = Scene::new(Auth::Digest);
    let mut phone = Phone::new("alice", 1);
    let challenge = only_response(&scene.send_from(STRANGER, &phone.subscribe("")));
    let answer = credentials(&challenge, "alice", "x", "conf.example.org");
    phone.with_header("Authorization", &answer);
    let statuses: Vec<_> = (0..6)
        .map(|_| only_response(&scene.send_from(STRANGER, &phone.next().subscribe(""))))
        .map(|response| response.status.code())
        .collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 403]);
}

#[test]
fn under_stress_new_calls_wait_and_old_ones_stay() {
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    scene.focus.note_stress(0.95);
    let bob = Phone::new("bob", 2);
    let busy = only_response(&scene.send(&bob.invite(OFFER)));
    assert_eq!((busy.status.code(), busy.reason.as_str()), (503, "Too Busy"));
    assert_eq!(busy.headers.get(&Name::RETRY_AFTER), Some("30"));
    let options = only_response(&scene.send(&bob.request("OPTIONS", "", "")));
    assert_eq!(options.status.code(), 503);
    for request in [alice.next().invite(OFFER), alice.next().request("OPTIONS", "", "")] {
        assert_eq!(only_response(&scene.send(&request)).status.code(), 200);
    }
    assert_eq!(scene.focus.limited(), Limited { stress: 1, ..Limited::default() });
    scene.focus.note_stress(0.9);
    let bob = Phone::new("bob", 3);
    assert_eq!(only_response(&scene.send(&bob.invite(OFFER))).status.code(), 200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a caller says to be, they get in, and the document about them can be read.
    #[test]
    fn names_cannot_break_documents(name in any::<String>()) {
        let mut scene = Scene::open();
        let mut alice = Phone::new("alice", 1);
        alice.display = name;
        let invite = alice.invite(OFFER);
        let ok = only_response(&scene.send(&invite));
        prop_assert_eq!(ok.status.code(), 200);
        let mut watcher = Phone::new("alice", 2);
        watcher.uri = alice.uri.clone();
        let sent = scene.send(&watcher.subscribe(""));
        let document = document(&only_request(&sent, "NOTIFY"));
        let names = texts(&document, "users/user/display-text");
        prop_assert_eq!(names.len(), 2);
        prop_assert!(names[1].chars().count() <= 64);
        prop_assert!(!names[1].chars().any(char::is_control));
    }

    /// Nothing that arrives makes the focus panic or forget a call.
    #[test]
    fn garbage_changes_nothing(at in 0_usize..600, byte in any::<u8>(), cut in 0_usize..700) {
        let mut scene = Scene::open();
        scene.call("alice", 1);
        let bob = Phone::new("bob", 2);
        let mut bytes = bob.invite(OFFER).into_bytes();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        bytes.truncate(cut.max(at));
        scene.receive(flow(), &bytes);
        prop_assert!(scene.person("alice").is_some());
    }
}

/// A message that left, and how.
type Sent = (Flow, Message);

/// A focus with one room and its owner in the chat, in virtual time.
struct Scene {
    now: Now,
    focus: Focus,
    rooms: Rooms,
    directory: Directory,
    media: Vec<Order>,
    sip: Vec<Transmit>,
    lookups: Vec<Lookup>,
    /// How many there were: no two send the same.
    floods: u32,
    /// How calls of rooms failed.
    failures: Vec<(u16, String)>,
}

impl Scene {
    fn open() -> Self {
        Self::new(Auth::Open)
    }

    fn new(auth: Auth) -> Self {
        let now = Now::read();
        let config = FocusConfig {
            domain: "conf.example.org".to_owned(),
            xmpp_domain: DomainPart::new("rooms.example.org").unwrap().into_owned(),
            listen: [Transport::Udp, Transport::Tcp]
                .map(|transport| (transport, "192.0.2.10:5060".parse().unwrap()))
                .to_vec(),
            trusted_proxies: vec!["192.0.2.1".parse().unwrap()],
            trusted_domains: vec![],
            auth,
            dialplan: DialPlan::new(
                &serde_json::from_value(serde_json::json!({
                    "xmpp": { "domain": "rooms.example.org", "secret": "x" },
                    "sip": { "domain": "conf.example.org", "dial_allow": ["example.org"] },
                }))
                .unwrap(),
            ),
            outbound: None,
            media_address: "192.0.2.10".parse().unwrap(),
            ports: PortRange { first: 40_000, last: 40_999 },
            session: SessionTimer { interval: 1800, min: address::MIN_SESSION },
            factory: None,
            limits: Limits {
                requests: Rate { interval: Duration::from_millis(50), burst: 60 },
                wrong_passwords: 5,
                max_stress: 0.9,
            },
            keypad: config::Keypad::default(),
            prompts: false,
            tones_up_to: 0,
        };
        let mut directory = Directory::default();
        let hash = |algorithm| {
            Ha1::new(algorithm, "alice", "conf.example.org", "secret").as_hex().to_owned()
        };
        directory
            .put(User {
                jid: BareJid::new("alice@example.org").unwrap(),
                aor: "sip:alice@example.org".parse().unwrap(),
                name: Some("Alice".to_owned()),
                secret: Some(Secret { md5: hash(Algorithm::Md5), sha256: hash(Algorithm::Sha256) }),
            })
            .unwrap();
        let mut scene = Self {
            now,
            focus: Focus::new(now.instant, config, [3; 32]),
            rooms: Rooms::new(Policy::default()),
            directory,
            media: vec![],
            sip: vec![],
            lookups: vec![],
            floods: 0,
            failures: vec![],
        };
        let enter = Command::EnterChat { nick: Nick::new("Olga").unwrap(), password: None };
        scene.owner(enter);
        let settings = Settings { name: "Tea Time".to_owned(), ..Settings::default() };
        scene.owner(Command::Configure(Box::new(settings)));
        scene
    }

    fn owner(&mut self, command: Command) {
        let owner = By::Chat(FullJid::new("olga@example.org/desk").unwrap());
        self.apply_to("tea", &owner, command);
    }

    fn configure(&mut self, change: impl Fn(&mut Settings)) {
        let mut settings = self.rooms.get(&tea()).unwrap().settings.clone();
        change(&mut settings);
        self.owner(Command::Configure(Box::new(settings)));
    }

    fn affiliate(&mut self, user: &str, affiliation: Affiliation) {
        let who = Who::Aor(format!("sip:{user}@example.org").parse().unwrap());
        let change = Change::Affiliation { who, affiliation, reason: None };
        self.owner(Command::Moderate(vec![change]));
    }

    fn affiliate_jid(&mut self, jid: &str, affiliation: Affiliation) {
        let who = Who::Jid(BareJid::new(jid).unwrap());
        let change = Change::Affiliation { who, affiliation, reason: None };
        self.owner(Command::Moderate(vec![change]));
    }

    fn apply_to(&mut self, room: &str, by: &By, command: Command) {
        let room = RoomName::new(room).unwrap();
        let facts = self.rooms.apply(self.now, &room, by, command).unwrap();
        self.publish(&room, &facts);
    }

    fn publish(&mut self, room: &RoomName, facts: &[Fact]) {
        let mut out =
            Wires { sip: &mut self.sip, media: &mut self.media, lookups: &mut self.lookups };
        for fact in facts {
            if let Fact::DialEnded { end: DialEnd::Failed { status, text }, .. } = fact {
                self.failures.push((*status, text.clone()));
            }
            let room = self.rooms.get(room).unwrap();
            self.focus.render(self.now, room, fact, &mut out);
        }
        self.rooms.sweep();
    }

    fn ask(&mut self, asks: Vec<Ask>) {
        for Ask { room, by, command, reply } in asks {
            let applied = self.rooms.apply(self.now, &room, &by, command);
            let result = applied.as_ref().map(|_| ()).map_err(|refusal| *refusal);
            let mut out =
                Wires { sip: &mut self.sip, media: &mut self.media, lookups: &mut self.lookups };
            self.focus.answer(self.now, reply, result, &self.rooms, &mut out);
            self.publish(&room, &applied.unwrap_or_default());
        }
    }

    fn receive(&mut self, flow: Flow, bytes: &[u8]) {
        let mut out =
            Wires { sip: &mut self.sip, media: &mut self.media, lookups: &mut self.lookups };
        let asks = self.focus.receive(
            self.now,
            flow,
            parse(bytes),
            &self.rooms,
            &self.directory,
            &mut out,
        );
        self.ask(asks);
    }

    fn report(&mut self, report: &Report) {
        let mut out =
            Wires { sip: &mut self.sip, media: &mut self.media, lookups: &mut self.lookups };
        let asks = self.focus.report(self.now, report, &self.rooms, &mut out);
        self.ask(asks);
    }

    /// Lets a phone say something; gives what was sent upon it.
    fn send(&mut self, text: &str) -> Vec<Sent> {
        self.sip.clear();
        self.receive(flow(), text.as_bytes());
        self.sent()
    }

    /// The same of a phone that is somewhere else.
    fn send_from(&mut self, from: &str, text: &str) -> Vec<Sent> {
        self.sip.clear();
        self.receive(stranger_flow(from), text.as_bytes());
        self.sent()
    }

    /// New requests, each unlike the other: how many were answered, turned away with 503, and not
    /// answered.
    fn flood(&mut self, from: &str, method: &str, count: u32) -> (usize, usize, usize) {
        let (mut answered, mut refused, mut silent) = (0, 0, 0);
        self.floods += 1;
        for id in 0..count {
            let phone = Phone::new("mallory", self.floods * 10_000 + id);
            let text = match method {
                "INVITE" => phone.invite(OFFER),
                "SUBSCRIBE" => phone.subscribe("").replace("mallory", &format!("mallory{id}")),
                _ => phone.request(method, "", ""),
            };
            let sent = self.send_from(from, &text);
            match sent.iter().find_map(|(_, message)| response(message)) {
                None => silent += 1,
                Some(response) if response.status == Status::SERVICE_UNAVAILABLE => refused += 1,
                Some(_) => answered += 1,
            }
        }
        (answered, refused, silent)
    }

    /// Everything that was sent since last asked, 100s left out.
    fn sent(&mut self) -> Vec<Sent> {
        let sent = std::mem::take(&mut self.sip).into_iter();
        sent.map(|transmit| (transmit.flow, parse(&transmit.bytes).unwrap()))
            .filter(|(_, message)| response(message).is_none_or(|r| r.status.code() != 100))
            .collect()
    }

    /// Lets time pass, timer by timer.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.focus.poll_timeout().filter(|at| *at <= end.instant) {
            let step = at.saturating_duration_since(self.now.instant);
            self.now = self.now + step;
            let mut out =
                Wires { sip: &mut self.sip, media: &mut self.media, lookups: &mut self.lookups };
            let asks = self.focus.handle_timeout(self.now, &self.rooms, &mut out);
            self.ask(asks);
        }
        self.now = end;
    }

    /// A call that is up.
    fn call(&mut self, user: &str, id: u32) -> Phone {
        let mut phone = Phone::new(user, id);
        let ok = only_response(&self.send(&phone.invite(OFFER)));
        assert_eq!(ok.status.code(), 200);
        phone.learn(&ok);
        self.send(&phone.ack(""));
        phone
    }

    /// Whoever calls as this user.
    fn person(&self, user: &str) -> Option<&Person> {
        let aor = format!("sip:{user}@example.org").parse().unwrap();
        let room = self.rooms.get(&tea())?;
        room.people
            .values()
            .find(|person| person.legs.values().any(|leg| leg.caller.aor.as_ref() == Some(&aor)))
    }

    /// The plan of the one leg that was opened.
    fn opened(&mut self) -> LegPlan {
        let plan = match &self.media[..] {
            [Order::Open(plan)] => (**plan).clone(),
            other => panic!("{other:?}"),
        };
        self.media.clear();
        plan
    }
}

/// A phone, as far as its messages go.
#[derive(Clone)]
struct Phone {
    user: String,
    display: String,
    uri: String,
    call_id: String,
    to_tag: Option<String>,
    cseq: u32,
    headers: String,
}

impl Phone {
    fn new(user: &str, id: u32) -> Self {
        Self {
            user: user.to_owned(),
            display: String::new(),
            uri: "sip:tea@conf.example.org".to_owned(),
            call_id: format!("call-{id}"),
            to_tag: None,
            cseq: 1,
            headers: String::new(),
        }
    }

    fn next(&mut self) -> &mut Self {
        self.cseq += 1;
        self
    }

    fn with_header(&mut self, name: &str, value: &str) -> &mut Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    fn learn(&mut self, response: &Response) {
        self.to_tag = response.headers.to_tag().unwrap();
    }

    fn request(&self, method: &str, headers: &str, body: &str) -> String {
        let Self { user, uri, call_id, cseq, .. } = self;
        let to_tag = self.to_tag.as_ref().map(|tag| format!(";tag={tag}")).unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        // The name as a phone would write it, whatever it holds.
        let display: String = self
            .display
            .chars()
            .filter(|c| !matches!(c, '\r' | '\n' | '\0'))
            .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]))
            .collect();
        let branch = format!("z9hG4bK{call_id}-{cseq}-{method}");
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.1:5062;branch={branch};rport\r\n\
             Max-Forwards: 70\r\n\
             From: \"{display}\" <sip:{user}@example.org>;tag=from-{call_id}\r\n\
             To: <sip:tea@{}>{to_tag}\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <sip:{user}@192.0.2.1:5062>\r\n\
             {}{headers}{kind}Content-Length: {}\r\n\r\n{body}",
            uri.rsplit_once('@')
                .map_or("conf.example.org", |(_, host)| host.split(';').next().unwrap()),
            self.headers,
            body.len(),
        )
    }

    fn invite(&self, sdp: &str) -> String {
        self.request("INVITE", "", sdp)
    }

    fn ack(&self, sdp: &str) -> String {
        self.request("ACK", "", sdp)
    }

    /// The ACK to a refusal: within the INVITE's transaction.
    fn ack_refusal(&self, response: &Response) -> String {
        let mut phone = self.clone();
        phone.learn(response);
        phone.ack("").replace("-ACK", "-INVITE")
    }

    fn subscribe(&self, headers: &str) -> String {
        let ours = "Event: conference\r\nAccept: application/conference-info+xml\r\n";
        self.request("SUBSCRIBE", &format!("{ours}{headers}"), "")
    }

    /// Answers the NOTIFY among these with 200.
    fn answer_notify(&mut self, scene: &mut Scene, sent: &[Sent]) -> Vec<Sent> {
        let (flow, message) =
            sent.iter().find(|(_, message)| is_request(message, "NOTIFY")).unwrap();
        self.to_tag = request(message).unwrap().headers.from_tag().unwrap();
        let answer = response_to(request(message).unwrap(), "200 OK");
        scene.sip.clear();
        scene.receive(*flow, answer.as_bytes());
        scene.sent()
    }
}

fn response_to(request: &Request, status: &str) -> String {
    let (code, reason) = status.split_once(' ').unwrap();
    let code = Status::new(code.parse().unwrap()).unwrap();
    let response = request.response(code).with_reason(reason);
    String::from_utf8(response.to_bytes()).unwrap()
}

/// What answers the challenge of a 401.
fn credentials(challenge: &Response, user: &str, password: &str, realm: &str) -> String {
    let mut account = Account::new(user, password, Some(realm));
    let headers: &Headers = &challenge.headers;
    assert!(account.challenged(headers, &Name::WWW_AUTHENTICATE));
    let uri = "sip:tea@conf.example.org";
    account.credentials(&Method::Invite, uri, "f00d").unwrap().to_string()
}

fn response(message: &Message) -> Option<&Response> {
    match message {
        Message::Response(response) => Some(response),
        Message::Request(_) => None,
    }
}

fn request(message: &Message) -> Option<&Request> {
    match message {
        Message::Request(request) => Some(request),
        Message::Response(_) => None,
    }
}

fn is_request(message: &Message, method: &str) -> bool {
    request(message).is_some_and(|request| request.method.as_str() == method)
}

fn only_response(sent: &[Sent]) -> Response {
    match sent {
        [(_, Message::Response(response))] => response.clone(),
        other => panic!("{other:#?}"),
    }
}

fn only_request(sent: &[Sent], method: &str) -> Request {
    let mut found = sent.iter().filter(|(_, message)| is_request(message, method));
    match (found.next(), found.next()) {
        (Some((_, Message::Request(request))), None) => request.clone(),
        _ => panic!("not one {method}: {sent:#?}"),
    }
}

fn document(notify: &Request) -> Element {
    assert_eq!(notify.headers.get(&Name::CONTENT_TYPE), Some("application/conference-info+xml"));
    let text = String::from_utf8(notify.body.clone()).unwrap();
    let (_, document) = text.split_once("?>\n").unwrap();
    document.parse().unwrap()
}

/// The texts of all elements at a path.
fn texts(document: &Element, path: &str) -> Vec<String> {
    let mut found = vec![document];
    for name in path.split('/') {
        found = found
            .into_iter()
            .flat_map(|element| element.children().filter(move |child| child.name() == name))
            .collect();
    }
    found.into_iter().map(Element::text).collect()
}

/// How all phones reach us.
fn flow() -> Flow {
    let local: SocketAddr = "192.0.2.10:5060".parse().unwrap();
    Flow { transport: Transport::Udp, local, remote: "192.0.2.1:5062".parse().unwrap() }
}

/// How somebody else reaches us.
fn stranger_flow(from: &str) -> Flow {
    Flow { remote: from.parse().unwrap(), ..flow() }
}

/// An address that no proxy vouches for.
const STRANGER: &str = "203.0.113.9:5060";

fn tea() -> RoomName {
    RoomName::new("tea").unwrap()
}

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 7000 RTP/AVP 96 0 8 101 102\r\na=rtpmap:96 opus/48000/2\r\n\
    a=fmtp:96 maxaveragebitrate=24000;useinbandfec=1;usedtx=1\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
    a=rtpmap:102 telephone-event/48000\r\na=rtcp-mux\r\n\
    a=extmap:3 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=sendrecv\r\n";
const PCMU_ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n\
    t=0 0\r\nm=audio 7002 RTP/AVP 0\r\n";
const VIDEO: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=video 7004 RTP/AVP 99\r\na=rtpmap:99 VP8/90000\r\n";
const SAVP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 7004 RTP/SAVP 0\r\n";
const G729: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 7004 RTP/AVP 18\r\n";
