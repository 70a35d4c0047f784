//! What callers do by the keys of their phones: mute themselves, raise a hand, and more, by a table that
//! is configured. Keys come as telephone-event (RFC 4733), which the mixer reports, or in SIP INFO.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cusax_sip::header::Name;
use cusax_sip::message::{Request, Response, Status};

use super::call::ask;
use super::leg::Leg;
use super::{Ask, Focus, Reply, Wires};
use crate::clock::Now;
use crate::config;
use crate::id::LegId;
use crate::mixer::plan::{Order, Prompt, Volume};
use crate::rate::{Meter, Rate};
use crate::room::person::Person;
use crate::room::standing::Role;
use crate::room::{Command, Room, Rooms};

/// What keys can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Mute,
    Hand,
    Count,
    Louder,
    Softer,
    SpeakLouder,
    SpeakSofter,
    Lock,
    MuteAll,
}

/// How keys come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As telephone-event (RFC 4733).
    Rtp,
    /// In SIP INFO.
    Info,
}

/// One caller's keys.
#[derive(Debug, Default)]
pub(super) struct Keypad {
    /// What was pressed that may become something, and when.
    pressed: String,
    last: Option<Instant>,
    /// Phones that send keys in both ways press each but once.
    way: Option<Way>,
    actions: Meter,
    hands: Meter,
    hears: Volume,
    speaks: Volume,
}

/// How often callers did what by keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressed(BTreeMap<&'static str, u64>);

impl Focus {
    /// A key was pressed on a call.
    pub(super) fn press(
        &mut self,
        now: Now,
        id: LegId,
        (way, key): (Way, char),
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) -> Vec<Ask> {
        let Some(leg) = self.legs.get_mut(&id) else { return vec![] };
        let Some(room) = rooms.get(&leg.room) else { return vec![] };
        let Some(person) = room.by_leg(id) else { return vec![] };
        if *leg.keypad.way.get_or_insert(way) != way {
            return vec![];
        }
        let Some(action) = leg.keypad.press(now.instant, key, &self.config.keypad) else {
            return vec![];
        };
        let raises = action == Action::Hand && person.hand.is_none();
        if !leg.keypad.actions.admits(now.instant, ACTIONS, 1)
            || raises && !leg.keypad.hands.admits(now.instant, HANDS, 1)
        {
            self.pressed.count(LIMITED);
            return vec![];
        }
        self.pressed.count(action.name());
        // What is being said is not what they want to hear any more.
        self.say_now(id, &[], out);
        self.act(id, action, room, person, out).into_iter().collect()
    }

    fn act(
        &mut self,
        id: LegId,
        action: Action,
        room: &Room,
        person: &Person,
        out: &mut Wires<'_>,
    ) -> Option<Ask> {
        let leg = self.legs.get_mut(&id)?;
        let wish = |leg, command, done| Some(ask(leg, command, Reply::Key(id, done)));
        match action {
            Action::Mute if person.mutes.own.is_some() => wish(leg, Command::MuteSelf(false), None),
            // They want to be heard, and that is not in their hands.
            Action::Mute if !person.has_voice() => {
                self.say(id, &[Prompt::MutedByModerator], out);
                None
            }
            Action::Mute => wish(leg, Command::MuteSelf(true), None),
            Action::Hand => wish(leg, Command::RaiseHand(person.hand.is_none()), None),
            Action::Count => {
                let callers = room.people.values().filter(|person| !person.legs.is_empty());
                let prompts: &[_] = match u8::try_from(callers.count()) {
                    Ok(1) => &[Prompt::Alone],
                    Ok(count @ ..100) => &[Prompt::ThereAre, Prompt::Number(count), Prompt::People],
                    Ok(_) | Err(_) => &[Prompt::ThereAre, Prompt::ManyPeople, Prompt::People],
                };
                self.say(id, prompts, out);
                None
            }
            Action::Louder => turn(leg, out, |it| it.hears = it.hears.louder()),
            Action::Softer => turn(leg, out, |it| it.hears = it.hears.softer()),
            Action::SpeakLouder => turn(leg, out, |it| it.speaks = it.speaks.louder()),
            Action::SpeakSofter => turn(leg, out, |it| it.speaks = it.speaks.softer()),
            Action::Lock => wish(leg, Command::Lock(!room.locked), None),
            Action::MuteAll => {
                // Unless all are muted, what is wanted is that they are.
                let open = |other: &&Person| {
                    !other.legs.is_empty()
                        && other.role == Role::Participant
                        && other.who != person.who
                        && other.has_voice()
                };
                let on = room.people.values().any(|other| open(&other));
                let done = if on { Prompt::AllMuted } else { Prompt::AllUnmuted };
                wish(leg, Command::MuteAll(on), Some(done))
            }
        }
    }

    /// A key in SIP INFO: what phones did before RFC 4733, and some still do. Such bodies belong to no
    /// Info Package (RFC 6086 §4.2.3), and none is known here (§4.2.1).
    pub(super) fn info(
        &mut self,
        now: Now,
        leg: Option<LegId>,
        request: &Request,
        rooms: &Rooms,
        out: &mut Wires<'_>,
    ) -> (Response, Vec<Ask>) {
        let Some(leg) = leg else {
            return (Response::new(Status::CALL_DOES_NOT_EXIST), vec![]);
        };
        if request.headers.get(&Name::INFO_PACKAGE).is_some() {
            let refused = Response::new(Status::BAD_INFO_PACKAGE);
            return (refused.with(Name::RECV_INFO, ""), vec![]);
        }
        let ok = Response::new(Status::OK);
        if request.body.is_empty() {
            return (ok, vec![]);
        }
        let Ok(Some(kind)) = request.headers.content_type() else {
            return (Response::new(Status::BAD_REQUEST), vec![]);
        };
        let body = String::from_utf8_lossy(&request.body);
        let key = if kind.is("application", "dtmf-relay") {
            let mut lines = body.lines().filter_map(|line| line.split_once('='));
            lines.find(|(name, _)| name.trim().eq_ignore_ascii_case("signal")).map(|(_, key)| key)
        } else if kind.is("application", "dtmf") {
            Some(&*body)
        } else {
            let refused = Response::new(Status::UNSUPPORTED_MEDIA_TYPE);
            return (refused.with(Name::ACCEPT, KEYS), vec![]);
        };
        match key.and_then(|key| read(key.trim())) {
            Some(key) => (ok, self.press(now, leg, (Way::Info, key), rooms, out)),
            None => (Response::new(Status::BAD_REQUEST).with_reason("No Such Key"), vec![]),
        }
    }

    /// How often callers did what by keys.
    pub fn pressed(&self) -> &Pressed {
        &self.pressed
    }
}

impl Keypad {
    /// Takes one more key; what it completes. Keys that begin nothing are forgotten, and so are those
    /// before a long pause.
    fn press(&mut self, now: Instant, key: char, table: &config::Keypad) -> Option<Action> {
        let pause = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        if pause.is_some_and(|pause| pause > PATIENCE) {
            self.pressed.clear();
        }
        self.pressed.push(key);
        loop {
            let begun = actions(table).filter(|(_, keys)| keys.starts_with(&self.pressed));
            let mut begun = begun.peekable();
            if let Some((action, _)) = begun.next_if(|(_, keys)| *keys == self.pressed) {
                self.pressed.clear();
                return Some(action);
            }
            if begun.peek().is_some() || self.pressed.is_empty() {
                return None;
            }
            self.pressed.remove(0);
        }
    }
}

impl Action {
    const ALL: [Self; 9] = [
        Self::Mute,
        Self::Hand,
        Self::Count,
        Self::Louder,
        Self::Softer,
        Self::SpeakLouder,
        Self::SpeakSofter,
        Self::Lock,
        Self::MuteAll,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Mute => "mute",
            Self::Hand => "hand",
            Self::Count => "count",
            Self::Louder => "louder",
            Self::Softer => "softer",
            Self::SpeakLouder => "speak_louder",
            Self::SpeakSofter => "speak_softer",
            Self::Lock => "lock",
            Self::MuteAll => "mute_all",
        }
    }
}

impl Pressed {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// What was done, or `limited`, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(what, count)| (*what, *count))
    }
}

/// Turns a volume, which is nobody's business but the mixer's.
fn turn(leg: &mut Leg, out: &mut Wires<'_>, how: impl FnOnce(&mut Keypad)) -> Option<Ask> {
    how(&mut leg.keypad);
    let Keypad { hears, speaks, .. } = leg.keypad;
    out.media.push(Order::Volume { leg: leg.id, hears, speaks });
    None
}

/// What keys do, in the order of [`Action::ALL`].
fn actions(table: &config::Keypad) -> impl Iterator<Item = (Action, &str)> {
    let keys = table.all().map(|(_, keys)| keys.as_str());
    Action::ALL.into_iter().zip(keys).filter(|(_, keys)| !keys.is_empty())
}

/// One key, as INFO spells it: the character, or the number of the event (RFC 4733 §3.2).
fn read(text: &str) -> Option<char> {
    let mut chars = text.chars();
    match (chars.next()?, chars.next()) {
        (key @ ('0'..='9' | '*' | '#' | 'A'..='D'), None) => Some(key),
        (key @ 'a'..='d', None) => Some(key.to_ascii_uppercase()),
        _ => match text {
            "10" => Some('*'),
            "11" => Some('#'),
            _ => None,
        },
    }
}

/// What INFO may carry.
const KEYS: &str = "application/dtmf-relay, application/dtmf";
/// Keys that are further apart do not belong together.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often one caller may do something.
const ACTIONS: Rate = Rate { interval: Duration::from_secs(1), burst: 8 };
/// How often one caller may raise a hand: moderators read a message each time.
const HANDS: Rate = Rate { interval: Duration::from_secs(10), burst: 3 };
/// How [`Pressed`] names what was too often.
const LIMITED: &str = "limited";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_what_they_are_configured_to_do() {
        let check = |keys: &[(u64, char)], expected: &[Action]| {
            let table = config::Keypad::default();
            let start = Now::read().instant;
            let mut keypad = Keypad::default();
            let done: Vec<_> = keys
                .iter()
                .filter_map(|(at, key)| {
                    keypad.press(start + Duration::from_secs(*at), *key, &table)
                })
                .collect();
            assert_eq!(done, expected, "{keys:?}");
            assert!(keypad.pressed.len() < config::Keys::MOST);
        };
        check(&[(0, '*'), (1, '6')], &[Action::Mute]);
        check(&[(0, '*'), (1, '6'), (2, '*'), (3, '9')], &[Action::Mute, Action::Hand]);
        check(&[(0, '6')], &[]);
        check(&[(0, '*'), (6, '6')], &[]);
        // Who presses another key first, or the star twice, is understood nevertheless.
        check(&[(0, '5'), (0, '*'), (1, '6')], &[Action::Mute]);
        check(&[(0, '*'), (0, '*'), (1, '6')], &[Action::Mute]);
        check(&[(0, '*'), (0, '2'), (1, '6')], &[]);
        check(&[(0, '*'), (0, '2'), (1, '*'), (1, '0')], &[Action::MuteAll]);
        for (action, keys) in actions(&config::Keypad::default()) {
            let keys: Vec<_> = keys.chars().map(|key| (0, key)).collect();
            check(&keys, &[action]);
        }
    }

    #[test]
    fn info_spells_keys_in_two_ways() {
        for (text, expected) in [
            ("5", Some('5')),
            ("*", Some('*')),
            ("10", Some('*')),
            ("11", Some('#')),
            ("b", Some('B')),
            ("16", None),
            ("", None),
            ("E", None),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }
}
