//! The append-only log: anyone can check that it only grew, and a changed reading is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use alloy::{
    primitives::{B256, hex},
    sol_types::{SolCall, SolEvent},
};
use serde_json::{Value, json};
use windlass_contract::Windlass;
use windlass_proof::log::verify_consistency;
use windlass_tests::{Client, Protocol, SECRET, Site, assert_consistent, rpc, until};

const SUBMITTER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

fn publish(site: &Site, device: &str, numbers: std::ops::RangeInclusive<u16>) -> Vec<(String, String)> {
    let (mut client, code) = Client::connect(site.mqtt, Protocol::V5, device, Some((device, SECRET)));
    assert_eq!(code, Some(0));
    let send = |n: u16| {
        let payload = n.to_string();
        let topic = format!("devices/{device}/readings");
        assert_eq!(client.publish_and_wait(&topic, payload.as_bytes(), n, false), Some(0));
        (device.to_owned(), payload)
    };
    numbers.map(send).collect()
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn done(site: &Site, arguments: &[&str]) -> String {
    let output = site.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", says(&output));
    says(&output)
}

fn fails(site: &Site, arguments: &[&str]) -> String {
    let output = site.command(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", says(&output));
    says(&output)
}

/// The anchor batches, oldest first.
fn anchors(site: &Site) -> Vec<Value> {
    site.rows(&["batches"]).into_iter().filter(|b| b["settlement"] == "anchor").collect()
}

fn sizes(site: &Site) -> Vec<u64> {
    anchors(site).iter().map(|b| b["log_size"].as_u64().unwrap()).collect()
}

/// Size and root of the newest event, from the node alone.
fn last_event(site: &Site) -> (u64, B256) {
    let filter = json!([{ "fromBlock": "0x0", "topics": [Windlass::Anchored::SIGNATURE_HASH] }]);
    let logs = rpc(site.rpc, "eth_getLogs", filter).unwrap();
    let data = hex::decode(logs.as_array().unwrap().last().unwrap()["data"].as_str().unwrap()).unwrap();
    // count, logSize, logRoot, head: one word each.
    (u64::from_be_bytes(data[56..64].try_into().unwrap()), B256::from_slice(&data[64..96]))
}

/// The independent check of an export.
fn checked_by_node_js(site: &Site, directory: &str) {
    let (size, root) = last_event(site);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("js/log.mjs");
    let checked = Command::new("node")
        .arg(script)
        .arg(site.path(directory))
        .args([size.to_string(), root.to_string()])
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", says(&checked));
}

/// Every file below the directory with its bytes.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push((path.clone(), fs::read(&path).unwrap())) }
    }
    found
}

#[test]
fn the_log_only_grows_over_restarts_and_reorgs_and_anyone_can_check_it() {
    let mut site = Site::new(&[("l-1", "anchor", "digits"), ("l-2", "anchor", "digits"), ("l-3", "batch", "digits")]);
    // The reorg stays above what is final.
    site.edit_config("confirmations = 2", "confirmations = 5");
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    let mut all = publish(&site, "l-1", 1..=150);
    all.extend(publish(&site, "l-3", 1..=3));
    site.until_final(153);
    all.extend(publish(&site, "l-2", 1..=120));
    site.kill();
    site.start();
    site.until_final(273);
    let said = done(&site, &["log", "export", "log"]);
    assert!(said.contains("270 readings, 270 of them new"), "{said}");
    checked_by_node_js(&site, "log");
    let first_export = files(&site.path("log/tile"));

    // The blocks that hold the next ones go, and come back without them.
    for numbers in [151..=230, 231..=310, 311..=400] {
        all.extend(publish(&site, "l-1", numbers));
        until("all are mined", || site.readings().iter().all(|r| r["state"] != "accepted").then_some(()));
    }
    rpc(site.rpc, "anvil_reorg", json!([2, []])).unwrap();
    site.until_final(523);
    assert!(site.metric("windlass_readings_requeued_total") >= 90.0, "the last batch at least");
    assert_consistent(&site, &all);
    let sizes = sizes(&site);
    assert!(sizes.is_sorted() && sizes.len() >= 5, "{sizes:?}");
    assert_eq!(sizes.last(), Some(&520), "every reading that settles by anchor, and no other");
    assert_eq!(site.metric("windlass_log_size"), 520.0);
    let newest = anchors(&site).pop().unwrap();
    assert_eq!(last_event(&site), (520, newest["log_root"].as_str().unwrap().parse().unwrap()));

    assert!(done(&site, &["fsck", "--rpc", "config"]).ends_with("consistent\n"));
    for source in [&["log", "verify"][..], &["log", "verify", "--rpc", "config"], &["log", "verify", "--from", "200"]] {
        assert!(done(&site, source).contains("history was only ever appended to"), "{source:?}");
    }
    // A second export adds files and changes none.
    let said = done(&site, &["log", "export", "log"]);
    assert!(said.contains("520 readings, 250 of them new"), "{said}");
    checked_by_node_js(&site, "log");
    let second_export = files(&site.path("log/tile"));
    assert!(first_export.iter().all(|file| second_export.contains(file)));
    assert!(second_export.len() > first_export.len());
    let said = done(&site, &["log", "export", "log"]);
    assert!(said.contains("nothing new is final"), "{said}");
    let said = done(&site, &["log", "verify", "--rpc", "config", "--tiles", "log", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["size"], &said["readings"], &said["faults"]), (&json!(520), &json!(520), &json!([])), "{said}");
    assert!(said["consistency_proofs"].as_u64().unwrap() >= 4, "{said}");
    a_proof_between_two_batches_stands_alone(&site);
    an_export_is_audited_without_the_gateway(&site);
    // The proof of a reading binds size and root.
    done(&site, &["prove", "l-1", "400", "-o", "proof.json"]);
    let proof: Value = serde_json::from_slice(&fs::read(site.path("proof.json")).unwrap()).unwrap();
    assert!(proof.to_string().contains("\"log_size\":520"), "{proof}");
    let verified = Command::new(windlass_tests::windlass()).arg("verify").arg(site.path("proof.json")).status();
    assert!(verified.unwrap().success());
}

fn a_proof_between_two_batches_stands_alone(site: &Site) {
    let all = anchors(site);
    let (first, last) = (all[0]["batch"].to_string(), all.last().unwrap()["batch"].to_string());
    let proof: Value = serde_json::from_str(&done(site, &["log", "consistency", &first, &last])).unwrap();
    let side = |name: &str| {
        let side = &proof[name];
        (side["log_size"].as_u64().unwrap(), side["log_root"].as_str().unwrap().parse::<B256>().unwrap())
    };
    let path: Vec<B256> =
        proof["proof"].as_array().unwrap().iter().map(|h| h.as_str().unwrap().parse().unwrap()).collect();
    let ((old, old_root), (new, new_root)) = (side("first"), side("second"));
    assert!(old < new && verify_consistency(old, old_root, new, new_root, &path));
    let backwards = fails(site, &["log", "consistency", &last, &first]);
    assert!(backwards.contains("name the older batch first"), "{backwards}");
}

/// Somebody else's machine: no config, no journal.
fn an_export_is_audited_without_the_gateway(site: &Site) {
    let node = format!("http://127.0.0.1:{}", site.rpc);
    let elsewhere = tempfile::TempDir::new().unwrap();
    let audit = |more: &[&str]| {
        let mut command = Command::new(windlass_tests::windlass());
        command.args(["log", "audit"]).arg(site.path("log")).args(["--rpc", &node]).args(more);
        command.current_dir(elsewhere.path()).output().unwrap()
    };
    let said = audit(&[]);
    assert!(said.status.success() && says(&said).contains("history was only ever appended to"), "{}", says(&said));
    let said = audit(&["--json", "--submitter", SUBMITTER]);
    let found: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&found["size"], &found["later"], &found["faults"]), (&json!(520), &json!(0), &json!([])), "{found}");
    assert!(found["anchors"].as_u64() > found["consistency_proofs"].as_u64(), "{found}");
    let stranger = audit(&["--submitter", "0x00000000000000000000000000000000000000aa"]);
    assert_eq!(stranger.status.code(), Some(1));
    assert!(says(&stranger).contains("no anchor of these submitters states 520 readings"), "{}", says(&stranger));
    // One byte of an entry, then one of a tile.
    for (file, found) in
        [("tile/entries/000", "entries do not give the checkpoint's root"), ("tile/0/000", "the tiles give")]
    {
        let path = site.path("log").join(file);
        let honest = fs::read(&path).unwrap();
        let mut forged = honest.clone();
        forged[40] ^= 1;
        fs::write(&path, forged).unwrap();
        let said = audit(&[]);
        assert_eq!(said.status.code(), Some(1), "{file}: {}", says(&said));
        assert!(says(&said).contains(found), "{file}: {}", says(&said));
        fs::write(&path, honest).unwrap();
    }
}

/// The journal as it was backed up.
fn restore(site: &Site) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(site.path(&format!("data/journal.sqlite{suffix}")));
    }
    fs::copy(site.path("honest.sqlite"), site.path("data/journal.sqlite")).unwrap();
}

/// Changes the journal by hand, as somebody who has the machine could.
fn tamper(site: &Site, sql: &str) {
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
    let journal = site.path("data/journal.sqlite");
    let changed = Command::new("python3").args(["-c", script]).arg(journal).arg(sql).output().unwrap();
    assert!(changed.status.success(), "{}", says(&changed));
}

#[test]
fn a_changed_reading_is_found_where_it_is_and_never_exported() {
    let mut site = Site::ready(&[("l-1", "anchor", "digits")]);
    for n in [1, 2, 3] {
        publish(&site, "l-1", n..=n);
        site.until_final(usize::from(n));
    }
    assert_eq!(sizes(&site), [1, 2, 3]);
    site.terminate();
    let second = &anchors(&site)[1];
    let name = format!("anchor 2 of {SUBMITTER} (transaction {})", second["tx"].as_str().unwrap());
    done(&site, &["backup", "honest.sqlite"]);
    restore(&site);
    for (damage, found) in [
        ("UPDATE readings SET payload = x'39' WHERE arrival = 2", "its log has 2 readings and root"),
        ("UPDATE readings SET observed_at = observed_at + 1 WHERE arrival = 2", "the readings give 2 and"),
        ("DELETE FROM readings WHERE arrival = 2", "the readings give 1 and"),
        ("UPDATE batches SET log_frontier = zeroblob(32) WHERE log_size = 2", "does not have its root"),
    ] {
        tamper(&site, damage);
        let said = fails(&site, &["log", "verify", "--rpc", "config"]);
        assert!(said.contains(found) && said.contains("FAULT") && said.contains(&name), "{damage}: {said}");
        assert!(!said.contains("anchor 1 of") && !said.contains("anchor 3 of"), "{damage}: {said}");
        let said = fails(&site, &["fsck"]);
        assert!(said.contains("log: anchor 2 of"), "{damage}: {said}");
        if damage.contains("readings SET") {
            let said = fails(&site, &["log", "export", "log"]);
            assert!(said.contains("do not give the root that was anchored"), "{said}");
            assert!(!site.path("log").exists(), "nothing of it is written");
        }
        restore(&site);
    }
    // A journal whose rows were changed to fit stands against the node's events.
    tamper(&site, "UPDATE batches SET log_root = zeroblob(32) WHERE log_size = 3");
    let said = fails(&site, &["log", "verify", "--rpc", "config"]);
    assert!(said.contains("anchor 3 of"), "{said}");
    tamper(&site, "DELETE FROM batches WHERE log_size = 3");
    let said = fails(&site, &["log", "verify", "--rpc", "config"]);
    assert!(said.contains("the journal never had a log of 3 readings"), "{said}");
}

#[test]
fn lanes_side_by_side_write_one_log() {
    let ids = ["l-1", "l-2", "l-3", "l-4", "l-5", "l-6"];
    let devices: Vec<_> = ids.iter().map(|id| (*id, "anchor", "digits")).collect();
    let mut site = Site::new(&devices);
    // The second key of every development chain.
    fs::write(site.path("second.key"), "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d").unwrap();
    site.edit_config("[keys]", "[[chain.submitters]]\nprivate_key_file = \"second.key\"\n[keys]");
    site.start_node();
    site.deploy();
    site.start();
    site.until_unready("not_submitter");
    let deployment: Value = serde_json::from_slice(&fs::read(site.path("data/deployment.json")).unwrap()).unwrap();
    let account = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8".parse().unwrap();
    let data = hex::encode_prefixed(Windlass::setSubmitterCall { account, allowed: true }.abi_encode());
    rpc(site.rpc, "eth_sendTransaction", json!([{ "from": SUBMITTER, "to": deployment["address"], "data": data }]))
        .unwrap();
    site.until_ready();
    let mut all = Vec::new();
    for (round, numbers) in [1..=4u16, 5..=9].into_iter().enumerate() {
        all.extend(ids.iter().flat_map(|id| publish(&site, id, numbers.clone())));
        if round == 0 {
            site.kill();
            site.start();
        }
    }
    site.until_final(54);
    assert_consistent(&site, &all);
    let sizes = sizes(&site);
    assert!(sizes.is_sorted() && sizes.last() == Some(&54), "{sizes:?}");
    let accounts: std::collections::HashSet<_> = anchors(&site).iter().map(|b| b["account"].to_string()).collect();
    assert_eq!(accounts.len(), 2, "both submitted");
    assert!(done(&site, &["log", "verify", "--rpc", "config"]).contains("history was only ever appended to"));
    assert!(done(&site, &["fsck", "--rpc", "config"]).ends_with("consistent\n"));
}

#[test]
fn the_log_goes_on_when_readings_have_left_for_an_archive() {
    let mut site = Site::ready(&[("l-1", "anchor", "digits")]);
    publish(&site, "l-1", 1..=80);
    site.until_final(80);
    assert!(done(&site, &["archive", "old.sqlite", "--older-than", "0s"]).contains("16 readings left the journal"));
    site.kill();
    site.start();
    publish(&site, "l-1", 81..=90);
    site.until_final(74);
    assert_eq!(sizes(&site).last(), Some(&90));
    let said = done(&site, &["log", "verify", "--rpc", "config"]);
    assert!(said.contains("16 readings are not at hand") && said.contains("--archive (old.sqlite)"), "{said}");
    let said = done(&site, &["log", "verify", "--rpc", "config", "--archive", "old.sqlite"]);
    assert!(said.contains("90 readings were hashed again") && !said.contains("not at hand"), "{said}");
    let said = done(&site, &["fsck", "--archive", "old.sqlite"]);
    assert!(said.contains("90 readings of the append-only log") && said.ends_with("consistent\n"), "{said}");
    assert!(done(&site, &["fsck"]).ends_with("consistent\n"));
    assert!(done(&site, &["fsck", "--journal", "old.sqlite"]).ends_with("consistent\n"));
    let said = fails(&site, &["log", "export", "log"]);
    assert!(said.contains("readings have left the journal: name the archives"), "{said}");
    done(&site, &["log", "export", "log", "--archive", "old.sqlite"]);
    checked_by_node_js(&site, "log");
    // From there on the journal is enough.
    publish(&site, "l-1", 91..=92);
    site.until_final(76);
    done(&site, &["log", "export", "log"]);
    checked_by_node_js(&site, "log");
}
