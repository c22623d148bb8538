//! The answers that a session owes, in the order in which its publishes came (MQTT 5 section 4.6).

use std::{collections::VecDeque, time::Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::{
    intake::Verdict,
    metrics,
    router::Hub,
    wire::{self, Version},
};

/// MQTT 5 PUBACK reason codes.
const QUOTA_EXCEEDED: u8 = 0x97;
const PAYLOAD_INVALID: u8 = 0x99;

/// One publish whose outcome is awaited or known.
pub(crate) struct Owed {
    /// Present when a PUBACK is owed.
    pub(crate) packet_id: Option<u16>,
    pub(crate) received: Instant,
    /// What subscribers of the readings get once it is accepted.
    pub(crate) forward: Option<(String, Bytes)>,
    pub(crate) outcome: Outcome,
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
pub(crate) struct Acks(VecDeque<Owed>);

impl Acks {
    pub(crate) fn push(&mut self, owed: Owed) {
        self.0.push_back(owed);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until the oldest outcome is known. Never resolves on an empty queue. Cancel safe.
    pub(crate) async fn ready(&mut self) {
        match self.0.front_mut() {
            None => std::future::pending().await,
            Some(Owed { outcome, .. }) => {
                if let Outcome::Awaited(reply) = outcome {
                    *outcome = Outcome::Known(reply.await.unwrap_or(Verdict::Unavailable));
                }
            }
        }
    }

    /// Writes what is known, oldest first, up to the first that is not. Says whether one was [`Verdict::Unavailable`].
    pub(crate) fn settle(&mut self, version: Version, hub: &Hub, out: &mut BytesMut) -> bool {
        let mut unavailable = false;
        while let Some(owed) = self.0.front_mut() {
            if let Outcome::Awaited(reply) = &mut owed.outcome {
                match reply.try_recv() {
                    Ok(verdict) => owed.outcome = Outcome::Known(verdict),
                    Err(oneshot::error::TryRecvError::Closed) => owed.outcome = Outcome::Known(Verdict::Unavailable),
                    Err(oneshot::error::TryRecvError::Empty) => break,
                }
            }
            let Some(owed) = self.0.pop_front() else { break };
            unavailable |= matches!(owed.outcome, Outcome::Known(Verdict::Unavailable));
            answer(owed, version, hub, out);
        }
        unavailable
    }
}

fn answer(owed: Owed, version: Version, hub: &Hub, out: &mut BytesMut) {
    let (code, reason) = match owed.outcome {
        Outcome::Known(Verdict::Accepted { .. } | Verdict::Repeated { .. }) => (0, None),
        Outcome::Known(Verdict::Rejected(reject)) => (PAYLOAD_INVALID, Some(reject.reason())),
        Outcome::Known(Verdict::Unavailable) | Outcome::Awaited(_) => (QUOTA_EXCEEDED, Some("unavailable")),
        Outcome::Refused(code, reason) => (code, Some(reason)),
    };
    if let (Outcome::Known(Verdict::Accepted { .. }), Some((topic, payload))) = (&owed.outcome, owed.forward) {
        hub.tell(topic, payload);
    }
    let Some(packet_id) = owed.packet_id else { return };
    // 3.1.1 has no code: a PUBACK would say "stored".
    if version == Version::V3 && !matches!(code, 0 | PAYLOAD_INVALID) {
        return;
    }
    wire::puback(out, version, packet_id, code, reason);
    metrics::acknowledged(owed.received.elapsed());
}
