//! The figures of trees, proofs and signatures, on one core. `make bench-proof`. They are printed, and written for
//! `tools/bench.py`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench: a failed expectation is a failed run"
)]

use std::time::Instant;

use alloy::{
    consensus::{
        Eip658Value, Header, Receipt, ReceiptEnvelope,
        proofs::{calculate_receipt_root, calculate_transaction_root},
    },
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, Bytes, Log, keccak256},
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::SolEvent,
};
use p256::ecdsa::{SigningKey, signature::hazmat::PrehashSigner};
use tempfile::TempDir;
use windlass_journal::{
    Append, Attempt, BatchDraft, DeviceRow, End, Entry, Filter, Inclusion, Journal, Kind, Ledger, Listing, Options,
    Sqlite, TransactionDraft,
};
use windlass_proof::{Anchored, Evidence, Tree, verify};
use windlass_reading::{DeviceId, Domain, Draft, Format, Leaves, PublicKey, Reading, Settlement, leaf};
use windlass_tests::{Figure, Figures, Limit};

const CHAIN: u64 = 31337;
const CONTRACT: Address = Address::repeat_byte(0xcc);
const DEVICES: u64 = 500;
const JOURNALED: u64 = 1_000_000;
const BATCH: u64 = 10_000;
/// What is asked of a tree, of the journal's part of a proof (p99), of a check without a node (p99), and of a file.
const TREE_MS: f64 = 500.0;
const PATH_MS: f64 = 50.0;
const VERIFY_MS: f64 = 20.0;
const FILE_BYTES: f64 = 16_384.0;

fn main() {
    let mut figures = Figures::new("proof");
    figures.measured_by("make bench-proof");
    figures.under("one core");
    trees(&mut figures);
    let tree = journaled(&mut figures);
    files(&mut figures, &tree);
    signatures(&mut figures);
    figures.write(env!("CARGO_TARGET_TMPDIR"));
}

/// What is measured so often, and the most milliseconds that its 99th percentile may be.
struct Timed<'a> {
    name: &'a str,
    times: usize,
    most_ms: Option<f64>,
}

/// Prints median, 99th percentile and greatest, in milliseconds, and keeps the first two.
fn measure<T>(figures: &mut Figures, Timed { name, times, most_ms }: Timed<'_>, mut work: impl FnMut(usize) -> T) {
    let mut took: Vec<f64> = (0..times)
        .map(|n| {
            let begun = Instant::now();
            std::hint::black_box(work(n));
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((times - 1) as f64 * share).round() as usize];
    println!("{name}: median {:.3} ms, p99 {:.3} ms, most {:.3} ms ({times} times)", at(0.5), at(0.99), at(1.0));
    for (which, share, most) in [("median", 0.5, None), ("p99", 0.99, most_ms)] {
        figures.add(Figure::lower(format!("{name}, {which}"), "ms", at(share)).asked(most.map(Limit::AtMost)));
    }
}

fn device(n: u64) -> DeviceId {
    DeviceId::new(&format!("dock-{n}")).unwrap()
}

fn reading(n: u64) -> Reading {
    Reading {
        device: device(n % DEVICES),
        epoch: 1,
        sequence: n / DEVICES + 1,
        observed_at_ms: 1_700_000_000_000 + n,
        payload: format!("{:013}", 4_006_381_000_000 + n).into_bytes(),
    }
}

fn leaf_of(reading: &Reading) -> B256 {
    leaf(reading, Domain::new(CHAIN, CONTRACT).reading(reading))
}

fn trees(figures: &mut Figures) {
    let leaves: Vec<B256> = (0..100_000u64).map(|n| keccak256(n.to_be_bytes())).collect();
    let timed = Timed { name: "tree of 100,000 leaves", times: 20, most_ms: Some(TREE_MS) };
    measure(figures, timed, |_| Tree::new(leaves.clone()).unwrap().root());
    let readings: Vec<_> = (0..100_000).map(reading).collect();
    let name = "tree of 100,000 leaves with digests and leaves of its readings";
    measure(figures, Timed { name, times: 5, most_ms: None }, |_| {
        Tree::new(readings.iter().map(leaf_of).collect()).unwrap().root()
    });
}

/// What a proof asks of the journal: the reading, its batch, the batch's readings, their tree, the path.
fn journaled(figures: &mut Figures) -> Tree {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = TempDir::new().unwrap();
    let journal = Sqlite::open(dir.path(), &Options::default()).unwrap();
    runtime.block_on(fill(&journal));
    let prove = |n: u64| {
        runtime.block_on(async {
            let wanted = reading(n);
            let row = journal.reading(wanted.device.clone(), wanted.sequence).await.unwrap().unwrap();
            let batch = journal.batch(row.batch.unwrap()).await.unwrap().unwrap();
            let readings = journal.batch_readings(batch.id).await.unwrap();
            let domain = Domain::new(CHAIN, CONTRACT);
            let mut leaves = Leaves::new(&domain);
            let tree = Tree::new(readings.iter().map(|r| leaves.leaf(r)).collect()).unwrap();
            assert!(tree.count() as u64 == BATCH && tree.proof(leaf_of(&row.reading)).is_some());
            tree
        })
    };
    let name = "path of one reading among a million journaled, in batches of 10,000";
    let timed = Timed { name, times: 100, most_ms: Some(PATH_MS) };
    measure(figures, timed, |n| prove((n as u64 * 7_919_311) % JOURNALED));
    prove(1)
}

async fn fill(journal: &Sqlite) {
    let row = |n| DeviceRow {
        device: device(n),
        format: Format::Gtin,
        settlement: Settlement::Anchor,
        epoch: 1,
        key: None,
        custodial: None,
        registered: 0,
        barcode: None,
        end: End::None,
    };
    journal.upsert_devices((0..DEVICES).map(row).collect()).await.unwrap();
    for first in (0..JOURNALED).step_by(usize::try_from(BATCH).unwrap()) {
        let (sender, stored) = std::sync::mpsc::channel();
        for n in 0..DEVICES {
            let mine: Vec<_> = (first..first + BATCH).filter(|m| m % DEVICES == n).map(reading).collect();
            let entry = |r: &Reading| Entry {
                draft: Draft {
                    observed_at_ms: r.observed_at_ms,
                    payload: r.payload.clone().into(),
                    message_id: None,
                    claim: None,
                },
                packet_id: None,
                exactly_once: false,
                received_at_ms: r.observed_at_ms,
            };
            let sender = sender.clone();
            let append = Append {
                device: device(n),
                epoch: 1,
                settlement: Settlement::Anchor,
                sequence: mine[0].sequence,
                readings: mine.iter().map(entry).collect(),
                quarantine: None,
                reply: Box::new(move |outcome| sender.send(outcome.is_ok()).unwrap()),
            };
            assert!(journal.append(append).is_ok());
        }
        drop(sender);
        assert!(stored.iter().all(|ok| ok));
        settle(journal, first / BATCH).await;
    }
    let last = journal.readings(Filter { limit: Some(1), ..Filter::default() }).await.unwrap();
    assert_eq!(last.len(), 1);
}

async fn settle(journal: &Sqlite, number: u64) {
    let waiting = journal.unsettled(Settlement::Anchor, (0, 1), vec![], BATCH as usize).await.unwrap();
    let hash = keccak256(number.to_be_bytes());
    let transaction = TransactionDraft {
        account: Address::repeat_byte(1),
        nonce: number,
        kind: Kind::Settle { settlement: Settlement::Anchor },
        attempt: Attempt { hash, raw: Bytes::from_static(b"raw"), max_fee_wei: 1, tip_wei: 1, cancel: false },
    };
    let batch = BatchDraft {
        settlement: Settlement::Anchor,
        number: number + 1,
        root: Some(hash),
        head: Some(hash),
        arrivals: waiting.iter().map(|u| u.arrival).collect(),
        runs: Vec::new(),
        log: None,
    };
    let opened = journal.open(transaction, Some(batch)).await.unwrap();
    let inclusion = Inclusion {
        tx: hash,
        block_number: number,
        block_hash: hash,
        success: true,
        gas_used: 1,
        at_ms: 1,
        skipped: Vec::new(),
    };
    journal.mined(opened.transaction, inclusion).await.unwrap();
    journal.finalized(vec![opened.transaction]).await.unwrap();
}

/// A proof file out of a full batch in a busy block: its size, and how long it takes to verify.
fn files(figures: &mut Figures, tree: &Tree) {
    let anchored = Anchored {
        submitter: Address::repeat_byte(0x51),
        batch: 12,
        root: tree.root(),
        count: tree.count() as u32,
        logSize: 1_000_000,
        logRoot: B256::repeat_byte(4),
        head: B256::repeat_byte(9),
    };
    for transactions in [1usize, 200, 1_000] {
        let receipt = |n: usize| {
            let log = Log { address: CONTRACT, data: anchored.encode_log_data() };
            let receipt = Receipt {
                status: Eip658Value::Eip658(true),
                cumulative_gas_used: 50_000 * (n as u64 + 1),
                logs: vec![log],
            };
            ReceiptEnvelope::Eip1559(receipt.with_bloom())
        };
        let receipts: Vec<_> = (0..transactions).map(receipt).collect();
        let header = Header {
            receipts_root: calculate_receipt_root(&receipts),
            transactions_root: calculate_transaction_root::<alloy::consensus::TxEnvelope>(&[]),
            base_fee_per_gas: Some(7),
            number: 9,
            ..Header::default()
        };
        let bytes = receipts.iter().map(|r| r.encoded_2718().into()).collect();
        let evidence = Evidence::new(header.hash_slow(), header, bytes).unwrap();
        let file = evidence.anchor(transactions as u64 / 2, CHAIN, CONTRACT, tree, &reading(1)).unwrap();
        let text = file.to_json().unwrap();
        let name = format!("proof file, batch of {}, block of {transactions} transactions", tree.count());
        size(figures, &name, &text);
        let name = format!("verified offline, block of {transactions} transactions");
        let timed = Timed { name: &name, times: 200, most_ms: Some(VERIFY_MS) };
        measure(figures, timed, |_| verify(text.as_bytes(), None).unwrap());
    }
    for vector in frozen() {
        let (name, text) = (vector["name"].as_str().unwrap(), vector["file"].as_str().unwrap());
        size(figures, &format!("proof file, {}", name.trim_start_matches("good: ")), text);
    }
}

fn size(figures: &mut Figures, name: &str, text: &str) {
    println!("{name}: {} bytes", text.len());
    figures.add(Figure::lower(name, "B", text.len() as f64).asked(Limit::AtMost(FILE_BYTES)));
}

fn frozen() -> Vec<serde_json::Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/proofs.json");
    let all: Vec<serde_json::Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    all.into_iter().filter(|v| v["verdict"] == "verified" && v["block"].is_null()).collect()
}

fn signatures(figures: &mut Figures) {
    let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
    let mut rate = |name: &str, mut work: Box<dyn FnMut(B256)>| {
        let (begun, times) = (Instant::now(), 2_000u64);
        (0..times).for_each(|n| work(keccak256(n.to_be_bytes())));
        let per_second = times as f64 / begun.elapsed().as_secs_f64();
        println!("{name}: {per_second:.0} a second");
        figures.add(Figure::higher(name, "1/s", per_second));
    };
    let key = signer.clone();
    rate(
        "runs signed (secp256k1)",
        Box::new(move |digest| {
            std::hint::black_box(key.sign_hash_sync(&digest).unwrap());
        }),
    );
    let digest = keccak256("one");
    let secp = signer.sign_hash_sync(&digest).unwrap().as_erc2098();
    let public = PublicKey::Secp256k1(signer.address());
    rate(
        "signed readings checked (secp256k1)",
        Box::new(move |_| {
            assert!(public.verified(digest, &secp).is_some());
        }),
    );
    let key = SigningKey::from_slice(&[9; 32]).unwrap();
    let point = PublicKey::from_bytes(&key.verifying_key().to_encoded_point(false).as_bytes()[1..]).unwrap();
    let raw: p256::ecdsa::Signature = key.sign_prehash(digest.as_slice()).unwrap();
    rate(
        "signed readings checked (P-256)",
        Box::new(move |_| {
            assert!(point.verified(digest, &raw.to_bytes()).is_some());
        }),
    );
}
