//! Session timers (RFC 4028) and UPDATE (RFC 3311).

use cusax_sip::{
    endpoint::{DialogId, End, Event, SendError},
    header::{Headers, Name, NameAddr},
    message::{Method, Request, Status},
    uri::Uri,
};

use crate::bench::{Bench, invite, outside, status, within};

const UPDATES: &str = "Allow: INVITE, ACK, BYE, UPDATE\n";

/// A call of the peer's that is up; our tag in it, and what our 2xx said of the session.
fn up(bench: &mut Bench, extra: &str) -> (DialogId, String, String) {
    bench.hear(&invite(extra));
    let Event::Invite { dialog, .. } = bench.event() else { panic!() };
    bench.answer(dialog, 200);
    let ok = bench.response();
    let tag = ok.headers.to_tag().unwrap().unwrap();
    bench.hear(&within("ACK", 1, &tag, "z9hG4bKack1", ""));
    bench.event();
    (dialog, tag, ok.headers.get(&Name::SESSION_EXPIRES).unwrap().to_owned())
}

fn call(bench: &mut Bench) -> (DialogId, Request) {
    let uri: Uri = "sip:bob@example.org".parse().unwrap();
    let from = NameAddr::new("sip:room@example.org".parse::<Uri>().unwrap());
    let invite = Request::new(Method::Invite, uri).with(Name::FROM, from);
    let flow = bench.flow;
    let dialog = bench.user(|it, now, out| it.invite(now, flow, invite, out)).unwrap();
    (dialog, bench.request())
}

/// A call of ours that is up.
fn called(bench: &mut Bench, extra: &str) -> DialogId {
    let (dialog, invite) = call(bench);
    bench.reply(&invite, 200, extra);
    bench.user(|it, _, out| it.ack(dialog, Headers::new(), vec![], out));
    assert_eq!(bench.words(), "ACK");
    assert!(matches!(bench.event(), Event::Answered { .. }));
    dialog
}

fn expired(bench: &mut Bench) {
    let bye = bench.request();
    assert_eq!(bye.method, Method::Bye);
    let reason = bye.headers.get(&Name::REASON);
    assert_eq!(reason, Some("SIP;cause=408;text=\"Session Expired\""));
    assert!(matches!(bench.event(), Event::Ended { why: End::Expired, .. }));
    bench.reply(&bye, 200, "");
    bench.drain();
}

#[test]
fn a_session_that_is_too_short_is_refused() {
    let mut bench = Bench::timed();
    bench.hear(&invite("Session-Expires: 89\n"));
    let refusal = bench.response();
    assert_eq!(refusal.status, Status::SESSION_INTERVAL_TOO_SMALL);
    assert_eq!(refusal.headers.get(&Name::MIN_SE), Some("90"));
    assert_eq!(bench.events(), []);
    let (_, tag, granted) = up(&mut bench, "Session-Expires: 90\n");
    assert_eq!(granted, "90;refresher=uas");
    bench.hear(&within("UPDATE", 2, &tag, "z9hG4bKu2", "x: 10;refresher=uac\n"));
    assert_eq!(bench.response().status, Status::SESSION_INTERVAL_TOO_SMALL);
}

#[test]
fn a_peer_that_is_to_refresh_and_does_not_is_hung_up_on() {
    let mut bench = Bench::timed();
    let extra = "Supported: timer\nSession-Expires: 600;refresher=uac\n";
    let (_, tag, granted) = up(&mut bench, extra);
    assert_eq!(granted, "600;refresher=uac");
    bench.wait(500_000);
    assert_eq!(bench.words(), "", "it is for the peer to refresh");
    bench.hear(&within("UPDATE", 2, &tag, "z9hG4bKu2", extra));
    let Event::Update { id, request, .. } = bench.event() else { panic!() };
    assert!(request.body.is_empty());
    bench.user(|it, now, out| it.respond(now, id, status(200), out));
    let ok = bench.response();
    assert_eq!(ok.headers.get(&Name::SESSION_EXPIRES), Some("600;refresher=uac"));
    assert_eq!(ok.headers.get(&Name::REQUIRE), Some("timer"));
    assert!(ok.headers.contains(&Name::CONTACT));
    bench.wait(567_999);
    assert_eq!(bench.words(), "");
    bench.wait(1);
    expired(&mut bench);
}

#[test]
fn what_we_are_to_refresh_is_refreshed_by_update() {
    let mut bench = Bench::timed();
    let (dialog, _, granted) = up(&mut bench, UPDATES);
    assert_eq!(granted, "1800;refresher=uas");
    for _ in 0..3 {
        bench.wait(899_999);
        assert_eq!(bench.words(), "");
        bench.wait(1);
        let update = bench.request();
        assert_eq!(update.method, Method::Update);
        assert_eq!(update.headers.get(&Name::SESSION_EXPIRES), Some("1800;refresher=uac"));
        assert_eq!(update.headers.get(&Name::SUPPORTED), Some("timer, 100rel"));
        assert!(update.headers.contains(&Name::CONTACT) && update.body.is_empty());
        bench.reply(&update, 200, "Session-Expires: 1800;refresher=uac\n");
        assert_eq!(bench.events(), []);
    }
    // The peer takes over.
    bench.wait(900_000);
    let update = bench.request();
    bench.reply(&update, 200, "Session-Expires: 1800;refresher=uas\n");
    bench.wait(1_700_000);
    assert_eq!(bench.words(), "");
    bench.bye(dialog);
    let bye = bench.request();
    bench.reply(&bye, 200, "");
    bench.drain();
}

#[test]
fn a_peer_that_has_lost_the_call_is_found_out() {
    let mut bench = Bench::timed();
    up(&mut bench, UPDATES);
    bench.wait(900_000);
    let update = bench.request();
    bench.reply(&update, 481, "");
    let Event::Ended { why: End::Gone(response), .. } = bench.event() else { panic!() };
    assert_eq!(response.status, Status::CALL_DOES_NOT_EXIST);
    assert_eq!(bench.words(), "BYE");

    // One that does not answer at all.
    let mut bench = Bench::timed();
    up(&mut bench, UPDATES);
    bench.wait(900_000 + 32_000);
    let Event::Ended { why: End::Gone(response), .. } = bench.event() else { panic!() };
    assert_eq!(response.status, Status::REQUEST_TIMEOUT);
}

#[test]
fn a_peer_without_update_is_refreshed_by_reinvite() {
    let mut bench = Bench::timed();
    let dialog = called(&mut bench, "");
    bench.wait(900_000);
    assert_eq!(bench.event(), Event::RefreshDue { dialog });
    let body = b"v=0".to_vec();
    let sent = bench.user(|it, now, out| it.reinvite(now, dialog, Headers::new(), body, out));
    assert_eq!(sent, Ok(()));
    let reinvite = bench.request();
    assert_eq!(reinvite.headers.get(&Name::SESSION_EXPIRES), Some("1800;refresher=uac"));
    // Not often enough for somebody on the way.
    bench.reply(&reinvite, 422, "Min-SE: 3600\n");
    let events = bench.events();
    assert!(matches!(events[..], [Event::Refused { .. }]), "{events:?}");
    bench.wait(0);
    assert_eq!(bench.event(), Event::RefreshDue { dialog });
    bench.transmits();
    bench.user(|it, now, out| it.reinvite(now, dialog, Headers::new(), vec![], out)).unwrap();
    let reinvite = bench.request();
    assert_eq!(reinvite.headers.get(&Name::SESSION_EXPIRES), Some("3600;refresher=uac"));
    assert_eq!(reinvite.headers.get(&Name::MIN_SE), Some("3600"));
    bench.reply(&reinvite, 200, "Session-Expires: 3600;refresher=uac\n");
    bench.user(|it, _, out| it.ack(dialog, Headers::new(), vec![], out));
    bench.events();
    bench.transmits();
    bench.wait(1_799_999);
    assert_eq!(bench.events(), []);
    bench.wait(1);
    assert_eq!(bench.event(), Event::RefreshDue { dialog });
    // Nobody cares.
    bench.wait(1_768_000);
    let reminders = bench.events();
    assert!(matches!(reminders.last(), Some(Event::Ended { why: End::Expired, .. })));
    let reminders = reminders.len();
    assert!((2..300).contains(&reminders), "{reminders}");
}

#[test]
fn a_peer_that_says_update_and_takes_none_gets_a_reinvite() {
    let mut bench = Bench::timed();
    let (dialog, ..) = up(&mut bench, UPDATES);
    bench.wait(900_000);
    let update = bench.request();
    bench.reply(&update, 405, "");
    bench.wait(0);
    assert_eq!(bench.event(), Event::RefreshDue { dialog });
}

#[test]
fn our_invite_asks_for_a_session_and_a_422_says_how_long() {
    let mut bench = Bench::timed();
    let (_, invite) = call(&mut bench);
    assert_eq!(invite.headers.get(&Name::SESSION_EXPIRES), Some("1800;refresher=uac"));
    assert_eq!(invite.headers.get(&Name::MIN_SE), None);
    bench.reply(&invite, 422, "Min-SE: 7200\n");
    let Event::Ended { why: End::Refused(response), .. } = bench.event() else { panic!() };
    let again = Request::new(Method::Invite, invite.uri.clone())
        .with(Name::FROM, invite.headers.get(&Name::FROM).unwrap())
        .with(Name::MIN_SE, response.headers.min_se().unwrap().unwrap());
    bench.transmits();
    let flow = bench.flow;
    bench.user(|it, now, out| it.invite(now, flow, again, out)).unwrap();
    let invite = bench.request();
    assert_eq!(invite.headers.get(&Name::SESSION_EXPIRES), Some("7200;refresher=uac"));
    assert_eq!(invite.headers.get(&Name::MIN_SE), Some("7200"));
}

#[test]
fn without_a_timer_nothing_is_said_of_time() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.answer(dialog, 200);
    assert_eq!(bench.response().headers.get(&Name::SESSION_EXPIRES), None);
}

/// RFC 3311 §5.2: what crosses what.
#[test]
fn updates_that_cross_others() {
    let offer = "Content-Type: application/sdp\n";
    let with_offer = |cseq: u32, tag: &str| {
        within("UPDATE", cseq, tag, &format!("z9hG4bKu{cseq}"), offer)
            .replace("Content-Length: 0\n\n", "\nv=0\n")
    };
    let mut bench = Bench::timed();
    let (dialog, tag, _) = up(&mut bench, UPDATES);
    bench.hear(&with_offer(2, &tag));
    let Event::Update { id, request, .. } = bench.event() else { panic!() };
    assert_eq!(request.body, b"v=0\r\n");
    // A second one, and an INVITE, have to wait; so does ours.
    bench.hear(&with_offer(3, &tag));
    let later = bench.response();
    assert_eq!(later.status, Status::SERVER_INTERNAL_ERROR);
    assert!(later.headers.retry_after().unwrap().unwrap().seconds <= 10);
    bench.hear(&within("INVITE", 4, &tag, "z9hG4bKi4", ""));
    assert_eq!(bench.response().status, Status::SERVER_INTERNAL_ERROR);
    let crossing = bench.user(|it, now, out| it.reinvite(now, dialog, Headers::new(), vec![], out));
    assert_eq!(crossing, Err(SendError::Pending));
    bench.user(|it, now, out| it.respond(now, id, status(488), out));
    assert_eq!(bench.response().status, Status::NOT_ACCEPTABLE_HERE);
    // Ours is under way: an offer is glare, and one that only refreshes is not.
    bench.user(|it, now, out| it.reinvite(now, dialog, Headers::new(), vec![], out)).unwrap();
    bench.request();
    bench.hear(&with_offer(5, &tag));
    assert_eq!(bench.response().status, Status::REQUEST_PENDING);
    bench.hear(&within("UPDATE", 6, &tag, "z9hG4bKu6", ""));
    assert!(matches!(bench.event(), Event::Update { .. }));
}

#[test]
fn an_update_moves_the_peer_when_it_is_accepted() {
    let mut bench = Bench::timed();
    let (dialog, tag, _) = up(&mut bench, UPDATES);
    let moved = |cseq: u32| {
        within("UPDATE", cseq, &tag, &format!("z9hG4bKu{cseq}"), "")
            .replace("<sip:bob@192.0.2.7:5070>\n", "<sip:bob@192.0.2.99>\n")
    };
    for (cseq, code, target) in [(2, 488, "sip:bob@192.0.2.7:5070"), (4, 200, "sip:bob@192.0.2.99")]
    {
        bench.hear(&moved(cseq));
        let Event::Update { id, .. } = bench.event() else { panic!() };
        bench.user(|it, now, out| it.respond(now, id, status(code), out));
        bench.transmits();
        let (headers, body) = (Headers::new(), vec![]);
        let sent = bench
            .user(|it, now, out| it.send_within(now, dialog, Method::Info, headers, body, out));
        assert!(sent.is_ok());
        assert_eq!(bench.request().uri.to_string(), target, "{code}");
    }
}

#[test]
fn an_update_in_no_call_is_refused() {
    let mut bench = Bench::timed();
    bench.hear(&within("UPDATE", 2, "nobody", "z9hG4bKu2", ""));
    assert_eq!(bench.response().status, Status::CALL_DOES_NOT_EXIST);
    // Outside of a dialog it has no meaning: the user says so.
    bench.hear(&outside("UPDATE", 3, "z9hG4bKu3", ""));
    assert!(matches!(bench.event(), Event::Request { dialog: None, .. }));
}
