//! A local node: anvil, found, started on a free port, and ended with the demo.

use std::{
    env,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use windlass_chain::Nodes;

/// anvil's first development account; the key is public and only good for such a chain.
/// Source: anvil's default mnemonic, index 0.
pub(super) const SUBMITTER_KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// anvil's default chain id.
pub(super) const CHAIN_ID: u64 = 31337;
/// How long anvil may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running anvil; dropped, it is killed.
#[derive(Debug)]
pub(super) struct Anvil {
    _child: Child,
    url: String,
}

impl Anvil {
    pub(super) async fn start(block_time_s: u64, devices: u32) -> anyhow::Result<Self> {
        let program = find()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(&program)
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--silent"])
            .args(["--block-time", &block_time_s.to_string(), "--chain-id", &CHAIN_ID.to_string()])
            // One account is enough: it deploys, registers, submits and pays for the devices' accounts.
            .args(["--accounts", "1", "--balance", &(u64::from(devices) + 10_000).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let url = format!("http://127.0.0.1:{port}");
        let config = windlass_chain::Config { rpc: vec![url.clone()], ..windlass_chain::Config::default() };
        let nodes = Nodes::new(&config)?;
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        while nodes.chain_id().await.is_err() {
            if tokio::time::Instant::now() > deadline {
                bail!("{} does not answer on {url}", program.display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { _child: child, url })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

/// `WINDLASS_ANVIL`, then PATH, then the contracts' pinned tools in this or a parent directory.
fn find() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os("WINDLASS_ANVIL") {
        return Ok(path.into());
    }
    let on_path = env::var_os("PATH").into_iter().flat_map(|p| env::split_paths(&p).collect::<Vec<_>>());
    let here = env::current_dir().unwrap_or_default();
    let beside = env::current_exe().unwrap_or_default();
    let pinned = here.ancestors().chain(beside.ancestors()).map(|d| d.join("contracts/bin"));
    let modules = |d: &Path| d.parent().is_some_and(|c| c.join("node_modules/@foundry-rs").is_dir());
    on_path
        .map(|d| d.join("anvil"))
        .chain(pinned.filter(|d| modules(d)).map(|d| d.join("anvil")))
        .find(|p| p.is_file())
        .context("anvil is not here: run `make tools`, or put anvil on PATH, or set WINDLASS_ANVIL")
}
