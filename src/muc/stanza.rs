//! The head of a stanza: who says something to whom, and what at our domain that names.

use jid::{BareJid, DomainRef, FullJid, Jid};
use minidom::Element;

use super::error::Fault;
use super::xml::{Xml, ns};
use crate::id::{Nick, RoomName};
use cusax::identity::Aor;

/// The attributes that every stanza has (RFC 6120 §8.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Who sent it.
    pub(super) from: Jid,
    /// What it was sent to.
    pub(super) to: Jid,
    /// Its id.
    pub(super) id: Option<String>,
    /// Its type.
    pub(super) kind: Option<String>,
}

/// What an address at our domain names.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Address {
    /// The service itself.
    Service,
    /// A room.
    Room(RoomName),
    /// An occupant of a room.
    Occupant(RoomName, Nick),
    /// A room with a resource that can be no nick.
    BadNick(RoomName),
    /// Nothing: the address that stands for a caller in the eyes of moderators, or a resource of
    /// the service. Neither takes stanzas.
    Nothing,
}

impl Head {
    /// The session that sent it.
    pub(super) fn chat(&self) -> Option<&FullJid> {
        self.from.try_as_full().ok()
    }

    /// The session that sent it, when only a session can be meant.
    pub(super) fn session(&self) -> Result<&FullJid, Fault> {
        self.chat().ok_or(Fault::bad_request("Only a full address can be in a room."))
    }

    /// Its type, `""` when it has none.
    pub(super) fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("")
    }

    /// What its addressee is.
    pub(super) fn address(&self) -> Address {
        let Some(node) = self.to.node() else {
            return if self.to.is_full() { Address::Nothing } else { Address::Service };
        };
        if Aor::from_escaped_node(node.as_str()).is_some() {
            return Address::Nothing;
        }
        let Ok(room) = RoomName::new(node.as_str()) else { return Address::Nothing };
        match self.to.resource().map(|nick| Nick::new(nick.as_str())) {
            None => Address::Room(room),
            Some(Ok(nick)) => Address::Occupant(room, nick),
            Some(Err(_)) => Address::BadNick(room),
        }
    }

    /// The room that an error speaks for.
    pub(super) fn room_jid(&self) -> Option<BareJid> {
        self.to.node().map(|_| self.to.to_bare())
    }

    /// The result of an iq.
    pub(super) fn result(&self, payload: Option<Element>) -> Element {
        Xml::new("iq", ns::CLIENT)
            .attr("from", self.to.as_str())
            .attr("to", self.from.as_str())
            .attr("type", "result")
            .maybe("id", self.id.as_ref())
            .children(payload)
            .into()
    }
}

/// The address under which a caller without JID is shown to those who may see addresses, so that
/// ordinary clients can ban them (XEP-0106 makes it a legal JID).
pub(super) fn caller_jid(aor: &Aor, domain: &DomainRef) -> Option<FullJid> {
    domain.with_node_str(&aor.escaped_node()).ok()?.with_resource_str("phone").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(to: &str) -> Head {
        Head { from: Jid::new("a@x/y").unwrap(), to: Jid::new(to).unwrap(), id: None, kind: None }
    }

    #[test]
    fn tells_what_an_address_names() {
        let room = || RoomName::new("room").unwrap();
        let nick = Nick::new("Nick").unwrap();
        for (to, expected) in [
            ("m.x", Address::Service),
            ("m.x/anything", Address::Nothing),
            ("Room@m.x", Address::Room(room())),
            ("room@m.x/Nick", Address::Occupant(room(), nick)),
            ("alice\\40example.org@m.x/phone", Address::Nothing),
        ] {
            assert_eq!(head(to).address(), expected, "{to}");
        }
        let long = format!("room@m.x/{}", "n".repeat(65));
        assert_eq!(head(&long).address(), Address::BadNick(room()));
    }

    #[test]
    fn shows_a_caller_under_an_address_that_reads_back() {
        let aor: Aor = "sip:o'brien@[::1]".parse().unwrap();
        let domain = jid::DomainPart::new("m.x").unwrap().into_owned();
        let jid = caller_jid(&aor, &domain).unwrap();
        assert_eq!(jid.as_str(), "o\\27brien\\40[\\3a\\3a1]@m.x/phone");
        assert_eq!(Aor::from_escaped_node(jid.node().unwrap().as_str()), Some(aor));
    }
}
