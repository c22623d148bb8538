//! GTIN rules (GS1 General Specifications, section 7.9): lengths 8, 12, 13, 14 and the modulo-10 check digit.

use crate::Reject;

/// The GTIN lengths: GTIN-8, UPC-A, EAN-13, GTIN-14.
const LENGTHS: [usize; 4] = [8, 12, 13, 14];
/// A GTIN-14 fits the AI `(01)` field.
const AI_GTIN: &str = "01";

/// The check digit for `digits` (the code without its last digit), as an ASCII digit.
///
/// Weights 3, 1, 3 … from the right. Source: GS1 General Specifications 7.9.1.
/// `None` when a byte is not an ASCII digit.
pub fn check_digit(digits: &[u8]) -> Option<u8> {
    let mut sum = 0u32;
    for (i, b) in digits.iter().rev().enumerate() {
        if !b.is_ascii_digit() {
            return None;
        }
        sum += u32::from(b - b'0') * if i % 2 == 0 { 3 } else { 1 };
    }
    u8::try_from((10 - sum % 10) % 10).ok().map(|d| b'0' + d)
}

/// Whether `code` is 8, 12, 13 or 14 ASCII digits with a right check digit.
pub fn is_gtin(code: &[u8]) -> bool {
    LENGTHS.contains(&code.len()) && code.split_last().is_some_and(|(last, rest)| check_digit(rest) == Some(*last))
}

/// Finds the GTIN in what a scanner sent: bare digits, a GS1 element string or a GS1 Digital Link.
pub(crate) fn extract(text: &str) -> Result<&str, Reject> {
    if !text.is_ascii() {
        return Err(Reject::BadCharacter);
    }
    let candidate = from_digital_link(text).or_else(|| from_element_string(text)).unwrap_or(text);
    if !candidate.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Reject::BadCharacter);
    }
    if is_gtin(candidate.as_bytes()) { Ok(candidate) } else { Err(Reject::BadCheckDigit) }
}

/// `https://id.gs1.org/01/09506000134352/10/ABC` → `09506000134352`.
fn from_digital_link(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let mut segments = rest.split(['/', '?', '#']).skip(1);
    segments.find(|s| *s == AI_GTIN)?;
    segments.next()
}

/// `]C10109506000134352…`, `(01)09506000134352(10)ABC` or `0109506000134352…` → the fourteen digits after AI 01.
fn from_element_string(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix("(01)") {
        return rest.get(..14);
    }
    // A symbology identifier (`]C1`, `]d2`, `]Q3`, `]e0`) says that an element string follows.
    let bare = match text.strip_prefix(']') {
        Some(rest) => rest.get(2..)?,
        None if text.len() >= 16 => text,
        None => return None,
    };
    bare.strip_prefix('\u{1d}').unwrap_or(bare).strip_prefix(AI_GTIN)?.get(..14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_codes_have_right_check_digits() {
        for code in ["4006381333931", "96385074", "036000291452", "09506000134352", "9780201379624"] {
            assert!(is_gtin(code.as_bytes()), "{code}");
        }
        for code in ["4006381333932", "123", "", "40063813339311"] {
            assert!(!is_gtin(code.as_bytes()), "{code}");
        }
    }

    #[test]
    fn a_gtin_comes_out_of_every_gs1_shape() {
        for text in [
            "09506000134352",
            "(01)09506000134352(10)ABC123",
            "]C1010950600013435210ABC123",
            "]d20109506000134352",
            "010950600013435217261231",
            "https://id.gs1.org/01/09506000134352/10/ABC?17=261231",
        ] {
            assert_eq!(extract(text), Ok("09506000134352"), "{text}");
        }
        assert_eq!(extract("4006381333932"), Err(Reject::BadCheckDigit));
        assert_eq!(extract("40063813339é1"), Err(Reject::BadCharacter));
        assert_eq!(extract("https://id.gs1.org/01/"), Err(Reject::BadCheckDigit));
    }
}
