//! What the config says about devices, brought into journal and directory.

use std::{collections::HashMap, sync::Arc};

use anyhow::anyhow;
use windlass_device::{Custody, Directory, Key, Spec};
use windlass_journal::{DeviceRow, End, Filter, Journal, KeyRow, Ledger, Listing, Sqlite};
use windlass_reading::{DeviceId, Domain, PublicKey};

use super::succession;
use crate::{
    config::{Config, Device, KeySpec},
    deployment,
};

/// Announces the config's devices to the journal, and says how their actors want them.
pub(super) async fn devices(config: &Config, journal: &Sqlite, custody: Option<&Custody>) -> anyhow::Result<Vec<Spec>> {
    let mut known: HashMap<_, _> = journal.devices().await?.into_iter().map(|d| (d.device.clone(), d)).collect();
    let (mut rows, mut specs) = (Vec::new(), Vec::new());
    for device in &config.devices {
        let fresh = fresh(config, device, custody)?;
        let Some(known) = known.remove(&device.id) else {
            specs.push(spec(&fresh, &[], fresh.end == End::None));
            rows.push(fresh);
            continue;
        };
        let changed = known.settlement != fresh.settlement || known.key != fresh.key;
        let keys = keys(journal, &known, changed).await?;
        let has_readings = changed && has_readings(journal, &device.id).await?;
        let row = succession::next(&known, &keys, fresh, has_readings)
            .map_err(|why| anyhow!("devices.{}: {why}", device.id))?;
        specs.push(spec(&row, &keys, row.end == End::None));
        rows.push(row);
    }
    // Those that left the config still sign what they left behind.
    for row in known.into_values() {
        specs.push(spec(&row, &keys(journal, &row, false).await?, false));
    }
    journal.upsert_devices(rows).await?;
    Ok(specs)
}

/// The device's keys, where there can be more than the one in its row, or where they matter.
async fn keys(journal: &Sqlite, row: &DeviceRow, matter: bool) -> anyhow::Result<Vec<KeyRow>> {
    if row.epoch == 1 && !matter {
        return Ok(Vec::new());
    }
    Ok(journal.device_keys(row.device.clone()).await?)
}

/// The device as the config has it, as if nobody had heard of it before.
fn fresh(config: &Config, device: &Device, custody: Option<&Custody>) -> anyhow::Result<DeviceRow> {
    let custodial = device.custodial();
    let held =
        device.key.as_ref().map_or(Ok(None), KeySpec::held).map_err(|e| anyhow!("devices.{}: {e}", device.id))?;
    let address = custodial.zip(custody).and_then(|(index, custody)| custody.address(index));
    Ok(DeviceRow {
        device: device.id.clone(),
        format: device.format,
        settlement: device.settlement(config),
        epoch: 1,
        key: held.or(address.map(PublicKey::Secp256k1)),
        custodial,
        registered: 0,
        barcode: None,
        end: if device.revoked { End::Revoked } else { End::None },
    })
}

fn spec(row: &DeviceRow, keys: &[KeyRow], active: bool) -> Spec {
    let earlier = keys.iter().filter(|k| k.epoch < row.epoch);
    Spec {
        id: row.device.clone(),
        format: row.format,
        settlement: row.settlement,
        epoch: row.epoch,
        key: match (row.custodial, row.key) {
            (Some(index), _) => Some(Key::Custodial(index)),
            (None, key) => key.map(Key::Held),
        },
        former: earlier.filter_map(|k| Some((k.epoch, k.custodial?))).collect(),
        active,
    }
}

async fn has_readings(journal: &Sqlite, device: &DeviceId) -> anyhow::Result<bool> {
    let filter = Filter { device: Some(device.clone()), limit: Some(1), ..Filter::default() };
    Ok(!journal.readings(filter).await?.is_empty())
}

/// The device actors' directory.
pub(super) fn directory(config: &Config, journal: &Sqlite, custody: Option<Custody>, specs: Vec<Spec>) -> Directory {
    let journal: Arc<dyn Journal> = Arc::new(journal.clone());
    let (asked, chain_id) = (config.clone(), config.chain.chain_id);
    let domain = Arc::new(move || deployment::contract(&asked).map(|contract| Domain::new(chain_id, contract)));
    Directory::new(journal, specs, custody, domain, config.device.clone())
}
