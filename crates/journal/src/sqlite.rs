//! The SQLite engine: one writer thread that commits everything queued since the last commit, and readers beside it.

mod archive;
mod convert;
mod disk;
mod listing;
mod log;
mod packed;
mod schema;
mod sessions;
mod settled;
mod size;
#[cfg(test)]
mod tests;
mod upkeep;
mod work;
mod write;
mod writer;

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::disk::Disk;
use self::writer::{Command, Waiting, Writer};
pub use self::{archive::Archived, upkeep::Copy};
use crate::{
    Append, Error, Refusal, Refused, Release,
    metrics::{self, Backlog},
};

/// The database file in `data_dir`.
const FILE: &str = "journal.sqlite";
/// The file whose lock says that a `run` owns the directory.
const LOCK: &str = "windlass.lock";
/// Pages of the write-ahead log before they go into the database: 64 MiB. A page that changes in each commit is written
/// there once.
const CHECKPOINT_PAGES: u32 = 16_384;
/// KiB of pages that the writer keeps. A commit that orders pages anew walks all the buckets that its cache has for them
/// (SQLite 3.50 gives them the number of its lock page meanwhile, which is beyond any other), so more of them cost each
/// commit, and less of them reads out of the system's cache.
const CACHE_KIB: i32 = 16_384;
/// How long a reader waits for a writer's checkpoint.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The `[journal]` table: how the engine is opened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Readings that may be accepted and not mined; beyond that new ones are refused until the chain has caught up. 0: as
    /// many as the disk holds.
    pub max_unsettled: u64,
    /// Bound of the queue before the writer, in readings (and in other entries). When it is full, `append` gives the
    /// entry back.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        // 10,000 devices with 20 publishes in flight are slowed by their own windows long before; this bound
        // holds about 30 MiB of entries and some seconds of the writer's work.
        Self { max_unsettled: 0, queue: 65_536 }
    }
}

impl Options {
    /// Every problem of the table; empty when there is none.
    pub fn validate(&self) -> Vec<String> {
        let good = (1..=10_000_000).contains(&self.queue);
        if good { Vec::new() } else { vec!["journal.queue: must be 1 to 10000000".into()] }
    }
}

/// The journal in a data directory.
#[derive(Debug, Clone)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Absent when opened for reading only.
    writer: Option<mpsc::Sender<Command>>,
    /// Readings in the queue before the writer.
    waiting: Arc<Waiting>,
    /// Most unsettled readings; 0: no limit.
    max_unsettled: u64,
    /// The database file.
    path: PathBuf,
    /// For short indexed reads on the accept path.
    point: Mutex<Connection>,
    /// For the chain's and the listings' longer reads.
    scan: Mutex<Connection>,
    backlog: Arc<Backlog>,
    healthy: Arc<AtomicBool>,
    done: Mutex<Option<oneshot::Receiver<()>>>,
    _lock: Option<File>,
}

impl Sqlite {
    /// Opens or makes the journal in `directory`, migrates it and starts the writer.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process runs on the directory; [`Error::Newer`] when a newer Windlass wrote it.
    pub fn open(directory: &Path, options: &Options) -> Result<Self, Error> {
        let failed = |source| Error::Directory { path: directory.display().to_string(), source };
        fs::create_dir_all(directory).map_err(failed)?;
        let lock = File::create(directory.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse(directory.display().to_string())),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let path = directory.join(FILE);
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        schema::without_foreign_keys(&connection)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        schema::migrate(&mut connection)?;

        let backlog = Arc::new(Backlog::default());
        backlog.add(write::count_unsettled(&connection)?);
        let healthy = Arc::new(AtomicBool::new(true));
        let (sender, receiver) = mpsc::channel(options.queue);
        let (finished, done) = oneshot::channel();
        let waiting = Arc::new(Waiting::new(options.queue));
        let writer = Writer::new(connection, receiver, waiting.clone(), backlog.clone(), healthy.clone());
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                writer.run();
                let _ = finished.send(());
            })
            .map_err(failed)?;
        Ok(Self {
            inner: Arc::new(Inner {
                writer: Some(sender),
                waiting,
                max_unsettled: options.max_unsettled,
                path: path.clone(),
                point: Mutex::new(reader(&path)?),
                scan: Mutex::new(reader(&path)?),
                backlog,
                healthy,
                done: Mutex::new(Some(done)),
                _lock: Some(lock),
            }),
        })
    }

    /// Whether a journal was ever made in `directory`.
    pub fn exists(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// Opens the journal for listings beside a live writer; every write is refused with [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Storage`] when there is no journal in the directory.
    pub fn read_only(directory: &Path) -> Result<Self, Error> {
        Self::read_only_file(&directory.join(FILE))
    }

    /// The same for a backup or an archive.
    ///
    /// # Errors
    /// [`Error::Storage`] when there is no journal in the file; [`Error::Newer`] when it is of another version.
    pub fn read_only_file(path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        let scan = reader(&path)?;
        schema::check(&scan)?;
        Ok(Self {
            inner: Arc::new(Inner {
                writer: None,
                waiting: Arc::new(Waiting::new(0)),
                max_unsettled: 0,
                path: path.clone(),
                point: Mutex::new(reader(&path)?),
                scan: Mutex::new(scan),
                backlog: Arc::default(),
                healthy: Arc::new(AtomicBool::new(true)),
                done: Mutex::new(None),
                _lock: None,
            }),
        })
    }

    /// Migrates a backup or an archive that an older version left behind.
    ///
    /// # Errors
    /// [`Error::Storage`] when it is no journal, [`Error::Newer`] when a newer Windlass wrote it.
    pub fn bring_up_to_date(file: &Path) -> Result<(), Error> {
        let mut connection = Connection::open(file)?;
        schema::without_foreign_keys(&connection)?;
        schema::migrate(&mut connection)
    }

    /// Whether the last commit succeeded. False while the disk is full or failing; readiness follows it.
    pub fn healthy(&self) -> bool {
        self.inner.healthy.load(Ordering::Relaxed)
    }

    /// Whether so many readings are unsettled that no more are taken.
    pub fn is_full(&self) -> bool {
        self.inner.max_unsettled > 0 && self.inner.backlog.get() >= self.inner.max_unsettled
    }

    /// Readings accepted and not yet mined on the canonical chain.
    pub fn unsettled_count(&self) -> u64 {
        self.inner.backlog.get()
    }

    /// Stores everything queued and stops the writer. Later calls are refused with `Closed`.
    pub async fn close(&self) {
        if let Some(writer) = &self.inner.writer {
            let _ = writer.send(Command::Close).await;
        }
        let done = self.inner.done.lock().ok().and_then(|mut d| d.take());
        if let Some(done) = done {
            let _ = done.await;
        }
    }

    fn try_send<T>(
        &self,
        entry: T,
        wrap: fn(T) -> Command,
        unwrap: fn(Command) -> Option<T>,
    ) -> Result<(), Refused<T>> {
        let Some(writer) = &self.inner.writer else { return Err(Refused::Closed(entry)) };
        match writer.try_send(wrap(entry)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(c)) => unwrap(c).map_or(Ok(()), |e| Err(Refused::Full(e))),
            Err(mpsc::error::TrySendError::Closed(c)) => unwrap(c).map_or(Ok(()), |e| Err(Refused::Closed(e))),
        }
    }

    fn send_append(&self, entry: Append) -> Result<(), Refused<Append>> {
        let readings = entry.readings.len();
        if self.is_full() {
            metrics::refused("unsettled", readings);
            return Err(Refused::Full(entry));
        }
        if !self.inner.waiting.enter(readings) {
            metrics::refused("queue", readings);
            return Err(Refused::Full(entry));
        }
        let sent = self.try_send(entry, Command::Append, |c| if let Command::Append(e) = c { Some(e) } else { None });
        if sent.is_err() {
            self.inner.waiting.leave(readings);
        }
        sent
    }

    fn send_refusal(&self, entry: Refusal) -> Result<(), Refused<Refusal>> {
        self.try_send(entry, Command::Refuse, |c| if let Command::Refuse(e) = c { Some(e) } else { None })
    }

    fn send_release(&self, entry: Release) -> Result<(), Refused<Release>> {
        self.try_send(entry, Command::Release, |c| if let Command::Release(e) = c { Some(e) } else { None })
    }

    /// Runs `op` on the writer, inside the group's commit; answers after the fsync.
    async fn write<T: Send + 'static>(
        &self,
        op: impl FnOnce(&Connection, &mut writer::Effects) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let writer = self.inner.writer.as_ref().ok_or(Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        let job: writer::Job = Box::new(move |connection, effects| {
            let result = op(connection, effects);
            let stored = result.is_ok();
            let after: writer::After = Box::new(move |committed| {
                let _ = reply.send(committed.and(result));
            });
            (stored, after)
        });
        writer.send(Command::Write(job)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| writer::storage("the commit failed"))?
    }

    /// Runs a longer read off the caller's thread.
    async fn scan<T: Send + 'static>(
        &self,
        op: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || {
            let connection = inner.scan.lock().map_err(|_| Error::Closed)?;
            op(&connection)
        })
        .await
        .map_err(|_| Error::Closed)?
    }

    /// Runs a short indexed read on the caller's thread.
    fn point<T>(&self, op: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let connection = self.inner.point.lock().map_err(|_| Error::Closed)?;
        op(&connection)
    }
}

fn reader(path: &PathBuf) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}
