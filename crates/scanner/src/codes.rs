//! What the scanners read: codes that are a pure function of seed, device and position.

use windlass_reading::check_digit;

/// An EAN-13 is twelve digits and a check digit.
const EAN13_BODIES: u64 = 1_000_000_000_000;

/// The kind of code that a scanner reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codes {
    /// EAN-13 with a right check digit. One device never reads the same code twice, so that each payload can
    /// be looked up by itself; one code in ten begins with a zero.
    #[default]
    Ean13,
}

impl Codes {
    /// The code that `device` (its index in the load) reads at `position` (0, 1, 2 …).
    pub fn code(self, seed: u64, device: u64, position: u64) -> String {
        match self {
            Self::Ean13 => ean13(seed, device, position),
        }
    }
}

/// Walks all 10^12 bodies in steps that share no factor with 10, so a device repeats none of them.
fn ean13(seed: u64, device: u64, position: u64) -> String {
    let key = mix(seed ^ mix(device));
    let first = key % EAN13_BODIES;
    // Ends in 1: odd and no multiple of five, hence coprime to 10^12.
    let step = mix(key) % (EAN13_BODIES / 10) * 10 + 1;
    let walked = u128::from(step) * u128::from(position);
    let body = (u128::from(first) + walked) % u128::from(EAN13_BODIES);
    let mut code = format!("{body:012}");
    if let Some(digit) = check_digit(code.as_bytes()) {
        code.push(char::from(digit));
    }
    code
}

/// The finalizer of SplitMix64: every input bit moves every output bit.
///
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use windlass_reading::is_gtin;

    use super::*;

    #[test]
    fn the_check_digit_matches_published_examples() {
        // GS1's and the EAN article's worked examples, and the ISBN-13 of ISO 2108.
        for code in ["4006381333931", "5901234123457", "9783161484100", "6291041500213"] {
            let (body, last) = code.split_at(12);
            assert_eq!(check_digit(body.as_bytes()), Some(last.as_bytes()[0]), "{code}");
        }
    }

    #[test]
    fn every_code_is_a_valid_ean13() {
        for device in 0..20 {
            for position in [0, 1, 2, 99, u64::MAX] {
                let code = Codes::Ean13.code(7, device, position);
                assert!(code.len() == 13 && is_gtin(code.as_bytes()), "{code}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_codes_and_another_seed_others() {
        let codes = |seed| (0..50).map(|n| Codes::Ean13.code(seed, 3, n)).collect::<Vec<_>>();
        assert_eq!(codes(1), codes(1));
        assert_ne!(codes(1), codes(2));
    }

    #[test]
    fn a_device_reads_no_code_twice_and_some_begin_with_zero() {
        let codes: HashSet<_> = (0..5_000).map(|n| Codes::Ean13.code(1, 0, n)).collect();
        assert_eq!(codes.len(), 5_000);
        assert!(codes.iter().any(|code| code.starts_with('0')));
    }
}
