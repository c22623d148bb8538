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
    /// Of these, from one address; one more is closed unread. 0: no limit. Behind a proxy all come from one address.
    pub connections_per_address: u32,
    /// From accept to a complete CONNECT; then the socket is closed.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// A larger packet ends its connection before its body is read.
    pub max_packet_bytes: u32,
    /// Connects of one device in a minute; one more is refused as too many. 0: no limit.
    pub connects_per_minute: u32,
    /// Longest keep alive; an MQTT 5 client that asks for more, or for none, is told to use this. 0: as clients ask.
    #[serde(with = "humantime_serde")]
    pub max_keep_alive: Duration,
    /// Failed connects as one device or user in a minute, after which its name is banned. 0: never. A device is still
    /// let in where it last was.
    pub failures_per_device: u32,
    /// Failed connects from one address in a minute, after which it is banned. 0: never.
    pub failures_per_address: u32,
    /// How long a ban lasts.
    #[serde(with = "humantime_serde")]
    pub ban_time: Duration,
    /// Checks of `$argon2id$` secrets at once; others wait.
    pub password_checks: usize,
    /// Readings of one device in a second, in the long run. Beyond it MQTT 5 clients are told "quota exceeded", 3.1.1
    /// clients wait for their PUBACK, and QoS 0 is dropped. 0: no limit.
    pub readings_per_second: u32,
    /// Readings that a device may send at once after a pause, with `readings_per_second`.
    pub readings_burst: u32,
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
            connections_per_address: 0,
            connect_timeout: Duration::from_secs(10),
            max_packet_bytes: 16 * 1024,
            connects_per_minute: 0,
            max_keep_alive: Duration::ZERO,
            failures_per_device: 0,
            failures_per_address: 0,
            ban_time: Duration::from_secs(5 * 60),
            password_checks: 2,
            readings_per_second: 0,
            readings_burst: 50,
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
        zero(self.password_checks == 0, "password_checks");
        zero(self.readings_burst == 0, "readings_burst");
        zero(self.ban_time.is_zero(), "ban_time");
        if !(MIN_PACKET_BYTES..=MAX_PACKET_BYTES).contains(&self.max_packet_bytes) {
            wrong.push(format!(
                "broker.limits.max_packet_bytes: {} is not in {MIN_PACKET_BYTES}-{MAX_PACKET_BYTES}",
                self.max_packet_bytes
            ));
        }
        let (keep_alive, longest) = (self.max_keep_alive, Duration::from_secs(u16::MAX.into()));
        if !keep_alive.is_zero() && !(Duration::from_secs(1)..=longest).contains(&keep_alive) {
            wrong.push("broker.limits.max_keep_alive: must be 0s (as clients ask) or from 1s to 65535s".to_owned());
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
