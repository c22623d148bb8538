//! What systemd is told (`Type=notify-reload`, `WatchdogSec=`). Without it all of this does nothing.

use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// The gateway listens, also after a reload.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The config is being read again.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the clock could not be read"),
    }
}

/// The gateway stops, and may take its time.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the watchdog that all is well, at half its interval, for as long as `alive` says so.
pub(crate) fn watchdog(alive: impl Fn() -> bool + Send + 'static) -> Option<Watchdog> {
    let interval = sd_notify::watchdog_enabled()?;
    Some(Watchdog(tokio::spawn(async move {
        let mut turn = tokio::time::interval(interval / 2);
        loop {
            turn.tick().await;
            if alive() {
                tell(&[NotifyState::Watchdog]);
            }
        }
    })))
}

/// Ends with its owner.
#[derive(Debug)]
pub(crate) struct Watchdog(tokio::task::JoinHandle<()>);

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.abort();
    }
}
