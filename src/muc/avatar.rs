//! The picture of a room as a vCard (XEP-0486, XEP-0054, XEP-0153).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minidom::Element;

use super::error::Fault;
use super::stanza::Head;
use super::xml::{self, Xml, ns};
use super::{Ask, Reply};
use crate::room::avatar::{Avatar, MAX_AVATAR};
use crate::room::{By, Command, Room};

/// The vCard, which is nothing but the picture.
pub(super) fn vcard(room: &Room) -> Result<Element, Fault> {
    let avatar = room.avatar.as_ref().ok_or(Fault::unavailable())?;
    let photo = Xml::new("PHOTO", ns::VCARD)
        .child(Xml::new("TYPE", ns::VCARD).text(avatar.media_type()))
        .child(Xml::new("BINVAL", ns::VCARD).text(&STANDARD.encode(avatar.data())));
    Ok(Xml::new("vCard", ns::VCARD).child(photo).into())
}

/// A vCard with a picture sets it, another removes it; of several the first stands for all.
pub(super) fn vcard_set(head: &Head, room: &Room, vcard: &Element) -> Result<Ask, Fault> {
    let chat = head.session()?;
    let avatar = match vcard.get_child("PHOTO", ns::VCARD) {
        None => None,
        Some(photo) => Some(Arc::new(picture(photo)?)),
    };
    let (room, by) = (room.name.clone(), By::Chat(chat.clone()));
    Ok(Ask { room, by, command: Command::SetAvatar(avatar), reply: Reply::Iq(head.clone()) })
}

fn picture(photo: &Element) -> Result<Avatar, Fault> {
    let text = xml::child_text(photo, "BINVAL", ns::VCARD).unwrap_or_default();
    // Clients break the lines (RFC 2045 §6.8).
    let text: String = text.split_ascii_whitespace().collect();
    let data = STANDARD
        .decode(text)
        .map_err(|_| Fault::not_acceptable("A picture is written in base64."))?;
    if data.len() > MAX_AVATAR {
        return Err(Fault::too_big("This picture is too large."));
    }
    let media_type = xml::child_text(photo, "TYPE", ns::VCARD).unwrap_or_default();
    Avatar::new(media_type.trim(), data)
        .ok_or(Fault::not_acceptable("A picture has data, and a type image/…"))
}
