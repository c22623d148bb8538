//! The answers that a session owes, in the order in which its publishes came (MQTT 5 section 4.6).

use std::{
    collections::{BTreeSet, VecDeque},
    future::{pending, poll_fn},
    sync::Arc,
    time::Instant,
};

use bytes::{Bytes, BytesMut};

use crate::{
    intake::{Qos, Verdict},
    metrics,
    router::Hub,
    verdicts::{Replies, Verdicts},
    wire::{self, Dialect, Version},
};

/// MQTT 5 reason codes of PUBACK and PUBREC.
const QUOTA_EXCEEDED: u8 = 0x97;
const PAYLOAD_INVALID: u8 = 0x99;
/// Of PUBCOMP and PUBREL: nothing is wrong, the delivery had ended before.
pub(crate) const PACKET_ID_UNKNOWN: u8 = 0x92;

/// What subscribers of the readings get once a publish is accepted.
pub(crate) struct Forward {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) qos: Qos,
}

/// One publish whose outcome is awaited or known.
struct Owed {
    /// What is owed to the client; nothing for QoS 0.
    answer: Option<(Answer, u16)>,
    received: Instant,
    forward: Option<Box<Forward>>,
    outcome: Outcome,
}

/// The packet that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Puback,
    Pubrec,
    Pubcomp,
}

/// Where the answer comes from.
enum Outcome {
    /// From the intake: the next verdict of the session.
    Awaited,
    /// The front refused the publish, with this MQTT 5 code.
    Refused(u8, &'static str),
}

/// The queue of one session.
#[derive(Default)]
pub(crate) struct Acks {
    owed: VecDeque<Owed>,
    verdicts: Arc<Verdicts>,
    /// The place of the next publish among those that wait for a verdict.
    next: u64,
    /// Packet ids of QoS 2 publishes that the client has yet to release.
    unreleased: BTreeSet<u16>,
}

impl Acks {
    /// A publish for the intake to answer.
    pub(crate) fn await_verdict(
        &mut self,
        answer: Option<(Answer, u16)>,
        forward: Option<Box<Forward>>,
        received: Instant,
    ) {
        self.push(Owed { answer, received, forward, outcome: Outcome::Awaited });
        self.next += 1;
    }

    /// For the verdicts of the last so many that await one.
    pub(crate) fn replies(&self, count: usize) -> Replies {
        self.verdicts.replies(self.next.saturating_sub(count as u64), count)
    }

    /// A publish that the front refuses.
    pub(crate) fn refuse(&mut self, answer: (Answer, u16), code: u8, reason: &'static str, received: Instant) {
        let outcome = Outcome::Refused(code, reason);
        self.push(Owed { answer: Some(answer), received, forward: None, outcome });
    }

    fn push(&mut self, owed: Owed) {
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
        match self.owed.front() {
            None => pending().await,
            Some(Owed { outcome: Outcome::Awaited, .. }) => poll_fn(|cx| self.verdicts.poll_known(cx)).await,
            Some(_) => {}
        }
    }

    /// Writes what is known, oldest first, up to the first that is not. Says whether one was [`Verdict::Unavailable`].
    pub(crate) fn settle(&mut self, dialect: Dialect, hub: &Hub, out: &mut BytesMut) -> bool {
        let mut unavailable = false;
        if self.owed.is_empty() {
            return unavailable;
        }
        let now = Instant::now();
        let mut known = self.verdicts.take_known();
        while let Some(owed) = self.owed.front() {
            let (code, reason) = match owed.outcome {
                Outcome::Refused(code, reason) => (code, Some(reason)),
                Outcome::Awaited => {
                    let Some(verdict) = known.next() else { break };
                    unavailable |= verdict == Verdict::Unavailable;
                    if let (Verdict::Accepted { .. }, Some(forward)) = (verdict, &owed.forward) {
                        hub.tell(forward.topic.clone(), forward.payload.clone(), forward.qos);
                    }
                    code_of(verdict)
                }
            };
            let refuses = answer(owed, (code, reason), dialect, now, out);
            // A PUBREC that refuses ends the delivery: no release will come.
            if let (Some((Answer::Pubrec, packet_id)), true) = (owed.answer, refuses) {
                self.unreleased.remove(&packet_id);
            }
            self.owed.pop_front();
        }
        unavailable
    }
}

/// The reason code of a verdict, and its reason in words.
fn code_of(verdict: Verdict) -> (u8, Option<&'static str>) {
    match verdict {
        Verdict::Accepted { .. } | Verdict::Repeated { .. } | Verdict::Released { known: true } => (0, None),
        Verdict::Released { known: false } => (PACKET_ID_UNKNOWN, None),
        Verdict::Rejected(reject) => (PAYLOAD_INVALID, Some(reject.reason())),
        Verdict::Unavailable => (QUOTA_EXCEEDED, Some("unavailable")),
    }
}

/// Writes the answer; says whether it refuses.
fn answer(owed: &Owed, (code, reason): (u8, Option<&str>), dialect: Dialect, now: Instant, out: &mut BytesMut) -> bool {
    let version = dialect.version;
    let Some((answer, packet_id)) = owed.answer else { return false };
    // 3.1.1 has no code: an acknowledgement would say "stored". No code of PUBCOMP says "not now".
    let negative = !matches!(code, 0 | PAYLOAD_INVALID | PACKET_ID_UNKNOWN);
    if negative && (version == Version::V3 || answer == Answer::Pubcomp) {
        return false;
    }
    wire::acknowledge(out, dialect, answer, packet_id, code, reason);
    if answer != Answer::Pubcomp {
        metrics::acknowledged(now.saturating_duration_since(owed.received));
    }
    version == Version::V5 && code >= 0x80
}

#[cfg(test)]
mod properties;
