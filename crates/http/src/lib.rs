//! The HTTP surface: metrics, health and the JSON API.
//!
//! The crate knows routes, limits and answers; what it shows comes from a [`Source`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod answer;
mod config;
mod routes;
mod server;
mod source;

pub use config::Config;
pub use server::{Error, Handle, Server};
pub use source::{Filter, Health, Reason, Source, SourceError};
