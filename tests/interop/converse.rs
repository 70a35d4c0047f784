//! A chat user in a browser: Converse.js in Chromium (`peers/converse.mjs`).

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    peer::{Peer, Runtime, node_modules},
    site::{CHAT, installed, password, room},
    wait::{PATIENCE, until},
};

/// A browser with one room open.
pub(crate) struct Browser {
    user: String,
    peer: Peer,
}

impl Browser {
    /// Starts the driver; the browser itself opens with the room.
    pub(crate) fn start(user: &str, port: u16, dir: &Path) -> Option<Self> {
        installed(&["chromium", "node", ".peers/node/node_modules/converse.js"])?;
        let arguments = [
            ("--jid", format!("{user}@{CHAT}")),
            ("--password", password(user)),
            ("--url", format!("ws://127.0.0.1:{port}/xmpp-websocket")),
            ("--modules", node_modules().display().to_string()),
        ];
        let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        let arguments: Vec<String> = arguments.collect();
        let name = format!("browser-{user}");
        let peer = Peer::start_in(Runtime::Node, &name, "converse.mjs", &arguments, dir);
        Some(Self { user: user.into(), peer })
    }

    /// Goes online and enters a room under the user's own name.
    pub(crate) fn join(&self, name: &str) {
        self.peer.tell("join", json!({ "room": room(name), "nick": self.user }));
    }

    /// Says something to all.
    pub(crate) fn say(&self, body: &str) {
        self.peer.tell("say", json!({ "body": body }));
    }

    /// Waits until a message with this text stands in the room's window.
    pub(crate) fn shows(&self, text: &str) {
        until(&format!("{text:?} on the page"), PATIENCE, || {
            let page = self.peer.tell("messages", json!({}));
            page["messages"].as_array()?.contains(&json!(text)).then_some(())
        });
    }

    /// Waits until the list of occupants has somebody with these badges, and no other.
    pub(crate) fn lists(&self, nick: &str, badges: &[&str]) {
        until(&format!("{nick} with {badges:?} in the list"), PATIENCE, || {
            let page = self.peer.tell("occupants", json!({}));
            let found = page["occupants"].as_array()?.iter().find(|one| one["nick"] == nick)?;
            (found["badges"] == json!(badges)).then_some(())
        });
    }

    /// Opens an occupant from the list.
    pub(crate) fn open(&self, nick: &str) {
        self.peer.tell("open", json!({ "nick": nick }));
    }

    /// Waits until the occupant that is open has these badges: affiliation, role and hats.
    pub(crate) fn badges(&self, wanted: &[&str]) {
        until(&format!("the badges {wanted:?}"), PATIENCE, || {
            let page = self.peer.tell("badges", json!({}));
            (page["badges"] == json!(wanted)).then_some(())
        });
    }

    /// Fills in the form that gives the occupant who is open another role.
    pub(crate) fn choose_role(&self, role: &str, reason: &str) {
        self.peer.tell("choose_role", json!({ "role": role, "reason": reason }));
    }

    /// Sends that form; the time at which the page showed what the room had made of it.
    pub(crate) fn change_role(&self, role: &str) -> f64 {
        let reply: Value = self.peer.tell("change_role", json!({ "role": role }));
        reply["answered"].as_f64().expect("a time")
    }

    /// Goes back from the occupant to the list of all.
    pub(crate) fn back(&self) {
        self.peer.tell("back", json!({}));
    }

    /// Writes what the page looks like to `target/tmp/TEST/NAME.png`, and with `UPDATE_EXPECT=1`
    /// also to `docs/images/NAME.png`.
    pub(crate) fn screenshot(&self, name: &str, dir: &Path) {
        let file = dir.join(format!("{name}.png"));
        self.peer.tell("screenshot", json!({ "file": file }));
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
            fs::create_dir_all(&images).expect("the repository is ours");
            fs::copy(&file, images.join(format!("{name}.png"))).expect("it was just written");
        }
    }
}
