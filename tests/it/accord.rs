//! Chat and mixer never disagree: random commands on both faces, raw stanzas and raw SIP, in any
//! order. After each, what an ordinary chat client has been shown of everyone is compared with what
//! the mixer has been told about everyone's call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cusaxd::admin::Question;
use cusaxd::bridge::Input;
use cusaxd::id::{LegId, PersonId};
use cusaxd::mixer::plan::{Order, Report};
use minidom::Element;
use proptest::prelude::*;
use serde_json::json;

use crate::site::{Seen, Site, cave};

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
    Keys { leg: usize, keys: usize },
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
        3 => (any::<usize>(), any::<usize>()).prop_map(|(leg, keys)| Step::Keys { leg, keys }),
        1 => any::<usize>().prop_map(|phone| Step::Dead { phone }),
        1 => any::<bool>().prop_map(|up| Step::Link { up }),
        1 => (0..40_u64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// The server, with a watcher in its one room, and everything that it was told to tell.
struct World {
    site: Site,
    /// What the mixer was told: legs, and whether each is heard.
    mixer: BTreeMap<LegId, bool>,
    /// What the watcher's client shows: people on the call by nick, and whether each is heard.
    roster: BTreeMap<String, bool>,
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
/// Mute, hand, lock and mute-all.
const KEYS: [&str; 4] = ["*6", "*9", "*7", "*0"];
const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];

impl World {
    fn new() -> Self {
        let mut site = Site::new(&PHONES);
        site.stanza(&format!(
            "<presence xmlns='jabber:client' from='{WATCHER}' to='{ROOM}/Watcher'>
             <x xmlns='http://jabber.org/protocol/muc'/></presence>"
        ));
        site.stanza(&format!(
            "<iq xmlns='jabber:client' type='set' id='c' from='{WATCHER}' to='{ROOM}'>
             <query xmlns='http://jabber.org/protocol/muc#owner'>
             <x xmlns='jabber:x:data' type='submit'/></query></iq>"
        ));
        assert!(site.bridge.rooms().get(&cave()).is_some());
        Self { site, mixer: BTreeMap::new(), roster: BTreeMap::new() }
    }

    fn take(&mut self, step: &Step) {
        let site = &mut self.site;
        let mut seen = site.wait(Duration::from_secs(1));
        seen.extend(match *step {
            Step::Join { chat, nick } => {
                let (chat, nick) = (pick(&CHATS, chat), pick(&NICKS, nick));
                site.stanza(&format!(
                    "<presence xmlns='jabber:client' from='{chat}' to='{ROOM}/{nick}'>
                     <x xmlns='http://jabber.org/protocol/muc'/></presence>"
                ))
            }
            Step::Part { chat } => {
                let chat = pick(&CHATS, chat);
                site.stanza(&format!(
                    "<presence xmlns='jabber:client' type='unavailable' from='{chat}' to='{ROOM}/x'/>"
                ))
            }
            Step::Role { by, nick, role } => {
                let (nick, role) = (pick(&NICKS, nick), pick(&ROLES, role));
                site.stanza(&moderation(by, &format!("<item nick='{nick}' role='{role}'/>")))
            }
            Step::Affiliation { by, whom, affiliation } => {
                let (whom, word) = (pick(&WHOM, whom), pick(&AFFILIATIONS, affiliation));
                site.stanza(&moderation(by, &format!("<item jid='{whom}' affiliation='{word}'/>")))
            }
            Step::Call { phone } => site.call(phone % PHONES.len(), "cave"),
            Step::HangUp { phone } => site.hang_up(phone % PHONES.len()),
            Step::Direction { phone, direction } => {
                site.direct(phone % PHONES.len(), pick(&DIRECTIONS, direction))
            }
            Step::Mute { person, on } => site.ask(Question::Mute(cave(), PersonId(person), on)),
            Step::Settings { moderated, members_only } => {
                let settings = json!({ "moderated": moderated, "members_only": members_only });
                site.ask(Question::PutRoom(cave(), settings))
            }
            Step::Lock { on } => site.ask(Question::Lock(cave(), on)),
            Step::Keys { leg, keys } => {
                let legs: Vec<_> = self.mixer.keys().copied().collect();
                match legs.get(leg % legs.len().max(1)) {
                    Some(leg) => site.keys(*leg, pick(&KEYS, keys)),
                    None => vec![],
                }
            }
            Step::Dead { phone } => {
                let legs: Vec<_> = self.mixer.keys().copied().collect();
                match legs.get(phone % legs.len().max(1)) {
                    Some(leg) => site.input(Input::Media(Report::Dead { leg: *leg })),
                    None => vec![],
                }
            }
            Step::Link { up } => site.input(Input::Link(up)),
            Step::Wait { seconds } => site.wait(Duration::from_secs(seconds)),
        });
        for it in seen {
            match it {
                Seen::Media(order) => self.obey(order),
                Seen::Stanza(stanza) if stanza.name() == "presence" => self.show(&stanza),
                Seen::Stanza(_) | Seen::Response { .. } | Seen::Request { .. } => {}
            }
        }
    }

    /// What the two sides were told, and what the room says.
    fn compare(&self, step: &Step) {
        let room = self.site.bridge.rooms().get(&cave()).expect("its owner stays");
        let truth: BTreeMap<LegId, bool> = room
            .people
            .values()
            .flat_map(|person| person.legs.keys().map(|leg| (*leg, person.may_be_heard(*leg))))
            .collect();
        assert_eq!(self.mixer, truth, "the mixer was told something else, after {step:?}");
        assert_eq!(self.site.bridge.divergence(), 0, "after {step:?}");
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
        let calls = self.site.phones.iter().filter(|phone| phone.call.is_some()).count();
        assert_eq!(calls, self.mixer.len(), "phones that think they are in, after {step:?}");
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open(plan) => assert!(self.mixer.insert(plan.leg, plan.heard).is_none()),
            Order::Change(plan) => assert!(self.mixer.insert(plan.leg, plan.heard).is_some()),
            Order::Voice { leg, heard, .. } => {
                assert!(self.mixer.insert(leg, heard).is_some());
            }
            Order::Close(leg) => assert!(self.mixer.remove(&leg).is_some()),
            Order::Volume { leg, .. } | Order::Play { leg, .. } => {
                assert!(self.mixer.contains_key(&leg));
            }
            Order::Chime { .. } => {}
        }
    }

    /// A presence that reached the watcher's client.
    fn show(&mut self, presence: &Element) {
        if presence.attr("to") != Some(WATCHER) {
            return;
        }
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
}

/// Half of what moderators do is done by the watcher, who may; the rest by anyone.
fn moderation(by: usize, item: &str) -> String {
    let by = if by.is_multiple_of(2) { WATCHER } else { pick(&CHATS, by / 2) };
    format!(
        "<iq xmlns='jabber:client' type='set' id='m' from='{by}' to='{ROOM}'>
         <query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query></iq>"
    )
}

fn pick(words: &[&'static str], number: usize) -> &'static str {
    words[number % words.len()]
}
