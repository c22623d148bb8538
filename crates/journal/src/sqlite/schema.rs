//! Numbered migrations. A released one is never edited; a change is a new number.

use rusqlite::Connection;

use crate::Error;

/// One entry for each schema version, starting at 1.
pub(super) const MIGRATIONS: [&str; 13] = [
    "
CREATE TABLE devices (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    shard INTEGER NOT NULL,
    format TEXT NOT NULL,
    settlement TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    address BLOB,
    registered INTEGER NOT NULL DEFAULT 0,
    barcode BLOB
) STRICT;
CREATE TABLE readings (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    device INTEGER NOT NULL REFERENCES devices(id),
    sequence INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    observed_at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    settlement TEXT NOT NULL,
    batch INTEGER REFERENCES batches(id),
    packet_id INTEGER,
    message_id TEXT,
    payload BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX readings_sequence ON readings(device, sequence);
CREATE UNIQUE INDEX readings_message ON readings(device, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX readings_unsettled ON readings(settlement, arrival) WHERE batch IS NULL;
CREATE INDEX readings_batch ON readings(batch) WHERE batch IS NOT NULL;
CREATE TABLE transactions (
    id INTEGER PRIMARY KEY,
    account BLOB NOT NULL,
    nonce INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'sent',
    created_at INTEGER NOT NULL,
    tx BLOB,
    block_number INTEGER,
    block_hash BLOB,
    success INTEGER,
    gas_used INTEGER,
    mined_at INTEGER,
    final_at INTEGER,
    UNIQUE (account, nonce)
) STRICT;
CREATE INDEX transactions_open ON transactions(account, nonce) WHERE state <> 'final';
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    \"transaction\" INTEGER NOT NULL REFERENCES transactions(id),
    hash BLOB NOT NULL UNIQUE,
    raw BLOB NOT NULL,
    max_fee_wei INTEGER NOT NULL,
    tip_wei INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_transaction ON attempts(\"transaction\");
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    \"transaction\" INTEGER NOT NULL UNIQUE REFERENCES transactions(id),
    settlement TEXT NOT NULL,
    account BLOB NOT NULL,
    number INTEGER NOT NULL,
    root BLOB,
    head BLOB,
    count INTEGER NOT NULL,
    released INTEGER NOT NULL DEFAULT 0,
    oldest_received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX batches_account ON batches(account, settlement, number);
CREATE TABLE runs (
    batch INTEGER NOT NULL REFERENCES batches(id),
    device INTEGER NOT NULL REFERENCES devices(id),
    first_sequence INTEGER NOT NULL,
    count INTEGER NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (batch, device, first_sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    reason TEXT NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
",
    "
ALTER TABLE readings ADD COLUMN unreleased INTEGER NOT NULL DEFAULT 0;
CREATE INDEX readings_unreleased ON readings(device, packet_id) WHERE unreleased = 1;
",
    "
CREATE TABLE sessions (
    device TEXT PRIMARY KEY,
    subscriptions TEXT NOT NULL,
    expiry_seconds INTEGER NOT NULL,
    left_at INTEGER
) STRICT, WITHOUT ROWID;
",
    // AUTOINCREMENT wrote a second table with each reading. Without it a number is used again only if the newest
    // reading is deleted, so that one must stay.
    "
CREATE TABLE plain_readings (
    arrival INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices(id),
    sequence INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    observed_at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    settlement TEXT NOT NULL,
    batch INTEGER REFERENCES batches(id),
    packet_id INTEGER,
    message_id TEXT,
    payload BLOB NOT NULL,
    unreleased INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO plain_readings SELECT arrival, device, sequence, epoch, observed_at, received_at, settlement, batch,
    packet_id, message_id, payload, unreleased FROM readings;
DROP TABLE readings;
ALTER TABLE plain_readings RENAME TO readings;
CREATE UNIQUE INDEX readings_sequence ON readings(device, sequence);
CREATE UNIQUE INDEX readings_message ON readings(device, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX readings_unsettled ON readings(settlement, arrival) WHERE batch IS NULL;
CREATE INDEX readings_batch ON readings(batch) WHERE batch IS NOT NULL;
CREATE INDEX readings_unreleased ON readings(device, packet_id) WHERE unreleased = 1;
",
    // A subscription has its QoS; it had whether that was 1.
    "
UPDATE sessions SET subscriptions = (SELECT json_group_object(key, value) FROM json_each(subscriptions));
",
    // What a device's own lane has yet to settle is found without looking at what it has settled.
    "
CREATE INDEX readings_direct ON readings(device, sequence) WHERE settlement = 'direct' AND batch IS NULL;
",
    "
ALTER TABLE attempts ADD COLUMN cancel INTEGER NOT NULL DEFAULT 0;
CREATE TABLE acts (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    act TEXT NOT NULL,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;
",
    // Readings that have left for an archive: how many of each device and batch, and which file has the batch.
    "
ALTER TABLE devices ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN archive TEXT;
",
    // Keys that devices hold, and more than one of them in a device's life. `devices.registered` is the generation in
    // force on chain from here on; until now there was only the first.
    "
ALTER TABLE readings ADD COLUMN signature BLOB;
ALTER TABLE devices ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
CREATE TABLE device_keys (
    device INTEGER NOT NULL REFERENCES devices(id),
    epoch INTEGER NOT NULL,
    key BLOB NOT NULL,
    custodial INTEGER,
    PRIMARY KEY (device, epoch)
) STRICT, WITHOUT ROWID;
INSERT INTO device_keys (device, epoch, key) SELECT id, epoch, address FROM devices WHERE address IS NOT NULL;
",
    // The append-only log as each anchor states it, with the frontier from which it goes on.
    "
ALTER TABLE batches ADD COLUMN log_contract TEXT;
ALTER TABLE batches ADD COLUMN log_base INTEGER;
ALTER TABLE batches ADD COLUMN log_arrival INTEGER;
ALTER TABLE batches ADD COLUMN log_size INTEGER;
ALTER TABLE batches ADD COLUMN log_root BLOB;
ALTER TABLE batches ADD COLUMN log_frontier BLOB;
CREATE INDEX batches_log ON batches(log_contract) WHERE log_contract IS NOT NULL;
",
    "
ALTER TABLE attempts ADD COLUMN written_at INTEGER;
",
    // What follows a reading in the same row: how many, and they themselves (`packed.rs`).
    "
ALTER TABLE readings ADD COLUMN more INTEGER NOT NULL DEFAULT 0;
ALTER TABLE readings ADD COLUMN rest BLOB;
",
    // Direct settlements that are final (`settled.rs`). `readings.batch` names a row of `batches` or one of these.
    "
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    address BLOB NOT NULL UNIQUE
) STRICT;
CREATE TABLE blocks (
    number INTEGER PRIMARY KEY,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE archives (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE settled (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts(id),
    nonce INTEGER NOT NULL,
    tx BLOB NOT NULL,
    block INTEGER NOT NULL REFERENCES blocks(number),
    gas_used INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    written_after INTEGER NOT NULL,
    mined_after INTEGER NOT NULL,
    final_after INTEGER NOT NULL,
    archive INTEGER REFERENCES archives(id),
    archived INTEGER NOT NULL DEFAULT 0,
    UNIQUE (account, nonce)
) STRICT;
",
];

/// SQLite as it is built in enforces foreign keys. Here they only say what is meant: a reading's batch may be in either of two
/// tables, and `fsck` checks what holds.
pub(crate) fn without_foreign_keys(connection: &Connection) -> Result<(), Error> {
    Ok(connection.pragma_update(None, "foreign_keys", "OFF")?)
}

/// Brings the schema to the newest version, one transaction for each step.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(Error::Newer { found, known });
    }
    for (sql, version) in MIGRATIONS.iter().zip(1u32..).skip(found as usize) {
        let step = connection.transaction()?;
        step.execute_batch(sql)?;
        step.pragma_update(None, "user_version", version)?;
        step.commit()?;
    }
    Ok(())
}

/// The schema version on disk must be this program's for reading beside a live writer.
pub(crate) fn check(connection: &Connection) -> Result<(), Error> {
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found == known { Ok(()) } else { Err(Error::Newer { found, known }) }
}
