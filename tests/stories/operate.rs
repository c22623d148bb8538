//! The operator's hand, strangers at an account, and what `fsck` and `backup` say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::process::{Command, Output};

use serde_json::{Value, json};
use windlass_tests::{Client, Pool, Protocol, SECRET, Site, assert_consistent, free_ports, rpc, until};

const SUBMITTER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

fn accept(site: &Site, device: &str, payload: &str) -> (String, String) {
    let (mut client, code) = Client::connect(site.mqtt, Protocol::V5, device, Some((device, SECRET)));
    assert_eq!(code, Some(0));
    let topic = format!("devices/{device}/readings");
    assert_eq!(client.publish_and_wait(&topic, payload.as_bytes(), 1, false), Some(0));
    (device.to_owned(), payload.to_owned())
}

fn says(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a command that must succeed.
fn done(site: &Site, arguments: &[&str]) -> String {
    let output = site.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", says(&output));
    says(&output)
}

fn mining(site: &Site, seconds: u64) {
    rpc(site.rpc, "evm_setIntervalMining", json!([seconds])).unwrap();
}

/// The newest transaction of the list, once it is one that settles and is not included.
fn open_settlement(site: &Site) -> Value {
    until("a settlement is open", || {
        let last = site.rows(&["attempts"]).pop()?;
        (last["kind"] == "settle" && last["state"] == "sent").then_some(last)
    })
}

#[test]
fn a_paused_account_starts_nothing_even_after_a_restart_until_it_is_resumed() {
    let mut site = Site::ready(&[("o-1", "anchor", "digits")]);
    done(&site, &["pause", SUBMITTER]);
    site.until_unready("paused");
    let kept = accept(&site, "o-1", "1");
    site.kill();
    site.start();
    site.until_unready("paused");
    let lane = &site.rows(&["lanes"])[0];
    assert_eq!((&lane["account"], &lane["paused"]), (&json!(SUBMITTER.to_lowercase()), &json!(true)), "{lane}");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!((&site.readings()[0]["state"], &site.readings()[0]["batch"]), (&json!("accepted"), &json!(null)));
    let foreign = site.command(&["pause", "0x00000000000000000000000000000000000000aa"]);
    assert_eq!(foreign.status.code(), Some(1));
    assert!(says(&foreign).contains("has no lane"), "{}", says(&foreign));
    done(&site, &["resume"]);
    site.until_final(1);
    assert_consistent(&site, &[kept]);
    let acts = site.rows(&["acts"]);
    let told: Vec<_> = acts.iter().map(|a| (a["act"].as_str().unwrap(), a["outcome"].as_str().unwrap())).collect();
    assert!(
        matches!(told[..], [("pause", a), ("pause", b), ("resume", c)]
        if a.starts_with("done") && b.starts_with("refused") && c.starts_with("done")),
        "{told:?}"
    );
}

#[test]
fn a_stuck_transaction_is_bumped_or_cancelled_and_its_reading_settles_once() {
    let site = Site::ready(&[("o-1", "anchor", "digits"), ("o-2", "batch", "digits")]);
    let warm = accept(&site, "o-2", "7");
    site.until_final(1);
    mining(&site, 0);
    let first = accept(&site, "o-1", "1");
    let open = open_settlement(&site);
    let said = done(&site, &["bump", open["tx"].as_str().unwrap()]);
    assert!(said.contains("wei per gas"), "{said}");
    assert_eq!(open_settlement(&site)["attempts"], 2);
    mining(&site, 1);
    site.until_final(2);

    mining(&site, 0);
    let second = accept(&site, "o-1", "2");
    let open = open_settlement(&site);
    done(&site, &["cancel", open["tx"].as_str().unwrap()]);
    let again = site.command(&["cancel", "0x0000000000000000000000000000000000000000000000000000000000000001"]);
    assert!(says(&again).contains("no open transaction"), "{}", says(&again));
    mining(&site, 1);
    site.until_final(3);
    assert_eq!(site.metric("windlass_transactions_total{outcome=\"cancelled\"}"), 1.0);
    assert_consistent(&site, &[warm, first, second]);
    let settled = site.command(&["bump", open["tx"].as_str().unwrap()]);
    assert_eq!(settled.status.code(), Some(1), "{}", says(&settled));
    assert!(done(&site, &["fsck", "--rpc", "config"]).contains("consistent"));
}

#[test]
fn a_drain_finishes_what_is_open_and_takes_nothing_new() {
    let mut site = Site::ready(&[("o-1", "anchor", "digits")]);
    let first = accept(&site, "o-1", "1");
    until("the first is on its way", || (site.rows(&["attempts"]).last()?["kind"] == "settle").then_some(()));
    assert!(done(&site, &["drain"]).contains("nothing is open"));
    site.until_final(1);
    let second = accept(&site, "o-1", "2");
    let rounds = |site: &Site| site.metric("windlass_unsettled_readings");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(rounds(&site), 1.0);
    // A hand-over: the next start goes on.
    site.terminate();
    site.start();
    site.until_final(2);
    assert_consistent(&site, &[first, second]);
    site.terminate();
    let alone = site.command(&["drain"]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(says(&alone).contains("no gateway runs on"), "{}", says(&alone));
    assert_eq!(site.rows(&["lanes"])[0]["open"], 0, "the journal's lanes, without a gateway");
}

#[test]
fn a_nonce_that_a_stranger_used_is_found_and_the_reading_settles_by_another() {
    let site = Site::ready(&[("o-1", "anchor", "digits")]);
    let first = accept(&site, "o-1", "1");
    site.until_final(1);
    mining(&site, 0);
    let second = accept(&site, "o-1", "2");
    let open = open_settlement(&site);
    // Somebody else has the key, and was faster.
    let theirs = json!([{ "from": SUBMITTER, "to": SUBMITTER, "value": "0x1", "nonce": format!("{:#x}", open["nonce"].as_u64().unwrap()),
        "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0x3b9aca00", "gas": "0x5208" }]);
    rpc(site.rpc, "eth_sendTransaction", theirs).unwrap();
    mining(&site, 1);
    site.until_final(2);
    assert_eq!(site.metric("windlass_transactions_total{outcome=\"displaced\"}"), 1.0);
    assert!(site.log().contains("was used by a transaction that is not from here"), "{}", site.log());
    assert_consistent(&site, &[first, second]);
}

#[test]
fn a_gap_before_the_first_nonce_is_filled() {
    let mut site = Site::new(&[("o-1", "anchor", "digits")]);
    site.start_node();
    site.deploy();
    // The journal has no history of the account, and its only node says too much.
    std::fs::rename(site.path("data/deployment.json"), site.path("deployment.json")).unwrap();
    std::fs::remove_dir_all(site.path("data")).unwrap();
    std::fs::create_dir(site.path("data")).unwrap();
    std::fs::rename(site.path("deployment.json"), site.path("data/deployment.json")).unwrap();
    let [port] = free_ports();
    let pool = Pool::start(port, site.rpc);
    pool.lie_about_nonces(2);
    site.edit_config(&format!("127.0.0.1:{}\"]", site.rpc), &format!("127.0.0.1:{port}\"]"));
    site.start();
    site.until_ready();
    let kept = accept(&site, "o-1", "1");
    open_settlement(&site);
    pool.heal();
    site.until_final(1);
    let fills = site.rows(&["attempts"]).iter().filter(|t| t["kind"] == "fill").count();
    assert_eq!(fills, 2);
    assert_consistent(&site, &[kept]);
}

#[test]
fn what_is_archived_leaves_the_journal_and_is_still_proved() {
    let mut site = Site::ready(&[("o-1", "anchor", "digits"), ("o-2", "batch", "digits")]);
    let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, "o-1", Some(("o-1", SECRET)));
    let mut all: Vec<_> = (1..=80u16)
        .map(|n| {
            assert_eq!(client.publish_and_wait("devices/o-1/readings", n.to_string().as_bytes(), n, false), Some(0));
            ("o-1".to_owned(), n.to_string())
        })
        .collect();
    all.push(accept(&site, "o-2", "5"));
    site.until_final(81);
    assert_consistent(&site, &all);
    let young = done(&site, &["archive", "old.sqlite", "--older-than", "1h"]);
    assert!(young.contains("nothing new is old enough"), "{young}");
    let said = done(&site, &["archive", "old.sqlite", "--older-than", "0s"]);
    assert!(said.contains("81 readings; 16 readings left the journal"), "{said}");
    assert_eq!(site.readings().len(), 65);
    assert!(done(&site, &["fsck", "--rpc", "config"]).ends_with("consistent\n"));
    assert!(done(&site, &["fsck", "--journal", "old.sqlite"]).ends_with("consistent\n"));
    assert_eq!(site.rows(&["readings", "--journal", "old.sqlite"]).len(), 81);
    // Its batch is no longer whole here; there it is.
    let here = site.command(&["prove", "o-1", "70"]);
    assert!(!here.status.success() && says(&here).contains("old.sqlite"), "{}", says(&here));
    done(&site, &["prove", "o-1", "1", "--journal", "old.sqlite", "-o", "proof.json"]);
    let node = format!("http://127.0.0.1:{}", site.rpc);
    let verified = Command::new(windlass_tests::windlass())
        .args(["verify", "proof.json", "--rpc", &node])
        .current_dir(site.path(""))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", says(&verified));
    // The numbers go on, also after a start.
    site.kill();
    site.start();
    accept(&site, "o-1", "81");
    site.until_final(66);
    assert_eq!(site.readings().last().unwrap()["sequence"], 81);
    let acts = site.rows(&["acts"]);
    assert!(
        acts.iter().all(|a| a["act"] == "archive" && a["outcome"].as_str().unwrap().starts_with("done")),
        "{acts:?}"
    );
}

#[test]
fn fsck_tells_a_sound_journal_from_a_damaged_one_and_a_backup_is_whole() {
    let mut site = Site::ready(&[("o-1", "anchor", "digits"), ("o-2", "batch", "digits"), ("o-3", "direct", "digits")]);
    let all: Vec<_> =
        ["o-1", "o-2", "o-3"].into_iter().flat_map(|d| [accept(&site, d, "1"), accept(&site, d, "2")]).collect();
    site.until_final(6);
    assert_consistent(&site, &all);
    let said = done(&site, &["fsck", "--rpc", "config"]);
    assert!(said.contains("6 readings") && said.ends_with("consistent\n"), "{said}");
    // Beside the running gateway, which goes on.
    let said = done(&site, &["backup", "copy.sqlite"]);
    assert!(said.contains("6 readings"), "{said}");
    let twice = site.command(&["backup", "copy.sqlite"]);
    assert!(!twice.status.success() && says(&twice).contains("exists"), "{}", says(&twice));
    accept(&site, "o-1", "3");
    site.until_final(7);
    site.terminate();
    // The copy alone is a journal; what came after it is missing, and the chain knows.
    let journal = site.path("data/journal.sqlite");
    for file in ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"] {
        let _ = std::fs::remove_file(site.path("data").join(file));
    }
    std::fs::copy(site.path("copy.sqlite"), &journal).unwrap();
    assert!(done(&site, &["fsck"]).ends_with("consistent\n"));
    let behind = site.command(&["fsck", "--rpc", "config"]);
    assert_eq!(behind.status.code(), Some(1));
    assert!(says(&behind).contains("the chain's head is not that of anchor"), "{}", says(&behind));
    for (damage, found) in [
        ("UPDATE readings SET payload = x'39' WHERE arrival = 1", "do not give its root"),
        ("DELETE FROM readings WHERE arrival = 3", "device o-2: 1 readings and 0 archived, but the last is number 2"),
        ("UPDATE attempts SET raw = x'02' WHERE id = 1", "its bytes are not its hash"),
        ("UPDATE batches SET released = 1 WHERE id = (SELECT MIN(id) FROM batches)", "readings instead of"),
        ("DELETE FROM settled", "readings in a batch that does not exist"),
    ] {
        std::fs::copy(site.path("copy.sqlite"), &journal).unwrap();
        let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
        let changed = Command::new("python3").args(["-c", script]).arg(&journal).arg(damage).output().unwrap();
        assert!(changed.status.success(), "{changed:?}");
        let output = site.command(&["fsck"]);
        assert_eq!(output.status.code(), Some(1), "{damage}");
        assert!(says(&output).contains(found), "{damage}: {}", says(&output));
    }
}
