//! Who a connection is: device ids and hashed secrets, in a snapshot that can be replaced while sessions run.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use windlass_reading::DeviceId;

const PREFIX: &str = "sha256:";

/// `sha256:<hex>` of a generated secret. A random 256-bit secret needs no slow hash.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

/// The text is not `sha256:` and 64 hex digits. The text itself is not repeated: it may be the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is \"sha256:\" and 64 hex digits")]
pub struct InvalidSecret;

impl SecretHash {
    /// The hash of a secret.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    fn matches(&self, secret: &[u8]) -> bool {
        Self::of(secret).0.ct_eq(&self.0).into()
    }
}

impl FromStr for SecretHash {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?.as_bytes();
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
        Ok(Self(hash))
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// One device as the front knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User name, client id and topic level.
    pub device: DeviceId,
    /// Absent for a device that comes only through a listener's `identify_by_client_id`.
    pub secret: Option<SecretHash>,
    /// A topic of its own beside `devices/{id}/readings`.
    pub topic: Option<String>,
}

/// A person or a dashboard: hears what its filters cover, and publishes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// MQTT user name; no device has it as its id.
    pub name: String,
    /// Always needed.
    pub secret: SecretHash,
    /// The filters that it may subscribe to, and any narrower one.
    pub subscribe: Vec<String>,
}

/// Who a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Device(Arc<Identity>),
    User(Arc<User>),
}

impl Who {
    /// Device id or user name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Device(identity) => identity.device.as_str(),
            Self::User(user) => &user.name,
        }
    }

    fn secret(&self) -> Option<&SecretHash> {
        match self {
            Self::Device(identity) => identity.secret.as_ref(),
            Self::User(user) => Some(&user.secret),
        }
    }
}

type Table = HashMap<String, Who>;

/// All devices and users: a snapshot that connections look up in, replaced as a whole. Cloning shares it.
#[derive(Clone)]
pub struct Identities(watch::Sender<Arc<Table>>);

impl Identities {
    /// Who may connect. With the same name twice the later one counts, and a device before a user.
    pub fn new(devices: Vec<Identity>, users: Vec<User>) -> Self {
        Self(watch::Sender::new(Arc::new(table(devices, users))))
    }

    /// Puts others in place. Sessions of those that are gone or changed end.
    pub fn replace(&self, devices: Vec<Identity>, users: Vec<User>) {
        self.0.send_replace(Arc::new(table(devices, users)));
    }

    /// Who has this user name and password. Takes the same work for an unknown name.
    pub(crate) fn authenticate(&self, username: &str, password: &[u8]) -> Option<Who> {
        let who = self.find(username);
        let nobody = SecretHash([0; 32]);
        let secret = who.as_ref().and_then(Who::secret);
        let known = secret.is_some();
        let matches = secret.unwrap_or(&nobody).matches(password);
        who.filter(|_| known && matches)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Who> {
        self.0.borrow().get(name).cloned()
    }

    /// The device with this id.
    pub(crate) fn device(&self, id: &str) -> Option<Who> {
        self.find(id).filter(|who| matches!(who, Who::Device(_)))
    }

    /// Resolves at each replacement.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Table>> {
        self.0.subscribe()
    }
}

fn table(devices: Vec<Identity>, users: Vec<User>) -> Table {
    let users = users.into_iter().map(|user| Who::User(Arc::new(user)));
    let devices = devices.into_iter().map(|device| Who::Device(Arc::new(device)));
    users.chain(devices).map(|who| (who.name().to_owned(), who)).collect()
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("known", &self.0.borrow().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dock(secret: Option<SecretHash>) -> Identity {
        Identity { device: DeviceId::new("dock-7").unwrap(), secret, topic: None }
    }

    #[test]
    fn only_the_right_secret_of_a_known_device_authenticates() {
        let identities = Identities::new(vec![dock(Some(SecretHash::of(b"s3cret")))], Vec::new());
        assert!(identities.authenticate("dock-7", b"s3cret").is_some());
        assert!(identities.authenticate("dock-7", b"S3cret").is_none());
        assert!(identities.authenticate("dock-7", b"").is_none());
        assert!(identities.authenticate("dock-8", b"s3cret").is_none());
        identities.replace(vec![dock(None)], Vec::new());
        assert!(identities.authenticate("dock-7", b"s3cret").is_none());
        assert!(identities.authenticate("dock-7", b"").is_none());
    }

    #[test]
    fn a_secret_is_sixty_four_hex_digits_and_is_not_shown() {
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
}
