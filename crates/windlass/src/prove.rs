//! Makes a proof file out of the journal and a node.

use alloy::{
    consensus::Header,
    eips::Encodable2718,
    primitives::{Address, B256, Bytes, U256},
    rpc::types::Filter,
    sol_types::SolEvent,
};
use anyhow::{Context, anyhow, bail};
use windlass_chain::Nodes;
use windlass_contract::Windlass;
use windlass_journal::{Ledger, Listing, ReadingRow, Sqlite, State};
use windlass_proof::{Evidence, ProofFile, Tree};
use windlass_reading::{DeviceId, Domain, Leaves, PublicKey, Reading, Settlement};

/// What a proof is made from.
#[derive(Debug)]
pub struct Prover<'a> {
    /// Where the reading is.
    pub journal: &'a Sqlite,
    /// Where its block is; `None`: only a pending proof can be made.
    pub nodes: Option<&'a Nodes>,
    /// The chain.
    pub chain_id: u64,
    /// The `Windlass` contract.
    pub contract: Option<Address>,
}

impl Prover<'_> {
    /// The proof of one reading: of its settlement if it is mined, else one that says that it is pending.
    /// `None` when the journal has no such reading.
    ///
    /// # Errors
    /// When the node does not answer, or what it answers does not fit the journal.
    pub async fn prove(&self, device: &DeviceId, sequence: u64) -> anyhow::Result<Option<ProofFile>> {
        let Some(row) = self.journal.reading(device.clone(), sequence).await? else { return Ok(None) };
        let (Some((_, hash)), Some(tx), true) = (row.block, row.tx, row.state != State::Accepted) else {
            return Ok(Some(ProofFile::pending(&row.reading, row.settlement)));
        };
        let nodes = self.nodes.ok_or_else(|| anyhow!("a node is needed to prove a settled reading"))?;
        let (evidence, index) = evidence(nodes, hash, tx).await?;
        let file = match row.settlement {
            Settlement::Direct => evidence.direct(index, &row.reading)?,
            Settlement::Batch => {
                let signer = self.key(&row.reading).await?;
                evidence.batch(index, self.contract()?, &row.reading, signer)?
            }
            Settlement::Anchor => {
                let tree = self.tree(&row).await?;
                let file = evidence.anchor(index, self.chain_id, self.contract()?, &tree, &row.reading)?;
                match (row.signature.clone(), self.key(&row.reading).await?) {
                    (Some(signature), Some(key)) => evidence.attested(file, key, signature)?,
                    _ => file,
                }
            }
        };
        Ok(Some(file))
    }

    fn contract(&self) -> anyhow::Result<Address> {
        self.contract.ok_or_else(|| anyhow!("no contract address: run `windlass deploy`, or set chain.contract"))
    }

    /// The proof, with the registration of the key that signed.
    ///
    /// # Errors
    /// As [`prove`](Self::prove); when nothing in the proof is signed; when the node does not have the registration's block.
    pub async fn prove_with_registration(&self, device: &DeviceId, sequence: u64) -> anyhow::Result<Option<ProofFile>> {
        let file = self.prove(device, sequence).await?;
        let (Some(file), Some(row)) = (&file, self.journal.reading(device.clone(), sequence).await?) else {
            return Ok(file);
        };
        let signer = match file {
            ProofFile::Anchor(anchor) => anchor.signed.as_ref().map(|s| s.signer),
            ProofFile::Batch(batch) => batch.signed.as_ref().map(|s| s.signer),
            ProofFile::Direct(_) | ProofFile::Pending(_) => None,
        };
        let (Some(signer), Some(nodes), Some((_, hash)), Some(tx)) = (signer, self.nodes, row.block, row.tx) else {
            bail!("the proof has no signature of the device, so there is no key whose registration it could show");
        };
        let contract = self.contract()?;
        let (block, registered_by) = registered_in(nodes, contract, &row.reading).await?;
        let (registry, index) = evidence(nodes, block, registered_by).await?;
        let registration = registry.registration(index, contract, &row.reading, signer)?;
        let (settled, _) = evidence(nodes, hash, tx).await?;
        Ok(Some(settled.registered(file.clone(), registration)?))
    }

    /// The device's key of the reading's epoch.
    async fn key(&self, reading: &Reading) -> anyhow::Result<Option<PublicKey>> {
        let keys = self.journal.device_keys(reading.device.clone()).await?;
        Ok(keys.into_iter().find(|k| k.epoch == reading.epoch).map(|k| k.key))
    }

    /// Builds the batch's tree again and compares its root with the one that was anchored.
    async fn tree(&self, row: &ReadingRow) -> anyhow::Result<Tree> {
        let id = row.batch.context("the reading has no batch")?;
        let batch = self.journal.batch(id).await?.context("the reading's batch is not in the journal")?;
        if let Some(archive) = batch.archive {
            bail!("batch {id} has moved to the archive {archive}: name it with --journal");
        }
        let domain = Domain::new(self.chain_id, self.contract()?);
        let readings: Vec<Reading> = self.journal.batch_readings(id).await?;
        let mut leaves = Leaves::new(&domain);
        let tree = Tree::new(readings.iter().map(|r| leaves.leaf(r)).collect())?;
        if batch.root != Some(tree.root()) {
            bail!("the journal's readings do not give the root that batch {id} anchored: the journal was changed");
        }
        Ok(tree)
    }
}

/// The block and the transaction that put the key of the reading's epoch in force.
async fn registered_in(nodes: &Nodes, contract: Address, reading: &Reading) -> anyhow::Result<(B256, B256)> {
    let logs = nodes.logs(&registration_filter(contract, reading)).await?;
    let log = logs.first().context("the contract registered no key of the device for the reading's epoch")?;
    log.block_hash.zip(log.transaction_hash).context("the registration is not in a block yet")
}

/// The events in which the contract registered a key of the reading's device for its epoch.
pub fn registration_filter(contract: Address, reading: &Reading) -> Filter {
    Filter::new()
        .address(contract)
        .event_signature(Windlass::Registered::SIGNATURE_HASH)
        .topic1(reading.device.hash())
        .topic2(B256::from(U256::from(reading.epoch)))
        .from_block(0u64)
}

/// The including block as evidence, and the transaction's index in it.
async fn evidence(nodes: &Nodes, hash: B256, tx: B256) -> anyhow::Result<(Evidence, u64)> {
    let block = nodes.full_block(hash).await?.with_context(|| format!("the node does not have block {hash}"))?;
    let receipts = nodes.receipts(hash).await?;
    let index = receipts
        .iter()
        .find(|r| r.transaction_hash == tx)
        .and_then(|r| r.transaction_index)
        .with_context(|| format!("block {hash} has no receipt for transaction {tx}"))?;
    let header: Header = block.header.inner.clone();
    let transactions: Vec<Bytes> = block.transactions.txns().map(|t| Bytes::from(t.inner.encoded_2718())).collect();
    let receipts: Vec<Bytes> =
        receipts.into_iter().map(|r| Bytes::from(r.into_primitives_receipt().inner.encoded_2718())).collect();
    let evidence = Evidence::new(hash, header, receipts)?.with_transactions(transactions)?;
    Ok((evidence, index))
}
