//! The fuzz targets on a stable compiler: every file of the corpus, then a bounded number of seeded mutations of them.
//!
//! `WINDLASS_FUZZ_INPUT=file` runs one file only, `WINDLASS_FUZZ_SEED` and `WINDLASS_FUZZ_RUNS` choose other mutations, and
//! `WINDLASS_FUZZ_SEEDS=write` writes the corpus anew from `seeds.rs`.

#[path = "mutate.rs"]
mod mutate;
#[path = "seeds.rs"]
mod seeds;

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use crate::fuzz::targets;
use mutate::Dice;

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz");
/// An input takes less than a hundredth of it, also on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Chosen once; another seed is another test.
const SEED: u64 = 1;

struct Target {
    name: &'static str,
    run: fn(&[u8]),
    /// Mutations: together they take about ten seconds in a debug build.
    runs: u64,
}

#[test]
fn before_connect_survives_its_corpus_and_mutations_of_it() {
    survives(Target { name: "before_connect", run: targets::before_connect, runs: 80_000 });
}

#[test]
fn after_connect_survives_its_corpus_and_mutations_of_it() {
    survives(Target { name: "after_connect", run: targets::after_connect, runs: 150_000 });
}

#[test]
fn payload_survives_its_corpus_and_mutations_of_it() {
    survives(Target { name: "payload", run: targets::payload, runs: 400_000 });
}

#[test]
fn the_corpus_has_every_seed() {
    let write = env::var("WINDLASS_FUZZ_SEEDS").is_ok_and(|v| v == "write");
    for seeds::Seed(target, name, bytes) in seeds::all() {
        let file = corpus_of(target).join(name);
        if write {
            fs::create_dir_all(corpus_of(target)).unwrap();
            fs::write(&file, &bytes).unwrap();
        }
        let there = fs::read(&file).ok();
        assert_eq!(there, Some(bytes), "{} is not as seeds.rs says; see tests/fuzz/README.md", file.display());
    }
}

#[test]
fn a_seed_makes_the_same_inputs_and_another_seed_others() {
    let corpus = [b"12345".to_vec(), b"abc".to_vec()];
    let inputs = |seed: u64| (0..20).map(|n| mutate::mutated(&corpus, &mut Dice::new(seed + n))).collect::<Vec<_>>();
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(100));
}

fn corpus_of(target: &str) -> PathBuf {
    Path::new(DIRECTORY).join("corpus").join(target)
}

/// Files by name, so that every machine mutates the same ones.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(corpus_of(target)).unwrap().map(|entry| entry.unwrap().path());
    let mut corpus: Vec<_> = files.map(|file| (file.clone(), fs::read(&file).unwrap())).collect();
    corpus.sort();
    corpus
}

fn number(key: &str, otherwise: u64) -> u64 {
    env::var(key).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{key} is no number: {text}")))
}

fn survives(target: Target) {
    if let Some(file) = env::var_os("WINDLASS_FUZZ_INPUT") {
        return (target.run)(&fs::read(&file).unwrap());
    }
    let corpus = corpus(target.name);
    assert!(!corpus.is_empty(), "no corpus of {}", target.name);
    let (seed, runs) = (number("WINDLASS_FUZZ_SEED", SEED), number("WINDLASS_FUZZ_RUNS", target.runs));
    let files = corpus.clone().into_iter().map(|(file, bytes)| (file.display().to_string(), bytes));
    let bytes: Vec<_> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    let mutations = (0..runs).map(move |n| {
        let input = mutate::mutated(&bytes, &mut Dice::new(seed ^ n << 20));
        (format!("mutation {n} of seed {seed}"), input)
    });
    run_all(&target, files.chain(mutations));
}

/// Runs the inputs on a thread of their own, so that one that never returns is told too.
fn run_all(target: &Target, inputs: impl Iterator<Item = (String, Vec<u8>)>) {
    let (ask, asked) = mpsc::channel::<Vec<u8>>();
    let (tell, told) = mpsc::channel();
    let run = target.run;
    let worker = std::thread::spawn(move || {
        for input in asked {
            run(&input);
            tell.send(()).unwrap();
        }
    });
    for (origin, input) in inputs {
        ask.send(input.clone()).unwrap_or_default();
        let what = match told.recv_timeout(PATIENCE) {
            Ok(()) => continue,
            Err(mpsc::RecvTimeoutError::Timeout) => "does not return",
            Err(mpsc::RecvTimeoutError::Disconnected) => "fails",
        };
        let file = keep(target.name, &input);
        panic!(
            "{} {what} on {origin}; the input is {file}\nagain on stable:   WINDLASS_FUZZ_INPUT={file} cargo test -p \
             windlass-broker --lib {}\nagain in libFuzzer: cargo +nightly fuzz run --fuzz-dir tests/fuzz {} {file}",
            target.name, target.name, target.name
        );
    }
    drop(ask);
    worker.join().unwrap();
}

/// Writes a failing input down; the name is made of its bytes.
fn keep(target: &str, input: &[u8]) -> String {
    let directory = Path::new(DIRECTORY).join("../../target/fuzz-failures");
    fs::create_dir_all(&directory).unwrap();
    let directory = directory.canonicalize().unwrap();
    let hash = input.iter().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0400_0000_01B3));
    let file = directory.join(format!("{target}-{hash:016x}"));
    fs::write(&file, input).unwrap();
    file.display().to_string()
}
