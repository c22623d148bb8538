//! `windlass init`: a first config that works, its keys, and one device.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, bail};
use clap::Args;
use windlass_reading::{DeviceId, Format, Settlement};

use super::{OK, line, secret};
use crate::{
    config::{Config, Device, KeySpec},
    custody,
    devices_file::DevicesFile,
};

/// The chain id of development chains.
const DEVELOPMENT: u64 = 31_337;
/// The first account that anvil and Hardhat fund: everybody knows its key. Source: their documentation.
const DEVELOPMENT_KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// `windlass init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  windlass init shop                         for a development chain on this machine\n  \
    windlass init shop --chain-id 11155111 --rpc https://node.example   with an account of its own, to be funded\n  \
    windlass init shop --device dock-7 --format text --settlement batch"
)]
pub(super) struct Init {
    /// The directory to make it in.
    #[arg(value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
    /// The node.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8545")]
    rpc: String,
    /// The chain. On 31337, a development chain, the account is one that everybody knows; elsewhere a new one.
    #[arg(long, value_name = "ID", default_value_t = DEVELOPMENT)]
    chain_id: u64,
    /// Where MQTT is listened for. Without TLS this belongs on loopback or a private network.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1883")]
    mqtt: std::net::SocketAddr,
    /// Where HTTP is listened for.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9477")]
    http: std::net::SocketAddr,
    /// Its first device.
    #[arg(long, value_name = "ID", default_value = "scanner-1")]
    device: DeviceId,
    /// How the device's payloads are read: digits, gtin, text, json or binary.
    #[arg(long, value_name = "FORMAT", default_value = "gtin", value_parser = super::device::format)]
    format: Format,
    /// How its readings are settled: anchor, batch or direct.
    #[arg(long, value_name = "SETTLEMENT", default_value = "anchor")]
    settlement: Settlement,
}

impl Init {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        if self.format == Format::Signed {
            bail!("a device that signs has a key of its own: windlass device add ID --format signed --key …");
        }
        let directory = &self.directory;
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        self.refuse_to_overwrite()?;
        let file = |name: &str| directory.join(name);

        let development = self.chain_id == DEVELOPMENT;
        let signer = if development { DEVELOPMENT_KEY.parse()? } else { PrivateKeySigner::random() };
        keep(&file("submitter.key"), &format!("{}\n", signer.to_bytes()))?;
        let (passphrase, _) = custody::passphrase_in(&file("devices.pass"))?;
        custody::encrypt(&file("devices.json"), &custody::new_phrase(24)?, &passphrase)?;
        keep(&file("devices.toml"), "# Written by `windlass device`; it may be edited by hand too.\n")?;
        keep(&file("windlass.toml"), &self.config_text(development))?;

        let path = file("windlass.toml");
        let config = Config::load(&path)?;
        let (secret, hash) = secret::new()?;
        let mut devices = DevicesFile::for_new(&config)?;
        devices.add(&Device {
            id: self.device.clone(),
            secret: Some(hash),
            format: self.format,
            settlement: Some(self.settlement),
            key: Some(KeySpec::Custodial(0)),
            revoked: false,
            topic: None,
        })?;
        devices.save(&path)?;
        // What was written must be what the gateway takes.
        Config::load(&path)?;
        self.tell(&secret, &signer, development)?;
        Ok(OK)
    }

    /// A config that is there is somebody's, and so are its keys.
    fn refuse_to_overwrite(&self) -> anyhow::Result<()> {
        let names = ["windlass.toml", "devices.toml", "devices.json", "devices.pass", "submitter.key"];
        let there: Vec<_> = names.into_iter().filter(|name| self.directory.join(name).exists()).collect();
        if there.is_empty() {
            return Ok(());
        }
        bail!("{} has {} already; nothing was written", self.directory.display(), there.join(", "))
    }

    fn config_text(&self, development: bool) -> String {
        let Self { rpc, chain_id, mqtt, http, .. } = self;
        let account = if development {
            "# The first development account: everybody knows its key."
        } else {
            "# Made here. It pays for the transactions: fund it, and keep a copy of the key."
        };
        format!(
            "# A gateway's config. Every key: docs/configuration.md, deploy/windlass.example.toml.\n\
             data_dir = \"data\"\n\
             devices_file = \"devices.toml\"\n\n\
             [[broker.listeners]]\n\
             listen = \"{mqtt}\"\n\n\
             [chain]\n\
             rpc = [\"{rpc}\"]\n\
             chain_id = {chain_id}\n\
             confirmations = {}\n\n\
             {account}\n\
             [[chain.submitters]]\n\
             private_key_file = \"submitter.key\"\n\n\
             [keys]\n\
             keystore = \"devices.json\"\n\
             passphrase_file = \"devices.pass\"\n\n\
             [http]\n\
             listen = \"{http}\"\n",
            if development { "2" } else { "\"finalized\"" },
        )
    }

    fn tell(&self, secret: &str, signer: &PrivateKeySigner, development: bool) -> anyhow::Result<()> {
        let Self { directory, device, mqtt, http, .. } = self;
        line(&format!(
            "wrote windlass.toml, devices.toml, devices.json, devices.pass, submitter.key in {}",
            directory.display()
        ))?;
        line(&format!("device  {device}"))?;
        line(&format!("secret  {secret}"))?;
        line("the secret is shown this once: devices.toml has only its hash")?;
        line("")?;
        line("Next, in that directory:")?;
        if development {
            line("  anvil --block-time 1        a development chain, in a terminal of its own")?;
        } else {
            line(&format!("  fund {}, which pays for the transactions", signer.address()))?;
        }
        line("  windlass deploy             the contract")?;
        line("  windlass run                the gateway, in a terminal of its own")?;
        line(&format!(
            "  mosquitto_pub -h {} -p {} -V mqttv5 -q 1 -i {device} -u {device} -P {secret} -t devices/{device}/readings -m 4006381333931",
            mqtt.ip(),
            mqtt.port()
        ))?;
        line(&format!("  http://{http}/   shows it; windlass prove {device} 1 proves it"))
    }
}

/// Writes a new file that only its owner reads.
fn keep(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| path.display().to_string())?;
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}
