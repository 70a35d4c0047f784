//! Writing and reading XML: a builder without ceremony, namespaces, sizes.

use jid::Jid;
use minidom::rxml::{Namespace, NcName};
use minidom::{Element, Node};

/// Namespaces that `xmpp_parsers::ns` does not name.
pub(super) mod ns {
    pub(crate) use xmpp_parsers::ns::*;

    pub(crate) const CLIENT: &str = "jabber:client";
    pub(crate) const MUC_ADMIN: &str = "http://jabber.org/protocol/muc#admin";
    pub(crate) const MUC_OWNER: &str = "http://jabber.org/protocol/muc#owner";
    pub(crate) const MUC_REQUEST: &str = "http://jabber.org/protocol/muc#request";
    pub(crate) const MUC_REGISTER: &str = "http://jabber.org/protocol/muc#register";
    pub(crate) const MUC_ROOM_CONFIG: &str = "http://jabber.org/protocol/muc#roomconfig";
    pub(crate) const MUC_ROOM_INFO: &str = "http://jabber.org/protocol/muc#roominfo";
    /// XEP-0482.
    pub(crate) const CALL_INVITES: &str = "urn:xmpp:call-invites:0";
    /// XEP-0463.
    pub(crate) const MAV: &str = "urn:xmpp:muc:affiliations:1";
    pub(crate) const CONFERENCE: &str = "jabber:x:conference";
    pub(crate) const COMMANDS: &str = "http://jabber.org/protocol/commands";
    pub(crate) const ADMIN: &str = "http://jabber.org/protocol/admin";
    pub(crate) const CHANNEL_SEARCH: &str = "urn:xmpp:channel-search:0:search";
    pub(crate) const JABBER_SEARCH: &str = "jabber:iq:search";
    /// How Jitsi Desktop tells of conferences in presence.
    pub(crate) const CONDESC: &str = "http://jitsi.org/protocol/condesc";
    pub(crate) const REACH: &str = "urn:xmpp:reach:0";
    pub(crate) const LEGACY_DELAY: &str = "jabber:x:delay";
    pub(crate) const HINTS: &str = "urn:xmpp:hints";
    pub(crate) const MAM_EXTENDED: &str = "urn:xmpp:mam:2#extended";
    pub(crate) const MODERATE: &str = "urn:xmpp:message-moderate:1";
    pub(crate) const RETRACT: &str = "urn:xmpp:message-retract:1";
    /// XEP-0425 as it was before version 0.3, with what it was built on.
    pub(crate) const OLD_MODERATE: &str = "urn:xmpp:message-moderate:0";
    pub(crate) const OLD_RETRACT: &str = "urn:xmpp:message-retract:0";
    pub(crate) const FASTEN: &str = "urn:xmpp:fasten:0";
}

/// An element under construction.
#[derive(Clone, Debug)]
pub(super) struct Xml(Element);

impl Xml {
    pub(super) fn new(name: &str, ns: &str) -> Self {
        Self(Element::bare(name, ns))
    }

    pub(super) fn attr(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        set(&mut self.0, name, value.as_ref());
        self
    }

    /// The language of what people read in it (RFC 6120 §4.7.4).
    pub(super) fn lang(mut self, lang: &str) -> Self {
        self.0.set_attr(Namespace::XML, NcName::try_from("lang").expect("an XML name"), lang);
        self
    }

    pub(super) fn maybe(self, name: &'static str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    pub(super) fn child(mut self, child: impl Into<Element>) -> Self {
        self.0.append_child(child.into());
        self
    }

    pub(super) fn children<E: Into<Element>>(
        mut self,
        children: impl IntoIterator<Item = E>,
    ) -> Self {
        for child in children {
            self.0.append_child(child.into());
        }
        self
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.append_text_node(text);
        self
    }
}

impl From<Xml> for Element {
    fn from(xml: Xml) -> Self {
        xml.0
    }
}

/// Sets an attribute that has no namespace.
pub(super) fn set(element: &mut Element, name: &'static str, value: &str) {
    let name = NcName::try_from(name).expect("a literal that is an XML name");
    element.set_attr(Namespace::NONE, name, value);
}

/// The language of an element, if it says (RFC 6120 §8.1.5).
pub(super) fn lang(element: &Element) -> Option<&str> {
    element.attr_ns(&Namespace::XML, "lang")
}

/// Takes away the attributes that address a stanza; the others, `xml:lang` among them, stay.
pub(super) fn unaddress(stanza: &mut Element) {
    for name in ["from", "to", "type", "id"] {
        stanza.attrs_mut().remove(&Namespace::NONE, name);
    }
}

/// Keeps the child elements that `keep` accepts, and no text between them.
pub(super) fn retain(element: &mut Element, keep: impl Fn(&Element) -> bool) {
    for node in element.take_nodes() {
        if let Node::Element(child) = node
            && keep(&child)
        {
            element.append_child(child);
        }
    }
}

/// An attribute as an address; `None` if it is absent or no address.
pub(super) fn jid(element: &Element, name: &str) -> Option<Jid> {
    element.attr(name).and_then(|text| Jid::new(text).ok())
}

/// The text of a child, if there is such a child.
pub(super) fn child_text(element: &Element, name: &str, ns: &str) -> Option<String> {
    element.get_child(name, ns).map(Element::text)
}

/// About how many bytes an element takes on the wire, without recursion.
pub(super) fn size(element: &Element) -> usize {
    let mut open = vec![element];
    let mut bytes = 0;
    while let Some(element) = open.pop() {
        bytes += 2 * element.name().len() + 5;
        bytes += element
            .attrs()
            .iter()
            .map(|((_, name), value)| name.len() + value.len() + 4)
            .sum::<usize>();
        for node in element.nodes() {
            match node {
                Node::Element(child) => open.push(child),
                Node::Text(text) => bytes += text.len(),
            }
        }
    }
    bytes
}

/// The beginning of a text, at most `bytes` long, cut between characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_text_attributes_and_depth() {
        let element: Element = "<a xmlns='x' b='123'><c>äö</c></a>".parse().unwrap();
        let written = String::from(&element).len();
        assert!(size(&element).abs_diff(written) < 16, "{} against {written}", size(&element));
    }

    #[test]
    fn cuts_between_characters() {
        for (text, bytes, expected) in
            [("abc", 2, "ab"), ("aä", 2, "a"), ("a", 9, "a"), ("", 0, "")]
        {
            assert_eq!(cut(text, bytes), expected);
        }
    }
}
