//! Why not, in the words of XMPP: `Refusal` to stanza error, one small table (XEP-0045 §16).

use std::borrow::Cow;

use jid::{BareJid, Jid};
use minidom::Element;
use xmpp_parsers::stanza_error::{DefinedCondition, ErrorType, StanzaError};

use super::stanza::Head;
use super::xml::{Xml, ns};
use crate::room::Refusal;

/// A stanza error (RFC 6120 §8.3).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    kind: ErrorType,
    condition: DefinedCondition,
    /// For people.
    text: Cow<'static, str>,
    /// What an extension has to say besides (RFC 6120 §8.3.4): an element's name and namespace.
    detail: Option<(&'static str, &'static str)>,
}

impl Fault {
    const fn new(kind: ErrorType, condition: DefinedCondition, text: &'static str) -> Self {
        Self { kind, condition, text: Cow::Borrowed(text), detail: None }
    }

    /// What was sent breaks the syntax of its protocol.
    pub(super) const fn bad_request(text: &'static str) -> Self {
        Self::new(ErrorType::Modify, DefinedCondition::BadRequest, text)
    }

    /// What was sent is well formed and its values make no sense here.
    pub(super) const fn not_acceptable(text: &'static str) -> Self {
        Self::new(ErrorType::Modify, DefinedCondition::NotAcceptable, text)
    }

    /// An address that can be none, or that lacks a part.
    pub(super) const fn jid_malformed(text: &'static str) -> Self {
        Self::new(ErrorType::Modify, DefinedCondition::JidMalformed, text)
    }

    /// A limit on size or number is exceeded.
    pub(super) const fn too_big(text: &'static str) -> Self {
        Self::new(ErrorType::Modify, DefinedCondition::PolicyViolation, text)
    }

    /// A limit on rate is exceeded.
    pub(super) const fn too_fast(text: &'static str) -> Self {
        Self::new(ErrorType::Wait, DefinedCondition::PolicyViolation, text)
    }

    /// It cannot be done at the moment.
    pub(super) const fn busy(text: &'static str) -> Self {
        Self::new(ErrorType::Wait, DefinedCondition::ResourceConstraint, text)
    }

    /// Nothing answers this at this address (RFC 6120 §8.4).
    pub(super) const fn unavailable() -> Self {
        Self::new(ErrorType::Cancel, DefinedCondition::ServiceUnavailable, "")
    }

    /// No such room, person or node.
    pub(super) const fn not_found(text: &'static str) -> Self {
        Self::new(ErrorType::Cancel, DefinedCondition::ItemNotFound, text)
    }

    /// Only an occupant may do that (XEP-0045 §7.4, §7.5; XEP-0410 §3).
    pub(super) const fn not_here() -> Self {
        Self::new(ErrorType::Cancel, DefinedCondition::NotAcceptable, "You are not in this room.")
    }

    /// The asker's standing does not allow it.
    pub(super) const fn forbidden(text: &'static str) -> Self {
        Self::new(ErrorType::Auth, DefinedCondition::Forbidden, text)
    }

    /// Whoever was to answer did not.
    pub(super) const fn no_answer() -> Self {
        Self::new(ErrorType::Wait, DefinedCondition::RemoteServerTimeout, "There came no answer.")
    }

    /// A known extension that this service leaves out.
    pub(super) const fn not_implemented() -> Self {
        Self::new(ErrorType::Cancel, DefinedCondition::FeatureNotImplemented, "")
    }

    /// Another resource has it (RFC 6120 §8.3.3.2).
    pub(super) const fn conflict(text: &'static str) -> Self {
        Self::new(ErrorType::Cancel, DefinedCondition::Conflict, text)
    }

    /// Nobody may do it at this moment.
    pub(super) const fn not_allowed(text: &'static str) -> Self {
        Self::new(ErrorType::Cancel, DefinedCondition::NotAllowed, text)
    }

    /// The same, which the sender can mend by asking for something else.
    pub(super) const fn mendable(mut self) -> Self {
        self.kind = ErrorType::Modify;
        self
    }

    /// The same with what an extension has to say besides.
    pub(super) const fn detail(mut self, name: &'static str, ns: &'static str) -> Self {
        self.detail = Some((name, ns));
        self
    }

    /// The same in other words.
    pub(super) fn saying(mut self, text: String) -> Self {
        self.text = text.into();
        self
    }

    /// The `<error/>` element.
    pub(super) fn element(&self, by: Option<BareJid>) -> Element {
        let mut error =
            StanzaError::new(self.kind.clone(), self.condition.clone(), "en", self.text.as_ref());
        error.by = by.map(Jid::from);
        error.other = self.detail.map(|(name, ns)| Element::bare(name, ns));
        if self.text.is_empty() {
            error.texts.clear();
        }
        error.into()
    }

    /// The stanza that tells the sender: `name` is that of the stanza which cannot be done, `echo`
    /// what of it comes back (RFC 6120 §8.3.1), `by` the room if there is one.
    pub(super) fn bounce(
        &self,
        name: &str,
        head: &Head,
        echo: impl IntoIterator<Item = Element>,
        by: Option<BareJid>,
    ) -> Element {
        Xml::new(name, ns::CLIENT)
            .attr("from", head.to.as_str())
            .attr("to", head.from.as_str())
            .attr("type", "error")
            .maybe("id", head.id.as_ref())
            .children(echo)
            .child(self.element(by))
            .into()
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        use DefinedCondition as Condition;
        use ErrorType::{Auth, Cancel, Modify, Wait};
        match refusal {
            Refusal::NoSuchRoom => {
                Self::new(Cancel, Condition::ItemNotFound, "There is no such room.")
            }
            // §7.2.10
            Refusal::NotConfigured => Self::new(
                Cancel,
                Condition::ItemNotFound,
                "This room is locked until its owner has configured it.",
            ),
            // §10.1.1
            Refusal::MayNotCreate => {
                Self::new(Cancel, Condition::NotAllowed, "You may not create rooms here.")
            }
            // §7.2.7
            Refusal::Banned => {
                Self::new(Auth, Condition::Forbidden, "You are banned from this room.")
            }
            // §7.2.6
            Refusal::MembersOnly => {
                Self::new(Auth, Condition::RegistrationRequired, "This room is for members only.")
            }
            // §7.2.5
            Refusal::WrongPassword => {
                Self::new(Auth, Condition::NotAuthorized, "This room needs a password.")
            }
            Refusal::Locked => Self::new(
                Wait,
                Condition::ServiceUnavailable,
                "A moderator locked this room: nobody new is let in.",
            ),
            // §7.2.9
            Refusal::Full => Self::new(Wait, Condition::ServiceUnavailable, "This room is full."),
            // §7.2.8, §7.6
            Refusal::NickTaken => {
                Self::new(Cancel, Condition::Conflict, "That nickname belongs to somebody else.")
            }
            Refusal::AlreadyCalled => {
                Self::new(Cancel, Condition::Conflict, "That address is being called already.")
            }
            Refusal::MayNotBeCalled => {
                Self::new(Cancel, Condition::NotAllowed, "That address may not be called.")
            }
            Refusal::NoSuchCall => Self::new(Cancel, Condition::ItemNotFound, "That call is over."),
            Refusal::NoCalls => {
                Self::new(Cancel, Condition::NotAllowed, "This room takes and makes no calls.")
            }
            Refusal::NoCommonMedia => Self::new(Modify, Condition::NotAcceptable, ""),
            // §7.4, §7.5
            Refusal::NotHere => Self::not_here(),
            Refusal::NoSuchPerson => {
                Self::new(Cancel, Condition::ItemNotFound, "Nobody here has that nickname.")
            }
            Refusal::RoomsOwnHat => {
                Self::not_allowed("That hat would say what only the room itself says of calls.")
            }
            Refusal::NoSuchHat => {
                Self::new(Cancel, Condition::ItemNotFound, "There is no such hat.")
            }
            // §8 to §10
            Refusal::Forbidden => Self::forbidden("Your role and affiliation do not allow this."),
            // §8.2, §8.4, §9.1, §9.7
            Refusal::NotAllowed => {
                Self::new(Cancel, Condition::NotAllowed, "This cannot be done to that person.")
            }
            // §8.2, §9.1
            Refusal::NotToYourself => {
                Self::new(Cancel, Condition::Conflict, "You cannot do this to yourself.")
            }
            // §10.4
            Refusal::LastOwner => {
                Self::new(Cancel, Condition::Conflict, "A room needs at least one owner.")
            }
            // §7.4
            Refusal::NoVoice => {
                Self::new(Auth, Condition::Forbidden, "You have no voice in this room.")
            }
            // XEP-0500 §6
            Refusal::TooSoon { pace_s } => {
                let text = format!("This room is slow: wait {pace_s} s between two messages.");
                Self::too_fast("").saying(text)
            }
            // §7.10
            Refusal::MayNotRegister => Self::new(
                Cancel,
                Condition::NotAllowed,
                "Only its admins make members of this room.",
            ),
            // §10.1.3
            Refusal::BadSettings => {
                Self::not_acceptable("These settings contradict each other or exceed a limit.")
            }
            Refusal::TooMany => Self::new(
                Wait,
                Condition::ResourceConstraint,
                "A limit of this service is reached.",
            ),
            Refusal::Draining => Self::new(
                Wait,
                Condition::ServiceUnavailable,
                "This service is about to stop and lets nobody in.",
            ),
            Refusal::NotKept => Self::busy(
                "This service cannot store anything at the moment, and this would have to be stored.",
            ),
        }
    }
}
