//! EIP-712 digests: what a device signs.

use alloy::{
    primitives::{Address, B256, Keccak256, U256, b256, keccak256},
    sol,
    sol_types::Eip712Domain,
};

sol! {
    /// One reading, signed by a device that holds its own key. `observedAt` is unix milliseconds.
    #[derive(Debug, PartialEq, Eq)]
    struct Reading {
        bytes32 device;
        uint32 epoch;
        uint64 sequence;
        uint64 observedAt;
        bytes payload;
    }

    /// Consecutive readings of one device in one batch; `readingsHash` is keccak256 of the packed bytes.
    #[derive(Debug, PartialEq, Eq)]
    struct Run {
        bytes32 device;
        uint32 epoch;
        uint64 firstSequence;
        uint32 count;
        bytes32 readingsHash;
    }
}

/// keccak256 of the types as EIP-712 spells them; a test computes both.
const READING_TYPE: B256 = b256!("22c53614a25fda1f41f58ea2a4e13447274e55c728662f03bbc374c6507a35f0");
const RUN_TYPE: B256 = b256!("3aee0a4dd672ff83a5976ffec6fb4c02933c874cceb5a368c73a8410baf3d11a");

/// The EIP-712 domain: which chain and which contract a signature is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The same for every digest, and dearer than the digest itself.
    separator: B256,
}

impl Domain {
    /// The domain `{ name "Windlass", version "1", chainId, verifyingContract }`.
    pub fn new(chain_id: u64, contract: Address) -> Self {
        let domain = Eip712Domain::new(
            Some("Windlass".into()),
            Some("1".into()),
            Some(U256::from(chain_id)),
            Some(contract),
            None,
        );
        Self { separator: domain.separator() }
    }

    /// The digest of one reading: what a device-held key signs, and what the Merkle leaf carries.
    pub fn reading(&self, reading: &crate::Reading) -> B256 {
        self.reading_of(reading.device.hash(), reading)
    }

    /// The same with the device's hash, where that is known.
    pub(crate) fn reading_of(&self, device: B256, reading: &crate::Reading) -> B256 {
        let payload = keccak256(&reading.payload);
        self.digest(&words(
            [device, number(reading.epoch.into()), number(reading.sequence), number(reading.observed_at_ms), payload],
            READING_TYPE,
        ))
    }

    /// The digest of a reading as it is submitted.
    pub fn signed(&self, reading: &Reading) -> B256 {
        let Reading { device, epoch, sequence, observedAt, payload } = reading;
        let fields = [*device, number((*epoch).into()), number(*sequence), number(*observedAt), keccak256(payload)];
        self.digest(&words(fields, READING_TYPE))
    }

    /// The digest of a run: what a custodial device key signs once for each batch.
    pub fn run(&self, run: &Run) -> B256 {
        let Run { device, epoch, firstSequence, count, readingsHash } = run;
        let fields = [*device, number((*epoch).into()), number(*firstSequence), number((*count).into()), *readingsHash];
        self.digest(&words(fields, RUN_TYPE))
    }

    fn digest(&self, structure: &[u8]) -> B256 {
        let mut hasher = Keccak256::new();
        hasher.update([0x19, 0x01]);
        hasher.update(self.separator);
        hasher.update(keccak256(structure));
        hasher.finalize()
    }
}

/// A number as one ABI word.
fn number(value: u64) -> B256 {
    B256::from(U256::from(value))
}

/// A struct's type and fields, each one word.
fn words(fields: [B256; 5], type_hash: B256) -> Vec<u8> {
    [&[type_hash][..], &fields].concat().concat()
}

#[cfg(test)]
mod tests {
    use alloy::sol_types::SolStruct;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_types_hash_to_the_constants() {
        let reading = Reading { device: B256::ZERO, epoch: 0, sequence: 0, observedAt: 0, payload: Default::default() };
        let run = Run { device: B256::ZERO, epoch: 0, firstSequence: 0, count: 0, readingsHash: B256::ZERO };
        assert_eq!(reading.eip712_type_hash(), READING_TYPE);
        assert_eq!(run.eip712_type_hash(), RUN_TYPE);
    }

    proptest! {
        #[test]
        fn digests_are_those_of_the_library(
            epoch: u32, sequence: u64, at: u64, payload: Vec<u8>, count: u32, hash: [u8; 32], chain: u64, contract: [u8; 20],
        ) {
            let ours = Domain::new(chain, contract.into());
            let domain = Eip712Domain::new(
                Some("Windlass".into()),
                Some("1".into()),
                Some(U256::from(chain)),
                Some(contract.into()),
                None,
            );
            let device = crate::DeviceId::new("dock-7").unwrap();
            let submitted = Reading {
                device: device.hash(), epoch, sequence, observedAt: at, payload: payload.clone().into(),
            };
            let reading = crate::Reading { device, epoch, sequence, observed_at_ms: at, payload };
            prop_assert_eq!(ours.reading(&reading), submitted.eip712_signing_hash(&domain));
            prop_assert_eq!(ours.signed(&submitted), submitted.eip712_signing_hash(&domain));
            let run = Run { device: hash.into(), epoch, firstSequence: sequence, count, readingsHash: hash.into() };
            prop_assert_eq!(ours.run(&run), run.eip712_signing_hash(&domain));
        }
    }
}
