//! What callers are told by voice and tone of what became true.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Focus, Wires};
use crate::clock::Now;
use crate::id::{LegId, RoomName};
use crate::mixer::plan::{Order, Prompt, Tone};
use crate::room::person::{Mutes, Person};
use crate::room::standing::Role;
use crate::room::{Arrival, Fact, Room};

/// When each room was last played a tone.
#[derive(Debug, Default)]
pub(super) struct Chimed(BTreeMap<RoomName, Instant>);

impl Focus {
    /// Tells a fact to the callers whom it concerns.
    pub(super) fn announce(&mut self, now: Now, room: &Room, fact: &Fact, out: &mut Wires<'_>) {
        match fact {
            Fact::CallEntered { person, leg, arrival } => {
                let Some(person) = room.person(*person) else { return };
                if person.legs.len() == 1 && alone(room).is_none() {
                    self.chime(now, room, Tone::Entered, out);
                }
                let mut prompts = vec![Prompt::Pause];
                if person.mutes.any_but_own() {
                    prompts.push(Prompt::MutedByModerator);
                } else if person.mutes.own.is_some() && *arrival == Arrival::New {
                    prompts.push(Prompt::Muted);
                }
                if alone(room).is_some() {
                    prompts.push(Prompt::Alone);
                }
                if prompts.len() > 1 {
                    self.say(*leg, &prompts, out);
                }
            }
            Fact::CallLeft { person, .. } => {
                if room.person(*person).is_some_and(|person| person.legs.is_empty()) {
                    self.tell_of_leaving(now, room, out);
                }
            }
            Fact::Gone { was, .. } => {
                if !was.legs.is_empty() {
                    self.tell_of_leaving(now, room, out);
                }
            }
            Fact::MuteChanged { person, old } => {
                let Some(person) = room.person(*person) else { return };
                if let Some(prompt) = of_mute(old, &person.mutes) {
                    self.say_to(person, prompt, out);
                }
            }
            Fact::HandChanged { person } => {
                let Some(person) = room.person(*person) else { return };
                let up = person.hand.is_some();
                self.say_to(person, if up { Prompt::HandRaised } else { Prompt::HandLowered }, out);
            }
            Fact::LockChanged => {
                let prompt = if room.locked { Prompt::Locked } else { Prompt::Unlocked };
                for person in room.people.values().filter(|it| it.role == Role::Moderator) {
                    self.say_to(person, prompt, out);
                }
            }
            Fact::Destroyed { .. } => drop(self.chimed.0.remove(&room.name)),
            Fact::Created { .. }
            | Fact::ChatEntered { .. }
            | Fact::Renamed { .. }
            | Fact::PresenceShown { .. }
            | Fact::LegChanged { .. }
            | Fact::ChatLeft { .. }
            | Fact::Dialled { .. }
            | Fact::DialEnded { .. }
            | Fact::StandingChanged { .. }
            | Fact::AffiliationChanged { .. }
            | Fact::VoiceRequested { .. }
            | Fact::Spoken(_)
            | Fact::Whispered { .. }
            | Fact::SubjectChanged(_)
            | Fact::Retracted { .. }
            | Fact::Configured { .. }
            | Fact::AvatarChanged
            | Fact::HatsChanged { .. }
            | Fact::RegistrationRequested { .. }
            | Fact::RequestEnded { .. }
            | Fact::NickRegistered { .. } => {}
        }
    }

    /// Says something to a caller, after what is being said.
    pub(super) fn say(&self, leg: LegId, prompts: &[Prompt], out: &mut Wires<'_>) {
        self.play(leg, prompts, false, out);
    }

    /// Says something to a caller in place of what is being said; nothing ends that.
    pub(super) fn say_now(&self, leg: LegId, prompts: &[Prompt], out: &mut Wires<'_>) {
        self.play(leg, prompts, true, out);
    }

    fn play(&self, leg: LegId, prompts: &[Prompt], interrupt: bool, out: &mut Wires<'_>) {
        let nothing = prompts.is_empty() && !interrupt;
        if self.config.prompts
            && !nothing
            && self.legs.get(&leg).is_some_and(super::leg::Leg::is_open)
        {
            out.media.push(Order::Play { leg, prompts: prompts.to_vec(), interrupt });
        }
    }

    fn say_to(&self, person: &Person, prompt: Prompt, out: &mut Wires<'_>) {
        for leg in person.legs.keys() {
            self.say(*leg, &[prompt], out);
        }
    }

    fn tell_of_leaving(&mut self, now: Now, room: &Room, out: &mut Wires<'_>) {
        self.chime(now, room, Tone::Left, out);
        if let Some(last) = alone(room) {
            self.say_to(last, Prompt::Alone, out);
        }
    }

    /// A tone for everyone, in rooms where that bears repeating.
    fn chime(&mut self, now: Now, room: &Room, tone: Tone, out: &mut Wires<'_>) {
        let calls = room.people.values().filter(|person| !person.legs.is_empty()).count();
        let last = self.chimed.0.get(&room.name);
        let pause = last.map(|last| now.instant.saturating_duration_since(*last));
        if calls == 0
            || calls > self.config.tones_up_to
            || pause.is_some_and(|pause| pause < TONE_PACE)
        {
            return;
        }
        self.chimed.0.insert(room.name.clone(), now.instant);
        out.media.push(Order::Chime { room: room.name.clone(), tone });
    }
}

/// Who is on the call, if it is one alone.
fn alone(room: &Room) -> Option<&Person> {
    let mut callers = room.people.values().filter(|person| !person.legs.is_empty());
    callers.next().filter(|_| callers.next().is_none())
}

/// What somebody is told when their mutes change.
fn of_mute(old: &Mutes, new: &Mutes) -> Option<Prompt> {
    match (old.any_but_own(), new.any_but_own()) {
        (false, true) => Some(Prompt::MutedByModerator),
        (true, false) if new.own.is_none() => Some(Prompt::MaySpeak),
        (true, false) => Some(Prompt::Muted),
        (false, false) if old.own.is_some() != new.own.is_some() => {
            Some(if new.own.is_some() { Prompt::Muted } else { Prompt::Unmuted })
        }
        (true, true) if old.own.is_some() && new.own.is_none() => Some(Prompt::MutedByModerator),
        (false, false) | (true, true) => None,
    }
}

/// Tones in one room are at least this far apart: whoever comes and goes by the dozen is heard once.
const TONE_PACE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::Mark;

    #[test]
    fn of_mutes_callers_hear_what_concerns_them() {
        let mutes = |own: bool, moderator: bool, room: bool| {
            let mark = Mark { since: Now::read().utc, by: None };
            let mark = |on: bool| on.then(|| mark.clone());
            Mutes { own: mark(own), moderator: mark(moderator), room: mark(room) }
        };
        let check = |old: (bool, bool, bool), new: (bool, bool, bool), expected| {
            let found = of_mute(&mutes(old.0, old.1, old.2), &mutes(new.0, new.1, new.2));
            assert_eq!(found, expected, "{old:?} {new:?}");
        };
        let free = (false, false, false);
        check(free, (true, false, false), Some(Prompt::Muted));
        check((true, false, false), free, Some(Prompt::Unmuted));
        check(free, (false, true, false), Some(Prompt::MutedByModerator));
        check(free, (false, false, true), Some(Prompt::MutedByModerator));
        check((false, true, false), free, Some(Prompt::MaySpeak));
        check((false, true, true), (false, false, true), None);
        // Whoever is freed is reminded that they muted themselves, and the other way round.
        check((true, true, false), (true, false, false), Some(Prompt::Muted));
        check((true, true, false), (false, true, false), Some(Prompt::MutedByModerator));
        check((false, true, false), (true, true, false), None);
    }
}
