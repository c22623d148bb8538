//! The figures that the benches measure, each with its reference run beside it, kept for `tools/bench.py`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

/// What is asked of a figure; `tools/bench.py check` fails where it does not hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    AtLeast(f64),
    AtMost(f64),
    /// So many times the reference's value.
    RatioAtLeast(f64),
    RatioAtMost(f64),
}

impl Limit {
    fn json(self) -> Value {
        let (of, bound, limit) = match self {
            Self::AtLeast(limit) => ("value", "at least", limit),
            Self::AtMost(limit) => ("value", "at most", limit),
            Self::RatioAtLeast(limit) => ("ratio", "at least", limit),
            Self::RatioAtMost(limit) => ("ratio", "at most", limit),
        };
        json!({ "of": of, "bound": bound, "limit": limit })
    }
}

/// What was measured, and what it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
    better: &'static str,
    /// Name and value of the reference run, which was made in the same session on the same machine.
    reference: Option<(String, f64)>,
    asked: Option<Limit>,
}

impl Figure {
    /// More of it is better, as with a rate.
    pub fn higher(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { name: name.into(), unit, value, better: "higher", reference: None, asked: None }
    }

    /// Less of it is better, as with a time or a price.
    pub fn lower(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { better: "lower", ..Self::higher(name, unit, value) }
    }

    /// The same of the reference run, in the same unit.
    pub fn beside(self, reference: impl Into<String>, value: f64) -> Self {
        Self { reference: Some((reference.into(), value)), ..self }
    }

    /// What it must come to.
    pub fn asked(self, limit: impl Into<Option<Limit>>) -> Self {
        Self { asked: limit.into(), ..self }
    }

    /// How many times the reference's value this one is. None beside a zero: a ratio to it would say nothing.
    pub fn ratio(&self) -> Option<f64> {
        self.reference.as_ref().filter(|(_, value)| *value != 0.0).map(|(_, value)| self.value / value)
    }

    /// What it is told apart by: the same name may stand beside several references.
    fn key(figure: &Value) -> (Value, Value) {
        (figure["name"].clone(), figure["reference"]["name"].clone())
    }
}

/// The figures of one area, such as the broker.
#[derive(Debug)]
pub struct Figures {
    area: &'static str,
    command: String,
    conditions: String,
    measured: Vec<Value>,
}

impl Figures {
    pub fn new(area: &'static str) -> Self {
        Self { area, command: String::new(), conditions: String::new(), measured: Vec::new() }
    }

    /// The command that measures the figures that follow.
    pub fn measured_by(&mut self, command: impl Into<String>) {
        self.command = command.into();
    }

    /// Under which load, for how long and beside what the figures are measured that follow.
    pub fn under(&mut self, conditions: impl Into<String>) {
        self.conditions = conditions.into();
    }

    pub fn add(&mut self, figure: Figure) {
        let reference = figure.reference.as_ref();
        let reference = reference.map(|(name, value)| json!({ "name": name, "value": value }));
        let measured_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.measured.push(json!({
            "name": figure.name,
            "unit": figure.unit,
            "better": figure.better,
            "value": figure.value,
            "reference": reference,
            "ratio": figure.ratio(),
            "asked": figure.asked.map(Limit::json),
            "conditions": self.conditions,
            "command": self.command,
            "measured_at": measured_at,
            "trial": is_trial(),
        }));
    }

    /// Writes `bench/<area>.json` in the target directory, which is the parent of `CARGO_TARGET_TMPDIR`. Figures that an
    /// earlier run left there and this one did not measure stay, so that scenarios can be run one by one.
    pub fn write(&self, target_tmpdir: &str) -> PathBuf {
        let directory = Path::new(target_tmpdir).parent().unwrap().join("bench");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(self.area).with_extension("json");
        let mut all = earlier(&path);
        for figure in &self.measured {
            match all.iter_mut().find(|other| Figure::key(other) == Figure::key(figure)) {
                Some(other) => *other = figure.clone(),
                None => all.push(figure.clone()),
            }
        }
        let text = serde_json::to_string_pretty(&json!({ "area": self.area, "figures": all })).unwrap();
        fs::write(&path, text + "\n").unwrap();
        path
    }
}

/// Seconds of a run that is to show whether a bench works; what it measures means little.
const TRIAL: &str = "BENCH_SECONDS";

/// Whether figures are measured too shortly to be written into any document.
pub fn is_trial() -> bool {
    env::var_os(TRIAL).is_some()
}

/// How long a load is measured: as usual, or for `BENCH_SECONDS`.
pub fn measured_for(usual: Duration) -> Duration {
    env::var(TRIAL).map_or(usual, |text| Duration::from_secs(text.parse().expect("a number of seconds")))
}

fn earlier(path: &Path) -> Vec<Value> {
    let Ok(text) = fs::read(path) else { return Vec::new() };
    let mut file: Value = serde_json::from_slice(&text).unwrap();
    file["figures"].take().as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn written(figures: &Figures, dir: &TempDir) -> Vec<Value> {
        let tmp = dir.path().join("tmp");
        earlier(&figures.write(tmp.to_str().unwrap()))
    }

    #[test]
    fn a_figure_has_its_reference_its_ratio_and_its_conditions_beside_it() {
        let dir = TempDir::new().unwrap();
        let mut figures = Figures::new("broker");
        figures.measured_by("make bench-broker");
        figures.under("500 clients");
        let rate = Figure::higher("acknowledged", "1/s", 300.0).beside("mosquitto", 200.0);
        figures.add(rate.asked(Limit::RatioAtLeast(1.0)));
        figures.add(Figure::lower("resident", "MiB", 90.0));
        let [rate, memory] = written(&figures, &dir).try_into().unwrap();
        assert_eq!((&rate["ratio"], &rate["better"]), (&json!(1.5), &json!("higher")));
        assert_eq!(rate["reference"], json!({ "name": "mosquitto", "value": 200.0 }));
        assert_eq!((&rate["conditions"], &rate["command"]), (&json!("500 clients"), &json!("make bench-broker")));
        assert_eq!(rate["asked"], json!({ "of": "ratio", "bound": "at least", "limit": 1.0 }));
        assert_eq!(memory["asked"], Value::Null);
        assert_eq!((&memory["reference"], &memory["ratio"]), (&Value::Null, &Value::Null));
        assert_eq!(memory["better"], "lower");
    }

    #[test]
    fn beside_zero_there_is_no_ratio() {
        assert_eq!(Figure::lower("p50", "ms", 1.0).beside("mosquitto", 0.0).ratio(), None);
    }

    #[test]
    fn a_later_run_replaces_what_it_measured_and_leaves_the_rest() {
        let dir = TempDir::new().unwrap();
        let mut first = Figures::new("broker");
        for reference in ["mosquitto", "rumqttd"] {
            first.add(Figure::higher("acknowledged", "1/s", 1.0).beside(reference, 1.0));
        }
        assert_eq!(written(&first, &dir).len(), 2);
        let mut second = Figures::new("broker");
        second.add(Figure::higher("acknowledged", "1/s", 5.0).beside("rumqttd", 1.0));
        second.add(Figure::lower("resident", "MiB", 7.0));
        let values: Vec<Value> = written(&second, &dir).iter().map(|f| f["value"].clone()).collect();
        assert_eq!(values, [1.0, 5.0, 7.0]);
    }
}
