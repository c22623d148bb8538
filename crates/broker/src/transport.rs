//! What carries a connection: TCP, TLS over it, WebSocket over either.
//!
//! Everything here runs in the connection's own task and within its connect timeout, so that a peer that is silent in the
//! middle of a handshake holds its own socket and nothing else.

mod tls;
mod websocket;

use std::path::Path;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{Listener, metrics};
pub use tls::{ClientAuth, Tls, TlsError};

/// A stream of bytes in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that is ready for MQTT.
pub(crate) struct Opened {
    pub(crate) io: Box<dyn Io>,
    /// The common name of the client's certificate, which the listener's authority signed.
    pub(crate) certified: Option<String>,
}

/// How a listener's connections are carried.
pub(crate) struct Transport {
    tls: Option<tls::Acceptor>,
    websocket: bool,
    max_packet_bytes: u32,
}

impl Transport {
    /// Reads the certificates of `listener`; relative paths start at `base`.
    pub(crate) fn load(listener: &Listener, max_packet_bytes: u32, base: &Path) -> Result<Self, TlsError> {
        let tls = listener.tls.as_ref().map(|tls| tls::Acceptor::load(tls, base)).transpose()?;
        Ok(Self { tls, websocket: listener.websocket, max_packet_bytes })
    }

    /// Reads the certificates again. On an error the old ones stay in use.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        self.tls.as_ref().map_or(Ok(()), tls::Acceptor::reload)
    }

    /// Does the handshakes.
    pub(crate) async fn open(&self, stream: TcpStream) -> Result<Opened, metrics::Connect> {
        match &self.tls {
            None => self.upgrade(stream, None).await,
            Some(tls) => {
                let (stream, certified) = tls.accept(stream).await.map_err(|_| metrics::Connect::Tls)?;
                self.upgrade(stream, certified).await
            }
        }
    }

    async fn upgrade(&self, stream: impl Io + 'static, certified: Option<String>) -> Result<Opened, metrics::Connect> {
        let io: Box<dyn Io> = if self.websocket {
            let accepted = websocket::accept(stream, self.max_packet_bytes).await;
            Box::new(accepted.map_err(|_| metrics::Connect::Websocket)?)
        } else {
            Box::new(stream)
        };
        Ok(Opened { io, certified })
    }
}
