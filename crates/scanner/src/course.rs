//! Where a run is, and what all its clients share.

use std::sync::Arc;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::{load::Load, progress::Progress};

/// Simultaneous connection attempts.
const DIALLING: usize = 100;

/// Where the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Scanners connect; nothing falls due yet.
    Connect,
    /// Readings fall due, counted from `start`.
    Publish { start: Instant },
    /// Nothing new falls due after `end`; what is open has until `deadline`.
    Drain { start: Instant, end: Instant, deadline: Instant },
}

/// What all clients of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) load: Load,
    pub(crate) progress: Arc<Progress>,
    dialling: Semaphore,
}

impl Shared {
    pub(crate) fn new(load: Load, progress: Arc<Progress>) -> Self {
        Self { load, progress, dialling: Semaphore::new(DIALLING) }
    }

    /// A place among those that connect, held until the connection stands: a listener's backlog is short. Waiting for one
    /// says nothing of the broker, so it belongs into no time limit. `None` never comes while the run lasts.
    pub(crate) async fn dial(&self) -> Option<SemaphorePermit<'_>> {
        self.dialling.acquire().await.ok()
    }
}
