//! A router that ends, and one that hangs: found, replaced and counted, while readings are acknowledged.

use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use windlass_reading::DeviceId;

use super::*;
use crate::{
    Broker, Config, Identities, Identity, Intake, Listener, NotStored, Offer, Outbox, Refused, SecretHash,
    SessionStore, Stored, User, Verdict, intake::Qos,
};

const PATIENCE: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_millis(50);
/// Longer than a busy machine stands still.
const LONG: Pace = Pace { every: EVERY, patience: Duration::from_secs(30) };
const SHORT: Pace = Pace { every: EVERY, patience: Duration::from_secs(2) };
const RECEIPTS: &str = "devices/a/receipts";

struct Counts(AtomicU64);

impl Intake for Counts {
    fn offer(&self, offer: Offer) -> Result<(), Refused> {
        for place in 0..offer.publishes.len() {
            let sequence = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            offer.replies.send([(place, Verdict::Accepted { sequence })]);
        }
        Ok(())
    }
}

struct Nothing;

#[async_trait]
impl SessionStore for Nothing {
    async fn all(&self) -> Result<Vec<Stored>, NotStored> {
        Ok(Vec::new())
    }

    async fn keep(&self, _: Stored) -> Result<(), NotStored> {
        Ok(())
    }

    async fn forget(&self, _: Vec<String>) -> Result<(), NotStored> {
        Ok(())
    }
}

/// A broker with a device and a user who hears its receipts.
struct Site {
    hub: Hub,
    health: RouterHealth,
    outbox: Outbox,
    heard: mpsc::UnboundedReceiver<Bytes>,
    acknowledged: mpsc::UnboundedReceiver<()>,
    _stop: tokio_util::sync::DropGuard,
}

fn options(name: &str, at: SocketAddr) -> MqttOptions {
    let mut options = MqttOptions::new(name, at.ip().to_string(), at.port());
    options.set_credentials(name, "secret").set_keep_alive(Duration::from_secs(60));
    options
}

impl Site {
    async fn start(pace: Pace) -> Self {
        let secret = SecretHash::of(b"secret");
        let device = Identity { device: DeviceId::new("a").unwrap(), secret: Some(secret.clone()), topic: None };
        let subscribe = vec!["devices/#".to_owned()];
        let identities = Identities::new(vec![device], vec![User { name: "desk".into(), secret, subscribe }]);
        let config = Config { listeners: vec![Listener::plain(([127, 0, 0, 1], 0).into())], ..Config::default() };
        let intake = Arc::new(Counts(AtomicU64::new(0)));
        let mut broker = Broker::bind(config, Path::new(""), identities, intake, Arc::new(Nothing)).await.unwrap();
        broker.pace = pace;
        let (health, outbox, at) = (broker.router_health(), broker.outbox(), broker.local_addrs()[0]);
        let stop = CancellationToken::new();
        tokio::spawn(broker.run(stop.clone()));
        let (hearing, heard) = mpsc::unbounded_channel();
        let (client, mut events) = AsyncClient::new(options("desk", at), 10);
        client.subscribe(RECEIPTS, QoS::AtLeastOnce).await.unwrap();
        tokio::spawn(async move {
            let _client = client;
            // The connection must not break: the first error ends this, and with it the test.
            while let Ok(event) = events.poll().await {
                if let Event::Incoming(Packet::Publish(publish)) = event {
                    let _ = hearing.send(publish.payload);
                }
            }
        });
        let (acknowledging, acknowledged) = mpsc::unbounded_channel();
        tokio::spawn(scan(options("a", at), acknowledging));
        let mut site = Self { hub: health.hub.clone(), health, outbox, heard, acknowledged, _stop: stop.drop_guard() };
        site.hears_again().await;
        site
    }

    /// Tells until something of it arrives, as receipts of later readings would.
    async fn hears_again(&mut self) {
        while self.heard.try_recv().is_ok() {}
        until("heard again", async || {
            self.outbox.tell(RECEIPTS.into(), Bytes::from_static(b"receipt"), Qos::AtLeastOnce);
            timeout(Duration::from_millis(20), self.heard.recv()).await.is_ok_and(|heard| heard.unwrap() == "receipt")
        })
        .await;
    }

    /// So many readings that were sent after now, or just before it.
    async fn acknowledges(&mut self) {
        while self.acknowledged.try_recv().is_ok() {}
        for _ in 0..5 {
            timeout(PATIENCE, self.acknowledged.recv()).await.unwrap().unwrap();
        }
    }
}

/// Publishes readings, one after the other.
async fn scan(options: MqttOptions, acknowledging: mpsc::UnboundedSender<()>) {
    let (client, mut events) = AsyncClient::new(options, 10);
    client.publish("devices/a/readings", QoS::AtLeastOnce, false, "1").await.unwrap();
    while let Ok(event) = events.poll().await {
        if let Event::Incoming(Packet::PubAck(_)) = event {
            if acknowledging.send(()).is_err() {
                return;
            }
            sleep(Duration::from_millis(2)).await;
            client.publish("devices/a/readings", QoS::AtLeastOnce, false, "1").await.unwrap();
        }
    }
}

/// Asks until it holds; `what` tells which one did not.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !holds().await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, asked).await.expect(what);
}

#[tokio::test]
async fn a_router_that_ends_is_replaced_and_counted_while_readings_flow() {
    let mut site = Site::start(LONG).await;
    let health = site.health.clone();
    until("started", async || site.hub.newest() == 1 && health.is_up()).await;
    for ended in 1..=3 {
        site.hub.kill();
        until("down", async || !health.is_up()).await;
        site.acknowledges().await;
        until("up", async || health.is_up()).await;
        assert_eq!(health.restarts(), ended);
        site.hears_again().await;
        site.acknowledges().await;
    }
}

#[tokio::test]
async fn a_router_that_hangs_is_replaced_and_counted_while_readings_flow() {
    let mut site = Site::start(SHORT).await;
    let health = site.health.clone();
    let hanging = site.hub.hang();
    // More than its queue takes: nobody waits for room in it for ever.
    for _ in 0..3_000 {
        site.outbox.tell(RECEIPTS.into(), Bytes::from_static(b"receipt"), Qos::AtLeastOnce);
    }
    until("down", async || !health.is_up()).await;
    site.acknowledges().await;
    until("up", async || health.is_up()).await;
    assert!(health.restarts() >= 1);
    site.hears_again().await;
    site.acknowledges().await;
    // The old one goes on, and meets its end: the new one is another.
    drop(hanging);
    site.hears_again().await;
    site.acknowledges().await;
}
