//! The log against the definition itself, against published vectors, and against a liar.

use alloy::primitives::{B256, b256, hex, keccak256};
use proptest::prelude::*;

use super::*;

/// The definition of RFC 6962, section 2.1, word for word and without a thought for time.
fn naive(leaves: &[Vec<u8>]) -> B256 {
    match leaves {
        [] => empty_root(),
        [one] => leaf_hash(one),
        more => {
            let mut k = 1;
            while k * 2 < more.len() {
                k *= 2;
            }
            node_hash(naive(&more[..k]), naive(&more[k..]))
        }
    }
}

fn leaves(count: u64) -> Vec<Vec<u8>> {
    (0..count).map(|i| keccak256(i.to_be_bytes()).to_vec()).collect()
}

fn grown(leaves: &[Vec<u8>]) -> (Frontier, Levels) {
    let (mut frontier, mut levels) = (Frontier::default(), Levels::default());
    for leaf in leaves {
        frontier.append(leaf);
        levels.append(leaf);
    }
    (frontier, levels)
}

/// Leaves and roots of the reference implementation's tests.
/// Source: certificate-transparency project, `merkle_tree_test` (`test_vector_hashes`, `test_vector_roots`).
const REFERENCE: [(&str, B256); 8] = [
    ("", b256!("6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d")),
    ("00", b256!("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125")),
    ("10", b256!("aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77")),
    ("2021", b256!("d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7")),
    ("3031", b256!("4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4")),
    ("40414243", b256!("76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef")),
    ("5051525354555657", b256!("ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c")),
    ("606162636465666768696a6b6c6d6e6f", b256!("5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328")),
];

/// The reference implementation's consistency proofs between two sizes of the same log.
const CONSISTENCY: [(u64, u64, &[B256]); 3] = [
    (
        1,
        8,
        &[
            b256!("96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"),
            b256!("5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"),
            b256!("6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"),
        ],
    ),
    (
        6,
        8,
        &[
            b256!("0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"),
            b256!("ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"),
            b256!("d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
        ],
    ),
    (
        2,
        5,
        &[
            b256!("5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"),
            b256!("bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"),
        ],
    ),
];

#[test]
fn the_published_vectors_hold() {
    let (mut frontier, mut levels) = (Frontier::default(), Levels::default());
    assert_eq!(frontier.root(), b256!("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    for (leaf, expected) in REFERENCE {
        let data = hex::decode(leaf).unwrap();
        frontier.append(&data);
        levels.append(&data);
        assert_eq!(frontier.root(), expected);
        assert_eq!(root(&levels, frontier.size()), Some(expected));
    }
    for (first, second, proof) in CONSISTENCY {
        assert_eq!(consistency(&levels, first, second).unwrap(), proof, "{first} to {second}");
        let roots = [first, second].map(|size| REFERENCE[size as usize - 1].1);
        assert!(verify_consistency(first, roots[0], second, roots[1], proof));
    }
}

#[test]
fn every_proof_of_every_small_log_verifies_and_is_for_nothing_else() {
    let all = leaves(40);
    let (_, levels) = grown(&all);
    let roots: Vec<B256> = (0..=all.len()).map(|size| naive(&all[..size])).collect();
    for second in 0..=40u64 {
        for first in 0..=second {
            let proof = consistency(&levels, first, second).unwrap();
            let verifies =
                |a: u64, b: u64, proof: &[B256]| verify_consistency(a, roots[a as usize], b, roots[b as usize], proof);
            assert!(verifies(first, second, &proof), "{first} to {second}");
            if first > 0 && first < second {
                let other = B256::repeat_byte(9);
                assert!(!verify_consistency(first, other, second, roots[second as usize], &proof));
                assert!(!verify_consistency(first, roots[first as usize], second, other, &proof));
                assert!(!verifies(first, second, &proof[..proof.len() - 1]), "{first} to {second}, cut");
                assert!(!verifies(first, second, &[proof.as_slice(), &[other]].concat()), "longer");
                assert!(!verify_consistency(second, roots[second as usize], first, roots[first as usize], &proof));
            }
        }
        for index in 0..second {
            let (leaf, of) = (leaf_hash(&all[index as usize]), roots[second as usize]);
            let proof = inclusion(&levels, index, second).unwrap();
            assert!(verify_inclusion(leaf, index, second, &proof, of), "{index} of {second}");
            assert!(!verify_inclusion(leaf_hash(b"other"), index, second, &proof, of));
            assert!(!verify_inclusion(leaf, (index + 1) % second, second, &proof, of) || second == 1);
            assert!(!verify_inclusion(leaf, index, second, &[proof.as_slice(), &[of]].concat(), of));
            if !proof.is_empty() {
                assert!(!verify_inclusion(leaf, index, second, &proof[1..], of));
            }
        }
        assert_eq!(inclusion(&levels, second, second), None);
    }
    assert_eq!(consistency(&levels, 3, 2), None);
    assert_eq!(consistency(&levels, 3, 41), None, "more than there is");
}

#[test]
fn what_a_frontier_goes_on_with_proves_everything_from_there_on() {
    let all = leaves(70);
    let (_, whole) = grown(&all);
    for from in 0..=70u64 {
        let (edge, _) = grown(&all[..from as usize]);
        let mut later = Levels::after(&edge);
        all[from as usize..].iter().for_each(|leaf| later.append(leaf));
        assert_eq!((later.size(), root(&later, 70)), (70, root(&whole, 70)), "{from}");
        for second in from..=70 {
            assert_eq!(consistency(&later, from, second), consistency(&whole, from, second), "{from} to {second}");
        }
    }
}

#[test]
fn a_frontier_with_too_few_or_broken_roots_is_refused() {
    let (frontier, _) = grown(&leaves(11));
    let bytes = frontier.to_bytes();
    assert_eq!(bytes.len(), 3 * 32);
    assert_eq!(Frontier::from_bytes(11, &bytes), Ok(frontier));
    assert_eq!(Frontier::from_bytes(12, &bytes), Err(BadFrontier { size: 12, bytes: 96 }));
    assert!(Frontier::from_bytes(11, &bytes[..95]).is_err());
    assert_eq!(Frontier::from_bytes(0, &[]), Ok(Frontier::default()));
}

proptest! {
    #[test]
    fn a_log_grows_as_the_definition_says(count in 0u64..200, cut in 0u64..200) {
        let all = leaves(count);
        let cut = cut.min(count);
        let (frontier, levels) = grown(&all);
        prop_assert_eq!(frontier.root(), naive(&all));
        prop_assert_eq!(root(&levels, count), Some(naive(&all)));
        prop_assert_eq!(root(&levels, cut), Some(naive(&all[..cut as usize])));
        // Stored, taken up again and grown on, it is the same.
        let (early, _) = grown(&all[..cut as usize]);
        let mut again = Frontier::from_bytes(cut, &early.to_bytes()).unwrap();
        all[cut as usize..].iter().for_each(|leaf| again.append(leaf));
        prop_assert_eq!(again, frontier);
    }

    #[test]
    fn a_changed_leaf_is_found_by_every_later_consistency_proof(count in 2u64..120, at in 0u64..120, from in 1u64..120) {
        let (at, first) = (at % count, 1 + from % (count - 1));
        prop_assume!(at < first);
        let honest = leaves(count);
        let mut forged = honest.clone();
        forged[at as usize] = b"forged".to_vec();
        let (frontier, levels) = grown(&forged);
        let proof = consistency(&levels, first, count).unwrap();
        prop_assert!(!verify_consistency(first, naive(&honest[..first as usize]), count, frontier.root(), &proof));
    }

    #[test]
    fn no_made_up_proof_verifies(
        first in 0u64..70, second in 0u64..70, index in 0u64..70, proof in prop::collection::vec(any::<[u8; 32]>(), 0..9)
    ) {
        let proof: Vec<B256> = proof.into_iter().map(B256::new).collect();
        let all = leaves(70);
        let (old, new) = (naive(&all[..first as usize]), naive(&all[..second as usize]));
        let right = grown(&all).1;
        if !proof.is_empty() || consistency(&right, first, second).is_none_or(|p| !p.is_empty()) {
            prop_assert!(!verify_consistency(first, old, second, new, &proof));
        }
        prop_assert!(!verify_inclusion(B256::repeat_byte(7), index, second, &proof, new));
    }
}
