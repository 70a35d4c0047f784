//! Messages to all and to one, the pace of a slow room, the subject, showing presence.

use std::time::{Duration, Instant};

use super::history::{Author, Kind, Payload, Said};
use super::person::{Person, Who};
use super::settings::Whisperers;
use super::standing::{Affiliation, Role};
use super::{By, Fact, Refusal, Room, Subject};
use crate::clock::Now;
use crate::id::Nick;

impl Room {
    pub(super) fn say(
        &mut self,
        now: Now,
        by: &By,
        id: Option<String>,
        payload: Payload,
    ) -> Result<Vec<Fact>, Refusal> {
        let person = &self.people[&self.asking_person(by)?];
        if person.role < Role::Participant {
            return Err(Refusal::NoVoice);
        }
        let (author, who) = (Some(author(person)), person.who.clone());
        if payload.text {
            self.keep_pace(now, &who)?;
        }
        let said = Said { author, id, at: now.utc, kind: Kind::Message, payload };
        self.history.push(said.clone(), self.settings.history);
        Ok(vec![Fact::Spoken(said)])
    }

    /// XEP-0500: whoever said something waits, under each of their nicks, before they say more.
    fn keep_pace(&mut self, now: Now, who: &Who) -> Result<(), Refusal> {
        let pace = Duration::from_secs(self.settings.slow_mode_s.into());
        if pace.is_zero() || self.affiliation(who) >= Affiliation::Admin {
            return Ok(());
        }
        let recent = |at: Instant| now.instant.saturating_duration_since(at) < pace;
        if self.spoke.get(who).is_some_and(|at| recent(*at)) {
            return Err(Refusal::TooSoon { pace_s: self.settings.slow_mode_s });
        }
        if self.spoke.len() >= MAX_SPOKE {
            self.spoke.retain(|_, at| recent(*at));
        }
        if self.spoke.len() < MAX_SPOKE {
            self.spoke.insert(who.clone(), now.instant);
        }
        Ok(())
    }

    pub(super) fn whisper(
        &self,
        by: &By,
        to: &Nick,
        id: Option<String>,
        payload: Payload,
    ) -> Result<Vec<Fact>, Refusal> {
        let from = self.asking_person(by)?;
        let may = match (self.settings.allow_pm, self.people[&from].role) {
            (Whisperers::Anyone, _) => true,
            (Whisperers::Participants, role) => role >= Role::Participant,
            (Whisperers::Moderators, role) => role == Role::Moderator,
            (Whisperers::None, _) => false,
        };
        if !may {
            return Err(Refusal::Forbidden);
        }
        let to = self.by_nick(to).filter(|person| !person.chats.is_empty());
        let to = to.ok_or(Refusal::NoSuchPerson)?.id;
        Ok(vec![Fact::Whispered { from, to, id, payload }])
    }

    pub(super) fn change_subject(
        &mut self,
        now: Now,
        by: &By,
        id: Option<String>,
        text: String,
        payload: Payload,
    ) -> Result<Vec<Fact>, Refusal> {
        let person = &self.people[&self.asking_person(by)?];
        let needed = if self.settings.change_subject { Role::Participant } else { Role::Moderator };
        if person.role < needed {
            return Err(Refusal::Forbidden);
        }
        let (author, nick, at) = (Some(author(person)), person.nick.clone(), now.utc);
        self.subject = Some(Subject { text, nick, at, payload: Some(payload.clone()) });
        let said = Said { author, id, at, kind: Kind::Subject, payload };
        Ok(vec![Fact::SubjectChanged(said)])
    }

    pub(super) fn show_presence(&self, by: &By) -> Result<Vec<Fact>, Refusal> {
        let By::Chat(chat) = by else { return Err(Refusal::NotHere) };
        let person = self.by_chat(chat).ok_or(Refusal::NotHere)?.id;
        Ok(vec![Fact::PresenceShown { person, chat: chat.clone() }])
    }
}

fn author(person: &Person) -> Author {
    Author { jid: person.jid().cloned(), nick: person.nick.clone() }
}
/// Of how many people a slow room remembers when they spoke last.
const MAX_SPOKE: usize = 20_000;
