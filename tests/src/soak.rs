//! What a soak does to a site and when, out of a seed; and whether what it measured is flat.

use std::{fmt, time::Duration};

use crate::Random;

/// A fault comes about so often.
const EVERY: Duration = Duration::from_secs(20);
/// The deepest reorg; finality must be deeper.
pub const DEEPEST_REORG: u64 = 8;
/// So much memory may come and go: caches, and what a slow block holds back.
const SLACK: f64 = 16.0;
/// So much of it may a run end above its second quarter.
const GROWTH: f64 = 1.15;

/// What is done to the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// The node ends and comes back so much later.
    NodeRestart(Duration),
    /// The node stands still for so long.
    NodeHang(Duration),
    /// So many blocks are replaced.
    Reorg(u64),
    /// The gateway's certificate is renewed.
    Certificate,
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeRestart(time) => write!(f, "node gone for {} s", time.as_secs()),
            Self::NodeHang(time) => write!(f, "node stands still for {} s", time.as_secs()),
            Self::Reorg(depth) => write!(f, "reorg of {depth} blocks"),
            Self::Certificate => f.write_str("certificate renewed"),
        }
    }
}

/// The blows of a run of `length`, with their times; the last third of a minute is left in peace.
pub fn blows(seed: u64, length: Duration) -> Vec<(Duration, Blow)> {
    let mut draws = Random(seed);
    let slots = (length.as_secs() / EVERY.as_secs()).saturating_sub(1);
    (1..=slots)
        .map(|slot| {
            let at = EVERY * u32::try_from(slot).unwrap() + Duration::from_secs(draws.below(5));
            let blow = match draws.below(4) {
                0 => Blow::NodeRestart(Duration::from_secs(1 + draws.below(6))),
                1 => Blow::NodeHang(Duration::from_secs(3 + draws.below(10))),
                2 => Blow::Reorg(1 + draws.below(DEEPEST_REORG)),
                _ => Blow::Certificate,
            };
            (at, blow)
        })
        .collect()
}

/// Medians of the second and of the last quarter, and whether the later one is not above the earlier one by more than
/// 15 % and 16 (MiB).
pub fn is_flat(samples: &[f64]) -> (f64, f64, bool) {
    let quarter = samples.len() / 4;
    let median = |part: &[f64]| {
        let mut sorted = part.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    };
    let (second, last) = (median(&samples[quarter..2 * quarter]), median(&samples[3 * quarter..]));
    (second, last, last <= second * GROWTH + SLACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_all_blows_and_half_an_hour_has_each_kind() {
        let half_an_hour = Duration::from_secs(1_800);
        let told = blows(1, half_an_hour);
        assert_eq!(told, blows(1, half_an_hour));
        assert_ne!(told, blows(2, half_an_hour));
        assert_eq!(told.len(), 89);
        assert!(told.is_sorted_by_key(|(at, _)| *at) && told.last().unwrap().0 < half_an_hour);
        for seed in 0..20 {
            let kinds: std::collections::HashSet<_> =
                blows(seed, half_an_hour).iter().map(|(_, blow)| std::mem::discriminant(blow)).collect();
            assert_eq!(kinds.len(), 4, "{seed}");
        }
    }

    #[test]
    fn growth_is_told_from_a_wave() {
        let wave: Vec<f64> = (0..100).map(|n| 100.0 + f64::from(n % 10)).collect();
        assert!(is_flat(&wave).2);
        let leak: Vec<f64> = (0..100).map(|n| 100.0 + f64::from(n)).collect();
        assert!(!is_flat(&leak).2, "{:?}", is_flat(&leak));
    }
}
