//! The course of a run: connect, publish, drain, report.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    course::{Phase, Shared},
    device::Device,
    hostile::{self, Enemy},
    load::{InvalidLoad, Load},
    progress::Progress,
    report::{Report, Tally},
};

/// The clock of the run starts without the scanners that have not connected by then; they keep trying.
const CONNECT_WAIT: Duration = Duration::from_secs(30);
/// How often to look whether all have connected.
const CONNECT_POLL: Duration = Duration::from_millis(20);

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
    let shared = Arc::new(Shared::new(load, Arc::clone(&progress)));
    let tasks: JoinSet<Tally> = (0..scanners)
        .filter_map(|index| Device::new(Arc::clone(&shared), index, watched.clone()))
        .map(Device::run)
        .collect();
    let attacks: JoinSet<_> = (0..enemies)
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

    let connected_at_start = progress.snapshot().connected;
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
    let mut ended_by_fault = join(tasks, |scanner| tally.merge(scanner)).await;
    let elapsed = tally.last.unwrap_or_else(Instant::now).saturating_duration_since(start);
    let mut report = Report::new(&progress, tally, elapsed);
    let mut counts = Vec::new();
    ended_by_fault += join(attacks, |count| counts.push(count)).await;
    report.hostile = hostile::sum(counts);
    (report.connected_at_start, report.ended_by_fault) = (connected_at_start, ended_by_fault);
    if ended_by_fault > 0 {
        tracing::error!(clients = ended_by_fault, "clients ended by a fault; what they did is not all in the report");
    }
    Ok(report)
}

/// Gives what each came to to `take`; how many came to nothing because a fault ended them.
async fn join<T: 'static>(mut tasks: JoinSet<T>, mut take: impl FnMut(T)) -> u64 {
    let mut faults = 0;
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(result) => take(result),
            Err(error) => {
                tracing::debug!(%error, "a client ended by a fault");
                faults += 1;
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_a_fault_ends_is_counted_and_the_others_are_kept() {
        let mut tasks = JoinSet::new();
        tasks.spawn(async { 1 });
        tasks.spawn(async { panic!("a fault") });
        tasks.spawn(async { 3 });
        let mut results = Vec::new();
        let faults = join(tasks, |result| results.push(result)).await;
        results.sort_unstable();
        assert_eq!((results, faults), (vec![1, 3], 1));
    }
}
