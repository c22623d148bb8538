//! Roots and proofs out of the complete subtrees of a log.

use std::collections::HashMap;

use alloy::primitives::B256;

use super::{Frontier, empty_root, leaf_hash, node_hash};

/// Where the roots of complete subtrees come from: memory, or the tiles of an export.
pub trait Subtrees {
    /// The root of the `index`-th subtree of 2^`level` leaves; `None` when it is not there.
    fn subtree(&self, level: u8, index: u64) -> Option<B256>;
}

/// The complete subtrees of a log in memory, 64 bytes for a leaf: all of them, or those that a frontier and what came
/// after it give. The second is enough for every proof between sizes that are not below the frontier's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    size: u64,
    levels: Vec<Level>,
}

/// The subtrees of one level from `first` on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Level {
    first: u64,
    nodes: Vec<B256>,
}

impl Levels {
    /// What a log goes on with when only its right edge is known.
    pub fn after(frontier: &Frontier) -> Self {
        let size = frontier.size();
        let known: HashMap<u8, B256> = frontier.subtrees().collect();
        let levels = (0..64u8).map(|level| {
            // The edge of a level is a subtree of its own exactly when the level's bit is set: it is the last one then.
            let nodes: Vec<B256> = known.get(&level).copied().into_iter().collect();
            Level { first: (size >> level) - nodes.len() as u64, nodes }
        });
        Self { size, levels: levels.collect() }
    }

    /// How many leaves the log has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends the leaf with this data.
    pub fn append(&mut self, data: &[u8]) {
        self.append_hash(leaf_hash(data));
    }

    /// Appends a leaf that is already hashed.
    pub fn append_hash(&mut self, leaf: B256) {
        self.size += 1;
        let mut node = leaf;
        for level in 0.. {
            if self.levels.len() <= level {
                self.levels.push(Level::default());
            }
            let Some(row) = self.levels.get_mut(level) else { return };
            row.nodes.push(node);
            let complete = (row.first + row.nodes.len() as u64).is_multiple_of(2);
            match row.nodes.as_slice() {
                [.., left, right] if complete => node = node_hash(*left, *right),
                _ => return,
            }
        }
    }
}

impl Subtrees for Levels {
    fn subtree(&self, level: u8, index: u64) -> Option<B256> {
        let row = self.levels.get(usize::from(level))?;
        row.nodes.get(usize::try_from(index.checked_sub(row.first)?).ok()?).copied()
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
