//! Searching the public rooms: XEP-0433, and XEP-0055 for clients that know nothing newer.
//!
//! Found is what disco#items lists to everyone. Of a room that tells outsiders nothing of itself
//! (XEP-0045 §14.4) only name and address are searched and shown.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use jid::BareJid;
use minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, Field, FieldType};
use xmpp_parsers::rsm::{SetQuery, SetResult};

use super::Muc;
use super::disco::{self, title};
use super::error::Fault;
use super::form::{self, Submitted};
use super::limits::{MAX_SEARCHERS, MAX_TERMS, MAX_TERMS_SIZE};
use super::stanza::Head;
use super::xml::{Xml, ns};
use crate::clock::Now;
use crate::rate::{Meter, Rate};
use crate::room::settings::Whois;
use crate::room::{Room, Rooms};

/// How much each user has searched of late.
#[derive(Debug, Default)]
pub(super) struct Searchers(BTreeMap<BareJid, Meter>);

/// What is looked for.
#[derive(Debug)]
struct Wanted {
    /// Whether rooms are, and not other kinds of channels alone.
    rooms: bool,
    /// Words in lower case that must all be there; none: every room is wanted.
    terms: Vec<String>,
    in_name: bool,
    in_description: bool,
    in_address: bool,
    min_users: usize,
    key: Key,
}

/// By what it is sorted (XEP-0433 §6.1).
#[derive(Clone, Copy, Debug)]
enum Key {
    Address,
    /// Those with most people first.
    Users,
}

/// A room that was found.
#[derive(Debug)]
struct Found<'a> {
    room: &'a Room,
    address: BareJid,
    /// Whether the searcher may know more than its name and address.
    told: bool,
    /// How many people are in, as far as the searcher may know.
    users: usize,
}

impl Searchers {
    /// Counts one more search, unless that is too many.
    fn admit(&mut self, now: Now, rate: Rate, head: &Head) -> Result<(), Fault> {
        self.0.retain(|_, meter| !meter.is_clear(now.instant));
        if self.0.len() >= MAX_SEARCHERS {
            return Err(TOO_FAST);
        }
        let meter = self.0.entry(head.from.to_bare()).or_default();
        if meter.admits(now.instant, rate, 1) { Ok(()) } else { Err(TOO_FAST) }
    }
}

impl Muc {
    /// The form (XEP-0433 §4.2.1), or what a submitted one finds (§4.2.2).
    pub(super) fn channel_search(
        &mut self,
        now: Now,
        head: &Head,
        search: &Element,
        rooms: &Rooms,
    ) -> Result<Element, Fault> {
        let Some(form) = search.get_child("x", ns::DATA_FORMS) else {
            let form = DataForm::new(DataFormType::Form, PARAMS, fields());
            return Ok(Xml::new("search", ns::CHANNEL_SEARCH).child(Element::from(form)).into());
        };
        self.searchers.admit(now, self.config.rates.searches, head)?;
        let wanted = Wanted::read(&submitted(form, PARAMS)?)?;
        let (found, set) = page(self.find(head, &wanted, rooms), wanted.key, search)?;
        let items = found.iter().map(item);
        let set = Element::from(set);
        Ok(Xml::new("result", ns::CHANNEL_SEARCH).children(items).child(set).into())
    }

    /// The form, or what a submitted one finds, in one page unless another is asked for
    /// (XEP-0055 §3; it has no paging of its own).
    pub(super) fn jabber_search(
        &mut self,
        now: Now,
        head: &Head,
        (set, query): (bool, &Element),
        rooms: &Rooms,
    ) -> Result<Element, Fault> {
        let answer = Xml::new("query", ns::JABBER_SEARCH);
        if !set {
            let q = form::field(Q, FieldType::TextSingle, "Words to look for", "");
            let mut form = DataForm::new(DataFormType::Form, ns::JABBER_SEARCH, vec![q]);
            form.title = Some("Search for rooms".to_owned());
            let instructions = "Words in the name, description or address of a room.";
            form.instructions = Some(instructions.to_owned());
            let instructions = Xml::new("instructions", ns::JABBER_SEARCH).text(instructions);
            return Ok(answer.child(instructions).child(Element::from(form)).into());
        }
        let Some(form) = query.get_child("x", ns::DATA_FORMS) else {
            return Err(Fault::bad_request("A search is a submitted form."));
        };
        self.searchers.admit(now, self.config.rates.searches, head)?;
        let wanted = Wanted::read(&submitted(form, ns::JABBER_SEARCH)?)?;
        let (found, set) = page(self.find(head, &wanted, rooms), wanted.key, query)?;
        if set.count == Some(0) {
            return Ok(answer.into());
        }
        let whole = set.count == Some(found.len());
        Ok(answer.child(table(&found)).children((!whole).then(|| Element::from(set))).into())
    }

    /// The rooms that match, in order.
    fn find<'a>(&self, head: &Head, wanted: &Wanted, rooms: &'a Rooms) -> Vec<Found<'a>> {
        let listed = rooms
            .iter()
            .filter(|room| !room.has_ended() && room.configured && room.settings.public);
        let seen = listed.map(|room| {
            let told = disco::tells(room, &head.from);
            let users = if told { room.people.len() } else { 0 };
            Found { room, address: self.room_jid(&room.name), told, users }
        });
        let mut found: Vec<_> = seen.filter(|it| wanted.takes(it)).collect();
        found.sort_by(|a, b| wanted.key.compare((a.users, a.room.name.as_str()), b));
        found
    }
}

impl Wanted {
    /// Fields that a form leaves out are as we offer them (XEP-0433 §5).
    fn read(form: &Submitted) -> Result<Self, Fault> {
        let yes = |var, default| form.boolean(var).map(|it| it.unwrap_or(default));
        let all = yes(ALL, false)?;
        let text = form.text(Q);
        let terms: Vec<_> = text.unwrap_or("").split_whitespace().map(str::to_lowercase).collect();
        let in_address = yes(IN_ADDRESS, true)? && yes("sinaddr", true)?;
        let (in_name, in_description) = (yes(IN_NAME, true)?, yes(IN_DESCRIPTION, true)?);
        match (all, text) {
            (true, _) if !terms.is_empty() => return Err(CONFLICT),
            (false, None) => return Err(NO_CONDITIONS),
            (false, Some(_)) if terms.is_empty() => return Err(NO_TERMS),
            (false, Some(text)) if terms.len() > MAX_TERMS || text.len() > MAX_TERMS_SIZE => {
                return Err(TOO_MANY_TERMS);
            }
            (false, Some(_)) if !(in_name || in_description || in_address) => {
                return Err(CONFLICT);
            }
            (true | false, _) => {}
        }
        let min_users = form.text(MIN_USERS).filter(|text| !text.is_empty()).map(str::parse);
        let min_users = min_users
            .transpose()
            .map_err(|_| Fault::not_acceptable("A least number of users is a number."))?;
        let types = form.values(TYPES).filter(|types| !types.is_empty());
        Ok(Self {
            rooms: types.is_none_or(|types| types.iter().any(|it| it == ROOMS)),
            terms,
            in_name,
            in_description,
            in_address,
            min_users: min_users.unwrap_or(0),
            key: match form.text(KEY) {
                None | Some(BY_USERS) => Key::Users,
                Some(BY_ADDRESS) => Key::Address,
                Some(_) => return Err(UNKNOWN_KEY),
            },
        })
    }

    fn takes(&self, it: &Found<'_>) -> bool {
        let settings = &it.room.settings;
        let places = [
            self.in_name.then(|| title(it.room).to_lowercase()),
            (self.in_description && it.told).then(|| settings.description.to_lowercase()),
            self.in_address.then(|| it.address.to_string()),
        ];
        let has = |term: &String| places.iter().flatten().any(|place| place.contains(term));
        self.rooms && it.users >= self.min_users && self.terms.iter().all(has)
    }
}

impl Key {
    /// The users and name of the room that an id of a page names.
    fn place(self, id: &str) -> Option<(usize, &str)> {
        match self {
            Self::Address => Some((0, id)),
            Self::Users => {
                let (users, name) = id.split_once('/')?;
                Some((users.parse().ok()?, name))
            }
        }
    }

    /// Where a room of so many users and that name stands to another.
    fn compare(self, (users, name): (usize, &str), other: &Found<'_>) -> Ordering {
        let by_name = name.cmp(other.room.name.as_str());
        match self {
            Self::Address => by_name,
            Self::Users => Reverse(users).cmp(&Reverse(other.users)).then(by_name),
        }
    }
}

/// The part that is asked for. Where an item of a page stands is written in its id, so that the next
/// page is found also when that room has changed or gone (XEP-0059 §2.2).
fn page<'a>(
    found: Vec<Found<'a>>,
    key: Key,
    query: &Element,
) -> Result<(Vec<Found<'a>>, SetResult), Fault> {
    let wanted = query.get_child("set", ns::RSM).cloned().map(SetQuery::try_from);
    let wanted = wanted.transpose().map_err(|_| Fault::bad_request("This page cannot be read."))?;
    let id = |it: &Found<'_>| match key {
        Key::Address => it.room.name.to_string(),
        Key::Users => format!("{}/{}", it.users, it.room.name),
    };
    let ids = wanted.iter().flat_map(|set| [&set.after, &set.before]).flatten();
    if ids.filter(|id| !id.is_empty()).any(|id| key.place(id).is_none()) {
        return Err(Fault::not_found("There is no such page."));
    }
    let (range, set) = disco::page(&found, wanted, id, |it, id| {
        key.place(id).map_or(Ordering::Less, |place| key.compare(place, it).reverse())
    })?;
    Ok((found.into_iter().skip(range.start).take(range.len()).collect(), set))
}

/// A room as XEP-0433 §6.2 shows it.
fn item(it: &Found<'_>) -> Element {
    let settings = &it.room.settings;
    let text = |name, text: &str| Xml::new(name, ns::CHANNEL_SEARCH).text(text);
    let some = |name, value: &str| (!value.is_empty()).then(|| text(name, value));
    let told = it.told.then(|| {
        let description = some("description", &settings.description);
        let language = some("language", &settings.lang);
        let users = Some(text("nusers", &it.users.to_string()));
        [description, language, users].into_iter().flatten()
    });
    let open = !settings.members_only && settings.password.is_none();
    let anonymity = match settings.whois {
        Whois::Anyone => "{urn:xmpp:channel-search:0:anonymity}none",
        Whois::Moderators => "muc_semianonymous",
    };
    Xml::new("item", ns::CHANNEL_SEARCH)
        .attr("address", it.address.as_str())
        .child(text("name", title(it.room)))
        .children(told.into_iter().flatten())
        .child(text("service-type", ROOMS))
        .children(open.then(|| Xml::new("is-open", ns::CHANNEL_SEARCH)))
        .child(text("anonymity-mode", anonymity))
        .into()
}

/// Rooms as a form of several results (XEP-0004 §3.4).
fn table(found: &[Found<'_>]) -> Element {
    let form_type = Field::new("FORM_TYPE", FieldType::Hidden).with_value(ns::JABBER_SEARCH);
    let text = FieldType::TextSingle;
    let columns = [
        ("jid", FieldType::JidSingle, "Address"),
        ("name", text.clone(), "Name"),
        ("description", text.clone(), "Description"),
        ("users", text, "People"),
    ];
    let reported = columns.map(|(var, type_, label)| {
        let mut column = Field::new(var, type_);
        column.label = Some(label.to_owned());
        Element::from(column)
    });
    let rows = found.iter().map(|it| {
        let description = if it.told { it.room.settings.description.as_str() } else { "" };
        let users = if it.told { it.users.to_string() } else { String::new() };
        let cells = [
            ("jid", it.address.as_str()),
            ("name", title(it.room)),
            ("description", description),
            ("users", &users),
        ];
        let cells = cells.map(|(var, value)| Element::from(Field::text_single(var, value)));
        Xml::new("item", ns::DATA_FORMS).children(cells)
    });
    Xml::new("x", ns::DATA_FORMS)
        .attr("type", "result")
        .child(Element::from(form_type))
        .child(Xml::new("reported", ns::DATA_FORMS).children(reported))
        .children(rows)
        .into()
}

fn submitted(form: &Element, form_type: &str) -> Result<Submitted, Fault> {
    if form::form_type(form) != "submit" {
        return Err(Fault::bad_request("A search is a submitted form."));
    }
    Submitted::read(form, form_type)
}

/// All that a search may say, as it is unless it says so (XEP-0433 §5, §6.1).
fn fields() -> Vec<Field> {
    let text = FieldType::TextSingle;
    let mut q = Field::new(Q, text.clone());
    q.label = Some("Words to look for".to_owned());
    vec![
        q,
        form::yes_no(ALL, "All rooms, whatever the words", false),
        form::yes_no(IN_NAME, "Look in names", true),
        form::yes_no(IN_DESCRIPTION, "Look in descriptions", true),
        form::yes_no(IN_ADDRESS, "Look in addresses", true),
        form::field(MIN_USERS, text, "Least number of people", "0"),
        form::choices(TYPES, "Kinds", &[(ROOMS, "Rooms")], [ROOMS]),
        form::choice(
            KEY,
            "Order",
            &[(BY_USERS, "Most people first"), (BY_ADDRESS, "Address")],
            BY_USERS,
        ),
    ]
}

const Q: &str = "q";
const ALL: &str = "all";
const IN_NAME: &str = "sinname";
const IN_DESCRIPTION: &str = "sindescription";
/// As the table of §6.1 has it; its examples say `sinaddr`, which is read as well.
const IN_ADDRESS: &str = "sinaddress";
const MIN_USERS: &str = "min_users";
const TYPES: &str = "types";
const KEY: &str = "key";
const ROOMS: &str = "xep-0045";
const BY_USERS: &str = "{urn:xmpp:channel-search:0:order}nusers";
const BY_ADDRESS: &str = "{urn:xmpp:channel-search:0:order}address";
const PARAMS: &str = "urn:xmpp:channel-search:0:search-params";
const ERROR: &str = "urn:xmpp:channel-search:0:error";

/// XEP-0433 §4.2.2.2
const UNKNOWN_KEY: Fault = Fault::not_implemented().mendable().detail("invalid-sort-key", ERROR);
/// §4.2.2.3
const NO_TERMS: Fault =
    Fault::bad_request("There is no word to look for.").detail("invalid-search-terms", ERROR);
const TOO_MANY_TERMS: Fault =
    Fault::bad_request("So many words, or so long ones, are not looked for.")
        .detail("invalid-search-terms", ERROR);
/// §4.2.2.4
const TOO_FAST: Fault =
    Fault::busy("Too many searches: wait a moment.").detail("rate-limit", ERROR);
/// §4.2.2.6
const CONFLICT: Fault =
    Fault::bad_request("Either all rooms, or words and where to look for them.")
        .detail("conflicting-fields", ERROR);
/// §4.2.2.7
const NO_CONDITIONS: Fault =
    Fault::bad_request("Look for words, or for all rooms.").detail("no-search-conditions", ERROR);
