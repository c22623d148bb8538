//! Submitter keys out of files; never out of arguments.

use std::{fs, path::Path};

use alloy::signers::local::PrivateKeySigner;
use zeroize::Zeroizing;

use crate::{Config, Error, Key, RemoteSigner, SubmitterKey};

/// The submitters' keys, in the config's order. Relative paths are taken from `base`, the config file's directory.
///
/// # Errors
/// As [`load`], and [`Error::Url`] of a signer.
pub fn submitters(config: &Config, base: &Path) -> Vec<Result<SubmitterKey, Error>> {
    let one = |key: &Key| match (&key.signer, key.address) {
        (Some(url), Some(address)) => RemoteSigner::new(url, address, config.request_timeout).map(SubmitterKey::Remote),
        _ => load(key, base).map(SubmitterKey::Local),
    };
    config.submitters.iter().map(one).collect()
}

/// Reads a submitter's key.
///
/// # Errors
/// [`Error::Key`] names the file and what is wrong with it, never its content.
fn load(key: &Key, base: &Path) -> Result<PrivateKeySigner, Error> {
    let read = |path: &Path| {
        let path = base.join(path);
        fs::read_to_string(&path).map(Zeroizing::new).map_err(|e| Error::Key(format!("{}: {e}", path.display())))
    };
    if let Some(path) = &key.private_key_file {
        let text = read(path)?;
        return text
            .trim()
            .parse()
            .map_err(|_| Error::Key(format!("{}: not a private key of 32 bytes in hex", path.display())));
    }
    let (Some(keystore), Some(passphrase)) = (&key.keystore, &key.passphrase_file) else {
        return Err(Error::Key("needs private_key_file, or keystore with passphrase_file".into()));
    };
    let passphrase = read(passphrase)?;
    PrivateKeySigner::decrypt_keystore(base.join(keystore), passphrase.trim_end_matches(['\r', '\n']))
        .map_err(|_| Error::Key(format!("{}: wrong passphrase, or not a keystore", keystore.display())))
}
