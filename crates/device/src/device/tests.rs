//! The rules by table, and against a naive journal.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn device(format: Format, settlement: Settlement, state: DeviceState) -> Device {
    Device::new(DeviceId::new("d").unwrap(), format, settlement, 1, state)
}

fn fresh() -> DeviceState {
    DeviceState { last_sequence: 0, recent: Vec::new() }
}

fn publish(payload: &[u8], packet_id: Option<u16>, duplicate: bool) -> Publish<'_> {
    Publish { payload, packet_id, duplicate, received_at_ms: 7 }
}

fn judge(device: &Device, payload: &[u8], packet_id: Option<u16>, duplicate: bool) -> Judgement {
    device.judge(publish(payload, packet_id, duplicate), |_| Ok::<_, ()>(None))
}

fn hand_over(device: &mut Device, payload: &[u8], packet_id: Option<u16>) -> u64 {
    match judge(device, payload, packet_id, false) {
        Judgement::Take { draft, sequence } => {
            device.handed_over(sequence, packet_id, false, &draft);
            sequence
        }
        other => panic!("{other:?}"),
    }
}

fn hand_over_exactly_once(device: &mut Device, payload: &[u8], packet_id: u16) -> u64 {
    let Judgement::Take { draft, sequence } = judge(device, payload, Some(packet_id), false) else { panic!("taken") };
    device.handed_over(sequence, Some(packet_id), true, &draft);
    device.settled(sequence, &Ok(()));
    sequence
}

#[test]
fn an_exactly_once_publish_is_known_until_its_release_and_never_after() {
    let mut d = device(Format::Digits, Settlement::Anchor, fresh());
    assert_eq!(hand_over_exactly_once(&mut d, b"1", 7), 1);
    for n in 0..100 {
        let sequence = hand_over(&mut d, b"2", Some(100 + n));
        d.settled(sequence, &Ok(()));
    }
    assert_eq!(judge(&d, b"1", Some(7), true), Judgement::Repeat { sequence: 1 });
    d.release(7);
    assert!(matches!(judge(&d, b"1", Some(7), true), Judgement::Take { sequence: 102, .. }));
    // An id that was used again without a release belongs to the newer publish.
    assert_eq!(hand_over_exactly_once(&mut d, b"3", 9), 102);
    assert_eq!(hand_over_exactly_once(&mut d, b"4", 9), 103);
    assert!(matches!(judge(&d, b"3", Some(9), true), Judgement::Take { .. }));
    d.release(9);
    assert!(matches!(judge(&d, b"4", Some(9), true), Judgement::Take { .. }));
}

fn down() -> Result<(), AppendError> {
    Err(AppendError::Unavailable("disk".into()))
}

fn out_of_order(expected: u64, got: u64) -> Result<(), AppendError> {
    Err(AppendError::OutOfOrder { expected, got })
}

#[test]
fn a_repeat_is_the_newest_publish_of_its_packet_id_with_the_same_payload() {
    let mut d = device(Format::Digits, Settlement::Anchor, fresh());
    for (payload, packet_id) in [(&b"1"[..], 1), (b"2", 2), (b"3", 1)] {
        let sequence = hand_over(&mut d, payload, Some(packet_id));
        d.settled(sequence, &Ok(()));
    }
    for (payload, packet_id, duplicate, expected) in [
        (&b"2"[..], Some(2), true, Some(2)),
        (b" 2\n", Some(2), true, Some(2)),
        (b"3", Some(1), true, Some(3)),
        (b"1", Some(1), true, None),
        (b"2", Some(2), false, None),
        (b"2", Some(3), true, None),
        (b"2", None, true, None),
    ] {
        let judgement = judge(&d, payload, packet_id, duplicate);
        match expected {
            Some(sequence) => assert_eq!(judgement, Judgement::Repeat { sequence }, "{payload:?} {packet_id:?}"),
            None => assert!(matches!(judgement, Judgement::Take { sequence: 4, .. }), "{payload:?} {judgement:?}"),
        }
    }
}

#[test]
fn the_window_forgets_the_65th_publish_back() {
    let recent = (1..=65u16)
        .map(|n| Recent { packet_id: n, sequence: n.into(), payload: b"5".to_vec(), unreleased: false })
        .collect();
    let d = device(Format::Digits, Settlement::Anchor, DeviceState { last_sequence: 65, recent });
    assert!(matches!(judge(&d, b"5", Some(1), true), Judgement::Take { sequence: 66, .. }));
    assert_eq!(judge(&d, b"5", Some(2), true), Judgement::Repeat { sequence: 2 });
}

#[test]
fn a_repeat_waits_while_its_commit_is_out_and_is_new_after_its_failure() {
    let mut d = device(Format::Digits, Settlement::Anchor, fresh());
    hand_over(&mut d, b"1", Some(9));
    assert_eq!(judge(&d, b"1", Some(9), true), Judgement::Await { sequence: 1 });
    d.settled(1, &down());
    assert!(matches!(judge(&d, b"1", Some(9), true), Judgement::Take { sequence: 1, .. }));
}

#[test]
fn a_message_id_is_taken_once() {
    let mut d = device(Format::Json, Settlement::Anchor, fresh());
    let body = br#"{"code":"A","id":"m"}"#;
    hand_over(&mut d, body, None);
    assert_eq!(judge(&d, body, None, false), Judgement::Await { sequence: 1 });
    d.settled(1, &Ok(()));
    let found = d.judge(publish(body, None, false), |id| Ok::<_, ()>((id == "m").then_some(1)));
    assert_eq!(found, Judgement::Repeat { sequence: 1 });
    assert_eq!(d.judge(publish(body, None, false), |_| Err(())), Judgement::Later);
}

#[test]
fn bad_payloads_are_rejected_and_use_no_number() {
    let d = device(Format::Json, Settlement::Direct, fresh());
    assert_eq!(judge(&d, br#"{"code":"A"}"#, None, false), Judgement::Reject(Reject::NotNumeric));
    assert_eq!(judge(&d, b"{", None, false), Judgement::Reject(Reject::BadJson));
    assert!(matches!(judge(&d, br#"{"code":"7"}"#, None, false), Judgement::Take { sequence: 1, .. }));
}

#[test]
fn nothing_is_taken_behind_a_failure_until_all_of_it_came_back() {
    let mut d = device(Format::Digits, Settlement::Anchor, fresh());
    for payload in [b"1", b"2", b"3"] {
        hand_over(&mut d, payload, None);
    }
    d.settled(1, &Ok(()));
    d.settled(2, &down());
    assert_eq!(judge(&d, b"4", None, false), Judgement::Later);
    assert_eq!(d.settled(3, &out_of_order(2, 3)), Next::GoOn);
    assert!(matches!(judge(&d, b"4", None, false), Judgement::Take { sequence: 2, .. }));
}

#[test]
fn a_journal_that_is_ahead_is_read_again_before_anything_is_taken() {
    let mut d = device(Format::Digits, Settlement::Anchor, fresh());
    hand_over(&mut d, b"1", None);
    assert_eq!(d.settled(1, &out_of_order(3, 1)), Next::Reload);
    assert_eq!(judge(&d, b"1", None, false), Judgement::Later);
    d.reload(DeviceState { last_sequence: 2, recent: Vec::new() });
    assert!(matches!(judge(&d, b"1", None, false), Judgement::Take { sequence: 3, .. }));
}

#[test]
fn in_flight_is_bounded() {
    let mut d = device(Format::Digits, Settlement::Anchor, fresh());
    for _ in 0..IN_FLIGHT {
        hand_over(&mut d, b"1", None);
    }
    assert_eq!(judge(&d, b"1", None, false), Judgement::Later);
}

#[derive(Debug, Clone)]
enum Step {
    /// A publish; the journal's queue may be full.
    Offer { id: u8, full: bool },
    /// The writer commits, or fails to commit, up to `n` entries.
    Commit { n: usize, fails: bool },
    /// The actor hears one outcome.
    Hear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..30u8, prop::bool::weighted(0.1)).prop_map(|(id, full)| Step::Offer { id, full }),
        2 => (1..4usize, prop::bool::weighted(0.3)).prop_map(|(n, fails)| Step::Commit { n, fails }),
        3 => Just(Step::Hear),
    ]
}

/// The journal by its two rules: only the next number is stored, and a failed commit stores nothing.
#[derive(Default)]
struct Naive {
    queue: VecDeque<(u64, String)>,
    stored: Vec<String>,
    outcomes: VecDeque<(u64, Result<(), AppendError>)>,
}

impl Naive {
    fn commit(&mut self, n: usize, fails: bool) {
        for _ in 0..n {
            let Some((sequence, id)) = self.queue.pop_front() else { return };
            let expected = self.stored.len() as u64 + 1;
            let outcome = if sequence != expected {
                out_of_order(expected, sequence)
            } else if fails {
                down()
            } else {
                self.stored.push(id);
                Ok(())
            };
            self.outcomes.push_back((sequence, outcome));
        }
    }

    fn find(&self, id: &str) -> Option<u64> {
        self.stored.iter().position(|s| s == id).map(|at| at as u64 + 1)
    }

    fn offer(&mut self, d: &mut Device, id: u8, full: bool) -> Judgement {
        let body = format!(r#"{{"code":"1","id":"{id}"}}"#);
        let judgement = d.judge(publish(body.as_bytes(), None, false), |id| Ok::<_, ()>(self.find(id)));
        if let Judgement::Take { draft, sequence } = &judgement
            && !full
        {
            self.queue.push_back((*sequence, id.to_string()));
            d.handed_over(*sequence, None, false, draft);
        }
        judgement
    }
}

proptest! {
    #[test]
    fn every_message_is_stored_once_and_a_failure_costs_no_number(steps in prop::collection::vec(step(), 0..200)) {
        let mut d = device(Format::Json, Settlement::Anchor, fresh());
        let mut naive = Naive::default();
        for step in steps {
            match step {
                Step::Offer { id, full } => {
                    let judgement = naive.offer(&mut d, id, full);
                    match judgement {
                        Judgement::Repeat { sequence } =>
                            prop_assert_eq!(&naive.stored[sequence as usize - 1], &id.to_string()),
                        Judgement::Await { sequence } => prop_assert!(d.in_flight.contains_key(&sequence)),
                        Judgement::Later => prop_assert!(!d.is_quiet(), "refused without a reason"),
                        Judgement::Take { .. } => {}
                        Judgement::Reject(reject) => prop_assert!(false, "{reject}"),
                    }
                }
                Step::Commit { n, fails } => naive.commit(n, fails),
                Step::Hear => if let Some((sequence, outcome)) = naive.outcomes.pop_front() {
                    prop_assert_eq!(d.settled(sequence, &outcome), Next::GoOn, "the journal is never ahead");
                }
            }
        }
        naive.commit(usize::MAX, false);
        for (sequence, outcome) in naive.outcomes.drain(..) {
            d.settled(sequence, &outcome);
        }
        let next = naive.stored.len() as u64 + 1;
        let taken = matches!(naive.offer(&mut d, 99, false), Judgement::Take { sequence, .. } if sequence == next);
        prop_assert!(taken, "the sequence continues without a hole");
        naive.stored.sort();
        let count = naive.stored.len();
        naive.stored.dedup();
        prop_assert_eq!(naive.stored.len(), count, "a message is stored twice");
    }
}
