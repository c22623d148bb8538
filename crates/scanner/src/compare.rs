//! Two results beside each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// A result of `--json`, as far as it is compared.
#[derive(Deserialize)]
struct Outcome {
    published: u64,
    acknowledged: u64,
    refused: u64,
    lost: u64,
    unsent: u64,
    elapsed_seconds: f64,
    latency: Option<Times>,
    #[serde(default)]
    load: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Times {
    p50_ms: f64,
    p90_ms: Option<f64>,
    p99_ms: f64,
    /// Results of earlier versions have none.
    p999_ms: Option<f64>,
    max_ms: f64,
}

impl Outcome {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is no result of windlass-scanner --json", path.display()))
    }

    /// Each figure with its name and its unit.
    fn figures(&self) -> [(&'static str, &'static str, Option<f64>); 11] {
        let rate = (self.elapsed_seconds > 0.0).then(|| self.acknowledged as f64 / self.elapsed_seconds);
        let time = |of: fn(&Times) -> Option<f64>| self.latency.as_ref().and_then(of);
        [
            ("published", "", Some(self.published as f64)),
            ("acknowledged", "", Some(self.acknowledged as f64)),
            ("refused", "", Some(self.refused as f64)),
            ("lost", "", Some(self.lost as f64)),
            ("unsent", "", Some(self.unsent as f64)),
            ("acknowledged per second", "/s", rate),
            ("acknowledgement p50", "ms", time(|times| Some(times.p50_ms))),
            ("acknowledgement p90", "ms", time(|times| times.p90_ms)),
            ("acknowledgement p99", "ms", time(|times| Some(times.p99_ms))),
            ("acknowledgement p99.9", "ms", time(|times| times.p999_ms)),
            ("acknowledgement max", "ms", time(|times| Some(times.max_ms))),
        ]
    }
}

/// A figure of both results; `None` where nothing was measured.
struct Row {
    name: &'static str,
    unit: &'static str,
    before: Option<f64>,
    after: Option<f64>,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let (before, after) = (self.before?, self.after?);
        (before > 0.0).then(|| after / before)
    }
}

/// Reads the two files and tells them apart; with `as_json` as one JSON object.
pub(crate) fn compare(before: &Path, after: &Path, as_json: bool) -> Result<String> {
    let (before, after) = (Outcome::read(before)?, Outcome::read(after)?);
    let rows: Vec<_> = before
        .figures()
        .into_iter()
        .zip(after.figures())
        .map(|((name, unit, before), (_, _, after))| Row { name, unit, before, after })
        .collect();
    let loads = differences(&before.load, &after.load);
    if as_json {
        let figures: serde_json::Map<_, _> = rows
            .iter()
            .map(|row| (row.name.to_owned(), json!({ "before": row.before, "after": row.after, "ratio": row.ratio() })))
            .collect();
        return Ok(format!("{}\n", json!({ "figures": figures, "loads_differ": loads })));
    }
    Ok(table(&rows, &loads))
}

/// What was asked for differently, as `name: before, after`.
fn differences(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let asked = |load: &BTreeMap<String, Value>, key| load.get(key).map_or_else(|| "-".to_owned(), Value::to_string);
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| format!("{key}: {}, {}", asked(before, key), asked(after, key)))
        .collect()
}

fn table(rows: &[Row], loads: &[String]) -> String {
    let shown = |value: Option<f64>, unit: &str| match value {
        Some(value) if unit.is_empty() => format!("{value:.0}"),
        Some(value) => format!("{value:.2} {unit}"),
        None => "-".to_owned(),
    };
    let mut text = format!("{:<24}{:>16}{:>16}{:>8}\n", "", "before", "after", "ratio");
    for row in rows {
        let ratio = row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let (before, after) = (shown(row.before, row.unit), shown(row.after, row.unit));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<24}{before:>16}{after:>16}{ratio:>8}", row.name);
    }
    if !loads.is_empty() {
        text.push_str("\nthe loads differ, so do not blame the broker alone:\n");
    }
    for difference in loads {
        let _ = writeln!(text, "  {difference}");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::{env, path::PathBuf, process};

    use super::*;

    fn file(name: &str, text: &str) -> PathBuf {
        let path = env::temp_dir().join(format!("windlass-compare-{}-{name}", process::id()));
        fs::write(&path, text).unwrap();
        path
    }

    fn told(acknowledged: u64, p99_ms: f64, rate: f64) -> String {
        json!({
            "published": 100, "acknowledged": acknowledged, "refused": 0, "lost": 100 - acknowledged, "unsent": 0,
            "elapsed_seconds": 2.0, "latency": { "p50_ms": 1.0, "p90_ms": p99_ms / 2.0, "p99_ms": p99_ms, "max_ms": 9.0 },
            "load": { "rate": rate, "qos": 1 },
        })
        .to_string()
    }

    #[test]
    fn two_results_stand_beside_each_other_with_their_ratio_and_what_was_asked_differently() {
        let (before, after) = (file("a", &told(100, 4.0, 1.0)), file("b", &told(50, 8.0, 2.0)));
        let json: Value = serde_json::from_str(&compare(&before, &after, true).unwrap()).unwrap();
        assert_eq!(json["figures"]["acknowledged per second"], json!({ "before": 50.0, "after": 25.0, "ratio": 0.5 }));
        assert_eq!(json["figures"]["acknowledgement p99"]["ratio"], 2.0);
        assert_eq!(json["figures"]["acknowledgement p90"]["ratio"], 2.0);
        // Neither of these two results has it.
        assert_eq!(json["figures"]["acknowledgement p99.9"]["ratio"], Value::Null);
        // Nothing was lost before: more of it has no ratio.
        assert_eq!(json["figures"]["lost"], json!({ "before": 0.0, "after": 50.0, "ratio": null }));
        assert_eq!(json["loads_differ"], json!(["rate: 1.0, 2.0"]));
        let table = compare(&before, &after, false).unwrap();
        assert!(table.contains("4.00 ms") && table.contains("8.00 ms") && table.contains("rate: 1.0, 2.0"), "{table}");
    }

    #[test]
    fn what_is_no_result_is_told_with_its_name() {
        let good = file("good", &told(1, 1.0, 1.0));
        for (name, text) in [("words", "published 3"), ("other", "{\"published\":3}")] {
            let bad = file(name, text);
            let told = format!("{:#}", compare(&good, &bad, false).unwrap_err());
            assert!(told.contains(bad.to_str().unwrap()), "{told}");
        }
        assert!(compare(&good, Path::new("/does/not/exist"), false).is_err());
    }
}
