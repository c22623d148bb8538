//! What the journal takes on its disk, and what is left there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// One look at the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) main_bytes: u64,
    pub(crate) wal_bytes: u64,
    /// For this process: what the system keeps for root alone is not in it.
    pub(crate) free_bytes: u64,
}

impl Disk {
    pub(super) fn of(journal: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(journal)?;
        Ok(Self {
            main_bytes: fs::metadata(journal)?.len(),
            // There is none between a checkpoint that ended it and the next commit.
            wal_bytes: fs::metadata(wal(journal)).map_or(0, |file| file.len()),
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        })
    }
}

fn wal(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_measured_and_a_missing_journal_is_an_error() {
        let dir = tempfile::TempDir::new().unwrap();
        let journal = dir.path().join("journal.sqlite");
        assert!(Disk::of(&journal).is_err());
        fs::write(&journal, [0; 4_096]).unwrap();
        assert_eq!(Disk::of(&journal).map(|d| (d.main_bytes, d.wal_bytes)).unwrap(), (4_096, 0));
        fs::write(dir.path().join("journal.sqlite-wal"), [0; 100]).unwrap();
        let disk = Disk::of(&journal).unwrap();
        assert_eq!((disk.main_bytes, disk.wal_bytes), (4_096, 100));
        assert!(disk.free_bytes > 0, "{disk:?}");
    }
}
