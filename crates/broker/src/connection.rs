//! One socket: reads, hands packets to the session, writes what is owed. A plain task.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Limits,
    broker::Door,
    handshake::{self, Refusal},
    identity::Identities,
    intake::Intake,
    metrics,
    registry::{Registry, Seat},
    router::{Hub, Link},
    session::{End, Session},
    transport::Io,
    wire::{self, Connect, Decoder, Packet, Version},
};

/// Read at once, at most; a connection's buffer grows to one packet beyond it.
const READ_BYTES: usize = 4 * 1024;
/// The first byte of a connection: CONNECT, whose flags are reserved and zero.
const CONNECT: u8 = 0x10;
/// A client that takes nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the goodbye of TLS and WebSocket.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two offers of a publish that a full queue gave back.
const RETRY_AFTER: Duration = Duration::from_millis(10);
/// How long a 3.1.1 socket is not read after a publish could not be stored.
const SLOWED: Duration = Duration::from_secs(1);
/// Between two tries to get a lost router link back.
const RELINK_AFTER: Duration = Duration::from_secs(1);
/// Stands for "never".
const FAR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What all connections share.
pub(crate) struct Front {
    pub(crate) limits: Limits,
    pub(crate) identities: Identities,
    pub(crate) intake: Arc<dyn Intake>,
    pub(crate) hub: Hub,
    pub(crate) registry: Registry,
}

/// Serves one accepted socket until it ends.
pub(crate) async fn serve(front: Arc<Front>, stream: TcpStream, door: Arc<Door>, stop: CancellationToken) {
    // Small answers must not wait for more; a failure costs latency only.
    let _ = stream.set_nodelay(true);
    let deadline = Instant::now() + front.limits.connect_timeout;
    let greeted = tokio::select! {
        greeted = timeout_at(deadline, Wire::greet(stream, &door, front.limits.max_packet_bytes)) => {
            greeted.unwrap_or(Err(metrics::Connect::Timeout))
        }
        () = stop.cancelled() => return,
    };
    let (mut wire, connect, certified) = match greeted {
        Ok(greeted) => greeted,
        Err(outcome) => return metrics::connect(outcome),
    };
    match handshake::decide(&connect, certified.as_deref(), &door.by_client_id, &front.identities) {
        Err(refusal) => {
            metrics::connect(refusal.outcome);
            wire::connack(&mut wire.out, connect.version, refusal.code(connect.version), None);
            let _ = wire.flush().await;
        }
        Ok(identity) => {
            metrics::connect(metrics::Connect::Accepted);
            wire::connack(&mut wire.out, connect.version, 0, Some(&front.limits));
            let session =
                Session::new(identity, connect.version, &front.limits, front.intake.clone(), front.hub.clone());
            Connection::new(front, wire, session, &connect).run(stop).await;
        }
    }
}

/// The socket with its buffers.
struct Wire {
    io: Box<dyn Io>,
    decoder: Decoder,
    input: BytesMut,
    out: BytesMut,
}

impl Wire {
    /// Does the transport's handshakes and reads the CONNECT; with the name in the client's certificate.
    async fn greet(
        stream: TcpStream,
        door: &Door,
        max_packet_bytes: u32,
    ) -> Result<(Self, Connect, Option<String>), metrics::Connect> {
        let opened = door.transport.open(stream).await?;
        let decoder = Decoder::new(max_packet_bytes);
        let mut wire = Self { io: opened.io, decoder, input: BytesMut::new(), out: BytesMut::new() };
        let connect = wire.connect().await?;
        Ok((wire, connect, opened.certified))
    }

    /// Reads the CONNECT. Bytes that are none end the connection, with a CONNACK where a protocol can be told.
    async fn connect(&mut self) -> Result<Connect, metrics::Connect> {
        if !matches!(self.read().await, Ok(1..)) {
            return Err(metrics::Connect::Closed);
        }
        // Another protocol's first bytes may announce a long packet; there is no point in waiting for it.
        if self.input.first() != Some(&CONNECT) {
            return Err(metrics::Connect::Malformed);
        }
        loop {
            if let Some(packet) = self.decoder.next(&mut self.input) {
                let fault = match packet.and_then(|raw| wire::parse_connect(&raw)) {
                    Ok(connect) => return Ok(connect),
                    Err(fault) => fault,
                };
                let Some((refusal, version)) = Refusal::of(fault) else { return Err(metrics::Connect::Malformed) };
                wire::connack(&mut self.out, version, refusal.code(version), None);
                let _ = self.flush().await;
                return Err(refusal.outcome);
            }
            match self.read().await {
                Ok(0) | Err(_) => return Err(metrics::Connect::Closed),
                Ok(_) => {}
            }
        }
    }

    /// Cancel safe.
    async fn read(&mut self) -> std::io::Result<usize> {
        self.input.reserve(READ_BYTES);
        self.io.read_buf(&mut self.input).await
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = async {
            self.io.write_all_buf(&mut self.out).await?;
            self.io.flush().await
        };
        match timeout(WRITE_TIMEOUT, written).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Client),
        }
    }

    /// Says goodbye at the transport's level, to a peer that may not listen any more.
    async fn close(&mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.io.shutdown()).await;
    }
}

/// An authenticated connection.
struct Connection {
    front: Arc<Front>,
    wire: Wire,
    session: Session,
    seat: Seat,
    _open: metrics::Open,
    /// One and a half times the client's keep alive (MQTT 3.1.2.10); `None`: never checked.
    patience: Option<Duration>,
    heard: Instant,
    /// The socket is not read before this.
    slowed_until: Instant,
    max_packet_bytes: Option<u32>,
    link: Option<Link>,
    relink_at: Option<Instant>,
    /// The client has closed its side; what it sent before is still taken.
    closed: bool,
}

/// What woke the connection.
enum Wake {
    Answer,
    Message(Option<(Bytes, Bytes)>),
    Read(std::io::Result<usize>),
    Retry,
    Relink,
    Readable,
    IdentitiesChanged,
    End(End),
}

impl Connection {
    fn new(front: Arc<Front>, wire: Wire, session: Session, connect: &Connect) -> Self {
        let seat = front.registry.enter(&session.identity.device);
        let keep_alive = Duration::from_secs(u64::from(connect.keep_alive_seconds));
        let now = Instant::now();
        Self {
            front,
            wire,
            session,
            seat,
            _open: metrics::Open::new(),
            patience: (!keep_alive.is_zero()).then(|| keep_alive * 3 / 2),
            heard: now,
            slowed_until: now,
            max_packet_bytes: connect.max_packet_bytes,
            link: None,
            relink_at: None,
            closed: false,
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        let end = match self.serve(&stop).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.finish(end).await;
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<std::convert::Infallible, End> {
        let mut changes = self.front.identities.changes();
        // A replacement between CONNECT and here has woken nobody.
        self.wake(Wake::IdentitiesChanged)?;
        loop {
            let more = self.take_packets()?;
            self.keep_link_in_step().await;
            self.wire.flush().await?;
            if more {
                continue;
            }
            if self.closed && self.session.has_room() && self.session.acks.is_empty() {
                return Err(End::Client);
            }
            let may_read = !self.closed && self.session.has_room();
            let slowed = self.slowed_until > Instant::now();
            let silent_since = self.heard;
            let overdue = match self.patience {
                // While the socket is not read the client may well be talking.
                Some(patience) if may_read && !slowed => silent_since + patience,
                _ => Instant::now() + FAR,
            };
            let wake = tokio::select! {
                biased;
                () = stop.cancelled() => Wake::End(End::ShuttingDown),
                _ = &mut self.seat.taken => Wake::End(End::TakenOver),
                changed = changes.changed() => if changed.is_ok() { Wake::IdentitiesChanged } else { Wake::End(End::ShuttingDown) },
                () = self.session.acks.ready() => Wake::Answer,
                read = self.wire.read(), if may_read && !slowed => Wake::Read(read),
                () = sleep_until(self.slowed_until), if may_read && slowed => Wake::Readable,
                () = tokio::time::sleep(RETRY_AFTER), if self.session.held.is_some() => Wake::Retry,
                message = next_message(&mut self.link) => Wake::Message(message),
                () = sleep_until(self.relink_at.unwrap_or(overdue)), if self.relink_at.is_some() => Wake::Relink,
                () = sleep_until(overdue) => Wake::End(End::KeepAlive),
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
            Wake::Retry => {
                self.session.retry();
            }
            Wake::Relink => self.relink_at = None,
            Wake::Readable => {}
            Wake::Message(Some((topic, payload))) => {
                let out = &mut self.wire.out;
                wire::publish(out, self.session.version, &topic, &payload, self.max_packet_bytes);
            }
            Wake::Message(None) => {
                self.link = None;
                self.relink_at = Some(Instant::now() + RELINK_AFTER);
            }
            Wake::IdentitiesChanged => {
                let now = self.front.identities.find(self.session.identity.device.as_str());
                if now.as_deref() != Some(self.session.identity.as_ref()) {
                    return Err(End::Revoked);
                }
            }
        }
        Ok(())
    }

    /// Takes the packets that are in the buffer, as far as there is room. Stops early after a SUBSCRIBE and says so:
    /// its link comes first, because what follows in the buffer may cause messages on it.
    fn take_packets(&mut self) -> Result<bool, End> {
        let mut subscribed = false;
        while !subscribed && self.session.has_room() {
            let Some(raw) = self.wire.decoder.next(&mut self.wire.input) else { break };
            let packet = raw.and_then(|raw| wire::parse(self.session.version, &raw)).map_err(Session::fault)?;
            self.heard = Instant::now();
            subscribed = matches!(packet, Packet::Subscribe { .. });
            self.session.take(packet, now_ms(), &mut self.wire.out)?;
        }
        // Answers that were known at once.
        self.settle();
        Ok(subscribed)
    }

    fn settle(&mut self) {
        let unavailable = self.session.settle(&mut self.wire.out);
        if unavailable && self.session.version == Version::V3 {
            self.slowed_until = Instant::now() + SLOWED;
        }
    }

    /// Opens, widens or rebuilds the router's link so that it carries exactly the session's subscriptions.
    async fn keep_link_in_step(&mut self) {
        let wanted = &self.session.subscriptions;
        let have: BTreeSet<String> = self.link.as_ref().map(|l| l.topics().into_iter().collect()).unwrap_or_default();
        if *wanted == have || self.relink_at.is_some() {
            return;
        }
        let link = self.link.take();
        if wanted.is_empty() {
            return;
        }
        let topics: Vec<String> = wanted.iter().cloned().collect();
        self.link = match link {
            Some(link) if have.is_subset(wanted) => link.subscribe(topics).await,
            _ => self.front.hub.open(topics).await,
        };
        if self.link.is_none() {
            self.relink_at = Some(Instant::now() + RELINK_AFTER);
        }
    }

    /// Answers what is still owed, within the drain time, then says goodbye.
    async fn finish(mut self, end: End) {
        let deadline = Instant::now() + self.front.limits.drain_timeout;
        while !(self.session.acks.is_empty() && self.session.held.is_none()) {
            let step = async {
                tokio::select! {
                    () = self.session.acks.ready() => {}
                    () = tokio::time::sleep(RETRY_AFTER), if self.session.held.is_some() => {
                        self.session.retry();
                    }
                }
            };
            if timeout_at(deadline, step).await.is_err() {
                break;
            }
            self.session.settle(&mut self.wire.out);
            // A client that is gone takes no answers; its publishes are still waited for.
            let _ = self.wire.flush().await;
            self.wire.out.clear();
        }
        self.session.settle(&mut self.wire.out);
        if let Some(code) = end.code() {
            wire::disconnect(&mut self.wire.out, self.session.version, code);
        }
        let _ = self.wire.flush().await;
        self.wire.close().await;
    }
}

/// The next message of a link; never resolves without one.
async fn next_message(link: &mut Option<Link>) -> Option<(Bytes, Bytes)> {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
