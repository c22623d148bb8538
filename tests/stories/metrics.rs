//! The metrics page has the names that dashboards and alerts rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeSet, fs, path::Path};

use windlass_tests::{Site, get};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn golden() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(ROOT).join("tests/golden/metrics.txt")).unwrap();
    text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_page_has_exactly_the_golden_names_and_types() {
    let site = Site::ready(&[("a-1", "anchor", "digits")]);
    let (mut client, _) = windlass_tests::Client::connect(
        site.mqtt,
        windlass_tests::Protocol::V5,
        "a-1",
        Some(("a-1", windlass_tests::SECRET)),
    );
    assert_eq!(client.publish_and_wait("devices/a-1/readings", b"1", 1, false), Some(0));
    site.until_final(1);
    let (_, page) = get(site.http, "/metrics").unwrap();
    let found: BTreeSet<String> = page
        .lines()
        .filter_map(|l| l.strip_prefix("# TYPE "))
        .filter(|l| l.starts_with("windlass_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(found, golden(), "page on the left, tests/golden/metrics.txt on the right");
    assert!(!page.contains("a-1"), "no device id is a label");
}

#[test]
fn dashboards_and_alerts_use_golden_names_only() {
    let known: BTreeSet<String> = golden().iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect();
    let files = ["grafana/dashboards/windlass.json", "deploy/prometheus/rules.yml"];
    let mut used = 0;
    for file in files {
        let text = fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|w| w.starts_with("windlass_")) {
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|s| word.strip_suffix(s)).unwrap_or(word);
            assert!(known.contains(name) || known.contains(word), "{file} uses {word}");
            used += 1;
        }
    }
    assert!(used > 20);
}
