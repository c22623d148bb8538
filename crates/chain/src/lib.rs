//! The way from the journal onto the chain: batches, nonces, fees and finality.
//!
//! Everything that leaves is in the journal first, with its nonce, hash and bytes. A start loads what is open and
//! then does what every tick does, so recovery runs the same code as the normal path.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod actor;
mod anchor;
mod batch;
mod config;
mod error;
mod errors;
mod fees;
mod finality;
mod keys;
mod lane;
mod metrics;
mod node;
mod nonce;
mod precompile;
mod signer;
mod standing;
mod worker;

pub use actor::{ChainActor, Drain, Obey, Reload};
pub use anchor::{Anchor, ranges};
pub use config::{Config, Confirmations, Key, Limits, Treasury, Wei};

pub use error::Error;
pub use errors::{Outcome, Rejection, read as read_send_error};
pub use fees::Fees;
pub use keys::submitters;
pub use lane::Signatory;
pub use metrics::describe;
pub use node::{BlockId, Nodes};
pub use signer::{RemoteSigner, SubmitterKey};
pub use standing::{LaneStanding, Problem, Settled, Stage, Standing};
pub use worker::{ContractSource, Deployment, Observer, Order, Setup, Worker};
