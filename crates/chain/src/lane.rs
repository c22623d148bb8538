//! One account: its nonces, its open transactions, its key.

use std::{collections::BTreeMap, time::Duration};

use alloy::{
    consensus::{SignableTransaction, Signed, TxEip1559},
    eips::{Decodable2718, Encodable2718},
    primitives::{Address, B256, Bytes, Signature, TxKind, U256},
};
use async_trait::async_trait;
use tokio::time::Instant;
use windlass_journal::{Attempt, Inclusion, Kind};
use windlass_reading::DeviceId;

use crate::{Error, SubmitterKey, fees::Fees};

/// geth and reth keep this many executable transactions of one account.
pub(crate) const SLOTS: usize = 16;
/// After a signer on another machine failed, until it is asked again.
const SIGNER_REST: Duration = Duration::from_secs(2);
/// A plain transfer.
pub(crate) const TRANSFER_GAS: u64 = 21_000;

/// Signs with device keys; implemented where the devices live.
#[async_trait]
pub trait Signatory: Send + Sync + 'static {
    /// The signature over `digest` by the device's key of generation `epoch`, the present one without.
    ///
    /// # Errors
    /// A text for the log when the device has no key or is gone.
    async fn sign(&self, device: &DeviceId, epoch: Option<u32>, digest: B256) -> Result<Signature, String>;
}

/// Whose key signs a lane's transactions.
#[derive(Clone)]
pub(crate) enum Signer {
    Submitter(SubmitterKey),
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
    async fn sign(&self, transaction: TxEip1559, devices: &dyn Signatory) -> Result<Signed<TxEip1559>, Error> {
        match self {
            Self::Submitter(key) => key.sign(transaction).await,
            Self::Device(id) => {
                let signature = devices.sign(id, None, transaction.signature_hash()).await.map_err(Error::Signing)?;
                Ok(transaction.into_signed(signature))
            }
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
    /// A node says that the nonce is used.
    pub(crate) passed: bool,
    /// Too cheap even to wait in a pool: to be replaced at once.
    pub(crate) underpriced: bool,
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
    /// What a transaction would have cost that the account could not pay; nothing new until the balance is this high.
    pub(crate) needs_wei: Option<U256>,
    /// Most readings in its next batch, after one that reverted.
    pub(crate) narrowed: Option<usize>,
    /// An operator wants nothing new from it.
    pub(crate) paused: bool,
    /// Its signer failed: nothing is signed before this.
    pub(crate) rests_until: Option<Instant>,
    /// Its lowest nonce without inclusion, and the block at which it became that.
    pub(crate) lowest: Option<(u64, u64)>,
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
            needs_wei: None,
            narrowed: None,
            paused: false,
            rests_until: None,
            lowest: None,
        }
    }

    /// What a transaction of this much gas may cost at most.
    pub(crate) fn cost(request: &Request, fees: Fees) -> U256 {
        request.value + U256::from(request.gas) * U256::from(fees.max_fee_wei)
    }

    /// Whether the account has the money for what it last lacked, or at least some.
    pub(crate) fn is_solvent(&self) -> bool {
        self.balance_wei.is_none_or(|balance| !balance.is_zero() && self.needs_wei.is_none_or(|needs| balance >= needs))
    }

    /// A batch of so many readings was included. A reverted one is tried again by halves, so that one bad reading ends up
    /// alone; each success doubles the size again.
    pub(crate) fn note_batch(&mut self, readings: usize, success: bool, most: usize) {
        self.narrowed = if success {
            self.narrowed.map(|size| size.saturating_mul(2)).filter(|size| *size < most)
        } else {
            Some((readings / 2).max(1))
        };
    }

    /// Transactions without inclusion.
    pub(crate) fn in_flight(&self) -> usize {
        self.open.values().filter(|o| o.inclusion.is_none()).count()
    }

    /// The nonces that are stuck by their price at this block. As a rule that is the lowest one at most: the ones above wait
    /// for it, and it is not to blame for the time in which it waited itself. Once it is stuck, so are the next ones that
    /// offer less than the base fee: they could not be included when their turn came.
    pub(crate) fn stuck(&mut self, head: u64, patience: u64, base_fee_wei: u64) -> Vec<u64> {
        let mut waiting = self.open.iter().filter(|(_, o)| o.inclusion.is_none()).take(SLOTS);
        let Some((lowest, first)) = waiting.next() else { return Vec::new() };
        let since = match self.lowest {
            Some((before, since)) if before == *lowest => since,
            _ => head,
        };
        self.lowest = Some((*lowest, since));
        let late = |since: u64| head >= since.saturating_add(patience);
        if first.sent.is_none() || !(first.underpriced || late(since.max(first.attempted_at_block))) {
            return Vec::new();
        }
        let hopeless = |open: &Open| open.newest().is_some_and(|a| a.max_fee_wei < base_fee_wei);
        let next = waiting.filter(|(_, o)| o.sent.is_some() && late(o.attempted_at_block) && hopeless(o));
        std::iter::once(*lowest).chain(next.map(|(nonce, _)| *nonce)).collect()
    }

    /// Whether another transaction fits into the nodes' pools.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight() < SLOTS && !self.rests()
    }

    fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| until > Instant::now())
    }

    /// The signer failed: what it could have signed waits, other lanes do not.
    pub(crate) fn rest(&mut self, why: String) {
        tracing::warn!(account = %self.account, "{why}");
        self.trouble = Some(why);
        self.rests_until = Some(Instant::now() + SIGNER_REST);
    }

    /// Whether an open transaction is of this kind.
    pub(crate) fn has_open(&self, wanted: impl Fn(&Kind) -> bool) -> bool {
        self.open.values().any(|o| wanted(&o.kind))
    }

    /// Signs a request at this nonce.
    pub(crate) async fn attempt(
        &self,
        request: &Request,
        nonce: u64,
        chain_id: u64,
        fees: Fees,
        devices: &dyn Signatory,
    ) -> Result<Attempt, Error> {
        let transaction = TxEip1559 {
            chain_id,
            nonce,
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
        let attempt = self.sign(transaction, fees, devices).await?;
        Ok(Attempt { cancel: old.cancel, ..attempt })
    }

    /// Signs what takes the nonce of `old` and does nothing.
    pub(crate) async fn cancellation(
        &self,
        old: &Attempt,
        fees: Fees,
        devices: &dyn Signatory,
    ) -> Result<Attempt, Error> {
        let signed = Signed::<TxEip1559>::decode_2718(&mut old.raw.as_ref())
            .map_err(|_| Error::Answer("journaled transaction"))?;
        let transaction = TxEip1559 {
            gas_limit: TRANSFER_GAS,
            max_fee_per_gas: fees.max_fee_wei.into(),
            max_priority_fee_per_gas: fees.tip_wei.into(),
            to: TxKind::Call(self.account),
            value: U256::ZERO,
            input: Bytes::new(),
            ..signed.strip_signature()
        };
        let attempt = self.sign(transaction, fees, devices).await?;
        Ok(Attempt { cancel: true, ..attempt })
    }

    async fn sign(&self, transaction: TxEip1559, fees: Fees, devices: &dyn Signatory) -> Result<Attempt, Error> {
        let signed = self.signer.sign(transaction, devices).await?;
        Ok(Attempt {
            hash: *signed.hash(),
            raw: signed.encoded_2718().into(),
            max_fee_wei: fees.max_fee_wei,
            tip_wei: fees.tip_wei,
            cancel: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy::signers::local::PrivateKeySigner;

    use super::*;

    struct NoDevices;

    #[async_trait]
    impl Signatory for NoDevices {
        async fn sign(&self, _: &DeviceId, _: Option<u32>, _: B256) -> Result<Signature, String> {
            Err("no devices here".into())
        }
    }

    #[tokio::test]
    async fn a_replacement_differs_only_in_its_fees() {
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
        let lane = Lane::new(key.address(), Signer::Submitter(key.into()));
        let request = Request {
            to: TxKind::Call(Address::repeat_byte(3)),
            value: U256::from(9),
            input: Bytes::from_static(b"abc"),
            gas: 50_000,
            kind: Kind::DeployWindlass,
        };
        let low = Fees { max_fee_wei: 100, tip_wei: 10 };
        let high = Fees { max_fee_wei: 200, tip_wei: 20 };
        let first = lane.attempt(&request, 5, 31337, low, &NoDevices).await.unwrap();
        let second = lane.replacement(&first, high, &NoDevices).await.unwrap();
        let decode = |a: &Attempt| Signed::<TxEip1559>::decode_2718(&mut a.raw.as_ref()).unwrap().strip_signature();
        let mut expected = decode(&first);
        expected.max_fee_per_gas = 200;
        expected.max_priority_fee_per_gas = 20;
        assert_eq!(decode(&second), expected);
        assert_ne!(first.hash, second.hash);
        let cancellation =
            lane.cancellation(&second, Fees { max_fee_wei: 300, tip_wei: 30 }, &NoDevices).await.unwrap();
        let decoded = decode(&cancellation);
        assert_eq!((decoded.nonce, decoded.to, decoded.value), (5, TxKind::Call(lane.account), U256::ZERO));
        assert_eq!((decoded.input.len(), decoded.gas_limit, decoded.chain_id), (0, TRANSFER_GAS, 31337));
        assert!(cancellation.cancel && !second.cancel);
    }

    #[test]
    fn a_transaction_is_stuck_only_by_its_own_waiting() {
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
        let mut lane = Lane::new(key.address(), Signer::Submitter(key.into()));
        let open = Open {
            id: 1,
            kind: Kind::Fill,
            batch: None,
            readings: 0,
            received_at_ms: Vec::new(),
            attempts: Vec::new(),
            inclusion: None,
            created_at_ms: 0,
            attempted_at_block: 10,
            sent: Some(Instant::now()),
            passed: false,
            underpriced: false,
        };
        let none = Vec::<u64>::new;
        lane.open.insert(5, open.clone());
        lane.open.insert(6, open.clone());
        assert_eq!([10, 11, 12, 13].map(|head| lane.stuck(head, 3, 0)), [none(), none(), none(), vec![5]]);
        lane.open.remove(&5);
        assert_eq!([20, 22, 23].map(|head| lane.stuck(head, 3, 0)), [none(), none(), vec![6]]);
        lane.open.insert(6, Open { attempted_at_block: 23, ..open.clone() });
        assert_eq!([23, 25, 26].map(|head| lane.stuck(head, 3, 0)), [none(), none(), vec![6]]);
        lane.open.insert(6, Open { attempted_at_block: 26, underpriced: true, ..open.clone() });
        assert_eq!(lane.stuck(26, 3, 0), [6]);
        // Behind a stuck one, what offers less than the base fee is stuck too.
        let offers =
            |max_fee_wei| Attempt { hash: B256::ZERO, raw: Bytes::new(), max_fee_wei, tip_wei: 1, cancel: false };
        for (nonce, max_fee_wei) in [(7, 50), (8, 150), (9, 99)] {
            lane.open.insert(nonce, Open { attempts: vec![offers(max_fee_wei)], ..open.clone() });
        }
        assert_eq!(lane.stuck(26, 3, 100), [6, 7, 9]);
    }

    #[test]
    fn a_reverted_batch_is_tried_by_halves_until_its_size_is_back() {
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
        let mut lane = Lane::new(key.address(), Signer::Submitter(key.into()));
        for (readings, expected) in [(10, 5), (5, 2), (2, 1), (1, 1)] {
            lane.note_batch(readings, false, 10);
            assert_eq!(lane.narrowed, Some(expected));
        }
        for expected in [Some(2), Some(4), Some(8), None, None] {
            lane.note_batch(1, true, 10);
            assert_eq!(lane.narrowed, expected);
        }
    }
}
