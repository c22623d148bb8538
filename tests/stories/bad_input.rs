//! Bad input is answered, counted and kept, and stops nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use windlass_tests::{Client, Load, Protocol, SECRET, Site, assert_consistent, until};

const TOPIC: &str = "devices/bad-1/readings";

fn bad(site: &Site, protocol: Protocol) -> Client {
    let (client, code) = Client::connect(site.mqtt, protocol, "bad-1", Some(("bad-1", SECRET)));
    assert_eq!(code, Some(0));
    client
}

fn malformed_payloads(site: &Site) {
    let ten_to_80 = format!("1{}", "0".repeat(80));
    let payloads: [&[u8]; 6] = [b"", b"12ab", ten_to_80.as_bytes(), b"1\x002", b"\0", "٤٢".as_bytes()];
    for (protocol, code) in [(Protocol::V5, 0x99), (Protocol::V311, 0)] {
        let mut client = bad(site, protocol);
        for (payload, id) in payloads.iter().zip(1..) {
            assert_eq!(client.publish_and_wait(TOPIC, payload, id, false), Some(code), "{payload:?}");
        }
        assert_eq!(client.publish_and_wait(TOPIC, b"1", 99, false), Some(0), "the session goes on");
    }
}

fn malformed_packets(site: &Site) {
    // 5 MB in one packet.
    let mut client = bad(site, Protocol::V5);
    client.publish(TOPIC, &vec![b'1'; 5_000_000], 1, 1, false);
    assert_eq!(client.read().map(|(first, body)| (first, body.first().copied())), Some((0xE0, Some(0x95))));
    // Truncated: the length says more than comes.
    let mut client = bad(site, Protocol::V5);
    client.send(&[0x32, 50, 0, 5, b'd', b'e']);
    drop(client);
    // Impossible bits, a second CONNECT, and a packet that only servers send.
    for bytes in [&[0x36, 2, 0, 0][..], &[0x00, 0], &[0x20, 2, 0, 0], &[0x10, 0]] {
        let mut client = bad(site, Protocol::V5);
        client.send(bytes);
        assert_eq!(client.read().map(|(first, _)| first), Some(0xE0), "{bytes:?}");
        assert!(client.read().is_none(), "closed");
    }
    // No MQTT at all.
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xFF; 64], &[0x30, 3, 0, 1, b'x']] {
        let mut client = Client::open(site.mqtt, Protocol::V311).unwrap();
        client.send(bytes);
        assert!(client.read().is_none(), "{bytes:?}");
    }
}

#[test]
fn bad_input_is_kept_in_quarantine_and_a_neighbour_loses_nothing() {
    let site = Site::ready(&[("bad-1", "anchor", "digits"), ("good-1", "batch", "digits")]);
    let stop = AtomicBool::new(false);
    let acknowledged = thread::scope(|scope| {
        let load = Load(&stop);
        let neighbour = scope.spawn(|| {
            let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, "good-1", Some(("good-1", SECRET)));
            let mut acknowledged = Vec::new();
            while !stop.load(Ordering::Relaxed) || acknowledged.is_empty() {
                let n = acknowledged.len() as u16 + 1;
                let payload = n.to_string();
                let code = client.publish_and_wait("devices/good-1/readings", payload.as_bytes(), n, false);
                assert_eq!(code, Some(0), "the neighbour is unharmed");
                acknowledged.push(("good-1".to_owned(), payload));
                thread::sleep(std::time::Duration::from_millis(5));
            }
            acknowledged
        });
        malformed_payloads(&site);
        malformed_packets(&site);
        drop(load);
        neighbour.join().unwrap()
    });
    let rows = site.rows(&["quarantine", "list"]);
    let count = |reason: &str| rows.iter().filter(|r| r["reason"] == reason && r["device"] == "bad-1").count();
    assert_eq!((count("empty"), count("too_long"), count("bad_character")), (2, 2, 8), "{rows:?}");
    let rejected = |reason: &str| site.metric(&format!("windlass_readings_rejected_total{{reason=\"{reason}\"}}"));
    assert_eq!((rejected("empty"), rejected("bad_character")), (2.0, 8.0));
    assert_eq!(rejected("too_long"), 3.0, "two payloads and the packet");
    until("malformed packets are counted", || (rejected("malformed") >= 4.0).then_some(()));
    assert!(site.metric("windlass_connects_total{outcome=\"malformed\"}") >= 3.0);
    let mut all = acknowledged;
    all.extend([("bad-1".to_owned(), "1".to_owned()), ("bad-1".to_owned(), "1".to_owned())]);
    site.until_final(all.len());
    assert_consistent(&site, &all);
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_was_refused_becomes_a_reading_once_the_config_allows_it_and_only_once() {
    let site = Site::ready(&[("bad-1", "anchor", "digits")]);
    let mut client = bad(&site, Protocol::V5);
    for (payload, id) in [(&b"12ab"[..], 1), (b"34cd", 2), (b"\0", 3)] {
        assert_eq!(client.publish_and_wait(TOPIC, payload, id, false), Some(0x99));
    }
    let ids = |site: &Site| -> Vec<u64> {
        site.rows(&["quarantine", "list"]).iter().map(|row| row["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&site), [1, 2, 3]);
    let shown = site.rows(&["quarantine", "show", "1"]);
    assert_eq!((shown[0]["payload"].as_str(), shown[0]["reason"].as_str()), (Some("12ab"), Some("bad_character")));

    let again = site.command(&["quarantine", "retry", "1"]);
    assert_eq!((again.status.code(), said(&again).as_str()), (Some(1), "1 refused: refused again: bad_character\n"));
    assert_eq!(ids(&site), [1, 2, 3], "a second refusal makes no second row");

    site.edit_config("format = \"digits\"", "format = \"text\"");
    site.hangup();
    until("the reload is done", || (site.metric("windlass_reloads_total{outcome=\"done\"}") == 1.0).then_some(()));
    let all = site.command(&["quarantine", "retry", "--all", "--device", "bad-1"]);
    assert_eq!(all.status.code(), Some(1), "a NUL is no text either: {}", said(&all));
    assert!(said(&all).contains("1 done: accepted: reading 1 of device bad-1"), "{}", said(&all));
    assert_eq!(ids(&site), [3]);
    let gone = site.command(&["quarantine", "retry", "1"]);
    assert_eq!((gone.status.code(), said(&gone).as_str()), (Some(1), "1 refused: no quarantine row 1\n"));
    assert_eq!(site.command(&["quarantine", "drop", "3"]).status.code(), Some(0));
    assert_eq!(ids(&site), [0; 0]);

    let readings = site.until_final(2);
    let payloads: Vec<_> = readings.iter().map(|row| row["payload"].as_str().unwrap()).collect();
    assert_eq!(payloads, ["12ab", "34cd"]);
    let acts: Vec<_> = site.rows(&["acts"]).iter().map(|row| row["act"].to_string()).collect();
    assert_eq!(acts.iter().filter(|act| act.contains("quarantine-retry")).count(), 5, "{acts:?}");
    assert_eq!(acts.iter().filter(|act| act.contains("quarantine-drop")).count(), 1, "{acts:?}");
    let acknowledged = ["12ab", "34cd"].map(|payload| ("bad-1".to_owned(), payload.to_owned()));
    assert_consistent(&site, &acknowledged);
}
