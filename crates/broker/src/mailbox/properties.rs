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
    Push { qos: Qos, bytes: usize },
    /// The client takes what it may: so many at a time, each of so many bytes at most.
    Write { window: usize, max_packet_bytes: Option<u32> },
    /// The client answers the so-many-th of what is open, as it should.
    Answer { nth: usize },
    /// The client answers what may not be open, or otherwise than it should.
    AnswerId { packet_id: u16, answer: Answer },
    /// The connection is lost. A new one may take more or less.
    Lose,
    /// 65,535 messages later: packet ids begin again.
    ComeRound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Puback,
    Pubrec { refuses: bool },
    Pubcomp,
}

/// What the mailbox makes of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    Fine,
    Wrong,
    Received(Received),
}

/// For the model of the sessions as well.
pub(crate) fn qualities() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let answers = prop_oneof![
        2 => Just(Answer::Puback),
        2 => Just(Answer::Pubrec { refuses: false }),
        1 => Just(Answer::Pubrec { refuses: true }),
        2 => Just(Answer::Pubcomp),
    ];
    let act = prop_oneof![
        6 => (qualities(), 1_usize..60).prop_map(|(qos, bytes)| Act::Push { qos, bytes }),
        4 => (1_usize..5, prop::option::weighted(0.3, 10_u32..80))
            .prop_map(|(window, max_packet_bytes)| Act::Write { window, max_packet_bytes }),
        4 => (0_usize..5).prop_map(|nth| Act::Answer { nth }),
        2 => (0_u16..6, answers).prop_map(|(packet_id, answer)| Act::AnswerId { packet_id, answer }),
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
    qos: Qos,
    bytes: usize,
    stage: Stage,
    /// The client has it, as its PUBREC said.
    received: bool,
}

impl Entry {
    fn is_kept(&self) -> bool {
        self.qos != Qos::AtMostOnce
    }

    fn has(&self, packet_id: u16) -> bool {
        self.stage == Stage::Open(packet_id) || self.stage == Stage::Again(packet_id)
    }
}

/// What came out.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    /// `None` for a PUBREL.
    number: Option<u32>,
    qos: u8,
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
    fn push(&mut self, qos: Qos, bytes: usize) -> (Message, bool) {
        self.pushed += 1;
        let room = self.entries.len() < BOUNDS.messages && self.bytes() + bytes + 5 <= BOUNDS.bytes;
        if room {
            let entry = Entry { number: self.pushed, qos, bytes: bytes + 5, stage: Stage::Waiting, received: false };
            self.entries.push(entry);
        }
        // The number is in the payload, the topic fills up.
        let topic = Bytes::from(vec![b't'; bytes + 1]);
        let payload = Bytes::copy_from_slice(&self.pushed.to_be_bytes());
        (Message { topic, payload, qos }, room)
    }

    fn bytes(&self) -> usize {
        self.entries.iter().filter(|e| !e.received).map(|e| e.bytes).sum()
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
            let blocked = entry.is_kept() && self.open().len() >= window;
            // Type and remaining length, topic's length, topic and payload, packet id.
            let packet_bytes = 2 + 2 + entry.bytes + if entry.is_kept() { 2 } else { 0 };
            let qos = entry.qos.number();
            match entry.stage {
                Stage::Open(_) => at += 1,
                _ if blocked => break,
                Stage::Again(id) if entry.received => {
                    expected.push(Heard { number: None, qos: 1, packet_id: Some(id), duplicate: false });
                    self.entries[at].stage = Stage::Open(id);
                    at += 1;
                }
                _ if packet_bytes > most => {
                    self.entries.remove(at);
                    too_large += 1;
                }
                Stage::Again(id) => {
                    expected.push(Heard { number: Some(entry.number), qos, packet_id: Some(id), duplicate: true });
                    self.entries[at].stage = Stage::Open(id);
                    at += 1;
                }
                Stage::Waiting if entry.is_kept() => {
                    let chosen = heard.get(expected.len()).and_then(|h| h.packet_id).unwrap_or_default();
                    assert!(
                        chosen != 0 && !self.entries.iter().any(|e| e.has(chosen)),
                        "packet id {chosen} is not free"
                    );
                    let number = Some(entry.number);
                    expected.push(Heard { number, qos, packet_id: Some(chosen), duplicate: false });
                    self.entries[at].stage = Stage::Open(chosen);
                    at += 1;
                }
                Stage::Waiting => {
                    expected.push(Heard { number: Some(entry.number), qos, packet_id: None, duplicate: false });
                    self.entries.remove(at);
                }
            }
        }
        (expected, too_large)
    }

    /// Also of what was sent on the lost connection: the client may have it.
    fn answer(&mut self, packet_id: u16, answer: Answer) -> Reaction {
        let at = self.entries.iter().position(|e| e.has(packet_id));
        let known = at.map(|at| (at, self.entries[at].qos, self.entries[at].received));
        let over = match (answer, known) {
            (Answer::Puback, Some((at, Qos::AtLeastOnce, _))) => (at, Reaction::Fine),
            (Answer::Puback, _) => return Reaction::Wrong,
            (Answer::Pubrec { refuses: true }, None) => return Reaction::Received(Received::Nothing),
            (Answer::Pubrec { refuses: false }, None) => return Reaction::Received(Received::Unknown),
            (Answer::Pubrec { .. }, Some((_, Qos::AtLeastOnce, _))) => return Reaction::Received(Received::Wrong),
            (Answer::Pubrec { refuses: true }, Some((at, ..))) => (at, Reaction::Received(Received::Nothing)),
            (Answer::Pubrec { refuses: false }, Some((at, ..))) => {
                self.entries[at].received = true;
                return Reaction::Received(match self.entries[at].stage {
                    Stage::Again(_) => Received::Nothing,
                    _ => Received::Release,
                });
            }
            (Answer::Pubcomp, None) => return Reaction::Fine,
            (Answer::Pubcomp, Some((at, _, true))) => (at, Reaction::Fine),
            (Answer::Pubcomp, Some(_)) => return Reaction::Wrong,
        };
        self.entries.remove(over.0);
        over.1
    }

    /// The answer that an open message waits for.
    fn due(&self, packet_id: u16) -> Answer {
        match self.entries.iter().find(|e| e.has(packet_id)) {
            Some(Entry { qos: Qos::ExactlyOnce, received: true, .. }) => Answer::Pubcomp,
            Some(Entry { qos: Qos::ExactlyOnce, .. }) => Answer::Pubrec { refuses: false },
            _ => Answer::Puback,
        }
    }

    fn lose(&mut self) {
        self.entries.retain(Entry::is_kept);
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
        let qos = first >> 1 & 3;
        out = rest;
        if first >> 4 == 6 {
            let packet_id = Some(u16::from_be_bytes(body.try_into().unwrap()));
            heard.push(Heard { number: None, qos, packet_id, duplicate: false });
            continue;
        }
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let packet_id = (qos > 0).then(|| u16::from_be_bytes([body[2 + topic], body[3 + topic]]));
        let number = Some(u32::from_be_bytes(body[body.len() - 4..].try_into().unwrap()));
        heard.push(Heard { number, qos, packet_id, duplicate: first & 0b1000 != 0 });
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

fn answer(mailbox: &mut Mailbox, model: &mut Model, packet_id: u16, answer: Answer) {
    let of = |fine| if fine { Reaction::Fine } else { Reaction::Wrong };
    let reaction = match answer {
        Answer::Puback => of(mailbox.acknowledge(packet_id)),
        Answer::Pubrec { refuses } => Reaction::Received(mailbox.receive(packet_id, refuses)),
        Answer::Pubcomp => of(mailbox.complete(packet_id)),
    };
    assert_eq!(reaction, model.answer(packet_id, answer), "{answer:?} of {packet_id}");
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
                Act::Push { qos, bytes } => {
                    let (message, room) = model.push(qos, bytes);
                    prop_assert_eq!(mailbox.push(message, BOUNDS), room);
                }
                Act::Write { window, max_packet_bytes } => {
                    let (window, max_packet_bytes) = *taker.get_or_insert((window, max_packet_bytes));
                    take(&mut mailbox, &mut model, window, max_packet_bytes);
                }
                Act::Answer { nth } => {
                    if let Some(packet_id) = model.open().get(nth).copied() {
                        let due = model.due(packet_id);
                        answer(&mut mailbox, &mut model, packet_id, due);
                    }
                }
                Act::AnswerId { packet_id, answer: kind } => answer(&mut mailbox, &mut model, packet_id, kind),
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
            while let Some(packet_id) = model.open().first().copied() {
                let due = model.due(packet_id);
                answer(&mut mailbox, &mut model, packet_id, due);
            }
        }
        prop_assert!(model.entries.is_empty() && mailbox.bytes == 0);
    }
}
