//! Proofs of readings that devices signed themselves.

use alloy::{primitives::Bytes, sol_types::SolCall};
use p256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner};
use windlass_reading::{Domain, PublicKey, Reading};

use super::block::{
    CHAIN, CONTRACT, INDEX, anchor_evidence, anchor_file, evidence, log, reading, receipt, signature, transaction,
};
use crate::{
    BuildError, Evidence, ProofFile, Refusal, Trusted,
    event::{Recorded, Registered, SubmittedReading, recordSignedCall},
    verify, verify_against,
};

fn p256() -> (SigningKey, PublicKey) {
    let key = SigningKey::from_slice(&[9; 32]).unwrap();
    let point = key.verifying_key().to_encoded_point(false);
    (key, PublicKey::from_bytes(&point.as_bytes()[1..]).unwrap())
}

fn signed_by_p256(reading: &Reading) -> Bytes {
    let (key, public) = p256();
    let digest = Domain::new(CHAIN, CONTRACT).reading(reading);
    let raw: Signature = key.sign_prehash(digest.as_slice()).unwrap();
    public.verified(digest, &raw.to_bytes()).unwrap().to_vec().into()
}

fn secp256k1(reading: &Reading) -> (PublicKey, Bytes) {
    let digest = Domain::new(CHAIN, CONTRACT).reading(reading);
    let signature = signature(digest);
    let signer = signature.recover_address_from_prehash(&digest).unwrap();
    (signer.into(), signature.as_erc2098().to_vec().into())
}

fn submitted(reading: &Reading, signature: Bytes) -> SubmittedReading {
    SubmittedReading {
        device: reading.device.hash(),
        epoch: reading.epoch,
        sequence: reading.sequence,
        observedAt: reading.observed_at_ms,
        payload: reading.payload.clone().into(),
        signature,
    }
}

/// What `recordSigned` emits for it.
fn recorded(reading: &Reading) -> Recorded {
    let packed = [&[2][..], &reading.observed_at_ms.to_be_bytes(), &reading.payload].concat();
    Recorded {
        device: reading.device.hash(),
        epoch: reading.epoch,
        firstSequence: reading.sequence,
        count: 1,
        readings: packed.into(),
    }
}

/// A block in which two readings were recorded, each with its device's signature.
fn recorded_evidence(signatures: [Bytes; 2]) -> Evidence {
    let readings = [reading(3), reading(4)];
    let logs = readings.iter().map(|r| log(&recorded(r))).collect();
    let readings = readings.iter().zip(signatures).map(|(r, signature)| submitted(r, signature)).collect();
    evidence(&transaction(CHAIN, recordSignedCall { readings }.abi_encode()), receipt(true, logs))
}

/// Anchored readings with their devices' signatures, one with its key's registration.
pub(super) fn attested_files() -> Vec<(&'static str, ProofFile)> {
    let (secp, by_secp) = secp256k1(&reading(3));
    let (p, by_p) = (p256().1, signed_by_p256(&reading(3)));
    let of = |signer, signature| anchor_evidence().attested(anchor_file(), signer, signature).unwrap();
    let registration = registry(1, p).registration(INDEX, CONTRACT, &reading(3), p).unwrap();
    let registered = anchor_evidence().registered(of(p, by_p.clone()), registration).unwrap();
    vec![
        ("anchor signed by secp256k1", of(secp, by_secp)),
        ("anchor signed by P-256", of(p, by_p)),
        ("anchor signed by P-256, with its registration", registered),
    ]
}

/// Readings recorded by `recordSigned`.
pub(super) fn recorded_files() -> Vec<(&'static str, ProofFile)> {
    let (address, by_address) = secp256k1(&reading(3));
    let evidence = recorded_evidence([by_address, signed_by_p256(&reading(4))]);
    let of = |reading: &Reading, signer| evidence.batch(INDEX, CONTRACT, reading, signer).unwrap();
    vec![
        ("recordSigned by secp256k1", of(&reading(3), Some(address))),
        ("recordSigned by P-256", of(&reading(4), Some(p256().1))),
    ]
}

fn refused(file: &ProofFile) -> Refusal {
    verify(file.to_json().unwrap().as_bytes(), None).unwrap_err()
}

#[test]
fn an_anchored_reading_shows_the_signature_of_its_device() {
    for (signer, signature) in [secp256k1(&reading(3)), (p256().1, signed_by_p256(&reading(3)))] {
        let file = anchor_evidence().attested(anchor_file(), signer, signature).unwrap();
        let verified = verify(file.to_json().unwrap().as_bytes(), None).unwrap();
        assert_eq!(verified.signer, Some(signer));
        assert!(!verified.trusts.iter().any(|t| t.contains("the gateway, that the device sent")));
        assert!(verified.trusts.iter().any(|t| t.contains(&signer.to_string())));
    }
}

#[test]
fn a_signature_of_another_reading_key_or_form_is_refused() {
    let (signer, signature) = secp256k1(&reading(3));
    let foreign = secp256k1(&reading(4)).1;
    let (_, stranger) = p256();
    for (signer, signature) in [(signer, foreign), (stranger, signature.clone())] {
        let built = anchor_evidence().attested(anchor_file(), signer, signature);
        assert!(
            matches!(built, Err(BuildError::Unverifiable(Refusal::Differs("the device's signature")))),
            "{built:?}"
        );
    }
    // The longer spelling of the same signature: a value has one.
    let raw = alloy::primitives::Signature::from_erc2098(&signature).as_bytes();
    let ProofFile::Anchor(mut file) = anchor_evidence().attested(anchor_file(), signer, signature).unwrap() else {
        panic!("an anchor")
    };
    file.signed.as_mut().unwrap().signature = raw.to_vec().into();
    assert_eq!(refused(&ProofFile::Anchor(file)), Refusal::Differs("the device's signature"));
}

#[test]
fn a_recorded_signed_reading_shows_its_signer_of_either_kind() {
    let (address, by_address) = secp256k1(&reading(3));
    let evidence = recorded_evidence([by_address, signed_by_p256(&reading(4))]);
    for (reading, signer) in [(reading(3), address), (reading(4), p256().1)] {
        let file = evidence.batch(INDEX, CONTRACT, &reading, Some(signer)).unwrap();
        let verified = verify(file.to_json().unwrap().as_bytes(), None).unwrap();
        assert_eq!((verified.signer, verified.chain_id, verified.reading), (Some(signer), Some(CHAIN), Some(reading)));
    }
    assert!(evidence.batch(INDEX, CONTRACT, &reading(3), None).is_ok());
    assert_eq!(evidence.batch(INDEX, CONTRACT, &reading(3), Some(p256().1)), Err(BuildError::Signer(p256().1)));
}

#[test]
fn a_stated_signer_or_signature_of_another_reading_is_refused() {
    let (address, by_address) = secp256k1(&reading(3));
    let evidence = recorded_evidence([by_address, signed_by_p256(&reading(4))]);
    let ProofFile::Batch(file) = evidence.batch(INDEX, CONTRACT, &reading(3), Some(address)).unwrap() else {
        panic!("a batch")
    };
    let mut other = file.clone();
    other.signed.as_mut().unwrap().signer = p256().1;
    assert_eq!(refused(&ProofFile::Batch(other)), Refusal::Differs("the run's signer"));
    let mut other = file;
    other.signed.as_mut().unwrap().signature = signed_by_p256(&reading(4));
    assert_eq!(refused(&ProofFile::Batch(other)), Refusal::Differs("the run's signature"));
}

/// A block in which another device's key was registered, and then this one's.
fn registry(epoch: u32, key: PublicKey) -> Evidence {
    let registered = |device, key: PublicKey| Registered {
        device,
        epoch,
        kind: if key.address().is_some() { 1 } else { 2 },
        key: key.to_bytes().into(),
    };
    let device = reading(3).device.hash();
    let logs = vec![log(&registered([7; 32].into(), secp256k1(&reading(1)).0)), log(&registered(device, key))];
    evidence(&transaction(CHAIN, vec![5; 40]), receipt(true, logs))
}

#[test]
fn a_registration_in_a_second_block_shows_whose_key_signed() {
    let (signer, signature) = (p256().1, signed_by_p256(&reading(3)));
    let proof = anchor_evidence().attested(anchor_file(), signer, signature).unwrap();
    let registration = registry(1, signer).registration(INDEX, CONTRACT, &reading(3), signer).unwrap();
    let hash = registration.block.hash;
    let file = anchor_evidence().registered(proof, registration).unwrap();
    let text = file.to_json().unwrap();
    let verified = verify(text.as_bytes(), None).unwrap();
    assert_eq!(verified.registration.map(|(_, hash)| hash), Some(hash));
    assert!(verified.trusts.iter().any(|t| t.contains("no trusted hash of it was given")), "{:?}", verified.trusts);
    let given =
        |registration| verify_against(text.as_bytes(), Trusted { block: None, registration: Some(registration) });
    let trusts = given(hash).unwrap().trusts;
    assert!(trusts.iter().any(|t| t.contains("gave the hash of the registration")), "{trusts:?}");
    assert!(!trusts.iter().any(|t| t.contains("is the device's registered key")), "{trusts:?}");
    assert!(matches!(given([1; 32].into()), Err(Refusal::OtherBlock { .. })));
}

#[test]
fn a_registration_of_another_key_epoch_or_nobodys_is_refused() {
    let (signer, signature) = secp256k1(&reading(3));
    let proof = anchor_evidence().attested(anchor_file(), signer, signature).unwrap();
    let stranger = p256().1;
    let of = |epoch, key| {
        let known = Reading { epoch, ..reading(3) };
        registry(epoch, key).registration(INDEX, CONTRACT, &known, key).unwrap()
    };
    for (registration, what) in [(of(1, stranger), "the registered key"), (of(2, signer), "the registered epoch")] {
        let built = anchor_evidence().registered(proof.clone(), registration);
        assert_eq!(built, Err(BuildError::Unverifiable(Refusal::Differs(what))));
    }
    let unsigned = anchor_evidence().registered(anchor_file(), of(1, signer));
    assert_eq!(unsigned, Err(BuildError::Unverifiable(Refusal::NoSigner)));
    let asked = Trusted { block: None, registration: Some([1; 32].into()) };
    assert_eq!(verify_against(proof.to_json().unwrap().as_bytes(), asked), Err(Refusal::NoRegistration));
    let built = registry(1, stranger).registration(INDEX, CONTRACT, &reading(3), signer);
    assert_eq!(built, Err(BuildError::NoEvent("Registered")));
}
