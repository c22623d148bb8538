//! Killed at any instant, any number of times: nothing acknowledged is lost, nothing lands twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use windlass_tests::{Client, Protocol, SECRET, Site, assert_consistent};

/// A device that never gives up: an unanswered publish is sent again with the same packet id and DUP, until it is
/// acknowledged. Gives what was acknowledged, in order.
fn stubborn(port: u16, id: &str, stop: &AtomicBool) -> Vec<(String, String)> {
    let topic = format!("devices/{id}/readings");
    let mut acknowledged = Vec::new();
    let mut client: Option<Client> = None;
    let mut sent_before = false;
    while !stop.load(Ordering::Relaxed) || sent_before {
        let Some(connected) = &mut client else {
            client = Client::open(port, Protocol::V311).and_then(|_| {
                let (client, code) = Client::connect(port, Protocol::V311, id, Some((id, SECRET)));
                (code == Some(0)).then_some(client)
            });
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        let n = acknowledged.len() as u16 + 1;
        let payload = format!("0{n}");
        match connected.publish_and_wait(&topic, payload.as_bytes(), n, sent_before) {
            Some(_) => {
                acknowledged.push((id.to_owned(), payload));
                sent_before = false;
                thread::sleep(Duration::from_millis(15));
            }
            None => {
                client = None;
                sent_before = true;
            }
        }
    }
    acknowledged
}

/// A QoS 2 device that never gives up, scans the same code again and again and uses the same packet id each time, so
/// that only PUBREL tells two readings from a repeat. Gives what was completed.
fn exact(port: u16, id: &str, stop: &AtomicBool) -> Vec<(String, String)> {
    let topic = format!("devices/{id}/readings");
    let mut completed = Vec::new();
    let mut client: Option<Client> = None;
    let (mut sent_before, mut received) = (false, false);
    while !stop.load(Ordering::Relaxed) || sent_before || received {
        let Some(connected) = &mut client else {
            client = Client::open(port, Protocol::V5).and_then(|_| {
                let (client, code) = Client::connect(port, Protocol::V5, id, Some((id, SECRET)));
                (code == Some(0)).then_some(client)
            });
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        if !received {
            match connected.publish_exactly_once(&topic, b"42", 1, sent_before) {
                Some(0) => (sent_before, received) = (false, true),
                Some(code) => panic!("{code:#x}"),
                None => (sent_before, client) = (true, None),
            }
        } else if connected.release(1).is_some() {
            completed.push((id.to_owned(), "42".to_owned()));
            received = false;
        } else {
            client = None;
        }
    }
    completed
}

#[test]
fn kill_nine_loses_nothing_and_doubles_nothing() {
    let ids = ["k-anchor", "k-batch", "k-direct"];
    let mut site = Site::ready(&[
        (ids[0], "anchor", "digits"),
        (ids[1], "batch", "digits"),
        (ids[2], "direct", "digits"),
        ("k-exact", "anchor", "digits"),
    ]);
    let stop = AtomicBool::new(false);
    let port = site.mqtt;
    let acknowledged: Vec<_> = thread::scope(|scope| {
        let mut devices: Vec<_> = ids.iter().map(|id| scope.spawn(|| stubborn(port, id, &stop))).collect();
        devices.push(scope.spawn(|| exact(port, "k-exact", &stop)));
        for pause_ms in [1_500, 700, 400, 1_100, 50, 900] {
            thread::sleep(Duration::from_millis(pause_ms));
            site.kill();
            site.start();
        }
        thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        devices.into_iter().flat_map(|d| d.join().unwrap()).collect()
    });
    assert!(acknowledged.len() > 60, "{} readings", acknowledged.len());
    // Every publish was acknowledged in the end, so the journal holds exactly those.
    site.until_final(acknowledged.len());
    assert_consistent(&site, &acknowledged);
}

#[test]
fn a_clean_stop_under_load_loses_nothing_and_a_start_settles_the_rest() {
    let ids = ["k-1", "k-2"];
    let mut site = Site::ready(&[(ids[0], "anchor", "digits"), (ids[1], "batch", "digits")]);
    let stop = AtomicBool::new(false);
    let port = site.mqtt;
    let acknowledged: Vec<_> = thread::scope(|scope| {
        let devices: Vec<_> = ids.iter().map(|id| scope.spawn(|| stubborn(port, id, &stop))).collect();
        for _ in 0..2 {
            thread::sleep(Duration::from_millis(1_200));
            site.terminate();
            site.start();
        }
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        devices.into_iter().flat_map(|d| d.join().unwrap()).collect()
    });
    assert!(site.log().contains("stopped"), "{}", site.log());
    site.until_final(acknowledged.len());
    assert_consistent(&site, &acknowledged);
}

#[test]
fn a_redelivery_after_a_restart_is_acknowledged_and_stored_once() {
    let mut site = Site::ready(&[("k-1", "anchor", "digits")]);
    let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, "k-1", Some(("k-1", SECRET)));
    assert_eq!(client.publish_and_wait("devices/k-1/readings", b"7", 3, false), Some(0));
    site.kill();
    site.start();
    let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, "k-1", Some(("k-1", SECRET)));
    assert_eq!(client.publish_and_wait("devices/k-1/readings", b"7", 3, true), Some(0));
    assert_eq!(site.readings().len(), 1, "a redelivery");
    assert_eq!(client.publish_and_wait("devices/k-1/readings", b"7", 3, false), Some(0));
    assert_eq!(site.readings().len(), 2, "the same code scanned again");
    site.until_final(2);
    assert_consistent(&site, &[("k-1".into(), "7".into()), ("k-1".into(), "7".into())]);
}
