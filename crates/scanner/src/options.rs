//! The command line.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};
use windlass_reading::DeviceId;
use windlass_scanner::{Codes, Fault, Load, Pattern, Protocol, Qos, Scanner};

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
its link once, half way).

Exit codes: 0 readings were made, all that fell due were sent and every well-formed one acknowledged (at QoS 0:
sent); 1 some were refused, lost or never sent, or there were none; 64 the command line or the credentials file is wrong."
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
    /// QoS of the publishes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// MQTT version: 3 is 3.1.1
    #[arg(long, default_value = "5", value_parser = ["3", "5"])]
    protocol: String,
    /// Device ids are this and a number from 1, when there is no credentials file
    #[arg(long, default_value = "scanner-", value_name = "TEXT")]
    id_prefix: String,
    /// Device ids and secrets: a line is "id secret", or {"id":"…","secret":"…","topic":"…"}
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
    /// Ask the broker to keep sessions over a lost link (always so with the faults duplicate and drop)
    #[arg(long)]
    keep_session: bool,
    /// Connect for each reading, publish it and disconnect, as firmware does that sleeps in between
    #[arg(long)]
    one_per_connection: bool,
    /// Troubles to make: malformed, duplicate, drop
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    faults: Vec<Fault>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What else it does than running a load.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
        "qos": match load.qos { Qos::AtMostOnce => 0, Qos::AtLeastOnce => 1 },
        "protocol": match load.protocol { Protocol::V311 => "3.1.1", Protocol::V5 => "5" },
        "in_flight": load.in_flight,
        "keep_session": load.keep_session,
        "one_per_connection": load.one_per_connection,
        "faults": load.faults.iter().map(|fault| fault.as_str()).collect::<Vec<_>>(),
        "seed": load.seed,
    })
}

/// One line of the credentials file in its JSON form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    id: DeviceId,
    secret: Option<String>,
    topic: Option<String>,
}

impl Options {
    /// The load that the options ask for.
    pub(crate) fn load(&self) -> Result<Load> {
        let scanners = match &self.credentials {
            Some(path) => {
                let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                let known = credentials(&text).with_context(|| format!("in {}", path.display()))?;
                first(known, self.devices)?
            }
            None => numbered(&self.id_prefix, self.devices.unwrap_or(10))?,
        };
        let load = Load {
            rate_hz: self.rate,
            pattern: self.pattern,
            codes: self.codes,
            duration: seconds("--seconds", self.seconds)?,
            ack_wait: seconds("--ack-wait", self.ack_wait)?,
            qos: if self.qos == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce },
            protocol: if self.protocol == "3" { Protocol::V311 } else { Protocol::V5 },
            seed: self.seed,
            in_flight: self.in_flight,
            keep_session: self.keep_session,
            one_per_connection: self.one_per_connection,
            ledger: false,
            faults: self.faults.clone(),
            ..Load::new(self.broker.clone(), scanners)
        };
        let problems = load.validate();
        if !problems.is_empty() {
            bail!("{}", problems.join("; "));
        }
        Ok(load)
    }
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

fn first(mut known: Vec<Scanner>, devices: Option<usize>) -> Result<Vec<Scanner>> {
    if let Some(devices) = devices {
        if known.len() < devices {
            bail!("--devices {devices}, but the credentials file has {}", known.len());
        }
        known.truncate(devices);
    }
    Ok(known)
}

/// Reads the credentials file; errors name the line and never its secret.
fn credentials(text: &str) -> Result<Vec<Scanner>> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| credential(line).with_context(|| format!("line {number}")))
        .collect()
}

fn credential(line: &str) -> Result<Scanner> {
    if line.starts_with('{') {
        let Ok(Credential { id, secret, topic }) = serde_json::from_str(line) else {
            bail!("not an object with id, secret and topic");
        };
        return Ok(Scanner { id, secret, topic });
    }
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(id), secret, None) => {
            Ok(Scanner { id: DeviceId::new(id)?, secret: secret.map(str::to_owned), topic: None })
        }
        _ => bail!("more than an id and a secret; a secret with spaces needs the JSON form"),
    }
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
            "--qos 2",
            "--protocol 4",
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
        assert!(told.contains("known: malformed, duplicate, drop"), "{told}");
    }

    #[test]
    fn credentials_are_lines_or_json_lines() {
        let text = "# fleet\n\ndock-1 s3cret\n{\"id\":\"dock-2\",\"secret\":\"x\",\"topic\":\"dock-2\"}\ndock-3\n";
        let scanners = credentials(text).unwrap();
        let seen: Vec<_> = scanners.iter().map(|s| (s.id.as_str(), s.secret.as_deref(), s.topic.as_deref())).collect();
        assert_eq!(
            seen,
            [("dock-1", Some("s3cret"), None), ("dock-2", Some("x"), Some("dock-2")), ("dock-3", None, None)]
        );
        assert_eq!(first(scanners.clone(), Some(2)).unwrap().len(), 2);
        assert!(first(scanners, Some(4)).is_err());
    }

    #[test]
    fn a_wrong_credential_is_told_by_line_and_without_its_secret() {
        for bad in ["ok s\na/b hunter2", "ok s\n{\"id\":\"b\",\"pass\":\"hunter2\"}", "ok s\nb hunter2 more"] {
            let told = format!("{:#}", credentials(bad).unwrap_err());
            assert!(told.contains("line 2") && !told.contains("hunter2"), "{told}");
        }
    }
}
