//! What somebody wants, as they type it.

/// A wish of the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Say this in the room.
    Say(String),
    /// Mute oneself, or speak again.
    Mute,
    /// Hold the call, or go on.
    Hold,
    /// Raise one's hand: ask to be heard.
    Hand,
    /// Take the call that comes.
    Answer,
    /// Hang up, and stay in the room.
    HangUp,
    /// Call the room again.
    Call,
    /// Say who is here.
    People,
    /// Take somebody's voice.
    Silence(String),
    /// Give it back.
    Voice(String),
    /// Throw somebody out.
    Kick(String),
    /// Say what can be said.
    Help,
    /// Leave.
    Quit,
    /// Nothing that is known.
    Unknown(String),
}

impl Wish {
    /// Reads a line: a word behind a slash, or something to say. Two slashes say one.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return (!line.is_empty()).then(|| Self::Say(line.to_owned()));
        };
        if command.starts_with('/') {
            return Some(Self::Say(command.to_owned()));
        }
        let (word, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let whom = rest.trim().to_owned();
        let of = |wish: fn(String) -> Self| {
            if whom.is_empty() { Self::Unknown(line.to_owned()) } else { wish(whom.clone()) }
        };
        Some(match word {
            "mute" | "m" => Self::Mute,
            "hold" => Self::Hold,
            "hand" | "h" => Self::Hand,
            "answer" | "a" => Self::Answer,
            "hangup" => Self::HangUp,
            "call" => Self::Call,
            "people" | "who" => Self::People,
            "silence" => of(Self::Silence),
            "voice" => of(Self::Voice),
            "kick" => of(Self::Kick),
            "help" | "?" => Self::Help,
            "quit" | "q" => Self::Quit,
            _ => Self::Unknown(line.to_owned()),
        })
    }
}

/// What can be typed.
pub(crate) const HELP: &str = "\
/mute /hold /hand /hangup /call /answer /people /quit; moderators: /silence NAME, /voice NAME, /kick NAME; \
everything else is said in the room";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines() {
        let check =
            |line: &str, expected: Option<Wish>| assert_eq!(Wish::read(line), expected, "{line}");
        let name = |text: &str| text.to_owned();
        check("hello /mute", Some(Wish::Say(name("hello /mute"))));
        check("  ", None);
        check("/mute", Some(Wish::Mute));
        check(" /q ", Some(Wish::Quit));
        check("/kick  Bob the Builder ", Some(Wish::Kick(name("Bob the Builder"))));
        check("/kick", Some(Wish::Unknown(name("/kick"))));
        check("//mute", Some(Wish::Say(name("/mute"))));
        check("/moot", Some(Wish::Unknown(name("/moot"))));
        check("/", Some(Wish::Unknown(name("/"))));
    }
}
