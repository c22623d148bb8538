//! The broker's metrics: names, units and labels in one place.

use std::{sync::LazyLock, time::Duration};

use metrics::{
    Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use windlass_reading::Reject;

use crate::intake::Qos;

const CONNECTIONS: &str = "windlass_connections";
const CONNECTS: &str = "windlass_connects_total";
const RECEIVED: &str = "windlass_readings_received_total";
const REJECTED: &str = "windlass_readings_rejected_total";
const ACK: &str = "windlass_ack_seconds";
/// Shared with the chain side, which drops receipts before they come here.
const BANS: &str = "windlass_bans_total";
const TAKEOVERS: &str = "windlass_takeovers_total";
const THROTTLED: &str = "windlass_readings_throttled_total";
const DROPPED: &str = "windlass_receipts_dropped_total";
const ROUTER_UP: &str = "windlass_router_up";
const STRAYED: &str = "windlass_router_strays_total";
const ROUTER_RESTARTS: &str = "windlass_router_restarts_total";

/// The reasons for which the front itself refuses; the device side counts its own under the same name.
const REASONS: [Reject; 4] = [Reject::ForeignTopic, Reject::TooLong, Reject::Retained, Reject::Malformed];

/// How a connection attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connect {
    Accepted,
    BadCredentials,
    NotAuthorized,
    BadClientId,
    UnsupportedVersion,
    Unsupported,
    Malformed,
    Timeout,
    Closed,
    Limit,
    Tls,
    Websocket,
    Unavailable,
    AddressLimit,
    Banned,
    TooOften,
    Busy,
}

impl Connect {
    const ALL: [Self; 17] = [
        Self::Accepted,
        Self::BadCredentials,
        Self::NotAuthorized,
        Self::BadClientId,
        Self::UnsupportedVersion,
        Self::Unsupported,
        Self::Malformed,
        Self::Timeout,
        Self::Closed,
        Self::Limit,
        Self::Tls,
        Self::Websocket,
        Self::Unavailable,
        Self::AddressLimit,
        Self::Banned,
        Self::TooOften,
        Self::Busy,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::BadCredentials => "bad_credentials",
            Self::NotAuthorized => "not_authorized",
            Self::BadClientId => "bad_client_id",
            Self::UnsupportedVersion => "unsupported_version",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Limit => "limit",
            Self::Tls => "tls",
            Self::Websocket => "websocket",
            Self::Unavailable => "unavailable",
            Self::AddressLimit => "address_limit",
            Self::Banned => "banned",
            Self::TooOften => "connect_rate",
            Self::Busy => "busy",
        }
    }
}

/// What becomes of a reading over its device's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Throttled {
    /// MQTT 5: answered with "quota exceeded".
    Refused,
    /// 3.1.1: taken later, its socket is not read meanwhile.
    Delayed,
    /// QoS 0.
    Dropped,
}

impl Throttled {
    const ALL: [Self; 3] = [Self::Refused, Self::Delayed, Self::Dropped];

    fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Delayed => "delayed",
            Self::Dropped => "dropped",
        }
    }
}

/// Describes the broker's metrics and touches each series. Returns the histogram buckets `(name, upper bounds)`.
pub fn describe() -> Vec<(&'static str, &'static [f64])> {
    describe_gauge!(CONNECTIONS, Unit::Count, "Authenticated sessions");
    describe_counter!(CONNECTS, Unit::Count, "Connection attempts by outcome");
    describe_counter!(RECEIVED, Unit::Count, "Publishes taken off the wire, on the device's own topic");
    describe_counter!(REJECTED, Unit::Count, "Publishes refused for what they are");
    describe_histogram!(ACK, Unit::Seconds, "From a publish read to its PUBACK or PUBREC written");
    describe_counter!(DROPPED, Unit::Count, "Receipts to devices not sent because their queue was full");
    describe_counter!(BANS, Unit::Count, "Bans after failed connects, of a device's or user's name or of an address");
    describe_counter!(TAKEOVERS, Unit::Count, "Live sessions taken over by a new connection of their device");
    describe_counter!(THROTTLED, Unit::Count, "Readings over their device's rate, by what became of them");
    describe_gauge!(ROUTER_UP, Unit::Count, "1 while the router forwards the canary's messages");
    describe_counter!(ROUTER_RESTARTS, Unit::Count, "Routers started in place of one that had ended or hung");
    describe_counter!(STRAYED, Unit::Count, "Messages of the router that no subscription of their session covers");
    gauge!(ROUTER_UP).set(1.0);
    counter!(STRAYED).increment(0);
    counter!(ROUTER_RESTARTS).absolute(0);
    for by in ["device", "address"] {
        counter!(BANS, "by" => by).increment(0);
    }
    for slowed in ["no", "yes"] {
        counter!(TAKEOVERS, "slowed" => slowed).increment(0);
    }
    for throttled in Throttled::ALL {
        counter!(THROTTLED, "action" => throttled.as_str()).increment(0);
    }
    gauge!(CONNECTIONS).increment(0.0);
    counter!(DROPPED).increment(0);
    for outcome in Connect::ALL {
        counter!(CONNECTS, "outcome" => outcome.as_str()).increment(0);
    }
    for qos in Qos::ALL {
        counter!(RECEIVED, "qos" => qos.as_str()).increment(0);
    }
    for reject in REASONS {
        counter!(REJECTED, "reason" => reject.reason()).increment(0);
    }
    vec![(ACK, &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])]
}

pub(crate) fn connect(outcome: Connect) {
    counter!(CONNECTS, "outcome" => outcome.as_str()).increment(1);
}

/// What is counted for each reading, without looking for its series each time. Made with the first reading, long after
/// the process has its recorder.
struct EachReading {
    received: [Counter; 3],
    acknowledged: Histogram,
}

static EACH_READING: LazyLock<EachReading> = LazyLock::new(|| EachReading {
    received: Qos::ALL.map(|qos| counter!(RECEIVED, "qos" => qos.as_str())),
    acknowledged: histogram!(ACK),
});

/// So many of each quality of service.
pub(crate) fn received(readings: [u64; 3]) {
    if readings == [0; 3] {
        return;
    }
    for (counter, readings) in EACH_READING.received.iter().zip(readings).filter(|(_, readings)| *readings > 0) {
        counter.increment(readings);
    }
}

pub(crate) fn rejected(reject: Reject) {
    counter!(REJECTED, "reason" => reject.reason()).increment(1);
}

pub(crate) fn acknowledged(after: Duration) {
    EACH_READING.acknowledged.record(after.as_secs_f64());
}

/// `by` is `device` or `address`.
pub(crate) fn banned(by: &'static str) {
    counter!(BANS, "by" => by).increment(1);
}

pub(crate) fn taken_over(slowed: bool) {
    counter!(TAKEOVERS, "slowed" => if slowed { "yes" } else { "no" }).increment(1);
}

pub(crate) fn throttled(action: Throttled) {
    counter!(THROTTLED, "action" => action.as_str()).increment(1);
}

/// Whether the router forwards, and how often it was started again.
pub(crate) fn router(up: bool, restarts: u64) {
    gauge!(ROUTER_UP).set(f64::from(u8::from(up)));
    counter!(ROUTER_RESTARTS).absolute(restarts);
}

/// The router brought what was not subscribed to; it is dropped.
pub(crate) fn strayed() {
    counter!(STRAYED).increment(1);
}

pub(crate) fn dropped() {
    counter!(DROPPED).increment(1);
}

/// Counts a session for as long as it lives.
#[derive(Debug)]
pub(crate) struct Open;

impl Open {
    pub(crate) fn new() -> Self {
        gauge!(CONNECTIONS).increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(CONNECTIONS).decrement(1.0);
    }
}
