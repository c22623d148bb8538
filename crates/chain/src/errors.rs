//! Reads what nodes say about a sent transaction. The one place that knows node texts.

/// How a send ended. `Unknown` never frees a nonce and never leads to signing something else at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The node took the bytes, now or before.
    Accepted,
    /// The node refused them, for a reason that it named.
    Rejected(Rejection),
    /// No answer, or one that says nothing about the bytes: time-out, reset, 5xx, a text that nobody knows.
    Unknown(String),
}

/// Why a node refused a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The account's nonce is already past it: included, or used by another transaction. The receipt decides.
    NonceTooLow,
    /// A gap before it (Nethermind refuses those). Send the earlier ones first.
    NonceTooHigh,
    /// Another transaction at this nonce pays too much for this one to replace it.
    ReplacementUnderpriced,
    /// The fee is below the base fee or the pool's minimum. Replace at the market's price.
    Underpriced,
    /// The account cannot pay. Wait for money; the same bytes stay good.
    InsufficientFunds,
    /// The pool is full or the account has too many. Send again later.
    PoolFull,
    /// The bytes can never be taken: gas, size, chain id, signature. A fault of ours; raise an alarm.
    Invalid,
}

impl Outcome {
    /// The label of `windlass_transactions_total{outcome}`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected(_) => "rejected",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// Spellings of geth, reth, anvil, Besu, Nethermind, Erigon and Hardhat, lower case. The first match decides, so the more
/// special text stands before the more general one.
const TEXTS: [(&str, Option<Rejection>); 39] = [
    ("already known", None),
    ("already imported", None),
    ("alreadyknown", None),
    ("known transaction", None),
    ("already in the pool", None),
    ("transaction already exists", None),
    ("replacement transaction underpriced", Some(Rejection::ReplacementUnderpriced)),
    ("replacement_underpriced", Some(Rejection::ReplacementUnderpriced)),
    ("replacementnotallowed", Some(Rejection::ReplacementUnderpriced)),
    ("could not replace existing tx", Some(Rejection::ReplacementUnderpriced)),
    ("nonce too low", Some(Rejection::NonceTooLow)),
    ("nonce_too_low", Some(Rejection::NonceTooLow)),
    ("oldnonce", Some(Rejection::NonceTooLow)),
    ("nonce is too low", Some(Rejection::NonceTooLow)),
    ("less than the sender's nonce", Some(Rejection::NonceTooLow)),
    ("nonce too high", Some(Rejection::NonceTooHigh)),
    ("noncegap", Some(Rejection::NonceTooHigh)),
    ("nonce_gap", Some(Rejection::NonceTooHigh)),
    ("too distant", Some(Rejection::NonceTooHigh)),
    ("insufficient funds", Some(Rejection::InsufficientFunds)),
    ("insufficientfunds", Some(Rejection::InsufficientFunds)),
    ("doesn't have enough funds", Some(Rejection::InsufficientFunds)),
    ("insufficient balance", Some(Rejection::InsufficientFunds)),
    ("upfront cost exceeds", Some(Rejection::InsufficientFunds)),
    ("max fee per gas less than block base fee", Some(Rejection::Underpriced)),
    ("feetoolow", Some(Rejection::Underpriced)),
    ("is too low for the next block", Some(Rejection::Underpriced)),
    ("fee too low", Some(Rejection::Underpriced)),
    ("gas price below", Some(Rejection::Underpriced)),
    ("underpriced", Some(Rejection::Underpriced)),
    ("txpool is full", Some(Rejection::PoolFull)),
    ("pool is full", Some(Rejection::PoolFull)),
    ("account limit exceeded", Some(Rejection::PoolFull)),
    ("exceeds block gas limit", Some(Rejection::Invalid)),
    ("gas limit too high", Some(Rejection::Invalid)),
    ("intrinsic gas too low", Some(Rejection::Invalid)),
    ("oversized data", Some(Rejection::Invalid)),
    ("invalid sender", Some(Rejection::Invalid)),
    ("chain id", Some(Rejection::Invalid)),
];

/// Reads a node's error answer to `eth_sendRawTransaction`.
pub fn read(message: &str) -> Outcome {
    let text = message.to_lowercase();
    TEXTS.iter().find(|(known, _)| text.contains(known)).map_or_else(
        || Outcome::Unknown(message.chars().take(200).collect()),
        |(_, rejection)| rejection.map_or(Outcome::Accepted, Outcome::Rejected),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_texts_are_told_apart() {
        use Rejection::*;
        let table = [
            ("already known", Outcome::Accepted),
            ("transaction already imported", Outcome::Accepted),
            ("AlreadyKnown", Outcome::Accepted),
            ("Known transaction", Outcome::Accepted),
            ("replacement transaction underpriced", Outcome::Rejected(ReplacementUnderpriced)),
            ("Replacement transaction underpriced", Outcome::Rejected(ReplacementUnderpriced)),
            ("transaction underpriced", Outcome::Rejected(Underpriced)),
            ("nonce too low: next nonce 5, tx nonce 4", Outcome::Rejected(NonceTooLow)),
            ("OldNonce", Outcome::Rejected(NonceTooLow)),
            ("Nonce too low", Outcome::Rejected(NonceTooLow)),
            ("nonce too high", Outcome::Rejected(NonceTooHigh)),
            ("Insufficient funds for gas * price + value", Outcome::Rejected(InsufficientFunds)),
            ("Upfront cost exceeds account balance", Outcome::Rejected(InsufficientFunds)),
            ("max fee per gas less than block base fee: address 0x…", Outcome::Rejected(Underpriced)),
            ("txpool is full", Outcome::Rejected(PoolFull)),
            ("intrinsic gas too low", Outcome::Rejected(Invalid)),
            ("exceeds block gas limit", Outcome::Rejected(Invalid)),
            // Nethermind
            ("AlreadyKnown, tx is already in the pool", Outcome::Accepted),
            ("ReplacementNotAllowed, existing transaction pays more", Outcome::Rejected(ReplacementUnderpriced)),
            ("FeeTooLowToCompete", Outcome::Rejected(Underpriced)),
            ("NonceGap, Future nonce. Expected nonce: 4", Outcome::Rejected(NonceTooHigh)),
            ("InsufficientFunds, Account balance: 0", Outcome::Rejected(InsufficientFunds)),
            // Besu
            ("TRANSACTION_REPLACEMENT_UNDERPRICED", Outcome::Rejected(ReplacementUnderpriced)),
            ("NONCE_TOO_LOW", Outcome::Rejected(NonceTooLow)),
            ("Transaction nonce is too distant from current sender nonce", Outcome::Rejected(NonceTooHigh)),
            ("Gas price below configured minimum gas price", Outcome::Rejected(Underpriced)),
            ("Transaction gas limit too high: exceeds block gas limit", Outcome::Rejected(Invalid)),
            // Erigon
            ("could not replace existing tx", Outcome::Rejected(ReplacementUnderpriced)),
            ("nonce too low: address 0xab, tx: 3 state: 4", Outcome::Rejected(NonceTooLow)),
            ("fee too low", Outcome::Rejected(Underpriced)),
            ("account limit exceeded: pooled 16 txs", Outcome::Rejected(PoolFull)),
            ("oversized data", Outcome::Rejected(Invalid)),
            ("invalid sender", Outcome::Rejected(Invalid)),
            // Hardhat
            ("Known transaction: 0xab", Outcome::Accepted),
            ("Nonce too low. Expected nonce to be 5 but got 4.", Outcome::Rejected(NonceTooLow)),
            (
                "Sender doesn't have enough funds to send tx. The max upfront cost is: 9",
                Outcome::Rejected(InsufficientFunds),
            ),
            (
                "Replacement transaction underpriced. A gasPrice/maxFeePerGas of at least 12 is necessary",
                Outcome::Rejected(ReplacementUnderpriced),
            ),
            (
                "Transaction maxFeePerGas (1) is too low for the next block, which has a baseFeePerGas of 2",
                Outcome::Rejected(Underpriced),
            ),
        ];
        for (text, outcome) in table {
            assert_eq!(read(text), outcome, "{text}");
        }
    }

    #[test]
    fn an_unheard_of_text_is_unknown_never_a_rejection() {
        assert!(matches!(read("the moon is full"), Outcome::Unknown(_)));
        assert!(matches!(read(""), Outcome::Unknown(_)));
    }
}
