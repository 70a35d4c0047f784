//! A conference bridge joining XMPP chat rooms and SIP calls.

#[cfg(feature = "io")]
pub mod io;
