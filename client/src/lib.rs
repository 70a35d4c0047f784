//! The client half of CUSAX (RFC 7081): what a chat client with a SIP stack, or a softphone with a
//! chat account, has to decide so that its two accounts are one service.
//!
//! There is no IO in here and no clock: stanzas, SIP headers and conference documents go in, decisions
//! come out, so it fits any connection, runtime and user interface.
//!
//! | read | to learn |
//! | --- | --- |
//! | [`provision`] | where the two accounts come from, when to ask again, and what is switched off |
//! | [`connections`] | when to connect which, what the loss of one does, and what to show |
//! | [`security`] | whether both are protected alike, and as well as before |
//! | [`link`] | which room belongs to which conference, and whether to join it |
//! | [`people`] | one list of the people in both, with what each gets, and why oneself is not heard |
//! | [`caller`] | who is calling, and why they may or may not be named |
//! | [`number`] | whether two addresses are one |
//! | [`reach`] | at which addresses a contact can be called, and how they are known |
//! | [`route`] | through which account to call or chat, or whether to ask |
//! | [`cost`] | what to say before a call leaves the domain, or costs money |
//!
//! Documents of conferences are read and added up by [`cusax::conference`].
//!
//! # One list
//!
//! ```
//! use cusax::conference::{Document, Outcome, Subscriber};
//! use cusax_client::link::{Confirmation, RoomInfo};
//! use cusax_client::people::{Level, People};
//! use jid::BareJid;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let disco_info = include_str!("../examples/recorded/room.xml");
//! # let documents = include_str!("../examples/recorded/conference.xml");
//! # let presences = include_str!("../examples/recorded/presence.xml");
//! // The room's disco#info says where to call.
//! let info = RoomInfo::read(&disco_info.parse()?);
//! assert_eq!(info.conference, Some("sip:cave@conf.example.org".parse()?));
//!
//! // Each NOTIFY of the conference brings a document.
//! let mut subscriber = Subscriber::default();
//! for document in documents.lines() {
//!     match subscriber.handle_document(Document::from_xml(document)?) {
//!         Outcome::Applied | Outcome::Stale | Outcome::Foreign => {}
//!         Outcome::Refresh => println!("refresh the subscription"),
//!         Outcome::Ended | Outcome::TooMany => println!("end the subscription"),
//!     }
//! }
//! let conference = subscriber.conference().ok_or("nothing is known yet")?;
//!
//! // They speak for each other if each names the other.
//! let room = BareJid::new("cave@rooms.example.org")?;
//! let linked = Confirmation::by_conference(&conference.description, &room);
//! assert_eq!(linked, Confirmation::Mutual);
//!
//! let mut people = People::new(room, info, linked == Confirmation::Mutual, None);
//! for presence in presences.lines() {
//!     people.handle_presence(&presence.parse()?);
//! }
//! people.handle_conference(Some(conference));
//!
//! let list: Vec<_> = people.list().into_iter().map(|one| (one.name, one.level)).collect();
//! let expected = [
//!     ("Alice", Level::Both),
//!     ("Bob", Level::Text),
//!     ("Carol", Level::Text),
//!     ("dave (phone)", Level::Audio),
//!     ("Owner", Level::Text),
//! ];
//! assert_eq!(list, expected.map(|(name, level)| (name.to_owned(), level)));
//! # Ok(())
//! # }
//! ```
//!
//! # Who is calling
//!
//! ```
//! use cusax_client::caller::{Answer, Book, Call, Card, Contact, Reason, Trust, identify};
//! use cusax_client::number::{Country, Dialling};
//! use cusax_sip::header::{Headers, Name};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut headers = Headers::new();
//! headers.push(Name::FROM, "\"Your Bank\" <sip:+493011111@gw.example.org>;tag=1");
//! headers.push(Name::P_ASSERTED_IDENTITY, "<sip:+493011111@gw.example.org>");
//! headers.push(Name::CALL_INFO, "<xmpp:alice@example.org>;purpose=impp");
//! let call = Call::read(&headers, &Trust { asserted: true, ..Trust::default() });
//!
//! let mut book = Book::default();
//! let alice = jid::BareJid::new("alice@example.org")?;
//! book.contacts.insert(alice.clone(), Contact { name: "Alice".to_owned(), card: None });
//! let dialling = Dialling::new(Country::of("DE")).with_domain("gw.example.org");
//!
//! // The cue says whose card to fetch, and the card decides.
//! assert_eq!(identify(&call, &book, &dialling), Answer::Fetch(vec![alice.clone()]));
//! let card = "<vCard xmlns='vcard-temp'><TEL><NUMBER>030 11111</NUMBER></TEL></vCard>";
//! let contact = book.contacts.get_mut(&alice).ok_or("no longer a contact")?;
//! contact.card = Card::read(&card.parse()?);
//! let (name, jid, why) = ("Alice".to_owned(), Some(alice), Reason::CueAndCard);
//! assert_eq!(identify(&call, &book, &dialling), Answer::Named { name, jid, why });
//! # Ok(())
//! # }
//! ```

pub mod caller;
pub mod connections;
pub mod cost;
pub mod link;
pub mod number;
pub mod people;
pub mod provision;
pub mod reach;
pub mod route;
pub mod security;
