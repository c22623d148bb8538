//! The stories' harness: real binary, real node, raw MQTT, and an audit of journal against chain.
//!
//! Everything runs on free loopback ports in a directory of its own, so stories can run side by side.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "test support: a failed expectation is a failed test"
)]

mod audit;
mod certificates;
mod contradiction;
mod devices;
mod figures;
mod mqtt;
mod page;
mod pool;
mod program;
mod prometheus;
mod random;
mod signing;
mod site;
mod soak;
mod strace;
mod web;

pub use audit::assert_consistent;
pub use certificates::{Authority, certificates};
pub use contradiction::contradiction;
pub use devices::{Load, exact, stubborn};
pub use figures::{Figure, Figures, Limit, is_trial, measured_for};
pub use mqtt::{Client, Protocol};
pub use page::write_block;
pub use pool::{Fault, Moment, Of, Pool};
pub use program::{Program, anvil, cpu, node_modules, resident_kib, scanner, windlass};
pub use prometheus::{Prometheus, Seen};
pub use random::Random;
pub use signing::{Held, SigningDevice};
pub use site::{SECRET, SUBMITTER, Site, free_ports, until};
pub use soak::{Blow, DEEPEST_REORG, blows, is_flat};
pub use strace::Strace;
pub use web::{call, get, rpc};
