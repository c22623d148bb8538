//! When each reading falls due.

use std::{str::FromStr, time::Duration};

use crate::{
    codes::mix,
    faults::{Unknown, by_name},
};

/// A burst comes so often, or once in a shorter run.
const BURST_EVERY: f64 = 10.0;
/// The part of each of these that the burst takes.
const BURST_PART: f64 = 0.1;
/// The first and the last so much of a run are the ends of a shift.
const SHIFT_END: f64 = 0.1;
/// Of the readings, so many fall into each of the two ends: 2.5 times the mean rate, four times that between.
const SHIFT_SHARE: f64 = 0.25;
/// Two to this many different fractions come out of a hash.
const FRACTION_BITS: u32 = 53;

/// How readings arrive over a run. The mean is the load's rate with each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pattern {
    /// Evenly; the scanners take turns.
    #[default]
    Steady,
    /// Independently of each other: the gaps of a scanner are exponential, out of the seed.
    Poisson,
    /// The run is one shift: in its first and in its last tenth four times as much is read as between.
    Shift,
    /// What ten seconds bring falls due within their first second, at every scanner.
    Burst,
}

impl Pattern {
    /// Every pattern, in the order of the help text.
    pub const ALL: [Self; 4] = [Self::Steady, Self::Poisson, Self::Shift, Self::Burst];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Poisson => "poisson",
            Self::Shift => "shift",
            Self::Burst => "burst",
        }
    }
}

impl FromStr for Pattern {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        by_name("pattern", text, &Self::ALL, Self::as_str)
    }
}

/// The arrivals of one scanner, measured from the start of the run.
#[derive(Debug, Clone)]
pub(crate) enum Schedule {
    /// `warp` of the even arrivals.
    Even { rate_hz: f64, phase: f64, count: u64, warp: Warp },
    /// Drawn beforehand, in order.
    Drawn(Vec<Duration>),
}

/// Where in a run the even arrivals are moved to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Warp {
    None,
    Shift { seconds: f64 },
    Burst { period: f64 },
}

impl Warp {
    /// From even time to the pattern's, in seconds. Grows with its argument.
    fn apply(self, even: f64) -> f64 {
        match self {
            Self::None => even,
            Self::Burst { period } => {
                let begun = (even / period).floor() * period;
                begun + (even - begun) * BURST_PART
            }
            Self::Shift { seconds } => {
                let share = even / seconds;
                let middle = 1.0 - 2.0 * SHIFT_END;
                seconds
                    * if share < SHIFT_SHARE {
                        share / SHIFT_SHARE * SHIFT_END
                    } else if share < 1.0 - SHIFT_SHARE {
                        SHIFT_END + (share - SHIFT_SHARE) / (1.0 - 2.0 * SHIFT_SHARE) * middle
                    } else {
                        1.0 - (1.0 - share) / SHIFT_SHARE * SHIFT_END
                    }
            }
        }
    }
}

impl Schedule {
    /// For scanner `index` of `scanners`.
    pub(crate) fn new(
        pattern: Pattern,
        rate_hz: f64,
        duration: Duration,
        seed: u64,
        index: usize,
        scanners: usize,
    ) -> Self {
        let seconds = duration.as_secs_f64();
        let warp = match pattern {
            Pattern::Poisson => return Self::Drawn(exponential(rate_hz, duration, seed, index as u64)),
            Pattern::Steady => Warp::None,
            Pattern::Shift => Warp::Shift { seconds },
            Pattern::Burst => Warp::Burst { period: seconds.min(BURST_EVERY) },
        };
        // Where in its period this scanner reads, 0..1: scanners take turns and do not all read at once.
        let phase = index as f64 / scanners.max(1) as f64;
        // All whose time comes before the end. The small term keeps 0.1 × 30 from becoming 4 for want of a binary fraction.
        let count = (seconds * rate_hz - phase - 1e-6).ceil() as u64;
        Self::Even { rate_hz, phase, count, warp }
    }

    /// How many readings fall due in the whole run.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Even { count, .. } => *count,
            Self::Drawn(times) => times.len() as u64,
        }
    }

    /// When reading `position` falls due.
    pub(crate) fn due(&self, position: u64) -> Duration {
        match self {
            Self::Even { rate_hz, phase, warp, .. } => {
                Duration::from_secs_f64(warp.apply((position as f64 + phase) / rate_hz))
            }
            Self::Drawn(times) => {
                usize::try_from(position).ok().and_then(|at| times.get(at)).copied().unwrap_or(Duration::MAX)
            }
        }
    }

    /// How many readings have fallen due after `elapsed`.
    pub(crate) fn due_by(&self, elapsed: Duration) -> u64 {
        match self {
            Self::Drawn(times) => times.partition_point(|due| *due <= elapsed) as u64,
            Self::Even { count, .. } => {
                // Times grow with the position: the first that is later is found by halves.
                let (mut due, mut later) = (0, *count);
                while due < later {
                    let middle = due + (later - due) / 2;
                    if self.due(middle) <= elapsed {
                        due = middle + 1;
                    } else {
                        later = middle;
                    }
                }
                due
            }
        }
    }
}

/// Arrivals of a Poisson process until `duration`.
fn exponential(rate_hz: f64, duration: Duration, seed: u64, index: u64) -> Vec<Duration> {
    let stream = mix(seed ^ mix(!index));
    let mut at = 0.0;
    let mut times = Vec::new();
    for draw in 0.. {
        // Above 0 and at most 1, so that the logarithm is finite.
        let fraction = ((mix(stream.wrapping_add(draw)) >> (u64::BITS - FRACTION_BITS)) + 1) as f64
            / (1u64 << FRACTION_BITS) as f64;
        at -= fraction.ln() / rate_hz;
        if at >= duration.as_secs_f64() {
            break;
        }
        times.push(Duration::from_secs_f64(at));
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(rate_hz: f64, duration: Duration, index: usize, scanners: usize) -> Schedule {
        Schedule::new(Pattern::Steady, rate_hz, duration, 1, index, scanners)
    }

    #[test]
    fn a_run_holds_rate_times_duration_readings_all_before_its_end() {
        for (rate, seconds, count) in [(1.0, 30, 30), (10.0, 3, 30), (0.1, 30, 3), (0.5, 3, 1)] {
            let duration = Duration::from_secs(seconds);
            for pattern in [Pattern::Steady, Pattern::Shift, Pattern::Burst] {
                let schedule = Schedule::new(pattern, rate, duration, 1, 9, 10);
                assert_eq!(schedule.count(), count, "{pattern:?}");
                assert!(schedule.due(count - 1) < duration, "{pattern:?}");
            }
        }
    }

    #[test]
    fn scanners_that_read_less_than_once_a_run_keep_the_rate_together() {
        for pattern in [Pattern::Steady, Pattern::Shift, Pattern::Burst] {
            let of = |index| Schedule::new(pattern, 0.02, Duration::from_secs(20), 1, index, 500).count();
            assert_eq!((0..500).map(of).sum::<u64>(), 200, "{pattern:?}");
        }
    }

    #[test]
    fn scanners_take_turns_within_the_period() {
        let due = |index| steady(1.0, Duration::from_secs(5), index, 4).due(2);
        assert_eq!(due(0), Duration::from_secs(2));
        assert_eq!(due(1), Duration::from_millis(2250));
        assert_eq!(due(3), Duration::from_millis(2750));
    }

    #[test]
    fn what_is_due_after_a_time_is_counted_to_the_boundary() {
        let schedule = steady(1.0, Duration::from_secs(3), 1, 2);
        for (ms, due) in [(0, 0), (499, 0), (500, 1), (1499, 1), (1500, 2), (60_000, 3)] {
            assert_eq!(schedule.due_by(Duration::from_millis(ms)), due, "{ms} ms");
        }
    }

    #[test]
    fn in_every_pattern_times_grow_and_a_reading_is_due_at_its_time() {
        for pattern in Pattern::ALL {
            for index in [0, 3, 9] {
                let schedule = Schedule::new(pattern, 7.3, Duration::from_secs(41), 5, index, 10);
                let times: Vec<_> = (0..schedule.count()).map(|n| schedule.due(n)).collect();
                assert!(times.is_sorted() && times.len() > 200, "{pattern:?}: {times:?}");
                for (position, due) in times.iter().enumerate() {
                    assert!(schedule.due_by(*due) > position as u64, "{pattern:?} {position}");
                    if let Some(before) = due.checked_sub(Duration::from_micros(1)) {
                        assert!(schedule.due_by(before) <= position as u64, "{pattern:?} {position}");
                    }
                }
                assert_eq!(schedule.due_by(Duration::MAX), schedule.count());
            }
        }
    }

    /// Of 100 scanners, how many readings fall due from one second to another.
    fn between(pattern: Pattern, from: u64, to: u64) -> u64 {
        let due = |index, second| {
            Schedule::new(pattern, 1.0, Duration::from_secs(100), 1, index, 100).due_by(Duration::from_secs(second))
        };
        (0..100).map(|index| due(index, to) - due(index, from)).sum()
    }

    #[test]
    fn a_shift_is_busy_at_its_ends_and_a_burst_at_its_beginning() {
        // 10,000 readings in 100 s: a quarter in each end, half in the 80 s between.
        for (from, to, expected) in [(0, 10, 2_500), (10, 90, 5_000), (90, 100, 2_500)] {
            assert!(between(Pattern::Shift, from, to).abs_diff(expected) <= 100, "{from}..{to}");
        }
        for second in [0, 10, 90] {
            assert!(between(Pattern::Burst, second, second + 1) >= 990, "{second}");
            assert!(between(Pattern::Burst, second + 1, second + 10) <= 10, "{second}");
        }
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_spread_of_their_kind() {
        let counts: Vec<_> = (0..100).map(|second| between(Pattern::Poisson, second, second + 1) as f64).collect();
        let mean = counts.iter().sum::<f64>() / 100.0;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 99.0;
        // Four standard errors: of the mean sqrt(100/100), of the variance 100 × sqrt(2/99).
        assert!((mean - 100.0).abs() < 4.0, "{mean}");
        assert!((variance - 100.0).abs() < 57.0, "{variance}");
    }

    #[test]
    fn the_same_seed_draws_the_same_times_and_another_seed_others() {
        let times = |seed| Schedule::new(Pattern::Poisson, 2.0, Duration::from_secs(20), seed, 0, 1).due(5);
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }
}
