//! One case: a site, its faults, and the audit.

use std::{
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use windlass_tests::{
    Fault, Load, Of, Pool, Site, assert_consistent, call, contradiction, free_ports, rpc, stubborn, until,
};

use crate::seed::{DEPTH, Plan, Second};

/// Between two readings of a device.
const PAUSE: Duration = Duration::from_millis(15);
/// Between two blocks, in seconds.
const BLOCK: f64 = 0.25;
/// More than the deepest reorg: what is final must not be undone.
const CONFIRMATIONS: u64 = DEPTH + 2;
/// The gateway asks for nothing at the point within this time only if it cannot be reached.
const REACHED: Duration = Duration::from_secs(30);

/// Runs the case; gives the number of readings, or in what the node contradicted itself. Panics when the story does not
/// hold.
pub(crate) fn run(plan: &Plan) -> Result<usize, String> {
    let site = &mut Site::new(&[
        ("c-1", plan.settlement, "digits"),
        ("c-2", plan.settlement, "digits"),
        ("c-3", "anchor", "digits"),
    ]);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(plan, site)));
    let logs = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos");
    std::fs::create_dir_all(&logs).unwrap();
    std::fs::write(logs.join(format!("{}.log", plan.seed)), site.log()).unwrap();
    match outcome {
        Ok(readings) => Ok(readings),
        Err(panic) => {
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| contradiction(site)));
            match told.ok().flatten() {
                Some(text) => Err(text),
                None => {
                    let waits = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| what_waits(site)));
                    eprintln!(
                        "seed {}: {}",
                        plan.seed,
                        waits.unwrap_or_else(|_| "the gateway or the node is gone".into())
                    );
                    std::panic::resume_unwind(panic)
                }
            }
        }
    }
}

fn play(plan: &Plan, site: &mut Site) -> usize {
    site.block_seconds = BLOCK;
    let ports: [u16; 2] = free_ports();
    let urls: Vec<_> = ports[..plan.nodes].iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    site.edit_config(&format!("[\"http://127.0.0.1:{}\"]", site.rpc), &json!(urls).to_string());
    site.edit_config(
        "confirmations = 2",
        &format!("confirmations = {CONFIRMATIONS}\npoll_interval = \"50ms\"\nrequest_timeout = \"2s\""),
    );
    site.start_node();
    let pools: Vec<Pool> = ports[..plan.nodes].iter().map(|port| Pool::start(*port, site.rpc)).collect();
    site.deploy();
    site.start();
    site.until_ready();

    let stop = AtomicBool::new(false);
    let port = site.mqtt;
    let acknowledged: Vec<_> = thread::scope(|scope| {
        let load = Load(&stop);
        let devices: Vec<_> =
            ["c-1", "c-2", "c-3"].map(|id| scope.spawn(|| stubborn(port, id, PAUSE, &stop))).into_iter().collect();
        let troubled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| trouble(plan, site, &pools)));
        drop(load);
        if let Err(panic) = troubled {
            // The devices end only with a gateway that answers.
            for pool in &pools {
                pool.disarm();
            }
            if site.gateway.is_none() {
                site.start();
            }
            drop(devices.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>());
            std::panic::resume_unwind(panic);
        }
        devices.into_iter().flat_map(|d| d.join().unwrap()).collect()
    });
    for pool in &pools {
        pool.heal();
    }
    site.until_final(acknowledged.len());
    assert_consistent(site, &acknowledged);
    for pool in &pools {
        assert_eq!(pool.refused("replacement"), 0, "a bump that the pool does not take");
        // Between a reorg and its being noticed, what it removed is in the pool beside what was sent since.
        if plan.reorg == 0 {
            assert_eq!(pool.refused("slots"), 0, "more than an account's slots");
        }
    }
    acknowledged.len()
}

/// The kill, the node's answers after it, the reorg, and the second kill.
fn trouble(plan: &Plan, site: &mut Site, pools: &[Pool]) {
    // Devices are registered and funded, and something has been settled, before the trap is set.
    until("every device has settled something", || {
        let rows = site.readings();
        (1..=3).all(|n| rows.iter().any(|r| r["device"] == format!("c-{n}") && r["tx"] != json!(null))).then_some(())
    });
    match plan.second {
        Second::Sound => {}
        Second::Lags(blocks) => pools[1].lag(blocks),
        Second::LiesBy(by) => pools[1].lie_about_nonces(by),
    }
    pools[0].trap(plan.point.of, plan.point.moment);
    spring(plan, site, &pools[0]);
    site.kill();
    pools[0].disarm();
    for pool in pools {
        pool.fail("eth_sendRawTransaction", plan.reply.1.iter().copied());
    }
    blind(plan, pools);
    site.start();
    if plan.reorg > 0 {
        thread::sleep(plan.load);
        blind(plan, pools);
        reorganize(site, plan.reorg);
    }
    thread::sleep(plan.load);
    if let Some(after) = plan.again {
        thread::sleep(after);
        site.kill();
        site.start();
    }
}

/// Receipts cannot be had for a while, which says nothing about the transactions.
fn blind(plan: &Plan, pools: &[Pool]) {
    let faults = [Fault::BadGateway, Fault::RequestLost, Fault::Refused("header not found")];
    for pool in pools {
        pool.fail("eth_getBlockReceipts", faults.into_iter().cycle().take(plan.blind));
    }
}

/// Waits until the gateway has run into the trap; makes the market jump where that is what leads there.
fn spring(plan: &Plan, site: &Site, pool: &Pool) {
    let begun = Instant::now();
    // What is offered in a cheap block is stuck in a dear one.
    let mut market = [1_000_000_000u64, 80_000_000_000].into_iter().cycle();
    while !pool.sprung() {
        assert!(begun.elapsed() < REACHED, "{} was not within reach", plan.point.name);
        if plan.point.of == Of::Replacement {
            let base_fee = format!("{:#x}", market.next().unwrap());
            rpc(site.rpc, "anvil_setNextBlockBaseFeePerGas", json!([base_fee])).unwrap();
            thread::sleep(Duration::from_millis(1_200));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Another branch of the same length takes the place of the last blocks; their transactions are not in it.
fn reorganize(site: &Site, depth: u64) {
    rpc(site.rpc, "anvil_reorg", json!([depth, []])).unwrap();
}

/// For whoever looks into a case that did not end: each account's first transaction that the node does not count, in the
/// journal's words and in the node's.
fn what_waits(site: &Site) -> String {
    let mut told = Vec::new();
    let mut rows = site.rows(&["attempts"]);
    rows.sort_by_key(|row| (row["account"].to_string(), row["nonce"].as_u64()));
    rows.dedup_by_key(|row| row["account"].to_string() + &row["nonce"].to_string());
    for row in rows {
        let ask = |method: &str, params| call(site.rpc, method, params).unwrap_or_default();
        let count = ask("eth_getTransactionCount", json!([row["account"], "latest"]));
        if json!(format!("{:#x}", row["nonce"].as_u64().unwrap())) != count["result"] {
            continue;
        }
        let receipt = ask("eth_getTransactionReceipt", json!([row["tx"]]));
        let block = row["block"].as_u64().map_or(json!("latest"), |block| json!(format!("{block:#x}")));
        let block = ask("eth_getBlockByNumber", json!([block, false]));
        let head = ask("eth_blockNumber", json!([]));
        told.push(format!(
            "the node counts {count} of {}, its head is {head}; the journal has {row}; the node's receipt: {receipt}; its \
             block there: {block}",
            row["account"]
        ));
    }
    told.join("\n")
}
