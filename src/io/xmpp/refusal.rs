//! Stanzas that do not come in, and what their senders are told (RFC 6120 §8.3).

use minidom::Element;
use rxml::{Namespace, NcName};

use super::{CLIENT_NS, STANZA_ERROR_NS};

/// The addressing of a stanza: all that an error answer needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The element's local name.
    pub name: String,
    /// The `from` attribute.
    pub from: Option<String>,
    /// The `to` attribute.
    pub to: Option<String>,
    /// The `id` attribute.
    pub id: Option<String>,
    /// The `type` attribute.
    pub kind: Option<String>,
}

impl Head {
    /// Bytes that are kept of one attribute. A JID has at most 3071 (RFC 7622 §3.1); longer ones count as absent.
    pub const ATTRIBUTE_BYTES: usize = 3071;

    /// Reads it from a whole stanza.
    pub fn of(stanza: &Element) -> Self {
        let mut head = Self { name: stanza.name().to_owned(), ..Self::default() };
        for name in ["from", "to", "id", "type"] {
            if let Some(value) = stanza.attr(name) {
                head.set(name, value.to_owned());
            }
        }
        head
    }

    pub(super) fn set(&mut self, name: &str, value: String) {
        let attribute = match name {
            "from" => &mut self.from,
            "to" => &mut self.to,
            "id" => &mut self.id,
            "type" => &mut self.kind,
            _ => return,
        };
        *attribute = (value.len() <= Self::ATTRIBUTE_BYTES).then_some(value);
    }

    /// The error stanza that answers this one, if it may be answered at all: not an error or a result (RFC 6120
    /// §8.2.3, §8.3.1), not a presence that says good-bye, and not without a sender.
    pub fn error(&self, kind: &str, condition: &str) -> Option<Element> {
        let (from, to) = (self.from.as_deref()?, self.to.as_deref()?);
        if !self.is_answerable() {
            return None;
        }
        let mut error = Element::bare("error", CLIENT_NS);
        attribute(&mut error, "type", kind);
        error.append_child(Element::bare(condition, STANZA_ERROR_NS));
        let mut answer = Element::bare(self.name.as_str(), CLIENT_NS);
        attribute(&mut answer, "type", "error");
        attribute(&mut answer, "from", to);
        attribute(&mut answer, "to", from);
        if let Some(id) = &self.id {
            attribute(&mut answer, "id", id);
        }
        answer.append_child(error);
        Some(answer)
    }

    /// Whether its sender waits for something, and can be told that it will not come.
    pub(super) fn is_answerable(&self) -> bool {
        match (self.name.as_str(), self.kind.as_deref()) {
            ("iq", kind) => matches!(kind, Some("get" | "set")),
            ("message", kind) => kind != Some("error"),
            ("presence", kind) => !matches!(kind, Some("error" | "unavailable" | "unsubscribed")),
            _ => false,
        }
    }
}

/// Sets a plain attribute.
pub(super) fn attribute(element: &mut Element, name: &'static str, value: &str) {
    let name = NcName::try_from(name).expect("our attribute names are valid");
    element.attrs_mut().insert(Namespace::NONE, name, value.to_owned());
}

/// Why a stanza was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// More levels than [`Limits::depth`](super::Limits::depth).
    Depth,
    /// More bytes than [`Limits::stanza_bytes`](super::Limits::stanza_bytes).
    Size,
    /// An element with more attributes than [`Limits::attributes`](super::Limits::attributes).
    Attributes,
    /// A prefix that nobody declared, or another breach of Namespaces in XML 1.0.
    Namespaces,
}

/// A stanza that was skipped to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whom to answer.
    pub head: Head,
    /// With what.
    pub why: Refusal,
}

impl Refused {
    /// The stanza error for the sender, if there is one to tell.
    pub fn answer(&self) -> Option<Element> {
        match self.why {
            Refusal::Depth | Refusal::Size | Refusal::Attributes => {
                self.head.error("modify", "policy-violation")
            }
            Refusal::Namespaces => self.head.error("modify", "bad-request"),
        }
    }
}
