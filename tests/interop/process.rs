//! A program that a test starts: its output kept, its end certain.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::{Deadline, pause};

/// How long a program may take to stop when asked, before it is killed.
const STOP: Duration = Duration::from_secs(5);

/// How much of its output a failed test shows.
const TAIL_LINES: usize = 60;

/// How much of each line: a SIP message or a presence is one line of a peer's log.
const TAIL_WIDTH: usize = 500;

/// A command that ends with the test, even if the test is killed.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
    command
}

/// A running program.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, whose errors (and output, unless the caller pipes it) go to `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path, piped: bool) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("the log opens");
        command.stderr(file.try_clone().expect("a descriptor is free"));
        if piped {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        } else {
            command.stdin(Stdio::null()).stdout(file);
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} starts: {error}"));
        Self { name: name.into(), child, log: log.into() }
    }

    /// The pipes of a program started with `piped`.
    pub(crate) fn pipes(&mut self) -> (std::process::ChildStdin, std::process::ChildStdout) {
        let stdin = self.child.stdin.take().expect("started with pipes");
        (stdin, self.child.stdout.take().expect("started with pipes"))
    }

    /// Sends a signal to this process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("process ids are small");
        // It may have gone meanwhile: that is what `wait` tells.
        let _ = kill(Pid::from_raw(pid), signal);
    }

    /// For how long threads whose names begin like this were ready to run and the machine ran others
    /// (`schedstat` of proc(5)), in seconds and in sum.
    pub(crate) fn kept_waiting(&self, threads: &str) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let paths = tasks.expect("it runs").filter_map(|task| Some(task.ok()?.path()));
        // A thread may end meanwhile.
        let read = |task: &Path, file| fs::read_to_string(task.join(file)).unwrap_or_default();
        paths
            .filter(|task| read(task, "comm").starts_with(threads))
            .filter_map(|task| read(&task, "schedstat").split(' ').nth(1)?.parse::<f64>().ok())
            .sum::<f64>()
            / 1e9
    }

    /// The memory that it holds, in KiB (`VmRSS`).
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let words = line.expect("Linux says so").split_whitespace().next();
        words.and_then(|kib| kib.parse().ok()).expect("a number")
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits for its end; `None` when it still runs after `within`.
    pub(crate) fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Deadline::after(within);
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            deadline.left()?;
            pause(Duration::from_millis(10));
        }
    }

    /// Asks it to stop, then makes it.
    pub(crate) fn stop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::SIGTERM);
            if self.wait(STOP).is_none() {
                self.signal(Signal::SIGKILL);
                self.wait(STOP);
            }
        }
    }

    /// All that it has written to its log.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            show(&self.name, &self.log);
        }
    }
}

/// Prints the end of a log, for a failed test.
pub(crate) fn show(name: &str, log: &Path) {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    println!("---- {name}: the last lines of {}", log.display());
    for line in &lines[from..] {
        let end = line.char_indices().nth(TAIL_WIDTH).map_or(line.len(), |(at, _)| at);
        println!("{}", &line[..end]);
    }
}
