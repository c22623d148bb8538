//! Verification of a proof file, without network, clock or journal.

mod anchor;
mod batch;
mod direct;
mod sealed;

use alloy::primitives::{Address, B256};
use windlass_reading::{PublicKey, Reading, Settlement};

use crate::{ProofFile, Refusal};
pub(crate) use batch::{Submitted, is_signed};
use sealed::Sealed;

/// How far the verification went. A live node is asked by the caller, who has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The file is consistent with the block hash that its header has.
    Mathematics,
    /// And that is the block hash that the verifier gave.
    BlockHash,
}

/// What a proof file proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// How the reading was settled.
    pub settlement: Settlement,
    /// How far the verification went.
    pub tier: Tier,
    /// The chain, where the file binds it: not for a `batch` proof without a signature.
    pub chain_id: Option<u64>,
    /// The contract that emitted the event or, for `direct`, that was called.
    pub contract: Address,
    /// The reading; `None` for `direct`, where the chain holds only a number.
    pub reading: Option<Reading>,
    /// Who signed: the reading or its run (where the file has the signature), or the transaction (`direct`).
    pub signer: Option<PublicKey>,
    /// keccak256 of the header.
    pub block_hash: B256,
    /// Number in the header.
    pub block_number: u64,
    /// Time in the header, unix seconds.
    pub timestamp: u64,
    /// What was checked, a sentence each.
    pub checked: Vec<String>,
    /// Whom the verifier trusts for the block hash; a node that is asked about the block takes this place.
    pub block_trust: String,
    /// What the verifier trusts beside that, a sentence each.
    pub trusts: Vec<String>,
}

/// Verifies the file in `bytes`, against `trusted_block_hash` when the verifier has one.
///
/// Without a trusted hash the answer means only "consistent": whoever makes up a block can make up its proof.
///
/// # Errors
/// [`Refusal`] says why the file proves nothing; [`Refusal::Pending`] that it does not claim to.
pub fn verify(bytes: &[u8], trusted_block_hash: Option<B256>) -> Result<Verified, Refusal> {
    match ProofFile::parse(bytes)? {
        ProofFile::Anchor(file) => anchor::verify(&file, &Sealed::open(&file.block, trusted_block_hash)?),
        ProofFile::Batch(file) => batch::verify(&file, &Sealed::open(&file.block, trusted_block_hash)?),
        ProofFile::Direct(file) => direct::verify(&file, &Sealed::open(&file.block, trusted_block_hash)?),
        ProofFile::Pending(_) => Err(Refusal::Pending),
    }
}

/// A stated value must be the one that was computed or found on chain.
fn same<T: PartialEq>(what: &'static str, stated: &T, found: &T) -> Result<(), Refusal> {
    if stated == found { Ok(()) } else { Err(Refusal::Differs(what)) }
}

/// One sentence about a reading, for people.
fn described(reading: &Reading) -> String {
    format!(
        "the reading: device {}, epoch {}, sequence {}, observed at {} (unix ms), payload {}",
        reading.device,
        reading.epoch,
        reading.sequence,
        reading.observed_at_ms,
        crate::payload_text(&reading.payload)
    )
}
