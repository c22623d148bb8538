//! Whatever lanes, failures and restarts do: each anchor's log is the readings up to the newest that was ever taken.

use std::sync::mpsc;

use alloy::primitives::{Address, Bytes};
use proptest::prelude::*;
use tempfile::TempDir;
use windlass_journal::{
    Append, Attempt, BatchDraft, DeviceRow, Entry, Inclusion, Journal, Kind, Options, Sqlite, TransactionDraft,
};
use windlass_reading::{DeviceId, Domain, Draft, Format, Reading, Settlement};

use super::*;
use crate::anchor;

/// What may happen between two anchors.
#[derive(Debug, Clone)]
enum Step {
    /// So many readings of this device come in; every fourth device does not settle by anchor.
    Arrive(u8, u8),
    /// This lane of so many takes at most so many readings into a batch.
    Take(u32, u32, usize),
    /// The oldest batch that is open reverts for good: its readings wait again.
    Revert,
    /// The process ends and starts.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6, 1u8..6).prop_map(|(device, count)| Step::Arrive(device, count)),
        4 => (0u32..3, 1u32..4, 1usize..9).prop_map(|(lane, of, limit)| Step::Take(lane % of, of, limit)),
        1 => Just(Step::Revert),
        1 => Just(Step::Restart),
    ]
}

struct Gateway {
    dir: TempDir,
    journal: Sqlite,
    contract: Contract,
    last: Option<LogState>,
    /// With more than one lane nothing may be taken for all there is.
    sequences: [u64; 6],
    all: Vec<(u64, Reading)>,
    nonce: u64,
    open: Vec<u64>,
    newest_taken: u64,
    size: u64,
}

impl Gateway {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let journal = Sqlite::open(dir.path(), &Options::default()).unwrap();
        let devices = (0..6).map(|i| DeviceRow {
            device: DeviceId::new(&format!("d-{i}")).unwrap(),
            format: Format::Digits,
            settlement: settlement(i),
            epoch: 1,
            key: None,
            custodial: None,
            end: windlass_journal::End::None,
            registered: 0,
            barcode: None,
        });
        journal.upsert_devices(devices.collect()).await.unwrap();
        let address = Address::repeat_byte(3);
        let contract = Contract { address, name: format!("1:{address}"), domain: Domain::new(1, address) };
        Self {
            dir,
            journal,
            contract,
            last: None,
            sequences: [0; 6],
            all: Vec::new(),
            nonce: 0,
            open: Vec::new(),
            newest_taken: 0,
            size: 0,
        }
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Arrive(device, count) => (0..count).for_each(|_| self.arrive(device)),
            Step::Take(lane, of, limit) => self.take((lane, of), limit).await,
            Step::Revert => self.revert().await,
            Step::Restart => {
                self.journal.close().await;
                // The old one holds the directory's lock until it is gone.
                let elsewhere = TempDir::new().unwrap();
                self.journal = Sqlite::open(elsewhere.path(), &Options::default()).unwrap();
                self.journal = Sqlite::open(self.dir.path(), &Options::default()).unwrap();
                self.last = None;
            }
        }
    }

    fn arrive(&mut self, device: u8) {
        let sequence = &mut self.sequences[usize::from(device)];
        *sequence += 1;
        let id = DeviceId::new(&format!("d-{device}")).unwrap();
        let payload = sequence.to_string().into_bytes();
        let (reply, stored) = mpsc::channel();
        let draft = Draft { observed_at_ms: *sequence, payload: payload.clone().into(), message_id: None, claim: None };
        let append = Append {
            device: id.clone(),
            epoch: 1,
            settlement: settlement(device),
            sequence: *sequence,
            readings: vec![Entry { draft, packet_id: None, exactly_once: false, received_at_ms: 1 }],
            quarantine: None,
            reply: Box::new(move |r| reply.send(r).unwrap()),
        };
        self.journal.append(append).unwrap();
        let arrival = stored.recv().unwrap().unwrap().arrival;
        let reading = Reading { device: id, epoch: 1, sequence: *sequence, observed_at_ms: *sequence, payload };
        if settlement(device) == Settlement::Anchor {
            self.all.push((arrival, reading));
        }
    }

    async fn take(&mut self, shard: (u32, u32), limit: usize) {
        let waiting = self.journal.unsettled(Settlement::Anchor, shard, vec![], limit).await.unwrap();
        if waiting.is_empty() {
            return;
        }
        let leaves = anchor::leaves(&waiting, &self.contract.domain);
        let taken = Taken { readings: &waiting, leaves: &leaves, all: shard.1 == 1 };
        let state = next(&self.journal, self.last.as_ref(), &self.contract, &taken).await.unwrap();
        self.newest_taken = waiting.iter().map(|u| u.arrival).fold(self.newest_taken, u64::max);
        self.expect(&state);
        self.write(waiting.iter().map(|u| u.arrival).collect(), state).await;
    }

    /// The definition: every reading up to the newest that was ever taken, in arrival order.
    fn expect(&mut self, state: &LogState) {
        let mut frontier = Frontier::default();
        for (_, reading) in self.all.iter().filter(|(arrival, _)| *arrival <= self.newest_taken) {
            frontier.append(leaf(reading, self.contract.domain.reading(reading)).as_slice());
        }
        assert_eq!((state.size, state.root), (frontier.size(), frontier.root()));
        assert_eq!((state.base, state.arrival), (0, self.newest_taken));
        assert!(state.size >= self.size, "it never shrinks");
        self.size = state.size;
    }

    async fn write(&mut self, arrivals: Vec<u64>, log: LogState) {
        let settlement = Settlement::Anchor;
        let hash = B256::from(alloy::primitives::U256::from(self.nonce + 1));
        let raw = Bytes::from_static(b"raw");
        let attempt = Attempt { hash, raw, max_fee_wei: 1, tip_wei: 1, cancel: false };
        let kind = Kind::Settle { settlement };
        let transaction = TransactionDraft { account: Address::ZERO, nonce: self.nonce, kind, attempt };
        let (root, head) = (Some(B256::ZERO), Some(B256::ZERO));
        let number = self.nonce + 1;
        let draft = BatchDraft { settlement, number, root, head, arrivals, runs: Vec::new(), log: Some(log.clone()) };
        self.open.push(self.journal.open(transaction, Some(draft)).await.unwrap().transaction);
        self.nonce += 1;
        self.last = Some(log);
    }

    async fn revert(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let id = self.open.remove(0);
        let inclusion = Inclusion {
            tx: B256::ZERO,
            block_number: 1,
            block_hash: B256::ZERO,
            success: false,
            gas_used: 1,
            at_ms: 1,
            skipped: Vec::new(),
        };
        self.journal.mined(id, inclusion).await.unwrap();
        self.journal.finalized(vec![id]).await.unwrap();
    }
}

fn settlement(device: u8) -> Settlement {
    if device % 4 == 3 { Settlement::Batch } else { Settlement::Anchor }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_anchor_states_the_readings_up_to_the_newest_that_was_ever_taken(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut gateway = Gateway::new().await;
            for step in &steps {
                gateway.step(step).await;
            }
        });
    }
}
