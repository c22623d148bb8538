//! Where the time of a reading goes: processor time by thread, system calls, allocations. `make profile`
//!
//! strace counts the system calls and perf the calls of the allocator, each in a phase of its own, because they slow down
//! what they look at; where perf cannot set probes, allocations are not counted.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Output},
    thread,
    time::Duration,
};

use windlass_tests::windlass;

use crate::rig::Rig;

const DEVICES: usize = 500;
/// Readings per second of all devices together.
const RATES: [f64; 2] = [2_000.0, 20_000.0];
/// Until the load is steady.
const WARM_UP: Duration = Duration::from_secs(8);
const PLAIN: Duration = Duration::from_secs(15);
const TRACED: &str = "5";
/// All of it, and some time for the tools to begin and to end.
const LOAD: Duration = Duration::from_secs(50);
/// Those of `/proc/PID/task/TID/stat`, in microseconds.
const TICK_US: f64 = 10_000.0;
/// System calls that are told: the most frequent.
const TOLD: usize = 10;
/// The allocator's ways in, and how perf names them.
const ALLOCATES: [&str; 3] = ["mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned"];

pub(crate) fn run() {
    for rate in RATES {
        profile(rate);
    }
}

fn profile(rate: f64) {
    println!("\nprofile: {DEVICES} anchor devices, {rate} readings/s in all, 1-second blocks");
    let mut rig = Rig::new("anchor", DEVICES);
    rig.site.start_node();
    rig.site.deploy();
    rig.site.start();
    rig.site.until_ready();
    let load = rig.load(rate / DEVICES as f64, LOAD);
    thread::sleep(WARM_UP);
    let pid = rig.site.gateway.as_ref().unwrap().id();
    by_thread(&rig, pid);
    system_calls(&rig, pid);
    allocations(&rig, pid);
    load.wait(|| ());
}

fn accepted(rig: &Rig) -> f64 {
    rig.site.metric("windlass_readings_accepted_total{settlement=\"anchor\"}")
}

/// Microseconds of processor time by thread name: in the program, in the kernel.
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

fn by_thread(rig: &Rig, pid: u32) {
    let (readings, before) = (accepted(rig), times(pid));
    thread::sleep(PLAIN);
    let (readings, after) = (accepted(rig) - readings, times(pid));
    let mut rows: Vec<(String, f64, f64)> = after
        .into_iter()
        .map(|(name, (user, kernel))| {
            let (user_before, kernel_before) = before.get(&name).copied().unwrap_or_default();
            (name, (user - user_before) / readings, (kernel - kernel_before) / readings)
        })
        .filter(|(_, user, kernel)| user + kernel >= 0.05)
        .collect();
    rows.sort_by(|a, b| (b.1 + b.2).total_cmp(&(a.1 + a.2)));
    println!(
        "{readings:.0} readings in {} s\n{:<24}{:>10}{:>10}",
        PLAIN.as_secs(),
        "us a reading",
        "program",
        "kernel"
    );
    let mut sum = (0.0, 0.0);
    for (name, user, kernel) in rows {
        println!("{name:<24}{user:>10.2}{kernel:>10.2}");
        sum = (sum.0 + user, sum.1 + kernel);
    }
    println!("{:<24}{:>10.2}{:>10.2}", "all", sum.0, sum.1);
}

fn system_calls(rig: &Rig, pid: u32) {
    let before = accepted(rig);
    let output = shell(&format!("timeout -s INT {TRACED} strace -c -f -q -p {pid} -o /dev/stderr"));
    let readings = accepted(rig) - before;
    let table = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut calls: Vec<(String, f64)> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() >= 5 && words.last() != Some(&"total"))
        .filter_map(|words| Some((words.last()?.to_string(), words[3].parse::<f64>().ok()?)))
        .collect();
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = calls.iter().map(|(_, count)| count).sum();
    println!("system calls a reading: {:.2} (of {readings:.0} readings under strace)", total / readings);
    for (name, count) in calls.iter().take(TOLD) {
        println!("{name:<24}{:>10.3}", count / readings);
    }
}

fn allocations(rig: &Rig, pid: u32) {
    let program = windlass().display().to_string();
    let probes: Vec<String> = ALLOCATES.iter().map(|symbol| format!("--add '{symbol}={symbol}'")).collect();
    let added = shell(&format!("perf probe -q -x {program} {}", probes.join(" ")));
    if !added.status.success() {
        println!("allocations: not counted, perf cannot set probes here");
        return;
    }
    let before = accepted(rig);
    let output = shell(&format!("perf stat -x, -e 'probe_windlass:*' -p {pid} -- sleep {TRACED}"));
    let readings = accepted(rig) - before;
    drop(shell("perf probe -q --del 'probe_windlass:*'"));
    let table = String::from_utf8_lossy(&output.stderr).into_owned();
    let counts = table.lines().filter_map(|line| line.split(',').next()?.parse::<f64>().ok());
    println!("allocations a reading: {:.1} (of {readings:.0} readings)", counts.sum::<f64>() / readings);
}

fn shell(line: &str) -> Output {
    Command::new("bash").args(["-c", line]).output().unwrap()
}
