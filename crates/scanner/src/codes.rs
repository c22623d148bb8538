//! What the scanners read: codes that are a pure function of seed, device and position.

use std::str::FromStr;

use windlass_reading::check_digit;

use crate::faults::{Unknown, by_name};

/// An EAN-13 is twelve digits and a check digit.
const EAN13_BODIES: u64 = 1_000_000_000_000;
/// A GTIN-14 is an indicator from 1 to 9 (the packing), twelve digits and a check digit.
const INDICATORS: u64 = 9;
/// Serial numbers of element strings.
const SERIALS: u64 = 1_000_000_000_000;
/// What a fleet handles: products whose items differ in their serial numbers only.
const PRODUCTS: u64 = 500;
/// Batches of a product.
const LOTS: u64 = 40;
/// Ends an element of variable length: how scanners send GS1's FNC1.
const GROUP_SEPARATOR: char = '\u{1d}';
/// What labels of a warehouse begin with: pallets, places, boxes, orders.
const LABELS: [&str; 4] = ["PAL", "LOC", "BOX", "ORD"];
/// Digits of a label's number; 36^8 numbers are more than there are EAN-13 bodies.
const LABEL_DIGITS: usize = 8;
const BASE_36: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The kind of code that a scanner reads. One device never reads the same code twice, so that each payload can be
/// looked up by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codes {
    /// EAN-13 with a right check digit; one code in ten begins with a zero.
    #[default]
    Ean13,
    /// GTIN-14 of an outer packing, as ITF-14 carries it.
    Gtin14,
    /// A label in Code 128: letters, a hyphen, digits and letters.
    Code128,
    /// A GS1 element string of GTIN, expiry, lot and serial number, as GS1 DataMatrix carries it.
    Gs1,
}

impl Codes {
    /// Every kind, in the order of the help text.
    pub const ALL: [Self; 4] = [Self::Ean13, Self::Gtin14, Self::Code128, Self::Gs1];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ean13 => "ean13",
            Self::Gtin14 => "gtin14",
            Self::Code128 => "code128",
            Self::Gs1 => "gs1",
        }
    }

    /// The code that `device` (its index in the load) reads at `position` (0, 1, 2 …).
    pub fn code(self, seed: u64, device: u64, position: u64) -> String {
        let key = mix(seed ^ mix(device));
        match self {
            Self::Ean13 => checked(format!("{:012}", walk(EAN13_BODIES, key, position))),
            Self::Gtin14 => {
                let body = walk(EAN13_BODIES, key, position);
                checked(format!("{}{body:012}", 1 + mix(body) % INDICATORS))
            }
            Self::Code128 => label(walk(EAN13_BODIES, key, position)),
            Self::Gs1 => element_string(seed, walk(SERIALS, key, position)),
        }
    }
}

impl FromStr for Codes {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        by_name("kind of codes", text, &Self::ALL, Self::as_str)
    }
}

/// Walks all numbers below `numbers` (a power of ten) in steps that share no factor with it, so that none comes twice.
fn walk(numbers: u64, key: u64, position: u64) -> u64 {
    // Ends in 1: odd and no multiple of five, hence coprime to a power of ten.
    let step = mix(key) % (numbers / 10) * 10 + 1;
    let walked = u128::from(step) * u128::from(position);
    let at = (u128::from(key % numbers) + walked) % u128::from(numbers);
    u64::try_from(at).unwrap_or_default()
}

/// The digits with their check digit.
fn checked(mut digits: String) -> String {
    if let Some(digit) = check_digit(digits.as_bytes()) {
        digits.push(char::from(digit));
    }
    digits
}

fn label(number: u64) -> String {
    let mut digits = [b'0'; LABEL_DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = BASE_36.get((rest % 36) as usize).copied().unwrap_or(b'0');
        rest /= 36;
    }
    let begin = LABELS.get((mix(number) % LABELS.len() as u64) as usize).copied().unwrap_or_default();
    format!("{begin}-{}", String::from_utf8_lossy(&digits))
}

/// AI 01 (GTIN), 17 (expiry), 10 (lot, of variable length) and 21 (serial number): GS1 General Specifications, section 3.
fn element_string(seed: u64, serial: u64) -> String {
    let product = mix(seed ^ mix(serial)) % PRODUCTS;
    let gtin = checked(format!("0{:012}", mix(seed ^ product) % EAN13_BODIES));
    let lot = mix(serial) % LOTS;
    let (year, month, day) = (27 + lot % 3, 1 + lot % 12, 1 + lot % 28);
    format!("01{gtin}17{year:02}{month:02}{day:02}10L{product}{lot:02}{GROUP_SEPARATOR}21{serial:012}")
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

    use windlass_reading::{Format, is_gtin};

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
    fn each_kind_is_what_a_gateway_reads_under_its_format() {
        let stored = |codes: Codes, format: Format, n| {
            let code = codes.code(3, 5, n);
            format.decode(code.as_bytes(), 0).unwrap_or_else(|reject| panic!("{code:?}: {reject:?}")).payload.into_vec()
        };
        for n in 0..200 {
            let carton = Codes::Gtin14.code(3, 5, n);
            assert!(carton.len() == 14 && !carton.starts_with('0'), "{carton}");
            assert_eq!(stored(Codes::Gtin14, Format::Gtin, n), carton.as_bytes());
            assert_eq!(stored(Codes::Code128, Format::Text, n).len(), 12);
            // Out of an element string the gateway takes the GTIN, or all of it as bytes.
            assert_eq!(stored(Codes::Gs1, Format::Gtin, n), &Codes::Gs1.code(3, 5, n).as_bytes()[2..16]);
            assert!(stored(Codes::Gs1, Format::Binary, n).contains(&0x1D));
        }
    }

    #[test]
    fn no_kind_repeats_itself_at_a_device() {
        for codes in Codes::ALL {
            let read: HashSet<_> = (0..5_000).map(|n| codes.code(1, 0, n)).collect();
            assert_eq!(read.len(), 5_000, "{codes:?}");
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_with_the_known_names() {
        assert_eq!("gs1".parse(), Ok(Codes::Gs1));
        let told = "qr".parse::<Codes>().unwrap_err().to_string();
        assert!(told.contains("qr") && told.contains("ean13, gtin14, code128, gs1"), "{told}");
    }

    #[test]
    fn the_same_seed_gives_the_same_codes_and_another_seed_others() {
        let codes = |seed| (0..50).map(|n| Codes::Ean13.code(seed, 3, n)).collect::<Vec<_>>();
        assert_eq!(codes(1), codes(1));
        assert_ne!(codes(1), codes(2));
    }

    #[test]
    fn some_begin_with_zero() {
        assert!((0..5_000).any(|n| Codes::Ean13.code(1, 0, n).starts_with('0')));
    }
}
