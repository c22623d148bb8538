//! New work: takes unsettled readings out of the journal and opens their transactions.

use std::time::Duration;

use alloy::{
    primitives::{Address, B256, TxKind, U256},
    rpc::types::Filter,
    sol_types::{SolCall, SolEvent, SolValue},
};
use windlass_contract::Windlass;
use windlass_journal::{BatchDraft, Kind, Unsettled};
use windlass_proof::Tree;
use windlass_reading::{DeviceId, Settlement};

use super::{Contract, Worker, log::Taken, now_ms};
use crate::{
    Anchor, Error, anchor, batch,
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
    pub(super) fn is_payable(&self, account: Address) -> bool {
        self.lanes.get(&account).is_some_and(|l| l.has_room() && l.is_solvent() && !l.paused)
    }

    /// Waiting readings, once they make a batch.
    pub(super) async fn due(
        &self,
        account: Address,
        settlement: Settlement,
        shard: (u32, u32),
    ) -> Result<Vec<Unsettled>, Error> {
        let limits = &self.setup.limits;
        let most = self.lanes.get(&account).and_then(|l| l.narrowed).unwrap_or(limits.max_readings);
        let except = if settlement == Settlement::Batch { self.waiting_devices() } else { Vec::new() };
        let waiting = self.setup.ledger.unsettled(settlement, shard, except, most).await?;
        let oldest = waiting.first().map_or(0, |u| now_ms().saturating_sub(u.received_at_ms));
        let due = waiting.len() >= most || batch::is_due(waiting.len(), Duration::from_millis(oldest), limits);
        if due { Ok(waiting) } else { Ok(Vec::new()) }
    }

    async fn settle_anchor(&mut self, account: Address, shard: (u32, u32), contract: &Contract) -> Result<(), Error> {
        if self.lanes.get(&account).is_some_and(|l| l.anchor_in_doubt) && !self.resolve_head(account, contract).await? {
            return Ok(());
        }
        let mut waiting = self.due(account, Settlement::Anchor, shard).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        let Some(with_ranges) = self.says_ranges(account, contract).await? else { return Ok(()) };
        if with_ranges {
            waiting = anchor::fitting(waiting);
        }
        let Some((number, previous)) = self.lanes.get(&account).map(|l| l.anchor) else { return Ok(()) };
        let count = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        let leaves = anchor::leaves(&waiting, &contract.domain);
        let taken = Taken { readings: &waiting, leaves: &leaves, all: shard.1 == 1 };
        let log = self.log_with(contract, &taken).await?;
        let Ok(tree) = Tree::new(leaves) else { return Ok(()) };
        let anchor = Anchor {
            previous,
            number: number + 1,
            root: tree.root(),
            count,
            log: (log.size, log.root),
            ranges: if with_ranges { anchor::ranges(waiting.iter().map(|u| &u.reading)) } else { Vec::new() },
        };
        let (input, gas) = anchor.call();
        let request = Request {
            to: TxKind::Call(contract.address),
            value: U256::ZERO,
            input,
            gas,
            kind: Kind::Settle { settlement: Settlement::Anchor },
        };
        let draft = BatchDraft {
            settlement: Settlement::Anchor,
            number: anchor.number,
            root: Some(anchor.root),
            head: Some(anchor.head()),
            arrivals: waiting.iter().map(|u| u.arrival).collect(),
            runs: Vec::new(),
            log: Some(log),
        };
        metrics::batch(waiting.len());
        metrics::expected_gas(Settlement::Anchor, waiting.len(), anchor.expected_gas());
        let received = waiting.iter().map(|u| u.received_at_ms).collect();
        self.open(account, request, Some((draft, received))).await
    }

    /// Whether this anchor has ranges; `None` while it may have none and should. The contract takes a device's ranges
    /// from its first number on only, so a gateway that has anchored without them cannot begin.
    async fn says_ranges(&mut self, account: Address, contract: &Contract) -> Result<Option<bool>, Error> {
        let wanted = self.setup.limits.ranges;
        let (with, without) = (format!("with {}", contract.name), format!("without {}", contract.name));
        let known = self.setup.ledger.meta("ranges".into()).await?.filter(|k| *k == with || *k == without);
        let begun = match &known {
            Some(known) => *known == with,
            // Anchors of an earlier version had none.
            None => wanted && self.lanes.get(&account).is_some_and(|l| l.anchor == (0, B256::ZERO)),
        };
        let says = if wanted { with } else { without };
        if wanted && !begun {
            let text = "settlement.ranges can only begin with the first anchor on a contract: deploy another contract, or \
                        switch it off";
            if let Some(lane) = self.lanes.get_mut(&account) {
                lane.trouble = Some(text.to_owned());
            }
            return Ok(None);
        }
        if known.as_ref() != Some(&says) {
            self.setup.ledger.set_meta("ranges".into(), says).await?;
        }
        Ok(Some(wanted))
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

    /// Every device with waiting readings sends from its own account, in its own order.
    async fn settle_direct(&mut self) -> Result<(), Error> {
        for (device, waiting) in self.setup.ledger.unsettled_direct(SLOTS).await? {
            let Some(row) = self.devices.get(&device) else { continue };
            let (Some(account), Some(barcode)) = (row.address(), row.barcode) else { continue };
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
        metrics::expected_gas(Settlement::Direct, 1, batch::SET_USES);
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
