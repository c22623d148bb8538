//! Copies and checks of the whole journal.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{Sqlite, convert::device_at, packed, reader, schema, settled};
use crate::Error;

/// How many readings there are.
pub(super) const READINGS: &str = "SELECT COALESCE(SUM(1 + more), 0) FROM readings";

/// A finished copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// How many readings it holds.
    pub readings: u64,
    /// How large it is.
    pub bytes: u64,
}

impl Sqlite {
    /// Copies the journal as it is now into `file`, beside a live writer: whole, checked and on disk when it returns,
    /// or not there at all.
    ///
    /// # Errors
    /// [`Error::Directory`] when `file` is there already or cannot be written; [`Error::Storage`] when reading fails.
    pub fn backup(&self, file: &Path) -> Result<Copy, Error> {
        let failed = |source| Error::Directory { path: file.display().to_string(), source };
        if file.exists() {
            return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
        }
        let part = part_of(file);
        let copied = self.copy_to(&part).and_then(|copy| finish(&part, file).map(|()| copy));
        if copied.is_err() {
            let _ = fs::remove_file(&part);
        }
        copied
    }

    fn copy_to(&self, part: &Path) -> Result<Copy, Error> {
        let failed = |source| Error::Directory { path: part.display().to_string(), source };
        // Of an earlier try that was interrupted; VACUUM takes an empty or missing file only.
        match fs::remove_file(part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        {
            let connection = self.inner.scan.lock().map_err(|_| Error::Closed)?;
            connection.execute("VACUUM INTO ?1", [part.to_string_lossy()])?;
        }
        let copy = reader(&part.to_path_buf())?;
        schema::check(&copy)?;
        if let Some(fault) = faults(&copy)?.into_iter().next() {
            return Err(Error::Damaged(fault));
        }
        let readings: i64 = copy.query_row(READINGS, [], |row| row.get(0))?;
        Ok(Copy { readings: readings as u64, bytes: fs::metadata(part).map_err(failed)?.len() })
    }

    /// What is wrong within the journal itself, in words: pages, sequences, counts, nonces. Empty when nothing is.
    ///
    /// # Errors
    /// [`Error::Storage`] when it cannot be read.
    pub async fn faults(&self) -> Result<Vec<String>, Error> {
        self.scan(faults).await
    }
}

/// Where a file is written before it has its name.
pub(super) fn part_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    file.with_file_name(name)
}

/// Gives a written file its name, durably.
pub(super) fn finish(part: &Path, file: &Path) -> Result<(), Error> {
    let failed = |source| Error::Directory { path: file.display().to_string(), source };
    File::open(part).and_then(|f| f.sync_all()).map_err(failed)?;
    fs::rename(part, file).map_err(failed)?;
    let directory = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|d| d.sync_all()).map_err(failed)
}

fn faults(c: &Connection) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    let mut pages = c.prepare("PRAGMA integrity_check")?;
    let said = pages.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    found.extend(said.into_iter().filter(|text| text != "ok").map(|text| format!("pages: {text}")));

    let mut holes = c.prepare(
        "SELECT d.name, SUM(1 + r.more) AS held, d.archived, MAX(r.sequence + r.more) AS last
         FROM readings r JOIN devices d ON d.id = r.device
         WHERE NOT EXISTS (SELECT 1 FROM meta WHERE key = 'archive')
         GROUP BY r.device HAVING held + d.archived <> last",
    )?;
    let mut rows = holes.query([])?;
    while let Some(row) = rows.next()? {
        let (count, archived, last): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let device = device_at(row, 0)?;
        found.push(format!("device {device}: {count} readings and {archived} archived, but the last is number {last}"));
    }

    let mut counts = c.prepare(
        "SELECT b.id, b.count - b.released - CASE WHEN archive.value IS NULL THEN b.archived ELSE 0 END AS expected,
                (SELECT COALESCE(SUM(1 + more), 0) FROM readings WHERE batch = b.id) AS held
         FROM batches b LEFT JOIN meta archive ON archive.key = 'archive' WHERE expected <> held
         UNION ALL
         SELECT s.id, 1 - CASE WHEN archive.value IS NULL THEN s.archived ELSE 0 END AS expected,
                (SELECT COALESCE(SUM(1 + more), 0) FROM readings WHERE batch = s.id) AS held
         FROM settled s LEFT JOIN meta archive ON archive.key = 'archive' WHERE expected <> held",
    )?;
    let mut rows = counts.query([])?;
    while let Some(row) = rows.next()? {
        let (batch, expected, held): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        found.push(format!("batch {batch}: {held} readings instead of {expected}"));
    }

    let states = [
        (
            "readings in a batch that does not exist",
            "SELECT COUNT(*) FROM readings WHERE batch IS NOT NULL AND batch NOT IN (SELECT id FROM batches)
             AND batch NOT IN (SELECT id FROM settled)",
        ),
        (
            "readings of a device that does not exist",
            "SELECT COUNT(*) FROM readings WHERE device NOT IN (SELECT id FROM devices)",
        ),
        (
            "readings that arrived after the log that their batch states",
            "SELECT COUNT(*) FROM readings r JOIN batches b ON b.id = r.batch WHERE r.arrival + r.more > b.log_arrival",
        ),
        (
            "batches without a transaction",
            "SELECT COUNT(*) FROM batches WHERE \"transaction\" NOT IN (SELECT id FROM transactions)",
        ),
        (
            "transactions without an attempt",
            "SELECT COUNT(*) FROM transactions WHERE id NOT IN (SELECT \"transaction\" FROM attempts)",
        ),
        (
            "attempts of a transaction that does not exist",
            "SELECT COUNT(*) FROM attempts WHERE \"transaction\" NOT IN (SELECT id FROM transactions)",
        ),
        (
            "mined transactions whose hash is none of their attempts",
            "SELECT COUNT(*) FROM transactions t WHERE t.tx IS NOT NULL AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.\"transaction\" = t.id AND a.hash = t.tx)",
        ),
        (
            "mined transactions without a block",
            "SELECT COUNT(*) FROM transactions WHERE state = 'mined' AND (tx IS NULL OR block_hash IS NULL OR success IS NULL)",
        ),
        (
            "readings still held by a transaction that failed for good",
            "SELECT COUNT(*) FROM readings r JOIN batches b ON b.id = r.batch JOIN transactions t ON t.id = b.\"transaction\" WHERE t.state = 'final' AND t.success = 0",
        ),
    ];
    let damaged = packed::damaged_rows(c)?;
    if damaged > 0 {
        found.push(format!("{damaged} rows have not as many readings as they say"));
    }
    for (what, sql) in states.into_iter().chain(settled::FAULTS) {
        let count: i64 = c.query_row(sql, [], |row| row.get(0))?;
        if count > 0 {
            found.push(format!("{count} {what}"));
        }
    }
    Ok(found)
}
