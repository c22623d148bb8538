//! The HTTP API of a running gateway: what it says of itself is true, pages have every row once, events are told live.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::Value;
use windlass_tests::{Client, Protocol, SECRET, Site, get, until};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// "operate", hashed.
const TOKEN: &str = "sha256:2c29d39181de8f853de5e48ba983a5c88612b9dbaa5ab32c7748800a0840aeb8";

fn publish(site: &Site, device: &str, payloads: &[&str]) {
    let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, device, Some((device, SECRET)));
    let topic = format!("devices/{device}/readings");
    for (payload, id) in payloads.iter().zip(1..) {
        client.publish_and_wait(&topic, payload.as_bytes(), id, false).unwrap();
    }
}

/// The answer with its `Link` header's target.
fn page(site: &Site, path: &str) -> (Vec<Value>, Option<String>) {
    let mut stream = TcpStream::connect(("127.0.0.1", site.http)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let text = std::io::read_to_string(stream).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let next =
        head.lines().find_map(|l| l.strip_prefix("link: <")?.split_once(">; rel=\"next\"").map(|l| l.0.to_owned()));
    (serde_json::from_str(body).unwrap(), next)
}

#[test]
fn pages_and_filters_give_each_row_once() {
    let site = Site::ready(&[("a-1", "anchor", "digits"), ("b-1", "batch", "digits")]);
    publish(&site, "a-1", &["1", "2", "3", "x", "4", "5"]);
    publish(&site, "b-1", &["6", "y", "7"]);
    site.until_final(7);
    for (order, first) in [("oldest", "1"), ("newest", "7")] {
        let mut next = Some(format!("/api/v1/readings?limit=2&order={order}"));
        let mut payloads = Vec::new();
        while let Some(path) = next {
            let (rows, further) = page(&site, &path);
            assert!(rows.len() <= 2);
            payloads.extend(rows.iter().map(|row| row["payload"].as_str().unwrap().to_owned()));
            next = further;
        }
        assert_eq!(payloads[0], first);
        payloads.sort();
        assert_eq!(payloads, ["1", "2", "3", "4", "5", "6", "7"], "{order}");
    }
    for (query, count) in [
        ("readings?device=b-1", 2),
        ("readings?settlement=anchor", 5),
        ("readings?state=final", 7),
        ("readings?state=accepted", 0),
        ("readings?since=99999999999999", 0),
        ("readings?until=99999999999999", 7),
        ("quarantine", 2),
        ("quarantine?device=a-1&reason=bad_character", 1),
        ("quarantine?reason=empty", 0),
        ("batches?state=final&settlement=batch&limit=1", 1),
        ("devices?settlement=batch", 1),
        ("lanes", 1),
    ] {
        assert_eq!(page(&site, &format!("/api/v1/{query}")).0.len(), count, "{query}");
    }
    let life: Value = serde_json::from_str(&get(site.http, "/api/v1/readings/a-1/5").unwrap().1).unwrap();
    assert_eq!(
        (life["reading"]["payload"].as_str(), life["transaction"]["state"].as_str()),
        (Some("5"), Some("final"))
    );
    assert_eq!(life["batch"]["tx"], life["reading"]["tx"]);
    let device = page(&site, "/api/v1/devices?device=a-1").0;
    assert_eq!((device[0]["last_sequence"].as_u64(), device[0]["registered"].as_bool()), (Some(5), Some(true)));
}

#[test]
fn events_tell_readings_batches_and_troubles_as_they_come() {
    let mut site = Site::ready(&[("a-1", "anchor", "digits")]);
    let mut stream = TcpStream::connect(("127.0.0.1", site.http)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    until("the stream is open", || lines.next().unwrap().unwrap().starts_with(": welcome").then_some(()));
    // The watcher takes a first look before it tells what is new.
    std::thread::sleep(Duration::from_millis(1_200));
    publish(&site, "a-1", &["1", "2"]);
    let mut next = || loop {
        let line = lines.next().unwrap().unwrap();
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str::<Value>(data).unwrap();
        }
    };
    let mut told = 0;
    let mut states = Vec::new();
    while told < 2 || states.last().map(String::as_str) != Some("final") {
        let event = next();
        match event["event"].as_str().unwrap() {
            "readings" => told += event["count"].as_u64().unwrap(),
            "batches" => {
                states.extend(event["rows"].as_array().unwrap().iter().map(|b| b["state"].as_str().unwrap().to_owned()))
            }
            other => panic!("{other}: {event}"),
        }
    }
    assert_eq!(told, 2);
    assert!(states.iter().any(|state| state == "mined"), "{states:?}");
    site.stop_node();
    loop {
        let event = next();
        if event["event"] == "health" {
            assert_eq!(event["reasons"][0]["code"], "no_node", "{event}");
            break;
        }
    }
    // A stop does not wait for those who listen.
    let began = std::time::Instant::now();
    site.terminate();
    println!("stopped after {:?} with a listener", began.elapsed());
}

#[test]
fn the_description_holds_for_whatever_is_asked() {
    let mut site = Site::new(&[("a-1", "anchor", "digits"), ("d-1", "direct", "digits")]);
    let tokens = format!("[[http.tokens]]\nname = \"desk\"\nrole = \"operate\"\ntoken = \"{TOKEN}\"\n[settlement]");
    site.edit_config("[settlement]", &tokens);
    site.edit_config("[http]", "[http]\nrequests_per_second = 0");
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    publish(&site, "a-1", &["1", "2", "x"]);
    publish(&site, "d-1", &["1"]);
    site.until_final(3);
    let output = Command::new(Path::new(ROOT).join("tests/clients/.venv/bin/schemathesis"))
        .args(["run", &format!("http://127.0.0.1:{}/api/v1/openapi.json", site.http)])
        .args(["--header", "Authorization: Bearer operate", "--exclude-path", "/api/v1/events"])
        .args(["--max-examples", "40", "--seed", "7", "--no-color", "--mode", "all"])
        .current_dir(site.path("."))
        .output()
        .expect("schemathesis is missing: run make tools");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success());
}
