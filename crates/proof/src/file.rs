//! The portable proof file, `.windlass.json`: one versioned format, three settlements, and "pending".
//!
//! Only what the block hash binds is in a file of a settled reading. There is no state, confirmation count or
//! wall time in it, and for `direct` no device, sequence or time either, because these are not on chain.

use alloy::primitives::{Address, B256, Bytes};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;
use windlass_reading::{DeviceId, PublicKey, Reading, Settlement};

use crate::{Refusal, payload::payload_from_text, payload_text};

/// Largest proof file that is read or written. A transaction has at most 128 KiB, so a run's receipt and
/// transaction come to about 600 KiB of hex.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// The only format version.
const VERSION: u64 = 1;
/// How much of a JSON error is repeated; it may quote the file.
const ERROR_CHARS: usize = 200;

/// A proof file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ProofFile {
    /// A reading under an anchored Merkle root.
    Anchor(Box<Anchor>),
    /// A reading in a run that the contract recorded in a log.
    Batch(Box<Batch>),
    /// A number stored by a transaction of the device's own account.
    Direct(Box<Direct>),
    /// A reading that is not on chain yet: proves nothing.
    Pending(Box<Pending>),
}

/// Proof of a reading under an anchored Merkle root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    pub(crate) windlass_proof: Version,
    pub(crate) settlement: Settlement,
    /// Bound by the reading's digest, as is the contract.
    pub chain_id: u64,
    /// The Windlass contract that emitted the event.
    pub contract: Address,
    /// The reading.
    pub reading: ReadingFields,
    /// From the reading's leaf to the anchored root.
    pub merkle_path: Vec<B256>,
    /// The device's own signature over the reading, where it signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedReading>,
    /// Where the contract registered the key that signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<Registration>,
    /// What the event says.
    pub anchored: AnchoredFields,
    /// Where the event is.
    pub event: EventProof,
    /// The block that holds it.
    pub block: Block,
}

/// Proof of a reading in a recorded run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    pub(crate) windlass_proof: Version,
    pub(crate) settlement: Settlement,
    /// The Windlass contract that emitted the event.
    pub contract: Address,
    /// The reading.
    pub reading: ReadingFields,
    /// The run that holds it.
    pub recorded: RecordedFields,
    /// Where the event is.
    pub event: EventProof,
    /// The signature over the run; without it no chain id and no signer is bound, and none is in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedRun>,
    /// Where the contract registered the key that signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<Registration>,
    /// The block that holds it.
    pub block: Block,
}

/// Proof of a number stored by `set(uint256)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Direct {
    pub(crate) windlass_proof: Version,
    pub(crate) settlement: Settlement,
    /// Bound by the signed transaction.
    pub chain_id: u64,
    /// Whom the transaction called.
    pub contract: Address,
    /// The stored number, decimal without leading zeros.
    pub value: String,
    /// The account that signed the transaction.
    pub signer: Address,
    /// The account's nonce of the transaction.
    pub nonce: u64,
    /// Where the transaction is.
    pub transaction: TransactionProof,
    /// Receipts-trie nodes from the root to the receipt at the transaction's index.
    pub receipt: Vec<Bytes>,
    /// The block that holds both.
    pub block: Block,
}

/// A reading that is not on chain yet. The same file is later overwritten with the proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    pub(crate) windlass_proof: Version,
    pub(crate) state: PendingState,
    /// How the reading will be settled.
    pub settlement: Settlement,
    /// The reading; nothing binds it yet.
    pub reading: ReadingFields,
}

/// A reading as a proof file spells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingFields {
    /// Who read it.
    pub device: DeviceId,
    /// Which key generation of the device.
    pub epoch: u32,
    /// The device's number for it.
    pub sequence: u64,
    /// Unix milliseconds.
    pub observed_at: u64,
    /// The payload as [`payload_text`] spells it.
    pub payload: String,
}

/// What the `Anchored` event says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchoredFields {
    /// Who anchored the batch.
    pub submitter: Address,
    /// The submitter's number for the batch.
    pub batch: u64,
    /// Root of the batch's Merkle tree.
    pub root: B256,
    /// How many readings the tree has.
    pub count: u32,
    /// Size of the append-only log, 0 without one.
    pub log_size: u64,
    /// Root of the append-only log, 0 without one.
    pub log_root: B256,
    /// The submitter's head after the batch.
    pub head: B256,
}

/// What the `Recorded` event says beside the readings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedFields {
    /// Sequence of the run's first reading.
    pub first_sequence: u64,
    /// How many readings the run has.
    pub count: u32,
}

/// Where an event is in its block, with the receipts-trie nodes that show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventProof {
    /// Index of the transaction in the block.
    pub transaction: u64,
    /// Index of the log in the transaction's receipt.
    pub log: u32,
    /// RLP nodes from the receipts root to the receipt.
    pub receipt: Vec<Bytes>,
}

/// A device's signature over its reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReading {
    /// The key that signed: an address, or the point of a P-256 key.
    pub signer: PublicKey,
    /// 64 bytes with a low s: EIP-2098, or r and s.
    pub signature: Bytes,
}

/// Where the contract put the signer's key in force: a block of its own, for whose hash the verifier needs another source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Where the event is.
    pub event: EventProof,
    /// The block that holds it.
    pub block: Block,
}

/// The signature over a run, as the transaction carried it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRun {
    /// Bound by the signed transaction.
    pub chain_id: u64,
    /// The key that signed: an address, or the point of a P-256 key.
    pub signer: PublicKey,
    /// The signature in the calldata.
    pub signature: Bytes,
    /// Hash of the transaction.
    pub transaction: B256,
    /// RLP nodes from the transactions root to the transaction.
    pub nodes: Vec<Bytes>,
}

/// Where a transaction is in its block, with the transactions-trie nodes that show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionProof {
    /// Index in the block.
    pub index: u64,
    /// Hash of the transaction.
    pub hash: B256,
    /// RLP nodes from the transactions root to the transaction.
    pub nodes: Vec<Bytes>,
}

/// A block header, with what a reader wants to see of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// keccak256 of the header.
    pub hash: B256,
    /// Number in the header.
    pub number: u64,
    /// RLP of the header.
    pub header: Bytes,
}

/// `1`, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version;

/// `"pending"`, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PendingState {
    Pending,
}

/// The keys that tell which kind of file it is.
#[derive(Deserialize)]
struct Kind {
    windlass_proof: u64,
    settlement: Settlement,
    state: Option<PendingState>,
}

impl ProofFile {
    /// A file that says that `reading` is not on chain yet.
    pub fn pending(reading: &Reading, settlement: Settlement) -> Self {
        let reading = ReadingFields::from(reading);
        Self::Pending(Box::new(Pending { windlass_proof: Version, state: PendingState::Pending, settlement, reading }))
    }

    /// Reads a file. Nothing is verified yet.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`], [`Refusal::Malformed`], [`Refusal::Version`] or [`Refusal::NotCanonical`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(Refusal::TooLarge(bytes.len()));
        }
        let kind: Kind = from_json(bytes)?;
        if kind.windlass_proof != VERSION {
            return Err(Refusal::Version(kind.windlass_proof));
        }
        let file = match (kind.state, kind.settlement) {
            (Some(PendingState::Pending), _) => Self::Pending(from_json(bytes)?),
            (None, Settlement::Anchor) => Self::Anchor(from_json(bytes)?),
            (None, Settlement::Batch) => Self::Batch(from_json(bytes)?),
            (None, Settlement::Direct) => Self::Direct(from_json(bytes)?),
        };
        // What is read must be what is written, scalar by scalar, so that a value has one spelling.
        let read: Value = from_json(bytes)?;
        match serde_json::to_value(&file) {
            Ok(written) if written == read => Ok(file),
            _ => Err(Refusal::NotCanonical),
        }
    }

    /// The file's text: indented JSON, ending in a newline.
    ///
    /// # Errors
    /// None that a file made by this crate can cause.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// How the reading is, or will be, settled.
    pub fn settlement(&self) -> Settlement {
        match self {
            Self::Anchor(_) => Settlement::Anchor,
            Self::Batch(_) => Settlement::Batch,
            Self::Direct(_) => Settlement::Direct,
            Self::Pending(pending) => pending.settlement,
        }
    }

    /// The reading that the file is about; `None` for `direct`, where the chain holds only a number.
    pub fn reading(&self) -> Option<&ReadingFields> {
        match self {
            Self::Anchor(file) => Some(&file.reading),
            Self::Batch(file) => Some(&file.reading),
            Self::Pending(file) => Some(&file.reading),
            Self::Direct(_) => None,
        }
    }
}

impl ReadingFields {
    /// The reading that the fields spell.
    ///
    /// # Errors
    /// [`Refusal::Payload`] when the payload is not in its only valid spelling.
    pub fn to_reading(&self) -> Result<Reading, Refusal> {
        Ok(Reading {
            device: self.device.clone(),
            epoch: self.epoch,
            sequence: self.sequence,
            observed_at_ms: self.observed_at,
            payload: payload_from_text(&self.payload).ok_or(Refusal::Payload)?,
        })
    }
}

impl From<&Reading> for ReadingFields {
    fn from(reading: &Reading) -> Self {
        Self {
            device: reading.device.clone(),
            epoch: reading.epoch,
            sequence: reading.sequence,
            observed_at: reading.observed_at_ms,
            payload: payload_text(&reading.payload),
        }
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(VERSION)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            VERSION => Ok(Self),
            other => Err(serde::de::Error::custom(format_args!("version {other}"))),
        }
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        // The message may quote an unknown key, which may be as long as the file.
        Refusal::Malformed(error.to_string().chars().take(ERROR_CHARS).collect())
    })
}
