//! The chain side's records: transactions, their signed attempts, batches and inclusions.

use alloy::primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};
use windlass_reading::{DeviceId, Settlement};

/// What a transaction is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Deploys the `Windlass` contract.
    DeployWindlass,
    /// Registers devices.
    Register {
        /// Which devices, by id.
        devices: Vec<DeviceId>,
    },
    /// Puts a device's next key in force.
    Rotate {
        /// Whose.
        device: DeviceId,
        /// The generation of the new key.
        epoch: u32,
    },
    /// Ends a device on chain.
    Revoke {
        /// Which.
        device: DeviceId,
    },
    /// Tops up a device's account.
    Fund {
        /// Whose account.
        device: DeviceId,
    },
    /// Deploys a device's `Barcode` from the device's account.
    DeployBarcode {
        /// Whose contract.
        device: DeviceId,
    },
    /// Settles a batch.
    Settle {
        /// By which way.
        settlement: Settlement,
    },
    /// Does nothing but use up a nonce that nothing was ever signed at, so that later ones can follow.
    Fill,
}

impl Kind {
    /// The name in listings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DeployWindlass => "deploy_windlass",
            Self::Register { .. } => "register",
            Self::Rotate { .. } => "rotate",
            Self::Revoke { .. } => "revoke",
            Self::Fund { .. } => "fund",
            Self::DeployBarcode { .. } => "deploy_barcode",
            Self::Settle { .. } => "settle",
            Self::Fill => "fill",
        }
    }
}

/// A transaction to be written before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDraft {
    /// Sending account.
    pub account: Address,
    /// Its nonce; unique per account.
    pub nonce: u64,
    /// What it is for.
    pub kind: Kind,
    /// The first signed attempt.
    pub attempt: Attempt,
}

/// Row numbers of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The transaction's.
    pub transaction: u64,
    /// The batch's, where it has one.
    pub batch: Option<u64>,
}

/// Where an account stands in the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// The highest nonce it ever used here.
    pub highest_nonce: Option<u64>,
    /// Number and head of its newest anchor that did not revert.
    pub anchor: Option<(u64, B256)>,
}

/// Signed bytes at a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Transaction hash.
    pub hash: B256,
    /// EIP-2718 bytes, ready for `eth_sendRawTransaction`.
    pub raw: Bytes,
    /// `maxFeePerGas`, wei.
    pub max_fee_wei: u64,
    /// `maxPriorityFeePerGas`, wei.
    pub tip_wei: u64,
    /// Does nothing but use the nonce up: if it is the one that is included, its transaction counts as failed.
    pub cancel: bool,
}

/// A batch to be written with its transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchDraft {
    /// By which way it settles.
    pub settlement: Settlement,
    /// The submitter's anchor batch number; 0 for other settlements.
    pub number: u64,
    /// Merkle root (anchor only).
    pub root: Option<B256>,
    /// Head after this anchor (anchor only).
    pub head: Option<B256>,
    /// Arrival numbers of the readings.
    pub arrivals: Vec<u64>,
    /// Signed runs (batch only), kept for the proofs.
    pub runs: Vec<RunDraft>,
    /// The append-only log as this anchor states it (anchor only).
    pub log: Option<LogState>,
}

/// The append-only log at one anchor: what the anchor says of it, and all that is needed to go on from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// Which log: chain id and contract, as `1:0x…`. Its leaves are bound to both.
    pub contract: String,
    /// Readings up to this arrival are not in it: some of them had left the journal when it began. 0: it has all.
    pub base: u64,
    /// The greatest arrival that it covers.
    pub arrival: u64,
    /// How many readings it has: those that settle by anchor, after `base` and up to `arrival`.
    pub size: u64,
    /// Its root (RFC 6962).
    pub root: B256,
    /// The roots of its complete subtrees, greatest first, 32 bytes each.
    pub frontier: Vec<u8>,
}

/// A signed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDraft {
    /// Which readings.
    pub span: Span,
    /// The device key's signature, 64 bytes (EIP-2098).
    pub signature: Bytes,
}

/// Consecutive readings of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Whose.
    pub device: DeviceId,
    /// First sequence.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    /// Written, perhaps sent, not included.
    Sent,
    /// Included in a canonical block.
    Mined,
    /// Included for good.
    Final,
}

/// A transaction's inclusion in a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// Which attempt.
    pub tx: B256,
    /// Block number.
    pub block_number: u64,
    /// Block hash.
    pub block_hash: B256,
    /// Whether it succeeded (receipt status 1).
    pub success: bool,
    /// Gas used.
    pub gas_used: u64,
    /// When the gateway saw it, unix milliseconds.
    pub at_ms: u64,
    /// Runs that the contract skipped and that must be taken again.
    pub skipped: Vec<Span>,
}

/// A transaction that is not final, as a start finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Row id.
    pub id: u64,
    /// Sending account.
    pub account: Address,
    /// Its nonce.
    pub nonce: u64,
    /// What it is for.
    pub kind: Kind,
    /// Its batch's id, where it has one.
    pub batch: Option<u64>,
    /// How many readings its batch holds.
    pub readings: u64,
    /// All attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Its inclusion, if it has one.
    pub inclusion: Option<Inclusion>,
    /// When it was first written, unix milliseconds.
    pub created_at_ms: u64,
}
