//! So many devices publish at a steady rate; all of it must become final.

use std::time::{Duration, Instant};

use windlass_tests::{Figure, measured_for};

use crate::{
    Run,
    rig::{Rig, Summary},
};

/// How long each load lasts.
const LOAD: Duration = Duration::from_secs(60);
const MIB: f64 = 1_048_576.0;

/// Who publishes, and how often.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// The scenario's.
    pub(crate) name: &'static str,
    pub(crate) settlement: &'static str,
    pub(crate) devices: usize,
    /// Readings per second of each device.
    pub(crate) rate: f64,
    /// What it is measured against.
    pub(crate) target: &'static str,
}

/// What the load came to.
struct Outcome {
    summary: Summary,
    settled: f64,
    /// From the end of the load until the last reading was final.
    tail: Duration,
    /// For each settled reading, connecting included.
    cpu_us: f64,
    gas: f64,
    /// Used and expected, for each reading of the newest batch.
    newest_gas: [f64; 2],
    /// Seconds from scan to mined, median and 99th percentile; then to final.
    mined: [f64; 2],
    last: [f64; 2],
    journal_bytes: f64,
    log_mib: f64,
    /// Resident memory in MiB, each second.
    memory: Vec<f64>,
}

pub(crate) fn run(run: &mut Run, shape: Shape) {
    let Shape { name, settlement, devices, rate, .. } = shape;
    println!(
        "\n{name}: {devices} {settlement} devices x {rate:.3} readings/s for {:?}, 1-second blocks, final after 2",
        measured_for(LOAD)
    );
    let outcome = measure(shape);
    print(&outcome);
    record(run, shape, &outcome);
}

fn measure(Shape { settlement, devices, rate, .. }: Shape) -> Outcome {
    let mut rig = Rig::new(settlement, devices);
    rig.site.start_node();
    rig.site.deploy();
    rig.site.start();
    rig.site.until_ready();
    let begun = Instant::now();
    rig.until_devices_are_prepared();
    println!("devices registered and funded after {:.0} s", begun.elapsed().as_secs_f64());
    let (cpu, before) = (rig.cpu(), rig.settled());
    let mut memory = Vec::new();
    let summary = rig.load(rate, measured_for(LOAD)).wait(|| memory.push(rig.resident_mib()));
    let over = Instant::now();
    rig.until_all_is_final(summary.accepted);
    let tail = over.elapsed();
    let settled = rig.settled() - before;
    let cpu_us = (rig.cpu() - cpu).as_secs_f64() * 1e6 / settled;
    let (mined, last) = rig.confirmations();
    let (journal, log) = rig.disk();
    Outcome {
        summary,
        settled,
        tail,
        cpu_us,
        gas: rig.gas_per_reading(),
        newest_gas: rig.gas_of_the_newest(),
        mined,
        last,
        journal_bytes: journal as f64 / settled,
        log_mib: log as f64 / MIB,
        memory,
    }
}

fn print(outcome: &Outcome) {
    let Outcome { summary, settled, mined, last, memory, .. } = outcome;
    println!(
        "accepted {} ({:.0}/s), settled {settled}, ack p50 {:.2} ms, p99 {:.2} ms; the last is final {:.1} s after the load",
        summary.accepted,
        summary.per_second,
        summary.p50_ms,
        summary.p99_ms,
        outcome.tail.as_secs_f64()
    );
    println!("scan to mined p50 {:.2} s, p99 {:.2} s; to final p99 {:.2} s", mined[0], mined[1], last[1]);
    println!("processor time {:.1} us for each settled reading; gas for each {:.1}", outcome.cpu_us, outcome.gas);
    let [used, expected] = outcome.newest_gas;
    println!("newest batch: {used:.1} gas for each reading, {expected:.1} expected");
    println!(
        "disk: {:.0} bytes for each settled reading in the journal, and a write-ahead log of {:.0} MiB",
        outcome.journal_bytes, outcome.log_mib
    );
    println!(
        "resident memory {:.0} MiB after a third of the time, {:.0} MiB at the end",
        memory[memory.len() / 3],
        memory[memory.len() - 1]
    );
}

fn record(Run { reference, figures }: &mut Run, shape: Shape, outcome: &Outcome) {
    let Shape { name, settlement, devices, rate, target } = shape;
    let summary = &outcome.summary;
    figures.under(format!(
        "{devices} {settlement} devices, {:.0} readings/s in all, {:?}; blocks each second, final after 2{target}",
        devices as f64 * rate,
        measured_for(LOAD)
    ));
    let named = |what: &str| format!("{name}: {what}");
    let mut rate = Figure::higher(named("accepted and settled"), "1/s", summary.per_second);
    let mut gas = Figure::lower(named("gas a reading"), "gas", outcome.gas);
    if let Some(article) = reference {
        println!(
            "to the article's loop: {:.0} times the readings a second, {:.5} of the gas for each",
            summary.per_second / article.per_second,
            outcome.gas / article.gas
        );
        rate = rate.beside("the article's loop", article.per_second);
        gas = gas.beside("the article's loop", article.gas);
    }
    figures.add(rate);
    figures.add(gas);
    let memory = outcome.memory[outcome.memory.len() - 1];
    for (what, unit, value) in [
        ("processor time a reading", "us", outcome.cpu_us),
        ("ack p50", "ms", summary.p50_ms),
        ("ack p99", "ms", summary.p99_ms),
        ("scan to mined p99", "s", outcome.mined[1]),
        ("scan to final p99", "s", outcome.last[1]),
        ("journal a reading", "B", outcome.journal_bytes),
        ("resident at the end", "MiB", memory),
    ] {
        figures.add(Figure::lower(named(what), unit, value));
    }
}
