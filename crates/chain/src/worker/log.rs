//! The append-only log: which size and root the next anchor states.

use alloy::primitives::B256;
use windlass_journal::{LogState, Unsettled};
use windlass_proof::log::Frontier;
use windlass_reading::leaf;

use super::{Contract, Worker};
use crate::Error;

/// Readings that are read from the journal in one go.
const PAGE: usize = 10_000;

impl Worker {
    /// The log over every reading that settles by anchor, up to the newest one that any batch has taken, this one included.
    ///
    /// So its size never goes back, whichever lane states it and whatever became of the batches before. `leaves` are those
    /// of `waiting`, and `all` says that nothing else of this gateway waits before its newest one.
    pub(super) async fn log_with(
        &self,
        contract: &Contract,
        waiting: &[Unsettled],
        leaves: &[B256],
        all: bool,
    ) -> Result<LogState, Error> {
        let taken = waiting.iter().map(|u| u.arrival).max().unwrap_or(0);
        let known = match &self.log {
            Some(state) => Some(state.clone()),
            None => self.setup.ledger.log(contract.name.clone()).await?,
        };
        let mut state = match known {
            Some(state) => state,
            None => self.new_log(contract).await?,
        };
        let mut frontier = Frontier::from_bytes(state.size, &state.frontier)
            .map_err(|bad| windlass_journal::Error::Corrupt(bad.to_string()))?;
        if self.log.is_some() && all {
            let fresh = waiting.iter().zip(leaves).filter(|(u, _)| u.arrival > state.arrival);
            fresh.for_each(|(_, leaf)| frontier.append(leaf.as_slice()));
        } else {
            // After a start, or beside other lanes: what this batch does not hold counts too.
            let mut after = state.arrival;
            while after < taken {
                let page = self.setup.ledger.log_readings(after, taken, PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                after = *last;
                page.iter().for_each(|(_, r)| frontier.append(leaf(r, contract.domain.reading(r)).as_slice()));
            }
        }
        state.arrival = state.arrival.max(taken);
        state.size = frontier.size();
        state.root = frontier.root();
        state.frontier = frontier.to_bytes();
        Ok(state)
    }

    /// A log that has nothing yet: the first with this contract, or the first since an upgrade.
    async fn new_log(&self, contract: &Contract) -> Result<LogState, Error> {
        let base = self.setup.ledger.log_base().await?;
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
}
