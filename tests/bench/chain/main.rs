//! The chain side's figures: readings accepted, anchored and final against a local node with one-second blocks.
//!
//! `make bench-chain` runs all scenarios, `make bench-chain ARGS=direct` one of them. The gateway, the node and the
//! scanners are processes of their own on the same machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench: a failed expectation is a failed run"
)]

mod article;
mod curve;
mod profile;
mod restart;
mod rig;
mod standstill;
mod throughput;

use std::env;

use article::Reference;
use throughput::Shape;
use windlass_tests::Figures;

/// What the scenarios of a run leave.
struct Run {
    /// The article's loop, where it ran.
    reference: Option<Reference>,
    figures: Figures,
}

/// A name and what it runs.
type Scenario = (&'static str, fn(&mut Run));

/// The article's loop comes first: the others say their ratio to it.
const SCENARIOS: [Scenario; 8] = [
    ("article", |run| run.reference = Some(article::run())),
    ("anchor", |run| {
        throughput::run(run, Shape { name: "anchor", settlement: "anchor", devices: 500, rate: 20.0 });
    }),
    // A little above the 20,000 readings per second that are asked: the rate is counted to the last acknowledgement.
    ("peak", |run| {
        throughput::run(run, Shape { name: "peak", settlement: "anchor", devices: 1_100, rate: 20.0 });
    }),
    ("batch", |run| {
        throughput::run(run, Shape { name: "batch", settlement: "batch", devices: 100, rate: 10.0 });
    }),
    ("direct", |run| {
        throughput::run(run, Shape { name: "direct", settlement: "direct", devices: 1_000, rate: 0.1 });
    }),
    // Many connections, and 2,000 readings per second over all of them.
    ("fleet", |run| {
        let shape = Shape { name: "fleet", settlement: "anchor", devices: 15_000, rate: 2_000.0 / 15_000.0 };
        throughput::run(run, shape);
    }),
    ("restart", restart::run),
    ("standstill", |run| standstill::run(&mut run.figures)),
];

/// What runs only by its name, and leaves no figures for the table.
const ALONE: [(&str, fn()); 2] = [("profile", profile::run), ("curve", curve::run)];

fn main() {
    let wanted: Vec<String> = env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if let [name] = wanted.as_slice()
        && let Some((_, run)) = ALONE.iter().find(|(known, _)| known == name)
    {
        return run();
    }
    for name in &wanted {
        assert!(SCENARIOS.iter().any(|(known, _)| known == name), "no scenario {name:?}");
    }
    let mut run = Run { reference: None, figures: Figures::new("chain") };
    for (name, scenario) in SCENARIOS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            // The article's loop beside it, for the ratios to it.
            run.figures.measured_by(format!("make bench-chain ARGS=\"article {name}\""));
            scenario(&mut run);
            run.figures.write(env!("CARGO_TARGET_TMPDIR"));
        }
    }
}
