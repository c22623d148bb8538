//! Messages to subscribers: receipts, errors, forwarded readings.

use std::fmt;

use bytes::Bytes;

use crate::{acl, intake::Qos, router::Hub, sessions::Sessions};

/// A handle for telling subscribers. Cheap to clone, never blocks.
#[derive(Clone)]
pub struct Outbox {
    hub: Hub,
    sessions: Sessions,
}

impl Outbox {
    pub(crate) fn new(hub: Hub, sessions: Sessions) -> Self {
        Self { hub, sessions }
    }

    /// Sends `payload` to whoever has subscribed to `topic`: to the device whose topic it is, also when it is away and
    /// its session is kept, and to users; to each with `qos`, or the lower one that it asked for. Without anybody nothing happens; where there is no room it is dropped and
    /// counted.
    pub fn tell(&self, topic: String, payload: Bytes, qos: Qos) {
        if let Some(owner) = acl::owner(&topic) {
            self.sessions.tell(owner, &topic, payload.clone(), qos);
        }
        self.hub.tell(topic, payload, qos);
    }

    /// Whether anybody has subscribed to anything: spares the work of composing messages.
    pub fn has_listeners(&self) -> bool {
        self.hub.has_listeners() || self.sessions.has_listeners()
    }

    /// Whether somebody has subscribed to `topic`.
    pub fn wants(&self, topic: &str) -> bool {
        self.hub.wants(topic) || acl::owner(topic).is_some_and(|owner| self.sessions.wants(owner, topic))
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}
