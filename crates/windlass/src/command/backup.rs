//! `windlass backup`: a whole copy of the journal beside a running gateway.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use windlass_journal::Sqlite;

use super::{OK, WithConfig, line};
use crate::progress::Progress;

/// `windlass backup`.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// Where the copy goes; must not be there.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    config: WithConfig,
}

impl Backup {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let directory = self.config.load()?.data_dir();
        let journal =
            Sqlite::read_only(&directory).with_context(|| format!("no journal in {}", directory.display()))?;
        let _progress = Progress::open("copying and checking");
        let copy = journal.backup(&self.file).with_context(|| format!("no backup in {}", self.file.display()))?;
        line(&format!("{}: {} readings, {} bytes, checked", self.file.display(), copy.readings, copy.bytes))?;
        Ok(OK)
    }
}
