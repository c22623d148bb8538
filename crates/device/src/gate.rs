//! Bounds what is on its way to an actor, and lets it rest only when nothing is.
//!
//! actix admits one message beyond the mailbox's capacity for each clone of an address, so an address that is cloned
//! for each message has no bound at all (0.13.5, checked by `a_full_mailbox_gives_the_publish_back`). The count here
//! is the bound that holds.
//!
//! Whoever sends to an actor holds a [`Pass`] until the message is handled. An actor closes its gate only when no
//! pass is out, and a closed gate gives none: so a message is never in the mailbox of an actor that went to rest.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The count that stands for "closed"; no actor ever has so many messages.
const CLOSED: usize = usize::MAX;

/// One actor's gate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<AtomicUsize>);

/// The right to send one message. Dropping it (also by a panic) gives it back.
#[derive(Debug)]
pub(crate) struct Pass(Gate);

/// No pass was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    Full,
    Closed,
}

impl Gate {
    /// A pass, unless `limit` of them are out or the actor has gone to rest.
    pub(crate) fn enter(&self, limit: usize) -> Result<Pass, Turned> {
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |out| (out < limit.min(CLOSED - 1)).then(|| out + 1))
            .map(|_| Pass(self.clone()))
            .map_err(|out| if out == CLOSED { Turned::Closed } else { Turned::Full })
    }

    /// Closes the gate if no pass is out; says whether it is closed.
    pub(crate) fn close(&self) -> bool {
        self.0.compare_exchange(0, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok() || self.is_closed()
    }

    /// Whether the actor has gone to rest.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) == CLOSED
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_closes_only_when_no_pass_is_out() {
        let gate = Gate::default();
        let pass = gate.enter(2).unwrap();
        assert!(!gate.close());
        drop(pass);
        assert!(gate.close() && gate.is_closed());
        assert_eq!(gate.enter(2).unwrap_err(), Turned::Closed);
    }

    #[test]
    fn a_gate_gives_no_more_passes_than_its_limit() {
        let gate = Gate::default();
        let passes = [gate.enter(2).unwrap(), gate.enter(2).unwrap()];
        assert_eq!(gate.enter(2).unwrap_err(), Turned::Full);
        drop(passes);
        assert!(gate.enter(2).is_ok());
    }
}
