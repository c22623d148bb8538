//! A step of Windlass and its reference, measured by criterion one after the other.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use criterion::{Bencher, Criterion};
use serde_json::Value;
use windlass_tests::{Figure, Figures};

const OURS: &str = "windlass";
const REFERENCE: &str = "reference";

/// What a pair is called.
#[derive(Clone, Copy)]
pub(crate) struct Named {
    /// In the table.
    pub(crate) name: &'static str,
    pub(crate) reference: &'static str,
    /// What one iteration is.
    pub(crate) conditions: &'static str,
}

/// All pairs of a run.
pub(crate) struct Pairs {
    criterion: Criterion,
    /// Where criterion keeps what it measured.
    directory: PathBuf,
    begun: SystemTime,
    named: Vec<Named>,
}

impl Pairs {
    pub(crate) fn new(criterion: Criterion, directory: PathBuf) -> Self {
        // File systems keep coarser times than the clock gives.
        let begun = SystemTime::now() - Duration::from_secs(1);
        Self { criterion, directory, begun, named: Vec::new() }
    }

    /// Measures both.
    pub(crate) fn measure(
        &mut self,
        named: Named,
        ours: impl FnMut(&mut Bencher<'_>),
        reference: impl FnMut(&mut Bencher<'_>),
    ) {
        let mut group = self.criterion.benchmark_group(slug(named.name));
        group.bench_function(OURS, ours);
        group.bench_function(REFERENCE, reference);
        group.finish();
        self.named.push(named);
    }

    /// The medians of this run; what a filter left out is not among them.
    pub(crate) fn figures(&self) -> Figures {
        let mut figures = Figures::new("small");
        figures.measured_by("make bench AREAS=small");
        for named in &self.named {
            let median = |which| self.median_us(named.name, which);
            if let (Some(ours), Some(reference)) = (median(OURS), median(REFERENCE)) {
                figures.under(named.conditions);
                figures.add(Figure::lower(named.name, "us", ours).beside(named.reference, reference));
            }
        }
        figures
    }

    /// Criterion's estimate, if this run made it.
    fn median_us(&self, name: &str, which: &str) -> Option<f64> {
        let path = self.directory.join(slug(name)).join(which).join("new/estimates.json");
        if fs::metadata(&path).ok()?.modified().unwrap() < self.begun {
            return None;
        }
        let estimates: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        Some(estimates["median"]["point_estimate"].as_f64().unwrap() / 1_000.0)
    }
}

/// The name of criterion's directory.
fn slug(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}
