//! Direct settlements that are final: one small row in place of three.
//!
//! While its transaction is open, a `direct` reading has a row each in `transactions`, `attempts` and `batches`, with the
//! signed bytes: written before they are sent, and found again by a start. Once it is final it is history, and becomes one
//! row here in the commit that makes it final: what listings, proofs and traces show, without the bytes, which the chain has.
//!
//! One number names such a transaction, its attempt and its batch ([`Ids`]), so that it keeps all three and the row needs
//! no index to be found by them. What was opened under numbers of its own, before this was so, stays as it is. So does
//! whatever has more to tell: a replacement, a failure, a block beside another of its height.

use alloy::primitives::Address;
use rusqlite::{Connection, OptionalExtension, params};
use windlass_reading::Settlement;

use super::convert::corrupt;
use crate::{BatchDraft, Error, Kind};

/// The newest numbers of transactions, attempts and batches, wherever the rows are now.
const LAST: &str = "SELECT MAX(COALESCE((SELECT MAX(id) FROM transactions), 0), settled),
        MAX(COALESCE((SELECT MAX(id) FROM attempts), 0), settled),
        MAX(COALESCE((SELECT MAX(id) FROM batches), 0), settled)
    FROM (SELECT COALESCE((SELECT MAX(id) FROM settled), 0) AS settled)";
const HAS_NONCE: &str = "SELECT EXISTS (SELECT 1 FROM settled
    WHERE account = (SELECT id FROM accounts WHERE address = ?1) AND nonce = ?2)";
/// A mined transaction that says no more than a row here does.
const PLAIN: &str = "SELECT t.account, t.block_number, t.block_hash
    FROM transactions t JOIN attempts a ON a.id = t.id JOIN batches b ON b.id = t.id
    WHERE t.id = ?1 AND t.kind = ?2 AND t.state = 'mined' AND t.success = 1 AND t.block_number IS NOT NULL
      AND t.block_hash IS NOT NULL AND t.gas_used IS NOT NULL AND t.mined_at IS NOT NULL
      AND a.\"transaction\" = t.id AND a.hash = t.tx AND a.cancel = 0 AND a.written_at IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM attempts other WHERE other.\"transaction\" = t.id AND other.id <> t.id)
      AND b.\"transaction\" = t.id AND b.account = t.account AND b.settlement = 'direct' AND b.number = 0
      AND b.root IS NULL AND b.head IS NULL AND b.log_contract IS NULL AND b.count = 1 AND b.released = 0
      AND NOT EXISTS (SELECT 1 FROM runs WHERE batch = b.id)";
const INSERT: &str =
    "INSERT INTO settled (id, account, nonce, tx, block, gas_used, created_at, written_after, mined_after,
                                           final_after)
    SELECT t.id, ?2, t.nonce, t.tx, t.block_number, t.gas_used, t.created_at, a.written_at - t.created_at,
           t.mined_at - t.created_at, ?3 - t.created_at
    FROM transactions t JOIN attempts a ON a.id = t.id WHERE t.id = ?1";

/// What can be wrong with the rows here, and how many of them are so.
pub(super) const FAULTS: [(&str, &str); 5] = [
    (
        "direct settlements without their account or block",
        "SELECT COUNT(*) FROM settled
         WHERE account NOT IN (SELECT id FROM accounts) OR block NOT IN (SELECT number FROM blocks)",
    ),
    ("direct settlements whose transaction hash is none", "SELECT COUNT(*) FROM settled WHERE length(tx) <> 32"),
    (
        "accounts and blocks that are none",
        "SELECT (SELECT COUNT(*) FROM accounts WHERE length(address) <> 20) + (SELECT COUNT(*) FROM blocks WHERE length(hash) <> 32)",
    ),
    (
        "direct settlements under a number that something else has too",
        "SELECT COUNT(*) FROM settled WHERE id IN (SELECT id FROM transactions) OR id IN (SELECT id FROM attempts)
         OR id IN (SELECT id FROM batches)",
    ),
    (
        "direct settlements at a nonce that another transaction of the account has too",
        "SELECT COUNT(*) FROM transactions t JOIN accounts a ON a.address = t.account
         JOIN settled s ON s.account = a.id AND s.nonce = t.nonce",
    ),
];

/// The numbers of what is opened next. None is ever given twice: a row leaves its table only for one here, under its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    pub(super) transaction: i64,
    pub(super) attempt: i64,
    pub(super) batch: i64,
}

impl Ids {
    /// For a transaction with this batch: one number for all three where it settles directly.
    pub(super) fn next(c: &Connection, batch: Option<&BatchDraft>) -> Result<Self, Error> {
        let last = c
            .prepare_cached(LAST)?
            .query_row([], |row| Ok(Self { transaction: row.get(0)?, attempt: row.get(1)?, batch: row.get(2)? }))?;
        let next = Self { transaction: last.transaction + 1, attempt: last.attempt + 1, batch: last.batch + 1 };
        if batch.is_none_or(|batch| batch.settlement != Settlement::Direct) {
            return Ok(next);
        }
        let one = next.transaction.max(next.attempt).max(next.batch);
        Ok(Self { transaction: one, attempt: one, batch: one })
    }
}

/// Whether the account has a transaction here at this nonce.
pub(super) fn has_nonce(c: &Connection, account: Address, nonce: u64) -> Result<bool, Error> {
    let found = c.prepare_cached(HAS_NONCE)?.query_row(params![account.as_slice(), nonce as i64], |row| row.get(0))?;
    Ok(found)
}

/// Makes a mined transaction final here, if it is a direct settlement with nothing more to tell; says whether it was.
pub(super) fn settle(c: &Connection, transaction: i64, now_ms: u64) -> Result<bool, Error> {
    let direct = Kind::Settle { settlement: Settlement::Direct };
    let kind = serde_json::to_string(&direct).map_err(|e| corrupt(&e.to_string()))?;
    let plain: Option<(Vec<u8>, i64, Vec<u8>)> = c
        .prepare_cached(PLAIN)?
        .query_row(params![transaction, kind], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((address, number, hash)) = plain else { return Ok(false) };
    if !is_block(c, number, &hash)? {
        return Ok(false);
    }
    let account = account(c, &address)?;
    c.prepare_cached(INSERT)?.execute(params![transaction, account, now_ms as i64])?;
    for from in [
        "DELETE FROM transactions WHERE id = ?1",
        "DELETE FROM attempts WHERE id = ?1",
        "DELETE FROM batches WHERE id = ?1",
    ] {
        c.prepare_cached(from)?.execute([transaction])?;
    }
    Ok(true)
}

/// Whether this is the block of its height: the first one that was final there is.
fn is_block(c: &Connection, number: i64, hash: &[u8]) -> Result<bool, Error> {
    let known: Option<Vec<u8>> = c
        .prepare_cached("SELECT hash FROM blocks WHERE number = ?1")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    if let Some(known) = known {
        return Ok(known == hash);
    }
    c.prepare_cached("INSERT INTO blocks (number, hash) VALUES (?1, ?2)")?.execute(params![number, hash])?;
    Ok(true)
}

/// The account's number; it gets one if it has none.
fn account(c: &Connection, address: &[u8]) -> Result<i64, Error> {
    let known = c
        .prepare_cached("SELECT id FROM accounts WHERE address = ?1")?
        .query_row([address], |row| row.get(0))
        .optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    Ok(c.prepare_cached("INSERT INTO accounts (address) VALUES (?1)")?.insert([address])?)
}

/// Writes down in which archive these are.
pub(super) fn archived_in(c: &Connection, file: &str, batches: &[i64]) -> Result<(), Error> {
    c.prepare_cached("INSERT INTO archives (name) VALUES (?1) ON CONFLICT DO NOTHING")?.execute([file])?;
    let mut name =
        c.prepare_cached("UPDATE settled SET archive = (SELECT id FROM archives WHERE name = ?2) WHERE id = ?1")?;
    for batch in batches {
        name.execute(params![batch, file])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
