//! Two databases behind one connection: SQLite in a file, and PostgreSQL.
//!
//! Statements are written once, in the SQL that both understand, with parameters `$1`, `$2` and so on.
//! What the two do not share is here, and in `schema`.

use std::fmt;
use std::fs::{File, TryLockError};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Database, Decode, Encode, Postgres, Row as _,
    SqlSafeStr, Sqlite, SqliteConnection, Type,
};

/// Where a database is. Shown without its password.
#[derive(Clone)]
pub(in crate::io) enum Place {
    /// In a file.
    Sqlite(SqliteConnectOptions),
    /// At a server.
    Postgres(PgConnectOptions),
}

/// A connection to a database.
#[derive(Debug)]
pub(in crate::io) enum Connection {
    /// To a file.
    Sqlite(SqliteConnection),
    /// To a server.
    Postgres(PgConnection),
}

/// A row that was found.
pub(in crate::io) enum Found {
    /// In SQLite.
    Sqlite(SqliteRow),
    /// In PostgreSQL.
    Postgres(PgRow),
}

/// A parameter of a statement.
#[derive(Clone, Debug)]
pub(in crate::io) enum Value {
    /// `BOOLEAN`; in SQLite `INTEGER`.
    Flag(bool),
    /// `BIGINT`; in SQLite `INTEGER`.
    Number(Option<i64>),
    /// `TEXT`
    Text(Option<String>),
    /// `BYTEA`; in SQLite `BLOB`.
    Bytes(Vec<u8>),
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::io) enum Access {
    /// It changes what is stored.
    Write,
    /// It reads, and cannot do anything else.
    Read,
}

impl Place {
    /// Reads a `sqlite:` or `postgres:` URL. The error does not repeat it: it may hold a password.
    pub(in crate::io) fn parse(url: &str) -> Result<Self> {
        match url.split_once(':') {
            Some(("sqlite", _)) => {
                let options = SqliteConnectOptions::from_str(url)?;
                Ok(Self::Sqlite(options.busy_timeout(Duration::from_secs(5))))
            }
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                let options = PgConnectOptions::from_str(url)?;
                Ok(Self::Postgres(options.application_name("cusaxd")))
            }
            _ => bail!("must be sqlite:FILE or postgres://USER@HOST/DATABASE"),
        }
    }

    /// Whether it is a file that is not there yet, in a folder that is.
    pub(in crate::io) fn is_to_be_made(&self) -> Result<bool> {
        let Self::Sqlite(options) = self else { return Ok(false) };
        let file = options.get_filename();
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            let there = folder.metadata().map(|folder| folder.is_dir());
            let there = there.with_context(|| format!("{}", folder.display()))?;
            ensure!(there, "{} is no folder", folder.display());
        }
        Ok(!file.try_exists()?)
    }

    /// Connects. For writing, a file that is not there is made.
    pub(in crate::io) async fn connect(&self, access: Access) -> Result<Connection> {
        let cannot = || format!("cannot reach {self}");
        match self {
            Self::Sqlite(options) if access == Access::Read => {
                let connection = options.clone().read_only(true).connect().await;
                Ok(Connection::Sqlite(connection.with_context(cannot)?))
            }
            Self::Sqlite(options) => {
                let options = options
                    .clone()
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // With WAL this loses nothing when the process dies; when the machine does, at
                    // most the last transactions.
                    .synchronous(SqliteSynchronous::Normal)
                    // What was taken back or swept is overwritten and not merely no longer found.
                    .pragma("secure_delete", "on")
                    .foreign_keys(true);
                Ok(Connection::Sqlite(options.connect().await.with_context(cannot)?))
            }
            Self::Postgres(options) => {
                let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, options.connect())
                    .await
                    .context("it does not answer")
                    .and_then(|connection| Ok(connection?))
                    .with_context(cannot)?;
                let settings = match access {
                    Access::Write => WRITER_SETTINGS,
                    Access::Read => READER_SETTINGS,
                };
                sqlx::raw_sql(settings).execute(&mut connection).await.with_context(cannot)?;
                Ok(Connection::Postgres(connection))
            }
        }
    }

    /// Keeps other servers off a database in a file, as long as the value lives. One that is at a
    /// server is locked by [`Connection::lock`].
    pub(in crate::io) fn lock(&self) -> Result<Option<File>> {
        let Self::Sqlite(options) = self else { return Ok(None) };
        let mut path = options.get_filename().as_os_str().to_owned();
        path.push(".lock");
        // Not the database itself: whoever closes it loses the locks of SQLite.
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => bail!("{self} {IN_USE}"),
            Err(TryLockError::Error(why)) => {
                Err(why).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(options) => write!(f, "sqlite:{}", options.get_filename().display()),
            Self::Postgres(options) => {
                write!(f, "postgres://{}@", options.get_username())?;
                match options.get_socket() {
                    Some(socket) => write!(f, "{}", socket.display())?,
                    None => write!(f, "{}", options.get_host())?,
                }
                write!(f, ":{}", options.get_port())?;
                options.get_database().map_or(Ok(()), |database| write!(f, "/{database}"))
            }
        }
    }
}

impl Connection {
    /// Keeps other servers off a database at a server, as long as the connection lives.
    pub(in crate::io) async fn lock(&mut self, place: &Place) -> Result<()> {
        let Self::Postgres(connection) = self else { return Ok(()) };
        let locked = sqlx::query("SELECT pg_advisory_lock($1, hashtext(current_schema()))")
            .bind(LOCK)
            .execute(connection)
            .await;
        match locked {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(why))
                if why.code().as_deref() == Some(LOCK_NOT_AVAILABLE) =>
            {
                bail!("{place} {IN_USE}")
            }
            Err(why) => Err(why.into()),
        }
    }

    /// Does a statement; how many rows it changed.
    pub(in crate::io) async fn execute(
        &mut self,
        sql: &'static str,
        values: impl IntoIterator<Item = Value>,
    ) -> sqlx::Result<u64> {
        match self {
            Self::Sqlite(connection) => {
                Ok(bound(sql, values).execute(connection).await?.rows_affected())
            }
            Self::Postgres(connection) => {
                Ok(bound(sql, values).execute(connection).await?.rows_affected())
            }
        }
    }

    /// Does several statements without parameters.
    pub(in crate::io) async fn run(&mut self, script: &'static str) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(connection) => {
                sqlx::raw_sql(script).execute(connection).await?;
            }
            Self::Postgres(connection) => {
                sqlx::raw_sql(script).execute(connection).await?;
            }
        }
        Ok(())
    }

    /// All rows that a question finds.
    pub(in crate::io) async fn all(
        &mut self,
        sql: impl SqlSafeStr,
        values: impl IntoIterator<Item = Value>,
    ) -> sqlx::Result<Vec<Found>> {
        let sql = sql.into_sql_str();
        Ok(match self {
            Self::Sqlite(connection) => {
                let rows = bound(sql, values).fetch_all(connection).await?;
                rows.into_iter().map(Found::Sqlite).collect()
            }
            Self::Postgres(connection) => {
                let rows = bound(sql, values).fetch_all(connection).await?;
                rows.into_iter().map(Found::Postgres).collect()
            }
        })
    }

    /// The first row that a question finds.
    pub(in crate::io) async fn first(
        &mut self,
        sql: impl SqlSafeStr,
        values: impl IntoIterator<Item = Value>,
    ) -> sqlx::Result<Option<Found>> {
        Ok(self.all(sql, values).await?.into_iter().next())
    }

    /// Begins a transaction. It ends with [`Self::commit`], or comes to nothing with the connection.
    pub(in crate::io) async fn begin(&mut self) -> sqlx::Result<()> {
        match self {
            // At once the one writer.
            Self::Sqlite(_) => self.run("BEGIN IMMEDIATE").await,
            Self::Postgres(_) => self.run("BEGIN").await,
        }
    }

    /// Makes a transaction true.
    pub(in crate::io) async fn commit(&mut self) -> sqlx::Result<()> {
        self.run("COMMIT").await
    }

    /// How many steps of the schema are done.
    pub(in crate::io) async fn version(&mut self) -> Result<usize> {
        let version: i64 = match self {
            Self::Sqlite(connection) => {
                sqlx::query_scalar("PRAGMA user_version").fetch_one(connection).await?
            }
            Self::Postgres(connection) => {
                sqlx::raw_sql(
                    "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)",
                )
                .execute(&mut *connection)
                .await?;
                sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM schema_version")
                    .fetch_one(connection)
                    .await?
            }
        };
        usize::try_from(version).context("negative schema version")
    }

    /// Notes that so many steps of the schema are done.
    pub(in crate::io) async fn set_version(&mut self, version: usize) -> Result<()> {
        match self {
            Self::Sqlite(connection) => {
                let pragma = AssertSqlSafe(format!("PRAGMA user_version = {version}"));
                sqlx::raw_sql(pragma).execute(connection).await?;
            }
            Self::Postgres(connection) => {
                sqlx::query("INSERT INTO schema_version VALUES ($1)")
                    .bind(i64::try_from(version)?)
                    .execute(connection)
                    .await?;
            }
        }
        Ok(())
    }

    /// Says goodbye to the database.
    pub(in crate::io) async fn close(self) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        }
    }
}

impl Found {
    /// The value of a column.
    pub(in crate::io) fn get<T>(&self, column: &str) -> sqlx::Result<T>
    where
        T: for<'r> Decode<'r, Sqlite>
            + Type<Sqlite>
            + for<'r> Decode<'r, Postgres>
            + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

fn bound<'q, DB>(
    sql: impl SqlSafeStr,
    values: impl IntoIterator<Item = Value>,
) -> Query<'q, DB, DB::Arguments>
where
    DB: Database,
    bool: Encode<'q, DB> + Type<DB>,
    i64: Type<DB>,
    Option<i64>: Encode<'q, DB>,
    String: Type<DB>,
    Option<String>: Encode<'q, DB>,
    Vec<u8>: Encode<'q, DB> + Type<DB>,
{
    values.into_iter().fold(sqlx::query(sql), |query, value| match value {
        Value::Flag(flag) => query.bind(flag),
        Value::Number(number) => query.bind(number),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_owned())
    }
}

/// How long a server may take to let us in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The advisory lock of who writes, beside a number of the schema: "cusa".
const LOCK: i32 = 0x6375_7361;
/// PostgreSQL's code for a lock that others kept for longer than `lock_timeout`.
const LOCK_NOT_AVAILABLE: &str = "55P03";
const IN_USE: &str = "is in use by another cusaxd";
/// A writer that is gone without a word is to be noticed soon, since it keeps the lock; so is one that
/// stopped in the middle of a transaction. Others may keep locks for that long, and no longer.
const WRITER_SETTINGS: &str = "
    SET client_min_messages = warning;
    SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '30s';
    SET tcp_keepalives_idle = 10;
    SET tcp_keepalives_interval = 5;
    SET tcp_keepalives_count = 3";
/// A question takes no longer than whoever asks waits.
const READER_SETTINGS: &str = "
    SET default_transaction_read_only = on;
    SET statement_timeout = '10s'";
