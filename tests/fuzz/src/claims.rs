//! What a client's bytes say, read without judgement: the broker may do less, never anything else.

use super::packets::{self, Frame, Version};

/// A PUBLISH as its bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub qos: u8,
    pub packet_id: Option<u16>,
    /// Empty with a topic alias.
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
}

/// Everything that wants an answer, in order.
#[derive(Debug, Default)]
pub struct Claims {
    pub published: Vec<Published>,
    pub released: Vec<u16>,
    /// By a PUBREC that takes the message.
    pub received: Vec<u16>,
    /// By a PUBACK, a PUBCOMP, or a PUBREC that refuses.
    pub ended: Vec<u16>,
    pub subscribed: Vec<u16>,
    pub unsubscribed: Vec<u16>,
    pub pings: usize,
}

impl Claims {
    /// Of the packets after CONNECT.
    pub fn of(version: Version, frames: &[Frame<'_>]) -> Self {
        let mut claims = Self::default();
        for frame in frames {
            let id = packets::take_u16(frame.body).map(|(id, _)| id);
            match (frame.first >> 4, id) {
                (3, _) => claims.published.extend(published(version, *frame)),
                (4 | 7, Some(id)) => claims.ended.push(id),
                (5, Some(id)) if frame.body.get(2).is_some_and(|code| *code >= 0x80) => claims.ended.push(id),
                (5, Some(id)) => claims.received.push(id),
                (6, Some(id)) => claims.released.push(id),
                (8, Some(id)) => claims.subscribed.push(id),
                (10, Some(id)) => claims.unsubscribed.push(id),
                (12, _) => claims.pings += 1,
                _ => {}
            }
        }
        claims
    }
}

fn published(version: Version, frame: Frame<'_>) -> Option<Published> {
    let qos = frame.first >> 1 & 3;
    let (topic, rest) = packets::take_text(frame.body)?;
    let (packet_id, rest) = match qos {
        0 => (None, rest),
        _ => packets::take_u16(rest).map(|(id, rest)| (Some(id), rest))?,
    };
    let payload = match version {
        Version::V3 => rest,
        Version::V5 => packets::take_variable(rest).and_then(|(length, rest)| rest.get(length..))?,
    };
    Some(Published { qos, packet_id, topic: topic.to_vec(), payload: payload.to_vec() })
}

/// The client id and the protocol level of a CONNECT.
pub fn connect(frame: Frame<'_>) -> Option<(String, u8)> {
    let (_, rest) = packets::take_text(frame.body)?;
    let (level, rest) = rest.split_first()?;
    // Flags and keep alive.
    let mut rest = rest.get(3..)?;
    if *level == 5 {
        let (length, after) = packets::take_variable(rest)?;
        rest = after.get(length..)?;
    }
    let (id, _) = packets::take_text(rest)?;
    Some((String::from_utf8(id.to_vec()).ok()?, *level))
}
