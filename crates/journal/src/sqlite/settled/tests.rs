//! Direct settlements become history without anybody noticing: numbers, nonces, archives, faults, plans, size.

mod same;

use std::sync::mpsc;

use alloy::primitives::{Address, B256, Bytes};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::JoinSet;
use windlass_reading::{Draft, Settlement};

use super::super::{
    Archived, FILE, Options, Sqlite,
    tests::{append, batch, device, id, included, open as open_journal},
};
use crate::{
    Append, AppendError, Attempt, BatchDraft, Entry, Error, Filter, Inclusion, Journal, Kind, Ledger, Listing, Opened,
    State, Stored, TransactionDraft,
};

/// The account of a device's lane.
fn account(of: u8) -> Address {
    Address::repeat_byte(0xa0_u8.wrapping_add(of))
}

/// Whoever writes to the file from outside.
fn other(dir: &TempDir) -> Connection {
    let c = Connection::open(dir.path().join(FILE)).unwrap();
    super::super::schema::without_foreign_keys(&c).unwrap();
    c
}

/// A hash that no other attempt has.
fn hash(account: Address, nonce: u64, attempt: u8) -> B256 {
    let mut hash = B256::repeat_byte(attempt);
    hash[..20].copy_from_slice(account.as_slice());
    hash[20..28].copy_from_slice(&nonce.to_be_bytes());
    hash
}

fn attempt(account: Address, nonce: u64, number: u8) -> Attempt {
    let raw = Bytes::from(vec![number; 115]);
    Attempt { hash: hash(account, nonce, number), raw, max_fee_wei: 7, tip_wei: 1, cancel: false }
}

fn draft(account: Address, nonce: u64, kind: Kind) -> TransactionDraft {
    TransactionDraft { account, nonce, kind, attempt: attempt(account, nonce, 1) }
}

fn settles(settlement: Settlement, arrivals: Vec<u64>) -> (Kind, BatchDraft) {
    let draft = BatchDraft { settlement, ..batch(arrivals) };
    let plain = BatchDraft { number: 0, root: None, head: None, ..draft.clone() };
    (Kind::Settle { settlement }, if settlement == Settlement::Anchor { draft } else { plain })
}

/// Opens the direct settlement of one reading.
async fn open_direct(journal: &Sqlite, account: Address, nonce: u64, arrival: u64) -> Opened {
    let (kind, batch) = settles(Settlement::Direct, vec![arrival]);
    Ledger::open(journal, draft(account, nonce, kind), Some(batch)).await.unwrap()
}

fn inclusion(account: Address, nonce: u64, block: u64) -> Inclusion {
    let block_hash = B256::left_padding_from(&block.to_be_bytes());
    Inclusion { tx: hash(account, nonce, 1), block_number: block, block_hash, ..included(true, Vec::new()) }
}

async fn opened(dir: &TempDir) -> Sqlite {
    let journal = open_journal(dir).await;
    journal.upsert_devices(vec![device("c", Settlement::Direct), device("d", Settlement::Direct)]).await.unwrap();
    journal
}

async fn reopened(journal: Sqlite, dir: &TempDir) -> Sqlite {
    journal.close().await;
    drop(journal);
    opened(dir).await
}

/// So many readings of "c", each settled by a transaction of its own and final. Their nonces follow `first`.
async fn settled(journal: &Sqlite, first: u64, count: u64) -> Vec<Opened> {
    let mut all = Vec::new();
    for sequence in first..first + count {
        let stored = append(journal, "c", Settlement::Direct, sequence).recv().unwrap().unwrap();
        let opened = open_direct(journal, account(1), sequence, stored.arrival).await;
        journal.mined(opened.transaction, inclusion(account(1), sequence, sequence)).await.unwrap();
        all.push(opened);
    }
    assert_eq!(journal.finalized(all.iter().rev().map(|o| o.transaction).collect()).await.unwrap(), 0);
    all
}

fn count(journal: &Sqlite, table: &str) -> u64 {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    journal.inner.scan.lock().unwrap().query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

fn rows(journal: &Sqlite) -> [u64; 4] {
    ["transactions", "attempts", "batches", "settled"].map(|table| count(journal, table))
}

async fn faults(journal: &Sqlite) -> Vec<String> {
    journal.faults().await.unwrap()
}

#[tokio::test]
async fn a_direct_settlement_is_kept_in_full_until_it_is_final() {
    let dir = TempDir::new().unwrap();
    let journal = opened(&dir).await;
    let stored = append(&journal, "c", Settlement::Direct, 1).recv().unwrap().unwrap();
    let opened = open_direct(&journal, account(1), 0, stored.arrival).await;
    assert_eq!(opened.batch, Some(opened.transaction), "one number for all");
    journal.mined(opened.transaction, inclusion(account(1), 0, 9)).await.unwrap();
    assert_eq!(journal.unmined(vec![opened.transaction]).await.unwrap(), 1);
    journal.mined(opened.transaction, inclusion(account(1), 0, 10)).await.unwrap();
    assert_eq!(rows(&journal), [1, 1, 1, 0]);
    let open = journal.open_transactions().await.unwrap();
    assert_eq!(open[0].attempts, [attempt(account(1), 0, 1)]);
    journal.finalized(vec![opened.transaction]).await.unwrap();
    assert_eq!(rows(&journal), [0, 0, 0, 1]);
    assert_eq!(journal.reading(id("c"), 1).await.unwrap().unwrap().state, State::Final);
    // Whatever is said of it again changes nothing.
    journal.mined(opened.transaction, inclusion(account(1), 0, 11)).await.unwrap();
    assert_eq!(journal.unmined(vec![opened.transaction]).await.unwrap(), 0);
    assert_eq!(journal.finalized(vec![opened.transaction]).await.unwrap(), 0);
    assert_eq!(journal.displaced(opened.transaction).await.unwrap(), 0);
    assert!(journal.add_attempt(opened.transaction, attempt(account(1), 0, 2)).await.is_err());
    assert_eq!((rows(&journal), journal.unsettled_count()), ([0, 0, 0, 1], 0));
    assert_eq!(faults(&journal).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_failed_commit_leaves_a_direct_settlement_as_it_was() {
    let dir = TempDir::new().unwrap();
    let journal = opened(&dir).await;
    let stored = append(&journal, "c", Settlement::Direct, 1).recv().unwrap().unwrap();
    let opened = open_direct(&journal, account(1), 0, stored.arrival).await;
    journal.mined(opened.transaction, inclusion(account(1), 0, 9)).await.unwrap();
    let transaction = opened.transaction as i64;
    let failed = journal
        .write(move |c, _| {
            assert!(super::settle(c, transaction, 5)?);
            Err::<(), _>(Error::Closed)
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(rows(&journal), [1, 1, 1, 0]);
    assert_eq!(["accounts", "blocks"].map(|table| count(&journal, table)), [0, 0]);
    let journal = reopened(journal, &dir).await;
    assert_eq!(journal.open_transactions().await.unwrap().len(), 1, "a start goes on with it");
    journal.finalized(vec![opened.transaction]).await.unwrap();
    assert_eq!(rows(&journal), [0, 0, 0, 1]);
}

#[tokio::test]
async fn a_nonce_is_never_used_again_after_its_transaction_became_history() {
    let dir = TempDir::new().unwrap();
    let journal = opened(&dir).await;
    settled(&journal, 1, 3).await;
    let journal = reopened(journal, &dir).await;
    assert_eq!(rows(&journal), [0, 0, 0, 3]);
    assert_eq!(journal.account(account(1)).await.unwrap().highest_nonce, Some(3));
    assert_eq!(journal.account(account(2)).await.unwrap().highest_nonce, None);
    for nonce in 1..=3 {
        let again = Ledger::open(&journal, draft(account(1), nonce, Kind::Fill), None).await;
        assert!(matches!(again, Err(Error::NonceTaken { nonce: taken, .. }) if taken == nonce));
    }
    for (of, nonce) in [(2, 2), (1, 0), (1, 4)] {
        Ledger::open(&journal, draft(account(of), nonce, Kind::Fill), None).await.unwrap();
    }
    assert_eq!(journal.account(account(1)).await.unwrap().highest_nonce, Some(4));
    assert_eq!(faults(&journal).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_number_is_never_given_twice_after_the_newest_became_history() {
    let dir = TempDir::new().unwrap();
    let mut journal = opened(&dir).await;
    let mut nonce = 100;
    let (mut transactions, mut attempts, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..4 {
        let newest = settled(&journal, 1 + round * 2, 2).await;
        transactions.extend(newest.iter().map(|o| o.transaction));
        attempts.extend(newest.iter().map(|o| o.transaction));
        batches.extend(newest.iter().filter_map(|o| o.batch));
        journal = reopened(journal, &dir).await;
        // What comes next is of another kind each time.
        nonce += 1;
        let arrival = append(&journal, "a", Settlement::Anchor, 1 + round).recv().unwrap().unwrap().arrival;
        let (kind, batch) = settles(Settlement::Anchor, vec![arrival]);
        let batch = (round != 1).then_some(batch);
        let opened = Ledger::open(&journal, draft(account(3), nonce, kind), batch).await.unwrap();
        transactions.push(opened.transaction);
        batches.extend(opened.batch);
        for number in 2..2 + round as u8 {
            journal.add_attempt(opened.transaction, attempt(account(3), nonce, number)).await.unwrap();
        }
        let of_open = |row: &crate::AttemptRow| row.account == account(3) && row.nonce == nonce;
        attempts.extend(journal.attempts(Filter::default()).await.unwrap().iter().filter(|a| of_open(a)).map(|a| a.id));
    }
    for (what, given) in [("transactions", transactions), ("attempts", attempts), ("batches", batches)] {
        assert!(given.windows(2).all(|two| two[0] < two[1]), "{what}: {given:?}");
    }
    assert_eq!(faults(&journal).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_settlement_with_more_to_tell_stays_in_full() {
    let dir = TempDir::new().unwrap();
    let journal = opened(&dir).await;
    let mut direct = Vec::new();
    for nonce in 1..=6 {
        let arrival = append(&journal, "c", Settlement::Direct, nonce).recv().unwrap().unwrap().arrival;
        direct.push(open_direct(&journal, account(1), nonce, arrival).await.transaction);
    }
    let mined = |nonce: u64, change: fn(&mut Inclusion)| {
        let mut inclusion = inclusion(account(1), nonce, 9);
        change(&mut inclusion);
        journal.mined(direct[nonce as usize - 1], inclusion)
    };
    mined(1, |_| {}).await.unwrap();
    journal.add_attempt(direct[1], attempt(account(1), 2, 2)).await.unwrap();
    mined(2, |_| {}).await.unwrap();
    journal.add_attempt(direct[2], Attempt { cancel: true, ..attempt(account(1), 3, 2) }).await.unwrap();
    mined(3, |i| (i.tx, i.success) = (hash(account(1), 3, 2), false)).await.unwrap();
    mined(4, |i| i.success = false).await.unwrap();
    mined(5, |i| i.block_hash = B256::repeat_byte(0xee)).await.unwrap();
    // As an earlier version numbered it.
    other(&dir)
        .execute_batch(&format!(
            "UPDATE batches SET id = 70 WHERE id = {0}; UPDATE readings SET batch = 70 WHERE batch = {0}",
            direct[5]
        ))
        .unwrap();
    mined(6, |_| {}).await.unwrap();
    assert_eq!(journal.finalized(direct).await.unwrap(), 2, "what failed is to be settled by another");
    assert_eq!(rows(&journal), [5, 7, 5, 1]);
    let states: Vec<_> =
        journal.readings(Filter::default()).await.unwrap().iter().map(|r| (r.state, r.block.map(|b| b.0))).collect();
    let last = (State::Final, Some(9));
    assert_eq!(states, [last, last, (State::Accepted, None), (State::Accepted, None), last, last]);
    let row = journal.reading(id("c"), 5).await.unwrap().unwrap();
    assert_eq!(row.block, Some((9, B256::repeat_byte(0xee))));
    assert_eq!(faults(&journal).await, Vec::<String>::new());
}

#[tokio::test]
async fn direct_settlements_move_to_an_archive_and_are_listed_in_both() {
    let dir = TempDir::new().unwrap();
    let journal = opened(&dir).await;
    let direct = settled(&journal, 1, 300).await;
    let file = dir.path().join("old.sqlite");
    assert_eq!(journal.archive(file.clone(), 0).await.unwrap(), Archived::default(), "nothing is so old");
    let before = journal.batches(Filter::default()).await.unwrap();
    let moved = journal.archive(file.clone(), u64::MAX).await.unwrap();
    assert_eq!(moved, Archived { batches: 300, readings: 300, left: 236 });
    assert_eq!(faults(&journal).await, Vec::<String>::new());
    assert_eq!(journal.totals().await.unwrap().accepted, 300);
    let after = journal.batches(Filter::default()).await.unwrap();
    assert!(after.iter().all(|b| b.archive.as_deref() == Some("old.sqlite")));
    let named = before.iter().cloned().map(|b| crate::BatchRow { archive: Some("old.sqlite".into()), ..b });
    assert_eq!(after, named.collect::<Vec<_>>());
    assert_eq!(journal.reading(id("c"), 236).await.unwrap(), None);
    assert_eq!(journal.reading(id("c"), 237).await.unwrap().unwrap().batch, direct[236].batch);

    let archive = Sqlite::read_only_file(&file).unwrap();
    assert_eq!(faults(&archive).await, Vec::<String>::new());
    assert_eq!(archive.batches(Filter::default()).await.unwrap(), before);
    let old = archive.reading(id("c"), 1).await.unwrap().unwrap();
    let tx = hash(account(1), 1, 1);
    assert_eq!((old.state, old.tx, old.block.map(|b| b.0)), (State::Final, Some(tx), Some(1)));
    assert_eq!(archive.batch_readings(old.batch.unwrap()).await.unwrap(), [old.reading]);
    assert_eq!(archive.totals().await.unwrap().finalized, 300);
    assert_eq!(archive.attempts(Filter::default()).await.unwrap().len(), 300);

    // Numbers go on, and what stayed leaves with the next archive.
    let journal = reopened(journal, &dir).await;
    settled(&journal, 301, 100).await;
    let again = journal.archive(dir.path().join("new.sqlite"), u64::MAX).await.unwrap();
    assert_eq!(again, Archived { batches: 100, readings: 100, left: 100 });
    let archives = journal.batches(Filter { newest: true, limit: Some(101), ..Filter::default() }).await.unwrap();
    assert_eq!(archives.iter().filter(|b| b.archive.as_deref() == Some("new.sqlite")).count(), 100);
    assert_eq!(faults(&journal).await, Vec::<String>::new());
    assert_eq!(journal.backup(&dir.path().join("copy.sqlite")).unwrap().readings, 64);
}

#[tokio::test]
async fn damage_of_what_settled_directly_is_found() {
    for (damage, expected) in [
        ("UPDATE readings SET batch = 99 WHERE sequence = 2", "1 readings in a batch that does not exist"),
        ("UPDATE readings SET batch = NULL WHERE sequence = 2", "batch 2: 0 readings instead of 1"),
        ("UPDATE readings SET batch = 1 WHERE sequence = 2", "batch 1: 2 readings instead of 1"),
        ("DELETE FROM settled WHERE id = 2", "1 readings in a batch that does not exist"),
        ("UPDATE settled SET archived = 1 WHERE id = 2", "batch 2: 1 readings instead of 0"),
        ("DELETE FROM blocks WHERE number = 2", "1 direct settlements without their account or block"),
        ("DELETE FROM accounts", "3 direct settlements without their account or block"),
        ("UPDATE settled SET tx = x'00' WHERE id = 2", "1 direct settlements whose transaction hash is none"),
        ("UPDATE blocks SET hash = x'00' WHERE number = 2", "1 accounts and blocks that are none"),
        (
            "INSERT INTO transactions (id, account, nonce, kind, created_at) SELECT 2, address, 3, 'null', 5 FROM accounts",
            "1 direct settlements under a number that something else has too",
        ),
        (
            "INSERT INTO transactions (id, account, nonce, kind, created_at) SELECT 2, address, 3, 'null', 5 FROM accounts",
            "1 direct settlements at a nonce that another transaction of the account has too",
        ),
        (
            "INSERT INTO attempts (id, \"transaction\", hash, raw, max_fee_wei, tip_wei) VALUES (9, 2, zeroblob(32), x'', 1, 1)",
            "1 attempts of a transaction that does not exist",
        ),
    ] {
        let dir = TempDir::new().unwrap();
        let journal = opened(&dir).await;
        settled(&journal, 1, 3).await;
        assert_eq!(faults(&journal).await, Vec::<String>::new());
        other(&dir).execute_batch(damage).unwrap();
        let found = faults(&journal).await;
        assert!(found.iter().any(|fault| fault == expected), "{damage}: {found:?}");
        assert!(journal.backup(&dir.path().join("copy.sqlite")).is_err(), "{damage}");
    }
}

fn append_digits(journal: &Sqlite, device: u64, sequence: u64) -> mpsc::Receiver<Result<Stored, AppendError>> {
    let (reply, outcome) = mpsc::channel();
    let now_ms = super::super::work::now_ms();
    let payload = format!("{:013}", 4_006_381_000_000 + sequence).into_bytes();
    let entry = Entry {
        draft: Draft { observed_at_ms: now_ms, payload: payload.into(), message_id: None, claim: None },
        packet_id: Some(sequence as u16),
        exactly_once: false,
        received_at_ms: now_ms,
    };
    let append = Append {
        device: id(&format!("device-{device}")),
        epoch: 1,
        settlement: Settlement::Direct,
        sequence,
        readings: vec![entry],
        quarantine: None,
        reply: Box::new(move |r| reply.send(r).unwrap()),
    };
    journal.append(append).unwrap();
    outcome
}

/// Rounds of readings of a device each, as the chain's worker settles them: final some blocks after they are mined.
async fn rounds(journal: &Sqlite, devices: u64, rounds: std::ops::RangeInclusive<u64>, open: &mut Vec<Vec<u64>>) {
    for round in rounds {
        let outcomes: Vec<_> = (1..=devices).map(|n| append_digits(journal, n, round)).collect();
        let mut opening = JoinSet::new();
        for (n, outcome) in (1..=devices).zip(outcomes) {
            let (journal, arrival) = (journal.clone(), outcome.recv().unwrap().unwrap().arrival);
            opening.spawn(async move {
                let opened = open_direct(&journal, account(n as u8), round, arrival).await;
                let gas_used = 43_512;
                let at_ms = super::super::work::now_ms() + 12_000;
                let mined = Inclusion { gas_used, at_ms, ..inclusion(account(n as u8), round, 20_000_000 + round) };
                journal.mined(opened.transaction, mined).await.unwrap();
                opened.transaction
            });
        }
        open.push(opening.join_all().await);
        if open.len() > 3 {
            journal.finalized(open.remove(0)).await.unwrap();
        }
    }
}

fn bytes(journal: &Sqlite) -> u64 {
    let pragma = |name| journal.inner.scan.lock().unwrap().pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    (pragma("page_count").unwrap() * pragma("page_size").unwrap()) as u64
}

#[tokio::test]
async fn a_final_direct_reading_takes_200_bytes_at_most() {
    const DEVICES: u64 = 100;
    let dir = TempDir::new().unwrap();
    let journal = Sqlite::open(dir.path(), &Options::default()).unwrap();
    let names: Vec<_> = (1..=DEVICES).map(|n| device(&format!("device-{n}"), Settlement::Direct)).collect();
    journal.upsert_devices(names).await.unwrap();
    let mut open = Vec::new();
    // What is open at a time has its room by then.
    rounds(&journal, DEVICES, 1..=20, &mut open).await;
    let before = bytes(&journal);
    rounds(&journal, DEVICES, 21..=100, &mut open).await;
    let each = (bytes(&journal) - before) / (80 * DEVICES);
    assert!(each <= 200, "{each} bytes");
    assert_eq!(count(&journal, "settled"), 97 * DEVICES);
}

/// The steps of a plan.
fn plan(c: &Connection, sql: &str) -> Vec<String> {
    let mut statement = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let parameters = vec![1; statement.parameter_count()];
    let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn what_settled_directly_is_found_without_looking_at_the_rest() {
    let dir = TempDir::new().unwrap();
    let journal = opened(&dir).await;
    settled(&journal, 1, 2).await;
    let c = other(&dir);
    let ours = [super::LAST, super::HAS_NONCE, super::PLAIN, super::INSERT, super::super::write::HIGHEST_NONCE];
    for sql in super::super::listing::for_a_few().into_iter().chain(ours.map(str::to_owned)) {
        let plan = plan(&c, &sql);
        let scans = |step: &&String| {
            let table = step.starts_with("SCAN") && !step.contains("CONSTANT ROW") && !step.contains("subquery");
            table || step.contains("TEMP B-TREE") || step.contains("AUTOMATIC")
        };
        assert_eq!(plan.iter().filter(scans).collect::<Vec<_>>(), Vec::<&String>::new(), "{sql}\n{plan:#?}");
    }
}
