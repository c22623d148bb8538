use std::sync::Arc;

use actix_web::{
    App,
    body::to_bytes,
    http::{Method, StatusCode, header::HeaderMap},
    test::{TestRequest, init_service},
    web::Data,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::*;
use crate::{
    Config, Role, Token,
    rows::{Batch, Device, Lane, Life, Quarantined, Reading, Status},
    source::{Event, Filter, Health, Order, Page, Reason, SourceError},
};

/// Answers with what it was asked, in the rows' texts; certain cursors make it fail.
struct Echo {
    ready: bool,
}

/// What a row echoes.
fn asked(filter: &Filter) -> String {
    let Filter { limit, device, after, newest, state, settlement, reason, since_ms, until_ms, batch } = filter;
    json!([limit, device, after, newest, state, settlement, reason, since_ms, until_ms, batch]).to_string()
}

fn echo<T>(filter: Filter, row: impl FnOnce(String) -> T) -> Result<Page<T>, SourceError> {
    match filter.after.as_deref() {
        Some("400") => Err(SourceError::Invalid("after is no cursor".into())),
        Some("503") => Err(SourceError::Unavailable("the journal is busy".into())),
        Some("500") => Err(SourceError::Internal("table secrets is gone".into())),
        after => {
            let next = after.is_none().then(|| "17".to_owned());
            Ok(Page { rows: vec![row(asked(&filter))], next })
        }
    }
}

fn a_reading(device: String) -> Reading {
    Reading {
        device,
        epoch: 1,
        sequence: 2,
        observed_at: 3,
        received_at: 4,
        payload: "5".into(),
        state: "accepted".into(),
        settlement: "anchor".into(),
        batch: None,
        tx: None,
        block: None,
        cursor: 6,
    }
}

fn a_batch(account: String) -> Batch {
    Batch {
        batch: 1,
        settlement: "anchor".into(),
        account,
        number: 1,
        root: None,
        head: None,
        count: 1,
        state: "accepted".into(),
        tx: None,
        block: None,
        block_hash: None,
        gas_used: None,
        archive: None,
        log_size: None,
        log_root: None,
        created_at: 1,
    }
}

fn a_device(device: String) -> Device {
    Device {
        device,
        format: "digits".into(),
        settlement: "anchor".into(),
        epoch: 1,
        kind: None,
        key: None,
        custodial: None,
        address: None,
        registered: true,
        revoked: false,
        barcode: None,
        last_sequence: 0,
        last_received_at: None,
    }
}

fn a_refusal(topic: String) -> Quarantined {
    let (payload, state, reason) = ("x".into(), "quarantined".into(), "empty".into());
    Quarantined { id: 1, device: None, topic, payload, state, reason, received_at: 1 }
}

fn a_lane(account: String) -> Lane {
    Lane { account, device: None, next_nonce: 0, open: 0, in_flight: 0, paused: None, balance_wei: None, trouble: None }
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
        let amiss = Reason::new("node_unreachable", "connection refused");
        Health::from_reasons(if self.ready { vec![] } else { vec![amiss] })
    }
    fn status(&self) -> Status {
        Status {
            version: "1".into(),
            chain_id: 31337,
            contract: None,
            explorer: None,
            ready: self.ready,
            reasons: vec![],
            unsettled: 0,
            role: Role::Read,
        }
    }
    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        let (sender, receiver) = broadcast::channel(8);
        sender.send(Arc::new(Event::Readings { count: 1, rows: vec![a_reading("dock-7".into())] })).unwrap();
        receiver
    }
    async fn devices(&self, filter: Filter) -> Result<Page<Device>, SourceError> {
        echo(filter, a_device)
    }
    async fn device(&self, device: &str) -> Result<Option<Device>, SourceError> {
        Ok((device == "dock-7").then(|| a_device(device.into())))
    }
    async fn readings(&self, filter: Filter) -> Result<Page<Reading>, SourceError> {
        echo(filter, a_reading)
    }
    async fn reading(&self, device: &str, sequence: u64) -> Result<Option<Life>, SourceError> {
        let life = Life { reading: a_reading(device.into()), batch: None, transaction: None, signature: None };
        Ok((sequence == 2).then_some(life))
    }
    async fn batches(&self, filter: Filter) -> Result<Page<Batch>, SourceError> {
        echo(filter, a_batch)
    }
    async fn batch(&self, id: u64) -> Result<Option<Batch>, SourceError> {
        Ok((id == 1).then(|| a_batch("0x".into())))
    }
    async fn lanes(&self, filter: Filter) -> Result<Page<Lane>, SourceError> {
        echo(filter, a_lane)
    }
    async fn quarantine(&self, filter: Filter) -> Result<Page<Quarantined>, SourceError> {
        echo(filter, a_refusal)
    }
    async fn quarantined(&self, id: u64) -> Result<Option<Quarantined>, SourceError> {
        Ok((id == 1).then(|| a_refusal("t".into())))
    }
    async fn proof(&self, device: &str, sequence: u64) -> Result<Option<Value>, SourceError> {
        let found = device == "dock-7" && sequence == 1;
        Ok(found.then(|| json!({"device": device, "sequence": sequence})))
    }
    async fn order(&self, order: Order) -> Result<String, SourceError> {
        match order {
            Order::Retry(1) => Err(SourceError::Refused("refused again: empty".into())),
            Order::Retry(id) => Err(SourceError::Unknown(format!("no quarantine row {id}"))),
            other => Ok(format!("{other:?}")),
        }
    }
}

struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// sha256 of "see" and of "do".
fn tokens() -> Vec<Token> {
    let hash = |text: &str| {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(text.as_bytes());
        format!("sha256:{}", digest.iter().map(|b| format!("{b:02x}")).collect::<String>())
    };
    let token = |name: &str, role, text| Token { name: name.into(), role, token: hash(text) };
    vec![token("desk", Role::Read, "see"), token("boss", Role::Operate, "do")]
}

async fn send(config: &Config, ready: bool, request: TestRequest) -> Answered {
    let source: Arc<dyn Source> = Arc::new(Echo { ready });
    let (closing, closed) = watch::channel(false);
    let (access, streams) = (Data::new(Access::new(config)), Data::new(Streams::new(closed)));
    let app = init_service(App::new().wrap(headers()).configure(configure(source, access, streams))).await;
    let request = request.peer_addr("127.0.0.1:50000".parse().unwrap()).to_request();
    let response = match actix_web::test::try_call_service(&app, request).await {
        Ok(response) => response.map_into_boxed_body(),
        Err(error) => {
            let response = error.error_response();
            let (status, headers) = (response.status(), response.headers().clone());
            let body = to_bytes(response.into_body()).await.unwrap();
            return Answered { status, headers, body: String::from_utf8(body.to_vec()).unwrap() };
        }
    };
    let (status, headers) = (response.status(), response.headers().clone());
    closing.send_replace(true);
    let body = to_bytes(response.into_body()).await.unwrap();
    Answered { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

async fn ask_with(method: Method, ready: bool, uri: &str) -> Answered {
    send(&Config::default(), ready, TestRequest::with_uri(uri).method(method)).await
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
async fn each_listing_is_an_array_with_a_link_to_the_rows_that_follow() {
    let plain = "[100,null,null,false,null,null,null,null,null,null]";
    for (listing, place) in [
        ("devices", "device"),
        ("readings", "device"),
        ("batches", "account"),
        ("lanes", "account"),
        ("quarantine", "topic"),
    ] {
        let answer = ask(&format!("/api/v1/{listing}")).await;
        assert_eq!((answer.status, answer.json()[0][place].as_str()), (StatusCode::OK, Some(plain)), "{listing}");
        assert_eq!(answer.headers.get("link").unwrap(), &format!("</api/v1/{listing}?after=17>; rel=\"next\""));
    }
    let last = ask("/api/v1/readings?after=17&limit=5").await;
    assert!(last.headers.get("link").is_none());
    let filtered = ask("/api/v1/readings?limit=5&device=a").await;
    assert_eq!(filtered.headers.get("link").unwrap(), "</api/v1/readings?limit=5&device=a&after=17>; rel=\"next\"");
}

#[actix_web::test]
async fn a_listing_takes_its_filters() {
    let answer = ask(
        "/api/v1/readings?limit=1000&device=dock-7&after=41&order=newest&state=final&settlement=batch&since=5&until=6&batch=7",
    )
    .await;
    let row = "[1000,\"dock-7\",\"41\",true,\"final\",\"batch\",null,5,6,7]";
    assert_eq!(answer.json()[0]["device"], row);
}

#[actix_web::test]
async fn a_wrong_question_is_refused_as_json() {
    for query in [
        "limit=0".to_owned(),
        "limit=1001".to_owned(),
        "limit=-1".to_owned(),
        "limit=many".to_owned(),
        "colour=red".to_owned(),
        "order=random".to_owned(),
        "state=settled".to_owned(),
        "since=-1".to_owned(),
        "after=wrong".to_owned(),
        "after=400".to_owned(),
        "reason=empty".to_owned(),
        "device=".to_owned(),
        "until=9007199254740992".to_owned(),
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
    let later = ask("/api/v1/batches?after=503").await;
    assert_eq!(later.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(later.json(), json!({"error": "unavailable", "detail": "the journal is busy"}));
    let fault = ask("/api/v1/batches?after=500").await;
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

#[actix_web::test]
async fn one_row_is_found_or_answered_404() {
    for (found, absent) in [
        ("devices/dock-7", "devices/dock-8"),
        ("readings/dock-7/2", "readings/dock-7/3"),
        ("batches/1", "batches/2"),
        ("quarantine/1", "quarantine/2"),
    ] {
        assert_eq!(ask(&format!("/api/v1/{found}")).await.status, StatusCode::OK, "{found}");
        assert_eq!(ask(&format!("/api/v1/{absent}")).await.status, StatusCode::NOT_FOUND, "{absent}");
    }
    assert_eq!(ask("/api/v1/batches/one").await.status, StatusCode::BAD_REQUEST);
}

#[actix_web::test]
async fn events_are_told_one_by_one() {
    let answer = ask("/api/v1/events").await;
    assert_eq!(answer.headers.get("content-type").unwrap(), "text/event-stream");
    assert!(answer.body.starts_with(": welcome\n\n"), "{}", answer.body);
}

fn with(token: Option<&str>, method: Method, uri: &str) -> TestRequest {
    let request = TestRequest::with_uri(uri).method(method);
    match token {
        None => request,
        Some(token) => request.insert_header(("Authorization", format!("Bearer {token}"))),
    }
}

#[actix_web::test]
async fn a_token_may_what_its_role_says() {
    let config = Config { tokens: tokens(), ..Config::default() };
    for (token, method, uri, status) in [
        (None, Method::GET, "/api/v1/readings", 401),
        (Some("guess"), Method::GET, "/api/v1/readings", 401),
        (Some("see"), Method::GET, "/api/v1/readings", 200),
        (Some("do"), Method::GET, "/api/v1/readings", 200),
        (Some("see"), Method::POST, "/api/v1/quarantine/1/retry", 403),
        (Some("see"), Method::DELETE, "/api/v1/quarantine/1", 403),
        (Some("do"), Method::POST, "/api/v1/quarantine/1/retry", 409),
        (Some("do"), Method::POST, "/api/v1/quarantine/2/retry", 404),
        (Some("do"), Method::DELETE, "/api/v1/quarantine/1", 200),
        (None, Method::DELETE, "/api/v1/quarantine/1", 401),
        (None, Method::GET, "/metrics", 200),
        (None, Method::GET, "/health/ready", 200),
    ] {
        let answer = send(&config, true, with(token, method, uri)).await;
        assert_eq!(answer.status.as_u16(), status, "{uri} as {token:?}: {}", answer.body);
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
    }
    let role = send(&config, true, with(Some("do"), Method::GET, "/api/v1/status")).await.json()["role"].clone();
    assert_eq!(role, "operate");
    let paused = with(Some("do"), Method::POST, "/api/v1/lanes/pause").set_json(json!({"account": "0x01"}));
    assert_eq!(send(&config, true, paused).await.json(), json!({"done": "Pause(Some(\"0x01\"))"}));
}

#[actix_web::test]
async fn without_tokens_this_machine_may_read_and_nobody_may_order() {
    let config = Config::default();
    for (host, status) in [
        ("localhost:9477", 200),
        ("127.0.0.1:9477", 200),
        ("[::1]:9477", 200),
        ("127.0.0.1", 200),
        ("rebound.example:9477", 403),
        ("", 403),
    ] {
        let request = TestRequest::with_uri("/api/v1/readings").insert_header(("Host", host));
        assert_eq!(send(&config, true, request).await.status.as_u16(), status, "{host:?}");
    }
    let order = send(&config, true, with(None, Method::POST, "/api/v1/quarantine/1/retry")).await;
    assert_eq!(order.status, StatusCode::FORBIDDEN);
    let open = Config { listen: "0.0.0.0:9477".parse().unwrap(), ..Config::default() };
    let refused = send(&open, true, with(None, Method::GET, "/api/v1/readings")).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(refused.body.contains("[[http.tokens]]"), "{}", refused.body);
    assert_eq!(send(&open, true, with(None, Method::GET, "/metrics")).await.status, StatusCode::OK);
}

#[actix_web::test]
async fn the_description_is_the_one_in_the_documents() {
    let written = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let described = serde_json::to_string_pretty(&description()).unwrap() + "\n";
    if std::env::var_os("WINDLASS_WRITE_OPENAPI").is_some() {
        std::fs::write(written, &described).unwrap();
    }
    assert_eq!(std::fs::read_to_string(written).unwrap(), described, "write it anew with WINDLASS_WRITE_OPENAPI=1");
    let page = ask("/api/v1/openapi.json").await;
    assert_eq!(page.json(), serde_json::from_str::<Value>(&described).unwrap());
}
