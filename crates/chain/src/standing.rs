//! Where the chain side stands, for readiness, `windlass lanes` and the HTTP API.

use alloy::primitives::{Address, B256, U256};
use windlass_reading::{DeviceId, Settlement};

/// The chain side's present state.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Newest followed block.
    pub head: Option<u64>,
    /// The contract that is settled on.
    pub contract: Option<Address>,
    /// Why nothing (or not everything) settles; empty when all is well.
    pub problems: Vec<Problem>,
    /// One for each account.
    pub lanes: Vec<LaneStanding>,
    /// How many rounds the worker has done; 0: it has not looked yet.
    pub rounds: u64,
    /// No transaction is open.
    pub idle: bool,
    /// Nothing new is taken; what is open is finished.
    pub draining: bool,
}

/// Something that keeps readings from settling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `no_node`, `wrong_chain`, `contract_missing`, `contract_foreign`, `not_submitter`, `account_empty`,
    /// `account_low`, `paused`, `lane` or `chain`.
    pub code: &'static str,
    /// In words, for the operator.
    pub detail: String,
}

impl Problem {
    /// Whether nothing may be signed or sent while it lasts.
    pub fn stops_everything(&self) -> bool {
        matches!(self.code, "wrong_chain" | "contract_missing" | "contract_foreign" | "not_submitter")
    }
}

/// One account's present state.
#[derive(Debug, Clone)]
pub struct LaneStanding {
    /// The account.
    pub account: Address,
    /// Whose account it is, for direct settlement.
    pub device: Option<DeviceId>,
    /// The nonce of its next transaction.
    pub next_nonce: u64,
    /// Transactions that are not final.
    pub open: usize,
    /// Transactions without inclusion.
    pub in_flight: usize,
    /// An operator wants nothing new from it.
    pub paused: bool,
    /// Its balance when it was last asked for.
    pub balance_wei: Option<U256>,
    /// Why it does not move.
    pub trouble: Option<String>,
}

/// A batch took a step.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The journal's batch id.
    pub batch: u64,
    /// By which way it settles.
    pub settlement: Settlement,
    /// Which step.
    pub stage: Stage,
    /// The included transaction.
    pub tx: B256,
    /// Its block.
    pub block_number: u64,
}

/// The steps of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Included in a canonical block.
    Mined,
    /// The inclusion can no longer change.
    Final,
    /// The block left the canonical chain.
    Unsettled,
}
