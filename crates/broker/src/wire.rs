//! Bytes to packets and back: framing and parsing by `mqtt-protocol-core`, plus the checks that it leaves to its caller.

mod encode;
mod usual;

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use mqtt_protocol_core::mqtt::{
    common::Cursor,
    connection::{PacketBuildResult, PacketBuilder, PacketData, RawPacket},
    packet::{Property, Qos as WireQos, v3_1_1, v5_0},
    result_code::MqttError,
};

use windlass_reading::Payload;

use crate::intake::Qos;
pub(crate) use encode::{
    Connack, Outgoing, acknowledge, connack, disconnect, pong, publish, release, suback, unsuback,
};

const PUBLISH: u8 = 3;
/// Topic aliases of one connection.
pub(crate) const TOPIC_ALIASES: u16 = 8;

/// The protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// MQTT 3.1.1.
    V3,
    /// MQTT 5.0.
    V5,
}

/// Why bytes are not a packet that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Malformed,
    Protocol,
    TooLarge,
    /// A protocol level that is not spoken here. The answer is in the format of `Version`.
    Level(Version),
}

impl From<MqttError> for Fault {
    fn from(error: MqttError) -> Self {
        match error {
            MqttError::PacketTooLarge => Self::TooLarge,
            MqttError::ProtocolError => Self::Protocol,
            _ => Self::Malformed,
        }
    }
}

/// A client's CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) keep_alive_seconds: u16,
    pub(crate) will: Option<Will>,
    /// Clean session, or clean start.
    pub(crate) clean: bool,
    /// MQTT 5 only; absent: 0.
    pub(crate) expiry_seconds: Option<u32>,
    /// QoS 1 messages that may wait for the client's PUBACK.
    pub(crate) receive_maximum: Option<u16>,
    /// Largest packet that the client takes.
    pub(crate) max_packet_bytes: Option<u32>,
    /// Enhanced authentication (AUTH packets) was asked for.
    pub(crate) enhanced: bool,
    /// Whether reasons may come in words (MQTT 5 section 3.1.2.11.7).
    pub(crate) in_words: bool,
}

/// How a client is spoken to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    pub(crate) version: Version,
    /// The longest reason in words that it takes, in bytes.
    pub(crate) longest_reason: usize,
}

impl Connect {
    pub(crate) fn dialect(&self) -> Dialect {
        let room = self.max_packet_bytes.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        let longest_reason = if self.in_words { room.saturating_sub(encode::BESIDE_A_REASON) } else { 0 };
        Dialect { version: self.version, longest_reason }
    }
}

/// What matters of a will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    /// How long after the connection's end it is sent.
    pub(crate) delay_seconds: u32,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
}

/// What a client may send after CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    Publish(Published),
    /// PUBREL.
    Release {
        packet_id: u16,
    },
    /// PUBACK.
    Acknowledge {
        packet_id: u16,
    },
    /// PUBREC. One that refuses ends the delivery.
    Receive {
        packet_id: u16,
        refuses: bool,
    },
    /// PUBCOMP.
    Complete {
        packet_id: u16,
    },
    /// Each filter with the highest QoS that is asked for.
    Subscribe {
        packet_id: u16,
        filters: Vec<(String, Qos)>,
        numbered: bool,
    },
    Unsubscribe {
        packet_id: u16,
        filters: Vec<String>,
    },
    Ping,
    Disconnect {
        with_will: bool,
        expiry_seconds: Option<u32>,
    },
}

/// A PUBLISH as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Payload,
    /// 0, 1 or 2.
    pub(crate) qos: u8,
    pub(crate) duplicate: bool,
    pub(crate) retain: bool,
    pub(crate) packet_id: Option<u16>,
    pub(crate) alias: Option<u16>,
}

/// What the publishes of a connection share.
#[derive(Default)]
pub(crate) struct Shared {
    /// The topic of the last one: the next one mostly has it too.
    topic: Arc<str>,
}

impl Shared {
    fn topic(&mut self, name: &str) -> Arc<str> {
        if *self.topic != *name {
            self.topic = name.into();
        }
        Arc::clone(&self.topic)
    }
}

/// Cuts the stream into packets. Keeps at most one unfinished packet, within the size limit.
pub(crate) struct Decoder {
    builder: PacketBuilder,
    max_packet_bytes: u32,
    /// The builder has the beginning of a packet.
    begun: bool,
}

impl Decoder {
    pub(crate) fn new(max_packet_bytes: u32) -> Self {
        Self { builder: PacketBuilder::with_maximum_packet_size(max_packet_bytes), max_packet_bytes, begun: false }
    }

    /// The next whole packet after CONNECT, taken out of `input`; `None` when more bytes are needed.
    pub(crate) fn packet(
        &mut self,
        version: Version,
        input: &mut BytesMut,
        shared: &mut Shared,
    ) -> Option<Result<Packet, Fault>> {
        if !self.begun
            && let Some(publish) = usual::take(version, self.max_packet_bytes, input, shared)
        {
            return Some(Ok(Packet::Publish(publish)));
        }
        Some(self.next(input)?.and_then(|raw| parse(version, &raw, shared)))
    }

    /// The next whole packet, taken out of `input`; `None` when more bytes are needed.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Option<Result<RawPacket, Fault>> {
        loop {
            let mut cursor = Cursor::new(input.as_ref());
            let result = self.builder.feed(&mut cursor);
            let taken = usize::try_from(cursor.position()).unwrap_or(usize::MAX).min(input.len());
            input.advance(taken);
            self.begun = matches!(result, PacketBuildResult::Incomplete) && (self.begun || taken > 0);
            match result {
                PacketBuildResult::Complete(raw) => return Some(check_flags(&raw).map(|()| raw)),
                PacketBuildResult::Error(error) => return Some(Err(error.into())),
                PacketBuildResult::Incomplete if taken == 0 || input.is_empty() => return None,
                PacketBuildResult::Incomplete => {}
            }
        }
    }
}

/// Fixed-header flags are reserved except in PUBLISH (MQTT 5 section 2.1.3).
fn check_flags(raw: &RawPacket) -> Result<(), Fault> {
    let wanted = match raw.packet_type() {
        PUBLISH => return Ok(()),
        6 | 8 | 10 => 0b0010,
        0 => return Err(Fault::Malformed),
        _ => 0,
    };
    if raw.flags() == wanted { Ok(()) } else { Err(Fault::Malformed) }
}

/// The first packet of a connection.
pub(crate) fn parse_connect(raw: &RawPacket) -> Result<Connect, Fault> {
    if raw.packet_type() != 1 {
        return Err(Fault::Protocol);
    }
    let (level, flags) = match raw.data_as_slice() {
        [0, 4, b'M', b'Q', b'T', b'T', level, flags, ..] => (*level, *flags),
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => return Err(Fault::Level(Version::V3)),
        _ => return Err(Fault::Malformed),
    };
    let connect = match level {
        4 => connect_v3(raw)?,
        5 => connect_v5(raw)?,
        0..=3 => return Err(Fault::Level(Version::V3)),
        _ => return Err(Fault::Level(Version::V5)),
    };
    let will = flags & 0b0000_0100 != 0;
    let (will_qos, will_retain) = (flags >> 3 & 0b11, flags & 0b0010_0000 != 0);
    if flags & 1 != 0 || will_qos == 3 || (!will && (will_qos != 0 || will_retain)) {
        return Err(Fault::Malformed);
    }
    if [Some(&connect.client_id), connect.username.as_ref(), connect.will.as_ref().map(|w| &w.topic)]
        .into_iter()
        .flatten()
        .any(|text| text.contains('\0'))
    {
        return Err(Fault::Malformed);
    }
    Ok(connect)
}

fn connect_v3(raw: &RawPacket) -> Result<Connect, Fault> {
    let packet = raw.parse_exact(v3_1_1::Connect::parse)?;
    Ok(Connect {
        version: Version::V3,
        client_id: packet.client_id().to_owned(),
        username: packet.user_name().map(ToOwned::to_owned),
        password: packet.password().map(<[u8]>::to_vec),
        keep_alive_seconds: packet.keep_alive(),
        will: packet.will_topic().map(|topic| Will {
            topic: topic.to_owned(),
            payload: Bytes::copy_from_slice(packet.will_payload().unwrap_or_default()),
            delay_seconds: 0,
            qos: quality(packet.will_qos()),
            retain: packet.will_retain(),
        }),
        clean: packet.clean_session(),
        expiry_seconds: None,
        receive_maximum: None,
        max_packet_bytes: None,
        enhanced: false,
        in_words: false,
    })
}

fn connect_v5(raw: &RawPacket) -> Result<Connect, Fault> {
    let packet = raw.parse_exact(v5_0::Connect::parse)?;
    let (mut max_packet_bytes, mut expiry_seconds, mut receive_maximum, mut in_words) = (None, None, None, true);
    for property in packet.props() {
        match property {
            Property::MaximumPacketSize(size) => max_packet_bytes = Some(size.val()),
            Property::SessionExpiryInterval(seconds) => expiry_seconds = Some(seconds.val()),
            Property::ReceiveMaximum(most) => receive_maximum = Some(most.val()),
            Property::RequestProblemInformation(wanted) => in_words = wanted.val() != 0,
            _ => {}
        }
    }
    let delay_seconds = packet.will_props().iter().find_map(|p| match p {
        Property::WillDelayInterval(seconds) => Some(seconds.val()),
        _ => None,
    });
    Ok(Connect {
        version: Version::V5,
        client_id: packet.client_id().to_owned(),
        username: packet.user_name().map(ToOwned::to_owned),
        password: packet.password().map(<[u8]>::to_vec),
        keep_alive_seconds: packet.keep_alive(),
        will: packet.will_topic().map(|topic| Will {
            topic: topic.to_owned(),
            payload: Bytes::copy_from_slice(packet.will_payload().unwrap_or_default()),
            delay_seconds: delay_seconds.unwrap_or_default(),
            qos: quality(packet.will_qos()),
            retain: packet.will_retain(),
        }),
        clean: packet.clean_start(),
        expiry_seconds,
        receive_maximum,
        max_packet_bytes,
        in_words,
        enhanced: packet.props().iter().any(|p| matches!(p, Property::AuthenticationMethod(_))),
    })
}

/// A packet after CONNECT. A second CONNECT, and what only a server may send, is a protocol error.
pub(crate) fn parse(version: Version, raw: &RawPacket, shared: &mut Shared) -> Result<Packet, Fault> {
    match (raw.packet_type(), version) {
        (PUBLISH, _) => parse_publish(version, raw, shared).map(Packet::Publish),
        (kind @ 4..=7, Version::V3) if raw.remaining_length() == 2 => {
            // All four have the same form.
            let packet_id = raw.parse_exact(v3_1_1::Puback::parse)?.packet_id();
            Ok(match kind {
                4 => Packet::Acknowledge { packet_id },
                5 => Packet::Receive { packet_id, refuses: false },
                6 => Packet::Release { packet_id },
                _ => Packet::Complete { packet_id },
            })
        }
        (4..=7, Version::V3) => Err(Fault::Malformed),
        (8, _) => parse_subscribe(version, raw),
        (10, _) => parse_unsubscribe(version, raw),
        (12, _) if raw.remaining_length() == 0 => Ok(Packet::Ping),
        (14, Version::V3) if raw.remaining_length() == 0 => {
            Ok(Packet::Disconnect { with_will: false, expiry_seconds: None })
        }
        (14, Version::V5) => parse_disconnect(raw),
        (4, Version::V5) => {
            let packet_id = raw.parse_exact(v5_0::Puback::parse)?.packet_id();
            Ok(Packet::Acknowledge { packet_id })
        }
        (5, Version::V5) => {
            let packet = raw.parse_exact(v5_0::Pubrec::parse)?;
            let refuses = packet.reason_code().is_some_and(|code| code as u8 >= 0x80);
            Ok(Packet::Receive { packet_id: packet.packet_id(), refuses })
        }
        (6, Version::V5) => {
            let packet_id = raw.parse_exact(v5_0::Pubrel::parse)?.packet_id();
            Ok(Packet::Release { packet_id })
        }
        (7, Version::V5) => {
            let packet_id = raw.parse_exact(v5_0::Pubcomp::parse)?.packet_id();
            Ok(Packet::Complete { packet_id })
        }
        (12 | 14, _) => Err(Fault::Malformed),
        _ => Err(Fault::Protocol),
    }
}

fn quality(qos: WireQos) -> Qos {
    match qos {
        WireQos::AtMostOnce => Qos::AtMostOnce,
        WireQos::AtLeastOnce => Qos::AtLeastOnce,
        WireQos::ExactlyOnce => Qos::ExactlyOnce,
    }
}

fn parse_disconnect(raw: &RawPacket) -> Result<Packet, Fault> {
    let packet = raw.parse_exact(v5_0::Disconnect::parse)?;
    let expiry_seconds = packet.props().iter().flatten().find_map(|p| match p {
        Property::SessionExpiryInterval(seconds) => Some(seconds.val()),
        _ => None,
    });
    // 0x00 alone says that all went well; without a code it is meant.
    let with_will = packet.reason_code().is_some_and(|code| code as u8 != 0);
    Ok(Packet::Disconnect { with_will, expiry_seconds })
}

fn parse_publish(version: Version, raw: &RawPacket, shared: &mut Shared) -> Result<Published, Fault> {
    let PacketData::Publish(data) = &raw.data else { return Err(Fault::Malformed) };
    let (flags, data, length) = (raw.flags(), data.clone(), data.len());
    let published = match version {
        Version::V3 => {
            let (packet, _) = v3_1_1::Publish::parse(flags, data)?;
            Published {
                topic: shared.topic(packet.topic_name()),
                payload: Payload::from_slice(packet.payload().as_slice()),
                qos: packet.qos() as u8,
                duplicate: packet.dup(),
                retain: packet.retain(),
                packet_id: packet.packet_id(),
                alias: None,
            }
        }
        Version::V5 => {
            let (packet, _) = v5_0::Publish::parse(flags, data)?;
            Published {
                topic: shared.topic(packet.topic_name()),
                payload: Payload::from_slice(packet.payload().as_slice()),
                qos: packet.qos() as u8,
                duplicate: packet.dup(),
                retain: packet.retain(),
                packet_id: packet.packet_id(),
                alias: packet.props().iter().find_map(|p| match p {
                    Property::TopicAlias(alias) => Some(alias.val()),
                    _ => None,
                }),
            }
        }
    };
    // The library takes a packet that ends before its property length, which may not be left out here.
    let without_properties = 2 + published.topic.len() + published.packet_id.map_or(0, |_| 2);
    let broken = published.topic.contains(['+', '#', '\0'])
        || (version == Version::V5 && length <= without_properties)
        || (published.topic.is_empty() && published.alias.is_none())
        || published.packet_id == Some(0)
        || (published.qos == 0 && published.duplicate);
    if broken { Err(Fault::Malformed) } else { Ok(published) }
}

fn parse_subscribe(version: Version, raw: &RawPacket) -> Result<Packet, Fault> {
    let (packet_id, entries, numbered) = match version {
        Version::V3 => {
            let packet = raw.parse_exact(v3_1_1::Subscribe::parse)?;
            (packet.packet_id(), packet.entries().clone(), false)
        }
        Version::V5 => {
            let packet = raw.parse_exact(v5_0::Subscribe::parse)?;
            let numbered = packet.props().iter().any(|p| matches!(p, Property::SubscriptionIdentifier(_)));
            (packet.packet_id(), packet.entries().clone(), numbered)
        }
    };
    let filters: Vec<_> = entries.iter().map(|e| (e.topic_filter().to_owned(), quality(e.sub_opts().qos()))).collect();
    // In 3.1.1 the upper six bits of the options are reserved.
    let reserved =
        |e: &mqtt_protocol_core::mqtt::packet::SubEntry| e.sub_opts().to_buffer().iter().any(|b| b & 0b1111_1100 != 0);
    let broken = packet_id == 0
        || filters.iter().any(|(f, _)| f.is_empty() || f.contains('\0'))
        || (version == Version::V3 && entries.iter().any(reserved));
    if broken { Err(Fault::Malformed) } else { Ok(Packet::Subscribe { packet_id, filters, numbered }) }
}

fn parse_unsubscribe(version: Version, raw: &RawPacket) -> Result<Packet, Fault> {
    let (packet_id, filters): (u16, Vec<String>) = match version {
        Version::V3 => {
            let packet = raw.parse_exact(v3_1_1::Unsubscribe::parse)?;
            (packet.packet_id(), packet.entries().iter().map(|e| e.as_str().to_owned()).collect())
        }
        Version::V5 => {
            let packet = raw.parse_exact(v5_0::Unsubscribe::parse)?;
            (packet.packet_id(), packet.entries().iter().map(|e| e.as_str().to_owned()).collect())
        }
    };
    let broken = packet_id == 0 || filters.iter().any(|f| f.is_empty() || f.contains('\0'));
    if broken { Err(Fault::Malformed) } else { Ok(Packet::Unsubscribe { packet_id, filters }) }
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
