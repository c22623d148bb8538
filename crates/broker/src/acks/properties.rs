//! Any sequence of publishes, verdicts and releases, against a list: each is answered once, in order.

use proptest::prelude::*;
use windlass_reading::Reject;

use super::*;

/// What may happen to the answers that a session owes.
#[derive(Debug, Clone)]
enum Act {
    /// A publish or release whose verdict is awaited; QoS 0 has no answer.
    Await { answer: Option<(Answer, u16)> },
    /// A publish that the front refuses.
    Refuse { answer: (Answer, u16) },
    /// The so-many-th awaited verdict comes, or its sender is dropped.
    Decide { nth: usize, verdict: Option<Verdict> },
    /// The client releases a packet id.
    Release { packet_id: u16 },
    /// What is known is written.
    Settle,
}

fn answers() -> impl Strategy<Value = (Answer, u16)> {
    (prop_oneof![Just(Answer::Puback), Just(Answer::Pubrec), Just(Answer::Pubcomp)], 1_u16..9)
}

fn verdicts() -> impl Strategy<Value = Option<Verdict>> {
    let verdict = prop_oneof![
        Just(Verdict::Accepted { sequence: 1 }),
        Just(Verdict::Repeated { sequence: 1 }),
        any::<bool>().prop_map(|known| Verdict::Released { known }),
        Just(Verdict::Rejected(Reject::Empty)),
        Just(Verdict::Unavailable),
    ];
    prop::option::weighted(0.9, verdict)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => prop::option::weighted(0.9, answers()).prop_map(|answer| Act::Await { answer }),
        1 => answers().prop_map(|answer| Act::Refuse { answer }),
        4 => (0_usize..4, verdicts()).prop_map(|(nth, verdict)| Act::Decide { nth, verdict }),
        1 => (1_u16..9).prop_map(|packet_id| Act::Release { packet_id }),
        3 => Just(Act::Settle),
    ];
    prop::collection::vec(act, 1..80)
}

/// What is owed. Without a code the verdict is awaited; the sender is gone once it has come.
struct Entry {
    answer: Option<(Answer, u16)>,
    code: Option<u8>,
    reply: Option<Replies>,
}

#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    unreleased: BTreeSet<u16>,
}

impl Model {
    fn push(&mut self, answer: Option<(Answer, u16)>, code: Option<u8>, reply: Option<Replies>) {
        if let Some((Answer::Pubrec, packet_id)) = answer {
            self.unreleased.insert(packet_id);
        }
        self.entries.push(Entry { answer, code, reply });
    }

    /// A verdict for the so-many-th that waits; dropping the sender says "unavailable".
    fn decide(&mut self, nth: usize, verdict: Option<Verdict>) {
        let Some(entry) = self.entries.iter_mut().filter(|e| e.code.is_none()).nth(nth) else { return };
        entry.code = Some(match verdict {
            Some(Verdict::Rejected(_)) => 0x99,
            Some(Verdict::Unavailable) | None => 0x97,
            Some(Verdict::Released { known: false }) => 0x92,
            Some(_) => 0,
        });
        let reply = entry.reply.take();
        if let (Some(verdict), Some(reply)) = (verdict, reply) {
            reply.send([(0, verdict)]);
        }
    }

    /// What is to be written: kind, packet id, code; and whether something was not stored.
    fn settle(&mut self, version: Version) -> (Vec<(u8, u16, u8)>, bool) {
        let known = self.entries.iter().position(|e| e.code.is_none()).unwrap_or(self.entries.len());
        let (mut written, mut unavailable) = (Vec::new(), false);
        for entry in self.entries.drain(..known) {
            let code = entry.code.unwrap_or_default();
            unavailable |= code == 0x97;
            let Some((answer, packet_id)) = entry.answer else { continue };
            let kind = match answer {
                Answer::Puback => 4,
                Answer::Pubrec => 5,
                Answer::Pubcomp => 7,
            };
            // 3.1.1 has no codes, and PUBCOMP has none for "not now" or "not yours".
            let silent = matches!(code, 0x87 | 0x97) && (version == Version::V3 || kind == 7);
            if !silent {
                written.push((kind, packet_id, if version == Version::V3 { 0 } else { code }));
            }
            if kind == 5 && version == Version::V5 && code >= 0x80 {
                self.unreleased.remove(&packet_id);
            }
        }
        (written, unavailable)
    }
}

/// Kind, packet id and code of each answer.
fn read(mut out: &[u8]) -> Vec<(u8, u16, u8)> {
    let mut answers = Vec::new();
    while let [first, length, rest @ ..] = out {
        let (body, rest) = rest.split_at(usize::from(*length));
        answers.push((first >> 4, u16::from_be_bytes([body[0], body[1]]), body.get(2).copied().unwrap_or_default()));
        out = rest;
    }
    answers
}

fn settle(acks: &mut Acks, model: &mut Model, version: Version, hub: &Hub) {
    let mut out = BytesMut::new();
    let unavailable = acks.settle(Dialect { version, longest_reason: usize::MAX }, hub, &mut out);
    let expected = model.settle(version);
    // A refusal by the front is no trouble of the journal.
    assert_eq!((read(&out), unavailable), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn each_publish_is_answered_once_in_order_and_what_is_unreleased_is_known(acts in acts(), v5: bool) {
        let version = if v5 { Version::V5 } else { Version::V3 };
        let hub = Hub::start(1, 1).unwrap();
        let (mut acks, mut model) = (Acks::default(), Model::default());
        for act in acts {
            match act {
                Act::Await { answer } => {
                    acks.await_verdict(answer, None, Instant::now());
                    model.push(answer, None, Some(acks.replies(1)));
                }
                Act::Refuse { answer } => {
                    acks.refuse(answer, 0x87, "foreign_topic", Instant::now());
                    model.push(Some(answer), Some(0x87), None);
                }
                Act::Decide { nth, verdict } => model.decide(nth, verdict),
                Act::Release { packet_id } => {
                    acks.released(packet_id);
                    model.unreleased.remove(&packet_id);
                }
                Act::Settle => settle(&mut acks, &mut model, version, &hub),
            }
            prop_assert_eq!(&acks.unreleased, &model.unreleased);
            prop_assert_eq!((acks.len(), acks.is_empty()), (model.entries.len(), model.entries.is_empty()));
        }
        // Whoever has not answered never will: nothing stays owed.
        while model.entries.iter().any(|e| e.code.is_none()) {
            model.decide(0, None);
        }
        settle(&mut acks, &mut model, version, &hub);
        prop_assert!(acks.is_empty());
    }
}
