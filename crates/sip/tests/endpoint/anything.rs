//! Peers that do anything, in any order: no panic, no limit passed, nothing left.

use cusax_sip::{
    endpoint::{DialogId, Event, Limits, RequestId, SubscriptionId},
    flow::Transport,
    header::{Headers, SubscriptionState},
    message::{Message, Method, Request},
    parse::parse,
};
use proptest::prelude::*;

use crate::bench::{Bench, flow, outside, reply, status, within};

const METHODS: [&str; 12] = [
    "INVITE",
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "SUBSCRIBE",
    "SUBSCRIBE",
    "INFO",
    "UPDATE",
    "NOTIFY",
    "FOO",
];
const CODES: [u16; 9] = [100, 180, 200, 202, 401, 481, 486, 491, 503];

#[derive(Clone, Debug)]
enum Step {
    /// The peer sends a request: which method, CSeq, branch; in a dialog; with what length of Expires.
    Request { method: usize, cseq: u32, branch: u8, tag: Option<usize>, expires: u32 },
    /// The peer answers one of our requests.
    Reply { which: usize, code: usize },
    /// The user answers something.
    Answer { which: usize, code: usize },
    /// The user does something of its own.
    Act { which: usize, what: u8 },
    /// Time passes, in ms.
    Wait(u64),
    /// A flow fails.
    Fail(bool),
    /// The peer is heard by another way.
    Switch(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let tag = prop::option::of(0..4usize);
    prop_oneof![
        8 => (0..METHODS.len(), 1..9u32, 0..6u8, tag, 0..3u32).prop_map(
            |(method, cseq, branch, tag, expires)| Step::Request { method, cseq, branch, tag, expires }
        ),
        4 => (0..9usize, 0..CODES.len()).prop_map(|(which, code)| Step::Reply { which, code }),
        6 => (0..9usize, 0..CODES.len()).prop_map(|(which, code)| Step::Answer { which, code }),
        4 => (0..9usize, 0..7u8).prop_map(|(which, what)| Step::Act { which, what }),
        3 => (0..40_000u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Fail),
        1 => any::<bool>().prop_map(Step::Switch),
    ]
}

/// What the test has seen, to refer to again.
#[derive(Default)]
struct Seen {
    tags: Vec<String>,
    ours: Vec<Request>,
    requests: Vec<RequestId>,
    dialogs: Vec<DialogId>,
    subscriptions: Vec<SubscriptionId>,
}

fn pick<T>(from: &[T], which: usize) -> Option<&T> {
    from.get(which % from.len().max(1))
}

impl Seen {
    fn look(&mut self, bench: &mut Bench) {
        for transmit in bench.transmits() {
            // Whatever we send is well formed.
            match parse(&transmit.bytes).unwrap() {
                Message::Request(request) if request.method != Method::Ack => {
                    self.ours.push(request)
                }
                Message::Request(_) => {}
                Message::Response(response) => {
                    let tag = response.headers.to_tag().unwrap();
                    self.tags.extend(tag.filter(|tag| !self.tags.contains(tag)));
                }
            }
        }
        for event in bench.events() {
            match event {
                Event::Request { id, .. } => self.requests.push(id),
                Event::Invite { dialog, .. } => self.dialogs.push(dialog),
                Event::Subscribe { subscription, .. } => self.subscriptions.push(subscription),
                _ => {}
            }
        }
    }

    fn take(&self, bench: &mut Bench, step: &Step) {
        match *step {
            Step::Request { method, cseq, branch, tag, expires } => {
                let extra = match METHODS[method] {
                    "SUBSCRIBE" => format!("Event: conference\nExpires: {}\n", expires * 30),
                    _ => String::new(),
                };
                let (method, branch) = (METHODS[method], format!("z9hG4bK{branch}"));
                bench.hear(&match tag.and_then(|tag| pick(&self.tags, tag)) {
                    Some(tag) => within(method, cseq, tag, &branch, &extra),
                    None => outside(method, cseq, &branch, &extra),
                });
            }
            Step::Reply { which, code } => {
                if let Some(request) = pick(&self.ours, which) {
                    bench.hear(&reply(request, CODES[code], ""));
                }
            }
            Step::Answer { which, code } => {
                let answer = || status(CODES[code]);
                let [request, dialog, subscription] =
                    [which % 3 == 0, which % 3 == 1, which % 3 == 2];
                if let Some(id) = pick(&self.requests, which).filter(|_| request) {
                    bench.user(|it, now, out| it.respond(now, *id, answer(), out));
                }
                if let Some(id) = pick(&self.dialogs, which).filter(|_| dialog) {
                    bench.user(|it, now, out| it.answer(now, *id, answer(), out));
                }
                if let Some(id) = pick(&self.subscriptions, which).filter(|_| subscription) {
                    bench.user(|it, now, out| it.answer_subscribe(now, *id, answer(), out));
                }
            }
            Step::Act { which, what } => self.act(bench, which, what),
            Step::Wait(ms) => bench.wait(ms),
            Step::Fail(tcp) => {
                let transport = if tcp { Transport::Tcp } else { Transport::Udp };
                bench.fail(flow(transport, "192.0.2.7:5070"));
            }
            Step::Switch(tcp) => {
                let transport = if tcp { Transport::Tcp } else { Transport::Udp };
                bench.flow = flow(transport, "192.0.2.7:5070");
            }
        }
    }

    fn act(&self, bench: &mut Bench, which: usize, what: u8) {
        let headers = Headers::new();
        if let Some(id) = pick(&self.dialogs, which).copied() {
            let _ = bench.user(|it, now, out| match what {
                0 => it.reinvite(now, id, headers, vec![], out),
                1 => it.send_within(now, id, Method::Info, headers, vec![], out).map(|_| ()),
                2 => {
                    it.bye(now, id, headers, out);
                    Ok(())
                }
                3 => {
                    it.ack(id, headers, vec![], out);
                    Ok(())
                }
                _ => Ok(()),
            });
        }
        if let Some(id) = pick(&self.subscriptions, which).copied() {
            let size = if which.is_multiple_of(2) { 10 } else { 2000 };
            let may = bench.endpoint.may_notify(id);
            match what {
                4 | 5 => assert_eq!(bench.notify(id, size).is_ok(), may),
                6 => {
                    let state = SubscriptionState::terminated("noresource");
                    let headers = Headers::new();
                    bench.user(|it, now, out| it.terminate(now, id, state, headers, vec![], out));
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks(steps in prop::collection::vec(step(), 1..120)) {
        let limits = Limits {
            server_transactions: 8,
            client_transactions: 4,
            dialogs: 3,
            subscriptions_per_dialog: 2,
        };
        let mut bench = Bench::with(limits);
        let mut seen = Seen::default();
        for step in &steps {
            seen.take(&mut bench, step);
            seen.look(&mut bench);
            let load = bench.endpoint.load();
            prop_assert!(load.server_transactions <= 8 && load.client_transactions <= 4, "{load:?}");
            prop_assert!(load.dialogs <= 3 && load.subscriptions <= 6, "{load:?}");
        }
        // Nobody says any more. Calls that are up are up until somebody hangs up.
        for dialog in seen.dialogs {
            bench.bye(dialog);
        }
        bench.drain();
    }
}
