//! Who is calling (RFC 7081 §3.5): a name only for whom it was confirmed, and why in every case.
//!
//! The name that a call brings is never shown, and the JID in its Call-Info is a cue where to look
//! first, no more. What confirms is the address that the user's own proxy vouches for, found in the
//! directory, the user's address book, or the card of a contact whom the user has in their roster.

use std::collections::{BTreeMap, BTreeSet};

use cusax::identity::{Aor, jid_of_xmpp_uri};
use cusax_sip::header::Headers;
use cusax_sip::uri::Uri;
use jid::BareJid;
use minidom::Element;

use crate::number::{Address, Dialling};

/// Whom the user's side believes about callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Calls come over a protected connection from the user's own proxy, which sets
    /// P-Asserted-Identity and removes what others set (RFC 3325 §5).
    pub asserted: bool,
    /// The domains whose users that proxy lets nobody else call as: a From of theirs counts too.
    pub domains: BTreeSet<String>,
}

/// What a call says of its caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Whoever calls wants not to be known (RFC 3323, RFC 3325).
    pub anonymous: bool,
    /// The addresses that the proxy vouches for.
    pub vouched: Vec<Uri>,
    /// The address that the caller claims.
    pub claimed: Option<Uri>,
    /// Whom the caller says they are in chat (RFC 6993).
    pub cue: Option<BareJid>,
}

impl Call {
    /// Reads the headers of an INVITE. What is malformed counts as not said; a Privacy header that is
    /// malformed was meant to hide something.
    pub fn read(headers: &Headers, trust: &Trust) -> Self {
        let from = headers.from().ok().map(|from| from.uri);
        let nobody = |uri: &Uri| {
            uri.as_sip().is_some_and(|uri| {
                let host = uri.host.to_string().to_ascii_lowercase();
                host == "invalid" || host.ends_with(".invalid")
            })
        };
        let hides = |value: &&str| {
            ["id", "header", "user"].iter().any(|hide| value.eq_ignore_ascii_case(hide))
        };
        let asks = headers.privacy().map_or(true, |values| values.iter().any(hides));
        if asks || from.as_ref().is_some_and(nobody) {
            return Self { anonymous: true, ..Self::default() };
        }
        let asserted = headers.asserted_identities().unwrap_or_default();
        let mut vouched: Vec<Uri> = if trust.asserted {
            asserted.into_iter().map(|identity| identity.uri).take(MAX_ASSERTED).collect()
        } else {
            vec![]
        };
        let ours = |uri: &&Uri| {
            uri.as_sip().is_some_and(|uri| {
                trust.domains.contains(&uri.host.to_string().to_ascii_lowercase())
            })
        };
        if vouched.is_empty() {
            vouched.extend(from.as_ref().filter(ours).cloned());
        }
        let cues = headers.call_info().unwrap_or_default();
        let cues = cues
            .iter()
            .filter(|info| info.purpose().is_some_and(|for_| for_.eq_ignore_ascii_case("impp")));
        let cues: BTreeSet<_> = cues
            .filter_map(|info| jid_of_xmpp_uri(&info.uri.to_string()))
            .map(|jid| jid.to_bare())
            .collect();
        // Who is two is nobody.
        let cue = cues.first().filter(|_| cues.len() == 1).cloned();
        Self { anonymous: false, vouched, claimed: from, cue }
    }
}

/// What the user's side knows of people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// The roster.
    pub contacts: BTreeMap<BareJid, Contact>,
    /// The provider's or company's directory, which may be believed.
    pub directory: Vec<Entry>,
    /// The user's own address book.
    pub own: Vec<Entry>,
}

/// Someone in the roster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// What the user calls them.
    pub name: String,
    /// Their card; `None` if it was not fetched yet. Who has none has an empty one.
    pub card: Option<Card>,
}

/// An entry of a directory or an address book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// Their JID, if they have one.
    pub jid: Option<BareJid>,
    /// Their addresses, as they are written there.
    pub tels: Vec<String>,
}

/// What someone's card says of their addresses (XEP-0054, XEP-0292).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// `tel` fields, the preferred first, else in the order of the card.
    pub tels: Vec<Tel>,
    /// The JIDs that the card says it is of.
    pub jids: Vec<BareJid>,
}

/// A `tel` field of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tel {
    /// The address, as it is written there.
    pub number: String,
    /// It takes video calls: it has the type `video` (RFC 6350 §6.4.1).
    pub video: bool,
    /// It takes no calls of people: a fax, a pager, a modem.
    pub machine: bool,
}

impl Tel {
    /// Reads the types of a field, in either card; those that are about the place say nothing here.
    fn new(number: String, types: &[String]) -> Self {
        let has = |wanted: &[&str]| {
            types.iter().any(|kind| wanted.iter().any(|one| kind.eq_ignore_ascii_case(one)))
        };
        let (video, person) = (has(&["video"]), has(&["voice", "cell", "video", "pcs", "isdn"]));
        let machine = !person && has(&["fax", "pager", "modem", "bbs", "text", "textphone", "msg"]);
        Self { number, video, machine }
    }
}

impl Card {
    /// Reads a `<vCard/>` of XEP-0054, or a `<vcard/>` of XEP-0292; `None` if it is neither.
    pub fn read(card: &Element) -> Option<Self> {
        let four = card.is("vcard", VCARD_4);
        if !four && !card.is("vCard", VCARD_TEMP) {
            return None;
        }
        let (ns, fields) = match four {
            true => (VCARD_4, ["tel", "impp"]),
            false => (VCARD_TEMP, ["TEL", "JABBERID"]),
        };
        let all = |field: &'static str| {
            card.children().filter(move |child| child.name() == field).take(MAX_FIELDS)
        };
        let text = |field: &Element, names: &[&str]| {
            let found = names.iter().find_map(|name| field.get_child(*name, ns))?;
            Some(found.text().trim().to_owned()).filter(|text| !text.is_empty())
        };
        let mut tels: Vec<(u32, Tel)> = all(fields[0])
            .filter_map(|field| {
                let number = text(field, if four { &["uri", "text"] } else { &["NUMBER"] })?;
                let (types, preference) = if four { types_4(field) } else { types_temp(field) };
                Some((preference, Tel::new(number, &types)))
            })
            .collect();
        tels.sort_by_key(|(preference, _)| *preference);
        let jids = all(fields[1]);
        let jids = if four {
            let uris = jids.filter_map(|field| text(field, &["uri"]));
            uris.filter_map(|uri| jid_of_xmpp_uri(&uri)).map(|jid| jid.to_bare()).collect()
        } else {
            jids.filter_map(|jid| BareJid::new(jid.text().trim()).ok()).collect()
        };
        Some(Self { tels: tels.into_iter().map(|(_, tel)| tel).collect(), jids })
    }

    /// Whether it is of this JID, or does not say of whom it is: who writes a card writes what they
    /// like into it, so one that is of somebody else says nothing.
    pub fn is_of(&self, jid: &BareJid) -> bool {
        self.jids.is_empty() || self.jids.contains(jid)
    }
}

/// The types of a `<TEL/>`, and how far it is from being preferred (XEP-0054 §3).
fn types_temp(field: &Element) -> (Vec<String>, u32) {
    let flags = field.children().take(MAX_FIELDS).map(|flag| flag.name().to_owned());
    let types: Vec<_> = flags.filter(|flag| flag != "NUMBER").collect();
    let preferred = types.iter().any(|flag| flag == "PREF");
    (types, if preferred { 0 } else { UNPREFERRED })
}

/// The types of a `<tel/>`, and how far it is from being preferred (RFC 6351 §5, RFC 6350 §5.3).
fn types_4(field: &Element) -> (Vec<String>, u32) {
    let Some(parameters) = field.get_child("parameters", VCARD_4) else {
        return (vec![], UNPREFERRED);
    };
    let values = |name: &'static str| {
        let found = parameters.children().filter(move |child| child.name() == name);
        found.flat_map(Element::children).take(MAX_FIELDS).map(|value| value.text())
    };
    let preference = values("pref").next().and_then(|value| value.trim().parse().ok());
    let types = values("type").map(|kind| kind.trim().to_owned()).collect();
    (types, preference.unwrap_or(UNPREFERRED).min(UNPREFERRED))
}

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is they.
    Named {
        /// The name that the user's side has for them.
        name: String,
        /// Where to chat with them, if that is known.
        jid: Option<BareJid>,
        /// What confirms it.
        why: Reason,
    },
    /// These cards are missing: fetch them, put them in the book, ask again.
    Fetch(Vec<BareJid>),
    /// Nobody who could be named.
    Unnamed {
        /// The address to show in place of a name, if there is one to show.
        address: Option<String>,
        /// What is missing.
        why: Doubt,
    },
}

/// What confirms a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The directory has the address.
    Directory,
    /// The user's address book has it.
    AddressBook,
    /// The card of the contact whom the call names has it.
    CueAndCard,
    /// The card of one contact has it.
    Card,
}

/// Why a caller has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// They do not want to have one.
    Anonymous,
    /// Nobody vouches for the address that they claim.
    NotVouched,
    /// The address is a number that means something elsewhere only.
    Local,
    /// Several people have the address.
    Ambiguous,
    /// The call names someone in chat who is not found to have the address.
    CueNotConfirmed,
    /// Nobody is known to have it.
    Unknown,
}

/// Finds out who calls. The order is that of trust: directory, address book, the contact whom the call
/// names, then all contacts.
pub fn identify(call: &Call, book: &Book, dialling: &Dialling) -> Answer {
    let unnamed = |uri: Option<&Uri>, why| Answer::Unnamed { address: uri.map(shown), why };
    if call.anonymous {
        return unnamed(None, Doubt::Anonymous);
    }
    let Some(first) = call.vouched.first() else {
        return unnamed(call.claimed.as_ref(), Doubt::NotVouched);
    };
    let addresses: BTreeSet<_> =
        call.vouched.iter().filter_map(|uri| dialling.address(uri)).collect();
    let has = |tel: &str, local: bool| {
        dialling.read(tel).is_some_and(|address| {
            (local || !matches!(address, Address::Local(_))) && addresses.contains(&address)
        })
    };
    // An extension is one's own company's in its directory and in one's own book, and nowhere else.
    for (entries, why) in [(&book.directory, Reason::Directory), (&book.own, Reason::AddressBook)] {
        let has = |entry: &&Entry| entry.tels.iter().any(|tel| has(tel, true));
        let found: Vec<_> = entries.iter().filter(has).collect();
        match found[..] {
            [] => {}
            [entry] => {
                return Answer::Named { name: entry.name.clone(), jid: entry.jid.clone(), why };
            }
            [..] => return unnamed(Some(first), Doubt::Ambiguous),
        }
    }
    if addresses.iter().all(|address| matches!(address, Address::Local(_))) {
        return unnamed(Some(first), Doubt::Local);
    }
    let named = |jid: &BareJid, contact: &Contact, why| Answer::Named {
        name: contact.name.clone(),
        jid: Some(jid.clone()),
        why,
    };
    let confirms = |jid: &BareJid, card: &Card| {
        card.is_of(jid) && card.tels.iter().any(|tel| has(&tel.number, false))
    };
    if let Some(cue) = &call.cue
        && let Some(contact) = book.contacts.get(cue)
    {
        match &contact.card {
            None => return Answer::Fetch(vec![cue.clone()]),
            Some(card) if confirms(cue, card) => return named(cue, contact, Reason::CueAndCard),
            Some(_) => {}
        }
    }
    if call.cue.is_some() {
        return unnamed(Some(first), Doubt::CueNotConfirmed);
    }
    let missing = book.contacts.iter().filter(|(_, contact)| contact.card.is_none());
    let missing: Vec<_> = missing.map(|(jid, _)| jid.clone()).take(MAX_FETCH).collect();
    if !missing.is_empty() {
        return Answer::Fetch(missing);
    }
    let found = book
        .contacts
        .iter()
        .filter(|(jid, contact)| contact.card.as_ref().is_some_and(|card| confirms(jid, card)));
    match found.collect::<Vec<_>>()[..] {
        [] => unnamed(Some(first), Doubt::Unknown),
        [(jid, contact)] => named(jid, contact, Reason::Card),
        [..] => unnamed(Some(first), Doubt::Ambiguous),
    }
}

/// An address as it may be shown: without what only machines need, and with everything escaped that
/// could look like something else.
fn shown(uri: &Uri) -> String {
    match uri {
        Uri::Sip(sip) => {
            let aor = sip.user().and_then(|user| Aor::new(&user, &sip.host.to_string()).ok());
            match aor {
                Some(aor) => aor.to_string()["sip:".len()..].to_owned(),
                None => sip.host.to_string(),
            }
        }
        Uri::Tel(tel) => tel.number().to_owned(),
        Uri::Other(other) => other.scheme().to_owned(),
    }
}

const VCARD_TEMP: &str = "vcard-temp";
const VCARD_4: &str = "urn:ietf:params:xml:ns:vcard-4.0";
/// P-Asserted-Identity has a SIP and a tel URI at most (RFC 3325 §9.1).
const MAX_ASSERTED: usize = 2;
/// The most fields of one kind that are taken from a card.
const MAX_FIELDS: usize = 32;
/// The preference of a field that has none (RFC 6350 §5.3: 1 to 100, the least first).
const UNPREFERRED: u32 = 101;
/// The most cards that are asked for at once.
const MAX_FETCH: usize = 32;

#[cfg(test)]
mod tests {
    use cusax_sip::header::Name;

    use super::*;
    use crate::number::Country;

    const ALICE: &str = "sip:alice@example.org";

    fn jid(text: &str) -> BareJid {
        BareJid::new(text).unwrap()
    }

    fn contact(name: &str, tels: &[&str], jids: &[&str]) -> Contact {
        let tels = tels.iter().map(|tel| Tel::new((*tel).to_owned(), &[])).collect();
        let jids = jids.iter().map(|text| jid(text)).collect();
        Contact { name: name.to_owned(), card: Some(Card { tels, jids }) }
    }

    fn entry(name: &str, tel: &str) -> Entry {
        let jid = Some(jid("from@book.test"));
        Entry { name: name.to_owned(), jid, tels: vec![tel.to_owned()] }
    }

    /// Alice and Bob have honest cards, Mallory's has Bob's number, Trent's is of somebody else.
    fn book() -> Book {
        let contacts = [
            ("alice@x.test", contact("Alice", &["work", ALICE, "030 111111"], &["alice@x.test"])),
            ("bob@x.test", contact("Bob", &["+49 30 222222"], &[])),
            ("mallory@x.test", contact("Mallory", &["030/222222", "110"], &[])),
            ("trent@x.test", contact("Trent", &["+4930333333"], &["victim@x.test"])),
        ];
        let contacts = contacts.map(|(at, contact)| (jid(at), contact)).into();
        let directory = vec![entry("Dora", "+4930444444"), entry("Exchange", "77")];
        Book { contacts, directory, own: vec![entry("Plumber", "030 555555")] }
    }

    fn dialling() -> Dialling {
        Dialling::new(Country::of("DE")).with_domain("gw.example.org")
    }

    fn call(headers: &[(Name, &str)]) -> Call {
        let mut all = Headers::new();
        for (name, value) in headers {
            all.push(name.clone(), *value);
        }
        let domains = ["example.org".to_owned()].into();
        Call::read(&all, &Trust { asserted: true, domains })
    }

    fn tell(answer: Answer) -> String {
        match answer {
            Answer::Named { name, jid, why } => {
                format!("{name} {} {why:?}", jid.map(|jid| jid.to_string()).unwrap_or_default())
            }
            Answer::Fetch(jids) => format!("fetch {}", jids.len()),
            Answer::Unnamed { address, why } => {
                format!("{} {why:?}", address.unwrap_or("-".to_owned()))
            }
        }
    }

    #[test]
    fn names_whom_something_confirms_and_nobody_else() {
        let check = |from: &str, identity: &str, cue: &str, expected: &str| {
            let mut headers = vec![(Name::FROM, from)];
            if !identity.is_empty() {
                headers.push((Name::P_ASSERTED_IDENTITY, identity));
            }
            if !cue.is_empty() {
                headers.push((Name::CALL_INFO, cue));
            }
            let answer = identify(&call(&headers), &book(), &dialling());
            assert_eq!(tell(answer), expected, "{from} {identity} {cue}");
        };
        let alice = "\"Your Bank\" <sip:alice@example.org>;tag=1";
        let cue_alice = "<xmpp:alice@x.test>;purpose=impp";
        let cue_mallory = "<xmpp:mallory@x.test>;purpose=impp";
        let bob = "<sip:+4930222222@gw.example.org;user=phone>";
        let foreign = "<sip:alice@evil.test>;tag=1";

        // The cue leads to the card, which has the address.
        check(alice, "", cue_alice, "Alice alice@x.test CueAndCard");
        check(alice, "", "", "Alice alice@x.test Card");
        check(foreign, "<tel:+4930111111>", cue_alice, "Alice alice@x.test CueAndCard");
        check(foreign, "<sip:030111111@gw.example.org>", "", "Alice alice@x.test Card");
        // Forged: the cue of another, the address of another, the name of another.
        check(foreign, "<sip:eve@evil.test>", cue_alice, "eve@evil.test CueNotConfirmed");
        check(alice, "<sip:eve@evil.test>", cue_alice, "eve@evil.test CueNotConfirmed");
        check(foreign, "", cue_alice, "alice@evil.test NotVouched");
        check("\"Alice\" <sip:eve@evil.test>;tag=1", "", "", "eve@evil.test NotVouched");
        check("<sip:x%0aAlice@evil.test>;tag=1", "", "", "evil.test NotVouched");
        // A number at a host that does not speak for numbers is no number.
        check(
            foreign,
            "<sip:+4930111111@evil.test;user=phone>",
            "",
            "+4930111111@evil.test Unknown",
        );
        // Several cards have it: the cue decides between them, never without a card.
        check(foreign, bob, "", "+4930222222@gw.example.org Ambiguous");
        check(foreign, bob, "<xmpp:bob@x.test>;purpose=impp", "Bob bob@x.test CueAndCard");
        check(foreign, bob, cue_alice, "+4930222222@gw.example.org CueNotConfirmed");
        let stranger = "<xmpp:stranger@x.test>;purpose=impp";
        check(alice, "", stranger, "alice@example.org CueNotConfirmed");
        // A card that points elsewhere.
        check(foreign, "<tel:+4930333333>", "", "+4930333333 Unknown");
        let cue_trent = "<xmpp:trent@x.test>;purpose=impp";
        check(foreign, "<tel:+4930333333>", cue_trent, "+4930333333 CueNotConfirmed");
        // Directory and own book come first, whatever the cue.
        check(foreign, "<tel:+4930444444>", cue_mallory, "Dora from@book.test Directory");
        check(foreign, "<tel:+4930555555>", cue_mallory, "Plumber from@book.test AddressBook");
        // Extensions: the directory's are ours, a contact's may be anywhere.
        check(foreign, "<sip:77@gw.example.org>", "", "Exchange from@book.test Directory");
        check(foreign, "<sip:110@gw.example.org>", cue_mallory, "110@gw.example.org Local");
        // Two cues, cues for other things.
        let two = "<xmpp:alice@x.test>;purpose=impp, <xmpp:bob@x.test>;purpose=impp";
        check(foreign, bob, two, "+4930222222@gw.example.org Ambiguous");
        check(
            foreign,
            bob,
            "<xmpp:bob@x.test>;purpose=icon",
            "+4930222222@gw.example.org Ambiguous",
        );
        check(foreign, bob, "<https://x/bob>;purpose=impp", "+4930222222@gw.example.org Ambiguous");
        check(foreign, "<sip:eve@evil.test>", "", "eve@evil.test Unknown");
        check("no address at all", "", cue_alice, "- NotVouched");
    }

    #[test]
    fn who_wants_to_be_nobody_is_nobody() {
        let alice = (Name::FROM, "<sip:alice@example.org>;tag=1");
        let asserted = (Name::P_ASSERTED_IDENTITY, "<sip:alice@example.org>");
        let cue = (Name::CALL_INFO, "<xmpp:alice@x.test>;purpose=impp");
        for headers in [
            vec![alice.clone(), asserted.clone(), cue.clone(), (Name::PRIVACY, "id")],
            vec![alice.clone(), asserted.clone(), cue.clone(), (Name::PRIVACY, "critical;USER")],
            vec![alice.clone(), asserted.clone(), cue.clone(), (Name::PRIVACY, "id;;@")],
            vec![
                (Name::FROM, "<sip:anonymous@Anonymous.Invalid>;tag=1"),
                asserted.clone(),
                cue.clone(),
            ],
        ] {
            let call = call(&headers);
            let nobody = Answer::Unnamed { address: None, why: Doubt::Anonymous };
            assert_eq!(identify(&call, &book(), &dialling()), nobody, "{headers:?}");
            assert_eq!((call.vouched, call.claimed, call.cue), (vec![], None, None));
        }
        let open = call(&[alice, asserted, (Name::PRIVACY, "none")]);
        assert!(!open.anonymous);
    }

    #[test]
    fn without_trust_in_a_proxy_nobody_is_vouched_for() {
        let mut headers = Headers::new();
        headers.push(Name::FROM, "<sip:alice@example.org>;tag=1");
        headers.push(Name::P_ASSERTED_IDENTITY, "<sip:alice@example.org>");
        headers.push(Name::CALL_INFO, "<xmpp:alice@x.test>;purpose=impp");
        let call = Call::read(&headers, &Trust::default());
        let answer = identify(&call, &book(), &dialling());
        assert_eq!(tell(answer), "alice@example.org NotVouched");
    }

    #[test]
    fn fetches_one_card_with_a_cue_and_all_without() {
        let mut book = book();
        for contact in book.contacts.values_mut() {
            contact.card = None;
        }
        let from = (Name::FROM, "<sip:alice@example.org>;tag=1");
        let cue = (Name::CALL_INFO, "<xmpp:alice@x.test/desk>;purpose=impp");
        let with_cue = call(&[from.clone(), cue]);
        let answer = identify(&with_cue, &book, &dialling());
        assert_eq!(answer, Answer::Fetch(vec![jid("alice@x.test")]));
        book.contacts.insert(jid("alice@x.test"), contact("Alice", &[ALICE], &[]));
        assert_eq!(tell(identify(&with_cue, &book, &dialling())), "Alice alice@x.test CueAndCard");
        // Without it the others might have the address as well.
        let without = call(&[from]);
        assert_eq!(tell(identify(&without, &book, &dialling())), "fetch 3");
        for contact in book.contacts.values_mut() {
            contact.card.get_or_insert_default();
        }
        assert_eq!(tell(identify(&without, &book, &dialling())), "Alice alice@x.test Card");
    }

    #[test]
    fn reads_cards_of_both_kinds() {
        let temp = "<vCard xmlns='vcard-temp'><FN>A</FN><TEL><WORK/><VIDEO/><NUMBER>sip:a@x\
             </NUMBER></TEL><TEL><NUMBER/></TEL><TEL/><JABBERID>a@x</JABBERID>\
             <JABBERID>@</JABBERID></vCard>";
        let four = "<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'><tel><parameters><type>\
             <text>video</text></type></parameters><uri> sip:a@x </uri></tel><tel><text>1</text></tel>\
             <impp><uri>xmpp:a@x</uri></impp><impp><uri>aim:a</uri></impp></vcard>";
        let card = |xml: &str| Card::read(&xml.parse().unwrap());
        let expected = |tels: &[(&str, bool)]| {
            let tel = |&(number, video): &(&str, bool)| Tel {
                number: number.to_owned(),
                video,
                machine: false,
            };
            Some(Card { tels: tels.iter().map(tel).collect(), jids: vec![jid("a@x")] })
        };
        assert_eq!(card(temp), expected(&[("sip:a@x", true)]));
        assert_eq!(card(four), expected(&[("sip:a@x", true), ("1", false)]));
        assert_eq!(card("<query xmlns='jabber:iq:roster'/>"), None);
        let many = format!(
            "<vCard xmlns='vcard-temp'>{}</vCard>",
            "<TEL><NUMBER>1</NUMBER></TEL>".repeat(99)
        );
        assert_eq!(card(&many).map(|card| card.tels.len()), Some(MAX_FIELDS));
    }

    #[test]
    fn types_tell_what_a_number_takes_and_which_comes_first() {
        let check = |ns: &str, xml: &str, expected: &str| {
            let card = Card::read(&format!("<{ns}>{xml}</{}>", &ns[..5]).parse().unwrap());
            let tels: Vec<_> = card
                .unwrap()
                .tels
                .iter()
                .map(|tel| {
                    let video = if tel.video { " video" } else { "" };
                    let machine = if tel.machine { " machine" } else { "" };
                    format!("{}{video}{machine}", tel.number)
                })
                .collect();
            assert_eq!(tels.join(", "), expected, "{xml}");
        };
        let temp = "vCard xmlns='vcard-temp'";
        let tel = |flags: &str| format!("<TEL>{flags}<NUMBER>1</NUMBER></TEL>");
        check(temp, &tel("<WORK/><VOICE/><VIDEO/>"), "1 video");
        check(temp, &tel("<HOME/>"), "1");
        check(temp, &tel("<FAX/><WORK/>"), "1 machine");
        check(temp, &tel("<FAX/><VOICE/>"), "1");
        check(temp, &tel("<PAGER/>"), "1 machine");
        let preferred = "<TEL><NUMBER>1</NUMBER></TEL><TEL><PREF/><NUMBER>2</NUMBER></TEL>";
        check(temp, preferred, "2, 1");
        let four = "vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'";
        let tel = |number: &str, parameters: &str| {
            format!("<tel><parameters>{parameters}</parameters><uri>{number}</uri></tel>")
        };
        let pref = |n: &str| format!("<pref><integer>{n}</integer></pref>");
        check(four, &tel("1", "<type><text>voice</text><text>Video</text></type>"), "1 video");
        check(four, &tel("1", "<type><text>fax</text></type>"), "1 machine");
        let ordered = [tel("1", ""), tel("2", &pref("9")), tel("3", &pref("1"))].concat();
        check(four, &ordered, "3, 2, 1");
        check(four, &[tel("1", &pref("x")), tel("2", &pref("99999"))].concat(), "1, 2");
    }
}
