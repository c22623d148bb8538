//! The MQTT front: listeners, sessions, identity, access control and limits before rumqttd's router.
//!
//! A publish is handed to an [`Intake`] and acknowledged only when the intake has answered that it is on disk.
//! rumqttd sees clean packets of subscribers only; nothing that a client sent reaches it unchecked, and readings flow
//! without it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

// The fuzz targets of tests/fuzz name this crate so, also within its own tests.
#[cfg(test)]
extern crate self as windlass_broker;

mod acks;
mod acl;
mod broker;
mod canary;
mod checks;
mod config;
mod connection;
mod error;
mod front;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod guard;
mod handshake;
mod identity;
mod intake;
mod mailbox;
mod metrics;
mod outbox;
mod porch;
mod router;
mod secret;
mod session;
mod sessions;
mod socket;
mod store;
mod transport;
mod verdicts;
mod wire;

pub use acl::is_filter;
pub use broker::{Broker, Certificates};
pub use canary::RouterHealth;
pub use config::{Config, Limits, Listener};
pub use error::Error;
pub use identity::{Identities, Identity, User};
pub use intake::{Intake, Offer, Publish, Qos, Refusal, Refused, Step, Verdict};
pub use metrics::describe;
pub use outbox::Outbox;
pub use secret::{InvalidSecret, SecretHash};
pub use store::{NotStored, SessionStore, Stored};
pub use transport::{ClientAuth, Tls, TlsError};
pub use verdicts::Replies;
