//! Killed at any instant, any number of times: nothing acknowledged is lost, nothing lands twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{sync::atomic::AtomicBool, thread, time::Duration};

use windlass_tests::{Client, Load, Protocol, SECRET, Site, assert_consistent, exact, stubborn};

/// Between two readings of a device.
const PAUSE: Duration = Duration::from_millis(15);

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
        let load = Load(&stop);
        let mut devices: Vec<_> = ids.iter().map(|id| scope.spawn(|| stubborn(port, id, PAUSE, &stop))).collect();
        devices.push(scope.spawn(|| exact(port, "k-exact", &stop)));
        for pause_ms in [1_500, 700, 400, 1_100, 50, 900] {
            thread::sleep(Duration::from_millis(pause_ms));
            site.kill();
            site.start();
        }
        thread::sleep(Duration::from_millis(500));
        drop(load);
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
        let load = Load(&stop);
        let devices: Vec<_> = ids.iter().map(|id| scope.spawn(|| stubborn(port, id, PAUSE, &stop))).collect();
        for _ in 0..2 {
            thread::sleep(Duration::from_millis(1_200));
            site.terminate();
            site.start();
        }
        thread::sleep(Duration::from_millis(300));
        drop(load);
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
