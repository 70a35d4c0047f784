//! What a client says to a room (XEP-0045) and asks on the way to it, as stanzas to send. What comes back
//! is [`link`](crate::link)'s and [`people`](crate::people)'s to read.

use jid::{BareJid, Jid};
use minidom::Element;
use minidom::rxml::{Namespace, NcName};

use crate::people::{Affiliation, Role};

/// Enters a room (§7.2): with a password if it has one, and with so many messages of what was said before.
pub fn join(room: &BareJid, nick: &str, password: Option<&str>, history: u32) -> Element {
    let mut x = element("x", MUC, &[]);
    x.append_child(element("history", MUC, &[("maxstanzas", &history.to_string())]));
    if let Some(password) = password {
        x.append_child(text("password", MUC, password));
    }
    let to = format!("{room}/{nick}");
    with(element("presence", CLIENT, &[("to", &to)]), x)
}

/// Opens a room that one has just made, as it is (§10.1.2).
pub fn open(room: &BareJid, id: &str) -> Element {
    let form = element("x", DATA_FORM, &[("type", "submit")]);
    let to = room.to_string();
    let iq = element("iq", CLIENT, &[("type", "set"), ("id", id), ("to", &to)]);
    with(iq, with(Element::bare("query", MUC_OWNER), form))
}

/// Leaves a room (§7.14).
pub fn leave(room: &BareJid, nick: &str) -> Element {
    element("presence", CLIENT, &[("to", &format!("{room}/{nick}")), ("type", "unavailable")])
}

/// Says something to everybody in a room (§7.4).
pub fn say(room: &BareJid, id: &str, body: &str) -> Element {
    let to = room.to_string();
    let message = element("message", CLIENT, &[("to", &to), ("type", "groupchat"), ("id", id)]);
    with(message, text("body", CLIENT, body))
}

/// Asks to be heard where oneself has no voice (§7.13): one's hand goes up.
pub fn ask_voice(room: &BareJid) -> Element {
    let mut form = element("x", DATA_FORM, &[("type", "submit")]);
    for (var, value) in [("FORM_TYPE", MUC_REQUEST), ("muc#role", "participant")] {
        let field = element("field", DATA_FORM, &[("var", var)]);
        form.append_child(with(field, text("value", DATA_FORM, value)));
    }
    with(element("message", CLIENT, &[("to", &room.to_string())]), form)
}

/// Gives somebody another role (§8, §9): [`Role::None`] throws them out, [`Role::Visitor`] mutes.
pub fn set_role(room: &BareJid, id: &str, nick: &str, role: Role, why: Option<&str>) -> Element {
    admin(room, id, element("item", MUC_ADMIN, &[("nick", nick), ("role", role.word())]), why)
}

/// Gives somebody another affiliation (§9, §10): [`Affiliation::Outcast`] bans.
pub fn set_affiliation(
    room: &BareJid,
    id: &str,
    jid: &BareJid,
    affiliation: Affiliation,
    why: Option<&str>,
) -> Element {
    let jid = jid.to_string();
    let attributes = [("jid", jid.as_str()), ("affiliation", affiliation.word())];
    admin(room, id, element("item", MUC_ADMIN, &attributes), why)
}

/// Asks for the card of somebody (XEP-0054 §3.2).
pub fn card(of: &BareJid, id: &str) -> Element {
    ask(Some(&of.to_string()), id, Element::bare("vCard", "vcard-temp"))
}

/// Asks what a room or service is (XEP-0030 §3.1, XEP-0045 §6.4).
pub fn info(of: &Jid, id: &str) -> Element {
    ask(Some(&of.to_string()), id, Element::bare("query", DISCO_INFO))
}

/// Asks for one's contacts (RFC 6121 §2.1.3).
pub fn roster(id: &str) -> Element {
    ask(None, id, Element::bare("query", ROSTER))
}

/// Reads the contacts of an answer, each with the name that the person gave them.
pub fn contacts(answer: &Element) -> Vec<(BareJid, Option<String>)> {
    let query = answer.get_child("query", ROSTER);
    let items = query.into_iter().flat_map(Element::children);
    items
        .filter(|item| item.is("item", ROSTER) && item.attr("subscription") != Some("remove"))
        .filter_map(|item| {
            let jid = BareJid::new(item.attr("jid")?).ok()?;
            let name = item.attr("name").filter(|name| !name.trim().is_empty());
            Some((jid, name.map(str::to_owned)))
        })
        .take(MAX_CONTACTS)
        .collect()
}

/// What a stanza error says, for people: its text, or its condition (RFC 6120 §8.3).
pub fn error(stanza: &Element) -> Option<String> {
    if stanza.attr("type") != Some("error") {
        return None;
    }
    let error = stanza.children().find(|child| child.name() == "error");
    let children = || error.into_iter().flat_map(Element::children);
    let text = children().find(|child| child.is("text", STANZA_ERRORS)).map(Element::text);
    let condition = children().find(|child| child.ns() == STANZA_ERRORS && child.name() != "text");
    let condition = condition.map_or("undefined-condition", Element::name).to_owned();
    Some(text.filter(|text| !text.trim().is_empty()).unwrap_or(condition))
}

fn admin(room: &BareJid, id: &str, mut item: Element, why: Option<&str>) -> Element {
    if let Some(why) = why {
        item.append_child(text("reason", MUC_ADMIN, why));
    }
    let to = room.to_string();
    let iq = element("iq", CLIENT, &[("type", "set"), ("id", id), ("to", &to)]);
    with(iq, with(Element::bare("query", MUC_ADMIN), item))
}

fn ask(to: Option<&str>, id: &str, payload: Element) -> Element {
    let mut attributes = vec![("type", "get"), ("id", id)];
    attributes.extend(to.map(|to| ("to", to)));
    with(element("iq", CLIENT, &attributes), payload)
}

/// An element with these attributes.
pub(crate) fn element(name: &str, ns: &str, attributes: &[(&'static str, &str)]) -> Element {
    let mut element = Element::bare(name, ns);
    for (name, value) in attributes {
        let name = NcName::try_from(*name).expect("names in this crate are XML's");
        element.set_attr(Namespace::NONE, name, clean(value));
    }
    element
}

/// An element with a text.
pub(crate) fn text(name: &str, ns: &str, text: &str) -> Element {
    let mut element = Element::bare(name, ns);
    element.append_text(clean(text));
    element
}

/// An element and one more child.
pub(crate) fn with(mut parent: Element, child: Element) -> Element {
    parent.append_child(child);
    parent
}

/// A text without what XML 1.0 cannot say: a server ends the stream over it.
fn clean(text: &str) -> String {
    let says = |c: &char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars().filter(|c| matches!(c, '\n' | '\t') || says(c)).collect()
}

pub(crate) const CLIENT: &str = "jabber:client";
const MUC: &str = "http://jabber.org/protocol/muc";
const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
const MUC_REQUEST: &str = "http://jabber.org/protocol/muc#request";
const DATA_FORM: &str = "jabber:x:data";
const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
pub(crate) const ROSTER: &str = "jabber:iq:roster";
const STANZA_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// The most contacts that are taken from a roster.
const MAX_CONTACTS: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn tea() -> BareJid {
        BareJid::new("tea@rooms.test").unwrap()
    }

    #[test]
    fn says_it_as_the_specification_does() {
        let check = |stanza: Element, expected: &str| {
            let expected: Element = expected.parse().unwrap();
            assert_eq!(stanza, expected, "{}", String::from(&stanza));
        };
        check(
            join(&tea(), "Ann", Some("p<w"), 20),
            "<presence xmlns='jabber:client' to='tea@rooms.test/Ann'>\
             <x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='20'/>\
             <password>p&lt;w</password></x></presence>",
        );
        check(
            open(&tea(), "o"),
            "<iq xmlns='jabber:client' type='set' id='o' to='tea@rooms.test'>\
             <query xmlns='http://jabber.org/protocol/muc#owner'>\
             <x xmlns='jabber:x:data' type='submit'/></query></iq>",
        );
        check(
            leave(&tea(), "Ann"),
            "<presence xmlns='jabber:client' to='tea@rooms.test/Ann' type='unavailable'/>",
        );
        // What XML cannot say does not end the stream.
        check(
            say(&tea(), "1", "a\u{0}\u{1b}[31m\u{ffff}\nb"),
            "<message xmlns='jabber:client' to='tea@rooms.test' type='groupchat' id='1'>\
             <body>a[31m\nb</body></message>",
        );
        check(
            ask_voice(&tea()),
            "<message xmlns='jabber:client' to='tea@rooms.test'><x xmlns='jabber:x:data' \
             type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request\
             </value></field><field var='muc#role'><value>participant</value></field></x></message>",
        );
        check(
            set_role(&tea(), "k", "Bob", Role::None, Some("noise")),
            "<iq xmlns='jabber:client' type='set' id='k' to='tea@rooms.test'>\
             <query xmlns='http://jabber.org/protocol/muc#admin'><item nick='Bob' role='none'>\
             <reason>noise</reason></item></query></iq>",
        );
        check(
            set_affiliation(&tea(), "b", &tea(), Affiliation::Outcast, None),
            "<iq xmlns='jabber:client' type='set' id='b' to='tea@rooms.test'>\
             <query xmlns='http://jabber.org/protocol/muc#admin'>\
             <item jid='tea@rooms.test' affiliation='outcast'/></query></iq>",
        );
        check(
            card(&tea(), "c"),
            "<iq xmlns='jabber:client' type='get' id='c' to='tea@rooms.test'>\
             <vCard xmlns='vcard-temp'/></iq>",
        );
        check(
            roster("r"),
            "<iq xmlns='jabber:client' type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>",
        );
        check(
            info(&tea().into(), "i"),
            "<iq xmlns='jabber:client' type='get' id='i' to='tea@rooms.test'>\
             <query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
        );
    }

    #[test]
    fn reads_contacts_and_errors() {
        let answer = "<iq xmlns='jabber:client' type='result'><query xmlns='jabber:iq:roster'>\
             <item jid='a@x' name='Ann'/><item jid='b@x' name=' '/><item jid='@'/>\
             <item jid='c@x' subscription='remove'/></query></iq>";
        let jid = |text: &str| BareJid::new(text).unwrap();
        let expected = [(jid("a@x"), Some("Ann".to_owned())), (jid("b@x"), None)];
        assert_eq!(contacts(&answer.parse().unwrap()), expected);
        let check = |inner: &str, expected: Option<&str>| {
            let stanza = format!("<presence xmlns='jabber:client' {inner}</presence>");
            assert_eq!(error(&stanza.parse().unwrap()).as_deref(), expected, "{inner}");
        };
        let condition = "<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>";
        let text = "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>A password.</text>";
        check(&format!("type='error'><error>{condition}{text}</error>"), Some("A password."));
        check(&format!("type='error'><error>{condition}</error>"), Some("not-authorized"));
        check("type='error'>", Some("undefined-condition"));
        check(">", None);
    }
}
