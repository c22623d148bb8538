//! Writing before sending: the journal has every signed byte before it leaves, replacements too.

use std::time::Duration;

use alloy::primitives::{Address, Bytes, TxKind, U256};
use tokio::time::Instant;
use windlass_journal::{BatchDraft, Kind, TransactionDraft};

use super::{Worker, now_ms};
use crate::{
    Error,
    errors::{Outcome, Rejection},
    fees::Fees,
    lane::{Lane, Open, Request, SLOTS, TRANSFER_GAS},
    metrics,
};

/// The same bytes go out again after this long without inclusion.
const RESEND_AFTER: Duration = Duration::from_secs(3);

impl Worker {
    /// Signs, journals and sends one transaction. When it returns the transaction is durable, whatever the node said.
    pub(super) async fn open(
        &mut self,
        account: Address,
        request: Request,
        batch: Option<(BatchDraft, Vec<u64>)>,
    ) -> Result<(), Error> {
        if request.gas > crate::config::MAX_TRANSACTION_GAS {
            return Err(Error::TooMuchGas { account, gas: request.gas });
        }
        match self.lanes.get(&account).map(|lane| (lane.next_nonce, lane.paused)) {
            Some((nonce, false)) => self.open_at(account, nonce, request, batch).await,
            _ => Ok(()),
        }
    }

    /// The same at a nonce that nothing was ever signed at.
    async fn open_at(
        &mut self,
        account: Address,
        nonce: u64,
        request: Request,
        batch: Option<(BatchDraft, Vec<u64>)>,
    ) -> Result<(), Error> {
        let fees = self.offer();
        let chain_id = self.setup.config.chain_id;
        let Some(lane) = self.lanes.get_mut(&account) else { return Ok(()) };
        let cost = Lane::cost(&request, fees);
        if lane.balance_wei.is_some_and(|balance| balance < cost) {
            // Nothing is signed that could not be paid.
            lane.needs_wei = Some(cost);
            lane.balance_checked = None;
            return Ok(());
        }
        let attempt = match lane.attempt(&request, nonce, chain_id, fees, self.setup.signatory.as_ref()).await {
            Err(error @ Error::Signer { .. }) => {
                lane.rest(error.to_string());
                return Ok(());
            }
            attempt => attempt?,
        };
        let draft = TransactionDraft { account, nonce, kind: request.kind.clone(), attempt: attempt.clone() };
        let (batch, received_at_ms) = batch.map_or((None, Vec::new()), |(b, r)| (Some(b), r));
        let anchor = batch.as_ref().and_then(|b| Some((b.number, b.head?)));
        let log = batch.as_ref().and_then(|b| b.log.clone());
        if log.is_some() {
            // Until the journal has the batch, only the journal knows where the log is.
            self.log = None;
        }
        let opened = self.setup.ledger.open(draft, batch).await;
        if let Err(windlass_journal::Error::NonceTaken { .. }) = &opened {
            // The journal knows better than this lane; take its word and build the transaction again.
            self.load_lane(account).await?;
        }
        let opened = opened?;
        if let Some(log) = log {
            metrics::log(log.size);
            self.log = Some(log);
        }
        self.pending.insert(attempt.hash, (account, nonce));
        let head = self.follower.head().map_or(0, |h| h.number);
        let Some(lane) = self.lanes.get_mut(&account) else { return Ok(()) };
        lane.next_nonce = lane.next_nonce.max(nonce + 1);
        lane.needs_wei = None;
        if let Some(anchor) = anchor {
            lane.anchor = anchor;
        }
        let open = Open {
            id: opened.transaction,
            kind: request.kind,
            batch: opened.batch,
            readings: received_at_ms.len() as u64,
            received_at_ms,
            attempts: vec![attempt],
            inclusion: None,
            created_at_ms: now_ms(),
            attempted_at_block: head,
            sent: None,
            passed: false,
            underpriced: false,
        };
        lane.open.insert(nonce, open);
        self.send(account, nonce).await;
        Ok(())
    }

    /// Sends the newest attempt of an open transaction to all nodes.
    pub(super) async fn send(&mut self, account: Address, nonce: u64) {
        let Some(open) = self.lanes.get_mut(&account).and_then(|l| l.open.get_mut(&nonce)) else { return };
        let Some(raw) = open.newest().map(|a| a.raw.clone()) else { return };
        open.sent = Some(Instant::now());
        let outcome = self.nodes.send(&raw).await;
        metrics::transaction(outcome.label());
        let trouble = match &outcome {
            Outcome::Accepted => None,
            // Included a moment ago, or its successor is in the pool: the receipt tells.
            Outcome::Rejected(Rejection::NonceTooLow) => None,
            Outcome::Rejected(rejection) => Some(format!("nonce {nonce} refused: {rejection:?}")),
            Outcome::Unknown(text) => Some(format!("nonce {nonce} unanswered: {text}")),
        };
        if let Some(text) = &trouble {
            tracing::warn!(%account, nonce, "{text}");
        }
        let Some(lane) = self.lanes.get_mut(&account) else { return };
        if matches!(outcome, Outcome::Rejected(Rejection::InsufficientFunds)) {
            lane.balance_checked = None;
        }
        if matches!(outcome, Outcome::Rejected(Rejection::NonceTooLow))
            && let Some(open) = lane.open.get_mut(&nonce)
        {
            open.passed = true;
        }
        if matches!(outcome, Outcome::Rejected(Rejection::Underpriced)) {
            // Too cheap even to wait in the pool: due for a replacement at once.
            if let Some(open) = lane.open.get_mut(&nonce) {
                open.underpriced = true;
            }
        }
        lane.trouble = trouble;
    }

    /// Sends again what has no inclusion, and replaces what has waited too long.
    pub(super) async fn resend(&mut self) -> Result<(), Error> {
        let head = self.follower.head().map_or(0, |h| h.number);
        let patience = self.setup.config.bump_after_blocks;
        let mut again = Vec::new();
        let mut stuck = Vec::new();
        for lane in self.lanes.values_mut() {
            let late = lane.stuck(head, patience, self.base_fee_wei);
            // No more than a pool takes: after a reorg more may be waiting.
            let waiting = lane.open.iter().filter(|(_, o)| o.inclusion.is_none()).take(SLOTS);
            for (nonce, open) in waiting {
                if !late.contains(nonce) && open.sent.is_none_or(|at| at.elapsed() >= RESEND_AFTER) {
                    again.push((lane.account, *nonce));
                }
            }
            if !late.is_empty() {
                stuck.push((lane.account, late));
            }
        }
        for (account, nonces) in stuck {
            if let Some(lowest) = nonces.first()
                && self.fill_gap(account, *lowest).await?
            {
                self.send(account, *lowest).await;
                continue;
            }
            for nonce in nonces {
                self.supersede(account, nonce, false).await?;
                self.send(account, nonce).await;
            }
        }
        for (account, nonce) in again {
            self.send(account, nonce).await;
        }
        Ok(())
    }

    /// A transaction may be stuck because the chain waits for a nonce before it that nothing was ever signed at: every
    /// node says so, and the journal would know. Then that one is used up. Says whether there was such a gap.
    async fn fill_gap(&mut self, account: Address, lowest: u64) -> Result<bool, Error> {
        let next = self.nodes.nonces(account).await?.high;
        let Some(lane) = self.lanes.get(&account) else { return Ok(false) };
        if next >= lowest || lane.open.contains_key(&next) {
            return Ok(false);
        }
        let request = Request {
            to: TxKind::Call(account),
            value: U256::ZERO,
            input: Bytes::new(),
            gas: TRANSFER_GAS,
            kind: Kind::Fill,
        };
        match self.open_at(account, next, request, None).await {
            Ok(()) => {
                tracing::error!(%account, nonce = next, "a gap before the lowest open nonce; it is filled");
                Ok(true)
            }
            Err(Error::Journal(windlass_journal::Error::NonceTaken { .. })) => {
                // Something was signed at it and is final here: then the node contradicts itself, or a reorg was deeper
                // than `chain.confirmations`. Nothing new is signed because of it, and nobody else waits for it.
                let text = format!(
                    "the nodes wait for nonce {next}, which is final in the journal: see `windlass fsck --rpc`"
                );
                if let Some(lane) = self.lanes.get_mut(&account)
                    && lane.trouble.as_ref() != Some(&text)
                {
                    tracing::error!(%account, nonce = next, "{text}");
                    lane.trouble = Some(text);
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Journals another attempt at the nonce: the same transaction at a higher fee, or one that does nothing. At the cap
    /// the old one stays and an alarm is raised. Says whether there is a new one.
    pub(super) async fn supersede(&mut self, account: Address, nonce: u64, cancel: bool) -> Result<bool, Error> {
        let head = self.follower.head().map_or(0, |h| h.number);
        let cap = self.setup.config.max_fee.per_gas();
        let offer = self.offer();
        let Some(lane) = self.lanes.get(&account) else { return Ok(false) };
        let Some(open) = lane.open.get(&nonce) else { return Ok(false) };
        let Some(old) = open.newest().cloned() else { return Ok(false) };
        let id = open.id;
        let paid = Fees { max_fee_wei: old.max_fee_wei, tip_wei: old.tip_wei };
        let replacement = match paid.bump(offer, cap) {
            None => None,
            Some(fees) if cancel => Some(lane.cancellation(&old, fees, self.setup.signatory.as_ref()).await),
            Some(fees) => Some(lane.replacement(&old, fees, self.setup.signatory.as_ref()).await),
        };
        if let (Some(Err(error @ Error::Signer { .. })), Some(lane)) = (&replacement, self.lanes.get_mut(&account)) {
            lane.rest(error.to_string());
            return Ok(false);
        }
        let replacement = replacement.transpose()?;
        let Some(attempt) = replacement else {
            if let Some(lane) = self.lanes.get_mut(&account) {
                if !std::mem::replace(&mut lane.fee_capped, true) {
                    tracing::warn!(%account, nonce, "a replacement would cost more than max_fee; the same bytes go out again");
                }
                if let Some(open) = lane.open.get_mut(&nonce) {
                    open.attempted_at_block = head;
                }
            }
            return Ok(false);
        };
        self.setup.ledger.add_attempt(id, attempt.clone()).await?;
        tracing::info!(%account, nonce, max_fee_wei = attempt.max_fee_wei, cancel, "replacing a transaction");
        metrics::replaced();
        self.pending.insert(attempt.hash, (account, nonce));
        if let Some(open) = self.lanes.get_mut(&account).and_then(|l| l.open.get_mut(&nonce)) {
            open.attempts.push(attempt);
            open.attempted_at_block = head;
            open.underpriced = false;
        }
        Ok(true)
    }

    /// Reads the market for the next offers.
    pub(super) async fn price(&mut self) -> Result<(), Error> {
        let (base_fee_wei, tip_wei) = self.nodes.market().await?;
        self.base_fee_wei = base_fee_wei;
        self.fees = Some(Fees::offer(base_fee_wei, tip_wei, self.setup.config.max_fee.per_gas()));
        Ok(())
    }

    fn offer(&self) -> Fees {
        let cap = self.setup.config.max_fee.per_gas();
        self.fees.unwrap_or_else(|| Fees::offer(cap / 4, 0, cap))
    }
}
