//! The server under test.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    http::{self, Answer},
    process::{Process, command},
    site::{ADMIN, CHAT, CONFERENCES, PHONES, Plan, Ports, ROOMS, SECRET},
    wait::{PATIENCE, pause, until},
};

/// The bearer token of the admin API.
pub(crate) const TOKEN: &str = "interop-token";
/// The one of those who may only look.
pub(crate) const READ_TOKEN: &str = "interop-read-token";

/// A running `cusaxd`.
pub(crate) struct Cusaxd {
    config: PathBuf,
    dir: PathBuf,
    ports: Ports,
    process: Process,
}

impl Cusaxd {
    /// Writes its configuration into `dir`, starts it and waits until it says that it is ready.
    pub(crate) fn start(dir: &Path, ports: Ports, plan: &Plan, store: &str) -> Self {
        let config = dir.join("cusaxd.toml");
        certify(dir);
        fs::write(&config, configuration(dir, ports, plan, store)).expect("a file of ours");
        fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("a file of ours");
        let process = run(&config, dir);
        let mut cusaxd = Self { config, dir: dir.into(), ports, process };
        cusaxd.ready();
        cusaxd
    }

    /// Waits for `/health/ready` to say yes.
    pub(crate) fn ready(&mut self) {
        until("cusaxd is ready", PATIENCE, || {
            assert!(self.process.ended().is_none(), "cusaxd ended by itself");
            let answer = http::get(self.ports.http, "/health/ready", Some(TOKEN)).ok()?;
            (answer.status == 200).then_some(())
        });
    }

    /// As a power cut does.
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        assert!(self.process.wait(PATIENCE).is_some(), "killed processes end");
    }

    /// Keeps it from running for a while.
    pub(crate) fn freeze(&self, length: Duration) {
        self.process.signal(Signal::SIGSTOP);
        pause(length);
        self.process.signal(Signal::SIGCONT);
    }

    /// For how long the machine has kept its mixer from running although there was something to do,
    /// in seconds.
    pub(crate) fn kept_waiting(&self) -> f64 {
        self.process.kept_waiting("mix")
    }

    /// As an operator does; how it ended.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM);
        self.process.wait(PATIENCE).expect("it stops when asked")
    }

    /// How it ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE).expect("it ends by itself")
    }

    /// Starts it again on the same store.
    pub(crate) fn start_again(&mut self) {
        self.process = run(&self.config, &self.dir);
        self.ready();
    }

    /// Whether it is still the process that was started.
    pub(crate) fn alive(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// The memory that it holds, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        self.process.resident()
    }

    /// `GET PATH`
    pub(crate) fn get(&self, path: &str) -> Answer {
        http::get(self.ports.http, path, Some(TOKEN)).expect("the admin API answers")
    }

    /// A room as the admin API tells it.
    pub(crate) fn room(&self, room: &str) -> Value {
        let answer = self.get(&format!("/api/v1/rooms/{room}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// Puts a user into the directory.
    pub(crate) fn enroll(&self, user: &str, aor: &str, password: &str) {
        let path = format!("/api/v1/users/{user}@{CHAT}");
        let entry = json!({ "aor": aor, "name": user, "password": password });
        let answer = http::put(self.ports.http, &path, Some(TOKEN), &entry);
        let answer = answer.expect("the admin API answers");
        assert!(matches!(answer.status, 200..=204), "{} {}", answer.status, answer.body);
    }

    /// `cusaxd ARGUMENTS` with its configuration: the exit code, and all that was said.
    pub(crate) fn operate(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut line = command(env!("CARGO_BIN_EXE_cusaxd"));
        let done = line.args(arguments).arg("--config").arg(&self.config).output();
        let done = done.expect("cusaxd runs");
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// A metric's value, summed over its labels that contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let body = self.get("/metrics").body;
        let lines = body.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']) && rest.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What it has written to its log.
    pub(crate) fn log(&self) -> String {
        self.process.output()
    }
}

fn run(config: &Path, dir: &Path) -> Process {
    let mut cusaxd = command(env!("CARGO_BIN_EXE_cusaxd"));
    cusaxd.args(["run", "--config"]).arg(config);
    cusaxd.env("RUST_BACKTRACE", "1");
    Process::start("cusaxd", &mut cusaxd, &dir.join("cusaxd.log"), false)
}

/// Writes the certificate of its TLS, which nobody has to trust: `cusaxd.pem`, `cusaxd.key`.
fn certify(dir: &Path) {
    let names = vec![CONFERENCES.to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("plain names");
    let key = dir.join("cusaxd.key");
    fs::write(dir.join("cusaxd.pem"), made.cert.pem()).expect("a file of ours");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a file of ours");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a file of ours");
}

fn configuration(dir: &Path, ports: Ports, plan: &Plan, store: &str) -> String {
    let Ports { component, sip, proxy, tls, ws, wss, http, media, .. } = ports;
    let Plan { auth, phones, .. } = *plan;
    let out = match plan.proxy {
        true => format!("outbound_proxy = \"sip:127.0.0.1:{proxy}\""),
        false => String::new(),
    };
    // Tests listen for tones, and words would be in their way.
    let prompts = match plan.prompts {
        true => "",
        false => "prompts = \"none\"\ntones_up_to = 0",
    };
    let last = media + MEDIA_PORTS - 1;
    format!(
        r#"[xmpp]
domain = "{ROOMS}"
server = "127.0.0.1:{component}"
secret = "{SECRET}"
admins = ["{ADMIN}@{CHAT}"]

[sip]
domain = "{CONFERENCES}"
listen = ["udp:{listen}", "tcp:{listen}", "tls:{tls}", "ws:{ws}", "wss:{wss}"]
tls_certificate = "{certificate}"
tls_key = "{key}"
trusted_proxies = ["127.0.0.1/32"]
auth = "{auth}"
dial_allow = ["{PHONES}", "127.0.0.1"]
{out}

[media]
address = "{address}"
ports = "{media}-{last}"
# Unoptimised, and beside its peers on a busy machine, it is often under stress.
max_stress = 1.0
{prompts}

[store]
url = "{store}"

[http]
listen = "127.0.0.1:{http}"
token = "{TOKEN}"
read_token = "{READ_TOKEN}"

[provision]
sip_proxy = "{listen}"
sip_transports = ["udp"]

[run]
drain_seconds = 0

[log]
level = "debug"
"#,
        listen = phones.at(sip),
        tls = phones.at(tls),
        ws = phones.at(ws),
        wss = phones.at(wss),
        certificate = dir.join("cusaxd.pem").display(),
        key = dir.join("cusaxd.key").display(),
        address = phones.address(),
    )
}

/// How many RTP and RTCP ports one server gets.
pub(crate) const MEDIA_PORTS: u16 = 40;

/// How long after a chat command the sound may change at the other phones at the latest: their
/// own jitter buffers (100 ms) and pipes included, on a busy machine.
pub(crate) const PROMPT: Duration = Duration::from_millis(400);

/// Whether a port is free for both transports.
pub(crate) fn free(port: u16) -> bool {
    UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok()
}
