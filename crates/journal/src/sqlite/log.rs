//! What the append-only log needs of the engine: where it stands, and its readings.

#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension, Row, params};
use windlass_reading::Reading;

use super::convert::{hash_at, reading_at, u64_at};
use crate::{Error, LogState};

/// Columns of a batch's log state, in the order of [`state_at`].
pub(super) const STATE: &str = "b.log_contract, b.log_base, b.log_arrival, b.log_size, b.log_root, b.log_frontier";

/// A batch's log state out of six columns from `first`; `None` for a batch without one.
pub(super) fn state_at(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<LogState>> {
    let Some(contract) = row.get::<_, Option<String>>(first)? else { return Ok(None) };
    Ok(Some(LogState {
        contract,
        base: u64_at(row, first + 1)?,
        arrival: u64_at(row, first + 2)?,
        size: u64_at(row, first + 3)?,
        root: hash_at(row, first + 4)?,
        frontier: row.get(first + 5)?,
    }))
}

/// The state that the newest batch of this contract left.
pub(super) fn newest(c: &Connection, contract: &str) -> Result<Option<LogState>, Error> {
    let found = c
        .prepare_cached(&format!("SELECT {STATE} FROM batches b WHERE b.log_contract = ?1 ORDER BY b.id DESC LIMIT 1"))?
        .query_row([contract], |row| state_at(row, 0))
        .optional()?;
    Ok(found.flatten())
}

/// Whether `next` goes on from where the journal has the log: it never shrinks, and stays the same while it takes nothing.
pub(super) fn follows(c: &Connection, next: &LogState) -> Result<bool, Error> {
    let Some(last) = newest(c, &next.contract)? else { return Ok(true) };
    let grows = next.base == last.base && next.arrival >= last.arrival && next.size >= last.size;
    Ok(grows && (next.size > last.size || next.root == last.root))
}

/// The arrival after which no reading was archived: a log that starts now can cover what came later.
///
/// Arrivals have no holes of their own, so the last hole is where something left.
pub(super) fn base(c: &Connection) -> Result<u64, Error> {
    let left: i64 = c.query_row("SELECT COALESCE(SUM(archived), 0) FROM devices", [], |row| row.get(0))?;
    if left == 0 {
        return Ok(0);
    }
    let base = c.query_row(
        "SELECT COALESCE(MAX(r.arrival) - 1, 0) FROM readings r
         WHERE NOT EXISTS (SELECT 1 FROM readings p WHERE p.arrival = r.arrival - 1)",
        [],
        |row| u64_at(row, 0),
    )?;
    Ok(base)
}

/// Readings that settle by anchor, after one arrival and up to another, in arrival order.
pub(super) fn readings(c: &Connection, after: u64, upto: u64, limit: usize) -> Result<Vec<(u64, Reading)>, Error> {
    let rows = c
        .prepare_cached(
            "SELECT r.arrival, d.name, r.epoch, r.sequence, r.observed_at, r.payload
             FROM readings r JOIN devices d ON d.id = r.device
             WHERE r.arrival > ?1 AND r.arrival <= ?2 AND r.settlement = 'anchor' ORDER BY r.arrival LIMIT ?3",
        )?
        .query_map(params![signed(after), signed(upto), signed(limit as u64)], |row| {
            Ok((u64_at(row, 0)?, reading_at(row, 1)?))
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
