//! What a run came to.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use windlass_reading::DeviceId;

use crate::{
    hostile::HostileCount,
    progress::{Progress, Snapshot},
};

/// One acknowledged, well-formed reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The scanner.
    pub device: DeviceId,
    /// What it read.
    pub payload: String,
    /// How often the reading was sent again as a new publish after the broker had lost the session: so often more the
    /// broker may rightly hold it.
    pub resent: u32,
    /// When it fell due or was sent, in unix milliseconds by this machine's clock: no gateway has it from before.
    pub read_at: u64,
    /// When its acknowledgement was read, by the same clock.
    pub acknowledged_at: u64,
}

/// Acknowledgement times in milliseconds.
///
/// A reading is timed from the moment it is given to the MQTT client; one that had to wait for that (window
/// full, link down) from the moment it fell due, so that a stalled broker cannot hide its stall. What was never
/// acknowledged has no time and is not in here; it is counted as lost or as unsent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Half were faster.
    pub p50_ms: f64,
    /// Nine of ten were faster.
    pub p90_ms: f64,
    /// 99 of 100 were faster.
    pub p99_ms: f64,
    /// 999 of 1,000 were faster.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Latency {
    /// `None` while nothing was measured.
    pub(crate) fn of(us: &Histogram<u64>) -> Option<Self> {
        let ms = |value: u64| value as f64 / 1_000.0;
        (!us.is_empty()).then(|| Self {
            p50_ms: ms(us.value_at_quantile(0.5)),
            p90_ms: ms(us.value_at_quantile(0.9)),
            p99_ms: ms(us.value_at_quantile(0.99)),
            p999_ms: ms(us.value_at_quantile(0.999)),
            max_ms: ms(us.max()),
        })
    }
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The final counters; `connected` is 0.
    #[serde(flatten)]
    pub totals: Snapshot,
    /// Published at QoS 1 or 2 and neither acknowledged nor refused when the wait was over. At QoS 0 always 0:
    /// nothing can be known.
    pub lost: u64,
    /// Fell due and never went on the wire (no connection, or the window stayed full).
    pub unsent: u64,
    /// Scanners that were connected when the clock started; the others went on trying.
    pub connected_at_start: u64,
    /// Clients that a fault of this program ended. What they did since their last count is missing in this report.
    pub ended_by_fault: u64,
    /// Refusals by the reason that the broker gave.
    pub refusals: BTreeMap<String, u64>,
    /// What became of the hostile clients, by their kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hostile: BTreeMap<&'static str, HostileCount>,
    /// From the start of the clock until the last answer (at QoS 0: until the last reading was sent), or until the end
    /// where there was none.
    #[serde(rename = "elapsed_seconds", serialize_with = "seconds")]
    pub elapsed: Duration,
    /// Acknowledgement times: the upper end of each bucket in microseconds, and how many are in it. A bucket is as wide as
    /// three digits of its time, as HdrHistogram makes them; those without any are left out.
    pub histogram_us: Vec<(u64, u64)>,
    /// Acknowledged well-formed readings, each device's in the order of their acknowledgements. Empty when
    /// the load asked for none.
    #[serde(skip)]
    pub ledger: Vec<Entry>,
}

impl Report {
    pub(crate) fn new(progress: &Progress, tally: Tally, elapsed: Duration) -> Self {
        Self {
            totals: progress.snapshot(),
            lost: tally.lost,
            unsent: tally.unsent,
            connected_at_start: 0,
            ended_by_fault: 0,
            refusals: progress.refusals(),
            hostile: BTreeMap::new(),
            elapsed,
            histogram_us: progress.latency_us().as_ref().map(buckets).unwrap_or_default(),
            ledger: tally.ledger,
        }
    }

    /// Whether there were readings, everything due was sent and every well-formed reading acknowledged, as far as no
    /// fault of this program hides it. At QoS 0: sent.
    pub fn all_acknowledged(&self) -> bool {
        let totals = &self.totals;
        let settled = self.lost == 0 && self.unsent == 0 && self.ended_by_fault == 0;
        totals.published > 0 && settled && totals.refused == totals.malformed_refused
    }
}

/// What one scanner knows at its end.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) lost: u64,
    pub(crate) unsent: u64,
    pub(crate) ledger: Vec<Entry>,
    /// When something was sent or answered last.
    pub(crate) last: Option<Instant>,
}

impl Tally {
    pub(crate) fn merge(&mut self, other: Self) {
        self.lost += other.lost;
        self.unsent += other.unsent;
        self.ledger.extend(other.ledger);
        self.last = self.last.max(other.last);
    }
}

fn buckets(us: &Histogram<u64>) -> Vec<(u64, u64)> {
    us.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_since_last_iteration())).collect()
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_malformed_reading_is_no_failure_and_a_lost_one_is() {
        let progress = Progress::new();
        let nothing = Report::new(&progress, Tally::default(), Duration::ZERO);
        assert!(!nothing.all_acknowledged());
        Progress::add(&progress.published, 2);
        progress.record_refusal("PayloadFormatInvalid".into(), true);
        let mut report = Report::new(&progress, Tally::default(), Duration::from_secs(1));
        assert!(report.all_acknowledged());
        report.lost = 1;
        assert!(!report.all_acknowledged());
        (report.lost, report.ended_by_fault) = (0, 1);
        assert!(!report.all_acknowledged());
        progress.record_refusal("QuotaExceeded".into(), false);
        assert!(!Report::new(&progress, Tally::default(), Duration::ZERO).all_acknowledged());
    }

    #[test]
    fn json_carries_counters_times_and_no_ledger() {
        let progress = Progress::new();
        for ms in [1, 2, 3, 100] {
            progress.record_ack(Duration::from_millis(ms));
        }
        let report = Report::new(&progress, Tally::default(), Duration::from_millis(1500));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["acknowledged"], 4);
        assert_eq!(json["elapsed_seconds"], 1.5);
        assert!(json["latency"]["p50_ms"].as_f64().unwrap() < 3.1);
        assert!((json["latency"]["max_ms"].as_f64().unwrap() - 100.0).abs() < 1.0);
        assert!(json["latency"]["p999_ms"].as_f64() >= json["latency"]["p99_ms"].as_f64());
        let buckets: Vec<(u64, u64)> = serde_json::from_value(json["histogram_us"].clone()).unwrap();
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 4);
        assert!(buckets.is_sorted() && buckets[0].0.abs_diff(1_000) <= 1, "{buckets:?}");
        assert!(json.get("ledger").is_none());
    }
}
