//! What is counted of requests.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::Next,
};
use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Requests by what became of them.
pub(crate) const REQUESTS: &str = "windlass_http_requests_total";
/// Listeners of live events.
pub(crate) const EVENT_STREAMS: &str = "windlass_http_event_streams";

/// Each answer's name, which is the label.
const OUTCOMES: [&str; 10] = [
    "ok",
    "bad_request",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "refused",
    "too_many_requests",
    "unavailable",
    "internal",
];

/// Tells the recorder what there is.
pub fn describe() {
    describe_counter!(REQUESTS, "HTTP requests by outcome");
    describe_gauge!(EVENT_STREAMS, "Open streams of live events");
    for outcome in OUTCOMES {
        counter!(REQUESTS, "outcome" => outcome).absolute(0);
    }
    gauge!(EVENT_STREAMS).set(0.0);
}

fn outcome(status: StatusCode) -> &'static str {
    match status {
        s if s.is_success() || s.is_redirection() => "ok",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::CONFLICT => "refused",
        StatusCode::TOO_MANY_REQUESTS => "too_many_requests",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        s if s.is_client_error() => "bad_request",
        _ => "internal",
    }
}

/// Counts every request.
pub(crate) async fn count(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let answered = next.call(request).await;
    let status = answered.as_ref().map_or_else(|e| e.as_response_error().status_code(), ServiceResponse::status);
    counter!(REQUESTS, "outcome" => outcome(status)).increment(1);
    answered
}
