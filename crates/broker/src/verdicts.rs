//! The verdicts that a session waits for, in the order of its publishes.
//!
//! A publish takes with it a place in this queue, and not a channel; the outcomes of what came together are given and
//! taken together.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use crate::intake::Verdict;

/// The queue of one session.
#[derive(Default)]
pub(crate) struct Verdicts(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// The place of the oldest.
    first: u64,
    /// From there on, as far as anything is known.
    known: VecDeque<Option<Verdict>>,
    /// Woken when the oldest is known.
    waker: Option<Waker>,
}

/// Where the outcomes of publishes that were offered together are to be sent, by their places in the offer. Those that are
/// still missing when it is dropped are [`Verdict::Unavailable`].
pub struct Replies {
    verdicts: Arc<Verdicts>,
    first: u64,
    /// Fewer once the last ones were given back.
    count: AtomicUsize,
}

impl Verdicts {
    /// For the outcomes of so many publishes from this place on.
    pub(crate) fn replies(self: &Arc<Self>, first: u64, count: usize) -> Replies {
        Replies { verdicts: Arc::clone(self), first, count: count.into() }
    }

    /// The oldest verdicts leave the queue, up to the first that is not known.
    pub(crate) fn take_known(&self) -> impl Iterator<Item = Verdict> + use<> {
        let mut queue = self.queue();
        let known = queue.known.iter().take_while(|verdict| verdict.is_some()).count();
        queue.first += known as u64;
        // Mostly all of them, and then for a while none: a session that waits holds no memory for them.
        let taken = if known == queue.known.len() {
            std::mem::take(&mut queue.known)
        } else {
            queue.known.drain(..known).collect()
        };
        taken.into_iter().flatten()
    }

    /// Ready once the oldest is known.
    pub(crate) fn poll_known(&self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = self.queue();
        if queue.known.front().copied().flatten().is_some() {
            return Poll::Ready(());
        }
        if queue.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            queue.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn give(&self, verdicts: impl IntoIterator<Item = (u64, Verdict)>) {
        let mut queue = self.queue();
        for (place, verdict) in verdicts {
            queue.give(place, verdict);
        }
        let waker = if queue.known.front().is_some_and(Option::is_some) { queue.waker.take() } else { None };
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn give(&mut self, place: u64, verdict: Verdict) {
        // What has left the queue was answered.
        let Some(at) = place.checked_sub(self.first).and_then(|at| usize::try_from(at).ok()) else { return };
        if at >= self.known.len() {
            self.known.resize(at + 1, None);
        }
        if let Some(known) = self.known.get_mut(at) {
            known.get_or_insert(verdict);
        }
    }
}

impl Replies {
    /// Answers publishes. Only the first answer of each counts; a session that has ended hears none.
    pub fn send(&self, verdicts: impl IntoIterator<Item = (usize, Verdict)>) {
        let count = self.count.load(Ordering::Acquire);
        let mine = verdicts.into_iter().filter(|(place, _)| *place < count);
        self.verdicts.give(mine.map(|(place, verdict)| (self.first + place as u64, verdict)));
    }

    /// Those from this place on, to be offered again: they are no longer answered by these.
    #[must_use]
    pub fn split_off(&self, at: usize) -> Self {
        let count = self.count.fetch_min(at, Ordering::AcqRel);
        self.verdicts.replies(self.first + at as u64, count.saturating_sub(at))
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        let missing = self.first..self.first + *self.count.get_mut() as u64;
        self.verdicts.give(missing.map(|place| (place, Verdict::Unavailable)));
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("first", &self.first).field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn accepted(sequence: u64) -> Verdict {
        Verdict::Accepted { sequence }
    }

    #[test]
    fn the_session_is_woken_once_its_oldest_is_known_and_takes_them_in_order() {
        let verdicts = Arc::new(Verdicts::default());
        let counts = Arc::new(Counts::default());
        let waker = Waker::from(counts.clone());
        assert!(verdicts.poll_known(&Context::from_waker(&waker)).is_pending());
        let replies = verdicts.replies(0, 3);
        for (place, sequence) in [(2, 3), (1, 2), (0, 1)] {
            assert_eq!((verdicts.take_known().next(), counts.0.load(Ordering::Relaxed)), (None, 0));
            replies.send([(place, accepted(sequence))]);
        }
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
        assert!(verdicts.poll_known(&Context::from_waker(&waker)).is_ready());
        assert!(verdicts.take_known().eq([1, 2, 3].map(accepted)));
        assert_eq!(verdicts.take_known().next(), None);
    }

    #[test]
    fn those_that_are_known_are_taken_up_to_the_first_that_is_not() {
        let verdicts = Arc::new(Verdicts::default());
        let replies = verdicts.replies(0, 3);
        replies.send([(0, Verdict::Unavailable), (2, accepted(2))]);
        assert!(verdicts.take_known().eq([Verdict::Unavailable]));
        assert_eq!(verdicts.take_known().next(), None);
        replies.send([(1, accepted(1)), (1, accepted(7)), (0, accepted(9)), (3, accepted(8))]);
        assert!(verdicts.take_known().eq([1, 2].map(accepted)), "the first answer counts, and only of one's own");
        assert_eq!(verdicts.take_known().next(), None);
    }

    #[test]
    fn what_is_missing_at_the_end_is_unavailable_and_what_was_given_back_is_not_missing() {
        let verdicts = Arc::new(Verdicts::default());
        let replies = verdicts.replies(0, 4);
        let again = replies.split_off(2);
        replies.send([(1, accepted(1)), (2, accepted(9))]);
        drop(replies);
        assert!(verdicts.take_known().eq([Verdict::Unavailable, accepted(1)]));
        again.send([(0, accepted(2))]);
        drop(again);
        assert!(verdicts.take_known().eq([accepted(2), Verdict::Unavailable]));
    }
}
