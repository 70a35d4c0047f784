//! A chat user at a terminal: Profanity in tmux.

use std::{fs, ops::Deref, path::Path};

use crate::{
    site::{CHAT, ROOMS, installed, password},
    terminal::Terminal,
};

/// A terminal in which the client runs.
pub(crate) struct Profanity {
    terminal: Terminal,
}

impl Deref for Profanity {
    type Target = Terminal;

    fn deref(&self) -> &Terminal {
        &self.terminal
    }
}

impl Profanity {
    /// Starts the client in a terminal of 140 by 45, and waits until it is online.
    pub(crate) fn start(user: &str, port: u16, dir: &Path) -> Option<Self> {
        installed(&["profanity", "tmux"])?;
        let home = dir.join(format!("profanity-{user}"));
        let data = home.join("profanity");
        fs::create_dir_all(&data).expect("the site's folder is ours");
        fs::write(data.join("accounts"), account(user, port)).expect("a file of ours");
        let log = home.join("stanzas.log").display().to_string();
        let at = home.display();
        let line = format!(
            "exec env HOME='{at}' XDG_DATA_HOME='{at}' XDG_CONFIG_HOME='{at}/config' TERM=screen \
             LC_ALL=C.UTF-8 profanity -a {user} -l DEBUG -f '{log}'"
        );
        let terminal = Terminal::start(&home, (140, 45), &line);
        terminal.shows(&format!("{user}@{CHAT}/profanity logged in successfully"));
        // Else who comes and goes is seen in the list alone.
        terminal.types("/presence room all");
        Some(Self { terminal })
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
