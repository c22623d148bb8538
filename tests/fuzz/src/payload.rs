//! What must hold of every payload, in every format.

use windlass_reading::{
    DeviceId, Draft, Format, Reading, Reject, Settlement, is_gtin, pack_run, parse_rfc3339_ms, unpack_run,
    unpack_single,
};

/// The time at which the payloads arrive, unix milliseconds.
const NOW_MS: u64 = 1_700_000_000_000;
/// The last millisecond of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

/// Decodes the bytes in each format.
pub fn check_formats(bytes: &[u8]) {
    for format in Format::ALL {
        let decoded = format.decode(bytes, NOW_MS);
        assert_eq!(decoded, format.decode(bytes, NOW_MS), "{format:?} is no function of its input");
        match decoded {
            Ok(draft) => check_draft(format, bytes, &draft),
            Err(reject) => check_reject(format, bytes, reject),
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(DeviceId::new(text).is_ok_and(|id| id.as_str() == text) == is_id(text), "device id {text:?}");
        // Any result is right; it must be one.
        let _ = parse_rfc3339_ms(text);
    }
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|c| matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-'))
}

fn is_number(payload: &[u8]) -> bool {
    (1..=77).contains(&payload.len()) && payload.iter().all(u8::is_ascii_digit)
}

fn check_draft(format: Format, bytes: &[u8], draft: &Draft) {
    let payload = draft.payload.as_slice();
    assert!((1..=256).contains(&payload.len()), "{format:?} stores {} bytes", payload.len());
    match format {
        Format::Digits => assert!(is_number(payload) && bytes.trim_ascii() == payload, "{payload:?}"),
        Format::Gtin => {
            assert!(is_gtin(payload) && matches!(payload.len(), 8 | 12 | 13 | 14), "{payload:?}");
            assert!(bytes.windows(payload.len()).any(|w| w == payload), "{payload:?} was not sent");
        }
        Format::Text => {
            let text = std::str::from_utf8(payload).expect("text");
            assert!(bytes == payload && !text.chars().any(char::is_control), "{text:?}");
        }
        Format::Json => check_json(bytes, draft),
        Format::Binary => assert_eq!(bytes, payload),
        Format::Signed => check_signed(bytes, draft),
    }
    if !is_wrapped(format) {
        assert_eq!((draft.observed_at_ms, &draft.message_id), (NOW_MS, &None));
        // What is stored is read again as itself, by `windlass quarantine retry` for one.
        let again = format.decode(payload, NOW_MS).map(|draft| draft.payload);
        assert_eq!(again.as_deref(), Ok(payload), "{format:?}");
    }
    let direct = format.check_settlement(payload, Settlement::Direct);
    assert_eq!(direct.is_ok(), is_number(payload), "direct and {payload:?}");
    assert_eq!(format.check_settlement(payload, Settlement::Anchor), Ok(()));
    assert_eq!(draft.claim.is_some(), format == Format::Signed);
    if !format.may_settle_by(Settlement::Direct) {
        return;
    }
    assert!(direct.is_ok() || format == Format::Json, "{format:?} promises numbers");
}

/// Whether the payload comes inside something.
fn is_wrapped(format: Format) -> bool {
    matches!(format, Format::Json | Format::Signed)
}

fn check_signed(bytes: &[u8], draft: &Draft) {
    let claim = draft.claim.as_ref().expect("a claim");
    assert!(claim.epoch >= 1 && (1..1 << 48).contains(&claim.sequence), "{claim:?}");
    assert!(claim.signature.len() <= 72 && draft.observed_at_ms <= LAST_MS && draft.message_id.is_none());
    assert!(bytes.len() <= 2_048);
}

fn check_json(bytes: &[u8], draft: &Draft) {
    let value: serde_json::Value = serde_json::from_slice(bytes).expect("what is read is JSON");
    let object = value.as_object().expect("an object");
    assert!(object.keys().all(|key| matches!(key.as_str(), "code" | "at" | "id")), "{object:?}");
    assert_eq!(object.get("code").and_then(|c| c.as_str()).map(str::as_bytes), Some(draft.payload.as_slice()));
    assert_eq!(object.get("id").and_then(|id| id.as_str()), draft.message_id.as_deref());
    assert!(draft.observed_at_ms <= LAST_MS, "{}", draft.observed_at_ms);
    assert!(!draft.payload.iter().any(u8::is_ascii_control));
}

fn check_reject(format: Format, bytes: &[u8], reject: Reject) {
    let known: &[Reject] = match format {
        Format::Digits => &[Reject::Empty, Reject::BadCharacter, Reject::TooLong],
        Format::Gtin => &[Reject::Empty, Reject::BadCharacter, Reject::TooLong, Reject::BadCheckDigit],
        Format::Text => &[Reject::Empty, Reject::BadCharacter, Reject::TooLong, Reject::NotUtf8],
        Format::Json => {
            &[Reject::Empty, Reject::BadCharacter, Reject::TooLong, Reject::NotUtf8, Reject::BadJson, Reject::BadTime]
        }
        Format::Binary => &[Reject::Empty, Reject::TooLong],
        Format::Signed => &[Reject::Empty, Reject::TooLong, Reject::BadEnvelope, Reject::BadSignature, Reject::BadTime],
    };
    assert!(known.contains(&reject), "{format:?} refuses with {reject:?}");
    if !is_wrapped(format) {
        assert!(reject != Reject::Empty || bytes.trim_ascii().is_empty(), "{format:?}: {bytes:?} is not empty");
    }
    assert!(reject != Reject::TooLong || bytes.len() > 77, "{format:?}: {} bytes are too long", bytes.len());
}

/// Unpacks the bytes as a run, and packs their lines as one.
pub fn check_packing(bytes: &[u8]) {
    let device = DeviceId::new("d").expect("an id");
    let unpack = |bytes: &[u8], count| unpack_run(bytes, &device, 1, 1, count);
    for count in 1..=4 {
        let Ok(run) = unpack(bytes, count) else { continue };
        assert_eq!(run.len(), count as usize);
        let packed = pack_run(&run);
        assert!(packed.len() <= bytes.len(), "the gateway's packing is the shortest");
        assert_eq!(unpack(&packed, count), Ok(run));
    }
    if let Ok((at, payload)) = unpack_single(bytes) {
        assert_eq!([&[2][..], &at.to_be_bytes(), &payload].concat(), bytes);
    }
    let lines: Vec<Reading> = bytes
        .split(|byte| *byte == b'\n')
        .zip(1..)
        .map(|(line, sequence)| Reading {
            device: device.clone(),
            epoch: 1,
            sequence,
            observed_at_ms: line.iter().fold(NOW_MS, |time, byte| time.rotate_left(7) ^ u64::from(*byte)),
            payload: line.to_vec(),
        })
        .collect();
    let count = u32::try_from(lines.len()).expect("few lines");
    assert_eq!(unpack(&pack_run(&lines), count), Ok(lines));
}
