//! What a session does with each packet. Knows no socket: packets in, answers into a buffer, effects out.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use windlass_reading::{DeviceId, Payload, Reject};

use crate::{
    acks::{Acks, Answer, Forward, PACKET_ID_UNKNOWN},
    acl,
    front::Front,
    guard::Quota,
    identity::Who,
    intake::{Intake, Offer, Publish, Qos, Refusal, Refused, Step},
    mailbox::Received,
    metrics::{self, Throttled},
    router::Hub,
    sessions::Seat,
    wire::{self, Dialect, Fault, Packet, Published, Version},
};

/// SUBACK and UNSUBACK codes.
const QUOTA_EXCEEDED: u8 = 0x97;
const V3_FAILURE: u8 = 0x80;
const NO_SUBSCRIPTION: u8 = 0x11;
/// Between two offers of a publish that a full queue gave back.
const RETRY_AFTER: Duration = Duration::from_millis(10);
/// QoS 2 publishes of a session that it has not released: more than any client library opens.
const UNRELEASED: usize = 256;

/// Why a session ends, as the MQTT 5 DISCONNECT code; 3.1.1 only closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client said goodbye: no DISCONNECT is sent, nor its will.
    Client,
    /// The client closed without a goodbye, or asked for its will.
    Lost,
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
    /// The journal could not store what was asked for.
    Unavailable,
    SubscriptionIds,
}

impl End {
    /// The DISCONNECT reason code (MQTT 5 section 3.14.2.1).
    pub(crate) fn code(self) -> Option<u8> {
        Some(match self {
            Self::Client | Self::Lost => return None,
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
            Self::Unavailable => 0x97,
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

/// The quality of service of a publish, and the answer that it asks for.
fn quality(publish: &Published) -> (Qos, Option<(Answer, u16)>) {
    match (publish.qos, publish.packet_id) {
        (1, Some(id)) => (Qos::AtLeastOnce, Some((Answer::Puback, id))),
        (2, Some(id)) => (Qos::ExactlyOnce, Some((Answer::Pubrec, id))),
        _ => (Qos::AtMostOnce, None),
    }
}

/// When packets were complete, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) at: Instant,
    pub(crate) unix_ms: u64,
}

/// A publish that is over its device's rate, until then.
struct Early {
    publish: Published,
    unix_ms: u64,
    due: Instant,
}

/// One authenticated session.
pub(crate) struct Session {
    pub(crate) who: Who,
    pub(crate) seat: Seat,
    pub(crate) dialect: Dialect,
    pub(crate) acks: Acks,
    /// What the socket has brought and the intake has not been offered yet.
    publishes: Vec<Publish>,
    /// Publishes that are not counted yet, by their quality of service.
    received: [u64; 3],
    /// What the intake gave back. Nothing more is taken before this is in.
    back: Option<Offer>,
    /// And this after it.
    early: Option<Early>,
    /// Subscriptions have changed since they were last stored.
    pub(crate) changed: bool,
    max_expiry: Duration,
    aliases: BTreeMap<u16, Arc<str>>,
    quota: Option<Quota>,
    in_flight: usize,
    max_subscriptions: usize,
    intake: Arc<dyn Intake>,
    hub: Hub,
}

impl Session {
    pub(crate) fn new(front: &Front, who: Who, seat: Seat, dialect: Dialect) -> Self {
        let limits = &front.limits;
        let quota = match &who {
            Who::Device(identity) => front.guard.quota(identity.device.as_str(), Instant::now()),
            Who::User(_) => None,
        };
        Self {
            who,
            seat,
            dialect,
            acks: Acks::default(),
            publishes: Vec::new(),
            received: [0; 3],
            back: None,
            early: None,
            changed: false,
            max_expiry: limits.session_expiry,
            aliases: BTreeMap::new(),
            quota,
            in_flight: usize::from(limits.in_flight),
            max_subscriptions: usize::from(limits.max_subscriptions),
            intake: front.intake.clone(),
            hub: front.hub.clone(),
        }
    }

    /// Whether another packet may be taken now. While it may not, the socket is not read.
    pub(crate) fn has_room(&self) -> bool {
        self.back.is_none() && self.early.is_none() && self.acks.len() < self.in_flight
    }

    /// Takes one packet.
    pub(crate) fn take(&mut self, packet: Packet, moment: Moment, out: &mut BytesMut) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => self.publish(publish, moment),
            Packet::Release { packet_id } => {
                self.release(packet_id, moment);
                Ok(())
            }
            Packet::Acknowledge { packet_id } => self.seat.acknowledge(packet_id).then_some(()).ok_or(End::Protocol),
            Packet::Receive { packet_id, refuses } => {
                match self.seat.receive(packet_id, refuses) {
                    Received::Release => wire::release(out, self.dialect.version, packet_id, 0),
                    Received::Unknown => wire::release(out, self.dialect.version, packet_id, PACKET_ID_UNKNOWN),
                    Received::Nothing => {}
                    Received::Wrong => return Err(End::Protocol),
                }
                Ok(())
            }
            Packet::Complete { packet_id } => self.seat.complete(packet_id).then_some(()).ok_or(End::Protocol),
            Packet::Subscribe { numbered: true, .. } => Err(End::SubscriptionIds),
            Packet::Subscribe { packet_id, filters, .. } => {
                let codes: Vec<u8> = filters.into_iter().map(|(filter, qos)| self.subscribe(filter, qos)).collect();
                wire::suback(out, self.dialect.version, packet_id, &codes);
                Ok(())
            }
            Packet::Unsubscribe { packet_id, filters } => {
                let codes: Vec<u8> = filters.iter().map(|filter| self.unsubscribe(filter)).collect();
                wire::unsuback(out, self.dialect.version, packet_id, &codes);
                Ok(())
            }
            Packet::Ping => {
                wire::pong(out);
                Ok(())
            }
            Packet::Disconnect { with_will, expiry_seconds } => {
                if let Some(seconds) = expiry_seconds {
                    let expiry = Duration::from_secs(seconds.into()).min(self.max_expiry);
                    // What was to end with its connection cannot be kept after all (MQTT 5 section 3.14.2.2.2).
                    if self.seat.expiry().is_zero() && !expiry.is_zero() {
                        return Err(End::Protocol);
                    }
                    self.seat.set_expiry(expiry);
                }
                Err(if with_will { End::Lost } else { End::Client })
            }
        }
    }

    /// When what is held back is to be tried again; `None` when nothing is.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if self.back.is_some() {
            return Some(RETRY_AFTER);
        }
        self.early.as_ref().map(|early| early.due.saturating_duration_since(Instant::now()))
    }

    /// Tries again what is held back.
    pub(crate) fn retry(&mut self) {
        if let Some(offer) = self.back.take() {
            self.hand_over(offer);
        } else if let Some(Early { publish, unix_ms, .. }) = self.early.take() {
            self.ration(publish, Moment { at: Instant::now(), unix_ms });
            self.offer();
        }
    }

    /// Nothing more is taken: a publish that waits for its rate is not acknowledged, so its client has it still.
    pub(crate) fn close(&mut self) {
        self.early = None;
    }

    /// Offers the intake what the socket has brought.
    pub(crate) fn offer(&mut self) {
        metrics::received(std::mem::take(&mut self.received));
        let (false, Who::Device(identity)) = (self.publishes.is_empty(), &self.who) else { return };
        let publishes = std::mem::take(&mut self.publishes);
        let replies = self.acks.replies(publishes.len());
        self.hand_over(Offer { device: identity.device.clone(), publishes, replies });
    }

    fn hand_over(&mut self, offer: Offer) {
        match self.intake.offer(offer) {
            Ok(()) => {}
            Err(Refused::Full(rest)) => self.back = Some(rest),
            // Their replies were dropped with them, which answers "unavailable".
            Err(Refused::Unknown | Refused::Closed) => {}
        }
    }

    /// Writes the answers that are known; says whether a publish was not stored.
    pub(crate) fn settle(&mut self, out: &mut BytesMut) -> bool {
        self.acks.settle(self.dialect, &self.hub, out)
    }

    /// Counts the fault of bytes that are no packet.
    pub(crate) fn fault(fault: Fault) -> End {
        metrics::rejected(if fault == Fault::TooLarge { Reject::TooLong } else { Reject::Malformed });
        fault.into()
    }

    fn publish(&mut self, mut publish: Published, moment: Moment) -> Result<(), End> {
        if let Some(alias) = publish.alias {
            self.resolve(alias, &mut publish.topic)?;
        }
        let Who::Device(identity) = &self.who else { return self.refuse_user(&publish, moment) };
        let reject = if !acl::may_publish(identity, &publish.topic) {
            Some(Reject::ForeignTopic)
        } else if publish.retain {
            Some(Reject::Retained)
        } else {
            None
        };
        if let Some(reject) = reject {
            let device = identity.device.clone();
            return self.refuse(device, publish, reject, moment);
        }
        if self.acks.unreleased() >= UNRELEASED {
            return Err(End::TooManyOpen);
        }
        if let Some(received) = self.received.get_mut(usize::from(publish.qos)) {
            *received += 1;
        }
        self.ration(publish, moment);
        Ok(())
    }

    /// Takes the publish if its device's rate allows it. Otherwise MQTT 5 clients are told; in 3.1.1 only the missing
    /// PUBACK can tell, so there it waits, and with it the socket.
    fn ration(&mut self, publish: Published, moment: Moment) {
        let (qos, answer) = quality(&publish);
        match (self.quota.as_ref().map_or(Ok(()), |quota| quota.take(moment.at)), answer) {
            (Ok(()), _) => {
                let forward = self.forward(&publish.payload, qos);
                self.acks.await_verdict(answer, forward, moment.at);
                self.publishes.push(Publish {
                    step: Step::Publish,
                    topic: publish.topic,
                    payload: publish.payload,
                    qos,
                    duplicate: publish.duplicate,
                    packet_id: publish.packet_id,
                    received_at_ms: moment.unix_ms,
                });
            }
            (Err(_), None) => metrics::throttled(Throttled::Dropped),
            (Err(_), Some(answer)) if self.dialect.version == Version::V5 => {
                metrics::throttled(Throttled::Refused);
                self.acks.refuse(answer, QUOTA_EXCEEDED, "rate", moment.at);
            }
            (Err(wait), Some(_)) => {
                metrics::throttled(Throttled::Delayed);
                self.early = Some(Early { publish, unix_ms: moment.unix_ms, due: moment.at + wait });
            }
        }
    }

    /// The end of a QoS 2 delivery. The packet id is free once that is on disk: a client that hears PUBCOMP uses it again.
    fn release(&mut self, packet_id: u16, moment: Moment) {
        let Who::Device(_) = &self.who else { return };
        self.acks.released(packet_id);
        self.acks.await_verdict(Some((Answer::Pubcomp, packet_id)), None, moment.at);
        self.publishes.push(Publish {
            step: Step::Release,
            topic: Arc::default(),
            payload: Payload::new(),
            qos: Qos::ExactlyOnce,
            duplicate: false,
            packet_id: Some(packet_id),
            received_at_ms: moment.unix_ms,
        });
    }

    /// A topic alias (MQTT 5 section 3.3.2.3.4): with a topic it is defined, without one it stands for its topic.
    fn resolve(&mut self, alias: u16, topic: &mut Arc<str>) -> Result<(), End> {
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

    /// What goes to subscribers of the device's readings once the publish is durable. It may wait for them long, so it is
    /// not to hold on to all that came with it.
    fn forward(&self, payload: &[u8], qos: Qos) -> Option<Box<Forward>> {
        if !self.hub.has_listeners() {
            return None;
        }
        let topic = acl::readings_topic(self.who.name());
        self.hub.wants(&topic).then(|| Box::new(Forward { topic, payload: Bytes::copy_from_slice(payload), qos }))
    }

    /// A publish that the front itself turns away: counted, kept, answered.
    fn refuse(&mut self, device: DeviceId, publish: Published, reject: Reject, moment: Moment) -> Result<(), End> {
        metrics::rejected(reject);
        self.intake.refused(Refusal {
            device,
            topic: publish.topic.as_ref().into(),
            payload: publish.payload,
            reject,
            received_at_ms: moment.unix_ms,
        });
        match reject {
            Reject::Retained => return Err(End::Retain),
            _ if self.dialect.version == Version::V3 => return Err(End::NotAuthorized),
            _ => {}
        }
        self.answer_refused(publish.qos, publish.packet_id, reject, moment);
        Ok(())
    }

    /// Users hear and do not publish.
    fn refuse_user(&mut self, publish: &Published, moment: Moment) -> Result<(), End> {
        metrics::rejected(Reject::ForeignTopic);
        if self.dialect.version == Version::V3 {
            return Err(End::NotAuthorized);
        }
        self.answer_refused(publish.qos, publish.packet_id, Reject::ForeignTopic, moment);
        Ok(())
    }

    fn answer_refused(&mut self, qos: u8, packet_id: Option<u16>, reject: Reject, moment: Moment) {
        let answer = if qos == 2 { Answer::Pubrec } else { Answer::Puback };
        if let Some(packet_id) = packet_id {
            self.acks.refuse((answer, packet_id), acl::NOT_AUTHORIZED, reject.reason(), moment.at);
        }
    }

    fn subscribe(&mut self, filter: String, qos: Qos) -> u8 {
        let allowed = match &self.who {
            Who::Device(identity) => acl::may_subscribe(identity.device.as_str(), &filter),
            Who::User(user) => acl::may_listen(&user.subscribe, &filter),
        };
        let refused = allowed.err().or_else(|| {
            let room = self.seat.subscribe(filter, qos, self.max_subscriptions);
            self.changed |= room;
            (!room).then_some(QUOTA_EXCEEDED)
        });
        match refused {
            None => qos.number(),
            Some(_) if self.dialect.version == Version::V3 => V3_FAILURE,
            Some(code) => code,
        }
    }

    fn unsubscribe(&mut self, filter: &str) -> u8 {
        let found = self.seat.unsubscribe(filter);
        self.changed |= found;
        if found { 0 } else { NO_SUBSCRIPTION }
    }
}
