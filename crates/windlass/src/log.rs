//! The append-only log out of a journal and its archives: read again, compared with what was anchored, exported.

mod anchors;
mod audit;
mod check;
mod export;
mod leaves;
mod tiles;

use alloy::primitives::Address;
use anyhow::Context;
use windlass_journal::{BatchRow, Filter, Ledger, Listing, Sqlite, State};
use windlass_proof::log::{Frontier, Levels, consistency, verify_consistency};
use windlass_reading::{Domain, Settlement};

pub use anchors::{Anchor, of_chain, of_journal, orders};
pub use audit::{Audited, audit};
pub use check::{Checked, check};
pub use export::{Exported, export};
pub(crate) use leaves::Leaves;
pub use tiles::Directory;

/// Batches that are looked at in one go.
const PAGE: u64 = 1_000;

/// One gateway's log on one contract.
#[derive(Debug)]
pub struct Log<'a> {
    journal: &'a Sqlite,
    archives: &'a [Sqlite],
    domain: Domain,
    /// Chain id and contract, as the journal names them.
    name: String,
    chain_id: u64,
    contract: Address,
    /// The arrival before the newest archived reading that the journal no longer has; 0: it has all.
    gone: u64,
}

/// What one batch says of the log.
#[derive(Debug)]
pub(crate) struct Stated {
    pub(crate) batch: u64,
    pub(crate) anchor: Anchor,
    pub(crate) state: State,
    pub(crate) archive: Option<String>,
    /// The log's: readings up to this arrival are not in it.
    pub(crate) base: u64,
    /// The greatest arrival that the log covers there.
    pub(crate) arrival: u64,
}

impl<'a> Log<'a> {
    /// The log of this contract; `archives` have readings that left the journal.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn open(
        journal: &'a Sqlite,
        archives: &'a [Sqlite],
        (chain_id, contract): (u64, Address),
    ) -> anyhow::Result<Self> {
        let gone = journal.log_base().await?;
        let (name, domain) = (format!("{chain_id}:{contract}"), Domain::new(chain_id, contract));
        Ok(Self { journal, archives, domain, name, chain_id, contract, gone })
    }

    /// What every batch says of this log, oldest first; the frontiers stay where they are.
    pub(crate) async fn stated(&self) -> anyhow::Result<Vec<Stated>> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.journal.batches(Filter { after, limit: Some(PAGE), ..Filter::default() }).await?;
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.id);
            all.extend(page.into_iter().filter_map(|batch| self.of(batch)));
        }
    }

    fn of(&self, batch: BatchRow) -> Option<Stated> {
        let log = batch.log.filter(|log| log.contract == self.name)?;
        let BatchRow { id, account, number, state, tx, archive, .. } = batch;
        let on_chain = tx.filter(|_| state != State::Accepted);
        let anchor = Anchor { account, number, tx: on_chain, size: log.size, root: log.root };
        Some(Stated { batch: id, anchor, state, archive, base: log.base, arrival: log.arrival })
    }

    /// The frontier that this batch left.
    async fn frontier(&self, batch: u64) -> anyhow::Result<Frontier> {
        let row = self.batch(batch).await?;
        let state = row.log.context("the batch states no log")?;
        let frontier = Frontier::from_bytes(state.size, &state.frontier)?;
        anyhow::ensure!(frontier.root() == state.root, "the frontier of batch {batch} does not have its root");
        Ok(frontier)
    }

    /// The batch with this id, which must state this log.
    async fn batch(&self, id: u64) -> anyhow::Result<BatchRow> {
        let batch = self.journal.batch(id).await?.with_context(|| format!("there is no batch {id}"))?;
        anyhow::ensure!(batch.settlement == Settlement::Anchor, "batch {id} is no anchor");
        let stated = batch.log.as_ref().with_context(|| format!("batch {id} is from before there was a log"))?;
        anyhow::ensure!(stated.contract == self.name, "batch {id} is of another log: {}", stated.contract);
        Ok(batch)
    }

    /// The proof that the log of one batch is the beginning of that of another, as JSON.
    ///
    /// # Errors
    /// When a batch is not there, or when readings between them are missing or were changed.
    pub async fn consistency(&self, first: u64, second: u64) -> anyhow::Result<serde_json::Value> {
        let (a, b) = (self.batch(first).await?, self.batch(second).await?);
        let (Some(old), Some(new)) = (&a.log, &b.log) else { anyhow::bail!("a batch states no log") };
        anyhow::ensure!(old.size <= new.size, "the log of batch {first} is longer: name the older batch first");
        let frontier = Frontier::from_bytes(old.size, &old.frontier)?;
        let mut levels = Levels::after(&frontier);
        let mut leaves = Leaves::new(self, old.arrival, new.arrival);
        while let Some((_, leaf)) = leaves.next().await? {
            levels.append(leaf.as_slice());
        }
        let proof = consistency(&levels, old.size, new.size);
        let proof = proof
            .filter(|p| levels.size() == new.size && verify_consistency(old.size, old.root, new.size, new.root, p));
        let proof = proof.with_context(|| {
            format!("the readings between batch {first} and {second} do not lead from one root to the other: see `windlass log verify`")
        })?;
        let side = |batch: &BatchRow, size: u64, root| {
            serde_json::json!({ "batch": batch.id, "account": batch.account, "number": batch.number,
                "tx": batch.tx, "log_size": size, "log_root": root })
        };
        Ok(serde_json::json!({
            "format": "windlass.log.consistency.v1",
            "chain_id": self.chain_id,
            "contract": self.contract,
            "first": side(&a, old.size, old.root),
            "second": side(&b, new.size, new.root),
            "proof": proof,
        }))
    }
}
