//! What a person sees: the live line and the summary.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _, stderr},
    sync::Arc,
    time::Duration,
};

use tokio::time::interval;
use windlass_scanner::{Latency, Progress, Report};

/// The live line changes this often.
const REFRESH: Duration = Duration::from_millis(500);
/// Width of the longest bar of the histogram.
const BAR: u64 = 40;

/// Redraws the live line until it is aborted; nothing when standard error is no terminal.
pub(crate) async fn live(progress: Arc<Progress>, scanners: usize) {
    if !stderr().is_terminal() {
        return;
    }
    let mut tick = interval(REFRESH);
    loop {
        tick.tick().await;
        let now = progress.snapshot();
        let times = now.latency.map_or_else(String::new, |latency| {
            format!(" | ack p50 {:.1} ms p99 {:.1} ms", latency.p50_ms, latency.p99_ms)
        });
        let trouble = match now.refused + now.disconnects + now.connect_errors {
            0 => String::new(),
            _ => format!(
                " | refused {} disconnects {} connect errors {}",
                now.refused, now.disconnects, now.connect_errors
            ),
        };
        let line = format!(
            "connected {}/{scanners} | published {} | acknowledged {}{times}{trouble}",
            now.connected, now.published, now.acknowledged
        );
        // A screen that went away is no reason to stop the test.
        drop(write!(stderr(), "\r\x1b[2K{line}").and_then(|()| stderr().flush()));
    }
}

/// Takes the live line away.
pub(crate) fn clear_live() {
    if stderr().is_terminal() {
        drop(write!(stderr(), "\r\x1b[2K"));
    }
}

/// The whole result in words.
pub(crate) fn summary(report: &Report, progress: &Progress) -> String {
    let totals = &report.totals;
    let seconds = report.elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { totals.published as f64 / seconds } else { 0.0 };
    let mut rows = vec![
        ("published", format!("{} in {seconds:.1} s ({rate:.0}/s)", totals.published)),
        ("acknowledged", totals.acknowledged.to_string()),
    ];
    let refusals: Vec<_> = report.refusals.iter().map(|(why, n)| format!("{why} {n}")).collect();
    let refused = match refusals.is_empty() {
        true => totals.refused.to_string(),
        false => format!("{} ({})", totals.refused, refusals.join(", ")),
    };
    rows.push(("refused", refused));
    // Without an answer there is no time, so the times below look better than the run was.
    let untimed = |count: u64| if count > 0 { format!("{count}, not in the times below") } else { count.to_string() };
    rows.push(("lost", untimed(report.lost)));
    rows.push(("unsent", untimed(report.unsent)));
    if report.ended_by_fault > 0 {
        rows.push(("ended by a fault", format!("{} clients; this report lacks what they did", report.ended_by_fault)));
    }
    for (name, value) in [
        ("malformed", totals.malformed),
        ("redelivered", totals.redelivered),
        ("sent anew", totals.resent),
        ("cut", totals.cut),
        ("disconnects", totals.disconnects),
        ("connect errors", totals.connect_errors),
    ] {
        if value > 0 {
            rows.push((name, value.to_string()));
        }
    }
    if let Some(error) = progress.last_connect_error() {
        rows.push(("last connect error", error));
    }
    if let Some(Latency { p50_ms, p90_ms, p99_ms, max_ms }) = totals.latency {
        let times = format!("p50 {p50_ms:.2}  p90 {p90_ms:.2}  p99 {p99_ms:.2}  max {max_ms:.2} ms");
        rows.push(("acknowledgement", times));
    }
    for (kind, count) in &report.hostile {
        let mut told = format!(
            "{} clients, {} connections, {} let in, {} refused, {} ended by the broker",
            count.clients, count.connections, count.admitted, count.refused, count.closed
        );
        if count.published > 0 {
            let _ = write!(told, "; published {}, acknowledged {}", count.published, count.acknowledged);
        }
        rows.push((kind, told));
    }
    let mut text = String::new();
    for (name, value) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<19}{value}");
    }
    text + &histogram(progress)
}

/// Acknowledgement times in buckets that double, as bars.
fn histogram(progress: &Progress) -> String {
    let Some(times) = progress.latency_us().filter(|times| !times.is_empty()) else {
        return String::new();
    };
    let mut buckets: Vec<(u64, u64)> = Vec::new();
    for step in times.iter_log(125, 2.0) {
        buckets.push((step.value_iterated_to() + 1, step.count_since_last_iteration()));
    }
    let first = buckets.iter().position(|(_, count)| *count > 0).unwrap_or(0);
    let most = buckets.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    let mut text = String::from("\n  up to ms   readings\n");
    for (limit_us, count) in buckets.into_iter().skip(first) {
        // A bucket with anything in it shows at least one block.
        let bar = "█".repeat((count * BAR).div_ceil(most) as usize);
        let _ = writeln!(text, "{:>10.2} {count:>10} {bar}", limit_us as f64 / 1_000.0);
    }
    text
}
