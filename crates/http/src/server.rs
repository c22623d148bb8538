//! The listening server.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use actix_web::{App, HttpServer, dev, middleware::from_fn, web::Data};
use tokio::sync::watch;

use crate::{Config, Source, access::Access, metrics, routes};

/// An operator's page and a scraper: one worker is enough, and spares the threads of the readings' path.
const WORKERS: usize = 1;
/// How long a graceful stop waits for open requests.
const STOP_SECONDS: u64 = 5;

/// The HTTP surface failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on: it is taken, or not this machine's.
    #[error("cannot listen on {listen}")]
    Bind {
        /// The configured address.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The running server ended by a fault.
    #[error("the HTTP server ended")]
    Run(#[source] io::Error),
}

/// A bound server. It listens from [`Server::bind`] on and answers from [`Server::run`] on.
///
/// It installs no signal handlers: the process decides when it stops.
pub struct Server {
    server: dev::Server,
    local_addr: SocketAddr,
    closing: watch::Sender<bool>,
}

/// Stops a [`Server`] from elsewhere.
#[derive(Clone)]
pub struct Handle {
    server: dev::ServerHandle,
    closing: watch::Sender<bool>,
}

impl Server {
    /// Listens on the configured address. Call it inside an actix or tokio runtime.
    ///
    /// # Errors
    /// [`Error::Bind`] when the address cannot be listened on.
    pub fn bind(config: Config, source: Arc<dyn Source>) -> Result<Self, Error> {
        let listen = config.listen;
        let refused = |source| Error::Bind { listen, source };
        let (closing, closed) = watch::channel(false);
        let access = Data::new(Access::new(&config));
        let streams = Data::new(routes::Streams::new(closed));
        let app = move || {
            let routes = routes::configure(Arc::clone(&source), access.clone(), streams.clone());
            App::new().wrap(routes::headers()).wrap(from_fn(metrics::count)).configure(routes)
        };
        let bound = HttpServer::new(app)
            .workers(WORKERS)
            .disable_signals()
            .shutdown_timeout(STOP_SECONDS)
            .bind(listen)
            .map_err(refused)?;
        let local_addr = bound.addrs().first().copied().unwrap_or(listen);
        Ok(Self { server: bound.run(), local_addr, closing })
    }

    /// The address in use; tells the port when the configured one was 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// A handle that stops this server.
    pub fn handle(&self) -> Handle {
        Handle { server: self.server.handle(), closing: self.closing.clone() }
    }

    /// Answers requests until [`Handle::stop`].
    ///
    /// # Errors
    /// [`Error::Run`] when the server ends by a fault.
    pub async fn run(self) -> Result<(), Error> {
        self.server.await.map_err(Error::Run)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Handle {
    /// Takes no new connections, ends the streams of events, lets other open requests end (up to 5 s) and returns when the server has stopped.
    /// [`Server::run`] must be running.
    pub async fn stop(&self) {
        self.closing.send_replace(true);
        self.server.stop(true).await;
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}
