//! Files of JSON lines that others rotate: what is written is never waited for.
//!
//! A thread of its own appends, so that a slow disk holds up nobody. Lines that cannot be written, and
//! those that come while [`MAX_LINES`] wait, are counted and gone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::error;

/// One such file, or none.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    jobs: SyncSender<Job>,
    lost: IntCounter,
    name: &'static str,
}

#[derive(Debug)]
enum Job {
    Write(Vec<u8>),
    Open(Option<File>),
    /// All that came before is written.
    Say(oneshot::Sender<()>),
}

impl Lines {
    /// Opens the file of an option, if it names one. `lost` counts what is not written.
    pub(super) fn open(
        name: &'static str,
        file: Option<&str>,
        lost: IntCounter,
    ) -> io::Result<Self> {
        let file = file.map(append_to).transpose()?;
        let (jobs, taken) = sync_channel(MAX_LINES);
        let counter = lost.clone();
        thread::Builder::new()
            .name("cusaxd-lines".to_owned())
            .spawn(move || write(name, file, &taken, &counter))?;
        Ok(Self { jobs, lost, name })
    }

    /// Opens the file again, which may have been moved away, or another one. What cannot be opened is
    /// told, and the old one is written on.
    pub(super) fn reopen(&self, file: Option<&str>) {
        match file.map(append_to).transpose() {
            Ok(file) => self.give(Job::Open(file)),
            Err(why) => {
                let file = file.unwrap_or_default();
                error!(key = self.name, file, %why, "cannot be opened; the old file is written on");
            }
        }
    }

    /// Writes a record.
    pub(super) fn write(&self, record: &impl Serialize) {
        match serde_json::to_vec(record) {
            Ok(mut line) => {
                line.push(b'\n');
                self.give(Job::Write(line));
            }
            Err(_) => self.lost.inc(),
        }
    }

    /// Waits until all is written, but not for ever.
    pub(super) async fn flush(&self, patience: Duration) {
        let (say, said) = oneshot::channel();
        self.give(Job::Say(say));
        if !matches!(timeout(patience, said).await, Ok(Ok(()))) {
            error!(key = self.name, "the last lines are not written");
        }
    }

    fn give(&self, job: Job) {
        if self.jobs.try_send(job).is_err() {
            self.lost.inc();
        }
    }
}

/// Creates a file for us alone, or appends to the one that is there.
fn append_to(file: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(file)
}

/// Whether a file of this name can be written, without making it.
pub(super) fn problem(file: &str) -> Option<String> {
    let path = Path::new(file);
    let tried = match path.try_exists() {
        Ok(true) => OpenOptions::new().append(true).open(path).map(drop),
        Ok(false) => folder(path).metadata().and_then(|folder| match folder.is_dir() {
            true => Ok(()),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }),
        Err(why) => Err(why),
    };
    tried.err().map(|why| format!("{file}: {why}"))
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// The thread: a line is written whole or counted as lost, and a fault is told once until it is over.
fn write(name: &'static str, mut file: Option<File>, jobs: &Receiver<Job>, lost: &IntCounter) {
    let mut failing = false;
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Open(other) => file = other,
            Job::Say(say) => drop(say.send(())),
            Job::Write(line) => {
                let Some(file) = &mut file else { continue };
                match file.write_all(&line) {
                    Ok(()) => failing = false,
                    Err(why) => {
                        lost.inc();
                        if !std::mem::replace(&mut failing, true) {
                            error!(key = name, %why, "cannot be written; lines are lost");
                        }
                    }
                }
            }
        }
    }
}

/// Lines that wait to be written.
const MAX_LINES: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn folder_of(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("cusaxd-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn counter() -> IntCounter {
        IntCounter::new("lost", "lost").unwrap()
    }

    #[tokio::test]
    async fn what_was_moved_away_is_left_and_begun_anew() {
        let folder = folder_of("lines");
        let (file, old) = (folder.join("log"), folder.join("log.1"));
        let name = file.to_str().unwrap();
        assert_eq!(problem(name), None);
        let lines = Lines::open("log.audit_file", Some(name), counter()).unwrap();
        lines.write(&json!({ "a": 1 }));
        lines.flush(PATIENCE).await;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::rename(&file, &old).unwrap();
        lines.write(&json!({ "a": 2 }));
        lines.reopen(Some(name));
        lines.write(&json!({ "a": "3\n" }));
        // Another that cannot be: the one that is there is written on.
        lines.reopen(Some("/nonexistent/log"));
        lines.write(&json!({ "a": 4 }));
        lines.reopen(None);
        lines.write(&json!({ "a": 5 }));
        lines.flush(PATIENCE).await;
        let read = |file: &Path| {
            let text = fs::read_to_string(file).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        };
        assert_eq!(read(&old), [json!({ "a": 1 }), json!({ "a": 2 })]);
        assert_eq!(read(&file), [json!({ "a": "3\n" }), json!({ "a": 4 })]);
        assert_eq!(lines.lost.get(), 0);
        fs::remove_dir_all(folder).unwrap();
    }

    /// `/dev/full` is a disk that is.
    #[tokio::test]
    async fn a_full_disk_costs_lines_and_nothing_else() {
        let lines = Lines::open("log.audit_file", Some("/dev/full"), counter()).unwrap();
        for number in 0..3 {
            lines.write(&json!({ "number": number }));
        }
        lines.flush(PATIENCE).await;
        assert_eq!(lines.lost.get(), 3);
        // Nobody reads: no more than so many lines wait.
        let (jobs, taken) = sync_channel(2);
        let lines = Lines { jobs, lost: counter(), name: "log.audit_file" };
        (0..5).for_each(|number| lines.write(&number));
        assert_eq!((lines.lost.get(), taken.try_iter().count()), (3, 2));
    }

    #[test]
    fn what_cannot_be_written_is_named_before() {
        assert!(problem("/nonexistent/log").unwrap().starts_with("/nonexistent/log: "));
        assert!(problem("/dev/null/log").is_some());
        assert!(problem("/proc").is_some(), "a folder");
        assert!(Lines::open("log.audit_file", Some("/nonexistent/log"), counter()).is_err());
    }
}
