//! `windlass device`: one command does config, credentials and registry, beside a running gateway or before one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, process::Output};

use serde_json::{Value, json};
use windlass_tests::{Client, Protocol, SECRET, SigningDevice, Site, assert_consistent, until};

/// A site whose devices are in a file of their own.
fn site() -> Site {
    let site = Site::new(&[]);
    site.edit_config("data_dir", "devices_file = \"devices.toml\"\ndata_dir");
    fs::write(site.path("devices.toml"), "# Who scans here.\n").unwrap();
    site
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn done(site: &Site, arguments: &[&str]) -> String {
    let output = site.command(&[&["device"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

fn refused(site: &Site, arguments: &[&str], why: &str) {
    let output = site.command(&[&["device"], arguments].concat());
    assert!(!output.status.success() && text(&output).contains(why), "{arguments:?}: {}", text(&output));
}

fn secret(told: &str) -> String {
    told.lines().find_map(|line| line.strip_prefix("secret ")).unwrap().to_owned()
}

fn connects(site: &Site, id: &str, secret: &str) -> Option<u8> {
    Client::connect(site.mqtt, Protocol::V5, id, Some((id, secret))).1
}

fn show(site: &Site, id: &str) -> Value {
    serde_json::from_str(done(site, &["show", id, "--json"]).trim()).unwrap()
}

fn publish(site: &Site, id: &str, secret: &str, payload: &[u8], packet_id: u16) {
    let (mut client, code) = Client::connect(site.mqtt, Protocol::V5, id, Some((id, secret)));
    assert_eq!(code, Some(0));
    let topic = format!("devices/{id}/readings");
    assert_eq!(client.publish_and_wait(&topic, payload, packet_id, false), Some(0));
    client.disconnect();
}

#[test]
fn a_device_lives_from_its_first_secret_to_its_revocation_by_commands_alone() {
    let mut site = site();
    site.start_node();
    site.deploy();
    // Before there is a gateway: the file is written, the rest follows at its start.
    let told = done(&site, &["add", "dock-1", "--format", "gtin", "--settlement", "batch"]);
    assert!(told.contains("takes effect when one starts"), "{told}");
    let first = secret(&told);
    site.start();
    site.until_ready();
    // Beside one: it knows the device, and the chain does, when the command is back.
    let told = done(&site, &["add", "dock-2", "--settlement", "batch"]);
    let second = secret(&told);
    assert!(told.contains("registered on chain"), "{told}");
    assert_eq!((connects(&site, "dock-2", &second), connects(&site, "dock-2", &first)), (Some(0), Some(0x86)));
    assert!(fs::read_to_string(site.path("devices.toml")).unwrap().starts_with("# Who scans here.\n"));
    assert!(!fs::read_to_string(site.path("devices.toml")).unwrap().contains(&second), "only its hash is kept");

    publish(&site, "dock-1", &first, b"4006381333931", 1);
    publish(&site, "dock-2", &second, b"1", 1);
    // Again is no other thing, and keeps the secret.
    assert!(done(&site, &["add", "dock-2", "--settlement", "batch"]).contains("already"));
    refused(&site, &["add", "dock-2", "--settlement", "direct"], "another settlement");
    let renewed = secret(&done(&site, &["secret", "dock-2"]));
    assert_eq!((connects(&site, "dock-2", &renewed), connects(&site, "dock-2", &second)), (Some(0), Some(0x86)));

    assert!(done(&site, &["rotate", "dock-2"]).contains("in force on chain"));
    publish(&site, "dock-2", &renewed, b"2", 2);
    let shown = show(&site, "dock-2");
    assert_eq!((&shown["epoch"], &shown["epoch_on_chain"], &shown["last_sequence"]), (&json!(2), &json!(2), &json!(2)));
    let indices: Vec<_> = shown["keys"].as_array().unwrap().iter().map(|k| k["custodial"].clone()).collect();
    assert_eq!(indices, [json!(1), json!(2)], "an index is not used twice");
    site.until_final(3);

    refused(&site, &["revoke", "dock-1"], "--yes");
    assert!(done(&site, &["revoke", "dock-1", "--yes"]).contains("the chain takes nothing more"));
    assert!(done(&site, &["revoke", "dock-1", "--yes"]).contains("the chain takes nothing more"));
    assert_eq!(connects(&site, "dock-1", &first), Some(0x86));
    refused(&site, &["rotate", "dock-1"], "revoked");
    refused(&site, &["show", "dock-9"], "neither in the config nor in the journal");
    let told = done(&site, &["add", "dock-3", "--settlement", "batch"]);
    assert_eq!(show(&site, "dock-3")["custodial"], 3, "also not the index of a key that was replaced: {told}");
    let readings = [("dock-1", "4006381333931"), ("dock-2", "1"), ("dock-2", "2")];
    assert_consistent(&site, &readings.map(|(d, p)| (d.into(), p.into())));
}

#[test]
fn a_device_that_holds_its_key_is_added_and_rotated_with_the_keys_that_it_names() {
    let mut site = site();
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    let mut device = SigningDevice::p256("s-1", 5);
    device.learn(&site);
    let key = |device: &SigningDevice| format!("{}:{}", device.public().kind(), device.public());
    let secret = secret(&done(&site, &["add", "s-1", "--settlement", "batch", "--key", &key(&device)]));
    publish(&site, "s-1", &secret, &device.envelope(1, "one"), 1);
    refused(&site, &["rotate", "s-1"], "--key");
    refused(&site, &["rotate", "s-1", "--key", "p256:0x12"], "128");
    let next = SigningDevice { epoch: 2, domain: device.domain.clone(), ..SigningDevice::secp256k1("s-1", 6) };
    done(&site, &["rotate", "s-1", "--key", &key(&next)]);
    publish(&site, "s-1", &secret, &next.envelope(2, "two"), 2);
    // A key that was replaced does not come back, and what is refused leaves no trace.
    let before = fs::read_to_string(site.path("devices.toml")).unwrap();
    refused(&site, &["rotate", "s-1", "--key", &key(&device)], "replaced before");
    assert_eq!(fs::read_to_string(site.path("devices.toml")).unwrap(), before);
    until("no alarm is left", || (site.metric("windlass_config_stale") == 0.0).then_some(()));
    site.until_final(2);
    assert_consistent(&site, &["one", "two"].map(|p| ("s-1".into(), p.into())));
}

#[test]
fn what_cannot_be_done_is_said_and_changes_nothing() {
    let site = Site::new(&[("a-1", "anchor", "digits")]);
    refused(&site, &["add", "a-2"], "put `devices_file = \"devices.toml\"` at its top");
    refused(&site, &["add", "a 2"], "a 2");
    site.edit_config("data_dir", "devices_file = \"devices.toml\"\ndata_dir");
    fs::write(site.path("devices.toml"), "").unwrap();
    refused(&site, &["add", "a-2", "--format", "morse"], "signed");
    refused(&site, &["add", "a-2", "--format", "text", "--settlement", "direct"], "direct settlement stores a number");
    refused(&site, &["rotate", "a-9"], "not in the config");
    refused(&site, &["rotate", "a-1"], "never in use");
    assert_eq!(fs::read_to_string(site.path("devices.toml")).unwrap(), "");
    assert!(done(&site, &["add", "a-2"]).contains("secret "));
    // An entry of the main file is changed there.
    done(&site, &["secret", "a-1"]);
    assert!(!fs::read_to_string(site.path("windlass.toml")).unwrap().contains(&site.secret_hash()), "{SECRET}");
}
