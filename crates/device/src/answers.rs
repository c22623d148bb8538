//! The answers that an offer's publishes are owed, on their way through the actor: each is certainly given.

use std::{ops::Range, sync::Arc};

use actix::prelude::*;
use windlass_journal::Entry;

use crate::{
    actor::{Ingress, Listener, Outcome},
    gate::Pass,
};

/// Publishes that came together, and who hears of them.
pub(crate) struct Offered {
    pub(crate) publishes: Vec<Ingress>,
    listener: Arc<dyn Listener>,
}

impl Offered {
    fn hear(&self, outcomes: &[(usize, Outcome)]) {
        if !outcomes.is_empty() {
            self.listener.hear(&self.publishes, outcomes);
        }
    }

    fn unavailable(&self, places: impl Iterator<Item = usize>) {
        let outcomes: Vec<_> = places.map(|place| (place, Outcome::Unavailable)).collect();
        self.hear(&outcomes);
    }
}

/// What some places of an offer are owed. It is certainly given: dropped unanswered (a panic, a closed journal), it says
/// `Unavailable`.
pub(crate) struct Answer {
    offered: Arc<Offered>,
    places: Vec<usize>,
}

impl Answer {
    pub(crate) fn give(self, outcome: Outcome) {
        self.give_each(|_| outcome);
    }

    /// To each place the outcome of its turn.
    pub(crate) fn give_each(mut self, outcome: impl Fn(u64) -> Outcome) {
        let places = std::mem::take(&mut self.places);
        let mut outcomes = Vec::with_capacity(places.len());
        outcomes.extend(places.into_iter().zip((0..).map(outcome)));
        self.offered.hear(&outcomes);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.offered.unavailable(std::mem::take(&mut self.places).into_iter());
    }
}

/// An offer on its way through the mailbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Delivery {
    offered: Option<Arc<Offered>>,
    _pass: Pass,
}

impl Delivery {
    pub(crate) fn new(publishes: Vec<Ingress>, listener: Arc<dyn Listener>, pass: Pass) -> Self {
        Self { offered: Some(Arc::new(Offered { publishes, listener })), _pass: pass }
    }

    /// The offer. There until taken; what is not taken is answered with the message's end.
    pub(crate) fn take(&mut self) -> Option<Arc<Offered>> {
        self.offered.take()
    }

    /// The publishes of an offer that did not reach the mailbox.
    pub(crate) fn give_back(mut self) -> Vec<Ingress> {
        self.offered.take().and_then(Arc::into_inner).map(|offered| offered.publishes).unwrap_or_default()
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(offered) = self.offered.take() {
            offered.unavailable(0..offered.publishes.len());
        }
    }
}

/// The publishes of an offer whose turn has not come; they are answered even if it never comes.
pub(crate) struct Unjudged<'a> {
    offered: &'a Arc<Offered>,
    places: Range<usize>,
}

impl<'a> Unjudged<'a> {
    pub(crate) fn new(offered: &'a Arc<Offered>) -> Self {
        Self { offered, places: 0..offered.publishes.len() }
    }

    /// The next one's answer.
    pub(crate) fn answer(&mut self) -> Answer {
        Answer { offered: Arc::clone(self.offered), places: self.places.next().into_iter().collect() }
    }
}

impl Drop for Unjudged<'_> {
    fn drop(&mut self) {
        self.offered.unavailable(self.places.clone());
    }
}

/// New readings that follow each other, not yet with the journal.
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) entries: Vec<Entry>,
    /// The quarantine row that its one reading was.
    pub(crate) quarantine: Option<u64>,
    pub(crate) answer: Answer,
}

impl Run {
    pub(crate) fn new(offered: &Arc<Offered>) -> Self {
        let answer = Answer { offered: Arc::clone(offered), places: Vec::new() };
        Self { first: 0, entries: Vec::new(), quarantine: None, answer }
    }

    /// The next publish of `all` is this reading.
    pub(crate) fn push(&mut self, sequence: u64, entry: Entry, all: &mut Unjudged<'_>) {
        if self.entries.is_empty() {
            self.first = sequence;
            // Mostly all that is left becomes this run.
            self.entries.reserve_exact(all.places.len());
            self.answer.places.reserve_exact(all.places.len());
        }
        self.entries.push(entry);
        self.answer.places.extend(all.places.next());
    }
}
