//! Acknowledgements per second with a full window, each peer alone, in turn.

use std::time::Duration;

use windlass_tests::{Figure, Figures, Limit, measured_for};

use crate::{
    load::{self, Pace},
    peers::Peer,
};

/// Each peer is measured so many times, in turn; the median counts.
const ROUNDS: usize = 3;
const CLIENTS: usize = 500;
const WINDOW: u16 = 20;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(8);

/// What is asked: as many acknowledgements as mosquitto's, and twice the processor time of rumqttd's.
const RATE: (&str, Limit) = ("mosquitto", Limit::RatioAtLeast(1.0));
const COST: (&str, Limit) = ("rumqttd", Limit::RatioAtMost(2.0));

type Start = fn() -> Peer;
/// The last one is measured against the others.
const STARTS: [Start; 3] = [Peer::mosquitto, Peer::rumqttd, || Peer::windlass(CLIENTS, "in_flight = 20", "")];

/// What the rounds of one peer came to.
#[derive(Default)]
struct Rounds {
    name: &'static str,
    per_second: Vec<f64>,
    /// Processor time for each acknowledgement.
    cpu_us: Vec<f64>,
}

pub async fn run(figures: &mut Figures) {
    println!("Acknowledgements per second: {CLIENTS} clients x window {WINDOW}, QoS 1, MQTT 3.1.1, 13 digits");
    println!("{:<12}{:>12}{:>10}{:>10}{:>14}", "", "acks/s", "p50 ms", "p99 ms", "CPU us/ack");
    let mut all: [Rounds; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (start, rounds) in STARTS.iter().zip(&mut all) {
            full_window(&start(), rounds).await;
        }
    }
    figures.under(format!(
        "{CLIENTS} clients with {WINDOW} QoS 1 publishes open on each, MQTT 3.1.1, 13 digits, {:?}; median of {ROUNDS} rounds in alternation",
        measured_for(MEASURED)
    ));
    let medians = all.each_mut().map(|r| (r.name, median(&mut r.per_second), median(&mut r.cpu_us)));
    let [references @ .., (_, rate, cpu_us)] = &medians;
    for (name, other, _) in references {
        println!("ratio to {name} {:.2}", rate / other);
        let figure = Figure::higher("acknowledged, full window", "1/s", *rate).beside(*name, *other);
        figures.add(figure.asked((*name == RATE.0).then_some(RATE.1)));
    }
    for (name, _, other) in references {
        let figure = Figure::lower("processor time each, full window", "us", *cpu_us).beside(*name, *other);
        figures.add(figure.asked((*name == COST.0).then_some(COST.1)));
    }
}

async fn full_window(peer: &Peer, rounds: &mut Rounds) {
    let measured = measured_for(MEASURED);
    let streams = load::connect_all(peer.address, 0, CLIENTS, 50).await;
    let before = peer.cpu();
    let outcome = load::publish(streams, 0, Pace::Window(WINDOW), WARM_UP, measured).await;
    // The warm-up's acknowledgements are not counted, so its share of the time is taken off.
    let share = measured.as_secs_f64() / (measured + WARM_UP).as_secs_f64();
    let cpu = (peer.cpu() - before).mul_f64(share);
    let cpu_us = cpu.as_secs_f64() * 1e6 / outcome.acknowledged.max(1) as f64;
    println!(
        "{:<12}{:>12.0}{:>10.1}{:>10.1}{:>14.1}",
        peer.name,
        outcome.per_second(),
        outcome.millis(0.5),
        outcome.millis(0.99),
        cpu_us
    );
    peer.assert_whole(&outcome);
    rounds.name = peer.name;
    rounds.per_second.push(outcome.per_second());
    rounds.cpu_us.push(cpu_us);
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
