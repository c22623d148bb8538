//! The device actors' metrics: names, units and labels in one place.

use std::sync::LazyLock;

use metrics::{Counter, Unit, counter, describe_counter};
use windlass_reading::{Reject, Settlement};

/// Readings that are durable. Label `settlement`.
pub const ACCEPTED: &str = "windlass_readings_accepted_total";
/// Publishes that were refused for what they are. Label `reason`. The broker counts its own reasons under this name.
pub const REJECTED: &str = "windlass_readings_rejected_total";
/// Publishes turned away because the device's mailbox was full.
pub const MAILBOX_FULL: &str = "windlass_mailbox_full_total";
/// Device actors that were found closed and built again from the journal. Label `cause`.
pub const REBUILT: &str = "windlass_device_rebuilds_total";

/// Why an actor was built again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It had rested.
    Idle,
    /// It ended without being asked to.
    Fault,
}

impl Cause {
    const ALL: [Self; 2] = [Self::Idle, Self::Fault];

    fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fault => "fault",
        }
    }
}

/// Describes the metrics, once for each recorder.
pub fn describe() {
    describe_counter!(ACCEPTED, Unit::Count, "Readings accepted and durable");
    describe_counter!(REJECTED, Unit::Count, "Publishes refused for what they are");
    describe_counter!(MAILBOX_FULL, Unit::Count, "Publishes turned away by a full device mailbox");
    describe_counter!(REBUILT, Unit::Count, "Device actors built again from the journal");
}

/// Makes every series exist before its first event.
pub fn touch() {
    for settlement in Settlement::ALL {
        counter!(ACCEPTED, "settlement" => settlement.as_str()).increment(0);
    }
    for reject in Reject::ALL {
        counter!(REJECTED, "reason" => reject.reason()).increment(0);
    }
    counter!(MAILBOX_FULL).increment(0);
    for cause in Cause::ALL {
        counter!(REBUILT, "cause" => cause.as_str()).increment(0);
    }
}

/// Found once, with the first reading: long after the process has its recorder.
static EACH_READING: LazyLock<[Counter; 3]> =
    LazyLock::new(|| Settlement::ALL.map(|settlement| counter!(ACCEPTED, "settlement" => settlement.as_str())));

pub(crate) fn accepted(settlement: Settlement, readings: u64) {
    let [direct, batch, anchor] = &*EACH_READING;
    let accepted = match settlement {
        Settlement::Direct => direct,
        Settlement::Batch => batch,
        Settlement::Anchor => anchor,
    };
    accepted.increment(readings);
}

pub(crate) fn rejected(reject: Reject) {
    counter!(REJECTED, "reason" => reject.reason()).increment(1);
}

pub(crate) fn mailbox_full() {
    counter!(MAILBOX_FULL).increment(1);
}

pub(crate) fn rebuilt(cause: Cause) {
    counter!(REBUILT, "cause" => cause.as_str()).increment(1);
}
