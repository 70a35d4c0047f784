//! At which addresses a contact can be called, and how they are known (RFC 7081 §3.3).
//!
//! The card of a contact, the directory and one's own address book say it. What a contact says in presence
//! or by PEP (XEP-0152) is a hint: it counts as theirs once something else says the same, and until then
//! only the person may call it, who is shown that nothing confirms it.

use std::collections::BTreeMap;

use cusax::identity::Aor;
use jid::BareJid;
use minidom::Element;

use crate::caller::{Book, Card, Entry};
use crate::number::{Address, Dialling};

/// An address of a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// The address.
    pub address: Address,
    /// Whether a button for video makes sense (RFC 7081 §3.3).
    pub video: bool,
    /// How it is known.
    pub known: Known,
    /// The contact says that they are there (XEP-0152).
    pub hinted: bool,
}

/// How an address is known to be a contact's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// The directory of the provider or company says so.
    Directory,
    /// The person's own address book does.
    AddressBook,
    /// The contact's card does.
    Card,
}

/// Where a contact can be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// What is theirs, what they prefer first. A "call" button is shown if there is one.
    pub addresses: Vec<Reachable>,
    /// What they say to be theirs and nothing confirms.
    pub unconfirmed: Vec<Address>,
}

/// Reads the addresses that a `<reach/>` announces, in its order (XEP-0152 §2); an element that holds one,
/// a presence or the item of a PEP event, counts as it. An empty one takes back what was said.
pub fn hints(said: &Element) -> Vec<String> {
    let reach = if said.is("reach", REACH) { Some(said) } else { said.get_child("reach", REACH) };
    let addresses = reach.into_iter().flat_map(Element::children);
    addresses
        .filter(|child| child.is("addr", REACH))
        .filter_map(|address| address.attr("uri"))
        .filter(|uri| uri.len() <= MAX_URI)
        .map(str::to_owned)
        .take(MAX_HINTS)
        .collect()
}

/// Finds where a contact can be called. `hints` is what they announce. `owners` has the cards of SIP
/// accounts, found some other way than through what the contact says: a hint is confirmed if the contact's
/// card has the address and the address's own card has the contact, or if the directory or the person's own
/// address book has both.
pub fn reach(
    contact: &BareJid,
    book: &Book,
    hints: &[String],
    owners: &BTreeMap<Aor, Card>,
    dialling: &Dialling,
) -> Reach {
    let mut addresses: Vec<Reachable> = vec![];
    let mut add = |address: Address, video: bool, known: Known| {
        if let Some(one) = addresses.iter_mut().find(|one| one.address == address) {
            one.video |= video;
        } else if addresses.len() < MAX_ADDRESSES {
            addresses.push(Reachable { address, video, known, hinted: false });
        }
    };
    let entries = |entries: &'_ [Entry]| -> Vec<Address> {
        let theirs = entries.iter().filter(|entry| entry.jid.as_ref() == Some(contact));
        theirs.flat_map(|entry| &entry.tels).filter_map(|tel| dialling.read(tel)).collect()
    };
    for address in entries(&book.directory) {
        add(address, false, Known::Directory);
    }
    for address in entries(&book.own) {
        add(address, false, Known::AddressBook);
    }
    let card = book.contacts.get(contact).and_then(|known| known.card.as_ref());
    let card = card.filter(|card| card.is_of(contact));
    for tel in card.into_iter().flat_map(|card| &card.tels).filter(|tel| !tel.machine) {
        // An extension means something only where it is dialled.
        if let Some(address @ (Address::Number(_) | Address::Sip(_))) = dialling.read(&tel.number) {
            add(address, tel.video, Known::Card);
        }
    }
    let mut unconfirmed = vec![];
    let mut first = vec![];
    for hint in hints.iter().filter_map(|hint| dialling.read(hint)) {
        let known = addresses.iter().position(|one| one.address == hint);
        match known.filter(|at| confirms(&addresses[*at], contact, owners)) {
            Some(at) => {
                let mut one = addresses.remove(at);
                one.hinted = true;
                first.push(one);
            }
            // Known by the card alone: it stays where it is.
            None if known.is_some() || first.iter().any(|one| one.address == hint) => {}
            None if !unconfirmed.contains(&hint) => unconfirmed.push(hint),
            None => {}
        }
    }
    first.append(&mut addresses);
    Reach { addresses: first, unconfirmed }
}

/// Whether what is known of an address confirms that it is this contact's, also from its own side.
fn confirms(one: &Reachable, contact: &BareJid, owners: &BTreeMap<Aor, Card>) -> bool {
    match (one.known, &one.address) {
        (Known::Directory | Known::AddressBook, _) => true,
        (Known::Card, Address::Sip(aor)) => {
            owners.get(aor).is_some_and(|card| card.jids.contains(contact))
        }
        (Known::Card, Address::Number(_) | Address::Local(_)) => false,
    }
}

const REACH: &str = "urn:xmpp:reach:0";
/// The most addresses of one contact.
const MAX_ADDRESSES: usize = 64;
/// The most addresses that are taken from one announcement.
const MAX_HINTS: usize = 16;
/// The longest URI that is, in bytes.
const MAX_URI: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{Contact, Tel};
    use crate::number::Country;

    fn jid(text: &str) -> BareJid {
        BareJid::new(text).unwrap()
    }

    fn show(address: &Address) -> String {
        address.uri("own.test").unwrap().to_string()
    }

    #[test]
    fn calls_what_is_known_and_shows_what_is_only_said() {
        let check = |hints: &[&str], expected: &[&str], unconfirmed: &[&str]| {
            let tel =
                |number: &str, video| Tel { number: number.to_owned(), video, machine: false };
            let fax = Tel { machine: true, ..tel("030 99999", false) };
            let tels =
                vec![tel("sip:bob@x.test", true), tel("030 222222", false), fax, tel("12", false)];
            let card = Card { tels, jids: vec![] };
            let entry = |tel: &str, at: &str| Entry {
                name: "B".to_owned(),
                jid: Some(jid(at)),
                tels: vec![tel.to_owned()],
            };
            let book = Book {
                contacts: [(
                    jid("bob@x.test"),
                    Contact { name: "Bob".to_owned(), card: Some(card) },
                )]
                .into(),
                directory: vec![
                    entry("sip:bob@desk.test", "bob@x.test"),
                    entry("77", "eve@x.test"),
                ],
                own: vec![entry("+4930333333", "bob@x.test")],
            };
            let owner = Card { tels: vec![], jids: vec![jid("bob@x.test")] };
            let owners = [("sip:bob@x.test".parse().unwrap(), owner)].into();
            let hints: Vec<_> = hints.iter().map(|hint| (*hint).to_owned()).collect();
            let dialling = Dialling::new(Country::of("DE"));
            let reach = reach(&jid("bob@x.test"), &book, &hints, &owners, &dialling);
            let shown: Vec<_> = reach
                .addresses
                .iter()
                .map(|one| {
                    let video = if one.video { " video" } else { "" };
                    let hinted = if one.hinted { " here" } else { "" };
                    format!("{} {:?}{video}{hinted}", show(&one.address), one.known)
                })
                .collect();
            assert_eq!(shown, expected, "{hints:?}");
            let said: Vec<_> = reach.unconfirmed.iter().map(show).collect();
            assert_eq!(said, unconfirmed, "{hints:?}");
        };
        let (desk, own) =
            ("sip:bob@desk.test Directory", "sip:+4930333333@own.test;user=phone AddressBook");
        let card = "sip:bob@x.test Card video";
        let mobile = "sip:+4930222222@own.test;user=phone Card";
        check(&[], &[desk, own, card, mobile], &[]);
        // Both cards say it: it comes first, as the contact wants it.
        check(&["sip:bob@x.test"], &[&format!("{card} here"), desk, own, mobile], &[]);
        check(&["tel:+4930333333"], &[&format!("{own} here"), desk, card, mobile], &[]);
        // One card alone: it may be called, and nothing follows from the hint.
        check(&["tel:+49-30-222222"], &[desk, own, card, mobile], &[]);
        // Nothing else says it.
        check(
            &["sip:eve@evil.test", "sip:eve@evil.test"],
            &[desk, own, card, mobile],
            &["sip:eve@evil.test"],
        );
        check(&["xmpp:bob@x.test", "mailto:b@x", ""], &[desk, own, card, mobile], &[]);
    }

    #[test]
    fn a_card_of_somebody_else_gives_no_address() {
        let tels = vec![Tel { number: "sip:v@x.test".to_owned(), ..Tel::default() }];
        let card = Card { tels, jids: vec![jid("victim@x.test")] };
        let contact = Contact { name: "Trent".to_owned(), card: Some(card) };
        let book = Book { contacts: [(jid("trent@x.test"), contact)].into(), ..Book::default() };
        let found = reach(&jid("trent@x.test"), &book, &[], &BTreeMap::new(), &Dialling::default());
        assert_eq!(found, Reach::default());
    }

    #[test]
    fn reads_announcements() {
        let check = |xml: &str, expected: &[&str]| {
            assert_eq!(hints(&xml.parse().unwrap()), expected, "{xml}");
        };
        let reach = |inner: &str| format!("<reach xmlns='urn:xmpp:reach:0'>{inner}</reach>");
        let two = reach("<addr uri='tel:+1'><desc>Cell</desc></addr><addr uri='sip:a@x'/><addr/>");
        check(&two, &["tel:+1", "sip:a@x"]);
        check(&format!("<presence xmlns='jabber:client'>{two}</presence>"), &["tel:+1", "sip:a@x"]);
        check(&reach(""), &[]);
        check("<presence xmlns='jabber:client'><reach xmlns='other'/></presence>", &[]);
        check(&reach(&"<addr uri='sip:a@x'/>".repeat(40)), &["sip:a@x"; MAX_HINTS]);
        check(&reach(&format!("<addr uri='sip:{}@x'/>", "a".repeat(600))), &[]);
    }
}
