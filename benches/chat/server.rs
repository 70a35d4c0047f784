//! The servers under load, each a process of its own, and what they cost.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Where users come from.
pub(crate) const USERS: &str = "users.test";
/// Where rooms are.
pub(crate) const ROOMS: &str = "rooms.test";
const SECRET: &str = "of the bench";

/// Who keeps the rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// The `muc` component of Prosody, with `muc_mam`.
    Prosody,
    /// Our server, on a component link of Prosody.
    Cusaxd,
}

/// A Prosody that takes anonymous users, and whoever keeps the rooms.
pub(crate) struct Site {
    /// Dropped first: it says goodbye to nobody.
    cusaxd: Option<Process>,
    prosody: Process,
    dir: PathBuf,
    /// Where clients connect.
    pub(crate) clients: u16,
    component: u16,
}

impl Site {
    /// Starts both and waits until they listen.
    pub(crate) fn start(keeper: Keeper, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let (clients, component) = (free_port()?, free_port()?);
        let config = dir.join("prosody.cfg.lua");
        fs::write(&config, prosody_config(keeper, &dir, clients, component))?;
        let mut command = Command::new("prosody");
        command.arg("--config").arg(&config).arg("-F");
        let prosody = Process::start("prosody", command, &dir)?;
        listens(clients)?;
        let mut site = Self { cusaxd: None, prosody, dir, clients, component };
        if keeper == Keeper::Cusaxd {
            site.start_cusaxd()?;
        }
        Ok(site)
    }

    fn start_cusaxd(&mut self) -> Result<()> {
        listens(self.component)?;
        self.cusaxd = Some(cusaxd(&self.dir, self.component)?);
        Ok(())
    }

    /// Starts what keeps the rooms again, with what it stored.
    pub(crate) fn restart(self) -> Result<Self> {
        let Self { cusaxd, prosody, dir, .. } = self;
        let keeper = if cusaxd.is_some() { Keeper::Cusaxd } else { Keeper::Prosody };
        for mut process in [cusaxd, Some(prosody)].into_iter().flatten() {
            process.stop()?;
        }
        Self::start(keeper, dir)
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage { prosody: self.prosody.cpu(), cusaxd: self.cusaxd.as_ref().map(Process::cpu) }
    }

    /// The memory of whoever keeps the rooms, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        self.cusaxd.as_ref().unwrap_or(&self.prosody).resident()
    }
}

/// CPU time of both, user and system, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) prosody: f64,
    pub(crate) cusaxd: Option<f64>,
}

impl Usage {
    pub(crate) fn since(self, before: Self) -> Self {
        let ours = self.cusaxd.zip(before.cusaxd).map(|(after, before)| after - before);
        Self { prosody: self.prosody - before.prosody, cusaxd: ours }
    }

    pub(crate) fn sum(self) -> f64 {
        self.prosody + self.cusaxd.unwrap_or(0.0)
    }
}

/// Our server, told to connect to a component port.
pub(crate) fn cusaxd(dir: &Path, component: u16) -> Result<Process> {
    fs::create_dir_all(dir)?;
    let http = free_port()?;
    let config = dir.join("cusaxd.toml");
    let text = format!(
        r#"[xmpp]
domain = "{ROOMS}"
server = "127.0.0.1:{component}"
secret = "{SECRET}"
max_rooms = 50000
max_rooms_of_one = 50000
[sip]
domain = "{ROOMS}"
listen = ["tcp:127.0.0.1:{sip}"]
[media]
address = "127.0.0.1"
ports = "41000-41039"
prompts = "none"
tones_up_to = 0
[store]
url = "sqlite:{store}"
[http]
listen = "127.0.0.1:{http}"
"#,
        sip = free_port()?,
        store = dir.join("cusaxd.db").display(),
    );
    fs::write(&config, text)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_cusaxd"));
    command.arg("run").arg("--config").arg(&config);
    let process = Process::start("cusaxd", command, dir)?;
    listens(http)?;
    Ok(process)
}

/// Both archive into SQLite, and neither limits what a session sends.
fn prosody_config(keeper: Keeper, dir: &Path, clients: u16, component: u16) -> String {
    let rooms = match keeper {
        // Live rooms are 100 by default, and the rest is on disk: here all are in memory, as ours are.
        Keeper::Prosody => format!(
            "Component \"{ROOMS}\" \"muc\"\n  modules_enabled = {{ \"muc_mam\" }}\n  \
             muc_room_cache_size = 50000\n"
        ),
        Keeper::Cusaxd => format!("Component \"{ROOMS}\"\n  component_secret = \"{SECRET}\"\n"),
    };
    format!(
        r#"run_as_root = true
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {clients} }}
c2s_direct_tls_ports = {{ }}
component_ports = {{ {component} }}
component_interfaces = {{ "127.0.0.1" }}
http_ports = {{ }}
https_ports = {{ }}
modules_enabled = {{ "saslauth", "disco" }}
modules_disabled = {{ "s2s", "tls" }}
c2s_require_encryption = false
network_backend = "epoll"
storage = {{ muc_log = "sql" }}
sql = {{ driver = "SQLite3", database = "{dir}/prosody.db" }}
log = {{ warn = "*console" }}
VirtualHost "{USERS}"
  authentication = "anonymous"
{rooms}"#,
        dir = dir.display(),
    )
}

/// A running program; it ends with this value, and with the bench.
pub(crate) struct Process(Child);

impl Process {
    fn start(name: &str, command: Command, dir: &Path) -> Result<Self> {
        let log =
            File::options().create(true).append(true).open(dir.join(format!("{name}.log")))?;
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "KILL", "--"]);
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(wrapped.spawn().with_context(|| format!("cannot start {name}"))?))
    }

    /// User and system time so far, in seconds, from the scheduler's account of each thread.
    pub(crate) fn cpu(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).into_iter().flatten();
        let nanoseconds = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        });
        nanoseconds.sum::<f64>() / 1e9
    }

    /// The memory that it holds, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.unwrap_or_default()
    }

    fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.0.id())?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn listens(port: u16) -> Result<()> {
    let begun = Instant::now();
    while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        ensure!(begun.elapsed() < PATIENCE, "nothing listens on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
