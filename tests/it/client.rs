//! What a client of ours (`cusax-client`) makes of what the server tells: one list of the people in a
//! room, from the presence of chat and the documents of the conference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use std::{env, fs};

use cusax::conference::{Document, Outcome, Subscriber};
use cusax_client::link::{Confirmation, RoomInfo};
use cusax_client::people::{Level, People};
use jid::BareJid;
use proptest::prelude::*;

use crate::site::{Seen, Site, cave};

const ROOM: &str = "cave@rooms.example.org";
const CHATS: [&str; 5] = ["owner/pc", "alice/pc", "alice/tablet", "bob/pc", "carol/pc"];
const NICKS: [&str; 5] = ["Owner", "Alice", "Al", "Bob", "dave"];
/// Alice and the owner are bound by the directory to their chats; Dave and Eve are nobody's.
const PHONES: [&str; 4] = [
    "sip:owner@conf.example.org",
    "sip:alice@conf.example.org",
    "sip:dave@pbx.example.net",
    "sip:eve@pbx.example.net",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever people do, the list has everyone once, and with what they get: for a moderator, who
    /// sees addresses, and for anyone else, who does not.
    #[test]
    fn one_list_has_everyone_once(
        steps in prop::collection::vec((0..3_u8, 0..5_usize, 0..5_usize), 1..25),
        viewer in prop::sample::select(&[(0, 0), (3, 3)][..]),
    ) {
        let mut meeting = Meeting::new(viewer.0, viewer.1);
        for (what, who, nick) in steps {
            // The two who look stay.
            match what {
                0 if who != 0 && who != viewer.0 => meeting.join(who, NICKS[nick]),
                1 if who != 0 && who != viewer.0 => meeting.leave(who),
                2 => meeting.call_or_hang_up(who % PHONES.len()),
                _ => {}
            }
            meeting.wait();
            meeting.compare();
        }
    }
}

/// Makes what `who_is_here`, the example of `cusax-client`, reads: Alice in chat and on the call, Bob
/// in chat and without voice, Dave on the phone, seen by Carol.
#[test]
fn the_clients_example_reads_what_the_server_writes() {
    let mut meeting = Meeting::new(4, 3);
    meeting.join(1, "Alice");
    meeting.join(3, "Bob");
    meeting.call_or_hang_up(1);
    meeting.call_or_hang_up(2);
    let moderate = "<item nick='Bob' role='visitor'/>";
    let seen = meeting.site.stanza(&format!(
        "<iq xmlns='jabber:client' type='set' id='m' from='owner@example.org/pc' to='{ROOM}'>
         <query xmlns='http://jabber.org/protocol/muc#admin'>{moderate}</query></iq>"
    ));
    meeting.see(seen);
    meeting.wait();
    meeting.compare();
    let presences: String = meeting.presences.iter().map(|one| format!("{one}\n")).collect();
    for (file, text) in [
        ("room.xml", &format!("{}\n", meeting.info)),
        ("presence.xml", &presences),
        ("conference.xml", &format!("{}\n", meeting.documents.join("\n"))),
    ] {
        let path = format!("{}/client/examples/recorded/{file}", env!("CARGO_MANIFEST_DIR"));
        if env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, text).unwrap();
        }
        let recorded = fs::read_to_string(&path).unwrap();
        assert_eq!(timeless(&recorded), timeless(text), "{file}: UPDATE_EXPECT=1 writes it");
    }
}

/// A recording without what differs between two runs.
fn timeless(text: &str) -> String {
    let mut pieces = text.split("<when>");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| all + piece.split_once("</when>").unwrap().1)
}

/// The server, people, and a client that sees the room by one chat and one subscription.
struct Meeting {
    site: Site,
    /// The chat that looks, and what it was sent.
    eyes: String,
    presences: Vec<String>,
    info: String,
    documents: Vec<String>,
    subscriber: Subscriber,
    people: People,
    joined: BTreeMap<usize, String>,
}

impl Meeting {
    /// A room that the owner made; a chat and a phone look at it.
    fn new(chat: usize, phone: usize) -> Self {
        let mut site = Site::new(&PHONES);
        let eyes = jid(chat);
        let make = [
            enter(0, "Owner"),
            format!(
                "<iq xmlns='jabber:client' type='set' id='c' from='{}' to='{ROOM}'>
                 <query xmlns='http://jabber.org/protocol/muc#owner'>
                 <x xmlns='jabber:x:data' type='submit'/></query></iq>",
                jid(0)
            ),
        ];
        let mut seen: Vec<_> = make.iter().flat_map(|stanza| site.stanza(stanza)).collect();
        let mut joined = BTreeMap::from([(0, "Owner".to_owned())]);
        if chat != 0 {
            seen.extend(site.stanza(&enter(chat, "Carol")));
            joined.insert(chat, "Carol".to_owned());
        }
        let asked = site.stanza(&format!(
            "<iq xmlns='jabber:client' type='get' id='d' from='{eyes}' to='{ROOM}'>
             <query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
        ));
        let info = asked.iter().find_map(|seen| match seen {
            Seen::Stanza(stanza) if stanza.attr("id") == Some("d") => Some(stanza.clone()),
            _ => None,
        });
        let info = info.unwrap();
        let room = RoomInfo::read(&info);
        assert!(room.hats && room.occupant_ids);
        let people = People::new(BareJid::new(ROOM).unwrap(), room, false, None);
        let mut meeting = Self {
            eyes,
            presences: vec![],
            info: String::from(&info),
            documents: vec![],
            subscriber: Subscriber::default(),
            people,
            joined,
            site,
        };
        meeting.see(seen);
        let seen = meeting.site.subscribe(phone, "cave");
        meeting.see(seen);
        // Each side names the other.
        let uri = RoomInfo::read(&info).conference.unwrap();
        assert_eq!(Confirmation::by_room(&RoomInfo::read(&info), &uri), Confirmation::Mutual);
        let description = &meeting.subscriber.conference().unwrap().description;
        let back = Confirmation::by_conference(description, &BareJid::new(ROOM).unwrap());
        assert_eq!(back, Confirmation::Mutual);
        meeting.people.set_linked(true);
        meeting
    }

    fn join(&mut self, chat: usize, nick: &str) {
        let seen = self.site.stanza(&enter(chat, nick));
        self.see(seen);
        self.joined.entry(chat).or_insert_with(|| nick.to_owned());
    }

    fn leave(&mut self, chat: usize) {
        let seen = self.site.stanza(&format!(
            "<presence xmlns='jabber:client' type='unavailable' from='{}' to='{ROOM}/x'/>",
            jid(chat)
        ));
        self.see(seen);
        self.joined.remove(&chat);
    }

    fn call_or_hang_up(&mut self, phone: usize) {
        let seen = match self.site.phones[phone].call {
            None => self.site.call(phone, "cave"),
            Some(_) => self.site.hang_up(phone),
        };
        self.see(seen);
    }

    /// Long enough for a document to be due.
    fn wait(&mut self) {
        let seen = self.site.wait(Duration::from_secs(6));
        self.see(seen);
    }

    fn see(&mut self, seen: Vec<Seen>) {
        for it in seen {
            match it {
                Seen::Stanza(stanza) if stanza.attr("to") == Some(&self.eyes) => {
                    if stanza.name() == "presence" {
                        self.people.handle_presence(&stanza);
                        self.presences.push(String::from(&stanza));
                    }
                }
                Seen::Request { request, .. } if request.method.as_str() == "NOTIFY" => {
                    let text = String::from_utf8(request.body.clone()).unwrap();
                    let document = Document::from_xml(&text).unwrap();
                    assert_eq!(self.subscriber.handle_document(document), Outcome::Applied);
                    self.people.handle_conference(self.subscriber.conference());
                    self.documents.push(text.lines().skip(1).collect());
                }
                Seen::Stanza(_) | Seen::Request { .. } | Seen::Media(_) | Seen::Response { .. } => {
                }
            }
        }
    }

    /// What the list says, and what the room knows.
    fn compare(&self) {
        let room = self.site.bridge.rooms().get(&cave()).expect("its owner stays");
        let truth: BTreeMap<_, _> = room
            .people
            .values()
            .map(|person| {
                let level = match (person.chats.is_empty(), person.legs.is_empty()) {
                    (false, false) => Level::Both,
                    (false, true) => Level::Text,
                    (true, _) => Level::Audio,
                };
                (person.nick.to_string(), level)
            })
            .collect();
        let list = self.people.list();
        let listed: BTreeMap<_, _> =
            list.iter().map(|person| (person.name.clone(), person.level)).collect();
        assert_eq!(listed, truth, "{list:#?}");
        assert_eq!(list.len(), truth.len(), "someone is listed twice: {list:#?}");
        let entities: BTreeSet<_> = list.iter().map(|person| &person.entity).collect();
        assert_eq!(entities.len(), list.len(), "everyone is in both: {list:#?}");
    }
}

fn jid(chat: usize) -> String {
    let (user, resource) = CHATS[chat].split_once('/').unwrap();
    format!("{user}@example.org/{resource}")
}

fn enter(chat: usize, nick: &str) -> String {
    format!(
        "<presence xmlns='jabber:client' from='{}' to='{ROOM}/{nick}'>
         <x xmlns='http://jabber.org/protocol/muc'/></presence>",
        jid(chat)
    )
}
