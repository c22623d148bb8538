//! What a session does with each packet. Knows no socket: packets in, answers into a buffer, effects out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use windlass_reading::Reject;

use crate::{
    Limits,
    acks::{Acks, Answer, Outcome, Owed},
    acl,
    identity::Identity,
    intake::{Intake, Publish, Qos, Refusal, Refused, Step},
    metrics,
    router::Hub,
    wire::{self, Fault, Packet, Published, Version},
};

/// SUBACK and UNSUBACK codes.
const QUOTA_EXCEEDED: u8 = 0x97;
const V3_FAILURE: u8 = 0x80;
const NO_SUBSCRIPTION: u8 = 0x11;
/// QoS 2 publishes of a session that it has not released: more than any client library opens.
const UNRELEASED: usize = 256;

/// Why a session ends, as the MQTT 5 DISCONNECT code; 3.1.1 only closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client said goodbye or closed: no DISCONNECT is sent.
    Client,
    Malformed,
    Protocol,
    NotAuthorized,
    ShuttingDown,
    KeepAlive,
    TakenOver,
    AliasInvalid,
    TooLarge,
    Revoked,
    Retain,
    TooManyOpen,
    SubscriptionIds,
}

impl End {
    /// The DISCONNECT reason code (MQTT 5 section 3.14.2.1).
    pub(crate) fn code(self) -> Option<u8> {
        Some(match self {
            Self::Client => return None,
            Self::Malformed => 0x81,
            Self::Protocol => 0x82,
            Self::NotAuthorized => 0x87,
            Self::ShuttingDown => 0x8B,
            Self::KeepAlive => 0x8D,
            Self::TakenOver => 0x8E,
            Self::AliasInvalid => 0x94,
            Self::TooLarge => 0x95,
            Self::Revoked => 0x98,
            Self::Retain => 0x9A,
            Self::TooManyOpen => 0x93,
            Self::SubscriptionIds => 0xA1,
        })
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLarge => Self::TooLarge,
            Fault::Protocol => Self::Protocol,
            Fault::Malformed | Fault::Level(_) => Self::Malformed,
        }
    }
}

/// What is known of a publish or a release beside its bytes.
struct Offered {
    step: Step,
    qos: Qos,
    answer: Option<(Answer, u16)>,
    forward: Option<(String, Bytes)>,
    now_ms: u64,
}

/// One authenticated session.
pub(crate) struct Session {
    pub(crate) identity: Arc<Identity>,
    pub(crate) version: Version,
    pub(crate) acks: Acks,
    /// A publish that the intake gave back; nothing more is taken before it is in.
    pub(crate) held: Option<Publish>,
    /// What is subscribed to; the shell keeps the router's link in step.
    pub(crate) subscriptions: BTreeSet<String>,
    aliases: BTreeMap<u16, String>,
    in_flight: usize,
    max_subscriptions: usize,
    intake: Arc<dyn Intake>,
    hub: Hub,
}

impl Session {
    pub(crate) fn new(
        identity: Arc<Identity>,
        version: Version,
        limits: &Limits,
        intake: Arc<dyn Intake>,
        hub: Hub,
    ) -> Self {
        Self {
            identity,
            version,
            acks: Acks::default(),
            held: None,
            subscriptions: BTreeSet::new(),
            aliases: BTreeMap::new(),
            in_flight: usize::from(limits.in_flight),
            max_subscriptions: usize::from(limits.max_subscriptions),
            intake,
            hub,
        }
    }

    /// Whether another packet may be taken now. While it may not, the socket is not read.
    pub(crate) fn has_room(&self) -> bool {
        self.held.is_none() && self.acks.len() < self.in_flight
    }

    /// Takes one packet.
    pub(crate) fn take(&mut self, packet: Packet, now_ms: u64, out: &mut BytesMut) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => self.publish(publish, now_ms),
            Packet::Release { packet_id } => {
                self.release(packet_id, now_ms);
                Ok(())
            }
            Packet::Subscribe { numbered: true, .. } => Err(End::SubscriptionIds),
            Packet::Subscribe { packet_id, filters, .. } => {
                let codes: Vec<u8> = filters.into_iter().map(|filter| self.subscribe(filter)).collect();
                wire::suback(out, self.version, packet_id, &codes);
                Ok(())
            }
            Packet::Unsubscribe { packet_id, filters } => {
                let gone = |filter: &String| if self.subscriptions.remove(filter) { 0 } else { NO_SUBSCRIPTION };
                let codes: Vec<u8> = filters.iter().map(gone).collect();
                wire::unsuback(out, self.version, packet_id, &codes);
                Ok(())
            }
            Packet::Ping => {
                wire::pong(out);
                Ok(())
            }
            Packet::Disconnect => Err(End::Client),
        }
    }

    /// Offers the held publish again; says whether it is in.
    pub(crate) fn retry(&mut self) -> bool {
        if let Some(publish) = self.held.take() {
            self.offer(publish);
        }
        self.held.is_none()
    }

    /// Writes the answers that are known; says whether a publish was not stored.
    pub(crate) fn settle(&mut self, out: &mut BytesMut) -> bool {
        self.acks.settle(self.version, &self.hub, out)
    }

    /// Counts the fault of bytes that are no packet.
    pub(crate) fn fault(fault: Fault) -> End {
        metrics::rejected(if fault == Fault::TooLarge { Reject::TooLong } else { Reject::Malformed });
        fault.into()
    }

    fn publish(&mut self, mut publish: Published, now_ms: u64) -> Result<(), End> {
        if let Some(alias) = publish.alias {
            self.resolve(alias, &mut publish.topic)?;
        }
        let reject = if !acl::may_publish(&self.identity, &publish.topic) {
            Some(Reject::ForeignTopic)
        } else if publish.retain {
            Some(Reject::Retained)
        } else {
            None
        };
        if let Some(reject) = reject {
            return self.refuse(publish, reject, now_ms);
        }
        let (qos, answer) = match (publish.qos, publish.packet_id) {
            (1, Some(id)) => (Qos::AtLeastOnce, Some((Answer::Puback, id))),
            (2, Some(id)) => (Qos::ExactlyOnce, Some((Answer::Pubrec, id))),
            _ => (Qos::AtMostOnce, None),
        };
        if self.acks.unreleased() >= UNRELEASED {
            return Err(End::TooManyOpen);
        }
        metrics::received(qos);
        let forward = self.forward(&publish.payload);
        let offered = Offered { step: Step::Publish, qos, answer, forward, now_ms };
        self.hand_over(offered, publish.topic, publish.payload, publish.duplicate);
        Ok(())
    }

    /// The end of a QoS 2 delivery. The packet id is free once that is on disk: a client that hears PUBCOMP uses it again.
    fn release(&mut self, packet_id: u16, now_ms: u64) {
        self.acks.released(packet_id);
        let answer = Some((Answer::Pubcomp, packet_id));
        let offered = Offered { step: Step::Release, qos: Qos::ExactlyOnce, answer, forward: None, now_ms };
        self.hand_over(offered, String::new(), Bytes::new(), false);
    }

    fn hand_over(&mut self, offered: Offered, topic: String, payload: Bytes, duplicate: bool) {
        let (reply, verdict) = oneshot::channel();
        let Offered { step, qos, answer, forward, now_ms } = offered;
        let received = Instant::now();
        self.acks.push(Owed { answer, received, forward, outcome: Outcome::Awaited(verdict) });
        self.offer(Publish {
            step,
            device: self.identity.device.clone(),
            topic,
            payload,
            qos,
            duplicate,
            packet_id: answer.map(|(_, id)| id),
            received_at_ms: now_ms,
            received,
            reply,
        });
    }

    /// A topic alias (MQTT 5 section 3.3.2.3.4): with a topic it is defined, without one it stands for its topic.
    fn resolve(&mut self, alias: u16, topic: &mut String) -> Result<(), End> {
        if !(1..=wire::TOPIC_ALIASES).contains(&alias) {
            return Err(End::AliasInvalid);
        }
        if topic.is_empty() {
            *topic = self.aliases.get(&alias).ok_or(End::Protocol)?.clone();
        } else {
            self.aliases.insert(alias, topic.clone());
        }
        Ok(())
    }

    /// What goes to subscribers of the device's readings once the publish is durable.
    fn forward(&self, payload: &Bytes) -> Option<(String, Bytes)> {
        if !self.hub.has_listeners() {
            return None;
        }
        let topic = acl::readings_topic(self.identity.device.as_str());
        self.hub.wants(&topic).then(|| (topic, payload.clone()))
    }

    fn offer(&mut self, publish: Publish) {
        match self.intake.offer(publish) {
            Ok(()) => {}
            Err(Refused::Full(publish)) => self.held = Some(publish),
            // Its reply is dropped with it, which answers "unavailable".
            Err(Refused::Unknown(_) | Refused::Closed(_)) => {}
        }
    }

    /// A publish that the front itself turns away: counted, kept, answered.
    fn refuse(&mut self, publish: Published, reject: Reject, now_ms: u64) -> Result<(), End> {
        metrics::rejected(reject);
        self.intake.refused(Refusal {
            device: self.identity.device.clone(),
            topic: publish.topic,
            payload: publish.payload,
            reject,
            received_at_ms: now_ms,
        });
        match reject {
            Reject::Retained => return Err(End::Retain),
            _ if self.version == Version::V3 => return Err(End::NotAuthorized),
            _ => {}
        }
        let answer = if publish.qos == 2 { Answer::Pubrec } else { Answer::Puback };
        if let Some(packet_id) = publish.packet_id {
            self.acks.push(Owed {
                answer: Some((answer, packet_id)),
                received: Instant::now(),
                forward: None,
                outcome: Outcome::Refused(acl::NOT_AUTHORIZED, reject.reason()),
            });
        }
        Ok(())
    }

    fn subscribe(&mut self, filter: String) -> u8 {
        let refused = match acl::may_subscribe(self.identity.device.as_str(), &filter) {
            Err(code) => Some(code),
            Ok(()) if self.subscriptions.contains(&filter) => None,
            Ok(()) if self.subscriptions.len() >= self.max_subscriptions => Some(QUOTA_EXCEEDED),
            Ok(()) => {
                self.subscriptions.insert(filter);
                None
            }
        };
        match refused {
            // Messages go out with QoS 0, so that is what is granted.
            None => 0,
            Some(_) if self.version == Version::V3 => V3_FAILURE,
            Some(code) => code,
        }
    }
}
