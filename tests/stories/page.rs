//! The web page, in a real browser beside a running gateway.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use windlass_tests::{Client, Load, Protocol, SECRET, Site, get};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// "operate", hashed.
const TOKEN: &str = "sha256:2c29d39181de8f853de5e48ba983a5c88612b9dbaa5ab32c7748800a0840aeb8";

/// Runs the browser's part; what it prints is printed.
fn browse(site: &Site, mode: &str, token: &str) {
    let mut command = Command::new("node");
    command.arg(Path::new(ROOT).join("tests/js/page.mjs"));
    command.env("URL", format!("http://127.0.0.1:{}/", site.http)).env("MODE", mode).env("TOKEN", token);
    command.env("NODE", format!("http://127.0.0.1:{}", site.rpc));
    // With WINDLASS_WRITE_PICTURES=1 the pictures of README and docs are taken anew.
    if std::env::var_os("WINDLASS_WRITE_PICTURES").is_some() {
        let pictures = Path::new(ROOT).join("docs/pictures");
        fs::create_dir_all(&pictures).unwrap();
        command.env("PICTURES", pictures);
    }
    let output = command.output().expect("node is missing: run make tools");
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
}

#[test]
fn a_person_sees_what_happens_and_checks_a_proof_in_the_browser() {
    let mut site = Site::new(&[("a-1", "anchor", "digits"), ("b-1", "batch", "gtin"), ("d-1", "direct", "digits")]);
    let token = format!("[[http.tokens]]\nname = \"desk\"\nrole = \"operate\"\ntoken = \"{TOKEN}\"\n[settlement]");
    site.edit_config("[settlement]", &token);
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    let publish = |device: &str, payload: &str, code: u8| {
        let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, device, Some((device, SECRET)));
        let topic = format!("devices/{device}/readings");
        assert_eq!(client.publish_and_wait(&topic, payload.as_bytes(), 1, false), Some(code));
    };
    for (device, payload) in [("a-1", "4006381333931"), ("b-1", "4006381333931"), ("d-1", "7")] {
        publish(device, payload, 0);
    }
    publish("b-1", "4006381333932", 0x99);
    site.until_final(3);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = Load(&stop);
        scope.spawn(|| {
            for number in 0u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                publish("a-1", &number.to_string(), 0);
                thread::sleep(Duration::from_millis(300));
            }
        });
        browse(&site, "visit", "operate");
        drop(load);
    });
}

#[test]
fn ten_thousand_devices_are_listed_a_page_at_a_time() {
    let mut site = Site::new(&[]);
    let mut devices = String::new();
    for number in 0..10_000 {
        let secret = site.secret_hash();
        write!(devices, "[[devices]]\nid = \"dock-{number}\"\nsecret = \"{secret}\"\nformat = \"digits\"\n").unwrap();
    }
    let config = fs::read_to_string(site.path("windlass.toml")).unwrap();
    fs::write(site.path("windlass.toml"), config.replace("[http]", "[http]\nrequests_per_second = 0") + &devices)
        .unwrap();
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    let (status, page) = get(site.http, "/api/v1/devices?limit=1000").unwrap();
    assert_eq!((status, page.matches("\"device\":\"dock-").count()), (200, 1_000));
    browse(&site, "crowd", "");
}
