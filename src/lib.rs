//! A conference bridge joining XMPP chat rooms and SIP calls (CUSAX, RFC 7081).
//!
//! | read | to learn |
//! | --- | --- |
//! | [`room`] | what a conference is: commands in, facts out |
//! | [`directory`] | who is who on the two networks |
//! | [`dialplan`] | whom rooms may call |
//! | [`muc`] | how chat clients see it (XEP-0045) |
//! | [`focus`] | how phones see it (RFC 4579, RFC 4575) |
//! | [`admin`] | how operators see it |
//! | [`operation`] | what may be asked of a running server, by whichever way |
//! | [`provision`] | what clients are told to set up (RFC 7081 §2) |
//! | [`mixer`] | its audio, without sockets or threads |
//! | [`journal`] | what survives a restart |
//! | [`drain`] | going down in good order |
//! | [`reload`] | what a changed configuration changes while it runs |
//! | [`bridge`] | how one input travels through all of these |

pub mod admin;
pub mod archive;
pub mod bridge;
pub mod clock;
pub mod config;
pub mod dialplan;
pub mod directory;
pub mod display;
pub mod drain;
pub mod focus;
pub mod id;
#[cfg(feature = "io")]
pub mod io;
pub mod journal;
pub mod metrics;
pub mod mixer;
pub mod muc;
pub mod operation;
pub mod provision;
pub mod rate;
pub mod reload;
pub mod room;
pub mod stanzas;
