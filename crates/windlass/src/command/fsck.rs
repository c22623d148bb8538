//! `windlass fsck`: does the journal hold together, and does the chain agree?

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use windlass_chain::Nodes;
use windlass_reading::Domain;

use super::{FAILED, OK, WithJournal, archives, block_on, line};
use crate::{deployment, fsck};

/// `windlass fsck`.
#[derive(Debug, Args)]
pub(super) struct Fsck {
    /// Compare with the chain through this node; `config`: through the config's nodes.
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    /// An archive that has readings which left the journal, for the append-only log; may be repeated.
    #[arg(long, value_name = "FILE")]
    archive: Vec<PathBuf>,
    #[command(flatten)]
    config: WithJournal,
}

impl Fsck {
    /// Exit code 1 when something is wrong.
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let config = self.config.load()?;
        let journal = self.config.open()?;
        let archives = archives::open(&self.archive)?;
        let contract = deployment::contract(&config);
        let chain_id = config.chain.chain_id;
        let report = block_on(async {
            let domain = contract.map(|address| Domain::new(chain_id, address));
            let mut report = fsck::journal(&journal, domain.as_ref()).await?;
            if let Some(contract) = contract {
                fsck::log(&journal, &archives.journals, (chain_id, contract), &mut report).await?;
            }
            if let Some(url) = &self.rpc {
                let mut chain = config.chain.clone();
                if url != "config" {
                    chain.rpc = vec![url.clone()];
                }
                let contract = contract.ok_or_else(|| anyhow::anyhow!("no contract address to compare with"))?;
                fsck::chain(&journal, &Nodes::new(&chain)?, (chain_id, contract), &mut report).await?;
            }
            Ok(report)
        })?;
        if self.json {
            let text = json!({
                "readings": report.readings,
                "batches": report.batches,
                "attempts": report.transactions,
                "on_chain": report.on_chain,
                "log": report.logged,
                "log_missing": report.log_missing,
                "faults": report.faults,
            });
            line(&text.to_string())?;
        } else {
            line(&format!(
                "{} readings, {} batches, {} signed attempts looked at; {} transactions compared with the chain",
                report.readings, report.batches, report.transactions, report.on_chain
            ))?;
            line(&format!("{} readings of the append-only log hashed again", report.logged))?;
            if report.log_missing > 0 {
                line(&format!("{} more are in archives: name them with --archive", report.log_missing))?;
            }
            for fault in &report.faults {
                line(&format!("FAULT: {fault}"))?;
            }
            line(if report.faults.is_empty() { "consistent" } else { "not consistent" })?;
        }
        Ok(if report.faults.is_empty() { OK } else { FAILED })
    }
}
