//! The metrics page has the names that dashboards and alerts rely on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::BTreeSet, fs, path::Path, process::Command};

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

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words after `key` at the beginning of a line, as `- alert: NAME` has them.
fn named(text: &str, key: &str) -> BTreeSet<String> {
    text.lines().filter_map(|l| l.trim_start().strip_prefix(key)).map(|l| l.trim().to_owned()).collect()
}

/// Every dashboard, and the rules.
const FILES: [&str; 5] = [
    "grafana/dashboards/windlass-overview.json",
    "grafana/dashboards/windlass-devices.json",
    "grafana/dashboards/windlass-chain.json",
    "grafana/dashboards/windlass-journal.json",
    "deploy/prometheus/rules.yml",
];

#[test]
fn dashboards_and_alerts_use_golden_names_only() {
    let known: BTreeSet<String> = golden().iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect();
    let recorded = named(&read("deploy/prometheus/rules.yml"), "- record: ");
    let there: BTreeSet<String> = fs::read_dir(Path::new(ROOT).join("grafana/dashboards"))
        .unwrap()
        .map(|entry| format!("grafana/dashboards/{}", entry.unwrap().file_name().into_string().unwrap()))
        .collect();
    assert_eq!(there, FILES.iter().map(|f| (*f).to_owned()).filter(|f| f.starts_with("grafana")).collect());
    let mut used = BTreeSet::new();
    for file in FILES {
        let text = read(file);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_:".contains(c));
        for word in words.map(|w| w.trim_end_matches(':')) {
            if word.starts_with("windlass:") {
                assert!(recorded.contains(word), "{file} uses {word}, which no rule records");
            } else if word.starts_with("windlass_") {
                let name = ["_bucket", "_sum", "_count"].iter().find_map(|s| word.strip_suffix(s)).unwrap_or(word);
                assert!(known.contains(name) || known.contains(word), "{file} uses {word}");
                used.insert(if known.contains(word) { word } else { name }.to_owned());
            }
        }
    }
    let unused: Vec<_> = known.difference(&used).collect();
    assert_eq!(unused, Vec::<&String>::new(), "no dashboard and no rule shows these");
}

#[test]
fn every_alert_has_a_section_in_the_runbooks_and_is_tested_both_ways() {
    let (rules, tests, runbooks) =
        (read("deploy/prometheus/rules.yml"), read("deploy/prometheus/rules.test.yml"), read("docs/runbooks.md"));
    let alerts = named(&rules, "- alert: ");
    assert!(alerts.len() >= 14, "{alerts:?}");
    let sections: BTreeSet<String> = named(&runbooks, "## ");
    assert_eq!(sections, alerts, "sections on the left, alerts on the right");
    for alert in &alerts {
        let url = format!("runbook_url: \"https://windlass.example/docs/runbooks.md#{}\"", alert.to_lowercase());
        assert!(rules.contains(&url), "{url}");
        assert!(tests.contains(&format!("alertname: {alert}, eval_time: 15m, exp_alerts: []")), "{alert} silent");
        assert!(tests.contains(&format!("{{ labels: '{{alertname=\"{alert}\"}}', value: 1 }}")), "{alert} firing");
    }
    let untested: Vec<_> =
        named(&rules, "- record: ").into_iter().filter(|r| !tests.contains(&format!("expr: '{r}'"))).collect();
    assert_eq!(untested, Vec::<String>::new());
}

/// Every `windlass …` of the runbooks, in a line or in a block.
fn commands(runbooks: &str) -> Vec<Vec<&str>> {
    let blocks = runbooks.lines().filter(|l| l.starts_with("windlass ")).map(|l| l.split('#').next().unwrap());
    let inline = runbooks.split('`').filter(|span| span.starts_with("windlass ") && !span.contains('\n'));
    blocks.chain(inline).map(|command| command.split_whitespace().skip(1).collect()).collect()
}

#[test]
fn the_runbooks_commands_and_options_exist() {
    let runbooks = read("docs/runbooks.md");
    let commands = commands(&runbooks);
    assert!(commands.len() > 15, "{commands:?}");
    for words in commands {
        let is_name = |w: &&&str| w.chars().all(|c| c.is_ascii_lowercase());
        let names: Vec<&str> = words.iter().take_while(is_name).copied().collect();
        assert!(!names.is_empty(), "{words:?}");
        let output = Command::new(windlass_tests::windlass()).args(&names).arg("--help").output().unwrap();
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && help.contains("Usage: "), "{words:?}: {output:?}");
        for option in words.iter().filter(|w| w.starts_with("--")) {
            assert!(help.contains(&format!("{option} ")), "{words:?}: {help}");
        }
    }
}
