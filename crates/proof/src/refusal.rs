//! Why a proof file is refused.

use alloy::primitives::B256;
use windlass_reading::PackingError;

use crate::trie::TrieError;

/// Why a proof file proves nothing. Each is final for that file: another try gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The reading is not settled yet; ask the gateway for the proof again later.
    #[error("pending: the reading is not on chain yet, so nothing is proved")]
    Pending,
    /// The file is larger than any real proof.
    #[error("the file has {0} bytes, more than a proof file may have")]
    TooLarge(usize),
    /// Not JSON, or not the fields of a proof file: one is missing, unknown, twice there, or of a wrong type.
    #[error("not a proof file: {0}")]
    Malformed(String),
    /// A value is not in its only valid spelling (lower-case hex with `0x`, plain numbers, no null).
    #[error("the file spells a value in a way that proof files do not")]
    NotCanonical,
    /// A format version that this program does not know.
    #[error("proof file version {0} is not known to this program")]
    Version(u64),
    /// The header is not the RLP of a block header.
    #[error("the block header is malformed")]
    Header,
    /// The header hashes to another block than the file says.
    #[error("the header hashes to {computed}, the file says {stated}")]
    BlockHash {
        /// Hash of the header in the file.
        computed: B256,
        /// Hash that the file states.
        stated: B256,
    },
    /// The proof is of another block than the one that the verifier trusts.
    #[error("the proof is of block {computed}, not of the trusted block {trusted}")]
    OtherBlock {
        /// Hash of the header in the file.
        computed: B256,
        /// Hash that the verifier gave.
        trusted: B256,
    },
    /// The receipt is not in the block.
    #[error("the receipt is not proved: {0}")]
    ReceiptPath(TrieError),
    /// The transaction is not in the block.
    #[error("the transaction is not proved: {0}")]
    TransactionPath(TrieError),
    /// The proved receipt is of a type that this program does not know.
    #[error("the receipt is malformed or of an unknown type")]
    Receipt,
    /// The proved transaction is of a type that this program does not know, or its signature is invalid.
    #[error("the transaction is malformed, of an unknown type or wrongly signed")]
    Transaction,
    /// The log at the stated index is not the expected event of the stated contract.
    #[error("the log at the stated index is not the contract's {0} event")]
    Event(&'static str),
    /// The file states a value that differs from what the chain holds.
    #[error("{0} in the file differs from what is on chain")]
    Differs(&'static str),
    /// The payload is not spelled as proof files spell it.
    #[error("the payload is neither plain text nor 0x and lower-case hex")]
    Payload,
    /// The reading, chain id or contract is not what the leaf under the anchored root holds.
    #[error("the Merkle path does not lead from this reading to the anchored root")]
    MerklePath,
    /// The recorded bytes are not packed readings.
    #[error("the recorded run cannot be read: {0}")]
    Packing(PackingError),
    /// The transaction failed, so it stored nothing.
    #[error("the transaction failed on chain")]
    Failed,
    /// The transaction is not a call that stores a reading in this way.
    #[error("the transaction is not a call of {0}")]
    Call(&'static str),
    /// The transaction is not tied to any chain, so the stated chain id is unbound.
    #[error("the transaction is not bound to a chain id")]
    Unbound,
    /// The file shows a registration and no signature that its key could have made.
    #[error("the file has a registration but no signature")]
    NoSigner,
    /// The verifier gave the hash of a registration's block, and the file has no registration.
    #[error("the file shows no registration of a key")]
    NoRegistration,
    /// The run's signature is malformed.
    #[error("the run's signature is malformed")]
    Signature,
}

impl Refusal {
    /// The stable name of the refusal, for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::TooLarge(_) => "too_large",
            Self::Malformed(_) => "malformed",
            Self::NotCanonical => "not_canonical",
            Self::Version(_) => "version",
            Self::Header => "header",
            Self::BlockHash { .. } => "block_hash",
            Self::OtherBlock { .. } => "other_block",
            Self::ReceiptPath(_) => "receipt_path",
            Self::TransactionPath(_) => "transaction_path",
            Self::Receipt => "receipt",
            Self::Transaction => "transaction",
            Self::Event(_) => "event",
            Self::Differs(_) => "differs",
            Self::Payload => "payload",
            Self::MerklePath => "merkle_path",
            Self::Packing(_) => "packing",
            Self::Failed => "failed",
            Self::Call(_) => "call",
            Self::Unbound => "unbound",
            Self::NoSigner => "no_signer",
            Self::NoRegistration => "no_registration",
            Self::Signature => "signature",
        }
    }
}
