//! Each settlement from the block to the verified file.

use alloy::{
    eips::eip2718::Encodable2718,
    primitives::{Address, B256},
    sol_types::SolCall,
};
use windlass_reading::{Reading, Settlement};

use super::block::*;
use crate::{
    BuildError, Evidence, MAX_FILE_BYTES, ProofFile, Refusal, Tier, Tree,
    event::{Recorded, recordCall},
    verify,
};

fn text(file: &ProofFile) -> String {
    file.to_json().unwrap()
}

fn block_hash(file: &ProofFile) -> B256 {
    match file {
        ProofFile::Anchor(file) => file.block.hash,
        ProofFile::Batch(file) => file.block.hash,
        ProofFile::Direct(file) => file.block.hash,
        ProofFile::Pending(_) => panic!("a pending reading has no block"),
    }
}

#[test]
fn an_anchored_reading_is_proved() {
    let file = anchor_file();
    let verified = verify(text(&file).as_bytes(), Some(block_hash(&file))).unwrap();
    assert_eq!(verified.tier, Tier::BlockHash);
    assert_eq!(verified.settlement, Settlement::Anchor);
    assert_eq!(verified.reading, Some(reading(3)));
    assert_eq!((verified.chain_id, verified.contract), (Some(CHAIN), CONTRACT));
    assert_eq!((verified.block_number, verified.timestamp), (77, 1_700_000_100));
}

#[test]
fn a_recorded_reading_is_proved_without_a_chain_id() {
    let verified = verify(text(&batch_file()).as_bytes(), None).unwrap();
    assert_eq!(verified.tier, Tier::Mathematics);
    assert_eq!(verified.reading, Some(reading(3)));
    assert_eq!((verified.chain_id, verified.signer), (None, None));
    assert!(!text(&batch_file()).contains("chain_id"));
}

#[test]
fn a_signed_run_shows_its_signer_and_chain() {
    let (_, signer) = batch_evidence();
    let verified = verify(text(&signed_batch_file()).as_bytes(), None).unwrap();
    assert_eq!((verified.chain_id, verified.signer), (Some(CHAIN), Some(signer.into())));
}

/// A transaction has at most 128 KiB, and its bytes are in the file twice: as calldata and as a log.
#[test]
fn the_largest_run_fits_into_a_file() {
    let long = |sequence| Reading { payload: vec![b'x'; 256], ..reading(sequence) };
    let readings: Vec<_> = (1..=490).map(long).collect();
    let mut run = run_of(&readings, Vec::new());
    let digest = digest_of(&run, CHAIN);
    run.signature = signature(digest).as_erc2098().into();
    let signer = signature(digest).recover_address_from_prehash(&digest).unwrap();
    let transaction = transaction(CHAIN, recordCall { runs: vec![run.clone()] }.abi_encode());
    assert!((126_000..131_072).contains(&transaction.encoded_2718().len()));
    let evidence = evidence(&transaction, receipt(true, vec![log(&recorded_of(run))]));
    let file = evidence.batch(INDEX, CONTRACT, &readings[489], Some(signer.into())).unwrap();
    assert!(text(&file).len() < MAX_FILE_BYTES * 2 / 3);
}

#[test]
fn a_reading_recorded_on_its_own_is_proved() {
    let single = reading(9);
    let mut packed = vec![2];
    packed.extend(single.observed_at_ms.to_be_bytes());
    packed.extend(&single.payload);
    let event =
        Recorded { device: single.device.hash(), epoch: 1, firstSequence: 9, count: 1, readings: packed.into() };
    let evidence = evidence(&transaction(CHAIN, Vec::new()), receipt(true, vec![log(&event)]));
    let file = evidence.batch(INDEX, CONTRACT, &single, None).unwrap();
    assert_eq!(verify(text(&file).as_bytes(), None).unwrap().reading, Some(single));
}

#[test]
fn a_stored_number_is_proved_and_what_is_not_on_chain_is_said() {
    let verified = verify(text(&direct_file()).as_bytes(), None).unwrap();
    assert_eq!(verified.reading, None);
    assert_eq!((verified.chain_id, verified.signer), (Some(CHAIN), Some(set_signer().into())));
    assert!(verified.trusts.iter().any(|line| line.contains("sequence") && line.contains("leading zeros")));
    assert!(!text(&direct_file()).contains("dock-7"));
}

#[test]
fn a_pending_file_says_so_and_is_never_verified() {
    for settlement in Settlement::ALL {
        let file = ProofFile::pending(&reading(3), settlement);
        assert!(text(&file).contains(r#""state": "pending""#));
        assert_eq!(ProofFile::parse(text(&file).as_bytes()), Ok(file.clone()));
        assert_eq!(verify(text(&file).as_bytes(), None), Err(Refusal::Pending));
        assert_eq!(file.settlement(), settlement);
        assert_eq!(file.reading().unwrap().to_reading(), Ok(reading(3)));
    }
}

#[test]
fn every_file_is_read_as_it_was_written() {
    for (name, file) in files() {
        assert_eq!(ProofFile::parse(text(&file).as_bytes()), Ok(file), "{name}");
    }
}

#[test]
fn the_frozen_shape_of_an_anchor_file() {
    let ProofFile::Anchor(mut file) = anchor_file() else { panic!() };
    (file.event.receipt, file.block.header) = (Vec::new(), Default::default());
    file.merkle_path.truncate(1);
    let json = serde_json::to_value(&file).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "windlass_proof",
        "settlement",
        "chain_id",
        "contract",
        "reading",
        "merkle_path",
        "anchored",
        "event",
        "block",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(json["windlass_proof"], 1);
    assert_eq!(json["reading"]["payload"], "0406381333931");
    assert_eq!(json["contract"], "0xcccccccccccccccccccccccccccccccccccccccc");
}

#[test]
fn evidence_that_is_not_the_blocks_is_refused() {
    let (header, receipts, transactions) = parts(&set_transaction(), receipt(true, Vec::new()));
    let hash = header.hash_slow();
    let other = B256::repeat_byte(1);
    assert_eq!(
        Evidence::new(other, header.clone(), receipts.clone()).unwrap_err(),
        BuildError::Header { computed: hash, expected: other }
    );
    let missing = receipts[1..].to_vec();
    assert_eq!(Evidence::new(hash, header.clone(), missing).unwrap_err(), BuildError::Receipts);
    let evidence = Evidence::new(hash, header, receipts).unwrap();
    let mut swapped = transactions;
    swapped.swap(0, 1);
    assert_eq!(evidence.clone().with_transactions(swapped).unwrap_err(), BuildError::Transactions);
    assert_eq!(evidence.direct(INDEX, &reading(3)), Err(BuildError::Transactions));
}

#[test]
fn a_reading_that_the_block_does_not_settle_gets_no_file() {
    let anchor = anchor_evidence();
    let outside = anchor.anchor(INDEX, CHAIN, CONTRACT, &tree(), &reading(6));
    assert_eq!(outside, Err(BuildError::NotInBatch));
    assert_eq!(anchor.anchor(INDEX, CHAIN + 1, CONTRACT, &tree(), &reading(3)), Err(BuildError::NotInBatch));
    assert_eq!(anchor.anchor(0, CHAIN, CONTRACT, &tree(), &reading(3)), Err(BuildError::NoEvent("Anchored")));
    assert_eq!(anchor.anchor(4, CHAIN, CONTRACT, &tree(), &reading(3)), Err(BuildError::Index(4)));
    let other = Tree::new(vec![B256::ZERO]).unwrap();
    assert_eq!(anchor.anchor(INDEX, CHAIN, CONTRACT, &other, &reading(3)), Err(BuildError::NotInBatch));

    let (batch, _) = batch_evidence();
    assert_eq!(batch.batch(INDEX, CONTRACT, &reading(6), None), Err(BuildError::NoEvent("Recorded")));
    let stranger = Address::repeat_byte(3);
    let stranger = windlass_reading::PublicKey::from(stranger);
    assert_eq!(batch.batch(INDEX, CONTRACT, &reading(3), Some(stranger)), Err(BuildError::Signer(stranger)));
    let mut altered = reading(3);
    altered.observed_at_ms += 1;
    assert_eq!(
        batch.batch(INDEX, CONTRACT, &altered, None),
        Err(BuildError::Unverifiable(Refusal::Differs("the reading")))
    );

    let mut other = reading(3);
    other.payload = b"406381333932".to_vec();
    assert_eq!(direct_evidence().direct(INDEX, &other), Err(BuildError::Call("set(uint256)")));
    let failed = evidence(&set_transaction(), receipt(false, Vec::new()));
    assert_eq!(failed.direct(INDEX, &reading(3)), Err(BuildError::Unverifiable(Refusal::Failed)));
}
