//! So many devices publish at a steady rate; all of it must become final.

use std::time::{Duration, Instant};

use windlass_tests::{Figure, Limit, measured_for};

use crate::{
    Run,
    article::LOOP,
    rig::{LOG, PAGES, Rig, Summary},
};

/// How long each load lasts.
const LOAD: Duration = Duration::from_secs(60);

/// What is measured that something is asked of.
const RATE: &str = "accepted and settled";
const MINED: &str = "scan to mined p99";
const JOURNAL: &str = "journal a reading";
const RESIDENT: &str = "resident, the most";

/// What is asked of a scenario's figures.
fn asked(scenario: &str, what: &str) -> Option<Limit> {
    match (scenario, what) {
        ("peak", RATE) => Some(Limit::AtLeast(20_000.0)),
        ("peak", MINED) => Some(Limit::AtMost(3.0)),
        ("anchor" | "batch" | "direct", JOURNAL) => Some(Limit::AtMost(200.0)),
        ("fleet", RESIDENT) => Some(Limit::AtMost(400.0)),
        _ => None,
    }
}

/// Who publishes, and how often.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// The scenario's.
    pub(crate) name: &'static str,
    pub(crate) settlement: &'static str,
    pub(crate) devices: usize,
    /// Readings per second of each device.
    pub(crate) rate: f64,
}

impl Shape {
    /// The journal's file keeps the room of what is open at one time. By `direct` that is much beside a reading's own share,
    /// which shows in a longer run.
    fn load(self) -> Duration {
        measured_for(if self.settlement == "direct" { 2 * LOAD } else { LOAD })
    }
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
    /// That the journal holds more than before the load, for each settled reading.
    journal_bytes: f64,
    log_mib: f64,
    /// Resident memory in MiB, each second.
    memory: Vec<f64>,
}

pub(crate) fn run(run: &mut Run, shape: Shape) {
    let Shape { name, settlement, devices, rate, .. } = shape;
    println!(
        "\n{name}: {devices} {settlement} devices x {rate:.3} readings/s for {:?}, 1-second blocks, final after 2",
        shape.load()
    );
    let outcome = measure(shape);
    print(&outcome);
    record(run, shape, &outcome);
}

fn measure(shape: Shape) -> Outcome {
    let Shape { settlement, devices, rate, .. } = shape;
    let mut rig = Rig::new(settlement, devices);
    rig.site.start_node();
    rig.site.deploy();
    rig.site.start();
    rig.site.until_ready();
    let begun = Instant::now();
    rig.until_devices_are_prepared();
    println!("devices registered and funded after {:.0} s", begun.elapsed().as_secs_f64());
    let (cpu, before, held) = (rig.cpu(), rig.settled(), rig.journal_bytes());
    let mut memory = Vec::new();
    let summary = rig.load(rate, shape.load()).wait(|| memory.push(rig.resident_mib()));
    summary.assert_whole();
    let over = Instant::now();
    rig.until_all_is_final(summary.accepted);
    let tail = over.elapsed();
    let settled = rig.settled() - before;
    let cpu_us = (rig.cpu() - cpu).as_secs_f64() * 1e6 / settled;
    let (mined, last) = rig.confirmations();
    Outcome {
        summary,
        settled,
        tail,
        cpu_us,
        gas: rig.gas_per_reading(),
        newest_gas: rig.gas_of_the_newest(),
        mined,
        last,
        journal_bytes: (rig.journal_bytes() - held) / settled,
        log_mib: rig.log_mib(),
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
        "disk: {:.1} bytes for each settled reading in the journal, and a write-ahead log of {:.0} MiB",
        outcome.journal_bytes, outcome.log_mib
    );
    println!(
        "resident memory {:.0} MiB after a third of the time, {:.0} MiB at the end, {:.0} MiB at most",
        memory[memory.len() / 3],
        memory[memory.len() - 1],
        most(memory)
    );
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn record(Run { reference, figures }: &mut Run, shape: Shape, outcome: &Outcome) {
    let Shape { name, settlement, devices, rate } = shape;
    let summary = &outcome.summary;
    let load = format!(
        "{devices} {settlement} devices, {:.0} readings/s in all, {:?}; blocks each second, final after 2",
        devices as f64 * rate,
        shape.load()
    );
    let lower =
        |what: &str, unit, value| Figure::lower(format!("{name}: {what}"), unit, value).asked(asked(name, what));
    let rate = Figure::higher(format!("{name}: {RATE}"), "1/s", summary.per_second).asked(asked(name, RATE));
    let gas = lower("gas a reading", "gas", outcome.gas);
    figures.under(&load);
    let [rate, gas] = match reference {
        Some(article) => [rate.beside(LOOP, article.per_second), gas.beside(LOOP, article.gas)],
        None => [rate, gas],
    };
    figures.add(rate);
    figures.add(gas);
    for (what, unit, value) in [
        ("processor time a reading", "us", outcome.cpu_us),
        ("ack p50", "ms", summary.p50_ms),
        ("ack p99", "ms", summary.p99_ms),
        (MINED, "s", outcome.mined[1]),
        ("scan to final p99", "s", outcome.last[1]),
        (RESIDENT, "MiB", most(&outcome.memory)),
    ] {
        figures.add(lower(what, unit, value));
    }
    figures.under(format!("{load}; {PAGES}"));
    figures.add(lower(JOURNAL, "B", outcome.journal_bytes));
    figures.under(format!("{load}; {LOG}"));
    figures.add(lower("write-ahead log", "MiB", outcome.log_mib));
}
