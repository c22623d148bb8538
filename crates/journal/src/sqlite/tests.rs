//! The engine against its promises: order, durability, all-or-nothing, and state after a restart.

use std::sync::mpsc;

use alloy::primitives::{Address, B256, Bytes};
use tempfile::TempDir;
use windlass_reading::{DeviceId, Draft, Format, PublicKey, Reject, Settlement};

use super::*;
use crate::{
    AppendError, Attempt, BatchDraft, DeviceRow, End, Entry, Filter, Inclusion, Journal, Kind, Ledger, Listing,
    Release, RunDraft, SessionRow, Sessions, Span, State, Stored, TransactionDraft,
};

pub(super) fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

pub(super) fn device(name: &str, settlement: Settlement) -> DeviceRow {
    DeviceRow {
        device: id(name),
        format: Format::Digits,
        settlement,
        epoch: 1,
        key: None,
        custodial: None,
        registered: 0,
        barcode: None,
        end: End::None,
    }
}

pub(super) async fn open(dir: &TempDir) -> Sqlite {
    let journal = Sqlite::open(dir.path(), &Options::default()).unwrap();
    journal.upsert_devices(vec![device("a", Settlement::Anchor), device("b", Settlement::Batch)]).await.unwrap();
    journal
}

type Outcome = mpsc::Receiver<Result<Stored, AppendError>>;

pub(super) fn append(journal: &Sqlite, name: &str, settlement: Settlement, sequence: u64) -> Outcome {
    append_packet(journal, name, settlement, sequence, (9, false))
}

fn entry(sequence: u64, (packet_id, exactly_once): (u16, bool)) -> Entry {
    Entry {
        draft: Draft {
            observed_at_ms: 5,
            payload: sequence.to_string().into_bytes().into(),
            message_id: None,
            claim: None,
        },
        packet_id: Some(packet_id),
        exactly_once,
        received_at_ms: 1_000 + sequence,
    }
}

/// With a packet id, and whether it was QoS 2.
fn append_packet(journal: &Sqlite, name: &str, settlement: Settlement, sequence: u64, packet: (u16, bool)) -> Outcome {
    let (reply, outcome) = mpsc::channel();
    journal
        .append(Append {
            device: id(name),
            epoch: 1,
            settlement,
            sequence,
            readings: vec![entry(sequence, packet)],
            quarantine: None,
            reply: Box::new(move |r| reply.send(r).unwrap()),
        })
        .unwrap();
    outcome
}

pub(super) fn transaction(nonce: u64) -> TransactionDraft {
    TransactionDraft {
        account: Address::repeat_byte(1),
        nonce,
        kind: Kind::Settle { settlement: Settlement::Anchor },
        attempt: Attempt {
            hash: B256::repeat_byte(nonce as u8 + 1),
            raw: Bytes::from_static(b"raw"),
            max_fee_wei: 7,
            tip_wei: 1,
            cancel: false,
        },
    }
}

pub(super) fn batch(arrivals: Vec<u64>) -> BatchDraft {
    BatchDraft {
        settlement: Settlement::Anchor,
        number: 1,
        root: Some(B256::repeat_byte(8)),
        head: Some(B256::repeat_byte(9)),
        arrivals,
        runs: Vec::new(),
        log: None,
    }
}

pub(super) fn included(success: bool, skipped: Vec<Span>) -> Inclusion {
    Inclusion {
        tx: B256::repeat_byte(1),
        block_number: 10,
        block_hash: B256::repeat_byte(0xbb),
        success,
        gas_used: 21_000,
        at_ms: 50,
        skipped,
    }
}

#[tokio::test]
async fn sequences_are_stored_in_order_and_a_gap_is_refused() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    let first = append(&journal, "a", Settlement::Anchor, 1);
    let gap = append(&journal, "a", Settlement::Anchor, 3);
    let second = append(&journal, "a", Settlement::Anchor, 2);
    let stranger = append(&journal, "nobody", Settlement::Anchor, 1);
    assert_eq!(first.recv().unwrap().unwrap().sequence, 1);
    assert_eq!(gap.recv().unwrap(), Err(AppendError::OutOfOrder { expected: 2, got: 3 }));
    assert_eq!(second.recv().unwrap().unwrap().sequence, 2);
    assert_eq!(stranger.recv().unwrap(), Err(AppendError::UnknownDevice));
}

/// Readings of "a" from `sequence` on, each with its message id.
fn append_run(journal: &Sqlite, sequence: u64, messages: &[&str]) -> Outcome {
    let (reply, outcome) = mpsc::channel();
    let named = |(sequence, message): (u64, &&str)| {
        let mut entry = entry(sequence, (9, false));
        entry.draft.message_id = Some((*message).to_owned());
        entry
    };
    journal
        .append(Append {
            device: id("a"),
            epoch: 1,
            settlement: Settlement::Anchor,
            sequence,
            readings: (sequence..).zip(messages).map(named).collect(),
            quarantine: None,
            reply: Box::new(move |r| reply.send(r).unwrap()),
        })
        .unwrap();
    outcome
}

#[tokio::test]
async fn readings_of_one_append_are_stored_together_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    let (first, doubled, second) = (
        append_run(&journal, 1, &["x", "y", "z"]),
        append_run(&journal, 4, &["p", "q", "y", "r"]),
        append_run(&journal, 4, &["p", "q"]),
    );
    assert_eq!(first.recv().unwrap(), Ok(Stored { sequence: 1, arrival: 1 }));
    assert!(matches!(doubled.recv().unwrap(), Err(AppendError::Unavailable(_))));
    assert_eq!(second.recv().unwrap(), Ok(Stored { sequence: 4, arrival: 4 }));
    assert!(append_run(&journal, 6, &[]).recv().unwrap().is_err());
    assert_eq!(append_run(&journal, 6, &["s"]).recv().unwrap(), Ok(Stored { sequence: 6, arrival: 6 }));
    assert_eq!(journal.unsettled_count(), 6);
    let rows = journal.readings(Filter::default()).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.reading.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}

fn release(journal: &Sqlite, name: &str, packet_id: u16) -> Result<bool, AppendError> {
    let (reply, outcome) = mpsc::channel();
    let reply = Box::new(move |r| reply.send(r).unwrap());
    journal.release(Release { device: id(name), packet_id, reply }).unwrap();
    outcome.recv().unwrap()
}

#[tokio::test]
async fn a_qos_2_packet_id_is_kept_over_a_restart_until_its_release() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    append_packet(&journal, "a", Settlement::Anchor, 1, (7, true)).recv().unwrap().unwrap();
    append_packet(&journal, "b", Settlement::Batch, 1, (7, true)).recv().unwrap().unwrap();
    for sequence in 2..=200 {
        append(&journal, "a", Settlement::Anchor, sequence).recv().unwrap().unwrap();
    }
    append_packet(&journal, "a", Settlement::Anchor, 201, (8, true)).recv().unwrap().unwrap();
    // The id was used again without a release: the older publish is over.
    append_packet(&journal, "a", Settlement::Anchor, 202, (8, true)).recv().unwrap().unwrap();
    journal.close().await;
    drop(journal);
    let journal = open(&dir).await;
    let kept = |name| -> Vec<(u16, u64)> {
        let recent = journal.device(&id(name)).unwrap().unwrap().recent;
        recent.iter().filter(|r| r.unreleased).map(|r| (r.packet_id, r.sequence)).collect()
    };
    assert_eq!(kept("a"), [(7, 1), (8, 202)]);
    assert_eq!(release(&journal, "a", 7), Ok(true));
    assert_eq!(release(&journal, "a", 7), Ok(false));
    assert_eq!(release(&journal, "nobody", 7), Err(AppendError::UnknownDevice));
    assert_eq!(kept("a"), [(8, 202)]);
    assert_eq!(kept("b"), [(7, 1)], "another device's id is its own");
}

#[tokio::test]
async fn sessions_are_kept_over_a_restart_until_they_are_forgotten() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    let session = |device: &str, left_at_ms| SessionRow {
        device: device.into(),
        subscriptions: std::collections::BTreeMap::from([(format!("devices/{device}/receipts"), 2)]),
        expiry_seconds: u32::MAX,
        left_at_ms,
    };
    for (device, left) in [("a", None), ("b", None), ("a", Some(7))] {
        journal.keep_session(session(device, left)).await.unwrap();
    }
    journal.close().await;
    drop(journal);
    let journal = open(&dir).await;
    assert_eq!(journal.sessions().await.unwrap(), [session("a", Some(7)), session("b", None)]);
    journal.forget_sessions(vec!["a".into(), "nobody".into()]).await.unwrap();
    assert_eq!(journal.sessions().await.unwrap(), [session("b", None)]);
}

#[tokio::test]
async fn a_journal_of_every_version_is_brought_up_to_date_with_its_readings() {
    for version in 1..=super::schema::MIGRATIONS.len() {
        let dir = TempDir::new().unwrap();
        let old = Connection::open(dir.path().join(FILE)).unwrap();
        super::schema::MIGRATIONS[..version].iter().for_each(|step| old.execute_batch(step).unwrap());
        old.pragma_update(None, "user_version", version).unwrap();
        old.execute_batch(
            "INSERT INTO devices (id, name, shard, format, settlement, epoch) VALUES (1, 'a', 0, 'digits', 'anchor', 1);
             INSERT INTO transactions (id, account, nonce, kind, created_at) VALUES
                 (1, zeroblob(20), 4, '{\"kind\":\"settle\",\"settlement\":\"anchor\"}', 5);
             INSERT INTO attempts (\"transaction\", hash, raw, max_fee_wei, tip_wei) VALUES (1, zeroblob(32), x'02', 7, 1);
             INSERT INTO batches (id, \"transaction\", settlement, account, number, count, oldest_received_at)
                 VALUES (1, 1, 'anchor', zeroblob(20), 1, 1, 5);
             INSERT INTO readings (device, sequence, epoch, observed_at, received_at, settlement, packet_id, batch, payload)
                 VALUES (1, 1, 1, 5, 5, 'anchor', 8, 1, x'33'), (1, 2, 1, 6, 6, 'anchor', 9, NULL, x'34');",
        )
        .unwrap();
        drop(old);
        let journal = open(&dir).await;
        let state = journal.device(&id("a")).unwrap().unwrap();
        assert_eq!((state.last_sequence, state.recent.len(), state.recent[0].unreleased), (2, 2, false), "{version}");
        assert_eq!(journal.unsettled_count(), 2);
        let open = journal.open_transactions().await.unwrap();
        assert_eq!((open.len(), open[0].nonce, open[0].readings, open[0].attempts[0].cancel), (1, 4, 1, false));
        append_packet(&journal, "a", Settlement::Anchor, 3, (9, true)).recv().unwrap().unwrap();
        assert_eq!(release(&journal, "a", 9), Ok(true));
        assert_eq!(journal.faults().await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_subscription_of_before_qos_2_keeps_its_quality() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir_all(dir.path()).unwrap();
    let old = Connection::open(dir.path().join(FILE)).unwrap();
    super::schema::MIGRATIONS[..4].iter().for_each(|step| old.execute_batch(step).unwrap());
    old.execute_batch(
        r#"PRAGMA user_version = 4;
         INSERT INTO sessions VALUES ('a', '{"devices/a/errors":false,"devices/a/receipts":true}', 60, NULL);
         INSERT INTO sessions VALUES ('b', '{}', 60, 7);"#,
    )
    .unwrap();
    drop(old);
    let found: Vec<_> =
        open(&dir).await.sessions().await.unwrap().into_iter().map(|session| session.subscriptions).collect();
    let expected = [("devices/a/errors".to_owned(), 0), ("devices/a/receipts".to_owned(), 1)];
    assert_eq!(found, [expected.into(), std::collections::BTreeMap::new()]);
}

#[tokio::test]
async fn what_is_settled_costs_nothing_when_direct_readings_are_looked_for() {
    let dir = TempDir::new().unwrap();
    let _journal = open(&dir).await;
    let connection = reader(&dir.path().join(FILE)).unwrap();
    let plan = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let parameters = vec![1; statement.parameter_count()];
        let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    for sql in [work::DIRECT_DEVICES.to_owned(), format!("{} {}", work::UNSETTLED, work::OF_ONE_DIRECT_DEVICE)] {
        let plan = plan(&sql);
        assert!(plan.iter().any(|step| step.contains("readings_direct")), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    let outcomes: Vec<_> = (1..=500).map(|n| append(&journal, "a", Settlement::Anchor, n)).collect();
    for outcome in outcomes {
        outcome.recv().unwrap().unwrap();
    }
    // A reader that shares nothing with the writer sees every answered reading.
    let other = Sqlite::read_only(dir.path()).unwrap();
    assert_eq!(other.readings(Filter::default()).await.unwrap().len(), 500);
    journal.close().await;
    drop(journal);
    let journal = open(&dir).await;
    let state = journal.device(&id("a")).unwrap().unwrap();
    assert_eq!((state.last_sequence, state.recent.len()), (500, 64));
    assert_eq!(journal.unsettled_count(), 500);
}

#[tokio::test]
async fn a_second_run_on_the_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let _journal = open(&dir).await;
    assert!(matches!(Sqlite::open(dir.path(), &Options::default()), Err(Error::InUse(_))));
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    journal.close().await;
    drop(journal);
    Connection::open(dir.path().join(FILE)).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Sqlite::open(dir.path(), &Options::default()), Err(Error::Newer { found: 99, .. })));
}

#[tokio::test]
async fn a_batch_is_written_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    for n in 1..=3 {
        append(&journal, "a", Settlement::Anchor, n).recv().unwrap().unwrap();
    }
    journal.open(transaction(0), Some(batch(vec![1, 2]))).await.unwrap();
    // Reading 2 is taken: neither the transaction nor reading 3 may be touched.
    let refused = journal.open(transaction(1), Some(batch(vec![3, 2]))).await;
    assert!(matches!(refused, Err(Error::AlreadyTaken)));
    let nonce_taken = journal.open(transaction(0), None).await;
    assert!(matches!(nonce_taken, Err(Error::NonceTaken { nonce: 0, .. })));
    assert_eq!(journal.open_transactions().await.unwrap().len(), 1);
    let free = journal.unsettled(Settlement::Anchor, (0, 1), vec![], 10).await.unwrap();
    assert_eq!(free.iter().map(|u| u.arrival).collect::<Vec<_>>(), [3]);
}

#[tokio::test]
async fn a_reading_goes_from_accepted_to_final_and_back_on_a_reorg() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    append(&journal, "a", Settlement::Anchor, 1).recv().unwrap().unwrap();
    let t = journal.open(transaction(0), Some(batch(vec![1]))).await.unwrap().transaction;
    let state = async || journal.reading(id("a"), 1).await.unwrap().unwrap().state;
    assert_eq!((state().await, journal.unsettled_count()), (State::Accepted, 1));
    journal.mined(t, included(true, vec![])).await.unwrap();
    journal.mined(t, included(true, vec![])).await.unwrap();
    assert_eq!((state().await, journal.unsettled_count()), (State::Mined, 0));
    assert_eq!(journal.unmined(vec![t]).await.unwrap(), 1);
    assert_eq!((state().await, journal.unsettled_count()), (State::Accepted, 1));
    journal.mined(t, included(true, vec![])).await.unwrap();
    journal.finalized(vec![t]).await.unwrap();
    assert_eq!((state().await, journal.unsettled_count()), (State::Final, 0));
    assert!(journal.open_transactions().await.unwrap().is_empty());
    let account = journal.account(Address::repeat_byte(1)).await.unwrap();
    assert_eq!((account.highest_nonce, account.anchor), (Some(0), Some((1, B256::repeat_byte(9)))));
    assert_eq!(journal.unmined(vec![t]).await.unwrap(), 0, "final stays final");
}

#[tokio::test]
async fn a_reverted_batch_frees_its_readings_only_when_final() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    append(&journal, "a", Settlement::Anchor, 1).recv().unwrap().unwrap();
    let t = journal.open(transaction(0), Some(batch(vec![1]))).await.unwrap().transaction;
    journal.mined(t, included(false, vec![])).await.unwrap();
    assert!(journal.unsettled(Settlement::Anchor, (0, 1), vec![], 10).await.unwrap().is_empty());
    assert_eq!(journal.finalized(vec![t]).await.unwrap(), 1);
    assert_eq!(journal.unsettled(Settlement::Anchor, (0, 1), vec![], 10).await.unwrap().len(), 1);
    assert_eq!(journal.unsettled_count(), 1);
    assert_eq!(journal.account(Address::repeat_byte(1)).await.unwrap().anchor, None);
}

#[tokio::test]
async fn a_skipped_run_is_taken_again() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    for n in 1..=2 {
        append(&journal, "b", Settlement::Batch, n).recv().unwrap().unwrap();
    }
    assert!(journal.unsettled(Settlement::Batch, (0, 1), vec![], 10).await.unwrap().is_empty(), "not registered yet");
    journal.set_registered(vec![(id("b"), 1)]).await.unwrap();
    let span = Span { device: id("b"), first: 2, count: 1 };
    let mut draft = batch(vec![1, 2]);
    draft.settlement = Settlement::Batch;
    draft.runs = vec![RunDraft { span: span.clone(), signature: Bytes::from_static(&[0; 64]) }];
    let t = journal.open(transaction(0), Some(draft)).await.unwrap().transaction;
    journal.mined(t, included(true, vec![span])).await.unwrap();
    let free = journal.unsettled(Settlement::Batch, (0, 1), vec![], 10).await.unwrap();
    assert_eq!(free.iter().map(|u| u.reading.sequence).collect::<Vec<_>>(), [2]);
    assert_eq!(journal.unsettled_count(), 1);
    drop(journal);
}

#[tokio::test]
async fn runs_of_a_key_generation_are_taken_while_its_key_is_in_force() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    let key = |byte| PublicKey::Secp256k1(Address::repeat_byte(byte));
    let row = |epoch| DeviceRow {
        epoch,
        key: Some(key(epoch as u8)),
        custodial: Some(epoch),
        ..device("b", Settlement::Batch)
    };
    journal.upsert_devices(vec![row(1)]).await.unwrap();
    append(&journal, "b", Settlement::Batch, 1).recv().unwrap().unwrap();
    journal.upsert_devices(vec![row(2)]).await.unwrap();
    journal.set_registered(vec![(id("b"), 1)]).await.unwrap();
    let keys = journal.device_keys(id("b")).await.unwrap();
    assert_eq!(
        keys.iter().map(|k| (k.epoch, k.key, k.custodial)).collect::<Vec<_>>(),
        [(1, key(1), Some(1)), (2, key(2), Some(2))]
    );
    assert_eq!(journal.unsettled(Settlement::Batch, (0, 1), vec![], 10).await.unwrap().len(), 1);
    assert!(journal.has_open_before(id("b"), 2).await.unwrap(), "in no batch");

    let mut draft = batch(vec![1]);
    draft.settlement = Settlement::Batch;
    draft.runs =
        vec![RunDraft { span: Span { device: id("b"), first: 1, count: 1 }, signature: Bytes::from_static(&[0; 64]) }];
    let t = journal.open(transaction(0), Some(draft)).await.unwrap().transaction;
    journal.mined(t, included(true, vec![])).await.unwrap();
    assert!(journal.has_open_before(id("b"), 2).await.unwrap(), "mined is not for good");
    journal.finalized(vec![t]).await.unwrap();
    assert!(!journal.has_open_before(id("b"), 2).await.unwrap());

    append(&journal, "b", Settlement::Batch, 2).recv().unwrap().unwrap();
    journal.set_registered(vec![(id("b"), 2)]).await.unwrap();
    assert!(
        journal.unsettled(Settlement::Batch, (0, 1), vec![], 10).await.unwrap().is_empty(),
        "its key is no longer in force"
    );
}

#[tokio::test]
async fn the_end_of_a_device_cannot_be_taken_back() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    journal.upsert_devices(vec![DeviceRow { end: End::Revoked, ..device("a", Settlement::Anchor) }]).await.unwrap();
    journal.set_end(id("a"), End::OnChain).await.unwrap();
    journal.upsert_devices(vec![device("a", Settlement::Anchor)]).await.unwrap();
    let row = journal.devices().await.unwrap().into_iter().find(|d| d.device == id("a")).unwrap();
    assert_eq!(row.end, End::OnChain);
}

#[tokio::test]
async fn a_failed_commit_acknowledges_nothing_and_leaves_no_hole() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    append(&journal, "a", Settlement::Anchor, 1).recv().unwrap().unwrap();
    // Stands for a full disk: SQLite answers SQLITE_FULL when the page limit is reached.
    journal.write(|c, _| Ok(c.pragma_update(None, "max_page_count", 1)?)).await.unwrap();
    let mut failed = 0;
    for n in 2..5_000 {
        if append(&journal, "a", Settlement::Anchor, n).recv().unwrap().is_err() {
            failed = n;
            break;
        }
    }
    assert!(failed > 0, "the page limit must have been reached");
    journal.write(|c, _| Ok(c.pragma_update(None, "max_page_count", 1_000_000)?)).await.unwrap();
    assert!(append(&journal, "a", Settlement::Anchor, failed).recv().unwrap().is_ok(), "goes on at the same number");
    let stored = journal.readings(Filter::default()).await.unwrap();
    assert_eq!(stored.iter().map(|r| r.reading.sequence).collect::<Vec<_>>(), (1..=failed).collect::<Vec<_>>());
}

/// Appends so many readings of "a" and makes them final in one batch.
pub(super) async fn settled(journal: &Sqlite, nonce: u64, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences.clone() {
        append(journal, "a", Settlement::Anchor, sequence).recv().unwrap().unwrap();
    }
    let number = nonce + 1;
    let draft = BatchDraft { number, ..batch(sequences.collect()) };
    let opened = Ledger::open(journal, transaction(nonce), Some(draft)).await.unwrap();
    let tx = B256::repeat_byte(nonce as u8 + 1);
    journal.mined(opened.transaction, Inclusion { tx, ..included(true, vec![]) }).await.unwrap();
    journal.finalized(vec![opened.transaction]).await.unwrap();
}

#[tokio::test]
async fn what_is_final_moves_to_an_archive_and_the_numbers_go_on() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    settled(&journal, 0, 1..=100).await;
    settled(&journal, 1, 101..=150).await;
    append(&journal, "a", Settlement::Anchor, 151).recv().unwrap().unwrap();
    let file = dir.path().join("old.sqlite");
    assert_eq!(journal.archive(file.clone(), 0).await.unwrap(), Archived::default(), "nothing is so old");
    assert!(!file.exists());
    let moved = journal.archive(file.clone(), u64::MAX).await.unwrap();
    // Of 151 the newest 64 stay.
    assert_eq!(moved, Archived { batches: 2, readings: 150, left: 87 });
    assert_eq!(journal.faults().await.unwrap(), Vec::<String>::new());
    assert_eq!(journal.totals().await.unwrap().accepted, 151);
    let rows = journal.readings(Filter::default()).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.reading.sequence).collect::<Vec<_>>(), (88..=151).collect::<Vec<_>>());
    assert_eq!(journal.batch(1).await.unwrap().unwrap().archive.as_deref(), Some("old.sqlite"));
    assert!(
        matches!(journal.archive(file.clone(), u64::MAX).await, Err(Error::Directory { .. })),
        "never over another"
    );
    journal.close().await;
    drop(journal);
    // The archive is a journal by itself.
    let archive = Sqlite::read_only_file(&file).unwrap();
    assert_eq!(archive.faults().await.unwrap(), Vec::<String>::new());
    assert_eq!(archive.batch_readings(1).await.unwrap().len(), 100);
    assert_eq!(archive.batch(2).await.unwrap().unwrap().archive, None);
    // Numbers and redeliveries go on, and what stayed leaves with the next archive.
    let journal = open(&dir).await;
    assert_eq!(journal.device(&id("a")).unwrap().unwrap().last_sequence, 151);
    for sequence in 152..=250 {
        append(&journal, "a", Settlement::Anchor, sequence).recv().unwrap().unwrap();
    }
    let again = journal.archive(dir.path().join("none.sqlite"), u64::MAX).await.unwrap();
    assert_eq!(again, Archived { batches: 0, readings: 0, left: 63 });
    assert_eq!(journal.faults().await.unwrap(), Vec::<String>::new());
    assert_eq!(journal.totals().await.unwrap().accepted, 250);
}

#[tokio::test]
async fn a_journal_with_too_much_unsettled_takes_no_more_until_something_is_mined() {
    let dir = TempDir::new().unwrap();
    drop(open(&dir).await);
    let journal = Sqlite::open(dir.path(), &Options { max_unsettled: 2, ..Options::default() }).unwrap();
    for sequence in 1..=2 {
        append(&journal, "a", Settlement::Anchor, sequence).recv().unwrap().unwrap();
    }
    assert!(journal.is_full());
    let third = || Append {
        device: id("a"),
        epoch: 1,
        settlement: Settlement::Anchor,
        sequence: 3,
        readings: vec![entry(3, (9, false))],
        quarantine: None,
        reply: Box::new(|_| {}),
    };
    assert!(matches!(journal.append(third()), Err(Refused::Full(_))));
    let opened = Ledger::open(&journal, transaction(0), Some(batch(vec![1, 2]))).await.unwrap();
    assert!(journal.is_full(), "on its way is not mined");
    journal.mined(opened.transaction, included(true, vec![])).await.unwrap();
    assert!(!journal.is_full());
    assert!(journal.append(third()).is_ok());
}

#[tokio::test]
async fn a_full_queue_gives_the_entry_back() {
    let dir = TempDir::new().unwrap();
    let journal = Sqlite::open(dir.path(), &Options { queue: 1, ..Options::default() }).unwrap();
    let (hold, held) = mpsc::channel::<()>();
    let blocked = journal.clone();
    let job = tokio::spawn(async move {
        blocked
            .write(move |_, _| {
                held.recv().ok();
                Ok(())
            })
            .await
    });
    let refusal = || Refusal {
        device: None,
        topic: "t".into(),
        payload: vec![1],
        reject: Reject::Empty,
        received_at_ms: 1,
        reply: Box::new(|_| {}),
    };
    // One entry is with the writer, one fills the queue; sooner or later the next is given back.
    let mut full = false;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        if let Err(Refused::Full(entry)) = journal.quarantine(refusal()) {
            full = entry.reject == Reject::Empty;
            break;
        }
    }
    assert!(full);
    hold.send(()).unwrap();
    job.await.unwrap().unwrap();
    journal.close().await;
    assert!(matches!(journal.quarantine(refusal()), Err(Refused::Closed(_))));
}

#[tokio::test]
async fn a_quarantined_input_becomes_a_reading_and_goes_in_one_commit_or_neither() {
    let dir = TempDir::new().unwrap();
    let journal = open(&dir).await;
    let (reply, kept) = mpsc::channel();
    let refusal = Refusal {
        device: Some(id("a")),
        topic: "t".into(),
        payload: vec![1],
        reject: Reject::Empty,
        received_at_ms: 1,
        reply: Box::new(move |r| reply.send(r).unwrap()),
    };
    journal.quarantine(refusal).unwrap();
    let row = kept.recv().unwrap().unwrap();
    let judged_again = |sequence: u64| {
        let (reply, outcome) = mpsc::channel();
        journal
            .append(Append {
                device: id("a"),
                epoch: 1,
                settlement: Settlement::Anchor,
                sequence,
                readings: vec![entry(sequence, (9, false))],
                quarantine: Some(row),
                reply: Box::new(move |r| reply.send(r).unwrap()),
            })
            .unwrap();
        outcome.recv().unwrap()
    };
    assert_eq!(judged_again(1).unwrap().sequence, 1);
    assert_eq!(journal.quarantined(Filter::default()).await.unwrap(), []);
    // The row is gone: the same input is not a second reading.
    assert!(matches!(judged_again(2), Err(AppendError::Unavailable(_))));
    assert_eq!(journal.readings(Filter::default()).await.unwrap().len(), 1);
    assert_eq!(append(&journal, "a", Settlement::Anchor, 2).recv().unwrap().unwrap().sequence, 2);
}
