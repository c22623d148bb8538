//! The seeded fault matrix: each seed kills the gateway at a named point between journal and chain, lets a node's answer
//! get lost, reorganizes the chain, and then journal, chain and what the devices saw acknowledged must tell one story.
//!
//! `make chaos SEEDS=200` runs seeds 0 to 199; `make chaos SEED=17` runs one of them again. The dimensions of a seed
//! follow from its number, so that consecutive seeds cover all of them; times come from a generator seeded with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

mod case;
mod seed;

use std::{
    env,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use seed::Plan;

/// Without `SEEDS`: each point of the matrix at least once.
const SEEDS: u64 = 10;
/// Cases at the same time: they mostly wait for blocks.
const WORKERS: usize = 4;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().expect("a number"))
}

fn main() -> ExitCode {
    let seeds = number("SEED").map_or(0..number("SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let total = seeds.end - seeds.start;
    println!(
        "{:>5}  {:<10} {:<6} {:<22} {:<14} {:<6} {:>8} {:>8}",
        "seed", "settlement", "nodes", "killed", "then", "reorg", "readings", "seconds"
    );
    // The default hook would print each failure twice, and between the rows.
    panic::set_hook(Box::new(|_| {}));
    let next = AtomicU64::new(seeds.start);
    let readings = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..WORKERS.min(usize::try_from(total).unwrap_or(WORKERS)) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let plan = Plan::of(seed);
                    let mut started = Instant::now();
                    let mut outcome = panic::catch_unwind(AssertUnwindSafe(|| case::run(&plan)));
                    if let Ok(Err(text)) = &outcome {
                        println!(
                            "{plan} {:>8} {:>8.1}  again, the node contradicts itself: {text}",
                            "-",
                            started.elapsed().as_secs_f64()
                        );
                        started = Instant::now();
                        outcome = panic::catch_unwind(AssertUnwindSafe(|| case::run(&plan)));
                    }
                    let seconds = started.elapsed().as_secs_f64();
                    match outcome {
                        Ok(Err(text)) => {
                            println!(
                                "{plan} {:>8} {seconds:>8.1}  FAILED: the node contradicts itself again: {text}",
                                "-"
                            );
                            failures.lock().unwrap().push((seed, text));
                        }
                        Ok(Ok(count)) => {
                            readings.fetch_add(count, Ordering::Relaxed);
                            println!("{plan} {count:>8} {seconds:>8.1}");
                        }
                        Err(panic) => {
                            let text = text_of(&*panic);
                            println!("{plan} {:>8} {seconds:>8.1}  FAILED: {text}", "-");
                            failures.lock().unwrap().push((seed, text));
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let of = |kind: Kind| failures.iter().filter(|(_, text)| Kind::of(text) == kind).count();
    println!(
        "{total} seeds, {} readings in {:.0} s: {} lost, {} doubled, {} stuck, {} other failures",
        readings.into_inner(),
        begun.elapsed().as_secs_f64(),
        of(Kind::Lost),
        of(Kind::Doubled),
        of(Kind::Stuck),
        of(Kind::Other),
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lost,
    Doubled,
    Stuck,
    Other,
}

impl Kind {
    /// By the words of the audit and of the harness.
    fn of(text: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if has(&["is lost", "more often than it is stored", "has a hole"]) {
            Self::Lost
        } else if has(&[
            "out of order",
            "recorded readings",
            "anchored readings",
            "one event for each batch",
            "set() calls",
        ]) {
            Self::Doubled
        } else if has(&["not within"]) {
            Self::Stuck
        } else {
            Self::Other
        }
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned())).unwrap_or_else(|| "a panic".into())
}
