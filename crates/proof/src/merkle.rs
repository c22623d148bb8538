//! The Merkle tree of a batch, with the array layout of OpenZeppelin's `StandardMerkleTree`.
//!
//! A tree of n leaves is an array of 2n − 1 nodes: node 0 is the root, node i has the children 2i + 1 and
//! 2i + 2, and the leaves, sorted ascending, fill the array from its end. So the last level may be partly
//! filled, and a leaf lies at depth ⌊log2 n⌋ or ⌈log2 n⌉. A pair is hashed smaller first, so that a path needs
//! no left or right. Source: `@openzeppelin/merkle-tree`, `core.ts`.

use alloy::primitives::{B256, Keccak256};

/// A Merkle tree over the leaves of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Root first; the last `count` nodes are the leaves, greatest first.
    nodes: Vec<B256>,
    count: usize,
}

/// A tree needs a leaf: a batch without readings is never anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a Merkle tree needs at least one leaf")]
pub struct EmptyTree;

impl Tree {
    /// Builds the tree of `leaves`, whose order does not matter.
    ///
    /// # Errors
    /// [`EmptyTree`] when there are none.
    pub fn new(mut leaves: Vec<B256>) -> Result<Self, EmptyTree> {
        let count = leaves.len();
        if count == 0 {
            return Err(EmptyTree);
        }
        leaves.sort_unstable();
        let mut nodes = vec![B256::ZERO; count - 1];
        nodes.extend(leaves.into_iter().rev());
        for i in (0..count - 1).rev() {
            if let (Some(left), Some(right)) = (nodes.get(2 * i + 1), nodes.get(2 * i + 2)) {
                let parent = pair(*left, *right);
                if let Some(node) = nodes.get_mut(i) {
                    *node = parent;
                }
            }
        }
        Ok(Self { nodes, count })
    }

    /// The root, which goes on chain.
    pub fn root(&self) -> B256 {
        self.nodes.first().copied().unwrap_or_default()
    }

    /// How many leaves there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The siblings on the way from `leaf` to the root; `None` when the leaf is not in the tree.
    pub fn proof(&self, leaf: B256) -> Option<Vec<B256>> {
        let leaves = self.nodes.get(self.count - 1..)?;
        let mut i = self.count - 1 + leaves.binary_search_by(|node| leaf.cmp(node)).ok()?;
        let mut path = Vec::new();
        while i > 0 {
            // Left children have odd numbers.
            let sibling = if i % 2 == 1 { i + 1 } else { i - 1 };
            path.push(*self.nodes.get(sibling)?);
            i = (i - 1) / 2;
        }
        Some(path)
    }
}

/// Whether `path` leads from `leaf` to `root` in a tree of `count` leaves.
///
/// The path must have ⌊log2 count⌋ or ⌈log2 count⌉ steps, so that neither an inner node nor a shortened path can
/// stand for a leaf.
pub fn verify_path(root: B256, leaf: B256, path: &[B256], count: u32) -> bool {
    let Some(shortest) = count.checked_ilog2() else { return false };
    let longest = shortest + u32::from(!count.is_power_of_two());
    let fits = (shortest as usize..=longest as usize).contains(&path.len());
    fits && path.iter().fold(leaf, |node, sibling| pair(node, *sibling)) == root
}

fn pair(a: B256, b: B256) -> B256 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let mut hasher = Keccak256::new();
    hasher.update(low);
    hasher.update(high);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{b256, keccak256};

    fn leaves(count: u32) -> Vec<B256> {
        (0..count).map(|i| keccak256(i.to_be_bytes())).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_has_a_path_that_verifies() {
        for count in 1..70 {
            let tree = Tree::new(leaves(count)).unwrap();
            for leaf in leaves(count) {
                let path = tree.proof(leaf).unwrap();
                assert!(verify_path(tree.root(), leaf, &path, count), "{count}");
                assert!(!verify_path(tree.root(), keccak256(leaf), &path, count));
            }
            assert_eq!(tree.proof(B256::ZERO), None);
        }
    }

    #[test]
    fn the_order_of_the_leaves_does_not_matter() {
        let mut reversed = leaves(9);
        reversed.reverse();
        assert_eq!(Tree::new(reversed), Tree::new(leaves(9)));
    }

    /// Source: `SimpleMerkleTree.of` of `@openzeppelin/merkle-tree` over the same leaves, which has the same layout.
    #[test]
    fn roots_and_paths_are_those_of_the_javascript_library() {
        let roots: Vec<u8> = (1..=300).flat_map(|count| Tree::new(leaves(count)).unwrap().root().to_vec()).collect();
        let all = b256!("0xae52b4b07413ab317549e3b676fd3316cb33508a4136bec3aed7e73d96a59068");
        assert_eq!(keccak256(roots), all);
        let path = [
            b256!("0xbeb9ddaa59399ed6c13e2357e8bfb064c8a71a2ef41d9600bb091a74d248de6f"),
            b256!("0xccfeb6e5ed9fc3987a5bfeb809f59c8caa3d1254a00ba315771d12533d43adf7"),
            b256!("0x57c8b4072a88c9e7098c09ab9c43ed33dca8cb0f9361c9c20d0fbfa5d3145cd8"),
            b256!("0x6e10b6d2df855d7734837326d68f2fdb0cf318406e57d127d4f4b20db7ab3294"),
            b256!("0x23df30e29182fd07057875d25baa22676143c7de95669252acc927f127c5c39a"),
            b256!("0xc9d4c40b5f4aaf99f2564db85552dcc6f0b055c708af8e0bb5f78b879733b467"),
        ];
        assert_eq!(Tree::new(leaves(77)).unwrap().proof(leaves(77)[41]).unwrap(), path);
    }

    #[derive(serde::Deserialize)]
    struct Vectors {
        leaves: Vec<VectorLeaf>,
        trees: Vec<VectorTree>,
    }

    #[derive(serde::Deserialize)]
    struct VectorLeaf {
        leaf: B256,
    }

    #[derive(serde::Deserialize)]
    struct VectorTree {
        count: u32,
        root: B256,
        proofs: Vec<Vec<B256>>,
    }

    #[test]
    fn the_frozen_vectors_hold() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../../tests/vectors/merkle.json")).unwrap();
        assert!(!vectors.trees.is_empty());
        for VectorTree { count, root, proofs } in vectors.trees {
            let leaves: Vec<_> = vectors.leaves.iter().take(count as usize).map(|leaf| leaf.leaf).collect();
            let tree = Tree::new(leaves.clone()).unwrap();
            assert_eq!(tree.root(), root);
            for (leaf, proof) in leaves.iter().zip(proofs) {
                assert_eq!(tree.proof(*leaf), Some(proof));
            }
        }
    }

    #[test]
    fn a_tree_of_nothing_is_refused() {
        assert_eq!(Tree::new(Vec::new()), Err(EmptyTree));
        assert!(!verify_path(B256::ZERO, B256::ZERO, &[], 0));
    }

    #[test]
    fn an_inner_node_with_a_shortened_path_is_refused() {
        let tree = Tree::new(leaves(8)).unwrap();
        let leaf = leaves(8)[3];
        let path = tree.proof(leaf).unwrap();
        let inner = pair(leaf, path[0]);
        assert!(!verify_path(tree.root(), inner, &path[1..], 8));
        assert!(!verify_path(tree.root(), tree.root(), &[], 8));
        assert!(!verify_path(tree.root(), leaf, &path, 16), "wrong count");
        assert!(!verify_path(tree.root(), leaf, &path, 4), "wrong count");
    }
}
