//! When each reading falls due.

use std::time::Duration;

/// The even arrivals of one scanner, measured from the start of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    rate_hz: f64,
    /// Where in its period this scanner reads, 0..1: scanners take turns and do not all read at once.
    phase: f64,
    count: u64,
}

impl Schedule {
    /// For scanner `index` of `scanners`.
    pub(crate) fn new(rate_hz: f64, duration: Duration, index: usize, scanners: usize) -> Self {
        let phase = index as f64 / scanners.max(1) as f64;
        // The small term keeps 0.1 × 30 from becoming 2 for want of a binary fraction.
        let count = (duration.as_secs_f64() * rate_hz + 1e-6).floor() as u64;
        Self { rate_hz, phase, count }
    }

    /// How many readings fall due in the whole run.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// When reading `position` falls due.
    pub(crate) fn due(&self, position: u64) -> Duration {
        Duration::from_secs_f64((position as f64 + self.phase) / self.rate_hz)
    }

    /// How many readings have fallen due after `elapsed`.
    pub(crate) fn due_by(&self, elapsed: Duration) -> u64 {
        let periods = elapsed.as_secs_f64() * self.rate_hz - self.phase;
        if periods < 0.0 { 0 } else { (periods.floor() as u64 + 1).min(self.count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_holds_rate_times_duration_readings_all_before_its_end() {
        for (rate, seconds, count) in [(1.0, 30, 30), (10.0, 3, 30), (0.1, 30, 3), (0.5, 3, 1)] {
            let duration = Duration::from_secs(seconds);
            let schedule = Schedule::new(rate, duration, 9, 10);
            assert_eq!(schedule.count(), count);
            assert!(schedule.due(count - 1) < duration);
        }
    }

    #[test]
    fn scanners_take_turns_within_the_period() {
        let due = |index| Schedule::new(1.0, Duration::from_secs(5), index, 4).due(2);
        assert_eq!(due(0), Duration::from_secs(2));
        assert_eq!(due(1), Duration::from_millis(2250));
        assert_eq!(due(3), Duration::from_millis(2750));
    }

    #[test]
    fn what_is_due_after_a_time_is_counted_to_the_boundary() {
        let schedule = Schedule::new(1.0, Duration::from_secs(3), 1, 2);
        for (ms, due) in [(0, 0), (499, 0), (500, 1), (1499, 1), (1500, 2), (60_000, 3)] {
            assert_eq!(schedule.due_by(Duration::from_millis(ms)), due, "{ms} ms");
        }
    }
}
