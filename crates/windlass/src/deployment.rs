//! `data_dir/deployment.json`: which contract this gateway settles on.

use std::{fs, io::Write, path::Path};

use alloy::primitives::Address;
use anyhow::Context;
use windlass_chain::{ContractSource, Deployment};

use crate::config::Config;

/// Reads the file; `None` where there is none.
///
/// # Errors
/// When the file is there and is not a deployment.
pub fn read(path: &Path) -> anyhow::Result<Option<Deployment>> {
    match fs::read(path) {
        Ok(bytes) => {
            Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is not a deployment", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Writes the file whole or not at all.
///
/// # Errors
/// When the directory cannot be written.
pub fn write(path: &Path, deployment: &Deployment) -> anyhow::Result<()> {
    let directory = path.parent().context("deployment file has no directory")?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&mut file, deployment)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The contract: the config's, or that of the deployment file if it is for this chain.
pub fn contract(config: &Config) -> Option<Address> {
    config.chain.contract.or_else(|| {
        let deployment = read(&config.deployment_file()).ok().flatten()?;
        (deployment.chain_id == config.chain.chain_id).then_some(deployment.address)
    })
}

/// Looks again each time it is asked, so that `windlass deploy` beside a waiting gateway is noticed.
pub fn source(config: &Config) -> ContractSource {
    let config = config.clone();
    Box::new(move || contract(&config))
}
