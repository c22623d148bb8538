//! The worker against a real anvil: all three settlements, a restart in the middle, and a reorg.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::HashMap,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, Signature, U256},
    rpc::client::RpcClient,
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::SolCall,
};
use async_trait::async_trait;
use tempfile::TempDir;
use tokio::time::Instant;
use windlass_chain::{Config, Confirmations, Limits, Settled, Setup, Signatory, Stage, Worker};
use windlass_contract::Barcode;
use windlass_journal::{Append, DeviceRow, End, Entry, Filter, Journal, Ledger, Listing, Options, Sqlite, State};
use windlass_reading::{DeviceId, Draft, Format, PublicKey, Settlement};

const SUBMITTER: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const DEADLINE: Duration = Duration::from_secs(40);

struct Node {
    child: Child,
    url: String,
}

impl Node {
    async fn start() -> Self {
        let anvil = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/bin/anvil");
        assert!(anvil.is_file(), "anvil is missing: run make tools");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(anvil)
            .args(["--port", &port.to_string(), "--block-time", "1", "--silent"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let node = Self { child, url: format!("http://127.0.0.1:{port}") };
        let config = Config { rpc: vec![node.url.clone()], ..Config::default() };
        let nodes = windlass_chain::Nodes::new(&config).unwrap();
        let begun = Instant::now();
        while nodes.chain_id().await.is_err() {
            assert!(begun.elapsed() < DEADLINE, "anvil does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        node
    }

    async fn call<P: alloy::rpc::json_rpc::RpcSend, R: alloy::rpc::json_rpc::RpcRecv>(
        &self,
        method: &'static str,
        params: P,
    ) -> Result<R, String> {
        let client = RpcClient::new_http(self.url.parse().unwrap());
        client.request(method, params).await.map_err(|e| e.to_string())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The script execs the binary, so this is anvil itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Keys(HashMap<DeviceId, PrivateKeySigner>);

#[async_trait]
impl Signatory for Keys {
    async fn sign(&self, device: &DeviceId, _: Option<u32>, digest: B256) -> Result<Signature, String> {
        self.0.get(device).ok_or("unknown")?.sign_hash_sync(&digest).map_err(|e| e.to_string())
    }
}

struct Gateway {
    dir: TempDir,
    journal: Sqlite,
    worker: Worker,
    steps: Arc<Mutex<Vec<Settled>>>,
    next: HashMap<DeviceId, u64>,
}

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

fn key(index: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(index + 1)).unwrap()
}

fn worker(node: &Node, journal: &Sqlite, contract: Option<Address>, steps: &Arc<Mutex<Vec<Settled>>>) -> Worker {
    let steps = steps.clone();
    Worker::new(Setup {
        config: Config {
            rpc: vec![node.url.clone()],
            confirmations: Confirmations::Blocks(2),
            poll_interval: Duration::from_millis(50),
            ..Config::default()
        },
        limits: Limits { max_wait: Duration::from_millis(200), ..Limits::default() },
        submitters: vec![SUBMITTER.parse::<PrivateKeySigner>().unwrap().into()],
        ledger: Arc::new(journal.clone()),
        signatory: Arc::new(Keys((0..3).map(|i| (id(&format!("d{i}")), key(i))).collect())),
        contract: Box::new(move || contract),
        observer: Box::new(move |s| {
            steps.lock().unwrap().push(s);
            true
        }),
        standing: Arc::default(),
    })
    .unwrap()
}

impl Gateway {
    async fn start(node: &Node) -> Self {
        let dir = TempDir::new().unwrap();
        let journal = Sqlite::open(dir.path(), &Options::default()).unwrap();
        let devices = [Settlement::Anchor, Settlement::Batch, Settlement::Direct].into_iter().zip(0u8..);
        let rows = devices.map(|(settlement, i)| DeviceRow {
            device: id(&format!("d{i}")),
            format: Format::Digits,
            settlement,
            epoch: 1,
            key: Some(PublicKey::Secp256k1(key(i).address())),
            custodial: Some(u32::from(i)),
            registered: 0,
            barcode: None,
            end: End::None,
        });
        journal.upsert_devices(rows.collect()).await.unwrap();
        let steps = Arc::default();
        let deployment = worker(node, &journal, None, &steps).deploy().await.unwrap();
        let worker = worker(node, &journal, Some(deployment.address), &steps);
        Self { dir, journal, worker, steps, next: HashMap::new() }
    }

    fn publish(&mut self, device: &str, settlement: Settlement, payload: &str) {
        let sequence = self.next.entry(id(device)).or_insert(0);
        *sequence += 1;
        let (reply, outcome) = mpsc::channel();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
        self.journal
            .append(Append {
                device: id(device),
                epoch: 1,
                settlement,
                sequence: *sequence,
                readings: vec![Entry {
                    draft: Draft {
                        observed_at_ms: now,
                        payload: payload.as_bytes().into(),
                        message_id: None,
                        claim: None,
                    },
                    packet_id: None,
                    exactly_once: false,
                    received_at_ms: now,
                }],
                quarantine: None,
                reply: Box::new(move |r| reply.send(r).unwrap()),
            })
            .unwrap();
        outcome.recv().unwrap().unwrap();
    }

    fn publish_all(&mut self, count: u64) {
        for n in 0..count {
            self.publish("d0", Settlement::Anchor, &format!("00{n}"));
            self.publish("d1", Settlement::Batch, &format!("1{n}"));
            self.publish("d2", Settlement::Direct, &format!("02{n}"));
        }
    }

    async fn until(&mut self, what: &str, done: impl AsyncFn(&Sqlite) -> bool) {
        let begun = Instant::now();
        while !done(&self.journal).await {
            assert!(begun.elapsed() < DEADLINE, "{what} did not happen");
            self.worker.tick().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_all_final(&mut self) {
        self.until("final", async |j| {
            let t = j.totals().await.unwrap();
            t.accepted > 0 && t.finalized == t.accepted
        })
        .await;
    }

    /// What the chain says: anchored and recorded readings, and the direct device's number and transactions.
    async fn on_chain(&self) -> (u64, u64, u64) {
        use alloy::{rpc::types::Filter as Logs, sol_types::SolEvent};
        use windlass_contract::Windlass;
        let nodes = self.worker.nodes();
        let logs = |topic| Logs::new().event_signature(topic).from_block(0u64);
        let anchored = nodes.logs(&logs(Windlass::Anchored::SIGNATURE_HASH)).await.unwrap();
        let recorded = nodes.logs(&logs(Windlass::Recorded::SIGNATURE_HASH)).await.unwrap();
        let device = self.journal.devices().await.unwrap().into_iter().find(|d| d.device == id("d2")).unwrap();
        let sets = nodes.nonce(device.address().unwrap()).await.unwrap() - 1;
        (
            anchored.iter().map(|l| u64::from(Windlass::Anchored::decode_log_data(&l.inner.data).unwrap().count)).sum(),
            recorded.iter().map(|l| u64::from(Windlass::Recorded::decode_log_data(&l.inner.data).unwrap().count)).sum(),
            sets,
        )
    }
}

#[tokio::test]
async fn every_settlement_lands_once_and_becomes_final() {
    let node = Node::start().await;
    let mut gateway = Gateway::start(&node).await;
    gateway.publish_all(20);
    gateway.until_all_final().await;
    assert_eq!(gateway.on_chain().await, (20, 20, 20));
    let device = gateway.journal.devices().await.unwrap().into_iter().find(|d| d.device == id("d2")).unwrap();
    let data = Barcode::getCall {}.abi_encode().into();
    let answer = gateway.worker.nodes().call(device.barcode.unwrap(), data).await.unwrap();
    assert_eq!(Barcode::getCall::abi_decode_returns(&answer).unwrap(), U256::from(219));
    let rows = gateway.journal.readings(Filter { device: Some(id("d2")), ..Filter::default() }).await.unwrap();
    assert_eq!(rows[7].reading.payload, b"027");
    assert!(rows.iter().all(|r| r.state == State::Final && r.block.is_some() && r.tx.is_some()));
    let stages: Vec<_> = gateway.steps.lock().unwrap().iter().map(|s| s.stage).collect();
    assert!(stages.contains(&Stage::Mined) && stages.contains(&Stage::Final));
    assert_eq!(gateway.journal.unsettled_count(), 0);
}

#[tokio::test]
async fn a_restart_finishes_what_was_open_and_doubles_nothing() {
    let node = Node::start().await;
    let mut gateway = Gateway::start(&node).await;
    gateway.publish_all(5);
    gateway.until("registration", async |j| j.devices().await.unwrap().iter().all(DeviceRow::is_registered)).await;
    for round in 0..4 {
        gateway.publish_all(3);
        // Drop the worker at different points of its way: right after a tick that opened transactions, and later.
        for _ in 0..=round * 3 {
            gateway.worker.tick().await;
        }
        let contract = gateway.journal.meta("contract".into()).await.unwrap().unwrap();
        let address = contract.split_once(':').unwrap().1.parse().unwrap();
        let steps = gateway.steps.clone();
        gateway.worker = worker(&node, &gateway.journal, Some(address), &steps);
    }
    gateway.until_all_final().await;
    assert_eq!(gateway.on_chain().await, (17, 17, 17));
    assert!(gateway.dir.path().is_dir());
}

#[tokio::test]
async fn a_reorg_settles_the_readings_again() {
    let node = Node::start().await;
    let mut gateway = Gateway::start(&node).await;
    gateway.publish_all(3);
    gateway.until_all_final().await;
    gateway.publish_all(3);
    gateway
        .until("mined", async |j| {
            let t = j.totals().await.unwrap();
            t.mined == t.accepted
        })
        .await;
    node.call::<_, serde_json::Value>("anvil_reorg", (1u64, Vec::<u8>::new())).await.unwrap();
    gateway.until_all_final().await;
    assert_eq!(gateway.on_chain().await, (6, 6, 6));
}
