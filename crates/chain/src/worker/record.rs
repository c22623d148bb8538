//! `batch` settlement: runs that device keys sign once, and readings that devices signed one by one.

use alloy::primitives::{Address, Bytes, TxKind, U256};
use windlass_journal::{BatchDraft, Kind, RunDraft, Span, Unsettled};
use windlass_reading::{DeviceId, PublicKey, Settlement};

use super::{Contract, Worker};
use crate::{Error, batch, lane::Request, metrics, precompile};

/// A batch on its way into one transaction.
struct Gathered {
    draft: BatchDraft,
    received_at_ms: Vec<u64>,
}

impl Gathered {
    fn new() -> Self {
        let draft = BatchDraft {
            settlement: Settlement::Batch,
            number: 0,
            root: None,
            head: None,
            arrivals: Vec::new(),
            runs: Vec::new(),
            log: None,
        };
        Self { draft, received_at_ms: Vec::new() }
    }

    fn push(&mut self, span: Span, signature: Bytes, arrivals: &[u64], received_at_ms: &[u64]) {
        self.draft.runs.push(RunDraft { span, signature });
        self.draft.arrivals.extend(arrivals);
        self.received_at_ms.extend(received_at_ms);
    }
}

impl Worker {
    pub(super) async fn settle_batch(
        &mut self,
        account: Address,
        shard: (u32, u32),
        contract: &Contract,
    ) -> Result<(), Error> {
        let waiting = self.due(account, Settlement::Batch, shard).await?;
        let (signed, custodial): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|u| u.signature.is_some());
        self.record(account, custodial, contract).await?;
        if self.is_payable(account) {
            self.record_signed(account, signed, contract).await?;
        }
        Ok(())
    }

    /// Runs, each signed here by its device's key.
    async fn record(&mut self, account: Address, waiting: Vec<Unsettled>, contract: &Contract) -> Result<(), Error> {
        let mut gathered = Gathered::new();
        let mut runs = Vec::new();
        for run in batch::runs(waiting) {
            let digest = run.digest(&contract.domain);
            let span = Span { device: run.device.clone(), first: run.first, count: run.count };
            let signature = match self.setup.signatory.sign(&run.device, Some(run.epoch), digest).await {
                Ok(signature) => Bytes::from(signature.as_erc2098().to_vec()),
                Err(error) => {
                    // One device without a key never holds its neighbours.
                    tracing::warn!(device = %run.device, error, "a run could not be signed");
                    self.hold_off(&[span]);
                    continue;
                }
            };
            runs.push(run.signed(signature.clone()));
            gathered.push(span, signature, &run.arrivals, &run.received_at_ms);
        }
        if runs.is_empty() {
            return Ok(());
        }
        let count = runs.len();
        let (input, gas) = batch::record_call(runs);
        self.open_record(account, contract, (input, gas), count, gathered).await
    }

    /// Readings that came with their device's signature: each is a run of one.
    async fn record_signed(
        &mut self,
        account: Address,
        waiting: Vec<Unsettled>,
        contract: &Contract,
    ) -> Result<(), Error> {
        if waiting.is_empty() {
            return Ok(());
        }
        let key = |device: &DeviceId| self.devices.get(device).and_then(|row| row.key);
        let asks_p256 = waiting.iter().any(|u| matches!(key(&u.reading.device), Some(PublicKey::P256(_))));
        let has_precompile = asks_p256 && self.has_p256_precompile().await?;
        let key = |device: &DeviceId| self.devices.get(device).and_then(|row| row.key);
        let (taken, gas) = batch::signed(waiting, |device| batch::signed_gas(key(device), has_precompile));
        let input = batch::record_signed_call(&taken);
        let mut gathered = Gathered::new();
        for unsettled in &taken {
            let span = Span { device: unsettled.reading.device.clone(), first: unsettled.reading.sequence, count: 1 };
            let signature = unsettled.signature.clone().unwrap_or_default();
            gathered.push(span, signature, &[unsettled.arrival], &[unsettled.received_at_ms]);
        }
        self.open_record(account, contract, (input, gas), taken.len(), gathered).await
    }

    async fn open_record(
        &mut self,
        account: Address,
        contract: &Contract,
        (input, gas): (Bytes, u64),
        runs: usize,
        gathered: Gathered,
    ) -> Result<(), Error> {
        let readings = gathered.draft.arrivals.len();
        let expected = batch::expected_gas(&input, runs);
        let request = Request {
            to: TxKind::Call(contract.address),
            value: U256::ZERO,
            input,
            gas,
            kind: Kind::Settle { settlement: Settlement::Batch },
        };
        metrics::batch(readings);
        metrics::expected_gas(Settlement::Batch, readings, expected);
        self.open(account, request, Some((gathered.draft, gathered.received_at_ms))).await
    }

    /// Whether the chain verifies P-256 signatures by itself. Asked once: a chain gets it by a fork, and a start later
    /// is soon enough.
    async fn has_p256_precompile(&mut self) -> Result<bool, Error> {
        if let Some(known) = self.p256_precompile {
            return Ok(known);
        }
        let is_there = precompile::is_there(&self.nodes.call(precompile::ADDRESS, precompile::question()).await?);
        if is_there {
            tracing::info!("the chain verifies P-256 signatures (EIP-7951)");
        } else {
            tracing::warn!(
                "the chain has no P-256 precompile at {} (EIP-7951): the contract verifies in Solidity, about 250,000 gas \
                 for each reading of a P-256 device; anchor settlement needs no such check",
                precompile::ADDRESS
            );
        }
        metrics::p256_precompile(is_there);
        self.p256_precompile = Some(is_there);
        Ok(is_there)
    }
}
