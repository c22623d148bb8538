//! Several nodes with their faults, a market that jumps, and deep reorgs: everything settles, once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{thread, time::Duration};

use serde_json::json;
use windlass_tests::{Client, Fault, Pool, Protocol, SECRET, Site, assert_consistent, free_ports, rpc, until};

const GWEI: u64 = 1_000_000_000;

/// A site whose gateway sees the node through so many others. Nothing of the gateway is started.
fn behind<const N: usize>(devices: &[(&str, &str, &str)], block_seconds: f64, confirmations: u64) -> (Site, [Pool; N]) {
    let mut site = Site::new(devices);
    site.block_seconds = block_seconds;
    let ports: [u16; N] = free_ports();
    let urls = ports.map(|port| format!("http://127.0.0.1:{port}"));
    site.edit_config(&format!("[\"http://127.0.0.1:{}\"]", site.rpc), &json!(urls.to_vec()).to_string());
    let rest = format!("confirmations = {confirmations}\npoll_interval = \"50ms\"\nrequest_timeout = \"20s\"");
    site.edit_config("confirmations = 2", &rest);
    site.start_node();
    let pools = ports.map(|port| Pool::start(port, site.rpc));
    site.deploy();
    (site, pools)
}

/// So many readings, one after the other.
fn publish(site: &Site, device: &str, count: u16) -> Vec<(String, String)> {
    let (mut client, code) = Client::connect(site.mqtt, Protocol::V5, device, Some((device, SECRET)));
    assert_eq!(code, Some(0));
    (1..=count)
        .map(|n| {
            let payload = n.to_string();
            let topic = format!("devices/{device}/readings");
            assert_eq!(client.publish_and_wait(&topic, payload.as_bytes(), n, false), Some(0));
            (device.to_owned(), payload)
        })
        .collect()
}

#[test]
fn a_node_that_takes_a_transaction_and_never_answers_holds_nobody_up() {
    let (mut site, pools) = behind::<2>(&[("n-1", "anchor", "digits")], 0.5, 2);
    pools[1].fail("eth_sendRawTransaction", [Fault::Hangs; 50]);
    site.start();
    site.until_ready();
    let all: Vec<_> = (0..3)
        .flat_map(|_| {
            let kept = publish(&site, "n-1", 2);
            let begun = std::time::Instant::now();
            until("the next is mined", || (site.metric("windlass_unsettled_readings") == 0.0).then_some(()));
            assert!(begun.elapsed() < Duration::from_secs(15), "an answer was waited for that never comes");
            kept
        })
        .collect();
    site.until_final(all.len());
    assert_consistent(&site, &all);
}

#[test]
fn a_node_that_dies_and_one_that_is_behind_are_left_for_one_that_is_not() {
    let (mut site, [first, second, third]) = behind::<3>(&[("n-1", "anchor", "digits")], 0.5, 2);
    second.lag(4);
    site.start();
    site.until_ready();
    let mut all = publish(&site, "n-1", 2);
    site.until_final(2);
    // Rate limited, then gone: the next in line is the one that is behind.
    for method in ["eth_getBlockByNumber", "eth_getBlockReceipts", "eth_feeHistory", "eth_sendRawTransaction"] {
        first.fail(method, [Fault::RateLimited; 1_000]);
    }
    let before = [second.requests(), third.requests()];
    all.extend(publish(&site, "n-1", 3));
    site.until_final(5);
    assert_consistent(&site, &all);
    assert_eq!(site.metric("windlass_reorgs_total"), 0.0, "being behind is no reorg");
    let asked = [second.requests() - before[0], third.requests() - before[1]];
    assert!(asked[1] > asked[0], "the one that is behind was asked more often: {asked:?}");
}

/// Sets the base fee of the next block.
fn market(site: &Site, gwei: u64) {
    let fee = format!("{:#x}", gwei * GWEI);
    rpc(site.rpc, "anvil_setNextBlockBaseFeePerGas", json!([fee])).unwrap();
}

#[test]
fn a_market_beyond_the_cap_is_waited_out_and_told() {
    let (mut site, [pool]) = behind::<1>(&[("n-1", "anchor", "digits"), ("n-2", "direct", "digits")], 0.5, 2);
    site.start();
    site.until_ready();
    let mut all = publish(&site, "n-2", 1);
    site.until_final(1);
    // `max_fee` is 100 gwei.
    for gwei in [150, 400, 400] {
        market(&site, gwei);
        thread::sleep(Duration::from_millis(300));
    }
    all.extend(publish(&site, "n-1", 3));
    let (mut capped, mut n) = (false, 0);
    while !capped {
        market(&site, 400);
        thread::sleep(Duration::from_millis(200));
        capped = site.metric("windlass_fee_capped") > 0.0;
        n += 1;
        assert!(n < 200, "nobody was told that the market is beyond the cap");
    }
    market(&site, 1);
    site.until_final(all.len());
    until("the alarm ends", || (site.metric("windlass_fee_capped") == 0.0).then_some(()));
    assert_consistent(&site, &all);
    assert_eq!(pool.refused("replacement"), 0);
}

#[test]
fn a_base_fee_that_doubles_with_each_block_is_followed_and_many_high_nonces_wait_for_a_low_one() {
    let (mut site, [pool]) = behind::<1>(&[("n-1", "anchor", "digits"), ("n-2", "direct", "digits")], 0.5, 2);
    site.start();
    site.until_ready();
    let mut all = publish(&site, "n-2", 1);
    site.until_final(1);
    // Twelve transactions of one account, signed at a price that is soon too low.
    all.extend(publish(&site, "n-2", 12));
    all.extend(publish(&site, "n-1", 3));
    for gwei in [2, 4, 8, 16, 32, 64, 80, 80] {
        market(&site, gwei);
        thread::sleep(Duration::from_millis(500));
    }
    site.until_final(all.len());
    assert_consistent(&site, &all);
    assert_eq!(pool.refused("replacement"), 0, "a bump that a strict pool does not take");
    assert_eq!(pool.refused("slots"), 0);
}

#[test]
fn a_reorg_of_64_blocks_puts_readings_back_and_they_settle_again() {
    let (mut site, [_pool]) = behind::<1>(&[("n-1", "anchor", "digits"), ("n-2", "batch", "digits")], 0.1, 80);
    site.start();
    site.until_ready();
    let all = [publish(&site, "n-1", 3), publish(&site, "n-2", 3)].concat();
    let mined = || site.readings().iter().all(|r| r["state"] == "mined").then_some(());
    until("all are mined", mined);
    let block = site.readings().iter().map(|r| r["block"].as_u64().unwrap()).max().unwrap();
    let head = || {
        u64::from_str_radix(
            rpc(site.rpc, "eth_blockNumber", json!([])).unwrap().as_str().unwrap().trim_start_matches("0x"),
            16,
        )
        .unwrap()
    };
    // The newest of them lies as deep as can be and is still removed.
    until("they lie deep", || (head() >= block + 55).then_some(()));
    rpc(site.rpc, "anvil_reorg", json!([64, []])).unwrap();
    until("they are back", || (site.metric("windlass_readings_requeued_total") >= 6.0).then_some(()));
    site.until_final(all.len());
    assert!(site.readings().iter().all(|r| r["block"].as_u64().unwrap() > block));
    assert_eq!(site.metric("windlass_reorgs_total"), 1.0);
    assert_consistent(&site, &all);
}
