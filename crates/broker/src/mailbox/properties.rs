//! Any sequence of messages, acknowledgements and lost connections, against a list that is searched from the front.

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { messages: 8, bytes: 200 };

impl Mailbox {
    /// How many messages it has; also for the model of the sessions.
    pub(crate) fn held(&self) -> usize {
        self.waiting.len() + self.sent.len()
    }
}

/// What may happen to a mailbox.
#[derive(Debug, Clone)]
enum Act {
    /// A message with so many bytes.
    Push { at_least_once: bool, bytes: usize },
    /// The client takes what it may: so many at a time, each of so many bytes at most.
    Write { window: usize, max_packet_bytes: Option<u32> },
    /// The client acknowledges the so-many-th of what is open.
    Acknowledge { nth: usize },
    /// The client acknowledges what may not be open.
    AcknowledgeId { packet_id: u16 },
    /// The connection is lost. A new one may take more or less.
    Lose,
    /// 65,535 messages later: packet ids begin again.
    ComeRound,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (any::<bool>(), 1_usize..60).prop_map(|(at_least_once, bytes)| Act::Push { at_least_once, bytes }),
        4 => (1_usize..5, prop::option::weighted(0.3, 10_u32..80))
            .prop_map(|(window, max_packet_bytes)| Act::Write { window, max_packet_bytes }),
        3 => (0_usize..5).prop_map(|nth| Act::Acknowledge { nth }),
        1 => (0_u16..6).prop_map(|packet_id| Act::AcknowledgeId { packet_id }),
        1 => Just(Act::Lose),
        1 => Just(Act::ComeRound),
    ];
    prop::collection::vec(act, 1..60)
}

/// Where a message is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// It went out with this id on this connection.
    Open(u16),
    /// It went out with this id on a connection that was lost.
    Again(u16),
}

#[derive(Debug, Clone)]
struct Entry {
    number: u32,
    at_least_once: bool,
    bytes: usize,
    stage: Stage,
}

/// What came out.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    number: u32,
    packet_id: Option<u16>,
    duplicate: bool,
}

/// The messages in the order in which they came, each until it is over.
#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    pushed: u32,
}

impl Model {
    /// The message and whether there is room for it.
    fn push(&mut self, at_least_once: bool, bytes: usize) -> (Message, bool) {
        self.pushed += 1;
        let room = self.entries.len() < BOUNDS.messages && self.bytes() + bytes + 5 <= BOUNDS.bytes;
        if room {
            self.entries.push(Entry { number: self.pushed, at_least_once, bytes: bytes + 5, stage: Stage::Waiting });
        }
        // The number is in the payload, the topic fills up.
        let topic = Bytes::from(vec![b't'; bytes + 1]);
        let payload = Bytes::copy_from_slice(&self.pushed.to_be_bytes());
        (Message { topic, payload, at_least_once }, room)
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(|e| e.bytes).sum()
    }

    fn open(&self) -> Vec<u16> {
        let id = |e: &Entry| if let Stage::Open(id) = e.stage { Some(id) } else { None };
        self.entries.iter().filter_map(id).collect()
    }

    /// What is to come out now, with the ids that `heard` has chosen for new messages. What was sent before comes first.
    fn write(&mut self, window: usize, max_packet_bytes: Option<u32>, heard: &[Heard]) -> (Vec<Heard>, u64) {
        let most = max_packet_bytes.map_or(usize::MAX, |m| m as usize);
        let (mut expected, mut too_large) = (Vec::new(), 0);
        let mut at = 0;
        let rank = |e: &Entry| u8::from(e.stage == Stage::Waiting);
        self.entries.sort_by_key(rank);
        while let Some(entry) = self.entries.get(at).cloned() {
            let blocked = entry.at_least_once && self.open().len() >= window;
            // Type and remaining length, topic's length, topic and payload, packet id.
            let packet_bytes = 2 + 2 + entry.bytes + if entry.at_least_once { 2 } else { 0 };
            match entry.stage {
                Stage::Open(_) => at += 1,
                _ if blocked => break,
                _ if packet_bytes > most => {
                    self.entries.remove(at);
                    too_large += 1;
                }
                Stage::Again(id) => {
                    expected.push(Heard { number: entry.number, packet_id: Some(id), duplicate: true });
                    self.entries[at].stage = Stage::Open(id);
                    at += 1;
                }
                Stage::Waiting if entry.at_least_once => {
                    let chosen = heard.get(expected.len()).and_then(|h| h.packet_id).unwrap_or_default();
                    let taken = |e: &Entry| e.stage == Stage::Open(chosen) || e.stage == Stage::Again(chosen);
                    assert!(chosen != 0 && !self.entries.iter().any(taken), "packet id {chosen} is not free");
                    expected.push(Heard { number: entry.number, packet_id: Some(chosen), duplicate: false });
                    self.entries[at].stage = Stage::Open(chosen);
                    at += 1;
                }
                Stage::Waiting => {
                    expected.push(Heard { number: entry.number, packet_id: None, duplicate: false });
                    self.entries.remove(at);
                }
            }
        }
        (expected, too_large)
    }

    fn acknowledge(&mut self, packet_id: u16) -> bool {
        let before = self.entries.len();
        // Also what was sent on the lost connection: the client may have it.
        self.entries.retain(|e| e.stage != Stage::Open(packet_id) && e.stage != Stage::Again(packet_id));
        self.entries.len() < before
    }

    fn lose(&mut self) {
        self.entries.retain(|e| e.at_least_once);
        for entry in &mut self.entries {
            if let Stage::Open(id) = entry.stage {
                entry.stage = Stage::Again(id);
            }
        }
    }
}

/// Packets of 3.1.1 with one length byte.
fn heard(mut out: &[u8]) -> Vec<Heard> {
    let mut heard = Vec::new();
    while let [first, length, rest @ ..] = out {
        let (body, rest) = rest.split_at(usize::from(*length));
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let packet_id = (first & 0b0110 != 0).then(|| u16::from_be_bytes([body[2 + topic], body[3 + topic]]));
        let number = u32::from_be_bytes(body[body.len() - 4..].try_into().unwrap());
        heard.push(Heard { number, packet_id, duplicate: first & 0b1000 != 0 });
        out = rest;
    }
    heard
}

fn take(mailbox: &mut Mailbox, model: &mut Model, window: usize, max_packet_bytes: Option<u32>) -> usize {
    let mut out = BytesMut::new();
    let too_large = mailbox.write(Taker { version: Version::V3, max_packet_bytes, window }, &mut out);
    let heard = heard(&out);
    let expected = model.write(window, max_packet_bytes, &heard);
    assert_eq!((&heard, too_large), (&expected.0, expected.1));
    assert!(model.open().len() <= window, "{:?} are open, the client takes {window}", model.open());
    heard.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_is_lost_reordered_or_sent_beyond_what_the_client_takes(acts in acts()) {
        let (mut mailbox, mut model) = (Mailbox::default(), Model::default());
        // A client's window and packet size are the connection's.
        let mut taker = None;
        for act in acts {
            match act {
                Act::Push { at_least_once, bytes } => {
                    let (message, room) = model.push(at_least_once, bytes);
                    prop_assert_eq!(mailbox.push(message, BOUNDS), room);
                }
                Act::Write { window, max_packet_bytes } => {
                    let (window, max_packet_bytes) = *taker.get_or_insert((window, max_packet_bytes));
                    take(&mut mailbox, &mut model, window, max_packet_bytes);
                }
                Act::Acknowledge { nth } => {
                    let open = model.open();
                    if let Some(packet_id) = open.get(nth) {
                        prop_assert!(mailbox.acknowledge(*packet_id) && model.acknowledge(*packet_id));
                    }
                }
                Act::AcknowledgeId { packet_id } => {
                    prop_assert_eq!(mailbox.acknowledge(packet_id), model.acknowledge(packet_id));
                }
                Act::Lose => {
                    mailbox.disconnected();
                    model.lose();
                    taker = None;
                }
                Act::ComeRound => mailbox.last_id = 0,
            }
            prop_assert_eq!(mailbox.bytes, model.bytes());
            prop_assert_eq!(mailbox.held(), model.entries.len());
        }
        // A patient client hears all that is left.
        mailbox.disconnected();
        model.lose();
        while take(&mut mailbox, &mut model, 1, None) > 0 {
            let open = model.open();
            prop_assert!(open.iter().all(|id| mailbox.acknowledge(*id) && model.acknowledge(*id)));
        }
        prop_assert!(model.entries.is_empty() && mailbox.bytes == 0);
    }
}
