//! The rules of one account's nonces.

/// The nonce that the account's next transaction takes.
///
/// The journal knows what was signed, the chain knows what was included; the larger one wins. A nonce that the
/// journal used is never given out again, whatever the chain says: its bytes may be on their way.
pub(crate) fn next(journal_highest: Option<u64>, chain_next: u64) -> u64 {
    journal_highest.map_or(0, |n| n + 1).max(chain_next)
}

/// What several nodes say of an account's next nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// The lowest answer: a node may be behind, or lie.
    pub(crate) low: u64,
    /// The highest.
    pub(crate) high: u64,
}

impl Counts {
    /// The chain's word for an account that the journal has a highest nonce of, or none. `None`: the nodes disagree, and
    /// the journal cannot tell who is right.
    ///
    /// With a history the lowest answer is enough: everything that was sent from here is in the journal.
    pub(crate) fn settled(self, journal_highest: Option<u64>) -> Option<u64> {
        (journal_highest.is_some() || self.low == self.high).then_some(self.low)
    }
}

/// What the nodes say, one by one, about a transaction of ours whose nonce seems to be used by somebody else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Votes {
    /// All nodes, also those that did not answer.
    pub(crate) nodes: usize,
    /// At the final height the nonce is used, and the node knows no receipt of ours.
    pub(crate) used: usize,
    /// Anything else.
    pub(crate) against: usize,
}

impl Votes {
    /// A majority of all nodes says so and none denies it.
    pub(crate) fn are_enough(self) -> bool {
        self.against == 0 && self.used * 2 > self.nodes
    }
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
    fn nodes_that_disagree_are_trusted_only_beside_a_history() {
        assert_eq!(Counts { low: 4, high: 4 }.settled(None), Some(4));
        assert_eq!(Counts { low: 4, high: 7 }.settled(None), None);
        assert_eq!(Counts { low: 4, high: 7 }.settled(Some(5)), Some(4));
    }

    #[test]
    fn a_destructive_verdict_needs_a_majority_and_nobody_against() {
        let votes = |nodes, used, against| Votes { nodes, used, against }.are_enough();
        assert!(votes(1, 1, 0) && votes(2, 2, 0) && votes(3, 2, 0));
        assert!(!votes(2, 1, 0) && !votes(3, 2, 1) && !votes(1, 0, 0) && !votes(3, 1, 0));
    }
}
