//! How device actors are run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Largest mailbox that `validate` lets through; a mailbox is memory, per device.
const MAX_MAILBOX: usize = 65_536;

/// `[device]`: the actors' bounds. All fields have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Messages that wait before one actor; beyond that a publish is refused and counted. At least 1.
    pub mailbox: usize,
    /// How long an actor without work stays in memory.
    #[serde(with = "humantime_serde")]
    pub idle_after: Duration,
    /// Threads that run device actors. 0 runs them on the thread that makes the directory.
    pub arbiters: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { mailbox: 256, idle_after: Duration::from_secs(600), arbiters: 2 }
    }
}

impl Config {
    /// Every problem of the values.
    pub fn validate(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !(1..=MAX_MAILBOX).contains(&self.mailbox) {
            wrong.push(format!("device.mailbox is {}, not 1-{MAX_MAILBOX}", self.mailbox));
        }
        if self.idle_after.is_zero() {
            wrong.push("device.idle_after must be longer than 0".into());
        }
        if self.arbiters > 1_024 {
            wrong.push(format!("device.arbiters is {}, more than 1024", self.arbiters));
        }
        wrong
    }
}
