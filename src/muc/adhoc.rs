//! Ad-hoc commands (XEP-0050): what the table of operations has, for service admins by the service
//! itself, and the part of it that keeps order for moderators by their room; a room's hats (`hats`).
//!
//! A command asks in one form what it needs to know. Where part of that depends on the room, the room
//! is asked first. Nothing is done before the last form, and what is refused can be tried again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use jid::Jid;
use minidom::Element;
use serde_json::{Map, Value};
use xmpp_parsers::data_forms::{DataForm, DataFormType, Field, FieldType, Option_};
use xmpp_parsers::disco::{DiscoInfoResult, DiscoItemsResult, Identity, Item};

use super::error::Fault;
use super::form::{self, Submitted};
use super::hats::{self, Wish};
use super::limits::{MAX_PAGE, MAX_REASON, MAX_SESSIONS, MAX_SESSIONS_OF_ONE, SESSION_TIMEOUT};
use super::stanza::Head;
use super::xml::{self, Xml, ns};
use super::{Ask, Muc, Reply, owner};
use crate::clock::Now;
use crate::id::{Nick, RoomName};
use crate::operation::{Kind, Operation, Param};
use crate::room::settings::{self, Settings};
use crate::room::standing::{Affiliation, Role};
use crate::room::{By, Refusal, Room, Rooms};
use crate::stanzas::Stanzas;

/// A command that is complete, for the operators' face to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// By whom: an operator, or a moderator with no more power than the room gives them.
    pub by: By,
    /// What.
    pub operation: Operation,
    /// What it needs to know, by the names of the operation's parameters.
    pub values: Map<String, Value>,
    /// How to answer.
    head: Head,
    session: String,
}

/// Commands that are not complete yet.
#[derive(Debug, Default)]
pub(super) struct Commands {
    sessions: BTreeMap<u64, Session>,
    /// How many sessions there were.
    count: u64,
    orders: VecDeque<Order>,
}

/// One command that waits for a form (XEP-0050 §4.2).
#[derive(Clone, Debug)]
struct Session {
    /// Its id as the asker knows it.
    id: String,
    from: Jid,
    to: Jid,
    node: Node,
    /// The room that was named in the first of two forms.
    room: Option<RoomName>,
    /// Whether the form that was shown is the last.
    last: bool,
    until: Instant,
}

/// What a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    /// What the table of operations has.
    Operation(Operation),
    /// A room's hats.
    Hats(Wish),
}

/// What the asker wants of a command (XEP-0050 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Execute,
    Next,
    Prev,
    Complete,
    Cancel,
}

/// What a form that came in makes of a command.
enum Step {
    /// There is something to ask.
    Ask(Vec<Field>, bool),
    /// It is complete.
    Do(Map<String, Value>),
}

impl Muc {
    /// A command that is complete, if one is.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.commands.orders.pop_front()
    }

    /// Tells who gave an order what came of it: `status` is the operators' face's, in words of HTTP.
    pub fn ordered(&mut self, order: Order, status: u16, body: &Value, out: &mut Stanzas) {
        let Order { operation, head, session, .. } = order;
        if (200..300).contains(&status) {
            self.commands.sessions.retain(|_, it| it.id != session);
            let payload: Element = if operation.spec().changes {
                Xml::new("note", ns::COMMANDS).attr("type", "info").text("Done.").into()
            } else {
                shown(operation, body)
            };
            let done = state(operation.spec().node, &session, "completed").child(payload);
            out.push(head.result(Some(done.into())));
            return;
        }
        let why = body.get("error").and_then(Value::as_str).unwrap_or_default().to_owned();
        let fault = match status {
            400 => BAD_PAYLOAD,
            403 => Fault::forbidden(""),
            404 => Fault::not_found(""),
            409 => Fault::conflict(""),
            _ => Fault::busy(""),
        };
        out.push(fault.saying(why).bounce("iq", &head, None, head.room_jid()));
    }

    /// Tells every session that is in any room something, once (XEP-0133 §4.23).
    pub fn announce(&self, subject: Option<&str>, text: &str, out: &mut Stanzas) {
        let chats: BTreeSet<_> = self.chats.iter().map(|(_, chat)| chat).collect();
        let subject = subject.map(|subject| Xml::new("subject", ns::CLIENT).text(subject));
        let told = Xml::new("message", ns::CLIENT)
            .attr("from", self.config.domain.as_str())
            .children(subject)
            .child(Xml::new("body", ns::CLIENT).text(text));
        out.push_to(told, chats.into_iter().cloned().collect());
    }

    /// A `<command/>`, of the service or of a room. `lang` is what the stanza says.
    pub(super) fn command(
        &mut self,
        now: Now,
        head: &Head,
        (lang, command): (Option<&str>, &Element),
        room: Option<&Room>,
        rooms: &Rooms,
        out: &mut Stanzas,
    ) -> Result<Option<Ask>, Fault> {
        let node = command.attr("node").ok_or(Fault::bad_request("A command has a node."))?;
        let node = Node::all(room.is_some())
            .find(|it| it.name() == node)
            .ok_or(Fault::not_found("There is no such command here."))?;
        if !node.may(&head.from, room, rooms) {
            return Err(Refusal::Forbidden.into());
        }
        let action = Action::read(command.attr("action"))?;
        // What people read is in English, whatever they ask for; but no language is none.
        let lang = xml::lang(command).or(lang);
        if lang.is_some_and(|lang| lang.is_empty() || !settings::tag(lang)) {
            return Err(
                Fault::bad_request("That is no language.").detail("bad-locale", ns::COMMANDS)
            );
        }
        let session = match command.attr("sessionid") {
            None => None,
            Some(id) => Some(self.commands.session(now, id, head, node)?),
        };
        let form = command.get_child("x", ns::DATA_FORMS).map(|form| submitted(form, node));
        let form = form.transpose()?;
        let goes_back = session.as_ref().is_some_and(|session| session.room.is_some());
        match (action, &session) {
            (Action::Execute, _) => {}
            (Action::Cancel | Action::Prev | Action::Next | Action::Complete, None) => {
                let why = Fault::bad_request("That needs a session.");
                return Err(why.detail("bad-sessionid", ns::COMMANDS));
            }
            (Action::Cancel, Some(session)) => {
                self.commands.sessions.retain(|_, it| it.id != session.id);
                let done = state(node.name(), &session.id, "canceled");
                out.push(head.result(Some(done.into())));
                return Ok(None);
            }
            (Action::Prev, Some(_)) if goes_back => {}
            (Action::Next, Some(session)) if !session.last => {}
            (Action::Complete, Some(session)) if session.last => {}
            (Action::Prev | Action::Next | Action::Complete, Some(_)) => {
                let why = Fault::bad_request("That action is not offered here.");
                return Err(why.detail("bad-action", ns::COMMANDS));
            }
        }
        let back = action == Action::Prev;
        let last = session.as_ref().is_some_and(|session| session.last) && !back;
        let named = session.as_ref().and_then(|session| session.room.clone()).filter(|_| !back);
        let form = form.filter(|_| !back);
        let operation = match (node, room) {
            (Node::Operation(operation), _) => operation,
            (Node::Hats(wish), Some(room)) => {
                return self.hats(now, head, room, wish, form.as_ref(), session, out);
            }
            (Node::Hats(_), None) => return Err(Fault::not_found("A hat is of a room.")),
        };
        let named = match (room, named) {
            (Some(room), _) => Some(room.name.clone()),
            (None, Some(named)) => Some(named),
            (None, None) => self.named(operation, form.as_ref())?,
        };
        let step = step(operation, room.is_some(), named.as_ref(), form.as_ref(), last, rooms)?;
        match step {
            Step::Ask(fields, last) => {
                let two = !last || (room.is_none() && has_two_forms(operation));
                let room = named.filter(|_| last && two);
                let again = session.map(|session| session.id);
                let id = self.commands.remember(now, head, node, again, (room, last))?;
                out.push(head.result(Some(asked(node, &id, fields, two.then_some(last)))));
            }
            Step::Do(values) => {
                let by = match (room, head.chat()) {
                    (Some(_), Some(chat)) => By::Chat(chat.clone()),
                    (Some(_), None) => return Err(Refusal::Forbidden.into()),
                    (None, _) => By::Operator(head.from.to_bare().to_string()),
                };
                let session = session.map_or_else(|| self.commands.next_id(), |it| it.id);
                let head = head.clone();
                self.commands.orders.push_back(Order { by, operation, values, head, session });
            }
        }
        Ok(None)
    }

    /// A command about hats: one form, and the room decides.
    #[expect(clippy::too_many_arguments, reason = "what a stanza and its session say")]
    fn hats(
        &mut self,
        now: Now,
        head: &Head,
        room: &Room,
        wish: Wish,
        form: Option<&Submitted>,
        session: Option<Session>,
        out: &mut Stanzas,
    ) -> Result<Option<Ask>, Fault> {
        let node = Node::Hats(wish);
        let fields = wish.fields(room);
        if form.is_none() && session.is_none() && !fields.is_empty() {
            let id = self.commands.remember(now, head, node, None, (None, true))?;
            out.push(head.result(Some(asked(node, &id, fields, None))));
            return Ok(None);
        }
        let command = wish
            .command(form.unwrap_or(&Submitted::default()))
            .map_err(|fault| fault.detail("bad-payload", ns::COMMANDS))?;
        let session = session.map_or_else(|| self.commands.next_id(), |it| it.id);
        let Some(command) = command else {
            let list = state(node.name(), &session, "completed").child(hats::listed(room));
            out.push(head.result(Some(list.into())));
            return Ok(None);
        };
        let (room, by) = (room.name.clone(), By::Chat(head.session()?.clone()));
        let reply = Reply::Command(head.clone(), node.name(), session);
        Ok(Some(Ask { room, by, command, reply }))
    }

    /// The room that a form names, by its name or its address.
    fn named(
        &self,
        operation: Operation,
        form: Option<&Submitted>,
    ) -> Result<Option<RoomName>, Fault> {
        let Some(param) = operation.spec().params.first().filter(|param| param.kind.is_room())
        else {
            return Ok(None);
        };
        let Some(text) = form.and_then(|form| form.text(param.name)).map(str::trim) else {
            return Ok(None);
        };
        let name = match Jid::new(text) {
            Ok(jid) if jid.domain() == &*self.config.domain => {
                jid.node().map(|node| node.as_str().to_owned())
            }
            Ok(_) | Err(_) => None,
        };
        RoomName::new(name.as_deref().unwrap_or(text))
            .map(Some)
            .map_err(|_| BAD_PAYLOAD.saying("That is not a name of a room.".to_owned()))
    }
}

/// The commands that someone may give the service, or a room (XEP-0050 §2.2).
pub(super) fn commands(head: &Head, room: Option<&Room>, rooms: &Rooms) -> Element {
    let items = offered(&head.from, room, rooms).map(|node| Item {
        jid: head.to.clone(),
        node: Some(node.name().to_owned()),
        name: Some(node.title().to_owned()),
    });
    let node = Some(ns::COMMANDS.to_owned());
    DiscoItemsResult { node, items: items.collect(), rsm: None }.into()
}

/// What a command says of itself, or the list of them (XEP-0050 §2.2); `None` if there is no such.
pub(super) fn about(
    head: &Head,
    node: &str,
    room: Option<&Room>,
    rooms: &Rooms,
) -> Option<Element> {
    let (kind, name, features): (_, _, &[&str]) = if node == ns::COMMANDS {
        ("command-list", "Commands", &[ns::DISCO_INFO, ns::DISCO_ITEMS])
    } else {
        let command = offered(&head.from, room, rooms).find(|it| it.name() == node)?;
        ("command-node", command.title(), &[ns::COMMANDS, ns::DATA_FORMS])
    };
    let identity = Identity {
        name: Some(name.to_owned()),
        ..Identity::new_anonymous::<_, _, &str, &str>("automation", kind)
    };
    let about = DiscoInfoResult {
        node: Some(node.to_owned()),
        identities: vec![identity],
        features: features.iter().map(|feature| (*feature).to_owned()).collect(),
        extensions: vec![],
    };
    Some(about.into())
}

fn offered(from: &Jid, room: Option<&Room>, rooms: &Rooms) -> impl Iterator<Item = Node> {
    Node::all(room.is_some()).filter(move |node| node.may(from, room, rooms))
}

impl Node {
    /// All commands, of the service or of a room.
    fn all(of_room: bool) -> impl Iterator<Item = Self> {
        let operations = Operation::ALL.into_iter();
        let operations = operations.filter(move |it| !of_room || it.spec().of_rooms);
        let hats = Wish::ALL.into_iter().filter(move |_| of_room);
        operations.map(Self::Operation).chain(hats.map(Self::Hats))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Operation(operation) => operation.spec().node,
            Self::Hats(wish) => wish.node(),
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Operation(operation) => operation.spec().title,
            Self::Hats(wish) => wish.title(),
        }
    }

    const fn form_type(self) -> &'static str {
        match self {
            Self::Operation(Operation::Announce | Operation::Drain) => ns::ADMIN,
            Self::Operation(_) => "urn:x-cusax:command",
            Self::Hats(_) => hats::FORM_TYPE,
        }
    }

    fn may(self, from: &Jid, room: Option<&Room>, rooms: &Rooms) -> bool {
        match (self, room) {
            (Self::Operation(_), _) => may_command(from, room, rooms),
            (Self::Hats(wish), Some(room)) => wish.may(room, from),
            (Self::Hats(_), None) => false,
        }
    }
}

/// Of the service: its admins. Of a room: who keeps order there, as far as that can be told without
/// knowing what is to be done to whom.
fn may_command(from: &Jid, room: Option<&Room>, rooms: &Rooms) -> bool {
    match room {
        None => rooms.policy().admins.contains(&from.to_bare()),
        Some(room) => {
            let (role, affiliation) = super::standing(room, from);
            role == Some(Role::Moderator) || affiliation >= Affiliation::Admin
        }
    }
}

/// Whether the room has to be known before the rest can be asked.
fn has_two_forms(operation: Operation) -> bool {
    operation.spec().params.iter().any(|param| param.kind.is_of_a_room())
}

/// What is still to be asked, or the whole command. `last`: the last form came back.
fn step(
    operation: Operation,
    implied: bool,
    named: Option<&RoomName>,
    form: Option<&Submitted>,
    last: bool,
    rooms: &Rooms,
) -> Result<Step, Fault> {
    let spec = operation.spec();
    let empty = Submitted::default();
    let given = form.unwrap_or(&empty);
    let two = has_two_forms(operation);
    let asks_room = !implied && spec.params.iter().any(|param| param.kind.is_room());
    if asks_room && named.is_none() {
        if last {
            return Err(missing("Room"));
        }
        let params = spec.params.iter().filter(|param| !two || param.kind.is_room());
        return Ok(Step::Ask(fields(params, None, rooms), !two));
    }
    let room = named.and_then(|name| super::open(rooms, name));
    let params = spec.params.iter().filter(|param| !param.kind.is_room());
    if room.is_none() && spec.params.iter().any(|param| param.kind == Kind::Room) {
        return Err(Refusal::NoSuchRoom.into());
    }
    let lacks = |param: &&Param| match param.kind {
        Kind::Settings => !last && !given.names().any(owner::is_setting),
        Kind::Room | Kind::AnyRoom => false,
        Kind::Person | Kind::Jid | Kind::Text | Kind::Lines | Kind::Secret | Kind::Seconds => {
            param.required && given.text(param.name).is_none_or(|text| text.trim().is_empty())
        }
    };
    // A command that asks for something is not given by a mere click.
    if form.is_none() && !last && !two && params.clone().next().is_some() {
        return Ok(Step::Ask(fields(params, room, rooms), true));
    }
    match params.clone().find(lacks) {
        Some(param) if last => return Err(missing(param.label)),
        Some(_) => return Ok(Step::Ask(fields(params, room, rooms), true)),
        None => {}
    }
    let mut values = Map::new();
    if let Some(name) = named {
        values.insert("room".to_owned(), Value::from(name.as_str()));
    }
    for param in params {
        if let Some(value) = value(param, given, room)? {
            values.insert(param.name.to_owned(), value);
        }
    }
    Ok(Step::Do(values))
}

/// What a form says of one parameter; nothing if it was left empty.
fn value(param: &Param, form: &Submitted, room: Option<&Room>) -> Result<Option<Value>, Fault> {
    let text = || form.text(param.name).map(str::trim).filter(|text| !text.is_empty());
    Ok(match param.kind {
        Kind::Room | Kind::AnyRoom => None,
        Kind::Settings => {
            let made = Settings::of_operators();
            let old = room.map_or(&made, |room| &room.settings);
            let settings = owner::configured(old, form)
                .map_err(|fault| fault.detail("bad-payload", ns::COMMANDS))?;
            Some(serde_json::to_value(settings).expect("settings are plain data"))
        }
        Kind::Person => text().map(|text| {
            let called = Nick::new(text).ok();
            let person = called.and_then(|nick| room?.by_nick(&nick)).map(|it| it.id.to_string());
            // A number first, so that no nick can pass for one.
            let numbered =
                room.is_some_and(|room| room.people.values().any(|it| it.id.to_string() == text));
            Value::from(person.filter(|_| !numbered).unwrap_or_else(|| text.to_owned()))
        }),
        Kind::Lines => form.lines(param.name).filter(|it| !it.trim().is_empty()).map(Value::from),
        Kind::Jid | Kind::Text => text().map(|text| Value::from(xml::cut(text, MAX_REASON))),
        Kind::Secret => form.text(param.name).filter(|it| !it.is_empty()).map(Value::from),
        Kind::Seconds => match text().map(str::parse::<u64>) {
            None => None,
            Some(Ok(seconds)) => Some(Value::from(seconds)),
            Some(Err(_)) => {
                let why = format!("{}: this is no number of seconds.", param.label);
                return Err(BAD_PAYLOAD.saying(why));
            }
        },
    })
}

/// How parameters are asked for; settings are many fields.
fn fields<'a>(
    params: impl Iterator<Item = &'a Param>,
    room: Option<&Room>,
    rooms: &Rooms,
) -> Vec<Field> {
    let made = Settings::of_operators();
    let settings = room.map_or(&made, |room| &room.settings);
    params
        .flat_map(|param| match param.kind {
            Kind::Settings => owner::fields(settings),
            Kind::Room
            | Kind::AnyRoom
            | Kind::Person
            | Kind::Jid
            | Kind::Text
            | Kind::Lines
            | Kind::Secret
            | Kind::Seconds => vec![field(param, room, rooms)],
        })
        .collect()
}

fn field(param: &Param, room: Option<&Room>, rooms: &Rooms) -> Field {
    let options: Vec<(String, String)> = match param.kind {
        Kind::Room => rooms
            .iter()
            .filter(|room| !room.has_ended())
            .take(MAX_PAGE + 1)
            .map(|room| (room.name.to_string(), room.settings.name.clone()))
            .collect(),
        Kind::Person => room
            .iter()
            .flat_map(|room| room.people.values())
            .take(MAX_PAGE + 1)
            .map(|person| (person.id.to_string(), person.nick.to_string()))
            .collect(),
        Kind::AnyRoom
        | Kind::Settings
        | Kind::Jid
        | Kind::Text
        | Kind::Lines
        | Kind::Secret
        | Kind::Seconds => {
            vec![]
        }
    };
    // A list of hundreds is no help; then the name is typed.
    let lists = (1..=MAX_PAGE).contains(&options.len());
    let kind = match param.kind {
        Kind::Room | Kind::Person if lists => FieldType::ListSingle,
        Kind::Room | Kind::AnyRoom | Kind::Person | Kind::Text | Kind::Settings | Kind::Seconds => {
            FieldType::TextSingle
        }
        Kind::Jid => FieldType::JidSingle,
        Kind::Lines => FieldType::TextMulti,
        Kind::Secret => FieldType::TextPrivate,
    };
    let mut field = Field::new(param.name, kind);
    field.label = Some(param.label.to_owned());
    field.required = param.required;
    if lists {
        field.options = options
            .into_iter()
            .map(|(value, label)| {
                let label = if label.is_empty() { value.clone() } else { label };
                Option_ { label: Some(label), value }
            })
            .collect();
    }
    field
}

impl Action {
    fn read(word: Option<&str>) -> Result<Self, Fault> {
        match word {
            None | Some("execute") => Ok(Self::Execute),
            Some("next") => Ok(Self::Next),
            Some("prev") => Ok(Self::Prev),
            Some("complete") => Ok(Self::Complete),
            Some("cancel") => Ok(Self::Cancel),
            Some(_) => {
                let why = Fault::bad_request("There is no such action.");
                Err(why.detail("malformed-action", ns::COMMANDS))
            }
        }
    }
}

impl Commands {
    /// The end of a session in which all was done.
    pub(super) fn done(&mut self, node: &'static str, session: &str) -> Element {
        self.sessions.retain(|_, it| it.id != session);
        let note = Xml::new("note", ns::COMMANDS).attr("type", "info").text("Done.");
        state(node, session, "completed").child(note).into()
    }

    /// The session of an id, if it is this asker's for this command and not too old.
    fn session(&mut self, now: Now, id: &str, head: &Head, node: Node) -> Result<Session, Fault> {
        self.sessions.retain(|_, session| session.until > now.instant);
        let found = self.sessions.values().find(|session| session.id == id);
        let fits = |session: &&Session| {
            session.from == head.from && session.to == head.to && session.node == node
        };
        match found {
            Some(session) => found.filter(fits).map_or(Err(BAD_SESSION), |_| Ok(session.clone())),
            None => {
                let number = id.split('-').next().and_then(|number| number.parse::<u64>().ok());
                let was = number.is_some_and(|number| (1..=self.count).contains(&number));
                let over = Fault::not_allowed("This session is over.");
                Err(if was { over.detail("session-expired", ns::COMMANDS) } else { BAD_SESSION })
            }
        }
    }

    /// Remembers what was asked, in a new session or in the one that is `again` in use; its id.
    fn remember(
        &mut self,
        now: Now,
        head: &Head,
        node: Node,
        again: Option<String>,
        (room, last): (Option<RoomName>, bool),
    ) -> Result<String, Fault> {
        let until = now.instant + SESSION_TIMEOUT;
        if let Some(id) = again {
            if let Some(session) = self.sessions.values_mut().find(|session| session.id == id) {
                (session.room, session.last, session.until) = (room, last, until);
            }
            return Ok(id);
        }
        self.sessions.retain(|_, session| session.until > now.instant);
        let theirs = self.sessions.iter().filter(|(_, session)| session.from == head.from);
        let (count, oldest) = (theirs.clone().count(), theirs.map(|(number, _)| *number).next());
        // Who begins more than they end gives up the oldest.
        if let Some(oldest) = oldest.filter(|_| count >= MAX_SESSIONS_OF_ONE) {
            self.sessions.remove(&oldest);
        }
        if self.sessions.len() >= MAX_SESSIONS {
            return Err(Fault::busy("Too many commands wait for their forms."));
        }
        let id = self.next_id();
        let (from, to) = (head.from.clone(), head.to.clone());
        let session = Session { id: id.clone(), from, to, node, room, last, until };
        self.sessions.insert(self.count, session);
        Ok(id)
    }

    /// An id that was none before (XEP-0050 §4.3). It is no secret: a session is of one address.
    fn next_id(&mut self) -> String {
        self.count += 1;
        format!("{}-command", self.count)
    }
}

/// A form that came in; one that is cancelled is taken for submitted (XEP-0050 §4.5.1).
fn submitted(form: &Element, node: Node) -> Result<Submitted, Fault> {
    match form::form_type(form) {
        "submit" | "cancel" => Submitted::read(form, node.form_type())
            .map_err(|fault| fault.detail("bad-payload", ns::COMMANDS)),
        _ => Err(BAD_PAYLOAD.saying("A form is submitted.".to_owned())),
    }
}

fn missing(label: &str) -> Fault {
    BAD_PAYLOAD.saying(format!("{label}: this is needed."))
}

/// The state of a command (XEP-0050 §4.4).
fn state(node: &'static str, session: &str, status: &'static str) -> Xml {
    Xml::new("command", ns::COMMANDS)
        .attr("node", node)
        .attr("sessionid", session)
        .attr("status", status)
        .lang("en")
}

/// A form to fill in. `stage`: one of two, and whether it is the second.
fn asked(node: Node, session: &str, fields: Vec<Field>, stage: Option<bool>) -> Element {
    let actions = match stage {
        None => Xml::new("actions", ns::COMMANDS)
            .attr("execute", "complete")
            .child(Xml::new("complete", ns::COMMANDS)),
        Some(false) => Xml::new("actions", ns::COMMANDS)
            .attr("execute", "next")
            .child(Xml::new("next", ns::COMMANDS)),
        Some(true) => Xml::new("actions", ns::COMMANDS)
            .attr("execute", "complete")
            .children(["prev", "complete"].map(|action| Xml::new(action, ns::COMMANDS))),
    };
    let mut form = DataForm::new(DataFormType::Form, node.form_type(), fields);
    form.title = Some(node.title().to_owned());
    state(node.name(), session, "executing").child(actions).child(Element::from(form)).into()
}

/// An answer as a form: a list as a table (XEP-0004 §3.4), a room as fields.
fn shown(operation: Operation, body: &Value) -> Element {
    let list = body.as_object().filter(|object| object.len() == 1);
    let list = list.and_then(|object| object.values().next()).and_then(Value::as_array);
    let Some(lines) = list else {
        let mut fields = vec![];
        flatten("", body, &mut fields);
        let mut form =
            DataForm::new(DataFormType::Result_, Node::Operation(operation).form_type(), fields);
        form.title = Some(operation.spec().title.to_owned());
        return form.into();
    };
    let columns: Vec<&String> =
        lines.first().and_then(Value::as_object).into_iter().flat_map(Map::keys).collect();
    let reported = columns
        .iter()
        .map(|key| Xml::new("field", ns::DATA_FORMS).attr("var", key).attr("label", label(key)));
    let items = lines.iter().map(|line| {
        Xml::new("item", ns::DATA_FORMS).children(columns.iter().map(|key| {
            Xml::new("field", ns::DATA_FORMS)
                .attr("var", key)
                .child(Xml::new("value", ns::DATA_FORMS).text(&word(&line[key.as_str()])))
        }))
    });
    Xml::new("x", ns::DATA_FORMS)
        .attr("type", "result")
        .child(Xml::new("title", ns::DATA_FORMS).text(operation.spec().title))
        .children(
            (!columns.is_empty()).then(|| Xml::new("reported", ns::DATA_FORMS).children(reported)),
        )
        .children(items)
        .into()
}

/// Every value that is there, as a field; what is in something by both names.
fn flatten(under: &str, value: &Value, fields: &mut Vec<Field>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let var = if under.is_empty() { key.clone() } else { format!("{under}.{key}") };
        match value {
            Value::Null => {}
            Value::Object(_) => flatten(&var, value, fields),
            Value::Array(lines) => {
                let lines = lines.iter().map(word);
                fields.push(form::list(&var, FieldType::TextMulti, &label(&var), lines));
            }
            Value::Bool(yes) => fields.push(form::yes_no(&var, &label(&var), *yes)),
            Value::Number(_) | Value::String(_) => {
                fields.push(form::field(&var, FieldType::TextSingle, &label(&var), &word(value)));
            }
        }
    }
}

/// A value in a line: of someone or something what people tell it by.
fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(values) => values.iter().map(word).collect::<Vec<_>>().join(", "),
        Value::Object(it) => {
            let keys = ["id", "nick", "level", "role", "affiliation", "jid", "aor", "origin"];
            let words = keys.iter().filter_map(|key| it.get(*key)).filter(|it| !it.is_null());
            words.map(word).collect::<Vec<_>>().join(" ")
        }
    }
}

/// `members_only` as `Members only`.
fn label(key: &str) -> String {
    let text = key.replace(['_', '.'], " ");
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

const BAD_PAYLOAD: Fault =
    Fault::bad_request("This form cannot be used.").detail("bad-payload", ns::COMMANDS);
const BAD_SESSION: Fault =
    Fault::bad_request("There is no such session.").detail("bad-sessionid", ns::COMMANDS);
