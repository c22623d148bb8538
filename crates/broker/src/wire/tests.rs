use super::*;
use crate::config::Limits;

fn first(bytes: &[u8]) -> Option<Result<RawPacket, Fault>> {
    Decoder::new(1_024).next(&mut BytesMut::from(bytes))
}

fn packet(version: Version, bytes: &[u8]) -> Result<Packet, Fault> {
    first(bytes).unwrap().and_then(|raw| parse(version, &raw, &mut Shared::default()))
}

#[test]
fn what_a_client_must_not_send_is_told_apart() {
    use Fault::{Malformed, Protocol, TooLarge};
    let cases: [(&[u8], Fault); 16] = [
        (&[0x00, 0], Malformed),                      // packet type 0
        (&[0x20, 2, 0, 0], Protocol),                 // CONNACK
        (&[0xB0, 2, 0, 1], Protocol),                 // UNSUBACK
        (&[0xD0, 0], Protocol),                       // PINGRESP
        (&[0x10, 0], Protocol),                       // second CONNECT
        (&[0x52, 2, 0, 1], Malformed),                // PUBREC with wrong flags
        (&[0x36, 5, 0, 1, b'a', 0, 1], Malformed),    // QoS 3
        (&[0x32, 5, 0, 1, b'a', 0, 0], Malformed),    // packet id 0
        (&[0x38, 3, 0, 1, b'a'], Malformed),          // DUP with QoS 0
        (&[0x30, 3, 0, 1, b'#'], Malformed),          // wildcard in a topic name
        (&[0x30, 4, 0, 2, 0xC3, 0x28], Malformed),    // not UTF-8
        (&[0x30, 3, 0, 9, b'a'], Malformed),          // length past the end
        (&[0x80, 6, 0, 1, 0, 1, b'a', 0], Malformed), // SUBSCRIBE with wrong flags
        (&[0x82, 2, 0, 1], Protocol),                 // SUBSCRIBE without a filter
        (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], Malformed), // length of five bytes
        (&[0x30, 0xC0, 0x96, 0xB1, 0x02], TooLarge),  // 5 MB announced
    ];
    for (bytes, fault) in cases {
        assert_eq!(packet(Version::V3, bytes), Err(fault), "{bytes:02x?}");
    }
}

#[test]
fn the_answers_to_an_exactly_once_message_are_read() {
    let received = |refuses| Ok(Packet::Receive { packet_id: 7, refuses });
    assert_eq!(packet(Version::V3, &[0x50, 2, 0, 7]), received(false));
    assert_eq!(packet(Version::V5, &[0x50, 2, 0, 7]), received(false));
    assert_eq!(packet(Version::V5, &[0x50, 3, 0, 7, 0x10]), received(false), "no matching subscribers");
    assert_eq!(packet(Version::V5, &[0x50, 3, 0, 7, 0x83]), received(true));
    assert_eq!(packet(Version::V3, &[0x70, 2, 0, 7]), Ok(Packet::Complete { packet_id: 7 }));
    assert_eq!(packet(Version::V5, &[0x70, 3, 0, 7, 0x92]), Ok(Packet::Complete { packet_id: 7 }));
    for first in [0x50, 0x70] {
        assert!(packet(Version::V3, &[first, 1, 7]).is_err() && packet(Version::V3, &[first, 3, 0, 7, 0]).is_err());
        assert!(packet(Version::V3, &[first, 2, 0, 0]).is_err(), "packet id 0");
    }
    let mut out = BytesMut::new();
    release(&mut out, Version::V3, 7, 0x92);
    release(&mut out, Version::V5, 7, 0);
    release(&mut out, Version::V5, 7, 0x92);
    assert_eq!(out[..], *b"\x62\x02\0\x07\x62\x02\0\x07\x62\x03\0\x07\x92");
}

#[test]
fn a_publish_of_mqtt_5_has_a_property_length() {
    for (bytes, good) in [
        (&[0x30, 3, 0, 1, b'a'][..], false),
        (&[0x30, 4, 0, 1, b'a', 0], true),
        (&[0x32, 5, 0, 1, b'a', 0, 7], false),
        (&[0x32, 6, 0, 1, b'a', 0, 7, 0], true),
    ] {
        assert_eq!(packet(Version::V5, bytes).is_ok(), good, "{bytes:02x?}");
    }
}

#[test]
fn a_packet_may_come_byte_by_byte_and_two_may_come_at_once() {
    let bytes = [0x30, 4, 0, 1, b'a', b'7', 0xC0, 0];
    let mut decoder = Decoder::new(64);
    let mut found = 0;
    for byte in bytes {
        let mut input = BytesMut::from(&[byte][..]);
        found += usize::from(decoder.next(&mut input).is_some());
    }
    assert_eq!(found, 2);
    let mut input = BytesMut::from(&bytes[..]);
    assert!(decoder.next(&mut input).is_some());
    assert_eq!(&input[..], [0xC0, 0]);
    assert!(decoder.next(&mut input).is_some() && decoder.next(&mut input).is_none());
}

#[test]
fn a_connect_with_reserved_bits_or_another_level_is_refused() {
    let connect = |name: &[u8], level: u8, flags: u8| {
        let mut body = vec![0, u8::try_from(name.len()).unwrap()];
        body.extend_from_slice(name);
        body.extend_from_slice(&[level, flags, 0, 60, 0, 1, b'a']);
        let mut bytes = vec![0x10, u8::try_from(body.len()).unwrap()];
        bytes.extend(body);
        parse_connect(&first(&bytes).unwrap().unwrap())
    };
    assert_eq!(connect(b"MQTT", 4, 2).unwrap().client_id, "a");
    assert_eq!(connect(b"MQTT", 4, 3), Err(Fault::Malformed));
    assert_eq!(connect(b"MQTT", 4, 0b0000_1000), Err(Fault::Malformed));
    assert_eq!(connect(b"MQTT", 3, 2), Err(Fault::Level(Version::V3)));
    assert_eq!(connect(b"MQTT", 6, 2), Err(Fault::Level(Version::V5)));
    assert_eq!(connect(b"MQIsdp", 3, 2), Err(Fault::Level(Version::V3)));
    assert_eq!(connect(b"HTTP", 4, 2), Err(Fault::Malformed));
}

#[test]
fn what_is_sent_is_read_back_by_the_library() {
    let body = |out: &BytesMut| first(out).unwrap().unwrap();
    let mut out = BytesMut::new();
    let limits = Limits::default();
    connack(&mut out, Version::V5, &Connack { limits: Some(&limits), ..Connack::default() });
    let read = body(&out).parse_exact(v5_0::Connack::parse).unwrap();
    assert!(!read.session_present());
    assert!(read.props().iter().any(|p| matches!(p, Property::ReceiveMaximum(m) if m.val() == 20)));

    let mut out = BytesMut::new();
    let dialect = Dialect { version: Version::V5, longest_reason: 15 };
    acknowledge(&mut out, dialect, crate::acks::Answer::Puback, 7, 0x99, Some("bad_check_digit"));
    let read = body(&out).parse_exact(v5_0::Puback::parse).unwrap();
    assert_eq!((read.packet_id(), read.reason_code().map(|c| c as u8)), (7, Some(0x99)));

    let mut out = BytesMut::new();
    suback(&mut out, Version::V5, 7, &[0, 0x87]);
    assert_eq!(body(&out).parse_exact(v5_0::Suback::parse).unwrap().reason_codes().len(), 2);

    let mut out = BytesMut::new();
    let message =
        Outgoing { topic: b"t", payload: &[b'x'; 300], qos: Qos::AtMostOnce, packet_id: None, duplicate: false };
    assert!(publish(&mut out, Version::V5, &message, None));
    let raw = body(&out);
    let PacketData::Publish(data) = &raw.data else { panic!() };
    let (read, _) = v5_0::Publish::parse(raw.flags(), data.clone()).unwrap();
    assert_eq!((read.topic_name(), read.payload().len()), ("t", 300));
    assert!(!publish(&mut out, Version::V5, &message, Some(300)));
}
