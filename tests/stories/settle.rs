//! Readings published over MQTT become final on chain, each once, and provable.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{collections::HashSet, fs};

use alloy::{
    primitives::{address, hex},
    sol_types::SolCall,
};
use serde_json::{Value, json};
use windlass_contract::Windlass;
use windlass_tests::{Client, Protocol, SECRET, Site, assert_consistent, rpc};

/// Publishes `each` readings from every device; what was acknowledged.
fn publish(site: &Site, devices: &[&str], each: u16) -> Vec<(String, String)> {
    let mut acknowledged = Vec::new();
    for (i, device) in devices.iter().enumerate() {
        let protocol = if i % 2 == 0 { Protocol::V5 } else { Protocol::V311 };
        let (mut client, code) = Client::connect(site.mqtt, protocol, device, Some((*device, SECRET)));
        assert_eq!(code, Some(0));
        for n in 1..=each {
            let payload = format!("00{i}{n:03}");
            let topic = format!("devices/{device}/readings");
            assert_eq!(client.publish_and_wait(&topic, payload.as_bytes(), n, false), Some(0));
            acknowledged.push(((*device).to_owned(), payload));
        }
        client.disconnect();
    }
    acknowledged
}

fn settles(settlement: &str) {
    let ids = ["a-1", "a-2", "a-3"];
    let devices: Vec<_> = ids.iter().map(|id| (*id, settlement, "digits")).collect();
    let site = Site::ready(&devices);
    let acknowledged = publish(&site, &ids, 12);
    let rows = site.until_final(acknowledged.len());
    assert_consistent(&site, &acknowledged);
    assert_eq!(site.metric(&format!("windlass_readings_settled_total{{settlement=\"{settlement}\"}}")), 36.0);
    assert_eq!(site.metric("windlass_unsettled_readings"), 0.0);
    proves(&site, &rows);
}

/// The proof of one reading verifies against its block's hash, against the node, and not when one byte differs.
fn proves(site: &Site, rows: &[serde_json::Value]) {
    let row = rows.iter().find(|r| r["sequence"] == 7).unwrap();
    let device = row["device"].as_str().unwrap();
    let output = site.command(&["prove", device, "7", "-o", "proof.json"]);
    assert!(output.status.success(), "{output:?}");
    let file = site.path("proof.json");
    let block = windlass_tests::rpc(site.rpc, "eth_getBlockByNumber", serde_json::json!([hex(&row["block"]), false]));
    let hash = block.unwrap()["hash"].as_str().unwrap().to_owned();
    let verify = |arguments: &[&str]| {
        std::process::Command::new(windlass_tests::windlass())
            .arg("verify")
            .arg(&file)
            .args(arguments)
            .output()
            .unwrap()
    };
    let node = format!("http://127.0.0.1:{}", site.rpc);
    for arguments in [&["--block-hash", hash.as_str()][..], &["--rpc", node.as_str()], &[]] {
        let output = verify(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        // Whoever answers for the block, the contract is still a matter of trust, and is said to be.
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.lines().any(|l| l.starts_with("  you trust") && l.contains("contract")), "{arguments:?}: {text}");
    }
    let other = format!("0x{}", "11".repeat(32));
    assert_eq!(verify(&["--block-hash", &other]).status.code(), Some(1));
    let text = std::fs::read_to_string(&file).unwrap();
    let at = text.find("0x").unwrap() + 10;
    let mut damaged = text.into_bytes();
    damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
    std::fs::write(&file, damaged).unwrap();
    let output = verify(&["--json"]);
    assert_eq!(output.status.code(), Some(1), "a changed byte is refused");
    let refusal: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(refusal["verified"] == false && refusal["reason"].is_string(), "{refusal}");
}

fn hex(number: &serde_json::Value) -> String {
    format!("0x{:x}", number.as_u64().unwrap())
}

#[test]
fn anchored_readings_are_final_once_and_provable() {
    settles("anchor");
}

#[test]
fn batched_readings_are_final_once_and_provable() {
    settles("batch");
}

#[test]
fn direct_readings_are_final_once_and_provable() {
    settles("direct");
}

#[test]
fn a_proof_of_a_waiting_reading_says_that_it_is_pending() {
    let mut site = Site::ready(&[("a-1", "anchor", "digits")]);
    site.stop_node();
    let acknowledged = publish(&site, &["a-1"], 1);
    let output = site.command(&["prove", "a-1", "1", "-o", "proof.json"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let verify = || {
        let mut command = std::process::Command::new(windlass_tests::windlass());
        command.arg("verify").arg(site.path("proof.json")).status().unwrap().code()
    };
    assert_eq!(verify(), Some(2));
    site.start_node();
    site.until_final(1);
    assert!(site.command(&["prove", "a-1", "1", "-o", "proof.json"]).status.success(), "upgraded in place");
    let mut command = std::process::Command::new(windlass_tests::windlass());
    assert_eq!(command.arg("verify").arg(site.path("proof.json")).status().unwrap().code(), Some(0));
    assert_consistent(&site, &acknowledged);
}

#[test]
fn two_submitters_share_the_devices_and_each_keeps_its_own_order() {
    let ids = ["a-1", "a-2", "a-3", "a-4", "a-5", "a-6", "a-7", "a-8"];
    let devices: Vec<_> = ids.iter().enumerate().map(|(i, id)| (*id, ["anchor", "batch"][i % 2], "digits")).collect();
    let mut site = Site::new(&devices);
    // The second key of every development chain.
    fs::write(site.path("second.key"), "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d").unwrap();
    site.edit_config("[keys]", "[[chain.submitters]]\nprivate_key_file = \"second.key\"\n[keys]");
    site.start_node();
    site.deploy();
    site.start();
    site.until_unready("not_submitter");
    let deployment: Value =
        serde_json::from_str(&fs::read_to_string(site.path("data/deployment.json")).unwrap()).unwrap();
    let account = address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");
    let data = hex::encode_prefixed(Windlass::setSubmitterCall { account, allowed: true }.abi_encode());
    let owner = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    rpc(site.rpc, "eth_sendTransaction", json!([{ "from": owner, "to": deployment["address"], "data": data }]))
        .unwrap();
    site.until_ready();
    let acknowledged = publish(&site, &ids, 12);
    site.until_final(acknowledged.len());
    assert_consistent(&site, &acknowledged);
    let accounts: HashSet<_> = site.rows(&["batches"]).iter().map(|b| b["account"].to_string()).collect();
    assert_eq!(accounts.len(), 2, "both submitted");
    assert_eq!(site.rows(&["lanes"]).len(), 2);
}

/// With ranges the chain itself says that no number of a device was left out, over batches, a kill and a reorg.
#[test]
fn anchors_with_ranges_continue_each_devices_sequence_on_chain() {
    let ids = ["a-1", "a-2", "a-3"];
    let mut site = Site::new(&ids.map(|id| (id, "anchor", "digits")));
    site.edit_config("max_wait = \"300ms\"", "max_wait = \"300ms\"\nranges = true");
    site.start_node();
    site.deploy();
    site.start();
    let mut acknowledged = publish(&site, &ids, 5);
    site.kill();
    site.start();
    acknowledged.extend(publish(&site, &ids[..2], 7));
    rpc(site.rpc, "anvil_reorg", json!([1, []])).unwrap();
    site.until_final(acknowledged.len());
    assert_consistent(&site, &acknowledged);
    let anchored = |id: &str| {
        let device = windlass_reading::DeviceId::new(id).unwrap().hash();
        let data = hex::encode_prefixed(Windlass::anchoredSequenceOfCall { device }.abi_encode());
        let answer = rpc(site.rpc, "eth_call", json!([{ "to": site.contract(), "data": data }, "latest"])).unwrap();
        u64::from_str_radix(answer.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    };
    assert_eq!(ids.map(anchored), [12, 12, 5]);
    let checked = site.command(&["fsck", "--rpc", &format!("http://127.0.0.1:{}", site.rpc)]);
    assert!(checked.status.success(), "{checked:?}");
}

/// A range must start at the device's first number, so a contract that has anchors without ranges takes none.
#[test]
fn ranges_do_not_begin_after_anchors_without_them() {
    let mut site = Site::ready(&[("a-1", "anchor", "digits")]);
    let mut acknowledged = publish(&site, &["a-1"], 3);
    site.until_final(3);
    site.terminate();
    site.edit_config("max_wait = \"300ms\"", "max_wait = \"300ms\"\nranges = true");
    site.start();
    acknowledged.extend(publish(&site, &["a-1"], 2));
    site.until_unready("settlement.ranges can only begin");
    site.terminate();
    site.edit_config("ranges = true", "ranges = false");
    site.start();
    site.until_final(5);
    assert_consistent(&site, &acknowledged);
}
