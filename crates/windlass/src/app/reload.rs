//! Takes a changed config into the running gateway: devices and certificates. The rest waits for the next start.

use std::{path::PathBuf, time::SystemTime};

use actix::Addr;
use anyhow::{Context, bail};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use windlass_broker::{Certificates, Identities};
use windlass_chain::ChainActor;
use windlass_device::Directory;
use windlass_journal::Sqlite;

use super::{intake, seed};
use crate::{config::Config, custody};

const RELOADS: &str = "windlass_reloads_total";
const STALE: &str = "windlass_config_stale";
const DONE: &str = "done";
const REFUSED: &str = "refused";

pub(super) fn describe() {
    describe_counter!(RELOADS, Unit::Count, "Times that the config was read again, by outcome");
    describe_gauge!(STALE, Unit::Count, "1 while the files differ from what runs because they cannot be used");
    for outcome in [DONE, REFUSED] {
        counter!(RELOADS, "outcome" => outcome).increment(0);
    }
    gauge!(STALE).set(0.0);
}

/// The parts of the gateway that change with the config.
pub(super) struct Reloader {
    pub(super) running: Config,
    pub(super) journal: Sqlite,
    pub(super) directory: Directory,
    pub(super) identities: Identities,
    pub(super) certificates: Certificates,
    pub(super) chain: Addr<ChainActor>,
    /// The files as they were when they were last read.
    pub(super) seen: Stamps,
    /// The files as they were at the last look, if they differed.
    pub(super) changed: Option<Stamps>,
}

/// When each file was last written; `None` where it is not there.
pub(super) type Stamps = Vec<(PathBuf, Option<SystemTime>)>;

pub(super) fn stamps(config: &Config) -> Stamps {
    let written = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    config.watched().into_iter().map(|path| (path.clone(), written(&path))).collect()
}

impl Reloader {
    /// Whether a file was written since it was last read, and not again since the last look: nobody is writing it now.
    pub(super) fn is_due(&mut self) -> bool {
        let now = stamps(&self.running);
        let due = now != self.seen && self.changed.as_ref() == Some(&now);
        self.changed = Some(now);
        due
    }

    /// Reads the config again and takes it into use, all of it or nothing. Sessions of devices that are as they were
    /// do not notice.
    pub(super) async fn reload(&mut self) -> Result<usize, String> {
        self.seen = stamps(&self.running);
        match self.apply().await {
            Ok(devices) => {
                gauge!(STALE).set(0.0);
                counter!(RELOADS, "outcome" => DONE).increment(1);
                tracing::info!(devices, "config read again");
                Ok(devices)
            }
            Err(error) => {
                gauge!(STALE).set(1.0);
                counter!(RELOADS, "outcome" => REFUSED).increment(1);
                let why = format!("{error:#}");
                tracing::error!("config read again and refused, the old one stays in force: {why}");
                Err(why)
            }
        }
    }

    async fn apply(&mut self) -> anyhow::Result<usize> {
        let file = self.running.files.first().context("the config was not read from a file")?;
        let next = Config::load(file)?;
        if next.keys != self.running.keys {
            bail!("[keys] changed, which needs a restart");
        }
        let problems = self.running.broker.check_files(&self.running.base);
        if !problems.is_empty() {
            bail!("{}", problems.join("; "));
        }
        for table in fixed_tables(&next)?.iter().zip(fixed_tables(&self.running)?).filter(|(a, b)| *a != b) {
            tracing::warn!(table = table.0.0, "this part of the config changed and takes effect at the next start");
        }
        let custody = custody::load(&next)?;
        let specs = seed::devices(&next, &self.journal, custody.as_ref()).await?;
        // From here on nothing can fail.
        self.directory.replace(specs);
        self.identities.replace(intake::identities(&next), intake::users(&next));
        for problem in self.certificates.reload() {
            tracing::error!("certificates changed while they were read: {problem}");
        }
        if self.chain.try_send(windlass_chain::Reload).is_err() {
            tracing::error!("the chain side is too busy to read the devices again; reload once more");
        }
        self.running.devices = next.devices;
        self.running.users = next.users;
        self.running.settlement.default = next.settlement.default;
        self.running.files = next.files;
        self.seen = stamps(&self.running);
        Ok(self.running.devices.len())
    }
}

/// The tables that a reload leaves as they are.
fn fixed_tables(config: &Config) -> anyhow::Result<Vec<(String, serde_json::Value)>> {
    let serde_json::Value::Object(tables) = serde_json::to_value(config)? else { bail!("a config is a table") };
    Ok(tables.into_iter().filter(|(name, _)| name != "devices" && name != "users").collect())
}
