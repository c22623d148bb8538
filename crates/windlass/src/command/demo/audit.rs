//! Compares what the scanners were told with what the journal and the chain hold.

use std::{collections::HashMap, fmt};

use alloy::{
    primitives::{Address, U256},
    rpc::types::Filter as LogFilter,
    sol_types::{SolCall, SolEvent},
};
use anyhow::Context;
use serde_json::{Value, json};
use windlass_contract::{Barcode, Windlass};
use windlass_journal::{Filter, Ledger, Listing, ReadingRow, Totals};
use windlass_reading::{DeviceId, Settlement};
use windlass_scanner::Report;

use crate::{app::App, config::Config, deployment};

/// What the audit found.
#[derive(Debug)]
pub(super) struct Audit {
    pub(super) totals: Totals,
    /// Readings that the chain itself shows.
    pub(super) on_chain: u64,
    /// Acknowledged and not final in the journal.
    pub(super) lost: u64,
    /// In the journal more often than they were published.
    pub(super) doubled: u64,
    pub(super) mined: Quantiles,
    pub(super) finalized: Quantiles,
    pub(super) problems: Vec<String>,
}

/// Milliseconds.
#[derive(Debug, Default)]
pub(super) struct Quantiles {
    pub(super) p50_ms: u64,
    pub(super) p99_ms: u64,
}

impl Quantiles {
    pub(super) fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |per_cent: usize| {
            let rank = (values.len() * per_cent).div_ceil(100).saturating_sub(1);
            values.get(rank).copied().unwrap_or(0)
        };
        Self { p50_ms: at(50), p99_ms: at(99) }
    }

    pub(super) fn as_json(&self) -> Value {
        json!({ "p50": self.p50_ms, "p99": self.p99_ms })
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.2} s   p99 {:.2} s", self.p50_ms as f64 / 1e3, self.p99_ms as f64 / 1e3)
    }
}

impl Audit {
    pub(super) async fn make(
        app: &App,
        config: &Config,
        report: &Report,
        settlement: Settlement,
    ) -> anyhow::Result<Self> {
        let journal = app.journal();
        let totals = journal.totals().await?;
        let rows = journal.readings(Filter::default()).await?;
        let (lost, doubled) = compare(report, &rows);
        let confirmations = journal.confirmations(0).await?;
        let mut problems = holes(&rows);
        let on_chain = match settlement {
            Settlement::Direct => on_chain_direct(app, &rows, &mut problems).await?,
            _ => on_chain_events(app, config, settlement).await?,
        };
        if on_chain != totals.accepted {
            problems.push(format!("{} readings are in the journal, {on_chain} on chain", totals.accepted));
        }
        Ok(Self {
            totals,
            on_chain,
            lost,
            doubled,
            mined: Quantiles::of(confirmations.iter().map(|c| c.0).collect()),
            finalized: Quantiles::of(confirmations.iter().filter_map(|c| c.1).collect()),
            problems,
        })
    }

    pub(super) fn is_clean(&self) -> bool {
        self.lost == 0
            && self.doubled == 0
            && self.problems.is_empty()
            && self.totals.finalized == self.totals.accepted
            && self.totals.accepted > 0
    }

    pub(super) fn gas_per_reading(&self) -> f64 {
        self.totals.gas_used as f64 / self.totals.mined.max(1) as f64
    }
}

/// Acknowledged readings that are not final, and journal rows that no publish explains.
fn compare(report: &Report, rows: &[ReadingRow]) -> (u64, u64) {
    let mut journal: HashMap<(&DeviceId, &[u8]), i64> = HashMap::new();
    for row in rows.iter().filter(|r| r.state == windlass_journal::State::Final) {
        *journal.entry((&row.reading.device, &row.reading.payload)).or_default() += 1;
    }
    let mut lost = 0;
    for entry in &report.ledger {
        let left = journal.entry((&entry.device, entry.payload.as_bytes())).or_default();
        *left -= 1;
        lost += u64::from(*left < 0);
    }
    let doubled = journal.values().filter(|left| **left > 0).map(|left| left.unsigned_abs()).sum();
    (lost, doubled)
}

/// Missing numbers in a device's sequence.
fn holes(rows: &[ReadingRow]) -> Vec<String> {
    let mut next: HashMap<&DeviceId, u64> = HashMap::new();
    let mut problems = Vec::new();
    for row in rows {
        let expected = next.entry(&row.reading.device).or_insert(1);
        if row.reading.sequence != *expected {
            problems.push(format!("{} has {} where {expected} belongs", row.reading.device, row.reading.sequence));
        }
        *expected = row.reading.sequence + 1;
    }
    problems
}

async fn on_chain_events(app: &App, config: &Config, settlement: Settlement) -> anyhow::Result<u64> {
    let contract = deployment::contract(config).context("no contract")?;
    let topic = match settlement {
        Settlement::Anchor => Windlass::Anchored::SIGNATURE_HASH,
        _ => Windlass::Recorded::SIGNATURE_HASH,
    };
    let filter = LogFilter::new().address(contract).event_signature(topic).from_block(0u64);
    let mut count = 0u64;
    for log in app.nodes().logs(&filter).await? {
        count += u64::from(match settlement {
            Settlement::Anchor => Windlass::Anchored::decode_log_data(&log.inner.data)?.count,
            _ => Windlass::Recorded::decode_log_data(&log.inner.data)?.count,
        });
    }
    Ok(count)
}

/// For direct: each device account's nonce tells how many transactions landed (its first deployed `Barcode`), and
/// `get()` must return the last value.
async fn on_chain_direct(app: &App, rows: &[ReadingRow], problems: &mut Vec<String>) -> anyhow::Result<u64> {
    let mut last: HashMap<&DeviceId, U256> = HashMap::new();
    for row in rows {
        let text = String::from_utf8_lossy(&row.reading.payload);
        last.insert(&row.reading.device, U256::from_str_radix(&text, 10)?);
    }
    let mut count = 0;
    for device in app.journal().devices().await? {
        let (Some(account), Some(barcode)) = (device.address(), device.barcode) else { continue };
        count += app.nodes().nonce(account).await?.saturating_sub(1);
        let stored = get(app, barcode).await?;
        let expected = last.get(&device.device).copied().unwrap_or_default();
        if stored != expected {
            problems.push(format!("{}: get() returns {stored}, its last reading is {expected}", device.device));
        }
    }
    Ok(count)
}

async fn get(app: &App, barcode: Address) -> anyhow::Result<U256> {
    let answer = app.nodes().call(barcode, Barcode::getCall {}.abi_encode().into()).await?;
    Ok(Barcode::getCall::abi_decode_returns(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let q = Quantiles::of((1..=100).collect());
        assert_eq!((q.p50_ms, q.p99_ms), (50, 99));
        let q = Quantiles::of(vec![7]);
        assert_eq!((q.p50_ms, q.p99_ms), (7, 7));
        assert_eq!(Quantiles::of(Vec::new()).p99_ms, 0);
    }
}
