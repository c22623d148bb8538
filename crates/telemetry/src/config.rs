//! Where traces go.

use serde::{Deserialize, Serialize};

/// Readings of one batch that are traced, without a word in the config.
const DEFAULT_READINGS: usize = 20;
/// More would make the export of a batch of ten thousand a burden of its own.
const MOST_READINGS: usize = 1_000;

/// The `[telemetry]` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// An OTLP/HTTP collector, for example `http://127.0.0.1:4318`; absent: no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<String>,
    /// How many readings of each batch are traced, the first ones; the batch itself always is.
    pub readings: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { otlp: None, readings: DEFAULT_READINGS }
    }
}

impl Config {
    /// Everything that is wrong, in words; empty when it can be used.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(url) = &self.otlp
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            problems.push(format!("telemetry.otlp {url:?} is no http or https URL"));
        }
        if self.readings > MOST_READINGS {
            problems.push(format!("telemetry.readings is {}, at most {MOST_READINGS}", self.readings));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_nothing_is_traced_and_what_cannot_be_is_a_problem() {
        assert_eq!((Config::default().otlp, Config::default().validate()), (None, Vec::new()));
        let wrong = Config { otlp: Some("collector:4317".into()), readings: 1_001 };
        assert_eq!(wrong.validate().len(), 2);
    }
}
