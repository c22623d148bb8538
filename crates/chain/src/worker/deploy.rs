//! Deploys the `Windlass` contract, through the same journal as everything else.

use std::time::Duration;

use alloy::primitives::{Address, B256, TxKind, U256};
use serde::{Deserialize, Serialize};
use windlass_contract::{Windlass, is_windlass_code};
use windlass_journal::Kind;

use super::Worker;
use crate::{Error, lane::Request};

/// `Windlass` takes 3,524,416 gas to deploy.
const DEPLOY_GAS: u64 = 6_000_000;

/// Where a contract was deployed: the content of `data_dir/deployment.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The chain it is on.
    pub chain_id: u64,
    /// The contract.
    pub address: Address,
    /// The deploying transaction.
    pub tx: B256,
    /// Its block.
    pub block: u64,
    /// Owner, registrar and first submitter.
    pub deployer: Address,
}

impl Worker {
    /// Deploys the contract from the first submitter and waits until its inclusion is final. A deployment that an
    /// earlier call left open is finished instead of begun again.
    ///
    /// # Errors
    /// Any [`Error`]; calling again continues.
    pub async fn deploy(&mut self) -> Result<Deployment, Error> {
        let chain_id = self.setup.config.chain_id;
        if self.nodes.chain_id().await? != chain_id {
            return Err(Error::Answer("eth_chainId: the node is on another chain than chain.chain_id says;"));
        }
        self.load().await?;
        self.follow().await?;
        let deployer = *self.submitters.first().ok_or_else(|| Error::Key("no submitter".into()))?;
        let mine = |k: &Kind| matches!(k, Kind::DeployWindlass);
        if !self.lanes.get(&deployer).is_some_and(|l| l.has_open(mine)) {
            if self.nodes.balance(deployer).await?.is_zero() {
                return Err(Error::Key(format!("submitter {deployer} has no ether to deploy with")));
            }
            let request = Request {
                to: TxKind::Create,
                value: U256::ZERO,
                input: Windlass::constructorCall::creation_data(deployer),
                gas: DEPLOY_GAS,
                kind: Kind::DeployWindlass,
            };
            self.open(deployer, request, None).await?;
        }
        let mut found = None;
        loop {
            let lane = self.lanes.get(&deployer);
            let open = lane.and_then(|l| l.open.iter().find(|(_, o)| matches!(o.kind, Kind::DeployWindlass)));
            match open {
                Some((nonce, open)) => found = open.inclusion.clone().map(|i| (*nonce, i)).or(found),
                None => break,
            }
            tokio::time::sleep(self.setup.config.poll_interval.min(Duration::from_millis(500))).await;
            self.follow().await?;
            self.resend().await?;
        }
        let Some((nonce, inclusion)) = found else { return Err(Error::Answer("deployment")) };
        let address = deployer.create(nonce);
        let code = self.nodes.code(address).await?;
        if !inclusion.success || !is_windlass_code(&code) {
            return Err(Error::Answer("deployment: the transaction was included but left no contract;"));
        }
        Ok(Deployment { chain_id, address, tx: inclusion.tx, block: inclusion.block_number, deployer })
    }
}
