//! Reliable provisional answers (RFC 3262).

use cusax_sip::{
    endpoint::{DialogId, End, Event},
    header::{MediaType, Name, NameAddr},
    message::{Message, Method, Request, Response, Status},
    parse::parse,
    uri::Uri,
};

use crate::bench::{Bench, invite, invite_with_offer, status, within};

/// An INVITE that demands them, with an offer.
fn demanded(bench: &mut Bench) -> DialogId {
    bench.hear(&invite_with_offer().replace("Contact:", "Require: 100rel\nContact:"));
    let Event::Invite { dialog, .. } = bench.event() else { panic!() };
    dialog
}

fn described(code: u16) -> Response {
    status(code).with_body(&MediaType::new("application", "sdp"), "v=0")
}

fn say(bench: &mut Bench, dialog: DialogId, response: Response) {
    bench.user(|it, now, out| it.answer(now, dialog, response, out));
}

fn prack(response: &Response, cseq: u32, rseq: u32) -> String {
    let tag = response.headers.to_tag().unwrap().unwrap();
    within("PRACK", cseq, &tag, &format!("z9hG4bKp{cseq}"), &format!("RAck: {rseq} 1 INVITE\n"))
}

#[test]
fn an_answer_that_must_arrive_is_sent_until_it_has() {
    let mut bench = Bench::new();
    let dialog = demanded(&mut bench);
    bench.answer(dialog, 180);
    let ringing = bench.response();
    assert!(ringing.headers.requires("100rel"));
    let rseq = ringing.headers.rseq().unwrap().unwrap();
    assert!((1..1 << 31).contains(&rseq));
    bench.wait(20_000);
    let times: Vec<_> = bench.log().into_iter().map(|(ms, _)| ms).collect();
    assert_eq!(times, [500, 1500, 3500, 7500, 15500], "without T2 as its limit");
    // Of what is said meanwhile the last waits.
    bench.answer(dialog, 182);
    bench.answer(dialog, 183);
    assert_eq!(bench.words(), "");
    bench.hear(&prack(&ringing, 2, rseq + 1));
    assert_eq!(bench.response().status, Status::CALL_DOES_NOT_EXIST);
    bench.hear(&prack(&ringing, 3, rseq));
    let sent = bench.transmits();
    let sent: Vec<_> = sent.iter().map(|it| parse(&it.bytes).unwrap()).collect();
    let [Message::Response(ok), Message::Response(progress)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!((ok.status, progress.status), (Status::OK, Status::SESSION_PROGRESS));
    assert_eq!(progress.headers.rseq(), Ok(Some(rseq + 1)));
    // A 2xx need not wait for what holds no description, whose PRACK may come later.
    bench.answer(dialog, 200);
    assert_eq!(bench.response().headers.get(&Name::RSEQ), None);
    bench.hear(&prack(&ringing, 4, rseq + 1));
    assert_eq!(bench.response().status, Status::OK);
    bench.hear(&prack(&ringing, 5, rseq + 1));
    assert_eq!(bench.response().status, Status::CALL_DOES_NOT_EXIST);
    let tag = ringing.headers.to_tag().unwrap().unwrap();
    bench.hear(&within("ACK", 1, &tag, "z9hG4bKa1", ""));
    assert!(matches!(bench.event(), Event::Ack { .. }));
}

#[test]
fn no_2xx_overtakes_a_description() {
    let mut bench = Bench::new();
    let dialog = demanded(&mut bench);
    say(&mut bench, dialog, described(183));
    let progress = bench.response();
    bench.answer(dialog, 200);
    assert_eq!(bench.words(), "");
    bench.hear(&prack(&progress, 2, progress.headers.rseq().unwrap().unwrap()));
    assert_eq!(bench.words(), "200 PRACK, 200 INVITE");
    // But a refusal does.
    let mut bench = Bench::new();
    let dialog = demanded(&mut bench);
    say(&mut bench, dialog, described(183));
    bench.response();
    bench.answer(dialog, 486);
    assert_eq!(bench.words(), "486 INVITE");
}

#[test]
fn an_answer_that_never_arrives_ends_the_call() {
    let mut bench = Bench::new();
    let dialog = demanded(&mut bench);
    bench.answer(dialog, 180);
    bench.wait(32_000);
    let log = bench.log();
    assert_eq!(log.last().unwrap(), &(32_000, "504 INVITE".to_owned()));
    let Event::Ended { dialog: ended, why: End::NoPrack } = bench.event() else { panic!() };
    assert_eq!(ended, dialog);
    bench.drain();
}

#[test]
fn nobody_is_sent_one_who_did_not_demand_it() {
    let mut bench = Bench::new();
    bench.hear(&invite("Supported: 100rel\n"));
    let Event::Invite { dialog, .. } = bench.event() else { panic!() };
    say(&mut bench, dialog, described(183));
    let progress = bench.response();
    assert!(!progress.headers.requires("100rel"));
    assert!(progress.body.is_empty(), "the offer is for the 2xx to make");
    bench.wait(20_000);
    assert_eq!(bench.words(), "");
}

#[test]
fn an_offer_in_a_prack_is_the_users() {
    let mut bench = Bench::new();
    let dialog = demanded(&mut bench);
    say(&mut bench, dialog, described(183));
    let progress = bench.response();
    let rseq = progress.headers.rseq().unwrap().unwrap();
    let offer = prack(&progress, 2, rseq).replace("Content-Length: 0\n\n", "\nv=0\n");
    bench.hear(&offer);
    let Event::Update { id, request, .. } = bench.event() else { panic!() };
    assert_eq!(request.method, Method::Prack);
    bench.user(|it, now, out| it.respond(now, id, described(200), out));
    let ok = bench.response();
    assert_eq!((ok.status, &ok.body[..]), (Status::OK, &b"v=0"[..]));
}

#[test]
fn a_prack_that_says_nothing_is_refused() {
    let mut bench = Bench::new();
    let dialog = demanded(&mut bench);
    bench.answer(dialog, 180);
    let tag = bench.response().headers.to_tag().unwrap().unwrap();
    for (cseq, rack) in [(2, ""), (3, "RAck: x\n"), (4, "RAck: 1 1\n"), (5, "RAck: 1 -1 INVITE\n")]
    {
        bench.hear(&within("PRACK", cseq, &tag, &format!("z9hG4bKp{cseq}"), rack));
        assert_eq!(bench.response().status, Status::BAD_REQUEST, "{rack}");
    }
}

fn call(bench: &mut Bench) -> Request {
    let uri: Uri = "sip:bob@example.org".parse().unwrap();
    let from = NameAddr::new("sip:room@example.org".parse::<Uri>().unwrap());
    let invite = Request::new(Method::Invite, uri).with(Name::FROM, from);
    let invite = invite.with_body(&MediaType::new("application", "sdp"), "v=0");
    let flow = bench.flow;
    bench.user(|it, now, out| it.invite(now, flow, invite, out)).unwrap();
    bench.request()
}

#[test]
fn what_callees_say_reliably_is_confirmed_once_and_in_order() {
    let mut bench = Bench::new();
    let invite = call(&mut bench);
    let reliable = |tag: &str, rseq: u32| format!("tag={tag}\nRequire: 100rel\nRSeq: {rseq}\n");
    bench.reply(&invite, 180, &reliable("a", 7));
    let prack = bench.request();
    assert_eq!(prack.method, Method::Prack);
    assert_eq!(prack.uri.to_string(), "sip:bob@192.0.2.7:5070");
    assert_eq!(prack.headers.get(&Name::RACK), Some("7 1 INVITE"));
    assert_eq!(prack.headers.to_tag().unwrap().as_deref(), Some("a"));
    assert_eq!(prack.headers.cseq().unwrap().number, 2);
    assert!(matches!(bench.event(), Event::Progress { .. }));
    bench.reply(&prack, 200, "tag=a\n");
    for (tag, rseq, confirmed) in [("a", 7, false), ("a", 9, false), ("a", 8, true), ("b", 1, true)]
    {
        bench.reply(&invite, 183, &reliable(tag, rseq));
        let sent = bench.transmits();
        let words: Vec<_> = sent.iter().map(|it| parse(&it.bytes).unwrap()).collect();
        assert_eq!(words.len(), usize::from(confirmed), "{tag} {rseq}");
        assert_eq!(bench.events().len(), usize::from(confirmed), "{tag} {rseq}");
        for message in &words {
            let Message::Request(request) = message else { panic!() };
            assert_eq!(request.headers.to_tag().unwrap().as_deref(), Some(tag));
        }
    }
    bench.reply(&invite, 200, "tag=b\n");
    assert!(matches!(bench.event(), Event::Answered { .. }));
}
