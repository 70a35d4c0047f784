//! Coming, going and being here: presence in, the broadcast out (XEP-0045 §7).
//!
//! One presence of a person says everything that others may know of them: what their latest session
//! shows, standing, and hats for the call (XEP-0317). Callers without chat have one as well.

use cusax::hat::{self, Hat};
use hmac::{Hmac, Mac};
use jid::{FullJid, Jid};
use minidom::Element;
use sha2::Sha256;

use super::chats::{Entry, Session, Wanted};
use super::disco::title;
use super::error::Fault;
use super::limits::{MAX_PRESENCE, MAX_REASON, MAX_RESENT};
use super::stanza::{self, Address, Head};
use super::xml::{self, Xml, ns};
use super::{Ask, Muc, Reply, hats};
use crate::clock::Now;
use crate::id::{Nick, PersonId, RoomName};
use crate::room::person::{Mutes, Person, Who};
use crate::room::settings::{Settings, Whois};
use crate::room::standing::{Affiliation, Role};
use crate::room::{Actor, Arrival, By, Command, Departure, Fact, Room, RoomEnd, Rooms};
use crate::stanzas::Stanzas;

/// How someone went.
#[derive(Debug)]
pub(super) struct Gone<'a> {
    pub(super) affiliation: Affiliation,
    pub(super) departure: Departure,
    pub(super) by: Option<&'a Actor>,
    pub(super) reason: Option<&'a str>,
}

/// A person as one broadcast shows them; who looks decides about the address.
#[derive(Debug)]
struct Sight<'a> {
    room: &'a Room,
    nick: &'a Nick,
    id: PersonId,
    /// `None` when they are no longer here.
    role: Option<Role>,
    /// They, or a nick of theirs, are no longer here: the presence is unavailable.
    gone: bool,
    /// Whether the room shows their role to others (`presencebroadcast`).
    broadcast: bool,
    affiliation: Affiliation,
    jid: Option<Jid>,
    occupant_id: String,
    shown: &'a [Element],
    hats: Option<Element>,
    /// The conference, if it is told by presence.
    conference: Option<Element>,
    codes: &'a [u16],
    new_nick: Option<&'a Nick>,
    actor: Option<&'a Actor>,
    reason: Option<&'a str>,
    destroy: Option<Element>,
}

/// Who looks at a [`Sight`].
#[derive(Clone, Copy, Debug)]
enum Eyes<'a> {
    /// One session of somebody in a role, with status codes for it alone.
    One(&'a FullJid, PersonId, Role, &'a [u16]),
    /// All others who see addresses, or all who do not.
    Others { open: bool },
}

impl Muc {
    /// XEP-0045 §7.2, §7.6, §7.7, §7.14.
    pub(super) fn presence(
        &mut self,
        now: Now,
        head: &Head,
        stanza: Element,
        rooms: &Rooms,
        out: &mut Stanzas,
    ) -> Result<Option<Ask>, Fault> {
        match head.kind() {
            "" => {}
            "unavailable" => return Ok(self.leaving(head, stanza, rooms)),
            "error" => return Ok(self.undelivered(now, head, &stanza)),
            // Nobody subscribes to a room (RFC 6121 §3.1.3 lets us say so); the rest means nothing
            // here, and servers send probes by themselves.
            "subscribe" => {
                let refused = Xml::new("presence", ns::CLIENT)
                    .attr("from", head.to.as_str())
                    .attr("to", head.from.as_str())
                    .attr("type", "unsubscribed");
                out.push(refused.into());
                return Ok(None);
            }
            "subscribed" | "unsubscribe" | "unsubscribed" | "probe" => return Ok(None),
            _ => return Err(Fault::bad_request("There is no such type of presence.")),
        }
        let (name, nick) = match head.address() {
            Address::Occupant(name, nick) => (name, nick),
            // §7.2.1
            Address::Room(_) => return Err(Fault::jid_malformed("A nickname is needed.")),
            Address::BadNick(_) => {
                return Err(Fault::jid_malformed("That cannot be a nickname."));
            }
            Address::Service | Address::Nothing => return Err(Fault::unavailable()),
        };
        let chat = head.session()?.clone();
        let join = stanza.get_child("x", ns::MUC);
        let here = super::open(rooms, &name).and_then(|room| room.by_chat(&chat));
        if here.is_none() && join.is_none() {
            out.push(self.not_in_any_more(head));
            return Ok(None);
        }
        if xml::size(&stanza) > MAX_PRESENCE {
            return Err(Fault::too_big("This presence is too large."));
        }
        let admitted = match self.chats.get_mut(&name, &chat) {
            Some(session) => session.presences.admits(now.instant, self.config.rates.presences, 1),
            None => self
                .chats
                .joins(&name)
                .is_none_or(|joins| joins.admits(now.instant, self.config.rates.joins, 1)),
        };
        if !admitted {
            return Err(Fault::too_fast("Too many at once: wait a moment."));
        }
        let asked = |history| Entry {
            nick: head.to.resource().map(|nick| nick.to_string()).unwrap_or_default(),
            id: head.id.clone(),
            history,
        };
        let mut entry = None;
        let command = match (join, here) {
            (Some(x), _) => {
                entry = Some(asked(Some(wanted(x)?)));
                Command::EnterChat { nick, password: xml::child_text(x, "password", ns::MUC) }
            }
            (None, Some(person)) if person.nick == nick => Command::ShowPresence,
            (None, _) => {
                entry = Some(asked(None));
                Command::Rename { nick }
            }
        };
        let by = By::Chat(chat.clone());
        let reply = Reply::Presence { head: head.clone(), chat, shown: shown(stanza), entry };
        Ok(Some(Ask { room: name, by, command, reply }))
    }

    fn leaving(&self, head: &Head, stanza: Element, rooms: &Rooms) -> Option<Ask> {
        let room = match head.address() {
            Address::Room(room) | Address::Occupant(room, _) | Address::BadNick(room) => room,
            Address::Service | Address::Nothing => return None,
        };
        let chat = head.chat()?.clone();
        super::open(rooms, &room)?.by_chat(&chat)?;
        let shown = if xml::size(&stanza) > MAX_PRESENCE { vec![] } else { shown(stanza) };
        let by = By::Chat(chat.clone());
        Some(Ask { room, by, command: Command::LeaveChat, reply: Reply::Leaving { chat, shown } })
    }

    /// Presence from someone who thinks that they are in (XEP-0045 §7.2.18); also what becomes of a
    /// groupchat 1.0 join, which has no `<x/>`.
    fn not_in_any_more(&self, head: &Head) -> Element {
        let item = Xml::new("item", ns::MUC_USER).attr("affiliation", "none").attr("role", "none");
        Xml::new("presence", ns::CLIENT)
            .attr("from", head.to.as_str())
            .attr("to", head.from.as_str())
            .attr("type", "unavailable")
            .maybe("id", head.id.as_ref())
            .child(Xml::new("x", ns::MUC_USER).child(item).children([110, 307, 333].map(status)))
            .into()
    }

    /// Tells who entered, and tells the others (XEP-0045 §7.1: others, oneself, history, subject).
    pub(super) fn show_entry(
        &mut self,
        now: Now,
        room: &Room,
        person: PersonId,
        chat: &FullJid,
        arrival: Arrival,
        out: &mut Stanzas,
    ) {
        let Some(person) = room.person(person) else { return };
        let entry = self.chats.get_mut(&room.name, chat).and_then(|session| session.entry.take());
        let Some(entry) = entry else { return };
        let eyes = |codes| Eyes::One(chat, person.id, person.role, codes);

        for other in room.people.values().filter(|other| other.id != person.id) {
            let sight = self.here(room, other);
            if sight.broadcast {
                out.push(sight.to(self, eyes(&[]), None));
            }
        }
        let mut codes = vec![];
        if room.settings.whois == Whois::Anyone {
            codes.push(100);
        }
        // §7.2.12
        if room.settings.archived() {
            codes.push(170);
        }
        if !room.configured {
            codes.push(201);
        }
        if entry.nick != person.nick.as_str() {
            codes.push(210);
        }
        out.push(self.here(room, person).to(self, eyes(&codes), entry.id.as_deref()));
        self.show_history(now, room, chat, &entry.history.unwrap_or_default(), out);
        out.push_to(self.subject(room, None, true), vec![chat.clone()]);
        if arrival != Arrival::Again {
            self.show_requests(room, chat, out);
        }

        let mut shows_anew = false;
        if let Some(session) = self.chats.get_mut(&room.name, chat) {
            session.told = true;
            shows_anew = session.shows_anew;
        }
        // §17.3: who only lost track is nothing new to the others, unless they show something else.
        if arrival == Arrival::Again && !shows_anew {
            return;
        }
        let sight = self.here(room, person);
        let told = self.chats.told(room).filter(|(_, told)| *told != chat);
        sight.to_all(self, told.filter(|(viewer, _)| sight.is_for(viewer)), out);
    }

    /// Tells a session that was out of reach who is here and who went (see `ghosts`).
    pub(super) fn show_again(&self, room: &Room, chat: &FullJid, out: &mut Stanzas) {
        let Some(person) = room.by_chat(chat) else { return };
        let eyes = Eyes::One(chat, person.id, person.role, &[]);
        // Who is back under a nick that only looks the same is another one to a client.
        let hidden = |nick: &Nick| {
            room.by_nick(nick).is_none_or(|it| it.nick != *nick || !broadcasts(room, it.role))
        };
        for nick in self.ghosts.missed(&room.name).filter(|nick| hidden(nick)) {
            let item =
                Xml::new("item", ns::MUC_USER).attr("affiliation", "none").attr("role", "none");
            let gone = Xml::new("presence", ns::CLIENT)
                .attr("from", self.occupant(&room.name, nick))
                .attr("to", chat.as_str())
                .attr("type", "unavailable")
                .child(Xml::new("x", ns::MUC_USER).child(item));
            out.push(gone.into());
        }
        for other in room.people.values() {
            let sight = self.here(room, other);
            if sight.is_for(person) {
                out.push(sight.to(self, eyes, None));
            }
        }
    }

    /// Who has a role that the room does not broadcast, and had one that it does, seems to go.
    pub(super) fn hide_after(
        &mut self,
        room: &Room,
        person: PersonId,
        old: Role,
        out: &mut Stanzas,
    ) {
        let Some(person) = room.person(person) else { return };
        if broadcasts(room, old) && !broadcasts(room, person.role) {
            self.hide(room, person, out);
        }
    }

    fn hide(&mut self, room: &Room, person: &Person, out: &mut Stanzas) {
        self.ghosts.vanished(&room.name, &person.nick);
        let here = self.here(room, person);
        let sight = Sight { role: None, gone: true, shown: &[], hats: None, ..here };
        let others = self.chats.told(room).filter(|(viewer, _)| viewer.id != person.id);
        sight.to_all(self, others, out);
    }

    /// The room shows other roles than before, or addresses to others (XEP-0045 §10.2.1): what each
    /// may see is sent again. In a room so large that this would be a flood, the next presences tell.
    pub(super) fn show_roles_and_addresses(
        &mut self,
        room: &Room,
        old: &Settings,
        out: &mut Stanzas,
    ) {
        let whois = old.whois != room.settings.whois;
        if !whois && old.presence_broadcast == room.settings.presence_broadcast {
            return;
        }
        if room.people.len() * self.chats.told(room).count() > MAX_RESENT {
            return;
        }
        for person in room.people.values() {
            let was = old.presence_broadcast.contains(&person.role);
            let sight = self.here(room, person);
            match (was, sight.broadcast) {
                (true, false) => self.hide(room, person, out),
                (false, false) => {}
                (true, true) if !whois => {}
                (was, true) => {
                    // Moderators saw addresses all along.
                    let told = self.chats.told(room).filter(|(viewer, _)| {
                        viewer.id != person.id && !(was && viewer.role == Role::Moderator)
                    });
                    sight.to_all(self, told, out);
                }
            }
        }
    }

    /// Shows someone as they are, to everyone.
    pub(super) fn show_person(
        &mut self,
        room: &Room,
        person: PersonId,
        actor: Option<&Actor>,
        reason: Option<&str>,
        out: &mut Stanzas,
    ) {
        let Some(person) = room.person(person) else { return };
        let sight = Sight { actor, reason, ..self.here(room, person) };
        self.broadcast(room, &sight, out);
        self.latest = Some((room.name.clone(), person.id, hats(person)));
    }

    /// Shows a mute if it shows: of someone on the call, for the first reason or the last, and not
    /// when the change of role that it came with has shown it already.
    pub(super) fn show_mute(
        &mut self,
        room: &Room,
        person: PersonId,
        old: &Mutes,
        out: &mut Stanzas,
    ) {
        let Some(person) = room.person(person) else { return };
        let new = hats(person);
        if new == hats(&Person { mutes: old.clone(), ..person.clone() }) {
            return;
        }
        let shown = Some((room.name.clone(), person.id, new));
        if shown != self.latest {
            self.broadcast(room, &self.here(room, person), out);
            self.latest = shown;
        }
    }

    /// Who becomes a moderator of a semi-anonymous room may see addresses from then on.
    pub(super) fn show_addresses_to_new_moderator(
        &self,
        room: &Room,
        person: PersonId,
        old: Role,
        out: &mut Stanzas,
    ) {
        let Some(person) = room.person(person) else { return };
        if room.settings.whois == Whois::Anyone
            || old == Role::Moderator
            || person.role != Role::Moderator
        {
            return;
        }
        for other in room.people.values().filter(|other| other.id != person.id) {
            let sight = self.here(room, other);
            let told = self.chats.told(room).filter(|(viewer, _)| viewer.id == person.id);
            for (_, chat) in told.filter(|(viewer, _)| sight.is_for(viewer)) {
                out.push(sight.to(self, Eyes::One(chat, person.id, person.role, &[]), None));
            }
        }
    }

    /// XEP-0045 §7.6: the old nick goes with 303, the new one comes.
    pub(super) fn show_new_nick(
        &mut self,
        room: &Room,
        person: PersonId,
        old: &Nick,
        out: &mut Stanzas,
    ) {
        let Some(person) = room.person(person) else { return };
        self.ghosts.vanished(&room.name, old);
        let left = Sight {
            nick: old,
            gone: true,
            codes: &[303],
            new_nick: Some(&person.nick),
            shown: &[],
            hats: None,
            ..self.here(room, person)
        };
        self.broadcast(room, &left, out);
        // The change may have been asked for as an entry (§17.3): these presences answer it too.
        let mut altered = None;
        for chat in person.chats.keys() {
            if let Some(session) = self.chats.get_mut(&room.name, chat)
                && session.told
                && let Some(entry) = session.entry.take()
                && entry.nick != person.nick.as_str()
            {
                altered = Some(chat);
            }
        }
        let here = self.here(room, person);
        let viewers = self.chats.told(room).filter(|(viewer, _)| here.is_for(viewer));
        here.to_all(self, viewers.filter(|(_, chat)| altered != Some(*chat)), out);
        if let Some(chat) = altered {
            out.push(here.to(self, Eyes::One(chat, person.id, person.role, &[210]), None));
        }
    }

    /// One session of several went, or the chat of someone on the call.
    pub(super) fn show_chat_left(
        &mut self,
        room: &Room,
        person: PersonId,
        chat: &FullJid,
        lost: bool,
        out: &mut Stanzas,
    ) {
        self.chats.forget(&room.name, chat);
        let Some(person) = room.person(person) else { return };
        let here = self.here(room, person);
        let codes: &[u16] = if lost { &[333] } else { &[] };
        let left = Sight {
            role: None,
            gone: true,
            shown: &[],
            hats: None,
            codes,
            ..self.here(room, person)
        };
        out.push(left.to(self, Eyes::One(chat, person.id, Role::Visitor, &[]), None));
        self.broadcast(room, &here, out);
    }

    /// Tells who is kicked, and all whose room is destroyed: they hear it before whoever did it has an
    /// answer, and the others after that (XEP-0045 §8.2, §10.9; the answer to a ban comes first, §9.1).
    pub fn throw_out(&mut self, room: &Room, facts: &[Fact], out: &mut Stanzas) {
        for fact in facts {
            if let Fact::Gone { was, affiliation, departure: Departure::Kicked, by, reason } = fact
            {
                let why = Gone {
                    affiliation: *affiliation,
                    departure: Departure::Kicked,
                    by: by.as_ref(),
                    reason: reason.as_deref(),
                };
                self.gone(room, was, &why, &[]).to_own(self, was.chats.keys(), out);
                for chat in was.chats.keys() {
                    if let Some(session) = self.chats.get_mut(&room.name, chat) {
                        session.told = false;
                    }
                }
            } else if let Fact::Destroyed { people, end } = fact
                && !people.is_empty()
            {
                self.show_destroyed(room, people, end, out);
            }
        }
    }

    /// Someone is out: each of their sessions hears it first, unless it did already, then all who stay
    /// (XEP-0045 §8.2).
    pub(super) fn show_gone(
        &mut self,
        room: &Room,
        was: &Person,
        why: &Gone<'_>,
        out: &mut Stanzas,
    ) {
        self.ghosts.vanished(&room.name, &was.nick);
        let forgotten = was.chats.keys().map(|chat| (chat, self.chats.forget(&room.name, chat)));
        let sessions: Vec<_> = forgotten.collect();
        let said = match why.departure {
            Departure::Left => sessions.iter().find_map(|(_, session)| session.as_ref()),
            Departure::Lost
            | Departure::Kicked
            | Departure::Banned
            | Departure::MembershipLost
            | Departure::MembersOnly
            | Departure::Shutdown => None,
        };
        let sight = self.gone(room, was, why, said.map_or(&[], |session| &session.shown));
        let hears = |session: &Option<Session>| session.as_ref().is_some_and(|it| it.told);
        let own = sessions.iter().filter(|(_, session)| hears(session)).map(|(chat, _)| *chat);
        sight.to_own(self, own, out);
        self.broadcast(room, &sight, out);
    }

    fn gone<'a>(
        &'a self,
        room: &'a Room,
        was: &'a Person,
        why: &Gone<'a>,
        shown: &'a [Element],
    ) -> Sight<'a> {
        let codes: &[u16] = match why.departure {
            Departure::Left => &[],
            Departure::Lost => &[333],
            Departure::Kicked => &[307],
            Departure::Banned => &[301],
            Departure::MembershipLost => &[321],
            Departure::MembersOnly => &[322],
            Departure::Shutdown => &[332],
        };
        Sight {
            role: None,
            gone: true,
            affiliation: why.affiliation,
            shown,
            hats: None,
            codes,
            actor: why.by,
            reason: why.reason,
            jid: self.address(was, was.chats.keys().next()),
            ..self.here(room, was)
        }
    }

    /// XEP-0045 §10.9: each hears about themselves alone.
    pub(super) fn show_destroyed(
        &mut self,
        room: &Room,
        people: &[Person],
        end: &RoomEnd,
        out: &mut Stanzas,
    ) {
        let destroy = match end {
            RoomEnd::Destroyed { reason, alternate } => Xml::new("destroy", ns::MUC_USER)
                .maybe("jid", alternate.as_ref().map(|jid| jid.as_str()))
                .children(reason.as_deref().map(reason_element)),
            RoomEnd::Emptied | RoomEnd::NeverConfigured => Xml::new("destroy", ns::MUC_USER),
        };
        for person in people {
            let sight = Sight {
                role: None,
                gone: true,
                affiliation: Affiliation::None,
                shown: &[],
                hats: None,
                jid: None,
                destroy: Some(destroy.clone().into()),
                ..self.here(room, person)
            };
            let here = |chat: &&FullJid| self.chats.get(&room.name, chat).is_some();
            sight.to_own(self, person.chats.keys().filter(here), out);
        }
        self.chats.forget_room(&room.name);
    }

    fn broadcast(&self, room: &Room, sight: &Sight<'_>, out: &mut Stanzas) {
        let viewers = self.chats.told(room).filter(|(viewer, _)| sight.is_for(viewer));
        sight.to_all(self, viewers, out);
    }

    /// Someone as they are.
    fn here<'a>(&'a self, room: &'a Room, person: &'a Person) -> Sight<'a> {
        let face = self.chats.face(&room.name, person);
        Sight {
            room,
            nick: &person.nick,
            id: person.id,
            role: Some(person.role),
            gone: false,
            broadcast: broadcasts(room, person.role),
            affiliation: room.affiliation(&person.who),
            jid: self.address(person, face.map(|(chat, _)| chat)),
            occupant_id: self.occupant_id(&room.name, &person.who),
            shown: face.map_or(&[], |(_, session)| &session.shown),
            hats: hats_element(room, person),
            conference: self.conference(room, person),
            codes: &[],
            new_nick: None,
            actor: None,
            reason: None,
            destroy: None,
        }
    }

    /// The conference as Jitsi Desktop reads it: published by each who is on the call, and by all
    /// others taken back. It pairs the two by address and `callid`, which therefore both have.
    fn conference(&self, room: &Room, person: &Person) -> Option<Element> {
        let uri = self.conference_uri(&room.name).filter(|_| self.config.jitsi_conference)?;
        let conference = Xml::new("conference", ns::CONDESC)
            .attr("uri", uri)
            .attr("callid", room.name.as_str())
            .attr("available", (!person.legs.is_empty()).to_string())
            .attr("conference_name", title(room));
        Some(conference.into())
    }

    /// The address of someone for those who may see it: of the session that stands for them, or of
    /// who they are on the phone. A caller who asked not to be named has none (RFC 3323).
    pub(super) fn address(&self, person: &Person, chat: Option<&FullJid>) -> Option<Jid> {
        let private = || person.legs.values().any(|leg| leg.caller.private);
        match (&person.who, chat) {
            (_, Some(chat)) => Some(chat.clone().into()),
            (Who::Jid(jid), None) => Some(jid.clone().into()),
            (Who::Aor(_), None) if private() => None,
            (Who::Aor(aor), None) => stanza::caller_jid(aor, &self.config.domain).map(Into::into),
            (Who::Unknown(_), None) => None,
        }
    }

    /// The same for one person in one room, and it tells nobody who that is (XEP-0421).
    pub(super) fn occupant_id(&self, room: &RoomName, who: &Who) -> String {
        let who = match who {
            Who::Jid(jid) => format!("xmpp:{jid}"),
            Who::Aor(aor) => aor.to_string(),
            Who::Unknown(leg) => leg.to_string(),
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.config.secret)
            .expect("HMAC takes a key of any length");
        mac.update(room.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(who.as_bytes());
        let digest = mac.finalize().into_bytes();
        digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The occupant JID of a nick.
    pub(super) fn occupant(&self, room: &RoomName, nick: &Nick) -> String {
        format!("{}/{nick}", self.room_jid(room))
    }
}

impl Sight<'_> {
    /// Whether someone is to be told at all.
    fn is_for(&self, viewer: &Person) -> bool {
        self.broadcast || viewer.id == self.id
    }

    /// The presence for sessions of whom it is about, who is out.
    fn to_own<'a>(&self, muc: &Muc, chats: impl Iterator<Item = &'a FullJid>, out: &mut Stanzas) {
        let eyes = |chat| Eyes::One(chat, self.id, Role::Visitor, &[]);
        out.extend(chats.map(|chat| self.to(muc, eyes(chat), None)));
    }

    /// The presence for all of these: one for those who see the same, and one for each of their own
    /// sessions.
    fn to_all<'a>(
        &self,
        muc: &Muc,
        viewers: impl Iterator<Item = (&'a Person, &'a FullJid)>,
        out: &mut Stanzas,
    ) {
        let (mut open, mut veiled, mut own) = (vec![], vec![], vec![]);
        for (viewer, chat) in viewers {
            if viewer.id == self.id {
                own.push(Eyes::One(chat, viewer.id, viewer.role, &[]));
            } else if self.is_open_to(viewer.role) {
                open.push(chat.clone());
            } else {
                veiled.push(chat.clone());
            }
        }
        if !open.is_empty() {
            out.push_to(self.to(muc, Eyes::Others { open: true }, None), open);
        }
        out.extend(own.into_iter().map(|eyes| self.to(muc, eyes, None)));
        if !veiled.is_empty() {
            out.push_to(self.to(muc, Eyes::Others { open: false }, None), veiled);
        }
    }

    /// Whether someone in this role sees addresses.
    fn is_open_to(&self, role: Role) -> bool {
        self.room.settings.whois == Whois::Anyone || role == Role::Moderator
    }

    /// The presence for these eyes; `id` answers the presence that entered.
    fn to(&self, muc: &Muc, eyes: Eyes<'_>, id: Option<&str>) -> Element {
        let (to, own, open, for_them) = match eyes {
            Eyes::One(chat, id, role, codes) => {
                (Some(chat), id == self.id, self.is_open_to(role), codes)
            }
            Eyes::Others { open } => (None, false, open, &[][..]),
        };
        let jid = match (to, own, open) {
            (Some(chat), true, _) => self.jid.as_ref().map(|_| chat.as_str()),
            (_, false, true) => self.jid.as_ref().map(Jid::as_str),
            (None, true, _) | (_, false, false) => None,
        };
        let actor = self.actor.and_then(|actor| {
            let jid = actor.jid.as_ref().filter(|_| open).map(|jid| jid.as_str());
            (jid.is_some() || actor.nick.is_some()).then(|| {
                Xml::new("actor", ns::MUC_USER)
                    .maybe("jid", jid)
                    .maybe("nick", actor.nick.as_ref().map(Nick::as_str))
            })
        });
        let item = Xml::new("item", ns::MUC_USER)
            .attr("affiliation", self.affiliation.as_str())
            .attr("role", self.role.map_or("none", Role::as_str))
            .maybe("jid", jid)
            .maybe("nick", self.new_nick.map(Nick::as_str))
            .children(actor)
            .children(self.reason.map(reason_element));
        let own_code: &[u16] = if own { &[110] } else { &[] };
        let codes = for_them.iter().chain(own_code).chain(self.codes).copied();
        let x = Xml::new("x", ns::MUC_USER)
            .child(item)
            .children(self.destroy.clone())
            .children(codes.map(status));
        let anonymous = self.room.settings.whois == Whois::Moderators;
        // An address to reach someone by would undo a room's anonymity (XEP-0152).
        let shown = self.shown.iter().filter(|child| !anonymous || child.ns() != ns::REACH);
        // Jitsi Desktop takes one conference of each, and the room's goes first.
        let shown = shown.filter(|it| self.conference.is_none() || it.ns() != ns::CONDESC);
        Xml::new("presence", ns::CLIENT)
            .attr("from", muc.occupant(&self.room.name, self.nick))
            .maybe("to", to.map(|chat| chat.as_str()))
            .maybe("type", self.gone.then_some("unavailable"))
            .maybe("id", id)
            .children(shown.cloned())
            .children(self.hats.clone())
            .children(self.conference.clone().filter(|_| !self.gone))
            .child(Xml::new("occupant-id", ns::OID).attr("id", &self.occupant_id))
            .child(x)
            .into()
    }
}

fn broadcasts(room: &Room, role: Role) -> bool {
    room.settings.presence_broadcast.contains(&role)
}

/// What a room says of someone on the call.
fn hats(person: &Person) -> Vec<Hat> {
    let mut hats = vec![];
    if !person.legs.is_empty() {
        let heard = person.legs.keys().any(|leg| person.may_be_heard(*leg));
        let held = person.legs.values().all(|leg| leg.hold);
        hats.push(Hat::OnTheCall);
        match (held, heard) {
            (true, _) if person.mutes.any() => hats.extend([Hat::Muted, Hat::OnHold]),
            (true, _) => hats.push(Hat::OnHold),
            (false, false) => hats.push(Hat::Muted),
            (false, true) => {}
        }
        if person.chats.is_empty() {
            hats.push(Hat::ByPhone);
        }
    }
    if person.hand.is_some() {
        hats.push(Hat::HandRaised);
    }
    hats
}

/// What the room says of someone on the call, then what owners call them (XEP-0317 §3.1).
fn hats_element(room: &Room, person: &Person) -> Option<Element> {
    let ours = hats(person)
        .into_iter()
        .map(|hat| Xml::new("hat", hat::NS).attr("uri", hat.uri()).attr("title", hat.title()));
    let given = room.hats().of(&person.who).map(|(uri, look)| hats::worn(uri, look));
    let mut all = ours.chain(given).peekable();
    all.peek()?;
    Some(Xml::new("hats", hat::NS).children(all).into())
}

/// What a presence carries that others are shown: all but what the room itself says, and what is
/// no presence (RFC 6121 §4.7.2).
fn shown(mut stanza: Element) -> Vec<Element> {
    xml::retain(&mut stanza, |child| match (child.ns().as_str(), child.name()) {
        (ns::MUC | ns::MUC_USER | ns::OID | hat::NS | ns::DELAY, _) => false,
        (ns::CLIENT, "show") => matches!(child.text().as_str(), "away" | "chat" | "dnd" | "xa"),
        (ns::CLIENT, "priority") => child.text().parse::<i8>().is_ok(),
        _ => true,
    });
    stanza.children().cloned().collect()
}

/// How much history someone wants (XEP-0045 §7.2.13).
fn wanted(x: &Element) -> Result<Wanted, Fault> {
    let Some(history) = x.get_child("history", ns::MUC) else { return Ok(Wanted::default()) };
    let number = |name| {
        let number = history.attr(name).map(|text: &str| text.trim().parse::<u32>());
        number.transpose().map_err(|_| Fault::bad_request("A limit on history is a number."))
    };
    let since = history.attr("since").map(|text| {
        text.trim()
            .parse::<xmpp_parsers::date::DateTime>()
            .map(|since| since.0.into())
            .map_err(|_| Fault::bad_request("since is a date and time (XEP-0082)."))
    });
    Ok(Wanted {
        max_chars: number("maxchars")?.map(|chars| chars as usize),
        max_stanzas: number("maxstanzas")?.map(|stanzas| stanzas as usize),
        seconds: number("seconds")?.map(|seconds| std::time::Duration::from_secs(seconds.into())),
        since: since.transpose()?,
    })
}

/// A reason, cut to its limit.
pub(super) fn reason_element(reason: &str) -> Element {
    Xml::new("reason", ns::MUC_USER).text(xml::cut(reason, MAX_REASON)).into()
}

/// A status code (XEP-0045 §15.6).
pub(super) fn status(code: u16) -> Xml {
    Xml::new("status", ns::MUC_USER).attr("code", code.to_string())
}
