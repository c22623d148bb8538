//! When the node is to blame.

use serde_json::json;

use crate::{Site, call};

/// anvil may lose the state behind its own blocks in a reorg: a transaction is in a canonical block, and its account's
/// count is not past its nonce. Then nothing can be said about the gateway.
pub fn contradiction(site: &Site) -> Option<String> {
    let number = |value: &serde_json::Value| u64::from_str_radix(value.as_str()?.trim_start_matches("0x"), 16).ok();
    site.rows(&["attempts"]).iter().filter(|row| row["block"] != json!(null)).find_map(|row| {
        let at = format!("{:#x}", row["block"].as_u64()?);
        let block = call(site.rpc, "eth_getBlockByNumber", json!([at, false]))?["result"].clone();
        let counted = call(site.rpc, "eth_getTransactionCount", json!([row["account"], "latest"]))?["result"].clone();
        let (count, nonce) = (number(&counted)?, row["nonce"].as_u64()?);
        let holds = block["transactions"].as_array()?.contains(&row["tx"]);
        (holds && count <= nonce).then(|| {
            format!("nonce {nonce} is in canonical block {}, and the account's count is {count}", row["block"])
        })
    })
}
