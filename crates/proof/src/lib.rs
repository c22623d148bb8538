//! Proofs that stand alone: Merkle trees, portable proof files, and their verification without a network.
//!
//! A proof file leads from one reading to one block hash. Whoever trusts that hash needs nothing else: no
//! gateway, no database, no node. Everything here is a pure function of its input.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod build;
mod event;
mod file;
pub mod log;
mod merkle;
mod payload;
mod refusal;
mod trie;
mod verify;

pub use build::{BuildError, Evidence};
pub use event::{Anchored, Recorded, Registered, Skipped, SubmittedRun, recordCall, setCall};
pub use file::{
    Anchor, AnchoredFields, Batch, Block, Direct, EventProof, MAX_FILE_BYTES, Pending, ProofFile, ReadingFields,
    RecordedFields, Registration, SignedReading, SignedRun, TransactionProof,
};
pub use merkle::{EmptyTree, Tree, verify_path};
pub use payload::{payload_from_text, payload_text};
pub use refusal::Refusal;
pub use trie::{Inclusion, TrieError};
pub use verify::{Tier, Trusted, Verified, verify, verify_against};

#[cfg(test)]
mod tests;
