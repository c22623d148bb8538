//! The listeners: accept, count, hand over to a task each. Nothing slow happens in an accept loop.

use std::{
    collections::HashSet,
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Error, Identities, Intake, Outbox, RouterHealth, acl,
    canary::{Canary, Pace},
    connection::now_ms,
    front::{self, Front, Inside},
    metrics,
    porch::Porch,
    router::Hub,
    sessions::Sessions,
    store::{NotStored, SessionStore},
    transport::Transport,
};

/// Connections that the system holds until they are accepted, where it allows as many: those beyond come again after a
/// second or more.
const BACKLOG: u32 = 4_096;
/// After a failed accept (out of file descriptors) the loop rests, or it would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often sessions are looked through for those that are over.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// A silent peer's system is asked after this time whether it is still there, so often, and then given up.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;
/// More than a session's own drain time: room for the last write.
const GRACE: Duration = Duration::from_secs(11);

/// How a listener takes its connections.
pub(crate) struct Door {
    pub(crate) by_client_id: HashSet<String>,
    pub(crate) transport: Transport,
}

/// A broker that listens.
pub struct Broker {
    listeners: Vec<(TcpListener, Arc<Door>)>,
    addresses: Vec<SocketAddr>,
    front: Arc<Front>,
    places: Arc<Semaphore>,
    porch: Porch,
    router: RouterHealth,
    pub(crate) pace: Pace,
}

impl Broker {
    /// Binds every listener of the config, whose relative paths start at `base`. Connections wait in the system's queue until [`run`](Self::run).
    ///
    /// # Errors
    /// [`Error::Config`] for a config that `validate` refuses, [`Error::Listen`] for an address that cannot be had,
    /// [`Error::Tls`] for certificates that cannot be used.
    pub async fn bind(
        config: Config,
        base: &Path,
        identities: Identities,
        intake: Arc<dyn Intake>,
        store: Arc<dyn SessionStore>,
    ) -> Result<Self, Error> {
        let wrong = config.validate();
        if !wrong.is_empty() {
            return Err(Error::Config(wrong));
        }
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for listener in &config.listeners {
            let failed = |source| Error::Listen { address: listener.listen, source };
            let socket = listen(listener.listen).map_err(failed)?;
            addresses.push(socket.local_addr().map_err(failed)?);
            let transport = Transport::load(listener, config.limits.max_packet_bytes, base)
                .map_err(|source| Error::Tls { address: listener.listen, source })?;
            let by_client_id = listener.identify_by_client_id.iter().cloned().collect();
            listeners.push((socket, Arc::new(Door { by_client_id, transport })));
        }
        let most = usize::try_from(config.limits.max_connections).unwrap_or(Semaphore::MAX_PERMITS);
        let hub = Hub::start(most, config.limits.outbox_messages)?;
        let router = RouterHealth::new(hub.clone());
        let porch = Porch::build().map_err(Error::Thread)?;
        let front = Front::new(config.limits, identities, intake, hub, store, porch.handle.clone());
        restore(&front.sessions, front.store.as_ref()).await?;
        let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Ok(Self { listeners, addresses, front: Arc::new(front), places, porch, router, pace: Pace::default() })
    }

    /// The addresses in use, in the config's order; tells the ports that the system chose.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.addresses.clone()
    }

    /// For reading the listeners' certificates again while the broker runs.
    pub fn certificates(&self) -> Certificates {
        Certificates(self.listeners.iter().zip(&self.addresses).map(|((_, door), at)| (*at, door.clone())).collect())
    }

    /// Where receipts and errors to devices go.
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.front.hub.clone(), self.front.sessions.clone())
    }

    /// Whether messages to users are forwarded; known while the broker runs.
    pub fn router_health(&self) -> RouterHealth {
        self.router.clone()
    }

    /// Serves until `stop`. Then no socket is read any more, what is in is answered (within `drain_timeout`),
    /// MQTT 5 clients are told, and everything is closed.
    ///
    /// # Errors
    /// None today; a listener that fails goes on by itself.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let connections = TaskTracker::new();
        let mut accepting = JoinSet::new();
        for (listener, door) in self.listeners {
            let (front, places) = (self.front.clone(), self.places.clone());
            let inside = Inside { runtime: Handle::current(), connections: connections.clone(), stop: stop.clone() };
            accepting.spawn_on(accept(listener, door, front, places, inside), &self.porch.handle);
        }
        let swept = tokio::spawn(sweep(self.front.clone()));
        let canary = tokio::spawn(Canary::new(self.router, self.pace).run());
        while accepting.join_next().await.is_some() {}
        swept.abort();
        canary.abort();
        connections.close();
        let grace = self.front.limits.drain_timeout + GRACE;
        if tokio::time::timeout(grace, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "connections did not end in time");
        }
        Ok(())
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As tokio's own bind: a restart does not wait for connections of before.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes back the sessions that were kept over a restart.
async fn restore(sessions: &Sessions, store: &dyn SessionStore) -> Result<(), Error> {
    let now = now_ms();
    for mut stored in store.all().await.map_err(|NotStored| Error::Sessions)? {
        let away = stored.left_at_ms.map_or(0, |left| now.saturating_sub(left));
        // The rules may have become stricter since.
        stored.subscriptions.retain(|filter, _| acl::may_subscribe(&stored.owner, filter).is_ok());
        sessions.restore(stored, Duration::from_millis(away));
    }
    Ok(())
}

/// Ends the sessions whose time is over, and those of devices that are gone.
async fn sweep(front: Arc<Front>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        front.guard.sweep(Instant::now());
        let ended = front.sessions.sweep(|owner| front.identities.device(owner).is_none());
        if !ended.is_empty() && front.store.forget(ended).await.is_err() {
            tracing::warn!("sessions that are over could not be taken out of the store");
        }
    }
}

async fn accept(listener: TcpListener, door: Arc<Door>, front: Arc<Front>, places: Arc<Semaphore>, inside: Inside) {
    loop {
        // What a socket has to tell comes from where its connection will be served.
        let accept = poll_fn(|context| {
            let _inside = inside.runtime.enter();
            listener.poll_accept(context)
        });
        let accepted = tokio::select! {
            accepted = accept => accepted,
            () = inside.stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics::connect(metrics::Connect::Limit);
            continue;
        };
        let address = peer.ip().to_canonical();
        let Some(share) = front.guard.open(address) else {
            metrics::connect(metrics::Connect::AddressLimit);
            continue;
        };
        prepare(&stream);
        let held = (share, place);
        let served = front::serve(front.clone(), stream, address, door.clone(), held, inside.clone());
        inside.connections.spawn(served);
    }
}

/// Small answers must not wait for more, and a peer that vanished must be found also when it asked for no keep alive. A
/// failure costs only that.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(PROBES);
    let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
}

/// The certificates of all listeners. Cheap to clone.
#[derive(Clone)]
pub struct Certificates(Vec<(SocketAddr, Arc<Door>)>);

impl Certificates {
    /// Reads them again; connections that are open keep what they have. A listener whose files cannot be used keeps its
    /// old certificates and is told of.
    pub fn reload(&self) -> Vec<String> {
        let failed = |(at, door): &(SocketAddr, Arc<Door>)| door.transport.reload().err().map(|e| format!("{at}: {e}"));
        self.0.iter().filter_map(failed).collect()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("listeners", &self.0.len()).finish()
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}
