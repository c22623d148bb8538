//! Answers that are no listing: refusals as JSON `{"error","detail"}`, and health.

use std::fmt;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde::Serialize;

use crate::source::{Health, SourceError};

/// A request that gets no data: its status, a word for programs and a sentence for people.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    detail: &'a str,
}

impl Refusal {
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: "bad_request", detail: detail.into() }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, error: "not_found", detail: detail.into() }
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this surface only answers GET and HEAD".to_owned();
        Self { status: StatusCode::METHOD_NOT_ALLOWED, error: "method_not_allowed", detail }
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Invalid(detail) => Self::bad_request(detail),
            SourceError::Unavailable(detail) => {
                Self { status: StatusCode::SERVICE_UNAVAILABLE, error: "unavailable", detail }
            }
            SourceError::Internal(source) => {
                tracing::error!(error = %source, "an HTTP request met a fault");
                let detail = "the log has the details".to_owned();
                Self { status: StatusCode::INTERNAL_SERVER_ERROR, error: "internal", detail }
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error, self.detail)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response.insert_header(("Allow", "GET, HEAD"));
        }
        response.json(Body { error: self.error, detail: &self.detail })
    }
}

/// 200 or 503 with the reasons.
pub(crate) fn health(health: &Health) -> HttpResponse {
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(health)
}
