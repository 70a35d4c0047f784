//! Requests outside of calls, and those that are refused at the door.

use cusax_sip::{
    endpoint::{Event, Limits, refuse_method},
    flow::Transport,
    header::Name,
    message::{Message, Method, Status},
    parse::parse,
};

use crate::bench::{Bench, flow, invite, outside, status, udp, within};

#[test]
fn options() {
    let mut bench = Bench::new();
    let text = outside("OPTIONS", 1, "z9hG4bKo", "Max-Forwards: 0\n");
    bench.hear(&text);
    let Event::Request { id, dialog: None, request, .. } = bench.event() else { panic!() };
    assert_eq!(request.method, Method::Options);
    bench.hear(&text);
    assert_eq!((bench.words(), bench.events()), (String::new(), vec![]));
    let answer = status(200).with(Name::ALLOW, "INVITE");
    bench.user(|it, now, out| it.respond(now, id, answer, out));
    let first = bench.response();
    assert!(first.headers.to_tag().unwrap().is_some());
    bench.hear(&text);
    assert_eq!(bench.response(), first);
    bench.user(|it, now, out| it.respond(now, id, status(404), out));
    assert_eq!(bench.words(), "", "one final answer");
    bench.drain();
    bench.hear(&text.replace("z9hG4bKo", "z9hG4bKnew"));
    assert!(matches!(bench.event(), Event::Request { .. }), "not merged with what is long over");
}

#[test]
fn a_request_that_the_user_forgets() {
    let mut bench = Bench::new();
    bench.hear(&outside("OPTIONS", 1, "z9hG4bKo", ""));
    assert!(matches!(bench.event(), Event::Request { .. }));
    bench.drain();
    assert_eq!(bench.words(), "", "no late 408 (RFC 4320 §4.2)");
}

/// What each text is answered with, without a word to the user.
#[test]
fn refused_at_the_door() {
    let check = |text: String, code: u16, header: Option<(Name, &str)>| {
        let mut bench = Bench::new();
        bench.hear(&text);
        let response = bench.response();
        assert_eq!(response.status.code(), code, "{text}");
        assert!(response.headers.to_tag().unwrap().is_some(), "{text}");
        assert_eq!(response.headers.via().unwrap().rport(), Some(Some(5070)), "{text}");
        if let Some((name, value)) = header {
            assert_eq!(response.headers.get(&name), Some(value), "{text}");
        }
        bench.hear(&text);
        assert_eq!(bench.response(), response, "a copy gets the same answer");
        assert_eq!(bench.events(), []);
        bench.drain();
    };
    let uri = |uri| invite("").replace("sip:room@192.0.2.1", uri);
    let body = |header: &str| invite(header).replace("Length: 0\n\n", "Length: 1\n\nx");
    check(uri("urn:service:sos"), 416, None);
    check(invite("Require: path, timer\n"), 420, Some((Name::UNSUPPORTED, "path")));
    check(invite("Require: a,b\nRequire: c\n"), 420, Some((Name::UNSUPPORTED, "a, b, c")));
    check(invite("Require: a b\n"), 400, None);
    check(body("Content-Encoding: gzip\n"), 415, Some((Name::ACCEPT_ENCODING, "identity")));
    check(invite("").replace("Contact:", "X-Contact:"), 400, None);
    check(invite("").replace("Contact: <sip:", "Contact: <mailto:"), 400, None);
    check(invite("").replace("Contact: <sip:bob@192.0.2.7:5070>", "Contact: *"), 400, None);
    check(invite("").replace("SIP/2.0\n", "SIP/7.0\n"), 505, None);
    check(invite("").replace("1 INVITE", "1 BYE"), 400, None);
    check(invite("").replace("Length: 0", "Length: 9"), 400, None);
    check(outside("BYE", 1, "z9hG4bKb", ""), 481, None);
    for method in ["INVITE", "BYE", "INFO", "SUBSCRIBE", "NOTIFY", "OPTIONS", "FOO", "CANCEL"] {
        check(within(method, 5, "nobody", "z9hG4bKx", ""), 481, None);
    }
}

#[test]
fn dropped_at_the_door() {
    let check = |text: String| {
        let mut bench = Bench::new();
        bench.hear(&text);
        assert_eq!((bench.words(), bench.events()), (String::new(), vec![]), "{text}");
        bench.drain();
    };
    check(within("ACK", 1, "nobody", "z9hG4bKx", ""));
    check(outside("ACK", 1, "z9hG4bKx", ""));
    check(invite("").replace("Via:", "X-Via:"));
    check("hello".to_owned());
    check(String::new());
    check("SIP/2.0 200 OK\n\n".to_owned());
}

#[test]
fn what_the_endpoint_leaves_to_its_user() {
    for method in ["OPTIONS", "MESSAGE", "REGISTER", "NOTIFY", "FOO", "PUBLISH", "INFO"] {
        let mut bench = Bench::new();
        bench.hear(&outside(method, 1, "z9hG4bKx", "Require: timer\n"));
        let Event::Request { id, request, .. } = bench.event() else { panic!() };
        let refusal = refuse_method(&request.method, &[Method::Invite, Method::Ack]);
        bench.user(|it, now, out| it.respond(now, id, refusal, out));
        let response = bench.response();
        assert_eq!(response.status.code(), if method == "FOO" { 501 } else { 405 });
        assert_eq!(response.headers.get(&Name::ALLOW), Some("INVITE, ACK"));
    }
}

#[test]
fn the_same_request_by_two_ways() {
    let mut bench = Bench::new();
    bench.ring();
    bench.hear(&outside("INVITE", 1, "z9hG4bKother", ""));
    assert_eq!(bench.words(), "482 INVITE");
    // Another try with credentials is another request.
    bench.hear(&outside("INVITE", 2, "z9hG4bKthird", ""));
    assert!(matches!(bench.event(), Event::Invite { .. }));
}

#[test]
fn answers_go_where_via_says() {
    let check = |from: &str, via: &str, to: &str| {
        let mut bench = Bench::new();
        bench.flow = flow(Transport::Udp, from);
        bench.hear(
            &invite("Require: x\n").replace("192.0.2.7:5070;branch=z9hG4bKinvite1;rport", via),
        );
        assert_eq!(bench.transmits()[0].flow.remote, to.parse().unwrap(), "{via}");
    };
    check("192.0.2.7:9999", "192.0.2.7:5070;branch=z9hG4bKa", "192.0.2.7:5070");
    check("192.0.2.7:9999", "192.0.2.7:5070;branch=z9hG4bKa;rport", "192.0.2.7:9999");
    check("192.0.2.7:9999", "192.0.2.7;branch=z9hG4bKa", "192.0.2.7:5060");
    check("198.51.100.1:9999", "10.0.0.1:5070;branch=z9hG4bKa", "198.51.100.1:5070");
    check("[2001:db8::7]:9999", "[2001:db8::7]:5070;branch=z9hG4bKa", "[2001:db8::7]:5070");
}

#[test]
fn too_much_at_once() {
    let limits = Limits { server_transactions: 3, dialogs: 2, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let text = |n: u32, method: &str| {
        let text = outside(method, 1, &format!("z9hG4bK{n}"), "");
        text.replace("call-1", &format!("call-{n}"))
    };
    bench.hear(&text(1, "INVITE"));
    bench.hear(&text(2, "INVITE"));
    assert_eq!(bench.events().len(), 2);
    bench.hear(&text(3, "INVITE"));
    let full = bench.response();
    assert_eq!(full.status, Status::SERVICE_UNAVAILABLE);
    assert!((5..=15).contains(&full.headers.retry_after().unwrap().unwrap().seconds));
    bench.hear(&text(4, "OPTIONS"));
    let Event::Request { id, .. } = bench.event() else { panic!() };
    bench.hear(&text(5, "OPTIONS"));
    assert_eq!(bench.words(), "503 OPTIONS", "the table is full of requests that wait");
    bench.user(|it, now, out| it.respond(now, id, status(200), out));
    bench.hear(&text(6, "OPTIONS"));
    assert!(matches!(bench.event(), Event::Request { .. }), "one that is answered makes room");
    assert_eq!(bench.endpoint.load().server_transactions, 3);
    bench.drain();
}

#[test]
fn a_flood_leaves_nothing_behind() {
    let limits = Limits { server_transactions: 100, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for n in 0..1000 {
        let text = outside("OPTIONS", n, &format!("z9hG4bK{n}"), "");
        bench.hear(&text);
        for event in bench.events() {
            let Event::Request { id, .. } = event else { panic!() };
            bench.user(|it, now, out| it.respond(now, id, status(200), out));
        }
        assert!(bench.endpoint.load().server_transactions <= 100);
    }
    assert_eq!(bench.transmits().len(), 1000);
    bench.drain();
}

#[test]
fn what_begins_something() {
    let mut bench = Bench::new();
    let check = |bench: &Bench, text: String, expected: bool| {
        let text = text.replace('\n', "\r\n");
        let Ok(Message::Request(mut request)) = parse(text.as_bytes()) else { panic!("{text}") };
        assert_eq!(bench.endpoint.begins(udp(), &mut request), expected, "{text}");
        assert_eq!(request.headers.via().unwrap().rport(), Some(Some(5070)));
    };
    let cancel = outside("CANCEL", 1, "z9hG4bKinvite1", "");
    check(&bench, invite(""), true);
    check(&bench, cancel.clone(), true);
    check(&bench, within("BYE", 2, "nobody", "z9hG4bKb", ""), true);
    check(&bench, within("ACK", 1, "nobody", "z9hG4bKa", ""), false);
    let dialog = bench.ring();
    check(&bench, invite(""), false);
    check(&bench, cancel, false);
    bench.answer(dialog, 200);
    let tag = bench.transmits().pop().map(|sent| parse(&sent.bytes).unwrap());
    let Some(Message::Response(ok)) = tag else { panic!() };
    let tag = ok.headers.to_tag().unwrap().unwrap();
    for method in ["ACK", "INVITE", "INFO", "BYE"] {
        check(&bench, within(method, 2, &tag, "z9hG4bKnew", ""), false);
    }
    check(&bench, within("BYE", 2, &tag, "z9hG4bKnew", "").replace("call-1", "call-2"), true);
    check(&bench, outside("OPTIONS", 2, "z9hG4bKo", ""), true);
    // A copy from before RFC 3261 is known by the whole of its Via.
    let old = outside("OPTIONS", 7, "1", "").replace(";branch=1", "");
    bench.hear(&old);
    check(&bench, old.replace("\r\n", "\n"), false);
}

#[test]
fn turned_away_without_state() {
    let mut bench = Bench::new();
    let text = invite("").replace('\n', "\r\n");
    let Ok(Message::Request(request)) = parse(text.as_bytes()) else { panic!() };
    bench.user(|endpoint, _, out| endpoint.turn_away(udp(), request, out));
    let refusal = bench.response();
    assert_eq!(refusal.status.code(), 503);
    assert!(refusal.headers.get(&Name::RETRY_AFTER).is_some());
    assert!(refusal.headers.to_tag().unwrap().is_some());
    assert_eq!(bench.endpoint.load(), Default::default());
}
