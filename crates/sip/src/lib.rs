//! SIP user agent building blocks without IO: messages, transactions, dialogs, SDP.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`uri`] | who and where: SIP, SIPS and tel URIs, their comparison |
//! | [`header`] | the ordered header list and the typed values in it |
//! | [`message`] | requests and responses, building and printing them |
//! | [`parse`] | one datagram, or one framed message, into a [`message::Message`] |
//! | [`frame`] | a byte stream into messages (TCP, TLS) |
//! | [`digest`] | authentication, both ends (RFC 8760) |
//! | [`flow`] | where messages come from and go to |
//! | [`endpoint`] | messages in, events out: transactions, dialogs, subscriptions |
//! | [`sdp`] | session descriptions and the offer/answer model (RFC 3264) |
//!
//! Nothing here reads a clock, a socket or a random device: time and randomness are arguments.

mod agenda;
mod dialog;
pub mod digest;
pub mod endpoint;
pub mod flow;
pub mod frame;
pub mod header;
mod invite;
pub mod message;
pub mod parse;
pub mod register;
mod reliable;
mod scan;
pub mod sdp;
mod session;
mod subscriber;
mod subscription;
mod table;
mod transaction;
mod update;
pub mod uri;
