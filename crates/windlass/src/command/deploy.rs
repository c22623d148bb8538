//! `windlass deploy`: the Windlass contract, from the first submitter.

use std::sync::Arc;

use alloy::primitives::{B256, Signature};
use anyhow::Context;
use async_trait::async_trait;
use windlass_chain::{Deployment, Setup, Signatory, Worker};
use windlass_journal::Sqlite;
use windlass_reading::DeviceId;

use super::{OK, WithConfig, block_on, line};
use crate::{config::Config, deployment};

/// Deploying asks no device.
struct NoDevices;

#[async_trait]
impl Signatory for NoDevices {
    async fn sign(&self, device: &DeviceId, _: Option<u32>, _: B256) -> Result<Signature, String> {
        Err(format!("{device} does not sign while a contract is deployed"))
    }
}

pub(super) fn run(options: &WithConfig) -> anyhow::Result<u8> {
    let config = options.load()?;
    if let Some(known) = deployment::read(&config.deployment_file())?
        && known.chain_id == config.chain.chain_id
    {
        line(&format!("already deployed: {} on chain {}", known.address, known.chain_id))?;
        line(&format!("to deploy another, remove {}", config.deployment_file().display()))?;
        return Ok(OK);
    }
    let done = block_on(deploy(&config))?;
    line(&format!("Windlass   {}", done.address))?;
    line(&format!("chain      {}", done.chain_id))?;
    line(&format!("block      {}  transaction {}", done.block, done.tx))?;
    line(&format!("deployer   {} (owner, registrar, submitter)", done.deployer))?;
    line(&format!("noted in   {}", config.deployment_file().display()))?;
    Ok(OK)
}

/// Deploys and notes the address. Safe to interrupt and to repeat: the transaction is in the journal.
pub(super) async fn deploy(config: &Config) -> anyhow::Result<Deployment> {
    let journal = Sqlite::open(&config.data_dir(), &config.journal)?;
    let submitters: Vec<_> =
        windlass_chain::submitters(&config.chain, &config.base).into_iter().collect::<Result<_, _>>()?;
    let mut worker = Worker::new(Setup {
        config: config.chain.clone(),
        limits: config.settlement.clone(),
        submitters,
        ledger: Arc::new(journal.clone()),
        signatory: Arc::new(NoDevices),
        contract: Box::new(|| None),
        observer: Box::new(|_| true),
        standing: Arc::default(),
    })?;
    let done = worker.deploy().await.context("deploying")?;
    deployment::write(&config.deployment_file(), &done)?;
    drop(worker);
    journal.close().await;
    Ok(done)
}
