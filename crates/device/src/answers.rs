//! The answers that an offer's publishes are owed, on their way through the actor: each is certainly given.

use std::{ops::Range, sync::Arc};

use actix::prelude::*;
use windlass_journal::Entry;

use crate::{
    actor::{Ingress, Listener, Outcome},
    gate::Pass,
};

/// What some places of an offer are owed. It is certainly given: dropped unanswered (a panic, a closed journal), it says
/// `Unavailable`.
pub(crate) struct Answer {
    listener: Arc<dyn Listener>,
    pub(crate) places: Vec<usize>,
}

impl Answer {
    pub(crate) fn new(listener: &Arc<dyn Listener>, places: Vec<usize>) -> Self {
        Self { listener: Arc::clone(listener), places }
    }

    pub(crate) fn give(self, outcome: Outcome) {
        self.give_each(|_| outcome);
    }

    /// To each place the outcome of its turn.
    pub(crate) fn give_each(mut self, outcome: impl Fn(u64) -> Outcome) {
        let outcomes: Vec<_> = std::mem::take(&mut self.places).into_iter().zip((0..).map(outcome)).collect();
        self.listener.hear(&outcomes);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.places.is_empty() {
            let outcomes: Vec<_> = self.places.iter().map(|place| (*place, Outcome::Unavailable)).collect();
            self.listener.hear(&outcomes);
        }
    }
}

/// Publishes of one offer on their way through the mailbox.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Delivery {
    publishes: Vec<Ingress>,
    pub(crate) listener: Arc<dyn Listener>,
    _pass: Pass,
}

impl Delivery {
    pub(crate) fn new(publishes: Vec<Ingress>, listener: Arc<dyn Listener>, pass: Pass) -> Self {
        Self { publishes, listener, _pass: pass }
    }

    /// The publishes, untouched. There until taken; what is not taken is answered with the message's end.
    pub(crate) fn take(&mut self) -> Vec<Ingress> {
        std::mem::take(&mut self.publishes)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        drop(Answer::new(&self.listener, (0..self.publishes.len()).collect()));
    }
}

/// The publishes of an offer whose turn has not come; they are answered even if it never comes.
pub(crate) struct Unjudged<'a> {
    pub(crate) listener: &'a Arc<dyn Listener>,
    pub(crate) places: Range<usize>,
}

impl Unjudged<'_> {
    /// The next one's answer.
    pub(crate) fn answer(&mut self) -> Answer {
        Answer::new(self.listener, self.places.next().into_iter().collect())
    }
}

impl Drop for Unjudged<'_> {
    fn drop(&mut self) {
        drop(Answer::new(self.listener, self.places.clone().collect()));
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
    pub(crate) fn new(listener: &Arc<dyn Listener>) -> Self {
        Self { first: 0, entries: Vec::new(), quarantine: None, answer: Answer::new(listener, Vec::new()) }
    }

    /// The next publish of `all` is this reading.
    pub(crate) fn push(&mut self, sequence: u64, entry: Entry, all: &mut Unjudged<'_>) {
        if self.entries.is_empty() {
            self.first = sequence;
        }
        self.entries.push(entry);
        self.answer.places.extend(all.places.next());
    }
}
