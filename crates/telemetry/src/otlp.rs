//! Traces to an OpenTelemetry collector: spans of what has happened, with the times at which it did.
//!
//! Nothing here is on anybody's way: spans are made afterwards, from what is written down, so that a reading costs nothing
//! more when traces are on, and a restart breaks no trace.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter, SpanLinks},
};

/// A collector that takes longer is given up for this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a span is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of the trace.
    pub trace: [u8; 16],
    /// Of the span in it.
    pub span: [u8; 8],
}

/// Something that took its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What it was.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    /// The span that it is part of, in the same trace.
    pub parent: Option<[u8; 8]>,
    /// When it began, unix milliseconds.
    pub start_ms: u64,
    /// When it ended.
    pub end_ms: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Spans of other traces that belong to it.
    pub links: Vec<Place>,
}

/// What is known of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
}

/// The collector could not be told.
#[derive(Debug, thiserror::Error)]
#[error("the trace collector: {0}")]
pub struct OtlpError(String);

/// A collector.
pub struct Collector(opentelemetry_otlp::SpanExporter);

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl Collector {
    /// The one behind this URL; `/v1/traces` is put behind it.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn at(url: &str, version: &'static str) -> Result<Self, OtlpError> {
        // Harmless when somebody was first: the provider is per process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(told)?;
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(format!("{}/v1/traces", url.trim_end_matches('/')))
            .with_timeout(PATIENCE)
            .build()
            .map_err(told)?;
        let resource = Resource::builder()
            .with_service_name("windlass")
            .with_attribute(KeyValue::new("service.version", version))
            .build();
        exporter.set_resource(&resource);
        Ok(Self(exporter))
    }

    /// Sends the spans.
    ///
    /// # Errors
    /// When the collector does not take them; they are gone then.
    pub async fn export(&self, spans: Vec<Span>) -> Result<(), OtlpError> {
        self.0.export(spans.into_iter().map(data).collect()).await.map_err(told)
    }
}

fn told(error: impl fmt::Display) -> OtlpError {
    OtlpError(error.to_string())
}

fn time(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

fn context(place: Place) -> SpanContext {
    let (trace, span) = (TraceId::from_bytes(place.trace), SpanId::from_bytes(place.span));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default())
}

fn data(span: Span) -> SpanData {
    let mut links = SpanLinks::default();
    links.links = span.links.into_iter().map(|place| Link::with_context(context(place))).collect();
    let value = |attribute| match attribute {
        Attribute::Text(text) => Value::from(text),
        Attribute::Number(number) => Value::from(i64::try_from(number).unwrap_or(i64::MAX)),
    };
    SpanData {
        span_context: context(span.place),
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: span.name.into(),
        start_time: time(span.start_ms),
        end_time: time(span.end_ms.max(span.start_ms)),
        attributes: span.attributes.into_iter().map(|(key, known)| KeyValue::new(key, value(known))).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("windlass").build(),
    }
}
