//! Readings that have a transaction of their own: `set` on the device's contract, from the device's account.

use std::collections::{BTreeMap, HashSet};

use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::SolCall,
};
use anyhow::Result;
use serde_json::{Value, json};
use windlass_contract::Barcode;

use super::{
    api::{Api, Device},
    chain::Found,
    node::{Node, field, number_of},
};

/// A reading and the transaction that it is said to be.
pub(super) struct Set {
    pub(super) sequence: u64,
    pub(super) payload: String,
    pub(super) tx: String,
    /// Whether the ledger has it.
    pub(super) claimed: bool,
}

/// One device's.
struct Sets<'a> {
    device: Device,
    sets: &'a [Set],
    account: Address,
    barcode: Address,
    /// Block of each transaction that holds a reading, by its nonce.
    told: BTreeMap<u64, u64>,
}

/// Each reading's transaction sets its value, and none that sets one stands between them.
pub(super) async fn check(all: &BTreeMap<String, Vec<Set>>, api: &Api, node: &Node, found: &mut Found) -> Result<()> {
    for (id, sets) in all {
        let device = api.device(id).await?;
        let (Some(account), Some(barcode)) = (device.address, device.barcode) else {
            found.problems.push(format!("the gateway names no account and contract of {id}"));
            continue;
        };
        let mut sets = Sets { device, sets, account, barcode, told: BTreeMap::new() };
        sets.look_up(node, found).await?;
        sets.check_rest(node, found).await?;
    }
    Ok(())
}

impl Sets<'_> {
    async fn look_up(&mut self, node: &Node, found: &mut Found) -> Result<()> {
        for Set { payload, tx, claimed, .. } in self.sets {
            let transaction = node.call("eth_getTransactionByHash", json!([tx])).await?;
            let wanted = U256::from_str_radix(payload, 10).ok();
            if wanted.is_none() || self.value_set(&transaction) != wanted || !succeeded(node, tx).await? {
                found.problems.push(format!("{tx} does not set {payload} at {}'s contract", self.device.device));
                continue;
            }
            let (nonce, block) = (number_of(&transaction, "nonce")?, number_of(&transaction, "blockNumber")?);
            if self.told.insert(nonce, block).is_some() {
                found.problems.push(format!("{tx} stands for two readings"));
            } else {
                found.on_chain += 1;
                found.confirmed += u64::from(*claimed);
            }
        }
        Ok(())
    }

    /// An account has one transaction for each nonce. So only where the readings' nonces leave one out, or go on after the
    /// last, can there be another that sets a value.
    async fn check_rest(&self, node: &Node, found: &mut Found) -> Result<()> {
        let pairs = self.told.iter().zip(self.told.iter().skip(1));
        let mut gaps: Vec<_> = pairs.filter(|(a, b)| a.0 + 1 < *b.0).map(|(a, b)| (*a.1, *b.1)).collect();
        let newest = self.sets.iter().map(|set| set.sequence).max();
        if let Some((nonce, block)) = self.told.last_key_value()
            && newest == Some(self.device.last_sequence)
            && node.number("eth_getTransactionCount", json!([self.account, "latest"])).await? > nonce + 1
        {
            gaps.push((*block, node.number("eth_blockNumber", json!([])).await?));
        }
        let mut seen = HashSet::new();
        for number in gaps.into_iter().flat_map(|(first, last)| first..=last).filter(|number| seen.insert(*number)) {
            let block = node.call("eth_getBlockByNumber", json!([format!("{number:#x}"), true])).await?;
            for transaction in block.get("transactions").and_then(Value::as_array).into_iter().flatten() {
                let Some(value) = self.value_set(transaction) else { continue };
                let nonce = number_of(transaction, "nonce")?;
                let first = self.told.first_key_value().is_none_or(|(first, _)| nonce > *first);
                let hash: String = field(transaction, "hash")?;
                if first && !self.told.contains_key(&nonce) && succeeded(node, &hash).await? {
                    found.problems.push(format!("{hash} sets {value} for {} and is no reading", self.device.device));
                }
            }
        }
        Ok(())
    }

    /// What a transaction sets at the device's contract; `None` when it does something else.
    fn value_set(&self, transaction: &Value) -> Option<U256> {
        let (from, to): (Address, Address) = (field(transaction, "from").ok()?, field(transaction, "to").ok()?);
        let input: Bytes = field(transaction, "input").ok()?;
        let call = Barcode::setCall::abi_decode(&input).ok()?;
        (from == self.account && to == self.barcode).then_some(call.value)
    }
}

async fn succeeded(node: &Node, hash: &str) -> Result<bool> {
    let receipt = node.call("eth_getTransactionReceipt", json!([hash])).await?;
    Ok(receipt.get("status") == Some(&json!("0x1")))
}
