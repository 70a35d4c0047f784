//! Registering a nick with a room (XEP-0045 §7.10): it is kept, and nobody else may have it. Where
//! admins approve of new members (§9.9), who is none asks for it first.

use std::collections::BTreeMap;

use jid::BareJid;

use super::enter::is_phone_nick;
use super::person::Who;
use super::settings::Registration;
use super::standing::Affiliation;
use super::{Asker, By, Fact, Refusal, RequestEnd, Room};
use crate::clock::Now;
use crate::id::Nick;

/// The nicks that members registered, one each.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Nicks {
    by_jid: BTreeMap<BareJid, Nick>,
    by_key: BTreeMap<String, BareJid>,
}

impl Nicks {
    /// Gives someone a nick, instead of the one they had.
    pub(super) fn insert(&mut self, jid: BareJid, nick: Nick) {
        self.remove(&jid);
        self.by_key.insert(nick.key().to_owned(), jid.clone());
        self.by_jid.insert(jid, nick);
    }

    /// Takes someone's nick; whether there was one.
    pub(super) fn remove(&mut self, jid: &BareJid) -> bool {
        let old = self.by_jid.remove(jid);
        old.is_some_and(|old| self.by_key.remove(old.key()).is_some())
    }

    pub(super) fn len(&self) -> usize {
        self.by_jid.len()
    }

    /// Whether a nick is reserved for someone else than `who`.
    pub(super) fn keep_out(&self, who: &Who, nick: &Nick) -> bool {
        self.by_key.get(nick.key()).is_some_and(|owner| match who {
            Who::Jid(jid) => jid != owner,
            Who::Aor(_) | Who::Unknown(_) => true,
        })
    }
}

impl Room {
    /// The nick that someone registered, if any (XEP-0045 §7.12).
    pub fn registered_nick(&self, jid: &BareJid) -> Option<&Nick> {
        self.nicks.by_jid.get(jid)
    }

    /// Every registered nick, by whom.
    pub fn registered_nicks(&self) -> impl Iterator<Item = (&BareJid, &Nick)> {
        self.nicks.by_jid.iter()
    }

    /// Everyone who asks to become a member, and under which nick (XEP-0045 §9.9).
    pub fn requests(&self) -> impl Iterator<Item = (&BareJid, &Nick)> {
        self.requests.iter()
    }

    /// The nick under which someone asks to become a member, if they do.
    pub fn requested_nick(&self, jid: &BareJid) -> Option<&Nick> {
        self.requests.get(jid)
    }

    /// Whether someone may register. It makes a member of who is none, so unless the owner wants that
    /// it is no way around the admins where only they give voice, let people in, or where a password
    /// does.
    pub fn may_register(&self, jid: &BareJid) -> Result<(), Refusal> {
        let who = Who::Jid(jid.clone());
        let affiliation = self.affiliation(&who);
        if !self.configured && affiliation < Affiliation::Owner {
            return Err(Refusal::NotConfigured);
        }
        let settings = &self.settings;
        let secret = settings.password.is_some() && !self.is_here(&who);
        let guarded = settings.members_only || settings.moderated || secret;
        let strangers_may = match settings.registration {
            Registration::Open | Registration::Approval => true,
            Registration::Unguarded => !guarded,
            Registration::Closed => false,
        };
        match affiliation {
            Affiliation::Outcast => Err(Refusal::MayNotRegister),
            Affiliation::None if !strangers_may => Err(Refusal::MayNotRegister),
            Affiliation::None | Affiliation::Member | Affiliation::Admin | Affiliation::Owner => {
                Ok(())
            }
        }
    }

    pub(super) fn register(&mut self, now: Now, by: &By, nick: Nick) -> Result<Vec<Fact>, Refusal> {
        let By::Chat(chat) = by else { return Err(Refusal::Forbidden) };
        let jid = chat.to_bare();
        let who = Who::Jid(jid.clone());
        self.may_register(&jid)?;
        self.can_keep_nick(&jid, &nick)?;
        let mut facts = vec![];
        if self.affiliation(&who) == Affiliation::None {
            if self.settings.registration == Registration::Approval {
                return self.request(jid, nick);
            }
            self.has_room_for_affiliation(&who)?;
            let asker = self.asker(by);
            facts.extend(self.set_affiliation(now, &asker, &who, Affiliation::Member, None));
        }
        facts.extend(self.keep_nick(&jid, Some(nick)));
        Ok(facts)
    }

    fn request(&mut self, jid: BareJid, nick: Nick) -> Result<Vec<Fact>, Refusal> {
        let asked = self.requests.get(&jid);
        if asked == Some(&nick) {
            return Ok(vec![]);
        }
        if asked.is_none() && self.requests.len() >= MAX_REQUESTS {
            return Err(Refusal::TooMany);
        }
        self.requests.insert(jid.clone(), nick.clone());
        Ok(vec![Fact::RegistrationRequested { jid, nick }])
    }

    /// An admin's answer to a request (XEP-0045 §9.9): who is allowed is registered, if their nick is
    /// still free.
    pub(super) fn answer_request(
        &mut self,
        now: Now,
        by: &By,
        jid: &BareJid,
        allow: bool,
    ) -> Result<Vec<Fact>, Refusal> {
        let asker = self.asker(by);
        asker.at_least(Affiliation::Admin)?;
        let nick = self.requests.get(jid).ok_or(Refusal::NoSuchPerson)?.clone();
        let ended = |end| Fact::RequestEnded { jid: jid.clone(), end };
        if !allow {
            self.requests.remove(jid);
            return Ok(vec![ended(RequestEnd::Denied)]);
        }
        let who = Who::Jid(jid.clone());
        self.can_keep_nick(jid, &nick)?;
        self.has_room_for_affiliation(&who)?;
        self.requests.remove(jid);
        let mut facts = self.set_affiliation(now, &asker, &who, Affiliation::Member, None);
        facts.push(ended(RequestEnd::Allowed));
        facts.extend(self.keep_nick(jid, Some(nick)));
        Ok(facts)
    }

    /// Whoever has another standing asks for it no more.
    pub(super) fn end_request(&mut self, jid: &BareJid) -> Option<Fact> {
        let end = RequestEnd::Withdrawn;
        self.requests.remove(jid).map(|_| Fact::RequestEnded { jid: jid.clone(), end })
    }

    fn can_keep_nick(&self, jid: &BareJid, nick: &Nick) -> Result<(), Refusal> {
        let who = Who::Jid(jid.clone());
        // Who has the nick of someone else cannot be given it, by whomever.
        let in_use = self.by_nick(nick).is_some_and(|person| person.who != who);
        if in_use || is_phone_nick(nick) || self.nicks.keep_out(&who, nick) {
            return Err(Refusal::NickTaken);
        }
        if self.registered_nick(jid).is_none() && self.nicks.len() >= MAX_NICKS {
            return Err(Refusal::TooMany);
        }
        Ok(())
    }

    /// Whether an admin may keep a nick for someone, who has to belong to the room (XEP-0045 §9.3).
    pub(super) fn may_keep_nick(
        &self,
        asker: &Asker,
        jid: &BareJid,
        nick: Option<&Nick>,
    ) -> Result<(), Refusal> {
        asker.at_least(Affiliation::Admin)?;
        let affiliation = self.affiliation(&Who::Jid(jid.clone()));
        let Some(nick) = nick else { return Ok(()) };
        if jid.node().is_none() || affiliation < Affiliation::Member {
            return Err(Refusal::NotAllowed);
        }
        self.can_keep_nick(jid, nick)
    }

    /// Keeps a nick for someone, or none any more.
    pub(super) fn keep_nick(&mut self, jid: &BareJid, nick: Option<Nick>) -> Vec<Fact> {
        match nick {
            None => self.release_nick(jid).into_iter().collect(),
            Some(nick) if self.registered_nick(jid) == Some(&nick) => vec![],
            Some(nick) => {
                self.nicks.insert(jid.clone(), nick.clone());
                vec![Fact::NickRegistered { jid: jid.clone(), nick: Some(nick) }]
            }
        }
    }

    /// Gives up the nick, and the membership that goes with it (XEP-0077 §3.2); admins and owners
    /// stay what they are.
    pub(super) fn unregister(&mut self, now: Now, by: &By) -> Result<Vec<Fact>, Refusal> {
        let By::Chat(chat) = by else { return Err(Refusal::Forbidden) };
        let jid = chat.to_bare();
        if let Some(withdrawn) = self.end_request(&jid) {
            return Ok(vec![withdrawn]);
        }
        if self.registered_nick(&jid).is_none() {
            return Err(Refusal::Forbidden);
        }
        let who = Who::Jid(jid.clone());
        if self.affiliation(&who) == Affiliation::Member {
            let asker = self.asker(by);
            return Ok(self.set_affiliation(now, &asker, &who, Affiliation::None, None));
        }
        Ok(self.release_nick(&jid).into_iter().collect())
    }

    /// Who is no member any more has no nick to keep.
    pub(super) fn release_nick(&mut self, jid: &BareJid) -> Option<Fact> {
        let jid = jid.clone();
        self.nicks.remove(&jid).then_some(Fact::NickRegistered { jid, nick: None })
    }
}

/// Nicks that one room keeps.
const MAX_NICKS: usize = 5_000;
/// Requests of one room that no admin has answered.
const MAX_REQUESTS: usize = 100;
