//! Sessions that outlive their connections, and the process.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use windlass_broker::{Limits, Listener, Qos};

use crate::harness::{Bench, Client, bench, bench_on, code_of, connect_kept, connect_with, publish, subscribe};

const RECEIPTS: &str = "devices/a/receipts";

/// A connection of device `a` whose session is kept, and whether the broker had one.
async fn kept(bench: &Bench, version: u8, clean: bool) -> (Client, bool) {
    let mut client = Client::open(bench.addresses[0], version).await;
    client.send(&connect_kept(version, "a", clean)).await;
    let connack = client.packet().await.unwrap();
    assert_eq!((connack[0], code_of(&connack)), (0x20, 0), "{connack:02x?}");
    (client, connack[2] == 1)
}

async fn listening(bench: &Bench, version: u8) -> Client {
    // In 3.1.1 a clean session is one that is not kept.
    let (mut client, present) = kept(bench, version, version == 5).await;
    assert!(!present);
    client.send(&subscribe(version, 1, &[RECEIPTS])).await;
    assert_eq!(client.packet().await.unwrap().last(), Some(&1));
    client
}

/// Waits until the broker has noticed that the device is gone.
async fn away(bench: &Bench) {
    while bench.shelf.0.lock().unwrap().get("a").is_none_or(|s| s.left_at_ms.is_none()) {
        tokio::task::yield_now().await;
    }
}

fn tell(bench: &Bench, text: &'static str) {
    bench.outbox.tell(RECEIPTS.into(), Bytes::from_static(text.as_bytes()), Qos::AtLeastOnce);
}

#[tokio::test]
async fn what_comes_while_a_device_is_away_waits_for_it_and_is_sent_until_acknowledged() {
    let bench = bench().await;
    for version in [4, 5] {
        let mut client = listening(&bench, version).await;
        tell(&bench, "one");
        assert_eq!(client.packet().await.unwrap(), publish(version, 0x32, RECEIPTS, b"one", Some(1)));
        drop(client);
        away(&bench).await;
        tell(&bench, "two");
        let (mut client, present) = kept(&bench, version, false).await;
        assert!(present);
        assert_eq!(client.packet().await.unwrap(), publish(version, 0x3A, RECEIPTS, b"one", Some(1)));
        assert_eq!(client.packet().await.unwrap(), publish(version, 0x32, RECEIPTS, b"two", Some(2)));
        client.send(&[0x40, 2, 0, 1, 0x40, 2, 0, 2]).await;
        client.hears_only_a_pong().await;
        drop(client);
        away(&bench).await;
        let (mut client, present) = kept(&bench, version, false).await;
        assert!(present);
        client.hears_only_a_pong().await;
        // A clean start forgets it all.
        let (mut client, present) = kept(&bench, version, true).await;
        assert!(!present);
        tell(&bench, "three");
        client.hears_only_a_pong().await;
    }
}

#[tokio::test]
async fn a_kept_session_survives_the_process_and_a_clean_one_does_not() {
    let before = bench().await;
    let client = listening(&before, 5).await;
    drop(client);
    before.stop.cancel();
    before.run.await.unwrap();
    assert_eq!(before.shelf.0.lock().unwrap()["a"].subscriptions.len(), 1);
    let listeners = || vec![Listener::plain(([127, 0, 0, 1], 0).into())];
    let after = bench_on(listeners(), Limits::default(), Path::new(""), before.shelf.clone()).await;
    tell(&after, "while it is away");
    let (mut client, present) = kept(&after, 5, false).await;
    assert!(present);
    assert_eq!(client.packet().await.unwrap(), publish(5, 0x32, RECEIPTS, b"while it is away", Some(1)));
    // DISCONNECT with session expiry 0: over.
    client.send(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]).await;
    assert_eq!(client.packet().await, None);
    while !after.shelf.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!kept(&after, 5, false).await.1);
}

#[tokio::test]
async fn a_session_is_kept_no_longer_than_allowed_and_the_client_is_told() {
    let limits = Limits { session_expiry: Duration::from_secs(1), ..Limits::default() };
    let listeners = vec![Listener::plain(([127, 0, 0, 1], 0).into())];
    let bench = bench_on(listeners, limits, Path::new(""), Arc::default()).await;
    let mut client = Client::open(bench.addresses[0], 5).await;
    client.send(&connect_kept(5, "a", false)).await;
    let connack = client.packet().await.unwrap();
    assert_eq!(connack[5..10], [0x11, 0, 0, 0, 1], "{connack:02x?}");
    drop(client);
    assert!(kept(&bench, 5, false).await.1);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(!kept(&bench, 5, false).await.1);
    // What was to end with its connection cannot be kept by its DISCONNECT.
    let mut client = bench.client(5, "b").await;
    client.send(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 9]).await;
    assert_eq!(client.packet().await.unwrap(), [0xE0, 1, 0x82]);
}

#[tokio::test]
async fn a_client_that_acknowledges_nothing_gets_no_more_than_its_window() {
    let bench = bench().await;
    let mut client = listening(&bench, 4).await;
    for _ in 0..30 {
        tell(&bench, "x");
    }
    for n in 1..=20 {
        assert_eq!(client.packet().await.unwrap(), publish(4, 0x32, RECEIPTS, b"x", Some(n)));
    }
    client.hears_only_a_pong().await;
    client.send(&[0x40, 2, 0, 20]).await;
    assert_eq!(client.packet().await.unwrap(), publish(4, 0x32, RECEIPTS, b"x", Some(21)));
}

#[tokio::test]
async fn a_will_is_heard_unless_the_device_says_goodbye_or_is_back_in_time() {
    let bench = bench().await;
    let mut user = Client::open(bench.addresses[0], 4).await;
    user.send(&crate::harness::connect(4, "screen", Some(("desk", "secret of desk")), 0)).await;
    user.packet().await.unwrap();
    user.send(&subscribe(4, 1, &["devices/+/status"])).await;
    user.packet().await.unwrap();
    let with_will = async |version, payload, delay| {
        let mut client = Client::open(bench.addresses[0], version).await;
        client.send(&connect_with(version, "a", false, Some((payload, delay)))).await;
        assert_eq!(code_of(&client.packet().await.unwrap()), 0);
        client
    };
    for (version, goodbye) in [(4, &[0xE0, 0][..]), (5, &[0xE0, 0])] {
        let mut client = with_will(version, "not heard", 0).await;
        client.send(goodbye).await;
        assert_eq!(client.packet().await, None);
        drop(with_will(version, "gone", 0).await);
        let heard = user.packet().await.unwrap();
        assert!(heard.ends_with(b"devices/a/status\0\x01gone") || heard.ends_with(b"gone"), "{heard:02x?}");
        user.send(&[0x40, 2, heard[20], heard[21]]).await;
    }
    // DISCONNECT 0x04 asks for it; a delayed one is not sent when the device is back.
    let mut client = with_will(5, "asked for", 0).await;
    client.send(&[0xE0, 2, 4, 0]).await;
    assert!(user.packet().await.unwrap().ends_with(b"asked for"));
    drop(with_will(5, "too early", 1).await);
    let back = kept(&bench, 5, false).await;
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    user.hears_only_a_pong().await;
    drop(back);
    // Nor when the device goes on with its session on another connection.
    let older = with_will(5, "not over", 1).await;
    let back = kept(&bench, 5, false).await;
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    user.hears_only_a_pong().await;
    drop((older, back));
    drop(with_will(5, "late", 1).await);
    assert!(user.packet().await.unwrap().ends_with(b"late"));
}
