//! The course of a run: connect, publish, drain, report.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    device::{Device, Phase, Shared},
    hostile::{self, Enemy},
    load::{InvalidLoad, Load},
    progress::Progress,
    report::{Report, Tally},
};

/// The clock of the run starts without the scanners that have not connected by then; they keep trying.
const CONNECT_WAIT: Duration = Duration::from_secs(30);
/// How often to look whether all have connected.
const CONNECT_POLL: Duration = Duration::from_millis(20);
/// Simultaneous connection attempts.
const DIALLING: usize = 100;

/// Runs `load` to its end.
///
/// All scanners connect first (waited for up to 30 s), then readings fall due evenly for `load.duration`, then
/// what is open has `load.ack_wait` to be answered. A scanner whose link breaks connects again and sends what
/// is unacknowledged again; that counts as no new reading. Hostile clients attack while readings fall due.
/// `progress` must be new. When `stop` turns true, or its sender is dropped, nothing more falls due and the run
/// ends as usual.
///
/// Dropping the future drops the connections without a DISCONNECT.
///
/// # Errors
/// [`InvalidLoad`] before anything is connected when [`Load::validate`] finds a problem.
pub async fn run(load: Load, progress: Arc<Progress>, mut stop: watch::Receiver<bool>) -> Result<Report, InvalidLoad> {
    let problems = load.validate();
    if !problems.is_empty() {
        return Err(InvalidLoad(problems));
    }
    let (duration, ack_wait, scanners) = (load.duration, load.ack_wait, load.scanners.len());
    let enemies = load.hostile.len();
    let (phase, watched) = watch::channel(Phase::Connect);
    let dialling = Semaphore::new(DIALLING);
    let shared = Arc::new(Shared { load, progress: Arc::clone(&progress), dialling });
    let mut tasks: JoinSet<Tally> = (0..scanners)
        .filter_map(|index| Device::new(Arc::clone(&shared), index, watched.clone()))
        .map(Device::run)
        .collect();
    let mut attacks: JoinSet<_> = (0..enemies)
        .filter_map(|index| Enemy::new(Arc::clone(&shared), index))
        .map(|enemy| enemy.run(watched.clone()))
        .collect();

    let all_connected = async {
        while progress.snapshot().connected < scanners as u64 {
            sleep(CONNECT_POLL).await;
        }
    };
    let stopped = async move {
        // An error means that the sender is gone: nobody could stop the run any more, so it ends.
        drop(stop.wait_for(|stop| *stop).await);
    };
    let mut stopped = std::pin::pin!(stopped);
    let mut early = tokio::select! {
        result = timeout(CONNECT_WAIT, all_connected) => {
            if result.is_err() {
                tracing::warn!(connected = progress.snapshot().connected, scanners, "not all scanners connected");
            }
            false
        }
        () = &mut stopped => true,
    };

    let start = Instant::now();
    // Stopped while connecting: the clock never starts, and nothing was due.
    if !early {
        phase.send_replace(Phase::Publish { start });
        early = tokio::select! {
            () = sleep(duration) => false,
            () = &mut stopped => true,
        };
    }
    let now = Instant::now();
    let end = match (early, *phase.borrow()) {
        (_, Phase::Connect) => start,
        (true, _) => now,
        (false, _) => start + duration,
    };
    phase.send_replace(Phase::Drain { start, end, deadline: now + ack_wait });

    let mut tally = Tally::default();
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(scanner) => tally.merge(scanner),
            Err(error) => tracing::error!(%error, "a scanner ended by a fault; its readings are not in the report"),
        }
    }
    let elapsed = tally.last.unwrap_or_else(Instant::now).saturating_duration_since(start);
    let mut report = Report::new(&progress, tally, elapsed);
    let mut counts = Vec::new();
    while let Some(ended) = attacks.join_next().await {
        match ended {
            Ok(count) => counts.push(count),
            Err(error) => tracing::error!(%error, "a hostile client ended by a fault; it is not in the report"),
        }
    }
    report.hostile = hostile::sum(counts);
    Ok(report)
}
