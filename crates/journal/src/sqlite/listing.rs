//! Listings: what commands and the HTTP API read, beside a live writer.

use async_trait::async_trait;
use rusqlite::{Row, params_from_iter, types::Value};
use windlass_reading::DeviceId;

use super::{
    Sqlite,
    convert::{address_at, hash_at, opt_bytes_at, opt_hash_at, opt_u64_at, settlement_at, u64_at},
    log, packed,
    work::device_row,
};
use crate::{
    Act, ActRow, AttemptRow, BatchRow, DeviceListing, Error, Filter, LaneRow, Listing, QuarantineRow, ReadingRow,
    State, Totals, TransactionRow,
};

/// Columns of a row of readings: eight of `packed::READING`, then those of [`readings_of`].
const READINGS: &str = "SELECT d.name, r.epoch, r.sequence, r.observed_at, r.packet_id, r.payload, r.more, r.rest,
    r.arrival, r.received_at, r.settlement, r.batch, iif(s.id IS NULL, t.state, 'final'),
    iif(s.id IS NULL, t.success, 1), COALESCE(t.tx, s.tx), COALESCE(t.block_number, s.block),
    COALESCE(t.block_hash, k.hash), r.signature
    FROM readings r JOIN devices d ON d.id = r.device
    LEFT JOIN batches b ON b.id = r.batch LEFT JOIN transactions t ON t.id = b.\"transaction\"
    LEFT JOIN settled s ON s.id = r.batch LEFT JOIN blocks k ON k.number = s.block";
const BATCHES: &str = "SELECT b.id, b.settlement, b.account, b.number, b.root, b.head, b.count - b.released,
    t.state, t.success, t.tx, t.block_number, t.block_hash, t.gas_used, t.created_at,
    CASE WHEN EXISTS (SELECT 1 FROM meta WHERE key = 'archive') THEN NULL ELSE b.archive END,
    b.log_contract, b.log_base, b.log_arrival, b.log_size, b.log_root, b.log_frontier
    FROM batches b JOIN transactions t ON t.id = b.\"transaction\"";
/// The same columns of what settled directly.
const SETTLED_BATCHES: &str =
    "SELECT s.id, 'direct', (SELECT address FROM accounts WHERE id = s.account), 0, NULL, NULL, 1,
    'final', 1, s.tx, s.block, (SELECT hash FROM blocks WHERE number = s.block), s.gas_used, s.created_at,
    CASE WHEN EXISTS (SELECT 1 FROM meta WHERE key = 'archive') THEN NULL
         ELSE (SELECT name FROM archives WHERE id = s.archive) END,
    NULL, NULL, NULL, NULL, NULL, NULL FROM settled s";
const TRANSACTIONS: &str = "SELECT t.id, t.account, t.nonce, json_extract(t.kind, '$.kind'), t.state, t.success,
    (SELECT COUNT(*) FROM attempts WHERE \"transaction\" = t.id),
    COALESCE(t.tx, (SELECT hash FROM attempts WHERE \"transaction\" = t.id ORDER BY id DESC LIMIT 1)),
    t.block_number, t.block_hash, t.created_at, t.mined_at, t.final_at FROM transactions t";
/// The same columns of what settled directly.
const SETTLED_TRANSACTIONS: &str =
    "SELECT s.id, (SELECT address FROM accounts WHERE id = s.account), s.nonce, 'settle', 'final',
    1, 1, s.tx, s.block, (SELECT hash FROM blocks WHERE number = s.block), s.created_at, s.created_at + s.mined_after,
    s.created_at + s.final_after FROM settled s";
const ATTEMPTS: &str = "SELECT a.id, t.account, t.nonce, a.hash, a.raw, a.written_at
    FROM attempts a JOIN transactions t ON t.id = a.\"transaction\"";
/// The same columns of what settled directly; the bytes are on chain.
const SETTLED_ATTEMPTS: &str = "SELECT s.id, (SELECT address FROM accounts WHERE id = s.account), s.nonce, s.tx, x'',
    s.created_at + s.written_after FROM settled s";
/// The batch that an attempt's transaction carries.
const OF_ATTEMPT: &str = "(SELECT id FROM batches WHERE \"transaction\" = t.id)";
/// When each reading was mined and final, of transactions mined since then.
const CONFIRMATIONS: &str = "SELECT MAX(t.mined_at - r.received_at, 0), MAX(t.final_at - r.received_at, 0), r.more
    FROM transactions t CROSS JOIN batches b ON b.\"transaction\" = t.id CROSS JOIN readings r ON r.batch = b.id
    WHERE t.success AND t.mined_at >= ?1
    UNION ALL
    SELECT MAX(s.created_at + s.mined_after - r.received_at, 0), MAX(s.created_at + s.final_after - r.received_at, 0), r.more
    FROM settled s CROSS JOIN readings r ON r.batch = s.id WHERE s.created_at + s.mined_after >= ?1";
const SETTLEMENTS: &str = "SELECT COALESCE(SUM(held) FILTER (WHERE success), 0),
        COALESCE(SUM(held) FILTER (WHERE success AND state = 'final'), 0), COALESCE(SUM(gas_used), 0)
    FROM (SELECT b.count - b.released AS held, t.success, t.state, t.gas_used
          FROM batches b JOIN transactions t ON t.id = b.\"transaction\"
          UNION ALL
          SELECT 1, 1, 'final', gas_used FROM settled)";
const LANES: &str = "SELECT account, MAX(highest) + 1, SUM(open), SUM(in_flight)
    FROM (SELECT account, MAX(nonce) AS highest, SUM(state <> 'final') AS open, SUM(state = 'sent') AS in_flight, MIN(id) AS first
          FROM transactions GROUP BY account
          UNION ALL
          SELECT (SELECT address FROM accounts WHERE id = settled.account), MAX(nonce), 0, 0, MIN(id)
          FROM settled GROUP BY settled.account)
    GROUP BY account ORDER BY MIN(first)";
const ACTS: &str = "SELECT id, at, act, subject, outcome FROM acts";
const DEVICES: &str = "SELECT d.name, d.format, d.settlement, d.epoch, address, registered, barcode, ended, custodial,
    d.id, MAX(COALESCE((SELECT sequence + more FROM readings WHERE device = d.id ORDER BY sequence DESC LIMIT 1), 0), archived),
    (SELECT received_at FROM readings WHERE device = d.id ORDER BY sequence DESC LIMIT 1)
    FROM devices d LEFT JOIN device_keys k ON k.device = d.id AND k.epoch = d.epoch";
/// A device's numbers have no holes, so its last one says how many there are, archived ones too. An archive has parts.
const ACCEPTED: &str = "SELECT CASE WHEN EXISTS (SELECT 1 FROM meta WHERE key = 'archive')
    THEN (SELECT COALESCE(SUM(1 + more), 0) FROM readings)
    ELSE (SELECT COALESCE(SUM(MAX(COALESCE((SELECT sequence + more FROM readings WHERE device = devices.id
          ORDER BY sequence DESC LIMIT 1), 0), archived)), 0) FROM devices) END";
const QUARANTINE: &str = "SELECT id, device, topic, payload, reason, received_at FROM quarantine";

/// The state that a transaction gives to what it carries: a reverted one settles nothing.
fn state(name: Option<&str>, success: Option<bool>) -> State {
    match (name, success) {
        (Some("mined"), Some(true)) => State::Mined,
        (Some("final"), Some(true)) => State::Final,
        _ => State::Accepted,
    }
}

/// The columns that a listing can be filtered by.
#[derive(Clone, Copy, Default)]
struct Columns {
    device: Option<&'static str>,
    time: Option<&'static str>,
    /// State and success of the transaction.
    state: Option<(&'static str, &'static str)>,
    settlement: Option<&'static str>,
    reason: Option<&'static str>,
    batch: Option<&'static str>,
    /// The row number, which orders it.
    row: &'static str,
    /// The last number of a row that may have several, up to `packed::MOST` after its first.
    last: Option<&'static str>,
}

/// A listing with a time and nothing else to filter by.
fn timed(time: &'static str, row: &'static str) -> Columns {
    Columns { time: Some(time), row, ..Columns::default() }
}

/// The same of what settled directly.
fn of_settled() -> Columns {
    timed("s.created_at", "s.id")
}

/// A listing with the clauses for the columns that it has.
fn query(select: &str, filter: &Filter, columns: Columns) -> (String, Vec<Value>) {
    let (filters, mut values) = clauses(filter, columns);
    values.push(filter.limit.map_or(Value::from(-1), number));
    (format!("{select}{filters} ORDER BY {}{} LIMIT ?", columns.row, direction(filter)), values)
}

/// A listing of rows in full and of settled ones. The number comes first in both, and each half is read in its order.
fn query_both(
    (open, columns): (&str, Columns),
    (settled, settled_columns): (&str, Columns),
    filter: &Filter,
) -> (String, Vec<Value>) {
    let (filters, mut values) = clauses(filter, columns);
    let (settled_filters, settled_values) = clauses(filter, settled_columns);
    values.extend(settled_values);
    values.push(filter.limit.map_or(Value::from(-1), number));
    let both = format!("{open}{filters} UNION ALL {settled}{settled_filters}");
    (format!("{both} ORDER BY 1{} LIMIT ?", direction(filter)), values)
}

fn direction(filter: &Filter) -> &'static str {
    if filter.newest { " DESC" } else { "" }
}

fn number(n: u64) -> Value {
    Value::from(i64::try_from(n).unwrap_or(i64::MAX))
}

/// `WHERE` with what is filtered by.
fn clauses(filter: &Filter, columns: Columns) -> (String, Vec<Value>) {
    let mut clauses = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut only = |column: Option<&str>, test: &str, value: Option<Value>| {
        if let (Some(column), Some(value)) = (column, value) {
            clauses.push(format!("{column} {test} ?"));
            values.push(value);
        }
    };
    only(columns.device, "=", filter.device.as_ref().map(|id| id.as_str().to_owned().into()));
    only(columns.settlement, "=", filter.settlement.map(|s| s.as_str().to_owned().into()));
    only(columns.reason, "=", filter.reason.clone().map(Value::from));
    only(columns.batch, "=", filter.batch.map(number));
    only(columns.time, ">=", filter.since_ms.map(number));
    only(columns.time, "<", filter.until_ms.map(number));
    match (columns.last, filter.newest) {
        (_, true) => only(Some(columns.row), "<", filter.after.map(number)),
        (None, false) => only(Some(columns.row), ">", filter.after.map(number)),
        (Some(last), false) => {
            only(Some(columns.row), ">=", filter.after.map(|after| number(after.saturating_sub(packed::MOST))));
            only(Some(last), ">", filter.after.map(number));
        }
    }
    if let (Some((state, success)), Some(wanted)) = (columns.state, filter.state) {
        clauses.push(match wanted {
            State::Accepted => format!("({state} IS NULL OR {state} = 'sent' OR {success} = 0)"),
            State::Mined => format!("({state} = 'mined' AND {success} = 1)"),
            State::Final => format!("({state} = 'final' AND {success} = 1)"),
        });
    }
    let filters = if clauses.is_empty() { String::new() } else { format!(" WHERE {}", clauses.join(" AND ")) };
    (filters, values)
}

fn readings(filter: &Filter) -> (String, Vec<Value>) {
    let columns = Columns {
        device: Some("d.name"),
        state: Some(("iif(s.id IS NULL, t.state, 'final')", "iif(s.id IS NULL, t.success, 1)")),
        settlement: Some("r.settlement"),
        batch: Some("r.batch"),
        last: Some("r.arrival + r.more"),
        ..timed("r.received_at", "r.arrival")
    };
    query(READINGS, filter, columns)
}

fn batches(filter: &Filter) -> (String, Vec<Value>) {
    let settlement = Some("b.settlement");
    let open = Columns { state: Some(("t.state", "t.success")), settlement, ..timed("t.created_at", "b.id") };
    let settled = Columns { state: Some(("'final'", "1")), settlement: Some("'direct'"), ..of_settled() };
    query_both((BATCHES, open), (SETTLED_BATCHES, settled), filter)
}

fn transactions(filter: &Filter) -> (String, Vec<Value>) {
    query_both((TRANSACTIONS, timed("t.created_at", "t.id")), (SETTLED_TRANSACTIONS, of_settled()), filter)
}

fn attempts(filter: &Filter) -> (String, Vec<Value>) {
    let open = Columns { batch: Some(OF_ATTEMPT), ..timed("t.created_at", "a.id") };
    let settled = Columns { batch: Some("s.id"), ..of_settled() };
    query_both((ATTEMPTS, open), (SETTLED_ATTEMPTS, settled), filter)
}

fn reading_by_number() -> String {
    format!("{READINGS} {}", packed::HOLDING)
}

fn batch_by_id() -> String {
    format!("{BATCHES} WHERE b.id = ?1 UNION ALL {SETTLED_BATCHES} WHERE s.id = ?1")
}

/// The transaction that carries a batch.
fn transaction_of() -> String {
    format!(
        "{TRANSACTIONS} WHERE t.id = (SELECT \"transaction\" FROM batches WHERE id = ?1)
         UNION ALL {SETTLED_TRANSACTIONS} WHERE s.id = ?1"
    )
}

/// The queries for one row or one page: they look at nothing else.
#[cfg(test)]
pub(super) fn for_a_few() -> Vec<String> {
    let page = |newest| Filter { after: Some(1), limit: Some(1), newest, ..Filter::default() };
    let pages = [false, true].map(page);
    let listings = [readings, batches, transactions, attempts];
    let of_batch = readings(&Filter { batch: Some(1), ..Filter::default() });
    let mut all = vec![reading_by_number(), batch_by_id(), transaction_of(), of_batch.0];
    all.extend(listings.iter().flat_map(|listing| pages.iter().map(|page| listing(page).0)));
    all
}

fn block_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<(u64, alloy::primitives::B256)>> {
    match opt_u64_at(row, column)? {
        None => Ok(None),
        Some(number) => Ok(Some((number, hash_at(row, column + 1)?))),
    }
}

/// The readings of a row.
fn readings_of(row: &Row<'_>) -> rusqlite::Result<Vec<ReadingRow>> {
    let name: Option<String> = row.get(12)?;
    let (arrival, received_at_ms, settlement) = (u64_at(row, 8)?, u64_at(row, 9)?, settlement_at(row, 10)?);
    let (batch, state) = (opt_u64_at(row, 11)?, state(name.as_deref(), row.get(13)?));
    let (tx, block, signature) = (opt_hash_at(row, 14)?, block_at(row, 15)?, opt_bytes_at(row, 17)?);
    let mut readings = Vec::with_capacity(1);
    packed::each_reading(row, 0, |step, reading| {
        let signature = signature.clone();
        let arrival = arrival + step;
        readings.push(ReadingRow { arrival, reading, received_at_ms, settlement, batch, state, tx, block, signature });
    })?;
    Ok(readings)
}

fn batch_row(row: &Row<'_>) -> rusqlite::Result<BatchRow> {
    let name: Option<String> = row.get(7)?;
    Ok(BatchRow {
        id: u64_at(row, 0)?,
        settlement: settlement_at(row, 1)?,
        account: address_at(row, 2)?,
        number: u64_at(row, 3)?,
        root: opt_hash_at(row, 4)?,
        head: opt_hash_at(row, 5)?,
        count: u64_at(row, 6)?,
        state: state(name.as_deref(), row.get(8)?),
        tx: opt_hash_at(row, 9)?,
        block: block_at(row, 10)?,
        gas_used: opt_u64_at(row, 12)?,
        created_at_ms: u64_at(row, 13)?,
        archive: row.get(14)?,
        log: log::state_at(row, 15)?,
    })
}

fn transaction_row(row: &Row<'_>) -> rusqlite::Result<TransactionRow> {
    Ok(TransactionRow {
        id: u64_at(row, 0)?,
        account: address_at(row, 1)?,
        nonce: u64_at(row, 2)?,
        kind: row.get(3)?,
        state: row.get(4)?,
        success: row.get(5)?,
        attempts: u64_at(row, 6)?,
        tx: opt_hash_at(row, 7)?,
        block: block_at(row, 8)?,
        created_at_ms: u64_at(row, 10)?,
        mined_at_ms: opt_u64_at(row, 11)?,
        final_at_ms: opt_u64_at(row, 12)?,
    })
}

fn act_row(row: &Row<'_>) -> rusqlite::Result<ActRow> {
    let act = Act { act: row.get(2)?, subject: row.get(3)?, outcome: row.get(4)? };
    Ok(ActRow { id: u64_at(row, 0)?, at_ms: u64_at(row, 1)?, act })
}

fn quarantine_row(row: &Row<'_>) -> rusqlite::Result<QuarantineRow> {
    let device: Option<String> = row.get(1)?;
    Ok(QuarantineRow {
        id: u64_at(row, 0)?,
        device: device.and_then(|d| DeviceId::new(&d).ok()),
        topic: row.get(2)?,
        payload: row.get(3)?,
        reason: row.get(4)?,
        received_at_ms: u64_at(row, 5)?,
    })
}

impl Sqlite {
    async fn list<T: Send + 'static>(
        &self,
        (sql, values): (String, Vec<Value>),
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        self.scan(move |c| {
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query_map(params_from_iter(values), read)?.collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }
}

#[async_trait]
impl Listing for Sqlite {
    async fn device_listing(&self, filter: Filter) -> Result<Vec<DeviceListing>, Error> {
        let columns =
            Columns { device: Some("d.name"), settlement: Some("d.settlement"), row: "d.id", ..Columns::default() };
        self.list(query(DEVICES, &filter, columns), |row| {
            Ok(DeviceListing {
                id: u64_at(row, 9)?,
                row: device_row(row)?,
                last_sequence: u64_at(row, 10)?,
                last_received_at_ms: opt_u64_at(row, 11)?,
            })
        })
        .await
    }

    async fn transaction_of(&self, batch: u64) -> Result<Option<TransactionRow>, Error> {
        self.scan(move |c| {
            let mut statement = c.prepare_cached(&transaction_of())?;
            let mut rows = statement.query([batch as i64])?;
            Ok(rows.next()?.map(transaction_row).transpose()?)
        })
        .await
    }

    async fn readings(&self, filter: Filter) -> Result<Vec<ReadingRow>, Error> {
        let rows = self.list(readings(&filter), readings_of).await?;
        let Filter { after, newest, limit, .. } = filter;
        let within = |reading: &ReadingRow| {
            after.is_none_or(|after| if newest { reading.arrival < after } else { reading.arrival > after })
        };
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let in_order = rows.into_iter().flat_map(|mut row| {
            if newest {
                row.reverse();
            }
            row
        });
        Ok(in_order.filter(within).take(limit).collect())
    }

    async fn reading(&self, device: DeviceId, sequence: u64) -> Result<Option<ReadingRow>, Error> {
        self.scan(move |c| {
            let mut statement = c.prepare_cached(&reading_by_number())?;
            let mut rows = statement.query(rusqlite::params![device.as_str(), sequence as i64])?;
            let row = rows.next()?.map(readings_of).transpose()?;
            Ok(row.into_iter().flatten().find(|row| row.reading.sequence == sequence))
        })
        .await
    }

    async fn batches(&self, filter: Filter) -> Result<Vec<BatchRow>, Error> {
        self.list(batches(&filter), batch_row).await
    }

    async fn batch(&self, id: u64) -> Result<Option<BatchRow>, Error> {
        self.scan(move |c| {
            let mut statement = c.prepare_cached(&batch_by_id())?;
            let mut rows = statement.query([id as i64])?;
            Ok(rows.next()?.map(batch_row).transpose()?)
        })
        .await
    }

    async fn transactions(&self, filter: Filter) -> Result<Vec<TransactionRow>, Error> {
        self.list(transactions(&filter), transaction_row).await
    }

    async fn totals(&self) -> Result<Totals, Error> {
        self.scan(|c| {
            let count = |sql: &str| c.query_row(sql, [], |row| u64_at(row, 0));
            let (mined, finalized, gas_used) =
                c.query_row(SETTLEMENTS, [], |row| Ok((u64_at(row, 0)?, u64_at(row, 1)?, u64_at(row, 2)?)))?;
            Ok(Totals {
                accepted: count(ACCEPTED)?,
                mined,
                finalized,
                quarantined: count("SELECT COUNT(*) FROM quarantine")?,
                gas_used,
            })
        })
        .await
    }

    async fn confirmations(&self, since_ms: u64) -> Result<Vec<(u64, Option<u64>)>, Error> {
        self.scan(move |c| {
            let mut statement = c.prepare_cached(CONFIRMATIONS)?;
            let mut rows = statement.query([i64::try_from(since_ms).unwrap_or(i64::MAX)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let times = (u64_at(row, 0)?, opt_u64_at(row, 1)?);
                found.extend((0..=u64_at(row, 2)?).map(|_| times));
            }
            Ok(found)
        })
        .await
    }

    async fn lanes(&self) -> Result<Vec<LaneRow>, Error> {
        self.list((LANES.to_owned(), Vec::new()), |row| {
            Ok(LaneRow {
                account: address_at(row, 0)?,
                next_nonce: u64_at(row, 1)?,
                open: u64_at(row, 2)?,
                in_flight: u64_at(row, 3)?,
            })
        })
        .await
    }

    async fn device_unsettled(&self, device: DeviceId) -> Result<u64, Error> {
        self.scan(move |c| {
            Ok(c.query_row(
                "SELECT COALESCE(SUM(1 + r.more), 0) FROM readings r LEFT JOIN batches b ON b.id = r.batch
                 LEFT JOIN transactions t ON t.id = b.\"transaction\"
                 WHERE r.device = (SELECT id FROM devices WHERE name = ?1)
                   AND (r.batch IS NULL OR t.state = 'sent' OR t.success = 0)",
                [device.as_str()],
                |row| u64_at(row, 0),
            )?)
        })
        .await
    }

    async fn highest_custodial(&self) -> Result<Option<u32>, Error> {
        self.scan(|c| Ok(c.query_row("SELECT MAX(custodial) FROM device_keys", [], |row| row.get(0))?)).await
    }

    async fn attempts(&self, filter: Filter) -> Result<Vec<AttemptRow>, Error> {
        self.list(attempts(&filter), |row| {
            Ok(AttemptRow {
                id: u64_at(row, 0)?,
                account: address_at(row, 1)?,
                nonce: u64_at(row, 2)?,
                hash: hash_at(row, 3)?,
                raw: row.get(4)?,
                written_at_ms: opt_u64_at(row, 5)?,
            })
        })
        .await
    }

    async fn acts(&self, filter: Filter) -> Result<Vec<ActRow>, Error> {
        self.list(query(ACTS, &filter, timed("at", "id")), act_row).await
    }

    async fn quarantine_row(&self, id: u64) -> Result<Option<QuarantineRow>, Error> {
        self.scan(move |c| {
            let mut statement = c.prepare_cached(&format!("{QUARANTINE} WHERE id = ?1"))?;
            let mut rows = statement.query([id as i64])?;
            Ok(rows.next()?.map(quarantine_row).transpose()?)
        })
        .await
    }

    async fn quarantined(&self, filter: Filter) -> Result<Vec<QuarantineRow>, Error> {
        let columns = Columns { device: Some("device"), reason: Some("reason"), ..timed("received_at", "id") };
        self.list(query(QUARANTINE, &filter, columns), quarantine_row).await
    }
}
