//! Following the chain: inclusions, reorgs, finality.

use alloy::{
    primitives::{Address, B256},
    rpc::types::TransactionReceipt,
    sol_types::SolEvent,
};
use windlass_contract::Windlass;
use windlass_journal::{Inclusion, Kind, Span};
use windlass_reading::Settlement;

use super::{Worker, now_ms};
use crate::{Error, Settled, Stage, metrics, node::BlockId};

/// `SkipReason.AlreadyRecorded` of the contract: the chain has these readings, nothing is to be done again.
const ALREADY_RECORDED: u8 = 3;

impl Worker {
    /// Walks to the newest block, takes inclusions, and calls old ones final.
    pub(super) async fn follow(&mut self) -> Result<(), Error> {
        let step = self.follower.step(&self.nodes).await?;
        if !step.removed.is_empty() {
            tracing::warn!(blocks = step.removed.len(), "reorg");
            metrics::reorg();
        }
        let moved = !step.added.is_empty();
        self.unread.note(step);
        let removed = self.unread.removed.clone();
        self.remove_blocks(&removed).await?;
        self.unread.removed.clear();
        if self.unread.jumped {
            self.recheck_open().await?;
            self.unread.jumped = false;
        }
        while let Some(block) = self.unread.added.front().copied() {
            if !self.pending.is_empty() {
                self.include_block(block).await?;
            }
            self.unread.added.pop_front();
        }
        if moved || self.fees.is_none() {
            self.price().await?;
            self.finalize().await?;
            self.examine_passed().await?;
        }
        Ok(())
    }

    async fn include_block(&mut self, block: BlockId) -> Result<(), Error> {
        for receipt in self.nodes.receipts(block.hash).await? {
            if let Some((account, nonce)) = self.pending.get(&receipt.transaction_hash).copied() {
                self.include(account, nonce, &receipt).await?;
            }
        }
        Ok(())
    }

    /// Asks for every open transaction by hash: after a start, and when the follower lost the thread.
    pub(super) async fn recheck_open(&mut self) -> Result<(), Error> {
        let open: Vec<_> = self
            .lanes
            .values()
            .flat_map(|lane| lane.open.iter().map(|(nonce, open)| (lane.account, *nonce, open.clone())))
            .collect();
        for (account, nonce, open) in open {
            let mut found = None;
            for attempt in &open.attempts {
                if let Some(receipt) = self.nodes.receipt(attempt.hash).await? {
                    found = Some(receipt);
                    break;
                }
            }
            let now_in = found.as_ref().and_then(|r| r.block_hash);
            if open.inclusion.as_ref().is_some_and(|i| now_in != Some(i.block_hash)) {
                self.exclude(account, nonce).await?;
            }
            match found {
                Some(receipt) => self.include(account, nonce, &receipt).await?,
                None => {
                    let passed = nonce < self.nodes.nonces(account).await?.low;
                    if let Some(open) = self.lanes.get_mut(&account).and_then(|l| l.open.get_mut(&nonce)) {
                        open.passed = passed;
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks at transactions whose nonce a node calls used. Mostly it was used by the transaction itself, and the block
    /// says so soon. Otherwise somebody else has the account's key: once that is final and a majority of the nodes
    /// agrees, the readings go to another transaction.
    async fn examine_passed(&mut self) -> Result<(), Error> {
        let passed: Vec<_> = self
            .lanes
            .values()
            .flat_map(|lane| lane.open.iter().map(|(nonce, open)| (lane.account, *nonce, open)))
            .filter(|(_, _, open)| open.passed && open.inclusion.is_none())
            .map(|(account, nonce, open)| {
                let hashes: Vec<B256> = open.attempts.iter().map(|a| a.hash).collect();
                (account, nonce, open.id, open.kind.clone(), hashes)
            })
            .collect();
        if passed.is_empty() {
            return Ok(());
        }
        let rule = self.setup.config.confirmations;
        let Some(height) = self.follower.final_height(rule, &self.nodes).await? else { return Ok(()) };
        for (account, nonce, id, kind, hashes) in passed {
            let mut found = None;
            for hash in &hashes {
                found = found.or(self.nodes.receipt(*hash).await?);
            }
            if let Some(receipt) = found {
                self.include(account, nonce, &receipt).await?;
                continue;
            }
            if !self.nodes.used_elsewhere(account, nonce, height, &hashes).await.are_enough() {
                continue;
            }
            let text = format!("nonce {nonce} was used by a transaction that is not from here");
            tracing::error!(%account, nonce, kind = kind.name(), "{text}");
            let requeued = self.setup.ledger.displaced(id).await?;
            metrics::requeued(requeued);
            metrics::transaction("displaced");
            for hash in &hashes {
                self.pending.remove(hash);
            }
            if let Some(lane) = self.lanes.get_mut(&account) {
                lane.open.remove(&nonce);
                lane.trouble = Some(text);
                lane.anchor_in_doubt |= matches!(kind, Kind::Settle { settlement: Settlement::Anchor });
            }
            self.load_lane(account).await?;
        }
        Ok(())
    }

    /// Takes a receipt into the journal, then into memory.
    async fn include(&mut self, account: Address, nonce: u64, receipt: &TransactionReceipt) -> Result<(), Error> {
        let Some(open) = self.lanes.get(&account).and_then(|l| l.open.get(&nonce)) else { return Ok(()) };
        if open.inclusion.is_some() {
            return Ok(());
        }
        let (Some(block_number), Some(block_hash)) = (receipt.block_number, receipt.block_hash) else {
            return Ok(());
        };
        let kind = open.kind.clone();
        let (id, batch) = (open.id, open.batch);
        let cancelled = open.attempts.iter().any(|a| a.cancel && a.hash == receipt.transaction_hash);
        let success = receipt.status() && !cancelled;
        let carried = usize::try_from(open.readings).unwrap_or(usize::MAX);
        let skipped = self.skipped(&kind, receipt);
        let again: u64 = skipped.iter().map(|s| u64::from(s.count)).sum();
        let settled = if success { open.readings.saturating_sub(again) } else { 0 };
        let mut received = open.received_at_ms.clone();
        if received.is_empty()
            && let Some(batch) = batch
        {
            received = self.setup.ledger.batch_received_at(batch).await?;
        }
        let inclusion = Inclusion {
            tx: receipt.transaction_hash,
            block_number,
            block_hash,
            success,
            gas_used: receipt.gas_used,
            at_ms: now_ms(),
            skipped: skipped.clone(),
        };
        self.setup.ledger.mined(id, inclusion.clone()).await?;
        metrics::transaction(match (success, cancelled) {
            (true, _) => "mined",
            (false, true) => "cancelled",
            (false, false) => "reverted",
        });
        metrics::requeued(again);
        self.hold_off(&skipped);
        if let Kind::Settle { settlement } = &kind {
            metrics::settled(*settlement, settled, receipt.gas_used);
            if success {
                metrics::confirmed(*settlement, "mined", &received, inclusion.at_ms);
            }
        }
        if let Some(lane) = self.lanes.get_mut(&account) {
            lane.trouble = None;
            lane.fee_capped = false;
            if !cancelled && matches!(kind, Kind::Settle { settlement: Settlement::Anchor | Settlement::Batch }) {
                lane.note_batch(carried, success, self.setup.limits.max_readings);
            }
            if !success {
                if !cancelled {
                    tracing::error!(%account, nonce, tx = %receipt.transaction_hash, kind = kind.name(), "transaction reverted");
                }
                lane.anchor_in_doubt |= matches!(kind, Kind::Settle { settlement: Settlement::Anchor });
            }
            if let Some(open) = lane.open.get_mut(&nonce) {
                open.received_at_ms = received;
                open.readings = open.readings.saturating_sub(again);
                open.inclusion = Some(inclusion.clone());
            }
        }
        self.after_inclusion(account, nonce, &kind, success).await?;
        self.tell(batch, &kind, Stage::Mined, &inclusion);
        Ok(())
    }

    /// Runs that the contract skipped and that must be tried again.
    fn skipped(&self, kind: &Kind, receipt: &TransactionReceipt) -> Vec<Span> {
        if !matches!(kind, Kind::Settle { settlement: Settlement::Batch }) {
            return Vec::new();
        }
        let Some(contract) = &self.contract else { return Vec::new() };
        let mut spans = Vec::new();
        for log in receipt.inner.logs().iter().filter(|l| l.address() == contract.address) {
            let Ok(event) = Windlass::Skipped::decode_log_data(log.data()) else { continue };
            let device = self.devices.keys().find(|d| d.hash() == event.device).cloned();
            tracing::warn!(device = ?device, first = event.firstSequence, count = event.count, reason = event.reason,
                "the contract skipped a run");
            if event.reason == ALREADY_RECORDED {
                continue;
            }
            if let Some(device) = device {
                spans.push(Span { device, first: event.firstSequence, count: event.count });
            }
        }
        spans
    }

    async fn remove_blocks(&mut self, removed: &[B256]) -> Result<(), Error> {
        let gone: Vec<_> = self
            .lanes
            .values()
            .flat_map(|lane| {
                lane.open
                    .iter()
                    .filter(|(_, o)| o.inclusion.as_ref().is_some_and(|i| removed.contains(&i.block_hash)))
                    .map(|(nonce, _)| (lane.account, *nonce))
            })
            .collect();
        for (account, nonce) in gone {
            self.exclude(account, nonce).await?;
        }
        Ok(())
    }

    /// The inclusion is gone: the readings are unsettled again, and the same bytes go out again.
    async fn exclude(&mut self, account: Address, nonce: u64) -> Result<(), Error> {
        let Some(open) = self.lanes.get(&account).and_then(|l| l.open.get(&nonce)) else { return Ok(()) };
        let Some(inclusion) = open.inclusion.clone() else { return Ok(()) };
        let (id, batch, kind) = (open.id, open.batch, open.kind.clone());
        let requeued = self.setup.ledger.unmined(vec![id]).await?;
        metrics::requeued(requeued);
        if let Some(open) = self.lanes.get_mut(&account).and_then(|l| l.open.get_mut(&nonce)) {
            open.inclusion = None;
            open.sent = None;
        }
        self.after_exclusion(&kind).await?;
        self.tell(batch, &kind, Stage::Unsettled, &inclusion);
        Ok(())
    }

    /// Calls inclusions final whose block is old enough and still canonical.
    pub(super) async fn finalize(&mut self) -> Result<(), Error> {
        let rule = self.setup.config.confirmations;
        let Some(height) = self.follower.final_height(rule, &self.nodes).await? else { return Ok(()) };
        let due: Vec<_> = self
            .lanes
            .values()
            .flat_map(|lane| lane.open.iter().map(|(nonce, open)| (lane.account, *nonce, open)))
            .filter_map(|(account, nonce, open)| {
                let inclusion = open.inclusion.clone()?;
                (inclusion.block_number <= height).then_some((account, nonce, open.id, inclusion))
            })
            .collect();
        let mut final_ids = Vec::new();
        let mut done = Vec::new();
        for (account, nonce, id, inclusion) in due {
            let canonical = match self.follower.is_canonical(inclusion.block_number, inclusion.block_hash) {
                Some(known) => known,
                None => {
                    let at = alloy::eips::BlockNumberOrTag::Number(inclusion.block_number);
                    self.nodes.block_at(at).await?.is_some_and(|b| b.hash == inclusion.block_hash)
                }
            };
            if canonical {
                final_ids.push(id);
                done.push((account, nonce, inclusion));
            } else {
                self.exclude(account, nonce).await?;
            }
        }
        if final_ids.is_empty() {
            return Ok(());
        }
        let requeued = self.setup.ledger.finalized(final_ids).await?;
        metrics::requeued(requeued);
        for (account, nonce, inclusion) in done {
            self.forget(account, nonce, &inclusion);
        }
        Ok(())
    }

    fn forget(&mut self, account: Address, nonce: u64, inclusion: &Inclusion) {
        let Some(open) = self.lanes.get_mut(&account).and_then(|l| l.open.remove(&nonce)) else { return };
        for attempt in &open.attempts {
            self.pending.remove(&attempt.hash);
        }
        metrics::transaction("final");
        if let Kind::Settle { settlement } = &open.kind
            && inclusion.success
        {
            metrics::confirmed(*settlement, "final", &open.received_at_ms, now_ms());
        }
        self.tell(open.batch, &open.kind, Stage::Final, inclusion);
    }

    fn tell(&self, batch: Option<u64>, kind: &Kind, stage: Stage, inclusion: &Inclusion) {
        let (Some(batch), Kind::Settle { settlement }) = (batch, kind) else { return };
        if !inclusion.success {
            return;
        }
        let settled =
            Settled { batch, settlement: *settlement, stage, tx: inclusion.tx, block_number: inclusion.block_number };
        if !(self.setup.observer)(settled) {
            metrics::receipt_dropped();
        }
    }
}
