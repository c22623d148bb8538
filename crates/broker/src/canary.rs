//! The canary: connects to the router, has a message published and hears it, over and over. Where that fails the router
//! forwards nothing, although its thread may live and sockets are accepted.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, BytesMut};
use tokio::time::{Instant, sleep, timeout};

use crate::{metrics, router::Hub};

/// Where it sings: a topic that no filter of a client covers, because it is not below `devices/`.
const TOPIC: &str = "windlass/canary";
/// rumqttd keeps 128 KiB of a topic's messages, and some hundred bytes beside for each: few large ones cost it less.
const SONG_BYTES: usize = 1024;
/// After a try that failed.
const AGAIN: Duration = Duration::from_millis(100);
/// Tries within one patience when each lasts as long as it may.
const TRIES: u32 = 5;
/// Between two replacements that do not help: each leaves a thread behind that hangs.
const LONGEST_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Whether the MQTT router forwards messages to users. Cheap to clone.
#[derive(Clone)]
pub struct RouterHealth {
    hub: Hub,
    up: Arc<AtomicBool>,
}

/// How often, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) every: Duration,
    /// A router from which nothing has come for so long hangs.
    pub(crate) patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: Duration::from_secs(1), patience: Duration::from_secs(5) }
    }
}

pub(crate) struct Canary {
    health: RouterHealth,
    pace: Pace,
    patience: Duration,
    /// The router that was heard last.
    router: u64,
    songs: u64,
}

impl RouterHealth {
    /// Good, until the canary finds otherwise.
    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub, up: Arc::new(AtomicBool::new(true)) }
    }

    /// Whether the last message of the canary came back, from the router that was there before. Readings are taken and
    /// acknowledged either way.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// How often a router was started in place of another.
    pub fn restarts(&self) -> u64 {
        self.hub.newest().saturating_sub(1)
    }

    fn set(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
        metrics::router(up, self.restarts());
    }
}

impl Canary {
    pub(crate) fn new(health: RouterHealth, pace: Pace) -> Self {
        Self { health, pace, patience: pace.patience, router: 0, songs: 0 }
    }

    pub(crate) async fn run(mut self) {
        loop {
            self.round().await;
            sleep(self.pace.every).await;
        }
    }

    /// Listens until something is heard or the patience is over; then the router is replaced. One that had ended
    /// was replaced on the way: for this round it is down all the same.
    async fn round(&mut self) {
        let heard = self.hears().await;
        if heard {
            self.patience = self.pace.patience;
        } else {
            self.health.hub.replace(self.health.hub.newest()).await;
            self.patience = (self.patience * 2).min(LONGEST_PATIENCE);
        }
        let router = self.health.hub.newest();
        let same = self.router == 0 || self.router == router;
        self.router = router;
        self.health.set(heard && same);
    }

    async fn hears(&mut self) -> bool {
        let over = Instant::now() + self.patience;
        while Instant::now() < over {
            if timeout(self.patience / TRIES, self.sing()).await.unwrap_or(false) {
                return true;
            }
            sleep(AGAIN).await;
        }
        false
    }

    async fn sing(&mut self) -> bool {
        self.songs += 1;
        let mut song = BytesMut::with_capacity(SONG_BYTES);
        song.put_u64(self.songs);
        song.resize(SONG_BYTES, 0);
        let song = song.freeze();
        let Some(mut link) = self.health.hub.echo(TOPIC, song.clone()).await else { return false };
        while let Some(heard) = link.next().await {
            if heard.payload == song {
                return true;
            }
        }
        false
    }
}

impl fmt::Debug for RouterHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterHealth").field("up", &self.is_up()).field("restarts", &self.restarts()).finish()
    }
}

#[cfg(test)]
mod tests;
