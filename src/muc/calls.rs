//! Telling a chat that a call begins, once, and that it is over (XEP-0482); and phones that ring because
//! someone was invited to the chat.
//!
//! A client that does not know the extension shows nothing: the message has no body, and no archive
//! keeps it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jid::{BareJid, FullJid};
use minidom::Element;

use super::Muc;
use super::xml::{self, Xml, ns};
use crate::clock::Now;
use crate::id::RoomName;
use crate::room::person::Who;
use crate::room::standing::Role;
use crate::room::{Fact, Room};
use crate::stanzas::Stanzas;

/// The calls that chats were told of: one a room.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<RoomName, Told>);

#[derive(Debug)]
struct Told {
    /// The id that the room gave the invitation (XEP-0482 §4.1).
    id: String,
    /// When it is taken back, if nobody calls until then.
    until: Option<Instant>,
}

/// A phone that is to ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// For which room.
    pub room: RoomName,
    /// Who invited.
    pub by: FullJid,
    /// Whose phone.
    pub who: BareJid,
}

impl Calls {
    /// When one is next due to be taken back.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().filter_map(|told| told.until).min()
    }
}

impl Muc {
    /// Invites a chat to a call that begins, unless it was told of one that may still go on.
    pub(super) fn follow_call(&mut self, now: Now, room: &Room, fact: &Fact, out: &mut Stanzas) {
        match fact {
            Fact::CallEntered { .. } => {
                if let Some(told) = self.calls.0.get_mut(&room.name) {
                    told.until = None;
                } else if room.settings.call_invites
                    && let Some(uri) = self.conference_uri(room)
                {
                    let id = self.fresh_id();
                    let external = Xml::new("external", ns::CALL_INVITES).attr("uri", uri);
                    let invite = Xml::new("invite", ns::CALL_INVITES).attr("video", "false");
                    let message = self.of_call(&room.name, &id, invite.child(external));
                    out.push_to(message, self.chats.of(&room.name).cloned().collect());
                    self.calls.0.insert(room.name.clone(), Told { id, until: None });
                }
            }
            Fact::CallLeft { .. } | Fact::Gone { .. } => {
                if !room.people.on_call()
                    && let Some(told) = self.calls.0.get_mut(&room.name)
                {
                    told.until.get_or_insert(now.instant + QUIET);
                }
            }
            Fact::Destroyed { .. } => drop(self.calls.0.remove(&room.name)),
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
            | Fact::MuteChanged { .. }
            | Fact::HandChanged { .. }
            | Fact::VoiceRequested { .. }
            | Fact::Spoken(_)
            | Fact::Whispered { .. }
            | Fact::SubjectChanged(_)
            | Fact::Retracted { .. }
            | Fact::Configured { .. }
            | Fact::AvatarChanged
            | Fact::HatsChanged { .. }
            | Fact::NickRegistered { .. }
            | Fact::RegistrationRequested { .. }
            | Fact::RequestEnded { .. }
            | Fact::LockChanged => {}
        }
    }

    /// Takes back the invitations to calls that have been over for a while (XEP-0482 §3.2).
    pub(super) fn take_back_calls(&mut self, now: Now, out: &mut Stanzas) {
        let due = |told: &Told| told.until.is_some_and(|until| until <= now.instant);
        let over: Vec<_> = self.calls.0.extract_if(.., |_, told| due(told)).collect();
        for (room, told) in over {
            let retract = Xml::new("retract", ns::CALL_INVITES).attr("id", &told.id);
            let id = self.fresh_id();
            let message = self.of_call(&room, &id, retract);
            out.push_to(message, self.chats.of(&room).cloned().collect());
        }
    }

    fn of_call(&self, room: &RoomName, id: &str, what: Xml) -> Element {
        let jid = self.room_jid(room);
        let stanza_id = Xml::new("stanza-id", ns::SID).attr("by", jid.as_str()).attr("id", id);
        Xml::new("message", ns::CLIENT)
            .attr("from", jid.as_str())
            .attr("id", id)
            .attr("type", "groupchat")
            .child(what)
            .child(Xml::new("no-store", ns::HINTS))
            .child(stanza_id)
            .into()
    }

    /// Has the phones ring of whom a moderator invites, where the room's owner wants that, unless they
    /// are on the call.
    pub(super) fn ring(&mut self, chat: &FullJid, invites: &[&Element], room: &Room) {
        let moderator = room.by_chat(chat).is_some_and(|it| it.role == Role::Moderator);
        if !room.settings.ring_on_invite || !moderator {
            return;
        }
        for who in invites.iter().filter_map(|invite| xml::jid(invite, "to")) {
            let who = who.to_bare();
            let on_call = |who| room.people.all_of(&Who::Jid(who)).any(|it| !it.legs.is_empty());
            if !on_call(who.clone()) {
                let (room, by) = (room.name.clone(), chat.clone());
                self.rings.push_back(Ring { room, by, who });
            }
        }
    }

    /// The next phone that is to ring.
    pub fn poll_ring(&mut self) -> Option<Ring> {
        self.rings.pop_front()
    }
}

/// How long a call has to be over before another one is news.
const QUIET: Duration = Duration::from_secs(60);
