use std::time::Duration;

use tokio::io::AsyncWriteExt;
use windlass_broker::Limits;

use crate::harness::{Bench, Client, accept, bench, bench_with, code_of, connect, puback, publish, subscribe};

/// The neighbour's reading goes through: nothing has happened to the broker.
async fn a_neighbour_is_served(bench: &mut Bench) {
    let mut neighbour = bench.client(4, "b").await;
    neighbour.publish("devices/b/readings", b"1", Some(1)).await;
    accept(bench.publish().await, 1);
    assert_eq!(neighbour.packet().await.unwrap(), puback(1));
}

#[tokio::test]
async fn what_breaks_the_standard_ends_its_own_connection_with_a_code() {
    let mut bench = bench().await;
    let topic = "devices/a/readings";
    let cases: [(&str, Vec<u8>, u8); 14] = [
        ("packet type 0", vec![0, 0], 0x81),
        ("reserved flags", vec![0xC1, 0], 0x81),
        ("server's CONNACK", vec![0x20, 3, 0, 0, 0], 0x82),
        ("server's UNSUBACK", vec![0xB0, 4, 0, 1, 0, 0], 0x82),
        ("PUBACK for nothing", vec![0x40, 2, 0, 1], 0x82),
        ("AUTH", vec![0xF0, 0], 0x82),
        ("second CONNECT", connect(5, "a", None, 0), 0x82),
        ("QoS 3", publish(5, 0x36, topic, b"1", Some(1)), 0x81),
        ("packet id 0", publish(5, 0x32, topic, b"1", Some(0)), 0x81),
        ("wildcard topic", publish(5, 0x30, "devices/a/#", b"1", None), 0x81),
        ("NUL in the topic", publish(5, 0x30, "devices/a\0", b"1", None), 0x81),
        ("empty topic", publish(5, 0x30, "", b"1", None), 0x81),
        ("retained", publish(5, 0x33, topic, b"1", Some(1)), 0x9A),
        ("too large", vec![0x30, 0xC0, 0x96, 0xB1, 0x02], 0x95),
    ];
    for (name, bytes, code) in cases {
        let mut client = bench.client(5, "a").await;
        client.send(&bytes).await;
        assert_eq!(client.packet().await.unwrap(), [0xE0, 1, code], "{name}");
        assert_eq!(client.packet().await, None, "{name}");
        // 3.1.1 has no DISCONNECT from the server. (AUTH and properties do not exist there.)
        let mut client = bench.client(4, "a").await;
        client.send(&bytes).await;
        assert_eq!(client.packet().await, None, "{name}");
    }
    assert!(bench.publishes.try_recv().is_err());
    a_neighbour_is_served(&mut bench).await;
}

#[tokio::test]
async fn bytes_that_are_no_connect_get_no_session() {
    let mut bench = bench().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xC0, 0],
        &publish(4, 0x30, "devices/a/readings", b"1", None),
        &[0x10, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x10, 2, 0, 4],
    ] {
        let mut client = Client::open(bench.addresses[0], 4).await;
        client.send(bytes).await;
        assert_eq!(client.packet().await, None, "{bytes:02x?}");
    }
    // An old or a future level gets an answer that its client can read.
    for (level, code) in [(3, 1), (6, 0x84)] {
        let mut client = Client::open(bench.addresses[0], 4).await;
        client.send(&connect(level, "a", None, 0)).await;
        assert_eq!(code_of(&client.packet().await.unwrap()), code);
    }
    a_neighbour_is_served(&mut bench).await;
}

#[tokio::test]
async fn truncated_packets_and_resets_disturb_nobody() {
    let mut bench = bench().await;
    for round in 0..20 {
        let whole = publish(4, 0x32, "devices/a/readings", b"12345", Some(1));
        let mut client = bench.client(4, "a").await;
        client.send(&whole[..whole.len() - 1 - round % 8]).await;
        if round % 2 == 0 {
            // Close with a reset.
            client.socket.set_zero_linger().unwrap();
        }
        drop(client);
        let half = connect(4, "a", None, 0);
        let mut client = Client::open(bench.addresses[0], 4).await;
        client.send(&half[..half.len() / 2]).await;
        client.socket.shutdown().await.unwrap();
    }
    a_neighbour_is_served(&mut bench).await;
    assert!(bench.publishes.try_recv().is_err(), "half a publish was taken");
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_a_freed_place_is_used_again() {
    let bench = bench_with(Limits { max_connections: 1, ..Limits::default() }).await;
    let mut first = bench.client(4, "a").await;
    let mut second = Client::open(bench.addresses[0], 4).await;
    assert_eq!(second.packet().await, None);
    first.send(&[0xE0, 0]).await;
    assert_eq!(first.packet().await, None);
    drop(first);
    loop {
        let mut next = Client::open(bench.addresses[0], 4).await;
        // The place may be free a moment after the socket is closed.
        let sent = next.socket.write_all(&connect(4, "b", Some(("b", "secret of b")), 0)).await;
        if sent.is_ok() && next.packet().await.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn a_silent_socket_is_closed_after_the_connect_timeout() {
    let mut bench = bench_with(Limits { connect_timeout: Duration::from_millis(50), ..Limits::default() }).await;
    let mut silent = Client::open(bench.addresses[0], 4).await;
    assert_eq!(silent.packet().await, None);
    a_neighbour_is_served(&mut bench).await;
}

#[tokio::test]
async fn what_ends_rumqttd_by_subscribing_is_refused_before_it() {
    let mut bench = bench().await;
    for (version, codes) in [(4, [0x80; 5]), (5, [0x9E, 0x87, 0x87, 0x87, 0x87])] {
        let mut client = bench.client(version, "a").await;
        let filters = ["$share/g/devices/a/receipts", "#", "devices/b/receipts", "devices/a/+", "a#b"];
        client.send(&subscribe(version, 1, &filters)).await;
        let suback = client.packet().await.unwrap();
        assert_eq!((suback[0], &suback[suback.len() - 5..]), (0x90, &codes[..]));
        client.hears_only_a_pong().await;
    }
    a_neighbour_is_served(&mut bench).await;
}
