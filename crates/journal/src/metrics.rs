//! The journal's metrics: names, units and buckets in one place.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::sqlite::Disk;

const COMMIT_SECONDS: &str = "windlass_journal_commit_seconds";
const COMMIT_READINGS: &str = "windlass_journal_commit_readings";
const COMMIT_FAILURES: &str = "windlass_journal_commit_failures_total";
const REFUSED: &str = "windlass_journal_refused_total";
const UNSETTLED: &str = "windlass_unsettled_readings";
const UNSETTLED_AGE: &str = "windlass_unsettled_age_seconds";
const FILE_BYTES: &str = "windlass_journal_file_bytes";
const DISK_FREE: &str = "windlass_journal_disk_free_bytes";

/// Describes the journal's metrics and touches each series, so that it exists before its first event.
/// Returns the histogram buckets that the recorder must use: `(name, upper bounds)`.
pub fn describe() -> Vec<(&'static str, &'static [f64])> {
    describe_histogram!(COMMIT_SECONDS, Unit::Seconds, "Time of one journal commit, fsync included");
    describe_histogram!(COMMIT_READINGS, Unit::Count, "Readings in one journal commit");
    describe_counter!(COMMIT_FAILURES, Unit::Count, "Journal commits that failed; nothing of them was acknowledged");
    describe_counter!(REFUSED, Unit::Count, "Readings not taken: too many unsettled, or the writer's queue full");
    describe_gauge!(UNSETTLED, Unit::Count, "Readings accepted and not yet mined on the canonical chain");
    describe_gauge!(UNSETTLED_AGE, Unit::Seconds, "Age of the oldest unsettled reading");
    describe_gauge!(FILE_BYTES, Unit::Bytes, "Size of the journal's file and of its write-ahead log");
    describe_gauge!(DISK_FREE, Unit::Bytes, "What this process may still write on the journal's disk");
    counter!(COMMIT_FAILURES).absolute(0);
    for reason in ["unsettled", "queue"] {
        counter!(REFUSED, "reason" => reason).absolute(0);
    }
    gauge!(UNSETTLED).set(0.0);
    gauge!(UNSETTLED_AGE).set(0.0);
    vec![
        (COMMIT_SECONDS, &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]),
        (COMMIT_READINGS, &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0]),
    ]
}

/// How many readings are accepted and not mined. The gauge follows it.
#[derive(Debug, Default)]
pub(crate) struct Backlog(AtomicI64);

impl Backlog {
    pub(crate) fn add(&self, readings: i64) {
        let now = self.0.fetch_add(readings, Ordering::Relaxed) + readings;
        gauge!(UNSETTLED).set(now as f64);
    }

    pub(crate) fn get(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

pub(crate) fn age(oldest: Duration) {
    gauge!(UNSETTLED_AGE).set(oldest.as_secs_f64());
}

pub(crate) fn disk(disk: &Disk) {
    gauge!(FILE_BYTES, "file" => "main").set(disk.main_bytes as f64);
    gauge!(FILE_BYTES, "file" => "wal").set(disk.wal_bytes as f64);
    gauge!(DISK_FREE).set(disk.free_bytes as f64);
}

pub(crate) fn committed(took: Duration, readings: usize) {
    histogram!(COMMIT_SECONDS).record(took.as_secs_f64());
    if readings > 0 {
        histogram!(COMMIT_READINGS).record(readings as f64);
    }
}

pub(crate) fn refused(reason: &'static str, readings: usize) {
    counter!(REFUSED, "reason" => reason).increment(readings as u64);
}

pub(crate) fn commit_failed() {
    counter!(COMMIT_FAILURES).increment(1);
}
