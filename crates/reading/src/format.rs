//! Payload formats: what a device may send, and what of it is stored.

use serde::{Deserialize, Serialize};

use crate::{Draft, Payload, Reject, Settlement, gtin, signed};

/// Longest `digits` code: 10^77 is the largest power of ten below 2^256.
const MAX_DIGITS: usize = 77;
/// Longest `text`, `json` code and `binary` payload, in bytes.
const MAX_BYTES: usize = 256;

/// How a device's payloads are read. Set per device in the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// 1–77 ASCII digits, surrounding white space ignored, leading zeros kept. The article's format.
    #[default]
    Digits,
    /// A GTIN with a right check digit, also out of a GS1 element string or Digital Link.
    Gtin,
    /// UTF-8, 1–256 bytes, no control characters.
    Text,
    /// `{"code": "…", "at": <unix ms or RFC 3339>, "id": "<message id>"}`; `code` is stored.
    Json,
    /// 1–256 bytes as they are.
    Binary,
    /// A reading in an envelope that the device signed, CBOR or JSON; the payload in it is stored.
    Signed,
}

/// What decoding yields.
pub type Decoded = Result<Draft, Reject>;

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] = [Self::Digits, Self::Gtin, Self::Text, Self::Json, Self::Binary, Self::Signed];

    /// Decodes `bytes` that arrived at `received_at_ms` (unix milliseconds).
    ///
    /// # Errors
    /// The [`Reject`] that says what is wrong with the payload.
    pub fn decode(self, bytes: &[u8], received_at_ms: u64) -> Decoded {
        let draft = |payload: &[u8]| Draft {
            observed_at_ms: received_at_ms,
            payload: Payload::from_slice(payload),
            message_id: None,
            claim: None,
        };
        match self {
            Self::Digits => digits(bytes).map(draft),
            Self::Gtin => {
                let text = std::str::from_utf8(bytes).map_err(|_| Reject::BadCharacter)?.trim_ascii();
                if text.is_empty() {
                    return Err(Reject::Empty);
                }
                if text.len() > MAX_BYTES {
                    return Err(Reject::TooLong);
                }
                gtin::extract(text).map(|code| draft(code.as_bytes()))
            }
            Self::Text => text(bytes).map(|t| draft(t.as_bytes())),
            Self::Json => json(bytes, received_at_ms),
            Self::Binary => bounded(bytes).map(draft),
            Self::Signed => signed::decode(bytes),
        }
    }

    /// Whether every payload of this format is a number, so that `direct` can settle it.
    /// `json` may be, code by code; see [`check_settlement`](Self::check_settlement).
    pub fn may_settle_by(self, settlement: Settlement) -> bool {
        settlement != Settlement::Direct || matches!(self, Self::Digits | Self::Gtin | Self::Json)
    }

    /// Checks a decoded payload against the device's settlement.
    ///
    /// # Errors
    /// [`Reject::NotNumeric`] when `direct` cannot store it as a number.
    pub fn check_settlement(self, payload: &[u8], settlement: Settlement) -> Result<(), Reject> {
        if settlement == Settlement::Direct && digits(payload) != Ok(payload) {
            return Err(Reject::NotNumeric);
        }
        Ok(())
    }

    /// The name in config and listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Gtin => "gtin",
            Self::Text => "text",
            Self::Json => "json",
            Self::Binary => "binary",
            Self::Signed => "signed",
        }
    }
}

fn digits(bytes: &[u8]) -> Result<&[u8], Reject> {
    let code = bytes.trim_ascii();
    if code.is_empty() {
        return Err(Reject::Empty);
    }
    if !code.iter().all(u8::is_ascii_digit) {
        return Err(Reject::BadCharacter);
    }
    if code.len() > MAX_DIGITS {
        return Err(Reject::TooLong);
    }
    Ok(code)
}

fn bounded(bytes: &[u8]) -> Result<&[u8], Reject> {
    match bytes.len() {
        0 => Err(Reject::Empty),
        1..=MAX_BYTES => Ok(bytes),
        _ => Err(Reject::TooLong),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Reject> {
    let text = std::str::from_utf8(bounded(bytes)?).map_err(|_| Reject::NotUtf8)?;
    if text.chars().any(char::is_control) {
        return Err(Reject::BadCharacter);
    }
    Ok(text)
}

/// The `json` format's object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    code: String,
    at: Option<At>,
    id: Option<String>,
}

/// Unix milliseconds of an RFC 3339 time with its offset; `None` for anything else and before 1970.
pub fn parse_rfc3339_ms(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum At {
    UnixMs(u64),
    Rfc3339(String),
}

fn json(bytes: &[u8], received_at_ms: u64) -> Decoded {
    if bytes.is_empty() {
        return Err(Reject::Empty);
    }
    // serde also takes the values without their keys, in an array.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Reject::BadJson);
    }
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|_| Reject::BadJson)?;
    let observed_at_ms = match envelope.at {
        None => received_at_ms,
        Some(At::UnixMs(ms)) => ms,
        Some(At::Rfc3339(text)) => parse_rfc3339_ms(&text).ok_or(Reject::BadTime)?,
    };
    // Beyond the year 9999 no calendar agrees, and SQLite's integers are signed.
    if observed_at_ms > 253_402_300_799_999 {
        return Err(Reject::BadTime);
    }
    if let Some(id) = &envelope.id {
        text(id.as_bytes())?;
    }
    let payload = Payload::from_slice(text(envelope.code.as_bytes())?.as_bytes());
    Ok(Draft { observed_at_ms, payload, message_id: envelope.id, claim: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(format: Format, bytes: &[u8]) -> Result<Vec<u8>, Reject> {
        format.decode(bytes, 1_000).map(|d| d.payload.into_vec())
    }

    #[test]
    fn digits_keep_leading_zeros_and_lose_white_space() {
        assert_eq!(payload(Format::Digits, b" 00420\r\n"), Ok(b"00420".to_vec()));
        assert_eq!(payload(Format::Digits, &[b'9'; 77]), Ok(vec![b'9'; 77]));
    }

    #[test]
    fn digits_refuse_what_is_not_a_number() {
        let ten_to_80 = format!("1{}", "0".repeat(80));
        for (input, reject) in [
            (&b""[..], Reject::Empty),
            (b"  ", Reject::Empty),
            (b"12a", Reject::BadCharacter),
            (b"1_000", Reject::BadCharacter),
            (b"12\0", Reject::BadCharacter),
            ("١٢".as_bytes(), Reject::BadCharacter),
            (ten_to_80.as_bytes(), Reject::TooLong),
        ] {
            assert_eq!(payload(Format::Digits, input), Err(reject), "{input:?}");
        }
    }

    #[test]
    fn json_takes_both_times_and_refuses_unknown_keys() {
        let d = Format::Json.decode(br#"{"code":"A1","at":1700000000123,"id":"m1"}"#, 5).unwrap();
        assert_eq!(
            (d.observed_at_ms, d.payload.as_slice(), d.message_id),
            (1_700_000_000_123, &b"A1"[..], Some("m1".into()))
        );
        let d = Format::Json.decode(br#"{"code":"A1","at":"2023-11-14T22:13:20.5Z"}"#, 5).unwrap();
        assert_eq!(d.observed_at_ms, 1_700_000_000_500);
        assert_eq!(Format::Json.decode(br#"{"code":"A1"}"#, 5).unwrap().observed_at_ms, 5);
        assert_eq!(payload(Format::Json, br#"{"code":"A1","x":1}"#), Err(Reject::BadJson));
        assert_eq!(payload(Format::Json, br#"{"code":"A1","at":"yesterday"}"#), Err(Reject::BadTime));
        assert_eq!(payload(Format::Json, br#"{"code":""}"#), Err(Reject::Empty));
        assert_eq!(payload(Format::Json, b"{"), Err(Reject::BadJson));
        assert_eq!(payload(Format::Json, br#"["A1",5,"m1"]"#), Err(Reject::BadJson));
    }

    #[test]
    fn direct_takes_numbers_only() {
        assert_eq!(Format::Json.check_settlement(b"123", Settlement::Direct), Ok(()));
        assert_eq!(Format::Json.check_settlement(b"A1", Settlement::Direct), Err(Reject::NotNumeric));
        assert_eq!(Format::Json.check_settlement(b"A1", Settlement::Anchor), Ok(()));
        assert!(!Format::Text.may_settle_by(Settlement::Direct));
    }

    proptest::proptest! {
        #[test]
        fn no_payload_panics(bytes: Vec<u8>) {
            for f in Format::ALL {
                let _ = f.decode(&bytes, 0);
            }
        }
    }
}
