use std::time::{Duration, Instant};

use windlass_broker::{Limits, User};

use crate::harness::{Bench, Client, accept, bench, bench_with, code_of, connect, identity, puback, publish};

const TOPIC: &str = "devices/a/readings";

/// The CONNACK's code for these credentials.
async fn answer(bench: &Bench, version: u8, name: &str, secret: &str) -> u8 {
    let mut client = Client::open(bench.addresses[0], version).await;
    client.send(&connect(version, name, Some((name, secret)), 0)).await;
    code_of(&client.packet().await.unwrap())
}

#[tokio::test]
async fn who_fails_too_often_is_told_that_it_is_banned_and_others_come_in() {
    let bench = bench_with(Limits { failures_per_device: 3, ..Limits::default() }).await;
    for name in ["a", "ghost"] {
        for _ in 0..3 {
            assert_eq!(answer(&bench, 5, name, "wrong").await, 0x86, "{name}");
        }
        assert_eq!(answer(&bench, 5, name, "wrong").await, 0x8A, "{name}");
    }
    assert_eq!(answer(&bench, 5, "a", "secret of a").await, 0x8A);
    assert_eq!(answer(&bench, 4, "a", "secret of a").await, 5);
    assert_eq!(answer(&bench, 5, "b", "secret of b").await, 0);
    // Where a device is at home, others cannot have it banned.
    for _ in 0..4 {
        answer(&bench, 5, "b", "wrong").await;
    }
    assert_eq!(answer(&bench, 5, "b", "secret of b").await, 0);
}

#[tokio::test]
async fn an_address_is_banned_whatever_it_tries() {
    let bench = bench_with(Limits { failures_per_address: 3, ..Limits::default() }).await;
    for name in ["x", "y", "z"] {
        assert_eq!(answer(&bench, 4, name, "guess").await, 4);
    }
    assert_eq!(answer(&bench, 5, "a", "secret of a").await, 0x8A);
}

#[tokio::test]
async fn a_device_that_connects_too_often_is_told_so() {
    let bench = bench_with(Limits { connects_per_minute: 2, ..Limits::default() }).await;
    for version in [4, 5] {
        assert_eq!(answer(&bench, version, "a", "secret of a").await, 0);
    }
    assert_eq!(answer(&bench, 5, "a", "secret of a").await, 0x9F);
    assert_eq!(answer(&bench, 4, "a", "secret of a").await, 3);
    assert_eq!(answer(&bench, 4, "b", "secret of b").await, 0);
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let bench = bench_with(Limits { connections_per_address: 1, ..Limits::default() }).await;
    let first = bench.client(4, "a").await;
    let mut second = Client::open(bench.addresses[0], 4).await;
    assert_eq!(second.packet().await, None);
    drop(first);
}

#[tokio::test]
async fn over_its_rate_mqtt_5_is_told_and_qos_0_is_dropped() {
    let limits = Limits { readings_per_second: 1, readings_burst: 2, ..Limits::default() };
    let mut bench = bench_with(limits).await;
    let mut client = bench.client(5, "a").await;
    for id in 1..=3 {
        client.publish(TOPIC, b"1", Some(id)).await;
    }
    client.publish(TOPIC, b"2", None).await;
    for id in [1, 2] {
        accept(bench.publish().await, id);
        assert_eq!(code_of(&client.packet().await.unwrap()), 0);
    }
    let refused = client.packet().await.unwrap();
    assert_eq!((refused[3], code_of(&refused)), (3, 0x97), "{refused:02x?}");
    client.hears_only_a_pong().await;
    assert!(bench.publishes.try_recv().is_err(), "what is refused or dropped is not stored");
    // A new connection brings no new burst.
    drop(client);
    let mut client = bench.client(5, "a").await;
    client.publish(TOPIC, b"1", Some(1)).await;
    client.publish(TOPIC, b"1", Some(2)).await;
    assert_eq!(code_of(&client.packet().await.unwrap()), 0x97);
}

#[tokio::test]
async fn more_refusals_in_one_piece_than_may_be_open_are_all_told() {
    let limits = Limits { readings_per_second: 1, readings_burst: 1, in_flight: 4, ..Limits::default() };
    let mut bench = bench_with(limits).await;
    let mut client = bench.client(5, "a").await;
    client.publish(TOPIC, b"1", Some(1)).await;
    accept(bench.publish().await, 1);
    assert_eq!(code_of(&client.packet().await.unwrap()), 0);
    let ids = 2..=30;
    let piece: Vec<u8> = ids.clone().flat_map(|id| publish(5, 0x32, TOPIC, b"1", Some(id))).collect();
    client.send(&piece).await;
    for id in ids {
        let refused = client.packet().await.unwrap();
        assert_eq!((u16::from(refused[3]), code_of(&refused)), (id, 0x97), "{refused:02x?}");
    }
}

#[tokio::test]
async fn over_its_rate_3_1_1_waits_for_its_puback_and_nothing_is_lost() {
    let limits = Limits { readings_per_second: 20, readings_burst: 2, ..Limits::default() };
    let mut bench = bench_with(limits).await;
    let mut client = bench.client(4, "a").await;
    let started = Instant::now();
    for id in 1..=6 {
        client.publish(TOPIC, b"1", Some(id)).await;
    }
    for id in 1..=6 {
        accept(bench.publish().await, id.into());
        assert_eq!(client.packet().await.unwrap(), puback(id));
    }
    // A bound from below: four of them had to wait for 50 ms each.
    assert!(started.elapsed() >= Duration::from_millis(190), "{:?}", started.elapsed());
}

#[tokio::test]
async fn two_sources_of_one_id_are_slowed_while_the_one_that_is_in_goes_on() {
    let mut bench = bench().await;
    let mut current = bench.client(4, "a").await;
    for _ in 0..5 {
        let next = bench.client(4, "a").await;
        assert_eq!(current.packet().await, None, "taken over at once");
        current = next;
    }
    let mut slowed = Client::open(bench.addresses[0], 4).await;
    slowed.send(&connect(4, "a", Some(("a", "secret of a")), 0)).await;
    current.publish(TOPIC, b"1", Some(1)).await;
    accept(bench.publish().await, 1);
    assert_eq!(current.packet().await.unwrap(), puback(1));
    assert_eq!(code_of(&slowed.packet().await.unwrap()), 0, "not for ever");
    assert_eq!(current.packet().await, None);
}

#[tokio::test]
async fn an_mqtt_5_client_is_told_the_longest_keep_alive() {
    let bench = bench_with(Limits { max_keep_alive: Duration::from_secs(300), ..Limits::default() }).await;
    for (asked, told) in [(0, true), (301, true), (300, false), (60, false)] {
        let mut client = Client::open(bench.addresses[0], 5).await;
        client.send(&connect(5, "a", Some(("a", "secret of a")), asked)).await;
        let connack = client.packet().await.unwrap();
        assert_eq!(connack[5..].windows(3).any(|w| w == [0x13, 1, 0x2C]), told, "{asked}: {connack:02x?}");
    }
}

#[tokio::test]
async fn a_chosen_secret_lets_in_and_an_unknown_name_is_answered_like_a_wrong_one() {
    let bench = bench().await;
    let secret = "$argon2id$v=19$m=256,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$kpQqWqdONKrvqLOtVu7tC+pahLka+lGN4Mq6W+J7ujc";
    let user = User { name: "guard".into(), secret: secret.parse().unwrap(), subscribe: Vec::new() };
    bench.identities.replace(vec![identity("a", None)], vec![user]);
    assert_eq!(answer(&bench, 5, "guard", "correct horse").await, 0);
    for (name, secret) in [("guard", "wrong"), ("ghost", "wrong"), ("a", "wrong")] {
        assert_eq!(answer(&bench, 5, name, secret).await, 0x86, "{name}");
    }
    assert_eq!(answer(&bench, 5, "a", "secret of a").await, 0);
}
