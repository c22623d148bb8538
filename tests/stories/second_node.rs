//! Hardhat's node (EDR) instead of anvil: another pool, other error texts, and no method for a block's receipts, so that
//! nothing rests on anvil's habits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{sync::atomic::AtomicBool, thread, time::Duration};

use serde_json::json;
use windlass_tests::{Load, Site, assert_consistent, rpc, stubborn};

#[test]
fn readings_settle_once_on_another_node_through_kills_and_a_market_that_jumps() {
    let mut site = Site::new(&[("s-1", "anchor", "digits"), ("s-2", "batch", "digits"), ("s-3", "direct", "digits")]);
    site.start_hardhat();
    site.deploy();
    site.start();
    site.until_ready();
    let stop = AtomicBool::new(false);
    let port = site.mqtt;
    let acknowledged: Vec<_> = thread::scope(|scope| {
        let load = Load(&stop);
        let pause = Duration::from_millis(200);
        let devices: Vec<_> = ["s-1", "s-2", "s-3"]
            .map(|id| (id, &stop))
            .map(|(id, stop)| scope.spawn(move || stubborn(port, id, pause, stop)))
            .into_iter()
            .collect();
        thread::sleep(Duration::from_secs(5));
        site.kill();
        site.start();
        // What was offered in a cheap block is replaced in a dear one.
        for gwei in [20_u64, 60, 60, 1] {
            let fee = format!("{:#x}", gwei * 1_000_000_000);
            rpc(site.rpc, "hardhat_setNextBlockBaseFeePerGas", json!([fee])).unwrap();
            thread::sleep(Duration::from_secs(1));
        }
        site.kill();
        site.start();
        thread::sleep(Duration::from_secs(2));
        drop(load);
        devices.into_iter().flat_map(|d| d.join().unwrap()).collect()
    });
    site.until_final(acknowledged.len());
    assert_consistent(&site, &acknowledged);
    let output = site.command(&["fsck", "--rpc", "config"]);
    assert!(output.status.success(), "{output:?}");
}
