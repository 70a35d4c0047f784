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
fn whoever_demands_that_there_be_none_gets_none() {
    let mut scene = Scene::open();
    let mut alice = scene.moderator(1);
    let text = refer(&mut alice, "<sip:bob@example.org>", "Require: nosub\r\n");
    assert_eq!(only_response(&scene.send(&text)).status.code(), 200);
    assert_eq!((scene.lookups.len(), scene.focus.referrals.len()), (1, 0));
    let text = refer(&mut alice, "<sip:bob@example.org>", "Require: explicitsub\r\n");
    let refusal = only_response(&scene.send(&text));
    assert_eq!(refusal.status.code(), 420);
    assert_eq!(refusal.headers.get(&Name::UNSUPPORTED), Some("explicitsub"));
}

/// RFC 4538: a REFER beside the call, which names it, is as good as one within. So is a SUBSCRIBE.
#[test]
fn who_names_their_call_need_not_be_in_its_dialog() {
    let mut scene = Scene::open();
    let alice = scene.moderator(1);
    let (local, remote) = (alice.to_tag.clone().unwrap(), "from-call-1");
    let named = format!("call-1;local-tag={local};remote-tag={remote}");
    let mut beside = Phone::new("somebody", 2);
    beside.with_header("Target-Dialog", &named).with_header("Require", "tdialog");
    let sent = scene.send_from(STRANGER, &refer(&mut beside, "<sip:bob@example.org>", ""));
    assert_eq!(reports(&sent), ["active SIP/2.0 100 Trying"]);
    let room = scene.rooms.get(&tea()).unwrap();
    let by = room.dials.values().next().unwrap().by.as_ref().unwrap();
    assert_eq!(by.nick, Some(scene.person("alice").unwrap().nick.clone()));
    scene.affiliate("alice", Affiliation::Member);
    scene.configure(|room| room.members_only = true);
    for (named, expected) in [(&*named, 200), ("call-1;local-tag=x;remote-tag=y", 403), ("x", 403)]
    {
        let mut watcher = Phone::new("somebody", 10 + expected);
        watcher.with_header("Target-Dialog", named);
        let sent = scene.send_from(STRANGER, &watcher.subscribe(""));
        let answer = sent.iter().find_map(|(_, message)| response(message)).unwrap();
        assert_eq!(u32::from(answer.status.code()), expected, "{named}");
    }
}

#[test]
fn who_asks_again_how_it_goes_is_told() {
    let mut scene = Scene::open();
    let mut alice = scene.moderator(1);
    let sent = scene.send(&refer(&mut alice, "<sip:bob@example.org>", ""));
    let id = alice.cseq;
    scene.answer_reports(&sent);
    let again = |phone: &mut Phone, expires: u32| {
        let headers = format!("Event: refer;id={id}\r\nExpires: {expires}\r\n");
        phone.next().request("SUBSCRIBE", &headers, "")
    };
    let sent = scene.send(&again(&mut alice, 60));
    let answer = sent.iter().find_map(|(_, message)| response(message)).unwrap();
    assert_eq!(answer.headers.get(&Name::EXPIRES), Some("60"));
    assert_eq!(reports(&sent), ["active SIP/2.0 100 Trying"]);
    scene.answer_reports(&sent);
    // And who wants to hear no more, hears no more.
    let sent = scene.send(&again(&mut alice, 0));
    assert_eq!(reports(&sent), ["terminated SIP/2.0 100 Trying"]);
    scene.answer_reports(&sent);
    assert_eq!(scene.dialling(), 1, "the call goes on");
    scene.owner(Command::Destroy { reason: None, alternate: None });
    assert_eq!(reports(&scene.sent()), [""; 0]);
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
    check(true, "Refer-To: <sip:bob@example.org?Route=x>\r\n", 603);
    let bye = "<sip:bob@example.org;method=BYE?Replaces=1%3Bto-tag%3D2%3Bfrom-tag%3D3>";
    check(true, &format!("Refer-To: {bye}\r\n"), 603);
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
