//! Rooms, affiliations, the directory and archives in a database: read once at start-up, written as they
//! change. Archives are read on demand, beside this, by `archive`.
//!
//! `database` knows SQLite and PostgreSQL; here is what is stored in either.

pub(super) mod database;
mod schema;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Error, Result, anyhow, bail};
use cusax::identity::Aor;
use jid::BareJid;
use minidom::Element;
use sqlx::error::ErrorKind;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::directory::{Secret, User};
use crate::id::{Nick, RoomName};
use crate::journal::{Row, Snapshot};
use crate::room::StoredRoom;
use crate::room::avatar::Avatar;
use crate::room::hats::Hats;
use crate::room::history::{Author, Kind, Payload, Said};
use crate::room::person::Who;
use crate::room::standing::Affiliation;
use database::{Access, Connection, Found, Place};
use schema::MIGRATIONS;

/// The database, by the one connection that writes to it.
#[derive(Debug)]
pub struct Store {
    place: Place,
    /// `None` after a failure: the next write begins with another.
    connection: Option<Connection>,
    /// Which writer this is; others had other numbers.
    number: i64,
    /// How many of its transactions are done.
    writes: i64,
    _lock: Option<File>,
}

/// Why changes are not in the store.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// It cannot be reached, is full or is busy: another time, perhaps.
    #[error("{0:#}")]
    Away(Error),
    /// It will never take one of these changes: a fault of ours.
    #[error("{0:#}")]
    Unfit(Error),
    /// Another server has written to it since. What this one knows is not what is stored.
    #[error("another cusaxd took over the store")]
    Taken,
}

/// What is wrong with the URL of a store.
pub fn problem(url: &str) -> Option<String> {
    Place::parse(url).err().map(|why| format!("{why:#}"))
}

/// Tries to reach a store without changing anything. A file need not be there, but its folder.
pub async fn probe(url: &str) -> Result<()> {
    let place = Place::parse(url)?;
    if place.is_to_be_made()? {
        return Ok(());
    }
    Ok(place.connect(Access::Read).await?.close().await?)
}

impl Store {
    /// Opens the database of a `sqlite:` or `postgres:` URL and brings its schema up to date. A file
    /// that is not there is made; one server at a time has the store.
    pub async fn open(url: &str) -> Result<Self> {
        let place = Place::parse(url).context("store.url")?;
        let lock = place.lock()?;
        let mut connection = place.connect(Access::Write).await?;
        connection.lock(&place).await?;
        migrate(&mut connection).await.context("cannot bring the store's schema up to date")?;
        let number = connection
            .first("UPDATE writer SET number = number + 1, writes = 0 RETURNING number", [])
            .await?
            .context("the store knows no writer")?
            .get("number")?;
        Ok(Self { place, connection: Some(connection), number, writes: 0, _lock: lock })
    }

    /// Everything that was stored.
    pub async fn load(&mut self) -> Result<Snapshot> {
        let connection = self.connection.as_mut().context("the store is away")?;
        let mut snapshot = Snapshot::default();
        let mut affiliations: BTreeMap<String, Vec<(Who, Affiliation)>> = BTreeMap::new();
        for row in
            connection.all("SELECT room, kind, who, affiliation FROM affiliations", []).await?
        {
            affiliations.entry(row.get("room")?).or_default().push(read_affiliation(&row)?);
        }
        for row in connection
            .all("SELECT name, settings, locked, subject, subject_nick, subject_at FROM rooms", [])
            .await?
        {
            let room = read_room(&row)?;
            let affiliations = affiliations.remove(room.name.as_str()).unwrap_or_default();
            snapshot.rooms.push((room, affiliations));
        }
        // By name, whatever the database thinks of the order of letters.
        snapshot.rooms.sort_unstable_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        for row in connection.all("SELECT room, jid, nick FROM nicks", []).await? {
            snapshot.nicks.push(read_nick(&row)?);
        }
        for row in connection.all("SELECT room, jid, nick FROM requests", []).await? {
            snapshot.requests.push(read_nick(&row)?);
        }
        for row in connection.all("SELECT room, media_type, data FROM avatars", []).await? {
            snapshot.avatars.push(read_avatar(&row)?);
        }
        for row in connection.all("SELECT room, hats FROM hats", []).await? {
            snapshot.hats.push(read_hats(&row)?);
        }
        for row in connection.all("SELECT jid, aor, name, md5, sha256 FROM users", []).await? {
            snapshot.users.push(read_user(&row)?);
        }
        load_history(connection, &mut snapshot).await?;
        Ok(snapshot)
    }

    /// Writes changes, all of them or none. What was refused for another reason than
    /// [`NotWritten::Unfit`] may be tried again, and nothing is done twice.
    pub async fn write<R: Borrow<Row> + Sync>(&mut self, rows: &[R]) -> Result<(), NotWritten> {
        let done = match timeout(WRITE_TIMEOUT, self.transact(rows)).await {
            Ok(done) => done,
            Err(_) => Err(NotWritten::Away(anyhow!("{} does not answer", self.place))),
        };
        match done {
            Ok(()) => self.writes += 1,
            // With the connection goes the transaction.
            Err(_) => self.connection = None,
        }
        done
    }

    async fn transact<R: Borrow<Row> + Sync>(&mut self, rows: &[R]) -> Result<(), NotWritten> {
        if self.connection.is_none() {
            let mut connection = self.place.connect(Access::Write).await?;
            connection.lock(&self.place).await?;
            debug!("the store is reached again");
            self.connection = Some(connection);
        }
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.begin().await?;
        let turn = [(self.writes + 1).into(), self.number.into(), self.writes.into()];
        let ours = connection
            .execute("UPDATE writer SET writes = $1 WHERE number = $2 AND writes = $3", turn)
            .await?;
        if ours == 0 {
            let row = connection.first("SELECT number, writes FROM writer", []).await?;
            let Some(row) = row else { return Err(NotWritten::Taken) };
            let writer: (i64, i64) = (row.get("number")?, row.get("writes")?);
            if writer != (self.number, self.writes + 1) {
                return Err(NotWritten::Taken);
            }
            // The last attempt was done after all, and only word of it was lost.
            connection.commit().await?;
            return Ok(());
        }
        for row in rows {
            write_row(connection, row.borrow()).await?;
        }
        Ok(connection.commit().await?)
    }

    /// Closes the database in good order.
    pub async fn close(self) -> Result<()> {
        match self.connection {
            Some(connection) => Ok(connection.close().await?),
            None => Ok(()),
        }
    }
}

impl From<sqlx::Error> for NotWritten {
    fn from(why: sqlx::Error) -> Self {
        if fits(&why) { Self::Away(why.into()) } else { Self::Unfit(why.into()) }
    }
}

impl From<Error> for NotWritten {
    fn from(why: Error) -> Self {
        match why.downcast::<sqlx::Error>() {
            Ok(why) => why.into(),
            Err(why) => Self::Away(why),
        }
    }
}

/// Whether a database that says so may take the same change another time.
fn fits(why: &sqlx::Error) -> bool {
    let sqlx::Error::Database(why) = why else {
        return !matches!(why, sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_));
    };
    // PostgreSQL's class of data that no column takes; SQLite's TOOBIG and MISMATCH.
    let code = why.code().unwrap_or_default();
    matches!(why.kind(), ErrorKind::Other)
        && !(code.len() == 5 && code.starts_with("22") || ["18", "20"].contains(&&*code))
}

async fn migrate(connection: &mut Connection) -> Result<()> {
    let version = connection.version().await?;
    if version > MIGRATIONS.len() {
        bail!("the store has schema {version}, this program knows {}", MIGRATIONS.len());
    }
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        connection.begin().await?;
        connection
            .run(match connection {
                Connection::Sqlite(_) => migration.sqlite,
                Connection::Postgres(_) => migration.postgres,
            })
            .await?;
        connection.set_version(number + 1).await?;
        connection.commit().await?;
    }
    Ok(())
}

/// The end of each archive, as much of it as newcomers are told. Where that is too much to keep in
/// memory, rooms where something was said lately come first.
async fn load_history(connection: &mut Connection, snapshot: &mut Snapshot) -> Result<()> {
    let mut lengths: BTreeMap<&str, u32> = BTreeMap::new();
    for (room, _) in snapshot.rooms.iter().filter(|(room, _)| room.settings.archived()) {
        lengths.insert(room.name.as_str(), room.settings.history);
    }
    let mut archives = vec![];
    for row in connection.all(LAST_MESSAGES, []).await? {
        let last: Option<i64> = row.get("last")?;
        archives.extend(last.map(|last| (last, row)));
    }
    archives.sort_unstable_by_key(|(last, _)| -last);
    let mut left = MAX_HISTORY_LOADED;
    for (_, row) in archives {
        let (archive, name): (i64, String) = (row.get("number")?, row.get("room")?);
        let Some(length) = lengths.get(name.as_str()) else { continue };
        let mut history = vec![];
        let most = i64::from((*length).min(left));
        for row in connection.all(END_OF_ARCHIVE, [archive.into(), most.into()]).await? {
            match read_said(&row) {
                Ok(said) => history.push(said),
                Err(why) => warn!(why = format!("{why:#}"), "left out"),
            }
        }
        history.reverse();
        left -= u32::try_from(history.len()).unwrap_or(left).min(left);
        let name = RoomName::new(&name).map_err(|why| anyhow!("stored room {name}: {why}"))?;
        snapshot.history.insert(name, history);
        if left == 0 {
            break;
        }
    }
    Ok(())
}

async fn write_row(connection: &mut Connection, row: &Row) -> Result<(), sqlx::Error> {
    match row {
        Row::Room(room) => {
            let (subject, nick, at) = match &room.subject {
                Some((text, nick, at)) => {
                    (Some(text.clone()), Some(nick.clone()), Some(seconds(*at)))
                }
                None => (None, None, None),
            };
            let settings = serde_json::to_string(&room.settings);
            let settings = settings.map_err(|why| sqlx::Error::Encode(why.into()))?;
            let sql =
                "INSERT INTO rooms (name, settings, locked, subject, subject_nick, subject_at)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (name) DO UPDATE SET settings = excluded.settings,
                 locked = excluded.locked, subject = excluded.subject,
                 subject_nick = excluded.subject_nick, subject_at = excluded.subject_at";
            let (name, locked) = (room.name.as_str().into(), room.locked.into());
            let values = [name, settings.into(), locked, subject.into(), nick.into(), at.into()];
            connection.execute(sql, values).await?;
        }
        Row::NoRoom(room) => {
            let name = || [room.as_str().into()];
            connection.execute("DELETE FROM rooms WHERE name = $1", name()).await?;
            // At once nobody's; its messages are swept, however many they are.
            connection.execute("UPDATE archives SET room = NULL WHERE room = $1", name()).await?;
        }
        Row::Affiliation { room, who, affiliation, reason } => {
            let Some((kind, who)) = write_who(who) else { return Ok(()) };
            let key = [room.as_str().into(), kind.into(), who.into()];
            if *affiliation == Affiliation::None {
                let sql = "DELETE FROM affiliations WHERE room = $1 AND kind = $2 AND who = $3";
                connection.execute(sql, key).await?;
            } else {
                let sql = "INSERT INTO affiliations (room, kind, who, affiliation, reason)
                     VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (room, kind, who) DO UPDATE SET
                     affiliation = excluded.affiliation, reason = excluded.reason";
                let given = [affiliation.as_str().into(), reason.clone().into()];
                connection.execute(sql, key.into_iter().chain(given)).await?;
            }
        }
        Row::Nick { room, jid, nick } => {
            let delete = "DELETE FROM nicks WHERE room = $1 AND jid = $2";
            let insert = "INSERT INTO nicks (room, jid, nick) VALUES ($1, $2, $3)
                 ON CONFLICT (room, jid) DO UPDATE SET nick = excluded.nick";
            write_nick(connection, [delete, insert], room, jid, nick.as_ref()).await?;
        }
        Row::Request { room, jid, nick } => {
            let delete = "DELETE FROM requests WHERE room = $1 AND jid = $2";
            let insert = "INSERT INTO requests (room, jid, nick) VALUES ($1, $2, $3)
                 ON CONFLICT (room, jid) DO UPDATE SET nick = excluded.nick";
            write_nick(connection, [delete, insert], room, jid, nick.as_ref()).await?;
        }
        Row::Avatar { room, avatar: None } => {
            let key = [room.as_str().into()];
            connection.execute("DELETE FROM avatars WHERE room = $1", key).await?;
        }
        Row::Avatar { room, avatar: Some(avatar) } => {
            let sql = "INSERT INTO avatars (room, media_type, data) VALUES ($1, $2, $3)
                 ON CONFLICT (room) DO UPDATE SET
                 media_type = excluded.media_type, data = excluded.data";
            let values = [room.as_str().into(), avatar.media_type().into(), avatar.data().into()];
            connection.execute(sql, values).await?;
        }
        Row::Hats { room, hats } => {
            let hats = serde_json::to_string(hats);
            let hats = hats.map_err(|why| sqlx::Error::Encode(why.into()))?;
            let sql = "INSERT INTO hats (room, hats) VALUES ($1, $2)
                 ON CONFLICT (room) DO UPDATE SET hats = excluded.hats";
            connection.execute(sql, [room.as_str().into(), hats.into()]).await?;
        }
        Row::User(user) => {
            let sql = "INSERT INTO users (jid, aor, name, md5, sha256) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (jid) DO UPDATE SET aor = excluded.aor, name = excluded.name,
                 md5 = excluded.md5, sha256 = excluded.sha256";
            let secret = user.secret.as_ref();
            let values = [
                user.jid.as_str().into(),
                user.aor.to_string().into(),
                user.name.clone().into(),
                secret.map(|secret| secret.md5.clone()).into(),
                secret.map(|secret| secret.sha256.clone()).into(),
            ];
            connection.execute(sql, values).await?;
        }
        Row::NoUser(jid) => {
            let key = [jid.as_str().into()];
            connection.execute("DELETE FROM users WHERE jid = $1", key).await?;
        }
        Row::Archived { room, said } => write_said(connection, room, said).await?,
        Row::Buried { room, id, tombstone } => {
            let sql = "UPDATE messages SET stanza = $1, kind = 'tombstone'
                 WHERE archive = (SELECT number FROM archives WHERE room = $2) AND id = $3";
            // Whatever happens, what was said is not left.
            let left =
                text(tombstone).unwrap_or_else(|_| "<message xmlns='jabber:client'/>".to_owned());
            let values = [left.into(), room.as_str().into(), id.as_str().into()];
            connection.execute(sql, values).await?;
        }
        Row::Sweep { before } => sweep(connection, *before).await?,
    }
    Ok(())
}

async fn write_nick(
    connection: &mut Connection,
    [delete, insert]: [&'static str; 2],
    room: &RoomName,
    jid: &BareJid,
    nick: Option<&Nick>,
) -> Result<(), sqlx::Error> {
    let key = [room.as_str().into(), jid.as_str().into()];
    match nick {
        None => connection.execute(delete, key).await?,
        Some(nick) => {
            connection.execute(insert, key.into_iter().chain([nick.as_str().into()])).await?
        }
    };
    Ok(())
}

/// XML as text, as [`read_said`] reads it.
fn text(stanza: &Element) -> Result<String> {
    let mut text = vec![];
    stanza.write_to(&mut text).context("XML that cannot be written")?;
    Ok(String::from_utf8(text)?)
}

async fn write_said(
    connection: &mut Connection,
    room: &RoomName,
    said: &Said,
) -> Result<(), sqlx::Error> {
    let Some(id) = &said.payload.stanza_id else { return Ok(()) };
    // One that cannot be kept keeps nothing else from being kept.
    let stanza = match text(&said.payload.stanza) {
        Ok(stanza) => stanza,
        Err(why) => {
            warn!(why = format!("{why:#}"), "not archived");
            return Ok(());
        }
    };
    let author = said.author.as_ref();
    let values = || {
        [
            room.as_str().into(),
            id.as_str().into(),
            said.id.clone().into(),
            seconds(said.at).into(),
            author.and_then(|author| author.jid.as_ref()).map(ToString::to_string).into(),
            author.map(|author| author.nick.as_str().to_owned()).into(),
            match said.kind {
                Kind::Message => "message",
                Kind::Subject => "subject",
                Kind::Tombstone => "tombstone",
            }
            .into(),
            stanza.clone().into(),
        ]
    };
    let sql = "INSERT INTO messages (archive, id, sent_id, at, jid, nick, kind, stanza)
         SELECT number, $2, $3, $4, $5, $6, $7, $8 FROM archives WHERE room = $1
         ON CONFLICT (archive, id) DO NOTHING";
    if connection.execute(sql, values()).await? == 0 {
        // The first of its archive, as a rule.
        let archive = "INSERT INTO archives (room) VALUES ($1) ON CONFLICT (room) DO NOTHING";
        connection.execute(archive, [room.as_str().into()]).await?;
        connection.execute(sql, values()).await?;
    }
    Ok(())
}

/// Deletes some of the messages that are too old, and some of those that are nobody's. Messages are
/// numbered as they came, so the oldest are the first.
async fn sweep(connection: &mut Connection, before: Option<SystemTime>) -> Result<(), sqlx::Error> {
    if let Some(before) = before {
        let sql = "DELETE FROM messages WHERE at < $1 AND number IN
             (SELECT number FROM messages ORDER BY number LIMIT $2)";
        connection.execute(sql, [seconds(before).into(), MAX_SWEPT.into()]).await?;
    }
    let sql = "DELETE FROM messages WHERE number IN
         (SELECT messages.number FROM archives JOIN messages ON messages.archive = archives.number
          WHERE archives.room IS NULL LIMIT $1)";
    connection.execute(sql, [MAX_SWEPT.into()]).await?;
    let sql = "DELETE FROM archives WHERE room IS NULL
         AND NOT EXISTS (SELECT 1 FROM messages WHERE archive = archives.number)";
    connection.execute(sql, []).await?;
    Ok(())
}

/// A row of `messages`: `id`, `sent_id`, `at`, `jid`, `nick`, `kind`, `stanza`.
pub(super) fn read_said(row: &Found) -> Result<Said> {
    let id: String = row.get("id")?;
    let (jid, nick): (Option<String>, Option<String>) = (row.get("jid")?, row.get("nick")?);
    let stanza: String = row.get("stanza")?;
    let kind: String = row.get("kind")?;
    let at: i64 = row.get("at")?;
    let jid = jid.map(|jid| BareJid::new(&jid)).transpose();
    let nick = nick.map(|nick| Nick::new(&nick)).transpose();
    let (jid, nick) = jid
        .ok()
        .zip(nick.ok())
        .with_context(|| format!("the author of the archived message {id}"))?;
    let stanza: Element = stanza.parse().with_context(|| format!("the archived message {id}"))?;
    Ok(Said {
        author: nick.map(|nick| Author { jid, nick }),
        id: row.get("sent_id")?,
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or_default()),
        kind: match kind.as_str() {
            "message" => Kind::Message,
            "subject" => Kind::Subject,
            "tombstone" => Kind::Tombstone,
            other => bail!("the archived message {id} is of kind {other}"),
        },
        payload: Payload {
            stanza: Arc::new(stanza),
            lasting: true,
            text: true,
            stanza_id: Some(id),
        },
    })
}

fn read_room(row: &Found) -> Result<StoredRoom> {
    let name: String = row.get("name")?;
    let settings: String = row.get("settings")?;
    let subject: Option<String> = row.get("subject")?;
    let nick: Option<String> = row.get("subject_nick")?;
    let at: Option<i64> = row.get("subject_at")?;
    Ok(StoredRoom {
        settings: serde_json::from_str(&settings)
            .with_context(|| format!("stored settings of room {name}"))?,
        name: RoomName::new(&name).map_err(|why| anyhow!("stored room {name}: {why}"))?,
        locked: row.get("locked")?,
        subject: match (subject, nick, at) {
            (Some(subject), Some(nick), Some(at)) => {
                let at = Duration::from_secs(u64::try_from(at).unwrap_or_default());
                Some((subject, nick, SystemTime::UNIX_EPOCH + at))
            }
            _ => None,
        },
    })
}

fn read_affiliation(row: &Found) -> Result<(Who, Affiliation)> {
    let (kind, who): (String, String) = (row.get("kind")?, row.get("who")?);
    let word: String = row.get("affiliation")?;
    let affiliation = Affiliation::parse(&word)
        .with_context(|| format!("stored affiliation of {who}: {word}"))?;
    let who = match kind.as_str() {
        "jid" => Who::Jid(BareJid::new(&who).with_context(|| format!("stored JID {who}"))?),
        "aor" => Who::Aor(who.parse::<Aor>().with_context(|| format!("stored address {who}"))?),
        other => bail!("stored identity of kind {other}"),
    };
    Ok((who, affiliation))
}

fn read_nick(row: &Found) -> Result<(RoomName, BareJid, Nick)> {
    let (room, jid): (String, String) = (row.get("room")?, row.get("jid")?);
    let nick: String = row.get("nick")?;
    Ok((
        RoomName::new(&room).map_err(|why| anyhow!("stored room {room}: {why}"))?,
        BareJid::new(&jid).with_context(|| format!("stored JID {jid}"))?,
        Nick::new(&nick).map_err(|why| anyhow!("stored nick {nick}: {why}"))?,
    ))
}

fn read_avatar(row: &Found) -> Result<(RoomName, Arc<Avatar>)> {
    let (room, media_type): (String, String) = (row.get("room")?, row.get("media_type")?);
    let avatar = Avatar::new(&media_type, row.get("data")?);
    Ok((
        RoomName::new(&room).map_err(|why| anyhow!("stored room {room}: {why}"))?,
        Arc::new(avatar.with_context(|| format!("stored picture of room {room}"))?),
    ))
}

fn read_hats(row: &Found) -> Result<(RoomName, Hats)> {
    let (room, hats): (String, String) = (row.get("room")?, row.get("hats")?);
    let hats = serde_json::from_str(&hats).with_context(|| format!("hats of room {room}"))?;
    Ok((RoomName::new(&room).map_err(|why| anyhow!("stored room {room}: {why}"))?, hats))
}

fn read_user(row: &Found) -> Result<User> {
    let (jid, aor): (String, String) = (row.get("jid")?, row.get("aor")?);
    let md5: Option<String> = row.get("md5")?;
    let sha256: Option<String> = row.get("sha256")?;
    Ok(User {
        aor: aor.parse().with_context(|| format!("stored address {aor}"))?,
        jid: BareJid::new(&jid).with_context(|| format!("stored JID {jid}"))?,
        name: row.get("name")?,
        secret: md5.zip(sha256).map(|(md5, sha256)| Secret { md5, sha256 }),
    })
}

/// Kind and text of an identity; someone unknown is nobody to be remembered.
fn write_who(who: &Who) -> Option<(&'static str, String)> {
    match who {
        Who::Jid(jid) => Some(("jid", jid.to_string())),
        Who::Aor(aor) => Some(("aor", aor.to_string())),
        Who::Unknown(_) => None,
    }
}

/// Since 1970, rounded down.
pub(super) fn seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The number of the last message of each archive that is a room's, by an index.
const LAST_MESSAGES: &str = "SELECT number, room,
     (SELECT max(messages.number) FROM messages WHERE messages.archive = archives.number) AS last
     FROM archives WHERE room IS NOT NULL";
const END_OF_ARCHIVE: &str = "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages
     WHERE archive = $1 AND kind <> 'subject' ORDER BY number DESC LIMIT $2";
/// How long one transaction may take before the connection counts as lost.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The most messages that one sweep deletes for each reason: so few that nobody waits for it.
const MAX_SWEPT: i64 = 500;
/// The most messages that are loaded at start-up to be told to newcomers, of all rooms together.
const MAX_HISTORY_LOADED: u32 = 20_000;

#[cfg(test)]
pub(super) mod tests;
