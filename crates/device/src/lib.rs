//! One actor per device: its rules, its sequence and its signing key.
//!
//! A publish enters through [`Directory::offer`], is judged by the device's rules, handed to the journal, and
//! answered only after the journal's commit. The sequence is owned by one actor, so it has no holes and no races.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod actor;
mod answers;
mod config;
mod device;
mod directory;
mod gate;
mod keys;
mod metrics;
#[cfg(test)]
mod tests;

pub use actor::{DomainSource, Ingress, Key, Listener, Outcome, SignError, Spec, Step};
pub use config::Config;
pub use directory::{Directory, Refused};
pub use keys::{Custody, InvalidMnemonic};
pub use metrics::{ACCEPTED, MAILBOX_FULL, REBUILT, REJECTED, describe, touch};
