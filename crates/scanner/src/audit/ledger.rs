//! The ledger: as a file, and what it claims of each code that was acknowledged.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use alloy::primitives::hex;
use anyhow::{Context, Result};
use windlass_scanner::Entry;

use super::api::Row;

/// Ends an element of a GS1 element string, of which some formats store the GTIN only.
const GROUP_SEPARATOR: char = '\u{1d}';
/// Where in such a string its GTIN stands.
const GTIN: std::ops::Range<usize> = 2..16;

/// The file of a run's ledger, opened before the run so that no run is lost to a wrong path.
pub(crate) struct Writer {
    path: PathBuf,
    file: File,
}

impl Writer {
    /// Makes the file, or empties it.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes a JSON object in each line.
    pub(crate) fn write(self, ledger: &[Entry]) -> Result<()> {
        let told = || format!("cannot write {}", self.path.display());
        let mut file = BufWriter::new(self.file);
        for entry in ledger {
            serde_json::to_writer(&mut file, entry).with_context(told)?;
            file.write_all(b"\n").with_context(told)?;
        }
        file.flush().with_context(told)
    }
}

/// Reads a ledger back.
pub(crate) fn read_ledger(path: &Path) -> Result<Vec<Entry>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = BufReader::new(file).lines().zip(1..);
    lines
        .map(|(line, number)| {
            let entry = line.map_err(anyhow::Error::from).and_then(|line| Ok(serde_json::from_str(&line)?));
            entry.with_context(|| format!("{} line {number} is no entry of a ledger", path.display()))
        })
        .collect()
}

/// One device in the ledger.
#[derive(Default)]
pub(super) struct Account {
    codes: HashMap<String, Claim>,
    /// What a format may keep of element strings, and of which ones.
    kept: HashMap<String, Vec<String>>,
    pub(super) last_sequence: Option<u64>,
}

/// What the ledger says of one code.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    /// How often it was acknowledged, less what was found.
    times: u64,
    /// It may be there so often more: it was sent anew, because the broker had lost the session.
    copies: u64,
    /// It was read no earlier, by this machine's clock.
    read_at: u64,
    /// How often it was found in a row from just before: this one's by another clock, or an earlier run's.
    early: u64,
}

/// The ledger, by device.
pub(super) fn accounts(ledger: &[Entry]) -> BTreeMap<String, Account> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    for entry in ledger {
        let account = accounts.entry(entry.device.as_str().to_owned()).or_default();
        let none = Claim { times: 0, copies: 0, read_at: u64::MAX, early: 0 };
        let claim = account.codes.entry(entry.payload.clone()).or_insert(none);
        if claim.times == 0 {
            for kept in kept_of(&entry.payload) {
                account.kept.entry(kept).or_default().push(entry.payload.clone());
            }
        }
        claim.times += 1;
        claim.copies += u64::from(entry.resent);
        claim.read_at = claim.read_at.min(entry.read_at);
    }
    accounts
}

/// What formats keep of an element string: its GTIN, or all of it in hex.
fn kept_of(code: &str) -> Vec<String> {
    match code.get(GTIN).filter(|_| code.contains(GROUP_SEPARATOR)) {
        Some(gtin) => vec![gtin.to_owned(), hex::encode_prefixed(code)],
        None => Vec::new(),
    }
}

impl Account {
    /// What the ledger says of this row; this machine's clock may be so much ahead of the gateway's. `None` when nothing:
    /// it was published without an acknowledgement, or by an earlier run.
    pub(super) fn claim(&mut self, row: &Row, ahead_ms: u64) -> Option<&mut Claim> {
        let in_time = |claim: &Claim| row.received_at + ahead_ms >= claim.read_at;
        if self.codes.contains_key(&row.payload) {
            return self.codes.get_mut(&row.payload).filter(|claim| in_time(claim));
        }
        // Of several strings with one GTIN: the first that is still looked for, else one that may be there again, else any,
        // which then is there too often.
        let whole = self.kept.get(&row.payload)?;
        let read = whole.iter().filter_map(|code| Some((code, self.codes.get(code).filter(|claim| in_time(claim))?)));
        let code = read.min_by_key(|(_, claim)| claim.rank(row.received_at))?.0;
        self.codes.get_mut(code)
    }

    /// What was not found, and how often.
    pub(super) fn missing(self) -> impl Iterator<Item = (String, u64)> {
        self.codes.into_iter().filter(|(_, claim)| claim.times > 0).map(|(code, claim)| (code, claim.times))
    }
}

impl Claim {
    /// Of several claims that a row may be of, it is the lowest one's.
    fn rank(&self, received_at: u64) -> u8 {
        match self {
            Self { times: 1.., .. } => 0,
            Self { early: 1.., .. } if received_at >= self.read_at => 1,
            Self { copies: 1.., .. } => 2,
            _ => 3,
        }
    }

    /// A row that may be this reading's; false when there are too many of them.
    pub(super) fn found(&mut self, received_at: u64) -> bool {
        let early = received_at < self.read_at;
        if self.times > 0 {
            self.times -= 1;
            self.early += u64::from(early);
            return true;
        }
        if early {
            return true;
        }
        // An early one that was taken for it was an earlier run's; then this is it. Else it is a copy.
        let left = if self.early > 0 { &mut self.early } else { &mut self.copies };
        let any = *left > 0;
        *left = left.saturating_sub(1);
        any
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::audit::tests::entry;

    #[test]
    fn a_ledger_is_read_as_it_was_written_and_other_files_are_refused() {
        let path = std::env::temp_dir().join(format!("windlass-ledger-{}", std::process::id()));
        let ledger = vec![entry("a", "1", 0), entry("b", "\u{1d}\"", 2)];
        Writer::create(&path).unwrap().write(&ledger).unwrap();
        assert_eq!(read_ledger(&path).unwrap(), ledger);
        std::fs::write(&path, "{\"device\":\"a\"}\n").unwrap();
        let told = format!("{:#}", read_ledger(&path).unwrap_err());
        assert!(told.contains("line 1"), "{told}");
        std::fs::remove_file(&path).unwrap();
        assert!(Writer::create(Path::new("/does/not/exist/ledger")).is_err());
    }
}
