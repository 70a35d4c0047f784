//! Going: part, hang up, be thrown out, and the end of a room.

use jid::FullJid;

use super::person::{Person, Who};
use super::{Actor, By, Departure, Ending, Fact, Kept, Refusal, Room, RoomEnd};
use crate::id::PersonId;

impl Room {
    pub(super) fn leave_chat(&mut self, by: &By) -> Result<Vec<Fact>, Refusal> {
        let By::Chat(chat) = by else { return Err(Refusal::NotHere) };
        self.drop_chat(chat, false)
    }

    pub(super) fn lose_chat(&mut self, chat: &FullJid) -> Result<Vec<Fact>, Refusal> {
        self.drop_chat(chat, true)
    }

    fn drop_chat(&mut self, chat: &FullJid, lost: bool) -> Result<Vec<Fact>, Refusal> {
        let id = self.by_chat(chat).ok_or(Refusal::NotHere)?.id;
        let person = &self.people[&id];
        if person.chats.len() == 1 && person.legs.is_empty() {
            let departure = if lost { Departure::Lost } else { Departure::Left };
            return Ok(self.remove(id, departure, None, None).into_iter().collect());
        }
        self.people.remove_chat(chat);
        Ok(vec![Fact::ChatLeft { person: id, chat: chat.clone(), lost }])
    }

    pub(super) fn hang_up(&mut self, by: &By, ending: Ending) -> Result<Vec<Fact>, Refusal> {
        let By::Leg(leg) = *by else { return Err(Refusal::NotHere) };
        let id = self.by_leg(leg).ok_or(Refusal::NotHere)?.id;
        let person = &self.people[&id];
        if person.legs.len() == 1 && person.chats.is_empty() {
            let (departure, reason) = match ending {
                Ending::Departed | Ending::Replaced => (Departure::Left, None),
                Ending::Failed { text, .. } => (Departure::Lost, Some(text)),
            };
            return Ok(self.remove(id, departure, None, reason).into_iter().collect());
        }
        let was = self.people.remove_leg(leg).expect("by_leg found it");
        Ok(vec![Fact::CallLeft { person: id, leg, was, ending }])
    }

    /// Takes a person out of chat and call, and keeps what holds if they come back.
    pub(super) fn remove(
        &mut self,
        id: PersonId,
        departure: Departure,
        by: Option<Actor>,
        reason: Option<String>,
    ) -> Option<Fact> {
        let was = self.people.remove(id)?;
        let affiliation = self.affiliation(&was.who);
        self.keep(&was);
        Some(Fact::Gone { was: Box::new(was), affiliation, departure, by, reason })
    }

    pub(super) fn throw_out(
        &mut self,
        departure: Departure,
        whom: impl Fn(&Person) -> bool,
    ) -> Vec<Fact> {
        let ids: Vec<_> = self.people.values().filter(|p| whom(p)).map(|p| p.id).collect();
        ids.into_iter().filter_map(|id| self.remove(id, departure, None, None)).collect()
    }

    pub(super) fn end(&mut self, end: RoomEnd) -> Fact {
        self.ended = true;
        Fact::Destroyed { people: self.people.take(), end }
    }

    /// A mute survives a re-dial, and voice given or taken a new visit (XEP-0045 §5.1).
    fn keep(&mut self, was: &Person) {
        let stays = self.is_here(&was.who);
        if stays || matches!(was.who, Who::Unknown(_)) {
            return;
        }
        let default = self.default_role(self.affiliation(&was.who));
        let by_moderator = was.mutes.moderator.is_some() || was.role < default;
        let role = (was.role != default).then_some(was.role);
        if role.is_none() && was.mutes.own.is_none() && !by_moderator {
            return;
        }
        // What moderators decided is not crowded out by what anyone can do.
        let most = if by_moderator { MAX_KEPT } else { MAX_KEPT_OWN };
        if self.kept.len() < most {
            self.kept.insert(was.who.clone(), Kept { role, mutes: was.mutes.clone() });
        }
    }
}

/// How many people's voice a room remembers after they left.
const MAX_KEPT: usize = 20_000;
/// How many, if only they themselves or nobody muted them.
const MAX_KEPT_OWN: usize = 1_000;
