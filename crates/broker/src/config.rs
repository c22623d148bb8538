//! `[broker]`: listeners and limits.

use std::{collections::HashSet, net::SocketAddr, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use windlass_reading::DeviceId;

use crate::transport::{ClientAuth, Tls, Transport};

/// Smallest packet limit that still lets a CONNECT with a 64-byte id and a generated secret in.
const MIN_PACKET_BYTES: u32 = 256;
/// Largest packet that MQTT can express.
const MAX_PACKET_BYTES: u32 = 268_435_460;

/// The broker's part of the config file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// What one client, and all of them, may use.
    pub limits: Limits,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Devices that may come without credentials, known by their client id alone. For a private network only.
    #[serde(default)]
    pub identify_by_client_id: Vec<String>,
    /// MQTT over WebSocket instead of bare MQTT.
    #[serde(default)]
    pub websocket: bool,
    /// TLS; absent: plain text, for a private network only.
    #[serde(default)]
    pub tls: Option<Tls>,
}

impl Listener {
    /// A plain listener at `listen`.
    pub fn plain(listen: SocketAddr) -> Self {
        Self { listen, identify_by_client_id: Vec::new(), websocket: false, tls: None }
    }
}

/// Bounds. What happens at each is said beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open sockets over all listeners; one more is closed unread.
    pub max_connections: u32,
    /// From accept to a complete CONNECT; then the socket is closed.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// A larger packet ends its connection before its body is read.
    pub max_packet_bytes: u32,
    /// Publishes of one session without a verdict; at this many its socket is not read. Also MQTT 5 Receive Maximum.
    pub in_flight: u16,
    /// Filters of one session; one more is answered "quota exceeded".
    pub max_subscriptions: u16,
    /// How long a session is kept without a connection, at most. 3.1.1 clients without clean session get all of it.
    #[serde(with = "humantime_serde")]
    pub session_expiry: Duration,
    /// Messages that a session keeps: those that wait, and those without a PUBACK. One more is dropped and counted.
    pub session_messages: usize,
    /// The same, in bytes of topic and payload.
    pub session_bytes: usize,
    /// Messages to users that wait for the router; beyond it they are dropped and counted.
    pub outbox_messages: usize,
    /// At shutdown, and after a client closes: how long verdicts are waited for.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 1883));
        Self { listeners: vec![Listener::plain(listen)], limits: Limits::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            connect_timeout: Duration::from_secs(10),
            max_packet_bytes: 16 * 1024,
            in_flight: 20,
            max_subscriptions: 8,
            session_expiry: Duration::from_secs(24 * 60 * 60),
            session_messages: 1_000,
            session_bytes: 256 * 1024,
            outbox_messages: 4_096,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Every problem of the certificate files, as they are now. Relative paths start at `base`.
    pub fn check_files(&self, base: &Path) -> Vec<String> {
        let failed = |listener: &Listener| Transport::load(listener, self.limits.max_packet_bytes, base).err();
        let problem = |l: &Listener| failed(l).map(|error| format!("broker.listeners: {}: {error}", l.listen));
        self.listeners.iter().filter_map(problem).collect()
    }

    /// Every problem, in the words of the config file.
    pub fn validate(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut addresses = HashSet::new();
        if self.listeners.is_empty() {
            wrong.push("broker.listeners: at least one is needed".to_owned());
        }
        for listener in &self.listeners {
            if listener.listen.port() != 0 && !addresses.insert(listener.listen) {
                wrong.push(format!("broker.listeners: {} is there twice", listener.listen));
            }
            if let Some(Tls { client_ca: None, client_auth: ClientAuth::Optional, .. }) = listener.tls {
                wrong.push(format!("broker.listeners: {}: client_auth needs client_ca", listener.listen));
            }
            for id in &listener.identify_by_client_id {
                if let Err(error) = DeviceId::new(id) {
                    wrong.push(format!("broker.listeners: identify_by_client_id: {error}"));
                }
            }
        }
        wrong.extend(self.limits.problems());
        wrong
    }
}

impl Limits {
    fn problems(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut zero = |is_zero: bool, key: &str| {
            if is_zero {
                wrong.push(format!("broker.limits.{key}: must be more than 0"));
            }
        };
        zero(self.max_connections == 0, "max_connections");
        zero(self.connect_timeout.is_zero(), "connect_timeout");
        zero(self.in_flight == 0, "in_flight");
        zero(self.outbox_messages == 0, "outbox_messages");
        zero(self.session_messages == 0, "session_messages");
        zero(self.session_bytes == 0, "session_bytes");
        if !(MIN_PACKET_BYTES..=MAX_PACKET_BYTES).contains(&self.max_packet_bytes) {
            wrong.push(format!(
                "broker.limits.max_packet_bytes: {} is not in {MIN_PACKET_BYTES}-{MAX_PACKET_BYTES}",
                self.max_packet_bytes
            ));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good_and_every_problem_is_told_at_once() {
        assert!(Config::default().validate().is_empty());
        let listener = Listener { identify_by_client_id: vec!["a/b".into()], ..Config::default().listeners.remove(0) };
        let limits = Limits { in_flight: 0, max_packet_bytes: 1, max_connections: 0, ..Limits::default() };
        let wrong = Config { listeners: vec![listener.clone(), listener], limits }.validate();
        assert_eq!(wrong.len(), 6, "{wrong:?}");
    }
}
