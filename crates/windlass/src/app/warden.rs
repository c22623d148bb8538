//! What an operator does with quarantined input: has it judged again, or drops it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use windlass_device::{Directory, Ingress, Listener, Outcome, Step};
use windlass_journal::{Act, Ledger, Listing, QuarantineRow, Sqlite};

/// Of longer input only this much was kept, so that it cannot be judged again.
const KEPT_BYTES: usize = 4_096;

/// Keeps the quarantine.
#[derive(Clone)]
pub(super) struct Warden {
    pub(super) journal: Sqlite,
    pub(super) directory: Directory,
}

/// Why an order on the quarantine was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unmoved {
    /// There is no such row.
    #[error("no quarantine row {0}")]
    Unknown(u64),
    /// It stays where it is, for this reason.
    #[error("{0}")]
    Refused(String),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] windlass_journal::Error),
}

impl Warden {
    /// Has the row judged as if its device published it once more, by the rules and the configuration of now. Taken, it
    /// is a reading and no quarantine row in one commit; refused, it stays.
    pub(super) async fn retry(&self, id: u64) -> Result<String, Unmoved> {
        let outcome = self.judge(id).await;
        self.note("quarantine-retry", id, outcome).await
    }

    /// Removes the row for good.
    pub(super) async fn drop_row(&self, id: u64) -> Result<String, Unmoved> {
        let outcome = match self.journal.drop_quarantined(id).await {
            Ok(true) => Ok(format!("quarantine row {id} is dropped")),
            Ok(false) => Err(Unmoved::Unknown(id)),
            Err(error) => Err(error.into()),
        };
        self.note("quarantine-drop", id, outcome).await
    }

    async fn judge(&self, id: u64) -> Result<String, Unmoved> {
        let row = self.journal.quarantine_row(id).await?.ok_or(Unmoved::Unknown(id))?;
        let (device, ingress) = ingress(row).map_err(Unmoved::Refused)?;
        let (sender, outcome) = oneshot::channel();
        let listener: Arc<dyn Listener> = Arc::new(Ear(Mutex::new(Some(sender))));
        if self.directory.offer(&device, vec![ingress], &listener).is_err() {
            return Err(Unmoved::Refused(format!("device {device} takes nothing now: unknown, revoked or too busy")));
        }
        match outcome.await {
            Ok(Outcome::Accepted { sequence }) => Ok(format!("accepted: reading {sequence} of device {device}")),
            Ok(Outcome::Repeated { sequence }) => {
                self.journal.drop_quarantined(id).await?;
                Ok(format!("it was reading {sequence} of device {device} already; the row is dropped"))
            }
            Ok(Outcome::Rejected(reject)) => Err(Unmoved::Refused(format!("refused again: {}", reject.reason()))),
            Ok(Outcome::Released { .. } | Outcome::Unavailable) | Err(_) => {
                Err(Unmoved::Refused("nothing is stored: the journal or the device's actor did not take it".into()))
            }
        }
    }

    async fn note(&self, act: &str, id: u64, outcome: Result<String, Unmoved>) -> Result<String, Unmoved> {
        let said = match &outcome {
            Ok(text) => format!("done: {text}"),
            Err(error) => format!("refused: {error}"),
        };
        self.journal.note_act(Act { act: act.into(), subject: id.to_string(), outcome: said }).await?;
        outcome
    }
}

fn ingress(row: QuarantineRow) -> Result<(windlass_reading::DeviceId, Ingress), String> {
    let device = row.device.ok_or("the device that sent it is not known")?;
    if row.payload.len() >= KEPT_BYTES {
        return Err(format!("only its first {KEPT_BYTES} bytes were kept"));
    }
    let ingress = Ingress {
        step: Step::Publish,
        topic: row.topic.into(),
        payload: row.payload.into(),
        packet_id: None,
        duplicate: false,
        exactly_once: false,
        received_at_ms: row.received_at_ms,
        quarantine: Some(row.id),
    };
    Ok((device, ingress))
}

/// Hears the one outcome.
struct Ear(Mutex<Option<oneshot::Sender<Outcome>>>);

impl Listener for Ear {
    fn hear(&self, _: &[Ingress], outcomes: &[(usize, Outcome)]) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(sender), Some((_, outcome))) = (sender, outcomes.first()) {
            // Nobody waits any more: what became of it is in the journal all the same.
            let _ = sender.send(*outcome);
        }
    }
}
