//! Credential checks: no difference in answer or time between an unknown name and a wrong secret, and a bound on the
//! slow ones.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

use crate::{
    identity::{Identities, Who},
    secret::SecretHash,
};

/// Slow checks that wait for their turn; at some 20 ms each they are through in a few seconds.
const WAITING: usize = 128;

/// Too many slow checks wait: the client may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy;

/// Runs credential checks.
#[derive(Debug)]
pub(crate) struct Checks {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Checks {
    /// At most `at_once` slow checks run at a time.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once.max(1))), waiting: AtomicUsize::new(0) }
    }

    /// Who has this user name and password.
    ///
    /// A right fast secret is known at once. As soon as one slow hash is configured every refusal takes a slow check,
    /// or the time would tell which names exist.
    pub(crate) async fn authenticate(
        &self,
        identities: &Identities,
        username: &str,
        password: &[u8],
    ) -> Result<Option<Who>, Busy> {
        let (who, decoy) = identities.look_up(username);
        // A device without a secret comes by certificate or client id only.
        let who = who.filter(|who| who.secret().is_some());
        let secret = who.as_ref().and_then(Who::secret).cloned().unwrap_or_else(SecretHash::nobody);
        if secret.is_slow() {
            let matches = self.slowly(secret, password).await?;
            return Ok(who.filter(|_| matches));
        }
        let matches = secret.matches(password);
        if let (false, Some(decoy)) = (matches, decoy) {
            self.slowly(decoy, password).await?;
        }
        Ok(who.filter(|_| matches))
    }

    async fn slowly(&self, secret: SecretHash, password: &[u8]) -> Result<bool, Busy> {
        let _place = Place::take(&self.waiting).ok_or(Busy)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Busy)?;
        let password = password.to_vec();
        let check = tokio::task::spawn_blocking(move || {
            let matches = secret.matches(&password);
            drop(turn);
            matches
        });
        check.await.map_err(|_| Busy)
    }
}

/// A place among those that wait; given back also when the client gives up.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let room = |waiting: usize| (waiting < WAITING).then_some(waiting + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok().map(|_| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use windlass_reading::DeviceId;

    use super::*;
    use crate::{Identity, User, secret::tests::CHOSEN};

    fn dock(secret: Option<SecretHash>) -> Identity {
        Identity { device: DeviceId::new("dock-7").unwrap(), secret, topic: None }
    }

    async fn enters(identities: &Identities, name: &str, password: &[u8]) -> bool {
        Checks::new(1).authenticate(identities, name, password).await.unwrap().is_some()
    }

    #[tokio::test]
    async fn only_the_right_secret_of_a_known_device_authenticates() {
        let identities = Identities::new(vec![dock(Some(SecretHash::of(b"s3cret")))], Vec::new());
        assert!(enters(&identities, "dock-7", b"s3cret").await);
        for (name, password) in [("dock-7", "S3cret"), ("dock-7", ""), ("dock-8", "s3cret")] {
            assert!(!enters(&identities, name, password.as_bytes()).await, "{name} {password}");
        }
        identities.replace(vec![dock(None)], Vec::new());
        assert!(!enters(&identities, "dock-7", b"s3cret").await);
        assert!(!enters(&identities, "dock-7", b"").await);
    }

    #[tokio::test]
    async fn a_chosen_secret_is_checked_slowly_and_so_is_every_refusal_beside_it() {
        let secret = CHOSEN.parse().unwrap();
        let desk = User { name: "desk".into(), secret, subscribe: Vec::new() };
        let identities = Identities::new(vec![dock(Some(SecretHash::of(b"s3cret")))], vec![desk]);
        assert!(enters(&identities, "desk", b"correct horse").await);
        assert!(!enters(&identities, "desk", b"wrong").await);
        // With no turn to be had, what needs none still enters; every other answer is the same.
        let checks = Checks::new(1);
        checks.waiting.store(WAITING, Ordering::Relaxed);
        assert!(checks.authenticate(&identities, "dock-7", b"s3cret").await.unwrap().is_some());
        for (name, password) in [("dock-7", "wrong"), ("ghost", "s3cret"), ("desk", "wrong"), ("desk", "correct horse")]
        {
            assert_eq!(checks.authenticate(&identities, name, password.as_bytes()).await, Err(Busy), "{name}");
        }
        assert_eq!(checks.waiting.load(Ordering::Relaxed), WAITING);
    }
}
