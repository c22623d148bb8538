//! The seam to whoever keeps sessions over a restart.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

use crate::intake::Qos;

/// A session that outlives its connections, without its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The device.
    pub owner: String,
    /// Each filter with the highest QoS that was asked for.
    pub subscriptions: BTreeMap<String, Qos>,
    /// How long it is kept without a connection.
    pub expiry: Duration,
    /// When its connection ended, unix milliseconds; `None` while it has one, or when the process was killed.
    pub left_at_ms: Option<u64>,
}

/// The session could not be kept: the journal failed. The client is told "quota exceeded" and may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session could not be stored")]
pub struct NotStored;

/// Keeps sessions. What it was given is durable when it returns.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// All that are kept.
    async fn all(&self) -> Result<Vec<Stored>, NotStored>;

    /// Keeps a session in place of what was kept of its owner.
    async fn keep(&self, session: Stored) -> Result<(), NotStored>;

    /// Forgets the sessions of these owners.
    async fn forget(&self, owners: Vec<String>) -> Result<(), NotStored>;
}
