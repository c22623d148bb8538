//! The API's handlers: what is asked is checked here, and answered by the source.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Json, Path, Query},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Answer, AnySource,
    query::{self, Row},
};
use crate::{
    access::{Operator, Reader},
    answer::{Problem, Refusal},
    rows::{Batch, Device, Lane, Life, Quarantined, Reading, Status},
    source::{Order, Page},
};

/// An order that was carried out.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {
    /// In words.
    done: String,
}

/// Which account an order is for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    /// The account; absent: every submitter.
    #[schema(pattern = "^0x[0-9a-fA-F]{40}$")]
    account: Option<String>,
}

/// A listing's answer: an array, and where the rows that follow are.
fn listing<T: Serialize>(request: &HttpRequest, page: Page<T>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(next) = page.next {
        let kept = request.query_string().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("after="));
        let query: Vec<_> = kept.map(str::to_owned).chain([format!("after={next}")]).collect();
        response.insert_header((header::LINK, format!("<{}?{}>; rel=\"next\"", request.path(), query.join("&"))));
    }
    response.json(page.rows)
}

fn found<T: Serialize>(row: Option<T>, what: impl FnOnce() -> String) -> Answer {
    row.map(|row| HttpResponse::Ok().json(row)).ok_or_else(|| Refusal::not_found(what()))
}

/// What the gateway is and how it stands.
#[utoipa::path(get, path = "/api/v1/status", tag = "status", security(("token" = [])), responses(
    (status = 200, body = Status), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 429, body = Problem),
))]
pub(super) async fn status(Reader(role): Reader, source: AnySource) -> HttpResponse {
    HttpResponse::Ok().json(Status { role, ..source.status() })
}

/// Devices, in the order in which they were first configured.
#[utoipa::path(get, path = "/api/v1/devices", tag = "devices", params(query::Devices), security(("token" = [])), responses(
    (status = 200, body = [Device], headers(("Link" = String, description = "rel=\"next\": the rows that follow"))),
    (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 429, body = Problem),
))]
pub(super) async fn devices(
    _: Reader,
    request: HttpRequest,
    source: AnySource,
    asked: Query<query::Devices>,
) -> Answer {
    Ok(listing(&request, source.devices(asked.into_inner().filter()).await?))
}

/// One device.
#[utoipa::path(get, path = "/api/v1/devices/{device}", tag = "devices", security(("token" = [])),
    params(("device" = String, Path, description = "its id")),
    responses((status = 200, body = Device), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 429, body = Problem)))]
pub(super) async fn device(_: Reader, source: AnySource, device: Path<String>) -> Answer {
    found(source.device(&device).await?, || format!("no device {device:?}"))
}

/// Readings, in the order of their arrival.
#[utoipa::path(get, path = "/api/v1/readings", tag = "readings", params(query::Readings), security(("token" = [])), responses(
    (status = 200, body = [Reading], headers(("Link" = String, description = "rel=\"next\": the rows that follow"))),
    (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 429, body = Problem),
))]
pub(super) async fn readings(
    _: Reader,
    request: HttpRequest,
    source: AnySource,
    asked: Query<query::Readings>,
) -> Answer {
    Ok(listing(&request, source.readings(asked.into_inner().filter()).await?))
}

/// One reading with all that became of it.
#[utoipa::path(get, path = "/api/v1/readings/{device}/{sequence}", tag = "readings", security(("token" = [])),
    params(("device" = String, Path, description = "who read it"), ("sequence" = u64, Path, description = "its number")),
    responses((status = 200, body = Life), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 429, body = Problem)))]
pub(super) async fn reading(_: Reader, source: AnySource, path: Path<(String, u64)>) -> Answer {
    let (device, sequence) = path.into_inner();
    found(source.reading(&device, sequence).await?, || format!("no reading {sequence} of device {device:?}"))
}

/// Batches, in the order in which they were built.
#[utoipa::path(get, path = "/api/v1/batches", tag = "batches", params(query::Batches), security(("token" = [])), responses(
    (status = 200, body = [Batch], headers(("Link" = String, description = "rel=\"next\": the rows that follow"))),
    (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 429, body = Problem),
))]
pub(super) async fn batches(
    _: Reader,
    request: HttpRequest,
    source: AnySource,
    asked: Query<query::Batches>,
) -> Answer {
    Ok(listing(&request, source.batches(asked.into_inner().filter()).await?))
}

/// One batch.
#[utoipa::path(get, path = "/api/v1/batches/{batch}", tag = "batches", security(("token" = [])),
    params(("batch" = u64, Path, description = "its number in the journal", maximum = 9007199254740991_u64)),
    responses((status = 200, body = Batch), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 429, body = Problem)))]
pub(super) async fn batch(_: Reader, source: AnySource, id: Path<Row>) -> Answer {
    found(source.batch(id.get()?).await?, || "no such batch".into())
}

/// Accounts that send transactions.
#[utoipa::path(get, path = "/api/v1/lanes", tag = "lanes", params(query::Lanes), security(("token" = [])), responses(
    (status = 200, body = [Lane]), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 429, body = Problem),
))]
pub(super) async fn lanes(_: Reader, request: HttpRequest, source: AnySource, asked: Query<query::Lanes>) -> Answer {
    Ok(listing(&request, source.lanes(asked.into_inner().filter()).await?))
}

/// Refused input that was kept, in the order of its arrival.
#[utoipa::path(get, path = "/api/v1/quarantine", tag = "quarantine", params(query::Quarantine), security(("token" = [])), responses(
    (status = 200, body = [Quarantined], headers(("Link" = String, description = "rel=\"next\": the rows that follow"))),
    (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 429, body = Problem),
))]
pub(super) async fn quarantine(
    _: Reader,
    request: HttpRequest,
    source: AnySource,
    asked: Query<query::Quarantine>,
) -> Answer {
    Ok(listing(&request, source.quarantine(asked.into_inner().filter()).await?))
}

/// One refused input.
#[utoipa::path(get, path = "/api/v1/quarantine/{id}", tag = "quarantine", security(("token" = [])),
    params(("id" = u64, Path, description = "its row", maximum = 9007199254740991_u64)),
    responses((status = 200, body = Quarantined), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 429, body = Problem)))]
pub(super) async fn quarantined(_: Reader, source: AnySource, id: Path<Row>) -> Answer {
    found(source.quarantined(id.get()?).await?, || "no such quarantine row".into())
}

/// The proof of one reading, a file as docs/proofs.md describes it.
#[utoipa::path(get, path = "/api/v1/proofs/{device}/{sequence}", tag = "proofs", security(("token" = [])),
    params(("device" = String, Path, description = "who read it"), ("sequence" = u64, Path, description = "its number")),
    responses((status = 200, body = Object, description = "docs/proof.schema.json"), (status = 400, body = Problem),
    (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn proof(_: Reader, source: AnySource, path: Path<(String, u64)>) -> Answer {
    let (device, sequence) = path.into_inner();
    found(source.proof(&device, sequence).await?, || format!("no reading {sequence} of device {device:?}"))
}

/// Has a refused input judged again, as if published now. Taken, it is a reading and no quarantine row any more.
#[utoipa::path(post, path = "/api/v1/quarantine/{id}/retry", tag = "quarantine", security(("token" = [])),
    params(("id" = u64, Path, description = "its row", maximum = 9007199254740991_u64)),
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
    (status = 429, body = Problem)))]
pub(super) async fn retry(_: Operator, source: AnySource, id: Path<Row>) -> Answer {
    done(&source, Order::Retry(id.get()?)).await
}

/// Removes a refused input for good.
#[utoipa::path(delete, path = "/api/v1/quarantine/{id}", tag = "quarantine", security(("token" = [])),
    params(("id" = u64, Path, description = "its row", maximum = 9007199254740991_u64)),
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 429, body = Problem)))]
pub(super) async fn drop_row(_: Operator, source: AnySource, id: Path<Row>) -> Answer {
    done(&source, Order::Drop(id.get()?)).await
}

/// Starts nothing new from an account, or from any submitter. Outlives a restart.
#[utoipa::path(post, path = "/api/v1/lanes/pause", tag = "lanes", security(("token" = [])), request_body = Account,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 409, body = Problem), (status = 429, body = Problem)))]
pub(super) async fn pause(_: Operator, source: AnySource, account: Json<Account>) -> Answer {
    done(&source, Order::Pause(account.into_inner().account)).await
}

/// Ends a pause.
#[utoipa::path(post, path = "/api/v1/lanes/resume", tag = "lanes", security(("token" = [])), request_body = Account,
    responses((status = 200, body = Done), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 409, body = Problem), (status = 429, body = Problem)))]
pub(super) async fn resume(_: Operator, source: AnySource, account: Json<Account>) -> Answer {
    done(&source, Order::Resume(account.into_inner().account)).await
}

async fn done(source: &AnySource, order: Order) -> Answer {
    Ok(HttpResponse::Ok().json(Done { done: source.order(order).await? }))
}
