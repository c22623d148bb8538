//! A gateway that is killed and started with a backlog: how soon it is there, and what its chain actor does alone, because
//! nobody publishes then.

use std::time::{Duration, Instant};

use windlass_tests::{Figure, measured_for, until};

use crate::{
    Run,
    article::LOOP,
    rig::{Rig, until_patiently},
};

/// While the node is away and the backlog grows.
const FILL: Duration = Duration::from_secs(20);

/// Whose readings it is.
#[derive(Clone, Copy)]
struct Backlog {
    settlement: &'static str,
    devices: usize,
    /// Readings per second of each device.
    rate: f64,
}

/// 400,000, 40,000 and 10,000 readings: several blocks' worth of each.
const BACKLOGS: [Backlog; 3] = [
    Backlog { settlement: "anchor", devices: 500, rate: 40.0 },
    Backlog { settlement: "batch", devices: 100, rate: 20.0 },
    Backlog { settlement: "direct", devices: 1_000, rate: 0.5 },
];

/// From the start of the process.
struct Outcome {
    readings: usize,
    live: Duration,
    settling: Duration,
    mined: Duration,
    /// Of the whole process.
    cpu: Duration,
    gas: f64,
}

pub(crate) fn run(run: &mut Run) {
    for backlog in BACKLOGS {
        let outcome = measure(backlog);
        record(run, backlog, &outcome);
    }
}

fn measure(Backlog { settlement, devices, rate }: Backlog) -> Outcome {
    println!("\nrestart after kill -9 with the readings of {devices} {settlement} devices x {rate}/s, all unsettled");
    let mut rig = Rig::new(settlement, devices);
    rig.site.start_node();
    rig.site.deploy();
    rig.site.start();
    rig.site.until_ready();
    rig.until_devices_are_prepared();
    // Nothing is sent while the readings come.
    rig.site.stop_node();
    let summary = rig.load(rate, measured_for(FILL)).wait(|| ());
    summary.assert_whole();
    rig.site.kill();
    rig.site.start_node();
    let begun = Instant::now();
    rig.site.start();
    let live = begun.elapsed();
    until("something is settled", || (rig.settled() > 0.0).then_some(()));
    let settling = begun.elapsed();
    until_patiently("all is settled", || (rig.unsettled() == 0.0).then_some(()));
    let (mined, cpu) = (begun.elapsed(), rig.cpu());
    assert_eq!(rig.settled(), summary.accepted as f64);
    Outcome { readings: summary.accepted, live, settling, mined, cpu, gas: rig.gas_per_reading() }
}

fn record(Run { reference, figures }: &mut Run, Backlog { settlement, devices, .. }: Backlog, outcome: &Outcome) {
    let Outcome { readings, gas, .. } = *outcome;
    let [live, settling, mined] = [outcome.live, outcome.settling, outcome.mined].map(|took| took.as_secs_f64());
    let (per_second, cpu_us) = (readings as f64 / mined, outcome.cpu.as_secs_f64() * 1e6 / readings as f64);
    println!("live after {live:.3} s, settling after {settling:.2} s, all {readings} mined after {mined:.2} s");
    println!("{per_second:.0} settled a second, {cpu_us:.1} us of processor time and {gas:.1} gas for each");
    figures.under(format!(
        "the chain actor alone: {readings} unsettled readings of {devices} devices after kill -9, no load; from the start of \
         the process, blocks each second"
    ));
    let named = |what: &str| format!("restart, {settlement}: {what}");
    let rate = Figure::higher(named("settled"), "1/s", per_second);
    let gas = Figure::lower(named("gas a reading"), "gas", gas);
    let [rate, gas] = match reference {
        Some(article) => [rate.beside(LOOP, article.per_second), gas.beside(LOOP, article.gas)],
        None => [rate, gas],
    };
    figures.add(rate);
    figures.add(gas);
    figures.add(Figure::lower(named("processor time a reading"), "us", cpu_us));
    for (what, seconds) in [("live", live), ("settling again", settling), ("all mined", mined)] {
        figures.add(Figure::lower(named(what), "s", seconds));
    }
}
