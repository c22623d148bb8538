//! The binary's parts: config, wiring, commands. The only place where the crates meet.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod app;
pub mod command;
pub mod config;
pub mod custody;
pub mod deployment;
pub mod devices_file;
pub mod fsck;
pub mod log;
mod progress;
pub mod prove;
pub mod rows;
mod supervisor;
