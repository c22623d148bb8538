//! The hot path: what a device actor hands over for each publish, and what it hears back.

use std::fmt;

use windlass_reading::{DeviceId, Draft, Reject, Settlement};

/// Called once, on the writer's thread, after the commit (or its failure). Must not block.
pub type Reply<T> = Box<dyn FnOnce(Result<T, AppendError>) + Send>;

/// Consecutive readings of one device, to be made durable: all of them or none.
pub struct Append {
    /// Whose readings.
    pub device: DeviceId,
    /// The device's key generation.
    pub epoch: u32,
    /// How they will be settled.
    pub settlement: Settlement,
    /// Of the first: must be the device's last stored sequence + 1. The others follow it without a hole.
    pub sequence: u64,
    /// In the order of their sequence numbers; at least one.
    pub readings: Vec<Entry>,
    /// The quarantine row that was judged again: it goes in the same commit, and the append fails when it is gone.
    pub quarantine: Option<u64>,
    /// Hears where the first one is stored.
    pub reply: Reply<Stored>,
}

/// One reading of an [`Append`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Payload, time, message id.
    pub draft: Draft,
    /// The MQTT packet id of a QoS 1 publish, by which a redelivery is known after a restart.
    pub packet_id: Option<u16>,
    /// A QoS 2 publish: its packet id is kept until it is released, and frees any older one with the same id.
    pub exactly_once: bool,
    /// When the gateway received it, unix milliseconds.
    pub received_at_ms: u64,
}

/// The packet id of a QoS 2 publish may be used for another one from now on (PUBREL).
pub struct Release {
    /// Whose publish.
    pub device: DeviceId,
    /// Its packet id.
    pub packet_id: u16,
    /// Hears whether the id was in use.
    pub reply: Reply<bool>,
}

/// The place in the journal of an [`Append`]'s first reading; the others follow it without a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The device's sequence number.
    pub sequence: u64,
    /// Arrival number over all devices; the order in which batches take readings.
    pub arrival: u64,
}

/// An input that was refused, to be kept.
pub struct Refusal {
    /// The device that sent it, if it is known.
    pub device: Option<DeviceId>,
    /// The topic it was published on.
    pub topic: String,
    /// What was sent, cut to the first 4 KiB.
    pub payload: Vec<u8>,
    /// Why it was refused.
    pub reject: Reject,
    /// When the gateway received it, unix milliseconds.
    pub received_at_ms: u64,
    /// Hears the quarantine row's number.
    pub reply: Reply<u64>,
}

/// The queue before the writer is full (try again shortly, reading nothing more meanwhile) or the writer is gone.
pub enum Refused<T> {
    /// The bound is reached; the entry comes back untouched.
    Full(T),
    /// The journal is closed; the entry comes back untouched.
    Closed(T),
}

/// Why an entry was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The sequence is not the next one. The actor takes `expected` as its next number and refuses the publish;
    /// happens to everything that was queued behind a failed commit.
    #[error("sequence {got} is not the next one, {expected}")]
    OutOfOrder {
        /// The only number that would be stored now.
        expected: u64,
        /// The number that was offered.
        got: u64,
    },
    /// The device was never announced with `upsert_devices`.
    #[error("device is not in the journal")]
    UnknownDevice,
    /// The commit failed (disk full, I/O error): nothing of the entry is stored; the journal goes on by itself.
    #[error("journal unavailable: {0}")]
    Unavailable(String),
}

impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Append")
            .field("device", &self.device)
            .field("sequence", &self.sequence)
            .field("readings", &self.readings.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Release")
            .field("device", &self.device)
            .field("packet_id", &self.packet_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal").field("device", &self.device).field("reject", &self.reject).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Refused<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        })
    }
}
