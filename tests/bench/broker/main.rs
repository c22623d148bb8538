//! What the broker does beside mosquitto and stock rumqttd, on this machine and in this run. `make bench-broker`
//!
//! Every figure of Windlass is with an fsync of the journal before each acknowledgement; the other two keep messages in
//! memory. Broker and load share the machine. Nothing here passes or fails: it prints. Arguments choose scenarios.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "a program for people"
)]

mod crowd;
mod hostile;
mod latency;
mod load;
mod peers;
mod throughput;

use std::{future::Future, thread};

use tokio::runtime::{Builder, Runtime};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [peer, port] = arguments.as_slice()
        && peer == "rumqttd"
    {
        peers::run_rumqttd(port.parse().unwrap());
    }
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|a| a == name);
    let runtime = runtime();
    if wanted("throughput") {
        runtime.block_on(throughput::run());
    }
    if wanted("latency") {
        runtime.block_on(latency::run());
    }
    if wanted("idle") {
        runtime.block_on(crowd::idle());
    }
    if wanted("reconnect") {
        runtime.block_on(crowd::reconnect());
    }
    if wanted("hostile") {
        runtime.block_on(hostile::run());
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a load on a thread of its own, so that it does not hold up whoever measures.
fn beside<T: Send + 'static, F: Future<Output = T>>(
    load: impl FnOnce() -> F + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || runtime().block_on(load()))
}
