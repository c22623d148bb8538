//! A changed config is taken into the running gateway: devices, secrets, certificates. A bad one changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, process::Command};

use windlass_tests::{Client, Protocol, SECRET, Site, assert_consistent, certificates, until};

fn connects(site: &Site, id: &str) -> Option<u8> {
    Client::connect(site.mqtt, Protocol::V5, id, Some((id, SECRET))).1
}

#[test]
fn devices_come_and_go_without_a_restart_and_others_do_not_notice() {
    let site = Site::ready(&[("a-1", "anchor", "digits"), ("a-2", "batch", "digits")]);
    let (mut stays, _) = Client::connect(site.mqtt, Protocol::V5, "a-1", Some(("a-1", SECRET)));
    let (mut goes, _) = Client::connect(site.mqtt, Protocol::V5, "a-2", Some(("a-2", SECRET)));
    assert_eq!(goes.publish_and_wait("devices/a-2/readings", b"2", 1, false), Some(0));
    // The file is noticed without a signal. The new device takes the removed one's place in it.
    site.edit_config("id = \"a-2\"", "id = \"a-3\"");
    site.edit_config("custodial = 1", "custodial = 9");
    assert_eq!(goes.read().map(|(first, body)| (first, body[0])), Some((0xE0, 0x98)), "revoked sessions are told");
    assert_eq!(connects(&site, "a-2"), Some(0x86));
    let (mut comes, code) = Client::connect(site.mqtt, Protocol::V5, "a-3", Some(("a-3", SECRET)));
    assert_eq!(code, Some(0));
    assert_eq!(comes.publish_and_wait("devices/a-3/readings", b"3", 1, false), Some(0));
    assert_eq!(stays.publish_and_wait("devices/a-1/readings", b"1", 1, false), Some(0));
    // The removed device's last reading is signed and settled all the same, the new device's after its registration.
    site.until_final(3);
    assert_eq!(site.metric("windlass_reloads_total{outcome=\"done\"}"), 1.0);
    assert_consistent(&site, &[("a-1", "1"), ("a-2", "2"), ("a-3", "3")].map(|(d, v)| (d.into(), v.into())));
}

#[test]
fn a_bad_file_keeps_the_old_state_and_raises_an_alarm() {
    let site = Site::ready(&[("a-1", "anchor", "digits")]);
    let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, "a-1", Some(("a-1", SECRET)));
    assert_eq!(client.publish_and_wait("devices/a-1/readings", b"1", 1, false), Some(0));
    let refused = |count: f64| {
        site.hangup();
        until("the reload is refused", || {
            let (found, stale) =
                (site.metric("windlass_reloads_total{outcome=\"refused\"}"), site.metric("windlass_config_stale"));
            (found >= count && stale == 1.0).then_some(())
        });
    };
    // No TOML; then a settlement that this device's readings forbid.
    let good = fs::read_to_string(site.path("windlass.toml")).unwrap();
    site.edit_config("[[devices]]", "[[devices");
    refused(1.0);
    fs::write(site.path("windlass.toml"), good.replace("\"anchor\"", "\"batch\"")).unwrap();
    refused(2.0);
    assert_eq!(client.publish_and_wait("devices/a-1/readings", b"2", 2, false), Some(0));
    assert_eq!(connects(&site, "a-1"), Some(0));
    fs::write(site.path("windlass.toml"), good).unwrap();
    site.hangup();
    until("the alarm ends", || (site.metric("windlass_config_stale") == 0.0).then_some(()));
    site.until_final(2);
    assert_consistent(&site, &["1", "2"].map(|v| ("a-1".into(), v.into())));
}

/// mosquitto_pub over TLS; with the client certificate instead of a secret.
fn publishes(site: &Site, authority: &str, code: &str) -> bool {
    let path = |name: &str| site.path(name).display().to_string();
    let output = Command::new("mosquitto_pub")
        .args(["-h", "localhost", "-p", &site.mqtt.to_string(), "-V", "mqttv5", "-q", "1", "-i", "m-1"])
        .args(["--cafile", &path(authority), "--cert", &path("m-1.pem"), "--key", &path("m-1.key")])
        .args(["-t", "devices/m-1/readings", "-m", code])
        .output()
        .expect("mosquitto_pub is missing: run make tools");
    output.status.success()
}

#[test]
fn mosquitto_comes_with_a_client_certificate_and_renewed_certificates_are_served() {
    let mut site = Site::new(&[("m-1", "anchor", "digits")]);
    certificates(&site, &["server", "m-1"]);
    let listener = format!("listen = \"127.0.0.1:{}\"\n", site.mqtt);
    let tls = "tls = { certificate = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\" }\n";
    site.edit_config(&listener, &format!("{listener}{tls}"));
    site.start_node();
    site.deploy();
    assert!(site.command(&["check"]).status.success(), "{:?}", site.command(&["check"]));
    site.start();
    assert!(publishes(&site, "ca.pem", "1"));
    fs::copy(site.path("ca.pem"), site.path("old-ca.pem")).unwrap();
    certificates(&site, &["server", "m-1"]);
    until("the new certificates are served", || publishes(&site, "ca.pem", "2").then_some(()));
    assert!(!publishes(&site, "old-ca.pem", "3"));
    fs::remove_file(site.path("server.key")).unwrap();
    until("the missing key is noticed", || (site.metric("windlass_config_stale") == 1.0).then_some(()));
    assert!(publishes(&site, "ca.pem", "3"), "what was loaded goes on");
    let check = site.command(&["check"]);
    assert_eq!(check.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&check.stdout).contains("server.key"), "{check:?}");
    site.until_final(3);
    assert_consistent(&site, &["1", "2", "3"].map(|v| ("m-1".into(), v.into())));
}
