//! The Merkle leaf of a reading, as OpenZeppelin's `StandardMerkleTree` makes it: ABI-encoded, hashed twice.

use alloy::{
    primitives::{B256, b256, keccak256},
    sol_types::SolValue,
};

use crate::{DeviceId, Domain, Reading};

/// keccak256 of "windlass.reading.v1".
const TAG: B256 = b256!("c2467abb05aa4b7388a78209f80246f61bbd975c30844a8a3dd1bf4b07fb50a7");

/// The first word of every leaf; no other tree's leaf can be taken for a reading.
pub fn leaf_tag() -> B256 {
    TAG
}

/// The leaf of `reading`, whose EIP-712 digest is `digest`.
///
/// Six words and a double hash: an inner node (two words, one hash) can never pass as a reading.
/// Source: OpenZeppelin `@openzeppelin/merkle-tree`, `standardLeafHash`.
pub fn leaf(reading: &Reading, digest: B256) -> B256 {
    leaf_of(reading.device.hash(), reading, digest)
}

fn leaf_of(device: B256, reading: &Reading, digest: B256) -> B256 {
    let words = (leaf_tag(), device, reading.epoch, reading.sequence, reading.observed_at_ms, digest);
    keccak256(keccak256(words.abi_encode()))
}

/// Makes the leaves of many readings. Consecutive ones of a device share its hash: two hashes of nine less.
#[derive(Debug)]
pub struct Leaves<'a> {
    domain: &'a Domain,
    last: Option<(DeviceId, B256)>,
}

impl<'a> Leaves<'a> {
    /// Of readings for this chain and contract.
    pub fn new(domain: &'a Domain) -> Self {
        Self { domain, last: None }
    }

    /// The reading's leaf.
    pub fn leaf(&mut self, reading: &Reading) -> B256 {
        let device = match &self.last {
            Some((device, hash)) if *device == reading.device => *hash,
            _ => {
                let hash = reading.device.hash();
                self.last = Some((reading.device.clone(), hash));
                hash
            }
        };
        leaf_of(device, reading, self.domain.reading_of(device, reading))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_is_the_hash_of_its_name() {
        assert_eq!(leaf_tag(), keccak256("windlass.reading.v1"));
    }

    #[test]
    fn many_leaves_are_those_of_each() {
        let domain = Domain::new(1, alloy::primitives::Address::repeat_byte(1));
        let reading = |device: &str, sequence| Reading {
            device: DeviceId::new(device).unwrap(),
            epoch: 1,
            sequence,
            observed_at_ms: 5,
            payload: b"7".to_vec(),
        };
        let mut leaves = Leaves::new(&domain);
        for reading in [reading("a", 1), reading("a", 2), reading("b", 1), reading("a", 3)] {
            assert_eq!(leaves.leaf(&reading), leaf(&reading, domain.reading(&reading)));
        }
    }
}
