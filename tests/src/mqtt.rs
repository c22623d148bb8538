//! A raw MQTT client: says exactly what a story wants said, right or wrong.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    V311,
    V5,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    protocol: Protocol,
    /// PUBLISH packets that came while something else was waited for.
    messages: VecDeque<(u8, Vec<u8>)>,
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend(bytes);
}

/// A whole packet with its length.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut left = body.len();
    loop {
        let low = (left & 0x7f) as u8;
        left >>= 7;
        out.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

impl Client {
    /// Opens the socket and says nothing yet.
    pub fn open(port: u16, protocol: Protocol) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Self { stream, protocol, messages: VecDeque::new() })
    }

    /// Connects with a clean session; the CONNACK's code, or `None` when the socket was closed instead.
    pub fn connect(port: u16, protocol: Protocol, id: &str, credentials: Option<(&str, &str)>) -> (Self, Option<u8>) {
        Self::open(port, protocol).expect("the broker listens").introduce(id, credentials)
    }

    /// Sends CONNECT on a fresh socket.
    pub fn introduce(mut self, id: &str, credentials: Option<(&str, &str)>) -> (Self, Option<u8>) {
        let protocol = self.protocol;
        let mut body = Vec::new();
        text(&mut body, b"MQTT");
        let flags = if credentials.is_some() { 0xC2 } else { 0x02 };
        body.extend([if protocol == Protocol::V5 { 5 } else { 4 }, flags, 0, 120]);
        if protocol == Protocol::V5 {
            body.push(0);
        }
        text(&mut body, id.as_bytes());
        if let Some((user, password)) = credentials {
            text(&mut body, user.as_bytes());
            text(&mut body, password.as_bytes());
        }
        self.send(&packet(0x10, &body));
        let code = self.read().map(|(first, body)| {
            assert_eq!(first, 0x20, "the first answer is a CONNACK");
            body[1]
        });
        (self, code)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        // The broker may have closed already; what it did about it is what stories look at.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a PUBLISH and does not wait.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, packet_id: u16, duplicate: bool) {
        let mut body = Vec::new();
        text(&mut body, topic.as_bytes());
        if qos > 0 {
            body.extend(packet_id.to_be_bytes());
        }
        if self.protocol == Protocol::V5 {
            body.push(0);
        }
        body.extend(payload);
        let first = 0x30 | (qos << 1) | (u8::from(duplicate) << 3);
        self.send(&packet(first, &body));
    }

    /// Publishes with QoS 1 and waits for the PUBACK: its code (0 in 3.1.1), or `None` when the socket closed.
    pub fn publish_and_wait(&mut self, topic: &str, payload: &[u8], packet_id: u16, duplicate: bool) -> Option<u8> {
        self.publish(topic, payload, 1, packet_id, duplicate);
        self.puback(packet_id)
    }

    /// Publishes with QoS 2 and waits for the PUBREC.
    pub fn publish_exactly_once(&mut self, topic: &str, payload: &[u8], packet_id: u16, duplicate: bool) -> Option<u8> {
        self.publish(topic, payload, 2, packet_id, duplicate);
        self.acknowledged(0x50, packet_id)
    }

    /// Ends a QoS 2 delivery and waits for the PUBCOMP.
    pub fn release(&mut self, packet_id: u16) -> Option<u8> {
        self.send(&packet(0x62, &packet_id.to_be_bytes()));
        self.acknowledged(0x70, packet_id)
    }

    pub fn puback(&mut self, packet_id: u16) -> Option<u8> {
        self.acknowledged(0x40, packet_id)
    }

    fn acknowledged(&mut self, wanted: u8, packet_id: u16) -> Option<u8> {
        loop {
            let (first, body) = self.answer()?;
            if first == wanted {
                assert_eq!(body[..2], packet_id.to_be_bytes(), "acknowledgements come in order");
                return Some(body.get(2).copied().unwrap_or(0));
            }
            if first == 0xE0 {
                return None;
            }
        }
    }

    /// Subscribes to one filter; the SUBACK's code.
    pub fn subscribe(&mut self, filter: &str) -> Option<u8> {
        let mut body = vec![0, 77];
        if self.protocol == Protocol::V5 {
            body.push(0);
        }
        text(&mut body, filter.as_bytes());
        body.push(1);
        self.send(&packet(0x82, &body));
        let (first, body) = self.answer()?;
        assert_eq!(first, 0x90);
        body.last().copied()
    }

    /// The next packet that is no message; messages are kept for [`message`](Self::message).
    fn answer(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.read()? {
                (first, body) if first & 0xF0 == 0x30 => self.messages.push_back((first, body)),
                other => return Some(other),
            }
        }
    }

    /// The next message, topic and payload; acknowledged where that is asked for.
    pub fn message(&mut self) -> Option<(String, Vec<u8>)> {
        let (first, body) = match self.messages.pop_front() {
            Some(message) => message,
            None => loop {
                let (first, body) = self.read()?;
                if first & 0xF0 == 0x30 {
                    break (first, body);
                }
            },
        };
        let mut at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..at].to_vec()).unwrap();
        if first & 0b0110 != 0 {
            self.send(&[0x40, 2, body[at], body[at + 1]]);
            at += 2;
        }
        at += usize::from(self.protocol == Protocol::V5);
        Some((topic, body[at..].to_vec()))
    }

    /// DISCONNECT and close, at once.
    pub fn disconnect(mut self) {
        self.send(&[0xE0, 0]);
    }

    /// The next packet: first byte and body. `None`: the broker closed, or was silent for ten seconds.
    pub fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok()?;
        let first = byte[0];
        let (mut length, mut shift) = (0usize, 0);
        loop {
            self.stream.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some((first, body))
    }
}
