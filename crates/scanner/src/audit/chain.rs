//! What the chain itself holds of the readings, asked of a node and not of the gateway.

use std::collections::{BTreeMap, HashMap, HashSet};

use alloy::primitives::{Address, B256, hex};
use anyhow::{Context, Result};
use windlass_contract::Windlass;
use windlass_proof::Tree;
use windlass_reading::{DeviceId, Domain, Reading, leaf, unpack_run, unpack_single};

use super::{
    Whose,
    api::{Api, Row, Window},
    direct::{self, Set},
    node::Node,
};

/// What the gateway's rows say that the chain must hold.
pub(super) struct Expected {
    domain: Domain,
    contract: Address,
    window: Window,
    /// Devices of the ledger.
    own: HashSet<String>,
    /// First and last block of a settled reading of the ledger's devices.
    blocks: Option<(u64, u64)>,
    /// Every anchored batch of the time, also those of other devices.
    anchored: BTreeMap<u64, Anchored>,
    /// Readings that events hold, by device and number, and whether the ledger has them.
    recorded: HashMap<(B256, u64), (Reading, bool)>,
    devices: HashMap<B256, DeviceId>,
    /// Readings that have a transaction each.
    direct: BTreeMap<String, Vec<Set>>,
}

/// What the gateway's rows say of a batch.
#[derive(Default)]
struct Anchored {
    leaves: Vec<B256>,
    /// Readings of the ledger's devices, received in the time that the audit looks at.
    own: u64,
    /// Those of them that the ledger has.
    claimed: u64,
}

/// What the chain said.
#[derive(Default)]
pub(super) struct Found {
    /// Readings that it holds, each once.
    pub(super) on_chain: u64,
    /// Those of them that the ledger has.
    pub(super) confirmed: u64,
    /// The ledger's, in a batch that cannot be hashed anew because readings of it have left for an archive.
    pub(super) unchecked: u64,
    pub(super) problems: Vec<String>,
}

/// The roots that events name: for how many readings, and how often.
type Roots = HashMap<B256, (u64, u32)>;

impl Expected {
    pub(super) fn new(chain_id: u64, contract: Address, window: Window, own: HashSet<String>) -> Self {
        Self {
            domain: Domain::new(chain_id, contract),
            contract,
            window,
            own,
            blocks: None,
            anchored: BTreeMap::new(),
            recorded: HashMap::new(),
            devices: HashMap::new(),
            direct: BTreeMap::new(),
        }
    }

    /// Another device's row counts only as a part of its batch, whether that is on chain yet or not.
    pub(super) fn add(&mut self, row: &Row, whose: Whose) -> Result<()> {
        let own = whose != Whose::Another;
        let claimed = whose == Whose::Ledger;
        if own && row.state != "final" {
            return Ok(());
        }
        if own {
            let block = row.block.with_context(|| format!("{} of {} has no block", row.sequence, row.device))?;
            self.blocks = Some(self.blocks.map_or((block, block), |(first, last)| (first.min(block), last.max(block))));
        }
        match (row.settlement.as_str(), row.batch) {
            ("anchor", None) if own => anyhow::bail!("{} of {} has no batch", row.sequence, row.device),
            ("anchor", Some(batch)) => {
                let leaf = self.leaf(row)?;
                let anchored = self.anchored.entry(batch).or_default();
                anchored.leaves.push(leaf);
                anchored.own += u64::from(own);
                anchored.claimed += u64::from(claimed);
            }
            ("batch", _) if own => {
                let reading = reading(row)?;
                let device = reading.device.hash();
                self.devices.entry(device).or_insert_with(|| reading.device.clone());
                self.recorded.insert((device, reading.sequence), (reading, claimed));
            }
            ("direct", _) if own => {
                let tx = row.tx.clone().context("a reading without a transaction")?;
                let set = Set { sequence: row.sequence, payload: row.payload.clone(), tx, claimed };
                self.direct.entry(row.device.clone()).or_default().push(set);
            }
            _ => {}
        }
        Ok(())
    }

    fn leaf(&self, row: &Row) -> Result<B256> {
        let reading = reading(row)?;
        Ok(leaf(&reading, self.domain.reading(&reading)))
    }

    /// Asks the node for all of it.
    pub(super) async fn look_up(mut self, api: &Api, node: &Node) -> Result<Found> {
        let mut found = Found::default();
        let Some((first, last)) = self.blocks else { return Ok(found) };
        if self.anchored.values().any(|batch| batch.own > 0) {
            let events = node.events::<Windlass::Anchored>(self.contract, first, last).await?;
            self.check_anchors(&events, api, &mut found).await?;
        }
        if !self.recorded.is_empty() {
            let events = node.events::<Windlass::Recorded>(self.contract, first, last).await?;
            self.check_recorded(events, &mut found);
        }
        direct::check(&self.direct, api, node, &mut found).await?;
        Ok(found)
    }

    /// Each batch's readings hash to a root that was anchored once, and every anchor of these submitters is of such a batch.
    async fn check_anchors(&mut self, events: &[Windlass::Anchored], api: &Api, found: &mut Found) -> Result<()> {
        let mut roots = Roots::new();
        for event in events {
            roots.entry(event.root).or_insert((event.count.into(), 0)).1 += 1;
        }
        let mut told = HashSet::new();
        for (number, mut batch) in std::mem::take(&mut self.anchored) {
            let own = batch.own > 0;
            let leaves = std::mem::take(&mut batch.leaves);
            let (count, root) = (leaves.len() as u64, Tree::new(leaves)?.root());
            if let Some(&(anchored, 1)) = roots.get(&root)
                && anchored == count
            {
                told.insert(root);
                if own {
                    found.on_chain += count;
                    found.confirmed += batch.claimed;
                }
            } else if own {
                told.extend(self.check_whole(number, &batch, &roots, api, found).await?);
            }
        }
        let ours: HashSet<_> =
            events.iter().filter(|event| told.contains(&event.root)).map(|event| event.submitter).collect();
        for event in events.iter().filter(|event| ours.contains(&event.submitter) && !told.contains(&event.root)) {
            self.check_other(event, api, found).await?;
        }
        Ok(())
    }

    /// A batch of which not all readings are of the time that the audit looks at: all of them are asked for. Gives its root.
    async fn check_whole(
        &self,
        number: u64,
        batch: &Anchored,
        roots: &Roots,
        api: &Api,
        found: &mut Found,
    ) -> Result<Option<B256>> {
        let (leaves, own) = self.whole(number, api).await?;
        let said = api.batch(number).await?;
        let (count, root) =
            (leaves.len() as u64, if leaves.is_empty() { None } else { Some(Tree::new(leaves)?.root()) });
        if own != batch.own {
            found.problems.push(format!("the gateway contradicts itself about what is in batch {number}"));
        }
        match root.and_then(|root| roots.get(&root)) {
            Some(&(anchored, 1)) if anchored == count => {
                found.on_chain += count;
                found.confirmed += batch.claimed;
                return Ok(root);
            }
            Some((anchored, times)) => found
                .problems
                .push(format!("batch {number} of {count} readings was anchored {times} times, as {anchored} readings")),
            // Then only the gateway's word says what its root was made of; that root must have been anchored all the same.
            None if said.archive.is_some() && said.root.and_then(|root| roots.get(&root)) == Some(&(said.count, 1)) => {
                found.unchecked += batch.claimed;
                return Ok(said.root);
            }
            None => {
                found.problems.push(format!("the root of batch {number}, {count} readings, is not on chain"));
            }
        }
        Ok(root)
    }

    /// An anchor that is of none of the batches of the time: it must be of another that the gateway has, without readings
    /// that the audit looks at.
    async fn check_other(&self, event: &Windlass::Anchored, api: &Api, found: &mut Found) -> Result<()> {
        let Some(said) = api.batch_with(event.root).await? else {
            let problem =
                format!("an anchor of {} readings, {}, is of no batch of the gateway", event.count, event.root);
            found.problems.push(problem);
            return Ok(());
        };
        let (leaves, own) = self.whole(said.batch, api).await?;
        let hashes = !leaves.is_empty() && Tree::new(leaves)?.root() == event.root;
        if own > 0 || !(hashes || said.archive.is_some()) {
            found.problems.push(format!("batch {} was anchored as something else", said.batch));
        }
        Ok(())
    }

    /// All leaves of a batch, and how many are of the ledger's devices and of the time that the audit looks at.
    async fn whole(&self, batch: u64, api: &Api) -> Result<(Vec<B256>, u64)> {
        let (mut leaves, mut own) = (Vec::new(), 0);
        api.readings_of(batch, |row| {
            own += u64::from(self.own.contains(&row.device) && self.window.contains(row.received_at));
            leaves.push(self.leaf(&row));
        })
        .await?;
        Ok((leaves.into_iter().collect::<Result<_>>()?, own))
    }

    /// The events hold each reading once, as the gateway tells it.
    fn check_recorded(&mut self, events: Vec<Windlass::Recorded>, found: &mut Found) {
        let mut numbers: HashMap<B256, (u64, u64)> = HashMap::new();
        for (device, sequence) in self.recorded.keys() {
            let (first, last) = numbers.entry(*device).or_insert((*sequence, *sequence));
            (*first, *last) = ((*first).min(*sequence), (*last).max(*sequence));
        }
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
                    continue;
                }
                let told = numbers.get(&event.device).is_some_and(|(first, last)| (*first..=*last).contains(&key.1));
                match self.recorded.remove(&key) {
                    Some((told, claimed)) if told == reading => {
                        found.on_chain += 1;
                        found.confirmed += u64::from(claimed);
                    }
                    Some(_) => found.problems.push(format!("{} of {device} differs on chain", reading.sequence)),
                    None if told => found.problems.push(format!("{} of {device} is on chain only", reading.sequence)),
                    // Before or after the time that the audit looks at.
                    None => {}
                }
            }
        }
        for (reading, _) in self.recorded.values() {
            found.problems.push(format!("{} of {} is not on chain", reading.sequence, reading.device));
        }
    }
}

fn reading(row: &Row) -> Result<Reading> {
    let device = DeviceId::new(&row.device)?;
    let payload = match row.payload.strip_prefix("0x") {
        Some(digits) => hex::decode(digits)?,
        None => row.payload.as_bytes().to_vec(),
    };
    Ok(Reading { device, epoch: row.epoch, sequence: row.sequence, observed_at_ms: row.observed_at, payload })
}

/// A run that was packed off chain, or one reading that its device signed.
fn unpack(event: &Windlass::Recorded, device: &DeviceId) -> Option<Vec<Reading>> {
    let (epoch, sequence) = (event.epoch, event.firstSequence);
    if let (Ok((observed_at_ms, payload)), 1) = (unpack_single(&event.readings), event.count) {
        return Some(vec![Reading { device: device.clone(), epoch, sequence, observed_at_ms, payload }]);
    }
    unpack_run(&event.readings, device, epoch, sequence, event.count).ok()
}
