//! Two endpoints and a subscriber over a link that loses, doubles and reorders: whatever happens, both
//! ends come to agree which calls there are, and in the end nothing is left of any.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use cusax_sip::{
    endpoint::{Config, DialogId, Endpoint, Event, Limits, Load, SessionTimer, SubscriptionId},
    flow::{Flow, Transmit, Transport},
    header::{Headers, Name, NameAddr},
    message::{Message, Method, Request, Response, Status},
    parse::parse,
    uri::Uri,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::bench::{epoch, reply};

const CALLER: &str = "192.0.2.7:5060";
const FOCUS: &str = "192.0.2.1:5060";
const SUBSCRIBER: &str = "192.0.2.9:5060";

/// What a link does to a datagram, each with this probability.
#[derive(Clone, Copy)]
struct Link {
    lose: f64,
    double: f64,
}

/// One end, and what its user knows of its calls.
struct Node {
    address: &'static str,
    endpoint: Endpoint,
    /// Calls that are up, by Call-ID.
    up: BTreeMap<DialogId, String>,
    /// Calls that have neither been answered nor ended.
    ringing: BTreeMap<DialogId, String>,
    subscriptions: BTreeSet<SubscriptionId>,
}

struct World {
    start: Instant,
    now: Instant,
    rng: StdRng,
    link: Link,
    /// Datagrams under way, and when they arrive.
    air: BTreeMap<(Instant, u64), Transmit>,
    sent: u64,
    calls: u64,
    caller: Node,
    focus: Node,
    /// How often each kind of event was seen, to know that the run was worth something.
    seen: BTreeMap<&'static str, u32>,
    /// What the subscriber knows: its Call-IDs, and the focus' tags from NOTIFY.
    subscribed: BTreeMap<String, Option<String>>,
    talking: bool,
}

impl Node {
    fn new(address: &'static str, seed: u8) -> Self {
        let config = Config {
            supported: ["timer", "100rel"].map(str::to_owned).to_vec(),
            product: "cusax".to_owned(),
            session: Some(SessionTimer { interval: 100, min: 90 }),
            limits: Limits::default(),
        };
        Self {
            address,
            endpoint: Endpoint::new(config, [seed; 32]),
            up: BTreeMap::new(),
            ringing: BTreeMap::new(),
            subscriptions: BTreeSet::new(),
        }
    }

    fn forget(&mut self, dialog: DialogId) {
        self.up.remove(&dialog);
        self.ringing.remove(&dialog);
    }
}

fn status(code: u16) -> Response {
    Response::new(Status::new(code).unwrap())
}

impl World {
    fn new(seed: u64, link: Link) -> Self {
        let start = epoch();
        let mut rng = StdRng::seed_from_u64(seed);
        let (a, b) = (rng.random(), rng.random());
        Self {
            start,
            now: start,
            rng,
            link,
            air: BTreeMap::new(),
            sent: 0,
            calls: 0,
            caller: Node::new(CALLER, a),
            focus: Node::new(FOCUS, b),
            seen: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            talking: true,
        }
    }

    fn flow(local: &str, remote: &str) -> Flow {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        Flow { transport: Transport::Udp, local, remote }
    }

    /// Puts datagrams into the air.
    fn send(&mut self, out: Vec<Transmit>) {
        for transmit in out {
            let copies = 1 + u32::from(self.rng.random_bool(self.link.double));
            for _ in 0..copies {
                if self.rng.random_bool(self.link.lose) {
                    continue;
                }
                let delay = Duration::from_millis(self.rng.random_range(1..600));
                self.sent += 1;
                self.air.insert((self.now + delay, self.sent), transmit.clone());
            }
        }
    }

    fn node(&mut self, focus: bool) -> &mut Node {
        if focus { &mut self.focus } else { &mut self.caller }
    }

    /// Moves on to whatever happens next before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let arrival = self.air.first_key_value().map(|((at, _), _)| *at);
        let [caller, focus] = [&self.caller, &self.focus].map(|node| node.endpoint.poll_timeout());
        let Some(at) = [arrival, caller, focus].into_iter().flatten().min() else { return false };
        if at > until {
            return false;
        }
        self.now = self.now.max(at);
        if arrival == Some(at) {
            let (_, transmit) = self.air.pop_first().unwrap();
            self.deliver(&transmit);
            return true;
        }
        let is_focus = focus == Some(at);
        let (now, mut out) = (self.now, vec![]);
        let events = self.node(is_focus).endpoint.handle_timeout(now, &mut out);
        self.send(out);
        self.react(is_focus, events);
        true
    }

    fn deliver(&mut self, transmit: &Transmit) {
        let Flow { transport, local, remote } = transmit.flow;
        let flow = Flow { transport, local: remote, remote: local };
        let to = remote.to_string();
        if to == SUBSCRIBER {
            return self.subscriber(&transmit.bytes);
        }
        let (now, mut out, is_focus) = (self.now, vec![], to == FOCUS);
        if transport == Transport::Tcp {
            // Nobody here listens for TCP: the sender gets to know.
            let from_focus = local.to_string() == FOCUS;
            let events = self.node(from_focus).endpoint.failed(now, transmit.flow, &mut out);
            self.send(out);
            return self.react(from_focus, events);
        }
        let node = self.node(is_focus);
        let events = node.endpoint.receive(now, flow, &transmit.bytes, &mut out);
        self.send(out);
        self.react(is_focus, events);
    }

    /// The subscriber has no transactions: it answers what it gets, and says things again.
    fn subscriber(&mut self, bytes: &[u8]) {
        let Ok(Message::Request(notify)) = parse(bytes) else { return };
        let call_id = notify.headers.call_id().unwrap().to_owned();
        let tag = notify.headers.from_tag().unwrap();
        let known = self.subscribed.get_mut(&call_id).map(|known| *known = tag).is_some();
        let text = reply(&notify, if known { 200 } else { 481 }, "").replace('\n', "\r\n");
        let flow = Self::flow(SUBSCRIBER, FOCUS);
        self.send(vec![Transmit { flow, bytes: text.into_bytes() }]);
    }

    fn subscribe(&mut self) {
        let number = self.rng.random_range(0..6);
        let call_id = format!("sub-{number}");
        let known = self.subscribed.entry(call_id.clone()).or_default().clone();
        let to = known.map(|tag| format!(";tag={tag}")).unwrap_or_default();
        // It starts again from nothing now and then, and its numbers only ever grow.
        let cseq = (self.now - self.start).as_millis() + 1;
        let expires = [0, 20, 60][self.rng.random_range(0..3)];
        let text = format!(
            "SUBSCRIBE sip:room@{FOCUS} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {SUBSCRIBER};branch=z9hG4bKs{number}x{cseq};rport\r\n\
             From: <sip:s@example.org>;tag=s{number}\r\nTo: <sip:room@example.org>{to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} SUBSCRIBE\r\nContact: <sip:s@{SUBSCRIBER}>\r\n\
             Event: conference\r\nExpires: {expires}\r\nContent-Length: 0\r\n\r\n"
        );
        if expires == 0 || self.rng.random_bool(0.1) {
            self.subscribed.remove(&call_id);
        }
        let flow = Self::flow(SUBSCRIBER, FOCUS);
        let transmit = Transmit { flow, bytes: text.into_bytes() };
        self.send(vec![transmit.clone(), transmit.clone(), transmit]);
    }

    /// What the users do about events.
    fn react(&mut self, is_focus: bool, events: Vec<Event>) {
        for event in events {
            let (now, mut out) = (self.now, vec![]);
            let coin = self.rng.random_bool(0.7);
            let size = if coin { 100 } else { 2000 };
            let node = self.node(is_focus);
            let kind = match event {
                Event::Invite { dialog, request, .. } => {
                    let call_id = request.headers.call_id().unwrap().to_owned();
                    node.ringing.insert(dialog, call_id);
                    node.endpoint.answer(now, dialog, status(180), &mut out);
                    "invite"
                }
                Event::Reinvite { dialog, .. } => {
                    assert!(node.up.contains_key(&dialog));
                    let answer = status(if coin { 200 } else { 488 });
                    node.endpoint.answer(now, dialog, answer, &mut out);
                    "reinvite"
                }
                Event::Update { id, .. } => {
                    node.endpoint.respond(now, id, status(200), &mut out);
                    "update"
                }
                Event::RefreshDue { dialog } => {
                    assert!(node.up.contains_key(&dialog));
                    let _ = node.endpoint.reinvite(now, dialog, Headers::new(), vec![], &mut out);
                    "refresh due"
                }
                Event::Answered { dialog, .. } => {
                    if let Some(call_id) = node.ringing.remove(&dialog) {
                        node.up.insert(dialog, call_id);
                    }
                    node.endpoint.ack(dialog, Headers::new(), vec![], &mut out);
                    "answered"
                }
                Event::Ended { dialog, .. } => {
                    assert!(node.up.contains_key(&dialog) || node.ringing.contains_key(&dialog));
                    node.forget(dialog);
                    "ended"
                }
                Event::Subscribe { subscription, .. } | Event::Refresh { subscription, .. } => {
                    node.endpoint.answer_subscribe(now, subscription, status(200), &mut out);
                    let body = vec![b'x'; size];
                    if node
                        .endpoint
                        .notify(now, subscription, Headers::new(), body, &mut out)
                        .is_ok()
                    {
                        node.subscriptions.insert(subscription);
                    }
                    "subscribe"
                }
                Event::Unsubscribed { subscription, .. } => {
                    node.subscriptions.remove(&subscription);
                    "unsubscribed"
                }
                Event::Notified { .. } => "notified",
                Event::Request { id, .. } => {
                    node.endpoint.respond(now, id, status(200), &mut out);
                    "request"
                }
                Event::Ack { .. } => "ack",
                Event::ReinviteCancelled { .. } => "taken back",
                Event::Progress { .. } => "progress",
                Event::Refused { .. } => "refused",
                Event::Retry { .. } => "retry",
                Event::Response { .. } => "response",
            };
            *self.seen.entry(kind).or_default() += 1;
            self.send(out);
        }
    }

    /// Something that a user takes into its head.
    fn act(&mut self) {
        let (now, mut out) = (self.now, vec![]);
        let is_focus = self.rng.random_bool(0.5);
        let what = self.rng.random_range(0..10);
        let code = [180, 200, 200, 200, 486][self.rng.random_range(0..5)];
        let pick = self.rng.random_range(0..1000);
        self.calls += 1;
        let (calls, talking) = (self.calls, self.talking);
        let node = self.node(is_focus);
        let choose = |calls: &BTreeMap<DialogId, String>| {
            calls.keys().nth(pick % calls.len().max(1)).copied()
        };
        let (up, ringing) = (choose(&node.up), choose(&node.ringing));
        match (what, up, ringing) {
            (0 | 1, ..) if !is_focus && talking => {
                let uri: Uri = format!("sip:room@{FOCUS}").parse().unwrap();
                let call_id = format!("call-{calls}");
                let mut request = Request::new(Method::Invite, uri.clone())
                    .with(Name::FROM, NameAddr::new(uri))
                    .with(Name::CALL_ID, &call_id);
                if pick % 2 == 0 {
                    request = request.with(Name::REQUIRE, "100rel");
                }
                if pick % 3 == 0 {
                    request = request.with(Name::ALLOW, "INVITE, UPDATE");
                }
                let flow = Self::flow(CALLER, FOCUS);
                let dialog = node.endpoint.invite(now, flow, request, &mut out).unwrap();
                node.ringing.insert(dialog, call_id);
            }
            (2..=4, _, Some(dialog)) if is_focus => {
                let allow = if pick % 3 == 0 { "INVITE, UPDATE" } else { "INVITE" };
                let response = status(code).with(Name::ALLOW, allow);
                node.endpoint.answer(now, dialog, response, &mut out);
                if let Some(call_id) = node.ringing.remove(&dialog) {
                    match code {
                        180 => {
                            node.ringing.insert(dialog, call_id);
                        }
                        200 => {
                            node.up.insert(dialog, call_id);
                        }
                        _ => {}
                    }
                }
            }
            (5, Some(dialog), _) => {
                // It may be Pending; that is an answer.
                let _ = node.endpoint.reinvite(now, dialog, Headers::new(), vec![], &mut out);
            }
            (6, Some(dialog), _) | (7, None, Some(dialog)) => {
                node.endpoint.bye(now, dialog, Headers::new(), &mut out);
                node.forget(dialog);
            }
            (8, Some(dialog), _) => {
                let headers = Headers::new();
                let _ =
                    node.endpoint.send_within(now, dialog, Method::Info, headers, vec![], &mut out);
            }
            (9, ..) if is_focus => {
                if let Some(subscription) = node.subscriptions.first().copied() {
                    let body = vec![b'x'; 50];
                    let _ = node.endpoint.notify(now, subscription, Headers::new(), body, &mut out);
                }
            }
            (7, ..) if talking => return self.subscribe(),
            _ => {}
        }
        self.send(out);
    }

    fn run(&mut self, time: Duration, acting: bool) {
        let until = self.now + time;
        while self.now < until {
            let next = self.now + Duration::from_millis(self.rng.random_range(50..2000));
            while self.step(next.min(until)) {}
            self.now = next.min(until);
            if acting {
                self.act();
            }
        }
    }

    /// Every call that rings is given up, and everything comes to rest.
    fn settle(&mut self) {
        for is_focus in [true, false] {
            let (now, mut out) = (self.now, vec![]);
            let node = self.node(is_focus);
            for dialog in std::mem::take(&mut node.ringing).into_keys() {
                node.endpoint.bye(now, dialog, Headers::new(), &mut out);
            }
            self.send(out);
        }
        self.run(Duration::from_secs(300), false);
    }

    fn hang_up(&mut self) {
        for is_focus in [true, false] {
            let (now, mut out) = (self.now, vec![]);
            let node = self.node(is_focus);
            for dialog in std::mem::take(&mut node.up).into_keys() {
                node.endpoint.bye(now, dialog, Headers::new(), &mut out);
            }
            self.send(out);
        }
        self.run(Duration::from_secs(300), false);
    }

    fn assert_nothing_left(&self) {
        for node in [&self.caller, &self.focus] {
            assert_eq!(node.endpoint.poll_timeout(), None, "{}", node.address);
            assert_eq!(node.endpoint.load(), Load::default(), "{}", node.address);
            assert!(node.up.is_empty() && node.ringing.is_empty(), "{}", node.address);
        }
        assert!(self.air.is_empty());
    }
}

#[test]
fn both_ends_agree_in_the_end() {
    let mut seen = BTreeMap::new();
    for seed in 0..24 {
        let mut world = World::new(seed, Link { lose: 0.15, double: 0.1 });
        world.run(Duration::from_secs(240), true);
        world.talking = false;
        world.settle();
        let calls = |node: &Node| node.up.values().cloned().collect::<BTreeSet<_>>();
        assert_eq!(calls(&world.caller), calls(&world.focus), "seed {seed}");
        world.hang_up();
        world.assert_nothing_left();
        for (kind, count) in world.seen {
            *seen.entry(kind).or_insert(0) += count;
        }
    }
    // The runs were about something.
    let all = [
        "invite",
        "reinvite",
        "update",
        "refresh due",
        "answered",
        "ended",
        "subscribe",
        "unsubscribed",
        "notified",
        "request",
        "ack",
        "progress",
        "refused",
        "retry",
        "response",
    ];
    for kind in all {
        assert!(seen.contains_key(kind), "{kind}: {seen:?}");
    }
}

#[test]
fn nothing_is_left_however_bad_the_link() {
    for seed in 0..16 {
        let mut world = World::new(1000 + seed, Link { lose: 0.6, double: 0.3 });
        world.run(Duration::from_secs(240), true);
        world.talking = false;
        world.settle();
        // All is lost from here on.
        world.link.lose = 1.0;
        world.hang_up();
        world.assert_nothing_left();
    }
}

/// However a call was lost, no end of it stays: nobody hangs up here.
#[test]
fn a_dead_link_ends_every_call_at_both_ends() {
    let mut lost = 0;
    for seed in 0..8 {
        let mut world = World::new(2000 + seed, Link { lose: 0.05, double: 0.05 });
        world.run(Duration::from_secs(120), true);
        world.talking = false;
        world.settle();
        assert_eq!(world.caller.up.len(), world.focus.up.len(), "seed {seed}");
        lost += world.focus.up.len();
        world.link.lose = 1.0;
        world.run(Duration::from_secs(180), false);
        assert!(world.caller.up.is_empty() && world.focus.up.is_empty(), "seed {seed}");
        world.run(Duration::from_secs(120), false);
        world.assert_nothing_left();
    }
    assert!(lost >= 5, "{lost} calls were lost");
}
