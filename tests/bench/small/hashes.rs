//! Leaves of readings, and the tree over them.

use std::hint::black_box;

use alloy::primitives::{B256, keccak256};
use criterion::BatchSize;
use windlass_proof::Tree;
use windlass_reading::Leaves;

use crate::{
    domain,
    pair::{Named, Pairs},
    reading,
};

const LEAVES: u64 = 10_000;
/// Two hashes: an inner node of a tree.
const NODE_BYTES: usize = 64;
/// Six words, which a leaf hashes.
const LEAF_BYTES: usize = 192;

pub(crate) fn run(pairs: &mut Pairs) {
    leaf(pairs);
    tree(pairs);
}

fn leaf(pairs: &mut Pairs) {
    let named = Named {
        name: "leaf of a reading",
        reference: "keccak256 of 192 bytes, twice",
        conditions: "digest and leaf of a reading whose device was the last one's too",
    };
    let (domain, reading) = (domain(), reading(1));
    let mut leaves = Leaves::new(&domain);
    pairs.measure(
        named,
        |bencher| bencher.iter(|| leaves.leaf(black_box(&reading))),
        |bencher| bencher.iter(|| keccak256(keccak256(black_box([7; LEAF_BYTES])))),
    );
}

fn tree(pairs: &mut Pairs) {
    let named = Named {
        name: "Merkle tree of 10,000 leaves",
        reference: "keccak256 of 64 bytes, 10,000 times",
        conditions: "sorting included",
    };
    let leaves: Vec<B256> = (0..LEAVES).map(|n| keccak256(n.to_be_bytes())).collect();
    pairs.measure(
        named,
        |bencher| {
            bencher.iter_batched(|| leaves.clone(), |leaves| Tree::new(leaves).unwrap(), BatchSize::LargeInput);
        },
        |bencher| {
            bencher.iter(|| {
                for n in 0..LEAVES {
                    let mut node = [0; NODE_BYTES];
                    node[..8].copy_from_slice(&n.to_be_bytes());
                    black_box(keccak256(black_box(node)));
                }
            });
        },
    );
}
