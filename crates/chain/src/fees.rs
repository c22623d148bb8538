//! EIP-1559 fees: what to offer, and how to raise it so that every node takes the replacement.

/// Fees of a transaction, wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// `maxFeePerGas`.
    pub max_fee_wei: u64,
    /// `maxPriorityFeePerGas`.
    pub tip_wei: u64,
}

/// Paid to the block's builder when the history shows less: geth's pool minimum is 1 wei, but builders skip those.
const MIN_TIP_WEI: u64 = 1_000_000;
/// Room for the base fee to rise: it grows by at most 12.5 % a block, so ×2 lasts for five full blocks.
const BASE_FEE_HEADROOM: u64 = 2;

impl Fees {
    /// What to offer at a `base_fee_wei` and the market's median `tip_wei`, never above `cap_wei`.
    pub fn offer(base_fee_wei: u64, tip_wei: u64, cap_wei: u64) -> Self {
        let tip = tip_wei.max(MIN_TIP_WEI).min(cap_wei);
        let max_fee = base_fee_wei.saturating_mul(BASE_FEE_HEADROOM).saturating_add(tip).min(cap_wei);
        Self { max_fee_wei: max_fee, tip_wei: tip.min(max_fee) }
    }

    /// A replacement for `self` that geth and reth take, at least at the market's `offer`; `None` when the cap
    /// leaves no room, and then the same bytes are sent again.
    ///
    /// Both fields rise by one eighth: nodes want +10 % on both, and reth refuses exactly +10 %.
    /// Source: reth issue 13160; geth `txpool.legacypool` `PriceBump` 10.
    pub fn bump(self, offer: Self, cap_wei: u64) -> Option<Self> {
        let raised = |fee: u64| fee.saturating_add(fee.div_ceil(8)).max(fee.saturating_add(1));
        let next = Self {
            max_fee_wei: raised(self.max_fee_wei).max(offer.max_fee_wei),
            tip_wei: raised(self.tip_wei).max(offer.tip_wei),
        };
        let next = Self { max_fee_wei: next.max_fee_wei.max(next.tip_wei), ..next };
        (next.max_fee_wei <= cap_wei).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GWEI: u64 = 1_000_000_000;

    #[test]
    fn an_offer_follows_the_market_up_to_the_cap() {
        let offer = Fees::offer(10 * GWEI, GWEI, 100 * GWEI);
        assert_eq!(offer, Fees { max_fee_wei: 21 * GWEI, tip_wei: GWEI });
        let capped = Fees::offer(90 * GWEI, 2 * GWEI, 100 * GWEI);
        assert_eq!(capped, Fees { max_fee_wei: 100 * GWEI, tip_wei: 2 * GWEI });
        assert_eq!(Fees::offer(7, 0, 100 * GWEI).tip_wei, MIN_TIP_WEI);
    }

    #[test]
    fn a_bump_is_strictly_above_ten_percent_on_both_fields() {
        for (max_fee_wei, tip_wei) in [(10 * GWEI, GWEI), (1_000, 10), (9, 1), (1, 1)] {
            let old = Fees { max_fee_wei, tip_wei };
            let new = old.bump(Fees { max_fee_wei: 0, tip_wei: 0 }, u64::MAX).unwrap();
            assert!(u128::from(new.max_fee_wei) * 10 > u128::from(max_fee_wei) * 11);
            assert!(u128::from(new.tip_wei) * 10 > u128::from(tip_wei) * 11);
            assert!(new.tip_wei <= new.max_fee_wei);
        }
    }

    #[test]
    fn a_bump_stops_at_the_cap() {
        let old = Fees { max_fee_wei: 95, tip_wei: 10 };
        assert_eq!(old.bump(old, 100), None);
        assert!(old.bump(old, 107).is_some());
    }
}
