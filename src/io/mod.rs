//! Everything that touches the outside world.

pub mod http;
pub mod sip;
pub mod store;
pub mod xmpp;
