//! The article's path, to the letter: digits over MQTT, `set(uint)`, `get()` returns them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use windlass_tests::{Client, Protocol, SECRET, Site, assert_consistent, until};

/// Its firmware: MQTT 3.1.1, client id 5446078, keepalive 120, clean session, QoS 0, disconnect at once.
fn scan(port: u16, credentials: Option<(&str, &str)>, digits: &str) {
    let (mut client, code) = Client::connect(port, Protocol::V311, "5446078", credentials);
    assert_eq!(code, Some(0));
    client.publish("5446078", digits.as_bytes(), 0, 0, false);
    client.disconnect();
}

#[test]
fn the_scanners_digits_are_in_get_and_keep_their_leading_zeros() {
    let site = Site::ready(&[("5446078", "direct", "digits")]);
    scan(site.mqtt, Some(("5446078", SECRET)), "0012345678905");
    until("the first is stored", || (site.readings().len() == 1).then_some(()));
    let (mut listener, code) = Client::connect(site.bare, Protocol::V311, "5446078", None);
    assert_eq!(code, Some(0));
    assert_eq!(listener.subscribe("devices/5446078/receipts"), Some(1));
    let receipt = loop {
        let (topic, payload) = listener.message().expect("a receipt");
        assert_eq!(topic, "devices/5446078/receipts");
        let receipt: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        if receipt["state"] == "final" {
            break receipt;
        }
    };
    assert_eq!(receipt["payload"], "0012345678905", "leading zeros survive in the receipt");
    assert_eq!((&receipt["device"], &receipt["sequence"]), (&"5446078".into(), &1.into()));
    listener.disconnect();

    // Without credentials, on the listener that names it.
    scan(site.bare, None, "000042");
    let rows = site.until_final(2);
    assert_eq!(rows[1]["payload"], "000042", "leading zeros survive in the journal");
    // The audit reads get() and every set() of the device's own Barcode.
    assert_consistent(&site, &[]);
}

#[test]
fn without_credentials_only_the_listed_device_comes_in_and_only_there() {
    let site = Site::ready(&[("5446078", "direct", "digits"), ("dock-7", "anchor", "digits")]);
    assert_eq!(Client::connect(site.mqtt, Protocol::V311, "5446078", None).1, Some(5));
    assert_eq!(Client::connect(site.bare, Protocol::V311, "dock-7", None).1, Some(5));
    assert_eq!(Client::connect(site.bare, Protocol::V311, "5446078", None).1, Some(0));
    assert_consistent(&site, &[]);
}
