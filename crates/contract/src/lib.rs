//! What the contracts look like from Rust: calldata, events, creation code, and what a revert means.
//!
//! Everything comes from the committed artifacts of `contracts/`; nothing here talks to a node.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod bindings;
mod code;
mod revert;

pub use bindings::{Barcode, IWindlass, Windlass};
pub use code::{BARCODE_CREATION_CODE, WINDLASS_CREATION_CODE, is_barcode_code, is_windlass_code};
pub use revert::revert_reason;
