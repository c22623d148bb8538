//! What a scanner has handed to its MQTT client and does not yet know the end of.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;

/// One reading on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// What was read.
    pub(crate) code: String,
    /// What is sent of it.
    pub(crate) payload: Bytes,
    /// Its place in the scanner's schedule.
    pub(crate) position: u64,
    /// From when the acknowledgement is timed.
    pub(crate) since: Instant,
    pub(crate) malformed: bool,
    /// Counted as published: it was on the wire once, whatever came of it.
    pub(crate) published: bool,
    /// How often it was sent again as a new publish because the broker forgot the session.
    pub(crate) resent: u32,
    /// The broker has it (PUBREC); only the handshake of QoS 2 is not at its end.
    pub(crate) received: bool,
}

/// A reading that was on the wire under `packet_id` when the link went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redelivery {
    pub(crate) packet_id: u16,
    /// `None` when the broker has it already and only waits for its release.
    pub(crate) payload: Option<Bytes>,
}

/// The open publishes of one scanner, oldest first.
///
/// The MQTT client does not say which packet id a publish got; it takes publishes in order, so the next id it
/// reports belongs to the oldest message that has none.
#[derive(Debug, Default)]
pub(crate) struct Window {
    handed: VecDeque<Message>,
    on_wire: VecDeque<(u16, Message)>,
    /// Redeliveries of a resumed session that are still unacknowledged. New packet ids start from 1 on a new
    /// link and would meet theirs, so new publishes wait for them.
    resuming: usize,
}

impl Window {
    /// Open publishes.
    pub(crate) fn len(&self) -> usize {
        self.handed.len() + self.on_wire.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether redeliveries of a resumed session are still open.
    pub(crate) fn is_resuming(&self) -> bool {
        self.resuming > 0
    }

    /// A message was given to the client.
    pub(crate) fn hand(&mut self, message: Message) {
        self.handed.push_back(message);
    }

    /// The client put a publish on the wire under `packet_id`. `None` for a redelivery or a stranger.
    pub(crate) fn sent(&mut self, packet_id: u16) -> Option<Sent> {
        if self.on_wire.iter().any(|(id, _)| *id == packet_id) {
            return None;
        }
        let mut message = self.handed.pop_front()?;
        let sent = Sent {
            position: message.position,
            first: !std::mem::replace(&mut message.published, true),
            malformed: message.malformed,
        };
        // Packet id 0 is QoS 0: on the wire is the end of it.
        if packet_id != 0 {
            self.on_wire.push_back((packet_id, message));
        }
        Some(sent)
    }

    /// The broker has what went out under `packet_id`, and waits for its release (QoS 2). `None` when that was known.
    pub(crate) fn received(&mut self, packet_id: u16) -> Option<Message> {
        let (_, message) = self.on_wire.iter_mut().find(|(id, _)| *id == packet_id)?;
        (!std::mem::replace(&mut message.received, true)).then(|| message.clone())
    }

    /// The broker answered for `packet_id`.
    pub(crate) fn answered(&mut self, packet_id: u16) -> Option<Message> {
        let at = self.on_wire.iter().position(|(id, _)| *id == packet_id)?;
        // Redeliveries are the oldest, so they are in front of every message of this link.
        if at < self.resuming {
            self.resuming -= 1;
        }
        self.on_wire.remove(at).map(|(_, message)| message)
    }

    /// The broker kept the session: what was on the wire goes out again under its own packet ids.
    pub(crate) fn resume(&mut self) -> Vec<Redelivery> {
        self.resuming = self.on_wire.len();
        self.on_wire
            .iter()
            .map(|(packet_id, message)| Redelivery {
                packet_id: *packet_id,
                payload: (!message.received).then(|| message.payload.clone()),
            })
            .collect()
    }

    /// The broker knows of no session: packet ids mean nothing any more and everything open is a new publish, apart
    /// from what the broker has. Returns how many of them had been on the wire.
    pub(crate) fn forget_link(&mut self) -> u64 {
        self.resuming = 0;
        let mut resent = 0;
        while let Some((_, mut message)) = self.on_wire.pop_back() {
            if message.received {
                continue;
            }
            message.resent += 1;
            resent += 1;
            self.handed.push_front(message);
        }
        resent
    }

    /// Ends the window: how many open messages were on the wire once, and how many never.
    pub(crate) fn drain(&mut self) -> Open {
        let unanswered = self.on_wire.iter().filter(|(_, message)| !message.received).count();
        let mut open = Open { published: unanswered as u64, never_sent: 0 };
        for message in &self.handed {
            if message.published {
                open.published += 1;
            } else {
                open.never_sent += 1;
            }
        }
        *self = Self::default();
        open
    }

    /// The payloads that were handed over and are not on the wire: to be given to a new client, in order.
    pub(crate) fn unsent(&self) -> impl Iterator<Item = &Bytes> {
        self.handed.iter().map(|message| &message.payload)
    }
}

/// What a window held at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) published: u64,
    pub(crate) never_sent: u64,
}

/// What went on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) position: u64,
    /// For the first time, so that it counts as published.
    pub(crate) first: bool,
    pub(crate) malformed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(position: u64) -> Message {
        Message {
            code: position.to_string(),
            payload: position.to_string().into(),
            position,
            since: Instant::now(),
            malformed: false,
            published: false,
            resent: 0,
            received: false,
        }
    }

    fn window_with(handed: u64, sent: u16) -> Window {
        let mut window = Window::default();
        (0..handed).for_each(|n| window.hand(message(n)));
        (1..=sent).for_each(|id| assert!(window.sent(id).unwrap().first));
        window
    }

    #[test]
    fn packet_ids_pair_with_messages_in_order_and_answers_by_id() {
        let mut window = window_with(3, 3);
        assert_eq!(window.answered(2).unwrap().position, 1);
        assert_eq!(window.answered(1).unwrap().position, 0);
        assert_eq!(window.answered(1), None);
        assert_eq!(window.len(), 1);
    }

    #[test]
    fn a_qos_0_message_ends_on_the_wire() {
        let mut window = window_with(1, 0);
        assert!(window.sent(0).unwrap().first);
        assert!(window.is_empty());
    }

    #[test]
    fn a_resumed_session_redelivers_under_the_same_ids_and_counts_nothing_twice() {
        let mut window = window_with(3, 2);
        let again = window.resume();
        assert_eq!(again.iter().map(|r| r.packet_id).collect::<Vec<_>>(), [1, 2]);
        assert!(window.is_resuming());
        assert_eq!(window.sent(1), None);
        assert_eq!(window.sent(2), None);
        assert_eq!(window.answered(1).unwrap().position, 0);
        assert!(window.is_resuming());
        assert_eq!(window.answered(2).unwrap().resent, 0);
        assert!(!window.is_resuming());
        assert_eq!(window.unsent().collect::<Vec<_>>(), [&Bytes::from("2")]);
    }

    #[test]
    fn a_forgotten_session_sends_everything_anew_in_order_but_publishes_it_once() {
        let mut window = window_with(3, 2);
        assert_eq!(window.forget_link(), 2);
        assert_eq!(window.unsent().collect::<Vec<_>>(), ["0", "1", "2"]);
        assert!(!window.sent(1).unwrap().first);
        assert!(!window.sent(2).unwrap().first);
        assert!(window.sent(3).unwrap().first);
        assert_eq!(window.answered(1).unwrap().resent, 1);
        assert_eq!(window.answered(3).unwrap().resent, 0);
        // What was sent anew may be forgotten again.
        assert_eq!(window.forget_link(), 1);
        assert!(!window.sent(1).unwrap().first);
        assert_eq!(window.answered(1).unwrap().resent, 2);
    }

    #[test]
    fn what_the_broker_has_is_released_and_not_sent_again() {
        let mut window = window_with(3, 3);
        assert_eq!(window.received(1).unwrap().position, 0);
        assert_eq!(window.received(1), None);
        let again: Vec<_> = window.resume().into_iter().map(|r| (r.packet_id, r.payload.is_some())).collect();
        assert_eq!(again, [(1, false), (2, true), (3, true)]);
        assert_eq!(window.answered(1).unwrap().position, 0);
        window.received(2).unwrap();
        // The session is gone: only the third goes out anew, and nothing else counts as lost.
        assert_eq!(window.forget_link(), 1);
        assert_eq!(window.drain(), Open { published: 1, never_sent: 0 });
        let mut window = window_with(2, 2);
        window.received(1).unwrap();
        assert_eq!(window.drain(), Open { published: 1, never_sent: 0 });
    }

    #[test]
    fn what_is_open_at_the_end_was_lost_or_never_sent() {
        let mut window = window_with(3, 2);
        window.forget_link();
        assert_eq!(window.drain(), Open { published: 2, never_sent: 1 });
        assert!(window.is_empty());
    }
}
