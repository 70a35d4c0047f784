//! Registering with a room (XEP-0045 §7.10, XEP-0077): a nick that nobody else may have; and who asks to
//! become a member, for admins to answer (§9.9).

use jid::{BareJid, FullJid};
use minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, FieldType};
use xmpp_parsers::disco::DiscoInfoResult;

use super::error::Fault;
use super::form::{self, Submitted};
use super::stanza::Head;
use super::xml::{self, Xml, ns};
use super::{Ask, Muc, Reply, disco};
use crate::id::Nick;
use crate::room::person::Who;
use crate::room::settings::Registration;
use crate::room::standing::Affiliation;
use crate::room::{By, Command, RequestEnd, Room};
use crate::stanzas::Stanzas;

/// The form, and for who has a nick already which.
pub(super) fn register_form(head: &Head, room: &Room) -> Result<Element, Fault> {
    let jid = head.from.to_bare();
    room.may_register(&jid)?;
    let registered = room.registered_nick(&jid);
    let requested = room.requested_nick(&jid);
    let stranger = room.affiliation(&Who::Jid(jid.clone())) == Affiliation::None;
    let instructions = match requested {
        Some(_) => "An admin has not yet answered your request for this nickname.",
        None if stranger && room.settings.registration == Registration::Approval => {
            "Choose the nickname that is to be yours here, if an admin approves."
        }
        None => "Choose the nickname that is to be yours here.",
    };
    let mut nick = form::field(NICK, FieldType::TextSingle, "Nickname", "");
    nick.values = registered.or(requested).map(ToString::to_string).into_iter().collect();
    nick.required = true;
    let mut form = DataForm::new(DataFormType::Form, ns::MUC_REGISTER, vec![nick]);
    form.title = Some("Registration".to_owned());
    form.instructions = Some(instructions.to_owned());
    let known = registered.map(|nick| {
        let username = Xml::new("username", ns::REGISTER).text(nick.as_str());
        [Xml::new("registered", ns::REGISTER), username]
    });
    Ok(Xml::new("query", ns::REGISTER)
        .child(
            Xml::new("instructions", ns::REGISTER)
                .text("Registration keeps a nickname for you; fill in the form."),
        )
        .children(known.into_iter().flatten())
        .child(Element::from(form))
        .into())
}

/// A submitted form, or the end of a registration.
pub(super) fn register_set(head: &Head, room: &Room, query: &Element) -> Result<Ask, Fault> {
    let chat = head.session()?;
    let form = query.get_child("x", ns::DATA_FORMS);
    let command = if query.has_child("remove", ns::REGISTER) {
        Command::Unregister
    } else if let Some(form) = form {
        if form::form_type(form) != "submit" {
            return Err(Fault::bad_request("A registration is a submitted form."));
        }
        let form = Submitted::read(form, ns::MUC_REGISTER)?;
        wanted(form.text(NICK))?
    } else {
        // Clients without forms (XEP-0077 §3.1.1).
        wanted(xml::child_text(query, "username", ns::REGISTER).as_deref())?
    };
    let (room, by) = (room.name.clone(), By::Chat(chat.clone()));
    Ok(Ask { room, by, command, reply: Reply::Iq(head.clone()) })
}

/// The nick that someone registered, as the name of an identity (XEP-0045 §7.12).
pub(super) fn registered(head: &Head, room: &Room) -> Element {
    let nick = room.registered_nick(&head.from.to_bare());
    let identity = nick.map(|nick| disco::identity(nick.as_str()));
    match identity {
        Some(identity) => DiscoInfoResult {
            node: Some(NODE.to_owned()),
            identities: vec![identity],
            features: Default::default(),
            extensions: vec![],
        }
        .into(),
        // No library writes information about nothing; the section asks for just that.
        None => Xml::new("query", ns::DISCO_INFO).attr("node", NODE).into(),
    }
}

impl Muc {
    /// Someone asks to become a member: they hear that it waits, and every admin who is here gets the
    /// form in all their sessions; if none is, those whom the room knows get it at their addresses
    /// (XEP-0045 §9.9). Who comes later gets it then.
    pub(super) fn show_request(&self, room: &Room, jid: &BareJid, nick: &Nick, out: &mut Stanzas) {
        self.tell(room, jid, "Your request to register waits for an admin of this room.", out);
        let form = self.request_form(room, jid, nick);
        let is_admin = |who: &Who| room.affiliation(who) >= Affiliation::Admin;
        let here = self.chats.told(room).filter(|(person, _)| is_admin(&person.who));
        let here: Vec<_> = here.map(|(_, chat)| chat.clone()).collect();
        if !here.is_empty() {
            out.push_to(form, here);
            return;
        }
        let admins = room.affiliations().filter(|(_, it)| *it >= Affiliation::Admin);
        let admins = admins.filter_map(|(who, _)| match who {
            Who::Jid(jid) => Some(jid),
            Who::Aor(_) | Who::Unknown(_) => None,
        });
        for admin in admins.take(MAX_ADMINS_AWAY) {
            let mut form = form.clone();
            xml::set(&mut form, "to", admin.as_str());
            out.push(form);
        }
    }

    /// Gives an admin who comes the forms that nobody has answered.
    pub(super) fn show_requests(&self, room: &Room, chat: &FullJid, out: &mut Stanzas) {
        let affiliation = room.affiliation(&Who::Jid(chat.to_bare()));
        if affiliation < Affiliation::Admin {
            return;
        }
        for (jid, nick) in room.requests() {
            out.push_to(self.request_form(room, jid, nick), vec![chat.clone()]);
        }
    }

    fn request_form(&self, room: &Room, jid: &BareJid, nick: &Nick) -> Element {
        let fields = vec![
            form::field(JID, FieldType::JidSingle, "Who asks", jid.as_str()),
            form::field(NICK, FieldType::TextSingle, "Wanted nickname", nick.as_str()),
            form::yes_no(ALLOW, "Make them a member?", false),
        ];
        let mut form = DataForm::new(DataFormType::Form, ns::MUC_REGISTER, fields);
        form.title = Some("Registration request".to_owned());
        let form = Element::from(form);
        Xml::new("message", ns::CLIENT)
            .attr("from", self.room_jid(&room.name).as_str())
            .child(form)
            .into()
    }

    /// Tells who asked how that ended. Who is a member hears that as everyone does.
    pub(super) fn show_request_end(
        &self,
        room: &Room,
        jid: &BareJid,
        end: RequestEnd,
        out: &mut Stanzas,
    ) {
        match end {
            RequestEnd::Denied => {
                self.tell(room, jid, "An admin of this room declined your registration.", out);
            }
            RequestEnd::Allowed | RequestEnd::Withdrawn => {}
        }
    }

    fn tell(&self, room: &Room, jid: &BareJid, text: &str, out: &mut Stanzas) {
        let told = Xml::new("message", ns::CLIENT)
            .attr("from", self.room_jid(&room.name).as_str())
            .attr("to", jid.as_str())
            .lang("en")
            .child(Xml::new("body", ns::CLIENT).text(text));
        out.push(told.into());
    }
}

/// An admin's answer to such a form. It names who asks as we did, or by nick as the section has it.
pub(super) fn answered(room: &Room, form: &Submitted) -> Result<Command, Fault> {
    let allow = form.boolean(ALLOW)?;
    let allow = allow.ok_or(Fault::bad_request("A registration is allowed or not."))?;
    let jid = form.text(JID).filter(|text| !text.is_empty()).map(BareJid::new).transpose();
    let jid = jid.map_err(|_| Fault::jid_malformed("A form holds no legal address."))?;
    let nick = form.text(NICK).filter(|text| !text.is_empty()).map(Nick::new).transpose();
    let nick = nick.map_err(|_| Fault::not_acceptable("That cannot be a nickname."))?;
    // Who asks for another nick meanwhile is not allowed that one by a form with the first.
    let is_it = |(who, wanted): &(&BareJid, &Nick)| {
        let same = |nick: &Nick| nick.key() == wanted.key();
        jid.as_ref().is_none_or(|jid| jid == *who) && nick.as_ref().is_none_or(same)
    };
    let named = jid.is_some() || nick.is_some();
    let found = room.requests().find(is_it).filter(|_| named);
    let jid = found
        .map(|(jid, _)| jid.clone())
        .ok_or(Fault::not_found("Nobody waits for that any more."))?;
    Ok(Command::AnswerRequest { jid, allow })
}

fn wanted(nick: Option<&str>) -> Result<Command, Fault> {
    let nick = nick
        .filter(|nick| !nick.trim().is_empty())
        .ok_or(Fault::bad_request("A registration names a nickname."))?;
    let nick = Nick::new(nick).map_err(|_| Fault::not_acceptable("That cannot be a nickname."))?;
    Ok(Command::Register { nick })
}

const NICK: &str = "muc#register_roomnick";
const ALLOW: &str = "muc#register_allow";
/// The registry has no such field for this form; it is that of voice requests.
const JID: &str = "muc#jid";
/// How many admins are told of a request when none is here.
const MAX_ADMINS_AWAY: usize = 20;
/// The node of XEP-0045 §7.12.
pub(super) const NODE: &str = "x-roomuser-item";
