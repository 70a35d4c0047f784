//! Hats that owners make and give, as ad-hoc commands of a room (XEP-0317 §3), and how presence and
//! the room's description show them.

use cusax::hat;
use jid::Jid;
use minidom::Element;
use sha2::{Digest, Sha256};
use xmpp_parsers::data_forms::{Field, FieldType, Option_};

use super::error::Fault;
use super::form::{self, Submitted};
use super::xml::{Xml, ns};
use crate::room::hats::Look;
use crate::room::standing::Affiliation;
use crate::room::{Command, Room};

/// What is wished of hats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Make one, or change how it looks.
    Create,
    /// Take one from the room.
    Destroy,
    /// All of them.
    List,
    /// Give one to someone.
    Assign,
    /// Take one from someone.
    Unassign,
}

impl Wish {
    /// All of them, in the order in which they are listed.
    pub(super) const ALL: [Self; 5] =
        [Self::Create, Self::Destroy, Self::List, Self::Assign, Self::Unassign];

    /// The node of the command.
    pub(super) const fn node(self) -> &'static str {
        match self {
            Self::Create => "urn:xmpp:hats:commands:create",
            Self::Destroy => "urn:xmpp:hats:commands:destroy",
            Self::List => "urn:xmpp:hats:commands:list",
            Self::Assign => "urn:xmpp:hats:commands:assign",
            Self::Unassign => "urn:xmpp:hats:commands:unassign",
        }
    }

    /// What people read.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Create => "Make a hat, or change one",
            Self::Destroy => "Destroy a hat",
            Self::List => "List the hats",
            Self::Assign => "Give someone a hat",
            Self::Unassign => "Take a hat from someone",
        }
    }

    /// Owners make and give hats; whoever the room tells about itself may read which there are.
    pub(super) fn may(self, room: &Room, from: &Jid) -> bool {
        match self {
            Self::List => super::disco::tells(room, from),
            Self::Create | Self::Destroy | Self::Assign | Self::Unassign => {
                super::standing(room, from).1 >= Affiliation::Owner
            }
        }
    }

    /// What is asked.
    pub(super) fn fields(self, room: &Room) -> Vec<Field> {
        let field = |var, kind, label: &str, required| {
            let mut field = Field::new(var, kind);
            (field.label, field.required) = (Some(label.to_owned()), required);
            field
        };
        let which = || {
            let mut which = field(URI, FieldType::ListSingle, "Hat", true);
            let options = room.hats().iter();
            which.options = options
                .map(|(uri, look)| Option_ {
                    label: Some(look.title.clone()),
                    value: uri.to_owned(),
                })
                .collect();
            which
        };
        match self {
            Self::Create => vec![
                field(TITLE, FieldType::TextSingle, "Title", true),
                field(URI, FieldType::TextSingle, "URI", true),
                field(HUE, FieldType::TextSingle, "Hue, from 0 to 360", false),
            ],
            Self::Destroy => vec![which()],
            Self::List => vec![],
            Self::Assign | Self::Unassign => {
                vec![field(JID, FieldType::JidSingle, "Whose", true), which()]
            }
        }
    }

    /// What a form asks of the room; `None` if a list is all.
    pub(super) fn command(self, form: &Submitted) -> Result<Option<Command>, Fault> {
        let text = |var| form.text(var).map(str::trim).filter(|text| !text.is_empty());
        let needed = |var, what: &'static str| text(var).ok_or(Fault::bad_request(what));
        let uri = || needed(URI, "A hat has a URI.").map(str::to_owned);
        let jid = || {
            let jid = Jid::new(needed(JID, "Whose hat is it?")?);
            jid.map(|jid| jid.to_bare())
                .map_err(|_| Fault::jid_malformed("A hat is given to an address."))
        };
        Ok(match self {
            Self::Create => {
                let title = needed(TITLE, "A hat has a title.")?.to_owned();
                let look = Look { title, hue: text(HUE).map(str::to_owned) };
                Some(Command::MakeHat { uri: uri()?, look })
            }
            Self::Destroy => Some(Command::DestroyHat { uri: uri()? }),
            Self::List => None,
            Self::Assign => Some(Command::GiveHat { jid: jid()?, uri: uri()?, on: true }),
            Self::Unassign => Some(Command::GiveHat { jid: jid()?, uri: uri()?, on: false }),
        })
    }
}

/// All hats of a room as a table (XEP-0317 §3.4).
pub(super) fn listed(room: &Room) -> Element {
    let field = |var: &str| Xml::new("field", ns::DATA_FORMS).attr("var", var);
    let items = room.hats().iter().map(|(uri, look)| {
        let value = |text: &str| Xml::new("value", ns::DATA_FORMS).text(text);
        Xml::new("item", ns::DATA_FORMS)
            .child(field(TITLE).child(value(&look.title)))
            .child(field(URI).child(value(uri)))
            .children(look.hue.as_deref().map(|hue| field(HUE).child(value(hue))))
    });
    Xml::new("x", ns::DATA_FORMS)
        .attr("type", "result")
        .child(Xml::new("title", ns::DATA_FORMS).text("Hats"))
        .child(Xml::new("reported", ns::DATA_FORMS).children([TITLE, URI, HUE].map(field)))
        .children(items)
        .into()
}

/// Changes when a hat of the room does (XEP-0317 §2); `None` if there is none.
pub(super) fn hash(room: &Room) -> Option<Field> {
    if room.hats().is_empty() {
        return None;
    }
    let mut sum = Sha256::new();
    for (uri, look) in room.hats().iter() {
        for part in [uri, &look.title, look.hue.as_deref().unwrap_or("")] {
            sum.update(part.as_bytes());
            sum.update([0]);
        }
    }
    let sum: String = sum.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Some(form::field("hats#hash", FieldType::TextSingle, "Changes when the hats do", &sum))
}

/// A hat in presence.
pub(super) fn worn(uri: &str, look: &Look) -> Xml {
    Xml::new("hat", hat::NS)
        .attr("uri", uri)
        .attr("title", &look.title)
        .maybe("hue", look.hue.as_deref())
}

/// The `FORM_TYPE` of these forms.
pub(super) const FORM_TYPE: &str = "urn:xmpp:hats:commands";
const TITLE: &str = "hats#title";
const URI: &str = "hats#uri";
const HUE: &str = "hats#hue";
const JID: &str = "hats#jid";
