//! A chain that stands still: readings come on, nothing is included, and then everything is.

use std::{env, time::Duration};

use windlass_tests::{Figure, Figures, measured_for, rpc};

use crate::rig::{LOG, PAGES, Rig};

/// Readings per second of all devices together.
const RATE: f64 = 20_000.0;
const DEVICES: usize = 500;
/// Without `STANDSTILL_SECONDS`. 360 make 7,200,000 readings: an hour at 2,000 per second.
const USUAL: Duration = Duration::from_secs(60);

pub(crate) fn run(figures: &mut Figures) {
    let usual = measured_for(USUAL).as_secs();
    let seconds = env::var("STANDSTILL_SECONDS").ok().map_or(usual, |text| text.parse().expect("a number"));
    println!("\nstandstill: no block for {seconds} s at {RATE} readings/s of {DEVICES} devices");
    let mut rig = Rig::new("anchor", DEVICES);
    rig.site.start_node();
    rig.site.deploy();
    rig.site.start();
    rig.site.until_ready();
    rpc(rig.site.rpc, "evm_setIntervalMining", serde_json::json!([0])).unwrap();
    println!("{:>10} {:>12} {:>12} {:>12} {:>12}", "readings", "ack p50 ms", "ack p99 ms", "memory MiB", "journal MiB");
    let before = rig.journal_bytes();
    let (mut accepted, mut p99_ms, mut journal) = (0, 0f64, 0f64);
    for _ in 0..6 {
        let part = Duration::from_secs((seconds / 6).max(1));
        let summary = rig.load(RATE / DEVICES as f64, part).wait(|| ());
        summary.assert_whole();
        accepted += summary.accepted;
        p99_ms = p99_ms.max(summary.p99_ms);
        journal = rig.journal_bytes() - before;
        println!(
            "{accepted:>10} {:>12.2} {:>12.2} {:>12.0} {:>12.0}",
            summary.p50_ms,
            summary.p99_ms,
            rig.resident_mib(),
            journal / 1_048_576.0
        );
    }
    let begun = std::time::Instant::now();
    rpc(rig.site.rpc, "evm_setIntervalMining", serde_json::json!([1])).unwrap();
    rig.until_all_is_final(accepted);
    let (took, resident) = (begun.elapsed().as_secs_f64(), rig.resident_mib());
    println!("all final {took:.0} s after the first block, memory {resident:.0} MiB");
    let load = format!("no block for {seconds} s at {RATE} readings/s of {DEVICES} devices");
    let mut add = |conditions: &str, what: &str, unit, value| {
        figures.under(format!("{load}{conditions}"));
        figures.add(Figure::lower(format!("standstill: {what}"), unit, value));
    };
    add("", "ack p99, the worst sixth", "ms", p99_ms);
    add("", "all final after the first block", "s", took);
    add("", "resident when all is final", "MiB", resident);
    add(&format!("; none settled; {PAGES}"), "journal a reading", "B", journal / accepted as f64);
    add(&format!("; {LOG}"), "write-ahead log", "MiB", rig.log_mib());
}
