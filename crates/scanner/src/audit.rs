//! The ledger of what was acknowledged, held against what the gateway tells and what the chain holds.

mod api;
mod chain;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
    time::{Duration, Instant},
};

use alloy::primitives::Address;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::time::sleep;
use windlass_scanner::Entry;

use self::{
    api::{Api, Row},
    chain::{Expected, Node},
};

/// Readings that were received so long before the first of the ledger may be in its batch.
const BEFORE_MS: u64 = 600_000;
/// Clocks are read to the second, and a reading's time is taken a moment after it.
const CLOCK_MS: u64 = 2_000;
/// Between two questions whether all is final.
const POLL: Duration = Duration::from_secs(1);
/// Problems that are told word for word.
const TOLD: usize = 20;
/// Ends an element of a GS1 element string, of which some formats store the GTIN only.
const GROUP_SEPARATOR: char = '\u{1d}';

/// Whom to ask.
#[derive(Debug)]
pub(crate) struct Witnesses {
    /// The gateway's HTTP address.
    pub(crate) api: String,
    pub(crate) token: Option<String>,
    /// A node, when the chain is to be asked as well.
    pub(crate) rpc: Option<String>,
    /// In place of the contract that the gateway names.
    pub(crate) contract: Option<Address>,
    /// How long to wait until all is final.
    pub(crate) wait: Duration,
}

/// What came out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Audit {
    /// Readings in the ledger.
    acknowledged: u64,
    /// Readings of the ledger that the gateway has as final.
    stored: u64,
    /// Acknowledged, and not final at the gateway.
    lost: u64,
    /// At the gateway more often than acknowledged; what was sent anew after a lost session does not count.
    doubled: u64,
    /// Numbers that are missing in a device's sequence.
    holes: u64,
    /// Readings that a node's word puts on chain, each once.
    on_chain: Option<u64>,
    /// In batches that reach back before the run; only the gateway's word stands for those.
    unchecked: u64,
    /// The first of what is wrong, in words.
    problems: Vec<String>,
}

/// One device in the ledger.
#[derive(Default)]
struct Account {
    codes: HashMap<String, Claim>,
    /// Whether there are element strings among them.
    element_strings: bool,
    last_sequence: Option<u64>,
}

/// What the ledger says of one code.
struct Claim {
    /// How often it was acknowledged, less what was found.
    times: u64,
    /// It may be there once more.
    resent: bool,
    /// It was read no earlier, by this machine's clock.
    read_at: u64,
    /// How often it was found in a row from just before: this one's by another clock, or an earlier run's.
    early: u64,
}

impl Claim {
    /// A row that may be this reading's; false when there are too many of them.
    fn found(&mut self, received_at: u64) -> bool {
        let early = received_at < self.read_at;
        if self.times > 0 {
            self.times -= 1;
            self.early += u64::from(early);
            return true;
        }
        if !early && self.early > 0 {
            // Then that one was an earlier run's.
            self.early -= 1;
            return true;
        }
        early || self.resent
    }
}

/// Writes a ledger: a JSON object in each line.
pub(crate) fn write_ledger(path: &Path, ledger: &[Entry]) -> Result<()> {
    let told = || format!("cannot write {}", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(told)?);
    for entry in ledger {
        serde_json::to_writer(&mut file, entry).with_context(told)?;
        file.write_all(b"\n").with_context(told)?;
    }
    file.flush().with_context(told)
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

/// Waits until all is final, then compares.
pub(crate) async fn audit(ledger: &[Entry], witnesses: &Witnesses) -> Result<Audit> {
    let mut audit = Audit { acknowledged: ledger.len() as u64, ..Audit::default() };
    let Some(first) = ledger.iter().map(|entry| entry.read_at).min() else { return Ok(audit) };
    let api = Api::new(&witnesses.api, witnesses.token.clone())?;
    let (status, ahead_ms) = api.status().await?;
    let ahead_ms = ahead_ms + CLOCK_MS;
    let since = first.saturating_sub(BEFORE_MS + ahead_ms);
    until_final(&api, since, witnesses.wait).await?;

    let mut expected = match &witnesses.rpc {
        None => None,
        Some(url) => {
            let node = Node::new(url)?;
            node.check_chain(status.chain_id).await?;
            let told = status.contract.as_deref().map(str::parse).transpose().context("no address")?;
            let contract = witnesses.contract.or(told).context("the gateway knows of no contract")?;
            Some((Expected::new(status.chain_id, contract), node))
        }
    };
    let mut accounts = accounts(ledger);
    let mut trouble = None;
    api.readings(since, |row| {
        audit.take(&row, &mut accounts, ahead_ms);
        if let Some((expected, _)) = &mut expected
            && let Err(error) = expected.add(&row)
        {
            trouble.get_or_insert(error);
        }
    })
    .await?;
    if let Some(error) = trouble {
        return Err(error);
    }
    audit.close(accounts);
    if let Some((expected, node)) = expected {
        let found = expected.look_up(&api, &node).await?;
        audit.on_chain = Some(found.on_chain);
        audit.unchecked = found.unchecked;
        found.problems.into_iter().for_each(|problem| audit.tell(problem));
    }
    Ok(audit)
}

async fn until_final(api: &Api, since: u64, wait: Duration) -> Result<()> {
    let begun = Instant::now();
    while api.any("accepted", since).await? || api.any("mined", since).await? {
        ensure!(begun.elapsed() < wait, "not all readings are final after {} s", wait.as_secs());
        sleep(POLL).await;
    }
    Ok(())
}

fn accounts(ledger: &[Entry]) -> BTreeMap<String, Account> {
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    for entry in ledger {
        let account = accounts.entry(entry.device.as_str().to_owned()).or_default();
        account.element_strings |= entry.payload.contains(GROUP_SEPARATOR);
        let none = Claim { times: 0, resent: false, read_at: u64::MAX, early: 0 };
        let claim = account.codes.entry(entry.payload.clone()).or_insert(none);
        claim.times += 1;
        claim.resent |= entry.resent;
        claim.read_at = claim.read_at.min(entry.read_at);
    }
    accounts
}

impl Audit {
    /// Whether ledger, gateway and chain tell one story.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.holes == 0 && self.problems.is_empty()
    }

    /// One row; this machine's clock may be so much ahead of the gateway's.
    fn take(&mut self, row: &Row, accounts: &mut BTreeMap<String, Account>, ahead_ms: u64) {
        let Some(account) = accounts.get_mut(&row.device) else { return };
        if let Some(last) = account.last_sequence.replace(row.sequence)
            && row.sequence != last + 1
        {
            self.holes += row.sequence.saturating_sub(last + 1).max(1);
            self.tell(format!("{} of {} follows {last}", row.sequence, row.device));
        }
        if row.state != "final" {
            return;
        }
        let Some(claim) = account.claim(row, ahead_ms) else { return };
        self.stored += 1;
        if !claim.found(row.received_at) {
            self.doubled += 1;
            self.tell(format!("{} of {} is there too often", row.payload, row.device));
        }
    }

    /// What is left in the accounts is lost.
    fn close(&mut self, accounts: BTreeMap<String, Account>) {
        for (device, account) in accounts {
            for (code, claim) in account.codes.into_iter().filter(|(_, claim)| claim.times > 0) {
                self.lost += claim.times;
                self.tell(format!("{code} of {device} was acknowledged and is not final"));
            }
        }
    }

    fn tell(&mut self, problem: String) {
        if self.problems.len() < TOLD {
            self.problems.push(problem);
        }
    }

    /// The result in words.
    pub(crate) fn summary(&self) -> String {
        let mut text = String::new();
        let on_chain = match self.on_chain {
            None => "not asked".to_owned(),
            Some(count) if self.unchecked > 0 => format!("{count}, {} not checked", self.unchecked),
            Some(count) => count.to_string(),
        };
        for (name, value) in [
            ("in the ledger", self.acknowledged.to_string()),
            ("at the gateway", self.stored.to_string()),
            ("on chain", on_chain),
            ("lost", self.lost.to_string()),
            ("doubled", self.doubled.to_string()),
            ("holes", self.holes.to_string()),
        ] {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<19}{value}");
        }
        for problem in &self.problems {
            let _ = writeln!(text, "  {problem}");
        }
        if self.problems.len() == TOLD {
            let _ = writeln!(text, "  and perhaps more");
        }
        let verdict = if self.is_clean() { "ledger, gateway and chain agree" } else { "THEY DO NOT AGREE" };
        let _ = writeln!(text, "{:<19}{verdict}", "audit");
        text
    }
}

impl Account {
    /// What the ledger says of this row. `None` when nothing: it was published without an acknowledgement, or by an
    /// earlier run.
    fn claim(&mut self, row: &Row, ahead_ms: u64) -> Option<&mut Claim> {
        let code = if self.codes.contains_key(&row.payload) {
            row.payload.clone()
        } else if self.element_strings {
            let whole = self.codes.iter().find(|(code, claim)| claim.times > 0 && is_within(&row.payload, code));
            whole.map(|(code, _)| code.clone())?
        } else {
            return None;
        };
        self.codes.get_mut(&code).filter(|claim| row.received_at + ahead_ms >= claim.read_at)
    }
}

/// Whether `stored` is what a format keeps of the element string `code`: all of it in hex, or its GTIN.
fn is_within(stored: &str, code: &str) -> bool {
    if !code.contains(GROUP_SEPARATOR) {
        return false;
    }
    let whole = stored.strip_prefix("0x").and_then(|digits| alloy::primitives::hex::decode(digits).ok());
    whole.as_deref() == Some(code.as_bytes()) || code.get(2..16) == Some(stored)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use windlass_reading::DeviceId;

    use super::*;

    fn entry(device: &str, payload: &str, resent: bool) -> Entry {
        Entry { device: DeviceId::new(device).unwrap(), payload: payload.into(), resent, read_at: 10_000 }
    }

    fn row(device: &str, sequence: u64, payload: &str) -> Row {
        Row {
            device: device.into(),
            epoch: 1,
            sequence,
            observed_at: 0,
            received_at: 10_000,
            payload: payload.into(),
            state: "final".into(),
            settlement: "anchor".into(),
            batch: None,
            tx: None,
            block: None,
        }
    }

    fn compare(ledger: &[Entry], rows: &[Row]) -> Audit {
        let mut audit = Audit::default();
        let mut accounts = accounts(ledger);
        rows.iter().for_each(|row| audit.take(row, &mut accounts, 0));
        audit.close(accounts);
        audit
    }

    #[test]
    fn what_was_acknowledged_must_be_there_once() {
        let ledger = [entry("a", "1", false), entry("a", "2", true), entry("b", "1", false)];
        let good = [row("a", 7, "1"), row("b", 1, "1"), row("a", 8, "2"), row("a", 9, "2"), row("c", 5, "1")];
        let audit = compare(&ledger, &good);
        assert!(audit.is_clean() && audit.stored == 4, "{audit:?}");
        // Published, and its acknowledgement was lost.
        assert!(compare(&ledger, &[&good[..], &[row("a", 10, "3")]].concat()).is_clean());
        let audit = compare(&ledger, &[row("a", 7, "1"), row("a", 8, "1"), row("a", 10, "2")]);
        assert_eq!((audit.lost, audit.doubled, audit.holes), (1, 1, 1), "{audit:?}");
        // Of an earlier run that read the same.
        let mut earlier = row("b", 1, "1");
        earlier.received_at = 9_999;
        assert_eq!(compare(&ledger[2..], &[earlier]).lost, 1);
        // Of an earlier run just before, or by a clock that is behind.
        let just = |received_at, sequence| Row { received_at, ..row("b", sequence, "1") };
        let close = |rows: &[Row]| {
            let mut audit = Audit::default();
            let mut accounts = accounts(&ledger[2..]);
            rows.iter().for_each(|row| audit.take(row, &mut accounts, 2_000));
            audit.close(accounts);
            (audit.lost, audit.doubled)
        };
        assert_eq!(close(&[just(9_000, 1)]), (0, 0));
        assert_eq!(close(&[just(8_500, 1), just(9_000, 2), just(10_001, 3)]), (0, 0));
        assert_eq!(close(&[just(9_000, 1), just(10_001, 2), just(10_002, 3)]), (0, 1));
        let mut waiting = row("b", 1, "1");
        waiting.state = "mined".into();
        assert_eq!(compare(&ledger[2..], &[waiting]).lost, 1);
    }

    #[test]
    fn an_element_string_is_found_by_its_gtin_or_in_hex() {
        let code = "010400638133393117280101\u{1d}21000000000001";
        let ledger = [entry("a", code, false)];
        assert!(compare(&ledger, &[row("a", 1, "04006381333931")]).is_clean());
        let whole = alloy::primitives::hex::encode_prefixed(code);
        assert!(compare(&ledger, &[row("a", 1, &whole)]).is_clean());
        assert_eq!(compare(&ledger, &[row("a", 1, "04006381333932")]).lost, 1);
    }

    #[test]
    fn a_ledger_is_read_as_it_was_written_and_other_files_are_refused() {
        let path = std::env::temp_dir().join(format!("windlass-ledger-{}", std::process::id()));
        let ledger = vec![entry("a", "1", false), entry("b", "\u{1d}\"", true)];
        write_ledger(&path, &ledger).unwrap();
        assert_eq!(read_ledger(&path).unwrap(), ledger);
        std::fs::write(&path, "{\"device\":\"a\"}\n").unwrap();
        let told = format!("{:#}", read_ledger(&path).unwrap_err());
        assert!(told.contains("line 1"), "{told}");
        std::fs::remove_file(&path).unwrap();
    }
}
