//! The rules of one device: what is a repeat, what is refused, and which number a reading gets.
//!
//! Check, hand over, then commit: [`Device::judge`] changes nothing, [`Device::handed_over`] moves the sequence only
//! after the journal took the entry, and [`Device::settled`] hears what became of it. The journal refuses everything
//! that is queued behind a failed entry, so after a failure nothing more is taken until all of them have come back.

use std::collections::VecDeque;

use windlass_journal::{AppendError, DeviceState, Error, Recent};
use windlass_reading::{Claim, DeviceId, Domain, Draft, Format, Payload, PublicKey, Reading, Reject, Settlement};

/// QoS 1 publishes by which a redelivery is known. MQTT clients keep 10–65 in flight.
const RECENT: usize = 64;
/// QoS 2 publishes whose packet id the device has not released. A session may have as many open as the broker's front
/// lets it; more only come together when a device abandons session after session.
const UNRELEASED: usize = 1_024;
/// Readings handed to the journal and not yet answered. Beyond that a publish is refused for now.
pub(crate) const IN_FLIGHT: usize = 256;

/// An incoming publish, as the rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publish<'a> {
    pub(crate) payload: &'a [u8],
    /// Absent for QoS 0.
    pub(crate) packet_id: Option<u16>,
    pub(crate) duplicate: bool,
    pub(crate) received_at_ms: u64,
}

/// What a publish is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// A stored reading came again.
    Repeat { sequence: u64 },
    /// A reading came again whose commit is still out: answer it when that one is answered, never before.
    Await { sequence: u64 },
    /// Refused for what it is; belongs into quarantine.
    Reject(Reject),
    /// A new reading, to be handed over under this number.
    Take { draft: Draft, sequence: u64 },
    /// Not now: the journal failed, or too much is in flight. Nothing was decided about the publish.
    Later,
}

/// What of the journal a judgement may need.
pub(crate) trait Shelf {
    /// The number of the stored reading that came with this message id.
    fn message(&self, id: &str) -> Result<Option<u64>, Error>;
    /// The stored reading with this number.
    fn reading(&self, sequence: u64) -> Result<Option<Reading>, Error>;
}

/// What the shell has to do after an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    /// The journal holds readings of this device that these rules do not know: read its state again.
    Reload,
}

#[derive(Debug)]
struct InFlight {
    packet: Option<(u16, Payload)>,
    exactly_once: bool,
    named: Option<Box<Named>>,
}

/// What a reading that its device names or signs is known by; few have it.
#[derive(Debug)]
struct Named {
    message_id: Option<String>,
    /// Time and payload of what the device signed.
    signed: Option<(u64, Payload)>,
}

/// One device's rules and state.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) format: Format,
    pub(crate) settlement: Settlement,
    pub(crate) epoch: u32,
    /// The key by which its own signatures are checked (`signed`).
    pub(crate) key: Option<PublicKey>,
    /// What they are for; absent while there is no contract.
    pub(crate) domain: Option<Domain>,
    /// The number of the next reading.
    next: u64,
    recent: VecDeque<Recent>,
    /// How many of `recent` are QoS 2 publishes.
    unreleased: usize,
    /// In the order of their numbers, which is the order of their outcomes.
    in_flight: VecDeque<(u64, InFlight)>,
    /// An entry failed, and others behind it are still out.
    failing: bool,
    /// The journal was ahead of these rules.
    behind: bool,
    /// The next reading was here and was told to come again: one that signs its numbers may run ahead meanwhile.
    awaited: bool,
}

impl Device {
    pub(crate) fn new(id: DeviceId, format: Format, settlement: Settlement, epoch: u32, state: DeviceState) -> Self {
        let mut device = Self {
            id,
            format,
            settlement,
            epoch,
            key: None,
            domain: None,
            next: 1,
            recent: VecDeque::new(),
            unreleased: 0,
            in_flight: VecDeque::new(),
            failing: false,
            behind: false,
            awaited: false,
        };
        device.reload(state);
        device
    }

    /// Takes the journal's word for everything. Only while nothing is in flight.
    pub(crate) fn reload(&mut self, state: DeviceState) {
        self.next = state.last_sequence + 1;
        self.recent.clear();
        self.unreleased = 0;
        for recent in state.recent {
            self.remember(recent);
        }
        self.failing = false;
        self.behind = false;
        self.awaited = false;
    }

    /// Judges a publish. An error of the shelf means "later".
    pub(crate) fn judge(&self, publish: Publish<'_>, shelf: &impl Shelf) -> Judgement {
        let decoded = self.format.decode(publish.payload, publish.received_at_ms);
        let mut draft = match decoded {
            Ok(draft) => draft,
            Err(reject) => return Judgement::Reject(reject),
        };
        if let Some(claim) = draft.claim.take() {
            return self.judge_signed(draft, claim, shelf);
        }
        if let Some(sequence) = self.redelivered(&publish, &draft) {
            return self.again(sequence);
        }
        if let Some(id) = &draft.message_id {
            let named = |f: &InFlight| f.named.as_ref().is_some_and(|named| named.message_id.as_ref() == Some(id));
            let pending = self.in_flight.iter().find(|(_, f)| named(f));
            if let Some((sequence, _)) = pending {
                return self.again(*sequence);
            }
            match shelf.message(id) {
                Ok(Some(sequence)) => return Judgement::Repeat { sequence },
                Ok(None) => {}
                Err(_) => return Judgement::Later,
            }
        }
        if let Err(reject) = self.format.check_settlement(&draft.payload, self.settlement) {
            return Judgement::Reject(reject);
        }
        if self.is_busy() {
            return Judgement::Later;
        }
        Judgement::Take { draft, sequence: self.next }
    }

    /// The device numbers and signs its readings itself: its number says what is a repeat, and nothing else does.
    fn judge_signed(&self, draft: Draft, claim: Claim, shelf: &impl Shelf) -> Judgement {
        if claim.sequence < self.next {
            return self.judge_known(&draft, &claim, shelf);
        }
        if claim.epoch != self.epoch {
            return Judgement::Reject(Reject::WrongEpoch);
        }
        let (Some(key), Some(domain)) = (&self.key, &self.domain) else { return Judgement::Later };
        let reading = Reading {
            device: self.id.clone(),
            epoch: claim.epoch,
            sequence: claim.sequence,
            observed_at_ms: draft.observed_at_ms,
            payload: draft.payload.into_vec(),
        };
        let Some(signature) = key.verified(domain.reading(&reading), &claim.signature) else {
            return Judgement::Reject(Reject::BadSignature);
        };
        let ahead = claim.sequence > self.next;
        // What is missing before it may have been told to come again; then it is to come again after that.
        if self.is_busy() || (ahead && self.awaited) {
            return Judgement::Later;
        }
        if ahead {
            return Judgement::Reject(Reject::SequenceGap);
        }
        let Reading { payload, sequence, .. } = reading;
        let claim = Claim { signature: signature.to_vec(), ..claim };
        Judgement::Take { draft: Draft { payload: payload.into(), claim: Some(claim), ..draft }, sequence }
    }

    /// A number that is used: by the same reading, or by another one.
    fn judge_known(&self, draft: &Draft, claim: &Claim, shelf: &impl Shelf) -> Judgement {
        let sequence = claim.sequence;
        let same = match self.pending(sequence).map(|f| f.named.as_ref().and_then(|named| named.signed.as_ref())) {
            Some(signed) => signed.is_some_and(|(at, p)| (*at, p) == (draft.observed_at_ms, &draft.payload)),
            None => match shelf.reading(sequence) {
                Ok(Some(r)) => {
                    (r.epoch, r.observed_at_ms, r.payload.as_slice())
                        == (claim.epoch, draft.observed_at_ms, draft.payload.as_slice())
                }
                // It has left for an archive. Only a repeat is that old.
                Ok(None) => true,
                Err(_) => return Judgement::Later,
            },
        };
        if same { self.again(sequence) } else { Judgement::Reject(Reject::SequenceReused) }
    }

    fn pending(&self, sequence: u64) -> Option<&InFlight> {
        self.place(sequence).and_then(|at| self.in_flight.get(at)).map(|(_, entry)| entry)
    }

    fn place(&self, sequence: u64) -> Option<usize> {
        // Mostly the numbers go on by one, and the oldest is asked for.
        let (first, _) = self.in_flight.front()?;
        let near = usize::try_from(sequence.checked_sub(*first)?).ok()?;
        if self.in_flight.get(near).is_some_and(|(number, _)| *number == sequence) {
            return Some(near);
        }
        self.in_flight.binary_search_by_key(&sequence, |(number, _)| *number).ok()
    }

    fn is_busy(&self) -> bool {
        self.failing || self.behind || self.in_flight.len() >= IN_FLIGHT
    }

    /// The journal took the entry: the number is used.
    pub(crate) fn handed_over(&mut self, sequence: u64, packet_id: Option<u16>, exactly_once: bool, draft: &Draft) {
        let packet = packet_id.map(|id| (id, draft.payload.clone()));
        let named = (draft.claim.is_some() || draft.message_id.is_some()).then(|| {
            let signed = draft.claim.is_some().then(|| (draft.observed_at_ms, draft.payload.clone()));
            Box::new(Named { message_id: draft.message_id.clone(), signed })
        });
        self.in_flight.push_back((sequence, InFlight { packet, exactly_once, named }));
        self.next = sequence + 1;
        self.awaited = false;
    }

    /// A publish was told to come later.
    pub(crate) fn put_off(&mut self) {
        self.awaited = true;
    }

    /// The journal has no room for the newest ones, from this number on: they were never taken.
    pub(crate) fn taken_back(&mut self, first: u64) {
        self.in_flight.retain(|(sequence, _)| *sequence < first);
        self.next = first;
        self.awaited = true;
    }

    /// The journal answered the entry with this number.
    pub(crate) fn settled(&mut self, sequence: u64, outcome: &Result<(), AppendError>) -> Next {
        let entry = self.place(sequence).and_then(|at| self.in_flight.remove(at)).map(|(_, entry)| entry);
        self.awaited |= outcome.is_err();
        match outcome {
            Ok(()) => {
                self.next = self.next.max(sequence + 1);
                if let Some(InFlight { packet: Some((packet_id, payload)), exactly_once, .. }) = entry {
                    if exactly_once {
                        self.release(packet_id);
                    }
                    self.remember(Recent { packet_id, sequence, payload, unreleased: exactly_once });
                }
            }
            Err(AppendError::OutOfOrder { expected, got }) => {
                self.next = *expected;
                self.failing = true;
                // More is stored than was ever handed over from here: an earlier actor's entries came in late.
                self.behind |= expected > got;
            }
            Err(AppendError::UnknownDevice | AppendError::Unavailable(_)) => {
                self.next = self.next.min(sequence);
                self.failing = true;
            }
        }
        if !self.in_flight.is_empty() {
            return Next::GoOn;
        }
        // Most devices send a reading now and then.
        self.in_flight = VecDeque::new();
        self.failing = false;
        if self.behind { Next::Reload } else { Next::GoOn }
    }

    /// Whether the journal's state must be read before anything else is taken.
    pub(crate) fn must_reload(&self) -> bool {
        self.behind && self.in_flight.is_empty()
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The packet id of a QoS 2 publish is free: what comes with it from now on is something new.
    pub(crate) fn release(&mut self, packet_id: u16) {
        if self.unreleased > 0 {
            self.recent.retain(|r| !(r.unreleased && r.packet_id == packet_id));
            self.unreleased = self.recent.iter().filter(|r| r.unreleased).count();
        }
    }

    /// Keeps what a redelivery is known by; of each kind the oldest one goes when there are too many.
    fn remember(&mut self, recent: Recent) {
        let kind = recent.unreleased;
        self.recent.push_back(recent);
        self.unreleased += usize::from(kind);
        let (count, most) =
            if kind { (self.unreleased, UNRELEASED) } else { (self.recent.len() - self.unreleased, RECENT) };
        if count <= most {
            return;
        }
        // Without QoS 2 it is the first.
        if let Some(oldest) = self.recent.iter().position(|r| r.unreleased == kind) {
            self.recent.remove(oldest);
            self.unreleased -= usize::from(kind);
        }
    }

    /// The number of the publish that this one repeats, by DUP flag, packet id and payload.
    ///
    /// Only the newest publish with the packet id counts: an older one was acknowledged, or its id could not have
    /// been used again (MQTT 3.1.1 section 2.3.1).
    fn redelivered(&self, publish: &Publish<'_>, draft: &Draft) -> Option<u64> {
        let packet_id = publish.packet_id.filter(|_| publish.duplicate)?;
        let pending = self
            .in_flight
            .iter()
            .rev()
            .find_map(|(s, f)| f.packet.as_ref().filter(|p| p.0 == packet_id).map(|p| (*s, &p.1)));
        let stored = || self.recent.iter().rev().find(|r| r.packet_id == packet_id).map(|r| (r.sequence, &r.payload));
        let (sequence, payload) = pending.or_else(stored)?;
        (*payload == draft.payload).then_some(sequence)
    }

    fn again(&self, sequence: u64) -> Judgement {
        if self.pending(sequence).is_some() { Judgement::Await { sequence } } else { Judgement::Repeat { sequence } }
    }
}

#[cfg(test)]
mod tests;
