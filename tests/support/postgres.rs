//! A PostgreSQL server of one's own, in a folder of its own, on a socket there: for tests. It stops, and
//! the folder goes, with whoever started it, however that ends.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A running server.
#[derive(Debug)]
pub(crate) struct Postgres {
    folder: PathBuf,
    programs: PathBuf,
    /// Waits for the end of its input, which is ours or that of our process.
    keeper: Child,
}

impl Postgres {
    /// Starts a server; `None`, with a message, when none is installed and this is not CI.
    pub(crate) fn start() -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let Some(programs) = programs() else {
            let ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!ci, "PostgreSQL is not installed (scripts/setup.sh installs it)");
            println!("skipped: PostgreSQL is not installed (scripts/setup.sh installs it)");
            return None;
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // A socket's path has to be short.
        let name = format!("cusaxd-pg-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a folder of ours");
        // Whoever runs the server keeps the data; this process may be somebody else.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&folder)
            .args(unprivileged())
            .arg(programs.join("pg_ctl"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let postgres = Self { folder, programs, keeper };
        postgres.run("initdb", &["-A", "trust", "-U", "cusaxd", "-E", "UTF8", "--no-sync"]);
        postgres.resume();
        Some(postgres)
    }

    /// Makes a database; its URL, with a password that must be seen nowhere.
    pub(crate) fn database(&self, name: &str) -> String {
        let host = self.folder.display();
        let mut psql = command(&self.programs.join("psql"));
        psql.args(["-q", "-h", &host.to_string(), "-U", "cusaxd", "-d", "postgres"]);
        done(psql.args(["-c", &format!("CREATE DATABASE \"{name}\"")]));
        format!("postgres://cusaxd:{PASSWORD}@localhost/{name}?host={host}")
    }

    /// Ends every connection and stops, as when its machine goes away: `immediate`; or in order: `fast`.
    pub(crate) fn stop(&self, mode: &str) {
        self.run("pg_ctl", &["-w", "-s", "-m", mode, "stop"]);
    }

    /// Starts again what was stopped.
    pub(crate) fn resume(&self) {
        let folder = self.folder.display();
        let options = format!(
            "-k {folder} -c listen_addresses= -c fsync=off -c max_connections=60 \
             -c shared_buffers=64MB -c log_min_messages=fatal"
        );
        let log = self.folder.join("log").display().to_string();
        self.run("pg_ctl", &["-w", "-s", "-l", &log, "-o", &options, "start"]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = command(&self.programs.join(program));
        done(command.arg("-D").arg(self.folder.join("data")).args(arguments));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It closes its output when the folder is gone.
        let output = self.keeper.stdout.as_mut().map(|output| output.read_to_end(&mut vec![]));
        drop((output, self.keeper.wait()));
    }
}

/// What stands in [`Postgres::database`] as password.
pub(crate) const PASSWORD: &str = "open-sesame";

fn done(command: &mut Command) {
    // A server keeps what it inherits open, so nobody waits for the end of its output.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.unwrap_or_else(|why| panic!("{command:?}: {why}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn command(program: &Path) -> Command {
    let mut command = match &unprivileged()[..] {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command.env("LC_ALL", "C.UTF-8").env_remove("PGOPTIONS");
    command
}

/// The server refuses to run as root.
fn unprivileged() -> Vec<&'static str> {
    let root = fs::metadata("/proc/self").is_ok_and(|process| {
        use std::os::unix::fs::MetadataExt as _;
        process.uid() == 0
    });
    if root {
        vec!["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]
    } else {
        vec![]
    }
}

/// Where the newest server has its programs: Debian has a folder for each version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders.filter(|folder| folder.join("initdb").exists()).max()
}

const KEEPER: &str = r#"folder=$1; shift
trap '' INT TERM HUP
cat >/dev/null
"$@" -D "$folder/data" -s -m immediate stop >/dev/null 2>&1
rm -rf "$folder""#;
