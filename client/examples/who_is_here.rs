//! Prints the one list of people of a room and its conference, from what a server told a client:
//! the room's disco#info, the presences since the client entered, and the conference's documents.
//!
//! ```text
//! cargo run -p cusax-client --example who_is_here [FOLDER]
//! ```
//!
//! Without a folder it reads `examples/recorded/`, a meeting at a server of this repository: Alice is
//! in chat and on the call, Bob may read only, Dave has a plain phone, and Carol looks.

use std::error::Error;
use std::{env, fs};

use cusax::conference::{Document, Subscriber};
use cusax_client::link::{Confirmation, Related, RoomInfo, Way, offer};
use cusax_client::people::{People, Person, Voice};
use jid::Jid;
use minidom::Element;

fn main() -> Result<(), Box<dyn Error>> {
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/recorded");
    let folder = env::args().nth(1).unwrap_or(recorded.to_owned());
    let lines = |file: &str| fs::read_to_string(format!("{folder}/{file}"));

    // The room says where to call.
    let answer: Element = lines("room.xml")?.parse()?;
    let room = Jid::new(answer.attr("from").ok_or("disco#info from nobody")?)?.to_bare();
    let info = RoomInfo::read(&answer);
    let conference = info.conference.clone().ok_or("this room has no conference")?;

    // The conference says who is in it, and which room it belongs to.
    let mut subscriber = Subscriber::default();
    for document in lines("conference.xml")?.lines() {
        subscriber.handle_document(Document::from_xml(document)?);
    }
    let known = subscriber.conference().ok_or("no full document")?;
    let confirmation = Confirmation::by_conference(&known.description, &room);

    let related = Related::default().with(["example.org"]);
    let offer = offer(&Way::ToConference, &conference, &room, &confirmation, &related);
    println!("{room} is also at {} ({:?}, {confirmation:?})\n", offer.show, offer.join);

    // Both together say who is here, and how.
    let mut people = People::new(room, info, confirmation == Confirmation::Mutual, None);
    for presence in lines("presence.xml")?.lines() {
        people.handle_presence(&presence.parse()?);
    }
    people.handle_conference(Some(known));
    for person in people.list() {
        println!("{}", line(&person));
    }
    Ok(())
}

fn line(person: &Person) -> String {
    let own = if person.own { " (you)" } else { "" };
    let voice = match person.voice {
        Some(Voice::OnHold) => "on hold",
        Some(Voice::Muted) => "muted",
        Some(Voice::Open) => "may be heard",
        None => "",
    };
    let role = person.role.map(|role| format!("{role:?}")).unwrap_or_default();
    let name = format!("{}{own}", person.name);
    let text = format!("{name:<14} {:<7} {role:<12} {voice}", format!("{:?}", person.level));
    text.trim_end().to_owned()
}
