//! Killed in the middle of it, again and again: what anyone was told is there, what was refused is not.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    postgres::Postgres,
    site::{CHAT, Plan, Site, room},
    slixmpp::Chat,
    wait::pause,
};

#[test]
fn killed_in_a_storm_nothing_that_was_told_is_lost() {
    storm("killed_in_a_storm_nothing_that_was_told_is_lost", None, || {});
}

#[test]
fn killed_in_a_storm_on_postgresql_nothing_that_was_told_is_lost() {
    let test = "killed_in_a_storm_on_postgresql_nothing_that_was_told_is_lost";
    let Some(postgres) = Postgres::start() else { return };
    // The database is killed with it.
    let restart = || {
        postgres.stop("immediate");
        postgres.resume();
    };
    storm(test, Some(postgres.database("storm")), restart);
}

/// How long a storm lasts before each kill: at another moment of what is done each time.
const STORMS: [Duration; 4] = [
    Duration::from_millis(700),
    Duration::from_millis(1_330),
    Duration::from_millis(410),
    Duration::from_secs(2),
];

/// What the owner was told that it holds, and what they asked for at all.
#[derive(Default)]
struct Owned {
    members: BTreeSet<String>,
    asked: BTreeSet<String>,
    named: usize,
    number: usize,
}

fn storm(test: &str, store: Option<String>, meanwhile: impl Fn()) {
    let Some(mut site) = Site::start_as(test, Plan { store, ..Plan::default() }) else { return };
    let mut alice = site.chat("alice");
    let form = json!({ "muc#roomconfig_persistentroom": true, "muc#roomconfig_roomname": "0" });
    alice.create("lounge", form);
    let mut owned = Owned::default();
    let mut talkers = ["bob", "carol", "dave"].map(|user| (site.chat(user), 0));
    for length in STORMS {
        for (inside, _) in &talkers[..2] {
            inside.join("lounge");
        }
        let over = &AtomicBool::new(false);
        thread::scope(|scope| {
            let (alice, owned) = (&mut alice, &mut owned);
            scope.spawn(move || rule(&*alice, owned, over));
            for (chat, said) in &mut talkers {
                scope.spawn(move || talk(&*chat, said, over));
            }
            pause(length);
            site.cusaxd.kill();
            over.store(true, Ordering::Relaxed);
        });
        meanwhile();
        site.cusaxd.start_again();
        alice.join("lounge");
        let [(bob, _), (carol, _), (dave, _)] = &talkers;
        check(&alice, &owned, [bob, carol], dave);
    }
    let [(bob, _), (carol, _), (dave, _)] = &talkers;
    assert!(!site.cusaxd.log().contains("the store takes no changes"));
    let told = read(&[bob, carol], "groupchat").len();
    println!(
        "{} kills: {} members and {} names acknowledged, {told} messages told, {} refused; none lost",
        STORMS.len(),
        owned.members.len(),
        owned.named,
        read(&[bob, carol, dave], "error").len(),
    );
    assert!(owned.members.len() > 10 && told > 50, "this is no storm");
}

/// Makes members and gives the room names, until nobody answers any more.
fn rule(alice: &Chat, owned: &mut Owned, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        owned.number += 1;
        let jid = format!("member-{}@{CHAT}", owned.number);
        owned.asked.insert(jid.clone());
        let fields = json!({ "room": room("lounge"), "jid": jid, "affiliation": "member" });
        if alice.attempt("affiliation", fields).is_ok() {
            owned.members.insert(jid);
        }
        let name = owned.number.to_string();
        let fields = json!({ "room": room("lounge"), "muc#roomconfig_roomname": name });
        if alice.attempt("configure", fields).is_ok() {
            owned.named = owned.number;
        }
    }
}

/// Says one thing after the other, each with its number.
fn talk(chat: &Chat, said: &mut usize, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        *said += 1;
        chat.say("lounge", &format!("{} {said}", chat.user()));
        // Faster than anybody may for long: some of it is refused.
        pause(Duration::from_millis(if said.is_multiple_of(8) { 200 } else { 10 }));
    }
}

/// What these were told that was said, or that was not.
fn read(chats: &[&Chat], kind: &str) -> BTreeSet<String> {
    let events = chats.iter().flat_map(|chat| chat.events(0));
    let messages = events.filter(|event| event["ev"] == "message" && event["type"] == kind);
    messages.filter_map(|event| event["body"].as_str().map(str::to_owned)).collect()
}

fn check(alice: &Chat, owned: &Owned, inside: [&Chat; 2], outside: &Chat) {
    let fields = json!({ "room": room("lounge"), "affiliation": "member" });
    let listed = alice.tell("affiliations", fields)["jids"].clone();
    let listed: BTreeSet<String> = serde_json::from_value(listed).expect("a list of JIDs");
    let lost: Vec<_> = owned.members.difference(&listed).collect();
    assert!(lost.is_empty(), "members were lost: {lost:?}");
    assert!(listed.is_subset(&owned.asked), "nobody asked for all of these: {listed:?}");

    let config = alice.tell("config", json!({ "room": room("lounge") }));
    let name =
        config["fields"]["muc#roomconfig_roomname"].as_str().and_then(|name| name.parse().ok());
    let name: usize = name.unwrap_or_else(|| panic!("no name of ours: {config}"));
    // The last one may have been done while nobody could be told any more.
    assert!((owned.named..=owned.number).contains(&name), "{name} after {}", owned.named);

    let fields = json!({ "room": room("lounge"), "page": 100, "reverse": false });
    let archive = alice.tell("archive", fields)["messages"].clone();
    let archive: Vec<Value> = serde_json::from_value(archive).expect("a list of messages");
    let bodies: Vec<&str> = archive.iter().filter_map(|message| message["body"].as_str()).collect();
    let kept: BTreeSet<String> = bodies.iter().map(|body| (*body).to_owned()).collect();
    assert_eq!(kept.len(), bodies.len(), "a message is kept twice");
    let told = read(&inside, "groupchat");
    let lost: Vec<_> = told.difference(&kept).collect();
    assert!(lost.is_empty(), "messages were lost: {lost:?}");
    let refused = read(&[inside[0], inside[1], outside], "error");
    // What the XMPP server answered for us, while we were away, was not refused by us.
    let wrong: Vec<_> = refused.intersection(&kept).filter(|body| !told.contains(*body)).collect();
    assert!(wrong.is_empty(), "refused, and kept: {wrong:?}");
    assert!(!kept.iter().any(|body| body.starts_with("dave ")), "dave is not in the room");
}
