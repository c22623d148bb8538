//! What the broker does beside mosquitto and stock rumqttd, on this machine and in this run. `make bench-broker`
//!
//! Every figure of Windlass is with an fsync of the journal before each acknowledgement; the other two keep messages in
//! memory. Broker and load share the machine. It prints, and writes its figures for `tools/bench.py`, which judges them; a run
//! in which a broker lost a connection or an acknowledgement has none, and fails. Arguments choose scenarios.
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
use windlass_tests::Figures;

/// A name and what it measures.
type Scenario = (&'static str, fn(&Runtime, &mut Figures));

const SCENARIOS: [Scenario; 5] = [
    ("throughput", |runtime, figures| runtime.block_on(throughput::run(figures))),
    ("latency", |runtime, figures| runtime.block_on(latency::run(figures))),
    ("idle", |runtime, figures| runtime.block_on(crowd::idle(figures))),
    ("reconnect", |runtime, figures| runtime.block_on(crowd::reconnect(figures))),
    ("hostile", |runtime, figures| runtime.block_on(hostile::run(figures))),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [peer, port] = arguments.as_slice()
        && peer == "rumqttd"
    {
        peers::run_rumqttd(port.parse().unwrap());
    }
    for name in &arguments {
        assert!(SCENARIOS.iter().any(|(known, _)| known == name), "no scenario {name:?}");
    }
    let (runtime, mut figures) = (runtime(), Figures::new("broker"));
    for (name, run) in SCENARIOS {
        if arguments.is_empty() || arguments.iter().any(|wanted| wanted == name) {
            figures.measured_by(format!("make bench-broker ARGS={name}"));
            run(&runtime, &mut figures);
            figures.write(env!("CARGO_TARGET_TMPDIR"));
        }
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
