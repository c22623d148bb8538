//! People and dashboards: they hear what their filters cover, and publish nothing.

use bytes::Bytes;
use windlass_broker::Qos;

use crate::harness::{Bench, Client, accept, bench, code_of, connect, desk, identity, publish, subscribe};

async fn user(bench: &Bench, version: u8, client_id: &str) -> (Client, Vec<u8>) {
    let mut client = Client::open(bench.addresses[0], version).await;
    client.send(&connect(version, client_id, Some(("desk", "secret of desk")), 0)).await;
    let connack = client.packet().await.unwrap();
    assert_eq!((connack[0], code_of(&connack)), (0x20, 0), "{connack:02x?}");
    (client, connack)
}

#[tokio::test]
async fn users_hear_all_devices_through_wildcards_and_with_their_qos() {
    let mut bench = bench().await;
    let (mut screen, _) = user(&bench, 5, "screen").await;
    screen
        .send(&subscribe(5, 1, &["devices/+/receipts", "devices/a/readings", "devices/#", "devices/b/readings"]))
        .await;
    let suback = screen.packet().await.unwrap();
    assert_eq!(suback[suback.len() - 4..], [1, 1, 0x87, 0x87]);
    assert!(bench.outbox.wants("devices/b/receipts") && !bench.outbox.wants("devices/b/errors"));
    bench.outbox.tell("devices/b/receipts".into(), Bytes::from_static(b"of b"), Qos::AtLeastOnce);
    assert_eq!(screen.packet().await.unwrap(), publish(5, 0x32, "devices/b/receipts", b"of b", Some(1)));
    // A reading is heard once it is durable.
    let mut device = bench.client(4, "a").await;
    device.publish("devices/a/readings", b"42", Some(7)).await;
    let reading = bench.publish().await;
    screen.hears_only_a_pong().await;
    accept(reading, 1);
    assert_eq!(screen.packet().await.unwrap(), publish(5, 0x32, "devices/a/readings", b"42", Some(2)));
}

#[tokio::test]
async fn several_connections_of_a_user_live_side_by_side_under_any_client_id() {
    let bench = bench().await;
    let (mut first, connack) = user(&bench, 5, "").await;
    let assigned = connack.windows(5).any(|w| w == b"desk-");
    assert!(assigned, "{connack:02x?}");
    let (mut second, _) = user(&bench, 5, "").await;
    // A device's id is no device's session in a user's hands.
    let (mut third, _) = user(&bench, 4, "a").await;
    let mut device = bench.client(4, "a").await;
    for client in [&mut first, &mut second, &mut third, &mut device] {
        client.hears_only_a_pong().await;
    }
    let mut same = user(&bench, 4, "a").await.0;
    assert_eq!(third.packet().await, None, "the same client id takes over");
    same.hears_only_a_pong().await;
    device.hears_only_a_pong().await;
}

#[tokio::test]
async fn users_publish_nothing_and_end_when_they_are_removed() {
    let mut bench = bench().await;
    let (mut five, _) = user(&bench, 5, "five").await;
    five.publish("devices/a/readings", b"1", Some(1)).await;
    assert_eq!(code_of(&five.packet().await.unwrap()), 0x87);
    let (mut three, _) = user(&bench, 4, "three").await;
    three.publish("devices/a/readings", b"1", Some(1)).await;
    assert_eq!(three.packet().await, None);
    assert!(bench.publishes.try_recv().is_err());
    bench.identities.replace(vec![identity("a", None)], vec![desk()]);
    five.hears_only_a_pong().await;
    bench.identities.replace(vec![identity("a", None)], Vec::new());
    assert_eq!(five.packet().await.unwrap(), [0xE0, 1, 0x98]);
}
