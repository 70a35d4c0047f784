//! How chat clients see rooms: XEP-0045 and its neighbours.
//!
//! Three functions, as for every face: `decode` what they ask, `answer` the asker, `render` to
//! everyone what became true. It knows stanzas and rooms, and nothing of sockets or of SIP.

use jid::Jid;

/// A stanza that the link skipped because it breaks a limit: enough of it to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// `iq`, `message` or `presence`, or whatever it was.
    pub name: String,
    /// Its sender.
    pub from: Option<Jid>,
    /// Its addressee.
    pub to: Option<Jid>,
    /// Its id.
    pub id: Option<String>,
    /// Its type.
    pub kind: Option<String>,
    /// Which limit, for people.
    pub why: &'static str,
}
