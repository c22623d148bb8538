//! A reading, before and after it has its place in the device's sequence.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::{Claim, DeviceId};

/// Bytes of a payload on their way into the journal: those of a usual code without memory of their own.
pub type Payload = SmallVec<[u8; 24]>;

/// A decoded, accepted payload that has no sequence number yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// When the device saw the code, unix milliseconds; the gateway's receive time where the device sends none.
    pub observed_at_ms: u64,
    /// What is stored, and what the digest covers.
    pub payload: Payload,
    /// The device's own message id (JSON `id`), by which a repeat is known.
    pub message_id: Option<String>,
    /// The device's own number and signature, where it signs (`signed`).
    pub claim: Option<Claim>,
}

/// A reading in its device's sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Who read it.
    pub device: DeviceId,
    /// Which key generation of the device; starts at 1.
    pub epoch: u32,
    /// 1, 2, 3 … without a hole, across epochs.
    pub sequence: u64,
    /// Unix milliseconds.
    pub observed_at_ms: u64,
    /// The stored payload.
    pub payload: Vec<u8>,
}
