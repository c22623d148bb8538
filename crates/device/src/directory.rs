//! Where every device's actor is found: started when needed, rebuilt when it rested or failed.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use actix::prelude::*;
use actix_rt::{Arbiter, ArbiterHandle};
use alloy::primitives::{Address, B256, Signature};
use dashmap::DashMap;
use windlass_journal::Journal;
use windlass_reading::{DeviceId, Settlement};

use crate::{
    Config, Custody, DomainSource, Ingress, Key, Listener, SignError, Spec,
    actor::{DeviceActor, Parts, Sign, Slot},
    answers::Delivery,
    gate::{Gate, Pass, Turned},
    metrics::{self, Cause},
};

/// How often a message is offered to a fresh actor before the device counts as unavailable. One is enough for an
/// actor that rested or panicked; more only meets a stopped arbiter.
const ATTEMPTS: usize = 3;

/// All devices and their actors. Cloning shares it; every method may be called from any thread.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    entries: DashMap<DeviceId, Arc<Entry>>,
    journal: Arc<dyn Journal>,
    custody: Option<Custody>,
    domain: DomainSource,
    config: Config,
    own: Vec<Arbiter>,
    handles: Vec<ArbiterHandle>,
    turn: AtomicUsize,
}

struct Entry {
    /// False for a device that was removed: it publishes nothing any more, but still signs what it published.
    configured: AtomicBool,
    slot: Slot,
    running: Mutex<Option<Running>>,
}

struct Running {
    address: Addr<DeviceActor>,
    gate: Gate,
}

/// The last publishes of an offer were not taken: its listener never hears of them.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The device's mailbox is full: stop reading its socket for a while, then offer these again.
    Full(Vec<Ingress>),
    /// The device is not configured.
    Unknown(Vec<Ingress>),
    /// No actor can run (shutdown).
    Unavailable(Vec<Ingress>),
}

impl Directory {
    /// Makes the directory; actors start with their first message. Call inside an actix system.
    pub fn new(
        journal: Arc<dyn Journal>,
        specs: Vec<Spec>,
        custody: Option<Custody>,
        domain: DomainSource,
        config: Config,
    ) -> Self {
        let own: Vec<Arbiter> = (0..config.arbiters).map(|_| Arbiter::new()).collect();
        let handles = if own.is_empty() { vec![Arbiter::current()] } else { own.iter().map(Arbiter::handle).collect() };
        let directory = Self(Arc::new(Inner {
            entries: DashMap::new(),
            journal,
            custody,
            domain,
            config,
            own,
            handles,
            turn: AtomicUsize::new(0),
        }));
        directory.replace(specs);
        directory
    }

    /// Gives publishes to their device's actor, in order and in one message. Never waits. `listener` hears the outcome
    /// of each that was taken, exactly once, by its place in `publishes`.
    ///
    /// # Errors
    /// [`Refused`] gives back those that were not taken.
    pub fn offer(
        &self,
        device: &DeviceId,
        mut publishes: Vec<Ingress>,
        listener: &Arc<dyn Listener>,
    ) -> Result<(), Refused> {
        let offered = publishes.len();
        if offered == 0 {
            return Ok(());
        }
        let entry = self.entry(device).filter(|e| e.configured.load(Ordering::Relaxed));
        let Some(entry) = entry else { return Err(Refused::Unknown(publishes)) };
        for _ in 0..ATTEMPTS {
            let (address, pass) = match self.enter(&entry, offered, self.0.config.mailbox) {
                Ok(way) => way,
                Err(Turned::Full) => {
                    metrics::mailbox_full();
                    return Err(Refused::Full(publishes));
                }
                Err(Turned::Closed) => break,
            };
            let granted = pass.messages();
            let late = publishes.split_off(granted);
            match address.try_send(Delivery::new(publishes, Arc::clone(listener), pass)) {
                Ok(()) if granted == offered => return Ok(()),
                Ok(()) => {
                    metrics::mailbox_full();
                    return Err(Refused::Full(late));
                }
                Err(SendError::Full(back)) => {
                    metrics::mailbox_full();
                    publishes = back.give_back();
                    publishes.extend(late);
                    return Err(Refused::Full(publishes));
                }
                Err(SendError::Closed(back)) => {
                    publishes = back.give_back();
                    publishes.extend(late);
                }
            }
        }
        Err(Refused::Unavailable(publishes))
    }

    /// Signs `digest` with the device's custodial key of this generation (of the present one without). Waits its turn in
    /// the mailbox; dropping the future is harmless.
    ///
    /// # Errors
    /// [`SignError`] says why nothing was signed.
    pub async fn sign(&self, device: &DeviceId, epoch: Option<u32>, digest: B256) -> Result<Signature, SignError> {
        let entry = self.entry(device).ok_or(SignError::UnknownDevice)?;
        for _ in 0..ATTEMPTS {
            // Callers wait for their answer, so their number is the bound.
            let Ok((address, pass)) = self.enter(&entry, 1, usize::MAX) else { break };
            match address.send(Sign { epoch, digest, _pass: pass }).await {
                Ok(result) => return result,
                Err(MailboxError::Closed | MailboxError::Timeout) => {}
            }
        }
        Err(SignError::Unavailable)
    }

    /// The address of the device's custodial key, where it has one.
    pub fn address_of(&self, device: &DeviceId) -> Option<Address> {
        let Some(Key::Custodial(index)) = self.entry(device)?.slot.get().key else { return None };
        self.0.custody.as_ref()?.address(index)
    }

    /// How the device's readings are settled.
    pub fn settlement_of(&self, device: &DeviceId) -> Option<Settlement> {
        Some(self.entry(device)?.slot.get().settlement)
    }

    /// Makes `specs` the configured devices. A changed device's next message sees the change; a removed one's
    /// publishes already in its mailbox are still stored, and its key still signs for what is not settled yet. The
    /// journal must know new devices before this.
    pub fn replace(&self, specs: Vec<Spec>) {
        let keep: HashSet<DeviceId> = specs.iter().map(|s| s.id.clone()).collect();
        for spec in specs {
            if let Some(entry) = self.entry(&spec.id) {
                entry.configured.store(spec.active, Ordering::Relaxed);
                entry.slot.set(spec);
                continue;
            }
            let id = spec.id.clone();
            let configured = AtomicBool::new(spec.active);
            self.0.entries.insert(id, Arc::new(Entry { configured, slot: Slot::new(spec), running: Mutex::new(None) }));
        }
        for entry in self.0.entries.iter().filter(|e| !keep.contains(e.key())) {
            entry.configured.store(false, Ordering::Relaxed);
        }
    }

    /// How many devices are configured.
    pub fn len(&self) -> usize {
        self.0.entries.iter().filter(|e| e.configured.load(Ordering::Relaxed)).count()
    }

    /// Whether no device is configured.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn entry(&self, device: &DeviceId) -> Option<Arc<Entry>> {
        self.0.entries.get(device).map(|e| Arc::clone(&e))
    }

    /// A live actor's address and the right to send it up to `wanted` messages.
    fn enter(&self, entry: &Entry, wanted: usize, limit: usize) -> Result<(Addr<DeviceActor>, Pass), Turned> {
        let mut running = entry.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Running { address, gate }) = running.as_ref() {
            if address.connected() {
                match gate.enter(wanted, limit) {
                    Ok(pass) => return Ok((address.clone(), pass)),
                    Err(Turned::Full) => return Err(Turned::Full),
                    Err(Turned::Closed) => {}
                }
            }
            metrics::rebuilt(if gate.is_closed() { Cause::Idle } else { Cause::Fault });
        }
        let fresh = self.start(entry.slot.clone()).ok_or(Turned::Closed)?;
        let way = (fresh.address.clone(), fresh.gate.enter(wanted, limit)?);
        *running = Some(fresh);
        Ok(way)
    }

    fn start(&self, slot: Slot) -> Option<Running> {
        let inner = &self.0;
        let turn = inner.turn.fetch_add(1, Ordering::Relaxed) % inner.handles.len().max(1);
        let gate = Gate::default();
        let parts = Parts {
            slot,
            journal: Arc::clone(&inner.journal),
            custody: inner.custody.clone(),
            domain: inner.domain.clone(),
            gate: gate.clone(),
            mailbox: inner.config.mailbox,
            idle_after: inner.config.idle_after,
        };
        let address = DeviceActor::start_in_arbiter(inner.handles.get(turn)?, move |_| DeviceActor::new(parts));
        Some(Running { address, gate })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for arbiter in &self.own {
            arbiter.stop();
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("devices", &self.len()).finish_non_exhaustive()
    }
}
