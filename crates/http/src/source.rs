//! What the surface shows, asked of whoever has it.

use std::error;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

/// Whether the service is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// For programs: one of a closed set, in snake case.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

/// Which rows a listing is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// At most so many rows: 1–1000.
    pub limit: usize,
    /// Only this device's rows, where the listing has devices.
    pub device: Option<String>,
    /// Rows after this cursor, which is what the listing's source says it is.
    pub after: Option<String>,
}

/// The source could not answer.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The question is wrong, for instance a cursor that the source never gave: answered 400 with the text.
    #[error("{0}")]
    Invalid(String),
    /// For now there is no answer: answered 503 with the text; ask again later.
    #[error("{0}")]
    Unavailable(String),
    /// A fault: answered 500 without details, which go to the log.
    #[error("internal error")]
    Internal(#[source] Box<dyn error::Error + Send + Sync>),
}

/// Rows of a listing, each a JSON object.
type Rows = Result<Vec<Value>, SourceError>;

/// Everything that the HTTP surface shows. Methods must not block the thread: one worker serves all requests.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The metrics page in Prometheus text format 0.0.4.
    fn metrics(&self) -> String;
    /// Whether the process works at all; false asks a supervisor for a restart.
    fn live(&self) -> Health;
    /// Whether the service does its whole work now, settling included.
    fn ready(&self) -> Health;

    /// Devices.
    async fn devices(&self, filter: Filter) -> Rows;
    /// Readings.
    async fn readings(&self, filter: Filter) -> Rows;
    /// Settlement batches.
    async fn batches(&self, filter: Filter) -> Rows;
    /// Account lanes.
    async fn lanes(&self, filter: Filter) -> Rows;
    /// Quarantined input.
    async fn quarantine(&self, filter: Filter) -> Rows;
    /// The proof of one reading; `None` when there is no such reading.
    async fn proof(&self, device: &str, sequence: u64) -> Result<Option<Value>, SourceError>;
}
