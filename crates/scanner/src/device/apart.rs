//! What a scanner does apart from its link: waits for the next one, and errands on links of their own.

use std::{io, ops::ControlFlow, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{Device, sleep_until_some};
use crate::{
    codes::mix,
    course::Phase,
    link::{self, Session, Signal},
    progress::Progress,
    raw::{self, Answer, Raw},
};

/// How long a session may take to end.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// How long a link may take that is to be cut.
const CUT_WAIT: Duration = Duration::from_secs(5);

impl Device {
    /// Waits without a link until the next reading is due; breaks when there is none.
    pub(super) async fn until_due(&mut self) -> ControlFlow<()> {
        loop {
            let phase = *self.phase.borrow_and_update();
            let wake = match phase {
                Phase::Drain { .. } if self.is_done(phase) => return ControlFlow::Break(()),
                Phase::Drain { .. } => return ControlFlow::Continue(()),
                Phase::Publish { start } if self.next < self.schedule.count() => {
                    Some(start + self.schedule.due(self.next))
                }
                Phase::Publish { .. } | Phase::Connect => None,
            };
            tokio::select! {
                () = sleep_until_some(wake) => return ControlFlow::Continue(()),
                changed = self.phase.changed() => if changed.is_err() {
                    return ControlFlow::Break(());
                },
            }
        }
    }

    /// Waits before the next connection; breaks when there is nothing left to do or no time.
    pub(super) async fn rest(&mut self, backoff: Duration) -> ControlFlow<()> {
        // Spread over half the pause, so that a broker's restart does not meet all scanners at once.
        let spread = mix(self.index ^ backoff.subsec_nanos() as u64) % 512;
        let pause = backoff / 2 + backoff.mul_f64(spread as f64 / 1024.0);
        sleep(pause).await;
        let phase = *self.phase.borrow_and_update();
        let late = matches!(phase, Phase::Drain { deadline, .. } if Instant::now() >= deadline);
        if late || self.is_done(phase) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Connects as this scanner, sends half of the reading that comes next, and is gone.
    pub(super) async fn publish_half(&self) {
        let load = &self.shared.load;
        let code = load.codes.code(load.seed, self.index, self.next);
        let _place = self.shared.dial().await;
        let half = async {
            let mut raw = Raw::open(load, &self.scanner).await?;
            let secret = self.scanner.secret.as_deref();
            raw.write(&raw::connect(load.protocol, &self.scanner, secret, true)).await?;
            while raw.next().await? != Answer::Connected(true) {}
            let publish = raw::publish(load.protocol, &self.topic, u16::MAX, code.as_bytes());
            raw.write(publish.get(..publish.len() / 2).unwrap_or_default()).await
        };
        match timeout(CUT_WAIT, half).await.map_err(io::Error::from).flatten() {
            Ok(()) => Progress::add(&self.shared.progress.cut, 1),
            Err(error) => self.shared.progress.record_connect_error(error.to_string()),
        }
    }

    /// Leaves no session behind at somebody's broker: a clean connection ends the kept one.
    pub(super) async fn discard_session(&self) {
        let _place = self.shared.dial().await;
        let (sender, mut receiver) = link::open(&self.shared.load, &self.scanner, Session::Clean);
        let connect_and_leave = async {
            loop {
                match receiver.poll().await {
                    Ok(Signal::Connected { .. }) => {
                        sender.disconnect();
                    }
                    Ok(Signal::Closing) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        if timeout(CLOSE_WAIT, connect_and_leave).await.is_err() {
            tracing::debug!(device = %self.scanner.id, "kept session not discarded");
        }
    }
}
