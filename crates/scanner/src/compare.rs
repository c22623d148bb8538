//! Two results beside each other.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// What is compared: its name, where it stands in a result, and its unit.
const FIGURES: [(&str, &str, &str); 9] = [
    ("published", "/published", ""),
    ("acknowledged", "/acknowledged", ""),
    ("refused", "/refused", ""),
    ("lost", "/lost", ""),
    ("unsent", "/unsent", ""),
    ("acknowledged per second", "", "/s"),
    ("acknowledgement p50", "/latency/p50_ms", "ms"),
    ("acknowledgement p99", "/latency/p99_ms", "ms"),
    ("acknowledgement max", "/latency/max_ms", "ms"),
];

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
    let (before, after) = (result(before)?, result(after)?);
    let rows: Vec<_> = FIGURES
        .iter()
        .map(|(name, pointer, unit)| Row {
            name,
            unit,
            before: figure(&before, pointer),
            after: figure(&after, pointer),
        })
        .collect();
    let loads = differences(&before["load"], &after["load"]);
    if as_json {
        let figures: serde_json::Map<_, _> = rows
            .iter()
            .map(|row| (row.name.to_owned(), json!({ "before": row.before, "after": row.after, "ratio": row.ratio() })))
            .collect();
        return Ok(format!("{}\n", json!({ "figures": figures, "loads_differ": loads })));
    }
    Ok(table(&rows, &loads))
}

fn result(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    if !(value["published"].is_u64() && value["elapsed_seconds"].is_number()) {
        bail!("{} is no result of windlass-scanner --json: it has no published and elapsed_seconds", path.display());
    }
    Ok(value)
}

/// The number at `pointer`; acknowledgements per second where that is empty.
fn figure(result: &Value, pointer: &str) -> Option<f64> {
    if !pointer.is_empty() {
        return result.pointer(pointer)?.as_f64();
    }
    let seconds = result["elapsed_seconds"].as_f64().filter(|seconds| *seconds > 0.0)?;
    Some(result["acknowledged"].as_f64()? / seconds)
}

/// What was asked for differently, as `name: before, after`.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let keys = [before, after].into_iter().filter_map(Value::as_object).flat_map(|load| load.keys());
    let mut keys: Vec<_> = keys.collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| before[key.as_str()] != after[key.as_str()])
        .map(|key| format!("{key}: {}, {}", before[key.as_str()], after[key.as_str()]))
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
            "elapsed_seconds": 2.0, "latency": { "p50_ms": 1.0, "p99_ms": p99_ms, "max_ms": 9.0 },
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
