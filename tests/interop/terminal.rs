//! A terminal to type in and to look at: tmux.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    process::{Process, command},
    wait::{PATIENCE, pause, until},
};

/// A terminal in which a program runs.
pub(crate) struct Terminal {
    socket: PathBuf,
    // The tmux server: ends with the test, and with it the program.
    _server: Process,
}

impl Terminal {
    /// Runs a line of shell in a terminal of so many columns and lines; its logs lie in `home`.
    pub(crate) fn start(home: &Path, (columns, lines): (u16, u16), line: &str) -> Self {
        fs::create_dir_all(home).expect("the site's folder is ours");
        let socket = home.join("tmux");
        let mut tmux = command("tmux");
        tmux.args(["-D", "-f", "/dev/null", "-S"]).arg(&socket).env_remove("TMUX");
        let server = Process::start("tmux", &mut tmux, &home.join("tmux.log"), false);
        let terminal = Self { socket, _server: server };
        until("tmux to listen", PATIENCE, || terminal.socket.exists().then_some(()));
        let (columns, lines) = (columns.to_string(), lines.to_string());
        terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", &lines, line]);
        terminal
    }

    /// Types a line.
    pub(crate) fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.presses("Enter");
    }

    /// Presses a key, by tmux's name for it.
    pub(crate) fn presses(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Waits until the screen shows a text; the screen.
    pub(crate) fn shows(&self, text: &str) -> String {
        self.shows_like(text, |screen| screen.contains(text))
    }

    /// Waits until the screen is as it should be; the screen.
    pub(crate) fn shows_like(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        for _ in 0..PATIENCE.as_millis() / 100 {
            last = self.screen();
            if wanted(&last) {
                return last;
            }
            pause(Duration::from_millis(100));
        }
        panic!("{what:?} is not on the screen:\n{last}");
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What is on the screen, as a picture: text with its colours.
    pub(crate) fn picture(&self, columns: usize, title: &str) -> String {
        picture(&self.tmux(&["capture-pane", "-p", "-e"]), columns, title)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&self.socket).args(arguments).env_remove("TMUX");
        let done = tmux.output().expect("tmux runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}

/// A screen with escape sequences of colour (ECMA-48 §8.3.117) as SVG.
fn picture(screen: &str, columns: usize, title: &str) -> String {
    let lines: Vec<&str> = screen.trim_end().lines().collect();
    let (width, height) = (columns * 9 + 32, lines.len() * 20 + 32);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>{title}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#1d2129\"/>\n\
         <g font-family=\"monospace\" font-size=\"15\" fill=\"#d7dae0\">\n"
    );
    let (mut color, mut bold) = (None, false);
    for (at, line) in lines.iter().enumerate() {
        let (mut column, mut run) = (0, String::new());
        let mut parts = line.split('\u{1b}');
        let first = parts.next().unwrap_or_default();
        let y = at * 20 + 34;
        let mut put = |text: &str, color: Option<&str>, bold: bool| {
            if !text.trim().is_empty() {
                let fill = color.map(|it| format!(" fill=\"{it}\"")).unwrap_or_default();
                let weight = if bold { " font-weight=\"bold\"" } else { "" };
                let text = text.replace('&', "&amp;").replace('<', "&lt;");
                let x = column * 9 + 16;
                let _ = write!(
                    run,
                    "<text x=\"{x}\" y=\"{y}\"{fill}{weight} xml:space=\"preserve\" textLength=\"{}\">{text}</text>",
                    text_length(&text)
                );
            }
            column += text.chars().count();
        };
        put(first, color, bold);
        for part in parts {
            let Some((codes, text)) = part.strip_prefix('[').and_then(|part| part.split_once('m'))
            else {
                continue;
            };
            // One of 256 colours is said in three numbers, of which the last counts.
            let last = codes.strip_prefix("38;5;");
            match last.unwrap_or(codes) {
                "" | "0" => (color, bold) = (None, false),
                "1" if last.is_none() => bold = true,
                "32" | "92" | "10" => color = Some("#98c379"),
                "33" | "93" | "11" => color = Some("#e5c07b"),
                "36" | "96" | "14" => color = Some("#56b6c2"),
                "30" | "90" | "8" => color = Some("#7f848e"),
                "39" => color = None,
                _ => {}
            }
            put(text, color, bold);
        }
        svg.push_str(&run);
        svg.push('\n');
    }
    svg + "</g>\n</svg>\n"
}

/// The width of a text whose entities count as the signs that they are.
fn text_length(escaped: &str) -> usize {
    escaped.replace("&amp;", "&").replace("&lt;", "<").chars().count() * 9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_becomes_a_picture() {
        let svg = picture("\u{1b}[1m\u{1b}[38;5;14mlounge\u{1b}[0m <x> & y\n\n", 20, "A room");
        assert!(svg.contains("fill=\"#56b6c2\" font-weight=\"bold\""), "{svg}");
        assert!(
            svg.contains(
                "x=\"70\" y=\"34\" xml:space=\"preserve\" textLength=\"72\"> &lt;x> &amp; y<"
            ),
            "{svg}"
        );
    }
}
