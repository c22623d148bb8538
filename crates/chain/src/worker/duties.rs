//! What settling needs beforehand: money, registrations, and each direct device's own contract.

use std::{collections::hash_map::Entry, time::Duration};

use alloy::{
    primitives::{Address, Bytes, TxKind, U256},
    sol_types::SolCall,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;
use windlass_contract::{BARCODE_CREATION_CODE, IWindlass, Windlass};
use windlass_journal::{DeviceRow, Kind, Span};
use windlass_reading::{DeviceId, Settlement};

use super::{HoldOff, Worker, now_ms};
use crate::{
    Error,
    batch::{SECP256K1, register_call},
    lane::{Lane, Request, Signer, TRANSFER_GAS},
    metrics,
};

/// Devices in one registration transaction: 29,116 gas each in a hundred (contracts/snapshots).
const REGISTER_CHUNK: usize = 100;
/// Balances are asked for again after this.
const BALANCE_INTERVAL: Duration = Duration::from_secs(15);
/// `Barcode` takes 134,614 gas to deploy.
const DEPLOY_BARCODE_GAS: u64 = 600_000;
/// First and longest pause of a device whose runs are skipped.
const HOLD_OFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// Requests to the nodes at the same time.
const CONCURRENCY: usize = 16;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

impl Worker {
    pub(super) async fn duties(&mut self) -> Result<(), Error> {
        self.check_submitter_balances().await?;
        self.register().await?;
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

    /// Registers devices that the contract does not know, in chunks, one open chunk at a time.
    async fn register(&mut self) -> Result<(), Error> {
        let (Some(contract), Some(registrar)) = (self.contract.clone(), self.submitters.first().copied()) else {
            return Ok(());
        };
        let open = |k: &Kind| matches!(k, Kind::Register { .. });
        if self.lanes.get(&registrar).is_some_and(|l| l.has_open(open) || !l.has_room()) {
            return Ok(());
        }
        let wanted: Vec<(DeviceId, Address)> = self
            .devices
            .values()
            .filter(|d| !d.registered && !self.is_held_off(&d.device))
            .filter_map(|d| Some((d.device.clone(), d.address?)))
            .take(REGISTER_CHUNK)
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut unknown = Vec::new();
        let mut known = Vec::new();
        for (device, address, on_chain) in self.registrations(contract.address, wanted).await? {
            if on_chain.kind == 0 {
                unknown.push((device, address));
            } else if on_chain.kind == SECP256K1 && on_chain.signer == address && !on_chain.revoked {
                known.push(device);
            } else {
                tracing::error!(%device, "the contract has another key for this device, or revoked it");
                self.hold_off(&[Span { device, first: 0, count: 0 }]);
            }
        }
        self.mark_registered(known, true).await?;
        if unknown.is_empty() {
            return Ok(());
        }
        let (input, gas) = register_call(&unknown);
        let devices = unknown.into_iter().map(|(device, _)| device).collect();
        let request = Request {
            to: TxKind::Call(contract.address),
            value: U256::ZERO,
            input,
            gas,
            kind: Kind::Register { devices },
        };
        self.open(registrar, request, None).await
    }

    /// What the contract knows of each device.
    async fn registrations(
        &self,
        contract: Address,
        wanted: Vec<(DeviceId, Address)>,
    ) -> Result<Vec<(DeviceId, Address, IWindlass::Device)>, Error> {
        stream::iter(wanted)
            .map(|(device, address)| async move {
                let data = Windlass::deviceOfCall { device: device.hash() }.abi_encode().into();
                let answer = self.nodes.call(contract, data).await?;
                let found =
                    Windlass::deviceOfCall::abi_decode_returns(&answer).map_err(|_| Error::Answer("deviceOf"))?;
                Ok((device, address, found))
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    pub(super) async fn mark_registered(&mut self, devices: Vec<DeviceId>, registered: bool) -> Result<(), Error> {
        if devices.is_empty() {
            return Ok(());
        }
        self.setup.ledger.set_registered(devices.clone(), registered).await?;
        for device in devices {
            if let Some(row) = self.devices.get_mut(&device) {
                row.registered = registered;
            }
        }
        Ok(())
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
            let Some(account) = row.address else { continue };
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
            self.hold_off(&[Span { device: device.clone(), first: 0, count: 0 }]);
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
            Kind::Register { devices } if success => self.mark_registered(devices.clone(), true).await,
            Kind::Register { devices } => {
                let spans: Vec<_> = devices.iter().map(|d| Span { device: d.clone(), first: 0, count: 0 }).collect();
                self.hold_off(&spans);
                Ok(())
            }
            Kind::DeployBarcode { device } if success => self.set_barcode(device, Some(account.create(nonce))).await,
            Kind::Fund { device } => {
                let address = self.devices.get(device).and_then(|d| d.address);
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
            Kind::Register { devices } => self.mark_registered(devices.clone(), false).await,
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
