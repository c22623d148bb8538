//! The answers that a session owes, in the order in which its publishes came (MQTT 5 section 4.6).

use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::{
    intake::{Qos, Verdict},
    metrics,
    router::Hub,
    wire::{self, Dialect, Version},
};

/// MQTT 5 reason codes of PUBACK and PUBREC.
const QUOTA_EXCEEDED: u8 = 0x97;
const PAYLOAD_INVALID: u8 = 0x99;
/// Of PUBCOMP and PUBREL: nothing is wrong, the delivery had ended before.
pub(crate) const PACKET_ID_UNKNOWN: u8 = 0x92;

/// One publish whose outcome is awaited or known.
pub(crate) struct Owed {
    /// What is owed to the client; nothing for QoS 0.
    pub(crate) answer: Option<(Answer, u16)>,
    pub(crate) received: Instant,
    /// What subscribers of the readings get once it is accepted.
    pub(crate) forward: Option<(String, Bytes, Qos)>,
    pub(crate) outcome: Outcome,
}

/// The packet that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Puback,
    Pubrec,
    Pubcomp,
}

/// Where the answer comes from.
pub(crate) enum Outcome {
    /// From the intake.
    Awaited(oneshot::Receiver<Verdict>),
    /// It is here.
    Known(Verdict),
    /// The front refused the publish, with this MQTT 5 code.
    Refused(u8, &'static str),
}

/// The queue of one session.
#[derive(Default)]
pub(crate) struct Acks {
    owed: VecDeque<Owed>,
    /// Packet ids of QoS 2 publishes that the client has yet to release.
    unreleased: BTreeSet<u16>,
}

impl Acks {
    pub(crate) fn push(&mut self, owed: Owed) {
        if let Some((Answer::Pubrec, packet_id)) = owed.answer {
            self.unreleased.insert(packet_id);
        }
        self.owed.push_back(owed);
    }

    /// How many QoS 2 publishes wait for their release.
    pub(crate) fn unreleased(&self) -> usize {
        self.unreleased.len()
    }

    pub(crate) fn released(&mut self, packet_id: u16) {
        self.unreleased.remove(&packet_id);
    }

    pub(crate) fn len(&self) -> usize {
        self.owed.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }

    /// Waits until the oldest outcome is known. Never resolves on an empty queue. Cancel safe.
    pub(crate) async fn ready(&mut self) {
        match self.owed.front_mut() {
            None => std::future::pending().await,
            Some(Owed { outcome, .. }) => {
                if let Outcome::Awaited(reply) = outcome {
                    *outcome = Outcome::Known(reply.await.unwrap_or(Verdict::Unavailable));
                }
            }
        }
    }

    /// Writes what is known, oldest first, up to the first that is not. Says whether one was [`Verdict::Unavailable`].
    pub(crate) fn settle(&mut self, dialect: Dialect, hub: &Hub, out: &mut BytesMut) -> bool {
        let mut unavailable = false;
        while let Some(owed) = self.owed.front_mut() {
            if let Outcome::Awaited(reply) = &mut owed.outcome {
                match reply.try_recv() {
                    Ok(verdict) => owed.outcome = Outcome::Known(verdict),
                    Err(oneshot::error::TryRecvError::Closed) => owed.outcome = Outcome::Known(Verdict::Unavailable),
                    Err(oneshot::error::TryRecvError::Empty) => break,
                }
            }
            let Some(owed) = self.owed.pop_front() else { break };
            unavailable |= matches!(owed.outcome, Outcome::Known(Verdict::Unavailable));
            // A PUBREC that refuses ends the delivery: no release will come.
            if let (Some((Answer::Pubrec, packet_id)), true) = (owed.answer, answer(&owed, dialect, hub, out)) {
                self.unreleased.remove(&packet_id);
            }
        }
        unavailable
    }
}

/// Writes the answer; says whether it refuses.
fn answer(owed: &Owed, dialect: Dialect, hub: &Hub, out: &mut BytesMut) -> bool {
    let version = dialect.version;
    let (code, reason) = match owed.outcome {
        Outcome::Known(Verdict::Accepted { .. } | Verdict::Repeated { .. } | Verdict::Released { known: true }) => {
            (0, None)
        }
        Outcome::Known(Verdict::Released { known: false }) => (PACKET_ID_UNKNOWN, None),
        Outcome::Known(Verdict::Rejected(reject)) => (PAYLOAD_INVALID, Some(reject.reason())),
        Outcome::Known(Verdict::Unavailable) | Outcome::Awaited(_) => (QUOTA_EXCEEDED, Some("unavailable")),
        Outcome::Refused(code, reason) => (code, Some(reason)),
    };
    if let (Outcome::Known(Verdict::Accepted { .. }), Some((topic, payload, qos))) = (&owed.outcome, &owed.forward) {
        hub.tell(topic.clone(), payload.clone(), *qos);
    }
    let Some((answer, packet_id)) = owed.answer else { return false };
    // 3.1.1 has no code: an acknowledgement would say "stored". No code of PUBCOMP says "not now".
    let negative = !matches!(code, 0 | PAYLOAD_INVALID | PACKET_ID_UNKNOWN);
    if negative && (version == Version::V3 || answer == Answer::Pubcomp) {
        return false;
    }
    wire::acknowledge(out, dialect, answer, packet_id, code, reason);
    if answer != Answer::Pubcomp {
        metrics::acknowledged(owed.received.elapsed());
    }
    version == Version::V5 && code >= 0x80
}

#[cfg(test)]
mod properties;
