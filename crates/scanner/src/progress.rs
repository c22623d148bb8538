//! A run while it lasts: counters that many scanners write and one screen reads.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::report::Latency;

/// Acknowledgements are timed in microseconds, 1 µs to 10 minutes, to three digits.
const LONGEST_US: u64 = 600_000_000;
const DIGITS: u8 = 3;

/// The counters of one run. Make a new one for each run.
pub struct Progress {
    pub(crate) published: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) connected: AtomicU64,
    pub(crate) connect_errors: AtomicU64,
    pub(crate) disconnects: AtomicU64,
    pub(crate) redelivered: AtomicU64,
    pub(crate) resent: AtomicU64,
    pub(crate) cut: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) malformed_refused: AtomicU64,
    measured: Mutex<Measured>,
}

/// What needs a lock.
struct Measured {
    /// `None` only if the constant bounds were wrong.
    latency_us: Option<Histogram<u64>>,
    refusals: BTreeMap<String, u64>,
    last_connect_error: Option<String>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Readings that were on the wire; a redelivery counts no second time.
    pub published: u64,
    /// Publishes that the broker acknowledged (QoS 1), or said that it has (QoS 2: PUBREC).
    pub acknowledged: u64,
    /// Publishes that the broker answered with an MQTT 5 reason code of 0x80 or above.
    pub refused: u64,
    /// Scanners that are connected now.
    pub connected: u64,
    /// Connection attempts that failed.
    pub connect_errors: u64,
    /// Links that broke against the scanner's will.
    pub disconnects: u64,
    /// Publishes sent again with the DUP flag in a session that the broker kept.
    pub redelivered: u64,
    /// Publishes sent again as new ones because the broker kept no session.
    pub resent: u64,
    /// Publishes that broke off in the middle, before the same went out whole.
    pub cut: u64,
    /// Malformed readings among `published`.
    pub malformed: u64,
    /// Malformed readings among `refused`.
    pub malformed_refused: u64,
    /// Acknowledgement times so far; absent before the first.
    pub latency: Option<Latency>,
}

impl Progress {
    /// All zero.
    pub fn new() -> Self {
        Self {
            published: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            connected: AtomicU64::new(0),
            connect_errors: AtomicU64::new(0),
            disconnects: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
            resent: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            malformed_refused: AtomicU64::new(0),
            measured: Mutex::new(Measured {
                latency_us: Histogram::new_with_bounds(1, LONGEST_US, DIGITS).ok(),
                refusals: BTreeMap::new(),
                last_connect_error: None,
            }),
        }
    }

    /// The counters now. They are read one after another, so they may differ by what happened in between.
    pub fn snapshot(&self) -> Snapshot {
        let latency = self.measured().latency_us.as_ref().and_then(Latency::of);
        // Read in this order an acknowledgement never shows before its publish.
        let acknowledged = self.acknowledged.load(Relaxed);
        let refused = self.refused.load(Relaxed);
        Snapshot {
            acknowledged,
            refused,
            latency,
            published: self.published.load(Relaxed),
            connected: self.connected.load(Relaxed),
            connect_errors: self.connect_errors.load(Relaxed),
            disconnects: self.disconnects.load(Relaxed),
            redelivered: self.redelivered.load(Relaxed),
            resent: self.resent.load(Relaxed),
            cut: self.cut.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
            malformed_refused: self.malformed_refused.load(Relaxed),
        }
    }

    /// A copy of the acknowledgement times, in microseconds.
    pub fn latency_us(&self) -> Option<Histogram<u64>> {
        self.measured().latency_us.clone()
    }

    /// Refusals by the reason that the broker gave.
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        self.measured().refusals.clone()
    }

    /// What the latest failed connection attempt said.
    pub fn last_connect_error(&self) -> Option<String> {
        self.measured().last_connect_error.clone()
    }

    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Relaxed);
    }

    pub(crate) fn record_ack(&self, latency: Duration) {
        Self::add(&self.acknowledged, 1);
        let us = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US);
        if let Some(histogram) = self.measured().latency_us.as_mut() {
            histogram.saturating_record(us.clamp(1, LONGEST_US));
        }
    }

    pub(crate) fn record_refusal(&self, reason: String, malformed: bool) {
        Self::add(&self.refused, 1);
        Self::add(&self.malformed_refused, u64::from(malformed));
        *self.measured().refusals.entry(reason).or_default() += 1;
    }

    pub(crate) fn record_connect_error(&self, error: String) {
        Self::add(&self.connect_errors, 1);
        self.measured().last_connect_error = Some(error);
    }

    pub(crate) fn record_connected(&self) {
        Self::add(&self.connected, 1);
    }

    pub(crate) fn record_gone(&self) {
        self.connected.fetch_sub(1, Relaxed);
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}
