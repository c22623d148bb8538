//! `[[users]]`: people and dashboards, who listen and publish nothing.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::Config;

/// One user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// MQTT user name. The client id is free.
    pub name: String,
    /// `sha256:<hex>` of a generated secret, or `$argon2id$…` of one that a person chose.
    pub secret: String,
    /// The filters that it may subscribe to, and any narrower ones; below `devices/`.
    pub subscribe: Vec<String>,
}

/// Every problem of the users.
pub(super) fn validate(config: &Config) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut names: HashSet<&str> = config.devices.iter().map(|d| d.id.as_str()).collect();
    for user in &config.users {
        let name = &user.name;
        if name.is_empty() || name.contains(['/', '\0']) {
            wrong.push(format!("users: the name {name:?} is empty or has a / in it"));
        }
        if !names.insert(name) {
            wrong.push(format!("users.{name}: a device or another user has this name"));
        }
        if let Err(error) = user.secret.parse::<windlass_broker::SecretHash>() {
            wrong.push(format!("users.{name}: {error}"));
        }
        for filter in user.subscribe.iter().filter(|f| !windlass_broker::is_filter(f)) {
            wrong.push(format!("users.{name}: {filter:?} is not a topic filter below devices/"));
        }
    }
    wrong
}
