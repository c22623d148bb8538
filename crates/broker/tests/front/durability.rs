use std::{sync::atomic::Ordering, time::Duration};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use windlass_broker::{Limits, Qos, Step, Verdict};
use windlass_reading::Reject;

use crate::harness::{Client, PATIENCE, accept, bench, bench_with, code_of, connect_saying, puback};

#[tokio::test]
async fn no_puback_leaves_before_the_verdict() {
    let mut bench = bench().await;
    for version in [4, 5] {
        let mut client = bench.client(version, "a").await;
        client.publish("devices/a/readings", b"4006381333931", Some(7)).await;
        let publish = bench.publish().await;
        assert_eq!((publish.qos, publish.packet_id, publish.duplicate), (Qos::AtLeastOnce, Some(7), false));
        client.hears_only_a_pong().await;
        assert_eq!(accept(publish, 1), "4006381333931");
        assert_eq!(client.packet().await.unwrap(), puback(7));
    }
}

#[tokio::test]
async fn acks_leave_in_the_order_of_arrival_whatever_the_order_of_verdicts() {
    let mut bench = bench().await;
    let mut client = bench.client(4, "a").await;
    for id in 1..=3 {
        client.publish("devices/a/readings", b"1", Some(id)).await;
    }
    let first = bench.publish().await;
    let (second, third) = (bench.publish().await, bench.publish().await);
    accept(third, 3);
    accept(second, 2);
    client.hears_only_a_pong().await;
    accept(first, 1);
    for id in 1..=3 {
        assert_eq!(client.packet().await.unwrap(), puback(id));
    }
}

#[tokio::test]
async fn in_flight_beyond_the_limit_waits_in_the_socket() {
    let mut bench = bench_with(Limits { in_flight: 2, ..Limits::default() }).await;
    let mut client = bench.client(4, "a").await;
    for id in 1..=5 {
        client.publish("devices/a/readings", b"1", Some(id)).await;
    }
    let (first, second) = (bench.publish().await, bench.publish().await);
    // Another session's answers show that the broker had its turn.
    bench.client(4, "b").await.hears_only_a_pong().await;
    assert!(bench.publishes.try_recv().is_err(), "a third came although two are out");
    accept(first, 1);
    accept(second, 2);
    for id in 3..=5 {
        let publish = bench.publish().await;
        accept(publish, id);
    }
    for id in 1..=5 {
        assert_eq!(client.packet().await.unwrap(), puback(id));
    }
}

#[tokio::test]
async fn a_full_intake_slows_the_socket_and_loses_nothing() {
    let mut bench = bench().await;
    bench.desk.full.store(3, Ordering::SeqCst);
    let mut client = bench.client(4, "a").await;
    client.publish("devices/a/readings", b"1", Some(1)).await;
    client.publish("devices/a/readings", b"2", Some(2)).await;
    assert_eq!(accept(bench.publish().await, 1), "1");
    assert_eq!(accept(bench.publish().await, 2), "2");
    assert_eq!(client.packet().await.unwrap(), puback(1));
    assert_eq!(client.packet().await.unwrap(), puback(2));
}

#[tokio::test]
async fn a_reject_is_acknowledged_and_mqtt_5_says_why() {
    let mut bench = bench().await;
    for version in [4, 5] {
        let mut client = bench.client(version, "a").await;
        client.publish("devices/a/readings", b"abc", Some(9)).await;
        bench.publish().await.reply.send(Verdict::Rejected(Reject::BadCharacter));
        let ack = client.packet().await.unwrap();
        if version == 4 {
            assert_eq!(ack, puback(9));
        } else {
            assert_eq!(code_of(&ack), 0x99);
            assert!(ack.ends_with(b"bad_character"), "{ack:02x?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_stored_is_never_acknowledged_as_stored() {
    let mut bench = bench().await;
    for unanswered in [false, true] {
        let mut client = bench.client(5, "a").await;
        client.publish("devices/a/readings", b"1", Some(1)).await;
        let publish = bench.publish().await;
        if unanswered {
            drop(publish);
        } else {
            publish.reply.send(Verdict::Unavailable);
        }
        assert_eq!(code_of(&client.packet().await.unwrap()), 0x97);
    }
    let mut client = bench.client(4, "a").await;
    client.publish("devices/a/readings", b"1", Some(1)).await;
    bench.publish().await.reply.send(Verdict::Unavailable);
    client.publish("devices/a/readings", b"2", Some(2)).await;
    accept(bench.publish().await, 1);
    assert_eq!(client.packet().await.unwrap(), puback(2), "only the stored one is acknowledged");
}

#[tokio::test]
async fn a_reading_sent_just_before_the_client_leaves_is_handed_over() {
    let mut bench = bench().await;
    for (version, goodbye) in [(4, &[0xE0, 0][..]), (5, &[0xE0, 0]), (4, &[])] {
        // A full intake at that moment makes no difference.
        bench.desk.full.store(2, Ordering::SeqCst);
        let mut client = bench.client(version, "5446078").await;
        let mut bytes = crate::harness::publish(version, 0x30, "5446078", b"0012345", None);
        bytes.extend(goodbye);
        client.send(&bytes).await;
        drop(client);
        let publish = bench.publish().await;
        assert_eq!(
            (publish.qos, publish.device.as_str(), &publish.payload[..]),
            (Qos::AtMostOnce, "5446078", &b"0012345"[..])
        );
    }
}

#[tokio::test]
async fn a_redelivery_carries_its_flag() {
    let mut bench = bench().await;
    let mut client = bench.client(4, "a").await;
    let again = crate::harness::publish(4, 0x3A, "devices/a/readings", b"1", Some(5));
    client.send(&again).await;
    let publish = bench.publish().await;
    assert!(publish.duplicate);
    publish.reply.send(Verdict::Repeated { sequence: 1 });
    assert_eq!(client.packet().await.unwrap(), puback(5));
}

#[tokio::test]
async fn an_independent_client_gets_a_thousand_acks_over_both_protocols() {
    let mut bench = bench().await;
    let address = bench.addresses[0];
    let intake = tokio::spawn(async move {
        for sequence in 1..=2_000 {
            accept(bench.publish().await, sequence);
        }
        bench
    });
    let mut options = MqttOptions::new("a", address.ip().to_string(), address.port());
    options.set_credentials("a", "secret of a").set_keep_alive(Duration::from_secs(60)).set_inflight(50);
    let (client, mut events) = AsyncClient::new(options, 10);
    let sender = tokio::spawn(async move {
        for n in 0..1_000 {
            client.publish("devices/a/readings", QoS::AtLeastOnce, false, n.to_string()).await.unwrap();
        }
        client
    });
    let mut acks = 0;
    while acks < 1_000 {
        let event = tokio::time::timeout(PATIENCE, events.poll()).await.unwrap().unwrap();
        acks += usize::from(matches!(event, Event::Incoming(Packet::PubAck(_))));
    }
    drop(sender.await.unwrap());

    let mut options = rumqttc::v5::MqttOptions::new("b", address.ip().to_string(), address.port());
    options.set_credentials("b", "secret of b").set_keep_alive(Duration::from_secs(60));
    let (client, mut events) = rumqttc::v5::AsyncClient::new(options, 10);
    let sender = tokio::spawn(async move {
        for n in 0..1_000 {
            let qos = rumqttc::v5::mqttbytes::QoS::AtLeastOnce;
            client.publish("devices/b/readings", qos, false, n.to_string()).await.unwrap();
        }
        client
    });
    let mut acks = 0;
    while acks < 1_000 {
        let event = tokio::time::timeout(PATIENCE, events.poll()).await.unwrap().unwrap();
        acks +=
            usize::from(matches!(event, rumqttc::v5::Event::Incoming(rumqttc::v5::mqttbytes::v5::Packet::PubAck(_))));
    }
    drop(sender.await.unwrap());
    intake.await.unwrap();
}

/// A PUBREL.
fn pubrel(packet_id: u8) -> [u8; 4] {
    [0x62, 2, 0, packet_id]
}

#[tokio::test]
async fn an_exactly_once_publish_is_received_and_completed_only_when_both_are_durable() {
    let mut bench = bench().await;
    for version in [4, 5] {
        let mut client = bench.client(version, "a").await;
        client.send(&crate::harness::publish(version, 0x34, "devices/a/readings", b"42", Some(7))).await;
        let publish = bench.publish().await;
        assert_eq!((publish.step, publish.qos, publish.packet_id), (Step::Publish, Qos::ExactlyOnce, Some(7)));
        client.hears_only_a_pong().await;
        assert_eq!(accept(publish, 1), "42");
        assert_eq!(client.packet().await.unwrap(), [0x50, 2, 0, 7]);
        client.send(&pubrel(7)).await;
        let release = bench.publish().await;
        assert_eq!((release.step, release.device.as_str(), release.packet_id), (Step::Release, "a", Some(7)));
        client.hears_only_a_pong().await;
        release.reply.send(Verdict::Released { known: true });
        assert_eq!(client.packet().await.unwrap(), [0x70, 2, 0, 7]);
        // Again: the first PUBCOMP was lost.
        client.send(&pubrel(7)).await;
        bench.publish().await.reply.send(Verdict::Released { known: false });
        let completed = client.packet().await.unwrap();
        assert_eq!(completed[..4], [0x70, if version == 5 { 4 } else { 2 }, 0, 7]);
        assert_eq!(completed.get(4), (version == 5).then_some(&0x92));
    }
}

#[tokio::test]
async fn a_refused_exactly_once_publish_ends_there_in_mqtt_5_and_goes_on_in_3_1_1() {
    let mut bench = bench().await;
    let mut five = bench.client(5, "a").await;
    // More of them than a session may have open: each is over with its answer.
    for n in 0..600u16 {
        five.send(&crate::harness::publish(5, 0x34, "devices/a/readings", b"x", Some(n % 100 + 1))).await;
        bench.publish().await.reply.send(Verdict::Rejected(Reject::BadCharacter));
        let answer = five.packet().await.unwrap();
        assert_eq!((answer[0], answer[4]), (0x50, 0x99));
    }
    let mut three = bench.client(4, "b").await;
    three.send(&crate::harness::publish(4, 0x34, "devices/b/readings", b"x", Some(1))).await;
    bench.publish().await.reply.send(Verdict::Rejected(Reject::BadCharacter));
    assert_eq!(three.packet().await.unwrap(), [0x50, 2, 0, 1]);
}

#[tokio::test]
async fn what_could_not_be_released_is_not_completed_and_too_many_open_end_the_session() {
    let mut bench = bench().await;
    let mut client = bench.client(5, "a").await;
    client.send(&pubrel(7)).await;
    drop(bench.publish().await);
    client.hears_only_a_pong().await;
    let mut sent = 0u64;
    for n in 1..=257u16 {
        client.send(&crate::harness::publish(5, 0x34, "devices/a/readings", b"1", Some(n))).await;
        if n <= 256 {
            sent += 1;
            accept(bench.publish().await, sent);
            assert_eq!(client.packet().await.unwrap()[0], 0x50);
        }
    }
    assert_eq!(client.packet().await.unwrap(), [0xE0, 1, 0x93]);
}

#[tokio::test]
async fn a_topic_alias_stands_for_its_topic_within_its_connection() {
    let mut bench = bench().await;
    let with_alias = |topic: &str, alias: u8| {
        let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
        body.extend(topic.as_bytes());
        body.extend([3, 0x23, 0, alias]);
        body.extend(b"42");
        let mut packet = vec![0x30, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        packet
    };
    let mut client = bench.client(5, "a").await;
    client.send(&with_alias("devices/a/readings", 8)).await;
    accept(bench.publish().await, 1);
    client.send(&with_alias("", 8)).await;
    let publish = bench.publish().await;
    assert_eq!((&*publish.topic, &publish.payload[..]), ("devices/a/readings", &b"42"[..]));
    for (topic, alias, code) in [("", 1, 0x82), ("devices/a/readings", 9, 0x94), ("devices/a/readings", 0, 0x82)] {
        let mut client = bench.client(5, "a").await;
        client.send(&with_alias(topic, alias)).await;
        assert_eq!(client.packet().await.unwrap(), [0xE0, 1, code], "{topic:?} {alias}");
    }
}

#[tokio::test]
async fn a_reason_comes_in_words_where_the_client_wants_them_and_has_room() {
    let mut bench = bench().await;
    let in_words = b"\x40\x16\0\x07\x99\x12\x1F\0\x0Fbad_check_digit";
    for (properties, expected) in [
        (&[][..], &in_words[..]),
        (&[0x17, 1], in_words),
        // Request problem information 0; a maximum packet size of 23, which is one too few, and of 24.
        (&[0x17, 0], b"\x40\x04\0\x07\x99\0"),
        (&[0x27, 0, 0, 0, 23], b"\x40\x04\0\x07\x99\0"),
        (&[0x27, 0, 0, 0, 24], in_words),
    ] {
        let mut client = Client::open(bench.addresses[0], 5).await;
        client.send(&connect_saying("a", properties)).await;
        assert_eq!(code_of(&client.packet().await.unwrap()), 0);
        client.publish("devices/a/readings", b"1", Some(7)).await;
        bench.publish().await.reply.send(Verdict::Rejected(Reject::BadCheckDigit));
        assert_eq!(client.packet().await.unwrap(), expected, "{properties:02x?}");
    }
}
