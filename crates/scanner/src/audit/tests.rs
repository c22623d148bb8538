#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use alloy::{
    primitives::{B256, U256, hex},
    sol_types::{SolCall, SolEvent},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use windlass_contract::{Barcode, Windlass};
use windlass_proof::Tree;
use windlass_reading::{DeviceId, Domain, Reading, leaf};

use super::*;

pub(super) fn entry(device: &str, payload: &str, resent: u32) -> Entry {
    let device = DeviceId::new(device).unwrap();
    Entry { device, payload: payload.into(), resent, read_at: 10_000, acknowledged_at: 11_000 }
}

fn row(device: &str, sequence: u64, payload: &str) -> Row {
    Row {
        device: device.into(),
        epoch: 1,
        sequence,
        observed_at: 0,
        received_at: 10_000,
        payload: payload.into(),
        state: "final".into(),
        settlement: "anchor".into(),
        batch: None,
        tx: None,
        block: None,
    }
}

fn compare_with(ledger: &[Entry], rows: &[Row], ahead_ms: u64) -> Audit {
    let mut audit = Audit { acknowledged: ledger.len() as u64, ..Audit::default() };
    let mut accounts = accounts(ledger);
    for row in rows {
        audit.take(row, &mut accounts, ahead_ms);
    }
    audit.close(accounts);
    audit
}

fn compare(ledger: &[Entry], rows: &[Row]) -> Audit {
    compare_with(ledger, rows, 0)
}

#[test]
fn what_was_acknowledged_must_be_there_once() {
    let ledger = [entry("a", "1", 0), entry("a", "2", 1), entry("b", "1", 0)];
    let good = [row("a", 7, "1"), row("b", 1, "1"), row("a", 8, "2"), row("a", 9, "2"), row("c", 5, "1")];
    let audit = compare(&ledger, &good);
    assert!(audit.verdict() == Verdict::Clean && audit.stored == 4, "{audit:?}");
    // Sent anew once, so that it may be there twice and no more.
    assert_eq!(compare(&ledger, &[&good[..], &[row("a", 10, "2")]].concat()).doubled, 1);
    // Published, and its acknowledgement was lost.
    assert_eq!(compare(&ledger, &[&good[..], &[row("a", 10, "3")]].concat()).verdict(), Verdict::Clean);
    let audit = compare(&ledger, &[row("a", 7, "1"), row("a", 8, "1"), row("a", 10, "2")]);
    assert_eq!((audit.lost, audit.doubled, audit.holes), (1, 1, 1), "{audit:?}");
    // Of an earlier run that read the same.
    let mut earlier = row("b", 1, "1");
    earlier.received_at = 9_999;
    assert_eq!(compare(&ledger[2..], &[earlier]).lost, 1);
    // Of an earlier run just before, or by a clock that is behind.
    let just = |received_at, sequence| Row { received_at, ..row("b", sequence, "1") };
    let close = |rows: &[Row]| {
        let audit = compare_with(&ledger[2..], rows, 2_000);
        (audit.lost, audit.doubled)
    };
    assert_eq!(close(&[just(9_000, 1)]), (0, 0));
    assert_eq!(close(&[just(8_500, 1), just(9_000, 2), just(10_001, 3)]), (0, 0));
    assert_eq!(close(&[just(9_000, 1), just(10_001, 2), just(10_002, 3)]), (0, 1));
    let mut waiting = row("b", 1, "1");
    waiting.state = "mined".into();
    assert_eq!(compare(&ledger[2..], &[waiting]).lost, 1);
}

#[test]
fn an_element_string_is_found_by_its_gtin_or_in_hex() {
    let code = "010400638133393117280101\u{1d}21000000000001";
    let ledger = [entry("a", code, 0)];
    assert_eq!(compare(&ledger, &[row("a", 1, "04006381333931")]).verdict(), Verdict::Clean);
    let whole = hex::encode_prefixed(code);
    assert_eq!(compare(&ledger, &[row("a", 1, &whole)]).verdict(), Verdict::Clean);
    assert_eq!(compare(&ledger, &[row("a", 1, "04006381333932")]).lost, 1);
}

#[test]
fn more_readings_of_a_product_than_were_acknowledged_are_doubled() {
    let code = |serial| format!("010400638133393117280101\u{1d}2100000000000{serial}");
    let ledger = [entry("a", &code(1), 0), entry("a", &code(2), 1)];
    let rows: Vec<_> = (1..=4).map(|n| row("a", n, "04006381333931")).collect();
    assert_eq!(compare(&ledger, &rows[..2]).verdict(), Verdict::Clean);
    assert_eq!(compare(&ledger, &rows[..3]).verdict(), Verdict::Clean, "the second was sent anew");
    assert_eq!(compare(&ledger, &rows).doubled, 1);
    assert_eq!(compare(&ledger, &rows[..1]).lost, 1);
}

const CONTRACT: Address = Address::repeat_byte(1);
const SUBMITTER: Address = Address::repeat_byte(2);
const ACCOUNT: Address = Address::repeat_byte(3);
const BARCODE: Address = Address::repeat_byte(4);

/// What a gateway and a node answer; one server is both.
#[derive(Clone, Default)]
struct World {
    rows: Vec<Value>,
    batches: Vec<Value>,
    logs: Vec<Value>,
    transactions: Vec<Value>,
}

/// A reading that is in `batch`, in block 5.
fn stored(device: &str, sequence: u64, payload: &str, batch: u64) -> Value {
    json!({ "device": device, "epoch": 1, "sequence": sequence, "observed_at": 0, "received_at": 10_500,
        "payload": payload, "state": "final", "settlement": "anchor", "batch": batch, "tx": null, "block": 5 })
}

fn root(rows: &[Value]) -> B256 {
    let domain = Domain::new(1, CONTRACT);
    let leaves = rows.iter().map(|row| {
        let reading = Reading {
            device: DeviceId::new(row["device"].as_str().unwrap()).unwrap(),
            epoch: 1,
            sequence: row["sequence"].as_u64().unwrap(),
            observed_at_ms: 0,
            payload: row["payload"].as_str().unwrap().into(),
        };
        leaf(&reading, domain.reading(&reading))
    });
    Tree::new(leaves.collect()).unwrap().root()
}

fn anchored(root: B256, count: u32, submitter: Address) -> Value {
    let event =
        Windlass::Anchored { submitter, batch: 1, root, count, logSize: 0, logRoot: B256::ZERO, head: B256::ZERO };
    let data = event.encode_log_data();
    json!({ "topics": data.topics(), "data": data.data })
}

/// `set` from the device's account.
fn setting(nonce: u64, value: u64, to: Address) -> Value {
    let call = Barcode::setCall { value: U256::from(value) };
    json!({ "hash": B256::with_last_byte(nonce as u8), "from": ACCOUNT, "to": to, "nonce": format!("{nonce:#x}"),
        "blockNumber": "0x5", "input": hex::encode_prefixed(call.abi_encode()) })
}

fn set(sequence: u64, value: u64, nonce: u64) -> Value {
    let mut row = stored("d", sequence, &value.to_string(), 1);
    row["settlement"] = json!("direct");
    row["tx"] = json!(B256::with_last_byte(nonce as u8));
    row
}

impl World {
    /// A batch of these readings, anchored.
    fn batch(mut self, number: u64, rows: Vec<Value>) -> Self {
        let root = root(&rows);
        self.logs.push(anchored(root, rows.len() as u32, SUBMITTER));
        self.batches.push(json!({ "batch": number, "count": rows.len(), "root": root, "archive": null }));
        self.rows.extend(rows);
        self
    }

    fn answer(&self, path: &str, body: &Value) -> Value {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let asked = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| asked(name).map(|value| value.parse::<u64>().unwrap());
        match path.trim_start_matches("/api/v1/") {
            "/" => json!({ "result": self.node(body["method"].as_str().unwrap(), &body["params"]) }),
            "status" => json!({ "chain_id": 1, "contract": CONTRACT }),
            "devices" => {
                json!([{ "device": asked("device"), "address": ACCOUNT, "barcode": BARCODE, "last_sequence": 3 }])
            }
            "batches" => json!(self.batches),
            "readings" => {
                let mut rows = self.rows.clone();
                rows.retain(|row| asked("state").is_none_or(|state| row["state"] == state));
                rows.retain(|row| number("batch").is_none_or(|batch| row["batch"] == batch));
                rows.retain(|row| number("since").is_none_or(|since| row["received_at"].as_u64() >= Some(since)));
                rows.retain(|row| number("until").is_none_or(|until| row["received_at"].as_u64() < Some(until)));
                json!(rows)
            }
            other => {
                let number: u64 = other.strip_prefix("batches/").expect(path).parse().unwrap();
                self.batches.iter().find(|batch| batch["batch"] == number).unwrap().clone()
            }
        }
    }

    fn node(&self, method: &str, params: &Value) -> Value {
        let with_hash = |tx: &&Value| tx["hash"] == params[0];
        match method {
            "eth_chainId" => json!("0x1"),
            "eth_getLogs" => json!(self.logs),
            "eth_getTransactionByHash" => self.transactions.iter().find(with_hash).cloned().unwrap_or_default(),
            "eth_getTransactionReceipt" => json!({ "status": "0x1" }),
            "eth_getTransactionCount" => {
                let nonces =
                    self.transactions.iter().map(|tx| tx["nonce"].as_str().unwrap()[2..].parse::<u64>().unwrap());
                json!(format!("{:#x}", nonces.max().unwrap() + 1))
            }
            "eth_blockNumber" => json!("0x5"),
            "eth_getBlockByNumber" => json!({ "transactions": self.transactions }),
            other => panic!("{other}"),
        }
    }

    /// Serves until the test ends, and gives its address.
    async fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(self);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let world = Arc::clone(&world);
                tokio::spawn(async move {
                    let mut input = Vec::new();
                    let (head, body) = loop {
                        assert!(socket.read_buf(&mut input).await.unwrap() > 0);
                        let text = String::from_utf8(input.clone()).unwrap();
                        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                            break (head.to_owned(), body.to_owned());
                        }
                    };
                    let path = head.split(' ').nth(1).unwrap();
                    let answer = world.answer(path, &serde_json::from_str(&body).unwrap_or_default()).to_string();
                    let text = format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n\
                         content-length: {}\r\n\r\n{answer}",
                        answer.len()
                    );
                    socket.write_all(text.as_bytes()).await.unwrap();
                });
            }
        });
        address
    }

    async fn audit(self, ledger: &[Entry]) -> Audit {
        let address = self.serve().await;
        audit(ledger, &witnesses(&address)).await.unwrap()
    }
}

fn witnesses(address: &str) -> Witnesses {
    drop(rustls::crypto::ring::default_provider().install_default());
    let wait = Duration::from_millis(100);
    Witnesses { api: address.into(), token: None, rpc: Some(address.into()), contract: None, wait }
}

/// Two readings of the ledger's device, one of another.
fn three() -> (Vec<Entry>, Vec<Value>) {
    let ledger = vec![entry("a", "1", 0), entry("a", "2", 0)];
    (ledger, vec![stored("a", 1, "1", 1), stored("other", 9, "5", 1), stored("a", 2, "2", 1)])
}

#[tokio::test]
async fn a_ledger_without_readings_is_not_clean_and_an_unreachable_gateway_is_an_error() {
    let nowhere = witnesses("http://127.0.0.1:1");
    let empty = audit(&[], &nowhere).await.unwrap();
    assert_eq!((empty.verdict(), empty.problems.len()), (Verdict::NothingToAudit, 1));
    assert!(empty.summary().contains("nothing to audit"), "{}", empty.summary());
    assert!(audit(&[entry("a", "1", 0)], &nowhere).await.is_err());
}

#[tokio::test]
async fn each_acknowledged_reading_must_be_in_a_root_that_was_anchored() {
    let (ledger, rows) = three();
    let world = World::default().batch(1, rows);
    let good = world.clone().audit(&ledger).await;
    assert_eq!((good.verdict(), good.on_chain, good.confirmed), (Verdict::Clean, Some(3), Some(2)), "{good:?}");
    assert!(good.summary().contains("2 of the ledger, 1 that went with them"), "{}", good.summary());
    // The gateway leaves one out of the batch: what is left does not hash to the root.
    let mut short = world.clone();
    short.rows.remove(1);
    let short = short.audit(&ledger).await;
    assert_eq!((short.verdict(), short.confirmed), (Verdict::Disagree, Some(0)), "{short:?}");
    // Nothing at all is on chain.
    let mut bare = world;
    bare.logs.clear();
    assert_eq!(bare.audit(&ledger).await.verdict(), Verdict::Disagree);
}

#[tokio::test]
async fn a_batch_that_reaches_out_of_the_run_is_asked_for_whole() {
    let (ledger, mut rows) = three();
    rows[1]["received_at"] = json!(1);
    let audit = World::default().batch(1, rows).audit(&ledger).await;
    assert_eq!((audit.verdict(), audit.on_chain, audit.unchecked), (Verdict::Clean, Some(3), 0), "{audit:?}");
}

#[tokio::test]
async fn a_batch_that_is_partly_in_an_archive_is_not_checked_but_must_be_anchored() {
    let (ledger, rows) = three();
    let mut world = World::default().batch(1, rows);
    world.rows.remove(1);
    world.batches[0]["archive"] = json!("old.sqlite");
    let told = world.clone().audit(&ledger).await;
    assert_eq!((told.verdict(), told.confirmed, told.unchecked), (Verdict::Clean, Some(0), 2), "{told:?}");
    assert!(told.summary().contains("2 not checked"), "{}", told.summary());
    world.logs.clear();
    assert_eq!(world.audit(&ledger).await.verdict(), Verdict::Disagree);
}

#[tokio::test]
async fn other_devices_and_later_readings_hold_nothing_up() {
    let (ledger, rows) = three();
    let mut waiting = stored("other", 10, "6", 2);
    (waiting["state"], waiting["block"], waiting["batch"]) = (json!("accepted"), json!(null), json!(null));
    let mut later = stored("a", 3, "1", 2);
    (later["state"], later["received_at"]) = (json!("accepted"), json!(60_000));
    let mut world = World::default().batch(1, rows);
    world.rows.extend([waiting, later]);
    assert_eq!(world.audit(&ledger).await.verdict(), Verdict::Clean);
}

#[tokio::test]
async fn an_anchor_that_no_batch_stands_for_is_told() {
    let (ledger, rows) = three();
    let world = World::default().batch(1, rows).batch(2, vec![stored("other", 1, "7", 2)]);
    assert_eq!(world.clone().audit(&ledger).await.verdict(), Verdict::Clean);
    let with = |submitter| {
        let mut world = world.clone();
        world.logs.push(anchored(B256::repeat_byte(7), 2, submitter));
        world
    };
    assert_eq!(with(SUBMITTER).audit(&ledger).await.verdict(), Verdict::Disagree);
    assert_eq!(with(ACCOUNT).audit(&ledger).await.verdict(), Verdict::Clean, "of another gateway");
}

#[tokio::test]
async fn a_direct_reading_is_its_transaction_and_no_other_sets_a_value() {
    let ledger = [entry("d", "1", 0), entry("d", "2", 0), entry("d", "3", 0)];
    let world = World {
        rows: vec![set(1, 1, 4), set(2, 2, 5), set(3, 3, 7)],
        transactions: vec![setting(4, 1, BARCODE), setting(5, 2, BARCODE), setting(7, 3, BARCODE)],
        ..World::default()
    };
    let good = world.clone().audit(&ledger).await;
    assert_eq!((good.verdict(), good.confirmed), (Verdict::Clean, Some(3)), "{good:?}");
    let with = |transaction: Value| {
        let mut world = world.clone();
        world.transactions.retain(|tx| tx["nonce"] != transaction["nonce"]);
        world.transactions.push(transaction);
        world
    };
    // At another contract, or another value.
    assert_eq!(with(setting(5, 2, CONTRACT)).audit(&ledger).await.confirmed, Some(2));
    assert_eq!(with(setting(5, 1, BARCODE)).audit(&ledger).await.confirmed, Some(2));
    // A second time, between the readings or after them; before them it is an earlier reading's.
    for (nonce, verdict) in [(6, Verdict::Disagree), (8, Verdict::Disagree), (3, Verdict::Clean)] {
        let audit = with(setting(nonce, 2, BARCODE)).audit(&ledger).await;
        assert_eq!((audit.verdict(), audit.confirmed), (verdict, Some(3)), "{nonce}: {audit:?}");
    }
}
