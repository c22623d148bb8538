//! What the API's listings are made of, and the commands' with `--json`: one shape for both. All times are unix
//! milliseconds; amounts of wei are decimal text, because they pass 2^53.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Its id: MQTT user name and client id.
    pub device: String,
    /// How its payloads are read: `digits`, `gtin`, `text`, `json`, `binary` or `signed`.
    pub format: String,
    /// How its readings are settled: `anchor`, `batch` or `direct`.
    pub settlement: String,
    /// Its key generation.
    pub epoch: u32,
    /// Kind of its key: `secp256k1` or `p256`.
    pub kind: Option<String>,
    /// Its public key: an address, or the point of a P-256 key.
    pub key: Option<String>,
    /// Index of its key, where the gateway holds it.
    pub custodial: Option<u32>,
    /// The address of its key, where that has one.
    pub address: Option<String>,
    /// Whether the chain has its key in force.
    pub registered: bool,
    /// Whether it was ended.
    pub revoked: bool,
    /// Its own `Barcode` contract (`direct`).
    pub barcode: Option<String>,
    /// Number of its newest reading, 0 before the first.
    pub last_sequence: u64,
    /// When its newest reading was received, as far as that has not left for an archive.
    pub last_received_at: Option<u64>,
}

/// A reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reading {
    /// Who read it.
    pub device: String,
    /// Key generation it belongs to.
    pub epoch: u32,
    /// Its number in the device's sequence, from 1.
    pub sequence: u64,
    /// When the device saw it.
    pub observed_at: u64,
    /// When the gateway received it.
    pub received_at: u64,
    /// What was read: text, or `0x…` where it is not printable.
    pub payload: String,
    /// `accepted` (durable), `mined` or `final`.
    pub state: String,
    /// `anchor`, `batch` or `direct`.
    pub settlement: String,
    /// The batch that holds it.
    pub batch: Option<u64>,
    /// The transaction that settled it.
    pub tx: Option<String>,
    /// Number of the block that holds that.
    pub block: Option<u64>,
    /// Its place in the order of arrival; what `after` takes.
    pub cursor: u64,
}

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Batch {
    /// Its number in the journal; what `after` takes.
    pub batch: u64,
    /// `anchor`, `batch` or `direct`.
    pub settlement: String,
    /// The submitting account.
    pub account: String,
    /// The submitter's own count of anchors, 0 for other settlements.
    pub number: u64,
    /// Merkle root (`anchor`).
    pub root: Option<String>,
    /// The submitter's head after it (`anchor`).
    pub head: Option<String>,
    /// How many readings.
    pub count: u64,
    /// `accepted`, `mined` or `final`.
    pub state: String,
    /// The included transaction.
    pub tx: Option<String>,
    /// Number of the including block.
    pub block: Option<u64>,
    /// Hash of the including block.
    pub block_hash: Option<String>,
    /// Gas used by the transaction.
    pub gas_used: Option<u64>,
    /// The archive file that has its readings.
    pub archive: Option<String>,
    /// Size of the append-only log that the anchor states.
    pub log_size: Option<u64>,
    /// Root of that log.
    pub log_root: Option<String>,
    /// When it was built.
    pub created_at: u64,
}

/// An account that sends transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lane {
    /// The account.
    pub account: String,
    /// The device whose account it is (`direct`).
    pub device: Option<String>,
    /// The nonce that comes next.
    pub next_nonce: u64,
    /// Transactions that are not final.
    pub open: u64,
    /// Transactions without inclusion.
    pub in_flight: u64,
    /// Whether an operator holds it.
    pub paused: Option<bool>,
    /// Its balance, decimal.
    pub balance_wei: Option<String>,
    /// Why it does not move.
    pub trouble: Option<String>,
}

/// An input that was refused and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantined {
    /// Its row; what `after` takes.
    pub id: u64,
    /// Who sent it, where that is known.
    pub device: Option<String>,
    /// The topic it was published on.
    pub topic: String,
    /// What was sent, up to 4 KiB: text, or `0x…`.
    pub payload: String,
    /// Always `quarantined`.
    pub state: String,
    /// Why it was refused.
    pub reason: String,
    /// When.
    pub received_at: u64,
}

/// A transaction of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transaction {
    /// Its row in the journal.
    pub id: u64,
    /// The sending account.
    pub account: String,
    /// Its nonce.
    pub nonce: u64,
    /// What it is for.
    pub kind: String,
    /// `sent`, `mined` or `final`.
    pub state: String,
    /// Whether it succeeded, once it is included.
    pub success: Option<bool>,
    /// How many signed attempts there are.
    pub attempts: u64,
    /// The included attempt, or the newest.
    pub tx: Option<String>,
    /// Number of the including block.
    pub block: Option<u64>,
    /// When it was first written.
    pub created_at: u64,
    /// When it was seen in a block.
    pub mined_at: Option<u64>,
    /// When that block could no longer change.
    pub final_at: Option<u64>,
}

/// A reading's whole life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Life {
    /// The reading.
    pub reading: Reading,
    /// The batch that holds it.
    pub batch: Option<Batch>,
    /// The transaction of that batch.
    pub transaction: Option<Transaction>,
    /// The device's own signature over it, where it signs.
    pub signature: Option<String>,
}

/// What the gateway is and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// The chain that readings settle on.
    pub chain_id: u64,
    /// The Windlass contract, once it is known.
    pub contract: Option<String>,
    /// Where blocks and transactions can be looked up: `http.explorer`.
    pub explorer: Option<String>,
    /// Whether all is well, settling included.
    pub ready: bool,
    /// What is amiss.
    pub reasons: Vec<crate::Reason>,
    /// Readings that are accepted and not mined.
    pub unsettled: u64,
    /// What the asking token may: `read` or `operate`.
    #[serde(default)]
    pub role: crate::Role,
}
