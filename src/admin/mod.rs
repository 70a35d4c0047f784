//! How operators see rooms: requests in, JSON out.
//!
//! The same three functions as every face: [`Admin::decode`] what they ask, [`Admin::answer`] the
//! asker, [`render`] events to those who watch. HTTP paths and tokens are the shell's business.

pub mod audit;
pub mod page;
pub mod schema;

use cusax::identity::Aor;
use cusax_sip::digest::{Algorithm, Ha1};
use jid::{BareJid, DomainPart};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::dialplan::{DialPlan, NotDialled};
use crate::directory::{Directory, Secret, User};
use crate::drain::MAX_DELAY;
use crate::id::{DialId, PersonId, RoomName};
use crate::journal::Row;
use crate::operation::Operation;
use crate::room::dial::{Callee, DialEnd};
use crate::room::person::{Person, Who};
use crate::room::settings::Settings;
use crate::room::standing::Affiliation;
use crate::room::{By, Change, Command, Departure, Fact, Refusal, RequestEnd, Room, Rooms};
use audit::Via;
use page::Page;

/// The API as an OpenAPI 3.1 document.
pub const OPENAPI: &str = include_str!("openapi.json");

/// What an operator asks.
#[derive(Clone, Debug)]
pub struct Request {
    /// Comes back in the answer.
    pub ticket: u64,
    /// Who asks: an operator by the name that audit shows, or a chat session with no more power than
    /// the room gives it.
    pub by: By,
    /// By which way.
    pub via: Via,
    /// What.
    pub question: Question,
}

/// The questions and commands of operators.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Rooms, in counts.
    Rooms(Page),
    /// One room with its people; the page is of these.
    Room(RoomName, Page),
    /// People of any room who fit the search.
    People(Page),
    /// Create a room, or change those of its settings that the JSON names.
    PutRoom(RoomName, Value),
    /// Destroy a room.
    DeleteRoom(RoomName),
    /// Let nobody new in, or let them in again.
    Lock(RoomName, bool),
    /// Mute or unmute someone's audio.
    Mute(RoomName, PersonId, bool),
    /// Throw someone out, for a reason.
    Kick(RoomName, PersonId, Option<String>),
    /// Ban someone, for a reason.
    Ban(RoomName, PersonId, Option<String>),
    /// Call somebody into a room, by SIP or tel URI.
    Dial(RoomName, String),
    /// Give up a call that nobody has answered.
    EndDial(RoomName, DialId),
    /// Tell everyone in any room something.
    Announce(Announcement),
    /// Users of the directory.
    Users(Page),
    /// Add or replace a user of the directory.
    PutUser(BareJid, Value),
    /// Remove a user of the directory.
    DeleteUser(BareJid),
    /// Make a link that opens what a user's client is to set up.
    LinkUser(BareJid),
    /// Take no new calls, and stop when those that are up are over.
    Drain(Draining),
    /// Stay after all.
    Undrain,
}

/// How the server is to go down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draining {
    /// After how many seconds calls end that are not over by then; `run.drain_seconds` unless given.
    pub delay: Option<u64>,
    /// What people in chats are told, unless it is to be what we say.
    pub announcement: Option<String>,
}

/// Something that everyone is told (XEP-0133 §4.23).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// What it is about, if that is said.
    pub subject: Option<String>,
    /// What.
    pub announcement: String,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// From the request.
    pub ticket: u64,
    /// An HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

/// Something that became true, for those who watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What kind.
    pub name: &'static str,
    /// The particulars; always with the room.
    pub data: Value,
}

/// A command, and whom to answer.
#[derive(Debug)]
pub struct Ask {
    /// In which room.
    pub room: RoomName,
    /// By whom.
    pub by: By,
    /// What.
    pub command: Command,
    /// Whom to answer.
    pub reply: Reply,
}

/// Whom to answer.
#[derive(Debug)]
pub struct Reply {
    ticket: u64,
    room: RoomName,
}

/// What a request came to.
#[derive(Debug)]
pub enum Step {
    /// It is answered.
    Done(Response),
    /// The room has to say.
    Ask(Box<Ask>),
    /// Everyone is to be told, then this is the answer.
    Announce(Announcement, Response),
    /// A user of the directory is to have a link; the ticket comes back with it.
    Link(BareJid, u64),
    /// The server is to go down in good order; the ticket comes back with the answer.
    Drain(Draining, u64),
    /// It is to stay after all.
    Undrain(u64),
}

impl Question {
    /// Reads what an [`Operation`] needs to know, by the names of its parameters; an error is for
    /// people.
    pub fn read(operation: Operation, values: &Map<String, Value>) -> Result<Self, String> {
        let text = |key: &str| values.get(key).and_then(Value::as_str);
        let needed = |key: &str| text(key).ok_or_else(|| format!("{key}: is missing"));
        let room = || {
            let name = needed("room")?;
            RoomName::new(name).map_err(|_| "room: is not a name of a room".to_owned())
        };
        let person = || {
            let number = needed("person")?.strip_prefix('p').and_then(|it| it.parse().ok());
            number.map(PersonId).ok_or_else(|| "person: is no number such as p3".to_owned())
        };
        let jid = || BareJid::new(needed("jid")?).map_err(|_| "jid: is no bare JID".to_owned());
        let reason = || text("reason").map(str::to_owned);
        Ok(match operation {
            Operation::ListRooms => Self::Rooms(Page::default()),
            Operation::ShowRoom => Self::Room(room()?, Page::default()),
            Operation::SetRoom => {
                let settings = values.get("settings").cloned();
                Self::PutRoom(room()?, settings.unwrap_or_else(|| json!({})))
            }
            Operation::DestroyRoom => Self::DeleteRoom(room()?),
            Operation::LockRoom => Self::Lock(room()?, true),
            Operation::UnlockRoom => Self::Lock(room()?, false),
            Operation::Dial => Self::Dial(room()?, needed("uri")?.to_owned()),
            Operation::HangUp => {
                let number = needed("call")?.strip_prefix('d').and_then(|it| it.parse().ok());
                let call = number.map(DialId).ok_or("call: is no number such as d3")?;
                Self::EndDial(room()?, call)
            }
            Operation::Mute => Self::Mute(room()?, person()?, true),
            Operation::Unmute => Self::Mute(room()?, person()?, false),
            Operation::Kick => Self::Kick(room()?, person()?, reason()),
            Operation::Ban => Self::Ban(room()?, person()?, reason()),
            Operation::Announce => {
                let value = Value::Object(values.clone());
                Self::Announce(serde_json::from_value(value).map_err(|why| why.to_string())?)
            }
            Operation::ListUsers => Self::Users(Page::default()),
            Operation::PutUser => {
                let mut body = values.clone();
                body.remove("jid");
                Self::PutUser(jid()?, Value::Object(body))
            }
            Operation::DeleteUser => Self::DeleteUser(jid()?),
            Operation::LinkUser => Self::LinkUser(jid()?),
            Operation::Drain => {
                let value = Value::Object(values.clone());
                Self::Drain(serde_json::from_value(value).map_err(|why| why.to_string())?)
            }
            Operation::Undrain => Self::Undrain,
        })
    }
}

/// The operators' face.
#[derive(Debug)]
pub struct Admin {
    domain: DomainPart,
    sip_domain: String,
    dialplan: DialPlan,
}

impl Admin {
    /// The face of rooms at `domain` whose conference URIs are at `sip_domain`.
    pub fn new(domain: DomainPart, sip_domain: String, dialplan: DialPlan) -> Self {
        Self { domain, sip_domain, dialplan }
    }

    /// Takes other rules for calls that go out.
    pub fn set_dialplan(&mut self, dialplan: DialPlan) {
        self.dialplan = dialplan;
    }

    /// Whom the directory knows by a JID, as somebody to call.
    pub fn callee(&self, jid: &BareJid, directory: &Directory) -> Option<Callee> {
        let user = directory.by_jid(jid)?;
        self.dialplan.callee(&user.aor.to_string(), directory).ok()
    }

    /// Reads a request as a command, or answers it here. Changes of the directory are made here, unless
    /// the store takes nothing more (`None`).
    pub fn decode(
        &self,
        request: Request,
        rooms: &Rooms,
        directory: &mut Directory,
        store: Option<&mut Vec<Row>>,
    ) -> Step {
        let Request { ticket, by, question, .. } = request;
        let done = |status, body| Step::Done(Response { ticket, status, body });
        let refuse = |refusal| done(status(refusal), problem(refusal));
        let ask = |room: RoomName, command| {
            let reply = Reply { ticket, room: room.clone() };
            Step::Ask(Box::new(Ask { room, by: by.clone(), command, reply }))
        };
        let person = |room: &RoomName, id: PersonId| {
            let found = rooms.get(room).ok_or(Refusal::NoSuchRoom)?;
            found.person(id).ok_or(Refusal::NoSuchPerson)
        };
        match question {
            Question::Rooms(page) => done(200, page.of_rooms(rooms)),
            Question::Room(name, page) => match rooms.get(&name) {
                Some(room) => done(200, self.show(room, &page)),
                None => refuse(Refusal::NoSuchRoom),
            },
            Question::People(page) => done(200, page.of_people(rooms)),
            Question::PutRoom(name, changes) => {
                let settings = match rooms.get(&name) {
                    Some(room) => room.settings.clone(),
                    None => Settings::of_operators(),
                };
                match changed(&settings, changes) {
                    Ok(settings) => ask(name, Command::Configure(Box::new(settings))),
                    Err(why) => done(400, json!({ "error": why })),
                }
            }
            Question::DeleteRoom(name) => {
                ask(name, Command::Destroy { reason: None, alternate: None })
            }
            Question::Lock(name, on) => ask(name, Command::Lock(on)),
            Question::Mute(name, person, on) => ask(name, Command::Mute { person, on }),
            Question::Kick(name, id, reason) => match person(&name, id) {
                Ok(Person { nick, .. }) => {
                    let change = Change::Role { nick: nick.clone(), role: None, reason };
                    ask(name, Command::Moderate(vec![change]))
                }
                Err(refusal) => refuse(refusal),
            },
            Question::Ban(name, id, reason) => match person(&name, id) {
                Ok(Person { who, .. }) => {
                    let (who, affiliation) = (who.clone(), Affiliation::Outcast);
                    let change = Change::Affiliation { who, affiliation, reason };
                    ask(name, Command::Moderate(vec![change]))
                }
                Err(refusal) => refuse(refusal),
            },
            Question::Dial(name, uri) => match self.dialplan.callee(&uri, directory) {
                Ok(callee) => ask(name, Command::Dial(Box::new(callee))),
                Err(why @ NotDialled::NoAddress) => {
                    done(400, json!({ "error": format!("uri: {why}") }))
                }
                Err(NotDialled::NotAllowed) => refuse(Refusal::MayNotBeCalled),
            },
            Question::EndDial(name, dial) => {
                ask(name, Command::EndDial { dial, end: DialEnd::Cancelled })
            }
            Question::Announce(it) if it.announcement.trim().is_empty() => {
                done(400, json!({ "error": "announcement: is empty" }))
            }
            Question::Announce(it) => {
                let length = it.announcement.len() + it.subject.as_ref().map_or(0, String::len);
                if length > MAX_ANNOUNCEMENT {
                    return done(400, json!({ "error": "announcement: is too long" }));
                }
                Step::Announce(it, Response { ticket, status: 204, body: Value::Null })
            }
            Question::Users(page) => done(200, page.of_users(directory)),
            Question::PutUser(jid, body) => match self.user(jid, body, directory) {
                Ok(_) if store.is_none() => refuse(Refusal::NotKept),
                Ok(user) => match directory.put(user.clone()) {
                    Ok(()) => {
                        let body = schema::user(&user);
                        store.into_iter().for_each(|rows| rows.push(Row::User(user.clone())));
                        done(200, body)
                    }
                    Err(taken) => done(409, json!({ "error": taken.to_string() })),
                },
                Err(why) => done(400, json!({ "error": why })),
            },
            Question::DeleteUser(_) if store.is_none() => refuse(Refusal::NotKept),
            Question::DeleteUser(jid) => match directory.remove(&jid) {
                Some(_) => {
                    store.into_iter().for_each(|rows| rows.push(Row::NoUser(jid.clone())));
                    done(204, Value::Null)
                }
                None => done(404, json!({ "error": "no such user" })),
            },
            Question::Drain(it) if it.delay.is_some_and(|delay| delay > MAX_DELAY.as_secs()) => {
                done(400, json!({ "error": "delay: is longer than a day" }))
            }
            Question::Drain(it)
                if it.announcement.as_ref().is_some_and(|text| text.len() > MAX_ANNOUNCEMENT) =>
            {
                done(400, json!({ "error": "announcement: is too long" }))
            }
            Question::Drain(it) => Step::Drain(it, ticket),
            Question::Undrain => Step::Undrain(ticket),
            Question::LinkUser(jid) => match directory.by_jid(&jid) {
                Some(_) => Step::Link(jid, ticket),
                None => done(404, json!({ "error": "no such user" })),
            },
        }
    }

    /// Answers a command: the room as it is now, or why not.
    pub fn answer(&self, reply: Reply, result: Result<(), Refusal>, rooms: &Rooms) -> Response {
        let Reply { ticket, room } = reply;
        let (status, body) = match (result, rooms.get(&room)) {
            (Ok(()), Some(room)) if !room.has_ended() => (200, self.show(room, &Page::default())),
            (Ok(()), _) => (204, Value::Null),
            (Err(refusal), _) => (status(refusal), problem(refusal)),
        };
        Response { ticket, status, body }
    }

    fn show(&self, room: &Room, page: &Page) -> Value {
        let jid = room.name.jid(&self.domain).to_string();
        let uri = Aor::new(room.name.as_str(), &self.sip_domain)
            .map_or_else(|_| String::new(), |uri| uri.to_string());
        schema::room(room, &jid, &uri, page)
    }

    /// Reads a user. Who is there already keeps what the JSON does not name.
    fn user(&self, jid: BareJid, body: Value, directory: &Directory) -> Result<User, String> {
        let body: UserBody = serde_json::from_value(body).map_err(|why| why.to_string())?;
        let old = directory.by_jid(&jid);
        let aor: Aor = match (&body.aor, old) {
            (Some(aor), _) => aor.parse().map_err(|why| format!("aor: {why}"))?,
            (None, Some(old)) => old.aor.clone(),
            (None, None) => return Err("aor: is missing".to_owned()),
        };
        let secret = match body.password {
            Some(password) if password.is_empty() => return Err("password: is empty".to_owned()),
            Some(password) => Some(self.secret(aor.user(), &password)),
            // The hash holds the user part: with another one it is worth nothing.
            None => {
                old.filter(|old| old.aor.user() == aor.user()).and_then(|old| old.secret.clone())
            }
        };
        let name = body.name.or_else(|| old.and_then(|old| old.name.clone()));
        if name.as_ref().is_some_and(|name| name.len() > 256 || name.contains(char::is_control)) {
            return Err("name: is longer than 256 bytes or has control characters".to_owned());
        }
        Ok(User { jid, aor, name, secret })
    }

    fn secret(&self, user: &str, password: &str) -> Secret {
        let hash = |algorithm| Ha1::new(algorithm, user, &self.sip_domain, password);
        Secret {
            md5: hash(Algorithm::Md5).as_hex().to_owned(),
            sha256: hash(Algorithm::Sha256).as_hex().to_owned(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserBody {
    aor: Option<String>,
    name: Option<String>,
    password: Option<String>,
}

/// The settings with what `changes` names changed; unknown names are an error.
fn changed(settings: &Settings, changes: Value) -> Result<Settings, String> {
    let mut value = serde_json::to_value(settings).map_err(|why| why.to_string())?;
    let (Value::Object(all), Value::Object(changes)) = (&mut value, changes) else {
        return Err("expected a JSON object".to_owned());
    };
    for (key, change) in changes {
        match all.get_mut(&key) {
            Some(setting) => *setting = change,
            None => return Err(format!("{key}: there is no such setting")),
        }
    }
    serde_json::from_value(value).map_err(|why| why.to_string())
}

/// The HTTP status of a refusal.
fn status(refusal: Refusal) -> u16 {
    match refusal {
        Refusal::NoSuchCall
        | Refusal::NoSuchRoom
        | Refusal::NoSuchHat
        | Refusal::NoSuchPerson
        | Refusal::NotHere => 404,
        Refusal::BadSettings => 400,
        Refusal::Banned
        | Refusal::Forbidden
        | Refusal::Locked
        | Refusal::MayNotBeCalled
        | Refusal::MayNotCreate
        | Refusal::MayNotRegister
        | Refusal::MembersOnly
        | Refusal::NoCalls
        | Refusal::NoVoice
        | Refusal::NotAllowed
        | Refusal::NotConfigured
        | Refusal::RoomsOwnHat
        | Refusal::TooSoon { .. }
        | Refusal::WrongPassword => 403,
        Refusal::AlreadyCalled
        | Refusal::LastOwner
        | Refusal::NickTaken
        | Refusal::NotToYourself => 409,
        Refusal::NoCommonMedia => 422,
        Refusal::Draining | Refusal::Full | Refusal::NotKept | Refusal::TooMany => 503,
    }
}

fn problem(refusal: Refusal) -> Value {
    json!({ "error": words(refusal) })
}

fn words(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::AlreadyCalled => "that address is being called already",
        Refusal::BadSettings => "these settings contradict themselves or break a limit",
        Refusal::Banned => "banned",
        Refusal::Draining => "the server is going down",
        Refusal::Forbidden => "not permitted",
        Refusal::Full => "the room is full",
        Refusal::LastOwner => "a room keeps at least one owner",
        Refusal::Locked => "the room is locked",
        Refusal::MayNotBeCalled => "that address may not be called",
        Refusal::MayNotCreate => "may not create rooms",
        Refusal::MayNotRegister => "may not register with this room",
        Refusal::MembersOnly => "members only",
        Refusal::NickTaken => "that nick is taken",
        Refusal::NoCalls => "this room takes and makes no calls",
        Refusal::NoCommonMedia => "no codec in common",
        Refusal::NoSuchHat => "there is no such hat",
        Refusal::NoSuchCall => "there is no such call",
        Refusal::NoSuchPerson => "nobody by that number is in the room",
        Refusal::NoSuchRoom => "there is no such room",
        Refusal::NoVoice => "no voice",
        Refusal::NotAllowed => "their affiliation protects them",
        Refusal::NotConfigured => "the room is not configured yet",
        Refusal::NotHere => "not in the room",
        Refusal::NotKept => "the store takes nothing more",
        Refusal::NotToYourself => "nobody may do this to themselves",
        Refusal::RoomsOwnHat => "only the room itself says that of people",
        Refusal::TooMany => "a limit of the server is reached",
        Refusal::TooSoon { .. } => "this room is slow",
        Refusal::WrongPassword => "the password is missing or wrong",
    }
}

/// Shows a fact to those who watch: ids and levels, never what was said.
pub fn render(room: &Room, fact: &Fact) -> Option<Event> {
    let someone = |id: PersonId| match room.person(id) {
        Some(person) => schema::person(room, person),
        None => json!({ "id": id.to_string() }),
    };
    let (name, mut data) = match fact {
        Fact::Created { .. } => ("room-created", json!({})),
        Fact::ChatEntered { person, .. } => ("chat-entered", json!({ "person": someone(*person) })),
        Fact::CallEntered { person, leg, .. } => {
            ("call-entered", json!({ "person": someone(*person), "leg": leg.to_string() }))
        }
        Fact::Dialled { dial } => {
            ("dialled", json!({ "call": room.dials.get(dial).map(schema::dial) }))
        }
        Fact::DialEnded { was, end } => {
            let (why, status, text) = match end {
                DialEnd::Answered => ("answered", None, None),
                DialEnd::Cancelled => ("cancelled", None, None),
                DialEnd::Failed { status, text } => ("failed", Some(*status), Some(text.as_str())),
                DialEnd::KeptOut(refusal) => ("kept-out", None, Some(words(*refusal))),
            };
            let call = schema::dial(was);
            ("dial-ended", json!({ "call": call, "why": why, "status": status, "text": text }))
        }
        Fact::ChatLeft { person, lost, .. } => {
            ("chat-left", json!({ "person": someone(*person), "lost": lost }))
        }
        Fact::CallLeft { person, leg, .. } => {
            ("call-left", json!({ "person": someone(*person), "leg": leg.to_string() }))
        }
        Fact::Gone { was, departure, reason, .. } => (
            "gone",
            json!({
                "person": { "id": was.id.to_string(), "nick": was.nick.as_str() },
                "why": departure_word(*departure),
                "reason": reason,
            }),
        ),
        Fact::Renamed { person, old } => {
            ("renamed", json!({ "person": someone(*person), "old": old.as_str() }))
        }
        Fact::StandingChanged { person, .. } => {
            ("standing-changed", json!({ "person": someone(*person) }))
        }
        Fact::AffiliationChanged { who, new, .. } => {
            let who = match who {
                Who::Jid(jid) => jid.to_string(),
                Who::Aor(aor) => aor.to_string(),
                Who::Unknown(leg) => leg.to_string(),
            };
            ("affiliation-changed", json!({ "who": who, "affiliation": new.as_str() }))
        }
        Fact::MuteChanged { person, .. } => ("mute-changed", json!({ "person": someone(*person) })),
        Fact::LegChanged { person, leg, .. } => {
            ("leg-changed", json!({ "person": someone(*person), "leg": leg.to_string() }))
        }
        Fact::HandChanged { person } => ("hand-changed", json!({ "person": someone(*person) })),
        Fact::VoiceRequested { person } => {
            ("voice-requested", json!({ "person": someone(*person) }))
        }
        Fact::Retracted { id, .. } => ("message-retracted", json!({ "id": id })),
        Fact::SubjectChanged(_) => {
            ("subject-changed", json!({ "subject": room.subject.as_ref().map(|s| &s.text) }))
        }
        Fact::Configured { .. } => ("room-configured", json!({})),
        Fact::AvatarChanged => {
            ("avatar-changed", json!({ "hash": room.avatar.as_ref().map(|it| it.hash()) }))
        }
        Fact::HatsChanged { wearers, .. } => (
            "hats-changed",
            json!({ "people": wearers.iter().copied().map(someone).collect::<Vec<_>>() }),
        ),
        Fact::NickRegistered { jid, nick } => {
            let nick = nick.as_ref().map(|nick| nick.as_str());
            ("nick-registered", json!({ "jid": jid.as_str(), "nick": nick }))
        }
        Fact::RegistrationRequested { jid, nick } => {
            ("registration-requested", json!({ "jid": jid.as_str(), "nick": nick.as_str() }))
        }
        Fact::RequestEnded { jid, end } => {
            let end = match end {
                RequestEnd::Allowed => "allowed",
                RequestEnd::Denied => "denied",
                RequestEnd::Withdrawn => "withdrawn",
            };
            ("request-ended", json!({ "jid": jid.as_str(), "end": end }))
        }
        Fact::LockChanged => ("lock-changed", json!({ "locked": room.locked })),
        Fact::Destroyed { .. } => ("room-destroyed", json!({})),
        Fact::PresenceShown { .. } | Fact::Spoken(_) | Fact::Whispered { .. } => return None,
    };
    data["room"] = json!(room.name.as_str());
    Some(Event { name, data })
}

fn departure_word(departure: Departure) -> &'static str {
    match departure {
        Departure::Left => "left",
        Departure::Lost => "lost",
        Departure::Kicked => "kicked",
        Departure::Banned => "banned",
        Departure::MembershipLost => "membership-lost",
        Departure::MembersOnly => "members-only",
        Departure::Shutdown => "shutdown",
    }
}

/// The longest announcement with its subject, in bytes.
const MAX_ANNOUNCEMENT: usize = 8 * 1024;
