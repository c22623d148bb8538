//! Where the time of a reading goes: processor time by stage, system calls, allocations. `make profile`
//!
//! Every thread of the gateway belongs to one stage, which its name tells. strace counts the system calls and perf the
//! calls of the allocator, each in a phase of its own, because they slow down what they look at; where perf cannot set
//! probes, allocations are not counted. The table goes to `docs/performance.md`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    process::{Command, Output},
    thread,
    time::Duration,
};

use windlass_tests::{is_trial, measured_for, windlass, write_block};

use crate::rig::Rig;

const DEVICES: usize = 500;
/// Readings per second of all devices together.
const RATES: [f64; 2] = [2_000.0, 20_000.0];
/// Until the load is steady.
const WARM_UP: Duration = Duration::from_secs(8);
const PLAIN: Duration = Duration::from_secs(15);
const TRACED: &str = "5";
/// Warming up and what is traced, and some time for the tools to begin and to end.
const BESIDE_PLAIN: Duration = Duration::from_secs(35);
/// Those of `/proc/PID/task/TID/stat`, in microseconds.
const TICK_US: f64 = 10_000.0;
/// System calls that are told: the most frequent.
const TOLD: usize = 10;
/// The allocator's ways in, and how perf names them.
const ALLOCATES: [&str; 3] = ["mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned"];

/// How the names of a stage's threads begin, and what the stage is.
const STAGES: [(&[&str], &str); 4] = [
    (&["mqtt", "router"], "broker: connections, their sessions, handshakes"),
    (&["actix-rt"], "device actors: checked, decoded, numbered, signed"),
    (&["journal"], "journal: its one writer"),
    (&["chain"], "chain: batches, leaves, trees, transactions, finality, and what they read of the journal"),
];
const REST: &str = "the rest: start, upkeep, HTTP";

/// What a reading takes at one rate.
struct Profile {
    rate: f64,
    /// Microseconds in the program and in the kernel, by stage.
    stages: BTreeMap<&'static str, (f64, f64)>,
    /// System calls, the most frequent first.
    calls: Vec<(String, f64)>,
    allocations: Option<f64>,
}

pub(crate) fn run() {
    let table = table(&RATES.map(profile));
    println!("\n{table}");
    if is_trial() {
        println!("a trial: docs/performance.md stays as it is");
    } else {
        write_block("performance.md", "profile", &table);
    }
}

fn profile(rate: f64) -> Profile {
    println!("\nprofile: {DEVICES} anchor devices, {rate} readings/s in all, 1-second blocks");
    let mut rig = Rig::new("anchor", DEVICES);
    rig.site.start_node();
    rig.site.deploy();
    rig.site.start();
    rig.site.until_ready();
    let load = rig.load(rate / DEVICES as f64, measured_for(PLAIN) + BESIDE_PLAIN);
    thread::sleep(WARM_UP);
    let pid = rig.site.gateway.as_ref().unwrap().id();
    let stages = by_stage(&rig, pid);
    let calls = system_calls(&rig, pid);
    let allocations = allocations(&rig, pid);
    load.wait(|| ());
    Profile { rate, stages, calls, allocations }
}

/// Columns are the rates.
fn table(profiles: &[Profile]) -> String {
    let mut text = String::new();
    let mut row = |name: &str, cell: &dyn Fn(&Profile) -> String| {
        let cells: Vec<String> = profiles.iter().map(cell).collect();
        writeln!(text, "| {name} | {} |", cells.join(" | ")).unwrap();
    };
    row("microseconds a reading: program, kernel", &|p| format!("{:.0} readings/s", p.rate));
    row("---", &|_| "---".to_owned());
    let times = |(user, kernel): (f64, f64)| format!("{user:.1}, {kernel:.1}");
    for stage in STAGES.iter().map(|(_, stage)| *stage).chain([REST]) {
        row(stage, &|p| times(p.stages.get(stage).copied().unwrap_or_default()));
    }
    row("all", &|p| times(p.stages.values().fold((0.0, 0.0), |sum, stage| (sum.0 + stage.0, sum.1 + stage.1))));
    row("system calls a reading", &|p| format!("{:.1}", p.calls.iter().map(|(_, count)| count).sum::<f64>()));
    row("of them, the most frequent", &|p| {
        let told: Vec<String> = p.calls.iter().take(TOLD).map(|(name, count)| format!("`{name}` {count:.1}")).collect();
        told.join(", ")
    });
    row("allocations a reading", &|p| p.allocations.map_or("not counted".to_owned(), |count| format!("{count:.1}")));
    text
}

fn accepted(rig: &Rig) -> f64 {
    rig.site.metric("windlass_readings_accepted_total{settlement=\"anchor\"}")
}

fn stage(thread: &str) -> &'static str {
    STAGES.iter().find(|(names, _)| names.iter().any(|name| thread.starts_with(name))).map_or(REST, |(_, stage)| stage)
}

/// Microseconds of processor time by thread: in the program, in the kernel.
fn times(pid: u32) -> BTreeMap<String, (f64, f64)> {
    let mut times: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // A thread may end between the two.
        let Ok(stat) = fs::read_to_string(task.unwrap().path().join("stat")) else { continue };
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |at: usize| fields[at].parse::<f64>().unwrap() * TICK_US;
        let sum = times.entry(name.to_owned()).or_default();
        sum.0 += number(11);
        sum.1 += number(12);
    }
    times
}

fn by_stage(rig: &Rig, pid: u32) -> BTreeMap<&'static str, (f64, f64)> {
    let (readings, before) = (accepted(rig), times(pid));
    thread::sleep(measured_for(PLAIN));
    let (readings, after) = (accepted(rig) - readings, times(pid));
    println!("{readings:.0} readings\n{:<18}{:>10}{:>10}  stage", "us a reading", "program", "kernel");
    let mut stages: BTreeMap<&'static str, (f64, f64)> = BTreeMap::new();
    for (name, (user, kernel)) in after {
        let (user_before, kernel_before) = before.get(&name).copied().unwrap_or_default();
        let (user, kernel) = ((user - user_before) / readings, (kernel - kernel_before) / readings);
        println!("{name:<18}{user:>10.2}{kernel:>10.2}  {}", stage(&name));
        let sum = stages.entry(stage(&name)).or_default();
        *sum = (sum.0 + user, sum.1 + kernel);
    }
    stages
}

/// Calls a reading by name, the most frequent first.
fn system_calls(rig: &Rig, pid: u32) -> Vec<(String, f64)> {
    let before = accepted(rig);
    let output = shell(&format!("timeout -s INT {TRACED} strace -c -f -q -p {pid} -o /dev/stderr"));
    let readings = accepted(rig) - before;
    let table = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut calls: Vec<(String, f64)> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() >= 5 && words.last() != Some(&"total"))
        .filter_map(|words| Some((words.last()?.to_string(), words[3].parse::<f64>().ok()? / readings)))
        .collect();
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("system calls: of {readings:.0} readings under strace");
    calls
}

/// Calls of the allocator a reading.
fn allocations(rig: &Rig, pid: u32) -> Option<f64> {
    let program = windlass().display().to_string();
    let probes: Vec<String> = ALLOCATES.iter().map(|symbol| format!("--add '{symbol}={symbol}'")).collect();
    let added = shell(&format!("perf probe -q -x {program} {}", probes.join(" ")));
    if !added.status.success() {
        println!("allocations: not counted, perf cannot set probes here");
        return None;
    }
    let before = accepted(rig);
    let output = shell(&format!("perf stat -x, -e 'probe_windlass:*' -p {pid} -- sleep {TRACED}"));
    let readings = accepted(rig) - before;
    drop(shell("perf probe -q --del 'probe_windlass:*'"));
    let table = String::from_utf8_lossy(&output.stderr).into_owned();
    let counts = table.lines().filter_map(|line| line.split(',').next()?.parse::<f64>().ok());
    println!("allocations: of {readings:.0} readings under perf");
    Some(counts.sum::<f64>() / readings)
}

fn shell(line: &str) -> Output {
    Command::new("bash").args(["-c", line]).output().unwrap()
}
