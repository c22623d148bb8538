//! Keys that the gateway holds: encrypted on disk, and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use alloy::{
    primitives::{Address, hex},
    signers::local::{MnemonicBuilder, coins_bip39::English},
};
use windlass_tests::{
    Client, Program, Protocol, SECRET, SUBMITTER, Site, anvil, assert_consistent, free_ports, get, rpc, until, windlass,
};

/// `windlass keys …` in the site's directory, with something on standard input.
fn keys(site: &Site, arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(windlass())
        .arg("keys")
        .args(arguments)
        .current_dir(site.path("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn key(phrase: &str, index: u32) -> (Address, String) {
    let signer = MnemonicBuilder::<English>::default().phrase(phrase).index(index).unwrap().build().unwrap();
    (signer.address(), hex::encode(signer.to_bytes()))
}

fn publish(site: &Site, id: &str, payload: &[u8], packet_id: u16) {
    let (mut client, code) = Client::connect(site.mqtt, Protocol::V5, id, Some((id, SECRET)));
    assert_eq!(code, Some(0));
    assert_eq!(client.publish_and_wait(&format!("devices/{id}/readings"), payload, packet_id, false), Some(0));
}

/// Every file below the directory that has this text; SQLite's files too.
fn files_with(directory: &Path, text: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_with(&path, text, found);
        } else if let Ok(bytes) = fs::read(&path)
            && bytes.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()))
        {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
}

#[test]
fn a_gateway_signs_from_a_keystore_and_no_secret_is_anywhere_else() {
    let mut site = Site::new(&[("k-1", "batch", "digits"), ("k-2", "direct", "digits")]);
    let phrase = fs::read_to_string(site.path("devices.mnemonic")).unwrap();
    let (done, told) = keys(&site, &["import"], &format!("  {phrase}\n"));
    assert!(done && told.contains("devices.pass (new, random)"), "{told}");
    assert!(told.contains(&key(&phrase, 0).0.to_string()) && !told.contains(&phrase), "{told}");
    fs::remove_file(site.path("devices.mnemonic")).unwrap();
    site.edit_config(
        "mnemonic_file = \"devices.mnemonic\"",
        "keystore = \"devices.json\"\npassphrase_file = \"devices.pass\"",
    );
    let (done, told) = keys(&site, &["show", "1", "--config", "windlass.toml"], "");
    assert!(done && told.trim() == key(&phrase, 1).0.to_string(), "{told}");

    site.log_filter = "trace";
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    publish(&site, "k-1", b"1", 1);
    publish(&site, "k-2", b"2", 1);
    site.hangup();
    site.kill();
    site.start();
    publish(&site, "k-1", b"3", 2);
    site.until_final(3);
    assert_consistent(&site, &[("k-1", "1"), ("k-2", "2"), ("k-1", "3")].map(|(d, p)| (d.into(), p.into())));

    let mut said = get(site.http, "/metrics").unwrap().1;
    for page in ["/health/ready", "/api/v1/devices", "/api/v1/lanes"] {
        said += &get(site.http, page).unwrap().1;
    }
    for arguments in [&["check"][..], &["lanes"], &["attempts"], &["device", "show", "k-1"], &["acts"]] {
        let output = site.command(arguments);
        said += &String::from_utf8_lossy(&[output.stdout, output.stderr].concat());
    }
    let passphrase = fs::read_to_string(site.path("devices.pass")).unwrap();
    let submitter = SUBMITTER.trim_start_matches("0x").to_owned();
    let secrets = [
        ("the mnemonic", phrase.trim().to_owned(), &[][..]),
        ("a part of the mnemonic", phrase.split(' ').take(4).collect::<Vec<_>>().join(" "), &[]),
        ("the key of k-1", key(&phrase, 0).1, &[]),
        ("the key of k-2", key(&phrase, 1).1, &[]),
        ("the passphrase", passphrase, &["devices.pass"]),
        ("the submitter's key", submitter, &["submitter.key"]),
        ("the devices' secret", SECRET.to_owned(), &[]),
    ];
    assert!(site.log().contains("TRACE"), "the log is a full one");
    for (what, text, allowed) in secrets {
        assert!(!said.to_lowercase().contains(&text.to_lowercase()), "{what} is told");
        let mut found = Vec::new();
        files_with(&site.path("."), &text, &mut found);
        assert_eq!(found, allowed, "{what}");
    }
}

#[test]
fn a_wrong_passphrase_is_said_and_nothing_is_overwritten() {
    let mut site = Site::new(&[("k-1", "batch", "digits")]);
    let (done, told) = keys(&site, &["create", "--words", "12", "--show-words"], "");
    assert!(done, "{told}");
    let words = told.lines().find_map(|line| line.strip_prefix("words      ")).unwrap();
    assert_eq!(words.split(' ').count(), 12);
    assert!(told.contains(&key(words, 0).0.to_string()), "{told}");
    let (done, told) = keys(&site, &["create"], "");
    assert!(!done && told.contains("not overwritten"), "{told}");
    let (done, told) = keys(&site, &["import", "--keystore", "other.json"], "twelve words that are no mnemonic");
    assert!(!done && told.contains("not a BIP-39 mnemonic") && !told.contains("twelve"), "{told}");

    site.edit_config("mnemonic_file = \"devices.mnemonic\"", "keystore = \"devices.json\"");
    let output = site.command(&["check"]);
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(told.contains("WINDLASS_KEYS_PASSPHRASE"), "{told}");
    fs::write(site.path("wrong.pass"), "guess").unwrap();
    site.edit_config("keystore = ", "passphrase_file = \"wrong.pass\"\nkeystore = ");
    let output = site.command(&["run"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("wrong passphrase"), "{told}");
    site.edit_config("wrong.pass", "devices.pass");
    site.start_node();
    site.start();
    until("it runs", || get(site.http, "/health/live").filter(|(status, _)| *status == 200));
}

/// anvil signs for its own accounts as web3signer does: another program's answer to the same question.
#[test]
fn a_signer_on_another_machine_settles_and_its_absence_is_survived() {
    let mut site = Site::new(&[("k-1", "batch", "digits"), ("k-2", "anchor", "digits")]);
    site.start_node();
    let [port] = free_ports();
    let signer = |site: &Site| {
        let mut command = Command::new(anvil());
        command.args(["--host", "127.0.0.1", "--silent", "--port", &port.to_string()]);
        let started = Program::start(&mut command, &site.path("signer.log"));
        until("the signer answers", || rpc(port, "eth_chainId", serde_json::json!([])));
        started
    };
    let account = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    site.edit_config(
        "private_key_file = \"submitter.key\"",
        &format!("signer = \"http://127.0.0.1:{port}\"\naddress = \"{account}\""),
    );
    fs::remove_file(site.path("submitter.key")).unwrap();
    let running = signer(&site);
    site.deploy();
    site.start();
    site.until_ready();
    publish(&site, "k-1", b"1", 1);
    publish(&site, "k-2", b"2", 1);
    site.until_final(2);
    drop(running);
    publish(&site, "k-1", b"3", 2);
    publish(&site, "k-2", b"4", 2);
    until("the failure is counted", || {
        (site.metric("windlass_signer_failures_total{reason=\"unreachable\"}") >= 1.0).then_some(())
    });
    site.until_unready(account);
    assert!(site.readings().iter().filter(|r| r["state"] == "accepted").count() == 2, "accepted all the same");
    let _running = signer(&site);
    site.until_final(4);
    assert_consistent(
        &site,
        &[("k-1", "1"), ("k-2", "2"), ("k-1", "3"), ("k-2", "4")].map(|(d, p)| (d.into(), p.into())),
    );
}
