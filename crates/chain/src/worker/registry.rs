//! Keeps the contract's registry in step with the journal: first keys, next keys, and ends.
//!
//! Every step looks at the chain first, so each may be done again after a crash or a reorg, and what somebody else did is
//! found. A key changes only when nothing signed with the one before is open any more: the contract takes a run only
//! while its key is in force.

use alloy::{
    primitives::{Address, Bytes, TxKind, U256},
    sol_types::SolCall,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use windlass_contract::{IWindlass, Windlass};
use windlass_journal::{DeviceRow, End, Kind};
use windlass_reading::{DeviceId, PublicKey};

use super::Worker;
use crate::{
    Error,
    batch::{register_call, registered_key, revoke_call, rotate_call},
    lane::Request,
};

/// Devices in one registration transaction: 29,116 gas each in a hundred (contracts/snapshots).
const REGISTER_CHUNK: usize = 100;
/// Requests to the nodes at the same time.
const CONCURRENCY: usize = 16;

/// What is to be done for a device whose key in force is not its newest.
enum Step {
    /// The chain has the key of this generation in force.
    InForce(u32),
    /// The chain knows no key of the device; this is its first.
    Register(PublicKey),
    /// The chain has what the journal does not know; in words.
    Strange(&'static str),
}

impl Worker {
    /// Registers devices that the contract does not know, in chunks, one open chunk at a time.
    pub(super) async fn register(&mut self) -> Result<(), Error> {
        let open = |k: &Kind| matches!(k, Kind::Register { .. });
        let Some((registrar, contract)) = self.registrar(open) else { return Ok(()) };
        let wanted: Vec<DeviceId> = self
            .devices
            .values()
            .filter(|d| d.registered == 0 && d.key.is_some() && d.end != End::OnChain && !self.is_held_off(&d.device))
            .map(|d| d.device.clone())
            .take(REGISTER_CHUNK)
            .collect();
        let (mut first, mut known) = (Vec::new(), Vec::new());
        for (device, on_chain) in self.on_chain(contract, wanted).await? {
            match self.compare(&device, &on_chain).await? {
                Step::Register(key) => first.push((device, key)),
                Step::InForce(epoch) => known.push((device, epoch)),
                Step::Strange(what) => {
                    tracing::error!(%device, "{what}");
                    self.hold_off_device(&device);
                }
            }
        }
        self.mark_registered(known).await?;
        if first.is_empty() {
            return Ok(());
        }
        let call = register_call(&first);
        let devices = first.into_iter().map(|(device, _)| device).collect();
        self.open_registry(registrar, contract, call, Kind::Register { devices }).await
    }

    /// Puts the next key of each device in force whose newest is not, once the one before has done its work.
    pub(super) async fn rotate(&mut self) -> Result<(), Error> {
        let behind: Vec<(DeviceId, u32)> = self
            .devices
            .values()
            .filter(|d| d.registered != 0 && !d.is_registered() && d.end == End::None && !self.is_held_off(&d.device))
            .map(|d| (d.device.clone(), d.registered))
            .collect();
        for (device, in_force) in behind {
            let open = |k: &Kind| matches!(k, Kind::Rotate { device: d, .. } if *d == device);
            let Some((registrar, contract)) = self.registrar(open) else { continue };
            if self.setup.ledger.has_open_before(device.clone(), in_force + 1).await? {
                continue;
            }
            let Some((_, on_chain)) = self.on_chain(contract, vec![device.clone()]).await?.pop() else { continue };
            match self.compare(&device, &on_chain).await? {
                Step::InForce(epoch) if epoch == in_force => {
                    let Some(key) = self.key_of(&device, in_force + 1).await? else { continue };
                    let kind = Kind::Rotate { device: device.clone(), epoch: in_force + 1 };
                    self.open_registry(registrar, contract, rotate_call(&device, &key), kind).await?;
                }
                Step::InForce(epoch) => self.mark_registered(vec![(device, epoch)]).await?,
                Step::Register(_) => self.mark_registered(vec![(device, 0)]).await?,
                Step::Strange(what) => {
                    tracing::error!(%device, "{what}");
                    self.hold_off_device(&device);
                }
            }
        }
        Ok(())
    }

    /// Ends revoked devices on chain, once all that was taken from them is recorded there.
    pub(super) async fn revoke(&mut self) -> Result<(), Error> {
        let ending = |d: &&DeviceRow| d.end == End::Revoked && !self.is_held_off(&d.device);
        let ending: Vec<DeviceId> = self.devices.values().filter(ending).map(|d| d.device.clone()).collect();
        for device in ending {
            let open = |k: &Kind| matches!(k, Kind::Revoke { device: d } if *d == device);
            let Some((registrar, contract)) = self.registrar(open) else { continue };
            if self.setup.ledger.has_open_before(device.clone(), u32::MAX).await? {
                continue;
            }
            let Some((_, on_chain)) = self.on_chain(contract, vec![device.clone()]).await?.pop() else { continue };
            if on_chain.revoked || on_chain.kind == 0 {
                self.set_end(&device, End::OnChain).await?;
                continue;
            }
            let kind = Kind::Revoke { device: device.clone() };
            self.open_registry(registrar, contract, revoke_call(&device), kind).await?;
        }
        Ok(())
    }

    /// The account that may register, with the contract; none while it has no room or such a transaction is open.
    fn registrar(&self, open: impl Fn(&Kind) -> bool) -> Option<(Address, Address)> {
        let (contract, registrar) = (self.contract.as_ref()?.address, self.submitters.first().copied()?);
        let lane = self.lanes.get(&registrar)?;
        (lane.has_room() && !lane.has_open(open)).then_some((registrar, contract))
    }

    async fn open_registry(
        &mut self,
        registrar: Address,
        contract: Address,
        (input, gas): (Bytes, u64),
        kind: Kind,
    ) -> Result<(), Error> {
        let request = Request { to: TxKind::Call(contract), value: U256::ZERO, input, gas, kind };
        self.open(registrar, request, None).await
    }

    /// What the contract knows of each device.
    async fn on_chain(
        &self,
        contract: Address,
        wanted: Vec<DeviceId>,
    ) -> Result<Vec<(DeviceId, IWindlass::Device)>, Error> {
        stream::iter(wanted)
            .map(|device| async move {
                let data = Windlass::deviceOfCall { device: device.hash() }.abi_encode().into();
                let answer = self.nodes.call(contract, data).await?;
                let found =
                    Windlass::deviceOfCall::abi_decode_returns(&answer).map_err(|_| Error::Answer("deviceOf"))?;
                Ok((device, found))
            })
            .buffered(CONCURRENCY)
            .try_collect()
            .await
    }

    async fn compare(&self, device: &DeviceId, on_chain: &IWindlass::Device) -> Result<Step, Error> {
        let Some(key) = registered_key(on_chain) else {
            let first = self.key_of(device, 1).await?;
            return Ok(first.map_or(Step::Strange("the journal does not have the device's first key"), Step::Register));
        };
        if on_chain.revoked {
            return Ok(Step::Strange("the device is revoked on chain; its readings cannot be recorded"));
        }
        Ok(if self.key_of(device, on_chain.epoch).await? == Some(key) {
            Step::InForce(on_chain.epoch)
        } else {
            Step::Strange("the contract has a key for this device that the journal does not have for that epoch")
        })
    }

    async fn key_of(&self, device: &DeviceId, epoch: u32) -> Result<Option<PublicKey>, Error> {
        let keys = self.setup.ledger.device_keys(device.clone()).await?;
        Ok(keys.into_iter().find(|k| k.epoch == epoch).map(|k| k.key))
    }

    /// What an included registry transaction means.
    pub(super) async fn after_registry(&mut self, kind: &Kind, success: bool) -> Result<(), Error> {
        match kind {
            Kind::Register { devices } if success => {
                self.mark_registered(devices.iter().map(|d| (d.clone(), 1)).collect()).await
            }
            Kind::Rotate { device, epoch } if success => self.mark_registered(vec![(device.clone(), *epoch)]).await,
            Kind::Revoke { device } if success => self.set_end(device, End::OnChain).await,
            Kind::Register { devices } => {
                devices.iter().for_each(|device| self.hold_off_device(device));
                Ok(())
            }
            Kind::Rotate { device, .. } | Kind::Revoke { device } => {
                self.hold_off_device(device);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What a vanished one means.
    pub(super) async fn without_registry(&mut self, kind: &Kind) -> Result<(), Error> {
        match kind {
            Kind::Register { devices } => self.mark_registered(devices.iter().map(|d| (d.clone(), 0)).collect()).await,
            Kind::Rotate { device, epoch } => {
                self.mark_registered(vec![(device.clone(), epoch.saturating_sub(1))]).await
            }
            Kind::Revoke { device } => self.set_end(device, End::Revoked).await,
            _ => Ok(()),
        }
    }

    async fn mark_registered(&mut self, devices: Vec<(DeviceId, u32)>) -> Result<(), Error> {
        if devices.is_empty() {
            return Ok(());
        }
        self.setup.ledger.set_registered(devices.clone()).await?;
        for (device, epoch) in devices {
            if let Some(row) = self.devices.get_mut(&device) {
                row.registered = epoch;
            }
        }
        Ok(())
    }

    async fn set_end(&mut self, device: &DeviceId, end: End) -> Result<(), Error> {
        self.setup.ledger.set_end(device.clone(), end).await?;
        if let Some(row) = self.devices.get_mut(device) {
            row.end = end;
        }
        Ok(())
    }
}
