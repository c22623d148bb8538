//! Between the broker and the device actors: publishes go in, verdicts and receipts come back.

use std::{
    sync::{Arc, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use windlass_broker::{Identity, Intake, Offer, Outbox, Publish, Qos, Refusal, Refused, Replies, Step, User, Verdict};
use windlass_device::{Directory, Ingress, Listener, Outcome};
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
    fn offer(&self, offer: Offer) -> Result<(), Refused> {
        let Offer { device, publishes, replies } = offer;
        let offered = publishes.len();
        let waiting = Arc::new(Waiting {
            replies,
            device: device.clone(),
            outbox: self.outbox.clone(),
            directory: self.directory.clone(),
            journal: self.journal.clone(),
        });
        let listener: Arc<dyn Listener> = waiting.clone();
        let publishes = publishes.into_iter().map(ingress).collect();
        let Err(refused) = self.directory.offer(&device, publishes, &listener) else { return Ok(()) };
        Err(match refused {
            windlass_device::Refused::Full(rest) => {
                let replies = waiting.replies.split_off(offered - rest.len());
                Refused::Full(Offer { device, publishes: rest.into_iter().map(publish).collect(), replies })
            }
            windlass_device::Refused::Unknown(_) => Refused::Unknown,
            windlass_device::Refused::Unavailable(_) => Refused::Closed,
        })
    }

    fn refused(&self, refusal: Refusal) {
        if let Some(outbox) = self.outbox.get() {
            tell_error(outbox, &self.journal, &refusal.device, &refusal.topic, refusal.reject, refusal.received_at_ms);
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

/// Hears the outcomes of one offer.
struct Waiting {
    replies: Replies,
    device: DeviceId,
    outbox: Arc<OnceLock<Outbox>>,
    directory: Directory,
    journal: Sqlite,
}

impl Listener for Waiting {
    fn hear(&self, publishes: &[Ingress], outcomes: &[(usize, Outcome)]) {
        for (_, outcome) in outcomes {
            log(&self.device, outcome);
        }
        if let Some(outbox) = self.outbox.get() {
            self.tell(outbox, publishes, outcomes);
        }
        self.replies.send(outcomes.iter().map(|(place, outcome)| (*place, verdict(*outcome))));
    }
}

impl Waiting {
    /// The device's own topics hear what became of its publishes.
    fn tell(&self, outbox: &Outbox, publishes: &[Ingress], outcomes: &[(usize, Outcome)]) {
        let device = &self.device;
        let receipts = format!("devices/{device}/receipts");
        let wanted = outbox.wants(&receipts);
        for (place, outcome) in outcomes {
            let Some(publish) = publishes.get(*place) else { continue };
            match outcome {
                Outcome::Accepted { sequence } | Outcome::Repeated { sequence } if wanted => {
                    let receipt = json!({
                        "device": device,
                        "sequence": sequence,
                        "payload": crate::rows::payload(publish.payload.trim_ascii()),
                        "state": "accepted",
                        "settlement": self.directory.settlement_of(device).map(Settlement::as_str),
                        "batch": null,
                        "tx": null,
                        "block": null,
                        "at": publish.received_at_ms,
                    });
                    outbox.tell(receipts.clone(), receipt.to_string().into(), Qos::AtLeastOnce);
                }
                Outcome::Rejected(reject) => {
                    tell_error(outbox, &self.journal, device, &publish.topic, *reject, publish.received_at_ms);
                }
                _ => {}
            }
        }
    }
}

/// One line for each publish, for whoever looks that closely.
fn log(device: &DeviceId, outcome: &Outcome) {
    match outcome {
        Outcome::Accepted { sequence } => tracing::debug!(%device, sequence, "reading accepted"),
        Outcome::Repeated { sequence } => tracing::debug!(%device, sequence, "reading repeated"),
        Outcome::Rejected(reject) => tracing::debug!(%device, reason = reject.reason(), "reading refused"),
        Outcome::Unavailable => tracing::debug!(%device, "reading not stored"),
        Outcome::Released { .. } => {}
    }
}

fn ingress(publish: Publish) -> Ingress {
    Ingress {
        step: match publish.step {
            Step::Publish => windlass_device::Step::Publish,
            Step::Release => windlass_device::Step::Release,
        },
        topic: publish.topic,
        payload: publish.payload,
        packet_id: publish.packet_id,
        duplicate: publish.duplicate,
        exactly_once: publish.qos == Qos::ExactlyOnce,
        received_at_ms: publish.received_at_ms,
        quarantine: None,
    }
}

/// What came of it, to be offered again.
fn publish(ingress: Ingress) -> Publish {
    Publish {
        step: match ingress.step {
            windlass_device::Step::Publish => Step::Publish,
            windlass_device::Step::Release => Step::Release,
        },
        topic: ingress.topic,
        payload: ingress.payload,
        qos: match (ingress.exactly_once, ingress.packet_id) {
            (true, _) => Qos::ExactlyOnce,
            (false, Some(_)) => Qos::AtLeastOnce,
            (false, None) => Qos::AtMostOnce,
        },
        duplicate: ingress.duplicate,
        packet_id: ingress.packet_id,
        received_at_ms: ingress.received_at_ms,
    }
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

fn tell_error(outbox: &Outbox, journal: &Sqlite, device: &DeviceId, topic: &str, reject: Reject, at: u64) {
    let errors = format!("devices/{device}/errors");
    if !outbox.wants(&errors) {
        return;
    }
    let mut told = serde_json::Map::new();
    told.insert("device".into(), json!(device));
    told.insert("reason".into(), json!(reject.reason()));
    told.insert("topic".into(), json!(topic));
    told.insert("at".into(), json!(at));
    // A device that numbers its readings hears where it stands. What it sent before this is stored by now: the journal
    // keeps the order.
    if matches!(reject, Reject::SequenceGap | Reject::SequenceReused)
        && let Ok(Some(state)) = journal.device(device)
    {
        told.insert("next_sequence".into(), json!(state.last_sequence + 1));
    }
    outbox.tell(errors, serde_json::Value::Object(told).to_string().into(), Qos::AtLeastOnce);
}

/// Who may come, as the broker wants it.
pub(super) fn identities(config: &Config) -> Vec<Identity> {
    config
        .devices
        .iter()
        .filter(|device| !device.revoked)
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
