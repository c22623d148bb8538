//! Between the broker and the device actors: publishes go in, verdicts and receipts come back.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use windlass_broker::{Identity, Intake, Outbox, Publish, Qos, Refusal, Refused, Step, User, Verdict};
use windlass_device::{Directory, Ingress, Outcome};
use windlass_journal::{Journal, Sqlite};
use windlass_reading::{DeviceId, Reject, Settlement};

use crate::config::Config;

/// What of a refused payload is kept, in bytes.
const QUARANTINED_BYTES: usize = 4_096;

/// Hands publishes to device actors.
#[derive(Debug)]
pub(super) struct Gate {
    directory: Directory,
    journal: Sqlite,
    /// Set once the broker is bound; nothing is offered before that.
    outbox: Arc<OnceLock<Outbox>>,
}

impl Gate {
    pub(super) fn new(directory: Directory, journal: Sqlite) -> Self {
        Self { directory, journal, outbox: Arc::default() }
    }

    pub(super) fn outbox(&self) -> Arc<OnceLock<Outbox>> {
        self.outbox.clone()
    }
}

impl Intake for Gate {
    fn offer(&self, publish: Publish) -> Result<(), Refused> {
        let device = publish.device.clone();
        // The reply may be called on the journal's thread, and a refused publish must be given back whole: whoever
        // comes first takes it out of the slot.
        let (topic, payload) = (publish.topic.clone(), publish.payload.to_vec());
        let (packet_id, duplicate, received_at_ms) = (publish.packet_id, publish.duplicate, publish.received_at_ms);
        let exactly_once = publish.qos == Qos::ExactlyOnce;
        let step = match publish.step {
            Step::Publish => windlass_device::Step::Publish,
            Step::Release => windlass_device::Step::Release,
        };
        let slot = Arc::new(Mutex::new(Some(publish)));
        let (answer, outbox, directory) = (slot.clone(), self.outbox.clone(), self.directory.clone());
        let reply = Box::new(move |outcome| {
            let Some(publish) = take(&answer) else { return };
            if let Some(outbox) = outbox.get() {
                tell(outbox, &publish, outcome, &directory);
            }
            let _ = publish.reply.send(verdict(outcome));
        });
        let ingress = Ingress { step, topic, payload, packet_id, duplicate, exactly_once, received_at_ms, reply };
        let Err(refused) = self.directory.offer(&device, ingress) else { return Ok(()) };
        let Some(publish) = take(&slot) else { return Ok(()) };
        Err(match refused {
            windlass_device::Refused::Full(_) => Refused::Full(publish),
            windlass_device::Refused::Unknown(_) => Refused::Unknown(publish),
            windlass_device::Refused::Unavailable(_) => Refused::Closed(publish),
        })
    }

    fn refused(&self, refusal: Refusal) {
        if let Some(outbox) = self.outbox.get() {
            tell_error(outbox, &refusal.device, &refusal.topic, refusal.reject, refusal.received_at_ms);
        }
        let mut payload = refusal.payload.to_vec();
        payload.truncate(QUARANTINED_BYTES);
        let entry = windlass_journal::Refusal {
            device: Some(refusal.device),
            topic: refusal.topic,
            payload,
            reject: refusal.reject,
            received_at_ms: refusal.received_at_ms,
            reply: Box::new(|stored| {
                if let Err(error) = stored {
                    tracing::warn!(%error, "a refused publish could not be kept");
                }
            }),
        };
        if self.journal.quarantine(entry).is_err() {
            tracing::warn!("a refused publish could not be kept: the journal's queue is full");
        }
    }
}

fn take(slot: &Mutex<Option<Publish>>) -> Option<Publish> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Accepted { sequence } => Verdict::Accepted { sequence },
        Outcome::Repeated { sequence } => Verdict::Repeated { sequence },
        Outcome::Released { known } => Verdict::Released { known },
        Outcome::Rejected(reject) => Verdict::Rejected(reject),
        Outcome::Unavailable => Verdict::Unavailable,
    }
}

/// The device's own topics hear what became of its publish.
fn tell(outbox: &Outbox, publish: &Publish, outcome: Outcome, directory: &Directory) {
    match outcome {
        Outcome::Accepted { sequence } | Outcome::Repeated { sequence } => {
            let topic = format!("devices/{}/receipts", publish.device);
            if !outbox.wants(&topic) {
                return;
            }
            let receipt = json!({
                "device": publish.device,
                "sequence": sequence,
                "payload": crate::rows::payload(publish.payload.trim_ascii()),
                "state": "accepted",
                "settlement": directory.settlement_of(&publish.device).map(Settlement::as_str),
                "batch": null,
                "tx": null,
                "block": null,
                "at": publish.received_at_ms,
            });
            outbox.tell(topic, receipt.to_string().into(), Qos::AtLeastOnce);
        }
        Outcome::Rejected(reject) => {
            tell_error(outbox, &publish.device, &publish.topic, reject, publish.received_at_ms);
        }
        Outcome::Released { .. } | Outcome::Unavailable => {}
    }
}

fn tell_error(outbox: &Outbox, device: &DeviceId, topic: &str, reject: Reject, at: u64) {
    let errors = format!("devices/{device}/errors");
    if outbox.wants(&errors) {
        let text = json!({ "device": device, "reason": reject.reason(), "topic": topic, "at": at }).to_string();
        outbox.tell(errors, text.into(), Qos::AtLeastOnce);
    }
}

/// Who may come, as the broker wants it.
pub(super) fn identities(config: &Config) -> Vec<Identity> {
    config
        .devices
        .iter()
        .map(|device| Identity {
            device: device.id.clone(),
            // `validate` has read every secret once; one that is not readable admits nobody.
            secret: device.secret.as_ref().and_then(|s| s.parse().ok()),
            topic: device.topic.clone(),
        })
        .collect()
}

/// The people and dashboards that may listen.
pub(super) fn users(config: &Config) -> Vec<User> {
    // `validate` has read every secret once; a user whose secret is not readable is left out.
    let user = |user: &crate::config::User| {
        Some(User { name: user.name.clone(), secret: user.secret.parse().ok()?, subscribe: user.subscribe.clone() })
    };
    config.users.iter().filter_map(user).collect()
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
