//! How long a reading waits for its acknowledgement at a steady rate.

use std::{
    fs::File,
    io::{Seek, Write},
    time::{Duration, Instant},
};

use crate::{
    load::{self, Outcome, Pace},
    peers::Peer,
};

pub const CLIENTS: usize = 500;
/// 2,000 readings per second over all clients.
pub const PACE: Pace = Pace::Every(Duration::from_millis(250));
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);
/// Writes of one page, each followed by an fdatasync.
const SYNCS: usize = 300;

pub async fn run() {
    println!("\nAcknowledgement latency at 2,000 readings/s over {CLIENTS} clients, QoS 1, {MEASURED:?}");
    heading();
    for start in [Peer::mosquitto, || Peer::windlass(CLIENTS, "", "")] {
        let peer = start();
        let streams = load::connect_all(peer.address, 0, CLIENTS, 50).await;
        print(peer.name, &load::publish(streams, 0, PACE, WARM_UP, MEASURED).await);
    }
    let (p50, p99) = fdatasync();
    println!("{:<34}{:>10}{:>10.2}{:>10.2}", "fdatasync of 4 KiB, this disk", "", p50, p99);
}

pub fn heading() {
    println!("{:<34}{:>10}{:>10}{:>10}{:>10}", "", "acks/s", "p50 ms", "p99 ms", "max ms");
}

pub fn print(name: &str, outcome: &Outcome) {
    println!(
        "{name:<34}{:>10.0}{:>10.2}{:>10.2}{:>10.1}{}",
        outcome.per_second(),
        outcome.millis(0.5),
        outcome.millis(0.99),
        outcome.millis(1.0),
        if outcome.lost > 0 { format!("  {} connections LOST", outcome.lost) } else { String::new() }
    );
}

/// What the disk itself takes, in milliseconds: p50 and p99.
fn fdatasync() -> (f64, f64) {
    let mut file: File = tempfile::tempfile().unwrap();
    let mut times: Vec<f64> = (0..SYNCS)
        .map(|_| {
            file.rewind().unwrap();
            file.write_all(&[7; 4096]).unwrap();
            let before = Instant::now();
            file.sync_data().unwrap();
            before.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[SYNCS / 2], times[SYNCS * 99 / 100])
}
