//! The disk fails under the journal: nothing of it is acknowledged, everybody is told, and it goes on by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs::OpenOptions,
    io::Write,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use windlass_tests::{Client, Load, Protocol, SECRET, Site, Strace, assert_consistent, until};

const QUOTA_EXCEEDED: u8 = 0x97;

/// Publishes until told to stop; what is refused for now is published again. Gives what was acknowledged.
fn persistent(port: u16, id: &str, stop: &AtomicBool, refused: &AtomicUsize) -> Vec<(String, String)> {
    let (mut client, code) = Client::connect(port, Protocol::V5, id, Some((id, SECRET)));
    assert_eq!(code, Some(0));
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let n = acknowledged.len() + 1;
        let payload = format!("0{n}");
        match client.publish_and_wait(&format!("devices/{id}/readings"), payload.as_bytes(), n as u16, false) {
            Some(0) => acknowledged.push((id.to_owned(), payload)),
            Some(QUOTA_EXCEEDED) => {
                refused.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("{other:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
    acknowledged
}

fn survives(call: &str, error: &str) {
    let site = Site::ready(&[("f-1", "anchor", "digits"), ("f-2", "batch", "digits")]);
    let (stop, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let port = site.mqtt;
    let acknowledged: Vec<_> = thread::scope(|scope| {
        let load = Load(&stop);
        let devices: Vec<_> = ["f-1", "f-2"].map(|id| scope.spawn(|| persistent(port, id, &stop, &refused))).into();
        thread::sleep(Duration::from_millis(500));
        let fault = Strace::failing(site.gateway.as_ref().unwrap().id(), call, error);
        site.until_unready("journal");
        let before = refused.load(Ordering::Relaxed);
        until("devices are told", || (refused.load(Ordering::Relaxed) > before + 5).then_some(()));
        assert!(site.metric("windlass_journal_commit_failures_total") > 0.0);
        drop(fault);
        site.until_ready();
        thread::sleep(Duration::from_millis(500));
        drop(load);
        devices.into_iter().flat_map(|d| d.join().unwrap()).collect()
    });
    site.until_final(acknowledged.len());
    assert_consistent(&site, &acknowledged);
    let output = site.command(&["fsck", "--rpc", "config"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_full_disk_is_survived() {
    survives("pwrite64", "ENOSPC");
}

#[test]
fn a_read_only_disk_is_survived() {
    survives("pwrite64", "EROFS");
}

#[test]
fn a_failing_fsync_is_survived() {
    survives("fdatasync,fsync", "EIO");
}

#[test]
fn a_page_that_was_torn_by_the_crash_costs_nothing_that_was_acknowledged() {
    let mut site = Site::ready(&[("f-1", "anchor", "digits")]);
    let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, "f-1", Some(("f-1", SECRET)));
    let kept: Vec<_> = (1..=20u16)
        .map(|n| {
            assert_eq!(client.publish_and_wait("devices/f-1/readings", format!("{n}").as_bytes(), n, false), Some(0));
            ("f-1".to_owned(), n.to_string())
        })
        .collect();
    site.kill();
    // A commit that was being written: the beginning of a frame, and a whole one whose checksum is not its own.
    let mut log = OpenOptions::new().append(true).open(site.path("data/journal.sqlite-wal")).unwrap();
    log.write_all(&[0x5A; 24 + 4_096]).unwrap();
    log.write_all(&[0xA5; 1_000]).unwrap();
    drop(log);
    site.start();
    site.until_final(kept.len());
    assert_consistent(&site, &kept);
    assert!(site.command(&["fsck", "--rpc", "config"]).status.success());
}
