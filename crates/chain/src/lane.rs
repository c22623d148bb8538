//! One account: its nonces, its open transactions, its key.

use std::collections::BTreeMap;

use alloy::{
    consensus::{SignableTransaction, Signed, TxEip1559},
    eips::{Decodable2718, Encodable2718},
    primitives::{Address, B256, Bytes, Signature, TxKind, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use async_trait::async_trait;
use tokio::time::Instant;
use windlass_journal::{Attempt, Inclusion, Kind};
use windlass_reading::DeviceId;

use crate::{Error, fees::Fees};

/// geth and reth keep this many executable transactions of one account.
pub(crate) const SLOTS: usize = 16;

/// Signs with device keys; implemented where the devices live.
#[async_trait]
pub trait Signatory: Send + Sync + 'static {
    /// The device key's signature over `digest`.
    ///
    /// # Errors
    /// A text for the log when the device has no key or is gone.
    async fn sign(&self, device: &DeviceId, digest: B256) -> Result<Signature, String>;
}

/// Whose key signs a lane's transactions.
#[derive(Clone)]
pub(crate) enum Signer {
    Submitter(PrivateKeySigner),
    Device(DeviceId),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Submitter(key) => write!(f, "Submitter({})", key.address()),
            Self::Device(id) => write!(f, "Device({id})"),
        }
    }
}

impl Signer {
    async fn sign(&self, hash: B256, devices: &dyn Signatory) -> Result<Signature, Error> {
        match self {
            Self::Submitter(key) => key.sign_hash_sync(&hash).map_err(|e| Error::Signing(e.to_string())),
            Self::Device(id) => devices.sign(id, hash).await.map_err(Error::Signing),
        }
    }
}

/// What a transaction shall do.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) to: TxKind,
    pub(crate) value: U256,
    pub(crate) input: Bytes,
    pub(crate) gas: u64,
    pub(crate) kind: Kind,
}

/// A transaction that is not final.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    pub(crate) batch: Option<u64>,
    pub(crate) readings: u64,
    /// When its readings were received; empty after a restart until needed.
    pub(crate) received_at_ms: Vec<u64>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) inclusion: Option<Inclusion>,
    pub(crate) created_at_ms: u64,
    /// Head number when the newest attempt was made.
    pub(crate) attempted_at_block: u64,
    /// When the newest attempt was last sent; `None`: never by this process.
    pub(crate) sent: Option<Instant>,
}

impl Open {
    pub(crate) fn newest(&self) -> Option<&Attempt> {
        self.attempts.last()
    }
}

/// One account.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) account: Address,
    pub(crate) signer: Signer,
    pub(crate) next_nonce: u64,
    pub(crate) open: BTreeMap<u64, Open>,
    /// Last anchor's number and head, as the newest open or settled anchor leaves them.
    pub(crate) anchor: (u64, B256),
    /// An anchor reverted: no new one until the chain's head is read again.
    pub(crate) anchor_in_doubt: bool,
    pub(crate) balance_wei: Option<U256>,
    pub(crate) balance_checked: Option<Instant>,
    /// Why the lane does not move, for the operator.
    pub(crate) trouble: Option<String>,
    /// The next replacement would cost more than `max_fee`.
    pub(crate) fee_capped: bool,
}

impl Lane {
    pub(crate) fn new(account: Address, signer: Signer) -> Self {
        Self {
            account,
            signer,
            next_nonce: 0,
            open: BTreeMap::new(),
            anchor: (0, B256::ZERO),
            anchor_in_doubt: true,
            balance_wei: None,
            balance_checked: None,
            trouble: None,
            fee_capped: false,
        }
    }

    /// Transactions without inclusion.
    pub(crate) fn in_flight(&self) -> usize {
        self.open.values().filter(|o| o.inclusion.is_none()).count()
    }

    /// Whether another transaction fits into the nodes' pools.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight() < SLOTS
    }

    /// Whether an open transaction is of this kind.
    pub(crate) fn has_open(&self, wanted: impl Fn(&Kind) -> bool) -> bool {
        self.open.values().any(|o| wanted(&o.kind))
    }

    /// Signs a request at the lane's next nonce.
    pub(crate) async fn attempt(
        &self,
        request: &Request,
        chain_id: u64,
        fees: Fees,
        devices: &dyn Signatory,
    ) -> Result<Attempt, Error> {
        let transaction = TxEip1559 {
            chain_id,
            nonce: self.next_nonce,
            gas_limit: request.gas,
            max_fee_per_gas: fees.max_fee_wei.into(),
            max_priority_fee_per_gas: fees.tip_wei.into(),
            to: request.to,
            value: request.value,
            access_list: Default::default(),
            input: request.input.clone(),
        };
        self.sign(transaction, fees, devices).await
    }

    /// Signs the same transaction at other fees: a replacement at the same nonce.
    pub(crate) async fn replacement(
        &self,
        old: &Attempt,
        fees: Fees,
        devices: &dyn Signatory,
    ) -> Result<Attempt, Error> {
        let signed = Signed::<TxEip1559>::decode_2718(&mut old.raw.as_ref())
            .map_err(|_| Error::Answer("journaled transaction"))?;
        let mut transaction = signed.strip_signature();
        transaction.max_fee_per_gas = fees.max_fee_wei.into();
        transaction.max_priority_fee_per_gas = fees.tip_wei.into();
        self.sign(transaction, fees, devices).await
    }

    async fn sign(&self, transaction: TxEip1559, fees: Fees, devices: &dyn Signatory) -> Result<Attempt, Error> {
        let signature = self.signer.sign(transaction.signature_hash(), devices).await?;
        let signed = transaction.into_signed(signature);
        Ok(Attempt {
            hash: *signed.hash(),
            raw: signed.encoded_2718().into(),
            max_fee_wei: fees.max_fee_wei,
            tip_wei: fees.tip_wei,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoDevices;

    #[async_trait]
    impl Signatory for NoDevices {
        async fn sign(&self, _: &DeviceId, _: B256) -> Result<Signature, String> {
            Err("no devices here".into())
        }
    }

    #[tokio::test]
    async fn a_replacement_differs_only_in_its_fees() {
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
        let mut lane = Lane::new(key.address(), Signer::Submitter(key));
        lane.next_nonce = 5;
        let request = Request {
            to: TxKind::Call(Address::repeat_byte(3)),
            value: U256::from(9),
            input: Bytes::from_static(b"abc"),
            gas: 50_000,
            kind: Kind::DeployWindlass,
        };
        let low = Fees { max_fee_wei: 100, tip_wei: 10 };
        let high = Fees { max_fee_wei: 200, tip_wei: 20 };
        let first = lane.attempt(&request, 31337, low, &NoDevices).await.unwrap();
        let second = lane.replacement(&first, high, &NoDevices).await.unwrap();
        let decode = |a: &Attempt| Signed::<TxEip1559>::decode_2718(&mut a.raw.as_ref()).unwrap().strip_signature();
        let mut expected = decode(&first);
        expected.max_fee_per_gas = 200;
        expected.max_priority_fee_per_gas = 20;
        assert_eq!(decode(&second), expected);
        assert_ne!(first.hash, second.hash);
    }
}
