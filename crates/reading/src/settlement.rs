//! How a reading reaches the chain.

use serde::{Deserialize, Serialize};

/// The three ways onto the chain; cost and trust differ (see `docs/settlements.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// Each reading is its own `set(uint256)` transaction from the device's own account.
    Direct,
    /// Runs signed by device keys, verified on chain, the data in event logs.
    Batch,
    /// One Merkle root for each batch; readings stay in the journal, each provable.
    #[default]
    Anchor,
}

impl Settlement {
    /// All of them, for touching each metric label at start.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Batch, Self::Anchor];

    /// The name in config, listings and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Batch => "batch",
            Self::Anchor => "anchor",
        }
    }
}

impl std::fmt::Display for Settlement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Settlement {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|s| s.as_str() == text)
            .ok_or_else(|| format!("settlement {text:?} is not direct, batch or anchor"))
    }
}
