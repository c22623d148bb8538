//! QoS 2 towards subscribers.

use bytes::Bytes;
use windlass_broker::Qos;

use crate::harness::{Bench, Client, accept, bench, code_of, connect_kept, connect_with, publish, subscribe_with};

const RECEIPTS: &str = "devices/a/receipts";

fn tell(bench: &Bench, text: &'static str, qos: Qos) {
    bench.outbox.tell(RECEIPTS.into(), Bytes::from_static(text.as_bytes()), qos);
}

/// Device `a` on its kept session.
async fn back(bench: &Bench, version: u8) -> Client {
    let mut client = Client::open(bench.addresses[0], version).await;
    client.send(&connect_kept(version, "a", false)).await;
    assert_eq!(code_of(&client.packet().await.unwrap()), 0);
    client
}

/// The same, once the broker has noticed that `client` is gone.
async fn lost(bench: &Bench, client: Client) -> Client {
    let version = client.version;
    drop(client);
    while bench.shelf.0.lock().unwrap().get("a").is_none_or(|s| s.left_at_ms.is_none()) {
        tokio::task::yield_now().await;
    }
    back(bench, version).await
}

async fn subscribed(bench: &Bench, version: u8, qos: u8) -> Client {
    let mut client = back(bench, version).await;
    client.send(&subscribe_with(version, 1, qos, &[RECEIPTS])).await;
    assert_eq!(client.packet().await.unwrap().last(), Some(&qos), "what is asked for is granted");
    client
}

fn pubrec(packet_id: u8) -> [u8; 4] {
    [0x50, 2, 0, packet_id]
}

fn pubrel(packet_id: u8) -> Vec<u8> {
    vec![0x62, 2, 0, packet_id]
}

fn pubcomp(packet_id: u8) -> [u8; 4] {
    [0x70, 2, 0, packet_id]
}

#[tokio::test]
async fn each_step_of_a_delivery_is_taken_up_again_on_the_next_connection() {
    for version in [4, 5] {
        let bench = bench().await;
        let mut client = subscribed(&bench, version, 2).await;
        tell(&bench, "one", Qos::ExactlyOnce);
        assert_eq!(client.packet().await.unwrap(), publish(version, 0x34, RECEIPTS, b"one", Some(1)));
        let mut client = lost(&bench, client).await;
        assert_eq!(client.packet().await.unwrap(), publish(version, 0x3C, RECEIPTS, b"one", Some(1)));
        for _ in 0..2 {
            client.send(&pubrec(1)).await;
            assert_eq!(client.packet().await.unwrap(), pubrel(1), "also for a PUBREC that is repeated");
        }
        let client = lost(&bench, client).await;
        tell(&bench, "two", Qos::ExactlyOnce);
        let mut client = lost(&bench, client).await;
        assert_eq!(client.packet().await.unwrap(), pubrel(1));
        // Whether it went out before is the network's secret.
        let second = client.packet().await.unwrap();
        assert!([0x34, 0x3C].map(|first| publish(version, first, RECEIPTS, b"two", Some(2))).contains(&second));
        client.send(&[pubcomp(1), pubrec(2)].concat()).await;
        assert_eq!(client.packet().await.unwrap(), pubrel(2));
        client.send(&[pubcomp(2), pubcomp(2)].concat()).await;
        client.hears_only_a_pong().await;
        let mut client = lost(&bench, client).await;
        client.hears_only_a_pong().await;
    }
}

#[tokio::test]
async fn a_message_comes_with_the_lower_of_its_own_and_the_subscriptions_quality() {
    let bench = bench().await;
    for asked in 0..=2 {
        let mut client = subscribed(&bench, 5, asked).await;
        let told = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
        for qos in told {
            tell(&bench, "x", qos);
        }
        for qos in told {
            let message = client.packet().await.unwrap();
            assert_eq!(message[0], 0x30 | qos.number().min(asked) << 1, "{qos:?} for QoS {asked}");
        }
        // A clean start: nothing is left of it.
        let mut clean = Client::open(bench.addresses[0], 5).await;
        clean.send(&connect_kept(5, "a", true)).await;
        assert_eq!(code_of(&clean.packet().await.unwrap()), 0);
    }
}

#[tokio::test]
async fn the_window_is_open_again_after_pubcomp_or_a_refusal() {
    let bench = bench().await;
    let mut client = subscribed(&bench, 5, 2).await;
    for _ in 0..23 {
        tell(&bench, "x", Qos::ExactlyOnce);
    }
    let message = |id| publish(5, 0x34, RECEIPTS, b"x", Some(id));
    for id in 1..=20 {
        assert_eq!(client.packet().await.unwrap(), message(id));
    }
    client.send(&pubrec(7)).await;
    assert_eq!(client.packet().await.unwrap(), pubrel(7));
    client.hears_only_a_pong().await;
    client.send(&pubcomp(7)).await;
    assert_eq!(client.packet().await.unwrap(), message(21));
    // 0x83: an error of the receiver's own, so it will not take it.
    client.send(&[0x50, 3, 0, 9, 0x83]).await;
    assert_eq!(client.packet().await.unwrap(), message(22));
    client.hears_only_a_pong().await;
}

#[tokio::test]
async fn answers_that_do_not_fit_are_told_and_end_no_other_session() {
    let bench = bench().await;
    for (version, unknown) in [(4, vec![0x62, 2, 0, 99]), (5, vec![0x62, 3, 0, 99, 0x92])] {
        let mut client = subscribed(&bench, version, 2).await;
        client.send(&pubrec(99)).await;
        assert_eq!(client.packet().await.unwrap(), unknown);
        client.send(&pubcomp(99)).await;
        client.hears_only_a_pong().await;
    }
    for wrong in [[0x40, 2, 0, 1], pubcomp(1)] {
        let bench = crate::harness::bench().await;
        let mut client = subscribed(&bench, 5, 2).await;
        tell(&bench, "x", Qos::ExactlyOnce);
        assert_eq!(client.packet().await.unwrap(), publish(5, 0x34, RECEIPTS, b"x", Some(1)));
        client.send(&wrong).await;
        assert_eq!(client.packet().await.unwrap(), [0xE0, 1, 0x82], "a PUBREC is due, not {wrong:02x?}");
    }
}

#[tokio::test]
async fn users_hear_exactly_once_what_was_published_so() {
    let mut bench = bench().await;
    let mut screen = bench.user(5, "screen").await;
    screen.send(&subscribe_with(5, 1, 2, &["devices/a/readings", "devices/+/status"])).await;
    let suback = screen.packet().await.unwrap();
    assert_eq!(suback[suback.len() - 2..], [2, 2]);
    let mut device = Client::open(bench.addresses[0], 5).await;
    device.send(&connect_with(5, "a", true, Some(("gone", 0)))).await;
    assert_eq!(code_of(&device.packet().await.unwrap()), 0);
    device.send(&publish(5, 0x34, "devices/a/readings", b"42", Some(7))).await;
    let reading = bench.publish().await;
    accept(reading, 1);
    assert_eq!(screen.packet().await.unwrap(), publish(5, 0x34, "devices/a/readings", b"42", Some(1)));
    drop(device);
    assert_eq!(screen.packet().await.unwrap(), publish(5, 0x34, "devices/a/status", b"gone", Some(2)));
    screen.send(&pubrec(2)).await;
    assert_eq!(screen.packet().await.unwrap(), pubrel(2));
}
