//! EIP-712 digests: what a device signs.

use alloy::{
    primitives::{Address, B256, U256},
    sol,
    sol_types::{Eip712Domain, SolStruct},
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

/// The EIP-712 domain: which chain and which contract a signature is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(Eip712Domain);

impl Domain {
    /// The domain `{ name "Windlass", version "1", chainId, verifyingContract }`.
    pub fn new(chain_id: u64, contract: Address) -> Self {
        Self(Eip712Domain::new(
            Some("Windlass".into()),
            Some("1".into()),
            Some(U256::from(chain_id)),
            Some(contract),
            None,
        ))
    }

    /// The digest of one reading: what a device-held key signs, and what the Merkle leaf carries.
    pub fn reading(&self, reading: &crate::Reading) -> B256 {
        Reading {
            device: reading.device.hash(),
            epoch: reading.epoch,
            sequence: reading.sequence,
            observedAt: reading.observed_at_ms,
            payload: reading.payload.clone().into(),
        }
        .eip712_signing_hash(&self.0)
    }

    /// The digest of a reading as it is submitted.
    pub fn signed(&self, reading: &Reading) -> B256 {
        reading.eip712_signing_hash(&self.0)
    }

    /// The digest of a run: what a custodial device key signs once for each batch.
    pub fn run(&self, run: &Run) -> B256 {
        run.eip712_signing_hash(&self.0)
    }
}
