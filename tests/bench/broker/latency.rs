//! How long a reading waits for its acknowledgement at a steady rate.

use std::{
    fs::File,
    io::{Seek, Write},
    time::{Duration, Instant},
};

use windlass_tests::{Figure, Figures, measured_for};

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

pub async fn run(figures: &mut Figures) {
    let measured = measured_for(MEASURED);
    println!("\nAcknowledgement latency at 2,000 readings/s over {CLIENTS} clients, QoS 1, {measured:?}");
    heading();
    let mosquitto = steady(&Peer::mosquitto(), measured).await;
    let windlass = steady(&Peer::windlass(CLIENTS, "", ""), measured).await;
    figures.under(format!("2,000 readings/s over {CLIENTS} clients, QoS 1, {measured:?}"));
    for (name, quantile) in [("ack p50 at 2,000/s", 0.5), ("ack p99 at 2,000/s", 0.99)] {
        let figure = Figure::lower(name, "ms", windlass.millis(quantile));
        figures.add(figure.beside("mosquitto", mosquitto.millis(quantile)));
    }
    let (p50, p99) = fdatasync();
    figures.under(format!("{SYNCS} times"));
    figures.add(Figure::lower("the disk's fdatasync of 4 KiB, p50", "ms", p50));
    figures.add(Figure::lower("the disk's fdatasync of 4 KiB, p99", "ms", p99));
    println!("{:<34}{:>10}{:>10.2}{:>10.2}", "fdatasync of 4 KiB, this disk", "", p50, p99);
}

async fn steady(peer: &Peer, measured: Duration) -> Outcome {
    let streams = load::connect_all(peer.address, 0, CLIENTS, 50).await;
    let outcome = load::publish(streams, 0, PACE, WARM_UP, measured).await;
    print(peer.name, &outcome);
    peer.assert_whole(&outcome);
    outcome
}

pub fn heading() {
    println!("{:<34}{:>10}{:>10}{:>10}{:>10}", "", "acks/s", "p50 ms", "p99 ms", "max ms");
}

pub fn print(name: &str, outcome: &Outcome) {
    println!(
        "{name:<34}{:>10.0}{:>10.2}{:>10.2}{:>10.1}",
        outcome.per_second(),
        outcome.millis(0.5),
        outcome.millis(0.99),
        outcome.millis(1.0)
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
