//! Nobody can tell what became a small row from what stayed in full: the same history both ways, read in every way.

use alloy::primitives::Address;
use rusqlite::Connection;
use tempfile::TempDir;
use windlass_reading::Settlement;

use super::super::super::{
    FILE, Sqlite,
    tests::{append, id},
};
use super::{account, attempt, count, draft, hash, inclusion, open_direct, opened, settles};
use crate::{AttemptRow, BatchRow, Filter, Inclusion, Kind, Ledger, Listing, State};

const DEVICES: [(&str, Settlement); 4] =
    [("a", Settlement::Anchor), ("b", Settlement::Batch), ("c", Settlement::Direct), ("d", Settlement::Direct)];

/// Settlements of every kind and in every state, those that are to become final, and how many of them are plain direct ones.
async fn history(journal: &Sqlite) -> (Vec<u64>, u64) {
    let mut arrivals = Vec::new();
    for sequence in 1..=8 {
        for (name, settlement) in DEVICES {
            arrivals.push(append(journal, name, settlement, sequence).recv().unwrap().unwrap().arrival);
        }
    }
    let of = |device: usize, sequence: usize| arrivals[(sequence - 1) * DEVICES.len() + device];
    let fund = Kind::Fund { device: id("c") };
    let fund = Ledger::open(journal, draft(account(9), 0, fund), None).await.unwrap().transaction;
    journal.add_attempt(fund, attempt(account(9), 0, 2)).await.unwrap();
    journal.mined(fund, inclusion(account(9), 0, 10)).await.unwrap();
    let (mut ends, mut plain) = (vec![fund], 0);
    for sequence in 1..=7_usize {
        let nonce = sequence as u64;
        let block = 20 + nonce / 2;
        let (kind, batch) = settles(Settlement::Anchor, vec![of(0, sequence), of(1, sequence)]);
        let anchor = Ledger::open(journal, draft(account(9), nonce, kind), Some(batch)).await.unwrap().transaction;
        journal.mined(anchor, inclusion(account(9), nonce, block)).await.unwrap();
        let c = open_direct(journal, account(2), nonce, of(2, sequence)).await.transaction;
        journal.mined(c, inclusion(account(2), nonce, block)).await.unwrap();
        let d = open_direct(journal, account(3), nonce + 40, of(3, sequence)).await.transaction;
        match sequence {
            1 | 2 => journal.mined(d, inclusion(account(3), nonce + 40, block)).await.unwrap(),
            3 => {
                journal.add_attempt(d, attempt(account(3), nonce + 40, 2)).await.unwrap();
                let tx = hash(account(3), nonce + 40, 2);
                journal.mined(d, Inclusion { tx, ..inclusion(account(3), nonce + 40, block) }).await.unwrap();
            }
            4 => {
                let failed = Inclusion { success: false, ..inclusion(account(3), nonce + 40, block) };
                journal.mined(d, failed).await.unwrap();
            }
            5 => drop(journal.displaced(d).await.unwrap()),
            // Sent, and no more is known.
            _ => {}
        }
        // The last of each is mined and no more.
        if sequence < 7 {
            ends.extend([anchor, c, d]);
            plain += 1 + u64::from(sequence < 3);
        }
    }
    (ends, plain)
}

/// The same history twice: as it is kept, and with everything in full as it was kept before.
async fn both_ways(dirs: &[TempDir; 2]) -> (Sqlite, Sqlite) {
    let journal = opened(&dirs[0]).await;
    let (ends, plain) = history(&journal).await;
    let full = dirs[1].path().join(FILE);
    journal.backup(&full).unwrap();
    journal.finalized(ends.clone()).await.unwrap();
    assert_eq!(count(&journal, "settled"), plain);

    let rows = journal.transactions(Filter::default()).await.unwrap();
    let c = Connection::open(&full).unwrap();
    for row in rows.iter().filter(|row| ends.contains(&row.id)) {
        let Some(final_at_ms) = row.final_at_ms else { continue };
        let end = "UPDATE transactions SET state = 'final', final_at = ?2 WHERE id = ?1";
        c.execute(end, [row.id as i64, final_at_ms as i64]).unwrap();
    }
    let failed = "(SELECT b.id FROM batches b JOIN transactions t ON t.id = b.\"transaction\" WHERE t.success = 0)";
    c.execute_batch(&format!(
        "UPDATE batches SET released = count WHERE id IN {failed}; UPDATE readings SET batch = NULL WHERE batch IN {failed}"
    ))
    .unwrap();
    assert_eq!(c.query_row("SELECT COUNT(*) FROM settled", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    drop(c);
    let full = opened(&dirs[1]).await;
    assert_eq!(full.unsettled_count(), journal.unsettled_count());
    (journal, full)
}

/// Filters of every kind, and pages from every row on.
fn filters(newest_ms: u64) -> Vec<Filter> {
    let mut all = vec![Filter::default()];
    all.extend([State::Accepted, State::Mined, State::Final].map(|s| Filter { state: Some(s), ..Filter::default() }));
    all.extend(Settlement::ALL.map(|s| Filter { settlement: Some(s), ..Filter::default() }));
    all.extend(DEVICES.map(|(name, _)| Filter { device: Some(id(name)), ..Filter::default() }));
    all.extend((0..40).map(|batch| Filter { batch: Some(batch), ..Filter::default() }));
    for until_ms in [1_004, newest_ms - 5, newest_ms, newest_ms + 1] {
        all.push(Filter { until_ms: Some(until_ms), ..Filter::default() });
        all.push(Filter { since_ms: Some(until_ms), ..Filter::default() });
    }
    let plain = all.clone();
    for after in 0..40 {
        for limit in [1, 3, 100] {
            let page = |f: &Filter| Filter { after: Some(after), limit: Some(limit), ..f.clone() };
            all.extend(plain.iter().take(7).map(page));
        }
    }
    let newest = all.clone();
    all.extend(newest.into_iter().map(|f| Filter { newest: true, ..f }));
    all
}

fn without_bytes(rows: Vec<AttemptRow>) -> Vec<AttemptRow> {
    rows.into_iter().map(|row| AttemptRow { raw: Vec::new(), ..row }).collect()
}

#[tokio::test]
async fn listings_are_the_same_as_if_all_had_stayed_in_full() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (journal, full) = both_ways(&dirs).await;
    let rows = full.transactions(Filter::default()).await.unwrap();
    let newest_ms = rows.iter().map(|row| row.created_at_ms).max().unwrap();
    for filter in filters(newest_ms) {
        let (one, other) = (journal.readings(filter.clone()).await, full.readings(filter.clone()).await);
        assert_eq!(one.unwrap(), other.unwrap(), "{filter:?}");
        let (one, other) = (journal.batches(filter.clone()).await, full.batches(filter.clone()).await);
        assert_eq!(one.unwrap(), other.unwrap(), "{filter:?}");
        let (one, other) = (journal.transactions(filter.clone()).await, full.transactions(filter.clone()).await);
        assert_eq!(one.unwrap(), other.unwrap(), "{filter:?}");
        let (one, other) = (journal.attempts(filter.clone()).await, full.attempts(filter.clone()).await);
        assert_eq!(without_bytes(one.unwrap()), without_bytes(other.unwrap()), "{filter:?}");
    }
    let states = full.readings(Filter::default()).await.unwrap();
    for state in [State::Accepted, State::Mined, State::Final] {
        assert!(states.iter().any(|row| row.state == state && row.settlement == Settlement::Direct), "{state:?}");
    }
}

#[tokio::test]
async fn single_rows_and_sums_are_the_same_as_if_all_had_stayed_in_full() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (journal, full) = both_ways(&dirs).await;
    let batches: Vec<BatchRow> = full.batches(Filter::default()).await.unwrap();
    for batch in 0..=batches.iter().map(|b| b.id).max().unwrap() + 1 {
        assert_eq!(journal.batch(batch).await.unwrap(), full.batch(batch).await.unwrap());
        assert_eq!(journal.transaction_of(batch).await.unwrap(), full.transaction_of(batch).await.unwrap());
        assert_eq!(journal.batch_readings(batch).await.unwrap(), full.batch_readings(batch).await.unwrap());
        assert_eq!(journal.batch_received_at(batch).await.unwrap(), full.batch_received_at(batch).await.unwrap());
    }
    for (name, _) in DEVICES {
        for sequence in 0..=9 {
            let (one, other) = (journal.reading(id(name), sequence).await, full.reading(id(name), sequence).await);
            assert_eq!(one.unwrap(), other.unwrap());
        }
        let (one, other) = (journal.device_unsettled(id(name)).await, full.device_unsettled(id(name)).await);
        assert_eq!(one.unwrap(), other.unwrap());
    }
    for of in [account(2), account(3), account(9), Address::ZERO] {
        assert_eq!(journal.account(of).await.unwrap(), full.account(of).await.unwrap());
    }
    assert_eq!(journal.totals().await.unwrap(), full.totals().await.unwrap());
    assert_eq!(journal.lanes().await.unwrap(), full.lanes().await.unwrap());
    assert_eq!(journal.funded_since(0).await.unwrap(), full.funded_since(0).await.unwrap());
    assert_eq!(journal.open_transactions().await.unwrap(), full.open_transactions().await.unwrap());
    for since_ms in [0, 50, 51] {
        let (mut one, mut other) =
            (journal.confirmations(since_ms).await.unwrap(), full.confirmations(since_ms).await.unwrap());
        one.sort_unstable();
        other.sort_unstable();
        assert_eq!(one, other);
    }
    assert_eq!(journal.faults().await.unwrap(), Vec::<String>::new());
    assert_eq!(full.faults().await.unwrap(), Vec::<String>::new());
}
