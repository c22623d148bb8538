//! `windlass prove` and `windlass verify`.

use std::{fs, path::PathBuf, time::Duration};

use alloy::{eips::BlockNumberOrTag, primitives::B256, sol_types::SolEvent};
use anyhow::{Context, bail};
use clap::Args;
use windlass_chain::Nodes;
use windlass_contract::Windlass;
use windlass_proof::{ProofFile, Refusal, Trusted, Verified, verify_against};
use windlass_reading::{DeviceId, PublicKey};

use super::{FAILED, OK, PENDING, WithJournal, block_on, line};
use crate::{
    deployment,
    prove::{Prover, registration_filter},
};

/// `windlass prove DEVICE SEQUENCE`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  windlass prove dock-7 1\n  windlass prove dock-7 1 --wait -o parcel.windlass.json\n  \
    windlass prove dock-7 1 --journal backup.db      from a backup or an archive"
)]
pub(super) struct Prove {
    #[command(flatten)]
    config: WithJournal,
    /// Whose reading.
    device: DeviceId,
    /// Its number: 1, 2, 3 …
    sequence: u64,
    /// Where to write it [default: DEVICE-SEQUENCE.windlass.json].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also show where the contract registered the key that signed: a second block, in the same file.
    #[arg(long)]
    with_registration: bool,
    /// Wait until the reading is on chain.
    #[arg(long)]
    wait: bool,
}

/// Between two looks for a reading that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

impl Prove {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let config = self.config.load()?;
        let journal = self.config.open()?;
        let nodes = Nodes::new(&config.chain)?;
        let prover = Prover {
            journal: &journal,
            nodes: Some(&nodes),
            chain_id: config.chain.chain_id,
            contract: deployment::contract(&config),
        };
        let file = block_on(async {
            loop {
                let file = if self.with_registration {
                    prover.prove_with_registration(&self.device, self.sequence).await
                } else {
                    prover.prove(&self.device, self.sequence).await
                };
                match file {
                    Ok(Some(ProofFile::Pending(_))) if self.wait => tokio::time::sleep(LOOK_INTERVAL).await,
                    done => break done,
                }
            }
        })?;
        let Some(file) = file else { bail!("{} has no reading {}", self.device, self.sequence) };
        let path =
            self.output.clone().unwrap_or_else(|| format!("{}-{}.windlass.json", self.device, self.sequence).into());
        fs::write(&path, file.to_json()?).with_context(|| path.display().to_string())?;
        if matches!(file, ProofFile::Pending(_)) {
            line(&format!("{}: the reading is not on chain yet; run the same command again later", path.display()))?;
            return Ok(PENDING);
        }
        line(&path.display().to_string())?;
        Ok(OK)
    }
}

/// `windlass verify FILE`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a block hash the proof is only checked against itself. Get the hash of its block from a \
    source that you trust and give it with --block-hash; or name a node that you trust with --rpc.\n\nExamples:\n  \
    windlass verify dock-7-1.windlass.json --block-hash 0x75af…\n  \
    windlass verify dock-7-1.windlass.json --rpc https://node.example --json"
)]
pub(super) struct Verify {
    /// The proof file.
    file: PathBuf,
    /// The hash of the proof's block, from a source that you trust.
    #[arg(long, value_name = "HASH", conflicts_with = "rpc")]
    block_hash: Option<B256>,
    /// The hash of the block that registered the device's key, from a source that you trust.
    #[arg(long, value_name = "HASH", conflicts_with = "rpc")]
    registration_hash: Option<B256>,
    /// A node that you trust to know the canonical chain.
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// The result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// How a verification ended.
enum Verdict {
    /// The proof holds; with the node's words, if one was asked.
    Verified(Box<Verified>, Vec<String>),
    Pending,
    Refused {
        reason: &'static str,
        detail: String,
    },
}

impl Verify {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let verdict = self.verdict()?;
        if self.json {
            line(&as_json(&verdict).to_string())?;
        } else {
            self.print(&verdict)?;
        }
        Ok(match verdict {
            Verdict::Verified(..) => OK,
            Verdict::Pending => PENDING,
            Verdict::Refused { .. } => FAILED,
        })
    }

    fn verdict(&self) -> anyhow::Result<Verdict> {
        let bytes = fs::read(&self.file).with_context(|| self.file.display().to_string())?;
        let trusted = Trusted { block: self.block_hash, registration: self.registration_hash };
        let verified = match verify_against(&bytes, trusted) {
            Ok(verified) => verified,
            Err(Refusal::Pending) => return Ok(Verdict::Pending),
            Err(refusal) => return Ok(Verdict::Refused { reason: refusal.reason(), detail: refusal.to_string() }),
        };
        let Some(url) = &self.rpc else { return Ok(Verdict::Verified(Box::new(verified), Vec::new())) };
        Ok(match block_on(ask(url, &verified))? {
            Ok(words) => Verdict::Verified(Box::new(verified), words),
            Err(detail) => Verdict::Refused { reason: "node", detail },
        })
    }

    fn print(&self, verdict: &Verdict) -> anyhow::Result<()> {
        let file = self.file.display();
        let (verified, node) = match verdict {
            Verdict::Verified(verified, node) => (verified, node),
            Verdict::Pending => {
                return line(&format!("{file}: PENDING. The file says that the reading is not on chain yet."));
            }
            Verdict::Refused { detail, .. } => return line(&format!("{file}: REFUSED. {detail}")),
        };
        line(&format!("{file}: VERIFIED"))?;
        if let Some(reading) = &verified.reading {
            let payload = crate::rows::payload(&reading.payload);
            line(&format!("  reading   {} of {}: {payload}", reading.sequence, reading.device))?;
        }
        line(&format!("  block     {} {}", verified.block_number, verified.block_hash))?;
        for checked in verified.checked.iter().chain(node) {
            line(&format!("  checked   {checked}"))?;
        }
        for trust in trusts(verified, !node.is_empty()) {
            line(&format!("  you trust {trust}"))?;
        }
        Ok(())
    }
}

/// What is left to trust. A node that has the block answers for its hash, and for the registry that it was asked about.
fn trusts(verified: &Verified, asked_node: bool) -> Vec<&str> {
    let block = if asked_node {
        "the node that you asked, for which chain is canonical and for what the contract registered"
    } else {
        &verified.block_trust
    };
    let registry =
        format!("that {} is the device's registered key", verified.signer.map_or_else(String::new, |k| k.to_string()));
    let rest = verified.trusts.iter().filter(|trust| !(asked_node && **trust == registry));
    std::iter::once(block).chain(rest.map(String::as_str)).collect()
}

/// Whether the contract registered the key that signed a reading, for the reading's epoch. `None` where nothing was signed
/// that the registry has a say in.
async fn registered(nodes: &Nodes, verified: &Verified) -> anyhow::Result<Result<Option<String>, String>> {
    let (Some(reading), Some(signer)) = (&verified.reading, verified.signer) else { return Ok(Ok(None)) };
    let logs = nodes.logs(&registration_filter(verified.contract, reading)).await?;
    let event = logs.first().and_then(|log| Windlass::Registered::decode_log_data(&log.inner.data).ok());
    let (device, epoch, contract) = (&reading.device, reading.epoch, verified.contract);
    Ok(match event {
        Some(event) if PublicKey::from_bytes(&event.key) == Ok(signer) => {
            Ok(Some(format!("{contract} registered {signer} as the key of {device} for epoch {epoch}")))
        }
        Some(event) => Err(format!("{contract} registered another key of {device} for epoch {epoch}: {}", event.key)),
        None => Err(format!("{contract} registered no key of {device} for epoch {epoch}")),
    })
}

fn as_json(verdict: &Verdict) -> serde_json::Value {
    let (verified, node) = match verdict {
        Verdict::Verified(verified, node) => (verified, node),
        Verdict::Pending => return serde_json::json!({ "verified": false, "reason": "pending" }),
        Verdict::Refused { reason, detail } => {
            return serde_json::json!({ "verified": false, "reason": reason, "detail": detail });
        }
    };
    let checked: Vec<_> = verified.checked.iter().chain(node).collect();
    serde_json::json!({
        "verified": true,
        "settlement": verified.settlement.as_str(),
        "chain_id": verified.chain_id,
        "contract": verified.contract,
        "signer": verified.signer,
        "device": verified.reading.as_ref().map(|r| r.device.clone()),
        "sequence": verified.reading.as_ref().map(|r| r.sequence),
        "payload": verified.reading.as_ref().map(|r| crate::rows::payload(&r.payload)),
        "block": verified.block_number,
        "block_hash": verified.block_hash,
        "checked": checked,
        "trusts": trusts(verified, !node.is_empty()),
    })
}

/// Asks a node whether the proof's block is on its canonical chain, and whether the contract there registered the key that
/// signed.
async fn ask(url: &str, verified: &Verified) -> anyhow::Result<Result<Vec<String>, String>> {
    let config = windlass_chain::Config { rpc: vec![url.to_owned()], ..windlass_chain::Config::default() };
    let nodes = Nodes::new(&config)?;
    let chain_id = nodes.chain_id().await?;
    if let Some(expected) = verified.chain_id
        && expected != chain_id
    {
        return Ok(Err(format!("the proof is for chain {expected}, the node is on chain {chain_id}")));
    }
    let number = verified.block_number;
    let found = nodes.block_at(BlockNumberOrTag::Number(number)).await?;
    Ok(match found {
        Some(block) if block.hash == verified.block_hash => {
            let block = format!("the node has this block at height {number} of its canonical chain {chain_id}");
            registered(&nodes, verified).await?.map(|key| std::iter::once(block).chain(key).collect())
        }
        Some(block) => Err(format!("the node has another block at height {number}: {}", block.hash)),
        None => Err(format!("the node has no block {number}")),
    })
}
