//! The live table: redrawn on a terminal, a line every few seconds elsewhere.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;
use windlass_journal::{Listing, Sqlite};
use windlass_scanner::Progress;

use super::audit::Quantiles;

/// Confirmations of this long ago count for the live figures.
const WINDOW_MS: u64 = 10_000;
/// Between lines where nothing can be redrawn.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Table {
    journal: Sqlite,
    progress: Arc<Progress>,
    started: Instant,
    live: bool,
    drawn: bool,
    last: Option<Instant>,
}

impl Table {
    pub(super) fn new(journal: Sqlite, progress: Arc<Progress>) -> Self {
        Self { journal, progress, started: Instant::now(), live: stderr().is_terminal(), drawn: false, last: None }
    }

    /// Shows the figures until the scanners have ended.
    pub(super) async fn follow<T>(&mut self, mut scanners: JoinHandle<T>) -> anyhow::Result<T> {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                report = &mut scanners => return Ok(report?),
                _ = tick.tick() => self.print().await?,
            }
        }
    }

    pub(super) async fn print(&mut self) -> anyhow::Result<()> {
        if !self.live && self.last.is_some_and(|at| at.elapsed() < LINE_INTERVAL) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        let load = self.progress.snapshot();
        let totals = self.journal.totals().await?;
        let now_ms = crate::app::now_ms();
        let recent = self.journal.confirmations(now_ms.saturating_sub(WINDOW_MS)).await?;
        let mined = Quantiles::of(recent.iter().map(|c| c.0).collect());
        let seconds = self.started.elapsed().as_secs();
        let ack = load
            .latency
            .as_ref()
            .map_or_else(|| "-".to_owned(), |l| format!("p50 {:.1} ms  p99 {:.1} ms", l.p50_ms, l.p99_ms));
        let gas = totals.gas_used as f64 / totals.mined.max(1) as f64;
        let mut out = stderr();
        if !self.live {
            writeln!(
                out,
                "{seconds:>4} s  published {}  acknowledged {}  mined {}  final {}  ack {ack}  mined {mined}  gas/reading {gas:.0}",
                load.published, load.acknowledged, totals.mined, totals.finalized
            )?;
            return Ok(());
        }
        if self.drawn {
            write!(out, "\x1b[7A")?;
        }
        self.drawn = true;
        for (name, value) in [
            ("elapsed", format!("{seconds} s, {} scanners connected", load.connected)),
            ("published", load.published.to_string()),
            ("acknowledged", format!("{}   {ack}", load.acknowledged)),
            ("mined", format!("{}   {mined}", totals.mined)),
            ("final", totals.finalized.to_string()),
            ("gas/reading", format!("{gas:.1}")),
            ("refused", load.refused.to_string()),
        ] {
            writeln!(out, "\x1b[2K  {name:<13}{value}")?;
        }
        Ok(())
    }
}
