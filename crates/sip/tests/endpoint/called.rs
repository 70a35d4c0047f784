//! Calls that come in.

use cusax_sip::{
    endpoint::{End, Event},
    flow::Transport,
    header::{Headers, Name},
    message::{Message, Status},
    parse::parse,
};

use crate::bench::{Bench, flow, invite, outside, status, tcp, udp, within};

/// The 2xx of a call is sent again at these times until it is confirmed (RFC 3261 §13.3.1.4).
const RESENDS: [u128; 10] = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500];

#[test]
fn from_ringing_to_hanging_up() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.wait(300);
    assert_eq!(bench.log(), [(200, "100 INVITE".to_owned())]);
    bench.answer(dialog, 180);
    let ringing = bench.response();
    bench.hear(&invite(""));
    assert_eq!(bench.response(), ringing, "a copy gets the same answer");
    let answer = status(200).with(Name::CONTACT, "<sip:room@example.org>;isfocus");
    bench.user(|endpoint, now, out| endpoint.answer(now, dialog, answer, out));
    let ok = bench.response();
    assert_eq!(ok.headers.to_tag(), ringing.headers.to_tag());
    assert_eq!(ok.headers.get(&Name::CONTACT), Some("<sip:room@example.org>;isfocus"));
    let tag = ok.headers.to_tag().unwrap().unwrap();
    bench.hear(&invite(""));
    assert_eq!(bench.words(), "", "the dialog resends, not the transaction (RFC 6026 §7.1)");
    bench.hear(&within("ACK", 1, &tag, "z9hG4bKack", ""));
    assert!(matches!(bench.event(), Event::Ack { request: Some(_), .. }));
    bench.hear(&within("ACK", 1, &tag, "z9hG4bKack", ""));
    bench.wait(40_000);
    assert_eq!(bench.words(), "");
    bench.hear(&within("BYE", 2, &tag, "z9hG4bKbye", "Reason: Q.850;cause=16\n"));
    assert_eq!(bench.words(), "200 BYE");
    let Event::Ended { why: End::Bye(bye), .. } = bench.event() else { panic!() };
    assert_eq!(bye.headers.reasons().unwrap()[0].cause, Some(16));
    bench.hear(&within("BYE", 2, &tag, "z9hG4bKbye", ""));
    assert_eq!(bench.words(), "200 BYE", "a copy");
    bench.hear(&within("BYE", 3, &tag, "z9hG4bKbye3", ""));
    assert_eq!(bench.words(), "481 BYE");
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn an_answer_says_where_it_came_from_and_is_complete_in_any_style() {
    let mut bench = Bench::new();
    bench.flow = flow(Transport::Udp, "198.51.100.9:41000");
    bench.hear(&invite("Record-Route: <sip:a;lr>\nRecord-Route: <sip:b;lr>\n"));
    let Event::Invite { dialog, request, .. } = bench.event() else { panic!() };
    let via = request.headers.via().unwrap();
    assert_eq!(via.received(), Some("198.51.100.9".parse().unwrap()));
    assert_eq!(via.rport(), Some(Some(41000)));
    // Even if the user already copied everything.
    let answer = request.response(Status::OK).with_to_tag("mine");
    bench.user(|endpoint, now, out| endpoint.answer(now, dialog, answer, out));
    let sent = bench.transmits().remove(0);
    assert_eq!(sent.flow, bench.flow);
    let Message::Response(ok) = parse(&sent.bytes).unwrap() else { panic!() };
    let count = |name: Name| ok.headers.all(&name).count();
    assert_eq!(
        [Name::VIA, Name::TO, Name::CSEQ, Name::RECORD_ROUTE, Name::CONTACT].map(count),
        [1, 1, 1, 2, 1]
    );
    assert_ne!(ok.headers.to_tag().unwrap().unwrap(), "mine");
    assert_eq!(ok.headers.get(&Name::CONTACT), Some("<sip:192.0.2.1:5060>"));
}

#[test]
fn nobody_confirms() {
    for transport in [udp(), tcp()] {
        let mut bench = Bench::new();
        bench.flow = transport;
        let dialog = bench.ring();
        bench.answer(dialog, 200);
        bench.wait(31_999);
        let log = bench.log();
        let times: Vec<_> = log.iter().skip(1).map(|(ms, _)| *ms).collect();
        assert_eq!(times, RESENDS, "{transport:?}");
        bench.wait(1);
        let bye = bench.request();
        assert_eq!(bye.method.as_str(), "BYE");
        assert_eq!(bye.headers.reasons().unwrap()[0].cause, Some(408));
        assert_eq!(bench.event(), Event::Ended { dialog, why: End::NoAck });
        bench.reply(&bye, 200, "");
        bench.drain();
    }
}

#[test]
fn a_refusal_is_resent_until_it_is_confirmed() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.answer(dialog, 486);
    bench.wait(2000);
    let times: Vec<_> = bench.log().into_iter().map(|(ms, _)| ms).collect();
    assert_eq!(times, [0, 500, 1500]);
    bench.hear(&invite(""));
    let busy = bench.response();
    assert_eq!(busy.status, Status::BUSY_HERE);
    let tag = busy.headers.to_tag().unwrap().unwrap();
    bench.hear(&within("ACK", 1, &tag, "z9hG4bKinvite1", ""));
    bench.hear(&invite(""));
    bench.wait(40_000);
    assert_eq!((bench.words(), bench.events()), (String::new(), vec![]));
    bench.drain();
}

#[test]
fn cancelled() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.answer(dialog, 180);
    let tag = bench.response().headers.to_tag().unwrap();
    let cancel = outside("CANCEL", 1, "z9hG4bKinvite1", "Reason: SIP;cause=200\n");
    bench.hear(&cancel);
    let sent = bench.transmits();
    let [Message::Response(ok), Message::Response(over)] =
        [0, 1].map(|at: usize| parse(&sent[at].bytes).unwrap())
    else {
        panic!()
    };
    assert_eq!((ok.status, over.status), (Status::OK, Status::REQUEST_TERMINATED));
    assert_eq!((ok.headers.to_tag().unwrap(), over.headers.to_tag().unwrap()), (tag.clone(), tag));
    assert!(matches!(bench.event(), Event::Ended { why: End::Cancelled(_), .. }));
    bench.hear(&cancel);
    bench.answer(dialog, 200);
    assert_eq!(bench.words(), "200 CANCEL", "a copy is answered alike, a late answer is not sent");
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn cancelled_too_late_or_never_called() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.answer(dialog, 200);
    bench.hear(&outside("CANCEL", 1, "z9hG4bKinvite1", ""));
    assert_eq!(bench.words(), "200 INVITE, 200 CANCEL");
    bench.hear(&outside("CANCEL", 1, "z9hG4bKother", ""));
    assert_eq!(bench.words(), "481 CANCEL");
    assert_eq!(bench.events(), []);
}

#[test]
fn the_user_never_answers() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.answer(dialog, 180);
    bench.wait(180_000);
    assert_eq!(bench.words(), "180 INVITE, 480 INVITE");
    assert_eq!(bench.event(), Event::Ended { dialog, why: End::NotAnswered });
    bench.drain();
}

#[test]
fn hung_up_while_it_rings_either_way() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.bye(dialog);
    let response = bench.response();
    assert_eq!(response.status, Status::TEMPORARILY_UNAVAILABLE);
    assert_eq!(response.headers.get(&Name::REASON), Some("SIP;cause=603"));
    bench.drain();

    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.answer(dialog, 180);
    let tag = bench.response().headers.to_tag().unwrap().unwrap();
    bench.hear(&within("BYE", 2, &tag, "z9hG4bKbye", ""));
    assert_eq!(bench.words(), "200 BYE, 487 INVITE");
    assert!(matches!(bench.event(), Event::Ended { why: End::Bye(_), .. }));
    bench.drain();
}

#[test]
fn hung_up_before_the_ack() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.answer(dialog, 200);
    let tag = bench.response().headers.to_tag().unwrap().unwrap();
    bench.bye(dialog);
    assert_eq!(bench.words(), "", "no BYE overtakes the ACK");
    bench.wait(600);
    assert_eq!(bench.words(), "200 INVITE");
    bench.hear(&within("ACK", 1, &tag, "z9hG4bKack", ""));
    let bye = bench.request();
    assert_eq!(bye.headers.get(&Name::REASON), Some("SIP;cause=603"));
    bench.reply(&bye, 200, "");
    assert_eq!(bench.events(), [], "the user knows");
    bench.drain();
}

#[test]
fn hung_up_and_the_ack_never_comes() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.answer(dialog, 200);
    bench.bye(dialog);
    bench.wait(32_000);
    assert_eq!(bench.log().last().unwrap(), &(32_000, "BYE".to_owned()));
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn both_hang_up() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.up();
    bench.bye(dialog);
    let bye = bench.request();
    bench.hear(&within("BYE", 2, &tag, "z9hG4bKbye", ""));
    assert_eq!(bench.words(), "200 BYE");
    bench.reply(&bye, 481, "");
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn a_bye_that_is_lost_is_sent_again() {
    let mut bench = Bench::new();
    let (dialog, _) = bench.up();
    bench.bye(dialog);
    bench.wait(4000);
    let times: Vec<_> = bench.log().into_iter().map(|(ms, _)| ms).collect();
    assert_eq!(times, [0, 500, 1500, 3500]);
    bench.drain();
    assert_eq!(bench.events(), []);
}

#[test]
fn requests_out_of_order() {
    let mut bench = Bench::new();
    let (_, tag) = bench.up();
    bench.hear(&within("INFO", 7, &tag, "z9hG4bKinfo7", ""));
    assert!(matches!(bench.event(), Event::Request { dialog: Some(_), .. }));
    bench.hear(&within("BYE", 6, &tag, "z9hG4bKbye6", ""));
    assert_eq!(bench.words(), "500 BYE");
    bench.hear(&within("BYE", 7, &tag, "z9hG4bKbye7", ""));
    assert_eq!(bench.words(), "500 BYE");
    bench.hear(&within("BYE", 9, &tag, "z9hG4bKbye9", ""));
    assert_eq!(bench.words(), "200 BYE");
}

#[test]
fn the_session_changes() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.up();
    let moved = within("INVITE", 2, &tag, "z9hG4bKre2", "").replace(":5070>", ":5099;x=y>");
    bench.hear(&moved);
    assert!(matches!(bench.event(), Event::Reinvite { .. }));
    bench.hear(&within("INVITE", 3, &tag, "z9hG4bKre3", ""));
    let busy = bench.response();
    assert_eq!(busy.status, Status::SERVER_INTERNAL_ERROR);
    assert!(busy.headers.retry_after().unwrap().unwrap().seconds <= 10);
    bench.answer(dialog, 200);
    bench.hear(&within("ACK", 2, &tag, "z9hG4bKack2", ""));
    assert!(matches!(bench.event(), Event::Ack { .. }));
    bench.transmits();
    bench.hear(&within("INVITE", 4, &tag, "z9hG4bKre4", ""));
    bench.answer(dialog, 488);
    assert_eq!(bench.words(), "488 INVITE");
    bench.events();
    bench.bye(dialog);
    // What was accepted moved the peer, what was refused moved nothing.
    assert_eq!(bench.request().uri.to_string(), "sip:bob@192.0.2.7:5099;x=y");
}

#[test]
fn a_change_is_taken_back() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.up();
    bench.hear(&within("INVITE", 2, &tag, "z9hG4bKre2", ""));
    bench.events();
    bench.hear(&within("CANCEL", 2, &tag, "z9hG4bKre2", ""));
    assert_eq!(bench.words(), "200 CANCEL, 487 INVITE");
    assert_eq!(bench.event(), Event::ReinviteCancelled { dialog });
    bench.hear(&within("BYE", 3, &tag, "z9hG4bKbye3", ""));
    assert_eq!(bench.words(), "200 BYE");
}

#[test]
fn hung_up_with_a_change_pending() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.up();
    bench.hear(&within("INVITE", 2, &tag, "z9hG4bKre2", ""));
    bench.bye(dialog);
    assert_eq!(bench.words(), "487 INVITE, BYE");

    let mut bench = Bench::new();
    let (_, tag) = bench.up();
    bench.hear(&within("INVITE", 2, &tag, "z9hG4bKre2", ""));
    bench.hear(&within("BYE", 3, &tag, "z9hG4bKbye3", ""));
    assert_eq!(bench.words(), "200 BYE, 487 INVITE");
    assert_eq!(bench.events().len(), 2);
    bench.drain();
}

#[test]
fn both_change_the_session() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.up();
    let sent = bench.user(|it, now, out| it.reinvite(now, dialog, Headers::new(), vec![], out));
    assert_eq!(sent, Ok(()));
    let ours = bench.request();
    assert!(ours.headers.contains(&Name::CONTACT));
    bench.hear(&within("INVITE", 2, &tag, "z9hG4bKre2", ""));
    assert_eq!(bench.words(), "491 INVITE");
    bench.reply(&ours, 491, "");
    assert_eq!(bench.words(), "ACK");
    assert_eq!(bench.events(), []);
    bench.wait(2000);
    // The Call-ID is the peer's, so we wait no more than 2 s.
    assert_eq!(bench.event(), Event::Retry { dialog });
}

#[test]
fn a_change_proves_that_the_answer_has_arrived() {
    let mut bench = Bench::new();
    let dialog = bench.ring_with_offer();
    bench.answer(dialog, 200);
    let tag = bench.response().headers.to_tag().unwrap().unwrap();
    bench.hear(&within("INVITE", 2, &tag, "z9hG4bKre2", ""));
    let events = bench.events();
    assert_eq!(events[0], Event::Ack { dialog, request: None });
    assert!(matches!(events[1], Event::Reinvite { .. }));
    bench.wait(600);
    assert_eq!(bench.words(), "100 INVITE", "the first 2xx is not resent");
}

#[test]
fn no_change_before_our_offer_is_answered() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.answer(dialog, 200);
    let tag = bench.response().headers.to_tag().unwrap().unwrap();
    bench.hear(&within("INVITE", 2, &tag, "z9hG4bKre2", ""));
    assert_eq!(bench.words(), "491 INVITE");
}

#[test]
fn routes_are_followed() {
    let check = |recorded: &str, uri: &str, routes: &[&str]| {
        let mut bench = Bench::new();
        bench.hear(&invite(recorded));
        let Event::Invite { dialog, .. } = bench.event() else { panic!() };
        bench.answer(dialog, 200);
        let tag = bench.response().headers.to_tag().unwrap().unwrap();
        bench.hear(&within("ACK", 1, &tag, "z9hG4bKack", ""));
        bench.bye(dialog);
        let bye = bench.request();
        assert_eq!(bye.uri.to_string(), uri, "{recorded}");
        let got: Vec<_> = bye.headers.all(&Name::ROUTE).collect();
        assert_eq!(got, routes, "{recorded}");
    };
    let bob = "sip:bob@192.0.2.7:5070";
    check("", bob, &[]);
    let two = "Record-Route: <sip:p2;lr>, <sip:p1;lr;x=1>\n";
    check(two, bob, &["<sip:p2;lr>", "<sip:p1;lr;x=1>"]);
    let strict = "Record-Route: <sip:p2;method=INVITE>\nRecord-Route: <sip:p1;lr>\n";
    check(strict, "sip:p2", &["<sip:p1;lr>", "<sip:bob@192.0.2.7:5070>"]);
}

#[test]
fn requests_go_where_the_peer_was_heard_last() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.up();
    bench.flow = flow(Transport::Udp, "198.51.100.9:41000");
    bench.hear(&within("INFO", 2, &tag, "z9hG4bKinfo", ""));
    bench.bye(dialog);
    let sent = bench.transmits().remove(0);
    assert_eq!(sent.flow, bench.flow);
}

#[test]
fn a_connection_breaks() {
    // The INVITE came by TCP from a port that nobody can call back; the Contact names another.
    let mut bench = Bench::new();
    bench.flow = flow(Transport::Tcp, "192.0.2.7:40000");
    let tcp_invite =
        |text: String| text.replace("5070>", "5070;transport=tcp>").replace("UDP", "TCP");
    bench.hear(&tcp_invite(invite("")));
    let Event::Invite { dialog, .. } = bench.event() else { panic!() };
    bench.answer(dialog, 200);
    let sent = bench.transmits().remove(0);
    assert_eq!(sent.flow, bench.flow);
    bench.fail(bench.flow);
    bench.wait(500);
    let again = bench.transmits().remove(0);
    assert_eq!(again.flow, tcp(), "the address in Via (RFC 3261 §18.2.2)");
    let Message::Response(ok) = parse(&again.bytes).unwrap() else { panic!() };
    let tag = ok.headers.to_tag().unwrap().unwrap();
    bench.hear(&tcp_invite(within("ACK", 1, &tag, "z9hG4bKack", "")));
    bench.events();
    bench.bye(dialog);
    let sent = bench.transmits().remove(0);
    assert_eq!(sent.flow, bench.flow);
    bench.fail(bench.flow);
    let again = bench.transmits().remove(0);
    assert_eq!(again.flow, tcp(), "the address in Contact");
    let Message::Request(bye) = parse(&again.bytes).unwrap() else { panic!() };
    bench.reply(&bye, 200, "");
    bench.drain();
}

#[test]
fn a_call_that_the_peer_forgot() {
    let mut bench = Bench::new();
    let (dialog, _) = bench.up();
    let sent = bench.user(|it, now, out| it.reinvite(now, dialog, Headers::new(), vec![], out));
    assert_eq!(sent, Ok(()));
    let ours = bench.request();
    bench.reply(&ours, 481, "");
    assert_eq!(bench.words(), "ACK, BYE");
    let Event::Ended { why: End::Gone(response), .. } = bench.event() else { panic!() };
    assert_eq!(response.status, Status::CALL_DOES_NOT_EXIST);
    bench.drain();
}

#[test]
fn a_peer_out_of_reach() {
    let mut bench = Bench::new();
    let (dialog, _) = bench.up();
    bench.user(|it, now, out| it.reinvite(now, dialog, Headers::new(), vec![], out)).unwrap();
    bench.transmits();
    bench.fail(udp());
    assert_eq!(bench.words(), "BYE");
    let Event::Ended { why: End::Gone(response), .. } = bench.event() else { panic!() };
    assert_eq!(response.status, Status::SERVICE_UNAVAILABLE);
    bench.drain();
}

#[test]
fn a_client_of_rfc_2543() {
    let old =
        |text: String| text.replace(";branch=z9hG4bKinvite1;rport", "").replace(";tag=bob", "");
    let mut bench = Bench::new();
    bench.hear(&old(invite("")));
    let Event::Invite { dialog, .. } = bench.event() else { panic!() };
    bench.answer(dialog, 486);
    let busy = bench.response();
    bench.hear(&old(invite("")));
    assert_eq!(bench.response(), busy);
    let tag = busy.headers.to_tag().unwrap().unwrap();
    bench.hear(&old(within("ACK", 1, &tag, "z9hG4bKinvite1", "")));
    bench.wait(10_000);
    assert_eq!(bench.words(), "");
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn a_client_of_rfc_2543_hangs_up() {
    let old = |text: String| {
        let text = text
            .replace("branch=z9hG4bK", "branch=")
            .replace("<sip:bob@example.org>;tag=bob", "<sip:bob@example.org>");
        text.replace(";rport", "")
    };
    let mut bench = Bench::new();
    bench.hear(&old(invite("")));
    let Event::Invite { dialog, .. } = bench.event() else { panic!() };
    bench.answer(dialog, 200);
    let tag = bench.response().headers.to_tag().unwrap().unwrap();
    bench.hear(&old(within("ACK", 1, &tag, "z9hG4bKack", "")));
    assert!(matches!(bench.event(), Event::Ack { .. }));
    bench.hear(&old(within("BYE", 2, &tag, "z9hG4bKbye", "")));
    assert_eq!(bench.words(), "200 BYE");
    bench.drain();
}

#[test]
fn the_ack_tells_where_the_peer_is() {
    // The INVITE came through a proxy that keeps out of the way from then on.
    let mut bench = Bench::new();
    bench.flow = flow(Transport::Udp, "192.0.2.100:5060");
    let dialog = bench.ring();
    bench.answer(dialog, 200);
    let tag = bench.response().headers.to_tag().unwrap().unwrap();
    bench.flow = udp();
    bench.hear(&within("ACK", 1, &tag, "z9hG4bKack", ""));
    bench.bye(dialog);
    assert_eq!(bench.transmits().remove(0).flow, udp());
}

#[test]
fn a_contact_with_more_than_a_request_uri_may_have() {
    let mut bench = Bench::new();
    let contact = "5070;method=BYE;x=1?Subject=a>";
    bench.hear(&invite("").replace("5070>", contact));
    let Event::Invite { dialog, .. } = bench.event() else { panic!() };
    bench.answer(dialog, 200);
    let tag = bench.response().headers.to_tag().unwrap().unwrap();
    bench.hear(&within("ACK", 1, &tag, "z9hG4bKack", ""));
    bench.bye(dialog);
    assert_eq!(bench.request().uri.to_string(), "sip:bob@192.0.2.7:5070;x=1");
}

#[test]
fn nothing_goes_on_in_a_call_that_ends() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.up();
    bench.bye(dialog);
    assert_eq!(bench.words(), "BYE");
    bench.hear(&within("UPDATE", 2, &tag, "z9hG4bKu", ""));
    assert_eq!(bench.words(), "481 UPDATE");
    bench.hear(&within("INFO", 3, &tag, "z9hG4bKi", ""));
    assert_eq!(bench.words(), "481 INFO", "the call is over for us");
    bench.hear(&within("INVITE", 4, &tag, "z9hG4bKre", ""));
    assert_eq!(bench.words(), "481 INVITE");
    bench.hear(&within("SUBSCRIBE", 5, &tag, "z9hG4bKs", "Event: conference\n"));
    assert_eq!(bench.words(), "481 SUBSCRIBE");
}

/// Where our BYE goes, first and when that fails: what was secret stays secret, and a browser takes no
/// connections.
#[test]
fn no_way_is_less_secure_than_the_one_that_was_used() {
    let check = |transport: Transport, target: &str, other: Option<(Transport, &str)>| {
        let mut bench = Bench::new();
        bench.flow = flow(transport, "192.0.2.7:40000");
        let came = |text: String| {
            let text = text.replace("sip:bob@192.0.2.7:5070", target);
            text.replace("UDP", &transport.to_string())
        };
        bench.hear(&came(invite("")));
        let Event::Invite { dialog, .. } = bench.event() else { panic!() };
        bench.answer(dialog, 200);
        let sent = bench.transmits().remove(0);
        assert_eq!(sent.flow, bench.flow);
        let Message::Response(ok) = parse(&sent.bytes).unwrap() else { panic!() };
        let tag = ok.headers.to_tag().unwrap().unwrap();
        bench.hear(&came(within("ACK", 1, &tag, "z9hG4bKack", "")));
        bench.bye(dialog);
        let sent = bench.transmits().remove(0);
        assert_eq!(sent.flow, bench.flow);
        assert!(
            String::from_utf8_lossy(&sent.bytes)
                .contains(&format!("SIP/2.0/{transport} 192.0.2.1"))
        );
        bench.fail(bench.flow);
        let next = bench.transmits().first().map(|transmit| transmit.flow);
        let other = other.map(|(transport, remote)| flow(transport, remote));
        assert_eq!(next, other, "{transport} {target}");
    };
    let there = "192.0.2.9:5070";
    check(Transport::Tls, "sip:b@192.0.2.9:5070;transport=tls", Some((Transport::Tls, there)));
    check(Transport::Tls, "sips:b@192.0.2.9:5070", Some((Transport::Tls, there)));
    check(Transport::Tls, "sips:b@192.0.2.9", Some((Transport::Tls, "192.0.2.9:5061")));
    check(Transport::Tls, "sip:b@192.0.2.9:5070;transport=tcp", None);
    check(Transport::Tls, "sip:b@192.0.2.9:5070", None);
    check(Transport::Tcp, "sip:b@192.0.2.9:5070;transport=tls", Some((Transport::Tls, there)));
    check(Transport::Ws, "sip:b@192.0.2.9:5070;transport=ws", None);
    check(Transport::Wss, "sips:b@192.0.2.9:5070", None);
}

#[test]
fn a_refusal_survives_its_connection() {
    let mut bench = Bench::new();
    bench.flow = flow(Transport::Tcp, "192.0.2.7:40000");
    let dialog = bench.ring();
    bench.answer(dialog, 486);
    assert_eq!(bench.transmits().len(), 1);
    bench.fail(bench.flow);
    assert_eq!(bench.transmits().remove(0).flow, tcp());
    bench.fail(tcp());
    bench.fail(bench.flow);
    assert_eq!(bench.words(), "", "no third way");
    bench.drain();
}

#[test]
fn a_peer_that_hears_elsewhere_than_it_speaks() {
    let check = |via: &str, port: u16| {
        let mut bench = Bench::new();
        bench.flow = flow(Transport::Udp, "192.0.2.7:49152");
        let odd = |text: String| text.replace(";rport", via);
        bench.hear(&odd(invite("")));
        let Event::Invite { dialog, .. } = bench.event() else { panic!() };
        bench.answer(dialog, 200);
        let sent = bench.transmits().remove(0);
        assert_eq!(sent.flow.remote.port(), port);
        let Message::Response(ok) = parse(&sent.bytes).unwrap() else { panic!() };
        let tag = ok.headers.to_tag().unwrap().unwrap();
        bench.hear(&odd(within("ACK", 1, &tag, "z9hG4bKack", "")));
        bench.bye(dialog);
        assert_eq!(bench.transmits().remove(0).flow.remote.port(), port);
    };
    check("", 5070);
    check(";rport", 49152);
}
