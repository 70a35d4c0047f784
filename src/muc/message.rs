//! What is said: to all, to one, to newcomers; the subject; invitations; asking for voice
//! (XEP-0045 §7.4, §7.5, §7.8, §7.13, §8.1, §8.6).

use std::sync::Arc;
use std::time::SystemTime;

use cusax::hat;
use jid::{BareJid, FullJid, Jid};
use minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, FieldType};

use super::chats::Wanted;
use super::error::Fault;
use super::form::{self, Submitted};
use super::limits::{MAX_INVITES, MAX_MESSAGE};
use super::presence::{reason_element, status};
use super::stanza::{Address, Head};
use super::xml::{self, Xml, ns};
use super::{Ask, Muc, Reply, register};
use crate::clock::{Now, stamp};
use crate::id::{DialId, Nick, PersonId, RoomName};
use crate::room::history::{Payload, Said};
use crate::room::person::Who;
use crate::room::settings::{Settings, Whois};
use crate::room::standing::{Affiliation, Role};
use crate::room::{By, Change, Command, Invited, Refusal, Room, Rooms};
use crate::stanzas::Stanzas;

impl Muc {
    /// Reads a message by its type and addressee.
    pub(super) fn message(
        &mut self,
        now: Now,
        head: &Head,
        stanza: Element,
        rooms: &Rooms,
        out: &mut Stanzas,
    ) -> Result<Option<Ask>, Fault> {
        if head.kind() == "error" {
            return Ok(self.undelivered(now, head, &stanza));
        }
        let groupchat = head.kind() == "groupchat";
        let (name, nick) = match head.address() {
            Address::Room(name) => (name, None),
            Address::Occupant(name, nick) if !groupchat => (name, Some(nick)),
            // §7.5
            Address::Occupant(..) => {
                return Err(Fault::bad_request("A message to all goes to the room itself."));
            }
            Address::BadNick(_) => return Err(Refusal::NoSuchPerson.into()),
            Address::Service | Address::Nothing => return Err(Fault::unavailable()),
        };
        let chat = head.session()?.clone();
        if xml::size(&stanza) > MAX_MESSAGE {
            return Err(Fault::too_big("This message is too large."));
        }
        let room = super::open(rooms, &name).ok_or(Refusal::NoSuchRoom)?;
        let share = match room.by_chat(&chat) {
            Some(person) if person.role == Role::Moderator => 4,
            Some(_) | None => 1,
        };
        if let Some(session) = self.chats.get_mut(&name, &chat)
            && !session.messages.admits(now.instant, self.config.rates.messages, share)
        {
            return Err(Fault::too_fast("Too many messages at once: wait a moment."));
        }

        let id = head.id.clone();
        let reply = Reply::Message(head.clone(), super::echo(&stanza));
        let command = match nick {
            Some(to) => {
                let payload = self.payload(&name, head, stanza, false);
                Command::Whisper { to, id, payload }
            }
            None if groupchat => match subject(&stanza) {
                Some(text) => {
                    let payload = self.payload(&name, head, stanza, true);
                    Command::ChangeSubject { id, text, payload }
                }
                None => Command::Say { id, payload: self.payload(&name, head, stanza, true) },
            },
            None => return self.to_room(head, &chat, &stanza, room, reply, out),
        };
        Ok(Some(Ask { room: name, by: By::Chat(chat), command, reply }))
    }

    /// What one may ask of a room by message: to be given voice, to invite, to decline.
    fn to_room(
        &self,
        head: &Head,
        chat: &FullJid,
        stanza: &Element,
        room: &Room,
        reply: Reply,
        out: &mut Stanzas,
    ) -> Result<Option<Ask>, Fault> {
        let ask = |command| {
            let (room, by) = (room.name.clone(), By::Chat(chat.clone()));
            Ok(Some(Ask { room, by, command, reply }))
        };
        if let Some(x) = stanza.get_child("x", ns::DATA_FORMS) {
            // Of a form that a room sent: for later.
            if form::form_type(x) == "cancel" {
                return Ok(None);
            }
            // §9.9
            if let Ok(form) = Submitted::read(x, ns::MUC_REGISTER)
                && form.text("FORM_TYPE").is_some()
            {
                if super::standing(room, &head.from).1 < Affiliation::Admin {
                    return Err(Refusal::Forbidden.into());
                }
                return ask(register::answered(room, &form)?);
            }
            let form = Submitted::read(x, ns::MUC_REQUEST)?;
            return match (form.text("muc#roomnick"), form.boolean("muc#request_allow")?) {
                // §7.13
                (None, _) => ask(Command::RequestVoice),
                // §8.6
                (Some(nick), Some(true)) => {
                    let nick = Nick::new(nick)
                        .map_err(|_| Fault::not_acceptable("That cannot be a nickname."))?;
                    let role = Some(Role::Participant);
                    ask(Command::Moderate(vec![Change::Role { nick, role, reason: None }]))
                }
                (Some(_), Some(false) | None) => Ok(None),
            };
        }
        let Some(x) = stanza.get_child("x", ns::MUC_USER) else {
            return Err(Fault::bad_request("A room takes messages of type groupchat."));
        };
        let invites: Vec<_> = x.children().filter(|c| c.is("invite", ns::MUC_USER)).collect();
        let decline = x.get_child("decline", ns::MUC_USER);
        match (invites.as_slice(), decline) {
            ([], None) => Err(Fault::bad_request("A room takes messages of type groupchat.")),
            ([], Some(decline)) => {
                self.decline(head, decline, room, out)?;
                Ok(None)
            }
            (invites, _) => {
                let joining = self.invite(chat, invites, room, out)?;
                if joining.is_empty() { Ok(None) } else { ask(Command::Invite(joining)) }
            }
        }
    }

    /// XEP-0045 §7.8.2. In a members-only room an invitation by an admin, or by a member if the
    /// room allows that, makes a member, and the invitation is sent when that became true; answers
    /// whom it makes one.
    fn invite(
        &self,
        chat: &FullJid,
        invites: &[&Element],
        room: &Room,
        out: &mut Stanzas,
    ) -> Result<Vec<Invited>, Fault> {
        let person = room.by_chat(chat).ok_or(Refusal::NotHere)?;
        let members_only = room.settings.members_only;
        let affiliation = room.affiliation(&person.who);
        let enough = match room.settings.allow_invites {
            true => affiliation >= Affiliation::Member,
            false => affiliation >= Affiliation::Admin,
        };
        if members_only && !enough {
            return Err(Refusal::Forbidden.into());
        }
        if invites.len() > MAX_INVITES {
            return Err(Fault::too_big("Too many invitations in one message."));
        }
        let mut joining = vec![];
        let mut sent = vec![];
        for invite in invites {
            let to = xml::jid(invite, "to")
                .ok_or(Fault::jid_malformed("An invitation needs an address."))?;
            if to.domain() == &*self.config.domain {
                return Err(Fault::not_found("Nobody can be invited at that address."));
            }
            let who = Who::Jid(to.to_bare());
            let reason = xml::child_text(invite, "reason", ns::MUC_USER);
            match room.affiliation(&who) {
                Affiliation::Outcast => return Err(Refusal::NotAllowed.into()),
                Affiliation::None if members_only => {
                    joining.push(Invited { jid: to.to_bare(), reason });
                }
                Affiliation::None
                | Affiliation::Member
                | Affiliation::Admin
                | Affiliation::Owner => {
                    let from = person.nick.as_str();
                    let from = format!("{}/{from}", self.room_jid(&room.name));
                    let thread = invite.get_child("continue", ns::MUC_USER);
                    sent.push(self.invitation(room, &to, &from, reason.as_deref(), thread));
                }
            }
        }
        out.extend(sent);
        Ok(joining)
    }

    /// Whoever is called and has a chat account is invited there as well (RFC 7081 §4, XEP-0045
    /// §7.8.2), unless they are here.
    pub(super) fn invite_callee(&self, room: &Room, dial: DialId, out: &mut Stanzas) {
        let Some(dial) = room.dials.get(&dial) else { return };
        let Who::Jid(jid) = &dial.callee.person.who else { return };
        let here = room.people.values().any(|it| it.jid() == Some(jid) && !it.chats.is_empty());
        if !here {
            let room_jid = self.room_jid(&room.name);
            let nick = dial.by.as_ref().and_then(|by| by.nick.as_ref());
            let from =
                nick.map_or_else(|| room_jid.to_string(), |nick| format!("{room_jid}/{nick}"));
            out.push(self.invitation(room, &Jid::from(jid.clone()), &from, None, None));
        }
    }

    /// An invitation as the room sends it, for old and new clients (XEP-0249).
    pub(super) fn invitation(
        &self,
        room: &Room,
        to: &Jid,
        from: &str,
        reason: Option<&str>,
        thread: Option<&Element>,
    ) -> Element {
        let jid = self.room_jid(&room.name);
        let password = room.settings.password.as_deref();
        let invite = Xml::new("invite", ns::MUC_USER)
            .attr("from", from)
            .children(reason.map(reason_element))
            .children(thread.cloned());
        let mediated = Xml::new("x", ns::MUC_USER)
            .child(invite)
            .children(password.map(|word| Xml::new("password", ns::MUC_USER).text(word)));
        let direct = Xml::new("x", ns::CONFERENCE)
            .attr("jid", jid.as_str())
            .maybe("reason", reason)
            .maybe("password", password);
        Xml::new("message", ns::CLIENT)
            .attr("from", jid.as_str())
            .attr("to", to.as_str())
            .child(mediated)
            .child(direct)
            .into()
    }

    /// XEP-0045 §7.8.2: the refusal goes to whoever invited, if they are here; nobody else can be
    /// reached through a room in this way.
    fn decline(
        &self,
        head: &Head,
        decline: &Element,
        room: &Room,
        out: &mut Stanzas,
    ) -> Result<(), Fault> {
        let to =
            xml::jid(decline, "to").ok_or(Fault::jid_malformed("Whose invitation is declined?"))?;
        let inviter = if to.to_bare() == self.room_jid(&room.name) {
            let nick = to.resource().and_then(|nick| Nick::new(nick.as_str()).ok());
            nick.and_then(|nick| room.by_nick(&nick))
        } else {
            room.people.all_of(&Who::Jid(to.to_bare())).next()
        };
        let inviter = inviter.ok_or(Refusal::NoSuchPerson)?;
        let reason = xml::child_text(decline, "reason", ns::MUC_USER);
        let decline = Xml::new("decline", ns::MUC_USER)
            .attr("from", head.from.to_bare().as_str())
            .children(reason.as_deref().map(reason_element));
        let x = Xml::new("x", ns::MUC_USER).child(decline);
        for chat in inviter.chats.keys() {
            let declined = Xml::new("message", ns::CLIENT)
                .attr("from", self.room_jid(&room.name).as_str())
                .attr("to", chat.as_str())
                .child(x.clone());
            out.push(declined.into());
        }
        Ok(())
    }

    /// To everyone, the sender too, with the sender's id (XEP-0045 §7.4).
    pub(super) fn show_said(&self, room: &Room, said: &Said, out: &mut Stanzas) {
        let from = self.author(&room.name, said);
        let message = passed_on(&said.payload, &from, said.id.as_deref());
        out.push_to(message, self.all(room));
    }

    /// To every session of one (XEP-0045 §7.5).
    pub(super) fn show_whisper(
        &self,
        room: &Room,
        from: PersonId,
        to: PersonId,
        id: Option<&str>,
        payload: &Payload,
        out: &mut Stanzas,
    ) {
        let Some(from) = room.person(from) else { return };
        let from = self.occupant(&room.name, &from.nick);
        let mut message = passed_on(payload, &from, id);
        message.append_child(Xml::new("x", ns::MUC_USER).into());
        let to = self.chats.told(room).filter(|(person, _)| person.id == to);
        out.push_to(message, to.map(|(_, chat)| chat.clone()).collect());
    }

    /// XEP-0045 §8.1.
    pub(super) fn show_subject(&self, room: &Room, id: Option<&str>, out: &mut Stanzas) {
        out.push_to(self.subject(room, id, false), self.all(room));
    }

    /// Every session that was told of the room.
    fn all(&self, room: &Room) -> Vec<FullJid> {
        self.chats.told(room).map(|(_, chat)| chat.clone()).collect()
    }

    /// The subject, which ends every entry; empty if there is none (XEP-0045 §7.2.15).
    pub(super) fn subject(&self, room: &Room, id: Option<&str>, late: bool) -> Element {
        let jid = self.room_jid(&room.name);
        let Some(subject) = &room.subject else {
            return Xml::new("message", ns::CLIENT)
                .attr("from", jid.as_str())
                .attr("type", "groupchat")
                .child(Xml::new("subject", ns::CLIENT))
                .into();
        };
        let from = self.occupant(&room.name, &subject.nick);
        let mut message = match &subject.payload {
            Some(payload) => passed_on(payload, &from, id),
            None => Xml::new("message", ns::CLIENT)
                .attr("from", &from)
                .attr("type", "groupchat")
                .child(Xml::new("subject", ns::CLIENT).text(&subject.text))
                .into(),
        };
        if late {
            message.append_child(delay(&jid, subject.at));
        }
        message
    }

    /// What was said before someone came, as much as they want (XEP-0045 §7.2.13, §7.2.14).
    pub(super) fn show_history(
        &self,
        now: Now,
        room: &Room,
        chat: &FullJid,
        wanted: &Wanted,
        out: &mut Stanzas,
    ) {
        let jid = self.room_jid(&room.name);
        let mut told = vec![];
        let mut chars = 0;
        for said in room.history.iter().rev() {
            let from = self.author(&room.name, said);
            let mut message = passed_on(&said.payload, &from, said.id.as_deref());
            xml::set(&mut message, "to", chat.as_str());
            message.append_child(delay(&jid, said.at));
            if wanted.max_chars.is_some() {
                chars += String::from(&message).chars().count();
            }
            if !wanted.admits(now.utc, said.at, told.len() + 1, chars) {
                break;
            }
            told.push(message);
        }
        out.extend(told.into_iter().rev());
    }

    /// The form that moderators fill in when someone asks for voice (XEP-0045 §8.6).
    pub(super) fn show_voice_request(&self, room: &Room, person: PersonId, out: &mut Stanzas) {
        let Some(person) = room.person(person) else { return };
        let nick = person.nick.as_str();
        let mut fields = vec![
            form::field("muc#role", FieldType::TextSingle, "Requested role", "participant"),
            form::field("muc#roomnick", FieldType::TextSingle, "Nickname", nick),
            form::yes_no("muc#request_allow", "Give them voice?", false),
        ];
        if let Some(jid) = self.address(person, person.chats.keys().next()) {
            let jid = form::field("muc#jid", FieldType::JidSingle, "Address", jid.as_str());
            fields.insert(1, jid);
        }
        let mut form = DataForm::new(DataFormType::Form, ns::MUC_REQUEST, fields);
        form.title = Some("Voice request".to_owned());
        let form: Element = form.into();
        let request = Xml::new("message", ns::CLIENT)
            .attr("from", self.room_jid(&room.name).as_str())
            .child(form);
        let to = self.chats.told(room).filter(|(viewer, _)| viewer.role == Role::Moderator);
        out.push_to(request, to.map(|(_, chat)| chat.clone()).collect());
    }

    /// XEP-0045 §10.2.1: what changed, so that clients ask again.
    pub(super) fn show_configured(&mut self, room: &Room, old: &Settings, out: &mut Stanzas) {
        let new = &room.settings;
        let mut codes = vec![];
        if old.whois != new.whois {
            codes.push(match new.whois {
                Whois::Anyone => 172,
                Whois::Moderators => 173,
            });
        }
        if old.archived() != new.archived() {
            codes.push(if new.archived() { 170 } else { 171 });
        }
        if (Settings { whois: new.whois, archive: new.archive, ..old.clone() }) != *new {
            codes.push(104);
        }
        self.show_changed(room, &codes, out);
        self.show_roles_and_addresses(room, old, out);
    }

    /// Codes of what changed, to everyone.
    pub(super) fn show_changed(&self, room: &Room, codes: &[u16], out: &mut Stanzas) {
        if codes.is_empty() {
            return;
        }
        let x = Xml::new("x", ns::MUC_USER).children(codes.iter().copied().map(status));
        let changed = Xml::new("message", ns::CLIENT)
            .attr("from", self.room_jid(&room.name).as_str())
            .attr("type", "groupchat")
            .child(x);
        out.push_to(changed, self.all(room));
    }

    /// What a client said, as others will read it: without addresses and id, without what only a
    /// room may say, and with the ids that a room gives (XEP-0359, XEP-0421).
    fn payload(
        &mut self,
        room: &RoomName,
        head: &Head,
        mut stanza: Element,
        to_all: bool,
    ) -> Payload {
        let lasting = to_all && lasts(&stanza);
        let text = stanza.has_child("body", ns::CLIENT);
        let jid = self.room_jid(room);
        xml::unaddress(&mut stanza);
        let kind = match head.kind() {
            "groupchat" if to_all => "groupchat",
            "normal" | "headline" => head.kind(),
            // §7.5; and an unknown type is none (RFC 6121 §5.2.2).
            _ => "chat",
        };
        xml::set(&mut stanza, "type", kind);
        xml::retain(&mut stanza, |child| !forged(child, &jid));
        let occupant_id = self.occupant_id(room, &Who::Jid(head.from.to_bare()));
        stanza.append_child(Xml::new("occupant-id", ns::OID).attr("id", occupant_id).into());
        let stanza_id = to_all.then(|| self.fresh_id());
        if let Some(id) = &stanza_id {
            let by = jid.as_str();
            stanza
                .append_child(Xml::new("stanza-id", ns::SID).attr("by", by).attr("id", id).into());
        }
        Payload { stanza: Arc::new(stanza), lasting, text, stanza_id }
    }

    /// The address that something comes from: its author's in the room, or the room's.
    pub(super) fn author(&self, room: &RoomName, said: &Said) -> String {
        match &said.author {
            Some(author) => self.occupant(room, &author.nick),
            None => self.room_jid(room).to_string(),
        }
    }
}

/// A subject without body or thread changes the room's (XEP-0045 §8.1).
fn subject(stanza: &Element) -> Option<String> {
    let alone = !stanza.has_child("body", ns::CLIENT) && !stanza.has_child("thread", ns::CLIENT);
    xml::child_text(stanza, "subject", ns::CLIENT).filter(|_| alone)
}

/// Whether newcomers are to be told, and the archive is to keep it: not of who is typing (XEP-0085 §5.5), nor of what its sender
/// wants kept nowhere (XEP-0334 §4).
fn lasts(stanza: &Element) -> bool {
    let fleeting = ["no-store", "no-permanent-store"];
    if fleeting.iter().any(|hint| stanza.has_child(hint, ns::HINTS)) {
        return false;
    }
    stanza.has_child("body", ns::CLIENT)
        || subject(stanza).is_some()
        || stanza.has_child("store", ns::HINTS)
        || stanza
            .children()
            .any(|child| !matches!(child.ns().as_str(), ns::CHATSTATES | ns::CLIENT))
}

/// What a client says in the room's name: other people's ids, standing and hats, its stamps.
fn forged(child: &Element, room: &BareJid) -> bool {
    let by_room = |name: &str| match child.attr(name) {
        None => true,
        Some(text) => Jid::new(text).is_ok_and(|jid| jid.to_bare() == *room),
    };
    match child.ns().as_str() {
        ns::MUC | ns::MUC_USER | ns::OID | hat::NS => true,
        ns::SID => child.name() == "stanza-id" && by_room("by"),
        ns::DELAY | ns::LEGACY_DELAY => by_room("from"),
        _ => false,
    }
}

/// A payload on its way, but for whom it goes to.
fn passed_on(payload: &Payload, from: &str, id: Option<&str>) -> Element {
    let mut message = Element::clone(&payload.stanza);
    xml::set(&mut message, "from", from);
    if let Some(id) = id {
        xml::set(&mut message, "id", id);
    }
    message
}

/// When something was said, by the room's clock (XEP-0203).
fn delay(room: &BareJid, at: SystemTime) -> Element {
    Xml::new("delay", ns::DELAY).attr("from", room.as_str()).attr("stamp", stamp(at)).into()
}
