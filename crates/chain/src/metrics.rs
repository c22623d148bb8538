//! The chain's metrics: names, units and buckets in one place.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use windlass_reading::Settlement;

const CONFIRMATION: &str = "windlass_confirmation_seconds";
const SETTLED: &str = "windlass_readings_settled_total";
const REQUEUED: &str = "windlass_readings_requeued_total";
const BATCH_READINGS: &str = "windlass_batch_readings";
const TRANSACTIONS: &str = "windlass_transactions_total";
const REPLACEMENTS: &str = "windlass_replacements_total";
const UNKNOWN_SENDS: &str = "windlass_unknown_sends_total";
const REORGS: &str = "windlass_reorgs_total";
const GAS_USED: &str = "windlass_gas_used_total";
const GAS_PER_READING: &str = "windlass_gas_per_reading";
const EXPECTED_GAS: &str = "windlass_gas_per_reading_expected";
const FEE_CAPPED: &str = "windlass_fee_capped";
const BALANCE: &str = "windlass_lane_balance_ether";
const RUNWAY: &str = "windlass_lane_runway_hours";
const OLDEST: &str = "windlass_lane_oldest_unconfirmed_seconds";
const RPC: &str = "windlass_rpc_seconds";
const P256_PRECOMPILE: &str = "windlass_p256_precompile";
const LOG_SIZE: &str = "windlass_log_size";
const SIGNER_FAILURES: &str = "windlass_signer_failures_total";
const RECEIPTS_DROPPED: &str = "windlass_receipts_dropped_total";

/// Outcomes of `windlass_transactions_total`.
const OUTCOMES: [&str; 8] = ["accepted", "rejected", "unknown", "mined", "reverted", "cancelled", "displaced", "final"];

/// Describes the chain's metrics and touches each series. Returns the histogram buckets `(name, upper bounds)`.
pub fn describe() -> Vec<(&'static str, &'static [f64])> {
    describe_histogram!(CONFIRMATION, Unit::Seconds, "From publish received to mined, and to final");
    describe_counter!(SETTLED, Unit::Count, "Readings mined on the canonical chain");
    describe_counter!(REQUEUED, Unit::Count, "Readings that went back to unsettled: reorg, revert or skip");
    describe_histogram!(BATCH_READINGS, Unit::Count, "Readings in one batch");
    describe_counter!(TRANSACTIONS, Unit::Count, "Sends by the nodes' verdict, and inclusions");
    describe_counter!(REPLACEMENTS, Unit::Count, "Transactions replaced at a higher fee");
    describe_counter!(UNKNOWN_SENDS, Unit::Count, "Sends without a clear answer; the same bytes are sent again");
    describe_counter!(REORGS, Unit::Count, "Times that the canonical chain changed its mind");
    describe_counter!(GAS_USED, Unit::Count, "Gas used by included settlement transactions");
    describe_gauge!(GAS_PER_READING, Unit::Count, "Gas per reading of the newest included batch");
    describe_gauge!(EXPECTED_GAS, Unit::Count, "Gas per reading that the newest batch was expected to use");
    describe_gauge!(FEE_CAPPED, Unit::Count, "Lanes whose replacement would cost more than max_fee");
    describe_gauge!(BALANCE, Unit::Count, "Smallest balance of the submitter accounts, ether");
    describe_gauge!(RUNWAY, Unit::Count, "Hours until the poorest submitter is empty at the last hour's spending");
    describe_gauge!(OLDEST, Unit::Seconds, "Age of the oldest transaction without inclusion");
    describe_histogram!(RPC, Unit::Seconds, "JSON-RPC round trips by method and outcome");
    describe_gauge!(
        P256_PRECOMPILE,
        Unit::Count,
        "1 if the chain verifies P-256 by itself; 0 if not, or not asked yet"
    );
    describe_gauge!(LOG_SIZE, Unit::Count, "Readings in the append-only log that the newest anchor states");
    describe_counter!(
        SIGNER_FAILURES,
        Unit::Count,
        "Times that a signer on another machine did not sign what it was asked"
    );
    describe_counter!(RECEIPTS_DROPPED, Unit::Count, "Receipts to devices not sent because their queue was full");
    for settlement in Settlement::ALL {
        let s = settlement.as_str();
        counter!(SETTLED, "settlement" => s).absolute(0);
        counter!(GAS_USED, "settlement" => s).absolute(0);
        gauge!(GAS_PER_READING, "settlement" => s).set(0.0);
        gauge!(EXPECTED_GAS, "settlement" => s).set(0.0);
    }
    for reason in ["unreachable", "refused", "wrong"] {
        counter!(SIGNER_FAILURES, "reason" => reason).absolute(0);
    }
    for outcome in OUTCOMES {
        counter!(TRANSACTIONS, "outcome" => outcome).absolute(0);
    }
    for name in [REQUEUED, REPLACEMENTS, UNKNOWN_SENDS, REORGS, RECEIPTS_DROPPED] {
        counter!(name).absolute(0);
    }
    for name in [FEE_CAPPED, BALANCE, RUNWAY, OLDEST, P256_PRECOMPILE, LOG_SIZE] {
        gauge!(name).set(0.0);
    }
    vec![
        (
            CONFIRMATION,
            &[0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0],
        ),
        (BATCH_READINGS, &[1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0]),
        (RPC, &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
    ]
}

pub(crate) fn confirmed(settlement: Settlement, stage: &'static str, received_at_ms: &[u64], now_ms: u64) {
    let series = histogram!(CONFIRMATION, "settlement" => settlement.as_str(), "stage" => stage);
    for at in received_at_ms {
        series.record(Duration::from_millis(now_ms.saturating_sub(*at)).as_secs_f64());
    }
}

pub(crate) fn settled(settlement: Settlement, readings: u64, gas: u64) {
    counter!(SETTLED, "settlement" => settlement.as_str()).increment(readings);
    counter!(GAS_USED, "settlement" => settlement.as_str()).increment(gas);
    if readings > 0 {
        gauge!(GAS_PER_READING, "settlement" => settlement.as_str()).set(gas as f64 / readings as f64);
    }
}

pub(crate) fn p256_precompile(is_there: bool) {
    gauge!(P256_PRECOMPILE).set(f64::from(u8::from(is_there)));
}

pub(crate) fn signer_failure(reason: &'static str) {
    counter!(SIGNER_FAILURES, "reason" => reason).increment(1);
}

pub(crate) fn requeued(readings: u64) {
    counter!(REQUEUED).increment(readings);
}

pub(crate) fn expected_gas(settlement: Settlement, readings: usize, gas: u64) {
    if readings > 0 {
        gauge!(EXPECTED_GAS, "settlement" => settlement.as_str()).set(gas as f64 / readings as f64);
    }
}

pub(crate) fn batch(readings: usize) {
    histogram!(BATCH_READINGS).record(readings as f64);
}

pub(crate) fn transaction(outcome: &'static str) {
    counter!(TRANSACTIONS, "outcome" => outcome).increment(1);
    if outcome == "unknown" {
        counter!(UNKNOWN_SENDS).increment(1);
    }
}

pub(crate) fn replaced() {
    counter!(REPLACEMENTS).increment(1);
}

pub(crate) fn reorg() {
    counter!(REORGS).increment(1);
}

pub(crate) fn fee_capped(lanes: usize) {
    gauge!(FEE_CAPPED).set(lanes as f64);
}

pub(crate) fn balance(ether: f64, runway_hours: f64) {
    gauge!(BALANCE).set(ether);
    gauge!(RUNWAY).set(runway_hours);
}

pub(crate) fn oldest_unconfirmed(age: Duration) {
    gauge!(OLDEST).set(age.as_secs_f64());
}

pub(crate) fn rpc(method: &'static str, outcome: &'static str, took: Duration) {
    histogram!(RPC, "method" => method, "outcome" => outcome).record(took.as_secs_f64());
}

pub(crate) fn log(size: u64) {
    gauge!(LOG_SIZE).set(size as f64);
}

pub(crate) fn receipt_dropped() {
    counter!(RECEIPTS_DROPPED).increment(1);
}
