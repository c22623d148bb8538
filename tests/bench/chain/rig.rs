//! A site under load, and what is read off it.

use std::{
    fmt::Write as _,
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use windlass_journal::{Listing, Sqlite};
use windlass_tests::{SECRET, Site, cpu, scanner, until};

/// As many connections as a broker takes by default.
const USUAL_CONNECTIONS: usize = 10_000;

/// What a journal's figure is, for the table.
pub(crate) const PAGES: &str =
    "all pages of the journal, those included that only its write-ahead log has, less those before the load";
/// And what is said beside its log's.
pub(crate) const LOG: &str = "the file is used again from its start; 64 MiB, and what a long read holds up";

/// A site with so many devices of one settlement.
pub(crate) struct Rig {
    pub(crate) site: Site,
    settlement: String,
    devices: usize,
}

/// Scanners at work.
pub(crate) struct Load {
    child: Child,
    /// Processor time as it was last seen.
    cpu: Duration,
}

/// What they saw.
pub(crate) struct Summary {
    pub(crate) accepted: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) lost: usize,
    pub(crate) unsent: usize,
    /// What the load itself took, to within a second.
    pub(crate) cpu: Duration,
}

impl Rig {
    pub(crate) fn new(settlement: &str, devices: usize) -> Self {
        let ids: Vec<String> = (0..devices).map(|n| format!("d-{n}")).collect();
        let rows: Vec<_> = ids.iter().map(|id| (id.as_str(), settlement, "gtin")).collect();
        let site = Site::new(&rows);
        // The default.
        site.edit_config("max_wait = \"300ms\"", "max_wait = \"1s\"");
        if devices > USUAL_CONNECTIONS {
            site.edit_config("[chain]", &format!("[broker.limits]\nmax_connections = {}\n[chain]", devices + 1_000));
        }
        let mut credentials = String::new();
        for id in &ids {
            writeln!(credentials, "{}", json!({ "id": id, "secret": SECRET })).unwrap();
        }
        fs::write(site.path("credentials"), credentials).unwrap();
        Self { site, settlement: settlement.to_owned(), devices }
    }

    /// Direct and batch devices are registered, funded and have their contracts before the clock starts.
    pub(crate) fn until_devices_are_prepared(&self) {
        let ready = |device: &Value| match self.settlement.as_str() {
            "anchor" => true,
            "batch" => device["registered"] == true,
            _ => device["barcode"] != Value::Null,
        };
        until_patiently("the devices are prepared", || {
            (self.site.rows(&["device", "list"]).iter().filter(|d| ready(d)).count() == self.devices).then_some(())
        });
    }

    pub(crate) fn load(&self, rate: f64, time: Duration) -> Load {
        let mut command = Command::new(scanner());
        command.args(["--broker", &format!("127.0.0.1:{}", self.site.mqtt), "--json", "--protocol", "3"]);
        command.args(["--rate", &rate.to_string(), "--seconds", &time.as_secs().to_string()]);
        command.arg("--credentials").arg(self.site.path("credentials"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        Load { child, cpu: Duration::ZERO }
    }

    pub(crate) fn cpu(&self) -> Duration {
        self.site.gateway.as_ref().unwrap().cpu()
    }

    pub(crate) fn resident_mib(&self) -> f64 {
        self.site.gateway.as_ref().unwrap().resident_kib() as f64 / 1_024.0
    }

    /// What the journal holds: pages of its file, and those that are still in the write-ahead log.
    pub(crate) fn journal_bytes(&self) -> f64 {
        Sqlite::read_only(&self.site.path("data")).unwrap().bytes().unwrap() as f64
    }

    /// The write-ahead log's file, which is used again and again and never shrinks while the gateway runs.
    pub(crate) fn log_mib(&self) -> f64 {
        self.site.log_bytes() as f64 / 1_048_576.0
    }

    pub(crate) fn settled(&self) -> f64 {
        self.site.metric(&format!("windlass_readings_settled_total{{settlement=\"{}\"}}", self.settlement))
    }

    pub(crate) fn unsettled(&self) -> f64 {
        self.site.metric("windlass_unsettled_readings")
    }

    /// Of the newest batch: what it used, and what it was expected to use.
    pub(crate) fn gas_of_the_newest(&self) -> [f64; 2] {
        ["windlass_gas_per_reading", "windlass_gas_per_reading_expected"]
            .map(|name| self.site.metric(&format!("{name}{{settlement=\"{}\"}}", self.settlement)))
    }

    pub(crate) fn gas_per_reading(&self) -> f64 {
        let gas = self.site.metric(&format!("windlass_gas_used_total{{settlement=\"{}\"}}", self.settlement));
        gas / self.settled()
    }

    /// Every reading is final in the journal.
    pub(crate) fn until_all_is_final(&self, count: usize) {
        until_patiently("all is final", || {
            let totals = self.read(async |journal| journal.totals().await.unwrap());
            (totals.accepted == count as u64 && totals.finalized == totals.accepted).then_some(())
        });
    }

    /// Median and 99th percentile of the seconds to mined, and to final.
    pub(crate) fn confirmations(&self) -> ([f64; 2], [f64; 2]) {
        let rows = self.read(async |journal| journal.confirmations(0).await.unwrap());
        let quantiles = |mut all: Vec<u64>| {
            all.sort_unstable();
            [0.5, 0.99].map(|q| all[((all.len() - 1) as f64 * q) as usize] as f64 / 1_000.0)
        };
        let last = rows.iter().filter_map(|(_, last)| *last).collect();
        (quantiles(rows.iter().map(|(mined, _)| *mined).collect()), quantiles(last))
    }

    fn read<T>(&self, ask: impl AsyncFnOnce(&Sqlite) -> T) -> T {
        let journal = Sqlite::read_only(&self.site.path("data")).unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(ask(&journal))
    }
}

/// Longer than any story waits.
pub(crate) fn until_patiently(what: &str, mut done: impl FnMut() -> Option<()>) {
    for _ in 0..20 {
        for _ in 0..120 {
            if done().is_some() {
                return;
            }
            thread::sleep(Duration::from_millis(250));
        }
    }
    until(what, done);
}

impl Summary {
    /// All that was due was sent and acknowledged. Anything else is no figure but a fault.
    pub(crate) fn assert_whole(&self) {
        assert!(self.lost == 0 && self.unsent == 0, "{} readings were lost, {} never sent", self.lost, self.unsent);
    }
}

impl Load {
    /// Waits for the end; `each_second` is called meanwhile.
    pub(crate) fn wait(mut self, mut each_second: impl FnMut()) -> Summary {
        // Read as it comes: a pipe does not hold all of it.
        let stdout = self.child.stdout.take().unwrap();
        let result = thread::spawn(move || std::io::read_to_string(stdout).unwrap());
        while self.child.try_wait().unwrap().is_none() {
            each_second();
            self.cpu = self.cpu.max(cpu(self.child.id()));
            thread::sleep(Duration::from_secs(1));
        }
        let summary: Value = serde_json::from_str(&result.join().unwrap()).unwrap();
        let number = |pointer: &str| {
            summary.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} is not in {summary}"))
        };
        Summary {
            accepted: number("/acknowledged") as usize,
            per_second: number("/acknowledged") / number("/elapsed_seconds"),
            p50_ms: number("/latency/p50_ms"),
            p99_ms: number("/latency/p99_ms"),
            lost: number("/lost") as usize,
            unsent: number("/unsent") as usize,
            cpu: self.cpu,
        }
    }
}
