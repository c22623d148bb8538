//! How the cost grows with devices and with their rate: `make curve`
//!
//! Each point is a fresh gateway with a node of its own. Gateway, node and load tool share the machine, so saturation is
//! of the three of them. Where more is offered than they can do, readings are left unsent, and none is lost. The rows go
//! to `docs/curve.json`, out of which `tools/plots.py` makes pictures and tables.

use std::{fs, thread, time::Duration};

use serde_json::{Value, json};
use windlass_tests::{is_trial, measured_for};

use crate::rig::Rig;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/curve.json");
const LOAD: Duration = Duration::from_secs(20);
/// Memory settles.
const SETTLING: Duration = Duration::from_secs(3);
const DEVICES: [usize; 6] = [100, 300, 1_000, 3_000, 10_000, 15_000];
/// Readings per second of all devices together while their number grows.
const STEADY: f64 = 1_000.0;
/// The last ones are meant to be more than the machine can do: a ceiling is measured beyond it, not offered.
const RATES: [f64; 10] = [10.0, 100.0, 1_000.0, 5_000.0, 10_000.0, 20_000.0, 40_000.0, 60_000.0, 80_000.0, 120_000.0];
/// Devices while the rate grows.
const FEW: usize = 500;

pub(crate) fn run() {
    let heading =
        ["devices", "offered/s", "accepted/s", "p50 ms", "p99 ms", "mined s", "idle MiB", "MiB", "us", "cores"];
    println!(
        "\nthe cost curve, `anchor`, {} s each\n{}",
        measured_for(LOAD).as_secs(),
        columns(heading.map(str::to_owned))
    );
    let by_devices: Vec<Value> = DEVICES.iter().map(|devices| point(*devices, STEADY)).collect();
    let by_rate: Vec<Value> = RATES.iter().map(|rate| point(FEW, *rate)).collect();
    let cores = thread::available_parallelism().unwrap().get();
    let seconds = measured_for(LOAD).as_secs();
    let whole = json!({ "seconds": seconds, "cores": cores, "by_devices": by_devices, "by_rate": by_rate });
    if is_trial() {
        println!("a trial: docs/curve.json stays as it is");
    } else {
        fs::write(FILE, serde_json::to_string_pretty(&whole).unwrap() + "\n").unwrap();
    }
}

fn columns<const N: usize>(cells: [String; N]) -> String {
    cells.iter().map(|cell| format!("{cell:>11}")).collect()
}

fn point(devices: usize, offered: f64) -> Value {
    let mut rig = Rig::new("anchor", devices);
    rig.site.start_node();
    rig.site.deploy();
    rig.site.start();
    rig.site.until_ready();
    thread::sleep(SETTLING);
    let idle = rig.resident_mib();
    let (cpu, node, held) = (rig.cpu(), rig.site.node.as_ref().unwrap().cpu(), rig.journal_bytes());
    let mut resident = 0f64;
    let load = rig.load(offered / devices as f64, measured_for(LOAD));
    let summary = load.wait(|| resident = resident.max(rig.resident_mib()));
    assert_eq!(summary.lost, 0, "readings were sent and never acknowledged");
    rig.until_all_is_final(summary.accepted);
    let readings = summary.accepted as f64;
    let cpu_us = (rig.cpu() - cpu).as_secs_f64() * 1e6 / readings;
    let node_us = (rig.site.node.as_ref().unwrap().cpu() - node).as_secs_f64() * 1e6 / readings;
    let (mined, _) = rig.confirmations();
    let accepted = summary.per_second;
    println!(
        "{}",
        columns([
            devices.to_string(),
            format!("{offered:.0}"),
            format!("{accepted:.0}"),
            format!("{:.2}", summary.p50_ms),
            format!("{:.2}", summary.p99_ms),
            format!("{:.2}", mined[1]),
            format!("{idle:.0}"),
            format!("{resident:.0}"),
            format!("{cpu_us:.1}"),
            format!("{:.2}", cpu_us * accepted / 1e6),
        ])
    );
    json!({
        "devices": devices,
        "offered_per_second": offered,
        "accepted_per_second": accepted,
        "readings": summary.accepted,
        "lost": summary.lost,
        "unsent": summary.unsent,
        "ack_p50_ms": summary.p50_ms,
        "ack_p99_ms": summary.p99_ms,
        "mined_p99_s": mined[1],
        "idle_mib": idle,
        "resident_mib": resident,
        "cpu_us": cpu_us,
        "node_cpu_us": node_us,
        "load_cpu_us": summary.cpu.as_secs_f64() * 1e6 / readings,
        "disk_bytes": (rig.journal_bytes() - held) / readings,
        "log_mib": rig.log_mib(),
        "gas": rig.gas_per_reading(),
    })
}
