//! What one stanza and one session may ask for; every limit has an answer (XEP-0045 §14.6).

use std::time::Duration;

use crate::rate::Rate;

/// The largest message that is passed on, in bytes. The server's own limit is far above.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;
/// The largest presence that is kept and passed on, in bytes.
pub(super) const MAX_PRESENCE: usize = 8 * 1024;
/// The longest reason that is passed on, in bytes.
pub(super) const MAX_REASON: usize = 1024;
/// Items of one `muc#admin` request.
pub(super) const MAX_ITEMS: usize = 256;
/// Items of one answer that lists rooms; the rest is read page by page (XEP-0059).
pub(super) const MAX_PAGE: usize = 100;
/// Affiliations that one message tells of (XEP-0463).
pub(super) const MAX_AFFILIATIONS_TOLD: usize = 200;
/// Addresses that a room gives for questions about it.
pub(super) const MAX_CONTACTS: usize = 10;
/// Users who have searched of late, in all.
pub(super) const MAX_SEARCHERS: usize = 1_024;
/// Words of one search.
pub(super) const MAX_TERMS: usize = 16;
/// How long they may be together, in bytes.
pub(super) const MAX_TERMS_SIZE: usize = 256;
/// The longest id of an iq that is kept until its answer comes, in bytes.
pub(super) const MAX_ID: usize = 1024;
/// Presences that are sent at once to tell a whole room what it may now see of all.
pub(super) const MAX_RESENT: usize = 10_000;
/// Invitations in one message (XEP-0045 §7.8.2).
pub(super) const MAX_INVITES: usize = 20;
/// Questions to archives that wait for an answer, in all.
pub(super) const MAX_QUERIES: usize = 4_096;
/// The same, of one user, who may come back to many rooms at once.
pub(super) const MAX_QUERIES_OF_ONE: usize = 64;
/// How long a question to an archive waits for its answer.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// Commands that wait for a form to be filled in, in all (XEP-0050).
pub(super) const MAX_SESSIONS: usize = 1_024;
/// The same, of one session of a client; one more gives up the oldest.
pub(super) const MAX_SESSIONS_OF_ONE: usize = 8;
/// How long a form may take to be filled in.
pub(super) const SESSION_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The rates of the chat face; over them, a stanza is answered with `policy-violation` or
/// `resource-constraint` and changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Messages of one session. Moderators may send four times as many.
    pub messages: Rate,
    /// Presence updates and nick changes of one session.
    pub presences: Rate,
    /// Iqs of one session to other occupants.
    pub iqs: Rate,
    /// Sessions entering one room.
    pub joins: Rate,
    /// Questions of one user to archives: a client that catches up asks page after page.
    pub queries: Rate,
    /// Searches of one user for rooms, each of which looks at all of them.
    pub searches: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        let rate =
            |interval_ms, burst| Rate { interval: Duration::from_millis(interval_ms), burst };
        Self {
            messages: rate(200, 20),
            presences: rate(1_000, 10),
            iqs: rate(50, 200),
            joins: rate(20, 200),
            queries: rate(50, 200),
            searches: rate(1_000, 10),
        }
    }
}
