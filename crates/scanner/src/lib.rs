//! Simulated barcode scanners that load-test an MQTT broker.
//!
//! [`run`] drives a [`Load`] against any broker that speaks MQTT 3.1.1 or 5 and returns a [`Report`]; a
//! [`Progress`] shows the run while it lasts. The crate sees nothing of a gateway but `windlass-reading`, so
//! what it reports is what a device on the wire saw.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod codes;
mod course;
mod device;
mod faults;
mod hostile;
mod link;
mod load;
mod progress;
mod raw;
mod report;
mod run;
mod schedule;
mod signer;
pub mod tls;
mod window;

pub use codes::Codes;
pub use faults::{Fault, Hostile, Unknown};
pub use hostile::HostileCount;
pub use load::{InvalidLoad, Load, Protocol, Qos, Scanner};
pub use progress::{Progress, Snapshot};
pub use report::{Entry, Latency, Report};
pub use run::run;
pub use schedule::Pattern;
pub use signer::{InvalidKey, Key, Signer};
