//! ejabberd, the other XMPP server in front of the rooms.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use crate::{
    http,
    process::{Process, command},
    site::{CHAT, Ports, ROOMS, SECRET, USERS, password},
    wait::{PATIENCE, until},
};

/// An ejabberd with users and a component slot for the rooms.
pub(crate) struct Ejabberd {
    config: PathBuf,
    dir: PathBuf,
    ports: Ports,
    process: Process,
}

impl Ejabberd {
    /// Writes its configuration into `dir`, starts it there (no node name, nothing of
    /// `/etc/ejabberd`) and registers the users.
    pub(crate) fn start(dir: &Path, ports: Ports) -> Self {
        let dir = dir.join("ejabberd");
        fs::create_dir_all(&dir).expect("the site's folder is ours");
        let config = dir.join("ejabberd.yml");
        fs::write(&config, configuration(ports)).expect("a file of ours");
        let process = run(&config, &dir);
        for user in USERS {
            let account = json!({ "user": user, "host": CHAT, "password": password(user) });
            until("ejabberd takes accounts", PATIENCE, || {
                let answer = http::post(ports.web, "/api/register", None, &account).ok()?;
                (answer.status == 200).then_some(())
            });
        }
        Self { config, dir, ports, process }
    }

    /// Stops it as an operator would.
    pub(crate) fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it again with the same accounts.
    pub(crate) fn start_again(&mut self) {
        self.process = run(&self.config, &self.dir);
        until("ejabberd listens", PATIENCE, || {
            let open = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
            (open(self.ports.clients) && open(self.ports.component)).then_some(())
        });
    }
}

fn run(config: &Path, dir: &Path) -> Process {
    let mut erlang = command("erl");
    erlang
        .args(["-noshell", "-noinput", "-mnesia", "dir"])
        .arg(format!("\"{}\"", dir.join("spool").display()))
        .args(["-s", "ejabberd"])
        .env("HOME", dir)
        .env("EJABBERD_CONFIG_PATH", config)
        .env("EJABBERD_LOG_PATH", dir.join("ejabberd.log"))
        .env("ERL_LIBS", libraries());
    Process::start("ejabberd", &mut erlang, &dir.join("output.log"), false)
}

/// The folder above Debian's `ejabberd-VERSION`.
fn libraries() -> String {
    let files = Command::new("dpkg").args(["-L", "ejabberd"]).output().expect("dpkg is there");
    let files = String::from_utf8_lossy(&files.stdout).into_owned();
    let beam = files.lines().find(|line| line.ends_with("/ebin/ejabberd.app"));
    let beam = Path::new(beam.expect("ejabberd is installed"));
    beam.ancestors().nth(3).expect("LIBRARIES/ejabberd/ebin/file").display().to_string()
}

fn configuration(ports: Ports) -> String {
    let Ports { clients, component, web, .. } = ports;
    format!(
        r#"
hosts: [{CHAT}]
s2s_access: none
loglevel: info
listen:
  - {{port: {clients}, ip: "127.0.0.1", module: ejabberd_c2s, max_stanza_size: 262144, shaper: none, access: all}}
  - {{port: {component}, ip: "127.0.0.1", module: ejabberd_service, access: all, shaper: none,
     hosts: {{"{ROOMS}": {{password: "{SECRET}"}}}}}}
  - {{port: {web}, ip: "127.0.0.1", module: ejabberd_http,
     request_handlers: {{/api: mod_http_api, /xmpp-websocket: ejabberd_http_ws}}}}
auth_method: internal
auth_password_format: plain
acl: {{loopback: {{ip: [127.0.0.0/8]}}}}
api_permissions:
  loopback: {{from: [mod_http_api], who: {{access: {{allow: {{acl: loopback}}}}}}, what: ["*"]}}
modules:
  mod_disco: {{extra_domains: ["{ROOMS}"]}}
  mod_roster: {{}}
  mod_ping: {{}}
  mod_vcard: {{}}
  mod_http_api: {{}}
"#
    )
}
