//! `[chain]` and `[settlement]` of the config file.

use std::{fmt, path::PathBuf, time::Duration};

use alloy::primitives::{Address, U256, utils::parse_units};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use windlass_reading::Settlement;

/// EIP-7825: no transaction may use more gas.
pub(crate) const MAX_TRANSACTION_GAS: u64 = 16_777_216;
/// geth's pool refuses larger transactions (128 KiB); room is left for the envelope.
pub(crate) const MAX_CALLDATA_BYTES: usize = 120 * 1024;

/// The `[chain]` table: which chain, through which nodes, from which accounts, at what price.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// JSON-RPC URLs. Reads fail over from the first to the last; a send goes to all.
    pub rpc: Vec<String>,
    /// The chain that every node must be on.
    pub chain_id: u64,
    /// When an inclusion counts as final.
    pub confirmations: Confirmations,
    /// Highest `maxFeePerGas` ever offered.
    pub max_fee: Wei,
    /// The `Windlass` contract; absent: `data_dir/deployment.json`, which `windlass deploy` writes.
    pub contract: Option<Address>,
    /// Accounts that submit batches, one lane each. The first deploys and registers.
    pub submitters: Vec<Key>,
    /// The account that tops up device accounts (direct settlement); absent: the first submitter.
    pub treasury: Treasury,
    /// Blocks without inclusion before a transaction is replaced at a higher fee.
    pub bump_after_blocks: u64,
    /// How often the nodes are asked for a new block.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    /// After this a request counts as unanswered: its outcome is unknown.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rpc: vec!["http://127.0.0.1:8545".into()],
            chain_id: 31337,
            confirmations: Confirmations::Blocks(3),
            max_fee: Wei::gwei(100),
            contract: None,
            submitters: Vec::new(),
            treasury: Treasury::default(),
            bump_after_blocks: 3,
            poll_interval: Duration::from_millis(200),
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// A private key by file: hex, or an encrypted keystore with its passphrase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Key {
    /// A file that holds the key in hex.
    pub private_key_file: Option<PathBuf>,
    /// A keystore (Web3 Secret Storage, JSON).
    pub keystore: Option<PathBuf>,
    /// The file that holds the keystore's passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// In place of a key: a signer that answers `eth_signTransaction` (web3signer).
    pub signer: Option<String>,
    /// The account that it signs for.
    pub address: Option<Address>,
}

/// Who pays for device accounts, and how much.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Treasury {
    /// Below this a device's account is topped up.
    pub low: Wei,
    /// What one top-up transfers.
    pub top_up: Wei,
    /// No more than this leaves in 24 hours.
    pub daily_limit: Wei,
}

impl Default for Treasury {
    fn default() -> Self {
        Self { low: Wei::milliether(20), top_up: Wei::milliether(100), daily_limit: Wei::milliether(100_000) }
    }
}

/// The `[settlement]` table.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// For devices that name none.
    pub default: Settlement,
    /// Most readings in a batch.
    pub max_readings: usize,
    /// Longest that a reading waits for its batch to fill.
    #[serde(with = "humantime_serde")]
    pub max_wait: Duration,
    /// Whether each anchor says on chain which sequences of each device it holds.
    pub ranges: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { default: Settlement::Anchor, max_readings: 10_000, max_wait: Duration::from_secs(1), ranges: false }
    }
}

impl Config {
    /// Every problem of the table, in the operator's words; empty when there is none.
    pub fn validate(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.rpc.is_empty() {
            wrong.push("chain.rpc: at least one URL is needed".into());
        }
        for url in &self.rpc {
            if url.parse::<reqwest::Url>().is_err() || !(url.starts_with("http://") || url.starts_with("https://")) {
                wrong.push(format!("chain.rpc: {url:?} is not an http:// or https:// URL"));
            }
        }
        if self.submitters.is_empty() {
            wrong.push("chain.submitters: at least one account is needed".into());
        }
        for (i, key) in self.submitters.iter().enumerate() {
            if let Some(problem) = key.problem() {
                wrong.push(format!("chain.submitters[{i}]: {problem}"));
            }
        }
        if self.confirmations == Confirmations::Blocks(0) {
            wrong.push("chain.confirmations: 0 would call an unmined transaction final".into());
        }
        if u64::try_from(self.max_fee.0).is_err() || self.max_fee.0.is_zero() {
            wrong.push("chain.max_fee: must be between 1 wei and 18 ether per gas".into());
        }
        if self.bump_after_blocks == 0 {
            wrong.push("chain.bump_after_blocks: must be at least 1".into());
        }
        if self.poll_interval < Duration::from_millis(10) {
            wrong.push("chain.poll_interval: must be at least 10ms".into());
        }
        if self.treasury.top_up.0 <= self.treasury.low.0 {
            wrong.push("chain.treasury: top_up must be more than low".into());
        }
        wrong
    }
}

impl Key {
    fn problem(&self) -> Option<&'static str> {
        match (&self.signer, self.address) {
            (Some(url), Some(_)) => {
                let alone =
                    self.private_key_file.is_none() && self.keystore.is_none() && self.passphrase_file.is_none();
                let good = url.parse::<reqwest::Url>().is_ok() && url.starts_with("http");
                return match (alone, good) {
                    (true, true) => None,
                    (false, _) => Some("signer is in place of private_key_file and keystore"),
                    (_, false) => Some("signer is not an http:// or https:// URL"),
                };
            }
            (Some(_), None) => return Some("signer needs the address that it signs for"),
            (None, Some(_)) => return Some("address belongs to a signer"),
            (None, None) => {}
        }
        match (&self.private_key_file, &self.keystore, &self.passphrase_file) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => None,
            (None, None, _) => {
                Some("private_key_file, keystore with passphrase_file, or signer with address is needed")
            }
            (Some(_), Some(_), _) => Some("private_key_file and keystore exclude each other"),
            (None, Some(_), None) => Some("keystore needs passphrase_file"),
            (Some(_), None, Some(_)) => Some("passphrase_file belongs to a keystore"),
        }
    }
}

impl Limits {
    /// Every problem of the table; empty when there is none.
    pub fn validate(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.max_readings == 0 || self.max_readings > 100_000 {
            wrong.push("settlement.max_readings: must be 1 to 100000".into());
        }
        if self.max_wait > Duration::from_secs(3_600) {
            wrong.push("settlement.max_wait: must be at most 1h".into());
        }
        wrong
    }
}

/// When an inclusion counts as final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmations {
    /// So many blocks, the including one counted.
    Blocks(u64),
    /// The node's `finalized` tag.
    Finalized,
}

impl Serialize for Confirmations {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Blocks(n) => serializer.serialize_u64(*n),
            Self::Finalized => serializer.serialize_str("finalized"),
        }
    }
}

impl<'de> Deserialize<'de> for Confirmations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Confirmations;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of blocks or \"finalized\"")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Confirmations, E> {
                Ok(Confirmations::Blocks(n))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Confirmations, E> {
                u64::try_from(n).map(Confirmations::Blocks).map_err(|_| E::custom("must not be negative"))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Confirmations, E> {
                match (text, text.parse()) {
                    ("finalized", _) => Ok(Confirmations::Finalized),
                    (_, Ok(n)) => Ok(Confirmations::Blocks(n)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// An amount with its unit in config: `"100 gwei"`, `"0.1 ether"`, `"5 wei"`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Wei(pub U256);

impl Wei {
    fn gwei(n: u64) -> Self {
        Self(U256::from(n) * U256::from(1_000_000_000u64))
    }

    fn milliether(n: u64) -> Self {
        Self(U256::from(n) * U256::from(1_000_000_000_000_000u64))
    }

    /// The amount as a fee per gas; saturates far above any valid fee.
    pub fn per_gas(self) -> u64 {
        u64::try_from(self.0).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wei", self.0)
    }
}

impl Serialize for Wei {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} wei", self.0))
    }
}

impl<'de> Deserialize<'de> for Wei {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (number, unit) = text.trim().split_once(' ').ok_or_else(|| {
            de::Error::custom(format!("{text:?} has no unit; write for example \"100 gwei\" or \"0.1 ether\""))
        })?;
        if !matches!(unit.trim(), "wei" | "gwei" | "ether") || number.starts_with('-') {
            return Err(de::Error::custom(format!("{text:?}: the unit must be wei, gwei or ether")));
        }
        parse_units(number, unit.trim())
            .map(|parsed| Self(parsed.get_absolute()))
            .map_err(|e| de::Error::custom(format!("{text:?}: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Probe {
        fee: Option<Wei>,
        confirmations: Option<Confirmations>,
    }

    fn probe(json: &str) -> Result<Probe, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn amounts_need_a_unit() {
        assert_eq!(probe(r#"{"fee":"100 gwei"}"#).unwrap().fee, Some(Wei::gwei(100)));
        assert_eq!(probe(r#"{"fee":"0.1 ether"}"#).unwrap().fee, Some(Wei::milliether(100)));
        for bad in ["100", "x gwei", "5 drachma", "-5 gwei"] {
            assert!(probe(&format!(r#"{{"fee":"{bad}"}}"#)).is_err(), "{bad}");
        }
    }

    #[test]
    fn confirmations_are_blocks_or_the_finalized_tag() {
        assert_eq!(probe(r#"{"confirmations":3}"#).unwrap().confirmations, Some(Confirmations::Blocks(3)));
        assert_eq!(probe(r#"{"confirmations":"finalized"}"#).unwrap().confirmations, Some(Confirmations::Finalized));
        assert!(probe(r#"{"confirmations":"soon"}"#).is_err());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let config = Config {
            rpc: vec!["ftp://x".into()],
            confirmations: Confirmations::Blocks(0),
            bump_after_blocks: 0,
            ..Config::default()
        };
        assert_eq!(config.validate().len(), 4);
    }
}
