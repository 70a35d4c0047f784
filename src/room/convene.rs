//! Conferences that come to be with a call (RFC 4579 §5.4): a call to a factory, not to a conference.

use super::person::{Caller, Proof, Who};
use super::settings::Settings;
use super::standing::Affiliation;
use super::{By, Command, Policy, Refusal, Room, Rooms};

impl Rooms {
    /// Whether a caller may have a conference of their own: by the rules for rooms, of those who are proven to
    /// be somebody. Of callers without a JID, each counts for what they convened.
    pub(super) fn may_convene(&self, caller: &Caller) -> Result<(), Refusal> {
        let Policy { max_rooms_of_one, .. } = self.policy;
        let convened =
            self.rooms.values().filter(|room| room.founder.as_ref() == Some(&caller.who));
        match &caller.who {
            Who::Jid(jid) => self.may_own_more(jid),
            _ if !self.anyone_may_create() => Err(Refusal::MayNotCreate),
            _ if convened.count() >= max_rooms_of_one => Err(Refusal::TooMany),
            Who::Aor(_) | Who::Unknown(_) => Ok(()),
        }
    }
}

impl Room {
    /// Makes a room that nobody has entered yet ready for who convenes it: theirs if they are proven to be
    /// somebody, gone when the last one leaves, in no list.
    pub(super) fn convened_by(&mut self, by: &By, command: &Command) {
        let (By::Leg(_), Command::Convene { caller, .. }) = (by, command) else { return };
        self.configured = true;
        self.settings = Settings { public: false, ..Settings::default() };
        self.founder = Some(caller.who.clone());
        if caller.proof > Proof::Claimed {
            self.affiliations.insert(caller.who.clone(), Affiliation::Owner);
        }
    }
}
