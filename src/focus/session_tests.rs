//! Session timers and UPDATE in a focus, in virtual time.

use super::dial::BOB;
use super::*;

const HALF: Duration = Duration::from_secs(900);

#[test]
fn who_is_to_refresh_and_does_not_is_gone_for_all() {
    let mut scene = Scene::open();
    let mut alice = Phone::new("alice", 1);
    alice.with_header("Supported", "timer");
    alice.with_header("Session-Expires", "90;refresher=uac");
    let ok = only_response(&scene.send(&alice.invite(OFFER)));
    assert_eq!(ok.headers.get(&Name::SESSION_EXPIRES), Some("90;refresher=uac"));
    assert_eq!(
        ok.headers.get(&Name::SUPPORTED),
        Some("100rel, timer, replaces, join, tdialog, norefersub, nosub")
    );
    alice.learn(&ok);
    scene.send(&alice.ack(""));
    scene.wait(Duration::from_secs(50));
    let ok = only_response(&scene.send(&alice.next().request("UPDATE", "", "")));
    assert_eq!(ok.headers.get(&Name::SESSION_EXPIRES), Some("90;refresher=uac"));
    assert!(ok.headers.get(&Name::CONTACT).unwrap().ends_with(";isfocus"));
    scene.wait(Duration::from_millis(59_900));
    assert!(scene.person("alice").is_some());
    scene.wait(Duration::from_millis(200));
    let bye = only_request(&scene.sent(), "BYE");
    let reason = bye.headers.get(&Name::REASON);
    assert_eq!(reason, Some("SIP;cause=408;text=\"Session Expired\""));
    assert!(scene.person("alice").is_none() && scene.focus.legs.is_empty());
    assert!(matches!(scene.media[..], [Order::Open(_), Order::Close(_)]));
}

#[test]
fn a_session_too_short_is_refused_before_anything_else() {
    let mut scene = Scene::open();
    let mut alice = Phone::new("alice", 1);
    alice.with_header("Session-Expires", "60");
    let refusal = only_response(&scene.send(&alice.invite(OFFER)));
    assert_eq!(refusal.status.code(), 422);
    assert_eq!(refusal.headers.get(&Name::MIN_SE), Some("90"));
    assert!(scene.focus.legs.is_empty() && scene.media.is_empty());
}

#[test]
fn a_phone_without_update_is_offered_what_is_agreed_once_more() {
    let mut scene = Scene::open();
    let mut alice = Phone::new("alice", 1);
    let ok = only_response(&scene.send(&alice.invite(OFFER)));
    alice.learn(&ok);
    scene.send(&alice.ack(""));
    scene.media.clear();
    for _ in 0..2 {
        scene.wait(HALF);
        let reinvite = only_request(&scene.sent(), "INVITE");
        assert_eq!(reinvite.body, ok.body, "nothing changes");
        assert_eq!(reinvite.headers.all(&Name::CONTACT).count(), 1);
        assert!(reinvite.headers.get(&Name::CONTACT).unwrap().ends_with(";isfocus"));
        assert_eq!(reinvite.headers.get(&Name::SESSION_EXPIRES), Some("1800;refresher=uac"));
        let answer = answer_with(&reinvite, "200 OK", OFFER_ANSWER);
        let ack = only_request(&scene.send(&answer), "ACK");
        assert!(ack.body.is_empty());
    }
    assert_eq!(scene.media, [], "it is no news to the mixer");
    // A refusal changes nothing either; silence ends the call.
    scene.wait(HALF);
    let reinvite = only_request(&scene.sent(), "INVITE");
    scene.send(&response_to(&reinvite, "488 Not Acceptable Here"));
    assert!(scene.person("alice").is_some());
    let ok = only_response(&scene.send(&alice.next().invite(OFFER)));
    assert_eq!(ok.status.code(), 200, "no offer of ours is left open");
    scene.send(&alice.ack(""));
    scene.wait(HALF + Duration::from_secs(33));
    assert!(scene.person("alice").is_none(), "nobody answers");
}

#[test]
fn an_update_puts_on_hold_as_a_reinvite_does() {
    let mut scene = Scene::open();
    let mut alice = scene.call("alice", 1);
    for (theirs, ours, hold) in [("sendonly", "recvonly", true), ("sendrecv", "sendrecv", false)] {
        let sdp = OFFER.replace("a=sendrecv", &format!("a={theirs}"));
        let ok = only_response(&scene.send(&alice.next().request("UPDATE", "", &sdp)));
        assert_eq!(ok.status.code(), 200);
        assert!(String::from_utf8(ok.body).unwrap().contains(&format!("a={ours}\r\n")));
        assert_eq!(scene.person("alice").unwrap().legs.values().next().unwrap().hold, hold);
    }
    for (sdp, code) in [(VIDEO, 488), ("no=sdp", 400)] {
        let refusal = only_response(&scene.send(&alice.next().request("UPDATE", "", sdp)));
        assert_eq!(refusal.status.code(), code);
    }
    let text = alice.next().request("UPDATE", "", OFFER).replace("application/sdp", "text/plain");
    assert_eq!(only_response(&scene.send(&text)).status.code(), 415);
    assert!(!scene.person("alice").unwrap().legs.values().next().unwrap().hold);
}

#[test]
fn a_caller_who_demands_reliable_answers_is_answered() {
    let mut scene = Scene::open();
    let mut alice = Phone::new("alice", 1);
    alice.with_header("Require", "100rel");
    assert_eq!(only_response(&scene.send(&alice.invite(OFFER))).status.code(), 200);
}

#[test]
fn whom_a_room_calls_may_answer_early_and_for_sure() {
    let mut scene = Scene::open();
    let invite = scene.calls_bob();
    assert_eq!(invite.headers.get(&Name::SESSION_EXPIRES), Some("1800;refresher=uac"));
    let reliable = "Require: 100rel\r\nRSeq: 5\r\n";
    let prack = scene.bob_says(&invite, "183 Session Progress", reliable, PCMU_ANSWER);
    let prack = only_request(&prack, "PRACK");
    assert_eq!(prack.headers.get(&Name::RACK), Some("5 1 INVITE"));
    assert_eq!(scene.media, [], "no audio before the answer");
    scene.send_from(BOB, &response_to(&prack, "200 OK"));
    // The 2xx need not say it again.
    only_request(&scene.bob_says(&invite, "200 OK", "", ""), "ACK");
    let plan = scene.opened();
    assert_eq!((plan.codec.kind, plan.heard), (CodecKind::Pcmu, true));
    assert!(scene.person("bob").is_some());
}

#[test]
fn whom_a_room_calls_may_want_a_longer_session() {
    let mut scene = Scene::open();
    let mut invite = scene.calls_bob();
    for min in [3600, 7200] {
        let headers = format!("Min-SE: {min}\r\n");
        let sent = scene.bob_says(&invite, "422 Session Interval Too Small", &headers, "");
        invite = only_request(&sent, "INVITE");
        assert_eq!(invite.headers.get(&Name::MIN_SE), Some(&*min.to_string()));
        let expires = format!("{min};refresher=uac");
        assert_eq!(invite.headers.get(&Name::SESSION_EXPIRES), Some(&*expires));
        assert_eq!(scene.dialling(), 1);
    }
    // But not one who wants what they have been given.
    scene.bob_says(&invite, "422 Session Interval Too Small", "Min-SE: 7200\r\n", "");
    assert_eq!(scene.failure().0, 422);
    assert_eq!(scene.dialling(), 0);
}

/// The answer of a phone to a request of ours, with a description.
fn answer_with(request: &Request, status: &str, sdp: &str) -> String {
    let text = response_to(request, status);
    let head = text.split("Content-Length").next().unwrap();
    let contact = "Contact: <sip:alice@192.0.2.1:5062>\r\nContent-Type: application/sdp\r\n";
    format!("{head}{contact}Content-Length: {}\r\n\r\n{sdp}", sdp.len())
}

/// What answers our offer of Opus alone, as [`OFFER`] was.
const OFFER_ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n\
    t=0 0\r\nm=audio 7000 RTP/AVP 96 102 101\r\na=rtpmap:96 opus/48000/2\r\n\
    a=fmtp:96 maxaveragebitrate=24000;useinbandfec=1;usedtx=1\r\n\
    a=rtpmap:102 telephone-event/48000\r\na=rtpmap:101 telephone-event/8000\r\n\
    a=rtcp-mux\r\na=extmap:3 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=sendrecv\r\n";
