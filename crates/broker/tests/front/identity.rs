use crate::harness::{Client, accept, bench, code_of, connect, identity, puback, publish};

#[tokio::test]
async fn wrong_credentials_get_a_code_and_a_closed_socket() {
    let bench = bench().await;
    let cases = [
        ("a", Some(("a", "wrong")), 4, 0x86),
        ("ghost", Some(("ghost", "secret of ghost")), 4, 0x86),
        ("a", None, 5, 0x87),
        ("5446078", None, 5, 0x87),
        ("b", Some(("a", "secret of a")), 2, 0x85),
    ];
    for (client_id, credentials, v3, v5) in cases {
        for (version, code) in [(4, v3), (5, v5)] {
            let mut client = Client::open(bench.addresses[0], version).await;
            client.send(&connect(version, client_id, credentials, 0)).await;
            assert_eq!(code_of(&client.packet().await.unwrap()), code, "{client_id} {credentials:?}");
            assert_eq!(client.packet().await, None);
        }
    }
}

#[tokio::test]
async fn the_articles_scanner_comes_in_by_client_id_where_the_listener_names_it() {
    let mut bench = bench().await;
    let mut client = Client::open(bench.addresses[1], 4).await;
    let mut bytes = connect(4, "5446078", None, 120);
    bytes.extend(publish(4, 0x30, "5446078", b"0012345", None));
    bytes.extend([0xE0, 0]);
    client.send(&bytes).await;
    drop(client);
    let reading = bench.publish().await;
    assert_eq!((&*reading.topic, &reading.payload[..]), ("5446078", &b"0012345"[..]));
    // Only that one.
    let mut other = Client::open(bench.addresses[1], 4).await;
    other.send(&connect(4, "a", None, 0)).await;
    assert_eq!(code_of(&other.packet().await.unwrap()), 5);
}

#[tokio::test]
async fn a_foreign_topic_is_refused_and_mqtt_5_keeps_its_connection() {
    let mut bench = bench().await;
    let mut v5 = bench.client(5, "a").await;
    v5.publish("devices/b/readings", b"1", Some(1)).await;
    let ack = v5.packet().await.unwrap();
    assert_eq!((code_of(&ack), ack.ends_with(b"foreign_topic")), (0x87, true));
    v5.publish("devices/a/readings", b"2", Some(2)).await;
    accept(bench.publish().await, 1);
    assert_eq!(v5.packet().await.unwrap(), puback(2));

    let mut v3 = bench.client(4, "b").await;
    // A multi-byte first character ends rumqttd's router; here it is a foreign topic.
    v3.publish("é", b"1", Some(1)).await;
    assert_eq!(v3.packet().await, None);
    assert!(bench.publishes.try_recv().is_err());
    let refusals = bench.desk.refusals.lock().unwrap();
    assert_eq!(
        refusals.iter().map(|r| (r.device.as_str(), r.reject.reason())).collect::<Vec<_>>(),
        [("a", "foreign_topic"), ("b", "foreign_topic")]
    );
}

#[tokio::test]
async fn a_newer_session_of_the_device_takes_over() {
    let mut bench = bench().await;
    let mut older = bench.client(5, "a").await;
    let mut newer = bench.client(5, "a").await;
    assert_eq!(older.packet().await.unwrap(), [0xE0, 1, 0x8E]);
    assert_eq!(older.packet().await, None);
    newer.publish("devices/a/readings", b"1", Some(1)).await;
    accept(bench.publish().await, 1);
    assert_eq!(newer.packet().await.unwrap(), puback(1));
    // The one after that still finds it: the old one's leaving took nothing away.
    let _newest = bench.client(5, "a").await;
    assert_eq!(newer.packet().await.unwrap(), [0xE0, 1, 0x8E]);
}

#[tokio::test]
async fn a_revoked_devices_session_ends_and_the_others_stay() {
    let bench = bench().await;
    let mut revoked = bench.client(5, "a").await;
    let mut stays = bench.client(5, "b").await;
    stays.hears_only_a_pong().await;
    revoked.hears_only_a_pong().await;
    bench.identities.replace(vec![identity("b", None)], Vec::new());
    assert_eq!(revoked.packet().await.unwrap(), [0xE0, 1, 0x98]);
    assert_eq!(revoked.packet().await, None);
    stays.hears_only_a_pong().await;
}
