//! The `signed` format: a reading with its device's own signature, as CBOR or JSON.
//!
//! CBOR (RFC 8949) is a map of five pairs with integer keys:
//!
//! ```text
//! { 1: epoch (uint), 2: sequence (uint), 3: observed at, unix ms (uint), 4: payload (bytes or text), 5: signature (bytes) }
//! ```
//!
//! JSON is one object; binary payloads go under `hex` in place of `payload`:
//!
//! ```text
//! { "epoch": 1, "sequence": 7, "at": 1700000000000, "payload": "4006381333931", "signature": "0x…" }
//! ```
//!
//! The signature is over the EIP-712 `Reading`, so both spellings carry the same one.

use alloy::primitives::hex;
use ciborium::Value;
use serde::Deserialize;

use crate::{Draft, Reject};

/// Longest payload inside an envelope, in bytes.
const MAX_PAYLOAD_BYTES: usize = 256;
/// A DER signature of two 256-bit numbers has at most 72 bytes.
const MAX_SIGNATURE_BYTES: usize = 72;
/// Longest envelope: the longest payload and signature in hex, with room for white space.
const MAX_ENVELOPE_BYTES: usize = 2_048;
/// The registry's sequences have 48 bits.
const MAX_SEQUENCE: u64 = (1 << 48) - 1;
/// The year 9999, beyond which no calendar agrees.
const MAX_TIME_MS: u64 = 253_402_300_799_999;

/// What a device says of a reading that it signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Which of its keys it signed with.
    pub epoch: u32,
    /// Its number for the reading.
    pub sequence: u64,
    /// As it came; not verified.
    pub signature: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    epoch: u32,
    sequence: u64,
    at: u64,
    payload: Option<String>,
    hex: Option<String>,
    signature: String,
}

/// Decodes an envelope. Nothing is verified yet.
pub(crate) fn decode(bytes: &[u8]) -> Result<Draft, Reject> {
    if bytes.is_empty() {
        return Err(Reject::Empty);
    }
    if bytes.len() > MAX_ENVELOPE_BYTES {
        return Err(Reject::TooLong);
    }
    // No CBOR map starts with white space or a brace.
    let (observed_at_ms, payload, claim) =
        if bytes.trim_ascii_start().first() == Some(&b'{') { json(bytes)? } else { cbor(bytes)? };
    match payload.len() {
        0 => return Err(Reject::Empty),
        1..=MAX_PAYLOAD_BYTES => {}
        _ => return Err(Reject::TooLong),
    }
    if observed_at_ms > MAX_TIME_MS {
        return Err(Reject::BadTime);
    }
    if claim.epoch == 0 || !(1..=MAX_SEQUENCE).contains(&claim.sequence) {
        return Err(Reject::BadEnvelope);
    }
    if claim.signature.len() > MAX_SIGNATURE_BYTES {
        return Err(Reject::BadSignature);
    }
    Ok(Draft { observed_at_ms, payload: payload.into(), message_id: None, claim: Some(claim) })
}

type Parts = (u64, Vec<u8>, Claim);

fn json(bytes: &[u8]) -> Result<Parts, Reject> {
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|_| Reject::BadEnvelope)?;
    let payload = match (envelope.payload, envelope.hex) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => hex::decode(text).map_err(|_| Reject::BadEnvelope)?,
        _ => return Err(Reject::BadEnvelope),
    };
    let signature = hex::decode(envelope.signature).map_err(|_| Reject::BadSignature)?;
    Ok((envelope.at, payload, Claim { epoch: envelope.epoch, sequence: envelope.sequence, signature }))
}

fn cbor(bytes: &[u8]) -> Result<Parts, Reject> {
    let mut rest = bytes;
    let value: Value = ciborium::from_reader(&mut rest).map_err(|_| Reject::BadEnvelope)?;
    if !rest.is_empty() {
        return Err(Reject::BadEnvelope);
    }
    fields(value).ok_or(Reject::BadEnvelope)
}

/// Five pairs, each key once.
fn fields(value: Value) -> Option<Parts> {
    let mut slots: [Option<Value>; 5] = Default::default();
    for (key, value) in value.into_map().ok()? {
        let key = usize::try_from(u64::try_from(key.into_integer().ok()?).ok()?).ok()?;
        let slot = slots.get_mut(key.checked_sub(1)?)?;
        if slot.replace(value).is_some() {
            return None;
        }
    }
    let [epoch, sequence, at, payload, signature] = slots;
    let number = |value: Option<Value>| u64::try_from(value?.into_integer().ok()?).ok();
    let payload = match payload? {
        Value::Text(text) => text.into_bytes(),
        Value::Bytes(bytes) => bytes,
        _ => return None,
    };
    let claim = Claim {
        epoch: u32::try_from(number(epoch)?).ok()?,
        sequence: number(sequence)?,
        signature: signature?.into_bytes().ok()?,
    };
    Some((number(at)?, payload, claim))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"epoch":1,"sequence":7,"at":1700000000000,"payload":"4006","signature":"0x0102"}"#;
    /// The same by hand: a5 01 01 02 07 03 1b… 04 44 "4006" 05 42 0102.
    const CBOR: &[u8] =
        b"\xa5\x01\x01\x02\x07\x03\x1b\x00\x00\x01\x8b\xcf\xe5\x68\x00\x04\x44\x34\x30\x30\x36\x05\x42\x01\x02";

    #[test]
    fn both_spellings_say_the_same() {
        let draft = decode(JSON.as_bytes()).unwrap();
        assert_eq!(decode(CBOR), Ok(draft.clone()));
        assert_eq!((draft.observed_at_ms, draft.payload.as_slice()), (1_700_000_000_000, &b"4006"[..]));
        let claim = draft.claim.unwrap();
        assert_eq!((claim.epoch, claim.sequence, claim.signature), (1, 7, vec![1, 2]));
        let hexed = JSON.replace(r#""payload":"4006""#, r#""hex":"34303036""#);
        assert_eq!(decode(hexed.as_bytes()).unwrap().payload.as_slice(), b"4006");
    }

    #[test]
    fn a_text_payload_in_cbor_is_its_bytes() {
        let mut text = CBOR.to_vec();
        text[16] = 0x64;
        assert_eq!(decode(&text), decode(CBOR));
    }

    #[test]
    fn what_is_no_envelope_is_refused_with_the_reason() {
        let change = |from: &str, to: &str| JSON.replacen(from, to, 1);
        for (json, reject) in [
            (String::new(), Reject::Empty),
            ("4006381333931".into(), Reject::BadEnvelope),
            ("{".into(), Reject::BadEnvelope),
            (change("\"epoch\":1,", ""), Reject::BadEnvelope),
            (change("\"epoch\":1", "\"epoch\":0"), Reject::BadEnvelope),
            (change("\"sequence\":7", "\"sequence\":0"), Reject::BadEnvelope),
            (change("\"sequence\":7", "\"sequence\":281474976710656"), Reject::BadEnvelope),
            (change("\"epoch\":1", "\"epoch\":1,\"x\":1"), Reject::BadEnvelope),
            (change("\"payload\":\"4006\"", "\"payload\":\"4006\",\"hex\":\"00\""), Reject::BadEnvelope),
            (change("\"payload\":\"4006\",", ""), Reject::BadEnvelope),
            (change("\"payload\":\"4006\"", "\"payload\":\"\""), Reject::Empty),
            (change("\"payload\":\"4006\"", &format!("\"payload\":\"{}\"", "4".repeat(257))), Reject::TooLong),
            (change("1700000000000", "253402300800000"), Reject::BadTime),
            (change("0x0102", "0xzz"), Reject::BadSignature),
            (change("0x0102", &"ab".repeat(73)), Reject::BadSignature),
            (" ".repeat(3_000), Reject::TooLong),
        ] {
            assert_eq!(decode(json.as_bytes()), Err(reject), "{json}");
        }
        let mut twice = CBOR.to_vec();
        twice[3] = 1;
        let cut = &CBOR[..CBOR.len() - 1];
        let longer = [CBOR, &[0]].concat();
        for bytes in [&twice[..], cut, &longer, b"\xa0", b"\xff", b"\x01"] {
            assert_eq!(decode(bytes), Err(Reject::BadEnvelope), "{bytes:x?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let deep = vec![0x81; 2_000];
        assert_eq!(decode(&deep), Err(Reject::BadEnvelope));
    }
}
