//! Tracing set-up and the metrics recorder.
//!
//! The crate knows no metric by name: whoever records a histogram says which buckets it has.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod recorder;
mod tracing_setup;

pub use recorder::{Recorder, RecorderError, UPKEEP_EVERY};
pub use tracing_setup::{Format, TracingError, init_tracing};
