//! What a session is still to hear: bounded, in order, kept over lost connections. Pure.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{
    intake::Qos,
    wire::{self, Outgoing, Version},
};

/// A message to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) qos: Qos,
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
    /// Messages of QoS 1 and 2 that may be open: until PUBACK and PUBCOMP.
    pub(crate) window: usize,
}

struct Sent {
    packet_id: u16,
    /// `None` once a QoS 2 client has it: what is owed then is PUBREL.
    message: Option<Message>,
    /// The connection that it went out on was lost.
    again: bool,
}

impl Sent {
    fn bytes(&self) -> usize {
        self.message.as_ref().map_or(0, Message::bytes)
    }
}

/// What a PUBREC is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// PUBREL.
    Release,
    /// Nothing now: the delivery is over, or its PUBREL comes in its turn.
    Nothing,
    /// Nothing is open with this packet id.
    Unknown,
    /// What is open with this packet id is no QoS 2 message.
    Wrong,
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
            let kept = message.qos != Qos::AtMostOnce;
            if kept && self.sent.len() >= taker.window {
                self.waiting.push_front(message);
                break;
            }
            let packet_id = kept.then(|| self.free_id());
            if !wire::publish(out, taker.version, &outgoing(&message, packet_id, false), taker.max_packet_bytes) {
                self.bytes -= message.bytes();
                too_large += 1;
                continue;
            }
            match packet_id {
                Some(packet_id) => self.sent.push_back(Sent { packet_id, message: Some(message), again: false }),
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
            let fits = match &sent.message {
                Some(message) => {
                    let message = outgoing(message, Some(sent.packet_id), true);
                    wire::publish(out, taker.version, &message, taker.max_packet_bytes)
                }
                None => {
                    wire::release(out, taker.version, sent.packet_id, 0);
                    true
                }
            };
            if fits {
                open += 1;
            } else {
                too_large += 1;
                gone_bytes += sent.bytes();
            }
            fits
        });
        self.bytes -= gone_bytes;
        too_large
    }

    /// PUBACK: the client has a QoS 1 message. `false` when none went out with this packet id.
    pub(crate) fn acknowledge(&mut self, packet_id: u16) -> bool {
        let Some((at, sent)) = self.find(packet_id) else { return false };
        let at_least_once = sent.message.as_ref().is_some_and(|m| m.qos == Qos::AtLeastOnce);
        if at_least_once {
            self.remove(at);
        }
        at_least_once
    }

    /// PUBREC: the client has a QoS 2 message, or `refuses` it.
    pub(crate) fn receive(&mut self, packet_id: u16, refuses: bool) -> Received {
        let Some((at, sent)) = self.find(packet_id) else {
            return if refuses { Received::Nothing } else { Received::Unknown };
        };
        if sent.message.as_ref().is_some_and(|m| m.qos != Qos::ExactlyOnce) {
            return Received::Wrong;
        }
        if refuses {
            self.remove(at);
            return Received::Nothing;
        }
        let message = sent.message.take();
        // What has not gone out again on this connection as yet is released in its turn.
        let received = if sent.again { Received::Nothing } else { Received::Release };
        self.bytes -= message.map_or(0, |m| m.bytes());
        received
    }

    /// PUBCOMP: a QoS 2 message is over; `false` when it has yet to be released. One that is not known ended before.
    pub(crate) fn complete(&mut self, packet_id: u16) -> bool {
        let Some((at, sent)) = self.find(packet_id) else { return true };
        let released = sent.message.is_none();
        if released {
            self.remove(at);
        }
        released
    }

    /// The connection is gone: what is open goes out again, QoS 0 is over.
    pub(crate) fn disconnected(&mut self) {
        for sent in &mut self.sent {
            sent.again = true;
        }
        self.waiting.retain(|m| m.qos != Qos::AtMostOnce);
        self.bytes = self.waiting.iter().map(Message::bytes).chain(self.sent.iter().map(Sent::bytes)).sum();
    }

    fn find(&mut self, packet_id: u16) -> Option<(usize, &mut Sent)> {
        self.sent.iter_mut().enumerate().find(|(_, s)| s.packet_id == packet_id)
    }

    fn remove(&mut self, at: usize) {
        if let Some(sent) = self.sent.remove(at) {
            self.bytes -= sent.bytes();
        }
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
    Outgoing { topic: &message.topic, payload: &message.payload, qos: message.qos, packet_id, duplicate }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) use properties::qualities;

#[cfg(test)]
mod tests {
    use super::{
        Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce},
        *,
    };

    const BOUNDS: Bounds = Bounds { messages: 3, bytes: 100 };
    const TAKER: Taker = Taker { version: Version::V3, max_packet_bytes: None, window: 2 };

    fn message(payload: &'static str, qos: Qos) -> Message {
        Message { topic: Bytes::from_static(b"t"), payload: Bytes::from_static(payload.as_bytes()), qos }
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
            assert!(mailbox.push(message(payload, AtLeastOnce), BOUNDS));
        }
        assert!(!mailbox.push(message("d", AtLeastOnce), BOUNDS), "three are kept");
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
        assert!(mailbox.push(message("a", AtMostOnce), BOUNDS));
        assert_eq!(written(&mut mailbox, TAKER), *b"\x30\x04\x00\x01ta");
        assert!(mailbox.push(message("b", AtMostOnce), BOUNDS) && mailbox.push(message("c", AtLeastOnce), BOUNDS));
        mailbox.disconnected();
        assert_eq!(written(&mut mailbox, TAKER), *b"\x32\x06\x00\x01t\x00\x01c");
        assert_eq!(mailbox.bytes, 2);
    }

    #[test]
    fn bytes_are_bounded_and_what_the_client_cannot_take_is_gone() {
        let mut mailbox = Mailbox::default();
        assert!(!mailbox.push(message("a", AtLeastOnce), Bounds { messages: 3, bytes: 1 }));
        assert!(mailbox.push(message("aaaa", AtLeastOnce), BOUNDS) && mailbox.push(message("b", AtLeastOnce), BOUNDS));
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
            assert!(mailbox.push(message(payload, AtLeastOnce), BOUNDS));
        }
        written(&mut mailbox, Taker { window: 3, ..TAKER });
        mailbox.disconnected();
        let taker = Taker { window: 1, max_packet_bytes: Some(8), ..TAKER };
        let mut out = BytesMut::new();
        assert_eq!((mailbox.write(taker, &mut out), &out[..]), (0, &b"\x3A\x06\x00\x01t\x00\x01a"[..]));
        assert!(mailbox.push(message("d", AtMostOnce), Bounds { messages: 9, ..BOUNDS }));
        assert_eq!(written(&mut mailbox, taker), b"", "one is open, and what was sent comes before what was not");
        assert!(mailbox.acknowledge(1));
        out.clear();
        assert_eq!(mailbox.write(taker, &mut out), 1, "five bytes are too large");
        assert_eq!(out[..], *b"\x3A\x06\x00\x01t\x00\x03c\x30\x04\x00\x01td");
        assert!(mailbox.acknowledge(3) && mailbox.bytes == 0);
    }

    #[test]
    fn qos_2_is_open_until_it_is_complete_and_released_again_on_a_new_connection() {
        let mut mailbox = Mailbox::default();
        for payload in ["a", "b", "c"] {
            assert!(mailbox.push(message(payload, ExactlyOnce), BOUNDS));
        }
        assert_eq!(written(&mut mailbox, TAKER), *b"\x34\x06\x00\x01t\x00\x01a\x34\x06\x00\x01t\x00\x02b");
        assert!(!mailbox.acknowledge(1) && !mailbox.complete(1), "PUBREC is the answer");
        assert_eq!((mailbox.receive(1, false), mailbox.receive(1, false)), (Received::Release, Received::Release));
        assert_eq!((mailbox.bytes, written(&mut mailbox, TAKER)), (4, vec![]), "it is open until PUBCOMP");
        mailbox.disconnected();
        assert_eq!(written(&mut mailbox, TAKER), *b"\x62\x02\x00\x01\x3C\x06\x00\x01t\x00\x02b");
        assert!(mailbox.complete(1) && mailbox.complete(1), "one that is not known ended before");
        assert_eq!(written(&mut mailbox, TAKER), *b"\x34\x06\x00\x01t\x00\x03c");
        assert_eq!((mailbox.receive(2, true), mailbox.receive(2, true)), (Received::Nothing, Received::Nothing));
        assert_eq!((mailbox.receive(2, false), mailbox.receive(3, false)), (Received::Unknown, Received::Release));
        assert!(!mailbox.acknowledge(3) && mailbox.complete(3));
        assert_eq!((mailbox.bytes, mailbox.sent.len()), (0, 0));
        assert!(mailbox.push(message("d", AtLeastOnce), BOUNDS));
        written(&mut mailbox, TAKER);
        assert!(mailbox.receive(4, false) == Received::Wrong && !mailbox.complete(4) && mailbox.acknowledge(4));
    }

    #[test]
    fn a_pubrec_before_its_message_went_out_again_is_released_in_its_turn() {
        let mut mailbox = Mailbox::default();
        for payload in ["a", "b"] {
            assert!(mailbox.push(message(payload, ExactlyOnce), BOUNDS));
        }
        written(&mut mailbox, TAKER);
        mailbox.disconnected();
        let narrow = Taker { window: 1, ..TAKER };
        assert_eq!(written(&mut mailbox, narrow), *b"\x3C\x06\x00\x01t\x00\x01a");
        assert_eq!((mailbox.receive(2, false), written(&mut mailbox, narrow)), (Received::Nothing, vec![]));
        assert!(mailbox.receive(1, false) == Received::Release && mailbox.complete(1));
        assert_eq!(written(&mut mailbox, narrow), *b"\x62\x02\x00\x02");
        assert!(mailbox.complete(2) && mailbox.bytes == 0);
    }

    #[test]
    fn packet_ids_come_round_and_skip_the_open_ones() {
        let mut mailbox = Mailbox { last_id: u16::MAX, ..Mailbox::default() };
        assert!(mailbox.push(message("a", AtLeastOnce), BOUNDS));
        written(&mut mailbox, TAKER);
        mailbox.last_id = u16::MAX;
        assert!(mailbox.push(message("b", AtLeastOnce), BOUNDS));
        written(&mut mailbox, TAKER);
        assert!(mailbox.acknowledge(2) && mailbox.acknowledge(1));
    }
}
