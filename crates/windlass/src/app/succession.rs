//! What may become of a device that the journal knows: which changes of its config are a new key, which are its end, and
//! which are a mistake. Pure.

use windlass_journal::{DeviceRow, End, KeyRow};
use windlass_reading::Settlement;

/// Why the config cannot be taken as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// A chain sees readings of a device in one place only.
    #[error(
        "its settlement changed, but it has readings; the chain would see a hole in its sequence. Give the device a new \
         id, or restore the old value"
    )]
    Settlement,
    /// The account owns the contract that holds the values.
    #[error(
        "its key changed, but direct settlement is bound to its account. Give the device a new id, or restore the key"
    )]
    Account,
    /// The index is the old one, so it is the mnemonic that changed.
    #[error("another mnemonic gives another key at index {0}; restore the mnemonic (a rotation names another index)")]
    Mnemonic(u32),
    /// A key that was replaced may be known to others.
    #[error("its key was replaced before, in epoch {0}, and is not used again. Name a new key")]
    Former(u32),
    /// It signed; without a key nobody can say who goes on.
    #[error("its key was taken away. Restore it, name a new key, or set revoked = true")]
    NoKey,
    /// The chain has no way back either.
    #[error("it was revoked, which is for ever. Give the device a new id")]
    Revoked,
}

/// The device's next row: `known` by the journal with these `keys`, and `wanted` by the config.
pub(super) fn next(
    known: &DeviceRow,
    keys: &[KeyRow],
    wanted: DeviceRow,
    has_readings: bool,
) -> Result<DeviceRow, Refusal> {
    if known.end != End::None && wanted.end == End::None {
        return Err(Refusal::Revoked);
    }
    if known.settlement != wanted.settlement && has_readings {
        return Err(Refusal::Settlement);
    }
    let used = known.registered != 0 || has_readings;
    let epoch = match (known.key, wanted.key) {
        (None, _) => known.epoch,
        (Some(old), Some(new)) if old == new => known.epoch,
        // Nothing was ever done with the old one.
        (Some(_), _) if !used && known.epoch == 1 => 1,
        (Some(_), None) => return Err(Refusal::NoKey),
        (Some(_), Some(new)) => {
            if let Some(former) = keys.iter().find(|k| k.key == new) {
                return Err(Refusal::Former(former.epoch));
            }
            if wanted.settlement == Settlement::Direct {
                return Err(Refusal::Account);
            }
            match (known.custodial, wanted.custodial) {
                (Some(old), Some(new)) if old == new => return Err(Refusal::Mnemonic(new)),
                // A journal of an earlier version did not keep the index: then the same device has the same one.
                (None, Some(new)) if known.address().is_some() && known.format == wanted.format => {
                    return Err(Refusal::Mnemonic(new));
                }
                _ => known.epoch + 1,
            }
        }
    };
    Ok(DeviceRow { epoch, ..wanted })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use windlass_reading::{DeviceId, Format, PublicKey};

    use super::*;

    fn key(byte: u8) -> Option<PublicKey> {
        Some(PublicKey::Secp256k1(Address::repeat_byte(byte)))
    }

    fn row(byte: u8) -> DeviceRow {
        DeviceRow {
            device: DeviceId::new("d").unwrap(),
            format: Format::Digits,
            settlement: Settlement::Batch,
            epoch: 1,
            key: key(byte),
            custodial: Some(u32::from(byte)),
            registered: 1,
            barcode: None,
            end: End::None,
        }
    }

    fn keys(bytes: &[u8]) -> Vec<KeyRow> {
        let one = |(byte, epoch): (&u8, u32)| KeyRow {
            epoch,
            key: PublicKey::Secp256k1(Address::repeat_byte(*byte)),
            custodial: Some(u32::from(*byte)),
        };
        bytes.iter().zip(1..).map(one).collect()
    }

    #[test]
    fn another_index_is_the_next_key_and_the_same_config_is_no_change() {
        assert_eq!(next(&row(1), &keys(&[1]), row(1), true).map(|r| r.epoch), Ok(1));
        assert_eq!(next(&row(1), &keys(&[1]), row(2), true).map(|r| r.epoch), Ok(2));
        let second = DeviceRow { epoch: 2, ..row(2) };
        assert_eq!(next(&second, &keys(&[1, 2]), row(2), true).map(|r| r.epoch), Ok(2));
        assert_eq!(next(&second, &keys(&[1, 2]), row(3), true).map(|r| r.epoch), Ok(3));
        let held = DeviceRow { custodial: None, format: Format::Signed, ..row(4) };
        assert_eq!(next(&row(1), &keys(&[1]), held, true).map(|r| r.epoch), Ok(2), "from the gateway to the device");
    }

    #[test]
    fn mistakes_are_told_apart_from_rotations() {
        let again = next(&DeviceRow { epoch: 2, ..row(2) }, &keys(&[1, 2]), row(1), true);
        assert_eq!(again, Err(Refusal::Former(1)));
        let mnemonic = DeviceRow { key: key(9), ..row(1) };
        assert_eq!(next(&row(1), &keys(&[1]), mnemonic.clone(), true), Err(Refusal::Mnemonic(1)));
        let old = DeviceRow { custodial: None, ..row(1) };
        assert_eq!(next(&old, &keys(&[1]), mnemonic, true), Err(Refusal::Mnemonic(1)));
        let none = DeviceRow { key: None, custodial: None, ..row(1) };
        assert_eq!(next(&row(1), &keys(&[1]), none, true), Err(Refusal::NoKey));
        let direct = |byte| DeviceRow { settlement: Settlement::Direct, ..row(byte) };
        assert_eq!(next(&direct(1), &keys(&[1]), direct(2), true), Err(Refusal::Account));
        assert_eq!(next(&direct(1), &keys(&[1]), row(1), true), Err(Refusal::Settlement));
    }

    #[test]
    fn what_was_never_used_may_change_freely() {
        let unused = DeviceRow { registered: 0, ..row(1) };
        let mnemonic = DeviceRow { key: key(9), settlement: Settlement::Anchor, ..row(1) };
        assert_eq!(next(&unused, &keys(&[1]), mnemonic, false).map(|r| r.epoch), Ok(1));
        let keyless = DeviceRow { key: None, custodial: None, ..row(1) };
        assert_eq!(next(&keyless, &[], row(1), true).map(|r| r.epoch), Ok(1), "a first key is no rotation");
    }

    #[test]
    fn a_revoked_device_stays_so() {
        let revoked = DeviceRow { end: End::Revoked, ..row(1) };
        assert_eq!(next(&row(1), &keys(&[1]), revoked.clone(), true).map(|r| r.end), Ok(End::Revoked));
        assert_eq!(next(&revoked, &keys(&[1]), row(1), true), Err(Refusal::Revoked));
        assert!(next(&DeviceRow { end: End::OnChain, ..row(1) }, &keys(&[1]), revoked, true).is_ok());
    }
}
