//! A payload as one JSON string: its text, or `0x…` where it is not plain text.
//!
//! Every payload has exactly one spelling and every spelling means at most one payload.

use alloy::primitives::hex;

/// The spelling of `payload`: itself where it is UTF-8 without control characters and does not begin with `0x`,
/// else `0x` and lower-case hex.
pub fn payload_text(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) if !text.starts_with("0x") && !text.contains(char::is_control) => text.to_owned(),
        _ => hex::encode_prefixed(payload),
    }
}

/// The payload that `text` spells; `None` when it spells none in the only valid way.
pub fn payload_from_text(text: &str) -> Option<Vec<u8>> {
    let payload = match text.strip_prefix("0x") {
        Some(digits) => hex::decode(digits).ok()?,
        None => text.as_bytes().to_vec(),
    };
    (payload_text(&payload) == text).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_plain_text_is_written_as_text() {
        let table: [(&[u8], &str); 6] = [
            (b"0042", "0042"),
            ("Käse".as_bytes(), "Käse"),
            (b"0x41", "0x30783431"),
            (b"a\n", "0x610a"),
            (&[0xff], "0xff"),
            (b"", ""),
        ];
        for (payload, text) in table {
            assert_eq!(payload_text(payload), text);
            assert_eq!(payload_from_text(text).as_deref(), Some(payload));
        }
        for bad in ["0x41", "0xFF", "0x", "0xf", "0x0xff", "a\n"] {
            assert_eq!(payload_from_text(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_payload_comes_back(payload: Vec<u8>) {
            prop_assert_eq!(payload_from_text(&payload_text(&payload)), Some(payload));
        }

        #[test]
        fn no_two_spellings_mean_the_same(text in ".*|0x[0-9a-fA-F]*") {
            if let Some(payload) = payload_from_text(&text) {
                prop_assert_eq!(payload_text(&payload), text);
            }
        }
    }
}
