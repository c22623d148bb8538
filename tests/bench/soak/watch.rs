//! What the gateway takes while it runs.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use windlass_journal::Sqlite;
use windlass_tests::{get, resident_kib};

use crate::scene::Scene;

const EVERY: Duration = Duration::from_secs(5);

/// One look.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    pub(crate) resident_mib: f64,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
    /// With what only the write-ahead log has.
    pub(crate) journal_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) unsettled: f64,
}

pub(crate) struct Watch {
    pid: u32,
    http: u16,
    journal: Sqlite,
    log: PathBuf,
    samples: Mutex<Vec<Sample>>,
}

impl Watch {
    pub(crate) fn new(scene: &Scene) -> Self {
        let pid = scene.site.gateway.as_ref().unwrap().id();
        let journal = Sqlite::read_only(&scene.site.path("data")).unwrap();
        let log = scene.site.path("data/journal.sqlite-wal");
        Self { pid, http: scene.site.http, journal, log, samples: Mutex::new(Vec::new()) }
    }

    pub(crate) fn run(&self, begun: Instant, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            let sample = self.look(begun);
            self.samples.lock().unwrap().push(sample);
            thread::sleep(EVERY);
        }
    }

    fn look(&self, begun: Instant) -> Sample {
        let entries = |what: &str| fs::read_dir(format!("/proc/{}/{what}", self.pid)).unwrap().count();
        let page = get(self.http, "/metrics").map(|(_, page)| page).unwrap_or_default();
        let unsettled = page.lines().find_map(|line| line.strip_prefix("windlass_unsettled_readings "));
        Sample {
            seconds: begun.elapsed().as_secs_f64(),
            resident_mib: resident_kib(self.pid) as f64 / 1_024.0,
            descriptors: entries("fd"),
            threads: entries("task"),
            journal_bytes: self.journal.bytes().unwrap(),
            log_bytes: fs::metadata(&self.log).map_or(0, |file| file.len()),
            unsettled: unsettled.and_then(|value| value.parse().ok()).unwrap_or(0.0),
        }
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap().clone()
    }
}
