//! Reads archives for whoever asks, on a connection of its own: neither the loop nor the one writer
//! waits for a search.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::sqlite::SqliteRow;
use sqlx::{ConnectOptions, Row as _, SqliteConnection};
use tokio::sync::mpsc;
use tracing::warn;

use super::store::{options, read_said, seconds};
use crate::archive::{
    Answer, End, Filter, Found, From, Loaded, MAX_COUNT, MAX_PAGE_BYTES, Page, Query, What, With,
};
use crate::bridge::Input;
use crate::id::RoomName;

/// The way to a task that answers queries, one after the other.
#[derive(Debug)]
pub(super) struct Archive {
    queries: mpsc::Sender<Query>,
}

impl Archive {
    /// Opens the database of a `sqlite:` URL, which the store has brought up to date. Answers go to
    /// `inputs`.
    pub(super) async fn open(url: &str, inputs: mpsc::Sender<Input>) -> Result<Self> {
        let mut reader = Reader::open(url).await?;
        let (queries, mut asked) = mpsc::channel::<Query>(MAX_WAITING);
        tokio::spawn(async move {
            while let Some(Query { id, room, what }) = asked.recv().await {
                let answer = reader.answer(&room, &what).await.unwrap_or_else(|why| {
                    warn!(%room, why = format!("{why:#}"), "the archive cannot be read");
                    Answer::Failed
                });
                if inputs.send(Input::Loaded(Loaded { id, answer })).await.is_err() {
                    break;
                }
            }
        });
        Ok(Self { queries })
    }

    /// Asks; what comes back at once is a refusal.
    pub(super) fn ask(&self, query: Query) -> Option<Loaded> {
        let id = query.id;
        self.queries.try_send(query).err().map(|_| Loaded { id, answer: Answer::Failed })
    }
}

/// A connection that reads.
#[derive(Debug)]
struct Reader {
    connection: SqliteConnection,
}

/// The messages that a query admits, as bounds and values that SQL compares with.
#[derive(Debug)]
struct Bounds {
    archive: i64,
    /// The number of a message lies above this,
    after: i64,
    /// and below this.
    before: i64,
    start: i64,
    end: i64,
    jid: Option<String>,
    nick: Option<String>,
    /// A JSON list of numbers.
    only: Option<String>,
}

impl Reader {
    async fn open(url: &str) -> Result<Self> {
        let connection = options(url)?.read_only(true).connect().await;
        let connection = connection.with_context(|| format!("cannot read the store {url}"))?;
        Ok(Self { connection })
    }

    async fn answer(&mut self, room: &RoomName, what: &What) -> Result<Answer> {
        let archive: Option<i64> = sqlx::query_scalar("SELECT number FROM archives WHERE room = ?")
            .bind(room.as_str())
            .fetch_optional(&mut self.connection)
            .await?;
        // No message has number 0, so an archive that is not there is an empty one.
        let archive = archive.unwrap_or_default();
        match what {
            What::Page(filter, page) => self.page(archive, filter, page).await,
            What::Ends => self.ends(archive).await,
            What::Message(id) => {
                let row = sqlx::query(
                    "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages
                     WHERE archive = ? AND id = ?",
                )
                .bind(archive)
                .bind(id)
                .fetch_optional(&mut self.connection)
                .await?;
                Ok(match row {
                    Some(row) => Answer::Message(Box::new(read_said(&row)?)),
                    None => Answer::NoSuchMessage,
                })
            }
        }
    }

    async fn page(&mut self, archive: i64, filter: &Filter, page: &Page) -> Result<Answer> {
        let Some(mut bounds) = self.bounds(archive, filter).await? else {
            return Ok(Answer::NoSuchMessage);
        };
        let count = self.count(&bounds).await?;
        let forwards = match &page.from {
            From::First => true,
            From::Last => false,
            From::After(id) => {
                let Some(number) = self.number(archive, id).await? else {
                    return Ok(Answer::NoSuchMessage);
                };
                bounds.after = bounds.after.max(number);
                true
            }
            From::Before(id) => {
                let Some(number) = self.number(archive, id).await? else {
                    return Ok(Answer::NoSuchMessage);
                };
                bounds.before = bounds.before.min(number);
                false
            }
        };
        // One more than wanted tells whether there are more.
        let limit = page.most.saturating_add(1);
        let rows = self.rows(&bounds, forwards, limit).await?;
        let mut found = Found { messages: vec![], complete: rows.len() <= page.most, count };
        let mut bytes = 0;
        for row in rows.iter().take(page.most) {
            if bytes >= MAX_PAGE_BYTES {
                found.complete = false;
                break;
            }
            bytes += row.try_get::<&str, _>("stanza")?.len();
            // One that cannot be read keeps nobody from the others.
            match read_said(row) {
                Ok(said) => found.messages.push(said),
                Err(why) => warn!(why = format!("{why:#}"), "left out"),
            }
        }
        if !forwards {
            found.messages.reverse();
        }
        Ok(Answer::Page(found))
    }

    /// `None`: an id that the filter names is not in the archive.
    async fn bounds(&mut self, archive: i64, filter: &Filter) -> Result<Option<Bounds>> {
        let (jid, nick) = match &filter.with {
            Some(With::Jid(jid)) => (Some(jid.to_string()), None),
            Some(With::Nick(nick)) => (None, Some(nick.clone())),
            None => (None, None),
        };
        let mut bounds = Bounds {
            archive,
            after: 0,
            before: i64::MAX,
            // Messages are known to the second: what was said in the second of `end` is not after it.
            start: filter.start.map_or(0, |start| seconds(start + ALMOST_A_SECOND)),
            end: filter.end.map_or(i64::MAX, seconds),
            jid,
            nick,
            only: None,
        };
        if let Some(id) = &filter.after_id {
            let Some(number) = self.number(archive, id).await? else { return Ok(None) };
            bounds.after = number;
        }
        if let Some(id) = &filter.before_id {
            let Some(number) = self.number(archive, id).await? else { return Ok(None) };
            bounds.before = number;
        }
        if !filter.ids.is_empty() {
            let mut only = vec![];
            for id in &filter.ids {
                let Some(number) = self.number(archive, id).await? else { return Ok(None) };
                only.push(number);
            }
            bounds.only = Some(serde_json::to_string(&only)?);
        }
        if filter.start.is_some() || filter.end.is_some() {
            // Times lead to numbers by an index, and from there it goes in order.
            let range: (Option<i64>, Option<i64>) = sqlx::query_as(
                "SELECT min(number), max(number) FROM messages
                 WHERE archive = ? AND at BETWEEN ? AND ?",
            )
            .bind(archive)
            .bind(bounds.start)
            .bind(bounds.end)
            .fetch_one(&mut self.connection)
            .await?;
            let (Some(first), Some(last)) = range else {
                bounds.before = 0;
                return Ok(Some(bounds));
            };
            bounds.after = bounds.after.max(first - 1);
            bounds.before = bounds.before.min(last + 1);
        }
        Ok(Some(bounds))
    }

    async fn number(&mut self, archive: i64, id: &str) -> Result<Option<i64>> {
        let number = sqlx::query_scalar("SELECT number FROM messages WHERE archive = ? AND id = ?")
            .bind(archive)
            .bind(id)
            .fetch_optional(&mut self.connection)
            .await?;
        Ok(number)
    }

    async fn count(&mut self, bounds: &Bounds) -> Result<Option<usize>> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT 1 FROM messages
             WHERE archive = ?1 AND number > ?2 AND number < ?3 AND at BETWEEN ?4 AND ?5
             AND (?6 IS NULL OR jid = ?6) AND (?7 IS NULL OR nick = ?7)
             AND (?8 IS NULL OR number IN (SELECT value FROM json_each(?8))) LIMIT ?9)",
        )
        .bind(bounds.archive)
        .bind(bounds.after)
        .bind(bounds.before)
        .bind(bounds.start)
        .bind(bounds.end)
        .bind(&bounds.jid)
        .bind(&bounds.nick)
        .bind(&bounds.only)
        .bind(i64::try_from(MAX_COUNT)? + 1)
        .fetch_one(&mut self.connection)
        .await?;
        Ok(usize::try_from(count).ok().filter(|count| *count <= MAX_COUNT))
    }

    /// In the order of the page, so a page backwards begins with the last.
    async fn rows(
        &mut self,
        bounds: &Bounds,
        forwards: bool,
        limit: usize,
    ) -> Result<Vec<SqliteRow>> {
        let query = if forwards {
            sqlx::query(
                "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages
                 WHERE archive = ?1 AND number > ?2 AND number < ?3 AND at BETWEEN ?4 AND ?5
                 AND (?6 IS NULL OR jid = ?6) AND (?7 IS NULL OR nick = ?7)
                 AND (?8 IS NULL OR number IN (SELECT value FROM json_each(?8)))
                 ORDER BY number LIMIT ?9",
            )
        } else {
            sqlx::query(
                "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages
                 WHERE archive = ?1 AND number > ?2 AND number < ?3 AND at BETWEEN ?4 AND ?5
                 AND (?6 IS NULL OR jid = ?6) AND (?7 IS NULL OR nick = ?7)
                 AND (?8 IS NULL OR number IN (SELECT value FROM json_each(?8)))
                 ORDER BY number DESC LIMIT ?9",
            )
        };
        let rows = query
            .bind(bounds.archive)
            .bind(bounds.after)
            .bind(bounds.before)
            .bind(bounds.start)
            .bind(bounds.end)
            .bind(&bounds.jid)
            .bind(&bounds.nick)
            .bind(&bounds.only)
            .bind(i64::try_from(limit)?)
            .fetch_all(&mut self.connection)
            .await?;
        Ok(rows)
    }

    async fn ends(&mut self, archive: i64) -> Result<Answer> {
        let end = |row: SqliteRow| -> Result<End> {
            let said = read_said(&row)?;
            Ok(End { id: said.payload.stanza_id.unwrap_or_default(), at: said.at })
        };
        let first = sqlx::query(
            "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages
             WHERE archive = ? ORDER BY number LIMIT 1",
        )
        .bind(archive)
        .fetch_optional(&mut self.connection)
        .await?;
        let last = sqlx::query(
            "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages
             WHERE archive = ? ORDER BY number DESC LIMIT 1",
        )
        .bind(archive)
        .fetch_optional(&mut self.connection)
        .await?;
        Ok(Answer::Ends(match (first, last) {
            (Some(first), Some(last)) => Some((end(first)?, end(last)?)),
            (None, _) | (_, None) => None,
        }))
    }
}

const ALMOST_A_SECOND: Duration = Duration::from_nanos(999_999_999);
/// Queries that wait for the store. The chat face asks no more than that at a time.
const MAX_WAITING: usize = 256;
