//! What pages show, as the operators' face and the mixer tell it. What is not read here is not shown.

use serde::Deserialize;
use serde_json::Value;

/// A room in a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Summary {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) people: usize,
    pub(super) chat: usize,
    pub(super) audio: usize,
    pub(super) both: usize,
    pub(super) locked: bool,
    pub(super) persistent: bool,
    pub(super) since: String,
}

/// A room with some of its people.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Room {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) jid: String,
    pub(super) uri: String,
    pub(super) subject: Option<String>,
    pub(super) chat: usize,
    pub(super) audio: usize,
    pub(super) both: usize,
    pub(super) locked: bool,
    pub(super) settings: Value,
    pub(super) calling: Vec<Calling>,
    pub(super) people: Vec<Person>,
    /// How many people fit the search.
    pub(super) found: usize,
}

/// Somebody whom a room calls.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Calling {
    pub(super) id: String,
    pub(super) uri: String,
    pub(super) name: Option<String>,
    pub(super) by: Option<String>,
}

/// Somebody in a room.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Person {
    pub(super) id: String,
    pub(super) nick: String,
    /// In which room, if that is not told otherwise.
    pub(super) room: String,
    pub(super) level: String,
    pub(super) role: String,
    pub(super) affiliation: String,
    pub(super) jid: Option<String>,
    pub(super) aor: Option<String>,
    pub(super) binding: Binding,
    pub(super) muted: bool,
    pub(super) mute: Vec<Mute>,
    pub(super) hand: Option<String>,
    pub(super) hats: Vec<Hat>,
    pub(super) since: String,
    pub(super) legs: Vec<Leg>,
}

/// How well somebody's call is tied to their name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Binding {
    pub(super) strength: String,
}

/// A reason for silence.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mute {
    pub(super) origin: String,
    pub(super) by: Option<String>,
}

/// What the room's owners call somebody.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hat {
    pub(super) title: String,
}

/// A call leg.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Leg {
    pub(super) id: String,
    pub(super) hold: bool,
    pub(super) heard: bool,
    pub(super) media: Option<Media>,
}

/// What the mixer knows of a leg.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Media {
    pub(super) codec: Option<String>,
    pub(super) encrypted: bool,
    pub(super) mos: Option<f64>,
    pub(super) loss: Option<f64>,
    pub(super) jitter_ms: f64,
    pub(super) delay_ms: Option<f64>,
    pub(super) rtt_ms: Option<f64>,
}

/// A user of the directory.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    pub(super) jid: String,
    pub(super) aor: String,
    pub(super) name: Option<String>,
    pub(super) password: bool,
}

/// Reads what the operators' face answered; what is not as expected is left empty.
pub(super) fn read<T: Default + for<'a> Deserialize<'a>>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_default()
}

/// Reads a list out of an answer.
pub(super) fn list<T: for<'a> Deserialize<'a>>(value: &mut Value, key: &str) -> Vec<T> {
    let all = value.get_mut(key).and_then(Value::as_array_mut).map(std::mem::take);
    let all = all.unwrap_or_default().into_iter();
    all.filter_map(|one| serde_json::from_value(one).ok()).collect()
}

impl Person {
    /// The address that they are known by.
    pub(super) fn address(&self) -> &str {
        self.jid.as_deref().or(self.aor.as_deref()).unwrap_or("")
    }

    /// How they are here, for people.
    pub(super) fn presence(&self) -> &'static str {
        match self.level.as_str() {
            "chat" => "Chat",
            "audio" => "Phone",
            "both" => "Chat and phone",
            _ => "",
        }
    }

    /// Whether a moderator, an operator or the room keeps them silent: what unmuting ends.
    pub(super) fn is_kept_silent(&self) -> bool {
        self.mute.iter().any(|mute| mute.origin != "self")
    }

    /// Why they are not heard, for people; empty if they are, or are not on the phone.
    pub(super) fn silence(&self) -> Vec<String> {
        let mut why: Vec<_> = self.mute.iter().map(Mute::words).collect();
        if !self.legs.is_empty() && why.is_empty() && !self.legs.iter().any(|leg| leg.heard) {
            let hold = self.legs.iter().all(|leg| leg.hold);
            why.push(if hold { "on hold" } else { "sends nothing" }.to_owned());
        }
        why
    }
}

impl Mute {
    fn words(&self) -> String {
        match (self.origin.as_str(), &self.by) {
            ("self", _) => "muted by themselves".to_owned(),
            ("room", _) => "no voice in this room yet".to_owned(),
            (_, Some(by)) => format!("muted by {by}"),
            (_, None) => "muted by an operator".to_owned(),
        }
    }
}

impl Media {
    /// What a mean opinion score is called (ITU-T G.107 annex B, table B.1), and how serious that is.
    pub(super) fn verdict(&self) -> Option<(&'static str, &'static str)> {
        let mos = self.mos?;
        Some(match mos {
            _ if mos >= 4.0 => ("good", "Good"),
            _ if mos >= 3.6 => ("fair", "Fair"),
            _ if mos >= 3.1 => ("poor", "Poor"),
            _ => ("bad", "Bad"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_who_is_silent_and_by_whose_doing() {
        let check = |person: Value, expected: &[&str]| {
            assert_eq!(read::<Person>(person.clone()).silence(), expected, "{person}");
        };
        check(json!({}), &[]);
        check(json!({ "legs": [{ "heard": true }] }), &[]);
        check(json!({ "legs": [{ "heard": false, "hold": true }] }), &["on hold"]);
        check(json!({ "legs": [{ "heard": false }] }), &["sends nothing"]);
        check(
            json!({ "legs": [{ "heard": false }], "mute": [{ "origin": "room" }, { "origin": "self" }] }),
            &["no voice in this room yet", "muted by themselves"],
        );
        check(json!({ "mute": [{ "origin": "moderator", "by": "Ann" }] }), &["muted by Ann"]);
        check(json!({ "mute": [{ "origin": "moderator" }] }), &["muted by an operator"]);
    }

    #[test]
    fn what_is_not_as_expected_is_left_empty() {
        assert_eq!(read::<Room>(json!({ "people": "many" })).people.len(), 0);
        let mut answer = json!({ "rooms": [{ "name": "a" }, { "name": 7 }, { "people": 2 }] });
        let rooms: Vec<Summary> = list(&mut answer, "rooms");
        assert_eq!(rooms.iter().map(|room| room.people).collect::<Vec<_>>(), [0, 2]);
        assert!(list::<Summary>(&mut json!({}), "rooms").is_empty());
    }

    #[test]
    fn a_score_has_a_name() {
        let check = |mos: Option<f64>, expected: Option<&str>| {
            let media = Media { mos, ..Media::default() };
            assert_eq!(media.verdict().map(|(_, name)| name), expected, "{mos:?}");
        };
        check(None, None);
        check(Some(4.4), Some("Good"));
        check(Some(3.7), Some("Fair"));
        check(Some(3.1), Some("Poor"));
        check(Some(1.0), Some("Bad"));
    }
}
