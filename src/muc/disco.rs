//! What the service and a room say of themselves (XEP-0030, XEP-0045 §6, RFC 7081 §4).

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;

use chrono::FixedOffset;
use cusax::hat;
use cusax::identity::Aor;
use jid::Jid;
use minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, Field, FieldType};
use xmpp_parsers::disco::{DiscoInfoResult, DiscoItemsQuery, DiscoItemsResult, Identity, Item};
use xmpp_parsers::rsm::{First, SetQuery, SetResult};
use xmpp_parsers::time::TimeResult;
use xmpp_parsers::version::VersionResult;

use super::error::Fault;
use super::limits::{MAX_CONTACTS, MAX_PAGE};
use super::stanza::Head;
use super::xml::ns;
use super::{Muc, adhoc, form, hats, owner, register};
use crate::clock::Now;
use crate::room::person::Who;
use crate::room::settings::Whois;
use crate::room::standing::Affiliation;
use crate::room::{Refusal, Room, Rooms};
use crate::stanzas::Stanzas;

impl Muc {
    /// What the service answers; `None` is an empty result.
    pub(super) fn service_iq(
        &mut self,
        now: Now,
        head: &Head,
        set: bool,
        query: &Element,
        rooms: &Rooms,
    ) -> Result<Option<Element>, Fault> {
        match (query.name(), query.ns().as_str()) {
            ("query", ns::JABBER_SEARCH) => {
                self.jabber_search(now, head, (set, query), rooms).map(Some)
            }
            _ if set => Err(Fault::unavailable()),
            ("query", ns::DISCO_INFO) => {
                if let Some(node) = query.attr("node") {
                    return adhoc::about(head, node, None, rooms).map(Some).ok_or(NO_NODE);
                }
                let identity = identity("Chat rooms with calls");
                Ok(Some(info(identity, SERVICE.iter().copied(), vec![])))
            }
            ("query", ns::DISCO_ITEMS) => self.list(head, query, rooms).map(Some),
            ("search", ns::CHANNEL_SEARCH) => {
                self.channel_search(now, head, query, rooms).map(Some)
            }
            ("ping", ns::PING) => Ok(None),
            ("query", ns::VERSION) => {
                let (name, version) = ("cusaxd".to_owned(), self.config.version.clone());
                Ok(Some(VersionResult { name, version, os: None }.into()))
            }
            ("time", ns::TIME) => {
                let tz_offset = FixedOffset::east_opt(0).expect("nothing is a legal offset");
                Ok(Some(TimeResult { tz_offset, utc: now.utc.into() }.into()))
            }
            _ => Err(Fault::unavailable()),
        }
    }

    /// The public rooms, page by page if that is wanted or needed (XEP-0045 §6.3, XEP-0059).
    fn list(&self, head: &Head, query: &Element, rooms: &Rooms) -> Result<Element, Fault> {
        let query = DiscoItemsQuery::try_from(query.clone())
            .map_err(|_| Fault::bad_request("This query cannot be read."))?;
        match query.node.as_deref() {
            None => {}
            Some(ns::COMMANDS) => return Ok(adhoc::commands(head, None, rooms)),
            Some(_) => return Err(NO_NODE),
        }
        let listed: Vec<&Room> = rooms
            .iter()
            .filter(|room| !room.has_ended() && room.configured)
            .filter(|room| room.settings.public || insider(room, &head.from))
            .collect();
        let paged = query.rsm.is_some() || listed.len() > MAX_PAGE;
        let (range, set) = page(
            &listed,
            query.rsm,
            |room| room.name.to_string(),
            |room, name| room.name.as_str().cmp(name),
        )?;
        let items = listed[range]
            .iter()
            .map(|room| Item {
                jid: Jid::from(self.room_jid(&room.name)),
                node: None,
                name: Some(title(room).to_owned()),
            })
            .collect();
        let rsm = paged.then_some(set);
        Ok(DiscoItemsResult { node: None, items, rsm }.into())
    }

    /// XEP-0045 §6.4, with the address of the call (RFC 7081 §4).
    pub(super) fn room_info(
        &self,
        head: &Head,
        room: &Room,
        query: &Element,
        rooms: &Rooms,
    ) -> Result<Element, Fault> {
        match query.attr("node") {
            None => {}
            // §18.1.1
            Some("http://jabber.org/protocol/muc#traffic") => {
                return Err(Fault::not_implemented());
            }
            Some(register::NODE) => return Ok(register::registered(head, room)),
            Some(node) => return adhoc::about(head, node, Some(room), rooms).ok_or(NO_NODE),
        }
        let insider = insider(room, &head.from);
        if !room.configured && !insider {
            return Err(Refusal::NoSuchRoom.into());
        }
        let settings = &room.settings;
        let either = |is, yes, no| if is { yes } else { no };
        let features = ROOM.iter().copied().chain([
            either(settings.public, "muc_public", "muc_hidden"),
            either(settings.members_only, "muc_membersonly", "muc_open"),
            either(settings.moderated, "muc_moderated", "muc_unmoderated"),
            either(settings.whois == Whois::Anyone, "muc_nonanonymous", "muc_semianonymous"),
            either(settings.password.is_some(), "muc_passwordprotected", "muc_unsecured"),
            either(settings.persistent, "muc_persistent", "muc_temporary"),
        ]);
        let tells = tells(room, &head.from);
        let archive = [ns::MAM, ns::MAM_EXTENDED, ns::RSM];
        let features = features.chain(archive.into_iter().filter(|_| settings.archived()));
        let name = if tells { title(room) } else { room.name.as_str() };
        let mut identity = identity(name);
        identity.lang = Some(settings.lang.clone()).filter(|lang| tells && !lang.is_empty());
        let form = self.room_form(room, tells);
        Ok(info(identity, features, vec![form]))
    }

    /// XEP-0045 §6.5: who is in a room is learned by entering it.
    pub(super) fn room_items(
        &self,
        head: &Head,
        room: &Room,
        query: &Element,
        rooms: &Rooms,
    ) -> Result<Element, Fault> {
        if !room.configured && !insider(room, &head.from) {
            return Err(Refusal::NoSuchRoom.into());
        }
        match query.attr("node") {
            None => {}
            Some(ns::COMMANDS) => return Ok(adhoc::commands(head, Some(room), rooms)),
            Some(_) => return Err(NO_NODE),
        }
        Ok(DiscoItemsResult { node: None, items: vec![], rsm: None }.into())
    }

    fn room_form(&self, room: &Room, tells: bool) -> DataForm {
        let settings = &room.settings;
        let text = |var, label, value: &str| form::field(var, FieldType::TextSingle, label, value);
        let mut fields = vec![
            form::yes_no(
                "muc#roominfo_subjectmod",
                "Participants may change the subject",
                settings.change_subject,
            ),
            text("muc#maxhistoryfetch", "Most messages told", &settings.history.to_string()),
            text(
                "muc#roominfo_slow_mode_duration",
                "Seconds between two messages of one user",
                &settings.slow_mode_s.to_string(),
            ),
        ];
        if tells {
            fields.extend([
                Field { options: vec![], ..owner::allow_pm(settings) },
                owner::allow_invites(settings),
                owner::change_subject(settings),
            ]);
            let occupants = room.people.len().to_string();
            fields.push(text("muc#roominfo_description", "Description", &settings.description));
            fields.push(text("muc#roominfo_occupants", "Number of occupants", &occupants));
            if !settings.lang.is_empty() {
                fields.push(text("muc#roominfo_lang", "Language", &settings.lang));
            }
            if !settings.pubsub.is_empty() {
                fields.push(owner::pubsub(settings));
            }
            if settings.whois == Whois::Anyone {
                fields.push(contacts(room));
            }
            if let Some(avatar) = &room.avatar {
                let (var, label) = ("muc#roominfo_avatarhash", "Avatar hash");
                fields.push(form::field(var, FieldType::TextMulti, label, avatar.hash()));
            }
            fields.extend(hats::hash(room));
            if let Some(subject) = &room.subject {
                fields.push(text("muc#roominfo_subject", "Subject", &subject.text));
            }
            if let Some(uri) = self.conference_uri(room) {
                let label = "SIP address of the audio conference";
                fields.extend(self.config.spellings.iter().map(|var| text(var, label, &uri)));
            }
        }
        DataForm::new(DataFormType::Result_, ns::MUC_ROOM_INFO, fields)
    }

    /// Where a phone calls to be in the room, if it takes calls.
    pub(super) fn conference_uri(&self, room: &Room) -> Option<String> {
        let uri = Aor::new(room.name.as_str(), &self.config.sip_domain).ok();
        uri.filter(|_| room.settings.calls).map(|uri| uri.to_string())
    }

    /// Tells all in every room that it says something else of itself than before (XEP-0045 §10.2.1).
    pub fn show_change_of_all(&self, rooms: &Rooms, out: &mut Stanzas) {
        for room in rooms.iter().filter(|room| !room.has_ended()) {
            self.show_changed(room, &[104], out);
        }
    }
}

/// Whom to ask about a room: its owners, where their addresses are no secret.
fn contacts(room: &Room) -> Field {
    let owners = room.affiliations().filter(|(_, it)| *it == Affiliation::Owner);
    let jids = owners.filter_map(|(who, _)| match who {
        Who::Jid(jid) => Some(jid.to_string()),
        Who::Aor(_) | Who::Unknown(_) => None,
    });
    let label = "Contact addresses";
    form::list("muc#roominfo_contactjid", FieldType::JidMulti, label, jids.take(MAX_CONTACTS))
}

/// Whether someone is here, in chat or on the phone, or has an affiliation.
fn insider(room: &Room, from: &Jid) -> bool {
    let who = Who::Jid(from.to_bare());
    room.affiliation(&who) >= Affiliation::Member || room.people.all_of(&who).next().is_some()
}

/// Whether a room tells someone about itself: what an outsider may not enter or find tells them no
/// more than how to enter it (XEP-0045 §14.4), and the banned may enter none.
pub(super) fn tells(room: &Room, from: &Jid) -> bool {
    let settings = &room.settings;
    let banned = room.affiliation(&Who::Jid(from.to_bare())) == Affiliation::Outcast;
    insider(room, from)
        || (room.configured
            && !banned
            && settings.public
            && !settings.members_only
            && settings.password.is_none())
}

/// The name that people read.
pub(super) fn title(room: &Room) -> &str {
    if room.settings.name.is_empty() { room.name.as_str() } else { &room.settings.name }
}

/// XEP-0045 §6.2: what rooms and their service are.
pub(super) fn identity(name: &str) -> Identity {
    Identity {
        name: Some(name.to_owned()),
        ..Identity::new_anonymous::<_, _, &str, &str>("conference", "text")
    }
}

fn info(
    identity: Identity,
    features: impl Iterator<Item = &'static str>,
    extensions: Vec<DataForm>,
) -> Element {
    let features: BTreeSet<String> = features.map(str::to_owned).collect();
    let identities = vec![identity];
    DiscoInfoResult { node: None, identities, features, extensions }.into()
}

/// The part of a sorted list that is asked for (XEP-0059 §2). `id` names an item, and `compare` says
/// where an item stands to what an id names, whether or not that is still there.
pub(super) fn page<T>(
    all: &[T],
    wanted: Option<SetQuery>,
    id: impl Fn(&T) -> String,
    compare: impl Fn(&T, &str) -> Ordering,
) -> Result<(Range<usize>, SetResult), Fault> {
    let wanted = wanted.unwrap_or(SetQuery { max: None, after: None, before: None, index: None });
    let most = wanted.max.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    let from = |start: usize| start..(start + most).min(all.len());
    let range = match (wanted.after.as_deref(), wanted.before.as_deref(), wanted.index) {
        (None, None, index) => from(index.unwrap_or(0).min(all.len())),
        (Some(name), None, None) => from(all.partition_point(|item| compare(item, name).is_le())),
        (None, Some(name), None) => {
            let end = match name {
                "" => all.len(),
                name => all.partition_point(|item| compare(item, name).is_lt()),
            };
            end.saturating_sub(most)..end
        }
        _ => return Err(Fault::bad_request("A page is after, before, or at an index.")),
    };
    let page = &all[range.clone()];
    let set = SetResult {
        first: page.first().map(|item| First { index: Some(range.start), item: id(item) }),
        last: page.last().map(&id),
        count: Some(all.len()),
    };
    Ok((range, set))
}

const NO_NODE: Fault = Fault::not_found("There is no such node.");
const SERVICE: [&str; 11] = [
    ns::CHANNEL_SEARCH,
    ns::COMMANDS,
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::JABBER_SEARCH,
    ns::MUC,
    ns::PING,
    ns::RSM,
    ns::TIME,
    ns::VCARD,
    ns::VERSION,
];

const ROOM: [&str; 17] = [
    ns::COMMANDS,
    ns::DISCO_INFO,
    ns::DISCO_ITEMS,
    ns::MAV,
    ns::MODERATE,
    ns::MUC,
    ns::OID,
    ns::OLD_MODERATE,
    ns::PING,
    ns::SID,
    hat::NS,
    ns::MUC_REGISTER,
    ns::MUC_REQUEST,
    ns::REGISTER,
    ns::VCARD,
    "http://jabber.org/protocol/muc#self-ping-optimization",
    "http://jabber.org/protocol/muc#stable_id",
];
