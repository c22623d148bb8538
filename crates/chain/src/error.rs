//! What can go wrong at the chain's edge.

use alloy::primitives::Address;

/// A chain operation did not happen. Nothing was signed or sent that is not in the journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a URL. Fix `chain.rpc`.
    #[error("chain.rpc: {0:?} is not a URL")]
    Url(String),
    /// The HTTP client could not be made (TLS roots).
    #[error("HTTP client: {0}")]
    Client(String),
    /// No node answered. Tried again at the next poll.
    #[error("{method}: {text}")]
    Node {
        /// The JSON-RPC method.
        method: &'static str,
        /// What the last node said.
        text: String,
    },
    /// No node has this method.
    #[error("{method}: no node supports it")]
    Unsupported {
        /// The JSON-RPC method.
        method: &'static str,
    },
    /// The nodes say different things about an account that the journal has no history of. Tried again.
    #[error("the nodes disagree on the next nonce of {account}: {low} to {high}")]
    Disagree {
        /// Whose nonce.
        account: Address,
        /// The lowest answer.
        low: u64,
        /// The highest.
        high: u64,
    },
    /// A node's answer has an impossible value.
    #[error("{0}: the node's answer makes no sense")]
    Answer(&'static str),
    /// A key file or keystore cannot be read. The text names the file, never its content.
    #[error("key {0}")]
    Key(String),
    /// The device's key did not sign (device removed, or its actor is gone). Tried again.
    #[error("device key: {0}")]
    Signing(String),
    /// A submitter's signer on another machine did not sign, or signed something else. Nothing was written; tried again.
    #[error("signer of {account}: {text}")]
    Signer {
        /// Whose.
        account: Address,
        /// What happened.
        text: String,
    },
    /// The journal did not store it; nothing was sent. Tried again.
    #[error("journal")]
    Journal(#[from] windlass_journal::Error),
    /// The transaction would need more than EIP-7825 allows.
    #[error("a transaction of {account} would need {gas} gas, more than 16,777,216")]
    TooMuchGas {
        /// Whose transaction.
        account: Address,
        /// What it would need.
        gas: u64,
    },
}
