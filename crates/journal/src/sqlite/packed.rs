//! Rows of `readings` that hold several: a reading, and those that came with it and follow it in their device's sequence.
//!
//! They share all that a row says but packet id and payload, which stand in `rest` for the `more` readings after the first:
//! of each the packet id (0: none) and the length of the payload, two bytes each with the greatest first, and the payload.
//! Arrivals and sequences go on by one. What one read of a socket brings mostly makes one row, so its index entries are
//! written once. A row is split where a batch takes or releases a part of it.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row, params};
use windlass_reading::{Reading, Settlement};

use super::convert::{bad, device_at, u64_at};
use crate::{Entry, Error};

/// Most readings after the first: how far back a row may begin that holds a given one.
pub(super) const MOST: u64 = 127;
/// Bytes of `rest`, so that a row stays within its page.
const BYTES: usize = 2_048;

/// How many of `following` stand in one row with `first`; `rest` becomes them.
pub(super) fn pack(settlement: Settlement, first: &Entry, following: &[Entry], rest: &mut Vec<u8>) -> usize {
    rest.clear();
    // Each `direct` reading is a transaction of its own.
    if settlement == Settlement::Direct || !is_plain(first) {
        return 0;
    }
    let fits = |next: &&Entry| {
        is_plain(next)
            && next.received_at_ms == first.received_at_ms
            && next.draft.observed_at_ms == first.draft.observed_at_ms
    };
    let most = usize::try_from(MOST).unwrap_or(usize::MAX);
    let mut packed = 0;
    for next in following.iter().take(most).take_while(fits) {
        let payload = &next.draft.payload;
        let Ok(length) = u16::try_from(payload.len()) else { break };
        if rest.len() + 4 + payload.len() > BYTES {
            break;
        }
        rest.extend(next.packet_id.unwrap_or(0).to_be_bytes());
        rest.extend(length.to_be_bytes());
        rest.extend(payload);
        packed += 1;
    }
    packed
}

/// It has nothing that needs columns of its own.
fn is_plain(entry: &Entry) -> bool {
    !entry.exactly_once && entry.draft.message_id.is_none() && entry.draft.claim.is_none()
}

/// One of the readings after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Item<'a> {
    packet_id: Option<u16>,
    payload: &'a [u8],
}

/// Takes the first one off `rest`.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Item<'a>> {
    let (head, tail) = rest.split_first_chunk::<4>()?;
    let [id_high, id_low, length_high, length_low] = *head;
    let (payload, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes([length_high, length_low])))?;
    *rest = tail;
    Some(Item { packet_id: Some(u16::from_be_bytes([id_high, id_low])).filter(|id| *id > 0), payload })
}

fn damaged() -> rusqlite::Error {
    bad(0, "the readings of a row are not as many as it says")
}

/// Gives `(steps after the first, packet id, payload)` of each reading of a row, from its columns packet id, payload, more
/// and rest, of which the first is `column`.
pub(super) fn each(
    row: &Row<'_>,
    column: usize,
    mut give: impl FnMut(u64, Option<u16>, Vec<u8>),
) -> rusqlite::Result<()> {
    give(0, row.get(column)?, row.get(column + 1)?);
    let more = u64_at(row, column + 2)?;
    if more == 0 {
        return Ok(());
    }
    let rest = row.get_ref(column + 3)?;
    let mut rest = rest.as_blob().map_err(|_| damaged())?;
    for step in 1..=more {
        let item = next(&mut rest).ok_or_else(damaged)?;
        give(step, item.packet_id, item.payload.to_vec());
    }
    if rest.is_empty() { Ok(()) } else { Err(damaged()) }
}

/// The columns of [`each_reading`], of a row `r` and its device `d`.
pub(super) const READING: &str = "d.name, r.epoch, r.sequence, r.observed_at, r.packet_id, r.payload, r.more, r.rest";

/// The row that holds the reading with this name of a device and number, if any holds it.
pub(super) const HOLDING: &str = "WHERE r.device = (SELECT id FROM devices WHERE name = ?1) AND r.sequence <= ?2
    ORDER BY r.sequence DESC LIMIT 1";

/// Gives each reading of a row out of the columns of [`READING`], with its steps after the first.
pub(super) fn each_reading(row: &Row<'_>, column: usize, mut give: impl FnMut(u64, Reading)) -> rusqlite::Result<()> {
    let (device, epoch) = (device_at(row, column)?, row.get(column + 1)?);
    let (sequence, observed_at_ms) = (u64_at(row, column + 2)?, u64_at(row, column + 3)?);
    each(row, column + 4, |step, _, payload| {
        let sequence = sequence + step;
        give(step, Reading { device: device.clone(), epoch, sequence, observed_at_ms, payload });
    })
}

/// Makes rows begin at this arrival and at the one `count` later, where rows hold them further in.
pub(super) fn cut(c: &Connection, arrival: u64, count: u64) -> Result<(), Error> {
    split(c, arrival as i64)?;
    split(c, (arrival + count) as i64)
}

/// The same for the readings of a device from `first` up to, and without, `end`.
pub(super) fn cut_sequence(c: &Connection, device: &str, first: u64, end: u64) -> Result<(), Error> {
    for sequence in [first, end] {
        let arrival: Option<i64> = c
            .prepare_cached(
                "SELECT arrival + ?2 - sequence FROM
                     (SELECT arrival, sequence, more FROM readings WHERE device = (SELECT id FROM devices WHERE name = ?1)
                      AND sequence <= ?2 ORDER BY sequence DESC LIMIT 1)
                 WHERE sequence + more >= ?2",
            )?
            .query_row(params![device, sequence as i64], |row| row.get(0))
            .optional()?;
        if let Some(arrival) = arrival {
            split(c, arrival)?;
        }
    }
    Ok(())
}

fn split(c: &Connection, at: i64) -> Result<(), Error> {
    let found: Option<(i64, i64, Option<Vec<u8>>)> = c
        .prepare_cached("SELECT arrival, more, rest FROM readings WHERE arrival < ?1 ORDER BY arrival DESC LIMIT 1")?
        .query_row([at], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((first, more, rest)) = found.filter(|(first, more, _)| at <= first + more) else { return Ok(()) };
    let (before, rest) = (at - first - 1, rest.unwrap_or_default());
    let mut after = rest.as_slice();
    for _ in 0..before {
        next(&mut after).ok_or_else(damaged)?;
    }
    let (kept, _) = rest.split_at_checked(rest.len() - after.len()).ok_or_else(damaged)?;
    let item = next(&mut after).ok_or_else(damaged)?;
    c.prepare_cached(
        "INSERT INTO readings (arrival, device, sequence, epoch, observed_at, received_at, settlement, batch,
                               packet_id, payload, more, rest)
         SELECT ?2, device, sequence + ?2 - ?1, epoch, observed_at, received_at, settlement, batch, ?3, ?4, ?5, ?6
         FROM readings WHERE arrival = ?1",
    )?
    .execute(params![first, at, item.packet_id, item.payload, more - before - 1, blob(after)])?;
    c.prepare_cached("UPDATE readings SET more = ?2, rest = ?3 WHERE arrival = ?1")?.execute(params![
        first,
        before,
        blob(kept)
    ])?;
    Ok(())
}

/// Nothing follows: no blob.
pub(super) fn blob(rest: &[u8]) -> Option<&[u8]> {
    (!rest.is_empty()).then_some(rest)
}

/// How many readings the rows have that a statement changed; it returns their `more`.
pub(super) fn changed(statement: &mut CachedStatement<'_>, of: impl Params) -> rusqlite::Result<u64> {
    statement.query_map(of, |row| u64_at(row, 0))?.map(|more| more.map(|more| more + 1)).sum()
}

/// Rows whose `rest` is not as many readings as `more` says.
pub(super) fn damaged_rows(c: &Connection) -> Result<u64, Error> {
    let mut statement =
        c.prepare("SELECT packet_id, payload, more, rest FROM readings WHERE more <> 0 OR rest IS NOT NULL")?;
    let mut rows = statement.query([])?;
    let mut found = 0;
    while let Some(row) = rows.next()? {
        let sane = row.get::<_, i64>(2).is_ok_and(|more| (1..=MOST as i64).contains(&more));
        found += u64::from(!sane || each(row, 0, |_, _, _| {}).is_err());
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
