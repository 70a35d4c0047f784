//! SIP user agent building blocks without IO: messages, transactions, dialogs, SDP.

pub mod flow;
