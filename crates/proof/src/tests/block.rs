//! Made-up blocks with real tries, and the readings in them.

use alloy::{
    consensus::{
        Eip658Value, Header, Receipt, ReceiptEnvelope, SignableTransaction, TxEip1559, TxEnvelope,
        transaction::SignerRecoverable,
    },
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, Bytes, Log, Signature, TxKind, U256, keccak256},
    sol_types::{SolCall, SolEvent},
};
use windlass_reading::{DeviceId, Domain, Reading, Run, leaf, pack_run};

use crate::{
    Evidence, ProofFile, Tree,
    event::{Anchored, Recorded, Skipped, SubmittedRun, recordCall, setCall},
    trie::prove,
};

pub(super) const CHAIN: u64 = 31337;
pub(super) const CONTRACT: Address = Address::repeat_byte(0xcc);
/// Where the interesting transaction is in its block.
pub(super) const INDEX: u64 = 2;

pub(super) fn reading(sequence: u64) -> Reading {
    Reading {
        device: DeviceId::new("dock-7").unwrap(),
        epoch: 1,
        sequence,
        observed_at_ms: 1_700_000_000_000 + sequence * 1_000,
        payload: b"0406381333931".to_vec(),
    }
}

pub(super) fn log<E: SolEvent>(event: &E) -> Log {
    Log { address: CONTRACT, data: event.encode_log_data() }
}

pub(super) fn receipt(status: bool, logs: Vec<Log>) -> Bytes {
    let receipt = Receipt { status: Eip658Value::Eip658(status), cumulative_gas_used: 21_000, logs };
    ReceiptEnvelope::Eip1559(receipt.with_bloom()).encoded_2718().into()
}

/// A signature by nobody in particular: nearly every (r, s) is somebody's.
pub(super) fn signature(digest: B256) -> Signature {
    (0u8..)
        .map(|i| {
            Signature::new(
                U256::from_be_bytes(keccak256([digest.as_slice(), &[i]].concat()).0) >> 1,
                U256::from(7),
                false,
            )
        })
        .find(|signature| signature.recover_address_from_prehash(&digest).is_ok())
        .unwrap()
}

pub(super) fn transaction(chain_id: u64, input: Vec<u8>) -> TxEnvelope {
    let unsigned = TxEip1559 {
        chain_id,
        nonce: 41,
        gas_limit: 90_000,
        max_fee_per_gas: 7,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(CONTRACT),
        input: input.into(),
        ..TxEip1559::default()
    };
    let signature = signature(unsigned.signature_hash());
    unsigned.into_signed(signature).into()
}

/// A block of four transactions; `transaction` and its receipt are the one at [`INDEX`].
pub(super) fn evidence(transaction: &TxEnvelope, the_receipt: Bytes) -> Evidence {
    let (header, receipts, transactions) = parts(transaction, the_receipt);
    Evidence::new(header.hash_slow(), header, receipts).unwrap().with_transactions(transactions).unwrap()
}

pub(super) fn parts(the_transaction: &TxEnvelope, the_receipt: Bytes) -> (Header, Vec<Bytes>, Vec<Bytes>) {
    let mut transactions: Vec<Bytes> = (0..4).map(|i| transaction(CHAIN, vec![i]).encoded_2718().into()).collect();
    let mut receipts: Vec<Bytes> = (0..4).map(|i| receipt(i % 2 == 0, Vec::new())).collect();
    transactions[INDEX as usize] = the_transaction.encoded_2718().into();
    receipts[INDEX as usize] = the_receipt;
    let header = Header {
        number: 77,
        timestamp: 1_700_000_100,
        receipts_root: prove(&receipts, 0).root,
        transactions_root: prove(&transactions, 0).root,
        base_fee_per_gas: Some(7),
        ..Header::default()
    };
    (header, receipts, transactions)
}

pub(super) fn tree() -> Tree {
    let domain = Domain::new(CHAIN, CONTRACT);
    let leaves = (1..=5).map(|i| leaf(&reading(i), domain.reading(&reading(i)))).collect();
    Tree::new(leaves).unwrap()
}

pub(super) fn anchored(tree: &Tree) -> Anchored {
    Anchored {
        submitter: Address::repeat_byte(0x51),
        batch: 12,
        root: tree.root(),
        count: tree.count() as u32,
        logSize: 3,
        logRoot: B256::repeat_byte(4),
        head: B256::repeat_byte(9),
    }
}

pub(super) fn anchor_evidence() -> Evidence {
    let other = Skipped { device: B256::ZERO, epoch: 1, firstSequence: 1, count: 1, reason: 3 };
    let logs = vec![log(&other), log(&anchored(&tree()))];
    evidence(&transaction(CHAIN, vec![1; 50]), receipt(true, logs))
}

/// A batch of one reading: its root is its leaf.
pub(super) fn single_anchor_file() -> ProofFile {
    let tree = Tree::new(vec![leaf(&reading(3), Domain::new(CHAIN, CONTRACT).reading(&reading(3)))]).unwrap();
    let block = evidence(&transaction(CHAIN, vec![1; 50]), receipt(true, vec![log(&anchored(&tree))]));
    block.anchor(INDEX, CHAIN, CONTRACT, &tree, &reading(3)).unwrap()
}

/// A value whose transaction failed; made from a block in which it did not, and put into one in which it did.
pub(super) fn failed_direct_file() -> ProofFile {
    let ProofFile::Direct(good) = direct_file() else { panic!("a direct file") };
    let failed = evidence(&set_transaction(), receipt(false, Vec::new()));
    let (block, receipt) = failed.parts_of(INDEX);
    let transaction = good.transaction.clone();
    ProofFile::Direct(Box::new(crate::Direct { block, receipt, transaction, ..*good }))
}

pub(super) fn anchor_file() -> ProofFile {
    anchor_evidence().anchor(INDEX, CHAIN, CONTRACT, &tree(), &reading(3)).unwrap()
}

/// The readings 1 to 5.
pub(super) fn readings() -> Vec<Reading> {
    (1..=5).map(reading).collect()
}

/// The run of `readings`, as it is submitted with `signature`.
pub(super) fn run_of(readings: &[Reading], signature: Vec<u8>) -> SubmittedRun {
    SubmittedRun {
        device: readings[0].device.hash(),
        epoch: readings[0].epoch,
        firstSequence: readings[0].sequence,
        count: readings.len() as u32,
        readings: pack_run(readings).into(),
        signature: signature.into(),
    }
}

pub(super) fn run(signature: Vec<u8>) -> SubmittedRun {
    run_of(&readings(), signature)
}

pub(super) fn digest_of(run: &SubmittedRun, chain_id: u64) -> B256 {
    Domain::new(chain_id, CONTRACT).run(&Run {
        device: run.device,
        epoch: run.epoch,
        firstSequence: run.firstSequence,
        count: run.count,
        readingsHash: keccak256(&run.readings),
    })
}

pub(super) fn run_digest(chain_id: u64) -> B256 {
    digest_of(&run(Vec::new()), chain_id)
}

pub(super) fn recorded_of(run: SubmittedRun) -> Recorded {
    let SubmittedRun { device, epoch, firstSequence, count, readings, .. } = run;
    Recorded { device, epoch, firstSequence, count, readings }
}

pub(super) fn recorded() -> Recorded {
    recorded_of(run(Vec::new()))
}

/// A block in which a wrongly signed copy of the run was skipped before the right one was recorded.
pub(super) fn batch_evidence() -> (Evidence, Address) {
    let right = signature(run_digest(CHAIN));
    let wrong = signature(B256::repeat_byte(0xbb));
    let runs = vec![run(wrong.as_erc2098().to_vec()), run(right.as_erc2098().to_vec())];
    let skipped = Skipped { device: runs[0].device, epoch: 1, firstSequence: 1, count: 5, reason: 5 };
    let call = recordCall { runs }.abi_encode();
    let signer = right.recover_address_from_prehash(&run_digest(CHAIN)).unwrap();
    (evidence(&transaction(CHAIN, call), receipt(true, vec![log(&skipped), log(&recorded())])), signer)
}

pub(super) fn batch_file() -> ProofFile {
    batch_evidence().0.batch(INDEX, CONTRACT, &reading(3), None).unwrap()
}

pub(super) fn signed_batch_file() -> ProofFile {
    let (evidence, signer) = batch_evidence();
    evidence.batch(INDEX, CONTRACT, &reading(3), Some(signer.into())).unwrap()
}

pub(super) fn set_transaction() -> TxEnvelope {
    transaction(CHAIN, setCall { value: U256::from(406_381_333_931u64) }.abi_encode())
}

pub(super) fn direct_evidence() -> Evidence {
    evidence(&set_transaction(), receipt(true, Vec::new()))
}

pub(super) fn direct_file() -> ProofFile {
    direct_evidence().direct(INDEX, &reading(3)).unwrap()
}

pub(super) fn set_signer() -> Address {
    set_transaction().recover_signer().unwrap()
}

/// One file of each kind that proves something.
pub(super) fn files() -> [(&'static str, ProofFile); 4] {
    [
        ("anchor", anchor_file()),
        ("batch", batch_file()),
        ("signed batch", signed_batch_file()),
        ("direct", direct_file()),
    ]
}
