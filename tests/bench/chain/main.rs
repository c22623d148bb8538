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
mod rig;
mod standstill;

use std::{
    env,
    time::{Duration, Instant},
};

use article::Reference;
use rig::Rig;
use windlass_tests::{rpc, until};

/// How long each load lasts.
const LOAD: Duration = Duration::from_secs(60);

/// A name and what it runs, which may say its ratio to the article's loop, or be that loop.
type Scenario = (&'static str, fn(&mut Option<Reference>));

fn main() {
    let wanted: Vec<String> = env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let scenarios: [Scenario; 7] = [
        ("article", |reference| *reference = Some(article::run())),
        ("anchor", |reference| throughput("anchor", 500, 20.0, *reference)),
        ("peak", |reference| throughput("anchor", 1_000, 20.0, *reference)),
        ("batch", |reference| throughput("batch", 100, 10.0, *reference)),
        ("direct", |reference| throughput("direct", 1_000, 0.1, *reference)),
        ("restart", |_| restart()),
        ("standstill", |_| standstill::run()),
    ];
    let mut reference = None;
    for name in &wanted {
        assert!(scenarios.iter().any(|(known, _)| known == name), "no scenario {name:?}");
    }
    for (name, run) in scenarios {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            run(&mut reference);
        }
    }
}

/// So many devices publish at this rate; all of it must become final.
fn throughput(settlement: &str, devices: usize, rate: f64, reference: Option<Reference>) {
    println!(
        "\n{settlement}: {devices} devices x {rate} readings/s for {} s, 1-second blocks, final after 2",
        LOAD.as_secs()
    );
    let mut rig = Rig::new(settlement, devices);
    rig.site.start_node();
    rig.site.deploy();
    rig.site.start();
    rig.site.until_ready();
    let begun = Instant::now();
    rig.until_devices_are_prepared();
    println!("devices registered and funded after {:.0} s", begun.elapsed().as_secs_f64());
    let (cpu, before) = (rig.cpu(), rig.settled());
    let load = rig.load(rate, LOAD);
    let mut memory = Vec::new();
    let summary = load.wait(|| memory.push(rig.resident_mib()));
    let over = Instant::now();
    rig.until_all_is_final(summary.accepted);
    let tail = over.elapsed();
    let settled = rig.settled() - before;
    let cpu = (rig.cpu() - cpu).as_secs_f64() * 1e6 / settled;
    let (mined, last) = rig.confirmations();
    println!(
        "accepted {} ({:.0}/s), settled {settled}, ack p50 {:.2} ms, p99 {:.2} ms; the last is final {:.1} s after the load",
        summary.accepted,
        summary.per_second,
        summary.p50_ms,
        summary.p99_ms,
        tail.as_secs_f64()
    );
    println!("scan to mined p50 {:.2} s, p99 {:.2} s; to final p99 {:.2} s", mined[0], mined[1], last[1]);
    println!("processor time {cpu:.1} us for each settled reading; gas for each {:.1}", rig.gas_per_reading());
    let [used, expected] = rig.gas_of_the_newest();
    println!("newest batch: {used:.1} gas for each reading, {expected:.1} expected");
    if let Some(Reference { per_second, gas }) = reference {
        println!(
            "to the article's loop: {:.0} times the readings a second, {:.5} of the gas for each",
            summary.per_second / per_second,
            rig.gas_per_reading() / gas
        );
    }
    let (journal, log) = rig.disk();
    println!(
        "disk: {:.0} bytes for each settled reading in the journal, and a write-ahead log of {:.0} MiB",
        journal as f64 / settled,
        log as f64 / 1_048_576.0
    );
    let third = memory.len() / 3;
    println!(
        "resident memory {:.0} MiB after a third of the time, {:.0} MiB at the end",
        memory[third],
        memory[memory.len() - 1]
    );
}

/// A gateway that is started with 100,000 unsettled readings.
fn restart() {
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
    println!("live after {:.2} s", begun.elapsed().as_secs_f64());
    until("something is settled", || (rig.settled() > 0.0).then_some(()));
    println!("settling again after {:.2} s", begun.elapsed().as_secs_f64());
    until("all is settled", || (rig.unsettled() == 0.0).then_some(()));
    println!("all {} mined after {:.2} s", summary.accepted, begun.elapsed().as_secs_f64());
}
