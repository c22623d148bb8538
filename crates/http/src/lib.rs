//! The HTTP surface: metrics, health, the JSON API with live events, and the web page.
//!
//! The crate knows routes, limits and answers; what it shows comes from a [`Source`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod access;
mod answer;
mod config;
mod metrics;
mod routes;
pub mod rows;
mod server;
mod source;

pub use config::{Config, Role, Token};
pub use metrics::describe;
pub use routes::description;
pub use server::{Error, Handle, Server};
pub use source::{Event, Filter, Health, Order, Page, Reason, Source, SourceError};
