//! The actor around one device's rules: journal in, answers out, the custodial key.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{self, Poll, Waker},
    time::Duration,
};

use actix::prelude::*;
use alloy::{
    primitives::{B256, Signature},
    signers::{SignerSync, local::PrivateKeySigner},
};
use tokio::{sync::mpsc, time::Instant};
use windlass_journal::{Append, AppendError, Entry, Error, Journal, Refusal, Release};
use windlass_reading::{DeviceId, Domain, Format, Payload, PublicKey, Reading, Reject, Settlement};

use crate::{
    Custody,
    answers::{Answer, Delivery, Offered, Run, Unjudged},
    device::{Device, IN_FLIGHT, Judgement, Next, Publish, Shelf},
    gate::{Gate, Pass},
    metrics,
};

/// Repeats that wait for a commit, over all readings of one device; beyond that they are told to come later.
const WAITERS: usize = 64;
/// What of a refused payload is kept, in bytes.
const QUARANTINED_BYTES: usize = 4_096;

/// A configured device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its id.
    pub id: DeviceId,
    /// How its payloads are read.
    pub format: Format,
    /// How its readings are settled.
    pub settlement: Settlement,
    /// Its key generation; starts at 1.
    pub epoch: u32,
    /// Its key, where it has one.
    pub key: Option<Key>,
    /// Indices of its earlier custodial keys, each with its generation: they still sign what was taken under them.
    pub former: Vec<(u32, u32)>,
    /// False for a device that was revoked or left the config: nothing is taken from it, but its key still signs.
    pub active: bool,
}

/// Who holds a device's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The gateway, at this index of its custody.
    Custodial(u32),
    /// The device, which signs each reading itself.
    Held(PublicKey),
}

impl Spec {
    /// The index of its custodial key of this generation; of the present one without.
    fn index(&self, epoch: Option<u32>) -> Option<u32> {
        match (epoch.filter(|e| *e != self.epoch), self.key) {
            (Some(epoch), _) => self.former.iter().find(|(e, _)| *e == epoch).map(|(_, index)| *index),
            (None, Some(Key::Custodial(index))) => Some(index),
            (None, _) => None,
        }
    }
}

/// What signatures of devices are for: the chain and contract, once they are known.
pub type DomainSource = Arc<dyn Fn() -> Option<Domain> + Send + Sync>;

/// What a device did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Published on its topic.
    Publish,
    /// Ended a QoS 2 delivery (PUBREL): its packet id is free for another publish.
    Release,
}

/// A publish on a device's topic, or the end of its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// Which of the two.
    pub step: Step,
    /// The topic it was published on.
    pub topic: Arc<str>,
    /// What was sent.
    pub payload: Payload,
    /// The packet id; absent for QoS 0.
    pub packet_id: Option<u16>,
    /// The DUP flag.
    pub duplicate: bool,
    /// QoS 2: the packet id is kept until it is released.
    pub exactly_once: bool,
    /// When the gateway received it, unix milliseconds.
    pub received_at_ms: u64,
    /// The quarantine row that it was, where an operator has it judged again: it comes alone, the row goes when it is
    /// taken, and another refusal makes no second row.
    pub quarantine: Option<u64>,
}

/// Hears what became of publishes that [`Directory::offer`](crate::Directory::offer) took.
pub trait Listener: Send + Sync {
    /// The outcomes of these places of the offer's publishes; each place is heard exactly once. On any thread; must not
    /// block.
    fn hear(&self, publishes: &[Ingress], outcomes: &[(usize, Outcome)]);
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A new reading; it is on disk. Acknowledge.
    Accepted {
        /// Its number.
        sequence: u64,
    },
    /// A reading that was on disk already. Acknowledge.
    Repeated {
        /// Its number.
        sequence: u64,
    },
    /// The packet id is free, on disk too.
    Released {
        /// Whether it was in use.
        known: bool,
    },
    /// Refused for what it is; its quarantine row is on disk.
    Rejected(Reject),
    /// Nothing is stored. Do not acknowledge; it may be sent again.
    Unavailable,
}

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The device is not configured, or no longer. Do not try again.
    #[error("device is not configured")]
    UnknownDevice,
    /// The device has no custodial key. Do not try again.
    #[error("device has no custodial key")]
    NoKey,
    /// The actor could not be reached (shutdown). Try again later.
    #[error("device actor is unavailable")]
    Unavailable,
    /// The key refused to sign. Try again; if it persists the custody is broken.
    #[error("signing failed")]
    Failed,
}

/// A device's configuration, read by its actor before each message, so that a change cannot be lost in a full mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Slot(Arc<RwLock<Spec>>);

impl Slot {
    pub(crate) fn new(spec: Spec) -> Self {
        Self(Arc::new(RwLock::new(spec)))
    }

    pub(crate) fn get(&self) -> Spec {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, spec: Spec) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = spec;
    }
}

/// What the journal has of one device.
struct Stored<'a> {
    journal: &'a dyn Journal,
    device: &'a DeviceId,
}

impl Shelf for Stored<'_> {
    fn message(&self, id: &str) -> Result<Option<u64>, Error> {
        self.journal.find_message(self.device, id)
    }

    fn reading(&self, sequence: u64) -> Result<Option<Reading>, Error> {
        self.journal.find_reading(self.device, sequence)
    }
}

/// Signs a digest with the device's custodial key.
#[derive(Message)]
#[rtype(result = "Result<Signature, SignError>")]
pub(crate) struct Sign {
    /// Of which key generation; the present one without.
    pub(crate) epoch: Option<u32>,
    pub(crate) digest: B256,
    pub(crate) _pass: Pass,
}

/// The journal answered a run.
struct Settled {
    first: u64,
    readings: u64,
    outcome: Result<(), AppendError>,
}

/// What an actor is made of.
pub(crate) struct Parts {
    pub(crate) slot: Slot,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) custody: Option<Custody>,
    pub(crate) domain: DomainSource,
    pub(crate) gate: Gate,
    pub(crate) mailbox: usize,
    pub(crate) idle_after: Duration,
}

/// One device's actor. Every handler is synchronous: readings keep their order.
pub(crate) struct DeviceActor {
    parts: Parts,
    device: Option<Device>,
    signer: Option<(u32, PrivateKeySigner)>,
    waiters: HashMap<u64, Vec<Answer>>,
    /// One permit is reserved for each entry before it is handed over, so an outcome always finds room.
    outcomes: mpsc::Sender<Settled>,
    arrivals: mpsc::Receiver<Settled>,
    last_active: Instant,
}

impl Actor for DeviceActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.parts.mailbox);
        ctx.spawn(Waiting);
        self.rest_later(ctx, self.parts.idle_after);
    }
}

impl Handler<Delivery> for DeviceActor {
    type Result = ();

    fn handle(&mut self, mut delivery: Delivery, _: &mut Self::Context) {
        self.last_active = Instant::now();
        self.hear(&mut task::Context::from_waker(Waker::noop()));
        if let Some(offered) = delivery.take() {
            self.take(&offered);
        }
    }
}

/// Hears the journal's answers as they come, while a repeat waits for one. Without that the next publish is soon enough,
/// and nobody has to be woken.
struct Waiting;

impl ActorFuture<DeviceActor> for Waiting {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut DeviceActor,
        _: &mut Context<DeviceActor>,
        cx: &mut task::Context<'_>,
    ) -> Poll<()> {
        if !actor.waiters.is_empty() {
            actor.hear(cx);
        }
        Poll::Pending
    }
}

impl Handler<Sign> for DeviceActor {
    type Result = Result<Signature, SignError>;

    fn handle(&mut self, sign: Sign, _: &mut Self::Context) -> Self::Result {
        self.last_active = Instant::now();
        let index = self.parts.slot.get().index(sign.epoch).ok_or(SignError::NoKey)?;
        if self.signer.as_ref().is_none_or(|(known, _)| *known != index) {
            let custody = self.parts.custody.as_ref().ok_or(SignError::NoKey)?;
            self.signer = Some((index, custody.signer(index).ok_or(SignError::NoKey)?));
        }
        let (_, signer) = self.signer.as_ref().ok_or(SignError::NoKey)?;
        signer.sign_hash_sync(&sign.digest).map_err(|_| SignError::Failed)
    }
}

impl DeviceActor {
    pub(crate) fn new(parts: Parts) -> Self {
        let (outcomes, arrivals) = mpsc::channel(IN_FLIGHT);
        Self {
            parts,
            device: None,
            signer: None,
            waiters: HashMap::new(),
            outcomes,
            arrivals,
            last_active: Instant::now(),
        }
    }

    /// Hears all that the journal has answered.
    fn hear(&mut self, cx: &mut task::Context<'_>) {
        while let Poll::Ready(Some(settled)) = self.arrivals.poll_recv(cx) {
            self.settled(settled);
        }
    }

    fn settled(&mut self, Settled { first, readings, outcome }: Settled) {
        for sequence in first..first + readings {
            let next = self.device.as_mut().map(|device| device.settled(sequence, &outcome));
            if next == Some(Next::Reload) {
                let device = self.parts.slot.get().id;
                tracing::warn!(%device, "journal was ahead of the device; its state is read again");
                self.ready();
            }
            if self.waiters.is_empty() {
                continue;
            }
            let answer = if outcome.is_ok() { Outcome::Repeated { sequence } } else { Outcome::Unavailable };
            for waiter in self.waiters.remove(&sequence).unwrap_or_default() {
                waiter.give(answer);
            }
        }
    }

    fn take(&mut self, offered: &Arc<Offered>) {
        let mut all = Unjudged::new(offered);
        if self.ready().is_none() {
            return;
        }
        let mut run = Run::new(offered);
        for ingress in &offered.publishes {
            if ingress.step == Step::Release {
                // What the same packet id brought before goes first.
                self.hand_over(std::mem::replace(&mut run, Run::new(offered)));
                self.release(ingress, all.answer());
                continue;
            }
            let Some(device) = self.device.as_mut() else { return };
            let publish = Publish {
                payload: &ingress.payload,
                packet_id: ingress.packet_id,
                duplicate: ingress.duplicate,
                received_at_ms: ingress.received_at_ms,
            };
            let shelf = Stored { journal: self.parts.journal.as_ref(), device: &device.id };
            match device.judge(publish, &shelf) {
                Judgement::Repeat { sequence } => all.answer().give(Outcome::Repeated { sequence }),
                Judgement::Await { sequence } => self.wait(sequence, all.answer()),
                Judgement::Reject(reject) if ingress.quarantine.is_some() => {
                    all.answer().give(Outcome::Rejected(reject));
                }
                Judgement::Reject(reject) => self.quarantine(ingress, reject, all.answer()),
                Judgement::Later => {
                    device.put_off();
                    all.answer().give(Outcome::Unavailable);
                }
                Judgement::Take { draft, sequence } => {
                    let Ingress { packet_id, exactly_once, received_at_ms, quarantine, .. } = *ingress;
                    run.quarantine = quarantine;
                    device.handed_over(sequence, packet_id, exactly_once, &draft);
                    let entry = Entry { draft, packet_id, exactly_once, received_at_ms };
                    run.push(sequence, entry, &mut all);
                }
            }
        }
        self.hand_over(run);
    }

    /// The device's rules with the newest configuration, read from the journal first where needed.
    fn ready(&mut self) -> Option<&mut Device> {
        let spec = self.parts.slot.get();
        if self.device.as_ref().is_none_or(Device::must_reload) {
            let state = match self.parts.journal.device(&spec.id) {
                Ok(Some(state)) => state,
                Ok(None) => return None,
                Err(error) => {
                    tracing::warn!(device = %spec.id, %error, "device state cannot be read");
                    return None;
                }
            };
            match &mut self.device {
                Some(device) => device.reload(state),
                None => {
                    self.device = Some(Device::new(spec.id.clone(), spec.format, spec.settlement, spec.epoch, state));
                }
            }
        }
        let device = self.device.as_mut()?;
        device.format = spec.format;
        device.settlement = spec.settlement;
        device.epoch = spec.epoch;
        if spec.format == Format::Signed {
            device.key = spec.key.and_then(|key| if let Key::Held(public) = key { Some(public) } else { None });
            if device.domain.is_none() {
                device.domain = (self.parts.domain)();
            }
        }
        Some(device)
    }

    fn wait(&mut self, sequence: u64, answer: Answer) {
        if self.waiters.values().map(Vec::len).sum::<usize>() >= WAITERS {
            return answer.give(Outcome::Unavailable);
        }
        self.waiters.entry(sequence).or_default().push(answer);
    }

    fn quarantine(&self, ingress: &Ingress, reject: Reject, answer: Answer) {
        let refusal = Refusal {
            device: Some(self.parts.slot.get().id),
            topic: ingress.topic.as_ref().into(),
            payload: ingress.payload.iter().take(QUARANTINED_BYTES).copied().collect(),
            reject,
            received_at_ms: ingress.received_at_ms,
            reply: Box::new(move |stored| {
                if stored.is_ok() {
                    metrics::rejected(reject);
                    answer.give(Outcome::Rejected(reject));
                }
            }),
        };
        // A refused entry is dropped, and its answer says `Unavailable`.
        drop(self.parts.journal.quarantine(refusal));
    }

    /// Gives a run to the journal. If that has no room, the run was never taken.
    fn hand_over(&mut self, run: Run) {
        let Run { first, entries, quarantine, answer } = run;
        let readings = entries.len() as u64;
        let (Some(device), 1..) = (self.device.as_mut(), readings) else { return };
        let Ok(permit) = self.outcomes.clone().try_reserve_owned() else { return self.take_back(first) };
        let settlement = device.settlement;
        let entry = Append {
            device: device.id.clone(),
            epoch: device.epoch,
            settlement,
            sequence: first,
            readings: entries,
            quarantine,
            reply: Box::new(move |stored| {
                // On the writer's thread: the acknowledgement does not wait for this actor's turn.
                if stored.is_ok() {
                    metrics::accepted(settlement, readings);
                    answer.give_each(|turn| Outcome::Accepted { sequence: first + turn });
                } else {
                    drop(answer);
                }
                permit.send(Settled { first, readings, outcome: stored.map(|_| ()) });
            }),
        };
        // A refused entry is dropped with its answer and its permit.
        if self.parts.journal.append(entry).is_err() {
            self.take_back(first);
        }
    }

    fn take_back(&mut self, first: u64) {
        if let Some(device) = self.device.as_mut() {
            device.taken_back(first);
        }
        // Repeats of what was not taken are not taken either; their answers say `Unavailable`.
        self.waiters.retain(|sequence, _| *sequence < first);
    }

    fn release(&mut self, ingress: &Ingress, answer: Answer) {
        let (Some(device), Some(packet_id)) = (self.device.as_mut(), ingress.packet_id) else { return };
        let entry = Release {
            device: device.id.clone(),
            packet_id,
            reply: Box::new(move |freed| {
                if let Ok(known) = freed {
                    answer.give(Outcome::Released { known });
                }
            }),
        };
        // A refused entry is dropped, and its answer says `Unavailable`.
        if self.parts.journal.release(entry).is_ok() {
            device.release(packet_id);
        }
    }

    fn rest_later(&self, ctx: &mut Context<Self>, after: Duration) {
        ctx.run_later(after, |actor, ctx| {
            actor.hear(&mut task::Context::from_waker(Waker::noop()));
            let rested = actor.last_active.elapsed();
            let quiet = actor.device.as_ref().is_none_or(Device::is_quiet);
            if rested < actor.parts.idle_after {
                actor.rest_later(ctx, actor.parts.idle_after - rested);
            } else if quiet && actor.parts.gate.close() {
                ctx.stop();
            } else {
                actor.rest_later(ctx, actor.parts.idle_after);
            }
        });
    }
}
