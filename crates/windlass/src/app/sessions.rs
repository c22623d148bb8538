//! Keeps the broker's sessions in the journal.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use windlass_broker::{NotStored, Qos, SessionStore, Stored};
use windlass_journal::{SessionRow, Sessions, Sqlite};

/// The journal as the broker's store.
#[derive(Debug)]
pub(super) struct Archive(pub(super) Sqlite);

fn failed(error: &windlass_journal::Error) -> NotStored {
    tracing::warn!(%error, "MQTT sessions cannot be kept");
    NotStored
}

/// The same subscriptions with another type for their QoS.
fn quality<A, B>(subscriptions: BTreeMap<String, A>, of: impl Fn(A) -> B) -> BTreeMap<String, B> {
    subscriptions.into_iter().map(|(filter, qos)| (filter, of(qos))).collect()
}

#[async_trait]
impl SessionStore for Archive {
    async fn all(&self) -> Result<Vec<Stored>, NotStored> {
        let rows = self.0.sessions().await.map_err(|e| failed(&e))?;
        Ok(rows
            .into_iter()
            .map(|row| Stored {
                owner: row.device,
                subscriptions: quality(row.subscriptions, |qos| Qos::from_number(qos).unwrap_or(Qos::AtMostOnce)),
                expiry: Duration::from_secs(row.expiry_seconds.into()),
                left_at_ms: row.left_at_ms,
            })
            .collect())
    }

    async fn keep(&self, session: Stored) -> Result<(), NotStored> {
        let row = SessionRow {
            device: session.owner,
            subscriptions: quality(session.subscriptions, Qos::number),
            expiry_seconds: u32::try_from(session.expiry.as_secs()).unwrap_or(u32::MAX),
            left_at_ms: session.left_at_ms,
        };
        self.0.keep_session(row).await.map_err(|e| failed(&e))
    }

    async fn forget(&self, owners: Vec<String>) -> Result<(), NotStored> {
        self.0.forget_sessions(owners).await.map_err(|e| failed(&e))
    }
}
