//! Writes of the chain side: transactions, attempts, batches, inclusions.

use alloy::primitives::Address;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use windlass_reading::DeviceId;

use super::{
    convert::{corrupt, opt_u64_at, u64_at},
    log, packed,
    settled::{self, Ids},
    writer::Effects,
};
use crate::{Account, Attempt, BatchDraft, DeviceRow, End, Error, Inclusion, Opened, Span, TransactionDraft};

/// Device shards: a lane takes those whose remainder is its own, so a device stays on one lane.
const SHARDS: u16 = 4_096;

/// The account's highest nonce, also of what is history.
pub(super) const HIGHEST_NONCE: &str = "SELECT MAX(nonce) FROM
    (SELECT MAX(nonce) AS nonce FROM transactions WHERE account = ?1
     UNION ALL
     SELECT MAX(nonce) FROM settled WHERE account = (SELECT id FROM accounts WHERE address = ?1))";

pub(super) fn count_unsettled(connection: &Connection) -> Result<i64, Error> {
    let free: i64 =
        connection
            .query_row("SELECT COALESCE(SUM(1 + more), 0) FROM readings WHERE batch IS NULL", [], |row| row.get(0))?;
    let open: i64 = connection.query_row(
        "SELECT COALESCE(SUM(b.count - b.released), 0) FROM batches b JOIN transactions t ON t.id = b.\"transaction\"
         WHERE t.state = 'sent' OR t.success = 0",
        [],
        |row| row.get(0),
    )?;
    Ok(free + open)
}

pub(super) fn upsert_devices(connection: &Connection, devices: &[DeviceRow]) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO devices (name, shard, format, settlement, epoch, address, ended) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (name) DO UPDATE SET format = ?3, settlement = ?4, epoch = ?5, address = ?6, ended = MAX(ended, ?7)",
    )?;
    let mut key = connection.prepare_cached(
        "INSERT INTO device_keys (device, epoch, key, custodial)
         VALUES ((SELECT id FROM devices WHERE name = ?1), ?2, ?3, ?4)
         ON CONFLICT (device, epoch) DO UPDATE SET key = ?3, custodial = ?4",
    )?;
    for device in devices {
        let [first, second, ..] = device.device.hash().0;
        let shard = u16::from_be_bytes([first, second]) % SHARDS;
        statement.execute(params![
            device.device.as_str(),
            shard,
            device.format.as_str(),
            device.settlement.as_str(),
            device.epoch,
            device.key.map(|k| k.to_bytes()),
            ended(device.end),
        ])?;
        if let Some(public) = device.key {
            key.execute(params![device.device.as_str(), device.epoch, public.to_bytes(), device.custodial])?;
        }
    }
    Ok(())
}

fn ended(end: End) -> u8 {
    match end {
        End::None => 0,
        End::Revoked => 1,
        End::OnChain => 2,
    }
}

pub(super) fn set_end(connection: &Connection, device: &DeviceId, end: End) -> Result<(), Error> {
    connection.execute("UPDATE devices SET ended = ?2 WHERE name = ?1", params![device.as_str(), ended(end)])?;
    Ok(())
}

pub(super) fn open(
    connection: &Connection,
    draft: &TransactionDraft,
    batch: Option<&BatchDraft>,
    now_ms: u64,
) -> Result<Opened, Error> {
    let kind = serde_json::to_string(&draft.kind).map_err(|e| corrupt(&e.to_string()))?;
    if settled::has_nonce(connection, draft.account, draft.nonce)? {
        return Err(Error::NonceTaken { account: draft.account, nonce: draft.nonce });
    }
    let ids = Ids::next(connection, batch)?;
    let inserted = connection
        .prepare_cached("INSERT INTO transactions (id, account, nonce, kind, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![ids.transaction, draft.account.as_slice(), draft.nonce as i64, kind, now_ms as i64]);
    match inserted {
        Err(rusqlite::Error::SqliteFailure(e, _)) if e.code == ErrorCode::ConstraintViolation => {
            return Err(Error::NonceTaken { account: draft.account, nonce: draft.nonce });
        }
        other => other?,
    };
    insert_attempt(connection, ids, &draft.attempt)?;
    let batch = batch.map(|b| insert_batch(connection, ids, draft.account, b)).transpose()?;
    Ok(Opened { transaction: ids.transaction as u64, batch })
}

fn insert_batch(connection: &Connection, ids: Ids, account: Address, batch: &BatchDraft) -> Result<u64, Error> {
    let state = batch.log.as_ref();
    if let Some(state) = state
        && (!log::follows(connection, state)? || batch.arrivals.iter().any(|arrival| *arrival > state.arrival))
    {
        return Err(Error::LogMoved(state.contract.clone()));
    }
    connection
        .prepare_cached(
            "INSERT INTO batches (\"transaction\", settlement, account, number, root, head, count, oldest_received_at,
                                  log_contract, log_base, log_arrival, log_size, log_root, log_frontier, id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7,
                     COALESCE((SELECT received_at FROM readings WHERE arrival <= ?8 ORDER BY arrival DESC LIMIT 1), 0),
                     ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            ids.transaction,
            batch.settlement.as_str(),
            account.as_slice(),
            batch.number as i64,
            batch.root.map(|r| r.to_vec()),
            batch.head.map(|h| h.to_vec()),
            batch.arrivals.len() as i64,
            batch.arrivals.iter().min().map(|a| *a as i64),
            state.map(|s| &s.contract),
            state.map(|s| s.base as i64),
            state.map(|s| s.arrival as i64),
            state.map(|s| s.size as i64),
            state.map(|s| s.root.to_vec()),
            state.map(|s| &s.frontier),
            ids.batch,
        ])?;
    let id = ids.batch;
    take(connection, id, &batch.arrivals)?;
    let mut run = connection.prepare_cached(
        "INSERT INTO runs (batch, device, first_sequence, count, signature)
         VALUES (?1, (SELECT id FROM devices WHERE name = ?2), ?3, ?4, ?5)",
    )?;
    for draft in &batch.runs {
        let Span { device, first, count } = &draft.span;
        run.execute(params![id, device.as_str(), *first as i64, count, draft.signature.as_ref()])?;
    }
    Ok(id as u64)
}

/// Gives these readings to a batch. A row that has others too is split first.
fn take(connection: &Connection, batch: i64, arrivals: &[u64]) -> Result<(), Error> {
    let mut whole_row = connection.prepare_cached(
        "UPDATE readings SET batch = ?1 WHERE arrival = ?2 AND batch IS NULL AND more < ?3 RETURNING more",
    )?;
    let mut arrivals = arrivals.to_vec();
    arrivals.sort_unstable();
    for mut consecutive in arrivals.chunk_by(|one, next| *next == one + 1) {
        while let Some(first) = consecutive.first() {
            let wanted = consecutive.len() as u64;
            let mut taken = packed::changed(&mut whole_row, params![batch, *first as i64, wanted as i64])?;
            if taken == 0 {
                packed::cut(connection, *first, wanted)?;
                taken = packed::changed(&mut whole_row, params![batch, *first as i64, wanted as i64])?;
            }
            let rest =
                usize::try_from(taken).ok().filter(|taken| *taken > 0).and_then(|taken| consecutive.get(taken..));
            consecutive = rest.ok_or(Error::AlreadyTaken)?;
        }
    }
    Ok(())
}

/// Another attempt of a transaction, which must be in full: one that is settled has no more of them.
pub(super) fn add_attempt(connection: &Connection, transaction: u64, attempt: &Attempt) -> Result<(), Error> {
    let transaction = transaction as i64;
    let exists: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM transactions WHERE id = ?1)")?
        .query_row([transaction], |row| row.get(0))?;
    if !exists {
        return Err(corrupt(&format!("an attempt of transaction {transaction}, which is not open")));
    }
    insert_attempt(connection, Ids { transaction, ..Ids::next(connection, None)? }, attempt)
}

fn insert_attempt(connection: &Connection, ids: Ids, attempt: &Attempt) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO attempts (id, \"transaction\", hash, raw, max_fee_wei, tip_wei, cancel, written_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            ids.attempt,
            ids.transaction,
            attempt.hash.as_slice(),
            attempt.raw.as_ref(),
            attempt.max_fee_wei as i64,
            attempt.tip_wei as i64,
            attempt.cancel,
            super::work::now_ms() as i64,
        ])?;
    Ok(())
}

/// How many readings of the transaction's batch count as settled while it is included successfully.
fn held(connection: &Connection, transaction: i64) -> Result<i64, Error> {
    Ok(connection
        .prepare_cached("SELECT count - released FROM batches WHERE \"transaction\" = ?1")?
        .query_row([transaction], |row| row.get(0))
        .optional()?
        .unwrap_or(0))
}

pub(super) fn mined(
    connection: &Connection,
    effects: &mut Effects,
    transaction: u64,
    inclusion: &Inclusion,
) -> Result<(), Error> {
    let id = transaction as i64;
    let changed = connection
        .prepare_cached(
            "UPDATE transactions SET state = 'mined', tx = ?2, block_number = ?3, block_hash = ?4, success = ?5,
             gas_used = ?6, mined_at = ?7 WHERE id = ?1 AND state = 'sent'",
        )?
        .execute(params![
            id,
            inclusion.tx.as_slice(),
            inclusion.block_number as i64,
            inclusion.block_hash.as_slice(),
            inclusion.success,
            inclusion.gas_used as i64,
            inclusion.at_ms as i64,
        ])?;
    if changed == 0 {
        return Ok(());
    }
    for span in &inclusion.skipped {
        release_span(connection, id, span)?;
    }
    if inclusion.success {
        effects.backlog -= held(connection, id)?;
    }
    Ok(())
}

fn release_span(connection: &Connection, transaction: i64, span: &Span) -> Result<(), Error> {
    let last = span.first + u64::from(span.count);
    packed::cut_sequence(connection, span.device.as_str(), span.first, last)?;
    let mut release = connection.prepare_cached(
        "UPDATE readings SET batch = NULL WHERE device = (SELECT id FROM devices WHERE name = ?1)
         AND sequence >= ?2 AND sequence < ?3
         AND batch = (SELECT id FROM batches WHERE \"transaction\" = ?4) RETURNING more",
    )?;
    let released =
        packed::changed(&mut release, params![span.device.as_str(), span.first as i64, last as i64, transaction])?;
    connection
        .prepare_cached("UPDATE batches SET released = released + ?2 WHERE \"transaction\" = ?1")?
        .execute(params![transaction, released as i64])?;
    Ok(())
}

pub(super) fn unmined(connection: &Connection, effects: &mut Effects, transactions: &[u64]) -> Result<u64, Error> {
    let mut again = 0;
    for transaction in transactions {
        let id = *transaction as i64;
        let success: Option<Option<bool>> = connection
            .prepare_cached("SELECT success FROM transactions WHERE id = ?1 AND state = 'mined'")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        let Some(success) = success else { continue };
        connection
            .prepare_cached(
                "UPDATE transactions SET state = 'sent', tx = NULL, block_number = NULL, block_hash = NULL,
                 success = NULL, gas_used = NULL, mined_at = NULL WHERE id = ?1",
            )?
            .execute([id])?;
        if success == Some(true) {
            again += held(connection, id)?;
        }
    }
    effects.backlog += again;
    Ok(again as u64)
}

pub(super) fn finalized(connection: &Connection, transactions: &[u64], now_ms: u64) -> Result<u64, Error> {
    let mut released = 0;
    for transaction in transactions {
        let id = *transaction as i64;
        if settled::settle(connection, id, now_ms)? {
            continue;
        }
        connection
            .prepare_cached("UPDATE transactions SET state = 'final', final_at = ?2 WHERE id = ?1 AND state = 'mined'")?
            .execute([id, now_ms as i64])?;
        released += release_failed(connection, id)?;
    }
    Ok(released)
}

pub(super) fn displaced(connection: &Connection, transaction: u64, now_ms: u64) -> Result<u64, Error> {
    let id = transaction as i64;
    connection
        .prepare_cached(
            "UPDATE transactions SET state = 'final', success = 0, final_at = ?2 WHERE id = ?1 AND state = 'sent'",
        )?
        .execute([id, now_ms as i64])?;
    release_failed(connection, id)
}

/// The readings of a transaction that failed for good are to be settled by another one.
fn release_failed(connection: &Connection, transaction: i64) -> Result<u64, Error> {
    let mut release = connection.prepare_cached(
        "UPDATE readings SET batch = NULL WHERE batch =
         (SELECT b.id FROM batches b JOIN transactions t ON t.id = b.\"transaction\"
          WHERE t.id = ?1 AND t.success = 0 AND t.state = 'final') RETURNING more",
    )?;
    let freed = packed::changed(&mut release, [transaction])?;
    if freed > 0 {
        connection
            .prepare_cached("UPDATE batches SET released = released + ?2 WHERE \"transaction\" = ?1")?
            .execute(params![transaction, freed as i64])?;
    }
    Ok(freed)
}

pub(super) fn set_registered(connection: &Connection, devices: &[(DeviceId, u32)]) -> Result<(), Error> {
    let mut statement = connection.prepare_cached("UPDATE devices SET registered = ?2 WHERE name = ?1")?;
    for (device, epoch) in devices {
        statement.execute(params![device.as_str(), epoch])?;
    }
    Ok(())
}

/// Highest nonce of the account, and its newest anchor that did not revert.
pub(super) fn account(connection: &Connection, account: Address) -> Result<Account, Error> {
    let nonce = connection.query_row(HIGHEST_NONCE, [account.as_slice()], |row| opt_u64_at(row, 0))?;
    let anchor = connection
        .query_row(
            "SELECT b.number, b.head FROM batches b JOIN transactions t ON t.id = b.\"transaction\"
             WHERE b.account = ?1 AND b.settlement = 'anchor' AND (t.success IS NULL OR t.success = 1)
             ORDER BY b.number DESC LIMIT 1",
            [account.as_slice()],
            |row| Ok((u64_at(row, 0)?, super::convert::hash_at(row, 1)?)),
        )
        .optional()?;
    Ok(Account { highest_nonce: nonce, anchor })
}
