//! Devices that hold their keys: they number and sign their readings themselves.

use alloy::primitives::{Address, hex};
use k256::ecdsa::SigningKey as Secp256k1;
use p256::ecdsa::{SigningKey as P256, signature::hazmat::PrehashSigner};
use windlass_reading::{DeviceId, Domain, PublicKey, Reading};

use crate::Site;

/// A device's key, and how it spells what it signs.
#[derive(Debug)]
pub enum Held {
    /// JSON; r and s in 64 bytes, without the parity.
    Secp256k1(Secp256k1),
    /// CBOR; DER, as secure elements give it.
    P256(P256),
}

/// A device with a key of its own.
#[derive(Debug)]
pub struct SigningDevice {
    pub id: &'static str,
    pub key: Held,
    pub epoch: u32,
    pub domain: Domain,
}

impl SigningDevice {
    /// The key is made of one byte. The site's contract must be deployed before anything is signed.
    pub fn secp256k1(id: &'static str, seed: u8) -> Self {
        Self::new(id, Held::Secp256k1(Secp256k1::from_slice(&[seed; 32]).unwrap()))
    }

    pub fn p256(id: &'static str, seed: u8) -> Self {
        Self::new(id, Held::P256(P256::from_slice(&[seed; 32]).unwrap()))
    }

    fn new(id: &'static str, key: Held) -> Self {
        Self { id, key, epoch: 1, domain: Domain::new(0, Address::ZERO) }
    }

    pub fn public(&self) -> PublicKey {
        match &self.key {
            Held::Secp256k1(key) => PublicKey::Secp256k1(Address::from_public_key(key.verifying_key())),
            Held::P256(key) => {
                PublicKey::from_bytes(&key.verifying_key().to_encoded_point(false).as_bytes()[1..]).unwrap()
            }
        }
    }

    /// As the config has it.
    pub fn spec(&self) -> String {
        format!("key = {{ {} = \"{}\" }}", self.public().kind(), self.public())
    }

    /// Signs for the contract that the site has deployed.
    pub fn learn(&mut self, site: &Site) {
        self.domain = Domain::new(31337, site.contract());
    }

    /// The reading in its envelope.
    pub fn envelope(&self, sequence: u64, payload: &str) -> Vec<u8> {
        let reading = Reading {
            device: DeviceId::new(self.id).unwrap(),
            epoch: self.epoch,
            sequence,
            observed_at_ms: 1_700_000_000_000 + sequence,
            payload: payload.into(),
        };
        let digest = self.domain.reading(&reading);
        match &self.key {
            Held::Secp256k1(key) => {
                json(&reading, &key.sign_prehash_recoverable(digest.as_slice()).unwrap().0.to_bytes())
            }
            Held::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign_prehash(digest.as_slice()).unwrap();
                cbor(&reading, signature.to_der().as_bytes())
            }
        }
    }
}

fn json(reading: &Reading, signature: &[u8]) -> Vec<u8> {
    serde_json::json!({
        "epoch": reading.epoch,
        "sequence": reading.sequence,
        "at": reading.observed_at_ms,
        "payload": std::str::from_utf8(&reading.payload).unwrap(),
        "signature": hex::encode_prefixed(signature),
    })
    .to_string()
    .into_bytes()
}

/// By hand, as a device without a library would: a map of five with small integer keys.
fn cbor(reading: &Reading, signature: &[u8]) -> Vec<u8> {
    let string = |kind: u8, bytes: &[u8]| [&[kind | 24, u8::try_from(bytes.len()).unwrap()][..], bytes].concat();
    [
        &[0xa5, 1, 0x1a][..],
        &reading.epoch.to_be_bytes(),
        &[2, 0x1b],
        &reading.sequence.to_be_bytes(),
        &[3, 0x1b],
        &reading.observed_at_ms.to_be_bytes(),
        &[4],
        &string(0x60, &reading.payload),
        &[5],
        &string(0x40, signature),
    ]
    .concat()
}
