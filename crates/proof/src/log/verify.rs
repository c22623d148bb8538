//! What a verifier computes: it has two roots and a proof, and no log.

use alloy::primitives::B256;

use super::{empty_root, node_hash};

/// Whether `proof` leads from the leaf hash at `index` to the root of a log of `size` leaves.
///
/// Source: RFC 9162, section 2.1.3.2.
pub fn verify_inclusion(leaf: B256, index: u64, size: u64, proof: &[B256], root: B256) -> bool {
    if index >= size {
        return false;
    }
    let (mut position, mut last, mut node) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if position % 2 == 1 || position == last {
            node = node_hash(*sibling, node);
            // The right edge has no sibling on these levels.
            let levels = position.trailing_zeros();
            position >>= levels;
            last >>= levels;
        } else {
            node = node_hash(node, *sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    last == 0 && node == root
}

/// Whether `proof` shows that the log of `first` leaves and this root is the beginning of the one of `second` leaves.
///
/// Source: RFC 9162, section 2.1.4.2.
pub fn verify_consistency(first: u64, first_root: B256, second: u64, second_root: B256, proof: &[B256]) -> bool {
    if first == second {
        return proof.is_empty() && first_root == second_root && (first > 0 || first_root == empty_root());
    }
    if first == 0 {
        return proof.is_empty() && first_root == empty_root();
    }
    if first > second {
        return false;
    }
    // A first log that is one complete subtree is its own first node.
    let whole = first.is_power_of_two().then_some(first_root);
    let mut nodes = whole.into_iter().chain(proof.iter().copied());
    let Some(seed) = nodes.next() else { return false };
    let skipped = (first - 1).trailing_ones();
    let (mut position, mut last) = ((first - 1) >> skipped, (second - 1) >> skipped);
    let (mut old, mut new) = (seed, seed);
    for node in nodes {
        if last == 0 {
            return false;
        }
        if position % 2 == 1 || position == last {
            old = node_hash(node, old);
            new = node_hash(node, new);
            let levels = position.trailing_zeros();
            position >>= levels;
            last >>= levels;
        } else {
            new = node_hash(new, node);
        }
        position >>= 1;
        last >>= 1;
    }
    last == 0 && old == first_root && new == second_root
}
