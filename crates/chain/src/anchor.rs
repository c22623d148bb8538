//! What one anchor says, as calldata and as a link of its submitter's chain. Pure.

use std::collections::{BTreeMap, HashSet};

use alloy::{
    primitives::{B256, Bytes, keccak256},
    sol_types::{SolCall, SolValue},
};
use windlass_contract::{IWindlass, Windlass};
use windlass_journal::Unsettled;
use windlass_reading::{DeviceId, Domain, Leaves, Reading};

/// Gas limit of an anchor without ranges: 51,419 for the first, 34,703 after (contracts/snapshots); the rest is margin.
const GAS: u64 = 120_000;
/// Gas limit for each range: 23,400 for a device's first, 6,260 after (contracts/snapshots).
const RANGE_GAS: u64 = 30_000;
/// What an anchor uses after the first one, and a range after its device's first (contracts/snapshots).
const USES: u64 = 34_703;
const RANGE_USES: u64 = 6_260;
/// Devices in a batch with ranges: their first ranges still fit a transaction (EIP-7825: 16,777,216 gas).
const MOST_RANGES: usize = 500;

/// One anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The submitter's head before it.
    pub previous: B256,
    /// The submitter's number for it.
    pub number: u64,
    /// Root of the batch's tree.
    pub root: B256,
    /// How many readings the tree has.
    pub count: u32,
    /// Size and root of the append-only log; both zero where an anchor says nothing of it.
    pub log: (u64, B256),
    /// Which sequences of each device, by device hash; empty without ranges.
    pub ranges: Vec<IWindlass::Range>,
}

impl Anchor {
    /// `keccak256(abi.encode(previousHead, batch, root, count, logSize, logRoot, rangesHash))`.
    pub fn head(&self) -> B256 {
        let ranges = if self.ranges.is_empty() { B256::ZERO } else { keccak256(self.ranges.abi_encode()) };
        let (size, root) = self.log;
        keccak256((self.previous, self.number, self.root, self.count, size, root, ranges).abi_encode())
    }

    /// The calldata, with its gas limit.
    pub(crate) fn call(&self) -> (Bytes, u64) {
        let call = Windlass::anchorCall {
            previousHead: self.previous,
            batch: self.number,
            root: self.root,
            count: self.count,
            logSize: self.log.0,
            logRoot: self.log.1,
            ranges: self.ranges.clone(),
        };
        (call.abi_encode().into(), GAS + RANGE_GAS * self.ranges.len() as u64)
    }

    /// What the transaction will use, as far as can be said before.
    pub(crate) fn expected_gas(&self) -> u64 {
        USES + RANGE_USES * self.ranges.len() as u64
    }
}

/// The leaves of a batch, in the order of the readings.
pub(crate) fn leaves(readings: &[Unsettled], domain: &Domain) -> Vec<B256> {
    let mut leaves = Leaves::new(domain);
    readings.iter().map(|u| leaves.leaf(&u.reading)).collect()
}

/// From which to which number each device has readings here, both ends included, in the order of the device hashes. A
/// device's readings follow each other.
pub fn ranges<'a>(readings: impl IntoIterator<Item = &'a Reading>) -> Vec<IWindlass::Range> {
    let mut ends: BTreeMap<&DeviceId, (u64, u64)> = BTreeMap::new();
    for reading in readings {
        let (first, last) = ends.entry(&reading.device).or_insert((reading.sequence, reading.sequence));
        (*first, *last) = ((*first).min(reading.sequence), (*last).max(reading.sequence));
    }
    let mut ranges: Vec<_> = ends
        .into_iter()
        .map(|(device, (first, last))| IWindlass::Range { device: device.hash(), first, last })
        .collect();
    ranges.sort_by_key(|range| range.device);
    ranges
}

/// As many of the oldest as have ranges that fit one transaction.
pub(crate) fn fitting(mut readings: Vec<Unsettled>) -> Vec<Unsettled> {
    let mut devices = HashSet::new();
    let fits = |u: &Unsettled| devices.insert(u.reading.device.clone()) && devices.len() > MOST_RANGES;
    if let Some(end) = readings.iter().position(fits) {
        readings.truncate(end);
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(device: &str, sequence: u64) -> Reading {
        let device = DeviceId::new(device).unwrap();
        Reading { device, epoch: 1, sequence, observed_at_ms: 5, payload: vec![1] }
    }

    #[test]
    fn heads_are_the_frozen_ones() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/heads.json");
        let file: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let mut with_ranges = 0;
        for anchor in file["anchors"].as_array().unwrap() {
            let hash = |value: &serde_json::Value| -> B256 { value.as_str().unwrap().parse().unwrap() };
            let number = |value: &serde_json::Value| -> u64 { value.as_str().unwrap().parse().unwrap() };
            let range = |r: &serde_json::Value| IWindlass::Range {
                device: hash(&r["device"]),
                first: number(&r["first"]),
                last: number(&r["last"]),
            };
            let made = Anchor {
                previous: hash(&anchor["previousHead"]),
                number: number(&anchor["batch"]),
                root: hash(&anchor["root"]),
                count: u32::try_from(anchor["count"].as_u64().unwrap()).unwrap(),
                log: (number(&anchor["logSize"]), hash(&anchor["logRoot"])),
                ranges: anchor["ranges"].as_array().unwrap().iter().map(range).collect(),
            };
            assert_eq!(made.head(), hash(&anchor["head"]), "{anchor}");
            with_ranges += usize::from(!made.ranges.is_empty());
        }
        assert!(with_ranges > 0);
    }

    #[test]
    fn each_device_has_one_range_whatever_the_order() {
        let mut readings: Vec<_> = (3..6).map(|n| reading("a", n)).chain((1..3).map(|n| reading("b", n))).collect();
        let made = ranges(&readings);
        assert_eq!(made.iter().map(|r| (r.first, r.last)).collect::<HashSet<_>>(), [(3, 5), (1, 2)].into());
        assert!(made.windows(2).all(|pair| pair[0].device < pair[1].device));
        readings.reverse();
        assert_eq!(ranges(&readings), made);
    }

    #[test]
    fn a_batch_with_ranges_has_no_more_devices_than_fit_a_transaction() {
        let waiting = |device: usize, sequence| Unsettled {
            arrival: 1,
            received_at_ms: 5,
            reading: reading(&format!("d{device}"), sequence),
            signature: None,
        };
        let many: Vec<_> = (0..600).map(|d| waiting(d, 1)).collect();
        assert_eq!(fitting(many).len(), MOST_RANGES);
        let few: Vec<_> = (0..3_000).map(|n| waiting(n % 500, 1 + n as u64 / 500)).collect();
        assert_eq!(fitting(few).len(), 3_000);
        assert!(GAS + RANGE_GAS * MOST_RANGES as u64 <= crate::config::MAX_TRANSACTION_GAS);
    }
}
