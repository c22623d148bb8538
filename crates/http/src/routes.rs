//! Routes, what may be asked of them, and the headers of every answer.

mod api;
mod events;
mod page;
mod query;

use std::sync::Arc;

use actix_web::{
    HttpResponse, Resource, guard,
    http::header,
    middleware::{DefaultHeaders, from_fn},
    web::{self, Data, PathConfig, QueryConfig, ServiceConfig},
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use crate::{
    access::{self, Access},
    answer::{Problem, Refusal, health},
    rows,
    source::{self, Source},
};

pub(crate) use events::Streams;

/// Source: the Prometheus exposition format, text version.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type AnySource = Data<dyn Source>;
type Answer = Result<HttpResponse, Refusal>;

/// The API's description, made from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Windlass",
        description = "What a gateway knows: devices, readings, batches, lanes, quarantine, proofs. Times are unix \
            milliseconds. Listings answer an array; a Link header with rel=\"next\" leads to the rows that follow.",
    ),
    paths(
        metrics, live, ready,
        api::status, api::devices, api::device, api::readings, api::reading, api::batches, api::batch, api::lanes,
        api::quarantine, api::quarantined, api::proof, api::retry, api::drop_row, api::pause, api::resume,
        events::events, openapi,
    ),
    components(schemas(
        rows::Device, rows::Reading, rows::Batch, rows::Lane, rows::Quarantined, rows::Transaction, rows::Life,
        rows::Status, source::Health, source::Reason, source::Event, crate::Role, Problem, api::Done, api::Account,
    )),
    modifiers(&Bearer),
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of [[http.tokens]]. Without any the API answers on loopback, for reading only."))
            .build();
        if let Some(components) = openapi.components.as_mut() {
            components.add_security_scheme("token", SecurityScheme::Http(scheme));
        }
    }
}

/// The description of the API, OpenAPI 3.1.
pub fn description() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// All routes over `source`.
pub(crate) fn configure(
    source: Arc<dyn Source>,
    access: Data<Access>,
    streams: Data<Streams>,
) -> impl FnOnce(&mut ServiceConfig) {
    move |service| {
        let api = web::scope("/api/v1")
            .wrap(from_fn(access::limit))
            .service(get("/status", api::status))
            .service(get("/devices", api::devices))
            .service(get("/devices/{device}", api::device))
            .service(get("/readings", api::readings))
            .service(get("/readings/{device}/{sequence}", api::reading))
            .service(get("/batches", api::batches))
            .service(get("/batches/{batch}", api::batch))
            .service(get("/lanes", api::lanes))
            .service(post("/lanes/pause", api::pause))
            .service(post("/lanes/resume", api::resume))
            .service(get("/quarantine", api::quarantine))
            .service(post("/quarantine/{id}/retry", api::retry))
            .service(
                web::resource("/quarantine/{id}")
                    .route(reads().to(api::quarantined))
                    .route(web::delete().to(api::drop_row))
                    .default_service(web::to(|| async { refused("GET, HEAD, DELETE") })),
            )
            .service(get("/proofs/{device}/{sequence}", api::proof))
            .service(get("/events", events::events))
            .service(get("/openapi.json", openapi))
            .default_service(web::to(no_such_page));
        service
            .app_data(Data::from(source))
            .app_data(access)
            .app_data(streams)
            .app_data(QueryConfig::default().error_handler(|error, _| Refusal::bad_request(error.to_string()).into()))
            .app_data(PathConfig::default().error_handler(|error, _| Refusal::bad_request(error.to_string()).into()))
            .app_data(
                web::JsonConfig::default()
                    .limit(4_096)
                    .error_handler(|error, _| Refusal::bad_request(error.to_string()).into()),
            )
            .service(get("/metrics", metrics))
            .service(get("/health/live", live))
            .service(get("/health/ready", ready))
            .service(api)
            .configure(page::configure)
            .default_service(web::to(no_such_page));
    }
}

/// Headers of every answer. Data is not to be run, framed or kept by a browser; the page sets its own policy.
pub(crate) fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::X_FRAME_OPTIONS, "DENY"))
        .add((header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add(("Cross-Origin-Resource-Policy", "same-origin"))
        .add(("Cross-Origin-Opener-Policy", "same-origin"))
        .add((header::CACHE_CONTROL, "no-store"))
}

fn reads() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// A page that answers GET and HEAD and refuses every other method.
fn get<H, Args>(path: &str, handler: H) -> Resource
where
    H: actix_web::Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    H::Output: actix_web::Responder + 'static,
{
    web::resource(path).route(reads().to(handler)).default_service(web::to(|| async { refused("GET, HEAD") }))
}

/// An order: it answers POST only.
fn post<H, Args>(path: &str, handler: H) -> Resource
where
    H: actix_web::Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    H::Output: actix_web::Responder + 'static,
{
    web::resource(path).route(web::post().to(handler)).default_service(web::to(|| async { refused("POST") }))
}

fn refused(allow: &'static str) -> Answer {
    Err(Refusal::method_not_allowed(allow))
}

/// Metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics(source: AnySource) -> HttpResponse {
    HttpResponse::Ok().content_type(METRICS_TYPE).body(source.metrics())
}

/// Whether the process works at all.
#[utoipa::path(get, path = "/health/live", tag = "operation", responses(
    (status = 200, body = source::Health), (status = 503, body = source::Health),
))]
async fn live(source: AnySource) -> HttpResponse {
    health(&source.live())
}

/// Whether the service does its whole work now, settling included.
#[utoipa::path(get, path = "/health/ready", tag = "operation", responses(
    (status = 200, body = source::Health), (status = 503, body = source::Health),
))]
async fn ready(source: AnySource) -> HttpResponse {
    health(&source.ready())
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "operation", responses((status = 200, body = Object)))]
async fn openapi() -> HttpResponse {
    HttpResponse::Ok().json(description())
}

async fn no_such_page() -> Answer {
    Err(Refusal::not_found("no such page"))
}

#[cfg(test)]
mod tests;
