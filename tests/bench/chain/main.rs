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
mod rig;
mod standstill;
mod throughput;

use std::{
    env,
    time::{Duration, Instant},
};

use article::Reference;
use rig::Rig;
use throughput::Shape;
use windlass_tests::{Figure, Figures, rpc, until};

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
        throughput::run(run, Shape { name: "anchor", settlement: "anchor", devices: 500, rate: 20.0, target: "" });
    }),
    // A little above 20,000 readings per second: the rate is counted to the last acknowledgement.
    ("peak", |run| {
        throughput::run(
            run,
            Shape { name: "peak", settlement: "anchor", devices: 1_100, rate: 20.0, target: "; target: 20,000/s" },
        );
    }),
    ("batch", |run| {
        throughput::run(run, Shape { name: "batch", settlement: "batch", devices: 100, rate: 10.0, target: "" });
    }),
    ("direct", |run| {
        throughput::run(run, Shape { name: "direct", settlement: "direct", devices: 1_000, rate: 0.1, target: "" });
    }),
    // Many connections, and 2,000 readings per second over all of them.
    ("fleet", |run| {
        throughput::run(
            run,
            Shape {
                name: "fleet",
                settlement: "anchor",
                devices: 15_000,
                rate: 2_000.0 / 15_000.0,
                target: "; target: at most 400 MiB",
            },
        );
    }),
    ("restart", |run| restart(&mut run.figures)),
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
            scenario(&mut run);
            run.figures.write(env!("CARGO_TARGET_TMPDIR"));
        }
    }
}

/// A gateway that is started with 100,000 unsettled readings.
fn restart(figures: &mut Figures) {
    const UNSETTLED: usize = 100_000;
    println!("\nrestart with {UNSETTLED} unsettled readings after kill -9");
    let mut rig = Rig::new("anchor", 500);
    rig.site.start_node();
    rig.site.deploy();
    // Nothing is included while the readings come.
    rpc(rig.site.rpc, "evm_setIntervalMining", serde_json::json!([0])).unwrap();
    rig.site.start();
    rig.site.until_ready();
    let summary = rig.load(20.0, Duration::from_secs(10)).wait(|| ());
    assert!(summary.accepted >= UNSETTLED, "{} readings", summary.accepted);
    rig.site.kill();
    rpc(rig.site.rpc, "evm_setIntervalMining", serde_json::json!([1])).unwrap();
    let begun = Instant::now();
    rig.site.start();
    let live = begun.elapsed();
    println!("live after {:.2} s", live.as_secs_f64());
    until("something is settled", || (rig.settled() > 0.0).then_some(()));
    let settling = begun.elapsed();
    println!("settling again after {:.2} s", settling.as_secs_f64());
    until("all is settled", || (rig.unsettled() == 0.0).then_some(()));
    let mined = begun.elapsed();
    println!("all {} mined after {:.2} s", summary.accepted, mined.as_secs_f64());
    figures.under(format!("{} unsettled readings, kill -9", summary.accepted));
    for (what, took) in [("live", live), ("settling again", settling), ("all mined", mined)] {
        figures.add(Figure::lower(format!("restart: {what}"), "s", took.as_secs_f64()));
    }
}
