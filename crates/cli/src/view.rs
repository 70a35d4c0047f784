//! How a session looks: lines of JSON for scripts, lines for people, or the whole terminal.

use std::collections::{BTreeSet, VecDeque};
use std::io::{IsTerminal, Write, stdin, stdout};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use crossterm::queue;
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use cusax::hat::Hat;
use cusax_client::driver::audio::Meter;
use cusax_client::people::{Level, MutedBy, Person, Role, Voice};
use serde_json::{Value, json};

use crate::wish::Wish;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A connection is up or not: its name, and in words how it is.
    Connection { side: &'static str, up: bool, how: String },
    /// What is called, in full.
    Address(String),
    /// Something that the person should know.
    Warning(String),
    /// Somebody said something; `id` is the message's.
    Said { from: String, text: String },
    /// What the room is about.
    Subject(String),
    /// How the call goes: a word, and more of it.
    Call { state: &'static str, more: String },
    /// Why oneself is not heard, whenever that changes.
    Muted(Vec<&'static str>),
}

/// Where it is shown.
pub(crate) enum View {
    Json,
    Lines { shown: Vec<String> },
    Screen(Box<Screen>),
}

impl View {
    /// The whole terminal if there is one and it is wanted.
    pub(crate) fn open(json: bool, plain: bool, title: &str) -> std::io::Result<Self> {
        Ok(match () {
            () if json => Self::Json,
            () if plain || !stdout().is_terminal() || !stdin().is_terminal() => {
                Self::Lines { shown: vec![] }
            }
            () => Self::Screen(Box::new(Screen::open(title)?)),
        })
    }

    /// Takes a key: something is typed, chosen or wished for. Ctrl and a letter, since all others can be
    /// typed.
    pub(crate) fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        let Self::Screen(screen) = self else { return None };
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let of = |wish: fn(String) -> Wish| screen.chosen_name().map(wish);
        #[expect(clippy::wildcard_enum_match_arm, reason = "other keys do nothing")]
        match key.code {
            KeyCode::Char('c' | 'q') if control => return Some(Wish::Quit),
            KeyCode::Char('t') if control => return Some(Wish::Mute),
            KeyCode::Char('o') if control => return Some(Wish::Hold),
            KeyCode::Char('r') if control => return Some(Wish::Hand),
            KeyCode::Char('s') if control => return of(Wish::Silence),
            KeyCode::Char('g') if control => return of(Wish::Voice),
            KeyCode::Char('k') if control => return of(Wish::Kick),
            KeyCode::Char(c) if !control && screen.input.len() < MAX_INPUT => screen.input.push(c),
            KeyCode::Backspace => {
                screen.input.pop();
            }
            KeyCode::Up => screen.choose(false),
            KeyCode::Down => screen.choose(true),
            KeyCode::Enter => return Wish::read(&std::mem::take(&mut screen.input)),
            _ => {}
        }
        None
    }

    /// Whether nobody reads it any more: then a session has nothing to go on for.
    pub(crate) fn is_gone(&self) -> bool {
        GONE.load(Relaxed)
    }

    pub(crate) fn is_screen(&self) -> bool {
        matches!(self, Self::Screen(_))
    }

    /// Tells something.
    pub(crate) fn tell(&mut self, news: &News) {
        match self {
            Self::Json => print_line(&news.json().to_string()),
            Self::Lines { .. } => print_line(&news.line()),
            Self::Screen(screen) => {
                if let News::Subject(subject) = news {
                    screen.subject.clone_from(subject);
                }
                screen.log(news.line());
            }
        }
    }

    /// Shows who is here; lines have it only when it changed.
    pub(crate) fn people(&mut self, people: &[Person], muted: &BTreeSet<MutedBy>, meter: Meter) {
        match self {
            Self::Json => {
                let people: Vec<_> = people.iter().map(person_json).collect();
                print_line(&json!({"event": "people", "people": people}).to_string());
            }
            Self::Lines { shown } => {
                let lines: Vec<_> = people.iter().map(person_line).collect();
                for gone in shown.iter().filter(|line| !lines.contains(line)) {
                    print_line(&format!("  - {gone}"));
                }
                for new in lines.iter().filter(|line| !shown.contains(line)) {
                    print_line(&format!("  + {new}"));
                }
                *shown = lines;
            }
            Self::Screen(screen) => {
                screen.people = people.to_vec();
                screen.muted.clone_from(muted);
                screen.meter = meter;
                // A terminal that takes nothing shows nothing.
                drop(screen.draw());
            }
        }
    }
}

/// Writes a line at once.
fn print_line(line: &str) {
    let mut out = stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        GONE.store(true, Relaxed);
    }
}

/// Nobody reads what is written any more.
static GONE: AtomicBool = AtomicBool::new(false);

impl News {
    fn json(&self) -> Value {
        match self {
            Self::Connection { side, up, how } => {
                json!({"event": "connection", "side": side, "up": up, "how": how})
            }
            Self::Address(address) => json!({"event": "address", "address": address}),
            Self::Warning(text) => json!({"event": "warning", "text": text}),
            Self::Said { from, text } => json!({"event": "message", "from": from, "text": text}),
            Self::Subject(text) => json!({"event": "subject", "text": text}),
            Self::Call { state, more } => json!({"event": "call", "state": state, "more": more}),
            Self::Muted(by) => json!({"event": "muted", "by": by}),
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Connection { side, how, .. } => format!("* {side}: {how}"),
            Self::Address(address) => format!("* calling {}", plain(address)),
            Self::Warning(text) => format!("! {}", plain(text)),
            Self::Said { from, text } => format!("{}: {}", plain(from), plain(text)),
            Self::Subject(text) => format!("* about: {}", plain(text)),
            Self::Call { state, more } if more.is_empty() => format!("* call {state}"),
            Self::Call { state, more } => format!("* call {state}: {}", plain(more)),
            Self::Muted(by) if by.is_empty() => "* you can be heard".to_owned(),
            Self::Muted(by) => format!("* you are not heard: {}", by.join(", ")),
        }
    }
}

/// What a terminal may be given of what others wrote: no control characters, so no commands, and none that
/// turn around how text reads.
pub(crate) fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|c| !turns(*c)).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(crate) fn level(person: &Person) -> &'static str {
    match person.level {
        Level::Coming => "coming",
        Level::Text => "text",
        Level::Audio => "audio",
        Level::Both => "both",
    }
}

pub(crate) fn muted_by(muted: &BTreeSet<MutedBy>) -> Vec<&'static str> {
    let word = |by: &MutedBy| match by {
        MutedBy::Oneself => "by yourself",
        MutedBy::Hold => "on hold",
        MutedBy::Room => "no voice in the room",
        MutedBy::Conference => "by the conference",
    };
    muted.iter().map(word).collect()
}

fn voice(person: &Person) -> &'static str {
    match person.voice {
        Some(Voice::OnHold) => "on hold",
        Some(Voice::Muted) => "muted",
        Some(Voice::Open) => "open",
        None => "",
    }
}

fn hand(person: &Person) -> bool {
    person.hats.iter().any(|hat| Hat::from_uri(&hat.uri) == Some(Hat::HandRaised))
}

fn person_json(person: &Person) -> Value {
    json!({
        "name": person.name,
        "own": person.own,
        "level": level(person),
        "voice": person.voice.map(|_| voice(person)),
        "role": person.role.map(Role::word),
        "affiliation": person.affiliation.map(cusax_client::people::Affiliation::word),
        "jid": person.jid.as_ref().map(ToString::to_string),
        "hand": hand(person),
        "hats": person.hats.iter().map(|hat| &hat.title).collect::<Vec<_>>(),
        "proof": person.proof.map(|proof| format!("{proof:?}").to_lowercase()),
    })
}

fn person_line(person: &Person) -> String {
    let own = if person.own { " (you)" } else { "" };
    let hand = if hand(person) { ", hand raised" } else { "" };
    let moderator = if person.role == Some(Role::Moderator) { ", moderator" } else { "" };
    let voice = Some(voice(person)).filter(|voice| !voice.is_empty() && *voice != "open");
    let voice = voice.map(|voice| format!(", {voice}")).unwrap_or_default();
    format!("{}{own}: {}{voice}{hand}{moderator}", plain(&person.name), level(person))
}

/// The whole terminal: who is here, what is said, and a line to type in.
pub(crate) struct Screen {
    title: String,
    subject: String,
    people: Vec<Person>,
    muted: BTreeSet<MutedBy>,
    meter: Meter,
    said: VecDeque<String>,
    /// What is being typed.
    input: String,
    /// Who is chosen.
    chosen: usize,
}

impl Screen {
    fn open(title: &str) -> std::io::Result<Self> {
        enable_raw_mode()?;
        queue!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(Self {
            title: title.to_owned(),
            subject: String::new(),
            people: vec![],
            muted: BTreeSet::new(),
            meter: Meter::default(),
            said: VecDeque::new(),
            input: String::new(),
            chosen: 0,
        })
    }

    /// The name of who is chosen.
    fn chosen_name(&self) -> Option<String> {
        self.people.get(self.chosen).map(|person| person.name.clone())
    }

    /// Chooses somebody up or down the list.
    fn choose(&mut self, down: bool) {
        let last = self.people.len().saturating_sub(1);
        let next = if down { self.chosen + 1 } else { self.chosen.saturating_sub(1) };
        self.chosen = next.min(last);
    }

    fn log(&mut self, line: String) {
        if self.said.len() == MAX_SAID {
            self.said.pop_front();
        }
        self.said.push_back(line);
    }

    fn draw(&mut self) -> std::io::Result<()> {
        let (width, height) = terminal::size()?;
        let (columns, height) = (usize::from(width), usize::from(height));
        let fit = |text: &str| text.chars().take(columns).collect::<String>();
        let mut out = stdout().lock();
        let mut row = 0_u16;
        let mut line = |out: &mut std::io::StdoutLock<'_>, color: Color, text: &str| {
            queue!(
                out,
                MoveTo(0, row),
                Clear(ClearType::CurrentLine),
                SetForegroundColor(color),
                Print(fit(text)),
                ResetColor
            )?;
            row += 1;
            std::io::Result::Ok(())
        };
        let muted = muted_by(&self.muted);
        let state = if muted.is_empty() {
            "you can be heard".to_owned()
        } else {
            format!("not heard: {}", muted.join(", "))
        };
        queue!(out, SetAttribute(Attribute::Bold))?;
        line(&mut out, Color::Cyan, &format!("{}  {}", self.title, plain(&self.subject)))?;
        queue!(out, SetAttribute(Attribute::Reset))?;
        let levels = format!(
            "you {}  others {}  {state}",
            bar(self.meter.said_dbov),
            bar(self.meter.heard_dbov)
        );
        line(&mut out, Color::DarkGrey, &levels)?;
        // The list takes half of the screen at most, around who is chosen.
        let room = (height.saturating_sub(4) / 2).max(1);
        self.chosen = self.chosen.min(self.people.len().saturating_sub(1));
        let first = self.chosen.saturating_sub(room - 1);
        for (at, person) in self.people.iter().enumerate().skip(first).take(room) {
            let mark = if at == self.chosen { '>' } else { ' ' };
            let color = match person.voice {
                Some(Voice::Open) => Color::Green,
                Some(Voice::Muted | Voice::OnHold) => Color::Yellow,
                None => Color::Reset,
            };
            line(&mut out, color, &format!("{mark} {}", columns_of(person)))?;
        }
        line(&mut out, Color::DarkGrey, &"-".repeat(columns))?;
        let shown = self.people.len().min(room);
        let left = height.saturating_sub(shown + 4);
        let rows = last_rows(&self.said, columns, left);
        for at in 0..left {
            line(&mut out, Color::Reset, rows.get(at).map_or("", String::as_str))?;
        }
        let typed: String = self.input.chars().rev().take(columns.saturating_sub(3)).collect();
        let typed: String = typed.chars().rev().collect();
        line(&mut out, Color::Cyan, &format!("> {typed}_"))?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = stdout();
        drop(queue!(out, Show, LeaveAlternateScreen).and_then(|()| out.flush()));
        drop(disable_raw_mode());
    }
}

/// The last rows of some lines, each broken where the terminal ends.
fn last_rows(lines: &VecDeque<String>, columns: usize, most: usize) -> Vec<String> {
    let mut rows: VecDeque<String> = VecDeque::new();
    for line in lines.iter().rev() {
        let signs: Vec<char> = line.chars().collect();
        for part in signs.chunks(columns.max(1)).rev() {
            if rows.len() == most {
                return rows.into();
            }
            rows.push_front(part.iter().collect());
        }
    }
    rows.into()
}

fn columns_of(person: &Person) -> String {
    let own = if person.own { " (you)" } else { "" };
    let name = format!("{}{own}", plain(&person.name));
    let hand = if hand(person) { "hand raised" } else { "" };
    let role = match person.role {
        Some(Role::Moderator) => "moderator",
        Some(Role::Visitor) => "visitor",
        Some(Role::Participant | Role::None) | None => "",
    };
    format!("{name:<24} {:<7} {:<8} {role:<10} {hand}", level(person), voice(person))
}

/// A level from -60 dBov up, as ten signs.
fn bar(dbov: f32) -> String {
    let full = ((dbov + 60.0) / 6.0).clamp(0.0, 10.0) as usize;
    format!("[{}{}]", "#".repeat(full), " ".repeat(10 - full))
}

/// The longest line that can be typed, in bytes.
const MAX_INPUT: usize = 4_096;
/// The lines that can be looked back on.
const MAX_SAID: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_on_a_terminal_but_us() {
        let check = |text: &str, expected: &str| assert_eq!(plain(text), expected);
        check("a\u{1b}[2Jb", "a [2Jb");
        check("x\r\ny\u{7}", "x  y ");
        check("a\u{202e}b\u{2066}c", "abc");
        check("Zoë ☕", "Zoë ☕");
        let said = News::Said { from: "e\u{1b}ve".to_owned(), text: "h\ni".to_owned() };
        assert_eq!(said.line(), "e ve: h i");
        // JSON has it all, in its own escapes.
        let json = "{\"event\":\"message\",\"from\":\"e\\u001bve\",\"text\":\"h\\ni\"}";
        assert_eq!(said.json().to_string(), json);
    }

    #[test]
    fn long_lines_are_broken_and_the_last_rows_are_shown() {
        let lines = ["abcdef", "g", "hijkl"].map(str::to_owned).into();
        let check = |columns, most, expected: &[&str]| {
            assert_eq!(last_rows(&lines, columns, most), expected, "{columns} {most}");
        };
        check(4, 9, &["abcd", "ef", "g", "hijk", "l"]);
        check(4, 3, &["g", "hijk", "l"]);
        check(9, 2, &["g", "hijkl"]);
        check(0, 1, &["l"]);
        check(4, 0, &[]);
    }

    #[test]
    fn levels_are_bars() {
        assert_eq!(bar(-127.0), "[          ]");
        assert_eq!(bar(-30.0), "[#####     ]");
        assert_eq!(bar(0.0), "[##########]");
        assert_eq!(bar(f32::NAN), "[          ]");
    }
}
