//! What the journal hands out: device state, listings, unsettled readings.

use alloy::primitives::{Address, B256, Bytes};
use windlass_reading::{DeviceId, Format, Payload, PublicKey, Reading, Reject, Settlement};

use crate::LogState;

/// A configured device as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    /// The device's id.
    pub device: DeviceId,
    /// How its payloads are read.
    pub format: Format,
    /// How its readings are settled.
    pub settlement: Settlement,
    /// Its key generation: what it sends from now on belongs to it.
    pub epoch: u32,
    /// Its signing key of that generation, where it has one.
    pub key: Option<PublicKey>,
    /// The index of that key, where the gateway holds it.
    pub custodial: Option<u32>,
    /// The key generation in force on chain, 0 before the first; behind `epoch` while a rotation is under way.
    pub registered: u32,
    /// Its own `Barcode` contract (direct settlement).
    pub barcode: Option<Address>,
    /// How far its end has come.
    pub end: End,
}

impl DeviceRow {
    /// The address of its key, where that has one.
    pub fn address(&self) -> Option<Address> {
        self.key.and_then(|key| key.address())
    }

    /// Whether the chain has its key in force.
    pub fn is_registered(&self) -> bool {
        self.registered == self.epoch
    }
}

/// How far a device's end has come. There is no way back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It is in use.
    #[default]
    None,
    /// It is revoked here: nothing more is taken from it, and what was taken is being settled.
    Revoked,
    /// The chain takes nothing more from it either.
    OnChain,
}

/// A device's key of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Which generation.
    pub epoch: u32,
    /// The public key.
    pub key: PublicKey,
    /// Its index, where the gateway holds it.
    pub custodial: Option<u32>,
}

/// What a device actor starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceState {
    /// 0 before the first reading.
    pub last_sequence: u64,
    /// The device's latest QoS 1 publishes, oldest first, by which a redelivery is known.
    pub recent: Vec<Recent>,
}

/// An MQTT session that outlives its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// Whose.
    pub device: String,
    /// Each filter with the highest QoS that was asked for: 0, 1 or 2.
    pub subscriptions: std::collections::BTreeMap<String, u8>,
    /// How long it is kept without a connection.
    pub expiry_seconds: u32,
    /// When its connection ended, unix milliseconds; `None` while it has one.
    pub left_at_ms: Option<u64>,
}

/// A stored QoS 1 or QoS 2 publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// The MQTT packet id it came with.
    pub packet_id: u16,
    /// Its number.
    pub sequence: u64,
    /// Its stored payload.
    pub payload: Payload,
    /// A QoS 2 publish whose packet id was not released yet.
    pub unreleased: bool,
}

/// An accepted reading that no batch holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// Its arrival number.
    pub arrival: u64,
    /// When the gateway received it, unix milliseconds.
    pub received_at_ms: u64,
    /// The reading.
    pub reading: Reading,
    /// The device's own signature over it, in its one form, where it signs.
    pub signature: Option<Bytes>,
}

/// How far a reading or a batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Durable, not on the canonical chain.
    Accepted,
    /// In a canonical block.
    Mined,
    /// In a block that can no longer change.
    Final,
}

impl State {
    /// The state of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Accepted, Self::Mined, Self::Final].into_iter().find(|state| state.as_str() == name)
    }

    /// The name in receipts and listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Mined => "mined",
            Self::Final => "final",
        }
    }
}

/// An operator's act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Which: `pause`, `bump`, and so on.
    pub act: String,
    /// On what: an account, a transaction, or nothing.
    pub subject: String,
    /// `done`, or why not.
    pub outcome: String,
}

/// An operator's act as it was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActRow {
    /// Row id.
    pub id: u64,
    /// When, unix milliseconds.
    pub at_ms: u64,
    /// What.
    pub act: Act,
}

/// An account's transactions, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneRow {
    /// The account.
    pub account: Address,
    /// Follows the highest nonce that was used here.
    pub next_nonce: u64,
    /// Transactions that are not final.
    pub open: u64,
    /// Transactions without inclusion.
    pub in_flight: u64,
}

/// A signed attempt with the transaction that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Row id.
    pub id: u64,
    /// Sending account.
    pub account: Address,
    /// Its nonce.
    pub nonce: u64,
    /// Transaction hash.
    pub hash: B256,
    /// EIP-2718 bytes.
    pub raw: Vec<u8>,
    /// When it was written down, just before it was first sent, unix milliseconds; `None` from before that was kept.
    pub written_at_ms: Option<u64>,
}

/// Which rows a listing wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this device's.
    pub device: Option<DeviceId>,
    /// Only rows received (or created) at or after this unix millisecond.
    pub since_ms: Option<u64>,
    /// Only rows received (or created) before this unix millisecond.
    pub until_ms: Option<u64>,
    /// Only rows in this state (readings and batches).
    pub state: Option<State>,
    /// Only rows that settle so (readings and batches).
    pub settlement: Option<Settlement>,
    /// Only rows refused for this reason (quarantine).
    pub reason: Option<String>,
    /// Only this batch's (readings), or those of its transaction (attempts).
    pub batch: Option<u64>,
    /// Newest first.
    pub newest: bool,
    /// Only rows after this row number (arrival, batch or row id) in the listing's order.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: Option<u64>,
}

/// A reading with its settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingRow {
    /// Arrival number.
    pub arrival: u64,
    /// The reading.
    pub reading: Reading,
    /// When the gateway received it, unix milliseconds.
    pub received_at_ms: u64,
    /// How far it has come.
    pub state: State,
    /// How it is settled.
    pub settlement: Settlement,
    /// The journal's batch id.
    pub batch: Option<u64>,
    /// The transaction that included it.
    pub tx: Option<B256>,
    /// The including block: number and hash.
    pub block: Option<(u64, B256)>,
    /// The device's own signature, where it signs.
    pub signature: Option<Bytes>,
}

/// A batch with its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRow {
    /// The journal's batch id.
    pub id: u64,
    /// How it settles.
    pub settlement: Settlement,
    /// The submitting account.
    pub account: Address,
    /// The submitter's anchor batch number; 0 for other settlements.
    pub number: u64,
    /// Merkle root (anchor only).
    pub root: Option<B256>,
    /// Head after this anchor (anchor only).
    pub head: Option<B256>,
    /// How many readings.
    pub count: u64,
    /// How far it has come.
    pub state: State,
    /// The included transaction.
    pub tx: Option<B256>,
    /// The including block: number and hash.
    pub block: Option<(u64, B256)>,
    /// Gas used by its transaction.
    pub gas_used: Option<u64>,
    /// When it was built, unix milliseconds.
    pub created_at_ms: u64,
    /// The archive that has its readings, once some of them have left the journal.
    pub archive: Option<String>,
    /// The append-only log as it stated it; `None` for other settlements, and for anchors from before there was one.
    pub log: Option<LogState>,
}

/// A device with how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceListing {
    /// Its place in the order of devices.
    pub id: u64,
    /// The device.
    pub row: DeviceRow,
    /// Number of its newest reading, 0 before the first.
    pub last_sequence: u64,
    /// When that was received, unix milliseconds; `None` when it has left for an archive.
    pub last_received_at_ms: Option<u64>,
}

/// A transaction with its attempts counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionRow {
    /// Row id.
    pub id: u64,
    /// Sending account.
    pub account: Address,
    /// Its nonce.
    pub nonce: u64,
    /// What it is for.
    pub kind: String,
    /// `sent`, `mined` or `final`.
    pub state: String,
    /// Whether it succeeded; absent while it is not included.
    pub success: Option<bool>,
    /// How many signed attempts there are.
    pub attempts: u64,
    /// The included attempt, or the newest.
    pub tx: Option<B256>,
    /// The including block: number and hash.
    pub block: Option<(u64, B256)>,
    /// When it was first written, unix milliseconds.
    pub created_at_ms: u64,
    /// When it was seen in a block, unix milliseconds.
    pub mined_at_ms: Option<u64>,
    /// When that block could no longer change, unix milliseconds.
    pub final_at_ms: Option<u64>,
}

/// Readings by how far they have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// All that were accepted, whatever became of them since.
    pub accepted: u64,
    /// Mined or final.
    pub mined: u64,
    /// Final.
    pub finalized: u64,
    /// Refused inputs that are kept.
    pub quarantined: u64,
    /// Gas used by the settlement transactions that are included.
    pub gas_used: u64,
}

/// A refused input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRow {
    /// Row id.
    pub id: u64,
    /// Who sent it, if known.
    pub device: Option<DeviceId>,
    /// Where it was published.
    pub topic: String,
    /// What was sent (first 4 KiB).
    pub payload: Vec<u8>,
    /// Why it was refused.
    pub reason: String,
    /// When, unix milliseconds.
    pub received_at_ms: u64,
}

impl QuarantineRow {
    /// The reason as the closed enum, where this program knows it.
    pub fn reject(&self) -> Option<Reject> {
        Reject::ALL.into_iter().find(|r| r.reason() == self.reason)
    }
}
