//! What the HTTP surface shows, and the orders that it takes.

use std::sync::{Arc, Mutex};

use actix::Addr;
use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::broadcast;
use windlass_broker::RouterHealth;
use windlass_chain::{ChainActor, Nodes, Obey, Standing};
use windlass_http::{
    Event, Filter, Health, Order, Page, Reason, Role, Source, SourceError,
    rows::{Batch, Device, Lane, Life, Quarantined, Reading, Status},
};
use windlass_journal::{Error, Listing, Sqlite, State};
use windlass_reading::{DeviceId, Settlement};
use windlass_telemetry::Recorder;

use super::{
    process,
    warden::{Unmoved, Warden},
};
use crate::{config::Config, deployment, prove::Prover, rows};

pub(super) struct Surface {
    pub(super) config: Config,
    pub(super) journal: Sqlite,
    pub(super) standing: Arc<Mutex<Standing>>,
    pub(super) nodes: Arc<Nodes>,
    pub(super) router: RouterHealth,
    pub(super) recorder: Recorder,
    pub(super) events: broadcast::Sender<Arc<Event>>,
    pub(super) warden: Warden,
    pub(super) chain: Addr<ChainActor>,
}

impl Surface {
    fn standing(&self) -> Standing {
        self.standing.lock().map(|s| s.clone()).unwrap_or_default()
    }

    async fn obey(&self, order: windlass_chain::Order) -> Result<String, SourceError> {
        match self.chain.send(Obey(order)).await {
            Ok(said) => said.map_err(SourceError::Refused),
            Err(error) => Err(SourceError::Unavailable(format!("the chain side does not answer: {error}"))),
        }
    }
}

fn failed(error: Error) -> SourceError {
    SourceError::Internal(Box::new(error))
}

fn liveness(router_up: bool) -> Health {
    let detail = "no messages reach users: the MQTT router ended or hangs, and is replaced; readings are acknowledged";
    let router = (!router_up).then(|| Reason::new("router", detail));
    Health::from_reasons(router.into_iter().collect())
}

/// What keeps the service from its whole work.
pub(super) fn readiness(standing: Standing, journal: &Sqlite) -> Vec<Reason> {
    let mut reasons: Vec<_> =
        standing.problems.into_iter().map(|problem| Reason::new(problem.code, problem.detail)).collect();
    if standing.rounds == 0 {
        reasons.push(Reason::new("starting", "the chain side has not looked at the node yet"));
    }
    if !journal.healthy() {
        let detail = "the last journal commit failed; nothing is acknowledged until one succeeds";
        reasons.push(Reason::new("journal", detail));
    }
    if journal.is_full() {
        let detail = "journal.max_unsettled readings are not mined; no more are taken until some are";
        reasons.push(Reason::new("backlog", detail));
    }
    reasons
}

/// The API's filter in the journal's terms. One row more than asked is read, to know whether others follow.
fn filter(filter: &Filter) -> Result<windlass_journal::Filter, SourceError> {
    let invalid = |text: String| SourceError::Invalid(text);
    let device = filter.device.as_ref().map(|d| DeviceId::new(d).map_err(|e| invalid(e.to_string()))).transpose()?;
    let after = filter
        .after
        .as_ref()
        .map(|a| a.parse().map_err(|_| invalid(format!("after: {a:?} is not a row number"))))
        .transpose()?;
    let settlement = |name: &String| Settlement::ALL.into_iter().find(|s| s.as_str() == name);
    Ok(windlass_journal::Filter {
        device,
        after,
        since_ms: filter.since_ms,
        until_ms: filter.until_ms,
        state: filter.state.as_ref().and_then(|name| State::named(name)),
        settlement: filter.settlement.as_ref().and_then(settlement),
        reason: filter.reason.clone(),
        batch: filter.batch,
        newest: filter.newest,
        limit: Some(filter.limit as u64 + 1),
    })
}

/// The page of at most `limit` rows; `cursor` is what the next one starts after.
fn page<R, T>(mut found: Vec<R>, limit: usize, cursor: fn(&R) -> u64, row: fn(&R) -> T) -> Page<T> {
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| cursor(last).to_string());
    Page { rows: found.iter().map(row).collect(), next }
}

#[async_trait]
impl Source for Surface {
    fn metrics(&self) -> String {
        self.recorder.render() + &process::page()
    }

    fn live(&self) -> Health {
        liveness(self.router.is_up())
    }

    fn ready(&self) -> Health {
        Health::from_reasons(readiness(self.standing(), &self.journal))
    }

    fn status(&self) -> Status {
        let Health { ok, reasons } = self.ready();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            chain_id: self.config.chain.chain_id,
            contract: deployment::contract(&self.config).map(|address| address.to_string()),
            explorer: self.config.http.explorer.as_ref().map(|url| url.trim_end_matches('/').to_owned()),
            ready: ok,
            reasons,
            unsettled: self.journal.unsettled_count(),
            role: Role::default(),
        }
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    async fn devices(&self, wanted: Filter) -> Result<Page<Device>, SourceError> {
        let found = self.journal.device_listing(filter(&wanted)?).await.map_err(failed)?;
        Ok(page(found, wanted.limit, |d| d.id, rows::device))
    }

    async fn device(&self, device: &str) -> Result<Option<Device>, SourceError> {
        let Ok(device) = DeviceId::new(device) else { return Ok(None) };
        let only = windlass_journal::Filter { device: Some(device), ..windlass_journal::Filter::default() };
        Ok(self.journal.device_listing(only).await.map_err(failed)?.first().map(rows::device))
    }

    async fn readings(&self, wanted: Filter) -> Result<Page<Reading>, SourceError> {
        let found = self.journal.readings(filter(&wanted)?).await.map_err(failed)?;
        Ok(page(found, wanted.limit, |r| r.arrival, rows::reading))
    }

    async fn reading(&self, device: &str, sequence: u64) -> Result<Option<Life>, SourceError> {
        let Ok(device) = DeviceId::new(device) else { return Ok(None) };
        let Some(row) = self.journal.reading(device, sequence).await.map_err(failed)? else { return Ok(None) };
        let (batch, transaction) = match row.batch {
            None => (None, None),
            Some(id) => {
                (self.journal.batch(id).await.map_err(failed)?, self.journal.transaction_of(id).await.map_err(failed)?)
            }
        };
        Ok(Some(Life {
            reading: rows::reading(&row),
            batch: batch.as_ref().map(rows::batch),
            transaction: transaction.as_ref().map(rows::transaction),
            signature: row.signature.map(|bytes| bytes.to_string()),
        }))
    }

    async fn batches(&self, wanted: Filter) -> Result<Page<Batch>, SourceError> {
        let found = self.journal.batches(filter(&wanted)?).await.map_err(failed)?;
        Ok(page(found, wanted.limit, |b| b.id, rows::batch))
    }

    async fn batch(&self, id: u64) -> Result<Option<Batch>, SourceError> {
        Ok(self.journal.batch(id).await.map_err(failed)?.as_ref().map(rows::batch))
    }

    async fn lanes(&self, wanted: Filter) -> Result<Page<Lane>, SourceError> {
        let lanes = self.standing().lanes;
        let passed = match &wanted.after {
            None => 0,
            Some(after) => lanes
                .iter()
                .position(|lane| lane.account.to_string().eq_ignore_ascii_case(after))
                .map(|place| place + 1)
                .ok_or_else(|| SourceError::Unknown(format!("{after} is no account of a lane")))?,
        };
        let of_device = |lane: &&windlass_chain::LaneStanding| {
            wanted.device.as_ref().is_none_or(|d| lane.device.as_ref().is_some_and(|own| own.as_str() == d))
        };
        let mut found: Vec<_> = lanes.iter().skip(passed).filter(of_device).map(rows::lane).collect();
        let more = found.len() > wanted.limit;
        found.truncate(wanted.limit);
        Ok(Page { next: found.last().filter(|_| more).map(|lane| lane.account.clone()), rows: found })
    }

    async fn quarantine(&self, wanted: Filter) -> Result<Page<Quarantined>, SourceError> {
        let found = self.journal.quarantined(filter(&wanted)?).await.map_err(failed)?;
        Ok(page(found, wanted.limit, |q| q.id, rows::quarantine))
    }

    async fn quarantined(&self, id: u64) -> Result<Option<Quarantined>, SourceError> {
        Ok(self.journal.quarantine_row(id).await.map_err(failed)?.as_ref().map(rows::quarantine))
    }

    async fn proof(&self, device: &str, sequence: u64) -> Result<Option<Value>, SourceError> {
        let Ok(device) = DeviceId::new(device) else { return Ok(None) };
        let prover = Prover {
            journal: &self.journal,
            nodes: Some(&self.nodes),
            chain_id: self.config.chain.chain_id,
            contract: deployment::contract(&self.config),
        };
        let file = prover.prove(&device, sequence).await.map_err(|e| SourceError::Unavailable(format!("{e:#}")))?;
        file.map(|f| serde_json::to_value(f).map_err(|e| SourceError::Internal(Box::new(e)))).transpose()
    }

    async fn order(&self, order: Order) -> Result<String, SourceError> {
        let account = |text: Option<String>| {
            text.map(|t| t.parse().map_err(|_| SourceError::Invalid(format!("{t:?} is no account")))).transpose()
        };
        let moved = match order {
            Order::Retry(id) => self.warden.retry(id).await,
            Order::Drop(id) => self.warden.drop_row(id).await,
            Order::Pause(of) => return self.obey(windlass_chain::Order::Pause(account(of)?)).await,
            Order::Resume(of) => return self.obey(windlass_chain::Order::Resume(account(of)?)).await,
        };
        moved.map_err(|error| match error {
            Unmoved::Unknown(_) => SourceError::Unknown(error.to_string()),
            Unmoved::Refused(text) => SourceError::Refused(text),
            Unmoved::Journal(error) => failed(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_that_forwards_nothing_is_not_live() {
        assert_eq!(liveness(true), Health::good());
        let health = liveness(false);
        assert_eq!((health.ok, health.reasons.iter().map(|r| r.code.as_str()).collect()), (false, vec!["router"]));
    }

    #[test]
    fn a_page_says_where_the_next_one_starts_only_when_there_is_one() {
        let of = |found: Vec<u64>, limit| page(found, limit, |n| *n, |n| *n);
        assert_eq!(of(vec![1, 2, 3], 2), Page { rows: vec![1, 2], next: Some("2".into()) });
        assert_eq!(of(vec![1, 2], 2), Page { rows: vec![1, 2], next: None });
        assert_eq!(of(vec![], 2), Page { rows: vec![], next: None });
    }
}
