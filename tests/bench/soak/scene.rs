//! The gateway, its devices, and the scanners that go on and on.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use windlass_journal::{Listing, Sqlite};
use windlass_tests::{Authority, DEEPEST_REORG, SECRET, Site, free_ports, scanner, until};

/// A round of a scanner process; between two of them its devices are away for a moment.
const ROUND: Duration = Duration::from_secs(60);
/// After a fault everything is acknowledged within this time.
const ACK_WAIT: u64 = 90;

/// Scanners that run in one process.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    settlement: &'static str,
    devices: usize,
    /// Part of all readings.
    share: f64,
    tls: bool,
    options: &'static [&'static str],
}

/// Steady ones; ones on TLS that come and go all the time; and the two settlements that cost more.
pub(crate) const GROUPS: [Group; 4] = [
    Group {
        name: "anchor",
        settlement: "anchor",
        devices: 400,
        share: 0.8,
        tls: false,
        options: &["--protocol", "3", "--keep-session"],
    },
    Group {
        name: "churn",
        settlement: "anchor",
        devices: 80,
        share: 0.16,
        tls: true,
        options: &["--faults", "malformed,duplicate,drop,cut", "--pattern", "poisson"],
    },
    Group { name: "batch", settlement: "batch", devices: 18, share: 0.038, tls: false, options: &["--qos", "2"] },
    Group { name: "direct", settlement: "direct", devices: 4, share: 0.002, tls: false, options: &["--keep-session"] },
];

/// One process's result.
pub(crate) struct Round {
    pub(crate) group: &'static str,
    pub(crate) ledger: PathBuf,
    pub(crate) succeeded: bool,
    pub(crate) result: Value,
}

pub(crate) struct Scene {
    pub(crate) site: Site,
    authority: Authority,
    tls: u16,
}

/// What the scanners need to know.
pub(crate) struct Surroundings {
    directory: PathBuf,
    mqtt: u16,
    tls: u16,
}

impl Scene {
    /// Everything runs, and every device is prepared.
    pub(crate) fn new() -> Self {
        let mut ids = Vec::new();
        for group in &GROUPS {
            ids.extend((0..group.devices).map(|n| (format!("{}-{n}", group.name), group.settlement)));
        }
        let rows: Vec<_> = ids.iter().map(|(id, settlement)| (id.as_str(), *settlement, "gtin")).collect();
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(id, settlement, format)| (id, settlement, if settlement == "direct" { "digits" } else { format }))
            .collect();
        let mut site = Site::new(&rows);
        let authority = Authority::new(&site);
        authority.issue(&site, "server");
        let [tls] = free_ports();
        let listener = format!(
            "[[broker.listeners]]\nlisten = \"127.0.0.1:{tls}\"\n\
             tls = {{ certificate = \"server.pem\", key = \"server.key\" }}\n[chain]"
        );
        site.edit_config("[chain]", &listener);
        site.edit_config("confirmations = 2", &format!("confirmations = {}", DEEPEST_REORG + 2));
        site.edit_config("max_wait = \"300ms\"", "max_wait = \"1s\"");
        for group in &GROUPS {
            let lines: Vec<_> = (0..group.devices)
                .map(|n| json!({ "id": format!("{}-{n}", group.name), "secret": SECRET }).to_string())
                .collect();
            fs::write(site.path(group.name), lines.join("\n")).unwrap();
        }
        site.start_node();
        site.deploy();
        site.start();
        site.until_ready();
        until("the devices are prepared", || {
            let ready = |d: &Value| match d["settlement"].as_str() {
                Some("direct") => !d["barcode"].is_null(),
                Some("batch") => d["registered"] == true,
                _ => true,
            };
            site.rows(&["device", "list"]).iter().all(ready).then_some(())
        });
        Self { site, authority, tls }
    }

    pub(crate) fn surroundings(&self) -> Surroundings {
        Surroundings { directory: self.site.path(""), mqtt: self.site.mqtt, tls: self.tls }
    }

    /// A new certificate of the same authority; new connections get it, and nobody loses theirs.
    pub(crate) fn renew_certificate(&self) {
        self.authority.issue(&self.site, "server");
        self.site.hangup();
        let written = CertificateDer::from_pem_file(self.site.path("server.pem")).unwrap();
        until("the new certificate is served", || (self.served() == Some(written.clone())).then_some(()));
    }

    /// The certificate that a new connection gets.
    fn served(&self) -> Option<CertificateDer<'static>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.site.path("ca.pem")).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", self.tls)).ok()?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).ok()?;
        }
        Some(connection.peer_certificates()?.first()?.clone())
    }

    /// How long it took; `None` when it took too long.
    pub(crate) fn until_all_is_final(&self, patience: Duration) -> Option<Duration> {
        let begun = Instant::now();
        let journal = Sqlite::read_only(&self.site.path("data")).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        while begun.elapsed() < patience {
            let totals = runtime.block_on(journal.totals()).unwrap();
            if totals.finalized == totals.accepted {
                return Some(begun.elapsed());
            }
            thread::sleep(Duration::from_millis(500));
        }
        None
    }

    /// All ledgers as one, held against the gateway's API and the node by the load tool.
    pub(crate) fn audit(&self, rounds: &[Round]) -> Value {
        let whole = self.site.path("ledger.jsonl");
        let mut file = fs::File::create(&whole).unwrap();
        for round in rounds {
            file.write_all(&fs::read(&round.ledger).unwrap()).unwrap();
        }
        let output = Command::new(scanner())
            .arg("audit")
            .arg(&whole)
            .args(["--json", "--api", &format!("http://127.0.0.1:{}", self.site.http)])
            .args(["--rpc", &format!("http://127.0.0.1:{}", self.site.rpc)])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| json!({ "problems": [String::from_utf8_lossy(&output.stderr)] }))
    }

    /// What the journal holds: pages of its file, and those that are still in the write-ahead log.
    pub(crate) fn journal_bytes(&self) -> u64 {
        Sqlite::read_only(&self.site.path("data")).unwrap().bytes().unwrap()
    }

    /// That the gateway has seen.
    pub(crate) fn reorgs(&self) -> f64 {
        self.site.metric("windlass_reorgs_total")
    }
}

/// A group's scanners, one process after the other, until `end`.
pub(crate) fn rounds(group: &Group, site: &Surroundings, rate: f64, end: Instant) -> Vec<Round> {
    let mut rounds = Vec::new();
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| left.as_secs() >= 1) {
        let seconds = left.min(ROUND).as_secs().to_string();
        let number = rounds.len() + 1;
        let ledger = site.directory.join(format!("{}-{number}.jsonl", group.name));
        let mut command = Command::new(scanner());
        command.current_dir(&site.directory).args(["--json", "--credentials", group.name, "--seconds", &seconds]);
        command.args(["--rate", &(rate * group.share / group.devices as f64).to_string()]);
        command.args(["--seed", &number.to_string(), "--ack-wait", &ACK_WAIT.to_string()]).arg("--ledger").arg(&ledger);
        match group.tls {
            true => command.args(["--broker", &format!("localhost:{}", site.tls), "--tls", "--ca", "ca.pem"]),
            false => command.args(["--broker", &format!("127.0.0.1:{}", site.mqtt)]),
        };
        let output = command.args(group.options).stderr(Stdio::inherit()).output().unwrap();
        let result = serde_json::from_slice(&output.stdout).unwrap_or_default();
        rounds.push(Round { group: group.name, ledger, succeeded: output.status.success(), result });
    }
    rounds
}

/// Where results go.
pub(crate) fn directory() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("soak");
    fs::create_dir_all(&directory).unwrap();
    directory
}
