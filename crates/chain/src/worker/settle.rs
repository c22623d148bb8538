//! New work: takes unsettled readings out of the journal and opens their transactions.

use std::time::Duration;

use alloy::{
    primitives::{Address, B256, Bytes, TxKind, U256},
    rpc::types::Filter,
    sol_types::{SolCall, SolEvent, SolValue},
};
use windlass_contract::Windlass;
use windlass_journal::{BatchDraft, Kind, RunDraft, Span, Unsettled};
use windlass_proof::Tree;
use windlass_reading::{DeviceId, Settlement};

use super::{Contract, Worker, log::Taken, now_ms};
use crate::{
    Error, batch,
    lane::{Request, SLOTS},
    metrics,
};

impl Worker {
    /// One look at each lane: opens what is due and fits.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        let Some(contract) = self.contract.clone() else { return Ok(()) };
        let of = u32::try_from(self.submitters.len()).unwrap_or(1).max(1);
        for (index, account) in self.submitters.clone().into_iter().enumerate() {
            let shard = (u32::try_from(index).unwrap_or(0), of);
            if !self.is_payable(account) {
                continue;
            }
            self.settle_anchor(account, shard, &contract).await?;
            self.settle_batch(account, shard, &contract).await?;
        }
        self.settle_direct().await
    }

    /// Whether the account has money and room for another transaction.
    fn is_payable(&self, account: Address) -> bool {
        self.lanes.get(&account).is_some_and(|l| l.has_room() && l.is_solvent() && !l.paused)
    }

    /// Waiting readings, once they make a batch.
    async fn due(&self, account: Address, settlement: Settlement, shard: (u32, u32)) -> Result<Vec<Unsettled>, Error> {
        let limits = &self.setup.limits;
        let most = self.lanes.get(&account).and_then(|l| l.narrowed).unwrap_or(limits.max_readings);
        let waiting = self.setup.ledger.unsettled(settlement, shard, most).await?;
        let oldest = waiting.first().map_or(0, |u| now_ms().saturating_sub(u.received_at_ms));
        let due = waiting.len() >= most || batch::is_due(waiting.len(), Duration::from_millis(oldest), limits);
        if due { Ok(waiting) } else { Ok(Vec::new()) }
    }

    async fn settle_anchor(&mut self, account: Address, shard: (u32, u32), contract: &Contract) -> Result<(), Error> {
        if self.lanes.get(&account).is_some_and(|l| l.anchor_in_doubt) && !self.resolve_head(account, contract).await? {
            return Ok(());
        }
        let waiting = self.due(account, Settlement::Anchor, shard).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        let Some((number, previous)) = self.lanes.get(&account).map(|l| l.anchor) else { return Ok(()) };
        let count = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        let leaves = batch::leaves(&waiting, &contract.domain);
        let taken = Taken { readings: &waiting, leaves: &leaves, all: shard.1 == 1 };
        let log = self.log_with(contract, &taken).await?;
        let stated = (log.size, log.root);
        let Ok(tree) = Tree::new(leaves) else { return Ok(()) };
        let (number, root) = (number + 1, tree.root());
        let (input, gas) = batch::anchor_call(previous, number, root, count, stated);
        let request = Request {
            to: TxKind::Call(contract.address),
            value: U256::ZERO,
            input,
            gas,
            kind: Kind::Settle { settlement: Settlement::Anchor },
        };
        let draft = BatchDraft {
            settlement: Settlement::Anchor,
            number,
            root: Some(root),
            head: Some(batch::next_head(previous, number, root, count, stated)),
            arrivals: waiting.iter().map(|u| u.arrival).collect(),
            runs: Vec::new(),
            log: Some(log),
        };
        metrics::batch(waiting.len());
        metrics::expected_gas(Settlement::Anchor, waiting.len(), batch::expected_gas(Settlement::Anchor, &[], 0));
        let received = waiting.iter().map(|u| u.received_at_ms).collect();
        self.open(account, request, Some((draft, received))).await
    }

    /// Reads the account's head from the chain once no anchor of it is open. False: wait.
    async fn resolve_head(&mut self, account: Address, contract: &Contract) -> Result<bool, Error> {
        let is_anchor = |k: &Kind| matches!(k, Kind::Settle { settlement: Settlement::Anchor });
        let Some(lane) = self.lanes.get(&account) else { return Ok(false) };
        let waiting = lane.open.values().any(|o| is_anchor(&o.kind) && o.inclusion.as_ref().is_none_or(|i| !i.success));
        if waiting {
            // After a start the journal's head is right as long as the open anchors follow it.
            let reverted = lane.open.values().any(|o| o.inclusion.as_ref().is_some_and(|i| !i.success));
            if !reverted && let Some(lane) = self.lanes.get_mut(&account) {
                lane.anchor_in_doubt = false;
                return Ok(true);
            }
            return Ok(false);
        }
        let data = Windlass::headOfCall { submitter: account }.abi_encode().into();
        let answer = self.nodes.call(contract.address, data).await?;
        let head = B256::abi_decode(&answer).map_err(|_| Error::Answer("headOf"))?;
        let (mut number, known) = self.setup.ledger.account(account).await?.anchor.unwrap_or_default();
        if head != known && head != B256::ZERO {
            number = number.max(self.last_number(account, contract).await?);
        }
        tracing::info!(%account, %head, number, "anchor chain continues");
        if let Some(lane) = self.lanes.get_mut(&account) {
            lane.anchor = (number, head);
            lane.anchor_in_doubt = false;
        }
        Ok(true)
    }

    /// The number of the account's last anchor, from the chain's events.
    async fn last_number(&self, account: Address, contract: &Contract) -> Result<u64, Error> {
        let filter = Filter::new()
            .address(contract.address)
            .event_signature(Windlass::Anchored::SIGNATURE_HASH)
            .topic1(account.into_word())
            .from_block(0u64);
        let logs = self.nodes.logs(&filter).await?;
        let last = logs.last().and_then(|log| Windlass::Anchored::decode_log_data(&log.inner.data).ok());
        Ok(last.map_or(0, |event| event.batch))
    }

    async fn settle_batch(&mut self, account: Address, shard: (u32, u32), contract: &Contract) -> Result<(), Error> {
        let mut waiting = self.due(account, Settlement::Batch, shard).await?;
        waiting.retain(|u| !self.is_held_off(&u.reading.device));
        let mut runs = Vec::new();
        let mut draft = BatchDraft {
            settlement: Settlement::Batch,
            number: 0,
            root: None,
            head: None,
            arrivals: Vec::new(),
            runs: Vec::new(),
            log: None,
        };
        let mut received = Vec::new();
        for run in batch::runs(waiting) {
            let signature = match self.setup.signatory.sign(&run.device, run.digest(&contract.domain)).await {
                Ok(signature) => Bytes::from(signature.as_erc2098().to_vec()),
                Err(error) => {
                    // One device without a key never holds its neighbours.
                    tracing::warn!(device = %run.device, error, "a run could not be signed");
                    self.hold_off(&[Span { device: run.device, first: run.first, count: run.count }]);
                    continue;
                }
            };
            runs.push(run.signed(signature.clone()));
            draft.arrivals.extend(&run.arrivals);
            received.extend(&run.received_at_ms);
            let span = Span { device: run.device, first: run.first, count: run.count };
            draft.runs.push(RunDraft { span, signature });
        }
        if runs.is_empty() {
            return Ok(());
        }
        let count = runs.len();
        let (input, gas) = batch::record_call(runs);
        let expected = batch::expected_gas(Settlement::Batch, &input, count);
        let request = Request {
            to: TxKind::Call(contract.address),
            value: U256::ZERO,
            input,
            gas,
            kind: Kind::Settle { settlement: Settlement::Batch },
        };
        metrics::batch(draft.arrivals.len());
        metrics::expected_gas(Settlement::Batch, draft.arrivals.len(), expected);
        self.open(account, request, Some((draft, received))).await
    }

    /// Every device with waiting readings sends from its own account, in its own order.
    async fn settle_direct(&mut self) -> Result<(), Error> {
        for (device, waiting) in self.setup.ledger.unsettled_direct(SLOTS).await? {
            let Some(row) = self.devices.get(&device) else { continue };
            let (Some(account), Some(barcode)) = (row.address, row.barcode) else { continue };
            for unsettled in waiting {
                if !self.is_payable(account) {
                    break;
                }
                if let Err(error) = self.set(&device, account, barcode, &unsettled).await {
                    if !matches!(error, Error::Signing(_)) {
                        return Err(error);
                    }
                    tracing::warn!(%device, %error, "a reading could not be signed");
                    break;
                }
            }
        }
        Ok(())
    }

    async fn set(
        &mut self,
        device: &DeviceId,
        account: Address,
        barcode: Address,
        unsettled: &Unsettled,
    ) -> Result<(), Error> {
        let Some(input) = batch::set_call(&unsettled.reading.payload) else {
            tracing::error!(%device, sequence = unsettled.reading.sequence, "a direct reading is not a number");
            return Ok(());
        };
        metrics::expected_gas(Settlement::Direct, 1, batch::expected_gas(Settlement::Direct, &input, 0));
        let request = Request {
            to: TxKind::Call(barcode),
            value: U256::ZERO,
            input,
            gas: batch::SET_GAS,
            kind: Kind::Settle { settlement: Settlement::Direct },
        };
        let draft = BatchDraft {
            settlement: Settlement::Direct,
            number: 0,
            root: None,
            head: None,
            arrivals: vec![unsettled.arrival],
            runs: Vec::new(),
            log: None,
        };
        self.open(account, request, Some((draft, vec![unsettled.received_at_ms]))).await
    }
}
