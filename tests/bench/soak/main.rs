//! Half an hour of load with faults out of a seed: `make soak MINUTES=30 SEED=1 RATE=2000`.
//!
//! Gateway, node and scanners are processes of their own. At the end everything must be final, the ledgers of all
//! scanners must agree with the gateway and with the chain, and the gateway's memory must be flat.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed expectation is a failed run"
)]

mod report;
mod scene;
mod watch;

use std::{
    env,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use report::Outcome;
use scene::Scene;
use serde_json::json;
use watch::Watch;
use windlass_tests::{Blow, blows, call, contradiction};

const MINUTES: u64 = 30;
const SEED: u64 = 1;
/// Readings per second of all scanners together.
const RATE: u64 = 2_000;
/// Until everything is final after the load.
const FINAL: Duration = Duration::from_secs(300);

fn number(name: &str, otherwise: u64) -> u64 {
    env::var(name).ok().filter(|text| !text.is_empty()).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn main() -> ExitCode {
    let (minutes, seed, rate) = (number("MINUTES", MINUTES), number("SEED", SEED), number("RATE", RATE));
    let length = Duration::from_secs(minutes * 60);
    println!("soak: {minutes} min at {rate} readings/s, seed {seed}");
    let mut scene = Scene::new();
    let (watch, held) = (Watch::new(&scene), scene.journal_bytes());
    let (mut struck, reorgs) = (Struck::default(), scene.reorgs());
    let begun = Instant::now();
    let over = AtomicBool::new(false);
    let plan = blows(seed, length);
    let (site, end) = (scene.surroundings(), begun + length);
    let rounds = thread::scope(|scope| {
        let groups: Vec<_> =
            scene::GROUPS.iter().map(|group| scope.spawn(|| scene::rounds(group, &site, rate as f64, end))).collect();
        scope.spawn(|| watch.run(begun, &over));
        for (at, blow) in &plan {
            thread::sleep((begun + *at).saturating_duration_since(Instant::now()));
            println!("{:>6.0} s  {blow}", begun.elapsed().as_secs_f64());
            strike(&mut scene, *blow, &mut struck);
        }
        let rounds: Vec<_> = groups.into_iter().flat_map(|group| group.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        rounds
    });
    let loaded = begun.elapsed();
    let settled = scene.until_all_is_final(FINAL);
    let outcome = Outcome {
        minutes,
        seed,
        rate,
        plan,
        struck,
        reorgs_seen: scene.reorgs() - reorgs,
        loaded,
        all_final_after: settled,
        contradiction: if settled.is_none() { contradiction(&scene.site) } else { None },
        audit: settled.map(|_| scene.audit(&rounds)),
        rounds,
        samples: watch.samples(),
        reloads: scene.site.metric("windlass_reloads_total{outcome=\"done\"}"),
        journal_bytes: scene.journal_bytes() - held,
        log_bytes: scene.site.log_bytes(),
    };
    outcome.tell(&scene)
}

/// What became of the blows that may come to nothing.
#[derive(Debug, Default)]
struct Struck {
    /// Reorgs that the node made.
    reorgs: u64,
    /// And those that it refused or did not answer, in its own words.
    refused: Vec<String>,
}

fn strike(scene: &mut Scene, blow: Blow, struck: &mut Struck) {
    match blow {
        Blow::NodeRestart(time) => {
            scene.site.stop_node();
            thread::sleep(time);
            scene.site.start_node();
        }
        Blow::NodeHang(time) => {
            scene.site.node.as_ref().unwrap().signal("STOP");
            thread::sleep(time);
            scene.site.node.as_ref().unwrap().signal("CONT");
        }
        Blow::Reorg(depth) => {
            // Of a node that has just begun again there may be less to replace.
            match call(scene.site.rpc, "anvil_reorg", json!([depth, []])) {
                Some(answer) if answer.get("error").is_none() => struck.reorgs += 1,
                Some(answer) => struck.refused.push(answer["error"].to_string()),
                None => struck.refused.push("no answer".to_owned()),
            }
        }
        Blow::Certificate => scene.renew_certificate(),
    }
}
