//! Moves what is final out of the journal, into a file of its own that proofs can still be made from.
//!
//! Whole batches are copied first. When the copy is on disk, their readings leave the journal in small steps between other
//! commits. A device's newest readings stay: by them its numbers go on and its redeliveries are known. What the journal says of
//! a batch stays too, with the name of the file.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, params};

use super::{Sqlite, packed, schema, settled, upkeep, work};
use crate::Error;

/// Readings of a device that stay in the journal.
const NEWEST: u32 = work::RECENT;
/// Readings that leave in one commit: a few milliseconds of the writer's time.
const STEP: u32 = 500;
/// What may leave: readings that are not among their device's newest, and whose packet id is released.
const MAY_LEAVE: &str =
    "unreleased = 0 AND sequence + more <= (SELECT m.sequence + m.more FROM readings m WHERE m.device = readings.device
    ORDER BY m.sequence DESC LIMIT 1) - ?2";

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Archived {
    /// Batches that the file holds.
    pub batches: u64,
    /// Readings that the file holds.
    pub readings: u64,
    /// Readings that have left the journal.
    pub left: u64,
}

impl Sqlite {
    /// Copies the batches that became final before this unix millisecond into `file`, and lets their readings leave the
    /// journal. When nothing is old enough there is no file. Safe to interrupt and repeat: what was copied and has not
    /// left is copied again or leaves with the next archive.
    ///
    /// # Errors
    /// [`Error::Directory`] when `file` is there already or cannot be written, [`Error::Closed`] on a journal that was
    /// opened for reading, [`Error::Storage`] when the disk fails. What is not copied never leaves.
    pub async fn archive(&self, file: PathBuf, final_before_ms: u64) -> Result<Archived, Error> {
        if self.inner.writer.is_none() {
            return Err(Error::Closed);
        }
        let live = self.inner.path.clone();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let copied = tokio::task::spawn_blocking(move || copy(&live, &file, final_before_ms));
        let Copied { batches, settled, readings } = copied.await.map_err(|_| Error::Closed)??;
        for batch in &batches {
            let (batch, name) = (*batch, name.clone());
            self.write(move |c, _| {
                c.execute("UPDATE batches SET archive = ?2 WHERE id = ?1", params![batch, name])?;
                c.execute("DELETE FROM runs WHERE batch = ?1", [batch])?;
                c.execute(
                    "UPDATE attempts SET raw = x'' WHERE \"transaction\" = (SELECT \"transaction\" FROM batches WHERE id = ?1)",
                    [batch],
                )?;
                Ok(())
            })
            .await?;
        }
        for step in settled.chunks(STEP as usize) {
            let (step, name) = (step.to_vec(), name.clone());
            self.write(move |c, _| settled::archived_in(c, &name, &step)).await?;
        }
        let left = self.leave().await?;
        Ok(Archived { batches: (batches.len() + settled.len()) as u64, readings, left })
    }

    /// Lets readings of archived batches leave; says how many. Also of earlier archives: what was among the newest then may
    /// leave now.
    async fn leave(&self) -> Result<u64, Error> {
        let (holding, settled) = self
            .scan(|c| {
                let ids = |sql: &str| -> rusqlite::Result<Vec<i64>> {
                    c.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
                };
                let batches = "SELECT id FROM batches WHERE archive IS NOT NULL AND count - released > archived";
                let settled = "SELECT id FROM settled WHERE archive IS NOT NULL AND archived = 0 ORDER BY id";
                Ok((ids(batches)?, ids(settled)?))
            })
            .await?;
        let mut left = 0;
        for batch in holding {
            loop {
                let step = self.write(move |c, _| leave(c, batch)).await?;
                left += step;
                if step < u64::from(STEP) {
                    break;
                }
            }
        }
        for step in settled.chunks(STEP as usize) {
            let step = step.to_vec();
            left += self.write(move |c, _| leave_settled(c, &step)).await?;
        }
        Ok(left)
    }
}

/// What a file holds.
struct Copied {
    batches: Vec<i64>,
    /// Batches that settled directly.
    settled: Vec<i64>,
    readings: u64,
}

/// Writes the file, whole or not at all.
fn copy(live: &Path, file: &Path, final_before_ms: u64) -> Result<Copied, Error> {
    let failed = |source| Error::Directory { path: file.display().to_string(), source };
    if file.exists() {
        return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
    }
    let part = upkeep::part_of(file);
    let _ = fs::remove_file(&part);
    let copied = fill(live, &part, final_before_ms);
    match &copied {
        Ok(copied) if !(copied.batches.is_empty() && copied.settled.is_empty()) => upkeep::finish(&part, file)?,
        _ => {
            let _ = fs::remove_file(&part);
        }
    }
    copied
}

fn fill(live: &Path, part: &Path, final_before_ms: u64) -> Result<Copied, Error> {
    let mut archive = Connection::open(part)?;
    schema::without_foreign_keys(&archive)?;
    schema::migrate(&mut archive)?;
    archive.execute("ATTACH ?1 AS live", [format!("file:{}?mode=ro", live.display())])?;
    archive.execute_batch(
        "BEGIN;
         CREATE TEMP TABLE old (id INTEGER PRIMARY KEY, \"transaction\" INTEGER NOT NULL);
         CREATE TEMP TABLE old_settled (id INTEGER PRIMARY KEY);",
    )?;
    let before = i64::try_from(final_before_ms).unwrap_or(i64::MAX);
    archive.execute(
        "INSERT INTO old SELECT b.id, b.\"transaction\" FROM live.batches b
         JOIN live.transactions t ON t.id = b.\"transaction\"
         WHERE t.state = 'final' AND t.success = 1 AND t.final_at < ?1 AND b.archive IS NULL AND b.count > b.released",
        [before],
    )?;
    archive.execute(
        "INSERT INTO old_settled SELECT id FROM live.settled WHERE created_at + final_after < ?1 AND archive IS NULL",
        [before],
    )?;
    archive.execute_batch(
        "INSERT INTO devices SELECT * FROM live.devices;
         UPDATE devices SET archived = 0;
         INSERT INTO device_keys SELECT * FROM live.device_keys;
         INSERT INTO transactions SELECT * FROM live.transactions WHERE id IN (SELECT \"transaction\" FROM old);
         INSERT INTO attempts SELECT * FROM live.attempts WHERE \"transaction\" IN (SELECT \"transaction\" FROM old);
         INSERT INTO batches SELECT * FROM live.batches WHERE id IN (SELECT id FROM old);
         INSERT INTO runs SELECT * FROM live.runs WHERE batch IN (SELECT id FROM old);
         INSERT INTO settled SELECT * FROM live.settled WHERE id IN (SELECT id FROM old_settled);
         INSERT INTO accounts SELECT * FROM live.accounts WHERE id IN (SELECT account FROM settled);
         INSERT INTO blocks SELECT * FROM live.blocks WHERE number IN (SELECT block FROM settled);
         INSERT INTO readings SELECT r.* FROM old JOIN live.readings r ON r.batch = old.id;
         INSERT INTO readings SELECT r.* FROM old_settled o JOIN live.readings r ON r.batch = o.id;
         INSERT INTO meta SELECT * FROM live.meta;
         INSERT INTO meta VALUES ('archive', '1') ON CONFLICT DO NOTHING;
         COMMIT;",
    )?;
    let copied = copied(&archive)?;
    archive.execute_batch("DETACH live")?;
    File::open(part)
        .and_then(|f| f.sync_all())
        .map_err(|source| Error::Directory { path: part.display().to_string(), source })?;
    Ok(copied)
}

/// What a new archive holds. Every batch in it must be whole.
fn copied(archive: &Connection) -> Result<Copied, Error> {
    let missing: Option<i64> = archive
        .query_row(
            "SELECT b.id FROM (SELECT id, count - released AS expected FROM main.batches
                               UNION ALL SELECT id, 1 FROM main.settled) b
             WHERE b.expected <> (SELECT COALESCE(SUM(1 + more), 0) FROM main.readings WHERE batch = b.id) LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(batch) = missing {
        return Err(Error::Damaged(format!("batch {batch} has not all of its readings")));
    }
    let ids =
        |sql: &str| -> rusqlite::Result<Vec<i64>> { archive.prepare(sql)?.query_map([], |row| row.get(0))?.collect() };
    let readings: i64 = archive.query_row(upkeep::READINGS, [], |row| row.get(0))?;
    Ok(Copied {
        batches: ids("SELECT id FROM main.batches ORDER BY id")?,
        settled: ids("SELECT id FROM main.settled ORDER BY id")?,
        readings: readings as u64,
    })
}

/// Lets some readings of an archived batch leave; says how many.
fn leave(c: &Connection, batch: i64) -> Result<u64, Error> {
    choose_none(c)?;
    c.prepare_cached(&format!(
        "INSERT INTO leaving SELECT arrival FROM readings WHERE batch = ?1 AND {MAY_LEAVE} LIMIT {STEP}"
    ))?
    .execute(params![batch, NEWEST])?;
    let left = leave_chosen(c)?;
    c.execute("UPDATE batches SET archived = archived + ?2 WHERE id = ?1", params![batch, left as i64])?;
    Ok(left)
}

/// The same for the one reading of each of these batches.
fn leave_settled(c: &Connection, batches: &[i64]) -> Result<u64, Error> {
    choose_none(c)?;
    let mut choose = c.prepare_cached(&format!(
        "INSERT INTO leaving SELECT arrival FROM readings WHERE batch = ?1 AND {MAY_LEAVE}"
    ))?;
    let mut note = c.prepare_cached("UPDATE settled SET archived = 1 WHERE id = ?1")?;
    for batch in batches {
        if choose.execute(params![batch, NEWEST])? > 0 {
            note.execute([batch])?;
        }
    }
    leave_chosen(c)
}

fn choose_none(c: &Connection) -> Result<(), Error> {
    c.execute_batch("CREATE TEMP TABLE IF NOT EXISTS leaving (arrival INTEGER PRIMARY KEY); DELETE FROM leaving")?;
    Ok(())
}

fn leave_chosen(c: &Connection) -> Result<u64, Error> {
    c.execute_batch(
        "UPDATE devices SET archived = archived + (SELECT SUM(1 + r.more) FROM leaving l JOIN readings r USING (arrival)
             WHERE r.device = devices.id)
         WHERE id IN (SELECT r.device FROM leaving l JOIN readings r USING (arrival))",
    )?;
    let mut delete =
        c.prepare_cached("DELETE FROM readings WHERE arrival IN (SELECT arrival FROM leaving) RETURNING more")?;
    Ok(packed::changed(&mut delete, [])?)
}
