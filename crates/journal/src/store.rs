//! The traits that an engine keeps: the hot path, the chain's ledger, and the listings.

use alloy::primitives::Address;
use async_trait::async_trait;
use windlass_reading::{DeviceId, Reading, Settlement};

use crate::{
    Account, Act, ActRow, Append, Attempt, AttemptRow, BatchDraft, BatchRow, DeviceListing, DeviceRow, DeviceState,
    End, Error, Filter, Inclusion, KeyRow, LaneRow, LogState, OpenTransaction, Opened, QuarantineRow, ReadingRow,
    Refusal, Refused, Release, SessionRow, Totals, TransactionDraft, TransactionRow, Unsettled,
};

/// What the device actors need.
///
/// `append` and `quarantine` never block and never reorder: two calls from one thread are stored in that order.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Hands readings to the writer. Their reply comes after the fsync.
    ///
    /// # Errors
    /// [`Refused`] gives the entry back; nothing was stored and its reply was not called.
    fn append(&self, entry: Append) -> Result<(), Refused<Append>>;

    /// Hands a refused input to the writer. Its reply comes after the fsync.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    fn quarantine(&self, entry: Refusal) -> Result<(), Refused<Refusal>>;

    /// Hands the end of a QoS 2 delivery to the writer. Its reply comes after the fsync.
    ///
    /// # Errors
    /// As for [`append`](Self::append).
    fn release(&self, entry: Release) -> Result<(), Refused<Release>>;

    /// Announces devices (new or changed). Durable when it returns.
    async fn upsert_devices(&self, devices: Vec<DeviceRow>) -> Result<(), Error>;

    /// What a device actor starts from: its last sequence and its recent publishes. A short indexed read, blocking.
    fn device(&self, device: &DeviceId) -> Result<Option<DeviceState>, Error>;

    /// The sequence of the reading that carried this message id, if it is stored. A short indexed read, blocking.
    fn find_message(&self, device: &DeviceId, message_id: &str) -> Result<Option<u64>, Error>;

    /// The stored reading with this number, unless it has left for an archive. A short indexed read, blocking.
    fn find_reading(&self, device: &DeviceId, sequence: u64) -> Result<Option<Reading>, Error>;
}

/// What the broker keeps over a restart. Every write is durable when it returns.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// All sessions that are kept.
    async fn sessions(&self) -> Result<Vec<SessionRow>, Error>;

    /// Keeps a session in place of what was kept of its device.
    async fn keep_session(&self, session: SessionRow) -> Result<(), Error>;

    /// Forgets the sessions of these devices.
    async fn forget_sessions(&self, devices: Vec<String>) -> Result<(), Error>;
}

/// What the chain actor needs. Every write is durable when it returns.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Unsettled readings that no batch holds, oldest first, of the devices in one shard.
    /// `shard` is `(index, of)`: device shards are dealt to lanes by remainder. Those of the devices in `except` are left
    /// out, so that they do not fill the batch of the others.
    async fn unsettled(
        &self,
        settlement: Settlement,
        shard: (u32, u32),
        except: Vec<DeviceId>,
        limit: usize,
    ) -> Result<Vec<Unsettled>, Error>;

    /// Devices that have unsettled `direct` readings, each with its oldest `limit_each`.
    async fn unsettled_direct(&self, limit_each: usize) -> Result<Vec<(DeviceId, Vec<Unsettled>)>, Error>;

    /// Writes a transaction, its first signed attempt and, where there is one, its batch with the items: all or nothing.
    /// Must return before the first byte of the attempt leaves.
    ///
    /// # Errors
    /// [`Error::NonceTaken`] when the account already has a transaction at this nonce; [`Error::LogMoved`] when the
    /// batch's log does not go on from the journal's.
    async fn open(&self, transaction: TransactionDraft, batch: Option<BatchDraft>) -> Result<Opened, Error>;

    /// Writes a replacement attempt. Must return before its first byte leaves.
    async fn add_attempt(&self, transaction: u64, attempt: Attempt) -> Result<(), Error>;

    /// Transactions that are not final, in account and nonce order: what a start has to finish.
    async fn open_transactions(&self) -> Result<Vec<OpenTransaction>, Error>;

    /// Where the account stands: what its next nonce and its next anchor follow.
    async fn account(&self, account: Address) -> Result<Account, Error>;

    /// A transaction was included in a canonical block. Runs in `inclusion.skipped` lose their batch at once and
    /// are taken again: the contract makes a repeat harmless.
    async fn mined(&self, transaction: u64, inclusion: Inclusion) -> Result<(), Error>;

    /// A block with these transactions left the canonical chain: their readings are unsettled again. Returns how many.
    async fn unmined(&self, transactions: Vec<u64>) -> Result<u64, Error>;

    /// These inclusions can no longer change. The readings of a reverted transaction lose their batch only now,
    /// because until now a reorg could still have made it succeed; the number of released readings is returned.
    async fn finalized(&self, transactions: Vec<u64>) -> Result<u64, Error>;

    /// The nonce of this transaction was used by somebody else, for good: it can never be included. Its readings lose
    /// their batch; their number is returned.
    async fn displaced(&self, transaction: u64) -> Result<u64, Error>;

    /// Removes a quarantine row for good; says whether it was there.
    async fn drop_quarantined(&self, id: u64) -> Result<bool, Error>;

    /// Writes down what an operator had done.
    async fn note_act(&self, act: Act) -> Result<(), Error>;

    /// The readings of a batch, in leaf-independent (device, sequence) order.
    async fn batch_readings(&self, batch: u64) -> Result<Vec<Reading>, Error>;

    /// Where the append-only log of this contract stands after its newest batch; `None`: no batch has stated it yet.
    async fn log(&self, contract: String) -> Result<Option<LogState>, Error>;

    /// The arrival after which no reading has left for an archive: a new log covers what came later.
    async fn log_base(&self) -> Result<u64, Error>;

    /// Readings that settle by anchor, with their arrivals, after one and up to another, in arrival order.
    async fn log_readings(&self, after: u64, upto: u64, limit: usize) -> Result<Vec<(u64, Reading)>, Error>;

    /// How many top-ups of device accounts were written at or after this unix millisecond.
    async fn funded_since(&self, since_ms: u64) -> Result<u64, Error>;

    /// When the gateway received each of the batch's readings, unix milliseconds, in no order.
    async fn batch_received_at(&self, batch: u64) -> Result<Vec<u64>, Error>;

    /// The devices' on-chain standing: registration state and `Barcode` address.
    async fn devices(&self) -> Result<Vec<DeviceRow>, Error>;

    /// Which key generation of each device is in force on chain; 0 for none.
    async fn set_registered(&self, devices: Vec<(DeviceId, u32)>) -> Result<(), Error>;

    /// How far the device's end has come.
    async fn set_end(&self, device: DeviceId, end: End) -> Result<(), Error>;

    /// All keys that the device ever had, oldest first.
    async fn device_keys(&self, device: DeviceId) -> Result<Vec<KeyRow>, Error>;

    /// Whether runs of key generations before `epoch` are still to be recorded for good: the chain takes them only while
    /// their own key is in force.
    async fn has_open_before(&self, device: DeviceId, epoch: u32) -> Result<bool, Error>;

    /// Stores the device's `Barcode` contract address.
    async fn set_barcode(&self, device: DeviceId, address: Option<Address>) -> Result<(), Error>;

    /// Reads a named value (deployment, chain identity).
    async fn meta(&self, key: String) -> Result<Option<String>, Error>;

    /// Writes a named value.
    async fn set_meta(&self, key: String, value: String) -> Result<(), Error>;
}

/// What commands and the HTTP API read; safe beside a live writer.
#[async_trait]
pub trait Listing: Send + Sync + 'static {
    /// Devices in the order in which they were first configured.
    async fn device_listing(&self, filter: Filter) -> Result<Vec<DeviceListing>, Error>;

    /// Readings in arrival order.
    async fn readings(&self, filter: Filter) -> Result<Vec<ReadingRow>, Error>;

    /// One reading with the transaction that settled it.
    async fn reading(&self, device: DeviceId, sequence: u64) -> Result<Option<ReadingRow>, Error>;

    /// Batches, oldest first.
    async fn batches(&self, filter: Filter) -> Result<Vec<BatchRow>, Error>;

    /// One batch.
    async fn batch(&self, id: u64) -> Result<Option<BatchRow>, Error>;

    /// Transactions with their attempts' count, oldest first.
    async fn transactions(&self, filter: Filter) -> Result<Vec<TransactionRow>, Error>;

    /// The transaction that carries this batch.
    async fn transaction_of(&self, batch: u64) -> Result<Option<TransactionRow>, Error>;

    /// How many readings there are, by how far they have come.
    async fn totals(&self) -> Result<Totals, Error>;

    /// For each reading mined at or after `since_ms`: milliseconds from received to mined, and to final.
    async fn confirmations(&self, since_ms: u64) -> Result<Vec<(u64, Option<u64>)>, Error>;

    /// Every account that ever sent, with what is open.
    async fn lanes(&self) -> Result<Vec<LaneRow>, Error>;

    /// How many readings of the device are not mined.
    async fn device_unsettled(&self, device: DeviceId) -> Result<u64, Error>;

    /// The highest index of a custodial key that any device ever had.
    async fn highest_custodial(&self) -> Result<Option<u32>, Error>;

    /// Every signed attempt, oldest first.
    async fn attempts(&self, filter: Filter) -> Result<Vec<AttemptRow>, Error>;

    /// What operators had done, oldest first.
    async fn acts(&self, filter: Filter) -> Result<Vec<ActRow>, Error>;

    /// One quarantine row.
    async fn quarantine_row(&self, id: u64) -> Result<Option<QuarantineRow>, Error>;

    /// Quarantine rows, oldest first.
    async fn quarantined(&self, filter: Filter) -> Result<Vec<QuarantineRow>, Error>;
}
