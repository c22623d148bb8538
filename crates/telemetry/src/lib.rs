//! Tracing set-up, the metrics recorder, and traces to a collector.
//!
//! The crate knows no metric by name: whoever records a histogram says which buckets it has.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod config;
pub mod otlp;
mod recorder;
mod tracing_setup;

pub use config::Config;
pub use recorder::{Recorder, RecorderError, UPKEEP_EVERY};
pub use tracing_setup::{Format, TracingError, init_tracing};
