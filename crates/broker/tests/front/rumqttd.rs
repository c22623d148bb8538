//! The faults of rumqttd 0.20, each tried through the front. After each a device is acknowledged, subscribers hear, and
//! the router has not been started again.
//!
//! | fault | test |
//! |---|---|
//! | a topic or will with a multi-byte first character ends the router | `a_multi_byte_first_character_*` |
//! | a shared subscription that is left without acknowledgements ends the router | `a_shared_subscription_*` |
//! | connect and reset ends the listener | `connecting_and_resetting_*` |
//! | one connection too many ends the listener | `one_connection_too_many_*` |
//! | a client id with `/ + # $`, twice, ends the listener | `a_client_id_of_wildcards_*` |
//! | handshakes inside the accept loop | transports.rs, `handshakes_that_stand_still_hold_nobody_up` |
//! | certificates are read for each connection | transports.rs, `new_certificates_serve_new_connections_and_bad_files_change_nothing` |
//! | a server's packet from a client panics | `packets_that_only_a_server_sends_*` |
//! | MQTT 5 properties to a 3.1.1 subscriber panic | `properties_do_not_reach_*` |
//! | wildcards, NUL and nothing as a topic, bad flags | abuse.rs, `what_breaks_the_standard_ends_its_own_connection_with_a_code` |
//! | filters like `a#b` | `filters_that_are_none_*` |
//! | PUBACK comes from memory | durability.rs, `no_puback_leaves_before_the_verdict` |
//! | a slow reader's messages overwrite each other, and the publisher is acknowledged | `a_subscriber_that_reads_nothing_*` |
//! | a publish that nobody has subscribed to is lost | durability.rs: no test there has a subscriber |
//! | a link that is told to wait waits for ever | `a_burst_*` |
//! | any client publishes and subscribes as any device | identity.rs, `a_foreign_topic_is_refused_and_mqtt_5_keeps_its_connection`; abuse.rs, `what_ends_rumqttd_by_subscribing_is_refused_before_it` |
//! | a client with an embedded link's client id takes its messages | `a_client_id_of_a_link_*` |
//! | a match cache and a meter for each topic | `a_flood_of_topics_*` |
//! | a log for each filter that ever was | `a_flood_of_filters_*`; src/acl.rs, `the_router_gets_no_filter_but_those_of_the_config` |
//! | QoS 2 without PUBREL is kept for ever | `a_flood_of_unreleased_publishes_*` |
//! | each client id that ever was is kept | src/router.rs, `only_subscribed_topics_reach_the_router_and_names_are_used_again` |
//! | PUBREL ends the oldest delivery, whatever its packet id | `a_release_ends_its_own_delivery_*` |
//! | a redelivery is recorded twice | durability.rs, `a_redelivery_carries_its_flag` |
//! | wrong credentials get no CONNACK | identity.rs, `wrong_credentials_get_a_code_and_a_closed_socket` |
//! | keep alive 0 is refused | every client of harness.rs asks for it |
//! | no UNSUBACK for an unknown filter | `unsubscribing_from_nothing_*` |
//! | sessions never expire | sessions.rs, `a_session_is_kept_no_longer_than_allowed_and_the_client_is_told` |
//! | the end of an old connection meets the new one that has its number | `users_that_come_and_go_*` |
//! | no shutdown | lifetime.rs, `a_shutdown_answers_what_is_in_and_says_goodbye` |
//! | a hanging router holds up who publishes into it | src/canary/tests.rs |

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use windlass_broker::{Limits, Qos, Step, Verdict};

use crate::harness::{
    Bench, Client, accept, bench, bench_with, code_of, connect, desk, identity, puback, publish, subscribe,
};

const RECEIPTS: &str = "devices/b/receipts";

/// A user that hears receipts.
async fn screen(bench: &Bench, version: u8, client_id: &str) -> Client {
    let mut screen = bench.user(version, client_id).await;
    listen(&mut screen).await;
    screen
}

async fn listen(client: &mut Client) {
    client.send(&subscribe(client.version, 1, &["devices/+/receipts"])).await;
    let suback = client.packet().await.unwrap();
    assert_eq!((suback[0], suback.last()), (0x90, Some(&1)), "{suback:02x?}");
}

/// The next message, acknowledged.
async fn heard(client: &mut Client) -> Vec<u8> {
    let message = client.packet().await.unwrap();
    assert_eq!(message[0], 0x32, "{message:02x?}");
    let at = 4 + usize::from(message[3]);
    client.send(&[0x40, 2, message[at], message[at + 1]]).await;
    let properties = usize::from(client.version == 5);
    message[at + 2 + properties..].to_vec()
}

/// Another device is acknowledged, this subscriber and a new one hear, and the router is the one from the start.
async fn all_is_well(bench: &mut Bench, screen: &mut Client) {
    let (neighbour, another) = (bench.client(4, "b").await, bench.user(5, "another").await);
    are_served(bench, screen, neighbour, another).await;
}

async fn are_served(bench: &mut Bench, screen: &mut Client, mut neighbour: Client, mut another: Client) {
    while bench.publishes.try_recv().is_ok() {}
    neighbour.publish("devices/b/readings", b"1", Some(1)).await;
    accept(bench.publish().await, 1);
    assert_eq!(neighbour.packet().await.unwrap(), puback(1));
    listen(&mut another).await;
    bench.outbox.tell(RECEIPTS.into(), Bytes::from_static(b"all is well"), Qos::AtLeastOnce);
    assert_eq!(heard(screen).await, b"all is well");
    assert_eq!(heard(&mut another).await, b"all is well");
    assert_eq!((bench.router.is_up(), bench.router.restarts()), (true, 0));
}

/// A CONNECT of device `a` with a will on `topic`.
fn connect_with_will(version: u8, topic: &str) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', version, 0b1100_0110, 0, 0];
    if version == 5 {
        // No properties, of the packet and of the will, are one byte each.
        body.push(0);
        body.extend([0, 1, b'a', 0]);
    } else {
        body.extend([0, 1, b'a']);
    }
    let mut field = |bytes: &[u8]| {
        body.extend([0, u8::try_from(bytes.len()).unwrap()]);
        body.extend(bytes);
    };
    field(topic.as_bytes());
    field(b"gone");
    field(b"a");
    field(b"secret of a");
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}

#[tokio::test]
async fn a_multi_byte_first_character_in_a_topic_reaches_no_router() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for version in [4, 5] {
        for (first, packet_id) in [(0x30, None), (0x32, Some(1)), (0x34, Some(1))] {
            for topic in ["é", "é/readings", "\u{1F4A5}"] {
                let mut device = bench.client(version, "a").await;
                device.send(&publish(version, first, topic, b"1", packet_id)).await;
                let mut user = bench.user(version, "attacker").await;
                user.send(&publish(version, first, topic, b"1", packet_id)).await;
            }
        }
        let mut user = bench.user(version, "attacker").await;
        user.send(&subscribe(version, 1, &["é", "é/#", "devices/é/receipts"])).await;
        user.packet().await.unwrap();
    }
    assert!(bench.publishes.try_recv().is_err());
    all_is_well(&mut bench, &mut screen).await;
    // Where it is the device's own topic, its readings are heard on `devices/{id}/readings`.
    bench.identities.replace(vec![identity("a", Some("é")), identity("b", None)], vec![desk()]);
    screen.send(&subscribe(4, 2, &["devices/a/readings"])).await;
    screen.packet().await.unwrap();
    let mut device = bench.client(4, "a").await;
    device.publish("é", b"42", Some(1)).await;
    accept(bench.publish().await, 1);
    assert_eq!(device.packet().await.unwrap(), puback(1));
    assert_eq!(heard(&mut screen).await, b"42");
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn a_multi_byte_first_character_in_a_will_gets_no_session() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for (version, own) in [(4, 0), (5, 0)] {
        for (topic, code) in [("é", if version == 5 { 0x87 } else { 5 }), ("devices/a/status", own)] {
            let mut client = Client::open(bench.addresses[0], version).await;
            client.send(&connect_with_will(version, topic)).await;
            assert_eq!(code_of(&client.packet().await.unwrap()), code, "{topic}");
        }
    }
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn a_shared_subscription_is_refused_and_its_client_may_leave_as_it_likes() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for (version, refused) in [(4, 0x80), (5, 0x9E)] {
        for user in [false, true] {
            let mut client = if user { bench.user(version, "sharer").await } else { bench.client(version, "b").await };
            client.send(&subscribe(version, 1, &["$share/g/devices/b/receipts", "$share/g/#", RECEIPTS])).await;
            let suback = client.packet().await.unwrap();
            assert_eq!(suback[suback.len() - 3..], [refused, refused, 1], "{suback:02x?}");
            bench.outbox.tell(RECEIPTS.into(), Bytes::from_static(b"not acknowledged"), Qos::AtLeastOnce);
            assert_eq!(client.packet().await.unwrap()[0], 0x32);
            client.socket.set_zero_linger().unwrap();
            drop(client);
            assert_eq!(heard(&mut screen).await, b"not acknowledged");
        }
    }
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn connecting_and_resetting_leaves_the_listener_open() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for round in 0..100 {
        let version = 4 + round % 2;
        let mut client = Client::open(bench.addresses[0], version).await;
        let (name, secret) = if round % 4 < 2 { ("a", "secret of a") } else { ("desk", "secret of desk") };
        client.send(&connect(version, name, Some((name, secret)), 0)).await;
        if round % 3 == 0 {
            client.packet().await.unwrap();
        }
        client.socket.set_zero_linger().unwrap();
    }
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn one_connection_too_many_and_its_retries_leave_the_listener_open() {
    let mut bench = bench_with(Limits { max_connections: 4, ..Limits::default() }).await;
    let mut screen = screen(&bench, 4, "screen").await;
    let mut others = Vec::new();
    for n in 0..3 {
        others.push(bench.user(4, &n.to_string()).await);
    }
    for _ in 0..20 {
        let mut refused = Client::open(bench.addresses[0], 4).await;
        // It may be closed before this is written.
        let _ = refused.socket.write_all(&connect(4, "one", None, 0)).await;
        assert_eq!(refused.packet().await, None);
    }
    for mut other in others {
        other.send(&[0xE0, 0]).await;
        assert_eq!(other.packet().await, None);
    }
    let neighbour = once_there_is_room(&bench, "b").await;
    let another = once_there_is_room(&bench, "desk").await;
    are_served(&mut bench, &mut screen, neighbour, another).await;
}

/// A connected client. A place is free a moment after its socket is closed.
async fn once_there_is_room(bench: &Bench, name: &str) -> Client {
    loop {
        let mut client = Client::open(bench.addresses[0], 4).await;
        let hello = connect(4, name, Some((name, &format!("secret of {name}"))), 0);
        if client.socket.write_all(&hello).await.is_ok() && client.packet().await.is_some() {
            return client;
        }
    }
}

#[tokio::test]
async fn a_client_id_of_wildcards_is_a_name_like_any_other() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for client_id in ["/", "+", "#", "$", "a/b+c#d$e", "$share/g/x", "é"] {
        for _ in 0..3 {
            let mut client = self::screen(&bench, 4, client_id).await;
            bench.outbox.tell(RECEIPTS.into(), Bytes::from_static(b"1"), Qos::AtLeastOnce);
            assert_eq!((heard(&mut client).await, heard(&mut screen).await), (b"1".to_vec(), b"1".to_vec()));
        }
        let mut device = Client::open(bench.addresses[0], 4).await;
        device.send(&connect(4, client_id, Some(("a", "secret of a")), 0)).await;
        assert_eq!(code_of(&device.packet().await.unwrap()), 2, "{client_id}");
    }
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn packets_that_only_a_server_sends_end_their_connection_alone() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for version in [4, 5] {
        for packet in [
            &[0x20, 2, 0, 0][..],
            &[0x20, 3, 0, 0, 0],
            &[0x90, 3, 0, 1, 0],
            &[0x90, 4, 0, 1, 0, 0],
            &[0xB0, 2, 0, 1],
            &[0xB0, 4, 0, 1, 0, 0],
            &[0xD0, 0],
        ] {
            let user = bench.user(version, "attacker").await;
            for mut client in [user, bench.client(version, "a").await] {
                client.send(packet).await;
                // MQTT 5 is told why.
                while let Some(goodbye) = client.packet().await {
                    assert_eq!((version, goodbye[0]), (5, 0xE0), "{packet:02x?}");
                }
            }
            // Nor before CONNECT.
            let mut client = Client::open(bench.addresses[0], version).await;
            client.send(packet).await;
            assert_eq!(client.packet().await, None, "{packet:02x?}");
        }
    }
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn properties_do_not_reach_a_3_1_1_subscriber() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    screen.send(&subscribe(4, 2, &["devices/a/readings"])).await;
    screen.packet().await.unwrap();
    let topic = "devices/a/readings";
    // Payload format, expiry, content type, response topic, correlation data, user property.
    let properties = b"\x01\x01\x02\0\0\0\x3C\x03\0\x01t\x08\0\x01r\x09\0\x01c\x26\0\x01k\0\x01v";
    let mut device = bench.client(5, "a").await;
    for qos in [0, 1] {
        let mut body = vec![0, u8::try_from(topic.len()).unwrap()];
        body.extend(topic.as_bytes());
        body.extend(if qos == 1 { &[0, 7][..] } else { &[] });
        body.push(u8::try_from(properties.len()).unwrap());
        body.extend(properties);
        body.extend(b"42");
        let mut packet = vec![0x30 | qos << 1, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        device.send(&packet).await;
        assert_eq!(accept(bench.publish().await, u64::from(qos) + 1), "42");
        let id = (qos == 1).then_some(1);
        assert_eq!(screen.packet().await.unwrap(), publish(4, 0x30 | qos << 1, topic, b"42", id));
    }
    screen.send(&puback(1)).await;
    assert_eq!(device.packet().await.unwrap(), puback(7));
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn filters_that_are_none_are_refused() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    let filters =
        ["a#b", "devices/#/receipts", "devices/+x/receipts", "#", "+/+/receipts", "$SYS/#", "windlass/canary"];
    for version in [4, 5] {
        for mut client in [bench.user(version, "attacker").await, bench.client(version, "a").await] {
            client.send(&subscribe(version, 1, &filters)).await;
            let suback = client.packet().await.unwrap();
            let codes = &suback[suback.len() - filters.len()..];
            assert!(codes.iter().all(|code| *code >= 0x80), "{suback:02x?}");
            client.hears_only_a_pong().await;
        }
        // Not a filter in any sense: an empty one, and one with a NUL.
        for filter in ["", "devices/\0/receipts"] {
            let mut client = bench.user(version, "attacker").await;
            client.send(&subscribe(version, 1, &[filter])).await;
            if let Some(answer) = client.packet().await {
                assert!(answer[0] == 0xE0 || answer.last() >= Some(&0x80), "{answer:02x?}");
            }
        }
    }
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_costs_no_reading() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    let mut slow = bench.user(4, "slow").await;
    slow.send(&subscribe(4, 1, &["devices/a/readings"])).await;
    slow.packet().await.unwrap();
    let mut device = bench.client(4, "a").await;
    let payload = [b'1'; 100];
    for n in 0..3_000u16 {
        device.publish("devices/a/readings", &payload, Some(n % 100 + 1)).await;
        accept(bench.publish().await, u64::from(n) + 1);
        assert_eq!(device.packet().await.unwrap()[0], 0x40);
    }
    all_is_well(&mut bench, &mut screen).await;
    drop(slow);
}

#[tokio::test]
async fn a_burst_longer_than_the_routers_window_is_heard_to_its_end() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for n in 0..900 {
        bench.outbox.tell(RECEIPTS.into(), n.to_string().into(), Qos::AtLeastOnce);
    }
    for n in 0..900 {
        assert_eq!(heard(&mut screen).await, n.to_string().as_bytes());
    }
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn a_client_id_of_a_link_takes_nobodys_messages() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for client_id in ["windlass", "session-1", "session-2", "router-0"] {
        let mut thief = self::screen(&bench, 4, client_id).await;
        all_is_well(&mut bench, &mut screen).await;
        assert_eq!(heard(&mut thief).await, b"all is well");
    }
}

#[tokio::test]
async fn a_flood_of_topics_is_refused_before_the_router() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    let mut device = bench.client(5, "a").await;
    for n in 0..2_000u16 {
        device.publish(&format!("devices/a/readings/{n}"), b"1", Some(n % 100 + 1)).await;
        assert_eq!(code_of(&device.packet().await.unwrap()), 0x87);
    }
    assert!(bench.publishes.try_recv().is_err());
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn a_flood_of_filters_brings_each_what_it_asks_for_and_nothing_else() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    let mut attacker = bench.user(4, "attacker").await;
    for n in 0..1_000 {
        let filter = format!("devices/{n}/receipts");
        attacker.send(&subscribe(4, 1, &[&filter])).await;
        assert_eq!(attacker.packet().await.unwrap(), [0x90, 3, 0, 1, 1]);
        if n % 100 == 0 {
            bench.outbox.tell(RECEIPTS.into(), Bytes::from_static(b"of b"), Qos::AtLeastOnce);
            bench.outbox.tell(filter.clone(), Bytes::from_static(b"of its own"), Qos::AtLeastOnce);
            assert_eq!(heard(&mut attacker).await, b"of its own");
            assert_eq!(heard(&mut screen).await, b"of b");
            assert_eq!(heard(&mut screen).await, b"of its own");
        }
        attacker.send(&unsubscribe(&filter)).await;
        assert_eq!(attacker.packet().await.unwrap(), [0xB0, 2, 0, 1]);
    }
    all_is_well(&mut bench, &mut screen).await;
}

/// A 3.1.1 UNSUBSCRIBE.
fn unsubscribe(filter: &str) -> Vec<u8> {
    let length = u8::try_from(filter.len()).unwrap();
    let mut packet = vec![0xA2, length + 4, 0, 1, 0, length];
    packet.extend(filter.as_bytes());
    packet
}

#[tokio::test]
async fn a_flood_of_unreleased_publishes_ends_its_own_session() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for version in [4, 5] {
        let mut device = bench.client(version, "a").await;
        for n in 1..=257u16 {
            device.send(&publish(version, 0x34, "devices/a/readings", b"1", Some(n))).await;
            if n <= 256 {
                accept(bench.publish().await, n.into());
                assert_eq!(device.packet().await.unwrap()[0], 0x50);
            }
        }
        assert_eq!(device.packet().await, (version == 5).then(|| vec![0xE0, 1, 0x93]));
        assert_eq!(device.packet().await, None);
    }
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn a_release_ends_its_own_delivery_in_any_order() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for version in [4, 5] {
        let mut device = bench.client(version, "a").await;
        for n in 1..=3u8 {
            device.send(&publish(version, 0x34, "devices/a/readings", b"1", Some(n.into()))).await;
            accept(bench.publish().await, n.into());
            assert_eq!(device.packet().await.unwrap(), [0x50, 2, 0, n]);
        }
        for n in [3, 1, 2] {
            device.send(&[0x62, 2, 0, n]).await;
            let release = bench.publish().await;
            assert_eq!((release.step, release.packet_id), (Step::Release, Some(n.into())));
            release.reply.send(Verdict::Released { known: true });
            assert_eq!(device.packet().await.unwrap(), [0x70, 2, 0, n]);
        }
    }
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn unsubscribing_from_nothing_is_answered() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    for client in [bench.user(4, "x").await, bench.client(4, "a").await] {
        let mut client = client;
        client.send(&[0xA2, 5, 0, 1, 0, 1, b'x']).await;
        assert_eq!(client.packet().await.unwrap(), [0xB0, 2, 0, 1]);
    }
    for client in [bench.user(5, "x").await, bench.client(5, "a").await] {
        let mut client = client;
        client.send(&[0xA2, 6, 0, 1, 0, 0, 1, b'x']).await;
        assert_eq!(client.packet().await.unwrap(), [0xB0, 4, 0, 1, 0, 0x11]);
    }
    all_is_well(&mut bench, &mut screen).await;
}

#[tokio::test]
async fn users_that_come_and_go_in_haste_hear_at_the_end() {
    let mut bench = bench().await;
    let mut screen = screen(&bench, 4, "screen").await;
    let mut last = self::screen(&bench, 4, "first").await;
    for round in 0..100 {
        match round % 3 {
            0 => last.send(&[0xE0, 0]).await,
            1 => last.socket.set_zero_linger().unwrap(),
            _ => {}
        }
        last = self::screen(&bench, 4, &round.to_string()).await;
    }
    all_is_well(&mut bench, &mut screen).await;
    assert_eq!(heard(&mut last).await, b"all is well");
}
