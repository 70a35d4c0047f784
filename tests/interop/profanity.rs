//! A chat user at a terminal: Profanity in tmux.

use std::{fs, path::Path, path::PathBuf, process::Command, time::Duration};

use crate::{
    process::{Process, command},
    site::{CHAT, ROOMS, installed, password},
    wait::{PATIENCE, pause, until},
};

/// A terminal in which the client runs.
pub(crate) struct Profanity {
    socket: PathBuf,
    // The tmux server: ends with the test, and with it the client.
    _server: Process,
}

impl Profanity {
    /// Starts the client in a terminal of 140 by 45, and waits until it is online.
    pub(crate) fn start(user: &str, port: u16, dir: &Path) -> Option<Self> {
        installed(&["profanity", "tmux"])?;
        let home = dir.join(format!("profanity-{user}"));
        let data = home.join("profanity");
        fs::create_dir_all(&data).expect("the site's folder is ours");
        fs::write(data.join("accounts"), account(user, port)).expect("a file of ours");
        let socket = home.join("tmux");
        let mut tmux = command("tmux");
        tmux.args(["-D", "-f", "/dev/null", "-S"]).arg(&socket).env_remove("TMUX");
        let server = Process::start("tmux", &mut tmux, &home.join("tmux.log"), false);
        let terminal = Self { socket, _server: server };
        until("tmux to listen", PATIENCE, || terminal.socket.exists().then_some(()));
        let log = home.join("stanzas.log").display().to_string();
        let home = home.display();
        terminal.tmux(&["new-session", "-d", "-x", "140", "-y", "45", &format!(
            "exec env HOME='{home}' XDG_DATA_HOME='{home}' XDG_CONFIG_HOME='{home}/config' TERM=screen \
             LC_ALL=C.UTF-8 profanity -a {user} -l DEBUG -f '{log}'"
        )]);
        terminal.shows(&format!("{user}@{CHAT}/profanity logged in successfully"));
        // Else who comes and goes is seen in the list alone.
        terminal.types("/presence room all");
        Some(terminal)
    }

    /// Types a line.
    pub(crate) fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    /// Waits until the screen shows a text; the screen.
    pub(crate) fn shows(&self, text: &str) -> String {
        let mut last = String::new();
        for _ in 0..PATIENCE.as_millis() / 100 {
            last = self.screen();
            if last.contains(text) {
                return last;
            }
            pause(Duration::from_millis(100));
        }
        panic!("{text:?} is not on the screen:\n{last}");
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&self.socket).args(arguments).env_remove("TMUX");
        let done = tmux.output().expect("tmux runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

fn account(user: &str, port: u16) -> String {
    format!(
        "[{user}]\nenabled=true\njid={user}@{CHAT}\nserver=127.0.0.1\nport={port}\n\
         tls.policy=disable\npassword={}\nresource=profanity\nmuc.nick={user}\n\
         muc.service={ROOMS}\npresence.last=online\npresence.login=online\n",
        password(user)
    )
}
