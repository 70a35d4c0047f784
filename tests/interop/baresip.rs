//! A phone: modern baresip (`peers/caller.py`).

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    peer::Peer,
    recording::Recording,
    site::{CONFERENCES, Loopback, conference, password},
    wait::{PATIENCE, until},
};

/// How a phone differs from the usual one: Opus, UDP, no password.
#[derive(Default)]
pub(crate) struct Options {
    /// The password for digest authentication.
    pub(crate) password: Option<String>,
    /// `opus/48000/2` unless said otherwise.
    pub(crate) codecs: Option<&'static str>,
    /// `tcp` instead of UDP.
    pub(crate) tcp: bool,
    /// TLS instead of UDP; then `proxy` is needed.
    pub(crate) tls: bool,
    /// A parameter of the account, such as `mediaenc=srtp-mand`.
    pub(crate) param: Option<&'static str>,
    /// Another port than the focus': that of a proxy.
    pub(crate) proxy: Option<u16>,
    /// Another domain in the address of record than the focus'.
    pub(crate) domain: Option<&'static str>,
}

impl Options {
    /// A phone with the password of a user of the directory.
    pub(crate) fn known(user: &str) -> Self {
        Self { password: Some(password(user)), ..Self::default() }
    }
}

/// A phone, idle or in a call.
pub(crate) struct Caller {
    record: PathBuf,
    peer: Peer,
}

impl Deref for Caller {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl Caller {
    /// Starts the phone.
    pub(crate) fn start(
        user: &str,
        host: Loopback,
        port: u16,
        dir: &Path,
        options: Options,
    ) -> Self {
        let record = dir.join(user);
        let transport = match (options.tcp, options.tls) {
            (_, true) => "tls",
            (true, false) => "tcp",
            (false, false) => "udp",
        };
        let proxy = format!("sip:{};transport={transport}", host.at(options.proxy.unwrap_or(port)));
        let arguments = [
            ("--user", user),
            ("--domain", options.domain.unwrap_or(CONFERENCES)),
            ("--proxy", &proxy),
            ("--record", &record.display().to_string()),
            ("--host", host.address()),
            ("--transport", transport),
            ("--codecs", options.codecs.unwrap_or("opus/48000/2")),
            ("--password", options.password.as_deref().unwrap_or_default()),
        ];
        let more = options.param.map(|param| ("--param", param));
        let arguments: Vec<String> = arguments
            .into_iter()
            .chain(more)
            .flat_map(|(name, value)| [name, value])
            .map(str::to_owned)
            .collect();
        let peer = Peer::start(&format!("phone-{user}"), "caller.py", &arguments, dir);
        Self { record, peer }
    }

    /// Dials a room, sending a tone, and waits until the call stands and audio flows.
    pub(crate) fn call(&self, name: &str, hz: f64) -> f64 {
        let mark = self.mark();
        self.tell("tone", json!({ "hz": hz, "dbfs": TONE_DBFS }));
        self.tell("dial", json!({ "uri": conference(name) }));
        let established = self.wait(mark, "the call to stand", |event| {
            assert_ne!(event["ev"], "closed", "refused: {}", event["text"]);
            event["ev"] == "established"
        });
        self.wait(mark, "audio", |event| event["ev"] == "audio" || event["ev"] == "established");
        established["t"].as_f64().expect("every event has a time")
    }

    /// The answer that it received to its call, SDP and all.
    pub(crate) fn answer(&self) -> String {
        // The phone tells what it received after what came of it.
        until("the answer to the call", PATIENCE, || {
            self.messages(0, "RX").into_iter().find(|text| text.contains("m=audio "))
        })
    }

    /// Dials a room that refuses: the status.
    pub(crate) fn refused(&self, name: &str) -> u16 {
        let mark = self.mark();
        self.tell("dial", json!({ "uri": conference(name) }));
        let closed = self.wait(mark, "a refusal", |event| {
            assert_ne!(event["ev"], "established", "the call was taken");
            event["ev"] == "closed"
        });
        let answer = closed["text"].as_str().unwrap_or_default();
        let status = answer.split(' ').next().and_then(|code| code.parse().ok());
        status.unwrap_or_else(|| panic!("no status: {closed}"))
    }

    /// Waits until the other side ends the call: its BYE.
    pub(crate) fn ended(&self, mark: usize, within: Duration) -> String {
        self.wait_for(mark, within, "the end of the call", |event| event["ev"] == "closed");
        // The phone tells what it received after what came of it.
        until("the BYE that ended the call", PATIENCE, || {
            let received = self.messages(mark, "RX");
            received.into_iter().find(|text| text.starts_with("BYE "))
        })
    }

    /// Hangs up.
    pub(crate) fn hangup(&self) {
        let mark = self.mark();
        self.tell("hangup", json!({}));
        self.wait(mark, "the end of the call", |event| event["ev"] == "closed");
    }

    /// The SIP messages since `mark` that were received (`RX`) or sent (`TX`).
    pub(crate) fn messages(&self, mark: usize, direction: &str) -> Vec<String> {
        let events = self.events(mark);
        let texts = events.iter().filter(|event| event["ev"] == "sip");
        texts
            .filter_map(|event| event["text"].as_str()?.split_once('\n'))
            .filter(|(head, _)| head.starts_with(direction))
            .map(|(_, message)| message.to_owned())
            .collect()
    }

    /// What it has heard so far.
    pub(crate) fn heard(&self) -> Recording {
        let name = self.record.file_name().expect("a plain name").to_string_lossy();
        Recording::read(&self.record.with_file_name(format!("{name}.heard")))
    }

    /// How many frames the phone itself failed to send in time: gaps that are not the mixer's.
    pub(crate) fn starved(&self) -> u64 {
        let audio: Value = self.tell("audio", json!({}));
        audio["stats"]["tx_starved_frames"].as_u64().unwrap_or_default()
    }
}

/// The level at which tones are sent.
pub(crate) const TONE_DBFS: f64 = -15.0;

/// A header of a SIP message as the phone received it.
pub(crate) fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
