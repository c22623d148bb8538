//! All sessions by their owner: who is connected, what each has subscribed to, and what waits for those that are away.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use tokio::sync::{Notify, oneshot};

use crate::{
    intake::Qos,
    mailbox::{Bounds, Mailbox, Message, Received, Taker},
    metrics,
    store::Stored,
};

/// All sessions. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Sessions(Arc<Inner>);

struct Inner {
    serial: AtomicU64,
    kept: DashMap<String, Arc<Kept>>,
    /// Subscriptions of all sessions: spares the look-up while there are none.
    subscriptions: AtomicUsize,
    bounds: Bounds,
}

/// One session. It outlives its connections when its expiry says so.
#[derive(Default)]
struct Kept {
    state: Mutex<State>,
    /// Rung when a message has come in.
    bell: Notify,
}

#[derive(Default)]
struct State {
    mailbox: Mailbox,
    /// Each filter with the highest QoS that was asked for.
    subscriptions: BTreeMap<String, Qos>,
    /// How long it is kept without a connection.
    expiry: Duration,
    /// The connection that owns it, or the last one.
    serial: u64,
    /// Tells the owning connection that another has taken over. `None` without a connection.
    taken: Option<oneshot::Sender<()>>,
    left: Option<Instant>,
    /// The connection that owns it is over and only has to leave.
    ending: bool,
    /// The store has it.
    stored: bool,
}

impl State {
    fn is_over(&self) -> bool {
        self.left.is_some_and(|left| left.elapsed() >= self.expiry)
    }
}

/// A connection's hold on its session.
pub(crate) struct Seat {
    sessions: Sessions,
    owner: String,
    kept: Arc<Kept>,
    serial: u64,
    /// How long the session is kept without this connection, also once another has taken it over.
    expiry: Duration,
    /// Whether the session was there before.
    pub(crate) present: bool,
    /// Resolves when a newer connection has taken over. The connection takes it out.
    pub(crate) taken: Option<oneshot::Receiver<()>>,
}

impl Sessions {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Inner {
            serial: AtomicU64::new(1),
            kept: DashMap::new(),
            subscriptions: AtomicUsize::new(0),
            bounds,
        }))
    }

    /// Takes back a session that the store kept over a restart; `away` is how long its owner has been gone.
    pub(crate) fn restore(&self, stored: Stored, away: Duration) {
        let left = Instant::now().checked_sub(away).unwrap_or_else(Instant::now);
        self.0.subscriptions.fetch_add(stored.subscriptions.len(), Ordering::Relaxed);
        let state = State {
            subscriptions: stored.subscriptions,
            expiry: stored.expiry,
            left: Some(left),
            stored: true,
            ..State::default()
        };
        let kept = Kept { state: Mutex::new(state), bell: Notify::new() };
        self.0.kept.insert(stored.owner, Arc::new(kept));
    }

    /// Gives a connection its session: the one that is kept, unless there is none or `clean` asks for a new one. An
    /// older connection is told to end.
    pub(crate) fn enter(&self, owner: &str, clean: bool, expiry: Duration) -> Seat {
        let serial = self.0.serial.fetch_add(1, Ordering::Relaxed);
        let (sender, taken) = oneshot::channel();
        let mut entry = self.0.kept.entry(owner.to_owned()).or_default();
        let mut state = lock(&entry.state);
        if let Some(older) = state.taken.take() {
            // An error means that the older connection is ending by itself.
            let _ = older.send(());
            state.left = Some(Instant::now());
        }
        let present = !clean && state.serial_or_restored() && !state.expiry.is_zero() && !state.is_over();
        let kept = if present {
            state.mailbox.disconnected();
            own(&mut state, serial, expiry, sender);
            drop(state);
            Arc::clone(&entry)
        } else {
            // The older connection keeps what it had, which nobody will see any more.
            self.0.subscriptions.fetch_sub(state.subscriptions.len(), Ordering::Relaxed);
            state.subscriptions.clear();
            let stored = state.stored;
            drop(state);
            let fresh = Arc::new(Kept::default());
            own(&mut lock(&fresh.state), serial, expiry, sender);
            lock(&fresh.state).stored = stored;
            *entry = Arc::clone(&fresh);
            fresh
        };
        drop(entry);
        Seat { sessions: self.clone(), owner: owner.to_owned(), kept, serial, expiry, present, taken: Some(taken) }
    }

    /// Puts a message into `owner`'s session, if it has subscribed to exactly this topic.
    pub(crate) fn tell(&self, owner: &str, topic: &str, payload: Bytes, qos: Qos) {
        if self.0.subscriptions.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(kept) = self.0.kept.get(owner).map(|k| Arc::clone(&k)) else { return };
        let mut state = lock(&kept.state);
        let Some(qos) = state.subscriptions.get(topic).map(|asked| qos.min(*asked)) else { return };
        let away = state.taken.is_none();
        if state.is_over() || (away && qos == Qos::AtMostOnce) {
            return;
        }
        let message = Message { topic: Bytes::copy_from_slice(topic.as_bytes()), payload, qos };
        if state.mailbox.push(message, self.0.bounds) {
            kept.bell.notify_one();
        } else {
            metrics::dropped();
        }
    }

    /// Whether `owner` has subscribed to exactly this topic.
    pub(crate) fn wants(&self, owner: &str, topic: &str) -> bool {
        self.has_listeners()
            && self.0.kept.get(owner).is_some_and(|kept| lock(&kept.state).subscriptions.contains_key(topic))
    }

    pub(crate) fn has_listeners(&self) -> bool {
        self.0.subscriptions.load(Ordering::Relaxed) > 0
    }

    /// Whether a connection holds `owner`'s session, and is not about to leave it.
    pub(crate) fn is_live(&self, owner: &str) -> bool {
        self.0.kept.get(owner).is_some_and(|kept| {
            let state = lock(&kept.state);
            state.taken.is_some() && !state.ending
        })
    }

    /// Ends sessions whose time is over, and those that `gone` names. Returns their owners.
    pub(crate) fn sweep(&self, gone: impl Fn(&str) -> bool) -> Vec<String> {
        let mut ended = Vec::new();
        self.0.kept.retain(|owner, kept| {
            let state = lock(&kept.state);
            let over = state.taken.is_none() && (state.is_over() || gone(owner));
            if over {
                self.0.subscriptions.fetch_sub(state.subscriptions.len(), Ordering::Relaxed);
                ended.push(owner.clone());
            }
            !over
        });
        ended
    }
}

impl State {
    /// Whether this session existed before the connection that asks.
    fn serial_or_restored(&self) -> bool {
        self.serial > 0 || self.left.is_some()
    }
}

fn own(state: &mut State, serial: u64, expiry: Duration, taken: oneshot::Sender<()>) {
    state.serial = serial;
    state.expiry = expiry;
    state.taken = Some(taken);
    state.left = None;
    state.ending = false;
}

impl Seat {
    /// The state, while this connection is the owner.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        Some(lock(&self.kept.state)).filter(|state| state.serial == self.serial && state.taken.is_some())
    }

    /// For asking later whether the owner came back.
    pub(crate) fn left(&self) -> Left {
        let (sessions, owner, kept) = (self.sessions.clone(), self.owner.clone(), self.kept.clone());
        Left { sessions, owner, kept, serial: self.serial }
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// The connection is over: who comes now takes nothing from it.
    pub(crate) fn ending(&self) {
        if let Some(mut state) = self.state() {
            state.ending = true;
        }
    }

    /// Resolves when there may be something to write. Cancel safe.
    pub(crate) async fn rung(&self) {
        self.kept.bell.notified().await;
    }

    pub(crate) fn write(&self, taker: Taker, out: &mut BytesMut) {
        let Some(mut state) = self.state() else { return };
        for _ in 0..state.mailbox.write(taker, out) {
            metrics::dropped();
        }
    }

    /// A message from elsewhere than the owner's own topics. Bounded like those.
    pub(crate) fn push(&self, message: Message) {
        let Some(mut state) = self.state() else { return };
        if state.mailbox.push(message, self.sessions.0.bounds) {
            self.kept.bell.notify_one();
        } else {
            metrics::dropped();
        }
    }

    pub(crate) fn acknowledge(&self, packet_id: u16) -> bool {
        self.state().is_some_and(|mut state| state.mailbox.acknowledge(packet_id))
    }

    pub(crate) fn receive(&self, packet_id: u16, refuses: bool) -> Received {
        self.state().map_or(Received::Nothing, |mut state| state.mailbox.receive(packet_id, refuses))
    }

    pub(crate) fn complete(&self, packet_id: u16) -> bool {
        self.state().is_none_or(|mut state| state.mailbox.complete(packet_id))
    }

    pub(crate) fn subscriptions(&self) -> BTreeMap<String, Qos> {
        self.state().map(|state| state.subscriptions.clone()).unwrap_or_default()
    }

    /// Subscribes, or changes a subscription's QoS; `false` when there are `most` already.
    pub(crate) fn subscribe(&self, filter: String, qos: Qos, most: usize) -> bool {
        let Some(mut state) = self.state() else { return true };
        if !state.subscriptions.contains_key(&filter) && state.subscriptions.len() >= most {
            return false;
        }
        if state.subscriptions.insert(filter, qos).is_none() {
            self.sessions.0.subscriptions.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Says whether there was such a subscription.
    pub(crate) fn unsubscribe(&self, filter: &str) -> bool {
        let found = self.state().is_some_and(|mut state| state.subscriptions.remove(filter).is_some());
        if found {
            self.sessions.0.subscriptions.fetch_sub(1, Ordering::Relaxed);
        }
        found
    }

    /// How long the session is kept without this connection.
    pub(crate) fn expiry(&self) -> Duration {
        self.expiry
    }

    pub(crate) fn set_expiry(&mut self, expiry: Duration) {
        self.expiry = expiry;
        if let Some(mut state) = self.state() {
            state.expiry = expiry;
        }
    }

    /// Whether the store has this session, or the one before it.
    pub(crate) fn is_stored(&self) -> bool {
        self.state().is_some_and(|state| state.stored)
    }

    pub(crate) fn set_stored(&self, stored: bool) {
        if let Some(mut state) = self.state() {
            state.stored = stored;
        }
    }

    /// What the store is to keep; `None` when another connection has taken over.
    pub(crate) fn stored(&self) -> Option<Stored> {
        let state = self.state()?;
        let subscriptions = state.subscriptions.clone();
        Some(Stored { owner: self.owner.clone(), subscriptions, expiry: state.expiry, left_at_ms: None })
    }
}

/// A connection's session, after the connection.
pub(crate) struct Left {
    sessions: Sessions,
    owner: String,
    kept: Arc<Kept>,
    serial: u64,
}

impl Left {
    /// Whether another connection goes on with the same session. A clean start, or the end of its time, ends it.
    pub(crate) fn is_back(&self) -> bool {
        let present = self.sessions.0.kept.get(&self.owner).is_some_and(|kept| Arc::ptr_eq(&kept, &self.kept));
        present && lock(&self.kept.state).serial != self.serial
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(mut state) = self.state() else { return };
        state.taken = None;
        state.left = Some(Instant::now());
        state.mailbox.disconnected();
        if !state.expiry.is_zero() {
            return;
        }
        self.sessions.0.subscriptions.fetch_sub(state.subscriptions.len(), Ordering::Relaxed);
        state.subscriptions.clear();
        let serial = self.serial;
        drop(state);
        self.sessions.0.kept.remove_if(&self.owner, |_, kept| lock(&kept.state).serial == serial);
    }
}

fn lock(mutex: &Mutex<State>) -> MutexGuard<'_, State> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("kept", &self.0.kept.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
