//! A room's archive (XEP-0313), and messages that moderators take back (XEP-0425).
//!
//! What is asked is checked at once, and answered when the store has found it: until then the iq
//! waits in [`Asked`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use jid::{BareJid, Jid};
use minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, Field, FieldType};
use xmpp_parsers::rsm::{First, SetQuery, SetResult};

use super::error::Fault;
use super::form::{self, Submitted};
use super::limits::{MAX_QUERIES, MAX_QUERIES_OF_ONE, MAX_REASON, QUERY_TIMEOUT};
use super::stanza::Head;
use super::xml::{self, Xml, ns};
use super::{Ask, Muc, Reply};
use crate::archive::{
    Answer, End, Filter, Found, From, Loaded, MAX_PAGE, Page, Query, QueryId, What, With,
};
use crate::clock::{Now, stamp};
use crate::id::RoomName;
use crate::rate::{Meter, Rate};
use crate::room::history::{Payload, Said};
use crate::room::person::Who;
use crate::room::settings::Whois;
use crate::room::standing::{Affiliation, Role};
use crate::room::{By, Command, Refusal, Room, Rooms};
use crate::stanzas::Stanzas;

/// Questions to archives that wait for their answers.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// By number, so the oldest first.
    waiting: BTreeMap<QueryId, Waiting>,
    /// Still to be handed to the store.
    queries: VecDeque<Query>,
    /// Who asked lately; who did not is not in it.
    askers: BTreeMap<BareJid, Asker>,
    next: u64,
}

/// A user who asked.
#[derive(Debug, Default)]
struct Asker {
    /// How many of their questions wait.
    waiting: usize,
    /// How much they asked lately.
    meter: Meter,
}

/// A question that waits.
#[derive(Debug)]
struct Waiting {
    head: Head,
    room: RoomName,
    /// When it has waited for too long.
    due: Instant,
    then: Then,
}

/// What becomes of the answer.
#[derive(Debug)]
enum Then {
    /// It is shown as a page; `flip`: the latest first.
    Page { query_id: Option<String>, flip: bool },
    /// It is shown as metadata.
    Ends,
    /// The message is taken back.
    Retract { reason: Option<String> },
}

impl Asked {
    fn ask(
        &mut self,
        now: Now,
        rate: Rate,
        head: &Head,
        room: &Room,
        what: What,
        then: Then,
    ) -> Result<(), Fault> {
        self.askers.retain(|_, asker| asker.waiting > 0 || !asker.meter.is_clear(now.instant));
        let asker = self.askers.entry(head.from.to_bare()).or_default();
        if self.waiting.len() >= MAX_QUERIES || asker.waiting >= MAX_QUERIES_OF_ONE {
            return Err(Fault::busy("Too many questions to the archive wait for their answers."));
        }
        if !asker.meter.admits(now.instant, rate, 1) {
            return Err(Fault::too_fast("Too many questions to the archive: wait a moment."));
        }
        asker.waiting += 1;
        self.next += 1;
        let id = QueryId(self.next);
        let (head, room, due) = (head.clone(), room.name.clone(), now.instant + QUERY_TIMEOUT);
        self.queries.push_back(Query { id, room: room.clone(), what });
        self.waiting.insert(id, Waiting { head, room, due, then });
        Ok(())
    }

    /// A question waits no more.
    fn settle(&mut self, id: QueryId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        if let Some(asker) = self.askers.get_mut(&waiting.head.from.to_bare()) {
            asker.waiting -= 1;
        }
        Some(waiting)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, waiting)| waiting.due)
    }

    pub(super) fn handle_timeout(&mut self, now: Now, out: &mut Stanzas) {
        let due = self.waiting.iter().take_while(|(_, waiting)| waiting.due <= now.instant);
        let due: Vec<_> = due.map(|(id, _)| *id).collect();
        for Waiting { head, .. } in due.into_iter().filter_map(|id| self.settle(id)) {
            out.push(UNREADABLE.bounce("iq", &head, None, head.room_jid()));
        }
    }
}

impl Muc {
    /// The next question to the store, if there is one.
    pub fn poll_query(&mut self) -> Option<Query> {
        self.asked.queries.pop_front()
    }

    /// Takes an answer of the store; one that comes too late is dropped. A message that was looked for
    /// in order to take it back is a command.
    pub fn loaded(
        &mut self,
        now: Now,
        loaded: Loaded,
        rooms: &Rooms,
        out: &mut Stanzas,
    ) -> Option<Ask> {
        let Waiting { head, room, then, .. } = self.asked.settle(loaded.id)?;
        let room = super::open(rooms, &room).ok_or(Refusal::NoSuchRoom.into());
        let result = room.and_then(|room| match (then, loaded.answer) {
            (Then::Page { query_id, flip }, Answer::Page(found)) => {
                self.show_page(&head, room, query_id.as_deref(), flip, found, out);
                Ok(None)
            }
            (Then::Ends, Answer::Ends(ends)) => {
                out.push(head.result(Some(metadata(ends))));
                Ok(None)
            }
            (Then::Retract { reason }, Answer::Message(said)) => {
                self.retraction(now, &head, room, &said, reason.as_deref()).map(Some)
            }
            (_, Answer::NoSuchMessage) => Err(NO_SUCH_MESSAGE),
            (
                Then::Page { .. } | Then::Ends | Then::Retract { .. },
                Answer::Page(_) | Answer::Ends(_) | Answer::Message(_) | Answer::Failed,
            ) => Err(UNREADABLE),
        });
        result.unwrap_or_else(|fault| {
            out.push(fault.bounce("iq", &head, None, head.room_jid()));
            None
        })
    }

    /// By what one may search (XEP-0313 §4.1.5).
    pub(super) fn archive_form(&self, head: &Head, room: &Room) -> Result<Element, Fault> {
        may_read(head, room)?;
        let text = |var| Field::new(var, FieldType::TextSingle);
        let fields = vec![
            Field::new(WITH, FieldType::JidSingle),
            text(START),
            text(END),
            text(BEFORE_ID),
            text(AFTER_ID),
            Field::new(IDS, FieldType::ListMulti),
        ];
        let form = DataForm::new(DataFormType::Form, ns::MAM, fields);
        Ok(Xml::new("query", ns::MAM).child(Element::from(form)).into())
    }

    /// A search of the archive, page by page (XEP-0313 §4, XEP-0059).
    pub(super) fn archive_query(
        &mut self,
        now: Now,
        head: &Head,
        room: &Room,
        query: &Element,
    ) -> Result<(), Fault> {
        may_read(head, room)?;
        let filter = match query.get_child("x", ns::DATA_FORMS) {
            Some(form) => self.filter(head, room, form)?,
            None => Filter::default(),
        };
        let page = page(query.get_child("set", ns::RSM))?;
        let flip = query.has_child("flip-page", ns::MAM);
        let then = Then::Page { query_id: query.attr("queryid").map(str::to_owned), flip };
        self.ask(now, head, room, What::Page(filter, page), then)
    }

    /// Where the archive begins and ends (XEP-0313 §5).
    pub(super) fn archive_ends(&mut self, now: Now, head: &Head, room: &Room) -> Result<(), Fault> {
        may_read(head, room)?;
        self.ask(now, head, room, What::Ends, Then::Ends)
    }

    fn ask(
        &mut self,
        now: Now,
        head: &Head,
        room: &Room,
        what: What,
        then: Then,
    ) -> Result<(), Fault> {
        self.asked.ask(now, self.config.rates.queries, head, room, what, then)
    }

    fn filter(&self, head: &Head, room: &Room, form: &Element) -> Result<Filter, Fault> {
        if form::form_type(form) != "submit" {
            return Err(Fault::bad_request("A form is submitted."));
        }
        let form = Submitted::read(form, ns::MAM)?;
        let known = ["FORM_TYPE", WITH, START, END, BEFORE_ID, AFTER_ID, IDS];
        // Leaving it out would answer something else than what was asked.
        if form.names().any(|name| !known.contains(&name)) {
            return Err(Fault::not_implemented());
        }
        let ids = form.values(IDS).unwrap_or_default().to_vec();
        if ids.len() > MAX_PAGE {
            return Err(Fault::too_big("Too many ids in one query."));
        }
        // A field that was left empty asks for nothing.
        let text = |var| form.text(var).filter(|text| !text.is_empty());
        let id = |var| text(var).map(str::to_owned);
        Ok(Filter {
            with: text(WITH).map(|with| self.with(head, room, with)).transpose()?.flatten(),
            start: text(START).map(time).transpose()?,
            end: text(END).map(time).transpose()?,
            after_id: id(AFTER_ID),
            before_id: id(BEFORE_ID),
            ids,
        })
    }

    /// XEP-0313 §6.1.2: an occupant, or an address for those who may see addresses; the room itself
    /// is everyone.
    fn with(&self, head: &Head, room: &Room, text: &str) -> Result<Option<With>, Fault> {
        let jid =
            Jid::new(text).map_err(|_| Fault::jid_malformed("with is not a legal address."))?;
        if jid.to_bare() == self.room_jid(&room.name) {
            return Ok(jid.resource().map(|nick| With::Nick(nick.to_string())));
        }
        if !sees_addresses(head, room) {
            return Err(Fault::forbidden("You may not see addresses in this room."));
        }
        Ok(Some(With::Jid(jid.to_bare())))
    }

    /// XEP-0313 §4.2: each message, then the result, which says where in the archive that was.
    fn show_page(
        &self,
        head: &Head,
        room: &Room,
        query_id: Option<&str>,
        flip: bool,
        found: Found,
        out: &mut Stanzas,
    ) {
        let Found { mut messages, complete, count } = found;
        let id = |said: Option<&Said>| said.and_then(|said| said.payload.stanza_id.clone());
        let set = SetResult {
            first: id(messages.first()).map(|item| First { index: None, item }),
            last: id(messages.last()),
            count,
        };
        if flip {
            messages.reverse();
        }
        let open = sees_addresses(head, room);
        out.extend(messages.iter().map(|said| self.shown(head, room, query_id, said, open)));
        let fin = Xml::new("fin", ns::MAM)
            .maybe("complete", complete.then_some("true"))
            .child(Element::from(set));
        out.push(head.result(Some(fin.into())));
    }

    /// A message as the archive shows it: from its author in the room, to nobody, with their address
    /// for those who may see it (XEP-0313 §6.1.2, XEP-0297).
    fn shown(
        &self,
        head: &Head,
        room: &Room,
        query_id: Option<&str>,
        said: &Said,
        open: bool,
    ) -> Element {
        let mut message = Element::clone(&said.payload.stanza);
        xml::set(&mut message, "from", &self.author(&room.name, said));
        if let Some(id) = &said.id {
            xml::set(&mut message, "id", id);
        }
        if let Some(jid) = said.author.as_ref().and_then(|author| author.jid.as_ref())
            && open
        {
            let affiliation = room.affiliation(&Who::Jid(jid.clone()));
            let item = Xml::new("item", ns::MUC_USER)
                .attr("affiliation", affiliation.as_str())
                .attr("jid", jid.as_str());
            message.append_child(Xml::new("x", ns::MUC_USER).child(item).into());
        }
        let forwarded = Xml::new("forwarded", ns::FORWARD)
            .child(Xml::new("delay", ns::DELAY).attr("stamp", stamp(said.at)))
            .child(message);
        let result = Xml::new("result", ns::MAM)
            .maybe("queryid", query_id)
            .maybe("id", said.payload.stanza_id.as_ref())
            .child(forwarded);
        Xml::new("message", ns::CLIENT)
            .attr("from", head.to.as_str())
            .attr("to", head.from.as_str())
            .child(result)
            .into()
    }

    /// A moderator takes a message back (XEP-0425 §4), in the syntax of today or in the one before
    /// version 0.3.
    pub(super) fn retract(
        &mut self,
        now: Now,
        head: &Head,
        room: &Room,
        query: &Element,
    ) -> Result<Option<Ask>, Fault> {
        let old = query.name() == "apply-to";
        let moderate =
            if old { query.get_child("moderate", ns::OLD_MODERATE) } else { Some(query) };
        let moderate = moderate.ok_or(Fault::unavailable())?;
        let (own, retract) =
            if old { (ns::OLD_MODERATE, ns::OLD_RETRACT) } else { (ns::MODERATE, ns::RETRACT) };
        if !moderate.has_child("retract", retract) {
            return Err(Fault::not_implemented());
        }
        let id = query.attr("id").ok_or(Fault::bad_request("Which message is taken back?"))?;
        let reason = xml::child_text(moderate, "reason", own)
            .map(|reason| xml::cut(&reason, MAX_REASON).to_owned())
            .filter(|reason| !reason.is_empty());
        let (role, affiliation) = super::standing(room, &head.from);
        if role != Some(Role::Moderator) && affiliation < Affiliation::Admin {
            return Err(Refusal::Forbidden.into());
        }
        match room.history.by_stanza_id(id) {
            Some(said) => self.retraction(now, head, room, said, reason.as_deref()).map(Some),
            None if room.settings.archived() => {
                let (what, then) = (What::Message(id.to_owned()), Then::Retract { reason });
                self.ask(now, head, room, what, then).map(|()| None)
            }
            None => Err(NO_SUCH_MESSAGE),
        }
    }

    /// The command that takes a message back, with what all are told (XEP-0425 §4) and what is left of
    /// the message (XEP-0424 §5).
    fn retraction(
        &mut self,
        now: Now,
        head: &Head,
        room: &Room,
        said: &Said,
        reason: Option<&str>,
    ) -> Result<Ask, Fault> {
        let chat = head.session()?;
        let id = said.payload.stanza_id.clone().filter(|_| said.can_be_retracted());
        let id = id.ok_or(NO_SUCH_MESSAGE)?;
        let jid = self.room_jid(&room.name);
        let moderator = match room.by_chat(chat) {
            Some(person) => self.occupant(&room.name, &person.nick),
            None => jid.to_string(),
        };
        let occupant_id = self.occupant_id(&room.name, &Who::Jid(chat.to_bare()));
        let moderated = Xml::new("moderated", ns::MODERATE)
            .attr("by", &moderator)
            .child(Xml::new("occupant-id", ns::OID).attr("id", occupant_id));
        let because = |ns| reason.map(|reason| Xml::new("reason", ns).text(reason));
        let fresh = self.fresh_id();

        let retract = Xml::new("retract", ns::RETRACT)
            .attr("id", &id)
            .child(moderated.clone())
            .children(because(ns::RETRACT));
        let moderated_then = Xml::new("moderated", ns::OLD_MODERATE)
            .attr("by", &moderator)
            .child(Xml::new("retract", ns::OLD_RETRACT))
            .children(because(ns::OLD_MODERATE));
        let announcement = Xml::new("message", ns::CLIENT)
            .attr("type", "groupchat")
            .child(retract)
            .child(Xml::new("apply-to", ns::FASTEN).attr("id", &id).child(moderated_then))
            .child(Xml::new("stanza-id", ns::SID).attr("by", jid.as_str()).attr("id", &fresh));
        let announcement = Payload {
            stanza: Arc::new(announcement.into()),
            lasting: true,
            text: false,
            stanza_id: Some(fresh.clone()),
        };

        let mut tombstone = Element::clone(&said.payload.stanza);
        xml::retain(&mut tombstone, |child| matches!(child.ns().as_str(), ns::OID | ns::SID));
        let retracted = Xml::new("retracted", ns::RETRACT)
            .attr("id", &fresh)
            .attr("stamp", stamp(now.utc))
            .child(moderated)
            .children(because(ns::RETRACT));
        tombstone.append_child(retracted.into());

        let command = Command::Retract { id, tombstone: Arc::new(tombstone), announcement };
        let (room, by) = (room.name.clone(), By::Chat(chat.clone()));
        Ok(Ask { room, by, command, reply: Reply::Iq(head.clone()) })
    }
}

/// Who may read the archive: at the moment of the question, and as who may enter (XEP-0313 §6.1.2).
/// An open room's archive is for those who are in it or belong to it.
fn may_read(head: &Head, room: &Room) -> Result<(), Fault> {
    if !room.settings.archived() {
        return Err(Fault::unavailable());
    }
    let who = Who::Jid(head.from.to_bare());
    let here = || room.people.all_of(&who).next().is_some();
    match room.affiliation(&who) {
        Affiliation::Outcast => Err(Refusal::Banned.into()),
        Affiliation::Member | Affiliation::Admin | Affiliation::Owner => Ok(()),
        Affiliation::None if !room.settings.members_only && here() => Ok(()),
        Affiliation::None => Err(Fault::forbidden("Only occupants and members may read this.")),
    }
}

/// Whether someone may see the addresses behind nicks.
fn sees_addresses(head: &Head, room: &Room) -> bool {
    let (role, affiliation) = super::standing(room, &head.from);
    room.settings.whois == Whois::Anyone
        || role == Some(Role::Moderator)
        || affiliation >= Affiliation::Admin
}

/// Which page is wanted (XEP-0059 §2); none given: the first.
fn page(set: Option<&Element>) -> Result<Page, Fault> {
    let Some(set) = set else { return Ok(Page { most: MAX_PAGE, from: From::First }) };
    let set = SetQuery::try_from(set.clone())
        .map_err(|_| Fault::bad_request("This page cannot be read."))?;
    let most = set.max.unwrap_or(MAX_PAGE).min(MAX_PAGE);
    let from = match (set.after, set.before, set.index) {
        (_, _, Some(_)) => return Err(Fault::not_implemented()),
        (Some(_), Some(_), _) => return Err(Fault::bad_request("A page is after or before.")),
        (None, None, None) => From::First,
        (Some(id), None, None) if id.is_empty() => From::First,
        (Some(id), None, None) => From::After(id),
        (None, Some(id), None) if id.is_empty() => From::Last,
        (None, Some(id), None) => From::Before(id),
    };
    Ok(Page { most, from })
}

/// A moment (XEP-0082).
fn time(text: &str) -> Result<SystemTime, Fault> {
    let time = text.trim().parse::<xmpp_parsers::date::DateTime>();
    time.map(|time| time.0.into()).map_err(|_| Fault::bad_request("A date and time is expected."))
}

fn metadata(ends: Option<(End, End)>) -> Element {
    let end = |name, end: End| {
        Xml::new(name, ns::MAM).attr("id", end.id).attr("timestamp", stamp(end.at))
    };
    let ends = ends.map(|(first, last)| [end("start", first), end("end", last)]);
    Xml::new("metadata", ns::MAM).children(ends.into_iter().flatten()).into()
}

const NO_SUCH_MESSAGE: Fault = Fault::not_found("There is no such message.");
const UNREADABLE: Fault = Fault::busy("The archive cannot be read at the moment.");

// XEP-0313 §4.1.
const WITH: &str = "with";
const START: &str = "start";
const END: &str = "end";
const BEFORE_ID: &str = "before-id";
const AFTER_ID: &str = "after-id";
const IDS: &str = "ids";
