//! What a session is still to hear: bounded, in order, kept over lost connections. Pure.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::wire::{self, Outgoing, Version};

/// A message to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
    /// QoS 1; otherwise QoS 0.
    pub(crate) at_least_once: bool,
}

impl Message {
    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// How much a session may keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// What the connected client takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taker {
    pub(crate) version: Version,
    pub(crate) max_packet_bytes: Option<u32>,
    /// QoS 1 messages that may wait for its PUBACK.
    pub(crate) window: usize,
}

struct Sent {
    packet_id: u16,
    message: Message,
    /// The connection that it went out on was lost.
    again: bool,
}

/// The messages of one session, oldest first.
#[derive(Default)]
pub(crate) struct Mailbox {
    waiting: VecDeque<Message>,
    sent: VecDeque<Sent>,
    bytes: usize,
    last_id: u16,
}

impl Mailbox {
    /// Takes a message; `false` when there is no room.
    pub(crate) fn push(&mut self, message: Message, bounds: Bounds) -> bool {
        let full = self.waiting.len() + self.sent.len() >= bounds.messages;
        if full || self.bytes + message.bytes() > bounds.bytes {
            return false;
        }
        self.bytes += message.bytes();
        self.waiting.push_back(message);
        true
    }

    /// Writes what the client may have now. Returns how many messages were larger than it takes; these are gone.
    pub(crate) fn write(&mut self, taker: Taker, out: &mut BytesMut) -> u64 {
        let mut too_large = self.write_again(taker, out);
        // They come before what the client has never seen.
        if self.sent.iter().any(|s| s.again) {
            return too_large;
        }
        while let Some(message) = self.waiting.pop_front() {
            if message.at_least_once && self.sent.len() >= taker.window {
                self.waiting.push_front(message);
                break;
            }
            let packet_id = message.at_least_once.then(|| self.free_id());
            if !wire::publish(out, taker.version, &outgoing(&message, packet_id, false), taker.max_packet_bytes) {
                self.bytes -= message.bytes();
                too_large += 1;
                continue;
            }
            match packet_id {
                Some(packet_id) => self.sent.push_back(Sent { packet_id, message, again: false }),
                None => self.bytes -= message.bytes(),
            }
        }
        too_large
    }

    /// What went out on a lost connection, as far as this client takes it: its window and packet size may be smaller than
    /// those of the last one. Returns how many are too large.
    fn write_again(&mut self, taker: Taker, out: &mut BytesMut) -> u64 {
        let mut open = self.sent.iter().filter(|s| !s.again).count();
        let (mut too_large, mut gone_bytes) = (0, 0);
        self.sent.retain_mut(|sent| {
            if !sent.again || open >= taker.window {
                return true;
            }
            sent.again = false;
            let message = outgoing(&sent.message, Some(sent.packet_id), true);
            let fits = wire::publish(out, taker.version, &message, taker.max_packet_bytes);
            if fits {
                open += 1;
            } else {
                too_large += 1;
                gone_bytes += sent.message.bytes();
            }
            fits
        });
        self.bytes -= gone_bytes;
        too_large
    }

    /// The client has a message; `false` when none went out with this packet id.
    pub(crate) fn acknowledge(&mut self, packet_id: u16) -> bool {
        let Some(at) = self.sent.iter().position(|s| s.packet_id == packet_id) else { return false };
        if let Some(sent) = self.sent.remove(at) {
            self.bytes -= sent.message.bytes();
        }
        true
    }

    /// The connection is gone: what was not acknowledged goes out again, QoS 0 is over.
    pub(crate) fn disconnected(&mut self) {
        for sent in &mut self.sent {
            sent.again = true;
        }
        self.waiting.retain(|m| m.at_least_once);
        self.bytes = self.waiting.iter().chain(self.sent.iter().map(|s| &s.message)).map(Message::bytes).sum();
    }

    /// A packet id that no open message has. The window is far smaller than the ids.
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.sent.iter().all(|s| s.packet_id != self.last_id) {
                return self.last_id;
            }
        }
    }
}

fn outgoing(message: &Message, packet_id: Option<u16>, duplicate: bool) -> Outgoing<'_> {
    Outgoing { topic: &message.topic, payload: &message.payload, packet_id, duplicate }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { messages: 3, bytes: 100 };
    const TAKER: Taker = Taker { version: Version::V3, max_packet_bytes: None, window: 2 };

    fn message(payload: &'static str, at_least_once: bool) -> Message {
        Message { topic: Bytes::from_static(b"t"), payload: Bytes::from_static(payload.as_bytes()), at_least_once }
    }

    fn written(mailbox: &mut Mailbox, taker: Taker) -> Vec<u8> {
        let mut out = BytesMut::new();
        mailbox.write(taker, &mut out);
        out.to_vec()
    }

    #[test]
    fn what_is_not_acknowledged_goes_out_again_with_dup_and_in_order() {
        let mut mailbox = Mailbox::default();
        for payload in ["a", "b", "c"] {
            assert!(mailbox.push(message(payload, true), BOUNDS));
        }
        assert!(!mailbox.push(message("d", true), BOUNDS), "three are kept");
        assert_eq!(written(&mut mailbox, TAKER), *b"\x32\x06\x00\x01t\x00\x01a\x32\x06\x00\x01t\x00\x02b");
        assert_eq!(written(&mut mailbox, TAKER), b"", "two may be open");
        assert!(mailbox.acknowledge(1) && !mailbox.acknowledge(1));
        mailbox.disconnected();
        assert_eq!(written(&mut mailbox, TAKER), *b"\x3A\x06\x00\x01t\x00\x02b\x32\x06\x00\x01t\x00\x03c");
        assert!(mailbox.acknowledge(3) && mailbox.acknowledge(2));
        assert_eq!((mailbox.bytes, mailbox.sent.len(), mailbox.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn qos_0_waits_for_nobody_and_ends_with_the_connection() {
        let mut mailbox = Mailbox::default();
        assert!(mailbox.push(message("a", false), BOUNDS));
        assert_eq!(written(&mut mailbox, TAKER), *b"\x30\x04\x00\x01ta");
        assert!(mailbox.push(message("b", false), BOUNDS) && mailbox.push(message("c", true), BOUNDS));
        mailbox.disconnected();
        assert_eq!(written(&mut mailbox, TAKER), *b"\x32\x06\x00\x01t\x00\x01c");
        assert_eq!(mailbox.bytes, 2);
    }

    #[test]
    fn bytes_are_bounded_and_what_the_client_cannot_take_is_gone() {
        let mut mailbox = Mailbox::default();
        assert!(!mailbox.push(message("a", true), Bounds { messages: 3, bytes: 1 }));
        assert!(mailbox.push(message("aaaa", true), BOUNDS) && mailbox.push(message("b", true), BOUNDS));
        let taker = Taker { max_packet_bytes: Some(8), ..TAKER };
        let mut out = BytesMut::new();
        assert_eq!(mailbox.write(taker, &mut out), 1);
        assert_eq!(out[..], *b"\x32\x06\x00\x01t\x00\x02b");
        assert_eq!(mailbox.bytes, 2);
    }

    #[test]
    fn a_client_that_comes_back_smaller_gets_no_more_than_it_takes() {
        let mut mailbox = Mailbox::default();
        for payload in ["a", "bbbbb", "c"] {
            assert!(mailbox.push(message(payload, true), BOUNDS));
        }
        written(&mut mailbox, Taker { window: 3, ..TAKER });
        mailbox.disconnected();
        let taker = Taker { window: 1, max_packet_bytes: Some(8), ..TAKER };
        let mut out = BytesMut::new();
        assert_eq!((mailbox.write(taker, &mut out), &out[..]), (0, &b"\x3A\x06\x00\x01t\x00\x01a"[..]));
        assert!(mailbox.push(message("d", false), Bounds { messages: 9, ..BOUNDS }));
        assert_eq!(written(&mut mailbox, taker), b"", "one is open, and what was sent comes before what was not");
        assert!(mailbox.acknowledge(1));
        out.clear();
        assert_eq!(mailbox.write(taker, &mut out), 1, "five bytes are too large");
        assert_eq!(out[..], *b"\x3A\x06\x00\x01t\x00\x03c\x30\x04\x00\x01td");
        assert!(mailbox.acknowledge(3) && mailbox.bytes == 0);
    }

    #[test]
    fn packet_ids_come_round_and_skip_the_open_ones() {
        let mut mailbox = Mailbox { last_id: u16::MAX, ..Mailbox::default() };
        assert!(mailbox.push(message("a", true), BOUNDS));
        written(&mut mailbox, TAKER);
        mailbox.last_id = u16::MAX;
        assert!(mailbox.push(message("b", true), BOUNDS));
        written(&mut mailbox, TAKER);
        assert!(mailbox.acknowledge(2) && mailbox.acknowledge(1));
    }
}
