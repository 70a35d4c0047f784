//! REFER, in virtual time.

use super::*;
use crate::dialplan::Hop;
use crate::room::standing::Role;

const BOB: &str = "192.0.2.77:5060";

/// What the reports among these say, with the state of each.
fn reports(sent: &[Sent]) -> Vec<String> {
    let notifies = sent.iter().filter_map(|(_, message)| request(message));
    let notifies = notifies.filter(|request| request.method == Method::Notify);
    notifies
        .filter(|notify| notify.headers.get(&Name::EVENT).unwrap().starts_with("refer"))
        .map(|notify| {
            let kind = notify.headers.get(&Name::CONTENT_TYPE);
            assert_eq!(kind, Some("message/sipfrag;version=2.0"));
            let state = notify.headers.get(&Name::SUBSCRIPTION_STATE).unwrap();
            let body = String::from_utf8(notify.body.clone()).unwrap();
            format!("{} {}", state.split(';').next().unwrap(), body.trim_end())
        })
        .collect()
}

impl Scene {
    /// A call of somebody who moderates.
    fn moderator(&mut self, id: u32) -> Phone {
        let phone = self.call("alice", id);
        let nick = self.person("alice").unwrap().nick.clone();
        let role = Some(Role::Moderator);
        self.owner(Command::Moderate(vec![Change::Role { nick, role, reason: None }]));
        self.sip.clear();
        phone
    }

    /// Answers every NOTIFY that was sent.
    fn answer_reports(&mut self, sent: &[Sent]) -> Vec<Sent> {
        self.sip.clear();
        for (flow, message) in sent.iter().filter(|(_, message)| is_request(message, "NOTIFY")) {
            let answer = response_to(request(message).unwrap(), "200 OK");
            self.receive(*flow, answer.as_bytes());
        }
        self.sent()
    }
}

fn refer(phone: &mut Phone, to: &str, headers: &str) -> String {
    phone.next().request("REFER", &format!("Refer-To: {to}\r\n{headers}"), "")
}

#[test]
fn a_moderator_on_the_phone_calls_somebody_in_and_is_told_how_it_goes() {
    let mut scene = Scene::open();
    let mut alice = scene.moderator(1);
    let sent = scene.send(&refer(&mut alice, "<sip:bob@example.org>", ""));
    let answer = sent.iter().find_map(|(_, message)| response(message)).unwrap();
    assert_eq!(answer.status.code(), 200);
    assert!(answer.headers.get(&Name::CONTACT).unwrap().ends_with(";isfocus"));
    assert_eq!(reports(&sent), ["active SIP/2.0 100 Trying"]);
    let notify = only_request(&sent, "NOTIFY");
    let id = format!("refer;id={}", alice.cseq);
    assert_eq!(notify.headers.get(&Name::EVENT), Some(&*id));
    scene.answer_reports(&sent);
    let room = scene.rooms.get(&tea()).unwrap();
    let dial = room.dials.values().next().unwrap();
    assert_eq!(dial.by.as_ref().unwrap().nick, Some(scene.person("alice").unwrap().nick.clone()));
    let [lookup] = &scene.lookups[..] else { panic!() };
    let hop = Hop { transport: Transport::Udp, remote: BOB.parse().unwrap() };
    let leg = lookup.leg;
    let mut out =
        Wires { sip: &mut scene.sip, media: &mut scene.media, lookups: &mut scene.lookups };
    let asks = scene.focus.located(scene.now, leg, &[hop], &mut out);
    scene.ask(asks);
    let invite = only_request(&scene.sent(), "INVITE");
    let say = |scene: &mut Scene, status: &str, body: &str| {
        let text = response_to(&invite, status).replacen(
            "To: <sip:bob@example.org>",
            "To: <sip:bob@example.org>;tag=b",
            1,
        );
        let head = text.split("Content-Length").next().unwrap().to_owned();
        let contact = "Contact: <sip:bob@192.0.2.77>\r\nContent-Type: application/sdp\r\n";
        let text = format!("{head}{contact}Content-Length: {}\r\n\r\n{body}", body.len());
        scene.send_from(BOB, &text)
    };
    let sent = say(&mut scene, "180 Ringing", "");
    assert_eq!(reports(&sent), ["active SIP/2.0 180 Ringing"]);
    scene.answer_reports(&sent);
    let sent = say(&mut scene, "200 OK", PCMU_ANSWER);
    assert_eq!(reports(&sent), ["terminated SIP/2.0 200 OK"]);
    assert!(scene.person("bob").is_some());
    assert!(scene.focus.referrals.is_empty());
    // Thrown out by the same phone: a kick like any other, and its call ends.
    scene.answer_reports(&sent);
    let sent = scene.send(&refer(&mut alice, "<sip:bob@example.org;method=BYE>", ""));
    assert_eq!(reports(&sent), ["terminated SIP/2.0 200 OK"]);
    let bye = only_request(&sent, "BYE");
    assert_eq!(bye.headers.get(&Name::REASON), Some("SIP;cause=603;text=\"Kicked\""));
    assert!(scene.person("bob").is_none());
}

#[test]
fn who_wanted_a_call_that_fails_or_is_given_up_is_told() {
    let mut scene = Scene::open();
    let mut alice = scene.moderator(1);
    let sent = scene.send(&refer(&mut alice, "<sip:bob@example.org>", ""));
    scene.answer_reports(&sent);
    let leg = scene.lookups[0].leg;
    let mut out =
        Wires { sip: &mut scene.sip, media: &mut scene.media, lookups: &mut scene.lookups };
    let asks = scene.focus.located(scene.now, leg, &[], &mut out);
    scene.ask(asks);
    let said = "terminated SIP/2.0 502 Nobody can be reached at that address";
    let sent = scene.sent();
    assert_eq!(reports(&sent), [said]);
    scene.answer_reports(&sent);
    // REFER with BYE stops the ringing as well.
    let sent = scene.send(&refer(&mut alice, "<sip:bob@example.org>", ""));
    scene.answer_reports(&sent);
    let sent = scene.send(&refer(&mut alice, "<sip:bob@example.org;method=BYE>", ""));
    let mut told = reports(&sent);
    told.sort();
    assert_eq!(told, ["terminated SIP/2.0 200 OK", "terminated SIP/2.0 487 Request Terminated"]);
    assert_eq!((scene.focus.dials.len(), scene.focus.referrals.len()), (0, 0));
    // The end of the room is the end of all that.
    scene.answer_reports(&sent);
    let sent = scene.send(&refer(&mut alice, "<sip:bob@example.org>", ""));
    scene.answer_reports(&sent);
    scene.owner(Command::Destroy { reason: None, alternate: None });
    assert_eq!(reports(&scene.sent()), ["terminated SIP/2.0 410 Gone"]);
    assert_eq!((scene.focus.dials.len(), scene.focus.referrals.len()), (0, 0));
}

#[test]
fn whoever_wants_no_reports_gets_none() {
    let mut scene = Scene::open();
    let mut alice = scene.moderator(1);
    let text = refer(&mut alice, "<sip:bob@example.org>", "Refer-Sub: false\r\n");
    let ok = only_response(&scene.send(&text));
    assert_eq!((ok.status.code(), ok.headers.get(&Name::REFER_SUB)), (200, Some("false")));
    assert_eq!((scene.lookups.len(), scene.focus.referrals.len()), (1, 0));
}

#[test]
fn a_refer_that_cannot_be_done_has_its_status_and_changes_nothing() {
    let check = |moderates: bool, to: &str, expected: u16| {
        let mut scene = Scene::open();
        let mut alice = if moderates { scene.moderator(1) } else { scene.call("alice", 1) };
        let before = scene.rooms.get(&tea()).unwrap().clone();
        let text = alice.next().request("REFER", to, "");
        let answer = only_response(&scene.send(&text));
        assert_eq!(answer.status.code(), expected, "{to}");
        assert_eq!(scene.rooms.get(&tea()), Some(&before), "{to}");
        assert_eq!((scene.lookups.len(), scene.focus.referrals.len()), (0, 0));
    };
    check(false, "Refer-To: <sip:bob@example.org>\r\n", 403);
    check(false, "Refer-To: <sip:alice@example.org;method=BYE>\r\n", 403);
    check(true, "", 400);
    let two = "Refer-To: <sip:a@example.org>\r\nRefer-To: <sip:b@example.org>\r\n";
    check(true, two, 400);
    check(true, "Refer-To: <mailto:bob@example.org>\r\n", 400);
    check(true, "Refer-To: <sip:bob@elsewhere.example>\r\n", 403);
    check(true, "Refer-To: <sip:tea@conf.example.org>\r\n", 403);
    check(true, "Refer-To: <sip:bob@example.org;method=BYE>\r\n", 404);
    check(true, "Refer-To: <sip:bob@example.org;method=REFER>\r\n", 603);
    check(true, "Refer-To: <sip:bob@example.org?Replaces=1%3Bto-tag%3D2>\r\n", 603);
}

#[test]
fn from_outside_of_the_call_the_address_has_to_be_proven() {
    // An open server believes anyone's From: not enough to throw people out.
    let mut scene = Scene::open();
    scene.moderator(1);
    let mut mallory = Phone::new("alice", 9);
    mallory.user = "alice".to_owned();
    let text = refer(&mut mallory, "<sip:bob@example.org>", "");
    assert_eq!(only_response(&scene.send_from(STRANGER, &text)).status.code(), 403);
    // Whom a proxy vouches for, and who is in the call, may.
    let mut scene = Scene::open();
    let vouched = "<sip:alice@example.org>";
    let mut alice = Phone::new("alice", 1);
    alice.with_header("P-Asserted-Identity", vouched);
    let ok = only_response(&scene.send(&alice.invite(OFFER)));
    alice.learn(&ok);
    scene.send(&alice.ack(""));
    let nick = scene.person("alice").unwrap().nick.clone();
    let role = Some(Role::Moderator);
    scene.owner(Command::Moderate(vec![Change::Role { nick, role, reason: None }]));
    let mut beside = Phone::new("alice", 2);
    beside.with_header("P-Asserted-Identity", vouched);
    let sent = scene.send(&refer(&mut beside, "<sip:bob@example.org>", ""));
    assert_eq!(reports(&sent), ["active SIP/2.0 100 Trying"]);
    // Vouched for, and not there.
    let mut carol = Phone::new("carol", 3);
    carol.with_header("P-Asserted-Identity", "<sip:carol@example.org>");
    let text = refer(&mut carol, "<sip:bob@example.org>", "");
    assert_eq!(only_response(&scene.send(&text)).status.code(), 403);
}
