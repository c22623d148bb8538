//! The engine's accept path and the chain's ledger, as the traits name them.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use alloy::primitives::Address;
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, Rows, params};
use windlass_reading::{DeviceId, Payload, Reading, Settlement};

use super::{
    Sqlite,
    convert::{
        address_at, corrupt, device_at, end_at, format_at, hash_at, key_at, opt_address_at, opt_bytes_at, opt_key_at,
        settlement_at, u64_at,
    },
    disk::Disk,
    log,
    packed::{self, HOLDING, MOST, READING},
    write,
};
use crate::{
    Account, Act, Append, Attempt, BatchDraft, DeviceRow, DeviceState, End, Error, Inclusion, Journal, KeyRow, Kind,
    Ledger, LogState, OpenTransaction, Opened, Recent, Refusal, Refused, Release, TransactionDraft, Unsettled, metrics,
};

/// How many of a device's latest QoS 1 publishes are remembered for redeliveries.
pub(super) const RECENT: u32 = 64;
/// Transactions that become final in one commit: some milliseconds of the writer's time. Each is final or not by itself.
const FINAL: usize = 256;
/// Columns of unsettled readings: the eight of `packed::READING`, arrival, received_at, signature.
pub(super) const UNSETTLED: &str =
    "SELECT d.name, r.epoch, r.sequence, r.observed_at, r.packet_id, r.payload, r.more, r.rest,
     r.arrival, r.received_at, r.signature FROM readings r JOIN devices d ON d.id = r.device";

/// The devices with `direct` readings to settle: from each to the next, past all that it has waiting.
pub(super) const DIRECT_DEVICES: &str = "WITH RECURSIVE waiting (device) AS (
         SELECT MIN(device) FROM readings INDEXED BY readings_direct WHERE settlement = 'direct' AND batch IS NULL
         UNION ALL
         SELECT (SELECT MIN(r.device) FROM readings r INDEXED BY readings_direct
                 WHERE r.settlement = 'direct' AND r.batch IS NULL AND r.device > waiting.device)
         FROM waiting WHERE waiting.device IS NOT NULL)
     SELECT w.device, d.name FROM waiting w JOIN devices d ON d.id = w.device";
/// The first of them of one device.
pub(super) const OF_ONE_DIRECT_DEVICE: &str =
    "WHERE r.device = ?1 AND r.settlement = 'direct' AND r.batch IS NULL ORDER BY r.sequence LIMIT ?2";

/// Whether a device has readings for runs of earlier key generations that are in no batch, or a run of one in a batch that
/// is not final. A run is of one generation.
const OPEN_BEFORE: &str = "WITH d AS (SELECT id FROM devices WHERE name = ?1)
     SELECT EXISTS (SELECT 1 FROM readings WHERE settlement = 'batch' AND batch IS NULL
                    AND device = (SELECT id FROM d) AND epoch < ?2)
         OR EXISTS (SELECT 1 FROM transactions t JOIN batches b ON b.\"transaction\" = t.id
                    JOIN runs k ON k.batch = b.id AND k.device = (SELECT id FROM d)
                    JOIN readings r ON r.device = k.device AND r.sequence = (SELECT MAX(f.sequence) FROM readings f
                        WHERE f.device = k.device AND f.sequence <= k.first_sequence)
                    WHERE t.state <> 'final' AND r.epoch < ?2)";

pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// A device out of nine columns.
pub(super) fn device_row(row: &Row<'_>) -> rusqlite::Result<DeviceRow> {
    Ok(DeviceRow {
        device: device_at(row, 0)?,
        format: format_at(row, 1)?,
        settlement: settlement_at(row, 2)?,
        epoch: row.get(3)?,
        key: opt_key_at(row, 4)?,
        custodial: row.get(8)?,
        registered: row.get(5)?,
        barcode: opt_address_at(row, 6)?,
        end: end_at(row, 7)?,
    })
}

/// At most `limit` readings out of rows of [`UNSETTLED`].
fn unsettled(mut rows: Rows<'_>, limit: usize) -> rusqlite::Result<Vec<Unsettled>> {
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let (arrival, received_at_ms, signature) = (u64_at(row, 8)?, u64_at(row, 9)?, opt_bytes_at(row, 10)?);
        packed::each_reading(row, 0, |step, reading| {
            let signature = signature.clone();
            found.push(Unsettled { arrival: arrival + step, received_at_ms, reading, signature });
        })?;
    }
    found.truncate(limit);
    Ok(found)
}

/// The readings of rows of [`packed::READING`].
fn readings(mut rows: Rows<'_>) -> rusqlite::Result<Vec<Reading>> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        packed::each_reading(row, 0, |_, reading| found.push(reading))?;
    }
    Ok(found)
}

/// The publishes by which a device's redeliveries are known: of its latest readings, and all QoS 2 that are not released.
fn recent(c: &Connection, device: i64, last_sequence: u64) -> Result<Vec<Recent>, Error> {
    let mut statement = c.prepare_cached(
        "SELECT sequence, unreleased, packet_id, payload, more, rest FROM readings WHERE device = ?1 AND sequence > ?2
         UNION ALL SELECT sequence, unreleased, packet_id, payload, more, rest FROM readings
         WHERE device = ?1 AND unreleased = 1 AND sequence <= ?2 ORDER BY sequence",
    )?;
    let since = last_sequence.saturating_sub(RECENT.into());
    let mut rows = statement.query(params![device, since.saturating_sub(MOST) as i64])?;
    let mut recent = Vec::new();
    while let Some(row) = rows.next()? {
        let (first, unreleased) = (u64_at(row, 0)?, row.get(1)?);
        packed::each(row, 2, |step, packet_id, payload| {
            let sequence = first + step;
            if let Some(packet_id) = packet_id
                && (unreleased || sequence > since)
            {
                recent.push(Recent { packet_id, sequence, payload: Payload::from_slice(&payload), unreleased });
            }
        })?;
    }
    recent.shrink_to_fit();
    Ok(recent)
}

#[async_trait]
impl Journal for Sqlite {
    fn append(&self, entry: Append) -> Result<(), Refused<Append>> {
        self.send_append(entry)
    }

    fn quarantine(&self, entry: Refusal) -> Result<(), Refused<Refusal>> {
        self.send_refusal(entry)
    }

    fn release(&self, entry: Release) -> Result<(), Refused<Release>> {
        self.send_release(entry)
    }

    async fn upsert_devices(&self, devices: Vec<DeviceRow>) -> Result<(), Error> {
        self.write(move |c, _| write::upsert_devices(c, &devices)).await
    }

    fn device(&self, device: &DeviceId) -> Result<Option<DeviceState>, Error> {
        self.point(|c| {
            let row: Option<i64> = c
                .prepare_cached("SELECT id FROM devices WHERE name = ?1")?
                .query_row([device.as_str()], |row| row.get(0))
                .optional()?;
            let Some(id) = row else { return Ok(None) };
            let last_sequence = c
                .prepare_cached(
                    "SELECT COALESCE((SELECT sequence + more FROM readings WHERE device = ?1
                                      ORDER BY sequence DESC LIMIT 1), 0)",
                )?
                .query_row([id], |row| u64_at(row, 0))?;
            Ok(Some(DeviceState { last_sequence, recent: recent(c, id, last_sequence)? }))
        })
    }

    fn find_message(&self, device: &DeviceId, message_id: &str) -> Result<Option<u64>, Error> {
        self.point(|c| {
            Ok(c.prepare_cached(
                "SELECT sequence FROM readings WHERE device = (SELECT id FROM devices WHERE name = ?1)
                 AND message_id = ?2",
            )?
            .query_row([device.as_str(), message_id], |row| u64_at(row, 0))
            .optional()?)
        })
    }

    fn find_reading(&self, device: &DeviceId, sequence: u64) -> Result<Option<Reading>, Error> {
        self.point(|c| {
            let mut statement = c.prepare_cached(&format!(
                "SELECT {READING} FROM readings r JOIN devices d ON d.id = r.device {HOLDING}"
            ))?;
            let row = readings(statement.query(params![device.as_str(), sequence as i64])?)?;
            Ok(row.into_iter().find(|reading| reading.sequence == sequence))
        })
    }
}

#[async_trait]
impl Ledger for Sqlite {
    async fn unsettled(
        &self,
        settlement: Settlement,
        (index, of): (u32, u32),
        except: Vec<DeviceId>,
        limit: usize,
    ) -> Result<Vec<Unsettled>, Error> {
        let except = serde_json::to_string(&except).map_err(|e| corrupt(&e.to_string()))?;
        self.scan(move |c| {
            // A row has at least one reading.
            let sql = format!(
                "{UNSETTLED} WHERE r.settlement = ?1 AND r.batch IS NULL AND d.shard % ?2 = ?3
                 AND (r.settlement <> 'batch' OR r.epoch = d.registered)
                 AND (?5 = '[]' OR d.name NOT IN (SELECT value FROM json_each(?5))) ORDER BY r.arrival LIMIT ?4"
            );
            let mut statement = c.prepare_cached(&sql)?;
            let rows = statement.query(params![settlement.as_str(), of.max(1), index, limit as i64, except])?;
            Ok(unsettled(rows, limit)?)
        })
        .await
    }

    async fn unsettled_direct(&self, limit_each: usize) -> Result<Vec<(DeviceId, Vec<Unsettled>)>, Error> {
        self.scan(move |c| {
            let mut devices = c.prepare_cached(DIRECT_DEVICES)?;
            let ids = devices
                .query_map([], |row| Ok((row.get::<_, i64>(0)?, device_at(row, 1)?)))?
                .collect::<Result<Vec<_>, _>>()?;
            let mut of_one = c.prepare_cached(&format!("{UNSETTLED} {OF_ONE_DIRECT_DEVICE}"))?;
            ids.into_iter()
                .map(|(id, device)| {
                    let rows = of_one.query(params![id, limit_each as i64])?;
                    Ok((device, unsettled(rows, limit_each)?))
                })
                .collect()
        })
        .await
    }

    async fn open(&self, transaction: TransactionDraft, batch: Option<BatchDraft>) -> Result<Opened, Error> {
        self.write(move |c, _| write::open(c, &transaction, batch.as_ref(), now_ms())).await
    }

    async fn add_attempt(&self, transaction: u64, attempt: Attempt) -> Result<(), Error> {
        self.write(move |c, _| write::add_attempt(c, transaction, &attempt)).await
    }

    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>, Error> {
        self.scan(open_transactions).await
    }

    async fn account(&self, account: Address) -> Result<Account, Error> {
        self.scan(move |c| write::account(c, account)).await
    }

    async fn mined(&self, transaction: u64, inclusion: Inclusion) -> Result<(), Error> {
        self.write(move |c, effects| write::mined(c, effects, transaction, &inclusion)).await
    }

    async fn unmined(&self, transactions: Vec<u64>) -> Result<u64, Error> {
        self.write(move |c, effects| write::unmined(c, effects, &transactions)).await
    }

    async fn finalized(&self, mut transactions: Vec<u64>) -> Result<u64, Error> {
        // In their order, so that what settles directly goes to the end of its table.
        transactions.sort_unstable();
        let mut released = 0;
        for step in transactions.chunks(FINAL) {
            let step = step.to_vec();
            released += self.write(move |c, _| write::finalized(c, &step, now_ms())).await?;
        }
        Ok(released)
    }

    async fn displaced(&self, transaction: u64) -> Result<u64, Error> {
        self.write(move |c, _| write::displaced(c, transaction, now_ms())).await
    }

    async fn drop_quarantined(&self, id: u64) -> Result<bool, Error> {
        self.write(move |c, _| Ok(c.execute("DELETE FROM quarantine WHERE id = ?1", [id as i64])? > 0)).await
    }

    async fn note_act(&self, act: Act) -> Result<(), Error> {
        self.write(move |c, _| {
            let Act { act, subject, outcome } = act;
            c.execute(
                "INSERT INTO acts (at, act, subject, outcome) VALUES (?1, ?2, ?3, ?4)",
                params![now_ms() as i64, act, subject, outcome],
            )?;
            Ok(())
        })
        .await
    }

    async fn batch_readings(&self, batch: u64) -> Result<Vec<Reading>, Error> {
        self.scan(move |c| {
            let mut statement = c.prepare_cached(&format!(
                "SELECT {READING} FROM readings r JOIN devices d ON d.id = r.device
                 WHERE r.batch = ?1 ORDER BY r.device, r.sequence"
            ))?;
            Ok(readings(statement.query([batch as i64])?)?)
        })
        .await
    }

    async fn log(&self, contract: String) -> Result<Option<LogState>, Error> {
        self.scan(move |c| log::newest(c, &contract)).await
    }

    async fn log_base(&self) -> Result<u64, Error> {
        self.scan(log::base).await
    }

    async fn log_readings(&self, after: u64, upto: u64, limit: usize) -> Result<Vec<(u64, Reading)>, Error> {
        self.scan(move |c| log::readings(c, after, upto, limit)).await
    }

    async fn funded_since(&self, since_ms: u64) -> Result<u64, Error> {
        self.scan(move |c| {
            Ok(c.query_row(
                "SELECT COUNT(*) FROM transactions WHERE created_at >= ?1 AND json_extract(kind, '$.kind') = 'fund'",
                [since_ms as i64],
                |row| u64_at(row, 0),
            )?)
        })
        .await
    }

    async fn batch_received_at(&self, batch: u64) -> Result<Vec<u64>, Error> {
        self.scan(move |c| {
            let mut statement = c.prepare_cached("SELECT received_at, more FROM readings WHERE batch = ?1")?;
            let mut rows = statement.query([batch as i64])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let received_at_ms = u64_at(row, 0)?;
                found.extend((0..=u64_at(row, 1)?).map(|_| received_at_ms));
            }
            Ok(found)
        })
        .await
    }

    async fn devices(&self) -> Result<Vec<DeviceRow>, Error> {
        self.scan(|c| {
            let mut statement = c.prepare_cached(
                "SELECT name, format, settlement, d.epoch, address, registered, barcode, ended, custodial
                 FROM devices d LEFT JOIN device_keys k ON k.device = d.id AND k.epoch = d.epoch ORDER BY id",
            )?;
            let rows = statement.query_map([], device_row)?.collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }

    async fn set_registered(&self, devices: Vec<(DeviceId, u32)>) -> Result<(), Error> {
        self.write(move |c, _| write::set_registered(c, &devices)).await
    }

    async fn set_end(&self, device: DeviceId, end: End) -> Result<(), Error> {
        self.write(move |c, _| write::set_end(c, &device, end)).await
    }

    async fn device_keys(&self, device: DeviceId) -> Result<Vec<KeyRow>, Error> {
        self.scan(move |c| {
            let mut statement = c.prepare_cached(
                "SELECT epoch, key, custodial FROM device_keys
                 WHERE device = (SELECT id FROM devices WHERE name = ?1) ORDER BY epoch",
            )?;
            let rows = statement
                .query_map([device.as_str()], |row| {
                    Ok(KeyRow { epoch: row.get(0)?, key: key_at(row, 1)?, custodial: row.get(2)? })
                })?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .await
    }

    async fn has_open_before(&self, device: DeviceId, epoch: u32) -> Result<bool, Error> {
        self.scan(move |c| Ok(c.query_row(OPEN_BEFORE, params![device.as_str(), epoch], |row| row.get(0))?)).await
    }

    async fn set_barcode(&self, device: DeviceId, address: Option<Address>) -> Result<(), Error> {
        self.write(move |c, _| {
            c.execute(
                "UPDATE devices SET barcode = ?2 WHERE name = ?1",
                params![device.as_str(), address.map(|a| a.to_vec())],
            )?;
            Ok(())
        })
        .await
    }

    async fn meta(&self, key: String) -> Result<Option<String>, Error> {
        self.scan(move |c| {
            Ok(c.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?)
        })
        .await
    }

    async fn set_meta(&self, key: String, value: String) -> Result<(), Error> {
        self.write(move |c, _| {
            c.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                [key, value],
            )?;
            Ok(())
        })
        .await
    }
}

impl Sqlite {
    /// Sets the gauges of the oldest unsettled reading's age and of the disk; called about once a second.
    ///
    /// # Errors
    /// [`Error::Storage`] when the read fails. A disk that cannot be asked leaves its gauges as they were.
    pub async fn sample(&self) -> Result<(), Error> {
        let (oldest, disk): (Option<i64>, _) = self
            .scan(|c| {
                let disk = c.path().and_then(|path| Disk::of(Path::new(path)).ok());
                let oldest = c.query_row(
                    "SELECT MIN(at) FROM (
                       SELECT (SELECT received_at FROM readings WHERE batch IS NULL AND settlement = s.name
                               ORDER BY arrival LIMIT 1) AS at
                       FROM (SELECT 'anchor' AS name UNION SELECT 'batch' UNION SELECT 'direct') s
                       UNION ALL
                       SELECT MIN(b.oldest_received_at) FROM batches b
                       WHERE b.\"transaction\" IN (SELECT id FROM transactions WHERE state <> 'final')
                         AND (SELECT state = 'sent' OR success = 0 FROM transactions WHERE id = b.\"transaction\")
                     )",
                    [],
                    |row| row.get(0),
                )?;
                Ok((oldest, disk))
            })
            .await?;
        if let Some(disk) = disk {
            metrics::disk(&disk);
        }
        let age_ms = oldest.map_or(0, |at| now_ms().saturating_sub(u64::try_from(at).unwrap_or(0)));
        metrics::age(std::time::Duration::from_millis(age_ms));
        Ok(())
    }
}

fn open_transactions(c: &Connection) -> Result<Vec<OpenTransaction>, Error> {
    let mut statement = c.prepare_cached(
        "SELECT t.id, t.account, t.nonce, t.kind, b.id, COALESCE(b.count - b.released, 0), t.created_at,
                t.tx, t.block_number, t.block_hash, t.success, t.gas_used, t.mined_at
         FROM transactions t LEFT JOIN batches b ON b.\"transaction\" = t.id
         WHERE t.state <> 'final' ORDER BY t.account, t.nonce",
    )?;
    let mut attempts = c.prepare_cached(
        "SELECT hash, raw, max_fee_wei, tip_wei, cancel FROM attempts WHERE \"transaction\" = ?1 ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let id = u64_at(row, 0)?;
        let kind: String = row.get(3)?;
        let kind: Kind = serde_json::from_str(&kind).map_err(|e| corrupt(&e.to_string()))?;
        let inclusion = match row.get::<_, Option<bool>>(10)? {
            None => None,
            Some(success) => Some(Inclusion {
                tx: hash_at(row, 7)?,
                block_number: u64_at(row, 8)?,
                block_hash: hash_at(row, 9)?,
                success,
                gas_used: u64_at(row, 11)?,
                at_ms: u64_at(row, 12)?,
                skipped: Vec::new(),
            }),
        };
        let attempts = attempts
            .query_map([id as i64], |row| {
                Ok(Attempt {
                    hash: hash_at(row, 0)?,
                    raw: row.get::<_, Vec<u8>>(1)?.into(),
                    max_fee_wei: u64_at(row, 2)?,
                    tip_wei: u64_at(row, 3)?,
                    cancel: row.get(4)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        open.push(OpenTransaction {
            id,
            account: address_at(row, 1)?,
            nonce: u64_at(row, 2)?,
            kind,
            batch: row.get::<_, Option<i64>>(4)?.map(|b| b as u64),
            readings: u64_at(row, 5)?,
            attempts,
            inclusion,
            created_at_ms: u64_at(row, 6)?,
        });
    }
    Ok(open)
}
