//! The ledger of what was acknowledged, held against what the gateway tells and what the chain holds.

mod api;
mod chain;
mod direct;
mod ledger;
mod node;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;
use windlass_scanner::Entry;

pub(crate) use self::ledger::{Writer, read_ledger};
use self::{
    api::{Api, Row, Status, Window},
    chain::{Expected, Found},
    ledger::{Account, accounts},
    node::Node,
};

/// After the last acknowledgement: what was stored a second time may have come so late.
const AFTER_MS: u64 = 10_000;
/// Clocks are read to the second, and a reading's time is taken a moment after it.
const CLOCK_MS: u64 = 2_000;
/// Between two questions whether all is final.
const POLL: Duration = Duration::from_secs(1);
/// Problems that are told word for word.
const TOLD: usize = 20;

/// Whom to ask.
#[derive(Debug)]
pub(crate) struct Witnesses {
    /// The gateway's HTTP address.
    pub(crate) api: String,
    pub(crate) token: Option<String>,
    /// A node, when the chain is to be asked as well.
    pub(crate) rpc: Option<String>,
    /// In place of the contract that the gateway names.
    pub(crate) contract: Option<Address>,
    /// How long to wait until all is final.
    pub(crate) wait: Duration,
}

/// What came out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Audit {
    /// Readings in the ledger.
    acknowledged: u64,
    /// Readings of the ledger that the gateway has as final, with the copies that it may have.
    stored: u64,
    /// Acknowledged, and not final at the gateway.
    lost: u64,
    /// At the gateway more often than acknowledged; what was sent anew after a lost session does not count.
    doubled: u64,
    /// Numbers that are missing in a device's sequence.
    holes: u64,
    /// Readings that a node's word puts on chain, each once: the ledger's, and what went with them.
    on_chain: Option<u64>,
    /// Those of `stored` among them.
    confirmed: Option<u64>,
    /// Those of `stored` whose batch cannot be hashed anew, because readings of it have left for an archive.
    unchecked: u64,
    /// The first of what is wrong, in words.
    problems: Vec<String>,
}

/// What an audit comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All who were asked tell one story.
    Clean,
    /// They do not.
    Disagree,
    /// Nothing was acknowledged, so nothing was asked.
    NothingToAudit,
}

/// To whom a row of the gateway's belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The ledger has it.
    Ledger,
    /// A device's of the ledger, which does not have it: its acknowledgement never came.
    Device,
    /// Another device's.
    Another,
}

/// Waits until all is final, then compares.
pub(crate) async fn audit(ledger: &[Entry], witnesses: &Witnesses) -> Result<Audit> {
    let mut audit = Audit { acknowledged: ledger.len() as u64, ..Audit::default() };
    let times =
        ledger.iter().map(|entry| entry.read_at).min().zip(ledger.iter().map(|entry| entry.acknowledged_at).max());
    let Some((first, last)) = times else {
        audit.tell("nothing was acknowledged".to_owned());
        return Ok(audit);
    };
    let api = Api::new(&witnesses.api, witnesses.token.clone())?;
    let (status, ahead) = api.status().await?;
    // By how much this machine's clock may be ahead of the gateway's, and how much behind.
    let ahead_ms = CLOCK_MS + u64::try_from(ahead).unwrap_or(0);
    let behind_ms = CLOCK_MS + u64::try_from(-ahead).unwrap_or(0);
    let window = Window { since: first.saturating_sub(ahead_ms), until: last + behind_ms + AFTER_MS };
    let mut accounts = accounts(ledger);
    until_final(&api, window, &accounts, witnesses.wait).await?;

    let mut asked = match &witnesses.rpc {
        None => None,
        Some(url) => Some(ask_chain(url, witnesses.contract, &status, window, &accounts).await?),
    };
    let mut trouble = None;
    api.readings(window, |row| {
        let whose = audit.take(&row, &mut accounts, ahead_ms);
        if let Some((expected, _)) = &mut asked
            && let Err(error) = expected.add(&row, whose)
        {
            trouble.get_or_insert(error);
        }
    })
    .await?;
    if let Some(error) = trouble {
        return Err(error);
    }
    audit.close(accounts);
    if let Some((expected, node)) = asked {
        audit.hear(expected.look_up(&api, &node).await?);
    }
    Ok(audit)
}

async fn until_final(api: &Api, window: Window, accounts: &BTreeMap<String, Account>, wait: Duration) -> Result<()> {
    let begun = Instant::now();
    let own = |device: &str| accounts.contains_key(device);
    while api.any("accepted", window, own).await? || api.any("mined", window, own).await? {
        ensure!(begun.elapsed() < wait, "not all readings are final after {} s", wait.as_secs());
        sleep(POLL).await;
    }
    Ok(())
}

/// The node, and what is to be asked of it.
async fn ask_chain(
    url: &str,
    contract: Option<Address>,
    status: &Status,
    window: Window,
    accounts: &BTreeMap<String, Account>,
) -> Result<(Expected, Node)> {
    let node = Node::new(url)?;
    node.check_chain(status.chain_id).await?;
    let told = status.contract.as_deref().map(str::parse).transpose().context("no address")?;
    let contract = contract.or(told).context("the gateway knows of no contract")?;
    Ok((Expected::new(status.chain_id, contract, window, accounts.keys().cloned().collect()), node))
}

impl Audit {
    /// Whether ledger, gateway and, where it was asked, chain tell one story.
    pub(crate) fn verdict(&self) -> Verdict {
        let all_confirmed = self.confirmed.is_none_or(|confirmed| confirmed + self.unchecked == self.stored);
        if self.acknowledged == 0 {
            Verdict::NothingToAudit
        } else if self.lost + self.doubled + self.holes == 0 && self.problems.is_empty() && all_confirmed {
            Verdict::Clean
        } else {
            Verdict::Disagree
        }
    }

    /// One row; this machine's clock may be so much ahead of the gateway's.
    fn take(&mut self, row: &Row, accounts: &mut BTreeMap<String, Account>, ahead_ms: u64) -> Whose {
        let Some(account) = accounts.get_mut(&row.device) else { return Whose::Another };
        if let Some(last) = account.last_sequence.replace(row.sequence)
            && row.sequence != last + 1
        {
            self.holes += row.sequence.saturating_sub(last + 1).max(1);
            self.tell(format!("{} of {} follows {last}", row.sequence, row.device));
        }
        if row.state != "final" {
            return Whose::Device;
        }
        let Some(claim) = account.claim(row, ahead_ms) else { return Whose::Device };
        self.stored += 1;
        if !claim.found(row.received_at) {
            self.doubled += 1;
            self.tell(format!("{} of {} is there too often", row.payload, row.device));
        }
        Whose::Ledger
    }

    /// What is left in the accounts is lost.
    fn close(&mut self, accounts: BTreeMap<String, Account>) {
        for (device, account) in accounts {
            for (code, times) in account.missing() {
                self.lost += times;
                self.tell(format!("{code} of {device} was acknowledged and is not final"));
            }
        }
    }

    /// What the chain said.
    fn hear(&mut self, found: Found) {
        self.on_chain = Some(found.on_chain);
        self.confirmed = Some(found.confirmed);
        self.unchecked = found.unchecked;
        found.problems.into_iter().for_each(|problem| self.tell(problem));
        let short = self.stored.saturating_sub(found.confirmed + found.unchecked);
        if short > 0 {
            self.tell(format!("{short} readings of the ledger are at the gateway and were not found on chain"));
        }
    }

    fn tell(&mut self, problem: String) {
        if self.problems.len() < TOLD {
            self.problems.push(problem);
        }
    }

    /// The result as an object.
    pub(crate) fn as_json(&self) -> Value {
        let mut told = json!(self);
        if let Some(object) = told.as_object_mut() {
            object.insert("verdict".to_owned(), json!(self.verdict()));
        }
        told
    }

    /// The result in words.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::new();
        let on_chain = match (self.confirmed, self.on_chain) {
            (Some(confirmed), Some(all)) => {
                let others = all.saturating_sub(confirmed);
                let archived = match self.unchecked {
                    0 => String::new(),
                    count => format!("; {count} not checked, their batches are partly in an archive"),
                };
                format!("{confirmed} of the ledger, {others} that went with them{archived}")
            }
            _ => "not asked".to_owned(),
        };
        for (name, value) in [
            ("in the ledger", self.acknowledged.to_string()),
            ("at the gateway", self.stored.to_string()),
            ("on chain", on_chain),
            ("lost", self.lost.to_string()),
            ("doubled", self.doubled.to_string()),
            ("holes", self.holes.to_string()),
        ] {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<19}{value}");
        }
        for problem in &self.problems {
            let _ = writeln!(text, "  {problem}");
        }
        if self.problems.len() == TOLD {
            let _ = writeln!(text, "  and perhaps more");
        }
        let verdict = match self.verdict() {
            Verdict::NothingToAudit => "nothing to audit",
            Verdict::Disagree => "THEY DO NOT AGREE",
            Verdict::Clean if self.confirmed.is_none() => "ledger and gateway agree; the chain was not asked",
            Verdict::Clean => "ledger, gateway and chain agree",
        };
        let _ = writeln!(text, "{:<19}{verdict}", "audit");
        text
    }
}

#[cfg(test)]
mod tests;
