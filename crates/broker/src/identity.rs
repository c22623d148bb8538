//! Who a connection is: device ids and hashed secrets, in a snapshot that can be replaced while sessions run.

use std::{collections::HashMap, fmt, sync::Arc};

use tokio::sync::watch;
use windlass_reading::DeviceId;

use crate::secret::SecretHash;

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

    pub(crate) fn secret(&self) -> Option<&SecretHash> {
        match self {
            Self::Device(identity) => identity.secret.as_ref(),
            Self::User(user) => Some(&user.secret),
        }
    }
}

/// A snapshot of everybody.
#[derive(Debug)]
pub(crate) struct Table {
    by_name: HashMap<String, Who>,
    /// One of the slow hashes.
    slow: Option<SecretHash>,
}

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

    /// Who has this name, and some slow hash if there is one, for a check that is to take as long.
    pub(crate) fn look_up(&self, name: &str) -> (Option<Who>, Option<SecretHash>) {
        let known = self.0.borrow();
        (known.by_name.get(name).cloned(), known.slow.clone())
    }

    pub(crate) fn find(&self, name: &str) -> Option<Who> {
        self.0.borrow().by_name.get(name).cloned()
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
    let by_name: HashMap<_, _> = users.chain(devices).map(|who| (who.name().to_owned(), who)).collect();
    let slow = by_name.values().filter_map(Who::secret).find(|secret| secret.is_slow()).cloned();
    Table { by_name, slow }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("known", &self.0.borrow().by_name.len()).finish()
    }
}
