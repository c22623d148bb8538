//! What the surface shows, asked of whoever has it.

use std::{error, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::rows::{Batch, Device, Lane, Life, Quarantined, Reading, Status};

/// Whether the service is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// True answers 200, false 503.
    pub ok: bool,
    /// What is amiss. May be filled although `ok`, to say what is degraded.
    pub reasons: Vec<Reason>,
}

impl Health {
    /// Nothing is amiss.
    pub fn good() -> Self {
        Self { ok: true, reasons: Vec::new() }
    }

    /// Not well for these reasons; well when there are none.
    pub fn from_reasons(reasons: Vec<Reason>) -> Self {
        Self { ok: reasons.is_empty(), reasons }
    }
}

/// One thing that is amiss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// For programs: one of a closed set, in snake case.
    pub code: String,
    /// For people.
    pub detail: String,
}

impl Reason {
    /// From one of the closed set of codes.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

/// Which rows a listing is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// At most so many rows: 1–1000.
    pub limit: usize,
    /// Only this device's rows, where the listing has devices.
    pub device: Option<String>,
    /// Rows after this cursor in the listing's order, which is what the listing's source says it is.
    pub after: Option<String>,
    /// Newest first.
    pub newest: bool,
    /// Only rows in this state: `accepted`, `mined` or `final`.
    pub state: Option<String>,
    /// Only rows with this settlement.
    pub settlement: Option<String>,
    /// Only this batch's readings.
    pub batch: Option<u64>,
    /// Only rows refused for this reason.
    pub reason: Option<String>,
    /// Only rows received (or built) at or after this unix millisecond.
    pub since_ms: Option<u64>,
    /// Only rows received (or built) before this unix millisecond.
    pub until_ms: Option<u64>,
}

/// Some rows of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// What `after` takes for the rows that follow; `None` when there are none.
    pub next: Option<String>,
}

/// What an operator wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A quarantined input judged again.
    Retry(u64),
    /// A quarantined input removed.
    Drop(u64),
    /// Nothing new started from an account, or from any submitter.
    Pause(Option<String>),
    /// The end of that.
    Resume(Option<String>),
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Readings were accepted. Under load only the newest are told, and how many there were.
    Readings {
        /// How many.
        count: u64,
        /// The newest of them, oldest first.
        rows: Vec<Reading>,
    },
    /// Batches were built or came further.
    Batches {
        /// As they are now.
        rows: Vec<Batch>,
    },
    /// What is amiss changed.
    Health {
        /// As it is now.
        reasons: Vec<Reason>,
    },
}

/// The source could not answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The question is wrong, for instance a cursor that the source never gave: answered 400 with the text.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing: answered 404.
    #[error("{0}")]
    Unknown(String),
    /// The order was understood and not carried out: answered 409.
    #[error("{0}")]
    Refused(String),
    /// For now there is no answer: answered 503 with the text; ask again later.
    #[error("{0}")]
    Unavailable(String),
    /// A fault of ours: logged, and answered 500 without details.
    #[error("internal error")]
    Internal(#[source] Box<dyn error::Error + Send + Sync>),
}

/// Rows of a listing.
type Rows<T> = Result<Page<T>, SourceError>;

/// Everything that the HTTP surface shows. Methods must not block the thread: one worker serves all requests.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The metrics page in Prometheus text format 0.0.4.
    fn metrics(&self) -> String;
    /// Whether the process works at all; false asks a supervisor for a restart.
    fn live(&self) -> Health;
    /// Whether the service does its whole work now, settling included.
    fn ready(&self) -> Health;
    /// What it is and how it stands.
    fn status(&self) -> Status;
    /// What happens from now on. A listener that falls behind misses the oldest.
    fn events(&self) -> broadcast::Receiver<Arc<Event>>;

    /// Devices, in the order in which they were first configured.
    async fn devices(&self, filter: Filter) -> Rows<Device>;
    /// One device.
    async fn device(&self, device: &str) -> Result<Option<Device>, SourceError>;
    /// Readings.
    async fn readings(&self, filter: Filter) -> Rows<Reading>;
    /// One reading with all that became of it.
    async fn reading(&self, device: &str, sequence: u64) -> Result<Option<Life>, SourceError>;
    /// Settlement batches.
    async fn batches(&self, filter: Filter) -> Rows<Batch>;
    /// One batch.
    async fn batch(&self, id: u64) -> Result<Option<Batch>, SourceError>;
    /// Account lanes.
    async fn lanes(&self, filter: Filter) -> Rows<Lane>;
    /// Quarantined input.
    async fn quarantine(&self, filter: Filter) -> Rows<Quarantined>;
    /// One quarantined input.
    async fn quarantined(&self, id: u64) -> Result<Option<Quarantined>, SourceError>;
    /// The proof of one reading; `None` when there is no such reading.
    async fn proof(&self, device: &str, sequence: u64) -> Result<Option<Value>, SourceError>;
    /// Carries out an order; says in words what was done.
    async fn order(&self, order: Order) -> Result<String, SourceError>;
}
