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
    r.arrival, r.received_at, r.settlement, r.batch, t.state, t.success, t.tx, t.block_number, t.block_hash, r.signature
    FROM readings r JOIN devices d ON d.id = r.device
    LEFT JOIN batches b ON b.id = r.batch LEFT JOIN transactions t ON t.id = b.\"transaction\"";
const BATCHES: &str = "SELECT b.id, b.settlement, b.account, b.number, b.root, b.head, b.count - b.released,
    t.state, t.success, t.tx, t.block_number, t.block_hash, t.gas_used, t.created_at,
    CASE WHEN EXISTS (SELECT 1 FROM meta WHERE key = 'archive') THEN NULL ELSE b.archive END,
    b.log_contract, b.log_base, b.log_arrival, b.log_size, b.log_root, b.log_frontier
    FROM batches b JOIN transactions t ON t.id = b.\"transaction\"";
const TRANSACTIONS: &str = "SELECT t.id, t.account, t.nonce, json_extract(t.kind, '$.kind'), t.state, t.success,
    (SELECT COUNT(*) FROM attempts WHERE \"transaction\" = t.id),
    COALESCE(t.tx, (SELECT hash FROM attempts WHERE \"transaction\" = t.id ORDER BY id DESC LIMIT 1)),
    t.block_number, t.block_hash, t.created_at, t.mined_at, t.final_at FROM transactions t";
const ATTEMPTS: &str = "SELECT a.id, t.account, t.nonce, a.hash, a.raw, a.written_at
    FROM attempts a JOIN transactions t ON t.id = a.\"transaction\"";
/// The batch that an attempt's transaction carries.
const OF_ATTEMPT: &str = "(SELECT id FROM batches WHERE \"transaction\" = t.id)";
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
    /// Whether there is a transaction `t` that gives a state.
    state: bool,
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

/// Adds `WHERE` clauses for the columns that a listing has.
fn query(select: &str, filter: &Filter, columns: Columns) -> (String, Vec<Value>) {
    let mut clauses = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let number = |n: u64| Value::from(i64::try_from(n).unwrap_or(i64::MAX));
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
    if let (true, Some(wanted)) = (columns.state, filter.state) {
        clauses.push(
            match wanted {
                State::Accepted => "(t.state IS NULL OR t.state = 'sent' OR t.success = 0)",
                State::Mined => "(t.state = 'mined' AND t.success = 1)",
                State::Final => "(t.state = 'final' AND t.success = 1)",
            }
            .to_owned(),
        );
    }
    let filters = if clauses.is_empty() { String::new() } else { format!(" WHERE {}", clauses.join(" AND ")) };
    values.push(filter.limit.map_or(Value::from(-1), number));
    let direction = if filter.newest { " DESC" } else { "" };
    (format!("{select}{filters} ORDER BY {}{direction} LIMIT ?", columns.row), values)
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
            let mut statement = c.prepare_cached(&format!(
                "{TRANSACTIONS} WHERE t.id = (SELECT \"transaction\" FROM batches WHERE id = ?1)"
            ))?;
            let mut rows = statement.query([batch as i64])?;
            Ok(rows.next()?.map(transaction_row).transpose()?)
        })
        .await
    }

    async fn readings(&self, filter: Filter) -> Result<Vec<ReadingRow>, Error> {
        let columns = Columns {
            device: Some("d.name"),
            time: Some("r.received_at"),
            state: true,
            settlement: Some("r.settlement"),
            batch: Some("r.batch"),
            row: "r.arrival",
            last: Some("r.arrival + r.more"),
            ..Columns::default()
        };
        let rows = self.list(query(READINGS, &filter, columns), readings_of).await?;
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
            let mut statement = c.prepare_cached(&format!("{READINGS} {}", packed::HOLDING))?;
            let mut rows = statement.query(rusqlite::params![device.as_str(), sequence as i64])?;
            let row = rows.next()?.map(readings_of).transpose()?;
            Ok(row.into_iter().flatten().find(|row| row.reading.sequence == sequence))
        })
        .await
    }

    async fn batches(&self, filter: Filter) -> Result<Vec<BatchRow>, Error> {
        let columns = Columns {
            time: Some("t.created_at"),
            state: true,
            settlement: Some("b.settlement"),
            row: "b.id",
            ..Columns::default()
        };
        self.list(query(BATCHES, &filter, columns), batch_row).await
    }

    async fn batch(&self, id: u64) -> Result<Option<BatchRow>, Error> {
        self.scan(move |c| {
            let mut statement = c.prepare_cached(&format!("{BATCHES} WHERE b.id = ?1"))?;
            let mut rows = statement.query([id as i64])?;
            Ok(rows.next()?.map(batch_row).transpose()?)
        })
        .await
    }

    async fn transactions(&self, filter: Filter) -> Result<Vec<TransactionRow>, Error> {
        self.list(query(TRANSACTIONS, &filter, timed("t.created_at", "t.id")), transaction_row).await
    }

    async fn totals(&self) -> Result<Totals, Error> {
        self.scan(|c| {
            let count = |sql: &str| c.query_row(sql, [], |row| u64_at(row, 0));
            let (mined, finalized, gas_used) = c.query_row(
                "SELECT COALESCE(SUM(b.count - b.released) FILTER (WHERE t.success), 0),
                        COALESCE(SUM(b.count - b.released) FILTER (WHERE t.success AND t.state = 'final'), 0),
                        COALESCE(SUM(t.gas_used), 0)
                 FROM batches b JOIN transactions t ON t.id = b.\"transaction\"",
                [],
                |row| Ok((u64_at(row, 0)?, u64_at(row, 1)?, u64_at(row, 2)?)),
            )?;
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
            let mut statement = c.prepare_cached(
                "SELECT MAX(t.mined_at - r.received_at, 0), MAX(t.final_at - r.received_at, 0), r.more
                 FROM transactions t JOIN batches b ON b.\"transaction\" = t.id JOIN readings r ON r.batch = b.id
                 WHERE t.success AND t.mined_at >= ?1",
            )?;
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
        let sql = "SELECT account, MAX(nonce) + 1, SUM(state <> 'final'), SUM(state = 'sent') FROM transactions
                   GROUP BY account ORDER BY MIN(id)";
        self.list((sql.to_owned(), Vec::new()), |row| {
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
        self.list(
            query(ATTEMPTS, &filter, Columns { batch: Some(OF_ATTEMPT), ..timed("t.created_at", "a.id") }),
            |row| {
                Ok(AttemptRow {
                    id: u64_at(row, 0)?,
                    account: address_at(row, 1)?,
                    nonce: u64_at(row, 2)?,
                    hash: hash_at(row, 3)?,
                    raw: row.get(4)?,
                    written_at_ms: opt_u64_at(row, 5)?,
                })
            },
        )
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
