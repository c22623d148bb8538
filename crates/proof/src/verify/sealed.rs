//! A block header whose hash is known, and what its roots prove.

use alloy::{
    consensus::{Header, ReceiptEnvelope, TxEnvelope},
    eips::eip2718::Decodable2718,
    primitives::{Address, B256, Bytes, Log, keccak256},
    rlp::{self, Decodable},
    sol_types::SolEvent,
};

use crate::{
    Refusal,
    event::emitted,
    file::{Block, EventProof},
    trie::item_at,
    verify::{Tier, same},
};

/// A header that hashes to the block hash that the file states and, if there is one, the verifier trusts.
pub(super) struct Sealed {
    pub(super) header: Header,
    pub(super) hash: B256,
    pub(super) tier: Tier,
}

impl Sealed {
    pub(super) fn open(block: &Block, trusted: Option<B256>) -> Result<Self, Refusal> {
        let computed = keccak256(&block.header);
        if computed != block.hash {
            return Err(Refusal::BlockHash { computed, stated: block.hash });
        }
        let tier = match trusted {
            Some(trusted) if trusted != computed => return Err(Refusal::OtherBlock { computed, trusted }),
            Some(_) => Tier::BlockHash,
            None => Tier::Mathematics,
        };
        let mut bytes = block.header.as_ref();
        let header = Header::decode(&mut bytes).map_err(|_| Refusal::Header)?;
        if !bytes.is_empty() || rlp::encode(&header) != block.header {
            return Err(Refusal::Header);
        }
        same("the block number", &block.number, &header.number)?;
        Ok(Self { header, hash: computed, tier })
    }

    /// Whom the verifier trusts for the block hash.
    pub(super) fn trust(&self) -> String {
        match self.tier {
            Tier::Mathematics => format!(
                "that block {} is in the chain: no trusted block hash was given, and a made-up block would pass",
                self.hash
            ),
            Tier::BlockHash => "whoever gave the block hash".to_owned(),
        }
    }

    /// The receipt at `index` of the block.
    pub(super) fn receipt(&self, index: u64, nodes: &[Bytes]) -> Result<ReceiptEnvelope, Refusal> {
        let bytes = item_at(self.header.receipts_root, index, nodes).map_err(Refusal::ReceiptPath)?;
        ReceiptEnvelope::decode_2718_exact(&bytes).map_err(|_| Refusal::Receipt)
    }

    /// The transaction at `index` of the block, and its hash.
    pub(super) fn transaction(&self, index: u64, nodes: &[Bytes]) -> Result<(B256, TxEnvelope), Refusal> {
        let bytes = item_at(self.header.transactions_root, index, nodes).map_err(Refusal::TransactionPath)?;
        let transaction = TxEnvelope::decode_2718_exact(&bytes).map_err(|_| Refusal::Transaction)?;
        Ok((keccak256(&bytes), transaction))
    }

    /// The event of `contract` at the stated place, and all logs of its transaction.
    pub(super) fn event<E: SolEvent>(
        &self,
        proof: &EventProof,
        contract: Address,
        name: &'static str,
    ) -> Result<(E, Vec<Log>), Refusal> {
        let logs = self.receipt(proof.transaction, &proof.receipt)?.into_logs();
        let log = usize::try_from(proof.log).ok().and_then(|i| logs.get(i));
        let event = log.and_then(|log| emitted(log, contract)).ok_or(Refusal::Event(name))?;
        Ok((event, logs))
    }

    /// The last two sentences of every verification.
    pub(super) fn checked(&self, root: &str, index: u64) -> [String; 2] {
        let Header { number, timestamp, .. } = self.header;
        [
            format!("transaction {index} is under the {root} of the block header"),
            format!("the header hashes to {} (block {number}, time {timestamp})", self.hash),
        ]
    }
}
