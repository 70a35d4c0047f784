//! A chat user with the library of Gajim, nbxmpp (`peers/gajim.py`).

use std::{ops::Deref, path::Path};

use serde_json::{Value, json};

use crate::{
    peer::{Peer, Runtime},
    site::{CHAT, installed, password, room},
};

/// A chat user who is online.
pub(crate) struct Gajim {
    user: String,
    peer: Peer,
}

impl Deref for Gajim {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl Gajim {
    /// Starts the client and goes online.
    pub(crate) fn start(user: &str, port: u16, dir: &Path) -> Option<Self> {
        installed(&["/usr/lib/python3/dist-packages/nbxmpp"])?;
        let arguments = ["--jid", &format!("{user}@{CHAT}"), "--password", &password(user)];
        let port = ["--port".to_owned(), port.to_string()];
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).chain(port).collect();
        let name = format!("gajim-{user}");
        let peer = Peer::start_in(Runtime::SystemPython, &name, "gajim.py", &arguments, dir);
        peer.tell("go_online", json!({}));
        Some(Self { user: user.into(), peer })
    }

    /// Enters a room under the user's own name: the own presence, once all is told.
    pub(crate) fn join(&self, name: &str) -> Value {
        let mark = self.mark();
        self.tell("join", json!({ "room": room(name), "nick": self.user }));
        let own = self.wait(mark, "the own presence", |event| {
            event["ev"] == "presence" && event["own"] == true
        });
        // XEP-0045 §7.2.15: the subject is the last of what a newcomer is told.
        self.wait(mark, "the subject", |event| {
            event["ev"] == "message" && event["subject"].is_string()
        });
        own
    }

    /// Waits for a message to all with this body that is not from the archive.
    pub(crate) fn reads(&self, mark: usize, body: &str) -> Value {
        self.wait(mark, &format!("the message {body:?}"), |event| {
            event["ev"] == "message" && event["body"] == body && event["archive_id"].is_null()
        })
    }

    /// The bodies in the archive as it is read from the beginning, `page` at a time.
    pub(crate) fn archive(&self, name: &str, page: u32) -> (Value, Vec<String>) {
        let mark = self.mark();
        let read = self.tell("archive", json!({ "room": room(name), "page": page }));
        let events = self.events(mark);
        let archived = events.iter().filter(|event| event["archive_id"].is_string());
        let bodies = archived.map(|event| event["body"].as_str().unwrap_or_default().to_owned());
        (read["pages"].clone(), bodies.collect())
    }
}
