//! The append-only log: a Merkle tree over readings in arrival order, with SHA-256.
//!
//! Leaf data is the 32-byte keccak leaf of a reading. A leaf is hashed with a zero byte before it, a node with a one byte
//! before its two children, so that neither can pass as the other. A tree of n leaves is split at the greatest power of
//! two below n, which is why a tree that grows keeps every complete subtree that it ever had.
//! Source: RFC 6962, section 2.1.

mod checkpoint;
mod frontier;
mod paths;
#[cfg(test)]
mod tests;
mod tiles;
mod verify;

use alloy::primitives::B256;
use sha2::{Digest, Sha256};

pub use checkpoint::{BadCheckpoint, Checkpoint};
pub use frontier::{BadFrontier, Frontier};
pub use paths::{Levels, Subtrees, consistency, inclusion, root};
pub use tiles::{TILE_HEIGHT, TILE_WIDTH, Tile, TileKind, bundle, tiles_of, unbundle};
pub use verify::{verify_consistency, verify_inclusion};

/// The hash of a leaf with this data.
pub fn leaf_hash(data: &[u8]) -> B256 {
    let digest = Sha256::new().chain_update([0]).chain_update(data).finalize();
    B256::new(digest.into())
}

/// The hash of a node above these two.
pub fn node_hash(left: B256, right: B256) -> B256 {
    let digest = Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize();
    B256::new(digest.into())
}

/// The root of a log without readings: SHA-256 of nothing.
pub fn empty_root() -> B256 {
    B256::new(Sha256::digest([]).into())
}
