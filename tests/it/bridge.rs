//! Both faces of one room in one transcript: plays every file of `scenes/bridge/` and compares what
//! the mixer, the chat clients and the phones were told. `UPDATE_EXPECT=1 cargo test --test it bridge`
//! writes what came out.
//!
//! A scene is a script, a line `---`, and the transcript. The script's lines:
//!
//! | line | what happens |
//! | --- | --- |
//! | `alice joins Alice` | `alice@example.org/pc` enters the chat of `cave@rooms.example.org` |
//! | `owner makes Owner` | the same, and accepts the default configuration |
//! | `alice leaves`, `alice says TEXT` | what chat users do |
//! | `owner role Alice visitor`, `owner affiliation bob@example.org outcast` | what moderators do |
//! | `dave calls`, `dave hangs up`, `dave holds`, `dave resumes` | what phones do, through a proxy that vouches |
//! | `operator mute p2`, `unmute p2`, `lock`, `unlock`, `set KEY VALUE` | what operators do |
//! | `configure sip.auth "open"` | the configuration is read again, with that changed |
//! | `operator drain 60`, `operator undrain` | the same; what is answered is shown as well |
//! | `store full`, `store empties`, `link down`, `link up`, `server stops`, `server terminates` | what happens to the server |
//! | `+5` | five seconds pass |
//!
//! A `~` before a line leaves what it brings about out of the transcript.

use std::fmt::Write as _;
use std::time::Duration;
use std::{env, fs};

use cusax_sip::header::Name;
use cusax_sip::message::{Request, Response};
use cusaxd::admin::audit::Via;
use cusaxd::admin::{self, Draining, Question};
use cusaxd::bridge::{Input, Outbox};
use cusaxd::id::PersonId;
use cusaxd::mixer::plan::Order;
use cusaxd::room::By;
use minidom::Element;
use serde_json::{Value, json};

use crate::site::{Seen, Site, cave};

#[test]
fn scenes_of_both_faces() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/scenes/bridge");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "where are the scenes?");
    let mut wrong = vec![];
    for path in &paths {
        let text = fs::read_to_string(path).unwrap();
        let (script, expected) = text.split_once("---\n").unwrap_or((&text, ""));
        let actual = play(script);
        if env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(path, format!("{script}---\n{actual}")).unwrap();
        } else if actual != expected {
            wrong.push(format!("{}\n{actual}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whoever is called and has a chat account is invited there too, once.
#[test]
fn a_call_is_an_invitation_to_the_chat() {
    let mut site = Site::new(&[]);
    let mut ask = |question| {
        let by = By::Operator("test".to_owned());
        let request = admin::Request { ticket: 1, by, via: Via::AdHoc, question };
        let mut out = Outbox::default();
        site.bridge.handle(site.now, Input::Admin(request), &mut out);
        assert_eq!(out.admin[0].status, 200, "{}", out.admin[0].body);
        out
    };
    ask(Question::PutUser(
        "carol@example.org".parse().unwrap(),
        json!({ "aor": "sip:carol@phones.example.org" }),
    ));
    ask(Question::PutRoom(cave(), json!({})));
    let out = ask(Question::Dial(cave(), "sip:carol@phones.example.org".to_owned()));
    assert_eq!(out.lookups[0].uri.to_string(), "sip:carol@phones.example.org");
    let sent: Vec<_> = out.stanzas.each().collect();
    let [invitation] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(invitation.attr("to"), Some("carol@example.org"));
    assert_eq!(invitation.attr("from"), Some("cave@rooms.example.org"));
    let x = invitation.get_child("x", "http://jabber.org/protocol/muc#user").unwrap();
    assert!(x.has_child("invite", "http://jabber.org/protocol/muc#user"));
}

/// What is asked by a command in a chat client is written down, with who asked.
#[test]
fn a_command_from_chat_is_in_the_audit_log() {
    let mut site = Site::new(&[]);
    site.configure("xmpp", "admins", json!(["owner@example.org"]));
    site.ask(Question::PutRoom(cave(), json!({})));
    let mut asks = |who: &str| {
        let command = format!(
            "<iq xmlns='jabber:client' type='set' id='1' from='{who}@example.org/pc'
                 to='rooms.example.org'>
               <command xmlns='http://jabber.org/protocol/commands' action='execute'
                        node='urn:x-cusax:command:lock-room'>
                 <x xmlns='jabber:x:data' type='submit'><field var='room'><value>cave</value></field></x>
               </command></iq>"
        );
        let mut out = Outbox::default();
        site.bridge.handle(site.now, Input::Stanza(command.parse().unwrap()), &mut out);
        let answers: Vec<_> = out.stanzas.each().map(|it| String::from(&it)).collect();
        (out.audit, answers)
    };
    let (audit, answers) = asks("owner");
    let [entry] = &audit[..] else { panic!("{answers:?}") };
    let told = serde_json::to_value(entry).unwrap();
    assert_eq!(told["by"], "owner@example.org");
    assert_eq!((&told["via"], &told["from"]), (&json!("ad-hoc"), &Value::Null));
    assert_eq!(
        (&told["operation"], &told["args"]),
        (&json!("lockRoom"), &json!({ "room": "cave" }))
    );
    assert_eq!((&told["status"], &told["error"]), (&json!(200), &Value::Null));
    assert!(asks("mallory").0.is_empty(), "who is no operator asks nothing");
}

/// It ends when the last call does, or when it is time.
#[test]
fn a_drain_ends_with_the_last_call_or_in_time() {
    let mut site = Site::new(&["sip:dave@pbx.example.net"]);
    site.ask(Question::PutRoom(cave(), json!({})));
    let draining = |delay| Draining { delay: Some(delay), announcement: None };
    assert!(!site.bridge.has_drained(site.now) && !site.bridge.is_draining());
    site.call(0, "cave");
    site.ask(Question::Drain(draining(60)));
    assert!(site.bridge.is_draining() && !site.bridge.has_drained(site.now));
    let end = site.now.instant + Duration::from_secs(60);
    assert!(site.bridge.poll_timeout().is_some_and(|due| due <= end));
    assert!(site.bridge.has_drained(site.now + Duration::from_secs(60)), "it is time");
    // A later end does not put off the earlier one.
    site.ask(Question::Drain(draining(3_600)));
    assert!(site.bridge.has_drained(site.now + Duration::from_secs(60)));
    site.ask(Question::Undrain);
    assert!(!site.bridge.has_drained(site.now + Duration::from_secs(4_000)));
    site.ask(Question::Drain(draining(3_600)));
    site.hang_up(0);
    assert!(site.bridge.has_drained(site.now), "nobody is left to wait for");
}

/// Alice and the owner are bound by the directory; Bob and Dave are nobody's.
const PHONES: [&str; 4] = ["alice", "owner", "bob", "dave"];

fn play(script: &str) -> String {
    let addresses = PHONES.map(|name| match name {
        "alice" | "owner" => format!("sip:{name}@conf.example.org"),
        _ => format!("sip:{name}@pbx.example.net"),
    });
    let mut site = Site::new(&addresses.each_ref().map(String::as_str));
    let mut transcript = String::new();
    for line in script.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (shown, line) = match line.strip_prefix('~') {
            Some(rest) => (false, rest.trim()),
            None => (true, line),
        };
        let seen = act(&mut site, line);
        if !shown {
            continue;
        }
        writeln!(transcript, "> {line}").unwrap();
        for it in seen {
            if let Some(text) = tell(it) {
                writeln!(transcript, "  < {text}").unwrap();
            }
        }
    }
    transcript
}

fn act(site: &mut Site, line: &str) -> Vec<Seen> {
    if let Some(seconds) = line.strip_prefix('+') {
        return site.wait(Duration::from_secs(seconds.parse().unwrap()));
    }
    let (who, what) = line.split_once(' ').unwrap();
    let (verb, rest) = what.split_once(' ').unwrap_or((what, ""));
    let chat = format!("{who}@example.org/pc");
    let room = "cave@rooms.example.org";
    let phone = || PHONES.iter().position(|name| *name == who).unwrap();
    let admin = |item: &str| {
        format!(
            "<iq xmlns='jabber:client' type='set' id='m' from='{chat}' to='{room}'>
             <query xmlns='http://jabber.org/protocol/muc#admin'>{item}</query></iq>"
        )
    };
    match (who, verb) {
        ("link", "up") => site.input(Input::Link(true)),
        ("link", "down") => site.input(Input::Link(false)),
        ("store", state) => {
            site.bridge.note_store_full(state == "full");
            vec![]
        }
        ("server", "stops") => site.input(Input::ShutDown),
        ("server", "terminates") => site.input(Input::Terminate),
        ("configure", key) => {
            let (section, option) = key.split_once('.').unwrap();
            site.configure(section, option, serde_json::from_str(rest).unwrap())
        }
        ("operator", "drain") => {
            let draining = Draining { delay: Some(rest.parse().unwrap()), announcement: None };
            site.ask(Question::Drain(draining))
        }
        ("operator", "undrain") => site.ask(Question::Undrain),
        ("operator", "mute") => site.ask(Question::Mute(cave(), person(rest), true)),
        ("operator", "unmute") => site.ask(Question::Mute(cave(), person(rest), false)),
        ("operator", "lock") => site.ask(Question::Lock(cave(), true)),
        ("operator", "unlock") => site.ask(Question::Lock(cave(), false)),
        ("operator", "destroy") => site.ask(Question::DeleteRoom(cave())),
        ("operator", "set") => {
            let (key, value) = rest.split_once(' ').unwrap();
            let value: Value = serde_json::from_str(value).unwrap();
            site.ask(Question::PutRoom(cave(), json!({ key: value })))
        }
        (_, "joins" | "makes") => {
            let mut seen = site.stanza(&format!(
                "<presence xmlns='jabber:client' from='{chat}' to='{room}/{rest}'>
                 <x xmlns='http://jabber.org/protocol/muc'/></presence>"
            ));
            if verb == "makes" {
                seen.extend(site.stanza(&format!(
                    "<iq xmlns='jabber:client' type='set' id='c' from='{chat}' to='{room}'>
                     <query xmlns='http://jabber.org/protocol/muc#owner'>
                     <x xmlns='jabber:x:data' type='submit'/></query></iq>"
                )));
            }
            seen
        }
        (_, "leaves") => site.stanza(&format!(
            "<presence xmlns='jabber:client' type='unavailable' from='{chat}' to='{room}/x'/>"
        )),
        (_, "says") => site.stanza(&format!(
            "<message xmlns='jabber:client' type='groupchat' id='s' from='{chat}' to='{room}'>
             <body>{rest}</body></message>"
        )),
        (_, "role") => {
            let (nick, role) = rest.rsplit_once(' ').unwrap();
            let reason = "<reason>for the test</reason>";
            site.stanza(&admin(&format!("<item nick='{nick}' role='{role}'>{reason}</item>")))
        }
        (_, "affiliation") => {
            let (jid, word) = rest.split_once(' ').unwrap();
            site.stanza(&admin(&format!("<item jid='{jid}' affiliation='{word}'/>")))
        }
        (_, "calls") => site.call(phone(), "cave"),
        (_, "hangs") => site.hang_up(phone()),
        (_, "holds") => site.direct(phone(), "sendonly"),
        (_, "resumes") => site.direct(phone(), "sendrecv"),
        _ => panic!("no such line: {line}"),
    }
}

fn person(text: &str) -> PersonId {
    PersonId(text.strip_prefix('p').unwrap().parse().unwrap())
}

/// One line for each thing that was told; `None` for what says nothing new.
fn tell(seen: Seen) -> Option<String> {
    match seen {
        Seen::Media(order) => Some(format!("mixer {}", order_text(&order))),
        Seen::Stanza(stanza) => Some(format!("chat {}", stanza_text(&stanza))),
        Seen::Response { phone, response } => Some(response_text(PHONES[phone], &response)),
        Seen::Request { phone, request } => {
            PHONES.get(phone).map(|who| request_text(who, &request))
        }
    }
}

fn order_text(order: &Order) -> String {
    let voice = |heard: bool| if heard { "heard" } else { "not heard" };
    match order {
        Order::Open(plan) => format!("open {}, {}", plan.leg, voice(plan.heard)),
        Order::Change(plan) => {
            let ear = if plan.hears { "hears" } else { "hears nothing" };
            format!("change {}, {}, {ear}", plan.leg, voice(plan.heard))
        }
        Order::Voice { leg, heard, .. } => format!("{leg} {}", voice(*heard)),
        Order::Close(leg) => format!("close {leg}"),
    }
}

/// `to owner: presence Alice available, none participant [On the call, Muted] (110, 307)`.
fn stanza_text(stanza: &Element) -> String {
    let to = stanza.attr("to").unwrap().split('@').next().unwrap();
    let from = stanza.attr("from").unwrap();
    let nick = from.split_once('/').map_or("room", |(_, nick)| nick);
    let kind = stanza.attr("type").unwrap_or("available");
    let mut text = format!("to {to}: {} {nick} {kind}", stanza.name());
    if let Some(body) = stanza.get_child("body", "jabber:client") {
        write!(text, " {:?}", body.text()).unwrap();
    }
    if let Some(error) = stanza.get_child("error", "jabber:client") {
        let condition = error.children().next().unwrap();
        write!(text, " {} {}", error.attr("type").unwrap(), condition.name()).unwrap();
    }
    if let Some(x) = stanza.get_child("x", "http://jabber.org/protocol/muc#user") {
        if let Some(item) = x.children().find(|child| child.name() == "item") {
            let word = |name| item.attr(name).unwrap_or("-");
            write!(text, ", {} {}", word("affiliation"), word("role")).unwrap();
        }
        if x.children().any(|child| child.name() == "destroy") {
            text += ", destroyed";
        }
    }
    let hats: Vec<_> = stanza
        .children()
        .filter(|child| child.name() == "hats")
        .flat_map(Element::children)
        .filter_map(|hat| hat.attr("title"))
        .collect();
    if !hats.is_empty() {
        write!(text, " [{}]", hats.join(", ")).unwrap();
    }
    let codes: Vec<_> = stanza
        .get_child("x", "http://jabber.org/protocol/muc#user")
        .into_iter()
        .flat_map(Element::children)
        .filter(|child| child.name() == "status")
        .filter_map(|status| status.attr("code"))
        .collect();
    if !codes.is_empty() {
        write!(text, " ({})", codes.join(", ")).unwrap();
    }
    text
}

fn response_text(phone: &str, response: &Response) -> String {
    let method = response.headers.cseq().unwrap().method;
    let mut text = format!("phone {phone}: {} to {}", response.status, method.as_str());
    if response.headers.get(&Name::CONTACT).is_some_and(|it| it.contains(";isfocus")) {
        text += ", isfocus";
    }
    let body = String::from_utf8(response.body.clone()).unwrap();
    let direction = |line: &&str| {
        ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"].contains(&line.trim())
    };
    if let Some(direction) = body.lines().find(direction) {
        write!(text, ", {}", direction.trim()).unwrap();
    }
    text
}

fn request_text(phone: &str, request: &Request) -> String {
    let reasons: Vec<_> = request.headers.all(&Name::REASON).collect();
    let mut text = format!("phone {phone}: {}", request.method.as_str());
    if !reasons.is_empty() {
        write!(text, ", Reason: {}", reasons.join(", ")).unwrap();
    }
    text
}
