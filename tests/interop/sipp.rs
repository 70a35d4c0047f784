//! SIPp: calls and requests step by step, headers and all (`sipp/*.xml`).

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    process::{Process, command},
    site::{Ports, Site, installed},
};

/// A scenario that runs by itself against the focus.
pub(crate) struct Scenario {
    process: Process,
    dir: PathBuf,
    name: &'static str,
}

impl Scenario {
    /// Starts `sipp/NAME.xml` towards a room; `[word]`s of the scenario are replaced by `keys`.
    /// `None`, with a message, when SIPp is missing.
    pub(crate) fn start(
        site: &Site,
        name: &'static str,
        room: &str,
        tcp: bool,
        keys: &[(&str, &str)],
    ) -> Option<Self> {
        Self::start_many(site, name, room, tcp, keys, 1)
    }

    /// The same with this many calls at once.
    pub(crate) fn start_many(
        site: &Site,
        name: &'static str,
        room: &str,
        tcp: bool,
        keys: &[(&str, &str)],
        calls: usize,
    ) -> Option<Self> {
        installed(&["sipp"])?;
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/interop/sipp/{name}.xml"));
        let dir = site.dir.join(format!("sipp-{name}-{room}{}", if tcp { "-tcp" } else { "" }));
        fs::create_dir_all(&dir).expect("the site's folder is ours");
        // Not by SIPp's own `-key`: it takes no keys in a request line.
        let text = fs::read_to_string(file).expect("the scenario is there");
        let text =
            keys.iter().fold(text, |text, (key, value)| text.replace(&format!("[{key}]"), value));
        fs::write(dir.join("scenario.xml"), text).expect("the site's folder is ours");
        let host = site.phones;
        let mut sipp = command("sipp");
        sipp.current_dir(&dir).arg(host.at(site.ports.sip)).args(["-sf", "scenario.xml"]);
        sipp.args(["-s", room, "-i", host.address(), "-mi", host.address(), "-nostdin"]);
        let calls = calls.to_string();
        sipp.args(["-m", &calls, "-l", &calls, "-r", &calls]);
        sipp.args(["-trace_err", "-error_file", "errors.log"]);
        sipp.args(["-trace_msg", "-message_file", "messages.log"]);
        sipp.args(["-trace_logs", "-log_file", "log.log"]);
        sipp.args(["-p", &Ports::any().to_string(), "-mp", &(Ports::any() & !1).to_string()]);
        sipp.args(["-t", if tcp { "t1" } else { "u1" }]);
        let process = Process::start("sipp", &mut sipp, &dir.join("output.log"), false);
        Some(Self { process, dir, name })
    }

    /// Waits for its end; panics, with what went over the wire, when a step did not come.
    pub(crate) fn passes(mut self, within: Duration) -> Transcript {
        let status = self.process.wait(within);
        let read = |file: &str| fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let messages = read("messages.log");
        assert!(
            status.is_some_and(|status| status.success()),
            "{}: {status:?}\n{}\n{messages}",
            self.name,
            read("errors.log"),
        );
        Transcript { messages, log: read("log.log") }
    }
}

/// What went over the wire.
pub(crate) struct Transcript {
    /// Every message, as SIPp writes them down.
    pub(crate) messages: String,
    /// What the scenario logged.
    pub(crate) log: String,
}

impl Transcript {
    /// When messages that begin like this were received, in seconds of the day.
    pub(crate) fn times(&self, start: &str) -> Vec<f64> {
        let received = |entry: &str| {
            let (stamp, rest) = entry.split_once('\n')?;
            let (head, message) = rest.split_once("\n\n")?;
            let fits = head.contains("message received") && message.starts_with(start);
            let clock = stamp.trim().rsplit(' ').next().filter(|_| fits)?;
            let parts: Option<Vec<f64>> = clock.split(':').map(|part| part.parse().ok()).collect();
            Some(parts?.iter().fold(0.0, |sum, part| sum * 60.0 + part))
        };
        self.messages
            .split("----------------------------------------------- ")
            .filter_map(received)
            .collect()
    }

    /// The bodies of the NOTIFY requests in the order in which they came.
    pub(crate) fn documents(&self) -> Vec<String> {
        let start = "<conference-info";
        let end = "</conference-info>";
        let mut documents = Vec::new();
        let mut rest = self.messages.as_str();
        while let Some(from) = rest.find(start) {
            let Some(length) = rest[from..].find(end) else { break };
            documents.push(rest[from..from + length + end.len()].to_owned());
            rest = &rest[from + length + end.len()..];
        }
        documents
    }
}
