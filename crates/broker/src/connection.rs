//! One authenticated connection: reads, hands packets to the session, writes what is owed. A plain task.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    acl,
    front::Front,
    identity::Who,
    intake::Qos,
    mailbox::{Message, Taker},
    metrics,
    router::Link,
    session::{End, Moment, Session},
    socket::Socket,
    store::{NotStored, Stored},
    wire::{self, Connect, Packet, Shared, Version, Will},
};

/// How long a 3.1.1 socket is not read after a publish could not be stored.
const SLOWED: Duration = Duration::from_secs(1);
/// Between two tries to get a lost router link back.
const RELINK_AFTER: Duration = Duration::from_secs(1);

/// An authenticated connection.
pub(crate) struct Connection {
    front: Arc<Front>,
    socket: Socket,
    shared: Shared,
    session: Session,
    will: Option<Will>,
    taken: Option<oneshot::Receiver<()>>,
    _open: metrics::Open,
    /// One and a half times the client's keep alive (MQTT 3.1.2.10); `None`: never checked.
    patience: Option<Duration>,
    heard: Instant,
    /// The socket is not read before this.
    slowed_until: Instant,
    taker: Taker,
    link: Option<Link>,
    relink_at: Option<Instant>,
    /// The client has closed its side; what it sent before is still taken.
    closed: bool,
}

/// What woke the connection.
enum Wake {
    Answer,
    Message(Option<Message>),
    /// The mailbox has something.
    Rung,
    Read(std::io::Result<usize>),
    Retry,
    Relink,
    Readable,
    IdentitiesChanged,
    End(End),
}

/// What was taken out of the buffer.
enum Taken {
    All,
    /// All until a SUBSCRIBE.
    Subscribe,
    /// As much as may be open.
    WhatHasRoom,
}

impl Connection {
    pub(crate) fn new(front: Arc<Front>, socket: Socket, mut session: Session, connect: Connect) -> Box<Self> {
        let taken = session.seat.taken.take();
        let keep_alive = Duration::from_secs(u64::from(connect.keep_alive_seconds));
        let now = Instant::now();
        let window = usize::from(connect.receive_maximum.unwrap_or(u16::MAX).min(front.limits.in_flight));
        let (version, max_packet_bytes) = (connect.version, connect.max_packet_bytes);
        Box::new(Self {
            front,
            socket,
            shared: Shared::default(),
            session,
            will: connect.will,
            taken,
            _open: metrics::Open::new(),
            patience: (!keep_alive.is_zero()).then(|| keep_alive * 3 / 2),
            heard: now,
            slowed_until: now,
            taker: Taker { version, max_packet_bytes, window },
            link: None,
            relink_at: None,
            closed: false,
        })
    }

    pub(crate) async fn run(mut self: Box<Self>, stop: CancellationToken) {
        let end = match self.serve(&stop).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.session.seat.ending();
        // Not here: many that end at once would hold up those that go on.
        let finished = self.front.porch.clone().spawn(self.finish(end)).await;
        if let Err(error) = finished
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<std::convert::Infallible, End> {
        let mut changes = self.front.identities.changes();
        // A replacement between CONNECT and here has woken nobody.
        self.wake(Wake::IdentitiesChanged)?;
        let mut stopped = pin!(stop.cancelled());
        let mut alarm = pin!(sleep_until(self.heard));
        loop {
            let more = self.take_packets()?;
            if matches!(self.session.who, Who::User(_)) {
                Box::pin(self.keep_link_in_step()).await;
            }
            if std::mem::take(&mut self.session.changed) {
                Box::pin(self.store_changes()).await?;
            }
            self.session.seat.write(self.taker, &mut self.socket.out);
            self.socket.flush().await?;
            if more {
                continue;
            }
            if self.closed && self.session.has_room() && self.session.acks.is_empty() {
                return Err(End::Lost);
            }
            let may_read = !self.closed && self.session.has_room();
            let slowed = self.slowed_until > Instant::now();
            let retry_after = self.session.retry_after();
            // While the socket is not read the client may well be talking.
            let overdue = self.patience.filter(|_| may_read && !slowed).map(|patience| self.heard + patience);
            let wake = tokio::select! {
                biased;
                () = &mut stopped => Wake::End(End::ShuttingDown),
                () = taken(&mut self.taken) => Wake::End(End::TakenOver),
                changed = changes.changed() => if changed.is_ok() { Wake::IdentitiesChanged } else { Wake::End(End::ShuttingDown) },
                () = self.session.acks.ready() => Wake::Answer,
                () = self.session.seat.rung() => Wake::Rung,
                read = self.socket.read(), if may_read && !slowed => Wake::Read(read),
                () = sleep_until(self.slowed_until), if may_read && slowed => Wake::Readable,
                () = tokio::time::sleep(retry_after.unwrap_or_default()), if retry_after.is_some() => Wake::Retry,
                message = next_message(&mut self.link) => Wake::Message(message),
                () = sleep_until(self.relink_at.unwrap_or(self.heard)), if self.relink_at.is_some() => Wake::Relink,
                () = lapse(alarm.as_mut(), overdue) => Wake::End(End::KeepAlive),
            };
            self.wake(wake)?;
        }
    }

    fn wake(&mut self, wake: Wake) -> Result<(), End> {
        match wake {
            Wake::End(end) => return Err(end),
            Wake::Answer => self.settle(),
            Wake::Read(Ok(0)) => self.closed = true,
            Wake::Read(Ok(_)) => self.heard = Instant::now(),
            // A reset: nothing more can be read or written, but what is in the buffer was sent before it.
            Wake::Read(Err(_)) => self.closed = true,
            Wake::Retry => self.session.retry(),
            Wake::Relink => self.relink_at = None,
            Wake::Readable => {}
            Wake::Rung => {}
            Wake::Message(Some(message)) => self.hear(message),
            Wake::Message(None) => {
                self.link = None;
                self.relink_at = Some(Instant::now() + RELINK_AFTER);
            }
            Wake::IdentitiesChanged => {
                if self.front.identities.find(self.session.who.name()).as_ref() != Some(&self.session.who) {
                    return Err(End::Revoked);
                }
            }
        }
        Ok(())
    }

    /// Takes the packets that are in the buffer, as far as there is room; whether it is to be called again at once. So it
    /// is after a SUBSCRIBE: its link comes first, because what follows in the buffer may cause messages on it.
    fn take_packets(&mut self) -> Result<bool, End> {
        let taken = self.take_buffered();
        // Also what came before a packet that ends the session.
        self.session.offer();
        // Answers that were known at once.
        self.settle();
        Ok(match taken? {
            Taken::All => false,
            Taken::Subscribe => true,
            // They may have made the room that the buffer's next packets waited for, of which nothing would tell again.
            Taken::WhatHasRoom => self.session.has_room(),
        })
    }

    fn take_buffered(&mut self) -> Result<Taken, End> {
        // They are complete since the same read.
        let now = Instant::now();
        let moment = Moment { at: now.into(), unix_ms: now_ms() };
        while self.session.has_room() {
            let Socket { decoder, input, .. } = &mut self.socket;
            let packet = decoder.packet(self.session.dialect.version, input, &mut self.shared);
            let Some(packet) = packet else { return Ok(Taken::All) };
            let packet = packet.map_err(Session::fault)?;
            self.heard = moment.at.into();
            let subscribe = matches!(packet, Packet::Subscribe { .. });
            self.session.take(packet, moment, &mut self.socket.out)?;
            if subscribe {
                return Ok(Taken::Subscribe);
            }
        }
        Ok(Taken::WhatHasRoom)
    }

    fn settle(&mut self) {
        let unavailable = self.session.settle(&mut self.socket.out);
        if unavailable && self.session.dialect.version == Version::V3 {
            self.slowed_until = Instant::now() + SLOWED;
        }
    }

    /// A message of the router, for a user. Its routes may be wider than what was subscribed to, and it is not trusted to
    /// keep to them.
    fn hear(&self, message: Message) {
        if let Some(asked) = asked_for(&self.session.seat.subscriptions(), &message.topic) {
            self.session.seat.push(Message { qos: message.qos.min(asked), ..message });
        } else if !self.link.as_ref().is_some_and(|link| carries(link.routes(), &message.topic)) {
            metrics::strayed();
        }
    }

    /// A kept session's new subscriptions are on disk before they are acknowledged.
    async fn store_changes(&mut self) -> Result<(), End> {
        if self.session.seat.expiry().is_zero() {
            return Ok(());
        }
        match self.session.seat.stored() {
            Some(session) => self.front.store.keep(session).await.map_err(|NotStored| End::Unavailable),
            None => Ok(()),
        }
    }

    /// Opens, widens or rebuilds the router's link so that it brings the session's subscriptions.
    async fn keep_link_in_step(&mut self) {
        let Who::User(user) = &self.session.who else { return };
        let wanted: BTreeSet<String> = self.session.seat.subscriptions().into_keys().collect();
        let in_step = self.link.as_ref().map_or(wanted.is_empty(), |link| *link.wanted() == wanted);
        if in_step || self.relink_at.is_some() {
            return;
        }
        let link = self.link.take();
        if wanted.is_empty() {
            return;
        }
        let routes = acl::routes(&user.subscribe, &wanted);
        self.link = match link {
            Some(link) if link.routes().is_subset(&routes) => link.route(routes, wanted).await,
            _ => self.front.hub.open(routes, wanted).await,
        };
        if self.link.is_none() {
            self.relink_at = Some(Instant::now() + RELINK_AFTER);
        }
    }

    /// Answers what is still owed, within the drain time, then says goodbye.
    async fn finish(mut self: Box<Self>, end: End) {
        let deadline = Instant::now() + self.front.limits.drain_timeout;
        self.session.close();
        while !self.session.acks.is_empty() || self.session.retry_after().is_some() {
            let retry_after = self.session.retry_after();
            let step = async {
                tokio::select! {
                    () = self.session.acks.ready() => {}
                    () = tokio::time::sleep(retry_after.unwrap_or_default()), if retry_after.is_some() => {
                        self.session.retry();
                    }
                }
            };
            if timeout_at(deadline, step).await.is_err() {
                break;
            }
            self.session.settle(&mut self.socket.out);
            // A client that is gone takes no answers; its publishes are still waited for.
            let _ = self.socket.flush().await;
            self.socket.out.clear();
        }
        self.session.settle(&mut self.socket.out);
        if let Some(code) = end.code() {
            wire::disconnect(&mut self.socket.out, self.session.dialect.version, code);
        }
        let _ = self.socket.flush().await;
        self.socket.close().await;
        self.leave(end).await;
    }

    /// Leaves the session behind, to be kept or not, and sends the will where there is one and the end asks for it.
    async fn leave(self: Box<Self>, end: End) {
        let Self { front, session, will, .. } = *self;
        let seat = session.seat;
        let (owner, left, expiry) = (seat.owner().to_owned(), seat.left(), seat.expiry());
        if let Some(session) = seat.stored().filter(|_| seat.is_stored()) {
            let kept = if expiry.is_zero() {
                front.store.forget(vec![owner.clone()]).await
            } else {
                front.store.keep(Stored { left_at_ms: Some(now_ms()), ..session }).await
            };
            if kept.is_err() {
                tracing::warn!(%owner, "the end of a session could not be stored");
            }
        }
        drop(seat);
        let Some(will) = will.filter(|_| end != End::Client) else { return };
        // It waits no longer than the session, and a client that comes back in time has none (MQTT 5 section 3.1.3.2.2).
        let delay = Duration::from_secs(will.delay_seconds.into()).min(expiry);
        let send = async move {
            tokio::time::sleep(delay).await;
            if delay.is_zero() || !left.is_back() {
                front.hub.tell(will.topic, will.payload, will.qos);
            }
        };
        if delay.is_zero() { send.await } else { drop(tokio::spawn(send)) }
    }
}

/// Resolves once `at` has come. The alarm stays where it is while it is early: a timer that moves with each packet costs
/// more than one that goes off in vain now and then.
async fn lapse(mut alarm: Pin<&mut Sleep>, at: Option<Instant>) {
    let Some(at) = at else { return pending().await };
    if alarm.deadline() > at {
        alarm.as_mut().reset(at);
    }
    loop {
        alarm.as_mut().await;
        if Instant::now() >= at {
            return;
        }
        alarm.as_mut().reset(at);
    }
}

/// Resolves when a newer connection has taken over.
async fn taken(taken: &mut Option<oneshot::Receiver<()>>) {
    match taken {
        Some(taken) => drop(taken.await),
        None => pending().await,
    }
}

/// The next message of a link; never resolves without one.
async fn next_message(link: &mut Option<Link>) -> Option<Message> {
    match link {
        Some(link) => link.next().await,
        None => pending().await,
    }
}

/// The highest QoS of the subscriptions that cover `topic`; `None` when none does.
fn asked_for(subscriptions: &BTreeMap<String, Qos>, topic: &[u8]) -> Option<Qos> {
    let topic = std::str::from_utf8(topic).ok()?;
    subscriptions.iter().filter(|(filter, _)| acl::covers(filter, topic)).map(|(_, qos)| *qos).max()
}

fn carries(routes: &BTreeSet<String>, topic: &[u8]) -> bool {
    std::str::from_utf8(topic).is_ok_and(|topic| routes.iter().any(|route| acl::covers(route, topic)))
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_the_router_is_passed_on_only_where_a_subscription_covers_it() {
        let some = [("devices/+/receipts", Qos::AtMostOnce), ("devices/a/#", Qos::ExactlyOnce)];
        let subscriptions = some.map(|(filter, qos)| (filter.to_owned(), qos)).into();
        for (topic, expected) in [
            ("devices/a/receipts", Some(Qos::ExactlyOnce)),
            ("devices/a/errors", Some(Qos::ExactlyOnce)),
            ("devices/b/receipts", Some(Qos::AtMostOnce)),
            ("devices/b/errors", None),
            ("windlass/canary", None),
            ("é", None),
            ("", None),
        ] {
            assert_eq!(asked_for(&subscriptions, topic.as_bytes()), expected, "{topic}");
        }
        assert_eq!(asked_for(&subscriptions, b"devices/a/\xFF"), None);
        assert_eq!(asked_for(&BTreeMap::new(), b"devices/a/receipts"), None);
        let routes = BTreeSet::from(["devices/+/receipts".to_owned()]);
        assert!(carries(&routes, b"devices/b/receipts") && !carries(&routes, b"devices/b/errors"));
    }
}
