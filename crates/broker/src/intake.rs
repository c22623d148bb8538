//! The seam to whoever makes readings durable.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use windlass_reading::{DeviceId, Reject};

use crate::verdicts::Reply;

/// Quality of service of a publish, or the highest one that a subscription asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// At most once: no answer is owed.
    AtMostOnce,
    /// At least once: a PUBACK is owed, after the verdict.
    AtLeastOnce,
    /// Exactly once: a PUBREC is owed, after the verdict; the packet id is then kept until the device releases it.
    ExactlyOnce,
}

impl Qos {
    /// All three; the place of each is its number on the wire.
    pub(crate) const ALL: [Self; 3] = [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce];

    /// 0, 1 or 2, as on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }

    /// From its number on the wire; `None` for 3 and more.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// `0`, `1` or `2`, as in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtMostOnce => "0",
            Self::AtLeastOnce => "1",
            Self::ExactlyOnce => "2",
        }
    }
}

/// What a device did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Published.
    Publish,
    /// Released the packet id of a QoS 2 publish (PUBREL). Topic and payload are empty; the verdict is
    /// [`Verdict::Released`].
    Release,
}

/// What the front hands over: a publish of an authenticated device on a topic that is its own, or the end of its delivery.
#[derive(Debug)]
pub struct Publish {
    /// Which of the two.
    pub step: Step,
    /// Who published.
    pub device: DeviceId,
    /// Where.
    pub topic: Arc<str>,
    /// What, unread.
    pub payload: Bytes,
    /// Which answer the device expects.
    pub qos: Qos,
    /// The DUP flag: the device may have sent this before.
    pub duplicate: bool,
    /// Present with QoS 1 and 2.
    pub packet_id: Option<u16>,
    /// Unix milliseconds at which the packet was complete.
    pub received_at_ms: u64,
    /// To be answered once the outcome is on disk.
    pub reply: Reply,
}

/// The outcome of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The reading is on disk.
    Accepted {
        /// Its number in the device's sequence.
        sequence: u64,
    },
    /// The reading was on disk before; nothing was stored.
    Repeated {
        /// The number that it has.
        sequence: u64,
    },
    /// The packet id is free, on disk too.
    Released {
        /// Whether it was in use.
        known: bool,
    },
    /// The payload is refused and its quarantine row is on disk.
    Rejected(Reject),
    /// Nothing is stored. Never acknowledged as success.
    Unavailable,
}

/// The intake did not take some publishes: the last ones of an offer, or all of it.
#[derive(Debug)]
pub enum Refused {
    /// A queue is full. They are offered again shortly; until then their connection's socket is not read.
    Full(Vec<Publish>),
    /// The device is not known (any more): answered as unavailable.
    Unknown(Vec<Publish>),
    /// The intake has ended: answered as unavailable.
    Closed(Vec<Publish>),
}

/// A publish of an authenticated device that the front itself turned away.
#[derive(Debug)]
pub struct Refusal {
    /// Who published.
    pub device: DeviceId,
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Bytes,
    /// Why not.
    pub reject: Reject,
    /// Unix milliseconds at which the packet was complete.
    pub received_at_ms: u64,
}

/// Takes publishes. Called from connection tasks: must not block.
pub trait Intake: Send + Sync + 'static {
    /// Takes publishes of one device, in the order in which they came: what was in its socket. Gives back what it cannot
    /// take, and everything behind it.
    ///
    /// # Errors
    /// [`Refused`] says whether offering them again may help.
    fn offer(&self, publishes: Vec<Publish>) -> Result<(), Refused>;

    /// Is told of a publish that the front refused (foreign topic, retained), for quarantine. It is counted
    /// and answered by the front; nothing is ever acknowledged as stored because of this call. Default: nothing.
    fn refused(&self, refusal: Refusal) {
        drop(refusal);
    }
}

impl<T: Intake + ?Sized> Intake for std::sync::Arc<T> {
    fn offer(&self, publishes: Vec<Publish>) -> Result<(), Refused> {
        (**self).offer(publishes)
    }

    fn refused(&self, refusal: Refusal) {
        (**self).refused(refusal);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { .. } => f.write_str("accepted"),
            Self::Repeated { .. } => f.write_str("repeated"),
            Self::Released { .. } => f.write_str("released"),
            Self::Rejected(reject) => write!(f, "{reject}"),
            Self::Unavailable => f.write_str("unavailable"),
        }
    }
}
