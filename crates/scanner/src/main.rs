//! `windlass-scanner`: a load test with simulated barcode scanners.
#![allow(clippy::print_stdout, reason = "a command's result belongs on standard output")]

mod audit;
mod compare;
mod credentials;
mod limits;
mod options;
mod screen;

use std::{
    io::{IsTerminal, stderr},
    process,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Result, bail};
use clap::Parser;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;
use windlass_scanner::{Entry, Load, Progress, Report, run};

use crate::{
    audit::{Audit, Verdict, Witnesses, Writer},
    options::{Command, Options},
};

/// Exit codes, as in the help text. 64 is `EX_USAGE` of sysexits.h, 130 a shell's for SIGINT.
const NOT_ALL_ACKNOWLEDGED: u8 = 1;
const NOTHING_TO_AUDIT: u8 = 2;
const USAGE: u8 = 64;
const INTERRUPTED: i32 = 130;

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    load: Value,
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<Value>,
    /// Why there is no audit though one was asked for, or no ledger.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

fn main() -> ExitCode {
    // For HTTPS; MQTT names its provider itself. It fails only when there is one already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("windlass_scanner=warn"));
    let terminal = stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(terminal).without_time().init();
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            // Help and version are answers, not mistakes.
            let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            return if error.print().is_ok() { code } else { ExitCode::from(USAGE) };
        }
    };
    let done = match &options.command {
        Some(Command::Compare { before, after, json }) => compare::compare(before, after, *json).map(|text| {
            print!("{text}");
            ExitCode::SUCCESS
        }),
        Some(Command::Audit { ledger, api, contract, asking, json }) => audit::read_ledger(ledger)
            .and_then(|entries| Ok((entries, asking.witnesses(api, *contract)?)))
            .map(|(entries, witnesses)| audit_alone(&entries, &witnesses, *json)),
        None => Run::prepare(&options).map(|run| drive(&options, run)),
    };
    done.unwrap_or_else(|problem| {
        tell(&problem);
        ExitCode::from(USAGE)
    })
}

fn tell(problem: &anyhow::Error) {
    eprintln!("windlass-scanner: {problem:#}");
}

fn code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Clean => ExitCode::SUCCESS,
        Verdict::Disagree => ExitCode::from(NOT_ALL_ACKNOWLEDGED),
        Verdict::NothingToAudit => ExitCode::from(NOTHING_TO_AUDIT),
    }
}

/// An audit of a ledger that an earlier run wrote.
#[tokio::main(flavor = "current_thread")]
async fn audit_alone(entries: &[Entry], witnesses: &Witnesses, json: bool) -> ExitCode {
    match audit::audit(entries, witnesses).await {
        Ok(audit) => {
            let text = if json { format!("{}\n", audit.as_json()) } else { audit.summary() };
            print!("{text}");
            code(audit.verdict())
        }
        Err(problem) => {
            tell(&problem);
            ExitCode::from(NOT_ALL_ACKNOWLEDGED)
        }
    }
}

/// What a run needs: all of it is there before anything is connected.
struct Run {
    load: Load,
    witnesses: Option<Witnesses>,
    ledger: Option<Writer>,
}

impl Run {
    fn prepare(options: &Options) -> Result<Self> {
        let (load, witnesses) = (options.load()?, options.witnesses()?);
        limits::allow(load.scanners.len() + load.hostile.len())?;
        let ledger = options.ledger.as_deref().map(Writer::create).transpose()?;
        Ok(Self { load, witnesses, ledger })
    }
}

#[tokio::main]
async fn drive(options: &Options, asked: Run) -> ExitCode {
    let Run { load, witnesses, ledger } = asked;
    let progress = Arc::new(Progress::new());
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(interrupts(stop));
    let asked = options::told(&load);
    let live = tokio::spawn(screen::live(Arc::clone(&progress), load.scanners.len()));
    let result = run(load, Arc::clone(&progress), stopped.clone()).await;
    live.abort();
    let report = match result {
        Ok(report) => report,
        Err(problem) => {
            eprintln!("windlass-scanner: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    if !options.json {
        print!("{}", screen::summary(&report, &progress));
    }
    let written = ledger.map_or(Ok(()), |file| file.write(&report.ledger));
    let audited = match &witnesses {
        Some(witnesses) => audit_unless(stopped, &report.ledger, witnesses).await.map(Some),
        None => Ok(None),
    };
    let (audit, problems) = match audited {
        Ok(audit) => (audit, written.err().into_iter().collect()),
        Err(problem) => (None, written.err().into_iter().chain([problem]).collect::<Vec<_>>()),
    };
    if options.json {
        let errors = problems.iter().map(|problem| format!("{problem:#}")).collect();
        let outcome = Outcome { load: asked, report: &report, audit: audit.as_ref().map(Audit::as_json), errors };
        match serde_json::to_string(&outcome) {
            Ok(json) => println!("{json}"),
            Err(error) => eprintln!("windlass-scanner: {error}"),
        }
    } else if let Some(audit) = &audit {
        print!("\n{}", audit.summary());
    }
    problems.iter().for_each(tell);
    if !problems.is_empty() || !report.all_acknowledged() {
        return ExitCode::from(NOT_ALL_ACKNOWLEDGED);
    }
    audit.map_or(ExitCode::SUCCESS, |audit| code(audit.verdict()))
}

/// The first interrupt ends the run in order, or the audit; a second one ends everything at once.
async fn interrupts(stop: watch::Sender<bool>) {
    let Ok(mut interrupts) = signal(SignalKind::interrupt()) else {
        // A dropped sender would stop the run.
        return stop.closed().await;
    };
    interrupts.recv().await;
    stop.send_replace(true);
    eprintln!("windlass-scanner: interrupted; once more ends it at once");
    interrupts.recv().await;
    process::exit(INTERRUPTED);
}

/// The audit, given up at the interrupt unless that came before and has ended the run.
async fn audit_unless(mut stopped: watch::Receiver<bool>, ledger: &[Entry], witnesses: &Witnesses) -> Result<Audit> {
    if *stopped.borrow() {
        return audit::audit(ledger, witnesses).await;
    }
    tokio::select! {
        result = audit::audit(ledger, witnesses) => result,
        Ok(_) = stopped.wait_for(|stopped| *stopped) => bail!("the audit was interrupted"),
    }
}
