//! Traces of what became final: one of each batch (its attempts, its way into a block and to finality), one of each of
//! its first readings (from received to final), tied by links. All of it is told afterwards from the journal, and every id
//! follows from what the span is of, so that a restart or a second telling makes no other trace.

use alloy::primitives::keccak256;
use metrics::{counter, describe_counter};
use tokio::sync::mpsc;
use windlass_journal::{AttemptRow, BatchRow, Error, Filter, Listing, ReadingRow, Sqlite, TransactionRow};
use windlass_telemetry::otlp::{Attribute, Collector, Place, Span};

/// Spans by what became of them.
const SPANS: &str = "windlass_trace_spans_total";
/// Batches that wait to be told; further ones are not.
const WAITING: usize = 256;

/// Tells the recorder what there is.
pub(super) fn describe() {
    describe_counter!(SPANS, "Spans for the trace collector by outcome");
    for outcome in ["sent", "failed", "dropped"] {
        counter!(SPANS, "outcome" => outcome).absolute(0);
    }
}

/// Where final batches are named.
#[derive(Debug, Clone)]
pub(super) struct Sender(Option<mpsc::Sender<u64>>);

impl Sender {
    /// Never waits: a batch that finds no room is not traced, and counted as one span.
    pub(super) fn told(&self, batch: u64) {
        if let Some(sender) = &self.0
            && sender.try_send(batch).is_err()
        {
            counter!(SPANS, "outcome" => "dropped").increment(1);
        }
    }
}

/// Starts telling, where the config names a collector.
pub(super) fn start(config: &windlass_telemetry::Config, journal: Sqlite) -> anyhow::Result<Sender> {
    let Some(url) = &config.otlp else { return Ok(Sender(None)) };
    let collector = Collector::at(url, env!("CARGO_PKG_VERSION"))?;
    let (sender, mut batches) = mpsc::channel(WAITING);
    let readings = config.readings;
    tokio::spawn(async move {
        while let Some(batch) = batches.recv().await {
            let spans = match gather(&journal, batch, readings).await {
                Ok(spans) => spans,
                Err(error) => {
                    tracing::warn!(%error, batch, "a batch's trace could not be read");
                    continue;
                }
            };
            let count = spans.len() as u64;
            let outcome = match collector.export(spans).await {
                Ok(()) => "sent",
                Err(error) => {
                    tracing::warn!(%error, batch, "a batch's trace was not taken");
                    "failed"
                }
            };
            counter!(SPANS, "outcome" => outcome).increment(count);
        }
    });
    Ok(Sender(Some(sender)))
}

async fn gather(journal: &Sqlite, id: u64, readings: usize) -> Result<Vec<Span>, Error> {
    let (Some(batch), Some(transaction)) = (journal.batch(id).await?, journal.transaction_of(id).await?) else {
        return Ok(Vec::new());
    };
    let of_batch = Filter { batch: Some(id), ..Filter::default() };
    let attempts = journal.attempts(of_batch.clone()).await?;
    let readings = journal.readings(Filter { limit: Some(readings as u64), ..of_batch }).await?;
    Ok(spans(&batch, &transaction, &attempts, &readings))
}

/// The place that follows from what the span is of.
fn place(of: &str) -> Place {
    let hash = keccak256(of).0;
    let mut place = Place { trace: [0; 16], span: [0; 8] };
    place.trace.iter_mut().zip(hash).for_each(|(byte, known)| *byte = known);
    place.span.iter_mut().zip(hash.into_iter().skip(16)).for_each(|(byte, known)| *byte = known);
    place
}

fn own(reading: &ReadingRow) -> Place {
    place(&format!("windlass reading {} {}", reading.reading.device, reading.reading.sequence))
}

fn text(value: impl ToString) -> Attribute {
    Attribute::Text(value.to_string())
}

/// A batch that is final, with its parts and its readings; nothing of one that is not.
fn spans(
    batch: &BatchRow,
    transaction: &TransactionRow,
    attempts: &[AttemptRow],
    readings: &[ReadingRow],
) -> Vec<Span> {
    let (Some(mined), Some(ended)) = (transaction.mined_at_ms, transaction.final_at_ms) else { return Vec::new() };
    // An account uses a nonce once on a chain, for ever.
    let whole = place(&format!("windlass batch {} {}", batch.account, transaction.nonce));
    let part = |name: &'static str, of: &str, start_ms: u64, end_ms: u64, attributes| Span {
        name,
        place: Place { trace: whole.trace, span: place(of).span },
        parent: Some(whole.span),
        start_ms,
        end_ms,
        attributes,
        links: Vec::new(),
    };
    let mut told = vec![Span {
        name: "batch",
        place: whole,
        parent: None,
        start_ms: batch.created_at_ms,
        end_ms: ended,
        attributes: vec![
            ("windlass.batch", Attribute::Number(batch.id)),
            ("windlass.settlement", text(batch.settlement.as_str())),
            ("windlass.readings", Attribute::Number(batch.count)),
            ("windlass.account", text(batch.account)),
            ("windlass.nonce", Attribute::Number(transaction.nonce)),
            ("windlass.gas_used", Attribute::Number(batch.gas_used.unwrap_or_default())),
        ],
        links: readings.iter().map(own).collect(),
    }];
    told.extend(attempts.iter().map(|attempt| {
        let began = attempt.written_at_ms.unwrap_or(batch.created_at_ms);
        let included = transaction.tx == Some(attempt.hash);
        let attributes = vec![("windlass.tx", text(attempt.hash)), ("windlass.included", text(included))];
        part("attempt", &attempt.hash.to_string(), began, mined, attributes)
    }));
    let block = transaction
        .block
        .map(|(number, hash)| vec![("windlass.block", Attribute::Number(number)), ("windlass.block_hash", text(hash))]);
    let finality = format!("finality {} {}", batch.account, transaction.nonce);
    told.push(part("finality", &finality, mined, ended, block.unwrap_or_default()));
    told.extend(readings.iter().map(|reading| Span {
        name: "reading",
        place: own(reading),
        parent: None,
        start_ms: reading.received_at_ms,
        end_ms: ended,
        attributes: vec![
            ("windlass.device", text(&reading.reading.device)),
            ("windlass.sequence", Attribute::Number(reading.reading.sequence)),
            ("windlass.settlement", text(reading.settlement.as_str())),
            ("windlass.waited_ms", Attribute::Number(batch.created_at_ms.saturating_sub(reading.received_at_ms))),
        ],
        links: vec![whole],
    }));
    told
}
