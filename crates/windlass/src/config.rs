//! The binary's config: the tables of the crates, read from a TOML file and then the environment.

mod device;
mod load;
#[cfg(test)]
mod tests;
mod user;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use device::{Device, KeySpec};
pub use load::Invalid;
pub use user::User;

/// `[keys]`: where custodial device keys come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// A file with a BIP-39 mnemonic; device keys are derived at `m/44'/60'/0'/0/index`.
    pub mnemonic_file: Option<PathBuf>,
    /// In its place: the mnemonic, encrypted (Web3 Secret Storage).
    pub keystore: Option<PathBuf>,
    /// A file with the keystore's passphrase; without it the variable `WINDLASS_KEYS_PASSPHRASE`.
    pub passphrase_file: Option<PathBuf>,
}

impl Keys {
    /// Whether there are custodial keys.
    pub fn is_set(&self) -> bool {
        self.mnemonic_file.is_some() || self.keystore.is_some()
    }

    fn validate(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.mnemonic_file.is_some() && self.keystore.is_some() {
            wrong.push("keys: mnemonic_file and keystore are two places for one mnemonic; name one".into());
        }
        if self.passphrase_file.is_some() && self.keystore.is_none() {
            wrong.push("keys.passphrase_file: there is no keystore that it could open".into());
        }
        wrong
    }
}

/// Everything that `windlass run` is told.
#[derive(Debug, Clone, Serialize)]
pub struct Config {
    /// Journal, deployment file and admin state.
    pub data_dir: PathBuf,
    /// Listeners and limits.
    pub broker: windlass_broker::Config,
    /// Which chain, which nodes, which accounts.
    pub chain: windlass_chain::Config,
    /// How much it may hold unsettled.
    pub journal: windlass_journal::Options,
    /// Batch size and age.
    pub settlement: windlass_chain::Limits,
    /// Custodial keys.
    pub keys: Keys,
    /// The HTTP surface.
    pub http: windlass_http::Config,
    /// Where traces go.
    pub telemetry: windlass_telemetry::Config,
    /// Device actors.
    pub device: windlass_device::Config,
    /// The devices.
    pub devices: Vec<Device>,
    /// People and dashboards that listen.
    pub users: Vec<User>,
    /// The directory that relative paths start from: the config file's.
    #[serde(skip)]
    pub base: PathBuf,
    /// The files that it was read from, for noticing a change.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/windlass"),
            broker: windlass_broker::Config::default(),
            chain: windlass_chain::Config::default(),
            journal: windlass_journal::Options::default(),
            settlement: windlass_chain::Limits::default(),
            keys: Keys::default(),
            http: windlass_http::Config::default(),
            telemetry: windlass_telemetry::Config::default(),
            device: windlass_device::Config::default(),
            devices: Vec::new(),
            users: Vec::new(),
            base: PathBuf::new(),
            files: Vec::new(),
        }
    }
}

impl Config {
    /// Reads `file`, then `WINDLASS__…` variables, and checks everything.
    ///
    /// # Errors
    /// [`Invalid`] lists every problem at once.
    pub fn load(file: &Path) -> Result<Self, Invalid> {
        load::load(file)
    }

    /// Every problem of an otherwise readable config.
    pub fn validate(&self) -> Vec<String> {
        let mut wrong = self.broker.validate();
        wrong.extend(self.chain.validate());
        wrong.extend(self.journal.validate());
        wrong.extend(self.settlement.validate());
        wrong.extend(self.http.validate());
        wrong.extend(self.telemetry.validate());
        wrong.extend(self.device.validate());
        wrong.extend(self.keys.validate());
        wrong.extend(device::validate(self));
        wrong.extend(user::validate(self));
        wrong
    }

    /// Every file whose change matters while the gateway runs: the config's own and the listeners' certificates.
    pub fn watched(&self) -> Vec<PathBuf> {
        let tls = self.broker.listeners.iter().filter_map(|l| l.tls.as_ref());
        let certificates = tls.flat_map(|t| [Some(&t.certificate), Some(&t.key), t.client_ca.as_ref()]).flatten();
        self.files.iter().cloned().chain(certificates.map(|p| self.path(p))).collect()
    }

    /// A path of the config, taken from the config file's directory when it is relative.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The journal's directory.
    pub fn data_dir(&self) -> PathBuf {
        self.path(&self.data_dir)
    }

    /// Where `windlass deploy` notes the contract.
    pub fn deployment_file(&self) -> PathBuf {
        self.data_dir().join("deployment.json")
    }
}
