//! What an operator does to a running gateway: `lanes`, `acts`, `resend`, `bump`, `cancel`, `pause`, `resume`, `drain`.

use std::{path::Path, time::Duration};

use alloy::primitives::{Address, B256};
use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use windlass_chain::Order;
use windlass_journal::Listing;

use super::{FAILED, OK, WithConfig, block_on, line, list::Rows};
use crate::{
    app::admin::{self, Question, Reply},
    rows,
};

/// Between two looks at a gateway that drains.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A command on one transaction.
#[derive(Debug, Args)]
pub(super) struct OfTransaction {
    /// The hash of any attempt of an open transaction.
    #[arg(value_name = "TX")]
    tx: B256,
    #[command(flatten)]
    config: WithConfig,
}

/// A command on one account, or on every submitter.
#[derive(Debug, Args)]
pub(super) struct OfAccount {
    /// Only this account; without it every submitter.
    #[arg(value_name = "ACCOUNT")]
    account: Option<Address>,
    #[command(flatten)]
    config: WithConfig,
}

/// `windlass drain`.
#[derive(Debug, Args)]
pub(super) struct Drain {
    /// Do not wait until nothing is open.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    config: WithConfig,
}

impl OfTransaction {
    pub(super) fn run(&self, order: fn(B256) -> Order) -> anyhow::Result<u8> {
        carry_out(&self.config, order(self.tx))
    }
}

impl OfAccount {
    pub(super) fn run(&self, order: fn(Option<Address>) -> Order) -> anyhow::Result<u8> {
        carry_out(&self.config, order(self.account))
    }
}

impl Drain {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let code = carry_out(&self.config, Order::Drain)?;
        if self.no_wait || code != OK {
            return Ok(code);
        }
        let directory = self.config.load()?.data_dir();
        block_on(async {
            loop {
                match admin::ask(&directory, &Question::Lanes).await?.with_context(|| nobody(&directory))? {
                    Reply::Lanes { idle: true, .. } => break,
                    Reply::Lanes { .. } => tokio::time::sleep(LOOK_INTERVAL).await,
                    other => bail!("the gateway says {other:?}"),
                }
            }
            line("drained: nothing is open; the gateway may be stopped")?;
            Ok(OK)
        })
    }
}

pub(super) fn nobody(directory: &Path) -> String {
    format!("no gateway runs on {}", directory.display())
}

fn carry_out(config: &WithConfig, order: Order) -> anyhow::Result<u8> {
    let directory = config.load()?.data_dir();
    block_on(async {
        match admin::ask(&directory, &Question::Do(order)).await?.with_context(|| nobody(&directory))? {
            Reply::Done(text) => {
                line(&format!("done: {text}"))?;
                Ok(OK)
            }
            Reply::Refused(text) => {
                line(&format!("refused: {text}"))?;
                Ok(FAILED)
            }
            Reply::Lanes { .. } => bail!("the gateway answers another question"),
        }
    })
}

/// `windlass lanes`: as the running gateway sees them; without one, as the journal left them.
pub(super) fn lanes(options: &Rows) -> anyhow::Result<u8> {
    let directory = options.data_dir()?;
    let rows: Vec<Value> = block_on(async {
        Ok(match admin::ask(&directory, &Question::Lanes).await? {
            Some(Reply::Lanes { lanes, .. }) => lanes,
            Some(other) => bail!("the gateway says {other:?}"),
            None => options.journal()?.lanes().await?.iter().map(rows::lane_of_journal).map(rows::json).collect(),
        })
    })?;
    let limit = options.limit().unwrap_or(rows.len());
    let columns = ["account", "device", "next_nonce", "open", "in_flight", "paused", "balance_wei", "trouble"];
    options.print(&columns, rows.get(..limit.min(rows.len())).unwrap_or_default())
}

/// `windlass acts`.
pub(super) fn acts(options: &Rows) -> anyhow::Result<u8> {
    let journal = options.journal()?;
    let acts = block_on(async { Ok(journal.acts(options.filter()).await?) })?;
    let rows: Vec<Value> = acts.iter().map(rows::act).collect();
    options.print(&["id", "at", "act", "subject", "outcome"], &rows)
}
