//! What anchors say of the log: the chain's events, or the journal's rows.

use std::collections::HashSet;

use alloy::{
    primitives::{Address, B256},
    rpc::types::Filter,
    sol_types::SolEvent,
};
use windlass_chain::Nodes;
use windlass_contract::Windlass;

use super::Log;

/// One statement of size and root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Who anchored.
    pub account: Address,
    /// The submitter's anchor number.
    pub number: u64,
    /// The transaction, once it is included.
    pub tx: Option<B256>,
    /// How many readings the log has.
    pub size: u64,
    /// Their root.
    pub root: B256,
}

impl Anchor {
    /// For people: which anchor this is.
    pub fn name(&self) -> String {
        let tx = self.tx.map_or_else(|| "not on chain".to_owned(), |tx| format!("transaction {tx}"));
        format!("anchor {} of {} ({tx})", self.number, self.account)
    }
}

/// The anchors that this journal wrote, in that order; those that it says are on chain have their transaction.
///
/// # Errors
/// When the journal cannot be read.
pub async fn of_journal(log: &Log<'_>) -> anyhow::Result<Vec<Anchor>> {
    Ok(log.stated().await?.into_iter().map(|stated| stated.anchor).collect())
}

/// The anchors of this gateway's accounts in the chain's events that state a log, in the chain's order.
///
/// # Errors
/// When the node does not answer.
pub async fn of_chain(log: &Log<'_>, nodes: &Nodes) -> anyhow::Result<Vec<Anchor>> {
    let found = nodes.chain_id().await?;
    anyhow::ensure!(found == log.chain_id, "the node is on chain {found}, the config says {}", log.chain_id);
    let accounts: HashSet<Address> = log.stated().await?.into_iter().map(|stated| stated.anchor.account).collect();
    events(nodes, log.contract, &accounts).await
}

/// The anchors of these accounts in the contract's events that state a log, in the chain's order.
pub(super) async fn events(
    nodes: &Nodes,
    contract: Address,
    accounts: &HashSet<Address>,
) -> anyhow::Result<Vec<Anchor>> {
    let filter = Filter::new().address(contract).event_signature(Windlass::Anchored::SIGNATURE_HASH).from_block(0u64);
    let mut anchors = Vec::new();
    for entry in nodes.logs(&filter).await? {
        let event = Windlass::Anchored::decode_log_data(&entry.inner.data)?;
        if event.logSize > 0 && accounts.contains(&event.submitter) {
            anchors.push(Anchor {
                account: event.submitter,
                number: event.batch,
                tx: entry.transaction_hash,
                size: event.logSize,
                root: event.logRoot,
            });
        }
    }
    Ok(anchors)
}

/// What is wrong with the order alone: within one submitter sizes never go back.
pub fn orders(anchors: &[Anchor]) -> Vec<String> {
    let mut last: std::collections::HashMap<Address, &Anchor> = std::collections::HashMap::new();
    let mut faults = Vec::new();
    for anchor in anchors {
        if let Some(before) = last.insert(anchor.account, anchor).filter(|before| before.size > anchor.size) {
            faults.push(format!(
                "{}: states a log of {} readings, after {} stated {}",
                anchor.name(),
                anchor.size,
                before.name(),
                before.size
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submitter_whose_log_shrinks_is_found() {
        let anchor = |account: u8, number, size| Anchor {
            account: Address::repeat_byte(account),
            number,
            tx: None,
            size,
            root: B256::ZERO,
        };
        assert!(orders(&[anchor(1, 1, 5), anchor(2, 1, 3), anchor(1, 2, 5), anchor(2, 2, 9)]).is_empty());
        let faults = orders(&[anchor(1, 1, 5), anchor(1, 2, 4)]);
        assert!(
            matches!(faults.as_slice(), [text] if text.contains("a log of 4 readings, after anchor 1 of")),
            "{faults:?}"
        );
    }
}
