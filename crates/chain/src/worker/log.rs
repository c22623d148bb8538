//! The append-only log: which size and root the next anchor states.

#[cfg(test)]
mod tests;

use alloy::primitives::B256;
use windlass_journal::{Ledger, LogState, Unsettled};
use windlass_proof::log::Frontier;
use windlass_reading::leaf;

use super::{Contract, Worker};
use crate::Error;

/// Readings that are read from the journal in one go.
const PAGE: usize = 10_000;

/// The readings of the anchor that is about to be made.
pub(super) struct Taken<'a> {
    /// In arrival order.
    pub(super) readings: &'a [Unsettled],
    /// Their leaves, in the same order.
    pub(super) leaves: &'a [B256],
    /// Nothing else of this gateway waits before the newest of them.
    pub(super) all: bool,
}

impl Worker {
    /// What the next anchor states.
    pub(super) async fn log_with(&self, contract: &Contract, taken: &Taken<'_>) -> Result<LogState, Error> {
        next(self.setup.ledger.as_ref(), self.log.as_ref(), contract, taken).await
    }
}

/// The log over every reading that settles by anchor, up to the newest one that any batch has taken, this one included.
///
/// So its size never goes back, whichever lane states it and whatever became of the batches before. `last` is what this
/// process wrote last; without it the journal tells, and the readings come from there.
async fn next(
    ledger: &dyn Ledger,
    last: Option<&LogState>,
    contract: &Contract,
    taken: &Taken<'_>,
) -> Result<LogState, Error> {
    let newest = taken.readings.iter().map(|u| u.arrival).max().unwrap_or(0);
    let known = match last {
        Some(state) => Some(state.clone()),
        None => ledger.log(contract.name.clone()).await?,
    };
    let mut state = match known {
        Some(state) => state,
        None => begin(ledger, contract).await?,
    };
    let mut frontier = Frontier::from_bytes(state.size, &state.frontier)
        .map_err(|bad| windlass_journal::Error::Corrupt(bad.to_string()))?;
    if last.is_some() && taken.all {
        let fresh = taken.readings.iter().zip(taken.leaves).filter(|(u, _)| u.arrival > state.arrival);
        fresh.for_each(|(_, leaf)| frontier.append(leaf.as_slice()));
    } else {
        // After a start, or beside other lanes: what this batch does not hold counts too.
        let mut after = state.arrival;
        while after < newest {
            let page = ledger.log_readings(after, newest, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            page.iter().for_each(|(_, r)| frontier.append(leaf(r, contract.domain.reading(r)).as_slice()));
        }
    }
    state.arrival = state.arrival.max(newest);
    state.size = frontier.size();
    state.root = frontier.root();
    state.frontier = frontier.to_bytes();
    Ok(state)
}

/// A log that has nothing yet: the first with this contract, or the first since an upgrade.
async fn begin(ledger: &dyn Ledger, contract: &Contract) -> Result<LogState, Error> {
    let base = ledger.log_base().await?;
    tracing::info!(contract = contract.name, after_arrival = base, "an append-only log begins");
    let empty = Frontier::default();
    Ok(LogState {
        contract: contract.name.clone(),
        base,
        arrival: base,
        size: 0,
        root: empty.root(),
        frontier: empty.to_bytes(),
    })
}
