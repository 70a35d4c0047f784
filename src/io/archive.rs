//! Reads archives for whoever asks, on a connection of its own: neither the loop nor the one writer
//! waits for a search.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::AssertSqlSafe;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::store::database::{Access, Connection, Found as Row, Place, Value};
use super::store::{read_said, seconds};
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
    /// Opens the database of a URL, which the store has brought up to date. Answers go to
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
    place: Place,
    /// `None` after a failure: the next query begins with another.
    connection: Option<Connection>,
}

/// The messages that a query admits.
#[derive(Clone, Debug)]
struct Bounds {
    archive: i64,
    /// The number of a message lies above this,
    after: i64,
    /// and below this.
    before: i64,
    start: Option<i64>,
    end: Option<i64>,
    with: Option<With>,
    /// None but these numbers; empty: any.
    only: Vec<i64>,
}

impl Reader {
    async fn open(url: &str) -> Result<Self> {
        let place = Place::parse(url).context("store.url")?;
        let connection = Some(place.connect(Access::Read).await?);
        Ok(Self { place, connection })
    }

    async fn answer(&mut self, room: &RoomName, what: &What) -> Result<Answer> {
        // A connection that lay idle may be one that a server gave up since.
        if let Some(connection) = &mut self.connection {
            match answer(connection, room, what).await {
                Ok(answer) => return Ok(answer),
                Err(why) => debug!(why = format!("{why:#}"), "the archive is asked again"),
            }
        }
        self.connection = None;
        let connection = self.place.connect(Access::Read).await?;
        answer(self.connection.insert(connection), room, what).await
    }
}

async fn answer(connection: &mut Connection, room: &RoomName, what: &What) -> Result<Answer> {
    let sql = "SELECT number FROM archives WHERE room = $1";
    let archive = connection.first(sql, [room.as_str().into()]).await?;
    // No message has number 0, so an archive that is not there is an empty one.
    let archive = archive.map_or(Ok(0), |row| row.get("number"))?;
    match what {
        What::Page(filter, asked) => page(connection, archive, filter, asked).await,
        What::Ends => ends(connection, archive).await,
        What::Message(id) => {
            let row = connection.first(MESSAGE, [archive.into(), id.as_str().into()]).await?;
            Ok(match row {
                Some(row) => Answer::Message(Box::new(read_said(&row)?)),
                None => Answer::NoSuchMessage,
            })
        }
    }
}

async fn page(
    connection: &mut Connection,
    archive: i64,
    filter: &Filter,
    page: &Page,
) -> Result<Answer> {
    let Some(mut bounds) = bounds(connection, archive, filter).await? else {
        return Ok(Answer::NoSuchMessage);
    };
    let (sql, values) = bounds.count();
    let row = connection.first(AssertSqlSafe(sql), values).await?;
    let count: i64 = row.context("a count is a row")?.get("count")?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_COUNT);
    let forwards = match &page.from {
        From::First => true,
        From::Last => false,
        From::After(id) => {
            let Some(number) = number(connection, archive, id).await? else {
                return Ok(Answer::NoSuchMessage);
            };
            bounds.after = bounds.after.max(number);
            true
        }
        From::Before(id) => {
            let Some(number) = number(connection, archive, id).await? else {
                return Ok(Answer::NoSuchMessage);
            };
            bounds.before = bounds.before.min(number);
            false
        }
    };
    // One more than wanted tells whether there are more.
    let (sql, values) = bounds.rows(forwards, page.most.saturating_add(1));
    let rows = connection.all(AssertSqlSafe(sql), values).await?;
    let mut found = Found { messages: vec![], complete: rows.len() <= page.most, count };
    let mut bytes = 0;
    for row in rows.iter().take(page.most) {
        if bytes >= MAX_PAGE_BYTES {
            found.complete = false;
            break;
        }
        bytes += row.get::<String>("stanza")?.len();
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
async fn bounds(
    connection: &mut Connection,
    archive: i64,
    filter: &Filter,
) -> Result<Option<Bounds>> {
    let mut bounds = Bounds {
        archive,
        after: 0,
        before: i64::MAX,
        // Messages are known to the second: what was said in the second of `end` is not after it.
        start: filter.start.map(|start| seconds(start + ALMOST_A_SECOND)),
        end: filter.end.map(seconds),
        with: filter.with.clone(),
        only: vec![],
    };
    if let Some(id) = &filter.after_id {
        let Some(number) = number(connection, archive, id).await? else { return Ok(None) };
        bounds.after = number;
    }
    if let Some(id) = &filter.before_id {
        let Some(number) = number(connection, archive, id).await? else { return Ok(None) };
        bounds.before = number;
    }
    for id in &filter.ids {
        let Some(number) = number(connection, archive, id).await? else { return Ok(None) };
        bounds.only.push(number);
    }
    if bounds.start.is_some() || bounds.end.is_some() {
        // Times lead to numbers by an index, and from there it goes in order.
        let (start, end) = (bounds.start.unwrap_or(0), bounds.end.unwrap_or(i64::MAX));
        let row = connection.first(NUMBERS, [archive.into(), start.into(), end.into()]).await?;
        let row = row.context("a minimum is a row")?;
        let (first, last): (Option<i64>, Option<i64>) = (row.get("first")?, row.get("last")?);
        bounds.after = bounds.after.max(first.map_or(i64::MAX, |first| first - 1));
        bounds.before = bounds.before.min(last.map_or(0, |last| last + 1));
    }
    Ok(Some(bounds))
}

async fn number(connection: &mut Connection, archive: i64, id: &str) -> Result<Option<i64>> {
    let sql = "SELECT number FROM messages WHERE archive = $1 AND id = $2";
    let row = connection.first(sql, [archive.into(), id.into()]).await?;
    Ok(row.map(|row| row.get("number")).transpose()?)
}

async fn ends(connection: &mut Connection, archive: i64) -> Result<Answer> {
    let end = |row: Row| -> Result<End> {
        let said = read_said(&row)?;
        Ok(End { id: said.payload.stanza_id.unwrap_or_default(), at: said.at })
    };
    let first = connection.first(FIRST_MESSAGE, [archive.into()]).await?;
    let last = connection.first(LAST_MESSAGE, [archive.into()]).await?;
    Ok(Answer::Ends(match (first, last) {
        (Some(first), Some(last)) => Some((end(first)?, end(last)?)),
        (None, _) | (_, None) => None,
    }))
}

impl Bounds {
    /// The statement that counts what is admitted, no further than is told.
    fn count(&self) -> (String, Vec<Value>) {
        let (admitted, mut values) = self.admitted();
        values.push(i64::try_from(MAX_COUNT + 1).ok().into());
        let limit = values.len();
        let sql = format!(
            "SELECT count(*) AS count FROM (SELECT 1 FROM messages {admitted} LIMIT ${limit}) AS admitted"
        );
        (sql, values)
    }

    /// The statement that finds what is admitted, in the order of the page: a page backwards begins
    /// with the last.
    fn rows(&self, forwards: bool, most: usize) -> (String, Vec<Value>) {
        let (admitted, mut values) = self.admitted();
        values.push(i64::try_from(most).ok().into());
        let limit = values.len();
        let order = if forwards { "ASC" } else { "DESC" };
        let sql = format!(
            "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages {admitted}
             ORDER BY number {order} LIMIT ${limit}"
        );
        (sql, values)
    }

    /// Conditions that are not asked for are left out: a database plans for the others alone.
    fn admitted(&self) -> (String, Vec<Value>) {
        let mut sql = "WHERE archive = $1 AND number > $2 AND number < $3".to_owned();
        let mut values = vec![self.archive.into(), self.after.into(), self.before.into()];
        let mut add = |condition: &str, value: Value| {
            values.push(value);
            sql += &format!(" AND {condition} ${}", values.len());
        };
        if let Some(start) = self.start {
            add("at >=", start.into());
        }
        if let Some(end) = self.end {
            add("at <=", end.into());
        }
        match &self.with {
            Some(With::Jid(jid)) => add("jid =", jid.as_str().into()),
            Some(With::Nick(nick)) => add("nick =", nick.as_str().into()),
            None => {}
        }
        if !self.only.is_empty() {
            let first = values.len() + 1;
            let places = (first..first + self.only.len()).map(|place| format!("${place}"));
            sql += &format!(" AND number IN ({})", places.collect::<Vec<_>>().join(", "));
            values.extend(self.only.iter().map(|number| Value::from(*number)));
        }
        (sql, values)
    }
}

const MESSAGE: &str = "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages
     WHERE archive = $1 AND id = $2";
const FIRST_MESSAGE: &str = "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages
     WHERE archive = $1 ORDER BY number LIMIT 1";
const LAST_MESSAGE: &str = "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages
     WHERE archive = $1 ORDER BY number DESC LIMIT 1";
const NUMBERS: &str = "SELECT min(number) AS first, max(number) AS last FROM messages
     WHERE archive = $1 AND at BETWEEN $2 AND $3";
const ALMOST_A_SECOND: Duration = Duration::from_nanos(999_999_999);
/// Queries that wait for the store. The chat face asks no more than that at a time.
const MAX_WAITING: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use jid::BareJid;
    use minidom::Element;

    use super::super::store::Store;
    use super::super::store::tests::{Scratch, on_both};
    use super::*;
    use crate::archive::QueryId;
    use crate::id::Nick;
    use crate::journal::Row;
    use crate::room::history::{Author, Kind, Payload, Said};

    on_both! {
        pages_in_both_directions_show_each_message_once_and_in_order
        says_what_is_not_there
        a_page_has_a_size_and_every_text_comes_back
        what_was_taken_back_is_nowhere
        answers_by_number_and_reads_what_was_just_written
        questions_go_by_an_index
    }

    /// However long an archive is, no question reads all of it, and none sorts more than it names.
    async fn questions_go_by_an_index(scratch: &Scratch) {
        let mut store = Store::open(scratch.url()).await.unwrap();
        store.write(&[archived("cave", said("m1", 0, 0, "x"))]).await.unwrap();
        let place = Place::parse(scratch.url()).unwrap();
        let mut connection = place.connect(Access::Read).await.unwrap();
        let explain = match &connection {
            Connection::Sqlite(_) => "EXPLAIN QUERY PLAN ",
            Connection::Postgres(_) => {
                // With so few messages it would be right to read them all.
                connection.run("SET enable_seqscan = off; SET enable_sort = off").await.unwrap();
                "EXPLAIN "
            }
        };
        let all = Bounds {
            archive: 1,
            after: 0,
            before: i64::MAX,
            start: None,
            end: None,
            with: None,
            only: vec![],
        };
        let nurse = Some(With::Jid(BareJid::new("nurse@example.org").unwrap()));
        let romeo = Some(With::Nick("romeo".to_owned()));
        let mut asked = vec![];
        for bounds in [
            all.clone(),
            Bounds { start: Some(1), end: Some(2), ..all.clone() },
            Bounds { with: nurse, ..all.clone() },
            Bounds { with: romeo, ..all.clone() },
            Bounds { only: vec![1, 2, 3], ..all.clone() },
        ] {
            asked.extend([bounds.count(), bounds.rows(true, 100), bounds.rows(false, 100)]);
        }
        let number = || vec![Value::from(1)];
        asked.extend([
            (MESSAGE.to_owned(), vec![1.into(), "m1".into()]),
            (FIRST_MESSAGE.to_owned(), number()),
            (LAST_MESSAGE.to_owned(), number()),
            (NUMBERS.to_owned(), vec![1.into(), 1.into(), 2.into()]),
        ]);
        for (sql, values) in asked {
            let rows = connection.all(AssertSqlSafe(format!("{explain}{sql}")), values).await;
            let column = if scratch.is_sqlite() { "detail" } else { "QUERY PLAN" };
            let lines = rows
                .unwrap()
                .iter()
                .map(|row| row.get::<String>(column).unwrap())
                .collect::<Vec<_>>();
            let plan = lines.join("\n");
            assert!(plan.contains("messages"), "{plan}");
            let sorts = plan.contains("TEMP B-TREE") || plan.contains("Sort");
            let reads = plan.contains("SCAN messages") || plan.contains("Seq Scan");
            assert!(!reads && (!sorts || sql.contains(" IN (")), "{sql}\n{plan}");
        }
    }

    const AUTHORS: [&str; 3] = ["juliet", "romeo", "nurse"];

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_534_400 + seconds)
    }

    fn room(name: &str) -> RoomName {
        RoomName::new(name).unwrap()
    }

    fn author(number: usize) -> Author {
        let user = AUTHORS[number % AUTHORS.len()];
        let jid = Some(format!("{user}@example.org").parse().unwrap());
        Author { jid, nick: Nick::new(user).unwrap() }
    }

    fn said(id: &str, number: usize, seconds: u64, body: &str) -> Said {
        let mut stanza = Element::bare("message", "jabber:client");
        let mut text = Element::bare("body", "jabber:client");
        text.append_text_node(body);
        stanza.append_child(text);
        Said {
            author: Some(author(number)),
            id: number.is_multiple_of(2).then(|| format!("sent-{id}")),
            at: at(seconds),
            kind: Kind::Message,
            payload: Payload {
                stanza: Arc::new(stanza),
                lasting: true,
                text: true,
                stanza_id: Some(id.to_owned()),
            },
        }
    }

    fn archived(name: &str, said: Said) -> Row {
        Row::Archived { room: room(name), said }
    }

    fn ids(found: &[Said]) -> Vec<&str> {
        found.iter().map(|said| said.payload.stanza_id.as_deref().unwrap()).collect()
    }

    async fn page(reader: &mut Reader, filter: &Filter, from: From, most: usize) -> Found {
        let what = What::Page(filter.clone(), Page { most, from });
        let answer = reader.answer(&room("cave"), &what).await.unwrap();
        let Answer::Page(found) = answer else { panic!("{answer:?}") };
        found
    }

    /// All of it, page by page.
    async fn walk(reader: &mut Reader, filter: &Filter, forwards: bool, most: usize) -> Vec<Said> {
        let mut all = vec![];
        let mut from = if forwards { From::First } else { From::Last };
        loop {
            let Found { messages, complete, .. } = page(reader, filter, from, most).await;
            assert!(messages.len() <= most);
            assert!(complete || !messages.is_empty(), "a page that leads nowhere");
            let next = if forwards { messages.last() } else { messages.first() };
            let next = next.and_then(|said| said.payload.stanza_id.clone());
            if forwards {
                all.extend(messages);
            } else {
                all.splice(..0, messages);
            }
            match (complete, next) {
                (true, _) | (_, None) => return all,
                (false, Some(id)) if forwards => from = From::After(id),
                (false, Some(id)) => from = From::Before(id),
            }
        }
    }

    async fn pages_in_both_directions_show_each_message_once_and_in_order(scratch: &Scratch) {
        let mut store = Store::open(scratch.url()).await.unwrap();
        // The clock is set back now and then, and another room talks in between.
        let all: Vec<Said> = (0..40)
            .map(|number| {
                let seconds = (number as u64 * 10) - (number as u64 % 7) * 9;
                said(&format!("m{}", number * 17 % 40), number, seconds, "x")
            })
            .collect();
        for (number, message) in all.iter().enumerate() {
            let other = said(&format!("m{number}"), number, 0, "y");
            let rows = [archived("cave", message.clone()), archived("attic", other)];
            store.write(&rows).await.unwrap();
        }
        let mut reader = Reader::open(scratch.url()).await.unwrap();
        let own = |number: usize| all[number].payload.stanza_id.clone().unwrap();
        let filters = [
            Filter::default(),
            Filter { with: Some(With::Nick("romeo".to_owned())), ..Filter::default() },
            Filter {
                with: Some(With::Jid(BareJid::new("nurse@example.org").unwrap())),
                ..Filter::default()
            },
            Filter { start: Some(at(95)), ..Filter::default() },
            Filter { end: Some(at(200)), ..Filter::default() },
            Filter { start: Some(at(60)), end: Some(at(61)), ..Filter::default() },
            Filter { start: Some(at(4_000)), ..Filter::default() },
            Filter {
                after_id: Some(own(7)),
                before_id: Some(own(30)),
                start: Some(at(80)),
                ..Filter::default()
            },
            Filter { after_id: Some(own(30)), before_id: Some(own(7)), ..Filter::default() },
            Filter { ids: vec![own(33), own(2), own(2), own(19)], ..Filter::default() },
        ];
        for filter in &filters {
            let place = |id: &Option<String>| {
                id.as_ref().map(|id| ids(&all).iter().position(|own| own == id).unwrap())
            };
            let (after, before) = (place(&filter.after_id), place(&filter.before_id));
            let expected: Vec<&Said> = all
                .iter()
                .enumerate()
                .filter(|(number, said)| {
                    let author = said.author.as_ref().unwrap();
                    after.is_none_or(|after| *number > after)
                        && before.is_none_or(|before| *number < before)
                        && filter.start.is_none_or(|start| said.at >= start)
                        && filter.end.is_none_or(|end| said.at <= end)
                        && (filter.ids.is_empty() || filter.ids.contains(&own(*number)))
                        && match &filter.with {
                            None => true,
                            Some(With::Nick(nick)) => author.nick.as_str() == nick,
                            Some(With::Jid(jid)) => author.jid.as_ref() == Some(jid),
                        }
                })
                .map(|(_, said)| said)
                .collect();
            for most in [1, 2, 3, 7, 39, 40, 100] {
                for forwards in [true, false] {
                    let walked = walk(&mut reader, filter, forwards, most).await;
                    assert_eq!(walked.iter().collect::<Vec<_>>(), expected, "{filter:?} {most}");
                }
            }
            let counted = page(&mut reader, filter, From::First, 0).await;
            assert_eq!(counted.count, Some(expected.len()), "{filter:?}");
            assert_eq!((counted.messages.len(), counted.complete), (0, expected.is_empty()));
        }
    }

    async fn says_what_is_not_there(scratch: &Scratch) {
        let mut store = Store::open(scratch.url()).await.unwrap();
        store.write(&[archived("cave", said("m1", 0, 0, "x"))]).await.unwrap();
        store.write(&[archived("attic", said("m2", 0, 0, "x"))]).await.unwrap();
        let mut reader = Reader::open(scratch.url()).await.unwrap();
        let id = || "m2".to_owned();
        let pages = [
            (Filter::default(), From::After(id())),
            (Filter::default(), From::Before(id())),
            (Filter { after_id: Some(id()), ..Filter::default() }, From::First),
            (Filter { before_id: Some(id()), ..Filter::default() }, From::First),
            (Filter { ids: vec!["m1".to_owned(), id()], ..Filter::default() }, From::First),
        ];
        let mut asked: Vec<What> =
            pages.map(|(filter, from)| What::Page(filter, Page { most: 1, from })).into();
        asked.push(What::Message(id()));
        for what in asked {
            let answer = reader.answer(&room("cave"), &what).await.unwrap();
            assert_eq!(answer, Answer::NoSuchMessage, "{what:?}");
        }
        let answer = reader.answer(&room("cellar"), &What::Ends).await.unwrap();
        assert_eq!(answer, Answer::Ends(None));
        let what = What::Page(Filter::default(), Page { most: 1, from: From::Last });
        let answer = reader.answer(&room("cellar"), &what).await.unwrap();
        let nothing = Found { messages: vec![], complete: true, count: Some(0) };
        assert_eq!(answer, Answer::Page(nothing));
    }

    async fn a_page_has_a_size_and_every_text_comes_back(scratch: &Scratch) {
        let mut store = Store::open(scratch.url()).await.unwrap();
        let bodies = [
            "x".repeat(60_000),
            "<&>'\"]]>".repeat(9_000),
            "\r\n\t \u{85}\u{2028}e\u{301}\u{1F468}\u{200D}\u{1F469}\u{202e}\u{10fffd}".to_owned(),
            "ü".repeat(30_000),
            "y".repeat(60_000),
            "z".repeat(60_000),
            "last".to_owned(),
        ];
        let all: Vec<Said> = bodies
            .iter()
            .enumerate()
            .map(|(number, body)| said(&format!("m{number}"), number, number as u64, body))
            .collect();
        let rows: Vec<Row> = all.iter().map(|said| archived("cave", said.clone())).collect();
        store.write(&rows).await.unwrap();
        let mut reader = Reader::open(scratch.url()).await.unwrap();
        let first = page(&mut reader, &Filter::default(), From::First, 100).await;
        assert!(!first.complete && first.messages.len() < all.len(), "{}", first.messages.len());
        for forwards in [true, false] {
            assert_eq!(walk(&mut reader, &Filter::default(), forwards, 100).await, all);
        }
    }

    async fn what_was_taken_back_is_nowhere(scratch: &Scratch) {
        let mut store = Store::open(scratch.url()).await.unwrap();
        let tombstone: Element =
            "<message xmlns='jabber:client'><retracted xmlns='x'/></message>".parse().unwrap();
        let tombstone = Arc::new(tombstone);
        let rows = [
            archived("cave", said("m1", 0, 0, "rude words")),
            archived("attic", said("m1", 0, 0, "other words")),
            Row::Buried { room: room("cave"), id: "m1".to_owned(), tombstone: tombstone.clone() },
        ];
        store.write(&rows).await.unwrap();
        let mut reader = Reader::open(scratch.url()).await.unwrap();
        let found = page(&mut reader, &Filter::default(), From::First, 100).await;
        assert_eq!(found.messages[0].payload.stanza, tombstone);
        assert_eq!(found.messages[0].kind, Kind::Tombstone);
        let what = What::Message("m1".to_owned());
        let Answer::Message(kept) = reader.answer(&room("cave"), &what).await.unwrap() else {
            panic!("it left a tombstone");
        };
        assert!(!kept.can_be_retracted());
        let Answer::Message(other) = reader.answer(&room("attic"), &what).await.unwrap() else {
            panic!("that is another room");
        };
        assert_eq!(*other, said("m1", 0, 0, "other words"));
    }

    async fn answers_by_number_and_reads_what_was_just_written(scratch: &Scratch) {
        let mut store = Store::open(scratch.url()).await.unwrap();
        let (inputs, mut answers) = mpsc::channel(1);
        let archive = Archive::open(scratch.url(), inputs).await.unwrap();
        for number in 0..20 {
            let id = format!("m{number}");
            store.write(&[archived("cave", said(&id, 0, number, "x"))]).await.unwrap();
            let what = What::Message(id.clone());
            let query = Query { id: QueryId(number), room: room("cave"), what };
            assert_eq!(archive.ask(query), None);
            let Some(Input::Loaded(loaded)) = answers.recv().await else { panic!("no answer") };
            let expected = Answer::Message(Box::new(said(&id, 0, number, "x")));
            assert_eq!(loaded, Loaded { id: QueryId(number), answer: expected });
        }
        // Nobody takes the answers any more: at some time it says so instead of waiting.
        let ask = |number| {
            archive.ask(Query { id: QueryId(number), room: room("cave"), what: What::Ends })
        };
        let refused = (0..10_000).find_map(ask).unwrap();
        assert_eq!(refused.answer, Answer::Failed);
    }
}
