//! The chain side's one thread of thought: each tick it follows the chain, settles what is included, sends again
//! what is not, and takes new work from the journal. Recovery after a crash is the same tick on loaded state.

mod deploy;
mod duties;
mod follow;
mod log;
mod operate;
mod record;
mod registry;
mod send;
mod settle;

pub use deploy::Deployment;
pub use operate::Order;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall,
};
use tokio::time::Instant;
use windlass_contract::Windlass;
use windlass_journal::{DeviceRow, Ledger, LogState, OpenTransaction};
use windlass_reading::{DeviceId, Domain};

use crate::{
    Config, Error, Limits, Settled, Signatory, Standing, SubmitterKey,
    fees::Fees,
    finality::{Follower, Unread},
    lane::{Lane, Open, Signer},
    metrics,
    node::Nodes,
    nonce,
    standing::{LaneStanding, Problem},
};

/// Where the settled facts go: receipts to devices.
pub type Observer = Box<dyn Fn(Settled) -> bool + Send>;
/// Finds the contract's address: the config's, or the deployment file's once it is there.
pub type ContractSource = Box<dyn Fn() -> Option<Address> + Send>;

/// What the worker is made of.
pub struct Setup {
    /// The `[chain]` table.
    pub config: Config,
    /// The `[settlement]` table.
    pub limits: Limits,
    /// The submitter accounts' keys, in the config's order.
    pub submitters: Vec<SubmitterKey>,
    /// The journal's chain side.
    pub ledger: Arc<dyn Ledger>,
    /// Device keys.
    pub signatory: Arc<dyn Signatory>,
    /// The contract's address.
    pub contract: ContractSource,
    /// Hears of every step of every batch; returns false when it dropped one.
    pub observer: Observer,
    /// What operators and readiness see.
    pub standing: Arc<std::sync::Mutex<Standing>>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("config", &self.config).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A contract that was checked on chain.
#[derive(Debug, Clone)]
struct Contract {
    address: Address,
    /// Chain id and address: what the journal knows it by.
    name: String,
    domain: Domain,
}

/// The chain side.
pub struct Worker {
    setup: Setup,
    nodes: Arc<Nodes>,
    /// Submitter accounts, in the config's order: the first is registrar and treasury.
    submitters: Vec<Address>,
    lanes: HashMap<Address, Lane>,
    /// Which open transaction an attempt's hash belongs to.
    pending: HashMap<B256, (Address, u64)>,
    follower: Follower,
    unread: Unread,
    devices: HashMap<DeviceId, DeviceRow>,
    /// Devices that wait before they are tried again: skipped runs, failed registrations.
    held_off: HashMap<DeviceId, HoldOff>,
    contract: Option<Contract>,
    /// Whether the chain verifies P-256 by itself, once that was asked.
    p256_precompile: Option<bool>,
    /// The append-only log after the newest anchor that this process wrote; `None`: the journal knows.
    log: Option<LogState>,
    fees: Option<Fees>,
    /// Of the next block, as far as is known.
    base_fee_wei: u64,
    checked: Option<Instant>,
    loaded: bool,
    /// Drain: finish what is open, take nothing new.
    draining: bool,
    last_spent: Option<(Instant, U256)>,
}

/// A device that must wait, and how long it will wait the next time.
#[derive(Debug, Clone, Copy)]
struct HoldOff {
    until: Instant,
    delay: Duration,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("lanes", &self.lanes.len())
            .field("pending", &self.pending.len())
            .field("contract", &self.contract)
            .finish_non_exhaustive()
    }
}

/// Chain id, contract code and roles are checked again after this.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

impl Worker {
    /// A worker that has asked nobody anything yet.
    ///
    /// # Errors
    /// [`Error::Url`] and [`Error::Client`] as [`Nodes::new`].
    pub fn new(setup: Setup) -> Result<Self, Error> {
        let nodes = Arc::new(Nodes::new(&setup.config)?);
        let submitters: Vec<_> = setup.submitters.iter().map(SubmitterKey::address).collect();
        let lanes = setup
            .submitters
            .iter()
            .map(|key| (key.address(), Lane::new(key.address(), Signer::Submitter(key.clone()))))
            .collect();
        Ok(Self {
            setup,
            nodes,
            submitters,
            lanes,
            pending: HashMap::new(),
            follower: Follower::default(),
            unread: Unread::default(),
            devices: HashMap::new(),
            held_off: HashMap::new(),
            contract: None,
            p256_precompile: None,
            log: None,
            fees: None,
            base_fee_wei: 0,
            checked: None,
            loaded: false,
            draining: false,
            last_spent: None,
        })
    }

    /// The nodes, for whoever needs to read the chain beside the worker.
    pub fn nodes(&self) -> Arc<Nodes> {
        self.nodes.clone()
    }

    /// Takes nothing new; what is open is still finished.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| lane.open.is_empty())
    }

    /// One round. Never fails: what goes wrong is in the standing, and is tried again at the next tick.
    pub async fn tick(&mut self) {
        let outcome = self.round().await;
        let mut problems = Vec::new();
        match outcome {
            Ok(found) => problems.extend(found),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "settling pauses");
                self.checked = None;
                let code = if matches!(error, Error::Node { .. }) { "no_node" } else { "chain" };
                problems.push(Problem { code, detail: chain(&error) });
            }
        }
        self.publish(problems);
    }

    async fn round(&mut self) -> Result<Vec<Problem>, Error> {
        let problems = self.check().await?;
        if problems.iter().any(Problem::stops_everything) {
            return Ok(problems);
        }
        if !self.loaded {
            self.load().await?;
        }
        self.follow().await?;
        if !self.draining {
            self.duties().await?;
            self.settle().await?;
        }
        self.resend().await?;
        Ok(problems)
    }

    /// Checks chain id, contract and roles: at start, after every fault, and now and then.
    async fn check(&mut self) -> Result<Vec<Problem>, Error> {
        if self.checked.is_some_and(|at| at.elapsed() < CHECK_INTERVAL) && self.contract.is_some() {
            return Ok(self.lane_problems());
        }
        let expected = self.setup.config.chain_id;
        let found = self.nodes.chain_id().await?;
        if found != expected {
            let detail = format!("the node is on chain {found}, the config says {expected}");
            return Ok(vec![Problem { code: "wrong_chain", detail }]);
        }
        let Some(address) = (self.setup.contract)() else {
            let detail = "no contract address: run `windlass deploy`, or set chain.contract".to_owned();
            return Ok(vec![Problem { code: "contract_missing", detail }]);
        };
        let code = self.nodes.code(address).await?;
        if code.is_empty() {
            let detail = format!("there is no contract at {address} on chain {expected}");
            return Ok(vec![Problem { code: "contract_missing", detail }]);
        }
        if !windlass_contract::is_windlass_code(&code) {
            let detail = format!("the code at {address} is not this version's Windlass contract");
            return Ok(vec![Problem { code: "contract_foreign", detail }]);
        }
        for account in self.submitters.clone() {
            let data = Windlass::isSubmitterCall { account }.abi_encode().into();
            let answer = self.nodes.call(address, data).await?;
            if U256::try_from_be_slice(&answer) != Some(U256::ONE) {
                let detail = format!("account {account} has no submitter role at {address}");
                return Ok(vec![Problem { code: "not_submitter", detail }]);
            }
        }
        self.adopt_contract(address).await?;
        self.checked = Some(Instant::now());
        Ok(self.lane_problems())
    }

    /// Takes the contract into use. Another one than last time knows nobody: devices are registered again.
    async fn adopt_contract(&mut self, address: Address) -> Result<(), Error> {
        if self.contract.as_ref().is_some_and(|c| c.address == address) {
            return Ok(());
        }
        let chain_id = self.setup.config.chain_id;
        let name = format!("{chain_id}:{address}");
        let ledger = &self.setup.ledger;
        let known = ledger.meta("contract".into()).await?;
        if known.as_deref() != Some(name.as_str()) {
            let all = ledger.devices().await?.into_iter().map(|d| (d.device, 0)).collect();
            ledger.set_registered(all).await?;
            ledger.set_meta("contract".into(), name.clone()).await?;
        }
        self.log = None;
        metrics::log(ledger.log(name.clone()).await?.map_or(0, |log| log.size));
        self.contract = Some(Contract { address, name, domain: Domain::new(chain_id, address) });
        tracing::info!(%address, chain_id, "settling on contract");
        Ok(())
    }

    /// Reads what the journal left open, and where the chain stands for each account. Runs once.
    pub(crate) async fn load(&mut self) -> Result<(), Error> {
        self.reload_devices().await?;
        let mut accounts: HashSet<Address> = self.submitters.iter().copied().collect();
        let open = self.setup.ledger.open_transactions().await?;
        accounts.extend(open.iter().map(|o| o.account));
        for account in accounts {
            self.load_lane(account).await?;
        }
        let resumed = open.len();
        for transaction in open {
            self.adopt_open(transaction);
        }
        if resumed > 0 {
            tracing::info!(transactions = resumed, "finishing what was open");
        }
        self.read_pauses().await?;
        self.recheck_open().await?;
        self.loaded = true;
        Ok(())
    }

    fn adopt_open(&mut self, transaction: OpenTransaction) {
        let Some(lane) = self.lanes.get_mut(&transaction.account) else { return };
        for attempt in &transaction.attempts {
            self.pending.insert(attempt.hash, (transaction.account, transaction.nonce));
        }
        let open = Open {
            id: transaction.id,
            kind: transaction.kind,
            batch: transaction.batch,
            readings: transaction.readings,
            received_at_ms: Vec::new(),
            attempts: transaction.attempts,
            inclusion: transaction.inclusion,
            created_at_ms: transaction.created_at_ms,
            attempted_at_block: self.follower.head().map_or(0, |h| h.number),
            sent: None,
            passed: false,
            underpriced: false,
        };
        lane.open.insert(transaction.nonce, open);
    }

    /// Makes sure that the account has a lane, with nonce and anchor head from journal and chain.
    pub(crate) async fn load_lane(&mut self, account: Address) -> Result<(), Error> {
        if !self.lanes.contains_key(&account) {
            let owner = self.devices.values().find(|d| d.address() == Some(account)).map(|d| d.device.clone());
            let Some(device) = owner else {
                tracing::error!(%account, "open transactions of an account that is no longer configured");
                return Ok(());
            };
            self.lanes.insert(account, Lane::new(account, Signer::Device(device)));
        }
        let known = self.setup.ledger.account(account).await?;
        let counts = self.nodes.nonces(account).await?;
        let Some(chain_next) = counts.settled(known.highest_nonce) else {
            return Err(Error::Disagree { account, low: counts.low, high: counts.high });
        };
        if let Some(lane) = self.lanes.get_mut(&account) {
            lane.next_nonce = nonce::next(known.highest_nonce, chain_next);
            if let Some(anchor) = known.anchor {
                lane.anchor = anchor;
            }
        }
        Ok(())
    }

    pub(crate) async fn reload_devices(&mut self) -> Result<(), Error> {
        let rows = self.setup.ledger.devices().await?;
        self.devices = rows.into_iter().map(|d| (d.device.clone(), d)).collect();
        Ok(())
    }

    fn lane_problems(&self) -> Vec<Problem> {
        self.submitters
            .iter()
            .filter_map(|account| self.lanes.get(account))
            .filter_map(|lane| {
                if lane.balance_wei == Some(U256::ZERO) {
                    let detail = format!("submitter {} has no ether", lane.account);
                    return Some(Problem { code: "account_empty", detail });
                }
                if let (false, Some(needs)) = (lane.is_solvent(), lane.needs_wei) {
                    let has = lane.balance_wei.unwrap_or_default();
                    let detail =
                        format!("submitter {} has {has} wei, its next transaction may cost {needs}", lane.account);
                    return Some(Problem { code: "account_low", detail });
                }
                if lane.paused {
                    let detail = format!("submitter {} is paused: windlass resume", lane.account);
                    return Some(Problem { code: "paused", detail });
                }
                let detail = lane.trouble.clone()?;
                Some(Problem { code: "lane", detail: format!("submitter {}: {detail}", lane.account) })
            })
            .collect()
    }

    /// Tells operators and readiness where things stand.
    fn publish(&self, problems: Vec<Problem>) {
        let now = now_ms();
        let oldest = self
            .lanes
            .values()
            .flat_map(|l| l.open.values())
            .filter(|o| o.inclusion.is_none())
            .map(|o| o.created_at_ms)
            .min();
        metrics::oldest_unconfirmed(Duration::from_millis(oldest.map_or(0, |at| now.saturating_sub(at))));
        metrics::fee_capped(self.lanes.values().filter(|l| l.fee_capped).count());
        let lanes = self
            .lanes
            .values()
            .map(|lane| LaneStanding {
                account: lane.account,
                device: match &lane.signer {
                    Signer::Device(id) => Some(id.clone()),
                    Signer::Submitter(_) => None,
                },
                next_nonce: lane.next_nonce,
                open: lane.open.len(),
                in_flight: lane.in_flight(),
                paused: lane.paused,
                balance_wei: lane.balance_wei,
                trouble: lane.trouble.clone(),
            })
            .collect();
        if let Ok(mut standing) = self.setup.standing.lock() {
            standing.head = self.follower.head().map(|h| h.number);
            standing.contract = self.contract.as_ref().map(|c| c.address);
            standing.problems = problems;
            standing.lanes = lanes;
            standing.rounds += 1;
            standing.idle = self.is_idle();
            standing.draining = self.draining;
        }
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
