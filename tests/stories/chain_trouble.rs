//! When the chain side is wrong, readings are kept, readiness says why, and settling goes on by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::json;
use windlass_tests::{Client, Protocol, SECRET, Site, assert_consistent, rpc, until};

fn accept(site: &Site, payload: &str) -> (String, String) {
    let (mut client, code) = Client::connect(site.mqtt, Protocol::V5, "t-1", Some(("t-1", SECRET)));
    assert_eq!(code, Some(0));
    let code = client.publish_and_wait("devices/t-1/readings", payload.as_bytes(), 1, false);
    assert_eq!(code, Some(0), "accepted although nothing settles");
    ("t-1".to_owned(), payload.to_owned())
}

#[test]
fn a_node_that_goes_away_and_comes_back_costs_nothing() {
    let mut site = Site::ready(&[("t-1", "batch", "digits")]);
    let first = accept(&site, "1");
    site.until_final(1);
    site.stop_node();
    site.until_unready("no_node");
    let second = accept(&site, "2");
    assert_eq!(site.metric("windlass_unsettled_readings"), 1.0);
    site.start_node();
    site.until_ready();
    site.until_final(2);
    assert_consistent(&site, &[first, second]);
}

#[test]
fn a_gateway_that_starts_without_a_node_accepts_readings() {
    let mut site = Site::new(&[("t-1", "anchor", "digits")]);
    site.start();
    site.until_unready("no_node");
    let kept = accept(&site, "1");
    site.start_node();
    site.until_unready("contract_missing");
    // Deploying needs the data directory, so the gateway stops for it.
    site.terminate();
    site.deploy();
    site.start();
    site.until_final(1);
    assert_consistent(&site, &[kept]);
}

#[test]
fn a_wrong_chain_is_named_and_nothing_is_sent() {
    let mut site = Site::ready(&[("t-1", "anchor", "digits")]);
    site.terminate();
    site.edit_config("chain_id = 31337", "chain_id = 1");
    site.start();
    site.until_unready("wrong_chain");
    let kept = accept(&site, "1");
    site.terminate();
    site.edit_config("chain_id = 1", "chain_id = 31337");
    site.start();
    site.until_final(1);
    assert_consistent(&site, &[kept]);
}

#[test]
fn a_missing_or_foreign_contract_is_named() {
    let mut site = Site::ready(&[("t-1", "anchor", "digits")]);
    site.terminate();
    site.edit_config("chain_id = 31337", "chain_id = 31337\ncontract = \"0x00000000000000000000000000000000000000aa\"");
    site.start();
    site.until_unready("contract_missing");
    let kept = accept(&site, "1");
    // Code of something else appears there.
    let code = serde_json::json!(["0x00000000000000000000000000000000000000aa", "0x6001600101"]);
    windlass_tests::rpc(site.rpc, "anvil_setCode", code).unwrap();
    site.until_unready("contract_foreign");
    site.terminate();
    site.edit_config("\ncontract = \"0x00000000000000000000000000000000000000aa\"", "");
    site.start();
    site.until_final(1);
    assert_consistent(&site, &[kept]);
}

#[test]
fn an_empty_submitter_is_named_and_settles_once_it_has_money() {
    let site = Site::ready(&[("t-1", "anchor", "digits")]);
    let submitter = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    let balance =
        |wei: &str| windlass_tests::rpc(site.rpc, "anvil_setBalance", serde_json::json!([submitter, wei])).unwrap();
    balance("0x0");
    site.until_unready("account_empty");
    let kept = accept(&site, "1");
    assert_eq!(site.metric("windlass_unsettled_readings"), 1.0);
    balance("0x56bc75e2d63100000");
    site.until_final(1);
    assert_consistent(&site, &[kept]);
}

#[test]
fn a_submitter_that_cannot_pay_its_next_transaction_is_named_before_anything_is_signed() {
    let site = Site::ready(&[("t-1", "anchor", "digits")]);
    let submitter = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    let balance =
        |wei: &str| windlass_tests::rpc(site.rpc, "anvil_setBalance", serde_json::json!([submitter, wei])).unwrap();
    let first = accept(&site, "1");
    site.until_final(1);
    let signed = site.rows(&["attempts"]).len();
    balance("0x3e8");
    windlass_tests::until("the balance was asked for", || {
        let lanes = site.rows(&["lanes"]);
        (lanes[0]["balance_wei"] == "1000").then_some(())
    });
    let second = accept(&site, "2");
    site.until_unready("account_low");
    assert_eq!(site.rows(&["attempts"]).len(), signed, "nothing is signed that cannot be paid");
    balance("0x56bc75e2d63100000");
    site.until_final(2);
    assert_consistent(&site, &[first, second]);
}

/// A device that listens hears that the chain changed its mind, and then what became of its reading.
#[test]
fn a_reorg_takes_a_receipt_back_and_gives_it_again() {
    let mut site = Site::new(&[("a-1", "batch", "digits")]);
    site.edit_config("confirmations = 2", "confirmations = 6");
    site.start_node();
    site.deploy();
    site.start();
    site.until_ready();
    let (mut client, code) = Client::connect(site.mqtt, Protocol::V5, "a-1", Some(("a-1", SECRET)));
    assert_eq!(code, Some(0));
    client.subscribe("devices/a-1/receipts").unwrap();
    assert_eq!(client.publish_and_wait("devices/a-1/readings", b"1", 1, false), Some(0));
    let mut next = || {
        let receipt = until("a receipt", || client.message());
        serde_json::from_slice::<serde_json::Value>(&receipt.1).unwrap()
    };
    assert_eq!(next()["state"], "accepted");
    let mined = next();
    assert_eq!(mined["state"], "mined", "{mined}");
    rpc(site.rpc, "anvil_reorg", json!([2, []])).unwrap();
    let back = next();
    assert_eq!(
        (&back["state"], &back["block"], &back["tx"]),
        (&json!("accepted"), &json!(null), &json!(null)),
        "{back}"
    );
    let again = next();
    assert_eq!(again["state"], "mined", "{again}");
    assert_eq!(next()["state"], "final");
    site.until_final(1);
    assert_consistent(&site, &[("a-1".into(), "1".into())]);
}

/// What may leave the treasury in a day is a limit; readings wait for the rest.
#[test]
fn the_treasurys_daily_limit_holds_and_readings_wait() {
    let mut site = Site::new(&[("d-1", "direct", "digits"), ("d-2", "direct", "digits")]);
    let treasury = |limit: &str| {
        format!(
            "[chain.treasury]\nlow = \"0.02 ether\"\ntop_up = \"0.1 ether\"\ndaily_limit = \"{limit}\"\n[[chain.submitters]]"
        )
    };
    site.edit_config("[[chain.submitters]]", &treasury("0.15 ether"));
    site.start_node();
    site.deploy();
    site.start();
    let mut acknowledged = Vec::new();
    for id in ["d-1", "d-2"] {
        let (mut client, _) = Client::connect(site.mqtt, Protocol::V5, id, Some((id, SECRET)));
        assert_eq!(client.publish_and_wait(&format!("devices/{id}/readings"), b"7", 1, false), Some(0));
        acknowledged.push((id.to_owned(), "7".to_owned()));
    }
    until("one of them is funded and settles", || {
        (site.readings().iter().filter(|r| r["state"] == "final").count() == 1).then_some(())
    });
    until("the limit is told", || site.log().contains("the treasury's daily limit is reached").then_some(()));
    let funded = |site: &Site| site.rows(&["attempts"]).iter().filter(|t| t["kind"] == "fund").count();
    assert_eq!(funded(&site), 1);
    site.terminate();
    site.edit_config("daily_limit = \"0.15 ether\"", "daily_limit = \"1 ether\"");
    site.start();
    site.until_final(2);
    assert_eq!(funded(&site), 2);
    assert_consistent(&site, &acknowledged);
}
