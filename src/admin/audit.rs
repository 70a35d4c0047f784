//! What operators changed, for whoever has to know afterwards: who asked, from where, what, and what
//! came of it. Never a secret: passwords are not in it, nor what opens a link.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Question, Request, Response};
use crate::clock::{Now, stamp};
use crate::id::{PersonId, RoomName};
use crate::operation::Operation;
use crate::room::{By, Rooms};

/// By which way an operator asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The HTTP interface.
    Http(SocketAddr),
    /// The command line, which asks over HTTP; it says so itself.
    Cli(SocketAddr),
    /// The console.
    Console(SocketAddr),
    /// A command in a chat client (XEP-0050).
    AdHoc,
}

/// One change that was asked for, done or refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// When (RFC 3339).
    pub at: String,
    /// Who: the option that holds their token, `loopback` if there is none, or their JID.
    pub by: String,
    /// `http`, `cli`, `console` or `ad-hoc`.
    pub via: &'static str,
    /// The address that they asked from: that of a proxy, if there is one; with ad-hoc commands none.
    pub from: Option<SocketAddr>,
    /// What they asked, by its name in the API's description.
    pub operation: &'static str,
    /// In what words, each cut to [`MAX_VALUE`].
    pub args: Map<String, Value>,
    /// What came of it, as an HTTP status.
    pub status: u16,
    /// Why not, if it was refused.
    pub error: Option<String>,
}

impl Via {
    const fn parts(self) -> (&'static str, Option<SocketAddr>) {
        match self {
            Self::Http(from) => ("http", Some(from)),
            Self::Cli(from) => ("cli", Some(from)),
            Self::Console(from) => ("console", Some(from)),
            Self::AdHoc => ("ad-hoc", None),
        }
    }
}

impl Entry {
    /// What a request is about to change; `None` if it only looks. What came of it says [`Self::ended`].
    pub fn of(now: Now, request: &Request, rooms: &Rooms) -> Option<Self> {
        let (operation, args) = asked(&request.question, rooms);
        let by = match &request.by {
            By::Operator(name) => name.clone(),
            By::Chat(jid) => jid.to_bare().to_string(),
            By::Leg(leg) => leg.to_string(),
            By::Server => "server".to_owned(),
        };
        operation.spec().changes.then(|| Self::new(now.utc, by, request.via, operation, args))
    }

    /// A request of the HTTP interface that was turned away for its token, before anyone read what it
    /// asks; `None` if there is nothing to ask at that path.
    pub fn turned_away(now: Now, by: &str, via: Via, (method, path): (&str, &str)) -> Option<Self> {
        let operation = Operation::from_http(method, path)?;
        let args = [("path".to_owned(), json!(path))].into_iter().collect();
        let entry = Self::new(now.utc, by.to_owned(), via, operation, args);
        Some(Self { status: 403, error: Some(MAY_ONLY_READ.to_owned()), ..entry })
    }

    fn new(
        at: SystemTime,
        by: String,
        via: Via,
        operation: Operation,
        mut args: Map<String, Value>,
    ) -> Self {
        args.values_mut().for_each(cut);
        let (via, from) = via.parts();
        let operation = operation.spec().name;
        Self { at: stamp(at), by, via, from, operation, args, status: 0, error: None }
    }

    /// The same, with its end.
    pub fn ended(mut self, response: &Response) -> Self {
        self.status = response.status;
        self.error = response.body.get("error").and_then(Value::as_str).map(str::to_owned);
        self
    }
}

/// Why a request was turned away that has the token for reading.
pub const MAY_ONLY_READ: &str = "this token may only read";

/// What is asked, in the words of [`Operation`], without what is secret. People are told by their nick
/// as well, since numbers are forgotten.
fn asked(question: &Question, rooms: &Rooms) -> (Operation, Map<String, Value>) {
    let in_room = |room: &RoomName, more: Value| {
        let mut args = json!({ "room": room.as_str() });
        merge(&mut args, more);
        args
    };
    let someone = |room: &RoomName, id: &PersonId, more: Value| {
        let person = rooms.get(room).and_then(|room| room.person(*id));
        let nick = person.map(|person| person.nick.as_str());
        let mut args = in_room(room, json!({ "person": id.to_string(), "nick": nick }));
        merge(&mut args, more);
        args
    };
    let (operation, args) = match question {
        // A search for people looks through all rooms.
        Question::Rooms(_) | Question::People(_) => (Operation::ListRooms, json!({})),
        Question::Room(room, _) => (Operation::ShowRoom, in_room(room, json!({}))),
        Question::PutRoom(room, settings) => {
            (Operation::SetRoom, in_room(room, hidden(settings.clone())))
        }
        Question::DeleteRoom(room) => (Operation::DestroyRoom, in_room(room, json!({}))),
        Question::Lock(room, true) => (Operation::LockRoom, in_room(room, json!({}))),
        Question::Lock(room, false) => (Operation::UnlockRoom, in_room(room, json!({}))),
        Question::Mute(room, id, true) => (Operation::Mute, someone(room, id, json!({}))),
        Question::Mute(room, id, false) => (Operation::Unmute, someone(room, id, json!({}))),
        Question::Kick(room, id, reason) => {
            (Operation::Kick, someone(room, id, json!({ "reason": reason })))
        }
        Question::Ban(room, id, reason) => {
            (Operation::Ban, someone(room, id, json!({ "reason": reason })))
        }
        Question::Dial(room, uri) => (Operation::Dial, in_room(room, json!({ "uri": uri }))),
        Question::EndDial(room, dial) => {
            (Operation::HangUp, in_room(room, json!({ "call": dial.to_string() })))
        }
        Question::Announce(it) => {
            (Operation::Announce, json!({ "subject": it.subject, "announcement": it.announcement }))
        }
        Question::Users(_) => (Operation::ListUsers, json!({})),
        Question::PutUser(jid, body) => {
            let mut args = json!({ "jid": jid.as_str() });
            merge(&mut args, hidden(body.clone()));
            (Operation::PutUser, args)
        }
        Question::DeleteUser(jid) => (Operation::DeleteUser, json!({ "jid": jid.as_str() })),
        Question::LinkUser(jid) => (Operation::LinkUser, json!({ "jid": jid.as_str() })),
        Question::Drain(it) => {
            (Operation::Drain, json!({ "delay": it.delay, "announcement": it.announcement }))
        }
        Question::Undrain => (Operation::Undrain, json!({})),
    };
    let args = args.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    (operation, args.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// A body without the passwords in it; what is no object is not told, for nobody knows what it holds.
fn hidden(mut body: Value) -> Value {
    match body.as_object_mut() {
        Some(object) => {
            for (_, secret) in object.iter_mut().filter(|(key, _)| *key == "password") {
                if !secret.is_null() {
                    *secret = json!("(secret)");
                }
            }
            body
        }
        None => json!({}),
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

/// Bounds a value: a line of the log is for reading.
fn cut(value: &mut Value) {
    let long = match value {
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
        Value::Null | Value::Bool(_) | Value::Number(_) => return,
    };
    if long.len() > MAX_VALUE {
        let mut end = MAX_VALUE;
        while !long.is_char_boundary(end) {
            end -= 1;
        }
        *value = Value::from(format!("{}…", &long[..end]));
    }
}

/// The most that is kept of one value, in bytes.
pub const MAX_VALUE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::page::Page;
    use crate::id::DialId;
    use crate::room::Policy;

    fn entry(question: Question) -> Option<Entry> {
        let from = "192.0.2.1:5".parse().unwrap();
        let by = By::Operator("http.token".to_owned());
        let request = Request { ticket: 1, by, via: Via::Http(from), question };
        Entry::of(Now::read(), &request, &Rooms::new(Policy::default()))
    }

    #[test]
    fn whoever_only_looks_changes_nothing() {
        let room = || RoomName::new("lounge").unwrap();
        assert_eq!(entry(Question::Rooms(Page::default())), None);
        assert_eq!(entry(Question::Room(room(), Page::default())), None);
        assert_eq!(entry(Question::Users(Page::default())), None);
        let told = entry(Question::EndDial(room(), DialId(3))).unwrap();
        assert_eq!(told.operation, "endDial");
        assert_eq!(Value::Object(told.args), json!({ "room": "lounge", "call": "d3" }));
    }

    #[test]
    fn no_secret_is_told_and_no_value_is_long() {
        let jid = || "a@example.org".parse().unwrap();
        let room = || RoomName::new("lounge").unwrap();
        let long = "ü".repeat(400);
        let put = json!({ "aor": "sip:a@example.org", "name": long, "password": "open sesame" });
        for question in [
            Question::PutUser(jid(), put.clone()),
            Question::PutUser(jid(), json!(["open sesame"])),
            Question::PutRoom(room(), json!({ "password": "open sesame", "history": 3 })),
            Question::PutRoom(room(), json!("open sesame")),
        ] {
            let told = serde_json::to_string(&entry(question).unwrap()).unwrap();
            assert!(!told.contains("sesame"), "{told}");
            assert!(told.len() < 600, "{told}");
        }
        let told = entry(Question::PutUser(jid(), put)).unwrap();
        let name = told.args["name"].as_str().unwrap();
        assert_eq!((name.chars().count(), told.args["password"].as_str()), (129, Some("(secret)")));
    }
}
