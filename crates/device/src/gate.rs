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

/// The right to send so many messages as one. Dropping it (also by a panic) gives it back.
#[derive(Debug)]
pub(crate) struct Pass(Gate, usize);

/// No pass was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    Full,
    Closed,
}

impl Gate {
    /// A pass for up to `wanted` messages, unless `limit` of them are on their way or the actor has gone to rest.
    pub(crate) fn enter(&self, wanted: usize, limit: usize) -> Result<Pass, Turned> {
        let limit = limit.min(CLOSED - 1);
        let granted = |out: usize| wanted.min(limit.saturating_sub(out));
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |out| (granted(out) > 0).then(|| out + granted(out)))
            .map(|out| Pass(self.clone(), granted(out)))
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

impl Pass {
    /// For how many messages it is.
    pub(crate) fn messages(&self) -> usize {
        self.1
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.0.fetch_sub(self.1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_closes_only_when_no_pass_is_out() {
        let gate = Gate::default();
        let pass = gate.enter(1, 2).unwrap();
        assert!(!gate.close());
        drop(pass);
        assert!(gate.close() && gate.is_closed());
        assert_eq!(gate.enter(1, 2).unwrap_err(), Turned::Closed);
    }

    #[test]
    fn a_gate_gives_no_more_passes_than_its_limit() {
        let gate = Gate::default();
        let passes = [gate.enter(1, 3).unwrap(), gate.enter(7, 3).unwrap()];
        assert_eq!(passes.each_ref().map(Pass::messages), [1, 2]);
        assert_eq!(gate.enter(1, 3).unwrap_err(), Turned::Full);
        drop(passes);
        assert_eq!(gate.enter(1, 3).unwrap().messages(), 1);
    }
}
