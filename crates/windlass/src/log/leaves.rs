//! The log's leaves in arrival order, out of the journal and the archives at once.

use std::collections::{BTreeMap, VecDeque};

use alloy::primitives::B256;
use windlass_journal::{Ledger, Sqlite};
use windlass_reading::{Reading, leaf};

use super::Log;

/// Readings that are read from each source in one go.
const PAGE: usize = 10_000;

/// A walk over the leaves.
#[derive(Debug)]
pub(crate) struct Leaves<'a> {
    log: &'a Log<'a>,
    after: u64,
    upto: u64,
    page: VecDeque<(u64, B256)>,
}

impl<'a> Leaves<'a> {
    /// Over what arrived after one reading, up to another.
    pub(crate) fn new(log: &'a Log<'a>, after: u64, upto: u64) -> Self {
        Self { log, after, upto, page: VecDeque::new() }
    }

    /// The next one with its arrival.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<(u64, B256)>> {
        if self.page.is_empty() && self.after < self.upto {
            self.fill().await?;
        }
        Ok(self.page.pop_front())
    }

    async fn fill(&mut self) -> anyhow::Result<()> {
        let mut merged: BTreeMap<u64, Reading> = BTreeMap::new();
        // What every source has told of: a source that gave a full page may have more behind it.
        let mut told = self.upto;
        let sources: Vec<&Sqlite> = std::iter::once(self.log.journal).chain(self.log.archives).collect();
        for source in sources {
            let rows = source.log_readings(self.after, self.upto, PAGE).await?;
            if let (Some((last, _)), true) = (rows.last(), rows.len() == PAGE) {
                told = told.min(*last);
            }
            for (arrival, reading) in rows {
                let same = merged.get(&arrival).is_none_or(|other| *other == reading);
                anyhow::ensure!(same, "{} {}: the journal and an archive differ", reading.device, reading.sequence);
                merged.insert(arrival, reading);
            }
        }
        let later = merged.split_off(&told.saturating_add(1));
        drop(later);
        self.after = told;
        self.page.extend(merged.into_iter().map(|(arrival, r)| (arrival, leaf(&r, self.log.domain.reading(&r)))));
        Ok(())
    }
}
