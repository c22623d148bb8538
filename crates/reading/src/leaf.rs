//! The Merkle leaf of a reading, as OpenZeppelin's `StandardMerkleTree` makes it: ABI-encoded, hashed twice.

use alloy::{
    primitives::{B256, keccak256},
    sol_types::SolValue,
};

use crate::Reading;

/// The first word of every leaf; no other tree's leaf can be taken for a reading.
pub fn leaf_tag() -> B256 {
    keccak256("windlass.reading.v1")
}

/// The leaf of `reading`, whose EIP-712 digest is `digest`.
///
/// Six words and a double hash: an inner node (two words, one hash) can never pass as a reading.
/// Source: OpenZeppelin `@openzeppelin/merkle-tree`, `standardLeafHash`.
pub fn leaf(reading: &Reading, digest: B256) -> B256 {
    let words = (leaf_tag(), reading.device.hash(), reading.epoch, reading.sequence, reading.observed_at_ms, digest);
    keccak256(keccak256(words.abi_encode()))
}
