//! A way in for the fuzz targets of `tests/fuzz`: connections over memory instead of sockets.
//!
//! Compiled with the feature `fuzzing` and in this crate's own tests; no program has it.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Identities, Intake, Limits, Outbox, SessionStore,
    front::{self, Front, Visitor},
    router::Hub,
    transport::Opened,
};

/// What the inputs of one thread share: the router, whose thread rumqttd never ends.
#[derive(Clone)]
pub struct Bench(Hub);

/// The front for one input, with sessions of its own.
#[derive(Clone)]
pub struct InMemory(Arc<Front>);

impl Bench {
    /// Starts the thread that feeds the router.
    ///
    /// # Errors
    /// [`Error::Thread`] when the machine is out of threads.
    pub fn new() -> Result<Self, Error> {
        Hub::start(1_024, 64).map(Self)
    }

    /// A front that nobody has connected to yet, on the runtime that this is called on.
    pub fn front(
        &self,
        limits: Limits,
        identities: Identities,
        intake: Arc<dyn Intake>,
        store: Arc<dyn SessionStore>,
    ) -> InMemory {
        InMemory(Arc::new(Front::new(limits, identities, intake, self.0.clone(), store, Handle::current())))
    }
}

impl InMemory {
    /// Serves one connection until it ends, as if a plain listener had accepted it.
    pub async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        by_client_id: HashSet<String>,
        stop: CancellationToken,
    ) {
        let opening = async { Ok(Opened { io: Box::new(stream), certified: None }) };
        let visitor = Visitor { address: IpAddr::V4(Ipv4Addr::LOCALHOST), by_client_id: &by_client_id };
        front::converse(self.0, opening, visitor, stop).await;
    }

    /// Where messages to subscribers go.
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.0.hub.clone(), self.0.sessions.clone())
    }
}

impl fmt::Debug for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bench").finish_non_exhaustive()
    }
}

impl fmt::Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemory").finish_non_exhaustive()
    }
}

/// What `tests/fuzz` does with an input, and the corpus replayed with it on a stable compiler.
#[cfg(test)]
#[allow(unreachable_pub)]
#[path = "../../../tests/fuzz/src/lib.rs"]
mod targets;

#[cfg(test)]
#[allow(unreachable_pub)]
#[path = "../../../tests/fuzz/stable/replay.rs"]
mod replay;
