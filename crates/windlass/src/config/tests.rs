//! The config file as operators write it.

use std::{fs, path::Path};

use super::*;

fn load(text: &str) -> Result<Config, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("windlass.toml");
    fs::write(&file, text).unwrap();
    Config::load(&file).map_err(|invalid| invalid.problems)
}

const GOOD: &str = r#"
data_dir = "data"
[[broker.listeners]]
listen = "127.0.0.1:1883"
identify_by_client_id = ["5446078"]
[chain]
rpc = ["http://127.0.0.1:8545"]
chain_id = 31337
confirmations = "finalized"
max_fee = "30 gwei"
[[chain.submitters]]
private_key_file = "submitter.key"
[keys]
mnemonic_file = "devices.mnemonic"
[settlement]
max_wait = "250ms"
[[devices]]
id = "5446078"
topic = "5446078"
settlement = "direct"
key = { custodial = 8 }
"#;

#[test]
fn the_example_file_is_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/windlass.example.toml");
    let example = Config::load(&file).unwrap();
    let defaults = Config::default();
    assert_eq!(json(&example.broker), json(&defaults.broker));
    assert_eq!(json(&example.journal), json(&defaults.journal));
    assert_eq!(json(&example.settlement), json(&defaults.settlement));
    assert_eq!(json(&example.http), json(&defaults.http));
    assert_eq!(json(&example.device), json(&defaults.device));
    assert_eq!(example.data_dir, defaults.data_dir);
    let chain = windlass_chain::Config { submitters: Vec::new(), ..example.chain.clone() };
    assert_eq!(json(&chain), json(&defaults.chain));
    assert_eq!(example.devices.len(), 2);
}

fn json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap()
}

#[test]
fn a_good_file_is_read_whole() {
    let config = load(GOOD).unwrap();
    assert_eq!(config.chain.confirmations, windlass_chain::Confirmations::Finalized);
    assert_eq!(config.settlement.max_wait, std::time::Duration::from_millis(250));
    assert_eq!(config.devices[0].custodial(), Some(8));
    assert!(config.data_dir().ends_with("data") && config.data_dir().is_absolute());
}

#[test]
fn every_problem_is_told_at_once() {
    let problems = load(
        r#"
        nonsense = 1
        [[broker.listeners]]
        listen = "127.0.0.1:1883"
        identify_by_client_id = ["ghost"]
        [chain]
        rpc = ["ftp://x"]
        max_fee = "100"
        [settlement]
        max_readings = 0
        surprise = true
        [[devices]]
        id = "a/b"
        [[devices]]
        id = "d"
        settlement = "direct"
        format = "text"
        [[devices]]
        id = "e"
        secret = "plain"
        key = { custodial = 1 }
        "#,
    )
    .unwrap_err();
    let all = problems.join("\n");
    for part in [
        "nonsense: unknown key",
        "ghost",
        "chain: ",
        "settlement: ",
        "devices[0]",
        "devices.d: secret is missing",
        "devices.d: settlement direct needs key",
        "devices.d: direct settlement stores a number",
        "devices.e: a secret is",
        "keys.mnemonic_file or keys.keystore: needed",
    ] {
        assert!(all.contains(part), "{part:?} is missing in:\n{all}");
    }
}

#[test]
fn a_missing_file_is_one_clear_problem() {
    let invalid = Config::load(Path::new("/nowhere/windlass.toml")).unwrap_err();
    assert_eq!(invalid.problems.len(), 1);
    assert!(invalid.to_string().contains("/nowhere/windlass.toml"));
}

#[test]
fn two_devices_never_share_a_key_or_a_topic() {
    let text = GOOD.to_owned()
        + "[[devices]]\nid = \"b\"\ntopic = \"5446078\"\nkey = { custodial = 8 }\nsecret = \"sha256:"
        + &"0".repeat(64)
        + "\"\n";
    let problems = load(&text).unwrap_err();
    assert!(problems.iter().any(|p| p.contains("custodial key 8 is also 5446078's")), "{problems:?}");
    assert!(problems.iter().any(|p| p.contains("topic \"5446078\" is also 5446078's")), "{problems:?}");
}
