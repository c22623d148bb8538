use actix_web::{
    App,
    body::to_bytes,
    http::{Method, StatusCode},
    test::{TestRequest, call_service, init_service},
};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::*;
use crate::source::{Health, Reason, SourceError};

/// Answers with what it was asked; certain cursors make it fail.
struct Echo {
    ready: bool,
}

fn echo(listing: &str, filter: Filter) -> Result<Vec<Value>, SourceError> {
    match filter.after.as_deref() {
        Some("wrong") => Err(SourceError::Invalid("after is no cursor".into())),
        Some("later") => Err(SourceError::Unavailable("the journal is busy".into())),
        Some("fault") => Err(SourceError::Internal("table secrets is gone".into())),
        after => Ok(vec![json!({
            "listing": listing, "limit": filter.limit, "device": filter.device, "after": after,
        })]),
    }
}

#[async_trait]
impl Source for Echo {
    fn metrics(&self) -> String {
        "windlass_connections 3\n".into()
    }
    fn live(&self) -> Health {
        Health::good()
    }
    fn ready(&self) -> Health {
        let detail = "connection refused".to_owned();
        let amiss = Reason { code: "node_unreachable", detail };
        Health::from_reasons(if self.ready { vec![] } else { vec![amiss] })
    }
    async fn devices(&self, filter: Filter) -> Result<Vec<Value>, SourceError> {
        echo("devices", filter)
    }
    async fn readings(&self, filter: Filter) -> Result<Vec<Value>, SourceError> {
        echo("readings", filter)
    }
    async fn batches(&self, filter: Filter) -> Result<Vec<Value>, SourceError> {
        echo("batches", filter)
    }
    async fn lanes(&self, filter: Filter) -> Result<Vec<Value>, SourceError> {
        echo("lanes", filter)
    }
    async fn quarantine(&self, filter: Filter) -> Result<Vec<Value>, SourceError> {
        echo("quarantine", filter)
    }
    async fn proof(&self, device: &str, sequence: u64) -> Result<Option<Value>, SourceError> {
        let found = device == "dock-7" && sequence == 1;
        Ok(found.then(|| json!({"device": device, "sequence": sequence})))
    }
}

struct Answered {
    status: StatusCode,
    headers: actix_web::http::header::HeaderMap,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn ask_with(method: Method, ready: bool, uri: &str) -> Answered {
    let source: Arc<dyn Source> = Arc::new(Echo { ready });
    let app = init_service(App::new().wrap(headers()).configure(configure(source))).await;
    let response = call_service(&app, TestRequest::with_uri(uri).method(method).to_request()).await;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body()).await.unwrap();
    Answered { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

async fn ask(uri: &str) -> Answered {
    ask_with(Method::GET, true, uri).await
}

#[actix_web::test]
async fn metrics_are_prometheus_text() {
    let page = ask("/metrics").await;
    assert_eq!((page.status, page.body.as_str()), (StatusCode::OK, "windlass_connections 3\n"));
    let kind = page.headers.get("content-type").unwrap().to_str().unwrap();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
}

#[actix_web::test]
async fn health_is_200_or_503_and_says_why() {
    let live = ask("/health/live").await;
    assert_eq!((live.status, live.json()), (StatusCode::OK, json!({"ok": true, "reasons": []})));
    assert_eq!(ask("/health/ready").await.status, StatusCode::OK);
    let unready = ask_with(Method::GET, false, "/health/ready").await;
    assert_eq!(unready.status, StatusCode::SERVICE_UNAVAILABLE);
    let reasons = json!([{"code": "node_unreachable", "detail": "connection refused"}]);
    assert_eq!(unready.json(), json!({"ok": false, "reasons": reasons}));
}

#[actix_web::test]
async fn each_listing_is_an_array_from_its_own_source() {
    for listing in ["devices", "readings", "batches", "lanes", "quarantine"] {
        let answer = ask(&format!("/api/v1/{listing}")).await;
        let row = json!({"listing": listing, "limit": 100, "device": null, "after": null});
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!([row])));
    }
}

#[actix_web::test]
async fn a_listing_takes_limit_device_and_cursor() {
    let answer = ask("/api/v1/readings?limit=1000&device=dock-7&after=dock-7%2F41").await;
    let row = json!({"listing": "readings", "limit": 1000, "device": "dock-7", "after": "dock-7/41"});
    assert_eq!(answer.json(), json!([row]));
}

#[actix_web::test]
async fn a_wrong_question_is_refused_as_json() {
    for query in [
        "limit=0".to_owned(),
        "limit=1001".to_owned(),
        "limit=-1".to_owned(),
        "limit=many".to_owned(),
        "colour=red".to_owned(),
        "after=wrong".to_owned(),
        format!("device={}", "x".repeat(65)),
        format!("after={}", "x".repeat(257)),
    ] {
        let answer = ask(&format!("/api/v1/readings?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(answer.json()["error"], "bad_request", "{query}");
        assert!(!answer.json()["detail"].as_str().unwrap().is_empty());
    }
}

#[actix_web::test]
async fn faults_of_the_source_keep_their_details_to_the_log() {
    let later = ask("/api/v1/batches?after=later").await;
    assert_eq!(later.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(later.json(), json!({"error": "unavailable", "detail": "the journal is busy"}));
    let fault = ask("/api/v1/batches?after=fault").await;
    assert_eq!(fault.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!fault.body.contains("secrets"), "{}", fault.body);
}

#[actix_web::test]
async fn a_proof_is_found_or_answered_404() {
    let found = ask("/api/v1/proofs/dock-7/1").await;
    assert_eq!((found.status, found.json()["sequence"].clone()), (StatusCode::OK, json!(1)));
    let absent = ask("/api/v1/proofs/dock-7/2").await;
    assert_eq!((absent.status, absent.json()["error"].clone()), (StatusCode::NOT_FOUND, json!("not_found")));
    assert_eq!(ask("/api/v1/proofs/dock-7/first").await.status, StatusCode::BAD_REQUEST);
}

#[actix_web::test]
async fn unknown_pages_and_methods_are_refused_as_json() {
    let nowhere = ask("/api/v2/readings").await;
    assert_eq!((nowhere.status, nowhere.json()["error"].clone()), (StatusCode::NOT_FOUND, json!("not_found")));
    let post = ask_with(Method::POST, true, "/api/v1/readings").await;
    assert_eq!(post.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(post.headers.get("allow").unwrap(), "GET, HEAD");
    assert_eq!(post.json()["error"], "method_not_allowed");
    assert_eq!(ask_with(Method::HEAD, true, "/health/live").await.status, StatusCode::OK);
}

#[actix_web::test]
async fn every_answer_has_the_security_headers() {
    for uri in ["/metrics", "/health/live", "/api/v1/readings?limit=0", "/nowhere"] {
        let answer = ask(uri).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.headers.get(name).unwrap(), value, "{uri}");
        }
        assert!(answer.headers.contains_key("content-security-policy"), "{uri}");
    }
}
