//! The first packet: who is this, and may it come in? Pure.

use std::collections::HashSet;

use crate::{
    acl,
    checks::Busy,
    guard::Barred,
    identity::{Identities, Who},
    metrics,
    store::NotStored,
    wire::{Connect, Fault, Version},
};

/// Longest client id of a user.
const MAX_CLIENT_ID_BYTES: usize = 128;

/// Why a CONNECT is refused, in both protocols' codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) outcome: metrics::Connect,
    v3: u8,
    v5: u8,
}

impl Refusal {
    const BAD_CREDENTIALS: Self = Self { outcome: metrics::Connect::BadCredentials, v3: 4, v5: 0x86 };
    const NOT_AUTHORIZED: Self = Self { outcome: metrics::Connect::NotAuthorized, v3: 5, v5: 0x87 };
    const BAD_CLIENT_ID: Self = Self { outcome: metrics::Connect::BadClientId, v3: 2, v5: 0x85 };
    const BAD_METHOD: Self = Self { outcome: metrics::Connect::Unsupported, v3: 5, v5: 0x8C };
    const WILL_RETAIN: Self = Self { outcome: metrics::Connect::Unsupported, v3: 5, v5: 0x9A };
    const VERSION: Self = Self { outcome: metrics::Connect::UnsupportedVersion, v3: 1, v5: 0x84 };
    const BANNED: Self = Self { outcome: metrics::Connect::Banned, v3: 5, v5: 0x8A };
    const TOO_OFTEN: Self = Self { outcome: metrics::Connect::TooOften, v3: 3, v5: 0x9F };
    const BUSY: Self = Self { outcome: metrics::Connect::Busy, v3: 3, v5: 0x89 };
    const NOT_STORED: Self = Self { outcome: metrics::Connect::Unavailable, v3: 3, v5: 0x97 };

    /// Whether somebody tried to be who it is not.
    pub(crate) fn is_failure(self) -> bool {
        self == Self::BAD_CREDENTIALS || self == Self::NOT_AUTHORIZED
    }

    /// The CONNACK code in the client's protocol.
    pub(crate) fn code(self, version: Version) -> u8 {
        match version {
            Version::V3 => self.v3,
            Version::V5 => self.v5,
        }
    }

    /// What a first packet that is no CONNECT of ours is answered with: `None` for bytes that deserve no answer.
    pub(crate) fn of(fault: Fault) -> Option<(Self, Version)> {
        match fault {
            Fault::Level(version) => Some((Self::VERSION, version)),
            Fault::Malformed | Fault::Protocol | Fault::TooLarge => None,
        }
    }
}

impl From<Barred> for Refusal {
    fn from(barred: Barred) -> Self {
        match barred {
            Barred::Banned => Self::BANNED,
            Barred::TooOften => Self::TOO_OFTEN,
        }
    }
}

impl From<Busy> for Refusal {
    fn from(_: Busy) -> Self {
        Self::BUSY
    }
}

impl From<NotStored> for Refusal {
    fn from(_: NotStored) -> Self {
        Self::NOT_STORED
    }
}

/// Who the client says to be.
pub(crate) fn claimed<'a>(connect: &'a Connect, certified: Option<&'a str>) -> &'a str {
    connect.username.as_deref().or(certified).unwrap_or(&connect.client_id)
}

/// The user name and password to be checked; `None` where something else counts.
pub(crate) fn credentials<'a>(connect: &'a Connect, certified: Option<&str>) -> Option<(&'a str, &'a [u8])> {
    match (connect.username.as_deref(), connect.password.as_deref()) {
        (None, None) => None,
        // With a certificate some libraries insist on a user name: it is then a claim that the certificate must bear out.
        (Some(username), None) if certified == Some(username) => None,
        (username, password) => Some((username.unwrap_or_default(), password.unwrap_or_default())),
    }
}

/// Decides over a CONNECT. `certified` is the name in the client's certificate, which the listener's authority signed;
/// `by_client_id` are the devices that the listener takes without credentials; `proven` is who has the [`credentials`].
pub(crate) fn decide(
    connect: &Connect,
    certified: Option<&str>,
    by_client_id: &HashSet<String>,
    identities: &Identities,
    proven: Option<Who>,
) -> Result<Who, Refusal> {
    if connect.enhanced {
        return Err(Refusal::BAD_METHOD);
    }
    let who = match (credentials(connect, certified), certified) {
        (Some(_), _) => proven.ok_or(Refusal::BAD_CREDENTIALS)?,
        (None, Some(name)) => identities.device(name).ok_or(Refusal::NOT_AUTHORIZED)?,
        (None, None) if by_client_id.contains(&connect.client_id) => {
            identities.device(&connect.client_id).ok_or(Refusal::NOT_AUTHORIZED)?
        }
        (None, None) => return Err(Refusal::NOT_AUTHORIZED),
    };
    // Who shows both a certificate and a secret must be the same device by both.
    if certified.is_some_and(|name| name != who.name()) {
        return Err(Refusal::NOT_AUTHORIZED);
    }
    let id = match &who {
        Who::Device(identity) => identity.device.as_str(),
        // A user may come several times, with any client ids or none.
        Who::User(_) if connect.will.is_some() => return Err(Refusal::NOT_AUTHORIZED),
        Who::User(_) if connect.client_id.len() > MAX_CLIENT_ID_BYTES => return Err(Refusal::BAD_CLIENT_ID),
        Who::User(_) => return Ok(who),
    };
    // Client id and device id are bound, so no device can take another's session.
    if connect.client_id != id {
        return Err(Refusal::BAD_CLIENT_ID);
    }
    match &connect.will {
        Some(will) if !acl::may_will(id, &will.topic) => Err(Refusal::NOT_AUTHORIZED),
        Some(will) if will.retain => Err(Refusal::WILL_RETAIN),
        _ => Ok(who),
    }
}

#[cfg(test)]
mod tests {
    use windlass_reading::DeviceId;

    use super::*;
    use bytes::Bytes;

    use crate::{Identity, SecretHash, User, intake::Qos, wire::Will};

    fn connect(client_id: &str, credentials: Option<(&str, &str)>) -> Connect {
        Connect {
            version: Version::V5,
            client_id: client_id.into(),
            username: credentials.map(|c| c.0.into()),
            password: credentials.map(|c| c.1.into()),
            keep_alive_seconds: 0,
            will: None,
            clean: true,
            expiry_seconds: None,
            receive_maximum: None,
            max_packet_bytes: None,
            enhanced: false,
            in_words: true,
        }
    }

    fn user() -> User {
        User { name: "desk".into(), secret: SecretHash::of(b"secret"), subscribe: vec!["devices/#".into()] }
    }

    #[test]
    fn a_user_needs_its_secret_and_has_no_will() {
        assert_eq!(decide_on(&connect("any", Some(("desk", "secret"))), &[]), Ok("desk".into()));
        assert_eq!(decide_on(&connect("", Some(("desk", "secret"))), &[]), Ok("desk".into()));
        assert_eq!(decide_on(&connect("a", Some(("desk", "wrong"))), &[]), Err((4, 0x86)));
        assert_eq!(decide_on(&connect("desk", None), &["desk"]), Err((5, 0x87)));
        assert_eq!(decide_with(&connect("desk", None), Some("desk"), &[]), Err((5, 0x87)));
        let topic = "devices/a/status".into();
        let (qos, payload) = (Qos::AtLeastOnce, Bytes::new());
        let will = Some(Will { topic, qos, retain: false, payload, delay_seconds: 0 });
        assert_eq!(decide_on(&Connect { will, ..connect("x", Some(("desk", "secret"))) }, &[]), Err((5, 0x87)));
    }

    fn decide_on(connect: &Connect, listed: &[&str]) -> Result<String, (u8, u8)> {
        decide_with(connect, None, listed)
    }

    fn decide_with(connect: &Connect, certified: Option<&str>, listed: &[&str]) -> Result<String, (u8, u8)> {
        let device = |id: &str| Identity {
            device: DeviceId::new(id).unwrap(),
            secret: Some(SecretHash::of(b"secret")),
            topic: None,
        };
        let identities = Identities::new(vec![device("a"), device("b")], vec![user()]);
        let listed = listed.iter().map(|s| (*s).to_owned()).collect();
        let proven = credentials(connect, certified)
            .and_then(|(name, password)| identities.find(name).filter(|_| password == b"secret"));
        decide(connect, certified, &listed, &identities, proven)
            .map(|who| who.name().to_owned())
            .map_err(|r| (r.code(Version::V3), r.code(Version::V5)))
    }

    #[test]
    fn a_device_comes_in_with_its_own_secret_and_client_id_only() {
        assert_eq!(decide_on(&connect("a", Some(("a", "secret"))), &[]), Ok("a".into()));
        assert_eq!(decide_on(&connect("a", Some(("a", "wrong"))), &[]), Err((4, 0x86)));
        assert_eq!(decide_on(&connect("x", Some(("x", "secret"))), &[]), Err((4, 0x86)));
        assert_eq!(decide_on(&connect("b", Some(("a", "secret"))), &[]), Err((2, 0x85)));
        assert_eq!(decide_on(&connect("", Some(("a", "secret"))), &[]), Err((2, 0x85)));
        assert_eq!(decide_on(&connect("a", None), &[]), Err((5, 0x87)));
    }

    #[test]
    fn a_listed_device_needs_no_credentials_but_wrong_ones_do_not_help() {
        assert_eq!(decide_on(&connect("a", None), &["a"]), Ok("a".into()));
        assert_eq!(decide_on(&connect("b", None), &["a"]), Err((5, 0x87)));
        assert_eq!(decide_on(&connect("ghost", None), &["ghost"]), Err((5, 0x87)));
        assert_eq!(decide_on(&connect("a", Some(("a", "wrong"))), &["a"]), Err((4, 0x86)));
    }

    #[test]
    fn a_certificate_names_its_device_and_nothing_else_overrides_it() {
        let user_name_only = |id: &str| Connect { username: Some(id.into()), ..connect("a", None) };
        assert_eq!(decide_with(&connect("a", None), Some("a"), &[]), Ok("a".into()));
        assert_eq!(decide_with(&user_name_only("a"), Some("a"), &[]), Ok("a".into()));
        assert_eq!(decide_with(&connect("a", Some(("a", "secret"))), Some("a"), &[]), Ok("a".into()));
        assert_eq!(decide_with(&connect("a", Some(("a", "wrong"))), Some("a"), &[]), Err((4, 0x86)));
        assert_eq!(decide_with(&connect("b", None), Some("a"), &[]), Err((2, 0x85)));
        assert_eq!(decide_with(&connect("b", Some(("b", "secret"))), Some("a"), &[]), Err((5, 0x87)));
        assert_eq!(decide_with(&user_name_only("b"), Some("a"), &[]), Err((4, 0x86)));
        assert_eq!(decide_with(&connect("ghost", None), Some("ghost"), &["ghost"]), Err((5, 0x87)));
        assert_eq!(decide_with(&connect("a", None), Some("b"), &["a"]), Err((2, 0x85)));
    }

    #[test]
    fn a_will_goes_to_the_own_status_topic_only() {
        let with = |topic: &str, qos, retain| Connect {
            will: Some(Will { topic: topic.into(), qos, retain, payload: Bytes::new(), delay_seconds: 0 }),
            ..connect("a", Some(("a", "secret")))
        };
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            assert_eq!(decide_on(&with("devices/a/status", qos, false), &[]), Ok("a".into()));
        }
        assert_eq!(decide_on(&with("devices/b/status", Qos::AtMostOnce, false), &[]), Err((5, 0x87)));
        assert_eq!(decide_on(&with("é", Qos::AtMostOnce, false), &[]), Err((5, 0x87)));
        assert_eq!(decide_on(&with("devices/a/status", Qos::AtMostOnce, true), &[]), Err((5, 0x9A)));
    }
}
