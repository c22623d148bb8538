//! What can go wrong at the journal's edge.

use alloy::primitives::Address;

/// A journal operation failed; nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite refused or the disk failed. Reads may be tried again; a failed write left nothing behind.
    #[error("journal storage failed")]
    Storage(#[from] rusqlite::Error),
    /// The data directory cannot be made, opened or locked.
    #[error("data directory {path}")]
    Directory {
        /// Which directory.
        path: String,
        /// The operating system's word.
        #[source]
        source: std::io::Error,
    },
    /// Another process runs on this data directory. Stop it, or use another `data_dir`.
    #[error("data directory {0} is in use by another windlass run")]
    InUse(String),
    /// The journal was written by a newer Windlass. Upgrade; never run an older one on it.
    #[error("journal has schema {found}, this program knows {known}")]
    Newer {
        /// Schema version on disk.
        found: u32,
        /// Newest version this program knows.
        known: u32,
    },
    /// A copy of the journal is not sound: so is the journal itself. See `windlass fsck`.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// The account already has a transaction at this nonce. The lane must reconcile; nothing was stored.
    #[error("account {account} already has a transaction at nonce {nonce}")]
    NonceTaken {
        /// Whose nonce.
        account: Address,
        /// Which nonce.
        nonce: u64,
    },
    /// A reading was already taken by another batch. The batch must be built again.
    #[error("a reading of the batch is already in another")]
    AlreadyTaken,
    /// The append-only log in the journal is further than the one that the batch goes on from. The batch must be built again.
    #[error("the log of {0} has grown since the batch was built")]
    LogMoved(String),
    /// A stored value is not what this program writes there: the file was changed from outside.
    #[error("journal holds an impossible value: {0}")]
    Corrupt(String),
    /// The writer thread is gone (shutdown).
    #[error("journal is closed")]
    Closed,
}
