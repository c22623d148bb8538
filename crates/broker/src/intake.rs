//! The seam to whoever makes readings durable.

use std::{fmt, sync::Arc};

use windlass_reading::{DeviceId, Payload, Reject};

use crate::verdicts::Replies;

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

/// A publish on a topic of its device's own, or the end of its delivery.
#[derive(Debug)]
pub struct Publish {
    /// Which of the two.
    pub step: Step,
    /// Where.
    pub topic: Arc<str>,
    /// What, unread.
    pub payload: Payload,
    /// Which answer the device expects.
    pub qos: Qos,
    /// The DUP flag: the device may have sent this before.
    pub duplicate: bool,
    /// Present with QoS 1 and 2.
    pub packet_id: Option<u16>,
    /// Unix milliseconds at which the packet was complete.
    pub received_at_ms: u64,
}

/// What the front hands over: what was in the socket of an authenticated device.
#[derive(Debug)]
pub struct Offer {
    /// Who published.
    pub device: DeviceId,
    /// In the order in which they came.
    pub publishes: Vec<Publish>,
    /// To be answered, by their places, once their outcomes are on disk.
    pub replies: Replies,
}

impl Offer {
    /// The publishes from this place on, to be offered again.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let publishes = self.publishes.split_off(at.min(self.publishes.len()));
        Self { device: self.device.clone(), publishes, replies: self.replies.split_off(at) }
    }
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
    /// A queue is full. These are offered again shortly; until then their connection's socket is not read.
    Full(Offer),
    /// The device is not known (any more): its publishes are answered as unavailable.
    Unknown,
    /// The intake has ended: they are answered as unavailable.
    Closed,
}

/// A publish of an authenticated device that the front itself turned away.
#[derive(Debug)]
pub struct Refusal {
    /// Who published.
    pub device: DeviceId,
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Payload,
    /// Why not.
    pub reject: Reject,
    /// Unix milliseconds at which the packet was complete.
    pub received_at_ms: u64,
}

/// Takes publishes. Called from connection tasks: must not block.
pub trait Intake: Send + Sync + 'static {
    /// Takes an offer. Gives back what it cannot take, and everything behind it.
    ///
    /// # Errors
    /// [`Refused`] says whether offering it again may help.
    fn offer(&self, offer: Offer) -> Result<(), Refused>;

    /// Is told of a publish that the front refused (foreign topic, retained), for quarantine. It is counted
    /// and answered by the front; nothing is ever acknowledged as stored because of this call. Default: nothing.
    fn refused(&self, refusal: Refusal) {
        drop(refusal);
    }
}

impl<T: Intake + ?Sized> Intake for std::sync::Arc<T> {
    fn offer(&self, offer: Offer) -> Result<(), Refused> {
        (**self).offer(offer)
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
