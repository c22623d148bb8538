//! What must hold of every conversation, whatever the client says.

use std::collections::BTreeMap;

use mqtt_protocol_core::mqtt::packet::{v3_1_1, v5_0};
use windlass_broker::Verdict;

use super::{
    claims::{self, Claims},
    hall::{Event, SCANNER, Talk},
    packets::{self, Connect, Frame, Taker, Version, frames},
};

/// CONNACK codes of a refusal, DISCONNECT codes, and a message's share of the output: see `docs/mqtt.md`.
const REFUSALS_V3: [u8; 5] = [1, 2, 3, 4, 5];
const REFUSALS_V5: [u8; 7] = [0x84, 0x85, 0x86, 0x87, 0x8C, 0x97, 0x9A];
const GOODBYES: [u8; 13] = [0x81, 0x82, 0x87, 0x8B, 0x8D, 0x8E, 0x93, 0x94, 0x95, 0x97, 0x98, 0x9A, 0xA1];
const SUBACKS_V3: [u8; 4] = [0, 1, 2, 0x80];
const SUBACKS_V5: [u8; 6] = [0, 1, 2, 0x87, 0x97, 0x9E];
const PUBREL: u8 = 0x62;
const NOT_AUTHORIZED: u8 = 0x87;
/// For each byte that the client sent, and beside that.
const MOST_FOR_A_BYTE: usize = 16;
const MOST_BESIDE: usize = 256;

/// PUBACK, PUBREC or PUBCOMP: the packet's kind, id and code.
type Answer = (u8, u16, u8);

/// Checks a conversation that began with `stream`.
pub fn check(stream: &[u8], talk: &Talk, taker: Taker) {
    let (said, _) = frames(stream);
    let (heard, rest) = frames(&talk.heard);
    assert!(rest.is_empty(), "half a packet at the end: {rest:02x?}");
    let Some((connack, heard)) = heard.split_first() else {
        assert_eq!(talk.events, [], "a publish without a session");
        assert!(talk.ended_by_broker, "a silent connection without a session stays open");
        return;
    };
    let version = if connack.body.len() == 2 { Version::V3 } else { Version::V5 };
    check_packet(version, *connack);
    assert_eq!(connack.first, 0x20, "the first packet is no CONNACK");
    let code = connack.body[1];
    if code != 0 {
        let codes = if version == Version::V3 { &REFUSALS_V3[..] } else { &REFUSALS_V5 };
        assert!(codes.contains(&code), "CONNACK code {code:#x}");
        assert!(heard.is_empty() && talk.events.is_empty() && talk.ended_by_broker, "more after a refusal");
        return;
    }
    let (connect, said) = said.split_first().expect("a CONNACK without a CONNECT");
    let (client_id, level) = claims::connect(*connect).expect("a CONNACK for what is no CONNECT");
    assert_eq!(level, if version == Version::V3 { 4 } else { 5 }, "a CONNACK in another protocol");
    let claims = Claims::of(version, said);
    check_intake(&client_id, &claims, &talk.events);
    check_session(version, heard, &claims, talk, taker);
    let told: usize = talk.told.iter().map(|(topic, payload)| topic.len() + payload.len() + 16).sum();
    assert!(talk.heard.len() <= MOST_BESIDE + MOST_FOR_A_BYTE * stream.len() + told, "too much is sent");
}

/// Checks what a connection that took over has heard: its CONNACK, and messages.
pub fn check_newer(connect: Connect, talk: &Talk) {
    let Some(newer) = &talk.newer else { return };
    let (version, taker) = (connect.version, connect.taker());
    let (heard, rest) = frames(newer);
    assert!(rest.is_empty(), "half a packet at the end");
    heard.iter().for_each(|frame| check_packet(version, *frame));
    assert!(heard.first().is_some_and(|f| f.first == 0x20 && f.body[1] == 0), "the newer connection is refused");
    let (older, _) = frames(&talk.heard);
    let sent: Vec<_> = older.iter().filter_map(|frame| message(version, *frame)).collect();
    for frame in heard[1..].iter().filter(|frame| frame.first != PUBREL) {
        let again = message(version, *frame).expect("the newer connection hears something else than messages");
        assert!(talk.told.contains(&(again.topic, again.payload.clone())), "a message that nobody sent");
        assert_ne!(again.qos, 0, "QoS 0 is kept");
        let before = sent.iter().any(|m| m.packet_id == again.packet_id && m.payload == again.payload);
        assert_eq!(again.duplicate, before, "DUP is for what was sent before");
        assert!(again.packet_bytes <= taker.packet_bytes, "too large for {taker:?}");
    }
    assert!(heard.len() - 1 <= taker.open, "{} messages are open: {taker:?}", heard.len() - 1);
}

/// Two conversations of the same bytes, cut differently, come to the same.
pub fn same(one: &Talk, other: &Talk) {
    assert_eq!(one.events, other.events, "what reaches the intake depends on how the bytes are cut");
    assert_eq!(one.ended_by_broker, other.ended_by_broker, "the end depends on how the bytes are cut");
    let sorted = |talk: &Talk| {
        let mut all: Vec<_> = frames(&talk.heard).0.iter().map(|f| (f.first, f.body.to_vec())).collect();
        // Messages and their releases are out of step with answers, and a DISCONNECT may come before one.
        all.retain(|(first, _)| first >> 4 != 3 && *first != PUBREL);
        all.sort();
        all
    };
    assert_eq!(sorted(one), sorted(other), "the answers depend on how the bytes are cut");
}

/// Everything at the intake is the device's own, and what it sent.
fn check_intake(client_id: &str, claims: &Claims, events: &[Event]) {
    let own = match client_id {
        "a" => ["devices/a/readings", "old/a"],
        "b" => ["devices/b/readings"; 2],
        SCANNER => ["devices/5446078/readings", SCANNER],
        _ => ["", ""],
    };
    let mut published = claims.published.iter();
    let mut released = claims.released.iter();
    for event in events {
        match event {
            Event::Published { device, topic, payload, qos, packet_id, .. } => {
                assert_eq!(device, client_id, "a publish in another's name");
                assert!(own.contains(&topic.as_str()) && !topic.is_empty(), "a publish on {topic:?}");
                assert!(packet_id.is_none_or(|id| id != 0) && packet_id.is_some() == (*qos > 0), "a wrong packet id");
                let found = published.any(|claim| {
                    (claim.qos, claim.packet_id, &claim.payload) == (*qos, *packet_id, payload)
                        && (claim.topic.is_empty() || claim.topic == topic.as_bytes())
                });
                assert!(found, "a publish that was not sent, or out of order: {event:?}");
            }
            Event::Released { device, packet_id, .. } => {
                assert_eq!(device, client_id, "a release in another's name");
                assert!(released.any(|id| Some(*id) == *packet_id), "a release that was not sent: {event:?}");
            }
            Event::Refused { device, topic, .. } => {
                assert_eq!(device, client_id, "a refusal in another's name");
                assert!(!topic.is_empty() && !topic.contains(['+', '#', '\0']), "{topic:?} is no topic");
            }
        }
    }
}

/// What the broker says after CONNACK.
fn check_session(version: Version, heard: &[Frame<'_>], claims: &Claims, talk: &Talk, taker: Taker) {
    let mut answers = Vec::new();
    let mut messages = Vec::new();
    let (mut subacks, mut unsubacks, mut pongs) = (Vec::new(), Vec::new(), 0);
    let mut received = claims.received.iter();
    for (at, frame) in heard.iter().enumerate() {
        check_packet(version, *frame);
        match frame.first >> 4 {
            3 => messages.extend(message(version, *frame)),
            kind @ (4 | 5 | 7) => answers.push((kind, id_of(*frame), frame.body.get(2).copied().unwrap_or_default())),
            6 => {
                let id = id_of(*frame);
                assert!(received.any(|received| *received == id), "a PUBREL without a PUBREC, or out of order: {id}");
            }
            9 => {
                subacks.push(id_of(*frame));
                let codes = if version == Version::V3 { &frame.body[2..] } else { &frame.body[3..] };
                let known = if version == Version::V3 { &SUBACKS_V3[..] } else { &SUBACKS_V5 };
                assert!(!codes.is_empty() && codes.iter().all(|c| known.contains(c)), "SUBACK codes {codes:02x?}");
            }
            11 => unsubacks.push(id_of(*frame)),
            13 => pongs += 1,
            14 => {
                assert_eq!((version, at + 1), (Version::V5, heard.len()), "DISCONNECT");
                assert!(frame.body.first().is_some_and(|code| GOODBYES.contains(code)), "{frame:02x?}");
            }
            _ => panic!("a server does not send {frame:02x?}"),
        }
    }
    assert!(claims.subscribed.starts_with(&subacks), "SUBACKs {subacks:?} for {:?}", claims.subscribed);
    assert!(claims.unsubscribed.starts_with(&unsubacks), "UNSUBACKs {unsubacks:?} for {:?}", claims.unsubscribed);
    assert!(pongs <= claims.pings, "{pongs} PINGRESPs for {} PINGREQs", claims.pings);
    check_answers(version, &answers, claims, &talk.events);
    check_messages(&messages, claims, talk, taker);
}

/// Each publish that the intake took is answered once, in order, by what the intake said; beside that there are refusals
/// of the front.
fn check_answers(version: Version, answers: &[Answer], claims: &Claims, events: &[Event]) {
    let expected: Vec<_> = events.iter().filter_map(|event| expected(version, event)).collect();
    let (refused, answered): (Vec<_>, Vec<_>) = answers.iter().copied().partition(|a| a.2 == NOT_AUTHORIZED);
    assert_eq!(answered, expected, "answers and what the intake said");
    for (kind, id, _) in &refused {
        let claim = |claim: &&claims::Published| claim.packet_id == Some(*id) && claim.qos == kind - 3;
        assert!(claims.published.iter().any(|c| claim(&c)), "a refusal of what was not sent: {kind} {id}");
    }
    let wanted = claims.published.iter().filter(|claim| claim.qos > 0).count();
    let publishes = answers.iter().filter(|(kind, ..)| *kind != 7).count();
    assert!(publishes <= wanted, "{publishes} answers to {wanted} publishes");
}

/// The answer to what reached the intake. MQTT 3.1.1 has no codes: what was not stored has no answer.
fn expected(version: Version, event: &Event) -> Option<Answer> {
    let (kind, id, code) = match event {
        Event::Published { qos, packet_id, verdict, .. } => {
            let code = match verdict {
                Verdict::Rejected(_) => 0x99,
                Verdict::Unavailable => 0x97,
                _ => 0,
            };
            (qos + 3, (*packet_id)?, code)
        }
        Event::Released { packet_id, known, .. } => (7, (*packet_id)?, if *known { 0 } else { 0x92 }),
        Event::Refused { .. } => return None,
    };
    match version {
        Version::V5 => Some((kind, id, code)),
        Version::V3 if code == 0x97 => None,
        Version::V3 => Some((kind, id, 0)),
    }
}

/// Messages come in order, each once, with packet ids that are free.
fn check_messages(messages: &[Message], claims: &Claims, talk: &Talk, taker: Taker) {
    let mut told = talk.told.iter();
    let mut used: BTreeMap<u16, usize> = BTreeMap::new();
    for message in messages {
        assert!(!message.duplicate && message.qos <= 2, "nothing was sent before: {message:?}");
        let found = told.any(|(topic, payload)| *topic == message.topic && *payload == message.payload);
        assert!(found, "a message that nobody sent, or out of order: {message:?}");
        *used.entry(message.packet_id.unwrap_or_default()).or_default() += usize::from(message.qos > 0);
    }
    let opened = messages.iter().filter(|m| m.qos > 0).count();
    assert!(opened <= taker.open + claims.ended.len(), "{opened} messages are open: {taker:?}");
    assert!(messages.iter().all(|m| m.packet_bytes <= taker.packet_bytes), "too large for {taker:?}");
    for (id, times) in used {
        let freed = claims.ended.iter().filter(|ended| **ended == id).count();
        assert!(times <= 1 + freed, "packet id {id} is used {times} times and was freed {freed} times");
    }
}

/// A PUBLISH of the broker.
#[derive(Debug)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    duplicate: bool,
    packet_id: Option<u16>,
    packet_bytes: usize,
}

fn message(version: Version, frame: Frame<'_>) -> Option<Message> {
    let claims = Claims::of(version, &[frame]);
    let published = claims.published.into_iter().next()?;
    Some(Message {
        topic: String::from_utf8(published.topic).ok()?,
        payload: published.payload,
        qos: published.qos,
        duplicate: frame.first & 8 != 0,
        packet_id: published.packet_id,
        // Short packets: two bytes of fixed header.
        packet_bytes: 2 + frame.body.len(),
    })
}

fn id_of(frame: Frame<'_>) -> u16 {
    packets::take_u16(frame.body).expect("a packet id").0
}

/// Parses a packet with a client's eyes: by a library, whole, with the flags that its kind must have.
fn check_packet(version: Version, frame: Frame<'_>) {
    use Version::{V3, V5};
    let (first, body) = (frame.first, frame.body);
    let taken = match (version, first) {
        (V3, 0x20) => v3_1_1::Connack::parse(body).map(|p| p.1),
        (V5, 0x20) => v5_0::Connack::parse(body).map(|p| p.1),
        (V3, 0x30..=0x3F) => v3_1_1::Publish::parse(first & 15, body.into()).map(|p| p.1),
        (V5, 0x30..=0x3F) => v5_0::Publish::parse(first & 15, body.into()).map(|p| p.1),
        (V3, 0x40) => v3_1_1::Puback::parse(body).map(|p| p.1),
        (V5, 0x40) => v5_0::Puback::parse(body).map(|p| p.1),
        (V3, 0x50) => v3_1_1::Pubrec::parse(body).map(|p| p.1),
        (V5, 0x50) => v5_0::Pubrec::parse(body).map(|p| p.1),
        (V3, PUBREL) => v3_1_1::Pubrel::parse(body).map(|p| p.1),
        (V5, PUBREL) => v5_0::Pubrel::parse(body).map(|p| p.1),
        (V3, 0x70) => v3_1_1::Pubcomp::parse(body).map(|p| p.1),
        (V5, 0x70) => v5_0::Pubcomp::parse(body).map(|p| p.1),
        (V3, 0x90) => v3_1_1::Suback::parse(body).map(|p| p.1),
        (V5, 0x90) => v5_0::Suback::parse(body).map(|p| p.1),
        (V3, 0xB0) => v3_1_1::Unsuback::parse(body).map(|p| p.1),
        (V5, 0xB0) => v5_0::Unsuback::parse(body).map(|p| p.1),
        (_, 0xD0) => Ok(0),
        (V5, 0xE0) => v5_0::Disconnect::parse(body).map(|p| p.1),
        _ => panic!("a server does not send {frame:02x?}"),
    };
    assert!(matches!(taken, Ok(taken) if taken == body.len()), "{taken:?} of {frame:02x?}");
}
