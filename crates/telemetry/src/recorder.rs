//! The metrics recorder: takes what the crates record, renders the Prometheus text page.

use std::{fmt, sync::Arc, time::Duration};

use metrics::LocalRecorderGuard;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// How often [`Recorder::upkeep`] is to be called: samples wait in memory for it.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The recorder could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The buckets of a histogram are empty, unordered or not finite: a mistake in the calling code.
    #[error("the buckets of {metric} are not finite, ascending numbers")]
    Buckets {
        /// The histogram.
        metric: String,
    },
    /// The exporter refused the set-up, most likely because this process has a recorder already.
    #[error("cannot set up the metrics recorder")]
    Build(#[source] BuildError),
}

/// A handle to the metrics of this process (or of one test). Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    handle: PrometheusHandle,
    /// Present when the recorder is not the process's own.
    local: Option<Arc<PrometheusRecorder>>,
}

impl Recorder {
    /// Makes the recorder of this process. `buckets` gives the upper bounds of each histogram by its name;
    /// one without would render as a summary, which cannot be aggregated over gateways.
    ///
    /// # Errors
    /// [`RecorderError`] when buckets are wrong or the process has a recorder already.
    pub fn install(buckets: &[(&str, &[f64])]) -> Result<Self, RecorderError> {
        let handle = builder(buckets)?.install_recorder().map_err(RecorderError::Build)?;
        Ok(Self { handle, local: None })
    }

    /// Makes a recorder that is not the process's own: for tests. Use [`within`](Self::within) or
    /// [`guard`](Self::guard) to record into it.
    ///
    /// # Errors
    /// [`RecorderError`] when buckets are wrong.
    pub fn local(buckets: &[(&str, &[f64])]) -> Result<Self, RecorderError> {
        let recorder = builder(buckets)?.build_recorder();
        Ok(Self { handle: recorder.handle(), local: Some(Arc::new(recorder)) })
    }

    /// Runs `work` with a local recorder in force on this thread; an installed one is in force anyway.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.local {
            Some(local) => metrics::with_local_recorder(local.as_ref(), work),
            None => work(),
        }
    }

    /// Keeps a local recorder in force on this thread until the guard is dropped: for a test on a
    /// single-threaded runtime. `None` for an installed recorder.
    pub fn guard(&self) -> Option<LocalRecorderGuard<'_>> {
        self.local.as_ref().map(|local| metrics::set_default_local_recorder(local.as_ref()))
    }

    /// The page, in Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves recorded samples into their buckets. Call it every [`UPKEEP_EVERY`]: unread pages otherwise let
    /// the samples pile up.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("local", &self.local.is_some()).finish_non_exhaustive()
    }
}

fn builder(buckets: &[(&str, &[f64])]) -> Result<PrometheusBuilder, RecorderError> {
    let mut builder = PrometheusBuilder::new();
    for (metric, bounds) in buckets {
        let ascending = bounds.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        if bounds.is_empty() || !ascending || !bounds.iter().all(|bound| bound.is_finite()) {
            return Err(RecorderError::Buckets { metric: (*metric).to_owned() });
        }
        builder = builder
            .set_buckets_for_metric(Matcher::Full((*metric).to_owned()), bounds)
            .map_err(RecorderError::Build)?;
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKETS: &[(&str, &[f64])] = &[("test_seconds", &[0.1, 1.0])];

    #[test]
    fn a_histogram_renders_as_buckets_and_not_as_a_summary() {
        let recorder = Recorder::local(BUCKETS).unwrap();
        recorder.within(|| {
            for value in [0.05, 0.5, 5.0] {
                metrics::histogram!("test_seconds", "stage" => "mined").record(value);
            }
        });
        let page = recorder.render();
        for line in [
            "# TYPE test_seconds histogram",
            r#"test_seconds_bucket{stage="mined",le="0.1"} 1"#,
            r#"test_seconds_bucket{stage="mined",le="1"} 2"#,
            r#"test_seconds_bucket{stage="mined",le="+Inf"} 3"#,
            r#"test_seconds_count{stage="mined"} 3"#,
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("quantile"), "{page}");
    }

    #[test]
    fn upkeep_changes_nothing_that_is_rendered() {
        let recorder = Recorder::local(BUCKETS).unwrap();
        let record = || recorder.within(|| metrics::histogram!("test_seconds").record(0.5));
        record();
        recorder.upkeep();
        record();
        assert!(recorder.render().contains("test_seconds_count 2"), "{}", recorder.render());
    }

    #[test]
    fn a_clone_shows_the_same_page_and_a_guard_holds_until_dropped() {
        let recorder = Recorder::local(&[]).unwrap();
        let guard = recorder.guard();
        metrics::counter!("test_total").increment(2);
        drop(guard);
        metrics::counter!("test_total").increment(5);
        assert!(recorder.clone().render().contains("test_total 2"), "{}", recorder.render());
    }

    #[test]
    fn wrong_buckets_are_refused_with_the_metric_s_name() {
        for bounds in [&[] as &[f64], &[1.0, 0.5], &[1.0, 1.0], &[f64::NAN], &[1.0, f64::INFINITY]] {
            let error = Recorder::local(&[("bad_seconds", bounds)]).unwrap_err();
            assert!(error.to_string().contains("bad_seconds"), "{error}");
        }
    }

    #[test]
    fn the_process_has_one_recorder() {
        let recorder = Recorder::install(BUCKETS).unwrap();
        assert!(matches!(Recorder::install(BUCKETS), Err(RecorderError::Build(_))));
        metrics::histogram!("test_seconds").record(0.5);
        assert!(recorder.render().contains(r#"test_seconds_bucket{le="1"} 1"#));
        assert!(recorder.guard().is_none());
    }
}
