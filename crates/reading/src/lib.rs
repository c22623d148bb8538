//! What a device reading is: identifiers, payload formats, signing digests and Merkle leaves.
//!
//! Everything here is a pure function of its input: no clock, no I/O, no runtime. The same rules therefore
//! hold in the broker, in the proof verifier and in a simulated scanner.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod device_id;
mod digest;
mod format;
mod gtin;
mod key;
mod leaf;
mod packing;
mod reading;
mod reject;
mod settlement;
mod signed;

pub use device_id::{DeviceId, InvalidDeviceId};
pub use digest::{Domain, Reading as SignedReading, Run};
pub use format::{Decoded, Format, parse_rfc3339_ms};
pub use gtin::{check_digit, is_gtin};
pub use key::{InvalidKey, PublicKey};
pub use leaf::{Leaves, leaf, leaf_tag};
pub use packing::{PackingError, pack_run, unpack_run, unpack_single};
pub use reading::{Draft, Payload, Reading};
pub use reject::Reject;
pub use settlement::Settlement;
pub use signed::Claim;
