//! Runs that custodial keys sign, and readings whose devices signed them.

use std::hint::black_box;

use alloy::{
    primitives::{B256, keccak256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use k256::ecdsa::{RecoveryId, Signature as K256Signature, SigningKey as K256Key, VerifyingKey as K256Public};
use p256::ecdsa::{
    Signature as P256Signature, SigningKey as P256Key,
    signature::hazmat::{PrehashSigner, PrehashVerifier},
};
use windlass_reading::{PublicKey, Reading, Run, pack_run};

use crate::{
    domain,
    pair::{Named, Pairs},
    reading,
};

/// Readings of a run.
const RUN: u64 = 10;
const CHECKED: &str = "digest of the reading and check of its signature";

pub(crate) fn run(pairs: &mut Pairs) {
    signing(pairs);
    checking_secp256k1(pairs);
    checking_p256(pairs);
}

fn signing(pairs: &mut Pairs) {
    let named = Named {
        name: "run signed by a custodial key",
        reference: "bare k256 signature",
        conditions: "a run of 10 readings packed, its digest, its signature",
    };
    let (domain, readings) = (domain(), (1..=RUN).map(reading).collect::<Vec<_>>());
    let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
    let key = K256Key::from_slice(&[7; 32]).unwrap();
    let digest = keccak256("a run");
    pairs.measure(
        named,
        |bencher| {
            bencher.iter(|| {
                let run = packed(black_box(&readings));
                signer.sign_hash_sync(&domain.run(&run)).unwrap()
            });
        },
        |bencher| bencher.iter(|| key.sign_prehash_recoverable(black_box(digest.as_slice())).unwrap()),
    );
}

/// As the batcher makes it.
fn packed(readings: &[Reading]) -> Run {
    Run {
        device: readings[0].device.hash(),
        epoch: readings[0].epoch,
        firstSequence: readings[0].sequence,
        count: u32::try_from(readings.len()).unwrap(),
        readingsHash: keccak256(pack_run(readings)),
    }
}

fn checking_secp256k1(pairs: &mut Pairs) {
    let named =
        Named { name: "signed reading checked, secp256k1", reference: "bare k256 recovery", conditions: CHECKED };
    let (domain, reading) = (domain(), reading(1));
    let digest = domain.reading(&reading);
    let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
    let pair = signer.sign_hash_sync(&digest).unwrap().as_erc2098();
    let public = PublicKey::Secp256k1(signer.address());
    let key = K256Key::from_slice(&[7; 32]).unwrap();
    let (signature, id): (K256Signature, RecoveryId) = key.sign_prehash_recoverable(digest.as_slice()).unwrap();
    pairs.measure(
        named,
        |bencher| bencher.iter(|| public.verified(domain.reading(black_box(&reading)), &pair).unwrap()),
        |bencher| {
            bencher.iter(|| K256Public::recover_from_prehash(black_box(digest.as_slice()), &signature, id).unwrap());
        },
    );
}

fn checking_p256(pairs: &mut Pairs) {
    let named =
        Named { name: "signed reading checked, P-256", reference: "bare p256 verification", conditions: CHECKED };
    let (domain, reading) = (domain(), reading(1));
    let digest = domain.reading(&reading);
    let key = P256Key::from_slice(&[9; 32]).unwrap();
    let signature: P256Signature = key.sign_prehash(digest.as_slice()).unwrap();
    let pair = signature.to_bytes();
    let verifying = key.verifying_key();
    let public = PublicKey::from_bytes(&verifying.to_encoded_point(false).as_bytes()[1..]).unwrap();
    pairs.measure(
        named,
        |bencher| bencher.iter(|| public.verified(domain.reading(black_box(&reading)), &pair).unwrap()),
        |bencher| bencher.iter(|| verifying.verify_prehash(black_box(digest.as_slice()), &signature).unwrap()),
    );
}
