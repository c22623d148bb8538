//! Messages to subscribers: receipts, errors, forwarded readings.

use std::fmt;

use bytes::Bytes;

use crate::router::Hub;

/// A handle for telling subscribers. Cheap to clone, never blocks.
#[derive(Clone)]
pub struct Outbox(Hub);

impl Outbox {
    pub(crate) fn new(hub: Hub) -> Self {
        Self(hub)
    }

    /// Sends `payload` to the sessions that subscribed to `topic`, at most once. Without such a session nothing
    /// happens; with a full queue the message is dropped and counted.
    pub fn tell(&self, topic: String, payload: Bytes) {
        self.0.tell(topic, payload);
    }

    /// Whether anybody has subscribed to anything: spares the work of composing messages.
    pub fn has_listeners(&self) -> bool {
        self.0.has_listeners()
    }

    /// Whether a session has subscribed to `topic`.
    pub fn wants(&self, topic: &str) -> bool {
        self.0.wants(topic)
    }

    /// Messages dropped so far because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}
