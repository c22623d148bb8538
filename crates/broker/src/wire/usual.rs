//! The usual PUBLISH: whole in the buffer, and on the topic of the one before it.
//!
//! A device publishes on one topic, which the library has checked when it came first. Of a publish that has the same bytes
//! there only lengths, flags and the packet id are left to be looked at, and that needs no memory for the packet and its
//! topic. What is unusual in any way goes the library's way, and the library alone says what is wrong with it.

use bytes::{Buf, BytesMut};
use windlass_reading::Payload;

use super::{PUBLISH, Published, Shared, Version};

/// A PUBLISH as it lies in the buffer.
struct Laid<'a> {
    flags: u8,
    packet_id: Option<u16>,
    payload: &'a [u8],
    /// Of the whole packet.
    bytes: usize,
}

/// Takes a usual PUBLISH of at most so many bytes off `input`, which begins with a packet; leaves everything else alone.
pub(super) fn take(version: Version, most: u32, input: &mut BytesMut, shared: &Shared) -> Option<Published> {
    let Laid { flags, packet_id, payload, bytes } = lay(version, input, &shared.topic)?;
    if u32::try_from(bytes).is_ok_and(|bytes| bytes > most) {
        return None;
    }
    let payload = Payload::from_slice(payload);
    input.advance(bytes);
    Some(Published {
        topic: shared.topic.clone(),
        payload,
        qos: flags >> 1 & 0b11,
        duplicate: flags & 0b1000 != 0,
        retain: flags & 1 != 0,
        packet_id,
        alias: None,
    })
}

fn lay<'a>(version: Version, input: &'a [u8], topic: &str) -> Option<Laid<'a>> {
    let (first, rest) = input.split_first()?;
    let (kind, flags) = (first >> 4, first & 0b1111);
    let qos = flags >> 1 & 0b11;
    if kind != PUBLISH || qos == 3 || (qos == 0 && flags & 0b1000 != 0) || topic.is_empty() {
        return None;
    }
    let (length, rest) = match rest {
        [low, rest @ ..] if *low < 0x80 => (usize::from(*low), rest),
        [low, high @ 1..0x80, rest @ ..] => (usize::from(low & 0x7F) | usize::from(*high) << 7, rest),
        _ => return None,
    };
    let bytes = input.len() - rest.len() + length;
    let (topic_bytes, body) = rest.get(..length)?.split_first_chunk::<2>()?;
    if usize::from(u16::from_be_bytes(*topic_bytes)) != topic.len() {
        return None;
    }
    let mut body = body.strip_prefix(topic.as_bytes())?;
    let mut packet_id = None;
    if qos > 0 {
        let (id, rest) = body.split_first_chunk::<2>()?;
        packet_id = Some(u16::from_be_bytes(*id)).filter(|id| *id > 0);
        packet_id?;
        body = rest;
    }
    let payload = match (version, body) {
        (Version::V3, payload) => payload,
        // Without properties.
        (Version::V5, [0, payload @ ..]) => payload,
        (Version::V5, _) => return None,
    };
    Some(Laid { flags, packet_id, payload, bytes })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Decoder, Fault, Packet, parse},
        *,
    };

    const MOST: u32 = 300;

    /// What the library alone says.
    fn by_library(version: Version, decoder: &mut Decoder, input: &mut BytesMut) -> Option<Result<Packet, Fault>> {
        decoder.next(input).map(|raw| parse(version, &raw?, &mut Shared::default()))
    }

    /// All packets of a stream that comes in pieces, up to the first that is wrong, and the rest of it.
    fn read(
        pieces: &[Vec<u8>],
        mut next: impl FnMut(&mut BytesMut) -> Option<Result<Packet, Fault>>,
    ) -> (Vec<Result<Packet, Fault>>, BytesMut) {
        let (mut input, mut packets) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(packet) = next(&mut input) {
                let wrong = packet.is_err();
                packets.push(packet);
                if wrong {
                    return (packets, input);
                }
            }
        }
        (packets, input)
    }

    fn packet() -> impl Strategy<Value = Vec<u8>> {
        let topic = prop_oneof![8 => Just("devices/a/readings"), 1 => Just("b"), 1 => Just(""), 1 => Just("a/+")];
        let flags = prop_oneof![6 => Just(0b0010), 4 => 0_u8..16];
        let id = prop_oneof![8 => 1_u16.., 1 => Just(0)];
        let payload = prop_oneof![8 => 0_usize..30, 1 => 100_usize..320];
        let properties = prop_oneof![
            6 => Just(vec![0]),
            1 => Just(Vec::new()),
            1 => Just(vec![2, 1, 1]),
            1 => Just(vec![3, 0x23, 0, 1])
        ];
        let publish = (topic, flags, id, payload, properties).prop_map(|(topic, flags, id, payload, properties)| {
            let mut body = vec![0, topic.len() as u8];
            body.extend(topic.bytes());
            if flags & 0b110 != 0 {
                body.extend(id.to_be_bytes());
            }
            body.extend(properties);
            body.extend(std::iter::repeat_n(b'7', payload));
            let mut bytes = vec![0x30 | flags];
            if body.len() < 0x80 {
                bytes.push(body.len() as u8);
            } else {
                bytes.extend([(body.len() & 0x7F) as u8 | 0x80, (body.len() >> 7) as u8]);
            }
            bytes.extend(body);
            bytes
        });
        let long_zero = Just(vec![0x32, 0x80, 0]);
        prop_oneof![20 => publish, 1 => Just(vec![0xC0, 0]), 1 => long_zero, 1 => prop::collection::vec(any::<u8>(), 1..9)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_stream_is_what_the_library_says_it_is(
            packets in prop::collection::vec(packet(), 1..12),
            cuts in prop::collection::vec(1_usize..60, 0..20),
            v5: bool,
        ) {
            let version = if v5 { Version::V5 } else { Version::V3 };
            let mut stream = packets.concat();
            let mut pieces: Vec<Vec<u8>> = Vec::new();
            for cut in cuts {
                let rest = stream.split_off(cut.min(stream.len()));
                pieces.push(std::mem::replace(&mut stream, rest));
            }
            pieces.push(stream);
            let (mut ours, mut theirs, mut shared) = (Decoder::new(MOST), Decoder::new(MOST), Shared::default());
            let expected = read(&pieces, |input| by_library(version, &mut theirs, input));
            prop_assert_eq!(read(&pieces, |input| ours.packet(version, input, &mut shared)), expected);
        }
    }

    #[test]
    fn the_second_publish_on_a_topic_is_taken_without_the_library() {
        let publish = b"\x32\x06\x00\x01a\x00\x07x";
        let (mut input, mut shared) = (BytesMut::from(&[publish.as_slice(); 2].concat()[..]), Shared::default());
        assert_eq!(take(Version::V3, MOST, &mut input, &shared), None);
        let first = Decoder::new(MOST).packet(Version::V3, &mut input, &mut shared);
        let second = take(Version::V3, MOST, &mut input, &shared).map(|publish| Some(Ok(Packet::Publish(publish))));
        assert_eq!((second, input.len()), (Some(first), 0));
    }
}
