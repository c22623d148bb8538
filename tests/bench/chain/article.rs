//! The article's loop as a reference: one `set` for each reading, and the next one after its receipt.

use std::{
    thread,
    time::{Duration, Instant},
};

use alloy::{
    primitives::{U256, hex},
    sol_types::SolCall,
};
use serde_json::{Value, json};
use windlass_contract::{BARCODE_CREATION_CODE, Barcode};
use windlass_tests::{Site, measured_for, rpc};

/// Its name in the table.
pub(crate) const LOOP: &str = "the article's loop";
/// How long it reads.
const TIME: Duration = Duration::from_secs(30);
/// The article asks for the receipt every ten seconds; a tenth of a second does it no injustice.
const POLL: Duration = Duration::from_millis(100);

/// What the loop comes to on this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference {
    pub(crate) per_second: f64,
    pub(crate) gas: f64,
}

/// Runs it against a node with one-second blocks, whose own account signs and pays.
pub(crate) fn run() -> Reference {
    let mut site = Site::new(&[]);
    site.start_node();
    let port = site.rpc;
    let account = rpc(port, "eth_accounts", json!([])).unwrap()[0].clone();
    let deployed = receipt(port, json!({ "from": account, "data": BARCODE_CREATION_CODE }));
    let contract = deployed["contractAddress"].clone();
    let begun = Instant::now();
    let (mut readings, mut gas) = (0u64, 0u64);
    while begun.elapsed() < measured_for(TIME) {
        let value = 4_006_381_333_931u64 + readings;
        let data = Barcode::setCall { value: U256::from(value) }.abi_encode();
        let done = receipt(port, json!({ "from": account, "to": contract, "data": hex::encode_prefixed(data) }));
        assert_eq!(done["status"], "0x1");
        gas += number(&done["gasUsed"]);
        readings += 1;
    }
    let (per_second, gas) = (readings as f64 / begun.elapsed().as_secs_f64(), gas as f64 / readings as f64);
    println!(
        "\nthe article's loop for {:.0?}, 1-second blocks: {readings} readings, {per_second:.2}/s, {gas:.0} gas for each",
        measured_for(TIME)
    );
    Reference { per_second, gas }
}

/// Sends a transaction and waits for its receipt, as the article does.
fn receipt(port: u16, transaction: Value) -> Value {
    let hash = rpc(port, "eth_sendTransaction", json!([transaction])).unwrap();
    loop {
        match rpc(port, "eth_getTransactionReceipt", json!([hash])) {
            Some(receipt) if !receipt.is_null() => return receipt,
            _ => thread::sleep(POLL),
        }
    }
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}
