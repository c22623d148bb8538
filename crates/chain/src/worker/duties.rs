//! What settling needs beforehand: money, and each direct device's own contract.

use std::{collections::hash_map::Entry, time::Duration};

use alloy::primitives::{Address, Bytes, TxKind, U256};
use tokio::time::Instant;
use windlass_contract::BARCODE_CREATION_CODE;
use windlass_journal::{DeviceRow, Kind, Span};
use windlass_reading::{DeviceId, Settlement};

use super::{HoldOff, Worker, now_ms};
use crate::{
    Error,
    lane::{Lane, Request, Signer, TRANSFER_GAS},
    metrics,
};

/// Balances are asked for again after this.
const BALANCE_INTERVAL: Duration = Duration::from_secs(15);
/// `Barcode` takes 134,614 gas to deploy.
const DEPLOY_BARCODE_GAS: u64 = 600_000;
/// First and longest pause of a device whose runs are skipped.
const HOLD_OFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

impl Worker {
    pub(super) async fn duties(&mut self) -> Result<(), Error> {
        self.check_submitter_balances().await?;
        self.revoke().await?;
        self.register().await?;
        self.rotate().await?;
        self.prepare_direct().await
    }

    async fn check_submitter_balances(&mut self) -> Result<(), Error> {
        let mut poorest: Option<U256> = None;
        for account in self.submitters.clone() {
            let balance = self.balance(account).await?;
            poorest = Some(poorest.map_or(balance, |p| p.min(balance)));
        }
        let poorest = poorest.unwrap_or_default();
        let ether = |wei: U256| wei.to_string().parse::<f64>().unwrap_or(0.0) / 1e18;
        // The runway follows what left the account since the first look of this process.
        let (since, first) = *self.last_spent.get_or_insert((Instant::now(), poorest));
        let hours = since.elapsed().as_secs_f64() / 3_600.0;
        let spent = ether(first.saturating_sub(poorest));
        let runway = if spent > 0.0 && hours > 0.0 { ether(poorest) / (spent / hours) } else { f64::INFINITY };
        metrics::balance(ether(poorest), runway);
        Ok(())
    }

    /// The account's balance, asked for at most every few seconds.
    async fn balance(&mut self, account: Address) -> Result<U256, Error> {
        if let Some(lane) = self.lanes.get(&account)
            && let (Some(balance), Some(at)) = (lane.balance_wei, lane.balance_checked)
            && at.elapsed() < BALANCE_INTERVAL
            && lane.is_solvent()
        {
            return Ok(balance);
        }
        let balance = self.nodes.balance(account).await?;
        if let Some(lane) = self.lanes.get_mut(&account) {
            lane.balance_wei = Some(balance);
            lane.balance_checked = Some(Instant::now());
        }
        Ok(balance)
    }

    /// Gives each direct device an account with money and its own `Barcode`.
    async fn prepare_direct(&mut self) -> Result<(), Error> {
        let wanted: Vec<DeviceRow> = self
            .devices
            .values()
            .filter(|d| d.settlement == Settlement::Direct && !self.is_held_off(&d.device))
            .cloned()
            .collect();
        for row in wanted {
            let Some(account) = row.address() else { continue };
            if let Entry::Vacant(lane) = self.lanes.entry(account) {
                lane.insert(Lane::new(account, Signer::Device(row.device.clone())));
                self.load_lane(account).await?;
            }
            let needs_look = self
                .lanes
                .get(&account)
                .is_some_and(|l| row.barcode.is_none() || (l.in_flight() > 0 || l.balance_wei.is_none()));
            if !needs_look {
                continue;
            }
            let balance = self.balance(account).await?;
            if balance < self.setup.config.treasury.low.0 {
                self.fund(&row.device, account).await?;
            } else if row.barcode.is_none() {
                self.deploy_barcode(&row.device, account).await?;
            }
        }
        Ok(())
    }

    async fn fund(&mut self, device: &DeviceId, account: Address) -> Result<(), Error> {
        let Some(treasury) = self.submitters.first().copied() else { return Ok(()) };
        let mine = |k: &Kind| matches!(k, Kind::Fund { device: d } if d == device);
        if !self.lanes.get(&treasury).is_some_and(|l| l.has_room() && !l.has_open(mine)) {
            return Ok(());
        }
        let config = &self.setup.config.treasury;
        let spent =
            U256::from(self.setup.ledger.funded_since(now_ms().saturating_sub(DAY_MS)).await?) * config.top_up.0;
        if spent + config.top_up.0 > config.daily_limit.0 {
            tracing::error!(%device, "the treasury's daily limit is reached; the device's account is not topped up");
            self.hold_off_device(device);
            return Ok(());
        }
        let request = Request {
            to: TxKind::Call(account),
            value: config.top_up.0,
            input: Bytes::new(),
            gas: TRANSFER_GAS,
            kind: Kind::Fund { device: device.clone() },
        };
        self.open(treasury, request, None).await
    }

    async fn deploy_barcode(&mut self, device: &DeviceId, account: Address) -> Result<(), Error> {
        let mine = |k: &Kind| matches!(k, Kind::DeployBarcode { .. });
        if self.lanes.get(&account).is_none_or(|l| l.has_open(mine)) {
            return Ok(());
        }
        let request = Request {
            to: TxKind::Create,
            value: U256::ZERO,
            input: BARCODE_CREATION_CODE.clone(),
            gas: DEPLOY_BARCODE_GAS,
            kind: Kind::DeployBarcode { device: device.clone() },
        };
        self.open(account, request, None).await
    }

    /// What an inclusion means for the devices.
    pub(super) async fn after_inclusion(
        &mut self,
        account: Address,
        nonce: u64,
        kind: &Kind,
        success: bool,
    ) -> Result<(), Error> {
        match kind {
            Kind::Register { .. } | Kind::Rotate { .. } | Kind::Revoke { .. } => {
                self.after_registry(kind, success).await
            }
            Kind::DeployBarcode { device } if success => self.set_barcode(device, Some(account.create(nonce))).await,
            Kind::Fund { device } => {
                let address = self.devices.get(device).and_then(|d| d.address());
                if let Some(lane) = address.and_then(|a| self.lanes.get_mut(&a)) {
                    lane.balance_checked = None;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What a vanished inclusion means for the devices.
    pub(super) async fn after_exclusion(&mut self, kind: &Kind) -> Result<(), Error> {
        match kind {
            Kind::Register { .. } | Kind::Rotate { .. } | Kind::Revoke { .. } => self.without_registry(kind).await,
            Kind::DeployBarcode { device } => self.set_barcode(device, None).await,
            _ => Ok(()),
        }
    }

    async fn set_barcode(&mut self, device: &DeviceId, address: Option<Address>) -> Result<(), Error> {
        self.setup.ledger.set_barcode(device.clone(), address).await?;
        if let Some(row) = self.devices.get_mut(device) {
            row.barcode = address;
        }
        Ok(())
    }

    /// A device that is not to be tried again for a while.
    pub(super) fn hold_off_device(&mut self, device: &DeviceId) {
        self.hold_off(&[Span { device: device.clone(), first: 0, count: 0 }]);
    }

    /// The devices that are not to be tried now.
    pub(super) fn waiting_devices(&self) -> Vec<DeviceId> {
        let now = Instant::now();
        self.held_off.iter().filter(|(_, held)| held.until > now).map(|(device, _)| device.clone()).collect()
    }

    pub(super) fn hold_off(&mut self, spans: &[Span]) {
        for span in spans {
            let now = Instant::now();
            // A device that has been well for the longest pause starts with the shortest again.
            let before = self.held_off.get(&span.device).filter(|h| now < h.until + HOLD_OFF.1);
            let delay = before.map_or(HOLD_OFF.0, |h| (h.delay * 2).min(HOLD_OFF.1));
            self.held_off.insert(span.device.clone(), HoldOff { until: now + delay, delay });
        }
    }

    pub(super) fn is_held_off(&self, device: &DeviceId) -> bool {
        self.held_off.get(device).is_some_and(|h| h.until > Instant::now())
    }
}
