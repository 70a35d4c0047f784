//! Registering with a room (XEP-0045 §7.10, XEP-0077): a nick that nobody else may have.

use minidom::Element;
use xmpp_parsers::data_forms::{DataForm, DataFormType, FieldType};
use xmpp_parsers::disco::DiscoInfoResult;

use super::error::Fault;
use super::form::{self, Submitted};
use super::stanza::Head;
use super::xml::{self, Xml, ns};
use super::{Ask, Reply, disco};
use crate::id::Nick;
use crate::room::{By, Command, Room};

/// The form, and for who has a nick already which.
pub(super) fn register_form(head: &Head, room: &Room) -> Result<Element, Fault> {
    let jid = head.from.to_bare();
    room.may_register(&jid)?;
    let registered = room.registered_nick(&jid);
    let mut nick = form::field(NICK, FieldType::TextSingle, "Nickname", "");
    nick.values = registered.map(ToString::to_string).into_iter().collect();
    nick.required = true;
    let mut form = DataForm::new(DataFormType::Form, ns::MUC_REGISTER, vec![nick]);
    form.title = Some("Registration".to_owned());
    form.instructions = Some("Choose the nickname that is to be yours here.".to_owned());
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

fn wanted(nick: Option<&str>) -> Result<Command, Fault> {
    let nick = nick
        .filter(|nick| !nick.trim().is_empty())
        .ok_or(Fault::bad_request("A registration names a nickname."))?;
    let nick = Nick::new(nick).map_err(|_| Fault::not_acceptable("That cannot be a nickname."))?;
    Ok(Command::Register { nick })
}

const NICK: &str = "muc#register_roomnick";
/// The node of XEP-0045 §7.12.
pub(super) const NODE: &str = "x-roomuser-item";
