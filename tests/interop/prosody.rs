//! Prosody, the XMPP server in front of the rooms.

use std::{fs, path::Path};

use crate::{
    process::{Process, command},
    site::{ADMIN, CHAT, Ports, ROOMS, SECRET, USERS, password},
    wait::{PATIENCE, until},
};

/// A Prosody with users and a component slot for the rooms.
pub(crate) struct Prosody {
    config: std::path::PathBuf,
    dir: std::path::PathBuf,
    ports: Ports,
    process: Process,
}

impl Prosody {
    /// Writes its configuration and accounts into `dir` and starts it.
    pub(crate) fn start(dir: &Path, ports: Ports) -> Self {
        let dir = dir.join("prosody");
        let accounts = dir.join("data").join(CHAT.replace('.', "%2e")).join("accounts");
        fs::create_dir_all(&accounts).expect("the site's folder is ours");
        for user in USERS.into_iter().chain([ADMIN]) {
            let account = format!("return {{ [\"password\"] = \"{}\" }};\n", password(user));
            fs::write(accounts.join(format!("{user}.dat")), account).expect("a file of ours");
        }
        let config = dir.join("prosody.cfg.lua");
        fs::write(&config, configuration(&dir, ports)).expect("a file of ours");
        let process = run(&config, &dir);
        let prosody = Self { config, dir, ports, process };
        prosody.ready();
        prosody
    }

    /// Stops it as an operator would, or as a power cut does.
    pub(crate) fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it again with the same accounts.
    pub(crate) fn start_again(&mut self) {
        self.process = run(&self.config, &self.dir);
        self.ready();
    }

    fn ready(&self) {
        until("Prosody listens", PATIENCE, || {
            let open = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            (open(self.ports.clients) && open(self.ports.component)).then_some(())
        });
    }
}

fn run(config: &Path, dir: &Path) -> Process {
    let mut prosody = command("prosody");
    prosody.arg("--config").arg(config).arg("-F");
    Process::start("prosody", &mut prosody, &dir.join("prosody.log"), false)
}

fn configuration(dir: &Path, ports: Ports) -> String {
    let Ports { clients, component, web, .. } = ports;
    let dir = dir.display();
    format!(
        r#"
run_as_root = true
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {clients} }}
c2s_direct_tls_ports = {{ }}
component_ports = {{ {component} }}
component_interfaces = {{ "127.0.0.1" }}
http_ports = {{ {web} }}
http_interfaces = {{ "127.0.0.1" }}
https_ports = {{ }}
modules_enabled = {{ "disco", "roster", "saslauth", "ping", "posix", "vcard", "websocket" }}
modules_disabled = {{ "s2s", "tls" }}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
storage = "internal"
log = {{ info = "*console" }}
consider_websocket_secure = true
http_host = "127.0.0.1"
VirtualHost "{CHAT}"
  disco_items = {{ {{ "{ROOMS}", "Rooms" }} }}
Component "{ROOMS}"
  component_secret = "{SECRET}"
"#
    )
}
