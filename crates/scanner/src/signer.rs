//! A scanner that holds its key: it numbers its readings and signs each.

use std::{fmt, str::FromStr, sync::Arc};

use alloy::primitives::hex;
use ciborium::Value;
use k256::ecdsa::SigningKey as Secp256k1;
use p256::ecdsa::{Signature, SigningKey as P256, signature::hazmat::PrehashSigner};
use windlass_reading::{DeviceId, Domain, Reading};

/// A device's key, with the chain and the contract that it signs for.
#[derive(Clone)]
pub struct Signer {
    /// The key.
    pub key: Key,
    /// Chain and contract.
    pub domain: Arc<Domain>,
    /// Which of the device's keys this is, from 1.
    pub epoch: u32,
    /// The number of its next reading, from 1.
    pub next_sequence: u64,
}

/// A private key.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a secret is not printed")]
pub enum Key {
    /// Ethereum's curve.
    Secp256k1(Secp256k1),
    /// Secure elements' curve.
    P256(P256),
}

/// The text is no private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidKey;

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key is secp256k1: or p256: and 32 bytes in hex")
    }
}

impl std::error::Error for InvalidKey {}

/// `secp256k1:0x…` or `p256:0x…`. The error does not repeat the text.
impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, secret) = text.split_once(':').ok_or(InvalidKey)?;
        let secret = hex::decode(secret).map_err(|_| InvalidKey)?;
        match kind {
            "secp256k1" => Secp256k1::from_slice(&secret).map(Self::Secp256k1).map_err(|_| InvalidKey),
            "p256" => P256::from_slice(&secret).map(Self::P256).map_err(|_| InvalidKey),
            _ => Err(InvalidKey),
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("epoch", &self.epoch).field("next_sequence", &self.next_sequence).finish()
    }
}

impl Signer {
    /// The envelope (CBOR) of the `nth` reading (0, 1, 2 …) of this run.
    pub(crate) fn envelope(&self, device: &DeviceId, nth: u64, observed_at_ms: u64, code: &str) -> Vec<u8> {
        let reading = Reading {
            device: device.clone(),
            epoch: self.epoch,
            sequence: self.next_sequence + nth,
            observed_at_ms,
            payload: code.as_bytes().to_vec(),
        };
        let digest = self.domain.reading(&reading);
        // Neither fails for a digest of 32 bytes; a broker refuses an empty signature.
        let signature = match &self.key {
            Key::Secp256k1(key) => {
                key.sign_prehash_recoverable(digest.as_slice()).map(|(pair, _)| pair.to_bytes().to_vec())
            }
            Key::P256(key) => key.sign_prehash(digest.as_slice()).map(|pair: Signature| pair.to_bytes().to_vec()),
        }
        .unwrap_or_default();
        let pairs = [
            Value::from(reading.epoch),
            Value::from(reading.sequence),
            Value::from(observed_at_ms),
            Value::from(code),
            Value::Bytes(signature),
        ];
        let map = pairs.into_iter().zip(1..).map(|(value, key)| (Value::from(key), value)).collect();
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        drop(ciborium::into_writer(&Value::Map(map), &mut bytes));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use windlass_reading::{Format, PublicKey};

    use super::*;

    #[test]
    fn an_envelope_is_what_a_gateway_reads_and_its_signature_is_the_devices() {
        let device = DeviceId::new("dock-7").unwrap();
        let domain = Arc::new(Domain::new(31_337, Address::repeat_byte(5)));
        let secret = format!("0x{}", "07".repeat(32));
        for kind in ["secp256k1", "p256"] {
            let key: Key = format!("{kind}:{secret}").parse().unwrap();
            let public = match &key {
                Key::Secp256k1(key) => PublicKey::Secp256k1(Address::from_public_key(key.verifying_key())),
                Key::P256(key) => {
                    PublicKey::from_bytes(&key.verifying_key().to_encoded_point(false).as_bytes()[1..]).unwrap()
                }
            };
            let signer = Signer { key, domain: Arc::clone(&domain), epoch: 2, next_sequence: 8 };
            let draft = Format::Signed.decode(&signer.envelope(&device, 3, 1_700, "4006381333931"), 0).unwrap();
            let claim = draft.claim.unwrap();
            assert_eq!((claim.epoch, claim.sequence, draft.observed_at_ms), (2, 11, 1_700));
            let reading = Reading {
                device: device.clone(),
                epoch: 2,
                sequence: 11,
                observed_at_ms: 1_700,
                payload: draft.payload.into_vec(),
            };
            assert!(public.verified(domain.reading(&reading), &claim.signature).is_some(), "{kind}");
        }
    }

    #[test]
    fn a_wrong_key_is_refused_and_not_repeated() {
        for bad in ["", "0707", "rsa:0x07", "p256:0x07", "secp256k1:zz"] {
            assert_eq!(bad.parse::<Key>().err(), Some(InvalidKey), "{bad}");
        }
    }
}
