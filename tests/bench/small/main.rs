//! The small steps of a reading's way, each beside the least that such a step could be. `make bench AREAS=small`
//!
//! criterion measures and prints; the medians go into the table of all figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench: a failed expectation is a failed run"
)]

mod hashes;
mod journal;
mod pair;
mod payload;
mod signatures;

use std::{path::Path, time::Duration};

use alloy::primitives::Address;
use criterion::Criterion;
use pair::Pairs;
use windlass_reading::{DeviceId, Domain, Reading};

fn main() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let criterion = Criterion::default()
        .output_directory(&target.join("criterion"))
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(50)
        .configure_from_args();
    let mut pairs = Pairs::new(criterion, target.join("criterion"));
    journal::commits(&mut pairs);
    signatures::run(&mut pairs);
    hashes::run(&mut pairs);
    payload::run(&mut pairs);
    // `cargo test --all-targets` goes through each of them once and measures nothing.
    if std::env::args().any(|argument| argument == "--bench") {
        pairs.figures().write(env!("CARGO_TARGET_TMPDIR"));
    }
}

fn domain() -> Domain {
    Domain::new(31_337, Address::repeat_byte(0xcc))
}

/// A device's reading with this number: 13 digits.
fn reading(sequence: u64) -> Reading {
    Reading {
        device: DeviceId::new("dock-7").unwrap(),
        epoch: 1,
        sequence,
        observed_at_ms: 1_700_000_000_000 + sequence,
        payload: format!("{:013}", 4_006_381_000_000 + sequence).into_bytes(),
    }
}
