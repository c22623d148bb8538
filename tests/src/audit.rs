//! Journal, chain and what the clients saw acknowledged must tell the same story.

use std::collections::HashMap;

use alloy::{
    primitives::{Address, B256, Bytes, U256, hex},
    sol_types::{SolCall, SolEvent},
};
use serde_json::{Value, json};
use windlass_contract::{Barcode, Windlass};
use windlass_proof::Tree;
use windlass_reading::{DeviceId, Domain, Reading, leaf, unpack_run, unpack_single};

use crate::{Site, rpc};

/// Every acknowledged `(device, payload)` is stored, no device's sequence has a hole, every reading is final, and
/// the chain holds each exactly once in its device's order. The gateway and the node must be running.
pub fn assert_consistent(site: &Site, acknowledged: &[(String, String)]) {
    let rows = site.readings();
    let mut by_device: HashMap<String, Vec<Value>> = HashMap::new();
    for row in &rows {
        assert_eq!(row["state"], "final", "{row}");
        by_device.entry(row["device"].as_str().unwrap().to_owned()).or_default().push(row.clone());
    }
    for (device, rows) in &by_device {
        for (row, expected) in rows.iter().zip(1u64..) {
            assert_eq!(row["sequence"].as_u64(), Some(expected), "{device} has a hole");
        }
    }
    let mut stored: HashMap<(String, String), usize> = HashMap::new();
    for row in &rows {
        let key = (row["device"].as_str().unwrap().to_owned(), row["payload"].as_str().unwrap().to_owned());
        *stored.entry(key).or_default() += 1;
    }
    for key in acknowledged {
        let left = stored.get_mut(key).unwrap_or_else(|| panic!("{key:?} was acknowledged and is lost"));
        assert!(*left > 0, "{key:?} was acknowledged more often than it is stored");
        *left -= 1;
    }
    let chain = Chain::new(site);
    let count = |settlement: &str| rows.iter().filter(|r| r["settlement"] == settlement).count() as u64;
    chain.check_anchored(site, &rows, count("anchor"));
    chain.check_recorded(&rows, count("batch"));
    chain.check_direct(site, &by_device);
}

struct Chain {
    port: u16,
    contract: Address,
    domain: Domain,
}

fn reading(row: &Value) -> Reading {
    Reading {
        device: DeviceId::new(row["device"].as_str().unwrap()).unwrap(),
        epoch: u32::try_from(row["epoch"].as_u64().unwrap()).unwrap(),
        sequence: row["sequence"].as_u64().unwrap(),
        observed_at_ms: row["observed_at"].as_u64().unwrap(),
        payload: row["payload"].as_str().unwrap().as_bytes().to_vec(),
    }
}

/// What an event recorded: a run that was packed off chain, or one reading that its device signed.
fn unpack(event: &Windlass::Recorded, device: DeviceId) -> Vec<Reading> {
    let (epoch, sequence) = (event.epoch, event.firstSequence);
    if let (Ok((observed_at_ms, payload)), 1) = (unpack_single(&event.readings), event.count) {
        return vec![Reading { device, epoch, sequence, observed_at_ms, payload }];
    }
    unpack_run(&event.readings, &device, epoch, sequence, event.count).unwrap()
}

fn bytes(value: &Value) -> Bytes {
    hex::decode(value.as_str().unwrap()).unwrap().into()
}

impl Chain {
    fn new(site: &Site) -> Self {
        let contract = site.contract();
        Self { port: site.rpc, contract, domain: Domain::new(31337, contract) }
    }

    fn logs<E: SolEvent>(&self) -> Vec<E> {
        let filter = json!([{ "address": self.contract, "fromBlock": "0x0", "topics": [E::SIGNATURE_HASH] }]);
        let logs = rpc(self.port, "eth_getLogs", filter).unwrap();
        let topics = |log: &Value| -> Vec<B256> {
            log["topics"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().parse().unwrap()).collect()
        };
        logs.as_array().unwrap().iter().map(|l| E::decode_raw_log(topics(l), &bytes(&l["data"])).unwrap()).collect()
    }

    /// Each anchored root is the root of a batch's readings, and the counts add up.
    fn check_anchored(&self, site: &Site, rows: &[Value], expected: u64) {
        let events = self.logs::<Windlass::Anchored>();
        assert_eq!(events.iter().map(|e| u64::from(e.count)).sum::<u64>(), expected, "anchored readings");
        let mut roots: HashMap<B256, u32> = HashMap::new();
        for batch in site.rows(&["batches"]).iter().filter(|b| b["settlement"] == "anchor" && b["count"] != 0) {
            let leaves: Vec<B256> = rows
                .iter()
                .filter(|r| r["batch"] == batch["batch"])
                .map(reading)
                .map(|r| leaf(&r, self.domain.reading(&r)))
                .collect();
            let count = u32::try_from(leaves.len()).unwrap();
            roots.insert(Tree::new(leaves).unwrap().root(), count);
        }
        assert_eq!(roots.len(), events.len(), "one event for each batch");
        for event in events {
            assert_eq!(roots.get(&event.root), Some(&event.count), "an anchored root is not a batch's");
        }
    }

    /// The recorded runs unpack to the journal's readings, each once and in order.
    fn check_recorded(&self, rows: &[Value], expected: u64) {
        let mut next: HashMap<B256, u64> = HashMap::new();
        let mut seen = 0;
        for event in self.logs::<Windlass::Recorded>() {
            let first = next.entry(event.device).or_insert(1);
            assert_eq!(event.firstSequence, *first, "recorded out of order");
            *first += u64::from(event.count);
            seen += u64::from(event.count);
            let mine: Vec<Reading> = rows
                .iter()
                .map(reading)
                .filter(|r| r.device.hash() == event.device)
                .filter(|r| (event.firstSequence..*first).contains(&r.sequence))
                .collect();
            let device = mine[0].device.clone();
            let unpacked = unpack(&event, device);
            assert_eq!(unpacked, mine, "recorded readings differ from the journal's");
        }
        assert_eq!(seen, expected, "recorded readings");
    }

    /// Each direct device's account sent exactly its readings, in the order of its nonces, to its own `Barcode`.
    fn check_direct(&self, site: &Site, by_device: &HashMap<String, Vec<Value>>) {
        let attempts = site.rows(&["attempts"]);
        for device in site.rows(&["device", "list"]).iter().filter(|d| d["settlement"] == "direct") {
            let none = Vec::new();
            let rows = by_device.get(device["device"].as_str().unwrap()).unwrap_or(&none);
            let mut sent: Vec<&Value> =
                attempts.iter().filter(|t| t["account"] == device["address"] && t["kind"] == "settle").collect();
            sent.sort_by_key(|t| t["nonce"].as_u64());
            let values: Vec<U256> = sent.iter().map(|t| self.set_value(t, &device["barcode"])).collect();
            let expected: Vec<U256> =
                rows.iter().map(|r| U256::from_str_radix(r["payload"].as_str().unwrap(), 10).unwrap()).collect();
            assert_eq!(values, expected, "set() calls of {}", device["device"]);
            let nonce = rpc(self.port, "eth_getTransactionCount", json!([device["address"], "latest"])).unwrap();
            let used = u64::from_str_radix(nonce.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
            if !rows.is_empty() {
                assert_eq!(used, 1 + rows.len() as u64, "one deployment and one transaction for each reading");
                let call = json!([{ "to": device["barcode"], "data": hex::encode_prefixed(Barcode::getCall {}.abi_encode()) }, "latest"]);
                let stored = Barcode::getCall::abi_decode_returns(&bytes(&rpc(self.port, "eth_call", call).unwrap()));
                assert_eq!(stored.unwrap(), *expected.last().unwrap(), "get()");
            }
        }
    }

    fn set_value(&self, sent: &Value, barcode: &Value) -> U256 {
        let receipt = rpc(self.port, "eth_getTransactionReceipt", json!([sent["tx"]])).unwrap();
        assert_eq!(receipt["status"], "0x1", "{sent}");
        let transaction = rpc(self.port, "eth_getTransactionByHash", json!([sent["tx"]])).unwrap();
        assert_eq!(&transaction["to"], barcode);
        Barcode::setCall::abi_decode(&bytes(&transaction["input"])).unwrap().value
    }
}
