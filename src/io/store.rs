//! Rooms, affiliations, the directory and archives in SQLite: read once at start-up, written as they
//! change. Archives are read on demand, beside this, by `archive`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use cusax::identity::Aor;
use jid::BareJid;
use minidom::Element;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row as _, SqliteConnection};
use tracing::warn;

use crate::directory::{Secret, User};
use crate::id::{Nick, RoomName};
use crate::journal::{Row, Snapshot};
use crate::room::StoredRoom;
use crate::room::avatar::Avatar;
use crate::room::hats::Hats;
use crate::room::history::{Author, Kind, Payload, Said};
use crate::room::person::Who;
use crate::room::standing::Affiliation;

/// The database, by its one connection.
#[derive(Debug)]
pub struct Store {
    connection: SqliteConnection,
}

impl Store {
    /// Opens the database of a `sqlite:` URL, creates it if it is not there, and brings its schema up
    /// to date.
    pub async fn open(url: &str) -> Result<Self> {
        let options = options(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // With WAL this loses nothing when the process dies; when the machine does, at most the
            // last transactions.
            .synchronous(SqliteSynchronous::Normal)
            // What was taken back or swept is overwritten and not merely no longer found.
            .pragma("secure_delete", "on")
            .foreign_keys(true);
        let connection =
            options.connect().await.with_context(|| format!("cannot open the store {url}"))?;
        let mut store = Self { connection };
        store.migrate().await.context("cannot bring the store's schema up to date")?;
        Ok(store)
    }

    async fn migrate(&mut self) -> Result<()> {
        let version: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut self.connection).await?;
        let version = usize::try_from(version).context("negative schema version")?;
        if version > MIGRATIONS.len() {
            bail!("the store has schema {version}, this program knows {}", MIGRATIONS.len());
        }
        for (number, migration) in MIGRATIONS.iter().enumerate().skip(version) {
            let mut transaction = self.connection.begin().await?;
            sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
            let done = match number + 1 {
                1 => "PRAGMA user_version = 1",
                2 => "PRAGMA user_version = 2",
                3 => "PRAGMA user_version = 3",
                4 => "PRAGMA user_version = 4",
                other => bail!("no statement for schema {other}"),
            };
            sqlx::query(done).execute(&mut *transaction).await?;
            transaction.commit().await?;
        }
        Ok(())
    }

    /// Everything that was stored.
    pub async fn load(&mut self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        for row in sqlx::query(
            "SELECT name, settings, locked, subject, subject_nick, subject_at FROM rooms ORDER BY name",
        )
        .fetch_all(&mut self.connection)
        .await?
        {
            let room = read_room(&row)?;
            let mut affiliations = vec![];
            for row in
                sqlx::query("SELECT kind, who, affiliation FROM affiliations WHERE room = ?")
                    .bind(room.name.as_str())
                    .fetch_all(&mut self.connection)
                    .await?
            {
                affiliations.push(read_affiliation(&row)?);
            }
            snapshot.rooms.push((room, affiliations));
        }
        for row in sqlx::query("SELECT room, jid, nick FROM nicks ORDER BY room, jid")
            .fetch_all(&mut self.connection)
            .await?
        {
            snapshot.nicks.push(read_nick(&row)?);
        }
        for row in sqlx::query("SELECT room, media_type, data FROM avatars ORDER BY room")
            .fetch_all(&mut self.connection)
            .await?
        {
            snapshot.avatars.push(read_avatar(&row)?);
        }
        for row in sqlx::query("SELECT room, hats FROM hats ORDER BY room")
            .fetch_all(&mut self.connection)
            .await?
        {
            snapshot.hats.push(read_hats(&row)?);
        }
        for row in sqlx::query("SELECT jid, aor, name, md5, sha256 FROM users ORDER BY jid")
            .fetch_all(&mut self.connection)
            .await?
        {
            snapshot.users.push(read_user(&row)?);
        }
        self.load_history(&mut snapshot).await?;
        Ok(snapshot)
    }

    /// The end of each archive, as much of it as newcomers are told. Where that is too much to keep in
    /// memory, rooms where something was said lately come first.
    async fn load_history(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        let mut lengths: BTreeMap<&str, u32> = BTreeMap::new();
        for (room, _) in snapshot.rooms.iter().filter(|(room, _)| room.settings.archived()) {
            lengths.insert(room.name.as_str(), room.settings.history);
        }
        let mut left = MAX_HISTORY_LOADED;
        let archives = sqlx::query(
            "SELECT archives.number AS archive, archives.room AS room FROM archives
             JOIN messages ON messages.archive = archives.number
             WHERE archives.room IS NOT NULL
             GROUP BY archives.number ORDER BY max(messages.number) DESC",
        )
        .fetch_all(&mut self.connection)
        .await?;
        for row in archives {
            let (archive, name): (i64, String) = (row.try_get("archive")?, row.try_get("room")?);
            let Some(length) = lengths.get(name.as_str()) else { continue };
            let mut history = vec![];
            for row in sqlx::query(
                "SELECT id, sent_id, at, jid, nick, kind, stanza FROM messages
                 WHERE archive = ? AND kind <> 'subject' ORDER BY number DESC LIMIT ?",
            )
            .bind(archive)
            .bind(i64::from((*length).min(left)))
            .fetch_all(&mut self.connection)
            .await?
            {
                match read_said(&row) {
                    Ok(said) => history.push(said),
                    Err(why) => warn!(why = format!("{why:#}"), "left out"),
                }
            }
            history.reverse();
            left -= u32::try_from(history.len()).unwrap_or(left).min(left);
            let name = RoomName::new(&name).map_err(|why| anyhow!("stored room {name}: {why}"))?;
            snapshot.history.insert(name, history);
        }
        Ok(())
    }

    /// Writes changes, all of them or none.
    pub async fn write(&mut self, rows: &[Row]) -> Result<()> {
        let mut transaction = self.connection.begin().await?;
        for row in rows {
            write_row(&mut transaction, row).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Writes everything anew, or nothing: whatever else was stored is gone, but for the archives of
    /// rooms that are still there; `erasures` hold for those.
    pub async fn replace(&mut self, erasures: &[Row], snapshot: &Snapshot) -> Result<()> {
        let mut transaction = self.connection.begin().await?;
        for row in erasures {
            write_row(&mut transaction, row).await?;
        }
        sqlx::raw_sql("DELETE FROM affiliations; DELETE FROM rooms; DELETE FROM users")
            .execute(&mut *transaction)
            .await?;
        for row in snapshot.rows() {
            write_row(&mut transaction, &row).await?;
        }
        sqlx::query("UPDATE archives SET room = NULL WHERE room NOT IN (SELECT name FROM rooms)")
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Closes the database in good order.
    pub async fn close(self) -> Result<()> {
        Ok(self.connection.close().await?)
    }
}

/// How the database of a `sqlite:` URL is opened, by whoever opens it.
pub(super) fn options(url: &str) -> Result<SqliteConnectOptions> {
    let options = SqliteConnectOptions::from_str(url);
    let options = options.with_context(|| format!("store.url: {url}"))?;
    Ok(options.busy_timeout(Duration::from_secs(5)))
}

async fn write_row(connection: &mut SqliteConnection, row: &Row) -> Result<()> {
    match row {
        Row::Room(room) => {
            let (subject, nick, at) = match &room.subject {
                Some((text, nick, at)) => (Some(text), Some(nick), Some(seconds(*at))),
                None => (None, None, None),
            };
            sqlx::query(
                "INSERT INTO rooms (name, settings, locked, subject, subject_nick, subject_at)
                 VALUES (?, ?, ?, ?, ?, ?)
                 ON CONFLICT (name) DO UPDATE SET settings = excluded.settings,
                 locked = excluded.locked, subject = excluded.subject,
                 subject_nick = excluded.subject_nick, subject_at = excluded.subject_at",
            )
            .bind(room.name.as_str())
            .bind(serde_json::to_string(&room.settings)?)
            .bind(room.locked)
            .bind(subject)
            .bind(nick)
            .bind(at)
            .execute(&mut *connection)
            .await?;
        }
        Row::NoRoom(room) => {
            sqlx::query("DELETE FROM rooms WHERE name = ?")
                .bind(room.as_str())
                .execute(&mut *connection)
                .await?;
            // At once nobody's; its messages are swept, however many they are.
            sqlx::query("UPDATE archives SET room = NULL WHERE room = ?")
                .bind(room.as_str())
                .execute(&mut *connection)
                .await?;
        }
        Row::Affiliation { room, who, affiliation, reason } => {
            let Some((kind, who)) = write_who(who) else { return Ok(()) };
            let query = if *affiliation == Affiliation::None {
                sqlx::query("DELETE FROM affiliations WHERE room = ? AND kind = ? AND who = ?")
                    .bind(room.as_str())
                    .bind(kind)
                    .bind(who)
            } else {
                sqlx::query(
                    "INSERT INTO affiliations (room, kind, who, affiliation, reason)
                     VALUES (?, ?, ?, ?, ?)
                     ON CONFLICT (room, kind, who) DO UPDATE SET
                     affiliation = excluded.affiliation, reason = excluded.reason",
                )
                .bind(room.as_str())
                .bind(kind)
                .bind(who)
                .bind(affiliation.as_str())
                .bind(reason)
            };
            query.execute(&mut *connection).await?;
        }
        Row::Nick { room, jid, nick } => {
            let query = match nick {
                None => sqlx::query("DELETE FROM nicks WHERE room = ? AND jid = ?")
                    .bind(room.as_str())
                    .bind(jid.as_str()),
                Some(nick) => sqlx::query(
                    "INSERT INTO nicks (room, jid, nick) VALUES (?, ?, ?)
                     ON CONFLICT (room, jid) DO UPDATE SET nick = excluded.nick",
                )
                .bind(room.as_str())
                .bind(jid.as_str())
                .bind(nick.as_str()),
            };
            query.execute(&mut *connection).await?;
        }
        Row::Avatar { room, avatar } => {
            let query = match avatar {
                None => sqlx::query("DELETE FROM avatars WHERE room = ?").bind(room.as_str()),
                Some(avatar) => sqlx::query(
                    "INSERT INTO avatars (room, media_type, data) VALUES (?, ?, ?)
                     ON CONFLICT (room) DO UPDATE SET
                     media_type = excluded.media_type, data = excluded.data",
                )
                .bind(room.as_str())
                .bind(avatar.media_type())
                .bind(avatar.data()),
            };
            query.execute(&mut *connection).await?;
        }
        Row::Hats { room, hats } => {
            sqlx::query(
                "INSERT INTO hats (room, hats) VALUES (?, ?)
                 ON CONFLICT (room) DO UPDATE SET hats = excluded.hats",
            )
            .bind(room.as_str())
            .bind(serde_json::to_string(hats)?)
            .execute(&mut *connection)
            .await?;
        }
        Row::User(user) => {
            sqlx::query(
                "INSERT INTO users (jid, aor, name, md5, sha256) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (jid) DO UPDATE SET aor = excluded.aor, name = excluded.name,
                 md5 = excluded.md5, sha256 = excluded.sha256",
            )
            .bind(user.jid.as_str())
            .bind(user.aor.to_string())
            .bind(&user.name)
            .bind(user.secret.as_ref().map(|secret| &secret.md5))
            .bind(user.secret.as_ref().map(|secret| &secret.sha256))
            .execute(&mut *connection)
            .await?;
        }
        Row::NoUser(jid) => {
            sqlx::query("DELETE FROM users WHERE jid = ?")
                .bind(jid.as_str())
                .execute(&mut *connection)
                .await?;
        }
        Row::Archived { room, said } => write_said(connection, room, said).await?,
        Row::Buried { room, id, tombstone } => {
            sqlx::query(
                "UPDATE messages SET stanza = ?, kind = 'tombstone'
                 WHERE archive = (SELECT number FROM archives WHERE room = ?) AND id = ?",
            )
            // Whatever happens, what was said is not left.
            .bind(text(tombstone).unwrap_or_else(|_| "<message xmlns='jabber:client'/>".to_owned()))
            .bind(room.as_str())
            .bind(id)
            .execute(&mut *connection)
            .await?;
        }
        Row::Sweep { before } => sweep(connection, *before).await?,
    }
    Ok(())
}

/// XML as text, as [`read_said`] reads it.
fn text(stanza: &Element) -> Result<String> {
    let mut text = vec![];
    stanza.write_to(&mut text).context("XML that cannot be written")?;
    Ok(String::from_utf8(text)?)
}

async fn write_said(connection: &mut SqliteConnection, room: &RoomName, said: &Said) -> Result<()> {
    let Some(id) = &said.payload.stanza_id else { return Ok(()) };
    // One that cannot be kept keeps nothing else from being kept.
    let stanza = match text(&said.payload.stanza) {
        Ok(stanza) => stanza,
        Err(why) => {
            warn!(why = format!("{why:#}"), "not archived");
            return Ok(());
        }
    };
    sqlx::query("INSERT INTO archives (room) VALUES (?) ON CONFLICT (room) DO NOTHING")
        .bind(room.as_str())
        .execute(&mut *connection)
        .await?;
    let author = said.author.as_ref();
    sqlx::query(
        "INSERT INTO messages (archive, id, sent_id, at, jid, nick, kind, stanza)
         VALUES ((SELECT number FROM archives WHERE room = ?), ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (archive, id) DO NOTHING",
    )
    .bind(room.as_str())
    .bind(id)
    .bind(&said.id)
    .bind(seconds(said.at))
    .bind(author.and_then(|author| author.jid.as_ref()).map(ToString::to_string))
    .bind(author.map(|author| author.nick.as_str()))
    .bind(match said.kind {
        Kind::Message => "message",
        Kind::Subject => "subject",
        Kind::Tombstone => "tombstone",
    })
    .bind(stanza)
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// Deletes some of the messages that are too old, and some of those that are nobody's. Messages are
/// numbered as they came, so the oldest are the first.
async fn sweep(connection: &mut SqliteConnection, before: Option<SystemTime>) -> Result<()> {
    if let Some(before) = before {
        sqlx::query(
            "DELETE FROM messages WHERE at < ? AND number IN
             (SELECT number FROM messages ORDER BY number LIMIT ?)",
        )
        .bind(seconds(before))
        .bind(MAX_SWEPT)
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query(
        "DELETE FROM messages WHERE number IN
         (SELECT messages.number FROM archives JOIN messages ON messages.archive = archives.number
          WHERE archives.room IS NULL LIMIT ?)",
    )
    .bind(MAX_SWEPT)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM archives WHERE room IS NULL
         AND NOT EXISTS (SELECT 1 FROM messages WHERE archive = archives.number)",
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// A row of `messages`: `id`, `sent_id`, `at`, `jid`, `nick`, `kind`, `stanza`.
pub(super) fn read_said(row: &SqliteRow) -> Result<Said> {
    let id: String = row.try_get("id")?;
    let (jid, nick): (Option<String>, Option<String>) = (row.try_get("jid")?, row.try_get("nick")?);
    let stanza: String = row.try_get("stanza")?;
    let kind: String = row.try_get("kind")?;
    let at: i64 = row.try_get("at")?;
    let jid = jid.map(|jid| BareJid::new(&jid)).transpose();
    let nick = nick.map(|nick| Nick::new(&nick)).transpose();
    let (jid, nick) = jid
        .ok()
        .zip(nick.ok())
        .with_context(|| format!("the author of the archived message {id}"))?;
    let stanza: Element = stanza.parse().with_context(|| format!("the archived message {id}"))?;
    Ok(Said {
        author: nick.map(|nick| Author { jid, nick }),
        id: row.try_get("sent_id")?,
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

fn read_room(row: &SqliteRow) -> Result<StoredRoom> {
    let name: String = row.try_get("name")?;
    let settings: String = row.try_get("settings")?;
    let subject: Option<String> = row.try_get("subject")?;
    let nick: Option<String> = row.try_get("subject_nick")?;
    let at: Option<i64> = row.try_get("subject_at")?;
    Ok(StoredRoom {
        settings: serde_json::from_str(&settings)
            .with_context(|| format!("stored settings of room {name}"))?,
        name: RoomName::new(&name).map_err(|why| anyhow!("stored room {name}: {why}"))?,
        locked: row.try_get("locked")?,
        subject: match (subject, nick, at) {
            (Some(subject), Some(nick), Some(at)) => {
                let at = Duration::from_secs(u64::try_from(at).unwrap_or_default());
                Some((subject, nick, SystemTime::UNIX_EPOCH + at))
            }
            _ => None,
        },
    })
}

fn read_affiliation(row: &SqliteRow) -> Result<(Who, Affiliation)> {
    let (kind, who): (String, String) = (row.try_get("kind")?, row.try_get("who")?);
    let word: String = row.try_get("affiliation")?;
    let affiliation = Affiliation::parse(&word)
        .with_context(|| format!("stored affiliation of {who}: {word}"))?;
    let who = match kind.as_str() {
        "jid" => Who::Jid(BareJid::new(&who).with_context(|| format!("stored JID {who}"))?),
        "aor" => Who::Aor(who.parse::<Aor>().with_context(|| format!("stored address {who}"))?),
        other => bail!("stored identity of kind {other}"),
    };
    Ok((who, affiliation))
}

fn read_nick(row: &SqliteRow) -> Result<(RoomName, BareJid, Nick)> {
    let (room, jid): (String, String) = (row.try_get("room")?, row.try_get("jid")?);
    let nick: String = row.try_get("nick")?;
    Ok((
        RoomName::new(&room).map_err(|why| anyhow!("stored room {room}: {why}"))?,
        BareJid::new(&jid).with_context(|| format!("stored JID {jid}"))?,
        Nick::new(&nick).map_err(|why| anyhow!("stored nick {nick}: {why}"))?,
    ))
}

fn read_avatar(row: &SqliteRow) -> Result<(RoomName, Arc<Avatar>)> {
    let (room, media_type): (String, String) = (row.try_get("room")?, row.try_get("media_type")?);
    let avatar = Avatar::new(&media_type, row.try_get("data")?);
    Ok((
        RoomName::new(&room).map_err(|why| anyhow!("stored room {room}: {why}"))?,
        Arc::new(avatar.with_context(|| format!("stored picture of room {room}"))?),
    ))
}

fn read_hats(row: &SqliteRow) -> Result<(RoomName, Hats)> {
    let (room, hats): (String, String) = (row.try_get("room")?, row.try_get("hats")?);
    let hats = serde_json::from_str(&hats).with_context(|| format!("hats of room {room}"))?;
    Ok((RoomName::new(&room).map_err(|why| anyhow!("stored room {room}: {why}"))?, hats))
}

fn read_user(row: &SqliteRow) -> Result<User> {
    let (jid, aor): (String, String) = (row.try_get("jid")?, row.try_get("aor")?);
    let md5: Option<String> = row.try_get("md5")?;
    let sha256: Option<String> = row.try_get("sha256")?;
    Ok(User {
        aor: aor.parse().with_context(|| format!("stored address {aor}"))?,
        jid: BareJid::new(&jid).with_context(|| format!("stored JID {jid}"))?,
        name: row.try_get("name")?,
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

/// The schema, one step a version; what landed is never edited, only added to.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE rooms (
        name TEXT PRIMARY KEY NOT NULL,
        settings TEXT NOT NULL,
        locked INTEGER NOT NULL,
        subject TEXT,
        subject_nick TEXT,
        subject_at INTEGER
    ) STRICT;
    CREATE TABLE affiliations (
        room TEXT NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        who TEXT NOT NULL,
        affiliation TEXT NOT NULL,
        reason TEXT,
        PRIMARY KEY (room, kind, who)
    ) STRICT;
    CREATE TABLE users (
        jid TEXT PRIMARY KEY NOT NULL,
        aor TEXT NOT NULL UNIQUE,
        name TEXT,
        md5 TEXT,
        sha256 TEXT
    ) STRICT;
",
    "
    CREATE TABLE archives (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        -- None: the room is no more, and the messages are still to be deleted.
        room TEXT UNIQUE
    ) STRICT;
    CREATE TABLE messages (
        -- In the order in which they were said.
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        archive INTEGER NOT NULL REFERENCES archives (number),
        id TEXT NOT NULL,
        sent_id TEXT,
        at INTEGER NOT NULL,
        jid TEXT,
        nick TEXT,
        kind TEXT NOT NULL,
        stanza TEXT NOT NULL,
        UNIQUE (archive, id)
    ) STRICT;
    CREATE INDEX messages_in_order ON messages (archive, number);
    CREATE INDEX messages_by_time ON messages (archive, at);
    -- Whoever configured these rooms was not asked about an archive.
    UPDATE rooms SET settings = json_set(settings, '$.archive', json('false'));
",
    "
    CREATE TABLE nicks (
        room TEXT NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        jid TEXT NOT NULL,
        nick TEXT NOT NULL,
        PRIMARY KEY (room, jid)
    ) STRICT;
    CREATE TABLE avatars (
        room TEXT PRIMARY KEY NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        media_type TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE hats (
        room TEXT PRIMARY KEY NOT NULL REFERENCES rooms (name) ON DELETE CASCADE,
        hats TEXT NOT NULL
    ) STRICT;
",
];

/// The most messages that one sweep deletes for each reason: so few that nobody waits for it.
const MAX_SWEPT: i64 = 500;
/// The most messages that are loaded at start-up to be told to newcomers, of all rooms together.
const MAX_HISTORY_LOADED: u32 = 20_000;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::room::settings::Settings;

    /// A database of its own in the system's folder for such things, gone with the value.
    pub(in crate::io) struct Scratch(std::path::PathBuf);

    impl Scratch {
        pub(in crate::io) fn new(name: &str) -> Self {
            let file = format!("cusaxd-store-{}-{name}", std::process::id());
            let folder = std::env::temp_dir().join(file);
            std::fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        pub(in crate::io) fn url(&self) -> String {
            format!("sqlite:{}", self.0.join("test.db").display())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn room(name: &str) -> StoredRoom {
        StoredRoom {
            name: RoomName::new(name).unwrap(),
            settings: Settings { persistent: true, ..Settings::default() },
            locked: false,
            subject: None,
        }
    }

    fn user(jid: &str, aor: &str) -> User {
        let secret = Some(Secret { md5: "0f".to_owned(), sha256: "1f".to_owned() });
        let name = Some("Ötzi".to_owned());
        User { jid: BareJid::new(jid).unwrap(), aor: aor.parse().unwrap(), name, secret }
    }

    fn affiliation(room: &StoredRoom, who: &Who, affiliation: Affiliation) -> Row {
        let (room, who) = (room.name.clone(), who.clone());
        Row::Affiliation { room, who, affiliation, reason: Some("why".to_owned()) }
    }

    #[tokio::test]
    async fn gives_back_what_was_written_after_a_restart() {
        let scratch = Scratch::new("restart");
        let mut store = Store::open(&scratch.url()).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Snapshot::default());

        let cave = StoredRoom {
            locked: true,
            settings: Settings {
                name: "Höhle".to_owned(),
                password: Some("sesame".to_owned()),
                max_users: Some(7),
                persistent: true,
                ..Settings::default()
            },
            subject: Some((
                "spells".to_owned(),
                "Hecate".to_owned(),
                SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            )),
            ..room("cave")
        };
        let owner = Who::Jid(BareJid::new("hecate@example.org").unwrap());
        let banned = Who::Aor("sip:macbeth@example.org".parse().unwrap());
        let rows = [
            Row::Room(room("cave")),
            Row::Room(cave.clone()),
            affiliation(&cave, &owner, Affiliation::Owner),
            affiliation(&cave, &banned, Affiliation::Member),
            affiliation(&cave, &banned, Affiliation::Outcast),
            Row::User(user("a@example.org", "sip:1@example.org")),
        ];
        store.write(&rows).await.unwrap();
        // Not closed: as after a crash.
        drop(store);

        let mut store = Store::open(&scratch.url()).await.unwrap();
        let snapshot = store.load().await.unwrap();
        assert_eq!(snapshot.users, [user("a@example.org", "sip:1@example.org")]);
        let [(stored, affiliations)] = snapshot.rooms.as_slice() else { panic!("{snapshot:?}") };
        assert_eq!(*stored, cave);
        let expected = [(banned.clone(), Affiliation::Outcast), (owner, Affiliation::Owner)];
        assert_eq!(affiliations.len(), 2);
        assert!(expected.iter().all(|entry| affiliations.contains(entry)), "{affiliations:?}");

        let rows = [affiliation(&cave, &banned, Affiliation::None), Row::NoRoom(cave.name.clone())];
        store.write(&rows[..1]).await.unwrap();
        assert_eq!(store.load().await.unwrap().rooms[0].1.len(), 1);
        store.write(&rows[1..]).await.unwrap();
        assert_eq!(store.load().await.unwrap().rooms, []);
    }

    #[tokio::test]
    async fn nicks_pictures_and_hats_go_with_their_room() {
        let scratch = Scratch::new("nicks");
        let mut store = Store::open(&scratch.url()).await.unwrap();
        let (cave, jid) = (room("cave"), BareJid::new("hecate@example.org").unwrap());
        let nick = |nick: Option<&str>| Row::Nick {
            room: cave.name.clone(),
            jid: jid.clone(),
            nick: nick.map(|nick| Nick::new(nick).unwrap()),
        };
        let picture = |byte| Arc::new(Avatar::new("image/png", vec![byte; 1_000]).unwrap());
        let avatar = |avatar: Option<Arc<Avatar>>| Row::Avatar { room: cave.name.clone(), avatar };
        let hats = |made: &str| Row::Hats {
            room: cave.name.clone(),
            hats: serde_json::from_str(made).unwrap(),
        };
        let worn = r#"{ "made": { "urn:x": { "title": "Chief", "hue": "1.5" } },
                        "worn": { "hecate@example.org": ["urn:x"] } }"#;
        let rows = [
            Row::Room(cave.clone()),
            nick(Some("Witch")),
            nick(Some("Third Witch")),
            avatar(Some(picture(0))),
            avatar(Some(picture(255))),
            hats("{}"),
            hats(worn),
        ];
        store.write(&rows).await.unwrap();
        drop(store);
        let mut store = Store::open(&scratch.url()).await.unwrap();
        let snapshot = store.load().await.unwrap();
        let kept = (cave.name.clone(), jid.clone(), Nick::new("Third Witch").unwrap());
        assert_eq!(snapshot.nicks, [kept]);
        assert_eq!(snapshot.avatars, [(cave.name.clone(), picture(255))]);
        assert_eq!(snapshot.hats, [(cave.name.clone(), serde_json::from_str(worn).unwrap())]);

        store.replace(&[], &snapshot).await.unwrap();
        assert_eq!(store.load().await.unwrap(), snapshot);
        store.write(&[nick(None), avatar(None)]).await.unwrap();
        let emptied = store.load().await.unwrap();
        assert_eq!((emptied.nicks.len(), emptied.avatars.len()), (0, 0));

        store.write(&rows[1..]).await.unwrap();
        store.write(&[Row::NoRoom(cave.name.clone())]).await.unwrap();
        assert_eq!(store.load().await.unwrap(), Snapshot::default());
    }

    #[tokio::test]
    async fn writes_all_or_nothing() {
        let scratch = Scratch::new("atomic");
        let mut store = Store::open(&scratch.url()).await.unwrap();
        store.write(&[Row::User(user("a@x", "sip:1@x"))]).await.unwrap();
        let rows = [Row::Room(room("cave")), Row::User(user("b@x", "sip:1@x"))];
        assert!(store.write(&rows).await.is_err(), "an address has one owner");
        let snapshot = store.load().await.unwrap();
        assert_eq!((snapshot.rooms.len(), snapshot.users.len()), (0, 1));
        store.write(&rows[..1]).await.unwrap();
        assert_eq!(store.load().await.unwrap().rooms.len(), 1);
    }

    #[tokio::test]
    async fn refuses_a_schema_from_the_future() {
        let scratch = Scratch::new("future");
        let mut store = Store::open(&scratch.url()).await.unwrap();
        sqlx::query("PRAGMA user_version = 99").execute(&mut store.connection).await.unwrap();
        store.close().await.unwrap();
        let why = format!("{:#}", Store::open(&scratch.url()).await.unwrap_err());
        assert!(why.contains("schema 99"), "{why}");
    }

    fn message(id: &str, day: u64) -> Said {
        let stanza = "<message xmlns='jabber:client'><body>x</body></message>".parse().unwrap();
        Said {
            author: Some(Author {
                jid: Some(BareJid::new("hecate@example.org").unwrap()),
                nick: Nick::new("Hecate").unwrap(),
            }),
            id: None,
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400),
            kind: Kind::Message,
            payload: Payload {
                stanza: Arc::new(stanza),
                lasting: true,
                text: true,
                stanza_id: Some(id.to_owned()),
            },
        }
    }

    fn archived(room: &str, said: Said) -> Row {
        Row::Archived { room: RoomName::new(room).unwrap(), said }
    }

    async fn messages(store: &mut Store) -> Vec<String> {
        let ids = sqlx::query_scalar("SELECT id FROM messages ORDER BY number");
        ids.fetch_all(&mut store.connection).await.unwrap()
    }

    #[test]
    fn xml_comes_back_as_it_was() {
        let deep = format!("{}{}", "<a xmlns='d'>".repeat(60), "</a>".repeat(60));
        for inside in [
            "<body>x</body>",
            "<body xml:lang='de'>&lt;&amp;&gt;&#39;&quot;]]&gt;</body><body>2</body>",
            "<body>a\nb\tc&#13;&#10;d  </body>",
            "<p:a xmlns:p='p' p:b='1' b='2'><p:c/><c xmlns=''><d/></c></p:a>",
            "<x xmlns='a&apos;&lt;&amp;b' y='&#10;&#9;&apos;&quot;&lt;&amp;'>t<z/>u</x>",
            "<q:a xmlns:q='q1' xmlns:r='q2' q:b='1' r:b='2' xml:lang='en'/>",
            &deep,
        ] {
            let xml = format!("<message xmlns='jabber:client' type='groupchat'>{inside}</message>");
            let stanza: Element = xml.parse().unwrap();
            let written = super::text(&stanza).unwrap();
            assert_eq!(written.parse::<Element>().unwrap(), stanza, "{written}");
        }
    }

    #[tokio::test]
    async fn brings_a_store_of_the_first_schema_up_to_date() {
        let scratch = Scratch::new("first");
        let options = options(&scratch.url()).unwrap().create_if_missing(true);
        let mut old = options.connect().await.unwrap();
        sqlx::raw_sql(include_str!("schema-1.sql")).execute(&mut old).await.unwrap();
        old.close().await.unwrap();

        let mut store = Store::open(&scratch.url()).await.unwrap();
        let snapshot = store.load().await.unwrap();
        let [(standup, affiliations), (townhall, none)] = snapshot.rooms.as_slice() else {
            panic!("{snapshot:?}");
        };
        assert_eq!(standup.name.as_str(), "standup");
        assert_eq!(standup.settings.name, "Stand-up");
        assert_eq!(standup.settings.password.as_deref(), Some("swordfish"));
        let who = Who::Jid(BareJid::new("eve@example.org").unwrap());
        assert_eq!(affiliations.as_slice(), [(who, Affiliation::Outcast)]);
        assert!(townhall.locked && none.is_empty());
        assert_eq!(snapshot.users.len(), 1);
        // Nobody who configured these was asked.
        assert!(snapshot.rooms.iter().all(|(room, _)| !room.settings.archived()));

        store.write(&[archived("standup", message("m1", 1))]).await.unwrap();
        store.close().await.unwrap();
        let mut store = Store::open(&scratch.url()).await.unwrap();
        assert_eq!(messages(&mut store).await, ["m1"]);
    }

    #[tokio::test]
    async fn what_newcomers_are_told_outlasts_a_restart() {
        let scratch = Scratch::new("history");
        let mut store = Store::open(&scratch.url()).await.unwrap();
        let settings = |archive| Settings { history: 2, archive, ..room("cave").settings };
        let (cave, attic) = (
            StoredRoom { settings: settings(true), ..room("cave") },
            StoredRoom { settings: settings(false), ..room("attic") },
        );
        let subject = Said { kind: Kind::Subject, ..message("m4", 4) };
        let rows = [
            Row::Room(cave.clone()),
            Row::Room(attic),
            archived("cave", message("m1", 1)),
            archived("attic", message("m1", 1)),
            archived("cave", message("m2", 2)),
            archived("cave", message("m3", 3)),
            archived("cave", subject),
        ];
        store.write(&rows).await.unwrap();
        let expected = [(cave.name, vec![message("m2", 2), message("m3", 3)])];
        assert_eq!(store.load().await.unwrap().history, expected.into());
    }

    #[tokio::test]
    async fn archives_go_with_their_rooms_and_messages_with_time() {
        let scratch = Scratch::new("sweep");
        let mut store = Store::open(&scratch.url()).await.unwrap();
        let many = i64::from(u16::try_from(MAX_SWEPT).unwrap()) + 1;
        let mut rows = vec![Row::Room(room("cave")), Row::Room(room("attic"))];
        rows.extend((0..many).map(|number| archived("attic", message(&format!("a{number}"), 9))));
        rows.extend((1..=4).map(|day| archived("cave", message(&format!("m{day}"), day))));
        store.write(&rows).await.unwrap();

        // A room of the same name is another room.
        let rows = [
            Row::NoRoom(room("attic").name),
            Row::Room(room("attic")),
            archived("attic", message("new", 9)),
        ];
        store.write(&rows).await.unwrap();
        assert_eq!(store.load().await.unwrap().history[&room("attic").name], [message("new", 9)]);
        store.write(&[Row::Sweep { before: None }]).await.unwrap();
        assert_eq!(messages(&mut store).await.len(), 6, "some at a time");
        let before = Some(message("", 3).at);
        store.write(&[Row::Sweep { before }]).await.unwrap();
        assert_eq!(messages(&mut store).await, ["m3", "m4", "new"]);
        let archives: i64 = sqlx::query_scalar("SELECT count(*) FROM archives")
            .fetch_one(&mut store.connection)
            .await
            .unwrap();
        assert_eq!(archives, 2);
    }

    #[tokio::test]
    async fn writing_everything_anew_leaves_archives_and_still_erases() {
        let scratch = Scratch::new("anew");
        let mut store = Store::open(&scratch.url()).await.unwrap();
        let rows = ["cave", "attic", "cellar"].map(|name| Row::Room(room(name)));
        store.write(&rows).await.unwrap();
        for name in ["cave", "attic", "cellar"] {
            store.write(&[archived(name, message(name, 1))]).await.unwrap();
        }
        // The attic was destroyed and made again, the cellar destroyed.
        let erasures = [Row::NoRoom(room("attic").name), Row::NoRoom(room("cellar").name)];
        let rooms = ["cave", "attic"].map(|name| (room(name), vec![])).into();
        let snapshot = Snapshot { rooms, ..Snapshot::default() };
        store.replace(&erasures, &snapshot).await.unwrap();
        store.write(&[Row::Sweep { before: None }]).await.unwrap();
        assert_eq!(messages(&mut store).await, ["cave"]);
        let loaded = store.load().await.unwrap();
        assert_eq!(loaded.rooms.len(), 2);
        assert_eq!(loaded.history.keys().collect::<Vec<_>>(), [&room("cave").name]);
    }
}
