//! MQTT packets by hand, for writing seeds and for reading what was said. Deliberately not the broker's code.

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V3,
    V5,
}

/// One packet: its first byte, and what follows the remaining length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub first: u8,
    pub body: &'a [u8],
}

/// Cuts bytes into whole packets; what is left is no whole packet.
pub fn frames(mut bytes: &[u8]) -> (Vec<Frame<'_>>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((frame, rest)) = frame(bytes) {
        frames.push(frame);
        bytes = rest;
    }
    (frames, bytes)
}

fn frame(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = take_variable(rest)?;
    let (body, rest) = rest.split_at_checked(length)?;
    Some((Frame { first: *first, body }, rest))
}

/// A variable byte integer of up to four bytes, and what follows it.
pub fn take_variable(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

/// A two-byte number, and what follows it.
pub fn take_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// Bytes with their length in front, and what follows them.
pub fn take_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = take_u16(bytes)?;
    rest.split_at_checked(usize::from(length))
}

/// A packet with the shortest remaining length.
pub fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7F) as u8;
        length >>= 7;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// Bytes with their length in front.
pub fn text(bytes: &[u8]) -> Vec<u8> {
    let mut text = (bytes.len() as u16).to_be_bytes().to_vec();
    text.extend(bytes);
    text
}

/// A CONNECT that is accepted.
#[derive(Debug, Clone, Copy)]
pub struct Connect {
    pub version: Version,
    pub id: &'static str,
    pub kept: bool,
    pub will: bool,
    pub narrow: bool,
}

/// What a client says that it takes.
#[derive(Debug, Clone, Copy)]
pub struct Taker {
    /// QoS 1 messages without its PUBACK.
    pub open: usize,
    pub packet_bytes: usize,
}

impl Taker {
    /// One that says nothing: the broker's own limit counts.
    pub const WIDE: Self = Self { open: 20, packet_bytes: usize::MAX };
}

impl Connect {
    pub fn taker(self) -> Taker {
        if self.narrow { Taker { open: 1, packet_bytes: 60 } } else { Taker::WIDE }
    }

    pub fn bytes(self) -> Vec<u8> {
        let mut body = text(b"MQTT");
        let flags = 0b1100_0000 | u8::from(self.will) << 2 | u8::from(!self.kept) << 1;
        body.extend([if self.version == Version::V5 { 5 } else { 4 }, flags, 0, 0]);
        if self.version == Version::V5 {
            let mut properties = Vec::new();
            if self.kept {
                properties.extend([0x11, 0, 0, 0x0E, 0x10]);
            }
            if self.narrow {
                properties.extend([0x21, 0, 1, 0x27, 0, 0, 0, 60]);
            }
            body.push(properties.len() as u8);
            body.extend(properties);
        }
        body.extend(text(self.id.as_bytes()));
        if self.will {
            body.extend(if self.version == Version::V5 { &[0][..] } else { &[] });
            body.extend(text(format!("devices/{}/status", self.id).as_bytes()));
            body.extend(text(b"gone"));
        }
        body.extend(text(self.id.as_bytes()));
        body.extend(text(format!("secret of {}", self.id).as_bytes()));
        framed(0x10, &body)
    }
}

/// A PUBLISH; `properties` without their length, left out in 3.1.1.
pub fn publish(
    version: Version,
    first: u8,
    topic: &[u8],
    id: Option<u16>,
    properties: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(id.map(u16::to_be_bytes).into_iter().flatten());
    if version == Version::V5 {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    body.extend(payload);
    framed(first, &body)
}

/// A SUBSCRIBE of one filter.
pub fn subscribe(version: Version, id: u16, filter: &[u8], options: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(if version == Version::V5 { &[0][..] } else { &[] });
    body.extend(text(filter));
    body.push(options);
    framed(0x82, &body)
}

/// An UNSUBSCRIBE of one filter.
pub fn unsubscribe(version: Version, id: u16, filter: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    body.extend(if version == Version::V5 { &[0][..] } else { &[] });
    body.extend(text(filter));
    framed(0xA2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP without a code.
pub fn acknowledge(first: u8, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![first, 2, high, low]
}
