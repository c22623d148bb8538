//! What a soak came to, as a table, as JSON and as CSV.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::ExitCode, time::Duration};

use serde_json::{Value, json};
use windlass_tests::{Blow, is_flat, write_block};

use crate::{
    Struck,
    scene::{Round, Scene, directory},
    watch::Sample,
};

/// A shorter run is a trial, and changes no document.
const WHOLE_MINUTES: u64 = 30;

pub(crate) struct Outcome {
    pub(crate) minutes: u64,
    pub(crate) seed: u64,
    pub(crate) rate: u64,
    pub(crate) plan: Vec<(Duration, Blow)>,
    pub(crate) struck: Struck,
    /// By the gateway's own count. Two of the node's between two of its looks are one, and what a restarted node lacks is
    /// one more.
    pub(crate) reorgs_seen: f64,
    pub(crate) loaded: Duration,
    pub(crate) all_final_after: Option<Duration>,
    /// In what the node contradicted itself, when not all became final.
    pub(crate) contradiction: Option<String>,
    pub(crate) audit: Option<Value>,
    pub(crate) rounds: Vec<Round>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) reloads: f64,
    /// That the journal holds more than before the load.
    pub(crate) journal_bytes: u64,
    pub(crate) log_bytes: u64,
}

impl Outcome {
    /// Prints and writes it; fails when something was not as it should be.
    pub(crate) fn tell(&self, scene: &Scene) -> ExitCode {
        let problems = self.problems();
        let table = self.table(&problems);
        println!("\n{table}");
        let directory = directory();
        fs::write(directory.join("result.md"), &table).unwrap();
        fs::write(directory.join("samples.csv"), self.csv()).unwrap();
        let rounds: Vec<_> =
            self.rounds.iter().map(|round| json!({ "group": round.group, "result": round.result })).collect();
        let whole = json!({ "minutes": self.minutes, "seed": self.seed, "rate": self.rate, "audit": self.audit,
            "rounds": rounds, "problems": problems });
        fs::write(directory.join("result.json"), whole.to_string()).unwrap();
        fs::write(directory.join("gateway.log"), scene.site.log()).unwrap();
        if !problems.is_empty() {
            return ExitCode::FAILURE;
        }
        if self.minutes >= WHOLE_MINUTES {
            write_block("reliability.md", "soak", &table);
        }
        ExitCode::SUCCESS
    }

    fn sum(&self, figure: &str) -> u64 {
        self.rounds.iter().filter_map(|round| round.result[figure].as_u64()).sum()
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for round in self.rounds.iter().filter(|round| !round.succeeded) {
            problems.push(format!("scanners of {}: {}", round.group, round.result));
        }
        match (&self.audit, &self.contradiction) {
            (Some(audit), _) if !is_clean(audit, self.sum("resent")) => problems.push(format!("audit: {audit}")),
            (Some(_), _) => {}
            (None, Some(text)) => problems.push(format!("nothing can be said, the node contradicts itself: {text}")),
            (None, None) => problems.push("not all readings became final".to_owned()),
        }
        for refused in &self.struck.refused {
            println!("a reorg did not happen: {refused}");
        }
        if self.struck.reorgs > 0 && self.reorgs_seen == 0.0 {
            problems
                .push(format!("the node replaced blocks {} times, and the gateway saw none of it", self.struck.reorgs));
        }
        let (second, last, flat) = is_flat(&self.resident());
        if !flat {
            problems.push(format!("memory grew from {second:.0} to {last:.0} MiB"));
        }
        problems
    }

    fn resident(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.resident_mib).collect()
    }

    fn table(&self, problems: &[String]) -> String {
        let (second, last, _) = is_flat(&self.resident());
        let most = |of: fn(&Sample) -> f64| self.samples.iter().map(of).fold(0.0, f64::max);
        let audit = |figure: &str| self.audit.as_ref().map_or("-".to_owned(), |audit| audit[figure].to_string());
        let seconds = self.loaded.as_secs_f64();
        let acknowledged = self.sum("acknowledged");
        let mut text =
            format!("`make soak MINUTES={} SEED={} RATE={}`\n\n| | |\n|---|---|\n", self.minutes, self.seed, self.rate);
        let mut row = |name: &str, value: String| writeln!(text, "| {name} | {value} |").unwrap();
        row("acknowledged", format!("{acknowledged} in {seconds:.0} s, {:.0}/s", acknowledged as f64 / seconds));
        row("faults", self.faults());
        row(
            "reorgs that the node made; that the gateway saw",
            format!("{} of {}; {}", self.struck.reorgs, self.planned_reorgs(), self.reorgs_seen),
        );
        row(
            "links broken by the scanners; redelivered; sent anew",
            format!(
                "{} cut in the middle of a publish; {}; {}",
                self.sum("cut"),
                self.sum("redelivered"),
                self.sum("resent")
            ),
        );
        row("certificate reloads that were done", format!("{}", self.reloads));
        row(
            "all final",
            self.all_final_after.map_or("no".to_owned(), |t| format!("{:.0} s after the load", t.as_secs_f64())),
        );
        row(
            "in the ledgers; at the gateway; on chain; unchecked",
            format!("{}; {}; {}; {}", audit("acknowledged"), audit("stored"), audit("on_chain"), audit("unchecked")),
        );
        row("lost, doubled, holes", format!("{}, {}, {}", audit("lost"), audit("doubled"), audit("holes")));
        row("resident memory, median of the second and of the last quarter", format!("{second:.0} and {last:.0} MiB"));
        row(
            "most resident memory, descriptors, threads",
            format!(
                "{:.0} MiB, {:.0}, {:.0}",
                most(|s| s.resident_mib),
                most(|s| s.descriptors as f64),
                most(|s| s.threads as f64)
            ),
        );
        row("most readings that waited for the chain", format!("{:.0}", most(|s| s.unsettled)));
        row(
            "journal, with what only its log has; the log",
            format!(
                "{:.0} MiB, {:.0} bytes a reading; {:.0} MiB",
                self.journal_bytes as f64 / 1_048_576.0,
                self.journal_bytes as f64 / acknowledged.max(1) as f64,
                self.log_bytes as f64 / 1_048_576.0
            ),
        );
        row("verdict", if problems.is_empty() { "clean".to_owned() } else { problems.join("; ") });
        text
    }

    fn planned_reorgs(&self) -> usize {
        self.plan.iter().filter(|(_, blow)| matches!(blow, Blow::Reorg(_))).count()
    }

    /// Apart from reorgs, which may come to nothing.
    fn faults(&self) -> String {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, blow) in &self.plan {
            let kind = match blow {
                Blow::NodeRestart(_) => "node restarts",
                Blow::NodeHang(_) => "node standstills",
                Blow::Reorg(_) => continue,
                Blow::Certificate => "certificates renewed",
            };
            *counts.entry(kind).or_default() += 1;
        }
        counts.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    }

    fn csv(&self) -> String {
        let mut text = String::from("seconds,resident_mib,descriptors,threads,journal_bytes,log_bytes,unsettled\n");
        for s in &self.samples {
            writeln!(
                text,
                "{:.1},{:.1},{},{},{},{},{}",
                s.seconds, s.resident_mib, s.descriptors, s.threads, s.journal_bytes, s.log_bytes, s.unsettled
            )
            .unwrap();
        }
        text
    }
}

/// Nothing wrong, and every reading of the ledgers found on chain: none is left to the gateway's word. What a scanner sent
/// anew, because its session was lost before the answer came, may be there once more.
fn is_clean(audit: &Value, resent: u64) -> bool {
    let (acknowledged, on_chain) = (audit["acknowledged"].as_u64(), audit["on_chain"].as_u64());
    let found = acknowledged.zip(on_chain).is_some_and(|(least, found)| (least..=least + resent).contains(&found));
    audit["problems"] == json!([]) && found && audit["unchecked"] == 0
}
