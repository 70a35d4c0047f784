//! Sessions that ended without saying so, and the link that was away (XEP-0045 §11.1, XEP-0410).
//!
//! XEP-0114 has no resumption: when the link comes back, every session is pinged at a steady pace,
//! who does not answer is out, and who answers is told again who is here. When the server itself
//! was away, everyone's session ended and most of them come back in a moment; so a session that is
//! found gone right after is asked once more, lest a room lose all its people at once and end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use jid::FullJid;
use minidom::Element;

use crate::id::{Nick, RoomName};

/// What is being found out about sessions.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// Still to be pinged.
    queue: VecDeque<(RoomName, FullJid)>,
    /// When the next of them are.
    next: Option<Instant>,
    /// Pinged, by serial number and so by deadline.
    waiting: BTreeMap<u64, Ping>,
    serial: u64,
    /// The link is away.
    down: bool,
    /// Until when who seems to be gone gets another chance.
    grace: Option<Instant>,
    /// Who gets one.
    doubtful: BTreeSet<(RoomName, FullJid)>,
    /// Nicks that vanished while the link was away, so that nobody was told.
    missed: BTreeMap<RoomName, BTreeSet<Nick>>,
    missed_in_all: usize,
}

/// One ping on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ping {
    pub(super) room: RoomName,
    pub(super) chat: FullJid,
    deadline: Instant,
}

impl Ghosts {
    /// The link went away: what is on its way will never arrive.
    pub(super) fn link_down(&mut self) {
        self.down = true;
        self.queue.clear();
        self.waiting.clear();
        self.doubtful.clear();
        (self.next, self.grace) = (None, None);
    }

    /// The link is back: `sessions` are those that were here before.
    pub(super) fn link_up<'a>(
        &mut self,
        now: Instant,
        sessions: impl Iterator<Item = (&'a RoomName, &'a FullJid)>,
    ) {
        self.down = false;
        self.waiting.clear();
        self.queue = sessions.map(|(room, chat)| (room.clone(), chat.clone())).collect();
        self.next = (!self.queue.is_empty()).then_some(now);
        self.grace = self.next.map(|now| now + GRACE);
        self.settle();
    }

    /// Whether a session that seems to be gone is to be given up; else it is asked once more when
    /// the time of grace is over.
    pub(super) fn gives_up(&mut self, now: Instant, room: &RoomName, chat: &FullJid) -> bool {
        let over = self.grace.is_none_or(|grace| now >= grace);
        if !over {
            self.doubtful.insert((room.clone(), chat.clone()));
        }
        over
    }

    /// A nick is no more; if nobody can be told, they will be when the link is back.
    pub(super) fn vanished(&mut self, room: &RoomName, nick: &Nick) {
        if self.down
            && self.missed_in_all < MAX_MISSED
            && self.missed.entry(room.clone()).or_default().insert(nick.clone())
        {
            self.missed_in_all += 1;
        }
    }

    /// What vanished in a room while the link was away.
    pub(super) fn missed(&self, room: &RoomName) -> impl Iterator<Item = &Nick> {
        self.missed.get(room).into_iter().flatten()
    }

    /// The next sessions to ping, with the number of each ping.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(u64, RoomName, FullJid)> {
        if self.grace.is_some_and(|grace| now >= grace) {
            self.grace = None;
            self.queue.extend(std::mem::take(&mut self.doubtful));
            self.next = self.next.or((!self.queue.is_empty()).then_some(now));
        }
        if self.next.is_none_or(|next| now < next) {
            return vec![];
        }
        let batch = self.queue.len().min(BATCH);
        let due: Vec<_> = self
            .queue
            .drain(..batch)
            .map(|(room, chat)| {
                self.serial += 1;
                let ping =
                    Ping { room: room.clone(), chat: chat.clone(), deadline: now + PATIENCE };
                self.waiting.insert(self.serial, ping);
                (self.serial, room, chat)
            })
            .collect();
        self.next = (!self.queue.is_empty()).then_some(now + PACE);
        due
    }

    /// The ping that an answer with this id is for.
    pub(super) fn answered(&mut self, id: &str, by: &FullJid) -> Option<Ping> {
        let serial = id.strip_prefix(PING_ID)?.parse().ok()?;
        if self.waiting.get(&serial).is_none_or(|ping| ping.chat != *by) {
            return None;
        }
        self.waiting.remove(&serial)
    }

    /// The pings that nobody answered in time.
    pub(super) fn lost(&mut self, now: Instant) -> Vec<Ping> {
        let mut lost = vec![];
        while let Some(first) = self.waiting.first_entry()
            && first.get().deadline <= now
        {
            lost.push(first.remove());
        }
        lost
    }

    /// Forgets what was missed once everyone has answered or is out.
    pub(super) fn settle(&mut self) {
        let all_known =
            self.queue.is_empty() && self.waiting.is_empty() && self.doubtful.is_empty();
        if !self.down && all_known {
            self.missed.clear();
            self.missed_in_all = 0;
        }
    }

    /// When [`Self::due`] or [`Self::lost`] has something next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadline = self.waiting.values().next().map(|ping| ping.deadline);
        [self.next, self.grace, deadline].into_iter().flatten().min()
    }
}

/// Whether an error that came back says that its sender is gone (XEP-0045 §18.1.2). A full address
/// without a session gives `service-unavailable` (RFC 6121 §8.5.3.2).
pub(super) fn says_gone(stanza: &Element) -> bool {
    let Some(error) = stanza.children().find(|child| child.name() == "error") else { return false };
    error.children().any(|condition| GONE.contains(&condition.name()))
}

const GONE: [&str; 7] = [
    "gone",
    "item-not-found",
    "recipient-unavailable",
    "redirect",
    "remote-server-not-found",
    "remote-server-timeout",
    "service-unavailable",
];

/// What the id of our pings begins with.
pub(super) const PING_ID: &str = "alive-";
/// How many sessions are pinged at once, …
const BATCH: usize = 20;
/// … and how long after the ones before: 200 a second.
const PACE: Duration = Duration::from_millis(100);
/// How long a session has to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long after the link came back who seems to be gone gets another chance.
const GRACE: Duration = Duration::from_secs(15);
/// How many nicks that vanished while the link was away are remembered.
const MAX_MISSED: usize = 10_000;
