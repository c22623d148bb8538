//! The name of a device: one MQTT topic level that is also safe in a file name, a URL and a log line.

use std::{fmt, sync::Arc};

use alloy::primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};

/// Longest accepted id, in bytes. MQTT 3.1.1 only guarantees 23; common firmware uses up to 64.
const MAX_BYTES: usize = 64;

/// A validated device id: 1–64 characters out of `A-Z a-z 0-9 _ -`.
///
/// Cloning is cheap (a reference count), so an id travels with every message.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(Arc<str>);

/// The text is not a device id: it is empty, too long, or has a character outside `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device id {0:?} is not 1-64 characters of A-Z a-z 0-9 _ -")]
pub struct InvalidDeviceId(pub String);

impl DeviceId {
    /// Checks `text` and makes it an id.
    ///
    /// # Errors
    /// [`InvalidDeviceId`] when the text is empty, longer than 64 bytes or has another character.
    pub fn new(text: &str) -> Result<Self, InvalidDeviceId> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > MAX_BYTES || !text.bytes().all(good) {
            // What a client sent may be long and hostile; only its beginning is worth repeating.
            return Err(InvalidDeviceId(text.chars().take(MAX_BYTES).collect()));
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The device's name on chain: `keccak256(utf8 id)`.
    pub fn hash(&self) -> B256 {
        keccak256(self.0.as_bytes())
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({})", self.0)
    }
}

impl TryFrom<String> for DeviceId {
    type Error = InvalidDeviceId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl std::str::FromStr for DeviceId {
    type Err = InvalidDeviceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_topic_level() {
        for good in ["5446078", "dock-7", "A_b-9", &"x".repeat(64)] {
            assert_eq!(DeviceId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a+", "#", "$SYS", "é", "a b", "a\0", &"x".repeat(65)] {
            assert!(DeviceId::new(bad).is_err(), "{bad:?}");
        }
    }
}
