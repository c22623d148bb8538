//! `windlass log`: the append-only log, exported, checked, and proved between two batches.

use std::{fs, path::PathBuf};

use alloy::primitives::Address;
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use windlass_chain::Nodes;

use super::{FAILED, Journal, OK, WithJournal, archives, block_on, line};
use crate::{
    config::Config,
    deployment,
    log::{self, Anchor, Audited, Checked, Directory},
};

/// `windlass log …`.
#[derive(Debug, Subcommand)]
pub(super) enum Log {
    /// Write the log as tiles that anyone can serve and check, or add what is new since the last export.
    Export(Export),
    /// Show that each anchored log is the beginning of the next: nothing was changed, taken out or put in between. Exit 1
    /// with what differs.
    Verify(Verify),
    /// Check an export against the chain, without the journal and without a config: what anybody can do. Exit 1 with what
    /// differs.
    Audit(Audit),
    /// The proof that the log of one batch is the beginning of that of a later one, as JSON.
    Consistency(Consistency),
}

/// Whose log.
#[derive(Debug, Args)]
struct WithLog {
    #[command(flatten)]
    config: WithJournal,
    /// An archive that has readings which left the journal; may be repeated.
    #[arg(long, value_name = "FILE")]
    archive: Vec<PathBuf>,
}

/// What the log is read from.
struct Sources {
    config: Config,
    journal: Journal,
    archives: archives::Opened,
    contract: Address,
}

impl WithLog {
    fn open(&self) -> anyhow::Result<Sources> {
        let config = self.config.load()?;
        let contract = deployment::contract(&config)
            .context("no contract address: run `windlass deploy`, or set chain.contract")?;
        Ok(Sources { journal: self.config.open()?, archives: archives::open(&self.archive)?, config, contract })
    }
}

impl Sources {
    async fn log(&self) -> anyhow::Result<log::Log<'_>> {
        let id = (self.config.chain.chain_id, self.contract);
        log::Log::open(&self.journal, &self.archives.journals, id).await
    }
}

impl Log {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        match self {
            Self::Export(options) => options.run(),
            Self::Verify(options) => options.run(),
            Self::Audit(options) => options.run(),
            Self::Consistency(options) => options.run(),
        }
    }
}

/// `windlass log export DIR`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// Where the tiles go: empty, or of an earlier export.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: WithLog,
}

impl Export {
    fn run(&self) -> anyhow::Result<u8> {
        let sources = self.log.open()?;
        let directory = Directory::new(&self.directory);
        let done = block_on(async { log::export(&sources.log().await?, &directory).await })?;
        let log::Exported { before, size, root, files } = done;
        if self.json {
            line(&json!({ "before": before, "size": size, "root": root, "files": files }).to_string())?;
        } else if files == 0 {
            line(&format!("{}: {size} readings, nothing new is final", self.directory.display()))?;
        } else {
            let added = size - before;
            line(&format!("{}: {size} readings, {added} of them new, in {files} new files", self.directory.display()))?;
            line(&format!("root {root}, as anchored"))?;
        }
        Ok(OK)
    }
}

/// `windlass log verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Take the anchors from this node; `config`: from the config's nodes. Without it: from the journal.
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// Only anchors of at least so many readings; what is before is taken from the journal's frontier.
    #[arg(long, value_name = "SIZE", conflicts_with = "all")]
    from: Option<u64>,
    /// All anchors (the default).
    #[arg(long)]
    all: bool,
    /// Make the consistency proofs from an export, as somebody without the journal would.
    #[arg(long, value_name = "DIR")]
    tiles: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: WithLog,
}

impl Verify {
    /// Exit code 1 when something differs.
    fn run(&self) -> anyhow::Result<u8> {
        let sources = self.log.open()?;
        let tiles = self.tiles.as_deref().map(Directory::new);
        let (anchors, checked) = block_on(async {
            let log = sources.log().await?;
            let anchors = match &self.rpc {
                None => log::of_journal(&log).await?.into_iter().filter(|a| a.tx.is_some()).collect(),
                Some(url) => {
                    let mut chain = sources.config.chain.clone();
                    if url != "config" {
                        chain.rpc = vec![url.clone()];
                    }
                    log::of_chain(&log, &Nodes::new(&chain)?).await?
                }
            };
            let mut checked = log::check(&log, &anchors, self.from.unwrap_or(0), tiles.as_ref()).await?;
            checked.faults.extend(log::orders(&anchors));
            Ok((anchors, checked))
        })?;
        if self.json {
            line(&self.as_json(&anchors, &checked).to_string())?
        } else {
            self.print(&anchors, &checked)?
        }
        Ok(if checked.faults.is_empty() { OK } else { FAILED })
    }

    fn source(&self) -> &'static str {
        if self.rpc.is_some() { "the node's events" } else { "the journal" }
    }

    fn as_json(&self, anchors: &[Anchor], checked: &Checked) -> serde_json::Value {
        json!({
            "anchors": anchors.len(),
            "anchors_from": if self.rpc.is_some() { "node" } else { "journal" },
            "consistency_proofs": checked.pairs,
            "readings": checked.readings,
            "missing": checked.missing,
            "size": checked.size,
            "faults": checked.faults,
        })
    }

    fn print(&self, anchors: &[Anchor], checked: &Checked) -> anyhow::Result<()> {
        let Checked { pairs, readings, missing, archives, size, faults } = checked;
        line(&format!(
            "{} anchors with a log, from {}; the longest has {size} readings",
            anchors.len(),
            self.source()
        ))?;
        line(&format!("{readings} readings were hashed again and compared with the anchored roots"))?;
        let from = if self.tiles.is_some() { "the tiles" } else { "the readings" };
        line(&format!(
            "{pairs} times the next log was shown to begin with the last one, by a consistency proof from {from}"
        ))?;
        if *missing > 0 {
            let named = if archives.is_empty() { String::new() } else { format!(" ({})", archives.join(", ")) };
            line(&format!(
                "{missing} readings are not at hand and were not checked: name their archives with --archive{named}"
            ))?;
        }
        for fault in faults {
            line(&format!("FAULT: {fault}"))?;
        }
        if !faults.is_empty() {
            return line("history is not what was anchored");
        }
        let trust = if self.rpc.is_some() {
            "the node's word for the events"
        } else {
            "the journal's word: ask a node with --rpc"
        };
        line(&format!("history was only ever appended to; trusted for it: {trust}"))
    }
}

/// `windlass log audit DIR`.
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// An export.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A node that you trust to know the canonical chain.
    #[arg(long, value_name = "URL")]
    rpc: String,
    /// The Windlass contract [default: the one that the checkpoint names].
    #[arg(long, value_name = "ADDRESS")]
    contract: Option<Address>,
    /// An account of the gateway; may be repeated [default: those that the checkpoint names].
    #[arg(long, value_name = "ADDRESS")]
    submitter: Vec<Address>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl Audit {
    /// Exit code 1 when something differs.
    fn run(&self) -> anyhow::Result<u8> {
        let directory = Directory::new(&self.directory);
        let chain = windlass_chain::Config { rpc: vec![self.rpc.clone()], ..windlass_chain::Config::default() };
        let nodes = Nodes::new(&chain)?;
        let audited = block_on(log::audit(&directory, &nodes, self.contract, &self.submitter))?;
        if self.json {
            line(&as_json(&audited).to_string())?
        } else {
            self.print(&audited)?
        }
        Ok(if audited.faults.is_empty() { OK } else { FAILED })
    }

    fn print(&self, audited: &Audited) -> anyhow::Result<()> {
        let Audited { checkpoint, chain_id, contract, submitters, anchors, later, pairs, faults } = audited;
        line(&format!("{} entries were hashed; the checkpoint has root {}", checkpoint.size, checkpoint.root))?;
        line(&format!("{anchors} anchors on chain {chain_id} were compared with the tiles"))?;
        line(&format!("{pairs} times the next log was shown to begin with the last one, by a consistency proof"))?;
        if *later > 0 {
            line(&format!("{later} anchors are of a longer log than this export: export again to check them"))?;
        }
        for fault in faults {
            line(&format!("FAULT: {fault}"))?;
        }
        if !faults.is_empty() {
            return line("history is not what was anchored");
        }
        let who: Vec<_> = submitters.iter().map(ToString::to_string).collect();
        let by = if self.submitter.is_empty() { " (the checkpoint's word)" } else { "" };
        let at = if self.contract.is_none() { " (the checkpoint's word)" } else { "" };
        line("history was only ever appended to; trusted for it: the node's word for the events,")?;
        line(&format!("that {contract} is the contract{at}, that the gateway's accounts are {}{by}", who.join(", ")))
    }
}

fn as_json(audited: &Audited) -> serde_json::Value {
    json!({
        "origin": audited.checkpoint.origin,
        "size": audited.checkpoint.size,
        "root": audited.checkpoint.root,
        "chain_id": audited.chain_id,
        "contract": audited.contract,
        "submitters": audited.submitters,
        "anchors": audited.anchors,
        "later": audited.later,
        "consistency_proofs": audited.pairs,
        "faults": audited.faults,
    })
}

/// `windlass log consistency A B`.
#[derive(Debug, Args)]
pub(super) struct Consistency {
    /// The older batch, as `windlass batches` lists it.
    first: u64,
    /// The newer one.
    second: u64,
    /// Where to write it [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    log: WithLog,
}

impl Consistency {
    fn run(&self) -> anyhow::Result<u8> {
        let sources = self.log.open()?;
        let proof = block_on(async { sources.log().await?.consistency(self.first, self.second).await })?;
        let text = serde_json::to_string_pretty(&proof)?;
        match &self.output {
            None => line(&text)?,
            Some(path) => fs::write(path, text + "\n").with_context(|| path.display().to_string())?,
        }
        Ok(OK)
    }
}
