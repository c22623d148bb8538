//! The receipts trie and the transactions trie of a block: roots, proofs of one index, and their verification.
//!
//! Both map `rlp(index)` to the EIP-2718 bytes of the item. Every item is longer than 32 bytes, so every node on
//! the way to it is referred to by hash; an embedded node on that way is refused.

use alloy::{
    primitives::{B256, Bytes, keccak256},
    rlp,
};
use alloy_trie::{
    EMPTY_ROOT_HASH, HashBuilder, Nibbles,
    nodes::{RlpNode, TrieNode},
    proof::{ProofRetainer, verify_proof},
};

/// A trie's root, and the nodes from it to one item, root first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// Root of the whole trie.
    pub root: B256,
    /// RLP nodes on the way to the item; empty when the index is not in the trie.
    pub nodes: Vec<Bytes>,
}

/// Why trie nodes do not prove an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrieError {
    /// The nodes end before the item, or go on after it.
    #[error("the trie path has the wrong length")]
    Length,
    /// A node is not the one that its parent (or the header) names.
    #[error("a trie node does not hash to what its parent names")]
    Hash,
    /// A node is not the RLP of a trie node.
    #[error("a trie node is malformed")]
    Node,
    /// The nodes lead to another index.
    #[error("the trie path does not lead to the stated index")]
    Path,
}

/// The root over `items` (EIP-2718 bytes in block order) and the proof of the item at `index`.
pub(crate) fn prove<T: AsRef<[u8]>>(items: &[T], index: u64) -> Inclusion {
    let target = key(index);
    let mut leaves: Vec<_> = (0..).zip(items).map(|(i, item)| (key(i), item.as_ref())).collect();
    // The builder wants ascending keys, and rlp(0) = 0x80 comes after rlp(127) = 0x7f.
    leaves.sort_unstable_by_key(|(key, _)| *key);
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(vec![target]));
    for (key, item) in &leaves {
        builder.add_leaf(*key, item);
    }
    let root = if items.is_empty() { EMPTY_ROOT_HASH } else { builder.root() };
    let nodes = match usize::try_from(index) {
        Ok(i) if i < items.len() => builder.take_proof_nodes().into_nodes_sorted(),
        _ => Vec::new(),
    };
    Inclusion { root, nodes: nodes.into_iter().map(|(_, node)| node).collect() }
}

/// The item at `index` in the trie under `root`.
///
/// # Errors
/// [`TrieError`] when the nodes are anything but the exact path from the root to that item.
pub(crate) fn item_at(root: B256, index: u64, nodes: &[Bytes]) -> Result<Vec<u8>, TrieError> {
    let key = key(index);
    // The walk comes first: it finds the item, and it lets no path reach `verify_proof` that is longer than a
    // key can be, which would overflow its nibbles.
    let item = walk(root, key, nodes)?;
    verify_proof(root, key, Some(item.clone()), nodes).map_err(|_| TrieError::Path)?;
    Ok(item)
}

fn walk(root: B256, key: Nibbles, nodes: &[Bytes]) -> Result<Vec<u8>, TrieError> {
    let mut expected = root;
    let mut rest: &[u8] = &key.to_vec();
    let mut nodes = nodes.iter();
    while let Some(node) = nodes.next() {
        if keccak256(node) != expected {
            return Err(TrieError::Hash);
        }
        expected = match decode(node)? {
            TrieNode::Branch(branch) => {
                let (nibble, after) = rest.split_first().ok_or(TrieError::Path)?;
                rest = after;
                let child = branch.as_ref().children().find(|(i, _)| i == nibble).and_then(|(_, child)| child.cloned());
                child.as_ref().and_then(RlpNode::as_hash).ok_or(TrieError::Path)?
            }
            TrieNode::Extension(extension) => {
                rest = rest.strip_prefix(extension.key.to_vec().as_slice()).ok_or(TrieError::Path)?;
                extension.child.as_hash().ok_or(TrieError::Path)?
            }
            TrieNode::Leaf(leaf) if leaf.key.to_vec() == rest && nodes.len() == 0 => return Ok(leaf.value),
            TrieNode::Leaf(leaf) if leaf.key.to_vec() == rest => return Err(TrieError::Length),
            TrieNode::Leaf(_) | TrieNode::EmptyRoot => return Err(TrieError::Path),
        };
    }
    Err(TrieError::Length)
}

fn decode(mut bytes: &[u8]) -> Result<TrieNode, TrieError> {
    let node = <TrieNode as rlp::Decodable>::decode(&mut bytes).map_err(|_| TrieError::Node)?;
    if bytes.is_empty() { Ok(node) } else { Err(TrieError::Node) }
}

fn key(index: u64) -> Nibbles {
    Nibbles::unpack(rlp::encode_fixed_size(&index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_trie::root::ordered_trie_root_encoded;
    use proptest::prelude::*;

    fn items(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|i| vec![i as u8; 40 + i % 600]).collect()
    }

    #[test]
    fn every_item_of_tries_of_many_sizes_is_proved() {
        // 0x80 and 0x100 are where the key ordering changes.
        for count in [1, 2, 3, 16, 17, 127, 128, 129, 130, 255, 256, 257, 300] {
            let items = items(count);
            for (i, item) in items.iter().enumerate() {
                let proof = prove(&items, i as u64);
                assert_eq!(proof.root, ordered_trie_root_encoded(&items));
                assert_eq!(item_at(proof.root, i as u64, &proof.nodes).as_ref(), Ok(item), "{i} of {count}");
            }
        }
    }

    #[test]
    fn an_index_outside_has_no_proof() {
        let proof = prove(&items(3), 3);
        assert!(proof.nodes.is_empty());
        assert_eq!(item_at(proof.root, 3, &proof.nodes), Err(TrieError::Length));
        assert_eq!(prove::<Vec<u8>>(&[], 0).root, EMPTY_ROOT_HASH);
    }

    #[test]
    fn a_path_that_is_cut_stretched_or_for_another_index_is_refused() {
        let Inclusion { root, nodes } = prove(&items(200), 150);
        assert_eq!(item_at(root, 150, &nodes[..nodes.len() - 1]), Err(TrieError::Length));
        let mut longer = nodes.clone();
        longer.push(nodes[0].clone());
        assert_eq!(item_at(root, 150, &longer), Err(TrieError::Length));
        assert!(item_at(root, 151, &nodes).is_err());
        assert_eq!(item_at(B256::ZERO, 150, &nodes), Err(TrieError::Hash));
        assert!(item_at(root, u64::MAX, &nodes).is_err());
    }

    proptest! {
        /// Whoever makes up a header may make up its root, so any bytes may pose as a node.
        #[test]
        fn no_made_up_node_panics(bytes: Vec<u8>, at in 0usize..2000, byte: u8, index in 0u64..300) {
            let node = Bytes::from(bytes);
            let _ = item_at(keccak256(&node), index, &[node]);
            let proof = prove(&items(20), index % 20);
            let mut first = proof.nodes[0].to_vec();
            let at = at % first.len();
            first[at] = byte;
            let mut nodes = proof.nodes;
            nodes[0] = first.into();
            let _ = item_at(keccak256(&nodes[0]), index % 20, &nodes);
        }
    }
}
