//! Live events for the HTTP surface: what the journal shows of newer readings and of batches that came further. Nothing is
//! read while nobody listens, and nothing here is on the readings' way.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::broadcast, time::interval};
use windlass_chain::Standing;
use windlass_http::{Event, Reason};
use windlass_journal::{Error, Filter, Listing, Sqlite};

use super::surface::readiness;
use crate::rows;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Readings that are told of one look, the newest.
const READINGS: u64 = 50;
/// Batches that are watched, the newest.
const BATCHES: u64 = 50;
/// Events that wait for a slow listener.
const WAITING: usize = 64;

/// Where listeners subscribe.
pub(super) fn channel() -> broadcast::Sender<Arc<Event>> {
    broadcast::channel(WAITING).0
}

/// Tells what happens, until it is aborted.
pub(super) async fn watch(journal: Sqlite, standing: Arc<Mutex<Standing>>, events: broadcast::Sender<Arc<Event>>) {
    let mut look = interval(LOOK_INTERVAL);
    let mut seen: Option<Seen> = None;
    loop {
        look.tick().await;
        if events.receiver_count() == 0 {
            seen = None;
            continue;
        }
        let standing = standing.lock().map(|s| s.clone()).unwrap_or_default();
        let told = match &mut seen {
            None => Seen::now(&journal).await.map(|now| {
                seen = Some(now);
                Vec::new()
            }),
            Some(seen) => seen.further(&journal, readiness(standing, &journal)).await,
        };
        match told {
            Ok(told) => {
                for event in told {
                    // Without listeners it is told to nobody.
                    let _ = events.send(Arc::new(event));
                }
            }
            Err(error) => tracing::warn!(%error, "live events could not be read"),
        }
    }
}

/// What listeners have been told.
struct Seen {
    arrival: u64,
    batches: BTreeMap<u64, (&'static str, Option<u64>)>,
    reasons: Vec<Reason>,
}

impl Seen {
    async fn now(journal: &Sqlite) -> Result<Self, Error> {
        let newest = newest(journal, 1).await?;
        let batches =
            batches(journal).await?.iter().map(|b| (b.id, (b.state.as_str(), b.block.map(|b| b.0)))).collect();
        Ok(Self { arrival: newest.first().map_or(0, |r| r.arrival), batches, reasons: Vec::new() })
    }

    async fn further(&mut self, journal: &Sqlite, reasons: Vec<Reason>) -> Result<Vec<Event>, Error> {
        let mut told = Vec::new();
        let mut rows = newest(journal, READINGS).await?;
        rows.retain(|row| row.arrival > self.arrival);
        if let Some(newest) = rows.first() {
            let count = newest.arrival - self.arrival;
            self.arrival = newest.arrival;
            told.push(Event::Readings { count, rows: rows.iter().rev().map(rows::reading).collect() });
        }
        let mut moved = Vec::new();
        let mut now = BTreeMap::new();
        for batch in batches(journal).await?.iter().rev() {
            let state = (batch.state.as_str(), batch.block.map(|b| b.0));
            if self.batches.get(&batch.id) != Some(&state) {
                moved.push(rows::batch(batch));
            }
            now.insert(batch.id, state);
        }
        self.batches = now;
        if !moved.is_empty() {
            told.push(Event::Batches { rows: moved });
        }
        if reasons != self.reasons {
            self.reasons.clone_from(&reasons);
            told.push(Event::Health { reasons });
        }
        Ok(told)
    }
}

async fn newest(journal: &Sqlite, limit: u64) -> Result<Vec<windlass_journal::ReadingRow>, Error> {
    journal.readings(Filter { newest: true, limit: Some(limit), ..Filter::default() }).await
}

async fn batches(journal: &Sqlite) -> Result<Vec<windlass_journal::BatchRow>, Error> {
    journal.batches(Filter { newest: true, limit: Some(BATCHES), ..Filter::default() }).await
}
