//! What all connections share, and how one begins: handshakes, CONNECT, identity, session.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Limits,
    broker::Door,
    connection::Connection,
    handshake,
    identity::{Identities, Who},
    intake::Intake,
    metrics,
    router::Hub,
    session::Session,
    sessions::Sessions,
    socket::Socket,
    store::{NotStored, SessionStore},
    transport::Opened,
    wire::{self, Connack, Connect, Version},
};

/// CONNACK codes for a session that could not be stored.
const V3_UNAVAILABLE: u8 = 3;
const V5_QUOTA_EXCEEDED: u8 = 0x97;

/// What all connections share.
pub(crate) struct Front {
    pub(crate) limits: Limits,
    pub(crate) identities: Identities,
    pub(crate) intake: Arc<dyn Intake>,
    pub(crate) hub: Hub,
    pub(crate) sessions: Sessions,
    pub(crate) store: Arc<dyn SessionStore>,
    /// For the client ids of users that bring none.
    pub(crate) guests: AtomicU64,
}

/// Serves one accepted socket until it ends.
pub(crate) async fn serve(front: Arc<Front>, stream: TcpStream, door: Arc<Door>, stop: CancellationToken) {
    // Small answers must not wait for more; a failure costs latency only.
    let _ = stream.set_nodelay(true);
    converse(front, door.transport.open(stream), &door.by_client_id, stop).await;
}

/// The same over whatever `opening` yields.
pub(crate) async fn converse(
    front: Arc<Front>,
    opening: impl Future<Output = Result<Opened, metrics::Connect>>,
    by_client_id: &HashSet<String>,
    stop: CancellationToken,
) {
    let deadline = Instant::now() + front.limits.connect_timeout;
    let greeted = tokio::select! {
        greeted = timeout_at(deadline, Socket::greet(opening, front.limits.max_packet_bytes)) => {
            greeted.unwrap_or(Err(metrics::Connect::Timeout))
        }
        () = stop.cancelled() => return,
    };
    let (mut socket, connect, certified) = match greeted {
        Ok(greeted) => greeted,
        Err(outcome) => return metrics::connect(outcome),
    };
    match handshake::decide(&connect, certified.as_deref(), by_client_id, &front.identities) {
        Err(refusal) => {
            metrics::connect(refusal.outcome);
            socket.refuse(refusal.code(connect.version), connect.version).await;
        }
        Ok(who) => match admit(&front, who, &connect, &mut socket.out).await {
            Err(NotStored) => {
                metrics::connect(metrics::Connect::Unavailable);
                let code = if connect.version == Version::V3 { V3_UNAVAILABLE } else { V5_QUOTA_EXCEEDED };
                socket.refuse(code, connect.version).await;
            }
            Ok(session) => {
                metrics::connect(metrics::Connect::Accepted);
                Connection::new(front, socket, session, connect).run(stop).await;
            }
        },
    }
}

/// Finds or makes the session, and writes the CONNACK that says which. A session that is to be kept is on disk first.
async fn admit(front: &Arc<Front>, who: Who, connect: &Connect, out: &mut BytesMut) -> Result<Session, NotStored> {
    let (owner, assigned) = match &who {
        Who::Device(identity) => (identity.device.as_str().to_owned(), None),
        // Not kept, and by no name that a device can have.
        Who::User(user) => {
            let number = front.guests.fetch_add(1, Ordering::Relaxed);
            let assigned = connect.client_id.is_empty().then(|| format!("{}-{number}", user.name));
            (format!("{}/{}", user.name, assigned.as_ref().unwrap_or(&connect.client_id)), assigned)
        }
    };
    let most = front.limits.session_expiry;
    let asked = match connect.version {
        Version::V3 if connect.clean => Duration::ZERO,
        Version::V3 => most,
        Version::V5 => Duration::from_secs(connect.expiry_seconds.unwrap_or_default().into()),
    };
    let granted = if matches!(who, Who::User(_)) { Duration::ZERO } else { asked.min(most) };
    let seat = front.sessions.enter(&owner, connect.clean, granted);
    if granted.is_zero() && seat.is_stored() {
        front.store.forget(vec![owner]).await?;
        seat.set_stored(false);
    } else if let Some(session) = seat.stored().filter(|_| !granted.is_zero()) {
        front.store.keep(session).await?;
        seat.set_stored(true);
    }
    let expiry_seconds = (granted != asked).then(|| u32::try_from(granted.as_secs()).unwrap_or(u32::MAX));
    let connack = Connack {
        code: 0,
        session_present: seat.present,
        expiry_seconds,
        assigned_id: assigned.as_deref(),
        limits: Some(&front.limits),
        wildcards: matches!(who, Who::User(_)),
    };
    wire::connack(out, connect.version, &connack);
    Ok(Session::new(who, seat, connect.version, &front.limits, front.intake.clone(), front.hub.clone()))
}
