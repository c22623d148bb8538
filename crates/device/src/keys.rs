//! Custody of device keys: one mnemonic, one key for each index, nothing of it in a log.

use std::{fmt, sync::Arc};

use alloy::{
    primitives::Address,
    signers::local::{MnemonicBuilder, MnemonicKey, PrivateKeySigner, coins_bip39::English},
};

/// BIP-32: indices from here on are hardened, another path.
const HARDENED: u32 = 1 << 31;

/// The parent of every device key, `m/44'/60'/0'/0`. Cloning shares it.
///
/// The slow half (BIP-39's 2,048 rounds and three hardened steps) runs once; a device's key is one more step,
/// taken when it is needed. Keys wipe themselves when dropped.
#[derive(Clone)]
pub struct Custody(Arc<MnemonicKey>);

/// The text is not a BIP-39 mnemonic in English. The text itself is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a BIP-39 mnemonic: wrong words, word count or checksum")]
pub struct InvalidMnemonic;

impl Custody {
    /// Derives the parent key of `phrase`; surrounding and repeated white space is ignored.
    ///
    /// # Errors
    /// [`InvalidMnemonic`] when the words or their checksum are wrong.
    pub fn from_mnemonic(phrase: &str) -> Result<Self, InvalidMnemonic> {
        let phrase = zeroize::Zeroizing::new(phrase.split_whitespace().collect::<Vec<_>>().join(" "));
        MnemonicBuilder::<English>::default()
            .phrase(phrase.as_str())
            .build_parent_key()
            .map(|key| Self(Arc::new(key)))
            .map_err(|_| InvalidMnemonic)
    }

    /// The address of the key at `index`; none for an index at or above 2^31.
    pub fn address(&self, index: u32) -> Option<Address> {
        self.signer(index).map(|s| s.address())
    }

    /// The signing key at `index`; none for an index at or above 2^31, which BIP-32 keeps for hardened keys.
    pub(crate) fn signer(&self, index: u32) -> Option<PrivateKeySigner> {
        if index >= HARDENED {
            return None;
        }
        self.0.child(index).ok().map(|key| key.signer())
    }
}

impl fmt::Debug for Custody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Custody(..)")
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::address;

    use super::*;

    const PHRASE: &str = "test test test test test test test test test test test junk";

    #[test]
    fn keys_are_those_of_every_ethereum_wallet() {
        let custody = Custody::from_mnemonic(&format!(" {PHRASE}\n")).unwrap();
        assert_eq!(custody.address(0), Some(address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266")));
        assert_eq!(custody.address(1), Some(address!("70997970C51812dc3A010C7d01b50e0d17dc79C8")));
        assert_eq!(custody.address(1 << 31), None);
    }

    #[test]
    fn a_wrong_mnemonic_is_refused_and_not_repeated() {
        let error = Custody::from_mnemonic("test test test").unwrap_err();
        assert!(!error.to_string().contains("test"));
    }

    #[test]
    fn custody_tells_nothing_in_debug() {
        assert_eq!(format!("{:?}", Custody::from_mnemonic(PHRASE).unwrap()), "Custody(..)");
    }
}
