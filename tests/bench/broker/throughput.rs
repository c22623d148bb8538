//! Acknowledgements per second with a full window, each peer alone, in turn.

use std::time::Duration;

use crate::{
    load::{self, Outcome, Pace},
    peers::Peer,
};

/// Each peer is measured so many times, in turn; the median counts.
const ROUNDS: usize = 3;
const CLIENTS: usize = 500;
const WINDOW: u16 = 20;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(8);

pub async fn run() {
    println!("Acknowledgements per second: {CLIENTS} clients x window {WINDOW}, QoS 1, MQTT 3.1.1, 13 digits");
    println!("{:<12}{:>12}{:>10}{:>10}{:>14}", "", "acks/s", "p50 ms", "p99 ms", "CPU us/ack");
    type Start = fn() -> Peer;
    let starts: [Start; 3] = [Peer::mosquitto, Peer::rumqttd, || Peer::windlass(CLIENTS, "in_flight = 20", "")];
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); starts.len()];
    for _ in 0..ROUNDS {
        for (start, rates) in starts.iter().zip(&mut rates) {
            let peer = start();
            let outcome = full_window(&peer).await;
            rates.push(outcome.per_second());
        }
    }
    let medians: Vec<f64> = rates.iter_mut().map(|r| median(r)).collect();
    println!("ratio to mosquitto {:.2}, to rumqttd {:.2}", medians[2] / medians[0], medians[2] / medians[1]);
}

async fn full_window(peer: &Peer) -> Outcome {
    let streams = load::connect_all(peer.address, 0, CLIENTS, 50).await;
    let before = peer.cpu();
    let outcome = load::publish(streams, 0, Pace::Window(WINDOW), WARM_UP, MEASURED).await;
    // The warm-up's acknowledgements are not counted, so its share of the time is taken off.
    let share = MEASURED.as_secs_f64() / (MEASURED + WARM_UP).as_secs_f64();
    let cpu = (peer.cpu() - before).mul_f64(share);
    println!(
        "{:<12}{:>12.0}{:>10.1}{:>10.1}{:>14.1}{}",
        peer.name,
        outcome.per_second(),
        outcome.millis(0.5),
        outcome.millis(0.99),
        cpu.as_secs_f64() * 1e6 / outcome.acknowledged.max(1) as f64,
        if outcome.lost > 0 { format!("  {} connections LOST", outcome.lost) } else { String::new() }
    );
    if let (Some(site), true) = (peer.site(), outcome.lost > 0) {
        println!("{}", site.log());
        println!("{}", windlass_tests::get(site.http, "/metrics").unwrap().1);
    }
    outcome
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
