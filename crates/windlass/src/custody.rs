//! The custodial device keys: where their mnemonic is kept, in the clear or encrypted.
//!
//! An encrypted one is a Web3 Secret Storage file, version 3 (scrypt, AES-128-CTR), as Ethereum's wallets use for keys; what
//! is encrypted is the phrase in UTF-8.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, anyhow, bail};
use coins_bip39::{English, Mnemonic};
use rand::rngs::OsRng;
use windlass_device::Custody;
use zeroize::Zeroizing;

use crate::config::Config;

/// The passphrase of `keys.keystore`, where no file has it.
pub const PASSPHRASE: &str = "WINDLASS_KEYS_PASSPHRASE";
/// Bytes of a passphrase that is made here: no guessing, whatever scrypt's cost.
const PASSPHRASE_BYTES: usize = 32;

/// The custodial keys, when the config says where they are.
///
/// # Errors
/// Names the file and what is wrong with it, never its content.
pub fn load(config: &Config) -> anyhow::Result<Option<Custody>> {
    let keys = &config.keys;
    let (name, phrase) = if let Some(file) = &keys.mnemonic_file {
        let path = config.path(file);
        (format!("keys.mnemonic_file {}", path.display()), read(&path).context("keys.mnemonic_file")?)
    } else if let Some(file) = &keys.keystore {
        let path = config.path(file);
        let passphrase = passphrase(config)?;
        (format!("keys.keystore {}", path.display()), decrypt(&path, &passphrase).context("keys.keystore")?)
    } else {
        return Ok(None);
    };
    Custody::from_mnemonic(phrase.trim()).map(Some).with_context(|| format!("{name} is not a BIP-39 mnemonic"))
}

fn passphrase(config: &Config) -> anyhow::Result<Zeroizing<String>> {
    if let Some(file) = &config.keys.passphrase_file {
        return read_passphrase(&config.path(file)).context("keys.passphrase_file");
    }
    let set = env::var(PASSPHRASE).map(Zeroizing::new);
    set.map_err(|_| anyhow!("keys.keystore needs keys.passphrase_file, or the variable {PASSPHRASE}"))
}

/// A passphrase out of its file, without the line's end.
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn read_passphrase(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = read(path)?;
    let passphrase = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
    if passphrase.is_empty() {
        bail!("{} is empty", path.display());
    }
    Ok(passphrase)
}

/// Reads a secret, and says so when others may read it too.
fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = fs::read_to_string(path).map(Zeroizing::new).with_context(|| path.display().to_string())?;
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(file = %path.display(), "others may read this secret: chmod 600");
    }
    Ok(text)
}

/// The phrase in a keystore.
///
/// # Errors
/// When it is no keystore, or the passphrase is wrong.
pub fn decrypt(path: &Path, passphrase: &str) -> anyhow::Result<Zeroizing<String>> {
    let bytes = eth_keystore::decrypt_key(path, passphrase)
        .map_err(|error| anyhow!("{}: wrong passphrase, or not a keystore ({error})", path.display()))?;
    let phrase = String::from_utf8(bytes).map_err(|_| anyhow!("{} does not hold a mnemonic", path.display()))?;
    Ok(Zeroizing::new(phrase))
}

/// Encrypts a phrase into a new file, which only its owner may read.
///
/// # Errors
/// When the phrase is none, or the file is there already.
pub fn encrypt(path: &Path, phrase: &str, passphrase: &str) -> anyhow::Result<()> {
    Custody::from_mnemonic(phrase)?;
    if path.exists() {
        bail!("{} is there already and is not overwritten", path.display());
    }
    let scratch = tempfile::tempdir()?;
    eth_keystore::encrypt_key(scratch.path(), &mut OsRng, phrase, passphrase, Some("keystore"))
        .map_err(|error| anyhow!("encrypting: {error}"))?;
    write_new(path, &fs::read(scratch.path().join("keystore"))?)
}

/// A new phrase of so many words.
///
/// # Errors
/// When a mnemonic cannot have so many.
pub fn new_phrase(words: usize) -> anyhow::Result<Zeroizing<String>> {
    let mnemonic = Mnemonic::<English>::new_with_count(&mut OsRng, words);
    Ok(Zeroizing::new(mnemonic.map_err(|_| anyhow!("a mnemonic has 12, 15, 18, 21 or 24 words"))?.to_phrase()))
}

/// The passphrase in the file, which is made with a random one where there is none. Says whether it was made.
///
/// # Errors
/// When the file can be neither read nor made.
pub fn passphrase_in(path: &Path) -> anyhow::Result<(Zeroizing<String>, bool)> {
    if path.exists() {
        return Ok((read_passphrase(path)?, false));
    }
    let mut bytes = Zeroizing::new([0u8; PASSPHRASE_BYTES]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|e| anyhow!("no random bytes: {e}"))?;
    let passphrase = Zeroizing::new(alloy::primitives::hex::encode(bytes.as_slice()));
    write_new(path, passphrase.as_bytes())?;
    Ok((passphrase, true))
}

/// A new file for its owner alone, on disk when this returns.
fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHRASE: &str = "test test test test test test test test test test test junk";

    #[test]
    fn what_is_encrypted_comes_back_with_its_passphrase_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.json");
        encrypt(&path, PHRASE, "secret").unwrap();
        assert_eq!(decrypt(&path, "secret").unwrap().as_str(), PHRASE);
        assert!(decrypt(&path, "Secret").unwrap_err().to_string().contains("wrong passphrase"));
        assert!(!fs::read_to_string(&path).unwrap().contains("junk"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(encrypt(&path, PHRASE, "secret").unwrap_err().to_string().contains("not overwritten"));
        assert!(encrypt(&dir.path().join("other"), "no words", "secret").is_err());
    }

    #[test]
    fn a_passphrase_file_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices.pass");
        let (made, new) = passphrase_in(&path).unwrap();
        assert!(new && made.len() == 2 * PASSPHRASE_BYTES);
        assert_eq!(passphrase_in(&path).unwrap(), (made, false));
        fs::write(&path, "\n").unwrap();
        assert!(passphrase_in(&path).is_err());
    }

    #[test]
    fn new_phrases_are_good_and_new() {
        let (one, other) = (new_phrase(24).unwrap(), new_phrase(24).unwrap());
        assert!(one != other && Custody::from_mnemonic(&one).is_ok());
        assert!(new_phrase(13).is_err());
    }
}
