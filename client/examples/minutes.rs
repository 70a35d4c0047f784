//! A bot that keeps the minutes of a room and its call: who came how, for how long each was there, on the
//! call, and could be heard. It chats, calls nobody and says nothing; it reads the conference's side from
//! the room's hats.
//!
//! ```text
//! cargo run -p cusax-client --features tokio --example minutes -- bot@example.org SERVER PASSWORD lounge@rooms.example.org
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use std::{env, error::Error};

use cusax_client::driver::Roots;
use cusax_client::driver::chat::{Account, Chat, Event};
use cusax_client::link::RoomInfo;
use cusax_client::people::{Level, People, Person, Voice};
use cusax_client::room;
use jid::BareJid;
use minidom::Element;
use tokio::sync::mpsc;

/// What somebody did.
#[derive(Default)]
struct Minutes {
    /// How they were there: by text, audio, or both, in the order in which it changed.
    ways: Vec<Level>,
    here: Duration,
    on_the_call: Duration,
    could_be_heard: Duration,
}

/// The minutes of everybody, by name.
#[derive(Default)]
struct Book {
    all: BTreeMap<String, Minutes>,
    last: Vec<Person>,
    since: Option<Instant>,
}

impl Book {
    /// Notes what held until now, and what holds from now on.
    fn note(&mut self, now: Instant, people: Vec<Person>) {
        let time = self.since.replace(now).map(|since| now.saturating_duration_since(since));
        let time = time.unwrap_or_default();
        for person in self.last.iter().filter(|person| !person.own) {
            let minutes = self.all.entry(person.name.clone()).or_default();
            minutes.here += time;
            if matches!(person.level, Level::Audio | Level::Both) {
                minutes.on_the_call += time;
            }
            if person.voice == Some(Voice::Open) {
                minutes.could_be_heard += time;
            }
        }
        for person in people.iter().filter(|person| !person.own) {
            let minutes = self.all.entry(person.name.clone()).or_default();
            if minutes.ways.last() != Some(&person.level) {
                minutes.ways.push(person.level);
            }
        }
        let names = |people: &[Person]| -> BTreeSet<String> {
            people.iter().map(|person| person.name.clone()).collect()
        };
        let (before, after) = (names(&self.last), names(&people));
        for name in after.difference(&before) {
            println!("{name} came");
        }
        for name in before.difference(&after) {
            println!("{name} left");
        }
        self.last = people;
    }

    fn print(&self) {
        println!("\n{:<24} {:>8} {:>8} {:>8}  how", "who", "here", "call", "open");
        for (name, minutes) in &self.all {
            let seconds = |time: Duration| format!("{} s", time.as_secs());
            println!(
                "{name:<24} {:>8} {:>8} {:>8}  {:?}",
                seconds(minutes.here),
                seconds(minutes.on_the_call),
                seconds(minutes.could_be_heard),
                minutes.ways
            );
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [jid, server, password, room] = &arguments[..] else {
        return Err("JID SERVER PASSWORD ROOM".into());
    };
    let room = BareJid::new(room)?;
    let account = Account {
        jid: BareJid::new(jid)?,
        password: password.clone(),
        server: Some(server.clone()),
        resource: Some("minutes".to_owned()),
        roots: Roots::System,
    };
    let (sender, mut events) = mpsc::channel::<Event>(64);
    let chat = Chat::connect(&account, None, sender).await?;
    chat.send(Element::bare("presence", "jabber:client")).await;
    chat.send(room::info(&room.clone().into(), "info")).await;
    let (mut people, mut book) = (None, Book::default());
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = tokio::signal::ctrl_c() => break,
        };
        match event {
            Some(Event::Stanza(stanza)) if stanza.attr("id") == Some("info") => {
                if let Some(why) = room::error(&stanza) {
                    return Err(why.into());
                }
                people = Some(People::new(room.clone(), RoomInfo::read(&stanza), false, None));
                chat.send(room::join(&room, "minutes", None, 0)).await;
            }
            Some(Event::Stanza(stanza)) => {
                if let Some(people) = &mut people {
                    people.handle_presence(&stanza);
                    book.note(now(), people.list());
                }
            }
            Some(Event::Lost(lost)) => {
                println!("{lost}");
                break;
            }
            None => break,
        }
    }
    book.note(now(), vec![]);
    book.print();
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a program reads the clock")]
fn now() -> Instant {
    Instant::now()
}
