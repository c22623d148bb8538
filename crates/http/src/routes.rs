//! Routes and the limits of what may be asked.

use std::sync::Arc;

use actix_web::{
    HttpResponse, Resource, guard,
    http::header,
    middleware::DefaultHeaders,
    web::{self, Data, Path, PathConfig, Query, QueryConfig, ServiceConfig},
};
use serde::Deserialize;

use crate::{
    answer::{Refusal, health},
    source::{Filter, Source},
};

/// Rows of a listing when nothing is asked, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// Longest device id (the rule of the readings crate) and cursor, in bytes.
const MAX_DEVICE_BYTES: usize = 64;
const MAX_CURSOR_BYTES: usize = 256;
/// Source: the Prometheus exposition format, text version.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type AnySource = Data<dyn Source>;
type Answer = Result<HttpResponse, Refusal>;

/// The query of a listing as it comes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    limit: Option<usize>,
    device: Option<String>,
    after: Option<String>,
}

impl Asked {
    fn filter(self) -> Result<Filter, Refusal> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Refusal::bad_request(format!("limit is 1 to {MAX_LIMIT}, not {limit}")));
        }
        if self.device.as_ref().is_some_and(|device| device.len() > MAX_DEVICE_BYTES) {
            return Err(Refusal::bad_request(format!("device is at most {MAX_DEVICE_BYTES} bytes")));
        }
        if self.after.as_ref().is_some_and(|after| after.len() > MAX_CURSOR_BYTES) {
            return Err(Refusal::bad_request(format!("after is at most {MAX_CURSOR_BYTES} bytes")));
        }
        Ok(Filter { limit, device: self.device, after: self.after })
    }
}

/// All routes over `source`.
pub(crate) fn configure(source: Arc<dyn Source>) -> impl FnOnce(&mut ServiceConfig) {
    move |service| {
        service
            .app_data(Data::from(source))
            .app_data(QueryConfig::default().error_handler(|error, _| Refusal::bad_request(error.to_string()).into()))
            .app_data(PathConfig::default().error_handler(|error, _| Refusal::bad_request(error.to_string()).into()))
            .service(get("/metrics", metrics))
            .service(get("/health/live", live))
            .service(get("/health/ready", ready))
            .service(get("/api/v1/devices", devices))
            .service(get("/api/v1/readings", readings))
            .service(get("/api/v1/batches", batches))
            .service(get("/api/v1/lanes", lanes))
            .service(get("/api/v1/quarantine", quarantine))
            .service(get("/api/v1/proofs/{device}/{sequence}", proof))
            .default_service(web::to(no_such_page));
    }
}

/// Headers of every answer. The surface serves data only: a browser is to run, frame and keep none of it.
pub(crate) fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::X_FRAME_OPTIONS, "DENY"))
        .add((header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add(("Cross-Origin-Resource-Policy", "same-origin"))
        .add((header::CACHE_CONTROL, "no-store"))
}

/// A page that answers GET and HEAD and refuses every other method.
fn get<H, Args>(path: &str, handler: H) -> Resource
where
    H: actix_web::Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    H::Output: actix_web::Responder + 'static,
{
    let reads = guard::Any(guard::Get()).or(guard::Head());
    web::resource(path).route(web::route().guard(reads).to(handler)).default_service(web::to(wrong_method))
}

async fn metrics(source: AnySource) -> HttpResponse {
    HttpResponse::Ok().content_type(METRICS_TYPE).body(source.metrics())
}

async fn live(source: AnySource) -> HttpResponse {
    health(&source.live())
}

async fn ready(source: AnySource) -> HttpResponse {
    health(&source.ready())
}

async fn devices(source: AnySource, asked: Query<Asked>) -> Answer {
    let rows = source.devices(asked.into_inner().filter()?).await?;
    Ok(HttpResponse::Ok().json(rows))
}

async fn readings(source: AnySource, asked: Query<Asked>) -> Answer {
    let rows = source.readings(asked.into_inner().filter()?).await?;
    Ok(HttpResponse::Ok().json(rows))
}

async fn batches(source: AnySource, asked: Query<Asked>) -> Answer {
    let rows = source.batches(asked.into_inner().filter()?).await?;
    Ok(HttpResponse::Ok().json(rows))
}

async fn lanes(source: AnySource, asked: Query<Asked>) -> Answer {
    let rows = source.lanes(asked.into_inner().filter()?).await?;
    Ok(HttpResponse::Ok().json(rows))
}

async fn quarantine(source: AnySource, asked: Query<Asked>) -> Answer {
    let rows = source.quarantine(asked.into_inner().filter()?).await?;
    Ok(HttpResponse::Ok().json(rows))
}

async fn proof(source: AnySource, path: Path<(String, u64)>) -> Answer {
    let (device, sequence) = path.into_inner();
    match source.proof(&device, sequence).await? {
        Some(proof) => Ok(HttpResponse::Ok().json(proof)),
        None => Err(Refusal::not_found(format!("no reading {sequence} of device {device:?}"))),
    }
}

async fn wrong_method() -> Answer {
    Err(Refusal::method_not_allowed())
}

async fn no_such_page() -> Answer {
    Err(Refusal::not_found("no such page"))
}

#[cfg(test)]
mod tests;
