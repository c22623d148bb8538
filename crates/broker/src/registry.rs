//! Which session is a device's: the newest. An older one is told to end.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;
use tokio::sync::oneshot;
use windlass_reading::DeviceId;

/// All live sessions.
#[derive(Clone, Default)]
pub(crate) struct Registry(Arc<Sessions>);

#[derive(Default)]
struct Sessions {
    serial: AtomicU64,
    live: DashMap<DeviceId, (u64, oneshot::Sender<()>)>,
}

/// A session's place; leaving it does not disturb a newer session of the same device.
pub(crate) struct Seat {
    registry: Registry,
    device: DeviceId,
    serial: u64,
    /// Resolves when a newer session of the device has taken over.
    pub(crate) taken: oneshot::Receiver<()>,
}

impl Registry {
    pub(crate) fn enter(&self, device: &DeviceId) -> Seat {
        let serial = self.0.serial.fetch_add(1, Ordering::Relaxed);
        let (sender, taken) = oneshot::channel();
        if let Some((_, older)) = self.0.live.insert(device.clone(), (serial, sender)) {
            // An error means that the older session is ending by itself.
            let _ = older.send(());
        }
        Seat { registry: self.clone(), device: device.clone(), serial, taken }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.0.live.remove_if(&self.device, |_, (serial, _)| *serial == self.serial);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("live", &self.0.live.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_session_takes_over_and_the_older_ones_leaving_does_not_disturb_it() {
        let registry = Registry::default();
        let device = DeviceId::new("a").unwrap();
        let mut older = registry.enter(&device);
        assert!(older.taken.try_recv().is_err());
        let mut newer = registry.enter(&device);
        assert_eq!(older.taken.try_recv(), Ok(()));
        drop(older);
        assert_eq!(registry.0.live.len(), 1);
        assert!(newer.taken.try_recv().is_err());
        drop(newer);
        assert_eq!(registry.0.live.len(), 0);
    }
}
