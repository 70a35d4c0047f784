//! A chat user: slixmpp (`peers/chat.py`).

use std::{ops::Deref, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    peer::Peer,
    site::{CHAT, password, room},
};

/// A chat user who is online, and may be in rooms.
pub(crate) struct Chat {
    user: String,
    peer: Peer,
}

impl Deref for Chat {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl Chat {
    /// Starts the client and goes online.
    pub(crate) fn start(user: &str, port: u16, dir: &Path) -> Self {
        let jid = format!("{user}@{CHAT}");
        let arguments = ["--jid", &jid, "--password", &password(user), "--port", &port.to_string()]
            .map(str::to_owned);
        let peer = Peer::start(&format!("chat-{user}"), "chat.py", &arguments, dir);
        let chat = Self { user: user.into(), peer };
        chat.go_online();
        chat
    }

    /// Who it is, before the `@`.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Connects and waits for the session, as after a restart of the server.
    pub(crate) fn go_online(&self) {
        self.tell("go_online", json!({}));
    }

    /// Joins a room under the user's own name; the reply has `own`, `occupants`, `history`.
    pub(crate) fn join(&self, name: &str) -> Value {
        self.tell("join", json!({ "room": room(name), "nick": self.user }))
    }

    /// Tries to join; the error's condition when the room refuses.
    pub(crate) fn try_join(&self, name: &str, password: Option<&str>) -> Result<Value, String> {
        let fields = json!({ "room": room(name), "nick": self.user, "password": password });
        self.attempt("join", fields)
    }

    /// Says something to all.
    pub(crate) fn say(&self, name: &str, body: &str) {
        self.tell("say", json!({ "room": room(name), "body": body }));
    }

    /// Changes the role of an occupant: `visitor` has no voice, `none` is kicked. The time at
    /// which the room had confirmed it.
    pub(crate) fn role(&self, name: &str, nick: &str, role: &str) -> f64 {
        let fields =
            json!({ "room": room(name), "nick": nick, "role": role, "reason": "as asked" });
        self.tell("role", fields)["t"].as_f64().expect("every event has a time")
    }

    /// Gives voice to an occupant who asked for it (XEP-0045 §8.6); the time at which that was sent.
    pub(crate) fn grant_voice(&self, name: &str, nick: &str) -> f64 {
        let fields = json!({ "room": room(name), "nick": nick, "allow": true });
        self.tell("voice", fields)["t"].as_f64().expect("every event has a time")
    }

    /// Changes the affiliation of a JID: `outcast` is banned.
    pub(crate) fn affiliation(&self, name: &str, jid: &str, affiliation: &str) {
        let fields = json!({ "room": room(name), "jid": jid, "affiliation": affiliation });
        self.tell("affiliation", fields);
    }

    /// Changes fields of the room's configuration.
    pub(crate) fn configure(&self, name: &str, mut fields: Value) {
        fields["room"] = json!(room(name));
        self.tell("configure", fields);
    }

    /// Waits for a groupchat message with this body; who said it.
    pub(crate) fn reads(&self, mark: usize, body: &str) -> String {
        let event = self.wait(mark, &format!("the message {body:?}"), |event| {
            event["ev"] == "message" && event["type"] == "groupchat" && event["body"] == body
        });
        event["nick"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits for a presence of an occupant that fits.
    pub(crate) fn sees(
        &self,
        mark: usize,
        nick: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait(mark, &format!("{nick} {what}"), |event| {
            event["ev"] == "presence" && event["nick"] == nick && wanted(event)
        })
    }

    /// Waits for an occupant to be gone, within a time.
    pub(crate) fn sees_gone(&self, mark: usize, nick: &str, within: Duration) -> Value {
        self.wait_for(mark, within, &format!("{nick} to leave"), |event| {
            event["ev"] == "presence" && event["nick"] == nick && event["type"] == "unavailable"
        })
    }

    /// Makes a room: joins it, then sends the owner's form with these fields.
    pub(crate) fn create(&self, name: &str, fields: Value) {
        let joined = self.join(name);
        assert_eq!(joined["own"]["affiliation"], "owner", "{joined}");
        self.configure(name, fields);
    }

    /// Waits until this many callers without chat have come; the nicks that the room gave them.
    pub(crate) fn sees_callers(&self, mark: usize, count: usize) -> Vec<String> {
        let mut nicks: Vec<String> = Vec::new();
        while nicks.len() < count {
            let event = self.wait(mark, &format!("{count} occupants by phone"), |event| {
                event["ev"] == "presence"
                    && event["type"].is_null()
                    && hats(event).iter().any(|hat| hat == "By phone")
                    && !nicks.iter().any(|nick| event["nick"] == nick.as_str())
            });
            nicks.push(event["nick"].as_str().expect("an occupant has a nick").to_owned());
        }
        nicks
    }
}

/// The titles of the hats (XEP-0317) in a presence event.
pub(crate) fn hats(presence: &Value) -> Vec<String> {
    let hats = presence["hats"].as_array().cloned().unwrap_or_default();
    hats.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
