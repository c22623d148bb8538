//! What a person sees: the table of a run and the summary.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _, stderr},
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::time::interval;
use windlass_scanner::{Latency, Progress, Report, Snapshot};

/// A line of the table comes so often.
const EVERY: Duration = Duration::from_secs(1);
/// The names of the columns come again after so many lines.
const NAMES_EVERY: u64 = 20;
/// Width of the longest bar of the histogram.
const BAR: u64 = 40;
const NAMES: &str = "  time    connected   published/s     acked/s     open     p50 ms     p99 ms  refused   broken";

/// Prints the table's lines until it is aborted; nothing when standard error is no terminal.
pub(crate) async fn live(progress: Arc<Progress>, scanners: usize) {
    if !stderr().is_terminal() {
        return;
    }
    let mut tick = interval(EVERY);
    tick.tick().await;
    let mut before = Moment::new(&progress);
    for second in 1.. {
        tick.tick().await;
        let now = Moment::new(&progress);
        // A screen that went away is no reason to stop the test.
        if second % NAMES_EVERY == 1 {
            drop(writeln!(stderr(), "{NAMES}"));
        }
        drop(writeln!(stderr(), "{}", line(second, &before, &now, scanners)));
        before = now;
    }
}

/// What is known at one moment.
struct Moment {
    counts: Snapshot,
    times: Option<Histogram<u64>>,
}

impl Moment {
    fn new(progress: &Progress) -> Self {
        Self { times: progress.latency_us(), counts: progress.snapshot() }
    }
}

/// One second: rates and times are its own, the other figures are of the run so far. What is lost shows at the end only.
fn line(second: u64, before: &Moment, now: &Moment, scanners: usize) -> String {
    let (was, is) = (&before.counts, &now.counts);
    let open = is.published.saturating_sub(is.acknowledged + is.refused);
    let mut times = now.times.clone();
    if let (Some(times), Some(earlier)) = (&mut times, &before.times) {
        // Of the same bounds, and nothing is ever taken out of it.
        let _ = times.subtract(earlier);
    }
    let time = |quantile| match times.as_ref().filter(|times| !times.is_empty()) {
        Some(times) => format!("{:.1}", times.value_at_quantile(quantile) as f64 / 1_000.0),
        None => "-".to_owned(),
    };
    format!(
        "{:>6} {:>12} {:>13} {:>11} {open:>8} {:>10} {:>10} {:>8} {:>8}",
        format!("{second}s"),
        format!("{}/{scanners}", is.connected),
        is.published.saturating_sub(was.published),
        is.acknowledged.saturating_sub(was.acknowledged),
        time(0.5),
        time(0.99),
        is.refused,
        is.disconnects + is.connect_errors
    )
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
    if let Some(Latency { p50_ms, p90_ms, p99_ms, p999_ms, max_ms }) = totals.latency {
        let times =
            format!("p50 {p50_ms:.2}  p90 {p90_ms:.2}  p99 {p99_ms:.2}  p99.9 {p999_ms:.2}  max {max_ms:.2} ms");
        rows.push(("acknowledgement", times));
    }
    for (kind, count) in &report.hostile {
        let mut told = format!(
            "{} clients, {} connections, {} let in, {} refused, {} ended by the broker",
            count.clients, count.connections, count.admitted, count.refused, count.closed
        );
        if count.unanswered > 0 {
            let _ = write!(told, ", {} given up without an answer", count.unanswered);
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_has_the_second_s_own_rates_and_times() {
        let mut times = Histogram::new_with_bounds(1, 600_000_000, 3).unwrap();
        times.record_n(1_000, 100).unwrap();
        let counts = Snapshot { connected: 9, published: 100, acknowledged: 100, ..Snapshot::default() };
        let before = Moment { counts: counts.clone(), times: Some(times.clone()) };
        times.record_n(50_000, 30).unwrap();
        let counts = Snapshot { published: 140, acknowledged: 130, refused: 4, disconnects: 2, ..counts };
        let line = line(7, &before, &Moment { counts, times: Some(times) }, 10);
        let figures: Vec<_> = line.split_whitespace().collect();
        assert_eq!(figures, ["7s", "9/10", "40", "30", "6", "50.0", "50.0", "4", "2"]);
        assert_eq!(line.len(), NAMES.len(), "{NAMES}\n{line}");
    }
}
