//! `[[devices]]`: who may publish, in which format, settled how, with which key.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use windlass_reading::{DeviceId, Format, PublicKey, Settlement};

use super::Config;

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// MQTT user name, client id and topic level.
    pub id: DeviceId,
    /// `sha256:<hex>` of a generated secret, or `$argon2id$…` of one that a person chose. Absent only when a listener identifies it by client id.
    #[serde(default)]
    pub secret: Option<String>,
    /// How its payloads are read.
    #[serde(default)]
    pub format: Format,
    /// How its readings are settled; absent: `settlement.default`.
    #[serde(default)]
    pub settlement: Option<Settlement>,
    /// Its signing key.
    #[serde(default)]
    pub key: Option<KeySpec>,
    /// Ended for good: nothing is taken from it any more, and the chain takes nothing either.
    #[serde(default)]
    pub revoked: bool,
    /// A topic of its own beside `devices/{id}/readings`, for firmware that cannot be changed.
    #[serde(default)]
    pub topic: Option<String>,
}

/// Who holds the device's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySpec {
    /// The gateway, derived from the mnemonic at this index.
    Custodial(u32),
    /// The device: the Ethereum address of its key, 20 bytes in hex.
    Secp256k1(String),
    /// A secure element in the device: x and y, 64 bytes in hex.
    P256(String),
}

impl KeySpec {
    /// The public key that the device holds; `None` for a custodial one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn held(&self) -> Result<Option<PublicKey>, String> {
        let (text, kind) = match self {
            Self::Custodial(_) => return Ok(None),
            Self::Secp256k1(text) => (text, "secp256k1"),
            Self::P256(text) => (text, "p256"),
        };
        let key: PublicKey = text.parse().map_err(|e: windlass_reading::InvalidKey| e.to_string())?;
        if key.kind() == kind { Ok(Some(key)) } else { Err(format!("{text} is a {} key, not {kind}", key.kind())) }
    }
}

impl Device {
    /// How the device's readings are settled.
    pub fn settlement(&self, config: &Config) -> Settlement {
        self.settlement.unwrap_or(config.settlement.default)
    }

    /// The index of its custodial key.
    pub fn custodial(&self) -> Option<u32> {
        match self.key {
            Some(KeySpec::Custodial(index)) => Some(index),
            _ => None,
        }
    }
}

/// Every problem of the devices, across them and against the rest of the config.
pub(super) fn validate(config: &Config) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ids = HashSet::new();
    let mut indices: HashMap<u32, &DeviceId> = HashMap::new();
    let mut topics: HashMap<&str, &DeviceId> = HashMap::new();
    let by_client_id: HashSet<&str> =
        config.broker.listeners.iter().flat_map(|l| &l.identify_by_client_id).map(AsRef::as_ref).collect();
    for device in &config.devices {
        let id = &device.id;
        if !ids.insert(id.clone()) {
            wrong.push(format!("devices: {id} is there twice"));
        }
        if let Some(index) = device.custodial()
            && let Some(other) = indices.insert(index, id)
        {
            wrong.push(format!("devices.{id}: custodial key {index} is also {other}'s"));
        }
        if let Some(topic) = &device.topic
            && let Some(other) = topics.insert(topic, id)
        {
            wrong.push(format!("devices.{id}: topic {topic:?} is also {other}'s"));
        }
        wrong.extend(device.problems(config, by_client_id.contains(id.as_str())));
    }
    for id in by_client_id {
        if !ids.iter().any(|d| d.as_str() == id) {
            wrong.push(format!("broker.listeners: identify_by_client_id names {id:?}, which is not a device"));
        }
    }
    if !indices.is_empty() && !config.keys.is_set() {
        wrong.push("keys.mnemonic_file or keys.keystore: needed, because devices have custodial keys".into());
    }
    wrong
}

impl Device {
    fn problems(&self, config: &Config, by_client_id: bool) -> Vec<String> {
        let id = &self.id;
        let mut wrong = Vec::new();
        match &self.secret {
            None if !by_client_id => wrong.push(format!(
                "devices.{id}: secret is missing (or name the device in a listener's identify_by_client_id)"
            )),
            None => {}
            Some(secret) => {
                if let Err(error) = secret.parse::<windlass_broker::SecretHash>() {
                    wrong.push(format!("devices.{id}: {error}"));
                }
            }
        }
        let held = self.key.as_ref().map_or(Ok(None), KeySpec::held);
        let signs = self.format == Format::Signed;
        match &held {
            Err(problem) => wrong.push(format!("devices.{id}: key: {problem}")),
            Ok(None) if signs => wrong.push(format!(
                "devices.{id}: format signed needs the key that the device signs with: key = {{ secp256k1 = \"0x…\" }} or \
                 {{ p256 = \"0x…\" }}"
            )),
            Ok(Some(_)) if !signs => wrong.push(format!(
                "devices.{id}: a device that holds its key signs each reading: it needs format = \"signed\""
            )),
            Ok(_) => {}
        }
        let settlement = self.settlement(config);
        if settlement == Settlement::Direct && signs {
            wrong.push(format!(
                "devices.{id}: direct settlement sends from an account whose key the gateway holds; use batch or anchor"
            ));
        } else if settlement != Settlement::Anchor && !signs && self.custodial().is_none() {
            wrong.push(format!("devices.{id}: settlement {settlement} needs key = {{ custodial = <index> }}"));
        }
        if !signs && !self.format.may_settle_by(settlement) {
            wrong.push(format!(
                "devices.{id}: direct settlement stores a number; format {} is not one (use digits, gtin or json)",
                self.format.as_str()
            ));
        }
        wrong
    }
}
