//! The whole server as one value: an [`Input`] goes in, an [`Outbox`] fills, nothing else happens.

use cusax_sip::flow::{Flow, Transmit};
use cusax_sip::message::Message;
use cusax_sip::parse::ParseError;
use minidom::Element;

use crate::admin;
use crate::journal::Row;
use crate::mixer::plan::{Order, Report};
use crate::muc::Rejected;

/// Everything that can happen to the server.
#[derive(Debug)]
pub enum Input {
    /// The XMPP server handed us a stanza.
    Stanza(Element),
    /// The XMPP link skipped a stanza that breaks a limit.
    Rejected(Rejected),
    /// The link to the XMPP server is up, or down.
    Link(bool),
    /// A message arrived over SIP, or something that should have been one.
    Sip {
        /// On which flow.
        flow: Flow,
        /// The message, or how far it could be read.
        message: Result<Message, ParseError>,
    },
    /// What was sent on a flow, or to a place, could not be delivered (RFC 3261 §17.1.4).
    SipFailed {
        /// Where.
        flow: Flow,
    },
    /// The mixer reports.
    Media(Report),
    /// An operator asks.
    Admin(admin::Request),
    /// Take nobody new.
    Drain,
}

/// Everything that the server asks of the world: one list for each wire.
///
/// The shell empties them in this order: `media` first, so that who was muted is silent before
/// anyone is told; `store` next, so that nothing is acknowledged that could be lost; then the wires.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To the media workers.
    pub media: Vec<Order>,
    /// To the store, one transaction.
    pub store: Vec<Row>,
    /// To the XMPP server, in order.
    pub stanzas: Vec<Element>,
    /// To SIP peers, in order.
    pub sip: Vec<Transmit>,
    /// Answers to operators.
    pub admin: Vec<admin::Response>,
    /// For those who watch events.
    pub events: Vec<admin::Event>,
}
