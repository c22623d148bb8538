//! Answers that are no listing: refusals as JSON `{"error","detail"}`, and health.

use std::fmt;

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::source::{Health, SourceError};

/// A request that gets no data: its status, a word for programs and a sentence for people.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    detail: String,
    allow: Option<&'static str>,
}

/// A refusal as it is answered.
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem {
    /// For programs: `bad_request`, `unauthorized`, `forbidden`, `not_found`, `method_not_allowed`, `refused`,
    /// `too_many_requests`, `unavailable` or `internal`.
    error: String,
    /// For people.
    detail: String,
}

impl Refusal {
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(crate) fn too_many_requests() -> Self {
        let detail = "http.requests_per_second is exceeded; ask again in a second".to_owned();
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// `allow`: the methods that are answered.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("only {allow} is answered here");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, error: "method_not_allowed", detail, allow: Some(allow) }
    }

    fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self { status, error, detail: detail.into(), allow: None }
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Invalid(detail) => Self::bad_request(detail),
            SourceError::Unknown(detail) => Self::not_found(detail),
            SourceError::Refused(detail) => Self::new(StatusCode::CONFLICT, "refused", detail),
            SourceError::Unavailable(detail) => Self::unavailable(detail),
            SourceError::Internal(source) => {
                tracing::error!(error = %source, "an HTTP request met a fault");
                let detail = "the log has the details".to_owned();
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
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
        if let Some(allow) = self.allow {
            response.insert_header((header::ALLOW, allow));
        }
        match self.status {
            StatusCode::UNAUTHORIZED => {
                response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                response.insert_header((header::RETRY_AFTER, "1"));
            }
            _ => {}
        }
        response.json(Problem { error: self.error.into(), detail: self.detail.clone() })
    }
}

/// 200 or 503 with the reasons.
pub(crate) fn health(health: &Health) -> HttpResponse {
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(health)
}
