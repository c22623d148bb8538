//! A device is who it says it is, and publishes as nobody else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use windlass_tests::{Client, Protocol, SECRET, Site, assert_consistent, until};

#[test]
fn wrong_credentials_are_refused_and_counted_and_disturb_nobody() {
    let site = Site::ready(&[("a-1", "anchor", "digits"), ("a-2", "anchor", "digits")]);
    let (mut neighbour, code) = Client::connect(site.mqtt, Protocol::V5, "a-2", Some(("a-2", SECRET)));
    assert_eq!(code, Some(0));
    for (id, credentials, v3, v5) in [
        ("ghost", Some(("ghost", SECRET)), 4, 0x86),
        ("a-1", Some(("a-1", "wrong")), 4, 0x86),
        ("a-1", Some(("a-1", "")), 4, 0x86),
        ("a-1", None, 5, 0x87),
        ("a-2", Some(("a-1", SECRET)), 2, 0x85),
    ] {
        assert_eq!(Client::connect(site.mqtt, Protocol::V311, id, credentials).1, Some(v3), "{id} {credentials:?}");
        assert_eq!(Client::connect(site.mqtt, Protocol::V5, id, credentials).1, Some(v5), "{id} {credentials:?}");
    }
    assert_eq!(site.metric("windlass_connects_total{outcome=\"bad_credentials\"}"), 6.0);
    assert_eq!(site.metric("windlass_connects_total{outcome=\"not_authorized\"}"), 2.0);
    assert_eq!(site.metric("windlass_connects_total{outcome=\"bad_client_id\"}"), 2.0);
    assert_eq!(neighbour.publish_and_wait("devices/a-2/readings", b"7", 1, false), Some(0));
    site.until_final(1);
    assert_consistent(&site, &[("a-2".into(), "7".into())]);
}

#[test]
fn a_foreign_topic_stores_no_reading_and_is_kept_in_quarantine() {
    let site = Site::ready(&[("a-1", "anchor", "digits"), ("a-2", "anchor", "digits")]);
    let foreign = ["devices/a-2/readings", "$SYS/x", "devices/a-1/receipts", "a-1"];
    let (mut five, _) = Client::connect(site.mqtt, Protocol::V5, "a-1", Some(("a-1", SECRET)));
    for topic in foreign {
        assert_eq!(five.publish_and_wait(topic, b"1", 5, false), Some(0x87), "{topic}");
    }
    assert_eq!(five.publish_and_wait("devices/a-1/readings", b"1", 6, false), Some(0), "the session goes on");
    five.disconnect();
    for topic in foreign {
        let (mut three, _) = Client::connect(site.mqtt, Protocol::V311, "a-1", Some(("a-1", SECRET)));
        assert_eq!(three.publish_and_wait(topic, b"1", 5, false), None, "{topic}: 3.1.1 is closed");
    }
    // A topic with a wildcard is malformed in both protocols.
    for protocol in [Protocol::V311, Protocol::V5] {
        let (mut client, _) = Client::connect(site.mqtt, protocol, "a-1", Some(("a-1", SECRET)));
        assert_eq!(client.publish_and_wait("devices/+/readings", b"1", 5, false), None);
    }
    let rows = until("quarantine", || Some(site.rows(&["quarantine", "list"])).filter(|r| r.len() == 8));
    assert!(rows.iter().all(|r| r["reason"] == "foreign_topic" && r["device"] == "a-1"), "{rows:?}");
    assert_eq!(site.metric("windlass_readings_rejected_total{reason=\"foreign_topic\"}"), 8.0);
    site.until_final(1);
    assert_consistent(&site, &[("a-1".into(), "1".into())]);
}

#[test]
fn a_device_subscribes_to_its_own_topics_only() {
    let site = Site::ready(&[("a-1", "anchor", "digits")]);
    let (mut five, _) = Client::connect(site.mqtt, Protocol::V5, "a-1", Some(("a-1", SECRET)));
    assert_eq!(five.subscribe("devices/a-1/receipts"), Some(1));
    assert_eq!(five.subscribe("devices/a-2/receipts"), Some(0x87));
    assert_eq!(five.subscribe("#"), Some(0x87));
    assert_eq!(five.publish_and_wait("devices/a-1/readings", b"5", 1, false), Some(0));
    let states: Vec<String> = (0..3)
        .map(|_| serde_json::from_slice::<serde_json::Value>(&five.message().unwrap().1).unwrap()["state"].to_string())
        .collect();
    assert_eq!(states, ["\"accepted\"", "\"mined\"", "\"final\""]);
    five.disconnect();
    let (mut three, _) = Client::connect(site.mqtt, Protocol::V311, "a-1", Some(("a-1", SECRET)));
    assert_eq!(three.subscribe("devices/a-2/receipts"), Some(0x80));
    assert_eq!(three.subscribe("devices/a-1/errors"), Some(1));
    assert_eq!(three.publish_and_wait("devices/a-1/readings", b"abc", 1, false), Some(0));
    let (topic, payload) = three.message().unwrap();
    assert_eq!(topic, "devices/a-1/errors");
    assert!(String::from_utf8(payload).unwrap().contains("bad_character"));
    assert_consistent(&site, &[("a-1".into(), "5".into())]);
}
