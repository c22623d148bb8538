//! `windlass check`: everything that is wrong, at once, before it matters.

use alloy::primitives::U256;
use windlass_chain::Nodes;

use super::{OK, USAGE, WithConfig, block_on, line};
use crate::{config::Config, deployment};

pub(super) fn run(options: &WithConfig) -> anyhow::Result<u8> {
    let config = options.load()?;
    let mut wrong = Vec::new();
    let mut notes = Vec::new();
    let submitters: Vec<_> = windlass_chain::submitters(&config.chain, &config.base)
        .into_iter()
        .filter_map(|key| match key {
            Ok(key) => Some(key.address()),
            Err(error) => {
                wrong.push(format!("chain.submitters: {error}"));
                None
            }
        })
        .collect();
    if let Err(error) = crate::custody::load(&config) {
        wrong.push(format!("{error:#}"));
    }
    wrong.extend(config.broker.check_files(&config.base));
    for listener in config.broker.listeners.iter().filter(|l| l.tls.is_none() && !l.listen.ip().is_loopback()) {
        notes.push(format!("listener {} is without TLS: keep it on a private network", listener.listen));
    }
    for listener in config.broker.listeners.iter().filter(|l| !l.identify_by_client_id.is_empty()) {
        notes.push(format!(
            "listener {} takes {} device(s) by client id alone: keep it on a private network",
            listener.listen,
            listener.identify_by_client_id.len()
        ));
    }
    if let Err(error) = block_on(chain(&config, &submitters, &mut wrong, &mut notes)) {
        wrong.push(format!("chain: {error:#}"));
    }
    for note in &notes {
        line(&format!("note: {note}"))?;
    }
    if wrong.is_empty() {
        line(&format!("{}: good, {} device(s)", options.config.display(), config.devices.len()))?;
        return Ok(OK);
    }
    for problem in &wrong {
        line(&format!("wrong: {problem}"))?;
    }
    line(&format!("{}: {} problem(s)", options.config.display(), wrong.len()))?;
    Ok(USAGE)
}

/// Whether node, contract and accounts fit the config.
async fn chain(
    config: &Config,
    submitters: &[alloy::primitives::Address],
    wrong: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> anyhow::Result<()> {
    let nodes = Nodes::new(&config.chain)?;
    let found = nodes.chain_id().await?;
    if found != config.chain.chain_id {
        wrong.push(format!("chain.chain_id: the node is on chain {found}, the config says {}", config.chain.chain_id));
        return Ok(());
    }
    match deployment::contract(config) {
        None => notes.push("no contract yet: run `windlass deploy`".into()),
        Some(address) => {
            let code = nodes.code(address).await?;
            if code.is_empty() {
                wrong.push(format!("chain.contract: there is no contract at {address}"));
            } else if !windlass_contract::is_windlass_code(&code) {
                wrong.push(format!("chain.contract: the code at {address} is not this version's Windlass contract"));
            }
        }
    }
    for account in submitters {
        if nodes.balance(*account).await? == U256::ZERO {
            wrong.push(format!("chain.submitters: {account} has no ether"));
        }
    }
    Ok(())
}
