//! The verdicts that a session waits for, in the order of its publishes.
//!
//! One allocation for the whole session: a publish takes with it a place in this queue, and not a channel.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    known: VecDeque<Option<Verdict>>,
    /// Woken when the oldest is known.
    waker: Option<Waker>,
}

/// Where the outcome of a publish is to be sent. Dropped without one, it says [`Verdict::Unavailable`].
///
/// A session acts once its oldest publish is answered: whoever has the outcomes of several sends the oldest one last, and
/// wakes the session once.
pub struct Reply {
    verdicts: Arc<Verdicts>,
    place: u64,
    sent: bool,
}

impl Verdicts {
    /// A place at the end of the queue.
    pub(crate) fn reply(self: &Arc<Self>) -> Reply {
        let mut queue = self.queue();
        queue.known.push_back(None);
        let place = queue.first + queue.known.len() as u64 - 1;
        Reply { verdicts: Arc::clone(self), place, sent: false }
    }

    /// The oldest verdict leaves the queue, if it is known.
    pub(crate) fn take(&self) -> Option<Verdict> {
        let mut queue = self.queue();
        let verdict = queue.known.front().copied().flatten()?;
        queue.known.pop_front();
        queue.first += 1;
        Some(verdict)
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

    fn give(&self, place: u64, verdict: Verdict) {
        let mut queue = self.queue();
        // An answer that left the queue cannot be given again: a reply is sent once.
        let Some(at) = place.checked_sub(queue.first).and_then(|at| usize::try_from(at).ok()) else { return };
        if let Some(known) = queue.known.get_mut(at) {
            *known = Some(verdict);
        }
        let waker = if at == 0 { queue.waker.take() } else { None };
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reply {
    /// Answers the publish. A session that has ended does not hear it.
    pub fn send(mut self, verdict: Verdict) {
        self.sent = true;
        self.verdicts.give(self.place, verdict);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            self.verdicts.give(self.place, Verdict::Unavailable);
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_session_is_woken_once_its_oldest_is_known_and_takes_them_in_order() {
        let verdicts = Arc::new(Verdicts::default());
        let replies: Vec<Reply> = (0..3).map(|_| verdicts.reply()).collect();
        let counts = Arc::new(Counts::default());
        let waker = Waker::from(counts.clone());
        assert!(verdicts.poll_known(&Context::from_waker(&waker)).is_pending());
        for (reply, sequence) in replies.into_iter().zip([1, 2, 3]).rev() {
            assert_eq!((verdicts.take(), counts.0.load(Ordering::Relaxed)), (None, 0));
            reply.send(Verdict::Accepted { sequence });
        }
        assert_eq!(counts.0.load(Ordering::Relaxed), 1);
        assert!(verdicts.poll_known(&Context::from_waker(&waker)).is_ready());
        for sequence in 1..=3 {
            assert_eq!(verdicts.take(), Some(Verdict::Accepted { sequence }));
        }
        assert_eq!(verdicts.take(), None);
    }

    #[test]
    fn a_dropped_reply_says_unavailable() {
        let verdicts = Arc::new(Verdicts::default());
        drop(verdicts.reply());
        assert_eq!(verdicts.take(), Some(Verdict::Unavailable));
    }
}
