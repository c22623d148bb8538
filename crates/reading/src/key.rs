//! A device's public key, and whether it signed something.

use std::{fmt, str::FromStr};

use alloy::primitives::{Address, B256, Signature, U256, hex};
use p256::ecdsa::{Signature as P256Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Length of both numbers of a signature.
const PAIR_BYTES: usize = 64;
/// First byte of an ASN.1 SEQUENCE, which a DER signature is.
const DER_SEQUENCE: u8 = 0x30;

/// A device's public key as the registry holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// A secp256k1 key, by its Ethereum address.
    Secp256k1(Address),
    /// A point of the NIST curve P-256: x, y.
    P256([u8; PAIR_BYTES]),
}

/// Neither an address nor a point of P-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Wrong length or not hexadecimal.
    #[error("a public key is 0x and 40 hex digits (secp256k1: the key's address) or 128 (P-256: x and y)")]
    Form,
    /// The zero address, or a pair that is no point of the curve.
    #[error("no key: the zero address, or not a point of P-256")]
    Value,
}

impl PublicKey {
    /// Reads the contract's form: 20 bytes of an address, or 64 of a point.
    ///
    /// # Errors
    /// [`InvalidKey`] when the bytes are no key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        if let Ok(address) = Address::try_from(bytes) {
            return if address.is_zero() { Err(InvalidKey::Value) } else { Ok(Self::Secp256k1(address)) };
        }
        let point: [u8; PAIR_BYTES] = bytes.try_into().map_err(|_| InvalidKey::Form)?;
        verifying(&point).map(|_| Self::P256(point)).ok_or(InvalidKey::Value)
    }

    /// The contract's form, the inverse of [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Secp256k1(address) => address.to_vec(),
            Self::P256(point) => point.to_vec(),
        }
    }

    /// The address, for a secp256k1 key.
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Secp256k1(address) => Some(*address),
            Self::P256(_) => None,
        }
    }

    /// The kind's name in config and listings.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Secp256k1(_) => "secp256k1",
            Self::P256(_) => "p256",
        }
    }

    /// The `signature` over `digest` in its one form, if this key made it; `None` otherwise.
    ///
    /// Taken: r and s in 64 bytes; for secp256k1 also with the parity in the top bit of s (EIP-2098) or in a 65th byte
    /// (0, 1, 27, 28); for both the DER form that secure elements give. A high s is turned into the low one, because
    /// chips return either. The one form has a low s: EIP-2098 for secp256k1, r and s for P-256.
    pub fn verified(&self, digest: B256, signature: &[u8]) -> Option<[u8; PAIR_BYTES]> {
        match self {
            Self::Secp256k1(address) => secp256k1(*address, digest, signature),
            Self::P256(point) => {
                let signature = p256_pair(signature)?;
                verifying(point)?.verify_prehash(digest.as_slice(), &signature).ok()?;
                Some(signature.normalize_s().unwrap_or(signature).to_bytes().into())
            }
        }
    }

    /// Whether `signature` is over `digest` by this key, and in its one form.
    pub fn signed(&self, digest: B256, signature: &[u8]) -> bool {
        self.verified(digest, signature).is_some_and(|form| form == signature)
    }
}

fn verifying(point: &[u8; PAIR_BYTES]) -> Option<VerifyingKey> {
    let mut sec1 = [4u8; PAIR_BYTES + 1];
    sec1.get_mut(1..)?.copy_from_slice(point);
    VerifyingKey::from_sec1_bytes(&sec1).ok()
}

fn p256_pair(signature: &[u8]) -> Option<P256Signature> {
    match signature.len() {
        PAIR_BYTES => P256Signature::from_slice(signature).ok(),
        _ => P256Signature::from_der(signature).ok(),
    }
}

/// A bare pair does not tell the parity, so both are tried: the address decides.
fn secp256k1(address: Address, digest: B256, signature: &[u8]) -> Option<[u8; PAIR_BYTES]> {
    let mut candidates = Vec::with_capacity(3);
    if signature.first() == Some(&DER_SEQUENCE)
        && let Ok(pair) = k256::ecdsa::Signature::from_der(signature)
    {
        candidates.extend(both(&pair.to_bytes()));
    }
    match signature.len() {
        65 => candidates.extend(Signature::from_raw(signature).ok()),
        PAIR_BYTES => {
            candidates.push(Signature::from_erc2098(signature));
            candidates.extend(both(signature));
        }
        _ => {}
    }
    candidates
        .into_iter()
        .map(|candidate| candidate.normalize_s().unwrap_or(candidate))
        .find(|candidate| candidate.recover_address_from_prehash(&digest).ok() == Some(address))
        .map(|candidate| candidate.as_erc2098())
}

fn both(pair: &[u8]) -> impl Iterator<Item = Signature> + use<> {
    let (r, s) = pair.split_at_checked(32).unwrap_or_default();
    let (r, s) = (U256::from_be_slice(r), U256::from_be_slice(s));
    [false, true].into_iter().map(move |parity| Signature::new(r, s, parity))
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.to_bytes()))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl From<Address> for PublicKey {
    fn from(address: Address) -> Self {
        Self::Secp256k1(address)
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        Self::from_bytes(&hex::decode(text).map_err(|_| InvalidKey::Form)?)
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::{SigningKey, signature::hazmat::PrehashSigner};

    use super::*;

    const DIGEST: B256 = B256::repeat_byte(0x5a);

    fn secp() -> (k256::ecdsa::SigningKey, PublicKey) {
        let key = k256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let address = Address::from_public_key(key.verifying_key());
        (key, PublicKey::Secp256k1(address))
    }

    fn p256() -> (SigningKey, PublicKey) {
        let key = SigningKey::from_slice(&[9; 32]).unwrap();
        let point = key.verifying_key().to_encoded_point(false);
        (key, PublicKey::from_bytes(&point.as_bytes()[1..]).unwrap())
    }

    /// s turned into n − s: the other signature of the same pair.
    fn flipped(pair: &[u8; 64], order: &str) -> [u8; 64] {
        let n = U256::from_str_radix(order, 16).unwrap();
        let mut other = *pair;
        let s: [u8; 32] = (n - U256::from_be_slice(&pair[32..])).to_be_bytes();
        other[32..].copy_from_slice(&s);
        other
    }

    #[test]
    fn every_form_of_a_secp256k1_signature_comes_out_as_one() {
        let (key, public) = secp();
        let (signature, recovery) = key.sign_prehash_recoverable(DIGEST.as_slice()).unwrap();
        let pair: [u8; 64] = signature.to_bytes().into();
        let high = flipped(&pair, "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
        let compact = public.verified(DIGEST, &pair).unwrap();
        let with_parity = [&pair[..], &[27 + recovery.to_byte()]].concat();
        for form in [&compact[..], &pair, &high, &with_parity, signature.to_der().as_bytes()] {
            assert_eq!(public.verified(DIGEST, form), Some(compact), "{} bytes", form.len());
        }
        assert!(public.signed(DIGEST, &compact) && !public.signed(DIGEST, &high));
    }

    #[test]
    fn every_form_of_a_p256_signature_comes_out_with_a_low_s() {
        let (key, public) = p256();
        let signature: P256Signature = key.sign_prehash(DIGEST.as_slice()).unwrap();
        let low: [u8; 64] = signature.normalize_s().unwrap_or(signature).to_bytes().into();
        let high = flipped(&low, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
        let der = P256Signature::from_slice(&high).unwrap().to_der();
        for form in [&low[..], &high, der.as_bytes()] {
            assert_eq!(public.verified(DIGEST, form), Some(low));
        }
        assert!(!public.signed(DIGEST, &high));
    }

    #[test]
    fn what_another_key_or_nobody_signed_is_not_verified() {
        let ((key, public), (_, other_kind)) = (secp(), p256());
        let signature = key.sign_prehash_recoverable(DIGEST.as_slice()).unwrap().0.to_bytes();
        assert_eq!(public.verified(B256::ZERO, &signature), None);
        assert_eq!(other_kind.verified(DIGEST, &signature), None);
        for bytes in [&[][..], &[0; 64], &[0xff; 64], &[0; 65], &[0x30, 6, 2, 1, 0, 2, 1, 0], &signature[..63]] {
            assert_eq!(public.verified(DIGEST, bytes), None);
            assert_eq!(other_kind.verified(DIGEST, bytes), None);
        }
    }

    #[test]
    fn keys_have_one_spelling_and_impossible_ones_are_refused() {
        for (_, public) in [(0, secp().1), (1, p256().1)] {
            assert_eq!(public.to_string().parse(), Ok(public));
        }
        assert_eq!("0x12".parse::<PublicKey>(), Err(InvalidKey::Form));
        assert_eq!("device".parse::<PublicKey>(), Err(InvalidKey::Form));
        assert_eq!(Address::ZERO.to_string().parse::<PublicKey>(), Err(InvalidKey::Value));
        assert_eq!(PublicKey::from_bytes(&[1; 64]), Err(InvalidKey::Value));
    }
}
