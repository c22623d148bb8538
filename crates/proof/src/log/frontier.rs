//! What is kept of a log so that it can grow: the roots of its complete subtrees.

use alloy::primitives::B256;

use super::{empty_root, leaf_hash, node_hash};

/// The right edge of a log: one root for each one-bit of its size, greatest subtree first; at most 64.
///
/// Appending costs about two SHA-256 for a reading, however many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<B256>,
}

/// The stored bytes are not a frontier of this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are no frontier of a log of {size} readings")]
pub struct BadFrontier {
    /// The size that was claimed.
    pub size: u64,
    /// How many bytes there were.
    pub bytes: usize,
}

impl Frontier {
    /// How many leaves the log has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The subtrees with their level (their leaves are 2^level), greatest first.
    pub(super) fn subtrees(&self) -> impl Iterator<Item = (u8, B256)> {
        let size = self.size;
        let levels = (0..64u8).rev().filter(move |level| size >> level & 1 == 1);
        levels.zip(self.roots.iter().copied())
    }

    /// Appends the leaf with this data.
    pub fn append(&mut self, data: &[u8]) {
        self.append_hash(leaf_hash(data));
    }

    /// Appends a leaf that is already hashed.
    pub fn append_hash(&mut self, leaf: B256) {
        // Each trailing one-bit of the size is a subtree that the new leaf completes into one of twice its size.
        let completed = self.roots.len().saturating_sub(self.size.trailing_ones() as usize);
        let node = self.roots.split_off(completed).into_iter().rev().fold(leaf, |right, left| node_hash(left, right));
        self.roots.push(node);
        self.size += 1;
    }

    /// The root of the whole log.
    pub fn root(&self) -> B256 {
        self.roots.iter().rev().copied().reduce(|right, left| node_hash(left, right)).unwrap_or_else(empty_root)
    }

    /// The subtrees' roots one after the other, 32 bytes each: with the size, all that a restart needs.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.roots.iter().flatten().copied().collect()
    }

    /// Takes up a stored frontier.
    ///
    /// # Errors
    /// [`BadFrontier`] when there are not exactly as many roots as the size has one-bits. Whether they are the right ones
    /// only the leaves can tell.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, BadFrontier> {
        let (roots, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || roots.len() != size.count_ones() as usize {
            return Err(BadFrontier { size, bytes: bytes.len() });
        }
        Ok(Self { size, roots: roots.iter().map(|root| B256::new(*root)).collect() })
    }
}
