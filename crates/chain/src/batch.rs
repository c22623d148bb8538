//! The rules of a batch: when it closes, what fits, and what its transaction carries. Pure.

use std::time::Duration;

use alloy::{
    primitives::{B256, Bytes, keccak256},
    sol_types::SolCall,
};
use windlass_contract::{Barcode, IWindlass, Windlass};
use windlass_journal::Unsettled;
use windlass_reading::{DeviceId, Domain, PublicKey, Reading, Run, pack_run};

use crate::{
    Limits,
    config::{MAX_CALLDATA_BYTES, MAX_TRANSACTION_GAS},
};

/// Gas limit of a `set`: 43,518 for the first value, 26,418 after (contracts/snapshots).
pub(crate) const SET_GAS: u64 = 80_000;
/// Gas for each run of a `record`: signature check, sequence slot, event (14,999 in a hundred: contracts/snapshots).
const RUN_GAS: u64 = 60_000;
/// Gas for each reading that its device signed, by who can check the signature (contracts/snapshots: 39k, 47k and 279k
/// alone).
const SIGNED_GAS: u64 = 60_000;
const SIGNED_P256_GAS: u64 = 75_000;
const SIGNED_P256_IN_SOLIDITY_GAS: u64 = 330_000;
/// EIP-7623: the calldata floor, 40 gas for a non-zero byte.
const FLOOR_GAS_PER_BYTE: u64 = 40;
/// EIP-2028: what calldata costs where its floor does not bind, as a share of the floor.
const FLOOR_SHARE: (u64, u64) = (4, 10);
/// What a `set` uses after the first one (contracts/snapshots).
pub(crate) const SET_USES: u64 = 26_418;
/// What a run's signature check, sequence slot and event use (contracts/snapshots, less calldata).
const RUN_USES: u64 = 12_600;
/// Gas limit for each device of a registration: 27,967 in a hundred, 97,192 for a P-256 key alone (contracts/snapshots).
const REGISTRATION_GAS: u64 = 150_000;
/// What every transaction costs.
const TRANSACTION_GAS: u64 = 21_000;
/// ABI words around a run's bytes: offsets, six fields, lengths, signature.
const RUN_OVERHEAD_BYTES: usize = 13 * 32;

/// Whether waiting readings make a batch now.
pub(crate) fn is_due(waiting: usize, oldest_age: Duration, limits: &Limits) -> bool {
    waiting > 0 && (waiting >= limits.max_readings || oldest_age >= limits.max_wait)
}

/// Consecutive readings of one device, packed and ready to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackedRun {
    pub(crate) device: DeviceId,
    pub(crate) epoch: u32,
    pub(crate) first: u64,
    pub(crate) count: u32,
    pub(crate) bytes: Bytes,
    pub(crate) arrivals: Vec<u64>,
    pub(crate) received_at_ms: Vec<u64>,
}

impl PackedRun {
    /// What the device key signs.
    pub(crate) fn digest(&self, domain: &Domain) -> B256 {
        domain.run(&Run {
            device: self.device.hash(),
            epoch: self.epoch,
            firstSequence: self.first,
            count: self.count,
            readingsHash: keccak256(&self.bytes),
        })
    }

    /// As the contract takes it.
    pub(crate) fn signed(&self, signature: Bytes) -> IWindlass::Run {
        IWindlass::Run {
            device: self.device.hash(),
            epoch: self.epoch,
            firstSequence: self.first,
            count: self.count,
            readings: self.bytes.clone(),
            signature,
        }
    }
}

/// Groups waiting readings (arrival order) into runs that fit one transaction.
///
/// A device's readings are consecutive in arrival order, so each device gives one run, cut where its epoch
/// changes, where a number is missing (the rest waits for the next batch) or where the transaction is full.
pub(crate) fn runs(readings: Vec<Unsettled>) -> Vec<PackedRun> {
    let mut order: Vec<DeviceId> = Vec::new();
    let mut groups: std::collections::HashMap<DeviceId, Vec<Unsettled>> = std::collections::HashMap::new();
    for unsettled in readings {
        let device = &unsettled.reading.device;
        if !groups.contains_key(device) {
            order.push(device.clone());
        }
        groups.entry(device.clone()).or_default().push(unsettled);
    }
    let mut room_bytes = MAX_CALLDATA_BYTES;
    let mut room_gas = MAX_TRANSACTION_GAS - TRANSACTION_GAS;
    let mut runs = Vec::new();
    for device in order {
        let Some(group) = groups.remove(&device) else { continue };
        let Some(run) = run(device, group, room_bytes, room_gas) else { continue };
        let (bytes, gas) = cost(run.bytes.len());
        room_bytes = room_bytes.saturating_sub(bytes);
        room_gas = room_gas.saturating_sub(gas);
        runs.push(run);
    }
    runs
}

/// Calldata bytes and gas of a run whose packed readings have this length.
fn cost(packed_bytes: usize) -> (usize, u64) {
    let bytes = RUN_OVERHEAD_BYTES + packed_bytes.next_multiple_of(32);
    (bytes, RUN_GAS + bytes as u64 * FLOOR_GAS_PER_BYTE)
}

fn run(device: DeviceId, group: Vec<Unsettled>, room_bytes: usize, room_gas: u64) -> Option<PackedRun> {
    let first = group.first()?;
    let (epoch, start) = (first.reading.epoch, first.reading.sequence);
    let mut members: Vec<Unsettled> = group
        .into_iter()
        .zip(start..)
        .take_while(|(u, expected)| u.reading.sequence == *expected && u.reading.epoch == epoch)
        .map(|(u, _)| u)
        .collect();
    loop {
        let readings: Vec<Reading> = members.iter().map(|u| u.reading.clone()).collect();
        let bytes = pack_run(&readings);
        let (needs_bytes, needs_gas) = cost(bytes.len());
        if needs_bytes <= room_bytes && needs_gas <= room_gas {
            return Some(PackedRun {
                device,
                epoch,
                first: start,
                count: u32::try_from(members.len()).ok()?,
                bytes: bytes.into(),
                arrivals: members.iter().map(|u| u.arrival).collect(),
                received_at_ms: members.iter().map(|u| u.received_at_ms).collect(),
            });
        }
        members.truncate(members.len() / 2);
        if members.is_empty() {
            return None;
        }
    }
}

/// Readings that their devices signed, as many of the oldest as fit one transaction, with its gas limit: a device's in
/// order, up to the first that is missing.
pub(crate) fn signed(readings: Vec<Unsettled>, gas_of: impl Fn(&DeviceId) -> u64) -> (Vec<Unsettled>, u64) {
    let (mut bytes, mut gas) = (0, TRANSACTION_GAS);
    let mut last: std::collections::HashMap<DeviceId, u64> = std::collections::HashMap::new();
    let mut taken = Vec::new();
    for unsettled in readings {
        let Reading { device, sequence, payload, .. } = &unsettled.reading;
        if last.get(device).is_some_and(|last| last + 1 != *sequence) {
            continue;
        }
        let size = RUN_OVERHEAD_BYTES + payload.len().next_multiple_of(32);
        let costs = gas_of(device) + size as u64 * FLOOR_GAS_PER_BYTE;
        if bytes + size > MAX_CALLDATA_BYTES || gas + costs > MAX_TRANSACTION_GAS {
            break;
        }
        (bytes, gas) = (bytes + size, gas + costs);
        last.insert(device.clone(), *sequence);
        taken.push(unsettled);
    }
    (taken, gas)
}

/// What checking a signature of this key on chain may cost.
pub(crate) fn signed_gas(key: Option<PublicKey>, has_precompile: bool) -> u64 {
    match key {
        Some(PublicKey::P256(_)) if has_precompile => SIGNED_P256_GAS,
        Some(PublicKey::P256(_)) => SIGNED_P256_IN_SOLIDITY_GAS,
        _ => SIGNED_GAS,
    }
}

/// The calldata of a `recordSigned`.
pub(crate) fn record_signed_call(readings: &[Unsettled]) -> Bytes {
    let readings = readings
        .iter()
        .map(|u| IWindlass::SignedReading {
            device: u.reading.device.hash(),
            epoch: u.reading.epoch,
            sequence: u.reading.sequence,
            observedAt: u.reading.observed_at_ms,
            payload: u.reading.payload.clone().into(),
            signature: u.signature.clone().unwrap_or_default(),
        })
        .collect();
    Windlass::recordSignedCall { readings }.abi_encode().into()
}

/// The calldata of a `record`, with its gas limit.
pub(crate) fn record_call(runs: Vec<IWindlass::Run>) -> (Bytes, u64) {
    let count = runs.len() as u64;
    let data = Windlass::recordCall { runs }.abi_encode();
    let gas = TRANSACTION_GAS + count * RUN_GAS + data.len() as u64 * FLOOR_GAS_PER_BYTE;
    (data.into(), gas.min(MAX_TRANSACTION_GAS))
}

/// What a `record` or `recordSigned` will use, as far as can be said before: for the export beside what it did use.
pub(crate) fn expected_gas(calldata: &[u8], runs: usize) -> u64 {
    let zeros = calldata.iter().filter(|byte| **byte == 0).count();
    let floor = (calldata.len() - zeros) as u64 * FLOOR_GAS_PER_BYTE + zeros as u64 * FLOOR_GAS_PER_BYTE / 4;
    let (share, of) = FLOOR_SHARE;
    TRANSACTION_GAS + floor.max(floor * share / of + runs as u64 * RUN_USES)
}

/// The calldata of a direct `set`; `None` when the payload is not a number (the device side refuses those).
pub(crate) fn set_call(payload: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(payload).ok()?;
    let value = alloy::primitives::U256::from_str_radix(text, 10).ok()?;
    Some(Barcode::setCall { value }.abi_encode().into())
}

/// The calldata of a registration, with its gas limit.
pub(crate) fn register_call(devices: &[(DeviceId, PublicKey)]) -> (Bytes, u64) {
    let registrations = devices.iter().map(|(device, key)| registration(device, key)).collect();
    let data = Windlass::registerCall { registrations }.abi_encode();
    (data.into(), (TRANSACTION_GAS + devices.len() as u64 * REGISTRATION_GAS).min(MAX_TRANSACTION_GAS))
}

/// The calldata that puts a device's next key in force, with its gas limit.
pub(crate) fn rotate_call(device: &DeviceId, key: &PublicKey) -> (Bytes, u64) {
    let data = Windlass::rotateCall { registration: registration(device, key) }.abi_encode();
    (data.into(), TRANSACTION_GAS + REGISTRATION_GAS)
}

/// The calldata that ends a device, with its gas limit.
pub(crate) fn revoke_call(device: &DeviceId) -> (Bytes, u64) {
    (Windlass::revokeCall { device: device.hash() }.abi_encode().into(), TRANSACTION_GAS + REGISTRATION_GAS)
}

fn registration(device: &DeviceId, key: &PublicKey) -> IWindlass::Registration {
    let kind = match key {
        PublicKey::Secp256k1(_) => SECP256K1,
        PublicKey::P256(_) => P256,
    };
    IWindlass::Registration { device: device.hash(), kind, key: key.to_bytes().into() }
}

/// The key that the registry holds; `None` for a device that it does not know.
pub(crate) fn registered_key(device: &IWindlass::Device) -> Option<PublicKey> {
    match device.kind {
        SECP256K1 => Some(PublicKey::Secp256k1(device.signer)),
        P256 => PublicKey::from_bytes(&[device.x.0, device.y.0].concat()).ok(),
        _ => None,
    }
}

/// `KeyKind` of the contract; enums are `uint8` in the ABI.
const SECP256K1: u8 = 1;
const P256: u8 = 2;

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;

    use super::*;

    fn waiting(device: &str, sequences: impl IntoIterator<Item = u64>) -> Vec<Unsettled> {
        sequences
            .into_iter()
            .map(|sequence| Unsettled {
                arrival: sequence,
                received_at_ms: 5,
                reading: Reading {
                    device: DeviceId::new(device).unwrap(),
                    epoch: 1,
                    sequence,
                    observed_at_ms: 1_000 * sequence,
                    payload: b"4006381333931".to_vec(),
                },
                signature: None,
            })
            .collect()
    }

    #[test]
    fn a_batch_closes_when_full_or_old() {
        let limits = Limits { max_readings: 10, max_wait: Duration::from_secs(1), ..Limits::default() };
        assert!(!is_due(0, Duration::from_secs(9), &limits));
        assert!(!is_due(9, Duration::from_millis(999), &limits));
        assert!(is_due(9, Duration::from_secs(1), &limits));
        assert!(is_due(10, Duration::ZERO, &limits));
    }

    #[test]
    fn each_device_gives_one_run_of_consecutive_readings() {
        let mut readings = waiting("a", 3..6);
        readings.extend(waiting("b", [1, 2, 4]));
        let runs = runs(readings);
        let shape: Vec<_> = runs.iter().map(|r| (r.device.as_str(), r.first, r.count)).collect();
        assert_eq!(shape, [("a", 3, 3), ("b", 1, 2)]);
    }

    #[test]
    fn signed_readings_keep_each_devices_order_and_fit_a_transaction() {
        let mut readings = waiting("a", [1, 2, 4]);
        readings.extend(waiting("b", 7..9));
        let (taken, _) = signed(readings, |_| SIGNED_GAS);
        let shape: Vec<_> = taken.iter().map(|u| (u.reading.device.as_str(), u.reading.sequence)).collect();
        assert_eq!(shape, [("a", 1), ("a", 2), ("b", 7), ("b", 8)]);
        let many: Vec<_> = (0..300).flat_map(|d| waiting(&format!("d{d}"), 1..4)).collect();
        for gas in [SIGNED_GAS, SIGNED_P256_IN_SOLIDITY_GAS] {
            let (taken, limit) = signed(many.clone(), |_| gas);
            assert!(limit <= MAX_TRANSACTION_GAS && taken.len() as u64 * gas < limit && taken.len() > 40);
            assert!(record_signed_call(&taken).len() <= 128 * 1024);
        }
    }

    #[test]
    fn keys_come_back_from_the_registry_as_they_went() {
        let secp = PublicKey::Secp256k1(Address::repeat_byte(3));
        let p256 = crate::precompile::public_key();
        for key in [secp, p256] {
            let IWindlass::Registration { kind, key: bytes, .. } = registration(&DeviceId::new("d").unwrap(), &key);
            let mut device = IWindlass::Device { kind, ..Default::default() };
            if kind == SECP256K1 {
                device.signer = Address::from_slice(&bytes);
            } else {
                (device.x, device.y) = (B256::from_slice(&bytes[..32]), B256::from_slice(&bytes[32..]));
            }
            assert_eq!(registered_key(&device), Some(key));
        }
        assert_eq!(registered_key(&IWindlass::Device::default()), None);
    }

    #[test]
    fn a_record_never_outgrows_a_transaction() {
        let readings: Vec<_> = (0..400).flat_map(|d| waiting(&format!("d{d}"), 1..40)).collect();
        let runs = runs(readings);
        let signed = runs.iter().map(|r| r.signed(vec![1; 64].into())).collect();
        let (data, gas) = record_call(signed);
        assert!(data.len() <= 128 * 1024, "{}", data.len());
        assert!(gas <= MAX_TRANSACTION_GAS);
        assert!(runs.len() > 50);
    }

    #[test]
    fn what_a_record_is_expected_to_use_follows_its_bytes_or_its_runs() {
        // Many bytes in few runs: the floor. 40 gas for a byte, 10 for a zero.
        let long = [vec![1; 10_000], vec![0; 1_000]].concat();
        assert_eq!(expected_gas(&long, 2), 21_000 + 400_000 + 10_000);
        // Few bytes in many runs: 16 and 4, and the runs.
        assert_eq!(expected_gas(&[1; 1_000], 50), 21_000 + 16_000 + 50 * RUN_USES);
    }

    #[test]
    fn leading_zeros_do_not_change_the_number_on_chain() {
        assert_eq!(set_call(b"007"), set_call(b"7"));
        assert_eq!(set_call(b"7a"), None);
    }
}
