//! What the config says about devices, brought into journal and directory.

use std::{collections::HashMap, fs, sync::Arc};

use anyhow::{Context, bail};
use windlass_device::{Custody, Directory, Spec};
use windlass_journal::{DeviceRow, Filter, Journal, Ledger, Listing, Sqlite};

use crate::config::Config;

/// First key generation. Rotation raises it.
const FIRST_EPOCH: u32 = 1;

/// The custodial keys, when there is a mnemonic.
pub(super) fn custody(config: &Config) -> anyhow::Result<Option<Custody>> {
    let Some(file) = &config.keys.mnemonic_file else { return Ok(None) };
    let path = config.path(file);
    let phrase = fs::read_to_string(&path).with_context(|| format!("keys.mnemonic_file {}", path.display()))?;
    let custody = Custody::from_mnemonic(phrase.trim())
        .with_context(|| format!("keys.mnemonic_file {} is not a BIP-39 mnemonic", path.display()))?;
    Ok(Some(custody))
}

/// Announces the config's devices to the journal.
pub(super) async fn devices(config: &Config, journal: &Sqlite, custody: Option<&Custody>) -> anyhow::Result<()> {
    let known: HashMap<_, _> = journal.devices().await?.into_iter().map(|d| (d.device.clone(), d)).collect();
    let mut rows = Vec::new();
    for device in &config.devices {
        let settlement = device.settlement(config);
        let address = match (device.custodial(), custody) {
            (Some(index), Some(custody)) => custody.address(index),
            _ => None,
        };
        if let Some(old) = known.get(&device.id) {
            let changed = old.settlement != settlement || (old.address.is_some() && old.address != address);
            if changed && has_readings(journal, &device.id).await? {
                bail!(
                    "devices.{}: its settlement or key changed, but it has readings; the chain would see a hole in its \
                     sequence. Give the device a new id, or restore the old value",
                    device.id
                );
            }
        }
        rows.push(DeviceRow {
            device: device.id.clone(),
            format: device.format,
            settlement,
            epoch: FIRST_EPOCH,
            address,
            registered: false,
            barcode: None,
        });
    }
    journal.upsert_devices(rows).await?;
    Ok(())
}

async fn has_readings(journal: &Sqlite, device: &windlass_reading::DeviceId) -> anyhow::Result<bool> {
    let filter = Filter { device: Some(device.clone()), limit: Some(1), ..Filter::default() };
    Ok(!journal.readings(filter).await?.is_empty())
}

/// The devices as their actors want them.
pub(super) fn specs(config: &Config) -> Vec<Spec> {
    config
        .devices
        .iter()
        .map(|device| Spec {
            id: device.id.clone(),
            format: device.format,
            settlement: device.settlement(config),
            epoch: FIRST_EPOCH,
            key: device.custodial(),
        })
        .collect()
}

/// The device actors' directory.
pub(super) fn directory(config: &Config, journal: &Sqlite, custody: Option<Custody>) -> Directory {
    let journal: Arc<dyn Journal> = Arc::new(journal.clone());
    Directory::new(journal, specs(config), custody, config.device.clone())
}
