//! What all connections share, and how one begins: handshakes, CONNECT, identity, session.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    net::TcpStream,
    runtime::Handle,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Limits,
    broker::Door,
    checks::Checks,
    connection::Connection,
    guard::Guard,
    handshake::{self, Refusal},
    identity::{Identities, Who},
    intake::Intake,
    mailbox::Bounds,
    metrics,
    router::Hub,
    session::Session,
    sessions::Sessions,
    socket::Socket,
    store::SessionStore,
    transport::Opened,
    wire::{self, Connack, Connect, Version},
};

/// How long a connection that was closed has to leave its session to the next one: so many looks at such intervals.
const LEAVING_TURNS: u32 = 10;
const LEAVING_TURN: Duration = Duration::from_millis(5);

/// What all connections share.
pub(crate) struct Front {
    pub(crate) limits: Limits,
    pub(crate) identities: Identities,
    pub(crate) intake: Arc<dyn Intake>,
    pub(crate) hub: Hub,
    pub(crate) sessions: Sessions,
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) guard: Arc<Guard>,
    /// Where connections begin and end.
    pub(crate) porch: Handle,
    checks: Checks,
    /// For the client ids of users that bring none.
    guests: AtomicU64,
}

/// Who knocks, and where.
pub(crate) struct Visitor<'a> {
    pub(crate) address: IpAddr,
    /// Devices that the listener takes by their client id.
    pub(crate) by_client_id: &'a HashSet<String>,
}

/// Serves one accepted socket until it ends; `place` is held as long. It enters on the porch, where this is called, and
/// goes on `inside`.
pub(crate) async fn serve(
    front: Arc<Front>,
    stream: TcpStream,
    address: IpAddr,
    door: Arc<Door>,
    place: impl Send + 'static,
    inside: Inside,
) {
    let visitor = Visitor { address, by_client_id: &door.by_client_id };
    if let Some(connection) = entered(front, door.transport.open(stream), visitor, &inside.stop).await {
        let serving = async move {
            connection.run(inside.stop).await;
            drop(place);
        };
        inside.connections.spawn_on(serving, &inside.runtime);
    }
}

/// Where those that have entered are served.
#[derive(Clone)]
pub(crate) struct Inside {
    pub(crate) runtime: Handle,
    pub(crate) connections: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// The same in one task, over whatever `opening` yields.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) async fn converse(
    front: Arc<Front>,
    opening: impl Future<Output = Result<Opened, metrics::Connect>>,
    visitor: Visitor<'_>,
    stop: CancellationToken,
) {
    // Boxed apart from what follows, which needs less room and takes longer.
    if let Some(connection) = Box::pin(entered(front, opening, visitor, &stop)).await {
        connection.run(stop).await;
    }
}

/// The connection, unless it is refused or the broker stops. Counted.
async fn entered(
    front: Arc<Front>,
    opening: impl Future<Output = Result<Opened, metrics::Connect>>,
    visitor: Visitor<'_>,
    stop: &CancellationToken,
) -> Option<Box<Connection>> {
    tokio::select! {
        entered = enter(front, opening, visitor) => entered.map_err(metrics::connect).ok(),
        () = stop.cancelled() => None,
    }
}

/// From the first byte to the session.
async fn enter(
    front: Arc<Front>,
    opening: impl Future<Output = Result<Opened, metrics::Connect>>,
    visitor: Visitor<'_>,
) -> Result<Box<Connection>, metrics::Connect> {
    let deadline = Instant::now() + front.limits.connect_timeout;
    let greeted = timeout_at(deadline, Socket::greet(opening, front.limits.max_packet_bytes)).await;
    let (mut socket, mut connect, certified) = greeted.unwrap_or(Err(metrics::Connect::Timeout))?;
    let entered = match front.identify(&connect, certified.as_deref(), &visitor).await {
        Ok(who) => front.admit(who, &mut connect, &mut socket.out).await,
        Err(refusal) => Err(refusal),
    };
    match entered {
        Ok(session) => {
            metrics::connect(metrics::Connect::Accepted);
            tracing::debug!(client = ?connect.client_id, address = %visitor.address, "connected");
            Ok(Connection::new(front, socket, session, connect))
        }
        Err(refusal) => {
            let outcome = refusal.outcome.as_str();
            tracing::debug!(client = ?connect.client_id, address = %visitor.address, outcome, "connection refused");
            socket.refuse(refusal.code(connect.version), connect.version).await;
            Err(refusal.outcome)
        }
    }
}

impl Front {
    pub(crate) fn new(
        limits: Limits,
        identities: Identities,
        intake: Arc<dyn Intake>,
        hub: Hub,
        store: Arc<dyn SessionStore>,
        porch: Handle,
    ) -> Self {
        let bounds = Bounds { messages: limits.session_messages, bytes: limits.session_bytes };
        Self {
            sessions: Sessions::new(bounds),
            guard: Arc::new(Guard::new(&limits)),
            checks: Checks::new(limits.password_checks),
            guests: AtomicU64::new(1),
            limits,
            identities,
            intake,
            hub,
            store,
            porch,
        }
    }

    /// Who this is. A refusal for wrong credentials may take a while.
    async fn identify(
        &self,
        connect: &Connect,
        certified: Option<&str>,
        visitor: &Visitor<'_>,
    ) -> Result<Who, Refusal> {
        let claimed = handshake::claimed(connect, certified);
        let address = visitor.address;
        self.guard.check(claimed, address, Instant::now().into_std())?;
        let proven = match handshake::credentials(connect, certified) {
            Some((username, password)) => self.checks.authenticate(&self.identities, username, password).await?,
            None => None,
        };
        let decided = handshake::decide(connect, certified, visitor.by_client_id, &self.identities, proven);
        match decided {
            Ok(who) => {
                if let Who::Device(identity) = &who {
                    self.guard.entered(identity.device.as_str(), address, Instant::now().into_std())?;
                }
                Ok(who)
            }
            Err(refusal) => {
                if refusal.is_failure() {
                    sleep(self.guard.failed(claimed, address, Instant::now().into_std())).await;
                }
                Err(refusal)
            }
        }
    }

    /// Finds or makes the session, and writes the CONNACK that says which. A session that is to be kept is on disk first.
    async fn admit(&self, who: Who, connect: &mut Connect, out: &mut BytesMut) -> Result<Session, Refusal> {
        let (owner, assigned) = self.owner(&who, connect);
        if self.is_taken_over(&owner).await {
            sleep(self.guard.takeover(&owner, Instant::now().into_std())).await;
        }
        let most = self.limits.session_expiry;
        let asked = match connect.version {
            Version::V3 if connect.clean => Duration::ZERO,
            Version::V3 => most,
            Version::V5 => Duration::from_secs(connect.expiry_seconds.unwrap_or_default().into()),
        };
        let granted = if matches!(who, Who::User(_)) { Duration::ZERO } else { asked.min(most) };
        let seat = self.sessions.enter(&owner, connect.clean, granted);
        if granted.is_zero() && seat.is_stored() {
            self.store.forget(vec![owner]).await?;
            seat.set_stored(false);
        } else if let Some(session) = seat.stored().filter(|_| !granted.is_zero()) {
            self.store.keep(session).await?;
            seat.set_stored(true);
        }
        let keep_alive_seconds = self.shorter_keep_alive(connect);
        connect.keep_alive_seconds = keep_alive_seconds.unwrap_or(connect.keep_alive_seconds);
        let expiry_seconds = (granted != asked).then(|| u32::try_from(granted.as_secs()).unwrap_or(u32::MAX));
        let connack = Connack {
            code: 0,
            session_present: seat.present,
            expiry_seconds,
            keep_alive_seconds,
            assigned_id: assigned.as_deref(),
            limits: Some(&self.limits),
            wildcards: matches!(who, Who::User(_)),
        };
        wire::connack(out, connect.version, &connack);
        Ok(Session::new(self, who, seat, connect.dialect()))
    }

    /// Whether `owner` has another connection that goes on. The end of one that was just closed, or reset, may still have
    /// to be read.
    async fn is_taken_over(&self, owner: &str) -> bool {
        for _ in 0..LEAVING_TURNS {
            if !self.sessions.is_live(owner) {
                return false;
            }
            sleep(LEAVING_TURN).await;
        }
        self.sessions.is_live(owner)
    }

    /// The session's owner, and the client id that a client without one is given.
    fn owner(&self, who: &Who, connect: &Connect) -> (String, Option<String>) {
        match who {
            Who::Device(identity) => (identity.device.as_str().to_owned(), None),
            // Not kept, and by no name that a device can have.
            Who::User(user) => {
                let number = self.guests.fetch_add(1, Ordering::Relaxed);
                let assigned = connect.client_id.is_empty().then(|| format!("{}-{number}", user.name));
                (format!("{}/{}", user.name, assigned.as_ref().unwrap_or(&connect.client_id)), assigned)
            }
        }
    }

    /// The server's keep alive (MQTT 5 section 3.2.2.3.14); a 3.1.1 client cannot be told one.
    fn shorter_keep_alive(&self, connect: &Connect) -> Option<u16> {
        let most = u16::try_from(self.limits.max_keep_alive.as_secs()).unwrap_or(u16::MAX);
        let asked = connect.keep_alive_seconds;
        (connect.version == Version::V5 && most > 0 && (asked == 0 || asked > most)).then_some(most)
    }
}
