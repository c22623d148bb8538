//! How a run's readings are packed into the bytes of one log: values, time differences and lengths.
//!
//! Version 1, made by the gateway:
//!
//! ```text
//! 0x01  varint(first observedAt, unix ms)
//! then for each reading:
//!   varint(length × 2 + numeric)      numeric = 1: the payload is ASCII digits, packed as a number
//!   payload                           numeric: big-endian, fewest bytes that hold 10^length − 1
//!   zigzag varint(observedAt − previous observedAt)      not for the first reading
//! ```
//!
//! Version 2, made by `recordSigned` on chain: `0x02`, `observedAt` as 8 bytes big-endian, the payload.
//! A varint is LEB128. A 13-digit GTIN scanned within two minutes of the last takes 9 bytes or fewer.

use alloy::primitives::U256;

use crate::{DeviceId, Reading};

const RUN: u8 = 1;
const SINGLE: u8 = 2;
/// Longest code that is packed as a number; longer ones are stored as they are.
const MAX_NUMERIC_DIGITS: usize = 77;

/// The bytes are not a packed run of the stated count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// The first byte names no version that this program knows.
    #[error("unknown packing version")]
    Version,
    /// The bytes end inside a reading, or bytes are left after the last.
    #[error("packed readings have the wrong length")]
    Length,
    /// A number is larger than its field, or not in its only valid spelling.
    #[error("packed readings hold an impossible number")]
    Number,
}

/// Packs consecutive readings of one device, oldest first. An empty slice packs to nothing.
pub fn pack_run(readings: &[Reading]) -> Vec<u8> {
    let Some(first) = readings.first() else { return Vec::new() };
    let mut out = vec![RUN];
    put_varint(&mut out, first.observed_at_ms);
    let mut previous = None;
    for reading in readings {
        let len = reading.payload.len();
        match numeric(&reading.payload) {
            Some(value) => {
                put_varint(&mut out, (len as u64) << 1 | 1);
                let bytes: [u8; 32] = value.to_be_bytes();
                out.extend(bytes.iter().skip(32 - numeric_bytes(len)));
            }
            None => {
                put_varint(&mut out, (len as u64) << 1);
                out.extend_from_slice(&reading.payload);
            }
        }
        if let Some(previous) = previous {
            put_varint(&mut out, zigzag(reading.observed_at_ms.wrapping_sub(previous)));
        }
        previous = Some(reading.observed_at_ms);
    }
    out
}

/// Unpacks `count` readings of version 1, the inverse of [`pack_run`].
///
/// # Errors
/// [`PackingError`] when the bytes are anything but exactly `count` readings.
pub fn unpack_run(
    bytes: &[u8],
    device: &DeviceId,
    epoch: u32,
    first_sequence: u64,
    count: u32,
) -> Result<Vec<Reading>, PackingError> {
    let mut input = bytes;
    if take(&mut input, 1)?.first() != Some(&RUN) {
        return Err(PackingError::Version);
    }
    let mut observed_at_ms = take_varint(&mut input)?;
    let mut readings = Vec::new();
    for i in 0..count {
        let head = take_varint(&mut input)?;
        let len = usize::try_from(head >> 1).map_err(|_| PackingError::Number)?;
        let payload = if head & 1 == 1 { take_numeric(&mut input, len)? } else { take(&mut input, len)?.to_vec() };
        if i > 0 {
            observed_at_ms = observed_at_ms.wrapping_add(unzigzag(take_varint(&mut input)?));
        }
        let sequence = first_sequence.checked_add(u64::from(i)).ok_or(PackingError::Number)?;
        readings.push(Reading { device: device.clone(), epoch, sequence, observed_at_ms, payload });
    }
    if input.is_empty() { Ok(readings) } else { Err(PackingError::Length) }
}

/// Unpacks a single reading of version 2: `(observed_at_ms, payload)`.
///
/// # Errors
/// [`PackingError`] when the version is another or the time is missing.
pub fn unpack_single(bytes: &[u8]) -> Result<(u64, Vec<u8>), PackingError> {
    let (version, rest) = bytes.split_first().ok_or(PackingError::Length)?;
    if *version != SINGLE {
        return Err(PackingError::Version);
    }
    let (time, payload) = rest.split_first_chunk::<8>().ok_or(PackingError::Length)?;
    Ok((u64::from_be_bytes(*time), payload.to_vec()))
}

fn numeric(payload: &[u8]) -> Option<U256> {
    if payload.is_empty() || payload.len() > MAX_NUMERIC_DIGITS || !payload.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(payload).ok().and_then(|text| U256::from_str_radix(text, 10).ok())
}

/// Fewest bytes that hold 10^digits − 1.
fn numeric_bytes(digits: usize) -> usize {
    let largest = U256::from(10u8).pow(U256::from(digits)) - U256::ONE;
    largest.byte_len()
}

fn take_numeric(input: &mut &[u8], digits: usize) -> Result<Vec<u8>, PackingError> {
    if digits == 0 || digits > MAX_NUMERIC_DIGITS {
        return Err(PackingError::Number);
    }
    let value = U256::from_be_slice(take(input, numeric_bytes(digits))?).to_string();
    if value.len() > digits {
        return Err(PackingError::Number);
    }
    let mut payload = vec![b'0'; digits - value.len()];
    payload.extend_from_slice(value.as_bytes());
    Ok(payload)
}

fn take<'a>(input: &mut &'a [u8], n: usize) -> Result<&'a [u8], PackingError> {
    let (head, rest) = input.split_at_checked(n).ok_or(PackingError::Length)?;
    *input = rest;
    Ok(head)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(input: &mut &[u8]) -> Result<u64, PackingError> {
    let mut value = 0u64;
    for shift in (0..).step_by(7) {
        let (byte, rest) = input.split_first().ok_or(PackingError::Length)?;
        *input = rest;
        let part = u64::from(byte & 0x7f);
        // The tenth byte may hold one bit; and a zero last byte would be a second spelling of the same number.
        if shift > 63 || (shift == 63 && part > 1) || (shift > 0 && *byte == 0) {
            return Err(PackingError::Number);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

fn zigzag(difference: u64) -> u64 {
    let signed = difference as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(readings: &[(u64, &[u8])]) -> Vec<Reading> {
        let device = DeviceId::new("d").unwrap();
        readings
            .iter()
            .zip(7..)
            .map(|((at, p), sequence)| Reading {
                device: device.clone(),
                epoch: 2,
                sequence,
                observed_at_ms: *at,
                payload: p.to_vec(),
            })
            .collect()
    }

    #[test]
    fn a_gtin_a_second_takes_nine_bytes() {
        let one = run(&[(1_700_000_000_000, b"4006381333931")]);
        let two = run(&[(1_700_000_000_000, b"4006381333931"), (1_700_000_001_000, b"4006381333931")]);
        assert_eq!(pack_run(&two).len() - pack_run(&one).len(), 9);
    }

    #[test]
    fn a_frozen_run_packs_to_known_bytes() {
        let packed = pack_run(&run(&[(300, b"007"), (299, b"ab")]));
        assert_eq!(packed, [1, 0xac, 2, 7, 0, 7, 4, b'a', b'b', 1]);
    }

    #[test]
    fn damaged_runs_are_refused() {
        let device = DeviceId::new("d").unwrap();
        let packed = pack_run(&run(&[(300, b"007"), (299, b"ab")]));
        let unpack = |bytes: &[u8], count| unpack_run(bytes, &device, 2, 7, count);
        assert_eq!(unpack(&packed, 1), Err(PackingError::Length));
        assert_eq!(unpack(&packed, 3), Err(PackingError::Length));
        assert_eq!(unpack(&packed[..5], 2), Err(PackingError::Length));
        assert_eq!(unpack(&[9], 1), Err(PackingError::Version));
        // 1000 does not have three digits.
        assert_eq!(unpack(&[1, 0, 7, 3, 0xe8], 1), Err(PackingError::Number));
        assert_eq!(unpack(&[1, 0x80, 0, 2, b'a'], 1), Err(PackingError::Number));
    }

    proptest! {
        #[test]
        fn unpacking_undoes_packing(items in prop::collection::vec((any::<u64>(), prop_oneof![
            prop::collection::vec(any::<u8>(), 1..40),
            "[0-9]{1,80}".prop_map(String::into_bytes),
        ]), 1..20)) {
            let borrowed: Vec<_> = items.iter().map(|(at, p)| (*at, p.as_slice())).collect();
            let readings = run(&borrowed);
            let packed = pack_run(&readings);
            let device = DeviceId::new("d").unwrap();
            prop_assert_eq!(unpack_run(&packed, &device, 2, 7, readings.len() as u32).unwrap(), readings);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, count in 0u32..9) {
            let device = DeviceId::new("d").unwrap();
            let _ = unpack_run(&bytes, &device, 1, 1, count);
            let _ = unpack_single(&bytes);
        }
    }
}
