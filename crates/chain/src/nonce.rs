//! The rules of one account's nonces.

/// The nonce that the account's next transaction takes.
///
/// The journal knows what was signed, the chain knows what was included; the larger one wins. A nonce that the
/// journal used is never given out again, whatever the chain says: its bytes may be on their way.
pub(crate) fn next(journal_highest: Option<u64>, chain_next: u64) -> u64 {
    journal_highest.map_or(0, |n| n + 1).max(chain_next)
}

/// Whether the chain is past a transaction of ours that no receipt explains: somebody else used the account, or
/// this node is ahead of the one that has the receipt. It is reported; nothing is signed because of it.
pub(crate) fn is_doubtful(nonce: u64, chain_next: u64, has_receipt: bool) -> bool {
    nonce < chain_next && !has_receipt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_nonce_is_never_given_out_again() {
        assert_eq!(next(None, 0), 0);
        assert_eq!(next(None, 7), 7);
        assert_eq!(next(Some(4), 2), 5);
        assert_eq!(next(Some(4), 9), 9);
    }

    #[test]
    fn only_a_passed_nonce_without_receipt_is_doubtful() {
        assert!(is_doubtful(3, 4, false));
        assert!(!is_doubtful(3, 4, true));
        assert!(!is_doubtful(4, 4, false));
    }
}
