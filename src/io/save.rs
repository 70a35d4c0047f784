//! Saving changes, without making anyone wait for a store that is stuck.
//!
//! As long as the store is quick, a change is written before anyone is told of it. When it is not,
//! the loop goes on without it: changes are kept in memory, in order, and written when it is back.
//! When too much waits, [`Saver::is_full`] says so, and what would have to be kept is refused.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use minidom::{Element, Node};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, timeout_at};
use tracing::error;

use super::store::{NotWritten, Store};
use crate::journal::Row;

/// The store, and what it did not take yet.
#[derive(Debug)]
pub(super) struct Saver {
    /// `None` while it writes.
    store: Option<Store>,
    writing: Option<JoinHandle<Written>>,
    /// Changes since the last write began, oldest first.
    unsaved: VecDeque<Turn>,
    /// What waits, and what is being written.
    bytes: usize,
    changes: usize,
    /// When to try again after a failure.
    retry: Option<Instant>,
    /// So many turns are written one by one: the store will never take one of them.
    apart: usize,
}

/// How saving went.
#[derive(Debug)]
pub(super) enum Saved {
    /// Everything is in the store.
    All,
    /// Not yet.
    Waiting,
    /// The store failed, or is stuck; what it did not take is kept.
    Failed(Error),
    /// Another server has the store, for good.
    Taken,
}

/// The changes of one turn of the loop, written together or not at all.
#[derive(Debug)]
struct Turn {
    rows: Vec<Row>,
    bytes: usize,
}

/// The store after writing, what was to be written, and how that went.
type Written = (Store, Vec<Turn>, Result<(), NotWritten>);

impl Saver {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store: Some(store),
            writing: None,
            unsaved: VecDeque::new(),
            bytes: 0,
            changes: 0,
            retry: None,
            apart: 0,
        }
    }

    /// Writes changes, after those that were not taken before. Waits for [`PATIENCE`] at most, and not
    /// at all for a store that has been stuck since an earlier call.
    pub(super) async fn save(&mut self, rows: &mut Vec<Row>) -> Saved {
        self.keep(std::mem::take(rows));
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(writing) = self.writing.take_if(|writing| writing.is_finished())
                && let Err(why) = self.settle(writing.await)
            {
                return why.into();
            }
            let early = self.retry.is_some_and(|retry| Instant::now() < retry);
            if self.writing.is_some() || early {
                return Saved::Waiting;
            }
            if self.unsaved.is_empty() {
                return Saved::All;
            }
            self.begin();
            if let Err(why) = self.finish(until).await {
                return why.into();
            }
        }
    }

    /// How many changes the store did not take yet.
    pub(super) fn waiting(&self) -> usize {
        self.changes
    }

    /// Whether so much waits that nothing more is to be taken on that has to be kept.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > MAX_UNSAVED
    }

    /// Saves what is left and closes the store in good order.
    pub(super) async fn close(mut self) -> Result<()> {
        let until = Instant::now() + LAST_PATIENCE;
        loop {
            if self.writing.is_none() {
                if self.unsaved.is_empty() {
                    break;
                }
                self.begin();
            }
            self.finish(until).await?;
        }
        match self.store {
            Some(store) => store.close().await,
            None => Ok(()),
        }
    }

    fn keep(&mut self, mut rows: Vec<Row>) {
        if self.changes > 0 {
            // There will be others when there is time for it.
            rows.retain(|row| !matches!(row, Row::Sweep { .. }));
        }
        if rows.is_empty() {
            return;
        }
        let bytes = rows.iter().map(weight).sum();
        self.bytes += bytes;
        self.changes += rows.len();
        self.unsaved.push_back(Turn { rows, bytes });
    }

    fn begin(&mut self) {
        let Some(mut store) = self.store.take() else { return };
        let most = if self.apart > 0 { 1 } else { MAX_WRITTEN };
        let mut turns = vec![];
        let mut rows = 0;
        while rows < most
            && let Some(turn) = self.unsaved.pop_front()
        {
            rows += turn.rows.len();
            turns.push(turn);
        }
        self.writing = Some(tokio::spawn(async move {
            let rows: Vec<&Row> = turns.iter().flat_map(|turn| &turn.rows).collect();
            let done = store.write(&rows).await;
            drop(rows);
            (store, turns, done)
        }));
    }

    async fn finish(&mut self, until: Instant) -> Result<(), NotWritten> {
        let Some(mut writing) = self.writing.take() else { return Ok(()) };
        match timeout_at(until, &mut writing).await {
            Ok(written) => self.settle(written),
            Err(_) => {
                self.writing = Some(writing);
                Err(NotWritten::Away(anyhow!("the store is stuck")))
            }
        }
    }

    /// Takes the store back; what failed is kept for another time.
    fn settle(&mut self, written: Result<Written, JoinError>) -> Result<(), NotWritten> {
        let (store, turns, done) = match written {
            Ok(written) => written,
            // A fault of ours, as if it had happened here.
            Err(fault) => std::panic::resume_unwind(fault.into_panic()),
        };
        self.store = Some(store);
        self.retry = None;
        match &done {
            Ok(()) => {
                self.apart = self.apart.saturating_sub(turns.len());
                self.forget(&turns);
            }
            Err(NotWritten::Unfit(why)) if turns.len() == 1 => {
                error!(why = format!("{why:#}"), "a change that no store takes is lost");
                self.apart = self.apart.saturating_sub(1);
                self.forget(&turns);
            }
            Err(why) => {
                match why {
                    NotWritten::Unfit(_) => self.apart = turns.len(),
                    NotWritten::Away(_) | NotWritten::Taken => {
                        self.retry = Some(Instant::now() + RETRY);
                    }
                }
                for turn in turns.into_iter().rev() {
                    self.unsaved.push_front(turn);
                }
            }
        }
        done
    }

    fn forget(&mut self, turns: &[Turn]) {
        for turn in turns {
            self.bytes -= turn.bytes;
            self.changes -= turn.rows.len();
        }
    }
}

impl From<NotWritten> for Saved {
    fn from(why: NotWritten) -> Self {
        match why {
            NotWritten::Away(why) | NotWritten::Unfit(why) => Self::Failed(why),
            NotWritten::Taken => Self::Taken,
        }
    }
}

/// About how many bytes of memory a change takes while it waits.
fn weight(row: &Row) -> usize {
    let more = match row {
        Row::Archived { said, .. } => size(&said.payload.stanza),
        Row::Buried { tombstone, .. } => size(tombstone),
        Row::Avatar { avatar, .. } => avatar.as_ref().map_or(0, |avatar| avatar.data().len()),
        Row::Hats { hats, .. } => serde_json::to_string(hats).map_or(0, |text| text.len()),
        Row::Affiliation { reason, .. } => reason.as_ref().map_or(0, String::len),
        Row::Room(room) => {
            let subject = room.subject.as_ref().map_or(0, |(text, _, _)| text.len());
            room.settings.name.len() + room.settings.description.len() + subject
        }
        Row::NoRoom(_)
        | Row::Nick { .. }
        | Row::Request { .. }
        | Row::User(_)
        | Row::NoUser(_)
        | Row::Sweep { .. } => 0,
    };
    CHANGE + more
}

fn size(element: &Element) -> usize {
    let attributes = element.attrs().iter().map(|(_, value)| value.len());
    let nodes = element.nodes().map(|node| match node {
        Node::Element(element) => size(element),
        Node::Text(text) => text.len(),
    });
    CHANGE / 4 + attributes.sum::<usize>() + nodes.sum::<usize>()
}

/// How long a change waits to be written before it counts as kept in memory alone.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same, when there is no later.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);
/// Bytes of changes that wait for a failing store, before others are refused: some 10,000 messages.
const MAX_UNSAVED: usize = 16 << 20;
/// What any change takes, in bytes.
const CHANGE: usize = 512;
/// Changes of one transaction, give or take those of one turn: so few that it takes no time.
const MAX_WRITTEN: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::store::database::{Access, Connection, Place};
    use super::super::store::tests::postgres::Postgres;
    use super::super::store::tests::{Scratch, on_both};
    use super::*;
    use crate::directory::User;
    use crate::id::RoomName;
    use crate::room::avatar::{Avatar, MAX_AVATAR};

    on_both! {
        a_stuck_store_holds_nobody_up_and_loses_nothing
        a_store_that_refuses_is_asked_again_later
        a_change_that_no_store_takes_holds_up_no_other
        what_waits_has_a_limit_and_is_written_a_little_at_a_time
        another_server_ends_it
    }

    fn user(number: usize) -> Row {
        Row::User(User {
            jid: format!("user{number}@example.org").parse().unwrap(),
            aor: format!("sip:{number}@example.org").parse().unwrap(),
            name: None,
            secret: None,
        })
    }

    async fn users(url: &str) -> usize {
        Store::open(url).await.unwrap().load().await.unwrap().users.len()
    }

    async fn saver(scratch: &Scratch) -> Saver {
        Saver::new(Store::open(scratch.url()).await.unwrap())
    }

    async fn other(scratch: &Scratch) -> Connection {
        Place::parse(scratch.url()).unwrap().connect(Access::Write).await.unwrap()
    }

    async fn a_stuck_store_holds_nobody_up_and_loses_nothing(scratch: &Scratch) {
        let mut saver = saver(scratch).await;
        assert!(matches!(saver.save(&mut vec![user(1)]).await, Saved::All));

        let mut other = other(scratch).await;
        other.begin().await.unwrap();
        other.execute("UPDATE writer SET writes = writes", []).await.unwrap();
        let began = Instant::now();
        assert!(matches!(saver.save(&mut vec![user(2)]).await, Saved::Failed(_)));
        assert!(began.elapsed() < 2 * PATIENCE);
        let began = Instant::now();
        for number in 3..100 {
            let saved = saver.save(&mut vec![user(number)]).await;
            assert!(matches!(saved, Saved::Waiting), "{saved:?}");
        }
        assert!(began.elapsed() < PATIENCE, "only the first one waits");

        other.commit().await.unwrap();
        saver.close().await.unwrap();
        assert_eq!(users(scratch.url()).await, 99);
    }

    async fn a_store_that_refuses_is_asked_again_later(scratch: &Scratch) {
        let mut saver = saver(scratch).await;
        let mut other = other(scratch).await;
        other.run("ALTER TABLE users RENAME TO away").await.unwrap();
        assert!(matches!(saver.save(&mut vec![user(1)]).await, Saved::Failed(_)));
        assert!(matches!(saver.save(&mut vec![user(2)]).await, Saved::Waiting));
        other.run("ALTER TABLE away RENAME TO users").await.unwrap();
        saver.retry = Some(Instant::now());
        assert!(matches!(saver.save(&mut vec![]).await, Saved::All));
        assert_eq!((saver.waiting(), saver.bytes), (0, 0));
        saver.close().await.unwrap();
        assert_eq!(users(scratch.url()).await, 2);
    }

    async fn a_change_that_no_store_takes_holds_up_no_other(scratch: &Scratch) {
        let mut saver = saver(scratch).await;
        saver.retry = Some(Instant::now() + Duration::from_secs(60));
        let Row::User(mut taken) = user(1) else { unreachable!() };
        taken.jid = "other@example.org".parse().unwrap();
        for turn in [vec![user(1)], vec![user(2), Row::User(taken)], vec![user(3)]] {
            assert!(matches!(saver.save(&mut turn.clone()).await, Saved::Waiting));
        }
        saver.retry = None;
        let mut failures = 0;
        while !matches!(saver.save(&mut vec![]).await, Saved::All) {
            failures += 1;
            assert!(failures < 10);
        }
        assert_eq!((failures, saver.apart, saver.waiting(), saver.bytes), (2, 0, 0, 0));
        saver.close().await.unwrap();
        assert_eq!(users(scratch.url()).await, 2, "a turn is written whole or not at all");
    }

    async fn what_waits_has_a_limit_and_is_written_a_little_at_a_time(scratch: &Scratch) {
        let mut saver = saver(scratch).await;
        saver.retry = Some(Instant::now() + Duration::from_secs(60));
        let room: RoomName = RoomName::new("cave").unwrap();
        let avatar = Avatar::new("image/png", vec![0; MAX_AVATAR]).map(Arc::new);
        let picture = Row::Avatar { room, avatar };
        let pictures = MAX_UNSAVED / MAX_AVATAR;
        let waiting = saver.save(&mut vec![picture; pictures]).await;
        assert!(
            matches!(waiting, Saved::Waiting) && saver.is_full(),
            "pictures count as what they take"
        );
        saver.unsaved.clear();
        (saver.bytes, saver.changes) = (0, 0);

        let most = MAX_UNSAVED / CHANGE;
        let turns = 3 * MAX_WRITTEN / 100;
        for turn in 0..turns {
            saver.save(&mut (turn * 100..(turn + 1) * 100).map(user).collect()).await;
            saver.save(&mut vec![Row::Sweep { before: None }]).await;
        }
        assert_eq!(saver.waiting(), turns * 100, "sweeps do not wait");
        assert!(!saver.is_full());
        saver.keep(vec![user(0); most]);
        assert!(saver.is_full());
        saver.unsaved.pop_back();
        (saver.bytes, saver.changes) = (turns * 100 * CHANGE, turns * 100);
        saver.retry = None;
        saver.begin();
        let rows: usize = saver.unsaved.iter().map(|turn| turn.rows.len()).sum();
        assert_eq!(rows, turns * 100 - MAX_WRITTEN);
        saver.close().await.unwrap();
        assert_eq!(users(scratch.url()).await, turns * 100);
    }

    async fn another_server_ends_it(scratch: &Scratch) {
        let mut saver = saver(scratch).await;
        let mut other = other(scratch).await;
        other.execute("UPDATE writer SET number = number + 1", []).await.unwrap();
        for _ in 0..2 {
            saver.retry = None;
            assert!(matches!(saver.save(&mut vec![user(1)]).await, Saved::Taken));
        }
        saver.close().await.unwrap_err();
    }

    /// A server that stops in order, and one that dies, are both waited for.
    #[tokio::test]
    async fn a_server_that_went_away_and_came_back_has_everything() {
        let Some(server) = Postgres::start() else { return };
        let url = server.database("away");
        let mut saver = Saver::new(Store::open(&url).await.unwrap());
        for (number, mode) in ["fast", "immediate"].into_iter().enumerate() {
            assert!(matches!(saver.save(&mut vec![user(2 * number)]).await, Saved::All));
            server.stop(mode);
            let saved = saver.save(&mut vec![user(2 * number + 1)]).await;
            assert!(matches!(saved, Saved::Failed(_)), "{saved:?}");
            saver.retry = None;
            assert!(matches!(saver.save(&mut vec![]).await, Saved::Failed(_)), "it is still away");
            server.resume();
            saver.retry = None;
            let saved = saver.save(&mut vec![]).await;
            assert!(matches!(saved, Saved::All), "{saved:?}");
        }
        saver.close().await.unwrap();
        assert_eq!(users(&url).await, 4);
    }
}
