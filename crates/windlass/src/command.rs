//! The commands: what each is called, what it takes, and what its exit code says.
#![allow(clippy::print_stdout, reason = "commands speak to a person or a pipe")]

pub(crate) mod archive;
mod archives;
mod backup;
mod check;
mod demo;
mod deploy;
mod device;
mod fsck;
mod init;
mod keys;
mod list;
mod log;
mod operate;
mod proof;
mod run;
mod secret;
mod shell;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use windlass_chain::Order;
use windlass_journal::{Error, Sqlite};
use windlass_telemetry::Format;

use crate::config::{Config, Invalid};

/// All went well.
const OK: u8 = 0;
/// It did not.
const FAILED: u8 = 1;
/// A proof says of itself that it is still pending.
const PENDING: u8 = 2;
/// The command line or the config is wrong (sysexits `EX_USAGE`).
const USAGE: u8 = 64;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, about = "Hauls device readings onto a blockchain: MQTT broker, journal, proofs.")]
#[command(after_help = "Exit codes: 0 done; 1 failed; 2 proof still pending; 64 wrong command line or config.\n\
    Logs go to standard error; RUST_LOG sets the filter (for example RUST_LOG=windlass=debug).")]
pub struct Arguments {
    /// How logs are written.
    #[arg(long, global = true, value_enum, default_value = "human")]
    log: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show it all at once: a node, contracts, the broker, scanners; ends with a verified proof.
    Demo(demo::Options),
    /// Write a first config that works, with its keys and one device.
    Init(init::Init),
    /// Run the gateway until SIGTERM or Ctrl-C.
    Run(WithConfig),
    /// Check a config: every problem at once, then whether node, contract and keys fit. Exit 64 when not.
    Check(WithConfig),
    /// Deploy the Windlass contract from the first submitter and note its address in the data directory.
    Deploy(WithConfig),
    /// List readings, oldest first.
    Readings(list::Readings),
    /// Devices.
    #[command(subcommand)]
    Device(device::Device),
    /// The mnemonic behind the keys that the gateway holds for devices.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Inputs that were refused and kept.
    #[command(subcommand)]
    Quarantine(list::Quarantine),
    /// Make a token for the HTTP API and the web page.
    Token(secret::Token),
    /// List batches, oldest first.
    Batches(list::Rows),
    /// List the accounts' transactions, oldest first.
    Attempts(list::Rows),
    /// List the accounts: nonces, what is open, balance, and why one does not move.
    Lanes(list::Rows),
    /// List what operators had done, oldest first.
    Acts(list::Rows),
    /// Send the newest attempt of a transaction once more.
    Resend(operate::OfTransaction),
    /// Replace a transaction at a higher fee.
    Bump(operate::OfTransaction),
    /// Replace a transaction by one that does nothing; its readings go to another one.
    Cancel(operate::OfTransaction),
    /// Start nothing new from an account, or from any submitter. Outlives a restart.
    Pause(operate::OfAccount),
    /// End a pause, or a drain.
    Resume(operate::OfAccount),
    /// Start nothing new and wait until nothing is open: before a clean hand-over.
    Drain(operate::Drain),
    /// Recompute the journal's sequences, roots, heads and states, and compare them with a chain. Exit 1 on a fault.
    Fsck(fsck::Fsck),
    /// Move batches that have long been final into a file of their own, from which they can still be proved.
    Archive(archive::Archive),
    /// The append-only log: export it, check it, prove that it only grew.
    #[command(subcommand)]
    Log(log::Log),
    /// Copy the journal, whole and checked, beside a running gateway.
    Backup(backup::Backup),
    /// Write the proof of one reading.
    Prove(proof::Prove),
    /// Verify a proof file: offline, against a block hash that you trust, or against a node.
    Verify(proof::Verify),
    /// Print what makes a shell complete these commands.
    Completions(shell::Completions),
    /// Write manual pages.
    Man(shell::Man),
}

/// A command that takes only the config.
#[derive(Debug, Args)]
pub struct WithConfig {
    /// The config file.
    #[arg(long, value_name = "FILE", default_value = "windlass.toml")]
    config: PathBuf,
}

/// Which journal a command reads.
#[derive(Debug, Args)]
pub struct WithJournal {
    #[command(flatten)]
    config: WithConfig,
    /// A backup or an archive, in place of the journal in the data directory.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
}

impl WithJournal {
    fn load(&self) -> Result<Config, Invalid> {
        self.config.load()
    }

    /// Opens it for reading. One that an older version left behind is read through a copy that is brought up to date.
    fn open(&self) -> anyhow::Result<Journal> {
        let Some(file) = &self.journal else {
            let directory = self.load()?.data_dir();
            let opened = Sqlite::read_only(&directory);
            return Ok(Journal { sqlite: opened.with_context(|| no_journal(&directory))?, _copy: None });
        };
        Journal::of_file(file)
    }
}

fn no_journal(directory: &std::path::Path) -> String {
    format!("no journal in {}: has `windlass run` ever started there?", directory.display())
}

/// An open journal, with the copy that it may be.
struct Journal {
    sqlite: Sqlite,
    _copy: Option<tempfile::NamedTempFile>,
}

impl Journal {
    /// A backup or an archive, for reading.
    fn of_file(file: &std::path::Path) -> anyhow::Result<Self> {
        match Sqlite::read_only_file(file) {
            Err(Error::Newer { found, known }) if found < known => {
                let copy = tempfile::NamedTempFile::new()?;
                std::fs::copy(file, copy.path())?;
                Sqlite::bring_up_to_date(copy.path())?;
                Ok(Self { sqlite: Sqlite::read_only_file(copy.path())?, _copy: Some(copy) })
            }
            opened => Ok(Self { sqlite: opened.with_context(|| file.display().to_string())?, _copy: None }),
        }
    }
}

impl std::ops::Deref for Journal {
    type Target = Sqlite;

    fn deref(&self) -> &Sqlite {
        &self.sqlite
    }
}

impl WithConfig {
    fn load(&self) -> Result<Config, Invalid> {
        Config::load(&self.config)
    }

    fn file(&self) -> &std::path::Path {
        &self.config
    }
}

/// Runs the command and says by exit code how it went.
pub fn main(arguments: &Arguments) -> ExitCode {
    let format = match arguments.log {
        LogFormat::Human => Format::Human,
        LogFormat::Json => Format::Json,
    };
    let filter = match arguments.command {
        // rumqttd tells of each link, and the canary opens one every second.
        Command::Run(_) => "info,actix_server=warn,rumqttd=warn",
        _ => "warn",
    };
    if let Err(error) = windlass_telemetry::init_tracing(format, filter) {
        eprintln!("windlass: {error}");
        return ExitCode::from(USAGE);
    }
    let outcome = match &arguments.command {
        Command::Demo(options) => demo::run(options),
        Command::Init(options) => options.run(),
        Command::Token(options) => options.run(),
        Command::Completions(options) => options.run(),
        Command::Man(options) => options.run(),
        Command::Run(options) => run::run(options),
        Command::Check(options) => check::run(options),
        Command::Deploy(options) => deploy::run(options),
        Command::Readings(options) => options.run(),
        Command::Device(options) => options.run(),
        Command::Keys(options) => options.run(),
        Command::Quarantine(options) => options.run(),
        Command::Batches(options) => options.batches(),
        Command::Attempts(options) => options.transactions(),
        Command::Lanes(options) => operate::lanes(options),
        Command::Acts(options) => operate::acts(options),
        Command::Resend(options) => options.run(Order::Resend),
        Command::Bump(options) => options.run(Order::Bump),
        Command::Cancel(options) => options.run(Order::Cancel),
        Command::Pause(options) => options.run(Order::Pause),
        Command::Resume(options) => options.run(Order::Resume),
        Command::Drain(options) => options.run(),
        Command::Fsck(options) => options.run(),
        Command::Archive(options) => options.run(),
        Command::Log(options) => options.run(),
        Command::Backup(options) => options.run(),
        Command::Prove(options) => options.run(),
        Command::Verify(options) => options.run(),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.is::<Invalid>() => {
            eprint!("windlass: {error}");
            ExitCode::from(USAGE)
        }
        Err(error) => {
            eprintln!("windlass: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Runs an async command on a small runtime of its own.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

/// Prints a line; a closed pipe ends the command quietly instead of with a panic.
fn line(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(i32::from(OK)),
        other => Ok(other?),
    }
}
