//! Archives beside the journal: files that readings have left to.

use std::path::PathBuf;

use windlass_journal::Sqlite;

use super::Journal;

/// Archives that are open for reading.
pub(super) struct Opened {
    pub(super) journals: Vec<Sqlite>,
    /// Copies that were brought up to date; they go when this does.
    _opened: Vec<Journal>,
}

/// Opens them all.
pub(super) fn open(files: &[PathBuf]) -> anyhow::Result<Opened> {
    let opened = files.iter().map(|file| Journal::of_file(file)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Opened { journals: opened.iter().map(|journal| journal.sqlite.clone()).collect(), _opened: opened })
}
