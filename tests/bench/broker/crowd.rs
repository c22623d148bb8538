//! Many connections: what an idle one costs, and all of them coming back at once.

use std::time::{Duration, Instant};

use crate::{
    beside,
    latency::{heading, print},
    load::{self, Pace},
    peers::Peer,
};

const IDLE: usize = 15_000;
const RETURNING: usize = 10_000;
/// Publishing all the time.
const OTHERS: usize = 200;
const PACE: Pace = Pace::Every(Duration::from_millis(100));
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(20);
/// Times that the metrics page is asked for.
const SCRAPES: usize = 100;
/// Memory settles.
const SETTLING: Duration = Duration::from_secs(5);

pub async fn idle() {
    println!("\nMemory of {IDLE} idle connections, each after one acknowledged reading");
    println!("{:<12}{:>18}{:>18}{:>18}", "", "alone MiB", "connected MiB", "KiB/connection");
    for start in [Peer::mosquitto, || Peer::windlass(IDLE, "max_connections = 16000", "")] {
        let peer = start();
        tokio::time::sleep(SETTLING).await;
        let alone = peer.resident_kib();
        let streams = load::connect_all(peer.address, 0, IDLE, 200).await;
        let streams = load::publish_one(streams, 0).await;
        tokio::time::sleep(SETTLING).await;
        let connected = peer.resident_kib();
        println!(
            "{:<12}{:>18.1}{:>18.1}{:>18.1}",
            peer.name,
            alone as f64 / 1024.0,
            connected as f64 / 1024.0,
            (connected - alone) as f64 / streams.len() as f64
        );
        if let Some(site) = peer.site() {
            scrape(site.http, streams.len());
        }
    }
}

/// How long the metrics page takes with so many connected.
fn scrape(port: u16, connected: usize) {
    let mut took: Vec<Duration> = (0..SCRAPES)
        .map(|_| {
            let from = Instant::now();
            let (status, page) = windlass_tests::get(port, "/metrics").unwrap();
            assert!(status == 200 && page.contains("windlass_connections"));
            from.elapsed()
        })
        .collect();
    took.sort();
    let ms = |place: usize| took[place].as_secs_f64() * 1_000.0;
    println!(
        "/metrics with {connected} connected: median {:.1} ms, p99 {:.1} ms",
        ms(SCRAPES / 2),
        ms(SCRAPES * 99 / 100)
    );
}

pub async fn reconnect() {
    println!(
        "\n{RETURNING} devices lose their connections and all come back at once; {OTHERS} others publish 10/s each"
    );
    heading();
    for start in [Peer::mosquitto, || Peer::windlass(RETURNING + OTHERS, "max_connections = 16000", "")] {
        storm(&start()).await;
    }
}

async fn storm(peer: &Peer) {
    let address = peer.address;
    let others = load::connect_all(address, RETURNING, OTHERS, 50).await;
    let name = |what| format!("{}: {what}", peer.name);
    print(&name("others, quiet"), &load::publish(others, RETURNING, PACE, WARM_UP, MEASURED).await);
    let streams = load::connect_all(address, 0, RETURNING, 200).await;
    let others = load::connect_all(address, RETURNING, OTHERS, 50).await;
    // They drop after the warm-up, so that all of the storm is in the figures.
    let storm = beside(move || async move {
        tokio::time::sleep(WARM_UP + Duration::from_secs(1)).await;
        drop(streams);
        let from = Instant::now();
        let back = load::connect_all(address, 0, RETURNING, RETURNING).await;
        (back.len(), from.elapsed())
    });
    let outcome = load::publish(others, RETURNING, PACE, WARM_UP, MEASURED).await;
    let (back, took) = storm.join().unwrap();
    print(&name("others in the storm"), &outcome);
    println!("{}: {back} of {RETURNING} are back after {:.1} s", peer.name, took.as_secs_f64());
}
