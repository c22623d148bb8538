//! rumqttd's router behind the front: one link for each user's connection that subscribed, one that publishes.
//!
//! Devices hear their own topics from their sessions directly: a link costs about 100 KiB, a session some hundred bytes.
//!
//! Only checked topics and QoS 0 messages get in. If the router's thread ends, the next message or subscription starts
//! another, and sessions whose link broke open it again; readings do not pass here and are not touched.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use dashmap::DashMap;
use futures::FutureExt;
use rumqttd::{
    Notification, Router, RouterConfig,
    local::{LinkBuilder, LinkRx, LinkTx},
    protocol::{Disconnect, DisconnectReasonCode, Packet},
};
use tokio::sync::mpsc;

use crate::{acl, error::Error, metrics};

/// A subscribed topic's log in the router: small, because each subscribed topic has its own.
const SEGMENT_BYTES: usize = 64 * 1024;
const SEGMENTS: usize = 2;
/// Messages that the router keeps ready for one slow link.
const OUTGOING_MESSAGES: u64 = 200;
/// For the router to answer a new link; it takes microseconds.
const LINK_TIMEOUT: Duration = Duration::from_secs(1);
/// The publishing link's name; sessions' links are numbered.
const PUBLISHER: &str = "windlass";

type Opened = Option<(LinkTx, LinkRx)>;
/// Opens a link by its name; the flag lets it publish to topics that nobody has subscribed to. Without it the router
/// drops a link for such a publish, which a message that crosses the end of a subscription, or of a router, may be.
type Opener = Arc<dyn Fn(&str, bool) -> Opened + Send + Sync>;

/// The way to the router. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Hub {
    state: Arc<State>,
    queue: mpsc::Sender<(String, Bytes)>,
}

struct State {
    max_links: usize,
    running: Mutex<Option<Running>>,
    /// How many users' connections have subscribed to each filter.
    interest: DashMap<String, usize>,
    listeners: AtomicUsize,
    /// Names that are free again: rumqttd remembers each name for ever, so they are used again.
    names: Mutex<(usize, BTreeSet<usize>)>,
}

struct Running {
    opener: Opener,
    publisher: LinkTx,
    /// Kept so that the router can tell the publisher; nothing is ever subscribed to.
    _inbox: LinkRx,
}

/// A session's link. Dropping it gives everything back.
pub(crate) struct Link {
    hub: Hub,
    tx: Option<LinkTx>,
    rx: LinkRx,
    name: usize,
    routed: HashSet<String>,
}

impl Hub {
    /// Starts the thread that feeds the router. `max_links` sessions may subscribe, `messages` may wait.
    pub(crate) fn start(max_links: usize, messages: usize) -> Result<Self, Error> {
        let (queue, mut messages) = mpsc::channel::<(String, Bytes)>(messages.max(1));
        let state = Arc::new(State {
            max_links,
            running: Mutex::new(None),
            interest: DashMap::new(),
            listeners: AtomicUsize::new(0),
            names: Mutex::default(),
        });
        let feeder = state.clone();
        std::thread::Builder::new()
            .name("mqtt-outbox".into())
            .spawn(move || {
                while let Some((topic, payload)) = messages.blocking_recv() {
                    feeder.publish(&topic, &payload);
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self { state, queue })
    }

    pub(crate) fn tell(&self, topic: String, payload: Bytes) {
        if self.wants(&topic) && self.queue.try_send((topic, payload)).is_err() {
            metrics::dropped();
        }
    }

    pub(crate) fn wants(&self, topic: &str) -> bool {
        self.has_listeners() && self.state.interest.iter().any(|filter| acl::covers(filter.key(), topic))
    }

    pub(crate) fn has_listeners(&self) -> bool {
        self.state.listeners.load(Ordering::Relaxed) > 0
    }

    /// A link that is subscribed to `topics`, which must be checked. `None` when the router
    /// does not take it.
    pub(crate) async fn open(&self, topics: Vec<String>) -> Option<Link> {
        let hub = self.clone();
        tokio::task::spawn_blocking(move || hub.open_blocking(topics)).await.ok().flatten()
    }

    fn open_blocking(self, topics: Vec<String>) -> Option<Link> {
        let name = self.state.take_name();
        let Some((tx, rx)) = self.state.connect(&format!("session-{name}")) else {
            self.state.give_name(name);
            return None;
        };
        let mut link = Link { hub: self, tx: Some(tx), rx, name, routed: HashSet::new() };
        topics.into_iter().all(|topic| link.subscribe_blocking(topic)).then_some(link)
    }
}

impl State {
    /// A new link, by a new router if the present one has ended.
    fn connect(&self, name: &str) -> Opened {
        let mut running = lock(&self.running);
        if let Some(opened) = self.revived(&mut running).and_then(|r| (r.opener)(name, false)) {
            return Some(opened);
        }
        // Full, or ended. Publishing tells which: only an ended router refuses it.
        let ended = running.as_mut().is_none_or(|r| r.publisher.publish("windlass/probe", Bytes::new()).is_err());
        if !ended {
            return None;
        }
        *running = None;
        self.revived(&mut running).and_then(|r| (r.opener)(name, false))
    }

    fn publish(&self, topic: &str, payload: &Bytes) {
        let mut running = lock(&self.running);
        for _ in 0..2 {
            let Some(router) = self.revived(&mut running) else { break };
            if router.publisher.publish(topic.to_owned(), payload.clone()).is_ok() {
                return;
            }
            tracing::error!("the MQTT router has ended; another is started");
            *running = None;
        }
        metrics::dropped();
    }

    fn revived<'a>(&self, running: &'a mut Option<Running>) -> Option<&'a mut Running> {
        if running.is_none() {
            *running = self.spawn();
        }
        running.as_mut()
    }

    fn spawn(&self) -> Option<Running> {
        let config = RouterConfig {
            max_connections: self.max_links.saturating_add(1),
            max_outgoing_packet_count: OUTGOING_MESSAGES,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        };
        let sender = Router::new(0, config).spawn();
        let opener: Opener = Arc::new(move |name: &str, any_topic: bool| {
            let (name, sender) = (name.to_owned(), sender.clone());
            within_timeout(move || LinkBuilder::new(&name, sender).dynamic_filters(any_topic).build().ok())
                .map(|(tx, rx, _)| (tx, rx))
        });
        let (publisher, inbox) = opener(PUBLISHER, true)?;
        Some(Running { opener, publisher, _inbox: inbox })
    }

    fn take_name(&self) -> usize {
        let mut names = lock(&self.names);
        names.1.pop_first().unwrap_or_else(|| {
            names.0 += 1;
            names.0
        })
    }

    fn give_name(&self, name: usize) {
        lock(&self.names).1.insert(name);
    }
}

impl Link {
    /// Also routes `topics` to this link. On failure the link is gone.
    pub(crate) async fn subscribe(mut self, topics: Vec<String>) -> Option<Self> {
        tokio::task::spawn_blocking(move || topics.into_iter().all(|t| self.subscribe_blocking(t)).then_some(self))
            .await
            .ok()
            .flatten()
    }

    fn subscribe_blocking(&mut self, topic: String) -> bool {
        if self.routed.contains(&topic) {
            return true;
        }
        let Some(tx) = self.tx.as_mut() else { return false };
        if tx.subscribe(topic.clone()).is_err() {
            return false;
        }
        self.hub.state.listeners.fetch_add(1, Ordering::Relaxed);
        *self.hub.state.interest.entry(topic.clone()).or_default() += 1;
        self.routed.insert(topic);
        true
    }

    /// The next message for this session: topic and payload. `None` when the link has broken. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<(Bytes, Bytes)> {
        loop {
            match self.rx.next().await {
                Ok(Some(Notification::Forward(forward))) => {
                    return Some((forward.publish.topic, forward.publish.payload));
                }
                // The router waits for a sign that there is room again.
                Ok(Some(Notification::Unschedule)) => self.rx.wake().await.ok()?,
                Ok(Some(Notification::Disconnect(..))) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// What this link is subscribed to.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.routed.iter().cloned().collect()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for topic in self.routed.drain() {
            self.hub.state.listeners.fetch_sub(1, Ordering::Relaxed);
            if let Some(mut count) = self.hub.state.interest.get_mut(&topic) {
                *count = count.saturating_sub(1);
            }
            self.hub.state.interest.remove_if(&topic, |_, count| *count == 0);
        }
        let (Some(mut tx), state, name) = (self.tx.take(), self.hub.state.clone(), self.name) else { return };
        // The channel into the router keeps order, so a new link of this name comes after this goodbye.
        let mut goodbye = move || {
            let reason_code = DisconnectReasonCode::NormalDisconnection;
            // An error means that the router has ended, and the link with it.
            let _ = tx.send(Packet::Disconnect(Disconnect { reason_code }, None)).now_or_never();
            state.give_name(name);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(goodbye)),
            Err(_) => goodbye(),
        }
    }
}

/// The answer of `work`, from a thread of its own. rumqttd waits for ever if its router ends between taking the request
/// into its queue and reading it; that thread is then given up.
fn within_timeout<T: Send + 'static>(work: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("mqtt-link".into())
        // An error means that nobody waits any more.
        .spawn(move || drop(answer.send(work())))
        .ok()?;
    answered.recv_timeout(LINK_TIMEOUT).ok().flatten()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "devices/a/receipts";

    async fn told(hub: &Hub, link: &mut Link, text: &'static str) {
        hub.tell(TOPIC.into(), Bytes::from_static(text.as_bytes()));
        assert_eq!(link.next().await.unwrap(), (Bytes::from(TOPIC), Bytes::from(text)));
    }

    #[tokio::test]
    async fn only_subscribed_topics_reach_the_router_and_names_are_used_again() {
        let hub = Hub::start(4, 16).unwrap();
        assert!(!hub.has_listeners());
        hub.tell(TOPIC.into(), Bytes::from_static(b"nobody"));
        let mut link = hub.open(vec![TOPIC.into()]).await.unwrap();
        assert!(hub.wants(TOPIC) && !hub.wants("devices/b/receipts"));
        told(&hub, &mut link, "one").await;
        drop(link);
        assert!(!hub.has_listeners() && !hub.wants(TOPIC));
        while lock(&hub.state.names).1.is_empty() {
            tokio::task::yield_now().await;
        }
        let mut again = hub.open(vec![TOPIC.into()]).await.unwrap();
        assert_eq!(again.name, 1);
        told(&hub, &mut again, "two").await;
    }

    #[tokio::test]
    async fn a_router_that_ended_is_replaced() {
        let hub = Hub::start(4, 16).unwrap();
        let mut link = hub.open(vec![TOPIC.into()]).await.unwrap();
        // What no client can send through the front: this is one of the ways to end rumqttd's router.
        if let Some(running) = lock(&hub.state.running).as_mut() {
            running.publisher.publish("é", Bytes::new()).unwrap();
        }
        assert!(link.next().await.is_none());
        let topics = link.topics();
        drop(link);
        let mut link = hub.open(topics).await.unwrap();
        told(&hub, &mut link, "three").await;
    }
}
