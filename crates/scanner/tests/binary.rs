//! The program itself: what it refuses before a run, what it tells after one, and how it is interrupted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/broker.rs"]
mod broker;

use std::{
    env, fs,
    io::Read,
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use broker::{Mosquitto, signal};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_windlass-scanner");
/// Nobody listens here.
const NOBODY: &str = "127.0.0.1:1";

fn scanner(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

/// The same under limits of a shell.
fn limited(limits: &str, arguments: &[&str]) -> Output {
    let line = format!("{limits}; exec \"$0\" \"$@\"");
    Command::new("sh").args(["-c", &line, PROGRAM]).args(arguments).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn result(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Ends of itself within `seconds`; its exit code and what it printed.
fn ended(mut child: Child, seconds: u64) -> (Option<i32>, String) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end");
        }
        thread::sleep(Duration::from_millis(20));
    };
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    (status.code(), text)
}

#[test]
fn what_a_run_needs_is_there_before_anything_is_connected() {
    let output = scanner(&["--broker", NOBODY, "--seconds", "600", "--ledger", "/does/not/exist/run.jsonl"]);
    assert!(output.status.code() == Some(64) && error(&output).contains("/does/not/exist/run.jsonl"), "{output:?}");
    let output = limited("ulimit -n 100", &["--broker", NOBODY, "--devices", "200", "--seconds", "600"]);
    assert!(output.status.code() == Some(64) && error(&output).contains("open files"), "{output:?}");
    let output = scanner(&["--broker", "[::1]:8883", "--tls", "--seconds", "600"]);
    assert!(output.status.code() == Some(64) && error(&output).contains("a name"), "{output:?}");
}

#[test]
fn more_scanners_than_the_soft_limit_of_open_files_connect() {
    let broker = Mosquitto::start("many");
    let run = ["--broker", &broker.address, "--devices", "300", "--seconds", "1", "--json"];
    let output = limited("ulimit -Sn 100", &run);
    assert!(output.status.success(), "{output:?}");
    let told = result(&output);
    assert_eq!((&told["acknowledged"], &told["connected_at_start"]), (&json!(300), &json!(300)), "{told}");
}

#[test]
fn the_result_is_told_although_the_audit_fails() {
    let broker = Mosquitto::start("unaudited");
    let gateway = format!("http://{NOBODY}");
    let run = ["--broker", &broker.address, "--devices", "2", "--seconds", "1", "--rate", "5", "--api", &gateway];
    let output = scanner(&[&run[..], &["--json"]].concat());
    let told = result(&output);
    assert_eq!((output.status.code(), &told["acknowledged"]), (Some(1), &json!(10)), "{told}");
    assert!(told["errors"][0].as_str().unwrap().contains("cannot ask") && error(&output).contains("cannot ask"));
    let output = scanner(&run);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(1) && told.contains("acknowledged       10"), "{told}");
    // At QoS 0 nothing is acknowledged, so nobody is asked, and that is not clean.
    let output = scanner(&[&run[..], &["--json", "--qos", "0"]].concat());
    let told = result(&output);
    assert_eq!((output.status.code(), &told["audit"]["verdict"]), (Some(2), &json!("nothing_to_audit")), "{told}");
}

#[test]
fn an_audit_that_cannot_ask_is_no_wrong_command_line() {
    let path = env::temp_dir().join(format!("windlass-binary-{}.jsonl", std::process::id()));
    let file = path.to_str().unwrap();
    let entry = json!({ "device": "a", "payload": "1", "resent": 0, "read_at": 1_000, "acknowledged_at": 2_000 });
    fs::write(&path, format!("{entry}\n")).unwrap();
    let gateway = format!("http://{NOBODY}");
    assert_eq!(scanner(&["audit", file, "--api", &gateway]).status.code(), Some(1));
    fs::write(&path, "no ledger\n").unwrap();
    assert_eq!(scanner(&["audit", file, "--api", &gateway]).status.code(), Some(64));
    fs::write(&path, "").unwrap();
    let output = scanner(&["audit", file, "--api", &gateway]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(2) && told.contains("nothing to audit"), "{told}");
    fs::remove_file(&path).unwrap();
}

fn start(arguments: &[&str]) -> Child {
    Command::new(PROGRAM).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_second_interrupt_ends_it_at_once() {
    let broker = Mosquitto::start("interrupted");
    let child = start(&["--broker", &broker.address, "--seconds", "600", "--ack-wait", "600"]);
    thread::sleep(Duration::from_millis(1_500));
    broker.signal("STOP");
    thread::sleep(Duration::from_millis(1_200));
    signal(child.id(), "INT");
    thread::sleep(Duration::from_millis(300));
    signal(child.id(), "INT");
    let (code, _) = ended(child, 5);
    broker.signal("CONT");
    assert_eq!(code, Some(130));
}

#[test]
fn an_interrupt_ends_the_audit_and_the_result_is_told() {
    let broker = Mosquitto::start("audited");
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = format!("http://{}", silent.local_addr().unwrap());
    let child = start(&["--broker", &broker.address, "--seconds", "1", "--api", &gateway, "--json"]);
    drop(silent.accept().map(|(socket, _)| thread::spawn(move || (thread::sleep(Duration::from_secs(20)), socket))));
    signal(child.id(), "INT");
    let (code, told) = ended(child, 5);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &told["acknowledged"]), (Some(1), &json!(10)), "{told}");
    assert!(told["errors"][0].as_str().unwrap().contains("interrupted"), "{told}");
}
