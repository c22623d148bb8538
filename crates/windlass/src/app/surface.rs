//! What the HTTP surface shows.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::Value;
use windlass_broker::RouterHealth;
use windlass_chain::{Nodes, Standing};
use windlass_http::{Filter, Health, Reason, Source, SourceError};
use windlass_journal::{Error, Ledger, Listing, Sqlite};
use windlass_reading::DeviceId;
use windlass_telemetry::Recorder;

use crate::{config::Config, deployment, prove::Prover, rows};

pub(super) struct Surface {
    pub(super) config: Config,
    pub(super) journal: Sqlite,
    pub(super) standing: Arc<Mutex<Standing>>,
    pub(super) nodes: Arc<Nodes>,
    pub(super) router: RouterHealth,
    pub(super) recorder: Recorder,
}

impl Surface {
    fn standing(&self) -> Standing {
        self.standing.lock().map(|s| s.clone()).unwrap_or_default()
    }
}

fn failed(error: Error) -> SourceError {
    SourceError::Internal(Box::new(error))
}

fn liveness(router_up: bool) -> Health {
    let detail = "no messages reach users: the MQTT router ended or hangs, and is replaced; readings are acknowledged";
    let router = (!router_up).then(|| Reason { code: "router", detail: detail.into() });
    Health::from_reasons(router.into_iter().collect())
}

/// The API's filter in the journal's terms.
fn filter(filter: Filter) -> Result<windlass_journal::Filter, SourceError> {
    let device =
        filter.device.map(|d| DeviceId::new(&d).map_err(|e| SourceError::Invalid(e.to_string()))).transpose()?;
    let after = filter
        .after
        .map(|a| a.parse().map_err(|_| SourceError::Invalid(format!("after: {a:?} is not a row number"))))
        .transpose()?;
    Ok(windlass_journal::Filter { device, after, since_ms: None, limit: Some(filter.limit as u64) })
}

#[async_trait]
impl Source for Surface {
    fn metrics(&self) -> String {
        self.recorder.render()
    }

    fn live(&self) -> Health {
        liveness(self.router.is_up())
    }

    fn ready(&self) -> Health {
        let standing = self.standing();
        let mut reasons: Vec<_> = standing
            .problems
            .into_iter()
            .map(|problem| Reason { code: problem.code, detail: problem.detail })
            .collect();
        if standing.rounds == 0 {
            reasons.push(Reason { code: "starting", detail: "the chain side has not looked at the node yet".into() });
        }
        if !self.journal.healthy() {
            let detail = "the last journal commit failed; nothing is acknowledged until one succeeds".into();
            reasons.push(Reason { code: "journal", detail });
        }
        if self.journal.is_full() {
            let detail = "journal.max_unsettled readings are not mined; no more are taken until some are".into();
            reasons.push(Reason { code: "backlog", detail });
        }
        Health::from_reasons(reasons)
    }

    async fn devices(&self, filter: Filter) -> Result<Vec<Value>, SourceError> {
        let mut devices = self.journal.devices().await.map_err(failed)?;
        if let Some(after) = &filter.after {
            let passed = devices.iter().position(|d| d.device.as_str() == after).map_or(0, |i| i + 1);
            devices.drain(..passed);
        }
        devices.retain(|d| filter.device.as_ref().is_none_or(|wanted| d.device.as_str() == wanted));
        devices.truncate(filter.limit);
        Ok(devices.iter().map(rows::device).collect())
    }

    async fn readings(&self, wanted: Filter) -> Result<Vec<Value>, SourceError> {
        let readings = self.journal.readings(filter(wanted)?).await.map_err(failed)?;
        Ok(readings
            .iter()
            .map(|row| {
                let mut value = rows::reading(row);
                if let Some(object) = value.as_object_mut() {
                    object.insert("cursor".into(), row.arrival.into());
                }
                value
            })
            .collect())
    }

    async fn batches(&self, wanted: Filter) -> Result<Vec<Value>, SourceError> {
        let batches = self.journal.batches(filter(wanted)?).await.map_err(failed)?;
        Ok(batches.iter().map(rows::batch).collect())
    }

    async fn lanes(&self, wanted: Filter) -> Result<Vec<Value>, SourceError> {
        let lanes = self.standing().lanes;
        Ok(lanes
            .iter()
            .filter(|lane| {
                wanted.device.as_ref().is_none_or(|d| lane.device.as_ref().is_some_and(|own| own.as_str() == d))
            })
            .take(wanted.limit)
            .map(rows::lane)
            .collect())
    }

    async fn quarantine(&self, wanted: Filter) -> Result<Vec<Value>, SourceError> {
        let rows = self.journal.quarantined(filter(wanted)?).await.map_err(failed)?;
        Ok(rows.iter().map(rows::quarantine).collect())
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_that_forwards_nothing_is_not_live() {
        assert_eq!(liveness(true), Health::good());
        let health = liveness(false);
        assert_eq!((health.ok, health.reasons.iter().map(|r| r.code).collect()), (false, vec!["router"]));
    }
}
