//! What the broker counts. In a process of its own, because the recorder is the process's.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[allow(dead_code, reason = "the tests of the front need the rest")]
#[path = "front/harness.rs"]
mod harness;

use std::time::Duration;

use tokio::time::timeout;
use windlass_telemetry::Recorder;

use crate::harness::{Client, PATIENCE, accept, bench, connect};

#[tokio::test]
async fn every_series_exists_from_the_start_and_counts_what_happens() {
    let recorder = Recorder::install(&buckets()).unwrap();
    windlass_broker::describe();
    for series in [
        "windlass_connections 0",
        "windlass_connects_total{outcome=\"bad_credentials\"} 0",
        "windlass_readings_received_total{qos=\"0\"} 0",
        "windlass_readings_rejected_total{reason=\"too_long\"} 0",
        "windlass_router_up 1",
        "windlass_router_restarts_total 0",
        "windlass_router_strays_total 0",
    ] {
        assert!(recorder.render().contains(series), "{series}\n{}", recorder.render());
    }

    let mut bench = bench().await;
    let mut client = bench.client(5, "a").await;
    client.publish("devices/a/readings", b"1", Some(1)).await;
    accept(bench.publish().await, 1);
    client.packet().await.unwrap();
    client.publish("devices/b/readings", b"1", None).await;
    client.publish("devices/a/readings", b"2", None).await;
    accept(bench.publish().await, 2);
    let mut stranger = Client::open(bench.addresses[0], 4).await;
    stranger.send(&connect(4, "a", Some(("a", "wrong")), 0)).await;
    stranger.packet().await.unwrap();

    for series in [
        "windlass_connections 1",
        "windlass_connects_total{outcome=\"accepted\"} 1",
        "windlass_connects_total{outcome=\"bad_credentials\"} 1",
        "windlass_readings_received_total{qos=\"0\"} 1",
        "windlass_readings_received_total{qos=\"1\"} 1",
        "windlass_readings_rejected_total{reason=\"foreign_topic\"} 1",
        "windlass_ack_seconds_count 1",
    ] {
        // What ends on another thread is counted a moment after it was answered.
        let counted = async {
            while !recorder.render().contains(series) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(timeout(PATIENCE, counted).await.is_ok(), "{series}\n{}", recorder.render());
    }
}

/// The buckets are asked for before there is a recorder, so nothing is counted by that.
fn buckets() -> Vec<(&'static str, &'static [f64])> {
    windlass_broker::describe()
}
