//! Listings: they read the journal beside a live gateway.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use windlass_journal::{Filter, Listing, QuarantineRow, Sqlite};
use windlass_reading::DeviceId;

use super::{FAILED, Journal, OK, WithConfig, WithJournal, block_on, line, operate::nobody};
use crate::{
    app::admin::{self, Question, Reply},
    rows,
};

/// How many rows, in which shape.
#[derive(Debug, Args)]
pub(super) struct Rows {
    #[command(flatten)]
    config: WithJournal,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// At most so many rows.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// `windlass readings`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  windlass readings --device dock-7 --since 2026-01-31T12:00:00Z\n  \
    windlass readings --json | jq 'select(.state == \"final\")'")]
pub(super) struct Readings {
    #[command(flatten)]
    rows: Rows,
    /// Only this device's.
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// Only those received at or after this time (RFC 3339, or unix milliseconds).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<u64>,
}

/// `windlass quarantine …`.
#[derive(Debug, Subcommand)]
pub(super) enum Quarantine {
    /// List refused inputs, oldest first.
    List(Rows),
    /// Show one, with the whole of what was kept.
    Show(Shown),
    /// Have the running gateway judge one again, or many, as if published now: taken, it is a reading; refused, it stays.
    Retry(Chosen),
    /// Remove one, or many, for good.
    Drop(Chosen),
}

/// One quarantine row.
#[derive(Debug, Args)]
pub(super) struct Shown {
    /// The row's id.
    #[arg(value_name = "ID")]
    id: u64,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: WithJournal,
}

/// Quarantine rows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  windlass quarantine retry 17\n  \
    windlass quarantine retry --all --device dock-7 --reason bad_character")]
pub(super) struct Chosen {
    /// The rows' ids.
    #[arg(value_name = "ID", required_unless_present = "all")]
    ids: Vec<u64>,
    /// Every row, of the device or with the reason that is given.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// With --all: only this device's.
    #[arg(long, value_name = "ID", requires = "all")]
    device: Option<DeviceId>,
    /// With --all: only those refused for this reason.
    #[arg(long, value_name = "REASON", requires = "all")]
    reason: Option<String>,
    #[command(flatten)]
    config: WithConfig,
}

impl Rows {
    pub(super) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        Ok(self.config.load()?.data_dir())
    }

    pub(super) fn limit(&self) -> Option<usize> {
        self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }

    pub(super) fn journal(&self) -> anyhow::Result<Journal> {
        self.config.open()
    }

    pub(super) fn filter(&self) -> Filter {
        Filter { limit: self.limit, ..Filter::default() }
    }

    pub(super) fn print<T: Serialize>(&self, columns: &[&str], rows: &[T]) -> anyhow::Result<u8> {
        let rows: Vec<Value> = rows.iter().map(rows::json).collect();
        if self.json {
            for row in &rows {
                line(&row.to_string())?;
            }
        } else {
            for text in table(columns, &rows) {
                line(&text)?;
            }
        }
        Ok(OK)
    }

    /// `windlass batches`.
    pub(super) fn batches(&self) -> anyhow::Result<u8> {
        let journal = self.journal()?;
        let rows: Vec<_> =
            block_on(async { Ok(journal.batches(self.filter()).await?) })?.iter().map(rows::batch).collect();
        self.print(&["batch", "settlement", "number", "count", "state", "block", "gas_used", "tx"], &rows)
    }

    /// `windlass attempts`.
    pub(super) fn transactions(&self) -> anyhow::Result<u8> {
        let journal = self.journal()?;
        let rows: Vec<_> =
            block_on(async { Ok(journal.transactions(self.filter()).await?) })?.iter().map(rows::transaction).collect();
        self.print(&["account", "nonce", "kind", "state", "success", "attempts", "block", "tx"], &rows)
    }
}

impl Readings {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let journal = self.rows.journal()?;
        let filter = Filter { device: self.device.clone(), since_ms: self.since, ..self.rows.filter() };
        let rows: Vec<_> =
            block_on(async { Ok(journal.readings(filter).await?) })?.iter().map(rows::listed_reading).collect();
        let columns = ["device", "sequence", "observed_at", "payload", "state", "settlement", "batch", "block"];
        self.rows.print(&columns, &rows)
    }
}

impl Quarantine {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let options = match self {
            Self::List(options) => options,
            Self::Show(shown) => return shown.run(),
            Self::Retry(chosen) => return chosen.run(Question::Retry),
            Self::Drop(chosen) => return chosen.run(Question::Drop),
        };
        let journal = options.journal()?;
        let rows: Vec<_> = block_on(async { Ok(journal.quarantined(options.filter()).await?) })?
            .iter()
            .map(rows::quarantine)
            .collect();
        options.print(&["id", "device", "reason", "received_at", "topic", "payload"], &rows)
    }
}

impl Shown {
    fn run(&self) -> anyhow::Result<u8> {
        let journal = self.config.open()?;
        let row = block_on(async { Ok(journal.quarantine_row(self.id).await?) })?;
        let row = row.with_context(|| format!("no quarantine row {}", self.id))?;
        let shown = rows::json(rows::quarantine(&row));
        if self.json {
            line(&shown.to_string())?;
        } else {
            for (key, value) in shown.as_object().into_iter().flatten() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                line(&format!("{key:<12} {text}"))?;
            }
        }
        Ok(OK)
    }
}

impl Chosen {
    /// Asks the gateway for one row after the other; exit 1 when one was refused.
    fn run(&self, question: fn(u64) -> Question) -> anyhow::Result<u8> {
        let directory = self.config.load()?.data_dir();
        block_on(async {
            let ids = if self.all { self.matching(&directory).await? } else { self.ids.clone() };
            let mut code = OK;
            for id in ids {
                match admin::ask(&directory, &question(id)).await?.with_context(|| nobody(&directory))? {
                    Reply::Done(text) => line(&format!("{id} done: {text}"))?,
                    Reply::Refused(text) => {
                        line(&format!("{id} refused: {text}"))?;
                        code = FAILED;
                    }
                    Reply::Lanes { .. } => bail!("the gateway answers another question"),
                }
            }
            Ok(code)
        })
    }

    async fn matching(&self, directory: &Path) -> anyhow::Result<Vec<u64>> {
        let journal = Sqlite::read_only(directory)?;
        let rows = journal.quarantined(Filter { device: self.device.clone(), ..Filter::default() }).await?;
        let wanted = |row: &&QuarantineRow| self.reason.as_ref().is_none_or(|reason| *reason == row.reason);
        Ok(rows.iter().filter(wanted).map(|row| row.id).collect())
    }
}

/// Columns padded to their widest cell, with a heading.
fn table(columns: &[&str], rows: &[Value]) -> Vec<String> {
    let cell = |row: &Value, column: &str| match row.get(column) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let widths: Vec<usize> = columns
        .iter()
        .map(|column| rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0).max(column.len()))
        .collect();
    let join = |cells: Vec<String>| {
        let padded: Vec<_> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let heading = join(columns.iter().map(|c| (*c).to_owned()).collect());
    std::iter::once(heading)
        .chain(rows.iter().map(|row| join(columns.iter().map(|c| cell(row, c)).collect())))
        .collect()
}

/// A time on the command line.
fn time(text: &str) -> Result<u64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    windlass_reading::parse_rfc3339_ms(text)
        .ok_or_else(|| format!("{text:?} is neither RFC 3339 (2026-01-31T12:00:00Z) nor unix milliseconds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_is_as_wide_as_its_widest_cell() {
        let rows = [json!({"a": "xyz", "b": 1}), json!({"a": null, "b": 22})];
        assert_eq!(table(&["a", "b"], &rows), ["a    b", "xyz  1", "-    22"]);
    }

    #[test]
    fn a_time_is_rfc3339_or_milliseconds() {
        assert_eq!(time("1700000000123"), Ok(1_700_000_000_123));
        assert_eq!(time("2023-11-14T22:13:20.123Z"), Ok(1_700_000_000_123));
        assert!(time("yesterday").is_err());
    }
}
