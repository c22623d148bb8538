//! The broker over real sockets: what is acknowledged when, who may come in, and what bad input does.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod abuse;
mod durability;
mod exactly_once;
mod harness;
mod identity;
mod lifetime;
mod limits;
mod rumqttd;
mod sessions;
mod subscribers;
mod transports;
mod users;
