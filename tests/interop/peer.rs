//! A peer program that is driven by JSON lines (`peers/lines.py`).

use std::{
    cell::{Cell, RefCell},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, ExitStatus},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    process::{Process, command},
    wait::{Deadline, PATIENCE},
};

/// Where the peer programs lie, and the Python that has their libraries.
pub(crate) fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/peers").join(name)
}

/// The interpreter of the peers' virtual environment.
pub(crate) fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers/venv/bin/python")
}

/// The packages of peers that run in Node.
pub(crate) fn node_modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".peers/node/node_modules")
}

/// What runs a peer program.
#[derive(Clone, Copy)]
pub(crate) enum Runtime {
    /// The peers' virtual environment.
    Python,
    /// Debian's Python, with the libraries of its packages.
    SystemPython,
    /// Node.
    Node,
}

impl Runtime {
    fn program(self) -> PathBuf {
        match self {
            Self::Python => python(),
            Self::SystemPython => "/usr/bin/python3".into(),
            Self::Node => "node".into(),
        }
    }
}

#[derive(Default)]
struct Seen {
    events: Mutex<Vec<Value>>,
    changed: Condvar,
}

/// A running peer: what it was told, and everything it told us.
pub(crate) struct Peer {
    name: String,
    stdin: RefCell<Option<ChildStdin>>,
    seen: Arc<Seen>,
    last_id: Cell<u64>,
    process: Process,
}

impl Peer {
    /// Starts `peers/PROGRAM` with these arguments; its log lies in `dir`.
    pub(crate) fn start(name: &str, file: &str, arguments: &[String], dir: &Path) -> Self {
        Self::start_in(Runtime::Python, name, file, arguments, dir)
    }

    /// The same in another runtime.
    pub(crate) fn start_in(
        runtime: Runtime,
        name: &str,
        file: &str,
        arguments: &[String],
        dir: &Path,
    ) -> Self {
        let mut line = command(runtime.program());
        line.arg(program(file)).args(arguments);
        let peer = Self::of(name, &mut line, dir);
        peer.wait(0, "it to start", |event| event["ev"] == "ready");
        peer
    }

    /// A program that tells what happens as lines of JSON.
    pub(crate) fn of(name: &str, line: &mut Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let mut process = Process::start(name, line, &log, true);
        let (stdin, stdout) = process.pipes();
        let seen = Arc::new(Seen::default());
        let (events, mut transcript) = (
            Arc::clone(&seen),
            std::fs::File::options().append(true).open(&log).expect("the log is there"),
        );
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = writeln!(transcript, "{line}");
                if let Ok(event) = serde_json::from_str(&line) {
                    events.events.lock().expect("no holder panics").push(event);
                    events.changed.notify_all();
                }
            }
        });
        Self {
            name: name.into(),
            stdin: RefCell::new(Some(stdin)),
            seen,
            last_id: Cell::new(0),
            process,
        }
    }

    /// Writes a line to its input.
    pub(crate) fn write(&self, line: &str) {
        let mut stdin = self.stdin.borrow_mut();
        let pipe = stdin.as_mut().expect("open until dropped");
        writeln!(pipe, "{line}").unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// How it ended, if it does in time.
    pub(crate) fn ends(&mut self, within: Duration) -> Option<ExitStatus> {
        self.process.wait(within)
    }

    /// A place in the list of events: pass it to `wait` to look only at what comes later.
    pub(crate) fn mark(&self) -> usize {
        self.seen.events.lock().expect("no holder panics").len()
    }

    /// All events since `mark`.
    pub(crate) fn events(&self, mark: usize) -> Vec<Value> {
        self.seen.events.lock().expect("no holder panics")[mark..].to_vec()
    }

    /// Waits for an event after `mark`; panics after `within`.
    pub(crate) fn wait_for(
        &self,
        mark: usize,
        within: Duration,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = Deadline::after(within);
        let mut events = self.seen.events.lock().expect("no holder panics");
        let mut looked_at = mark;
        loop {
            if let Some(found) = events[looked_at..].iter().find(|event| wanted(event)) {
                return found.clone();
            }
            looked_at = events.len();
            let Some(left) = deadline.left() else {
                panic!("{}: waited {within:?} in vain for {what}", self.name);
            };
            (events, _) = self.seen.changed.wait_timeout(events, left).expect("no holder panics");
        }
    }

    /// Waits for an event after `mark`, as long as is reasonable.
    pub(crate) fn wait(&self, mark: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(mark, PATIENCE, what, wanted)
    }

    /// Gives a command; what it answered, or the reason why it failed.
    pub(crate) fn attempt(&self, name: &str, mut fields: Value) -> Result<Value, String> {
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        fields["id"] = json!(id);
        fields["do"] = json!(name);
        let mark = self.mark();
        self.write(&fields.to_string());
        let reply = self.wait(mark, &format!("the reply to {name}"), |event| {
            event["ev"] == "reply" && event["id"] == id
        });
        if reply["ok"] == true {
            Ok(reply)
        } else {
            Err(reply["text"].as_str().unwrap_or_default().to_owned())
        }
    }

    /// Gives a command that must succeed.
    pub(crate) fn tell(&self, name: &str, fields: Value) -> Value {
        self.attempt(name, fields)
            .unwrap_or_else(|error| panic!("{}: {name} failed: {error}", self.name))
    }

    /// Whether it still runs.
    pub(crate) fn alive(&mut self) -> bool {
        self.process.ended().is_none()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // End of input is how a peer is told to leave; most need a moment to say so to the network.
        drop(self.stdin.borrow_mut().take());
        self.process.wait(Duration::from_secs(3));
    }
}
