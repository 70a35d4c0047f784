//! Saving changes, without making anyone wait for a store that is stuck.
//!
//! As long as the store is quick, a change is written before anyone is told of it. When it is not,
//! the loop goes on without it: changes are kept in memory, in order, and written when it is back.

use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, timeout};

use super::store::Store;
use crate::journal::{Row, Snapshot};

/// The store, and what it did not take yet.
#[derive(Debug)]
pub(super) struct Saver {
    /// `None` while it writes.
    store: Option<Store>,
    writing: Option<JoinHandle<Written>>,
    /// Changes since the last write began, oldest first.
    unsaved: Vec<Row>,
    /// Too many changes were not taken to be kept one by one: all is to be written anew. Of
    /// `unsaved`, what takes something out of archives is still kept, and new messages for them are
    /// lost.
    stale: bool,
    /// When to try again after a failure.
    retry: Option<Instant>,
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
}

/// What was to be written.
#[derive(Debug)]
enum Job {
    Changes(Vec<Row>),
    /// What is erased from archives, and everything else.
    Everything(Vec<Row>, Snapshot),
}

/// The store after writing, what was to be written, and how that went.
type Written = (Store, Job, Result<()>);

impl Saver {
    pub(super) fn new(store: Store) -> Self {
        Self { store: Some(store), writing: None, unsaved: vec![], stale: false, retry: None }
    }

    /// Writes changes, after those that were not taken before. `everything` is asked for if there
    /// are more of them than are kept. Waits for [`PATIENCE`] at most, and not at all for a store
    /// that has been stuck since an earlier call.
    pub(super) async fn save(
        &mut self,
        rows: &mut Vec<Row>,
        everything: impl FnOnce() -> Snapshot,
    ) -> Saved {
        self.keep(rows);
        if let Some(writing) = self.writing.take_if(|writing| writing.is_finished())
            && let Err(why) = self.settle(writing.await)
        {
            return Saved::Failed(why);
        }
        let early = self.retry.is_some_and(|retry| Instant::now() < retry);
        if self.writing.is_some() || early {
            return Saved::Waiting;
        }
        if self.unsaved.is_empty() && !self.stale {
            return Saved::All;
        }
        self.begin(everything);
        self.finish(PATIENCE).await
    }

    /// How many changes the store did not take yet.
    pub(super) fn waiting(&self) -> usize {
        self.unsaved.len()
    }

    /// Saves what is left and closes the store in good order.
    pub(super) async fn close(mut self, everything: impl FnOnce() -> Snapshot) -> Result<()> {
        if self.writing.is_some()
            && let Saved::Failed(why) = self.finish(LAST_PATIENCE).await
        {
            return Err(why);
        }
        if !self.unsaved.is_empty() || self.stale {
            self.begin(everything);
            if let Saved::Failed(why) = self.finish(LAST_PATIENCE).await {
                return Err(why);
            }
        }
        match self.store {
            Some(store) => store.close().await,
            None => Ok(()),
        }
    }

    fn keep(&mut self, rows: &mut Vec<Row>) {
        self.unsaved.append(rows);
        self.stale |= self.unsaved.iter().map(weight).sum::<usize>() > MAX_UNSAVED;
        if self.stale {
            self.unsaved.retain(Row::erases);
            self.unsaved.truncate(MAX_UNSAVED);
        }
    }

    fn begin(&mut self, everything: impl FnOnce() -> Snapshot) {
        let Some(mut store) = self.store.take() else { return };
        let changes = std::mem::take(&mut self.unsaved);
        let job = match std::mem::take(&mut self.stale) {
            true => Job::Everything(changes, everything()),
            false => Job::Changes(changes),
        };
        self.writing = Some(tokio::spawn(async move {
            let done = match &job {
                Job::Changes(rows) => store.write(rows).await,
                Job::Everything(erasures, snapshot) => store.replace(erasures, snapshot).await,
            };
            (store, job, done)
        }));
    }

    async fn finish(&mut self, patience: Duration) -> Saved {
        let Some(mut writing) = self.writing.take() else { return Saved::All };
        match timeout(patience, &mut writing).await {
            Ok(written) => match self.settle(written) {
                Ok(()) => Saved::All,
                Err(why) => Saved::Failed(why),
            },
            Err(_) => {
                self.writing = Some(writing);
                Saved::Failed(anyhow!("the store is stuck"))
            }
        }
    }

    /// Takes the store back; what failed is kept for another time.
    fn settle(&mut self, written: Result<Written, JoinError>) -> Result<()> {
        let (store, job, done) = match written {
            Ok(written) => written,
            // A fault of ours, as if it had happened here.
            Err(fault) => std::panic::resume_unwind(fault.into_panic()),
        };
        self.store = Some(store);
        if done.is_ok() {
            self.retry = None;
            return Ok(());
        }
        self.retry = Some(Instant::now() + RETRY);
        let (mut earlier, stale) = match job {
            Job::Changes(rows) => (rows, false),
            Job::Everything(erasures, _) => (erasures, true),
        };
        self.stale |= stale;
        let mut later = std::mem::take(&mut self.unsaved);
        self.keep(&mut earlier);
        self.keep(&mut later);
        done
    }
}

/// How long a change waits to be written before it counts as kept in memory alone.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same, when there is no later.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(1);
/// Changes that wait for a failing store one by one.
const MAX_UNSAVED: usize = 10_000;

/// How many changes one counts as: a picture is as large as many others.
fn weight(row: &Row) -> usize {
    if matches!(row, Row::Avatar { avatar: Some(_), .. }) { 100 } else { 1 }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, SqliteConnection};

    use super::super::store::tests::Scratch;
    use std::sync::Arc;

    use super::*;
    use crate::directory::User;
    use crate::id::RoomName;
    use crate::room::avatar::{Avatar, MAX_AVATAR};

    fn user(number: usize) -> Row {
        Row::User(User {
            jid: format!("user{number}@example.org").parse().unwrap(),
            aor: format!("sip:{number}@example.org").parse().unwrap(),
            name: None,
            secret: None,
        })
    }

    async fn users(scratch: &Scratch) -> usize {
        Store::open(&scratch.url()).await.unwrap().load().await.unwrap().users.len()
    }

    fn nothing() -> Snapshot {
        Snapshot::default()
    }

    #[tokio::test]
    async fn a_stuck_store_holds_nobody_up_and_loses_nothing() {
        let scratch = Scratch::new("stuck");
        let mut saver = Saver::new(Store::open(&scratch.url()).await.unwrap());
        assert!(matches!(saver.save(&mut vec![user(1)], nothing).await, Saved::All));

        let mut other = SqliteConnection::connect(&scratch.url()).await.unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
        let began = Instant::now();
        assert!(matches!(saver.save(&mut vec![user(2)], nothing).await, Saved::Failed(_)));
        assert!(began.elapsed() < 2 * PATIENCE);
        let began = Instant::now();
        for number in 3..100 {
            let saved = saver.save(&mut vec![user(number)], nothing).await;
            assert!(matches!(saved, Saved::Waiting), "{saved:?}");
        }
        assert!(began.elapsed() < PATIENCE, "only the first one waits");

        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
        saver.close(nothing).await.unwrap();
        assert_eq!(users(&scratch).await, 99);
    }

    #[tokio::test]
    async fn what_is_too_much_to_keep_is_written_anew() {
        let scratch = Scratch::new("stale");
        let mut saver = Saver::new(Store::open(&scratch.url()).await.unwrap());
        saver.save(&mut vec![user(1)], nothing).await;
        let mut rows = (0..=MAX_UNSAVED).map(user).collect();
        let Row::User(last) = user(7) else { unreachable!() };
        let everything = || Snapshot { users: vec![last], ..Snapshot::default() };
        assert!(matches!(saver.save(&mut rows, everything).await, Saved::All));
        saver.close(nothing).await.unwrap();
        assert_eq!(users(&scratch).await, 1);
    }

    #[tokio::test]
    async fn pictures_count_as_what_they_take() {
        let scratch = Scratch::new("pictures");
        let mut saver = Saver::new(Store::open(&scratch.url()).await.unwrap());
        let room: RoomName = RoomName::new("cave").unwrap();
        let avatar = Avatar::new("image/png", vec![0; MAX_AVATAR]).map(Arc::new);
        saver.retry = Some(Instant::now() + Duration::from_secs(60));
        for most in [MAX_UNSAVED / 100, 1] {
            let picture = || Row::Avatar { room: room.clone(), avatar: avatar.clone() };
            let mut rows = std::iter::repeat_with(picture).take(most).collect();
            assert!(matches!(saver.save(&mut rows, nothing).await, Saved::Waiting));
            assert_eq!(saver.stale, most == 1);
        }
        assert_eq!(saver.unsaved, []);
    }

    #[tokio::test]
    async fn what_is_erased_is_erased_however_much_there_is_to_keep() {
        let scratch = Scratch::new("erased");
        let mut saver = Saver::new(Store::open(&scratch.url()).await.unwrap());
        let name = RoomName::new("cave").unwrap();
        let gone = Row::NoRoom(name);
        let mut rows: Vec<Row> = std::iter::once(gone.clone()).chain((0..10).map(user)).collect();
        saver.keep(&mut rows);
        assert_eq!(saver.unsaved.len(), 11);
        saver.keep(&mut (0..=MAX_UNSAVED).map(user).collect());
        assert_eq!((saver.stale, saver.unsaved.as_slice()), (true, [gone.clone()].as_slice()));
        // Nor is it forgotten when that is not taken either.
        let mut other = SqliteConnection::connect(&scratch.url()).await.unwrap();
        sqlx::raw_sql("ALTER TABLE users RENAME TO away").execute(&mut other).await.unwrap();
        assert!(matches!(saver.save(&mut vec![user(1)], nothing).await, Saved::Failed(_)));
        assert_eq!((saver.stale, saver.unsaved.as_slice()), (true, [gone].as_slice()));
        sqlx::raw_sql("ALTER TABLE away RENAME TO users").execute(&mut other).await.unwrap();
        saver.retry = None;
        assert!(matches!(saver.save(&mut vec![], nothing).await, Saved::All));
        assert_eq!((saver.stale, saver.unsaved.as_slice()), (false, [].as_slice()));
    }

    #[tokio::test]
    async fn a_store_that_refuses_is_asked_again_later() {
        let scratch = Scratch::new("refuses");
        let mut saver = Saver::new(Store::open(&scratch.url()).await.unwrap());
        let mut other = SqliteConnection::connect(&scratch.url()).await.unwrap();
        sqlx::raw_sql("ALTER TABLE users RENAME TO away").execute(&mut other).await.unwrap();
        assert!(matches!(saver.save(&mut vec![user(1)], nothing).await, Saved::Failed(_)));
        assert!(matches!(saver.save(&mut vec![user(2)], nothing).await, Saved::Waiting));
        sqlx::raw_sql("ALTER TABLE away RENAME TO users").execute(&mut other).await.unwrap();
        saver.retry = Some(Instant::now());
        assert!(matches!(saver.save(&mut vec![], nothing).await, Saved::All));
        saver.close(nothing).await.unwrap();
        assert_eq!(users(&scratch).await, 2);
    }
}
