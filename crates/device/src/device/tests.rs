//! The rules by table, and against a naive journal.

use std::collections::VecDeque;

use alloy::{
    primitives::Address,
    signers::{SignerSync, local::PrivateKeySigner},
};
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
    device.judge(publish(payload, packet_id, duplicate), &Held::default())
}

/// A shelf with one message id, or one that cannot be read.
#[derive(Default)]
struct Held {
    message: Option<(String, u64)>,
    readings: Vec<Reading>,
    fails: bool,
}

impl Shelf for Held {
    fn message(&self, id: &str) -> Result<Option<u64>, Error> {
        if self.fails { Err(Error::Closed) } else { Ok(self.message.as_ref().filter(|m| m.0 == id).map(|m| m.1)) }
    }

    fn reading(&self, sequence: u64) -> Result<Option<Reading>, Error> {
        if self.fails { Err(Error::Closed) } else { Ok(self.readings.iter().find(|r| r.sequence == sequence).cloned()) }
    }
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
        .map(|n| Recent { packet_id: n, sequence: n.into(), payload: Payload::from_slice(b"5"), unreleased: false })
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
    let shelf = Held { message: Some(("m".into(), 1)), ..Held::default() };
    assert_eq!(d.judge(publish(body, None, false), &shelf), Judgement::Repeat { sequence: 1 });
    let broken = Held { fails: true, ..Held::default() };
    assert_eq!(d.judge(publish(body, None, false), &broken), Judgement::Later);
}

const EPOCH: u32 = 2;

/// A device that signs, with two of its readings settled in an earlier life.
struct Scanner {
    device: Device,
    key: PrivateKeySigner,
    domain: Domain,
    shelf: Held,
}

impl Scanner {
    fn new() -> Self {
        let key = PrivateKeySigner::from_slice(&[3; 32]).unwrap();
        let domain = Domain::new(1, Address::repeat_byte(9));
        let mut device =
            device(Format::Signed, Settlement::Batch, DeviceState { last_sequence: 2, recent: Vec::new() });
        device.epoch = EPOCH;
        device.key = Some(PublicKey::Secp256k1(key.address()));
        device.domain = Some(domain.clone());
        let mut scanner = Self { device, key, domain, shelf: Held::default() };
        scanner.shelf.readings = vec![scanner.reading(1, 1, "a"), scanner.reading(1, 2, "b")];
        scanner
    }

    fn reading(&self, epoch: u32, sequence: u64, payload: &str) -> Reading {
        Reading { device: self.device.id.clone(), epoch, sequence, observed_at_ms: 5, payload: payload.into() }
    }

    fn envelope(&self, epoch: u32, sequence: u64, payload: &str) -> Vec<u8> {
        let digest = self.domain.reading(&self.reading(epoch, sequence, payload));
        let signature = self.key.sign_hash_sync(&digest).unwrap();
        let text = format!(
            r#"{{"epoch":{epoch},"sequence":{sequence},"at":5,"payload":"{payload}","signature":"{signature}"}}"#
        );
        text.into_bytes()
    }

    fn judge(&self, envelope: &[u8]) -> Judgement {
        self.device.judge(publish(envelope, Some(1), true), &self.shelf)
    }

    fn offer(&mut self, sequence: u64, payload: &str) -> Judgement {
        let judgement = self.judge(&self.envelope(EPOCH, sequence, payload));
        match &judgement {
            Judgement::Take { draft, sequence } => self.device.handed_over(*sequence, Some(1), false, draft),
            Judgement::Later => self.device.put_off(),
            _ => {}
        }
        judgement
    }
}

#[test]
fn a_signed_reading_keeps_its_number_and_its_signature_in_one_form() {
    let mut scanner = Scanner::new();
    let Judgement::Take { draft, sequence: 3 } = scanner.offer(3, "c") else { panic!("taken") };
    let digest = scanner.domain.reading(&scanner.reading(EPOCH, 3, "c"));
    assert!(scanner.device.key.unwrap().signed(digest, &draft.claim.unwrap().signature));
    assert!(matches!(scanner.offer(4, "c"), Judgement::Take { sequence: 4, .. }), "the same code is another reading");
}

#[test]
fn a_signed_number_seen_before_is_a_repeat_or_a_contradiction() {
    let mut scanner = Scanner::new();
    scanner.offer(3, "c");
    assert_eq!(scanner.offer(3, "c"), Judgement::Await { sequence: 3 });
    assert_eq!(scanner.offer(3, "x"), Judgement::Reject(Reject::SequenceReused));
    scanner.device.settled(3, &Ok(()));
    let reading = scanner.reading(EPOCH, 3, "c");
    scanner.shelf.readings.push(reading);
    assert_eq!(scanner.offer(3, "c"), Judgement::Repeat { sequence: 3 });
    assert_eq!(scanner.offer(3, "x"), Judgement::Reject(Reject::SequenceReused));
    // Signed with the key before, and sent again after the rotation.
    assert_eq!(scanner.judge(&scanner.envelope(1, 2, "b")), Judgement::Repeat { sequence: 2 });
    assert_eq!(scanner.judge(&scanner.envelope(EPOCH, 2, "b")), Judgement::Reject(Reject::SequenceReused));
    scanner.shelf.readings.clear();
    assert_eq!(scanner.offer(1, "a"), Judgement::Repeat { sequence: 1 }, "it has left for an archive");
    scanner.shelf.fails = true;
    assert_eq!(scanner.offer(1, "a"), Judgement::Later);
}

#[test]
fn a_hole_before_a_signed_number_is_told_unless_what_is_missing_was_put_off() {
    let mut scanner = Scanner::new();
    assert_eq!(scanner.offer(4, "d"), Judgement::Reject(Reject::SequenceGap));
    scanner.offer(3, "c");
    scanner.offer(4, "d");
    scanner.device.taken_back(3);
    assert_eq!(scanner.offer(5, "e"), Judgement::Later);
    scanner.offer(3, "c");
    assert_eq!(scanner.offer(5, "e"), Judgement::Reject(Reject::SequenceGap));
    scanner.device.settled(3, &down());
    assert_eq!(scanner.offer(4, "d"), Judgement::Later, "3 comes again");
}

#[test]
fn what_is_signed_otherwise_is_refused_and_without_a_contract_it_waits() {
    let mut scanner = Scanner::new();
    assert_eq!(scanner.judge(&scanner.envelope(1, 3, "c")), Judgement::Reject(Reject::WrongEpoch));
    let good = String::from_utf8(scanner.envelope(EPOCH, 3, "c")).unwrap();
    for bad in [good.replace("\"c\"", "\"d\""), good.replace("\"at\":5", "\"at\":6")] {
        assert_eq!(scanner.judge(bad.as_bytes()), Judgement::Reject(Reject::BadSignature));
    }
    scanner.device.domain = Some(Domain::new(2, Address::repeat_byte(9)));
    assert_eq!(scanner.judge(good.as_bytes()), Judgement::Reject(Reject::BadSignature), "another chain");
    scanner.device.domain = None;
    assert_eq!(scanner.judge(good.as_bytes()), Judgement::Later);
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

impl Shelf for Naive {
    fn message(&self, id: &str) -> Result<Option<u64>, Error> {
        Ok(self.stored.iter().position(|s| s == id).map(|at| at as u64 + 1))
    }

    fn reading(&self, _: u64) -> Result<Option<Reading>, Error> {
        Ok(None)
    }
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

    fn offer(&mut self, d: &mut Device, id: u8, full: bool) -> Judgement {
        let body = format!(r#"{{"code":"1","id":"{id}"}}"#);
        let judgement = d.judge(publish(body.as_bytes(), None, false), self);
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
                        Judgement::Await { sequence } => prop_assert!(d.pending(sequence).is_some()),
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
