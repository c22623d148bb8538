//! The command line.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use alloy::primitives::Address;
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use serde_json::{Value, json};
use windlass_reading::{DeviceId, Domain};
use windlass_scanner::{Codes, Fault, Hostile, Load, Pattern, Protocol, Qos, Scanner, tls};

use crate::{
    audit::Witnesses,
    credentials::{self, Surroundings},
};

/// Longest run, so that a mistyped number is told instead of waited for: a week.
const MAX_SECONDS: f64 = 7.0 * 86_400.0;

/// Load-tests an MQTT broker with simulated barcode scanners.
#[derive(Debug, Parser)]
#[command(
    name = "windlass-scanner",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Every scanner has its own connection, publishes valid codes to devices/{id}/readings and times each
acknowledgement. All connect first, then the clock starts.

Faults: malformed (every tenth reading is letters), duplicate (after every tenth reading the link is dropped
and the publish goes out again, with the DUP flag when the broker kept the session), drop (each scanner drops
its link once, half way), cut (before every tenth reading the link is dropped in the middle of its publish).

Hostile clients, beside the scanners: never-read (publishes, reads no answer), slowloris (a CONNECT of a byte each
second), wrong-secret (over and over), flood (publishes as fast as it is let). All but slowloris take their ids from the
end of the credentials file.

Examples:
  windlass-scanner --broker 127.0.0.1:1883 --credentials scanners.txt --rate 10 --seconds 30
  windlass-scanner --credentials scanners.txt --qos 2 --faults duplicate,cut --hostile slowloris=20,flood=1 \
    --ledger run.jsonl --api http://127.0.0.1:9477 --rpc http://127.0.0.1:8545
  windlass-scanner --broker gateway.example:8883 --tls --ca ca.pem --credentials scanners.txt

Exit codes: 0 readings were made, all that fell due were sent and every well-formed one acknowledged (at QoS 0:
sent), and the audit, where one was asked for, is clean; 1 some were refused, lost or never sent, there were none,
ledger, gateway and chain do not agree, or one of them could not be asked; 2 all was well, but nothing was
acknowledged that an audit could look for; 64 the command line, a file it names or a limit of this machine is wrong;
130 interrupted twice."
)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Broker address, host:port
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "HOST:PORT")]
    broker: String,
    /// Number of scanners [default: all in the credentials file, else 10]
    #[arg(long, value_name = "N")]
    devices: Option<usize>,
    /// Readings per second of each scanner, in the mean
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    rate: f64,
    /// How they arrive: steady, poisson, shift (busy at both ends of the run) or burst (one second in ten)
    #[arg(long, default_value = "steady", value_name = "PATTERN")]
    pattern: Pattern,
    /// What is read: ean13, gtin14, code128 (labels) or gs1 (element strings)
    #[arg(long, default_value = "ean13", value_name = "KIND")]
    codes: Codes,
    /// How long readings are made, in seconds
    #[arg(long, default_value_t = 30.0, value_name = "S")]
    seconds: f64,
    /// Connect by TLS
    #[arg(long)]
    tls: bool,
    /// Authorities to trust (PEM) in place of this machine's
    #[arg(long, requires = "tls", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Client certificate of all scanners that have none of their own (PEM)
    #[arg(long, requires = "tls", requires = "key", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, requires = "cert", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Chain that scanners with a signing key sign for
    #[arg(long, requires = "contract", value_name = "N")]
    chain_id: Option<u64>,
    /// Contract that they sign for; an audit looks at it too, in place of the one that the gateway names
    #[arg(long, value_name = "ADDRESS")]
    contract: Option<Address>,
    /// QoS of the publishes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// MQTT version: 3 is 3.1.1
    #[arg(long, default_value = "5", value_parser = ["3", "5"])]
    protocol: String,
    /// Device ids are this and a number from 1, when there is no credentials file
    #[arg(long, default_value = "scanner-", value_name = "TEXT")]
    id_prefix: String,
    /// Who they are: a line is "id secret", or {"id":"…","secret":"…"} and what else the documentation lists
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Unacknowledged publishes that a scanner may have open
    #[arg(long, default_value_t = 20, value_name = "N")]
    in_flight: u16,
    /// Seconds to wait at the end for acknowledgements
    #[arg(long, default_value_t = 15.0, value_name = "S")]
    ack_wait: f64,
    /// Two runs with the same seed read the same codes
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Ask the broker to keep sessions over a lost link (always so with the faults duplicate, drop and cut)
    #[arg(long)]
    keep_session: bool,
    /// Connect for each reading, publish it and disconnect, as firmware does that sleeps in between
    #[arg(long)]
    one_per_connection: bool,
    /// Troubles to make: malformed, duplicate, drop, cut
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    faults: Vec<Fault>,
    /// Hostile clients beside them: never-read, slowloris, wrong-secret, flood, each as NAME=HOW MANY
    #[arg(long, value_delimiter = ',', value_name = "LIST", value_parser = hostile)]
    hostile: Vec<(Hostile, usize)>,
    /// Write what was acknowledged: a JSON object in each line
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
    /// Audit it at the end against the gateway at this address, such as http://127.0.0.1:9477
    #[arg(long, value_name = "URL")]
    api: Option<String>,
    #[command(flatten)]
    asking: Asking,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// How an audit asks.
#[derive(Debug, Args)]
pub(crate) struct Asking {
    /// An API token of the gateway
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A node's JSON-RPC, so that the chain itself is asked
    #[arg(long, value_name = "URL")]
    rpc: Option<String>,
    /// Seconds to wait until all is final
    #[arg(long, default_value_t = 120.0, value_name = "S")]
    final_wait: f64,
}

impl Asking {
    /// Whom an audit at `api` asks.
    pub(crate) fn witnesses(&self, api: &str, contract: Option<Address>) -> Result<Witnesses> {
        let token = match &self.token_file {
            None => None,
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                Some(text.trim().to_owned())
            }
        };
        let wait = seconds("--final-wait", self.final_wait)?;
        Ok(Witnesses { api: api.to_owned(), token, rpc: self.rpc.clone(), contract, wait })
    }
}

/// What else it does than running a load.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hold a ledger against what the gateway tells and what the chain holds
    #[command(
        after_help = "Example: windlass-scanner audit run.jsonl --api http://127.0.0.1:9477 --rpc http://127.0.0.1:8545"
    )]
    Audit {
        /// A file that --ledger wrote
        ledger: PathBuf,
        /// The gateway's HTTP address
        #[arg(long, default_value = "http://127.0.0.1:9477", value_name = "URL")]
        api: String,
        /// In place of the contract that the gateway names
        #[arg(long, value_name = "ADDRESS")]
        contract: Option<Address>,
        #[command(flatten)]
        asking: Asking,
        /// Print the result as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Put two results of --json beside each other
    #[command(after_help = "Example: windlass-scanner compare before.json after.json")]
    Compare {
        /// The earlier result
        before: PathBuf,
        /// The later one
        after: PathBuf,
        /// Print the comparison as one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// What was asked for, as it stands in the result.
pub(crate) fn told(load: &Load) -> Value {
    json!({
        "broker": load.broker,
        "scanners": load.scanners.len(),
        "rate": load.rate_hz,
        "pattern": load.pattern.as_str(),
        "codes": load.codes.as_str(),
        "seconds": load.duration.as_secs_f64(),
        "tls": load.tls.is_some(),
        "signing": load.scanners.iter().filter(|scanner| scanner.signer.is_some()).count(),
        "qos": match load.qos { Qos::AtMostOnce => 0, Qos::AtLeastOnce => 1, Qos::ExactlyOnce => 2 },
        "protocol": match load.protocol { Protocol::V311 => "3.1.1", Protocol::V5 => "5" },
        "in_flight": load.in_flight,
        "keep_session": load.keep_session,
        "one_per_connection": load.one_per_connection,
        "faults": load.faults.iter().map(|fault| fault.as_str()).collect::<Vec<_>>(),
        "hostile": load.hostile.iter().fold(BTreeMap::<_, u64>::new(), |mut counts, (kind, _)| {
            *counts.entry(kind.as_str()).or_default() += 1;
            counts
        }),
        "seed": load.seed,
    })
}

impl Options {
    /// The load that the options ask for.
    pub(crate) fn load(&self) -> Result<Load> {
        let surroundings = self.surroundings()?;
        let mut known = match &self.credentials {
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                credentials::read(&text, &surroundings).with_context(|| format!("in {}", path.display()))?
            }
            None => numbered(&self.id_prefix, self.devices.unwrap_or(10))?,
        };
        let hostile = self.enemies(&mut known)?;
        if let Some(devices) = self.devices {
            ensure!(known.len() >= devices, "--devices {devices}, but the credentials file has {}", known.len());
            known.truncate(devices);
        }
        let load = Load {
            rate_hz: self.rate,
            pattern: self.pattern,
            codes: self.codes,
            duration: seconds("--seconds", self.seconds)?,
            ack_wait: seconds("--ack-wait", self.ack_wait)?,
            tls: surroundings.tls,
            qos: match self.qos {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            },
            protocol: if self.protocol == "3" { Protocol::V311 } else { Protocol::V5 },
            seed: self.seed,
            in_flight: self.in_flight,
            keep_session: self.keep_session,
            one_per_connection: self.one_per_connection,
            ledger: self.ledger.is_some() || self.api.is_some(),
            faults: self.faults.clone(),
            hostile,
            ..Load::new(self.broker.clone(), known)
        };
        let problems = load.validate();
        if !problems.is_empty() {
            bail!("{}", problems.join("; "));
        }
        Ok(load)
    }

    /// Whom the audit at the end asks, where one is asked for.
    pub(crate) fn witnesses(&self) -> Result<Option<Witnesses>> {
        match &self.api {
            Some(api) => self.asking.witnesses(api, self.contract).map(Some),
            None if self.asking.rpc.is_some() => bail!("--rpc is for an audit, which needs --api as well"),
            None => Ok(None),
        }
    }

    /// What the lines of the credentials file refer to.
    fn surroundings(&self) -> Result<Surroundings> {
        let roots = if self.tls { Some(tls::roots(self.ca.as_deref())?) } else { None };
        let identity = self.cert.as_deref().zip(self.key.as_deref());
        let tls = roots.as_ref().map(|roots| tls::client(roots, identity)).transpose()?;
        let domain = self.chain_id.zip(self.contract).map(|(chain, contract)| Arc::new(Domain::new(chain, contract)));
        Ok(Surroundings { roots, tls, domain })
    }

    /// The hostile clients. Those that come as known devices take the last of the scanners, where these have secrets.
    fn enemies(&self, known: &mut Vec<Scanner>) -> Result<Vec<(Hostile, Scanner)>> {
        let mut enemies = Vec::new();
        let kinds = self.hostile.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count));
        for (kind, number) in kinds.zip(1..) {
            let own = match &self.credentials {
                Some(_) if kind.is_known() => {
                    Some(known.pop().with_context(|| format!("--hostile {}: no credentials left", kind.as_str()))?)
                }
                _ => None,
            };
            let scanner = match own {
                Some(scanner) => scanner,
                None => Scanner::new(DeviceId::new(&format!("{}hostile-{number}", self.id_prefix))?),
            };
            enemies.push((kind, scanner));
        }
        Ok(enemies)
    }
}

/// `NAME=HOW MANY`, or one with the name alone.
fn hostile(text: &str) -> Result<(Hostile, usize)> {
    let (name, count) = text.split_once('=').unwrap_or((text, "1"));
    let count = count.parse().with_context(|| format!("{count:?} is no number of hostile clients"))?;
    Ok((name.parse()?, count))
}

fn seconds(option: &str, value: f64) -> Result<Duration> {
    if !(0.0..=MAX_SECONDS).contains(&value) {
        bail!("{option} {value} is not between 0 and {MAX_SECONDS}");
    }
    Ok(Duration::from_secs_f64(value))
}

fn numbered(prefix: &str, devices: usize) -> Result<Vec<Scanner>> {
    (1..=devices).map(|n| Ok(Scanner::new(DeviceId::new(&format!("{prefix}{n}"))?))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &str) -> Result<Load> {
        Options::try_parse_from(["windlass-scanner"].into_iter().chain(arguments.split_whitespace()))?.load()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
    }

    #[test]
    fn options_become_a_load() {
        let load = parse(
            "--broker [::1]:1884 --devices 3 --rate 2.5 --seconds 4 --qos 0 --protocol 3 \
             --id-prefix dock- --faults malformed,drop --seed 9 --pattern shift --codes gs1 --json",
        )
        .unwrap();
        let ids: Vec<_> = load.scanners.iter().map(|s| s.id.as_str()).collect();
        assert_eq!(ids, ["dock-1", "dock-2", "dock-3"]);
        assert_eq!((load.qos, load.protocol, load.seed), (Qos::AtMostOnce, Protocol::V311, 9));
        assert_eq!(load.duration, Duration::from_secs(4));
        assert_eq!((load.pattern, load.codes), (Pattern::Shift, Codes::Gs1));
        assert_eq!(load.faults, [Fault::Malformed, Fault::Drop]);
    }

    #[test]
    fn what_cannot_run_is_refused() {
        for bad in [
            "--faults explode",
            "--faults malformed,,drop",
            "--qos 3",
            "--protocol 4",
            "--hostile flood=many",
            "--hostile nice=1",
            "--ca /does/not/exist",
            "--tls --ca /does/not/exist",
            "--tls --cert only.pem",
            "--chain-id 1",
            "--contract 0x12",
            "--pattern sometimes",
            "--codes qr",
            "--rate 0",
            "--seconds -1",
            "--seconds 1e300",
            "--broker nowhere",
            "--devices 0",
            "--id-prefix a/b",
            "--credentials /does/not/exist",
            "--qos 0 --faults duplicate",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let told = format!("{:#}", parse("--faults explode").unwrap_err());
        assert!(told.contains("known: malformed, duplicate, drop, cut"), "{told}");
    }

    #[test]
    fn hostile_clients_that_must_be_let_in_take_credentials_of_their_own() {
        let path = std::env::temp_dir().join(format!("windlass-hostile-{}", std::process::id()));
        fs::write(&path, "a s\nb s\nc s\n").unwrap();
        let run = |more: &str| parse(&format!("--credentials {} {more}", path.display()));
        let load = run("--hostile wrong-secret,slowloris=2").unwrap();
        let ids = |scanners: Vec<&Scanner>| scanners.into_iter().map(|s| s.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(load.scanners.iter().collect()), ["a", "b"]);
        let enemies = load.hostile.iter().map(|(_, scanner)| scanner).collect();
        assert_eq!(ids(enemies), ["c", "scanner-hostile-2", "scanner-hostile-3"]);
        assert!(run("--hostile flood=4").is_err());
        assert!(run("--devices 3 --hostile never-read").is_err());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_audit_is_asked_for_by_the_gateways_address() {
        let options = |text: &str| Options::try_parse_from(["windlass-scanner"].into_iter().chain(text.split(' ')));
        assert!(options("--devices 1").unwrap().witnesses().unwrap().is_none());
        assert!(options("--rpc http://node").unwrap().witnesses().is_err());
        let asked =
            options("--api http://gateway --rpc http://node --final-wait 5").unwrap().witnesses().unwrap().unwrap();
        assert_eq!(
            (asked.api.as_str(), asked.rpc.as_deref(), asked.wait.as_secs()),
            ("http://gateway", Some("http://node"), 5)
        );
        assert!(options("--api http://gateway --token-file /does/not/exist").unwrap().witnesses().is_err());
    }
}
