//! A node's JSON-RPC, as far as an audit asks it.

use alloy::{
    primitives::{Address, B256, Bytes},
    sol_types::SolEvent,
};
use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::api::client;

/// Public nodes refuse to look through more blocks at once.
const BLOCKS: u64 = 500;

/// Where to ask.
pub(super) struct Node {
    url: String,
    http: reqwest::Client,
}

impl Node {
    pub(super) fn new(url: &str) -> Result<Self> {
        Ok(Self { url: url.to_owned(), http: client()? })
    }

    pub(super) async fn call(&self, method: &str, params: Value) -> Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let asked = self.http.post(&self.url).json(&body).send().await;
        let answer: Value = asked.context("cannot ask the node")?.json().await.context("the node answers no JSON")?;
        match answer.get("result") {
            Some(result) => Ok(result.clone()),
            None => bail!("the node refuses {method}: {}", answer.get("error").unwrap_or(&Value::Null)),
        }
    }

    /// An answer that is a number.
    pub(super) async fn number(&self, method: &str, params: Value) -> Result<u64> {
        number(&self.call(method, params).await?)
    }

    /// Refuses another chain than the gateway's.
    pub(super) async fn check_chain(&self, chain_id: u64) -> Result<()> {
        let told = self.number("eth_chainId", json!([])).await?;
        ensure!(told == chain_id, "the node is of chain {told}, the gateway of {chain_id}");
        Ok(())
    }

    pub(super) async fn events<E: SolEvent>(&self, contract: Address, from: u64, to: u64) -> Result<Vec<E>> {
        let mut events = Vec::new();
        for first in (from..=to).step_by(usize::try_from(BLOCKS)?) {
            let last = to.min(first + BLOCKS - 1);
            let filter = json!([{ "address": contract, "topics": [E::SIGNATURE_HASH],
                "fromBlock": format!("{first:#x}"), "toBlock": format!("{last:#x}") }]);
            for log in self.call("eth_getLogs", filter).await?.as_array().context("no logs")? {
                let (topics, data): (Vec<B256>, Bytes) = (field(log, "topics")?, field(log, "data")?);
                events.push(E::decode_raw_log(topics, &data)?);
            }
        }
        Ok(events)
    }
}

/// A field of an answer.
pub(super) fn field<T: DeserializeOwned>(object: &Value, name: &str) -> Result<T> {
    let value = object.get(name).with_context(|| format!("the node leaves out {name}"))?;
    Ok(serde_json::from_value(value.clone())?)
}

/// A number in a field of an answer.
pub(super) fn number_of(object: &Value, name: &str) -> Result<u64> {
    number(object.get(name).with_context(|| format!("the node leaves out {name}"))?)
}

fn number(value: &Value) -> Result<u64> {
    let text = value.as_str().and_then(|text| text.strip_prefix("0x")).context("the node answers no number")?;
    Ok(u64::from_str_radix(text, 16)?)
}
