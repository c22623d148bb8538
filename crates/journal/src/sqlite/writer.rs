//! The writer thread: takes all that is queued, commits it with one fsync, then answers everyone.
//!
//! There is no artificial delay. While one commit waits for the disk the next group gathers in the queue, so the
//! group grows with the load and a lone publish pays for one fsync only.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use tokio::sync::mpsc;
use windlass_reading::DeviceId;

use super::packed;
use crate::{
    Append, AppendError, Error, Refusal, Release, Reply, Stored,
    metrics::{self, Backlog},
};

/// Readings and other entries after which a group is full: bounds the time that the first of them waits for the last.
const GROUP: usize = 8_192;
/// Prepared statements kept; more than this program has.
const STATEMENTS: usize = 64;
const INSERT: &str = "INSERT INTO readings (device, sequence, epoch, observed_at, received_at, settlement, packet_id,
     message_id, payload, unreleased, signature, arrival, more, rest)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

pub(super) type After = Box<dyn FnOnce(Result<(), Error>) + Send>;
pub(super) type Job = Box<dyn FnOnce(&Connection, &mut Effects) -> (bool, After) + Send>;

pub(super) enum Command {
    Append(Append),
    Refuse(Refusal),
    Release(Release),
    Write(Job),
    Close,
}

impl Command {
    /// How much of a group it is.
    fn weight(&self) -> usize {
        if let Self::Append(entry) = self { entry.readings.len() } else { 1 }
    }
}

/// How many readings are in the queue, and how many may be. One run may stand alone however long it is.
#[derive(Debug)]
pub(super) struct Waiting {
    readings: AtomicUsize,
    bound: usize,
}

impl Waiting {
    pub(super) fn new(bound: usize) -> Self {
        Self { readings: AtomicUsize::new(0), bound }
    }

    pub(super) fn enter(&self, readings: usize) -> bool {
        let fits = |waiting: usize| (waiting == 0 || waiting + readings <= self.bound).then_some(waiting + readings);
        self.readings.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    pub(super) fn leave(&self, readings: usize) {
        self.readings.fetch_sub(readings, Ordering::Relaxed);
    }
}

/// What a group changes outside the database; applied only after its commit.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Change of the number of unsettled readings.
    pub(super) backlog: i64,
}

/// A device as the writer remembers it between commits.
#[derive(Debug, Clone, Copy)]
struct Known {
    row: i64,
    last_sequence: u64,
}

/// What the writer knows of the readings since the last failure.
#[derive(Default)]
struct Readings {
    /// The devices that were asked for.
    devices: HashMap<DeviceId, Known>,
    /// The arrival of the next one.
    next: Option<u64>,
    /// Room for what follows in a row.
    rest: Vec<u8>,
}

/// What is said once the commit is on disk, or has failed.
enum Answer {
    Appended(Reply<Stored>, Result<Stored, AppendError>),
    Refused(Reply<u64>, Result<u64, AppendError>),
    Released(Reply<bool>, Result<bool, AppendError>),
    Written(After, rusqlite::Result<()>),
}

pub(super) struct Writer {
    connection: Connection,
    queue: mpsc::Receiver<Command>,
    waiting: Arc<Waiting>,
    readings: Readings,
    backlog: Arc<Backlog>,
    healthy: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        queue: mpsc::Receiver<Command>,
        waiting: Arc<Waiting>,
        backlog: Arc<Backlog>,
        healthy: Arc<AtomicBool>,
    ) -> Self {
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Self { connection, queue, waiting, readings: Readings::default(), backlog, healthy }
    }

    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let group = self.gather(first);
            let closing = group.iter().any(|c| matches!(c, Command::Close));
            self.commit(group);
            if closing {
                // Refuse what comes later, store what is already queued.
                self.queue.close();
            }
        }
    }

    /// The next group: what is queued now, up to its bound.
    fn gather(&mut self, first: Command) -> Vec<Command> {
        let mut weight = first.weight();
        let mut group = vec![first];
        while weight < GROUP
            && let Ok(next) = self.queue.try_recv()
        {
            weight += next.weight();
            group.push(next);
        }
        let readings = group.iter().map(|c| if let Command::Append(entry) = c { entry.readings.len() } else { 0 });
        self.waiting.leave(readings.sum());
        group
    }

    fn commit(&mut self, group: Vec<Command>) {
        let started = Instant::now();
        let mut answers: Vec<Answer> = Vec::with_capacity(group.len());
        let mut effects = Effects::default();
        let connection = &self.connection;
        let mut begun = connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| e.to_string());
        let mut insert = connection.prepare_cached(INSERT);
        for command in group {
            if begun.is_ok() && connection.is_autocommit() {
                // A full disk makes SQLite roll back by itself; anything run now would be stored on its own.
                begun = Err("the transaction was rolled back".into());
            }
            match command {
                Command::Append(entry) => {
                    let insert = insert.as_mut().map_err(|e| unavailable(e));
                    let begun = begun.as_ref().map_err(|e| AppendError::Unavailable(e.clone()));
                    let stored = begun.and(insert).and_then(|insert| self.readings.insert(connection, insert, &entry));
                    effects.backlog += if stored.is_ok() { entry.readings.len() as i64 } else { 0 };
                    answers.push(Answer::Appended(entry.reply, stored));
                }
                Command::Refuse(entry) => {
                    let stored =
                        begun.clone().map_err(AppendError::Unavailable).and_then(|()| keep(connection, &entry));
                    answers.push(Answer::Refused(entry.reply, stored));
                }
                Command::Release(entry) => {
                    let begun = begun.clone().map_err(AppendError::Unavailable);
                    let freed = begun.and_then(|()| self.readings.free(connection, &entry.device, entry.packet_id));
                    answers.push(Answer::Released(entry.reply, freed));
                }
                Command::Write(job) if begun.is_ok() => answers.push(run_job(connection, job, &mut effects)),
                // Dropped unanswered, which its caller takes for a failed commit.
                Command::Write(_) => {}
                Command::Close => {}
            }
        }
        drop(insert);
        let committed = begun.and_then(|()| connection.execute_batch("COMMIT").map_err(|e| e.to_string()));
        self.healthy.store(committed.is_ok(), Ordering::Relaxed);
        match &committed {
            Ok(()) => {
                let readings = usize::try_from(effects.backlog.max(0)).unwrap_or(0);
                metrics::committed(started.elapsed(), readings);
                self.backlog.add(effects.backlog);
            }
            Err(error) => {
                tracing::error!(%error, "journal commit failed; nothing of it is acknowledged");
                metrics::commit_failed();
                let _ = self.connection.execute_batch("ROLLBACK");
                // What the memory says about sequences was true only if the commit had succeeded.
                self.readings = Readings::default();
            }
        }
        let failure = committed.as_ref().err().map(String::as_str);
        for answer in answers {
            answer.give(failure);
        }
    }
}

impl Readings {
    fn insert(
        &mut self,
        connection: &Connection,
        insert: &mut CachedStatement<'_>,
        entry: &Append,
    ) -> Result<Stored, AppendError> {
        let row = self.expect(connection, &entry.device, entry.sequence)?;
        let first = self.arrival(connection)?;
        let stored = self.insert_all(connection, insert, row, entry).and_then(|next| {
            if let Some(row) = entry.quarantine {
                take_out(connection, row)?;
            }
            Ok(next)
        });
        match stored {
            Ok(next) => self.next = Some(next),
            Err(error) => {
                undo(connection, first);
                return Err(error);
            }
        }
        if let Some(known) = self.devices.get_mut(&entry.device) {
            known.last_sequence += entry.readings.len() as u64;
        }
        Ok(Stored { sequence: entry.sequence, arrival: first })
    }

    /// Gives the arrival after the last one.
    fn insert_all(
        &mut self,
        connection: &Connection,
        insert: &mut CachedStatement<'_>,
        device: i64,
        entry: &Append,
    ) -> Result<u64, AppendError> {
        if entry.readings.is_empty() {
            return Err(AppendError::Unavailable("an append of no readings".into()));
        }
        let (mut sequence, mut arrival) = (entry.sequence, self.arrival(connection)?);
        let mut readings = entry.readings.as_slice();
        while let Some((first, following)) = readings.split_first() {
            if let (true, Some(packet_id)) = (first.exactly_once, first.packet_id) {
                self.free(connection, &entry.device, packet_id)?;
            }
            let more = packed::pack(entry.settlement, first, following, &mut self.rest);
            insert
                .insert(params![
                    device,
                    sequence as i64,
                    entry.epoch,
                    first.draft.observed_at_ms as i64,
                    first.received_at_ms as i64,
                    entry.settlement.as_str(),
                    first.packet_id,
                    first.draft.message_id,
                    first.draft.payload.as_slice(),
                    first.exactly_once,
                    first.draft.claim.as_ref().map(|claim| &claim.signature),
                    arrival as i64,
                    more as i64,
                    packed::blob(&self.rest),
                ])
                .map_err(|e| unavailable(&e))?;
            sequence += 1 + more as u64;
            arrival += 1 + more as u64;
            readings = following.get(more..).unwrap_or_default();
        }
        Ok(arrival)
    }

    /// The arrival of the next reading.
    fn arrival(&mut self, connection: &Connection) -> Result<u64, AppendError> {
        if let Some(next) = self.next {
            return Ok(next);
        }
        let last: Option<i64> = connection
            .query_row("SELECT arrival + more FROM readings ORDER BY arrival DESC LIMIT 1", [], |row| row.get(0))
            .optional()
            .map_err(|e| unavailable(&e))?;
        let next = last.unwrap_or(0) as u64 + 1;
        self.next = Some(next);
        Ok(next)
    }

    /// The device's row, if `sequence` is its next.
    fn expect(&mut self, connection: &Connection, device: &DeviceId, sequence: u64) -> Result<i64, AppendError> {
        let known = self.lookup(connection, device)?;
        let expected = known.last_sequence + 1;
        if sequence == expected { Ok(known.row) } else { Err(AppendError::OutOfOrder { expected, got: sequence }) }
    }

    /// Frees the packet id of a QoS 2 publish; says whether it was in use.
    fn free(&mut self, connection: &Connection, device: &DeviceId, packet_id: u16) -> Result<bool, AppendError> {
        let row = self.lookup(connection, device)?.row;
        connection
            .prepare_cached(
                "UPDATE readings SET unreleased = 0, packet_id = NULL
                 WHERE device = ?1 AND packet_id = ?2 AND unreleased = 1",
            )
            .and_then(|mut s| s.execute(params![row, packet_id]))
            .map(|freed| freed > 0)
            .map_err(|e| unavailable(&e))
    }

    fn lookup(&mut self, connection: &Connection, device: &DeviceId) -> Result<Known, AppendError> {
        if let Some(known) = self.devices.get(device) {
            return Ok(*known);
        }
        let known = find(connection, device).map_err(|e| unavailable(&e))?.ok_or(AppendError::UnknownDevice)?;
        self.devices.insert(device.clone(), known);
        Ok(known)
    }
}

/// Takes back the readings of an append whose later one failed: they are the newest, and nobody has heard of them.
fn undo(connection: &Connection, first: u64) {
    let undone = connection
        .prepare_cached("DELETE FROM readings WHERE arrival >= ?1")
        .and_then(|mut s| s.execute([first as i64]));
    if undone.is_err() {
        // Then the whole group must go: its commit finds no transaction and fails.
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// Removes a quarantine row whose input became a reading after all.
fn take_out(connection: &Connection, row: u64) -> Result<(), AppendError> {
    let removed = connection
        .prepare_cached("DELETE FROM quarantine WHERE id = ?1")
        .and_then(|mut s| s.execute([row as i64]))
        .map_err(|e| unavailable(&e))?;
    if removed == 1 { Ok(()) } else { Err(AppendError::Unavailable(format!("quarantine row {row} is gone"))) }
}

fn find(connection: &Connection, device: &DeviceId) -> rusqlite::Result<Option<Known>> {
    connection
        .prepare_cached(
            "SELECT id, COALESCE((SELECT sequence + more FROM readings WHERE device = devices.id
                                  ORDER BY sequence DESC LIMIT 1), 0)
             FROM devices WHERE name = ?1",
        )?
        .query_row([device.as_str()], |row| Ok(Known { row: row.get(0)?, last_sequence: row.get::<_, i64>(1)? as u64 }))
        .optional()
}

fn keep(connection: &Connection, entry: &Refusal) -> Result<u64, AppendError> {
    connection
        .prepare_cached(
            "INSERT INTO quarantine (device, topic, payload, reason, received_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .and_then(|mut s| {
            s.insert(params![
                entry.device.as_ref().map(DeviceId::as_str),
                entry.topic,
                entry.payload,
                entry.reject.reason(),
                entry.received_at_ms as i64,
            ])
        })
        .map(|id| id as u64)
        .map_err(|e| unavailable(&e))
}

/// Runs one ledger operation so that its failure undoes nothing of its neighbours.
fn run_job(connection: &Connection, job: Job, effects: &mut Effects) -> Answer {
    let mut own = Effects::default();
    let opened = connection.execute_batch("SAVEPOINT job");
    let (stored, after) = job(connection, &mut own);
    let end = if stored { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    let closed = opened.and_then(|()| connection.execute_batch(end));
    if stored && closed.is_ok() {
        effects.backlog += own.backlog;
    }
    Answer::Written(after, closed)
}

impl Answer {
    fn give(self, failure: Option<&str>) {
        match self {
            Self::Appended(reply, stored) => reply(unless(failure, stored)),
            Self::Refused(reply, stored) => reply(unless(failure, stored)),
            Self::Released(reply, freed) => reply(unless(failure, freed)),
            Self::Written(after, closed) => after(match failure {
                Some(text) => Err(storage(text)),
                None => closed.map_err(Error::from),
            }),
        }
    }
}

/// The outcome of one entry, which counts only if the commit did not fail.
fn unless<T>(failure: Option<&str>, stored: Result<T, AppendError>) -> Result<T, AppendError> {
    match failure {
        Some(text) => Err(AppendError::Unavailable(text.to_owned())),
        None => stored,
    }
}

fn unavailable(error: &rusqlite::Error) -> AppendError {
    AppendError::Unavailable(error.to_string())
}

pub(super) fn storage(text: &str) -> Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
    Error::Storage(rusqlite::Error::SqliteFailure(code, Some(text.to_owned())))
}
