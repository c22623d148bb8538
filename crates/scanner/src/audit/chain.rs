//! What the chain itself holds of the readings, asked of a node and not of the gateway.

use std::collections::{BTreeMap, HashMap, HashSet};

use alloy::{
    primitives::{Address, B256, Bytes, U256, hex},
    sol_types::{SolCall, SolEvent},
};
use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use windlass_contract::{Barcode, Windlass};
use windlass_proof::Tree;
use windlass_reading::{DeviceId, Domain, Reading, leaf, unpack_run, unpack_single};

use super::api::{Api, Row, client};

/// Public nodes refuse to look through more blocks at once.
const BLOCKS: u64 = 500;

/// A node's JSON-RPC.
pub(super) struct Node {
    url: String,
    http: reqwest::Client,
}

impl Node {
    pub(super) fn new(url: &str) -> Result<Self> {
        Ok(Self { url: url.to_owned(), http: client()? })
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let asked = self.http.post(&self.url).json(&body).send().await;
        let answer: Value = asked.context("cannot ask the node")?.json().await.context("the node answers no JSON")?;
        match answer.get("result") {
            Some(result) => Ok(result.clone()),
            None => bail!("the node refuses {method}: {}", answer.get("error").unwrap_or(&Value::Null)),
        }
    }

    /// Refuses another chain than the gateway's.
    pub(super) async fn check_chain(&self, chain_id: u64) -> Result<()> {
        let answer = self.call("eth_chainId", json!([])).await?;
        let told = number(&answer)?;
        ensure!(told == chain_id, "the node is of chain {told}, the gateway of {chain_id}");
        Ok(())
    }

    async fn events<E: SolEvent>(&self, contract: Address, from: u64, to: u64) -> Result<Vec<E>> {
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

/// What the gateway's rows say that the chain must hold.
pub(super) struct Expected {
    domain: Domain,
    contract: Address,
    /// First and last block of a settled reading.
    blocks: Option<(u64, u64)>,
    /// Leaves of each anchored batch.
    leaves: BTreeMap<u64, Vec<B256>>,
    /// Readings that events hold, by device and number.
    recorded: HashMap<(B256, u64), Reading>,
    devices: HashMap<B256, DeviceId>,
    /// Payload and transaction of each reading that has one of its own.
    direct: Vec<(String, String)>,
}

/// What the chain said.
#[derive(Default)]
pub(super) struct Found {
    pub(super) on_chain: u64,
    /// In a batch of which some readings are older than the audit looks.
    pub(super) unchecked: u64,
    pub(super) problems: Vec<String>,
}

impl Expected {
    pub(super) fn new(chain_id: u64, contract: Address) -> Self {
        Self {
            domain: Domain::new(chain_id, contract),
            contract,
            blocks: None,
            leaves: BTreeMap::new(),
            recorded: HashMap::new(),
            devices: HashMap::new(),
            direct: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, row: &Row) -> Result<()> {
        let block = row.block.with_context(|| format!("{} of {} has no block", row.sequence, row.device))?;
        self.blocks = Some(self.blocks.map_or((block, block), |(first, last)| (first.min(block), last.max(block))));
        let device = DeviceId::new(&row.device)?;
        let payload = match row.payload.strip_prefix("0x") {
            Some(digits) => hex::decode(digits)?,
            None => row.payload.as_bytes().to_vec(),
        };
        let reading =
            Reading { device, epoch: row.epoch, sequence: row.sequence, observed_at_ms: row.observed_at, payload };
        match row.settlement.as_str() {
            "anchor" => {
                let batch = row.batch.context("an anchored reading without a batch")?;
                let leaf = leaf(&reading, self.domain.reading(&reading));
                self.leaves.entry(batch).or_default().push(leaf);
            }
            "batch" => {
                let device = reading.device.hash();
                self.devices.entry(device).or_insert_with(|| reading.device.clone());
                self.recorded.insert((device, reading.sequence), reading);
            }
            _ => self.direct.push((row.payload.clone(), row.tx.clone().context("a reading without a transaction")?)),
        }
        Ok(())
    }

    /// Asks the node for all of it.
    pub(super) async fn look_up(mut self, api: &Api, node: &Node) -> Result<Found> {
        let mut found = Found::default();
        let Some((first, last)) = self.blocks else { return Ok(found) };
        if !self.leaves.is_empty() {
            let events = node.events::<Windlass::Anchored>(self.contract, first, last).await?;
            self.check_anchors(&events, api, &mut found).await?;
        }
        if !self.recorded.is_empty() {
            let events = node.events::<Windlass::Recorded>(self.contract, first, last).await?;
            self.check_recorded(events, &mut found);
        }
        self.check_direct(node, &mut found).await?;
        Ok(found)
    }

    /// Each batch's readings hash to a root that was anchored once.
    async fn check_anchors(&mut self, events: &[Windlass::Anchored], api: &Api, found: &mut Found) -> Result<()> {
        let mut roots: HashMap<B256, (u64, u32)> = HashMap::new();
        for event in events {
            roots.entry(event.root).or_insert((event.count.into(), 0)).1 += 1;
        }
        for (batch, leaves) in std::mem::take(&mut self.leaves) {
            let count = leaves.len() as u64;
            let root = Tree::new(leaves)?.root();
            match roots.get(&root) {
                Some((anchored, 1)) if *anchored == count => found.on_chain += count,
                Some((anchored, times)) => found.problems.push(format!(
                    "batch {batch} of {count} readings was anchored {times} times, as {anchored} readings"
                )),
                None if api.batch(batch).await?.count != count => found.unchecked += count,
                None => found.problems.push(format!("the root of batch {batch}, {count} readings, is not on chain")),
            }
        }
        Ok(())
    }

    /// The events hold each reading once, as the gateway tells it.
    fn check_recorded(&mut self, events: Vec<Windlass::Recorded>, found: &mut Found) {
        let mut seen: HashSet<(B256, u64)> = HashSet::new();
        for event in events {
            let Some(device) = self.devices.get(&event.device) else { continue };
            let Some(readings) = unpack(&event, device) else {
                found.problems.push(format!("an event of {device} from {} on is unreadable", event.firstSequence));
                continue;
            };
            for reading in readings {
                let key = (event.device, reading.sequence);
                if !seen.insert(key) {
                    found.problems.push(format!("{} of {device} is on chain twice", reading.sequence));
                }
                match self.recorded.remove(&key) {
                    Some(told) if told == reading => found.on_chain += 1,
                    Some(_) => found.problems.push(format!("{} of {device} differs on chain", reading.sequence)),
                    // Before the time that the audit looks at.
                    None => {}
                }
            }
        }
        for reading in self.recorded.values() {
            found.problems.push(format!("{} of {} is not on chain", reading.sequence, reading.device));
        }
    }

    /// Each reading has a transaction of its own that sets its value.
    async fn check_direct(&self, node: &Node, found: &mut Found) -> Result<()> {
        let mut seen = HashSet::new();
        for (payload, hash) in &self.direct {
            let receipt = node.call("eth_getTransactionReceipt", json!([hash])).await?;
            let transaction = node.call("eth_getTransactionByHash", json!([hash])).await?;
            let input: Option<Bytes> = field(&transaction, "input").ok();
            let set = input.and_then(|input| Barcode::setCall::abi_decode(&input).ok()).map(|call| call.value);
            if receipt.get("status") != Some(&json!("0x1")) || set != U256::from_str_radix(payload, 10).ok() {
                found.problems.push(format!("{hash} does not set {payload}"));
            } else if !seen.insert(hash) {
                found.problems.push(format!("{hash} stands for two readings"));
            } else {
                found.on_chain += 1;
            }
        }
        Ok(())
    }
}

/// A run that was packed off chain, or one reading that its device signed.
fn unpack(event: &Windlass::Recorded, device: &DeviceId) -> Option<Vec<Reading>> {
    let (epoch, sequence) = (event.epoch, event.firstSequence);
    if let (Ok((observed_at_ms, payload)), 1) = (unpack_single(&event.readings), event.count) {
        return Some(vec![Reading { device: device.clone(), epoch, sequence, observed_at_ms, payload }]);
    }
    unpack_run(&event.readings, device, epoch, sequence, event.count).ok()
}

fn field<T: DeserializeOwned>(object: &Value, name: &str) -> Result<T> {
    let value = object.get(name).with_context(|| format!("the node leaves out {name}"))?;
    Ok(serde_json::from_value(value.clone())?)
}

fn number(value: &Value) -> Result<u64> {
    let text = value.as_str().and_then(|text| text.strip_prefix("0x")).context("the node answers no number")?;
    Ok(u64::from_str_radix(text, 16)?)
}
