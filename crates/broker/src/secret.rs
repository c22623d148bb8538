//! Hashed secrets: a fast hash for generated ones, argon2id for those that people chose.

use std::{fmt, str::FromStr, sync::Arc};

use argon2::{Argon2, Params, PasswordVerifier, password_hash::phc::PasswordHash};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const SHA256: &str = "sha256:";
const ARGON2ID: &str = "$argon2id$";
/// A config must not be able to take the machine's memory or a core for seconds with each connection.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;

/// `sha256:<hex>` of a generated secret (a random 256-bit secret needs no slow hash), or `$argon2id$…`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Sha256([u8; 32]),
    /// In the PHC string format.
    Argon2id(Arc<str>),
}

/// The text is no hash that is taken. The text itself is not repeated: it may be the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret is \"sha256:\" and 64 hex digits, or an \"$argon2id$\" hash of at most {} MiB and {MAX_PASSES} passes",
    MAX_MEMORY_KIB / 1024
)]
pub struct InvalidSecret;

impl SecretHash {
    /// The fast hash of a generated secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(Kind::Sha256(Sha256::digest(secret).into()))
    }

    /// What no secret hashes to.
    pub(crate) fn nobody() -> Self {
        Self(Kind::Sha256([0; 32]))
    }

    /// Whether a check takes tens of milliseconds and megabytes.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.0, Kind::Argon2id(_))
    }

    /// Compares in constant time. Blocks for a while when the hash is slow.
    pub(crate) fn matches(&self, secret: &[u8]) -> bool {
        match &self.0 {
            Kind::Sha256(hash) => {
                let own: [u8; 32] = Sha256::digest(secret).into();
                own.ct_eq(hash).into()
            }
            Kind::Argon2id(hash) => Argon2::default().verify_password(secret, &**hash).is_ok(),
        }
    }
}

impl FromStr for SecretHash {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with(ARGON2ID) {
            return argon2id(text).ok_or(InvalidSecret);
        }
        let digits = text.strip_prefix(SHA256).ok_or(InvalidSecret)?.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(InvalidSecret);
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidSecret)?;
            if !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(InvalidSecret);
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| InvalidSecret)?;
        }
        Ok(Self(Kind::Sha256(hash)))
    }
}

fn argon2id(text: &str) -> Option<SecretHash> {
    let hash = PasswordHash::new(text).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let whole = hash.salt.is_some() && hash.hash.is_some();
    let affordable = params.m_cost() <= MAX_MEMORY_KIB && params.t_cost() <= MAX_PASSES;
    (whole && affordable).then(|| SecretHash(Kind::Argon2id(text.into())))
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Of "correct horse", by Debian's argon2: `-id -t 1 -m 8 -p 1 -l 32 -e`.
    pub(crate) const CHOSEN: &str =
        "$argon2id$v=19$m=256,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$kpQqWqdONKrvqLOtVu7tC+pahLka+lGN4Mq6W+J7ujc";

    #[test]
    fn a_generated_secret_is_sixty_four_hex_digits_and_is_not_shown() {
        let text = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(text.parse::<SecretHash>().map(|s| format!("{s:?}")), Ok("SecretHash(…)".into()));
        for bad in [
            "",
            "sha256:",
            &text[..70],
            &text.replace('a', "+"),
            &text.replace("sha256", "md5"),
            &text.replace("0a", "é"),
        ] {
            assert_eq!(bad.parse::<SecretHash>(), Err(InvalidSecret), "{bad}");
        }
    }

    #[test]
    fn a_chosen_secret_is_argon2id_of_bearable_cost() {
        let secret: SecretHash = CHOSEN.parse().unwrap();
        assert!(secret.is_slow() && secret.matches(b"correct horse") && !secret.matches(b"correct house"));
        assert_eq!(format!("{secret:?}"), "SecretHash(…)");
        for bad in [
            &CHOSEN.replace("argon2id", "argon2i"),
            &CHOSEN.replace("m=256", "m=300000"),
            &CHOSEN.replace("t=1", "t=17"),
            "$argon2id$v=19$m=256,t=1,p=1$c29tZXNhbHRzb21lc2FsdA",
            "$argon2id$",
        ] {
            assert_eq!(bad.parse::<SecretHash>(), Err(InvalidSecret), "{bad}");
        }
    }
}
