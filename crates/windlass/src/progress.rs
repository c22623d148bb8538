//! How far long work has come: a line on the terminal of standard error, nothing anywhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line moves when nothing is known of its end.
const TURN: Duration = Duration::from_millis(120);

/// A line that goes when the work ends.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work whose size is known.
    pub(crate) fn of(what: &'static str, all: u64) -> Self {
        let bar = ProgressBar::new(all).with_message(what);
        // A template that is wrong would be found by the test below.
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {human_pos} of {human_len}, {eta} left") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Work whose size is not known.
    pub(crate) fn open(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what);
        bar.enable_steady_tick(TURN);
        Self(bar)
    }

    /// So much more is done.
    pub(crate) fn step(&self, by: u64) {
        self.0.inc(by);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_how_far_the_work_has_come_and_goes_with_it() {
        let progress = Progress::of("batches", 10);
        progress.step(3);
        assert_eq!((progress.0.position(), progress.0.length()), (3, Some(10)));
        assert!(ProgressStyle::with_template("{msg} {wide_bar} {human_pos} of {human_len}, {eta} left").is_ok());
        let bar = progress.0.clone();
        drop(progress);
        assert!(bar.is_finished());
    }
}
