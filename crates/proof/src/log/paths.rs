//! Roots and proofs out of the complete subtrees of a log.

use alloy::primitives::B256;

use super::{empty_root, leaf_hash, node_hash};

/// Where the roots of complete subtrees come from: memory, or the tiles of an export.
pub trait Subtrees {
    /// The root of the `index`-th subtree of 2^`level` leaves; `None` when it is not there.
    fn subtree(&self, level: u8, index: u64) -> Option<B256>;
}

/// Every complete subtree of a log, in memory: 64 bytes for a leaf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    levels: Vec<Vec<B256>>,
}

impl Levels {
    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends the leaf with this data.
    pub fn append(&mut self, data: &[u8]) {
        self.append_hash(leaf_hash(data));
    }

    /// Appends a leaf that is already hashed.
    pub fn append_hash(&mut self, leaf: B256) {
        let mut node = leaf;
        for level in 0.. {
            if self.levels.len() <= level {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(level) else { return };
            row.push(node);
            match row.as_chunks::<2>() {
                (pairs, []) if let Some([left, right]) = pairs.last() => node = node_hash(*left, *right),
                _ => return,
            }
        }
    }
}

impl Subtrees for Levels {
    fn subtree(&self, level: u8, index: u64) -> Option<B256> {
        self.levels.get(usize::from(level))?.get(usize::try_from(index).ok()?).copied()
    }
}

/// The root that the log had at this size; `None` when a needed subtree is not there.
pub fn root(log: &impl Subtrees, size: u64) -> Option<B256> {
    if size == 0 { Some(empty_root()) } else { range(log, 0, size) }
}

/// The proof that the leaf at `index` is in the log of `size` leaves. `None` when it is not, or when a subtree is missing.
///
/// Source: RFC 6962, section 2.1.1.
pub fn inclusion(log: &impl Subtrees, index: u64, size: u64) -> Option<Vec<B256>> {
    if index >= size {
        return None;
    }
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range(log, middle, end)?);
            end = middle;
        } else {
            path.push(range(log, start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// The proof that the log of `first` leaves is the beginning of that of `second`; empty when they are the same or the
/// first is empty. `None` when it cannot be, or when a subtree is missing.
///
/// Source: RFC 6962, section 2.1.2.
pub fn consistency(log: &impl Subtrees, first: u64, second: u64) -> Option<Vec<B256>> {
    if first > second {
        return None;
    }
    if first == 0 || first == second {
        return Some(Vec::new());
    }
    let (mut start, mut end) = (0, second);
    let mut path = Vec::new();
    // Down to the subtree that the first log ends with.
    while first < end {
        let middle = start + split(end - start);
        if first <= middle {
            path.push(range(log, middle, end)?);
            end = middle;
        } else {
            path.push(range(log, start, middle)?);
            start = middle;
        }
    }
    // When that is the whole first log, the verifier knows its root.
    if start > 0 {
        path.push(range(log, start, end)?);
    }
    path.reverse();
    Some(path)
}

/// The greatest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).checked_ilog2().unwrap_or(0)
}

/// The root over the leaves from `start` up to `end`, a range that the splitting of the log gives.
fn range(log: &impl Subtrees, start: u64, end: u64) -> Option<B256> {
    let size = end - start;
    if size.is_power_of_two() {
        return log.subtree(u8::try_from(size.ilog2()).ok()?, start / size);
    }
    let middle = start + split(size);
    Some(node_hash(range(log, start, middle)?, range(log, middle, end)?))
}
