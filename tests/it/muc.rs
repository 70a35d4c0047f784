//! The chat face with rooms behind it, and no other face: plays every file of `scenes/muc/` and
//! compares the whole transcript. `UPDATE_EXPECT=1 cargo test --test it` writes what came out.
//!
//! A scene is a script, a line `---`, and the transcript. The script's lines:
//!
//! | line | what happens |
//! | --- | --- |
//! | `juliet <presence …/>` | `juliet@example.org/pc` sends that; `juliet/tablet` is another session |
//! | `juliet join garden Juliet` | enters `garden@rooms.example.org` |
//! | `juliet make garden Juliet` | enters and accepts the default configuration |
//! | `juliet keep garden Juliet` | enters and makes a persistent room, which has an archive |
//! | `archive stuck` | the store answers nothing from here on |
//! | `phone 1 call garden sip:bob@example.net Bob` | a caller; `romeo@example.org` instead of the SIP address is a bound one |
//! | `phone 1 hang-up`, `hold`, `resume`, `mute`, `unmute`, `hand` | what the caller does next |
//! | `jitsi on`, `jitsi off` | whether presence carries the conference for Jitsi Desktop |
//! | `operator mute garden Juliet`, `unmute`, `lock` | what an operator does |
//! | `link down`, `link up`, `shutdown` | what happens to the server |
//! | `+5` | five seconds pass |
//! | `root command set-room KEY=VALUE …` | an ad-hoc command of the service, without a session or of one: `root command set-room #1 …` |
//! | `juliet@garden command lock-room` | the same of a room |
//! | `show occupant-id` | transcripts leave these out otherwise |
//! | `admins create rooms` | and nobody else |
//!
//! A `~` before a line leaves it and what it brings about out of the transcript.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};
use std::{env, fs};

use cusaxd::admin::audit::Via;
use cusaxd::admin::{self, Admin, Question, Step};
use cusaxd::clock::Now;
use cusaxd::dialplan::DialPlan;
use cusaxd::directory::Directory;
use cusaxd::id::{LegId, Nick, RoomName};
use cusaxd::journal;
use cusaxd::muc::{Ask, Muc, MucConfig, Order, Rates, Reply};
use cusaxd::room::person::{Caller, Proof, Who};
use cusaxd::room::{By, Command, Creation, Ending, Policy, Refusal, Rooms};
use cusaxd::stanzas::Stanzas;
use jid::{BareJid, DomainPart};
use minidom::Element;

use crate::archive::Archive;

#[test]
fn scenes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/scenes/muc");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let mut wrong = vec![];
    for path in &paths {
        let text = fs::read_to_string(path).unwrap();
        let (script, expected) = text.split_once("---\n").unwrap_or((&text, ""));
        let actual = play(script);
        if env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(path, format!("{script}---\n{actual}")).unwrap();
        } else if actual != expected {
            let at = actual.lines().zip(expected.lines()).position(|(a, e)| a != e);
            let at = at.unwrap_or(actual.lines().count().min(expected.lines().count()));
            wrong.push(format!(
                "{}\n  expected {:?}\n  actual   {:?}",
                path.display(),
                expected.lines().nth(at),
                actual.lines().nth(at)
            ));
        }
    }
    assert!(paths.len() >= 40, "where are the scenes?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn play(script: &str) -> String {
    let mut server = Server::new();
    let mut transcript = String::new();
    let ids = script.lines().any(|line| line == "show occupant-id");
    if script.lines().any(|line| line == "admins create rooms") {
        server.only_admins_create();
    }
    let script = script.replace("show occupant-id\n", "").replace("admins create rooms\n", "");
    for line in script.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (shown, line) = match line.strip_prefix('~') {
            Some(rest) => (false, rest.trim()),
            None => (true, line),
        };
        let said = server.line(line);
        if shown {
            writeln!(transcript, "> {line}").unwrap();
            for stanza in said {
                writeln!(transcript, "  < {}", text(&stanza, ids)).unwrap();
            }
        }
    }
    transcript
}

fn text(stanza: &Element, occupant_ids: bool) -> String {
    let mut stanza = stanza.clone();
    if !occupant_ids {
        stanza.remove_child("occupant-id", "urn:xmpp:occupant-id:0");
    }
    String::from(&stanza).replacen(" xmlns='jabber:client'", "", 1)
}

/// A stanza as it comes from someone: `juliet`, `juliet/tablet`, or a whole address.
pub fn parse(who: &str, xml: &str) -> Element {
    let (user, resource) = who.split_once('/').unwrap_or((who, "pc"));
    let from = match user.contains(['@', '.']) {
        true => who.to_owned(),
        false => format!("{user}@example.org/{resource}"),
    };
    let tag = xml.split('>').next().unwrap();
    let ns = if tag.contains(" xmlns=") { "" } else { " xmlns='jabber:client'" };
    let xml = xml.replacen(' ', &format!("{ns} from='{from}' "), 1);
    xml.parse().unwrap_or_else(|error| panic!("{xml}: {error}"))
}

/// An ad-hoc command: `#ID` continues a session, `!ACTION` is another than `execute`, `KEY=VALUE` are
/// fields, in which `_` stands for a blank.
fn command(to: &str, node: &str, words: &[&str]) -> String {
    let node = match node {
        "announce" => "http://jabber.org/protocol/admin#announce".to_owned(),
        "drain" => "http://jabber.org/protocol/admin#shutdown".to_owned(),
        node if node.starts_with("hats:") => node.replacen("hats:", "urn:xmpp:hats:commands:", 1),
        node => format!("urn:x-cusax:command:{node}"),
    };
    let (mut attributes, mut fields) = (String::new(), String::new());
    for word in words {
        match (word.split_once('='), word.split_at(1)) {
            (Some((var, value)), _) => {
                let value = value.replace('_', " ");
                write!(fields, "<field var='{var}'><value>{value}</value></field>").unwrap();
            }
            (None, ("#", id)) => write!(attributes, " sessionid='{id}'").unwrap(),
            (None, ("!", action)) => write!(attributes, " action='{action}'").unwrap(),
            (None, _) => panic!("what is {word}?"),
        }
    }
    let form = match fields.as_str() {
        "" => String::new(),
        fields => format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>"),
    };
    format!(
        "<iq type='set' id='c' to='{to}'>\
         <command xmlns='http://jabber.org/protocol/commands' node='{node}'{attributes}>{form}\
         </command></iq>"
    )
}

fn policy() -> Policy {
    let admins = [BareJid::new("root@example.org").unwrap()].into();
    Policy { admins: std::sync::Arc::new(admins), ..Policy::default() }
}

/// Rooms and the chat face, as the bridge would join them.
pub struct Server {
    pub muc: Muc,
    pub rooms: Rooms,
    admin: Admin,
    directory: Directory,
    archive: Archive,
    /// The archive answers.
    reads: bool,
    legs: BTreeMap<LegId, RoomName>,
    now: Now,
}

impl Server {
    fn only_admins_create(&mut self) {
        let policy = Policy { creation: Creation::Admins, ..policy() };
        self.rooms = Rooms::new(policy);
    }

    pub fn new() -> Self {
        let config = MucConfig {
            domain: DomainPart::new("rooms.example.org").unwrap().into_owned(),
            sip_domain: "conf.example.org".to_owned(),
            spellings: vec![
                "audio-video-uri".to_owned(),
                "muc#roominfo_audio-video-uri".to_owned(),
            ],
            jitsi_conference: false,
            secret: b"scene".to_vec(),
            version: "1.2.3".to_owned(),
            rates: Rates::default(),
        };
        Self {
            muc: Muc::new(config, 7),
            rooms: Rooms::new(policy()),
            admin: Admin::new(
                DomainPart::new("rooms.example.org").unwrap().into_owned(),
                "conf.example.org".to_owned(),
                DialPlan::new(
                    &serde_json::from_value(serde_json::json!({
                        "xmpp": { "domain": "rooms.example.org", "secret": "x" },
                        "sip": { "domain": "conf.example.org" },
                    }))
                    .unwrap(),
                ),
            ),
            directory: Directory::default(),
            archive: Archive::default(),
            reads: true,
            legs: BTreeMap::new(),
            now: Now {
                instant: Now::read().instant,
                utc: SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_534_400),
            },
        }
    }

    pub fn line(&mut self, line: &str) -> Vec<Element> {
        let mut out = Stanzas::default();
        if let Some(seconds) = line.strip_prefix('+') {
            self.wait(Duration::from_secs_f64(seconds.parse().unwrap()), &mut out);
            return out.each().collect();
        }
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["link", up] => self.muc.link(self.now, *up == "up"),
            ["jitsi", on] => self.muc.set_jitsi_conference(*on == "on"),
            ["archive", "stuck"] => self.reads = false,
            ["shutdown"] => {
                for (room, facts) in self.rooms.shut_down() {
                    self.publish(&room, &facts, &mut out);
                }
            }
            ["phone", leg, words @ ..] => self.phone(LegId(leg.parse().unwrap()), words, &mut out),
            ["operator", verb, room, nick @ ..] => self.operator(verb, room, nick, &mut out),
            [who, "join", room, nick @ ..] => {
                let nick = nick.join(" ");
                let xml = format!(
                    "<presence to='{room}@rooms.example.org/{nick}'>\
                     <x xmlns='http://jabber.org/protocol/muc'/></presence>"
                );
                self.hear(parse(who, &xml), &mut out);
            }
            [who, "make", room, nick] => {
                out.extend(self.line(&format!("{who} join {room} {nick}")));
                let xml = format!(
                    "<iq type='set' id='make' to='{room}@rooms.example.org'>\
                     <query xmlns='http://jabber.org/protocol/muc#owner'>\
                     <x xmlns='jabber:x:data' type='submit'/></query></iq>"
                );
                self.hear(parse(who, &xml), &mut out);
            }
            [who, "keep", room, nick] => {
                out.extend(self.line(&format!("{who} join {room} {nick}")));
                let xml = format!(
                    "<iq type='set' id='keep' to='{room}@rooms.example.org'>\
                     <query xmlns='http://jabber.org/protocol/muc#owner'>\
                     <x xmlns='jabber:x:data' type='submit'>\
                     <field var='muc#roomconfig_persistentroom'><value>1</value></field>\
                     </x></query></iq>"
                );
                self.hear(parse(who, &xml), &mut out);
            }
            [who, "command", node, words @ ..] => {
                let (who, to) = match who.split_once('@') {
                    Some((who, room)) => (who, format!("{room}@rooms.example.org")),
                    None => (*who, "rooms.example.org".to_owned()),
                };
                self.hear(parse(who, &command(&to, node, words)), &mut out);
            }
            [who, ..] => {
                let xml = line.split_once(' ').expect("a stanza").1;
                self.hear(parse(who, xml), &mut out);
            }
            [] => panic!("an empty line"),
        }
        out.each().collect()
    }

    pub fn stanza(&mut self, who: &str, xml: &str, out: &mut Vec<Element>) {
        self.element(parse(who, xml), out);
    }

    pub fn element(&mut self, stanza: Element, out: &mut Vec<Element>) {
        let mut stanzas = Stanzas::default();
        self.hear(stanza, &mut stanzas);
        out.extend(stanzas.each());
    }

    fn hear(&mut self, stanza: Element, out: &mut Stanzas) {
        if let Some(ask) = self.muc.decode(self.now, stanza, &self.rooms, out) {
            self.ask(ask, out);
        }
        while let Some(order) = self.muc.poll_order() {
            self.order(order, out);
        }
        while let Some(query) = self.muc.poll_query().filter(|_| self.reads) {
            let loaded = self.archive.answer(&query);
            if let Some(ask) = self.muc.loaded(self.now, loaded, &self.rooms, out) {
                self.ask(ask, out);
            }
        }
    }

    fn order(&mut self, order: Order, out: &mut Stanzas) {
        let (status, body) = match Question::read(order.operation, &order.values) {
            Ok(question) => {
                let (by, via) = (order.by.clone(), Via::AdHoc);
                let request = admin::Request { ticket: 0, by, via, question };
                let (rooms, directory) = (&self.rooms, &mut self.directory);
                let response = match self.admin.decode(request, rooms, directory, Some(&mut vec![]))
                {
                    Step::Done(response) => response,
                    Step::Ask(ask) => {
                        let admin::Ask { room, by, command, reply } = *ask;
                        let (facts, result) = match self.apply(&room, &by, command) {
                            Ok(facts) => (facts, Ok(())),
                            Err(refusal) => (vec![], Err(refusal)),
                        };
                        self.publish(&room, &facts, out);
                        self.admin.answer(reply, result, &self.rooms)
                    }
                    Step::Announce(it, response) => {
                        self.muc.announce(it.subject.as_deref(), &it.announcement, out);
                        response
                    }
                    Step::Drain(_, ticket) | Step::Undrain(ticket) => {
                        admin::Response { ticket, status: 204, body: serde_json::Value::Null }
                    }
                    Step::Link(_, ticket) => {
                        let body = serde_json::json!({ "path": "/provision/TOKEN" });
                        admin::Response { ticket, status: 200, body }
                    }
                };
                (response.status, response.body)
            }
            Err(why) => (400, serde_json::json!({ "error": why })),
        };
        self.muc.ordered(order, status, &body, out);
    }

    fn ask(&mut self, ask: Ask, out: &mut Stanzas) {
        let Ask { room, by, command, reply } = ask;
        let result = self.apply(&room, &by, command);
        let (facts, result) = match result {
            Ok(facts) => (facts, Ok(())),
            Err(refusal) => (vec![], Err(refusal)),
        };
        if let Some(room) = self.rooms.get(&room) {
            self.muc.throw_out(room, &facts, out);
        }
        self.muc.answer(&room, reply, result, out);
        self.publish(&room, &facts, out);
    }

    fn apply(
        &mut self,
        room: &RoomName,
        by: &By,
        command: Command,
    ) -> Result<Vec<cusaxd::room::Fact>, Refusal> {
        self.rooms.apply(self.now, room, by, command)
    }

    fn publish(&mut self, name: &RoomName, facts: &[cusaxd::room::Fact], out: &mut Stanzas) {
        if let Some(room) = self.rooms.get(name) {
            let mut rows = vec![];
            for fact in facts {
                self.muc.render(self.now, room, fact, out);
                journal::write(room, fact, &mut rows);
            }
            rows.into_iter().for_each(|row| self.archive.write(row));
        }
        self.rooms.sweep();
    }

    fn wait(&mut self, time: Duration, out: &mut Stanzas) {
        let end = self.now + time;
        while let Some(due) = self.muc.poll_timeout().filter(|due| *due <= end.instant) {
            self.now = self.now + due.saturating_duration_since(self.now.instant);
            for ask in self.muc.handle_timeout(self.now, out) {
                self.ask(ask, out);
            }
        }
        self.now = end;
    }

    fn phone(&mut self, leg: LegId, words: &[&str], out: &mut Stanzas) {
        let mut room = self.legs.get(&leg).cloned();
        let command = match words {
            ["call", name, from, called @ ..] => {
                let name = RoomName::new(name).unwrap();
                self.legs.insert(leg, name.clone());
                room = Some(name);
                let who = match *from {
                    "unknown" => Who::Unknown(leg),
                    from if from.starts_with("sip:") => Who::Aor(from.parse().unwrap()),
                    from => Who::Jid(BareJid::new(from).unwrap()),
                };
                let aor = from.parse().ok();
                let name = (!called.is_empty()).then(|| called.join(" "));
                let caller = Caller { who, aor, name, proof: Proof::Digest, private: false };
                Command::Call { leg, caller, password: None, media_agreed: true }
            }
            ["hang-up"] => Command::HangUp { ending: Ending::Departed },
            ["hold"] => Command::ChangeLeg { hold: true, sends: false },
            ["resume"] => Command::ChangeLeg { hold: false, sends: true },
            ["mute"] => Command::MuteSelf(true),
            ["unmute"] => Command::MuteSelf(false),
            ["hand"] => Command::RaiseHand(true),
            other => panic!("what is {other:?}?"),
        };
        let (by, reply) = (By::Leg(leg), Reply::Nobody);
        let Some(room) = room else { return };
        self.ask(Ask { room, by, command, reply }, out);
    }

    fn operator(&mut self, verb: &str, room: &str, nick: &[&str], out: &mut Stanzas) {
        let name = RoomName::new(room).unwrap();
        let person = || {
            let nick = Nick::new(&nick.join(" ")).unwrap();
            self.rooms.get(&name).unwrap().by_nick(&nick).unwrap().id
        };
        let command = match verb {
            "mute" => Command::Mute { person: person(), on: true },
            "unmute" => Command::Mute { person: person(), on: false },
            "lock" => Command::Lock(true),
            other => panic!("what is {other}?"),
        };
        let by = By::Operator("root".to_owned());
        self.ask(Ask { room: name, by, command, reply: Reply::Nobody }, out);
    }
}
