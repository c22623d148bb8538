//! A gateway on a site of its own: directory, ports, node, config.

use std::{
    fmt::Write as _,
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{Program, anvil, get, node_modules, rpc, windlass};

/// Every device's secret.
pub const SECRET: &str = "correct horse battery staple";
/// The first key of every development chain.
pub const SUBMITTER: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// Nothing that a story waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// Polls until `done` gives a value.
pub fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A directory, ports, a node and a gateway.
#[derive(Debug)]
pub struct Site {
    dir: TempDir,
    pub mqtt: u16,
    /// The listener that takes device 5446078 by its client id.
    pub bare: u16,
    pub http: u16,
    /// The node's own port; the gateway may be behind a [`Pool`](crate::Pool).
    pub rpc: u16,
    /// What the gateway logs, as `RUST_LOG` has it; empty: its own choice.
    pub log_filter: &'static str,
    /// Which rules the node's chain has; empty: its newest.
    pub hardfork: &'static str,
    /// Seconds between two blocks.
    pub block_seconds: f64,
    pub node: Option<Program>,
    pub gateway: Option<Program>,
}

/// Below the range that the kernel gives to outgoing connections, so that nothing takes a port before its owner binds it.
const PORTS: std::ops::Range<u32> = 12_000..32_000;

pub fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Other runs on this machine start elsewhere.
    let start = std::process::id().wrapping_mul(97);
    std::array::from_fn(|_| {
        loop {
            let step = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let port = u16::try_from(PORTS.start + step % (PORTS.end - PORTS.start)).unwrap();
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}

/// [`SECRET`] as the config wants it.
fn secret_hash() -> String {
    Sha256::digest(SECRET).iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

impl Site {
    /// Devices as `(id, settlement, format)`; each has a custodial key. Nothing is started.
    pub fn new(devices: &[(&str, &str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let [mqtt, bare, http, rpc] = free_ports();
        fs::write(dir.path().join("submitter.key"), SUBMITTER).unwrap();
        fs::write(
            dir.path().join("devices.mnemonic"),
            "legal winner thank year wave sausage worth useful legal winner thank yellow",
        )
        .unwrap();
        let secret = secret_hash();
        let listed = if devices.iter().any(|d| d.0 == "5446078") { "\"5446078\"" } else { "" };
        let mut text = format!(
            r#"data_dir = "data"
[[broker.listeners]]
listen = "127.0.0.1:{mqtt}"
[[broker.listeners]]
listen = "127.0.0.1:{bare}"
identify_by_client_id = [{listed}]
[chain]
rpc = ["http://127.0.0.1:{rpc}"]
chain_id = 31337
confirmations = 2
[[chain.submitters]]
private_key_file = "submitter.key"
[keys]
mnemonic_file = "devices.mnemonic"
[http]
listen = "127.0.0.1:{http}"
[settlement]
max_wait = "300ms"
"#
        );
        for (i, (id, settlement, format)) in devices.iter().enumerate() {
            write!(
                text,
                "[[devices]]\nid = \"{id}\"\nsecret = \"{secret}\"\nsettlement = \"{settlement}\"\n\
                 format = \"{format}\"\nkey = {{ custodial = {i} }}\n"
            )
            .unwrap();
            if *id == "5446078" {
                text.push_str("topic = \"5446078\"\n");
            }
        }
        fs::write(dir.path().join("windlass.toml"), text).unwrap();
        Self { dir, mqtt, bare, http, rpc, block_seconds: 1.0, log_filter: "", hardfork: "", node: None, gateway: None }
    }

    /// A site whose node runs, whose contract is deployed and whose gateway is ready.
    pub fn ready(devices: &[(&str, &str, &str)]) -> Self {
        let mut site = Self::new(devices);
        site.start_node();
        site.deploy();
        site.start();
        site.until_ready();
        site
    }

    pub fn secret_hash(&self) -> String {
        secret_hash()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Changes the config file.
    pub fn edit_config(&self, from: &str, to: &str) {
        let path = self.path("windlass.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in the config");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// Starts the node, or starts it again with the state that it left.
    pub fn start_node(&mut self) {
        let mut command = Command::new(anvil());
        let block_time = self.block_seconds.to_string();
        command.args(["--host", "127.0.0.1", "--block-time", &block_time, "--silent", "--port", &self.rpc.to_string()]);
        command.arg("--state").arg(self.path("anvil.json"));
        if !self.hardfork.is_empty() {
            command.args(["--hardfork", self.hardfork]);
        }
        self.node = Some(Program::start(&mut command, &self.path("anvil.log")));
        until("the node answers", || rpc(self.rpc, "eth_chainId", json!([])));
    }

    /// Starts another node than anvil, with the same accounts and a pool of its own.
    pub fn start_hardhat(&mut self) {
        let directory = self.path("hardhat");
        fs::create_dir_all(&directory).unwrap();
        let config = format!(
            "module.exports = {{ solidity: \"0.8.30\", networks: {{ hardhat: {{ chainId: 31337, hardfork: \"cancun\",
                mining: {{ auto: false, interval: {} }} }} }} }};",
            (self.block_seconds * 1_000.0) as u64
        );
        fs::write(directory.join("hardhat.config.js"), config).unwrap();
        fs::write(directory.join("package.json"), "{\"private\": true}").unwrap();
        std::os::unix::fs::symlink(node_modules(), directory.join("node_modules")).unwrap();
        let mut command = Command::new("node");
        command.arg(node_modules().join("hardhat/internal/cli/bootstrap.js")).current_dir(&directory);
        command.args(["node", "--hostname", "127.0.0.1", "--port", &self.rpc.to_string()]);
        command.env("HARDHAT_DISABLE_TELEMETRY_PROMPT", "true");
        self.node = Some(Program::start(&mut command, &self.path("hardhat.log")));
        until("the node answers", || rpc(self.rpc, "eth_chainId", json!([])));
    }

    /// Ends the node; it writes its state first.
    pub fn stop_node(&mut self) {
        self.node.take().unwrap().terminate();
    }

    /// A command of the binary with this site's config.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(windlass())
            .args(arguments)
            .args(["--config", "windlass.toml"])
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }

    /// `windlass verify` of a file of the site.
    pub fn verify(&self, file: &str, options: &[&str]) -> Output {
        Command::new(windlass()).args(["verify", file]).args(options).current_dir(self.dir.path()).output().unwrap()
    }

    /// The contract that the gateway settles on.
    pub fn contract(&self) -> Address {
        let text = fs::read_to_string(self.path("data/deployment.json")).unwrap();
        let deployment: Value = serde_json::from_str(&text).unwrap();
        deployment["address"].as_str().unwrap().parse().unwrap()
    }

    /// SIGHUP.
    pub fn hangup(&self) {
        self.gateway.as_ref().unwrap().signal("HUP");
    }

    pub fn deploy(&self) {
        let output = self.command(&["deploy"]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts `windlass run` and waits until it listens.
    pub fn start(&mut self) {
        let mut command = Command::new(windlass());
        command.args(["run", "--config", "windlass.toml"]).current_dir(self.dir.path());
        if !self.log_filter.is_empty() {
            command.env("RUST_LOG", self.log_filter);
        }
        self.gateway = Some(Program::start(&mut command, &self.path("gateway.log")));
        until("the gateway is live", || {
            assert!(self.gateway.as_mut().unwrap().is_running(), "the gateway ended:\n{}", self.log());
            get(self.http, "/health/live").filter(|(status, _)| *status == 200)
        });
    }

    /// Length of the journal's write-ahead log.
    pub fn log_bytes(&self) -> u64 {
        // There is none between a checkpoint that ended it and the next commit.
        fs::metadata(self.path("data/journal.sqlite-wal")).map_or(0, |file| file.len())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("gateway.log")).unwrap_or_default()
    }

    pub fn kill(&mut self) {
        self.gateway.take().unwrap().kill();
    }

    pub fn terminate(&mut self) {
        let status = self.gateway.take().unwrap().terminate();
        assert!(status.success(), "{status}: {}", self.log());
    }

    pub fn until_ready(&self) {
        until("the gateway is ready", || get(self.http, "/health/ready").filter(|(status, _)| *status == 200));
    }

    /// Waits until readiness names this reason.
    pub fn until_unready(&self, code: &str) {
        until(&format!("readiness says {code}"), || {
            get(self.http, "/health/ready").filter(|(status, body)| *status == 503 && body.contains(code))
        });
    }

    /// A listing command's rows.
    pub fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.command(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    pub fn readings(&self) -> Vec<Value> {
        self.rows(&["readings"])
    }

    /// Waits until `count` readings are stored and all of them are final.
    pub fn until_final(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} readings are final"), || {
            let rows = self.readings();
            (rows.len() == count && rows.iter().all(|r| r["state"] == "final")).then_some(rows)
        })
    }

    /// The value of a metric's series, which must exist.
    pub fn metric(&self, series: &str) -> f64 {
        let (_, page) = get(self.http, "/metrics").unwrap();
        let line = page.lines().find(|l| l.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("{series} is not on the page")).rsplit(' ').next().unwrap().parse().unwrap()
    }
}
