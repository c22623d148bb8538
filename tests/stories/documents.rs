//! What the documents say of the command line is true: every command and option that they name is there, and what
//! stands in a code block runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::{Value, json};
use windlass_tests::{Client, Protocol, SECRET, Site, scanner, windlass};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn documents() -> Vec<PathBuf> {
    let mut found = vec!["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
        .into_iter()
        .map(|name| PathBuf::from(ROOT).join(name))
        .collect::<Vec<_>>();
    for directory in ["docs", "docs/decisions"] {
        let files = fs::read_dir(PathBuf::from(ROOT).join(directory)).unwrap().map(|f| f.unwrap().path());
        found.extend(files.filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    found.sort();
    found
}

/// Command lines of a document: code spans and lines of code blocks that begin with the program's name.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if block {
            let line = line.trim();
            if line.starts_with("windlass") {
                // What comes after a wide gap is said of the command.
                found.push(line.split("    ").next().unwrap().split(" #").next().unwrap().to_owned());
            }
        } else {
            found.extend(line.split('`').skip(1).step_by(2).filter(|c| c.starts_with("windlass")).map(str::to_owned));
        }
    }
    found.retain(|c| c.starts_with("windlass ") || c.starts_with("windlass-scanner "));
    found
}

/// What `--help` says of each command, asked once.
struct Help(BTreeMap<Vec<String>, Option<String>>);

impl Help {
    fn of(&mut self, program: &str, path: &[String]) -> Option<&str> {
        let key: Vec<String> = [program.to_owned()].into_iter().chain(path.iter().cloned()).collect();
        let answer = self.0.entry(key).or_insert_with(|| {
            let binary = if program == "windlass" { windlass() } else { scanner() };
            let output = Command::new(binary).args(path).arg("--help").output().unwrap();
            output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
        });
        answer.as_deref()
    }

    /// Whether the command has commands of its own.
    fn has_commands(&mut self, program: &str, path: &[String]) -> bool {
        self.of(program, path).is_some_and(|help| help.contains("\nCommands:\n"))
    }
}

fn plain(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-')
}

#[test]
fn every_command_and_option_that_a_document_names_is_there() {
    let mut help = Help(BTreeMap::new());
    let (mut checked, mut wrong) = (0, Vec::new());
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for command in commands(&text) {
            let mut words = command.split_whitespace().peekable();
            let program = words.next().unwrap();
            let mut paths: Vec<Vec<String>> = vec![Vec::new()];
            while help.has_commands(program, &paths[0]) {
                let Some(word) = words.next_if(|word| word.split('|').all(plain)) else { break };
                paths = word.split('|').map(|w| [paths[0].clone(), vec![w.to_owned()]].concat()).collect();
            }
            let options = command.split(|c: char| c.is_whitespace() || "[]()|=,".contains(c));
            let options: Vec<_> = options.filter(|w| w.len() > 2 && w.starts_with("--")).collect();
            for path in paths {
                checked += 1;
                let at = format!("{}: {command}", document.display());
                match help.of(program, &path) {
                    None => wrong.push(format!("{at}: no such command")),
                    Some(text) => wrong.extend(
                        options
                            .iter()
                            .filter(|o| !text.contains(**o))
                            .map(|option| format!("{at}: no option {option}")),
                    ),
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(checked > 100, "{checked}");
}

#[test]
fn every_key_of_the_example_config_has_its_line_in_the_reference() {
    let read = |name: &str| fs::read_to_string(PathBuf::from(ROOT).join(name)).unwrap();
    let (example, reference) = (read("deploy/windlass.example.toml"), read("docs/configuration.md"));
    let mut keys = 0;
    for line in example.lines() {
        let line = line.trim_start_matches("# ");
        let Some((key, _)) = line.split_once(" = ") else { continue };
        if !key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()) {
            continue;
        }
        keys += 1;
        assert!(reference.contains(&format!("`{key}`")), "{key} is in no table of docs/configuration.md");
    }
    assert!(keys > 60, "{keys}");
}

/// Lines of code blocks of docs/ that run one of the two programs where they stand. What runs in somebody's container is
/// tried by tools/check-deploy.py, the README's lines by the newcomer's story.
fn block_commands() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for document in documents().into_iter().filter(|path| path.components().any(|c| c.as_os_str() == "docs")) {
        let text = fs::read_to_string(&document).unwrap();
        for block in text.split("```").skip(1).step_by(2) {
            let lines = block.lines().map(|line| line.strip_prefix("target/release/").unwrap_or(line));
            let ours = lines.filter(|l| l.starts_with("windlass ") || l.starts_with("windlass-scanner "));
            found
                .extend(ours.map(|line| (document.file_name().unwrap().to_str().unwrap().to_owned(), line.to_owned())));
        }
    }
    found
}

/// A gateway with settled readings of two devices, and a directory in which the documents' commands run.
struct Desk {
    site: Site,
    /// What a reader puts in: as it stands in the documents, and what it is here.
    blanks: Vec<(&'static str, String)>,
}

impl Desk {
    fn new() -> Self {
        let site = Site::ready(&[("dock-7", "batch", "gtin"), ("dock-8", "anchor", "gtin")]);
        for (device, code) in [("dock-7", "4006381333931"), ("dock-8", "4006381333931"), ("dock-8", "5901234123457")] {
            let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, device, Some((device, SECRET)));
            let topic = format!("devices/{device}/readings");
            assert_eq!(client.publish_and_wait(&topic, code.as_bytes(), 1, false), Some(0));
            site.until_final(site.readings().len());
        }
        fs::create_dir(site.path("backups")).unwrap();
        let scanners = ["dock-7", "dock-8"].map(|id| json!({ "id": id, "secret": SECRET }).to_string() + "\n");
        fs::write(site.path("scanners.txt"), scanners.concat()).unwrap();
        let mut desk = Self { site, blanks: Vec::new() };
        // The documents tell of verifying before they tell of proving, and of looking at an export before making one.
        for line in ["windlass prove dock-7 1 --with-registration", "windlass log export tiles"] {
            let output = desk.run(line);
            assert!(output.status.success(), "{line}: {output:?}");
        }
        desk.blanks = desk.filled();
        desk
    }

    fn filled(&self) -> Vec<(&'static str, String)> {
        let proof: Value =
            serde_json::from_slice(&fs::read(self.site.path("dock-7-1.windlass.json")).unwrap()).unwrap();
        let hash = |pointer: &str| proof.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{proof}"));
        let anchors = self.site.rows(&["batches"]).into_iter().filter(|batch| batch["settlement"] == "anchor");
        let anchors: Vec<String> = anchors.map(|batch| batch["batch"].to_string()).take(2).collect();
        let file = "dock-7-1.windlass.json".to_owned();
        vec![
            (" --config /etc/windlass/windlass.toml", String::new()),
            (
                "[--keystore …] [--passphrase-file …]",
                "--keystore other.json --passphrase-file other.pass <words".to_owned(),
            ),
            ("/var/backups/windlass/", "backups/".to_owned()),
            ("--older-than 30d", "--older-than 0s".to_owned()),
            ("prove DEVICE SEQUENCE [-o FILE]", format!("prove dock-7 1 -o {file}")),
            ("prove …", "prove dock-7 1".to_owned()),
            ("consistency A B [-o FILE]", format!("consistency {} -o consistency.json", anchors.join(" "))),
            ("--registration-hash 0x…", format!("--registration-hash {}", hash("/registered/block/hash"))),
            ("--block-hash 0x…", format!("--block-hash {}", hash("/block/hash"))),
            ("FILE", file),
            ("URL", format!("http://127.0.0.1:{}", self.site.rpc)),
            ("DIR", "tiles".to_owned()),
            ("INDEX", "0".to_owned()),
            ("127.0.0.1:1883", format!("127.0.0.1:{}", self.site.mqtt)),
            ("127.0.0.1:9477", format!("127.0.0.1:{}", self.site.http)),
            ("127.0.0.1:8545", format!("127.0.0.1:{}", self.site.rpc)),
            ("--seconds 30", "--seconds 1".to_owned()),
        ]
    }

    fn run(&self, line: &str) -> Output {
        // What comes after a wide gap is said of the command.
        let mut line = line.split("    ").next().unwrap().split(" #").next().unwrap().to_owned();
        for (blank, filled) in &self.blanks {
            line = line.replace(blank, filled);
        }
        let line = line.replace(['[', ']'], "");
        let programs = windlass().parent().unwrap().display().to_string();
        assert!(scanner().starts_with(&programs));
        let path = format!("{programs}:{}", env::var("PATH").unwrap());
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &line]).current_dir(self.site.path("")).env("PATH", path);
        shell.output().unwrap()
    }
}

#[test]
fn every_command_in_a_code_block_runs() {
    let commands = block_commands();
    assert!(commands.len() > 25, "{commands:?}");
    let desk = Desk::new();
    let words = "legal winner thank year wave sausage worth useful legal winner thank yellow";
    fs::write(desk.site.path("words"), words).unwrap();
    let mut wrong = Vec::new();
    for (document, line) in &commands {
        let output = desk.run(line);
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            wrong.push(format!("{document}: {line}\n  {told}"));
        }
    }
    assert!(wrong.is_empty(), "of {} commands:\n{}", commands.len(), wrong.join("\n"));
}
