//! Actors and the directory over a journal whose writer the test plays.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::primitives::B256;
use async_trait::async_trait;
use tokio::{sync::oneshot, task::yield_now};
use windlass_journal::{
    Append, AppendError, DeviceRow, DeviceState, Error, Journal, Recent, Refusal, Refused as Back, Release, Stored,
};
use windlass_reading::{DeviceId, Format, Reading, Reject, Settlement};

use crate::{Config, Custody, Directory, Ingress, Key, Listener, Outcome, Refused, SignError, Spec, Step};

const PHRASE: &str = "test test test test test test test test test test test junk";

/// Keeps every entry until the test commits or fails it.
#[derive(Default)]
struct Fake {
    queue: Mutex<VecDeque<Append>>,
    refusals: Mutex<Vec<Refusal>>,
    stored: Mutex<Vec<Recent>>,
    full: AtomicBool,
    panics: AtomicBool,
    loads: AtomicUsize,
}

impl Fake {
    fn commit(&self) {
        while let Some(entry) = { self.queue.lock().unwrap().pop_front() } {
            let mut stored = self.stored.lock().unwrap();
            let expected = stored.len() as u64 + 1;
            let sequence = entry.sequence;
            let result = if sequence == expected {
                stored.extend((sequence..).zip(entry.readings).map(|(sequence, reading)| Recent {
                    packet_id: reading.packet_id.unwrap_or(0),
                    sequence,
                    payload: reading.draft.payload,
                    unreleased: reading.exactly_once,
                }));
                Ok(Stored { sequence, arrival: sequence })
            } else {
                Err(AppendError::OutOfOrder { expected, got: sequence })
            };
            drop(stored);
            (entry.reply)(result);
        }
    }

    fn fail_first(&self) {
        let entry = self.queue.lock().unwrap().pop_front().unwrap();
        (entry.reply)(Err(AppendError::Unavailable("disk full".into())));
    }

    fn queued(&self) -> usize {
        self.queue.lock().unwrap().len()
    }

    fn payloads(&self) -> Vec<String> {
        self.stored.lock().unwrap().iter().map(|r| String::from_utf8(r.payload.to_vec()).unwrap()).collect()
    }
}

#[async_trait]
impl Journal for Fake {
    fn append(&self, entry: Append) -> Result<(), Back<Append>> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "a fault inside the actor");
        if self.full.load(Ordering::SeqCst) {
            return Err(Back::Full(entry));
        }
        self.queue.lock().unwrap().push_back(entry);
        Ok(())
    }

    fn quarantine(&self, entry: Refusal) -> Result<(), Back<Refusal>> {
        if self.full.load(Ordering::SeqCst) {
            return Err(Back::Full(entry));
        }
        self.refusals.lock().unwrap().push(entry);
        Ok(())
    }

    fn release(&self, entry: Release) -> Result<(), Back<Release>> {
        let mut stored = self.stored.lock().unwrap();
        let found = stored.iter_mut().find(|r| r.unreleased && r.packet_id == entry.packet_id);
        let known = found.map(|r| r.unreleased = false).is_some();
        drop(stored);
        (entry.reply)(Ok(known));
        Ok(())
    }

    async fn upsert_devices(&self, _: Vec<DeviceRow>) -> Result<(), Error> {
        Ok(())
    }

    fn device(&self, _: &DeviceId) -> Result<Option<DeviceState>, Error> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let recent = self.stored.lock().unwrap().clone();
        Ok(Some(DeviceState { last_sequence: recent.len() as u64, recent }))
    }

    fn find_message(&self, _: &DeviceId, _: &str) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    fn find_reading(&self, _: &DeviceId, _: u64) -> Result<Option<Reading>, Error> {
        Ok(None)
    }
}

fn id() -> DeviceId {
    DeviceId::new("dock-7").unwrap()
}

fn spec() -> Spec {
    Spec {
        id: id(),
        format: Format::Digits,
        settlement: Settlement::Anchor,
        epoch: 1,
        key: Some(Key::Custodial(0)),
        former: Vec::new(),
        active: true,
    }
}

/// A directory on the test's own thread, so that paused time is its time.
fn directory(mailbox: usize) -> (Arc<Fake>, Directory) {
    let fake = Arc::new(Fake::default());
    let config = Config { mailbox, arbiters: 0, ..Config::default() };
    let custody = Some(Custody::from_mnemonic(PHRASE).unwrap());
    (fake.clone(), Directory::new(fake, vec![spec()], custody, Arc::new(|| None), config))
}

fn ingress(payload: &str, packet_id: u16, duplicate: bool) -> Ingress {
    let (topic, payload) = ("devices/dock-7/readings".into(), payload.as_bytes().to_vec().into());
    let (step, packet_id, exactly_once) = (Step::Publish, Some(packet_id), false);
    Ingress { step, topic, payload, packet_id, duplicate, exactly_once, received_at_ms: 5, quarantine: None }
}

/// What was heard of each place of an offer.
struct Ears(Vec<Mutex<Option<oneshot::Sender<Outcome>>>>);

impl Listener for Ears {
    fn hear(&self, _: &[Ingress], outcomes: &[(usize, Outcome)]) {
        for (place, outcome) in outcomes {
            let sender = self.0[*place].lock().unwrap().take().expect("heard once");
            let _ = sender.send(*outcome);
        }
    }
}

type Heard = oneshot::Receiver<Outcome>;

/// Offers several as one.
fn offer_all(directory: &Directory, device: &DeviceId, publishes: Vec<Ingress>) -> (Result<(), Refused>, Vec<Heard>) {
    let (senders, heard) = publishes.iter().map(|_| oneshot::channel()).map(|(s, h)| (Mutex::new(Some(s)), h)).unzip();
    let listener: Arc<dyn Listener> = Arc::new(Ears(senders));
    (directory.offer(device, publishes, &listener), heard)
}

fn offer_to(directory: &Directory, device: &DeviceId, publish: Ingress) -> Result<Heard, Refused> {
    let (taken, mut heard) = offer_all(directory, device, vec![publish]);
    taken.map(|()| heard.remove(0))
}

fn offer(directory: &Directory, payload: &str, packet_id: u16, duplicate: bool) -> Heard {
    offer_to(directory, &id(), ingress(payload, packet_id, duplicate)).unwrap()
}

/// Lets every actor run until it waits.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

#[actix::test]
async fn a_reading_is_answered_after_its_commit_and_not_before() {
    let (fake, directory) = directory(16);
    let mut heard = offer(&directory, "1", 1, false);
    settle().await;
    assert!(heard.try_recv().is_err());
    fake.commit();
    assert_eq!(heard.await, Ok(Outcome::Accepted { sequence: 1 }));
}

#[actix::test]
async fn a_repeated_publish_is_acknowledged_and_stored_once() {
    let (fake, directory) = directory(16);
    let first = offer(&directory, "1", 1, false);
    let mut early = offer(&directory, "1", 1, true);
    settle().await;
    assert!(early.try_recv().is_err(), "a repeat must not overtake the commit");
    fake.commit();
    assert_eq!(first.await, Ok(Outcome::Accepted { sequence: 1 }));
    assert_eq!(early.await, Ok(Outcome::Repeated { sequence: 1 }));
    assert_eq!(offer(&directory, "1", 1, true).await, Ok(Outcome::Repeated { sequence: 1 }));
    assert_eq!(fake.payloads(), ["1"]);
}

#[actix::test]
async fn a_failed_commit_fails_its_repeats_and_what_is_behind_it_and_leaves_no_hole() {
    let (fake, directory) = directory(16);
    let all = [("1", 1, false), ("1", 1, true), ("2", 2, false)].map(|(p, n, d)| offer(&directory, p, n, d));
    settle().await;
    fake.fail_first();
    fake.commit();
    for heard in all {
        assert_eq!(heard.await, Ok(Outcome::Unavailable));
    }
    settle().await;
    let again = offer(&directory, "1", 1, true);
    settle().await;
    fake.commit();
    assert_eq!(again.await, Ok(Outcome::Accepted { sequence: 1 }));
    assert_eq!(fake.payloads(), ["1"]);
}

#[actix::test]
async fn a_full_journal_costs_a_retry_and_no_number() {
    let (fake, directory) = directory(16);
    fake.full.store(true, Ordering::SeqCst);
    assert_eq!(offer(&directory, "1", 1, false).await, Ok(Outcome::Unavailable));
    assert_eq!(offer(&directory, "x", 1, false).await, Ok(Outcome::Unavailable));
    fake.full.store(false, Ordering::SeqCst);
    let heard = offer(&directory, "1", 1, true);
    settle().await;
    fake.commit();
    assert_eq!(heard.await, Ok(Outcome::Accepted { sequence: 1 }));
}

#[actix::test]
async fn a_bad_payload_is_answered_after_its_quarantine_row() {
    let (fake, directory) = directory(16);
    let mut heard = offer(&directory, "12a", 1, false);
    settle().await;
    assert!(heard.try_recv().is_err());
    let refusal = fake.refusals.lock().unwrap().pop().unwrap();
    assert_eq!((refusal.reject, refusal.payload.as_slice()), (Reject::BadCharacter, &b"12a"[..]));
    (refusal.reply)(Ok(1));
    assert_eq!(heard.await, Ok(Outcome::Rejected(Reject::BadCharacter)));
}

#[actix::test]
async fn a_full_mailbox_gives_the_publish_back() {
    let (fake, directory) = directory(2);
    let first = offer(&directory, "0", 1, false);
    settle().await;
    let mut taken = 1;
    let back = loop {
        match offer_to(&directory, &id(), ingress("1", 2, false)) {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 10, "the mailbox has no bound");
    };
    assert_eq!(back, Refused::Full(vec![ingress("1", 2, false)]));
    assert_eq!(taken, 3, "one was handled, two wait");
    settle().await;
    fake.commit();
    assert_eq!(first.await, Ok(Outcome::Accepted { sequence: 1 }));
    assert_eq!(fake.payloads().len(), taken);
}

#[actix::test]
async fn an_offer_is_one_append_and_each_of_its_publishes_has_its_own_outcome() {
    let (fake, directory) = directory(16);
    let publishes = [("1", 1, false), ("x", 2, false), ("2", 3, false), ("1", 1, true)];
    let (taken, heard) = offer_all(&directory, &id(), publishes.map(|(p, n, d)| ingress(p, n, d)).to_vec());
    taken.unwrap();
    settle().await;
    assert_eq!(fake.queue.lock().unwrap().iter().map(|e| e.readings.len()).collect::<Vec<_>>(), [2]);
    (fake.refusals.lock().unwrap().pop().unwrap().reply)(Ok(1));
    fake.commit();
    let outcomes = futures::future::join_all(heard).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    let [first, bad, second, repeat] = outcomes.try_into().unwrap();
    assert_eq!((first, second), (Outcome::Accepted { sequence: 1 }, Outcome::Accepted { sequence: 2 }));
    assert_eq!((bad, repeat), (Outcome::Rejected(Reject::BadCharacter), Outcome::Repeated { sequence: 1 }));
}

#[actix::test]
async fn of_an_offer_that_does_not_fit_the_rest_comes_back() {
    let (fake, directory) = directory(2);
    let publishes = (1..=3).map(|n| ingress("1", n, false)).collect();
    let (taken, mut heard) = offer_all(&directory, &id(), publishes);
    assert_eq!(taken, Err(Refused::Full(vec![ingress("1", 3, false)])));
    settle().await;
    fake.commit();
    assert!(heard.pop().unwrap().await.is_err(), "nobody answers what was not taken");
    for (heard, sequence) in heard.into_iter().zip(1..) {
        assert_eq!(heard.await, Ok(Outcome::Accepted { sequence }));
    }
}

#[actix::test]
async fn a_full_journal_takes_nothing_of_an_offer_nor_its_repeats() {
    let (fake, directory) = directory(16);
    fake.full.store(true, Ordering::SeqCst);
    let publishes = [("1", 1, false), ("2", 2, false), ("1", 1, true)].map(|(p, n, d)| ingress(p, n, d));
    for heard in offer_all(&directory, &id(), publishes.to_vec()).1 {
        assert_eq!(heard.await, Ok(Outcome::Unavailable));
    }
    fake.full.store(false, Ordering::SeqCst);
    let heard = offer(&directory, "3", 3, false);
    settle().await;
    fake.commit();
    assert_eq!(heard.await, Ok(Outcome::Accepted { sequence: 1 }));
}

#[actix::test]
async fn a_fault_in_the_middle_of_an_offer_leaves_no_publish_unanswered() {
    let (fake, directory) = directory(16);
    fake.panics.store(true, Ordering::SeqCst);
    let mut publishes = (1..=4).map(|n| ingress("1", n, false)).collect::<Vec<_>>();
    // The run before it is handed over first, and that is where the fault is.
    publishes[2].step = Step::Release;
    for heard in offer_all(&directory, &id(), publishes).1 {
        assert_eq!(heard.await, Ok(Outcome::Unavailable));
    }
}

#[actix::test]
async fn an_idle_actor_rests_and_is_rebuilt_from_the_journal() {
    tokio::time::pause();
    let (fake, directory) = directory(16);
    let heard = offer(&directory, "1", 1, false);
    settle().await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(fake.loads.load(Ordering::SeqCst), 1);
    fake.commit();
    assert_eq!(heard.await, Ok(Outcome::Accepted { sequence: 1 }));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(offer(&directory, "1", 1, true).await, Ok(Outcome::Repeated { sequence: 1 }));
    assert_eq!(fake.loads.load(Ordering::SeqCst), 2, "it rested once, after its commit and not before");
}

#[actix::test]
async fn a_panicked_actor_is_rebuilt_and_its_publishes_are_answered() {
    let (fake, directory) = directory(16);
    fake.panics.store(true, Ordering::SeqCst);
    let lost = [offer(&directory, "1", 1, false), offer(&directory, "2", 2, false)];
    for heard in lost {
        assert_eq!(heard.await, Ok(Outcome::Unavailable));
    }
    let heard = offer(&directory, "3", 3, false);
    settle().await;
    fake.commit();
    assert_eq!(heard.await, Ok(Outcome::Accepted { sequence: 1 }));
}

#[actix::test]
async fn entries_of_a_dead_actor_that_come_in_late_are_found_again() {
    let (fake, directory) = directory(16);
    let first = offer(&directory, "1", 1, false);
    settle().await;
    fake.panics.store(true, Ordering::SeqCst);
    assert_eq!(offer(&directory, "2", 2, false).await, Ok(Outcome::Unavailable));
    let repeat = offer(&directory, "1", 1, true);
    settle().await;
    assert_eq!(fake.queued(), 2);
    fake.commit();
    assert_eq!(first.await, Ok(Outcome::Accepted { sequence: 1 }));
    assert_eq!(repeat.await, Ok(Outcome::Unavailable));
    settle().await;
    assert_eq!(offer(&directory, "1", 1, true).await, Ok(Outcome::Repeated { sequence: 1 }));
    assert_eq!(fake.payloads(), ["1"]);
}

#[actix::test]
async fn a_released_packet_id_is_free_for_the_same_code_again() {
    let (fake, directory) = directory(16);
    let exactly_once = |step, duplicate| {
        let publish = ingress("1", 7, duplicate);
        offer_to(&directory, &id(), Ingress { step, exactly_once: true, ..publish }).unwrap()
    };
    let first = exactly_once(Step::Publish, false);
    settle().await;
    fake.commit();
    assert_eq!(first.await, Ok(Outcome::Accepted { sequence: 1 }));
    assert_eq!(exactly_once(Step::Publish, true).await, Ok(Outcome::Repeated { sequence: 1 }));
    assert_eq!(exactly_once(Step::Release, false).await, Ok(Outcome::Released { known: true }));
    assert_eq!(exactly_once(Step::Release, false).await, Ok(Outcome::Released { known: false }));
    let second = exactly_once(Step::Publish, true);
    settle().await;
    fake.commit();
    assert_eq!(second.await, Ok(Outcome::Accepted { sequence: 2 }));
}

#[actix::test]
async fn a_reload_changes_adds_and_removes_devices() {
    let (fake, directory) = directory(16);
    let other = DeviceId::new("dock-8").unwrap();
    let changed = Spec { format: Format::Text, epoch: 2, ..spec() };
    directory.replace(vec![changed, Spec { id: other.clone(), key: None, ..spec() }]);
    assert_eq!(directory.len(), 2);
    drop(offer(&directory, "abc", 1, false));
    settle().await;
    assert_eq!(fake.queue.lock().unwrap().front().map(|e| e.epoch), Some(2));
    assert_eq!(directory.sign(&other, None, B256::ZERO).await, Err(SignError::NoKey));
    let third = DeviceId::new("dock-9").unwrap();
    directory.replace(vec![spec(), Spec { id: third.clone(), key: Some(Key::Custodial(4)), ..spec() }]);
    assert_eq!(
        offer_to(&directory, &other, ingress("1", 1, false)).err(),
        Some(Refused::Unknown(vec![ingress("1", 1, false)]))
    );
    // What a removed device published before is still to be settled.
    directory.replace(vec![spec()]);
    assert_eq!(directory.len(), 1);
    assert_eq!(
        offer_to(&directory, &third, ingress("1", 1, false)).err(),
        Some(Refused::Unknown(vec![ingress("1", 1, false)]))
    );
    assert!(directory.sign(&third, None, B256::ZERO).await.is_ok());
    assert_eq!(directory.sign(&DeviceId::new("never").unwrap(), None, B256::ZERO).await, Err(SignError::UnknownDevice));
}

#[actix::test]
async fn a_signature_is_the_device_keys() {
    let (_, directory) = directory(16);
    let digest = B256::repeat_byte(7);
    let signature = directory.sign(&id(), None, digest).await.unwrap();
    assert_eq!(signature.recover_address_from_prehash(&digest).ok(), directory.address_of(&id()));
    assert_eq!(signature.as_bytes().len(), 65);
}

#[actix::test]
async fn a_device_that_is_no_longer_in_use_publishes_nothing_and_signs_what_it_left() {
    let (_, directory) = directory(16);
    directory.replace(vec![Spec { active: false, ..spec() }]);
    assert_eq!(directory.len(), 0);
    assert_eq!(
        offer_to(&directory, &id(), ingress("1", 1, false)).err(),
        Some(Refused::Unknown(vec![ingress("1", 1, false)]))
    );
    assert!(directory.sign(&id(), Some(1), B256::ZERO).await.is_ok());
}

#[actix::test]
async fn an_earlier_key_signs_what_was_taken_under_it() {
    let (_, directory) = directory(16);
    let before = directory.address_of(&id());
    let rotated = Spec { epoch: 2, key: Some(Key::Custodial(5)), former: vec![(1, 0)], ..spec() };
    directory.replace(vec![rotated]);
    let signer = async |epoch| {
        let signature = directory.sign(&id(), epoch, B256::ZERO).await.unwrap();
        signature.recover_address_from_prehash(&B256::ZERO).ok()
    };
    assert_eq!(signer(Some(1)).await, before);
    assert_eq!(signer(Some(2)).await, directory.address_of(&id()));
    assert_eq!(signer(None).await, directory.address_of(&id()));
    assert_ne!(before, directory.address_of(&id()));
    assert_eq!(directory.sign(&id(), Some(3), B256::ZERO).await, Err(SignError::NoKey));
}

#[actix::test]
async fn actors_run_on_the_directorys_own_threads() {
    let fake = Arc::new(Fake::default());
    let directory = Directory::new(
        fake,
        vec![Spec { key: Some(Key::Custodial(3)), ..spec() }],
        Some(Custody::from_mnemonic(PHRASE).unwrap()),
        Arc::new(|| None),
        Config::default(),
    );
    let remote = directory.clone();
    let signed = tokio::task::spawn(async move { remote.sign(&id(), None, B256::ZERO).await }).await.unwrap().unwrap();
    assert_eq!(signed.recover_address_from_prehash(&B256::ZERO).ok(), directory.address_of(&id()));
}

#[test]
fn the_defaults_are_valid_and_a_zero_mailbox_is_not() {
    assert!(Config::default().validate().is_empty());
    let bad = Config { mailbox: 0, idle_after: Duration::ZERO, ..Config::default() };
    assert_eq!(bad.validate().len(), 2);
}
