//! Rows of the listings as JSON: one shape for commands with `--json` and for the HTTP API.

use alloy::primitives::hex;
use serde_json::{Value, json};
use windlass_chain::LaneStanding;
use windlass_journal::{ActRow, BatchRow, DeviceRow, End, LaneRow, QuarantineRow, ReadingRow, TransactionRow};

/// Text where the bytes are printable text, else `0x…`.
pub fn payload(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) && !text.starts_with("0x") => text.to_owned(),
        _ => hex::encode_prefixed(bytes),
    }
}

/// A reading.
pub fn reading(row: &ReadingRow) -> Value {
    json!({
        "device": row.reading.device,
        "epoch": row.reading.epoch,
        "sequence": row.reading.sequence,
        "observed_at": row.reading.observed_at_ms,
        "payload": payload(&row.reading.payload),
        "state": row.state.as_str(),
        "settlement": row.settlement.as_str(),
        "batch": row.batch,
        "tx": row.tx,
        "block": row.block.map(|b| b.0),
    })
}

/// A refused input.
pub fn quarantine(row: &QuarantineRow) -> Value {
    json!({
        "id": row.id,
        "device": row.device,
        "topic": row.topic,
        "payload": payload(&row.payload),
        "state": "quarantined",
        "reason": row.reason,
        "received_at": row.received_at_ms,
    })
}

/// A batch.
pub fn batch(row: &BatchRow) -> Value {
    json!({
        "batch": row.id,
        "settlement": row.settlement.as_str(),
        "account": row.account,
        "number": row.number,
        "root": row.root,
        "head": row.head,
        "count": row.count,
        "state": row.state.as_str(),
        "tx": row.tx,
        "block": row.block.map(|b| b.0),
        "block_hash": row.block.map(|b| b.1),
        "gas_used": row.gas_used,
        "archive": row.archive,
        "log_size": row.log.as_ref().map(|l| l.size),
        "log_root": row.log.as_ref().map(|l| l.root),
        "created_at": row.created_at_ms,
    })
}

/// A device.
pub fn device(row: &DeviceRow) -> Value {
    json!({
        "device": row.device,
        "format": row.format.as_str(),
        "settlement": row.settlement.as_str(),
        "epoch": row.epoch,
        "kind": row.key.map(|key| key.kind()),
        "key": row.key.map(|key| key.to_string()),
        "custodial": row.custodial,
        "address": row.address(),
        "registered": row.is_registered(),
        "revoked": row.end != End::None,
        "barcode": row.barcode,
    })
}

/// A lane, as the running gateway sees it.
pub fn lane(lane: &LaneStanding) -> Value {
    json!({
        "account": lane.account,
        "device": lane.device,
        "next_nonce": lane.next_nonce,
        "open": lane.open,
        "in_flight": lane.in_flight,
        "paused": lane.paused,
        "balance_wei": lane.balance_wei.map(|b| b.to_string()),
        "trouble": lane.trouble,
    })
}

/// A lane, as the journal left it.
pub fn lane_of_journal(lane: &LaneRow) -> Value {
    json!({
        "account": lane.account,
        "device": null,
        "next_nonce": lane.next_nonce,
        "open": lane.open,
        "in_flight": lane.in_flight,
        "paused": null,
        "balance_wei": null,
        "trouble": null,
    })
}

/// An operator's act.
pub fn act(row: &ActRow) -> Value {
    json!({
        "id": row.id,
        "at": row.at_ms,
        "act": row.act.act,
        "subject": row.act.subject,
        "outcome": row.act.outcome,
    })
}

/// A transaction of a lane.
pub fn transaction(row: &TransactionRow) -> Value {
    json!({
        "id": row.id,
        "account": row.account,
        "nonce": row.nonce,
        "kind": row.kind,
        "state": row.state,
        "success": row.success,
        "attempts": row.attempts,
        "tx": row.tx,
        "block": row.block.map(|b| b.0),
        "created_at": row.created_at_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_text_or_hex_and_never_ambiguous() {
        assert_eq!(payload(b"007"), "007");
        assert_eq!(payload(&[0, 1]), "0x0001");
        assert_eq!(payload(b"0xab"), "0x30786162");
    }
}
