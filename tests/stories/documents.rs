//! What the documents say of the command line is true: every command and option that they name is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use windlass_tests::{scanner, windlass};

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
