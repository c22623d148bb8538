//! What to run: the scanners, their pace, the protocol and the faults.

use std::{fmt, sync::Arc, time::Duration};

use rustls::ClientConfig;
use windlass_reading::DeviceId;

use crate::{Codes, Fault, Hostile, Pattern, Signer};

/// More than this per scanner is no scanner, and finer than the clock that paces it.
const MAX_RATE_HZ: f64 = 1_000.0;
/// Arrivals that are drawn beforehand take 16 bytes each.
const MAX_DRAWN: f64 = 100_000_000.0;

/// One simulated scanner. Its MQTT client id and user name are its device id.
#[derive(Clone)]
pub struct Scanner {
    /// The device id.
    pub id: DeviceId,
    /// The password; without one the scanner connects with its client id alone.
    pub secret: Option<String>,
    /// Where it publishes; `devices/{id}/readings` when absent.
    pub topic: Option<String>,
    /// TLS with a certificate of its own, in place of [`Load::tls`].
    pub tls: Option<Arc<ClientConfig>>,
    /// Signs its readings itself, in the `signed` format.
    pub signer: Option<Signer>,
}

impl Scanner {
    /// A scanner without credentials on the default topic.
    pub fn new(id: DeviceId) -> Self {
        Self { id, secret: None, topic: None, tls: None, signer: None }
    }

    /// The topic it publishes to.
    pub(crate) fn readings_topic(&self) -> String {
        self.topic.clone().unwrap_or_else(|| format!("devices/{}/readings", self.id))
    }
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scanner")
            .field("id", &self.id)
            .field("secret", &self.secret.as_ref().map(|_| "redacted"))
            .field("topic", &self.topic)
            .field("tls", &self.tls.is_some())
            .field("signer", &self.signer)
            .finish()
    }
}

/// The delivery that a scanner asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Qos {
    /// Sent once and forgotten: nothing is acknowledged, so nothing can be known lost.
    AtMostOnce,
    /// Acknowledged.
    #[default]
    AtLeastOnce,
    /// Acknowledged by a PUBREC, and released after it, so that a redelivery is one for certain.
    ExactlyOnce,
}

/// The protocol level that a scanner speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    #[default]
    V5,
}

/// A whole load test.
#[derive(Debug, Clone)]
pub struct Load {
    /// `host:port`; an IPv6 address in brackets.
    pub broker: String,
    /// TLS for scanners that have none of their own; without either they connect in the clear.
    pub tls: Option<Arc<ClientConfig>>,
    /// The scanners, each with its own connection.
    pub scanners: Vec<Scanner>,
    /// Readings per second of each scanner, in the mean.
    pub rate_hz: f64,
    /// How the readings arrive.
    pub pattern: Pattern,
    /// How long readings are made, from the moment the scanners are connected.
    pub duration: Duration,
    /// How long to wait afterwards for what is still unacknowledged.
    pub ack_wait: Duration,
    /// QoS of every publish.
    pub qos: Qos,
    /// MQTT version of every connection.
    pub protocol: Protocol,
    /// What is read.
    pub codes: Codes,
    /// Two runs with the same seed read the same codes.
    pub seed: u64,
    /// Unacknowledged publishes that a scanner may have open; what falls due beyond waits its turn.
    pub in_flight: u16,
    /// Asks the broker to keep the session over a lost link, so that a redelivery carries the DUP flag.
    /// Always so with [`Fault::Duplicate`], [`Fault::Drop`] and [`Fault::Cut`].
    pub keep_session: bool,
    /// A link for each reading: connect, publish, disconnect, as firmware does that sleeps in between.
    pub one_per_connection: bool,
    /// Whether [`Report::ledger`](crate::Report::ledger) is kept: about 100 bytes per reading, and up to twice that while it is put
    /// together at the end.
    pub ledger: bool,
    /// Troubles to make.
    pub faults: Vec<Fault>,
    /// Clients beside the scanners that mean no good, from the first reading to the last.
    pub hostile: Vec<(Hostile, Scanner)>,
}

impl Load {
    /// One reading per second for 30 s from each scanner: QoS 1, MQTT 5, no faults, ledger kept.
    pub fn new(broker: impl Into<String>, scanners: Vec<Scanner>) -> Self {
        Self {
            broker: broker.into(),
            tls: None,
            scanners,
            rate_hz: 1.0,
            pattern: Pattern::default(),
            duration: Duration::from_secs(30),
            ack_wait: Duration::from_secs(15),
            qos: Qos::default(),
            protocol: Protocol::default(),
            codes: Codes::default(),
            seed: 1,
            in_flight: 20,
            keep_session: false,
            one_per_connection: false,
            ledger: true,
            faults: Vec::new(),
            hostile: Vec::new(),
        }
    }

    /// Everything that is wrong with the load, in words; empty when it can run.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.address().is_none() {
            problems.push(format!("broker {:?} is not host:port", self.broker));
        }
        let by_tls = self.tls.is_some() || self.scanners.iter().any(|scanner| scanner.tls.is_some());
        if by_tls && self.broker.starts_with('[') {
            // The MQTT client library takes the brackets for a part of the name that the certificate must have.
            problems.push(format!("broker {:?}: TLS needs a name here, not an IPv6 address", self.broker));
        }
        if self.scanners.is_empty() {
            problems.push("there are no scanners".to_owned());
        }
        if !(self.rate_hz > 0.0 && self.rate_hz <= MAX_RATE_HZ) {
            problems.push(format!("rate {} is not above 0 and at most {MAX_RATE_HZ}", self.rate_hz));
        }
        let readings = self.rate_hz * self.duration.as_secs_f64() * self.scanners.len() as f64;
        if self.pattern == Pattern::Poisson && readings > MAX_DRAWN {
            problems.push(format!("pattern poisson of {readings:.0} readings: at most {MAX_DRAWN} are drawn"));
        }
        if self.in_flight == 0 {
            problems.push("in_flight is 0: nothing could be sent".to_owned());
        }
        if self.qos == Qos::AtMostOnce && self.has(Fault::Duplicate) {
            problems.push("fault duplicate needs QoS 1 or 2: nothing is sent again at QoS 0".to_owned());
        }
        let hostile = self.hostile.iter().filter(|(kind, _)| kind.is_known()).map(|(_, scanner)| scanner);
        let mut ids: Vec<_> = self.scanners.iter().chain(hostile).map(|scanner| &scanner.id).collect();
        ids.sort();
        for pair in ids.windows(2) {
            if let [a, b] = pair
                && a == b
            {
                problems.push(format!("device {a} is there twice: the two would throw each other out"));
            }
        }
        problems
    }

    /// The TLS of a scanner's connections.
    pub(crate) fn tls_of(&self, scanner: &Scanner) -> Option<Arc<ClientConfig>> {
        scanner.tls.as_ref().or(self.tls.as_ref()).map(Arc::clone)
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    pub(crate) fn keeps_session(&self) -> bool {
        self.keep_session || [Fault::Duplicate, Fault::Drop, Fault::Cut].iter().any(|fault| self.has(*fault))
    }

    /// Host and port of the broker.
    pub(crate) fn address(&self) -> Option<(String, u16)> {
        let (host, port) = self.broker.rsplit_once(':')?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || (host.contains(':') && !bracketed) || host.contains('/') {
            return None;
        }
        let port = port.parse().ok().filter(|port| *port != 0)?;
        Some((host.to_owned(), port))
    }
}

/// The load cannot run; each entry says why in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidLoad(pub Vec<String>);

impl fmt::Display for InvalidLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for InvalidLoad {}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanner(id: &str) -> Scanner {
        Scanner::new(DeviceId::new(id).unwrap())
    }

    #[test]
    fn a_default_load_can_run() {
        assert_eq!(Load::new("localhost:1883", vec![scanner("a")]).validate(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let load = Load {
            rate_hz: f64::NAN,
            in_flight: 0,
            qos: Qos::AtMostOnce,
            faults: vec![Fault::Duplicate],
            ..Load::new("nowhere", vec![scanner("a"), scanner("a")])
        };
        assert_eq!(load.validate().len(), 5, "{:?}", load.validate());
    }

    #[test]
    fn more_drawn_arrivals_than_fit_in_memory_are_refused() {
        let load = |pattern, seconds| Load {
            pattern,
            rate_hz: 1_000.0,
            duration: Duration::from_secs(seconds),
            ..Load::new("localhost:1883", vec![scanner("a")])
        };
        assert_eq!(load(Pattern::Poisson, 100_000).validate().len(), 0);
        assert_eq!(load(Pattern::Poisson, 100_001).validate().len(), 1);
        assert_eq!(load(Pattern::Steady, 100_001).validate().len(), 0);
    }

    #[test]
    fn an_address_is_host_and_port() {
        for good in ["localhost:1883", "127.0.0.1:1", "[::1]:1883"] {
            assert!(Load::new(good, vec![]).address().is_some(), "{good}");
        }
        for bad in ["", "localhost", ":1883", "::1:1883", "a:b", "a:0", "mqtt://a:1883"] {
            assert!(Load::new(bad, vec![]).address().is_none(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let mut scanner = scanner("a");
        scanner.secret = Some("hunter2".into());
        assert!(!format!("{scanner:?}").contains("hunter2"));
    }
}
