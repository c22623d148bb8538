//! The walls of the house: dependencies run strictly downward.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeMap, fs, path::Path};

/// Levels as in docs/architecture.md.
const LEVELS: [(&str, u8); 11] = [
    ("reading", 0),
    ("proof", 1),
    ("contract", 1),
    ("journal", 1),
    ("telemetry", 1),
    ("broker", 2),
    ("device", 2),
    ("chain", 2),
    ("http", 2),
    ("scanner", 2),
    ("windlass", 3),
];

/// Each crate's dependencies on crates of this workspace, dev-dependencies apart.
fn edges() -> BTreeMap<String, Vec<String>> {
    let crates = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates"));
    let mut edges = BTreeMap::new();
    for entry in fs::read_dir(crates).unwrap() {
        let entry = entry.unwrap();
        let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).unwrap();
        let normal = manifest.split("[dev-dependencies]").next().unwrap();
        let uses = normal
            .lines()
            .filter_map(|l| l.strip_prefix("windlass-"))
            .filter_map(|l| l.split(['.', ' ', '=']).next())
            .map(str::to_owned)
            .collect();
        edges.insert(entry.file_name().into_string().unwrap(), uses);
    }
    edges
}

#[test]
fn dependencies_run_strictly_downward() {
    let levels: BTreeMap<&str, u8> = LEVELS.into_iter().collect();
    let edges = edges();
    assert_eq!(edges.len(), LEVELS.len(), "a crate without a level");
    for (from, uses) in &edges {
        for to in uses {
            assert!(levels[to.as_str()] < levels[from.as_str()], "{from} may not depend on {to}");
        }
    }
    assert_eq!(
        edges["scanner"],
        ["contract", "proof", "reading"],
        "a scanner that sees more than outsiders do could cheat"
    );
}
