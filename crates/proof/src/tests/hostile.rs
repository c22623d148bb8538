//! Files that someone has tampered with.

use alloy::{
    eips::eip2718::Encodable2718,
    primitives::{B256, Bytes, U256, keccak256},
    sol_types::SolCall,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::block::*;
use crate::{
    MAX_FILE_BYTES, ProofFile, Refusal,
    event::{recordCall, submitted_run},
    file::{Anchor, Batch, Direct, SignedRun},
    verify,
};

fn value(file: &ProofFile) -> Value {
    serde_json::to_value(file).unwrap()
}

fn verify_value(value: &Value) -> Result<crate::Verified, Refusal> {
    verify(&serde_json::to_vec(value).unwrap(), None)
}

/// JSON pointers of everything in `value`, objects and arrays included.
fn pointers(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, inner)| pointers(inner, format!("{at}/{key}"), out)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, inner)| pointers(inner, format!("{at}/{i}"), out)),
        _ => {}
    }
    out.push(at);
}

/// Every way in which one scalar is changed a little.
fn changes(scalar: &Value) -> Vec<Value> {
    match scalar {
        Value::Number(number) => {
            let n = number.as_u64().unwrap();
            let near = [n.wrapping_add(1), n.wrapping_sub(1), n ^ 0x100, 0, u64::MAX];
            let near = near.into_iter().filter(|other| *other != n).map(Value::from);
            near.chain([json!(n as f64), json!(-1), json!(n.to_string()), Value::Null]).collect()
        }
        Value::String(text) => {
            let byte = |i: usize| {
                let mut bytes = text.clone().into_bytes();
                bytes[i] = match bytes[i] {
                    b'0' => b'1',
                    b'f' => b'e',
                    other => other ^ 1,
                };
                Value::from(String::from_utf8(bytes).unwrap())
            };
            let mut all: Vec<_> = (0..text.len()).map(byte).collect();
            let spelled = [text.to_uppercase(), text.replace("0x", ""), format!("{text}0"), format!("{text}00")];
            all.extend(spelled.into_iter().filter(|other| other != text).map(Value::from));
            all.push(Value::Null);
            all
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_scalar_is_bound() {
    for (name, file) in files() {
        let original = value(&file);
        let mut places = Vec::new();
        pointers(&original, String::new(), &mut places);
        let mut tried = 0;
        for place in places {
            for change in changes(original.pointer(&place).unwrap()) {
                let mut tampered = original.clone();
                *tampered.pointer_mut(&place).unwrap() = change.clone();
                assert!(verify_value(&tampered).is_err(), "{name}: {place} changed to {change}");
                tried += 1;
            }
        }
        assert!(tried > 1_000, "{name}: only {tried}");
        assert!(verify_value(&original).is_ok(), "{name}");
    }
}

#[test]
fn every_key_is_needed_and_no_other_is_taken() {
    for (name, file) in files() {
        let original = value(&file);
        let mut places = Vec::new();
        pointers(&original, String::new(), &mut places);
        for place in places {
            let Some(map) = original.pointer(&place).unwrap().as_object() else { continue };
            let mut more = original.clone();
            more.pointer_mut(&place).unwrap().as_object_mut().unwrap().insert("state".into(), json!("final"));
            assert!(matches!(verify_value(&more), Err(Refusal::Malformed(_))), "{name}: {place}");
            for key in map.keys().filter(|key| *key != "signed") {
                let mut less = original.clone();
                less.pointer_mut(&place).unwrap().as_object_mut().unwrap().remove(key);
                assert!(matches!(verify_value(&less), Err(Refusal::Malformed(_))), "{name}: {place}/{key}");
            }
        }
        let text = file.to_json().unwrap();
        let twice = text.replacen('{', r#"{"windlass_proof":1,"#, 1);
        assert!(matches!(verify(twice.as_bytes(), None), Err(Refusal::Malformed(_))), "{name}");
        assert!(matches!(verify(format!("{text}{{}}").as_bytes(), None), Err(Refusal::Malformed(_))), "{name}");
    }
}

#[test]
fn a_proof_of_another_block_is_refused() {
    for (name, file) in files() {
        let text = file.to_json().unwrap();
        let refused = verify(text.as_bytes(), Some(B256::repeat_byte(1)));
        assert!(matches!(refused, Err(Refusal::OtherBlock { .. })), "{name}");
    }
}

#[test]
fn other_versions_huge_and_deep_files_are_refused() {
    let mut file = value(&anchor_file());
    file["windlass_proof"] = json!(2);
    assert_eq!(verify_value(&file), Err(Refusal::Version(2)));
    let huge = vec![b' '; MAX_FILE_BYTES + 1];
    assert_eq!(verify(&huge, None), Err(Refusal::TooLarge(MAX_FILE_BYTES + 1)));
    let deep = format!(r#"{{"windlass_proof":1,"settlement":"anchor","reading":{}"#, "[".repeat(900_000));
    assert!(matches!(verify(deep.as_bytes(), None), Err(Refusal::Malformed(_))));
    let long_key = format!(r#"{{"windlass_proof":1,"settlement":"anchor","{}":1}}"#, "k".repeat(900_000));
    let Err(Refusal::Malformed(message)) = verify(long_key.as_bytes(), None) else { panic!() };
    assert!(message.len() < 1_000);
}

fn anchor() -> Box<Anchor> {
    let ProofFile::Anchor(file) = anchor_file() else { panic!() };
    file
}

fn batch() -> Box<Batch> {
    let ProofFile::Batch(file) = signed_batch_file() else { panic!() };
    file
}

fn direct() -> Box<Direct> {
    let ProofFile::Direct(file) = direct_file() else { panic!() };
    file
}

fn refused(file: ProofFile) -> Refusal {
    verify(file.to_json().unwrap().as_bytes(), None).unwrap_err()
}

#[test]
fn a_shortened_or_stretched_merkle_path_is_refused() {
    let mut file = anchor();
    file.merkle_path.pop();
    assert_eq!(refused(ProofFile::Anchor(file)), Refusal::MerklePath);
    let mut file = anchor();
    file.merkle_path.push(B256::ZERO);
    assert_eq!(refused(ProofFile::Anchor(file)), Refusal::MerklePath);
}

#[test]
fn the_right_path_in_a_tree_of_another_count_is_refused() {
    let mut event = anchored(&tree());
    event.count = 64;
    let evidence = evidence(&transaction(CHAIN, Vec::new()), receipt(true, vec![log(&event)]));
    let built = evidence.anchor(INDEX, CHAIN, CONTRACT, &tree(), &reading(3));
    assert_eq!(built, Err(crate::BuildError::Unverifiable(Refusal::MerklePath)));
}

#[test]
fn an_event_of_another_contract_is_refused() {
    let mut foreign = log(&anchored(&tree()));
    foreign.address = alloy::primitives::Address::repeat_byte(0xdd);
    let evidence = evidence(&transaction(CHAIN, Vec::new()), receipt(true, vec![foreign]));
    let built = evidence.anchor(INDEX, CHAIN, CONTRACT, &tree(), &reading(3));
    assert_eq!(built, Err(crate::BuildError::NoEvent("Anchored")));
}

#[test]
fn a_made_up_header_passes_only_without_a_trusted_hash() {
    let honest = anchor();
    let mut liar = reading(3);
    liar.payload = b"1".to_vec();
    let domain = windlass_reading::Domain::new(CHAIN, CONTRACT);
    let tree = crate::Tree::new(vec![windlass_reading::leaf(&liar, domain.reading(&liar))]).unwrap();
    let evidence = evidence(&transaction(CHAIN, Vec::new()), receipt(true, vec![log(&anchored(&tree))]));
    let text = evidence.anchor(INDEX, CHAIN, CONTRACT, &tree, &liar).unwrap().to_json().unwrap();
    assert!(verify(text.as_bytes(), None).unwrap().block_trust.contains("made-up block"));
    assert!(matches!(verify(text.as_bytes(), Some(honest.block.hash)), Err(Refusal::OtherBlock { .. })));
}

/// The run's digest for any chain id recovers to somebody; only the transaction says which chain it is.
#[test]
fn a_chain_id_with_a_signer_to_match_is_refused() {
    let mut file = batch();
    let signed = file.signed.as_mut().unwrap();
    signed.chain_id = 1;
    let signature = alloy::primitives::Signature::from_erc2098(&signed.signature);
    signed.signer = signature.recover_address_from_prehash(&run_digest(1)).unwrap().into();
    assert_eq!(refused(ProofFile::Batch(file)), Refusal::Differs("the chain id"));
}

/// The calldata holds a wrongly signed copy of the run, which the contract skipped.
#[test]
fn the_signature_of_a_skipped_run_is_refused() {
    let mut file = batch();
    let wrong = signature(B256::repeat_byte(0xbb));
    let SignedRun { signature, signer, .. } = file.signed.as_mut().unwrap();
    *signature = wrong.as_erc2098().into();
    *signer = wrong.recover_address_from_prehash(&run_digest(CHAIN)).unwrap_or_default().into();
    assert_eq!(refused(ProofFile::Batch(file)), Refusal::Differs("the run's signature"));
}

#[test]
fn an_unsigned_batch_has_no_place_for_a_chain_id() {
    let mut file = value(&batch_file());
    file["chain_id"] = json!(CHAIN);
    assert!(matches!(verify_value(&file), Err(Refusal::Malformed(_))));
}

#[test]
fn a_failed_or_foreign_receipt_does_not_prove_a_stored_number() {
    let (header, receipts, _) = parts(&set_transaction(), receipt(true, Vec::new()));
    assert_eq!(header.hash_slow(), direct().block.hash);
    // The receipt of a neighbour that succeeded.
    let mut file = direct();
    file.receipt = crate::trie::prove(&receipts, 0).nodes;
    assert!(matches!(refused(ProofFile::Direct(file)), Refusal::ReceiptPath(_)));
}

#[test]
fn a_transaction_that_stores_nothing_is_refused() {
    let calls = [
        alloy::sol_types::SolValue::abi_encode(&U256::from(406_381_333_931u64)),
        [set_transaction_input(), vec![0]].concat(),
        vec![],
    ];
    for input in calls {
        let evidence = evidence(&transaction(CHAIN, input), receipt(true, Vec::new()));
        assert!(evidence.direct(INDEX, &reading(3)).is_err());
    }
}

fn set_transaction_input() -> Vec<u8> {
    crate::event::setCall { value: U256::from(406_381_333_931u64) }.abi_encode()
}

/// Calldata of `count` runs that all point to the same bytes.
fn overlapping(count: u64) -> Bytes {
    let honest = recordCall { runs: vec![run(vec![7; 100_000])] }.abi_encode();
    // After the selector: offset of the array, its length, the offsets of its elements, the elements.
    let mut calldata = honest[..36].to_vec();
    calldata.extend(U256::from(count).to_be_bytes::<32>());
    for _ in 0..count {
        calldata.extend(U256::from(count * 32).to_be_bytes::<32>());
    }
    calldata.extend(&honest[100..]);
    calldata.into()
}

#[test]
fn calldata_that_would_decode_to_gigabytes_is_refused() {
    assert_eq!(submitted_run(&overlapping(10), 9).unwrap().signature.len(), 100_000);
    assert_eq!(submitted_run(&overlapping(10), 10), None);
    assert_eq!(submitted_run(&overlapping(10_000), 1), None);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        prop_assert!(verify(&bytes, None).is_err());
    }

    /// Real files with a few bytes replaced, so that the deeper checks are reached.
    #[test]
    fn no_damaged_file_panics_or_proves_anything_else(kind in 0usize..4, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let (_, file) = &files()[kind];
        let mut bytes = file.to_json().unwrap().into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if verify(&bytes, None).is_ok() {
            // Only white space between the values can have changed.
            let read: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(read, value(file));
        }
    }

    /// A header that names made-up bytes as a trie's root: whatever they are, nothing panics.
    #[test]
    fn no_made_up_trie_node_panics(node: Vec<u8>, index in 0u64..200) {
        let mut file = direct();
        let (mut header, _, _) = parts(&set_transaction(), receipt(true, Vec::new()));
        header.transactions_root = keccak256(&node);
        file.transaction.index = index;
        file.transaction.nodes = vec![node.into()];
        file.block.hash = header.hash_slow();
        file.block.header = alloy::rlp::encode(&header).into();
        prop_assert!(matches!(refused(ProofFile::Direct(file)), Refusal::TransactionPath(_)));
    }

    /// A trie whose item is made up: the decoders of receipts and transactions take any bytes.
    #[test]
    fn no_made_up_transaction_panics(tail: Vec<u8>, cut in 0usize..200, type_byte in 0u8..6) {
        let mut bytes = set_transaction().encoded_2718();
        bytes.truncate(cut);
        bytes.extend(tail);
        bytes.resize(bytes.len().max(40), 0);
        bytes[0] = type_byte;
        let transactions = [Bytes::from(bytes)];
        let proof = crate::trie::prove(&transactions, 0);
        let mut file = direct();
        let (mut header, _, _) = parts(&set_transaction(), receipt(true, Vec::new()));
        header.transactions_root = proof.root;
        file.transaction.index = 0;
        file.transaction.nodes = proof.nodes;
        file.block.hash = header.hash_slow();
        file.block.header = alloy::rlp::encode(&header).into();
        let _ = refused(ProofFile::Direct(file));
    }
}
