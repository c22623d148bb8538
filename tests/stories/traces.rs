//! A trace collector hears of every batch and of its readings, once they are final; without one nothing changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;
use windlass_tests::{Client, Protocol, SECRET, Site, until};

/// Takes OTLP over HTTP as JSON, and keeps the spans.
fn collector() -> (u16, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let spans: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = spans.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while reader.read_line(&mut head).unwrap_or(0) > 2 {
                if head.ends_with("\r\n\r\n") {
                    break;
                }
            }
            let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body).unwrap();
            assert!(head.starts_with("POST /v1/traces "), "{head}");
            let told: Value = serde_json::from_slice(&body).unwrap();
            let resource = told["resourceSpans"][0]["resource"]["attributes"].to_string();
            assert!(resource.contains("service.name") && resource.contains("windlass"), "{resource}");
            let new = told["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
            kept.lock().unwrap().extend(new);
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
        }
    });
    (port, spans)
}

fn attribute(span: &Value, name: &str) -> String {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|a| a["key"] == name).unwrap_or_else(|| panic!("{name} in {span}"));
    let value = &found["value"];
    value["stringValue"]
        .as_str()
        .or(value["intValue"].as_str())
        .map_or_else(|| value["intValue"].to_string(), str::to_owned)
}

#[test]
fn a_reading_is_linked_to_its_batch_with_attempts_and_finality_also_after_a_kill() {
    let (port, spans) = collector();
    let mut site = Site::new(&[("a-1", "anchor", "digits"), ("b-1", "batch", "digits")]);
    site.edit_config("[settlement]", &format!("[telemetry]\notlp = \"http://127.0.0.1:{port}\"\n[settlement]"));
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    let publish = |site: &Site, device: &str, payload: &str| {
        let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, device, Some((device, SECRET)));
        let topic = format!("devices/{device}/readings");
        assert_eq!(client.publish_and_wait(&topic, payload.as_bytes(), 1, false), Some(0));
    };
    publish(&site, "a-1", "1");
    publish(&site, "b-1", "2");
    site.kill();
    site.start();
    publish(&site, "a-1", "3");
    site.until_final(3);
    let named = |name: &str| -> Vec<Value> {
        spans.lock().unwrap().iter().filter(|span| span["name"] == name).cloned().collect()
    };
    until("each reading has its span", || (named("reading").len() == 3).then_some(()));
    for reading in named("reading") {
        let link = &reading["links"][0];
        let batch =
            named("batch").into_iter().find(|b| b["traceId"] == link["traceId"] && b["spanId"] == link["spanId"]);
        let batch = batch.unwrap_or_else(|| panic!("no batch of {reading}"));
        assert!(
            batch["links"].as_array().unwrap().iter().any(|l| l["traceId"] == reading["traceId"]),
            "the batch leads to its reading"
        );
        assert_eq!(attribute(&batch, "windlass.settlement"), attribute(&reading, "windlass.settlement"));
        let children = |name: &str| -> Vec<Value> {
            named(name)
                .into_iter()
                .filter(|s| s["parentSpanId"] == batch["spanId"] && s["traceId"] == batch["traceId"])
                .collect()
        };
        let attempts = children("attempt");
        let included = attempts.iter().filter(|a| attribute(a, "windlass.included") == "true").count();
        assert_eq!((included, children("finality").len()), (1, 1), "{attempts:?}");
        let time = |span: &Value, which: &str| span[which].as_str().unwrap().parse::<u64>().unwrap();
        let received = time(&reading, "startTimeUnixNano");
        let built = time(&batch, "startTimeUnixNano");
        let mined = time(&children("finality")[0], "startTimeUnixNano");
        let ended = time(&batch, "endTimeUnixNano");
        assert!(received <= built && built <= mined && mined <= ended, "{received} {built} {mined} {ended}");
    }
    let text = serde_json::to_string(&*spans.lock().unwrap()).unwrap();
    assert!(!text.contains(SECRET), "no secret is told");
    assert!(site.metric("windlass_trace_spans_total{outcome=\"sent\"}") > 0.0);
}

#[test]
fn a_collector_that_is_not_there_is_counted_and_stops_nothing() {
    let mut site = Site::new(&[("a-1", "anchor", "digits")]);
    site.edit_config("[settlement]", "[telemetry]\notlp = \"http://127.0.0.1:9\"\n[settlement]");
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, "a-1", Some(("a-1", SECRET)));
    assert_eq!(client.publish_and_wait("devices/a-1/readings", b"1", 1, false), Some(0));
    site.until_final(1);
    let failed = "windlass_trace_spans_total{outcome=\"failed\"}";
    until("the failure is counted", || (site.metric(failed) > 0.0).then_some(()));
}

#[test]
fn each_event_is_one_line_of_the_log_with_device_and_sequence() {
    let mut site = Site::new(&[("a-1", "anchor", "digits")]);
    site.log_filter = "windlass=debug,windlass_broker=debug";
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, "a-1", Some(("a-1", SECRET)));
    for (payload, id, duplicate) in [("1", 1, false), ("1", 1, true), ("x", 2, false), ("2", 3, false)] {
        client.publish_and_wait("devices/a-1/readings", payload.as_bytes(), id, duplicate).unwrap();
    }
    site.until_final(2);
    let (_, code) = Client::connect(site.mqtt, Protocol::V5, "a-1", Some(("a-1", "a guess")));
    assert_ne!(code, Some(0));
    let log = site.log();
    let count = |wanted: &[&str]| log.lines().filter(|line| wanted.iter().all(|each| line.contains(each))).count();
    for (wanted, times) in [
        (&["reading accepted", "device=a-1", "sequence=1"][..], 1),
        (&["reading accepted", "device=a-1", "sequence=2"], 1),
        (&["reading repeated", "device=a-1", "sequence=1"], 1),
        (&["reading refused", "device=a-1", "reason=\"bad_character\""], 1),
        (&[" connected", "client=\"a-1\""], 1),
        (&["connection refused", "client=\"a-1\"", "outcome=\"bad_credentials\""], 1),
    ] {
        assert_eq!(count(wanted), times, "{wanted:?} in\n{log}");
    }
    assert!(count(&["batch=1", "stage=Final", "settlement=\"anchor\""]) >= 1, "{log}");
}
