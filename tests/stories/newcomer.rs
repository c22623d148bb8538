//! The README's own commands lead from nothing to a verified proof.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};

use windlass_tests::{free_ports, get, until, windlass};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Lines that make the clone and the program, which are there.
const BUILD: usize = 2;
/// What an issue allows a newcomer to need.
const MOST: usize = 10;

fn commands() -> Vec<String> {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let block = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    block.lines().map(str::to_owned).collect()
}

/// One line in a shell of its own: its environment, and nothing else of this process.
fn shell(line: &str, directory: &Path, environment: &[(&str, String)]) -> Output {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", line]).current_dir(directory).envs(environment.iter().cloned());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{line}\n{output:?}");
    output
}

/// What runs beside the commands, ended with the test.
struct Beside(std::process::Child);

impl Beside {
    fn start(line: &str, directory: &Path, environment: &[(&str, String)]) -> Self {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("exec {line}")]).current_dir(directory).envs(environment.iter().cloned());
        Self(command.process_group(0).spawn().unwrap())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn ten_commands_of_the_readme_lead_to_a_verified_proof() {
    let commands = commands();
    assert!(commands.len() <= MOST, "{commands:?}");
    let [mqtt, http, rpc] = free_ports();
    let home = tempfile::TempDir::new().unwrap();
    let program = windlass();
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut environment = vec![("PATH", path)];
    let (mut beside, mut seen) = (Vec::new(), String::new());
    let shop = home.path().join("shop");
    for line in &commands[BUILD..] {
        // Its ports are this test's own.
        let line = line
            .replace("contracts/bin/anvil", &format!("{ROOT}/contracts/bin/anvil --port {rpc}"))
            .replace(":8545", &format!(":{rpc}"))
            .replace("1883", &mqtt.to_string());
        if line.starts_with("export PATH=") {
            continue;
        }
        if let Some(program) = line.strip_suffix(" &") {
            let directory = if shop.exists() { &shop } else { home.path() };
            beside.push(Beside::start(program, directory, &environment));
            if program == "windlass run" {
                until("the gateway listens", || get(http, "/health/ready").filter(|(status, _)| *status == 200));
            } else {
                until("the node answers", || windlass_tests::rpc(rpc, "eth_chainId", serde_json::json!([])));
            }
        } else if let Some((init, rest)) = line.split_once(" && ") {
            assert_eq!(rest, "cd ../shop");
            let ports = format!("--mqtt 127.0.0.1:{mqtt} --http 127.0.0.1:{http} --rpc http://127.0.0.1:{rpc}");
            let init = format!("{} {ports}", init.replace("../shop", "shop"));
            let said = String::from_utf8(shell(&init, home.path(), &environment).stdout).unwrap();
            let secret = said.lines().find_map(|l| l.strip_prefix("secret ")).unwrap().trim().to_owned();
            assert!(said.contains(&format!("-P {secret} ")), "{said}");
            environment.push(("SECRET", secret));
        } else {
            seen += &String::from_utf8(shell(&line, &shop, &environment).stdout).unwrap();
        }
    }
    assert!(seen.contains("scanner-1-1.windlass.json: VERIFIED"), "{seen}");
    let (_, page) = get(http, "/api/v1/readings").unwrap();
    assert!(page.contains("4006381333931"), "the page's own source shows it: {page}");
}

#[test]
fn init_overwrites_nothing_and_an_account_of_its_own_is_made_for_other_chains() {
    let home = tempfile::TempDir::new().unwrap();
    let init = |arguments: &[&str]| {
        Command::new(windlass()).arg("init").args(arguments).current_dir(home.path()).output().unwrap()
    };
    let first = init(&["live", "--chain-id", "11155111", "--rpc", "https://node.example", "--settlement", "batch"]);
    assert!(first.status.success(), "{first:?}");
    let said = String::from_utf8(first.stdout).unwrap();
    assert!(said.contains("fund 0x"), "{said}");
    let key = fs::read_to_string(home.path().join("live/submitter.key")).unwrap();
    let again = init(&["live"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8(again.stderr).unwrap().contains("nothing was written"));
    assert_eq!(fs::read_to_string(home.path().join("live/submitter.key")).unwrap(), key);
    let signed = init(&["other", "--format", "signed"]);
    assert_eq!(signed.status.code(), Some(1));
    assert!(!home.path().join("other").exists());
}
