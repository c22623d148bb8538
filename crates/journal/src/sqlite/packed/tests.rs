//! Whoever reads the journal cannot tell which readings share a row: random histories against a plain list of readings.

use std::{collections::BTreeMap, sync::mpsc};

use alloy::primitives::B256;
use tempfile::TempDir;
use windlass_reading::{Claim, DeviceId, Draft, Payload, Reading, Settlement};

use super::super::{
    Sqlite,
    tests::{batch, device, id, included, open, transaction},
};
use crate::{Append, BatchDraft, Entry, Filter, Inclusion, Journal, Ledger, Listing, Span, State, Stored};

const DEVICES: [(&str, Settlement); 3] =
    [("a", Settlement::Anchor), ("b", Settlement::Batch), ("c", Settlement::Direct)];

/// A reading as it was handed over, and what became of it.
#[derive(Debug, Clone)]
struct Known {
    arrival: u64,
    name: &'static str,
    settlement: Settlement,
    sequence: u64,
    entry: Entry,
    batch: Option<u64>,
}

impl Known {
    fn reading(&self) -> Reading {
        let (observed_at_ms, payload) = (self.entry.draft.observed_at_ms, self.entry.draft.payload.to_vec());
        Reading { device: id(self.name), epoch: 1, sequence: self.sequence, observed_at_ms, payload }
    }
}

/// Numbers out of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The journal and what must be in it.
struct History {
    dice: Dice,
    dir: TempDir,
    journal: Sqlite,
    known: Vec<Known>,
    /// Open transactions with their batches.
    open: Vec<(u64, u64)>,
    nonce: u64,
    now_ms: u64,
}

async fn opened(dir: &TempDir) -> Sqlite {
    let journal = open(dir).await;
    journal.upsert_devices(vec![device("c", Settlement::Direct)]).await.unwrap();
    journal.set_registered(vec![(id("b"), 1)]).await.unwrap();
    journal
}

impl History {
    async fn new(seed: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let journal = opened(&dir).await;
        Self { dice: Dice(seed), dir, journal, known: Vec::new(), open: Vec::new(), nonce: 0, now_ms: 1_000 }
    }

    async fn step(&mut self) {
        match self.dice.below(10) {
            0..=4 => self.append(),
            5..=6 => self.take().await,
            7 => self.skip().await,
            8 => self.displace().await,
            _ => {
                self.journal.close().await;
                // The directory is free once the last of the old one is gone.
                self.journal = Sqlite::read_only(self.dir.path()).unwrap();
                self.journal = opened(&self.dir).await;
            }
        }
    }

    fn append(&mut self) {
        let (name, settlement) = DEVICES[self.dice.below(3) as usize];
        let most = if self.dice.one_in(8) { 300 } else { 20 };
        let length = if self.dice.one_in(4) { 200 } else { 8 };
        let readings: Vec<Entry> = (0..=self.dice.below(most)).map(|_| self.entry(length)).collect();
        let sequence = self.last(name) + 1;
        let (reply, outcome) = mpsc::channel();
        let reply = Box::new(move |r| reply.send(r).unwrap());
        let append = Append {
            device: id(name),
            epoch: 1,
            settlement,
            sequence,
            readings: readings.clone(),
            quarantine: None,
            reply,
        };
        self.journal.append(append).unwrap();
        let arrival = self.known.len() as u64 + 1;
        assert_eq!(outcome.recv().unwrap(), Ok(Stored { sequence, arrival }));
        for (step, entry) in (0..).zip(readings) {
            let (arrival, sequence) = (arrival + step, sequence + step);
            self.known.push(Known { arrival, name, settlement, sequence, entry, batch: None });
        }
    }

    fn entry(&mut self, length: u64) -> Entry {
        self.now_ms += u64::from(self.dice.one_in(120));
        let unique = self.dice.0;
        let exactly_once = self.dice.one_in(120);
        let packet_id = (exactly_once || !self.dice.one_in(3)).then_some(1 + self.dice.below(60_000) as u16);
        let claim = Claim { epoch: 1, sequence: 1, signature: vec![7; 64] };
        let observed_at_ms = self.now_ms - 500 * u64::from(self.dice.one_in(90));
        Entry {
            draft: Draft {
                observed_at_ms,
                payload: vec![b'1'; 1 + self.dice.below(length) as usize].into(),
                message_id: self.dice.one_in(150).then(|| unique.to_string()),
                claim: self.dice.one_in(150).then_some(claim),
            },
            packet_id,
            exactly_once,
            received_at_ms: self.now_ms,
        }
    }

    /// A batch of some readings that are in none.
    async fn take(&mut self) {
        let (_, settlement) = DEVICES[self.dice.below(3) as usize];
        let free: Vec<u64> =
            self.known.iter().filter(|k| k.batch.is_none() && k.settlement == settlement).map(|k| k.arrival).collect();
        // All that came first, or here and there, in no order.
        let mut arrivals: Vec<u64> = if self.dice.one_in(2) {
            let first = self.dice.below(free.len() as u64 + 1) as usize;
            free[..first].to_vec()
        } else {
            free.into_iter().filter(|_| !self.dice.one_in(4)).collect()
        };
        arrivals.reverse();
        if arrivals.is_empty() {
            return;
        }
        let draft = BatchDraft { settlement, root: None, head: None, ..batch(arrivals.clone()) };
        let opened = self.journal.open(transaction(self.nonce), Some(draft.clone())).await.unwrap();
        self.nonce += 1;
        let id = opened.batch.unwrap();
        // What is in a batch can be in no other.
        let again = BatchDraft { arrivals: vec![arrivals[self.dice.below(arrivals.len() as u64) as usize]], ..draft };
        assert!(self.journal.open(transaction(200), Some(again)).await.is_err());
        self.known.iter_mut().filter(|k| arrivals.contains(&k.arrival)).for_each(|k| k.batch = Some(id));
        self.open.push((opened.transaction, id));
    }

    /// A batch is mined without some of its readings.
    async fn skip(&mut self) {
        let Some((transaction, id)) = self.open.pop() else { return };
        let of_batch: Vec<&Known> = self.known.iter().filter(|k| k.batch == Some(id)).collect();
        let one = of_batch[self.dice.below(of_batch.len() as u64) as usize];
        let span = Span {
            device: super::super::tests::id(one.name),
            first: one.sequence,
            count: 1 + self.dice.below(9) as u32,
        };
        let released = |k: &Known| {
            k.batch == Some(id)
                && id_of(k) == span.device
                && (span.first..span.first + u64::from(span.count)).contains(&k.sequence)
        };
        // Transactions are numbered from 1 in a new journal, as the hashes of their attempts are.
        let inclusion = Inclusion { tx: B256::repeat_byte(transaction as u8), ..included(true, vec![span.clone()]) };
        self.journal.mined(transaction, inclusion).await.unwrap();
        self.known.iter_mut().filter(|k| released(k)).for_each(|k| k.batch = None);
    }

    /// A transaction can never be included any more.
    async fn displace(&mut self) {
        let Some((transaction, id)) = self.open.pop() else { return };
        let count = self.known.iter().filter(|k| k.batch == Some(id)).count();
        assert_eq!(self.journal.displaced(transaction).await.unwrap(), count as u64);
        self.known.iter_mut().filter(|k| k.batch == Some(id)).for_each(|k| k.batch = None);
    }

    fn last(&self, name: &str) -> u64 {
        self.known.iter().filter(|k| k.name == name).map(|k| k.sequence).max().unwrap_or(0)
    }

    async fn check(&mut self) {
        assert_eq!(self.journal.faults().await.unwrap(), Vec::<String>::new());
        self.check_listings().await;
        self.check_devices().await;
        self.check_unsettled().await;
        self.check_batches().await;
        let (after, upto) = (self.dice.below(900), self.dice.below(900));
        let limit = 1 + self.dice.below(100) as usize;
        let log =
            self.known.iter().filter(|k| k.settlement == Settlement::Anchor && k.arrival > after && k.arrival <= upto);
        let log: Vec<_> = log.take(limit).map(|k| (k.arrival, k.reading())).collect();
        assert_eq!(self.journal.log_readings(after, upto, limit).await.unwrap(), log);
        assert_eq!(self.journal.totals().await.unwrap().accepted, self.known.len() as u64);
        let free = self.known.iter().filter(|k| k.batch.is_none()).count();
        let sent = self.known.iter().filter(|k| self.open.iter().any(|(_, id)| k.batch == Some(*id))).count();
        assert_eq!(self.journal.unsettled_count(), (free + sent) as u64);
    }

    async fn check_listings(&mut self) {
        let all = self.journal.readings(Filter::default()).await.unwrap();
        assert_eq!(all.len(), self.known.len());
        for (row, known) in all.iter().zip(&self.known) {
            assert_eq!((row.arrival, &row.reading, row.batch), (known.arrival, &known.reading(), known.batch));
            assert_eq!((row.received_at_ms, row.settlement), (known.entry.received_at_ms, known.settlement));
            assert_eq!(row.signature.is_some(), known.entry.draft.claim.is_some());
        }
        for newest in [false, true] {
            let after = (!self.dice.one_in(4)).then(|| self.dice.below(900));
            let (name, settlement) = DEVICES[self.dice.below(3) as usize];
            let limit = 1 + self.dice.below(200);
            let until_ms = self.dice.one_in(2).then_some(self.now_ms - 2);
            let device = self.dice.one_in(2).then(|| id(name));
            let filter = Filter {
                after,
                newest,
                limit: Some(limit),
                until_ms,
                device: device.clone(),
                settlement: Some(settlement),
                ..Filter::default()
            };
            let mut expected: Vec<_> = all
                .iter()
                .filter(|r| r.settlement == settlement && device.as_ref().is_none_or(|d| *d == r.reading.device))
                .filter(|r| until_ms.is_none_or(|until| r.received_at_ms < until))
                .filter(|r| after.is_none_or(|after| if newest { r.arrival < after } else { r.arrival > after }))
                .map(|r| r.arrival)
                .collect();
            if newest {
                expected.reverse();
            }
            expected.truncate(limit as usize);
            let found = self.journal.readings(filter.clone()).await.unwrap();
            assert_eq!(found.iter().map(|r| r.arrival).collect::<Vec<_>>(), expected, "{filter:?}");
        }
    }

    async fn check_devices(&mut self) {
        for (name, _) in DEVICES {
            let (last, state) = (self.last(name), self.journal.device(&id(name)).unwrap().unwrap());
            assert_eq!(state.last_sequence, last);
            let mut recent: Vec<(u64, u16, Payload, bool)> = Vec::new();
            for known in self.known.iter().filter(|k| k.name == name) {
                let Some(packet_id) = known.entry.packet_id else { continue };
                if known.entry.exactly_once {
                    // The id is used again: what it was for is over.
                    recent.retain(|(_, id, _, unreleased)| !(*unreleased && *id == packet_id));
                }
                if known.entry.exactly_once || known.sequence + 64 > last {
                    recent.push((
                        known.sequence,
                        packet_id,
                        known.entry.draft.payload.clone(),
                        known.entry.exactly_once,
                    ));
                }
            }
            let found: Vec<_> =
                state.recent.into_iter().map(|r| (r.sequence, r.packet_id, r.payload, r.unreleased)).collect();
            assert_eq!(found, recent);
            let sequence = 1 + self.dice.below(last + 2);
            let known = self.known.iter().find(|k| k.name == name && k.sequence == sequence);
            let row = self.journal.reading(id(name), sequence).await.unwrap();
            assert_eq!(row.map(|r| (r.arrival, r.reading)), known.map(|k| (k.arrival, k.reading())));
            assert_eq!(self.journal.find_reading(&id(name), sequence).unwrap(), known.map(Known::reading));
            let listing =
                self.journal.device_listing(Filter { device: Some(id(name)), ..Filter::default() }).await.unwrap();
            assert_eq!(listing[0].last_sequence, last);
        }
    }

    async fn check_unsettled(&mut self) {
        let limit = 1 + self.dice.below(300) as usize;
        for (name, settlement) in DEVICES {
            let free = self.known.iter().filter(|k| k.batch.is_none() && k.name == name);
            let expected: Vec<_> = free.take(limit).map(|k| (k.arrival, k.entry.received_at_ms, k.reading())).collect();
            let found = if settlement == Settlement::Direct {
                let mut of_each = self.journal.unsettled_direct(limit).await.unwrap();
                of_each.pop().map(|(_, found)| found).unwrap_or_default()
            } else {
                self.journal.unsettled(settlement, (0, 1), Vec::new(), limit).await.unwrap()
            };
            let found: Vec<_> = found.into_iter().map(|u| (u.arrival, u.received_at_ms, u.reading)).collect();
            assert_eq!(found, expected);
            let open = |k: &&Known| k.batch.is_none_or(|id| self.open.iter().any(|(_, open)| *open == id));
            let unsettled = self.known.iter().filter(|k| k.name == name).filter(open).count();
            assert_eq!(self.journal.device_unsettled(id(name)).await.unwrap(), unsettled as u64);
        }
    }

    async fn check_batches(&mut self) {
        let mut mined = 0;
        let mut batches: BTreeMap<u64, Vec<&Known>> = BTreeMap::new();
        for known in &self.known {
            if let Some(batch) = known.batch {
                batches.entry(batch).or_default().push(known);
            }
        }
        for (batch, mut readings) in batches {
            mined += if self.open.iter().any(|(_, id)| *id == batch) { 0 } else { readings.len() };
            readings.sort_by_key(|k| (k.name, k.sequence));
            let expected: Vec<Reading> = readings.iter().map(|k| k.reading()).collect();
            assert_eq!(self.journal.batch_readings(batch).await.unwrap(), expected);
            let mut received = self.journal.batch_received_at(batch).await.unwrap();
            let mut expected: Vec<u64> = readings.iter().map(|k| k.entry.received_at_ms).collect();
            received.sort_unstable();
            expected.sort_unstable();
            assert_eq!(received, expected);
            let filter = Filter { batch: Some(batch), ..Filter::default() };
            assert_eq!(self.journal.readings(filter).await.unwrap().len(), readings.len());
        }
        assert_eq!(self.journal.confirmations(0).await.unwrap().len(), mined);
        let states = self.journal.readings(Filter { state: Some(State::Mined), ..Filter::default() }).await.unwrap();
        assert_eq!(states.len(), mined);
    }

    /// How many rows there are.
    fn rows(&self) -> u64 {
        let sql = "SELECT COUNT(*) FROM readings";
        self.journal.inner.scan.lock().unwrap().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
    }
}

fn id_of(known: &Known) -> DeviceId {
    id(known.name)
}

#[tokio::test]
async fn nobody_can_tell_which_readings_share_a_row() {
    let (mut readings, mut rows) = (0, 0);
    for seed in 1..=24 {
        let mut history = History::new(seed * 0x9e37_79b9).await;
        for step in 0..30 {
            history.step().await;
            if step % 6 == 5 {
                history.check().await;
            }
        }
        history.check().await;
        readings += history.known.len() as u64;
        rows += history.rows();
    }
    assert!(readings > 2 * rows, "{readings} readings in {rows} rows: hardly any share one");
}

#[tokio::test]
async fn what_was_packed_leaves_for_an_archive_and_comes_out_of_it() {
    let mut history = History::new(77).await;
    while history.known.iter().filter(|k| k.name == "a").count() < 300 {
        history.append();
    }
    let free = |k: &&Known| k.settlement == Settlement::Anchor;
    let arrivals: Vec<u64> = history.known.iter().filter(free).map(|k| k.arrival).take(280).collect();
    let opened = history.journal.open(transaction(0), Some(batch(arrivals))).await.unwrap();
    history.journal.mined(opened.transaction, included(true, Vec::new())).await.unwrap();
    history.journal.finalized(vec![opened.transaction]).await.unwrap();
    let file = history.dir.path().join("old.sqlite");
    let moved = history.journal.archive(file.clone(), u64::MAX).await.unwrap();
    assert_eq!((moved.batches, moved.readings), (1, 280));
    // The device's newest stay, and whatever shares a row with them.
    let last = history.last("a");
    assert!((1..=last - 64).contains(&moved.left) && moved.left + 64 + MOST_TOGETHER >= 280, "{moved:?} of {last}");
    assert_eq!(history.journal.totals().await.unwrap().accepted, history.known.len() as u64);
    assert_eq!(history.journal.faults().await.unwrap(), Vec::<String>::new());
    let base = history.journal.log_base().await.unwrap();
    let stay = history.journal.readings(Filter { after: Some(base), ..Filter::default() }).await.unwrap();
    let expected: Vec<u64> = (base + 1..=history.known.len() as u64).collect();
    assert_eq!(stay.iter().map(|r| r.arrival).collect::<Vec<_>>(), expected);
    let copy = history.journal.backup(&history.dir.path().join("copy.sqlite")).unwrap();
    assert_eq!(copy.readings, history.known.len() as u64 - moved.left);
    let old = Sqlite::read_only_file(&file).unwrap();
    assert_eq!(old.totals().await.unwrap().accepted, 280);
    assert_eq!(old.faults().await.unwrap(), Vec::<String>::new());
    let expected = history.known.iter().find(|k| k.name == "a").unwrap();
    assert_eq!(old.reading(id("a"), 1).await.unwrap().unwrap().reading, expected.reading());
}

/// Readings that one row holds at most.
const MOST_TOGETHER: u64 = super::MOST + 1;

#[tokio::test]
async fn a_row_that_says_more_than_it_holds_is_a_fault() {
    for damage in [
        "rest = x'00'",
        "rest = substr(rest, 1, 5)",
        "rest = CAST(rest || x'000000' AS BLOB)",
        "more = more + 1",
        "more = -1",
    ] {
        let mut history = History::new(5).await;
        while history.rows() == history.known.len() as u64 {
            history.append();
        }
        history.journal.close().await;
        let other = rusqlite::Connection::open(history.dir.path().join(super::super::FILE)).unwrap();
        other.execute(&format!("UPDATE readings SET {damage} WHERE more > 0"), []).unwrap();
        let faults = history.journal.faults().await.unwrap();
        assert!(faults.iter().any(|fault| fault.contains("not as many readings as they say")), "{damage}: {faults:?}");
        assert!(history.journal.readings(Filter::default()).await.is_err(), "{damage}");
    }
}
