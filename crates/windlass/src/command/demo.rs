//! `windlass demo`: everything at once, on this machine, ending with a verified proof.

mod audit;
mod node;
mod scene;
mod table;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use tokio::sync::watch;
use windlass_journal::Listing;
use windlass_proof::verify;
use windlass_reading::Settlement;
use windlass_scanner::{Load, Progress, Report};

use self::{audit::Audit, node::Anvil, scene::Scene, table::Table};
use super::{FAILED, OK, deploy, run::in_system};
use crate::{
    app::{App, install_metrics},
    config::Config,
    deployment,
    prove::Prover,
};

/// Longest wait for registrations and device contracts before the scanners start.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest wait for the last reading to become final.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(120);

/// `windlass demo`.
#[derive(Debug, Args)]
#[command(after_help = "Needs anvil: on PATH, in contracts/node_modules (make tools), or named by WINDLASS_ANVIL.\n\
    Exit code 0 only if every acknowledged reading is final and the proof verified.")]
pub(super) struct Options {
    /// How many scanners.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    devices: u32,
    /// Readings a second of each scanner.
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// How long they publish.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How the readings are settled.
    #[arg(long, default_value = "anchor")]
    settlement: Settlement,
    /// Seconds between blocks.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    block_time: u64,
    /// Keep journal, config and keys here instead of in a directory that is removed at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the proof is written.
    #[arg(long, value_name = "FILE", default_value = "demo.windlass.json")]
    proof: PathBuf,
    /// The summary as one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> anyhow::Result<u8> {
    let problems = Load { rate_hz: options.rate, ..Load::new("127.0.0.1:1", Vec::new()) }.validate();
    if let Some(problem) = problems.iter().find(|p| p.contains("rate")) {
        bail!("--rate: {problem}");
    }
    let temporary = match &options.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("windlass-demo-").tempdir()?),
    };
    let directory = match (&options.data_dir, &temporary) {
        (Some(directory), _) => directory.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => bail!("no directory"),
    };
    in_system(perform(options, directory))
}

async fn perform(options: &Options, directory: PathBuf) -> anyhow::Result<u8> {
    let say = |text: String| eprintln!("{text}");
    let anvil = Anvil::start(options.block_time, options.devices).await?;
    say(format!("node       anvil at {}, a block every {} s", anvil.url(), options.block_time));
    let scene = Scene::write(&directory, &anvil, options.devices, options.settlement)?;
    let config = Config::load(&scene.config_file)?;
    let deployed = deploy::deploy(&config).await?;
    say(format!("contract   Windlass at {} (block {})", deployed.address, deployed.block));
    let app = App::build(&config, install_metrics()?).await?;
    let broker = *app.broker_addresses().first().context("no listener")?;
    say(format!("broker     mqtt://{broker}, {} devices, settlement {}", options.devices, options.settlement));
    say(format!("metrics    http://{}/metrics", app.http_address()));
    prepare(&app, options).await?;
    say("chain      every device is registered".into());

    let progress = Arc::new(Progress::new());
    let (keep, stop) = watch::channel(false);
    let load = Load {
        rate_hz: options.rate,
        duration: Duration::from_secs(options.seconds),
        ..Load::new(broker.to_string(), scene.scanners)
    };
    let started = Instant::now();
    let scanners = tokio::spawn(windlass_scanner::run(load, progress.clone(), stop));
    let mut table = Table::new(app.journal().clone(), progress);
    let report = table.follow(scanners).await?.context("the load is not valid")?;
    drop(keep);
    settle(&app, &mut table).await?;
    let took = started.elapsed();

    let audit = Audit::make(&app, &config, &report, options.settlement).await?;
    let proof = prove(&app, &config, options).await;
    let good = audit.is_clean() && report.all_acknowledged() && proof.is_ok();
    summary(options, &report, &audit, &proof, took, good)?;
    app.stop().await;
    drop(anvil);
    Ok(if good { OK } else { FAILED })
}

/// Waits until registrations (and device contracts) are on chain, so that the figures show settling alone.
async fn prepare(app: &App, options: &Options) -> anyhow::Result<()> {
    use windlass_journal::Ledger;
    let deadline = Instant::now() + PREPARE_TIMEOUT;
    loop {
        let devices = app.journal().devices().await?;
        let ready = devices
            .iter()
            .filter(|d| d.is_registered() && (options.settlement != Settlement::Direct || d.barcode.is_some()))
            .count();
        if ready == devices.len() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let problems: Vec<_> = app.standing().problems.into_iter().map(|p| p.detail).collect();
            bail!("{ready} of {} devices are ready on chain: {}", devices.len(), problems.join("; "));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until every accepted reading is final.
async fn settle(app: &App, table: &mut Table) -> anyhow::Result<()> {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let totals = app.journal().totals().await?;
        if totals.finalized == totals.accepted || Instant::now() > deadline {
            table.print().await?;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        table.print().await?;
    }
}

/// Proves the newest final reading and verifies the file against the block hash that the node gives.
async fn prove(app: &App, config: &Config, options: &Options) -> anyhow::Result<Vec<String>> {
    let readings = app.journal().readings(windlass_journal::Filter::default()).await?;
    let row =
        readings.iter().rev().find(|r| r.state == windlass_journal::State::Final).context("no reading is final")?;
    let prover = Prover {
        journal: app.journal(),
        nodes: Some(app.nodes()),
        chain_id: config.chain.chain_id,
        contract: deployment::contract(config),
    };
    let file = prover.prove(&row.reading.device, row.reading.sequence).await?.context("the reading vanished")?;
    std::fs::write(&options.proof, file.to_json()?).with_context(|| options.proof.display().to_string())?;
    let (number, hash) = row.block.context("a final reading has a block")?;
    let at = alloy::eips::BlockNumberOrTag::Number(number);
    let trusted = app.nodes().block_at(at).await?.map(|b| b.hash).unwrap_or(hash);
    let bytes = std::fs::read(&options.proof)?;
    let verified = verify(&bytes, Some(trusted))?;
    let mut lines = vec![format!(
        "{}: reading {} of {} in block {number}, {} bytes",
        options.proof.display(),
        row.reading.sequence,
        row.reading.device,
        bytes.len()
    )];
    lines.extend(verified.checked);
    Ok(lines)
}

fn summary(
    options: &Options,
    report: &Report,
    audit: &Audit,
    proof: &anyhow::Result<Vec<String>>,
    took: Duration,
    good: bool,
) -> anyhow::Result<()> {
    let latency = report.totals.latency.as_ref();
    if options.json {
        let value = serde_json::json!({
            "ok": good,
            "devices": options.devices,
            "rate": options.rate,
            "seconds": options.seconds,
            "settlement": options.settlement.as_str(),
            "block_time": options.block_time,
            "published": report.totals.published,
            "acknowledged": report.totals.acknowledged,
            "accepted": audit.totals.accepted,
            "final": audit.totals.finalized,
            "on_chain": audit.on_chain,
            "lost": audit.lost,
            "doubled": audit.doubled,
            "readings_per_second": report.totals.acknowledged as f64 / options.seconds as f64,
            "ack_ms": latency.map(|l| serde_json::json!({ "p50": l.p50_ms, "p99": l.p99_ms, "max": l.max_ms })),
            "mined_ms": audit.mined.as_json(),
            "final_ms": audit.finalized.as_json(),
            "gas_per_reading": audit.gas_per_reading(),
            "proof_verified": proof.is_ok(),
            "took_seconds": took.as_secs_f64(),
        });
        return super::line(&value.to_string());
    }
    super::line("")?;
    super::line(&format!("published        {:>10}", report.totals.published))?;
    super::line(&format!("acknowledged     {:>10}   each after its fsync", report.totals.acknowledged))?;
    super::line(&format!(
        "final            {:>10}   lost {}, doubled {}",
        audit.totals.finalized, audit.lost, audit.doubled
    ))?;
    super::line(&format!("on chain         {:>10}   counted from the chain itself", audit.on_chain))?;
    if let Some(l) = latency {
        super::line(&format!("ack              p50 {:.1} ms   p99 {:.1} ms", l.p50_ms, l.p99_ms))?;
    }
    super::line(&format!("publish to mined {}", audit.mined))?;
    super::line(&format!("publish to final {}", audit.finalized))?;
    super::line(&format!("gas per reading  {:.1}", audit.gas_per_reading()))?;
    match proof {
        Ok(lines) => {
            for (i, text) in lines.iter().enumerate() {
                super::line(&format!(
                    "{}{text}",
                    if i == 0 { "proof            VERIFIED " } else { "                 " }
                ))?;
            }
        }
        Err(error) => super::line(&format!("proof            FAILED {error:#}"))?,
    }
    for problem in &audit.problems {
        super::line(&format!("problem          {problem}"))?;
    }
    super::line(if good { "all good" } else { "NOT GOOD" })
}
