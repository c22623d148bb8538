use std::time::{Duration, Instant};

use crate::harness::{Client, PATIENCE, accept, bench, connect, puback};

#[tokio::test]
async fn a_shutdown_answers_what_is_in_and_says_goodbye() {
    let mut bench = bench().await;
    let mut v5 = bench.client(5, "a").await;
    let mut v3 = bench.client(4, "b").await;
    v5.publish("devices/a/readings", b"1", Some(1)).await;
    let first = bench.publish().await;
    v3.publish("devices/b/readings", b"2", Some(2)).await;
    let second = bench.publish().await;
    bench.stop.cancel();
    accept(first, 1);
    accept(second, 1);
    assert_eq!(v5.packet().await.unwrap(), puback(1));
    assert_eq!(v5.packet().await.unwrap(), [0xE0, 1, 0x8B]);
    assert_eq!(v5.packet().await, None);
    assert_eq!(v3.packet().await.unwrap(), puback(2));
    assert_eq!(v3.packet().await, None);
    tokio::time::timeout(PATIENCE, bench.run).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    let bench = bench().await;
    let mut client = Client::open(bench.addresses[0], 5).await;
    client.send(&connect(5, "a", Some(("a", "secret of a")), 1)).await;
    let started = Instant::now();
    client.packet().await.unwrap();
    assert_eq!(client.packet().await.unwrap(), [0xE0, 1, 0x8D]);
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(1_400), "{waited:?}");
}
