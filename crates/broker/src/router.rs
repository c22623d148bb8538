//! rumqttd's router behind the front: one link for each user's connection that subscribed, one that publishes.
//!
//! Devices hear their own topics from their sessions directly: a link costs about 100 KiB, a session some hundred bytes.
//!
//! Only checked topics and QoS 0 messages get in. If the router's thread ends, the next message or subscription starts
//! another; if it hangs, the canary has it replaced. Links of an earlier router break, and sessions open them again;
//! readings do not pass here and are not touched. Nothing here waits for a router that hangs.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use dashmap::DashMap;
use flume::TrySendError;
use rumqttd::{
    Notification, Router, RouterConfig,
    local::{LinkBuilder, LinkError, LinkRx, LinkTx},
    protocol::{Disconnect, DisconnectReasonCode, Packet},
};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::{acl, error::Error, intake::Qos, mailbox::Message, metrics};

/// A subscribed topic's log in the router: small, because each subscribed topic has its own.
const SEGMENT_BYTES: usize = 64 * 1024;
const SEGMENTS: usize = 2;
/// Messages that the router keeps ready for one slow link.
const OUTGOING_MESSAGES: u64 = 200;
/// For the router to answer a new link; it takes microseconds.
const LINK_TIMEOUT: Duration = Duration::from_secs(1);
/// Links that are being opened at once: while a router hangs each of them holds a thread.
const OPENING: usize = 128;
/// Between two looks at the router's queue when it is full; it takes a thousand packets.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// Links beside those of sessions: the publisher's, the canary's, and the one that the canary has just left.
const OWN_LINKS: usize = 3;
/// Where the router's state is tried; nobody can subscribe to it, because it is not below `devices/`.
const PROBE: &str = "windlass/probe";
/// rumqttd's router ends at a topic whose first character has several bytes.
const UNBEARABLE: &str = "é";
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
    /// The number of the newest router. Links of an earlier one are over.
    newest: watch::Sender<u64>,
    /// How many users' connections have subscribed to each filter.
    interest: DashMap<String, usize>,
    listeners: AtomicUsize,
    /// Names that are free again: rumqttd remembers each name for ever, so they are used again.
    names: Mutex<(usize, BTreeSet<usize>)>,
}

struct Running {
    number: u64,
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
    /// What came and was not looked at: while it waited for an answer, or for room in the router's queue.
    early: VecDeque<Notification>,
    /// The router that it leads to, and news of the newest.
    router: u64,
    newest: watch::Receiver<u64>,
    name: usize,
    /// The filters that the router has for it.
    routes: BTreeSet<String>,
    /// The filters that its session has subscribed to: within the routes, and counted as interest.
    wanted: BTreeSet<String>,
}

/// What the router's queue did with a packet.
#[derive(PartialEq, Eq)]
enum Offered {
    Taken,
    /// There is no room, as yet: the router is busy, or hangs.
    Full,
    /// The router has ended.
    Ended,
}

impl Hub {
    /// Starts the thread that feeds the router. `max_links` sessions may subscribe, `messages` may wait.
    pub(crate) fn start(max_links: usize, messages: usize) -> Result<Self, Error> {
        let (queue, mut messages) = mpsc::channel::<(String, Bytes)>(messages.max(1));
        let state = Arc::new(State {
            max_links,
            running: Mutex::new(None),
            newest: watch::Sender::new(0),
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

    pub(crate) fn tell(&self, topic: String, payload: Bytes, qos: Qos) {
        if self.wants(&topic) && self.queue.try_send((topic, framed(&payload, qos))).is_err() {
            metrics::dropped();
        }
    }

    pub(crate) fn wants(&self, topic: &str) -> bool {
        self.has_listeners() && self.state.interest.iter().any(|filter| acl::covers(filter.key(), topic))
    }

    pub(crate) fn has_listeners(&self) -> bool {
        self.state.listeners.load(Ordering::Relaxed) > 0
    }

    /// A link on which `routes`, which must be checked, bring what is `wanted`. `None` when the router does not take it.
    pub(crate) async fn open(&self, routes: BTreeSet<String>, wanted: BTreeSet<String>) -> Option<Link> {
        let hub = self.clone();
        let opened = tokio::task::spawn_blocking(move || hub.link()?.route_blocking(routes, wanted));
        opened.await.ok().flatten()
    }

    /// A new link on which `payload`, published to `topic`, is to be heard. It counts as nobody's interest. `None` when
    /// the router does not take it.
    pub(crate) async fn echo(&self, topic: &'static str, payload: Bytes) -> Option<Link> {
        let hub = self.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let state = hub.state.clone();
            let mut link = hub.link()?;
            (link.subscribe(topic) && insist(|| state.offer(topic, &framed(&payload, Qos::AtMostOnce)))).then_some(link)
        });
        opened.await.ok().flatten()
    }

    /// The number of the newest router; 0 before the first.
    pub(crate) fn newest(&self) -> u64 {
        *self.state.newest.borrow()
    }

    /// Starts another router in place of this one, which hangs. Does nothing when it was replaced before.
    pub(crate) async fn replace(&self, number: u64) {
        let state = self.state.clone();
        // An error means that the runtime ends.
        let _ = tokio::task::spawn_blocking(move || state.replace(number)).await;
    }

    fn link(self) -> Option<Link> {
        let (name, newest) = (self.state.take_name(), self.state.newest.subscribe());
        let Some((router, tx, rx)) = self.state.connect(&format!("session-{name}")) else {
            self.state.give_name(name);
            return None;
        };
        Some(Link {
            hub: self,
            tx: Some(tx),
            rx,
            early: VecDeque::new(),
            router,
            newest,
            name,
            routes: BTreeSet::new(),
            wanted: BTreeSet::new(),
        })
    }
}

impl State {
    /// A new link, by a new router if the present one has ended. No lock is held while the router is waited for.
    fn connect(&self, name: &str) -> Option<(u64, LinkTx, LinkRx)> {
        for _ in 0..2 {
            let (number, opener) = self.revived(&mut lock(&self.running)).map(|r| (r.number, r.opener.clone()))?;
            if let Some((tx, rx)) = opener(name, false) {
                return Some((number, tx, rx));
            }
            // Full, hanging, or ended: only the last is mended by another try.
            if self.offer(PROBE, &Bytes::from_static(b"?")) != Offered::Ended {
                break;
            }
        }
        None
    }

    fn publish(&self, topic: &str, payload: &Bytes) {
        let mut ended = 0;
        while ended < 2 {
            match self.offer(topic, payload) {
                Offered::Taken => return,
                // If it hangs, the canary has it replaced.
                Offered::Full => std::thread::sleep(FULL_PAUSE),
                Offered::Ended => ended += 1,
            }
        }
        metrics::dropped();
    }

    /// Offers a message to the router. One that has ended is taken away.
    fn offer(&self, topic: &str, payload: &Bytes) -> Offered {
        let mut running = lock(&self.running);
        let Some(router) = self.revived(&mut running) else { return Offered::Ended };
        let what = offered(router.publisher.try_publish(topic.to_owned(), payload.clone()), &router.publisher);
        if what == Offered::Ended {
            tracing::error!("the MQTT router has ended; another is started");
            *running = None;
        }
        what
    }

    fn replace(&self, number: u64) {
        let mut running = lock(&self.running);
        if let Some(mut hanging) = running.take_if(|router| router.number == number) {
            tracing::error!("the MQTT router forwards nothing; another is started");
            // It cannot be told to stop. Should it ever go on, a topic that it cannot bear ends its thread.
            offered(hanging.publisher.try_publish(UNBEARABLE, Bytes::new()), &hanging.publisher);
        }
        self.revived(&mut running);
    }

    fn revived<'a>(&self, running: &'a mut Option<Running>) -> Option<&'a mut Running> {
        if running.is_none() {
            *running = self.spawn();
        }
        running.as_mut()
    }

    fn spawn(&self) -> Option<Running> {
        let config = RouterConfig {
            max_connections: self.max_links.saturating_add(OWN_LINKS),
            max_outgoing_packet_count: OUTGOING_MESSAGES,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        };
        let sender = Router::new(0, config).spawn();
        let places = Arc::new(Semaphore::new(OPENING));
        let opener: Opener = Arc::new(move |name: &str, any_topic: bool| {
            let (name, sender) = (name.to_owned(), sender.clone());
            let place = places.clone().try_acquire_owned().ok()?;
            let open = move || {
                let opened = LinkBuilder::new(&name, sender).dynamic_filters(any_topic).build().ok();
                drop(place);
                opened
            };
            within_timeout(open).map(|(tx, rx, _)| (tx, rx))
        });
        let (publisher, inbox) = opener(PUBLISHER, true)?;
        self.newest.send_modify(|newest| *newest += 1);
        Some(Running { number: *self.newest.borrow(), opener, publisher, _inbox: inbox })
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
    /// Brings what is `wanted` now, also on further `routes`. On failure the link is gone.
    pub(crate) async fn route(self, routes: BTreeSet<String>, wanted: BTreeSet<String>) -> Option<Self> {
        tokio::task::spawn_blocking(move || self.route_blocking(routes, wanted)).await.ok().flatten()
    }

    fn route_blocking(mut self, routes: BTreeSet<String>, wanted: BTreeSet<String>) -> Option<Self> {
        for route in routes {
            if self.routes.contains(&route) {
                continue;
            }
            if !self.subscribe(&route) {
                return None;
            }
            self.routes.insert(route);
        }
        self.want(wanted);
        Some(self)
    }

    /// Subscribes and waits for the router's answer: before it, what is published may be read first, although it came
    /// later. `false` when there is none in time.
    fn subscribe(&mut self, filter: &str) -> bool {
        let Some(tx) = self.tx.as_mut() else { return false };
        if !insist(|| offered(tx.try_subscribe(filter), tx)) {
            return false;
        }
        let deadline = Instant::now() + LINK_TIMEOUT;
        loop {
            match self.rx.recv_deadline(deadline) {
                Ok(Some(Notification::DeviceAck(_))) => return true,
                Ok(Some(Notification::Disconnect(..))) | Err(_) => return false,
                Ok(other) => self.early.extend(other),
            }
        }
    }

    fn want(&mut self, wanted: BTreeSet<String>) {
        let State { listeners, interest, .. } = self.hub.state.as_ref();
        for filter in wanted.difference(&self.wanted) {
            listeners.fetch_add(1, Ordering::Relaxed);
            *interest.entry(filter.clone()).or_default() += 1;
        }
        for filter in self.wanted.difference(&wanted) {
            listeners.fetch_sub(1, Ordering::Relaxed);
            if let Some(mut count) = interest.get_mut(filter) {
                *count = count.saturating_sub(1);
            }
            interest.remove_if(filter, |_, count| *count == 0);
        }
        self.wanted = wanted;
    }

    /// The next message for this session. `None` when the link has broken. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let router = self.router;
        tokio::select! {
            biased;
            message = Self::forwarded(&mut self.early, &mut self.rx) => message,
            _ = self.newest.wait_for(|newest| *newest > router) => None,
        }
    }

    async fn forwarded(early: &mut VecDeque<Notification>, rx: &mut LinkRx) -> Option<Message> {
        loop {
            match early.front() {
                None => early.extend(rx.next().await.ok()?),
                Some(Notification::Unschedule) => {
                    // The router waits for a sign that there is room again. Until it has it, the request stays.
                    rx.wake().await.ok()?;
                    early.pop_front();
                }
                Some(_) => match early.pop_front() {
                    Some(Notification::Forward(forward)) => {
                        if let Some((qos, payload)) = unframed(forward.publish.payload) {
                            return Some(Message { topic: forward.publish.topic, payload, qos });
                        }
                    }
                    Some(Notification::Disconnect(..)) => return None,
                    _ => {}
                },
            }
        }
    }

    /// The filters that the router has for this link.
    pub(crate) fn routes(&self) -> &BTreeSet<String> {
        &self.routes
    }

    /// The filters that its session has subscribed to.
    pub(crate) fn wanted(&self) -> &BTreeSet<String> {
        &self.wanted
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.want(BTreeSet::new());
        let (Some(mut tx), state, name) = (self.tx.take(), self.hub.state.clone(), self.name) else { return };
        // The channel into the router keeps order, so a new link of this name comes after this goodbye.
        let mut goodbye = move || {
            let reason_code = DisconnectReasonCode::NormalDisconnection;
            tx.buffer().push_back(Packet::Disconnect(Disconnect { reason_code }, None));
            // A knock: the router reads no further than the goodbye. If it is not taken the router has ended or hangs,
            // and the link with it.
            insist(|| offered(tx.try_unsubscribe(PROBE), &tx));
            state.give_name(name);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(goodbye)),
            Err(_) => goodbye(),
        }
    }
}

/// A message's payload on its way through the router, which carries all with QoS 0: its own QoS goes before it.
fn framed(payload: &[u8], qos: Qos) -> Bytes {
    let mut framed = BytesMut::with_capacity(1 + payload.len());
    framed.put_u8(qos.number());
    framed.put_slice(payload);
    framed.freeze()
}

fn unframed(mut framed: Bytes) -> Option<(Qos, Bytes)> {
    let qos = framed.try_get_u8().ok().and_then(Qos::from_number)?;
    Some((qos, framed))
}

/// What became of a packet that was put on a link without waiting for room.
fn offered(result: Result<usize, LinkError>, tx: &LinkTx) -> Offered {
    match result {
        Ok(_) => Offered::Taken,
        // rumqttd has left the packet in the link's buffer; if it is not there any more, the router has read it.
        Err(LinkError::TrySend(TrySendError::Full(_))) if tx.buffer().pop_back().is_none() => Offered::Taken,
        Err(LinkError::TrySend(TrySendError::Full(_))) => Offered::Full,
        Err(_) => Offered::Ended,
    }
}

/// Offers until it is taken; `false` when the router has ended, or has had no room for [`LINK_TIMEOUT`].
fn insist(mut offer: impl FnMut() -> Offered) -> bool {
    let deadline = Instant::now() + LINK_TIMEOUT;
    loop {
        match offer() {
            Offered::Taken => return true,
            Offered::Full if Instant::now() < deadline => std::thread::sleep(FULL_PAUSE),
            Offered::Full | Offered::Ended => return false,
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
mod tests;
