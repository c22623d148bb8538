//! `windlass-scanner`: a load test with simulated barcode scanners.
#![allow(clippy::print_stdout, reason = "a command's result belongs on standard output")]

mod compare;
mod options;
mod screen;

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use serde::Serialize;
use tokio::sync::watch;
use windlass_scanner::{Load, Progress, Report, run};

use crate::options::{Command, Options};

/// Exit codes, as in the help text. 64 is `EX_USAGE` of sysexits.h.
const NOT_ALL_ACKNOWLEDGED: u8 = 1;
const USAGE: u8 = 64;

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    load: serde_json::Value,
    #[serde(flatten)]
    report: &'a Report,
}

fn main() -> ExitCode {
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
        None => options.load().map(|load| drive(&options, load)),
    };
    done.unwrap_or_else(|problem| {
        eprintln!("windlass-scanner: {problem:#}");
        ExitCode::from(USAGE)
    })
}

#[tokio::main]
async fn drive(options: &Options, load: Load) -> ExitCode {
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
    if options.json {
        match serde_json::to_string(&Outcome { load: asked, report: &report }) {
            Ok(json) => println!("{json}"),
            Err(error) => eprintln!("windlass-scanner: {error}"),
        }
    } else {
        print!("{}", screen::summary(&report, &progress));
    }
    if report.all_acknowledged() { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALL_ACKNOWLEDGED) }
}
