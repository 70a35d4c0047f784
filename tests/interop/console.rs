//! An operator at the console in a browser: Chromium (`peers/console.mjs`).

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    peer::{Peer, Runtime, node_modules},
    site::installed,
};

/// A browser with one tab.
pub(crate) struct Console {
    peer: Peer,
}

/// What a picture is taken as.
pub(crate) struct Look {
    /// The window, in pixels.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// `light` or `dark`.
    pub(crate) scheme: &'static str,
}

impl Console {
    /// Starts the browser; `port` is that of the server's HTTP.
    pub(crate) fn start(port: u16, dir: &Path) -> Option<Self> {
        installed(&["chromium", "node", ".peers/node/node_modules/axe-core"])?;
        let arguments = [
            "--url".to_owned(),
            format!("http://127.0.0.1:{port}"),
            "--modules".to_owned(),
            node_modules().display().to_string(),
        ];
        let peer = Peer::start_in(Runtime::Node, "console", "console.mjs", &arguments, dir);
        Some(Self { peer })
    }

    /// Loads a page; its status.
    pub(crate) fn open(&self, path: &str) -> u64 {
        self.peer.tell("open", json!({ "where": path }))["status"].as_u64().expect("a status")
    }

    /// Gives the token to the page that asks for one.
    pub(crate) fn log_in(&self, token: &str) {
        self.peer.tell("log_in", json!({ "token": token }));
    }

    /// Waits until something that fits the selector says `text`; when it was seen.
    pub(crate) fn shows(&self, selector: &str, text: &str) -> f64 {
        let reply = self.peer.tell("shows", json!({ "selector": selector, "text": text }));
        reply["at"].as_f64().expect("a time")
    }

    /// How many elements fit a selector.
    pub(crate) fn count(&self, selector: &str) -> u64 {
        let reply = self.peer.tell("count", json!({ "selector": selector }));
        reply["count"].as_u64().expect("a number")
    }

    /// Moves to a button or link by keyboard, and presses it; when.
    pub(crate) fn press(&self, name: &str) -> f64 {
        self.peer.tell("press", json!({ "name": name }))["at"].as_f64().expect("a time")
    }

    /// Writes into a field.
    pub(crate) fn fill(&self, label: &str, text: &str) {
        self.peer.tell("fill", json!({ "label": label, "text": text }));
    }

    /// The name of what has the focus.
    pub(crate) fn focus(&self) -> String {
        let reply = self.peer.tell("focus", json!({}));
        reply["name"].as_str().expect("a name").to_owned()
    }

    /// How far somebody's meter goes within a second, in percent.
    pub(crate) fn level(&self, person: &str) -> f64 {
        let reply = self.peer.tell("level", json!({ "person": person }));
        reply["widest"].as_f64().expect("a width")
    }

    /// Faults that axe takes for serious or critical.
    pub(crate) fn examine(&self, path: &str, scheme: &str) -> Vec<String> {
        let reply = self.peer.tell("examine", json!({ "where": path, "scheme": scheme }));
        let faults = reply["faults"].as_array().expect("a list");
        faults.iter().map(|fault| fault.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What pages complained about in the browser's console.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let events = self.peer.events(0);
        let events = events.iter().filter(|event| event["ev"] == "complaint");
        events.map(|event| event["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Writes what the page looks like to `target/tmp/TEST/NAME.png`, and with `UPDATE_EXPECT=1` to
    /// `docs/images/NAME.png`. Nothing may be wider than the window.
    pub(crate) fn screenshot(&self, name: &str, dir: &Path, look: &Look) {
        let file = dir.join(format!("{name}.png"));
        let Look { width, height, scheme } = look;
        let asked = json!({ "file": file, "width": width, "height": height, "scheme": scheme });
        let reply = self.peer.tell("screenshot", asked);
        assert!(
            reply["wide"].as_i64().is_some_and(|wide| wide <= 0),
            "{name} is too wide: {reply}"
        );
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
            fs::create_dir_all(&images).expect("the repository is ours");
            fs::copy(&file, images.join(format!("{name}.png"))).expect("it was just written");
        }
    }
}
