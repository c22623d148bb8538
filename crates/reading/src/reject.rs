//! Why an input is refused: one closed list that is metric label, log field and message to the device.

use serde::{Deserialize, Serialize};

/// Why a publish was refused. The text of [`Reject::reason`] is stable: dashboards and devices match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reject {
    /// The payload has no bytes, or only white space.
    Empty,
    /// The payload is longer than its format allows, or the packet longer than the listener allows.
    TooLong,
    /// A character that the format does not allow (letters in digits, NUL, control characters).
    BadCharacter,
    /// Not UTF-8 although the format is text.
    NotUtf8,
    /// The GTIN's check digit or length is wrong.
    BadCheckDigit,
    /// Not the JSON object that the format wants: bad syntax, a missing or an unknown key, a wrong type.
    BadJson,
    /// The JSON `at` is neither unix milliseconds nor RFC 3339.
    BadTime,
    /// Not the signed envelope that the format wants, neither as CBOR nor as JSON.
    BadEnvelope,
    /// The envelope's signature is not over this reading by the device's key.
    BadSignature,
    /// Signed as of another epoch than that of the device's key in force.
    WrongEpoch,
    /// The signed number is not the device's next one: readings before it are missing. Send those first.
    SequenceGap,
    /// The signed number was used before, for another reading.
    SequenceReused,
    /// `direct` settlement stores a number; this code is not 1–77 ASCII digits or does not fit 256 bits.
    NotNumeric,
    /// Published on a topic that is not the device's own.
    ForeignTopic,
    /// A reading published with the retain flag.
    Retained,
    /// The packet breaks the MQTT standard.
    Malformed,
    /// The device is not configured, or no longer.
    UnknownDevice,
}

impl Reject {
    /// Every reason, for touching each metric label at start.
    pub const ALL: [Self; 17] = [
        Self::Empty,
        Self::TooLong,
        Self::BadCharacter,
        Self::NotUtf8,
        Self::BadCheckDigit,
        Self::BadJson,
        Self::BadTime,
        Self::BadEnvelope,
        Self::BadSignature,
        Self::WrongEpoch,
        Self::SequenceGap,
        Self::SequenceReused,
        Self::NotNumeric,
        Self::ForeignTopic,
        Self::Retained,
        Self::Malformed,
        Self::UnknownDevice,
    ];

    /// The stable name: metric label, log field, and `reason` in listings and error messages.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::BadCharacter => "bad_character",
            Self::NotUtf8 => "not_utf8",
            Self::BadCheckDigit => "bad_check_digit",
            Self::BadJson => "bad_json",
            Self::BadTime => "bad_time",
            Self::BadEnvelope => "bad_envelope",
            Self::BadSignature => "bad_signature",
            Self::WrongEpoch => "wrong_epoch",
            Self::SequenceGap => "sequence_gap",
            Self::SequenceReused => "sequence_reused",
            Self::NotNumeric => "not_numeric",
            Self::ForeignTopic => "foreign_topic",
            Self::Retained => "retained",
            Self::Malformed => "malformed",
            Self::UnknownDevice => "unknown_device",
        }
    }
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}
