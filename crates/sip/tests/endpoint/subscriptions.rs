//! Subscriptions, of peers and of ours.

use cusax_sip::{
    endpoint::{DialogId, Event, Limits, SendError, SubscriptionEnd, SubscriptionId},
    flow::Transport,
    header::{Headers, Name, NameAddr, SubscriptionState},
    message::{Message, Method, Request, Status},
    parse::parse,
    uri::Uri,
};

use crate::bench::{Bench, PEER, flow, outside, status, subscribe, tcp, udp, within};

fn state(notify: &Request) -> String {
    notify.headers.get(&Name::SUBSCRIPTION_STATE).unwrap().to_owned()
}

/// A subscription for so many seconds that has had its first report; and our tag.
fn up(bench: &mut Bench, expires: u32) -> (SubscriptionId, String) {
    let subscription = bench.subscribe(expires);
    bench.accept(subscription);
    let tag = bench.response().headers.to_tag().unwrap().unwrap();
    bench.notify(subscription, 10).unwrap();
    let notify = bench.request();
    bench.reply(&notify, 200, "");
    assert_eq!(bench.event(), Event::Notified { subscription, status: Status::OK });
    (subscription, tag)
}

fn terminate(bench: &mut Bench, subscription: SubscriptionId, reason: &str) {
    let state = SubscriptionState::terminated(reason);
    bench.user(|it, now, out| it.terminate(now, subscription, state, Headers::new(), vec![], out));
}

#[test]
fn from_subscribing_to_unsubscribing() {
    let mut bench = Bench::new();
    let subscription = bench.subscribe(600);
    assert_eq!(bench.notify(subscription, 10), Err(SendError::Unknown), "not accepted yet");
    let answer =
        status(200).with(Name::EXPIRES, 300).with(Name::CONTACT, "<sip:room@example.org>;isfocus");
    bench.user(|it, now, out| it.answer_subscribe(now, subscription, answer, out));
    let ok = bench.response();
    assert_eq!(ok.headers.expires(), Ok(Some(300)));
    let tag = ok.headers.to_tag().unwrap().unwrap();
    assert!(bench.endpoint.may_notify(subscription));
    bench.notify(subscription, 10).unwrap();
    let notify = bench.request();
    assert_eq!(notify.method, Method::Notify);
    assert_eq!(notify.uri.to_string(), "sip:bob@192.0.2.7:5070");
    assert_eq!(notify.headers.get(&Name::EVENT), Some("conference"));
    assert_eq!(notify.headers.get(&Name::CONTACT), Some("<sip:room@example.org>;isfocus"));
    assert_eq!(state(&notify), "active;expires=300");
    assert_eq!(notify.headers.from_tag().unwrap().as_deref(), Some(&*tag));
    assert_eq!(notify.body.len(), 10);
    assert!(!bench.endpoint.may_notify(subscription));
    assert_eq!(bench.notify(subscription, 10), Err(SendError::Pending), "one at a time");
    bench.reply(&notify, 200, "");
    assert_eq!(bench.event(), Event::Notified { subscription, status: Status::OK });
    bench.wait(100_500);
    let refresh = "Event: conference\nExpires: 600\n";
    bench.hear(&within("SUBSCRIBE", 2, &tag, "z9hG4bKs2", refresh));
    assert!(matches!(bench.event(), Event::Refresh { .. }));
    bench.accept(subscription);
    assert_eq!(bench.response().headers.expires(), Ok(Some(600)));
    bench.wait(100_500);
    bench.notify(subscription, 10).unwrap();
    let notify = bench.request();
    assert_eq!(state(&notify), "active;expires=500", "rounded up");
    bench.reply(&notify, 200, "");
    bench.events();
    let end = "Event: conference\nExpires: 0\n";
    bench.hear(&within("SUBSCRIBE", 3, &tag, "z9hG4bKs3", end));
    bench.accept(subscription);
    assert_eq!(bench.response().headers.expires(), Ok(Some(0)));
    bench.notify(subscription, 10).unwrap();
    let notify = bench.request();
    assert_eq!(state(&notify), "terminated;reason=timeout");
    assert_eq!(bench.notify(subscription, 10), Err(SendError::Unknown));
    bench.reply(&notify, 200, "");
    assert!(matches!(bench.event(), Event::Refresh { .. }));
    bench.drain();
}

#[test]
fn no_longer_than_asked_for() {
    let mut bench = Bench::new();
    let subscription = bench.subscribe(60);
    let answer = status(200).with(Name::EXPIRES, 3600);
    bench.user(|it, now, out| it.answer_subscribe(now, subscription, answer, out));
    assert_eq!(bench.response().headers.expires(), Ok(Some(60)));
}

#[test]
fn a_fetch() {
    let mut bench = Bench::new();
    let subscription = bench.subscribe(0);
    bench.accept(subscription);
    bench.notify(subscription, 10).unwrap();
    let sent = bench.transmits();
    let Message::Request(notify) = parse(&sent[1].bytes).unwrap() else { panic!() };
    assert_eq!(state(&notify), "terminated;reason=timeout");
    bench.drain();
    assert_eq!(bench.events(), []);
}

#[test]
fn a_last_report_that_the_user_leaves_out() {
    let mut bench = Bench::new();
    let subscription = bench.subscribe(0);
    bench.accept(subscription);
    bench.transmits();
    bench.wait(0);
    assert_eq!(state(&bench.request()), "terminated;reason=timeout");
    let why = SubscriptionEnd::Expired;
    assert_eq!(bench.event(), Event::Unsubscribed { subscription, why });
    bench.drain();
}

#[test]
fn not_refreshed() {
    let mut bench = Bench::new();
    let (subscription, tag) = up(&mut bench, 60);
    bench.wait(60_000);
    let notify = bench.request();
    assert_eq!(state(&notify), "terminated;reason=timeout");
    let why = SubscriptionEnd::Expired;
    assert_eq!(bench.event(), Event::Unsubscribed { subscription, why });
    // A refresh that crosses it comes too late.
    bench.hear(&within("SUBSCRIBE", 2, &tag, "z9hG4bKs2", "Event: conference\n"));
    let Event::Subscribe { subscription: next, .. } = bench.event() else { panic!() };
    assert_ne!(next, subscription);
    let answer = status(481);
    bench.user(|it, now, out| it.answer_subscribe(now, next, answer, out));
    bench.reply(&notify, 200, "");
    bench.drain();
}

#[test]
fn refused() {
    let mut bench = Bench::new();
    let subscription = bench.subscribe(60);
    let answer = status(489).with(Name::ALLOW_EVENTS, "conference");
    bench.user(|it, now, out| it.answer_subscribe(now, subscription, answer, out));
    assert_eq!(bench.words(), "489 SUBSCRIBE");
    assert_eq!(bench.notify(subscription, 1), Err(SendError::Unknown));
    assert_eq!(bench.endpoint.load().dialogs, 0);
    bench.drain();
    assert_eq!(bench.events(), []);
}

#[test]
fn a_refresh_that_is_refused_changes_nothing() {
    let mut bench = Bench::new();
    let (subscription, tag) = up(&mut bench, 60);
    bench.hear(&within("SUBSCRIBE", 2, &tag, "z9hG4bKs2", "Event: conference\nExpires: 600\n"));
    bench.hear(&within("SUBSCRIBE", 3, &tag, "z9hG4bKs3", "Event: conference\nExpires: 600\n"));
    assert_eq!(bench.words(), "500 SUBSCRIBE", "one at a time");
    bench.events();
    let answer = status(423);
    bench.user(|it, now, out| it.answer_subscribe(now, subscription, answer, out));
    assert_eq!(bench.words(), "423 SUBSCRIBE");
    bench.notify(subscription, 1).unwrap();
    assert_eq!(state(&bench.request()), "active;expires=60");
    bench.drain();
}

#[test]
fn subscribes_that_make_no_sense() {
    let check = |text: String, word: &str| {
        let mut bench = Bench::new();
        bench.hear(&text);
        assert_eq!((bench.words().as_str(), bench.events()), (word, vec![]), "{text}");
        bench.drain();
    };
    check(outside("SUBSCRIBE", 1, "z9hG4bKs", ""), "400 SUBSCRIBE");
    check(outside("SUBSCRIBE", 1, "z9hG4bKs", "Event: ;;\n"), "400 SUBSCRIBE");
    check(subscribe("", 1).replace("Expires: 1", "Expires: soon"), "400 SUBSCRIBE");
    check(subscribe("", 1).replace("Contact:", "X-Contact:"), "400 SUBSCRIBE");
}

/// Which answers to a NOTIFY end the subscription (RFC 6665 §4.2.2).
#[test]
fn the_subscriber_answers() {
    let check = |code: u16, ends: bool| {
        let mut bench = Bench::new();
        let (subscription, _) = up(&mut bench, 600);
        bench.notify(subscription, 10).unwrap();
        let notify = bench.request();
        bench.reply(&notify, code, "");
        let status = Status::new(code).unwrap();
        let event = match ends {
            true => Event::Unsubscribed { subscription, why: SubscriptionEnd::Status(status) },
            false => Event::Notified { subscription, status },
        };
        assert_eq!(bench.event(), event, "{code}");
        assert_eq!(bench.endpoint.load().subscriptions, usize::from(!ends), "{code}");
        assert_eq!(bench.words(), "", "{code}");
        bench.drain();
    };
    for code in [404, 405, 408, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604] {
        check(code, true);
    }
    for code in [200, 202, 401, 407, 500, 503, 603] {
        check(code, false);
    }
}

#[test]
fn the_subscriber_is_silent() {
    let mut bench = Bench::new();
    let (subscription, _) = up(&mut bench, 600);
    bench.notify(subscription, 10).unwrap();
    bench.wait(32_000);
    assert_eq!(bench.log().len(), 11);
    let why = SubscriptionEnd::Status(Status::REQUEST_TIMEOUT);
    assert_eq!(bench.event(), Event::Unsubscribed { subscription, why });
    bench.drain();
}

#[test]
fn ended_with_a_report_under_way() {
    let mut bench = Bench::new();
    let (subscription, _) = up(&mut bench, 600);
    bench.notify(subscription, 10).unwrap();
    let first = bench.request();
    terminate(&mut bench, subscription, "noresource");
    assert_eq!(bench.words(), "", "it waits");
    bench.reply(&first, 200, "");
    let last = bench.request();
    assert_eq!(state(&last), "terminated;reason=noresource");
    assert_eq!(last.headers.cseq().unwrap().number, first.headers.cseq().unwrap().number + 1);
    bench.reply(&last, 200, "");
    assert_eq!(bench.events(), []);
    bench.drain();

    let mut bench = Bench::new();
    let (subscription, _) = up(&mut bench, 600);
    bench.notify(subscription, 10).unwrap();
    let first = bench.request();
    terminate(&mut bench, subscription, "noresource");
    bench.reply(&first, 481, "");
    assert_eq!((bench.words(), bench.events()), (String::new(), vec![]), "quietly");
    bench.drain();
}

#[test]
fn ended_before_it_was_accepted() {
    let mut bench = Bench::new();
    let subscription = bench.subscribe(60);
    terminate(&mut bench, subscription, "rejected");
    assert_eq!(bench.words(), "403 SUBSCRIBE");
    bench.drain();
}

#[test]
fn the_user_never_answers() {
    let mut bench = Bench::new();
    bench.subscribe(60);
    bench.drain();
    assert_eq!((bench.words(), bench.events()), (String::new(), vec![]));
}

#[test]
fn within_a_call_and_beyond_it() {
    let mut bench = Bench::new();
    let (call, tag) = bench.up();
    let mut subscribe = |cseq: u32, event: &str| {
        let extra = format!("Event: {event}\nExpires: 600\n");
        bench.hear(&within("SUBSCRIBE", cseq, &tag, &format!("z9hG4bKs{cseq}"), &extra));
        let Event::Subscribe { subscription, dialog, .. } = bench.event() else { panic!() };
        assert_eq!(dialog, call);
        bench.accept(subscription);
        assert_eq!(bench.response().headers.to_tag().unwrap().as_deref(), Some(&*tag));
        bench.notify(subscription, 10).unwrap();
        let notify = bench.request();
        bench.reply(&notify, 200, "");
        bench.events();
        (subscription, notify.headers.cseq().unwrap().number)
    };
    // Two usages that only the id tells apart (RFC 6665 §4.5.2), one numbering of requests.
    let (first, a) = subscribe(2, "conference;id=1");
    let (second, b) = subscribe(3, "Conference;id=2");
    assert_ne!(first, second);
    assert_eq!(b, a + 1);
    bench.bye(call);
    let bye = bench.request();
    assert_eq!(bye.headers.cseq().unwrap().number, b + 1);
    bench.reply(&bye, 200, "");
    bench.hear(&within("BYE", 4, &tag, "z9hG4bKbye", ""));
    assert_eq!(bench.words(), "481 BYE", "there is no call");
    bench.notify(first, 10).unwrap();
    let notify = bench.request();
    bench.reply(&notify, 481, "");
    let why = SubscriptionEnd::Status(Status::CALL_DOES_NOT_EXIST);
    assert_eq!(bench.event(), Event::Unsubscribed { subscription: first, why });
    bench.notify(second, 10).unwrap();
    bench.wait(600_000);
    bench.drain();
}

#[test]
fn too_many_in_one_call() {
    let mut bench = Bench::with(Limits { subscriptions_per_dialog: 2, ..Limits::default() });
    let (_, tag) = bench.up();
    for n in 2..5 {
        let extra = format!("Event: conference;id={n}\n");
        bench.hear(&within("SUBSCRIBE", n, &tag, &format!("z9hG4bKs{n}"), &extra));
    }
    assert_eq!(bench.events().len(), 2);
    assert_eq!(bench.words(), "503 SUBSCRIBE");
}

/// Over 1300 bytes a request goes by TCP (RFC 3261 §18.1.1).
#[test]
fn a_long_report_goes_by_tcp() {
    let mut bench = Bench::new();
    let (subscription, _) = up(&mut bench, 600);
    bench.notify(subscription, 2000).unwrap();
    let sent = bench.transmits().remove(0);
    assert_eq!(sent.flow, tcp());
    let Message::Request(notify) = parse(&sent.bytes).unwrap() else { panic!() };
    assert_eq!(notify.headers.via().unwrap().transport.to_string(), "TCP");
    bench.wait(3000);
    assert_eq!(bench.words(), "", "TCP resends by itself");
    bench.flow = tcp();
    bench.reply(&notify, 100, "");
    bench.wait(10_000);
    assert_eq!(bench.words(), "", "the way is known to work");
    bench.reply(&notify, 200, "");
    bench.wait(60_000);
    assert_eq!(bench.words(), "");
    assert!(matches!(bench.event(), Event::Notified { .. }));
    bench.notify(subscription, 100).unwrap();
    assert_eq!(bench.transmits().remove(0).flow, udp(), "and a short one as before");
}

#[test]
fn a_subscriber_without_tcp() {
    for refused in [true, false] {
        let mut bench = Bench::new();
        let (subscription, _) = up(&mut bench, 600);
        bench.notify(subscription, 2000).unwrap();
        let first = bench.transmits().remove(0);
        assert_eq!(first.flow, tcp());
        if refused {
            bench.fail(tcp());
        } else {
            bench.wait(4000);
        }
        let again = bench.transmits().remove(0);
        assert_eq!(again.flow, udp());
        let [Message::Request(first), Message::Request(notify)] =
            [first, again].map(|sent| parse(&sent.bytes).unwrap())
        else {
            panic!()
        };
        let via = notify.headers.via().unwrap();
        assert_eq!(via.transport.to_string(), "UDP");
        assert_eq!(via.branch(), first.headers.via().unwrap().branch(), "still one request");
        bench.fail(tcp());
        assert_eq!((bench.words(), bench.events()), (String::new(), vec![]), "that is known");
        bench.wait(500);
        assert_eq!(bench.words(), "NOTIFY", "UDP does not resend by itself");
        bench.reply(&notify, 200, "");
        assert!(matches!(bench.event(), Event::Notified { .. }));
        bench.notify(subscription, 2000).unwrap();
        assert_eq!(bench.transmits().remove(0).flow, udp(), "it is known now");
        bench.fail(tcp());
        assert_eq!((bench.words(), bench.events()), (String::new(), vec![]));
        bench.drain();
    }
}

#[test]
fn a_long_report_goes_to_the_contact() {
    // Behind a router, heard from another address than its Contact names.
    let mut bench = Bench::new();
    bench.flow = flow(Transport::Udp, "192.0.2.7:31000");
    let (subscription, _) = up(&mut bench, 600);
    bench.notify(subscription, 2000).unwrap();
    assert_eq!(bench.transmits().remove(0).flow, tcp());
}

#[test]
fn a_subscriber_out_of_reach() {
    let mut bench = Bench::new();
    let (subscription, _) = up(&mut bench, 600);
    bench.notify(subscription, 10).unwrap();
    bench.transmits();
    bench.fail(udp());
    let why = SubscriptionEnd::Status(Status::SERVICE_UNAVAILABLE);
    assert_eq!(bench.event(), Event::Unsubscribed { subscription, why });
    bench.drain();
}

#[test]
fn a_refresh_that_crosses_the_end() {
    for expires in [true, false] {
        let mut bench = Bench::new();
        let (subscription, tag) = up(&mut bench, 60);
        bench.notify(subscription, 10).unwrap();
        let notify = bench.request();
        bench.wait(if expires { 31_000 } else { 0 });
        bench.hear(&within("SUBSCRIBE", 2, &tag, "z9hG4bKs2", "Event: conference\nExpires: 9\n"));
        assert!(matches!(bench.event(), Event::Refresh { .. }));
        bench.transmits();
        if expires {
            bench.reply(&notify, 200, "");
            bench.wait(29_000);
            assert_eq!(bench.words(), "481 SUBSCRIBE, NOTIFY");
            assert_eq!(bench.events().len(), 2);
        } else {
            bench.reply(&notify, 481, "");
            assert_eq!(bench.words(), "481 SUBSCRIBE");
            assert!(matches!(bench.event(), Event::Unsubscribed { .. }));
        }
        bench.accept(subscription);
        bench.drain();
    }
}

#[test]
fn the_subscriber_moves() {
    let mut bench = Bench::new();
    let (subscription, tag) = up(&mut bench, 600);
    let refresh = within("SUBSCRIBE", 2, &tag, "z9hG4bKs2", "Event: conference\nExpires: 600\n");
    bench.hear(&refresh.replace("5070>", "5081>"));
    bench.accept(subscription);
    bench.transmits();
    bench.notify(subscription, 10).unwrap();
    let notify = bench.request();
    assert_eq!(notify.uri.to_string(), "sip:bob@192.0.2.7:5081");
    bench.reply(&notify, 200, "Contact: <sip:bob@192.0.2.7:5082>\n");
    bench.notify(subscription, 10).unwrap();
    assert_eq!(bench.request().uri.to_string(), "sip:bob@192.0.2.7:5082");
}

#[test]
fn a_refer_subscribes_to_what_becomes_of_it() {
    let mut bench = Bench::new();
    let to = "Refer-To: <sip:carol@example.org>\n";
    bench.hear(&outside("REFER", 1, "z9hG4bKr1", to));
    let Event::Subscribe { subscription, request, .. } = bench.event() else { panic!() };
    assert_eq!(request.method, Method::Refer);
    bench.user(|it, now, out| it.answer_subscribe(now, subscription, status(200), out));
    assert_eq!(bench.response().status, Status::OK);
    bench.notify(subscription, 10).unwrap();
    let notify = bench.request();
    assert_eq!(notify.headers.get(&Name::EVENT), Some("refer"));
    bench.reply(&notify, 200, "");
    bench.events();
    terminate(&mut bench, subscription, "noresource");
    let last = bench.request();
    assert_eq!(state(&last), "terminated;reason=noresource");
    bench.reply(&last, 200, "");
    bench.drain();
    // Refused, it leaves nothing.
    bench.hear(&outside("REFER", 2, "z9hG4bKr2", to));
    let Event::Subscribe { subscription, .. } = bench.event() else { panic!() };
    bench.user(|it, now, out| it.answer_subscribe(now, subscription, status(403), out));
    assert_eq!(bench.response().status, Status::FORBIDDEN);
    bench.drain();
    // Who wants no reports gets an answer and no more (RFC 4488 §4).
    bench.hear(&outside("REFER", 3, "z9hG4bKr3", &format!("{to}Refer-Sub: false\n")));
    let Event::Request { id, request, .. } = bench.event() else { panic!() };
    assert_eq!(request.method, Method::Refer);
    bench.user(|it, now, out| it.respond(now, id, status(200), out));
    assert_eq!(bench.response().status, Status::OK);
    bench.drain();
}

/// Subscribes to a peer.
fn watch(bench: &mut Bench) -> (DialogId, Request) {
    let request = Request::new(Method::Subscribe, "sip:room@example.org".parse::<Uri>().unwrap())
        .with(Name::FROM, NameAddr::new("sip:alice@example.org".parse::<Uri>().unwrap()))
        .with(Name::EVENT, "conference")
        .with(Name::EXPIRES, 600);
    let flow = bench.flow;
    let sent = bench.user(|it, now, out| it.subscribe(now, flow, request, out));
    (sent.unwrap().0, bench.request())
}

/// A report to a subscription of ours, as `bob` would send it.
fn report(subscribe: &Request, cseq: u32) -> String {
    let get = |name: Name| subscribe.headers.get(&name).unwrap().to_owned();
    format!(
        "NOTIFY sip:alice@192.0.2.1 SIP/2.0\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bKn{cseq}\n\
         From: {};tag=bob\nTo: {}\nCall-ID: {}\nCSeq: {cseq} NOTIFY\n\
         Contact: <sip:focus@192.0.2.7:5070>\nEvent: conference\n\
         Subscription-State: active;expires=600\nContent-Length: 0\n\n",
        get(Name::TO),
        get(Name::FROM),
        get(Name::CALL_ID),
    )
}

/// The dialog that a report came in, which is answered.
fn reported(bench: &mut Bench) -> Option<DialogId> {
    match bench.event() {
        Event::Request { id, dialog, request, .. } => {
            assert_eq!(request.method, Method::Notify);
            bench.user(|it, now, out| it.respond(now, id, status(200), out));
            assert_eq!(bench.words(), "200 NOTIFY");
            dialog
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn we_subscribe_refresh_and_end() {
    // The first report may overtake the answer (RFC 6665 §4.1.2.4).
    for report_first in [false, true] {
        let mut bench = Bench::new();
        let (dialog, subscribe) = watch(&mut bench);
        assert!(subscribe.headers.contact().unwrap().is_some());
        if report_first {
            bench.hear(&report(&subscribe, 1));
            assert_eq!(reported(&mut bench), Some(dialog));
        }
        bench.reply(&subscribe, 200, "Contact: <sip:focus@192.0.2.7:5070>\n");
        assert!(matches!(bench.event(), Event::Response { .. }));
        if !report_first {
            bench.hear(&report(&subscribe, 1));
            assert_eq!(reported(&mut bench), Some(dialog));
        }
        let mut headers = Headers::new();
        headers.push(Name::EVENT, "conference");
        headers.push(Name::EXPIRES, 0);
        bench.user(|it, now, out| it.resubscribe(now, dialog, headers, out)).unwrap();
        let refresh = bench.request();
        assert_eq!(refresh.uri.to_string(), "sip:focus@192.0.2.7:5070");
        assert_eq!(refresh.headers.cseq().unwrap().number, 2);
        bench.reply(&refresh, 200, "");
        assert!(matches!(bench.event(), Event::Response { .. }));
        bench.hear(&report(&subscribe, 2));
        assert_eq!(reported(&mut bench), Some(dialog));
        bench.user(|it, _, _| it.unsubscribed(dialog));
        bench.hear(&report(&subscribe, 3));
        assert_eq!(bench.words(), "481 NOTIFY");
        bench.drain();
    }
}

#[test]
fn a_subscription_that_is_refused_or_was_never_made_gets_no_reports() {
    let mut bench = Bench::new();
    let (dialog, subscribe) = watch(&mut bench);
    bench.reply(&subscribe, 403, "");
    assert!(matches!(bench.event(), Event::Response { .. }));
    bench.hear(&report(&subscribe, 1));
    assert_eq!(bench.words(), "481 NOTIFY");
    let again = bench.user(|it, now, out| it.resubscribe(now, dialog, Headers::new(), out));
    assert_eq!(again, Err(SendError::Unknown));
    // Nor does another fork, once one has answered.
    let (dialog, subscribe) = watch(&mut bench);
    bench.hear(&report(&subscribe, 1));
    assert_eq!(reported(&mut bench), Some(dialog));
    bench.hear(&report(&subscribe, 2).replace("tag=bob", "tag=eve"));
    assert_eq!(bench.words(), "481 NOTIFY");
    bench.user(|it, _, _| it.unsubscribed(dialog));
    bench.drain();
}
