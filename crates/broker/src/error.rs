//! What can keep the broker from starting.

use std::net::SocketAddr;

use crate::transport::TlsError;

/// The broker could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config has problems; [`Config::validate`](crate::Config::validate) lists them for a person.
    #[error("broker config: {}", .0.join("; "))]
    Config(Vec<String>),
    /// An address cannot be listened on: in use, or not this machine's. Choose another or free it.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address from the config.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A listener's certificates cannot be used.
    #[error("tls of {address}")]
    Tls {
        /// The listener's address from the config.
        address: SocketAddr,
        /// What is wrong with them.
        #[source]
        source: TlsError,
    },
    /// The sessions that were kept could not be read: the journal failed.
    #[error("kept sessions cannot be read")]
    Sessions,
    /// A thread could not be started: the machine is out of them.
    #[error("cannot start a thread for the broker")]
    Thread(#[source] std::io::Error),
}
