//! The demo's config, keys and credentials, written as an operator would write them.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use alloy::{
    primitives::hex,
    signers::local::coins_bip39::{English, Entropy, Mnemonic},
};
use anyhow::{Context, anyhow};
use sha2::{Digest, Sha256};
use windlass_reading::{DeviceId, Settlement};
use windlass_scanner::Scanner;

use super::node::{Anvil, CHAIN_ID, SUBMITTER_KEY};

/// The files of a demo and the scanners that fit them.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) config_file: PathBuf,
    pub(super) scanners: Vec<Scanner>,
}

impl Scene {
    pub(super) fn write(directory: &Path, anvil: &Anvil, devices: u32, settlement: Settlement) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        write_private(&directory.join("submitter.key"), SUBMITTER_KEY)?;
        let phrase = Mnemonic::<English>::new_from_entropy(Entropy::from_slice(random::<16>()?)?).to_phrase();
        write_private(&directory.join("devices.mnemonic"), &phrase)?;

        let mut text = format!(
            "# Written by `windlass demo`.\ndata_dir = \"data\"\n\n\
             [[broker.listeners]]\nlisten = \"127.0.0.1:0\"\n\n\
             [chain]\nrpc = [\"{}\"]\nchain_id = {CHAIN_ID}\nconfirmations = 3\n\n\
             [[chain.submitters]]\nprivate_key_file = \"submitter.key\"\n\n\
             [keys]\nmnemonic_file = \"devices.mnemonic\"\n\n\
             [http]\nlisten = \"127.0.0.1:0\"\n",
            anvil.url()
        );
        let mut scanners = Vec::new();
        for index in 0..devices {
            let id = DeviceId::new(&format!("scanner-{index:04}")).map_err(|e| anyhow!(e))?;
            let secret = hex::encode(random::<32>()?);
            let hash = hex::encode(Sha256::digest(secret.as_bytes()));
            write!(
                text,
                "\n[[devices]]\nid = \"{id}\"\nsecret = \"sha256:{hash}\"\nformat = \"gtin\"\n\
                 settlement = \"{settlement}\"\nkey = {{ custodial = {index} }}\n"
            )?;
            scanners.push(Scanner { secret: Some(secret), ..Scanner::new(id) });
        }
        let config_file = directory.join("windlass.toml");
        fs::write(&config_file, text)?;
        Ok(Self { config_file, scanners })
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| anyhow!("no randomness: {e}"))?;
    Ok(bytes)
}

/// Keys are for their owner's eyes only.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| path.display().to_string())?;
    Ok(writeln!(file, "{text}")?)
}
