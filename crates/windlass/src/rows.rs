//! Rows of the listings: the HTTP API's shapes, made from the journal's and the chain side's. Commands with `--json`
//! print the same.

use alloy::primitives::{Address, hex};
use serde_json::{Value, json};
use windlass_chain::LaneStanding;
use windlass_http::rows::{Batch, Device, Lane, Quarantined, Reading, Transaction};
use windlass_journal::{ActRow, BatchRow, DeviceListing, End, LaneRow, QuarantineRow, ReadingRow, TransactionRow};

/// As JSON; none of these shapes can fail.
pub fn json(row: impl serde::Serialize) -> Value {
    serde_json::to_value(row).unwrap_or_default()
}

/// Text where the bytes are printable text, else `0x…`.
pub fn payload(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) && !text.starts_with("0x") => text.to_owned(),
        _ => hex::encode_prefixed(bytes),
    }
}

fn text(value: impl ToString) -> String {
    value.to_string()
}

/// In lower case, as hashes are: what is compared with what a node says.
fn account(address: Address) -> String {
    format!("{address:#x}")
}

/// A reading.
pub fn reading(row: &ReadingRow) -> Reading {
    Reading {
        device: text(&row.reading.device),
        epoch: row.reading.epoch,
        sequence: row.reading.sequence,
        observed_at: row.reading.observed_at_ms,
        received_at: row.received_at_ms,
        payload: payload(&row.reading.payload),
        state: row.state.as_str().into(),
        settlement: row.settlement.as_str().into(),
        batch: row.batch,
        tx: row.tx.map(text),
        block: row.block.map(|b| b.0),
        cursor: row.arrival,
    }
}

/// A reading as `windlass readings --json` prints it.
pub fn listed_reading(row: &ReadingRow) -> Value {
    let mut value = json(reading(row));
    if let Some(object) = value.as_object_mut() {
        object.remove("received_at");
        object.remove("cursor");
    }
    value
}

/// A refused input.
pub fn quarantine(row: &QuarantineRow) -> Quarantined {
    Quarantined {
        id: row.id,
        device: row.device.as_ref().map(text),
        topic: row.topic.clone(),
        payload: payload(&row.payload),
        state: "quarantined".into(),
        reason: row.reason.clone(),
        received_at: row.received_at_ms,
    }
}

/// A batch.
pub fn batch(row: &BatchRow) -> Batch {
    Batch {
        batch: row.id,
        settlement: row.settlement.as_str().into(),
        account: account(row.account),
        number: row.number,
        root: row.root.map(text),
        head: row.head.map(text),
        count: row.count,
        state: row.state.as_str().into(),
        tx: row.tx.map(text),
        block: row.block.map(|b| b.0),
        block_hash: row.block.map(|b| text(b.1)),
        gas_used: row.gas_used,
        archive: row.archive.clone(),
        log_size: row.log.as_ref().map(|l| l.size),
        log_root: row.log.as_ref().map(|l| text(l.root)),
        created_at: row.created_at_ms,
    }
}

/// A device.
pub fn device(listing: &DeviceListing) -> Device {
    let row = &listing.row;
    Device {
        device: text(&row.device),
        format: row.format.as_str().into(),
        settlement: row.settlement.as_str().into(),
        epoch: row.epoch,
        kind: row.key.map(|key| text(key.kind())),
        key: row.key.map(text),
        custodial: row.custodial,
        address: row.address().map(account),
        registered: row.is_registered(),
        revoked: row.end != End::None,
        barcode: row.barcode.map(account),
        last_sequence: listing.last_sequence,
        last_received_at: listing.last_received_at_ms,
    }
}

/// A lane, as the running gateway sees it.
pub fn lane(lane: &LaneStanding) -> Lane {
    Lane {
        account: account(lane.account),
        device: lane.device.as_ref().map(text),
        next_nonce: lane.next_nonce,
        open: lane.open as u64,
        in_flight: lane.in_flight as u64,
        paused: Some(lane.paused),
        balance_wei: lane.balance_wei.map(text),
        trouble: lane.trouble.clone(),
    }
}

/// A lane, as the journal left it.
pub fn lane_of_journal(lane: &LaneRow) -> Lane {
    Lane {
        account: account(lane.account),
        device: None,
        next_nonce: lane.next_nonce,
        open: lane.open,
        in_flight: lane.in_flight,
        paused: None,
        balance_wei: None,
        trouble: None,
    }
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
pub fn transaction(row: &TransactionRow) -> Transaction {
    Transaction {
        id: row.id,
        account: account(row.account),
        nonce: row.nonce,
        kind: row.kind.clone(),
        state: row.state.clone(),
        success: row.success,
        attempts: row.attempts,
        tx: row.tx.map(text),
        block: row.block.map(|b| b.0),
        created_at: row.created_at_ms,
        mined_at: row.mined_at_ms,
        final_at: row.final_at_ms,
    }
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
