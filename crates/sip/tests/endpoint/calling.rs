//! Calls that go out.

use cusax_sip::{
    endpoint::{DialogId, End, Event, SendError},
    flow::Transport,
    header::{Headers, MAGIC_COOKIE, MediaType, Name, NameAddr},
    message::{Message, Method, Request, Status},
    parse::parse,
    uri::Uri,
};

use crate::bench::{Bench, flow, reply, udp, within};

fn call(bench: &mut Bench) -> (DialogId, Request) {
    let uri: Uri = "sip:bob@example.org".parse().unwrap();
    let from = NameAddr::new("sip:room@example.org".parse::<Uri>().unwrap());
    let invite = Request::new(Method::Invite, uri).with(Name::FROM, from);
    let invite = invite.with_body(&MediaType::new("application", "sdp"), "v=0");
    let flow = bench.flow;
    let dialog = bench.user(|it, now, out| it.invite(now, flow, invite, out)).unwrap();
    (dialog, bench.request())
}

fn ack(bench: &mut Bench, dialog: DialogId) {
    bench.user(|it, _, out| it.ack(dialog, Headers::new(), vec![], out));
}

fn up(bench: &mut Bench) -> (DialogId, Request) {
    let (dialog, invite) = call(bench);
    bench.reply(&invite, 200, "");
    ack(bench, dialog);
    assert_eq!(bench.words(), "ACK");
    assert!(matches!(bench.event(), Event::Answered { .. }));
    (dialog, invite)
}

#[test]
fn from_calling_to_hanging_up() {
    let mut bench = Bench::new();
    let (dialog, invite) = call(&mut bench);
    assert!(invite.headers.via().unwrap().branch().unwrap().starts_with(MAGIC_COOKIE));
    assert!(invite.headers.from_tag().unwrap().is_some());
    assert_eq!(invite.headers.to().unwrap().uri, invite.uri);
    assert_eq!(invite.headers.contact().unwrap().unwrap().uri.to_string(), "sip:192.0.2.1:5060");
    assert_eq!(invite.headers.max_forwards(), Ok(Some(70)));
    bench.reply(&invite, 100, "");
    assert_eq!(bench.events(), []);
    bench.reply(&invite, 180, "");
    assert!(matches!(bench.event(), Event::Progress { .. }));
    bench.wait(60_000);
    assert_eq!(bench.words(), "", "a call that rings is not resent");
    let routes = "Record-Route: <sip:p1;lr>\nRecord-Route: <sip:p2;lr>\n";
    bench.reply(&invite, 200, routes);
    assert!(matches!(bench.event(), Event::Answered { .. }));
    ack(&mut bench, dialog);
    let first = bench.transmits().remove(0);
    let Message::Request(request) = parse(&first.bytes).unwrap() else { panic!() };
    assert_eq!(request.method, Method::Ack);
    assert_eq!(request.uri.to_string(), "sip:bob@192.0.2.7:5070");
    assert_eq!(request.headers.cseq().unwrap().number, 1);
    assert_ne!(request.headers.via().unwrap().branch(), invite.headers.via().unwrap().branch());
    let got: Vec<_> = request.headers.all(&Name::ROUTE).collect();
    assert_eq!(got, ["<sip:p2;lr>", "<sip:p1;lr>"]);
    bench.reply(&invite, 200, routes);
    assert_eq!(bench.transmits(), [first], "a lost ACK is sent again");
    bench.bye(dialog);
    let bye = bench.request();
    assert_eq!(bye.headers.cseq().unwrap().number, 2);
    bench.reply(&bye, 200, "");
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn the_callee_hangs_up() {
    let mut bench = Bench::new();
    let (_, invite) = up(&mut bench);
    let tag = invite.headers.from_tag().unwrap().unwrap();
    let call_id = invite.headers.call_id().unwrap();
    let bye = |cseq: u32, branch: &str| {
        format!(
            "BYE sip:192.0.2.1:5060 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.7:5070;branch={branch}\n\
             From: <sip:bob@example.org>;tag=bob\nTo: <sip:room@example.org>;tag={tag}\n\
             Call-ID: {call_id}\nCSeq: {cseq} BYE\nContent-Length: 0\n\n"
        )
    };
    bench.hear(&bye(9, "z9hG4bKb9").replace("tag=bob", "tag=eve"));
    assert_eq!(bench.words(), "481 BYE");
    bench.hear(&bye(10, "z9hG4bKb10"));
    assert_eq!(bench.words(), "200 BYE");
    assert!(matches!(bench.event(), Event::Ended { why: End::Bye(_), .. }));
    bench.drain();
}

#[test]
fn nobody_is_there() {
    let mut bench = Bench::new();
    let (dialog, _) = call(&mut bench);
    bench.wait(32_000);
    let times: Vec<_> = bench.log().into_iter().map(|(ms, _)| ms).collect();
    assert_eq!(times, [500, 1500, 3500, 7500, 15500, 31500]);
    let Event::Ended { dialog: ended, why: End::Refused(response) } = bench.event() else {
        panic!()
    };
    assert_eq!((ended, response.status), (dialog, Status::REQUEST_TIMEOUT));
    bench.drain();
}

#[test]
fn refused() {
    let mut bench = Bench::new();
    let (_, invite) = call(&mut bench);
    bench.reply(&invite, 486, "");
    let ack = bench.request();
    assert_eq!(ack.method, Method::Ack);
    assert_eq!(ack.uri, invite.uri);
    assert_eq!(ack.headers.via().unwrap(), invite.headers.via().unwrap());
    assert_eq!(ack.headers.to_tag().unwrap().as_deref(), Some("bob"));
    assert!(matches!(bench.event(), Event::Ended { why: End::Refused(_), .. }));
    bench.reply(&invite, 486, "");
    assert_eq!(bench.request(), ack);
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn cancelled() {
    let mut bench = Bench::new();
    let (dialog, invite) = call(&mut bench);
    bench.bye(dialog);
    assert_eq!(bench.words(), "", "no CANCEL before a provisional answer (RFC 3261 §9.1)");
    bench.reply(&invite, 100, "");
    let cancel = bench.request();
    assert_eq!(cancel.method, Method::Cancel);
    assert_eq!(cancel.uri, invite.uri);
    assert_eq!(cancel.headers.vias(), invite.headers.vias());
    assert_eq!(cancel.headers.cseq().unwrap().number, invite.headers.cseq().unwrap().number);
    assert_eq!(cancel.headers.get(&Name::REASON), Some("SIP;cause=603"));
    bench.reply(&invite, 180, "");
    bench.reply(&cancel, 200, "");
    bench.reply(&invite, 487, "");
    assert_eq!(bench.words(), "ACK");
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn cancelled_and_the_peer_says_no_more() {
    let mut bench = Bench::new();
    let (dialog, invite) = call(&mut bench);
    bench.reply(&invite, 180, "");
    bench.bye(dialog);
    let cancel = bench.request();
    bench.reply(&cancel, 200, "");
    bench.wait(31_999);
    assert_eq!(bench.endpoint.load().dialogs, 1);
    bench.wait(1);
    assert_eq!(bench.endpoint.load().dialogs, 0);
    bench.drain();
}

#[test]
fn cancelled_too_late() {
    let mut bench = Bench::new();
    let (dialog, invite) = call(&mut bench);
    bench.reply(&invite, 180, "");
    bench.events();
    bench.bye(dialog);
    bench.transmits();
    bench.reply(&invite, 200, "");
    assert_eq!(bench.words(), "ACK, BYE");
    bench.reply(&invite, 200, "");
    assert_eq!(bench.words(), "ACK", "a copy");
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn two_answer() {
    let mut bench = Bench::new();
    let (dialog, invite) = call(&mut bench);
    bench.reply(&invite, 180, "tag=carol\n");
    bench.reply(&invite, 180, "tag=bob\n");
    bench.reply(&invite, 200, "tag=carol\n");
    bench.events();
    ack(&mut bench, dialog);
    assert_eq!(bench.request().headers.to_tag().unwrap().as_deref(), Some("carol"));
    bench.reply(&invite, 200, "tag=bob\n");
    let sent = bench.transmits();
    let tags: Vec<_> = sent
        .iter()
        .map(|transmit| match parse(&transmit.bytes).unwrap() {
            Message::Request(request) => {
                (request.method.to_string(), request.headers.to_tag().unwrap().unwrap())
            }
            Message::Response(response) => panic!("{response:?}"),
        })
        .collect();
    let bob = "bob".to_owned();
    assert_eq!(tags, [("ACK".to_owned(), bob.clone()), ("BYE".to_owned(), bob)]);
    assert_eq!(bench.events(), []);
    bench.bye(dialog);
    bench.drain();
}

#[test]
fn it_rings_for_too_long() {
    let mut bench = Bench::new();
    let (_, invite) = call(&mut bench);
    bench.reply(&invite, 180, "");
    bench.events();
    bench.wait(180_000);
    assert_eq!(bench.words(), "CANCEL");
    bench.reply(&invite, 487, "");
    let Event::Ended { why: End::Refused(response), .. } = bench.event() else { panic!() };
    assert_eq!(response.status, Status::REQUEST_TERMINATED);
    bench.drain();
}

#[test]
fn the_user_hangs_up_without_ack() {
    let mut bench = Bench::new();
    let (dialog, invite) = call(&mut bench);
    bench.reply(&invite, 200, "");
    bench.events();
    bench.bye(dialog);
    assert_eq!(bench.words(), "ACK, BYE");
    bench.drain();
}

#[test]
fn glare() {
    let mut bench = Bench::new();
    let (dialog, _) = up(&mut bench);
    let send = |bench: &mut Bench| {
        bench.user(|it, now, out| it.reinvite(now, dialog, Headers::new(), vec![], out))
    };
    assert_eq!(send(&mut bench), Ok(()));
    assert_eq!(send(&mut bench), Err(SendError::Pending));
    let change = bench.request();
    bench.reply(&change, 491, "");
    bench.transmits();
    // The user need not wait, and is then not told to.
    assert_eq!(send(&mut bench), Ok(()));
    bench.wait(4000);
    assert_eq!(bench.events(), []);
    let Some(Message::Request(change)) =
        bench.transmits().pop().map(|it| parse(&it.bytes).unwrap())
    else {
        panic!()
    };
    bench.reply(&change, 491, "");
    bench.wait(2099);
    assert_eq!(bench.events(), []);
    bench.wait(1901);
    // The Call-ID is ours: 2.1 to 4 s (RFC 3261 §14.1).
    assert_eq!(bench.event(), Event::Retry { dialog });
    bench.transmits();
    assert_eq!(send(&mut bench), Ok(()));
    let change = bench.request();
    bench.reply(&change, 488, "");
    assert!(matches!(bench.event(), Event::Refused { .. }));
    assert_eq!(bench.words(), "ACK");
    assert_eq!(send(&mut bench), Ok(()));
    let change = bench.request();
    bench.reply(&change, 200, "");
    assert!(matches!(bench.event(), Event::Answered { .. }));
    assert_eq!(send(&mut bench), Err(SendError::Pending));
    ack(&mut bench, dialog);
    let ack = bench.request();
    assert_eq!(ack.headers.cseq().unwrap().number, change.headers.cseq().unwrap().number);
}

#[test]
fn hung_up_with_a_change_under_way() {
    let mut bench = Bench::new();
    let (dialog, _) = up(&mut bench);
    bench.user(|it, now, out| it.reinvite(now, dialog, Headers::new(), vec![], out)).unwrap();
    let change = bench.request();
    bench.bye(dialog);
    let bye = bench.request();
    bench.reply(&change, 200, "");
    assert_eq!(bench.words(), "ACK", "and no second BYE");
    bench.reply(&bye, 200, "");
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn requests_in_a_call() {
    let mut bench = Bench::new();
    let (dialog, _) = up(&mut bench);
    let send = |bench: &mut Bench, method| {
        bench.user(|it, now, out| it.send_within(now, dialog, method, Headers::new(), vec![], out))
    };
    let id = send(&mut bench, Method::Info).unwrap();
    let info = bench.request();
    bench.reply(&info, 100, "");
    bench.reply(&info, 200, "");
    let Event::Response { id: answered, response } = bench.event() else { panic!() };
    assert_eq!((answered, response.status), (id, Status::OK));
    assert_eq!(send(&mut bench, Method::Bye), Err(SendError::Malformed));
    send(&mut bench, Method::Info).unwrap();
    bench.transmits();
    bench.wait(32_000);
    let events = bench.events();
    assert!(matches!(&events[0], Event::Ended { why: End::Gone(_), .. }));
    let Event::Response { response, .. } = &events[1] else { panic!() };
    assert_eq!(response.status, Status::REQUEST_TIMEOUT);
    bench.drain();
    assert_eq!(send(&mut bench, Method::Info), Err(SendError::Unknown));
}

#[test]
fn requests_without_a_call() {
    let mut bench = Bench::new();
    let uri: Uri = "sip:example.org".parse().unwrap();
    let from = NameAddr::new(uri.clone());
    let options = || Request::new(Method::Options, uri.clone()).with(Name::FROM, &from);
    let to = udp();
    let id = bench.user(|it, now, out| it.send(now, to, options(), out)).unwrap();
    let sent = bench.request();
    // A challenge is the user's to answer.
    bench.reply(&sent, 401, "WWW-Authenticate: Digest realm=\"x\", nonce=\"y\"\n");
    let Event::Response { id: answered, response } = bench.event() else { panic!() };
    assert_eq!((answered, response.status), (id, Status::UNAUTHORIZED));
    assert_eq!(bench.words(), "");
    bench.user(|it, now, out| it.send(now, to, options(), out)).unwrap();
    bench.fail(to);
    let Event::Response { response, .. } = bench.event() else { panic!() };
    assert_eq!(response.status, Status::SERVICE_UNAVAILABLE);
    let none = Request::new(Method::Options, uri.clone());
    assert_eq!(bench.user(|it, now, out| it.send(now, to, none, out)), Err(SendError::Malformed));
    bench.drain();
}

#[test]
fn responses_that_are_not_ours() {
    let mut bench = Bench::new();
    let (_, invite) = call(&mut bench);
    let good = reply(&invite, 200, "");
    let via = invite.headers.get(&Name::VIA).unwrap();
    for (wrong, right) in [
        (format!("{via}, SIP/2.0/UDP 192.0.2.99:5060;branch=z9hG4bKx"), via.to_owned()),
        (via.replace(MAGIC_COOKIE, "z9hG4bKzzz"), via.to_owned()),
        ("1 BYE".to_owned(), "1 INVITE".to_owned()),
    ] {
        bench.hear(&good.replace(&right, &wrong));
        assert_eq!((bench.words(), bench.events()), (String::new(), vec![]), "{wrong}");
    }
    bench.hear(&good);
    assert!(matches!(bench.event(), Event::Answered { .. }));
}

#[test]
fn a_lost_flow_ends_the_call() {
    let mut bench = Bench::new();
    let (_, _) = call(&mut bench);
    bench.fail(udp());
    let Event::Ended { why: End::Refused(response), .. } = bench.event() else { panic!() };
    assert_eq!(response.status, Status::SERVICE_UNAVAILABLE);
    bench.fail(flow(Transport::Tcp, "192.0.2.200:1"));
    assert_eq!(bench.events(), []);
    bench.drain();
}

#[test]
fn an_old_copy_does_not_end_the_call() {
    let mut bench = Bench::new();
    let (dialog, _) = up(&mut bench);
    let change = |bench: &mut Bench| {
        bench.user(|it, now, out| it.reinvite(now, dialog, Headers::new(), vec![], out)).unwrap();
        let request = bench.request();
        bench.reply(&request, 200, "");
        ack(bench, dialog);
        bench.transmits();
        bench.events();
        request
    };
    let first = change(&mut bench);
    change(&mut bench);
    bench.reply(&first, 200, "");
    let ack = bench.request();
    assert_eq!(ack.method, Method::Ack);
    assert_eq!(ack.headers.cseq().unwrap().number, first.headers.cseq().unwrap().number);
    assert_eq!(bench.events(), []);
}

#[test]
fn the_peer_changes_what_we_have_not_confirmed() {
    let mut bench = Bench::new();
    let (_, invite) = call(&mut bench);
    bench.reply(&invite, 200, "");
    bench.events();
    let tag = invite.headers.from_tag().unwrap().unwrap();
    let change = within("INVITE", 1, &tag, "z9hG4bKre", "");
    let call_id = format!("Call-ID: {}", invite.headers.call_id().unwrap());
    bench.hear(&change.replace("Call-ID: call-1", &call_id));
    assert_eq!(bench.words(), "491 INVITE");
    assert_eq!(bench.events(), []);
}
