//! Making proof files, from a block that a node handed over and that is checked before it is believed.

use alloy::{
    consensus::{Header, ReceiptEnvelope, Transaction, TxEnvelope, transaction::SignerRecoverable},
    eips::eip2718::Decodable2718,
    primitives::{Address, B256, Bytes, Log, U256, keccak256},
    rlp,
    sol_types::{SolCall, SolEvent},
};
use windlass_reading::{Domain, PublicKey, Reading, Settlement, leaf};

use crate::{
    ProofFile, Refusal, Tree,
    event::{Anchored, Recorded, Registered, emitted, run_of_log, setCall},
    file::{
        Anchor, AnchoredFields, Batch, Block, Direct, EventProof, ReadingFields, RecordedFields, Registration,
        SignedReading, SignedRun, TransactionProof, Version,
    },
    trie::prove,
    verify::{Submitted, is_signed, verify},
};

/// A block's header, receipts and transactions, all of which fit its hash.
#[derive(Debug, Clone)]
pub struct Evidence {
    hash: B256,
    header: Header,
    receipts: Vec<Bytes>,
    transactions: Vec<Bytes>,
}

/// Why no proof file can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The node's header is not the block's, or has a field that this program does not know. Ask another node.
    #[error("the node's header hashes to {computed}, not to block {expected}")]
    Header {
        /// Hash of the header.
        computed: B256,
        /// Hash of the block.
        expected: B256,
    },
    /// The node's receipts are not the block's: one is missing, or of a type that this program does not encode.
    #[error("the node's receipts do not give the block's receipts root")]
    Receipts,
    /// The node's transactions are not the block's, or the proof needs them and has none.
    #[error("the node's transactions do not give the block's transactions root")]
    Transactions,
    /// The transaction index is outside the block, or its receipt or transaction cannot be read.
    #[error("the block has no readable transaction {0}")]
    Index(u64),
    /// The reading is not a leaf of the tree.
    #[error("the reading is not in the batch")]
    NotInBatch,
    /// The transaction did not emit the event that settles this reading.
    #[error("the transaction has no {0} event for this reading")]
    NoEvent(&'static str),
    /// The transaction is not a call that settles this reading.
    #[error("the transaction is not a call of {0} for this reading")]
    Call(&'static str),
    /// The transaction does not show that this account signed the run.
    #[error("the transaction does not show that {0} signed the run")]
    Signer(PublicKey),
    /// The finished file did not pass its own verification.
    #[error("the finished proof does not verify: {0}")]
    Unverifiable(Refusal),
}

impl Evidence {
    /// Takes a block's `header` and its `receipts` (EIP-2718 bytes in block order).
    ///
    /// # Errors
    /// [`BuildError::Header`] and [`BuildError::Receipts`] when they are not those of the block with hash `hash`.
    pub fn new(hash: B256, header: Header, receipts: Vec<Bytes>) -> Result<Self, BuildError> {
        let computed = header.hash_slow();
        if computed != hash {
            return Err(BuildError::Header { computed, expected: hash });
        }
        if prove(&receipts, 0).root != header.receipts_root {
            return Err(BuildError::Receipts);
        }
        Ok(Self { hash, header, receipts, transactions: Vec::new() })
    }

    /// Adds the block's `transactions` (EIP-2718 bytes in block order), which `direct` and signed `batch` proofs need.
    ///
    /// # Errors
    /// [`BuildError::Transactions`] when they are not the block's.
    pub fn with_transactions(mut self, transactions: Vec<Bytes>) -> Result<Self, BuildError> {
        if prove(&transactions, 0).root != self.header.transactions_root {
            return Err(BuildError::Transactions);
        }
        self.transactions = transactions;
        Ok(self)
    }

    /// The proof that `reading` is in the batch of `tree`, which `contract` anchored in the transaction at `index`.
    ///
    /// # Errors
    /// [`BuildError`] when the block does not show that.
    pub fn anchor(
        &self,
        index: u64,
        chain_id: u64,
        contract: Address,
        tree: &Tree,
        reading: &Reading,
    ) -> Result<ProofFile, BuildError> {
        let leaf = leaf(reading, Domain::new(chain_id, contract).reading(reading));
        let merkle_path = tree.proof(leaf).ok_or(BuildError::NotInBatch)?;
        let logs = self.logs(index)?;
        let ours = |event: &Anchored| event.root == tree.root();
        let (log, event) = find(&logs, contract, ours).ok_or(BuildError::NoEvent("Anchored"))?;
        self.checked(ProofFile::Anchor(Box::new(Anchor {
            windlass_proof: Version,
            settlement: Settlement::Anchor,
            chain_id,
            contract,
            reading: ReadingFields::from(reading),
            merkle_path,
            signed: None,
            registered: None,
            anchored: AnchoredFields::from(&event),
            event: self.event_proof(index, log),
            block: self.block(),
        })))
    }

    /// Adds the device's own signature to the proof of an anchored reading.
    ///
    /// # Errors
    /// [`BuildError::Unverifiable`] when the key did not sign the reading.
    pub fn attested(&self, file: ProofFile, signer: PublicKey, signature: Bytes) -> Result<ProofFile, BuildError> {
        match file {
            ProofFile::Anchor(mut anchor) => {
                anchor.signed = Some(SignedReading { signer, signature });
                self.checked(ProofFile::Anchor(anchor))
            }
            other => Ok(other),
        }
    }

    /// Where `contract` put `key` in force for the device and epoch of `reading`: an event of the transaction at `index`.
    ///
    /// # Errors
    /// [`BuildError`] when the block does not show that.
    pub fn registration(
        &self,
        index: u64,
        contract: Address,
        reading: &Reading,
        key: PublicKey,
    ) -> Result<Registration, BuildError> {
        let (device, epoch) = (reading.device.hash(), reading.epoch);
        let ours = |event: &Registered| (event.device, event.epoch) == (device, epoch) && event.key == key.to_bytes();
        let (log, _) = find(&self.logs(index)?, contract, ours).ok_or(BuildError::NoEvent("Registered"))?;
        Ok(Registration { event: self.event_proof(index, log), block: self.block() })
    }

    /// Adds the registration of the signer's key to a proof that has a signature.
    ///
    /// # Errors
    /// [`BuildError::Unverifiable`] when it is another key's, or the proof has no signature.
    pub fn registered(&self, mut file: ProofFile, registration: Registration) -> Result<ProofFile, BuildError> {
        match &mut file {
            ProofFile::Anchor(file) => file.registered = Some(registration),
            ProofFile::Batch(file) => file.registered = Some(registration),
            ProofFile::Direct(_) | ProofFile::Pending(_) => return Err(BuildError::Unverifiable(Refusal::NoSigner)),
        }
        self.checked(file)
    }

    /// The proof that `contract` recorded `reading` in the transaction at `index`.
    ///
    /// With `signer`, the device's key, the file also shows that it signed the run or the reading, and for which chain.
    /// That needs [`Self::with_transactions`] and a transaction that calls `record` or `recordSigned` itself.
    ///
    /// # Errors
    /// [`BuildError`] when the block does not show that.
    pub fn batch(
        &self,
        index: u64,
        contract: Address,
        reading: &Reading,
        signer: Option<PublicKey>,
    ) -> Result<ProofFile, BuildError> {
        let logs = self.logs(index)?;
        let device = reading.device.hash();
        let ours = |event: &Recorded| {
            let offset = reading.sequence.checked_sub(event.firstSequence);
            event.device == device && offset.is_some_and(|offset| offset < u64::from(event.count))
        };
        let (log, event) = find(&logs, contract, ours).ok_or(BuildError::NoEvent("Recorded"))?;
        let signed = signer.map(|signer| {
            self.signed_run(index, contract, (&logs, log), &event, signer).ok_or(BuildError::Signer(signer))
        });
        self.checked(ProofFile::Batch(Box::new(Batch {
            windlass_proof: Version,
            settlement: Settlement::Batch,
            contract,
            reading: ReadingFields::from(reading),
            recorded: RecordedFields { first_sequence: event.firstSequence, count: event.count },
            event: self.event_proof(index, log),
            signed: signed.transpose()?,
            registered: None,
            block: self.block(),
        })))
    }

    /// The proof that the transaction at `index` stored the number of `reading`.
    ///
    /// # Errors
    /// [`BuildError`] when the block does not show that, and when [`Self::with_transactions`] was not called.
    pub fn direct(&self, index: u64, reading: &Reading) -> Result<ProofFile, BuildError> {
        const CALL: BuildError = BuildError::Call("set(uint256)");
        if self.transactions.is_empty() {
            return Err(BuildError::Transactions);
        }
        let (bytes, transaction) = self.transaction(index).ok_or(BuildError::Index(index))?;
        let value = setCall::abi_decode(transaction.input()).map_err(|_| CALL)?.value;
        if number(&reading.payload) != Some(value) {
            return Err(CALL);
        }
        self.checked(ProofFile::Direct(Box::new(Direct {
            windlass_proof: Version,
            settlement: Settlement::Direct,
            chain_id: transaction.chain_id().ok_or(CALL)?,
            contract: transaction.to().ok_or(CALL)?,
            value: value.to_string(),
            signer: transaction.recover_signer().map_err(|_| CALL)?,
            nonce: transaction.nonce(),
            transaction: TransactionProof {
                index,
                hash: keccak256(bytes),
                nodes: prove(&self.transactions, index).nodes,
            },
            receipt: prove(&self.receipts, index).nodes,
            block: self.block(),
        })))
    }

    /// A file leaves only if a verifier who trusts this block would accept it.
    fn checked(&self, file: ProofFile) -> Result<ProofFile, BuildError> {
        let text = file.to_json().map_err(|error| BuildError::Unverifiable(Refusal::Malformed(error.to_string())))?;
        verify(text.as_bytes(), Some(self.hash)).map_err(BuildError::Unverifiable)?;
        Ok(file)
    }

    fn logs(&self, index: u64) -> Result<Vec<Log>, BuildError> {
        let bytes = usize::try_from(index).ok().and_then(|i| self.receipts.get(i));
        let receipt = bytes.and_then(|bytes| ReceiptEnvelope::decode_2718_exact(bytes).ok());
        Ok(receipt.ok_or(BuildError::Index(index))?.into_logs())
    }

    fn transaction(&self, index: u64) -> Option<(&Bytes, TxEnvelope)> {
        let bytes = self.transactions.get(usize::try_from(index).ok()?)?;
        Some((bytes, TxEnvelope::decode_2718_exact(bytes).ok()?))
    }

    fn signed_run(
        &self,
        index: u64,
        contract: Address,
        (logs, log): (&[Log], u32),
        event: &Recorded,
        signer: PublicKey,
    ) -> Option<SignedRun> {
        let (bytes, transaction) = self.transaction(index)?;
        let chain_id = transaction.chain_id().filter(|_| transaction.to() == Some(contract))?;
        let place = run_of_log(logs, usize::try_from(log).ok()?, contract);
        let run = Submitted::find(transaction.input(), place, event).ok()?;
        let digest = (run.digest)(&Domain::new(chain_id, contract));
        is_signed(&signer, digest, &run.signature).then(|| SignedRun {
            chain_id,
            signer,
            signature: run.signature,
            transaction: keccak256(bytes),
            nodes: prove(&self.transactions, index).nodes,
        })
    }

    /// Its header, and the receipt nodes of the transaction at `index`, for files that tests put together.
    #[cfg(test)]
    pub(crate) fn parts_of(&self, index: u64) -> (Block, Vec<Bytes>) {
        (self.block(), prove(&self.receipts, index).nodes)
    }

    fn event_proof(&self, transaction: u64, log: u32) -> EventProof {
        EventProof { transaction, log, receipt: prove(&self.receipts, transaction).nodes }
    }

    fn block(&self) -> Block {
        Block { hash: self.hash, number: self.header.number, header: rlp::encode(&self.header).into() }
    }
}

/// The number that `payload` spells in ASCII digits.
fn number(payload: &[u8]) -> Option<U256> {
    // `from_str_radix` also takes underscores.
    let text = std::str::from_utf8(payload).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    U256::from_str_radix(text, 10).ok().filter(|_| !text.is_empty())
}

/// The first event of `contract` that is the wanted one, and its index in the receipt.
fn find<E: SolEvent>(logs: &[Log], contract: Address, wanted: impl Fn(&E) -> bool) -> Option<(u32, E)> {
    (0..).zip(logs).find_map(|(i, log)| emitted(log, contract).filter(&wanted).map(|event| (i, event)))
}
