//! `windlass run`: the gateway as a service.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{OK, WithConfig};
use crate::{
    app::{App, install_metrics, threads},
    supervisor,
};

/// How often the files are looked at. A file that is being written is read when it has been still for so long.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or Ctrl-C, then stops without losing anything.
pub(super) fn run(options: &WithConfig) -> anyhow::Result<u8> {
    let config = options.load()?;
    in_system(async move {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut app = App::build(&config, install_metrics()?).await?;
        for address in app.broker_addresses() {
            tracing::info!(%address, "listening for MQTT");
        }
        tracing::info!(address = %app.http_address(), devices = config.devices.len(), "listening for HTTP");
        for listener in config.broker.listeners.iter().filter(|l| !l.identify_by_client_id.is_empty()) {
            tracing::warn!(listen = %listener.listen, devices = listener.identify_by_client_id.len(),
                "this listener takes devices by client id alone: keep it on a private network");
        }
        supervisor::ready();
        let watchdog = app.watchdog();
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    supervisor::reloading();
                    app.reload(true).await;
                    supervisor::ready();
                }
                Some(asked) = app.reload_wanted() => app.reload_for(asked).await,
                () = tokio::time::sleep(WATCH_INTERVAL) => app.reload(false).await,
            }
        }
        tracing::info!("stopping");
        supervisor::stopping();
        drop(watchdog);
        app.stop().await;
        Ok(OK)
    })
}

/// An actix system on a runtime that uses every core for connections.
pub(super) fn in_system<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    actix::System::with_tokio_rt(|| {
        #[allow(clippy::expect_used, reason = "without a runtime there is nothing to report an error with")]
        tokio::runtime::Builder::new_multi_thread()
            .thread_name(threads::SESSIONS)
            .enable_all()
            .build()
            .expect("tokio runtime")
    })
    .block_on(work)
}
