//! The operator's hand: what a person may do to lanes and transactions. Each act is written down with its outcome.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use windlass_journal::Act;

use super::{Worker, chain};
use crate::Error;

/// Where the journal keeps which accounts are paused.
const PAUSED: &str = "paused";

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Send the newest attempt of the transaction with this hash once more.
    Resend(B256),
    /// Replace it at a higher fee.
    Bump(B256),
    /// Replace it by one that does nothing; its readings go to another transaction.
    Cancel(B256),
    /// Nothing new from this account, or from any submitter.
    Pause(Option<Address>),
    /// Again.
    Resume(Option<Address>),
    /// Nothing new at all until everything is resumed or the next start; what is open is finished.
    Drain,
}

impl Order {
    fn name(&self) -> &'static str {
        match self {
            Self::Resend(_) => "resend",
            Self::Bump(_) => "bump",
            Self::Cancel(_) => "cancel",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Drain => "drain",
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::Resend(tx) | Self::Bump(tx) | Self::Cancel(tx) => tx.to_string(),
            Self::Pause(Some(account)) | Self::Resume(Some(account)) => account.to_string(),
            Self::Pause(None) | Self::Resume(None) | Self::Drain => "all".into(),
        }
    }
}

impl Worker {
    /// Does what an operator asks for, and writes it down.
    ///
    /// # Errors
    /// Why it was not done, in words.
    pub async fn obey(&mut self, order: Order) -> Result<String, String> {
        let done = match &order {
            Order::Resend(tx) => self.resend_one(*tx).await,
            Order::Bump(tx) => self.supersede_one(*tx, false).await,
            Order::Cancel(tx) => self.supersede_one(*tx, true).await,
            Order::Pause(account) => self.pause(*account, true).await,
            Order::Resume(account) => {
                self.draining &= account.is_some();
                self.pause(*account, false).await
            }
            Order::Drain => {
                self.drain();
                Ok("nothing new is taken; open transactions are finished".into())
            }
        };
        let outcome = match &done {
            Ok(text) => format!("done: {text}"),
            Err(text) => format!("refused: {text}"),
        };
        let act = Act { act: order.name().into(), subject: order.subject(), outcome };
        tracing::info!(act = act.act, subject = act.subject, outcome = act.outcome, "operator");
        match self.setup.ledger.note_act(act).await {
            Ok(()) => done,
            Err(error) => Err(format!("the act could not be written down: {}", chain(&error))),
        }
    }

    /// The open transaction that this hash is an attempt of.
    fn find(&self, tx: B256) -> Result<(Address, u64), String> {
        let (account, nonce) =
            self.pending.get(&tx).copied().ok_or("no open transaction has this hash; see `windlass attempts`")?;
        let open = self.lanes.get(&account).and_then(|l| l.open.get(&nonce));
        match open.map(|open| open.inclusion.as_ref()) {
            Some(None) => Ok((account, nonce)),
            Some(Some(inclusion)) => Err(format!("it is included in block {} already", inclusion.block_number)),
            None => Err("no open transaction has this hash".into()),
        }
    }

    async fn resend_one(&mut self, tx: B256) -> Result<String, String> {
        let (account, nonce) = self.find(tx)?;
        self.send(account, nonce).await;
        match self.lanes.get(&account).and_then(|l| l.trouble.clone()) {
            None => Ok(format!("nonce {nonce} of {account} was accepted")),
            Some(trouble) => Err(trouble),
        }
    }

    async fn supersede_one(&mut self, tx: B256, cancel: bool) -> Result<String, String> {
        let (account, nonce) = self.find(tx)?;
        if !self.supersede(account, nonce, cancel).await.map_err(|e| chain(&e))? {
            return Err("it would cost more than chain.max_fee".into());
        }
        self.send(account, nonce).await;
        let newest = self.lanes.get(&account).and_then(|l| l.open.get(&nonce)).and_then(|o| o.newest());
        let Some(attempt) = newest else { return Err("it is gone".into()) };
        Ok(format!("{} at {} wei per gas", attempt.hash, attempt.max_fee_wei))
    }

    async fn pause(&mut self, account: Option<Address>, paused: bool) -> Result<String, String> {
        let mut accounts = self.submitters.clone();
        match account {
            Some(account) if self.lanes.contains_key(&account) => accounts = vec![account],
            Some(account) => return Err(format!("{account} has no lane; see `windlass lanes`")),
            None if !paused => accounts.extend(self.lanes.values().filter(|l| l.paused).map(|l| l.account)),
            None => {}
        }
        for account in &accounts {
            if let Some(lane) = self.lanes.get_mut(account) {
                lane.paused = paused;
            }
        }
        let all: BTreeSet<String> = self.lanes.values().filter(|l| l.paused).map(|l| l.account.to_string()).collect();
        let count = all.len();
        let text = all.into_iter().collect::<Vec<_>>().join(" ");
        self.setup.ledger.set_meta(PAUSED.into(), text).await.map_err(|e| chain(&e))?;
        Ok(format!("{count} paused of {} lanes", self.lanes.len()))
    }

    /// A pause outlives the process.
    pub(super) async fn read_pauses(&mut self) -> Result<(), Error> {
        let text = self.setup.ledger.meta(PAUSED.into()).await?.unwrap_or_default();
        for account in text.split_whitespace().filter_map(|a| a.parse::<Address>().ok()) {
            if let Some(lane) = self.lanes.get_mut(&account) {
                lane.paused = true;
            }
        }
        Ok(())
    }
}
