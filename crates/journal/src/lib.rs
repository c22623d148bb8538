//! The durable store of readings, batches and signed attempts.
//!
//! The journal is the only hand-over between "accepted" and "settled". Everything that the rest of Windlass
//! promises about crashes rests on two rules that every engine keeps:
//!
//! 1. A reply is given only after the commit that holds the entry is on disk.
//! 2. A device's readings are numbered 1, 2, 3 …: an entry that is not the next one is refused, never stored.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod entry;
mod error;
mod ledger;
mod metrics;
mod rows;
mod sqlite;
mod store;

pub use entry::{Append, AppendError, Entry, Refusal, Refused, Release, Reply, Stored};
pub use error::Error;
pub use ledger::{
    Account, Attempt, BatchDraft, Inclusion, Kind, LogState, OpenTransaction, Opened, RunDraft, Span, TransactionDraft,
    TransactionState,
};
pub use metrics::describe;
pub use rows::{
    Act, ActRow, AttemptRow, BatchRow, DeviceListing, DeviceRow, DeviceState, End, Filter, KeyRow, LaneRow,
    QuarantineRow, ReadingRow, Recent, SessionRow, State, Totals, TransactionRow, Unsettled,
};
pub use sqlite::{Archived, Copy, Options, Sqlite};
pub use store::{Journal, Ledger, Listing, Sessions};
