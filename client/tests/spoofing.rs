//! Whoever claims to be somebody: in a call, a card, a presence, a conference, a room. One table of what is
//! forged and what the client makes of it; nobody is named, merged or joined on a claim.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use cusax::conference::{
    AUDIO, Conference, Description, Endpoint, EndpointStatus, GROUP_TEXT_CHAT, MESSAGE, Media,
    MediaStatus, UriEntry, User, Users,
};
use cusax::identity::Aor;
use cusax_client::caller::{Answer, Book, Call, Card, Contact, Trust, identify};
use cusax_client::link::{Confirmation, Join, Related, RoomInfo, Way, offer, rooms};
use cusax_client::number::{Address, Country, Dialling};
use cusax_client::people::People;
use cusax_client::provision::{follow, places};
use cusax_client::reach::{hints, reach};
use cusax_sip::header::{Headers, Name};
use jid::BareJid;

const ROOM: &str = "tea@rooms.test";

fn jid(text: &str) -> BareJid {
    BareJid::new(text).unwrap()
}

fn dialling() -> Dialling {
    Dialling::new(Country::of("DE")).with_domain("home.test")
}

/// Alice is honest; Mallory, a contact as well, writes what they like into their own card.
fn book(mallory: &str) -> Book {
    let contact = |name: &str, card: &str| Contact {
        name: name.to_owned(),
        card: Card::read(&format!("<vCard xmlns='vcard-temp'>{card}</vCard>").parse().unwrap()),
    };
    let alice =
        "<TEL><NUMBER>sip:alice@home.test</NUMBER></TEL><JABBERID>alice@home.test</JABBERID>";
    let contacts = [
        (jid("alice@home.test"), contact("Alice", alice)),
        (jid("mallory@evil.test"), contact("Mallory", mallory)),
    ];
    Book { contacts: contacts.into(), ..Book::default() }
}

/// Whom a call is shown to be from. The proxy vouches for its own domain and for what it asserts.
fn caller(mallory: &str, headers: &[(Name, &str)]) -> String {
    let mut all = Headers::new();
    for (name, value) in headers {
        all.push(name.clone(), *value);
    }
    let domains = ["home.test".to_owned()].into();
    let call = Call::read(&all, &Trust { asserted: true, domains });
    match identify(&call, &book(mallory), &dialling()) {
        Answer::Named { name, .. } => name,
        Answer::Fetch(_) => "cards are missing".to_owned(),
        Answer::Unnamed { address, why } => format!("{} ({why:?})", address.unwrap_or_default()),
    }
}

#[test]
fn calls() {
    let check = |what: &str, card: &str, headers: &[(Name, &str)], expected: &str| {
        assert_eq!(caller(card, headers), expected, "{what}");
    };
    let own = (Name::FROM, "<sip:mallory@evil.test>;tag=1");
    let vouched = (Name::P_ASSERTED_IDENTITY, "<sip:mallory@evil.test>");
    let as_alice = (Name::CALL_INFO, "<xmpp:alice@home.test>;purpose=impp");
    let honest = "<TEL><NUMBER>sip:mallory@evil.test</NUMBER></TEL>";
    // What shows that the table can name somebody at all.
    let alice = (Name::FROM, "<sip:alice@home.test>;tag=1");
    check("nothing", honest, &[alice.clone(), as_alice.clone()], "Alice");
    check("nothing", honest, &[own.clone(), vouched.clone()], "Mallory");

    let unconfirmed = "mallory@evil.test (CueNotConfirmed)";
    check("Call-Info", honest, &[own.clone(), vouched.clone(), as_alice.clone()], unconfirmed);
    let renamed = (Name::FROM, "\"Alice\" <sip:mallory@evil.test>;tag=1");
    check("the name", "", std::slice::from_ref(&renamed), "mallory@evil.test (NotVouched)");
    check("the name", "", &[renamed, vouched.clone()], "mallory@evil.test (Unknown)");
    let user = (Name::FROM, "<sip:alice%40home.test@evil.test>;tag=1");
    check("the user part", "", &[user, as_alice.clone()], "evil.test (NotVouched)");
    let host = (Name::FROM, "<sip:alice@home.test.evil.test>;tag=1");
    check("the host", "", &[host], "alice@home.test.evil.test (NotVouched)");
    let from = (Name::FROM, "<sip:alice@home.test>;tag=1");
    check("From, over an asserted identity", honest, &[from, vouched.clone()], "Mallory");
    let two = (Name::CALL_INFO, "<xmpp:alice@home.test>;purpose=impp, <xmpp:x@y>;purpose=impp");
    check("two at once", "", &[own.clone(), vouched.clone(), two], "mallory@evil.test (Unknown)");
    let hidden = (Name::PRIVACY, "id");
    check("nobody, with a cue", "", &[own, vouched, as_alice, hidden], " (Anonymous)");
    // A card that has what is Alice's makes neither of the two of who calls.
    let stolen = "<TEL><NUMBER>sip:alice@home.test</NUMBER></TEL>";
    check("a card", stolen, std::slice::from_ref(&alice), "alice@home.test (Ambiguous)");
    // A card that says that it is Alice's is nobody's.
    let posing = "<TEL><NUMBER>sip:mallory@evil.test</NUMBER></TEL>\
                  <JABBERID>alice@home.test</JABBERID>";
    let vouched = (Name::P_ASSERTED_IDENTITY, "<sip:mallory@evil.test>");
    let own = (Name::FROM, "<sip:mallory@evil.test>;tag=1");
    check("whose card it is", posing, &[own, vouched], "mallory@evil.test (Unknown)");
}

#[test]
fn addresses() {
    let check = |what: &str, card: &str, said: &str, expected: (usize, usize)| {
        let said = format!("<reach xmlns='urn:xmpp:reach:0'><addr uri='{said}'/></reach>");
        let hints = hints(&said.parse().unwrap());
        // Alice's own account has a card that names her: it confirms nobody else.
        let alice = Card { jids: vec![jid("alice@home.test")], ..Card::default() };
        let owners: BTreeMap<Aor, Card> = [("sip:alice@home.test".parse().unwrap(), alice)].into();
        let mallory = jid("mallory@evil.test");
        let found = reach(&mallory, &book(card), &hints, &owners, &dialling());
        let hinted = found.addresses.iter().filter(|one| one.hinted).count();
        assert_eq!((hinted, found.unconfirmed.len()), expected, "{what}");
        // Whatever was said: what is called first is never on the word of presence alone.
        let alices = Address::Sip("sip:alice@home.test".parse().unwrap());
        assert!(!found.addresses.iter().any(|one| one.hinted && one.address == alices));
    };
    check("an address of nobody", "", "sip:x@evil.test", (0, 1));
    check("Alice's address", "", "sip:alice@home.test", (0, 1));
    let stolen = "<TEL><NUMBER>sip:alice@home.test</NUMBER></TEL>";
    check("Alice's address, in the card too", stolen, "sip:alice@home.test", (0, 0));
    check(
        "a number in the card",
        "<TEL><NUMBER>030 123456</NUMBER></TEL>",
        "tel:+4930123456",
        (0, 0),
    );
    check("no address", "", "javascript:alert(1)", (0, 0));
}

/// A list of a room with Alice in it, by her nick and perhaps her JID, and of a conference.
struct Meeting {
    people: People,
}

impl Meeting {
    fn new(linked: bool, hats: bool, presence: &str) -> Self {
        let info = RoomInfo { conference: None, hats, occupant_ids: hats };
        let own = Some("sip:me@home.test".parse().unwrap());
        let mut people = People::new(jid(ROOM), info, linked, own);
        let hat = |word: &str| format!("<hat uri='urn:x-cusax:hat:{word}' title='x'/>");
        let worn = [hat("on-the-call"), hat("by-phone")].concat();
        let text = format!(
            "<presence xmlns='jabber:client' from='{ROOM}/Alice'>\
             <hats xmlns='urn:xmpp:hats:0'>{worn}</hats>\
             <occupant-id xmlns='urn:xmpp:occupant-id:0' id='a'/>\
             <x xmlns='http://jabber.org/protocol/muc#user'>\
             <item affiliation='none' role='participant' {presence}/></x></presence>"
        );
        people.handle_presence(&text.parse().unwrap());
        Self { people }
    }

    /// A user of the conference, and how many people there are then; who is one with Alice is proven.
    fn with(mut self, entity: &str, name: &str, xmpp: Option<&str>, nick: bool) -> usize {
        let endpoint = |entity: &str, kind: &str| Endpoint {
            entity: entity.to_owned(),
            status: Some(EndpointStatus::Connected),
            media: vec![Media {
                id: "1".to_owned(),
                kind: kind.to_owned(),
                label: None,
                src_id: None,
                status: MediaStatus::SendRecv,
            }],
            ..Endpoint::default()
        };
        let chat = nick.then(|| endpoint(&format!("xmpp:{ROOM}/Alice"), MESSAGE));
        let user = User {
            entity: entity.to_owned(),
            display_text: Some(name.to_owned()),
            associated_aors: xmpp
                .map(|uri| UriEntry { uri: uri.to_owned(), ..UriEntry::default() })
                .into_iter()
                .collect(),
            endpoints: std::iter::once(endpoint(&format!("{entity};gr=1"), AUDIO))
                .chain(chat)
                .collect(),
            ..User::default()
        };
        let users = Users { list: vec![user], ..Users::default() };
        self.people.handle_conference(Some(&Conference { users, ..Conference::default() }));
        let list = self.people.list();
        assert!(list.len() > 1 || list[0].proof.is_some());
        assert!(list.iter().all(|person| !person.own), "{list:?}");
        list.len()
    }
}

#[test]
fn conferences_and_rooms() {
    let alice = "jid='alice@home.test/pc'";
    let (id, of) = ("sip:1f@anonymous.invalid", Some("xmpp:alice@home.test"));
    // What shows that the table can merge at all.
    assert_eq!(Meeting::new(true, true, alice).with(id, "x", of, false), 1);
    assert_eq!(Meeting::new(true, true, "").with(id, "Alice", None, false), 1);
    let check = |what: &str, linked, hats, presence: &str, entity: &str, name: &str, xmpp, nick| {
        let meeting = Meeting::new(linked, hats, presence);
        assert_eq!(meeting.with(entity, name, xmpp, nick), 2, "{what}");
    };
    check("a JID, by a conference of nobody", false, true, alice, id, "x", of, true);
    check("a nick, by a conference of nobody", false, true, "", id, "Alice", None, true);
    let other = Some("xmpp:mallory@evil.test");
    check("a nick, with another JID", true, true, alice, id, "x", other, true);
    check(
        "an address that nothing binds",
        true,
        true,
        alice,
        "sip:alice@home.test",
        "x",
        None,
        false,
    );
    check("a name", true, true, "", id, "alice", None, false);
    check("hats, in a room that gives none", true, false, "", id, "Alice", None, false);
    let nick = "xmpp:tea@rooms.test.evil.test/Alice";
    check("the room's address", true, true, "", id, "x", Some(nick), false);
}

#[test]
fn a_nick_of_a_contact_is_a_nick() {
    // Mallory enters under the name of a contact: the list has a nick, and no JID that would be a contact's.
    let mallory = Meeting::new(true, true, "jid='mallory@evil.test/x'");
    let list = mallory.people.list();
    assert_eq!(list[0].jid.as_ref().map(|jid| jid.to_bare()), Some(jid("mallory@evil.test")));
    let unseen = Meeting::new(true, true, "");
    assert_eq!(unseen.people.list()[0].jid, None);
}

#[test]
fn links() {
    let check = |conference: &str, room: &str, said: Confirmation, expected: Join| {
        let conference = conference.parse().unwrap();
        for way in [Way::ToRoom, Way::ToConference] {
            let related = Related::default().with(["home.test"]);
            let offer = offer(&way, &conference, &jid(room), &said, &related);
            assert_eq!(offer.join, expected, "{conference} {room}");
            assert!(expected != Join::ByUser || !offer.hints.is_empty());
        }
    };
    check("sip:tea@home.test", "tea@rooms.home.test", Confirmation::Mutual, Join::Related);
    check("sip:tea@home.test", "tea@rooms.evil.test", Confirmation::Mutual, Join::ByUser);
    check("sip:tea@home.test.evil.test", "tea@home.test", Confirmation::Mutual, Join::ByUser);
    check("sip:tea@home.test", "tea@home.test", Confirmation::Another, Join::ByUser);
    // A room that names many rooms, or something else, names what a client knows to enter.
    let entry = |uri: &str| UriEntry::new(uri, GROUP_TEXT_CHAT);
    let service_uris = vec![entry("javascript:x"), entry("xmpp:home.test"), entry("xmpp:a@b.test")];
    let named = rooms(&Description { service_uris, ..Description::default() });
    assert_eq!(named, [jid("a@b.test")]);
}

#[test]
fn provisioning() {
    let place = &places("home.test").unwrap()[0];
    for location in ["https://evil.test/p", "//evil.test/p", "https://home.test.evil.test/p"] {
        assert!(!follow(place, location).unwrap().password, "{location}");
    }
    for location in ["http://home.test/p", "https://home.test@evil.test/p", "ftp://home.test/"] {
        assert!(follow(place, location).is_err(), "{location}");
    }
}
