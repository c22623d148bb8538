//! What the broker sends, appended to a connection's output buffer.

use bytes::{BufMut, BytesMut};

use super::{Dialect, TOPIC_ALIASES, Version};
use crate::{acks::Answer, config::Limits, intake::Qos};

const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
const SUBACK: u8 = 0x90;
const UNSUBACK: u8 = 0xB0;
const PINGRESP: u8 = 0xD0;
const DISCONNECT: u8 = 0xE0;

/// MQTT 5 properties that are sent (MQTT 5 section 2.2.2.2).
const SESSION_EXPIRY: u8 = 0x11;
const ASSIGNED_CLIENT_ID: u8 = 0x12;
const SERVER_KEEP_ALIVE: u8 = 0x13;
const REASON_STRING: u8 = 0x1F;
const RECEIVE_MAXIMUM: u8 = 0x21;
const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
const RETAIN_AVAILABLE: u8 = 0x25;
const MAXIMUM_PACKET_SIZE: u8 = 0x27;
const WILDCARD_AVAILABLE: u8 = 0x28;
const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
const SHARED_AVAILABLE: u8 = 0x2A;

/// Bytes of a PUBACK or PUBREC beside its reason in words: fixed header, packet id, code, length of the properties, the
/// property's own number and length. Reasons are short enough for lengths of one byte.
pub(super) const BESIDE_A_REASON: usize = 2 + 2 + 1 + 1 + 1 + 2;

/// What a CONNACK says.
#[derive(Debug, Default)]
pub(crate) struct Connack<'a> {
    /// The protocol's own code.
    pub(crate) code: u8,
    pub(crate) session_present: bool,
    /// How long the session is kept, where that is not what the client asked for.
    pub(crate) expiry_seconds: Option<u32>,
    /// The longest time that the client may be silent, where that is not what it asked for.
    pub(crate) keep_alive_seconds: Option<u16>,
    pub(crate) assigned_id: Option<&'a str>,
    /// With success only.
    pub(crate) limits: Option<&'a Limits>,
    /// Whether filters may have wildcards.
    pub(crate) wildcards: bool,
}

/// CONNACK.
pub(crate) fn connack(out: &mut BytesMut, version: Version, connack: &Connack<'_>) {
    if version == Version::V3 {
        out.put_slice(&[CONNACK, 2, u8::from(connack.session_present), connack.code]);
        return;
    }
    let mut properties = BytesMut::new();
    if let Some(seconds) = connack.expiry_seconds {
        properties.put_u8(SESSION_EXPIRY);
        properties.put_u32(seconds);
    }
    if let Some(seconds) = connack.keep_alive_seconds {
        properties.put_u8(SERVER_KEEP_ALIVE);
        properties.put_u16(seconds);
    }
    if let Some((id, length)) = connack.assigned_id.and_then(|id| Some((id, u16::try_from(id.len()).ok()?))) {
        properties.put_u8(ASSIGNED_CLIENT_ID);
        properties.put_u16(length);
        properties.put_slice(id.as_bytes());
    }
    if let Some(limits) = connack.limits {
        properties.put_u8(RECEIVE_MAXIMUM);
        properties.put_u16(limits.in_flight.max(1));
        properties.put_u8(TOPIC_ALIAS_MAXIMUM);
        properties.put_u16(TOPIC_ALIASES);
        properties.put_slice(&[RETAIN_AVAILABLE, 0]);
        properties.put_u8(MAXIMUM_PACKET_SIZE);
        properties.put_u32(limits.max_packet_bytes);
        properties.put_slice(&[WILDCARD_AVAILABLE, u8::from(connack.wildcards)]);
        properties.put_slice(&[SUBSCRIPTION_IDS_AVAILABLE, 0, SHARED_AVAILABLE, 0]);
    }
    out.put_u8(CONNACK);
    let length = properties.len();
    variable(out, 2 + variable_length(length) + length);
    out.put_slice(&[u8::from(connack.session_present), connack.code]);
    variable(out, length);
    out.put_slice(&properties);
}

/// PUBACK, PUBREC or PUBCOMP. In 3.1.1 there is no code: success is implied.
pub(crate) fn acknowledge(
    out: &mut BytesMut,
    dialect: Dialect,
    answer: Answer,
    packet_id: u16,
    code: u8,
    reason: Option<&str>,
) {
    out.put_u8(match answer {
        Answer::Puback => PUBACK,
        Answer::Pubrec => PUBREC,
        Answer::Pubcomp => PUBCOMP,
    });
    let reason = reason.filter(|reason| reason.len() <= dialect.longest_reason);
    if dialect.version == Version::V3 || (code == 0 && reason.is_none()) {
        out.put_u8(2);
        out.put_u16(packet_id);
        return;
    }
    let reason = reason.unwrap_or_default().as_bytes();
    let properties = if reason.is_empty() { 0 } else { 3 + reason.len() };
    variable(out, 2 + 1 + variable_length(properties) + properties);
    out.put_u16(packet_id);
    out.put_u8(code);
    variable(out, properties);
    if let (false, Ok(length)) = (reason.is_empty(), u16::try_from(reason.len())) {
        out.put_u8(REASON_STRING);
        out.put_u16(length);
        out.put_slice(reason);
    }
}

/// PUBREL; with a code that is not 0 in MQTT 5 only.
pub(crate) fn release(out: &mut BytesMut, version: Version, packet_id: u16, code: u8) {
    let code = Some(code).filter(|code| *code != 0 && version == Version::V5);
    out.put_slice(&[PUBREL, if code.is_some() { 3 } else { 2 }]);
    out.put_u16(packet_id);
    out.extend(code);
}

/// SUBACK with one code for each filter.
pub(crate) fn suback(out: &mut BytesMut, version: Version, packet_id: u16, codes: &[u8]) {
    out.put_u8(SUBACK);
    acknowledge_filters(out, version, packet_id, codes);
}

/// UNSUBACK; the codes are left out in 3.1.1.
pub(crate) fn unsuback(out: &mut BytesMut, version: Version, packet_id: u16, codes: &[u8]) {
    out.put_u8(UNSUBACK);
    acknowledge_filters(out, version, packet_id, if version == Version::V3 { &[] } else { codes });
}

fn acknowledge_filters(out: &mut BytesMut, version: Version, packet_id: u16, codes: &[u8]) {
    let properties = usize::from(version == Version::V5);
    variable(out, 2 + properties + codes.len());
    out.put_u16(packet_id);
    out.put_bytes(0, properties);
    out.put_slice(codes);
}

/// A message to a subscriber.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) qos: Qos,
    /// There is one unless the message goes out at most once.
    pub(crate) packet_id: Option<u16>,
    pub(crate) duplicate: bool,
}

/// PUBLISH. `false` when it cannot be expressed or is larger than the client takes: then nothing is sent.
pub(crate) fn publish(
    out: &mut BytesMut,
    version: Version,
    message: &Outgoing<'_>,
    max_packet_bytes: Option<u32>,
) -> bool {
    let Ok(topic_length) = u16::try_from(message.topic.len()) else { return false };
    let properties = usize::from(version == Version::V5);
    let id = message.packet_id.map_or(0, |_| 2);
    let remaining = 2 + message.topic.len() + id + properties + message.payload.len();
    let whole = 1 + variable_length(remaining) + remaining;
    if whole > max_packet_bytes.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX)) {
        return false;
    }
    out.put_u8(PUBLISH | (u8::from(message.duplicate) << 3) | (message.qos.number() << 1));
    variable(out, remaining);
    out.put_u16(topic_length);
    out.put_slice(message.topic);
    if let Some(packet_id) = message.packet_id {
        out.put_u16(packet_id);
    }
    out.put_bytes(0, properties);
    out.put_slice(message.payload);
    true
}

/// PINGRESP.
pub(crate) fn pong(out: &mut BytesMut) {
    out.put_slice(&[PINGRESP, 0]);
}

/// DISCONNECT from the server: MQTT 5 only; 3.1.1 has none, there the socket is closed.
pub(crate) fn disconnect(out: &mut BytesMut, version: Version, code: u8) {
    if version == Version::V5 {
        out.put_slice(&[DISCONNECT, 1, code]);
    }
}

/// A variable byte integer (MQTT 5 section 1.5.5).
fn variable(out: &mut BytesMut, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7F).unwrap_or_default();
        value >>= 7;
        out.put_u8(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return;
        }
    }
}

fn variable_length(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
