//! Listings: they read the journal beside a live gateway.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;
use windlass_journal::{Filter, Listing};
use windlass_reading::DeviceId;

use super::{Journal, OK, WithJournal, block_on, line};
use crate::rows;

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

    pub(super) fn print(&self, columns: &[&str], rows: &[Value]) -> anyhow::Result<u8> {
        if self.json {
            for row in rows {
                line(&row.to_string())?;
            }
        } else {
            for text in table(columns, rows) {
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
        let rows: Vec<_> = block_on(async { Ok(journal.readings(filter).await?) })?.iter().map(rows::reading).collect();
        let columns = ["device", "sequence", "observed_at", "payload", "state", "settlement", "batch", "block"];
        self.rows.print(&columns, &rows)
    }
}

impl Quarantine {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let Self::List(options) = self;
        let journal = options.journal()?;
        let rows: Vec<_> = block_on(async { Ok(journal.quarantined(options.filter()).await?) })?
            .iter()
            .map(rows::quarantine)
            .collect();
        options.print(&["id", "device", "reason", "received_at", "topic", "payload"], &rows)
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
