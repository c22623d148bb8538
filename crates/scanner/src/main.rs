//! `windlass-scanner`: a load test with simulated barcode scanners.
#![allow(clippy::print_stdout, reason = "a command's result belongs on standard output")]

mod audit;
mod compare;
mod credentials;
mod options;
mod screen;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use tokio::sync::watch;
use windlass_scanner::{Load, Progress, Report, run};

use crate::{
    audit::{Audit, Witnesses},
    options::{Command, Options},
};

/// Exit codes, as in the help text. 64 is `EX_USAGE` of sysexits.h.
const NOT_ALL_ACKNOWLEDGED: u8 = 1;
const USAGE: u8 = 64;

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    load: serde_json::Value,
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<&'a Audit>,
}

fn main() -> ExitCode {
    // For HTTPS; MQTT names its provider itself. It fails only when there is one already.
    drop(rustls::crypto::ring::default_provider().install_default());
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
            .and_then(|(entries, witnesses)| audit_alone(&entries, &witnesses, *json)),
        None => options
            .load()
            .and_then(|load| Ok((load, options.witnesses()?)))
            .map(|(load, witnesses)| drive(&options, load, witnesses.as_ref())),
    };
    done.unwrap_or_else(|problem| {
        eprintln!("windlass-scanner: {problem:#}");
        ExitCode::from(USAGE)
    })
}

/// An audit of a ledger that an earlier run wrote.
#[tokio::main(flavor = "current_thread")]
async fn audit_alone(entries: &[windlass_scanner::Entry], witnesses: &Witnesses, json: bool) -> Result<ExitCode> {
    let audit = audit::audit(entries, witnesses).await?;
    if json {
        println!("{}", serde_json::to_string(&audit)?);
    } else {
        print!("{}", audit.summary());
    }
    Ok(if audit.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALL_ACKNOWLEDGED) })
}

#[tokio::main]
async fn drive(options: &Options, load: Load, witnesses: Option<&Witnesses>) -> ExitCode {
    let progress = Arc::new(Progress::new());
    let (stop, stopped) = watch::channel(false);
    let interrupt = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.send_replace(true);
        }
        // A dropped sender would stop the run.
        stop.closed().await;
    });
    let asked = options::told(&load);
    let live = tokio::spawn(screen::live(Arc::clone(&progress), load.scanners.len()));
    let result = run(load, Arc::clone(&progress), stopped).await;
    live.abort();
    interrupt.abort();
    screen::clear_live();
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
    match conclude(options, &report, witnesses).await {
        Ok(audit) => {
            if options.json {
                match serde_json::to_string(&Outcome { load: asked, report: &report, audit: audit.as_ref() }) {
                    Ok(json) => println!("{json}"),
                    Err(error) => eprintln!("windlass-scanner: {error}"),
                }
            } else if let Some(audit) = &audit {
                print!("\n{}", audit.summary());
            }
            let clean = report.all_acknowledged() && audit.is_none_or(|audit| audit.is_clean());
            if clean { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALL_ACKNOWLEDGED) }
        }
        Err(problem) => {
            eprintln!("windlass-scanner: {problem:#}");
            ExitCode::from(NOT_ALL_ACKNOWLEDGED)
        }
    }
}

/// Writes the ledger and audits it, as far as that is asked for.
async fn conclude(options: &Options, report: &Report, witnesses: Option<&Witnesses>) -> Result<Option<Audit>> {
    if let Some(path) = &options.ledger {
        audit::write_ledger(path, &report.ledger)?;
    }
    match witnesses {
        Some(witnesses) => audit::audit(&report.ledger, witnesses).await.map(Some),
        None => Ok(None),
    }
}
