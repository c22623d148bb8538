//! Many connections: what an idle one costs, and all of them coming back at once.

use std::time::{Duration, Instant};

use windlass_tests::{Figure, Figures, measured_for};

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

/// Resident memory of a broker, in KiB.
struct Resident {
    connected: f64,
    each: f64,
}

pub async fn idle(figures: &mut Figures) {
    println!("\nMemory of {IDLE} idle connections, each after one acknowledged reading");
    println!("{:<12}{:>18}{:>18}{:>18}", "", "alone MiB", "connected MiB", "KiB/connection");
    figures.under("each connection after one acknowledged reading");
    let mosquitto = crowded(&Peer::mosquitto(), figures).await;
    let windlass = crowded(&Peer::windlass(IDLE, "max_connections = 16000", ""), figures).await;
    let each = Figure::lower(format!("resident for each of {IDLE} idle connections"), "KiB", windlass.each);
    figures.add(each.beside("mosquitto", mosquitto.each));
    let mib = |kib: f64| kib / 1_024.0;
    let whole = Figure::lower(format!("resident with {IDLE} idle connections"), "MiB", mib(windlass.connected));
    figures.add(whole.beside("mosquitto", mib(mosquitto.connected)));
}

async fn crowded(peer: &Peer, figures: &mut Figures) -> Resident {
    tokio::time::sleep(SETTLING).await;
    let alone = peer.resident_kib() as f64;
    let streams = load::connect_all(peer.address, 0, IDLE, 200).await;
    let streams = load::publish_one(streams, 0).await;
    tokio::time::sleep(SETTLING).await;
    let connected = peer.resident_kib() as f64;
    let each = (connected - alone) / streams.len() as f64;
    println!("{:<12}{:>18.1}{:>18.1}{each:>18.1}", peer.name, alone / 1_024.0, connected / 1_024.0);
    if let Some(site) = peer.site() {
        scrape(site.http, streams.len(), figures);
    }
    Resident { connected, each }
}

/// How long the metrics page takes with so many connected.
fn scrape(port: u16, connected: usize, figures: &mut Figures) {
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
    let (median, p99) = (ms(SCRAPES / 2), ms(SCRAPES * 99 / 100));
    println!("/metrics with {connected} connected: median {median:.1} ms, p99 {p99:.1} ms");
    figures.add(Figure::lower(format!("/metrics with {connected} connected, p99"), "ms", p99));
}

/// What a storm did.
struct Storm {
    /// Until all were back.
    took: Duration,
    others_p99_ms: f64,
}

pub async fn reconnect(figures: &mut Figures) {
    println!(
        "\n{RETURNING} devices lose their connections and all come back at once; {OTHERS} others publish 10/s each"
    );
    heading();
    let mosquitto = storm(&Peer::mosquitto()).await;
    let windlass = storm(&Peer::windlass(RETURNING + OTHERS, "max_connections = 16000", "")).await;
    figures.under(format!("{OTHERS} others publish 10/s each, {:?}", measured_for(MEASURED)));
    let p99 = Figure::lower(format!("others' ack p99 while {RETURNING} come back"), "ms", windlass.others_p99_ms);
    figures.add(p99.beside("mosquitto", mosquitto.others_p99_ms));
    let took = Figure::lower(format!("{RETURNING} come back at once: all are back"), "s", windlass.took.as_secs_f64());
    figures.add(took.beside("mosquitto", mosquitto.took.as_secs_f64()));
}

async fn storm(peer: &Peer) -> Storm {
    let (address, measured) = (peer.address, measured_for(MEASURED));
    let others = load::connect_all(address, RETURNING, OTHERS, 50).await;
    let name = |what| format!("{}: {what}", peer.name);
    let quiet = load::publish(others, RETURNING, PACE, WARM_UP, measured).await;
    print(&name("others, quiet"), &quiet);
    peer.assert_whole(&quiet);
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
    let outcome = load::publish(others, RETURNING, PACE, WARM_UP, measured).await;
    let (back, took) = storm.join().unwrap();
    print(&name("others in the storm"), &outcome);
    peer.assert_whole(&outcome);
    println!("{}: {back} of {RETURNING} are back after {:.1} s", peer.name, took.as_secs_f64());
    Storm { took, others_p99_ms: outcome.millis(0.99) }
}
