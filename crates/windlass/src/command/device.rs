//! `windlass device …`: config, credentials and registry of a device, together.
//!
//! Each command changes the file first, has the running gateway read it, and then waits until the chain has followed. It
//! may be interrupted anywhere and given again: what is done already is not done twice.

use std::{io::IsTerminal, path::Path, time::Duration};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use windlass_journal::{DeviceRow, End, Filter, Ledger, Listing, Sqlite};
use windlass_reading::{DeviceId, Format, PublicKey, Settlement};

use super::{FAILED, OK, WithConfig, block_on, line, list::Rows, secret};
use crate::{
    app::admin::{self, Question, Reply},
    config::{Config, Device as Entry, KeySpec},
    devices_file::DevicesFile,
    rows,
};

/// Between two looks at what has become of a device.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// `windlass device …`.
#[derive(Debug, Subcommand)]
pub(super) enum Device {
    /// Add a device to the devices file, with a new secret, and register its key on chain.
    Add(Add),
    /// List the devices that the gateway has seen in its config, with their standing on chain.
    List(Rows),
    /// Show one device: config, keys, standing on chain, how many readings.
    Show(Show),
    /// Put another key in force; the sequence goes on.
    Rotate(Rotate),
    /// Give a device another secret.
    Secret(Of),
    /// End a device for good: its session, and its numbers on chain.
    Revoke(Revoke),
}

/// A device and a config.
#[derive(Debug, Args)]
pub(super) struct Of {
    /// The device.
    #[arg(value_name = "ID")]
    device: DeviceId,
    #[command(flatten)]
    config: WithConfig,
}

/// `windlass device add`.
#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    of: Of,
    /// How its payloads are read [default: digits].
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Format>,
    /// How its readings are settled [default: settlement.default].
    #[arg(long, value_name = "SETTLEMENT")]
    settlement: Option<Settlement>,
    /// A topic of its own, for firmware that cannot be changed.
    #[arg(long)]
    topic: Option<String>,
    /// `secp256k1:0x…` or `p256:0x…` for a key that the device holds; without it the gateway's next one.
    #[arg(long, value_name = "KIND:KEY", value_parser = held)]
    key: Option<KeySpec>,
    /// Do not wait until the key is registered on chain.
    #[arg(long)]
    no_wait: bool,
}

/// `windlass device show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    of: Of,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// `windlass device rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    of: Of,
    /// The new key of a device that holds it: `secp256k1:0x…` or `p256:0x…`. Without it the gateway's next one.
    #[arg(long, value_name = "KIND:KEY", value_parser = held)]
    key: Option<KeySpec>,
    /// Do not wait until the key is in force on chain.
    #[arg(long)]
    no_wait: bool,
}

/// `windlass device revoke`.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    of: Of,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Do not wait until the chain takes nothing more from it.
    #[arg(long)]
    no_wait: bool,
}

pub(super) fn format(text: &str) -> Result<Format, String> {
    Format::ALL.into_iter().find(|f| f.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = Format::ALL.iter().map(|f| f.as_str()).collect();
        format!("one of {}", known.join(", "))
    })
}

fn held(text: &str) -> Result<KeySpec, String> {
    let (kind, key) = text.split_once(':').ok_or("secp256k1:0x… or p256:0x…")?;
    let spec = match kind {
        "secp256k1" => KeySpec::Secp256k1(key.to_owned()),
        "p256" => KeySpec::P256(key.to_owned()),
        _ => return Err(format!("{kind} is neither secp256k1 nor p256")),
    };
    spec.held().map(|_| spec)
}

impl Device {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        match self {
            Self::Add(options) => options.run(),
            Self::List(options) => list(options),
            Self::Show(options) => options.run(),
            Self::Rotate(options) => options.run(),
            Self::Secret(options) => secret(options),
            Self::Revoke(options) => options.run(),
        }
    }
}

fn list(options: &Rows) -> anyhow::Result<u8> {
    let journal = options.journal()?;
    let devices = block_on(async { Ok(journal.device_listing(options.filter()).await?) })?;
    let rows: Vec<_> = devices.iter().map(rows::device).collect();
    options.print(
        &["device", "format", "settlement", "epoch", "kind", "registered", "revoked", "address", "barcode"],
        &rows,
    )
}

impl Of {
    fn entry(&self, config: &Config) -> anyhow::Result<Entry> {
        let entry = config.devices.iter().find(|d| d.id == self.device).cloned();
        entry.with_context(|| format!("{} is not in the config", self.device))
    }
}

impl Add {
    fn run(&self) -> anyhow::Result<u8> {
        let config = self.of.config.load()?;
        let device = &self.of.device;
        if let Some(entry) = config.devices.iter().find(|d| d.id == *device) {
            self.same_as(entry)?;
            line(&format!("{device} is in the config already; its secret stays as it is"))?;
        } else {
            let (secret, hash) = secret::new()?;
            let key = self.key.clone().map_or_else(|| custodial(&config), |key| Ok(Some(key)))?;
            let entry = Entry {
                id: device.clone(),
                secret: Some(hash),
                format: self.format.unwrap_or_else(|| signed_or_default(&self.key)),
                settlement: self.settlement,
                key,
                revoked: false,
                topic: self.topic.clone(),
            };
            let mut file = DevicesFile::for_new(&config)?;
            file.add(&entry)?;
            take_into_use(&self.of.config, &config, &file)?;
            line(&format!("added {device} to {}", file.path().display()))?;
            line(&format!("secret {secret}"))?;
            line("the secret is shown this once: the config has only its hash")?;
        }
        if self.no_wait {
            Ok(OK)
        } else {
            settled(&config, device, DeviceRow::is_registered, "its key is registered on chain")
        }
    }

    /// An entry that is there already must be what is asked for.
    fn same_as(&self, entry: &Entry) -> anyhow::Result<()> {
        let asked =
            |other: bool, what: &str| if other { bail!("{} is there with another {what}", entry.id) } else { Ok(()) };
        asked(self.format.is_some_and(|f| f != entry.format), "format")?;
        asked(self.settlement.is_some() && self.settlement != entry.settlement, "settlement")?;
        asked(self.topic.is_some() && self.topic != entry.topic, "topic")?;
        asked(self.key.is_some() && self.key != entry.key, "key: `windlass device rotate` changes it")?;
        asked(entry.revoked, "state: it is revoked")
    }
}

/// A key that the device holds signs; the article's format otherwise.
fn signed_or_default(key: &Option<KeySpec>) -> Format {
    if key.is_some() { Format::Signed } else { Format::default() }
}

impl Rotate {
    fn run(&self) -> anyhow::Result<u8> {
        let config = self.of.config.load()?;
        let device = &self.of.device;
        let entry = self.of.entry(&config)?;
        if entry.revoked {
            bail!("{device} is revoked");
        }
        let Some(row) = row(&config, device)? else {
            bail!("{device} was never in use: no gateway has started with it, so its first key is still unused");
        };
        if under_way(&row, &entry) {
            line(&format!("a change of {device}'s key is under way already; this goes on with it"))?;
            reload(&config, None)?;
        } else if self.key.is_some() && self.key == entry.key {
            line(&format!("{device} has this key already"))?;
        } else {
            let key = match (&self.key, &entry.key) {
                (Some(key), _) => key.clone(),
                (None, Some(KeySpec::Custodial(_))) => {
                    custodial(&config)?.context("[keys] names no mnemonic, so there is no next key")?
                }
                (None, Some(_)) => bail!("{device} holds its key: give the new one with --key"),
                (None, None) => bail!("{device} has no key"),
            };
            let mut file = DevicesFile::with(&config, device)?;
            file.set_key(device, &key);
            take_into_use(&self.of.config, &config, &file)?;
            line(&format!("{device} has another key in {}", file.path().display()))?;
        }
        if self.no_wait {
            Ok(OK)
        } else {
            settled(&config, device, DeviceRow::is_registered, "its new key is in force on chain")
        }
    }
}

/// Whether the journal or the chain has yet to follow the config.
fn under_way(row: &DeviceRow, entry: &Entry) -> bool {
    let follows = match &entry.key {
        Some(KeySpec::Custodial(index)) => row.custodial == Some(*index),
        Some(held) => held.held().ok().flatten() == row.key,
        None => true,
    };
    !follows || !row.is_registered()
}

impl Revoke {
    fn run(&self) -> anyhow::Result<u8> {
        let config = self.of.config.load()?;
        let device = &self.of.device;
        let entry = self.of.entry(&config)?;
        if !entry.revoked {
            if !self.yes && !confirmed(device)? {
                line("nothing was changed")?;
                return Ok(FAILED);
            }
            let mut file = DevicesFile::with(&config, device)?;
            file.revoke(device);
            take_into_use(&self.of.config, &config, &file)?;
            line(&format!("{device} is revoked in {}", file.path().display()))?;
        }
        if self.no_wait {
            return Ok(OK);
        }
        settled(&config, device, |row| row.end == End::OnChain, "the chain takes nothing more from it")
    }
}

/// Asks a person to type the id; without a terminal the answer is no.
fn confirmed(device: &DeviceId) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("revoking is for ever: give --yes");
    }
    line(&format!("Revoking is for ever. Type {device} to go on:"))?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    Ok(typed.trim() == device.as_str())
}

fn secret(of: &Of) -> anyhow::Result<u8> {
    let config = of.config.load()?;
    of.entry(&config)?;
    let (secret, hash) = secret::new()?;
    let mut file = DevicesFile::with(&config, &of.device)?;
    file.set_secret(&of.device, &hash);
    take_into_use(&of.config, &config, &file)?;
    line(&format!("secret {secret}"))?;
    line("the secret is shown this once: the config has only its hash; the one before is no longer taken")?;
    Ok(OK)
}

/// The next custodial key: behind every index that any device ever had here, so that none is used twice.
fn custodial(config: &Config) -> anyhow::Result<Option<KeySpec>> {
    if !config.keys.is_set() {
        return Ok(None);
    }
    let used = journal(&config.data_dir())?.map(|journal| block_on(async { Ok(journal.highest_custodial().await?) }));
    let used = used.transpose()?.flatten();
    let configured = config.devices.iter().filter_map(Entry::custodial).max();
    Ok(Some(KeySpec::Custodial(used.max(configured).map_or(0, |index| index + 1))))
}

/// The journal, once there is one.
fn journal(directory: &Path) -> anyhow::Result<Option<Sqlite>> {
    if !Sqlite::exists(directory) {
        return Ok(None);
    }
    Ok(Some(Sqlite::read_only(directory)?))
}

fn row(config: &Config, device: &DeviceId) -> anyhow::Result<Option<DeviceRow>> {
    let Some(journal) = journal(&config.data_dir())? else { return Ok(None) };
    let devices = block_on(async { Ok(journal.devices().await?) })?;
    Ok(devices.into_iter().find(|d| d.device == *device))
}

/// Writes the file and has the running gateway read it. What either refuses leaves the file as it was.
fn take_into_use(with: &WithConfig, config: &Config, file: &DevicesFile) -> anyhow::Result<()> {
    file.save(with.file())?;
    reload(config, Some(file))
}

fn reload(config: &Config, file: Option<&DevicesFile>) -> anyhow::Result<()> {
    let directory = config.data_dir();
    match block_on(admin::ask(&directory, &Question::Reload))? {
        Some(Reply::Refused(why)) => {
            if let Some(file) = file {
                file.undo()?;
                // So that it sees the old file again, and its alarm ends.
                block_on(admin::ask(&directory, &Question::Reload))?;
            }
            bail!("the gateway refuses it, and nothing was changed: {why}")
        }
        Some(_) => Ok(()),
        None => line(&format!("no gateway runs on {}: this takes effect when one starts", directory.display())),
    }
}

/// Waits until the chain has followed, if a gateway runs that makes it.
fn settled(config: &Config, device: &DeviceId, done: fn(&DeviceRow) -> bool, what: &str) -> anyhow::Result<u8> {
    let directory = config.data_dir();
    loop {
        let found = row(config, device)?;
        if found.as_ref().is_some_and(|row| row.key.is_none() && row.end == End::None) {
            return Ok(OK);
        }
        if found.as_ref().is_some_and(done) {
            line(&format!("{device}: {what}"))?;
            return Ok(OK);
        }
        if block_on(admin::ask(&directory, &Question::Lanes))?.is_none() {
            return Ok(OK);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

impl Show {
    fn run(&self) -> anyhow::Result<u8> {
        let config = self.of.config.load()?;
        let device = &self.of.device;
        let entry = config.devices.iter().find(|d| d.id == *device);
        let stored = self.stored(&config)?;
        if entry.is_none() && stored.is_none() {
            bail!("{device} is neither in the config nor in the journal");
        }
        let mut shown = stored.unwrap_or_else(|| json!({ "device": device }));
        if let (Some(entry), Some(shown)) = (entry, shown.as_object_mut()) {
            shown.insert("topic".into(), json!(entry.topic));
            shown.insert("format".into(), json!(entry.format.as_str()));
            shown.insert("settlement".into(), json!(entry.settlement(&config).as_str()));
        }
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("configured".into(), json!(entry.is_some()));
        }
        if self.json {
            line(&shown.to_string())?;
            return Ok(OK);
        }
        for (name, value) in shown.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            line(&format!("{name:<16}{text}"))?;
        }
        Ok(OK)
    }

    /// What the journal knows: the row of `device list`, every key, and how far its readings have come.
    fn stored(&self, config: &Config) -> anyhow::Result<Option<Value>> {
        let device = &self.of.device;
        let (Some(journal), Some(row)) = (journal(&config.data_dir())?, row(config, device)?) else { return Ok(None) };
        let filter = Filter { device: Some(device.clone()), ..Filter::default() };
        let listed = block_on(async { Ok(journal.device_listing(filter).await?) })?;
        let mut shown = rows::json(listed.first().map(rows::device));
        let (keys, counts) = block_on(async {
            let keys = journal.device_keys(device.clone()).await?;
            let counts = journal.device_unsettled(device.clone()).await?;
            Ok((keys, counts))
        })?;
        let key = |public: PublicKey| json!({ "kind": public.kind(), "key": public.to_string() });
        if let Some(shown) = shown.as_object_mut() {
            let keys: Vec<Value> = keys
                .iter()
                .map(|k| {
                    let mut told = key(k.key);
                    if let Some(told) = told.as_object_mut() {
                        told.insert("epoch".into(), json!(k.epoch));
                        told.insert("custodial".into(), json!(k.custodial));
                    }
                    told
                })
                .collect();
            shown.insert("keys".into(), json!(keys));
            shown.insert("epoch_on_chain".into(), json!(row.registered));
            shown.insert("revoked_on_chain".into(), json!(row.end == End::OnChain));
            shown.insert("unsettled".into(), json!(counts));
        }
        Ok(Some(shown))
    }
}
