use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::writer::{Job, Write, Writer};
use crate::{
    Clock, Error, Time,
    backend::{Body, Entry, Found, Records, Version, tombstone},
    key::{PlainKey, Prefix, RecordKey},
};

/// Marks the file as ours, so that another program's database is not taken for one.
const APPLICATION_ID: i64 = 0x4859_5448;
/// The layout of the tables.
const TABLES: i64 = 1;
/// Connections that read, beside the one that writes.
const READERS: usize = 3;
/// Writes that wait for the writer; more wait at their callers.
const QUEUE: usize = 512;
/// Largest body, in bytes, that is read on the thread that asks for it.
const SMALL_BODY: i64 = 64 << 10;
/// How long a write waits for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS records (
        key TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, modified_ms INTEGER NOT NULL, body BLOB NOT NULL
    );
    CREATE TABLE IF NOT EXISTS clock (
        one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL, modified_ms INTEGER NOT NULL
    );
    INSERT OR IGNORE INTO clock VALUES (1, 0, 0);
    PRAGMA application_id = 1213813832;
    PRAGMA user_version = 1;
    COMMIT;";

/// Records in one SQLite file.
///
/// One thread writes and takes everything that waits into one transaction; a few connections read and never wait for it.
/// An answer to a write means that it is on disk.
pub struct LocalRecords {
    readers: Arc<Readers>,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<thread::JoinHandle<()>>,
    failure: watch::Receiver<Option<Arc<str>>>,
}

impl fmt::Debug for LocalRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRecords").field("path", &self.readers.path).finish_non_exhaustive()
    }
}

impl LocalRecords {
    /// Opens the file, making it if it is not there. Blocks. [`Error::Refused`] says in one line what is wrong.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let refused = |e: rusqlite::Error| refused(path, &e);
        let connection = connect(path).map_err(refused)?;
        prepare(&connection, path)?;
        let mut idle = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            idle.push(reader(path).map_err(refused)?);
        }
        let watch = reader(path).map_err(refused)?;
        watch.pragma_update(None, "cache_size", 8).map_err(refused)?;
        let readers = Readers {
            path: path.to_owned(),
            idle: Mutex::new(idle),
            permits: Semaphore::new(READERS),
            watch: Mutex::new(watch),
        };
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (failed, failure) = watch::channel(None);
        let writer = Writer::new(connection, queue, clock, failed);
        let writer =
            thread::Builder::new().name("records".into()).spawn(move || writer.run()).map_err(Error::unavailable)?;
        Ok(Self { readers: Arc::new(readers), jobs: Some(jobs), writer: Some(writer), failure })
    }

    /// Returns when the disk has failed under a commit, with the reason: what the kernel still shows of the file can then not be
    /// trusted, and the process must end. Until then every write is refused.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.as_deref().unwrap_or_default().to_owned(),
            Err(_) => "the writer of records.db has ended".to_owned(),
        }
    }

    /// A number that stays the same while nobody, this process included, has written.
    pub async fn data_version(&self) -> Result<i64, Error> {
        let readers = Arc::clone(&self.readers);
        super::blocking(move || {
            let watch = readers.watch.lock();
            watch.pragma_query_value(None, "data_version", |row| row.get(0)).map_err(failed)
        })
        .await
    }

    /// Reads the whole file and says what is wrong with it; empty if nothing is.
    pub async fn integrity_check(&self) -> Result<Vec<String>, Error> {
        let lines = self.readers.run(|connection| {
            let mut statement = connection.prepare("PRAGMA integrity_check")?;
            statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
        });
        Ok(lines.await?.into_iter().filter(|line| line != "ok").collect())
    }

    /// Copies a consistent state of the file, online, to `target`, which is not there yet.
    pub async fn copy_to(&self, target: PathBuf) -> Result<(), Error> {
        self.readers
            .run(move |connection| {
                let mut target = Connection::open(target)?;
                let backup = rusqlite::backup::Backup::new(connection, &mut target)?;
                backup.run_to_completion(1024, Duration::ZERO, None)
            })
            .await
    }

    async fn write(&self, key: &str, write: Write) -> Result<Version, Error> {
        let (reply, answer) = oneshot::channel();
        let job = Job { key: key.to_owned(), write, reply };
        let ended = || Error::unavailable("the writer of records.db has ended");
        self.jobs.as_ref().ok_or_else(ended)?.send(job).await.map_err(|_| ended())?;
        answer.await.map_err(|_| Error::unknown("the writer of records.db has ended"))?
    }

    async fn read(&self, key: &str) -> Result<Option<Found>, Error> {
        if let Glance::Seen(found) = self.readers.glance(key)? {
            return Ok(found);
        }
        let key = key.to_owned();
        self.readers.run(move |connection| find(connection, &key)).await
    }
}

impl Drop for LocalRecords {
    /// Writes what waits and closes the file.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _panicked = writer.join();
        }
    }
}

#[async_trait]
impl Records for LocalRecords {
    async fn get(&self, key: &RecordKey) -> Result<Option<Found>, Error> {
        self.read(key.as_str()).await
    }

    async fn create(&self, key: &RecordKey, body: &Body) -> Result<Version, Error> {
        self.write(key.as_str(), Write::Create(body.clone())).await
    }

    async fn update(&self, key: &RecordKey, version: &Version, body: &Body) -> Result<Version, Error> {
        self.write(key.as_str(), Write::Update(number(version), body.clone())).await
    }

    async fn remove(&self, key: &RecordKey, version: &Version) -> Result<(), Error> {
        self.write(key.as_str(), Write::Remove(number(version))).await.map(drop)
    }

    async fn get_plain(&self, key: &PlainKey) -> Result<Option<Found>, Error> {
        self.read(key.as_str()).await
    }

    async fn put(&self, key: &PlainKey, body: bytes::Bytes) -> Result<(), Error> {
        tombstone::refuse(key, &body)?;
        self.write(key.as_str(), Write::Put(body)).await.map(drop)
    }

    async fn delete(&self, key: &PlainKey) -> Result<(), Error> {
        self.write(key.as_str(), Write::Delete).await.map(drop)
    }

    async fn page(&self, prefix: &Prefix, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, Error> {
        const PAGE: &str = "SELECT key, version, length(body), modified_ms FROM records
            WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3";
        let prefix = prefix.as_str().to_owned();
        let start = format!("{prefix}{}", after.unwrap_or_default());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.readers
            .run(move |connection| {
                let mut statement = connection.prepare_cached(PAGE)?;
                let rows = statement.query_map(params![start, end(&prefix), limit], |row| {
                    let key: String = row.get(0)?;
                    Ok(Entry {
                        name: key.get(prefix.len()..).unwrap_or_default().to_owned(),
                        version: version(row.get(1)?),
                        size: u64::try_from(row.get::<_, i64>(2)?).unwrap_or_default(),
                        modified: time(row.get(3)?),
                    })
                })?;
                rows.collect()
            })
            .await
    }

    async fn health(&self) -> Result<(), Error> {
        if let Some(reason) = self.failure.borrow().as_deref() {
            return Err(Error::unavailable(reason));
        }
        self.readers.run(|connection| connection.query_row("SELECT version FROM clock", [], |_| Ok(()))).await
    }
}

/// The connections that read.
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
    /// SQLite counts what others have committed, for each connection by itself: this one is always the one asked.
    watch: Mutex<Connection>,
}

/// What a look at one row shows.
enum Glance {
    Seen(Option<Found>),
    /// It would take long, or no connection is free.
    NotNow,
}

impl Readers {
    /// Reads one small row on the thread that asks. With its pages in memory that takes a few microseconds, where the way to
    /// another thread and back takes ten times as many; a page that must come from the disk costs about as much as that way.
    fn glance(&self, key: &str) -> Result<Glance, Error> {
        let Ok(_permit) = self.permits.try_acquire() else { return Ok(Glance::NotNow) };
        let Some(connection) = self.idle.lock().pop() else { return Ok(Glance::NotNow) };
        let outcome = find_small(&connection, key).map_err(failed);
        self.idle.lock().push(connection);
        outcome
    }

    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let _permit = self.permits.acquire().await.map_err(Error::unavailable)?;
        let readers = Arc::clone(self);
        super::blocking(move || {
            let idle = readers.idle.lock().pop();
            let connection = idle.map_or_else(|| reader(&readers.path), Ok).map_err(failed)?;
            let outcome = read(&connection).map_err(failed);
            readers.idle.lock().push(connection);
            outcome
        })
        .await
    }
}

/// The row of a key.
pub(super) fn find(connection: &Connection, key: &str) -> rusqlite::Result<Option<Found>> {
    let mut statement = connection.prepare_cached("SELECT version, modified_ms, body FROM records WHERE key = ?1")?;
    let found = statement.query_row([key], |row| {
        let body: Vec<u8> = row.get(2)?;
        Ok(Found { version: version(row.get(0)?), modified: time(row.get(1)?), body: body.into() })
    });
    found.optional()
}

/// The row of a key, unless its body is large: the size of a body is known without reading it.
fn find_small(connection: &Connection, key: &str) -> rusqlite::Result<Glance> {
    const FIND: &str =
        "SELECT version, modified_ms, CASE WHEN length(body) <= ?2 THEN body END FROM records WHERE key = ?1";
    let mut statement = connection.prepare_cached(FIND)?;
    let row = statement.query_row(params![key, SMALL_BODY], |row| {
        let Some(body) = row.get::<_, Option<Vec<u8>>>(2)? else { return Ok(Glance::NotNow) };
        Ok(Glance::Seen(Some(Found { version: version(row.get(0)?), modified: time(row.get(1)?), body: body.into() })))
    });
    Ok(row.optional()?.unwrap_or(Glance::Seen(None)))
}

/// Carries out one write inside the writer's transaction, as version `next` at `now`. The number of rows it changed.
pub(super) fn apply(connection: &Connection, key: &str, write: &Write, next: i64, now: i64) -> rusqlite::Result<usize> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| connection.prepare_cached(sql)?.execute(values);
    match write {
        Write::Create(body) => run(
            "INSERT INTO records VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO NOTHING",
            &[&key, &next, &now, &&*body.bytes],
        ),
        Write::Update(expected, body) => run(
            "UPDATE records SET version = ?2, modified_ms = ?3, body = ?4 WHERE key = ?1 AND version = ?5",
            &[&key, &next, &now, &&*body.bytes, expected],
        ),
        Write::Remove(expected) => run("DELETE FROM records WHERE key = ?1 AND version = ?2", &[&key, expected]),
        Write::Put(body) => run(
            "INSERT INTO records VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE
                SET version = excluded.version, modified_ms = excluded.modified_ms, body = excluded.body",
            &[&key, &next, &now, &&**body],
        ),
        Write::Delete => run("DELETE FROM records WHERE key = ?1", &[&key]),
    }
}

/// The last version and time that any process has written.
pub(super) fn last(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let mut statement = connection.prepare_cached("SELECT version, modified_ms FROM clock WHERE one = 1")?;
    statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Advances both.
pub(super) fn advance(connection: &Connection, version: i64, modified_ms: i64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("UPDATE clock SET version = ?1, modified_ms = ?2 WHERE one = 1")?;
    statement.execute([version, modified_ms]).map(drop)
}

/// Moves what commits have written into the file itself, as far as no reader is in the way.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

pub(super) fn version(number: i64) -> Version {
    Version::new(number.to_string())
}

/// A version that is none of ours is one that no row has.
fn number(version: &Version) -> i64 {
    version.as_str().parse().unwrap_or(-1)
}

fn time(ms: i64) -> Time {
    Time::from_timestamp_millis(ms).unwrap_or_default()
}

/// The first text after everything that starts with `prefix`: keys and their separators are ASCII.
fn end(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    if let Some(last) = end.pop() {
        end.push(char::from_u32(u32::from(last) + 1).unwrap_or(char::MAX));
    }
    end
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    // `synchronous = FULL` syncs the log at each commit. Checkpoints are the writer's: a sync that fails there must be seen.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 0;",
    )?;
    Ok(connection)
}

fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Makes the tables where there are none, and refuses a database that is not ours or newer.
fn prepare(connection: &Connection, path: &Path) -> Result<(), Error> {
    let refused = |e: rusqlite::Error| refused(path, &e);
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (application, tables) = (number("application_id").map_err(refused)?, number("user_version").map_err(refused)?);
    let name = path.display();
    let empty: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(refused)?;
    if empty != 0 && application != APPLICATION_ID {
        return Err(Error::Refused(format!("{name} is the database of another program; name another folder")));
    }
    if tables > TABLES {
        return Err(Error::Refused(format!(
            "{name} has tables of layout {tables}; this release knows {TABLES}; run a newer release"
        )));
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(refused)?;
    if mode != "wal" {
        return Err(Error::Refused(format!("{name} cannot keep a write-ahead log ({mode}); use a local disk")));
    }
    if empty == 0 {
        connection.execute_batch(SCHEMA).map_err(refused)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        super::bytes::sync_folder(folder)?;
    }
    Ok(())
}

/// What a failed statement means to the caller of storage. Nothing of it was applied.
pub(super) fn failed(error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::corrupt(format!("records.db: {error}")),
        _ => Error::unavailable(error),
    }
}

/// The operator's line for a database that cannot be opened.
fn refused(path: &Path, error: &rusqlite::Error) -> Error {
    let way_out = match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            "it is not a whole database; restore it from a backup"
        }
        Some(ErrorCode::DiskFull) => "free space on its disk",
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            "give this user the right to write it and its folder"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another process holds it; end that one",
        _ => "look at its disk, or restore it from a backup",
    };
    Error::Refused(format!("{} cannot be opened: {error}; {way_out}", path.display()))
}
