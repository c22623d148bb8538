//! What the append-only log needs of the engine: where it stands, and its readings.

#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension, Row, params};
use windlass_reading::Reading;

use super::{
    convert::{hash_at, u64_at},
    packed::{self, MOST, READING},
};
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
        "SELECT COALESCE(MAX(arrival) - 1, 0) FROM
             (SELECT arrival, LAG(arrival + more) OVER (ORDER BY arrival) AS before FROM readings)
         WHERE before IS NULL OR before <> arrival - 1",
        [],
        |row| u64_at(row, 0),
    )?;
    Ok(base)
}

/// Readings that settle by anchor, after one arrival and up to another, in arrival order.
pub(super) fn readings(c: &Connection, after: u64, upto: u64, limit: usize) -> Result<Vec<(u64, Reading)>, Error> {
    let mut statement = c.prepare_cached(&format!(
        "SELECT r.arrival, {READING} FROM readings r JOIN devices d ON d.id = r.device
         WHERE r.arrival > ?1 - ?3 AND r.arrival + r.more > ?1 AND r.arrival <= ?2 AND r.settlement = 'anchor'
         ORDER BY r.arrival"
    ))?;
    let mut rows = statement.query(params![signed(after), signed(upto), signed(MOST)])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let first = u64_at(row, 0)?;
        packed::each_reading(row, 1, |step, reading| {
            if (after + 1..=upto).contains(&(first + step)) {
                found.push((first + step, reading));
            }
        })?;
    }
    found.truncate(limit);
    Ok(found)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
