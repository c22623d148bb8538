//! The log's state is written with its batch, only grows, and leaves out what had left the journal when it began.

use alloy::primitives::B256;
use tempfile::TempDir;
use windlass_reading::Settlement;

use super::super::{
    Sqlite,
    tests::{append, batch, open, settled, transaction},
};
use crate::{BatchDraft, Error, Filter, Ledger, Listing, LogState};

fn state(arrival: u64, size: u64, root: u8) -> LogState {
    let contract = "1:0xaa".to_owned();
    LogState { contract, base: 0, arrival, size, root: B256::repeat_byte(root), frontier: vec![root; 32] }
}

async fn anchor(journal: &Sqlite, nonce: u64, arrivals: Vec<u64>, log: LogState) -> Result<(), Error> {
    let draft = BatchDraft { number: nonce + 1, log: Some(log), ..batch(arrivals) };
    journal.open(transaction(nonce), Some(draft)).await.map(|_| ())
}

async fn with_readings(dir: &TempDir, count: u64) -> Sqlite {
    let journal = open(dir).await;
    for sequence in 1..=count {
        append(&journal, "a", Settlement::Anchor, sequence).recv().unwrap().unwrap();
    }
    journal
}

#[tokio::test]
async fn the_log_goes_on_after_a_restart_from_where_the_newest_batch_left_it() {
    let dir = TempDir::new().unwrap();
    let journal = with_readings(&dir, 3).await;
    assert_eq!(journal.log("1:0xaa".into()).await.unwrap(), None);
    anchor(&journal, 0, vec![1], state(1, 1, 5)).await.unwrap();
    anchor(&journal, 1, vec![3], state(3, 3, 6)).await.unwrap();
    anchor(&journal, 2, vec![2], state(3, 3, 6)).await.unwrap();
    journal.close().await;
    drop(journal);
    let journal = open(&dir).await;
    assert_eq!(journal.log("1:0xaa".into()).await.unwrap(), Some(state(3, 3, 6)));
    assert_eq!(journal.log("1:0xbb".into()).await.unwrap(), None, "another contract has a log of its own");
    let rows = journal.batches(Filter::default()).await.unwrap();
    assert_eq!(rows.iter().map(|b| b.log.as_ref().map(|l| l.size)).collect::<Vec<_>>(), [Some(1), Some(3), Some(3)]);
}

#[tokio::test]
async fn a_batch_whose_log_does_not_go_on_from_the_journals_is_not_written() {
    let dir = TempDir::new().unwrap();
    let journal = with_readings(&dir, 4).await;
    anchor(&journal, 0, vec![1, 2], state(2, 2, 5)).await.unwrap();
    let elsewhere = LogState { base: 1, ..state(3, 3, 6) };
    for (wrong, arrivals) in [
        (state(1, 1, 5), vec![3]),
        (state(2, 2, 7), vec![]),
        (state(3, 1, 6), vec![3]),
        (elsewhere, vec![3]),
        (state(3, 3, 6), vec![4]),
    ] {
        let refused = anchor(&journal, 1, arrivals, wrong).await;
        assert!(matches!(refused, Err(Error::LogMoved(_))), "{refused:?}");
    }
    assert_eq!(journal.batches(Filter::default()).await.unwrap().len(), 1);
    assert_eq!(journal.unsettled(Settlement::Anchor, (0, 1), vec![], 9).await.unwrap().len(), 2, "the readings wait");
    anchor(&journal, 1, vec![3, 4], state(4, 4, 6)).await.unwrap();
}

#[tokio::test]
async fn the_readings_of_the_log_are_those_that_settle_by_anchor_in_arrival_order() {
    let dir = TempDir::new().unwrap();
    let journal = with_readings(&dir, 2).await;
    append(&journal, "b", Settlement::Batch, 1).recv().unwrap().unwrap();
    append(&journal, "a", Settlement::Anchor, 3).recv().unwrap().unwrap();
    let arrivals = async |after, upto, limit| {
        let rows = journal.log_readings(after, upto, limit).await.unwrap();
        rows.iter().map(|(arrival, reading)| (*arrival, reading.sequence)).collect::<Vec<_>>()
    };
    assert_eq!(arrivals(0, 9, 9).await, [(1, 1), (2, 2), (4, 3)]);
    assert_eq!(arrivals(1, 4, 9).await, [(2, 2), (4, 3)]);
    assert_eq!(arrivals(0, 3, 1).await, [(1, 1)]);
}

#[tokio::test]
async fn a_log_that_begins_after_an_archive_covers_what_came_later() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    assert_eq!(journal.log_base().await.unwrap(), 0);
    settled(&journal, 0, 1..=100).await;
    let left = journal.archive(dir.path().join("old.sqlite"), u64::MAX).await.unwrap().left;
    assert_eq!(left, 36, "64 are among the device's newest");
    assert_eq!(journal.log_base().await.unwrap(), 36);
    assert_eq!(journal.log_readings(36, 100, 1_000).await.unwrap().len(), 64);
}
