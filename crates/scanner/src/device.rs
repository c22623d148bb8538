//! One scanner: connects, reads on schedule, waits for answers, and connects again when the link breaks.

mod apart;

use std::{
    future, io,
    ops::ControlFlow,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    sync::{SemaphorePermit, watch},
    time::{Instant, sleep_until},
};

use crate::{
    course::{Phase, Shared},
    faults::Fault,
    link::{self, Receiver, Sender, Session, Signal},
    load::{Qos, Scanner},
    progress::Progress,
    report::{Entry, Tally},
    schedule::Schedule,
    window::{Message, Sent, Window},
};

/// A wake-up later than this after the due time is no timer's slack: the reading had to wait.
const TIMER_SLACK: Duration = Duration::from_millis(5);
/// First and longest pause before connecting again.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// [`Fault::Malformed`], [`Fault::Duplicate`] and [`Fault::Cut`] strike once in so many readings.
const FAULT_EVERY: u64 = 10;
/// Which of them, so that short runs have some and no reading has two.
const MALFORMED_AT: u64 = 1;
const DUPLICATE_AT: u64 = 3;
const CUT_AT: u64 = 5;
const MALFORMED_PAYLOAD: &str = "NOTABARCODE";

/// How a connection ended.
enum End {
    /// Everything is answered, or time is up.
    Finished,
    /// The reading of this link is answered; the next one has a link of its own.
    Left,
    /// The link broke against our will.
    Broken(io::Error),
    /// We dropped it on purpose.
    Dropped,
    /// The next reading is to break off in the middle.
    Cut,
}

pub(crate) struct Device {
    shared: Arc<Shared>,
    scanner: Scanner,
    index: u64,
    topic: String,
    schedule: Schedule,
    phase: watch::Receiver<Phase>,
    window: Window,
    /// The next reading of the schedule to be handed over.
    next: u64,
    connected: bool,
    /// Since when the link has had room for the next reading without a break.
    ready: Option<Instant>,
    /// Open messages were handed to an earlier link and must be given to this one.
    stale: bool,
    closing: bool,
    /// This link has had its reading, and there is one for each.
    served: bool,
    /// Publishes that this link may have open.
    window_max: usize,
    /// Places in the window that the client library has lost on this link: with MQTT 5 it does not give back the
    /// place of a publish that a PUBREC refused.
    places_lost: usize,
    link_dropped: bool,
    /// The reading that was cut last.
    cut: Option<u64>,
    /// Readings that it has signed.
    signed: u64,
    tally: Tally,
}

impl Device {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, phase: watch::Receiver<Phase>) -> Option<Self> {
        let load = &shared.load;
        let scanner = load.scanners.get(index)?.clone();
        let schedule = Schedule::new(load.pattern, load.rate_hz, load.duration, load.seed, index, load.scanners.len());
        Some(Self {
            topic: scanner.readings_topic(),
            scanner,
            index: index as u64,
            schedule,
            phase,
            window: Window::default(),
            next: 0,
            connected: false,
            ready: None,
            stale: false,
            closing: false,
            served: false,
            window_max: usize::from(load.in_flight),
            places_lost: 0,
            link_dropped: false,
            cut: None,
            signed: 0,
            tally: Tally::default(),
            shared,
        })
    }

    /// Runs until everything is answered or the deadline passes.
    pub(crate) async fn run(mut self) -> Tally {
        let keep = self.shared.load.keeps_session();
        let mut session = if keep { Session::Keep } else { Session::Clean };
        let mut backoff = BACKOFF_FIRST;
        loop {
            let was_connected = match self.connection(session).await {
                (End::Finished, _) => break,
                (End::Left, _) => {
                    session = if keep { Session::Resume } else { Session::Clean };
                    match self.until_due().await {
                        ControlFlow::Continue(()) => continue,
                        ControlFlow::Break(()) => break,
                    }
                }
                (End::Dropped, _) => true,
                (End::Cut, _) => {
                    self.publish_half().await;
                    true
                }
                (End::Broken(error), connected) => {
                    self.note_broken(&error, connected);
                    connected
                }
            };
            if was_connected {
                backoff = BACKOFF_FIRST;
                session = if keep { Session::Resume } else { Session::Clean };
            }
            if self.rest(backoff).await.is_break() {
                break;
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        if keep {
            self.discard_session().await;
        }
        self.finish()
    }

    /// One connection from its first packet to its end; whether it ever stood.
    async fn connection(&mut self, session: Session) -> (End, bool) {
        self.stale = !self.window.is_empty();
        self.served = self.stale && self.shared.load.one_per_connection;
        self.places_lost = 0;
        self.window_max = usize::from(self.shared.load.in_flight);
        self.closing = false;
        let shared = Arc::clone(&self.shared);
        let Some(permit) = shared.dial().await else {
            return (End::Finished, false);
        };
        let (sender, mut receiver) = link::open(&shared.load, &self.scanner, session);
        let end = self.converse(&sender, &mut receiver, permit).await;
        let stood = std::mem::take(&mut self.connected);
        self.ready = None;
        if stood {
            shared.progress.record_gone();
        }
        (end, stood)
    }

    async fn converse(&mut self, sender: &Sender, receiver: &mut Receiver, permit: SemaphorePermit<'_>) -> End {
        let mut permit = Some(permit);
        loop {
            let signal = {
                // Polled to its end: a poll dropped half way could lose a packet.
                let mut poll = pin!(receiver.poll());
                loop {
                    self.note_ready();
                    let wake = self.next_wake();
                    tokio::select! {
                        signal = &mut poll => break signal,
                        () = sleep_until_some(wake) => {
                            if let ControlFlow::Break(end) = self.on_time(sender) {
                                return end;
                            }
                        }
                        Ok(()) = self.phase.changed() => {}
                    }
                }
            };
            match signal {
                Err(_) if self.closing => return self.end_of_link(),
                Err(error) => return End::Broken(error),
                Ok(Signal::Connected { session_present, receive_max }) => {
                    permit.take();
                    self.window_max = self.window_max.min(usize::from(receive_max.unwrap_or(u16::MAX)));
                    self.on_connected(session_present, receiver);
                }
                Ok(Signal::Sent(packet_id)) => {
                    if let Some(sent) = self.window.sent(packet_id)
                        && self.on_sent(sent)
                    {
                        return End::Dropped;
                    }
                }
                Ok(Signal::Answered { packet_id, refusal }) => self.on_answer(packet_id, refusal),
                Ok(Signal::Received(packet_id)) => {
                    if let Some(message) = self.window.received(packet_id) {
                        self.on_acknowledged(message);
                    }
                }
                Ok(Signal::Completed { packet_id, known }) => {
                    self.window.answered(packet_id);
                    self.places_lost += usize::from(!known);
                }
                Ok(Signal::Closing) => return self.end_of_link(),
                Ok(Signal::Other) => {}
            }
        }
    }

    /// How the link ended that we closed.
    fn end_of_link(&self) -> End {
        let more = self.served || self.is_worn();
        if self.is_done(*self.phase.borrow()) || !more { End::Finished } else { End::Left }
    }

    fn on_connected(&mut self, session_present: bool, receiver: &mut Receiver) {
        self.connected = true;
        let progress = &self.shared.progress;
        progress.record_connected();
        if session_present {
            let again = self.window.resume();
            Progress::add(&progress.redelivered, again.len() as u64);
            receiver.redeliver(&self.topic, self.shared.load.qos, again);
        } else {
            Progress::add(&progress.resent, self.window.forget_link());
        }
    }

    /// Counts what went on the wire; true when a fault wants the link dropped now.
    fn on_sent(&mut self, sent: Sent) -> bool {
        self.tally.last = Some(Instant::now());
        if !sent.first {
            return false;
        }
        let progress = &self.shared.progress;
        Progress::add(&progress.published, 1);
        Progress::add(&progress.malformed, u64::from(sent.malformed));
        let load = &self.shared.load;
        load.has(Fault::Duplicate) && sent.position % FAULT_EVERY == DUPLICATE_AT
    }

    fn on_answer(&mut self, packet_id: u16, refusal: Option<String>) {
        let Some(message) = self.window.answered(packet_id) else { return };
        self.tally.last = Some(Instant::now());
        let Some(reason) = refusal else { return self.on_acknowledged(message) };
        self.shared.progress.record_refusal(reason, message.malformed);
        self.places_lost += usize::from(self.shared.load.qos == Qos::ExactlyOnce);
    }

    fn on_acknowledged(&mut self, message: Message) {
        self.tally.last = Some(Instant::now());
        let took = message.since.elapsed();
        self.shared.progress.record_ack(took);
        if self.shared.load.ledger && !message.malformed {
            let now_ms = unix_ms();
            self.tally.ledger.push(Entry {
                device: self.scanner.id.clone(),
                payload: message.code,
                resent: message.resent,
                acknowledged_at: now_ms,
                read_at: now_ms.saturating_sub(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            });
        }
    }

    /// When something is to be done without the broker's doing.
    fn next_wake(&self) -> Option<Instant> {
        let phase = *self.phase.borrow();
        if self.is_served() {
            return Some(Instant::now());
        }
        if let Phase::Drain { deadline, .. } = phase {
            let busy = self.closing || !(self.can_send() || self.is_done(phase));
            return Some(if busy { deadline } else { Instant::now() });
        }
        let Phase::Publish { start } = phase else { return None };
        if !self.can_send() {
            return None;
        }
        if self.stale {
            return Some(Instant::now());
        }
        (self.next < self.schedule.count()).then(|| start + self.schedule.due(self.next))
    }

    /// Hands over what is due, or closes when nothing is open any more.
    fn on_time(&mut self, sender: &Sender) -> ControlFlow<End> {
        let phase = *self.phase.borrow();
        let now = Instant::now();
        if let Phase::Drain { deadline, .. } = phase
            && now >= deadline
        {
            return ControlFlow::Break(End::Finished);
        }
        if self.closing {
            return ControlFlow::Continue(());
        }
        if self.can_send() {
            self.hand_over(sender, phase, now)?;
        }
        if self.is_done(phase) || self.is_served() {
            if self.places_lost >= self.window_max {
                // The client library would not even take a DISCONNECT any more.
                return ControlFlow::Break(self.end_of_link());
            }
            self.closing = true;
            if !self.connected || !sender.disconnect() {
                return ControlFlow::Break(End::Finished);
            }
        }
        ControlFlow::Continue(())
    }

    fn hand_over(&mut self, sender: &Sender, phase: Phase, now: Instant) -> ControlFlow<End> {
        let load = &self.shared.load;
        if std::mem::take(&mut self.stale) {
            for payload in self.window.unsent() {
                if !sender.publish(&self.topic, load.qos, payload) {
                    return ControlFlow::Break(End::Broken(io::Error::other("send queue is full")));
                }
            }
        }
        let (Phase::Publish { start } | Phase::Drain { start, .. }) = phase else {
            return ControlFlow::Continue(());
        };
        let limit = self.limit(phase, now);
        while self.next < limit && self.has_room() && !self.served {
            if load.has(Fault::Drop) && !self.link_dropped && self.next == self.schedule.count() / 2 {
                self.link_dropped = true;
                return ControlFlow::Break(End::Dropped);
            }
            if load.has(Fault::Cut) && self.next % FAULT_EVERY == CUT_AT && self.cut != Some(self.next) {
                self.cut = Some(self.next);
                return ControlFlow::Break(End::Cut);
            }
            let message = self.message(start + self.schedule.due(self.next), now);
            if !sender.publish(&self.topic, load.qos, &message.payload) {
                return ControlFlow::Break(End::Broken(io::Error::other("send queue is full")));
            }
            self.signed += u64::from(!message.malformed);
            self.window.hand(message);
            self.next += 1;
            self.served = load.one_per_connection;
        }
        ControlFlow::Continue(())
    }

    fn message(&self, due: Instant, now: Instant) -> Message {
        let load = &self.shared.load;
        let malformed = load.has(Fault::Malformed) && self.next % FAULT_EVERY == MALFORMED_AT;
        let code =
            if malformed { MALFORMED_PAYLOAD.to_owned() } else { load.codes.code(load.seed, self.index, self.next) };
        let payload = match &self.scanner.signer {
            Some(signer) if !malformed => signer.envelope(&self.scanner.id, self.signed, unix_ms(), &code).into(),
            _ => Bytes::copy_from_slice(code.as_bytes()),
        };
        Message {
            code,
            payload,
            position: self.next,
            // With a link for each reading, connecting is a part of it.
            since: if load.one_per_connection { due } else { timed_from(due, self.ready, now) },
            malformed,
            published: false,
            resent: 0,
            received: false,
        }
    }

    /// Readings that are due by now, or ever will be.
    fn limit(&self, phase: Phase, now: Instant) -> u64 {
        match phase {
            Phase::Connect => 0,
            // Stopped before the clock started.
            Phase::Drain { start, end, .. } if end <= start => 0,
            Phase::Publish { start } => self.schedule.due_by(now.duration_since(start)),
            Phase::Drain { start, end, .. } => self.schedule.due_by(end.duration_since(start)),
        }
    }

    /// Keeps since when the next reading could be handed over.
    fn note_ready(&mut self) {
        let ready = self.connected && !self.stale && !self.window.is_resuming() && self.has_room() && !self.served;
        self.ready = if ready { self.ready.or_else(|| Some(Instant::now())) } else { None };
    }

    fn can_send(&self) -> bool {
        let room = self.has_room() && !self.served;
        let phase = *self.phase.borrow();
        let wanted = match phase {
            Phase::Drain { end, .. } => self.stale || self.next < self.limit(phase, end),
            _ => true,
        };
        self.connected && !self.window.is_resuming() && (room || self.stale) && wanted
    }

    fn has_room(&self) -> bool {
        self.window.len() + self.places_lost < self.window_max && !self.is_worn()
    }

    /// Half of the link's window is lost: it is time for a new one.
    fn is_worn(&self) -> bool {
        self.places_lost > 0 && self.places_lost * 2 >= self.window_max
    }

    /// Nothing of this link is open, it still stands, and is not to have more.
    fn is_served(&self) -> bool {
        (self.served || self.is_worn()) && !self.closing && self.connected && self.window.is_empty()
    }

    fn is_done(&self, phase: Phase) -> bool {
        let Phase::Drain { end, .. } = phase else { return false };
        self.window.is_empty() && self.next >= self.limit(phase, end)
    }

    fn note_broken(&self, error: &io::Error, stood: bool) {
        let progress = &self.shared.progress;
        tracing::debug!(device = %self.scanner.id, %error, stood, "link broken");
        if stood {
            Progress::add(&progress.disconnects, 1);
        } else {
            progress.record_connect_error(error.to_string());
        }
    }

    fn finish(mut self) -> Tally {
        let phase = *self.phase.borrow();
        let due = self.limit(phase, Instant::now());
        let open = self.window.drain();
        self.tally.lost = open.published;
        self.tally.unsent = open.never_sent + due.saturating_sub(self.next);
        self.tally
    }
}

/// From when a reading is timed. A timer rings a little late, which is not the broker's doing. Any other wait is: for a
/// place in the window, or for a link. Then it is timed from when it fell due, however short the wait, or what a broker
/// holds up would not show in the times of what it held up.
fn timed_from(due: Instant, ready: Option<Instant>, now: Instant) -> Instant {
    let waited = ready.is_none_or(|ready| ready > due) || now.saturating_duration_since(due) > TIMER_SLACK;
    if waited { due } else { now }
}

/// The wall clock, in unix milliseconds.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sleeps until `wake`, or for ever.
async fn sleep_until_some(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_timers_own_lateness_is_left_out_of_a_reading_s_time() {
        let due = Instant::now() + Duration::from_secs(1);
        let (before, after) = (due - Duration::from_millis(1), due + Duration::from_millis(1));
        let late = |ms| due + Duration::from_millis(ms);
        assert_eq!(timed_from(due, Some(before), late(2)), late(2));
        assert_eq!(timed_from(due, Some(due), late(5)), late(5));
        assert_eq!(timed_from(due, Some(due), late(6)), due);
        // It waited for a place or for a link, if only for a moment.
        assert_eq!(timed_from(due, Some(after), late(2)), due);
        assert_eq!(timed_from(due, None, late(1)), due);
    }
}
