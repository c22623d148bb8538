//! Verification of a proof file, without network, clock or journal.

mod anchor;
mod batch;
mod direct;
mod registration;
mod sealed;

use alloy::primitives::{Address, B256};
use registration::check as check_registration;
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
    /// The block, by number and hash, in which the contract registered the signer's key; where the file has it.
    pub registration: Option<(u64, B256)>,
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
    verify_against(bytes, Trusted { block: trusted_block_hash, registration: None })
}

/// The block hashes that a verifier has from sources of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trusted {
    /// Of the block that settled the reading.
    pub block: Option<B256>,
    /// Of the block that registered the device's key.
    pub registration: Option<B256>,
}

/// Verifies the file in `bytes` against the hashes of both blocks that it may speak of.
///
/// # Errors
/// As [`verify`]; also when a registration's hash is given and the file has none.
pub fn verify_against(bytes: &[u8], trusted: Trusted) -> Result<Verified, Refusal> {
    let (mut verified, registration) = match ProofFile::parse(bytes)? {
        ProofFile::Anchor(file) => {
            (anchor::verify(&file, &Sealed::open(&file.block, trusted.block)?)?, file.registered)
        }
        ProofFile::Batch(file) => (batch::verify(&file, &Sealed::open(&file.block, trusted.block)?)?, file.registered),
        ProofFile::Direct(file) => (direct::verify(&file, &Sealed::open(&file.block, trusted.block)?)?, None),
        ProofFile::Pending(_) => return Err(Refusal::Pending),
    };
    match registration {
        Some(registration) => check_registration(&registration, trusted.registration, &mut verified)?,
        None if trusted.registration.is_some() => return Err(Refusal::NoRegistration),
        None => {}
    }
    Ok(verified)
}

/// A stated value must be the one that was computed or found on chain.
fn same<T: PartialEq>(what: &'static str, stated: &T, found: &T) -> Result<(), Refusal> {
    if stated == found { Ok(()) } else { Err(Refusal::Differs(what)) }
}

/// What is left to trust about a signer whose registration is not shown.
fn is_registered_key(signer: PublicKey) -> String {
    format!("that {signer} is the device's registered key")
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
