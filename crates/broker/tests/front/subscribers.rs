use bytes::Bytes;
use windlass_broker::Qos;

use crate::harness::{bench, publish, subscribe};

const RECEIPTS: &str = "devices/a/receipts";

#[tokio::test]
async fn a_device_hears_its_own_receipts_in_either_protocol() {
    let bench = bench().await;
    assert!(!bench.outbox.has_listeners());
    for version in [4, 5] {
        let mut client = bench.client(version, "a").await;
        client.send(&subscribe(version, 1, &[RECEIPTS, "devices/a/errors"])).await;
        let suback = client.packet().await.unwrap();
        assert_eq!((suback[0], &suback[suback.len() - 2..]), (0x90, &[1, 1][..]));
        bench.outbox.tell("devices/b/receipts".into(), Bytes::from_static(b"not for a"), Qos::AtLeastOnce);
        for n in 0..50u16 {
            bench.outbox.tell(RECEIPTS.into(), n.to_string().into(), Qos::AtLeastOnce);
        }
        for n in 0..50u16 {
            let expected = publish(version, 0x32, RECEIPTS, n.to_string().as_bytes(), Some(n + 1));
            assert_eq!(client.packet().await.unwrap(), expected);
            client.send(&[0x40, 2, 0, u8::try_from(n + 1).unwrap()]).await;
        }
    }
}

#[tokio::test]
async fn nothing_comes_after_unsubscribing() {
    let bench = bench().await;
    let mut client = bench.client(4, "a").await;
    client.send(&subscribe(4, 1, &[RECEIPTS])).await;
    assert_eq!(client.packet().await.unwrap(), [0x90, 3, 0, 1, 1]);
    let mut unsubscribe = vec![0xA2, 22, 0, 2, 0, 18];
    unsubscribe.extend(RECEIPTS.as_bytes());
    client.send(&unsubscribe).await;
    assert_eq!(client.packet().await.unwrap(), [0xB0, 2, 0, 2]);
    assert!(!bench.outbox.wants(RECEIPTS));
    bench.outbox.tell(RECEIPTS.into(), Bytes::from_static(b"late"), Qos::AtLeastOnce);
    client.hears_only_a_pong().await;
}

#[tokio::test]
async fn the_interest_of_a_client_that_vanished_is_forgotten() {
    let bench = bench().await;
    let mut client = bench.client(4, "a").await;
    client.send(&subscribe(4, 1, &[RECEIPTS])).await;
    client.packet().await.unwrap();
    assert!(bench.outbox.wants(RECEIPTS));
    drop(client);
    while bench.outbox.has_listeners() {
        tokio::task::yield_now().await;
    }
    assert!(!bench.outbox.wants(RECEIPTS));
}
