//! Chat and mixer never disagree: random commands on both faces, raw stanzas and raw SIP, in any
//! order. After each, what an ordinary chat client has been shown of everyone is compared with what
//! the mixer has been told about everyone's call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cusax_sip::flow::{Flow, Transport};
use cusax_sip::header::Name;
use cusax_sip::message::{Message, Request as SipRequest, Status};
use cusax_sip::parse::parse;
use cusaxd::admin::{Question, Request};
use cusaxd::bridge::{Bridge, Input, Outbox};
use cusaxd::clock::Now;
use cusaxd::config::Config;
use cusaxd::id::{LegId, PersonId, RoomName};
use cusaxd::journal::Snapshot;
use cusaxd::metrics::Metrics;
use cusaxd::mixer::plan::{Order, Report};
use minidom::Element;
use proptest::prelude::*;
use serde_json::json;

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn chat_and_mixer_agree_about_who_may_be_heard(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.compare(step);
        }
    }
}

/// One thing that someone does. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Join { chat: usize, nick: usize },
    Part { chat: usize },
    Role { by: usize, nick: usize, role: usize },
    Affiliation { by: usize, whom: usize, affiliation: usize },
    Call { phone: usize },
    HangUp { phone: usize },
    Direction { phone: usize, direction: usize },
    Mute { person: u64, on: bool },
    Settings { moderated: bool, members_only: bool },
    Lock { on: bool },
    Dead { phone: usize },
    Link { up: bool },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<usize>(), any::<usize>()).prop_map(|(chat, nick)| Step::Join { chat, nick }),
        2 => any::<usize>().prop_map(|chat| Step::Part { chat }),
        5 => (any::<usize>(), any::<usize>(), any::<usize>())
            .prop_map(|(by, nick, role)| Step::Role { by, nick, role }),
        3 => (any::<usize>(), any::<usize>(), any::<usize>())
            .prop_map(|(by, whom, affiliation)| Step::Affiliation { by, whom, affiliation }),
        6 => any::<usize>().prop_map(|phone| Step::Call { phone }),
        2 => any::<usize>().prop_map(|phone| Step::HangUp { phone }),
        3 => (any::<usize>(), any::<usize>())
            .prop_map(|(phone, direction)| Step::Direction { phone, direction }),
        3 => (1..20_u64, any::<bool>()).prop_map(|(person, on)| Step::Mute { person, on }),
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(moderated, members_only)| Step::Settings { moderated, members_only }),
        1 => any::<bool>().prop_map(|on| Step::Lock { on }),
        1 => any::<usize>().prop_map(|phone| Step::Dead { phone }),
        1 => any::<bool>().prop_map(|up| Step::Link { up }),
        1 => (0..40_u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// The server, with a watcher in its one room, and everything that it was told to tell.
struct World {
    bridge: Bridge,
    now: Now,
    phones: Vec<Phone>,
    /// What the mixer was told: legs, and whether each is heard.
    mixer: BTreeMap<LegId, bool>,
    /// What the watcher's client shows: people on the call by nick, and whether each is heard.
    roster: BTreeMap<String, bool>,
    requests: u32,
}

/// A caller's phone: where it calls from, and the call it is in.
struct Phone {
    from: &'static str,
    call: Option<Call>,
    calls: u32,
}

struct Call {
    id: String,
    /// With the tag that the focus gave.
    to: String,
    target: String,
    cseq: u32,
    media: u16,
}

const ROOM: &str = "cave@rooms.example.org";
const WATCHER: &str = "owner@example.org/desk";
const CHATS: [&str; 5] = [
    "alice@example.org/a",
    "alice@example.org/b",
    "bob@example.org/a",
    "carol@example.org/a",
    "owner@example.org/phone",
];
const NICKS: [&str; 5] = ["Alice", "Bob", "Carol", "Owner", "Dave (phone)"];
const ROLES: [&str; 4] = ["none", "visitor", "participant", "moderator"];
const AFFILIATIONS: [&str; 4] = ["outcast", "none", "member", "admin"];
const WHOM: [&str; 5] = [
    "alice@example.org",
    "bob@example.org",
    "carol@example.org",
    "dave\\40pbx.example.net@rooms.example.org",
    "owner@example.org",
];
/// Alice and the owner are bound to JIDs by the directory; Dave is nobody's.
const PHONES: [&str; 4] = [
    "sip:alice@conf.example.org",
    "sip:alice@conf.example.org",
    "sip:dave@pbx.example.net",
    "sip:owner@conf.example.org",
];
const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];

impl World {
    fn new() -> Self {
        let config: Config = serde_json::from_value(json!({
            "xmpp": { "domain": "rooms.example.org", "secret": "x" },
            "sip": {
                "domain": "conf.example.org",
                "listen": ["udp:192.0.2.1:5060"],
                "trusted_proxies": ["192.0.2.9/32"],
            },
        }))
        .unwrap();
        let now = Now::read();
        let bridge = Bridge::new(now, &config, "x", [7; 32], Snapshot::default(), Metrics::new());
        let phone = |from| Phone { from, call: None, calls: 0 };
        let mut world = Self {
            bridge,
            now,
            phones: PHONES.into_iter().map(phone).collect(),
            mixer: BTreeMap::new(),
            roster: BTreeMap::new(),
            requests: 0,
        };
        for user in ["alice", "owner"] {
            let body = json!({ "aor": format!("sip:{user}@conf.example.org") });
            let jid = format!("{user}@example.org").parse().unwrap();
            world.ask(Question::PutUser(jid, body));
        }
        world.stanza(&format!(
            "<presence xmlns='jabber:client' from='{WATCHER}' to='{ROOM}/Watcher'>
             <x xmlns='http://jabber.org/protocol/muc'/></presence>"
        ));
        world.stanza(&format!(
            "<iq xmlns='jabber:client' type='set' id='c' from='{WATCHER}' to='{ROOM}'>
             <query xmlns='http://jabber.org/protocol/muc#owner'>
             <x xmlns='jabber:x:data' type='submit'/></query></iq>"
        ));
        assert!(world.bridge.rooms().get(&room()).is_some());
        world
    }

    fn take(&mut self, step: &Step) {
        self.now = self.now + Duration::from_secs(1);
        match *step {
            Step::Join { chat, nick } => {
                let (chat, nick) = (pick(&CHATS, chat), pick(&NICKS, nick));
                self.stanza(&format!(
                    "<presence xmlns='jabber:client' from='{chat}' to='{ROOM}/{nick}'>
                     <x xmlns='http://jabber.org/protocol/muc'/></presence>"
                ));
            }
            Step::Part { chat } => {
                let chat = pick(&CHATS, chat);
                self.stanza(&format!(
                    "<presence xmlns='jabber:client' type='unavailable' from='{chat}' to='{ROOM}/x'/>"
                ));
            }
            Step::Role { by, nick, role } => {
                let (nick, role) = (pick(&NICKS, nick), pick(&ROLES, role));
                self.moderate(by, &format!("<item nick='{nick}' role='{role}'/>"));
            }
            Step::Affiliation { by, whom, affiliation } => {
                let (whom, word) = (pick(&WHOM, whom), pick(&AFFILIATIONS, affiliation));
                self.moderate(by, &format!("<item jid='{whom}' affiliation='{word}'/>"));
            }
            Step::Call { phone } => self.call(phone % PHONES.len()),
            Step::HangUp { phone } => self.within(phone % PHONES.len(), "BYE", ""),
            Step::Direction { phone, direction } => {
                let direction = pick(&DIRECTIONS, direction);
                self.within(phone % PHONES.len(), "INVITE", direction);
            }
            Step::Mute { person, on } => self.ask(Question::Mute(room(), PersonId(person), on)),
            Step::Settings { moderated, members_only } => {
                let settings = json!({ "moderated": moderated, "members_only": members_only });
                self.ask(Question::PutRoom(room(), settings));
            }
            Step::Lock { on } => self.ask(Question::Lock(room(), on)),
            Step::Dead { phone } => {
                let legs: Vec<_> = self.mixer.keys().copied().collect();
                if !legs.is_empty() {
                    let leg = legs[phone % legs.len()];
                    self.input(Input::Media(Report::Dead { leg }));
                }
            }
            Step::Link { up } => self.input(Input::Link(up)),
            Step::Wait { seconds } => {
                let end = self.now + Duration::from_secs(seconds);
                while let Some(due) = self.bridge.poll_timeout().filter(|due| *due <= end.instant) {
                    self.now = self.now + due.saturating_duration_since(self.now.instant);
                    let mut out = Outbox::default();
                    self.bridge.handle_timeout(self.now, &mut out);
                    self.deliver(out);
                }
                self.now = self.now + end.instant.saturating_duration_since(self.now.instant);
            }
        }
    }

    /// What the two sides were told, and what the room says.
    fn compare(&self, step: &Step) {
        let room = self.bridge.rooms().get(&room()).expect("its owner stays");
        let truth: BTreeMap<LegId, bool> = room
            .people
            .values()
            .flat_map(|person| person.legs.keys().map(|leg| (*leg, person.may_be_heard(*leg))))
            .collect();
        assert_eq!(self.mixer, truth, "the mixer was told something else, after {step:?}");
        assert_eq!(self.bridge.divergence(), 0, "after {step:?}");
        let shown: BTreeMap<String, bool> = room
            .people
            .values()
            .filter(|person| !person.legs.is_empty())
            .map(|person| {
                let heard = person.legs.keys().any(|leg| self.mixer[leg]);
                (person.nick.to_string(), heard)
            })
            .collect();
        assert_eq!(self.roster, shown, "the chat was shown something else, after {step:?}");
        let calls = self.phones.iter().filter(|phone| phone.call.is_some()).count();
        assert_eq!(calls, self.mixer.len(), "phones that think they are in, after {step:?}");
    }

    fn moderate(&mut self, by: usize, item: &str) {
        let by = if by.is_multiple_of(2) { WATCHER } else { pick(&CHATS, by / 2) };
        self.stanza(&format!(
            "<iq xmlns='jabber:client' type='set' id='m' from='{by}' to='{ROOM}'>
             <query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query></iq>"
        ));
    }

    fn ask(&mut self, question: Question) {
        self.requests += 1;
        let (ticket, operator) = (u64::from(self.requests), "test".to_owned());
        self.input(Input::Admin(Request { ticket, operator, question }));
    }

    fn stanza(&mut self, xml: &str) {
        self.input(Input::Stanza(xml.parse().unwrap()));
    }

    fn input(&mut self, input: Input) {
        let mut out = Outbox::default();
        self.bridge.handle(self.now, input, &mut out);
        self.deliver(out);
    }

    fn call(&mut self, phone: usize) {
        if self.phones[phone].call.is_some() {
            return;
        }
        let from = self.phones[phone].from;
        self.phones[phone].calls += 1;
        let id = format!("{phone}-{}", self.phones[phone].calls);
        let media = 30_000 + 2 * u16::try_from(phone).unwrap();
        let to = "<sip:cave@conf.example.org>".to_owned();
        let target = "sip:cave@conf.example.org".to_owned();
        self.phones[phone].call = Some(Call { id, to, target, cseq: 0, media });
        let identity = format!("P-Asserted-Identity: <{from}>\r\n");
        self.sip(phone, "INVITE", "sendrecv", &identity);
    }

    fn within(&mut self, phone: usize, method: &str, direction: &str) {
        if self.phones[phone].call.is_some() {
            self.sip(phone, method, direction, "");
            if method == "BYE" {
                self.phones[phone].call = None;
            }
        }
    }

    /// Sends a request of a phone; its answers are taken by [`Self::deliver`].
    fn sip(&mut self, phone: usize, method: &str, direction: &str, headers: &str) {
        self.requests += 1;
        let from = self.phones[phone].from;
        let Some(call) = &mut self.phones[phone].call else { return };
        if method != "ACK" {
            call.cseq += 1;
        }
        let body = if method == "INVITE" {
            format!(
                "v=0\r\no=- 1 {} IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
                 m=audio {} RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\na={direction}\r\n",
                call.cseq, call.media
            )
        } else {
            String::new()
        };
        let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{};rport\r\n\
             Max-Forwards: 70\r\nFrom: <{from}>;tag=t{}\r\nTo: {}\r\nCall-ID: {}\r\n\
             CSeq: {} {method}\r\nContact: <sip:phone{phone}@192.0.2.9>\r\n{headers}{content}\
             Content-Length: {}\r\n\r\n{body}",
            call.target,
            self.requests,
            call.id,
            call.to,
            call.id,
            call.cseq,
            body.len(),
        );
        self.input(Input::Sip { flow: flow(), message: parse(text.as_bytes()) });
    }

    /// Does what the outbox asks of mixer, chat clients and phones, in the promised order.
    fn deliver(&mut self, out: Outbox) {
        for order in out.media {
            match order {
                Order::Open(plan) => assert!(self.mixer.insert(plan.leg, plan.heard).is_none()),
                Order::Change(plan) => assert!(self.mixer.insert(plan.leg, plan.heard).is_some()),
                Order::Voice { leg, heard, .. } => {
                    assert!(self.mixer.insert(leg, heard).is_some());
                }
                Order::Close(leg) => assert!(self.mixer.remove(&leg).is_some()),
            }
        }
        for stanza in &out.stanzas {
            let (from, to) = (stanza.attr("from").unwrap(), stanza.attr("to").unwrap());
            if stanza.name() == "presence" && to == WATCHER {
                self.show(stanza);
            } else if stanza.name() == "iq" && stanza.attr("type") == Some("get") {
                // A ping after the link came back: everyone still is there.
                let id = stanza.attr("id").unwrap();
                self.stanza(&format!(
                    "<iq xmlns='jabber:client' type='result' id='{id}' from='{to}' to='{from}'/>"
                ));
            }
        }
        for transmit in out.sip {
            match parse(&transmit.bytes).expect("what we send can be read") {
                Message::Response(response) => {
                    let id = response.headers.call_id().unwrap().to_string();
                    let invite = response.headers.cseq().unwrap().method.as_str() == "INVITE";
                    let Some(phone) = self.phone_of(&id).filter(|_| invite) else { continue };
                    let call = self.phones[phone].call.as_mut().expect("phone_of found it");
                    let established = call.to.contains("tag=");
                    if response.status.is_success() {
                        call.to = response.headers.get(&Name::TO).unwrap().to_owned();
                        call.target = response.headers.contact().unwrap().unwrap().uri.to_string();
                        self.sip(phone, "ACK", "", "");
                    } else if !response.status.is_provisional() && !established {
                        self.phones[phone].call = None;
                    }
                }
                Message::Request(request) => self.asked(&request),
            }
        }
    }

    /// A request of the focus: a BYE ends the call; every request is answered.
    fn asked(&mut self, request: &SipRequest) {
        let id = request.headers.call_id().unwrap().to_string();
        if request.method.as_str() == "BYE"
            && let Some(phone) = self.phone_of(&id)
        {
            self.phones[phone].call = None;
        }
        let answer = request.response(Status::OK).to_bytes();
        self.input(Input::Sip { flow: flow(), message: parse(&answer) });
    }

    /// A presence that reached the watcher's client.
    fn show(&mut self, presence: &Element) {
        let nick = presence.attr("from").unwrap().rsplit_once('/').unwrap().1.to_owned();
        let hats: BTreeSet<&str> = presence
            .children()
            .filter(|child| child.name() == "hats")
            .flat_map(Element::children)
            .filter_map(|hat| hat.attr("title"))
            .collect();
        let gone = presence.attr("type") == Some("unavailable");
        if gone || !hats.contains("On the call") {
            self.roster.remove(&nick);
            return;
        }
        let role = presence
            .get_child("x", "http://jabber.org/protocol/muc#user")
            .and_then(|x| x.children().find(|child| child.name() == "item"))
            .and_then(|item| item.attr("role"));
        let heard = !hats.contains("Muted") && !hats.contains("On hold");
        assert!(!(heard && role == Some("visitor")), "{nick} has no voice and is heard");
        self.roster.insert(nick, heard);
    }

    fn phone_of(&self, call: &str) -> Option<usize> {
        self.phones.iter().position(|phone| phone.call.as_ref().is_some_and(|it| it.id == call))
    }
}

fn pick(words: &[&'static str], number: usize) -> &'static str {
    words[number % words.len()]
}

fn room() -> RoomName {
    RoomName::new("cave").unwrap()
}

fn flow() -> Flow {
    let address = |text: &str| text.parse().unwrap();
    Flow {
        transport: Transport::Udp,
        local: address("192.0.2.1:5060"),
        remote: address("192.0.2.9:5060"),
    }
}
